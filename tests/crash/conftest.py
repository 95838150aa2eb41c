"""Fixtures of the worker's own tests: shops with one thing to do, and a Stripe that has its other half."""

from tests.worker.conftest import shop
from tests.worker.test_emails import till as email_till
from tests.worker.test_fraud import till as fraud_till
from tests.worker.test_overage import stage as overage_stage
from tests.worker.test_payment_links import till as link_till
from tests.worker.test_recharge import till as recharge_till

__all__ = ["email_till", "fraud_till", "link_till", "overage_stage", "recharge_till", "shop"]

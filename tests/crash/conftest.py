"""Fixtures of the worker's own tests: shops with one thing to do, and a Stripe that has its other half.

Every test kills at each of its points in one run. With CRASH_TIMES=n (`make chaos`) it is also run once for each point
and each of its first n occurrences, which is then the only kill.
"""

import os

import pytest

from tests.crash import page
from tests.worker.conftest import shop
from tests.worker.test_emails import till as email_till
from tests.worker.test_fraud import till as fraud_till
from tests.worker.test_overage import stage as overage_stage
from tests.worker.test_payment_links import till as link_till
from tests.worker.test_recharge import till as recharge_till

__all__ = ["email_till", "fraud_till", "link_till", "overage_stage", "recharge_till", "shop"]

TIMES = int(os.environ.get("CRASH_TIMES", "0"))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """All kills in one run, or one point and which occurrence of it."""
    if "alone" not in metafunc.fixturenames:
        return
    listed = page.points_of(metafunc.function.section) if TIMES else []
    points = sorted({f"{when} {point.partition(' ')[2]}" for point in listed for when in ("before", "after")})
    cases = [None, *((point, time) for point in points for time in range(1, TIMES + 1))]
    metafunc.parametrize("alone", cases, ids=lambda case: "all" if case is None else f"{case[0]} {case[1]}")

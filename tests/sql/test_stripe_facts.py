"""What the rows say about Stripe's objects, for the comparison with Stripe."""

from typing import Any

import psycopg
import pytest

from tests.sql.calls import fetch_one, sync_payment, sync_refund

Connection = psycopg.Connection[Any]


@pytest.mark.parametrize("livemode", [True, False])
@pytest.mark.parametrize("missing", ["stripe_charge_id", "stripe_payment_intent_id", None])
def test_refund_has_the_mode_of_its_payment(
    app: Connection, worker: Connection, admin: Connection, livemode: bool, missing: str | None
) -> None:
    """A database that went from test to live must not miss test refunds at the live account."""
    admin.execute("update billing.settings set livemode = %s", [livemode])
    sync_payment(worker, livemode=livemode)
    sync_refund(worker, **({} if missing is None else {missing: None}))
    found = fetch_one(app, "select livemode from billing.stripe_facts where object = 'refund'")
    assert found == {"livemode": livemode}

"""`till backfill` brings history without credits for the past; reconcile then says that nothing is missing."""

from datetime import UTC, datetime, timedelta

import pytest

from cli.output import CliError
from cli.reconcile import stripe_lists
from cli.reconcile.stripe_lists import StripeLists
from tests.reconcile.conftest import CUSTOMERS, Place
from tests.support import account_of, create_user

KINDS_BROUGHT = {
    "customers": "customer", "subscriptions": "subscription", "invoices": "invoice", "refunds": "refund",
    "credit_notes": "credit_note",
}  # fmt: skip


def brought(place: Place) -> dict[str, int]:
    return {
        table: place.value(f"select count(*) from billing.{table}") for table in [*KINDS_BROUGHT, "payments"]
    }


def test_a_business_with_history_is_brought_and_nothing_is_missing(place: Place) -> None:
    missing = place.findings()
    assert {each["mend"] for each in missing} == {"till backfill"}
    assert f"{CUSTOMERS} customers are not in the database" in str(missing)

    status, told, _ = place.till("backfill")
    assert status == 0
    assert told["lists"][2] == {"list": "customer", "objects": CUSTOMERS, "events_queued": CUSTOMERS}
    place.work()
    place.assert_sound()
    assert place.findings() == []
    store = place.local.world.store
    for table, kind in KINDS_BROUGHT.items():
        assert brought(place)[table] == len(list(store.all(kind)))
    # Nothing of the past gives or takes credits, and nobody is notified of it.
    assert place.value("select count(*) from billing.credit_grants") == 0
    assert place.value("select count(*) from billing.pack_purchases") == 0
    assert place.value("select count(*) from billing.notifications") == 0


def test_history_is_never_applied_by_reconcile(place: Place) -> None:
    """An event of an invoice of last year would grant its credits."""
    status, told, _ = place.till("reconcile", "--apply")
    assert (status, told["events"]) == (1, [])
    assert place.value("select count(*) from billing.stripe_events") == 0


def test_the_rest_of_the_paid_period_is_granted_if_wanted(place: Place) -> None:
    place.till("backfill", "--grant-current-period")
    place.work()
    place.assert_sound()
    assert place.findings() == []
    since: datetime = place.value("select credits_since from billing.settings")
    store, ended = place.local.world.store, 0
    for subscription in store.all("subscription"):
        paid = place.query(
            "select schedules.period_start, schedules.period_end, plans.monthly_credits, schedules.anchor "
            "from billing.credit_schedules as schedules join billing.plans using (stripe_price_id) "
            "where stripe_subscription_id = %s and period_end > %s and not is_change", subscription["id"], since,
        )  # fmt: skip
        granted = place.value(
            "select coalesce(sum(amount), 0) from billing.credit_grants where reference_id = %s",
            subscription["id"],
        )
        if subscription["status"] in ("canceled", "trialing"):
            ended += 1
            assert granted == 0
        elif len(paid) == 1 and not place.changed(subscription):
            [(start, end, credits, _)] = paid
            month_start, month_end = place.month_of(start, end, since)
            assert granted == int(credits * (month_end - since) / (month_end - month_start))
    assert ended
    # Every month of a year is granted in its turn.
    assert place.value("select count(*) from billing.credit_schedules where next_slot_at > now()") > 0


def test_the_rest_of_the_paid_period_can_be_granted_later(place: Place) -> None:
    place.till("backfill")
    place.work()
    assert place.value("select count(*) from billing.credit_grants") == 0
    place.till("backfill", "--grant-current-period")
    place.query("select * from billing.allocate_due_credits()")
    place.assert_sound()
    assert place.value("select count(*) from billing.credit_grants") > 10


def test_what_arrived_before_keeps_its_credits(place: Place) -> None:
    """Events arrived for an hour before the history was brought: they gave credits, and go on to."""
    business = place.business
    place.query("update billing.settings set stripe_account_id = %s returning 1", business.world.account_id)
    for kind in ("product", "price"):
        for made in business.world.store.all(kind):
            place.receive(f"{kind}.updated", made)
    new = business.post(
        "subscriptions", customer=business.customers[3], items=[{"price": business.prices["pro"]}]
    )
    place.receive("customer.subscription.created", new)
    place.receive("invoice.paid", business.of("invoice", business.customers[3])[-1])
    place.work()
    before = place.query("select idempotency_key, amount from billing.credit_grants order by 1")
    assert sum(amount for _, amount in before) == 450
    place.till("backfill")
    place.work()
    place.assert_sound()
    assert place.findings() == []
    first = place.value("select date_trunc('second', min(received_at)) from billing.stripe_events")
    assert place.value("select credits_since from billing.settings") == first
    # But the initial credits: this account has had the plan before, so it had them then.
    assert place.query("select idempotency_key, amount from billing.credit_grants order by 1") == before


def test_what_waits_for_a_link_keeps_its_credits(place: Place) -> None:
    """Paid a moment before the first event arrived; its own event waits when the history is brought."""
    business = place.business
    customer = business.post(
        "customers", email="new@example.com", payment_method="pm_card_visa",
        invoice_settings={"default_payment_method": "pm_card_visa"},
    )["id"]  # fmt: skip
    made = business.post("subscriptions", customer=customer, items=[{"price": business.prices["pro"]}])
    for kind in ("product", "price"):
        for each in business.world.store.all(kind):
            place.receive(f"{kind}.updated", each)
    place.receive("customer.subscription.created", made)
    place.receive("invoice.paid", business.of("invoice", customer)[-1])
    place.work()
    place.damage("update billing.stripe_events set received_at = received_at + interval '30 seconds'")
    assert place.value("select count(*) from billing.stripe_events where status = 'parked'") > 0
    place.query("update billing.settings set stripe_account_id = %s returning 1", business.world.account_id)
    assert place.till("backfill")[0] == 0
    place.work()
    place.do(f"till customers link {customer} ACCOUNT --yes")
    place.work()
    place.assert_sound()
    account = place.value("select account_id from billing.customers where stripe_customer_id = %s", customer)
    assert place.value("select balance from billing.credit_balances where account_id = %s", account) == 450


def test_a_second_run_goes_on_where_it_was_stopped(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stripe_lists, "PAGE", 10)
    pages: list[str] = []
    received = StripeLists.pages

    def stopped(self: StripeLists, path: str, *arguments: object) -> object:
        for page in received(self, path, *arguments):  # type: ignore[arg-type]
            if path == "/v1/invoices" and pages.count(path) == 3:
                raise KeyboardInterrupt
            pages.append(path)
            yield page

    monkeypatch.setattr(StripeLists, "pages", stopped)
    status, _, _ = place.till("backfill")
    assert status == 130
    read = dict(place.query("select list, objects from billing.backfilled_lists"))
    assert (read["customer"], read["invoice"]) == (CUSTOMERS, 30)

    monkeypatch.setattr(StripeLists, "pages", received)
    status, told, _ = place.till("backfill")
    lists = {each["list"]: each["objects"] for each in told["lists"]}
    assert status == 0
    assert (lists["customer"], lists["invoice"]) == (
        0,
        len(list(place.local.world.store.all("invoice"))) - 30,
    )
    place.work()
    assert place.findings() == []

    status, told, _ = place.till("backfill", "--restart")
    assert {each["events_queued"] for each in told["lists"]} == {0}  # each is a duplicate


def test_it_goes_on_after_the_last_object_was_deleted(place: Place) -> None:
    place.query(
        "select billing.advance_backfill('customer', %s, 1, false)",
        place.business.post("customers", email="a@b.c")["id"],
    )
    place.business.call(
        "DELETE", f"customers/{place.value('select last_stripe_id from billing.backfilled_lists')}"
    )
    status, told, _ = place.till("backfill")
    assert status == 0
    assert told["lists"][2]["objects"] == CUSTOMERS


def test_customers_without_an_account_wait_for_their_link(place: Place) -> None:
    """History needs none; what gives credits is applied when the customer is linked."""
    customer = place.business.post(
        "customers", email="late@example.com", payment_method="pm_card_visa",
        invoice_settings={"default_payment_method": "pm_card_visa"},
    )["id"]  # fmt: skip
    place.business.post("subscriptions", customer=customer, items=[{"price": place.business.prices["basic"]}])
    past = int((datetime.now(UTC) - timedelta(days=3)).timestamp())
    for invoice in place.business.of("invoice", customer):
        invoice["status_transitions"] = invoice["status_transitions"] | {"paid_at": past}
    place.till("backfill")
    place.work()
    [finding] = place.findings()
    assert finding["check"] == "unlinked_customer"
    with place.database.connect() as conn:
        account = account_of(conn, create_user(place.database))
    place.mend(finding["mend"].replace("ACCOUNT", str(account)))
    place.assert_sound()
    assert place.findings() == []
    assert place.value("select count(*) from billing.credit_schedules where account_id = %s", account) == 1


def test_limits_are_waited_for(place: Place) -> None:
    slept: list[float] = []
    place.local.control("faults", {"api": {"429": 0.5}, "seed": 3})
    lists = StripeLists(place.client, None, slept.append)
    assert sum(len(page.bodies) for page in lists.pages("/v1/customers", {})) == CUSTOMERS
    assert lists.read("/v1/customers", "cus_none") is None
    place.local.control("faults", {"api": {"429": 1}})
    with pytest.raises(CliError, match="8 tries"):
        list(lists.pages("/v1/customers", {}))
    assert slept[-7:] == [1, 2, 4, 8, 16, 30, 30]


def test_it_reads_no_faster_than_stripe_allows(place: Place) -> None:
    slept: list[float] = []
    lists = StripeLists(place.client, 10, slept.append)
    for _ in range(3):
        list(lists.pages("/v1/products", {}))
    assert len(slept) == 2
    assert all(0 < seconds <= 0.2 for seconds in slept)

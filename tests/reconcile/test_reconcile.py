"""`till reconcile`: what it says, what it leaves alone, and the events that it makes."""

import json
import sys

import psycopg
import pytest

from cli.main import main
from tests.reconcile.conftest import Place


@pytest.fixture
def place(place_with_history: Place) -> Place:
    return place_with_history


def said(place: Place, *options: str) -> str:
    """What a person reads."""
    place.monkeypatch.setattr(sys, "argv", ["till", "reconcile", *options])
    with pytest.raises(SystemExit):
        main()
    assert place.capsys is not None
    return place.capsys.readouterr().out


def refunded(place: Place) -> str:
    intent = place.business.of("payment_intent", place.business.customers[0])[0]["id"]
    return place.business.post("refunds", payment_intent=intent, amount=100)["id"]


def test_it_says_plainly_that_nothing_is_missing(place: Place) -> None:
    assert said(place).startswith("nothing is missing")


def test_it_says_what_differs_and_what_mends_it(place: Place) -> None:
    refund = refunded(place)
    shown = said(place)
    assert f"refund {refund} is not in the database" in shown
    assert "till reconcile --apply" in shown
    assert "differences" in shown


def test_without_apply_nothing_changes(place: Place) -> None:
    refunded(place)
    before = place.query("select count(*), max(updated_at) from billing.customers")
    events = place.value("select count(*) from billing.stripe_events")
    place.findings()
    assert place.query("select count(*), max(updated_at) from billing.customers") == before
    assert place.value("select count(*) from billing.stripe_events") == events


def test_an_event_of_its_own_shows_where_it_came_from(place: Place) -> None:
    refund = refunded(place)
    _, told, _ = place.till("reconcile", "--apply")
    [event] = [each["stripe_event_id"] for each in told["events"] if each["stripe_id"] == refund]
    assert event.startswith(f"till_reconcile_{refund}_")
    status, shown, _ = place.till("events", "list", "--limit", 20)
    assert status == 0
    assert event in [each["stripe_event_id"] for each in shown]
    body = json.loads(
        place.value("select payload from billing.stripe_events where stripe_event_id = %s", event)
    )
    assert (body["id"], body["type"], body["data"]["object"]["id"]) == (event, "refund.updated", refund)


def test_what_is_queued_is_not_queued_again(place: Place) -> None:
    """And what is applied is not applied twice: a second run finds nothing."""
    refunded(place)
    _, first, _ = place.till("reconcile", "--apply")
    assert first["events"]
    status, second, _ = place.till("reconcile", "--apply")
    assert (status, second["events"]) == (1, [])
    assert {each["mend"][:31] for each in second["findings"]} == {"till worker run, which applies "}
    place.work()
    assert place.findings() == []


def test_a_waiting_event_is_named_with_what_it_waits_for(place: Place) -> None:
    customer = place.business.post("customers", email="new@example.com", payment_method="pm_card_visa")["id"]
    place.business.post(
        "subscriptions", customer=customer, items=[{"price": place.business.prices["basic"]}],
        default_payment_method=place.business.of("payment_method", customer)[0]["id"],
    )  # fmt: skip
    place.till("reconcile", "--apply")
    place.work()
    invoice = place.business.of("invoice", customer)[0]["id"]
    [finding] = [each for each in place.findings() if invoice in each["what"]]
    assert finding["mend"].startswith(
        f"till customers link {customer} ACCOUNT --yes, for which till_reconcile_{invoice}"
    )


def test_a_dead_event_is_named_with_its_retry(place: Place) -> None:
    refund = refunded(place)
    place.till("reconcile", "--apply")
    place.damage(
        "update billing.stripe_events set status = 'dead', last_error = 'broken', settled_at = now() "
        "where stripe_event_id ^@ %s", f"till_reconcile_{refund}"
    )  # fmt: skip
    place.query("select pgmq.purge_queue('stripe_events')")
    [finding] = [each for each in place.findings() if refund in each["what"]]
    assert finding["mend"].startswith(f"till events retry till_reconcile_{refund}")


def test_the_same_damage_is_mended_again(place: Place) -> None:
    """Its event has the id of the one before, which was applied."""
    subscription = place.subscription(0)["id"]
    for _ in range(2):
        place.damage("delete from billing.subscription_items where stripe_subscription_id = %s", subscription)
        assert len(place.findings()) == 1
        place.mend("till reconcile --apply")
        assert place.findings() == []


def test_only_recent_objects_are_compared_if_wanted(place: Place) -> None:
    old = place.business.of("invoice", place.business.customers[0])[0]["id"]
    place.damage("update billing.invoices set total = 1 where stripe_invoice_id = %s", old)
    place.damage("update billing.invoice_lines set amount = 1 where stripe_invoice_id = %s", old)
    refund = refunded(place)
    assert old in str(place.findings())
    recent = str([each for each in place.findings("--days", 1) if "discrepancy" not in each["check"]])
    assert refund in recent
    assert old not in recent


def test_a_row_that_is_newer_than_stripes_answer_is_no_difference(place: Place) -> None:
    """An event was applied between Stripe's answer and the look at the row."""
    subscription = place.subscription(0)["id"]
    place.damage(
        "update billing.subscriptions set cancel_at_period_end = true, as_of = now() + interval '20 seconds' "
        "where stripe_subscription_id = %s", subscription
    )  # fmt: skip
    assert place.findings() == []


def test_a_row_that_was_written_meanwhile_is_not_withdrawn(place: Place) -> None:
    refund = place.newest("refund")
    place.query("select billing.distrust_stripe_row('refund', %s, now() - interval '1 hour')", refund)
    assert place.value("select count(*) from billing.refunds where stripe_refund_id = %s", refund) == 1
    place.query("select billing.distrust_stripe_row('refund', %s, clock_timestamp())", refund)
    assert place.value("select count(*) from billing.refunds where stripe_refund_id = %s", refund) == 0


def test_a_dispute_that_goes_on_freezes_until_its_event_is_applied(place: Place) -> None:
    """Its evidence was submitted, and that event never arrived: no credits come back meanwhile."""
    charge = place.business.of("charge", place.business.customers[0])[-1]["id"]
    place.business.control("charges/{identifier}/dispute", charge)
    place.till("reconcile", "--apply")
    place.work()
    held = place.value("select held from billing.credit_balances where account_id = %s", place.account(0))
    assert held > 0
    dispute = place.newest("dispute")
    place.client.v1.disputes.update(dispute, {"evidence": {"product_description": "Credits"}, "submit": True})
    place.till("reconcile", "--apply")
    assert place.query("select status from billing.disputes") == [("needs_response",)]
    place.work()
    assert place.query("select status from billing.disputes") == [("under_review",)]
    assert held == place.value(
        "select held from billing.credit_balances where account_id = %s", place.account(0)
    )
    told = place.query("select dedupe_key from billing.notifications where kind ^@ 'dispute_'")
    assert told == [(f"dispute_opened:{dispute}:needs_response",)]
    assert place.findings() == []


def test_a_pack_whose_session_was_opened_before_credits_counted_is_missed_if_it_was_paid_since(
    place: Place,
) -> None:
    """The webhooks of both were lost; only one of them gives credits."""
    first = int(place.value("select extract(epoch from credits_since) from billing.settings"))
    store = place.local.world.store
    paid_since, paid_before = (place.business.buy_pack(place.business.customers[number]) for number in (0, 2))
    for session in (paid_since, paid_before):
        store.get("checkout.session", session)["created"] = first - 3600
    intent = store.get("checkout.session", paid_before)["payment_intent"]
    for charge in store.all("charge"):
        if charge["payment_intent"] == intent:
            charge["created"] = first - 1800
    missing = [each["what"] for each in place.findings() if each["check"] == "session_missing"]
    assert missing == [f"checkout session {paid_since} is not in the database"]
    place.mend("till reconcile --apply")
    sessions = "select stripe_checkout_session_id from billing.pack_purchases"
    assert place.query(sessions) == [(paid_since,)]
    assert place.findings() == []


def test_own_events_are_no_sign_of_stripe(place: Place) -> None:
    """No key can read them, and they don't break a silence."""
    assert place.value("select count(*) from billing.stripe_events where stripe_event_id ^@ 'till_'") > 0
    assert place.value("select witness_event_id from billing.stripe_account()") is None
    place.query(
        "insert into billing.stripe_events (stripe_event_id, type, livemode, payload, created_at, received_at) "
        "values ('evt_old', 'customer.updated', false, '{}', now(), now() - interval '10 days') returning 1"
    )
    assert place.value("select witness_event_id from billing.stripe_account()") == "evt_old"
    place.query("select billing._notify_of_silence()")
    assert place.value("select count(*) from billing.notifications where kind = 'silence'") == 1


def test_an_event_of_stripe_is_not_received_as_an_own_one(place: Place) -> None:
    with place.database.connect() as conn, pytest.raises(psycopg.Error) as refused:
        conn.execute('select billing.receive_own_events(\'[{"id": "evt_1"}]\')')
    assert refused.value.sqlstate == "TB081"


def test_recalculating_a_sound_account_changes_nothing(place: Place) -> None:
    tables = ("credit_entries", "credit_grants", "credit_schedules", "pack_purchases", "credit_revocations")
    state = " union all ".join(f"select to_jsonb(t) from billing.{table} as t" for table in tables)
    before = place.query(state)
    for number in range(10):
        status, told, _ = place.till("credits", "recalculate", place.account(number), "--yes")
        assert (status, told["balance_before"]) == (0, told["balance"])
    assert sorted(map(str, place.query(state))) == sorted(map(str, before))


def test_what_only_a_backup_can_mend_is_left_and_said(place: Place) -> None:
    account = place.account(0)
    place.query("select billing.grant_credits(%s, 70, 'by the app')", account)
    place.damage("delete from billing.credit_grants where idempotency_key = 'by the app'")
    before = place.query("select * from billing.credit_balances where account_id = %s", account)
    status, _, error = place.till("credits", "recalculate", account, "--yes")
    assert status == 1
    assert "TB082" in error
    assert "backup" in error
    assert place.query("select * from billing.credit_balances where account_id = %s", account) == before


def test_a_key_of_another_account_is_refused(place: Place) -> None:
    place.query("update billing.settings set stripe_account_id = 'acct_other' returning 1")
    for command in ("reconcile", "backfill"):
        status, _, error = place.till(command)
        assert status == 1
        assert "acct_other" in error

"""Every object and event body the emulator shows, judged by stripe-python's own annotations."""

import copy
import json
from typing import Any

import stripe

from stripe_local import api_spec
from stripe_local.generate import collect_operations
from tests.stripe_local.conformance import problems
from tests.stripe_local.conftest import Local
from tests.stripe_local.story import tell

EVENTS_OF_THE_STORY = {
    "billing_portal.configuration.created",
    "charge.captured",
    "charge.dispute.closed",
    "charge.dispute.created",
    "charge.failed",
    "charge.pending",
    "charge.refunded",
    "charge.succeeded",
    "charge.updated",
    "checkout.session.async_payment_succeeded",
    "checkout.session.completed",
    "checkout.session.expired",
    "coupon.created",
    "credit_note.created",
    "credit_note.voided",
    "customer.created",
    "customer.deleted",
    "customer.discount.created",
    "customer.subscription.created",
    "customer.subscription.deleted",
    "customer.subscription.paused",
    "customer.tax_id.created",
    "customer.subscription.resumed",
    "customer.subscription.trial_will_end",
    "customer.subscription.updated",
    "customer.updated",
    "invoice.created",
    "invoice.finalized",
    "invoice.marked_uncollectible",
    "invoice.paid",
    "invoice.payment_failed",
    "invoice.payment_succeeded",
    "invoice.updated",
    "invoice.voided",
    "invoice_payment.paid",
    "invoiceitem.created",
    "payment_intent.canceled",
    "payment_intent.created",
    "payment_intent.payment_failed",
    "payment_intent.processing",
    "payment_intent.requires_action",
    "payment_intent.succeeded",
    "payment_link.created",
    "payment_method.attached",
    "plan.created",
    "price.created",
    "product.created",
    "promotion_code.created",
    "radar.early_fraud_warning.created",
    "refund.created",
    "refund.failed",
    "refund.updated",
    "review.closed",
    "review.opened",
    "setup_intent.succeeded",
    "subscription_schedule.canceled",
    "subscription_schedule.created",
    "subscription_schedule.released",
    "subscription_schedule.updated",
    "tax_rate.created",
    "tax_rate.updated",
    "test_helpers.test_clock.ready",
}


def _listed(local: Local) -> list[dict[str, Any]]:
    """Everything the API lists, page by page."""
    found: list[dict[str, Any]] = []
    for kind in (
        "balance_transactions",
        "billing_portal/configurations",
        "charges",
        "checkout/sessions",
        "coupons",
        "credit_notes",
        "customers",
        "disputes",
        "events",
        "invoice_payments",
        "invoiceitems",
        "invoices",
        "payment_intents",
        "payment_links",
        "payment_methods",
        "plans",
        "prices",
        "products",
        "promotion_codes",
        "radar/early_fraud_warnings",
        "refunds",
        "reviews",
        "setup_intents",
        "subscription_schedules",
        "subscriptions",
        "tax_rates",
        "test_helpers/test_clocks",
        "webhook_endpoints",
    ):
        after = ""
        while True:
            status = "&status=all" if kind == "subscriptions" else ""
            page = local.call("GET", f"/v1/{kind}", f"limit=100{after}{status}").json()
            found += page["data"]
            if not page["has_more"]:
                break
            after = f"&starting_after={page['data'][-1]['id']}"
    return found


def test_every_object_and_event_conforms_to_the_sdks_annotations(local: Local) -> None:
    tell(local)
    wrong: dict[str, str] = {}
    for shown in _listed(local):
        for problem in problems(shown):
            wrong.setdefault(problem, shown["id"])
    for event in local.world.events.bodies():
        for problem in problems(event["data"]["object"]):
            wrong.setdefault(f"{event['type']}: {problem}", event["id"])
    assert wrong == {}, json.dumps(wrong, indent=1)
    assert set(local.event_types()) >= EVENTS_OF_THE_STORY


def test_the_judge_sees_a_missing_an_unknown_a_wrong_and_an_unasked_key(local: Local) -> None:
    customer = local.customer()
    sound = local.call("GET", f"/v1/customers/{customer.id}").json()
    assert problems(sound) == []
    for change, complaint in (
        (lambda o: o.pop("created"), "customer.created: missing"),
        (lambda o: o.pop("phone"), "customer.phone: left out, where Stripe sends null"),
        (lambda o: o.update(balance="12"), "customer.balance: '12' is no int"),
        (lambda o: o.update(livemode=None), "customer.livemode: None is no bool"),
        (lambda o: o.update(plan="pro"), "customer.plan: unknown key"),
        (
            lambda o: o["invoice_settings"].update(colour="red"),
            "customer.invoice_settings.colour: unknown key",
        ),
    ):
        broken = copy.deepcopy(sound)
        change(broken)
        assert problems(broken) == [complaint]
    invoice = {"object": "list", "data": [], "has_more": False, "url": ""}
    broken = copy.deepcopy(sound) | {"subscriptions": invoice}
    assert problems(broken) == ["customer.subscriptions: there without having been asked for"]


def test_what_the_emulator_knows_of_the_api_is_what_the_pinned_sdk_says() -> None:
    operations, others, params = collect_operations()
    assert stripe.api_version == api_spec.VERSION
    assert operations == api_spec.OPERATIONS
    assert others.keys() == api_spec.OTHER_OPERATIONS
    assert json.loads(json.dumps(params)) == api_spec.PARAMS

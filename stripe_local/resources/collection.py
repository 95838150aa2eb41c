"""An open invoice → a payment, its retries, and what follows when it is paid."""

from stripe_local.errors import StripeError, invalid
from stripe_local.resources import lifecycle, payments
from stripe_local.resources.customers import default_payment_method
from stripe_local.state import State
from stripe_local.store import Object
from stripe_local.values import inside
from stripe_local.world import World


def default_payment(world: World, invoice: Object) -> Object:
    """The payment intent of the invoice and the link between the two."""
    intent = payments.new_intent(
        world,
        {
            "amount": invoice["amount_due"],
            "currency": invoice["currency"],
            "customer": invoice["customer"],
            "description": "Subscription creation"
            if invoice.get("billing_reason") == "subscription_create"
            else f"Payment for invoice {invoice['number']}",
            "setup_future_usage": "off_session" if invoice.get("parent") else None,
            "_invoice": invoice["id"],
        },
    )
    link = world.store.add(
        "invoice_payment",
        {
            "amount_requested": invoice["amount_due"],
            "created": world.now(invoice.get("test_clock")),
            "currency": invoice["currency"],
            "invoice": invoice["id"],
            "is_default": True,
            "payment": {"payment_intent": intent["id"], "type": "payment_intent"},
            "status": "open",
            "status_transitions": {},
        },
    )
    invoice["_payments"].append(link["id"])
    return intent


def intent_of(state: State, invoice: Object) -> Object | None:
    """The payment intent the invoice waits for."""
    for link_id in reversed(invoice["_payments"]):
        link = state.store.get("invoice_payment", link_id)
        if link["status"] in ("open", "paid"):
            return state.store.find("payment_intent", link["payment"].get("payment_intent"))
    return None


def is_processing(state: State, invoice: Object) -> bool:
    """Whether a bank has yet to answer to its payment."""
    return (intent_of(state, invoice) or {}).get("status") == "processing"


def advance(world: World, invoice: Object) -> None:
    """What Stripe does by itself with an invoice that is open: collect or send it."""
    if invoice["status"] != "open":
        return
    if invoice["collection_method"] == "send_invoice":
        world.emit("invoice.sent", invoice)
    else:
        collect(world, invoice)


def method_for(world: World, invoice: Object) -> Object | None:
    """Invoice, subscription, customer: the first that names a payment method."""
    subscription = lifecycle.subscription_of(world, invoice) or {}
    for holder in (invoice, subscription):
        found = world.store.find("payment_method", holder.get("default_payment_method"))
        if found is not None:
            return found
    customer = world.store.find("customer", invoice["customer"])
    return default_payment_method(world, customer) if customer else None


def collect(world: World, invoice: Object) -> StripeError | None:
    """Try an off-session payment; a failure is reported in events and retried later."""
    method = method_for(world, invoice)
    error = no_method(invoice) if method is None else attempt(world, invoice, method, off_session=True)
    if method is None:
        failed(world, invoice)
    if invoice["status"] == "open" and not is_processing(world, invoice):
        _retry_later(world, invoice)
    return error


def no_method(invoice: Object) -> StripeError:
    return invalid(
        "There is no `default_payment_method` set on this Customer or Invoice. Please set either a default source or "
        "a default payment method.",
        code="invoice_no_payment_method_types" if invoice.get("_no_types") else None,
    )


def attempt(
    world: World, invoice: Object, method: Object, *, off_session: bool, authenticated: bool = False
) -> StripeError | None:
    """One payment with this method, and its consequences for invoice and subscription."""
    intent = intent_of(world, invoice) or default_payment(world, invoice)
    error = payments.confirm(world, intent, method, off_session=off_session, authenticated=authenticated)
    settle(world, intent)
    return error


def settle(world: World, intent: Object) -> None:
    """Update an invoice after its payment succeeded or failed."""
    invoice = world.store.find("invoice", intent.get("_invoice"))
    if invoice is None or invoice["status"] != "open":
        payments.afterwards(world, intent)
        return
    if intent["status"] == "succeeded":
        mark_paid(world, invoice, intent)
        payments.afterwards(world, intent)
    elif intent["status"] == "requires_action":
        invoice["attempted"] = True
        world.emit("invoice.payment_action_required", invoice)
        if invoice.get("billing_reason") != "subscription_create":
            lifecycle.payment_failed(world, invoice)
    elif intent["status"] == "processing":
        lifecycle.payment_processing(world, invoice)
    elif intent["status"] == "requires_payment_method":
        action = inside(intent, "last_payment_error").get("code") == "authentication_required"
        failed(world, invoice, needs_action=action)
        if intent.get("_was_processing"):
            _retry_later(world, invoice)


def failed(world: World, invoice: Object, *, needs_action: bool = False) -> None:
    """`invoice.payment_failed`, and the subscription is past due."""
    with world.updating(invoice, "invoice.updated"):
        invoice["attempted"] = True
        invoice["attempt_count"] += 1
    world.emit("invoice.payment_failed", invoice)
    if needs_action:
        world.emit("invoice.payment_action_required", invoice)
    lifecycle.payment_failed(world, invoice)


def _retry_later(world: World, invoice: Object) -> None:
    """Dunning: the next attempt by the account's schedule, then what its settings say."""
    subscription = lifecycle.subscription_of(world, invoice) or {}
    if not invoice.get("auto_advance") or subscription.get("status") == "incomplete":
        return
    days = world.settings.retry_days
    retried: int = invoice.get("_retries", 0)
    if retried >= len(days):
        invoice.pop("next_payment_attempt", None)
        invoice["auto_advance"] = False
        world.emit("invoice.updated", invoice, {"auto_advance": True})
        lifecycle.retries_exhausted(world, invoice)
        return
    at = world.now(invoice.get("test_clock")) + int(days[retried] * 86_400)
    with world.updating(invoice, "invoice.updated"):
        invoice["next_payment_attempt"] = at
    invoice["_retries"] = retried + 1

    def act() -> None:
        if invoice["status"] == "open" and invoice.get("next_payment_attempt") == at:
            collect(world, invoice)

    world.schedule(invoice.get("test_clock"), at, act)


def mark_paid(
    world: World, invoice: Object, intent: Object | None = None, *, out_of_band: bool = False
) -> None:
    """open → paid. Out of band there was no payment, so no `invoice.payment_succeeded` either."""
    now = world.now(invoice.get("test_clock"))
    amount: int = 0 if out_of_band else invoice["amount_due"]
    for link_id in invoice["_payments"]:
        link = world.store.get("invoice_payment", link_id)
        if link["status"] == "open" and intent is not None:
            link |= {"status": "paid", "amount_paid": amount, "status_transitions": {"paid_at": now}}
            world.emit("invoice_payment.paid", link)
        elif link["status"] == "open":
            link |= {"status": "canceled", "status_transitions": {"canceled_at": now}}
            waiting = world.store.find("payment_intent", link["payment"].get("payment_intent"))
            if waiting is not None and waiting["status"] not in ("succeeded", "canceled"):
                waiting |= {
                    "status": "canceled",
                    "canceled_at": world.wall_time(),
                    "cancellation_reason": "void_invoice",
                }
                world.emit("payment_intent.canceled", waiting)
    with world.updating(invoice, "invoice.updated"):
        invoice.pop("next_payment_attempt", None)
        if intent is not None:
            invoice["attempt_count"] += 1
        invoice |= {
            "status": "paid",
            "attempted": True,
            "auto_advance": False,
            "amount_paid": amount,
            "amount_remaining": 0,
            "status_transitions": {**invoice["status_transitions"], "paid_at": now},
            "_paid_out_of_band": out_of_band,
        }
    world.emit("invoice.paid", invoice)
    if not out_of_band:
        world.emit("invoice.payment_succeeded", invoice)
    lifecycle.invoice_was_paid(world, invoice)

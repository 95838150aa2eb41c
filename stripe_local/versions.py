"""An object of the current API version → the same object as an older version shows it."""

from collections.abc import Callable
from typing import Any

from stripe_local.errors import StripeError
from stripe_local.render import render
from stripe_local.state import State
from stripe_local.store import Object
from stripe_local.values import inside, is_array, is_hash

BASIL = "2025-03-31"
FLEXIBLE_BILLING = "2025-06-30"
CLOVER = "2025-09-30"
DAHLIA = "2026-03-25"
CREDITED_ITEMS = "2026-05-27"
REFUND_CUSTOMER = "2026-07-29"
ENDIVE = "2026-09-30"

UI_MODES = {"hosted_page": "hosted", "embedded_page": "embedded", "elements": "custom"}
Change = Callable[[State, Object], None]


def event_in_version(state: State, event: Object, version: str) -> Object:
    """A whole event body, in the shape of `version`, which it then names."""
    if version[:10] >= event.get("api_version", "")[:10]:
        return event
    data = event["data"]
    rendered = in_version(state, data["object"], version)
    older: Object = {"object": rendered}
    if "previous_attributes" in data:
        older["previous_attributes"] = _previous(data["previous_attributes"], rendered, version)
    return event | {"api_version": version, "data": older}


def _previous(previous: Object, rendered: Object, version: str) -> Object:
    changed = dict(previous)
    items = changed.get("items")
    if version[:10] < BASIL and is_hash(items) and items.get("data"):
        first: Object = items["data"][0]
        for key in ("current_period_start", "current_period_end"):
            if key in first and first[key] != rendered.get(key):
                changed[key] = first[key]
    return changed


def in_version(state: State, rendered: Any, version: str) -> Any:
    """The value with every API object in it, however deep, in the older shape. The value itself stays as it is."""
    if is_array(rendered):
        elements: list[Any] = rendered
        return [in_version(state, element, version) for element in elements]
    if not is_hash(rendered):
        return rendered
    table: Object = rendered
    older = {key: in_version(state, element, version) for key, element in table.items()}
    for (kind, since), change in CHANGES.items():
        if kind == older.get("object") and version[:10] < since:
            change(state, older)
    return older


def _endive_subscription(_: State, subscription: Object) -> None:
    subscription.pop("status_details", None)


def _endive_invoice_item(state: State, item: Object) -> None:
    """Classic billing mode did not report a proration."""
    details: Object = inside(item, "parent", "subscription_details")
    subscription = state.store.find("subscription", details.get("subscription")) or {}
    if inside(subscription, "billing_mode").get("type") == "classic":
        item["proration_details"] = None


def _dahlia_invoice_item(_: State, item: Object) -> None:
    if item.get("proration_details"):
        item["proration_details"].pop("credited_items", None)


def _basil_invoice_item(_: State, item: Object) -> None:
    item.pop("proration_details", None)


def _clover_session(_: State, session: Object) -> None:
    session["ui_mode"] = UI_MODES.get(session["ui_mode"], session["ui_mode"])


def _early_refund(_: State, refund: Object) -> None:
    refund.pop("customer", None)
    refund.pop("payment_method", None)


def _basil_discount(state: State, discount: Object) -> None:
    source: Object = discount.pop("source", None) or {}
    discount["coupon"] = _coupon(state, source.get("coupon"))


def _basil_promotion_code(state: State, code: Object) -> None:
    promotion: Object = code.pop("promotion", None) or {}
    code["coupon"] = _coupon(state, promotion.get("coupon"))


def _coupon(state: State, coupon: Any) -> Any:
    found = state.store.find("coupon", coupon) if isinstance(coupon, str) else None
    return coupon if found is None else render(state, found)


def _early_basil_subscription(_: State, subscription: Object) -> None:
    subscription.pop("billing_mode", None)
    subscription.pop("billing_schedules", None)


def _acacia_subscription(state: State, subscription: Object) -> None:
    items: list[Object] = subscription["items"]["data"]
    if items:
        subscription["current_period_start"] = min(item["current_period_start"] for item in items)
        subscription["current_period_end"] = min(item["current_period_end"] for item in items)
    for item in items:
        item.pop("current_period_start", None)
        item.pop("current_period_end", None)
    subscription["discount"] = _first_discount(state, subscription)
    subscription["plan"] = items[0].get("plan") if len(items) == 1 else None
    subscription["quantity"] = items[0].get("quantity") if len(items) == 1 else None


def _first_discount(state: State, holder: Object) -> Any:
    for discount in holder.get("discounts") or ():
        found = state.store.find("discount", discount) if isinstance(discount, str) else discount
        if found is not None:
            shown = render(state, found)
            _basil_discount(state, shown)
            return shown
    return None


def _acacia_invoice(state: State, invoice: Object) -> None:
    parent: Object = invoice.pop("parent", None) or {}
    details: Object = inside(parent, "subscription_details")
    stored = state.store.find("invoice", invoice["id"]) or {}
    payment = next((p for p in state.store.all("invoice_payment") if p["invoice"] == invoice["id"]), None)
    intent = state.store.find("payment_intent", (payment or {}).get("payment", {}).get("payment_intent"))
    invoice |= {
        "subscription": details.get("subscription"),
        "subscription_details": {"metadata": details.get("metadata")} if details else None,
        "payment_intent": intent["id"] if intent else None,
        "charge": intent.get("latest_charge") if intent else None,
        "paid": invoice["status"] == "paid",
        "paid_out_of_band": bool(stored.get("_paid_out_of_band")),
        "quote": None,
        "tax": sum(tax["amount"] for tax in invoice["total_taxes"]) if invoice["total_taxes"] else None,
        "total_tax_amounts": _tax_amounts(invoice["total_taxes"]),
        "application_fee_amount": None,
        "transfer_data": None,
        "discount": _first_discount(state, invoice),
    }
    for key in ("total_taxes", "payments", "confirmation_secret", "amount_overpaid"):
        invoice.pop(key, None)


def _acacia_line(state: State, line: Object) -> None:
    parent: Object = line.pop("parent", None) or {}
    item = inside(parent, "subscription_item_details")
    manual = inside(parent, "invoice_item_details")
    pricing: Object = line.pop("pricing", None) or {}
    price = state.store.find("price", inside(pricing, "price_details").get("price"))
    shown = render(state, price) if price else None
    line |= {
        "type": "subscription" if item and not item.get("invoice_item") else "invoiceitem",
        "proration": bool((item or manual).get("proration")),
        "proration_details": (item or manual).get("proration_details"),
        "subscription": (item or manual).get("subscription"),
        "price": shown,
        "plan": plan_of(shown) if shown and shown.get("recurring") else None,
        "unit_amount_excluding_tax": pricing.get("unit_amount_decimal"),
        "amount_excluding_tax": line["amount"],
        "tax_amounts": _tax_amounts(line.get("taxes")),
        "tax_rates": [],
    }
    if item:
        line["subscription_item"] = item.get("subscription_item")
    invoice_item = (item or manual).get("invoice_item")
    if invoice_item:
        line["invoice_item"] = invoice_item
    line.pop("taxes", None)


def _tax_amounts(taxes: Any) -> list[Object]:
    """What basil calls `taxes`."""
    return [
        {
            "amount": tax["amount"],
            "inclusive": tax["tax_behavior"] == "inclusive",
            "tax_rate": inside(tax, "tax_rate_details").get("tax_rate"),
            "taxability_reason": tax["taxability_reason"],
            "taxable_amount": tax["taxable_amount"],
        }
        for tax in taxes or ()
    ]


def _acacia_credit_note(_: State, note: Object) -> None:
    """One refund at most, and no word of its amount."""
    refunds: list[Object] = note.pop("refunds")
    note["refund"] = refunds[0]["refund"] if refunds else None
    note["tax_amounts"] = _tax_amounts(note.pop("total_taxes", None))
    for key in ("pre_payment_amount", "post_payment_amount"):
        note.pop(key, None)


def _acacia_credit_note_line(_: State, line: Object) -> None:
    line["tax_amounts"] = _tax_amounts(line.pop("taxes", None))


def _acacia_charge(state: State, charge: Object) -> None:
    charge["invoice"] = _invoice_of(state, charge.get("payment_intent"))


def _acacia_intent(state: State, intent: Object) -> None:
    intent["invoice"] = _invoice_of(state, intent["id"])


def _invoice_of(state: State, intent: Any) -> str | None:
    identifier = intent["id"] if is_hash(intent) else intent
    stored = state.store.find("payment_intent", identifier) if isinstance(identifier, str) else None
    return stored.get("_invoice") if stored else None


# (kind, first version that has today's shape) → how the one before it differs; newest first.
CHANGES: dict[tuple[str, str], Change] = {
    ("subscription", ENDIVE): _endive_subscription,
    ("invoiceitem", ENDIVE): _endive_invoice_item,
    ("invoiceitem", CREDITED_ITEMS): _dahlia_invoice_item,
    ("invoiceitem", CLOVER): _basil_invoice_item,
    ("refund", REFUND_CUSTOMER): _early_refund,
    ("checkout.session", DAHLIA): _clover_session,
    ("discount", CLOVER): _basil_discount,
    ("promotion_code", CLOVER): _basil_promotion_code,
    ("subscription", FLEXIBLE_BILLING): _early_basil_subscription,
    ("subscription", BASIL): _acacia_subscription,
    ("invoice", BASIL): _acacia_invoice,
    ("line_item", BASIL): _acacia_line,
    ("credit_note", BASIL): _acacia_credit_note,
    ("credit_note_line_item", BASIL): _acacia_credit_note_line,
    ("charge", BASIL): _acacia_charge,
    ("payment_intent", BASIL): _acacia_intent,
}

# Kinds that do not exist in an older version: it gets no events about them.
BORN = {"invoice_payment": BASIL}


def plan_of(price: Object) -> Object:
    """The legacy mirror of a recurring price."""
    recurring: Object = price["recurring"]
    return {
        "id": price["id"],
        "object": "plan",
        "active": price["active"],
        "amount": price.get("unit_amount"),
        "amount_decimal": price.get("unit_amount_decimal"),
        "billing_scheme": price["billing_scheme"],
        "created": price["created"],
        "currency": price["currency"],
        "interval": recurring["interval"],
        "interval_count": recurring["interval_count"],
        "livemode": False,
        "metadata": price["metadata"],
        "nickname": price.get("nickname"),
        "product": price["product"],
        "trial_period_days": recurring.get("trial_period_days"),
        "usage_type": recurring["usage_type"],
    }


def _count_iterations(state: State, phase: Any) -> None:
    """A phase said how often its first price is billed; now it says how long it lasts."""
    if not is_hash(phase) or "iterations" not in phase:
        return
    items: Object = inside(phase, "items")
    first = inside(items, min(items, default=""))
    price = state.store.find("price", first.get("price") or first.get("plan")) or {}
    recurring: Object = price.get("recurring") or {"interval": "month", "interval_count": 1}
    times = phase.pop("iterations")
    count = recurring["interval_count"] * int(times) if str(times).isdecimal() else times
    phase["duration"] = {"interval": recurring["interval"], "interval_count": str(count)}


_WITHOUT_TYPES = ("POST /v1/checkout/sessions", "POST /v1/payment_intents", "POST /v1/setup_intents")


def older_parameters(state: State, operation: str, version: str | None, given: Object) -> frozenset[str]:
    """Rewrite parameters of older versions to today's; the names of those that are simply taken as well.

    A request that names no version comes from an account of unknown age: it may use the form of any version.
    """
    dated = "" if version is None else version[:10]
    also: set[str] = set()
    if "payment_method_types" in given and operation.startswith(_WITHOUT_TYPES):
        if dated >= ENDIVE:
            raise StripeError(
                400,
                "`payment_method_types` is no longer supported: manage payment methods in the Dashboard, or use "
                "`allowed_payment_method_types` or `excluded_payment_method_types`.",
                param="payment_method_types",
                code="payment_method_types_no_longer_supported",
            )
        also.add("payment_method_types")
    if dated < BASIL and operation.startswith("POST /v1/subscriptions"):
        for name in ("coupon", "promotion_code"):
            if name in given:
                value = given.pop(name)
                given.setdefault("discounts", [{name: value}] if value else "")
    if dated < BASIL and operation in ("POST /v1/customers", "POST /v1/customers/{}"):
        also |= {"coupon"} & given.keys()
    if dated < CLOVER and operation == "POST /v1/promotion_codes" and "coupon" in given:
        given.setdefault("promotion", {"type": "coupon", "coupon": given.pop("coupon")})
    if dated < CLOVER and operation.startswith("POST /v1/subscription_schedules"):
        for phase in inside(given, "phases").values():
            _count_iterations(state, phase)
    if (
        dated < ENDIVE
        and operation == "POST /v1/subscriptions/{}"
        and given.get("billing_cycle_anchor") == "now"
    ):
        given["billing_cycle_anchor"] = {"type": "now"}
    if dated < DAHLIA and operation == "POST /v1/checkout/sessions":
        older = {old: new for new, old in UI_MODES.items()}
        if given.get("ui_mode") in older:
            given["ui_mode"] = older[given["ui_mode"]]
    return frozenset(also)

"""Parameters that would have no effect are refused by name: those that are not refused are used."""

from collections.abc import Iterator
from random import Random
from typing import Any
from urllib.parse import urlencode

import pytest

from stripe_local import api
from stripe_local.acted_on import ACTED_ON, ALWAYS, Names
from stripe_local.api_spec import OPERATIONS, PARAMS
from stripe_local.resources import checkout_completion
from stripe_local.routes import HANDLERS, Handler
from tests.stripe_local.conftest import Local
from tests.stripe_local.form_maker import FormMaker
from tests.stripe_local.test_fuzz import _call, _shop

TRIES = 600
_PRICE = "product=prod_x&currency=usd&"
_OFFER = "features[subscription_update][products][0]"
_UPDATES = (
    "features[subscription_update][enabled]=true&features[subscription_update][schedule_at_period_end][conditions][0][type]=shortening_interval&"
    f"{_OFFER}[product]=prod_x&{_OFFER}[prices][0]={{price}}&{_OFFER}[adjustable_quantity][enabled]=true&{_OFFER}"
    f"[adjustable_quantity][minimum]=1&{_OFFER}[adjustable_quantity][maximum]=2"
)
_BILLING = "&".join(
    f"billing_details{name}=x"
    for name in ("[address][city]", "[address][country]", "[address][line1]", "[address][line2]",
                 "[address][postal_code]", "[address][state]", "[email]", "[name]", "[phone]", "[tax_id]")
)  # fmt: skip
_SHIPPING = "&".join(
    f"shipping{name}=x"
    for name in ("[address][country]", "[address][line1]", "[address][postal_code]", "[carrier]", "[name]",
                 "[tracking_number]")
)  # fmt: skip
_CART = "mode=payment&line_items[0][price]={pack}&line_items[0][quantity]=1"
_SOLD = "line_items[0][quantity]=1&line_items[0][price_data][currency]=usd&line_items[0][price_data]"
_CHECKOUT = [
    f"mode=payment&success_url=http://x&discounts[0][promotion_code]={{promotion_code}}&{_SOLD}[tax_behavior]=exclusive"
    "&line_items[0][price_data][unit_amount_decimal]=900&"
    + "&".join(
        f"line_items[0][price_data][product_data]{name}=x"
        for name in ("[name]", "[description]", "[metadata][a]", "[tax_code]", "[unit_label]")
    ),
    f"{_CART}&success_url=http://x&payment_intent_data[capture_method]=manual&payment_intent_data[description]=x"
    "&payment_intent_data[metadata][a]=b&payment_intent_data[receipt_email]=a@example.com&payment_intent_data"
    "[setup_future_usage]=off_session&payment_intent_data[statement_descriptor]=x&"
    + "&".join(
        f"payment_intent_data[shipping]{name}=x"
        for name in ("[address][city]", "[address][country]", "[address][line1]", "[address][line2]",
                     "[address][postal_code]", "[address][state]", "[carrier]", "[name]", "[phone]",
                     "[tracking_number]")
    ),
    f"{_CART}&ui_mode=embedded_page&return_url=http://x",
    f"{_CART}&success_url=http://x&invoice_creation[enabled]=true&invoice_creation[invoice_data][description]=x"
    "&invoice_creation[invoice_data][footer]=x&invoice_creation[invoice_data][metadata][a]=b",
    "mode=setup&success_url=http://x&setup_intent_data[description]=x&setup_intent_data[metadata][a]=b",
    f"mode=subscription&success_url=http://x&{_SOLD}[recurring][interval]=month&{_SOLD}[recurring][interval_count]=2"
    "&line_items[0][price_data][unit_amount]=900&line_items[0][price_data][product_data][name]=x"
    "&subscription_data[default_tax_rates][0]={tax_rate}&subscription_data[metadata][a]=b&subscription_data"
    "[billing_mode][type]=flexible&subscription_data[billing_mode][flexible][proration_discounts]=itemized"
    "&subscription_data[trial_period_days]=5&subscription_data[trial_settings][end_behavior]"
    "[missing_payment_method]=pause",
    "mode=subscription&success_url=http://x&line_items[0][price]={price}&line_items[0][quantity]=1&subscription_data"
    "[trial_end]=4000000000&subscription_data[description]=x",
    "mode=subscription&success_url=http://x&line_items[0][price]={price}&line_items[0][quantity]=1&"
    + "&".join(
        f"subscription_data[billing_cycle_anchor_config][{name}]=5"
        for name in ("day_of_month", "hour", "minute", "month", "second")
    ),
]  # fmt: skip
# What a path names.
CALLED = {
    "/v1/billing_portal/configurations/{}": "configuration",
    "/v1/invoices/{}/pay": "draft",
    "/v1/payment_intents/{}": "payment_intent",
    "/v1/payment_links/{}": "payment_link",
    "/v1/payment_intents/{}/confirm": "payment_intent",
    "/v1/prices/{}": "price",
    "/v1/subscriptions/{}": "unscheduled",
    "/v1/subscriptions/{}/pause": "unscheduled",
    "/v1/subscriptions/{}/resume": "paused",
}
# Requests that dice would throw too seldom; names in braces stand for ids.
RARE = {
    "POST /v1/billing_portal/configurations": [_UPDATES],
    "POST /v1/billing_portal/configurations/{}": [_UPDATES],
    "POST /v1/billing_portal/sessions": [
        "customer={customer}&configuration={configuration}&flow_data[type]=subscription_update_confirm&flow_data"
        "[subscription_update_confirm][subscription]={scheduled}&flow_data[subscription_update_confirm][items][0]"
        "[id]={scheduled_item}&flow_data[subscription_update_confirm][items][0][price]={price}&flow_data"
        "[subscription_update_confirm][items][0][quantity]=1",
        *(
            "customer={customer}&configuration={configuration}&flow_data[type]="
            f"{flow}&flow_data[{flow}][subscription]={{scheduled}}"
            for flow in ("subscription_update", "subscription_pause")
        ),
    ],
    "POST /v1/checkout/sessions": _CHECKOUT,
    "POST /v1/coupons": ["percent_off=10&duration=repeating&duration_in_months=3"],
    "POST /v1/credit_notes": [
        "invoice={invoice}&amount=1&refunds[0][refund]={refund}&refunds[0][amount_refunded]=1&refunds[0][type]=refund",
    ],
    "POST /v1/invoices/create_preview": [
        "subscription={unscheduled}&subscription_details[billing_cycle_anchor][type]=now&subscription_details[items][0]"
        "[id]={item}&subscription_details[proration_date]=1800000000",
        "customer={customer}&subscription={unscheduled}&discounts[0][coupon]=c",
    ],
    "POST /v1/invoices/{}/pay": ["payment_method=pm_card_visa&off_session=false"],
    "POST /v1/payment_intents": [
        "amount=900&currency=usd&confirm=true&payment_method=pm_card_authenticationRequired"
        "&error_on_requires_action=true&mandate_data[customer_acceptance][type]=offline",
    ],
    "POST /v1/payment_intents/{}/confirm": [
        f"{_SHIPPING}&payment_method=pm_card_authenticationRequired&error_on_requires_action=true"
        "&mandate_data[customer_acceptance][type]=offline"
    ],
    "POST /v1/subscriptions": [
        "customer={customer}&items[0][price]={price}&default_payment_method=pm_card_visa&off_session=true",
    ],
    "POST /v1/subscriptions/{}": ["cancel_at=4000000000", "cancel_at_period_end=true"],
    "POST /v1/subscriptions/{}/pause": ["type=subscription"],
    "POST /v1/subscriptions/{}/resume": ["billing_cycle_anchor[type]=now"],
    "POST /v1/subscription_schedules": [
        "customer={customer}&start_date=now&phases[0][items][0][price]={price}&billing_mode[type]=flexible&billing_mode"
        "[flexible][proration_discounts]=itemized&end_behavior=cancel&default_settings[billing_cycle_anchor]=automatic"
        "&default_settings[collection_method]=charge_automatically"
        "&default_settings[default_payment_method]=pm_card_visa",
    ],
    "POST /v1/payment_intents/{}": [_SHIPPING],
    "POST /v1/payment_links/{}": [
        "payment_intent_data[description]=x&payment_intent_data[metadata][a]=b&payment_intent_data"
        "[setup_future_usage]=off_session&payment_intent_data[statement_descriptor]=x&payment_intent_data"
        "[statement_descriptor_suffix]=x&payment_intent_data[transfer_group]=x",
    ],
    "POST /v1/payment_methods": [
        f"type=card&card[token]=tok_visa&{_BILLING}",
        "type=card&card[number]=4242424242424242&card[cvc]=123&card[exp_month]=1&card[exp_year]=2040&metadata[a]=b"
        "&allow_redisplay=always",
        "type=sepa_debit&billing_details[name]=x&billing_details[email]=a@example.com&sepa_debit[iban]="
        "DE89370400440532013000",
        "type=us_bank_account&billing_details[name]=x&us_bank_account[account_holder_type]=company&us_bank_account"
        "[account_number]=000123456789&us_bank_account[account_type]=savings&us_bank_account[routing_number]=110000000",
    ],
    "POST /v1/prices/{}": ["lookup_key=taken&transfer_lookup_key=true"],
    "POST /v1/prices": [
        _PRICE
        + "custom_unit_amount[enabled]=true&custom_unit_amount[maximum]=9&custom_unit_amount[minimum]=1"
        "&custom_unit_amount[preset]=5",
        _PRICE + "billing_scheme=tiered&tiers_mode=volume&recurring[interval]=month&tiers[0][up_to]=inf"
        "&tiers[0][unit_amount]=1&tiers[0][flat_amount]=1",
        _PRICE + "billing_scheme=tiered&tiers_mode=volume&recurring[interval]=month&tiers[0][up_to]=inf"
        "&tiers[0][unit_amount_decimal]=1&tiers[0][flat_amount_decimal]=1",
        _PRICE + "unit_amount=1&metadata[a]=b&lookup_key=held",
        _PRICE + "unit_amount=1&lookup_key=held&transfer_lookup_key=true",
        _PRICE + "unit_amount=1&transform_quantity[divide_by]=2&transform_quantity[round]=up",
    ],
}


class Watched(dict[str, Any]):
    """Parameters that note which of them are looked at, at once or when what keeps them is used or shown.

    A copy made with `|` goes on to note; one made with `{**given}` does not.
    """

    def __init__(self, given: dict[str, Any], seen: set[str], prefix: str = "") -> None:
        self._names = {key: f"{prefix}[{key}]" if prefix else key for key in given}
        self._seen = seen
        super().__init__({key: watched(value, seen, self._names[key]) for key, value in given.items()})

    def _note(self, key: str) -> None:
        if key in self._names:
            self._seen.add(self._names[key])

    def __getitem__(self, key: str) -> Any:
        self._note(key)
        return super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:
        self._note(key)
        return super().get(key, default)

    def pop(self, key: str, *default: Any) -> Any:
        self._note(key)
        return super().pop(key, *default)

    def items(self) -> Any:
        return [(key, self[key]) for key in self]

    def values(self) -> Any:
        return [self[key] for key in self]

    def __or__(self, other: Any) -> Any:
        return self._copy(super().__or__(other), [key for key in self if key not in other])

    def __ror__(self, other: Any) -> Any:
        return self._copy(super().__ror__(other), [*self])

    def _copy(self, merged: dict[str, Any], own: list[str]) -> "Watched":
        copy = Watched({}, self._seen)
        copy.update(merged)
        copy._names = {key: self._names[key] for key in own if key in self._names}
        return copy


def noting(handler: Handler, seen: set[str]) -> Handler:
    """The handler, given parameters that note what it looks at."""
    return lambda world, params, *ids: handler(world, Watched(params, seen), *ids)


def watched(value: Any, seen: set[str], name: str) -> Any:
    if isinstance(value, dict):
        return Watched(value, seen, name)
    return [watched(element, seen, name) for element in value] if isinstance(value, list) else value


def leaves(kind: Any, acted_on: Names | None, name: str) -> Iterator[str]:
    """What a parameter of this kind is declared to act on, in its smallest parts."""
    if not isinstance(kind, dict):
        yield name
        return
    (form, inner), *_ = kind.items()
    if form == "object":
        for key, (below, *_) in PARAMS[inner].items():
            if acted_on is None or key in acted_on:
                yield from leaves(below, acted_on and acted_on[key], f"{name}[{key}]" if name else key)
    elif form == "either":
        found = {leaf for choice in inner for leaf in leaves(choice, acted_on, name)}
        yield from sorted(found - {name} or found)
    elif form == "array":
        yield from leaves(inner, acted_on, name)
    else:
        yield name


def declared(operation: str) -> set[str]:
    tree = {"object": OPERATIONS[operation]}
    return {leaf for leaf in leaves(tree, ACTED_ON[operation], "") if leaf not in ALWAYS}


def test_each_parameter_of_stripes_is_acted_on_or_refused_by_its_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: dict[str, set[str]] = {operation: set() for operation in ACTED_ON}
    for operation in ACTED_ON:
        monkeypatch.setitem(HANDLERS, operation, noting(HANDLERS[operation], seen[operation]))
    idle: dict[str, set[str]] = {}  # every operation → its parameters that are accepted and not acted on
    for operation in ACTED_ON:
        wanted = declared(operation)
        shop, random = _used_shop(), Random(operation)
        for tried in range(TRIES):
            if wanted <= seen[operation]:
                break
            if tried % 25 == 24:
                shop = _used_shop()
            maker = FormMaker(shop.world, random)
            if tried < len(RARE.get(operation, ())):
                path, form = operation.removeprefix("POST "), RARE[operation][tried]
                _call(
                    shop,
                    "POST",
                    path.replace("{}", "{" + CALLED.get(path, "") + "}").format_map(names(shop)),
                    form.format_map(names(shop)),
                )
            else:
                maker.forced = random.choice(sorted(wanted - seen[operation]))
                method, path, drawn = maker.request(operation)
                _call(shop, method, path, urlencode(drawn, errors="replace"))
            if operation == "POST /v1/checkout/sessions":
                _pay_last(shop)
        if left := wanted - seen[operation]:
            idle[operation] = left
    assert idle == {}


def _used_shop() -> Any:
    """With a refund, a credit note and an invoice that is sent, which lists could find."""
    shop = _shop()
    (customer,) = (stored["id"] for stored in shop.world.store.all("customer"))
    paid = next(stored["id"] for stored in shop.world.store.all("invoice") if stored["amount_paid"])
    payment = f"customer={customer}&amount=900&currency=usd&confirm=true&payment_method=pm_card_visa"
    charge = _call(shop, "POST", "/v1/payment_intents", payment)[1]["latest_charge"]
    item = f"customer={customer}&amount=900&currency=usd"
    draft = f"customer={customer}&pending_invoice_items_behavior=include"
    for path, form in (("/v1/invoiceitems", item), ("/v1/invoices", draft)):
        assert _call(shop, "POST", path, form)[0] == 200
    pack = next(stored["id"] for stored in shop.world.store.all("price") if stored["type"] == "one_time")
    for path, form in (
        ("/v1/payment_intents", f"customer={customer}&amount=900&currency=usd"),
        ("/v1/payment_links", f"line_items[0][quantity]=1&line_items[0][price]={pack}"),
        ("/v1/refunds", f"charge={charge}&amount=1"),
        ("/v1/webhook_endpoints", "url=http://127.0.0.1:9/&enabled_events[0]=*"),
        ("/v1/credit_notes", f"invoice={paid}&amount=1&credit_amount=1"),
        ("/v1/invoices", f"customer={customer}&collection_method=send_invoice&due_date=4000000000"),
    ):
        assert _call(shop, "POST", path, form)[0] == 200, path
    assert _call(shop, "POST", f"/v1/prices/{pack}", "lookup_key=taken")[0] == 200
    assert _call(shop, "POST", "/v1/tax_rates", "display_name=VAT&percentage=10&inclusive=false")[0] == 200
    scheduled = next(iter(shop.world.store.all("subscription")))["id"]
    assert _call(shop, "POST", "/v1/subscription_schedules", f"from_subscription={scheduled}")[0] == 200
    price = next(iter(shop.world.store.all("price")))["id"]
    order = f"customer={customer}&items[0][price]={price}&default_payment_method=pm_card_visa"
    paused = _call(shop, "POST", "/v1/subscriptions", order)[1]["id"]
    assert _call(shop, "POST", f"/v1/subscriptions/{paused}/pause", "")[0] == 200
    ended = next(iter(shop.world.store.all("subscription_schedule")))
    ended |= dict.fromkeys(("canceled_at", "completed_at", "released_at"), 1)
    return shop


def names(shop: Any) -> dict[str, str]:
    """Something of each kind that is there, by the name that a form has for it."""
    store = shop.world.store
    kinds = ("customer", "price", "promotion_code", "refund", "tax_rate")
    found = {kind: next(iter(store.all(kind)))["id"] for kind in kinds}
    found["payment_link"] = next(store.newest_first("payment_link"))["id"]
    scheduled, unscheduled, paused, *_ = (stored["id"] for stored in store.all("subscription"))
    return found | {
        "configuration": next(iter(store.all("billing_portal.configuration")))["id"],
        "draft": next(
            stored["id"] for stored in store.all("invoice") if stored["status"] == "draft" and stored["total"]
        ),
        "item": list(store.all("subscription_item"))[1]["id"],
        "invoice": next(stored["id"] for stored in store.all("invoice") if stored["amount_paid"]),
        "pack": next(stored["id"] for stored in store.all("price") if stored["type"] == "one_time"),
        "paused": paused,
        "payment_intent": next(
            stored["id"]
            for stored in store.newest_first("payment_intent")
            if stored["status"] == "requires_payment_method"
        ),
        "scheduled": scheduled,
        "scheduled_item": next(iter(store.all("subscription_item")))["id"],
        "unscheduled": unscheduled,
    }


def _pay_last(shop: Any) -> None:
    session = next(iter(shop.world.store.newest_first("checkout.session")), None)
    try:
        if session is not None and session["status"] == "open":
            checkout_completion.complete(shop.world, session, {"address": {"country": "DE"}, "name": "Anna"})
    except api.StripeError:
        pass


def test_only_operations_and_parameters_that_stripe_has_are_declared() -> None:
    def unknown(tree: str | None, names: Names, prefix: str) -> Iterator[str]:
        known = PARAMS.get(tree or "", {})
        for key, inner in names.items():
            if key not in known:
                yield f"{prefix} {key}"
            elif inner is not None:
                below = _object_in(known[key][0])
                yield from unknown(below, inner, f"{prefix} {key}")

    assert ACTED_ON.keys() <= HANDLERS.keys()
    problems = [
        p for operation, names in ACTED_ON.items() for p in unknown(OPERATIONS[operation], names, operation)
    ]
    assert problems == []


def _object_in(kind: Any) -> str | None:
    if not isinstance(kind, dict):
        return None
    (form, inner), *_ = kind.items()
    if form == "object":
        return inner
    choices = inner if form == "either" else [inner]
    return next(filter(None, map(_object_in, choices)), None)


@pytest.mark.parametrize(
    ("path", "form", "param"),
    [
        ("customers", "cash_balance[settings][reconciliation_mode]=manual", "cash_balance"),
        ("checkout/sessions", "mode=setup&payment_method_options[card][x]=1", "payment_method_options"),
        ("refunds", "charge=ch_1&reverse_transfer=true", "reverse_transfer"),
        (
            "billing_portal/configurations",
            "features[subscription_pause][enabled]=true&features[subscription_pause][duration][type]=indefinite"
            "&features[subscription_pause][duration][interval_options][0]"
            "[interval]=month",
            "features[subscription_pause][duration][interval_options]",
        ),
    ],
)
def test_refusal_names_the_parameter(local: Local, path: str, form: str, param: str) -> None:
    answer = local.call("POST", f"/v1/{path}", form)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (400, "not_emulated", param)
    assert f"`{param}`" in error["message"]

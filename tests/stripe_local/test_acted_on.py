"""Parameters that would have no effect are refused by name: those that are not refused are used."""

from collections.abc import Iterator
from random import Random
from typing import Any
from urllib.parse import urlencode

import pytest

from stripe_local import api, parameters
from stripe_local.acted_on import ACTED_ON, ALWAYS, Names
from stripe_local.api_spec import OPERATIONS, PARAMS
from stripe_local.resources import checkout_completion
from stripe_local.routes import HANDLERS
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
    for name in ("[address][line1]", "[address][postal_code]", "[carrier]", "[name]", "[tracking_number]")
)
# What a path names.
CALLED = {
    "/v1/billing_portal/configurations/{}": "configuration",
    "/v1/payment_intents/{}": "payment_intent",
    "/v1/payment_links/{}": "payment_link",
    "/v1/subscriptions/{}/resume": "paused",
}
# Requests that dice would throw too seldom; names in braces stand for ids.
RARE = {
    "POST /v1/billing_portal/configurations": [_UPDATES],
    "POST /v1/billing_portal/configurations/{}": [_UPDATES],
    "POST /v1/billing_portal/sessions": [
        "customer={customer}&configuration={configuration}&flow_data[type]=subscription_update_confirm&flow_data"
        "[subscription_update_confirm][subscription]={subscription}&flow_data[subscription_update_confirm][items][0]"
        "[id]={item}&flow_data[subscription_update_confirm][items][0][price]={price}&flow_data"
        "[subscription_update_confirm][items][0][quantity]=1",
        *(
            "customer={customer}&configuration={configuration}&flow_data[type]="
            f"{flow}&flow_data[{flow}][subscription]={{subscription}}"
            for flow in ("subscription_update", "subscription_pause")
        ),
    ],
    "POST /v1/subscriptions/{}/resume": ["billing_cycle_anchor[type]=now"],
    "POST /v1/subscription_schedules": [
        "customer={customer}&start_date=now&phases[0][items][0][price]={price}&billing_mode[type]=flexible&billing_mode"
        "[flexible][proration_discounts]=itemized",
    ],
    "POST /v1/payment_intents/{}": [_SHIPPING],
    "POST /v1/payment_links/{}": [
        "payment_intent_data[description]=x&payment_intent_data[metadata][a]=b&payment_intent_data"
        "[setup_future_usage]=off_session&payment_intent_data[statement_descriptor]=x&payment_intent_data"
        "[statement_descriptor_suffix]=x&payment_intent_data[transfer_group]=x",
    ],
    "POST /v1/payment_methods": [f"type=card&card[token]=tok_visa&{_BILLING}"],
    "POST /v1/prices": [
        _PRICE
        + "custom_unit_amount[enabled]=true&custom_unit_amount[maximum]=9&custom_unit_amount[minimum]=1"
        "&custom_unit_amount[preset]=5",
        _PRICE + "billing_scheme=tiered&tiers_mode=volume&recurring[interval]=month&tiers[0][up_to]=inf"
        "&tiers[0][unit_amount]=1&tiers[0][flat_amount]=1",
        _PRICE + "billing_scheme=tiered&tiers_mode=volume&recurring[interval]=month&tiers[0][up_to]=inf"
        "&tiers[0][unit_amount_decimal]=1&tiers[0][flat_amount_decimal]=1",
        _PRICE + "unit_amount=1&transform_quantity[divide_by]=2&transform_quantity[round]=up",
    ],
}
# Every operation → its parameters that are accepted and not acted on.
IDLE: dict[str, set[str]] = {}


class Watched(dict[str, Any]):
    """Parameters that note which of them are looked at, at once or when what keeps them is used or shown."""

    def __init__(self, given: dict[str, Any], seen: set[str], prefix: str = "") -> None:
        names = {key: f"{prefix}[{key}]" if prefix else key for key in given}
        super().__init__({key: watched(value, seen, names[key]) for key, value in given.items()})
        self._names, self._seen = names, seen

    def __getitem__(self, key: str) -> Any:
        if key in self._names:
            self._seen.add(self._names[key])
        return super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:
        if key in self._names:
            self._seen.add(self._names[key])
        return super().get(key, default)

    def pop(self, key: str, *default: Any) -> Any:
        self.get(key)
        return super().pop(key, *default)

    def __iter__(self) -> Iterator[str]:  # so that `{**given}` asks for each
        return super().__iter__()

    def items(self) -> Any:
        return [(key, self[key]) for key in self]

    def values(self) -> Any:
        return [self[key] for key in self]

    def __or__(self, other: Any) -> Any:
        return dict(self.items()) | other

    def __ror__(self, other: Any) -> Any:
        return other | dict(self.items())


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
    current = ""
    typed = parameters.typed

    def noting(*given: Any) -> Any:
        return Watched(typed(*given), seen.setdefault(current, set()))

    monkeypatch.setattr(api.parameters, "typed", noting)
    shop, random = _used_shop(), Random(1)
    idle: dict[str, set[str]] = {}
    for operation in ACTED_ON:
        wanted = declared(operation)
        for tried in range(TRIES):
            if wanted <= seen[operation]:
                break
            if tried % 25 == 24:
                shop = _used_shop()
            maker, current = FormMaker(shop.world, random), operation
            if tried < len(RARE.get(operation, ())):
                path, form = operation.removeprefix("POST "), RARE[operation][tried]
                _call(
                    shop,
                    "POST",
                    path.replace("{}", "{" + CALLED.get(path, "") + "}").format_map(names(shop)),
                    form.format_map(names(shop)),
                )
                continue
            maker.forced = random.choice(sorted(wanted - seen[operation]))
            method, path, drawn = maker.request(operation)
            _call(shop, method, path, urlencode(drawn, errors="replace"))
            if operation == "POST /v1/checkout/sessions":
                _pay_last(shop)
        if left := wanted - seen[operation]:
            idle[operation] = left
    assert idle == IDLE


def _used_shop() -> Any:
    """With a refund, a credit note and an invoice that is sent, which lists could find."""
    shop = _shop()
    (customer,) = (stored["id"] for stored in shop.world.store.all("customer"))
    paid = next(stored["id"] for stored in shop.world.store.all("invoice") if stored["amount_paid"])
    payment = f"customer={customer}&amount=900&currency=usd&confirm=true&payment_method=pm_card_visa"
    charge = _call(shop, "POST", "/v1/payment_intents", payment)[1]["latest_charge"]
    pack = next(stored["id"] for stored in shop.world.store.all("price") if stored["type"] == "one_time")
    for path, form in (
        ("/v1/payment_intents", f"customer={customer}&amount=900&currency=usd"),
        ("/v1/payment_links", f"line_items[0][quantity]=1&line_items[0][price]={pack}"),
        ("/v1/refunds", f"charge={charge}&amount=1"),
        ("/v1/credit_notes", f"invoice={paid}&amount=1&credit_amount=1"),
        ("/v1/invoices", f"customer={customer}&collection_method=send_invoice&due_date=4000000000"),
    ):
        assert _call(shop, "POST", path, form)[0] == 200, path
    assert _call(shop, "POST", "/v1/tax_rates", "display_name=VAT&percentage=10&inclusive=false")[0] == 200
    running = [stored["id"] for stored in shop.world.store.all("subscription")]
    for subscription in running:
        assert (
            _call(shop, "POST", "/v1/subscription_schedules", f"from_subscription={subscription}")[0] == 200
        )
    ended = next(iter(shop.world.store.all("subscription_schedule")))
    ended |= dict.fromkeys(("canceled_at", "completed_at", "released_at"), 1)
    return shop


def names(shop: Any) -> dict[str, str]:
    """Something of each kind that is there, by the name that a form has for it."""
    kinds = ("customer", "price", "subscription", "payment_intent", "payment_link")
    found = {kind: next(iter(shop.world.store.all(kind)))["id"] for kind in kinds}
    found["configuration"] = next(iter(shop.world.store.all("billing_portal.configuration")))["id"]
    found["payment_link"] = list(shop.world.store.all("payment_link"))[-1]["id"]
    paused = list(shop.world.store.all("subscription"))[-1]
    paused["status"] = "paused"
    found["paused"] = paused["id"]
    return found | {"item": next(iter(shop.world.store.all("subscription_item")))["id"]}


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

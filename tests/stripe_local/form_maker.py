"""A parameter tree and a die → forms that are nearly right: most get past the checks and into the handlers."""

import re
from collections.abc import Iterator
from random import Random
from typing import Any

from stripe_local.acted_on import ACTED_ON, ALWAYS, Names
from stripe_local.api_spec import OPERATIONS, PARAMS
from stripe_local.world import World

ODD = (
    "", "0", "-1", "1", "9" * 30, "now", "true", "é\x00", "a" * 6000, "1.5", "1e9", "NaN", "{}", "[]", "inf",
    "pm_card_visa", "cus_none", "4102444799", "1800000000",
)  # fmt: skip
CARDS = (
    "visa",
    "chargeCustomerFail",
    "authenticationRequired",
    "createDispute",
    "refundFail",
    "visa_chargeDeclined",
)
WHOSE = {
    "customer": "customer", "price": "price", "product": "product", "coupon": "coupon", "subscription": "subscription",
    "invoice": "invoice", "charge": "charge", "payment_intent": "payment_intent", "promotion_code": "promotion_code",
    "test_clock": "test_helpers.test_clock", "invoice_item": "invoiceitem", "plan": "price",
    "from_subscription": "subscription", "configuration": "billing_portal.configuration", "discount": "discount",
}  # fmt: skip
IN_PATH = {
    "billing_portal": "billing_portal.configuration", "charges": "charge", "checkout": "checkout.session",
    "coupons": "coupon",
    "credit_notes": "credit_note", "customers": "customer", "disputes": "dispute",
    "invoice_payments": "invoice_payment",
    "invoiceitems": "invoiceitem", "invoices": "invoice", "payment_intents": "payment_intent",
    "payment_links": "payment_link", "payment_methods": "payment_method", "payment_pages": "checkout.session",
    "plans": "price", "prices": "price", "products": "product", "promotion_codes": "promotion_code",
    "radar": "radar.early_fraud_warning", "refunds": "refund", "reviews": "review", "setup_intents": "setup_intent",
    "balance_transactions": "balance_transaction", "subscription_schedules": "subscription_schedule",
    "tax_rates": "tax_rate", "subscription_items": "subscription_item", "subscriptions": "subscription",
    "test_helpers": "test_helpers.test_clock", "webhook_endpoints": "webhook_endpoint",
}  # fmt: skip


LIKELY = {"amount", "currency", "customer", "items", "line_items", "mode", "price", "source"}


class FormMaker:
    """Draws operations, paths and fields from what the world holds."""

    def __init__(self, world: World, random: Random) -> None:
        self.world, self.random = world, random
        # The name of a field that must be there.
        self.forced = ""

    def request(self, operation: str) -> tuple[str, str, list[tuple[str, str]]]:
        """Method, path, fields."""
        method, path = operation.split(" ")
        kind = IN_PATH.get(path.split("/")[2], "customer")
        while "{}" in path:
            path = path.replace("{}", self._id(kind), 1)
        tree = PARAMS.get(OPERATIONS.get(operation) or "", {})
        return method, path, list(self._fields(tree, ACTED_ON.get(operation, {}), "", 0))

    def _id(self, kind: str) -> str:
        ids = list(self.world.store.tables.get(kind, {}))
        return self.random.choice(ids) if ids and self.random.random() < 0.97 else f"{kind}_none"

    def _fields(
        self, tree: dict[str, list[Any]], acted_on: Names | None, prefix: str, depth: int
    ) -> Iterator[tuple[str, str]]:
        chance = (0.15, 0.35, 0.35, 0.1)[min(depth, 3)] * (0.2 if self.forced else 1)
        for key, (kind, *required) in tree.items():
            # What is refused by its name teaches nothing else.
            is_refused = acted_on is not None and key not in acted_on and key not in ALWAYS
            if is_refused and self.random.random() < 0.99:
                continue
            name = f"{prefix}[{key}]" if prefix else key
            if required or self._is_forced(name) or self.random.random() < (0.8 if key in LIKELY else chance):
                yield from self._emit(kind, None if acted_on is None else acted_on.get(key), name, depth)

    def _is_forced(self, name: str) -> bool:
        without_numbers = re.sub(r"\[\d+\]", "", name)
        return self.forced == without_numbers or self.forced.startswith(without_numbers + "[")

    def _emit(self, kind: Any, acted_on: Names | None, name: str, depth: int) -> Iterator[tuple[str, str]]:
        if not isinstance(kind, dict):
            yield name, self._value(kind, name)
            return
        (form, inner), *_ = kind.items()
        if form == "either":
            yield from self._emit(self.random.choice(inner), acted_on, name, depth)
        elif form == "array":
            for number in range(self.random.choice((1, 1, 2))):
                yield from self._emit(inner, acted_on, f"{name}[{number}]", depth)
        elif form == "map":
            yield f"{name}[{self.random.choice('ab')}]", self._value(inner, name)
        else:
            yield from self._fields(PARAMS[inner], acted_on, name, depth + 1)

    def _value(self, kind: Any, name: str) -> str:
        if self.random.random() < 0.08:
            return self.random.choice(ODD)
        key = name.rstrip("]").rpartition("[")[2]
        if isinstance(kind, list):
            return str(self.random.choice(kind)).lower()
        if kind == "integer":
            now = self.world.wall_time()
            choices = (0, 1, 2, 30, 100, 1500)
            late = ("created", "end", "start", "_at", "date", "anchor", "time")
            return str(
                now + self.random.randrange(-(10**6), 10**7)
                if key.endswith(late)
                else self.random.choice(choices)
            )
        if kind == "boolean":
            return self.random.choice(("true", "false"))
        if kind in ("number", "decimal"):
            return self.random.choice(("0", "10", "12.5", "100"))
        if key == "currency":
            return "usd"
        if key in WHOSE:
            return self._id(WHOSE[key])
        if "payment_method" in key:
            return f"pm_card_{self.random.choice(CARDS)}"
        if key == "id":
            return self._id("subscription_item" if "items" in name else "customer")
        return self.random.choice(
            ("usd", "a@example.com", "http://127.0.0.1:9/", "x", "tok_visa", "4242424242424242")
        )

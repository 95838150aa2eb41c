"""A business that sold on Stripe for months before Tillbase: on the local Stripe, without anybody who listened.

Everything is drawn from a seed. Time is the emulator's own: it starts `DAYS` ago and ends now, and what falls due in
between happens in its turn.
"""

import json
import time
from dataclasses import dataclass, field
from random import Random
from typing import Any
from urllib.parse import urlencode

from simulator.shop import flat
from stripe_local.api import Api, Request
from stripe_local.control import ACTS
from stripe_local.world import World

DAY = 86_400
DAYS = 75
KEY = "sk_test_local"


@dataclass
class Business:
    """What was made, by kind, in the order in which it happened."""

    world: World
    seed: int
    customers: list[str] = field(default_factory=list[str])
    prices: dict[str, str] = field(default_factory=dict[str, str])

    def __post_init__(self) -> None:
        self.api = Api(self.world)
        self.draw = Random(self.seed)

    def call(self, method: str, path: str, **parameters: Any) -> Any:
        form = urlencode(list(flat(parameters)))
        answer = self.api.answer(Request(method, f"/v1/{path}", "", form, {"authorization": f"Bearer {KEY}"}))
        body = json.loads(answer.body)
        assert answer.status == 200, body
        return body

    def post(self, path: str, **parameters: Any) -> Any:
        return self.call("POST", path, **parameters)

    def control(self, act: str, identifier: str, **given: Any) -> Any:
        return ACTS[act](self.world, given, identifier)

    def until(self, target: int) -> None:
        """Let what is due happen, each at its own moment."""
        while (due := self.world.timers.next_due(None)) is not None and due <= target:
            self.world.pretended_time = max(due, self.world.wall_time())
            _, action = self.world.timers.pop(None)
            action()
        self.world.pretended_time = target

    def open(self) -> None:
        for name, amount, credits, interval in (
            ("basic", 1000, "100", "month"),
            ("pro", 2900, "400", "month"),
            ("yearly", 9900, "100", "year"),
        ):
            product = self.post("products", name=name.title())["id"]
            self.prices[name] = self.post(
                "prices", product=product, currency="usd", unit_amount=amount, recurring={"interval": interval},
                metadata={"monthly_credits": credits, "initial_credits": "50"},
            )["id"]  # fmt: skip
        pack = self.post("products", name="500 credits")["id"]
        self.prices["pack"] = self.post(
            "prices", product=pack, currency="usd", unit_amount=700, metadata={"pack_credits": "500"}
        )["id"]

    def live(self, customers: int) -> "Business":
        """Open the shop `DAYS` ago, and sell until now."""
        now = int(time.time())
        start = now - DAYS * DAY
        self.world.pretended_time = start
        self.open()
        joined = sorted(start + 3600 + self.draw.randrange((DAYS - 2) * DAY) for _ in range(customers))
        for number, at in enumerate(joined):
            self.until(at)
            self._join(number)
        self.until(now - 600)
        for number, customer in enumerate(self.customers):
            self.until(now - 600 + number * 500 // len(self.customers))
            self._happen(number, customer)
        self.until(now)
        self.world.pretended_time = None
        return self

    def _join(self, number: int) -> None:
        customer = self.post(
            "customers", email=f"user{number}@example.com", payment_method="pm_card_visa",
            invoice_settings={"default_payment_method": "pm_card_visa"},
        )["id"]  # fmt: skip
        self.customers.append(customer)
        plan = self.draw.choice(["basic", "basic", "pro", "yearly"])
        order: dict[str, Any] = {"customer": customer, "items": [{"price": self.prices[plan]}]}
        if number % 9 == 5:
            order["trial_period_days"] = 14
        self.post("subscriptions", **order)
        if number % 6 == 2:
            self.buy_pack(customer)

    def buy_pack(self, customer: str) -> str:
        session = self.post(
            "checkout/sessions", mode="payment", customer=customer, success_url="https://app.example",
            line_items=[{"price": self.prices["pack"], "quantity": 1}],
        )["id"]  # fmt: skip
        self.control("checkout_sessions/{identifier}/complete", session, payment_method="pm_card_visa")
        return session

    def _happen(self, number: int, customer: str) -> None:
        """What customers of a shop do: refunds, disputes, changes and ends."""
        [subscription] = self.of("subscription", customer)
        paid = [
            each for each in self.of("invoice", customer) if each["status"] == "paid" and each["total"] > 0
        ]
        intents = self.of("payment_intent", customer)
        match number % 10:
            case 1 if intents:
                self.post("refunds", payment_intent=intents[-1]["id"], amount=300)
            case 3:
                self.call("DELETE", f"subscriptions/{subscription['id']}")
            case 4:
                items = [{"id": subscription["_items"][0], "price": self.prices["pro"]}]
                self.post(
                    f"subscriptions/{subscription['id']}", items=items, proration_behavior="always_invoice"
                )
            case 6 if paid:
                self.post("credit_notes", invoice=paid[-1]["id"], amount=200, out_of_band_amount=200)
            case 7:
                self.post(f"subscriptions/{subscription['id']}", cancel_at_period_end=True)
            case _:
                pass

    def of(self, kind: str, customer: str) -> list[dict[str, Any]]:
        """A customer's objects, the oldest first."""
        return [each for each in self.world.store.all(kind) if each.get("customer") == customer]

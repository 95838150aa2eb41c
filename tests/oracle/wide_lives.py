"""Lives in which what most shops leave at its default, and what customers rarely do, is common.

Policies other than the defaults, weeks and days, tiers, metered prices, packs that expire or whose amount the customer
chooses, payments that come later, coupons for some months, the customer's balance, credit notes on single lines, and a
Stripe test clock that only the database's accounts on it follow.
"""

from dataclasses import dataclass
from random import Random
from typing import Any

from simulator.oracle.credits import Rules
from simulator.oracle.facts import DAY
from stripe_local.resources.pricing import prorated
from tests.oracle.app import App
from tests.oracle.in_process import Refused
from tests.oracle.lives import ALWAYS, MONTH, THEMES, Life, Rhythm, Step, with_more_steps

WEEK: Rhythm = ("week", 1)
# What is billed, and how many days usually pass.
RHYTHMS: list[tuple[list[Rhythm], int]] = [
    ([("day", 1)], 1),
    ([("day", 3)], 2),
    ([WEEK], 4),
    ([WEEK, MONTH], 9),
    ([("week", 2)], 8),
    ([MONTH], 16),
    ([MONTH], 24),
    ([MONTH, ("year", 1)], 25),
    ([("month", 3)], 30),
]
DAYS_OF = {"day": 1, "week": 7, "month": 30, "year": 300}


@dataclass
class WideLife(Life):
    """`by_clock`: the database's own time stands still; all that moves is the test clock that the customer hangs on."""

    by_clock: bool = False

    def _open_shop(self, draw: Random) -> None:
        self.by_clock = draw.random() < 0.3
        if self.by_clock:
            self.app = App()
        self.rhythms, self.days = draw.choice(RHYTHMS)
        self.rules = Rules(
            initial_credits_per=draw.choice(["product", "product", "account"]),
            one_trial_per=draw.choice(["product", "product", "account"]),
        )
        self.policies = {
            "credits_on_proration": draw.choice(["delta", "full", "full", "none"]),
            "credits_on_downgrade": draw.choice(["take_back", "keep"]),
            "credits_on_cancel": draw.choice(["period_end", "stop"]),
            "trial_credits_end": draw.choice(["trial_end", "keep"]),
        }
        if self.theme == "rollover":
            self.policies["credits_rollover"] = draw.choice(["none", "periods:1", "periods:2", "cap:30"])
        once = {"initial_credits": "50", "trial_credits": "10"}
        overage = self._overage()
        self.metered: list[str] = []
        for name, amount, credits in (
            ("Free", 0, draw.choice([0, 25])),
            ("Basic", 1000, 100),
            ("Pro", 1900, 300),
        ):
            metadata = {"monthly_credits": str(credits)} | self.policies | once | overage.get(name, {})
            self._sell(name, metadata, unit_amount=amount)
        self._sell("Team", {"monthly_credits": "60"} | self.policies | once, **_tiers(draw))
        self._sell("Usage", {"monthly_credits": "200"} | self.policies, is_metered=True, unit_amount=400)
        self._sell("Extra", {"monthly_credits": "30"} | self.policies, self.extras, unit_amount=500)
        self._sell("Support", {}, self.extras, unit_amount=500)
        for credits, more in (
            (501, {}),
            (200, {"pack_expires_after": draw.choice(["10 days", "2 months", "1 year"])}),
        ):
            product = self.stripe.post("products", name=f"{credits} credits")["id"]
            self.packs.append(self._price(product, 700, {"pack_credits": str(credits)} | more))
        product = self.stripe.post("products", name="As many credits as you like")["id"]
        self.chosen = self.stripe.post(
            "prices",
            product=product,
            currency="usd",
            custom_unit_amount={"enabled": True, "minimum": 100},
            metadata={"credits_per_unit": draw.choice(["7.5", "40"])},
        )["id"]

    def _sell(
        self,
        name: str,
        metadata: dict[str, str],
        among: list[dict[str, Any]] | None = None,
        *,
        is_metered: bool = False,
        **amounts: Any,
    ) -> None:
        """A product with a price for each rhythm."""
        product = self.stripe.post("products", name=name)["id"]
        for interval, count in self.rhythms:
            share = {
                key: max(1, value * DAYS_OF[interval] * count // 30)
                if key == "unit_amount" and value
                else value
                for key, value in amounts.items()
            }
            order = {
                "product": product,
                "currency": "usd",
                "metadata": metadata,
                "recurring": {"interval": interval, "interval_count": count},
            }
            made = self._meter(order | share) if is_metered else self.stripe.post("prices", **order, **share)
            (self.plans if among is None else among).append(made)

    def _meter(self, order: dict[str, Any]) -> dict[str, Any]:
        """A metered price. The local Stripe bills no usage: the quantity of the item stands for it."""
        world = self.stripe.world
        world.muted = True
        made = self.stripe.post("prices", **order)
        world.muted = False
        stored = world.store.get("price", made["id"])
        stored["recurring"] = {**stored["recurring"], "usage_type": "metered"}
        world.emit("price.created", stored)
        self.metered.append(made["id"])
        return made

    # Steps

    def _seats(self, draw: Random) -> str:
        subscription, items = self._one(draw)
        item = draw.choice(items)
        seats = draw.choice([0, 1, 4] if item["price"] in self.metered else [1, 2, 3, 4, 7])
        return self._change(draw, subscription, items=[{"id": item["id"], "quantity": seats}])

    def _coupon(self, draw: Random) -> str:
        coupon: dict[str, Any] = draw.choice(
            [
                {"percent_off": 50, "duration": "forever"},
                {"percent_off": 100, "duration": "once"},
                {"percent_off": 25, "duration": "repeating", "duration_in_months": 2},
                {"percent_off": 100, "duration": "repeating", "duration_in_months": 1},
                {"amount_off": 300, "currency": "usd", "duration": "once"},
            ]
        )
        return self.stripe.post("coupons", **coupon)["id"]

    def _discount(self, draw: Random) -> str:
        """A coupon for a subscription that runs, or none any longer."""
        subscription, _ = self._one(draw)
        discounts = "" if draw.random() < 0.3 else [{"coupon": self._coupon(draw)}]
        self.stripe.post(f"subscriptions/{subscription['id']}", discounts=discounts)
        return f"{discounts}"

    def _balance(self, draw: Random) -> str:
        """What the shop owes the customer, or is owed, comes off or on top of later invoices."""
        amount = draw.choice([-2500, -900, -350, 300])
        self.stripe.post(f"customers/{self.customer}/balance_transactions", amount=amount, currency="usd")
        return f"{amount}"

    def _owe(self, draw: Random) -> str:
        """Invoices are sent from now on, and paid late, outside Stripe or by card."""
        subscription, _ = self._one(draw)
        self.stripe.post(
            f"subscriptions/{subscription['id']}", collection_method="send_invoice", days_until_due=30
        )
        self._wait(draw)
        self._tell()
        return self._pay(draw)

    def _buy_pack(self, draw: Random) -> str:
        ways = ["later", "in part", "by bank", "with an invoice", "chosen", "chosen", "expiring", "usual"]
        way = draw.choice(ways)
        if way == "usual":
            return super()._buy_pack(draw)
        price = {"chosen": self.chosen, "expiring": self.packs[1]["id"]}.get(way) or draw.choice(self.packs)[
            "id"
        ]
        session: dict[str, Any] = {
            "mode": "payment",
            "customer": self.customer,
            "line_items": [{"price": price, "quantity": 1 if way == "chosen" else draw.choice([1, 3])}],
            "success_url": "https://app.example",
        }
        if way in ("later", "in part"):
            session["payment_intent_data"] = {"capture_method": "manual"}
        if way == "with an invoice":
            session["invoice_creation"] = {"enabled": True}
        made = self.stripe.post("checkout/sessions", **session)["id"]
        given: dict[str, Any] = {"payment_method": "pm_card_visa", "delayed": way == "by bank"}
        if way == "chosen":
            given["custom_amount"] = draw.choice([100, 499, 1234, 5000])
        completed = self.stripe.control("checkout_sessions/{identifier}/complete", made, **given)
        if way in ("later", "in part", "by bank"):
            self._tell()
            self.stripe.wait(DAY)
            self._tell()
            self._settle(completed, 3 if way == "in part" else 1)
        return way

    def _settle(self, session: dict[str, Any], parts: int) -> None:
        """The payment of a session arrives: the bank's debit, or a capture of all or one of so many parts."""
        intent = self.stripe.world.store.get("payment_intent", session["payment_intent"])
        if intent["status"] == "processing":
            self.stripe.control("checkout_sessions/{identifier}/settle", session["id"])
        else:
            amount = intent["amount_capturable"] // parts
            self.stripe.post(f"payment_intents/{intent['id']}/capture", amount_to_capture=amount)

    def _credit(self, draw: Random) -> str:
        """Credit notes on single lines, some of them more than once, some discounted; or as in other lives."""
        if draw.random() < 0.3:
            return super()._credit(draw)
        invoices = [i for i in self._all("invoice") if i["status"] == "paid" and i["total"] > 0]
        if not invoices:
            raise Refused("there is no invoice to credit")
        invoice = draw.choice(invoices)
        lines = [line for line in invoice["_lines"] if line["amount"] > 1]
        some = draw.sample(lines, min(len(lines), draw.choice([1, 1, 2])))
        entries = [
            {
                "type": "invoice_line_item",
                "invoice_line_item": line["id"],
                "amount": max(1, line["amount"] // draw.choice([2, 3, 4])),
            }
            for line in some
        ]
        asked = sum(
            entry["amount"]
            - sum(prorated(t["amount"], entry["amount"], line["amount"]) for t in line["discount_amounts"])
            for line, entry in zip(some, entries, strict=True)
        )
        way = draw.choice(["credit_amount", "out_of_band_amount", "refund_amount"])
        self.stripe.post("credit_notes", invoice=invoice["id"], lines=entries, **{way: asked})
        return f"{entries} of {invoice['total']} as {way}"


def _tiers(draw: Random) -> dict[str, Any]:
    """Prices by the number of seats: each tier's own price, or the last one's for all; the first two may be free."""
    first = draw.choice([0, 1000])
    return {
        "billing_scheme": "tiered",
        "tiers_mode": draw.choice(["graduated", "graduated", "volume"]),
        "tiers": [
            {"up_to": 2, "unit_amount": first},
            {"up_to": "inf", "unit_amount": 600},
        ],
    }


MORE = {"discount": 1, "balance": 1, "owe": 0.7, "buy_pack": 3, "seats": 4, "end_trial": 0.5}
CREDITED = {"credit": 4}


def random_wide_life(seed: int) -> WideLife:
    """A life of up to a dozen steps, which begins with a subscription."""
    draw = Random(f"wide {seed}")
    spends = draw.random() < 0.5
    theme = draw.choice(["money", "money", "changes", "rollover"])
    weights = ALWAYS | THEMES[theme] | MORE | (CREDITED if theme == "money" else {})
    weights |= {"spend": 4} if spends else {}
    names = draw.choices(list(weights), list(weights.values()), k=draw.randrange(4, 13))
    steps = [Step(name, draw.randrange(10**9)) for name in ("subscribe", "wait", *names, "wait")]
    return with_more_steps(WideLife(seed, steps, spends, theme))

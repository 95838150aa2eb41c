"""A random life of a customer on the local Stripe, from a seed and a list of steps.

Each step draws from a seed of its own and acts on what it finds, so a life with some of its steps left out is a life
too: that is how a failing one is made small. What Stripe refuses does not happen.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from random import Random
from typing import Any, TypeVar

from simulator.oracle.credits import Oracle, Rules
from simulator.oracle.facts import DAY, Facts, User
from simulator.oracle.ledger import Ledger
from simulator.oracle.overage import Overages
from simulator.oracle.reading import read
from simulator.oracle.spends import Budget, Spend
from tests.oracle.app import PARENTS, App, draw_app
from tests.oracle.in_process import Refused, Stripe

HOUR = 3_600
DRAFT_SECONDS = 600
# Where months end is where calendars go wrong.
BIRTHDAYS = [
    datetime(2027, 1, 31, 12, 0, 7, tzinfo=UTC),
    datetime(2027, 2, 11, 9, 30, tzinfo=UTC),
    datetime(2027, 11, 30, 23, 59, 59, tzinfo=UTC),
    datetime(2028, 1, 1, tzinfo=UTC),
    datetime(2028, 2, 29, 6, tzinfo=UTC),
]
Rhythm = tuple[str, int]
MONTH: Rhythm = ("month", 1)
# What is billed in this life, and to what a plan may be switched; how many days usually pass.
RHYTHMS: list[tuple[list[Rhythm], int]] = [
    ([MONTH], 20),
    ([MONTH], 12),
    ([MONTH, ("year", 1)], 25),
    ([("year", 1)], 45),
    ([("month", 3), MONTH], 30),
    ([("month", 2)], 25),
    ([("week", 1)], 4),
    ([("week", 2), MONTH], 8),
    ([("day", 1)], 1),
    ([("day", 10)], 4),
    ([("year", 2)], 60),
]


AnyLife = TypeVar("AnyLife", bound="Life")


@dataclass(frozen=True)
class Step:
    name: str
    seed: int


@dataclass
class Life:
    """One customer. `spends`: the app spends in between, so that the order of everything matters."""

    seed: int
    steps: list[Step]
    spends: bool
    theme: str = "money"
    rules: Rules = field(default_factory=Rules)
    # Called when something has happened, and when the app has spent.
    lived: Callable[["Life"], None] = lambda life: None
    paid: Callable[["Life"], None] = lambda life: None
    spent: list[Spend] = field(default_factory=list[Spend])
    budgets: list[Budget] = field(default_factory=list[Budget])
    confirmed_at: int | None = None
    told: list[str] = field(default_factory=list[str])

    def __post_init__(self) -> None:
        draw = Random(self.seed)
        birthday = draw.choice(BIRTHDAYS)
        self.stripe = Stripe(self.seed, int(birthday.timestamp()) + draw.choice([0, 0, 86_399]))
        self.rhythms, self.days = draw.choice(RHYTHMS)
        self.plans: list[dict[str, Any]] = []
        self.extras: list[dict[str, Any]] = []
        self.packs: list[dict[str, Any]] = []
        self.app = draw_app(self.seed, self.days) if self.spends else App()
        self.born = self.stripe.now
        self._open_shop(draw)
        self._set_up()
        self.customer: str = self.stripe.post(
            "customers",
            email="ada@example.com",
            test_clock=self.stripe.clock,
            payment_method="pm_card_visa",
            invoice_settings={"default_payment_method": "pm_card_visa"},
        )["id"]

    def _set_up(self) -> None:
        """The user's address is confirmed or not yet, and there are budgets or none."""
        self.confirmed_at = self.born if self.app.confirms_at_once else None
        if self.app.has_budgets:
            draw = Random(f"budgets {self.seed}")
            self.budgets += [
                replace(self.app.budget(draw, self.born), actor=actor, parent=parent)
                for actor, parent in PARENTS.items()
            ]

    # What is sold

    def _open_shop(self, draw: Random) -> None:
        policies: dict[str, str] = {}
        if self.theme == "rollover":
            policies["credits_rollover"] = draw.choice(["none", "periods:1", "periods:2", "cap:30", "cap:0"])
        if draw.random() < 0.2:
            policies["credits_on_cancel"] = "stop"
        if draw.random() < 0.2:
            policies["credits_on_proration"] = "none"
        self.policies = policies
        overage = self._overage()
        initial = {"initial_credits": "50"} if draw.random() < 0.4 else {}
        trial = {"trial_credits": "10"} if draw.random() < 0.5 else {}
        for name, amount, credits in (
            ("Free", 0, draw.choice([0, 25])),
            ("Basic", 1000, draw.choice([100, 107])),
            ("Pro", 1900, draw.choice([300, 1000])),
        ):
            product = self.stripe.post("products", name=name)["id"]
            for interval, count in self.rhythms:
                times = {"day": 1, "week": 7, "month": 30, "year": 300}[interval] * count
                self.plans.append(
                    self._price(
                        product,
                        amount * times // 30,
                        {"monthly_credits": str(credits)}
                        | policies
                        | initial
                        | trial
                        | overage.get(name, {}),
                        recurring={"interval": interval, "interval_count": count},
                    )
                )
        for name, extra in (("Extra", {"monthly_credits": "30"} | policies), ("Support", {})):
            product = self.stripe.post("products", name=name)["id"]
            for interval, count in self.rhythms:
                recurring = {"interval": interval, "interval_count": count}
                self.extras.append(self._price(product, 500, extra, recurring=recurring))
        for credits, more in ((501, {}), (200, {"pack_expires_after": "90 days"})):
            product = self.stripe.post("products", name=f"{credits} credits")["id"]
            self.packs.append(self._price(product, 700, {"pack_credits": str(credits)} | more))

    def _overage(self) -> dict[str, dict[str, str]]:
        """What plans say of overage, by their names; the pack that bills it."""
        if self.app.overage is None:
            return {}
        credits, limit = self.app.overage
        product = self.stripe.post("products", name="Overage")["id"]
        pack = self._price(product, 3 * credits, {"pack_credits": str(credits)})["id"]
        return {
            name: {"overage_limit": str(times * limit), "overage_pack": pack}
            for name, times in (("Basic", 1), ("Pro", 2))
        }

    def _price(self, product: str, amount: int, metadata: dict[str, str], **more: Any) -> dict[str, Any]:
        return self.stripe.post(
            "prices", product=product, currency="usd", unit_amount=amount, metadata=metadata, **more
        )

    # Living it

    def live(self) -> "Life":
        for step in self.steps:
            self.stripe.wait(60)
            self.told.append(f"{self._date()} {step.name} …")
            before = self.stripe.world.events.count()
            try:
                done = getattr(self, f"_{step.name}")(Random(step.seed))
            except Refused as refusal:
                done = f"refused: {refusal}"
            happened = self.stripe.world.events.count() - before
            self.told[-1:] = [f"{self._date()} {step.name}: {done or ''} ({happened} events)"]
            self._tell()
        self.stripe.wait(60)
        self._settle_down()
        self.stripe.wait(2 * HOUR)
        self._tell()
        return self

    def _tell(self) -> None:
        """A moment later, and a moment before what comes next: two states of one second could not be told apart."""
        self.stripe.wait(2)
        self.lived(self)
        self.stripe.wait(1)

    def _date(self) -> str:
        return datetime.fromtimestamp(self.stripe.now, UTC).isoformat()[:19]

    def facts(self) -> Facts:
        user = User(self.born, self.confirmed_at, self.app.is_somebody_known)
        return replace(read(self.stripe.world), user=user, free_rules=self.app.free_rules)

    def oracle(self) -> Oracle:
        """What the oracle knows as of now."""
        oracle = Oracle(self.facts(), self.spent, self.rules, self.budgets)
        oracle.at(self.stripe.now)
        return oracle

    def credits(self) -> Ledger:
        """What the oracle says that the account has now."""
        return self.oracle().ledger

    def returned(self) -> set[str]:
        """The invoices and sales that money came back of."""
        facts = self.facts()
        lost = {dispute.of for dispute in facts.disputes if dispute.is_lost}
        return lost | {back.of for back in facts.returns if back.undone_at is None}

    def _settle_down(self) -> None:
        """Where events come in any order, only the last state is known: nothing may be left waiting."""
        if self.spends:
            return
        for subscription in self._subscriptions():
            if subscription["status"] == "paused":
                self.stripe.post(f"subscriptions/{subscription['id']}/resume")
            if "pause_collection" in subscription:
                self.stripe.post(f"subscriptions/{subscription['id']}", pause_collection="")
        for dispute in self._all("dispute"):
            if dispute["status"] not in ("won", "lost"):
                self.stripe.wait(60)
                self.stripe.control("disputes/{identifier}/decide", dispute["id"], status="lost")

    def _all(self, kind: str) -> list[dict[str, Any]]:
        return list(self.stripe.world.store.all(kind))

    def _subscriptions(self) -> list[dict[str, Any]]:
        over = ("canceled", "incomplete_expired")
        return [s for s in self._all("subscription") if s["status"] not in over]

    def _changeable(self) -> list[dict[str, Any]]:
        return [s for s in self._subscriptions() if s["status"] in ("active", "trialing", "past_due")]

    def _one(self, draw: Random) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """A subscription that can be changed, and its items."""
        if not self._changeable():
            self.told[-1:] = [f"{self._date()} subscribe first: {self._subscribe(draw)}", self.told[-1]]
            self.stripe.wait(60)
        subscription = draw.choice(self._changeable() or [{}])
        if not subscription:
            raise Refused("there is no subscription to change")
        items = [self.stripe.world.store.get("subscription_item", i) for i in subscription["_items"]]
        return subscription, items

    def _change(self, draw: Random, subscription: dict[str, Any], **changes: Any) -> str:
        behavior = draw.choice(["always_invoice", "always_invoice", "create_prorations", "none"])
        if draw.random() < 0.1 and subscription["status"] == "active":
            changes["billing_cycle_anchor"] = {"type": "now"}
        self.stripe.post(f"subscriptions/{subscription['id']}", proration_behavior=behavior, **changes)
        return f"{changes} {behavior}"

    # Steps

    def _wait(self, draw: Random) -> str:
        seconds = int(draw.choice([0.2, 0.5, 1, 1, 1.6, 2.3]) * self.days * DAY) + draw.randrange(HOUR)
        target = self.stripe.now + seconds
        while (end := self._draft_at(target)) is not None:
            self.stripe.wait(end - self.stripe.now)
            self._tell()
        self.stripe.wait(max(target - self.stripe.now, 1))
        return f"{seconds / DAY:.1f} days"

    def _draft_at(self, until: int) -> int | None:
        """Before then: some minutes after the next end of a month with overage, while the renewal is a draft."""
        if not self.app.is_punctual or self.app.overage is None:
            return None
        overages = Overages(self.facts(), Ledger())
        overages.judge(self.stripe.now - DRAFT_SECONDS)
        end = overages.next_end
        return None if end is None or end + DRAFT_SECONDS >= until else end + DRAFT_SECONDS

    def _subscribe(self, draw: Random) -> str:
        rhythm = draw.choice(self.rhythms)
        plan = draw.choice(self._of(self.plans, rhythm))
        items = [{"price": plan["id"], "quantity": draw.choice([1, 1, 1, 2, 5])}]
        if draw.random() < 0.35:
            items.append({"price": draw.choice(self._of(self.extras, rhythm))["id"], "quantity": 1})
        order: dict[str, Any] = {"customer": self.customer, "items": items}
        if draw.random() < 0.3:
            order["discounts"] = [{"coupon": self._coupon(draw)}]
        if draw.random() < 0.25:
            order["trial_period_days"] = draw.choice([3, 14])
        elif draw.random() < 0.15 and rhythm[0] in ("month", "year"):
            order["billing_cycle_anchor"] = self.stripe.now + draw.randrange(1, 27) * DAY
        if draw.random() < 0.12:
            order |= {"collection_method": "send_invoice", "days_until_due": 20}
        if draw.random() < 0.3 and "billing_cycle_anchor" not in order and "collection_method" not in order:
            return self._check_out(draw, order)
        self.stripe.post("subscriptions", **order)
        return f"{order}"

    def _check_out(self, draw: Random, order: dict[str, Any]) -> str:
        items = list(order["items"])
        if draw.random() < 0.4:
            items.append({"price": draw.choice(self.packs)["id"], "quantity": 1})
        data = {key: order[key] for key in ("trial_period_days",) if key in order}
        session = {
            "mode": "subscription",
            "customer": self.customer,
            "line_items": items,
            "success_url": "https://app.example",
        }
        if data:
            session["subscription_data"] = data
        if "discounts" in order:
            session["discounts"] = order["discounts"]
        self._complete(session)
        return f"at Checkout {session}"

    def _complete(self, session: dict[str, Any]) -> None:
        made = self.stripe.post("checkout/sessions", **session)
        self.stripe.control(
            "checkout_sessions/{identifier}/complete", made["id"], payment_method="pm_card_visa"
        )

    def _of(self, prices: list[dict[str, Any]], rhythm: Rhythm) -> list[dict[str, Any]]:
        return [p for p in prices if (p["recurring"]["interval"], p["recurring"]["interval_count"]) == rhythm]

    def _coupon(self, draw: Random) -> str:
        coupon: dict[str, Any] = draw.choice(
            [
                {"percent_off": 50, "duration": "forever"},
                {"percent_off": 100, "duration": "once"},
                {"percent_off": 100, "duration": "forever"},
                {"amount_off": 300, "currency": "usd", "duration": "once"},
            ]
        )
        return self.stripe.post("coupons", **coupon)["id"]

    def _switch(self, draw: Random) -> str:
        """To another plan, of another interval where the subscription has no other item."""
        subscription, items = self._one(draw)
        now = self.stripe.world.store.get("price", items[0]["price"])["recurring"]
        rhythm = (now["interval"], now["interval_count"])
        if len(items) == 1 and draw.random() < 0.4:
            rhythm = draw.choice(self.rhythms)
        plan = draw.choice(self._of(self.plans, rhythm))
        return self._change(draw, subscription, items=[{"id": items[0]["id"], "price": plan["id"]}])

    def _seats(self, draw: Random) -> str:
        subscription, items = self._one(draw)
        seats = draw.choice([1, 2, 3, 7])
        return self._change(draw, subscription, items=[{"id": items[0]["id"], "quantity": seats}])

    def _items(self, draw: Random) -> str:
        """Replace an item by a new one, add one or remove one."""
        subscription, items = self._one(draw)
        recurring = self.stripe.world.store.get("price", items[0]["price"])["recurring"]
        rhythm = (recurring["interval"], recurring["interval_count"])
        kind = draw.choice(["replace", "add", "remove"])
        old = {"id": draw.choice(items)["id"], "deleted": True}
        new = {"price": draw.choice(self._of(self.plans + self.extras, rhythm))["id"]}
        changes = {"replace": [old, new], "add": [new], "remove": [old]}[kind]
        return self._change(draw, subscription, items=changes)

    def _cancel(self, draw: Random) -> str:
        subscription, _ = self._one(draw)
        path = f"subscriptions/{subscription['id']}"
        kind = draw.choice(["now", "prorate", "prorate", "period end", "period end", "stay"])
        if kind == "now":
            self.stripe.delete(path)
        elif kind == "prorate":
            self.stripe.delete(path, prorate=True, invoice_now=True)
        else:
            self.stripe.post(path, cancel_at_period_end=kind == "period end")
        return kind

    def _pause(self, draw: Random) -> str:
        subscription, _ = self._one(draw)
        path = f"subscriptions/{subscription['id']}"
        kind = draw.choice(["subscription", "keep_as_draft", "void"])
        if kind == "subscription":
            self.stripe.post(f"{path}/pause", type="subscription")
        else:
            self.stripe.post(path, pause_collection={"behavior": kind})
        for _ in range(2):
            self._tell()
            self._spend_on_account(draw)
            self._wait(draw)
        self._tell()
        current = self.stripe.world.store.get("subscription", subscription["id"])
        if current["status"] == "paused":
            self.stripe.post(f"{path}/resume")
        if "pause_collection" in current:
            self.stripe.post(path, pause_collection="")
        return kind

    def _end_trial(self, draw: Random) -> str:
        subscription, _ = self._one(draw)
        if subscription["status"] != "trialing":
            raise Refused("there is no trial")
        self.stripe.post(f"subscriptions/{subscription['id']}", trial_end="now")
        return ""

    def _decline(self, draw: Random) -> str:
        """The next payments fail; a new card, then an open invoice is paid."""
        self._card("pm_card_chargeCustomerFail")
        self._wait(draw)
        self._tell()
        self._spend_on_account(draw)
        self._card("pm_card_visa")
        return self._pay(draw)

    def _card(self, card: str) -> None:
        method = self.stripe.post(f"payment_methods/{card}/attach", customer=self.customer)["id"]
        self.stripe.post(f"customers/{self.customer}", invoice_settings={"default_payment_method": method})
        for subscription in self._subscriptions():
            self.stripe.post(f"subscriptions/{subscription['id']}", default_payment_method=method)

    def _pay(self, draw: Random) -> str:
        """An invoice that is open, by card or in some way outside Stripe."""
        invoices = [i for i in self._all("invoice") if i["status"] == "open"]
        for invoice in invoices:
            if draw.random() < 0.3:
                self.stripe.post(f"invoices/{invoice['id']}/pay", paid_out_of_band=True)
            else:
                self.stripe.post(f"invoices/{invoice['id']}/pay")
        return f"{len(invoices)} invoices"

    def _buy_pack(self, draw: Random) -> str:
        pack, quantity = draw.choice(self.packs)["id"], draw.choice([1, 1, 3])
        if draw.random() < 0.5:
            session: dict[str, Any] = {
                "mode": "payment",
                "customer": self.customer,
                "line_items": [{"price": pack, "quantity": quantity}],
                "success_url": "https://app.example",
            }
            if draw.random() < 0.25:
                session["discounts"] = [{"coupon": self._coupon(draw)}]
            self._complete(session)
            return f"{quantity} at Checkout {session.get('discounts', '')}"
        if draw.random() < 0.3:
            self.stripe.post(f"customers/{self.customer}/balance_transactions", amount=-900, currency="usd")
        invoice = self.stripe.post("invoices", customer=self.customer)["id"]
        self.stripe.post(
            "invoiceitems",
            customer=self.customer,
            invoice=invoice,
            pricing={"price": pack},
            quantity=quantity,
        )
        made = self.stripe.post(f"invoices/{invoice}/finalize")
        if made["status"] == "open":
            out_of_band = {"paid_out_of_band": True} if draw.random() < 0.3 else {}
            self.stripe.post(f"invoices/{invoice}/pay", **out_of_band)
        return f"{quantity} by invoice"

    def _refund(self, draw: Random) -> str:
        charges = [
            c
            for c in self._all("charge")
            if c["status"] == "succeeded" and not c["refunded"] and not c["disputed"]
        ]
        if not charges:
            raise Refused("there is nothing to refund")
        charge = draw.choice(charges)
        left = charge["amount"] - charge["amount_refunded"]
        amount = draw.choice([left, max(1, left // 2), max(1, left // 3)])
        self.stripe.post("refunds", charge=charge["id"], amount=amount)
        if draw.random() < 0.15:
            self._tell()
            self.stripe.wait(DAY)
            self._tell()
            refund = self._all("refund")[-1]
            self.stripe.control("refunds/{identifier}/settle", refund["id"], succeeds=False)
            return f"{amount} of {charge['amount']}, which fails"
        return f"{amount} of {charge['amount']}"

    def _credit(self, draw: Random) -> str:
        notes = [n for n in self._all("credit_note") if n["type"] == "post_payment"]
        invoices = [i for i in self._all("invoice") if i["status"] == "paid" and i["total"] > 0]
        if not invoices:
            raise Refused("there is no invoice to credit")
        invoice = draw.choice(invoices)
        noted = {line["invoice_line_item"] for n in notes for line in n["_lines"]}
        lines = [
            line
            for line in invoice["_lines"]
            if line["amount"] > 0 and not line["discount_amounts"] and line["id"] not in noted
        ]
        if lines and draw.random() < 0.5:
            line = draw.choice(lines)
            amount = max(1, line["amount"] // draw.choice([1, 2]))
            entry = {"type": "invoice_line_item", "invoice_line_item": line["id"], "amount": amount}
            order: dict[str, Any] = {"lines": [entry]}
        else:
            amount = max(1, invoice["total"] // draw.choice([1, 2, 3]))
            order = {"amount": amount}
        way = draw.choice(["credit_amount", "out_of_band_amount", "refund_amount"])
        self.stripe.post("credit_notes", invoice=invoice["id"], **order, **{way: amount})
        return f"{order} of {invoice['total']} as {way}"

    def _dispute(self, draw: Random) -> str:
        charges = [c for c in self._all("charge") if c["status"] == "succeeded" and not c["disputed"]]
        if not charges:
            raise Refused("there is nothing to dispute")
        charge = draw.choice(charges)
        dispute = self.stripe.control("charges/{identifier}/dispute", charge["id"])["id"]
        kind = draw.choice(["open", "won", "lost"])
        if kind != "open":
            self._tell()
            self._wait(draw)
            self._tell()
            self.stripe.control("disputes/{identifier}/decide", dispute, status=kind)
        return kind

    def _edit(self, draw: Random) -> str:
        """The plan's credits are declared anew: what was granted before stays."""
        plan = draw.choice(self.plans)
        credits = draw.choice(["40", "200"])
        self.stripe.post(f"prices/{plan['id']}", metadata={"monthly_credits": credits})
        return f"{plan['id']} now gives {credits}"

    def _spend(self, draw: Random) -> str:
        """The app spends a part of what there is, right away."""
        self.stripe.wait(2)
        self.lived(self)
        amount = int(self.credits().available * draw.choice([0.3, 0.7, 0.9, 1]))
        if self.app.overage is not None and draw.random() < 0.8:
            # Where there is none, it is refused.
            limit = self.oracle().overages.limit(self.stripe.now) or self.app.overage[1]
            amount = self.credits().available + draw.choice([limit // 3, limit // 2, limit, limit + 1])
        if not amount:
            raise Refused("there is nothing to spend")
        self.spent.append(self.app.spend(draw, self.stripe.now, amount))
        self.paid(self)
        return f"{self.spent[-1]} → {self.oracle().outcomes[-1]}"

    def _spend_on_account(self, draw: Random) -> None:
        """Where there may be overage or not: while a subscription is paused or not paid."""
        if self.app.overage is not None:
            with suppress(Refused):
                self.told[-1:] = [f"{self._date()} meanwhile spends {self._spend(draw)}", self.told[-1]]
            self.stripe.wait(60)

    def _budget(self, draw: Random) -> str:
        """A budget or the account's cap is set anew, in the middle of its period."""
        self.stripe.wait(2)
        self.lived(self)
        self.budgets.append(self.app.budget(draw, self.stripe.now))
        self.paid(self)
        return f"{self.budgets[-1]}"

    def _confirm(self, draw: Random) -> str:
        """The user confirms the address."""
        if self.confirmed_at is not None:
            raise Refused("it is confirmed")
        self.stripe.wait(2)
        self.lived(self)
        self.confirmed_at = self.stripe.now
        self.paid(self)
        return ""


ALWAYS = {
    "wait": 8,
    "subscribe": 1,
    "switch": 3,
    "seats": 2,
    "items": 2,
    "cancel": 2,
    "pause": 1,
    "end_trial": 0.5,
    "decline": 1,
    "pay": 0.5,
    "buy_pack": 1.5,
}
# Money goes back, or terms change, or credits lapse: what they do to each other is the rules' own twilight.
THEMES = {
    "money": {"refund": 3, "credit": 2, "dispute": 2},
    "changes": {"edit": 1, "switch": 6, "seats": 4, "items": 4},
    "rollover": {},
}


def random_life(seed: int) -> Life:
    """A life of up to a dozen steps, which begins with a subscription."""
    draw = Random(seed)
    spends = draw.random() < 0.5
    theme = draw.choice(["money", "money", "changes", "rollover"])
    weights = ALWAYS | THEMES[theme] | ({"spend": 4} if spends else {})
    names = draw.choices(list(weights), list(weights.values()), k=draw.randrange(4, 13))
    steps = [Step(name, draw.randrange(10**9)) for name in ("subscribe", "wait", *names, "wait")]
    return with_more_steps(Life(seed, steps, spends, theme))


def with_more_steps(life: AnyLife) -> AnyLife:
    """The same with what its app does."""
    more = Random(f"steps {life.seed}")
    names = life.app.steps(more, [""] * len(life.steps))
    steps = iter(list(life.steps))
    life.steps = [Step(name, more.randrange(10**9)) if name else next(steps) for name in names]
    return life

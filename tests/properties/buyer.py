"""The cheapest buyer: what a customer may do at Checkout, at Payment Links and in the portal, with one account.

Everything goes the product's own way: prepare_checkout and prepare_payment_links say what is sent to Stripe, the
events of the local Stripe go through the inbox and the worker. What is refused, by the database or by Stripe, does
not happen. After each act the account's credits are compared with what its money buys (`paid_for`).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any
from uuid import UUID

import psycopg
from psycopg.types.json import Jsonb

from simulator.oracle.facts import DAY, User
from simulator.oracle.paid_for import PaidFor, paid_for
from simulator.oracle.price_list import PriceList
from stripe_local.store import Object
from tests.databases import Databases
from tests.oracle.in_process import Refused, Stripe
from tests.oracle.test_lives_agree import Project
from tests.properties.price_lists import Offers, put_on_sale
from tests.sql.calls import call
from tests.sql.steps import body, bring
from tests.support import account_of, create_user
from tests.worker.conftest import opened
from worker.jobs.overages import OVERAGE

VERSION = "2026-10-28.endive"
LONGEST_WAIT = 31 * DAY
OVER = ("canceled", "incomplete_expired")
# What the portal and the API call it when a plan or seats change.
BEHAVIORS = ["always_invoice", "always_invoice", "create_prorations", "none"]
CARD, EMPTY_CARD = "pm_card_visa", "pm_card_chargeCustomerFail"


class Minted(AssertionError):
    """Credits that nothing paid for."""


class WallClock(Stripe):
    """A Stripe without test clocks: customers that Payment Links make could not hang on one."""

    def wait(self, seconds: int) -> None:
        target = self.now + seconds
        timers = self.world.timers
        while (due := timers.next_due(None)) is not None and due <= target:
            at, act = timers.pop(None)
            self.world.pretended_time = max(at, self.now)
            act()
        self.world.pretended_time = target


@dataclass
class Buyer:
    """One user with one account. `acts`: what was done, one line each."""

    stripe: WallClock
    prices: PriceList
    offers: Offers
    project: Project
    user: UUID
    acts: list[str] = field(default_factory=list[str])
    spent: int = 0
    customers: int = 0
    links: dict[str, str] = field(default_factory=dict[str, str])
    refundable: Object | None = None
    others: list[UUID] = field(default_factory=list[UUID])
    # Work that is held: (hold, credits); and what work cost beyond its hold.
    holds: list[tuple[UUID, int]] = field(default_factory=list[tuple[UUID, int]])
    excess: int = 0
    born: int = 0

    @property
    def rate(self) -> Fraction:
        return self.prices.best_rate

    # Buying

    def check_out(self, plan: int, seats: int = 1, code: int | None = None) -> None:
        with self._act(f"checks out plan {plan}, {seats} seats, code {code}"):
            self._pay(self.offers.plans[plan], None, seats, self._code(code))

    def buy_pack(
        self, pack: int, number: int = 1, code: int | None = None, amount: int | None = None
    ) -> None:
        with self._act(f"buys {number} of pack {pack}, code {code}, for {amount}"):
            self._pay(None, self.offers.packs[pack], number, self._code(code) | self._amount(pack, amount))

    def _pay(self, plan: str | None, pack: str | None, quantity: int, given: dict[str, Any]) -> None:
        query = "select billing.prepare_checkout(%s, %s, %s, %s, null, null)"
        step = self.project.shop.value(query, self.user, plan, pack, quantity)
        session = self._carry_out(step, "continue_checkout")
        self.stripe.control(
            "checkout_sessions/{identifier}/complete", session["id"], payment_method=CARD, **given
        )
        self._paid_now()

    def _carry_out(self, step: dict[str, Any], continue_by: str) -> dict[str, Any]:
        """A step and those that follow → the result. Raises Refused."""
        while "done" not in step:
            if "refused" in step:
                raise Refused(step["refused"]["message"])
            answers = [body(**self._ask(call)) for call in step["calls"]]
            step = bring(self.project.shop.app, step, continue_by, *answers)
        return step["done"]

    def _ask(self, call: dict[str, Any]) -> Object:
        path, params = call["path"].removeprefix("/v1/"), call["params"]
        if self.prices.is_classic and params.get("mode") == "subscription":
            mode = {"billing_mode": {"type": "classic"}}
            params = params | {"subscription_data": params.get("subscription_data", {}) | mode}
        answered = self.stripe.call(call["method"], path, params)
        return {name: answered[name] for name in call["keep"]}

    def follow_link(
        self,
        *,
        plan: int | None = None,
        pack: int | None = None,
        code: int | None = None,
        amount: int | None = None,
    ) -> None:
        """A Payment Link's URL, by somebody whom Stripe takes for new."""
        with self._act(f"follows the link of plan {plan}, pack {pack}, code {code}, for {amount}"):
            link = self._link(plan, pack)
            self.customers += 1
            self.stripe.control(
                "payment_links/{identifier}/complete",
                link,
                client_reference_id=self._reference(),
                email=f"buyer{self.customers}@example.com",
                payment_method=CARD,
                **self._code(code),
                **self._amount(pack, amount),
            )
            self._paid_now()

    def _link(self, plan: int | None, pack: int | None) -> str:
        """A URL that was handed out once may be followed again."""
        wanted = [
            None if plan is None else self.offers.plans[plan],
            None if pack is None else self.offers.packs[pack],
        ]
        if (known := self.links.get(f"{wanted}")) is not None:
            return known
        query = "select billing.prepare_payment_links(%s, %s, %s)"
        [link] = self.project.shop.value(query, self.user, *wanted)["links"]
        url = self._carry_out(link["step"], "continue_payment_link")["url"]
        query = "select stripe_payment_link_id from billing.payment_links where url = %s"
        self.links[f"{wanted}"] = self.project.shop.value(query, url)
        return self.links[f"{wanted}"]

    def _reference(self) -> str:
        """What payment_reference signs, at the time of the local Stripe."""
        query = "select billing._sign_reference(%s, false, to_timestamp(%s))"
        return self.project.shop.value(query, self.project.account, self.stripe.now + DAY)

    def _code(self, code: int | None) -> dict[str, Any]:
        return {} if code is None else {"promotion_code": self.offers.codes[code]}

    def _amount(self, pack: int | None, amount: int | None) -> dict[str, Any]:
        chosen = pack is not None and self.prices.packs[pack].amount is None and amount is not None
        return {"custom_amount": amount} if chosen else {}

    # Changing

    def subscriptions(self) -> list[Object]:
        return [s for s in self.stripe.world.store.all("subscription") if s["status"] not in OVER]

    def change(self, which: int, plan: int, behavior: str, *, end_trial: bool = False) -> None:
        """To another plan, of any interval; the portal may end a trial with it."""
        changes = {"price": self.offers.plans[plan]}
        self._update(which, changes, behavior, f"plan {plan}", end_trial=end_trial)

    def take_seats(self, which: int, seats: int, behavior: str) -> None:
        self._update(which, {"quantity": seats}, behavior, f"{seats} seats")

    def _update(
        self, which: int, changes: dict[str, Any], behavior: str, words: str, *, end_trial: bool = False
    ) -> None:
        with self._act(f"changes subscription {which} to {words}, {behavior}, end_trial={end_trial}"):
            subscription = self._one(which)
            more = {"trial_end": "now"} if end_trial and subscription["status"] == "trialing" else {}
            self.refundable = None
            self._release(subscription)
            self.stripe.post(
                f"subscriptions/{subscription['id']}",
                items=[{"id": subscription["_items"][0], **changes}],
                proration_behavior=behavior,
                **more,
            )

    def plan_change(self, which: int, plan: int, seats: int = 1) -> None:
        """What the portal does with a downgrade where it waits for the end of the period: a schedule of two phases."""
        with self._act(f"plans a change of subscription {which} to plan {plan}, {seats} seats"):
            subscription = self._one(which)
            self.refundable = None
            self._release(subscription)
            schedule = self.stripe.post("subscription_schedules", from_subscription=subscription["id"])
            (current,) = schedule["phases"]
            kept = {key: current[key] for key in ("start_date", "end_date")}
            held = [{key: item[key] for key in ("price", "quantity")} for item in current["items"]]
            wanted = {"price": self.offers.plans[plan], "quantity": seats}
            phases = [{**kept, "items": held}, {"items": [wanted], "proration_behavior": "none"}]
            self.stripe.post(
                f"subscription_schedules/{schedule['id']}", phases=phases, proration_behavior="none"
            )

    def keep_plan(self, which: int) -> None:
        """What was planned is called off."""
        with self._act(f"keeps the plan of subscription {which}"):
            self._release(self._one(which))

    def _release(self, subscription: Object) -> None:
        """The portal releases a schedule before anything else is chosen."""
        if subscription.get("schedule"):
            self.stripe.post(f"subscription_schedules/{subscription['schedule']}/release")

    def cancel(self, which: int, how: str) -> None:
        """now, prorated (the credit waits for an invoice), invoiced, at the period's end; or not at all: resume."""
        with self._act(f"cancels subscription {which}: {how}"):
            subscription = self._one(which)
            path = f"subscriptions/{subscription['id']}"
            self.refundable = None
            self._release(subscription)
            if how in ("period end", "resume"):
                self.stripe.post(path, cancel_at_period_end=how == "period end")
            else:
                self.stripe.delete(path, prorate=how != "now", invoice_now=how == "invoiced")

    def _one(self, which: int) -> Object:
        found = self.subscriptions()
        if not found:
            raise Refused("there is no subscription")
        return found[which % len(found)]

    def use_card(self, *, empty: bool) -> None:
        """For what Stripe takes by itself. With one that works, what is open is paid."""
        with self._act(f"puts in {'an empty' if empty else 'a good'} card"):
            for customer in list(self.stripe.world.store.all("customer")):
                card = self.stripe.post(
                    f"payment_methods/{EMPTY_CARD if empty else CARD}/attach", customer=customer["id"]
                )["id"]
                settings = {"default_payment_method": card}
                self.stripe.post(f"customers/{customer['id']}", invoice_settings=settings)
                for subscription in self.subscriptions():
                    if subscription["customer"] == customer["id"]:
                        self.stripe.post(f"subscriptions/{subscription['id']}", default_payment_method=card)
            if not empty:
                for invoice in list(self.stripe.world.store.all("invoice")):
                    if invoice["status"] == "open":
                        self.stripe.post(f"invoices/{invoice['id']}/pay")

    # Using

    def spend(self, part: Fraction = Fraction(1)) -> None:
        with self._act(f"spends {part} of all"):
            amount = int(self._credits()[0] * part)
            if amount <= 0:
                raise Refused("there is nothing to spend")
            key = f"spend-{len(self.acts)}"
            self.project.shop.app.execute(
                "select billing.spend_credits(%s, %s, %s)", [self.project.account, amount, key]
            )
            self.spent += amount

    def overspend(self, part: Fraction = Fraction(1)) -> None:
        """All that there is, and as much as the best plan lets it owe, whatever it owes already; or a part of that."""
        with self._act(f"spends all, and {part} of the most that may be owed"):
            balance, _ = self._credits()
            amount = max(balance, 0) + int(self.prices.overage_limit * part)
            call(self.project.shop.app, "spend_credits", amount=amount, **self._key())
            self.spent += amount

    def hold_work(self, part: Fraction) -> None:
        with self._act(f"holds {part} of all for work"):
            amount = int(self._credits()[0] * part)
            if amount <= 0:
                raise Refused("there is nothing to hold")
            held = call(
                self.project.shop.app, "hold_work", operation="job", quantities=Jsonb({"units": amount}),
                expires_in="300 days", **self._key(),
            )  # fmt: skip
            self.holds.append((held["id"], amount))

    def settle_work(self, which: int, times: Fraction, on_excess: str) -> None:
        """The work used so much of what was held, or more."""
        with self._act(f"settles work {which}, which used {times} of its hold, {on_excess}"):
            if not self.holds:
                raise Refused("nothing is held")
            hold, amount = self.holds[which % len(self.holds)]
            charge = call(
                self.project.shop.app, "settle_work", hold_id=hold, usage=Jsonb({"units": int(amount * times)}),
                on_excess=on_excess, idempotency_key=self._key()["idempotency_key"],
            )  # fmt: skip
            self.holds.remove((hold, amount))
            self.spent += charge["charged"]
            self.excess += max(charge["charged"] - amount, 0)

    def _key(self) -> dict[str, Any]:
        return {"account_id": self.project.account, "idempotency_key": f"act-{len(self.acts)}"}

    def sign_up_again(self) -> None:
        """Another account, with another spelling of the address."""
        with self._act("signs up again"):
            user = create_user(self.project.shop.database, f"Buy.er+{len(self.others)}@googlemail.com")
            self.others.append(account_of(self.project.shop.app, user))

    def have_overage_refunded(self) -> None:
        """The merchant returns what was paid for overage, and nothing else ends."""
        with self._act("has the overage refunded"):
            paid = [
                invoice["id"]
                for invoice in self.stripe.world.store.all("invoice")
                if OVERAGE in invoice["metadata"] and invoice["status"] == "paid"
            ]
            charges = [
                charge
                for intent in self.stripe.world.store.all("payment_intent")
                if intent.get("_invoice") in paid
                for charge in self.stripe.world.store.all("charge")
                if charge["id"] == intent["latest_charge"] and not charge["refunded"]
            ]
            if not charges:
                raise Refused("no overage was paid")
            self.stripe.post("refunds", charge=charges[-1]["id"])

    def wait(self, seconds: int) -> None:
        """Time passes, and is told of at least once a month."""
        with self._act(f"waits {seconds / DAY:.2f} days"):
            self.refundable = None
            while seconds > 0:
                self.stripe.wait(min(seconds, LONGEST_WAIT))
                self._tell()
                seconds -= LONGEST_WAIT

    def be_refunded(self, part: Fraction = Fraction(1)) -> None:
        """The merchant returns the payment that was just made, and ends what it paid for."""
        with self._act(f"has {part} of the last payment refunded"):
            charge = self.refundable
            if charge is None:
                raise Refused("nothing was just paid")
            self.refundable = None
            self.stripe.post("refunds", charge=charge["id"], amount=int(charge["amount"] * part) or 1)
            for subscription in self.subscriptions():
                if subscription["customer"] == charge["customer"]:
                    self.stripe.delete(f"subscriptions/{subscription['id']}")

    def _paid_now(self) -> None:
        """Of what was bought just now the charge, if there was anything to pay."""
        charges = [c for c in self.stripe.world.store.all("charge") if c["status"] == "succeeded"]
        self.refundable = charges[-1] if charges and charges[-1]["created"] == self.stripe.now else None

    # What comes of it

    @contextmanager
    def _act(self, words: str) -> Iterator[None]:
        self.stripe.wait(60)
        try:
            yield
        except (Refused, psycopg.Error) as refusal:
            code = getattr(refusal, "sqlstate", None)
            if code is not None and not code.startswith("TB"):
                raise
            words = f"{words}: refused, {str(refusal).splitlines()[0]}"
        self._tell()
        self.acts.append(f"{words} → {self._state()}")
        self._check()

    def _tell(self) -> None:
        self._hear()
        while self.prices.overage_limit and self.project.bill(self.stripe):
            self._hear()

    def _hear(self) -> None:
        events = list(self.stripe.world.events.bodies())
        new, self.project.told = events[self.project.told :], len(events)
        self.stripe.wait(2)
        self.project.tell(self.stripe, new)

    def _credits(self) -> tuple[int, int]:
        """(available, carried)"""
        row = self.project.shop.app.execute(
            "select view.balance, balances.carried from public.credit_balance as view "
            "join billing.credit_balances as balances using (account_id) where account_id = %s",
            [self.project.account],
        ).fetchone()
        assert row is not None
        return row

    def _paid_for(self) -> PaidFor:
        return paid_for(self.stripe.world, self.stripe.now, self.prices.free, User(self.born, self.born))

    def _state(self) -> str:
        available, carried = self._credits()
        paid = self._paid_for()
        return (
            f"spent {self.spent}, has {available}, carried {carried}; card {paid.card}, refunded {paid.refunded}, "
            f"balance {paid.on_balance}, free {paid.free}"
        )

    def entitlement_discrepancies(self) -> list[Any]:
        """What the product's own proof says against payments."""
        return self.project.shop.app.execute("select * from billing.entitlement_discrepancies").fetchall()

    def _check(self) -> None:
        available, carried = self._credits()
        shortfall = self.project.shop.value(
            "select coalesce(sum(shortfall), 0)::bigint from billing.credit_revocations "
            "where account_id = %s and reason = 'Payment returned to the customer'",
            self.project.account,
        )
        elsewhere = self.project.shop.value(
            "select coalesce(sum(balance), 0)::bigint from billing.credit_balances where account_id = any (%s)",
            self.others,
        )
        exceeded = self._paid_for().exceeded(
            self.rate, self.spent + available + elsewhere, carried, shortfall
        )
        if -available > self.prices.overage_limit + self.excess:
            exceeded = (
                f"debt: {-available} credits are owed, {self.prices.overage_limit + self.excess} at most"
            )
        problems = self.project.shop.app.execute("select * from billing.ledger_discrepancies").fetchall()
        if exceeded or problems:
            story = "\n".join(f"    {act}" for act in self.acts)
            raise Minted(f"{exceeded or problems}\n{self.prices}\n{story}")


@dataclass(frozen=True)
class Market:
    """Where buyers meet price lists: a database for each, with some functions broken if a test wants that."""

    databases: Databases
    template: str
    broken: tuple[tuple[str, str, str], ...] = ()

    @contextmanager
    def buyer(self, prices: PriceList, now: int, seed: int = 1) -> Iterator[Buyer]:
        stripe = WallClock(seed, now)
        offers = put_on_sale(stripe, prices)
        with (
            self.databases.copy(self.template) as database,
            opened(database, stripe.reader()) as shop,
            database.connect(admin=True) as admin,
        ):
            for function, text, instead in self.broken:
                break_function(admin, function, text, instead)
            shop.app.execute("update billing.settings set site_url = 'https://app.example'")
            project = Project(shop, admin, UUID(int=0), VERSION)
            project.set_clock(stripe.now)
            for rule in prices.free:
                project.give_for_free(rule)
            call(shop.app, "set_operation_price", operation="job", rates=Jsonb({"units": 1}))
            user = create_user(database, "Buyer@gmail.com")
            project.account = account_of(shop.app, user)
            buyer = Buyer(stripe, prices, offers, project, user, born=stripe.now)
            buyer._tell()
            yield buyer


def break_function(admin: psycopg.Connection[Any], function: str, text: str, instead: str) -> None:
    """Put a function in its place whose source has other words somewhere."""
    query = "select pg_get_functiondef(oid) from pg_proc where oid::regproc::text = %s"
    row = admin.execute(query, [f"billing.{function}"]).fetchone()
    assert row is not None, f"there is no billing.{function}"
    found = row[0].count(text)
    assert found == 1, f"billing.{function} has {found} times, not once: {text}"
    admin.execute(row[0].replace(text, instead))

"""An act of the business → what happens in the local Stripe and in the app. What Stripe refuses does not happen."""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any, LiteralString
from uuid import UUID

import psycopg

from simulator.business import Act, Customer
from simulator.oracle.credits import Spend
from simulator.shard import Shards
from simulator.shop import Refused, Shop
from simulator.site import Site
from stripe_local.store import Object

CARD, FAILING_CARD = "pm_card_visa", "pm_card_chargeCustomerFail"
OVER = ("canceled", "incomplete_expired")
RUNNING = ("active", "trialing", "past_due")
# For so long an adversary waits for credits to arrive.
PATIENCE_SECONDS = 0.3
# An adversary's acts after which the last payment is still the last act of the subscription.
_LEAVE_PAYMENT = {"spend_all", "get_refund", "dispute_last", "warn_of_last"}
_AVAILABLE: LiteralString = "select available from public.credit_balance where account_id = %s"
_SPEND: LiteralString = "select billing.spend_credits(%s, %s, %s)"


@dataclass
class Account:
    """A customer's account in the app. `spends`: what it spent, for the oracle; `spent`: what an adversary spent."""

    customer: Customer
    stripe_id: str
    account_id: UUID
    users: list[UUID]
    is_linked: bool = False
    spends: list[Spend] = field(default_factory=list[Spend])
    spent: int = 0
    # What an adversary has just paid for a subscription, and done nothing with it since.
    last_charge: str | None = None


def is_plan(price: Object) -> bool:
    """A price by time, and not by what was used."""
    return bool(price.get("recurring")) and price["recurring"].get("usage_type") != "metered"


class Actions:
    """Counts acts by their names, as `done` and `refused`."""

    def __init__(
        self, shop: Shop, site: Site, shards: Shards, done: Counter[str], refused: Counter[str]
    ) -> None:
        self._shop = shop
        self._site = site
        self._shards = shards
        self.accounts: dict[int, Account] = {}
        self._done = done
        self._refused = refused
        # Payments that the issuer warned of: the policy refunds them at a moment that depends on the workers.
        self._warned: set[str] = set()
        store = shop.world.store
        prices = [price for price in store.all("price") if price.get("active", True)]
        self.plans = [price for price in prices if is_plan(price)]
        self.packs = [p for p in prices if not p.get("recurring") and not p.get("custom_unit_amount")]
        self.chosen = [p for p in prices if p.get("custom_unit_amount")]

    def act(self, act: Act) -> None:
        """Do it at its time, which is now."""
        draw = Random(act.seed)  # noqa: S311 - a life, not a secret
        if act.what not in _LEAVE_PAYMENT and act.customer.number in self.accounts:
            self.accounts[act.customer.number].last_charge = None
        try:
            self._acts()[act.what](act.customer, draw)
            self._done[act.what] += 1
        except Refused:
            self._refused[act.what] += 1
        # Two states of one second cannot be distinguished without asking.
        self._shop.until(self._shop.now + 2)

    def _acts(self) -> dict[str, Callable[[Customer, Random], None]]:
        return {
            "join": self._join,
            "link": self._link,
            "subscribe": self._subscribe,
            "switch": self._switch,
            "seats": self._seats,
            "cancel": self._cancel,
            "keep": self._keep,
            "buy_pack": self._buy_pack,
            "refund": self._refund,
            "credit": self._credit,
            "discount": self._discount,
            "balance": self._balance,
            "warn": self._warn,
            "fail_card": self._fail_card,
            "mend_card": self._mend_card,
            "dispute": self._dispute,
            "decide": self._decide,
            "pause": self._pause,
            "resume": self._resume,
            "check_out": self._pay_full_price,
            "spend_all": self._spend_all,
            "get_refund": self._get_refund,
            "dispute_last": self._dispute_last,
            "warn_of_last": self._warn_of_last,
        }

    # Who is who

    def _join(self, customer: Customer, draw: Random) -> None:
        """A user signs up, or founds a team; the app makes the Stripe customer and links it."""
        made = self._shop.post(
            "customers",
            email=customer.email,
            payment_method=CARD,
            invoice_settings={"default_payment_method": CARD},
        )
        owner = self._site.sign_up(customer.email)
        users = [owner]
        if customer.is_team:
            name = f"Team {customer.number}"
            account_id = self._site.value(
                "select id from billing.accounts where owner_id = %s and name = %s", owner, name
            ) or self._site.value("select id from billing.create_team(%s, %s)", name, owner)
            for number in range(draw.choice([1, 2])):
                users.append(self._site.sign_up(f"member{number}.of.{customer.email}"))
                self._site.query("select billing.add_member(%s, %s)", account_id, users[-1])
        else:
            account_id = self._site.value("select billing.ensure_account(%s)", owner)
        self.accounts[customer.number] = Account(customer, made["id"], account_id, users)
        if not customer.links_after_seconds:
            self._link(customer, draw)

    def _link(self, customer: Customer, draw: Random) -> None:
        account = self.accounts[customer.number]
        self._site.query("select billing.link_customer(%s, %s)", account.account_id, account.stripe_id)
        account.is_linked = True

    def _own(self, customer: Customer, kind: str) -> list[Object]:
        return self._shards.of(kind, self._id(customer))

    def _id(self, customer: Customer) -> str:
        return self.accounts[customer.number].stripe_id

    def _one(self, customer: Customer, draw: Random, *statuses: str) -> Object:
        found = [s for s in self._own(customer, "subscription") if s["status"] in (statuses or RUNNING)]
        if not found:
            raise Refused("there is no such subscription")
        return draw.choice(found)

    def _items(self, subscription: Object) -> list[Object]:
        return [self._shop.world.store.get("subscription_item", each) for each in subscription["_items"]]

    def _change(self, draw: Random, subscription: Object, **changes: Any) -> None:
        behavior = draw.choice(["always_invoice", "always_invoice", "create_prorations", "none"])
        self._shop.post(f"subscriptions/{subscription['id']}", proration_behavior=behavior, **changes)

    # Plans

    def _subscribe(self, customer: Customer, draw: Random) -> None:
        if not self.plans:
            self._buy_pack(customer, draw)
            return
        if any(each["status"] not in OVER for each in self._own(customer, "subscription")):
            raise Refused("there is a subscription")
        plan = draw.choice(self.plans)
        quantity = draw.choice([2, 3, 5]) if customer.is_team else 1
        order: dict[str, Any] = {
            "customer": self._id(customer),
            "items": [{"price": plan["id"], "quantity": quantity}],
        }
        if draw.random() < 0.25:
            order["discounts"] = [{"coupon": self._coupon(draw)}]
        days = int(plan["metadata"].get("trial_days", "0"))
        if days and draw.random() < 0.5:
            order["trial_period_days"] = days
        if draw.random() < 0.5:
            self._check_out(order, draw)
        else:
            self._shop.post("subscriptions", **order)

    def _check_out(self, order: dict[str, Any], draw: Random) -> None:
        items = list(order["items"])
        if self.packs and draw.random() < 0.3:
            items.append({"price": draw.choice(self.packs)["id"], "quantity": 1})
        session: dict[str, Any] = {"mode": "subscription", "customer": order["customer"], "line_items": items}
        if "trial_period_days" in order:
            session["subscription_data"] = {"trial_period_days": order["trial_period_days"]}
        if "discounts" in order:
            session["discounts"] = order["discounts"]
        self._complete(session)

    def _complete(self, session: dict[str, Any], **given: Any) -> None:
        made = self._shop.post("checkout/sessions", success_url="https://app.example", **session)
        self._shop.control(
            "checkout_sessions/{identifier}/complete", made["id"], **({"payment_method": CARD} | given)
        )

    def _coupon(self, draw: Random) -> str:
        coupon: dict[str, Any] = draw.choice(
            [
                {"percent_off": 50, "duration": "forever"},
                {"percent_off": 100, "duration": "once"},
                {"percent_off": 25, "duration": "repeating", "duration_in_months": 2},
                {"amount_off": 300, "currency": "usd", "duration": "once"},
            ]
        )
        return self._shop.post("coupons", **coupon)["id"]

    def _switch(self, customer: Customer, draw: Random) -> None:
        """To another plan, perhaps of another interval."""
        subscription = self._one(customer, draw)
        item = self._items(subscription)[0]
        others = [plan for plan in self.plans if plan["id"] != item["price"]]
        if not others:
            raise Refused("there is no other plan")
        self._change(draw, subscription, items=[{"id": item["id"], "price": draw.choice(others)["id"]}])

    def _seats(self, customer: Customer, draw: Random) -> None:
        subscription = self._one(customer, draw)
        item = self._items(subscription)[0]
        self._change(draw, subscription, items=[{"id": item["id"], "quantity": draw.choice([1, 2, 3, 7])}])

    def _cancel(self, customer: Customer, draw: Random) -> None:
        path = f"subscriptions/{self._one(customer, draw)['id']}"
        kind = draw.choice(["now", "prorate", "prorate", "period end", "period end"])
        if kind == "now":
            self._shop.delete(path)
        elif kind == "prorate":
            self._shop.delete(path, prorate=True, invoice_now=True)
        else:
            self._shop.post(path, cancel_at_period_end=True)

    def _keep(self, customer: Customer, draw: Random) -> None:
        subscription = self._one(customer, draw)
        self._shop.post(f"subscriptions/{subscription['id']}", cancel_at_period_end=False)

    def _discount(self, customer: Customer, draw: Random) -> None:
        subscription = self._one(customer, draw)
        discounts = "" if draw.random() < 0.3 else [{"coupon": self._coupon(draw)}]
        self._shop.post(f"subscriptions/{subscription['id']}", discounts=discounts)

    def _pause(self, customer: Customer, draw: Random) -> None:
        subscription = self._one(customer, draw)
        path, kind = (
            f"subscriptions/{subscription['id']}",
            draw.choice(["subscription", "keep_as_draft", "void"]),
        )
        if kind == "subscription":
            self._shop.post(f"{path}/pause", type="subscription")
        else:
            self._shop.post(path, pause_collection={"behavior": kind})

    def _resume(self, customer: Customer, draw: Random) -> None:
        """All that is paused: nothing waits at a quiet moment."""
        for subscription in self._own(customer, "subscription"):
            if subscription["status"] == "paused":
                self._shop.post(f"subscriptions/{subscription['id']}/resume")
            if "pause_collection" in subscription and subscription["status"] not in OVER:
                self._shop.post(f"subscriptions/{subscription['id']}", pause_collection="")

    # Money

    def _buy_pack(self, customer: Customer, draw: Random) -> None:
        if not self.packs and not self.chosen:
            raise Refused("there is no pack")
        way = draw.choice(["checkout", "checkout", "invoice", "chosen", "bank"])
        session: dict[str, Any] = {"mode": "payment", "customer": self._id(customer)}
        if self.chosen and (way == "chosen" or not self.packs):
            session["line_items"] = [{"price": draw.choice(self.chosen)["id"], "quantity": 1}]
            self._complete(session, custom_amount=draw.choice([500, 1234, 5000]))
            return
        pack, quantity = draw.choice(self.packs)["id"], draw.choice([1, 1, 3])
        if way == "invoice":
            self._by_invoice(customer, pack, quantity)
            return
        session["line_items"] = [{"price": pack, "quantity": quantity}]
        if way != "bank":
            self._complete(session)
            return
        made = self._shop.post("checkout/sessions", success_url="https://app.example", **session)["id"]
        self._shop.control("checkout_sessions/{identifier}/complete", made, payment_method=CARD, delayed=True)
        self._shop.until(self._shop.now + 60)
        self._shop.control("checkout_sessions/{identifier}/settle", made)

    def _by_invoice(self, customer: Customer, pack: str, quantity: int) -> None:
        invoice = self._shop.post("invoices", customer=self._id(customer))["id"]
        order = {
            "customer": self._id(customer),
            "invoice": invoice,
            "pricing": {"price": pack},
            "quantity": quantity,
        }
        self._shop.post("invoiceitems", **order)
        if self._shop.post(f"invoices/{invoice}/finalize")["status"] == "open":
            self._shop.post(f"invoices/{invoice}/pay")

    def _charge(self, customer: Customer, draw: Random) -> Object:
        """A payment that was neither refunded nor disputed."""
        charges = [
            charge
            for charge in self._own(customer, "charge")
            if charge["status"] == "succeeded"
            and not charge["refunded"]
            and not charge["disputed"]
            and charge["payment_intent"] not in self._warned
        ]
        if not charges:
            raise Refused("there is no such payment")
        return draw.choice(charges)

    def _refund(self, customer: Customer, draw: Random) -> None:
        charge = self._charge(customer, draw)
        left = charge["amount"] - charge["amount_refunded"]
        amount = draw.choice([left, max(1, left // 2), max(1, left // 3)])
        refund = self._shop.post("refunds", charge=charge["id"], amount=amount)["id"]
        if draw.random() < 0.15:
            self._shop.until(self._shop.now + 60)
            self._shop.control("refunds/{identifier}/settle", refund, succeeds=False)

    def _credit(self, customer: Customer, draw: Random) -> None:
        find = self._shop.world.store.find
        warned = {(find("payment_intent", intent) or {}).get("_invoice") for intent in self._warned}
        paid = [
            invoice
            for invoice in self._own(customer, "invoice")
            if invoice["status"] == "paid" and invoice["total"] > 0 and invoice["id"] not in warned
        ]
        if not paid:
            raise Refused("there is no invoice to credit")
        invoice = draw.choice(paid)
        amount = max(1, invoice["total"] // draw.choice([1, 2, 3]))
        way = draw.choice(["credit_amount", "out_of_band_amount", "refund_amount"])
        self._shop.post("credit_notes", invoice=invoice["id"], amount=amount, **{way: amount})

    def _balance(self, customer: Customer, draw: Random) -> None:
        """What the business owes the customer, or is owed, comes off or on top of later invoices."""
        amount = draw.choice([-2500, -900, 300])
        self._shop.post(f"customers/{self._id(customer)}/balance_transactions", amount=amount, currency="usd")

    def _warn(self, customer: Customer, draw: Random) -> None:
        charge = self._charge(customer, draw)
        self._warned.add(charge["payment_intent"])
        self._shop.control("charges/{identifier}/early_fraud_warning", charge["id"])

    def _dispute(self, customer: Customer, draw: Random) -> None:
        charge = self._charge(customer, draw)
        self._shop.control("charges/{identifier}/dispute", charge["id"])

    def _decide(self, customer: Customer, draw: Random) -> None:
        for dispute in self._own(customer, "dispute"):
            if dispute["status"] not in ("won", "lost"):
                status = draw.choice(["won", "lost"])
                self._shop.control("disputes/{identifier}/decide", dispute["id"], status=status)

    def _fail_card(self, customer: Customer, draw: Random) -> None:
        self._take_card(customer, FAILING_CARD)

    def _mend_card(self, customer: Customer, draw: Random) -> None:
        """A card that works, and what is open is paid."""
        self._take_card(customer, CARD)
        for invoice in [i["id"] for i in self._own(customer, "invoice") if i["status"] == "open"]:
            self._shop.post(f"invoices/{invoice}/pay")

    def _take_card(self, customer: Customer, card: str) -> None:
        method = self._shop.post(f"payment_methods/{card}/attach", customer=self._id(customer))["id"]
        self._shop.post(
            f"customers/{self._id(customer)}", invoice_settings={"default_payment_method": method}
        )
        for subscription in self._own(customer, "subscription"):
            if subscription["status"] not in OVER:
                self._shop.post(f"subscriptions/{subscription['id']}", default_payment_method=method)

    # What an adversary does besides. Money is returned only of what was paid just now, and what it paid for ends with
    # it: a merchant who returns money for time that Stripe has credited already gives it away.

    def _pay_full_price(self, customer: Customer, draw: Random) -> None:
        if any(each["status"] not in OVER for each in self._own(customer, "subscription")):
            raise Refused("there is a subscription")
        if not self.plans:
            raise Refused("there is no plan")
        plan = draw.choice(self.plans)
        order: dict[str, Any] = {
            "customer": self._id(customer),
            "items": [{"price": plan["id"], "quantity": draw.choice([1, 1, 3])}],
        }
        days = int(plan["metadata"].get("trial_days", "0"))
        if days and draw.random() < 0.3:
            order["trial_period_days"] = days
        self._shop.post("subscriptions", **order)
        paid = [each for each in self._own(customer, "charge") if each["status"] == "succeeded"]
        if paid and paid[-1]["created"] == self._shop.now:
            self.accounts[customer.number].last_charge = paid[-1]["id"]

    def _spend_all(self, customer: Customer, draw: Random) -> None:
        account = self.accounts[customer.number]
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (amount := self._site.value(_AVAILABLE, account.account_id) or 0) <= 0:
            if time.monotonic() > deadline:
                raise Refused("there is nothing to spend")
            time.sleep(0.02)
        try:
            self._site.query(_SPEND, account.account_id, amount, f"{customer.number}-{self._shop.now}-all")
        except psycopg.Error as error:
            if not (error.sqlstate or "").startswith("TB"):
                raise
            raise Refused("the credits are no longer there") from error
        account.spent += amount

    def _return_last(self, customer: Customer, draw: Random) -> Object:
        """The last payment, which is made now if there was none; its subscription ends."""
        account = self.accounts[customer.number]
        if account.last_charge is None:
            self._end_all(customer)
            self._pay_full_price(customer, draw)
        last, account.last_charge = account.last_charge, None
        charges = [each for each in self._own(customer, "charge") if each["status"] == "succeeded"]
        if not charges or charges[-1]["id"] != last:
            raise Refused("nothing was just paid")
        self._end_all(customer)
        return charges[-1]

    def _end_all(self, customer: Customer) -> None:
        for subscription in self._own(customer, "subscription"):
            if subscription["status"] not in OVER:
                self._shop.delete(f"subscriptions/{subscription['id']}")

    def _get_refund(self, customer: Customer, draw: Random) -> None:
        charge = self._return_last(customer, draw)
        self._shop.post("refunds", charge=charge["id"], amount=charge["amount"] // draw.choice([1, 2]))

    def _dispute_last(self, customer: Customer, draw: Random) -> None:
        self._shop.control("charges/{identifier}/dispute", self._return_last(customer, draw)["id"])

    def _warn_of_last(self, customer: Customer, draw: Random) -> None:
        charge = self._return_last(customer, draw)
        self._warned.add(charge["payment_intent"])
        self._shop.control("charges/{identifier}/early_fraud_warning", charge["id"])

"""A shop with customers on Stripe, by Stripe's own API: for `till demo` and `till trigger`.

Test clocks move the time, and test payment methods decide outcomes. Only what Stripe leaves to a browser (paying a
Checkout Session) or to chance (a repeated event) uses the local Stripe's control endpoints.
"""

import time
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Any, Self
from uuid import UUID

import httpx
import psycopg
import stripe
from stripe.params import CustomerCreateParams

from cli.output import CliError
from devstack.tokens import find_or_create_user

SETTLE_SECONDS = 30
POLL_SECONDS = 0.05
_FIND_QUEUED = "select count(*) from billing.stripe_events where status = 'queued'"


@dataclass(frozen=True, slots=True)
class Buyer:
    """A user of the app, the account and the Stripe customer."""

    user_id: UUID
    account_id: UUID
    customer_id: str


class Shop:
    """Sells one plan. For a local stack: it signs users up in `auth.users`."""

    def __init__(self, settings: dict[str, str]) -> None:
        self._settings = settings
        self._http = stripe.RequestsClient(timeout=SETTLE_SECONDS)
        self.stripe = stripe.StripeClient(
            settings["STRIPE_API_KEY"],
            base_addresses={"api": settings["STRIPE_API_BASE"]},
            max_network_retries=2,
            http_client=self._http,
        ).v1
        self._control = httpx.Client(
            base_url=f"{settings['STRIPE_API_BASE']}/_control", timeout=SETTLE_SECONDS + 5
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()
        self._control.close()

    def connect(self) -> psycopg.Connection[Any]:
        """As the app's own server: role `postgres`, not a superuser."""
        return psycopg.connect(self._settings["POSTGRES_URL"], autocommit=True, prepare_threshold=None)

    def plan(
        self, name: str, *, unit_amount: int, initial_credits: int, monthly_credits: int
    ) -> stripe.Price:
        """A monthly plan with credits in the price's metadata; `unit_amount` in cents."""
        product = self.stripe.products.create({"name": name})
        return self.stripe.prices.create(
            {
                "product": product.id,
                "currency": "usd",
                "unit_amount": unit_amount,
                "recurring": {"interval": "month"},
                "lookup_key": name.lower().replace(" ", "_"),
                "transfer_lookup_key": True,
                "metadata": {
                    "initial_credits": str(initial_credits),
                    "monthly_credits": str(monthly_credits),
                },
            }
        )

    def pack(self, name: str, *, unit_amount: int, pack_credits: int) -> stripe.Price:
        """A one-time price with credits in its metadata; `unit_amount` in cents."""
        product = self.stripe.products.create({"name": name})
        return self.stripe.prices.create(
            {
                "product": product.id,
                "currency": "usd",
                "unit_amount": unit_amount,
                "metadata": {"pack_credits": str(pack_credits)},
            }
        )

    def sign_up(self, email: str, *, clock: str | None = None) -> Buyer:
        """A user, and a Stripe customer that we link to the user's account, not by anything that a payer can edit."""
        user_id = find_or_create_user(self._settings["DATABASE_URL"], email)
        with self.connect() as conn:
            found = conn.execute("select billing.ensure_account(user_id => %s)", [user_id]).fetchone()
            assert found is not None
            account_id: UUID = found[0]
            linked = conn.execute(
                "select stripe_customer_id from billing.customers "
                "where account_id = %s and deleted_at is null and duplicate_of is null",
                [account_id],
            ).fetchone()
            if linked is not None and self._knows(linked[0]):
                return Buyer(user_id, account_id, linked[0])
            if linked is not None:
                conn.execute(
                    "update billing.customers set deleted_at = now() where stripe_customer_id = %s",
                    [linked[0]],
                )
            details: CustomerCreateParams = {"email": email}
            if clock is not None:
                details["test_clock"] = clock
            customer = self.stripe.customers.create(details)
            conn.execute(
                "select billing.link_customer(account_id => %s, stripe_customer_id => %s)",
                [account_id, customer.id],
            )
        return Buyer(user_id, account_id, customer.id)

    def _knows(self, customer_id: str) -> bool:
        # The local Stripe loses its data when it ends; the database does not.
        try:
            return not getattr(self.stripe.customers.retrieve(customer_id), "deleted", False)
        except stripe.InvalidRequestError:
            return False

    def pay_checkout(self, buyer: Buyer, price: stripe.Price, *, payment_method: str = "pm_card_visa") -> str:
        """A Checkout Session for a plan, paid on its page; returns the subscription's id."""
        session = self.stripe.checkout.sessions.create(
            {
                "mode": "subscription",
                "customer": buyer.customer_id,
                "line_items": [{"price": price.id, "quantity": 1}],
                "success_url": "https://example.com/billing/success?session_id={CHECKOUT_SESSION_ID}",
            }
        )
        self.control("post", f"/checkout_sessions/{session.id}/complete", {"payment_method": payment_method})
        subscription = self.stripe.checkout.sessions.retrieve(session.id).subscription
        assert isinstance(subscription, str)
        return subscription

    def buy_pack(self, buyer: Buyer, price: stripe.Price) -> str:
        """A Checkout Session for a pack, paid on its page; returns the charge's id."""
        session = self.stripe.checkout.sessions.create(
            {
                "mode": "payment",
                "customer": buyer.customer_id,
                "line_items": [{"price": price.id, "quantity": 1}],
                "success_url": "https://example.com/billing/success",
            }
        )
        self.control("post", f"/checkout_sessions/{session.id}/complete", {"payment_method": "pm_card_visa"})
        return self.newest_charge(buyer)

    def newest_charge(self, buyer: Buyer) -> str:
        """The id of a customer's newest charge."""
        return self.stripe.charges.list({"customer": buyer.customer_id, "limit": 1}).data[0].id

    def subscribe(
        self, buyer: Buyer, price: stripe.Price, *, payment_method: str = "pm_card_visa"
    ) -> stripe.Subscription:
        """A subscription created with the API; its first invoice is charged at once, and may fail."""
        attached = self.stripe.payment_methods.attach(payment_method, {"customer": buyer.customer_id})
        return self.stripe.subscriptions.create(
            {
                "customer": buyer.customer_id,
                "items": [{"price": price.id}],
                "default_payment_method": attached.id,
                "payment_behavior": "allow_incomplete",
            }
        )

    def pay_once(self, buyer: Buyer, amount: int, *, payment_method: str = "pm_card_visa") -> str:
        """A single payment, `amount` in cents; returns the charge's id."""
        intent = self.stripe.payment_intents.create(
            {
                "amount": amount,
                "currency": "usd",
                "customer": buyer.customer_id,
                "payment_method": payment_method,
                "confirm": True,
                "off_session": True,
            }
        )
        assert isinstance(intent.latest_charge, str)
        return intent.latest_charge

    def clock(self, now: datetime) -> str:
        """A test clock at `now`."""
        return self.stripe.test_helpers.test_clocks.create({"frozen_time": int(now.timestamp())}).id

    def advance(self, clock: str, to: datetime) -> None:
        """Move a test clock, and billing time in the database with it."""
        self.stripe.test_helpers.test_clocks.advance(clock, {"frozen_time": int(to.timestamp())})
        deadline = time.monotonic() + SETTLE_SECONDS
        while self.stripe.test_helpers.test_clocks.retrieve(clock).status != "ready":
            _wait_or_give_up(deadline, "the test clock did not finish in time")
        with psycopg.connect(self._settings["DATABASE_URL"], autocommit=True) as admin:
            admin.execute("update billing.clock set ahead_by = greatest(%s - now(), interval '0')", [to])

    def control(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """Call a control endpoint of the local Stripe."""
        response = self._control.request(method, path, json=body)
        if response.is_error:
            raise CliError(f"the local Stripe refused {path}: {response.text.strip()}")
        return response.json()

    def settle(self, timeout_seconds: float = SETTLE_SECONDS) -> None:
        """Return once every event is delivered and the worker has nothing left to do."""
        deadline = time.monotonic() + timeout_seconds
        self.control("post", "/wait_idle", {"timeout_s": SETTLE_SECONDS})
        with self.connect() as conn:
            while conn.execute(_FIND_QUEUED).fetchone() != (0,):
                _wait_or_give_up(
                    deadline, "the worker did not empty the queue in time: check that it is running"
                )


def _wait_or_give_up(deadline: float, message: str) -> None:
    if time.monotonic() > deadline:
        raise CliError(message)
    time.sleep(POLL_SECONDS)

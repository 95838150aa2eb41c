"""What one emulator is: objects, settings, faults, the time, and the request that is being answered."""

import time
from dataclasses import dataclass, field

from stripe_local.faults import Faults
from stripe_local.store import Store

ACCOUNT_COUNTRY = "US"
ACCOUNT_CURRENCY = "usd"
# The same whenever it is started: a database that outlives it belongs to one account.
ACCOUNT_ID = "acct_1TillbaseLocal00"
ACCOUNT_NAME = "Local Stripe"


@dataclass
class Settings:
    """What is set in Stripe's Dashboard rather than over its API."""

    # Days after a failed renewal at which the payment is tried again, then what becomes of the subscription.
    retry_days: list[float] = field(default_factory=lambda: [3.0, 5.0, 7.0])
    after_retries: str = "canceled"
    # How long a bank debit takes of a customer who is on no test clock.
    debit_seconds: float = 3.0
    # Radar's rule "Block if :risk_level: = 'highest'", on in a new account.
    block_highest_risk: bool = True
    # Restricted keys that may do less than everything: key → resource → "none" | "read" | "write".
    restricted_keys: dict[str, dict[str, str]] = field(default_factory=dict[str, dict[str, str]])


@dataclass
class RequestInfo:
    """The request that is being answered; the events it causes name it."""

    identifier: str | None = None
    idempotency_key: str | None = None


class State:
    """All that `render`, older versions and webhooks need to know. `World` adds what may happen to it."""

    def __init__(self, seed: int | None = None) -> None:
        self.store = Store(seed)
        self.settings = Settings()
        # Events without a request.
        self.automatic = RequestInfo()
        self.request = self.automatic
        self.faults = Faults()
        self.base_url = "http://127.0.0.1"
        self.account_id = ACCOUNT_ID
        # A copy that only works something out: it emits no event, and its time may be moved.
        self.muted = False
        self.pretended_time: int | None = None

    def wall_time(self) -> int:
        return int(time.time()) if self.pretended_time is None else self.pretended_time

    def now(self, test_clock: str | None = None) -> int:
        """Seconds since 1970, by the test clock where the object hangs on one."""
        if test_clock:
            clock = self.store.find("test_helpers.test_clock", test_clock)
            if clock is not None:
                return clock["_now"]
        return self.wall_time()

    def clock_of(self, customer_id: str | None) -> str | None:
        customer = self.store.find("customer", customer_id)
        return customer.get("test_clock") if customer else None

"""How much waits for a person, by kind → the badges of the menu, and a list with the next step of each."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of what waits: the column of admin_attention, the page of the menu, and where to do what."""

    column: str
    menu: str
    to: str
    one: str
    many: str
    step: str


KINDS = (
    Kind("disputes_to_answer", "/disputes", "/disputes?show=open", "dispute needs a response",
         "disputes need a response", "Submit evidence or accept, before the bank's deadline."),
    Kind("open_warnings", "/fraud", "/fraud", "early fraud warning is open", "early fraud warnings are open",
         "Resolve, dismiss or refund."),
    Kind("open_reviews", "/fraud", "/fraud/reviews", "Radar review is open", "Radar reviews are open",
         "Approve or refund in Stripe."),
    Kind("credits_under_review", "/fraud", "/fraud/held", "grant of credits is under review",
         "grants of credits are under review", "Approve or refuse."),
    Kind("dead_events", "/inbox", "/inbox?status=dead", "event could not be applied",
         "events could not be applied", "Read the reason, mend it, and retry."),
    Kind("parked_events", "/inbox", "/inbox?status=parked", "event waits for its customer to be linked",
         "events wait for their customers to be linked", "Link or dismiss the customers."),
    Kind("waiting_events", "/inbox", "/inbox?status=waiting", "event waits for data from Stripe",
         "events wait for data from Stripe", "Check the worker's STRIPE_API_KEY and status.stripe.com."),
    Kind("dead_notifications", "/notifications", "/notifications?status=dead",
         "notification could not be delivered", "notifications could not be delivered",
         "Correct the channel, and retry."),
    Kind("discrepancies", "/worker", "/worker#proof", "discrepancy of the ledger was found",
         "discrepancies of the ledger were found", "Open the account and see what differs."),
)  # fmt: skip


def waiting_kinds(waiting: Mapping[str, Any]) -> Iterator[tuple[Kind, int]]:
    """The kinds of which something waits, and how much."""
    for kind in KINDS:
        if waiting[kind.column]:
            yield kind, waiting[kind.column]


def badges(waiting: Mapping[str, Any]) -> dict[str, int]:
    """How much waits behind each page of the menu."""
    counts: dict[str, int] = {}
    for kind, number in waiting_kinds(waiting):
        counts[kind.menu] = counts.get(kind.menu, 0) + number
    return counts

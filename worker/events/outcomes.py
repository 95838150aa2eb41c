"""How an attempt at an event ended, as a value; `inbox.settle` is the one place that acts on it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Done:
    """Its effects are in this transaction."""


@dataclass(frozen=True, slots=True)
class Ignored:
    """Not for us, and why."""

    reason: str


@dataclass(frozen=True, slots=True)
class Parked:
    """Goes on by itself when what it waits for is here."""

    waiting_for: str
    reason: str


@dataclass(frozen=True, slots=True)
class Dead:
    """Needs a person; when it waits for something that arrives after all, it goes on by itself too."""

    reason: str
    waiting_for: str | None = None


@dataclass(frozen=True, slots=True)
class RetryLater:
    """Tried again after a delay. Excused attempts never count towards the dead letters."""

    delay_seconds: int
    reason: str
    excused: bool = False


@dataclass(frozen=True, slots=True)
class Fetch:
    """Cannot be decided before what it lacks was read from Stripe."""


@dataclass(frozen=True, slots=True)
class Refetch:
    """Only Stripe can tell whether the event or the row is later: read the object and apply that.

    They are of one second, or the event calls itself newer and tells what was so before. `kind` is Stripe's name of the
    object's kind: an id that its owner chose does not tell it.
    """

    stripe_id: str
    kind: str


Outcome = Done | Ignored | Parked | Dead | RetryLater | Fetch | Refetch

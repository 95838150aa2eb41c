"""The outcome of an attempt at an event, as a value; only `inbox.settle` acts on it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Done:
    """Its effects are in this transaction."""


@dataclass(frozen=True, slots=True)
class Ignored:
    """Not for this installation, with the reason."""

    reason: str


@dataclass(frozen=True, slots=True)
class Parked:
    """Retried automatically when what it waits for arrives."""

    waiting_for: str
    reason: str


@dataclass(frozen=True, slots=True)
class Dead:
    """Needs a person; if it waits for an id, its arrival requeues it too."""

    reason: str
    waiting_for: str | None = None


@dataclass(frozen=True, slots=True)
class RetryLater:
    """Retried after a delay. Excused attempts never count towards the dead letters."""

    delay_seconds: int
    reason: str
    excused: bool = False


@dataclass(frozen=True, slots=True)
class Fetch:
    """Cannot be decided before objects are read from Stripe."""


@dataclass(frozen=True, slots=True)
class Refetch:
    """Only Stripe can tell whether the event or the row is newer: read the object and apply that.

    Both have the same second, or the event has a newer time but contradicts known facts. `kind` is Stripe's name of
    the object's kind, because an id that the owner chose does not tell it.
    """

    stripe_id: str
    kind: str


Outcome = Done | Ignored | Parked | Dead | RetryLater | Fetch | Refetch

"""A Stripe that many customers share → the part of it that some of them have, in the shape that the oracle reads."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from stripe_local.store import Object
from stripe_local.world import World

# What belongs to no customer, and everybody is sold.
SHARED = ("price", "product")
# The objects that the oracle reads the history of.
TOLD = {"price", "subscription", "checkout.session", "payment_intent", "refund", "dispute"}


class Shards:
    """Objects and events of a Stripe by customer. Reads on from where it stopped."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._objects: dict[str, dict[str, list[Object]]] = defaultdict(lambda: defaultdict(list))
        self._seen: dict[str, int] = defaultdict(int)
        self._events: dict[str, list[Any]] = defaultdict(list)
        self.told = 0
        announce = world.webhooks.announce

        def note(event_id: str, event: Object) -> None:
            self.told += 1
            stored: Object = event["data"]["object"]
            if stored["object"] in TOLD:
                self._events[self.customer_of(stored)].append(event)
            announce(event_id, event)

        world.webhooks.announce = note

    def customer_of(self, stored: Object) -> str:
        """A customer's id; "" of what is everybody's."""
        if stored["object"] in SHARED:
            return ""
        if stored["object"] == "customer":
            return stored["id"]
        if stored.get("customer"):
            return stored["customer"]
        charge = self.world.store.find("charge", stored.get("charge"))
        return "" if charge is None else charge.get("customer") or ""

    def of(self, kind: str, customer: str) -> list[Object]:
        """A customer's objects of a kind, the oldest first."""
        found = self._objects[kind]
        for stored in islice(self.world.store.all(kind), self._seen[kind], None):
            self._seen[kind] += 1
            found[self.customer_of(stored)].append(stored)
        return found[customer]

    def shard(self, customers: Iterable[str]) -> "Shard":
        return Shard(self, tuple(customers))

    def events_of(self, customer: str) -> list[Any]:
        return self._events[customer]


class Shard:
    """Looks like a World of those customers alone."""

    def __init__(self, shards: Shards, customers: tuple[str, ...]) -> None:
        self._shards = shards
        self._customers = customers
        self.events = self
        self.store = self

    def bodies(self) -> Iterator[Any]:
        for customer in ("", *self._customers):
            yield from self._shards.events_of(customer)

    def all(self, kind: str) -> Iterator[Object]:
        for customer in ("", *self._customers):
            yield from self._shards.of(kind, customer)

    def find(self, kind: str, identifier: str | None) -> Object | None:
        return self._shards.world.store.find(kind, identifier)

    def get(self, kind: str, identifier: str) -> Object:
        return self._shards.world.store.get(kind, identifier)

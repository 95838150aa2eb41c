"""Something happened → an event: kept for 30 days, handed to the webhooks."""

import json
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from stripe_local.api_spec import VERSION
from stripe_local.store import Object

if TYPE_CHECKING:
    from stripe_local.world import World

RETENTION_SECONDS = 30 * 86_400
BUNDLE = 64


class Archive:
    """Texts by id, the older ones compressed in bundles: a thousand subscriptions make 100,000 events a year."""

    def __init__(self) -> None:
        self._recent: dict[str, str] = {}
        self._bundles: list[bytes] = []
        # id → (bundle, line in it)
        self._where: dict[str, tuple[int, int]] = {}
        self._unpacked: tuple[int, list[str]] = (-1, [])

    def put(self, identifier: str, text: str) -> None:
        """`text` is one line."""
        self._recent[identifier] = text
        if len(self._recent) >= 2 * BUNDLE:
            oldest = list(self._recent)[:BUNDLE]
            for line, older in enumerate(oldest):
                self._where[older] = (len(self._bundles), line)
            lines = "\n".join(self._recent.pop(older) for older in oldest)
            self._bundles.append(zlib.compress(lines.encode(), 1))

    def get(self, identifier: str) -> str | None:
        if identifier in self._recent:
            return self._recent[identifier]
        if identifier not in self._where:
            return None
        bundle, line = self._where[identifier]
        if self._unpacked[0] != bundle:
            self._unpacked = (bundle, zlib.decompress(self._bundles[bundle]).decode().split("\n"))
        return self._unpacked[1][line]


class EventLog:
    """All events, oldest first."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._bodies = Archive()
        # id → (type, created)
        self._index: dict[str, tuple[str, int]] = {}

    def emit(self, event_type: str, rendered: Object, previous: Object | None = None) -> str:
        """`created` is the wall clock's time also for objects on a test clock, as it is at Stripe."""
        if self._world.muted:
            return ""
        data: Object = {"object": rendered}
        if previous is not None:
            data["previous_attributes"] = previous
        request = self._world.request
        event: Object = {
            "id": self._world.store.new_id("event"),
            "object": "event",
            "api_version": VERSION,
            "created": self._world.wall_time(),
            "data": data,
            "livemode": False,
            "pending_webhooks": 0,
            "request": {"id": request.identifier, "idempotency_key": request.idempotency_key},
            "type": event_type,
        }
        return self.keep(event)

    def keep(self, event: Object, *, announce: bool = True) -> str:
        """Store an event and send it to whoever listens."""
        identifier: str = event["id"]
        self._bodies.put(identifier, json.dumps(event))
        self._index[identifier] = (event["type"], event["created"])
        if announce:
            self._world.webhooks.announce(identifier, event)
        return identifier

    def get(self, identifier: str) -> Object | None:
        """The event as it is sent, with the number of deliveries that are still open."""
        body = self._bodies.get(identifier)
        if body is None:
            return None
        event: Object = json.loads(body)
        return event | {"pending_webhooks": self._world.webhooks.open_deliveries(identifier)}

    def newest_first(self) -> Iterator[tuple[str, str, int]]:
        """(id, type, created) of the events that the API still lists."""
        oldest = self._world.wall_time() - RETENTION_SECONDS
        for identifier, (event_type, created) in reversed(self._index.items()):
            if created >= oldest:
                yield identifier, event_type, created

    def count(self) -> int:
        return len(self._index)

    def bodies(self) -> Iterator[Any]:
        """Every event, oldest first."""
        for identifier in list(self._index):
            yield self.get(identifier)

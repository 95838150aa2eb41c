"""A change → an event: kept for 30 days, passed to the webhooks."""

import json
from collections.abc import Iterator
from typing import Any

from stripe_local.api_spec import VERSION
from stripe_local.archive import Archive
from stripe_local.state import State
from stripe_local.store import Object
from stripe_local.webhooks import Webhooks

RETENTION_SECONDS = 30 * 86_400


class EventLog:
    """All events, oldest first."""

    def __init__(self, state: State, bodies: Archive, webhooks: Webhooks) -> None:
        self._state = state
        self._bodies = bodies
        self._webhooks = webhooks
        # id → (type, created)
        self._index: dict[str, tuple[str, int]] = {}

    def emit(self, event_type: str, rendered: Object, previous: Object | None = None) -> str:
        """`created` is the wall clock's time also for objects on a test clock, as it is at Stripe."""
        if self._state.muted:
            return ""
        data: Object = {"object": rendered}
        if previous is not None:
            data["previous_attributes"] = previous
        request = self._state.request
        event: Object = {
            "id": self._state.store.new_id("event"),
            "object": "event",
            "api_version": VERSION,
            "created": self._state.wall_time(),
            "data": data,
            "livemode": False,
            "pending_webhooks": 0,
            "request": {"id": request.identifier, "idempotency_key": request.idempotency_key},
            "type": event_type,
        }
        return self.keep(event)

    def keep(self, event: Object, *, announce: bool = True) -> str:
        """Store an event and pass it on to the webhooks."""
        identifier: str = event["id"]
        self._bodies.put(identifier, json.dumps(event))
        self._index[identifier] = (event["type"], event["created"])
        if announce:
            self._webhooks.announce(identifier, event)
        return identifier

    def get(self, identifier: str) -> Object | None:
        """The event as it is sent, with the number of deliveries that are still open."""
        return self._webhooks.event(identifier)

    def newest_first(self) -> Iterator[tuple[str, str, int]]:
        """(id, type, created) of the events that the API still lists."""
        oldest = self._state.wall_time() - RETENTION_SECONDS
        for identifier, (event_type, created) in reversed(self._index.items()):
            if created >= oldest:
                yield identifier, event_type, created

    def count(self) -> int:
        return len(self._index)

    def bodies(self) -> Iterator[Any]:
        """Every event, oldest first."""
        for identifier in list(self._index):
            yield self.get(identifier)

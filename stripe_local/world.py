"""What happens in one emulator: changes to its state → events, deliveries and timers."""

import asyncio
import itertools
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager
from typing import Any

from stripe_local.archive import Archive
from stripe_local.clock import Timers
from stripe_local.errors import invalid
from stripe_local.events import EventLog
from stripe_local.render import render
from stripe_local.state import State
from stripe_local.store import Object
from stripe_local.values import is_hash
from stripe_local.webhooks import Webhooks


class World(State):
    """Handlers take it as their first argument and change it in one thread: no locks."""

    def __init__(self, seed: int | None = None) -> None:
        super().__init__(seed)
        self.timers = Timers()
        bodies = Archive()
        self.webhooks = Webhooks(self, bodies)
        self.events = EventLog(self, bodies, self.webhooks)
        self.counter = itertools.count(1)
        self._tasks: set[asyncio.Task[None]] = set()

    def scratch(self) -> "World":
        """A copy of all objects, to try something on."""
        copy = World()
        copy.store = self.store.copy()
        copy.settings, copy.base_url, copy.muted = self.settings, self.base_url, True
        copy.pretended_time = self.wall_time()
        return copy

    def background(self, work: Coroutine[Any, Any, None]) -> None:
        """Go on with this after the answer is out."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    @property
    def busy(self) -> bool:
        """Whether a clock is still advancing."""
        return bool(self._tasks)

    def emit(self, event_type: str, stored: Object, previous: Object | None = None) -> None:
        """An event about the object as it is now."""
        if not self.muted:
            self.events.emit(event_type, render(self, stored), previous)

    @contextmanager
    def updating(self, stored: Object, event_type: str) -> Generator[None]:
        """Emit `event_type` with previous_attributes if the block changed what the object shows.

        When the block fails, the object is what it was: blocks replace nested values, they don't change them.
        """
        original = dict(stored)
        before = {} if self.muted else render(self, stored)
        try:
            yield
        except Exception:
            stored.clear()
            stored.update(original)
            raise
        if self.muted:
            return
        after = render(self, stored)
        previous = differences(before, after)
        if previous:
            self.events.emit(event_type, after, previous)

    def schedule(self, test_clock: str | None, at: int, action: Callable[[], None]) -> None:
        """Run `action` when the clock reaches `at`. It must look whether it still applies."""
        self.timers.add(test_clock, at, action)


def differences(before: Object, after: Object) -> Object:
    """`previous_attributes`: the old value of each key that changed; inside hashes only what changed."""
    changed: Object = {}
    for key in before.keys() | after.keys():
        old, new = before.get(key), after.get(key)
        if old == new:
            continue
        if is_hash(old) and is_hash(new) and old.get("object") != "list":
            changed[key] = differences(old, new)
        elif is_hash(old) and is_hash(new):
            changed[key] = {"data": old["data"]}
        else:
            changed[key] = old
    return changed


def merge_metadata(stored: Object, given: Any) -> None:
    """Stripe merges: an empty value removes a key, an empty `metadata` removes all."""
    if given == "":
        stored["metadata"] = {}
    elif given is not None:
        merged = stored.get("metadata", {}) | given
        stored["metadata"] = {key: value for key, value in merged.items() if value != ""}


def put(stored: Object, params: dict[str, Any], *keys: str) -> None:
    """Take over what was given; an empty string unsets."""
    for key in keys:
        if key in params:
            if params[key] == "":
                stored.pop(key, None)
            else:
                stored[key] = params[key]


def positive(params: dict[str, Any], key: str, least: int = 0) -> None:
    """Refuse amounts below `least`."""
    value = params.get(key)
    if isinstance(value, int) and value < least:
        raise invalid(
            f"This value must be greater than or equal to {least}.", key, "parameter_invalid_integer"
        )

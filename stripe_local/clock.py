"""Timers: those of a test clock run when it is advanced, all others in real time."""

import heapq
import itertools
from collections.abc import Callable

Action = Callable[[], None]


class Timers:
    """A heap for each clock; None is real time."""

    def __init__(self) -> None:
        self._heaps: dict[str | None, list[tuple[int, int, Action]]] = {}
        self._order = itertools.count()
        # Called when a new timer in real time is set.
        self.on_change: Action = lambda: None

    def add(self, clock: str | None, at: int, action: Action) -> None:
        heapq.heappush(self._heaps.setdefault(clock, []), (at, next(self._order), action))
        if clock is None:
            self.on_change()

    def next_due(self, clock: str | None) -> int | None:
        """When the next timer of this clock is due, if there is one."""
        heap = self._heaps.get(clock)
        return heap[0][0] if heap else None

    def pop(self, clock: str | None) -> tuple[int, Action]:
        at, _, action = heapq.heappop(self._heaps[clock])
        return at, action

    def drop(self, clock: str) -> None:
        """Remove the timers of a deleted clock."""
        self._heaps.pop(clock, None)

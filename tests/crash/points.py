"""Where a process can be killed: before and after each thing that it asks of Postgres, Stripe or a mail server."""

import os
import re
import signal
import threading
from collections import Counter
from collections.abc import Collection

# Before a thing is after what went before it, which is a point itself. What changes something elsewhere has both.
_TWICE = re.compile(r"before (?!POST|DELETE|a )")


class Points:
    """Decides at each point whether the process dies there. Asked by proxies, from their threads.

    Each point that is met kills once, except those that are spared; with `only`, the nth meeting of one point kills,
    and nothing else does.
    """

    def __init__(self, only: tuple[str, int] | None = None) -> None:
        self.killed: list[str] = []
        self.met = Counter[str]()
        self._only = only
        self._spare = frozenset[str]()
        self._lock = threading.Lock()
        self._pid: int | None = None
        self._generation = 0

    @property
    def is_alone(self) -> bool:
        """Whether one kill is all."""
        return self._only is not None

    @property
    def generation(self) -> int:
        """Connections that were opened before the last kill belong to a dead process."""
        return self._generation

    def spare(self, points: Collection[str]) -> None:
        """Points that kill nothing."""
        self._spare = frozenset(points)

    def arm(self, pid: int) -> None:
        """A process runs."""
        with self._lock:
            self._pid = pid

    def disarm(self) -> None:
        """Nothing is killed from now on."""
        with self._lock:
            self._pid = None

    def is_over(self, generation: int) -> bool:
        return generation != self._generation

    def may_kill(self, point: str) -> bool:
        """Whether it is worth while to stop at a point."""
        if self._only:
            return self._only[0] == point
        return point not in self._spare and point not in self.killed and not _TWICE.match(point)

    def meet(self, point: str, generation: int) -> bool:
        """Whether the process is dead now, so that nothing more may pass."""
        with self._lock:
            if generation != self._generation:
                return True
            self.met[point] += 1
            if self._pid is None or not self.may_kill(point):
                return False
            if self._only and self.met[point] != self._only[1]:
                return False
            os.kill(self._pid, signal.SIGKILL)
            self._pid = None
            self._generation += 1
            self.killed.append(point)
            return True

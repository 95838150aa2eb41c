"""A database → a process that empties its queue at each request, up and connected before that."""

import subprocess
import sys
from types import TracebackType
from typing import Self


class Drainer:
    """`side` is `product` or `bare`; see bench.drain_process."""

    def __init__(self, url: str, side: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bench.drain_process", side, url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        self._expect("ready")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.__exit__(kind, error, trace)

    def go(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def wait(self) -> None:
        """Until the queue is empty."""
        self._expect("done")

    def _expect(self, word: str) -> None:
        assert self.process.stdout is not None
        said = self.process.stdout.readline().strip()
        assert said == word, f"{self.process.args} said {said!r}, not {word!r}"

"""Texts by id → the same texts in little memory."""

import zlib

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

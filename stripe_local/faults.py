"""Settings of POST /_control/faults → injected faults, by a seeded random generator."""

from random import Random
from typing import Any

from stripe_local.errors import malformed
from stripe_local.values import inside, is_hash

PROBABILITIES = ("duplicate", "drop", "corrupt_signature")
API_FAULTS = ("429", "500", "timeout")


class Faults:
    """No faults until `set` is called. Probabilities are from 0 to 1."""

    def __init__(self) -> None:
        self.set({})

    def set(self, given: dict[str, Any]) -> dict[str, Any]:
        """Replaces all settings; returns those in force."""
        unknown = given.keys() - {*PROBABILITIES, "reorder", "delay_ms", "api", "seed"}
        if unknown:
            raise malformed(f"Received unknown parameter: {min(unknown)}", min(unknown), "parameter_unknown")
        self.probabilities = {name: _probability(given.get(name, 0), name) for name in PROBABILITIES}
        # How many waiting events the next one is drawn from.
        self.reorder = int(_number(given.get("reorder", 0), "reorder"))
        self.delay_ms = _number(given.get("delay_ms", 0), "delay_ms")
        api: Any = inside(given, "api")
        if not is_hash(api):
            raise malformed("Invalid object", "api")
        self.api = {name: _probability(api.get(name, 0), f"api[{name}]") for name in API_FAULTS}
        self._random = Random(given.get("seed"))  # noqa: S311 - a die for tests
        return self.settings()

    def settings(self) -> dict[str, Any]:
        return {**self.probabilities, "reorder": self.reorder, "delay_ms": self.delay_ms, "api": self.api}

    def happens(self, name: str) -> bool:
        probability = self.probabilities[name]
        return probability > 0 and self._random.random() < probability

    def api_fault(self) -> str | None:
        """The fault of this request, if any."""
        for name, probability in self.api.items():
            if probability > 0 and self._random.random() < probability:
                return name
        return None

    def pick(self, waiting: int) -> int:
        """Which of the waiting deliveries goes next: the first unless the order is to be mixed."""
        return self._random.randrange(min(waiting, self.reorder)) if self.reorder > 1 and waiting > 1 else 0


def _number(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise malformed(f"Invalid number: {value}", name)
    return value


def _probability(value: Any, name: str) -> float:
    if _number(value, name) > 1:
        raise malformed(f"A probability is between 0 and 1: {value}", name)
    return value

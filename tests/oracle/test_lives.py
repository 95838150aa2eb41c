"""What must be so of any life, by the oracle alone."""

from collections.abc import Callable

import pytest

from simulator.oracle.credits import Oracle
from tests.oracle.lives import Life, random_life
from tests.oracle.wide_lives import random_wide_life

LIVES = 15


@pytest.mark.parametrize("seed", range(LIVES))
@pytest.mark.parametrize("family", [random_life, random_wide_life])
def test_what_is_learned_later_changes_nothing_that_was(family: Callable[[int], Life], seed: int) -> None:
    """The facts of the end, judged at an earlier moment, give what that moment's own facts gave."""
    seen: list[tuple[int, int, int]] = []

    def look(life: Life) -> None:
        ledger = life.credits()
        seen.append((life.stripe.now, ledger.balance, ledger.available))

    life = family(seed)
    life.lived = look
    life.live()
    facts = life.facts()
    for now, balance, available in seen:
        spends = [spend for spend in life.spent if spend.at < now]
        oracle = Oracle(facts, spends, life.rules, life.budgets)
        ledger = oracle.at(now)
        assert (ledger.balance, ledger.available) == (balance, available), life.told
        assert len(oracle.outcomes) == len(spends)
        assert 0 <= available <= max(balance, 0)

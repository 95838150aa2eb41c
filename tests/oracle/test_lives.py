"""What must be so of any life, by the oracle alone."""

import pytest

from tests.oracle.credits import Oracle
from tests.oracle.lives import Life, random_life

LIVES = 30


@pytest.mark.parametrize("seed", range(LIVES))
def test_what_is_learned_later_changes_nothing_that_was(seed: int) -> None:
    """The facts of the end, judged at an earlier moment, give what that moment's own facts gave."""
    seen: list[tuple[int, int, int]] = []

    def look(life: Life) -> None:
        ledger = life.credits()
        seen.append((life.stripe.now, ledger.balance, ledger.available))

    life = random_life(seed)
    life.lived = look
    life.live()
    facts = life.facts()
    for now, balance, available in seen:
        spends = [spend for spend in life.spent if spend.at < now]
        ledger = Oracle(facts, spends).at(now)
        assert (ledger.balance, ledger.available) == (balance, available), life.told
        assert not ledger.refused_spends
        assert 0 <= available <= balance

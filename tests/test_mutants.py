"""The list of mutants: each can be made from the code as it is, and the page names what killed it."""

from pathlib import Path

import pytest

from tests.mutants.__main__ import LIST, ROOT, Mutant, read_mutants

MUTANTS = read_mutants()


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda each: each.breaks)
def test_a_mutant_can_be_made(mutant: Mutant) -> None:
    assert (ROOT / mutant.file).read_text().count(mutant.find) == 1
    assert mutant.find != mutant.replace
    assert [test for test in mutant.tests if not (Path(__file__).parent / test).is_file()] == []


def test_the_page_names_what_killed_each() -> None:
    page = LIST.read_text()
    assert [each.breaks for each in MUTANTS if f"| {each.breaks} | `{each.file}` | `tests/" not in page] == []

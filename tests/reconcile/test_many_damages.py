"""Sixty damages at once, to one installation: all are named, all are mended, and then nothing is wrong any more."""

import os
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from random import Random

import pytest

from devstack.scaffold import DefaultGrants
from stripe_local.world import World
from tests.databases import Databases
from tests.reconcile import installation_damages  # noqa: F401  adds its damages
from tests.reconcile.business import Business
from tests.reconcile.conftest import SEED, Place, commands_of, link_all, placed
from tests.reconcile.damages import DAMAGES, Damage, Named
from tests.reconcile.site import Site

FIRST = int(os.environ.get("DAMAGES_FROM", "0"))
RUNS = int(os.environ.get("DAMAGES_RUNS", "1"))
CUSTOMERS = 150
DAMAGES_AT_ONCE = 60
KINDS_MIN = 40
# Some damages hide others: of a key that does not fit, nothing else can be asked.
ROUNDS_MAX = 15

# What commands need to run at all.
_FIRST = ("stripe_key", "stripe_permission", "schema", "files")
# What is missing from the ledger can be put back in its place only before more is posted.
_LEDGER = (
    "ledger_discrepancy",
    "discrepancies",
    "entitlement_discrepancy",
    "ungranted_payment",
    "wrong_link",
)
# What a worker mends.
_LAST = ("worker", "waiting_events", "queue", "proof")


def drawn(draw: Random) -> list[Damage]:
    """A worker that was killed, and others: many kinds, some of them twice."""
    every = [each for each in DAMAGES.values() if not each.alone and each.name != "no_worker"]
    kinds = draw.sample(every, KINDS_MIN + draw.randrange(5))
    more = [each for each in every if each not in kinds]
    more += [each for each in every for _ in range(each.times - 1)]
    return [*kinds, *draw.sample(more, DAMAGES_AT_ONCE - len(kinds) - 1), DAMAGES["no_worker"]]


@pytest.mark.parametrize("seed", range(FIRST, FIRST + RUNS))
def test_sixty_damages_at_once_are_named_and_mended(
    seed: int,
    databases: Databases,
    template: Callable[[DefaultGrants], str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    draw = Random(seed)
    business = Business(World(SEED + seed), SEED + seed).live(CUSTOMERS)
    with (
        databases.copy(template("none")) as database,
        placed(business, database, monkeypatch, capsys) as place,
    ):
        link_all(database, business.customers)
        assert place.till("backfill", "--grant-current-period")[0] == 0
        place.work()
        place.prove()
        with Site.opened(place, tmp_path, receives=True) as site:
            site.start_worker()
            assert place.findings() == []
            damages = drawn(draw)
            begun = [each.begin(place) for each in damages]
            place.local.control("wait_idle")
            site.settle()
            monkeypatch.setattr("worker.arrivals.ARRIVAL", timedelta(seconds=-5))
            place.mend("till events replay")
            # One customer waits for a link.
            assert [each for each in place.findings() if "customers link" not in each["mend"]] == []
            site.stop_worker()
            with site.unheard():
                named = {
                    number: begun[number]() for number in sorted(range(len(begun)), key=_is_last(damages))
                }
            found, rounds = _mended(place, named, draw)
            missed = [damages[number].name for number in named if number not in found]
            assert missed == []
            assert place.doctor("--full") == []
            assert place.findings() == []
            place.assert_sound()
            kinds = len({each.name for each in damages})
            record_property("printed", f"{len(damages)} damages of {kinds} kinds, mended in {rounds} rounds")


def _is_last(damages: list[Damage]) -> Callable[[int], bool]:
    """In the other mode, events of this one are ignored."""
    return lambda number: damages[number].name == "the_other_mode"


def _mended(place: Place, named: dict[int, Named], draw: Random) -> tuple[set[int], int]:
    """Look, and do what each finding says, until nothing is wrong → the damages that were named; rounds."""
    found: set[int] = set()
    for rounds in range(ROUNDS_MAX):
        status, told, _ = place.till("reconcile")
        of_reconcile: list[dict[str, str]] | None = told["findings"] if status in (0, 1) and told else None
        findings = place.doctor() + (of_reconcile or [])
        if not findings:
            return found, rounds
        found |= {number for number, each in named.items() if any(map(each.names, findings))}
        acts = _acts(place, [named[number] for number in sorted(found)], findings, draw)
        for rank in sorted(acts if of_reconcile is not None else {0} & acts.keys()):
            for act in acts[rank].values():
                act()
        if place.site is not None and place.site.worker is not None:
            place.work()
    raise AssertionError(findings)


def _acts(
    place: Place, named: list[Named], findings: list[dict[str, str]], draw: Random
) -> dict[int, dict[str, Callable[[], object]]]:
    """What is to be done first, next, … last, once each; by hand before what a command does."""
    acts: dict[int, dict[str, Callable[[], object]]] = {}
    draw.shuffle(findings)
    findings.sort(key=lambda finding: not any(each.by_hand and each.names(finding) for each in named))
    for finding in findings:
        by_hand = next((each.by_hand for each in named if each.by_hand and each.names(finding)), None)
        name = finding["mend"] if by_hand is None else f"by hand: {id(by_hand)}"
        acts.setdefault(_rank(finding), {})[name] = by_hand or partial(place.do, finding["mend"])
    return acts


def _rank(finding: dict[str, str]) -> int:
    if finding["check"] in _LAST or "till worker run" in commands_of(finding["mend"]):
        return 3
    if finding["check"] in _FIRST:
        return 0
    return 1 if finding["check"] in _LEDGER else 2

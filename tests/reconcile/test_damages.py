"""Damages behind the product's back: each is found by name, and mended by what the finding names."""

from datetime import timedelta
from pathlib import Path
from random import Random

import pytest

from tests.reconcile import installation_damages  # noqa: F401  adds its damages
from tests.reconcile.conftest import Place
from tests.reconcile.damages import APPLY, DAMAGES, an_ended_subscription
from tests.reconcile.site import Site

OF_STRIPE = [name for name, each in DAMAGES.items() if each.finder == "reconcile"]
OF_INSTALLATION = [name for name, each in DAMAGES.items() if each.finder == "doctor"]
# Those that need deliveries of events.
_DELIVERED = ("a_wrong_webhook_secret",)


@pytest.fixture
def place(place_with_history: Place) -> Place:
    return place_with_history


@pytest.mark.parametrize("name", OF_STRIPE)
def test_each_damage_is_found_and_mended(name: str, place: Place) -> None:
    do = DAMAGES[name].begin(place)
    place.till("reconcile", "--apply")  # what came before it
    place.work()
    named = do()
    findings = place.findings()
    found = [each for each in findings if named.names(each)]
    assert len(found) == 1, findings
    place.mend(found[0]["mend"])
    if left := place.findings():  # what is mended may show what else is missing
        place.mend(left[0]["mend"])
    assert place.findings() == []
    place.assert_sound()


@pytest.mark.parametrize("name", OF_INSTALLATION)
def test_each_damage_of_the_installation_is_found_and_mended(name: str, place: Place, tmp_path: Path) -> None:
    damage = DAMAGES[name]
    place.monkeypatch.setattr("worker.arrivals.ARRIVAL", timedelta(seconds=-5))
    with Site.opened(place, tmp_path, receives=name in _DELIVERED) as site, site.unheard():
        do = damage.begin(place)
        for command in ("till reconcile --apply", "till events replay"):  # what came before it
            place.till(*command.split()[1:])
            place.work()
        named = do()
        findings = place.doctor()
        found = [each for each in findings if named.names(each)]
        assert found, findings
        if damage.is_total:
            return
        if named.by_hand is not None:
            named.by_hand()
        else:
            place.mend(found[0]["mend"])
        place.work()
        for left in place.doctor("--full"):  # what happened in Stripe meanwhile
            if not named.names(left):
                place.mend(left["mend"])
        assert place.doctor("--full") == []


@pytest.mark.parametrize("seed", range(4))
def test_damages_that_come_together_are_mended_in_turn(seed: int, place: Place) -> None:
    # A grant that is missing when the next event comes is granted again, at the end of the ledger: then the
    # gap that it left in the middle can only be filled from a backup.
    for name in sorted(Random(seed).sample(sorted(OF_STRIPE), 4), key=lambda name: "deleted_grant" in name):
        do = DAMAGES[name].begin(place)
        place.till("reconcile", "--apply")
        place.work()
        do()
    for _ in range(8):
        findings = place.findings()
        if not findings:
            break
        place.mend(findings[0]["mend"])
    assert place.findings() == []
    place.assert_sound()


def test_what_was_erased_is_no_difference(place: Place) -> None:
    customer = place.business.customers[0]
    an_ended_subscription(place)
    place.mend(APPLY)
    account = place.account(0)
    place.query("select billing.erase_account(%s, 'asked for', 'root')", account)
    assert place.findings() == []
    # Of what Stripe says of the customer later, nothing is kept.
    place.business.call("DELETE", f"customers/{customer}")
    place.mend(APPLY)
    assert place.findings() == []
    assert place.query(
        "select email, name, deleted_at is not null from billing.customers where stripe_customer_id = %s",
        customer,
    ) == [(None, None, True)]
    place.assert_sound()

"""API versions that nobody knew when this was written: applied by their shape, and counted."""

from dataclasses import replace

import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from tests.worker import events
from tests.worker.conftest import Shop
from tests.worker.events import Event, message, paid
from worker.events import drain as drain_module
from worker.events.normalise import is_known_api_version, normalise
from worker.events.outcomes import Done, RetryLater

NEWER = "2027-03-31.ficus"


@pytest.mark.parametrize(
    ("api_version", "is_known"),
    [
        ("2026-10-28.endive", True),
        ("2027-01-27.endive", True),
        ("2024-09-30.acacia", True),
        ("2020-08-27", True),
        ("2027-03-31.ficus", False),
        ("2026-08-26.preview", False),
        ("2027-03-31", False),
        ("endive", False),
        ("2026-10-28.endive ", False),
        ("", False),
        (None, False),
    ],
)
def test_a_version_is_known_by_its_family_or_by_being_older_than_families(
    api_version: str | None, is_known: bool
) -> None:
    assert is_known_api_version(api_version) is is_known


def test_the_version_that_an_event_names_is_kept() -> None:
    assert (
        normalise(message(Event("product.created", events.product(), api_version=None))).api_version is None
    )
    assert normalise(message(events.paid())).api_version == events.API_VERSION


def counted(api_version: str) -> float:
    name = "till_unknown_api_versions_total"
    return REGISTRY.get_sample_value(name, {"api_version": api_version}) or 0


@pytest.mark.parametrize(("api_version", "label"), [(NEWER, NEWER), (None, "null"), ("nonsense", "nonsense")])
def test_an_event_of_an_unknown_version_with_a_known_shape_is_applied_and_counted(
    shop: Shop, api_version: str | None, label: str
) -> None:
    drain_module._warn_of_api_version.cache_clear()
    before = counted(label)
    months = [replace(paid(month=month), api_version=api_version) for month in range(2)]
    account = shop.link()
    with capture_logs() as logs:
        outcomes = shop.outcomes(*months)
    assert set(outcomes.values()) == {Done()}
    assert shop.balance(account) > 0
    assert counted(label) == before + 2
    warnings = [entry for entry in logs if entry["event"] == "api_version_unknown"]
    assert [entry["api_version"] for entry in warnings] == [api_version]


def test_an_event_that_is_tried_again_is_counted_once(shop: Shop) -> None:
    before = counted(NEWER)
    tied = [
        Event("customer.subscription.updated", events.subscription(), api_version=version)
        for version in (events.API_VERSION, NEWER)
    ]
    shop.outcome(tied[0])
    assert isinstance(shop.outcome(tied[1]), RetryLater)  # there is no key to ask Stripe with
    shop.make_due()
    shop.drain()
    assert counted(NEWER) == before + 1


def test_a_known_version_is_not_counted(shop: Shop) -> None:
    before = counted(events.API_VERSION)
    shop.outcome(paid())
    assert counted(events.API_VERSION) == before == 0

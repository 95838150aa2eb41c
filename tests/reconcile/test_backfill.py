"""`till backfill` brings the history of a business; reconcile then says that nothing is missing."""

from tests.reconcile.conftest import Place


def test_a_business_with_history_is_brought_and_nothing_is_missing(place: Place) -> None:
    assert place.findings() != []
    status, told, _ = place.till("backfill")
    assert status == 0
    assert {each["list"]: each["objects"] for each in told["lists"]}["customer"] == 40
    place.work()
    place.assert_sound()
    assert place.findings() == []
    assert place.value("select count(*) from billing.credit_grants") == 0

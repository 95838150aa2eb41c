"""A seed → the same business and the same faults, each within its span."""

import pytest

from simulator.business import ENDS, SPAN_DAYS, business
from simulator.faults import RARE, USUAL, plan


def test_a_seed_is_one_business() -> None:
    assert business(7, 90, 12) == business(7, 90, 12)
    assert business(7, 90, 12) != business(8, 90, 12)


def test_a_seed_is_one_plan_of_faults() -> None:
    spans = business(7, 90, 12).spans
    plans = [plan(7, span) for span in spans]
    assert plans == [plan(7, span) for span in spans]
    assert plans != [plan(8, span) for span in spans]
    assert {fault.what for each in plans for fault in each.faults} == {*USUAL, *RARE}


@pytest.mark.parametrize("adversary", [False, True])
def test_the_spans_are_the_days_and_everything_happens_in_its_span(adversary: bool) -> None:
    found = business(3, 40, 30, adversary=adversary)
    assert [(span.until - span.start) / 86_400 for span in found.spans] == [SPAN_DAYS, SPAN_DAYS, 10]
    for span in found.spans:
        for each in (*span.acts, *plan(3, span).faults):
            assert span.start <= each.at < span.until
        assert list(span.acts) == sorted(span.acts, key=lambda act: act.at)


@pytest.mark.parametrize("adversary", [False, True])
def test_everybody_joins_first_and_what_must_end_ends_in_the_same_span(adversary: bool) -> None:
    for span in business(5, 365, 50, adversary=adversary).spans:
        for act in span.acts:
            assert act.what in ("join", "link") or act.at > act.customer.joins_at
            if act.what in ENDS:
                ends = [
                    other.at
                    for other in span.acts
                    if (other.customer, other.what) == (act.customer, ENDS[act.what]) and other.at > act.at
                ]
                assert ends, act


def test_everybody_joins_once() -> None:
    for seed in range(30):
        found = business(seed, 90, 40)
        joined = [act.customer.number for span in found.spans for act in span.acts if act.what == "join"]
        assert sorted(joined) == [customer.number for customer in found.customers]

"""Figures become pictures that say the truth: nothing is cut off, zero is where it is, marks are round."""

from datetime import UTC, date, datetime

from hypothesis import given
from hypothesis import strategies as st

from cli.dashboard.charts import HEIGHT, WIDTH, Figure, bars, line

DAY = date(2026, 3, 1)
VALUES = st.lists(st.integers(-(10**15), 10**15), min_size=2, max_size=30)


@given(VALUES)
def test_a_line_stays_inside_and_says_every_figure(values: list[int]) -> None:
    chart = line([Figure(DAY, value) for value in values], write=str, name="credits")
    assert chart
    heights = [
        float(part) for part in chart.line.replace("H", " ").replace("V", " ").replace("M", " ").split()
    ]
    assert all(0 <= number <= WIDTH for number in heights)
    top, middle, bottom = (int(mark) for mark in chart.scale)
    assert bottom <= min(0, *values)
    assert max(0, *values) <= top
    assert abs((top + bottom) - 2 * middle) <= 1
    assert chart.zero == round(HEIGHT * top / (top - bottom), 2)
    assert [spot.text for spot in chart.spots] == [f"1 Mar 2026: {value}" for value in values]


@given(st.lists(st.tuples(st.integers(0, 10**12), st.integers(0, 10**12)), min_size=1, max_size=30))
def test_bars_stand_on_zero_and_are_as_high_as_their_figures(values: list[tuple[int, int]]) -> None:
    chart = bars([Figure(DAY, came, went) for came, went in values], write=str, names=("paid", "returned"))
    if not any(came or went for came, went in values):
        assert chart is None
        return
    assert chart
    assert chart.bars is not None
    assert chart.minus_bars is not None
    top = int(chart.scale[0])
    assert len(chart.bars) == sum(came > 0 for came, _ in values)
    for box, came in zip(chart.bars, (came for came, _ in values if came), strict=True):
        assert abs(box.y + box.height - HEIGHT) < 0.02
        assert abs(box.height - HEIGHT * came / top) < 0.02
    assert len(chart.minus_bars) == sum(went > 0 for _, went in values)


def test_marks_are_round() -> None:
    for value, marks in [
        (1, ["2", "1", "0"]),
        (9, ["10", "5", "0"]),
        (100, ["100", "50", "0"]),
        (1339, ["2000", "1000", "0"]),
        (6500, ["8000", "4000", "0"]),
    ]:
        chart = bars([Figure(DAY, value)], write=str, names=("a", "b"))
        assert chart
        assert chart.scale == marks


def test_debt_is_drawn_below_zero() -> None:
    chart = line([Figure(DAY, 100), Figure(DAY, -30)], write=str, name="credits")
    assert chart
    assert chart.scale == ["100", "25", "-50"]
    assert 0 < chart.zero < HEIGHT


def test_hours_are_told_apart() -> None:
    figures = [Figure(datetime(2026, 3, 1, hour, tzinfo=UTC), 1) for hour in (9, 10)]
    chart = bars(figures, write=str, names=("events", "set aside"))
    assert chart
    assert [spot.text for spot in chart.spots] == ["1 Mar 2026, 09:00: 1", "1 Mar 2026, 10:00: 1"]


def test_nothing_is_no_picture() -> None:
    assert line([], write=str, name="credits") is None
    assert bars([Figure(DAY, 0)], write=str, names=("a", "b")) is None

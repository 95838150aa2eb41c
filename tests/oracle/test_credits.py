"""The oracle against the worked examples of the rules: figures that anybody can check by hand."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any

import pytest

from simulator.oracle import free
from simulator.oracle.credits import Oracle, Rules
from simulator.oracle.facts import (
    DAY,
    Dispute,
    Facts,
    FreeRule,
    Invoice,
    Line,
    Price,
    Return,
    Sale,
    State,
    Subscription,
    User,
    months_after,
)
from simulator.oracle.spends import Budget, Operation, Spend, Tree

JANUARY = int(datetime(2027, 1, 1, tzinfo=UTC).timestamp())


def at(days: float, since: int = JANUARY) -> int:
    return since + int(days * DAY)


def price(name: str, interval: str | None = "month", count: int = 1, **metadata: Any) -> Price:
    terms = {key: str(value) for key, value in metadata.items()}
    return Price(f"price_{name}", f"prod_{name}", interval, count, ((0, terms),))


@dataclass
class Story:
    """A subscription from January on, told line by line."""

    states: list[State] = field(default_factory=lambda: [State(JANUARY, "active", JANUARY)])
    invoices: list[Invoice] = field(default_factory=list[Invoice])
    sales: list[Sale] = field(default_factory=list[Sale])
    returns: list[Return] = field(default_factory=list[Return])
    disputes: list[Dispute] = field(default_factory=list[Dispute])
    owed: dict[str, int] = field(default_factory=dict[str, int])
    spends: list[Spend] = field(default_factory=list[Spend])
    rules: Rules = field(default_factory=Rules)

    def pay(self, when: int, *lines: Line) -> Invoice:
        invoice = Invoice(f"in_{len(self.invoices)}", when, lines)
        self.invoices.append(invoice)
        return invoice

    def refund(self, of: Invoice | Sale, when: int, amount: int, **more: Any) -> None:
        self.returns.append(Return(f"re_{len(self.returns)}", of.id, when, amount, **more))

    def ledger(self, now: int) -> Any:
        facts = Facts(
            subscriptions={"sub": Subscription("sub", tuple(self.states))},
            invoices=tuple(self.invoices),
            owed=self.owed,
            sales=tuple(self.sales),
            returns=tuple(self.returns),
            disputes=tuple(self.disputes),
        )
        return Oracle(facts, self.spends, self.rules).at(now)

    def balance(self, now: int) -> int:
        return self.ledger(now).balance


_number = iter(range(10**6))


def line(
    of: Price, amount: int, start: int = JANUARY, end: int = months_after(JANUARY, 1), **more: Any
) -> Line:
    fields = {"quantity": 1, "subscription": "sub", "item": "si"} | more
    return Line(f"il_{next(_number)}", of, amount, start, end, **fields)


PRO = price("pro", monthly_credits=1000)
BASIC = price("basic", monthly_credits=100)
FREE = price("free", monthly_credits=0)
END = months_after(JANUARY, 1)
MIDDLE = (JANUARY + END) // 2


def test_going_to_and_fro_on_the_first_day_never_gives_more_than_one_month() -> None:
    story = Story()
    story.pay(JANUARY, line(PRO, 1900))
    for step in range(1, 8):
        when = at(step / 10)
        left = round(1900 * (END - when) / (END - JANUARY))
        if step % 2:
            story.pay(when, line(PRO, -left, when, END, is_proration=True))
        else:
            story.pay(when, line(PRO, left, when, END, is_proration=True))
        assert story.balance(when) <= 1000
    story.spends.append(Spend(at(0.65), 900))
    assert story.balance(at(0.8)) == 0


def test_seats_given_back_at_once_take_their_credits_along() -> None:
    story = Story()
    team = price("team", monthly_credits=100)
    story.pay(JANUARY, line(team, 50_000, quantity=50))
    soon = JANUARY + 1
    story.pay(
        soon,
        line(team, -50_000, soon, END, quantity=50, is_proration=True),
        line(team, 1_000, soon, END, quantity=1, is_proration=True),
    )
    assert story.balance(at(1)) == 100


def test_spent_credits_of_a_downgrade_are_carried_to_later_ones() -> None:
    story = Story()
    middle = (JANUARY + END) // 2
    story.pay(JANUARY, line(PRO, 1900))
    story.spends.append(Spend(at(1), 700))
    story.pay(
        middle,
        line(PRO, -950, middle, END, is_proration=True),
        line(BASIC, 500, middle, END, is_proration=True),
    )
    ledger = story.ledger(middle)
    assert (ledger.balance, ledger.carried) == (0, 150)  # -500 + 50 = -450: 300 are unspent
    story.pay(END, line(BASIC, 1000, END, months_after(END, 1)))
    story.pay(months_after(END, 1), line(BASIC, 1000, months_after(END, 1), months_after(END, 2)))
    assert story.balance(END) == 0
    assert story.balance(months_after(END, 1)) == 50


def test_year_that_is_cancelled_and_refunded_keeps_the_months_that_were_used() -> None:
    story = Story()
    year = price("year", "year", monthly_credits=100)
    paid = story.pay(JANUARY, line(year, 12_000, end=months_after(JANUARY, 12)))
    assert story.balance(at(85)) == 300
    story.states.append(State(at(85), "canceled", JANUARY, canceled_at=at(85), ended_at=at(85)))
    story.refund(paid, at(85), 9_000)
    assert story.balance(at(400)) == 300


def test_refund_of_a_seat_that_was_added_leaves_the_others() -> None:
    story = Story()
    year = price("year", "year", monthly_credits=60)
    end = months_after(JANUARY, 12)
    story.pay(JANUARY, line(year, 40_000, end=end, quantity=4))
    added = at(35)
    credit = line(year, -36_164, added, end, quantity=4, is_proration=True)
    fifth = story.pay(added, credit, line(year, 45_205, added, end, quantity=5, is_proration=True))
    with_five = story.balance(at(40))
    assert with_five == 480 + 51  # 60 * 24 / 28, rounded down
    story.refund(fifth, at(70), 9_041)
    assert story.balance(at(70)) == 720
    assert story.balance(months_after(JANUARY, 5)) == 720 + 3 * 240


def test_price_paid_from_the_balance_is_part_of_the_price() -> None:
    story = Story()
    paid = story.pay(JANUARY, line(PRO, 1900))
    story.refund(paid, at(2), 900)
    assert story.balance(at(3)) == 527


def test_refund_takes_what_is_unspent_of_the_whole_invoice() -> None:
    story = Story()
    plan = price("plan", monthly_credits=30, initial_credits=70)
    paid = story.pay(JANUARY, line(plan, 1000))
    story.spends.append(Spend(at(1), 40))
    story.refund(paid, at(2), 500)
    assert story.balance(at(3)) == 10


def test_spent_credits_are_not_taken_twice() -> None:
    story = Story()
    paid = story.pay(JANUARY, line(PRO, 1000))
    story.spends.append(Spend(at(1), 800))
    story.refund(paid, at(2), 500)
    story.refund(paid, at(3), 200)
    assert story.balance(at(4)) == 0


def test_refund_of_a_running_year_is_taken_from_the_months_to_come() -> None:
    story = Story()
    year = price("year", "year", monthly_credits=107)
    paid = story.pay(JANUARY, line(year, 2000, end=months_after(JANUARY, 12)))
    story.refund(paid, at(100), 500)
    assert story.balance(at(100)) == 4 * 107
    assert story.balance(at(400)) == 12 * 107 - 12 * 107 // 4


def test_refund_that_fails_brings_the_credits_back() -> None:
    story = Story()
    paid = story.pay(JANUARY, line(PRO, 1900))
    story.refund(paid, at(1), 1900, undone_at=at(2))
    assert (story.balance(at(1)), story.balance(at(2))) == (0, 1000)


def test_what_a_refunded_pack_was_less_by_is_carried_again() -> None:
    """Also where other credits of its invoice were spent; and if the refund fails, nobody has less for it."""
    story = Story()
    pack = line(price("pack", None, pack_credits=600), 600, item=None)
    story.pay(JANUARY, line(PRO, 1900))
    story.spends.append(Spend(at(1), 1000))
    story.pay(MIDDLE, line(PRO, -950, MIDDLE, END, is_proration=True))
    bought = story.pay(END, line(BASIC, 500, END, months_after(END, 1)), pack)
    story.spends.append(Spend(at(1, END), 200))
    story.refund(bought, at(2, END), 600, lines={pack.id: 600}, undone_at=at(4, END))
    ledger = story.ledger(at(2, END))
    assert (ledger.balance, ledger.carried) == (0, 500)
    story.pay(at(3, END), line(PRO, 1900, END, months_after(END, 1), item="si_2"))
    assert (story.balance(at(3, END)), story.balance(at(4, END))) == (500, 1000)


def test_dispute_freezes_and_takes_when_it_is_lost() -> None:
    story = Story()
    story.pay(JANUARY, line(PRO, 1900))
    story.disputes.append(Dispute("du", "in_0", at(1), 1900, at(5), is_lost=True))
    ledger = story.ledger(at(1))
    assert (ledger.balance, ledger.available) == (1000, 0)
    assert story.balance(at(5)) == 0


def test_credit_note_on_a_line_leaves_the_other_lines() -> None:
    story = Story()
    main, extra = line(PRO, 1000), line(price("extra", monthly_credits=500), 1000, item="si_2")
    paid = story.pay(JANUARY, main, extra)
    story.refund(paid, at(1), 1000, lines={extra.id: 1000})
    assert story.balance(at(2)) == 1000


def test_free_month_comes_once_however_often_it_is_taken() -> None:
    story = Story()
    free = price("free", monthly_credits=50)
    story.pay(JANUARY, line(free, 0))
    story.pay(at(1), line(free, 0, at(1), at(32), item="si_2"))
    assert story.balance(at(2)) == 50
    story.pay(END, line(free, 0, END, months_after(END, 1), item="si_3"))
    assert story.balance(END) == 100


@pytest.mark.parametrize(
    ("pro", "on_one", "granted"),
    [(1_267, False, 100 + 600 - 500), (0, False, 33 + 666), (0, True, 33 + 666)],
    ids=["from a paid plan", "from a plan of the coupon", "both changes on one invoice"],
)
def test_change_back_to_a_plan_that_was_paid_for_gives_it_where_a_coupon_pays(
    pro: int, on_one: bool, granted: int
) -> None:
    june = int(datetime(2027, 6, 1, tzinfo=UTC).timestamp())
    end, early, middle = at(30, june), at(10, june), at(15, june)
    story = Story([State(june, "active", june)])
    first = line(BASIC, 1000, june, end)
    to_pro = line(PRO, pro, early, end, is_proration=True)
    there = line(BASIC, -667, early, end, is_proration=True, credited=(first.id,)), to_pro
    back = (
        line(PRO, -pro * 3 // 4, middle, end, is_proration=True, credited=(to_pro.id,)),
        line(BASIC, 0, middle, end, is_proration=True),
    )
    story.pay(june, first)
    if on_one:
        story.pay(middle, *there, *back)
    else:
        story.pay(early, *there)
        story.pay(middle, *back)
    assert story.balance(middle) == granted + 50


def test_half_price_gives_everything() -> None:
    story = Story()
    story.pay(JANUARY, line(PRO, 1900, discount=950))
    assert story.balance(JANUARY) == 1000


def test_week_gives_its_share_of_a_month() -> None:
    story = Story()
    week = price("week", "week", monthly_credits=310)
    for number in range(3):
        story.pay(at(7 * number), line(week, 500, at(7 * number), at(7 * number + 7)))
    assert story.balance(at(20)) == 210


def test_month_of_leap_days_and_ends() -> None:
    anchor = int(datetime(2027, 1, 31, 12, tzinfo=UTC).timestamp())
    story = Story([State(anchor, "active", anchor)])
    quarter = price("quarter", "month", 3, monthly_credits=100)
    story.pay(anchor, line(quarter, 3000, anchor, months_after(anchor, 3)))
    assert story.balance(months_after(anchor, 1) - 1) == 100
    assert story.balance(months_after(anchor, 1)) == 200
    assert story.balance(months_after(anchor, 3)) == 300


def test_short_first_period_gives_its_share() -> None:
    anchor = at(31)
    story = Story([State(at(21), "active", anchor)])
    story.pay(at(21), line(PRO, 613, at(21), anchor))
    assert story.balance(at(22)) == 322  # 1000 * 10 / 31


def test_trial_gives_its_credits_and_takes_them_along() -> None:
    trial = price("trial", monthly_credits=100, trial_credits=10, initial_credits=5)
    end = at(14)
    state = State(JANUARY, "trialing", end, trial_start=JANUARY, trial_end=end, prices=(trial.id,))
    story = Story([state])
    story.pay(JANUARY, line(trial, 0, JANUARY, end))
    facts = Facts({trial.id: trial}, {"sub": Subscription("sub", (state,))}, tuple(story.invoices))
    assert Oracle(facts).at(at(1)).balance == 10
    assert Oracle(facts).at(end).balance == 0


def test_slots_wait_while_the_subscription_is_paused() -> None:
    story = Story()
    story.pay(JANUARY, line(price("year", "year", monthly_credits=100), 9000, end=months_after(JANUARY, 12)))
    story.states += [State(at(40), "paused", JANUARY), State(at(100), "active", JANUARY)]
    assert story.balance(at(90)) == 200
    assert story.balance(at(100)) == 400


def test_rollover_rules() -> None:
    def after_three_months(rule: str) -> int:
        story = Story()
        plan = price("plan", monthly_credits=100, credits_rollover=rule)
        for number in range(3):
            start = months_after(JANUARY, number)
            story.pay(start + 3600, line(plan, 1000, start, months_after(start, 1)))
        return story.balance(months_after(JANUARY, 2) + DAY)

    assert [after_three_months(r) for r in ("all", "none", "periods:1", "cap:30")] == [300, 100, 200, 130]


def test_change_by_policy() -> None:
    def after_upgrade(policy: str) -> int:
        story = Story()
        plus = price("plus", monthly_credits=1000, credits_on_proration=policy)
        middle = (JANUARY + END) // 2
        story.pay(JANUARY, line(BASIC, 1000))
        story.pay(
            middle,
            line(BASIC, -500, middle, END, is_proration=True),
            line(plus, 5000, middle, END, is_proration=True),
        )
        return story.balance(middle)

    assert [after_upgrade(policy) for policy in ("delta", "none", "full")] == [550, 100, 1050]


def test_packs_come_once_and_go_by_what_is_kept() -> None:
    story = Story()
    pack = price("pack", None, pack_credits=501, pack_expires_after="90 days")
    sale = Sale("cs", JANUARY, ((pack, 2, 4000),))
    story.sales.append(sale)
    assert story.balance(JANUARY) == 1002
    story.refund(sale, at(1), 700)
    assert story.balance(at(2)) == 827  # 1002 * 700 / 4000 = 175.35 are gone: 175
    assert story.balance(at(90)) == 0


@pytest.mark.parametrize(("is_owed", "carried"), [(True, 643), (False, 0)])
def test_give_back_of_a_month_that_is_still_to_be_paid_is_carried(is_owed: bool, carried: int) -> None:
    story = Story()
    story.owed = {"il_owed": at(42)} if is_owed else {}
    end = months_after(JANUARY, 2)
    story.pay(at(41), line(PRO, -1221, at(41), end, is_proration=True, credited=("il_owed",)))
    assert story.balance(at(50)) == 0
    assert story.ledger(at(50)).carried == carried


def test_give_back_of_a_year_that_a_coupon_paid_for_is_carried_at_once() -> None:
    story = Story()
    year = line(PRO, 22800, JANUARY, months_after(JANUARY, 12), discount=22800)
    story.pay(JANUARY, year)
    story.pay(END, line(PRO, -20900, END, months_after(JANUARY, 12), is_proration=True))
    assert story.balance(months_after(JANUARY, 2)) == 1000
    assert story.ledger(months_after(JANUARY, 2)).carried == 11_000


def test_refund_takes_of_each_part_its_own_first() -> None:
    story = Story()
    plan = price("plan", monthly_credits=100, initial_credits=50)
    paid = story.pay(JANUARY, line(plan, 1500))
    story.refund(paid, at(1), 600)
    assert [lot.remaining for lot in story.ledger(at(1)).lots] == [30, 60]


def test_refund_of_a_change_takes_of_that_change_first() -> None:
    """Two seats are added: what is refunded of them is taken of their lot, not of the first seat's."""
    story = Story()
    seat = price("seat", monthly_credits=100)
    story.pay(JANUARY, line(seat, 1000))
    more = line(seat, 1500, MIDDLE, END, quantity=3, is_proration=True)
    paid = story.pay(MIDDLE, line(seat, -500, MIDDLE, END, is_proration=True), more)
    story.refund(paid, MIDDLE + 60, 1000)
    assert [lot.remaining for lot in story.ledger(MIDDLE + 60).lots] == [100, 0]


def test_time_that_a_refunded_change_gave_back_comes_back() -> None:
    story = Story()
    dear = price("dear", monthly_credits=200)
    story.pay(JANUARY, line(PRO, 1900))
    paid = story.pay(
        MIDDLE,
        line(PRO, -950, MIDDLE, END, is_proration=True),
        line(dear, 1950, MIDDLE, END, is_proration=True),
    )
    assert story.balance(MIDDLE) == 600
    story.refund(paid, MIDDLE + 60, 1000)
    ledger = story.ledger(MIDDLE + 60)
    assert (ledger.balance, ledger.carried) == (1000, 0)


def test_month_waits_with_the_line_that_was_bought_last() -> None:
    """A year of Basic and its change to Pro, which is disputed; then it is changed back."""
    story = Story()
    year = price("year", "year", monthly_credits=100)
    pro = price("pro_year", "year", monthly_credits=1000)
    end = months_after(JANUARY, 12)
    story.pay(JANUARY, line(year, 12_000, end=end))
    up = line(pro, 19_000, at(1), end, is_proration=True)
    story.pay(at(1), line(year, -12_000, at(1), end, is_proration=True), up)
    story.disputes.append(Dispute("du", "in_1", at(2), 7_000))
    before = story.balance(at(2))
    assert story.balance(at(40)) == before
    down = line(year, 11_000, at(41), end, is_proration=True)
    story.pay(at(41), line(pro, -17_000, at(41), end, is_proration=True), down)
    first, then = story.ledger(at(42)), story.ledger(at(70))
    assert then.balance - then.carried == first.balance - first.carried + 100


def test_first_month_of_a_paid_line_counts_also_where_the_subscription_ends_as_it_begins() -> None:
    story = Story()
    story.states.append(State(END, "canceled", JANUARY, ended_at=END))
    story.pay(JANUARY, line(PRO, 1900))
    story.pay(END, line(PRO, 1900, END, months_after(END, 1)))
    assert story.balance(END) == 2000


def test_initial_credits_come_with_a_period_that_is_paid_from_its_start() -> None:
    story = Story()
    plan = price("plan", initial_credits=500)
    late = END - 3600
    story.pay(JANUARY, line(FREE, 500))
    up = line(plan, 2, late, END, is_proration=True)
    story.pay(late, line(FREE, -1, late, END, is_proration=True), up)
    assert story.balance(late) == 0
    story.pay(END, line(plan, 1900, END, months_after(END, 1)))
    assert story.balance(END) == 500


# What the app itself gives and spends

OVERAGE = price("overage", None, pack_credits=1)
PLAN = price("plan", monthly_credits=400, overage_limit=100, overage_pack="price_overage")


def test_overage_is_owed_until_it_is_paid_and_billed_once() -> None:
    """The table of docs/how-to/overage.md."""
    state = State(JANUARY, "active", JANUARY, prices=("price_plan",))
    start, end = JANUARY, months_after(JANUARY, 1)
    renewal = line(PLAN, 1900, end, months_after(JANUARY, 2))
    bill = Line("il_overage", OVERAGE, 50, end, end, quantity=50)
    facts = Facts(
        prices={"price_plan": PLAN},
        subscriptions={"sub": Subscription("sub", (state,))},
        invoices=(
            Invoice("in_0", start, (line(PLAN, 1900, start, end),)),
            Invoice("in_1", end + 3600, (renewal, bill)),
        ),
    )
    spends = [Spend(at(1), 400), Spend(at(2), 50), Spend(at(3), 51), Spend(at(4), 50)]
    for now, balance, claimed in (
        (at(1), 0, []),
        (at(2), -50, []),
        (at(3), -50, []),
        (at(4), -100, []),
        (end, -100, [100]),
        (end + 3600, 350, [100]),
    ):
        oracle = Oracle(facts, spends)
        assert oracle.at(now).balance == balance
        assert [credits for _, credits in oracle.overages.claimed] == claimed
    assert oracle.outcomes == [400, 50, "TB001", 50]


def test_free_credits_come_each_month_and_none_while_there_is_a_subscription() -> None:
    """It begins on 10 February and ends on 3 March: that month's come on the fourth."""
    february, march = months_after(JANUARY, 1), months_after(JANUARY, 2)
    states = (State(at(9, february), "active", february), State(at(2.5, march), "canceled", february))
    rule = FreeRule("allowance", 20, "month", "period_end", until_subscribed=True)
    once = FreeRule("welcome", 100, "once", "never")
    facts = Facts(
        subscriptions={"sub": Subscription("sub", states)},
        user=User(JANUARY + 5, JANUARY + 5),
        free_rules=(rule, once),
    )
    given = {"allowance": [JANUARY + 5, february, at(3, march)], "welcome": [JANUARY + 5]}
    assert {
        name: [grant.at for grant in free.grants(facts, at(20, march)) if grant.rule.name == name]
        for name in given
    } == given
    assert Oracle(facts).at(at(4, march)).balance == 120
    alias = replace(facts, user=replace(facts.user, is_somebody_known=True))
    assert Oracle(alias).at(at(4, march)).balance == 0


@pytest.mark.parametrize(
    ("operation", "quantities", "credits"),
    [
        (
            Operation("chat", {"input": Fraction(1, 4000), "output": Fraction(5, 4000)}, Fraction(20)),
            (1200, 800),
            2,
        ),
        (Operation("floor", {"input": Fraction(1, 3), "output": Fraction(0)}, rounding="down"), (8, 0), 2),
        (Operation("half", {"input": Fraction(1, 2), "output": Fraction(0)}, rounding="half_up"), (5, 0), 3),
        (
            Operation("least", {"call": Fraction(2), "input": Fraction(0), "output": Fraction(1)}, minimum=5),
            (0, 1),
            5,
        ),
    ],
)
def test_work_costs_its_rates_rounded_once(
    operation: Operation, quantities: tuple[int, int], credits: int
) -> None:
    assert operation.cost(dict(zip(("input", "output"), quantities, strict=True))) == credits


def test_a_budget_counts_what_those_below_it_spent_wherever_they_are_now() -> None:
    budgets = [
        Budget(JANUARY, "team", 100, "month"),
        Budget(JANUARY, "member:1", 60, "day", "team"),
        Budget(JANUARY, "agent:*", 40, "total", "member:1"),
        Budget(at(2), "agent:*", 40, "total", "team"),
    ]
    tree = Tree(budgets, [(at(0.5), "agent:a", 30), (at(1.5), "agent:b", 10), (at(1.6), "member:1", 50)])
    assert (tree.used("agent:*", at(1.7)), tree.used("member:1", at(1.7)), tree.used("team", at(1.7))) == (
        40,
        60,
        90,
    )
    assert tree.used("member:1", at(2.1)) == 0
    assert tree.refusal("agent:c", 1, at(1.7)) == "TB091"
    assert (tree.refusal("member:1", 11, at(2.1)), tree.refusal("member:1", 10, at(2.1))) == ("TB091", None)

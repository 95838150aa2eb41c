"""What the app itself sets up and does in some lives: free credits, overage, priced work and budgets.

Drawn from a seed of its own, so that a life is the same with and without it.
"""

from dataclasses import dataclass
from fractions import Fraction
from random import Random

from simulator.oracle.facts import FreeRule
from simulator.oracle.spends import Budget, Operation, Spend, Work

OPERATIONS = (
    Operation("chat", {"input": Fraction(1, 4), "output": Fraction(5, 4)}, markup=Fraction(20)),
    Operation("video", {"call": Fraction(2), "seconds": Fraction(1, 60)}, minimum=5, on_excess="clip"),
    Operation("image", {"steps": Fraction(3, 7)}, rounding="half_up", on_excess="refuse"),
    Operation("search", {"pages": Fraction(1, 3)}, markup=Fraction(-50), rounding="down"),
)
TEAM, MEMBER, AGENT = "team", "member:1", "agent:writer"
PARENTS = {TEAM: None, MEMBER: TEAM, AGENT: MEMBER, "agent:*": TEAM}
PERIODS = ["hour", "day", "week", "month", "total"]
CAPS = [None, 30, 150, 400, 1500]


@dataclass(frozen=True)
class App:
    """`overage`: (credits of a pack, most credits that Basic may owe); Pro may owe twice as many."""

    free_rules: tuple[FreeRule, ...] = ()
    confirms_at_once: bool = True
    is_somebody_known: bool = False
    overage: tuple[int, int] | None = None
    has_work: bool = False
    has_budgets: bool = False
    # Time stops at each end of a month of credits, while Stripe's renewal is a draft.
    is_punctual: bool = False

    def steps(self, draw: Random, names: list[str]) -> list[str]:
        """What else happens in a life, between its steps."""
        more = ["spend"] * (3 if self.has_work or self.has_budgets else 0)
        more += ["spend", "wait"] * (3 if self.overage else 0)
        more += ["budget"] * (2 if self.has_budgets else 0)
        more += [] if self.confirms_at_once else ["confirm"]
        for name in more:
            names.insert(draw.randrange(1, len(names) + 1), name)
        return names

    def spend(self, draw: Random, now: int, amount: int) -> Spend:
        """About so many credits: as they are or as work, by somebody or nobody."""
        actor = None
        if self.has_budgets and (self.overage is None or draw.random() < 0.5):
            actor = draw.choice([None, TEAM, MEMBER, AGENT, AGENT, "agent:painter", "key:7"])
        if not self.has_work or draw.random() < 0.3:
            return Spend(now, amount, actor)
        operation = draw.choice(OPERATIONS)
        component = draw.choice(sorted(operation.rates.keys() - {"call"}))
        units = int(amount / operation.rates[component] / (1 + operation.markup / 100))
        policy = draw.choice([None, None, "debt", "clip", "refuse"])
        estimate = draw.choice([None, units, int(units * 0.7), units // 2, int(units * 1.2), 0])
        held = None if estimate is None else {component: estimate}
        return Spend(
            now, 0, actor, Work(operation, {component: units}, held, policy if held is not None else None)
        )

    def budget(self, draw: Random, now: int) -> Budget:
        """One of the tree's, anew: another cap, another period, or another place."""
        actor = draw.choice([None, *PARENTS])
        period, cap = draw.choice(PERIODS), draw.choice(CAPS)
        parent = None if actor is None else PARENTS[actor]
        if actor == AGENT and draw.random() < 0.3:
            parent = TEAM
        if actor is None and cap is None:
            cap = 0 if draw.random() < 0.1 else 5000
        return Budget(now, actor, cap, period, parent)


def draw_app(seed: int, days: int) -> App:
    """`days`: how many usually pass at once."""
    draw = Random(f"app {seed}")
    overage = (draw.choice([1, 40]), draw.choice([25, 60])) if draw.random() < 0.3 else None
    has_free, has_work, has_budgets = draw.random() < 0.3, draw.random() < 0.4, draw.random() < 0.3
    return App(
        free_rules=_free_rules(draw, days) if has_free else (),
        confirms_at_once=not has_free or draw.random() < 0.7,
        is_somebody_known=draw.random() < 0.25,
        overage=overage,
        has_work=has_work,
        has_budgets=has_budgets,
        is_punctual=draw.random() < 0.7,
    )


def _free_rules(draw: Random, days: int) -> tuple[FreeRule, ...]:
    """A welcome, an allowance, or both."""
    once = FreeRule("welcome", 90, "once", draw.choice(["never", "30 days"]), draw.random() < 0.3)
    every = draw.choice(["day", "week"] if days < 10 else ["week", "month", "month"])
    allowance = FreeRule(
        "allowance",
        draw.choice([3, 25]),
        every,
        draw.choice(["period_end", "period_end", "10 days", "never"]),
        until_subscribed=draw.random() < 0.5,
        once_per_person=draw.random() < 0.6,
    )
    return draw.choice([(once,), (allowance,), (once, allowance)])

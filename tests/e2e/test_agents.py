"""32 agents of three members spend a team's credits at once, over HTTP: exact at the team, each member, each agent."""

import json
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from tests.e2e.api import Api, App, Refused

AGENTS, ROUNDS = 32, 5
# Every act asks for so many credits, and every cap is a multiple of it: a level that refuses has nothing left. In the
# first round the second member refuses, then the smaller agents do, and the team before the other members.
EACH = 3
TEAM_CAP, MEMBER_CAPS, AGENT_CAP, SMALLER_AGENT_CAP = 150, [99, 21, 81], 12, 3
POOL = 10_000
Db = psycopg.Connection[dict[str, Any]]


@dataclass
class Agent:
    """An agent of one of three members. `charged`: entry → credits."""

    number: int
    team: str
    charged: dict[int, int] = field(default_factory=dict[int, int])
    refusals: list[Refused] = field(default_factory=list[Refused])

    @property
    def name(self) -> str:
        return f"agent:{self.number}"

    @property
    def member(self) -> str:
        return f"member:{self.number % 3}"

    @property
    def cap(self) -> int:
        return SMALLER_AGENT_CAP if self.number % 4 == 0 else AGENT_CAP

    def do(self, server: Api, number: int) -> None:
        """Spends; or holds work, and settles it or uses nothing of it. Every call is sent twice, with one key."""
        given = {"account_id": self.team, "actor": self.name, "idempotency_key": f"{self.name}-{number}"}
        try:
            if number % 3 != 2:
                entry = twice(lambda: server.rpc("spend_credits", amount=EACH, **given))
                self.charged[entry["id"]] = EACH
                return
            quantities = {"steps": EACH}
            hold = twice(
                lambda: server.rpc(
                    "hold_work", operation="step", quantities=quantities, expires_in="1 hour", **given
                )
            )
            usage = quantities if self.number % 2 else {"steps": 0}
            settling = {"hold_id": hold["id"], "usage": usage, "idempotency_key": given["idempotency_key"]}
            charge = twice(lambda: server.rpc("settle_work", **settling))
            assert charge["charged"] == usage["steps"]
            if charge["entry_id"] is not None:
                self.charged[charge["entry_id"]] = charge["charged"]
        except Refused as refusal:
            self.refusals.append(refusal)


def twice(call: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The answer to one call, of which a client sent two at once. If one is refused, the other may have found room."""
    with ThreadPoolExecutor(2) as pair:
        both = [pair.submit(call) for _ in range(2)]
    answers = [each.result() for each in both if each.exception() is None]
    if not answers:
        raise both[0].exception() or AssertionError
    assert len({answer["id"] for answer in answers}) == 1
    return answers[0]


@pytest.fixture
def team(clients: App, db: Db) -> str:
    """A team with credits, whose owner has set a budget for each level with their own token."""
    owner, *members = (clients.sign_up() for _ in range(4))
    team = clients.server.rpc("create_team", name="Rocket", owner_id=owner.id)["id"]
    for member in members:
        clients.server.rpc("add_member", account_id=team, user_id=member.id)
    clients.server.rpc("grant_credits", account_id=team, amount=POOL, idempotency_key="pool")
    db.execute("select billing.set_operation_price('step', '{\"steps\": 1}')")

    def budget(actor: str, cap: int, parent: str | None, of: Api = owner.api) -> None:
        of.rpc("set_budget", account_id=team, actor=actor, cap=cap, period="total", parent=parent)

    budget("team", TEAM_CAP, None)
    for number, cap in enumerate(MEMBER_CAPS):
        budget(f"member:{number}", cap, "team")
    for number in range(AGENTS):
        agent = Agent(number, team)
        budget(agent.name, agent.cap, agent.member)
    with pytest.raises(Refused) as caught:
        budget("agent:0", POOL, None, members[0].api)
    assert caught.value.code == "TB097"
    return team


def test_many_agents_of_a_team_spend_at_once_and_every_level_is_exact(
    clients: App, db: Db, team: str
) -> None:
    agents, server = [Agent(number, team) for number in range(AGENTS)], clients.server
    start = threading.Barrier(AGENTS)

    def run(agent: Agent) -> None:
        start.wait()
        agent.do(server, 0)
        start.wait()
        for number in range(1, ROUNDS + 1):
            agent.do(server, number)

    with ThreadPoolExecutor(AGENTS) as threads:
        list(threads.map(run, agents))

    spent: Counter[str] = Counter()
    caps = {"team": TEAM_CAP} | {f"member:{number}": cap for number, cap in enumerate(MEMBER_CAPS)}
    for agent in agents:
        caps[agent.name] = agent.cap
        for level in (agent.name, agent.member, "team"):
            spent[level] += sum(agent.charged.values())
    rows = {row["actor"]: row for row in server.read("budgets", account_id=f"eq.{team}")}
    assert {name: (row["spent"], row["held"]) for name, row in rows.items()} == {
        name: (spent[name], 0) for name in caps
    }
    assert all(spent[name] <= cap for name, cap in caps.items())
    assert pool(server, team) == POOL - spent["team"]

    # Every refusal names a level above the agent, that had nothing left then.
    refused: Counter[str] = Counter()
    for agent in agents:
        for refusal in agent.refusals:
            assert refusal.code == "TB091", refusal
            said = json.loads(refusal.details or "{}")
            assert said["actor"] == agent.name
            assert said["budget"] in (agent.name, agent.member, "team")
            assert (said["left"], said["needed"]) == (0, EACH)
            assert said["cap"] == caps[said["budget"]]
            refused[said["budget"].split(":")[0]] += 1
    assert refused.keys() == {"agent", "member", "team"}

    # What is given back may be spent again, on every level.
    agent = next(agent for agent in agents if agent.charged and spent[agent.name] == agent.cap)
    entry_id = next(iter(agent.charged))
    server.rpc("refund_spend", entry_id=entry_id, amount=EACH, idempotency_key=f"refund {uuid4()}")
    left = {row["actor"]: row["remaining"] for row in server.read("budgets", account_id=f"eq.{team}")}
    for level in (agent.name, agent.member, "team"):
        assert left[level] == caps[level] - spent[level] + EACH
    agent.do(server, ROUNDS + 1)
    assert pool(server, team) == POOL - spent["team"]
    assert db.execute("select * from billing.account_ledger_discrepancies(%s)", [team]).fetchall() == []


def pool(server: Api, team: str) -> int:
    [row] = server.read("credit_balance", account_id=f"eq.{team}")
    assert row["balance"] == row["available"]
    return row["balance"]

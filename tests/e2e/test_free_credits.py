"""Free credits on the running stack: users who sign up over HTTP have them at once, each person once."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from cli.shop import Shop
from tests.e2e.api import App, User

Db = psycopg.Connection[dict[str, Any]]
Rule = Callable[..., str]


@pytest.fixture
def rule(db: Db) -> Iterator[Rule]:
    """Adds a rule for users who sign up from now on; it ends with the test."""
    names: list[str] = []
    row = db.execute("select billing.current_time() as now").fetchone()
    assert row is not None

    def adding(credits: int, every: str, until_subscribed: bool = False) -> str:
        names.append(f"rule_{uuid4().hex}")
        db.execute(
            "select billing.set_free_credits(name => %s, credits => %s, every => %s, until_subscribed => %s, "
            "for_accounts_since => %s)",
            [names[-1], credits, every, until_subscribed, row["now"]],
        )
        return names[-1]

    yield adding
    for name in names:
        db.execute("select billing.end_free_credits(%s)", [name])


def balance(user: User) -> int:
    [row] = user.api.read("credit_balance")
    return row["balance"]


def grant_due(db: Db) -> None:
    db.execute("select billing.allocate_due_credits()")


def test_a_person_has_them_once_and_a_subscription_ends_them(
    clients: App, shop: Shop, db: Db, rule: Rule
) -> None:
    rule(100, "once")
    rule(20, "week", until_subscribed=True)
    name = uuid4().hex
    ada = clients.sign_up(f"{name[:8]}.{name[8:]}@gmail.com")
    assert balance(ada) == 120
    again = clients.sign_up(f"{name}+again@googlemail.com")
    assert balance(again) == 0

    clients.server.rpc("ensure_account", user_id=ada.id)
    grant_due(db)
    assert (balance(ada), balance(again)) == (120, 0)

    price = shop.plan(f"Plan {name}", unit_amount=1900, initial_credits=0, monthly_credits=400)
    shop.subscribe(shop.sign_up(f"{name[:8]}.{name[8:]}@gmail.com"), price)
    shop.settle()
    assert balance(ada) == 520
    carol = clients.sign_up()
    rule(7, "month", until_subscribed=True)
    grant_due(db)
    assert (balance(ada), balance(carol)) == (520, 127)


def test_of_accounts_that_sign_up_at_once_one_has_them(clients: App, db: Db, rule: Rule) -> None:
    rule(50, "once")
    name = uuid4().hex
    with ThreadPoolExecutor(8) as threads:
        users = list(threads.map(lambda n: clients.sign_up(f"{name}+{n}@example.com"), range(8)))
    grant_due(db)
    assert sorted(balance(user) for user in users) == [0] * 7 + [50]


def test_what_is_revoked_is_not_granted_again(clients: App, db: Db, rule: Rule) -> None:
    rule(50, "week")
    user = clients.sign_up()
    given = {"reason": "a test", "actor": "ada"}
    [grant] = db.execute("select id from billing.credit_grants where account_id = %s", [user.account_id])
    revoke = {"grant_id": grant["id"], "amount": 30, "idempotency_key": "revoke", **given}
    revoked = clients.server.rpc("revoke_grant", **revoke)
    assert clients.server.rpc("revoke_grant", **revoke)["id"] == revoked["id"]
    db.execute("update billing.free_credit_slots set next_at = '-infinity' where granted > 0")
    grant_due(db)
    assert balance(user) == 20
    clients.server.rpc(
        "reinstate_grant", revocation_id=revoked["id"], amount=30, idempotency_key="reinstate", **given
    )
    assert balance(user) == 50
    for proof in ("account_ledger_discrepancies", "account_discrepancies"):
        rows = db.execute(f"select * from billing.{proof}(%s)".encode(), [user.account_id]).fetchall()
        assert rows == [], proof

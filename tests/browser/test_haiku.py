"""The example's own server side: who may spend, once for each click, whatever the body says."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from cli.shop import Shop
from devstack.stack import Stack
from devstack.tokens import SigningKeys, find_or_create_user

DEADLINE_SECONDS = 20
Ask = Callable[..., httpx.Response]


@pytest.fixture
def user_id(stack: Stack) -> UUID:
    return find_or_create_user(stack.settings["DATABASE_URL"], f"{uuid4().hex}@example.com")


@pytest.fixture
def account_id(shop: Shop, user_id: UUID) -> UUID:
    """With 60 credits: enough for two."""
    with shop.connect() as conn:
        found = conn.execute("select billing.ensure_account(user_id => %s)", [user_id]).fetchone()
        assert found
        conn.execute("select billing.grant_credits(%s, 60, 'gift', 'A gift')", [found[0]])
        return found[0]


@pytest.fixture
def ask(stack: Stack, user_id: UUID, account_id: UUID) -> Ask:
    keys = SigningKeys.load(Path(stack.settings["TILL_STATE"]))
    own = keys.access_token(user_id, "ada@example.com")

    def send(token: str | None = own, content: str | None = None, **body: Any) -> httpx.Response:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        url = f"{stack.settings['SUPABASE_URL']}/functions/v1/haiku"
        sent: dict[str, Any] = {"json": body} if content is None else {"content": content}
        return httpx.post(url, **sent, headers=headers, timeout=DEADLINE_SECONDS)

    return send


def balance(shop: Shop, account_id: UUID) -> int:
    query = "select balance from billing.credit_balances where account_id = %s"
    with shop.connect() as conn:
        [(credits,)] = conn.execute(query, [account_id]).fetchall()
    return credits


def told(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


def test_a_click_is_paid_once_however_often_it_is_sent(ask: Ask, shop: Shop, account_id: UUID) -> None:
    click = str(uuid4())
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: ask(topic="the sea", click=click), range(8)))
    assert [answer.status_code for answer in answers] == [200] * 8
    assert len({answer.text for answer in answers}) == 1
    assert len(answers[0].json()["lines"]) == 3
    assert balance(shop, account_id) == 35
    assert answers[0].json()["credits"] == 25
    assert told(ask(topic="the moon", click=click)) == (409, "another_poem")
    assert told(ask(topic="the sea", click=click, lines=5)) == (409, "another_poem")
    assert ask(topic="the moon", click=str(uuid4())).json()["credits"] == 25
    assert told(ask(topic="the moon", click=str(uuid4()))) == (402, "not_enough_credits")
    assert balance(shop, account_id) == 10


def test_only_a_signed_in_user_spends_and_only_their_own(
    ask: Ask,
    stack: Stack,
    shop: Shop,
    user_id: UUID,
    account_id: UUID,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    stranger = SigningKeys.load(tmp_path_factory.mktemp("keys")).access_token(user_id, "a@b.c")
    click = str(uuid4())
    for token in (None, "nonsense", stranger, stack.settings["SUPABASE_PUBLISHABLE_KEY"]):
        assert ask(token, topic="the sea", click=click, user_id=str(user_id)).status_code == 401
    assert balance(shop, account_id) == 60
    other = find_or_create_user(stack.settings["DATABASE_URL"], f"{uuid4().hex}@example.com")
    token = SigningKeys.load(Path(stack.settings["TILL_STATE"])).access_token(other, "b@example.com")
    body = {"topic": "the sea", "click": click, "account_id": str(account_id), "user_id": str(user_id)}
    assert told(ask(token, **body)) == (403, "account_forbidden")
    body.pop("account_id")
    assert told(ask(token, **body)) == (402, "not_enough_credits")
    assert balance(shop, account_id) == 60


def test_a_member_spends_the_credits_of_the_team(
    ask: Ask, stack: Stack, shop: Shop, user_id: UUID, account_id: UUID
) -> None:
    owner = find_or_create_user(stack.settings["DATABASE_URL"], f"{uuid4().hex}@example.com")
    with shop.connect() as conn:
        [(team,)] = conn.execute("select (billing.create_team('Rocket', %s)).id", [owner]).fetchall()
        conn.execute("select billing.grant_credits(%s, 60, 'gift', 'A gift')", [team])
        wish = {"topic": "the sea", "account_id": str(team)}
        assert told(ask(**wish, click=str(uuid4()))) == (403, "account_forbidden")
        conn.execute("select billing.add_member(%s, %s)", [team, user_id])
    assert ask(**wish, click=str(uuid4())).json()["credits"] == 25
    assert (balance(shop, team), balance(shop, account_id)) == (35, 60)


@pytest.mark.parametrize(
    "body",
    [
        {"topic": "", "click": "$id"},
        {"topic": " ", "click": "$id"},
        {"topic": 7, "click": "$id"},
        {"topic": "the sea", "click": "$id", "lines": 4},
        {"topic": "the sea", "click": "$id", "lines": "3"},
        {"topic": "x" * 61, "click": "$id"},
        {"topic": "the sea"},
        {"topic": "the sea", "click": "again"},
        {"topic": "the sea", "click": ["$id"]},
        {"topic": "\0", "click": "$id"},
        {"content": '{"topic": "\\ud800", "click": "00000000-0000-4000-8000-000000000000"}'},
        {"topic": "the sea", "click": "$id", "account_id": "mine"},
        {"content": "null"},
        {"content": "[]"},
        {"content": '"the sea"'},
        {"content": ""},
    ],
    ids=[
        "empty", "blank", "number", "four-lines", "lines-text", "long", "no-click", "no-id", "list", "nul",
        "half-a-pair", "no-account", "null", "array", "text", "nothing",
    ],
)  # fmt: skip
def test_what_is_no_wish_costs_nothing(ask: Ask, shop: Shop, account_id: UUID, body: dict[str, Any]) -> None:
    sent = {
        name: str(uuid4()) if value == "$id" else [str(uuid4())] if value == ["$id"] else value
        for name, value in body.items()
    }
    assert told(ask(**sent)) == (400, "invalid_request")
    assert balance(shop, account_id) == 60


def test_a_longer_poem_costs_more(ask: Ask, shop: Shop, account_id: UUID) -> None:
    answer = ask(topic="the sea", click=str(uuid4()), lines=5).json()
    assert (len(answer["lines"]), answer["credits"], balance(shop, account_id)) == (5, 35, 25)


def test_a_frozen_account_writes_nothing(ask: Ask, shop: Shop, account_id: UUID) -> None:
    with shop.connect() as conn:
        conn.execute(
            "update billing.accounts set frozen_at = now(), frozen_reason = 'test' where id = %s",
            [account_id],
        )
    assert told(ask(topic="the sea", click=str(uuid4()))) == (403, "account_frozen")

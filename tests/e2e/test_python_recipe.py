"""docs/how-to/python-server.md: its files are type-checked and run, over real Postgres and over the Data API.

Left out: FastAPI, which is not installed; its server is Starlette, which runs here.
"""

import importlib.util
import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import UUID, uuid4

import httpx
import psycopg
import pytest
import uvicorn
from supabase import ClientOptions, create_client

from cli.shop import Shop
from devstack.processes import HOST, free_port
from devstack.stack import Stack
from devstack.tokens import SigningKeys
from tests.test_docs import ROOT

PAGE = ROOT / "docs/how-to/python-server.md"
NAMES = ("ledger", "app", "credits")

pytestmark = pytest.mark.filterwarnings(
    "ignore:The '.*' parameter is deprecated"
)  # supabase-py's own use of its parts


def files() -> dict[str, str]:
    """Path → text of the page's files."""
    return dict(re.findall(r"```python\n# (\S+)\n(.*?)```", PAGE.read_text(), re.DOTALL))


@pytest.fixture
def server(tmp_path: Path) -> Path:
    """The server of the page in a directory."""
    for path, text in files().items():
        (tmp_path / path).write_text(text)
    return tmp_path


def pyright(directory: Path, *names: str) -> list[tuple[str, str]]:
    """File and message of each error."""
    done = subprocess.run(
        [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, *names],
        cwd=directory, capture_output=True, text=True, check=False, timeout=180,
    )  # fmt: skip
    return [
        (found["file"], found["message"])
        for found in json.loads(done.stdout)["generalDiagnostics"]
        if found["severity"] == "error"
    ]


def test_the_files_are_well_typed_and_a_mistake_is_found(server: Path) -> None:
    assert sorted(files()) == ["app.py", "credits.py", "ledger.py"]
    wrong = files()["app.py"].replace("refused.code}", "refused.kode}")
    (server / "wrong.py").write_text(wrong)
    [(file, message)] = pyright(server, *files(), "wrong.py")
    assert file == str(server / "wrong.py")
    assert "kode" in message


@pytest.fixture
def modules(server: Path, stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, ModuleType]]:
    """The page's modules, imported with the stack's settings."""
    for name, setting in stack.settings.items():
        monkeypatch.setenv(name, setting)
    [table] = re.findall(r"```sql\n(create table.*?)```", PAGE.read_text(), re.DOTALL)
    with psycopg.connect(stack.settings["POSTGRES_URL"], autocommit=True) as conn:
        conn.execute(table)
        loaded: dict[str, ModuleType] = {}
        try:
            for name in NAMES:
                spec = importlib.util.spec_from_file_location(name, server / f"{name}.py")
                assert spec is not None
                assert spec.loader is not None
                loaded[name] = importlib.util.module_from_spec(spec)
                monkeypatch.setitem(sys.modules, name, loaded[name])
                spec.loader.exec_module(loaded[name])
            yield loaded
        finally:
            conn.execute("drop table public.renders")
            for name in ("app", "credits"):
                loaded[name].http.close()


@pytest.fixture
def user(stack: Stack) -> tuple[UUID, UUID, str]:
    """A user who bought a plan: id, account, access token."""
    email = f"{uuid4().hex}@example.com"
    with Shop(stack.settings) as shop:
        price = shop.plan("Python Pro", unit_amount=1900, initial_credits=0, monthly_credits=250)
        buyer = shop.sign_up(email)
        shop.pay_checkout(buyer, price)
        shop.settle()
    keys = SigningKeys.load(Path(stack.settings["TILL_STATE"]))
    return buyer.user_id, buyer.account_id, keys.access_token(buyer.user_id, email)


@contextmanager
def served(app: Any) -> Iterator[httpx.Client]:
    """The server on a port of its own, and a client of it."""
    port, begun = free_port(), threading.Event()

    class Server(uvicorn.Server):
        async def startup(self, sockets: Any = None) -> None:
            await super().startup(sockets)
            begun.set()

    serving = Server(uvicorn.Config(app, host=HOST, port=port, log_level="error"))
    thread = threading.Thread(target=serving.run)
    thread.start()
    try:
        assert begun.wait(30)
        with httpx.Client(base_url=f"http://{HOST}:{port}", timeout=30) as client:
            yield client
    finally:
        serving.should_exit = True
        thread.join()


def test_a_job_and_its_spend_are_both_stored_or_neither(
    stack: Stack, modules: dict[str, ModuleType], user: tuple[UUID, UUID, str]
) -> None:
    _, account_id, token = user
    headers = {"Authorization": f"Bearer {token}"}
    with served(modules["app"].app) as client, psycopg.connect(stack.settings["POSTGRES_URL"]) as conn:

        def render(job: Any, **more: str) -> tuple[int, Any]:
            answer = client.post("/renders", json={"id": str(job), "prompt": "a cat"}, headers=headers | more)
            return answer.status_code, answer.json()

        first, second, third = uuid4(), uuid4(), uuid4()
        assert render(first, Authorization="")[0] == 401
        assert render(first, Authorization="Bearer nonsense")[0] == 401
        assert render(first) == (200, {"balance": 130})
        assert render(first) == (200, {"balance": 130})
        assert render(second) == (200, {"balance": 10})
        status, answer = render(third)
        assert (status, answer["code"]) == (402, "TB001")
        stored = conn.execute("select id from public.renders").fetchall()
        assert {job for (job,) in stored} == {first, second}
        with modules["ledger"].pool.connection() as pooled:
            assert modules["ledger"].available(pooled, account_id) == 10
        conn.execute("select billing.freeze_account(%s, 'a test', 'test')", [account_id])
        conn.commit()
        assert render(third)[0] == 403


def test_the_data_api_spends_once_and_shows_a_user_their_own_balance(
    stack: Stack, modules: dict[str, ModuleType], user: tuple[UUID, UUID, str]
) -> None:
    user_id, account_id, token = user
    credits = modules["credits"]
    account = credits.account_of(user_id)
    assert account == str(account_id)
    for _ in range(2):
        assert credits.spend(account, 100, "render-1", "Rendered a video") == 150
    assert credits.spend(account, 1000, "render-2", "Rendered a film") is None
    assert credits.balances_of(token) == [
        {"account_id": account, "balance": 150, "held": 0, "available": 150}
    ]
    options = ClientOptions(httpx_client=credits.http)
    stranger = create_client(credits.URL, credits.PUBLISHABLE_KEY, options)
    other = stranger.auth.sign_up(
        {"email": f"{uuid4().hex}@example.com", "password": "correct horse battery"}
    )
    assert other.session is not None
    assert [row["balance"] for row in credits.balances_of(other.session.access_token)] == [0]

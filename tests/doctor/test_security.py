"""`till doctor --security`: quiet on what is shipped; each hole that is opened is named, with what shuts it."""

import json
import sys
import threading
import tomllib
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from cli.database import connect, row
from cli.doctor import security
from cli.doctor.data_api import outsider
from cli.findings import Finding
from cli.main import main
from devstack.data_api import DataApi, api_keys, data_api_settings
from devstack.tokens import SigningKeys
from tests.sql.calls import grant
from tests.support import Database, account_of, create_user

Connection = psycopg.Connection[Any]


@pytest.fixture
def shop(database: Database) -> Database:
    """Two users with credits."""
    with database.connect() as conn:
        for _ in range(2):
            grant(conn, account_of(conn, create_user(database)), 5)
    return database


@pytest.fixture
def till(
    shop: Database, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """`till doctor --security` → exit status and what it prints."""
    for name in ("SUPABASE_URL", "SUPABASE_PUBLISHABLE_KEY", "SUPABASE_USER_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("POSTGRES_URL", shop.url)

    def run(*options: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["till", "doctor", "--security", *options])
        with pytest.raises(SystemExit) as exited:
            main()
        return int(exited.value.code or 0), capsys.readouterr().out

    return run


HOLES = [
    (hole["opened"], hole["check"], hole["says"])
    for hole in tomllib.loads(Path(__file__).with_name("holes.toml").read_text())["hole"]
]


# What is fixed by hand, or by the statement of another finding, as the membership of service_role is.
UNMENDED = {
    "a user can read 1 rows of billing.credit_balances",
    "a user without an account can read 2 rows of billing.credit_balances",
    "app.settings.stripe of this database",
    "authenticated can call billing.grant_credits(",
    "policy accounts_select_own on billing.accounts differs from the release",
    "policy accounts_select_own on billing.accounts is missing",
    "public.top_up() of the app",
    "the metadata of prod_1",
    "the setting alert_webhook_url of billing.settings",
}


def found_by(conn: Connection, check: str) -> list[Finding]:
    """All that is found by what finds that kind."""
    trials = {look.__name__: look for look in security.TRIALS.values()}
    looks = [trials[check]] if check in trials else security.CHECKS.values()
    return [each for look in looks for each in look(conn) if each.check == check]


def test_each_hole_is_named_and_shut_by_the_statement_that_is_named(shop: Database) -> None:
    unnamed: list[Any] = []
    unmended: set[str] = set()
    with shop.connect(admin=True, row_factory=dict_row) as admin:
        for hole, check, what in HOLES:
            with admin.transaction(force_rollback=True):
                admin.execute(hole.replace("{database}", shop.name).encode())
                admin.execute("set local role postgres")
                found = [each for each in found_by(admin, check) if what in each.what]
                if not found:
                    unnamed.append((hole, what, found_by(admin, check)))
                if any(not each.mend.endswith(";") for each in found):
                    unmended.add(what)
                    continue
                admin.execute("reset role")
                for each in found:
                    admin.execute(each.mend.encode())
                if any(what in each.what for each in found_by(admin, check)):
                    unmended.add(what)
    assert unnamed == []
    assert unmended == UNMENDED


def test_a_database_that_is_read_only_is_no_proof(shop: Database) -> None:
    with connect(shop.url) as conn:
        conn.execute("set default_transaction_read_only = on")
        [found] = found_by(conn, "client_writes")
    assert "nothing can be tried on a read replica" in found.what


def test_what_is_shipped_has_no_hole(till: Callable[..., tuple[int, str]]) -> None:
    status, told = till("--json")
    assert (status, json.loads(told)["findings"]) == (0, [])
    status, told = till()
    assert status == 0
    assert "✓ no client can add credits (tried and rolled back)" in told
    assert "No security problem found." in told


def test_a_hole_ends_with_1_and_the_command_that_shuts_it(
    shop: Database, till: Callable[..., tuple[int, str]]
) -> None:
    with shop.connect() as conn:
        conn.execute("grant execute on function billing.grant_credits to authenticated")
    status, told = till()
    assert status == 1
    assert "✗ privileges of every role" in told
    assert "✗ no client can add credits" in told
    assert "revoke execute on function billing.grant_credits(" in told
    with shop.connect() as conn:  # nothing was left of the attempts
        assert conn.execute("select sum(balance) from billing.credit_balances").fetchone() == (10,)


@pytest.fixture
def data_api(shop: Database, tmp_path: Path) -> Iterator[Callable[..., list[Finding]]]:
    """What is found through the Data API, as a visitor and as one of the users."""
    keys = SigningKeys.load(tmp_path / "keys")
    settings = data_api_settings(shop.server, keys, shop.name)
    with DataApi.start(tmp_path, settings) as api, connect(shop.url) as conn:
        user_id = row(conn, "select owner_id from billing.accounts limit 1", {})["owner_id"]

        def look() -> list[Finding]:
            token = keys.access_token(user_id, "ada@example.com")
            return list(outsider(conn, api.url, api_keys(keys)["SUPABASE_PUBLISHABLE_KEY"], token))

        yield look


def test_the_data_api_lets_nobody_through(data_api: Callable[..., list[Finding]], shop: Database) -> None:
    assert data_api() == []
    with shop.connect() as conn:
        conn.execute("grant execute on function public.spend_credits, billing.spend_credits to authenticated")
    [found] = data_api()
    assert found.what.startswith("authenticated can call rpc/spend_credits (")
    assert found.mend.startswith("revoke execute on function public.spend_credits(")


def test_schemas_that_the_data_api_exposes_are_named(shop: Database) -> None:
    class Exposed(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.headers["Accept-Profile"] in ("billing", "pgmq_public") else 406)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"[]")

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Exposed) as server, connect(shop.url) as conn:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        found = list(outsider(conn, f"http://127.0.0.1:{server.server_port}", "key", None))
        server.shutdown()
    exposed = [(each.what, each.severity) for each in found if each.check == "exposed_schema"]
    assert exposed == [
        ("schema billing is exposed in the Data API", "error"),
        ("schema pgmq_public is exposed in the Data API", "warning"),
    ]


def test_a_data_api_that_does_not_answer_is_a_finding(shop: Database) -> None:
    with connect(shop.url) as conn:
        [found] = outsider(conn, "http://127.0.0.1:1", "key", None)
    assert "does not answer" in found.what

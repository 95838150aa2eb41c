"""`till doctor` on a database and a local Stripe: quiet when all is well; each damage by name, with what mends it."""

import json
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, LiteralString

import psycopg
import pytest
import stripe
from psycopg.rows import dict_row

from cli.doctor.checks import of_data_api
from cli.doctor.stripe_checks import PERMISSIONS, endpoint, permissions
from cli.event_replay import receive
from cli.findings import Finding, Skipped
from cli.main import main
from cli.webhook_endpoints import events_of
from tests.pooler import pooled
from tests.sql.calls import sync_price, sync_product
from tests.sql.test_pg_cron import PG_CRON
from tests.sql.test_watch import PG_NET
from tests.stripe_local.conftest import KEY, Local, _serve
from tests.support import Database, account_of, create_user

URL = "https://abc.supabase.co/functions/v1/stripe-webhook"
Doctor = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def local() -> Iterator[Local]:
    with contextmanager(_serve)(None) as local:
        yield local


@pytest.fixture
def till(
    database: Database,
    local: Local,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Callable[..., Any]:
    """`till …` in an empty directory → exit status and JSON."""
    monkeypatch.chdir(tmp_path)
    environ = {
        "POSTGRES_URL": database.url, "STRIPE_API_KEY": KEY, "STRIPE_API_BASE": local.url, "WEBHOOK_URL": URL,
    }  # fmt: skip
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    for name in ("SUPABASE_URL", "SUPABASE_PUBLISHABLE_KEY"):
        monkeypatch.delenv(name, raising=False)

    def run(*arguments: str) -> tuple[int, Any]:
        monkeypatch.setattr(sys, "argv", ["till", *arguments, "--json"])
        with pytest.raises(SystemExit) as exited:
            main()
        told = capsys.readouterr()
        assert told.out, told.err
        return int(exited.value.code or 0), json.loads(told.out)

    return run


@pytest.fixture
def doctor(database: Database, local: Local, till: Callable[..., Any]) -> Doctor:
    """The findings of `till doctor`, with an endpoint that is as it should be and a worker that is connected."""
    local.client.webhook_endpoints.create(
        {"url": URL, "enabled_events": events_of(livemode=False), "api_version": stripe.api_version}
    )

    def run(*options: str, worker: bool = True) -> list[dict[str, Any]]:
        with database.connect() as conn:
            if worker:
                conn.execute("set application_name = 'till worker'")
            status, told = till("doctor", *options)
        errors = [each for each in told["findings"] if each["severity"] == "error"]
        assert status == (1 if errors else 0)
        return told["findings"]

    return run


def test_nothing_is_wrong_with_what_was_just_installed(doctor: Doctor) -> None:
    assert doctor() == []
    assert doctor("--full") == []


def with_account(database: Database) -> str:
    """An account with a grant of 100."""
    user = create_user(database)
    with database.connect() as conn:
        account = account_of(conn, user)
        conn.execute("select billing.grant_credits(%s, 100, 'first')", [account])
    return str(account)


@pytest.mark.parametrize(
    ("damage", "invariant"),
    [
        ("delete from billing.credit_entries", "balance"),
        ("delete from billing.credit_grants; delete from billing.credit_entries; "
         "update billing.credit_balances set balance = 5", "balance"),
        ("update billing.credit_balances set balance = 99", "balance"),
    ],
)  # fmt: skip
def test_a_damage_to_the_ledger_is_found_at_once_by_the_full_proof(
    database: Database, doctor: Doctor, damage: LiteralString, invariant: str
) -> None:
    account = with_account(database)
    with database.connect(admin=True) as conn:
        conn.execute("set session_replication_role = replica")
        conn.execute(damage)
    found = [each for each in doctor("--full") if each["check"] == "discrepancies"]
    assert [each for each in found if invariant in each["what"]], found
    assert account in found[0]["mend"]


def test_clocks_that_differ_are_named(
    database: Database, doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cli.doctor.stripe_checks.CLOCK_SKEW_MAX_SECONDS", -1)
    monkeypatch.setattr("cli.doctor.database.CLOCK_SKEW_MAX", timedelta(seconds=-1))
    told = [each["what"] for each in doctor() if each["check"] == "clock"]
    assert [what.rpartition(" differ")[0] for what in told] == [
        "this machine and the database", "this machine and Stripe", "the database and Stripe",
    ]  # fmt: skip


def test_a_transaction_pooler_is_named(
    database: Database, doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pooled(database, "transaction", 4) as url:
        monkeypatch.setenv("POSTGRES_URL", url)
        found = [each for each in doctor() if each["check"] == "pooler"]
    assert "transaction pooler" in found[0]["what"]
    assert "5432" in found[0]["mend"]


def test_in_live_mode_it_says_who_would_notice_a_missing_worker(database: Database, doctor: Doctor) -> None:
    def told() -> list[str]:
        return [each["what"] for each in doctor() if each["check"] == "watch"]

    with database.connect(admin=True) as admin:
        assert told() == []
        admin.execute("update billing.settings set livemode = true")
        [both] = told()
        assert "pg_net or settings.alert_webhook_url and the job of pg_cron" in both
        admin.execute(PG_CRON)
        admin.execute(PG_NET)
        admin.execute("update billing.settings set alert_webhook_url = 'https://hooks.example.com/x'")
        [cron] = told()
        assert "pg_net" not in cron
        with database.connect() as conn:
            conn.execute("select billing.use_pg_cron()")
        assert told() == []


def test_a_plan_that_is_paid_for_and_gives_nothing_is_named(database: Database, doctor: Doctor) -> None:
    with database.connect("billing_worker") as worker:
        sync_product(worker, stripe_product_id="prod_1")
        sync_price(worker, stripe_product_id="prod_1", stripe_price_id="price_1", lookup_key="pro")
    with database.connect(admin=True) as conn:
        conn.execute(
            "insert into billing.customers (stripe_customer_id, livemode, as_of) values ('cus_1', false, now())"
        )
        conn.execute(
            "insert into billing.subscriptions (stripe_subscription_id, stripe_customer_id, livemode, status, "
            "billing_cycle_anchor, started_at, as_of) values ('sub_1', 'cus_1', false, 'active', now(), now(), now())"
        )
        conn.execute(
            "insert into billing.subscription_items (stripe_subscription_item_id, stripe_subscription_id, "
            "stripe_price_id, current_period_start, current_period_end, quantity) "
            "values ('si_1', 'sub_1', 'price_1', now(), now(), 1), ('si_2', 'sub_1', 'price_2', now(), now(), 1)"
        )
    found = {each["check"]: each for each in doctor()}
    assert "1 subscription to pro (price_1) gives no credits" in found["plan_without_credits"]["what"]
    assert found["unknown_price"]["mend"] == "till plans sync"


def test_overage_that_cannot_be_billed_is_named(database: Database, doctor: Doctor) -> None:
    with database.connect("billing_worker") as worker:
        sync_product(worker, stripe_product_id="prod_1")
        terms = {"overage_limit": "5", "overage_pack": "more"}
        sync_price(worker, lookup_key="pro", metadata=terms)
        assert (
            "pro has no overage: no pack more"
            in {each["check"]: each for each in doctor()}["overage_pack"]["what"]
        )
        one_time = {"stripe_price_id": "price_more", "type": "one_time", "lookup_key": "more"}
        sync_price(worker, metadata={"pack_credits": "1"}, **one_time)
    with database.connect(admin=True) as conn:
        account = account_of(conn, create_user(database))
        refused = conn.execute(
            "insert into billing.overages (account_id, stripe_subscription_id, stripe_customer_id, stripe_price_id, "
            "stripe_pack_price_id, period_start, period_end, counted_from, counted_until, credits, quantity, amount, "
            "currency, status, reason, claimed_at, settled_at) select %s, 'sub_1', 'cus_1', 'price_1', 'price_more', "
            "now(), now(), now(), 'infinity', 1, 1, 1, 'usd', 'failed', 'archived', now(), now() returning id",
            [account],
        ).fetchone()
        assert refused is not None
    found = {each["check"]: each for each in doctor()}
    assert "overage_pack" not in found
    assert f"till overage retry {refused[0]}" in found["overages"]["mend"]


def test_events_that_never_arrived_are_named_and_fetched(
    database: Database,
    local: Local,
    doctor: Doctor,
    till: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(local.world.webhooks, "announce", lambda event_id, event: None)
    for number in range(120):  # more than a page
        local.client.products.create({"name": f"Product {number}"})
    sent = [event.id for event in local.client.events.list({"limit": 100}).auto_paging_iter()]
    assert len(sent) == 120
    monkeypatch.setattr("worker.arrivals.ARRIVAL", timedelta(seconds=-5))
    with psycopg.connect(database.url, autocommit=True, row_factory=dict_row) as conn:
        received = local.client.events.retrieve(sent[7])
        receive(conn, json.loads(str(received)))
    [finding] = doctor()
    assert finding["what"].startswith("119 events of the last day never arrived, such as evt_")
    assert finding["mend"] == "till webhook verify, then till events replay"
    monkeypatch.setattr("worker.arrivals.PAGES_MAX", 1)
    _, told = till("doctor")
    [skipped] = [each["skipped"] for each in told["checks"] if each["name"] == "arrival of events"]
    assert "were not compared, because there are more than 100" in skipped
    [finding] = [each for each in told["findings"] if each["check"] == "events_missing"]
    assert finding["what"].startswith("99 events since ")
    monkeypatch.setattr("worker.arrivals.PAGES_MAX", 2)
    assert len(till("events", "replay", "--dry-run")[1]) == 119
    assert {each["answer"] for each in till("events", "replay")[1]} == {"queued"}
    assert till("events", "replay")[1] == []
    assert doctor() == []
    with database.connect(admin=True) as conn:
        row = conn.execute("select count(*), count(distinct payload) from billing.stripe_events").fetchone()
        assert row == (120, 120)


def test_a_key_that_stripe_does_not_accept_is_named(doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRIPE_API_KEY", "pk_test_123")
    assert "is a publishable key" in next(each["what"] for each in doctor() if each["check"] == "stripe_key")


def test_an_unreachable_stripe_is_said_and_is_no_error_of_ours(
    doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STRIPE_API_BASE", "http://127.0.0.1:1")
    found = doctor()
    assert {each["check"] for each in found} == {"stripe"}
    assert "Stripe could not be asked" in found[0]["what"]


def test_files_of_the_project_are_checked(till: Callable[..., Any], doctor: Doctor, tmp_path: Path) -> None:
    (tmp_path / "supabase").mkdir()
    (tmp_path / "supabase/config.toml").write_text('project_id = "shop"\n')
    till("init")
    assert doctor() == []
    handler = tmp_path / "supabase/functions/portal/handler.ts"
    handler.write_text("// edited\n")
    [migration] = (tmp_path / "supabase/migrations").glob("*.sql")
    migration.write_text("-- edited\n")
    (tmp_path / "supabase/functions/checkout/index.ts").unlink()
    assert sorted((each["severity"], each["what"]) for each in doctor()) == [
        ("error", "supabase/functions/checkout/index.ts is missing"),
        ("error", f"supabase/migrations/{migration.name} was edited"),
        ("warning", "supabase/functions/portal/handler.ts was edited"),
    ]


def test_the_guide_names_every_permission_of_both_keys() -> None:
    guide = (Path(__file__).parents[2] / "docs/how-to/install.md").read_text()
    rows = [
        [cell.strip() for cell in line.split("|")]
        for line in guide.splitlines()
        if line.startswith("| of the ")
    ]
    told = {row[1].split()[2].rstrip(","): {"read": row[2], "write": row[3]} for row in rows}
    for each in PERMISSIONS:
        assert each.name in told[each.needed_by][each.access], each


def test_without_a_key_the_database_is_checked_all_the_same(
    database: Database, till: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("STRIPE_API_KEY")
    _, told = till("doctor")
    checks = {each["name"]: each for each in told["checks"]}
    assert checks["objects and rights"] == {"name": "objects and rights", "ok": True, "skipped": None}
    assert checks["Stripe"]["skipped"] == "STRIPE_API_KEY is not set"


def test_an_unreachable_database_is_a_finding_beside_the_others(
    till: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "supabase").mkdir()
    (tmp_path / "supabase/config.toml").write_text("project_id = \n")
    monkeypatch.setenv("POSTGRES_URL", "postgresql://postgres@127.0.0.1:1/postgres")
    status, told = till("doctor")
    assert status == 1
    assert [(each["check"], each["severity"]) for each in told["findings"]] == [
        ("files", "error"),
        ("connection", "error"),
    ]
    assert told["findings"][1]["what"] == "nothing listens at 127.0.0.1:1"


@pytest.fixture
def restricted() -> Iterator[Any]:
    """A client whose key may not read disputes and endpoints, nor write refunds; the local Stripe restricts no key."""
    refused = {"/v1/disputes", "/v1/webhook_endpoints", "/v1/refunds/none"}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            is_refused = self.path.partition("?")[0] in refused
            body = json.dumps(
                {"error": {"type": "invalid_request_error", "message": "not permitted"}}
            ).encode()
            self.send_response(403 if is_refused else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    base = f"http://127.0.0.1:{server.server_address[1]}"
    yield stripe.StripeClient("rk_test_1", base_addresses={"api": base}, max_network_retries=0)
    server.shutdown()
    server.server_close()


def test_a_permission_that_the_worker_needs_is_an_error_and_that_of_a_feature_a_warning(
    restricted: Any,
) -> None:
    assert [(each.what, each.severity) for each in permissions(restricted)] == [
        ("the key may not write Charges and Refunds (refunds by the fraud policy)", "warning"),
        ("the key may not read Disputes (what is disputed)", "error"),
    ]


def test_a_key_that_may_not_read_the_endpoint_is_no_error(restricted: Any) -> None:
    [result] = endpoint(restricted, URL)
    assert isinstance(result, Skipped)
    assert "till webhook verify" in result.why


@pytest.mark.parametrize("url", ["project.supabase.co", "http://[::1"])
def test_a_data_api_url_that_is_none_is_a_finding(url: str) -> None:
    [finding] = of_data_api(url, "sb_publishable_1")
    assert isinstance(finding, Finding)
    assert "check SUPABASE_URL" in finding.mend

"""Real Postgres for every test: a server for each process, and a database that is as it was just migrated."""

import gc
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import psycopg
import pytest
import typer.main

from devstack.migrate import migrate
from devstack.paths import migrations_directory, schemas_directory
from devstack.postgres import Postgres
from devstack.postgres_install import chosen_major
from devstack.release import RELEASE, migration
from devstack.scaffold import DefaultGrants, create_database
from tests import containers, older_pgmq, schedule
from tests.databases import Databases
from tests.supabase_cli import NotInstallable, install
from tests.support import Database

# Where Python is told to keep no bytecode (images of containers do), 300 files would be compiled for each process that
# tests, and ours for each program that a test starts.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# While tests are collected nothing becomes garbage, and looking for it takes a sixth of the time.
gc.disable()

# Tests call the command line within their process. All its commands are made of their functions for each call, which
# takes longer than most commands.
_commands = cache(typer.main.get_command)
typer.main.get_command = _commands

_servers: list[Postgres] = []
_environment: dict[str, str] = {}

# Linux's file system in memory: a clone takes a tenth of the time that a busy disk takes. Containers have a small one.
_MEMORY = Path("/dev/shm")
_MEMORY_FREE_BYTES_MIN = 4 * 1024**3

# What `make test-fast` leaves out, by measurement: a test in these takes a fifth of a second of a processor and more,
# one of the SQL less than a tenth.
_SLOW = {
    "adopt/test_init.py",
    "browser",
    "chaos",
    "crash",
    "dashboard/test_account_page.py",
    "dashboard/test_command.py",
    "dashboard/test_disputes.py",
    "devstack/test_auth.py",
    "devstack/test_data_api.py",
    "devstack/test_older_postgres.py",
    "devstack/test_postgres.py",
    "devstack/test_project.py",
    "doctor",
    "e2e",
    "functions",
    "plans/test_plans.py",
    "plans/test_plans_sync.py",
    "properties",
    "reconcile",
    "reference",
    "security/test_features.py",
    "security/test_plans_of_queries.py",
    "security/test_wild_calls.py",
    "sql/test_credit_guard.py",
    "sql/test_credit_guard_late_cards.py",
    "sql/test_credit_guard_races.py",
    "sql/test_credit_guard_reviews.py",
    "sql/test_hot_accounts.py",
    "sql/test_lost_messages.py",
    "sql/test_payment_orders.py",
    "sql/test_pg_cron.py",
    "sql/test_privacy.py",
    "sql/test_prorations.py",
    "sql/test_realtime.py",
    "sql/test_returned_money.py",
    "sql/test_slots.py",
    "stripe_local/test_conformance.py",
    "stripe_local/test_fuzz.py",
    "stripe_local/test_webhooks.py",
    "test_cli_accounts.py",
    "test_cli_budgets.py",
    "test_cli_credits.py",
    "test_cli_startup.py",
    "test_cli_teams.py",
    "test_credit_allocate.py",
    "test_deploy_check.py",
    "test_fraud_cli.py",
    "test_links.py",
    "test_release.py",
    "test_types.py",
    "worker/test_account.py",
    "worker/test_clock.py",
    "worker/test_dead_workers.py",
    "worker/test_deploy.py",
    "worker/test_emails.py",
    "worker/test_fraud.py",
    "worker/test_lives.py",
    "worker/test_money_lives.py",
    "worker/test_mutated_events.py",
    "worker/test_notify.py",
    "worker/test_payment_links.py",
    "worker/test_pooler.py",
    "worker/test_process.py",
    "worker/test_recharge.py",
    "worker/test_stalled_stripe.py",
}
_TESTS = Path(__file__).parent


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--update-snapshots` writes what is committed of the schema anew instead of comparing with it."""
    parser.addoption("--update-snapshots", action="store_true", help="write tests/snapshots and types anew")


def pytest_configure() -> None:
    """Nothing is tested on a database that the schemas are not any more, nor without the Ctrl-C that some tests send.

    A shell that starts a program with `&` lets it ignore that, and every program that it starts in its turn.
    """
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    _environment.update(os.environ)
    if (migrations_directory() / RELEASE).read_text(encoding="utf-8") != migration(schemas_directory()):
        pytest.exit("supabase/schemas and its migration differ: run `make migration`", returncode=1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is slow, and of a test with a database that has many cases all but the first."""
    assert [entry for entry in _SLOW if not (_TESTS / entry).exists()] == []
    schedule.order(items, _TESTS.parent)
    played: set[tuple[Path, str]] = set()
    for item in items:
        assert isinstance(item, pytest.Function)
        path = item.path.relative_to(_TESTS)
        name = (path, item.originalname)
        is_further_case = "server" in item.fixturenames and name in played
        played.add(name)
        if is_further_case or not _SLOW.isdisjoint({path.parts[0], path.as_posix()}):
            item.add_marker(pytest.mark.slow)


def pytest_collection_finish() -> None:
    """Look for garbage from now on, but not among the tests."""
    gc.enable()
    gc.freeze()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> schedule.Schedule | None:
    """`--dist loadgroup`: by units."""
    return schedule.Schedule(config, log) if config.getvalue("dist") == "loadgroup" else None


def pytest_report_header() -> list[str]:
    """Say what the tests run on: TILLBASE_POSTGRES, TILLBASE_PGMQ and TILLBASE_POSTGRES_IMAGE choose others."""
    pgmq = older_pgmq.VERSION if older_pgmq.is_wanted() else "of its package"
    local = f"Postgres {chosen_major()}, pgmq {pgmq}"
    return [containers.line()] if containers.image() else [local, containers.line()]


@contextmanager
def _reachable_directory(parent: Path | None = None) -> Iterator[Path]:
    """A temporary directory that the server's user can pass through even when the tests run as root."""
    with tempfile.TemporaryDirectory(prefix="tillbase-test-", dir=parent, ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o711)
        yield Path(name)


@contextmanager
def _running(directory: Path, *, durable: bool) -> Iterator[Postgres]:
    # Nothing runs beside the tests that they have not started: a table that is analyzed is planned for otherwise.
    server = Postgres.start(directory, durable=durable, settings={} if durable else {"autovacuum": "off"})
    _servers.append(server)
    try:
        yield server
    finally:
        server.delete()
        _servers.remove(server)


@pytest.fixture(scope="session")
def server() -> Iterator[Postgres]:
    """The server of this pytest process; it forgoes safety against a power cut."""
    if image := containers.image():
        server = containers.ContainerPostgres(image)
        _servers.append(server)
        yield server
        _servers.remove(server)
        server.delete()
        return
    roomy = _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free >= _MEMORY_FREE_BYTES_MIN
    with (
        _reachable_directory(_MEMORY if roomy else None) as directory,
        _running(directory / "data", durable=False) as server,
    ):
        yield server


def _install(server: Postgres, database: str) -> None:
    if older_pgmq.is_wanted():
        older_pgmq.create(server, database)
    migrate(server.url(database), migrations_directory())


@pytest.fixture(scope="session")
def template(server: Postgres) -> Callable[[DefaultGrants], str]:
    """Default grants → name of a migrated database to copy, made when first asked for."""

    @cache
    def make(default_grants: DefaultGrants) -> str:
        name = f"template_{default_grants}"
        create_database(server, name, default_grants=default_grants)
        _install(server, name)
        return name

    return make


@pytest.fixture(scope="session")
def databases(server: Postgres) -> Iterator[Databases]:
    """Copies of templates, for tests that need more than one database."""
    databases = Databases(server)
    yield databases
    databases.close()


@pytest.fixture
def database(databases: Databases, template: Callable[[DefaultGrants], str]) -> Iterator[Database]:
    """A database of the test's own: a fresh Supabase project with every migration."""
    with databases.copy(template("none")) as database:
        yield database


@pytest.fixture
def database_of_older_project(
    databases: Databases, template: Callable[[DefaultGrants], str]
) -> Iterator[Database]:
    """The same in a project made before 2026-10-30, which grants the API roles everything new in `public`."""
    with databases.copy(template("all")) as database:
        yield database


@pytest.fixture
def empty_database(databases: Databases) -> Iterator[Database]:
    """A fresh Supabase project without any migration."""
    with databases.fresh() as database:
        yield database


@pytest.fixture
def conn(database: Database) -> Iterator[psycopg.Connection]:
    """An autocommit connection to `database` as `postgres`."""
    with database.connect() as connection:
        yield connection


@pytest.fixture
def private_postgres() -> Iterator[Postgres]:
    """A durable server of the test's own, migrated in its database `postgres`: to stop, kill and restart."""
    with _reachable_directory() as directory, _running(directory / "data", durable=True) as server:
        create_database(server, "postgres")
        _install(server, "postgres")
        yield server


@pytest.fixture
def fresh_commands() -> Iterator[None]:
    """The command line as a process finds it: each page of help that is shown leaves names on its options."""
    _commands.cache_clear()
    yield
    _commands.cache_clear()


@pytest.fixture(scope="session")
def supabase_cli(pytestconfig: pytest.Config) -> Path:
    """The program of the real Supabase CLI; skips aloud where it can't be installed."""
    try:
        return install()
    except NotInstallable as reason:
        if pytestconfig.getoption("update_snapshots"):
            pytest.fail(f"nothing is written: {reason}")
        pytest.skip(str(reason))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown() -> Generator[None]:
    """No test and no fixture leaves a variable behind, because the programs of later tests would inherit it."""
    yield
    left = {name for name, _ in os.environ.items() ^ _environment.items() if not name.startswith("PYTEST_")}
    for name in left:  # only this test fails
        os.environ.pop(name, None)
        if name in _environment:
            os.environ[name] = _environment[name]
    assert not left, f"left in the environment: {', '.join(sorted(left))}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show with a failure what the servers logged last."""
    report = yield
    if report.failed:
        for server in _servers:
            report.sections.append((f"Postgres log, {server.log_path.parent.name}", server.log_tail()))
    return report


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """What tests have measured and want read: `record_property("printed", text)`."""
    for report in terminalreporter.stats.get("passed", []):
        for name, text in report.user_properties:
            if name == "printed":
                terminalreporter.write_line(f"\n{text}")

"""`till deploy --check`: the walk to a live deployment, each missing step with its command, on real functions."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, LiteralString

import pytest

from cli.main import main
from devstack.functions import EdgeFunctions
from devstack.paths import supabase_directory
from devstack.tokens import SigningKeys
from tests.sql.calls import sync_price, sync_product
from tests.stripe_local.conftest import KEY, Local, _serve
from tests.support import Database

SITE = "https://app.example.com"
NAMES = ("checkout", "payment-links", "portal", "stripe-webhook")
Check = Callable[..., dict[str, Any]]


@pytest.fixture
def local() -> Iterator[Local]:
    with contextmanager(_serve)(None) as local:
        yield local


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "shop"
    (root / "supabase").mkdir(parents=True)
    (root / "supabase/config.toml").write_text(f'project_id = "shop"\n\n[auth]\nsite_url = "{SITE}"\n')
    return root


@pytest.fixture
def functions(tmp_path: Path, database: Database) -> Iterator[Callable[..., str]]:
    """Serve the edge functions with these secrets → their URL."""
    started: list[EdgeFunctions] = []

    def start(folder: Path | None = None, **environment: str) -> str:
        folder = folder or supabase_directory() / "functions"
        environment |= {"SUPABASE_DB_URL": database.url, "SUPABASE_JWKS": SigningKeys.load(tmp_path).jwks()}
        started.append(EdgeFunctions.start(folder, tmp_path / f"functions-{len(started)}", environment))
        return started[-1].url

    yield start
    for each in started:
        each.stop()


@pytest.fixture
def till(
    database: Database,
    local: Local,
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Callable[..., Any]:
    """`till …` in the project → exit status and JSON."""
    monkeypatch.chdir(project)
    for name, value in {
        "POSTGRES_URL": database.url, "STRIPE_API_KEY": KEY, "STRIPE_API_BASE": local.url, "PATH": "",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    for name in ("WEBHOOK_URL", "FUNCTIONS_URL"):
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
def check(till: Callable[..., Any]) -> Check:
    """The findings of `till deploy --check …`, by their step."""

    def run(*options: str) -> dict[str, Any]:
        status, told = till("deploy", "--check", *options)
        errors = [each for each in told["findings"] if each["severity"] == "error"]
        assert status == (1 if errors else 0)
        by_step: dict[str, Any] = {}
        for each in told["findings"]:
            by_step.setdefault(each["check"], []).append((each["what"], each["mend"]))
        return by_step

    return run


def execute(database: Database, statement: LiteralString) -> None:
    with database.connect() as conn:
        conn.execute(statement)


def test_a_project_of_somebodys_own_is_walked_to_live_step_by_step(
    database: Database, project: Path, local: Local, functions: Callable[..., str], till: Any, check: Check
) -> None:
    """Each command that is named makes its finding go away, and nothing is left at the end."""
    url = functions()
    options = ("--test", "--functions-url", url)
    found = check(*options)
    assert found["project"] == [("Tillbase is not in this project", "till init")]

    till("init")
    found = check(*options)
    assert "project" not in found
    [(what, mend)] = found["migrations"]
    assert "_tillbase_0_1_0 was not pushed" in what
    assert mend == "supabase db push --remote --yes"
    assert "redirects" not in found  # it comes after the migrations
    # As a push would note it: the database of this test has the release under the version that we ship.
    [ours] = (project / "supabase/migrations").glob("*_tillbase_*.sql")
    execute(database, f"update supabase_migrations.schema_migrations set version = '{ours.name[:14]}'")

    found = check(*options)
    assert set(found) == {"webhook", "secrets", "plans", "redirects", "worker"}
    assert found["secrets"][0][1].startswith("till webhook create --set-secret")
    assert found["webhook"] == [
        (f"Stripe has no webhook endpoint for {url}/stripe-webhook", "till webhook create")
    ]
    assert "till plans sync" in found["plans"][0][1]
    assert found["redirects"][0][1].startswith("update billing.settings set site_url = ")
    assert found["worker"] == [("no worker is connected", "till worker run")]

    made = till("webhook", "create", "--url", f"{url}/stripe-webhook")[1]
    execute(database, f"update billing.settings set site_url = '{SITE}'")
    with database.connect("billing_worker") as worker:
        sync_product(worker, stripe_product_id="prod_1")
        sync_price(
            worker, stripe_product_id="prod_1", stripe_price_id="price_1", metadata={"monthly_credits": "10"}
        )
    found = check(*options)
    assert set(found) == {"secrets", "worker"}

    url = functions(**made["secrets"])
    till("webhook", "create", "--url", f"{url}/stripe-webhook")
    with database.connect() as conn:
        conn.execute("set application_name = 'till worker'")
        assert check("--test", "--functions-url", url) == {}


def test_test_mode_is_not_live(
    database: Database, project: Path, functions: Any, till: Any, check: Check
) -> None:
    till("init")
    [ours] = (project / "supabase/migrations").glob("*_tillbase_*.sql")
    execute(database, f"update supabase_migrations.schema_migrations set version = '{ours.name[:14]}'")
    found = check("--functions-url", functions())
    assert found["mode"] == [
        ("STRIPE_API_KEY is a test key", "export STRIPE_API_KEY=rk_live_…"),
        (
            "the installation is in test mode: it ignores live payments",
            "update billing.settings set livemode = true",
        ),
    ]
    assert "webhook" not in found  # an endpoint of test mode proves nothing


def test_the_linked_project_must_be_the_one_of_the_connection_string(
    project: Path, till: Any, check: Check
) -> None:
    till("init")
    assert check("--test")["link"] == [("no hosted project is linked", "supabase link --project-ref <ref>")]
    (project / "supabase/.temp").mkdir()
    (project / "supabase/.temp/project-ref").write_text("abcdefghijklmnopqrst\n")
    # Its functions are not asked here: nothing leaves this machine.
    from cli.adopt.project import find_project
    from cli.deploy.database import address
    from worker.settings import Settings

    linked = find_project(project)
    for url, is_found in {
        "postgresql://postgres:x@db.abcdefghijklmnopqrst.supabase.co:5432/postgres": False,
        "postgresql://postgres.abcdefghijklmnopqrst:x@aws-0-eu.pooler.supabase.com:5432/postgres": False,
        "postgresql://postgres:x@db.another.supabase.co:5432/postgres": True,
    }.items():
        assert bool(list(address(Settings(url), linked))) == is_found, url


@pytest.mark.parametrize(
    ("damage", "step", "what"),
    [
        ("update billing.settings set site_url = 'http://localhost:3000'", "redirects", "no customer can open"),
        ("update billing.settings set allowed_redirect_origins = '{http://localhost:5173}'", "redirects",
         "checkout may return to http://localhost:5173"),
        ("drop function public.spend_credits", "schema", "function public.spend_credits"),
        ("update supabase_migrations.schema_migrations set version = '20200101000000'", "migrations",
         "was not pushed"),
        ("insert into supabase_migrations.schema_migrations (version, name) values ('20200101000000', 'theirs')",
         "migrations", "the database has migration 20200101000000, which is not in the project"),
        ("drop schema billing cascade", "schema", "is missing"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_the_database_is_found(
    database: Database,
    project: Path,
    functions: Any,
    till: Any,
    check: Check,
    damage: LiteralString,
    step: str,
    what: str,
) -> None:
    till("init")
    [ours] = (project / "supabase/migrations").glob("*_tillbase_*.sql")
    execute(database, f"update supabase_migrations.schema_migrations set version = '{ours.name[:14]}'")
    execute(database, damage)
    found = check("--test", "--functions-url", functions())
    assert [each for each in found[step] if what in each[0]], found


STRANGERS = {
    "checkout": "Deno.serve(() => new Response('{}', { status: 401 }));",
    "portal": "Deno.serve(() => new Response('hello'));",
    "payment-links": "throw new Error('broken');",
}


def test_functions_that_are_not_ours_or_behind_verify_jwt_are_named(
    tmp_path: Path, functions: Any, till: Any, check: Check
) -> None:
    for name, text in STRANGERS.items():
        (tmp_path / "theirs" / name).mkdir(parents=True)
        (tmp_path / "theirs" / name / "index.ts").write_text(text)
    till("init")
    found = dict(check("--test", "--functions-url", functions(tmp_path / "theirs"))["functions"])
    assert found == {
        "stripe-webhook is not deployed": "supabase functions deploy stripe-webhook",
        "checkout is deployed with verify_jwt, which refuses Stripe and browsers":
            "supabase functions deploy checkout --no-verify-jwt",
        "portal answers 200, not as Tillbase's function does": "supabase functions deploy portal",
        "payment-links answers 503, not as Tillbase's function does": "supabase functions deploy payment-links",
    }  # fmt: skip
    [(what, _), *_] = check("--test", "--functions-url", "http://127.0.0.1:1")["functions"]
    assert what.startswith("checkout can't be reached: ") or what.startswith(
        "stripe-webhook can't be reached: "
    )


def test_secrets_are_listed_by_the_supabase_cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has no project to ask here: a program in its place prints what it prints."""
    from cli.deploy.functions import secrets

    program = tmp_path / "supabase"
    program.write_text(
        '#!/bin/sh\necho "A new version is available"\necho \'[{"name": "STRIPE_API_KEY", "value": "3f"}]\'\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    [finding] = secrets({}, tmp_path, is_hosted=True)
    assert getattr(finding, "what", None) == "the functions have no STRIPE_WEBHOOK_SECRET"
    program.write_text("#!/bin/sh\nexit 1\n")
    [skipped] = secrets({}, tmp_path, is_hosted=True)
    assert "supabase secrets list" in getattr(skipped, "why", "")


def test_auths_own_address_is_compared_with_the_apps(project: Path) -> None:
    from cli.adopt.project import find_project
    from cli.deploy.project import auth

    config = project / "supabase/config.toml"
    [skipped] = auth(find_project(project), SITE)
    assert "Redirect URLs" in getattr(skipped, "why", "")
    config.write_text('[auth]\nsite_url = "http://127.0.0.1:3000"\n')
    [finding] = auth(find_project(project), SITE)
    assert "supabase config push" in getattr(finding, "mend", "")
    config.write_text('[auth]\nsite_url = "https://other.example.com"\n')
    [finding] = auth(find_project(project), SITE)
    assert SITE in getattr(finding, "what", "")


def test_an_unreachable_database_is_one_finding_and_the_steps_after_it_wait(
    monkeypatch: pytest.MonkeyPatch, till: Any, functions: Any
) -> None:
    till("init")
    monkeypatch.setenv("POSTGRES_URL", "postgresql://postgres@127.0.0.1:1/postgres")
    status, told = till("deploy", "--check", "--test", "--functions-url", functions())
    assert status == 1
    assert [each["check"] for each in told["findings"] if each["severity"] == "error"] == [
        "database",
        "secrets",
    ]
    waits = {each["name"]: each["skipped"] for each in told["checks"]}
    assert waits["worker"] == "after the database and its migrations"


def test_without_the_option_nothing_is_done(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["till", "deploy"])
    with pytest.raises(SystemExit) as exited:
        main()
    assert exited.value.code == 2
    assert "--check" in capsys.readouterr().err

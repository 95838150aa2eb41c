"""A clock on a stranger: from `pip install` to the first credits read by supabase-js, in an existing project.

Every command is the real one. What a machine without Supabase can't do has a stand-in, and the table says so: `supabase
functions deploy` and `secrets set` are the project's own files served by Deno, the Data API is the local stack's.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from deno import find_deno_bin
from rich.console import Console
from rich.table import Table

from cli.adopt.project import find_project
from devstack.data_api import DataApi, api_keys, data_api_settings
from devstack.functions import EdgeFunctions
from devstack.project import local_project
from devstack.tokens import ISSUER, SigningKeys
from tests import supabase_cli as supabase
from tests.stripe_local.conftest import KEY, Local, _serve
from tests.support import Database

pytestmark = [pytest.mark.node, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
# What the steps may take together. A step of a person, such as reading, comes on top.
LIMIT_SECONDS = 300
PREFIX = "tillbase-"
SITE = "https://app.example.com"


class Clock:
    """The steps and what each took."""

    def __init__(self) -> None:
        self.steps: list[tuple[str, str, float]] = []

    @contextmanager
    def step(self, command: str, note: str = "") -> Iterator[None]:
        started = time.monotonic()
        yield
        self.steps.append((command, note, time.monotonic() - started))

    @property
    def seconds(self) -> float:
        return sum(seconds for *_, seconds in self.steps)

    def table(self) -> str:
        table = Table("step", "seconds", "", box=None)
        for command, note, seconds in self.steps:
            table.add_row(command, f"{seconds:.1f}", note)
        table.add_row("together", f"{self.seconds:.1f}", f"limit {LIMIT_SECONDS}")
        console = Console(width=140, force_terminal=False, no_color=True)
        with console.capture() as captured:
            console.print(table)
        return captured.get()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an index would serve; building it is not a stranger's time."""
    directory = tmp_path_factory.mktemp("wheel")
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--wheel-dir",
        str(directory),
        str(ROOT),
    ]
    built = subprocess.run(command, capture_output=True, text=True, check=False, timeout=180)
    assert built.returncode == 0, built.stderr
    [found] = directory.glob("*.whl")
    return found


@pytest.fixture
def local() -> Iterator[Local]:
    with contextmanager(_serve)(None) as local:
        yield local


def install(wheel: Path, venv: Path) -> str:
    """`pip install` in a fresh environment → a note on where the dependencies came from."""
    subprocess.run([sys.executable, "-m", "venv", venv], check=True, timeout=LIMIT_SECONDS)
    pip = [venv / "bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    whole = subprocess.run(
        [*pip, "-c", ROOT / "constraints.txt", wheel],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    if whole.returncode == 0:
        return "with its dependencies, from the package index or pip's cache"
    subprocess.run([*pip, "--no-deps", wheel], check=True, timeout=120)
    [site] = (venv / "lib").glob("python*/site-packages")
    (site / "dependencies.pth").write_text(
        "\n".join(path for path in sys.path if path.endswith("site-packages"))
    )
    return "dependencies from the tests' environment: the package index did not answer"


def test_from_pip_install_to_the_first_credits_in_under_five_minutes(
    project: Path,
    wheel: Path,
    tmp_path: Path,
    empty_database: Database,
    supabase_cli: Path,
    local: Local,
    record_property: Callable[[str, object], None],
) -> None:
    theirs = project / "supabase/functions/stripe-webhook/index.ts"
    theirs.parent.mkdir()
    theirs.write_text("Deno.serve(() => new Response('theirs'));\n")
    push = ("db", "push", f"--remote={empty_database.url}", "--yes")
    supabase.run(supabase_cli, project, *push)  # their project, before the evening

    clock = Clock()
    venv = tmp_path / "venv"
    settings = {
        "POSTGRES_URL": empty_database.url, "STRIPE_API_KEY": KEY, "STRIPE_API_BASE": local.url,
        "TILL_STATE": str(tmp_path / "state"),
    }  # fmt: skip
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))
    }

    def till(*arguments: str) -> str:
        done = subprocess.run(
            [venv / "bin/till", *arguments], cwd=project, env=environment | settings, capture_output=True, text=True,
            check=False, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    with ExitStack() as stack:
        started = time.monotonic()
        note = install(wheel, venv)
        clock.steps.append(("pip install tillbase", note, time.monotonic() - started))
        with clock.step(f"till init --functions-prefix {PREFIX}"):
            till("init", "--functions-prefix", PREFIX)
        with clock.step("supabase db push"):
            supabase.run(supabase_cli, project, *push)
        keys = SigningKeys.load(tmp_path / "state")
        functions = deploy(stack, project, tmp_path / "deployed", empty_database, keys, local, {})
        url = f"{functions.url}/{PREFIX}stripe-webhook"
        with clock.step("till webhook create"):
            made = json.loads(till("webhook", "create", "--url", url, "--json"))
        with clock.step("supabase functions deploy, secrets set", "served by Deno from the project's files"):
            # On the address that the endpoint has.
            port = functions.port
            functions.stop()
            secrets = {**made["secrets"], "STRIPE_API_KEY": KEY}
            functions = deploy(stack, project, tmp_path / "again", empty_database, keys, local, secrets, port)
        with clock.step("till worker run", "started, on the way"):
            log = (tmp_path / "worker.log").open("w")
            stack.callback(log.close)
            worker = subprocess.Popen(
                [venv / "bin/till", "worker", "run"], cwd=project, env=environment | settings, stderr=log
            )
            stack.callback(worker.wait, 60)
            stack.callback(worker.terminate)
        with clock.step("till plans push plans.toml --yes"):
            (project / "plans.toml").write_text((ROOT / "docs/how-to/plans.toml").read_text())
            till("plans", "push", "plans.toml", "--yes")
        with clock.step("till plans sync"):
            till("plans", "sync")
        with empty_database.connect() as conn:
            conn.execute("update billing.settings set site_url = %s", [SITE])
        with clock.step("till deploy --check --test"):
            till("deploy", "--check", "--test", "--functions-url", functions.url)
        data_api = DataApi.start(
            tmp_path / "api", data_api_settings(empty_database.server, keys, empty_database.name)
        )
        stack.callback(data_api.stop)
        data_api.serve_functions(functions.url)
        if trouble := data_api.trouble(60):
            pytest.skip(f"nothing was read by supabase-js: {trouble}")
        public = api_keys(keys)["SUPABASE_PUBLISHABLE_KEY"]
        with clock.step("a user signs up and opens the checkout", "supabase-js, the checkout function"):
            session = browser(data_api.url, public, "buy")["id"]
        with clock.step("pays with 4242 4242 4242 4242", "on the local Stripe"):
            paid = local.http.post(
                f"{local.url}/_control/checkout_sessions/{session}/complete",
                json={"payment_method": "pm_card_visa"},
            )
            assert paid.status_code == 200, paid.text
        with clock.step("reads the first credits", "supabase-js, under RLS"):
            credits = browser(data_api.url, public, "read")
    assert credits["available"] > 0
    record_property(
        "printed", f"From pip install to the first {credits['available']:,} credits:\n{clock.table()}"
    )
    assert clock.seconds < LIMIT_SECONDS, clock.table()


def deploy(
    stack: ExitStack, project: Path, state: Path, database: Database, keys: SigningKeys, local: Local,
    secrets: dict[str, str], port: int | None = None,
) -> EdgeFunctions:  # fmt: skip
    """Every function of the project, with its secrets, as Supabase serves them."""
    found = find_project(project)
    environment = {
        "SUPABASE_DB_URL": database.url, "SUPABASE_JWKS": keys.jwks(), "BILLING_JWT_ISSUER": ISSUER,
        "STRIPE_API_BASE": local.url, **secrets,
    }  # fmt: skip
    served = local_project(project, found.config, found.functions_prefix()).functions
    functions = EdgeFunctions.start(served, state, environment, port=port)
    stack.callback(functions.stop)
    assert functions.failures == {}
    return functions


def browser(url: str, key: str, step: str) -> Any:
    script = Path(__file__).with_name("first_evening.ts")
    done = subprocess.run(
        [find_deno_bin(), "run", "--quiet", "--no-prompt", "--no-config", "--no-lock", "--node-modules-dir=none",
         "--allow-net=127.0.0.1", "--allow-env", str(script), url, key, step],
        env={"DENO_TLS_CA_STORE": "system,mozilla"} | os.environ, capture_output=True, text=True, check=False,
        timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)

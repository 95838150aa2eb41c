"""docs/how-to/priced-work.md: its plan file is pushed, its SQL, Python and TypeScript run on a whole local stack."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from deno import find_deno_bin

from cli.shop import Shop
from devstack.stack import Stack
from tests.test_docs import ROOT

PAGE = ROOT / "docs/how-to/priced-work.md"
TEXT = PAGE.read_text()
TIMEOUT_SECONDS = 240
Connection = psycopg.Connection[dict[str, Any]]

# What an app's users do: what each step answers.
STORY = """
import { admin, answer } from "./gateway.ts";
import { hold, settle } from "./renders.ts";

const [rich, poor] = Deno.args;
const model = (prompt: string) =>
  prompt === "fail"
    ? Promise.reject(new Error("no model"))
    : Promise.resolve({ text: prompt.toUpperCase(), usage: { input: 100, cached: 1000, output: 2000 } });
const available = async () =>
  (await admin.from("credit_balance").select("available").eq("account_id", rich).single()).data!.available;
const told: Record<string, unknown> = { before: await available() };
told.answer = await answer(rich, "ts-1", "hello", 4000, model);
told.again = await answer(rich, "ts-1", "hello", 4000, model);
told.charged = await available();
told.failed = await answer(rich, "ts-2", "fail", 4000, model).catch((error) => error.message);
told.released = await available();
told.poor = await answer(poor, "ts-3", "hello", 4000, model);
told.poorHold = await hold(poor, "ts-render-0", { seconds: 1, megabytes: 1 });
const held = await hold(rich, "ts-render", { seconds: 90, megabytes: 200 });
told.held = await available();
told.settled = await settle(held!, "ts-render", { seconds: 60.5, megabytes: 0.1 });
told.settledAgain = await settle(held!, "ts-render", { seconds: 60.5, megabytes: 0.1 });
told.after = await available();
console.log(JSON.stringify(told));
Deno.exit(0);
"""


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


def files(language: str) -> dict[str, str]:
    """Name → text of the page's files in a language."""
    return dict(re.match(r"(?:#|//) (\S+)\n(.*)", block, re.DOTALL).groups() for block in blocks(language))  # type: ignore[union-attr]


@pytest.fixture
def price_list(till: Callable[..., Any]) -> None:
    """The plan file of the docs, of which the page shows a part."""
    file = ROOT / "docs/how-to/plans.toml"
    [shown] = blocks("toml")
    assert shown in file.read_text()
    till("plans", "push", str(file), "--yes")


@pytest.fixture
def account(stack: Stack, price_list: None, db: Connection) -> UUID:
    """Of a user who has 500 credits."""
    with Shop(stack.settings) as shop:
        buyer = shop.sign_up(f"{uuid4().hex}@example.com")
    db.execute("select billing.grant_credits(%s, 500, 'gift')", [buyer.account_id])
    return buyer.account_id


@pytest.fixture
def table(db: Connection) -> Iterator[None]:
    [create] = [block for block in blocks("sql") if "create table" in block]
    db.execute(create.split(";")[0].encode())
    yield
    db.execute("drop table public.renders")


def available(db: Connection, account: UUID) -> int:
    row = db.execute(
        "select available from public.credit_balance where account_id = %s", [account]
    ).fetchone()
    assert row is not None
    return row["available"]


def test_the_sql_of_the_page_does_what_it_says(db: Connection, account: UUID) -> None:
    gateway, video = blocks("sql")
    estimated, held, settled = run(db, gateway, account)
    assert estimated == {"unrounded": Decimal("1.56"), "credits": 2}
    assert held["amount"] == 2
    assert settled == {"credits": 1, "charged": 1}
    try:
        *_, rendered = run(db, video, account)
        assert rendered == {"credits": 57}
    finally:
        db.execute("drop table public.renders")
    assert available(db, account) == 500 - 1 - 57


def run(db: Connection, block: str, account: UUID) -> list[dict[str, Any]]:
    """The first row of every statement that has one."""
    found: list[dict[str, Any]] = []
    for statement in filter(str.strip, re.sub("--.*", "", block).split(";")):
        held = found[-1]["id"] if found and "id" in found[-1] else ""
        cursor = db.execute(
            statement.replace("account_id => '…'", f"account_id => '{account}'")
            .replace("hold_id => '…'", f"hold_id => '{held}'")
            .encode()
        )
        if cursor.description is not None:
            found += cursor.fetchmany(1)
    return found


@pytest.fixture
def modules(tmp_path: Path) -> dict[str, ModuleType]:
    found: dict[str, ModuleType] = {}
    for name, text in files("python").items():
        path = tmp_path / name
        path.write_text(text)
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None
        assert spec.loader is not None
        found[path.stem] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(found[path.stem])
    return found


def test_the_python_of_the_page_is_well_typed(tmp_path: Path, modules: dict[str, ModuleType]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, *files("python")],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=TIMEOUT_SECONDS,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


def test_a_gateway_in_python(db: Connection, account: UUID, modules: dict[str, ModuleType]) -> None:
    answer, title = modules["gateway"].answer, modules["gateway"].title

    def model(prompt: str, max_tokens: int) -> tuple[str, dict[str, int]]:
        assert available(db, account) < 500  # held, and stored
        return prompt.upper(), {"input": 100, "cached": 1000, "output": 2000}

    def broken(prompt: str, max_tokens: int) -> tuple[str, dict[str, int]]:
        raise RuntimeError("no model")

    for _ in range(2):
        assert answer(db, account, "py-1", "hello", 4000, model) == "HELLO"
    assert available(db, account) == 500 - 4  # (0.025 + 0.025 + 2.5) × 1.2 = 3.06
    with pytest.raises(RuntimeError):
        answer(db, account, "py-2", "hello", 4000, broken)
    assert available(db, account) == 496
    assert [title(db, account, "py-3", {"input": 90, "output": 10}) for _ in range(2)] == [1, 1]
    with pytest.raises(psycopg.Error) as refused:
        answer(db, account, "py-4", "hello", 10**6, model)
    assert refused.value.sqlstate == "TB001"


@pytest.mark.usefixtures("table")
def test_renders_in_python(db: Connection, account: UUID, modules: dict[str, ModuleType]) -> None:
    queue, finish = modules["renders"].queue, modules["renders"].finish
    queue(db, account, "py-render", 90, 200)
    assert available(db, account) == 500 - 57
    assert [finish(db, "py-render", 60.5, 0.1) for _ in range(2)] == [33, 33]  # 2 + 30.25 + 0.005
    assert available(db, account) == 500 - 33
    with pytest.raises(psycopg.Error) as refused:
        queue(db, account, "py-render-2", 9000, 0)
    assert refused.value.sqlstate == "TB001"


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """The TypeScript of the page with the types of the Data API."""
    for name, text in files("ts").items():
        (tmp_path / name).write_text(f'import process from "node:process";\n{text}')
    (tmp_path / "story.ts").write_text(STORY)
    (tmp_path / "tillbase.ts").write_text((ROOT / "types/tillbase.ts").read_text())
    imports = {"@supabase/supabase-js": "npm:@supabase/supabase-js@2.119.1"}
    (tmp_path / "deno.json").write_text(json.dumps({"imports": imports}))
    return tmp_path


def deno(app: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [find_deno_bin(), *arguments],
        cwd=app, capture_output=True, text=True, check=False, timeout=TIMEOUT_SECONDS,
        env={**os.environ, "NO_COLOR": "1", **settings},
    )  # fmt: skip


def test_the_typescript_of_the_page_is_well_typed_and_a_mistake_is_found(app: Path) -> None:
    wrong = (app / "gateway.ts").read_text().replace("usage: done.usage", "used: done.usage")
    (app / "wrong.ts").write_text(wrong)
    told = deno(app, "check", "--quiet", "--no-lock", "story.ts", "wrong.ts").stderr
    assert "used" in told
    assert {Path(file).name for file in re.findall(r"at file://(\S+?):\d+", told)} == {"wrong.ts"}


def test_a_gateway_and_renders_in_typescript(stack: Stack, account: UUID, app: Path) -> None:
    with Shop(stack.settings) as shop:
        poor = shop.sign_up(f"{uuid4().hex}@example.com").account_id
    done = deno(
        app, "run", "-A", "--quiet", "--no-lock", "story.ts", str(account), str(poor),
        SUPABASE_URL=stack.settings["SUPABASE_URL"], SUPABASE_SECRET_KEY=stack.settings["SUPABASE_SECRET_KEY"],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {
        "before": 500, "answer": "HELLO", "again": "HELLO", "charged": 496, "failed": "no model", "released": 496,
        "poor": None, "poorHold": None, "held": 439, "settled": 33, "settledAgain": 33, "after": 463,
    }  # fmt: skip


def test_the_queries_of_clients_name_what_there_is(db: Connection) -> None:
    [clients] = blocks("js")
    for view, columns in re.findall(r'from\("(\w+)"\)\.select\("([^"]+)"\)', clients):
        db.execute(f"select {columns} from public.{view}".encode())
    assert "estimate_work" in clients

"""docs/how-to/budgets.md: its TypeScript runs over the Data API, and its Python on Postgres."""

import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from deno import find_deno_bin

from devstack.data_api import DataApi, api_keys, data_api_settings
from devstack.scaffold import DefaultGrants
from devstack.tokens import SigningKeys
from tests.databases import Databases
from tests.support import account_of, create_user
from tests.test_docs import ROOT

PAGE = ROOT / "docs/how-to/budgets.md"
# The version that the other tests have in their cache.
SUPABASE_JS = "npm:@supabase/supabase-js@2.119.1"
_CALLER = """
import { createClient } from "npm:@supabase/supabase-js@2";
import { OverBudget, spendAs } from "./spend.ts";
const [url, key, account] = Deno.args;
const admin = createClient(url, key);
const entry = await spendAs(admin, "agent:writer", account, 5, "one");
try {
  await spendAs(admin, "agent:writer", account, 6, "two");
} catch (error) {
  console.log(JSON.stringify({
    amount: entry.amount,
    actor: entry.actor,
    overBudget: error instanceof OverBudget,
    message: (error as Error).message,
  }));
}
"""


def block(language: str, name: str) -> str:
    """A file of the page."""
    [text] = re.findall(rf"```{language}\n(?://|#) {name}\n(.*?)```", PAGE.read_text(), re.DOTALL)
    return text


@pytest.fixture
def database(databases: Databases, template: Callable[[DefaultGrants], str]) -> Any:
    with databases.copy(template("none")) as database:
        yield database


def test_the_typescript_spends_and_says_which_budget_refused(database: Any, tmp_path: Path) -> None:
    with database.connect() as conn:
        account = account_of(conn, create_user(database))
        conn.execute("select billing.grant_credits(%s, 100, 'gift')", [account])
        conn.execute("select billing.set_budget(%s, 'agent:writer', 10, 'day')", [account])
    for name, text in {"spend.ts": block("ts", "spend.ts"), "main.ts": _CALLER}.items():
        (tmp_path / name).write_text(text.replace("npm:@supabase/supabase-js@2", SUPABASE_JS))
    keys = SigningKeys.load(tmp_path / "keys")
    with DataApi.start(tmp_path, data_api_settings(database.server, keys, database.name)) as api:
        run = subprocess.run(
            [
                find_deno_bin(), "run", "--quiet", "--no-prompt", "--no-config", "--no-lock",
                "--node-modules-dir=none", "--allow-net=127.0.0.1", "--allow-env", str(tmp_path / "main.ts"),
                api.url, api_keys(keys)["SUPABASE_SECRET_KEY"], str(account),
            ],
            env={"DENO_TLS_CA_STORE": "system,mozilla"} | os.environ, capture_output=True, text=True, check=False,
            timeout=120,
        )  # fmt: skip
    assert run.returncode == 0, run.stderr
    answer = json.loads(run.stdout)
    message = answer.pop("message")
    assert answer == {"amount": -5, "actor": "agent:writer", "overBudget": True}
    assert re.fullmatch(r"agent:writer has 5 credits left until \d{4}-\d\d-\d\dT00:00:00\+00:00", message)


def test_the_python_spends_and_says_which_budget_refused(database: Any) -> None:
    code: dict[str, Any] = {}
    exec(compile(block("python", "spend.py"), "spend.py", "exec"), code)
    with database.connect() as conn:
        account = account_of(conn, create_user(database))
        conn.execute("select billing.grant_credits(%s, 100, 'gift')", [account])
        conn.execute("select billing.set_budget(%s, 'agent:writer', 10, 'day')", [account])
        assert code["spend_as"](conn, "agent:writer", account, 5, "one") == 95
        with pytest.raises(code["OverBudget"]) as caught:
            code["spend_as"](conn, "agent:writer", account, 6, "two")
    assert str(caught.value) == "agent:writer has 5 credits left"
    assert caught.value.detail["needed"] == 6

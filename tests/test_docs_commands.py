"""Every `till` command that the how-to pages show, run on a stack with the customers, cases and ids that they name."""

import re
import shlex
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cli.main import main
from cli.shop import Shop
from devstack.stack import Stack
from tests.test_docs import ROOT, shell_commands

HOW_TO = ROOT / "docs/how-to"
# What runs until it is stopped, or needs more than a stack (mail, the Supabase CLI): with the tests that run it.
RUN_ELSEWHERE = {
    "till dashboard": "tests/dashboard, tests/browser",
    "till worker run": "tests/worker/test_process.py",
    "till dev": "tests/test_tutorial.py, tests/devstack/test_project.py",
    "till deploy": "tests/test_deploy_check.py",
    "till notifications test": "tests/test_notifications.py",
    "till webhook create --set-secret": "tests/test_webhook.py",
    "till webhook verify": "tests/test_webhook.py",
    "till doctor": "tests/doctor",
    "till reconcile": "tests/reconcile/test_damages.py",
    "till simulate": "tests/simulator",
    "till backfill": "tests/reconcile/test_backfill.py",
}
# They open a browser, or wait for a person to pay.
NOT_HERE = {"--open", "--wait"}

Till = Callable[[str], str]

pytestmark = pytest.mark.slow


@pytest.fixture
def stack() -> Iterator[Stack]:
    """A stack of its own: the commands change the policy of all accounts."""
    with tempfile.TemporaryDirectory(prefix="tillbase-stack-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o711)  # as root, Postgres runs as another user and must get through
        with Stack.start(Path(name), durable=False) as stack:
            yield stack


@pytest.fixture
def till(
    stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Till:
    """Run a command line in a directory of a Supabase project with the plan file; what it printed."""
    (tmp_path / "plans.toml").write_text((HOW_TO / "plans.toml").read_text())
    (tmp_path / "supabase").mkdir()
    (tmp_path / "supabase/config.toml").write_text('project_id = "shop"\n')
    monkeypatch.chdir(tmp_path)
    for name, setting in stack.settings.items():
        monkeypatch.setenv(name, setting)

    def run(command: str) -> str:
        monkeypatch.setattr(sys, "argv", shlex.split(command, comments=True))
        with pytest.raises(SystemExit) as exited:
            main()
        printed = capsys.readouterr()
        assert (exited.value.code or 0) == 0, f"{command}\n{printed.out}{printed.err}"
        return printed.out

    return run


@pytest.fixture
def ids(stack: Stack, till: Till) -> dict[str, str]:
    """The ids that the pages name → those of this stack. Ada subscribes, Grace does not."""
    till("till plans push plans.toml --yes")
    with Shop(stack.settings) as shop, shop.connect() as conn:
        ada, grace = shop.sign_up("ada@example.com"), shop.sign_up("grace@example.com")
        [price] = shop.stripe.prices.list({"lookup_keys": ["pro_monthly"]}).data
        shop.pay_checkout(ada, price)
        for card in ("pm_card_createIssuerFraudRecord", "pm_card_createDispute"):
            shop.pay_once(ada, 1900, payment_method=card)
        shop.settle()
        till("till credits grant ada@example.com 1000")
        # Who asks for their data: a user, and a guest who paid without signing in.
        shop.sign_up("linus@example.com")
        guest, other = (
            shop.stripe.customers.create({"email": f"{who}@example.com"}).id for who in ("guest", "other")
        )
        shop.settle()
        till('till accounts freeze ada@example.com --reason "looks odd"')

        def only(query: str, *parameters: Any) -> str:
            row = conn.execute(query.encode(), parameters).fetchone()
            assert row is not None, query
            return str(row[0])

        grant = only("select max(id) from billing.credit_grants where account_id = %s", ada.account_id)
        revoked = only(
            "select id from billing.revoke_grant(%s, 10, 'before', 'a mistake', 'grace@example.com')", grant
        )
        return {
            "issfr_1": only("select stripe_early_fraud_warning_id from billing.fraud_warnings"),
            "du_1": only("select stripe_dispute_id from billing.disputes"),
            "cus_guest": guest,
            "cus_other": other,
            "evt_1": only("select max(stripe_event_id) from billing.stripe_events"),
            "undo 7": f"undo {only('select max(id) from billing.fraud_actions')}",
            "revoke 7": f"revoke {grant}",
            "reinstate 3": f"reinstate {revoked}",
            "--account 8b0e…": f"--account {grace.account_id}",
        }


def documented() -> list[str]:
    """The commands that are run here, in the order of the pages."""
    return [
        command
        for command in shell_commands("till", sorted(HOW_TO.glob("*.md")))
        if not any(command.startswith(elsewhere) for elsewhere in RUN_ELSEWHERE)
    ]


def test_the_documented_commands_do_what_they_are_shown_for(till: Till, ids: dict[str, str]) -> None:
    commands = documented()
    assert commands
    for command in commands:
        for named, own in ids.items():
            command = re.sub(rf"{re.escape(named)}\b|{re.escape(named)}(?= )", own, command)
        if command.startswith(("till checkout", "till links")):
            command = command.replace("ada@example.com", "grace@example.com")  # who has no subscription yet
        till(" ".join(word for word in command.split(" ") if word not in NOT_HERE))

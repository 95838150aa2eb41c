"""`till webhook`: created, checked, mended and rotated on the local Stripe."""

import json
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import stripe

from cli.main import main
from cli.webhook_endpoints import events_of
from tests.stripe_local.conftest import KEY, Local, _serve
from worker.events.decide import DECIDERS

URL = "https://abc.supabase.co/functions/v1/stripe-webhook"
Run = Callable[..., Any]


@pytest.fixture
def local() -> Iterator[Local]:
    with contextmanager(_serve)(None) as local:
        yield local


@pytest.fixture
def run(
    local: Local, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """`till webhook …` in an empty directory → its stdout as JSON, or its stderr where it fails."""
    monkeypatch.chdir(tmp_path)
    for name, value in {"STRIPE_API_KEY": KEY, "STRIPE_API_BASE": local.url, "WEBHOOK_URL": URL}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("POSTGRES_URL", raising=False)
    monkeypatch.setattr("cli.stripe_key.REQUEST_RETRIES", 0)

    def run(*arguments: str, expect: int = 0, text: bool = False) -> Any:
        monkeypatch.setattr(
            sys, "argv", ["till", "webhook", *arguments, *(["--json"] if not (text or expect) else [])]
        )
        with pytest.raises(SystemExit) as exited:
            main()
        captured = capsys.readouterr()
        assert (exited.value.code or 0) == expect, captured
        return captured if text or expect else json.loads(captured.out)

    return run


def endpoints(local: Local) -> list[Any]:
    return local.client.webhook_endpoints.list({"limit": 100}).data


def test_the_endpoint_asks_for_what_is_handled_and_nothing_else(local: Local, run: Run) -> None:
    told = run("create")
    [endpoint] = endpoints(local)
    assert (endpoint.id, endpoint.url, endpoint.status) == (told["id"], URL, "enabled")
    assert sorted(endpoint.enabled_events) == sorted(DECIDERS)
    assert endpoint.api_version == stripe.api_version
    assert list(told["secrets"]) == ["STRIPE_WEBHOOK_SECRET"]
    assert told["secrets"]["STRIPE_WEBHOOK_SECRET"].startswith("whsec_")
    assert run("verify") == []


def test_a_live_endpoint_asks_for_no_events_of_test_clocks() -> None:
    assert set(events_of(livemode=False)) - set(events_of(livemode=True)) == {"test_helpers.test_clock.ready"}


def test_a_second_one_is_refused(local: Local, run: Run) -> None:
    run("create")
    assert "has this URL already" in run("create", expect=1).err
    assert len(endpoints(local)) == 1


@pytest.mark.parametrize(
    ("changed", "told", "severity"),
    [
        ({"disabled": True}, "is disabled", "error"),
        ({"enabled_events": ["invoice.paid"]}, "does not send charge.dispute.closed, ", "error"),
        ({"enabled_events": ["*"]}, "sends every event there is", "warning"),
    ],
)
def test_what_is_wrong_is_named_with_its_command_and_mended(
    local: Local, run: Run, changed: dict[str, Any], told: str, severity: str
) -> None:
    made = run("create")
    local.client.webhook_endpoints.update(made["id"], changed)
    if severity == "error":
        assert told in run("verify", expect=1).out.replace("\n", " ")
    else:
        [finding] = run("verify")
        assert (told in finding["what"], finding["severity"]) == (True, severity)
        assert finding["mend"] == "till webhook verify --fix"
    assert run("verify", "--fix") == []


def test_no_endpoint_is_an_error(run: Run) -> None:
    assert "till webhook create" in run("verify", expect=1).out


def test_an_old_api_version_is_replaced_by_a_rotation(local: Local, run: Run) -> None:
    local.client.webhook_endpoints.create(
        {"url": URL, "enabled_events": sorted(DECIDERS), "api_version": "2024-06-20"}
    )
    assert "till webhook rotate" in run("verify", expect=1).out
    run("rotate")
    run("rotate", "--finish")
    assert run("verify") == []


def test_a_rotation_takes_the_other_variable_and_both_endpoints_send_until_its_end(
    local: Local, run: Run
) -> None:
    first = run("create")
    second = run("rotate")
    assert list(second["secrets"]) == ["STRIPE_WEBHOOK_SECRET_NEXT"]
    assert {one.id: one.status for one in endpoints(local)} == {
        first["id"]: "enabled",
        second["id"]: "enabled",
    }
    [finding] = run("verify")
    assert finding == {
        "check": "webhook",
        "what": f"{first['id']} is older than {second['id']} and has the same URL",
        "mend": "till webhook rotate --finish",
        "severity": "warning",
    }
    assert "till webhook rotate --finish" in run("rotate", expect=1).err
    assert run("rotate", "--finish") == {
        "id": second["id"],
        "deleted": [first["id"]],
        "unused_secrets": ["STRIPE_WEBHOOK_SECRET"],
    }
    assert [one.id for one in endpoints(local)] == [second["id"]]
    assert "run `till webhook rotate` first" in run("rotate", "--finish", expect=1).err
    assert list(run("rotate")["secrets"]) == ["STRIPE_WEBHOOK_SECRET"]


def test_a_rotation_does_not_end_while_the_new_endpoint_is_disabled(local: Local, run: Run) -> None:
    run("create")
    local.client.webhook_endpoints.update(run("rotate")["id"], {"disabled": True})
    assert "is disabled" in run("rotate", "--finish", expect=1).err
    assert len(endpoints(local)) == 2


def program(directory: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A `supabase` on PATH in place of the real one, which would need an account."""
    path = directory / "bin" / "supabase"
    path.parent.mkdir()
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{path.parent}:/usr/bin:/bin")


def test_the_supabase_cli_gets_the_secret_in_a_file_and_it_is_not_printed(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path, f'echo "$@" > {tmp_path}/arguments; cat "$4" > {tmp_path}/secrets', monkeypatch)
    said = run("create", "--set-secret", text=True)
    secrets = (tmp_path / "secrets").read_text()
    assert secrets.startswith("STRIPE_WEBHOOK_SECRET=whsec_")
    assert "whsec_" not in said.out + said.err + (tmp_path / "arguments").read_text()
    arguments = (tmp_path / "arguments").read_text()
    assert arguments.startswith("secrets set --env-file /")
    assert arguments.endswith(" --yes\n")  # or the CLI asks a terminal that is not there


def test_a_secret_that_the_supabase_cli_does_not_take_is_printed_once(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path, "echo no project is linked >&2; exit 1", monkeypatch)
    said = run("create", "--set-secret", text=True)
    assert "no project is linked" in said.err
    assert "supabase secrets set STRIPE_WEBHOOK_SECRET=whsec_" in said.out.replace("\n", " ")


def test_the_url_is_that_of_the_linked_project_under_its_prefix(
    local: Local, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in {
        "config.toml": 'project_id = "shop"\n',
        ".temp/project-ref": "qwertyuiop\n",
        "tillbase.json": '{"version": "0.1.0", "functions_prefix": "tillbase-", "files": {}}',
    }.items():
        (tmp_path / "supabase" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "supabase" / name).write_text(text)
    run("create")
    assert endpoints(local)[0].url == "https://qwertyuiop.supabase.co/functions/v1/tillbase-stripe-webhook"


def test_a_refusal_of_stripe_is_one_line(run: Run) -> None:
    said = run("create", "--url", "no url", expect=1)
    assert said.err.startswith("error: ")
    assert said.err.count("\n") == 1

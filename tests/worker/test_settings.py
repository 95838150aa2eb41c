"""The environment → settings, or one line that says what to set."""

import os
import subprocess
import sys

import pytest

from worker.errors import SettingsError
from worker.settings import Settings

URL = "postgresql://postgres:secret@db.example.com/postgres"


def test_the_address_of_postgres_is_all_that_is_needed() -> None:
    assert Settings.from_env({"POSTGRES_URL": f" {URL} "}) == Settings(URL)


def test_everything_can_be_set() -> None:
    environment = {
        "POSTGRES_URL": URL,
        "STRIPE_API_KEY": "rk_test_1",
        "STRIPE_API_BASE": "http://127.0.0.1:1",
        "WORKER_METRICS_ADDRESS": "[::1]:9464",
    }
    assert Settings.from_env(environment) == Settings(URL, "rk_test_1", "http://127.0.0.1:1", "::1", 9464)


@pytest.mark.parametrize("environment", [{}, {"POSTGRES_URL": "  "}])
def test_without_an_address_the_error_says_which(environment: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match="POSTGRES_URL is not set"):
        Settings.from_env(environment)


@pytest.mark.parametrize(
    "url",
    ["postgressql://postgres:s3cret@db.example.com/postgres", "postgresql://postgres:p%ss3cret@db/postgres"],
)
def test_a_malformed_address_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(SettingsError, match="POSTGRES_URL is not a connection string") as refusal:
        Settings.from_env({"POSTGRES_URL": url})
    assert "s3cret" not in str(refusal.value)
    assert refusal.value.__suppress_context__


def test_a_live_key_never_goes_to_another_server() -> None:
    environment = {"POSTGRES_URL": URL, "STRIPE_API_KEY": "sk_live_1", "STRIPE_API_BASE": "http://localhost"}
    with pytest.raises(SettingsError, match="live key"):
        Settings.from_env(environment)


@pytest.mark.parametrize("address", ["9464", "localhost", "localhost:port", ":9464", "localhost:99999"])
def test_an_address_for_metrics_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(SettingsError, match="WORKER_METRICS_ADDRESS"):
        Settings.from_env({"POSTGRES_URL": URL, "WORKER_METRICS_ADDRESS": address})


def test_secrets_stay_out_of_what_is_printed() -> None:
    text = repr(Settings(URL, "sk_test_secret"))
    assert "secret" not in text


def test_the_process_ends_with_one_line_when_a_setting_is_wrong() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "POSTGRES_URL"}
    ended = subprocess.run(
        [sys.executable, "-m", "worker"], env=environment, capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith("error: POSTGRES_URL is not set")
    assert ended.stderr.count("\n") == 1

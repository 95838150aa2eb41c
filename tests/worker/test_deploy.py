"""The files under deploy/: they parse, and name what exists."""

import configparser
import re
import shlex
import tomllib
from pathlib import Path

import yaml
from prometheus_client import REGISTRY
from typer.testing import CliRunner

from cli.main import app
from worker import metrics  # noqa: F401  registers the worker's figures

DEPLOY = Path(__file__).parents[2] / "deploy"
VARIABLES = {"POSTGRES_URL", "STRIPE_API_KEY", "TILLBASE_NOTIFY_URLS", "TILLBASE_CUSTOMER_MAIL_URL"}


def test_the_image_copies_what_exists_runs_as_nobody_of_note_and_starts_the_worker() -> None:
    lines = (DEPLOY / "Containerfile").read_text().splitlines()
    for line in lines:
        if line.startswith("COPY ") and "--from" not in line:
            *sources, _ = line.split()[1:]
            assert [source for source in sources if not (DEPLOY.parent / source).exists()] == []
    assert "USER 10001" in lines
    assert [line for line in lines if line.startswith("CMD")] == ['CMD ["worker", "run"]']
    [check] = [line for line in lines if line.startswith("HEALTHCHECK")]
    assert "/healthz" in check
    assert not [line for line in lines if re.match(r"(ENV|ARG) .*(KEY|SECRET|PASSWORD)", line)]


def test_the_compose_file_and_the_recipes_name_the_image_and_the_variables() -> None:
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["worker"]
    assert set(compose["environment"]) == VARIABLES
    assert (DEPLOY / compose["build"]["context"] / compose["build"]["dockerfile"]).resolve().is_file()
    fly = tomllib.loads((DEPLOY / "fly.toml").read_text())
    assert (DEPLOY / fly["build"]["dockerfile"]).is_file()
    assert fly["checks"]["loop"]["path"] == "/healthz"
    [render] = yaml.safe_load((DEPLOY / "render.yaml").read_text())["services"]
    assert (DEPLOY.parent / render["dockerfilePath"]).is_file()
    assert {each["key"] for each in render["envVars"]} <= VARIABLES


def test_the_unit_starts_the_worker_with_its_environment_in_a_file() -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(DEPLOY / "tillbase-worker.service")
    assert shlex.split(unit["Service"]["ExecStart"])[1:] == ["worker", "run"]
    assert unit["Service"]["EnvironmentFile"].endswith(".env")
    assert unit["Service"]["DynamicUser"] == "yes"


def test_every_alert_asks_for_a_figure_that_the_worker_has_and_names_a_command() -> None:
    figures = {f"{sample.name}" for family in REGISTRY.collect() for sample in family.samples} | {
        family.name for family in REGISTRY.collect()
    }
    [group] = yaml.safe_load((DEPLOY / "alerts.yaml").read_text())["groups"]
    for rule in group["rules"]:
        for name in re.findall(r"till_\w+", rule["expr"]):
            assert (
                name in figures
                or name.removesuffix("_total") in figures
                or name.removesuffix("_bucket") in figures
            ), name
        assert rule["annotations"]["command"].startswith("till ")


def test_the_commands_that_alerts_name_exist() -> None:
    [group] = yaml.safe_load((DEPLOY / "alerts.yaml").read_text())["groups"]
    for command in {rule["annotations"]["command"] for rule in group["rules"]}:
        _, *words = command.split()
        path = [word for word in words[:2] if word.isalpha()]
        shown = CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1"}).invoke(app, [*path, "--help"])
        assert shown.exit_code == 0, command
        assert [word for word in words if word.startswith("--") and word not in shown.output] == []

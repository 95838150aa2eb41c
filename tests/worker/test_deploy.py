"""The files under deploy/: they parse, and name what exists."""

import configparser
import json
import re
import shlex
import tomllib
from pathlib import Path

import yaml
from typer.testing import CliRunner

from cli.main import app

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


def test_every_alert_has_a_severity_and_a_command() -> None:
    """That a worker serves what they ask for: tests/worker/test_process.py."""
    [group] = yaml.safe_load((DEPLOY / "alerts.yaml").read_text())["groups"]
    assert len({rule["alert"] for rule in group["rules"]}) == len(group["rules"]) > 10
    for rule in group["rules"]:
        assert rule["labels"]["severity"] in {"page", "ticket"}
        assert rule["annotations"]["command"].startswith("till ")


def test_the_dashboard_of_grafana_has_panels_that_do_not_overlap() -> None:
    board = json.loads((DEPLOY / "grafana.json").read_text())
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    places = [panel["gridPos"] for panel in board["panels"]]
    cells = [
        (x, y)
        for place in places
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells))
    assert all(place["x"] + place["w"] <= 24 for place in places)
    for panel in board["panels"]:
        assert panel["datasource"]["uid"] == "${datasource}"
        assert panel["targets"]


def test_the_commands_that_alerts_name_exist() -> None:
    [group] = yaml.safe_load((DEPLOY / "alerts.yaml").read_text())["groups"]
    for command in {rule["annotations"]["command"] for rule in group["rules"]}:
        _, *words = command.split()
        path = [word for word in words[:2] if word.isalpha()]
        shown = CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1"}).invoke(app, [*path, "--help"])
        assert shown.exit_code == 0, command
        assert [word for word in words if word.startswith("--") and word not in shown.output] == []

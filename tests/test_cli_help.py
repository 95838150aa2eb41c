"""The help of every command, held against `tests/snapshots/cli.txt`: what users read changes only on purpose."""

import pkgutil
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import version
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

import cli
from cli.app import App
from cli.main import app
from tests.test_snapshots import SNAPSHOTS, compare

pytestmark = pytest.mark.usefixtures("fresh_commands")


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every command's words, groups first."""
    yield path
    for name, member in getattr(command, "commands", {}).items():
        yield from commands(member, (*path, name))


def test_help_is_as_committed(pytestconfig: pytest.Config) -> None:
    runner = CliRunner(env={"COLUMNS": "100", "TERM": "dumb", "NO_COLOR": "1", "TERMINAL_WIDTH": "100"})
    pages: list[str] = []
    for path in commands(get_command(app)):
        result = runner.invoke(app, [*path, "--help"], prog_name="till")
        assert result.exit_code == 0, result.output
        page = "\n".join(line.rstrip() for line in result.output.strip("\n").splitlines())
        pages.append(f"$ {' '.join(('till', *path, '--help'))}\n{page}\n")
    compare("cli.txt", "\n".join(pages), pytestconfig)


def test_every_command_and_option_says_what_it_is_for() -> None:
    def undocumented(command: Any, path: tuple[str, ...]) -> Iterator[str]:
        if not (command.help or "").strip():
            yield " ".join(path)
        for parameter in command.params:
            if getattr(parameter, "help", None) is None and parameter.name != "help":
                yield f"{' '.join(path)} {parameter.name}"
        for name, member in getattr(command, "commands", {}).items():
            yield from undocumented(member, (*path, name))

    assert list(undocumented(get_command(app), ("till",))) == []


def test_every_command_is_declared_where_it_is_defined() -> None:
    groups = [("cli.main", app)]
    for module in pkgutil.walk_packages(cli.__path__, "cli."):
        group = getattr(import_module(module.name), "app", None) if "__main__" not in module.name else None
        if isinstance(group, App):
            groups.append((module.name, group))
    declared = [
        (one.callback.__module__, name) for name, group in groups for one in group.registered_commands
    ]
    assert len(declared) > 50
    assert [pair for pair in declared if pair[0] != pair[1]] == []


@pytest.mark.parametrize("path", [(), ("credits",)])
def test_each_command_is_said_in_one_line_of_80_columns(path: tuple[str, ...]) -> None:
    group: Any = get_command(app)
    for name in path:
        group = group.commands[name]
    # What frames a row of the panel: the border, the names' column, and the blanks between.
    room = 80 - len("│ ") - max(map(len, group.commands)) - len("  ") - len(" │")
    first = {name: command.help.split("\n\n")[0] for name, command in group.commands.items()}
    assert {name: line for name, line in first.items() if len(line) > room} == {}


def test_help_has_no_types_of_python() -> None:
    page = (SNAPSHOTS / "cli.txt").read_text()
    assert [word for word in ("<bool>", "<str>", "int range", "<datetime>", "{") if word in page] == []


def test_version_is_that_of_the_package() -> None:
    told = CliRunner().invoke(app, ["--version"])
    assert (told.exit_code, told.output) == (0, f"till {version('tillbase')}\n")


@pytest.mark.parametrize("path", [(), ("credits",), ("credits", "balance")])
def test_help_is_asked_for_in_short_too(path: tuple[str, ...]) -> None:
    short, long = (CliRunner().invoke(app, [*path, option]) for option in ("-h", "--help"))
    assert (short.exit_code, short.output) == (0, long.output)

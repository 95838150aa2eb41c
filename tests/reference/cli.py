"""The command line's own help → docs/reference/cli.md."""

from collections.abc import Iterator
from typing import Any

from typer.main import get_command

from cli.main import app
from tests.reference.markdown import anchor, block, code, page, sentence, table

_INTRODUCTION = """
`till --help` and `till <command> --help` say the same. Listings take `--json`; data goes to stdout, everything
else to stderr. Exit codes: 0 done, 1 failed with one line that says what to do, 2 wrong usage. Commands that
take something away are dry runs without `--yes`. Without `POSTGRES_URL` the commands use the local stack of the
directory ([environment](environment.md)).

Times are in UTC, and a time that you type is, too, unless it names an offset: `2026-11-30`, `2026-11-30T07:15`,
`2026-11-30T07:15:00+01:00`. In JSON they are ISO 8601 (`2026-11-30T07:15:00Z`), and a movement of credits has
`replayed`: whether its `--key` was used before, so that nothing was done again. What has `--yes` has `dry_run`.

`till --install-completion` sets up completion of commands, options and values for your shell (bash, zsh, fish,
PowerShell); `till --show-completion` prints it. It takes effect in a new terminal.
"""


def cli() -> str:
    """The page."""
    root = get_command(app)
    commands = list(_commands(root, ()))
    contents = "\n".join(
        f"- [`{_words(path)}`](#{anchor(_words(path))}): {_first(command.help)}" for path, command in commands
    )
    return page("Command line", _INTRODUCTION, [contents, *(_section(*one) for one in commands)])


def _commands(command: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command that does something, in the order of the help."""
    members = getattr(command, "commands", None)
    if members is None:
        yield path, command
        return
    for name, member in members.items():
        if not member.hidden:
            yield from _commands(member, (*path, name))


def _words(path: tuple[str, ...]) -> str:
    return " ".join(("till", *path))


def _first(text: str | None) -> str:
    return sentence((text or "").strip().split("\n\n")[0])


def _section(path: tuple[str, ...], command: Any) -> str:
    parameters = command.get_params(command.make_context(path[-1], [], resilient_parsing=True))
    shown = [one for one in parameters if not one.hidden and one.name != "help"]
    arguments = [one for one in shown if one.param_type_name == "argument"]
    usage = " ".join([_words(path), *(_argument(one) for one in arguments), "[OPTIONS]"])
    text = "\n\n".join(sentence(part) for part in (command.help or "").strip().split("\n\n"))
    rows = [[code(_names(one)), _default(one), sentence(one.help or "")] for one in shown]
    parts = [f"## {_words(path)}", text, block("text", usage)]
    return "\n\n".join(parts + ([table(["", "default", "meaning"], rows)] if rows else []))


def _argument(one: Any) -> str:
    name = _display(one) + ("…" if one.nargs == -1 or one.multiple else "")
    return name if one.required else f"[{name}]"


def _display(one: Any) -> str:
    return (one.metavar or one.name).strip("{}").upper()


def _names(one: Any) -> str:
    if one.param_type_name == "argument":
        return _display(one)
    names = ", ".join([*one.opts, *one.secondary_opts])
    return names if one.is_flag or one.count else f"{names} {_display(one)}"


def _default(one: Any) -> str:
    if one.required:
        return "required"
    if one.default is None or one.default is False or callable(one.default) or one.default in ((), []):
        return ""
    return code(str(one.default))

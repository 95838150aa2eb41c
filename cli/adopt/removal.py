"""The schemas → the migration that drops what is ours, and refuses while something else needs it."""

import re
from pathlib import Path

from devstack.release import schema_files

_VIEW = re.compile(r"^create view (public\.\w+)", re.MULTILINE)
_FUNCTION = re.compile(r"^create function (public\.\w+)\(([^)]*)\)", re.MULTILINE)
_TRIGGER = re.compile(r"^create trigger (\w+)\s+after [^;]*? on auth\.", re.MULTILINE)
_QUEUE = re.compile(r"pgmq\.create\('(\w+)'\)")
_ROLE = re.compile(r"create role (\w+)")

_SQL = Path(__file__).with_suffix(".sql")


def removal(schemas: Path, functions: list[str]) -> str:
    """The SQL of the migration. `functions` are the names of the edge functions, for its header."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in schema_files(schemas))
    views = _VIEW.findall(text)
    signatures = [f"{name}({_types(arguments)})" for name, arguments in _FUNCTION.findall(text)]
    # The schema first: views of ours in it read those in public, and the other way round.
    drops = ["drop schema billing cascade;"]
    drops += [f"drop view if exists {view};" for view in views]
    drops += [f"drop function if exists {signature};" for signature in signatures]
    drops += [f"select pgmq.drop_queue('{queue}');" for queue in dict.fromkeys(_QUEUE.findall(text))]
    return (
        _SQL.read_text(encoding="utf-8")
        .replace("{functions}", "; ".join(f"supabase functions delete {name}" for name in functions))
        .replace("{views}", _list(views))
        .replace("{signatures}", _list(signatures))
        .replace("{trigger_names}", _list(_TRIGGER.findall(text), ""))
        .replace("{drops}", "\n".join(drops))
        .replace("{roles}", _list(_ROLE.findall(text), ""))
    )


def _types(arguments: str) -> str:
    """The types of `name type default value, …`."""
    declared = (argument.strip().split(" default ")[0] for argument in arguments.split(","))
    return ", ".join(argument.partition(" ")[2] for argument in declared if argument)


def _list(names: list[str], separator: str = "\n            ") -> str:
    return f",{separator or ' '}".join(f"'{name}'" for name in names)

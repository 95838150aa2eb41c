"""Settings ↔ a dotenv file that a shell, a test or another command can read."""

import os
from collections.abc import Mapping
from pathlib import Path
from uuid import uuid4


def write_env_file(path: Path, settings: Mapping[str, str]) -> None:
    """Write NAME='value' lines atomically, readable by the owner only: they contain passwords."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}-{uuid4()}")
    with os.fdopen(
        os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8"
    ) as file:
        file.writelines(f"{name}={_quoted(value)}\n" for name, value in settings.items())
    aside.replace(path)


def read_env_file(path: Path) -> dict[str, str]:
    """Read a file of `write_env_file`, or a person's, with comments and quotes; empty if it does not exist."""
    if not path.exists():
        return {}
    lines = (line.removeprefix("export ") for line in path.read_text(encoding="utf-8").splitlines())
    parted = (line.partition("=") for line in lines if "=" in line and not line.lstrip().startswith("#"))
    return {name.strip(): _unquoted(value.strip()) for name, _, value in parted}


def _unquoted(value: str) -> str:
    is_quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
    return value[1:-1] if is_quoted else value


def _quoted(value: str) -> str:
    return f"'{value}'" if set(value) - _PLAIN else value


_PLAIN = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:@%+,")

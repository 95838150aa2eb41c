"""This version of Tillbase → the files and settings that it adds to a Supabase project."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from devstack.paths import migrations_directory, supabase_directory

SHARED = "_tillbase"
_BLOCK = re.compile(r"^\[functions\.([\w-]+)\]$", re.MULTILINE)
# Tests of the functions are for this repository.
_LEFT_OUT = re.compile(r"_test\.ts$|^node_modules/")

ENVIRONMENT = """\
# Tillbase
# Edge functions, with `supabase secrets set`: the endpoint's signing secret, and a restricted key.
STRIPE_WEBHOOK_SECRET=whsec_
STRIPE_API_KEY=rk_test_
# Worker: a direct connection, or the pooler in session mode (port 5432).
POSTGRES_URL=postgresql://postgres:password@db.example.supabase.co:5432/postgres
# Worker, optional: where administrators are notified (URLs of apprise), and host:port of /metrics.
TILLBASE_NOTIFY_URLS=
WORKER_METRICS_ADDRESS=
"""


@dataclass(frozen=True, slots=True)
class Shipped:
    """What a project gets. Paths are relative to the project's root, with slashes."""

    version: str
    # Release, such as 0_1_0 → its SQL, oldest first.
    releases: Mapping[str, bytes]
    functions: Mapping[str, bytes]
    # A function's name → its block of config.toml.
    config_blocks: Mapping[str, str]


def shipped(functions_prefix: str = "") -> Shipped:
    """All of it; `functions_prefix` stands before the names of the functions, such as `tillbase-`."""
    directory = supabase_directory()
    return Shipped(
        version("tillbase"),
        _releases(),
        _functions(directory, functions_prefix),
        _blocks(directory, functions_prefix),
    )


def _releases() -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for path in sorted(migrations_directory().glob("*_tillbase_*.sql")):
        found[path.stem.partition("_tillbase_")[2]] = path.read_bytes()
    return found


def _functions(directory: Path, prefix: str) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    for folder in sorted(path for path in (directory / "functions").iterdir() if path.is_dir()):
        name = folder.name if folder.name == SHARED else prefix + folder.name
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            inside = file.relative_to(folder).as_posix()
            if not _LEFT_OUT.search(inside):
                files[f"supabase/functions/{name}/{inside}"] = file.read_bytes()
    return files


def _blocks(directory: Path, prefix: str) -> dict[str, str]:
    """The blocks `[functions.…]` with the comments above them, under the prefixed names."""
    blocks: dict[str, str] = {}
    for block in (directory / "config.toml").read_text(encoding="utf-8").split("\n\n"):
        if match := _BLOCK.search(block):
            name = match[1]
            text = block.strip().replace(f"[functions.{name}]", f"[functions.{prefix}{name}]")
            blocks[prefix + name] = text.replace(f"/functions/{name}/", f"/functions/{prefix}{name}/") + "\n"
    return blocks

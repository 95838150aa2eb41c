"""A Supabase project of somebody's own → what the local stack runs of it: migrations, seed, edge functions."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from devstack.env_file import read_env_file
from devstack.errors import LocalStackError
from devstack.functions import FunctionSettings, function_names

_DEFAULT_SEEDS = ("./seed.sql",)


@dataclass(frozen=True, slots=True)
class LocalProject:
    """`prefix` stands before the names of Tillbase's functions; `secrets` is the functions' `.env`."""

    root: Path
    prefix: str
    seeds: tuple[Path, ...]
    functions: Mapping[str, FunctionSettings]
    secrets: Mapping[str, str]
    site_url: str | None

    @property
    def migrations(self) -> Path:
        """Their migrations, with ours among them."""
        return self.root / "supabase/migrations"


def local_project(root: Path, config: Mapping[str, Any], prefix: str) -> LocalProject:
    """`config`: the settings in its config.toml. Raises LocalStackError if they name what is not there."""
    supabase = root / "supabase"
    site_url = str(_table(config, "auth").get("site_url", ""))
    return LocalProject(
        root,
        prefix,
        tuple(_seeds(supabase, _table(config, "db", "seed"))),
        _functions(supabase, _table(config, "functions")),
        read_env_file(supabase / "functions/.env"),
        site_url if site_url.startswith(("http://", "https://")) else None,
    )


def _seeds(supabase: Path, settings: Mapping[str, Any]) -> list[Path]:
    """The files of [db.seed], each pattern's sorted; as the Supabase CLI, a file that two patterns name is run once."""
    if not settings.get("enabled", True):
        return []
    files: dict[Path, None] = {}
    for pattern in settings.get("sql_paths", _DEFAULT_SEEDS):
        found = sorted(supabase.glob(str(pattern).removeprefix("./")))
        if not found and "sql_paths" in settings:
            raise LocalStackError(
                f"[db.seed] of supabase/config.toml names {pattern}, and there is no such file: correct sql_paths"
            )
        files.update(dict.fromkeys(found))
    return list(files)


def _functions(supabase: Path, settings: Mapping[str, Any]) -> dict[str, FunctionSettings]:
    """Every function with its block of config.toml. Without one it is served, and checks tokens, as on Supabase."""
    directory = supabase / "functions"
    found: dict[str, FunctionSettings] = {}
    for name in sorted({*function_names(directory), *settings}):
        block = _table(settings, name)
        entrypoint = supabase / block.get("entrypoint", f"functions/{name}/index.ts")
        if block.get("enabled", True):
            if not entrypoint.is_file():
                raise LocalStackError(
                    f"[functions.{name}] of supabase/config.toml: there is no {entrypoint.relative_to(supabase)}: "
                    "write the function, or take out the block"
                )
            folder = (directory / name).resolve()
            entrypoint = entrypoint.resolve()
            found[name] = FunctionSettings(
                folder if entrypoint.is_relative_to(folder) else entrypoint.parent,
                entrypoint,
                (supabase / block["import_map"]).resolve() if "import_map" in block else None,
                bool(block.get("verify_jwt", True)),
            )
    return found


def _table(config: Mapping[str, Any], *path: str) -> Mapping[str, Any]:
    for name in path:
        value = config.get(name, {})
        config = cast("Mapping[str, Any]", value) if isinstance(value, dict) else {}
    return config

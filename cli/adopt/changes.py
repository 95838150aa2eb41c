"""A project and what is shipped → the files to write and to delete, or what is in the way. Nothing is written here."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from cli.adopt.project import CONFIG, MANIFEST, MIGRATIONS, UNINSTALL, Manifest, Project, digest, parse_config
from cli.adopt.shipped import ENVIRONMENT, SHARED, Shipped
from cli.output import CliError

ENVIRONMENT_FILE = ".env.example"
# A copy of the release for projects that declare their schemas: see `_declared`.
DECLARED = "supabase/tillbase/tillbase.sql"


@dataclass(slots=True)
class Changes:
    """What to do. `clashes` and `notes` are lines for the person who runs the command."""

    writes: dict[str, bytes] = field(default_factory=dict[str, bytes])
    deletes: list[str] = field(default_factory=list[str])
    clashes: list[str] = field(default_factory=list[str])
    notes: list[str] = field(default_factory=list[str])


def install(project: Project, shipped: Shipped, prefix: str, now: datetime) -> Changes:
    """Add what is missing. Nothing that is there is changed; a project of an older version is left to `upgrade`."""
    changes = Changes()
    if project.manifest is not None and project.manifest.version != shipped.version:
        changes.notes.append(
            f"This is version {shipped.version}, the project has {project.manifest.version}: till init --upgrade"
        )
        return changes
    if not project.releases():
        _add_releases(project, shipped.releases, now, changes)
    held: Mapping[str, str] = project.manifest.files if project.manifest else {}
    files = dict(held)
    for path, content in shipped.functions.items():
        theirs = project.read(path)
        if theirs is None:
            changes.writes[path] = content
        elif path not in held and theirs != content:
            changes.clashes.append(_way_out(path))
            continue
        files.setdefault(path, digest(content))
    _add_config(project, shipped.config_blocks, changes)
    _add_environment(project, changes)
    _declare(project, shipped, changes)
    if project.manifest is None:
        changes.writes[MANIFEST] = Manifest(shipped.version, prefix, files).text()
    return changes


def upgrade(project: Project, shipped: Shipped, now: datetime, *, overwrite: bool) -> Changes:
    """Bring what is new. Files that the owner edited are named and left, unless `overwrite`."""
    manifest = _installed(project)
    changes = Changes()
    releases = project.releases()
    new = {name: sql for name, sql in shipped.releases.items() if name not in releases}
    _add_releases(project, new, now, changes)
    for path, content in shipped.functions.items():
        theirs = project.read(path)
        if theirs == content:
            continue
        if theirs is None or overwrite or digest(theirs) == manifest.files.get(path):
            changes.writes[path] = content
        else:
            changes.clashes.append(
                f"{path} was edited: move your change elsewhere and delete the file, or pass --overwrite"
            )
    for path, sha in manifest.files.items():
        if path not in shipped.functions and (theirs := project.read(path)) is not None:
            if digest(theirs) == sha:
                changes.deletes.append(path)
            else:
                changes.notes.append(f"{path} is no longer part of Tillbase and was edited: it stays")
    _add_config(project, shipped.config_blocks, changes)
    _declare(project, shipped, changes)
    files = {path: digest(content) for path, content in shipped.functions.items()}
    _write_if_new(
        project, MANIFEST, Manifest(shipped.version, manifest.functions_prefix, files).text(), changes
    )
    return changes


def uninstall(project: Project, shipped: Shipped, migration: str, now: datetime) -> Changes:
    """Delete what `till init` wrote and nobody edited, and add the migration that drops what is ours."""
    manifest = _installed(project)
    changes = Changes()
    if project.releases():
        changes.writes[f"{MIGRATIONS}/{_stamp(project, now)}_{UNINSTALL}.sql"] = migration.encode()
    for path, sha in manifest.files.items():
        theirs = project.read(path)
        if theirs is not None and digest(theirs) == sha:
            changes.deletes.append(path)
        elif theirs is not None:
            changes.notes.append(f"{path} was edited: it stays, delete it when you don't need it")
    text = project.config_text
    for name, block in shipped.config_blocks.items():
        if block in text.replace("\r\n", "\n"):
            text = text.replace(_newlines(block, text), "")
        elif name in project.config.get("functions", {}):
            changes.notes.append(f"[functions.{name}] of {CONFIG} was edited: it stays, remove it by hand")
    if text != project.config_text:
        changes.writes[CONFIG] = (text.rstrip() + _newlines("\n", text)).encode()
    environment = project.read(ENVIRONMENT_FILE)
    if environment and ENVIRONMENT.encode() in environment:
        rest = environment.replace(ENVIRONMENT.encode(), b"").strip()
        if rest:
            changes.writes[ENVIRONMENT_FILE] = rest + b"\n"
        else:
            changes.deletes.append(ENVIRONMENT_FILE)
    changes.deletes += [path for path in (MANIFEST, DECLARED) if project.read(path) is not None]
    return changes


def _installed(project: Project) -> Manifest:
    if project.manifest is None:
        raise CliError("Tillbase is not in this project: run `till init` first")
    return project.manifest


def _add_releases(project: Project, releases: Mapping[str, bytes], now: datetime, changes: Changes) -> None:
    stamp = _stamp(project, now)
    for name, sql in releases.items():
        changes.writes[f"{MIGRATIONS}/{stamp}_tillbase_{name}.sql"] = sql
        stamp = _next(stamp)


def _stamp(project: Project, now: datetime) -> str:
    """A version later than every migration of theirs: a plain `supabase db push` refuses an older one."""
    return max(now.strftime("%Y%m%d%H%M%S"), _next(max(project.migrations, default="0")))


def _next(stamp: str) -> str:
    later = str(int(stamp) + 1).zfill(14)
    if len(later) > 14:
        raise CliError(f"{MIGRATIONS} has version {stamp}, after which there is none: rename that migration")
    return later


def _way_out(path: str) -> str:
    folder = path.split("/")[2]
    if folder == SHARED:
        return f"{path} is there already and is not Tillbase's: rename the folder {folder}"
    return (
        f"{path} is there already and is not Tillbase's: rename that function, "
        "or pass --functions-prefix tillbase- to have ours under other names"
    )


def _add_config(project: Project, blocks: Mapping[str, str], changes: Changes) -> None:
    """Append the blocks that are missing; theirs of the same name must say the same."""
    held = project.config.get("functions", {})
    missing: list[str] = []
    for name, block in blocks.items():
        ours = parse_config(block)["functions"][name]
        if name not in held:
            missing.append(block)
        elif held[name].get("verify_jwt", True) != ours["verify_jwt"]:
            changes.clashes.append(
                f"[functions.{name}] of {CONFIG} lacks verify_jwt = false: set it, or every request is refused"
            )
    if not missing:
        return
    text = project.config_text.rstrip() + "\n\n" + "\n".join(missing)
    text = _newlines(text.replace("\r\n", "\n"), project.config_text)
    try:
        parse_config(text)
    except tomllib.TOMLDecodeError:
        changes.clashes.append(
            f"{CONFIG} writes its functions as an inline table: write them as blocks [functions.name]"
        )
        return
    changes.writes[CONFIG] = text.encode()


def _newlines(text: str, like: str) -> str:
    return text.replace("\n", "\r\n") if "\r\n" in like else text


def _add_environment(project: Project, changes: Changes) -> None:
    held = project.read(ENVIRONMENT_FILE)
    if held is None:
        changes.writes[ENVIRONMENT_FILE] = ENVIRONMENT.encode()
    elif b"STRIPE_WEBHOOK_SECRET" not in held or b"POSTGRES_URL" not in held:
        changes.writes[ENVIRONMENT_FILE] = held.rstrip() + b"\n\n" + ENVIRONMENT.encode()


def _declare(project: Project, shipped: Shipped, changes: Changes) -> None:
    """For a project that declares its schemas: `supabase db diff` would drop what no declared file makes."""
    paths: list[str] = project.config.get("db", {}).get("migrations", {}).get("schema_paths") or []
    if not paths:
        return
    _write_if_new(project, DECLARED, b"\n".join(shipped.releases.values()), changes)
    if not any(path.removeprefix("./").startswith("tillbase/") for path in paths):
        changes.notes.append(
            f'Put "./tillbase/*.sql" first in schema_paths of {CONFIG}: '
            "else `supabase db diff` writes a migration that drops Tillbase"
        )


def _write_if_new(project: Project, path: str, content: bytes, changes: Changes) -> None:
    if project.read(path) != content:
        changes.writes[path] = content

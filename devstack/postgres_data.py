"""A requested path → a Postgres cluster that the server's user can use, there or elsewhere."""

import contextlib
import hashlib
import os
import re
import secrets
import shutil
import subprocess
import tempfile
from pathlib import Path

from devstack.errors import LocalStackError
from devstack.postgres_install import (
    DEBIAN,
    VERSION_VARIABLE,
    WHEELS,
    passable_by_anyone,
    server_user_id,
    shared_directory,
    spawn,
)

ADMIN_ROLE = "supabase_admin"

# Our Postgres 17 reads the system's time zones, and fails without them even for this one.
_NO_TIME_ZONES = 'invalid value for parameter "TimeZone": "UTC"'


def data_directory(wanted: Path) -> Path:
    """Where the data of `wanted` is stored: there, unless the server's user cannot reach it."""
    wanted = wanted.resolve()
    existing = next(path for path in wanted.parents if path.exists())
    if not server_user_id() or passable_by_anyone(existing):
        return wanted
    return shared_directory() / f"data-{hashlib.sha256(os.fsencode(wanted)).hexdigest()[:16]}"


def delete_data(wanted: Path) -> None:
    """Remove the data of `wanted`, wherever it is stored; no server may be running on it."""
    directory = data_directory(wanted)
    _refuse_if_running(directory)
    shutil.rmtree(directory, ignore_errors=True)


def prepare(directory: Path, major: int, *, durable: bool) -> None:
    """Make `directory` a cluster of that version if it is not one, and ready for a server."""
    if not (directory / "PG_VERSION").is_file():
        _create_cluster(directory, major, durable=durable)
    found = (directory / "PG_VERSION").read_text(encoding="utf-8").strip()
    if found != str(major):
        keep = f"set {VERSION_VARIABLE}={found}, " if found in map(str, (*WHEELS, *DEBIAN)) else ""
        raise LocalStackError(
            f"{directory} was created by Postgres {found}, this is {major}: {keep}remove it, or use another directory"
        )
    _refuse_if_running(directory)
    # Left by a dead server; another program may have its process id now.
    (directory / "postmaster.pid").unlink(missing_ok=True)
    _give_to_server(directory)


def superuser_password(directory: Path) -> str:
    """The random password with which the cluster was created."""
    return (directory / "superuser_password").read_text(encoding="utf-8").strip()


def takes_connections(directory: Path, pid: int) -> bool:
    """Whether the server with this process id accepts connections, after recovery."""
    lock = _lock_lines(directory)
    return len(lock) > 7 and lock[0] == str(pid) and lock[7] == "ready"


def reason(log_text: str) -> str:
    """The error in a log: its last fatal message, or else its last line."""
    if _NO_TIME_ZONES in log_text:
        return "the system has no time zone data: install its package tzdata"
    fatal = re.findall(r"(?:FATAL|PANIC|error):\s+(.+)", log_text)
    lines = [line.strip() for line in log_text.splitlines() if line.strip()]
    return (fatal or lines or ["it said nothing"])[-1]


def _create_cluster(directory: Path, major: int, *, durable: bool) -> None:
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise LocalStackError(f"{directory} is not empty and not a Postgres cluster: use another directory")
    directory.parent.mkdir(parents=True, exist_ok=True)
    # Created elsewhere and renamed, so that an interrupted initdb leaves nothing that looks like a cluster.
    building = Path(tempfile.mkdtemp(prefix=f"{directory.name}-", dir=directory.parent))
    try:
        cluster, password_file = building / "cluster", building / "password"
        cluster.mkdir(mode=0o700)
        password_file.touch(mode=0o600)
        password_file.write_text(secrets.token_urlsafe(24), encoding="utf-8")
        _give_to_server(building)
        _initdb(cluster, password_file, major, durable=durable)
        password_file.rename(cluster / "superuser_password")
        cluster.rename(directory)
    except OSError as error:
        raise LocalStackError(f"cannot create a cluster in {directory}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _initdb(cluster: Path, password_file: Path, major: int, *, durable: bool) -> None:
    arguments = [
        f"--pgdata={cluster}",
        f"--username={ADMIN_ROLE}",
        f"--pwfile={password_file}",
        "--no-instructions",
    ]
    arguments += ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C"]
    if major >= 16:
        arguments.append("--set=scram_iterations=1")
    if major >= 17:
        # The locale provider that needs nothing from the machine, and sorts the same on every machine.
        arguments += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    if not durable:
        arguments.append("--no-sync")
    with tempfile.TemporaryFile() as output:
        if spawn(major, "initdb", arguments, directory=cluster, output=output).wait() != 0:
            output.seek(0)
            problem = reason(output.read().decode(errors="replace"))
            raise LocalStackError(f"initdb failed in {cluster.parent.parent}: {problem}")


def _refuse_if_running(directory: Path) -> None:
    lock = _lock_lines(directory)
    if lock and lock[0].isdecimal() and _is_postgres_on(directory, int(lock[0])):
        raise LocalStackError(
            f"another Postgres (process {lock[0]}) runs on {directory}: stop it, or use another directory"
        )


def _lock_lines(directory: Path) -> list[str]:
    """The lock file of a server on `directory`: process id, …, in the eighth line its state."""
    try:
        return [
            line.strip() for line in (directory / "postmaster.pid").read_text(encoding="utf-8").splitlines()
        ]
    except (FileNotFoundError, NotADirectoryError):
        return []


def _is_postgres_on(directory: Path, pid: int) -> bool:
    """Whether process `pid` is a Postgres server on `directory`; if that is unknown, any Postgres."""
    with contextlib.suppress(OSError):
        return Path("/proc", str(pid), "cwd").readlink() == directory.resolve()  # Postgres runs in it
    command = ["ps", "-o", "command=", "-p", str(pid)]
    return "postgres" in subprocess.run(command, capture_output=True, text=True, check=False).stdout


def _give_to_server(directory: Path) -> None:
    if user_id := server_user_id():
        for path in (directory, *directory.rglob("*")):
            if path.lstat().st_uid != user_id:
                os.chown(path, user_id, -1, follow_symlinks=False)

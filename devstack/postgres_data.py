"""A wanted path → a Postgres cluster that the server's user can work on, there or where it can be."""

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

# The Postgres 17 that we use reads the system's zones, and without them knows not even this one.
_NO_TIME_ZONES = 'invalid value for parameter "TimeZone": "UTC"'


def data_directory(wanted: Path) -> Path:
    """Where the data for `wanted` is kept: there, unless the server's user cannot get through to it."""
    wanted = wanted.resolve()
    existing = next(path for path in wanted.parents if path.exists())
    if not server_user_id() or passable_by_anyone(existing):
        return wanted
    return shared_directory() / f"data-{hashlib.sha256(os.fsencode(wanted)).hexdigest()[:16]}"


def delete_data(wanted: Path) -> None:
    """Remove the data for `wanted`, wherever it is kept; no server may be running on it."""
    directory = data_directory(wanted)
    _refuse_if_running(directory)
    shutil.rmtree(directory, ignore_errors=True)


def prepare(directory: Path, major: int, *, durable: bool) -> None:
    """Make `directory` a cluster of that version if it is none, and fit to start a server on."""
    if not (directory / "PG_VERSION").is_file():
        _create_cluster(directory, major, durable=durable)
    found = (directory / "PG_VERSION").read_text(encoding="utf-8").strip()
    if found != str(major):
        keep = f"set {VERSION_VARIABLE}={found}, " if found in map(str, (*WHEELS, *DEBIAN)) else ""
        raise LocalStackError(
            f"{directory} was made by Postgres {found}, this is {major}: {keep}remove it, or use another directory"
        )
    _refuse_if_running(directory)
    # Left by a server that is dead, whose process id may be another program's by now.
    (directory / "postmaster.pid").unlink(missing_ok=True)
    _give_to_server(directory)


def superuser_password(directory: Path) -> str:
    """The random password that the cluster was made with."""
    return (directory / "superuser_password").read_text(encoding="utf-8").strip()


def takes_connections(directory: Path, pid: int) -> bool:
    """Whether the server with this process id is up, recovery and all."""
    lock = _lock_lines(directory)
    return len(lock) > 7 and lock[0] == str(pid) and lock[7] == "ready"


def reason(log_text: str) -> str:
    """What a log says went wrong: its last fatal message, else its last line."""
    if _NO_TIME_ZONES in log_text:
        return "the system has no time zone data: install its package tzdata"
    fatal = re.findall(r"(?:FATAL|PANIC|error):\s+(.+)", log_text)
    lines = [line.strip() for line in log_text.splitlines() if line.strip()]
    return (fatal or lines or ["it said nothing"])[-1]


def _create_cluster(directory: Path, major: int, *, durable: bool) -> None:
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise LocalStackError(
            f"{directory} holds something that is no Postgres cluster: use another directory"
        )
    directory.parent.mkdir(parents=True, exist_ok=True)
    # Made aside and renamed, so that one cut short leaves nothing that looks like a cluster.
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
        raise LocalStackError(f"cannot make a cluster in {directory}: {error.strerror or error}") from error
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
        # The locale provider that needs nothing of the machine, and sorts the same on each.
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
    """What a server on `directory` says of itself: process id, …, in the eighth line its state."""
    try:
        return [
            line.strip() for line in (directory / "postmaster.pid").read_text(encoding="utf-8").splitlines()
        ]
    except (FileNotFoundError, NotADirectoryError):
        return []


def _is_postgres_on(directory: Path, pid: int) -> bool:
    """Whether process `pid` is a Postgres server on `directory`; where that can't be told, any Postgres."""
    with contextlib.suppress(OSError):
        return Path("/proc", str(pid), "cwd").readlink() == directory.resolve()  # a server works in its data
    command = ["ps", "-o", "command=", "-p", str(pid)]
    return "postgres" in subprocess.run(command, capture_output=True, text=True, check=False).stdout


def _give_to_server(directory: Path) -> None:
    if user_id := server_user_id():
        for path in (directory, *directory.rglob("*")):
            if path.lstat().st_uid != user_id:
                os.chown(path, user_id, -1, follow_symlinks=False)

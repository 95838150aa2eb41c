"""A container image, named in TILLBASE_POSTGRES_IMAGE → a Postgres for the tests, where Docker answers."""

import io
import os
import secrets
import socket
import tarfile
import time
from functools import cache
from pathlib import Path
from typing import Any, Literal, LiteralString

import psycopg

from devstack import postgres_install
from devstack.errors import LocalStackError
from devstack.postgres import Postgres
from devstack.postgres_data import ADMIN_ROLE
from devstack.postgres_install import DEFAULT_MAJOR, pgmq_files

VARIABLE = "TILLBASE_POSTGRES_IMAGE"
_PORT = 5432
_DATA = "/var/lib/postgresql/data"
_READY_SECONDS = 180
_SETTINGS = {"max_connections": "200", "wal_level": "logical", "timezone": "UTC", "fsync": "off"}
_HAS_PGMQ: LiteralString = "select count(*) from pg_available_extensions where name = 'pgmq'"
_SHARE: LiteralString = "select setting from pg_config where name = 'SHAREDIR'"


def image() -> str | None:
    """The image that the tests run on; None if none is named, or no engine answers."""
    named = os.environ.get(VARIABLE, "").strip()
    return named if named and no_engine() is None else None


def line() -> str:
    """What is said at the beginning of every run."""
    named = os.environ.get(VARIABLE, "").strip()
    if not named:
        return f"no container: {VARIABLE} is not set, so nothing ran on an image of Postgres"
    why = no_engine()
    if why is not None:
        return f"no container: {VARIABLE} is {named}, but no Docker engine answers ({why})"
    return f"Postgres in a container of {named}"


@cache
def no_engine() -> str | None:
    """Why no Docker engine answers; None if one does."""
    host = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    if host.startswith("unix://"):
        # Docker's library leaves a socket open that finds nobody.
        with socket.socket(socket.AF_UNIX) as engine:
            try:
                engine.connect(host.removeprefix("unix://"))
            except OSError as error:
                return f"{host}: {error.strerror}"
    import docker  # half a second, for those who need it
    from docker.errors import DockerException

    try:
        docker.from_env().ping()
    except DockerException as error:
        return " ".join(str(error).split())[:100]
    return None


class ContainerPostgres(Postgres):
    """A server in a container of its own, with the superuser that local servers have. It is not durable."""

    def __init__(self, name: str) -> None:
        """Start it; returns once it answers."""
        import docker
        from testcontainers.core.config import testcontainers_config
        from testcontainers.core.container import DockerContainer

        self.password = secrets.token_hex(12)
        self.log_path = Path(name)
        # Nothing is fetched to look after containers: `stop` removes this one.
        testcontainers_config.ryuk_disabled = True
        self._container = DockerContainer(name).with_exposed_ports(_PORT)
        # In memory: a database for each test is too much for a disk that others use.
        self._container.with_tmpfs_mount(_DATA).with_kwargs(shm_size="1g")
        for variable, value in {
            "POSTGRES_USER": ADMIN_ROLE, "POSTGRES_PASSWORD": self.password, "POSTGRES_DB": "postgres",
        }.items():  # fmt: skip
            self._container.with_env(variable, value)
        own: list[str] = docker.from_env().images.get(name).attrs["Config"]["Cmd"] or ["postgres"]
        settings = [part for name, value in _SETTINGS.items() for part in ("-c", f"{name}={value}")]
        self._container.with_command([*own, *settings])
        self._container.start()
        try:
            self.port = int(self._container.get_exposed_port(_PORT))
            self.major = self._wait_until_it_answers()
            self._add_pgmq()
        except BaseException:
            self.stop()
            raise

    @property
    def running(self) -> bool:
        return self._container.get_wrapped_container() is not None

    def stop(self, mode: Literal["fast", "immediate"] = "fast") -> None:
        """Remove the container; `mode` is for servers that keep their data."""
        self._container.stop(force=True, delete_volume=True)

    def delete(self) -> None:
        self.stop()

    def bin(self, name: str) -> Path:
        """A program of the newest local Postgres: they all read older servers."""
        return postgres_install.install_directory(max(self.major, DEFAULT_MAJOR)) / "bin" / name

    def log_tail(self, lines: int = 40) -> str:
        """The last lines of the container's log."""
        return "\n".join(self._log().splitlines()[-lines:])

    def _log(self) -> str:
        return b"".join(self._container.get_logs()).decode(errors="replace")

    def _wait_until_it_answers(self) -> int:
        """The server's major version. While it is being set up it answers on its own socket only."""
        deadline = time.monotonic() + _READY_SECONDS
        while True:
            try:
                with psycopg.connect(self.admin_url(), connect_timeout=5) as connection:
                    return connection.info.server_version // 10000
            except psycopg.OperationalError as error:
                if time.monotonic() > deadline:
                    raise LocalStackError(
                        f"the container does not answer: {error}\n{self.log_tail()}"
                    ) from error
                time.sleep(0.1)

    def _add_pgmq(self) -> None:
        """As local servers get it, where the image has none; Supabase's has."""
        with psycopg.connect(self.admin_url()) as connection:
            if connection.execute(_HAS_PGMQ).fetchone() != (0,):
                return
            row = connection.execute(_SHARE).fetchone()
            assert row is not None
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            for name, content in pgmq_files().items():
                entry = tarfile.TarInfo(name)
                entry.size, entry.mode = len(content), 0o644
                tar.addfile(entry, io.BytesIO(content))
        wrapped: Any = self._container.get_wrapped_container()
        assert wrapped.put_archive(f"{row[0]}/extension", archive.getvalue())

"""A directory → a running Postgres with its data there, a child of this process, on 127.0.0.1 only."""

import contextlib
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Literal, Self
from urllib.parse import quote

from devstack import postgres_data, postgres_install
from devstack.errors import LocalStackError
from devstack.postgres_data import ADMIN_ROLE
from devstack.private import private

OWNER_ROLE = "postgres"

_HOST = "127.0.0.1"
_START_TIMEOUT_SECONDS = 60.0  # includes crash recovery
_STOP_TIMEOUT_SECONDS = 20.0
_POLL_SECONDS = 0.02
_PORT_ATTEMPTS = 5

_SETTINGS: Mapping[str, str] = {
    "listen_addresses": _HOST,
    # No Unix socket: its path is limited to about 100 bytes, and all clients use TCP.
    "unix_socket_directories": "",
    "max_connections": "200",
    "shared_buffers": "128MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",  # the log contains only what a person should read
    "wal_level": "logical",
}
# A password, not trust: other users of the machine can reach the port, and a superuser can run programs. All its 192
# bits are random, so iterations add no protection; one keeps connecting cheap.
_SINCE_16: Mapping[str, str] = {"scram_iterations": "1"}
_NOT_DURABLE: Mapping[str, str] = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


class Postgres:
    """One server. On Linux it ends with the thread that started it, however that ends."""

    def __init__(
        self, directory: Path, *, major: int, port: int | None, durable: bool, settings: Mapping[str, str]
    ) -> None:
        """For `start`."""
        self.major = major
        self._wanted_port = port
        self._durable = durable
        self._settings = {
            **_SETTINGS,
            **(_SINCE_16 if major >= 16 else {}),
            **({} if durable else _NOT_DURABLE),
            **settings,
        }
        self._process: subprocess.Popen[bytes] | None = None
        self.directory = postgres_data.data_directory(directory)
        self.log_path = directory.absolute().parent / "postgres.log"
        self.port = 0
        self.password = ""

    @classmethod
    def start(
        cls,
        directory: Path,
        *,
        major: int | None = None,
        port: int | None = None,
        durable: bool = True,
        settings: Mapping[str, str] = {},
    ) -> Self:
        """Start a server on `directory`, initialized if necessary; without `port` on a free one.

        `major` is the version of Postgres; by default TILLBASE_POSTGRES, or the default version. `durable=False`
        trades the safety of the data in a power cut for speed: for tests. As root the server runs as `nobody`; if
        that user cannot reach `directory`, the data is stored elsewhere: see `.directory`. Its log is `postgres.log`
        beside the directory.
        """
        major = postgres_install.chosen_major() if major is None else major
        server = cls(directory, major=major, port=port, durable=durable, settings=settings)
        server.log_path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            server.log_path.rename(server.log_path.with_suffix(".log.1"))  # so that it doesn't grow forever
        server._launch()
        return server

    def stop(self, mode: Literal["fast", "immediate"] = "fast") -> None:
        """Stop and wait until the process has ended. `immediate` is a crash: the next start recovers."""
        process, self._process = self._process, None
        if process is None:
            return
        signals = (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL)
        for number in signals if mode == "fast" else signals[1:]:
            process.send_signal(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_STOP_TIMEOUT_SECONDS)
                return

    def restart(self, mode: Literal["fast", "immediate"] = "fast") -> None:
        """Stop if running, and start again on the same port and data."""
        self.stop(mode)
        self._wanted_port = self.port
        self._launch()

    def delete(self) -> None:
        """Stop and remove the data."""
        self.stop("immediate")
        shutil.rmtree(self.directory, ignore_errors=True)

    @property
    def pid(self) -> int:
        """Process id of the server itself (the postmaster)."""
        if self._process is None:
            raise LocalStackError("Postgres is not running: start it first")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process is alive."""
        return self._process is not None and self._process.poll() is None

    def url(self, database: str = "postgres", *, role: str = OWNER_ROLE) -> str:
        """Connection URL as `postgres`, which is not a superuser (as on Supabase), or as another role."""
        return f"postgresql://{quote(role)}:{self.password}@{_HOST}:{self.port}/{quote(database, safe='')}"

    def admin_url(self, database: str = "postgres") -> str:
        """Connection URL as the superuser."""
        return self.url(database, role=ADMIN_ROLE)

    def bin(self, name: str) -> Path:
        """Path of one of the server's own programs: psql, pg_dump, pgbench …"""
        return postgres_install.install_directory(self.major) / "bin" / name

    def log_tail(self, lines: int = 40) -> str:
        """The last lines of the server's log."""
        with contextlib.suppress(FileNotFoundError):
            return "\n".join(
                self.log_path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:]
            )
        return ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _launch(self) -> None:
        postgres_data.prepare(self.directory, self.major, durable=self._durable)
        self.password = postgres_data.superuser_password(self.directory)
        for attempt in range(1, _PORT_ATTEMPTS + 1):
            self.port = self._wanted_port or _free_port()
            log_text = self._try_port()
            if log_text is None:
                return
            taken = "Address already in use" in log_text
            if taken and self._wanted_port:
                raise LocalStackError(
                    f"port {self.port} is in use: choose another port, or leave it out to get a free one"
                )
            if not taken or attempt == _PORT_ATTEMPTS:
                why = postgres_data.reason(log_text)
                raise LocalStackError(f"Postgres did not start: {why} (its log is {self.log_path})")

    def _try_port(self) -> str | None:
        """Start the process; returns its log if it did not start."""
        settings = {**self._settings, "port": str(self.port)}
        arguments = ["-D", str(self.directory)]
        arguments += [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with open(self.log_path, "ab", opener=private) as log:
            log_start = log.tell()
            self._process = postgres_install.spawn(
                self.major, "postgres", arguments, directory=self.directory, output=log
            )
        try:
            if self._wait_until_ready(self._process):
                return None
        except BaseException:  # Ctrl-C too must stop the process
            self.stop("immediate")
            raise
        self.stop("immediate")
        return self.log_path.read_bytes()[log_start:].decode(errors="replace")

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> bool:
        """Wait until it accepts connections; False if the process ended or time ran out."""
        deadline = time.monotonic() + _START_TIMEOUT_SECONDS
        while process.poll() is None and time.monotonic() < deadline:
            # Not by a first connection: on a port in use, that would reach another server.
            if postgres_data.takes_connections(self.directory, process.pid):
                return True
            time.sleep(_POLL_SECONDS)
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        return int(probe.getsockname()[1])

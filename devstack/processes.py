"""A Python module of ours → a child process that answers on a port of 127.0.0.1 and ends with its parent."""

import http.client
import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from devstack import launch
from devstack.errors import LocalStackError
from devstack.private import private

HOST = "127.0.0.1"
READY_SECONDS = 30
STOP_SECONDS = 15
POLL_SECONDS = 0.02


class Process:
    """A running child. When stopped, it finishes its current work."""

    def __init__(self, name: str, popen: subprocess.Popen[bytes], log_path: Path) -> None:
        self.name = name
        self.log_path = log_path
        self._popen = popen

    @classmethod
    def start(
        cls, name: str, arguments: Sequence[str], environment: Mapping[str, str], log_directory: Path
    ) -> "Process":
        """Run `python -m …` with this environment added to ours; its output goes to `<name>.log`."""
        log_directory.mkdir(parents=True, exist_ok=True)
        log_path = log_directory / f"{name}.log"
        with open(log_path, "wb", opener=private) as log:
            popen = subprocess.Popen(
                # Started by the launcher, so that the child ends with our process.
                [sys.executable, launch.__file__, "0", str(os.getpid()), sys.executable, "-m", *arguments],
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches only us; we stop it in order
            )
        return cls(name, popen, log_path)

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def running(self) -> bool:
        return self._popen.poll() is None

    def wait_for(self, port: int, path: str) -> None:
        """Return once GET `path` answers 200. Raises LocalStackError if the process ends or does not answer in time."""
        deadline = time.monotonic() + READY_SECONDS
        while not _answers(port, path):
            if not self.running or time.monotonic() > deadline:
                happened = "did not answer in time" if self.running else "ended"
                self.stop()
                raise LocalStackError(
                    f"{self.name} {happened}: {self.log_tail(1) or 'no output'} (log: {self.log_path})"
                )
            time.sleep(POLL_SECONDS)

    def stop(self) -> None:
        """Ask it to end, and wait until it has ended."""
        if self.running:
            self._popen.terminate()
        try:
            self._popen.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()

    def log_tail(self, lines: int = 40) -> str:
        """The last lines of its output."""
        return "\n".join(self.log_path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])


def free_port() -> int:
    """A port that is free at this moment."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]


def is_free(port: int) -> bool:
    """Whether nothing listens on the port."""
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) != 0


def _answers(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection(HOST, port, timeout=1)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == http.client.OK
    except OSError:
        return False
    finally:
        connection.close()

"""A Deno program of ours → a child process that announces its port and ends when its standard input does."""

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from devstack.private import private

STOP_SECONDS = 5

# What Deno itself needs: its cache, certificates and registry. Nothing else of our environment reaches the functions,
# as on Supabase they see only what was set for them.
DENO_VARIABLES = (
    "DENO_DIR",
    "DENO_TLS_CA_STORE",
    "DENO_CERT",
    "DENO_NO_UPDATE_CHECK",
    "HOME",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "LOCALAPPDATA",
    "NO_COLOR",
    "NO_PROXY",
    "NPM_CONFIG_REGISTRY",
    "PATH",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "SYSTEMROOT",
    "TMPDIR",
    "USERPROFILE",
    "XDG_CACHE_HOME",
    "http_proxy",
    "https_proxy",
    "no_proxy",
)


class DenoProcess:
    """A running program. It ends with the process that started it, however that ends."""

    def __init__(self, process: subprocess.Popen[bytes], log_path: Path) -> None:
        self._process = process
        self.log_path = log_path

    def stop(self) -> None:
        """Stop and wait until the process is gone."""
        if self._process.stdin:
            self._process.stdin.close()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process is alive."""
        return self._process.poll() is None

    def log_tail(self, lines: int = 40) -> str:
        """The last lines of the log."""
        return "\n".join(self._log().splitlines()[-lines:])

    def announced_port(self) -> int:
        """The program's first line of output, or 0; Deno may print its downloads before that."""
        for line in self._log().splitlines():
            if line.startswith('{"listening":'):
                return int(json.loads(line)["listening"])
        return 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _log(self) -> str:
        return self.log_path.read_text(encoding="utf-8", errors="replace")


def spawn(argv: Sequence[str], environment: Mapping[str, str], log_path: Path) -> subprocess.Popen[bytes]:
    """Start it in the directory of its log, with only this environment, and a pipe as standard input."""
    with open(log_path, "wb", opener=private) as log:
        return subprocess.Popen(
            argv,
            env=environment,
            cwd=log_path.parent,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches only us; we stop it in order
        )


def deno_environment() -> dict[str, str]:
    """The part of our environment that Deno itself needs."""
    inherited = {name: os.environ[name] for name in DENO_VARIABLES if name in os.environ}
    # A company's proxy may use a certificate that only the system's store has.
    return {"DENO_TLS_CA_STORE": "system,mozilla"} | inherited

"""A real PgBouncer before a server of the tests: Debian's, by `apt-get install pgbouncer`."""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support import Database

TIMEOUT_SECONDS = 20


@contextmanager
def pooled(database: Database, mode: str, connections: int = 2, ignored: str = "") -> Iterator[str]:
    """The URL of the database through a pooler in that mode; skips aloud where there is no PgBouncer.

    `ignored`: start-up parameters that the pooler drops instead of refusing them.
    """
    program = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        pytest.skip("there is no PgBouncer here, so no pooler was tried: apt-get install pgbouncer")
    url = urlsplit(database.url)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="tillbase-pooler-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        users, settings = directory / "users.txt", directory / "pgbouncer.ini"
        users.write_text(f'"{url.username}" "{url.password}"\n')
        settings.write_text(
            f"[databases]\n* = host={url.hostname} port={url.port}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n"
            f"listen_port = {port}\nauth_type = plain\nauth_file = {users}\npool_mode = {mode}\n"
            f"default_pool_size = {connections}\nignore_startup_parameters = extra_float_digits,{ignored}\n"
            "unix_socket_dir =\n"
        )
        as_nobody = ["-u", "nobody"] if os.geteuid() == 0 else []
        process = subprocess.Popen(
            [program, "-q", *as_nobody, str(settings)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            deadline = time.monotonic() + TIMEOUT_SECONDS
            while not _answers(port):
                assert process.poll() is None, "PgBouncer did not start"
                assert time.monotonic() < deadline
            yield f"postgresql://{url.username}:{url.password}@127.0.0.1:{port}{url.path}"
        finally:
            process.terminate()
            process.wait()


def _answers(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0

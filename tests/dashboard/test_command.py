"""`till dashboard`: an address that works once, on loopback and nowhere else, in nobody's log; gone with Ctrl-C."""

import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import httpx
import psutil
import pytest

from tests.support import Database

TILL = [sys.executable, "-c", "from cli.main import main; main()", "dashboard"]
DEADLINE_SECONDS = 60


def run(url: str, *arguments: str, **more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*TILL, *arguments],
        env={**os.environ, "POSTGRES_URL": url, "WORKER_METRICS_URL": "http://127.0.0.1:1/metrics", **more},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.fixture
def running(database: Database) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A dashboard in the foreground, and the address that it printed."""
    with run(database.url, "--actor", "hedy") as process:
        assert process.stdout
        yield process, process.stdout.readline().strip()
        process.kill()


def test_the_printed_address_opens_it_and_ctrl_c_ends_it(running: tuple[subprocess.Popen[str], str]) -> None:
    process, address = running
    token = address.partition("?token=")[2]
    assert len(token) >= 43
    with httpx.Client(follow_redirects=True, timeout=DEADLINE_SECONDS) as client:
        page = client.get(address)
        assert page.status_code == 200
        assert page.url.query == b""
        assert "recorded as <b>hedy</b>" in page.text
        assert "does not answer at http://127.0.0.1:1/metrics" in client.get(page.url.join("/worker")).text
    assert httpx.get(address).status_code == 401
    bound = [
        at.laddr.ip for at in psutil.Process(process.pid).net_connections() if at.status == psutil.CONN_LISTEN
    ]
    assert bound == ["127.0.0.1"]
    process.send_signal(signal.SIGINT)
    rest, log = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == 0
    assert token not in rest + log
    assert "Traceback" not in log
    with pytest.raises(httpx.ConnectError):
        httpx.get(address)


def test_the_browser_s_arguments_do_not_tell_the_token(database: Database, tmp_path: Path) -> None:
    """Everybody on the machine can read them; the page that they lead to is for its owner only."""
    seen = tmp_path / "seen"
    browser = tmp_path / "browser"
    browser.write_text(
        f"#!{sys.executable}\n"
        "import json, os, sys, urllib.parse\n"
        "page = urllib.parse.urlparse(sys.argv[1]).path\n"
        "modes = [oct(os.stat(path).st_mode & 0o777) for path in (page, os.path.dirname(page))]\n"
        f"json.dump([sys.argv[1], open(page).read(), modes], open({str(seen)!r} + '.new', 'w'))\n"
        f"os.rename({str(seen)!r} + '.new', {str(seen)!r})\n"
    )
    browser.chmod(0o755)
    ours, theirs = pty.openpty()
    environment = {**os.environ, "POSTGRES_URL": database.url, "BROWSER": str(browser)}
    with subprocess.Popen(TILL, env=environment, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not seen.exists() and time.monotonic() < deadline:
            select.select([ours], [], [], 0.1)
        process.send_signal(signal.SIGINT)
        process.wait(DEADLINE_SECONDS)
    os.close(theirs)
    printed = os.read(ours, 65536).decode()
    os.close(ours)
    [address] = re.findall(r"http://127[^\s]+", printed)
    argument, page, modes = json.loads(seen.read_text())
    assert address.partition("?token=")[2] not in argument
    assert address in page
    assert modes == ["0o600", "0o700"]
    assert not Path(urlparse(argument).path).exists()


def test_a_port_that_is_taken_is_told_in_one_line(database: Database) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with run(database.url, "--port", str(taken.getsockname()[1])) as process:
            _, log = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == 1
    assert log.count("\n") == 1
    assert "is in use: choose another one with --port" in log


def test_it_needs_a_database(tmp_path: Any) -> None:
    with run("", TILL_STATE=str(tmp_path)) as process:
        _, log = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == 1
    assert log.startswith("error: POSTGRES_URL is not set")

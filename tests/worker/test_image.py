"""deploy/Containerfile, built and run: by Docker where an engine answers, and its steps as a script everywhere."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from devstack.processes import free_port
from tests import containers
from tests.support import Database
from tests.worker.events import paid, receive
from tests.worker.test_process import FIRST_MONTH, balance, shop, until

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
FILE = ROOT / "deploy/Containerfile"
# An image with Python; the file's own is fetched where a registry answers.
BASE = "TILLBASE_IMAGE_BASE"
TAG = "tillbase:test"
PORT = 9464


def instructions() -> list[tuple[str, str]]:
    """Word and rest of each line."""
    lines = FILE.read_text().splitlines()
    parted = (line.partition(" ") for line in lines if line and not line.startswith("#"))
    return [(word, rest) for word, _, rest in parted]


def told(word: str) -> list[Any]:
    """The list that an instruction is given, such as CMD."""
    [rest] = [rest for each, rest in instructions() if each == word]
    return json.loads(rest[rest.index("[") :])


def drains(database: Database, log: Any) -> None:
    """An event that is received while the worker runs is worked off, and leaves the ledger whole."""
    with shop(database) as (conn, account):
        receive(conn, paid())
        until(lambda: balance(conn, account) == FIRST_MONTH, log)
        assert conn.execute("select * from billing.ledger_discrepancies").fetchall() == []


def test_its_steps_as_a_script_install_a_worker_that_drains(database: Database, tmp_path: Path) -> None:
    source, venv = tmp_path / "src", tmp_path / "venv"
    source.mkdir()
    paths = {"/venv": str(venv), "/src": str(source)}
    stage = instructions()
    stage = stage[: [word for word, _ in stage].index("FROM", 2)]
    assert {word for word, _ in stage} == {"ARG", "FROM", "WORKDIR", "COPY", "RUN"}
    for word, rest in stage:
        if word == "COPY":
            *names, target = rest.split()
            for name in names:
                copied = source / target if len(names) == 1 else source / target / name
                of = ROOT / name
                shutil.copytree(of, copied) if of.is_dir() else shutil.copyfile(of, copied)
        elif word == "RUN":
            command = rest.replace(
                "--no-cache-dir", "--no-compile"
            )  # an image has no use for a cache, nor the test
            for path, own in paths.items():
                command = command.replace(path, own)
            path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
            done = subprocess.run(
                ["sh", "-ec", command], cwd=source, env={**os.environ, "PATH": path}, capture_output=True, text=True,
                check=False, timeout=300,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr[-2000:]
    port = free_port()
    environment = {
        "PATH": f"{venv / 'bin'}:/usr/bin:/bin", "POSTGRES_URL": database.url,
        "WORKER_METRICS_ADDRESS": f"127.0.0.1:{port}",
    }  # fmt: skip
    [entrypoint] = told("ENTRYPOINT")
    with (tmp_path / "log").open("w") as log:
        worker = subprocess.Popen(
            [venv / "bin" / entrypoint, *told("CMD")], cwd=tmp_path, env=environment, stderr=log
        )
    try:
        drains(database, (tmp_path / "log").read_text)
        check = [word.replace(str(PORT), str(port)) for word in told("HEALTHCHECK")]
        assert subprocess.run(check, env=environment, check=False, timeout=20).returncode == 0
    finally:
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(60) == 0, (tmp_path / "log").read_text()
    assert (
        subprocess.run(check, env=environment, capture_output=True, check=False, timeout=20).returncode != 0
    )


@pytest.fixture
def engine() -> Iterator[Any]:
    """A client of Docker; says aloud why nothing was built."""
    why = containers.no_engine()
    if why is not None:
        pytest.skip(f"no image was built: no Docker engine answers ({why})")
    import docker

    client = docker.from_env()
    yield client
    client.close()


def test_the_image_builds_and_the_worker_in_it_drains(engine: Any, database: Database) -> None:
    from docker.errors import APIError, BuildError

    base = os.environ.get(BASE, "").strip()
    arguments = {"BASE": base} if base else {}
    try:
        image, _ = engine.images.build(
            path=str(ROOT), dockerfile=str(FILE), tag=TAG, buildargs=arguments, network_mode="host", rm=True
        )
    except APIError as error:
        pytest.skip(
            f"no image was built: its base can't be fetched ({error.explanation}); name one with {BASE}"
        )
    except BuildError as error:
        pytest.fail("".join(str(each.get("stream", "")) for each in error.build_log)[-3000:])
    config = image.attrs["Config"]
    assert config["User"] == "10001"
    # The database listens on loopback only, and the container's file system is not written to, as in compose.yaml.
    container = engine.containers.run(
        TAG, detach=True, network_mode="host", read_only=True, cap_drop=["ALL"],
        environment={"POSTGRES_URL": database.url},
    )  # fmt: skip
    try:
        drains(database, lambda: container.logs().decode())
        check = config["Healthcheck"]["Test"]
        assert container.exec_run(check[1:]).exit_code == 0
        assert container.exec_run(["id", "-u"]).output.strip() == b"10001"
        container.stop(timeout=40)
        assert container.wait()["StatusCode"] == 0, container.logs().decode()
    finally:
        container.remove(force=True)


def test_only_what_is_copied_is_sent_to_the_builder() -> None:
    """A checkout has an environment of a gigabyte, data and secrets."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in lines
    sent = {line.removeprefix("!") for line in lines if line.startswith("!")}
    copied = {
        name
        for word, rest in instructions()
        if word == "COPY" and "--from" not in rest
        for name in rest.split()[:-1]
    }
    assert sent == copied

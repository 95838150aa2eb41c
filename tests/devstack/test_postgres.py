"""The embedded server: what it lets in, what it survives, and what it says when it cannot start."""

import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from devstack import postgres_data, postgres_install
from devstack.errors import LocalStackError
from devstack.paths import supabase_directory
from devstack.postgres import Postgres
from devstack.scaffold import create_database
from tests.support import Database

REPOSITORY = Path(__file__).resolve().parents[2]
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="what only root meets; run as root to see it")
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="a child dies with its parent on Linux only")


def wait_for(condition: Callable[[], bool], *, seconds: float = 20.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


def is_alive(pid: int) -> bool:
    """Linux only; a zombie, which nobody has waited for yet, counts as dead."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture
def directory() -> Iterator[Path]:
    """A path for a server's data that the server's user can reach."""
    with tempfile.TemporaryDirectory(prefix="tillbase-test-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o711)
        yield Path(name, "data")


def test_committed_rows_survive_a_restart_and_a_crash(directory: Path) -> None:
    with Postgres.start(directory) as server:
        port, first_pid = server.port, server.pid
        with psycopg.connect(server.admin_url(), autocommit=True) as connection:
            connection.execute("create table kept (n int)")
            connection.execute("insert into kept values (1)")
        server.restart()
        assert server.port == port
        assert server.pid != first_pid
        with psycopg.connect(server.admin_url(), autocommit=True) as connection:
            connection.execute("insert into kept values (2)")
        server.stop("immediate")
        assert not server.running
    with (
        Postgres.start(directory) as server,
        psycopg.connect(server.admin_url()) as connection,
    ):
        assert connection.execute("select array_agg(n order by n) from kept").fetchone() == ([1, 2],)
        assert connection.execute("show fsync").fetchone() == ("on",)


def test_server_listens_on_loopback_only_and_asks_for_the_password(server: Postgres) -> None:
    with psycopg.connect(server.admin_url()) as connection:
        shown = [
            connection.execute(f"show {name}").fetchone()
            for name in ("listen_addresses", "unix_socket_directories", "timezone", "wal_level")
        ]
    assert shown == [("127.0.0.1",), ("",), ("UTC",), ("logical",)]
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(server.admin_url().replace(server.password, "guess"))


def test_settings_of_the_caller_win(directory: Path) -> None:
    with (
        Postgres.start(directory, durable=False, settings={"max_connections": "17"}) as server,
        psycopg.connect(server.admin_url()) as connection,
    ):
        assert connection.execute("show max_connections").fetchone() == ("17",)
        assert connection.execute("show fsync").fetchone() == ("off",)


def test_create_extension_pgmq_works_unchanged_as_postgres(empty_database: Database) -> None:
    with empty_database.connect() as connection:
        connection.execute("create extension pgmq")
        connection.execute("select pgmq.create('letters')")
        connection.execute("select pgmq.send('letters', '{\"n\": 1}')")
        read = connection.execute("select message from pgmq.read('letters', 30, 1)").fetchone()
        installed = connection.execute(
            "select extversion from pg_extension where extname = 'pgmq'"
        ).fetchone()
    shipped = (postgres_install.package_directory("pgmq") / "sql" / "VERSION").read_text().strip()
    assert read == ({"n": 1},)
    assert installed == (shipped,)


@on_linux
def test_killing_the_parent_leaves_no_server_behind(directory: Path) -> None:
    program = (
        "import sys, pathlib, signal\n"
        "from devstack.postgres import Postgres\n"
        "server = Postgres.start(pathlib.Path(sys.argv[1]), durable=False)\n"
        "print(server.pid, flush=True)\n"
        "signal.pause()\n"
    )
    command = [sys.executable, "-c", program, str(directory)]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        server_pid = int(parent.stdout.readline())
        assert is_alive(server_pid)
        parent.send_signal(signal.SIGKILL)
    assert wait_for(lambda: not is_alive(server_pid))


@pytest.mark.parametrize("whose", ["a process that is gone", "another program"])
def test_lock_file_of_a_dead_server_does_not_hinder_a_start(directory: Path, whose: str) -> None:
    with Postgres.start(directory, durable=False) as server:
        pass
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait()
    # Of the same user as the server: of others' processes Postgres itself knows that they are no Postgres.
    with subprocess.Popen(["sleep", "60"], user=postgres_install.server_user_id() or None) as other:
        pid = gone.pid if whose == "a process that is gone" else other.pid
        (directory / "postmaster.pid").write_text(f"{pid}\n{directory}\n0\n0\n\n127.0.0.1\n0 0\nready\n")
        try:
            with Postgres.start(directory, durable=False) as server:
                assert server.running
        finally:
            other.kill()


def test_second_server_on_the_same_data_is_refused_and_the_first_goes_on(directory: Path) -> None:
    with Postgres.start(directory, durable=False) as server:
        with pytest.raises(LocalStackError, match=rf"process {server.pid}\) runs on .*: stop it"):
            Postgres.start(directory, durable=False)
        with pytest.raises(LocalStackError, match="stop it"):
            postgres_data.delete_data(directory)
        with psycopg.connect(server.admin_url()) as connection:
            assert connection.execute("select 1").fetchone() == (1,)


def test_taken_port_is_named(directory: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(LocalStackError, match=f"^port {port} is in use: choose another port"):
            Postgres.start(directory, port=port, durable=False)


def test_setting_that_postgres_refuses_is_told_in_one_line(directory: Path) -> None:
    with pytest.raises(
        LocalStackError, match=r'^Postgres did not start: invalid value for parameter "shared_buffers"'
    ) as refused:
        Postgres.start(directory, durable=False, settings={"shared_buffers": "plenty"})
    assert "\n" not in str(refused.value)


def test_directory_with_other_things_in_it_is_left_alone(directory: Path) -> None:
    directory.mkdir()
    (directory / "thesis.txt").write_text("years of work")
    with pytest.raises(LocalStackError, match="not a Postgres cluster: use another directory"):
        Postgres.start(directory, durable=False)
    assert [path.name for path in directory.iterdir()] == ["thesis.txt"]
    assert list(directory.parent.iterdir()) == [directory]


@pytest.mark.parametrize(
    ("made_by", "remedy"), [("18", "set TILLBASE_POSTGRES=18, remove it"), ("9.6", "remove it")]
)
def test_cluster_of_another_version_is_refused(directory: Path, made_by: str, remedy: str) -> None:
    directory.mkdir()
    (directory / "PG_VERSION").write_text(f"{made_by}\n")
    with pytest.raises(LocalStackError, match=f"created by Postgres {made_by}, this is 17: {remedy}"):
        Postgres.start(directory, major=17, durable=False)


@pytest.mark.parametrize("major", postgres_install.WHEELS)
def test_every_version_starts_with_pgmq(directory: Path, major: int) -> None:
    with Postgres.start(directory, major=major, durable=False) as server:
        create_database(server, "postgres")
        with psycopg.connect(server.url(), autocommit=True) as connection:
            connection.execute("create extension pgmq")
            version = connection.execute("show server_version_num").fetchone()
        dump = subprocess.run(
            [server.bin("pg_dump"), "--version"], capture_output=True, text=True, check=True
        )
    assert version is not None
    assert int(version[0]) // 10_000 == major
    assert f" {major}." in dump.stdout


def test_version_is_that_of_hosted_projects_unless_another_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hosted = tomllib.loads((supabase_directory() / "config.toml").read_text())["db"]["major_version"]
    monkeypatch.delenv("TILLBASE_POSTGRES", raising=False)
    assert postgres_install.chosen_major() == hosted
    monkeypatch.setenv("TILLBASE_POSTGRES", "18")
    assert postgres_install.chosen_major() == 18
    monkeypatch.setenv("TILLBASE_POSTGRES", "9.6")
    with pytest.raises(
        LocalStackError, match=r"no Postgres 9\.6 here: set TILLBASE_POSTGRES to 15, 16, 17 or 18"
    ):
        postgres_install.chosen_major()


def test_version_without_its_package_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        postgres_install.WHEELS, 18, postgres_install.Wheel("some-wheel", "no_such_package", "")
    )
    postgres_install.install_directory.cache_clear()
    with pytest.raises(LocalStackError, match="run `pip install some-wheel`, or unset TILLBASE_POSTGRES"):
        postgres_install.install_directory(18)


def test_log_of_the_start_before_is_kept_once(directory: Path) -> None:
    for _ in range(3):
        with Postgres.start(directory, durable=False) as server:
            assert server.log_tail().count("ready to accept connections") == 1
    assert sorted(path.name for path in directory.parent.iterdir()) == [
        "data",
        "postgres.log",
        "postgres.log.1",
    ]


@pytest.fixture
def shared_place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A place of the test's own for what root must keep elsewhere."""
    with tempfile.TemporaryDirectory(prefix="tillbase-test-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o755)
        place = Path(name, "tillbase")
        monkeypatch.setattr(postgres_install, "SHARED_PLACES", (place,))
        postgres_install.install_directory.cache_clear()
        yield place
    postgres_install.install_directory.cache_clear()


@as_root
def test_data_that_the_servers_user_cannot_reach_is_kept_elsewhere(
    tmp_path: Path, shared_place: Path
) -> None:
    tmp_path.chmod(0o700)
    with Postgres.start(tmp_path / "data", durable=False) as server:
        password = server.password
        assert server.directory.parent == shared_place
        assert server.directory.stat().st_uid != 0
        assert stat.S_IMODE(server.directory.stat().st_mode) == 0o700
        assert server.log_path == tmp_path / "postgres.log"
        assert stat.S_IMODE(server.log_path.stat().st_mode) == 0o600
    with Postgres.start(tmp_path / "data", durable=False) as server:
        assert server.password == password  # the same cluster is found again
        kept_in = server.directory
    postgres_data.delete_data(tmp_path / "data")
    assert not kept_in.exists()


@as_root
@pytest.mark.parametrize("major", postgres_install.WHEELS)
def test_programs_that_the_servers_user_cannot_reach_are_copied_once(
    directory: Path, shared_place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, major: int
) -> None:
    tmp_path.chmod(0o700)
    wheel = move_packages(major, tmp_path, monkeypatch)
    with Postgres.start(directory, major=major, durable=False) as server:
        copy = server.bin("postgres").parents[3]
        assert copy.parent == shared_place
        assert server.bin("psql").is_file()
        with psycopg.connect(server.admin_url()) as connection:
            connection.execute("create extension pgmq")
    assert list((tmp_path / wheel.package).rglob("pgmq*")) == []
    made = copy.stat().st_ino
    postgres_install.install_directory.cache_clear()
    assert postgres_install.install_directory(major).parents[1].stat().st_ino == made
    next(copy.rglob("initdb")).unlink()  # as a sweep of temporary files would
    postgres_install.install_directory.cache_clear()
    assert (postgres_install.install_directory(major) / "bin" / "initdb").is_file()


def test_programs_that_pgmq_cannot_be_added_to_are_copied(
    directory: Path, shared_place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add = postgres_install._add_pgmq

    def add_to_ours_only(tree: Path) -> None:
        if not tree.is_relative_to(shared_place):
            raise PermissionError(tree)
        add(tree)

    monkeypatch.setattr(postgres_install, "_add_pgmq", add_to_ours_only)
    with (
        Postgres.start(directory, durable=False) as server,
        psycopg.connect(server.admin_url()) as connection,
    ):
        assert server.bin("postgres").is_relative_to(shared_place)
        connection.execute("create extension pgmq")


def move_packages(major: int, to: Path, monkeypatch: pytest.MonkeyPatch) -> postgres_install.Wheel:
    """Have the packages of one Postgres elsewhere, as they come in their wheel."""
    wheel = postgres_install.WHEELS[major]
    installed = postgres_install.package_directory(wheel.package).parent
    for part in filter(Path.exists, map(installed.joinpath, wheel.parts)):
        moved = to / part.relative_to(installed)
        shutil.copytree(part, moved, ignore=shutil.ignore_patterns("pgmq*"))
    find = postgres_install.package_directory

    def find_moved(name: str, **options: str) -> Path:
        return to / name if name == wheel.package else find(name, **options)

    monkeypatch.setattr(postgres_install, "package_directory", find_moved)
    return wheel


@as_root
@pytest.mark.parametrize("trap", ["others can write", "a link"])
def test_shared_place_that_another_user_prepared_is_not_trusted(shared_place: Path, trap: str) -> None:
    if trap == "a link":
        (shared_place.parent / "elsewhere").mkdir()
        shared_place.symlink_to(shared_place.parent / "elsewhere")
    else:
        shared_place.mkdir()
        shared_place.chmod(0o777)
    with pytest.raises(LocalStackError, match="run as an ordinary user"):
        postgres_install.shared_directory()

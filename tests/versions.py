"""`make test-postgres`: the SQL, worker and release suites on every Postgres that is here, and on pgmq 1.5.

Servers come from wheels and from Debian's packages. What is left out is said, with the reason; a suite that fails or
runs nothing fails the whole.
"""

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from rich.console import Console
from rich.table import Table

from devstack.errors import LocalStackError
from devstack.postgres_install import DEBIAN, VERSION_VARIABLE, WHEELS, install_directory
from tests import older_pgmq

ROOT = Path(__file__).parents[1]
SUITES = {
    "SQL": ["tests/sql"],
    "worker": ["tests/worker"],
    # By the real Supabase CLI where it can be installed: push, push again, db lint, db advisors.
    "release": [
        "tests/test_release.py",
        "tests/devstack/test_supabase_cli.py",
        "tests/devstack/test_supabase_lint.py",
        "tests/adopt/test_adoption.py",
    ],
}
# The pgmq of hosted projects changes nothing that depends on the server's version: on the default one it is enough.
OLDER_PGMQ_ON = 17


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one suite on one server; `skipped` are the reasons."""

    passed: int
    failed: list[str]
    skipped: list[str]
    seconds: float


def main(arguments: list[str]) -> int:
    """`arguments` are major versions; all of them if there is none."""
    out = Console(highlight=False)
    wanted = [int(each) for each in arguments] or sorted([*DEBIAN, *WHEELS])
    servers, left_out = _servers(wanted)
    for line in left_out:
        out.print(f"[yellow]left out:[/] {line}")
    table = Table("server", "suite", "passed", "failed", "skipped", "seconds", box=None)
    reasons: list[str] = []
    failed: list[str] = []
    for major, pgmq in servers:
        server = f"Postgres {major}" + (f", pgmq {pgmq}" if pgmq else "")
        for suite, paths in SUITES.items():
            if pgmq and suite == "release":
                continue
            out.print(f"[dim]{server}: {suite} …[/]")
            found = _run(major, pgmq, paths)
            table.add_row(
                server, suite, f"{found.passed:,}", str(len(found.failed)), str(len(found.skipped)),
                f"{found.seconds:.0f}",
            )  # fmt: skip
            reasons += [f"{server}: {reason}" for reason in found.skipped]
            failed += [f"{server}: {test}" for test in found.failed]
            if not found.passed:
                failed.append(f"{server}: {suite} ran no test")
    out.print(table)
    for line in dict.fromkeys(reasons):
        out.print(f"[yellow]skipped:[/] {line}", soft_wrap=True)
    for line in left_out:
        out.print(f"[yellow]left out:[/] {line}", soft_wrap=True)
    for line in failed:
        out.print(f"[red]failed:[/] {line}", soft_wrap=True)
    return 1 if failed or not servers else 0


def _servers(majors: list[int]) -> tuple[list[tuple[int, str | None]], list[str]]:
    """Major version and pgmq (None: that of its package), and what is left out with the reason."""
    servers: list[tuple[int, str | None]] = []
    left_out: list[str] = []
    for major in majors:
        try:
            install_directory(major)
        except (LocalStackError, KeyError) as error:
            left_out.append(f"Postgres {major}: {error}")
        else:
            servers.append((major, None))
            if major == OLDER_PGMQ_ON:
                servers.append((major, "1.5"))
    return servers, left_out


def _run(major: int, pgmq: str | None, paths: list[str]) -> Outcome:
    processes = os.environ.get("PROCESSES", "2")
    with tempfile.TemporaryDirectory(prefix="tillbase-versions-") as directory:
        report = Path(directory) / "report.xml"
        started = time.monotonic()
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-n",
            processes,
            "--dist",
            "loadgroup",
            "--no-header",
        ]
        done = subprocess.run(
            [*command, "-p", "no:cacheprovider", f"--junitxml={report}", *paths],
            cwd=ROOT,
            env={**os.environ, VERSION_VARIABLE: str(major), older_pgmq.VARIABLE: pgmq or ""},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        seconds = time.monotonic() - started
        outcome = _read(report, seconds)
        if done.returncode != 0 and not outcome.failed:
            outcome.failed.append(f"pytest ended with {done.returncode}: {done.stdout.strip()[-300:]}")
        if outcome.failed:
            print(done.stdout[-8000:])
        return outcome


def _read(report: Path, seconds: float) -> Outcome:
    outcome = Outcome(0, [], [], seconds)
    if not report.is_file():
        return outcome
    passed = 0
    for case in ElementTree.parse(report).iter("testcase"):
        name = f"{case.get('classname')}.{case.get('name')}"
        if case.find("failure") is not None or case.find("error") is not None:
            outcome.failed.append(name)
        elif (skipped := case.find("skipped")) is not None:
            outcome.skipped.append(str(skipped.get("message")))
        else:
            passed += 1
    return Outcome(passed, outcome.failed, outcome.skipped, seconds)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

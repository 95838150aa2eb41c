"""`python -m tests.mutants`: breaks copies of the project, rule by rule, and shows which test saw each.

Exit code 1 if a mutant lives. Arguments: words of the rules to break; none: all. The list of all is written to
docs/reference/mutants.md.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import Queue

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

ROOT = Path(__file__).parents[2]
LIST = ROOT / "docs" / "reference" / "mutants.md"
TIMEOUT_SECONDS = 300
_FAILED = re.compile(r"^(?:FAILED|ERROR) tests/(.+?)(?: - .*)?$", re.M)


@dataclass(frozen=True)
class Mutant:
    """`breaks` is the rule that no longer holds; `tests` are files under tests/."""

    breaks: str
    file: str
    find: str
    replace: str
    tests: list[str]


@dataclass(frozen=True)
class Death:
    """How a mutant ended: `killer` is the test that saw it, None if none did."""

    mutant: Mutant
    killer: str | None
    seconds: float


def read_mutants() -> list[Mutant]:
    """The list of tests/mutants/mutants.toml."""
    text = Path(__file__).with_name("mutants.toml").read_text()
    return [Mutant(**each) for each in tomllib.loads(text)["mutant"]]


def copy_project(to: Path) -> Path:
    """The files of the project as they are now, without what git ignores."""
    names = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    for name in filter(None, names.split("\0")):
        (to / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).exists():
            shutil.copy2(ROOT / name, to / name)
    return to


def kill(mutant: Mutant, copy: Path) -> Death:
    """Run the mutant's tests on a copy that has it; the copy is whole again afterwards."""
    path = copy / mutant.file
    whole = path.read_text()
    if whole.count(mutant.find) < 1:
        raise SystemExit(f"{mutant.file} has no more what is broken for: {mutant.breaks}")
    started = time.monotonic()
    path.write_text(whole.replace(mutant.find, mutant.replace, 1))
    try:
        _migrate(copy, mutant)
        killer = _first_failure(copy, mutant)
    finally:
        path.write_text(whole)
        _migrate(copy, mutant)
    return Death(mutant, killer, time.monotonic() - started)


def _migrate(copy: Path, mutant: Mutant) -> None:
    if mutant.file.startswith("supabase/schemas/"):
        _python(copy, "devstack.release", check=True)


def _first_failure(copy: Path, mutant: Mutant) -> str | None:
    done = _python(
        copy,
        "pytest",
        "-q",
        "-x",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
        *(f"tests/{test}" for test in mutant.tests),
    )
    if done.returncode == 0:
        return None
    found = _FAILED.search(done.stdout)
    if done.returncode == 1 and found:
        return found.group(1)
    raise SystemExit(
        f"the tests of {mutant.breaks} could not run:\n{done.stdout[-2000:]}\n{done.stderr[-1000:]}"
    )


def _python(
    copy: Path, module: str, *arguments: str, check: bool = False
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=copy,
        env=os.environ | {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"},
        check=check,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
    )


def kill_all(mutants: list[Mutant], console: Console) -> list[Death]:
    """All of them, on as many copies as there are cores."""
    cores = int(os.environ.get("PROCESSES", os.cpu_count() or 1))
    copies = Queue[Path]()
    with tempfile.TemporaryDirectory(prefix="tillbase-mutants-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o711)  # as root, Postgres runs as another user and must get through
        for core in range(cores):
            copies.put(copy_project(Path(name) / str(core)))

        def work(mutant: Mutant) -> Death:
            copy = copies.get()
            try:
                return kill(mutant, copy)
            finally:
                copies.put(copy)
                progress.advance(task)

        columns = (TextColumn("mutants"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=console) as progress, ThreadPoolExecutor(cores) as pool:
            task = progress.add_task("mutants", total=len(mutants))
            return list(pool.map(work, mutants))


def write_list(deaths: list[Death]) -> None:
    rows = [
        f"| {death.mutant.breaks} | `{death.mutant.file}` | `tests/{death.killer}` |"
        for death in deaths
        if death.killer
    ]
    LIST.write_text(
        "# Mutants\n\n"
        "`make mutants` breaks the code in these places, one after the other, and runs tests on each. A test that sees "
        "the breakage kills\nthe mutant; a mutant that lives is a hole in the tests. Written by the command.\n\n"
        "| broken rule | in | killed by |\n|---|---|---|\n" + "\n".join(rows) + "\n"
    )


def main(words: list[str]) -> int:
    console = Console()
    mutants = [each for each in read_mutants() if not words or any(word in each.breaks for word in words)]
    deaths = kill_all(mutants, console)
    table = Table("broken rule", "killed by", "seconds")
    for death in deaths:
        table.add_row(death.mutant.breaks, death.killer or "[red]lives[/red]", f"{death.seconds:.0f}")
    console.print(table)
    living = [death for death in deaths if death.killer is None]
    console.print(f"{len(deaths) - len(living)} of {len(deaths)} killed")
    if not words and not living:
        write_list(deaths)
    return 1 if living else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""A script and a number of clients → transactions a second, by Postgres's own load generator.

It is written in C and speaks prepared statements: on two cores the driver must not be what is measured.
"""

import re
import statistics
import subprocess

from devstack.postgres import Postgres

WARM_UP_SECONDS = 1  # each connection loads its catalogue and compiles its functions
SECONDS = 2

_PROGRESS = re.compile(r"^progress: ([0-9.]+) s, ([0-9.]+) tps", re.MULTILINE)
_PROCESSED = re.compile(r"transactions actually processed: ([0-9]+)")


def run(server: Postgres, database: str, script: str, clients: int) -> tuple[float, int]:
    """Transactions a second once warm, and how many there were in all. In `script` :number counts a client's own."""
    command = [str(server.bin("pgbench")), "--no-vacuum", "--protocol=prepared", f"--client={clients}"]
    command += [f"--time={WARM_UP_SECONDS + SECONDS}", "--progress=1", "--define=number=0", "--file=-"]
    done = subprocess.run(
        [*command, server.url(database)],
        input=f"\\set number :number + 1\n{script}",
        capture_output=True,
        text=True,
        check=True,
    )
    figures = [
        float(tps) for second, tps in _PROGRESS.findall(done.stderr) if float(second) > WARM_UP_SECONDS + 0.5
    ]
    processed = _PROCESSED.search(done.stdout)
    assert len(figures) >= SECONDS - 1, done.stderr
    assert processed is not None, done.stdout
    return statistics.mean(figures), int(processed[1])

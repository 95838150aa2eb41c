"""Workers that are forked from a process which has imported everything, so that a start costs a hundredth."""

import multiprocessing
import os
import sys
from collections.abc import Mapping
from multiprocessing.process import BaseProcess
from pathlib import Path

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.crash.warm"])


def start_worker(environment: Mapping[str, str], log: Path) -> BaseProcess:
    """`python -m worker` with these variables."""
    process = _CONTEXT.Process(target=_work, args=(dict(environment), log))
    process.start()
    return process


def _work(environment: dict[str, str], log: Path) -> None:
    os.environ.update(environment)
    sys.stderr = log.open("a", encoding="utf-8", buffering=1)
    import worker.jobs.run
    import worker.run
    from worker.settings import Settings

    # Waits of the loop, which do nothing but take time.
    worker.run.IDLE_SECONDS, worker.jobs.run.TAKE_SECONDS = 0.05, 0.05
    worker.run.main(Settings.from_env(os.environ))

"""`till credits allocate` and `expire`: what fell due by time alone → done, chunk by chunk, and counted.

The worker's clock does the same all the time; these are for catching up, and for where no worker runs.
"""

import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from types import FrameType
from typing import Annotated, LiteralString

import psycopg
import typer
from rich.progress import BarColumn, Progress, TimeRemainingColumn

from cli.app import App
from cli.call import moment
from cli.database import Connection, call, connect, refusal, row
from cli.output import AsJson, CliError, err, print_json, print_rows

app = App(panel="Scheduled work")

# An account costs some 0.25 ms: an app that needs one of them waits for an eighth of a second at most.
CHUNK = 500
CANCEL_SECONDS = 5.0
_INTERRUPTED = 130  # as shells have it: 128 + SIGINT

AsOf = Annotated[
    datetime | None,
    typer.Option(help="What is due by this moment (UTC); now if left out.", parser=moment),
]
Chunk = Annotated[
    int, typer.Option(help="How many accounts are locked, and committed, at a time.", min=1, max=1_000_000)
]


@dataclass(frozen=True)
class Work:
    """The function that does a chunk of some work, and the query that counts the accounts that have any."""

    name: str
    function: str
    accounts_due: LiteralString


ALLOCATION = Work(
    "granting credits",
    "billing.allocate_due_credits",
    "select count(distinct schedules.account_id) as accounts from billing.credit_schedules as schedules "
    "join billing.accounts on accounts.id = schedules.account_id where accounts.closed_at is null "
    "and schedules.next_slot_at <= %(as_of)s and schedules.disarmed_reason is null",
)
EXPIRY = Work(
    "expiring credits",
    "billing.expire_due_credits",
    "select count(*) as accounts from billing.credit_balances where next_due_at <= %(as_of)s",
)


@app.command()
def allocate(as_of: AsOf = None, chunk: Chunk = CHUNK, as_json: AsJson = False) -> None:
    """Grant all months of credits that are due, each once.

    Ctrl-C stops after the chunk in hand; what was granted stays.
    """
    _perform(ALLOCATION, as_of, chunk, as_json=as_json)


@app.command()
def expire(as_of: AsOf = None, chunk: Chunk = CHUNK, as_json: AsJson = False) -> None:
    """Expire grants and holds that are due; open scheduled grants.

    Ctrl-C stops after the chunk in hand; what was expired stays.
    """
    _perform(EXPIRY, as_of, chunk, as_json=as_json)


def in_chunks(
    conn: Connection, work: Work, as_of: datetime, due: int, accounts_max: int
) -> Iterator[dict[str, int]]:
    """Do the work of `due` accounts: the counts of each chunk, once it is committed.

    Ends early where the rest is locked by others, or done by them.
    """
    accounts = 0
    while True:
        [counts] = call(conn, work.function, as_of=as_of, accounts_max=accounts_max)
        yield {name: int(count) for name, count in counts.items()}
        accounts += counts["accounts"]
        if counts["accounts"] == 0 or accounts >= due:
            return


def _perform(work: Work, as_of: datetime | None, chunk: int, *, as_json: bool) -> None:
    done: Counter[str] = Counter(accounts=0)
    with connect() as conn:
        query = "select coalesce(%(as_of)s, billing.current_time()) as moment"
        until: datetime = row(conn, query, {"as_of": as_of})["moment"]
        started = time.monotonic()
        due = _accounts_due(conn, work, until)
        with _stop_on_interrupt(conn) as stop, _progress(work, due) as progress:
            try:
                for counts in in_chunks(conn, work, until, due, chunk):
                    done.update(counts)
                    progress.update(progress.task_ids[0], completed=done["accounts"])
                    if stop.is_set():
                        break
            except psycopg.Error as error:
                is_interrupted = stop.is_set() and isinstance(error, psycopg.errors.QueryCanceled)
                if not is_interrupted and not done["accounts"]:
                    raise
                if not is_interrupted:
                    raise CliError(
                        f"{refusal(error)} Accounts done before it: {done['accounts']:,}."
                    ) from None
        seconds = round(time.monotonic() - started, 1)
        left = _accounts_due(conn, work, until)

    if as_json:
        print_json({**done, "seconds": seconds, "accounts_left": left})
    elif done["accounts"]:
        print_rows([{**done, "seconds": seconds}], as_json=False, empty="", numbers=(*done, "seconds"))
    elif not left:
        err.print("nothing is due", style="dim")
    if stop.is_set():
        stopped = f"stopped: what is counted is committed; accounts left for the next time: {left:,}"
        err.print(stopped, highlight=False)
        raise typer.Exit(_INTERRUPTED)
    if left:
        in_use = f"accounts in use, left out: {left:,}; run it again for them"
        err.print(in_use, style="dim", highlight=False)


def _accounts_due(conn: Connection, work: Work, as_of: datetime) -> int:
    return row(conn, work.accounts_due, {"as_of": as_of})["accounts"]


def _progress(work: Work, due: int) -> Progress:
    progress = Progress(
        "{task.description}",
        BarColumn(),
        "{task.completed:,.0f} of {task.total:,.0f} accounts",
        TimeRemainingColumn(),
        console=err,
        transient=True,
        disable=not err.is_terminal,
    )
    progress.add_task(work.name, total=due)
    return progress


@contextmanager
def _stop_on_interrupt(conn: Connection) -> Generator[threading.Event]:
    """Set by the first Ctrl-C, so that the chunk in hand is committed and counted; the second one cancels it.

    Postgres is asked to cancel: an exception in the middle of a call would leave the connection unusable.
    """
    stop = threading.Event()

    def cancel(_number: int, _frame: FrameType | None) -> None:
        with suppress(psycopg.Error):  # nothing runs, or it ended meanwhile
            conn.cancel_safe(timeout=CANCEL_SECONDS)

    def stop_soon(_number: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, cancel)
        stop.set()
        # Not by rich: cut off by the second Ctrl-C it would say it once more with whatever comes next.
        print("stopping after the chunk in hand; Ctrl-C again cancels it", file=sys.stderr, flush=True)

    before = signal.signal(signal.SIGINT, stop_soon)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)

"""`python -m bench.drain_process product|floor URL`: a line from its parent → an emptied queue.

Says `ready` when it is connected and `done` at the end. `product` is the worker's own drain on its own connection.
"""

import sys

from psycopg import Connection

from worker.drain import drain
from worker.fetch import StripeReader
from worker.inbox import BATCH_SIZE, VISIBILITY_SECONDS
from worker.run import connect
from worker.settings import Settings


def take_and_archive(conn: Connection) -> bool:
    """What every consumer must do: two transactions for each batch, nothing in between."""
    taken = conn.execute(
        "select msg_id from pgmq.read('stripe_events', %s, %s)", [VISIBILITY_SECONDS, BATCH_SIZE]
    ).fetchall()
    if taken:
        conn.execute("select pgmq.archive('stripe_events', %s::bigint[])", [[msg_id for (msg_id,) in taken]])
    return bool(taken)


def main(side: str, url: str) -> None:
    with connect(Settings(url)) as conn:
        if side == "floor":
            conn.execute("set role none")  # the queue's tables are their owner's, here `postgres`
        print("ready", flush=True)
        sys.stdin.readline()
        stripe = StripeReader(None, None)
        while drain(conn, stripe) if side == "product" else take_and_archive(conn):
            pass
        print("done", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])

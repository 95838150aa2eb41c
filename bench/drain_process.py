"""`python -m bench.drain_process product|bare URL`: each line from its parent → an emptied queue.

Says `ready` when it is connected and `done` each time. `product` is the worker's own drain on its own connection,
`bare` writes the same rows without it.
"""

import sys

from bench.bare_drain import connect_bare, drain_bare
from worker.events.batches import Batches
from worker.sessions import connect
from worker.settings import Settings


def main(side: str, url: str) -> None:
    with connect(Settings(url)) if side == "product" else connect_bare(url) as conn:
        batches = Batches(conn)
        print("ready", flush=True)
        for _ in sys.stdin:
            while batches.settle_next() if side == "product" else drain_bare(conn):
                pass
            print("done", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Command line → the emulator on 127.0.0.1."""

import argparse
import os
import socket

import uvicorn

from stripe_local.api_spec import VERSION
from stripe_local.app import create_app


class Server(uvicorn.Server):
    """Prints its address once it listens."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started and sockets:
            port = sockets[0].getsockname()[1]
            print(f"Stripe {VERSION} on http://127.0.0.1:{port}", flush=True)


def main() -> None:
    """Serve until SIGINT or SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m stripe_local", description="A Stripe on localhost.")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one (default)")
    parser.add_argument("--webhook-url", help="an endpoint that gets every event")
    parser.add_argument(
        "--webhook-secret",
        default=os.environ.get("STRIPE_WEBHOOK_SECRET"),
        help="its whsec_… secret; better in STRIPE_WEBHOOK_SECRET, because all users of a machine can read arguments",
    )
    parser.add_argument("--seed", type=int, help="makes the ids of two runs alike")
    options = parser.parse_args()
    # Created as TCP, because asyncio disables Nagle only then, and answers would wait 40 ms.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", options.port))
    listener.listen(512)
    app = create_app(
        webhook_url=options.webhook_url,
        webhook_secret=options.webhook_secret,
        seed=options.seed,
        base_url=f"http://127.0.0.1:{listener.getsockname()[1]}",
    )
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, date_header=False, timeout_graceful_shutdown=2
    )
    Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()

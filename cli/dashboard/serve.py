"""A token and a port → the dashboard on 127.0.0.1, until Ctrl-C."""

import os
import socket
import sys
from contextlib import suppress

import uvicorn

from cli.call import actor_or_user
from cli.dashboard.app import create_app
from cli.dashboard.database import ServiceDatabase
from cli.dashboard.session import Session
from cli.database import setting
from cli.output import CliError
from worker.settings import check_postgres_url

HOST = "127.0.0.1"
GRACE_SECONDS = 3
ENVIRONMENT = (
    "WORKER_METRICS_URL", "STRIPE_API_KEY", "STRIPE_API_BASE", "WEBHOOK_URL", "SUPABASE_URL", "SUPABASE_PUBLISHABLE_KEY"
)  # fmt: skip


def listen(port: int) -> socket.socket:
    """A socket on loopback only; 0 selects a free port."""
    # Created as TCP, because asyncio disables Nagle only then.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
    except OSError:
        listener.close()
        raise CliError(f"port {port} is in use: choose another one with --port, or leave it out") from None
    listener.listen()
    return listener


def server(listener: socket.socket, session: Session, *, postgres_url: str, actor: str) -> uvicorn.Server:
    """The server for this socket."""
    port = listener.getsockname()[1]
    app = create_app(
        ServiceDatabase(postgres_url), session, port=port, actor=actor, environment=_environment()
    )
    # No access log: the first request has the token in its address.
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, server_header=False, ws="none",
        timeout_graceful_shutdown=GRACE_SECONDS,
    )  # fmt: skip
    return uvicorn.Server(config)


def run(listener: socket.socket, session: Session, *, postgres_url: str, actor: str) -> None:
    """Serve until SIGINT or SIGTERM."""
    with suppress(KeyboardInterrupt):
        server(listener, session, postgres_url=postgres_url, actor=actor).run(sockets=[listener])


def address(port: int, token: str) -> str:
    """The address to open in a browser, once."""
    return f"http://{HOST}:{port}/?token={token}"


def postgres_url() -> str:
    """The database's URL."""
    url = setting("POSTGRES_URL")
    check_postgres_url(url)
    return url


def _environment() -> dict[str, str]:
    """What is set of what the pages of the worker, of doctor and of disputes use.

    From one place: a key of the local stack is none of a database that the environment names.
    """
    if os.environ.get("POSTGRES_URL", "").strip():
        return {name: os.environ[name].strip() for name in ENVIRONMENT if os.environ.get(name, "").strip()}
    found: dict[str, str] = {}
    for name in ENVIRONMENT:
        with suppress(CliError):
            found[name] = setting(name)
    return found


def main() -> None:
    """For the local stack, which prints the token: `python -m cli.dashboard PORT`."""
    session = Session(token=os.environ.pop("TILL_DASHBOARD_TOKEN"))
    run(listen(int(sys.argv[1])), session, postgres_url=postgres_url(), actor=actor_or_user(None))

"""`till dashboard`: the dashboard in the foreground."""

import sys
import webbrowser
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from cli.app import App
from cli.call import actor_or_user
from cli.output import err, out
from devstack.private import private

app = App(panel="Operate")


@app.command()
def dashboard(
    port: Annotated[
        int, typer.Option(help="Port on 127.0.0.1; a free one if left out.", min=0, max=65535)
    ] = 0,
    no_open: Annotated[
        bool, typer.Option("--no-open", help="Print the address only; open no browser.")
    ] = False,
    actor: Annotated[
        str | None,
        typer.Option(help="Who decides, as it is recorded. Default: your user name on this machine."),
    ] = None,
) -> None:
    """Open the administrator's dashboard in a browser.

    Reads POSTGRES_URL, and WORKER_METRICS_URL to show the worker's metrics. The address works once.
    """
    # Other commands need not load a web server.
    from cli.dashboard import serve
    from cli.dashboard.session import Session

    session, url = Session(), serve.postgres_url()
    listener = serve.listen(port)
    link = serve.address(listener.getsockname()[1], session.token)
    out.print(link, highlight=False, markup=False)
    err.print("The address works once, in one browser. Ctrl-C ends the dashboard.", style="dim")
    with _page_that_leads_to(link) as page:
        if not no_open and sys.stdout.isatty():
            webbrowser.open(page.as_uri())
        serve.run(listener, session, postgres_url=url, actor=actor_or_user(actor))


@contextmanager
def _page_that_leads_to(link: str) -> Generator[Path]:
    """A page that redirects: all users of the machine can read the arguments of the browser's process."""
    with TemporaryDirectory(prefix="till-dashboard-") as directory:
        page = Path(directory) / "open.html"
        with open(page, "w", encoding="utf-8", opener=private) as file:
            file.write(f'<!doctype html><meta http-equiv="refresh" content="0;url={link}">\n')
        yield page

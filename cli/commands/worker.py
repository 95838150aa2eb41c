"""`till worker run`: the process that drains the queue of Stripe events."""

import os

from cli.app import App

app = App("worker", panel="Operate", help="Apply Stripe events and do scheduled work.")


@app.callback()
def worker() -> None:
    """Apply Stripe events and do scheduled work."""


@app.command()
def run() -> None:
    """Run the worker until SIGTERM or Ctrl-C. Work in progress is finished first.

    Reads POSTGRES_URL, STRIPE_API_KEY, STRIPE_API_BASE, WORKER_METRICS_ADDRESS, TILLBASE_NOTIFY_URLS,
    TILLBASE_CUSTOMER_MAIL_URL and TILLBASE_TEMPLATES.
    """
    from worker.run import main
    from worker.settings import Settings

    main(Settings.from_env(os.environ))

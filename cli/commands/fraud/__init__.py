"""`till fraud …`: early fraud warnings, disputes and reviews."""

from cli.app import App
from cli.commands.fraud import evidence, policy, queue

app = App("fraud", panel="Operate", help="Early fraud warnings, disputes, reviews.")
for part in (queue, policy, evidence):
    app.add_typer(part.app)

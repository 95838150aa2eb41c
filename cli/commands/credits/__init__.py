"""`till credits …`: read and move an account's credits."""

from cli.app import App
from cli.commands.credits import correct, holds, limits, move, read, review, scheduled

app = App("credits", panel="Accounts and credits", help="Read and move an account's credits.")
for part in (read, move, holds, correct, review, limits, scheduled):
    app.add_typer(part.app)

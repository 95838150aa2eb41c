"""`till fraud evidence`: what the database knows of a disputed payment → a file to look over → Stripe."""

import json
from pathlib import Path
from typing import Annotated

import typer

from cli.app import App
from cli.call import Actor, Yes, actor_or_user, print_record
from cli.database import connect
from cli.evidence import check, evidence_of
from cli.output import AsJson, CliError, err, out, print_json, time_text
from cli.tables import print_table
from devstack.private import private

app = App()

_CELL_LENGTH_MAX = 300


@app.command()
def evidence(
    dispute_id: Annotated[
        str, typer.Argument(help="Dispute (du_…), as `till fraud list disputes` prints it.")
    ],
    file: Annotated[
        Path | None,
        typer.Option(help="Where the evidence is kept; evidence_<dispute>.json if left out.", dir_okay=False),
    ] = None,
    actor: Actor = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Collect evidence for a dispute in a file; with --yes submit the file to Stripe.

    A file that is there is never written over: edit it as you like. The bank takes one submission.
    """
    from cli.disputes import collect, submit
    from cli.plans.catalogue import stripe_settings

    path = file or Path(f"evidence_{dispute_id}.json")
    with connect() as conn:
        facts = collect(conn, dispute_id)
        is_new = not path.exists()
        found = evidence_of(facts) if is_new else _read(path)
        if is_new:
            _write(path, found)
        done = submit(conn, stripe_settings(), dispute_id, found, actor_or_user(actor)) if yes else None
    if as_json:
        print_json({"file": str(path), "evidence": found, "submitted": done is not None, "status": done})
    else:
        _print(found)
        due = facts.payment["evidence_due_at"]
        out.print(f"\n{'written to' if is_new else 'as it is in'} {path}", highlight=False)
        if done is None and due is not None:
            out.print(f"the bank wants it by {time_text(due)}", highlight=False)
    if done is None:
        err.print("nothing was submitted: look it over, then repeat it with --yes", style="dim")
    else:
        err.print(f"submitted: the dispute is {done.replace('_', ' ')}", style="dim")


@app.command()
def accept(
    dispute_id: Annotated[
        str, typer.Argument(help="Dispute (du_…), as `till fraud list disputes` prints it.")
    ],
    actor: Actor = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Accept a dispute at Stripe: the money is lost, and the credits of the payment are revoked. For good."""
    from cli.disputes import accept as accept_at_stripe
    from cli.disputes import collect
    from cli.plans.catalogue import stripe_settings

    with connect() as conn:
        payment = collect(conn, dispute_id).payment
        status = (
            accept_at_stripe(conn, stripe_settings(), dispute_id, actor_or_user(actor))
            if yes
            else payment["status"]
        )
    record = {
        "stripe_dispute_id": dispute_id,
        "status": status,
        "stripe_charge_id": payment["stripe_charge_id"],
    }
    print_record(record, as_json=as_json, yes=yes)


def _read(path: Path) -> dict[str, str]:
    try:
        return check(json.loads(path.read_text(encoding="utf-8")), str(path))
    except (OSError, ValueError) as error:
        raise CliError(f"{path} cannot be read as JSON ({error}): mend it, or delete it") from None


def _write(path: Path, found: dict[str, str]) -> None:
    try:
        with open(path, "w", encoding="utf-8", opener=private) as file:
            file.write(json.dumps(found, indent=2, ensure_ascii=False) + "\n")
    except OSError as error:
        raise CliError(f"cannot write {path} ({error.strerror}): name another with --file") from None


def _print(found: dict[str, str]) -> None:
    def short(text: str) -> str:
        return (
            text
            if len(text) <= _CELL_LENGTH_MAX
            else f"{text[:_CELL_LENGTH_MAX]} … ({len(text):,} characters)"
        )

    print_table(
        ("field", "evidence"),
        (("", (name, short(text))) for name, text in found.items()),
        wrapped=("evidence",),
    )

"""`till plans …`: plans and packs from a file to Stripe, from Stripe to the database, and as they are there."""

from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn

from cli.app import App
from cli.call import Yes
from cli.database import Connection, connect, rows
from cli.output import AsJson, CliError, err, out, print_json, time_text
from cli.plans.tables import print_changes, print_database_steps, print_plans, print_steps
from cli.tables import print_table

if TYPE_CHECKING:  # Stripe's library and pydantic take their time to load: only who needs them waits
    from cli.plans.catalogue import Catalogue, StripeAccount
    from cli.plans.changes import Step
    from cli.plans.database import DatabaseStep
    from cli.plans.file import PlanFile
    from cli.plans.sync import Synced

app = App("plans", panel="Sell", help="List, push and sync plans and credit packs.")

_LIST = """
select listed.row from (
    select
        to_jsonb(plans) - %(private)s::text[] || jsonb_build_object(
            'kind', 'plan', 'product', products.name, 'active', plans.active and products.active,
            'rollover', concat_ws(':', plans.rollover, coalesce(plans.rollover_periods, plans.rollover_cap))
        ) as row
    from billing.plans join billing.products using (stripe_product_id)
    union all
    select
        to_jsonb(packs) - %(private)s::text[] || jsonb_build_object(
            'kind', 'pack', 'product', products.name, 'active', packs.active and products.active,
            'expires_after', replace(packs.expires_after::text, 'mon', 'month')
        )
    from billing.credit_packs as packs join billing.products using (stripe_product_id)
) as listed
order by
    (listed.row -> 'active')::boolean desc, listed.row ->> 'kind' desc, listed.row ->> 'product',
    (listed.row ->> 'unit_amount')::bigint nulls last, listed.row ->> 'stripe_price_id'
"""
# How the database keeps them, not what is sold.
_PRIVATE = ["metadata", "as_of", "created_at", "updated_at", "rollover_periods", "rollover_cap"]


@app.command("list")
def list_plans(as_json: AsJson = False) -> None:
    """List plans and packs in the database, those on sale first."""
    with connect() as conn:
        found = [each["row"] for each in rows(conn, _LIST, {"private": _PRIVATE})]
    if as_json:
        print_json(found)
        return
    if not found:
        err.print("no plans yet: bring them with `till plans sync`", style="dim")
        return
    print_plans(found)


@app.command()
def sync(as_json: AsJson = False) -> None:
    """Sync products and prices from Stripe to the database, archived ones too. Prints what changed.

    What was deleted in Stripe is off sale for good.
    Metadata that cannot be read is reported and the rest goes on; the exit code is 1 then.
    """
    from cli.plans.catalogue import stripe_account, stripe_settings
    from cli.stripe_key import check_key

    settings = stripe_settings()
    with connect() as conn, stripe_account(settings) as stripe:
        result = _sync(conn, stripe, is_our_key=check_key(conn, settings))
    if as_json:
        print_json(_told(result))
    else:
        print_changes(result)
    _finish(result)


@app.command()
def push(
    file: Annotated[
        Path, typer.Argument(help="The plan file, such as plans.toml.", exists=True, dir_okay=False)
    ],
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Push a plan file to Stripe, sync the database from Stripe, then write operations and free credits.

    A new amount, currency or interval makes a new price that takes the lookup key over.
    The old one is archived and keeps its subscribers.
    A changed operation gets a new version. Open holds and past charges keep theirs.
    Plans and operations that the file does not mention are left alone.
    If the file has [free_credits], rules that are not in it end.
    """
    from cli.plans.catalogue import stripe_account, stripe_settings
    from cli.plans.database import push_database
    from cli.stripe_key import check_key

    declared = _read(file)
    planned: list[Step] = []
    result: Synced | None = None
    with connect() as conn, ExitStack() as stack:
        # First, because it shows what the database refuses before Stripe is changed.
        in_database = push_database(conn, declared, yes=False)
        stripe: StripeAccount | None = None
        is_our_key = False
        if declared.products or declared.prices:
            settings = stripe_settings()
            stripe = stack.enter_context(stripe_account(settings))
            is_our_key = check_key(conn, settings)
            planned = _plan(conn, stripe, declared, file)
        if not as_json:
            if stripe is not None:
                print_steps(planned)
            print_database_steps(in_database)
        told = [_step(step) for step in (*planned, *in_database)]
        if not yes:
            if as_json:
                print_json({"dry_run": True, "steps": told})
            _say_what_was_not_done([*planned, *in_database])
            return
        if stripe is not None:
            _push(stripe, planned)
            result = _sync(conn, stripe, is_our_key=is_our_key)
        in_database = push_database(conn, declared, yes=True)
    if as_json:
        print_json(
            {"dry_run": False, "steps": told, **({"database": _told(result)} if result is not None else {})}
        )
    elif result is not None:
        print_changes(result)
    if in_database:
        changed = sum(step.writes for step in in_database)
        err.print(f"changed in the database: {changed:,}", style="dim", highlight=False)
    if result is not None:
        _finish(result)


@app.command()
def simulate(
    file: Annotated[
        Path, typer.Argument(help="The plan file to try, such as new.toml.", exists=True, dir_okay=False)
    ],
    months: Annotated[int, typer.Option(help="How many months to replay.", min=1, max=36)] = 3,
    html: Annotated[
        Path | None, typer.Option(help="Write a page with a picture here.", dir_okay=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Replay the ledger of the last months with the prices of a plan file. Writes nothing to the database.

    Shows who would run dry and when, revenue, credits outstanding and margin, now and with the file.
    Recorded quantities of priced work are priced again; what it assumes is part of the output.
    """
    from cli.plans import history
    from cli.plans.simulate import ASSUMPTIONS
    from cli.plans.simulate import simulate as replay
    from cli.plans.simulation_page import document, dry_rows, figures, page

    declared = _read(file)
    with connect() as conn, conn.transaction():
        # One state of the ledger for all of its queries.
        conn.execute("set transaction isolation level repeatable read read only")
        start, until = history.since(conn, months)
        found = replay(
            declared,
            start,
            until,
            history.accounts(conn, start),
            history.payments(conn, start),
            history.sold(conn),
        )
    if html is not None:
        html.write_text(page(found, file.name), encoding="utf-8")
    if as_json:
        print_json(document(found))
        return
    print_table(("", "now", "new"), (("", row) for row in figures(found)), wrapped=(), numbers=("now", "new"))
    if dry := dry_rows(found):
        out.print()
        print_table(
            ("runs dry", "now", "new", "unpaid now", "unpaid new"),
            (
                (
                    "",
                    (
                        name,
                        *("" if at is None else time_text(at) for at in (now, new)),
                        f"{less:,}",
                        f"{more:,}",
                    ),
                )
                for name, now, new, less, more in dry
            ),
            wrapped=(),
            numbers=("unpaid now", "unpaid new"),
        )
    for line in ASSUMPTIONS:
        err.print(f"- {line}", style="dim", highlight=False, soft_wrap=True)
    if found.difference:
        err.print(
            f"the replay of what happened ends {found.difference:+,} credits from the ledger: debt, overdrafts and "
            "returned credits are simpler here",
            style="yellow", highlight=False, soft_wrap=True,
        )  # fmt: skip
    if html is not None:
        err.print(f"written: {html}", style="dim", highlight=False, soft_wrap=True)


def _plan(conn: Connection, stripe: "StripeAccount", declared: "PlanFile", file: Path) -> "list[Step]":
    from cli.plans.changes import steps
    from cli.plans.sync import check_mode

    catalogue = _read_stripe(stripe)
    for livemode in {bool(read.body.get("livemode")) for read in catalogue}:
        check_mode(conn, livemode=livemode)
    try:
        return steps(declared, catalogue)
    except CliError as error:
        raise CliError(f"{file}: {error}") from None


def _read(file: Path) -> "PlanFile":
    from cli.plans.read import BadPlanFile, read_plan_file

    try:
        return read_plan_file(file)
    except BadPlanFile as error:
        for mistake in error.mistakes:
            err.print(f"[bold red]error:[/] {escape(mistake)}", highlight=False, soft_wrap=True)
        raise typer.Exit(1) from None


def _read_stripe(stripe: "StripeAccount") -> "Catalogue":
    with _progress("reading Stripe", None) as progress:
        return stripe.read_catalogue(lambda objects: progress.advance(progress.task_ids[0], objects))


def _told(result: "Synced") -> dict[str, Any]:
    return {
        "changes": result.changes,
        "refused": result.refused,
        "deleted": result.deleted,
        "missing": result.missing,
    }


def _sync(conn: Connection, stripe: "StripeAccount", *, is_our_key: bool) -> "Synced":
    from cli.plans.sync import sync_catalogue

    catalogue = _read_stripe(stripe)
    with _progress("bringing them here", len(catalogue)) as progress:
        return sync_catalogue(
            conn, stripe, catalogue, lambda: progress.advance(progress.task_ids[0]), is_our_key=is_our_key
        )


def _push(stripe: "StripeAccount", planned: "Sequence[Step]") -> None:
    from cli.plans.push import take

    to_do = sum(step.writes for step in planned)
    if to_do:
        with _progress("changing Stripe", to_do) as progress:
            take(stripe, planned, lambda: progress.advance(progress.task_ids[0]))


@contextmanager
def _progress(what: str, total: int | None) -> Generator[Progress]:
    counted = "{task.completed:,.0f}" if total is None else "{task.completed:,.0f} of {task.total:,.0f}"
    progress = Progress(
        "{task.description}",
        BarColumn(),
        TextColumn(counted),
        console=err,
        transient=True,
        disable=not err.is_terminal,
    )
    progress.add_task(what, total=total)
    with progress:
        yield progress


def _finish(result: "Synced") -> None:
    told = f"read from Stripe: {result.read:,}; changed here: {len(result.changes):,}"
    if result.refused:
        told += f"; refused: {len(result.refused):,}. Correct the metadata in Stripe, then run it again"
    err.print(told, style="dim", highlight=False, soft_wrap=True)
    if result.refused:
        raise typer.Exit(1)


def _say_what_was_not_done(planned: "Sequence[Step | DatabaseStep]") -> None:
    changes = sum(step.writes for step in planned)
    told = (
        f"changes to make: {changes:,}; nothing was done: repeat it with --yes"
        if changes
        else "nothing to change"
    )
    err.print(told, style="dim", highlight=False)


def _step(step: "Step | DatabaseStep") -> dict[str, Any]:
    return {
        "action": step.action,
        "kind": step.kind,
        "key": step.key,
        "stripe_id": step.stripe_id,
        "differences": {name: [before, after] for name, before, after in step.differences},
    }

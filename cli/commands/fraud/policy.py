"""`till fraud policy`: what is done about an early fraud warning, read, changed, and tried on the open ones."""

from collections.abc import Sequence
from typing import Annotated, Any, LiteralString, NamedTuple

import typer

from cli.app import App
from cli.call import Yes, say_nothing_was_done
from cli.database import Connection, Row, connect, row, rows
from cli.fraud_policy import FIELDS, LEVELS, Field, policies, switch, value_text
from cli.output import AsJson, err, out, print_json
from cli.tables import print_table
from worker.money import money_text

app = App()

POLICIES = ("clamp_and_record", "allow_negative", "block_future_grants")


def _shortfall(text: str) -> str:
    if text not in POLICIES:
        raise ValueError(" or ".join(POLICIES))
    return text


_OF_ALL = {
    "dry_run": Field("fraud_dry_run", "dry run", switch),
    "shortfall": Field("shortfall_policy", "shortfall", _shortfall),
}

_SETTINGS: LiteralString = (
    "select fraud_dry_run as dry_run, shortfall_policy as shortfall from billing.settings"
)
_PREVIEW: LiteralString = """
select warnings.stripe_early_fraud_warning_id, coalesce(warnings.email, warnings.account_id::text) as account,
    judged.action, judged.is_due, judged.reason, judged.stripe_subscription_id, judged.amount, judged.currency
from billing.admin_fraud_warnings as warnings
cross join lateral billing.judge_fraud_warning(warnings.stripe_early_fraud_warning_id) as judged
where warnings.status = 'open'
order by warnings.warned_at desc, warnings.stripe_early_fraud_warning_id desc
"""


class Change(NamedTuple):
    """One column of the policy, of one risk level or (None) of all, and its new value."""

    level: str | None
    column: str
    value: Any


@app.command()
def policy(
    change: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="Change it, such as highest.refund=on, all.alert=off, highest.refund_max=5000, "
            "highest.refund_age=14d, elevated.freeze=on, highest.cancel=on, dry_run=on, shortfall=allow_negative. "
            "May be repeated.",
            metavar="NAME=VALUE",
        ),
    ] = None,
    preview: Annotated[
        bool, typer.Option("--preview", help="Also show what it would do about each open warning.")
    ] = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Show the policy for early fraud warnings by the risk of their charge; change it with --set.

    Without --yes a change is only shown, with what it would do about open warnings.
    A change applies to later warnings. Decisions stay.
    """
    changes = [found for text in change or [] for found in _read(text)]
    with connect() as conn, conn.transaction(force_rollback=bool(changes) and not yes):
        for one in changes:
            _apply(conn, one)
        table = policies(conn)
        settings = row(conn, _SETTINGS, {})
        is_tried = preview or (bool(changes) and not yes)
        tried = rows(conn, _PREVIEW, {}) if is_tried else None
    is_dry = bool(changes) and not yes
    if as_json:
        told: dict[str, Any] = {"policy": [_readable(found) for found in table]} | settings
        told |= {} if tried is None else {"preview": tried}
        print_json({"dry_run": is_dry} | told)
    else:
        _print(table, settings, {(one.level, one.column) for one in changes})
        if tried is not None:
            _print_preview(tried)
    if is_dry:
        say_nothing_was_done()


def _read(text: str) -> Sequence[Change]:
    name, equals, value = text.partition("=")
    level, dot, short = name.strip().rpartition(".")
    fields = FIELDS if dot else _OF_ALL
    if not equals or short not in fields or (dot and level not in (*LEVELS, "all")):
        known = f"LEVEL.NAME ({', '.join(LEVELS)} or all; {', '.join(FIELDS)}), {', '.join(_OF_ALL)}"
        raise typer.BadParameter(f"{text!r} is none of {known}", param_hint="--set")
    field = fields[short]
    try:
        read = field.read(value.strip())
    except ValueError as error:
        raise typer.BadParameter(f"{name} is {error}, not {value!r}", param_hint="--set") from None
    if not dot:
        return [Change(None, field.column, read)]
    return [Change(one, field.column, read) for one in (LEVELS if level == "all" else (level,))]


def _apply(conn: Connection, change: Change) -> None:
    from psycopg import sql

    if change.level is None:
        query = sql.SQL("update billing.settings set {} = {}").format(
            sql.Identifier(change.column), change.value
        )
    else:
        query = sql.SQL(
            "update billing.fraud_policies set {} = {}, updated_at = now() where risk_level = {}"
        ).format(sql.Identifier(change.column), change.value, change.level)
    conn.execute(query)


def _readable(found: Row) -> dict[str, Any]:
    return found | {"refund_age_max": f"{found['refund_age_max'].days} days"}


def _print(table: Sequence[Row], settings: Row, changed: set[tuple[str | None, str]]) -> None:
    def cell(found: Row, column: str) -> str:
        text = value_text(found[column])
        return f"{text} *" if (found["risk_level"], column) in changed else text

    print_table(
        ("risk of the charge", *(field.heading for field in FIELDS.values())),
        (
            ("", (found["risk_level"], *(cell(found, field.column) for field in FIELDS.values())))
            for found in table
        ),
        wrapped=(),
        numbers=(FIELDS["refund_max"].heading,),
    )
    if settings["dry_run"]:
        out.print("\ndry run: warnings are recorded, and nothing is done about them", style="yellow")
    out.print(f"\nspent credits of refunded payments: {settings['shortfall']}", highlight=False)
    if changed:
        out.print("* is new", style="dim")


def _print_preview(tried: Sequence[Row]) -> None:
    out.print()
    if not tried:
        err.print("no open warnings to try it on", style="dim")
        return
    print_table(
        ("open warning", "account", "action", "due", "amount", "why"),
        (
            (
                "" if found["is_due"] else "dim",
                (
                    found["stripe_early_fraud_warning_id"],
                    found["account"],
                    found["action"],
                    "yes" if found["is_due"] else "no",
                    None if found["amount"] is None else money_text(found["amount"], found["currency"]),
                    found["reason"],
                ),
            )
            for found in tried
        ),
        wrapped=("why",),
        numbers=("amount",),
    )

"""`till operations …`: the price list of priced work, its versions, and what a call would cost."""

from typing import Annotated, Any, LiteralString

import typer
from psycopg.types.json import Jsonb

from cli.app import App
from cli.database import connect, row, rows
from cli.output import AsJson, CliError, print_fields, print_json, print_rows

app = App("operations", panel="Sell", help="The price list of priced work: operations and their rates.")

Operation = Annotated[str, typer.Argument(help="The operation's key, as in the plan file.")]

_LIST: LiteralString = """
select
    prices.operation, prices.name, prices.active, prices.charged_rates as rates, prices.minimum, prices.rounding,
    prices.on_excess, prices.valid_from, prices.valid_from > billing.current_time() as is_announced
from billing.operation_prices as prices
where prices.valid_from >= (
    select coalesce(max(latest.valid_from), '-infinity') from billing.operation_prices as latest
    where latest.operation = prices.operation and latest.valid_from <= billing.current_time()
)
order by prices.active desc, prices.operation, prices.valid_from
"""
_VERSIONS: LiteralString = """
select
    prices.id, prices.valid_from,
    lead(prices.valid_from) over (order by prices.valid_from) as valid_until,
    prices.name, prices.active, prices.rates, prices.markup, prices.charged_rates, prices.minimum, prices.rounding,
    prices.on_excess, (
        select count(*) from billing.work_charges where work_charges.operation_price_id = prices.id
    ) as charges
from billing.operation_prices as prices
where prices.operation = %(operation)s
order by prices.valid_from desc
"""
_ESTIMATE: LiteralString = """
select %(operation)s as operation, estimated.* from billing.estimate_work(%(operation)s, %(quantities)s) as estimated
"""


@app.command("list")
def list_operations(as_json: AsJson = False) -> None:
    """List what operations cost now, and announced prices."""
    with connect() as conn:
        found = rows(conn, _LIST, {})
    if not as_json:
        found = [{**each, "rates": _rates_text(each["rates"])} for each in found]
    print_rows(
        found,
        as_json=as_json,
        empty="no operations yet: push them with `till plans push`",
        numbers=("minimum",),
    )


@app.command()
def show(operation: Operation, as_json: AsJson = False) -> None:
    """Show every version of an operation's price, the latest first."""
    with connect() as conn:
        found = rows(conn, _VERSIONS, {"operation": operation})
    if not found:
        raise CliError(f"there is no operation {operation!r}: list them with `till operations list`")
    if not as_json:
        texts = ("rates", "charged_rates")
        found = [{**each, **{name: _rates_text(each[name]) for name in texts}} for each in found]
    print_rows(found, as_json=as_json, empty="", numbers=("minimum", "charges"))


@app.command()
def estimate(
    operation: Operation,
    quantities: Annotated[
        list[str] | None, typer.Argument(help="Quantities, such as input=1200 output=350.", metavar="NAME=N")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show what a call would cost at the price in force."""
    with connect() as conn:
        found = row(
            conn,
            _ESTIMATE,
            {"operation": operation, "quantities": Jsonb(dict(map(_quantity, quantities or [])))},
        )
    if as_json:
        print_json(found)
    else:
        print_fields(found)


def _quantity(text: str) -> tuple[str, float]:
    name, _, number = text.partition("=")
    try:
        return name, int(number) if number.isdecimal() else float(number)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no quantity: write it as input=1200") from None


def _rates_text(rates: dict[str, Any]) -> str:
    return ", ".join(
        f"{name} {rate['credits']}"
        + (f" per {rate['per']:,} {rate['unit']}" if rate["per"] != 1 else "")
        + (f" per {rate['unit']}" if rate["per"] == 1 and rate["unit"] != name else "")
        for name, rate in rates.items()
    )

"""`till explain`: why a customer has the credits that they have."""

from dataclasses import asdict
from typing import Annotated

import typer

from cli.app import App
from cli.database import Row, connect
from cli.explain import Case, Payment
from cli.explain import explain as cases_of
from cli.findings import findings_json, print_findings
from cli.output import AsJson, out, print_fields, print_json
from cli.tables import print_table
from worker.money import money_text

app = App(panel="Operate")


@app.command()
def explain(
    search: Annotated[
        str,
        typer.Argument(
            help="An e-mail address, a name, an account or user id, or an id of Stripe's: cus_…, in_…, pi_…, evt_….",
            metavar="CUSTOMER",
        ),
    ],
    as_json: AsJson = False,
) -> None:
    """Explain a customer's credits: paid, granted, missing, why."""
    with connect() as conn:
        cases = cases_of(conn, search)
    if as_json:
        print_json([_json(case) for case in cases])
        return
    for case in cases:
        _print(case)


def _json(case: Case) -> dict[str, object]:
    return {
        "account": case.account,
        "customer": case.customer,
        "payments": [asdict(payment) for payment in case.payments],
        "timeline": case.timeline,
        "findings": findings_json(case.findings),
    }


def _print(case: Case) -> None:
    if case.account is not None:
        # A balance of nothing is an answer; holds and debts of nothing are not.
        shown = {name: value for name, value in case.account.items() if value or name == "balance"}
        shown["stripe_customer_ids"] = ", ".join(shown.get("stripe_customer_ids") or []) or None
        print_fields(shown)
        out.print()
        if case.payments:
            print_table(
                ("paid", "what", "amount", "worth", "in the ledger", "left", "state"),
                [("", cells) for payment in case.payments for cells in _payment_cells(payment)],
                wrapped=("what",),
                numbers=("amount", "worth", "in the ledger", "left"),
            )
            out.print()
        print_table(
            ("at", "what", "amount", "credits", "id", "detail"),
            [(_style(each), _cells(each)) for each in case.timeline],
            wrapped=("detail",),
            numbers=("amount", "credits"),
        )
    if not case.findings:
        out.print("\n[green]Nothing is missing:[/] every payment was turned into credits.", highlight=False)
        return
    out.print()
    print_findings(case.findings)


def _payment_cells(payment: Payment) -> list[list[str | None]]:
    """A line for what was paid, then one for each grant of credits that it is worth."""
    amount = None if payment.amount is None else money_text(payment.amount, payment.currency or "")
    bought = ", ".join(_line_text(each) for each in payment.lines)
    what = f"{payment.stripe_id or payment.what} {payment.status}" + (f" ({bought})" if bought else "")
    return [
        [f"{payment.at:%Y-%m-%d}", what, amount, None, None, None, None],
        *(
            [
                None,
                f"  {each['what']} from {each['moment']:%Y-%m-%d}",
                None,
                f"{each['worth']:,}",
                f"{each['posted']:,}",
                f"{each['remaining']:,}",
                each["state"].replace("_", " ")
                + (f" ({each['waits_for']})" if each["state"] == "waiting" else ""),
            ]
            for each in payment.credits
        ),
    ]


def _line_text(line: Row) -> str:
    times = f" × {line['quantity']}" if (line["quantity"] or 1) != 1 else ""
    return f"{line['name'] or 'item'}{times}"


def _cells(each: Row) -> list[str | None]:
    amount = None if each["amount"] is None else money_text(int(each["amount"]), each["currency"])
    credits = None if each["credits"] is None else f"{each['credits']:+,}"
    return [
        f"{each['at']:%Y-%m-%d %H:%M}" if each["at"] else "",
        each["what"],
        amount,
        credits,
        each["id"],
        each["detail"],
    ]


def _style(each: Row) -> str:
    return "dim" if each["what"] in ("credits: to come", "credits: expiry") else ""

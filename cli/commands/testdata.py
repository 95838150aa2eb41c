"""`till testdata …`: Stripe's test cards and bank accounts by what comes of them, and ids → pages of the Dashboard.

Sources: https://docs.stripe.com/testing, https://docs.stripe.com/radar/testing,
https://docs.stripe.com/payments/ach-direct-debit, https://docs.stripe.com/payments/sepa-debit.
Tests pay with every card that the local Stripe plays, and check the digits of all of them.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import typer

from cli.app import App
from cli.database import connect, row, setting
from cli.output import AsJson, CliError, out, print_json
from cli.stripe_pages import dashboard_url
from cli.tables import print_table
from worker.settings import is_live

app = App(
    "testdata",
    panel="Local stack",
    help="Stripe's test cards, bank accounts and Dashboard URLs.",
)


@dataclass(frozen=True, slots=True)
class Card:
    """A test card. `code` is the decline code, or the reason of the dispute."""

    outcome: str
    code: str | None
    number: str
    payment_method: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Bank:
    """A test bank account; `payment_method` where Stripe has a name for it."""

    scheme: str
    outcome: str
    account_number: str
    routing_number: str | None
    payment_method: str | None
    meaning: str


def _declined(code: str, number: str, name: str, meaning: str) -> Card:
    return Card("declined", code, number, f"pm_card_{name}", meaning)


CARDS = (
    Card("success", None, "4242424242424242", "pm_card_visa", "Visa"),
    Card("success", None, "4000056655665556", "pm_card_visa_debit", "Visa, debit"),
    Card("success", None, "5555555555554444", "pm_card_mastercard", "Mastercard"),
    Card("success", None, "378282246310005", "pm_card_amex", "American Express"),
    _declined("generic_decline", "4000000000000002", "visa_chargeDeclined", "the bank says no and not why"),
    _declined(
        "insufficient_funds", "4000000000009995", "visa_chargeDeclinedInsufficientFunds", "not enough money"
    ),
    _declined("lost_card", "4000000000009987", "visa_chargeDeclinedLostCard", "reported as lost"),
    _declined("stolen_card", "4000000000009979", "visa_chargeDeclinedStolenCard", "reported as stolen"),
    _declined("expired_card", "4000000000000069", "chargeDeclinedExpiredCard", "expired"),
    _declined("incorrect_cvc", "4000000000000127", "chargeDeclinedIncorrectCvc", "wrong security code"),
    _declined("processing_error", "4000000000000119", "chargeDeclinedProcessingError", "error at the bank"),
    _declined(
        "card_velocity_exceeded", "4000000000006975", "visa_chargeDeclinedVelocityLimitExceeded", "used too often"
    ),
    Card(
        "declined later", "generic_decline", "4000000000000341", "pm_card_chargeCustomerFail",
        "can be saved, then payments fail: a renewal that fails",
    ),
    Card(
        "3D Secure", None, "4000002500003155", "pm_card_authenticationRequiredOnSetup",
        "authentication, unless it was set up for later payments",
    ),
    Card(
        "3D Secure", "authentication_required", "4000002760003184", "pm_card_authenticationRequired",
        "authentication for every payment: a renewal needs the customer",
    ),
    Card(
        "3D Secure", None, "4000003800000446", "pm_card_authenticationRequiredSetupForOffSession",
        "set up: authentication only when the customer is there",
    ),
    Card("3D Secure", None, "4000000000003220", "pm_card_threeDSecure2Required", "3D Secure 2 or no payment"),
    Card(
        "blocked", "fraudulent", "4100000000000019", "pm_card_chargeDeclinedFraudulent",
        "highest risk, blocked by Radar whatever its rules",
    ),
    Card(
        "risk", "highest", "4000000000004954", "pm_card_riskLevelHighest",
        "highest risk, blocked unless that rule is off",
    ),
    Card("risk", "elevated", "4000000000009235", "pm_card_riskLevelElevated", "elevated risk, may be reviewed"),
    Card(
        "fraud warning", None, "4000000000005423", "pm_card_createIssuerFraudRecord",
        "paid, then an early fraud warning",
    ),
    Card("dispute", "fraudulent", "4000000000000259", "pm_card_createDispute", "paid, then disputed as fraud"),
    Card(
        "dispute", "product_not_received", "4000000000002685", "pm_card_createDisputeProductNotReceived",
        "paid, then disputed as not received",
    ),
    Card(
        "dispute", "inquiry", "4000000000001976", "pm_card_createDisputeInquiry",
        "paid, then an inquiry: no money moves",
    ),
    Card(
        "dispute", "multiple", "4000000404000079", "pm_card_createMultipleDisputes", "paid, then disputed several times"
    ),
    Card("refund", "pending", "4000000000007726", "pm_card_pendingRefund", "refunds are pending, then succeed"),
    Card("refund", "failed", "4000000000005126", "pm_card_refundFail", "refunds succeed, then fail"),
)  # fmt: skip


def _ach(outcome: str, number: str, name: str, meaning: str) -> Bank:
    return Bank("ach", outcome, number, "110000000", f"pm_usBankAccount_{name}", meaning)


def _sepa(outcome: str, iban: str, meaning: str) -> Bank:
    return Bank("sepa", outcome, iban, None, None, meaning)


BANKS = (
    _ach("success", "000123456789", "success", "succeeds"),
    _ach("failed", "000111111113", "accountClosed", "the account is closed"),
    _ach("failed", "000111111116", "noAccount", "there is no such account"),
    _ach("failed", "000222222227", "insufficientFunds", "not enough money"),
    _ach("failed", "000333333335", "debitNotAuthorized", "the holder did not authorize it"),
    _ach("failed", "000444444440", "invalidCurrency", "the account is of another currency"),
    _ach("failed", "000666666661", "failMicrodeposits", "microdeposits cannot be sent"),
    _ach("dispute", "000555555559", "dispute", "succeeds, then is disputed"),
    _ach("processing", "000000000009", "processing", "stays in processing permanently"),
    _sepa("success", "AT611904300234573201", "succeeds"),
    _sepa("success", "AT321904300235473204", "succeeds after three minutes"),
    _sepa("failed", "AT861904300235473202", "fails"),
    _sepa("failed", "AT051904300235473205", "fails after three minutes"),
    _sepa("dispute", "AT591904300235473203", "succeeds, then is disputed at once"),
)


@app.command()
def cards(as_json: AsJson = False) -> None:
    """List test cards by outcome. Any future date and any CVC will do; the API takes the names."""
    _print([asdict(card) for card in CARDS], as_json=as_json)


@app.command()
def banks(as_json: AsJson = False) -> None:
    """List test bank accounts (ACH, SEPA) by outcome.

    ACH accounts are verified by the microdeposits 32 and 45, or by the descriptor code SM11AA.
    """
    _print([asdict(bank) for bank in BANKS], as_json=as_json)


@app.command()
def urls(
    stripe_ids: Annotated[
        list[str], typer.Argument(help="Ids of any kind: cus_…, sub_…, in_…, pi_…, evt_… …")
    ],
    live: Annotated[
        bool | None,
        typer.Option(
            "--live/--test",
            help="The mode. If left out: the database's, else that of STRIPE_API_KEY.",
        ),
    ] = None,
    account: Annotated[
        str | None,
        typer.Option(help="The account's or sandbox's id, for those who have several.", metavar="acct_…"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Print the URL of each object in Stripe's Dashboard."""
    for stripe_id in stripe_ids:
        if "_" not in stripe_id.strip("_"):
            raise typer.BadParameter(f"{stripe_id!r} is no id of Stripe's", param_hint="STRIPE_IDS")
    if account is not None and not account.startswith("acct_"):
        raise typer.BadParameter("an account's id starts with acct_", param_hint="--account")
    modes = [_mode_of(stripe_id) for stripe_id in stripe_ids]
    default = _livemode(live) if None in modes else False
    found = [
        {
            "stripe_id": stripe_id,
            "livemode": default if mode is None else mode,
            "url": dashboard_url(stripe_id, livemode=default if mode is None else mode, account=account),
        }
        for stripe_id, mode in zip(stripe_ids, modes, strict=True)
    ]
    if as_json:
        print_json(found)
        return
    for page in found:
        out.print(page["url"], markup=False, highlight=False)


def _print(records: Sequence[Mapping[str, str | None]], *, as_json: bool) -> None:
    if as_json:
        print_json(records)
    else:
        columns = [name.replace("_", " ") for name in records[0]]
        print_table(columns, (("", list(record.values())) for record in records), wrapped=("meaning",))


def _mode_of(stripe_id: str) -> bool | None:
    """What an id itself says: those of Checkout Sessions and of the portal's sessions do."""
    if stripe_id.startswith("cs_"):
        return (
            True if stripe_id.startswith("cs_live_") else False if stripe_id.startswith("cs_test_") else None
        )
    return None


def _livemode(told: bool | None) -> bool:
    if told is not None:
        return told
    try:
        with connect() as conn:
            found: dict[str, Any] = row(conn, "select billing.is_livemode() as livemode", {})
        return found["livemode"]
    except CliError:
        if os.environ.get("POSTGRES_URL"):
            raise
    try:
        mode = is_live(setting("STRIPE_API_KEY"))
    except CliError:
        mode = None
    if mode is None:
        raise CliError(
            "test mode or live mode? Say --test or --live, or export POSTGRES_URL or STRIPE_API_KEY"
        )
    return mode

"""SEPA and US bank debits: processing for days, then paid or refused by the bank; a payer may take one back later.

A debit of a customer on a test clock takes its days of that clock, any other the time of `debit_seconds`.
"""

from stripe_local.errors import StripeError, invalid, malformed
from stripe_local.parameters import Params
from stripe_local.resources import balance, collection, payments
from stripe_local.resources.cards import BANKS, TestCard
from stripe_local.resources.payment_methods import MAKERS, account_of
from stripe_local.store import Object
from stripe_local.values import inside
from stripe_local.world import World

DAYS = {"sepa_debit": 5, "us_bank_account": 4}
CURRENCIES = {"sepa_debit": "eur", "us_bank_account": "usd"}
MESSAGES = {
    "account_closed": "The customer's bank account has been closed.",
    "bank_account_restricted": "The customer's bank account cannot be debited.",
    "debit_not_authorized": "The customer has notified their bank that this payment was unauthorized.",
    "insufficient_funds": "The customer's account has insufficient funds to cover this payment.",
    "no_account": "The bank account could not be located.",
}


def check_currency(bank: TestCard, currency: str) -> None:
    """Each scheme has one currency."""
    wanted = CURRENCIES.get(bank.kind, currency)
    if currency != wanted:
        raise invalid(
            f"The currency provided ({currency}) is invalid for the payment method type `{bank.kind}`. Payments with "
            f"`{bank.kind}` support the following currencies: {wanted}.",
            "currency",
        )


def begin(world: World, intent: Object, charge: Object, bank: TestCard) -> None:
    """The bank was asked: `processing`, until it answers."""
    intent |= {"status": "processing", "latest_charge": charge["id"], "_was_processing": True}
    world.emit("charge.pending", charge)
    world.emit("payment_intent.processing", intent)
    if bank.after == "stays":
        return
    clock = world.clock_of(intent.get("customer"))
    waits = DAYS[bank.kind] * 86_400 if clock else world.settings.debit_seconds
    world.schedule(clock, int(world.now(clock) + waits), lambda: answer(world, intent, charge, bank.decline))


def answer(world: World, intent: Object, charge: Object, refused: tuple[str, str] | None) -> None:
    """The bank's answer, and what follows for the invoice and the session. `refused`: (code, code of the bank)."""
    if intent["status"] != "processing" or intent.get("latest_charge") != charge["id"]:
        return
    session = world.store.find("checkout.session", intent.get("_checkout_session"))
    if refused is None:
        charge |= {"status": "succeeded", "paid": True}
        charge["balance_transaction"] = balance.of_charge(world, charge, charge["amount"])
        intent |= {"status": "succeeded", "amount_received": intent["amount"]}
        world.emit("charge.succeeded", charge)
        world.emit("payment_intent.succeeded", intent)
    else:
        _refuse(world, intent, charge, refused[0])
    collection.settle(world, intent)
    if session is not None:
        session["payment_status"] = "paid" if refused is None else "unpaid"
        word = "succeeded" if refused is None else "failed"
        world.emit(f"checkout.session.async_payment_{word}", session)


def _refuse(world: World, intent: Object, charge: Object, code: str) -> None:
    message = MESSAGES.get(code, "The bank refused the payment.")
    charge |= {
        "status": "failed",
        "paid": False,
        "captured": False,
        "amount_captured": 0,
        "failure_code": code,
        "failure_message": message,
    }
    method: str | None = intent.pop("payment_method", None)
    intent |= {
        "status": "requires_payment_method",
        "last_payment_error": {
            "charge": charge["id"],
            "code": code,
            "doc_url": f"https://stripe.com/docs/error-codes/{code.replace('_', '-')}",
            "message": message,
            "type": "invalid_request_error",
            "payment_method": world.store.find("payment_method", method),
        },
    }
    world.emit("charge.failed", charge)
    world.emit("payment_intent.payment_failed", intent)


def settle(world: World, intent: Object, *, succeeds: bool) -> Object:
    """The bank answers now."""
    charge = world.store.find("charge", intent.get("latest_charge"))
    if intent["status"] != "processing" or charge is None:
        raise invalid("This payment waits for no bank.", code="payment_intent_unexpected_state")
    answer(world, intent, charge, None if succeeds else ("insufficient_funds", "insufficient_funds"))
    return intent


def make(world: World, kind: str, params: Params) -> Object:
    """A payment method from an IBAN, or from an account's number."""
    details: Params = inside(params, kind)
    name = "iban" if kind == "sepa_debit" else "account_number"
    number = str(details.get(name, "")).replace(" ", "").upper()
    if not number:
        raise malformed(f"Missing required param: {kind}[{name}].", f"{kind}[{name}]", "parameter_missing")
    billing = inside(params, "billing_details")
    if not billing.get("name") or (kind == "sepa_debit" and not billing.get("email")):
        missing = "email" if billing.get("name") else "name"
        raise malformed(
            f"Missing required param: billing_details[{missing}].",
            f"billing_details[{missing}]",
            "parameter_missing",
        )
    bank = BANKS.get(number)
    if bank is None or bank.kind != kind:
        raise StripeError(
            400,
            "Only Stripe's test account numbers are taken.",
            param=f"{kind}[{name}]",
            code="account_number_invalid",
        )
    return account_of(world, bank, params)


payments.DEBIT.append(begin)
for _kind in DAYS:
    MAKERS[_kind] = make

"""Stripe's test cards and bank accounts: number and name (`pm_card_…`, `tok_…`) → what a payment with it comes to."""

from dataclasses import dataclass


@dataclass(frozen=True)
class TestCard:
    """`decline` is (code, decline_code); `after` is what happens once the payment succeeded."""

    number: str
    names: tuple[str, ...]
    brand: str = "visa"
    funding: str = "credit"
    country: str = "US"
    decline: tuple[str, str] | None = None
    # It can be saved to a customer, and only payments fail.
    attaches: bool = True
    risk_level: str = "normal"
    # always | off_session (until set up) | never
    authentication: str = "never"
    # early_fraud_warning | dispute:<reason> | inquiry | review
    after: str = ""
    # succeeded | pending | failed
    refund: str = "succeeded"
    # card | sepa_debit | us_bank_account
    kind: str = "card"

    @property
    def last4(self) -> str:
        return self.number[-4:]


DECLINED = "Your card was declined."
MESSAGES = {
    "generic_decline": DECLINED,
    "insufficient_funds": "Your card has insufficient funds.",
    "lost_card": DECLINED,
    "stolen_card": DECLINED,
    "fraudulent": DECLINED,
    "card_velocity_exceeded": "Your card was declined for making repeated attempts too frequently or exceeding its "
    "amount limit.",
    "expired_card": "Your card has expired.",
    "incorrect_cvc": "Your card's security code is incorrect.",
    "processing_error": "An error occurred while processing your card. Try again in a little bit.",
    "authentication_required": "Your card was declined. This transaction requires authentication.",
}


def _declining(number: str, name: str, code: str, decline_code: str) -> TestCard:
    names = (f"card_visa_{name}", f"card_{name}", name)
    return TestCard(number, names, decline=(code, decline_code), attaches=False)


CARDS = (
    TestCard("4242424242424242", ("card_visa", "visa", "card_us", "us")),
    TestCard("4000056655665556", ("card_visa_debit", "visa_debit"), funding="debit"),
    TestCard("5555555555554444", ("card_mastercard", "mastercard"), brand="mastercard"),
    TestCard(
        "5200828282828210", ("card_mastercard_debit", "mastercard_debit"), brand="mastercard", funding="debit"
    ),
    TestCard("378282246310005", ("card_amex", "amex"), brand="amex"),
    TestCard("6011111111111117", ("card_discover", "discover"), brand="discover"),
    TestCard("3056930009020004", ("card_diners", "diners"), brand="diners"),
    TestCard("3566002020360505", ("card_jcb", "jcb"), brand="jcb"),
    TestCard("6200000000000005", ("card_unionpay", "unionpay"), brand="unionpay"),
    TestCard("4000002760000016", ("card_de", "de"), country="DE"),
    TestCard("4000008260000000", ("card_gb", "gb"), country="GB"),
    TestCard("4000000000000077", ("card_bypassPending", "bypassPending")),
    _declining("4000000000000002", "chargeDeclined", "card_declined", "generic_decline"),
    _declining("4000000000009995", "chargeDeclinedInsufficientFunds", "card_declined", "insufficient_funds"),
    _declining("4000000000009987", "chargeDeclinedLostCard", "card_declined", "lost_card"),
    _declining("4000000000009979", "chargeDeclinedStolenCard", "card_declined", "stolen_card"),
    _declining(
        "4000000000006975", "chargeDeclinedVelocityLimitExceeded", "card_declined", "card_velocity_exceeded"
    ),
    _declining("4000000000000069", "chargeDeclinedExpiredCard", "expired_card", "expired_card"),
    _declining("4000000000000127", "chargeDeclinedIncorrectCvc", "incorrect_cvc", "incorrect_cvc"),
    _declining("4000000000000119", "chargeDeclinedProcessingError", "processing_error", "processing_error"),
    TestCard(
        "4100000000000019",
        ("card_chargeDeclinedFraudulent", "card_visa_chargeDeclinedFraudulent", "chargeDeclinedFraudulent"),
        decline=("card_declined", "fraudulent"),
        attaches=False,
        risk_level="highest",
    ),
    TestCard(
        "4000000000000341",
        ("card_chargeCustomerFail", "chargeCustomerFail"),
        decline=("card_declined", "generic_decline"),
    ),
    TestCard("4000000000004954", ("card_riskLevelHighest", "riskLevelHighest"), risk_level="highest"),
    TestCard(
        "4000000000009235",
        ("card_riskLevelElevated", "riskLevelElevated"),
        risk_level="elevated",
        after="review",
    ),
    TestCard(
        "4000000000005423",
        ("card_createIssuerFraudRecord", "createIssuerFraudRecord"),
        after="early_fraud_warning",
    ),
    TestCard("4000000000000259", ("card_createDispute", "createDispute"), after="dispute:fraudulent"),
    TestCard(
        "4000000000002685",
        ("card_createDisputeProductNotReceived", "createDisputeProductNotReceived"),
        after="dispute:product_not_received",
    ),
    TestCard("4000000000001976", ("card_createDisputeInquiry", "createDisputeInquiry"), after="inquiry"),
    TestCard(
        "4000002500003155",
        ("card_authenticationRequiredOnSetup", "authenticationRequiredOnSetup"),
        authentication="on_setup",
    ),
    TestCard(
        "4000002760003184", ("card_authenticationRequired", "authenticationRequired"), authentication="always"
    ),
    TestCard(
        "4000003800000446",
        ("card_authenticationRequiredSetupForOffSession", "authenticationRequiredSetupForOffSession"),
        authentication="on_session",
    ),
    TestCard(
        "4000000000003220", ("card_threeDSecure2Required", "threeDSecure2Required"), authentication="always"
    ),
    TestCard("4000000000007726", ("card_pendingRefund", "pendingRefund"), refund="pending"),
    TestCard("4000000000005126", ("card_refundFail", "refundFail"), refund="failed"),
)


def _iban(number: str, refused: str | None = None, after: str = "") -> TestCard:
    decline = (refused, refused) if refused else None
    return TestCard(number, (), country=number[:2], decline=decline, after=after, kind="sepa_debit")


def _account(number: str, refused: str | None = None, after: str = "", name: str = "") -> TestCard:
    decline = (refused, refused) if refused else None
    names = (f"usBankAccount_{name}",) if name else ()
    return TestCard(number, names, decline=decline, after=after, kind="us_bank_account")


# The bank accounts of Stripe's documentation. With a decline it is the bank that refuses, days later.
BANKS = {
    bank.number: bank
    for bank in (
        _iban("DE89370400440532013000"),
        _iban("DE62370400440532013001", "insufficient_funds"),
        _iban("DE35370400440532013002", after="taken back"),
        _iban("DE08370400440532013003"),
        _iban("DE78370400440532013004", "insufficient_funds"),
        _iban("AT611904300234573201"),
        _iban("AT321904300235473204"),
        _iban("AT861904300235473202", "insufficient_funds"),
        _iban("AT591904300235473203", after="taken back"),
        _iban("FR1420041010050500013M02606"),
        _iban("IT40S0542811101000000123456"),
        _iban("IT60X0542811101000000123456", "insufficient_funds"),
        _account("000123456789", name="success"),
        _account("000111111113", "account_closed", name="accountClosed"),
        _account("000111111116", "no_account", name="noAccount"),
        _account("000222222227", "insufficient_funds", name="insufficientFunds"),
        _account("000333333335", "debit_not_authorized", name="debitNotAuthorized"),
        _account("000555555559", after="taken back", name="dispute"),
        _account("000000000009", after="stays", name="processing"),
    )
}
BY_NAME = {f"{prefix}_{name}": card for card in CARDS for name in card.names for prefix in ("pm", "tok")} | {
    f"pm_{name}": bank for bank in BANKS.values() for name in bank.names
}
BY_NUMBER = {card.number: card for card in CARDS} | BANKS

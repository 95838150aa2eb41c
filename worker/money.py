"""Amounts in minor units → text, and whole units."""

from decimal import Decimal

# Currencies whose minor unit is not a hundredth: https://docs.stripe.com/currencies
_WITHOUT_MINOR = {
    "bif", "clp", "djf", "gnf", "jpy", "kmf", "krw", "mga", "pyg", "rwf", "vnd", "vuv", "xaf", "xof", "xpf"
}  # fmt: skip
_WITH_THOUSANDTHS = {"bhd", "jod", "kwd", "omr", "tnd"}


def money_text(amount: int, currency: str) -> str:
    """1900 usd → 19.00 usd."""
    digits = _digits(currency)
    whole, rest = divmod(abs(amount), 10**digits)
    return f"{'-' if amount < 0 else ''}{whole:,}{f'.{rest:0{digits}}' if digits else ''} {currency}"


def whole_unit_text(currency: str) -> str:
    """usd → 1.00 usd."""
    return money_text(10 ** _digits(currency), currency)


def whole_units(amount: int, currency: str) -> Decimal:
    """1900 usd → 19.00."""
    return Decimal(amount).scaleb(-_digits(currency))


def _digits(currency: str) -> int:
    return 0 if currency in _WITHOUT_MINOR else 3 if currency in _WITH_THOUSANDTHS else 2

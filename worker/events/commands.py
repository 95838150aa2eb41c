"""The commands that decide may return: one frozen dataclass for each SQL function.

A command's parameters are its fields; a Stripe object that it carries is replaced by the object's fields. `sql_of`
and `parameters_of` turn it into its call. A test compares every class with pg_proc.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from datetime import datetime
from functools import cache
from operator import attrgetter
from typing import Any, LiteralString, cast, get_type_hints

from psycopg.types.json import Jsonb

from worker.events.objects import (
    Charge,
    CheckoutSession,
    CreditNote,
    Customer,
    Dispute,
    EarlyFraudWarning,
    FrozenClock,
    Invoice,
    InvoicePayment,
    PaymentIntent,
    PaymentLink,
    Price,
    Product,
    Refund,
    Review,
    Subscription,
)


@dataclass(frozen=True, slots=True)
class SyncCustomer:
    customer: Customer
    as_of: datetime


@dataclass(frozen=True, slots=True)
class SyncProduct:
    product: Product
    as_of: datetime


@dataclass(frozen=True, slots=True)
class SyncPrice:
    price: Price
    as_of: datetime


@dataclass(frozen=True, slots=True)
class DeleteProduct:
    stripe_product_id: str
    as_of: datetime


@dataclass(frozen=True, slots=True)
class DeletePrice:
    stripe_price_id: str
    as_of: datetime


@dataclass(frozen=True, slots=True)
class SyncSubscription:
    subscription: Subscription
    as_of: datetime
    is_fetched: bool


@dataclass(frozen=True, slots=True)
class SyncTestClock:
    clock: FrozenClock


@dataclass(frozen=True, slots=True)
class SyncInvoice:
    invoice: Invoice
    as_of: datetime


@dataclass(frozen=True, slots=True)
class SyncCheckoutSession:
    session: CheckoutSession
    as_of: datetime


@dataclass(frozen=True, slots=True)
class SyncPayment:
    charge: Charge
    as_of: datetime


@dataclass(frozen=True, slots=True)
class SyncPaymentIntent:
    intent: PaymentIntent
    as_of: datetime


@dataclass(frozen=True, slots=True)
class SyncPaymentLink:
    link: PaymentLink


@dataclass(frozen=True, slots=True)
class SyncInvoicePayment:
    payment: InvoicePayment


@dataclass(frozen=True, slots=True)
class SyncRefund:
    refund: Refund
    as_of: datetime


@dataclass(frozen=True, slots=True)
class SyncDispute:
    dispute: Dispute
    as_of: datetime


@dataclass(frozen=True, slots=True)
class SyncCreditNote:
    note: CreditNote
    as_of: datetime


@dataclass(frozen=True, slots=True)
class SyncReview:
    review: Review
    as_of: datetime


@dataclass(frozen=True, slots=True)
class RecordCard:
    stripe_customer_id: str
    livemode: bool
    card_fingerprint: str
    seen_at: datetime


@dataclass(frozen=True, slots=True)
class RecordSavedCard:
    stripe_payment_method_id: str
    stripe_customer_id: str | None
    livemode: bool
    card_brand: str | None
    card_last4: str | None
    card_exp_month: int
    card_exp_year: int
    as_of: datetime


@dataclass(frozen=True, slots=True)
class RecordFraudWarning:
    warning: EarlyFraudWarning
    stripe_customer_id: str | None
    risk_level: str | None
    risk_score: int | None
    as_of: datetime


Command = (
    SyncCustomer
    | SyncProduct
    | SyncPrice
    | DeleteProduct
    | DeletePrice
    | SyncSubscription
    | SyncTestClock
    | SyncInvoice
    | SyncCheckoutSession
    | SyncPayment
    | SyncPaymentIntent
    | SyncPaymentLink
    | SyncInvoicePayment
    | SyncRefund
    | SyncDispute
    | SyncCreditNote
    | SyncReview
    | RecordCard
    | RecordSavedCard
    | RecordFraudWarning
)


_KINDS: dict[type[Command], str] = {
    SyncCustomer: "customer",
    SyncProduct: "product",
    SyncPrice: "price",
    SyncSubscription: "subscription",
    SyncInvoice: "invoice",
    SyncCheckoutSession: "checkout.session",
    SyncPayment: "charge",
    SyncPaymentIntent: "payment_intent",
    SyncInvoicePayment: "invoice_payment",
    SyncRefund: "refund",
    SyncCreditNote: "credit_note",
    SyncDispute: "dispute",
}


def function_of(kind: type[Command]) -> str:
    """SyncPrice → sync_price."""
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in kind.__name__).lstrip(
        "_"
    )


@cache
def parameter_names(kind: type[Command]) -> tuple[str, ...]:
    """SyncPrice → (stripe_price_id, stripe_product_id, …, as_of)."""
    return tuple(path.rpartition(".")[2] for path in _paths(kind))


@cache
def sql_of(kind: type[Command]) -> LiteralString:
    """SyncPrice → select billing.sync_price(stripe_price_id => %s, …)."""
    arguments = ", ".join(f"{name} => %s" for name in parameter_names(kind))
    # Contains only our own class and field names, so it is as safe as literal source text.
    return cast("LiteralString", f"select billing.{function_of(kind)}({arguments})")


def parameters_of(command: Command) -> list[Any]:
    """A command's parameters as psycopg takes them; metadata and lists of objects as jsonb, ids as an array."""
    kind = type(command)
    values = _reader(kind)(command)
    return [
        list(value) if path in _ids(kind) else _parameter(value)
        for path, value in zip(_paths(kind), values, strict=True)
    ]


def stripe_id_of(command: Command) -> str:
    """The Stripe id of a command's object: its first parameter."""
    return _reader(type(command))(command)[0]


def kind_of(command: Command) -> str:
    """Stripe's name of the kind of a command's object; empty if the object is never read again."""
    return _KINDS.get(type(command), "")


def stripe_customer_id_of(command: Command) -> str | None:
    """The customer of a command, if any: its account is locked before the command is applied."""
    names = parameter_names(type(command))
    if "stripe_customer_id" not in names:
        return None
    return _reader(type(command))(command)[names.index("stripe_customer_id")]


@cache
def _paths(kind: type[Any]) -> tuple[str, ...]:
    hints = get_type_hints(kind)
    return tuple(
        path
        for field in fields(kind)
        for path in (
            [f"{field.name}.{inner}" for inner in _paths(hints[field.name])]
            if is_dataclass(hints[field.name])
            else [field.name]
        )
    )


@cache
def _ids(kind: type[Any]) -> frozenset[str]:
    return frozenset(
        f"{field.name}.{name}"
        for field in fields(kind)
        if is_dataclass(hint := get_type_hints(kind)[field.name])
        for name, inner in get_type_hints(hint).items()
        if inner == tuple[str, ...]
    )


@cache
def _reader(kind: type[Any]) -> Callable[[Any], tuple[Any, ...]]:
    return attrgetter(*_paths(kind))


def _parameter(value: Any) -> Any:
    match value:
        case dict():
            return Jsonb(value)
        case tuple():
            return Jsonb([_row(member) for member in cast("tuple[Any, ...]", value)], _dumps)
        case int() if not isinstance(value, bool):
            # Without a type, so that Postgres reads it as the parameter's: a number that is too large is then an error
            # of the event (22003). With its own type it would be a function that does not exist.
            return str(value)
        case _:
            return value


def _row(member: Any) -> dict[str, Any]:
    kind = cast("type[Any]", type(member))
    return dict(zip(_paths(kind), _reader(kind)(member), strict=True))


def _dumps(rows: Any) -> str:
    return json.dumps(rows, default=datetime.isoformat)

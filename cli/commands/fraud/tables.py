"""Warnings, disputes and reviews → tables for people."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from cli.database import Row
from cli.output import time_text
from cli.tables import print_table
from worker.money import money_text


def for_people(row: Row) -> dict[str, Any]:
    """Amounts with their currency."""
    shown = dict(row)
    if "currency" in shown:
        currency = shown.pop("currency")
        amount = shown["amount"]
        shown["amount"] = None if amount is None or currency is None else money_text(amount, currency)
    return shown


def is_told(name: str, listing: Sequence[Row]) -> bool:
    """Whether a column is worth showing: some row has it."""
    return name != "currency" and any(row[name] is not None for row in listing)


def print_warnings(found: Sequence[Row]) -> None:
    """Early fraud warnings; those that are dealt with are dim."""
    print_table(
        ("warning", "warned at", "status", "account", "amount", "risk", "type", "what was done"),
        (
            (
                "" if row["status"] == "open" else "dim",
                (
                    row["stripe_early_fraud_warning_id"],
                    _cell(row["warned_at"]),
                    row["status"],
                    _account(row),
                    for_people(row)["amount"],
                    " ".join(
                        str(part) for part in (row["risk_level"] or "unknown", row["risk_score"]) if part
                    ),
                    row["fraud_type"],
                    ", ".join(row["actions"]),
                ),
            )
            for row in found
        ),
        wrapped=("what was done",),
        numbers=("amount",),
    )


def print_others(found: Sequence[Row], names: Sequence[str]) -> None:
    """Disputes or reviews: these columns, whose they are, and the amount."""
    print_table(
        (
            *(name.removeprefix("stripe_").removesuffix("_id").replace("_", " ") for name in names),
            "account",
            "amount",
        ),
        (
            (
                "",
                (
                    *(_cell(row[name]) for name in names),
                    _cell(row["email"] or row["account_id"]),
                    for_people(row)["amount"],
                ),
            )
            for row in found
        ),
        wrapped=("reason",),
        numbers=("amount",),
    )


def _cell(value: Any) -> str:
    return time_text(value) if isinstance(value, datetime) else str(value or "")


def _account(row: Row) -> str:
    name = row["email"] or row["account_id"] or "nobody linked"
    return f"{name} (frozen)" if row["is_frozen"] else str(name)

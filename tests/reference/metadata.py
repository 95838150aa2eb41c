"""Metadata keys of prices and products that the schemas read → docs/reference/metadata.md."""

import re
from collections.abc import Iterator
from typing import NamedTuple

from cli.plans.file import PACK_METADATA, PLAN_METADATA
from tests.reference.catalogue import SCHEMAS, Connection, columns
from tests.reference.markdown import code, page, sentence, table

_INTRODUCTION = """
Credits are declared in Stripe, in the metadata of a price, or of its product for all its prices. A key of the
price comes first; metered prices take none of their product's. Saving in Stripe updates the plan here. A key
that is removed leaves the plan as it is: to stop granting, declare `0`. A value that cannot be read is refused
with TB017, and the event waits as a dead letter until it is corrected.

[A plan file](../how-to/plans-as-code.md) has the same keys.
"""


class Key(NamedTuple):
    """Where a key's value is kept; the column's comment says what it means."""

    relation: str
    column: str
    kind: str = ""  # where the SQL has no list of values


_CREDITS = "whole number"
KEYS = {
    "initial_credits": Key("plans", "initial_credits", _CREDITS),
    "monthly_credits": Key("plans", "monthly_credits", _CREDITS),
    "trial_credits": Key("plans", "trial_credits", _CREDITS),
    "trial_days": Key("plans", "trial_days", "whole number, at most 730"),
    "seats": Key("plans", "seats_min", "`any`, `5`, `2-50`"),
    "credits_rollover": Key("plans", "rollover", "`all`, `none`, `periods:N`, `cap:N`"),
    "credits_on_proration": Key("plans", "proration_credits"),
    "credits_on_downgrade": Key("plans", "downgrade_credits"),
    "credits_on_cancel": Key("plans", "cancel_credits"),
    "trial_credits_end": Key("plans", "trial_end_credits"),
    "overage_limit": Key("plans", "overage_limit", _CREDITS),
    "overage_pack": Key("plans", "overage_pack", "lookup key or price id"),
    "features": Key("plans", "features", "JSON object"),
    "pack_credits": Key("credit_packs", "pack_credits", f"{_CREDITS} from 1 on"),
    "credits_per_unit": Key("credit_packs", "credits_per_unit", "number above 0, up to 6 decimals"),
    "pack_expires_after": Key("credit_packs", "expires_after", "`90 days`, `12 months`, `1 year`"),
}  # fmt: skip
_DEFAULTS = PLAN_METADATA | PACK_METADATA | {"pack_expires_after": "never"}
_OF = {"plans": "Recurring prices", "credit_packs": "One-time prices"}


def keys_read() -> Iterator[str]:
    """Every key that the schemas read of a price or a product."""
    for file in (SCHEMAS / "20_catalog").glob("*.sql"):
        text = file.read_text()
        yield from re.findall(r"metadata\)? ->> '(\w+)'", text)
        yield from re.findall(r"_declared_(?:credits|choice)\(\s*[\w. ,]*?'(\w+)'", text)


def metadata(conn: Connection) -> str:
    """The page."""
    comments = {
        (relation, one.name): one.comment or ""
        for relation in _OF
        for one in columns(conn, f"billing.{relation}")
    }
    parts = [
        f"## {title}\n\n"
        + table(
            ["key", "value", "default", "meaning"],
            [
                [
                    code(name),
                    key.kind or _choices(name),
                    code(_DEFAULTS[name]),
                    sentence(comments[relation, key.column]),
                ]
                for name, key in KEYS.items()
                if key.relation == relation
            ],
        )
        for relation, title in _OF.items()
    ]
    return page("Metadata keys", _INTRODUCTION, parts)


def _choices(name: str) -> str:
    for file in (SCHEMAS / "20_catalog").glob("*.sql"):
        if found := re.search(rf"'{name}', array\[(.*?)\]", file.read_text()):
            return ", ".join(code(value) for value in re.findall(r"'(\w+)'", found[1]))
    raise AssertionError(f"the schemas have no list of values for {name}")

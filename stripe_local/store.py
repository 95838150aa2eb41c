"""Objects in memory, by kind and id, with ids that look like Stripe's."""

import itertools
import string
from collections.abc import Iterable, Iterator
from random import Random
from typing import Any

from stripe_local.errors import no_such
from stripe_local.values import is_array

# An API object. Only keys that say something are kept: `render` adds what Stripe sends as null. Keys that start
# with an underscore are the emulator's own and are never sent.
Object = dict[str, Any]

PREFIXES = {
    "account": "acct_",
    "balance_transaction": "txn_",
    "billing_portal.configuration": "bpc_",
    "billing_portal.session": "bps_",
    "charge": "ch_",
    "checkout.session": "cs_test_",
    "coupon": "",
    "credit_note": "cn_",
    "credit_note_line_item": "cnli_",
    "customer": "cus_",
    "discount": "di_",
    "dispute": "du_",
    "event": "evt_",
    "invoice": "in_",
    "invoice_payment": "inpay_",
    "invoiceitem": "ii_",
    "item": "li_",
    "line_item": "il_",
    "payment_intent": "pi_",
    "payment_link": "plink_",
    "payment_method": "pm_",
    "price": "price_",
    "product": "prod_",
    "promotion_code": "promo_",
    "radar.early_fraud_warning": "issfr_",
    "refund": "re_",
    "review": "prv_",
    "setup_intent": "seti_",
    "subscription": "sub_",
    "subscription_item": "si_",
    "subscription_schedule": "sub_sched_",
    "tax_id": "txi_",
    "tax_rate": "txr_",
    "test_helpers.test_clock": "clock_",
    "webhook_endpoint": "we_",
}
WITHOUT_LIVEMODE = {"balance_transaction", "discount", "refund", "subscription_item"}
SHORT = {"customer", "product", "subscription_item", "coupon"}
NOUNS = {
    "checkout.session": "checkout.session",
    "radar.early_fraud_warning": "early fraud warning",
    "payment_method": "PaymentMethod",
    "test_helpers.test_clock": "test clock",
    "invoiceitem": "invoiceitem",
    "billing_portal.configuration": "portal configuration",
}
_ALPHABET = string.ascii_letters + string.digits
# Every byte as a letter or digit.
_LETTERS = "".join(_ALPHABET[byte % len(_ALPHABET)] for byte in range(256)).encode()


class Store:
    """Every table is in the order of creation. `seed` makes the ids of two runs alike."""

    def __init__(self, seed: int | None) -> None:
        self.random = Random(seed)  # noqa: S311 - ids of test data, not secrets
        self.tables: dict[str, dict[str, Object]] = {}
        self._sequence = itertools.count()

    def token(self, length: int) -> str:
        return self.random.randbytes(length).translate(_LETTERS).decode()

    def new_id(self, kind: str) -> str:
        length = 14 if kind in SHORT else 58 if kind == "checkout.session" else 24
        return PREFIXES[kind] + self.token(length)

    def add(self, kind: str, fields: Object) -> Object:
        """The object with `id` (unless given), `object` and `livemode` in front, stored."""
        made: Object = {"id": fields.get("id") or self.new_id(kind), "object": kind}
        if kind not in WITHOUT_LIVEMODE:
            made["livemode"] = False
        made |= {key: value for key, value in fields.items() if value is not None and key != "id"}
        made["_sequence"] = next(self._sequence)
        self.tables.setdefault(kind, {})[made["id"]] = made
        return made

    def copy(self) -> "Store":
        """Objects of its own: changing the copy changes nothing here."""
        other = Store(None)
        for kind, table in self.tables.items():
            other.tables[kind] = {
                identifier: {key: list(v) if is_array(v) else v for key, v in stored.items()}
                for identifier, stored in table.items()
            }
        other._sequence = itertools.count(2**40)
        return other

    def find(self, kind: str, identifier: str | None) -> Object | None:
        return self.tables.get(kind, {}).get(identifier or "")

    def get(self, kind: str, identifier: str, param: str = "id") -> Object:
        """The object, or Stripe's `resource_missing` about `param` ("id": the id in the path)."""
        found = self.find(kind, identifier)
        if found is None:
            raise no_such(NOUNS.get(kind, kind.replace("_", " ")), identifier, param)
        return found

    def all(self, kind: str) -> Iterable[Object]:
        return self.tables.get(kind, {}).values()

    def newest_first(self, kind: str) -> Iterator[Object]:
        return reversed(self.tables.get(kind, {}).values())

    def remove(self, kind: str, identifier: str) -> None:
        del self.tables[kind][identifier]

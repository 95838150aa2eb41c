"""What an account has → what its app spends of it: at once, by holds and in batches.

All at a quiet moment, so that the rules say what there is. The database may crash and connections be cut meanwhile:
the app repeats a request with its key, which counts once.
"""

import json
from collections.abc import Iterator
from random import Random
from typing import LiteralString

import psycopg

from simulator.actions import Account
from simulator.oracle.facts import Spend
from simulator.site import Site

_SPEND: LiteralString = "select billing.spend_credits(%s, %s, %s, actor => %s)"
_BATCH: LiteralString = "select from billing.spend_credits_batch(%s)"
_HOLD: LiteralString = "select id from billing.hold_credits(%s, %s, %s)"
_CAPTURE: LiteralString = "select billing.capture_hold(%s, %s, %s, release_rest => true)"
_RELEASE: LiteralString = "select billing.release_hold(%s, %s)"
_AVAILABLE: LiteralString = "select available from public.credit_balance where account_id = %s"
# The account has too little, or is frozen.
REFUSED = "TB"


def spend(site: Site, account: Account, now: int, draw: Random) -> Iterator[str]:
    """Spend a part of what there is in one or two ways; each way's name."""
    for number in range(draw.choice([1, 1, 2])):
        available: int = site.value(_AVAILABLE, account.account_id) or 0
        amount = int(available * draw.choice([0.2, 0.5, 0.9, 1]))
        way = draw.choice(["spend", "spend", "batch", "hold", "release"])
        if not amount:
            continue
        key = f"{account.customer.number}-{now}-{number}"
        try:
            spent = _spend(site, account, way, amount, key, draw)
        except psycopg.Error as error:
            if not (error.sqlstate or "").startswith(REFUSED):
                raise
            continue
        if spent:
            account.spends.append(Spend(now, spent))
        yield way


def _spend(site: Site, account: Account, way: str, amount: int, key: str, draw: Random) -> int:
    """How much it came to."""
    match way:
        case "spend":
            actor = str(draw.choice(account.users))
            site.query(_SPEND, account.account_id, amount, key, actor)
            return amount
        case "batch":
            halves = [amount // 2, amount - amount // 2]
            spends = [
                {"account_id": str(account.account_id), "amount": half, "idempotency_key": f"{key}-{number}"}
                for number, half in enumerate(halves)
                if half
            ]
            site.query(_BATCH, json.dumps(spends))
            return amount
        case _:
            hold = site.value(_HOLD, account.account_id, amount, key)
            if way == "release":
                site.query(_RELEASE, hold, f"{key}-end")
                return 0
            used = max(1, amount // 2)
            site.query(_CAPTURE, hold, used, f"{key}-end")
            return used

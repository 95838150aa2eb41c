"""What an account has → what its app spends of it: at once, by holds, in batches, for priced work.

All at a quiet moment, so that the rules say what there is. Connections are cut meanwhile: the app repeats a request
with its key, which counts once.
"""

import json
from collections.abc import Iterator
from random import Random
from typing import LiteralString

import psycopg

from simulator.actions import Account
from simulator.oracle.credits import Spend
from simulator.site import Site

_SPEND: LiteralString = "select billing.spend_credits(%s, %s, %s, actor => %s)"
_BATCH: LiteralString = "select from billing.spend_credits_batch(%s)"
_HOLD: LiteralString = "select id from billing.hold_credits(%s, %s, %s)"
_CAPTURE: LiteralString = "select billing.capture_hold(%s, %s, %s, release_rest => true)"
_RELEASE: LiteralString = "select billing.release_hold(%s, %s)"
_OPERATIONS: LiteralString = (
    "select distinct operation, rates from billing.operation_prices order by operation"
)
_WORK: LiteralString = "select charged from billing.spend_work(%s, %s, %s, %s)"
_HOLD_WORK: LiteralString = "select id from billing.hold_work(%s, %s, %s, %s)"
_SETTLE_WORK: LiteralString = "select charged from billing.settle_work(%s, %s, %s, on_excess => 'clip')"
_AVAILABLE: LiteralString = "select available from public.credit_balance where account_id = %s"
WAYS = ("spend", "spend", "batch", "hold", "release", "work", "held work")
QUANTITIES = (0, 1, 40, 2500)
# The account has too little, or is frozen.
REFUSED = "TB"


def spend(site: Site, account: Account, now: int, draw: Random) -> Iterator[str]:
    """Spend a part of what there is in one or two ways; each way's name."""
    for number in range(draw.choice([1, 1, 2])):
        available: int = site.value(_AVAILABLE, account.account_id) or 0
        amount, way = int(available * draw.choice([0.2, 0.5, 0.9, 1])), draw.choice(WAYS)
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
            account.spends.append(Spend(now, spent, was_allowed=True))
        yield way


def _spend(site: Site, account: Account, way: str, amount: int, key: str, draw: Random) -> int:
    """How much it came to."""
    match way:
        case "spend":
            site.query(_SPEND, account.account_id, amount, key, str(draw.choice(account.users)))
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
        case "work" | "held work":
            return _work(site, account, way == "held work", key, draw)
        case _:
            hold = site.value(_HOLD, account.account_id, amount, key)
            if way == "release":
                site.query(_RELEASE, hold, f"{key}-end")
                return 0
            used = max(1, amount // 2)
            site.query(_CAPTURE, hold, used, f"{key}-end")
            return used


def _work(site: Site, account: Account, is_held: bool, key: str, draw: Random) -> int:
    """A call of an operation of the price list, perhaps held by an estimate first; nothing where there is none."""
    operations = site.query(_OPERATIONS)
    if not operations:
        return 0
    operation, rates = draw.choice(operations)
    used, estimate = (
        json.dumps({name: draw.choice(QUANTITIES) for name in sorted(rates) if name != "call"})
        for _ in range(2)
    )
    if not is_held:
        return site.value(_WORK, account.account_id, operation, used, key)
    hold = site.value(_HOLD_WORK, account.account_id, operation, estimate, key)
    return site.value(_SETTLE_WORK, hold, used, f"{key}-end")

"""A quiet moment: faults have stopped and all has been delivered → what differs from what should be.

The ledger's and the entitlements' proofs, an oracle in plain Python, the outbox against what the channels took, the
queues, holds, and what `till reconcile` finds.
"""

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import LiteralString

from simulator.actions import Account, is_plan
from simulator.oracle.credits import Oracle
from simulator.oracle.ledger import Ledger
from simulator.oracle.paid_for import paid_for
from simulator.oracle.price_list import plans_of
from simulator.oracle.reading import read
from simulator.shard import Shards
from simulator.shop import Shop
from simulator.site import CHANNELS, Site, Stuck
from worker.jobs.fraud import ACTION

SETTLED_SECONDS = 90.0
POLL_SECONDS = 0.05
# How often delays are ended: workers do the rest in their own time.
HURRY_SECONDS = 0.5
PROOFS: tuple[LiteralString, ...] = (
    "select 'ledger', account_id, invariant, detail from billing.ledger_discrepancies",
    "select 'entitlement', account_id, invariant, detail from billing.entitlement_discrepancies",
)
# What waits for a worker, or for time that has passed.
_WAITING: LiteralString = """
select what, number from (
    select 'events that are queued' as what, count(*) as number from billing.stripe_events where status = 'queued'
    union all select 'messages of events', count(*) from pgmq.q_stripe_events
    union all select 'jobs', count(*) from pgmq.q_billing_jobs
    union all select 'notifications', count(*) from billing.notifications where status in ('queued', 'sending')
) as waiting where number > 0
"""
# Waiting times are not waited for. What a living worker has in hand stays there.
_HURRY: tuple[LiteralString, ...] = (
    "update billing.stripe_lookups set next_attempt_at = now() where worker_pid is null and next_attempt_at > now()",
    """
    update pgmq.q_stripe_events as message set vt = clock_timestamp()
    where message.vt > clock_timestamp() and not exists (
        select from billing.workers where message.msg_id = any (workers.in_hand) and message.vt = workers.in_hand_until
    ) and not exists (
        select from billing.stripe_lookups where stripe_event_id = message.message ->> 'event_id'
    )
    """,
    """
    update pgmq.q_billing_jobs as message set vt = clock_timestamp()
    where message.vt > clock_timestamp() and message.headers ->> 'worker_pid' is null
    """,
)
# Why something may not come to rest.
_STUCK: tuple[LiteralString, ...] = (
    """
    select 'event', type, stripe_event_id, attempts, last_error from billing.stripe_events
    where status = 'queued' limit 5
    """,
    "select 'message', read_ct, vt - clock_timestamp(), message from pgmq.q_stripe_events limit 5",
    "select 'job', read_ct, vt - clock_timestamp(), message, headers from pgmq.q_billing_jobs limit 5",
    """
    select 'notification', id, status, kind, attempts, delivered_to, last_error from billing.notifications
    where status in ('queued', 'sending') limit 5
    """,
    """
    select 'worker', workers.pid, application_name is not null, last_seen_at - clock_timestamp(), query
    from billing.workers left join pg_stat_activity using (pid)
    """,
)
_UNSETTLED: LiteralString = """
select type, stripe_event_id, status, last_error from billing.stripe_events
where status not in ('applied', 'ignored') order by received_at limit 5
"""
_CREDITS: LiteralString = "select account_id, balance, available from public.credit_balance"
_LOTS: LiteralString = """
select idempotency_key, amount, remaining, effective_at at time zone 'utc', stripe_invoice_id
from billing.credit_grants where account_id = %s and entry_id is not null order by effective_at, id
"""
_REFUNDS: LiteralString = """
select idempotency_key::text, status, reason from billing.fraud_actions where action = 'refund'
"""
_CAPPED: LiteralString = """
select exists (
    select from billing.plans join billing.subscription_items using (stripe_price_id)
    join billing.subscriptions using (stripe_subscription_id)
    where plans.rollover = 'cap' and subscriptions.account_id = %s
)
"""
# All but what is carried and what lacked when money was returned; and what is frozen.
_TOGETHER: LiteralString = """
select
    coalesce(sum(lots.remaining + billing._lapsed_of_lot(lots)), 0)::bigint - coalesce(max(balances.carried), 0)
        - coalesce(max(revoked.short), 0),
    coalesce(sum(lots.held), 0)::bigint
from billing.credit_balances as balances
left join billing.credit_grants as lots on lots.account_id = balances.account_id and lots.entry_id is not null
cross join lateral (
    select sum(greatest(shortfall - voided, 0))::bigint as short from billing.credit_revocations
    where account_id = balances.account_id
) as revoked
where balances.account_id = %s
"""
_CARRIED: LiteralString = "select exists (select from billing.carried_credits where account_id = %s)"
_SHORT: LiteralString = (
    "select exists (select from billing.credit_revocations where account_id = %s and shortfall > voided)"
)
# Whether credits of time that was given back were taken of what began later.
TAKEN_OF_LATER: LiteralString = """
select exists (
    select from billing.credit_revocations as revocations
    join billing.credit_grants as lots on lots.id = revocations.grant_id
    where revocations.account_id = %s and revocations.requested > revocations.reinstated + revocations.voided
        and revocations.reason = 'Time credited back by Stripe'
        and lots.effective_at > case
            when revocations.business_key ~ '^(monthly|proration|credited):'
                then right(revocations.business_key, 20)::timestamptz
        end
)
"""
# What an adversary has, what is carried, and what was spent before its price was returned.
_OF_ADVERSARY: LiteralString = """
select
    credit_balance.balance, balances.carried, coalesce((
        select sum(shortfall) from billing.credit_revocations as revocations
        where revocations.account_id = balances.account_id and reason = 'Payment returned to the customer'
    ), 0)::bigint
from public.credit_balance join billing.credit_balances as balances using (account_id)
where balances.account_id = %s
"""
_HOLDS: LiteralString = (
    "select account_id, id from billing.credit_holds where status = 'held' and frozen_grant_id is null"
)
_SENT: LiteralString = """
select id, status, coalesce(array_length(delivered_to, 1), 0) from billing.notifications
where audience = 'administrators' and (digest_id is null or digest_id = id)
"""


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that is not as it should be. `who`: the number of the customer, if it is one's."""

    what: str
    detail: str
    who: int | None = None

    def __str__(self) -> str:
        return f"{self.what}{'' if self.who is None else f' (customer {self.who})'}: {self.detail}"


def settle(site: Site, shop: Shop) -> None:
    """Until nothing is under way any more. Raises Stuck."""
    started = time.monotonic()
    hurried = 0.0
    quiet = 0
    while quiet < 2:
        site.mend()
        waiting = _waiting(site, shop)
        # Twice: a job that has ended may have made another one.
        quiet = 0 if waiting else quiet + 1
        if time.monotonic() - started > SETTLED_SECONDS:
            details = [str(row) for statement in _STUCK for row in site.admin(statement)]
            raise Stuck("\n    ".join([f"after {SETTLED_SECONDS:.0f} s there are still {waiting}", *details]))
        if waiting and time.monotonic() - hurried > HURRY_SECONDS:
            hurried = time.monotonic()
            # A tie ends when Stripe's clock shows a later second.
            shop.until(shop.now + 1)
            site.set_clock(shop.now)
            for statement in _HURRY:
                site.admin(statement)
        time.sleep(POLL_SECONDS)


def _waiting(site: Site, shop: Shop) -> str:
    if under_way := shop.under_way():
        return f"{under_way} deliveries of webhooks"
    while site.tick():
        pass
    return ", ".join(f"{number} {what}" for what, number in site.admin(_WAITING))


def judge(
    site: Site, shop: Shop, shards: Shards, accounts: Iterable[Account], missing: Iterable[str]
) -> list[Difference]:
    """All that differs. `missing`: what reconcile found last."""
    accounts = list(accounts)
    by_id = {account.account_id: account for account in accounts}
    found: list[Difference] = []
    for proof in PROOFS:
        for name, account_id, invariant, detail in site.query(proof):
            who = by_id.get(account_id)
            found.append(Difference(f"{name} {invariant}", str(detail), who and who.customer.number))
    for event_type, event_id, status, error in site.query(_UNSETTLED):
        found.append(Difference(f"event {status}", f"{event_type} {event_id}: {error}"))
    found += [
        Difference("hold open", str(hold), by_id[who].customer.number) for who, hold in site.query(_HOLDS)
    ]
    found += _of_oracle(
        site, shop, shards, [account for account in accounts if not account.customer.is_adversary]
    )
    found += _of_adversaries(site, shop, shards, [each for each in accounts if each.customer.is_adversary])
    found += _of_outbox(site)
    found += _of_fraud(site, shop)
    found += [Difference("reconcile", what) for what in missing]
    return found


def _of_oracle(site: Site, shop: Shop, shards: Shards, accounts: list[Account]) -> list[Difference]:
    balances = {account_id: (balance, available) for account_id, balance, available in site.query(_CREDITS)}
    found: list[Difference] = []
    for account in accounts:
        oracle = Oracle(read(shards.shard([account.stripe_id])), account.spends)
        expected = oracle.at(shop.now)
        has = balances.get(account.account_id, (0, 0))
        if has != (expected.balance, expected.available) and not _agrees_together(site, account, oracle):
            found.append(
                Difference(
                    "credits",
                    f"the database has (balance, available) = {has}, the oracle "
                    f"{(expected.balance, expected.available)}\n{_lots(site, account, expected)}",
                    account.customer.number,
                )
            )
    return found


def _of_adversaries(site: Site, shop: Shop, shards: Shards, accounts: list[Account]) -> list[Difference]:
    """Who has or spent more credits than the money buys at the best price of the plans.

    They buy no packs. They spend while events are under way, so that the oracle cannot say what there was.
    """
    plans = (price for price in shop.world.store.all("price") if is_plan(price))
    rate = plans_of(plans).best_rate
    found: list[Difference] = []
    for account in accounts:
        for balance, carried, shortfall in site.query(_OF_ADVERSARY, account.account_id):
            paid = paid_for(shards.shard([account.stripe_id]), shop.now)
            if exceeded := paid.exceeded(rate, account.spent + balance, carried, shortfall):
                detail = f"{exceeded} (spent {account.spent}, has {balance}, carried {carried}; {paid})"
                found.append(Difference("cheap credits", detail, account.customer.number))
    return found


def _agrees_together(site: Site, account: Account, oracle: Oracle) -> bool:
    """Whether as much is there of all credits together, where the order in which events arrive may move them.

    What is carried is set against whatever is posted first, which need not be what was first in time, and a cap lapses
    what is left when a month is posted. What returned money lacked is taken of what its payment has granted by the time
    at which the event arrives. What was given back is taken of a later month, which lapses later, if its own is posted
    after that. The rules allow all four.
    """
    expected = oracle.ledger
    is_moved = (
        expected.carried
        or oracle.shortfall
        or any(lot.kept_back for lot in expected.lots)
        or any(site.value(query, account.account_id) for query in (_CAPPED, _CARRIED, _SHORT, TAKEN_OF_LATER))
    )
    if not is_moved:
        return False
    whole = expected.balance + sum(lot.lapsed for lot in expected.lots) - expected.carried - oracle.shortfall
    return site.query(_TOGETHER, account.account_id) == [(whole, expected.frozen)]


def _lots(site: Site, account: Account, expected: Ledger) -> str:
    rows = site.query(_LOTS, account.account_id)
    database = "\n".join("    " + ", ".join(map(str, row)) for row in rows)
    oracle = "\n".join(f"    {lot}" for lot in expected.lots)
    return f"  database:\n{database}\n  oracle (carried: {expected.carried}):\n{oracle}"


def _of_outbox(site: Site) -> list[Difference]:
    """Each message once on each channel. A repeated one has the same Idempotency-Key, by which it counts once."""
    found: list[Difference] = []
    taken: dict[str, dict[int, int]] = {name: {} for name in CHANNELS}
    for name, keys in site.sink.taken.items():
        for key in list(keys):
            number = int(key.split("-")[1])
            taken[name][number] = taken[name].get(number, 0) + 1
    for number, status, channels in site.query(_SENT):
        counts = [taken[name].get(number, 0) for name in CHANNELS]
        if status != "delivered" or channels != len(CHANNELS) or counts != [1] * len(CHANNELS):
            found.append(
                Difference("notification", f"{number} is {status}; the channels took it {counts} times")
            )
    return found


def _of_fraud(site: Site, shop: Shop) -> list[Difference]:
    """The policy refunds each payment once that an issuer warned of."""
    made = Counter(
        refund["metadata"][ACTION]
        for refund in shop.world.store.all("refund")
        if ACTION in (refund.get("metadata") or {})
    )
    return [
        Difference("fraud action", f"a refund is {status} and was made {made[key]} times ({error})")
        for key, status, error in site.query(_REFUNDS)
        if made[key] != (status == "done")
    ]

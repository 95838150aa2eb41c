"""The ledger of the last months → each account's lots and movements, and what was paid: what a simulation replays."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, LiteralString

from cli.database import Connection, row, rows

Kind = Literal["grant", "use", "refund", "debit"]


@dataclass(frozen=True, slots=True)
class Movement:
    """One movement of credits. `amount` is never negative.

    A grant opens a lot: `source`, `stripe_price_id`, `priority` and `expires_at` are its own. Use that was priced has
    its operation and quantities; a refund has those of what it refunds, and `part` is the share of it.
    """

    kind: Kind
    at: datetime
    amount: int
    source: str | None
    stripe_price_id: str | None
    priority: int
    expires_at: datetime | None
    operation: str | None
    quantities: dict[str, Any] | None
    part: float


@dataclass(frozen=True, slots=True)
class Account:
    """An account with its lots at the start, its movements in order, and what its lots have at the end."""

    account_id: str
    email: str | None
    opening: list[Movement]
    movements: list[Movement]
    left: int


@dataclass(frozen=True, slots=True)
class Payment:
    """What was paid for a price in the time, in minor units; without a price: refunded."""

    stripe_price_id: str | None
    currency: str
    amount: int


@dataclass(frozen=True, slots=True)
class Sold:
    """A price as the database has it: what its grants and payments are compared with."""

    lookup_key: str | None
    unit_amount: int | None
    credits: dict[str, int]


def since(conn: Connection, months: int) -> tuple[datetime, datetime]:
    """The time that is replayed."""
    found = row(
        conn,
        "select billing.current_time() - make_interval(months => %(months)s) as since, billing.current_time() as until",
        {"months": months},
    )
    return found["since"], found["until"]


_ACCOUNTS: LiteralString = """
select
    balances.account_id::text as account_id, billing.owner_email(balances.account_id) as email, (
        select coalesce(sum(lots.remaining), 0)::bigint from billing.credit_grants as lots
        where lots.account_id = balances.account_id and lots.closed_at is null and lots.entry_id is not null
            and (lots.expires_at > billing.current_time()) is not false
    ) as left_now
from billing.credit_balances as balances
where exists (select from billing.credit_entries where credit_entries.account_id = balances.account_id)
order by balances.account_id
"""
_OPENING: LiteralString = """
select
    'grant' as kind, %(since)s::timestamptz as at, lots.amount - coalesce(taken.amount, 0) as amount, lots.source,
    null as stripe_price_id, lots.priority, lots.expires_at, null as operation, null::jsonb as quantities,
    1.0::float as part
from billing.credit_grants as lots
join billing.credit_entries as opened on opened.id = lots.entry_id
cross join lateral (
    select sum(taken.amount)::bigint as amount from billing.credit_consumptions as taken
    join billing.credit_entries as entries on entries.id = taken.entry_id
    where taken.grant_id = lots.id and entries.occurred_at < %(since)s
) as taken
where lots.account_id = %(account_id)s::uuid and opened.occurred_at < %(since)s
    and lots.amount > coalesce(taken.amount, 0)
order by lots.id
"""
# Work is one use, whatever entries it has. Expiry and repayment follow from the rest.
_MOVEMENTS: LiteralString = """
select
    case
        when entries.kind in ('spend', 'capture') then 'use'
        when entries.kind = 'refund' then 'refund'
        when entries.amount > 0 then 'grant'
        else 'debit'
    end as kind,
    entries.occurred_at as at,
    case when entries.id = charges.entry_id then charges.charged else abs(entries.amount) end as amount,
    entries.source, lots.stripe_price_id, coalesce(lots.priority, 100) as priority,
    case when entries.kind = 'refund' then returned.expires_at else lots.expires_at end as expires_at,
    prices.operation, charges.quantities,
    case
        when entries.kind = 'refund' then entries.amount / charges.charged::float
        when charges.charged < charges.credits then charges.charged / charges.credits::float
        else 1
    end as part
from billing.credit_entries as entries
left join billing.credit_grants as lots on lots.entry_id = entries.id and entries.kind <> 'refund'
left join billing.work_charges as charges
    on charges.account_id = entries.account_id and coalesce(entries.reverses_entry_id, entries.id) in (
        charges.entry_id, charges.excess_entry_id
    )
left join billing.operation_prices as prices on prices.id = charges.operation_price_id
left join lateral (
    -- A refund goes back to the lots that paid, with their expiry.
    select case when bool_and(paying.expires_at is not null) then max(paying.expires_at) end as expires_at
    from billing.credit_consumptions as taken join billing.credit_grants as paying on paying.id = taken.grant_id
    where taken.entry_id = entries.id and entries.kind = 'refund'
) as returned on true
where entries.account_id = %(account_id)s::uuid and entries.occurred_at >= %(since)s
    and entries.kind not in ('expiry', 'repayment') and entries.amount <> 0
    and (charges.excess_entry_id = entries.id) is not true
union all
select 'use', charges.occurred_at, 0, null, null, 100, null, prices.operation, charges.quantities, 1
from billing.work_charges as charges
join billing.operation_prices as prices on prices.id = charges.operation_price_id
where charges.account_id = %(account_id)s::uuid and charges.occurred_at >= %(since)s and charges.entry_id is null
    and charges.credits = 0
order by 2
"""
_PAYMENTS: LiteralString = """
select stripe_price_id, currency, sum(amount)::bigint as amount
from (
    select lines.stripe_price_id, invoices.currency, lines.amount - coalesce(lines.discount, 0) as amount
    from billing.invoices
    join billing.invoice_lines as lines using (stripe_invoice_id)
    where invoices.status = 'paid' and invoices.paid_at >= %(since)s and not exists (
        select from billing.pack_purchases as packs where packs.stripe_line_id = lines.stripe_line_id
    )
    union all
    select purchases.stripe_price_id, packs.currency, purchases.price
    from billing.pack_purchases as purchases
    join billing.credit_packs as packs using (stripe_price_id)
    where purchases.purchased_at >= %(since)s
    union all
    select null, refunds.currency, -refunds.amount from billing.refunds
    where refunds.status = 'succeeded' and refunds.refunded_at >= %(since)s
) as paid
group by stripe_price_id, currency
"""
_SOLD: LiteralString = """
select
    stripe_price_id, lookup_key, unit_amount, jsonb_build_object(
        'initial_credits', initial_credits, 'monthly_credits', monthly_credits, 'trial_credits', trial_credits
    ) as credits
from billing.plans
union all
select stripe_price_id, lookup_key, unit_amount, jsonb_build_object('pack_credits', coalesce(pack_credits, 0))
from billing.credit_packs
"""


def accounts(conn: Connection, start: datetime) -> Iterator[Account]:
    """Every account that ever had credits."""
    for found in rows(conn, _ACCOUNTS, {}):
        place = {"account_id": found["account_id"], "since": start}
        yield Account(
            found["account_id"],
            found["email"],
            [Movement(**lot) for lot in rows(conn, _OPENING, place)],
            [Movement(**movement) for movement in rows(conn, _MOVEMENTS, place)],
            found["left_now"],
        )


def payments(conn: Connection, start: datetime) -> list[Payment]:
    """What was paid and refunded since then, by price and currency."""
    return [Payment(**paid) for paid in rows(conn, _PAYMENTS, {"since": start})]


def sold(conn: Connection) -> dict[str, Sold]:
    """Every price by its id."""
    return {
        found["stripe_price_id"]: Sold(found["lookup_key"], found["unit_amount"], found["credits"])
        for found in rows(conn, _SOLD, {})
    }

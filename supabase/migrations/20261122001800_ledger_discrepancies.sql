-- The ledger's proof: one row for whatever is off, none when all is well.
--
-- Read it after a restore, in monitoring, in tests. It looks at every account, so it takes as long as the ledger is
-- large. Readable by service_role and postgres.

create view billing.ledger_discrepancies with (security_invoker = on) as
with
entry_sums as (
    select account_id, sum(amount) as total from billing.credit_entries group by account_id
),
lot_sums as (
    select account_id, sum(remaining) as remaining, sum(held) as held, min(expires_at) filter (where closed_at is null) as next_due_at
    from billing.credit_grants group by account_id
),
hold_sums as (
    select account_id, sum(amount - captured) as held from billing.credit_holds where status = 'held' group by account_id
),
chain as (
    select
        id, account_id, amount, balance_after,
        lag(balance_after, 1, 0::bigint) over (partition by account_id order by id) as balance_before
    from billing.credit_entries
),
taken_from_lots as (
    select grant_id, sum(amount) as taken from billing.credit_consumptions group by grant_id
),
taken_by_entries as (
    select entry_id, sum(amount) as taken from billing.credit_consumptions group by entry_id
)
select a.id as account_id, 'account_has_a_balance' as invariant, 'no row in credit_balances' as detail
from billing.accounts as a
left join billing.credit_balances as b on b.account_id = a.id
where b.account_id is null
union all
select b.account_id, 'balance_is_the_sum_of_entries', format('balance %s, entries %s', b.balance, coalesce(e.total, 0))
from billing.credit_balances as b
left join entry_sums as e on e.account_id = b.account_id
where b.balance <> coalesce(e.total, 0)
union all
select
    b.account_id, 'balance_is_what_remains_less_debt',
    format('balance %s, remaining %s, debt %s', b.balance, coalesce(l.remaining, 0), b.debt)
from billing.credit_balances as b
left join lot_sums as l on l.account_id = b.account_id
where b.balance <> coalesce(l.remaining, 0) - b.debt
union all
select
    b.account_id, 'held_is_the_sum_of_open_holds',
    format('held %s, holds %s, lots %s', b.held, coalesce(h.held, 0), coalesce(l.held, 0))
from billing.credit_balances as b
left join hold_sums as h on h.account_id = b.account_id
left join lot_sums as l on l.account_id = b.account_id
where b.held <> coalesce(h.held, 0) or b.held <> coalesce(l.held, 0)
union all
select
    b.account_id, 'no_lot_falls_due_unseen', format('next_due_at %s, a lot expires at %s', b.next_due_at, l.next_due_at)
from billing.credit_balances as b
join lot_sums as l on l.account_id = b.account_id
where l.next_due_at < coalesce(b.next_due_at, 'infinity')
union all
select
    c.account_id, 'balance_after_continues_the_chain',
    format('entry %s: %s and %s make not %s', c.id, c.balance_before, c.amount, c.balance_after)
from chain as c
where c.balance_after <> c.balance_before + c.amount
union all
select
    g.account_id, 'lot_lost_what_entries_took',
    format('lot %s: amount %s, remaining %s, taken %s', g.id, g.amount, g.remaining, coalesce(t.taken, 0))
from billing.credit_grants as g
left join taken_from_lots as t on t.grant_id = g.id
where g.entry_id is not null and g.amount - g.remaining <> coalesce(t.taken, 0)
union all
select g.account_id, 'lot_is_open_while_something_remains', format('lot %s is open and empty', g.id)
from billing.credit_grants as g
where g.closed_at is null and g.remaining = 0
union all
select
    e.account_id, 'lot_opens_by_its_grant_entry', format('grant entry %s of %s opened lot %s of %s', e.id, e.amount, g.id, g.amount)
from billing.credit_entries as e
left join billing.credit_grants as g on g.entry_id = e.id
where e.kind = 'grant' and (g.id is null or g.amount <> e.amount or g.account_id <> e.account_id)
union all
select
    e.account_id, 'spend_names_its_lots', format('entry %s of %s took %s from lots', e.id, e.amount, coalesce(t.taken, 0))
from billing.credit_entries as e
left join taken_by_entries as t on t.entry_id = e.id
where e.kind in ('spend', 'capture', 'expiry') and coalesce(t.taken, 0) <> -e.amount;

revoke all on billing.ledger_discrepancies from public, anon, authenticated, service_role;
grant select on billing.ledger_discrepancies to service_role;

comment on view billing.ledger_discrepancies is 'Whatever is off in the ledger: account, broken invariant, figures. Empty when all is well.';

-- The ledger's proof: one row for whatever is off, none when all is well. Events that lost their place in the queue are
-- among it, with no account: what they paid for is missing, too.
--
-- Read it after a restore, in monitoring, in tests. It looks at every account, so it takes as long as the ledger is
-- large. Readable by service_role and postgres.

create view billing.ledger_discrepancies with (security_invoker = on) as
with
entry_sums as (
    select account_id, sum(amount) as total, sum(debt) as debt from billing.credit_entries group by account_id
),
lot_sums as (
    select
        account_id, sum(remaining) as remaining, sum(held) as held,
        least(
            min(expires_at) filter (where closed_at is null and remaining > held),
            min(effective_at) filter (where closed_at is null and entry_id is null)
        ) as due_at
    from billing.credit_grants group by account_id
),
hold_sums as (
    select account_id, sum(amount - captured) as held, min(expires_at) as due_at
    from billing.credit_holds where status = 'held' group by account_id
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
),
opened_by_entries as (
    select entry_id, sum(amount) as opened from billing.credit_grants group by entry_id
),
pinned_by_holds as (
    select hold_id, sum(amount) as pinned from billing.credit_hold_lots group by hold_id
),
pinned_in_lots as (
    select grant_id, sum(amount) as pinned from billing.credit_hold_lots group by grant_id
),
captured_by_entries as (
    select hold_id, -sum(amount) as captured from billing.credit_entries where kind = 'capture' group by hold_id
),
given_back as (
    select reverses_entry_id, sum(amount) as amount from billing.credit_entries where kind = 'refund' group by reverses_entry_id
)
select a.id as account_id, 'account_has_a_balance' as invariant, 'no row in credit_balances' as detail
from billing.accounts as a
left join billing.credit_balances as b on b.account_id = a.id
where b.account_id is null
union all
select b.account_id, 'balance_knows_who_may_spend', format('may_spend %s, the account says otherwise', b.may_spend)
from billing.credit_balances as b
join billing.accounts as a on a.id = b.account_id
where b.may_spend <> (a.frozen_at is null and a.closed_at is null)
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
select b.account_id, 'debt_is_the_sum_of_entries', format('debt %s, entries %s', b.debt, coalesce(e.debt, 0))
from billing.credit_balances as b
left join entry_sums as e on e.account_id = b.account_id
where b.debt <> coalesce(e.debt, 0)
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
    h.account_id, 'hold_pins_what_it_holds',
    format('hold %s is %s: %s of %s captured, %s pinned', h.id, h.status, h.captured, h.amount, coalesce(p.pinned, 0))
from billing.credit_holds as h
left join pinned_by_holds as p on p.hold_id = h.id
where coalesce(p.pinned, 0) <> case h.status when 'held' then h.amount - h.captured else 0 end
union all
select g.account_id, 'lot_is_held_by_its_holds', format('lot %s: held %s, pinned %s', g.id, g.held, coalesce(p.pinned, 0))
from billing.credit_grants as g
left join pinned_in_lots as p on p.grant_id = g.id
where g.held <> coalesce(p.pinned, 0)
union all
select
    h.account_id, 'hold_captured_what_entries_took',
    format('hold %s: captured %s, entries %s', h.id, h.captured, coalesce(c.captured, 0))
from billing.credit_holds as h
left join captured_by_entries as c on c.hold_id = h.id
where h.captured <> coalesce(c.captured, 0)
union all
select
    b.account_id, 'debt_leaves_no_credits_free',
    format('debt %s beside %s credits that nothing holds', b.debt, l.remaining - l.held)
from billing.credit_balances as b
join lot_sums as l on l.account_id = b.account_id
where b.debt > 0 and l.remaining > l.held
union all
select
    b.account_id, 'nothing_falls_due_unseen',
    format('next_due_at %s, a lot is due at %s, a hold at %s', b.next_due_at, l.due_at, h.due_at)
from billing.credit_balances as b
left join lot_sums as l on l.account_id = b.account_id
left join hold_sums as h on h.account_id = b.account_id
where least(l.due_at, h.due_at) < coalesce(b.next_due_at, 'infinity')
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
where g.entry_id is not null and g.closed_at is null and g.remaining = 0
union all
-- An entry is what it opened, less what it took from lots, less what it owes: for every kind of movement.
select
    e.account_id, 'entry_is_accounted_for',
    format('entry %s of %s opened %s, took %s, owes %s', e.id, e.amount, coalesce(o.opened, 0), coalesce(t.taken, 0), e.debt)
from billing.credit_entries as e
left join taken_by_entries as t on t.entry_id = e.id
left join opened_by_entries as o on o.entry_id = e.id
where e.amount <> coalesce(o.opened, 0) - coalesce(t.taken, 0) - e.debt
union all
select e.account_id, 'entry_has_a_balance', format('entry %s of an account that is not there', e.id)
from billing.credit_entries as e
left join billing.credit_balances as b on b.account_id = e.account_id
where b.account_id is null
union all
select g.account_id, 'lot_has_its_entry', format('lot %s: entry %s is not there, or of another account', g.id, g.entry_id)
from billing.credit_grants as g
left join billing.credit_entries as e on e.id = g.entry_id
left join billing.credit_balances as b on b.account_id = g.account_id
where g.entry_id is not null and e.account_id is distinct from g.account_id or b.account_id is null
union all
select
    coalesce(e.account_id, g.account_id), 'lineage_joins_entry_and_lot',
    format('%s credits of lot %s by entry %s, which are not both there, or not of one account', c.amount, c.grant_id, c.entry_id)
from billing.credit_consumptions as c
left join billing.credit_entries as e on e.id = c.entry_id
left join billing.credit_grants as g on g.id = c.grant_id
where e.account_id is distinct from g.account_id or e.id is null
union all
select e.account_id, 'refunds_are_within_the_spend', format('entry %s of %s was given back %s', e.id, e.amount, g.amount)
from given_back as g
join billing.credit_entries as e on e.id = g.reverses_entry_id
where g.amount > -e.amount
union all
select null, lost.invariant, lost.detail from billing.lost_messages() as lost;

revoke all on billing.ledger_discrepancies from public, anon, authenticated, service_role;
grant select on billing.ledger_discrepancies to service_role;

comment on view billing.ledger_discrepancies is 'Whatever is off in the ledger: account, broken invariant, figures. Empty when all is well.';

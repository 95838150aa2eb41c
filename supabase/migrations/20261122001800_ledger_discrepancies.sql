-- The ledger's proof: one row for whatever is off, none when all is well. Events that lost their place in the queue are
-- among it, with no account: what they paid for is missing, too.
--
-- Invariant: all that is looked at is found by an index of one account, so that an account takes as long as its own history
-- is, and each of its rows is looked at once. The view looks at every account, and at what belongs to none: read it
-- after a restore, and in tests. While all is running, prove_accounts walks the accounts a few at a time.
-- Readable by service_role and postgres.

create function billing.account_ledger_discrepancies(account_id uuid)
returns table (invariant text, detail text)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_account billing.accounts;
    v_balance billing.credit_balances;
    v_entries record;
    v_lots record;
    v_holds record;
begin
    select * into v_account from billing.accounts where accounts.id = account_ledger_discrepancies.account_id;
    select * into v_balance from billing.credit_balances
    where credit_balances.account_id = account_ledger_discrepancies.account_id;

    -- An entry is what it opened, less what it took from lots, less what it owes: for every kind of movement.
    return query
    select judged.invariant, judged.detail
    from (
        select
            credit_entries.id, credit_entries.amount, credit_entries.debt, credit_entries.balance_after,
            lag(credit_entries.balance_after, 1, 0::bigint) over (order by credit_entries.id) as balance_before
        from billing.credit_entries
        where credit_entries.account_id = account_ledger_discrepancies.account_id
    ) as e
    cross join lateral (
        select
            coalesce(sum(credit_consumptions.amount), 0) as taken,
            max(credit_consumptions.grant_id) filter (
                where credit_grants.account_id is distinct from account_ledger_discrepancies.account_id
            ) as foreign_lot_id
        from billing.credit_consumptions
        left join billing.credit_grants on credit_grants.id = credit_consumptions.grant_id
        where credit_consumptions.entry_id = e.id
    ) as t
    cross join lateral (
        select coalesce(sum(credit_grants.amount), 0) as opened from billing.credit_grants
        where credit_grants.entry_id = e.id
    ) as o
    cross join lateral (
        select
            'balance_after_continues_the_chain',
            format('entry %s: %s and %s make not %s', e.id, e.balance_before, e.amount, e.balance_after)
        where e.balance_after <> e.balance_before + e.amount
        union all
        select
            'entry_is_accounted_for',
            format('entry %s of %s opened %s, took %s, owes %s', e.id, e.amount, o.opened, t.taken, e.debt)
        where e.amount <> o.opened - t.taken - e.debt
        union all
        select 'entry_has_a_balance', format('entry %s of an account that is not there', e.id)
        where v_balance.account_id is null
        union all
        select
            'lineage_joins_entry_and_lot',
            format('entry %s took from lot %s, which is not there, or not of one account', e.id, t.foreign_lot_id)
        where t.foreign_lot_id is not null
    ) as judged (invariant, detail)
    where e.amount <> o.opened - t.taken - e.debt or e.balance_after <> e.balance_before + e.amount
        or t.foreign_lot_id is not null or v_balance.account_id is null;

    return query
    select judged.invariant, judged.detail
    from billing.credit_grants as g
    left join billing.credit_entries as opening on opening.id = g.entry_id
    cross join lateral (
        select
            coalesce(sum(credit_consumptions.amount), 0) as taken,
            coalesce(sum(credit_consumptions.amount) filter (
                where credit_entries.kind = 'expiry'
                    or credit_entries.kind = 'adjustment' and credit_entries.source = 'closing'
            ), 0) as lapsed,
            max(credit_consumptions.entry_id) filter (
                where credit_entries.account_id is distinct from account_ledger_discrepancies.account_id
            ) as foreign_entry_id
        from billing.credit_consumptions
        left join billing.credit_entries on credit_entries.id = credit_consumptions.entry_id
        where credit_consumptions.grant_id = g.id
    ) as t
    cross join lateral (
        select coalesce(sum(credit_hold_lots.amount), 0) as pinned from billing.credit_hold_lots
        where credit_hold_lots.grant_id = g.id
    ) as p
    cross join lateral (
        select 'lot_is_held_by_its_holds', format('lot %s: held %s, pinned %s', g.id, g.held, p.pinned)
        where g.held <> p.pinned
        union all
        select
            'lot_lost_what_entries_took',
            format('lot %s: amount %s, remaining %s, taken %s', g.id, g.amount, g.remaining, t.taken)
        where g.entry_id is not null and g.amount - g.remaining <> t.taken
        union all
        select 'lot_lapsed_by_entries', format('lot %s: lapsed %s, entries %s', g.id, g.lapsed, t.lapsed)
        where g.lapsed <> t.lapsed
        union all
        select 'lot_is_open_while_something_remains', format('lot %s is open and empty', g.id)
        where g.entry_id is not null and g.closed_at is null and g.remaining = 0
        union all
        select 'lot_has_its_entry', format('lot %s: entry %s is not there, or of another account', g.id, g.entry_id)
        where g.entry_id is not null and opening.account_id is distinct from g.account_id or v_balance.account_id is null
        union all
        select
            'lineage_joins_entry_and_lot',
            format('entry %s took from lot %s, and is not there, or not of one account', t.foreign_entry_id, g.id)
        where t.foreign_entry_id is not null
    ) as judged (invariant, detail)
    where g.account_id = account_ledger_discrepancies.account_id;

    return query
    select judged.invariant, judged.detail
    from billing.credit_holds as h
    cross join lateral (
        select coalesce(sum(credit_hold_lots.amount), 0) as pinned from billing.credit_hold_lots
        where credit_hold_lots.hold_id = h.id
    ) as p
    cross join lateral (
        select coalesce(-sum(credit_entries.amount), 0) as captured from billing.credit_entries
        where credit_entries.hold_id = h.id and credit_entries.kind = 'capture'
    ) as c
    cross join lateral (
        select
            'hold_pins_what_it_holds',
            format('hold %s is %s: %s of %s captured, %s pinned', h.id, h.status, h.captured, h.amount, p.pinned)
        where p.pinned <> case h.status when 'held' then h.amount - h.captured else 0 end
        union all
        select
            'hold_captured_what_entries_took', format('hold %s: captured %s, entries %s', h.id, h.captured, c.captured)
        where h.captured <> c.captured
    ) as judged (invariant, detail)
    where h.account_id = account_ledger_discrepancies.account_id;

    return query
    select
        'refunds_are_within_the_spend',
        format('entry %s of %s was given back %s', spends.id, spends.amount, given_back.amount)
    from (
        select credit_entries.reverses_entry_id, sum(credit_entries.amount) as amount from billing.credit_entries
        where credit_entries.account_id = account_ledger_discrepancies.account_id and credit_entries.kind = 'refund'
        group by credit_entries.reverses_entry_id
    ) as given_back
    join billing.credit_entries as spends on spends.id = given_back.reverses_entry_id
    where given_back.amount > -spends.amount;

    if v_balance.account_id is null then
        return query select 'account_has_a_balance', 'no row in credit_balances' where v_account.id is not null;
        return;
    end if;

    select coalesce(sum(credit_entries.amount), 0) as total, coalesce(sum(credit_entries.debt), 0) as debt
    into v_entries from billing.credit_entries
    where credit_entries.account_id = account_ledger_discrepancies.account_id;
    select
        coalesce(sum(credit_grants.remaining), 0) as remaining, coalesce(sum(credit_grants.held), 0) as held,
        least(
            min(credit_grants.expires_at) filter (
                where credit_grants.closed_at is null and credit_grants.remaining > credit_grants.held
            ),
            min(credit_grants.effective_at) filter (
                where credit_grants.closed_at is null and credit_grants.entry_id is null
            )
        ) as due_at
    into v_lots from billing.credit_grants
    where credit_grants.account_id = account_ledger_discrepancies.account_id;
    select
        coalesce(sum(credit_holds.amount - credit_holds.captured), 0) as held, min(credit_holds.expires_at) as due_at
    into v_holds from billing.credit_holds
    where credit_holds.account_id = account_ledger_discrepancies.account_id and credit_holds.status = 'held';

    return query
    select 'balance_knows_who_may_spend', format('may_spend %s, the account says otherwise', v_balance.may_spend)
    where v_balance.may_spend <> (v_account.frozen_at is null and v_account.closed_at is null)
    union all
    select 'balance_is_the_sum_of_entries', format('balance %s, entries %s', v_balance.balance, v_entries.total)
    where v_balance.balance <> v_entries.total
    union all
    select
        'balance_is_what_remains_less_debt',
        format('balance %s, remaining %s, debt %s', v_balance.balance, v_lots.remaining, v_balance.debt)
    where v_balance.balance <> v_lots.remaining - v_balance.debt
    union all
    select 'debt_is_the_sum_of_entries', format('debt %s, entries %s', v_balance.debt, v_entries.debt)
    where v_balance.debt <> v_entries.debt
    union all
    select
        'held_is_the_sum_of_open_holds',
        format('held %s, holds %s, lots %s', v_balance.held, v_holds.held, v_lots.held)
    where v_balance.held <> v_holds.held or v_balance.held <> v_lots.held
    union all
    select
        'debt_leaves_no_credits_free',
        format('debt %s beside %s credits that nothing holds', v_balance.debt, v_lots.remaining - v_lots.held)
    where v_balance.debt > 0 and v_lots.remaining > v_lots.held
    union all
    select
        'nothing_falls_due_unseen',
        format(
            'next_due_at %s, a lot is due at %s, a hold at %s', v_balance.next_due_at, v_lots.due_at, v_holds.due_at
        )
    where least(v_lots.due_at, v_holds.due_at) < coalesce(v_balance.next_due_at, 'infinity');
end
$$;

create view billing.ledger_discrepancies with (security_invoker = on) as
select ids.account_id, discrepancies.invariant, discrepancies.detail
from (
    select accounts.id as account_id from billing.accounts
    union
    select credit_entries.account_id from billing.credit_entries
    union
    select credit_grants.account_id from billing.credit_grants
    union
    select credit_holds.account_id from billing.credit_holds
) as ids
cross join lateral billing.account_ledger_discrepancies(ids.account_id) as discrepancies
union all
select
    null, 'lineage_joins_entry_and_lot',
    format('%s credits of lot %s by entry %s, neither of which is there', c.amount, c.grant_id, c.entry_id)
from billing.credit_consumptions as c
where not exists (select from billing.credit_entries where credit_entries.id = c.entry_id)
    and not exists (select from billing.credit_grants where credit_grants.id = c.grant_id)
union all
select null, lost.invariant, lost.detail from billing.lost_messages() as lost;

revoke all on function billing.account_ledger_discrepancies from public, anon, authenticated, service_role;
grant execute on function billing.account_ledger_discrepancies(uuid) to service_role;
revoke all on billing.ledger_discrepancies from public, anon, authenticated, service_role;
grant select on billing.ledger_discrepancies to service_role;

comment on function billing.account_ledger_discrepancies(uuid) is 'The rows of ledger_discrepancies of one account.';
comment on view billing.ledger_discrepancies is 'Whatever is off in the ledger: account, broken invariant, figures. Empty when all is well.';

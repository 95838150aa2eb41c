-- All checks of one account's ledger: a row for each violation, none when all is well.
--
-- Invariant: every read uses an index of one account, so an account takes as long as its own history, and each of its
-- rows is read once. prove_accounts checks the accounts, a few at a time; the view ledger_discrepancies checks all of
-- them. Readable by service_role and postgres.

create function billing.account_ledger_discrepancies(account_id uuid)
returns table (invariant text, detail text)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
-- Uses the indexes of the account, even if statistics say that one account has most of the rows.
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
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

    -- For every kind of movement: an entry is what it opened, minus what it took from lots, minus what it owes.
    select
        coalesce(sum(e.amount), 0) as total, coalesce(sum(e.debt), 0) as debt, coalesce(sum(t.taken), 0) as taken,
        max(e.id) as last_id,
        array_agg(format('entry %s: %s and %s make not %s', e.id, e.balance_before, e.amount, e.balance_after))
            filter (where e.balance_after <> e.balance_before + e.amount) as out_of_the_chain,
        array_agg(format('entry %s of %s opened %s, took %s, owes %s', e.id, e.amount, o.opened, t.taken, e.debt))
            filter (where e.amount <> o.opened - t.taken - e.debt) as unaccounted
    into v_entries
    from (
        select
            credit_entries.id, credit_entries.amount, credit_entries.debt, credit_entries.balance_after,
            lag(credit_entries.balance_after, 1, 0::bigint) over (order by credit_entries.id) as balance_before
        from billing.credit_entries
        where credit_entries.account_id = account_ledger_discrepancies.account_id
    ) as e
    cross join lateral (
        select coalesce(sum(credit_consumptions.amount), 0) as taken from billing.credit_consumptions
        where credit_consumptions.entry_id = e.id
    ) as t
    cross join lateral (
        select coalesce(sum(credit_grants.amount), 0) as opened from billing.credit_grants
        where credit_grants.entry_id = e.id
    ) as o;
    return query
    select 'balance_after_continues_the_chain', broken.detail from unnest(v_entries.out_of_the_chain) as broken (detail)
    union all
    select 'entry_is_accounted_for', broken.detail from unnest(v_entries.unaccounted) as broken (detail)
    union all
    select 'entry_has_a_balance', format('entry %s of an account that is not there', v_entries.last_id)
    where v_entries.last_id is not null and v_balance.account_id is null;

    select
        coalesce(sum(g.remaining), 0) as remaining, coalesce(sum(g.held), 0) as held, coalesce(sum(t.taken), 0) as taken,
        least(
            min(g.expires_at) filter (where g.closed_at is null and g.remaining > g.held),
            min(g.effective_at) filter (where g.closed_at is null and g.entry_id is null)
        ) as due_at,
        array_agg(format('lot %s: held %s, pinned %s', g.id, g.held, p.pinned))
            filter (where g.held <> p.pinned) as held_by_none,
        array_agg(format('lot %s: amount %s, remaining %s, taken %s', g.id, g.amount, g.remaining, t.taken))
            filter (where g.entry_id is not null and g.amount - g.remaining <> t.taken) as otherwise_taken,
        array_agg(format('lot %s is open and empty', g.id))
            filter (where g.entry_id is not null and g.closed_at is null and g.remaining = 0) as empty,
        array_agg(format('lot %s: entry %s is not there, or of another account', g.id, g.entry_id))
            filter (
                where g.entry_id is not null and opening.account_id is distinct from g.account_id
                    or v_balance.account_id is null
            ) as without_entry
    into v_lots
    from billing.credit_grants as g
    left join billing.credit_entries as opening on opening.id = g.entry_id
    cross join lateral (
        select coalesce(sum(credit_consumptions.amount), 0) as taken from billing.credit_consumptions
        where credit_consumptions.grant_id = g.id
    ) as t
    cross join lateral (
        select coalesce(sum(credit_hold_lots.amount), 0) as pinned from billing.credit_hold_lots
        where credit_hold_lots.grant_id = g.id
    ) as p
    where g.account_id = account_ledger_discrepancies.account_id;
    return query
    select 'lot_is_held_by_its_holds', broken.detail from unnest(v_lots.held_by_none) as broken (detail)
    union all
    select 'lot_lost_what_entries_took', broken.detail from unnest(v_lots.otherwise_taken) as broken (detail)
    union all
    select 'lot_is_open_while_something_remains', broken.detail from unnest(v_lots.empty) as broken (detail)
    union all
    select 'lot_has_its_entry', broken.detail from unnest(v_lots.without_entry) as broken (detail)
    union all
    -- Lineage that refers to a missing lot or entry, or to one of another account, is on one side only.
    select
        'lineage_joins_entry_and_lot',
        format('entries took %s credits from lots, and from the lots %s were taken', v_entries.taken, v_lots.taken)
    where v_entries.taken <> v_lots.taken;

    return query
    select
        'lot_lapsed_by_entries',
        format('lot %s: lapsed %s, entries %s', sides.grant_id, sum(sides.lapsed), sum(sides.expired))
    from (
        select credit_grants.id as grant_id, credit_grants.lapsed, 0 as expired from billing.credit_grants
        where credit_grants.account_id = account_ledger_discrepancies.account_id
        union all
        select credit_consumptions.grant_id, 0, credit_consumptions.amount from billing.credit_entries
        join billing.credit_consumptions on credit_consumptions.entry_id = credit_entries.id
        where credit_entries.account_id = account_ledger_discrepancies.account_id
            and (
                credit_entries.kind = 'expiry'
                or credit_entries.kind = 'adjustment' and credit_entries.source = 'closing'
            )
    ) as sides
    group by sides.grant_id
    having sum(sides.lapsed) <> sum(sides.expired);

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

    -- What each actor spent and holds counts in its budget and in those above it.
    if exists (select from billing.budgets where budgets.account_id = account_ledger_discrepancies.account_id) then
        return query
        select judged.invariant, judged.detail
        from billing.budgets as b
        left join (
            select counted.name, sum(used.spent) as spent, sum(used.held) as held
            from (
                select level.actor as name, level.period_start, spenders.actor
                from unnest(billing._actors_of_budget(account_ledger_discrepancies.account_id, '*')) as spenders (actor)
                cross join lateral billing._budget_path(account_ledger_discrepancies.account_id, spenders.actor) as levels
                join billing.budgets as level
                    on level.account_id = account_ledger_discrepancies.account_id and level.actor = any (levels)
            ) as counted
            cross join lateral billing._used_by(
                account_ledger_discrepancies.account_id, counted.actor, counted.period_start
            ) as used
            group by counted.name
        ) as sums on sums.name = b.actor
        cross join lateral (select coalesce(sums.spent, 0) as spent, coalesce(sums.held, 0) as held) as used
        cross join lateral (
            select
                'budget_spent_what_its_actors_spent',
                format('budget %s: spent %s since %s, entries %s', b.actor, b.spent_in_period, b.period_start, used.spent)
            where b.spent_in_period <> used.spent
            union all
            select
                'budget_holds_what_its_actors_hold',
                format('budget %s: held %s, holds %s', b.actor, b.held, used.held)
            where b.held <> used.held
            union all
            select
                'budget_is_below_its_parent', format('budget %s: path %s, parent %s', b.actor, b.path, b.parent)
            where b.parent is not null and not exists (
                select from billing.budgets as above
                where above.account_id = b.account_id and above.actor = b.parent and b.path = b.actor || above.path
            )
        ) as judged (invariant, detail)
        where b.account_id = account_ledger_discrepancies.account_id;
    end if;

    if v_balance.account_id is null then
        return query select 'account_has_a_balance', 'no row in credit_balances' where v_account.id is not null;
        return;
    end if;

    select
        coalesce(sum(credit_holds.amount - credit_holds.captured), 0) as held, min(credit_holds.expires_at) as due_at
    into v_holds from billing.credit_holds
    where credit_holds.account_id = account_ledger_discrepancies.account_id and credit_holds.status = 'held';

    return query
    select 'balance_knows_who_may_spend', format('may_spend %s, the account says otherwise', v_balance.may_spend)
    where v_balance.may_spend <> (v_account.frozen_at is null and v_account.closed_at is null)
    union all
    select 'balance_knows_of_budgets', format('has_budgets is %s, which is wrong', v_balance.has_budgets)
    where v_balance.has_budgets <> exists (select from billing.budgets where budgets.account_id = v_balance.account_id)
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

revoke all on function billing.account_ledger_discrepancies from public, anon, authenticated, service_role;
grant execute on function billing.account_ledger_discrepancies(uuid) to service_role;

comment on function billing.account_ledger_discrepancies(uuid) is 'The rows of ledger_discrepancies of one account.';

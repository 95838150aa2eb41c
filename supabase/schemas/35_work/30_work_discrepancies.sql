-- The check of one account's priced work: every charge is worked out again from its quantities and its price.
--
-- Invariant: a row for each violation, none when all is well. Part of ledger_discrepancies. Readable by service_role.

create function billing.account_work_discrepancies(account_id uuid)
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
begin
    return query
    select judged.invariant, judged.detail
    from billing.work_charges as c
    join billing.operation_prices as p on p.id = c.operation_price_id
    cross join lateral billing._price_work(p, c.quantities) as priced
    left join billing.work_holds as h on h.hold_id = c.hold_id
    left join billing.credit_entries as e on e.id = c.entry_id
    left join billing.credit_entries as x on x.id = c.excess_entry_id
    cross join lateral (
        select
            'charge_is_what_its_price_says',
            format('charge %s: %s credits of %s, its price says %s of %s',
                c.id, c.credits, c.unrounded, priced.credits, priced.unrounded)
        where (c.unrounded, c.credits) is distinct from (priced.unrounded, priced.credits)
        union all
        select
            'charge_is_what_entries_took',
            format('charge %s: charged %s, entries %s', c.id, c.charged, -coalesce(e.amount, 0) - coalesce(x.amount, 0))
        where c.charged <> -coalesce(e.amount, 0) - coalesce(x.amount, 0)
            or e.account_id <> c.account_id or e.kind not in ('spend', 'capture')
            or x.id is not null and (x.account_id <> c.account_id or x.kind <> 'spend' or e.kind <> 'capture') is not false
        union all
        select 'charge_is_all_but_clipped', format('charge %s: charged %s of %s', c.id, c.charged, c.credits)
        where c.charged > c.credits or c.charged < c.credits and c.on_excess is distinct from 'clip'
        union all
        select
            'charge_has_the_price_of_its_hold',
            format('charge %s: price %s, its hold %s', c.id, c.operation_price_id, h.operation_price_id)
        where h.operation_price_id <> c.operation_price_id
    ) as judged (invariant, detail)
    where c.account_id = account_work_discrepancies.account_id;
end
$$;

revoke all on function billing.account_work_discrepancies from public, anon, authenticated, service_role;
grant execute on function billing.account_work_discrepancies(uuid) to service_role;

comment on function billing.account_work_discrepancies(uuid) is 'The rows of ledger_discrepancies about one account''s priced work.';

-- Balances in Supabase Realtime: a client that subscribes to its own row of billing.credit_balances receives every
-- change.
--
-- Realtime applies the table's row level security to each subscriber. If there is no publication (Realtime is switched
-- off, or this is plain Postgres), or it already has every table, nothing is done.

do $$
begin
    if exists (select from pg_catalog.pg_publication where pubname = 'supabase_realtime' and not puballtables) then
        alter publication supabase_realtime add table billing.credit_balances;
    end if;
end
$$;

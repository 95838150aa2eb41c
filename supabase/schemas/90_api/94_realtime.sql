-- Balances in Supabase Realtime: a client that listens to its own row of billing.credit_balances hears every movement.
--
-- Realtime applies the table's row level security to each listener. Where there is no publication (Realtime is switched
-- off, or this is plain Postgres), or it has every table already, there is nothing to do.

do $$
begin
    if exists (select from pg_catalog.pg_publication where pubname = 'supabase_realtime' and not puballtables) then
        alter publication supabase_realtime add table billing.credit_balances;
    end if;
end
$$;

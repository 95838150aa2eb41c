-- A credit pack arrives → the events that wait for it are retried.
--
-- Invariant: as for plans, whichever commits first: sync_price and the function that parks an event both hold the
-- arrival's lock.

-- A trigger, so that a pack that was inserted with SQL requeues them too.
create function billing.tg_credit_packs__arrive()
returns trigger
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform billing._lock_arrival(new.stripe_price_id);
    perform billing._retry_events_waiting_for(new.stripe_price_id);
    return null;
end
$$;

create trigger tg_credit_packs__arrive
after insert on billing.credit_packs
for each row execute function billing.tg_credit_packs__arrive();

revoke all on function billing.tg_credit_packs__arrive from public, anon, authenticated, service_role;

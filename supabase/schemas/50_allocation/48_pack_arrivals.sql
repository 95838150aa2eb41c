-- A credit pack that arrives → the events that were set aside for it go on.
--
-- Invariant: as with plans, whichever commits first: the arrival's lock is held by whoever brings a pack (sync_price) and
-- by whoever sets an event aside.

-- A trigger, so that a pack written by hand sends them on too.
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

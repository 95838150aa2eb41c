-- Which of two states of one Stripe object is the later one.
--
-- Freshness, in every sync_… function, is decided by the upsert itself, under the row's lock. The answer is
--     applied   the state offered is newer and is now held
--     stale     what is held is newer: nothing changed
--     refetch   only Stripe can tell which is later (both of the same second): nothing changed
-- as_of is the event's created, or the Date of the answer when the object was read from Stripe.
--
-- Private: called by what syncs.

create function billing._refused(held_as_of timestamptz, offered_as_of timestamptz)
returns text
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
    select case when _refused.held_as_of > _refused.offered_as_of then 'stale' else 'refetch' end
$$;

revoke all on function billing._refused from public, anon, authenticated, service_role;

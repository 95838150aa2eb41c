-- Which of two states of one Stripe object is newer.
--
-- In every sync_… function the upsert itself decides, under the row's lock. The result is
--     applied   the new state is newer and is now stored
--     stale     the stored state is newer: nothing changed
--     refetch   both have the same second, so only Stripe can tell: nothing changed
-- as_of is the event's created, or the Date of Stripe's answer if the object was read from Stripe.
--
-- Private: called by the sync_… functions.

create function billing._refused(held_as_of timestamptz, offered_as_of timestamptz)
returns text
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
    select case when _refused.held_as_of > _refused.offered_as_of then 'stale' else 'refetch' end
$$;

revoke all on function billing._refused from public, anon, authenticated, service_role;

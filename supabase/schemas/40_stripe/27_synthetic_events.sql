-- Events that Tillbase makes itself from objects read from Stripe: `till reconcile --apply` and `till backfill`.
--
-- Invariant: their ids start with till_, which Stripe's never do, so every listing of events shows where they came from. They
-- take the same way as a webhook, so nothing can be granted twice. They are no sign of life of Stripe, and no event that a key
-- can read there. Called by the owner of the database (`till`).

-- events: an array of {id, type, api_version, created, livemode, payload}, where payload is the body as text. Returns the
-- answer for each, in their order: queued, duplicate or ignored.
create function billing.receive_own_events(events jsonb)
returns table (event_id text, answer text)
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_event jsonb;
begin
    for v_event in select * from jsonb_array_elements(receive_own_events.events) loop
        event_id := v_event ->> 'id';
        if not coalesce(event_id ^@ 'till_', false) then
            raise exception 'event id % does not start with till_', event_id
                using errcode = 'TB081', hint = 'Pass events of Stripe to billing.receive_stripe_event.';
        end if;
        answer := billing.receive_stripe_event(
            event_id => v_event ->> 'id', type => v_event ->> 'type', api_version => v_event ->> 'api_version',
            created => (v_event ->> 'created')::bigint, livemode => (v_event ->> 'livemode')::boolean,
            payload => v_event ->> 'payload'
        );
        return next;
    end loop;
end
$$;

revoke all on function billing.receive_own_events from public, anon, authenticated, service_role;

comment on function billing.receive_own_events(jsonb) is 'Queues events that were made from objects read from Stripe, as `till reconcile --apply` and `till backfill` do. Returns queued, duplicate or ignored for each.';

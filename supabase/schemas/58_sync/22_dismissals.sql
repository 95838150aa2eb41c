-- Events and customers that do not belong to this installation: several apps or environments share a Stripe account,
-- and each of them receives the events of the others. An administrator dismisses them, and they no longer wait.
--
-- Invariant: an ignored event has the actor and the reason. A customer with an account cannot be dismissed; a dismissed
-- customer that is linked later is an ordinary customer again, and its events are retried. An applied event stays
-- applied.
--
-- Callable by service_role.

-- Returns the number of waiting events that are now ignored. It can be called repeatedly; the last reason is kept.
create function billing.dismiss_customer(stripe_customer_id text, reason text, actor text)
returns bigint
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_customer billing.customers;
    v_ignored bigint;
begin
    perform billing._check_reason(dismiss_customer.reason, dismiss_customer.actor);
    perform billing._check_customer_id(dismiss_customer.stripe_customer_id);
    -- An event that is being parked concurrently is either seen below, or sees the dismissal.
    perform billing._lock_arrival(dismiss_customer.stripe_customer_id);
    insert into billing.customers (stripe_customer_id, livemode)
    values (dismiss_customer.stripe_customer_id, billing.is_livemode())
    on conflict do nothing;
    select * into strict v_customer from billing.customers
    where customers.stripe_customer_id = dismiss_customer.stripe_customer_id
    for no key update;
    if v_customer.account_id is not null then
        raise exception 'customer % is linked to account %', v_customer.stripe_customer_id, v_customer.account_id
            using errcode = 'TB018', hint = 'Only a customer without an account can be dismissed.';
    end if;

    update billing.customers
    set dismissed_at = now(), dismissed_reason = dismiss_customer.reason, dismissed_by = dismiss_customer.actor,
        updated_at = now()
    where customers.stripe_customer_id = v_customer.stripe_customer_id;
    update billing.stripe_events
    set status = 'ignored', settled_at = now(),
        last_error = billing._dismissal(stripe_events.payload, v_customer.stripe_customer_id)
    where stripe_events.status in ('parked', 'dead')
        and (
            stripe_events.waiting_for = v_customer.stripe_customer_id
            or stripe_events.payload ~ pg_catalog.format('"customer"\s*:\s*"%s"', v_customer.stripe_customer_id)
        );
    get diagnostics v_ignored = row_count;
    return v_ignored;
end
$$;

-- Returns the new status: ignored, or the old one if the event was neither dead nor parked.
create function billing.dismiss_stripe_event(event_id text, reason text, actor text)
returns text
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_status text;
begin
    perform billing._check_reason(dismiss_stripe_event.reason, dismiss_stripe_event.actor);
    select stripe_events.status into v_status from billing.stripe_events
    where stripe_events.stripe_event_id = dismiss_stripe_event.event_id
    for update;
    if not found then
        raise exception 'there is no event %', coalesce(dismiss_stripe_event.event_id, 'null')
            using errcode = 'TB014', hint = 'List events with `till events list`.';
    elsif v_status not in ('dead', 'parked') then
        return v_status;
    end if;
    update billing.stripe_events
    set status = 'ignored', waiting_for = null, settled_at = now(),
        last_error = pg_catalog.format('dismissed by %s: %s', dismiss_stripe_event.actor, dismiss_stripe_event.reason)
    where stripe_events.stripe_event_id = dismiss_stripe_event.event_id;
    return 'ignored';
end
$$;

revoke all on function billing.dismiss_customer, billing.dismiss_stripe_event
from public, anon, authenticated, service_role;
grant execute on function
    billing.dismiss_customer(text, text, text), billing.dismiss_stripe_event(text, text, text)
to service_role;

comment on function billing.dismiss_customer(text, text, text) is 'Marks a Stripe customer as not belonging to this installation: events that wait for its link are ignored, now and later. Returns how many events were ignored. Linking the customer ends this.';
comment on function billing.dismiss_stripe_event(text, text, text) is 'Ignores a dead or parked event permanently; any other event is left unchanged. Returns the status.';

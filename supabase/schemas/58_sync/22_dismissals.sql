-- Events and customers that are none of this installation's: several apps, or several environments, share a Stripe account,
-- and each receives what belongs to the others. A person says so, and it no longer waits.
--
-- Invariant: what is ignored says by whom and why. A customer with an account is not dismissed; one that was dismissed and
-- is linked after all is an ordinary customer again, and its events go on. An event that was applied stays so.
--
-- Callable by service_role.

-- The number of events that waited and are ignored now; as often as you like, the last reason counts.
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
    -- An event that is being set aside meanwhile is either seen below, or sees the dismissal.
    perform billing._lock_arrival(dismiss_customer.stripe_customer_id);
    insert into billing.customers (stripe_customer_id, livemode)
    values (dismiss_customer.stripe_customer_id, billing.is_livemode())
    on conflict do nothing;
    select * into strict v_customer from billing.customers
    where customers.stripe_customer_id = dismiss_customer.stripe_customer_id
    for no key update;
    if v_customer.account_id is not null then
        raise exception 'customer % is linked to account %', v_customer.stripe_customer_id, v_customer.account_id
            using errcode = 'TB018', hint = 'Only a customer of no account can be dismissed; its events grant to its account.';
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

-- The status that the event has then: ignored, or what it was if it was neither dead nor parked.
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
            using errcode = 'TB014', hint = 'List what is here with `till events list`.';
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

comment on function billing.dismiss_customer(text, text, text) is 'Says that a Stripe customer is none of this installation''s: what waits for its link is ignored, now and later. Returns how many events were. Linking it ends that.';
comment on function billing.dismiss_stripe_event(text, text, text) is 'Ignores a dead or parked event for good; any other is left alone. Returns the status.';

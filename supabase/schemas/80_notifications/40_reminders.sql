-- Reminders of the clock: silence, events that wait too long, cards and credits that expire soon.
--
-- Invariant: each silence, wait, card and day of expiry is reported once, however often the clock runs. A call reads few
-- rows, because the worker makes it between two batches.
--
-- Called by billing_worker.

-- No event for a long time although there are subscriptions. In real time, not in billing time: events arrive in real time.
create function billing._notify_of_silence()
returns void
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    select billing._notify(
        null, 'administrators', 'silence', format('silence:%s', extract(epoch from latest.received_at)),
        jsonb_build_object('last_event_at', latest.received_at, 'hours', floor(extract(epoch from now() - latest.received_at) / 3600))
    )
    from billing.settings
    cross join lateral (
        select stripe_events.received_at from billing.stripe_events
        where not stripe_events.stripe_event_id ^@ 'till_'
        order by stripe_events.received_at desc limit 1
    ) as latest
    where latest.received_at < now() - settings.silence_after and exists (
        select from billing.subscriptions
        where subscriptions.status in ('active', 'trialing', 'past_due') and subscriptions.livemode = settings.livemode
    )
$$;

-- Payments that wait for a plan, a pack or a customer, and other events that wait for a plan: each after 15 minutes. Other
-- events that wait for a customer: after an hour, once for the customer. Only events that were not reported yet are read.
create function billing._notify_of_waiting_events()
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_events billing.stripe_events[];
begin
    v_events := array(
        select stripe_events from billing.stripe_events
        where stripe_events.status in ('parked', 'dead') and stripe_events.waiting_for is not null
            and stripe_events.notified_at is null
            and stripe_events.settled_at < now() - case
                when stripe_events.status = 'dead' or billing._pays_for_credits(stripe_events.type)
                then interval '15 minutes' else interval '1 hour' end
        order by stripe_events.settled_at
        limit 1000
        for update skip locked
    );
    perform billing._notify_of_event(event) from unnest(v_events) as event
    where event.status = 'dead' or billing._pays_for_credits(event.type);

    perform billing._notify(
        null, 'administrators', 'event_waiting', 'event_waiting:' || event.waiting_for,
        jsonb_build_object(
            'stripe_event_id', event.stripe_event_id, 'type', event.type, 'reason', event.last_error,
            'waiting_for', event.waiting_for, 'received_at', event.received_at
        )
    )
    from unnest(v_events) as event
    where not (event.status = 'dead' or billing._pays_for_credits(event.type));

    update billing.stripe_events set notified_at = now()
    where stripe_events.stripe_event_id = any (array(select event.stripe_event_id from unnest(v_events) as event));
end
$$;

-- Events that are still queued after an hour: they wait for a key, for Stripe, or for a lock. One notification for the
-- oldest, with the next few.
create function billing._notify_of_queued_events()
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_first jsonb;
begin
    select jsonb_agg(to_jsonb(oldest) order by oldest.received_at) into v_first
    from (
        select
            stripe_events.stripe_event_id, stripe_events.type, stripe_events.last_error as reason,
            stripe_events.received_at
        from billing.stripe_events
        where stripe_events.status = 'queued' and stripe_events.received_at < now() - interval '1 hour'
        order by stripe_events.received_at
        limit 10
    ) as oldest;
    if v_first is null then
        return;
    end if;
    perform billing._notify(
        null, 'administrators', 'event_waiting', 'event_waiting:' || (v_first -> 0 ->> 'stripe_event_id'),
        (v_first -> 0) || jsonb_build_object('first', v_first)
    );
end
$$;

-- Cards that expire within a month and will be charged again.
create function billing._notify_of_expiring_cards()
returns void
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    select billing._notify(
        customers.account_id, 'customer', 'card_expiring',
        format('card_expiring:%s:%s', cards.stripe_payment_method_id, cards.expires_on),
        jsonb_build_object('brand', cards.brand, 'last4', cards.last4, 'expires_on', cards.expires_on)
    )
    from billing.settings
    join billing.saved_cards as cards on cards.livemode = settings.livemode
    join billing.customers on customers.stripe_customer_id = cards.stripe_customer_id
    where 'card_expiring' = any (settings.customer_notifications)
        and cards.expires_on > billing.current_time()::date
        and cards.expires_on <= billing.current_time()::date + interval '31 days'
        and customers.account_id is not null
        and (
            exists (
                select from billing.subscriptions
                where subscriptions.account_id = customers.account_id
                    and subscriptions.status in ('active', 'trialing', 'past_due')
            )
            or exists (
                select from billing.recharge_settings
                where recharge_settings.account_id = customers.account_id and not recharge_settings.is_paused
            )
        )
        and not exists (
            select from billing.notifications
            where notifications.dedupe_key = format('card_expiring:%s:%s', cards.stripe_payment_method_id, cards.expires_on)
        )
    limit 1000
$$;

create function billing.enqueue_reminders()
returns void
language sql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
    select billing._notify_of_silence();
    select billing._notify_of_waiting_events();
    select billing._notify_of_queued_events();
    select billing._notify_of_expiring_cards();
$$;

-- Checks the next accounts_max accounts. Returns the last of them, where the next call continues; null: all were checked.
-- Lots with a life that is not longer than the notice are left out.
create function billing.enqueue_expiring_credits(after_account_id uuid, accounts_max integer)
returns uuid
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_now timestamptz := billing.current_time();
    v_notice interval;
    v_ids uuid[];
    v_due_ids uuid[];
begin
    select settings.expiring_credits_notice into v_notice from billing.settings
    where 'credits_expiring' = any (settings.customer_notifications);
    if not found then
        return null;
    end if;
    select array_agg(looked_at.account_id order by looked_at.account_id),
        array_agg(looked_at.account_id) filter (where looked_at.next_due_at <= v_now + v_notice)
    into v_ids, v_due_ids
    from (
        select credit_balances.account_id, credit_balances.next_due_at from billing.credit_balances
        where credit_balances.account_id > coalesce(
            enqueue_expiring_credits.after_account_id, '00000000-0000-0000-0000-000000000000'
        )
        order by credit_balances.account_id
        limit enqueue_expiring_credits.accounts_max
    ) as looked_at;
    perform billing._notify(
        expiring.account_id, 'customer', 'credits_expiring',
        format('credits_expiring:%s:%s', expiring.account_id, expiring.day),
        jsonb_build_object('credits', expiring.credits, 'expires_at', expiring.expires_at)
    )
    from (
        select
            credit_grants.account_id, (credit_grants.expires_at at time zone 'UTC')::date as day,
            sum(credit_grants.remaining) as credits, min(credit_grants.expires_at) as expires_at
        from billing.credit_grants
        where credit_grants.account_id = any (v_due_ids) and credit_grants.closed_at is null
            and credit_grants.entry_id is not null and credit_grants.remaining > 0
            and credit_grants.expires_at > v_now and credit_grants.expires_at <= v_now + v_notice
            and credit_grants.expires_at - v_notice > credit_grants.effective_at
        group by 1, 2
    ) as expiring;
    return case when cardinality(v_ids) = enqueue_expiring_credits.accounts_max then v_ids[cardinality(v_ids)] end;
end
$$;

revoke all on function
    billing._notify_of_silence, billing._notify_of_waiting_events, billing._notify_of_queued_events,
    billing._notify_of_expiring_cards, billing.enqueue_reminders, billing.enqueue_expiring_credits
from public, anon, authenticated, service_role;
grant execute on function billing.enqueue_reminders(), billing.enqueue_expiring_credits(uuid, integer) to billing_worker;

comment on function billing.enqueue_reminders() is 'Writes reminders: silence, events that wait too long, cards that expire soon. Each once, however often it is called.';
comment on function billing.enqueue_expiring_credits(uuid, integer) is 'Notifies owners of credits that expire soon, for the accounts_max accounts after one. Returns the last account that was checked, null at the end.';

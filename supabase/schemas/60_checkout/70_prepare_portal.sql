-- The customer portal: a user's change → the request to send to Stripe.
--
-- Invariant: users get the portal of their account's own customers only, and deep links to subscriptions of that
-- account only. Frozen and closed accounts get it too, because their owners must be able to cancel. The portal opens
-- for the customer that has the subscription, which may have been created by a Payment Link. A deleted user who signed
-- up again gets it too, because the card is still charged for the account that they left behind.
--
-- prepare_portal and continue_portal are called by billing_checkout. Private: all other functions here.

-- Of an account's live subscriptions the one that started last; for `cancel`, of those that are not being cancelled.
-- Without a flow, a subscription of the customer that the account keeps comes first.
create function billing._subscription_to_change(account_id uuid, livemode boolean, flow text)
returns billing.subscriptions
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select subscriptions from billing.subscriptions
    join billing.customers on customers.stripe_customer_id = subscriptions.stripe_customer_id
    where subscriptions.account_id = _subscription_to_change.account_id
        and subscriptions.livemode = _subscription_to_change.livemode
        and customers.deleted_at is null
        and subscriptions.status in ('active', 'trialing', 'past_due', 'unpaid', 'paused')
        and (
            _subscription_to_change.flow is distinct from 'cancel'
            or subscriptions.cancel_at is null and not subscriptions.cancel_at_period_end
        )
    order by
        coalesce(_subscription_to_change.flow not in ('cancel', 'update_plan'), true) and customers.duplicate_of is null desc,
        subscriptions.started_at desc, subscriptions.stripe_subscription_id
    limit 1
$$;

-- A live subscription of an account whose user was deleted, for the user who has its customer's e-mail address now. Not
-- that of another customer of the account, who may be a stranger that paid through its Payment Link. The address counts
-- only if it was confirmed by a message: a project that confirms sign-ups automatically proves nothing about it.
create function billing._subscription_left_behind(account_id uuid, livemode boolean, flow text)
returns billing.subscriptions
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_subscription billing.subscriptions;
begin
    select living.* into v_subscription
    from billing.accounts as own
    join auth.users on users.id = own.owner_id
    join billing.customers on lower(customers.email) = lower(users.email)
    join billing.accounts as left_behind on left_behind.id = customers.account_id
    cross join lateral billing._subscription_to_change(
        left_behind.id, _subscription_left_behind.livemode, _subscription_left_behind.flow
    ) as living
    where own.id = _subscription_left_behind.account_id and own.kind = 'personal'
        and users.email_confirmed_at >= users.confirmation_sent_at
        and left_behind.kind = 'personal' and not billing._has_user(left_behind.id)
        and living.stripe_customer_id = customers.stripe_customer_id
    order by living.started_at desc
    limit 1;
    return v_subscription;
end
$$;

-- flow_data of a Portal Session; null without a flow.
create function billing._portal_flow(flow text, stripe_subscription_id text, return_url text)
returns jsonb
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_type text := case _portal_flow.flow
        when 'cancel' then 'subscription_cancel'
        when 'update_plan' then 'subscription_update'
        when 'update_card' then 'payment_method_update'
    end;
begin
    if _portal_flow.flow is null then
        return null;
    elsif v_type is null then
        raise exception 'unknown flow'
            using errcode = 'TB048', hint = 'Use cancel, update_plan or update_card.';
    elsif _portal_flow.flow <> 'update_card' and _portal_flow.stripe_subscription_id is null then
        raise exception 'the account has no subscription to %', case _portal_flow.flow when 'cancel' then 'cancel' else 'change' end
            using errcode = 'TB047', hint = 'Leave flow out to open the portal''s first page.';
    end if;
    return jsonb_strip_nulls(jsonb_build_object(
        'type', v_type,
        v_type, case when _portal_flow.flow <> 'update_card' then
            jsonb_build_object('subscription', _portal_flow.stripe_subscription_id)
        end,
        'after_completion', case when _portal_flow.return_url is not null then
            jsonb_build_object('type', 'redirect', 'redirect', jsonb_build_object('return_url', _portal_flow.return_url))
        end
    ));
end
$$;

-- One step (see 15_stripe_steps.sql), whose result is {"id", "url"} of the session.
create function billing.prepare_portal(user_id uuid, return_url text, flow text, account_id uuid default null)
returns jsonb
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_settings billing.settings;
    v_account_id uuid := billing._account_to_bill(prepare_portal.user_id, prepare_portal.account_id);
    v_return_url text;
    v_subscription billing.subscriptions;
    v_customer_id text;
begin
    select * into strict v_settings from billing.settings;
    if prepare_portal.return_url is not null then
        perform billing._check_redirect('return_url', prepare_portal.return_url);
    end if;
    v_return_url := coalesce(prepare_portal.return_url, v_settings.site_url);

    v_subscription := billing._subscription_to_change(v_account_id, v_settings.livemode, prepare_portal.flow);
    if v_subscription.stripe_subscription_id is null then
        v_subscription := billing._subscription_left_behind(v_account_id, v_settings.livemode, prepare_portal.flow);
    end if;
    v_customer_id := coalesce(
        v_subscription.stripe_customer_id, billing._customer_of(v_account_id, v_settings.livemode)
    );
    if v_customer_id is null then
        raise exception 'this account has not bought anything yet'
            using errcode = 'TB046', hint = 'The first checkout creates the customer that the portal needs.';
    end if;
    perform billing._note_stripe_request(v_account_id);
    return billing._stripe_step(
        v_settings.livemode,
        jsonb_build_array(billing._stripe_call(
            'post', '/v1/billing_portal/sessions',
            params => jsonb_strip_nulls(jsonb_build_object(
                'customer', v_customer_id,
                'return_url', v_return_url,
                'flow_data',
                billing._portal_flow(prepare_portal.flow, v_subscription.stripe_subscription_id, v_return_url)
            )),
            keep => '{id,url}'
        )),
        state => '{}',
        is_last => true
    );
end
$$;

-- Stripe failed.
create function billing.continue_portal(state jsonb, answers jsonb)
returns jsonb
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    return billing._refused_by_stripe(continue_portal.answers #> '{-1,error}');
end
$$;

revoke all on function
    billing._subscription_to_change, billing._subscription_left_behind, billing._portal_flow, billing.prepare_portal,
    billing.continue_portal
from public, anon, authenticated, service_role;
grant execute on function
    billing.prepare_portal(uuid, text, text, uuid), billing.continue_portal(jsonb, jsonb)
to billing_checkout;

comment on function billing.prepare_portal(uuid, text, text, uuid) is 'Checks a user''s change. Returns the step that opens the customer portal.';
comment on function billing.continue_portal(jsonb, jsonb) is 'Takes Stripe''s failure to open the portal. Returns the refusal.';

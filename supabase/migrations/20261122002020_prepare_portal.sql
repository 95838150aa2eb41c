-- The customer portal: what a user wants to change → what to send to Stripe.
--
-- Invariant: a user gets the portal of an account's own customer only, and a deep link to a subscription of that
-- customer only. Frozen and closed accounts get it too: whoever cannot buy must still be able to cancel.
--
-- Called by billing_checkout. Private: _portal_flow.

-- flow_data of a Portal Session; null without a flow. Of several subscriptions the one that was started last.
create function billing._portal_flow(stripe_customer_id text, flow text, return_url text)
returns jsonb
language plpgsql
stable
set search_path = ''
as $$
declare
    v_type text := case _portal_flow.flow
        when 'cancel' then 'subscription_cancel'
        when 'update_plan' then 'subscription_update'
        when 'update_card' then 'payment_method_update'
    end;
    v_subscription_id text;
begin
    if _portal_flow.flow is null then
        return null;
    elsif v_type is null then
        raise exception 'there is no such flow'
            using errcode = 'TB048', hint = 'Flows are cancel, update_plan and update_card.';
    elsif _portal_flow.flow <> 'update_card' then
        select subscriptions.stripe_subscription_id into v_subscription_id from billing.subscriptions
        where subscriptions.stripe_customer_id = _portal_flow.stripe_customer_id
            and subscriptions.status in ('active', 'trialing', 'past_due', 'unpaid', 'paused')
            and (
                _portal_flow.flow <> 'cancel'
                or subscriptions.cancel_at is null and not subscriptions.cancel_at_period_end
            )
        order by subscriptions.started_at desc, subscriptions.stripe_subscription_id
        limit 1;
        if v_subscription_id is null then
            raise exception 'there is no subscription to %', case _portal_flow.flow when 'cancel' then 'cancel' else 'change' end
                using errcode = 'TB047', hint = 'Leave flow out for the portal''s own page.';
        end if;
    end if;
    return jsonb_strip_nulls(jsonb_build_object(
        'type', v_type,
        v_type, case when v_subscription_id is not null then jsonb_build_object('subscription', v_subscription_id) end,
        'after_completion', case when _portal_flow.return_url is not null then
            jsonb_build_object('type', 'redirect', 'redirect', jsonb_build_object('return_url', _portal_flow.return_url))
        end
    ));
end
$$;

-- {"livemode", "params"}.
create function billing.prepare_portal(user_id uuid, return_url text, flow text, account_id uuid default null)
returns jsonb
language plpgsql
volatile
security definer
set search_path = ''
as $$
declare
    v_settings billing.settings;
    v_account_id uuid := billing._account_to_bill(prepare_portal.user_id, prepare_portal.account_id);
    v_return_url text;
    v_customer_id text;
begin
    select * into strict v_settings from billing.settings;
    if prepare_portal.return_url is not null then
        perform billing._check_redirect('return_url', prepare_portal.return_url);
    end if;
    v_return_url := coalesce(prepare_portal.return_url, v_settings.site_url);

    v_customer_id := billing._customer_of(v_account_id, v_settings.livemode);
    if v_customer_id is null then
        raise exception 'nothing was bought for this account yet'
            using errcode = 'TB046', hint = 'The first checkout makes the customer that the portal is for.';
    end if;
    return jsonb_build_object(
        'livemode', v_settings.livemode,
        'params', jsonb_strip_nulls(jsonb_build_object(
            'customer', v_customer_id,
            'return_url', v_return_url,
            'flow_data', billing._portal_flow(v_customer_id, prepare_portal.flow, v_return_url)
        ))
    );
end
$$;

revoke all on function billing._portal_flow, billing.prepare_portal from public, anon, authenticated, service_role;
grant execute on function billing.prepare_portal(uuid, text, text, uuid) to billing_checkout;

comment on function billing.prepare_portal(uuid, text, text, uuid) is 'What to send to Stripe for a session of an account''s customer portal.';

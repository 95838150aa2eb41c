-- A user's order → the first step of a checkout. continue_checkout returns the later ones.
--
-- Invariant: a refused request changes nothing, here or in Stripe. If anything fails, the same click continues.
--
-- Called by billing_checkout.

-- The same order within ten minutes returns the same request, until the session has ended.
create function billing.prepare_checkout(
    user_id uuid,
    plan text,
    pack text,
    quantity numeric,
    success_url text,
    cancel_url text,
    save_card boolean default false,
    account_id uuid default null
)
returns jsonb
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_settings billing.settings;
    v_account_id uuid := billing._account_to_bill(prepare_checkout.user_id, prepare_checkout.account_id);
    v_price record;
    v_plan billing.plans;
    v_trial_days integer;
    v_quantity bigint;
    v_success_url text;
    v_cancel_url text;
    v_customer jsonb;
    v_params jsonb;
    v_request billing.checkout_requests;
    v_superseded text[] := '{}';
begin
    select * into strict v_settings from billing.settings;
    perform billing._check_may_spend(v_account_id);
    select * into strict v_price from billing._price_on_sale(prepare_checkout.plan, prepare_checkout.pack);
    v_quantity := billing._checked_quantity(
        prepare_checkout.quantity, v_price.is_metered, v_price.seats_min, v_price.seats_max
    );
    v_success_url := coalesce(prepare_checkout.success_url, v_settings.site_url);
    v_cancel_url := coalesce(prepare_checkout.cancel_url, v_settings.site_url, v_success_url);
    perform billing._check_redirect('success_url', v_success_url);
    perform billing._check_redirect('cancel_url', v_cancel_url);
    if prepare_checkout.plan is not null then
        select * into strict v_plan from billing.plans where plans.stripe_price_id = v_price.stripe_price_id;
        v_trial_days := billing._trial_days(v_account_id, v_plan);
    end if;

    v_params := jsonb_strip_nulls(jsonb_build_object(
        'mode', case when prepare_checkout.plan is null then 'payment' else 'subscription' end,
        'line_items', jsonb_build_array(jsonb_build_object('price', v_price.stripe_price_id, 'quantity', v_quantity)),
        'success_url', billing._with_session_id(v_success_url),
        'cancel_url', v_cancel_url,
        'billing_address_collection', v_settings.billing_address_collection,
        'allow_promotion_codes', case when v_settings.allow_promotion_codes then true end,
        'automatic_tax', case when v_settings.automatic_tax then '{"enabled": true}'::jsonb end,
        'tax_id_collection', case when v_settings.collect_tax_ids then '{"enabled": true}'::jsonb end,
        -- Stripe takes the address and the business's name from the customer, so it must be allowed to save them there.
        'customer_update', case when v_settings.automatic_tax or v_settings.collect_tax_ids then
            '{"address": "auto", "name": "auto"}'::jsonb
        end,
        'branding_settings', v_settings.checkout_branding,
        -- For people who use Stripe's Dashboard; we never read it.
        'metadata', jsonb_build_object('account_id', v_account_id),
        'payment_method_collection', case when v_trial_days > 0 and v_settings.trial_without_card is not null then
            'if_required'
        end,
        'subscription_data', case when prepare_checkout.plan is not null then jsonb_build_object(
            'metadata', jsonb_build_object('account_id', v_account_id),
            'trial_period_days', v_trial_days,
            'trial_settings', case when v_trial_days > 0 and v_settings.trial_without_card is not null then
                jsonb_build_object(
                    'end_behavior', jsonb_build_object('missing_payment_method', v_settings.trial_without_card)
                )
            end
        ) end,
        'payment_intent_data', case when prepare_checkout.pack is not null then jsonb_build_object(
            'metadata', jsonb_build_object('account_id', v_account_id),
            'setup_future_usage', case when prepare_checkout.save_card then 'off_session' end
        ) end
    ));

    -- From here to the commit the clicks of an account run one after the other.
    v_customer := billing._claim_customer(v_account_id, v_settings.livemode);
    select requests.* into v_request from billing.checkout_requests as requests
    left join billing.checkout_sessions as sessions
        on sessions.stripe_checkout_session_id = requests.stripe_checkout_session_id
    where requests.account_id = v_account_id and requests.livemode = v_settings.livemode
        and requests.params = v_params and requests.discarded_at is null
        and requests.created_at > now() - interval '10 minutes'
        and coalesce(sessions.status, 'open') = 'open'
    order by requests.created_at desc
    limit 1;
    if not found then
        insert into billing.checkout_requests (
            account_id, user_id, livemode, stripe_price_id, quantity, params, idempotency_key
        )
        values (
            v_account_id, prepare_checkout.user_id, v_settings.livemode, v_price.stripe_price_id, v_quantity, v_params,
            gen_random_uuid()::text
        )
        returning * into v_request;
        perform billing._note_stripe_request(v_account_id, v_request.idempotency_key);
    end if;

    if prepare_checkout.plan is not null then
        v_superseded := billing._supersede_requests(
            v_account_id, v_plan, v_request.idempotency_key, v_trial_days > 0
        );
        -- In this order: a session that is paid at this moment is among those to expire, or is known to be paid.
        perform billing._check_not_subscribed(v_account_id, v_plan);
        if billing._trial_days(v_account_id, v_plan) is distinct from v_trial_days then
            raise exception 'a trial started at the same time' using errcode = '40001', hint = 'Try again.';
        end if;
    end if;
    return billing._begin_checkout(v_request, v_customer, v_superseded);
end
$$;

revoke all on function billing.prepare_checkout from public, anon, authenticated, service_role;
grant execute on function
    billing.prepare_checkout(uuid, text, text, numeric, text, text, boolean, uuid)
to billing_checkout;

comment on function billing.prepare_checkout(uuid, text, text, numeric, text, text, boolean, uuid) is 'Checks a user''s order. Returns the first step.';

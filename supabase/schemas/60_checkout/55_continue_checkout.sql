-- Checkout's steps: make the account's customer, expire the sessions that another plan excludes, open the session.
--
-- Invariant: if anything breaks, the same click later continues where this one stopped. Of two sessions that exclude each
-- other, one is expired.
--
-- continue_checkout is called by billing_checkout. Private: all other functions here.

-- The next step once the customer is known: expire these sessions, then open the request's own. Without a customer none is
-- opened: the request was superseded, and its own session is the one to expire.
create function billing._checkout_step(request billing.checkout_requests, stripe_customer_id text, sessions text[])
returns jsonb
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_calls jsonb := coalesce((
        select jsonb_agg(
            billing._stripe_call('post', '/v1/checkout/sessions/' || session_id || '/expire', '{}', keep => '{status}')
            order by place
        )
        from unnest(_checkout_step.sessions) with ordinality as session (session_id, place)
    ), '[]');
begin
    if _checkout_step.stripe_customer_id is not null then
        v_calls := v_calls || billing._stripe_call(
            'post', '/v1/checkout/sessions',
            params => (_checkout_step.request).params
                || jsonb_build_object('customer', _checkout_step.stripe_customer_id),
            keep => '{id,url,expires_at}',
            idempotency_key => (_checkout_step.request).idempotency_key
        );
    elsif v_calls = '[]' then
        return billing._refused_step(
            errcode => 'TB064',
            message => 'another checkout was started at the same time and replaces this one',
            hint => 'Continue with the other one, or start again.'
        );
    end if;
    return billing._stripe_step((_checkout_step.request).livemode, v_calls, jsonb_build_object(
        'asked', 'session', 'key', (_checkout_step.request).idempotency_key,
        'customer', _checkout_step.stripe_customer_id, 'expire', to_jsonb(_checkout_step.sessions)
    ));
end
$$;

-- The first step: the customer where the account has none (see _claim_customer).
create function billing._begin_checkout(request billing.checkout_requests, customer jsonb, sessions text[])
returns jsonb
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    if _begin_checkout.customer ? 'id' then
        return billing._checkout_step(
            _begin_checkout.request, _begin_checkout.customer ->> 'id', _begin_checkout.sessions
        );
    end if;
    return billing._stripe_step(
        (_begin_checkout.request).livemode, _begin_checkout.customer -> 'calls',
        jsonb_build_object(
            'asked', 'customer', 'key', (_begin_checkout.request).idempotency_key,
            'token', _begin_checkout.customer -> 'token', 'expire', to_jsonb(_begin_checkout.sessions)
        )
    );
end
$$;

-- The next click uses another key. Only the key that failed is discarded, so many clicks that fail together discard one.
create function billing._discard_checkout_key(idempotency_key text)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    update billing.checkout_requests set discarded_at = now()
    where checkout_requests.idempotency_key = _discard_checkout_key.idempotency_key
        and checkout_requests.discarded_at is null;
    update billing.customer_claims
    set idempotency_key = gen_random_uuid()::text,
        keyed_at = now(), may_exist = true, updated_at = now()
    where customer_claims.idempotency_key = _discard_checkout_key.idempotency_key
        and customer_claims.stripe_customer_id is null;
end
$$;

create function billing._refuse_checkout(answer jsonb)
returns jsonb
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_error jsonb := _refuse_checkout.answer -> 'error';
begin
    if billing._is_kept_by_stripe(v_error) then
        perform billing._discard_checkout_key(_refuse_checkout.answer ->> 'idempotency_key');
    elsif v_error ->> 'code' = 'resource_missing' and v_error ->> 'param' ~ '^line_items\y.*\yprice\y' then
        -- The price was deleted in Stripe, and its event has not arrived yet.
        return billing._refused_step(
            errcode => 'TB042', message => 'this plan or pack is no longer on sale',
            hint => 'Choose another plan or pack.'
        );
    end if;
    return billing._refused_by_stripe(v_error);
end
$$;

-- Stripe's answers to a step → the next step. The result is {"id", "url", "expires_at"} of the session.
create function billing.continue_checkout(state jsonb, answers jsonb)
returns jsonb
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_request billing.checkout_requests;
    v_asked text := continue_checkout.state ->> 'asked';
    v_customer_id text := continue_checkout.state ->> 'customer';
    v_sessions text[] := array(select jsonb_array_elements_text(continue_checkout.state -> 'expire'));
    v_answer jsonb := continue_checkout.answers -> -1;
    v_has_failed boolean := v_answer ? 'error';
    v_stands boolean;
begin
    select * into strict v_request from billing.checkout_requests
    where checkout_requests.idempotency_key = continue_checkout.state ->> 'key';

    if v_asked = 'customer' then
        if v_has_failed then
            return billing._refuse_checkout(v_answer);
        end if;
        return billing._checkout_step(v_request, billing._link_claimed_customer(
            v_request.account_id, (continue_checkout.state ->> 'token')::uuid, v_answer #>> '{body,id}'
        ), v_sessions);
    elsif v_asked = 'end' and v_answer #>> '{body,status}' = 'complete' then
        -- Just paid, and its event has not arrived yet.
        return billing._refused_step(
            errcode => 'TB045', message => 'the account is already subscribed: use the portal to change the plan',
            hint => 'The function portal opens it, and so does `till portal`.'
        );
    end if;

    -- Sessions are expired in order: one for each call that succeeded.
    v_sessions := v_sessions[1 + jsonb_array_length(continue_checkout.answers) - v_has_failed::integer:];
    update billing.checkout_requests set expired_at = now()
    where checkout_requests.stripe_checkout_session_id in (
            select jsonb_array_elements_text(continue_checkout.state -> 'expire') except select unnest(v_sessions)
        )
        and checkout_requests.expired_at is null;
    if v_has_failed then
        if v_asked = 'end' or v_sessions = '{}' or v_answer #>> '{error,status}' is distinct from '400' then
            return billing._refuse_checkout(v_answer);
        end if;
        -- Stripe expires open sessions only. Its error has no code for that, so read how the session ended.
        return billing._stripe_step(
            v_request.livemode,
            jsonb_build_array(billing._stripe_call(
                'get', '/v1/checkout/sessions/' || v_sessions[1], '{}', keep => '{status}'
            )),
            jsonb_build_object(
                'asked', 'end', 'key', v_request.idempotency_key, 'customer', v_customer_id,
                'expire', to_jsonb(v_sessions)
            )
        );
    elsif v_asked = 'end' or v_customer_id is null then
        return billing._checkout_step(v_request, v_customer_id, v_sessions);
    end if;

    update billing.checkout_requests set stripe_checkout_session_id = v_answer #>> '{body,id}'
    where checkout_requests.id = v_request.id
    returning checkout_requests.superseded_at is null into v_stands;
    if not v_stands then
        return billing._checkout_step(v_request, null, array[v_answer #>> '{body,id}']);
    end if;
    return jsonb_build_object('done', v_answer -> 'body');
end
$$;

revoke all on function
    billing._checkout_step, billing._begin_checkout, billing._discard_checkout_key, billing._refuse_checkout,
    billing.continue_checkout
from public, anon, authenticated, service_role;
grant execute on function billing.continue_checkout(jsonb, jsonb) to billing_checkout;

comment on function billing.continue_checkout(jsonb, jsonb) is 'Takes Stripe''s answers to a step of a checkout; returns the next step, or the open session.';

-- Steps: what to ask Stripe next. The edge functions and `till` make the calls. The order of the calls, their keys, and what
-- each answer means are decided here, so that they are written once.
--
-- prepare_… returns the first step, continue_…(state, answers) each later one. A step is one of
--   {"livemode", "calls", "state", "is_last"}        make the calls, then bring the answers and the state to continue_…;
--                                                    is_last: if all succeed, the last answer is the result
--   {"done": …}                                      the result
--   {"refused": {"code", "message", "hint"}}         an error of docs/reference/errors.md, returned and not raised: what was written stays
-- Calls are made in order, up to the first one that fails or finds what it looks for:
--   {"method", "path", "params",                     as in Stripe's API; nested names of a GET are written out: created[gte]
--    "idempotency_key",                              or null
--    "find",                                         or null: of a list, return the object whose metadata has these values
--    "keep"}                                         the fields to bring back
-- Answers, one for each call that was made:
--   {"body": {…}}                                    null if `find` found nothing
--   {"error": {"status", "type", "code", "param", "message"}, "idempotency_key"}    status is null if Stripe did not answer
--
-- Invariant: a state names rows by random keys and gives no rights: an answer changes no more than what Stripe said about these
-- rows. The same answer may be brought twice.
--
-- Private: all functions here.

create function billing._stripe_call(
    method text, path text, params jsonb, keep text[], idempotency_key text default null, find jsonb default null
)
returns jsonb
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return jsonb_build_object(
        'method', _stripe_call.method, 'path', _stripe_call.path, 'params', _stripe_call.params,
        'idempotency_key', _stripe_call.idempotency_key, 'find', _stripe_call.find, 'keep', to_jsonb(_stripe_call.keep)
    );
end
$$;

create function billing._stripe_step(livemode boolean, calls jsonb, state jsonb, is_last boolean default false)
returns jsonb
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return jsonb_build_object(
        'livemode', _stripe_step.livemode, 'calls', _stripe_step.calls, 'state', _stripe_step.state,
        'is_last', _stripe_step.is_last
    );
end
$$;

create function billing._refused_step(errcode text, message text, hint text)
returns jsonb
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return jsonb_build_object('refused', jsonb_build_object(
        'code', _refused_step.errcode, 'message', _refused_step.message, 'hint', _refused_step.hint
    ));
end
$$;

-- Whether Stripe will repeat this failure for the same Idempotency-Key, for a day: after a 5xx, and when the key was used with
-- other parameters. A 409 only says that the key is in use at this moment.
create function billing._is_kept_by_stripe(error jsonb)
returns boolean
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_status integer := (_is_kept_by_stripe.error ->> 'status')::integer;
begin
    return coalesce(
        v_status >= 500 or v_status <> 409 and _is_kept_by_stripe.error ->> 'type' = 'idempotency_error', false
    );
end
$$;

-- A failure of Stripe: unavailable (try again) or refused (trying again does not help).
create function billing._refused_by_stripe(error jsonb)
returns jsonb
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_status integer := (_refused_by_stripe.error ->> 'status')::integer;
begin
    if v_status is null or v_status in (409, 429) or v_status >= 500
        or _refused_by_stripe.error ->> 'type' in ('api_error', 'idempotency_error')
        or _refused_by_stripe.error ->> 'code' = 'rate_limit'
    then
        return billing._refused_step(
            errcode => 'TB062',
            message => format('Stripe is unavailable: %s', _refused_by_stripe.error ->> 'message'),
            hint => 'Nothing was bought; try again.'
        );
    end if;
    return billing._refused_step(
        errcode => 'TB063',
        message => format('Stripe refused the request: %s', _refused_by_stripe.error ->> 'message'),
        hint => 'Correct what Stripe names, or check STRIPE_API_KEY and its permissions.'
    );
end
$$;

revoke all on function
    billing._stripe_call, billing._stripe_step, billing._refused_step, billing._is_kept_by_stripe, billing._refused_by_stripe
from public, anon, authenticated, service_role;

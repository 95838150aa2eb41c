-- Steps: what a caller that has Stripe's key is to ask Stripe next. The edge functions and `till` carry them out, and know
-- nothing of what is bought: the order of the calls, their keys, and what each answer means stand in the database only.
--
-- prepare_… returns the first step, continue_…(state, answers) each further one. A step is one of
--   {"livemode", "calls", "state"}                   make the calls, and bring the answers back with the state as it is
--   {"done": …}                                      the result
--   {"refused": {"code", "message", "hint"}}         an error of docs/errors.md, returned and not raised: what was written stays
-- Calls are made in their order, up to the first that fails or finds what it looks for:
--   {"method", "path", "params", "idempotency_key",  null where there is none; Stripe's names throughout
--    "find",                                         of a list, the object whose metadata has all of these
--    "keep"}                                         the fields that are brought back
-- Answers, as many as calls were made:
--   {"body": {…}}                                    null when `find` found nothing
--   {"error": {"status", "type", "code", "param", "message"}, "idempotency_key"}    status is null when Stripe gave no answer
--
-- Invariant: a state names rows by their keys, which nobody can guess, and grants nothing: an answer changes no more than what
-- Stripe just said of these rows. Each answer may be brought twice.
--
-- Private: all of it.

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

create function billing._stripe_step(livemode boolean, calls jsonb, state jsonb)
returns jsonb
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return jsonb_build_object(
        'livemode', _stripe_step.livemode, 'calls', _stripe_step.calls, 'state', _stripe_step.state
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

-- Whether Stripe answers this Idempotency-Key for a day as it just did: with a failure, or that the key was used otherwise.
-- Not while another request has the key in use (409).
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

-- What the caller is told of Stripe's failure: to come again, or that Stripe refused what we sent.
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
            message => format('Stripe cannot be asked just now: %s', _refused_by_stripe.error ->> 'message'),
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

-- How often users make us ask Stripe: each call of an edge function that does.
--
-- Invariant: Stripe allows few requests in a second and for all users together, so no account makes more than thirty in
-- ten minutes. The same click again counts once; what is refused, or answered from what is here, counts for nothing. Older
-- rows go with the next request.
--
-- Only functions write; service_role reads. Private.

create table billing.stripe_requests (
    account_id uuid not null references billing.accounts (id),
    idempotency_key text not null,
    requested_at timestamptz not null default now(),
    primary key (account_id, idempotency_key)
);

alter table billing.stripe_requests enable row level security;

revoke all on billing.stripe_requests from public, anon, authenticated, service_role;
grant select on billing.stripe_requests to service_role;

create function billing._note_stripe_request(account_id uuid, idempotency_key text default gen_random_uuid()::text)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    delete from billing.stripe_requests
    where stripe_requests.account_id = _note_stripe_request.account_id
        and stripe_requests.requested_at <= now() - interval '10 minutes';
    insert into billing.stripe_requests (account_id, idempotency_key)
    values (_note_stripe_request.account_id, _note_stripe_request.idempotency_key)
    on conflict on constraint stripe_requests_pkey do nothing;
    if (
        select count(*) > 30 from billing.stripe_requests
        where stripe_requests.account_id = _note_stripe_request.account_id
    ) then
        raise exception 'too many requests of this account'
            using errcode = 'TB049', hint = 'Try again in ten minutes.';
    end if;
end
$$;

revoke all on function billing._note_stripe_request from public, anon, authenticated, service_role;

comment on table billing.stripe_requests is 'When an account''s users made us ask Stripe, in the last ten minutes.';

-- Rate limit for requests to Stripe: one row for each call of an edge function that sends any.
--
-- Invariant: Stripe allows few requests a second for all users together, so an account makes at most thirty in ten
-- minutes. A repeated click counts once; refused requests, and those answered from the database, do not count. Older
-- rows are deleted by the next request.
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
        raise exception 'too many requests for this account'
            using errcode = 'TB049', hint = 'Try again in ten minutes.';
    end if;
end
$$;

revoke all on function billing._note_stripe_request from public, anon, authenticated, service_role;

comment on table billing.stripe_requests is 'Requests to Stripe that an account''s users caused in the last ten minutes.';

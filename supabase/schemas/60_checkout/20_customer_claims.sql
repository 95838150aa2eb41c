-- Claims: an account's right to one Stripe customer, from the first click to the link.
--
-- Invariant: an account gets one customer, however many clicks there are at once, and whatever fails between Stripe's
-- answer and our link. All clicks send the claim's own parameters under the claim's own Idempotency-Key, so Stripe
-- creates one customer and returns it each time. If Stripe has forgotten the key (after a day) or keeps answering with
-- a failure, the customer is found by the claim's token in its metadata, which only we can have written.
--
-- Private: all functions here.

create table billing.customer_claims (
    account_id uuid not null references billing.accounts (id),
    livemode boolean not null,
    token uuid not null default gen_random_uuid(),
    idempotency_key text not null unique,
    keyed_at timestamptz not null default now(),
    may_exist boolean not null default false,
    email text,
    name text,
    stripe_customer_id text,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    primary key (account_id, livemode)
);

alter table billing.customer_claims enable row level security;

revoke all on billing.customer_claims from public, anon, authenticated, service_role;
grant select on billing.customer_claims to service_role;

-- The name of a new customer in Stripe: the team's name, or the name that the user gave; null if there is none.
create function billing._name_of_account(account_id uuid)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select left(
        coalesce(
            nullif(pg_catalog.btrim(accounts.name), ''), nullif(pg_catalog.btrim(users.raw_user_meta_data ->> 'full_name'), ''),
            nullif(pg_catalog.btrim(users.raw_user_meta_data ->> 'name'), '')
        ),
        256
    )
    from billing.accounts
    left join auth.users on users.id = accounts.owner_id
    where accounts.id = _name_of_account.account_id
$$;

-- The account's customer: {"id"}, or the calls that create it: {"token", "calls"}. If a customer with the token may
-- exist, they search for it first. Holds the claim's lock.
create function billing._claim_customer(account_id uuid, livemode boolean)
returns jsonb
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_claim billing.customer_claims;
    v_customer_id text;
    v_calls jsonb;
    v_email text := (
        select users.email from billing.accounts join auth.users on users.id = accounts.owner_id
        where accounts.id = _claim_customer.account_id
    );
begin
    insert into billing.customer_claims (account_id, livemode, email, name, idempotency_key)
    values (
        _claim_customer.account_id, _claim_customer.livemode, v_email,
        billing._name_of_account(_claim_customer.account_id),
        gen_random_uuid()::text
    )
    on conflict on constraint customer_claims_pkey do nothing;
    select * into strict v_claim from billing.customer_claims
    where customer_claims.account_id = _claim_customer.account_id and customer_claims.livemode = _claim_customer.livemode
    for update;

    v_customer_id := billing._customer_of(_claim_customer.account_id, _claim_customer.livemode);
    if v_customer_id is not null then
        return jsonb_build_object('id', v_customer_id);
    end if;

    -- A linked customer that was deleted in Stripe since, or a key that Stripe is about to forget.
    if v_claim.stripe_customer_id is not null or v_claim.keyed_at < now() - interval '23 hours' then
        update billing.customer_claims
        set token = case when v_claim.stripe_customer_id is null then v_claim.token else gen_random_uuid() end,
            email = case when v_claim.stripe_customer_id is null then v_claim.email else v_email end,
            name = billing._name_of_account(v_claim.account_id),
            may_exist = v_claim.stripe_customer_id is null,
            stripe_customer_id = null,
            idempotency_key = gen_random_uuid()::text,
            keyed_at = now(), updated_at = now()
        where customer_claims.account_id = v_claim.account_id and customer_claims.livemode = v_claim.livemode
        returning * into v_claim;
    end if;

    v_calls := jsonb_build_array(billing._stripe_call(
        'post', '/v1/customers',
        params => jsonb_strip_nulls(jsonb_build_object(
            'email', v_claim.email,
            'name', v_claim.name,
            'metadata', jsonb_build_object('account_id', v_claim.account_id, 'tillbase_claim', v_claim.token)
        )),
        keep => '{id}',
        idempotency_key => v_claim.idempotency_key
    ));
    if v_claim.may_exist then
        v_calls := billing._stripe_call(
            'get', '/v1/customers',
            params => '{"limit": 100}'::jsonb || case
                when v_claim.email is not null then jsonb_build_object('email', v_claim.email)
                else jsonb_build_object('created[gte]', extract(epoch from v_claim.created_at)::bigint - 300)
            end,
            keep => '{id}',
            find => jsonb_build_object('tillbase_claim', v_claim.token)
        ) || v_calls;
    end if;
    return jsonb_build_object('token', v_claim.token, 'calls', v_calls);
end
$$;

-- The account's current customer: the given one, unless the account was linked to another one meanwhile.
create function billing._link_claimed_customer(account_id uuid, claim_token uuid, stripe_customer_id text)
returns text
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_claim billing.customer_claims;
    v_customer_id text;
begin
    perform billing._lock_balance(_link_claimed_customer.account_id);
    select * into v_claim from billing.customer_claims
    where customer_claims.account_id = _link_claimed_customer.account_id
        and customer_claims.token = _link_claimed_customer.claim_token
    for update;
    if not found then
        raise exception 'account % has no such customer claim', _link_claimed_customer.account_id
            using errcode = 'TB018', hint = 'The claim was replaced. Call billing.prepare_checkout again.';
    end if;

    v_customer_id := billing._customer_of(v_claim.account_id, v_claim.livemode);
    if v_customer_id is null then
        perform billing.link_customer(v_claim.account_id, _link_claimed_customer.stripe_customer_id, v_claim.livemode);
        v_customer_id := _link_claimed_customer.stripe_customer_id;
        -- The address may have changed since the claim was made.
        perform billing._follow_email(v_customer_id, v_claim.email, users.email)
        from billing.accounts
        join auth.users on users.id = accounts.owner_id
        where accounts.id = v_claim.account_id and users.email <> '' and users.email is distinct from v_claim.email;
    end if;
    update billing.customer_claims set stripe_customer_id = v_customer_id, may_exist = false, updated_at = now()
    where customer_claims.account_id = v_claim.account_id and customer_claims.livemode = v_claim.livemode;
    return v_customer_id;
end
$$;

revoke all on function
    billing._name_of_account, billing._claim_customer, billing._link_claimed_customer
from public, anon, authenticated, service_role;

comment on table billing.customer_claims is 'Stripe customers that accounts are getting, or got, by checkout.';
comment on column billing.customer_claims.token is 'Stored only in the metadata of the customer that we created for this claim.';
comment on column billing.customer_claims.keyed_at is 'Since when the idempotency key is in use; Stripe forgets it after a day.';
comment on column billing.customer_claims.may_exist is 'True if Stripe may have created the customer under an earlier key whose answer was lost.';

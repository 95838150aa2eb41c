-- References: the account of a payment through a Payment Link, signed by us.
--
-- Stripe copies `?client_reference_id=…` from a link's URL to the session that it opens, and anybody can edit the URL. So a
-- reference names an account only if we signed it: tb1_<t|l>_<key>_<account>_<expiry>_<HMAC-SHA256 of all before>, in
-- characters that Stripe accepts (A-Z a-z 0-9 _ -, at most 200). t and l are Stripe's modes; a reference is valid in its own
-- mode only. It names the account, never the price or the amount: who uses another account's reference pays for that account.
--
-- Invariant: only the owner of the database can read a key, and no function returns one. The newest key signs; each key
-- verifies what it signed. To rotate, insert a new key, and delete the old one when its references have expired.
--
-- payment_reference   service_role: for links that the app created itself
-- All others are private.

create table billing.payment_reference_keys (
    id integer generated always as identity primary key,
    -- One block of SHA-256, from five UUIDs with 122 random bits each.
    secret bytea not null default sha512(
        uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())
        || uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())
    ),
    created_at timestamptz not null default now(),
    constraint secret_is_one_block check (length(secret) = 64)
);

insert into billing.payment_reference_keys default values;

alter table billing.payment_reference_keys enable row level security;

revoke all on all sequences in schema billing from public, anon, authenticated, service_role;
revoke all on billing.payment_reference_keys from public, anon, authenticated, service_role;

-- RFC 2104 with a key of one block; in plain Postgres, because pgcrypto is in a different schema in each project.
create function billing._hmac_sha256(key bytea, message text)
returns bytea
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
    with pads as (
        select
            string_agg(decode(lpad(to_hex(get_byte(_hmac_sha256.key, place) # 54), 2, '0'), 'hex'), '' order by place)
                as inner_pad,
            string_agg(decode(lpad(to_hex(get_byte(_hmac_sha256.key, place) # 92), 2, '0'), 'hex'), '' order by place)
                as outer_pad
        from pg_catalog.generate_series(0, 63) as place
    )
    select sha256(pads.outer_pad || sha256(pads.inner_pad || convert_to(_hmac_sha256.message, 'UTF8'))) from pads
$$;

create function billing._sign_reference(account_id uuid, livemode boolean, expires_at timestamptz)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select signed.text || '_' || encode(billing._hmac_sha256(keys.secret, signed.text), 'hex')
    from (
        select * from billing.payment_reference_keys order by payment_reference_keys.id desc limit 1
    ) as keys,
    lateral (
        select pg_catalog.format(
            'tb1_%s_%s_%s_%s', case when _sign_reference.livemode then 'l' else 't' end, keys.id,
            replace(_sign_reference.account_id::text, '-', ''), floor(extract(epoch from _sign_reference.expires_at))
        ) as text
    ) as signed
$$;

-- The account that a reference names, or why it names none: missing, unsigned (not ours), forged (or its key was
-- deleted), other_mode, expired. used_at: when the session was opened with it.
create function billing._read_reference(reference text, livemode boolean, used_at timestamptz)
returns table (account_id uuid, refusal text)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_found text[] := pg_catalog.regexp_match(
        _read_reference.reference, '^(tb1_([tl])_([1-9][0-9]{0,8})_([0-9a-f]{32})_([0-9]{1,12}))_([0-9a-f]{64})$'
    );
    v_secret bytea;
begin
    if _read_reference.reference is null then
        return query select null::uuid, 'missing';
        return;
    elsif v_found is null then
        return query select null::uuid, 'unsigned';
        return;
    end if;
    select keys.secret into v_secret from billing.payment_reference_keys as keys where keys.id = v_found[3]::integer;
    return query
    select
        accounts.id,
        case
            when v_secret is null or accounts.id is null
                or encode(billing._hmac_sha256(v_secret, v_found[1]), 'hex') <> v_found[6] then 'forged'
            when v_found[2] <> case when _read_reference.livemode then 'l' else 't' end then 'other_mode'
            when coalesce(_read_reference.used_at, 'infinity') > to_timestamp(v_found[5]::bigint) then 'expired'
        end
    from (select v_found[4]::uuid as id) as named
    left join billing.accounts on accounts.id = named.id;
end
$$;

create function billing.payment_reference(account_id uuid, expires_in interval default null)
returns text
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_expires_in interval := coalesce(
        payment_reference.expires_in, (select settings.payment_reference_lifetime from billing.settings)
    );
begin
    if not exists (select from billing.accounts where accounts.id = payment_reference.account_id) then
        perform billing._raise_no_account(payment_reference.account_id);
    elsif v_expires_in not between interval '1 minute' and interval '1 year' then
        raise exception 'expires_in must be from one minute to one year'
            using errcode = 'TB060', hint = 'Leave expires_in out to use billing.settings.payment_reference_lifetime.';
    end if;
    return billing._sign_reference(payment_reference.account_id, billing.is_livemode(), now() + v_expires_in);
end
$$;

revoke all on function
    billing._hmac_sha256, billing._sign_reference, billing._read_reference, billing.payment_reference
from public, anon, authenticated, service_role;
grant execute on function billing.payment_reference(uuid, interval) to service_role;

comment on table billing.payment_reference_keys is 'Keys that sign the references of payments through Payment Links; the newest one signs. Only the owner of the database can read them.';
comment on function billing.payment_reference(uuid, interval) is 'A client_reference_id that assigns a payment through a Payment Link to the account: add ?client_reference_id=… to the link''s URL.';

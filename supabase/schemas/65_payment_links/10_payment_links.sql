-- Payment Links: one active link for each plan or pack and options.
--
-- Options are parameters of Stripe (custom_fields, automatic_tax, after_completion …): those of the settings, overridden by
-- the caller's. Price and options are the link's parameters, and there is one active link for each hash of them. Concurrent
-- requests send the row's parameters with the row's Idempotency-Key, so Stripe creates one link. If Stripe has forgotten the
-- key, or keeps answering it with a failure, the link is found by the row's id in its metadata.
--
-- Invariant: an inactive link never becomes active again; the next request creates a new one.
--
-- Only functions write; service_role reads. Private: all functions here.

create table billing.payment_links (
    id uuid primary key default gen_random_uuid(),
    livemode boolean not null,
    stripe_price_id text not null,
    options jsonb not null,
    params jsonb not null,
    params_hash bytea not null,
    idempotency_key text not null unique,
    keyed_at timestamptz not null default now(),
    may_exist boolean not null default false,
    stripe_payment_link_id text unique,
    url text,
    active boolean not null default true,
    confirmed_at timestamptz,
    retired_at timestamptz,
    retired_reason text,
    deactivate_at timestamptz,
    deactivated_at timestamptz,
    last_error text,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint url_comes_with_the_link check ((url is null) = (stripe_payment_link_id is null)),
    constraint retired_links_say_when_and_why
    check (active = (retired_at is null) and active = (retired_reason is null)),
    constraint only_retired_links_are_deactivated
    check (not active or deactivate_at is null and deactivated_at is null),
    constraint options_are_an_object check (jsonb_typeof(options) = 'object')
);

create unique index payment_links_params on billing.payment_links (params_hash, livemode) where active;
create index payment_links_price on billing.payment_links (stripe_price_id);
create index payment_links_due on billing.payment_links (deactivate_at) where deactivate_at is not null;

alter table billing.payment_links enable row level security;

revoke all on billing.payment_links from public, anon, authenticated, service_role;
grant select on billing.payment_links to service_role;

-- The options of a link: the settings', overridden by the caller's. Raises for unknown ones, and for a redirect to an
-- origin that is not allowed.
create function billing._link_options(options jsonb)
returns jsonb
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_options jsonb;
begin
    if not coalesce(billing._are_link_options(coalesce(_link_options.options, '{}')), false) then
        raise exception 'options of a payment link must be an object of supported names'
            using errcode = 'TB061',
            hint = 'Names are Stripe''s: after_completion, allow_promotion_codes, automatic_tax, custom_fields …; see docs/how-to/payment-links.md.';
    end if;
    select jsonb_strip_nulls(
        jsonb_build_object(
            'allow_promotion_codes', case when settings.allow_promotion_codes then true end,
            'automatic_tax', case when settings.automatic_tax then '{"enabled": true}'::jsonb end,
            'billing_address_collection', settings.billing_address_collection,
            'tax_id_collection', case when settings.collect_tax_ids then '{"enabled": true}'::jsonb end
        ) || settings.payment_link_options || coalesce(_link_options.options, '{}')
    ) into strict v_options
    from billing.settings;
    if v_options #> '{after_completion,redirect}' is not null then
        perform billing._check_redirect('after_completion', v_options #>> '{after_completion,redirect,url}');
    end if;
    return v_options;
end
$$;

-- The next step for a link (see 60_checkout/15_stripe_steps.sql): return its URL, ask Stripe whether it is active, or
-- create it. name: the plan or pack as the caller named it.
create function billing._link_step(link billing.payment_links, name text)
returns jsonb
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_calls jsonb := '[]';
begin
    -- Events report it too, so not every click needs a request to Stripe.
    if (_link_step.link).confirmed_at >= now() - interval '10 seconds' then
        return jsonb_build_object('done', jsonb_build_object('url', (_link_step.link).url));
    elsif (_link_step.link).url is not null then
        return billing._stripe_step(
            (_link_step.link).livemode,
            jsonb_build_array(billing._stripe_call(
                'get', '/v1/payment_links/' || (_link_step.link).stripe_payment_link_id, '{}', keep => '{active}'
            )),
            jsonb_build_object('check', (_link_step.link).stripe_payment_link_id, 'name', _link_step.name)
        );
    end if;
    if (_link_step.link).may_exist then
        v_calls := jsonb_build_array(billing._stripe_call(
            'get', '/v1/payment_links', '{"active": true, "limit": 100}', keep => '{id,url}',
            find => jsonb_build_object('tillbase_link', (_link_step.link).id)
        ));
    end if;
    return billing._stripe_step(
        (_link_step.link).livemode,
        v_calls || billing._stripe_call(
            'post', '/v1/payment_links',
            params => (_link_step.link).params
                || jsonb_build_object('metadata', jsonb_build_object('tillbase_link', (_link_step.link).id)),
            keep => '{id,url}',
            idempotency_key => (_link_step.link).idempotency_key
        ),
        jsonb_build_object('token', (_link_step.link).id)
    );
end
$$;

-- The link of a price on sale. Holds the row's lock.
create function billing._claim_link(stripe_price_id text, quantity bigint, is_pack boolean, options jsonb, name text)
returns jsonb
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_livemode boolean := billing.is_livemode();
    v_options jsonb := billing._link_options(_claim_link.options);
    v_params jsonb := v_options || jsonb_strip_nulls(jsonb_build_object(
        'line_items', jsonb_build_array(
            jsonb_build_object('price', _claim_link.stripe_price_id, 'quantity', _claim_link.quantity)
        ),
        -- The credits need a customer to belong to; a subscription always creates one.
        'customer_creation', case when _claim_link.is_pack then 'always' end
    ));
    -- jsonb prints its keys in a fixed order, so equal options have one hash.
    v_hash bytea := sha256(convert_to(v_params::text, 'UTF8'));
    v_link billing.payment_links;
begin
    -- Repeated if the row was created or retired while this transaction waited for a lock.
    loop
        select * into v_link from billing.payment_links
        where payment_links.params_hash = v_hash and payment_links.livemode = v_livemode and payment_links.active
        for update;
        exit when found;
        perform billing._hold_price(_claim_link.stripe_price_id, _claim_link.name);
        insert into billing.payment_links (livemode, stripe_price_id, options, params, params_hash, idempotency_key)
        values (
            v_livemode, _claim_link.stripe_price_id, v_options, v_params, v_hash,
            gen_random_uuid()::text
        )
        on conflict (params_hash, livemode) where active do nothing;
    end loop;
    -- A key that Stripe is about to forget.
    if v_link.url is null and v_link.keyed_at < now() - interval '23 hours' then
        update billing.payment_links
        set idempotency_key = gen_random_uuid()::text, keyed_at = now(), may_exist = true,
            updated_at = now()
        where payment_links.id = v_link.id
        returning * into v_link;
    end if;
    return billing._link_step(v_link, _claim_link.name);
end
$$;

revoke all on function
    billing._link_options, billing._link_step, billing._claim_link
from public, anon, authenticated, service_role;

comment on table billing.payment_links is 'Payment Links that Tillbase created; one is active for each price and options.';
comment on column billing.payment_links.id is 'Also in the metadata (tillbase_link) of the link that was created for this row.';
comment on column billing.payment_links.params is 'The parameters of the request to Stripe, without the metadata.';
comment on column billing.payment_links.params_hash is 'SHA-256 of params.';
comment on column billing.payment_links.active is 'True while the link is offered; permanently false once the link or its price is deleted or inactive in Stripe.';
comment on column billing.payment_links.confirmed_at is 'When Stripe last confirmed that the link is active.';
comment on column billing.payment_links.retired_reason is 'price: changed, or no longer on sale. stripe: inactive or deleted in Stripe. duplicate: another link replaced it. caller: by till.';
comment on column billing.payment_links.deactivate_at is 'Since when the worker has to deactivate it in Stripe; null: nothing to do.';

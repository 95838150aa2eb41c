-- What the app's own pages may ask Stripe for: the role they do it as, the owner's settings, and the URLs they may name.
--
-- Invariant: Stripe is never given a URL whose origin the owner did not name, compared whole after parsing: neither
-- checkout nor the portal can be made to redirect elsewhere. Without settings no URL is allowed.
--
-- billing_checkout   may execute what the edge functions `checkout` and `portal` call, and nothing else
-- Private: _origin_of, _are_origins, _check_redirect.

do $$
begin
    if not exists (select from pg_catalog.pg_roles where rolname = 'billing_checkout') then
        create role billing_checkout nologin noinherit;
    end if;
end
$$;

grant billing_checkout to postgres;
grant usage on schema billing to billing_checkout;

-- scheme://host[:port] of a web address, as browsers compare it; null for whatever is not plainly one. Names and
-- passwords, backslashes, spaces and anything but ASCII have no place in it: browsers disagree about them.
create function billing._origin_of(url text)
returns text
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
    select parts[1] || '://' || lower(parts[2])
        || case when parts[3]::integer = case parts[1] when 'https' then 443 else 80 end then '' else ':' || parts[3] end
    from (
        select array[found[1], found[2], coalesce(found[3], case found[1] when 'https' then '443' else '80' end)] as parts
        from pg_catalog.regexp_match(
            _origin_of.url,
            '^(https?)://([A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|\[::1\])(?::([1-9][0-9]{0,4}))?(?:[/?#][!-\[\]-~]*)?$'
        ) as found
        where found is not null
    ) as address
$$;

create function billing._are_origins(urls text[])
returns boolean
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
    select coalesce(bool_and(billing._origin_of(url) is not distinct from url), true)
    from unnest(_are_origins.urls) as url
$$;

alter table billing.settings
add column site_url text,
add column allowed_redirect_origins text[] not null default '{}',
add column one_subscription_per text not null default 'product',
add column max_checkout_quantity bigint not null default 100,
add column allow_promotion_codes boolean not null default true,
add column automatic_tax boolean not null default false,
add column collect_tax_ids boolean not null default false,
add column billing_address_collection text not null default 'auto',
add column one_trial_per text not null default 'product',
add column trial_without_card text,
add column checkout_branding jsonb,
add constraint site_url_is_a_web_address check (site_url is null or billing._origin_of(site_url) is not null),
add constraint redirect_origins_are_origins check (billing._are_origins(allowed_redirect_origins)),
add constraint one_subscription_per_is_known check (one_subscription_per in ('price', 'product', 'account', 'none')),
add constraint billing_address_collection_is_known check (billing_address_collection in ('auto', 'required')),
add constraint one_trial_per_is_known check (one_trial_per in ('product', 'account', 'none')),
add constraint trial_without_card_is_known check (trial_without_card in ('cancel', 'pause', 'create_invoice')),
add constraint max_checkout_quantity_is_positive check (max_checkout_quantity > 0),
add constraint checkout_branding_is_an_object check (jsonb_typeof(checkout_branding) = 'object');

-- Refuses a URL that leads to an origin which the owner did not name.
create function billing._check_redirect(parameter text, url text)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    if _check_redirect.url is null or length(_check_redirect.url) > 2000 or not exists (
        select from billing.settings
        where billing._origin_of(_check_redirect.url)
            = any (settings.allowed_redirect_origins || billing._origin_of(settings.site_url))
    ) then
        raise exception '% does not lead to this app', _check_redirect.parameter
            using errcode = 'TB044',
            hint = 'Set billing.settings.site_url, or add the origin (https://app.example.com) to allowed_redirect_origins.';
    end if;
end
$$;

revoke all on function billing._origin_of, billing._are_origins, billing._check_redirect
from public, anon, authenticated, service_role;

comment on column billing.settings.site_url is 'Where the app lives; users come back here from Stripe unless they are sent elsewhere.';
comment on column billing.settings.allowed_redirect_origins is 'Further origins (scheme://host[:port]) that users may be sent back to.';
comment on column billing.settings.one_subscription_per is 'Whom checkout sends to the portal instead: subscribers of the same price, of the same product, of anything (account), or nobody (none).';
comment on column billing.settings.max_checkout_quantity is 'The most units of a price that one checkout may be for, unless the plan declares seats.';
comment on column billing.settings.allow_promotion_codes is 'Whether checkout has a field for promotion codes.';
comment on column billing.settings.automatic_tax is 'Whether Stripe works out the tax at checkout (Stripe Tax must be set up).';
comment on column billing.settings.collect_tax_ids is 'Whether checkout has a field for a business''s tax id.';
comment on column billing.settings.billing_address_collection is 'Whether checkout asks for an address when it needs one (auto), or always (required).';
comment on column billing.settings.one_trial_per is 'Who gets the trial of a plan: whoever never subscribed to its product, never subscribed to anything (account), or everybody (none).';
comment on column billing.settings.trial_without_card is 'Trials begin without a card, and a subscription that still has none at the end is cancelled, paused, or billed by an invoice that nobody pays (create_invoice). Null: a card is asked for at once.';
comment on column billing.settings.checkout_branding is 'branding_settings of every Checkout Session; null for those of the Stripe account.';

-- The URLs to which Stripe's pages may redirect users.
--
-- Invariant: Stripe only gets URLs with an origin that the owner has set, compared as a whole after parsing, so
-- checkout and the portal cannot be made to redirect elsewhere. Without settings no URL is allowed.
--
-- Private: _check_redirect.

-- Raises if a URL's origin is not one that the owner has set.
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
        raise exception 'the origin of % is not allowed', _check_redirect.parameter
            using errcode = 'TB044',
            hint = 'Set billing.settings.site_url, or add the origin (https://app.example.com) to allowed_redirect_origins.';
    end if;
end
$$;

revoke all on function billing._check_redirect from public, anon, authenticated, service_role;

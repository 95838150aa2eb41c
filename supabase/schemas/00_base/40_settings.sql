-- All settings of this installation, and the clock that all functions of `billing` read.
--
-- Invariant: one row of settings, one row of clock. Billing time can be ahead of the real time only in a local stack:
-- moving it needs a superuser session, which hosted projects don't have.

-- scheme://host[:port] of a web address, as browsers compare it; null if it is not a plain web address. User names and
-- passwords, backslashes, spaces and non-ASCII characters are refused, because browsers parse them differently.
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

-- Stripe's parameters that the owner may set. None of them changes the account, the price or the amount of a payment.
create function billing._are_link_options(options jsonb)
returns boolean
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
    select case when jsonb_typeof(_are_link_options.options) <> 'object' then false else not exists (
        select from jsonb_object_keys(_are_link_options.options) as name
        where name not in (
            'after_completion', 'allow_promotion_codes', 'automatic_tax', 'billing_address_collection',
            'consent_collection', 'custom_fields', 'custom_text', 'inactive_message', 'phone_number_collection',
            'submit_type', 'tax_id_collection'
        )
    ) end
$$;

create table billing.settings (
    id boolean primary key default true,
    livemode boolean not null default false,
    updated_at timestamptz not null default now(),
    -- Stripe
    stripe_account_id text,
    -- Payments from before this installation
    credits_since timestamptz,
    grants_current_period boolean not null default false,
    -- One-time credits
    initial_credits_per text not null default 'product',
    seen_card_policy text,
    -- Refunds
    shortfall_policy text not null default 'clamp_and_record',
    -- Features
    past_due_keeps_features boolean not null default true,
    -- Checkout and portal
    site_url text,
    allowed_redirect_origins text[] not null default '{}',
    one_subscription_per text not null default 'product',
    max_checkout_quantity bigint not null default 100,
    allow_promotion_codes boolean not null default true,
    automatic_tax boolean not null default false,
    collect_tax_ids boolean not null default false,
    billing_address_collection text not null default 'auto',
    one_trial_per text not null default 'product',
    trial_without_card text,
    checkout_branding jsonb,
    -- Payment Links
    payment_reference_lifetime interval not null default '1 day',
    payment_link_options jsonb not null default '{}',
    -- Notifications
    customer_notifications text[] not null default '{}',
    notification_rate integer not null default 5,
    notification_window interval not null default '10 minutes',
    notification_deadline interval not null default '3 days',
    notification_retention interval not null default '90 days',
    silence_after interval default '2 days',
    expiring_credits_notice interval not null default '7 days',
    worker_missing_after interval default '3 minutes',
    alert_webhook_url text,
    -- Events
    keep_events_days integer not null default 90,
    -- Fraud, refunds and deleted users
    fraud_dry_run boolean not null default false,
    refund_policy text,
    on_user_deleted text not null default 'report',
    -- Teams
    limit_members_to_seats boolean not null default false,
    invitation_lifetime interval not null default '7 days',
    constraint there_is_one_row check (id),
    constraint stripe_account_id_is_one check (stripe_account_id ~ '^acct_[A-Za-z0-9_]+$'),
    constraint initial_credits_per_is_known check (initial_credits_per in ('product', 'account')),
    constraint seen_card_policy_is_known check (seen_card_policy in ('grant', 'hold', 'refuse')),
    constraint shortfall_policy_is_known check (
        shortfall_policy in ('clamp_and_record', 'allow_negative', 'block_future_grants')
    ),
    constraint site_url_is_a_web_address check (site_url is null or billing._origin_of(site_url) is not null),
    constraint redirect_origins_are_origins check (billing._are_origins(allowed_redirect_origins)),
    constraint one_subscription_per_is_known check (one_subscription_per in ('price', 'product', 'account', 'none')),
    constraint billing_address_collection_is_known check (billing_address_collection in ('auto', 'required')),
    constraint one_trial_per_is_known check (one_trial_per in ('product', 'account', 'none')),
    constraint trial_without_card_is_known check (trial_without_card in ('cancel', 'pause', 'create_invoice')),
    constraint max_checkout_quantity_is_positive check (max_checkout_quantity > 0),
    constraint checkout_branding_is_an_object check (jsonb_typeof(checkout_branding) = 'object'),
    constraint payment_reference_lifetime_is_positive check (
        payment_reference_lifetime between interval '1 minute' and interval '1 year'
    ),
    constraint payment_link_options_are_known check (billing._are_link_options(payment_link_options)),
    constraint customer_notifications_are_known check (
        customer_notifications::billing.notification_kind[] is not null
    ),
    constraint notification_rate_is_positive check (notification_rate > 0),
    constraint notification_window_is_positive check (notification_window > interval '0'),
    constraint notification_deadline_is_positive check (notification_deadline > interval '0'),
    -- Stripe retries an event for three days, and lets you resend it for thirty. Until then its dedupe key must be
    -- kept.
    constraint notifications_are_kept_for_replays check (notification_retention >= interval '30 days'),
    constraint silence_is_an_hour_at_least check (silence_after >= interval '1 hour'),
    constraint expiring_credits_notice_is_positive check (expiring_credits_notice > interval '0'),
    constraint worker_missing_after_is_a_minute_at_least check (worker_missing_after >= interval '1 minute'),
    constraint alert_webhook_url_is_a_web_address check (
        alert_webhook_url is null or billing._origin_of(alert_webhook_url) is not null
    ),
    constraint keep_events_days_is_positive check (keep_events_days > 0),
    constraint refund_policy_fits_stripe check (length(refund_policy) between 1 and 20000),
    constraint invitation_lifetime_is_positive check (invitation_lifetime between interval '1 minute' and interval '1 year'),
    constraint on_user_deleted_is_known check (on_user_deleted in ('report', 'cancel'))
);

create table billing.clock (
    id boolean primary key default true,
    ahead_by interval not null default interval '0',
    constraint there_is_one_row check (id),
    constraint ahead_by_is_not_negative check (ahead_by >= interval '0')
);

insert into billing.settings default values;
insert into billing.clock default values;

alter table billing.settings enable row level security;
alter table billing.clock enable row level security;

revoke all on billing.settings, billing.clock from public, anon, authenticated, service_role;

create function billing.tg_clock__local_only()
returns trigger
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    if not exists (select from pg_catalog.pg_roles where rolname = session_user and rolsuper) then
        raise exception 'the clock can only be moved in a local stack'
            using errcode = 'TB013', hint = 'Use Stripe test clocks with `till dev`.';
    end if;
    return null;
end
$$;

create trigger tg_clock__local_only
before insert or update or delete or truncate on billing.clock
for each statement execute function billing.tg_clock__local_only();

create function billing.current_time()
returns timestamptz
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    -- Not the start of the transaction, which may have waited long for a lock: a movement uses the time at which it
    -- holds the lock.
    return (select clock_timestamp() + clock.ahead_by from billing.clock);
end
$$;

create function billing.is_livemode()
returns boolean
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
    select settings.livemode from billing.settings
$$;

revoke all on function
    billing._origin_of, billing._are_origins, billing._are_link_options, billing.tg_clock__local_only,
    billing.current_time, billing.is_livemode
from public, anon, authenticated, service_role;
grant execute on function billing.current_time() to anon, authenticated, service_role, billing_worker;
grant execute on function billing.is_livemode() to anon, authenticated, service_role, billing_worker;

comment on table billing.settings is 'Settings of this installation; one row.';
comment on column billing.settings.livemode is 'True when real money is expected. Events of the other mode are recorded and ignored.';
comment on column billing.settings.stripe_account_id is 'The Stripe account of this installation; null until a worker has read it from Stripe. Events of other accounts are ignored. Set it to null to move to another account.';
comment on column billing.settings.credits_since is 'Payments before this time give no credits; null: all do. Set once, by `till backfill`. What is already recorded stays as it is.';
comment on column billing.settings.grants_current_period is 'True if a period that was paid for before credits_since gives the credits of its time after it.';
comment on column billing.settings.initial_credits_per is 'Initial credits are granted once for each account and product, or once for each account.';
comment on column billing.settings.seen_card_policy is 'What happens to initial, trial and free credits if the card was already used on another account: grant, hold (for review by an administrator) or refuse. Null: hold in live mode, grant in test mode, where everybody uses the same test cards.';
comment on column billing.settings.shortfall_policy is 'What happens to spent credits whose payment is refunded: clamp_and_record (recorded only), allow_negative (debt), block_future_grants (withheld from later grants).';
comment on column billing.settings.past_due_keeps_features is 'True if a subscription keeps its features after a failed renewal while Stripe retries the payment.';
comment on column billing.settings.site_url is 'The app''s address: Stripe redirects users here unless a request names another page.';
comment on column billing.settings.allowed_redirect_origins is 'Further origins (scheme://host[:port]) to which users may be redirected.';
comment on column billing.settings.one_subscription_per is 'Which existing subscribers checkout sends to the portal: of the same price, of the same product, of any plan (account), or none.';
comment on column billing.settings.max_checkout_quantity is 'The largest quantity of a price in one checkout, unless the plan declares seats.';
comment on column billing.settings.allow_promotion_codes is 'Whether checkout has a field for promotion codes.';
comment on column billing.settings.automatic_tax is 'Whether Stripe calculates the tax at checkout (Stripe Tax must be set up).';
comment on column billing.settings.collect_tax_ids is 'Whether checkout has a field for a business''s tax id.';
comment on column billing.settings.billing_address_collection is 'Whether checkout asks for an address when it needs one (auto), or always (required).';
comment on column billing.settings.one_trial_per is 'Which accounts get a plan''s trial: those that never subscribed to its product (product), never subscribed at all (account), or all accounts (none). Trial credits follow it too.';
comment on column billing.settings.trial_without_card is 'Trials start without a card. If there is still none at the end, the subscription is cancelled (cancel), paused (pause), or billed by an invoice (create_invoice). Null: checkout requires a card.';
comment on column billing.settings.checkout_branding is 'branding_settings of every Checkout Session; null: the branding of the Stripe account.';
comment on column billing.settings.payment_reference_lifetime is 'How long the reference in a Payment Link''s URL is valid.';
comment on column billing.settings.payment_link_options is 'Options of every Payment Link, named as Stripe''s parameters; see docs/how-to/payment-links.md.';
comment on column billing.settings.customer_notifications is 'Kinds of notifications that customers receive by e-mail, such as {payment_failed,low_balance}. Default: none.';
comment on column billing.settings.notification_rate is 'The most messages of one kind for one recipient in a notification_window; further ones wait and are sent as one digest.';
comment on column billing.settings.notification_window is 'See notification_rate.';
comment on column billing.settings.notification_deadline is 'How long delivery is retried before a notification is dead.';
comment on column billing.settings.notification_retention is 'How long delivered notifications are kept; at least 30 days.';
comment on column billing.settings.silence_after is 'Administrators are notified if there are subscriptions but no event from Stripe for this long; null: never.';
comment on column billing.settings.expiring_credits_notice is 'How long before the expiry of credits their owner is notified.';
comment on column billing.settings.worker_missing_after is 'Administrators are notified if no worker has been seen for this long although one is expected; null: never.';
comment on column billing.settings.alert_webhook_url is 'Where the database itself posts what no worker can send, as {"text": …} by pg_net: a Slack webhook, for example. Null: nowhere.';
comment on column billing.settings.keep_events_days is 'How long the bodies of applied and ignored events and the archive of the queue are kept. The rows of events stay.';
comment on column billing.settings.fraud_dry_run is 'Warnings are recorded, without any action; judge_fraud_warning shows what the policy would do.';
comment on column billing.settings.refund_policy is 'The refund policy as shown to customers before they buy; evidence in disputes.';
comment on column billing.settings.on_user_deleted is 'What happens when a user is deleted whose account has a subscription: report (administrators are notified) or cancel (Stripe also cancels it at once).';
comment on column billing.settings.limit_members_to_seats is 'Whether a team may have only as many members and open invitations as its subscription has seats (its quantity); one without a subscription.';
comment on column billing.settings.invitation_lifetime is 'How long an invitation to a team can be accepted.';
comment on table billing.clock is 'How far billing time is ahead of the real time; only the local stack moves it.';
comment on function billing.current_time() is 'Billing time, by which credits open and expire: the real time, or later in a local stack whose clock was moved.';
comment on function billing.is_livemode() is 'True if this installation is in live mode.';

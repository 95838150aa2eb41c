-- Tillbase 0.1.0. Generated from supabase/schemas by `make migration`: read and edit it there.

-- Before anything is made: what is there already under our names.
do $$
declare
    v_pgmq text := coalesce(
        (select extversion from pg_catalog.pg_extension where extname = 'pgmq'),
        (select default_version from pg_catalog.pg_available_extensions where name = 'pgmq')
    );
    v_taken text;
begin
    if v_pgmq is null then
        raise exception 'Tillbase needs the extension pgmq, which this Postgres does not have'
            using hint = 'Upgrade the project''s Postgres in the Supabase dashboard, then push again.';
    elsif pg_catalog.string_to_array(v_pgmq, '.')::int[] < array[1, 5, 0] then
        raise exception 'pgmq % is too old, 1.5.0 or newer is needed', v_pgmq
            using hint = 'Upgrade the project''s Postgres in the Supabase dashboard, then push again.';
    end if;
    select pg_catalog.string_agg(taken.name, ', ' order by taken.name) into v_taken
    from (
        select 'schema billing' as name from pg_catalog.pg_namespace where nspname = 'billing'
        union all
        select pg_catalog.format('queue %s', queue) from pg_catalog.unnest(array['billing_jobs', 'stripe_events']) as queue
        where pg_catalog.to_regclass('pgmq.q_' || queue) is not null
        union all
        select 'queue billing_jobs' where pg_catalog.to_regclass('pgmq.q_billing_jobs') is not null
        union all
        select pg_catalog.format('public.%s', relname) from pg_catalog.pg_class
        where relnamespace = 'public'::regnamespace
            and relname in ('billing_account', 'billing_entitlements', 'billing_packs', 'billing_plans',
                'billing_subscription', 'credit_balance', 'credit_history', 'team_invitations')
        union all
        select distinct pg_catalog.format('public.%s()', proname) from pg_catalog.pg_proc
        where pronamespace = 'public'::regnamespace
            and proname in ('accept_invitation', 'add_member', 'adjust_credits', 'capture_hold',
                'close_account', 'create_team', 'credit_balance_as_of', 'credit_statement',
                'credit_usage', 'dismiss_customer', 'dismiss_stripe_event', 'ensure_account',
                'extend_hold', 'freeze_account', 'grant_credits', 'has_feature',
                'hold_credits', 'invite_member', 'link_customer', 'merge_customer',
                'note_fraud', 'refund_fraud_warning', 'refund_spend', 'reinstate_grant',
                'release_hold', 'remove_member', 'reopen_account', 'resolve_fraud_warning',
                'review_held_credits', 'revoke_grant', 'revoke_invitation', 'schedule_credits',
                'set_credit_limits', 'set_member_role', 'set_recharge', 'spend_credits',
                'spend_credits_batch', 'team_members', 'transfer_credits', 'transfer_ownership',
                'undo_fraud_action', 'unfreeze_account')
    ) as taken;
    if v_taken is not null then
        raise exception 'Tillbase would make what is there already: %', v_taken
            using hint = 'Rename or drop these, then push again. Nothing was changed.';
    end if;
end
$$;

-- 00_base/10_extensions.sql

-- Extensions: pgmq, the queue between the receiver and the worker.
--
-- pgmq 1.5.0 or newer: hosted projects ship 1.5.1, and newer versions keep the functions that are used here. The
-- release refuses an older version before it creates anything. The extension is created without a version, because
-- hosted projects may refuse one.

create extension if not exists pgmq;

-- 00_base/20_schema.sql

-- Schema `billing` and the three roles that work in it.
--
-- Invariant: nobody has a privilege in `billing` unless a migration grants it by name. Postgres grants EXECUTE on every
-- new function to PUBLIC, and a project's default privileges may grant more. So each object first loses all privileges,
-- by name, and then gets its grants. The project's own default privileges are never changed.
--
-- billing_receiver   may call receive_stripe_event and nothing else (the edge function)
-- billing_worker     may execute the functions that the worker calls and nothing else
-- billing_checkout   may execute what the edge functions for users call and nothing else
-- Roles outlive a database, so they are created only where they don't exist.

create schema billing;

comment on schema billing is 'Stripe billing and the credit ledger. Not exposed to the Data API: clients use the views in public.';

do $$
begin
    if not exists (select from pg_catalog.pg_roles where rolname = 'billing_receiver') then
        create role billing_receiver nologin noinherit;
    end if;
    if not exists (select from pg_catalog.pg_roles where rolname = 'billing_worker') then
        create role billing_worker nologin noinherit;
    end if;
    if not exists (select from pg_catalog.pg_roles where rolname = 'billing_checkout') then
        create role billing_checkout nologin noinherit;
    end if;
end
$$;

-- `postgres` logs in and takes these roles with the start-up option `-c role=…`.
grant billing_receiver, billing_worker, billing_checkout to postgres;

revoke all on schema billing from public, anon, authenticated, service_role;
grant usage on schema billing to anon, authenticated, service_role, billing_receiver, billing_worker, billing_checkout;

-- 00_base/30_types.sql

-- The values that the ledger may store, in any of its tables.
--
-- Domains, because Postgres parses the CHECKs of a table again for every statement that writes to it, and those of a
-- domain once for each connection: on the ledger's tables that was a third of a spend. Clients see the base types. The
-- table published to Realtime (credit_balances) uses base types only, because Realtime reports a column's own type.

create domain billing.credits as bigint
constraint credits_are_not_negative check (value >= 0);

create domain billing.positive_credits as bigint
constraint credits_are_positive check (value > 0);

-- What a movement adds to a balance or removes from it.
create domain billing.credit_change as bigint
constraint credits_change_by_something check (value <> 0);

create domain billing.entry_kind as text
constraint entry_kind_is_known check (
    value in (
        'grant', 'spend', 'capture', 'expiry', 'revocation', 'reinstatement', 'refund', 'adjustment', 'transfer_in',
        'transfer_out', 'repayment'
    )
);

-- caller: chosen by the app. stripe: business keys of payments. system: our own (expiry).
create domain billing.key_space as text
constraint key_space_is_known check (value in ('caller', 'stripe', 'system'));

create domain billing.idempotency_key as text
constraint idempotency_key_has_1_to_255_characters check (length(value) between 1 and 255);

create domain billing.metadata as jsonb
constraint metadata_is_an_object check (jsonb_typeof(value) = 'object');

-- Every kind of notification there is. worker/jobs/templates/ has a text for each.
create domain billing.notification_kind as text
constraint notification_kind_is_known check (
    value in (
        'account_frozen', 'card_expiring', 'credits_expiring', 'credits_held', 'credits_not_granted', 'dispute_closed',
        'dispute_opened', 'entitlement_discrepancy', 'event_dead', 'event_waiting', 'fraud_action_failed',
        'fraud_warning', 'ledger_discrepancy', 'low_balance', 'payment_failed', 'receipt', 'recharge_capped',
        'recharge_failed', 'recharge_paused', 'recharge_requires_action', 'refund_applied', 'review_opened', 'silence',
        'test', 'user_deleted_while_subscribed'
    )
);

-- 00_base/40_settings.sql

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
comment on column billing.settings.initial_credits_per is 'Initial credits are granted once for each account and product, or once for each account.';
comment on column billing.settings.seen_card_policy is 'What happens to initial and trial credits if the card was already used on another account: grant, hold (for review by an administrator) or refuse. Null: hold in live mode, grant in test mode, where everybody uses the same test cards.';
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
comment on column billing.settings.keep_events_days is 'How long the bodies of applied and ignored events and the archive of the queue are kept. The rows of events stay.';
comment on column billing.settings.fraud_dry_run is 'Warnings are recorded, without any action; judge_fraud_warning shows what the policy would do.';
comment on column billing.settings.refund_policy is 'The refund policy as shown to customers before they buy; evidence in disputes.';
comment on column billing.settings.on_user_deleted is 'What happens when a user is deleted whose account has a subscription: report (administrators are notified) or cancel (Stripe also cancels it at once).';
comment on column billing.settings.limit_members_to_seats is 'Whether a team may have only as many members and open invitations as its subscription has seats (its quantity); one without a subscription.';
comment on column billing.settings.invitation_lifetime is 'How long an invitation to a team can be accepted.';
comment on table billing.clock is 'How far billing time is ahead of the real time; only the local stack moves it.';
comment on function billing.current_time() is 'Billing time, by which credits open and expire: the real time, or later in a local stack whose clock was moved.';
comment on function billing.is_livemode() is 'True if this installation is in live mode.';

-- 00_base/50_freshness.sql

-- Which of two states of one Stripe object is newer.
--
-- In every sync_… function the upsert itself decides, under the row's lock. The result is
--     applied   the new state is newer and is now stored
--     stale     the stored state is newer: nothing changed
--     refetch   both have the same second, so only Stripe can tell: nothing changed
-- as_of is the event's created, or the Date of Stripe's answer if the object was read from Stripe.
--
-- Private: called by the sync_… functions.

create function billing._refused(held_as_of timestamptz, offered_as_of timestamptz)
returns text
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
    select case when _refused.held_as_of > _refused.offered_as_of then 'stale' else 'refetch' end
$$;

revoke all on function billing._refused from public, anon, authenticated, service_role;

-- 00_base/60_jobs.sql

-- Jobs: what is done outside the database, at Stripe or by a message to people, waits in one queue for the worker.
--
-- A job is a message {"kind", "id"}: the kind says which handler does it, the id names the row that says what to do. The
-- message is sent in the transaction that makes the work due. Whether there still is something to do is read from the row,
-- so a second message, or a late one, does nothing.
--
-- Invariant: a job is in the hands of one session at a time (worker_pid in its headers), until it is finished or retried,
-- its time-out is over, or that session ends (workers). Only the session that has it in hand can finish or retry it.
--
--   take_jobs          jobs that are due, of the kinds that the caller can do; the attempt counts
--   finish_jobs        nothing is left to do
--   retry_job          again after a while, with the reason
--   take_unknown_jobs  jobs of a kind that the caller does not know: kept, and due again much later
--   queued_jobs        what waits, how often it was tried and when it is due
--
-- Its own SQL, on the columns that pgmq has from 1.5.1 to 1.13. The index serves each kind for itself: what waits for a
-- worker that can do it costs the others nothing. Callable by billing_worker; queued_jobs by service_role.

-- Every kind of job there is. The worker's handlers are in worker/jobs/run.py.
create domain billing.job_kind as text
constraint job_kind_is_known check (
    value in (
        'payment_link', 'email_change', 'fraud_action', 'recharge', 'administrators_notification',
        'customer_notification'
    )
);

-- Also after a restore: pgmq 1.5.1 makes a queue's tables members of its extension, and a dump leaves these out.
create function billing._create_job_queue()
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    if to_regclass('pgmq.q_billing_jobs') is not null and to_regclass('pgmq.a_billing_jobs') is not null then
        return;
    end if;
    perform pgmq.create('billing_jobs');
    create index if not exists billing_jobs_due on pgmq.q_billing_jobs ((message ->> 'kind'), vt);
    alter table pgmq.q_billing_jobs enable row level security;
    alter table pgmq.a_billing_jobs enable row level security;
    revoke all on pgmq.q_billing_jobs, pgmq.a_billing_jobs from public, anon, authenticated, service_role;
end
$$;

select billing._create_job_queue();

-- Without the queue, as after such a restore, nothing fails: requeue_jobs finds what lacks its message.
create function billing._enqueue_jobs(kind billing.job_kind, ids text[])
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    if to_regclass('pgmq.q_billing_jobs') is null then
        return;
    end if;
    insert into pgmq.q_billing_jobs (vt, message)
    select clock_timestamp(), jsonb_build_object('kind', _enqueue_jobs.kind, 'id', job.id)
    from unnest(_enqueue_jobs.ids) with ordinality as job (id, place)
    order by job.place;
end
$$;

-- Deletes the messages of rows that need no worker any more, even if a worker holds them. Hash join: there is no index by id.
create function billing._drop_jobs(kind billing.job_kind, ids text[])
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set enable_nestloop = off
as $$
begin
    delete from pgmq.q_billing_jobs as message
    using unnest(_drop_jobs.ids) as job (id)
    where message.message ->> 'kind' = _drop_jobs.kind and message.message ->> 'id' = job.id;
end
$$;

-- Makes jobs that are due, or in this session's hands, due at a later time. That was no attempt.
create function billing._postpone_jobs(kind billing.job_kind, ids text[], due_at timestamptz)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set enable_nestloop = off
as $$
begin
    update pgmq.q_billing_jobs as message
    set vt = _postpone_jobs.due_at, headers = null,
        read_ct = message.read_ct - (message.headers ? 'worker_pid' is true)::integer
    from unnest(_postpone_jobs.ids) as job (id)
    where message.message ->> 'kind' = _postpone_jobs.kind and message.message ->> 'id' = job.id
        and (message.vt <= now() or message.headers ->> 'worker_pid' = pg_backend_pid()::text);
end
$$;

-- The end of an attempt: the job is done (retry_in_seconds null), or due again. Whether this session had it in hand; it has
-- what has no message.
create function billing._end_job(msg_id bigint, retry_in_seconds integer, reason text)
returns boolean
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    if _end_job.msg_id is null then
        return true;
    elsif _end_job.retry_in_seconds is null then
        delete from pgmq.q_billing_jobs as message
        where message.msg_id = _end_job.msg_id and message.headers ->> 'worker_pid' = pg_backend_pid()::text;
    else
        update pgmq.q_billing_jobs as message
        set vt = clock_timestamp() + make_interval(secs => _end_job.retry_in_seconds),
            headers = jsonb_build_object('reason', _end_job.reason)
        where message.msg_id = _end_job.msg_id and message.headers ->> 'worker_pid' = pg_backend_pid()::text;
    end if;
    return found;
end
$$;

-- When work is due that was in hand when its worker died: at once, and before what came after it. What was in hand of
-- several that died may be what they died of: it waits a little, and each a different while, so that it parts from what was
-- taken with it.
create function billing._due_after_death(attempts integer, due_at timestamptz)
returns timestamptz
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    select case when _due_after_death.attempts > 2 then clock_timestamp() + random() * interval '4 seconds'
        else _due_after_death.due_at end
$$;

create function billing._hand_back_jobs(worker_pid integer)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    update pgmq.q_billing_jobs as message
    set vt = billing._due_after_death(message.read_ct, message.enqueued_at), headers = null
    where message.headers ->> 'worker_pid' = _hand_back_jobs.worker_pid::text;
end
$$;

-- Called in a transaction of its own, so that the attempt counts whatever becomes of the worker. jobs_max: how many of each
-- kind at most; the arrays run in parallel.
create function billing.take_jobs(kinds text[], jobs_max integer[], lease_seconds integer)
returns table (msg_id bigint, kind text, id text, attempts integer)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_msg_ids bigint[];
begin
    v_msg_ids := array(
        select queued.msg_id from unnest(take_jobs.kinds, take_jobs.jobs_max) as wanted (kind, jobs_max)
        cross join lateral (
            select message.msg_id from pgmq.q_billing_jobs as message
            -- Compared as rows, for that only the index by kind can do: pgmq's own has the jobs of all kinds.
            where (message.message ->> 'kind', message.vt) >= (wanted.kind, '-infinity')
                and (message.message ->> 'kind', message.vt) <= (wanted.kind, now())
            order by message.message ->> 'kind', message.vt
            limit wanted.jobs_max
            for update skip locked
        ) as queued
    );
    if v_msg_ids = '{}' then
        return;
    end if;
    return query
    with taken as (
        update pgmq.q_billing_jobs as message
        set vt = clock_timestamp() + make_interval(secs => take_jobs.lease_seconds), read_ct = message.read_ct + 1,
            headers = jsonb_build_object('worker_pid', pg_backend_pid())
        where message.msg_id = any (v_msg_ids)
        returning message.msg_id, message.message, message.read_ct
    )
    select taken.msg_id, taken.message ->> 'kind', taken.message ->> 'id', taken.read_ct
    from taken
    order by taken.msg_id;
end
$$;

create function billing.finish_jobs(msg_ids bigint[])
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform billing._end_job(job.msg_id, null, null) from unnest(finish_jobs.msg_ids) as job (msg_id);
end
$$;

-- excused: the attempt does not count.
create function billing.retry_job(msg_id bigint, delay_seconds integer, reason text, excused boolean default false)
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    if billing._end_job(retry_job.msg_id, retry_job.delay_seconds, retry_job.reason) and retry_job.excused then
        update pgmq.q_billing_jobs as message set read_ct = greatest(message.read_ct - 1, 0)
        where message.msg_id = retry_job.msg_id;
    end if;
end
$$;

create function billing.take_unknown_jobs(kinds text[], delay_seconds integer)
returns table (msg_id bigint, kind text, id text)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    update pgmq.q_billing_jobs as message
    set vt = clock_timestamp() + make_interval(secs => take_unknown_jobs.delay_seconds), read_ct = message.read_ct + 1,
        headers = jsonb_build_object('reason', 'the worker knows no such kind of job')
    where message.vt <= now() and coalesce(message.message ->> 'kind', '') <> all (take_unknown_jobs.kinds)
    returning message.msg_id, message.message ->> 'kind', message.message ->> 'id';
end
$$;

-- Nothing where the queue is missing.
create function billing.queued_jobs()
returns table (kind text, id text, attempts integer, due_at timestamptz, reason text, worker_pid integer)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    if to_regclass('pgmq.q_billing_jobs') is null then
        return;
    end if;
    return query
    select
        message.message ->> 'kind', message.message ->> 'id', message.read_ct, message.vt, message.headers ->> 'reason',
        (message.headers ->> 'worker_pid')::integer
    from pgmq.q_billing_jobs as message
    order by message.msg_id;
end
$$;

revoke all on function
    billing._create_job_queue, billing._enqueue_jobs, billing._drop_jobs, billing._postpone_jobs, billing._end_job,
    billing._due_after_death, billing._hand_back_jobs, billing.take_jobs, billing.finish_jobs, billing.retry_job,
    billing.take_unknown_jobs, billing.queued_jobs
from public, anon, authenticated, service_role;
grant execute on function
    billing.take_jobs(text[], integer[], integer), billing.finish_jobs(bigint[]),
    billing.retry_job(bigint, integer, text, boolean), billing.take_unknown_jobs(text[], integer)
to billing_worker;
grant execute on function billing.queued_jobs() to service_role;

comment on function billing.take_jobs(text[], integer[], integer) is 'Jobs of these kinds that are due, up to jobs_max of each, taken by the caller for lease_seconds.';
comment on function billing.finish_jobs(bigint[]) is 'Removes jobs that the caller has in hand and that have nothing left to do.';
comment on function billing.retry_job(bigint, integer, text, boolean) is 'A job that the caller has in hand is due again after delay_seconds.';
comment on function billing.take_unknown_jobs(text[], integer) is 'Jobs that are due and of none of these kinds; they stay in the queue and are due again after delay_seconds.';
comment on function billing.queued_jobs() is 'What the worker has to do outside the database: how often it was tried, when it is due, and which session has it in hand.';

-- 10_accounts/10_accounts.sql

-- Accounts: what has a balance. Every user has a personal one; a team account has members.
--
-- Invariant: a sign-up never fails because of billing, and the account's ledger survives the user (owner_id becomes
-- null). Clients read their own accounts; only functions write.

create table billing.accounts (
    id uuid primary key default gen_random_uuid(),
    kind text not null default 'personal',
    name text,
    owner_id uuid references auth.users (id) on delete set null,
    frozen_at timestamptz,
    frozen_reason text,
    closed_at timestamptz,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint kind_is_known check (kind in ('personal', 'team')),
    constraint frozen_accounts_say_why check ((frozen_at is null) = (frozen_reason is null))
);

create unique index accounts_personal_owner on billing.accounts (owner_id) where kind = 'personal';
create index accounts_owner on billing.accounts (owner_id);
create index accounts_of_deleted_users on billing.accounts (id) where owner_id is null and kind = 'personal';
create index accounts_frozen on billing.accounts (frozen_at) where frozen_at is not null;
create index accounts_created on billing.accounts (created_at, id);

create table billing.account_members (
    account_id uuid not null references billing.accounts (id) on delete cascade,
    user_id uuid not null references auth.users (id) on delete cascade,
    role text not null default 'member',
    created_at timestamptz not null default now(),
    primary key (account_id, user_id),
    constraint role_is_known check (role in ('owner', 'admin', 'member'))
);

create index account_members_user on billing.account_members (user_id);

-- The only definition of a user's own accounts. Security definer, so that a policy on members need not read members.
create function billing.my_account_ids()
returns setof uuid
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
rows 2
as $$
    select accounts.id from billing.accounts where accounts.owner_id = (select auth.uid())
    union all
    select account_members.account_id from billing.account_members where account_members.user_id = (select auth.uid())
$$;

-- Those that the user owns or administers. Other members of a team see its credits, but not its e-mail address,
-- invoices and payments.
create function billing.my_managed_account_ids()
returns setof uuid
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
rows 2
as $$
    select accounts.id from billing.accounts where accounts.owner_id = (select auth.uid())
    union all
    select account_members.account_id from billing.account_members
    where account_members.user_id = (select auth.uid()) and account_members.role in ('owner', 'admin')
$$;

-- Whether the caller bypasses row level security: the app's own server, not a signed-in user.
-- Uses the session's role: inside a security definer function current_user is the function's owner.
create function billing._sees_every_account()
returns boolean
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select exists (
        select from pg_catalog.pg_roles
        where pg_roles.rolname = coalesce(nullif(current_setting('role'), 'none'), session_user)
            and (pg_roles.rolbypassrls or pg_roles.rolsuper)
    )
$$;

-- Whether an account still has a user: its owner or a member who was not deleted, softly or otherwise.
create function billing._has_user(account_id uuid)
returns boolean
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select exists (
        select from billing.accounts join auth.users on users.id = accounts.owner_id
        where accounts.id = _has_user.account_id and users.deleted_at is null
    ) or exists (
        select from billing.account_members join auth.users on users.id = account_members.user_id
        where account_members.account_id = _has_user.account_id and users.deleted_at is null
    )
$$;

alter table billing.accounts enable row level security;
alter table billing.account_members enable row level security;

revoke all on billing.accounts, billing.account_members from public, anon, authenticated, service_role;

create policy accounts_select_own on billing.accounts
for select to authenticated using (id = any (array(select billing.my_account_ids())));

create policy account_members_select_own on billing.account_members
for select to authenticated using (account_id = any (array(select billing.my_account_ids())));

grant select on billing.accounts, billing.account_members to service_role;
grant select on billing.account_members to authenticated;
-- Not frozen_reason, which only administrators may read.
grant select (id, kind, name, owner_id, frozen_at, closed_at, created_at, updated_at) on billing.accounts to authenticated;

create function billing.ensure_account(user_id uuid)
returns uuid
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_account_id uuid;
begin
    if ensure_account.user_id is null then
        raise exception 'user_id is missing'
            using errcode = 'TB037', hint = 'Pass the id of a row in auth.users.';
    end if;
    insert into billing.accounts (kind, owner_id) values ('personal', ensure_account.user_id)
    on conflict (owner_id) where kind = 'personal' do nothing
    returning id into v_account_id;

    if v_account_id is null then
        select accounts.id into strict v_account_id from billing.accounts
        where accounts.owner_id = ensure_account.user_id and accounts.kind = 'personal';
    end if;
    return v_account_id;
end
$$;

-- Runs as supabase_auth_admin inside the sign-up's transaction. On any error, including a long lock on accounts, the
-- sign-up succeeds without an account, and ensure_account creates it at the first purchase.
create function billing.tg_users__open_account()
returns trigger
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '1s'
as $$
begin
    perform billing.ensure_account(new.id);
    return null;
exception when others then
    raise warning 'could not create a billing account for user %: %', new.id, sqlerrm;
    return null;
end
$$;

create trigger tg_users__open_account
after insert on auth.users
for each row execute function billing.tg_users__open_account();

revoke all on function
    billing.my_account_ids, billing.my_managed_account_ids, billing._sees_every_account, billing._has_user,
    billing.ensure_account, billing.tg_users__open_account
from public, anon, authenticated, service_role;
grant execute on function billing.my_account_ids() to authenticated;
grant execute on function billing.my_managed_account_ids() to authenticated;
grant execute on function billing.ensure_account(uuid) to service_role;

comment on table billing.accounts is 'What has a balance: a person or a team.';
comment on column billing.accounts.frozen_at is 'Since when spending is refused (TB003); administrators read the reason in frozen_reason.';
comment on table billing.account_members is 'The members of team accounts.';
comment on function billing.my_account_ids() is 'The accounts of the signed-in user. Policies: account_id = any (array(select billing.my_account_ids())).';
comment on function billing.my_managed_account_ids() is 'The accounts that the signed-in user owns or administers: those whose invoices, payments and e-mail address they may read.';
comment on function billing.ensure_account(uuid) is 'The personal account of a user, created if it does not exist.';

-- 10_accounts/20_notifications.sql

-- The outbox of notifications: a row is written in the same transaction as the change that it reports.
--
-- Invariant: one row for each dedupe_key, so a replayed event notifies once. Queued and sending rows have a job, by their
-- audience, because a worker may have channels for only one audience. A digest is one message for many rows: each row has
-- the id of the first one in digest_id, the first one its own, and all of them share its outcome.

create table billing.notifications (
    id bigint generated always as identity primary key,
    account_id uuid references billing.accounts (id),
    audience text not null,
    reader text not null generated always as (case audience when 'customer' then account_id::text else audience end) stored,
    kind billing.notification_kind not null,
    dedupe_key text not null unique,
    payload jsonb not null default '{}',
    status text not null default 'queued',
    attempts integer not null default 0,
    queued_at timestamptz not null default now(),
    first_attempt_at timestamptz,
    delivered_to text[] not null default '{}',
    digest_id bigint references billing.notifications (id) on delete cascade,
    digest_size integer,
    last_error text,
    created_at timestamptz not null default now(),
    delivered_at timestamptz,
    constraint audience_is_known check (audience in ('administrators', 'customer')),
    constraint customers_have_an_account check (audience <> 'customer' or account_id is not null),
    constraint status_is_known check (status in ('queued', 'sending', 'delivered', 'digested', 'skipped', 'dead')),
    constraint payload_is_an_object check (jsonb_typeof(payload) = 'object'),
    constraint delivered_notifications_say_when check ((status = 'delivered') = (delivered_at is not null)),
    constraint undelivered_notifications_say_why check (status not in ('skipped', 'dead') or last_error is not null),
    constraint digests_say_how_many check ((digest_size is null) = (digest_id is distinct from id)),
    constraint digested_notifications_name_their_digest check ((status = 'digested') = ((digest_id <> id) is true))
);

create index notifications_account on billing.notifications (account_id);
create index notifications_open on billing.notifications (audience, status, queued_at) where status in ('queued', 'sending');
create index notifications_alike on billing.notifications (kind, reader) where status = 'queued';
create index notifications_sent on billing.notifications (kind, reader, first_attempt_at)
where first_attempt_at is not null;
create index notifications_digest on billing.notifications (digest_id, id) where digest_id is not null;
create index notifications_over on billing.notifications (created_at) where status in ('delivered', 'skipped');
create index notifications_dead on billing.notifications (id) where status = 'dead';

alter table billing.notifications enable row level security;

revoke all on all sequences in schema billing from public, anon, authenticated, service_role;
revoke all on billing.notifications from public, anon, authenticated, service_role;

grant select on billing.notifications to service_role;

-- Adds a row, for customers only if settings.customer_notifications names the kind.
create function billing._notify(account_id uuid, audience text, kind text, dedupe_key text, payload jsonb)
returns void
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    insert into billing.notifications (account_id, audience, kind, dedupe_key, payload)
    select
        _notify.account_id, _notify.audience, _notify.kind, _notify.dedupe_key, jsonb_strip_nulls(_notify.payload)
    from billing.settings
    where _notify.audience <> 'customer' or _notify.kind = any (settings.customer_notifications)
    on conflict (dedupe_key) do nothing
$$;

create function billing.tg_notifications__enqueue()
returns trigger
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform billing._enqueue_jobs(queued.audience || '_notification', queued.ids)
    from (
        select added.audience, array_agg(added.id::text order by added.id) as ids from added
        where added.status = 'queued'
        group by added.audience
    ) as queued;
    return null;
end
$$;

-- By the statement: ten thousand rows at once are one insert into the queue.
create trigger tg_notifications__enqueue
after insert on billing.notifications
referencing new table as added
for each statement execute function billing.tg_notifications__enqueue();

revoke all on function billing._notify, billing.tg_notifications__enqueue from public, anon, authenticated, service_role;

comment on table billing.notifications is 'Notifications; the worker delivers them.';
comment on column billing.notifications.audience is 'administrators, or customer: the owner of the account, if the kind is enabled in the settings.';
comment on column billing.notifications.reader is 'The recipient: administrators, or a customer''s account id.';
comment on column billing.notifications.status is 'queued, sending: to be delivered. delivered: by every channel. digested: part of the message of digest_id. skipped: has no recipient. dead: needs a person; last_error says why.';
comment on column billing.notifications.queued_at is 'When it was written, or retried by a person.';
comment on column billing.notifications.attempts is 'How often its channels were tried.';
comment on column billing.notifications.delivered_to is 'The channels that accepted it; later attempts skip them.';
comment on column billing.notifications.digest_id is 'The notification whose message includes this one.';

-- 20_catalog/10_plans.sql

-- Plans and credit packs: how many credits a Stripe price is worth.
--
-- A plan is a recurring price, a credit pack a one-time price with `pack_credits`. Credits are declared in the metadata
-- of the price, or else of its product, and stored here as numbers. Credits are never read from the metadata of an
-- event. Clients and visitors read active plans of this installation's mode; only functions write.

create table billing.products (
    stripe_product_id text primary key,
    livemode boolean not null,
    name text not null,
    description text,
    active boolean not null default true,
    metadata jsonb not null default '{}',
    as_of timestamptz not null default '-infinity',
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);

create table billing.plans (
    stripe_price_id text primary key,
    stripe_product_id text not null references billing.products (stripe_product_id),
    livemode boolean not null default false,
    active boolean not null default true,
    lookup_key text,
    nickname text,
    currency text not null default 'usd',
    unit_amount bigint,
    recurring_interval text not null default 'month',
    recurring_interval_count integer not null default 1,
    usage_type text not null default 'licensed',
    initial_credits bigint not null default 0,
    monthly_credits bigint not null default 0,
    trial_credits bigint not null default 0,
    rollover text not null default 'all',
    rollover_periods integer,
    rollover_cap bigint,
    proration_credits text not null default 'delta',
    downgrade_credits text not null default 'take_back',
    cancel_credits text not null default 'period_end',
    trial_end_credits text not null default 'trial_end',
    trial_days integer not null default 0,
    seats_min bigint not null default 1,
    seats_max bigint,
    features jsonb not null default '{}',
    metadata jsonb not null default '{}',
    as_of timestamptz not null default '-infinity',
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint recurring_interval_is_known check (recurring_interval in ('day', 'week', 'month', 'year')),
    constraint recurring_interval_count_is_positive check (recurring_interval_count > 0),
    constraint usage_type_is_known check (usage_type in ('licensed', 'metered')),
    constraint initial_credits_are_not_negative check (initial_credits >= 0),
    constraint monthly_credits_are_not_negative check (monthly_credits >= 0),
    constraint trial_credits_are_not_negative check (trial_credits >= 0),
    constraint rollover_is_known check (rollover in ('none', 'all', 'periods', 'cap')),
    constraint rollover_periods_come_with_the_rule check ((rollover = 'periods') = (rollover_periods is not null)),
    constraint rollover_periods_are_positive check (rollover_periods > 0),
    constraint rollover_cap_comes_with_the_rule check ((rollover = 'cap') = (rollover_cap is not null)),
    constraint rollover_cap_is_not_negative check (rollover_cap >= 0),
    constraint proration_credits_is_known check (proration_credits in ('none', 'delta', 'full')),
    constraint downgrade_credits_is_known check (downgrade_credits in ('take_back', 'keep')),
    constraint trial_end_credits_is_known check (trial_end_credits in ('trial_end', 'keep')),
    constraint cancel_credits_is_known check (cancel_credits in ('period_end', 'stop')),
    constraint trial_days_are_at_most_two_years check (trial_days between 0 and 730),
    constraint seats_are_in_order check (seats_min > 0 and seats_max >= seats_min),
    constraint features_are_an_object check (jsonb_typeof(features) = 'object')
);

create index plans_product on billing.plans (stripe_product_id);
create index plans_lookup_key on billing.plans (lookup_key) where lookup_key is not null;

create table billing.credit_packs (
    stripe_price_id text primary key,
    stripe_product_id text not null references billing.products (stripe_product_id),
    livemode boolean not null default false,
    active boolean not null default true,
    lookup_key text,
    nickname text,
    currency text not null default 'usd',
    unit_amount bigint,
    pack_credits bigint,
    credits_per_unit numeric,
    expires_after interval,
    metadata jsonb not null default '{}',
    as_of timestamptz not null default '-infinity',
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint pack_credits_are_positive check (pack_credits > 0),
    constraint credits_per_unit_are_positive check (credits_per_unit > 0),
    constraint credits_are_fixed_or_by_the_amount check ((pack_credits is null) <> (credits_per_unit is null)),
    constraint expires_after_is_positive check (expires_after > interval '0')
);

create index credit_packs_product on billing.credit_packs (stripe_product_id);
create index credit_packs_lookup_key on billing.credit_packs (lookup_key) where lookup_key is not null;

alter table billing.products enable row level security;
alter table billing.plans enable row level security;
alter table billing.credit_packs enable row level security;

revoke all on billing.products, billing.plans, billing.credit_packs from public, anon, authenticated, service_role;

create policy products_select_everyone on billing.products
for select to anon, authenticated using (active and livemode = (select billing.is_livemode()));

create policy plans_select_everyone on billing.plans
for select to anon, authenticated using (active and livemode = (select billing.is_livemode()));

create policy credit_packs_select_users on billing.credit_packs
for select to authenticated using (active and livemode = (select billing.is_livemode()));

grant select (stripe_product_id, livemode, name, description, active) on billing.products to anon, authenticated;
grant select (
    stripe_price_id, stripe_product_id, livemode, active, lookup_key, nickname, currency, unit_amount,
    recurring_interval, recurring_interval_count, usage_type, initial_credits, monthly_credits, trial_credits,
    rollover, rollover_periods, rollover_cap, proration_credits, downgrade_credits, cancel_credits, trial_end_credits,
    trial_days, seats_min, seats_max, features
) on billing.plans to anon, authenticated;
grant select (
    stripe_price_id, stripe_product_id, livemode, active, lookup_key, nickname, currency, unit_amount, pack_credits,
    credits_per_unit, expires_after
) on billing.credit_packs to authenticated;
grant select on billing.products, billing.plans, billing.credit_packs to service_role;

comment on table billing.products is 'Stripe products.';
comment on table billing.plans is 'Recurring Stripe prices and the credits they are worth.';
comment on column billing.plans.unit_amount is 'Minor units of currency for one unit; null for tiered prices.';
comment on column billing.plans.initial_credits is 'Granted once for each account and product, with the first paid period.';
comment on column billing.plans.monthly_credits is 'Granted for each paid month, for each seat of a licensed price.';
comment on column billing.plans.trial_credits is 'Granted once for each account and product, when a trial starts.';
comment on column billing.plans.rollover is 'What happens to unspent monthly credits: none (expire with their month), all (never expire), periods (expire after rollover_periods more months), cap (at most rollover_cap are carried into the next month).';
comment on column billing.plans.proration_credits is 'The credits of a change to this plan within a paid period, for the running month: delta (the share of the time left), full (a whole month, once), none.';
comment on column billing.plans.downgrade_credits is 'Unspent credits of time that Stripe credits back: take_back (revoked; spent credits are carried against later credits) or keep.';
comment on column billing.plans.trial_end_credits is 'Whether trial credits expire at the end of the trial (trial_end) or stay (keep).';
comment on column billing.plans.cancel_credits is 'Which months are granted after the customer cancels: period_end (all that are paid), stop (none).';
comment on column billing.plans.trial_days is 'Length of the trial for new subscribers at checkout; 0: no trial.';
comment on column billing.plans.features is 'What the plan unlocks: a JSON object of your own names. A feature that is false, null or 0 is not granted.';
comment on column billing.plans.seats_min is 'The smallest quantity at checkout, and the default.';
comment on column billing.plans.seats_max is 'The largest quantity at checkout; null: settings.max_checkout_quantity.';
comment on table billing.credit_packs is 'One-time Stripe prices and the credits they are worth.';
comment on column billing.credit_packs.pack_credits is 'Credits of one pack; null if the customer chooses the amount.';
comment on column billing.credit_packs.credits_per_unit is 'Credits for one whole unit of currency (1.00 usd, 1 jpy) of a price whose amount the customer chooses.';
comment on column billing.credit_packs.expires_after is 'How long after the payment the credits expire; null: never.';

-- 20_catalog/15_declared_metadata.sql

-- Metadata of a price and of its product → values of the type that a key has.
--
-- Invariant: a value that is not valid is an error that names it (TB017), and never counts as 0.

create function billing._declared_credits(stripe_id text, key text, price_metadata jsonb, product_metadata jsonb)
returns bigint
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_text text := coalesce(
        _declared_credits.price_metadata ->> _declared_credits.key,
        _declared_credits.product_metadata ->> _declared_credits.key
    );
begin
    if v_text is null or v_text ~ '^[0-9]{1,18}$' then
        return v_text::bigint;
    end if;
    raise exception 'metadata % of % is "%", it must be a whole number of credits',
        _declared_credits.key, _declared_credits.stripe_id, v_text
        using errcode = 'TB017', hint = 'Correct the metadata in Stripe. The update event then syncs the plan.';
end
$$;

create function billing._declared_features(stripe_id text, features text)
returns jsonb
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    if jsonb_typeof(_declared_features.features::jsonb) <> 'object' then
        raise invalid_text_representation;
    end if;
    return _declared_features.features::jsonb;
exception when invalid_text_representation then
    raise exception 'metadata features of % is not a JSON object', _declared_features.stripe_id
        using errcode = 'TB017', hint = 'Correct the metadata in Stripe. The update event then syncs the plan.';
end
$$;

create function billing._declared_choice(plan billing.plans, product billing.products, key text, choices text[])
returns text
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_text text := coalesce(
        (_declared_choice.plan).metadata ->> _declared_choice.key,
        (_declared_choice.product).metadata ->> _declared_choice.key
    );
begin
    if v_text is null or v_text = any (_declared_choice.choices) then
        return v_text;
    end if;
    raise exception 'metadata % of % is "%", it must be one of %', _declared_choice.key,
        (_declared_choice.plan).stripe_price_id, v_text, array_to_string(_declared_choice.choices, ', ')
        using errcode = 'TB017', hint = 'Correct the metadata in Stripe. The update event then syncs the plan.';
end
$$;

revoke all on function billing._declared_credits, billing._declared_features, billing._declared_choice
from public, anon, authenticated, service_role;

-- 20_catalog/20_credit_terms.sql

-- What a plan promises in credits: what its metadata declares, and the history of it.
--
-- Invariant: a value comes from the metadata of the price, else of the product, else it stays as it is. A row of the
-- history is valid from valid_from until the valid_from of the next row; the first row also for all time before it. A
-- grant uses the terms of its own time, so editing a price in Stripe changes no earlier grant. Rows have the time of
-- Stripe's event, late events included, so their order makes no difference.
--
-- A new term is a column of billing.plans, a key here, and whatever reads it in 50_allocation.
--
-- Only functions write; service_role reads.

create table billing.credit_terms (
    stripe_price_id text not null references billing.plans (stripe_price_id) on delete cascade,
    valid_from timestamptz not null,
    initial_credits bigint not null,
    monthly_credits bigint not null,
    trial_credits bigint not null,
    rollover text not null,
    rollover_periods integer,
    rollover_cap bigint,
    proration_credits text not null,
    downgrade_credits text not null,
    cancel_credits text not null,
    trial_end_credits text not null,
    primary key (stripe_price_id, valid_from)
);

alter table billing.credit_terms enable row level security;
revoke all on billing.credit_terms from public, anon, authenticated, service_role;
grant select on billing.credit_terms to service_role;

-- The plan that its own and its product's metadata declare; undeclared values stay as they are. The product's credits
-- apply to its licensed prices only: a metered price bills usage, and has credits only by its own metadata.
create function billing._declared_plan(plan billing.plans, product billing.products)
returns billing.plans
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_plan billing.plans := _declared_plan.plan;
    v_product billing.products := _declared_plan.product;
    v_rollover text;
    v_features text := coalesce(v_plan.metadata ->> 'features', v_product.metadata ->> 'features');
begin
    if v_plan.usage_type = 'metered' then
        v_product.metadata := '{}';
    end if;
    v_rollover := coalesce(v_plan.metadata ->> 'credits_rollover', v_product.metadata ->> 'credits_rollover');
    if v_rollover !~ '^(none|all|periods:[1-9][0-9]{0,2}|cap:[0-9]{1,15})$' then
        raise exception 'metadata credits_rollover of % is "%", it must be none, all, periods:N or cap:N',
            v_plan.stripe_price_id, v_rollover
            using errcode = 'TB017', hint = 'Correct the metadata in Stripe. The update event then syncs the plan.';
    elsif v_rollover is not null then
        v_plan.rollover := split_part(v_rollover, ':', 1);
        v_plan.rollover_periods := case when v_rollover ^@ 'periods:' then split_part(v_rollover, ':', 2)::integer end;
        v_plan.rollover_cap := case when v_rollover ^@ 'cap:' then split_part(v_rollover, ':', 2)::bigint end;
    end if;
    v_plan.initial_credits := coalesce(billing._declared_credits(
        v_plan.stripe_price_id, 'initial_credits', v_plan.metadata, v_product.metadata), v_plan.initial_credits);
    v_plan.monthly_credits := coalesce(billing._declared_credits(
        v_plan.stripe_price_id, 'monthly_credits', v_plan.metadata, v_product.metadata), v_plan.monthly_credits);
    v_plan.trial_credits := coalesce(billing._declared_credits(
        v_plan.stripe_price_id, 'trial_credits', v_plan.metadata, v_product.metadata), v_plan.trial_credits);
    v_plan.proration_credits := coalesce(billing._declared_choice(
        v_plan, v_product, 'credits_on_proration', array['none', 'delta', 'full']), v_plan.proration_credits);
    v_plan.downgrade_credits := coalesce(billing._declared_choice(
        v_plan, v_product, 'credits_on_downgrade', array['take_back', 'keep']), v_plan.downgrade_credits);
    v_plan.cancel_credits := coalesce(billing._declared_choice(
        v_plan, v_product, 'credits_on_cancel', array['period_end', 'stop']), v_plan.cancel_credits);
    v_plan.trial_end_credits := coalesce(billing._declared_choice(
        v_plan, v_product, 'trial_credits_end', array['trial_end', 'keep']), v_plan.trial_end_credits);
    v_plan.features := coalesce(billing._declared_features(v_plan.stripe_price_id, v_features), v_plan.features);
    return v_plan;
end
$$;

create function billing._declares_credits(metadata jsonb)
returns boolean
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
    select _declares_credits.metadata ?| array[
        'initial_credits', 'monthly_credits', 'trial_credits', 'credits_rollover', 'credits_on_proration',
        'credits_on_downgrade', 'credits_on_cancel', 'trial_credits_end'
    ]
$$;

-- Gives a plan the terms that were resolved. The caller records them with the time of Stripe's event, so the trigger
-- below must not.
create function billing._set_terms(plan billing.plans)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    perform set_config('billing.is_resolving_plan', 'true', true);
    update billing.plans
    set initial_credits = (_set_terms.plan).initial_credits,
        monthly_credits = (_set_terms.plan).monthly_credits,
        trial_credits = (_set_terms.plan).trial_credits,
        rollover = (_set_terms.plan).rollover,
        rollover_periods = (_set_terms.plan).rollover_periods,
        rollover_cap = (_set_terms.plan).rollover_cap,
        proration_credits = (_set_terms.plan).proration_credits,
        downgrade_credits = (_set_terms.plan).downgrade_credits,
        cancel_credits = (_set_terms.plan).cancel_credits,
        trial_end_credits = (_set_terms.plan).trial_end_credits,
        features = (_set_terms.plan).features,
        updated_at = now()
    where plans.stripe_price_id = (_set_terms.plan).stripe_price_id;
    perform set_config('billing.is_resolving_plan', '', true);
end
$$;

create function billing._record_terms(plan billing.plans, valid_from timestamptz)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    insert into billing.credit_terms (
        stripe_price_id, valid_from, initial_credits, monthly_credits, trial_credits, rollover, rollover_periods,
        rollover_cap, proration_credits, downgrade_credits, cancel_credits, trial_end_credits
    )
    values (
        (_record_terms.plan).stripe_price_id, _record_terms.valid_from, (_record_terms.plan).initial_credits,
        (_record_terms.plan).monthly_credits, (_record_terms.plan).trial_credits, (_record_terms.plan).rollover,
        (_record_terms.plan).rollover_periods, (_record_terms.plan).rollover_cap,
        (_record_terms.plan).proration_credits, (_record_terms.plan).downgrade_credits,
        (_record_terms.plan).cancel_credits, (_record_terms.plan).trial_end_credits
    )
    on conflict on constraint credit_terms_pkey do update
    set initial_credits = excluded.initial_credits,
        monthly_credits = excluded.monthly_credits,
        trial_credits = excluded.trial_credits,
        rollover = excluded.rollover,
        rollover_periods = excluded.rollover_periods,
        rollover_cap = excluded.rollover_cap,
        proration_credits = excluded.proration_credits,
        downgrade_credits = excluded.downgrade_credits,
        cancel_credits = excluded.cancel_credits,
        trial_end_credits = excluded.trial_end_credits;
end
$$;

-- Inserting or updating a plan with SQL records new terms from now on. What Stripe declares is recorded by
-- _resolve_plan, with the time of the event.
create function billing.tg_plans__record_terms()
returns trigger
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    if coalesce(current_setting('billing.is_resolving_plan', true), '') = '' then
        perform billing._record_terms(new, billing.current_time());
    end if;
    return null;
end
$$;

create trigger tg_plans__record_terms_of_new
after insert on billing.plans
for each row when (new.initial_credits + new.monthly_credits + new.trial_credits > 0)
execute function billing.tg_plans__record_terms();

create trigger tg_plans__record_terms
after update of
    initial_credits, monthly_credits, trial_credits, rollover, rollover_periods, rollover_cap, proration_credits,
    downgrade_credits, cancel_credits, trial_end_credits
on billing.plans
for each row execute function billing.tg_plans__record_terms();

-- The terms of a plan at a point in time. Private, on the hot path: one index look-up.
create function billing._terms_at(stripe_price_id text, moment timestamptz)
returns billing.credit_terms
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_terms billing.credit_terms;
begin
    select * into v_terms from billing.credit_terms
    where credit_terms.stripe_price_id = _terms_at.stripe_price_id and credit_terms.valid_from <= _terms_at.moment
    order by credit_terms.valid_from desc
    limit 1;
    if not found then
        select * into v_terms from billing.credit_terms
        where credit_terms.stripe_price_id = _terms_at.stripe_price_id
        order by credit_terms.valid_from
        limit 1;
    end if;
    return v_terms;
end
$$;

revoke all on function
    billing._declared_plan, billing._declares_credits, billing._set_terms, billing._record_terms,
    billing.tg_plans__record_terms, billing._terms_at
from public, anon, authenticated, service_role;

comment on table billing.credit_terms is 'What each plan declared, and since when. Each grant uses the terms of its own time.';
comment on column billing.credit_terms.valid_from is 'Time of the Stripe event, or of the edit in SQL. The first row is also valid before it.';

-- 20_catalog/30_credit_packs.sql

-- One-time prices from Stripe → credit packs, whether the price or the product that declares its credits arrives first.
--
-- Invariant: a one-time price is a pack as soon as it or its product declares pack_credits, and then stays a pack:
-- later states update it, and its credits stay until others are declared. Until then only its id and state are kept in
-- one_time_prices, and it can't be bought.
--
-- Private: called by sync_price and sync_product, which hold the product's lock.

create table billing.one_time_prices (
    stripe_price_id text primary key,
    stripe_product_id text not null references billing.products (stripe_product_id),
    livemode boolean not null,
    active boolean not null,
    lookup_key text,
    nickname text,
    currency text not null,
    unit_amount bigint,
    has_custom_amount boolean not null default false,
    metadata jsonb not null,
    as_of timestamptz not null
);

create index one_time_prices_product on billing.one_time_prices (stripe_product_id);

alter table billing.one_time_prices enable row level security;

revoke all on billing.one_time_prices from public, anon, authenticated, service_role;
grant select on billing.one_time_prices to service_role;

create type billing.declared_pack as (pack_credits bigint, credits_per_unit numeric, expires_after interval);

-- The pack that a one-time price or its product declares; all null if neither declares one. If the customer chooses the
-- amount, pack_credits would be a fixed number for any amount, so only credits_per_unit counts.
create function billing._declared_pack(price billing.one_time_prices)
returns billing.declared_pack
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_price billing.one_time_prices := _declared_pack.price;
    v_pack billing.declared_pack;
    v_metadata jsonb := (
        select products.metadata from billing.products where products.stripe_product_id = v_price.stripe_product_id
    ) || v_price.metadata;
    v_after text := v_metadata ->> 'pack_expires_after';
begin
    if v_price.has_custom_amount then
        if (v_metadata ->> 'credits_per_unit') !~ '^[0-9]{1,12}([.][0-9]{1,6})?$'
            or (v_metadata ->> 'credits_per_unit')::numeric = 0 then
            raise exception 'metadata credits_per_unit of % is "%", it must be a number above 0',
                v_price.stripe_price_id, v_metadata ->> 'credits_per_unit'
                using errcode = 'TB017', hint = 'Correct the metadata in Stripe. The update event then syncs the pack.';
        end if;
        v_pack.credits_per_unit := (v_metadata ->> 'credits_per_unit')::numeric;
    else
        v_pack.pack_credits := billing._declared_credits(v_price.stripe_price_id, 'pack_credits', v_metadata, '{}');
        if v_pack.pack_credits = 0 then
            raise exception 'metadata pack_credits of % is "0", it must be at least 1', v_price.stripe_price_id
                using errcode = 'TB017', hint = 'Correct the metadata in Stripe. The update event then syncs the pack.';
        end if;
    end if;
    if v_after !~ '^[1-9][0-9]{0,3} (day|month|year)s?$' then
        raise exception 'metadata pack_expires_after of % is "%", it must be a duration such as "90 days", "12 months" or "1 year"',
            v_price.stripe_price_id, v_after
            using errcode = 'TB017', hint = 'Correct the metadata in Stripe. The update event then syncs the pack.';
    end if;
    v_pack.expires_after := v_after::interval;
    return v_pack;
end
$$;

create function billing._is_pack(declared billing.declared_pack)
returns boolean
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
    select (_is_pack.declared).pack_credits is not null or (_is_pack.declared).credits_per_unit is not null
$$;

-- Returns applied, stale or refetch, as every sync_… function does.
create function billing._sync_one_time_price(price billing.one_time_prices)
returns text
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_price billing.one_time_prices := _sync_one_time_price.price;
    v_declared billing.declared_pack := billing._declared_pack(v_price);
    v_as_of timestamptz := (
        select max(held.as_of)
        from (
            select credit_packs.as_of from billing.credit_packs
            where credit_packs.stripe_price_id = v_price.stripe_price_id
            union all
            select one_time_prices.as_of from billing.one_time_prices
            where one_time_prices.stripe_price_id = v_price.stripe_price_id
        ) as held
    );
begin
    if v_as_of >= v_price.as_of then
        return billing._refused(v_as_of, v_price.as_of);
    end if;

    update billing.credit_packs
    set active = v_price.active, lookup_key = v_price.lookup_key, nickname = v_price.nickname,
        pack_credits = case
            when billing._is_pack(v_declared) then v_declared.pack_credits else credit_packs.pack_credits
        end,
        credits_per_unit = case
            when billing._is_pack(v_declared) then v_declared.credits_per_unit else credit_packs.credits_per_unit
        end,
        expires_after = v_declared.expires_after, metadata = v_price.metadata, as_of = v_price.as_of, updated_at = now()
    where credit_packs.stripe_price_id = v_price.stripe_price_id;
    if found then
        return 'applied';
    end if;
    delete from billing.one_time_prices where one_time_prices.stripe_price_id = v_price.stripe_price_id;
    if billing._is_pack(v_declared) then
        perform billing._open_pack(v_price, v_declared);
    else
        insert into billing.one_time_prices select (v_price).*;
    end if;
    return 'applied';
end
$$;

create function billing._open_pack(price billing.one_time_prices, declared billing.declared_pack)
returns void
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    insert into billing.credit_packs (
        stripe_price_id, stripe_product_id, livemode, active, lookup_key, nickname, currency, unit_amount,
        pack_credits, credits_per_unit, expires_after, metadata, as_of
    )
    values (
        (_open_pack.price).stripe_price_id, (_open_pack.price).stripe_product_id, (_open_pack.price).livemode,
        (_open_pack.price).active, (_open_pack.price).lookup_key, (_open_pack.price).nickname,
        (_open_pack.price).currency, (_open_pack.price).unit_amount, (_open_pack.declared).pack_credits,
        (_open_pack.declared).credits_per_unit, (_open_pack.declared).expires_after, (_open_pack.price).metadata,
        (_open_pack.price).as_of
    )
$$;

-- Applies what a product declares to those of its prices that declare nothing themselves.
create function billing._resolve_packs(stripe_product_id text)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_price billing.one_time_prices;
begin
    update billing.credit_packs
    set pack_credits = (found.declared).pack_credits, credits_per_unit = (found.declared).credits_per_unit,
        expires_after = (found.declared).expires_after, updated_at = now()
    from (
        select packs.stripe_price_id, billing._declared_pack(row(
            packs.stripe_price_id, packs.stripe_product_id, packs.livemode, packs.active, packs.lookup_key,
            packs.nickname, packs.currency, packs.unit_amount, packs.credits_per_unit is not null, packs.metadata,
            packs.as_of
        )) as declared
        from billing.credit_packs as packs
        where packs.stripe_product_id = _resolve_packs.stripe_product_id
    ) as found
    where credit_packs.stripe_price_id = found.stripe_price_id and billing._is_pack(found.declared)
        and (credit_packs.pack_credits, credit_packs.credits_per_unit, credit_packs.expires_after) is distinct from
            ((found.declared).pack_credits, (found.declared).credits_per_unit, (found.declared).expires_after);

    for v_price in
        delete from billing.one_time_prices
        where one_time_prices.stripe_product_id = _resolve_packs.stripe_product_id
            and billing._is_pack(billing._declared_pack(one_time_prices))
        returning *
    loop
        perform billing._open_pack(v_price, billing._declared_pack(v_price));
    end loop;
end
$$;

revoke all on function
    billing._declared_pack, billing._is_pack, billing._sync_one_time_price, billing._open_pack, billing._resolve_packs
from public, anon, authenticated, service_role;

comment on table billing.one_time_prices is 'One-time Stripe prices without credits of their own or of their product. They become packs if credits are declared later.';

-- 20_catalog/40_plan_terms.sql

-- A plan's terms of sale: the length of its trial, the number of seats.
--
-- Invariant: as credits, they come from the metadata of the price, else of the product, else stay as they are, and a value
-- that is not valid is an error that names it (TB017). Only checkout uses them: other subscriptions keep their own terms.
--
--     trial_days   0 (none) to 730
--     seats        any, a number (5: exactly 5), or a range (2-50)
--
-- Private: called by _resolve_plan.

create function billing._resolve_terms(plan billing.plans, product billing.products)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_stripe_price_id text := (_resolve_terms.plan).stripe_price_id;
    v_trial text := coalesce(
        (_resolve_terms.plan).metadata ->> 'trial_days', (_resolve_terms.product).metadata ->> 'trial_days'
    );
    v_seats text := coalesce((_resolve_terms.plan).metadata ->> 'seats', (_resolve_terms.product).metadata ->> 'seats');
    v_bounds text[] := regexp_match(v_seats, '^([1-9][0-9]{0,5})(?:-([1-9][0-9]{0,5}))?$');
begin
    if v_trial !~ '^[0-9]{1,3}$' or v_trial::integer > 730 then
        raise exception 'metadata trial_days of % is "%", it must be a whole number of days up to 730', v_stripe_price_id, v_trial
            using errcode = 'TB017', hint = 'Correct the metadata in Stripe. The update event then syncs the plan.';
    elsif v_seats <> 'any' and (v_bounds is null or v_bounds[2]::bigint < v_bounds[1]::bigint) then
        raise exception 'metadata seats of % is "%", it must be any, N or N-M', v_stripe_price_id, v_seats
            using errcode = 'TB017', hint = 'Correct the metadata in Stripe. The update event then syncs the plan.';
    end if;
    update billing.plans
    set trial_days = coalesce(v_trial::integer, plans.trial_days),
        seats_min = case when v_seats is null then plans.seats_min else coalesce(v_bounds[1]::bigint, 1) end,
        seats_max = case when v_seats is null then plans.seats_max else coalesce(v_bounds[2], v_bounds[1])::bigint end
    where plans.stripe_price_id = v_stripe_price_id
        and (v_trial is not null or v_seats is not null);
end
$$;

revoke all on function billing._resolve_terms from public, anon, authenticated, service_role;

-- 30_ledger/10_credits.sql

-- The credit ledger's tables.
--
-- Invariant, at every commit and for every account:
--     balance = sum of entries = sum of what remains in open lots - debt
-- credit_balances       one permanent row for each account: every movement locks it, and it has all that a movement checks
-- credit_entries        append-only, for the owner too: amount, balance_after and the key that makes it unique
-- credit_grants         lots: what was granted, what remains, when it expires, what paid for it
-- credit_consumptions   which entry took how much from which lot (negative: returned)
-- credit_holds          credits set aside until captured, released or expired; credit_hold_lots: the lots that they reserve
-- Clients read their own rows; only functions write. Rules for rows: sound_rows.

create table billing.credit_balances (
    account_id uuid primary key references billing.accounts (id),
    balance bigint not null default 0,
    held bigint not null default 0,
    debt bigint not null default 0,
    withheld bigint not null default 0,
    carried bigint not null default 0,
    written_off_debt bigint not null default 0,
    written_off_withheld bigint not null default 0,
    written_off_at timestamptz,
    next_due_at timestamptz,
    may_spend boolean not null default true,
    overdraft bigint not null default 0,
    spend_cap bigint,
    spend_cap_period text,
    spent_in_period bigint not null default 0,
    spend_period_start timestamptz,
    low_balance_threshold bigint,
    is_low boolean not null default false,
    recharge_below bigint,
    updated_at timestamptz not null default now(),
    epoch integer not null default 0
) with (fillfactor = 70);

-- While a session keeps an old snapshot (a dump, a forgotten transaction), Postgres keeps every version of a row, and a
-- look-up by key visits all of them: after 30,000 spends, a spend took fifteen times as long. So the rows that each
-- spend updates have an epoch, which one update in fifty increments, and look-ups start with the newest epoch. The
-- index has a hash of the account ("is not distinct from" uses no index), so that the planner cannot use the primary
-- key; enable_seqscan is off, because it would scan a small table, which is not small behind an old snapshot.
create index credit_balances_newest on billing.credit_balances (uuid_hash(account_id), epoch desc);
create index credit_balances_due on billing.credit_balances (next_due_at) where next_due_at is not null;

create table billing.credit_entries (
    id bigint generated always as identity primary key,
    account_id uuid not null,
    kind billing.entry_kind not null,
    amount bigint not null,
    balance_after bigint not null,
    debt bigint not null default 0,
    up_to billing.positive_credits,
    source text not null,
    reference_id text,
    description text,
    feature text,
    metadata billing.metadata not null default '{}',
    actor text,
    reverses_entry_id bigint references billing.credit_entries (id),
    hold_id uuid,
    key_space billing.key_space not null,
    idempotency_key billing.idempotency_key not null,
    occurred_at timestamptz not null,
    created_at timestamptz not null default now()
);

create index credit_entries_history on billing.credit_entries (account_id, id desc);
create index credit_entries_time on billing.credit_entries (account_id, occurred_at);
-- If statistics say that accounts have about one entry each, or if there are none yet, all three indexes cost the same
-- for a key look-up, and only this one does not read the account's history. The last created index wins a tie, and the
-- estimate of many entries for each account avoids the tie.
create unique index credit_entries_key on billing.credit_entries (account_id, key_space, idempotency_key);
alter table billing.credit_entries alter column account_id set (n_distinct = -0.01);

create table billing.credit_grants (
    id bigint generated always as identity primary key,
    account_id uuid not null,
    entry_id bigint,
    amount billing.positive_credits not null,
    remaining bigint not null,
    held bigint not null default 0,
    contested bigint not null default 0,
    cut bigint not null default 0,
    lapsed bigint not null default 0,
    priority integer not null default 100,
    effective_at timestamptz not null,
    expires_at timestamptz,
    closed_at timestamptz,
    source text not null,
    reference_id text,
    description text,
    key_space billing.key_space not null,
    idempotency_key billing.idempotency_key not null,
    stripe_invoice_id text,
    stripe_subscription_item_id text,
    stripe_price_id text,
    stripe_checkout_session_id text,
    stripe_payment_intent_id text,
    created_at timestamptz not null default now(),
    epoch integer not null default 0
) with (fillfactor = 80);

-- The order in which lots are spent: priority, soonest expiry, oldest. closed_at rather than remaining in the
-- predicate, so that taking from a lot changes no index. Of one lot the newest version comes first.
create index credit_grants_spending_order on billing.credit_grants (account_id, priority, expires_at, id, epoch desc)
where closed_at is null;
-- Scheduled lots.
create index credit_grants_scheduled on billing.credit_grants (account_id, effective_at)
where entry_id is null and closed_at is null;
create unique index credit_grants_key on billing.credit_grants (account_id, key_space, idempotency_key);
create unique index credit_grants_business_key on billing.credit_grants (idempotency_key) where key_space = 'stripe';
create index credit_grants_entry on billing.credit_grants (entry_id);
create index credit_grants_invoice on billing.credit_grants (stripe_invoice_id) where stripe_invoice_id is not null;
create index credit_grants_payment_intent on billing.credit_grants (stripe_payment_intent_id)
where stripe_payment_intent_id is not null;
create index credit_grants_contested on billing.credit_grants (account_id) where contested > 0;

create table billing.credit_consumptions (
    entry_id bigint not null,
    grant_id bigint not null,
    amount billing.credit_change not null,
    primary key (entry_id, grant_id)
);

create index credit_consumptions_grant on billing.credit_consumptions (grant_id);
-- Credits that were returned to a lot; finds the latest at once.
create index credit_consumptions_given_back on billing.credit_consumptions (grant_id, entry_id) where amount < 0;

create table billing.credit_holds (
    id uuid primary key default gen_random_uuid(),
    account_id uuid not null references billing.accounts (id),
    amount billing.positive_credits not null,
    captured billing.credits not null default 0,
    status text not null default 'held',
    description text,
    metadata billing.metadata not null default '{}',
    feature text,
    idempotency_key billing.idempotency_key not null,
    release_key billing.idempotency_key,
    frozen_grant_id bigint references billing.credit_grants (id),
    expires_in interval not null,
    expires_at timestamptz not null,
    settled_at timestamptz,
    created_at timestamptz not null default now(),
    constraint captured_is_within_the_amount check (captured <= amount),
    constraint status_is_known check (status in ('held', 'captured', 'released', 'expired')),
    constraint settled_holds_say_when check ((status = 'held') = (settled_at is null))
);

create unique index credit_holds_key on billing.credit_holds (account_id, idempotency_key);
create unique index credit_holds_release_key on billing.credit_holds (account_id, release_key) where release_key is not null;
create index credit_holds_frozen on billing.credit_holds (frozen_grant_id) where frozen_grant_id is not null;
create index credit_holds_of_disputes on billing.credit_holds (account_id)
where status = 'held' and frozen_grant_id is not null;
create index credit_holds_open on billing.credit_holds (account_id, expires_at) where status = 'held';

create table billing.credit_hold_lots (
    hold_id uuid not null references billing.credit_holds (id),
    grant_id bigint not null references billing.credit_grants (id),
    amount billing.credits not null,
    primary key (hold_id, grant_id)
);

create index credit_hold_lots_grant on billing.credit_hold_lots (grant_id);

alter table billing.credit_entries
add constraint credit_entries_hold_id_fkey foreign key (hold_id) references billing.credit_holds (id);
create index credit_entries_hold on billing.credit_entries (hold_id) where hold_id is not null;
create index credit_entries_reverses on billing.credit_entries (reverses_entry_id) where reverses_entry_id is not null;
-- A few bytes for a hundred pages, so movements cost no more: entries are in the order of time anyway.
create index credit_entries_moment on billing.credit_entries using brin (occurred_at);

create function billing.tg_accounts__open_balance()
returns trigger
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    insert into billing.credit_balances (account_id) values (new.id);
    return null;
end
$$;

create trigger tg_accounts__open_balance
after insert on billing.accounts
for each row execute function billing.tg_accounts__open_balance();

-- Functions that freeze or close an account lock its balance first, as every movement does.
create function billing.tg_accounts__may_spend()
returns trigger
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    update billing.credit_balances set may_spend = new.frozen_at is null and new.closed_at is null
    where credit_balances.account_id = new.id;
    return null;
end
$$;

create trigger tg_accounts__may_spend
after update of frozen_at, closed_at on billing.accounts
for each row execute function billing.tg_accounts__may_spend();

-- Accounts of users who signed up while the migrations were applied.
insert into billing.credit_balances (account_id) select accounts.id from billing.accounts on conflict do nothing;

create function billing.tg_ledger__append_only()
returns trigger
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    raise exception '% refused: % is append-only', lower(tg_op), tg_table_name
        using errcode = 'TB015', hint = 'Correct a mistake with a new entry, such as a revocation or a refund.';
end
$$;

create trigger tg_credit_entries__append_only
before update or delete or truncate on billing.credit_entries
for each statement execute function billing.tg_ledger__append_only();

create trigger tg_credit_consumptions__append_only
before update or delete or truncate on billing.credit_consumptions
for each statement execute function billing.tg_ledger__append_only();

-- Rows that entries, lots and their lineage refer to are never deleted, so they need no foreign keys, which were a
-- third of the cost of a batch of spends and a sixth of a month's allocation. ledger_discrepancies lists broken
-- references.
create trigger tg_credit_balances__kept
before delete or truncate on billing.credit_balances
for each statement execute function billing.tg_ledger__append_only();

create trigger tg_credit_grants__kept
before delete or truncate on billing.credit_grants
for each statement execute function billing.tg_ledger__append_only();

alter table billing.credit_balances enable row level security;
alter table billing.credit_entries enable row level security;
alter table billing.credit_grants enable row level security;
alter table billing.credit_consumptions enable row level security;
alter table billing.credit_holds enable row level security;
alter table billing.credit_hold_lots enable row level security;

revoke all on all sequences in schema billing from public, anon, authenticated, service_role;
revoke all on
    billing.credit_balances, billing.credit_entries, billing.credit_grants, billing.credit_consumptions,
    billing.credit_holds, billing.credit_hold_lots
from public, anon, authenticated, service_role;

create policy credit_balances_select_own on billing.credit_balances
for select to authenticated using (account_id = any (array(select billing.my_account_ids())));

create policy credit_entries_select_own on billing.credit_entries
for select to authenticated using (account_id = any (array(select billing.my_account_ids())));

create policy credit_grants_select_own on billing.credit_grants
for select to authenticated using (account_id = any (array(select billing.my_account_ids())));

create policy credit_holds_select_own on billing.credit_holds
for select to authenticated using (account_id = any (array(select billing.my_account_ids())));

-- The holds are read first, under their own policy, and once for each statement.
create policy credit_hold_lots_select_own on billing.credit_hold_lots
for select to authenticated using (hold_id = any (array(select credit_holds.id from billing.credit_holds)));

revoke all on function
    billing.tg_accounts__open_balance, billing.tg_accounts__may_spend, billing.tg_ledger__append_only
from public, anon, authenticated, service_role;
grant select on
    billing.credit_balances, billing.credit_entries, billing.credit_grants, billing.credit_holds,
    billing.credit_hold_lots
to authenticated;
grant select on
    billing.credit_balances, billing.credit_entries, billing.credit_grants, billing.credit_consumptions,
    billing.credit_holds, billing.credit_hold_lots
to service_role;

comment on table billing.credit_balances is 'The balance of each account: one row that every movement locks.';
comment on column billing.credit_balances.balance is 'Credits; sum of all entries. Below zero only by debt.';
comment on column billing.credit_balances.held is 'Credits set aside by open holds; part of balance.';
comment on column billing.credit_balances.debt is 'Credits owed, because spent credits were revoked or an overdraft was used; the next grant repays them.';
comment on column billing.credit_balances.withheld is 'Credits that the next grants give up, because spent credits were revoked.';
comment on column billing.credit_balances.carried is 'Credits by which the next credits that invoices pay for are reduced: spent credits of time that Stripe credited back.';
comment on column billing.credit_balances.written_off_debt is 'Debt that closing the account wrote off; refunds of older movements repay it first.';
comment on column billing.credit_balances.written_off_withheld is 'Withholding that closing the account ended; refunds of older movements cover it first.';
comment on column billing.credit_balances.written_off_at is 'When the account was last closed with debt or withholding, by the clock of created_at.';
comment on column billing.credit_balances.next_due_at is 'The earliest time at which a lot opens or expires or a hold expires; null: never.';
comment on column billing.credit_balances.may_spend is 'False while the account is frozen or closed; see accounts.';
comment on column billing.credit_balances.overdraft is 'How far spending may go below zero.';
comment on column billing.credit_balances.spend_cap is 'Credits that may be spent in a spend_cap_period (UTC); null: no cap.';
comment on column billing.credit_balances.spent_in_period is 'Credits spent since spend_period_start; kept while there is a cap. Open holds count towards the cap in addition.';
comment on column billing.credit_balances.epoch is 'Incremented by one update in fifty, so that look-ups skip old versions of the row.';
comment on column billing.credit_balances.low_balance_threshold is 'The customer is notified when the available credits fall below it, once for each fall.';
comment on column billing.credit_balances.recharge_below is 'A credit pack is bought when the available credits fall below it; null: no auto-recharge is waiting.';
comment on column billing.credit_balances.is_low is 'True if the available credits were below the threshold at the last check.';
comment on table billing.credit_entries is 'Every movement of credits, once; never changed or deleted.';
comment on column billing.credit_entries.balance_after is 'The account''s balance after this entry; ids of one account are in order of commit.';
comment on column billing.credit_entries.debt is 'By how much it increased the account''s debt; negative: repaid.';
comment on column billing.credit_entries.up_to is 'The requested amount of a spend with up_to; else null.';
comment on column billing.credit_entries.occurred_at is 'When it happened, in billing time; created_at is when it was written.';
comment on table billing.credit_grants is 'Lots of credits: what is left of each grant and what paid for it.';
comment on column billing.credit_grants.entry_id is 'The entry that opened the lot; null until a scheduled lot opens.';
comment on column billing.credit_grants.held is 'Part of remaining that open holds have reserved.';
comment on column billing.credit_grants.contested is 'Credits of an open dispute that could not be frozen, because they were spent or held; frozen when they return.';
comment on column billing.credit_grants.cut is 'Credits that were left out, because their payment had already been refunded.';
comment on column billing.credit_grants.lapsed is 'Credits that expired unspent, or that the closing of the account forfeited.';
comment on table billing.credit_consumptions is 'Which entry took how many credits from which lot; negative: returned.';
comment on table billing.credit_holds is 'Credits set aside until captured, released or expired.';
comment on column billing.credit_holds.frozen_grant_id is 'The lot that a dispute froze; null for the app''s own holds.';
comment on column billing.credit_holds.release_key is 'The idempotency key of its release.';
comment on table billing.credit_hold_lots is 'The lots of a hold, and how many credits of each it still reserves.';

-- 30_ledger/12_sound_rows.sql

-- Rules for the ledger's rows, besides the types of their columns.
--
-- Invariant: every written row is checked, by every writer. Triggers, because Postgres parses the CHECKs of a table
-- again for every statement that writes to it, which was a quarter of a spend; a trigger is compiled once for each
-- connection. Errors are those of a CHECK: 23514, with the rule's name.

create function billing._raise_unsound(table_name text, rule text)
returns void
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    raise exception 'new row for relation "%" violates check constraint "%"', _raise_unsound.table_name, _raise_unsound.rule
        using errcode = 'check_violation', schema = 'billing', table = _raise_unsound.table_name,
            constraint = _raise_unsound.rule;
end
$$;

create function billing.tg_credit_balances__sound()
returns trigger
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    -- Null (no cap, no threshold) violates no rule.
    if least(new.held, new.debt, new.withheld, new.carried, new.written_off_debt, new.written_off_withheld, new.overdraft, new.spend_cap, new.low_balance_threshold) < 0 then
        perform billing._raise_unsound(tg_table_name, 'only_the_balance_is_negative');
    elsif (new.spend_cap is null) <> (new.spend_cap_period is null)
        or new.spend_cap_period not in ('day', 'week', 'month') then
        perform billing._raise_unsound(tg_table_name, 'spend_cap_comes_with_its_period');
    end if;
    return new;
end
$$;

create trigger tg_credit_balances__sound
-- Only for the checked columns: a plain spend writes none of them.
before insert or update of held, debt, withheld, carried, written_off_debt, written_off_withheld, overdraft, spend_cap,
    spend_cap_period, low_balance_threshold
on billing.credit_balances
for each row execute function billing.tg_credit_balances__sound();

create function billing.tg_credit_entries__sound()
returns trigger
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    if (
        case
            when new.kind in ('grant', 'reinstatement', 'refund', 'transfer_in') then new.amount <= 0
            when new.kind = 'adjustment' then new.amount = 0
            when new.kind = 'repayment' then new.amount <> 0
            else new.amount >= 0
        end
    ) then
        perform billing._raise_unsound(tg_table_name, 'amount_has_the_sign_of_its_kind');
    end if;
    return new;
end
$$;

create trigger tg_credit_entries__sound
before insert on billing.credit_entries
for each row execute function billing.tg_credit_entries__sound();

create function billing.tg_credit_grants__sound()
returns trigger
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    if new.held < 0 or new.held > new.remaining or new.remaining > new.amount then
        perform billing._raise_unsound(tg_table_name, 'held_remaining_and_amount_ascend');
    elsif new.remaining <> 0 and (new.entry_id is null or new.closed_at is not null) then
        perform billing._raise_unsound(tg_table_name, 'only_open_lots_hold_credits');
    elsif new.expires_at <= new.effective_at then
        perform billing._raise_unsound(tg_table_name, 'expires_after_it_takes_effect');
    end if;
    return new;
end
$$;

create trigger tg_credit_grants__sound
before insert or update on billing.credit_grants
for each row execute function billing.tg_credit_grants__sound();

revoke all on function
    billing._raise_unsound, billing.tg_credit_balances__sound, billing.tg_credit_entries__sound,
    billing.tg_credit_grants__sound
from public, anon, authenticated, service_role;

-- 30_ledger/14_movements.sql

-- Checks that all movements of credits share.
--
-- Invariant: an account's balance row is locked before anything is read, so idempotency, freezing and sufficiency are
-- checked on the data that will be committed. Same key and same arguments: returns the first entry. Same key, other
-- arguments: TB002. Amounts are passed as numeric, so that a fraction, NaN or too many digits gives a clear error and
-- is never rounded.

create function billing._checked_amount(amount numeric)
returns bigint
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    if _checked_amount.amount between 1 and 9223372036854775807 and _checked_amount.amount = trunc(_checked_amount.amount) then
        return _checked_amount.amount::bigint;
    end if;
    raise exception 'amount is %, not a whole number of credits from 1 to 9223372036854775807',
        coalesce(_checked_amount.amount::text, 'null')
        using errcode = 'TB005', hint = 'Pass credits as a positive whole number.';
end
$$;

create function billing._checked_key(idempotency_key text, metadata jsonb)
returns text
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    if _checked_key.idempotency_key is null or length(_checked_key.idempotency_key) not between 1 and 255 then
        raise exception 'idempotency_key has % characters, it needs 1 to 255',
            coalesce(length(_checked_key.idempotency_key), 0)
            using errcode = 'TB006', hint = 'Use the id of what the credits are for, such as a job or an order.';
    elsif jsonb_typeof(_checked_key.metadata) is distinct from 'object' then
        raise exception 'metadata is %, it must be an object', coalesce(jsonb_typeof(_checked_key.metadata), 'null')
            using errcode = 'TB007', hint = 'Pass a JSON object, such as {"job": "42"}.';
    end if;
    return _checked_key.idempotency_key;
end
$$;

create function billing._check_reason(reason text, actor text)
returns void
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    if coalesce(length(_check_reason.reason), 0) = 0 or coalesce(length(_check_reason.actor), 0) = 0 then
        raise exception 'reason or actor is missing'
            using errcode = 'TB028', hint = 'Pass both. They are stored with the entry.';
    end if;
end
$$;

create function billing._raise_no_account(account_id uuid)
returns void
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    raise exception 'there is no account %', coalesce(_raise_no_account.account_id::text, 'null')
        using errcode = 'TB004', hint = 'Use the id of a row in billing.accounts, not the id of the user.';
end
$$;

create function billing._raise_key_reused(idempotency_key text)
returns void
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    raise exception 'idempotency key % was used before with other arguments', _raise_key_reused.idempotency_key
        using errcode = 'TB002', hint = 'Repeat the first call unchanged, or use a new key for a new movement.';
end
$$;

-- Raises if another movement of the account has used the key.
create function billing._check_key_is_new(account_id uuid, idempotency_key text)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    if exists (
        select from billing.credit_entries
        where credit_entries.account_id = _check_key_is_new.account_id and credit_entries.key_space = 'caller'
            and credit_entries.idempotency_key = _check_key_is_new.idempotency_key
    ) then
        perform billing._raise_key_reused(_check_key_is_new.idempotency_key);
    end if;
end
$$;

-- Locks the account's balance row; every movement starts with this. TB004 if there is none.
create function billing._lock_balance(account_id uuid)
returns billing.credit_balances
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
as $$
declare
    v_balance billing.credit_balances;
begin
    select * into v_balance from billing.credit_balances
    where uuid_hash(credit_balances.account_id) = uuid_hash(_lock_balance.account_id)
        and credit_balances.account_id is not distinct from _lock_balance.account_id
    order by credit_balances.epoch desc
    limit 1
    for update;
    if not found then
        perform billing._raise_no_account(_lock_balance.account_id);
    end if;
    return v_balance;
end
$$;

-- Raises if the account is frozen or closed, for movements that take credits.
create function billing._check_may_spend(account_id uuid)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_account billing.accounts;
begin
    select * into strict v_account from billing.accounts where accounts.id = _check_may_spend.account_id;
    if v_account.frozen_at is not null then
        raise exception 'account % is frozen: %', v_account.id, v_account.frozen_reason
            using errcode = 'TB003', hint = 'The account can spend again after it is unfrozen.';
    elsif v_account.closed_at is not null then
        perform billing._check_open(v_account.id);
    end if;
end
$$;

create function billing._check_open(account_id uuid)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    if exists (select from billing.accounts where accounts.id = _check_open.account_id and accounts.closed_at is not null) then
        raise exception 'account % is closed', _check_open.account_id
            using errcode = 'TB008', hint = 'Use another account, or reopen this one.';
    end if;
end
$$;

create function billing._raise_insufficient(account_id uuid, available numeric, needed numeric)
returns void
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    raise exception 'account % has % credits available, % are needed',
        _raise_insufficient.account_id, greatest(_raise_insufficient.available, 0), _raise_insufficient.needed
        using errcode = 'TB001', hint = 'Offer the user a credit pack or a larger plan.';
end
$$;

-- The balance row with the counter of the current day, week or month (UTC).
create function billing._in_running_period(balance billing.credit_balances)
returns billing.credit_balances
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_balance billing.credit_balances := _in_running_period.balance;
    v_period_start timestamptz := date_trunc(v_balance.spend_cap_period, billing.current_time(), 'UTC');
begin
    -- Only forward: a started period is never counted again.
    if coalesce(v_balance.spend_period_start < v_period_start, true) then
        v_balance.spend_period_start := v_period_start;
        v_balance.spent_in_period := 0;
    end if;
    return v_balance;
end
$$;

-- How many more credits the cap allows. Held credits count too, because they may be captured in this period; credits
-- frozen by a dispute don't, because they cannot be spent.
create function billing._room_under_cap(balance billing.credit_balances)
returns bigint
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_balance billing.credit_balances := billing._in_running_period(_room_under_cap.balance);
    v_held bigint := v_balance.held;
begin
    if v_held > 0 then
        v_held := v_held - coalesce((
            select sum(credit_holds.amount - credit_holds.captured) from billing.credit_holds
            where credit_holds.account_id = v_balance.account_id and credit_holds.status = 'held'
                and credit_holds.frozen_grant_id is not null
        ), 0);
    end if;
    return greatest(v_balance.spend_cap - v_balance.spent_in_period - v_held, 0);
end
$$;

-- Raises TB021 if the account's cap would be exceeded; otherwise returns the balance row with the spend counted.
create function billing._count_spend(balance billing.credit_balances, amount bigint)
returns billing.credit_balances
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_balance billing.credit_balances := billing._in_running_period(_count_spend.balance);
    v_room bigint := billing._room_under_cap(v_balance);
begin
    if _count_spend.amount > v_room then
        raise exception 'account % may spend % more credits this %, % are needed', v_balance.account_id,
            v_room, v_balance.spend_cap_period, _count_spend.amount
            using errcode = 'TB021',
            hint = 'Release holds that are not needed, wait for the next period, or raise the cap with set_credit_limits.';
    end if;
    v_balance.spent_in_period := v_balance.spent_in_period + _count_spend.amount;
    return v_balance;
end
$$;

revoke all on function
    billing._checked_amount, billing._checked_key, billing._check_reason, billing._check_key_is_new,
    billing._raise_no_account, billing._raise_key_reused, billing._lock_balance, billing._check_may_spend,
    billing._check_open, billing._raise_insufficient, billing._in_running_period, billing._room_under_cap,
    billing._count_spend
from public, anon, authenticated, service_role;

-- 30_ledger/15_posting.sql

-- The posting kernel: writes balances, entries, lots and lineage. Every movement of credits uses it; only a plain spend
-- writes the same rows by a shorter path (spend_credits).
--
-- Invariant: an entry changes its account's balance by its amount and its debt by its debt; it takes from lots what it
-- opened - amount - debt. The lots that it names pay first, open lots in the order of spending pay the rest.
--
-- A movement locks the balance, checks, creates its entry with _entry and calls _post_entry, or _post_entries for
-- several. Private.

-- A new entry, not posted yet, with its id, so that lots and lineage can refer to it.
create function billing._entry(
    account_id uuid, kind text, amount bigint, source text, key_space text, idempotency_key text,
    occurred_at timestamptz, debt bigint default 0, reference_id text default null, description text default null,
    metadata jsonb default '{}', actor text default null, feature text default null, up_to bigint default null,
    reverses_entry_id bigint default null, hold_id uuid default null, balance_after bigint default null,
    id bigint default nextval('billing.credit_entries_id_seq')
)
returns billing.credit_entries
language sql
stable
as $$
    select row(
        _entry.id, _entry.account_id, _entry.kind, _entry.amount, _entry.balance_after, _entry.debt, _entry.up_to,
        _entry.source, _entry.reference_id, _entry.description, _entry.feature, _entry.metadata, _entry.actor,
        _entry.reverses_entry_id, _entry.hold_id, _entry.key_space, _entry.idempotency_key, _entry.occurred_at, now()
    )::billing.credit_entries
$$;

-- A new lot that an entry opens, or (without entry_id) a scheduled lot that opens when it takes effect.
create function billing._lot(
    account_id uuid, entry_id bigint, amount bigint, effective_at timestamptz, source text, reference_id text,
    key_space text, idempotency_key text, description text default null, priority integer default 100,
    expires_at timestamptz default null, stripe_invoice_id text default null,
    stripe_subscription_item_id text default null, stripe_price_id text default null,
    stripe_checkout_session_id text default null, stripe_payment_intent_id text default null,
    id bigint default nextval('billing.credit_grants_id_seq')
)
returns billing.credit_grants
language sql
immutable
as $$
    select row(
        _lot.id, _lot.account_id, _lot.entry_id, _lot.amount,
        case when _lot.entry_id is null then 0 else _lot.amount end, 0, 0, 0, 0, _lot.priority, _lot.effective_at,
        _lot.expires_at, null, _lot.source, _lot.reference_id, _lot.description, _lot.key_space, _lot.idempotency_key,
        _lot.stripe_invoice_id, _lot.stripe_subscription_item_id, _lot.stripe_price_id,
        _lot.stripe_checkout_session_id, _lot.stripe_payment_intent_id, null, 0
    )::billing.credit_grants
$$;

-- A balance changed by an amount, with a lot that falls due at a time.
create function billing._moved(balance billing.credit_balances, amount bigint, due_at timestamptz default null)
returns billing.credit_balances
language sql
immutable
as $$
    select row(
        (_moved.balance).account_id, (_moved.balance).balance + _moved.amount, (_moved.balance).held,
        (_moved.balance).debt, (_moved.balance).withheld, (_moved.balance).carried, (_moved.balance).written_off_debt,
        (_moved.balance).written_off_withheld, (_moved.balance).written_off_at,
        least((_moved.balance).next_due_at, _moved.due_at), (_moved.balance).may_spend, (_moved.balance).overdraft,
        (_moved.balance).spend_cap, (_moved.balance).spend_cap_period, (_moved.balance).spent_in_period,
        (_moved.balance).spend_period_start, (_moved.balance).low_balance_threshold, (_moved.balance).is_low,
        (_moved.balance).recharge_below, (_moved.balance).updated_at, (_moved.balance).epoch
    )::billing.credit_balances
$$;

-- Entries whose credits lapse unspent: expiries and forfeits.
create function billing._lets_lapse(entry billing.credit_entries)
returns boolean
language sql
immutable
as $$
    select (_lets_lapse.entry).kind = 'expiry'
        or (_lets_lapse.entry).kind = 'adjustment' and (_lets_lapse.entry).source = 'closing'
$$;

-- Writes movements of any number of accounts: the new balances, entries with balance_after, lots that are opened whole,
-- and what is taken from named lots. Returns how much that is.
create function billing._write_entries(
    balances billing.credit_balances[], entries billing.credit_entries[], lots billing.credit_grants[],
    takes billing.credit_consumptions[]
)
returns numeric
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
-- Uses indexes, even for tables that were small when the statement was planned; and a generic plan, because a plan for
-- one row looks so much cheaper than that for any number that each call would be planned again.
set enable_seqscan = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
declare
    v_taken numeric := 0;
begin
    update billing.credit_balances as balance
    set balance = moved.balance,
        debt = moved.debt,
        held = moved.held,
        withheld = moved.withheld,
        carried = moved.carried,
        written_off_debt = moved.written_off_debt,
        written_off_withheld = moved.written_off_withheld,
        written_off_at = moved.written_off_at,
        next_due_at = moved.next_due_at,
        spent_in_period = moved.spent_in_period,
        spend_period_start = moved.spend_period_start,
        updated_at = now(),
        epoch = balance.epoch + (random() < 0.02)::integer
    from unnest(_write_entries.balances) as moved
    where uuid_hash(balance.account_id) = uuid_hash(moved.account_id)
        and balance.account_id is not distinct from moved.account_id and balance.epoch >= moved.epoch;

    insert into billing.credit_entries (
        id, account_id, kind, amount, balance_after, debt, up_to, source, reference_id, description, feature, metadata,
        actor, reverses_entry_id, hold_id, key_space, idempotency_key, occurred_at
    )
    overriding system value
    select
        entry.id, entry.account_id, entry.kind, entry.amount, entry.balance_after, entry.debt, entry.up_to,
        entry.source, entry.reference_id, entry.description, entry.feature, entry.metadata, entry.actor,
        entry.reverses_entry_id, entry.hold_id, entry.key_space, entry.idempotency_key, entry.occurred_at
    from unnest(_write_entries.entries) as entry;

    if cardinality(_write_entries.lots) > 0 then
        insert into billing.credit_grants (
            id, account_id, entry_id, amount, remaining, priority, effective_at, expires_at, source, reference_id,
            description, key_space, idempotency_key, stripe_invoice_id, stripe_subscription_item_id, stripe_price_id,
            stripe_checkout_session_id, stripe_payment_intent_id
        )
        overriding system value
        select
            lot.id, lot.account_id, lot.entry_id, lot.amount, lot.remaining, lot.priority, lot.effective_at,
            lot.expires_at, lot.source, lot.reference_id, lot.description, lot.key_space, lot.idempotency_key,
            lot.stripe_invoice_id, lot.stripe_subscription_item_id, lot.stripe_price_id,
            lot.stripe_checkout_session_id, lot.stripe_payment_intent_id
        from unnest(_write_entries.lots) as lot;
    end if;

    if cardinality(_write_entries.takes) > 0 then
        with written as (
            insert into billing.credit_consumptions (entry_id, grant_id, amount)
            select take.entry_id, take.grant_id, take.amount from unnest(_write_entries.takes) as take
            returning credit_consumptions.amount
        ),
        moved as (
            -- A capture takes the credits that its hold reserved.
            update billing.credit_grants
            set remaining = credit_grants.remaining - taken.amount,
                held = credit_grants.held - taken.captured,
                lapsed = credit_grants.lapsed + taken.lapsed,
                closed_at = case when credit_grants.remaining = taken.amount then taken.taken_at end,
                epoch = credit_grants.epoch + (random() < 0.02)::integer
            from (
                select
                    take.grant_id, sum(take.amount)::bigint as amount, max(entry.occurred_at) as taken_at,
                    coalesce(sum(take.amount) filter (where entry.kind = 'capture'), 0)::bigint as captured,
                    coalesce(sum(take.amount) filter (where billing._lets_lapse(entry)), 0)::bigint as lapsed
                from unnest(_write_entries.takes) as take
                join unnest(_write_entries.entries) as entry on entry.id = take.entry_id
                group by take.grant_id
            ) as taken
            where credit_grants.id = taken.grant_id
        )
        select sum(written.amount) into v_taken from written;
    end if;
    return v_taken;
end
$$;

-- Takes what entries of one account cost beyond their named lots from its open lots, in the order of spending, except
-- held credits. The caller holds the lock, so that a lot's row does not change after it was found.
create function billing._burn_lots(
    entries billing.credit_entries[], takes billing.credit_consumptions[], amount numeric
)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
as $$
declare
    v_account_id uuid := (_burn_lots.entries[1]).account_id;
    v_lots cursor for
    select credit_grants.id, credit_grants.ctid as place, credit_grants.remaining - credit_grants.held as free
    from billing.credit_grants
    where credit_grants.account_id = v_account_id and credit_grants.closed_at is null
        and credit_grants.remaining > credit_grants.held
    order by credit_grants.priority, credit_grants.expires_at, credit_grants.id, credit_grants.epoch desc;
    v_lot record;
    v_left numeric := _burn_lots.amount;
    v_entry billing.credit_entries;
    v_number integer := 0;
    v_cost bigint := 0;
    v_taken bigint;
    v_part bigint;
    v_burnt billing.credit_consumptions[] := '{}';
begin
    open v_lots;
    while v_left > 0 loop
        fetch v_lots into v_lot;
        if not found then
            raise exception 'the open lots of account % hold % credits less than its balance', v_account_id, v_left
                using errcode = 'TB016', hint = 'Check billing.ledger_discrepancies before the account spends again.';
        end if;
        v_taken := 0;
        while v_left > 0 and v_taken < v_lot.free loop
            if v_cost <= 0 then
                v_number := v_number + 1;
                v_entry := _burn_lots.entries[v_number];
                v_cost := -(v_entry.amount + v_entry.debt);
                if cardinality(_burn_lots.takes) > 0 then
                    v_cost := v_cost - coalesce((
                        select sum(take.amount) from unnest(_burn_lots.takes) as take where take.entry_id = v_entry.id
                    ), 0);
                end if;
                continue when v_cost <= 0;
            end if;
            v_part := least(v_cost, v_lot.free - v_taken);
            v_burnt := v_burnt || row(v_entry.id, v_lot.id, v_part)::billing.credit_consumptions;
            v_cost := v_cost - v_part;
            v_taken := v_taken + v_part;
            v_left := v_left - v_part;
        end loop;
        update billing.credit_grants
        set remaining = credit_grants.remaining - v_taken,
            lapsed = credit_grants.lapsed + case when billing._lets_lapse(v_entry) then v_taken else 0 end,
            closed_at = case when credit_grants.remaining = v_taken then v_entry.occurred_at end,
            epoch = credit_grants.epoch + (random() < 0.02)::integer
        where credit_grants.ctid = v_lot.place;
    end loop;
    close v_lots;
    insert into billing.credit_consumptions (entry_id, grant_id, amount)
    select burnt.entry_id, burnt.grant_id, burnt.amount from unnest(v_burnt) as burnt;
end
$$;

-- Posts entries of one account, in their order. `balance` is the row that the caller has locked, with all other changes
-- of the movement. What entries take beyond the named lots is taken from open lots.
create function billing._post_entries(
    balance billing.credit_balances, entries billing.credit_entries[], lots billing.credit_grants[] default '{}',
    takes billing.credit_consumptions[] default '{}'
)
returns billing.credit_entries[]
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_balance billing.credit_balances := _post_entries.balance;
    v_entries billing.credit_entries[] := _post_entries.entries;
    v_lot billing.credit_grants;
    v_rest numeric := 0;
begin
    for v_number in 1 .. cardinality(v_entries) loop
        v_balance.balance := v_balance.balance + v_entries[v_number].amount;
        v_balance.debt := v_balance.debt + v_entries[v_number].debt;
        v_rest := v_rest - v_entries[v_number].amount - v_entries[v_number].debt;
        v_entries[v_number].balance_after := v_balance.balance;
    end loop;
    foreach v_lot in array _post_entries.lots loop
        v_rest := v_rest + v_lot.remaining;
        -- Unless it is used up at once.
        continue when cardinality(_post_entries.takes) > 0 and v_lot.remaining = (
            select sum(take.amount) from unnest(_post_entries.takes) as take where take.grant_id = v_lot.id
        );
        v_balance.next_due_at := least(
            v_balance.next_due_at, case when v_lot.entry_id is null then v_lot.effective_at else v_lot.expires_at end
        );
    end loop;
    v_rest := v_rest - billing._write_entries(array[v_balance], v_entries, _post_entries.lots, _post_entries.takes);
    if v_rest > 0 then
        perform billing._burn_lots(v_entries, _post_entries.takes, v_rest);
    end if;
    return v_entries;
end
$$;

create function billing._post_entry(
    balance billing.credit_balances, entry billing.credit_entries, lots billing.credit_grants[] default '{}',
    takes billing.credit_consumptions[] default '{}'
)
returns billing.credit_entries
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    return (billing._post_entries(
        _post_entry.balance, array[_post_entry.entry], _post_entry.lots, _post_entry.takes
    ))[1];
end
$$;

revoke all on function
    billing._entry, billing._lot, billing._moved, billing._lets_lapse, billing._write_entries, billing._burn_lots,
    billing._post_entries, billing._post_entry
from public, anon, authenticated, service_role;

-- 30_ledger/16_pins_and_debt.sql

-- Shared by all movements that return credits to lots: releases reserved credits, repays debt, updates the next due
-- time.
--
-- Private. The caller has locked the balance.

-- Moves the account's next due time earlier; never later.
create function billing._remember_due(account_id uuid, due_at timestamptz)
returns void
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    update billing.credit_balances set next_due_at = _remember_due.due_at
    where credit_balances.account_id = _remember_due.account_id
        and _remember_due.due_at < coalesce(credit_balances.next_due_at, 'infinity')
$$;

-- Releases what holds still reserve. Returns the soonest expiry of the lots concerned.
create function billing._release_pins(hold_ids uuid[])
returns timestamptz
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    with pins as (
        select credit_hold_lots.grant_id, sum(credit_hold_lots.amount) as amount from billing.credit_hold_lots
        where credit_hold_lots.hold_id = any (_release_pins.hold_ids) and credit_hold_lots.amount > 0
        group by credit_hold_lots.grant_id
    ),
    emptied as (
        update billing.credit_hold_lots set amount = 0
        where credit_hold_lots.hold_id = any (_release_pins.hold_ids) and credit_hold_lots.amount > 0
    ),
    freed as (
        update billing.credit_grants set held = credit_grants.held - pins.amount
        from pins where credit_grants.id = pins.grant_id
        returning credit_grants.expires_at
    )
    select min(freed.expires_at) from freed
$$;

-- The latest entry of an account: numbers movements that may occur more than once.
create function billing._last_entry_id(account_id uuid)
returns bigint
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select coalesce(max(credit_entries.id), 0) from billing.credit_entries
        where credit_entries.account_id = _last_entry_id.account_id
    );
end
$$;

-- Repays debt from credits that became free: free credits never stay beside debt, or they could expire and leave the
-- debt. Writes an entry of zero credits, with its lineage: lots and debt decrease together.
create function billing._repay_debt(account_id uuid)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_balance billing.credit_balances := billing._lock_balance(_repay_debt.account_id);
    v_repaid bigint := least(v_balance.debt, v_balance.balance + v_balance.debt - v_balance.held);
begin
    if v_repaid > 0 then
        perform billing._post_entry(v_balance, billing._entry(
            account_id => v_balance.account_id, kind => 'repayment', amount => 0, debt => -v_repaid,
            source => 'app', description => format('%s credits of debt repaid', v_repaid), key_space => 'system',
            idempotency_key => 'repayment:' || billing._last_entry_id(v_balance.account_id),
            occurred_at => billing.current_time()
        ));
    end if;
end
$$;

-- The key of an expiry. A lot may expire more than once: credits that are returned to it later expire separately, after
-- another entry of its account.
create function billing._expiry_key(lot billing.credit_grants)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return format('expiry:%s:%s', (_expiry_key.lot).id, (
        select max(credit_entries.id) from billing.credit_entries
        where credit_entries.account_id = (_expiry_key.lot).account_id
    ));
end
$$;

revoke all on function
    billing._remember_due, billing._release_pins, billing._last_entry_id, billing._repay_debt, billing._expiry_key
from public, anon, authenticated, service_role;

-- 30_ledger/18_open_lot.sql

-- Opens a lot: writes its entry, and takes what the account owes.
--
-- Invariant: debt is repaid first, then a grant or a transfer gives up what earlier revocations withhold; only the rest
-- remains in the lot. Private: called by the functions that grant credits, at once or on schedule.

-- Posts the entry of a lot. What is owed is taken from it at once: first debt, then what is withheld for spent credits
-- that were revoked. `balance` is the row as the caller has locked it. A scheduled lot is already written.
create function billing._open_lot(
    balance billing.credit_balances, entry billing.credit_entries, lot billing.credit_grants, is_scheduled boolean
)
returns billing.credit_entries
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_balance billing.credit_balances := _open_lot.balance;
    v_entry billing.credit_entries := _open_lot.entry;
    v_lot billing.credit_grants := _open_lot.lot;
    v_entries billing.credit_entries[];
    v_takes billing.credit_consumptions[] := '{}';
    v_repaid bigint := least(v_balance.debt, v_entry.amount);
    v_withheld bigint := 0;
    v_withholding billing.credit_entries;
begin
    if v_balance.balance > 9223372036854775807 - v_entry.amount then
        raise exception 'account % would exceed 9223372036854775807 credits', v_entry.account_id
            using errcode = 'TB009', hint = 'Grant less.';
    elsif v_entry.kind in ('grant', 'transfer_in') then
        v_withheld := least(v_balance.withheld, v_entry.amount - v_repaid);
    end if;

    v_entry.debt := -v_repaid;
    v_entries := array[v_entry];
    if v_repaid > 0 then
        v_takes := array[row(v_entry.id, v_lot.id, v_repaid)::billing.credit_consumptions];
    end if;
    if v_withheld > 0 then
        -- Earlier revocations could not take it: a separate entry beside the grant's.
        v_withholding := billing._entry(
            account_id => v_entry.account_id, kind => 'revocation', amount => -v_withheld,
            source => v_entry.source, reference_id => v_entry.reference_id,
            description => 'Withheld for credits taken back', reverses_entry_id => v_entry.id,
            key_space => 'system', idempotency_key => 'withheld:' || v_entry.id, occurred_at => v_entry.occurred_at
        );
        v_entries := v_entries || v_withholding;
        v_takes := v_takes || row(v_withholding.id, v_lot.id, v_withheld)::billing.credit_consumptions;
        v_balance.withheld := v_balance.withheld - v_withheld;
    end if;
    v_entries := billing._post_entries(
        v_balance, v_entries, case when _open_lot.is_scheduled then '{}' else array[v_lot] end, v_takes
    );
    return v_entries[1];
end
$$;

create function billing._open_scheduled_lot(lot billing.credit_grants)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_lot billing.credit_grants := _open_scheduled_lot.lot;
    v_entry billing.credit_entries := billing._entry(
        account_id => v_lot.account_id, kind => 'grant', amount => v_lot.amount, source => v_lot.source,
        reference_id => v_lot.reference_id, description => v_lot.description, key_space => 'system',
        idempotency_key => 'opening:' || v_lot.id, occurred_at => v_lot.effective_at
    );
begin
    update billing.credit_grants set entry_id = v_entry.id, remaining = credit_grants.amount
    where credit_grants.id = v_lot.id;
    perform billing._open_lot(billing._lock_balance(v_lot.account_id), v_entry, v_lot, is_scheduled => true);
end
$$;

revoke all on function billing._open_lot, billing._open_scheduled_lot from public, anon, authenticated, service_role;

-- 30_ledger/20_credit_revocations.sql

-- What was revoked from lots, and what was reinstated of it.
--
-- Invariant: taken and shortfall are at most what was requested; the rest had expired unspent. A reinstatement is at
-- most what was taken, also from other lots; nothing is reinstated for a shortfall that was only recorded. Only
-- functions write; service_role reads, clients cannot.

create table billing.credit_revocations (
    id bigint generated always as identity primary key,
    account_id uuid not null references billing.accounts (id),
    grant_id bigint not null references billing.credit_grants (id),
    entry_id bigint references billing.credit_entries (id),
    requested bigint not null,
    taken bigint not null,
    shortfall bigint not null,
    shortfall_policy text not null,
    reinstated bigint not null default 0,
    voided bigint not null default 0,
    reason text not null,
    actor text,
    key_space billing.key_space not null,
    idempotency_key billing.idempotency_key not null,
    business_key text,
    created_at timestamptz not null default now(),
    constraint requested_is_positive check (requested > 0),
    constraint taken_and_shortfall_are_within_the_request
    check (taken >= 0 and shortfall >= 0 and taken + shortfall <= requested),
    constraint reinstated_is_within_what_was_collected check (
        reinstated between 0 and taken + case shortfall_policy when 'clamp_and_record' then 0 else shortfall end
    ),
    constraint voided_is_within_what_was_not_taken check (voided between 0 and requested - taken),
    constraint shortfall_policy_is_known
    check (shortfall_policy in ('clamp_and_record', 'allow_negative', 'block_future_grants'))
);

create table billing.credit_reinstatements (
    id bigint generated always as identity primary key,
    account_id uuid not null references billing.accounts (id),
    revocation_id bigint not null references billing.credit_revocations (id),
    entry_id bigint references billing.credit_entries (id),
    amount bigint not null,
    unwithheld bigint not null,
    reason text not null,
    actor text not null,
    key_space billing.key_space not null,
    idempotency_key billing.idempotency_key not null,
    created_at timestamptz not null default now(),
    constraint amount_is_positive check (amount > 0),
    constraint unwithheld_is_within_the_amount check (unwithheld between 0 and amount)
);

create unique index credit_reinstatements_key on billing.credit_reinstatements (account_id, key_space, idempotency_key);
create index credit_reinstatements_revocation on billing.credit_reinstatements (revocation_id);
create index credit_reinstatements_entry on billing.credit_reinstatements (entry_id) where entry_id is not null;
create unique index credit_revocations_key on billing.credit_revocations (account_id, key_space, idempotency_key);
create index credit_revocations_business_key on billing.credit_revocations (business_key) where business_key is not null;
create index credit_revocations_grant on billing.credit_revocations (grant_id);
create index credit_revocations_entry on billing.credit_revocations (entry_id) where entry_id is not null;
create index credit_revocations_shortfall on billing.credit_revocations (account_id)
where shortfall > 0 and shortfall_policy <> 'allow_negative';

alter table billing.credit_revocations enable row level security;
alter table billing.credit_reinstatements enable row level security;

revoke all on all sequences in schema billing from public, anon, authenticated, service_role;
revoke all on billing.credit_revocations, billing.credit_reinstatements from public, anon, authenticated, service_role;
grant select on billing.credit_revocations, billing.credit_reinstatements to service_role;

comment on table billing.credit_revocations is 'Revocations of lots. requested = taken + shortfall (spent or held) + expired unspent.';
comment on column billing.credit_revocations.business_key is 'The business key that is worth less than was granted; null for a revocation by a person.';
comment on column billing.credit_revocations.voided is 'Part of requested for which nothing had been taken, and which is no longer requested.';
comment on table billing.credit_reinstatements is 'What was reinstated of revocations.';
comment on column billing.credit_reinstatements.entry_id is 'The entry of the reinstatement; null if it only ended withholding.';
comment on column billing.credit_reinstatements.unwithheld is 'Credits that were still to be withheld, and no longer are.';
comment on column billing.credit_revocations.entry_id is 'The entry of the revocation; null if nothing was left to take.';

-- 30_ledger/22_claim_returned_credits.sql

-- Credits that return to a lot (by a release, a refunded spend or an expired hold) after it was revoked or while it is
-- disputed: what is owed on them is taken, or frozen, at once.
--
-- Invariant: no lot has free credits together with its own open shortfall, or with contested credits that are not
-- frozen. Private: called by the functions that return credits to lots. The caller has locked the balance.

create function billing._thaw(hold billing.credit_holds)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    update billing.credit_holds set status = 'released', settled_at = billing.current_time()
    where credit_holds.id = (_thaw.hold).id;
    update billing.credit_balances set held = credit_balances.held - (_thaw.hold).amount, updated_at = now()
    where credit_balances.account_id = (_thaw.hold).account_id;
    perform billing._remember_due((_thaw.hold).account_id, billing._release_pins(array[(_thaw.hold).id]));
end
$$;

-- Freezes free credits of a lot. A dispute takes months, so the hold lasts until it is ended, or the credits expire.
create function billing._freeze(lot billing.credit_grants, amount bigint)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_hold billing.credit_holds;
begin
    insert into billing.credit_holds (
        account_id, amount, description, idempotency_key, frozen_grant_id, expires_in, expires_at
    )
    values (
        (_freeze.lot).account_id, _freeze.amount, 'Frozen by a dispute', 'dispute:' || gen_random_uuid(),
        (_freeze.lot).id, '100 years',
        coalesce((_freeze.lot).expires_at, billing.current_time() + interval '100 years')
    )
    returning * into v_hold;
    insert into billing.credit_hold_lots (hold_id, grant_id, amount) values (v_hold.id, (_freeze.lot).id, _freeze.amount);
    update billing.credit_grants set held = credit_grants.held + _freeze.amount
    where credit_grants.id = (_freeze.lot).id;
    update billing.credit_balances set held = credit_balances.held + _freeze.amount, updated_at = now()
    where credit_balances.account_id = (_freeze.lot).account_id;
    perform billing._remember_due(v_hold.account_id, v_hold.expires_at);
end
$$;

-- Takes part of an open shortfall from the lot itself: the revocation's taken grows, and its shortfall shrinks.
create function billing._claim_shortfall(revocation billing.credit_revocations, lot billing.credit_grants, amount bigint)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_revocation billing.credit_revocations := _claim_shortfall.revocation;
    v_balance billing.credit_balances := billing._lock_balance(v_revocation.account_id);
    v_entry billing.credit_entries := billing._entry(
        account_id => v_revocation.account_id, kind => 'revocation', amount => -_claim_shortfall.amount,
        source => (_claim_shortfall.lot).source, reference_id => (_claim_shortfall.lot).reference_id,
        description => v_revocation.reason, actor => v_revocation.actor,
        reverses_entry_id => (_claim_shortfall.lot).entry_id, key_space => 'system',
        idempotency_key => format('claim:%s:%s', v_revocation.id, v_revocation.shortfall),
        occurred_at => billing.current_time()
    );
begin
    if v_revocation.shortfall_policy = 'block_future_grants' then
        v_balance.withheld := v_balance.withheld - _claim_shortfall.amount;
    end if;
    perform billing._post_entry(v_balance, v_entry, takes => array[
        row(v_entry.id, (_claim_shortfall.lot).id, _claim_shortfall.amount)::billing.credit_consumptions
    ]);
    update billing.credit_revocations
    set taken = credit_revocations.taken + _claim_shortfall.amount,
        shortfall = credit_revocations.shortfall - _claim_shortfall.amount
    where credit_revocations.id = v_revocation.id;
end
$$;

-- as_of: credits that have expired by then are not frozen, because they are about to lapse.
create function billing._claim_returned_credits(account_id uuid, as_of timestamptz default billing.current_time())
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_revocation billing.credit_revocations;
    v_balance billing.credit_balances;
    v_lot billing.credit_grants;
    v_claimed bigint;
begin
    for v_revocation in
        select * from billing.credit_revocations
        where credit_revocations.account_id = _claim_returned_credits.account_id and credit_revocations.shortfall > 0
            and credit_revocations.shortfall_policy <> 'allow_negative'
        order by credit_revocations.id
    loop
        select * into v_lot from billing.credit_grants where credit_grants.id = v_revocation.grant_id;
        select * into v_balance from billing.credit_balances
        where credit_balances.account_id = v_revocation.account_id;
        v_claimed := least(
            v_lot.remaining - v_lot.held, v_revocation.shortfall,
            -- Later credits have already covered it.
            case v_revocation.shortfall_policy
                when 'block_future_grants' then least(
                    v_balance.withheld,
                    v_revocation.requested - greatest(v_revocation.taken, v_revocation.reinstated)
                )
                else v_revocation.shortfall - v_revocation.voided
            end
        );
        if v_claimed > 0 then
            perform billing._claim_shortfall(v_revocation, v_lot, v_claimed);
        end if;
    end loop;

    for v_lot in
        select * from billing.credit_grants
        where credit_grants.account_id = _claim_returned_credits.account_id and credit_grants.contested > 0
            and credit_grants.remaining > credit_grants.held
            and (credit_grants.expires_at > _claim_returned_credits.as_of) is not false
        order by credit_grants.id
    loop
        v_claimed := least(v_lot.contested, v_lot.remaining - v_lot.held);
        update billing.credit_grants set contested = v_lot.contested - v_claimed where credit_grants.id = v_lot.id;
        perform billing._freeze(v_lot, v_claimed);
    end loop;
end
$$;

revoke all on function
    billing._thaw, billing._freeze, billing._claim_shortfall, billing._claim_returned_credits
from public, anon, authenticated, service_role;

-- 30_ledger/24_settle_due.sql

-- Due changes of an account: holds expire, scheduled lots open, lots expire. Each writes an entry or releases credits.
--
-- Invariant: processed before an account moves, so a movement never sees anything due; the clock's run for all accounts
-- (expire_due_credits) only makes it visible sooner. Holds go first: a lot whose held credits outlived it expires with
-- what its hold releases. Credits that a hold still reserves of a due lot stay until the hold ends.

-- Processes accounts whose balance rows the caller has locked.
create function billing._settle_due(account_ids uuid[], as_of timestamptz)
returns table (holds_expired bigint, lots_opened bigint, lots_expired bigint, credits_expired numeric)
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_hold_ids uuid[];
    v_lot billing.credit_grants;
    v_balances billing.credit_balances[];
    v_entries billing.credit_entries[];
    v_takes billing.credit_consumptions[];
begin
    with due as (
        update billing.credit_holds set status = 'expired', settled_at = credit_holds.expires_at
        where credit_holds.account_id = any (_settle_due.account_ids)
            and credit_holds.status = 'held' and credit_holds.expires_at <= _settle_due.as_of
        returning credit_holds.id, credit_holds.account_id, credit_holds.amount - credit_holds.captured as pinned
    ),
    totals as (
        select due.account_id, sum(due.pinned) as pinned from due group by due.account_id
    ),
    given_back as (
        update billing.credit_balances set held = credit_balances.held - totals.pinned
        from totals where credit_balances.account_id = totals.account_id
    )
    select array_agg(due.id), count(*) into v_hold_ids, holds_expired from due;
    if holds_expired > 0 then
        perform billing._release_pins(v_hold_ids);
        perform billing._repay_debt(credit_balances.account_id) from billing.credit_balances
        where credit_balances.account_id = any (_settle_due.account_ids) and credit_balances.debt > 0;
        perform billing._claim_returned_credits(holds.account_id, _settle_due.as_of) from (
            select distinct credit_holds.account_id from billing.credit_holds where credit_holds.id = any (v_hold_ids)
        ) as holds;
    end if;

    lots_opened := 0;
    for v_lot in
        select * from billing.credit_grants
        where credit_grants.account_id = any (_settle_due.account_ids) and credit_grants.entry_id is null
            and credit_grants.closed_at is null and credit_grants.effective_at <= _settle_due.as_of
        order by credit_grants.account_id, credit_grants.effective_at, credit_grants.id
    loop
        -- A lot that would exceed the largest balance waits until there is room; nothing else of the account waits for
        -- it.
        if (
            select credit_balances.balance <= 9223372036854775807 - v_lot.amount from billing.credit_balances
            where credit_balances.account_id = v_lot.account_id
        ) then
            perform billing._open_scheduled_lot(v_lot);
            lots_opened := lots_opened + 1;
        end if;
    end loop;

    with due as (
        select
            nextval('billing.credit_entries_id_seq') as expiry_id, lots.*,
            -- Credits that were returned after the lot's expiry expire when they were returned, not before.
            greatest(lots.expires_at, (
                select credit_entries.occurred_at from billing.credit_consumptions
                join billing.credit_entries on credit_entries.id = credit_consumptions.entry_id
                where credit_consumptions.grant_id = lots.id and credit_consumptions.amount < 0
                order by credit_consumptions.entry_id desc
                limit 1
            )) as expired_at
        from (
            select
                credit_grants.*, credit_grants as lot, credit_grants.remaining - credit_grants.held as expiring,
                credit_balances as locked,
                row_number() over account as number,
                sum(credit_grants.remaining - credit_grants.held) over account as so_far,
                sum(credit_grants.remaining - credit_grants.held) over (partition by credit_grants.account_id) as total
            from billing.credit_grants
            join billing.credit_balances on credit_balances.account_id = credit_grants.account_id
            where credit_grants.account_id = any (_settle_due.account_ids) and credit_grants.closed_at is null
                and credit_grants.expires_at <= _settle_due.as_of and credit_grants.remaining > credit_grants.held
            window account as (
                partition by credit_grants.account_id order by credit_grants.expires_at, credit_grants.id
            )
            order by credit_grants.account_id, credit_grants.expires_at, credit_grants.id
        ) as lots
    )
    select
        array_agg(billing._moved(due.locked, -due.total::bigint)) filter (where due.number = 1),
        array_agg(billing._entry(
            id => due.expiry_id, account_id => due.account_id, kind => 'expiry', amount => -due.expiring,
            balance_after => (due.locked).balance - due.so_far::bigint, source => due.source,
            reference_id => due.reference_id, key_space => 'system',
            idempotency_key => billing._expiry_key(due.lot), occurred_at => due.expired_at
        )),
        array_agg(row(due.expiry_id, due.id, due.expiring)::billing.credit_consumptions),
        count(*), coalesce(sum(due.expiring), 0)
    into v_balances, v_entries, v_takes, lots_expired, credits_expired
    from due;
    if lots_expired > 0 then
        perform billing._write_entries(v_balances, v_entries, '{}', v_takes);
    end if;

    update billing.credit_balances
    set next_due_at = least(
            (
                select min(credit_grants.expires_at) from billing.credit_grants
                where credit_grants.account_id = credit_balances.account_id
                    and credit_grants.closed_at is null and credit_grants.remaining > credit_grants.held
            ),
            (
                select min(credit_grants.effective_at) from billing.credit_grants
                where credit_grants.account_id = credit_balances.account_id
                    and credit_grants.entry_id is null and credit_grants.closed_at is null
            ),
            (
                select min(credit_holds.expires_at) from billing.credit_holds
                where credit_holds.account_id = credit_balances.account_id and credit_holds.status = 'held'
            )
        ),
        updated_at = now()
    where credit_balances.account_id = any (_settle_due.account_ids);
    return next;
end
$$;

-- Locks an account and processes what is due: returns its current balance row.
create function billing._lock_settled_balance(account_id uuid)
returns billing.credit_balances
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_balance billing.credit_balances := billing._lock_balance(_lock_settled_balance.account_id);
begin
    if v_balance.next_due_at <= billing.current_time() then
        perform billing._settle_due(array[v_balance.account_id], billing.current_time());
        v_balance := billing._lock_balance(v_balance.account_id);
    end if;
    return v_balance;
end
$$;

create function billing.expire_due_credits(as_of timestamptz default null, accounts_max integer default null)
returns table (
    accounts bigint, holds_expired bigint, lots_opened bigint, lots_expired bigint, credits_expired numeric
)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_as_of timestamptz := coalesce(expire_due_credits.as_of, billing.current_time());
    v_account_ids uuid[];
begin
    if v_as_of > billing.current_time() then
        raise exception 'as_of % is in the future', v_as_of
            using errcode = 'TB022', hint = 'Leave as_of out to process what is due now.';
    end if;
    -- Accounts that another transaction has locked are skipped: their movement processes them.
    select array_agg(due.account_id) into v_account_ids from (
        select credit_balances.account_id from billing.credit_balances
        where credit_balances.next_due_at <= v_as_of
        order by credit_balances.next_due_at
        limit case when expire_due_credits.accounts_max < 0 then 0 else expire_due_credits.accounts_max end
        for update skip locked
    ) as due;
    return query
    select coalesce(cardinality(v_account_ids), 0)::bigint, settled.*
    from billing._settle_due(coalesce(v_account_ids, '{}'), v_as_of) as settled;
end
$$;

revoke all on function
    billing._settle_due, billing._lock_settled_balance, billing.expire_due_credits
from public, anon, authenticated, service_role;
grant execute on function billing.expire_due_credits(timestamptz, integer) to service_role, billing_worker;

comment on function billing.expire_due_credits(timestamptz, integer) is 'Expires due holds and lots and opens scheduled lots, for up to accounts_max accounts (null: all). Returns counts. Safe to run at any time, repeatedly and in parallel.';

-- 30_ledger/26_grant_credits.sql

-- Grants credits: writes an entry and the lot that it opens, after repaying debt.
--
-- Invariant: once for each key. Callable by service_role (the app's own server); never by clients. The worker grants
-- only what was paid for.

-- Shared by all grants. A business key (key_space stripe) that was used before is not an error: two different events
-- can report one payment.
create function billing._grant_credits(
    account_id uuid,
    amount bigint,
    key_space text,
    idempotency_key text,
    source text,
    reference_id text,
    description text,
    metadata jsonb default '{}',
    priority integer default 100,
    effective_at timestamptz default null,
    expires_at timestamptz default null,
    stripe_invoice_id text default null,
    stripe_subscription_item_id text default null,
    stripe_price_id text default null,
    stripe_checkout_session_id text default null,
    stripe_payment_intent_id text default null,
    kind text default 'grant',
    actor text default null
)
returns billing.credit_entries
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_balance billing.credit_balances := billing._lock_balance(_grant_credits.account_id);
    v_now timestamptz := billing.current_time();
    v_entry billing.credit_entries;
    v_lot billing.credit_grants;
begin
    select credit_entries.* into v_entry from billing.credit_entries
    where credit_entries.account_id = _grant_credits.account_id
        and credit_entries.key_space = _grant_credits.key_space
        and credit_entries.idempotency_key = _grant_credits.idempotency_key;
    if found then
        select credit_grants.* into v_lot from billing.credit_grants where credit_grants.entry_id = v_entry.id;
        if _grant_credits.key_space = 'caller' and (
            v_entry.kind, v_entry.amount, v_entry.source, v_entry.reference_id, v_entry.description, v_entry.metadata,
            v_entry.actor, v_lot.priority, v_lot.expires_at
        ) is distinct from (
            _grant_credits.kind, _grant_credits.amount, _grant_credits.source, _grant_credits.reference_id,
            _grant_credits.description, _grant_credits.metadata, _grant_credits.actor, _grant_credits.priority,
            _grant_credits.expires_at
        ) then
            perform billing._raise_key_reused(_grant_credits.idempotency_key);
        end if;
        return v_entry;
    end if;

    if not v_balance.may_spend then
        perform billing._check_open(_grant_credits.account_id);
    end if;
    if _grant_credits.key_space = 'caller' then
        if exists (
            select from billing.credit_grants
            where credit_grants.account_id = _grant_credits.account_id and credit_grants.key_space = 'caller'
                and credit_grants.idempotency_key = _grant_credits.idempotency_key
        ) then
            perform billing._raise_key_reused(_grant_credits.idempotency_key);  -- by a scheduled lot
        end if;
        perform billing._check_expiry(_grant_credits.expires_at, v_now);
    end if;

    v_entry := billing._entry(
        account_id => _grant_credits.account_id, kind => _grant_credits.kind, amount => _grant_credits.amount,
        source => _grant_credits.source, reference_id => _grant_credits.reference_id,
        description => _grant_credits.description, metadata => _grant_credits.metadata,
        actor => _grant_credits.actor, key_space => _grant_credits.key_space,
        idempotency_key => _grant_credits.idempotency_key, occurred_at => v_now
    );
    return billing._open_lot(v_balance, v_entry, billing._lot(
        account_id => v_entry.account_id, entry_id => v_entry.id, amount => v_entry.amount,
        priority => _grant_credits.priority, effective_at => coalesce(_grant_credits.effective_at, v_now),
        expires_at => _grant_credits.expires_at, source => v_entry.source, reference_id => v_entry.reference_id,
        key_space => v_entry.key_space, idempotency_key => v_entry.idempotency_key,
        stripe_invoice_id => _grant_credits.stripe_invoice_id,
        stripe_subscription_item_id => _grant_credits.stripe_subscription_item_id,
        stripe_price_id => _grant_credits.stripe_price_id,
        stripe_checkout_session_id => _grant_credits.stripe_checkout_session_id,
        stripe_payment_intent_id => _grant_credits.stripe_payment_intent_id
    ), is_scheduled => false);
end
$$;

create function billing._check_expiry(expires_at timestamptz, opens_at timestamptz)
returns void
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    if _check_expiry.expires_at <= _check_expiry.opens_at then
        raise exception 'expires_at % must be after %, when the credits become available', _check_expiry.expires_at, _check_expiry.opens_at
            using errcode = 'TB012', hint = 'Pass a later time, or leave it out for credits that never expire.';
    end if;
end
$$;

create function billing.grant_credits(
    account_id uuid,
    amount numeric,
    idempotency_key text,
    description text default null,
    source text default 'app',
    reference_id text default null,
    expires_at timestamptz default null,
    priority integer default 100,
    metadata jsonb default '{}'
)
returns billing.credit_entries
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform billing._checked_key(grant_credits.idempotency_key, grant_credits.metadata);
    return billing._grant_credits(
        account_id => grant_credits.account_id,
        amount => billing._checked_amount(grant_credits.amount),
        key_space => 'caller',
        idempotency_key => grant_credits.idempotency_key,
        source => grant_credits.source,
        reference_id => grant_credits.reference_id,
        description => grant_credits.description,
        metadata => grant_credits.metadata,
        priority => grant_credits.priority,
        expires_at => grant_credits.expires_at
    );
end
$$;

revoke all on function
    billing._grant_credits, billing._check_expiry, billing.grant_credits
from public, anon, authenticated, service_role;
grant execute on function
    billing.grant_credits(uuid, numeric, text, text, text, text, timestamptz, integer, jsonb)
to service_role;

comment on function billing.grant_credits(uuid, numeric, text, text, text, text, timestamptz, integer, jsonb) is 'Grants credits to an account, once for each idempotency key, and returns the entry. Lots with a lower priority number are spent first.';

-- 30_ledger/28_schedule_credits.sql

-- Schedules credits: a lot that opens at a later time.
--
-- Invariant: until it opens, a scheduled lot has no entry and is not part of the balance; it opens once, when the
-- account is first processed after that time. schedule_credits is callable by service_role (the app's own server);
-- never by clients.

-- A grant that opens at a later time. Its entry is written then; until then the lot is returned.
create function billing.schedule_credits(
    account_id uuid,
    amount numeric,
    effective_at timestamptz,
    idempotency_key text,
    description text default null,
    source text default 'app',
    reference_id text default null,
    expires_at timestamptz default null,
    priority integer default 100
)
returns billing.credit_grants
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_amount bigint := billing._checked_amount(schedule_credits.amount);
    v_balance billing.credit_balances;
    v_lot billing.credit_grants;
begin
    perform billing._checked_key(schedule_credits.idempotency_key, '{}');
    v_balance := billing._lock_balance(schedule_credits.account_id);

    select * into v_lot from billing.credit_grants
    where credit_grants.account_id = schedule_credits.account_id and credit_grants.key_space = 'caller'
        and credit_grants.idempotency_key = schedule_credits.idempotency_key;
    if found then
        if (
            v_lot.amount, v_lot.effective_at, v_lot.source, v_lot.reference_id, v_lot.description, v_lot.expires_at,
            v_lot.priority
        ) is distinct from (
            v_amount, schedule_credits.effective_at, schedule_credits.source, schedule_credits.reference_id,
            schedule_credits.description, schedule_credits.expires_at, schedule_credits.priority
        ) then
            perform billing._raise_key_reused(schedule_credits.idempotency_key);
        end if;
        return v_lot;
    end if;

    perform billing._check_key_is_new(schedule_credits.account_id, schedule_credits.idempotency_key);
    perform billing._check_open(schedule_credits.account_id);
    if schedule_credits.effective_at is null or schedule_credits.effective_at <= billing.current_time() then
        raise exception 'effective_at % must be in the future', coalesce(schedule_credits.effective_at::text, 'null')
            using errcode = 'TB012', hint = 'To grant credits now, use grant_credits.';
    end if;
    perform billing._check_expiry(schedule_credits.expires_at, schedule_credits.effective_at);
    v_lot := billing._lot(
        account_id => schedule_credits.account_id, entry_id => null, amount => v_amount,
        priority => schedule_credits.priority, effective_at => schedule_credits.effective_at,
        expires_at => schedule_credits.expires_at, source => schedule_credits.source,
        reference_id => schedule_credits.reference_id, description => schedule_credits.description,
        key_space => 'caller', idempotency_key => schedule_credits.idempotency_key
    );
    perform billing._post_entries(v_balance, '{}', array[v_lot]);
    select * into strict v_lot from billing.credit_grants where credit_grants.id = v_lot.id;
    return v_lot;
end
$$;

revoke all on function billing.schedule_credits from public, anon, authenticated, service_role;
grant execute on function
    billing.schedule_credits(uuid, numeric, timestamptz, text, text, text, text, timestamptz, integer)
to service_role;

comment on function billing.schedule_credits(uuid, numeric, timestamptz, text, text, text, text, timestamptz, integer) is 'Grants credits that open at effective_at, once for each idempotency key, and returns the lot. Cancel it with revoke_grant.';

-- 30_ledger/30_spend_credits.sql

-- Spends credits: processes what is due, then takes from lots by priority, soonest expiry and age, with lineage.
--
-- Callable by service_role (the app's own server), inside the app's own transaction; never by clients. Below zero only
-- as far as the account's overdraft, which becomes debt that the next grant repays.

-- Posts the spends of one account, limited by its credits, overdraft and cap. What its lots cannot pay becomes debt.
create function billing._post_spends(balance billing.credit_balances, spends billing.credit_entries[])
returns billing.credit_entries[]
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_balance billing.credit_balances := _post_spends.balance;
    v_spends billing.credit_entries[] := _post_spends.spends;
    v_number integer := cardinality(v_spends);
    v_total numeric;
    v_debt bigint;
begin
    select -sum(spend.amount) into v_total from unnest(v_spends) as spend;
    if v_total - v_balance.overdraft > v_balance.balance - v_balance.held then
        perform billing._raise_insufficient(
            v_balance.account_id, v_balance.balance::numeric - v_balance.held + v_balance.overdraft, v_total
        );
    elsif v_balance.spend_cap is not null then
        v_balance := billing._count_spend(v_balance, v_total::bigint);
    end if;
    -- Lots contain balance + debt. The last credits are beyond them.
    v_debt := greatest(v_total - v_balance.debt - (v_balance.balance - v_balance.held), 0);
    while v_debt > 0 loop
        v_spends[v_number].debt := least(v_debt, -v_spends[v_number].amount);
        v_debt := v_debt - v_spends[v_number].debt;
        v_number := v_number - 1;
    end loop;
    return billing._post_entries(v_balance, v_spends);
end
$$;

-- A spend that is not plain: a used key, something due, a cap, or too few credits.
create function billing._spend_judged(
    account_id uuid,
    amount bigint,
    idempotency_key text,
    description text,
    metadata jsonb,
    feature text,
    reference_id text,
    up_to boolean
)
returns billing.credit_entries
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
as $$
declare
    v_amount bigint := _spend_judged.amount;
    v_up_to bigint := case when _spend_judged.up_to then v_amount end;
    v_now timestamptz;
    v_balance billing.credit_balances;
    v_entry billing.credit_entries;
begin
    v_balance := billing._lock_balance(_spend_judged.account_id);
    v_now := billing.current_time();

    select credit_entries.* into v_entry from billing.credit_entries
    where credit_entries.account_id = _spend_judged.account_id
        and credit_entries.key_space = 'caller'
        and credit_entries.idempotency_key = _spend_judged.idempotency_key;
    if found then
        if (
            v_entry.kind, coalesce(v_entry.up_to, -v_entry.amount), v_entry.up_to is not null, v_entry.description,
            v_entry.metadata, v_entry.feature, v_entry.reference_id
        ) is distinct from (
            'spend', v_amount, v_up_to is not null, _spend_judged.description, _spend_judged.metadata,
            _spend_judged.feature, _spend_judged.reference_id
        ) then
            perform billing._raise_key_reused(_spend_judged.idempotency_key);
        end if;
        return v_entry;
    end if;

    if not v_balance.may_spend then
        perform billing._check_may_spend(_spend_judged.account_id);
    end if;
    if v_balance.next_due_at <= v_now then
        v_balance := billing._lock_settled_balance(_spend_judged.account_id);
    end if;
    if v_up_to is not null then
        v_amount := least(v_up_to, v_balance.balance::numeric - v_balance.held + v_balance.overdraft);
        if v_balance.spend_cap is not null then
            -- At least one, so that a cap that is used up raises its own error.
            v_amount := least(v_amount, greatest(billing._room_under_cap(v_balance), 1));
        end if;
    end if;
    if v_amount <= 0 then
        perform billing._raise_insufficient(v_balance.account_id, 0, _spend_judged.amount);
    end if;
    v_entry := billing._entry(
        account_id => v_balance.account_id, kind => 'spend', amount => -v_amount, up_to => v_up_to,
        source => 'app', reference_id => _spend_judged.reference_id, description => _spend_judged.description,
        feature => _spend_judged.feature, metadata => _spend_judged.metadata, key_space => 'caller',
        idempotency_key => _spend_judged.idempotency_key, occurred_at => v_now
    );
    return (billing._post_spends(v_balance, array[v_entry]))[1];
end
$$;

create function billing.spend_credits(
    account_id uuid,
    amount numeric,
    idempotency_key text,
    description text default null,
    metadata jsonb default '{}',
    feature text default null,
    reference_id text default null,
    up_to boolean default false
)
returns billing.credit_entries
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
as $$
declare
    v_amount bigint := billing._checked_amount(spend_credits.amount);
    v_key text := billing._checked_key(spend_credits.idempotency_key, spend_credits.metadata);
    v_now timestamptz;
    v_entry billing.credit_entries;
    v_left bigint;
    v_due_at timestamptz;
    v_lot_id bigint;
begin
    -- The plain case, the common one: one statement locks, checks and moves the balance. Whether anything is due is
    -- checked afterwards, with the time at which the lock is held.
    update billing.credit_balances
    set balance = credit_balances.balance - v_amount, updated_at = now(),
        epoch = credit_balances.epoch + (random() < 0.02)::integer
    where uuid_hash(credit_balances.account_id) = uuid_hash(spend_credits.account_id)
        and credit_balances.account_id is not distinct from spend_credits.account_id
        -- From this epoch on: it may be incremented while this statement waits for the lock.
        and credit_balances.epoch >= (
            select newest.epoch from billing.credit_balances as newest
            where uuid_hash(newest.account_id) = uuid_hash(spend_credits.account_id)
                and newest.account_id is not distinct from spend_credits.account_id
            order by newest.epoch desc
            limit 1
        )
        and not spend_credits.up_to and credit_balances.may_spend and credit_balances.spend_cap is null
        and v_amount <= credit_balances.balance - credit_balances.held
    returning credit_balances.balance, credit_balances.next_due_at into v_left, v_due_at;
    if found then
        v_now := billing.current_time();
        insert into billing.credit_entries (
            account_id, kind, amount, balance_after, source, reference_id, description, feature, metadata, key_space,
            idempotency_key, occurred_at
        )
        select
            spend_credits.account_id, 'spend', -v_amount, v_left, 'app', spend_credits.reference_id,
            spend_credits.description, spend_credits.feature, spend_credits.metadata, 'caller', v_key, v_now
        where (v_due_at > v_now) is not false
        on conflict do nothing
        returning * into v_entry;
        if found then
            -- The first lot usually has enough.
            update billing.credit_grants
            set remaining = credit_grants.remaining - v_amount, epoch = credit_grants.epoch + (random() < 0.02)::integer
            where credit_grants.remaining - credit_grants.held > v_amount and credit_grants.ctid = (
                select lots.ctid from billing.credit_grants as lots
                where lots.account_id = spend_credits.account_id and lots.closed_at is null
                    and lots.remaining > lots.held
                order by lots.priority, lots.expires_at, lots.id, lots.epoch desc
                limit 1
            )
            returning credit_grants.id into v_lot_id;
            if found then
                insert into billing.credit_consumptions (entry_id, grant_id, amount)
                values (v_entry.id, v_lot_id, v_amount);
            else
                perform billing._burn_lots(array[v_entry], '{}', v_amount);
            end if;
            return v_entry;
        end if;
        -- The key was used before, or something is due first.
        update billing.credit_balances set balance = credit_balances.balance + v_amount
        where credit_balances.account_id = spend_credits.account_id;
    end if;
    return billing._spend_judged(
        spend_credits.account_id, v_amount, v_key, spend_credits.description, spend_credits.metadata,
        spend_credits.feature, spend_credits.reference_id, spend_credits.up_to
    );
end
$$;

revoke all on function billing._post_spends, billing._spend_judged, billing.spend_credits
from public, anon, authenticated, service_role;
grant execute on function billing.spend_credits(uuid, numeric, text, text, jsonb, text, text, boolean) to service_role;

comment on function billing.spend_credits(uuid, numeric, text, text, jsonb, text, text, boolean) is 'Spends credits of an account, once for each idempotency key, and returns the entry. Fails below zero (TB001) and while frozen (TB003); with up_to it spends at most the available credits. Call it inside your own transaction.';

-- 30_ledger/32_spend_batch.sql

-- Many spends in one call, all or none.
--
-- Each account is locked once and its entries are posted together: entries, lots and lineage are the same as with one
-- spend_credits after the other. Only keys are looked up one by one (lateral, limit 1), because a join of the batch
-- with the entries is planned as a hash of the whole ledger. Callable by service_role.

-- The spends of one account with a new key. A key may have been used before, by an earlier call or twice in this one:
-- then all arguments must be the same.
create function billing._without_repeats(account_id uuid, spends jsonb)
returns jsonb
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_key text;
begin
    select spend.idempotency_key into v_key
    from jsonb_to_recordset(_without_repeats.spends) as spend (
        amount numeric, idempotency_key text, description text, metadata jsonb, feature text, reference_id text
    )
    left join lateral (
        select * from billing.credit_entries
        where credit_entries.account_id = _without_repeats.account_id and credit_entries.key_space = 'caller'
            and credit_entries.idempotency_key = spend.idempotency_key
        limit 1
    ) as held on true
    group by spend.idempotency_key, held.id
    having count(distinct (
            spend.amount, spend.description, coalesce(spend.metadata, '{}'), spend.feature, spend.reference_id
        )) > 1
        or held.id is not null and bool_or(
            (
                'spend', -spend.amount, spend.description, coalesce(spend.metadata, '{}'), spend.feature,
                spend.reference_id
            ) is distinct from (
                held.kind, held.amount, held.description, held.metadata, held.feature, held.reference_id
            ) or held.up_to is not null
        )
    limit 1;
    if found then
        perform billing._raise_key_reused(v_key);
    end if;

    return (
        select jsonb_agg(fresh.spend order by fresh.position) from (
            select distinct on (asked.spend ->> 'idempotency_key') asked.spend, asked.position
            from jsonb_array_elements(_without_repeats.spends) with ordinality as asked (spend, position)
            where (
                select credit_entries.id from billing.credit_entries
                where credit_entries.account_id = _without_repeats.account_id and credit_entries.key_space = 'caller'
                    and credit_entries.idempotency_key = asked.spend ->> 'idempotency_key'
                limit 1
            ) is null
            order by asked.spend ->> 'idempotency_key', asked.position
        ) as fresh
    );
end
$$;

create function billing.spend_credits_batch(spends jsonb)
returns setof billing.credit_entries
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_account_id uuid;
    v_key text;
    v_new jsonb;
    v_repeated boolean;
    v_balance billing.credit_balances;
begin
    if jsonb_typeof(spend_credits_batch.spends) is distinct from 'array'
        or jsonb_path_exists(spend_credits_batch.spends, 'strict $[*] ? (@.type() != "object")') then
        raise exception 'spends must be an array of objects'
            using errcode = 'TB023',
            hint = 'Pass [{"account_id": …, "amount": …, "idempotency_key": …}, …], with the parameters of spend_credits.';
    end if;
    -- Otherwise a misspelt name would be ignored silently, and the spend would differ from what was meant.
    select name into v_key
    from jsonb_array_elements(spend_credits_batch.spends) as spend, jsonb_object_keys(spend) as name
    where name not in (
        'account_id', 'amount', 'idempotency_key', 'description', 'metadata', 'feature', 'reference_id'
    )
    limit 1;
    if found then
        raise exception 'a spend of the batch has the unknown field %', v_key
            using errcode = 'TB023', hint = 'Allowed fields: account_id, amount, idempotency_key, description, metadata, feature, reference_id.';
    end if;
    perform billing._checked_key(spend.idempotency_key, coalesce(spend.metadata, '{}')),
        billing._checked_amount(spend.amount)
    from jsonb_to_recordset(spend_credits_batch.spends) as spend (amount numeric, idempotency_key text, metadata jsonb);

    for v_account_id in
        select distinct spend.account_id from jsonb_to_recordset(spend_credits_batch.spends) as spend (account_id uuid)
        order by spend.account_id
    loop
        perform billing._lock_balance(v_account_id);

        select
            jsonb_agg(asked.spend order by asked.position),
            count(held.id) > 0 or count(distinct asked.spend ->> 'idempotency_key') < count(*)
        into v_new, v_repeated
        from jsonb_array_elements(spend_credits_batch.spends) with ordinality as asked (spend, position)
        left join lateral (
            select credit_entries.id from billing.credit_entries
            where credit_entries.account_id = v_account_id and credit_entries.key_space = 'caller'
                and credit_entries.idempotency_key = asked.spend ->> 'idempotency_key'
            limit 1
        ) as held on true
        where (asked.spend ->> 'account_id')::uuid = v_account_id;
        if v_repeated then
            v_new := billing._without_repeats(v_account_id, v_new);
        end if;
        if v_new is not null then
            v_balance := billing._lock_settled_balance(v_account_id);
            perform billing._check_may_spend(v_account_id);
            perform billing._post_spends(v_balance, array_agg(billing._entry(
                account_id => v_account_id, kind => 'spend', amount => -spend.amount::bigint, source => 'app',
                reference_id => spend.reference_id, description => spend.description, feature => spend.feature,
                metadata => coalesce(spend.metadata, '{}'), key_space => 'caller',
                idempotency_key => spend.idempotency_key, occurred_at => billing.current_time()
            )))
            from jsonb_to_recordset(v_new) as spend (
                amount numeric, idempotency_key text, description text, metadata jsonb, feature text, reference_id text
            );
        end if;
    end loop;

    return query
    select found.*
    from jsonb_array_elements(spend_credits_batch.spends) with ordinality as asked (spend, position)
    cross join lateral (
        select * from billing.credit_entries
        where credit_entries.account_id = (asked.spend ->> 'account_id')::uuid and credit_entries.key_space = 'caller'
            and credit_entries.idempotency_key = asked.spend ->> 'idempotency_key'
        limit 1
    ) as found
    order by asked.position;
end
$$;

revoke all on function billing._without_repeats, billing.spend_credits_batch from public, anon, authenticated, service_role;
grant execute on function billing.spend_credits_batch(jsonb) to service_role;

comment on function billing.spend_credits_batch(jsonb) is 'Spends for many jobs in one call, all or none: [{account_id, amount, idempotency_key, description, metadata, feature, reference_id}, …]. Returns the entries in the same order; a used key returns its first entry.';

-- 30_ledger/34_credit_holds.sql

-- Holds: credits set aside for work in progress, then captured, in one part or several, or released.
--
-- Invariant: a hold reserves credits of the lots that will pay for it, so they don't expire meanwhile, and no other
-- spend takes them. It uses available credits only, never the overdraft. If an account is frozen later, its open holds
-- can still be captured. Callable by service_role.

create function billing.hold_credits(
    account_id uuid,
    amount numeric,
    idempotency_key text,
    expires_in interval default '1 hour',
    description text default null,
    metadata jsonb default '{}',
    feature text default null
)
returns billing.credit_holds
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_amount bigint := billing._checked_amount(hold_credits.amount);
    v_balance billing.credit_balances;
    v_hold billing.credit_holds;
begin
    perform billing._checked_key(hold_credits.idempotency_key, hold_credits.metadata);
    perform billing._lock_balance(hold_credits.account_id);

    select * into v_hold from billing.credit_holds
    where credit_holds.account_id = hold_credits.account_id
        and credit_holds.idempotency_key = hold_credits.idempotency_key;
    if found then
        if (v_hold.amount, v_hold.expires_in, v_hold.description, v_hold.metadata, v_hold.feature) is distinct from (
            v_amount, hold_credits.expires_in, hold_credits.description, hold_credits.metadata, hold_credits.feature
        ) then
            perform billing._raise_key_reused(hold_credits.idempotency_key);
        end if;
        return v_hold;
    end if;

    perform billing._check_may_spend(hold_credits.account_id);
    perform billing._check_expires_in(hold_credits.expires_in);
    v_balance := billing._lock_settled_balance(hold_credits.account_id);
    if v_amount > v_balance.balance - v_balance.held then
        perform billing._raise_insufficient(v_balance.account_id, v_balance.balance - v_balance.held, v_amount);
    elsif v_balance.spend_cap is not null then
        perform billing._count_spend(v_balance, v_amount);
    end if;

    insert into billing.credit_holds (
        account_id, amount, description, metadata, feature, idempotency_key, expires_in, expires_at
    )
    values (
        hold_credits.account_id, v_amount, hold_credits.description, hold_credits.metadata, hold_credits.feature,
        hold_credits.idempotency_key, hold_credits.expires_in, billing.current_time() + hold_credits.expires_in
    )
    returning * into v_hold;

    with free as (
        select
            credit_grants.id, credit_grants.remaining - credit_grants.held as amount,
            sum(credit_grants.remaining - credit_grants.held) over (
                order by credit_grants.priority, credit_grants.expires_at, credit_grants.id
            ) as upper
        from billing.credit_grants
        where credit_grants.account_id = hold_credits.account_id
            and credit_grants.closed_at is null and credit_grants.remaining > credit_grants.held
    ),
    pinned as (
        insert into billing.credit_hold_lots (hold_id, grant_id, amount)
        select v_hold.id, free.id, least(free.amount, v_amount - (free.upper - free.amount)) from free
        where free.upper - free.amount < v_amount
        returning credit_hold_lots.grant_id, credit_hold_lots.amount
    )
    update billing.credit_grants set held = credit_grants.held + pinned.amount
    from pinned where credit_grants.id = pinned.grant_id;

    update billing.credit_balances
    set held = credit_balances.held + v_amount,
        next_due_at = least(credit_balances.next_due_at, v_hold.expires_at),
        updated_at = now()
    where credit_balances.account_id = v_hold.account_id;
    return v_hold;
end
$$;

create function billing._check_expires_in(expires_in interval)
returns void
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    if _check_expires_in.expires_in is null or _check_expires_in.expires_in not between '1 second' and '1 year' then
        raise exception 'expires_in is %, it must be from one second to one year',
            coalesce(_check_expires_in.expires_in::text, 'null')
            using errcode = 'TB024', hint = 'Pass slightly more time than the work takes, such as interval ''15 minutes''.';
    end if;
end
$$;

-- Locks the account of a hold, processes what is due, and locks the hold. TB019 if there is none, TB070 if it belongs
-- to a dispute.
create function billing._lock_hold(hold_id uuid)
returns billing.credit_holds
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_hold billing.credit_holds;
begin
    select * into v_hold from billing.credit_holds where credit_holds.id = _lock_hold.hold_id;
    if not found then
        raise exception 'there is no hold %', coalesce(_lock_hold.hold_id::text, 'null')
            using errcode = 'TB019', hint = 'Pass the id that hold_credits returned.';
    end if;
    if v_hold.frozen_grant_id is not null then
        raise exception 'hold % belongs to a dispute', v_hold.id
            using errcode = 'TB070', hint = 'It ends when the dispute is closed.';
    end if;
    perform billing._lock_settled_balance(v_hold.account_id);
    select * into strict v_hold from billing.credit_holds where credit_holds.id = _lock_hold.hold_id for update;
    return v_hold;
end
$$;

create function billing._check_held(hold billing.credit_holds)
returns void
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    if (_check_held.hold).status <> 'held' then
        raise exception 'hold % was % at %', (_check_held.hold).id, (_check_held.hold).status, (_check_held.hold).settled_at
            using errcode = 'TB020', hint = 'Create a new hold, or spend directly.';
    end if;
end
$$;

-- Ends a hold and releases what it still reserves.
create function billing._settle_hold(hold billing.credit_holds, status text, release_key text default null)
returns billing.credit_holds
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_hold billing.credit_holds;
    v_pinned bigint := (_settle_hold.hold).amount - (_settle_hold.hold).captured;
begin
    update billing.credit_holds
    set status = _settle_hold.status, release_key = _settle_hold.release_key, settled_at = billing.current_time()
    where credit_holds.id = (_settle_hold.hold).id
    returning * into v_hold;
    if v_pinned > 0 then
        update billing.credit_balances set held = credit_balances.held - v_pinned, updated_at = now()
        where credit_balances.account_id = v_hold.account_id;
        perform billing._remember_due(v_hold.account_id, billing._release_pins(array[v_hold.id]));
        perform billing._repay_debt(v_hold.account_id);
        perform billing._claim_returned_credits(v_hold.account_id);
    end if;
    return v_hold;
end
$$;

-- True if a capture was the last of its hold and ended it.
create function billing._ended_hold(capture billing.credit_entries, hold billing.credit_holds)
returns boolean
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select (_ended_hold.hold).status = 'captured' and not exists (
        select from billing.credit_entries
        where credit_entries.hold_id = (_ended_hold.hold).id and credit_entries.id > (_ended_hold.capture).id
    )
$$;

create function billing.capture_hold(
    hold_id uuid,
    amount numeric,
    idempotency_key text,
    description text default null,
    metadata jsonb default '{}',
    release_rest boolean default false
)
returns billing.credit_entries
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_amount bigint;
    v_hold billing.credit_holds;
    v_balance billing.credit_balances;
    v_entry billing.credit_entries;
    v_takes billing.credit_consumptions[];
begin
    perform billing._checked_key(capture_hold.idempotency_key, capture_hold.metadata);
    v_hold := billing._lock_hold(capture_hold.hold_id);
    v_amount := case when capture_hold.amount is not null then billing._checked_amount(capture_hold.amount) end;

    select * into v_entry from billing.credit_entries
    where credit_entries.account_id = v_hold.account_id and credit_entries.key_space = 'caller'
        and credit_entries.idempotency_key = capture_hold.idempotency_key;
    if found then
        if (v_entry.kind, v_entry.hold_id, -v_entry.amount, v_entry.description, v_entry.metadata) is distinct from (
                'capture', v_hold.id, coalesce(v_amount, -v_entry.amount),
                coalesce(capture_hold.description, v_hold.description), capture_hold.metadata
            ) or billing._ended_hold(v_entry, v_hold) <> capture_hold.release_rest
            and not (v_hold.status = 'captured' and v_hold.captured = v_hold.amount) then
            perform billing._raise_key_reused(capture_hold.idempotency_key);
        end if;
        return v_entry;
    end if;

    perform billing._check_held(v_hold);
    v_amount := coalesce(v_amount, v_hold.amount - v_hold.captured);
    if v_amount > v_hold.amount - v_hold.captured then
        raise exception 'hold % has % credits left, % cannot be captured', v_hold.id, v_hold.amount - v_hold.captured, v_amount
            using errcode = 'TB025', hint = 'Capture what is held and spend the rest with spend_credits.';
    end if;
    v_balance := billing._lock_balance(v_hold.account_id);
    if v_balance.spend_cap is not null then
        -- Checked when the hold was created; counted now.
        v_balance := billing._in_running_period(v_balance);
        v_balance.spent_in_period := v_balance.spent_in_period + v_amount;
    end if;

    v_entry := billing._entry(
        account_id => v_hold.account_id, kind => 'capture', amount => -v_amount, source => 'app',
        description => coalesce(capture_hold.description, v_hold.description), feature => v_hold.feature,
        metadata => capture_hold.metadata, hold_id => v_hold.id, key_space => 'caller',
        idempotency_key => capture_hold.idempotency_key, occurred_at => billing.current_time()
    );
    with pins as (
        select
            credit_hold_lots.grant_id, credit_hold_lots.amount,
            sum(credit_hold_lots.amount) over (
                order by credit_grants.priority, credit_grants.expires_at, credit_grants.id
            ) as upper
        from billing.credit_hold_lots
        join billing.credit_grants on credit_grants.id = credit_hold_lots.grant_id
        where credit_hold_lots.hold_id = v_hold.id and credit_hold_lots.amount > 0
    ),
    captured as (
        select pins.grant_id, least(pins.amount, v_amount - (pins.upper - pins.amount))::bigint as amount from pins
        where pins.upper - pins.amount < v_amount
    ),
    unpinned as (
        update billing.credit_hold_lots set amount = credit_hold_lots.amount - captured.amount
        from captured where credit_hold_lots.hold_id = v_hold.id and credit_hold_lots.grant_id = captured.grant_id
    )
    select array_agg(row(v_entry.id, captured.grant_id, captured.amount)::billing.credit_consumptions) into v_takes
    from captured;
    v_balance.held := v_balance.held - v_amount;
    v_entry := billing._post_entry(v_balance, v_entry, takes => v_takes);
    update billing.credit_holds set captured = credit_holds.captured + v_amount where credit_holds.id = v_hold.id
    returning * into v_hold;
    if capture_hold.release_rest or v_hold.captured = v_hold.amount then
        perform billing._settle_hold(v_hold, 'captured');
    end if;
    return v_entry;
end
$$;

create function billing.release_hold(hold_id uuid, idempotency_key text)
returns billing.credit_holds
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_hold billing.credit_holds;
begin
    perform billing._checked_key(release_hold.idempotency_key, '{}');
    v_hold := billing._lock_hold(release_hold.hold_id);
    if v_hold.release_key = release_hold.idempotency_key then
        return v_hold;
    elsif exists (
        select from billing.credit_holds
        where credit_holds.account_id = v_hold.account_id and credit_holds.release_key = release_hold.idempotency_key
    ) then
        perform billing._raise_key_reused(release_hold.idempotency_key);
    elsif v_hold.status = 'expired' then
        -- Too late to release anything, but nothing is held any more, which is what the caller wanted.
        return v_hold;
    end if;
    perform billing._check_held(v_hold);
    return billing._settle_hold(v_hold, 'released', release_hold.idempotency_key);
end
$$;

create function billing.extend_hold(hold_id uuid, expires_in interval)
returns billing.credit_holds
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_hold billing.credit_holds;
begin
    perform billing._check_expires_in(extend_hold.expires_in);
    v_hold := billing._lock_hold(extend_hold.hold_id);
    perform billing._check_held(v_hold);
    update billing.credit_holds
    set expires_at = greatest(credit_holds.expires_at, billing.current_time() + extend_hold.expires_in)
    where credit_holds.id = v_hold.id
    returning * into v_hold;
    return v_hold;
end
$$;

revoke all on function
    billing.hold_credits, billing._check_expires_in, billing._lock_hold, billing._check_held, billing._settle_hold,
    billing._ended_hold, billing.capture_hold, billing.release_hold, billing.extend_hold
from public, anon, authenticated, service_role;
grant execute on function
    billing.hold_credits(uuid, numeric, text, interval, text, jsonb, text),
    billing.capture_hold(uuid, numeric, text, text, jsonb, boolean),
    billing.release_hold(uuid, text),
    billing.extend_hold(uuid, interval)
to service_role;

comment on function billing.hold_credits(uuid, numeric, text, interval, text, jsonb, text) is 'Sets credits aside until they are captured or released, or expires_in has passed; once for each idempotency key.';
comment on function billing.capture_hold(uuid, numeric, text, text, jsonb, boolean) is 'Spends credits of a hold, once for each idempotency key, and returns the entry. amount null: all that is left. The rest stays held until it is captured, released (release_rest) or expires.';
comment on function billing.release_hold(uuid, text) is 'Releases what a hold still has set aside.';
comment on function billing.extend_hold(uuid, interval) is 'Keeps a hold open for expires_in from now; never shortens it.';

-- 30_ledger/36_refund_spend.sql

-- Refunds a spend to the lots that it came from, by lineage, and never more than it took, over all calls.
--
-- refund_spend is callable by service_role; a reinstatement reverses its revocation in the same way.

-- When a movement from before a closing is refunded, the account owes again what the closing wrote off, up to that
-- amount: the refund pays it at once, as it would have without the closing. Returns the new balance.
create function billing._owe_again(original billing.credit_entries, kind text, amount bigint)
returns billing.credit_balances
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_balance billing.credit_balances := billing._lock_balance((_owe_again.original).account_id);
    v_debt bigint := least(v_balance.written_off_debt, _owe_again.amount);
    -- A reinstatement itself ends what its own revocation withholds.
    v_withheld bigint := case _owe_again.kind
        when 'refund' then least(v_balance.written_off_withheld, _owe_again.amount - v_debt) else 0
    end;
begin
    v_balance.withheld := v_balance.withheld + v_withheld;
    v_balance.written_off_debt := v_balance.written_off_debt - v_debt;
    v_balance.written_off_withheld := v_balance.written_off_withheld - v_withheld;
    perform billing._post_entries(v_balance, case when v_debt > 0 then array[billing._entry(
        account_id => v_balance.account_id, kind => 'adjustment', amount => -v_debt, debt => v_debt,
        source => 'closing', description => 'Debt that was written off is owed again',
        reverses_entry_id => (_owe_again.original).id, key_space => 'system',
        idempotency_key => 'owed_again:' || billing._last_entry_id(v_balance.account_id),
        occurred_at => billing.current_time()
    )] else '{}' end);
    return billing._lock_balance(v_balance.account_id);
end
$$;

-- Returns part of what an entry took, in reverse order: debt, then lots from the end of their order. Debt that is
-- repaid by now returns as a new lot. Lots that are due then expire again.
create function billing._reverse_entry(
    original billing.credit_entries, kind text, amount bigint, key_space text, idempotency_key text, description text,
    metadata jsonb, actor text
)
returns billing.credit_entries
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_original billing.credit_entries := _reverse_entry.original;
    v_balance billing.credit_balances := billing._lock_settled_balance(v_original.account_id);
    v_entry billing.credit_entries;
    v_to_lots bigint;
    v_debt bigint;
    v_new bigint;
    v_left bigint;
    v_takes billing.credit_consumptions[];
begin
    if v_balance.balance > 9223372036854775807 - _reverse_entry.amount then
        raise exception 'account % would exceed 9223372036854775807 credits', v_original.account_id
            using errcode = 'TB009', hint = 'Refund less.';
    elsif v_original.created_at < v_balance.written_off_at then
        v_balance := billing._owe_again(v_original, _reverse_entry.kind, _reverse_entry.amount);
    end if;

    -- What the entry took from lots and was not returned to them yet.
    select coalesce(sum(credit_consumptions.amount), 0) into v_to_lots
    from billing.credit_entries
    join billing.credit_consumptions on credit_consumptions.entry_id = credit_entries.id
    where credit_entries.id = v_original.id
        or credit_entries.reverses_entry_id = v_original.id and credit_entries.kind in ('refund', 'reinstatement');
    v_left := -v_original.amount - coalesce((
        select sum(credit_entries.amount) from billing.credit_entries
        where credit_entries.reverses_entry_id = v_original.id and credit_entries.kind in ('refund', 'reinstatement')
    ), 0);
    -- The rest of what it took was debt, and comes first.
    v_new := least(_reverse_entry.amount, greatest(v_left - v_to_lots, 0));
    v_debt := least(v_new, v_balance.debt);
    v_to_lots := least(_reverse_entry.amount - v_new, v_to_lots);
    v_new := _reverse_entry.amount - v_debt - v_to_lots;

    v_entry := billing._entry(
        account_id => v_original.account_id, kind => _reverse_entry.kind, amount => _reverse_entry.amount,
        debt => -v_debt, source => v_original.source, reference_id => v_original.reference_id,
        description => _reverse_entry.description, feature => v_original.feature,
        metadata => _reverse_entry.metadata, actor => _reverse_entry.actor, reverses_entry_id => v_original.id,
        key_space => _reverse_entry.key_space, idempotency_key => _reverse_entry.idempotency_key,
        occurred_at => billing.current_time()
    );
    select
        array_agg(row(v_entry.id, given.id, -given.amount)::billing.credit_consumptions),
        least(v_balance.next_due_at, min(given.expires_at))
    into v_takes, v_balance.next_due_at
    from (
        select
            lots.*, least(lots.taken, v_to_lots - (sum(lots.taken) over (
                order by lots.priority desc, lots.expires_at desc, lots.id desc
            ) - lots.taken))::bigint as amount
        from (
            select
                credit_grants.id, credit_grants.priority, credit_grants.expires_at,
                sum(credit_consumptions.amount)::bigint as taken
            from billing.credit_entries
            join billing.credit_consumptions on credit_consumptions.entry_id = credit_entries.id
            join billing.credit_grants on credit_grants.id = credit_consumptions.grant_id
            where credit_entries.id = v_original.id
                or credit_entries.reverses_entry_id = v_original.id
                and credit_entries.kind in ('refund', 'reinstatement')
            group by credit_grants.id
            having sum(credit_consumptions.amount) > 0
        ) as lots
    ) as given
    where given.amount > 0;
    v_entry := billing._post_entry(
        v_balance, v_entry,
        case when v_new > 0 then array[billing._lot(
            account_id => v_entry.account_id, entry_id => v_entry.id, amount => v_new,
            effective_at => v_entry.occurred_at, source => v_entry.source, reference_id => v_entry.reference_id,
            key_space => 'system', idempotency_key => 'returned:' || v_entry.id
        )] else '{}' end,
        coalesce(v_takes, '{}')
    );
    perform billing._repay_debt(v_original.account_id);
    perform billing._claim_returned_credits(v_original.account_id);
    return v_entry;
end
$$;

create function billing.refund_spend(
    entry_id bigint,
    amount numeric,
    idempotency_key text,
    description text default null,
    metadata jsonb default '{}'
)
returns billing.credit_entries
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_amount bigint := case when refund_spend.amount is not null then billing._checked_amount(refund_spend.amount) end;
    v_spend billing.credit_entries;
    v_entry billing.credit_entries;
    v_left bigint;
begin
    perform billing._checked_key(refund_spend.idempotency_key, refund_spend.metadata);
    select * into v_spend from billing.credit_entries
    where credit_entries.id = refund_spend.entry_id and credit_entries.kind in ('spend', 'capture');
    if not found then
        raise exception 'entry % is not a spend', coalesce(refund_spend.entry_id::text, 'null')
            using errcode = 'TB026', hint = 'Pass the id that spend_credits or capture_hold returned.';
    end if;
    perform billing._lock_balance(v_spend.account_id);

    select * into v_entry from billing.credit_entries
    where credit_entries.account_id = v_spend.account_id and credit_entries.key_space = 'caller'
        and credit_entries.idempotency_key = refund_spend.idempotency_key;
    if found then
        if (v_entry.kind, v_entry.reverses_entry_id, v_entry.amount, v_entry.description, v_entry.metadata)
            is distinct from (
                'refund', v_spend.id, coalesce(v_amount, v_entry.amount), refund_spend.description, refund_spend.metadata
            ) then
            perform billing._raise_key_reused(refund_spend.idempotency_key);
        end if;
        return v_entry;
    end if;

    perform billing._check_open(v_spend.account_id);
    select -v_spend.amount - coalesce(sum(credit_entries.amount), 0) into v_left from billing.credit_entries
    where credit_entries.reverses_entry_id = v_spend.id and credit_entries.kind = 'refund';
    v_amount := coalesce(v_amount, v_left);
    if v_left = 0 or v_amount > v_left then
        raise exception 'only % credits of entry % can be refunded, not %', v_left, v_spend.id, v_amount
            using errcode = 'TB027', hint = 'Refund at most what is left of the spend.';
    end if;

    v_entry := billing._reverse_entry(
        v_spend, 'refund', v_amount, 'caller', refund_spend.idempotency_key, refund_spend.description,
        refund_spend.metadata, null
    );
    -- It no longer counts towards the cap of the period in which it was spent.
    update billing.credit_balances set spent_in_period = greatest(credit_balances.spent_in_period - v_amount, 0)
    where credit_balances.account_id = v_spend.account_id and credit_balances.spend_cap is not null
        and v_spend.occurred_at >= credit_balances.spend_period_start;
    return v_entry;
end
$$;

revoke all on function billing._owe_again, billing._reverse_entry, billing.refund_spend from public, anon, authenticated, service_role;
grant execute on function billing.refund_spend(bigint, numeric, text, text, jsonb) to service_role;

comment on function billing.refund_spend(bigint, numeric, text, text, jsonb) is 'Refunds a spend or capture to the lots that it came from: all that is left of it (amount null) or a part. Once for each idempotency key.';

-- 30_ledger/38_revoke_grant.sql

-- Revokes a lot, by lineage.
--
-- Invariant: at most what was granted is taken. Credits that were spent (or are held) are the revocation's shortfall, which is
-- always recorded:
--     clamp_and_record      nothing more is taken
--     allow_negative        other lots pay, then the balance goes below zero: debt, which the next credits repay
--     block_future_grants   the balance stays as it is; the next grants are withheld until the shortfall is covered
-- Credits that expired unspent are no shortfall. Callable by service_role.

-- What a revocation still requests.
create function billing._asked_back(revocation billing.credit_revocations)
returns bigint
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
    select (_asked_back.revocation).requested - (_asked_back.revocation).reinstated - (_asked_back.revocation).voided
$$;

-- Credits of a lot that were spent or are held, and not returned: everything missing from it, except what expired
-- unspent and what revocations of the lot itself took. Calculated from these, because a lot may have a million spends.
create function billing._spent_of_lot(lot billing.credit_grants)
returns bigint
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_lot billing.credit_grants := _spent_of_lot.lot;
begin
    if v_lot.entry_id is null then
        return 0;
    end if;
    return v_lot.held + v_lot.amount - v_lot.remaining - v_lot.lapsed - coalesce((
        select sum(credit_consumptions.amount)
        from (
            select credit_revocations.entry_id from billing.credit_revocations
            where credit_revocations.grant_id = v_lot.id and credit_revocations.entry_id is not null
            union
            -- What revocations took of credits that returned later; what was withheld of the lot counts as spent.
            select credit_entries.id from billing.credit_entries
            where credit_entries.reverses_entry_id = v_lot.entry_id and credit_entries.kind = 'revocation'
                and credit_entries.key_space = 'system' and credit_entries.idempotency_key ^@ 'claim:'
        ) as taken
        cross join lateral (
            select taken.entry_id
            union all
            select credit_entries.id from billing.credit_entries where credit_entries.reverses_entry_id = taken.entry_id
        ) as moved
        join billing.credit_consumptions
            on credit_consumptions.entry_id = moved.entry_id and credit_consumptions.grant_id = v_lot.id
    ), 0);
end
$$;

-- What earlier revocations of a lot could not take, minus what reinstatements returned elsewhere than to the lot.
create function billing._open_shortfall(grant_id bigint)
returns bigint
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select coalesce((
        select sum(greatest(credit_revocations.shortfall - case credit_revocations.shortfall_policy
            when 'clamp_and_record' then credit_revocations.voided else 0
        end, 0) - credit_revocations.reinstated)
        from billing.credit_revocations where credit_revocations.grant_id = _open_shortfall.grant_id
    ), 0)::bigint - coalesce((
        select sum(credit_consumptions.amount)
        from billing.credit_grants as lots
        join billing.credit_entries as taken on taken.reverses_entry_id = lots.entry_id and taken.kind = 'revocation'
        join billing.credit_entries as given on given.reverses_entry_id = taken.id and given.kind = 'reinstatement'
        join billing.credit_consumptions
            on credit_consumptions.entry_id = given.id and credit_consumptions.grant_id = lots.id
        where lots.id = _open_shortfall.grant_id
    ), 0)::bigint
$$;

-- Writes a revocation of a lot: what is taken of it at once, and the shortfall by its policy. business_key: the key
-- that is worth less than was granted; null for a decision of a person.
create function billing._write_revocation(
    lot billing.credit_grants, requested bigint, taken bigint, shortfall bigint, key_space text, idempotency_key text,
    shortfall_policy text, reason text, actor text, business_key text default null
)
returns billing.credit_revocations
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_lot billing.credit_grants := _write_revocation.lot;
    v_balance billing.credit_balances := billing._lock_balance(v_lot.account_id);
    v_entry billing.credit_entries;
    v_revocation billing.credit_revocations;
    v_from_others bigint := 0;
    v_debt bigint := 0;
begin
    if _write_revocation.shortfall_policy = 'allow_negative' and _write_revocation.shortfall > 0 then
        v_from_others := least(
            _write_revocation.shortfall,
            greatest(v_balance.balance + v_balance.debt - v_balance.held - _write_revocation.taken, 0)
        );
        v_debt := _write_revocation.shortfall - v_from_others;
    end if;

    if _write_revocation.shortfall_policy = 'block_future_grants' then
        v_balance.withheld := v_balance.withheld + _write_revocation.shortfall;
    end if;

    v_entry := billing._entry(
        account_id => v_lot.account_id, kind => 'revocation',
        amount => -(_write_revocation.taken + v_from_others + v_debt), debt => v_debt, source => v_lot.source,
        reference_id => v_lot.reference_id, description => _write_revocation.reason,
        actor => _write_revocation.actor, reverses_entry_id => v_lot.entry_id,
        key_space => _write_revocation.key_space, idempotency_key => _write_revocation.idempotency_key,
        occurred_at => billing.current_time()
    );
    perform billing._post_entries(
        v_balance,
        case when v_entry.amount < 0 then array[v_entry] else '{}' end,
        takes => case
            when _write_revocation.taken > 0
                then array[row(v_entry.id, v_lot.id, _write_revocation.taken)::billing.credit_consumptions]
            else '{}'
        end
    );
    if v_lot.entry_id is null then
        -- It has not opened yet: it is empty, and cancelled.
        update billing.credit_grants set closed_at = coalesce(credit_grants.closed_at, v_entry.occurred_at)
        where credit_grants.id = v_lot.id;
    end if;

    insert into billing.credit_revocations (
        account_id, grant_id, entry_id, requested, taken, shortfall, shortfall_policy, reason, actor, key_space,
        idempotency_key, business_key
    )
    values (
        v_lot.account_id, v_lot.id, case when v_entry.amount < 0 then v_entry.id end, _write_revocation.requested, _write_revocation.taken,
        _write_revocation.shortfall, _write_revocation.shortfall_policy, _write_revocation.reason,
        _write_revocation.actor, _write_revocation.key_space, _write_revocation.idempotency_key,
        _write_revocation.business_key
    )
    returning * into v_revocation;
    return v_revocation;
end
$$;

create function billing._revoke_grant(
    lot billing.credit_grants, amount bigint, key_space text, idempotency_key text, shortfall_policy text, reason text,
    actor text
)
returns billing.credit_revocations
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_lot billing.credit_grants;
    v_revocation billing.credit_revocations;
    v_revocable bigint;
begin
    perform billing._lock_settled_balance((_revoke_grant.lot).account_id);
    select * into strict v_lot from billing.credit_grants where credit_grants.id = (_revoke_grant.lot).id;
    select v_lot.amount - coalesce(sum(billing._asked_back(credit_revocations)), 0) into v_revocable
    from billing.credit_revocations where credit_revocations.grant_id = v_lot.id;
    v_revocation.requested := coalesce(_revoke_grant.amount, v_revocable);
    if v_revocable = 0 or v_revocation.requested > v_revocable then
        raise exception 'only % credits of grant % can be revoked, not %', v_revocable, v_lot.id, v_revocation.requested
            using errcode = 'TB027', hint = 'Revoke at most what is left of the grant.';
    elsif v_lot.entry_id is null and v_revocation.requested < v_revocable then
        raise exception 'grant % is scheduled and can only be revoked as a whole', v_lot.id
            using errcode = 'TB032', hint = 'Revoke all of it (amount null), then schedule a smaller grant.';
    end if;

    v_revocation.taken := least(v_revocation.requested, v_lot.remaining - v_lot.held);
    v_revocation.shortfall := case
        when v_lot.entry_id is null then 0
        else least(
            v_revocation.requested - v_revocation.taken,
            greatest(billing._spent_of_lot(v_lot) - billing._open_shortfall(v_lot.id), 0)
        )
    end;
    return billing._write_revocation(
        v_lot, v_revocation.requested, v_revocation.taken, v_revocation.shortfall, _revoke_grant.key_space,
        _revoke_grant.idempotency_key, _revoke_grant.shortfall_policy, _revoke_grant.reason, _revoke_grant.actor
    );
end
$$;

create function billing.revoke_grant(
    grant_id bigint,
    amount numeric,
    idempotency_key text,
    reason text,
    actor text,
    shortfall_policy text default 'clamp_and_record'
)
returns billing.credit_revocations
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_amount bigint := case when revoke_grant.amount is not null then billing._checked_amount(revoke_grant.amount) end;
    v_lot billing.credit_grants;
    v_revocation billing.credit_revocations;
begin
    perform billing._checked_key(revoke_grant.idempotency_key, '{}');
    perform billing._check_reason(revoke_grant.reason, revoke_grant.actor);
    if revoke_grant.shortfall_policy is null
        or revoke_grant.shortfall_policy not in ('clamp_and_record', 'allow_negative', 'block_future_grants') then
        raise exception 'unknown shortfall_policy: %', coalesce(revoke_grant.shortfall_policy, 'null')
            using errcode = 'TB029', hint = 'Use clamp_and_record, allow_negative or block_future_grants.';
    end if;
    select * into v_lot from billing.credit_grants where credit_grants.id = revoke_grant.grant_id;
    if not found then
        raise exception 'there is no credit grant %', coalesce(revoke_grant.grant_id::text, 'null')
            using errcode = 'TB026', hint = 'Pass the id of a row in billing.credit_grants.';
    end if;
    perform billing._lock_balance(v_lot.account_id);

    select * into v_revocation from billing.credit_revocations
    where credit_revocations.account_id = v_lot.account_id and credit_revocations.key_space = 'caller'
        and credit_revocations.idempotency_key = revoke_grant.idempotency_key;
    if found then
        if (
            v_revocation.grant_id, v_revocation.requested, v_revocation.shortfall_policy, v_revocation.reason,
            v_revocation.actor
        ) is distinct from (
            v_lot.id, coalesce(v_amount, v_revocation.requested), revoke_grant.shortfall_policy, revoke_grant.reason,
            revoke_grant.actor
        ) then
            perform billing._raise_key_reused(revoke_grant.idempotency_key);
        end if;
        return v_revocation;
    end if;
    perform billing._check_key_is_new(v_lot.account_id, revoke_grant.idempotency_key);
    perform billing._check_open(v_lot.account_id);
    return billing._revoke_grant(
        v_lot, v_amount, 'caller', revoke_grant.idempotency_key, revoke_grant.shortfall_policy, revoke_grant.reason,
        revoke_grant.actor
    );
end
$$;

revoke all on function
    billing._asked_back, billing._spent_of_lot, billing._open_shortfall, billing._write_revocation, billing._revoke_grant,
    billing.revoke_grant
from public, anon, authenticated, service_role;
grant execute on function billing.revoke_grant(bigint, numeric, text, text, text, text) to service_role;

comment on function billing.revoke_grant(bigint, numeric, text, text, text, text) is 'Revokes a lot: all of it (amount null) or a part; shortfall_policy decides about spent credits. A scheduled lot is cancelled.';

-- 30_ledger/40_reinstate.sql

-- Reinstates what a revocation took, to the lots that it came from, by lineage.
--
-- Invariant: at most what the revocation took, over all calls. Private.

-- Returns what a revocation took, as _reverse_entry does; then ends what is still withheld.
create function billing._reinstate(
    revocation billing.credit_revocations, amount bigint, key_space text, idempotency_key text, reason text, actor text
)
returns billing.credit_reinstatements
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_balance billing.credit_balances := billing._lock_settled_balance((_reinstate.revocation).account_id);
    v_revocation billing.credit_revocations;
    v_original billing.credit_entries;
    v_entry billing.credit_entries;
    v_reinstatement billing.credit_reinstatements;
    v_left bigint;
    v_part bigint;
    v_suffix text := '';
    v_written_off bigint := 0;
begin
    -- Read again: now under the lock.
    select * into strict v_revocation from billing.credit_revocations
    where credit_revocations.id = (_reinstate.revocation).id;
    v_left := v_revocation.taken - v_revocation.reinstated
        + case v_revocation.shortfall_policy when 'clamp_and_record' then 0 else v_revocation.shortfall end;
    v_reinstatement.amount := coalesce(_reinstate.amount, v_left);
    if v_left = 0 or v_reinstatement.amount > v_left then
        raise exception 'only % credits of revocation % can be reinstated', v_left, v_revocation.id
            using errcode = 'TB027', hint = 'Reinstate at most that number.';
    end if;
    if v_revocation.created_at < v_balance.written_off_at then
        -- Closing the account ended this withholding, so no grant gave it up.
        v_written_off := v_balance.written_off_withheld;
    end if;
    v_reinstatement.unwithheld := case v_revocation.shortfall_policy
        when 'block_future_grants' then least(
            v_balance.withheld + v_written_off,
            greatest(v_reinstatement.amount - greatest(v_revocation.taken - v_revocation.reinstated, 0), 0)
        )
        else 0
    end;

    update billing.credit_revocations
    set reinstated = credit_revocations.reinstated + v_reinstatement.amount,
        -- What was only recorded is no longer requested; otherwise it would be taken from the reinstated credits.
        voided = case credit_revocations.shortfall_policy
            when 'clamp_and_record' then greatest(credit_revocations.voided, credit_revocations.shortfall)
            else credit_revocations.voided
        end
    where credit_revocations.id = v_revocation.id;
    v_written_off := least(v_written_off, v_reinstatement.unwithheld);
    update billing.credit_balances
    set withheld = credit_balances.withheld + v_written_off - v_reinstatement.unwithheld,
        written_off_withheld = credit_balances.written_off_withheld - v_written_off
    where credit_balances.account_id = v_revocation.account_id;
    v_left := v_reinstatement.amount - v_reinstatement.unwithheld;
    -- What it took at once, then what it took of credits that returned later.
    for v_original in
        select credit_entries.* from billing.credit_entries
        where credit_entries.id = v_revocation.entry_id
            or credit_entries.kind = 'revocation' and credit_entries.key_space = 'system'
            and credit_entries.reverses_entry_id = (
                select credit_grants.entry_id from billing.credit_grants where credit_grants.id = v_revocation.grant_id
            )
            and credit_entries.idempotency_key ^@ pg_catalog.format('claim:%s:', v_revocation.id)
        order by credit_entries.id
    loop
        v_part := least(v_left, -v_original.amount - coalesce((
            select sum(credit_entries.amount) from billing.credit_entries
            where credit_entries.reverses_entry_id = v_original.id and credit_entries.kind = 'reinstatement'
        ), 0));
        continue when v_part = 0;
        v_entry := billing._reverse_entry(
            v_original, 'reinstatement', v_part, _reinstate.key_space, _reinstate.idempotency_key || v_suffix,
            _reinstate.reason, '{}', _reinstate.actor
        );
        v_suffix := pg_catalog.format(':%s', v_original.id);
        v_left := v_left - v_part;
    end loop;
    if v_left > 0 then
        -- Later grants gave it up.
        v_entry := billing._grant_credits(
            account_id => v_revocation.account_id,
            amount => v_left,
            key_space => _reinstate.key_space,
            idempotency_key => _reinstate.idempotency_key || v_suffix,
            source => 'reinstatement',
            reference_id => v_revocation.id::text,
            description => _reinstate.reason,
            kind => 'reinstatement',
            actor => _reinstate.actor
        );
    end if;

    insert into billing.credit_reinstatements (
        account_id, revocation_id, entry_id, amount, unwithheld, reason, actor, key_space, idempotency_key
    )
    values (
        v_revocation.account_id, v_revocation.id, v_entry.id, v_reinstatement.amount, v_reinstatement.unwithheld,
        _reinstate.reason, _reinstate.actor, _reinstate.key_space, _reinstate.idempotency_key
    )
    returning * into v_reinstatement;
    return v_reinstatement;
end
$$;

revoke all on function billing._reinstate from public, anon, authenticated, service_role;

-- 30_ledger/42_adjust_credits.sql

-- Adjusts a balance by hand, and takes credits with an entry of any kind.
--
-- Invariant: an adjustment has a reason and an actor, stored in its entry; it takes available credits only, never the
-- overdraft. adjust_credits is callable by service_role; a transfer takes credits in the same way.

-- Posts an entry of any kind that takes credits from an account's lots; never from the overdraft. The caller has
-- checked the key.
create function billing._take_credits(balance billing.credit_balances, entry billing.credit_entries)
returns billing.credit_entries
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_free bigint := (_take_credits.balance).balance - (_take_credits.balance).held;
begin
    if -(_take_credits.entry).amount > v_free then
        perform billing._raise_insufficient(
            (_take_credits.entry).account_id, v_free, -(_take_credits.entry).amount
        );
    end if;
    return billing._post_entry(_take_credits.balance, _take_credits.entry);
end
$$;

create function billing.adjust_credits(
    account_id uuid,
    amount numeric,
    idempotency_key text,
    reason text,
    actor text,
    expires_at timestamptz default null
)
returns billing.credit_entries
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_amount bigint := billing._checked_amount(abs(adjust_credits.amount));
    v_entry billing.credit_entries;
begin
    perform billing._checked_key(adjust_credits.idempotency_key, '{}');
    perform billing._check_reason(adjust_credits.reason, adjust_credits.actor);
    if adjust_credits.amount > 0 then
        return billing._grant_credits(
            account_id => adjust_credits.account_id,
            amount => v_amount,
            key_space => 'caller',
            idempotency_key => adjust_credits.idempotency_key,
            source => 'adjustment',
            reference_id => null,
            description => adjust_credits.reason,
            expires_at => adjust_credits.expires_at,
            kind => 'adjustment',
            actor => adjust_credits.actor
        );
    end if;

    perform billing._lock_balance(adjust_credits.account_id);
    select * into v_entry from billing.credit_entries
    where credit_entries.account_id = adjust_credits.account_id and credit_entries.key_space = 'caller'
        and credit_entries.idempotency_key = adjust_credits.idempotency_key;
    if found then
        if (v_entry.kind, v_entry.amount, v_entry.description, v_entry.actor) is distinct from (
            'adjustment', -v_amount, adjust_credits.reason, adjust_credits.actor
        ) then
            perform billing._raise_key_reused(adjust_credits.idempotency_key);
        end if;
        return v_entry;
    end if;
    perform billing._check_open(adjust_credits.account_id);
    return billing._take_credits(billing._lock_settled_balance(adjust_credits.account_id), billing._entry(
        account_id => adjust_credits.account_id, kind => 'adjustment', amount => -v_amount, source => 'adjustment',
        description => adjust_credits.reason, actor => adjust_credits.actor, key_space => 'caller',
        idempotency_key => adjust_credits.idempotency_key, occurred_at => billing.current_time()
    ));
end
$$;

revoke all on function billing._take_credits, billing.adjust_credits from public, anon, authenticated, service_role;
grant execute on function billing.adjust_credits(uuid, numeric, text, text, text, timestamptz) to service_role;

comment on function billing.adjust_credits(uuid, numeric, text, text, text, timestamptz) is 'Adds credits or (amount below zero) removes them by hand, with a reason and an actor; once for each idempotency key.';

-- 30_ledger/44_transfer_credits.sql

-- Moves credits from one account to another.
--
-- Invariant: the same credits leave one account and arrive in the other, in the same transaction and lot by lot;
-- available credits only, never the overdraft. Callable by service_role.

-- Lots keep their priority and their expiry: a transfer never extends them.
create function billing.transfer_credits(
    from_account_id uuid,
    to_account_id uuid,
    amount numeric,
    idempotency_key text,
    description text default null,
    metadata jsonb default '{}'
)
returns billing.credit_entries
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_amount bigint := billing._checked_amount(transfer_credits.amount);
    v_out billing.credit_entries;
    v_lot record;
begin
    perform billing._checked_key(transfer_credits.idempotency_key, transfer_credits.metadata);
    if transfer_credits.from_account_id = transfer_credits.to_account_id then
        raise exception 'account % cannot transfer to itself', transfer_credits.from_account_id
            using errcode = 'TB030', hint = 'Pass a different to_account_id.';
    elsif transfer_credits.from_account_id is null or transfer_credits.to_account_id is null then
        perform billing._raise_no_account(null);
    end if;
    -- Both in the order of their ids, so that two transfers in opposite directions never deadlock.
    perform billing._lock_balance(least(transfer_credits.from_account_id, transfer_credits.to_account_id));
    perform billing._lock_balance(greatest(transfer_credits.from_account_id, transfer_credits.to_account_id));

    select * into v_out from billing.credit_entries
    where credit_entries.account_id = transfer_credits.from_account_id and credit_entries.key_space = 'caller'
        and credit_entries.idempotency_key = transfer_credits.idempotency_key;
    if found then
        if (v_out.kind, v_out.amount, v_out.reference_id, v_out.description, v_out.metadata) is distinct from (
            'transfer_out', -v_amount, transfer_credits.to_account_id::text, transfer_credits.description,
            transfer_credits.metadata
        ) then
            perform billing._raise_key_reused(transfer_credits.idempotency_key);
        end if;
        return v_out;
    end if;

    perform billing._check_may_spend(transfer_credits.from_account_id);
    perform billing._check_open(transfer_credits.to_account_id);
    v_out := billing._take_credits(billing._lock_settled_balance(transfer_credits.from_account_id), billing._entry(
        account_id => transfer_credits.from_account_id, kind => 'transfer_out', amount => -v_amount,
        source => 'transfer', reference_id => transfer_credits.to_account_id::text,
        description => transfer_credits.description, metadata => transfer_credits.metadata, key_space => 'caller',
        idempotency_key => transfer_credits.idempotency_key, occurred_at => billing.current_time()
    ));
    for v_lot in
        select credit_consumptions.amount, credit_grants.id, credit_grants.priority, credit_grants.expires_at
        from billing.credit_consumptions
        join billing.credit_grants on credit_grants.id = credit_consumptions.grant_id
        where credit_consumptions.entry_id = v_out.id
        order by credit_grants.priority, credit_grants.expires_at, credit_grants.id
    loop
        perform billing._grant_credits(
            account_id => transfer_credits.to_account_id,
            amount => v_lot.amount,
            key_space => 'system',
            idempotency_key => pg_catalog.format('transfer:%s:%s', v_out.id, v_lot.id),
            source => 'transfer',
            reference_id => transfer_credits.from_account_id::text,
            description => transfer_credits.description,
            metadata => transfer_credits.metadata,
            priority => v_lot.priority,
            expires_at => v_lot.expires_at,
            kind => 'transfer_in'
        );
    end loop;
    return v_out;
end
$$;

revoke all on function billing.transfer_credits from public, anon, authenticated, service_role;
grant execute on function billing.transfer_credits(uuid, uuid, numeric, text, text, jsonb) to service_role;

comment on function billing.transfer_credits(uuid, uuid, numeric, text, text, jsonb) is 'Moves credits to another account, once for each idempotency key of the paying account. Lots keep priority and expiry.';

-- 30_ledger/46_credit_limits.sql

-- Limits of an account: its overdraft, its spending cap, and the low-balance threshold.
--
-- Invariant: a cap counts its whole period, including what was spent before it was set; a fall below the threshold
-- notifies once. set_credit_limits is callable by service_role; the trigger sees every change of a balance.

create function billing.set_credit_limits(
    account_id uuid,
    overdraft numeric default 0,
    spend_cap numeric default null,
    spend_cap_period text default null,
    low_balance_threshold numeric default null
)
returns billing.credit_balances
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_balance billing.credit_balances;
    v_last_entry_id bigint;
    v_period_start timestamptz;
    v_spent numeric := 0;
begin
    if (set_credit_limits.spend_cap is null) <> (set_credit_limits.spend_cap_period is null)
        or set_credit_limits.spend_cap_period not in ('day', 'week', 'month') then
        raise exception 'spend_cap and spend_cap_period must be set together'
            using errcode = 'TB031', hint = 'Pass both, with day, week or month as the period. Pass neither for no cap.';
    end if;
    -- A cap also counts what was spent before it was set. Committed spends are added up before the lock is taken, which
    -- would block the account's movements; under the lock only those since then.
    if set_credit_limits.spend_cap is not null then
        select coalesce(max(credit_entries.id), 0) into v_last_entry_id from billing.credit_entries
        where credit_entries.account_id = set_credit_limits.account_id;
        v_period_start := date_trunc(set_credit_limits.spend_cap_period, billing.current_time(), 'UTC');
        v_spent := billing._spent_until(set_credit_limits.account_id, v_period_start, v_last_entry_id);
    end if;
    v_balance := billing._lock_balance(set_credit_limits.account_id);
    if set_credit_limits.spend_cap is not null then
        if v_period_start < date_trunc(set_credit_limits.spend_cap_period, billing.current_time(), 'UTC') then
            -- A new period has started meanwhile.
            v_period_start := date_trunc(set_credit_limits.spend_cap_period, billing.current_time(), 'UTC');
            v_spent := 0;
        end if;
        v_spent := v_spent + billing._spent_after(v_balance.account_id, v_period_start, v_last_entry_id);
    end if;

    update billing.credit_balances
    set overdraft = billing._checked_limit('overdraft', coalesce(set_credit_limits.overdraft, 0)),
        spend_cap = billing._checked_limit('spend_cap', set_credit_limits.spend_cap),
        spend_cap_period = set_credit_limits.spend_cap_period,
        low_balance_threshold = nullif(
            billing._checked_limit('low_balance_threshold', set_credit_limits.low_balance_threshold), 0
        ),
        -- Setting it above the balance notifies nobody, because the balance did not fall.
        is_low = credit_balances.balance - credit_balances.held < coalesce(set_credit_limits.low_balance_threshold, 0),
        spend_period_start = v_period_start,
        spent_in_period = greatest(v_spent, 0)
    where credit_balances.account_id = v_balance.account_id
    returning * into v_balance;
    return v_balance;
end
$$;

-- What an entry counts towards the cap of the period that started then. A refund counts in the period of its original,
-- as refund_spend counts it.
create function billing._counted_by_cap(entry billing.credit_entries, period_start timestamptz)
returns bigint
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    if (_counted_by_cap.entry).kind = 'refund' and not exists (
        select from billing.credit_entries
        where credit_entries.id = (_counted_by_cap.entry).reverses_entry_id
            and credit_entries.occurred_at >= _counted_by_cap.period_start
    ) then
        return 0;
    end if;
    return -(_counted_by_cap.entry).amount;
end
$$;

-- Credits spent since the start of a period, by entries up to one.
create function billing._spent_until(account_id uuid, period_start timestamptz, last_entry_id bigint)
returns numeric
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select coalesce(sum(
            case
                when credit_entries.kind = 'refund'
                    then billing._counted_by_cap(credit_entries, _spent_until.period_start)
                else -credit_entries.amount
            end
        ), 0)
        from billing.credit_entries
        where credit_entries.account_id = _spent_until.account_id
            and credit_entries.kind in ('spend', 'capture', 'refund')
            and credit_entries.occurred_at >= _spent_until.period_start
            and credit_entries.id <= _spent_until.last_entry_id
    );
end
$$;

-- Credits spent since the start of a period, by the entries after one, which are few: read by their ids alone (offset),
-- because the period may have a million entries.
create function billing._spent_after(account_id uuid, period_start timestamptz, last_entry_id bigint)
returns numeric
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select coalesce(sum(billing._counted_by_cap(latest, _spent_after.period_start)), 0)
        from (
            select * from billing.credit_entries
            where credit_entries.account_id = _spent_after.account_id and credit_entries.id > _spent_after.last_entry_id
            order by credit_entries.id desc
            offset 0
        ) as latest
        where latest.kind in ('spend', 'capture', 'refund') and latest.occurred_at >= _spent_after.period_start
    );
end
$$;

create function billing._checked_limit(name text, amount numeric)
returns bigint
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    if _checked_limit.amount not between 0 and 1000000000000000 or _checked_limit.amount <> trunc(_checked_limit.amount) then
        raise exception '% is %, not a whole number of credits from 0 to 1000000000000000', _checked_limit.name, _checked_limit.amount
            using errcode = 'TB005', hint = 'Pass credits as a whole number.';
    end if;
    return _checked_limit.amount::bigint;
end
$$;

-- Notifies the customer once when the available credits fall below the threshold. At the end of the transaction, so
-- that a fall within one, such as a hold that expires with its lot, does not count.
create function billing.tg_credit_balances__low_balance()
returns trigger
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_balance billing.credit_balances;
begin
    update billing.credit_balances
    set is_low = credit_balances.balance - credit_balances.held < credit_balances.low_balance_threshold
    where credit_balances.account_id = new.account_id
        and credit_balances.is_low is distinct from
            (credit_balances.balance - credit_balances.held < credit_balances.low_balance_threshold)
        and credit_balances.low_balance_threshold is not null
    returning * into v_balance;
    if v_balance.is_low then
        insert into billing.notifications (account_id, audience, kind, dedupe_key, payload)
        values (
            v_balance.account_id, 'customer', 'low_balance',
            pg_catalog.format('low_balance:%s:%s', v_balance.account_id, pg_current_xact_id()),
            jsonb_build_object(
                'available', greatest(v_balance.balance - v_balance.held, 0),
                'threshold', v_balance.low_balance_threshold
            )
        )
        on conflict (dedupe_key) do nothing;
    end if;
    return null;
end
$$;

create constraint trigger tg_credit_balances__low_balance
after update on billing.credit_balances
deferrable initially deferred
for each row
-- Parsed for every update, so as short as possible: null, for accounts without a threshold, counts as false.
when (new.is_low <> (new.balance - new.held < new.low_balance_threshold))
execute function billing.tg_credit_balances__low_balance();

revoke all on function
    billing.set_credit_limits, billing._counted_by_cap, billing._spent_until, billing._spent_after,
    billing._checked_limit, billing.tg_credit_balances__low_balance
from public, anon, authenticated, service_role;
grant execute on function billing.set_credit_limits(uuid, numeric, numeric, text, numeric) to service_role;

comment on function billing.set_credit_limits(uuid, numeric, numeric, text, numeric) is 'Sets all limits of an account: an omitted one means no overdraft, no cap, no warning.';

-- 30_ledger/48_credit_reports.sql

-- Reads the ledger over time: a balance at a point in time, a statement of a period, usage by day.
--
-- security invoker: clients see their own accounts, by the policies on credit_entries. By the time of the event
-- (occurred_at), so an expired lot counts from its expiry on, once the expiry is written.

create function public.credit_balance_as_of(account_id uuid, moment timestamptz)
returns bigint
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    -- From the current balance backwards, because most questions are about the recent past.
    select (credit_balances.balance - coalesce((
        select sum(credit_entries.amount) from billing.credit_entries
        where credit_entries.account_id = credit_balance_as_of.account_id
            and credit_entries.occurred_at > credit_balance_as_of.moment
    ), 0))::bigint
    from billing.credit_balances
    where credit_balances.account_id = credit_balance_as_of.account_id
$$;

create function public.credit_statement(account_id uuid, period_start timestamptz, period_end timestamptz)
returns table (line text, kind text, source text, feature text, entries bigint, amount bigint)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select
        'opening', null, null, null, null,
        public.credit_balance_as_of(credit_statement.account_id, credit_statement.period_start - interval '1 microsecond')
    union all
    (
        select
            'movement', credit_entries.kind, credit_entries.source, credit_entries.feature, count(*),
            sum(credit_entries.amount)::bigint
        from billing.credit_entries
        where credit_entries.account_id = credit_statement.account_id
            and credit_entries.occurred_at >= credit_statement.period_start
            and credit_entries.occurred_at < credit_statement.period_end
        group by credit_entries.kind, credit_entries.source, credit_entries.feature
        order by credit_entries.kind, credit_entries.source, credit_entries.feature
    )
    union all
    select
        'closing', null, null, null, null,
        public.credit_balance_as_of(credit_statement.account_id, credit_statement.period_end - interval '1 microsecond')
$$;

create function public.credit_usage(account_id uuid, period_start timestamptz, period_end timestamptz)
returns table (day date, feature text, spends bigint, credits bigint)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select
        (credit_entries.occurred_at at time zone 'utc')::date, credit_entries.feature,
        count(*) filter (where credit_entries.kind <> 'refund'), -sum(credit_entries.amount)::bigint
    from billing.credit_entries
    where credit_entries.account_id = credit_usage.account_id
        and credit_entries.kind in ('spend', 'capture', 'refund')
        and credit_entries.occurred_at >= credit_usage.period_start
        and credit_entries.occurred_at < credit_usage.period_end
    group by 1, 2
    order by 1, 2
$$;

revoke all on function
    public.credit_balance_as_of(uuid, timestamptz),
    public.credit_statement(uuid, timestamptz, timestamptz),
    public.credit_usage(uuid, timestamptz, timestamptz)
from public, anon, authenticated, service_role;
grant execute on function
    public.credit_balance_as_of(uuid, timestamptz),
    public.credit_statement(uuid, timestamptz, timestamptz),
    public.credit_usage(uuid, timestamptz, timestamptz)
to authenticated, service_role;

comment on function public.credit_balance_as_of(uuid, timestamptz) is 'The balance of an account at a point in time.';
comment on function public.credit_statement(uuid, timestamptz, timestamptz) is 'Opening balance, movements by kind, source and feature, and closing balance of a period [start, end).';
comment on function public.credit_usage(uuid, timestamptz, timestamptz) is 'Credits spent by day (UTC) and feature in a period [start, end), minus refunds.';

-- 30_ledger/50_ledger_discrepancies.sql

-- All checks of one account's ledger: a row for each violation, none when all is well.
--
-- Invariant: every read uses an index of one account, so an account takes as long as its own history, and each of its
-- rows is read once. prove_accounts checks the accounts, a few at a time; the view ledger_discrepancies checks all of
-- them. Readable by service_role and postgres.

create function billing.account_ledger_discrepancies(account_id uuid)
returns table (invariant text, detail text)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
-- Uses the indexes of the account, even if statistics say that one account has most of the rows.
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
declare
    v_account billing.accounts;
    v_balance billing.credit_balances;
    v_entries record;
    v_lots record;
    v_holds record;
begin
    select * into v_account from billing.accounts where accounts.id = account_ledger_discrepancies.account_id;
    select * into v_balance from billing.credit_balances
    where credit_balances.account_id = account_ledger_discrepancies.account_id;

    -- For every kind of movement: an entry is what it opened, minus what it took from lots, minus what it owes.
    select
        coalesce(sum(e.amount), 0) as total, coalesce(sum(e.debt), 0) as debt, coalesce(sum(t.taken), 0) as taken,
        max(e.id) as last_id,
        array_agg(format('entry %s: %s and %s make not %s', e.id, e.balance_before, e.amount, e.balance_after))
            filter (where e.balance_after <> e.balance_before + e.amount) as out_of_the_chain,
        array_agg(format('entry %s of %s opened %s, took %s, owes %s', e.id, e.amount, o.opened, t.taken, e.debt))
            filter (where e.amount <> o.opened - t.taken - e.debt) as unaccounted
    into v_entries
    from (
        select
            credit_entries.id, credit_entries.amount, credit_entries.debt, credit_entries.balance_after,
            lag(credit_entries.balance_after, 1, 0::bigint) over (order by credit_entries.id) as balance_before
        from billing.credit_entries
        where credit_entries.account_id = account_ledger_discrepancies.account_id
    ) as e
    cross join lateral (
        select coalesce(sum(credit_consumptions.amount), 0) as taken from billing.credit_consumptions
        where credit_consumptions.entry_id = e.id
    ) as t
    cross join lateral (
        select coalesce(sum(credit_grants.amount), 0) as opened from billing.credit_grants
        where credit_grants.entry_id = e.id
    ) as o;
    return query
    select 'balance_after_continues_the_chain', broken.detail from unnest(v_entries.out_of_the_chain) as broken (detail)
    union all
    select 'entry_is_accounted_for', broken.detail from unnest(v_entries.unaccounted) as broken (detail)
    union all
    select 'entry_has_a_balance', format('entry %s of an account that is not there', v_entries.last_id)
    where v_entries.last_id is not null and v_balance.account_id is null;

    select
        coalesce(sum(g.remaining), 0) as remaining, coalesce(sum(g.held), 0) as held, coalesce(sum(t.taken), 0) as taken,
        least(
            min(g.expires_at) filter (where g.closed_at is null and g.remaining > g.held),
            min(g.effective_at) filter (where g.closed_at is null and g.entry_id is null)
        ) as due_at,
        array_agg(format('lot %s: held %s, pinned %s', g.id, g.held, p.pinned))
            filter (where g.held <> p.pinned) as held_by_none,
        array_agg(format('lot %s: amount %s, remaining %s, taken %s', g.id, g.amount, g.remaining, t.taken))
            filter (where g.entry_id is not null and g.amount - g.remaining <> t.taken) as otherwise_taken,
        array_agg(format('lot %s is open and empty', g.id))
            filter (where g.entry_id is not null and g.closed_at is null and g.remaining = 0) as empty,
        array_agg(format('lot %s: entry %s is not there, or of another account', g.id, g.entry_id))
            filter (
                where g.entry_id is not null and opening.account_id is distinct from g.account_id
                    or v_balance.account_id is null
            ) as without_entry
    into v_lots
    from billing.credit_grants as g
    left join billing.credit_entries as opening on opening.id = g.entry_id
    cross join lateral (
        select coalesce(sum(credit_consumptions.amount), 0) as taken from billing.credit_consumptions
        where credit_consumptions.grant_id = g.id
    ) as t
    cross join lateral (
        select coalesce(sum(credit_hold_lots.amount), 0) as pinned from billing.credit_hold_lots
        where credit_hold_lots.grant_id = g.id
    ) as p
    where g.account_id = account_ledger_discrepancies.account_id;
    return query
    select 'lot_is_held_by_its_holds', broken.detail from unnest(v_lots.held_by_none) as broken (detail)
    union all
    select 'lot_lost_what_entries_took', broken.detail from unnest(v_lots.otherwise_taken) as broken (detail)
    union all
    select 'lot_is_open_while_something_remains', broken.detail from unnest(v_lots.empty) as broken (detail)
    union all
    select 'lot_has_its_entry', broken.detail from unnest(v_lots.without_entry) as broken (detail)
    union all
    -- Lineage that refers to a missing lot or entry, or to one of another account, is on one side only.
    select
        'lineage_joins_entry_and_lot',
        format('entries took %s credits from lots, and from the lots %s were taken', v_entries.taken, v_lots.taken)
    where v_entries.taken <> v_lots.taken;

    return query
    select
        'lot_lapsed_by_entries',
        format('lot %s: lapsed %s, entries %s', sides.grant_id, sum(sides.lapsed), sum(sides.expired))
    from (
        select credit_grants.id as grant_id, credit_grants.lapsed, 0 as expired from billing.credit_grants
        where credit_grants.account_id = account_ledger_discrepancies.account_id
        union all
        select credit_consumptions.grant_id, 0, credit_consumptions.amount from billing.credit_entries
        join billing.credit_consumptions on credit_consumptions.entry_id = credit_entries.id
        where credit_entries.account_id = account_ledger_discrepancies.account_id
            and (
                credit_entries.kind = 'expiry'
                or credit_entries.kind = 'adjustment' and credit_entries.source = 'closing'
            )
    ) as sides
    group by sides.grant_id
    having sum(sides.lapsed) <> sum(sides.expired);

    return query
    select judged.invariant, judged.detail
    from billing.credit_holds as h
    cross join lateral (
        select coalesce(sum(credit_hold_lots.amount), 0) as pinned from billing.credit_hold_lots
        where credit_hold_lots.hold_id = h.id
    ) as p
    cross join lateral (
        select coalesce(-sum(credit_entries.amount), 0) as captured from billing.credit_entries
        where credit_entries.hold_id = h.id and credit_entries.kind = 'capture'
    ) as c
    cross join lateral (
        select
            'hold_pins_what_it_holds',
            format('hold %s is %s: %s of %s captured, %s pinned', h.id, h.status, h.captured, h.amount, p.pinned)
        where p.pinned <> case h.status when 'held' then h.amount - h.captured else 0 end
        union all
        select
            'hold_captured_what_entries_took', format('hold %s: captured %s, entries %s', h.id, h.captured, c.captured)
        where h.captured <> c.captured
    ) as judged (invariant, detail)
    where h.account_id = account_ledger_discrepancies.account_id;

    return query
    select
        'refunds_are_within_the_spend',
        format('entry %s of %s was given back %s', spends.id, spends.amount, given_back.amount)
    from (
        select credit_entries.reverses_entry_id, sum(credit_entries.amount) as amount from billing.credit_entries
        where credit_entries.account_id = account_ledger_discrepancies.account_id and credit_entries.kind = 'refund'
        group by credit_entries.reverses_entry_id
    ) as given_back
    join billing.credit_entries as spends on spends.id = given_back.reverses_entry_id
    where given_back.amount > -spends.amount;

    if v_balance.account_id is null then
        return query select 'account_has_a_balance', 'no row in credit_balances' where v_account.id is not null;
        return;
    end if;

    select
        coalesce(sum(credit_holds.amount - credit_holds.captured), 0) as held, min(credit_holds.expires_at) as due_at
    into v_holds from billing.credit_holds
    where credit_holds.account_id = account_ledger_discrepancies.account_id and credit_holds.status = 'held';

    return query
    select 'balance_knows_who_may_spend', format('may_spend %s, the account says otherwise', v_balance.may_spend)
    where v_balance.may_spend <> (v_account.frozen_at is null and v_account.closed_at is null)
    union all
    select 'balance_is_the_sum_of_entries', format('balance %s, entries %s', v_balance.balance, v_entries.total)
    where v_balance.balance <> v_entries.total
    union all
    select
        'balance_is_what_remains_less_debt',
        format('balance %s, remaining %s, debt %s', v_balance.balance, v_lots.remaining, v_balance.debt)
    where v_balance.balance <> v_lots.remaining - v_balance.debt
    union all
    select 'debt_is_the_sum_of_entries', format('debt %s, entries %s', v_balance.debt, v_entries.debt)
    where v_balance.debt <> v_entries.debt
    union all
    select
        'held_is_the_sum_of_open_holds',
        format('held %s, holds %s, lots %s', v_balance.held, v_holds.held, v_lots.held)
    where v_balance.held <> v_holds.held or v_balance.held <> v_lots.held
    union all
    select
        'debt_leaves_no_credits_free',
        format('debt %s beside %s credits that nothing holds', v_balance.debt, v_lots.remaining - v_lots.held)
    where v_balance.debt > 0 and v_lots.remaining > v_lots.held
    union all
    select
        'nothing_falls_due_unseen',
        format(
            'next_due_at %s, a lot is due at %s, a hold at %s', v_balance.next_due_at, v_lots.due_at, v_holds.due_at
        )
    where least(v_lots.due_at, v_holds.due_at) < coalesce(v_balance.next_due_at, 'infinity');
end
$$;

revoke all on function billing.account_ledger_discrepancies from public, anon, authenticated, service_role;
grant execute on function billing.account_ledger_discrepancies(uuid) to service_role;

comment on function billing.account_ledger_discrepancies(uuid) is 'The rows of ledger_discrepancies of one account.';

-- 40_stripe/10_customers.sql

-- Customers: which Stripe customer belongs to which account.
--
-- Invariant: besides duplicates, an account has at most one customer that is not deleted in each mode, and a customer
-- never moves to another account. Only the app's own server, our checkout or a signed reference creates the link, never
-- an event's content, its metadata or a plain URL parameter. A customer that is reported by an event is stored without
-- an account until it is linked or merged.

create table billing.customers (
    id bigint generated always as identity primary key,
    stripe_customer_id text unique,
    account_id uuid references billing.accounts (id),
    duplicate_of text references billing.customers (stripe_customer_id),
    livemode boolean not null,
    email text,
    name text,
    metadata jsonb not null default '{}',
    as_of timestamptz not null default '-infinity',
    linked_at timestamptz,
    deleted_at timestamptz,
    dismissed_at timestamptz,
    dismissed_reason text,
    dismissed_by text,
    status text not null generated always as (case
        when duplicate_of is not null then 'duplicate'
        when account_id is not null then 'linked'
        when dismissed_at is not null then 'dismissed'
        else 'unlinked'
    end) stored,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint customer_is_known_to_us_or_to_stripe check (account_id is not null or stripe_customer_id is not null),
    constraint dismissed_customers_say_why_and_by_whom check (
        (dismissed_at is null) = (dismissed_reason is null) and (dismissed_at is null) = (dismissed_by is null)
    ),
    constraint customer_is_no_duplicate_of_itself check (duplicate_of <> stripe_customer_id),
    constraint duplicates_have_an_account check (duplicate_of is null or account_id is not null)
);

create unique index customers_account on billing.customers (account_id, livemode)
where deleted_at is null and duplicate_of is null;
create index customers_of_account on billing.customers (account_id);
create index customers_email on billing.customers (lower(email));
create index customers_unlinked on billing.customers (created_at) where status = 'unlinked';
create index customers_duplicates on billing.customers (duplicate_of) where duplicate_of is not null;

alter table billing.customers enable row level security;

revoke all on all sequences in schema billing from public, anon, authenticated, service_role;
revoke all on billing.customers from public, anon, authenticated, service_role;

create policy customers_select_managed on billing.customers
for select to authenticated using (account_id = any (array(select billing.my_managed_account_ids())));

grant select on billing.customers to service_role;
grant select (account_id, livemode, email, name, created_at) on billing.customers to authenticated;

-- The account of a Stripe customer; null if the customer is not linked. Stores the customer in both cases.
create function billing._account_of_customer(stripe_customer_id text, livemode boolean)
returns uuid
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_account_id uuid;
begin
    if _account_of_customer.stripe_customer_id is null then
        return null;
    end if;
    select customers.account_id into v_account_id from billing.customers
    where customers.stripe_customer_id = _account_of_customer.stripe_customer_id;
    if v_account_id is null then
        insert into billing.customers (stripe_customer_id, livemode)
        values (_account_of_customer.stripe_customer_id, _account_of_customer.livemode)
        on conflict do nothing;
        -- This lock, held until the caller commits, prevents a link between this answer and its use.
        select customers.account_id into v_account_id from billing.customers
        where customers.stripe_customer_id = _account_of_customer.stripe_customer_id
        for share;
    end if;
    return v_account_id;
end
$$;

revoke all on function billing._account_of_customer from public, anon, authenticated, service_role;

comment on table billing.customers is 'Stripe customers and their accounts.';
comment on column billing.customers.status is 'unlinked (no account owns it yet, and its events wait), linked, duplicate or dismissed.';
comment on column billing.customers.as_of is 'Time of the stored state: the event''s created, or the Date of Stripe''s answer.';
comment on column billing.customers.account_id is 'Null until link_customer, merge_customer or checkout links the customer; set once.';
comment on column billing.customers.dismissed_at is 'Since when the customer is dismissed, because it belongs to another app or environment: events that would wait for its link are ignored. Linking the customer ends this.';
comment on column billing.customers.duplicate_of is 'For a duplicate of the same person: the customer that the account keeps. Set by merge_customer.';

-- 40_stripe/12_subscriptions.sql

-- Subscriptions and their items: the newest state from Stripe.
--
-- Invariant: a row never moves to an older state, and no event leaves a final status (canceled, incomplete_expired).
-- The rows hold facts of the newest state and nothing that depends on the order of events; items that the subscription
-- no longer has are deleted. Periods belong to items, not to the subscription. Credits are never calculated from these
-- rows alone. Clients read their own rows; only functions write.

create table billing.subscriptions (
    stripe_subscription_id text primary key,
    stripe_customer_id text not null references billing.customers (stripe_customer_id),
    account_id uuid references billing.accounts (id),
    livemode boolean not null,
    status text not null,
    currency text,
    billing_cycle_anchor timestamptz not null,
    anchors timestamptz[] not null default '{}',
    cancel_at timestamptz,
    cancel_at_period_end boolean not null default false,
    canceled_at timestamptz,
    ended_at timestamptz,
    trial_start timestamptz,
    trial_end timestamptz,
    is_collection_paused boolean not null default false,
    metadata jsonb not null default '{}',
    started_at timestamptz not null,
    stripe_test_clock_id text,
    as_of timestamptz not null,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint status_is_known check (
        status in ('incomplete', 'incomplete_expired', 'trialing', 'active', 'past_due', 'canceled', 'unpaid', 'paused')
    )
);

create index subscriptions_account on billing.subscriptions (account_id);
create index subscriptions_test_clock on billing.subscriptions (stripe_test_clock_id)
where stripe_test_clock_id is not null;
create index subscriptions_customer on billing.subscriptions (stripe_customer_id);
create index subscriptions_started on billing.subscriptions (started_at, stripe_subscription_id);

create table billing.subscription_items (
    stripe_subscription_item_id text primary key,
    stripe_subscription_id text not null references billing.subscriptions (stripe_subscription_id),
    stripe_price_id text not null,
    stripe_product_id text,
    quantity bigint,
    current_period_start timestamptz not null,
    current_period_end timestamptz not null,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint quantity_is_not_negative check (quantity >= 0),
    constraint current_period_ends_after_it_starts check (current_period_end >= current_period_start)
);

create index subscription_items_subscription on billing.subscription_items (stripe_subscription_id);
create index subscription_items_price on billing.subscription_items (stripe_price_id);

alter table billing.subscriptions enable row level security;
alter table billing.subscription_items enable row level security;

revoke all on billing.subscriptions, billing.subscription_items from public, anon, authenticated, service_role;

create policy subscriptions_select_own on billing.subscriptions
for select to authenticated using (account_id = any (array(select billing.my_account_ids())));

create policy subscription_items_select_own on billing.subscription_items
for select to authenticated using (
    stripe_subscription_id in (
        select subscriptions.stripe_subscription_id from billing.subscriptions
        where subscriptions.account_id = any (array(select billing.my_account_ids()))
    )
);

grant select on billing.subscriptions, billing.subscription_items to authenticated, service_role;

comment on table billing.subscriptions is 'Stripe subscriptions.';
comment on column billing.subscriptions.anchors is 'Every billing_cycle_anchor that Stripe reported, late events included: earlier paid periods keep their own anchor.';
comment on column billing.subscriptions.account_id is 'Null while the customer is not linked to an account.';
comment on column billing.subscriptions.as_of is 'Time of the stored state: the event''s created, or the Date of Stripe''s answer.';
comment on column billing.subscriptions.is_collection_paused is 'True while Stripe creates invoices without collecting them (pause_collection); independent of status.';
comment on table billing.subscription_items is 'The items of a subscription in its newest state, each with a price, a quantity and a current period.';

-- The plans of a trial, with the earliest state that shows each; the earliest ones are those with which the trial
-- started.
create table billing.trial_items (
    stripe_subscription_id text not null,
    stripe_subscription_item_id text not null,
    stripe_price_id text not null,
    seen_at timestamptz not null,
    primary key (stripe_subscription_id, stripe_subscription_item_id, stripe_price_id)
);

alter table billing.trial_items enable row level security;
revoke all on billing.trial_items from public, anon, authenticated, service_role;
grant select on billing.trial_items to service_role;

comment on table billing.trial_items is 'The plans of subscriptions during their trial, with the time of the earliest state that shows each.';

-- 40_stripe/14_invoices.sql

-- Invoices and their lines, Checkout Sessions, and which payment paid which invoice.
--
-- Invariant: an invoice only moves forward (draft, open, uncollectible, then paid or void). Credits are granted for
-- paid lines of subscription items. Clients read their own invoices; only functions write.

create table billing.invoices (
    stripe_invoice_id text primary key,
    stripe_customer_id text references billing.customers (stripe_customer_id),
    account_id uuid references billing.accounts (id),
    stripe_subscription_id text,
    livemode boolean not null,
    status text not null,
    billing_reason text,
    collection_method text,
    currency text not null,
    subtotal bigint not null,
    total bigint not null,
    amount_due bigint not null,
    amount_paid bigint not null,
    amount_returned bigint not null default 0,
    amount_contested bigint not null default 0,
    attempt_count integer not null default 0,
    next_payment_attempt_at timestamptz,
    hosted_invoice_url text,
    invoiced_at timestamptz not null,
    paid_at timestamptz,
    as_of timestamptz not null,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint status_is_known check (status in ('draft', 'open', 'uncollectible', 'paid', 'void'))
);

create index invoices_account on billing.invoices (account_id);
create index invoices_customer on billing.invoices (stripe_customer_id);
create index invoices_subscription on billing.invoices (stripe_subscription_id);

create table billing.invoice_lines (
    stripe_line_id text primary key,
    stripe_invoice_id text not null references billing.invoices (stripe_invoice_id),
    stripe_subscription_id text,
    stripe_subscription_item_id text,
    stripe_price_id text,
    amount bigint not null,
    discount bigint,
    quantity bigint,
    is_proration boolean not null,
    credited_line_ids text[],
    credited_invoice_id text,
    period_start timestamptz not null,
    period_end timestamptz not null,
    is_waiting boolean not null default false
);

create index invoice_lines_invoice on billing.invoice_lines (stripe_invoice_id);
create index invoice_lines_item on billing.invoice_lines (stripe_subscription_item_id)
where stripe_subscription_item_id is not null;
create index invoice_lines_credited on billing.invoice_lines (credited_invoice_id) where credited_invoice_id is not null;
create index invoice_lines_waiting on billing.invoice_lines (stripe_subscription_id) where is_waiting;
create index invoice_lines_waiting_for on billing.invoice_lines (stripe_price_id) where is_waiting;

create table billing.invoice_payments (
    stripe_invoice_payment_id text primary key,
    stripe_invoice_id text not null,
    stripe_payment_intent_id text,
    stripe_charge_id text,
    status text not null,
    amount_paid bigint,
    created_at timestamptz not null default now()
);

create index invoice_payments_invoice on billing.invoice_payments (stripe_invoice_id);
create index invoice_payments_payment_intent on billing.invoice_payments (stripe_payment_intent_id);
create index invoice_payments_charge on billing.invoice_payments (stripe_charge_id);

create table billing.checkout_sessions (
    stripe_checkout_session_id text primary key,
    stripe_customer_id text references billing.customers (stripe_customer_id),
    account_id uuid references billing.accounts (id),
    livemode boolean not null,
    mode text not null,
    status text not null,
    payment_status text not null,
    client_reference_id text,
    stripe_subscription_id text,
    stripe_invoice_id text,
    stripe_payment_intent_id text,
    stripe_payment_link_id text,
    currency text,
    amount_total bigint,
    opened_at timestamptz,
    completed_at timestamptz,
    as_of timestamptz not null,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint mode_is_known check (mode in ('payment', 'setup', 'subscription')),
    constraint status_is_known check (status in ('open', 'complete', 'expired')),
    constraint payment_status_is_known check (payment_status in ('unpaid', 'paid', 'no_payment_required'))
);

create index checkout_sessions_account on billing.checkout_sessions (account_id);
create index checkout_sessions_customer on billing.checkout_sessions (stripe_customer_id);
create index checkout_sessions_payment_intent on billing.checkout_sessions (stripe_payment_intent_id);

alter table billing.invoices enable row level security;
alter table billing.invoice_lines enable row level security;
alter table billing.invoice_payments enable row level security;
alter table billing.checkout_sessions enable row level security;

revoke all on
    billing.invoices, billing.invoice_lines, billing.invoice_payments, billing.checkout_sessions
from public, anon, authenticated, service_role;

create policy invoices_select_managed on billing.invoices
for select to authenticated using (account_id = any (array(select billing.my_managed_account_ids())));

grant select on billing.invoices to authenticated;
grant select on
    billing.invoices, billing.invoice_lines, billing.invoice_payments, billing.checkout_sessions
to service_role;

comment on table billing.invoices is 'Stripe invoices; amounts in minor units of currency.';
comment on table billing.invoice_lines is 'Lines of paid invoices: what was paid, and for which period.';
comment on column billing.invoice_lines.is_waiting is 'True while the line is paid, but its subscription or price, which explains it, has not been synced.';
comment on column billing.invoice_lines.discount is 'Discounts on the line, in minor units; null: not reported by Stripe.';
comment on column billing.invoice_lines.credited_line_ids is 'The lines that a proration credits; null: none, or not reported by Stripe.';
comment on column billing.invoice_lines.credited_invoice_id is 'The invoice of the lines that a proration credits; null: none, or not reported by Stripe.';
comment on column billing.invoice_lines.quantity is 'Seats of a licensed price; usage of a metered one.';
comment on column billing.invoices.amount_returned is 'The returned part of total: refunds, lost disputes, credit notes after payment.';
comment on column billing.invoices.amount_contested is 'The part of the rest that open disputes contest.';
comment on table billing.invoice_payments is 'Which payment paid which invoice.';
comment on column billing.invoice_payments.stripe_invoice_payment_id is 'For API versions without invoice payments: the invoice''s own id.';
comment on table billing.checkout_sessions is 'Completed and expired Stripe Checkout Sessions.';
comment on column billing.checkout_sessions.client_reference_id is 'As received; the payer may have edited it, so it links nothing without a signature.';

-- 40_stripe/16_payments.sql

-- Payments (Stripe charges), refunds, disputes, credit notes, early fraud warnings and reviews.
--
-- Invariant: one row for each Stripe object, never moved to an older state. Clients read their own payments, but no
-- fraud data; only functions write.

create table billing.payments (
    stripe_charge_id text primary key,
    stripe_payment_intent_id text,
    stripe_customer_id text references billing.customers (stripe_customer_id),
    account_id uuid references billing.accounts (id),
    livemode boolean not null,
    status text not null,
    currency text not null,
    amount bigint not null,
    amount_refunded bigint not null default 0,
    is_disputed boolean not null default false,
    risk_level text,
    risk_score integer,
    is_liability_shifted boolean not null default false,
    card_fingerprint text,
    failure_code text,
    receipt_url text,
    charged_at timestamptz not null,
    as_of timestamptz not null,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint status_is_known check (status in ('succeeded', 'pending', 'failed')),
    constraint amount_refunded_is_within_the_amount check (amount_refunded between 0 and amount)
);

create index payments_account on billing.payments (account_id);
create index payments_customer on billing.payments (stripe_customer_id);
create index payments_payment_intent on billing.payments (stripe_payment_intent_id);
create index payments_card_fingerprint on billing.payments (card_fingerprint);
create index payments_charged on billing.payments (charged_at);

-- The amounts that payment intents received. A Checkout Session may arrive after its payment, or with an older state.
create table billing.payment_intents (
    stripe_payment_intent_id text primary key,
    amount_received bigint not null,
    created_at timestamptz not null default now(),
    constraint amount_received_is_positive check (amount_received > 0)
);

create table billing.refunds (
    stripe_refund_id text primary key,
    stripe_charge_id text,
    stripe_payment_intent_id text,
    status text not null,
    currency text not null,
    amount bigint not null,
    reason text,
    failure_reason text,
    refunded_at timestamptz not null,
    as_of timestamptz not null,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint status_is_known check (status in ('pending', 'requires_action', 'succeeded', 'failed', 'canceled'))
);

create index refunds_charge on billing.refunds (stripe_charge_id);
create index refunds_payment_intent on billing.refunds (stripe_payment_intent_id);
create index refunds_refunded on billing.refunds (refunded_at);

create table billing.disputes (
    stripe_dispute_id text primary key,
    stripe_charge_id text not null,
    stripe_payment_intent_id text,
    livemode boolean not null,
    status text not null,
    currency text not null,
    amount bigint not null,
    reason text,
    evidence_due_at timestamptz,
    disputed_at timestamptz not null,
    is_open boolean not null generated always as (status not in ('won', 'lost', 'warning_closed', 'prevented')) stored,
    needs_response boolean not null generated always as (
        status in ('needs_response', 'appeal_needs_response', 'warning_needs_response')
    ) stored,
    as_of timestamptz not null,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);

create index disputes_charge on billing.disputes (stripe_charge_id);

create index disputes_payment_intent on billing.disputes (stripe_payment_intent_id);
create index disputes_to_answer on billing.disputes (disputed_at, stripe_dispute_id) where needs_response;
create index disputes_disputed on billing.disputes (disputed_at, stripe_dispute_id);

create table billing.credit_notes (
    stripe_credit_note_id text primary key,
    stripe_invoice_id text not null,
    livemode boolean not null,
    status text not null,
    currency text not null,
    amount bigint not null,
    amount_refunded bigint not null,
    pre_payment_amount bigint not null default 0,
    stripe_refund_ids text[] not null default '{}',
    reason text,
    noted_at timestamptz not null,
    as_of timestamptz not null,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint status_is_known check (status in ('issued', 'void')),
    constraint amount_refunded_is_within_the_amount check (amount_refunded between 0 and amount)
);

-- The lines of its invoice that a credit note credits.
create table billing.credit_note_lines (
    stripe_credit_note_id text not null references billing.credit_notes (stripe_credit_note_id),
    number integer not null,
    stripe_line_id text,
    amount bigint not null,
    primary key (stripe_credit_note_id, number)
);

create index credit_notes_refunds on billing.credit_notes using gin (stripe_refund_ids);
create index credit_notes_invoice on billing.credit_notes (stripe_invoice_id);

create table billing.fraud_warnings (
    stripe_early_fraud_warning_id text primary key,
    stripe_charge_id text not null,
    stripe_payment_intent_id text,
    stripe_customer_id text references billing.customers (stripe_customer_id),
    account_id uuid references billing.accounts (id),
    livemode boolean not null,
    fraud_type text not null,
    actionable boolean not null,
    risk_level text,
    risk_score integer,
    status text not null default 'open',
    processed_at timestamptz,
    notes text,
    warned_at timestamptz not null,
    as_of timestamptz not null,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint status_is_known check (status in ('open', 'resolved', 'dismissed'))
);

create index fraud_warnings_account on billing.fraud_warnings (account_id);
create index fraud_warnings_customer on billing.fraud_warnings (stripe_customer_id);
create index fraud_warnings_charge on billing.fraud_warnings (stripe_charge_id);
create index fraud_warnings_payment_intent on billing.fraud_warnings (stripe_payment_intent_id);
create index fraud_warnings_open on billing.fraud_warnings (warned_at) where status = 'open';
create index fraud_warnings_warned on billing.fraud_warnings (warned_at, stripe_early_fraud_warning_id);

create table billing.reviews (
    stripe_review_id text primary key,
    stripe_charge_id text,
    stripe_payment_intent_id text,
    account_id uuid references billing.accounts (id),
    livemode boolean not null,
    is_open boolean not null,
    reason text not null,
    closed_reason text,
    opened_at timestamptz not null,
    as_of timestamptz not null,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);

create index reviews_opened on billing.reviews (is_open, opened_at);
create index reviews_account on billing.reviews (account_id);
create index reviews_charge on billing.reviews (stripe_charge_id);

alter table billing.payments enable row level security;
alter table billing.payment_intents enable row level security;
alter table billing.refunds enable row level security;
alter table billing.disputes enable row level security;
alter table billing.credit_notes enable row level security;
alter table billing.credit_note_lines enable row level security;
alter table billing.fraud_warnings enable row level security;
alter table billing.reviews enable row level security;

revoke all on
    billing.payments, billing.payment_intents, billing.refunds, billing.disputes, billing.credit_notes,
    billing.credit_note_lines, billing.fraud_warnings, billing.reviews
from public, anon, authenticated, service_role;

create policy payments_select_managed on billing.payments
for select to authenticated using (account_id = any (array(select billing.my_managed_account_ids())));

grant select (
    stripe_charge_id, account_id, livemode, status, currency, amount, amount_refunded, receipt_url, charged_at
) on billing.payments to authenticated;
grant select on
    billing.payments, billing.payment_intents, billing.refunds, billing.disputes, billing.credit_notes,
    billing.credit_note_lines, billing.fraud_warnings, billing.reviews
to service_role;

comment on table billing.payments is 'Stripe charges; amounts in minor units of currency.';
comment on table billing.payment_intents is 'Succeeded Stripe payment intents and the amount that each received, in minor units.';
comment on column billing.payments.risk_level is 'The charge''s outcome.risk_level: normal, elevated, highest, not_assessed or unknown.';
comment on column billing.payments.is_liability_shifted is 'True if the cardholder was authenticated (3-D Secure), so the issuer is liable for fraud.';
comment on table billing.refunds is 'Stripe refunds.';
comment on table billing.credit_notes is 'Stripe credit notes on paid invoices.';
comment on column billing.credit_notes.amount is 'The amount returned after payment, in any form. A credit note before payment only reduces the invoice.';
comment on table billing.credit_note_lines is 'Lines of credit notes: the credited line of the invoice and the amount.';
comment on column billing.credit_note_lines.stripe_line_id is 'The invoice''s line; null for a line of the credit note''s own.';
comment on column billing.credit_notes.pre_payment_amount is 'The amount by which it reduced the invoice before payment.';
comment on column billing.credit_notes.stripe_refund_ids is 'Refunds of this credit note: they return the same money, which counts once.';
comment on column billing.credit_notes.amount_refunded is 'The part of amount returned by refunds, which have their own rows.';
comment on table billing.disputes is 'Stripe disputes, including inquiries.';
comment on column billing.disputes.is_open is 'Not decided yet.';
comment on column billing.disputes.needs_response is 'Stripe waits for an answer to a dispute, an appeal or an inquiry.';
comment on table billing.fraud_warnings is 'Early fraud warnings, with the risk level of their charge.';
comment on table billing.reviews is 'Radar reviews.';

-- 40_stripe/20_stripe_events.sql

-- The inbox: every signed event from Stripe, its queue, and the functions that move it.
--
-- Invariant: each event id is stored once, permanently, with its original payload (text, because \u0000 and lone surrogates
-- pass the signature check but fail a cast to jsonb). Row and queue message are written in one transaction. A queued event has
-- a message; applied, ignored, parked and dead events have none.
--
--   receive_stripe_event   billing_receiver      inbox row + message
--   retry_stripe_event     service_role          requeues a dead, parked or ignored event
--
-- Taking messages: 24_workers. Ending events: 26_settle_stripe_events. Events that need data from Stripe: 22_stripe_lookups.

create table billing.stripe_events (
    stripe_event_id text primary key,
    type text not null,
    api_version text,
    livemode boolean not null,
    payload text not null,
    status text not null default 'queued',
    attempts integer not null default 0,
    excused_attempts integer not null default 0,
    last_error text,
    waiting_for text,
    created_at timestamptz not null,
    received_at timestamptz not null default now(),
    settled_at timestamptz,
    notified_at timestamptz,
    constraint status_is_known check (status in ('queued', 'applied', 'ignored', 'parked', 'dead')),
    constraint settled_events_say_when check ((status = 'queued') = (settled_at is null)),
    constraint events_set_aside_say_why check (status in ('queued', 'applied') or last_error is not null)
);

create index stripe_events_received on billing.stripe_events (received_at);
create index stripe_events_set_aside on billing.stripe_events (status, received_at) where status in ('parked', 'dead');
create index stripe_events_queued on billing.stripe_events (received_at) where status = 'queued';
create index stripe_events_unreported on billing.stripe_events (settled_at)
where status in ('parked', 'dead') and waiting_for is not null and notified_at is null;
create index stripe_events_waiting on billing.stripe_events (waiting_for) where waiting_for is not null;

alter table billing.stripe_events enable row level security;

revoke all on billing.stripe_events from public, anon, authenticated, service_role;

-- Also called after a restore: pgmq 1.5.1 makes a queue's tables members of its extension, so dumps leave them out.
create function billing._create_queue()
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    if to_regclass('pgmq.q_stripe_events') is not null and to_regclass('pgmq.a_stripe_events') is not null then
        return;
    end if;
    perform pgmq.create('stripe_events');
    alter table pgmq.q_stripe_events enable row level security;
    alter table pgmq.a_stripe_events enable row level security;
    revoke all on pgmq.q_stripe_events, pgmq.a_stripe_events from public, anon, authenticated, service_role;
end
$$;

select billing._create_queue();

create function billing.receive_stripe_event(
    event_id text, type text, api_version text, created bigint, livemode boolean, payload text
)
returns text
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_expected boolean := (select settings.livemode from billing.settings);
    v_is_ours boolean := receive_stripe_event.livemode = v_expected;
begin
    insert into billing.stripe_events (
        stripe_event_id, type, api_version, created_at, livemode, payload, status, settled_at, last_error
    )
    values (
        receive_stripe_event.event_id,
        receive_stripe_event.type,
        receive_stripe_event.api_version,
        pg_catalog.to_timestamp(receive_stripe_event.created),
        receive_stripe_event.livemode,
        receive_stripe_event.payload,
        case when v_is_ours then 'queued' else 'ignored' end,
        case when not v_is_ours then now() end,
        case when not v_is_ours then pg_catalog.format(
            'livemode is %s, this installation expects %s', receive_stripe_event.livemode, v_expected
        ) end
    )
    on conflict (stripe_event_id) do nothing;

    if not found then
        return 'duplicate';
    elsif not v_is_ours then
        return 'ignored';
    end if;

    perform pgmq.send('stripe_events', pg_catalog.jsonb_build_object('event_id', receive_stripe_event.event_id));
    return 'queued';
end
$$;

create function billing.retry_stripe_event(event_id text)
returns text
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_status text;
    v_is_ours boolean;
    v_has_body boolean;
begin
    select stripe_events.status, stripe_events.livemode = billing.is_livemode(), stripe_events.payload <> ''
    into v_status, v_is_ours, v_has_body
    from billing.stripe_events
    where stripe_events.stripe_event_id = retry_stripe_event.event_id
    for update;

    if not found then
        raise exception 'there is no event %', retry_stripe_event.event_id
            using errcode = 'TB014', hint = 'List events with `till events list`.';
    elsif v_status not in ('dead', 'parked', 'ignored') or not v_is_ours then
        return v_status;
    elsif not v_has_body then
        raise exception 'the body of event % was deleted after settings.keep_events_days', retry_stripe_event.event_id
            using errcode = 'TB056', hint = 'Grant the paid credits with `till credits grant`.';
    end if;

    update billing.stripe_events
    set status = 'queued', excused_attempts = 0, waiting_for = null, settled_at = null, notified_at = null
    where stripe_events.stripe_event_id = retry_stripe_event.event_id;
    perform pgmq.send('stripe_events', pg_catalog.jsonb_build_object('event_id', retry_stripe_event.event_id));
    return 'queued';
end
$$;

-- True if what a parked or dead event waits for exists: the plan or pack of a price, a product, the account of a
-- customer.
create function billing._has_arrived(stripe_id text)
returns boolean
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select
        exists (select from billing.plans where plans.stripe_price_id = _has_arrived.stripe_id)
        or exists (select from billing.credit_packs where credit_packs.stripe_price_id = _has_arrived.stripe_id)
        or exists (
            select from billing.products
            where products.stripe_product_id = _has_arrived.stripe_id and products.as_of > '-infinity'
        )
        or exists (
            select from billing.customers
            where customers.stripe_customer_id = _has_arrived.stripe_id and customers.account_id is not null
        )
$$;

-- This lock excludes parking an event against the arrival of what it waits for. Without it both could commit without
-- seeing each other, and the event would wait forever.
create function billing._lock_arrival(stripe_id text)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    perform pg_catalog.pg_advisory_xact_lock(
        pg_catalog.hashtextextended('billing.arrival:' || _lock_arrival.stripe_id, 0)
    );
end
$$;

-- Requeues the events that waited for this id. The caller holds the arrival's lock.
create function billing._retry_events_waiting_for(stripe_id text)
returns void
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    select billing.retry_stripe_event(stripe_events.stripe_event_id) from billing.stripe_events
    where stripe_events.waiting_for = _retry_events_waiting_for.stripe_id
$$;

-- The reason to ignore an event instead of parking it: its customer is dismissed and not linked. Null for other events.
create function billing._dismissal(payload text, waiting_for text)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select pg_catalog.format(
        'customer %s was dismissed by %s: %s', customers.stripe_customer_id, customers.dismissed_by,
        customers.dismissed_reason
    )
    from billing.customers
    where customers.stripe_customer_id in (
            _dismissal.waiting_for, pg_catalog.substring(_dismissal.payload, '"customer"\s*:\s*"(cus_[A-Za-z0-9_]+)"')
        )
        and customers.dismissed_at is not null and customers.account_id is null
    limit 1
$$;

revoke all on function
    billing._create_queue, billing.receive_stripe_event, billing.retry_stripe_event, billing._has_arrived,
    billing._lock_arrival, billing._retry_events_waiting_for, billing._dismissal
from public, anon, authenticated, service_role;
grant execute on function billing.receive_stripe_event(text, text, text, bigint, boolean, text)
to billing_receiver, service_role;
grant execute on function billing.retry_stripe_event(text) to service_role;
grant select on billing.stripe_events to service_role;

comment on table billing.stripe_events is 'Every signed event from Stripe, once, as received.';
comment on column billing.stripe_events.status is 'queued: has a message. applied: effects committed. ignored: not for this installation (mode, type, Stripe account, dismissed). parked: waits for waiting_for. dead: needs a person; last_error says what to do.';
comment on column billing.stripe_events.created_at is 'When the event happened in Stripe, in whole seconds.';
comment on column billing.stripe_events.payload is 'The original body; empty after it was deleted, settings.keep_events_days after the event was received.';
comment on column billing.stripe_events.notified_at is 'When administrators were notified that the event waits for waiting_for.';
comment on column billing.stripe_events.waiting_for is 'The Stripe id whose arrival requeues the event.';
comment on function billing.receive_stripe_event(text, text, text, bigint, boolean, text) is 'Stores a signed event and queues it. Returns queued, duplicate or ignored. created is in Unix seconds.';
comment on function billing.retry_stripe_event(text) is 'Requeues a dead, parked or ignored event and leaves any other unchanged. Returns the status.';

-- 40_stripe/22_stripe_lookups.sql

-- Lookups: events that need an object from Stripe before they can be decided, and when to read it.
--
-- Invariant: a slow Stripe delays only these events. Their messages stay in the queue with a long time-out, so polls skip them,
-- and an event comes back even if its row here is lost. One worker holds a lookup while its lease lasts and the worker lives. A
-- lookup ends with its event.
--
--   ask_stripe            an event needs data from Stripe; the attempt does not count
--   take_stripe_lookups   leases the lookups that are due
--
-- settle_stripe_events ends a lookup, delay_stripe_event delays it. Callable by billing_worker.

create table billing.stripe_lookups (
    stripe_event_id text primary key,
    msg_id bigint not null,
    tie_kind text,
    tie_stripe_id text,
    attempts integer not null default 0,
    excused_attempts integer not null default 0,
    next_attempt_at timestamptz not null default now(),
    worker_pid integer,
    constraint ties_have_a_kind check ((tie_kind is null) = (tie_stripe_id is null))
);

create index stripe_lookups_due on billing.stripe_lookups (next_attempt_at);

alter table billing.stripe_lookups enable row level security;

revoke all on billing.stripe_lookups from public, anon, authenticated, service_role;

-- If a lookup calls it, Stripe answered within the same second as the tie. The event is then decided again when
-- Stripe's clock shows a later second.
create function billing.ask_stripe(msg_id bigint, event_id text, tie_kind text, tie_stripe_id text)
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    delete from billing.stripe_lookups
    where stripe_lookups.stripe_event_id = ask_stripe.event_id and stripe_lookups.worker_pid = pg_backend_pid();
    if found then
        perform pgmq.set_vt('stripe_events', ask_stripe.msg_id, 1);
        return;
    end if;

    update billing.stripe_events
    set attempts = stripe_events.attempts + 1, excused_attempts = stripe_events.excused_attempts + 1
    where stripe_events.stripe_event_id = ask_stripe.event_id and stripe_events.status = 'queued';

    insert into billing.stripe_lookups (stripe_event_id, msg_id, tie_kind, tie_stripe_id)
    values (ask_stripe.event_id, ask_stripe.msg_id, ask_stripe.tie_kind, ask_stripe.tie_stripe_id)
    on conflict (stripe_event_id) do update
    set msg_id = excluded.msg_id, tie_kind = excluded.tie_kind, tie_stripe_id = excluded.tie_stripe_id,
        next_attempt_at = now();

    perform pgmq.set_vt('stripe_events', ask_stripe.msg_id, 3600);
end
$$;

-- read_ct counts all reads from Stripe; attempts leaves out excused ones. A lookup whose message or queued event no
-- longer exists is skipped.
create function billing.take_stripe_lookups(lookups_max integer, lease_seconds integer)
returns table (
    msg_id bigint, read_ct integer, attempts integer, stripe_event_id text, type text, api_version text,
    created_at timestamptz, payload text, tie_kind text, tie_stripe_id text
)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_event_ids text[];
begin
    with due as materialized (
        select lookups.stripe_event_id from billing.stripe_lookups as lookups
        where lookups.next_attempt_at <= now()
        order by lookups.next_attempt_at
        limit take_stripe_lookups.lookups_max
        for update skip locked
    ),
    taken as (
        update billing.stripe_lookups as lookups
        set attempts = lookups.attempts + 1, worker_pid = pg_backend_pid(),
            next_attempt_at = now() + make_interval(secs => take_stripe_lookups.lease_seconds)
        from due
        where lookups.stripe_event_id = due.stripe_event_id
        returning lookups.stripe_event_id
    )
    select array_agg(taken.stripe_event_id) into v_event_ids from taken;
    if v_event_ids is null then
        return;
    end if;

    delete from billing.stripe_lookups as lookups
    where lookups.stripe_event_id = any (v_event_ids) and not (
        exists (
            select from pgmq.q_stripe_events as message
            where message.msg_id = lookups.msg_id and message.message ->> 'event_id' = lookups.stripe_event_id
        )
        and exists (
            select from billing.stripe_events as event
            where event.stripe_event_id = lookups.stripe_event_id and event.status = 'queued'
        )
    );

    return query
    select
        lookups.msg_id, lookups.attempts, lookups.attempts - lookups.excused_attempts, event.stripe_event_id, event.type,
        event.api_version, event.created_at, event.payload, lookups.tie_kind, lookups.tie_stripe_id
    from billing.stripe_lookups as lookups
    join billing.stripe_events as event on event.stripe_event_id = lookups.stripe_event_id
    where lookups.stripe_event_id = any (v_event_ids)
    order by lookups.msg_id;
end
$$;

revoke all on function billing.ask_stripe, billing.take_stripe_lookups from public, anon, authenticated, service_role;
grant execute on function
    billing.ask_stripe(bigint, text, text, text), billing.take_stripe_lookups(integer, integer)
to billing_worker;

comment on table billing.stripe_lookups is 'Events that need an object from Stripe.';
comment on column billing.stripe_lookups.tie_stripe_id is 'The object with two states of the same second, which only Stripe can order; null: another object that the event needs.';

-- 40_stripe/24_workers.sql

-- Workers and the messages that each of them holds, so that nothing waits for a dead worker.
--
-- Invariant: a worker's session holds an advisory lock as long as it lives, and Postgres releases the lock when the session
-- ends. So a row whose lock is free belongs to a dead worker, and the next check makes its messages and jobs due. A worker holds a
-- message as long as the message has the time-out that this worker set: archived messages are deleted, and delayed or reread
-- messages have another time-out.
--
--   start_worker            first call of a session
--   read_stripe_events      takes messages for some time; commits the attempt
--   hand_back_stripe_events every few seconds: makes messages, lookups and jobs of dead workers due
--   release_stripe_events   releases this worker's messages; the attempt does not count
--
-- Callable by billing_worker.

create table billing.workers (
    pid integer primary key,
    in_hand bigint[] not null default '{}',
    in_hand_until timestamptz not null default '-infinity',
    started_at timestamptz not null default now()
);

alter table billing.workers enable row level security;

revoke all on billing.workers from public, anon, authenticated, service_role;

create function billing._lock_of_workers()
returns integer
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
    select hashtext('billing.workers')
$$;

-- Makes the messages and jobs of a dead worker due.
create function billing._hand_back(worker billing.workers)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    update pgmq.q_stripe_events as message
    set vt = billing._due_after_death(message.read_ct - events.excused_attempts, message.enqueued_at)
    from billing.stripe_events as events
    where message.msg_id = any ((_hand_back.worker).in_hand) and message.vt = (_hand_back.worker).in_hand_until
        and events.stripe_event_id = message.message ->> 'event_id';

    update billing.stripe_lookups
    set worker_pid = null, next_attempt_at = billing._due_after_death(stripe_lookups.attempts, now())
    where stripe_lookups.worker_pid = (_hand_back.worker).pid;

    perform billing._hand_back_jobs((_hand_back.worker).pid);

    delete from billing.workers where workers.pid = (_hand_back.worker).pid;
end
$$;

create function billing.hand_back_stripe_events()
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_worker billing.workers;
begin
    for v_worker in
        select * from billing.workers where workers.pid <> pg_backend_pid() order by workers.pid for update skip locked
    loop
        if pg_try_advisory_xact_lock(billing._lock_of_workers(), v_worker.pid) then
            perform billing._hand_back(v_worker);
        end if;
    end loop;
end
$$;

-- A row with our own process id belongs to an earlier process.
create function billing.start_worker()
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform billing._create_queue();
    perform billing._create_job_queue();
    perform billing._hand_back(workers) from billing.workers where workers.pid = pg_backend_pid();
    insert into billing.workers (pid) values (pg_backend_pid());
    perform pg_advisory_lock(billing._lock_of_workers(), pg_backend_pid());
    perform billing.hand_back_stripe_events();
end
$$;

create function billing.release_stripe_events(delay_seconds integer)
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    update pgmq.q_stripe_events as message
    set vt = clock_timestamp() + random() * make_interval(secs => release_stripe_events.delay_seconds),
        read_ct = greatest(message.read_ct - 1, 0)
    from billing.workers
    where workers.pid = pg_backend_pid() and message.msg_id = any (workers.in_hand)
        and message.vt = workers.in_hand_until;

    update billing.stripe_lookups
    set worker_pid = null, attempts = stripe_lookups.attempts - 1,
        next_attempt_at = clock_timestamp() + random() * make_interval(secs => release_stripe_events.delay_seconds)
    where stripe_lookups.worker_pid = pg_backend_pid();
end
$$;

-- Called in its own transaction, so that the attempt counts even if the event crashes the worker. Two statements,
-- because a message may be committed after the first one's snapshot; the second sees its event. pgmq.read is not used,
-- because it scans every message that is not due yet.
--
-- due_within_seconds: only messages that became due within that time; null: all. An old snapshot keeps entries of
-- archived messages in the index, and this way not every poll must skip them. Messages without a queued event are
-- archived.
create function billing.read_stripe_events(
    visibility_seconds integer, batch_size integer, due_within_seconds double precision default null
)
returns table (
    msg_id bigint, read_ct integer, attempts integer, stripe_event_id text, type text, api_version text,
    created_at timestamptz, payload text
)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_due_after timestamptz := coalesce(
        now() - make_interval(secs => read_stripe_events.due_within_seconds), '-infinity'
    );
    v_until timestamptz := clock_timestamp() + make_interval(secs => read_stripe_events.visibility_seconds);
    v_msg_ids bigint[];
    v_read_cts integer[];
    v_event_ids text[];
    v_count bigint;
begin
    loop
        with due as materialized (
            select queued.msg_id from pgmq.q_stripe_events as queued
            where queued.vt <= now() and queued.vt >= v_due_after
            order by queued.vt
            limit read_stripe_events.batch_size
            for update skip locked
        ),
        taken as (
            update pgmq.q_stripe_events as message
            set vt = v_until, read_ct = message.read_ct + 1
            from due
            where message.msg_id = due.msg_id
            returning message.msg_id, message.read_ct, message.message ->> 'event_id' as event_id
        )
        select array_agg(taken.msg_id), array_agg(taken.read_ct), array_agg(taken.event_id)
        into v_msg_ids, v_read_cts, v_event_ids
        from taken;
        exit when v_msg_ids is null;

        return query
        select
            message.msg_id, message.read_ct, message.read_ct - event.excused_attempts, event.stripe_event_id, event.type,
            event.api_version, event.created_at, event.payload
        from unnest(v_msg_ids, v_read_cts, v_event_ids) as message (msg_id, read_ct, event_id)
        join billing.stripe_events as event
            on event.stripe_event_id = message.event_id and event.status = 'queued'
        order by message.msg_id;
        get diagnostics v_count = row_count;

        if v_count < cardinality(v_msg_ids) then
            perform pgmq.archive('stripe_events', array(
                select message.msg_id from unnest(v_msg_ids, v_event_ids) as message (msg_id, event_id)
                where not exists (
                    select from billing.stripe_events as event
                    where event.stripe_event_id = message.event_id and event.status = 'queued'
                )
            ));
        end if;
        exit when v_count > 0;
    end loop;

    if v_msg_ids is null then
        return;
    end if;
    update billing.workers set in_hand = v_msg_ids, in_hand_until = v_until where workers.pid = pg_backend_pid();
    if not found then
        perform billing.start_worker();
        update billing.workers set in_hand = v_msg_ids, in_hand_until = v_until where workers.pid = pg_backend_pid();
    end if;
end
$$;

revoke all on function
    billing._lock_of_workers, billing._hand_back, billing.hand_back_stripe_events,
    billing.start_worker, billing.release_stripe_events, billing.read_stripe_events
from public, anon, authenticated, service_role;
grant execute on function
    billing.hand_back_stripe_events(), billing.start_worker(), billing.release_stripe_events(integer),
    billing.read_stripe_events(integer, integer, double precision)
to billing_worker;

comment on table billing.workers is 'Connected workers, and dead ones: by the process id of their session, the messages that each took last.';
comment on column billing.workers.in_hand_until is 'The time-out of these messages; the worker no longer holds those with another time-out.';

-- 40_stripe/26_settle_stripe_events.sql

-- The transaction that applies events: locks in one order, then the final status together with the effects, or a retry.
--
--   lock_stripe_events     first statement of the transaction
--   settle_stripe_events   final status + archive, in the transaction of the effects
--   delay_stripe_event     retry later
--
-- Callable by billing_worker.

-- Locks events by id, then accounts by id: the same order in every batch, so that two batches never deadlock. From here
-- on the transaction never waits long for a lock, because the app may hold an account in a transaction of its own: it
-- then fails with 55P03, and the batch is repeated event by event. postpone_months: allocate_postponed grants the
-- months of the batch as one set; the caller calls it before it commits.
create function billing.lock_stripe_events(
    event_ids text[], stripe_customer_ids text[], postpone_months boolean default false
)
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform pg_catalog.set_config('lock_timeout', '500ms', true);
    if lock_stripe_events.postpone_months then
        perform
            pg_catalog.set_config('billing.postponed_ids', '{}', true),
            pg_catalog.set_config('billing.postponed_moments', '{}', true);
    end if;
    perform from billing.stripe_events
    where stripe_events.stripe_event_id = any (lock_stripe_events.event_ids)
    order by stripe_events.stripe_event_id
    for update;

    perform from billing.credit_balances
    where credit_balances.account_id in (
        select customers.account_id from billing.customers
        where customers.stripe_customer_id = any (lock_stripe_events.stripe_customer_ids)
    )
    order by credit_balances.account_id
    for update;
end
$$;

-- The arrays are parallel: message i belongs to event i, which ends in status i for reason i.
create function billing.settle_stripe_events(
    msg_ids bigint[], event_ids text[], statuses text[], reasons text[], waiting_for text[]
)
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_stripe_id text;
begin
    for v_stripe_id in select distinct id from unnest(settle_stripe_events.waiting_for) as id where id is not null order by id
    loop
        perform billing._lock_arrival(v_stripe_id);
    end loop;

    -- Another worker may have ended it meanwhile: an applied event stays applied.
    update billing.stripe_events
    set status = case
            when outcome.status in ('parked', 'dead')
                and billing._dismissal(stripe_events.payload, outcome.waiting_for) is not null
            then 'ignored'
            else outcome.status
        end,
        attempts = stripe_events.attempts + 1,
        last_error = coalesce(
            case when outcome.status in ('parked', 'dead') then
                billing._dismissal(stripe_events.payload, outcome.waiting_for)
            end,
            outcome.reason
        ),
        waiting_for = outcome.waiting_for,
        settled_at = now()
    from unnest(
        settle_stripe_events.event_ids, settle_stripe_events.statuses, settle_stripe_events.reasons,
        settle_stripe_events.waiting_for
    ) as outcome (stripe_event_id, status, reason, waiting_for)
    where stripe_events.stripe_event_id = outcome.stripe_event_id
        and (stripe_events.status = 'queued' or outcome.status = 'applied');

    perform pgmq.archive('stripe_events', settle_stripe_events.msg_ids);
    delete from billing.stripe_lookups where stripe_lookups.stripe_event_id = any (settle_stripe_events.event_ids);

    perform billing._retry_events_waiting_for(id)
    from (select distinct id from unnest(settle_stripe_events.waiting_for) as id where id is not null) as awaited
    where billing._has_arrived(awaited.id);
end
$$;

-- excused: the attempt does not count towards the dead letters (the app held a lock, or Stripe was unavailable).
create function billing.delay_stripe_event(
    msg_id bigint, event_id text, delay_seconds integer, reason text, excused boolean
)
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    update billing.stripe_events
    set attempts = stripe_events.attempts + 1,
        excused_attempts = stripe_events.excused_attempts + delay_stripe_event.excused::integer,
        last_error = delay_stripe_event.reason
    where stripe_events.stripe_event_id = delay_stripe_event.event_id and stripe_events.status = 'queued';

    update billing.stripe_lookups
    set next_attempt_at = now() + pg_catalog.make_interval(secs => delay_stripe_event.delay_seconds),
        excused_attempts = stripe_lookups.excused_attempts + delay_stripe_event.excused::integer,
        worker_pid = null
    where stripe_lookups.stripe_event_id = delay_stripe_event.event_id;
    if not found then
        perform pgmq.set_vt('stripe_events', delay_stripe_event.msg_id, delay_stripe_event.delay_seconds);
    end if;
end
$$;

revoke all on function
    billing.lock_stripe_events, billing.settle_stripe_events, billing.delay_stripe_event
from public, anon, authenticated, service_role;
grant execute on function
    billing.lock_stripe_events(text[], text[], boolean),
    billing.settle_stripe_events(bigint[], text[], text[], text[], text[]),
    billing.delay_stripe_event(bigint, text, integer, text, boolean)
to billing_worker;

-- 40_stripe/28_lost_messages.sql

-- Events without a message and messages without an event: lists them and repairs them.
--
-- Invariant: a queued event has a message, and a message has a queued event. Both are written in one transaction, so a
-- difference has an outside cause: a restore of a project whose pgmq (1.5.1) leaves its queues out of dumps, a purged
-- queue, a recreated schema. read_stripe_events archives messages without an event.
--
-- Callable by billing_worker; lost_messages is part of billing.ledger_discrepancies.

-- Hash joins, because neither table has an index on the other's id: nested loops would scan one table for each row of
-- the other.
create function billing.lost_messages()
returns table (invariant text, detail text)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set enable_nestloop = off
as $$
begin
    if to_regclass('pgmq.q_stripe_events') is null then
        return query
        select 'queued_event_has_a_message', format('event %s: there is no queue', stripe_events.stripe_event_id)
        from billing.stripe_events where stripe_events.status = 'queued';
        return;
    end if;
    return query
    select 'queued_event_has_a_message', format('event %s has no message', stripe_events.stripe_event_id)
    from billing.stripe_events
    where stripe_events.status = 'queued' and not exists (
        select from pgmq.q_stripe_events as message where message.message ->> 'event_id' = stripe_events.stripe_event_id
    )
    union all
    select 'message_has_a_queued_event', format('message %s of event %s', message.msg_id, message.message ->> 'event_id')
    from pgmq.q_stripe_events as message
    where not exists (
        select from billing.stripe_events
        where stripe_events.stripe_event_id = message.message ->> 'event_id' and stripe_events.status = 'queued'
    );
end
$$;

-- Called when a worker starts, and every hour; one worker at a time. Returns how many were requeued.
create function billing.requeue_stripe_events()
returns bigint
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set enable_nestloop = off
as $$
declare
    v_event_ids text[];
begin
    if not pg_try_advisory_xact_lock(hashtextextended('billing.requeue_stripe_events', 0)) then
        return 0;
    end if;
    v_event_ids := array(
        select stripe_events.stripe_event_id from billing.stripe_events
        where stripe_events.status = 'queued' and not exists (
            select from pgmq.q_stripe_events as message
            where message.message ->> 'event_id' = stripe_events.stripe_event_id
        )
        order by stripe_events.received_at
    );
    if v_event_ids <> '{}' then
        -- A new message counts its reads from zero.
        update billing.stripe_events set excused_attempts = 0
        where stripe_events.stripe_event_id = any (v_event_ids) and stripe_events.excused_attempts > 0;
        perform pgmq.send_batch(
            'stripe_events', array(select jsonb_build_object('event_id', id) from unnest(v_event_ids) as id)
        );
    end if;
    return cardinality(v_event_ids);
end
$$;

revoke all on function billing.lost_messages, billing.requeue_stripe_events
from public, anon, authenticated, service_role;
grant execute on function billing.requeue_stripe_events() to billing_worker;
grant execute on function billing.lost_messages() to service_role;

comment on function billing.requeue_stripe_events() is 'Requeues queued events without a message, as after a restore that left the queue out. Returns how many.';
comment on function billing.lost_messages() is 'Queued events without a message in the queue, and messages without a queued event. Empty when all is well.';

-- 40_stripe/29_stripe_account.sql

-- The Stripe account of this installation.
--
-- Invariant: the first worker with a key of the account sets it once; after that only the owner of the database changes
-- it. With a key of another account, Stripe answers 404 for every object, and the worker would treat the objects as
-- deleted.
--
-- Called by billing_worker.

-- What a key must match: the account if it is set, the mode, and an event with our signature, which only a key of our
-- account can read (Stripe keeps events for thirty days); null if there is none. An event that names an account is not
-- used, because it may come from a connected account, which our key cannot read.
create function billing.stripe_account()
returns table (stripe_account_id text, livemode boolean, witness_event_id text)
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
    select settings.stripe_account_id, settings.livemode, (
        select stripe_events.stripe_event_id from billing.stripe_events
        where stripe_events.livemode = settings.livemode and stripe_events.received_at > now() - interval '25 days'
            and stripe_events.status <> 'ignored' and stripe_events.payload <> ''
            and stripe_events.payload !~ '"(account|context)"\s*:\s*"'
        order by stripe_events.received_at desc
        limit 1
    )
    from billing.settings
$$;

-- Returns the account that is set after the call.
create function billing.claim_stripe_account(stripe_account_id text)
returns text
language sql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
    update billing.settings
    set stripe_account_id = coalesce(settings.stripe_account_id, claim_stripe_account.stripe_account_id)
    returning settings.stripe_account_id
$$;

revoke all on function billing.stripe_account, billing.claim_stripe_account from public, anon, authenticated, service_role;
grant execute on function billing.stripe_account(), billing.claim_stripe_account(text) to billing_worker;

comment on function billing.stripe_account() is 'What a Stripe key must match: account, mode, and an event of the account.';
comment on function billing.claim_stripe_account(text) is 'Sets the Stripe account if none is set. Returns the account that is set.';

-- 40_stripe/30_prune_events.sql

-- Old events keep their row, so that a repeated delivery is detected, but not their body.
--
-- Invariant: an event that may still be processed or retried (queued, parked, dead) keeps its body. The scan goes by
-- received_at, a chunk at a time, and stops at a queued event; a later retry moves the scan back to the retried event.
-- So every finished event loses its body eventually, and nothing is scanned twice without a reason.
--
-- Callable by billing_worker.

create table billing.event_pruning (
    id boolean primary key default true,
    pruned_until timestamptz not null default '-infinity',
    constraint there_is_one_row check (id)
);

insert into billing.event_pruning default values;

alter table billing.event_pruning enable row level security;
revoke all on billing.event_pruning from public, anon, authenticated, service_role;

-- Processes about rows_max events and as many archived messages, or more if many were received at the same time.
-- Returns the larger of both counts: less than rows_max means that nothing is left.
create function billing.prune_events(rows_max integer)
returns bigint
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_kept_from timestamptz;
    v_queued_from timestamptz;
    v_from timestamptz;
    v_until timestamptz;
    v_count bigint;
    v_messages bigint;
begin
    select now() - make_interval(days => settings.keep_events_days) into v_kept_from from billing.settings;
    select event_pruning.pruned_until into v_from from billing.event_pruning;
    select min(stripe_events.received_at) into v_queued_from
    from billing.stripe_events where stripe_events.status = 'queued';

    select count(*), max(old.received_at) into v_count, v_until
    from (
        select stripe_events.received_at from billing.stripe_events
        where stripe_events.received_at > v_from and stripe_events.received_at < least(v_kept_from, v_queued_from)
        order by stripe_events.received_at
        fetch first (prune_events.rows_max) rows with ties
    ) as old;
    if v_count > 0 then
        update billing.stripe_events set payload = ''
        where stripe_events.received_at > v_from and stripe_events.received_at <= v_until
            and stripe_events.status in ('applied', 'ignored') and stripe_events.payload <> '';
        update billing.event_pruning set pruned_until = v_until where event_pruning.pruned_until = v_from;
    end if;

    delete from pgmq.a_stripe_events as archived
    where archived.msg_id in (
        select old.msg_id from pgmq.a_stripe_events as old
        where old.archived_at < v_kept_from
        order by old.archived_at
        limit prune_events.rows_max
    );
    get diagnostics v_messages = row_count;
    return greatest(v_count, v_messages);
end
$$;

create function billing.tg_stripe_events__prune_again()
returns trigger
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    update billing.event_pruning set pruned_until = new.received_at - interval '1 microsecond'
    where event_pruning.pruned_until >= new.received_at;
    return null;
end
$$;

create trigger tg_stripe_events__prune_again
after update of status on billing.stripe_events
for each row when (old.status in ('parked', 'dead') and new.status not in ('parked', 'dead'))
execute function billing.tg_stripe_events__prune_again();

revoke all on function billing.prune_events, billing.tg_stripe_events__prune_again
from public, anon, authenticated, service_role;
grant execute on function billing.prune_events(integer) to billing_worker;

comment on table billing.event_pruning is 'How far the bodies of old events are deleted.';
comment on function billing.prune_events(integer) is 'Deletes the bodies of about rows_max events that are older than settings.keep_events_days, and as many archived messages. Returns less than rows_max when nothing is left.';

-- 40_stripe/32_customer_emails.sql

-- A user's new e-mail address → the Stripe customers of their accounts, by the worker.
--
-- Invariant: changing an address never fails because of billing, and waits for billing at most a second. A customer is
-- changed only while its address in Stripe is one that the user had before: an address that was entered in Stripe, or
-- by a payer, stays. The newest address wins; writing it twice is harmless.
--
-- Begun and recorded by billing_worker. Private: _follow_email.

create table billing.customer_email_changes (
    stripe_customer_id text primary key references billing.customers (stripe_customer_id),
    old_emails text[] not null,
    new_email text not null,
    settled_at timestamptz,
    last_error text,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);

create index customer_email_changes_open on billing.customer_email_changes (stripe_customer_id) where settled_at is null;

alter table billing.customer_email_changes enable row level security;

revoke all on billing.customer_email_changes from public, anon, authenticated, service_role;
grant select on billing.customer_email_changes to service_role;

-- old_email is null if there was none. Each change is a job of its own, because a job that is in progress may write the
-- address before.
create function billing._follow_email(stripe_customer_id text, old_email text, new_email text)
returns void
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    insert into billing.customer_email_changes as held (stripe_customer_id, old_emails, new_email)
    values (
        _follow_email.stripe_customer_id, array[coalesce(_follow_email.old_email, '')], _follow_email.new_email
    )
    on conflict (stripe_customer_id) do update
    -- Until the change is done in Stripe, the customer may have any of the earlier addresses.
    set old_emails = case
            when held.settled_at is not null then excluded.old_emails
            else held.old_emails || held.new_email || excluded.old_emails
        end,
        new_email = excluded.new_email, settled_at = null, last_error = null, updated_at = now();
    select billing._enqueue_jobs('email_change', array[_follow_email.stripe_customer_id]);
$$;

create function billing.tg_users__follow_email()
returns trigger
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '1s'
as $$
begin
    perform billing._follow_email(customers.stripe_customer_id, old.email, new.email)
    from billing.accounts
    join billing.customers on customers.account_id = accounts.id
    where accounts.owner_id = new.id and customers.stripe_customer_id is not null and customers.deleted_at is null
        and customers.livemode = billing.is_livemode()
    order by customers.stripe_customer_id;
    return null;
exception when others then
    raise warning 'could not queue the new e-mail address of user % for Stripe: %', new.id, sqlerrm;
    return null;
end
$$;

create trigger tg_users__follow_email
after update of email on auth.users
for each row when (new.email <> '' and old.email is distinct from new.email)
execute function billing.tg_users__follow_email();

-- Which of these jobs' customers are still to have another address; of several jobs of one customer, one.
create function billing.begin_email_changes(msg_ids bigint[], ids text[])
returns table (msg_id bigint, stripe_customer_id text, old_emails text[], new_email text)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select distinct on (changes.stripe_customer_id)
        job.msg_id, changes.stripe_customer_id, changes.old_emails, changes.new_email
    from unnest(begin_email_changes.msg_ids, begin_email_changes.ids) as job (msg_id, id)
    join billing.customer_email_changes as changes on changes.stripe_customer_id = job.id
    where changes.settled_at is null
    order by changes.stripe_customer_id, job.msg_id;
end
$$;

-- new_email: the address as begun; a newer one stays due, by its own job. retry_in_seconds is null if the change is finished;
-- reason says why the customer was left unchanged.
create function billing.record_email_change(
    msg_id bigint, stripe_customer_id text, new_email text, retry_in_seconds integer, reason text
)
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '500ms'
as $$
begin
    if billing._end_job(
        record_email_change.msg_id, record_email_change.retry_in_seconds, record_email_change.reason
    ) or record_email_change.retry_in_seconds is null then
        update billing.customer_email_changes
        set settled_at = case when record_email_change.retry_in_seconds is null then now() end,
            last_error = record_email_change.reason, updated_at = now()
        where customer_email_changes.stripe_customer_id = record_email_change.stripe_customer_id
            and customer_email_changes.new_email = record_email_change.new_email
            and customer_email_changes.settled_at is null;
        if not found and record_email_change.retry_in_seconds is null then
            -- A newer address was written to Stripe meanwhile, and this attempt may have overwritten it.
            update billing.customer_email_changes
            set settled_at = null, old_emails = customer_email_changes.old_emails || record_email_change.new_email,
                updated_at = now()
            where customer_email_changes.stripe_customer_id = record_email_change.stripe_customer_id
                and customer_email_changes.new_email <> record_email_change.new_email
                and customer_email_changes.settled_at is not null;
            if found then
                perform billing._enqueue_jobs('email_change', array[record_email_change.stripe_customer_id]);
            end if;
        end if;
    end if;
end
$$;

revoke all on function
    billing._follow_email, billing.tg_users__follow_email, billing.begin_email_changes, billing.record_email_change
from public, anon, authenticated, service_role;
grant execute on function
    billing.begin_email_changes(bigint[], text[]),
    billing.record_email_change(bigint, text, text, integer, text)
to billing_worker;

comment on table billing.customer_email_changes is 'Stripe customers whose user has a new e-mail address; one row for each customer.';
comment on column billing.customer_email_changes.old_emails is 'The user''s earlier addresses; empty text: none. A customer with any other address is left unchanged.';
comment on column billing.customer_email_changes.last_error is 'Why the change is retried, or why the customer was left unchanged.';
comment on function billing.begin_email_changes(bigint[], text[]) is 'Customers whose e-mail address must be changed in Stripe, of the jobs that the caller took.';
comment on function billing.record_email_change(bigint, text, text, integer, text) is 'Records that a customer has its new address in Stripe, was left unchanged, or must be retried later.';

-- 40_stripe/34_lock_money.sql

-- The locks for changes of a payment: the balances that it paid for, then the arrivals of its ids.
--
-- Invariant: balances before arrivals, in the same order as for objects that name a customer, so that transactions
-- never deadlock. Under the locks the set of balances cannot change. A refund names no customer, and its payment may
-- arrive at the same time: the arrivals are then released, and locking starts again.
--
-- Private.

create function billing._accounts_of_money(
    stripe_payment_intent_id text, stripe_charge_id text, stripe_invoice_ids text[]
)
returns uuid[]
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select coalesce(array_agg(distinct concerned.account_id order by concerned.account_id), '{}') from (
        select payments.account_id from billing.payments
        where payments.stripe_payment_intent_id = _accounts_of_money.stripe_payment_intent_id
            or payments.stripe_charge_id = _accounts_of_money.stripe_charge_id
        union all
        select invoices.account_id from billing.invoices
        where invoices.stripe_invoice_id = any (_accounts_of_money.stripe_invoice_ids)
        union all
        select checkout_sessions.account_id from billing.checkout_sessions
        where checkout_sessions.stripe_payment_intent_id = _accounts_of_money.stripe_payment_intent_id
        union all
        select credit_grants.account_id from billing.credit_grants
        where credit_grants.stripe_payment_intent_id = _accounts_of_money.stripe_payment_intent_id
    ) as concerned
    where concerned.account_id is not null
$$;

create function billing._invoices_of_payment(stripe_payment_intent_id text, stripe_charge_id text)
returns text[]
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select coalesce(array_agg(distinct invoice_payments.stripe_invoice_id order by invoice_payments.stripe_invoice_id), '{}')
    from billing.invoice_payments
    where invoice_payments.status = 'paid' and (
        invoice_payments.stripe_payment_intent_id = _invoices_of_payment.stripe_payment_intent_id
        or invoice_payments.stripe_charge_id = _invoices_of_payment.stripe_charge_id
    )
$$;

-- For a payment (either id), or for an invoice alone.
create function billing._lock_money(
    stripe_payment_intent_id text, stripe_charge_id text, stripe_invoice_id text default null
)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_invoice_ids text[];
    v_locked uuid[] := '{}';
    v_concerned uuid[];
begin
    -- An invoice never changes its account, so one pass is enough.
    if coalesce(_lock_money.stripe_payment_intent_id, _lock_money.stripe_charge_id) is null then
        perform from billing.credit_balances
        where credit_balances.account_id = (
            select invoices.account_id from billing.invoices
            where invoices.stripe_invoice_id = _lock_money.stripe_invoice_id
        )
        for update;
        if found then
            perform billing._lock_arrival(_lock_money.stripe_invoice_id);
            return;
        end if;
    end if;
    loop
        v_invoice_ids := array_remove(
            billing._invoices_of_payment(_lock_money.stripe_payment_intent_id, _lock_money.stripe_charge_id)
                || _lock_money.stripe_invoice_id, null
        );
        v_concerned := billing._accounts_of_money(
            _lock_money.stripe_payment_intent_id, _lock_money.stripe_charge_id, v_invoice_ids
        );
        perform billing._lock_balance(concerned.account_id) from unnest(v_concerned) as concerned (account_id);
        v_locked := v_locked || v_concerned;
        begin
            perform billing._lock_arrival(arrival.stripe_id)
            from unnest(
                array_remove(array[_lock_money.stripe_charge_id, _lock_money.stripe_payment_intent_id], null)
                    || v_invoice_ids
            ) with ordinality as arrival (stripe_id, place)
            order by arrival.place;
            if billing._invoices_of_payment(_lock_money.stripe_payment_intent_id, _lock_money.stripe_charge_id)
                    <@ v_invoice_ids
                and billing._accounts_of_money(
                    _lock_money.stripe_payment_intent_id, _lock_money.stripe_charge_id, v_invoice_ids
                ) <@ v_locked then
                return;
            end if;
            raise sqlstate 'TB999';
        exception when sqlstate 'TB999' then
            null;  -- the rollback released the arrivals
        end;
    end loop;
end
$$;

revoke all on function billing._accounts_of_money, billing._invoices_of_payment, billing._lock_money
from public, anon, authenticated, service_role;

-- 40_stripe/36_saved_cards.sql

-- Cards that customers saved in Stripe, to notify their owners before a card expires.
--
-- Invariant: one row for each payment method, in its newest state. Of two states of the same second the detached one
-- wins, or else the later expiry, so the order of events makes no difference.
--
-- Called by billing_worker; service_role reads.

create table billing.saved_cards (
    stripe_payment_method_id text primary key,
    stripe_customer_id text,
    livemode boolean not null,
    brand text,
    last4 text,
    -- The first day on which the card is no longer valid.
    expires_on date,
    as_of timestamptz not null,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);

create index saved_cards_customer on billing.saved_cards (stripe_customer_id);
create index saved_cards_expiry on billing.saved_cards (expires_on) where stripe_customer_id is not null;

alter table billing.saved_cards enable row level security;

revoke all on billing.saved_cards from public, anon, authenticated, service_role;
grant select on billing.saved_cards to service_role;

-- stripe_customer_id is null for a detached card.
create function billing.record_saved_card(
    stripe_payment_method_id text, stripe_customer_id text, livemode boolean, card_brand text, card_last4 text,
    card_exp_month integer, card_exp_year integer, as_of timestamptz
)
returns text
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    insert into billing.saved_cards as held (
        stripe_payment_method_id, stripe_customer_id, livemode, brand, last4, expires_on, as_of
    )
    values (
        record_saved_card.stripe_payment_method_id, record_saved_card.stripe_customer_id, record_saved_card.livemode,
        record_saved_card.card_brand, record_saved_card.card_last4,
        make_date(record_saved_card.card_exp_year, record_saved_card.card_exp_month, 1) + interval '1 month',
        record_saved_card.as_of
    )
    on conflict on constraint saved_cards_pkey do update
    set stripe_customer_id = excluded.stripe_customer_id,
        brand = excluded.brand,
        last4 = excluded.last4,
        expires_on = excluded.expires_on,
        as_of = excluded.as_of,
        updated_at = now()
    where (held.as_of, held.stripe_customer_id is null, coalesce(held.expires_on, '-infinity'))
        < (excluded.as_of, excluded.stripe_customer_id is null, coalesce(excluded.expires_on, '-infinity'));
    return case when found then 'applied' else 'stale' end;
end
$$;

revoke all on function billing.record_saved_card from public, anon, authenticated, service_role;
grant execute on function billing.record_saved_card(text, text, boolean, text, text, integer, integer, timestamptz)
to billing_worker;

comment on table billing.saved_cards is 'Cards saved in Stripe, in their newest state; without a customer once detached.';
comment on column billing.saved_cards.expires_on is 'The first day on which the card is no longer valid.';
comment on function billing.record_saved_card(text, text, boolean, text, text, integer, integer, timestamptz) is 'Records a saved, changed or detached card. Returns applied or stale.';

-- 50_allocation/10_credit_schedules.sql

-- Paid time of each subscription item, and time that Stripe credited back.
--
-- Invariant: a row is one line of a paid invoice, so the same invoices give the same rows in any order. A line adds the
-- time from period_start to period_end, or gives back that part of the line that it credits. Only _slots_of_lines and
-- _worth calculate what a row is worth.
--
-- Only functions write; service_role reads. Clients read the credits, not these rows.

create table billing.credit_schedules (
    stripe_line_id text primary key,
    account_id uuid not null,
    stripe_subscription_id text not null,
    stripe_subscription_item_id text not null,
    stripe_invoice_id text not null,
    stripe_price_id text not null,
    gives_back boolean not null,
    credited_line_id text,
    is_change boolean not null,
    is_free boolean not null,
    is_unpaid boolean not null default false,
    is_plain boolean not null,
    has_returns boolean not null default false,
    quantity bigint not null,
    period_start timestamptz not null,
    period_end timestamptz not null,
    anchor timestamptz not null,
    terms_from timestamptz not null,
    paid_at timestamptz not null,
    ends_at timestamptz not null,
    next_slot_at timestamptz,
    disarmed_reason text,
    created_at timestamptz not null default now(),
    constraint period_ends_after_it_starts check (period_end > period_start),
    constraint quantity_is_not_negative check (quantity >= 0),
    constraint only_credits_name_a_line check (gives_back or credited_line_id is null),
    constraint disarmed_reason_is_known check (
        disarmed_reason in (
            'paused', 'collection_paused', 'unpaid', 'incomplete', 'customer_deleted', 'account_closed', 'disputed'
        )
    )
);

create index credit_schedules_due on billing.credit_schedules (next_slot_at)
where next_slot_at is not null and disarmed_reason is null;
create index credit_schedules_account on billing.credit_schedules (account_id, next_slot_at)
where next_slot_at is not null and disarmed_reason is null;
create index credit_schedules_subscription on billing.credit_schedules (stripe_subscription_id, period_end);
create index credit_schedules_next on billing.credit_schedules (stripe_subscription_id) where next_slot_at is not null;
create index credit_schedules_invoice on billing.credit_schedules (stripe_invoice_id);
create index credit_schedules_free on billing.credit_schedules (account_id, period_end) where is_free;

alter table billing.credit_schedules enable row level security;
revoke all on billing.credit_schedules from public, anon, authenticated, service_role;
grant select on billing.credit_schedules to service_role;

comment on table billing.credit_schedules is 'Time that was paid for each subscription item, and time that Stripe credited back.';
comment on column billing.credit_schedules.gives_back is 'True if the line credits time that an earlier line paid for.';
comment on column billing.credit_schedules.credited_line_id is 'The line whose time it gives back; null if that line was not paid.';
comment on column billing.credit_schedules.is_change is 'True if Stripe created the line for a change within a period (a proration).';
comment on column billing.credit_schedules.is_free is 'True if nothing was paid for the line: its credits are granted once for each account, product and calendar month. For a line that gives back: true if it takes nothing, because Stripe credits no money, or because the credited line was not paid and never will be.';
comment on column billing.credit_schedules.is_unpaid is 'True if Stripe credits money for time that was not paid for (not paid yet, or free by a coupon): all of it counts at once, because the customer has the money at once.';
comment on column billing.credit_schedules.is_plain is 'True if no other line shares its months, so they can be granted in sets.';
comment on column billing.credit_schedules.has_returns is 'True if money of its invoice was returned or is disputed.';
comment on column billing.credit_schedules.quantity is 'Seats; 1 for a metered price, whose quantity is usage.';
comment on column billing.credit_schedules.anchor is 'The billing anchor: months are counted from it, in UTC.';
comment on column billing.credit_schedules.terms_from is 'Earlier terms of the plan do not apply: the time of the purchase; -infinity if it is not known.';
comment on column billing.credit_schedules.ends_at is 'No month starts at or after this time: the period is over, or the subscription has ended.';
comment on column billing.credit_schedules.next_slot_at is 'Start of the next month to grant; null if none is left.';
comment on column billing.credit_schedules.disarmed_reason is 'Why later months wait; null if they don''t.';

-- 50_allocation/11_pack_purchases.sql

-- Facts: purchased credit packs, one row for each purchase however it was paid. service_role reads them.

create table billing.pack_purchases (
    business_key text primary key,
    account_id uuid not null references billing.accounts (id),
    source text not null,
    reference_id text not null,
    description text,
    credits bigint not null,
    price bigint not null,
    stripe_price_id text,
    stripe_checkout_session_id text,
    stripe_invoice_id text,
    stripe_line_id text,
    stripe_payment_intent_id text,
    purchased_at timestamptz not null,
    expires_at timestamptz,
    created_at timestamptz not null default now(),
    constraint credits_are_not_negative check (credits >= 0),
    constraint price_is_not_negative check (price >= 0)
);

create index pack_purchases_account on billing.pack_purchases (account_id);
create index pack_purchases_session on billing.pack_purchases (stripe_checkout_session_id)
where stripe_checkout_session_id is not null;
create index pack_purchases_invoice on billing.pack_purchases (stripe_invoice_id) where stripe_invoice_id is not null;
create index pack_purchases_payment_intent on billing.pack_purchases (stripe_payment_intent_id)
where stripe_payment_intent_id is not null;

alter table billing.pack_purchases enable row level security;
revoke all on billing.pack_purchases from public, anon, authenticated, service_role;
grant select on billing.pack_purchases to service_role;

comment on table billing.pack_purchases is 'Paid credit packs: the credits of each purchase, and its payment.';
comment on column billing.pack_purchases.credits is '0 if the paid amount is worth less than one credit.';
comment on column billing.pack_purchases.price is 'The paid amount after discounts, in minor units; 0: nothing was paid.';

-- 50_allocation/12_months.sql

-- The calendar of months of credits.
--
-- Invariant: month k starts at anchor + k months, counted from the anchor in UTC and never from the previous month, so
-- month ends don't drift: after 31 January come 28 February and 31 March. Private; pure.

create function billing._slot(anchor timestamptz, k integer)
returns timestamptz
language sql
immutable
as $$
    select (anchor at time zone 'utc' + pg_catalog.make_interval(months => k)) at time zone 'utc'
$$;

-- The number of calendar months between two times: the month of credits that starts in the calendar month of `moment`.
create function billing._slot_number(anchor timestamptz, moment timestamptz)
returns integer
language sql
immutable
as $$
    select (12 * (pg_catalog.date_part('year', moment at time zone 'utc') - pg_catalog.date_part('year', anchor at time zone 'utc'))
        + pg_catalog.date_part('month', moment at time zone 'utc') - pg_catalog.date_part('month', anchor at time zone 'utc'))::integer
$$;

-- The first month that starts at or after a time.
create function billing._first_slot(anchor timestamptz, from_moment timestamptz)
returns timestamptz
language sql
immutable
as $$
    select case
        when billing._slot(anchor, billing._slot_number(anchor, from_moment)) >= from_moment
            then billing._slot(anchor, billing._slot_number(anchor, from_moment))
        else billing._slot(anchor, billing._slot_number(anchor, from_moment) + 1)
    end
$$;

-- The period of a plan in months; null for days and weeks.
create function billing._months(plan billing.plans)
returns integer
language sql
immutable
as $$
    select (plan).recurring_interval_count * case (plan).recurring_interval when 'year' then 12 when 'month' then 1 end
$$;

-- The anchor from which the months of a period are counted: the latest of the subscription's anchors that fits the end
-- of the period, not after the period's start if possible. If no anchor is known, the period itself decides. A period
-- of days or weeks is a part of the month that starts with it, and so is a change within it.
create function billing._anchor_of_period(
    plan billing.plans, anchors timestamptz[], period_start timestamptz, period_end timestamptz
)
returns timestamptz
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_start timestamptz := _anchor_of_period.period_start;
    v_end timestamptz := _anchor_of_period.period_end;
    v_months integer := billing._months(_anchor_of_period.plan);
    v_anchor timestamptz;
    v_found timestamptz;
begin
    if v_months is null then
        return v_end - make_interval(days => (_anchor_of_period.plan).recurring_interval_count
            * case (_anchor_of_period.plan).recurring_interval when 'week' then 7 else 1 end);
    end if;
    foreach v_anchor in array _anchor_of_period.anchors loop
        if billing._first_slot(v_anchor, v_end) = v_end and (
            v_found is null
            or (v_anchor <= v_start) > (v_found <= v_start)
            or (v_anchor <= v_start) = (v_found <= v_start) and v_anchor > v_found
        ) then
            v_found := v_anchor;
        end if;
    end loop;
    return coalesce(v_found, case when billing._slot(v_start, v_months) = v_end then v_start else v_end end);
end
$$;

revoke all on function
    billing._slot, billing._slot_number, billing._first_slot, billing._months, billing._anchor_of_period
from public, anon, authenticated, service_role;

-- 50_allocation/14_slots_of_lines.sql

-- The part of every month that each line of paid time covers.
--
-- Invariant: a pure function of the schedules and the terms, and the only place with these rules. A line gives
--     monthly credits * seats * (its time within the month) / (length of the month)
-- for each month that it overlaps, at the month's start or at its own start. A line that gives back takes the same amount of
-- the line that it credits. With credits_on_proration=full, the first change to a plan within a month counts from the start of
-- the month. Months that start after the subscription's end count nothing, except the first month of a line. Time that Stripe
-- credits although nobody paid for it counts at the time of the change.
--
-- Private.

create type billing.line_slot as (
    stripe_line_id text,
    account_id uuid,
    stripe_subscription_id text,
    stripe_subscription_item_id text,
    stripe_invoice_id text,
    stripe_price_id text,
    gives_back boolean,
    is_free boolean,
    is_plain boolean,
    has_returns boolean,
    is_reached boolean,
    is_waiting boolean,
    period_start timestamptz,
    slot_start timestamptz,
    slot_end timestamptz,
    moment timestamptz,
    whole_credits numeric,     -- of the whole month; below zero where time is given back
    line_seconds numeric,
    slot_seconds numeric,
    expires_at timestamptz,
    rollover text,
    rollover_cap bigint,
    proration_credits text,
    downgrade_credits text
);

-- True if a line is the first change to its plan within a month.
create function billing._is_first_change(line billing.credit_schedules, slot_start timestamptz)
returns boolean
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_line billing.credit_schedules := _is_first_change.line;
begin
    return not v_line.gives_back and not v_line.is_free and v_line.period_start > _is_first_change.slot_start
        and not exists (
            select from billing.credit_schedules as earlier
            where earlier.stripe_subscription_id = v_line.stripe_subscription_id
                and earlier.stripe_price_id = v_line.stripe_price_id and not earlier.gives_back and not earlier.is_free
                and earlier.period_start > _is_first_change.slot_start
                and earlier.period_end > _is_first_change.slot_start
                and earlier.period_start < v_line.period_start
        );
end
$$;

-- Months that end after from_moment and start by until_moment: of subscriptions, of one invoice (stripe_invoice_id), or
-- of the free lines of accounts (free_account_ids). The first month of a line counts as soon as it is paid, even before
-- it starts.
create function billing._slots_of_lines(
    stripe_subscription_ids text[], from_moment timestamptz, until_moment timestamptz,
    stripe_invoice_id text default null, free_account_ids uuid[] default null
)
returns setof billing.line_slot
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select
        lines.stripe_line_id, lines.account_id, lines.stripe_subscription_id, lines.stripe_subscription_item_id,
        lines.stripe_invoice_id, lines.stripe_price_id, lines.gives_back, lines.is_free, lines.is_plain,
        lines.has_returns,
        -- terms_from: for a line that gives back, the start of the line that it credits.
        lines.is_unpaid or slots.slot_start <= lines.terms_from or slots.slot_start < lines.ends_at,
        lines.disarmed_reason is not null and slots.slot_start > lines.period_start,
        lines.period_start, slots.slot_start, slots.slot_end,
        case when lines.is_unpaid then lines.period_start else greatest(slots.slot_start, lines.period_start) end,
        (case when lines.gives_back then -1 else 1 end) * terms.monthly_credits::numeric * lines.quantity,
        extract(epoch from least(slots.slot_end, lines.period_end) - case
            when terms.proration_credits = 'full' and billing._is_first_change(lines, slots.slot_start)
                then slots.slot_start
            else greatest(slots.slot_start, lines.period_start)
        end),
        extract(epoch from slots.slot_end - slots.slot_start),
        case terms.rollover
            when 'none' then case
                when lines.paid_at > greatest(slots.slot_start, lines.period_start) + interval '1 day'
                    then greatest(slots.slot_end, billing._slot(lines.paid_at, 1))
                else slots.slot_end
            end
            when 'periods' then case
                when lines.paid_at > greatest(slots.slot_start, lines.period_start) + interval '1 day'
                    then greatest(
                        billing._slot(lines.anchor, slots.k + 1 + terms.rollover_periods),
                        billing._slot(lines.paid_at, 1 + terms.rollover_periods)
                    )
                else billing._slot(lines.anchor, slots.k + 1 + terms.rollover_periods)
            end
        end,
        terms.rollover, terms.rollover_cap, terms.proration_credits, terms.downgrade_credits
    from (
        select credit_schedules.* from billing.credit_schedules
        where credit_schedules.stripe_subscription_id = any (_slots_of_lines.stripe_subscription_ids)
            and credit_schedules.period_end > _slots_of_lines.from_moment
        union all
        select credit_schedules.* from billing.credit_schedules
        where credit_schedules.stripe_invoice_id = _slots_of_lines.stripe_invoice_id
        union all
        select credit_schedules.* from billing.credit_schedules
        where credit_schedules.account_id = any (_slots_of_lines.free_account_ids) and credit_schedules.is_free
            and credit_schedules.stripe_subscription_id <> all (_slots_of_lines.stripe_subscription_ids)
            and credit_schedules.period_end > _slots_of_lines.from_moment
    ) as lines
    cross join lateral (
        select
            series.k, billing._slot(lines.anchor, series.k) as slot_start,
            billing._slot(lines.anchor, series.k + 1) as slot_end
        from generate_series(
            billing._slot_number(lines.anchor, greatest(lines.period_start, _slots_of_lines.from_moment)) - 1,
            billing._slot_number(lines.anchor, case
                when lines.is_unpaid then lines.period_end
                else least(lines.period_end, greatest(lines.period_start, _slots_of_lines.until_moment))
            end)
        ) as series (k)
        offset 0  -- or each month would be worked out at each place that names it
    ) as slots
    cross join lateral (
        (
            select credit_terms.* from billing.credit_terms
            where credit_terms.stripe_price_id = lines.stripe_price_id
                and credit_terms.valid_from <= greatest(slots.slot_start, lines.terms_from)
            order by credit_terms.valid_from desc
            limit 1
        )
        union all
        (
            select credit_terms.* from billing.credit_terms
            where credit_terms.stripe_price_id = lines.stripe_price_id
            order by credit_terms.valid_from
            limit 1
        )
        limit 1
    ) as terms
    where slots.slot_end > greatest(lines.period_start, _slots_of_lines.from_moment)
        and slots.slot_start < lines.period_end
        and (
            lines.is_unpaid or slots.slot_start <= lines.period_start
            or slots.slot_start <= _slots_of_lines.until_moment
        );
end
$$;

revoke all on function billing._is_first_change, billing._slots_of_lines from public, anon, authenticated, service_role;

-- 50_allocation/16_returned_money.sql

-- Money that was returned of an invoice or a payment, and when. Facts only, no credits.
--
-- Invariant: calculated from all rows (refunds, charges, disputes, credit notes), so neither their order nor repeated
-- reports make a difference. A refund that belongs to a credit note counts once, with the note. A credit note that
-- names lines returns money of those lines; everything else returns money of what is left of the whole invoice.
--
-- Private. Amounts in minor units.

create type billing.returned_money as (returned_at timestamptz, amount numeric, stripe_line_id text, is_contested boolean);

-- Returns of payments: refunds that did not fail, lost disputes, and the amounts of open disputes. A charge may report
-- refunds before their own events arrive. Inquiries and prevented disputes do not count, because they move no money.
-- Refunds in note_refund_ids belong to credit notes.
create function billing._returns_of_payments(
    stripe_payment_intent_ids text[], stripe_charge_ids text[], note_refund_ids text[]
)
returns setof billing.returned_money
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_charge_ids text[] := _returns_of_payments.stripe_charge_ids || array(
        select payments.stripe_charge_id from billing.payments
        where payments.stripe_payment_intent_id = any (_returns_of_payments.stripe_payment_intent_ids)
    );
begin
    return query
    select refunds.refunded_at, refunds.amount::numeric, null::text, false from billing.refunds
    where (
            refunds.stripe_payment_intent_id = any (_returns_of_payments.stripe_payment_intent_ids)
            or refunds.stripe_charge_id = any (v_charge_ids)
        )
        and refunds.status not in ('failed', 'canceled')
        and refunds.stripe_refund_id <> all (_returns_of_payments.note_refund_ids)
    union all
    select charged.as_of, charged.amount_refunded - coalesce(reported.amount, 0), null, false
    from (
        select max(payments.as_of) as as_of, sum(payments.amount_refunded) as amount_refunded from billing.payments
        where payments.stripe_charge_id = any (v_charge_ids)
    ) as charged
    cross join (
        select sum(refunds.amount) as amount from billing.refunds
        where refunds.stripe_payment_intent_id = any (_returns_of_payments.stripe_payment_intent_ids)
            or refunds.stripe_charge_id = any (v_charge_ids)
    ) as reported
    where charged.amount_refunded > coalesce(reported.amount, 0)
    union all
    select disputes.disputed_at, disputes.amount, null, disputes.status <> 'lost' from billing.disputes
    where (
            disputes.stripe_payment_intent_id = any (_returns_of_payments.stripe_payment_intent_ids)
            or disputes.stripe_charge_id = any (v_charge_ids)
        )
        and disputes.status in ('lost', 'needs_response', 'under_review', 'appeal_needs_response', 'appeal_under_review');
end
$$;

-- The same for an invoice: the returns of all its payments, and its credit notes. If a payment paid several invoices,
-- its returns are divided among them.
create function billing._returns_of_invoice(stripe_invoice_id text)
returns setof billing.returned_money
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_intent_ids text[];
    v_charge_ids text[];
    v_part numeric;
    v_note_refund_ids text[];
begin
    select
        coalesce(array_agg(mine.stripe_payment_intent_id)
            filter (where mine.stripe_payment_intent_id is not null), '{}'),
        coalesce(array_agg(mine.stripe_charge_id) filter (where mine.stripe_charge_id is not null), '{}'),
        sum(mine.amount_paid) / nullif(sum(mine.amount_paid + coalesce(others.amount_paid, 0)), 0)
    into v_intent_ids, v_charge_ids, v_part
    from billing.invoice_payments as mine
    left join lateral (
        select sum(invoice_payments.amount_paid) as amount_paid from billing.invoice_payments
        where invoice_payments.stripe_invoice_id <> mine.stripe_invoice_id and invoice_payments.status = 'paid'
            and (
                invoice_payments.stripe_payment_intent_id = mine.stripe_payment_intent_id
                or invoice_payments.stripe_charge_id = mine.stripe_charge_id
            )
    ) as others on true
    where mine.stripe_invoice_id = _returns_of_invoice.stripe_invoice_id and mine.status = 'paid';
    select coalesce(array_agg(refund_id), '{}') into v_note_refund_ids
    from billing.credit_notes
    cross join lateral unnest(credit_notes.stripe_refund_ids) as refund_id
    where credit_notes.stripe_invoice_id = _returns_of_invoice.stripe_invoice_id and credit_notes.status = 'issued';

    return query
    select returns.returned_at, returns.amount * coalesce(v_part, 1), returns.stripe_line_id, returns.is_contested
    from billing._returns_of_payments(v_intent_ids, v_charge_ids, v_note_refund_ids) as returns
    union all
    select
        notes.noted_at,
        notes.amount * case when notes.lines_total > 0 then lines.amount::numeric / notes.lines_total else 1 end,
        lines.stripe_line_id, false
    from (
        select
            credit_notes.stripe_credit_note_id, credit_notes.noted_at,
            -- A failed refund of the note returned nothing. If the note names no refund, refunds count separately.
            credit_notes.amount - case
                when credit_notes.stripe_refund_ids = '{}' then credit_notes.amount_refunded
                else coalesce((
                    select sum(refunds.amount) from billing.refunds
                    where refunds.stripe_refund_id = any (credit_notes.stripe_refund_ids)
                        and refunds.status in ('failed', 'canceled')
                ), 0)
            end as amount,
            (
                select sum(credit_note_lines.amount) from billing.credit_note_lines
                where credit_note_lines.stripe_credit_note_id = credit_notes.stripe_credit_note_id
            ) as lines_total
        from billing.credit_notes
        where credit_notes.stripe_invoice_id = _returns_of_invoice.stripe_invoice_id and credit_notes.status = 'issued'
    ) as notes
    left join billing.credit_note_lines as lines
        on lines.stripe_credit_note_id = notes.stripe_credit_note_id and notes.lines_total > 0
    where notes.amount > 0;
end
$$;

-- The amount with which returns are compared: the invoice's total, whatever paid it (card, customer balance, out of
-- band), minus credit notes before the payment.
create function billing._price_of_invoice(invoice billing.invoices)
returns numeric
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select (_price_of_invoice.invoice).total - coalesce(sum(credit_notes.pre_payment_amount), 0)
    from billing.credit_notes
    where credit_notes.stripe_invoice_id = (_price_of_invoice.invoice).stripe_invoice_id
        and credit_notes.status = 'issued'
$$;

-- The credits lost by a return, rounded down; multiplies before it divides, so that a third of 300 is 100.
create function billing._gone(credits numeric, returned numeric, paid numeric)
returns bigint
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
    select case
        when _gone.paid > 0 then floor(_gone.credits * least(_gone.returned, _gone.paid) / _gone.paid)::bigint else 0
    end
$$;

revoke all on function
    billing._gone, billing._returns_of_payments, billing._returns_of_invoice, billing._price_of_invoice
from public, anon, authenticated, service_role;

-- 50_allocation/18_test_clocks.sql

-- Stripe test clocks: subscriptions on a test clock use its time, even if billing time cannot be moved.
--
-- Invariant: test mode only. The accounts on a test clock get the months that have started by its time, and their
-- credits expire by its time. All others use billing.current_time().

create table billing.test_clocks (
    stripe_test_clock_id text primary key,
    frozen_at timestamptz not null
);

alter table billing.test_clocks enable row level security;
revoke all on billing.test_clocks from public, anon, authenticated, service_role;
grant select on billing.test_clocks to service_role;

-- The time that applies to an account; moment: the time that applies to all others.
create function billing._time_of_account(account_id uuid, moment timestamptz default billing.current_time())
returns timestamptz
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    if not exists (select from billing.test_clocks) then
        return _time_of_account.moment;
    end if;
    return greatest(_time_of_account.moment, (
        select max(test_clocks.frozen_at) from billing.subscriptions
        join billing.test_clocks on test_clocks.stripe_test_clock_id = subscriptions.stripe_test_clock_id
        where subscriptions.account_id = _time_of_account.account_id
    ));
end
$$;

revoke all on function billing._time_of_account from public, anon, authenticated, service_role;

comment on table billing.test_clocks is 'Stripe test clocks and the time of their subscriptions.';

-- 50_allocation/20_credit_guard.sql

-- One-time credits: initial and trial credits, limited to one account of the same person.
--
-- Invariant: granted once for each account and product (or as settings.initial_credits_per and one_trial_per say), whatever the
-- key. If a card of the account was seen on another account before, settings.seen_card_policy decides: grant, hold for review, or
-- refuse. The earlier account is the one where Stripe saw the card first, by the times of cards and charges (if equal, the
-- smaller id), so the order of events makes no difference.
--
-- card_fingerprints   which cards Stripe saw on which customer, and so on which account
-- held_credits        initial and trial credits under review, approved or refused
-- Only functions write; service_role reads. Private: _grant_once, called by the functions that grant such credits.

create table billing.card_fingerprints (
    card_fingerprint text not null,
    stripe_customer_id text not null references billing.customers (stripe_customer_id),
    account_id uuid references billing.accounts (id),
    first_seen_at timestamptz not null,
    created_at timestamptz not null default now(),
    primary key (stripe_customer_id, card_fingerprint)
);

create index card_fingerprints_seen on billing.card_fingerprints (card_fingerprint, first_seen_at, account_id);
create index card_fingerprints_account on billing.card_fingerprints (account_id);

create table billing.held_credits (
    id bigint generated always as identity primary key,
    account_id uuid not null references billing.accounts (id),
    kind text not null,
    amount billing.positive_credits not null,
    card_fingerprint text not null,
    matched_account_id uuid not null references billing.accounts (id),
    status text not null default 'pending',
    reason text,
    reviewed_by text,
    reviewed_at timestamptz,
    idempotency_key billing.idempotency_key not null,
    source text not null,
    reference_id text,
    description text,
    stripe_invoice_id text,
    stripe_subscription_item_id text,
    stripe_price_id text,
    expires_at timestamptz,
    revocation_id bigint references billing.credit_revocations (id),
    held_at timestamptz not null,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint kind_is_known check (kind in ('initial', 'trial')),
    constraint status_is_known check (status in ('pending', 'approved', 'refused')),
    constraint accounts_differ check (matched_account_id <> account_id),
    constraint reviews_say_who_and_why
    check ((reviewed_at is null) = (reviewed_by is null) and (reviewed_at is null) = (reason is null)),
    constraint reviewed_credits_are_pending_no_more check (status <> 'pending' or reviewed_at is null),
    constraint credits_are_approved_by_somebody check (status <> 'approved' or reviewed_at is not null)
);

create unique index held_credits_key on billing.held_credits (idempotency_key);
create index held_credits_account on billing.held_credits (account_id);
create index held_credits_matched_account on billing.held_credits (matched_account_id);
create index held_credits_revocation on billing.held_credits (revocation_id) where revocation_id is not null;
create index held_credits_pending on billing.held_credits (held_at) where status = 'pending';

alter table billing.card_fingerprints enable row level security;
alter table billing.held_credits enable row level security;

revoke all on all sequences in schema billing from public, anon, authenticated, service_role;
revoke all on billing.card_fingerprints, billing.held_credits from public, anon, authenticated, service_role;
grant select on billing.card_fingerprints, billing.held_credits to service_role;

-- The policy for credits of an account whose card was seen on another account. Everybody uses the same test cards, so
-- in test mode nothing is held unless the settings say so.
create function billing._seen_card_policy()
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select coalesce(settings.seen_card_policy, case when settings.livemode then 'hold' else 'grant' end)
    from billing.settings
$$;

-- The key of one-time credits (kind: initial or trial): for each product, or for each account, as the settings say.
create function billing._once_key(kind text, account_id uuid, stripe_product_id text)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return (select case case _once_key.kind when 'trial' then settings.one_trial_per else settings.initial_credits_per end
        when 'account' then format('%s:%s', _once_key.kind, _once_key.account_id)
        else format('%s:%s:%s', _once_key.kind, _once_key.account_id, _once_key.stripe_product_id)
    end
    from billing.settings);
end
$$;

-- True if such credits were granted or held under any key, so that the setting can change at any time: compares the
-- kind in the key, and the product of the price.
create function billing._was_given(account_id uuid, kind text, stripe_price_id text)
returns boolean
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return (select exists (
        select from (
            select credit_grants.idempotency_key, credit_grants.stripe_price_id from billing.credit_grants
            where credit_grants.account_id = _was_given.account_id and credit_grants.key_space = 'stripe'
            union all
            select held_credits.idempotency_key, held_credits.stripe_price_id from billing.held_credits
            where held_credits.account_id = _was_given.account_id
        ) as given
        left join billing.plans on plans.stripe_price_id = given.stripe_price_id
        where split_part(given.idempotency_key, ':', 1) = _was_given.kind and (
            case _was_given.kind when 'trial' then settings.one_trial_per else settings.initial_credits_per end = 'account'
            or plans.stripe_product_id = (
                select mine.stripe_product_id from billing.plans as mine
                where mine.stripe_price_id = _was_given.stripe_price_id
            )
        )
    )
    from billing.settings);
end
$$;

-- The first sighting of a card of the account, if it was earlier and on another account. A card that was approved for
-- the account no longer counts (except for held_for: credits that are already held for it stay held), nor does a card
-- that the account first used more than a month after the grant.
create function billing._seen_card(account_id uuid, granted_at timestamptz, held_for text default null)
returns billing.card_fingerprints
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select earlier.*
    from (
        select card_fingerprints.card_fingerprint, min(card_fingerprints.first_seen_at) as first_seen_at
        from billing.card_fingerprints
        where card_fingerprints.account_id = _seen_card.account_id
        group by 1
    ) as mine
    cross join lateral (
        select others.* from billing.card_fingerprints as others
        where others.card_fingerprint = mine.card_fingerprint and others.account_id <> _seen_card.account_id
            and (others.first_seen_at, others.account_id) < (mine.first_seen_at, _seen_card.account_id)
        order by others.first_seen_at, others.account_id
        limit 1
    ) as earlier
    where mine.first_seen_at <= _seen_card.granted_at + interval '30 days' and (
        mine.card_fingerprint = _seen_card.held_for
        or not exists (
            select from billing.held_credits
            where held_credits.account_id = _seen_card.account_id and held_credits.status = 'approved'
                and held_credits.card_fingerprint = mine.card_fingerprint
        )
    )
    order by earlier.first_seen_at, earlier.account_id, earlier.card_fingerprint
    limit 1
$$;

-- Holds or refuses credits, by the policy, and notifies administrators. Returns the new row's id.
create function billing._set_aside(held billing.held_credits)
returns bigint
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_held billing.held_credits := _set_aside.held;
begin
    insert into billing.held_credits (
        account_id, kind, amount, card_fingerprint, matched_account_id, status, idempotency_key, source, reference_id,
        description, stripe_invoice_id, stripe_subscription_item_id, stripe_price_id, expires_at, held_at
    )
    select
        v_held.account_id, v_held.kind, v_held.amount, v_held.card_fingerprint, v_held.matched_account_id,
        case billing._seen_card_policy() when 'refuse' then 'refused' else 'pending' end, v_held.idempotency_key,
        v_held.source, v_held.reference_id, v_held.description, v_held.stripe_invoice_id,
        v_held.stripe_subscription_item_id, v_held.stripe_price_id, v_held.expires_at, billing.current_time()
    from billing.settings
    returning * into v_held;
    insert into billing.notifications (account_id, audience, kind, dedupe_key, payload)
    values (
        v_held.account_id, 'administrators', 'credits_held', 'credits_held:' || v_held.id,
        jsonb_build_object(
            'held_credits_id', v_held.id, 'kind', v_held.kind, 'amount', v_held.amount, 'status', v_held.status,
            'matched_account_id', v_held.matched_account_id
        )
    );
    return v_held.id;
end
$$;

-- Start of the first period of an item that an invoice pays for.
create function billing._paid_from(stripe_invoice_id text, stripe_subscription_item_id text)
returns timestamptz
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select min(invoice_lines.period_start) from billing.invoice_lines
        where invoice_lines.stripe_invoice_id = _paid_from.stripe_invoice_id and not invoice_lines.is_proration
            and invoice_lines.stripe_subscription_item_id = _paid_from.stripe_subscription_item_id
    );
end
$$;

-- Grants initial or trial credits, or holds them. A repeated call does nothing, whatever happened to the credits; only
-- credits under review move to an earlier paid period, as a granted lot would.
create function billing._grant_once(
    account_id uuid, kind text, idempotency_key text, amount bigint, source text, reference_id text, description text,
    stripe_invoice_id text, stripe_subscription_item_id text, stripe_price_id text,
    effective_at timestamptz default null, expires_at timestamptz default null
)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_held billing.held_credits;
    v_seen billing.card_fingerprints;
begin
    perform billing._lock_balance(_grant_once.account_id);
    select * into v_held from billing.held_credits where held_credits.idempotency_key = _grant_once.idempotency_key;
    if found then
        update billing.held_credits
        set amount = _grant_once.amount,
            reference_id = _grant_once.reference_id,
            description = _grant_once.description,
            stripe_invoice_id = _grant_once.stripe_invoice_id,
            stripe_subscription_item_id = _grant_once.stripe_subscription_item_id,
            stripe_price_id = _grant_once.stripe_price_id,
            updated_at = now()
        where held_credits.id = v_held.id and held_credits.reviewed_at is null
            and billing._paid_from(_grant_once.stripe_invoice_id, _grant_once.stripe_subscription_item_id)
                < billing._paid_from(v_held.stripe_invoice_id, v_held.stripe_subscription_item_id);
        return;
    elsif exists (
        select from billing.credit_grants
        where credit_grants.idempotency_key = _grant_once.idempotency_key and credit_grants.key_space = 'stripe'
    ) or billing._was_given(_grant_once.account_id, _grant_once.kind, _grant_once.stripe_price_id) then
        return;
    elsif billing._seen_card_policy() <> 'grant' then
        v_seen := billing._seen_card(_grant_once.account_id, billing.current_time());
    end if;

    if v_seen.card_fingerprint is null then
        perform billing._grant_credits(
            account_id => _grant_once.account_id,
            amount => _grant_once.amount,
            key_space => 'stripe',
            idempotency_key => _grant_once.idempotency_key,
            source => _grant_once.source,
            reference_id => _grant_once.reference_id,
            description => _grant_once.description,
            effective_at => _grant_once.effective_at,
            expires_at => _grant_once.expires_at,
            stripe_invoice_id => _grant_once.stripe_invoice_id,
            stripe_subscription_item_id => _grant_once.stripe_subscription_item_id,
            stripe_price_id => _grant_once.stripe_price_id
        );
        return;
    end if;
    perform billing._check_open(_grant_once.account_id);
    v_held.account_id := _grant_once.account_id;
    v_held.kind := _grant_once.kind;
    v_held.amount := _grant_once.amount;
    v_held.card_fingerprint := v_seen.card_fingerprint;
    v_held.matched_account_id := v_seen.account_id;
    v_held.idempotency_key := _grant_once.idempotency_key;
    v_held.source := _grant_once.source;
    v_held.reference_id := _grant_once.reference_id;
    v_held.description := _grant_once.description;
    v_held.stripe_invoice_id := _grant_once.stripe_invoice_id;
    v_held.stripe_subscription_item_id := _grant_once.stripe_subscription_item_id;
    v_held.stripe_price_id := _grant_once.stripe_price_id;
    v_held.expires_at := _grant_once.expires_at;
    perform billing._set_aside(v_held);
end
$$;

-- True if one-time credits are under review, or were refused by the policy.
create function billing._is_held(idempotency_key text)
returns boolean
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select exists (
        select from billing.held_credits
        where held_credits.idempotency_key = _is_held.idempotency_key and held_credits.status <> 'approved'
    )
$$;

revoke all on function
    billing._seen_card_policy, billing._once_key, billing._was_given, billing._seen_card, billing._set_aside, billing._paid_from,
    billing._grant_once, billing._is_held
from public, anon, authenticated, service_role;

comment on table billing.card_fingerprints is 'Cards that Stripe saw on a customer: attached or charged.';
comment on column billing.card_fingerprints.account_id is 'The customer''s account; null while the customer is not linked.';
comment on column billing.card_fingerprints.first_seen_at is 'The earliest time that Stripe reported, not the time of our processing.';
comment on table billing.held_credits is 'Initial and trial credits under review: a card of the account was seen on another account before. The key is their business key (key space stripe); the other columns are the arguments of the grant.';
comment on column billing.held_credits.card_fingerprint is 'The card that was seen on matched_account_id before.';
comment on column billing.held_credits.status is 'pending: waits for an administrator. approved or refused: by reviewed_by, or refused by the policy if that is null.';
comment on column billing.held_credits.revocation_id is 'The revocation of the credits, if they were granted before the card was reported.';

-- 50_allocation/22_seen_cards.sql

-- Cards that Stripe saw → their first account, and the review of initial and trial credits.
--
-- Invariant: a new sighting reviews its own account and every account for which it is now the earlier one, under that account's
-- lock, and a grant reads the sightings under the same lock. So of a sighting and a grant at the same time, one sees the other.
-- Decisions of administrators and closed accounts stay unchanged.
--
-- Locks: the account's balance, the card, then the balances of the other accounts by id. If another transaction has locked an
-- account, the event fails with 55P03 and is retried.
--
--   record_card                  billing_worker      a card was attached to a customer
--   _record_card                 sync_payment        a card was charged
--   _record_cards_of_customer    link functions      a customer was linked to an account

-- This lock serializes sightings of a card; without it, neither of two concurrent ones would see the other.
create function billing._lock_card(card_fingerprint text)
returns void
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    select pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended('billing.card:' || _lock_card.card_fingerprint, 0))
$$;

-- Grants held credits, or restores them if they had been granted, except those spent before the revocation.
create function billing._give_held(held billing.held_credits, actor text)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_held billing.held_credits := _give_held.held;
    v_revocation billing.credit_revocations;
    v_left bigint := v_held.amount;
begin
    if v_held.revocation_id is not null then
        select * into strict v_revocation from billing.credit_revocations
        where credit_revocations.id = v_held.revocation_id;
        -- The lot moves to the period for which it is held.
        update billing.credit_grants
        set stripe_invoice_id = v_held.stripe_invoice_id,
            stripe_subscription_item_id = v_held.stripe_subscription_item_id,
            stripe_price_id = v_held.stripe_price_id,
            reference_id = v_held.reference_id
        where credit_grants.id = v_revocation.grant_id;
        -- Credits that stayed with the account, and those that a person reinstated, count.
        v_left := v_held.amount - (v_revocation.requested - v_revocation.taken) - v_revocation.reinstated;
        if least(v_left, v_revocation.taken - v_revocation.reinstated) > 0 then
            perform billing._reinstate(
                v_revocation, least(v_left, v_revocation.taken - v_revocation.reinstated), 'system',
                'approved:' || v_held.id, 'Held credits approved', _give_held.actor
            );
        end if;
        -- The rest is the difference of an earlier paid period, which grants more than the lot had.
        v_left := v_held.amount - v_revocation.requested;
        if v_left <= 0 then
            return;
        end if;
    end if;
    perform billing._grant_credits(
        account_id => v_held.account_id,
        amount => v_left,
        key_space => 'stripe',
        idempotency_key => v_held.idempotency_key
            || case when v_held.revocation_id is null then '' else ':' || v_held.stripe_invoice_id end,
        source => v_held.source,
        reference_id => v_held.reference_id,
        description => v_held.description,
        expires_at => case when v_held.expires_at > billing.current_time() then v_held.expires_at end,
        stripe_invoice_id => v_held.stripe_invoice_id,
        stripe_subscription_item_id => v_held.stripe_subscription_item_id,
        stripe_price_id => v_held.stripe_price_id,
        actor => _give_held.actor
    );
end
$$;

-- Revokes the unspent part of credits that were granted before the card was reported.
create function billing._withdraw_for_review(lot billing.credit_grants, seen billing.card_fingerprints)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_lot billing.credit_grants := _withdraw_for_review.lot;
    v_held billing.held_credits;
    v_revocation billing.credit_revocations;
begin
    v_held.account_id := v_lot.account_id;
    v_held.kind := split_part(v_lot.idempotency_key, ':', 1);
    v_held.card_fingerprint := (_withdraw_for_review.seen).card_fingerprint;
    v_held.matched_account_id := (_withdraw_for_review.seen).account_id;
    v_held.idempotency_key := v_lot.idempotency_key;
    v_held.source := v_lot.source;
    v_held.reference_id := v_lot.reference_id;
    select credit_entries.description into v_held.description from billing.credit_entries
    where credit_entries.id = v_lot.entry_id;
    v_held.stripe_invoice_id := v_lot.stripe_invoice_id;
    v_held.stripe_subscription_item_id := v_lot.stripe_subscription_item_id;
    v_held.stripe_price_id := v_lot.stripe_price_id;
    v_held.expires_at := v_lot.expires_at;
    select v_lot.amount - coalesce(sum(billing._asked_back(credit_revocations)), 0)
    into v_held.amount
    from billing.credit_revocations where credit_revocations.grant_id = v_lot.id;
    v_held.id := billing._set_aside(v_held);
    v_revocation := billing._revoke_grant(
        v_lot, null, 'system', 'held:' || v_held.id, 'clamp_and_record', 'Held for review', 'tillbase'
    );
    update billing.held_credits set revocation_id = v_revocation.id where held_credits.id = v_held.id;
end
$$;

-- Holds or grants credits according to the account's cards.
create function billing._judge_credits(account_id uuid)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_held billing.held_credits;
    v_lot record;
    v_seen billing.card_fingerprints;
begin
    perform billing._lock_balance(_judge_credits.account_id);
    if exists (
        select from billing.accounts where accounts.id = _judge_credits.account_id and accounts.closed_at is not null
    ) then
        return;
    end if;

    for v_held in
        select * from billing.held_credits
        where held_credits.account_id = _judge_credits.account_id and held_credits.reviewed_at is null
        order by held_credits.id
    loop
        v_seen := billing._seen_card(_judge_credits.account_id, v_held.held_at, v_held.card_fingerprint);
        if v_seen.card_fingerprint is not null then
            update billing.held_credits
            set card_fingerprint = v_seen.card_fingerprint, matched_account_id = v_seen.account_id, updated_at = now()
            where held_credits.id = v_held.id
                and (held_credits.card_fingerprint, held_credits.matched_account_id)
                    <> (v_seen.card_fingerprint, v_seen.account_id);
        else
            -- Its own card turned out to be the earlier one: grants as if nothing had been held.
            perform billing._give_held(v_held, 'tillbase');
            delete from billing.held_credits where held_credits.id = v_held.id;
            delete from billing.notifications
            where notifications.dedupe_key = 'credits_held:' || v_held.id and notifications.status = 'queued'
                and notifications.attempts = 0 and notifications.digest_id is null;
        end if;
    end loop;

    if billing._seen_card_policy() = 'grant' then
        return;
    end if;
    for v_lot in
        select credit_grants as lot, credit_entries.occurred_at as granted_at
        from billing.credit_grants
        join billing.credit_entries on credit_entries.id = credit_grants.entry_id
        where credit_grants.account_id = _judge_credits.account_id and credit_grants.key_space = 'stripe'
            and split_part(credit_grants.idempotency_key, ':', 1) in ('initial', 'trial')
            and not exists (
                select from billing.held_credits where held_credits.idempotency_key = credit_grants.idempotency_key
            )
            and credit_grants.amount > (
                select coalesce(sum(billing._asked_back(credit_revocations)), 0)
                from billing.credit_revocations where credit_revocations.grant_id = credit_grants.id
            )
        order by credit_grants.id
    loop
        v_seen := billing._seen_card(_judge_credits.account_id, v_lot.granted_at);
        if v_seen.card_fingerprint is not null then
            perform billing._withdraw_for_review(v_lot.lot, v_seen);
        end if;
    end loop;
end
$$;

-- Reviews the account on which a card was seen, and all accounts that used it later. The caller holds the card's lock.
create function billing._judge_card(card_fingerprint text, account_id uuid)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_first_seen_at timestamptz := (
        select min(card_fingerprints.first_seen_at) from billing.card_fingerprints
        where card_fingerprints.card_fingerprint = _judge_card.card_fingerprint
            and card_fingerprints.account_id = _judge_card.account_id
    );
    v_account_id uuid;
begin
    for v_account_id in
        select distinct card_fingerprints.account_id from billing.card_fingerprints
        where card_fingerprints.card_fingerprint = _judge_card.card_fingerprint
            and card_fingerprints.account_id is not null and card_fingerprints.first_seen_at >= v_first_seen_at
        order by 1
    loop
        perform billing._judge_credits(v_account_id);
    end loop;
end
$$;

create function billing._record_card(
    stripe_customer_id text, account_id uuid, card_fingerprint text, seen_at timestamptz
)
returns text
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    if exists (
        select from billing.card_fingerprints
        where card_fingerprints.stripe_customer_id = _record_card.stripe_customer_id
            and card_fingerprints.card_fingerprint = _record_card.card_fingerprint
            and card_fingerprints.first_seen_at <= _record_card.seen_at
    ) then
        return 'stale';
    elsif _record_card.account_id is not null then
        perform billing._lock_balance(_record_card.account_id);
    end if;
    perform billing._lock_card(_record_card.card_fingerprint);
    insert into billing.card_fingerprints as held (card_fingerprint, stripe_customer_id, account_id, first_seen_at)
    values (
        _record_card.card_fingerprint, _record_card.stripe_customer_id, _record_card.account_id, _record_card.seen_at
    )
    on conflict on constraint card_fingerprints_pkey do update
    set first_seen_at = least(held.first_seen_at, excluded.first_seen_at);
    if _record_card.account_id is not null then
        perform billing._judge_card(_record_card.card_fingerprint, _record_card.account_id);
    end if;
    return 'applied';
end
$$;

create function billing._record_cards_of_customer(stripe_customer_id text, account_id uuid)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_card_fingerprint text;
begin
    perform billing._lock_balance(_record_cards_of_customer.account_id);
    for v_card_fingerprint in
        select card_fingerprints.card_fingerprint from billing.card_fingerprints
        where card_fingerprints.stripe_customer_id = _record_cards_of_customer.stripe_customer_id
        order by 1
    loop
        perform billing._lock_card(v_card_fingerprint);
        update billing.card_fingerprints set account_id = _record_cards_of_customer.account_id
        where card_fingerprints.stripe_customer_id = _record_cards_of_customer.stripe_customer_id
            and card_fingerprints.card_fingerprint = v_card_fingerprint;
        perform billing._judge_card(v_card_fingerprint, _record_cards_of_customer.account_id);
    end loop;
end
$$;

create function billing.record_card(
    stripe_customer_id text, livemode boolean, card_fingerprint text, seen_at timestamptz
)
returns text
language sql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
    select billing._record_card(
        record_card.stripe_customer_id,
        billing._account_of_customer(record_card.stripe_customer_id, record_card.livemode),
        record_card.card_fingerprint, record_card.seen_at
    )
$$;

revoke all on function
    billing._lock_card, billing._give_held, billing._withdraw_for_review, billing._judge_credits, billing._judge_card,
    billing._record_card, billing._record_cards_of_customer, billing.record_card
from public, anon, authenticated, service_role;
grant execute on function billing.record_card(text, boolean, text, timestamptz) to billing_worker;

comment on function billing.record_card(text, boolean, text, timestamptz) is 'Stripe saw a card on a customer. Returns applied, or stale if an earlier sighting is known.';

-- 50_allocation/30_paid_time.sql

-- The lines of a paid invoice → periods of paid time (credit_schedules), and how the subscription's state affects them.
--
-- Invariant: calculated only from facts (lines, the subscription's row, its anchors), again whenever one of them
-- arrives, so their order makes no difference. A line whose price is not in billing.plans (TB010), or a customer that
-- is not linked to an account (TB011), stops the whole event, and DETAIL names what is missing. If only the
-- subscription can explain a line (a line of amount 0 may be a trial; the months of a year are counted from the
-- anchor), the line waits for the subscription's own event.
--
-- Private: called by _allocate_subscription and sync_invoice.

create function billing._plan_name(plan billing.plans)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return coalesce((_plan_name.plan).nickname, (
        select products.name from billing.products
        where products.stripe_product_id = (_plan_name.plan).stripe_product_id
    ));
end
$$;

-- The plan of a line. TB010 if the plan, or a product that may declare its credits, has not been synced.
create function billing._plan_of_line(stripe_id text, stripe_price_id text)
returns billing.plans
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_plan billing.plans;
begin
    if _plan_of_line.stripe_price_id is null then
        raise exception 'a line of % has no price', _plan_of_line.stripe_id
            using errcode = 'TB010', detail = _plan_of_line.stripe_id, hint = 'Grant the paid credits with `till credits grant`.';
    end if;
    select * into v_plan from billing.plans where plans.stripe_price_id = _plan_of_line.stripe_price_id;
    if not found then
        raise exception 'price % of % is not in billing.plans', _plan_of_line.stripe_price_id, _plan_of_line.stripe_id
            using errcode = 'TB010', detail = _plan_of_line.stripe_price_id,
            hint = 'Update the price in Stripe, so that its event adds the plan, or insert it into billing.plans. Then retry the event.';
    elsif v_plan.initial_credits + v_plan.monthly_credits + v_plan.trial_credits > 0 then
        return v_plan;
    elsif exists (
        -- The product may declare what the price doesn't, and has not been synced: sync_price created a placeholder.
        select from billing.products
        where products.stripe_product_id = v_plan.stripe_product_id and products.as_of = '-infinity'
            and products.name = products.stripe_product_id
    ) then
        raise exception 'product % of price % has not been synced yet', v_plan.stripe_product_id, v_plan.stripe_price_id
            using errcode = 'TB010', detail = v_plan.stripe_product_id,
            hint = 'Update the product in Stripe. Its event syncs the product, and this event is then retried automatically.';
    end if;
    return v_plan;
end
$$;

-- TB011 for a customer that is not linked to an account.
create function billing._raise_not_linked(invoice billing.invoices)
returns void
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    raise exception 'customer % of invoice % is not linked to an account',
        coalesce((_raise_not_linked.invoice).stripe_customer_id, 'null'), (_raise_not_linked.invoice).stripe_invoice_id
        using errcode = 'TB011', detail = coalesce((_raise_not_linked.invoice).stripe_customer_id, ''),
        hint = 'Call billing.link_customer(account_id, stripe_customer_id). The event is then retried automatically.';
end
$$;

-- Seats of a line: the quantity of a metered line is usage, not seats.
create function billing._seats(plan billing.plans, quantity bigint)
returns bigint
language sql
immutable
as $$
    select case when (plan).usage_type = 'metered' then 1 else coalesce(quantity, 1) end
$$;

-- Seats that a line gives back: if it credits several tiers, the seats of the paid tiers.
create function billing._seats_given_back(quantity bigint, credited_line_ids text[])
returns bigint
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return least(_seats_given_back.quantity, (
        select sum(paid.quantity)::bigint from billing.credit_schedules as paid
        where paid.stripe_line_id = any (_seats_given_back.credited_line_ids) and not paid.is_free
    ));
end
$$;

-- True if nothing was paid for a line: its amount minus its discounts is 0. If Stripe reports no discounts of lines, an
-- invoice with positive lines and a total of 0 was discounted as a whole.
create function billing._is_free(line billing.invoice_lines, invoice billing.invoices)
returns boolean
language sql
immutable
as $$
    select case
        when (line).discount is not null then (line).amount - (line).discount <= 0
        else (line).amount <= 0 or (invoice).total <= 0 and (invoice).subtotal > 0
    end
$$;

-- Records what the subscription lines of a paid invoice add and give back. Returns the earliest affected time; null:
-- none.
create function billing._record_paid_time(invoice billing.invoices, subscription billing.subscriptions)
returns timestamptz
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_invoice billing.invoices := _record_paid_time.invoice;
    v_subscription billing.subscriptions := _record_paid_time.subscription;
    v_line billing.invoice_lines;
    v_plan billing.plans;
    v_subscription_id text;
    v_anchor timestamptz;
    v_gives_back boolean;
    v_is_free boolean;
    v_from timestamptz;
    v_is_paid_already boolean;
    v_has_neighbours boolean;
    v_is_shared boolean := false;
begin
    for v_line in
        select * from billing.invoice_lines
        where invoice_lines.stripe_invoice_id = v_invoice.stripe_invoice_id
            and invoice_lines.stripe_subscription_item_id is not null
            and invoice_lines.period_end > invoice_lines.period_start
            -- Lines added by hand and usage that is billed early do not start a new month.
            and (invoice_lines.is_proration or v_invoice.billing_reason in (
                'subscription_create', 'subscription_cycle', 'subscription_update', 'quote_accept', 'subscription'
            ))
        order by invoice_lines.stripe_line_id
    loop
        v_subscription_id := coalesce(v_line.stripe_subscription_id, v_invoice.stripe_subscription_id);
        v_plan := billing._plan_of_line(v_invoice.stripe_invoice_id, v_line.stripe_price_id);
        if v_plan.initial_credits + v_plan.monthly_credits + v_plan.trial_credits = 0 then
            continue when not exists (
                select from billing.credit_terms
                where credit_terms.stripe_price_id = v_plan.stripe_price_id
                    and credit_terms.initial_credits + credit_terms.monthly_credits > 0
            );
        end if;
        continue when v_plan.usage_type = 'licensed' and v_line.quantity = 0;
        if v_invoice.account_id is null then
            perform billing._raise_not_linked(v_invoice);
        end if;
        if v_subscription.stripe_subscription_id is null and (
            v_line.amount = 0 or v_plan.rollover = 'periods'
            or (v_plan.recurring_interval, v_plan.recurring_interval_count) <> ('month', 1)
        ) then
            update billing.invoice_lines
            set is_waiting = true,
                -- Needed to find the line later; a line need not name its subscription.
                stripe_subscription_id = v_subscription_id
            where invoice_lines.stripe_line_id = v_line.stripe_line_id and not invoice_lines.is_waiting;
            continue;  -- _allocate_subscription comes back to it
        elsif v_line.is_waiting then
            update billing.invoice_lines set is_waiting = false
            where invoice_lines.stripe_line_id = v_line.stripe_line_id;
        end if;
        -- A trial is not paid time.
        continue when v_line.amount = 0 and v_line.period_start >= v_subscription.trial_start
            and v_line.period_start < v_subscription.trial_end;

        select
            coalesce(bool_or(
                others.stripe_subscription_item_id = v_line.stripe_subscription_item_id
                and others.period_start = v_line.period_start and others.period_end = v_line.period_end
                and not others.is_change and others.stripe_invoice_id <> v_invoice.stripe_invoice_id
            ), false),
            coalesce(bool_or(
                others.is_change or others.stripe_subscription_item_id = v_line.stripe_subscription_item_id
            ), false)
        into v_is_paid_already, v_has_neighbours
        from billing.credit_schedules as others
        where others.stripe_subscription_id = v_subscription_id
            and others.period_end > v_line.period_start and others.period_start < v_line.period_end
            and others.stripe_line_id <> v_line.stripe_line_id;
        -- Each period of an item counts once, even if a second invoice charges for it.
        continue when v_is_paid_already and not v_line.is_proration;

        v_anchor := billing._anchor_of_period(
            v_plan, coalesce(v_subscription.anchors, '{}'), v_line.period_start, v_line.period_end
        );
        v_gives_back := v_line.is_proration
            and (coalesce(cardinality(v_line.credited_line_ids), 0) > 0 or v_line.amount < 0);
        v_is_free := billing._is_free(v_line, v_invoice);
        insert into billing.credit_schedules (
            stripe_line_id, account_id, stripe_subscription_id, stripe_subscription_item_id, stripe_invoice_id,
            stripe_price_id, gives_back, is_change, is_free, is_plain, quantity, period_start, period_end, anchor,
            terms_from, paid_at, ends_at, next_slot_at
        )
        values (
            v_line.stripe_line_id, v_invoice.account_id, v_subscription_id,
            v_line.stripe_subscription_item_id, v_invoice.stripe_invoice_id, v_plan.stripe_price_id, v_gives_back,
            v_line.is_proration, v_gives_back or v_is_free, true, billing._seats(v_plan, v_line.quantity),
            v_line.period_start, v_line.period_end, v_anchor,
            case when v_gives_back then '-infinity' else v_line.period_start end,
            coalesce(v_invoice.paid_at, v_invoice.as_of), v_line.period_end,
            -- The first month is granted at once, so a paid line with only one month never falls due.
            case
                when v_gives_back then null
                when v_is_free or billing._first_slot(v_anchor, v_line.period_start + interval '1 microsecond')
                    < v_line.period_end then v_line.period_start
            end
        )
        on conflict on constraint credit_schedules_pkey do nothing;
        continue when not found;
        v_from := least(v_from, v_line.period_start);
        v_is_shared := v_is_shared or v_line.is_proration or v_has_neighbours;
    end loop;
    if v_is_shared then
        v_from := least(v_from, billing._match_credits(v_invoice.stripe_subscription_id, v_from));
    end if;
    return v_from;
end
$$;

-- For the changes of a subscription from a time on, finds the lines that give time back, and the line that each
-- credits. Stripe's proration details name it. Without them, it is the latest line of the same item and price whose
-- time continues at that moment; and a change with amount 0 gives back if its item, price and quantity were paid before
-- and another line of its item adds time. If Stripe credits money, time is given back even if nobody has paid for it
-- (its invoice is not paid yet, or a coupon paid), because the customer has the money. Nothing is given back for an
-- invoice that was voided or is unknown. Lines that share time with others are no longer plain. Returns the earliest
-- time from which months change.
create function billing._match_credits(stripe_subscription_id text, from_moment timestamptz)
returns timestamptz
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    -- Stripe finalizes and charges a renewal about an hour after it creates the draft.
    v_draft_time constant interval := '1 hour 15 minutes';
    v_change record;
    v_credited billing.credit_schedules;
    v_gives_back boolean;
    v_is_free boolean;
    v_is_unpaid boolean;
    v_quantity bigint;
    v_from timestamptz;
begin
    for v_change in
        select
            schedules.stripe_line_id, schedules.stripe_invoice_id, schedules.stripe_subscription_item_id,
            schedules.stripe_price_id, schedules.period_start, schedules.is_free,
            billing._seats(plans, lines.quantity) as quantity, lines.credited_line_ids, lines.amount,
            lines.amount >= coalesce(lines.discount, 0) as credits_no_money, lines.credited_invoice_id
        from billing.credit_schedules as schedules
        join billing.invoice_lines as lines on lines.stripe_line_id = schedules.stripe_line_id
        join billing.plans on plans.stripe_price_id = schedules.stripe_price_id
        where schedules.stripe_subscription_id = _match_credits.stripe_subscription_id and schedules.is_change
            and schedules.period_end > _match_credits.from_moment
            and (cardinality(lines.credited_line_ids) > 0 or lines.amount <= 0)
        order by schedules.period_start, lines.amount, schedules.stripe_line_id
    loop
        v_credited := null;
        if cardinality(v_change.credited_line_ids) > 0 then
            select * into v_credited from billing.credit_schedules as paid
            where paid.stripe_line_id = any (v_change.credited_line_ids)
                and paid.stripe_subscription_id = _match_credits.stripe_subscription_id
            order by paid.is_free, paid.period_start desc, paid.stripe_line_id
            limit 1;
        else
            select paid.* into v_credited from billing.credit_schedules as paid
            join billing.invoices on invoices.stripe_invoice_id = paid.stripe_invoice_id
            where paid.stripe_subscription_id = _match_credits.stripe_subscription_id
                and paid.stripe_subscription_item_id = v_change.stripe_subscription_item_id
                and paid.stripe_price_id = v_change.stripe_price_id and not paid.gives_back
                and paid.period_start <= v_change.period_start and paid.period_end > v_change.period_start
                and paid.stripe_line_id <> v_change.stripe_line_id
                -- Of its own invoice, only time that another change on it added.
                and (paid.stripe_invoice_id <> v_change.stripe_invoice_id or v_change.amount < 0 and paid.is_change)
                and (v_change.amount < 0 or paid.quantity = v_change.quantity)
                and (v_change.amount < 0 or exists (
                    select from billing.invoice_lines as added
                    where added.stripe_invoice_id = v_change.stripe_invoice_id and added.is_proration
                        and added.stripe_subscription_item_id = v_change.stripe_subscription_item_id
                        and added.stripe_line_id <> v_change.stripe_line_id and added.amount >= 0
                ))
            order by paid.quantity = v_change.quantity desc, paid.period_start desc, invoices.invoiced_at desc,
                paid.stripe_line_id
            limit 1;
        end if;
        v_quantity := billing._seats_given_back(v_change.quantity, v_change.credited_line_ids);
        v_gives_back := v_change.amount < 0 or coalesce(cardinality(v_change.credited_line_ids), 0) > 0
            or v_credited.stripe_line_id is not null;
        v_is_free := case
            when not v_gives_back then v_change.is_free
            when v_credited.stripe_line_id is not null then v_change.credits_no_money
            else v_change.credits_no_money or not exists (
                select from billing.invoices
                where invoices.stripe_invoice_id = v_change.credited_invoice_id
                    and (
                        invoices.status in ('open', 'uncollectible')
                        -- Later it has been charged, and the event of its payment or failure will arrive.
                        or invoices.status = 'draft' and v_change.period_start <= invoices.invoiced_at + v_draft_time
                    )
            )
        end;
        v_is_unpaid := v_gives_back and not v_is_free and v_credited.is_free is not false;
        update billing.credit_schedules
        set gives_back = v_gives_back,
            credited_line_id = v_credited.stripe_line_id,
            anchor = coalesce(v_credited.anchor, credit_schedules.anchor),
            terms_from = coalesce(v_credited.period_start, credit_schedules.terms_from),
            is_free = v_is_free,
            is_unpaid = v_is_unpaid,
            quantity = v_quantity,
            next_slot_at = case
                when not v_gives_back then coalesce(credit_schedules.next_slot_at, credit_schedules.period_start)
            end
        where credit_schedules.stripe_line_id = v_change.stripe_line_id
            and (
                credit_schedules.credited_line_id, credit_schedules.quantity, credit_schedules.is_free,
                credit_schedules.is_unpaid
            ) is distinct from (v_credited.stripe_line_id, v_quantity, v_is_free, v_is_unpaid);
        if found then
            v_from := least(v_from, v_change.period_start);
        end if;
    end loop;

    update billing.credit_schedules as schedules set is_plain = false
    where schedules.stripe_subscription_id = _match_credits.stripe_subscription_id and schedules.is_plain
        and schedules.period_end > _match_credits.from_moment
        and (schedules.is_change or exists (
            select from billing.credit_schedules as others
            where others.stripe_subscription_id = schedules.stripe_subscription_id
                and others.period_end > schedules.period_start and others.period_start < schedules.period_end
                and others.stripe_line_id <> schedules.stripe_line_id
                and (
                    others.is_change or others.stripe_subscription_item_id = schedules.stripe_subscription_item_id
                )
        ));
    return v_from;
end
$$;

-- Why later months of a subscription wait; null: they don't.
create function billing._waiting_reason(subscription billing.subscriptions, is_closed boolean)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    if _waiting_reason.is_closed then
        return 'account_closed';
    elsif (_waiting_reason.subscription).status in ('paused', 'unpaid') then
        return (_waiting_reason.subscription).status;
    elsif (_waiting_reason.subscription).status in ('incomplete', 'incomplete_expired') then
        return 'incomplete';
    elsif (_waiting_reason.subscription).is_collection_paused then
        return 'collection_paused';
    elsif exists (
        select from billing.customers
        where customers.stripe_customer_id = (_waiting_reason.subscription).stripe_customer_id
            and customers.deleted_at is not null
    ) then
        return 'customer_deleted';
    end if;
    return null;
end
$$;

-- Updates the schedules of a subscription to its state. Returns the earliest time from which months change; null: no
-- change. Periods that ended before anything that can change are not read. is_closed: the account's state. from_moment:
-- the time from which its lines have changed.
create function billing._arm_schedules(
    subscription billing.subscriptions, moment timestamptz, is_closed boolean, from_moment timestamptz default null
)
returns timestamptz
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_subscription billing.subscriptions := _arm_schedules.subscription;
    v_waiting text := billing._waiting_reason(v_subscription, _arm_schedules.is_closed);
    v_changes_from timestamptz := least(
        _arm_schedules.moment, v_subscription.ended_at, v_subscription.canceled_at, _arm_schedules.from_moment
    );
    v_schedule billing.credit_schedules;
    v_terms billing.credit_terms;
    v_ends_at timestamptz;
    v_disarmed_reason text;
    v_from timestamptz;
begin
    -- Row by row: only one or two rows of a subscription can change, and a set would be joined with all schedules.
    for v_schedule in
        select * from billing.credit_schedules
        where credit_schedules.stripe_subscription_id = v_subscription.stripe_subscription_id
            and credit_schedules.period_end > v_changes_from
        union all
        select * from billing.credit_schedules
        where credit_schedules.stripe_subscription_id = v_subscription.stripe_subscription_id
            and credit_schedules.next_slot_at is not null and credit_schedules.period_end <= v_changes_from
    loop
        v_ends_at := least(v_schedule.period_end, v_subscription.ended_at);
        if v_subscription.canceled_at < v_ends_at then
            v_terms := billing._terms_at(v_schedule.stripe_price_id, v_subscription.canceled_at);
            if v_terms.cancel_credits = 'stop' then
                v_ends_at := v_subscription.canceled_at;
            end if;
        end if;
        if v_schedule.is_free and not v_schedule.gives_back and not v_schedule.is_plain then
            select least(v_ends_at, min(greatest(credits.period_start, credits.paid_at))) into v_ends_at
            from billing.credit_schedules as credits
            join billing.invoice_lines on invoice_lines.stripe_line_id = credits.stripe_line_id
            where credits.stripe_subscription_id = v_subscription.stripe_subscription_id
                and (
                    credits.credited_line_id = v_schedule.stripe_line_id
                    or v_schedule.stripe_line_id = any (invoice_lines.credited_line_ids)
                );
        end if;
        v_disarmed_reason := v_waiting;
        if v_waiting is null and v_schedule.has_returns then
            select 'disputed' into v_disarmed_reason from billing.invoices
            where invoices.stripe_invoice_id = v_schedule.stripe_invoice_id and invoices.amount_contested > 0;
        end if;
        if v_ends_at = v_schedule.ends_at and v_disarmed_reason is not distinct from v_schedule.disarmed_reason then
            continue;
        end if;

        update billing.credit_schedules
        set ends_at = v_ends_at,
            disarmed_reason = v_disarmed_reason,
            next_slot_at = case
                when v_schedule.gives_back then null
                -- The first month to recalculate; _allocate_slots moves it forward.
                when v_ends_at <> v_schedule.ends_at then least(
                    v_schedule.next_slot_at, greatest(v_schedule.period_start, least(v_ends_at, v_schedule.ends_at))
                )
                else v_schedule.next_slot_at
            end
        where credit_schedules.stripe_line_id = v_schedule.stripe_line_id;
        if v_ends_at <> v_schedule.ends_at then
            v_from := least(v_from, greatest(v_schedule.period_start, least(v_ends_at, v_schedule.ends_at)));
        end if;
    end loop;
    return v_from;
end
$$;

revoke all on function
    billing._plan_name, billing._plan_of_line, billing._raise_not_linked, billing._seats, billing._seats_given_back, billing._is_free,
    billing._record_paid_time, billing._match_credits, billing._waiting_reason, billing._arm_schedules
from public, anon, authenticated, service_role;

-- 50_allocation/32_worth.sql

-- Facts → worth: the credits that subscriptions have paid for, as moves of credits.
--
-- Invariant: pure, and the only place with these rules, for one subscription or ten thousand, for an event or the
-- clock. Everything that one subscription item adds and gives back at one time is added up exactly and rounded down. A
-- sum below zero is offset by the credits of other items of the subscription at that time, and the rest is taken back.
-- Free credits are granted once for each account, product and calendar month. Returned money reduces the worth of
-- months.
--
-- Private: called by _allocate_slots and entitlement_discrepancies.

create type billing.credit_move as (
    key text,
    account_id uuid,
    stripe_subscription_id text,
    stripe_subscription_item_id text,
    stripe_invoice_id text,
    stripe_price_id text,
    source text,
    moment timestamptz,
    slot_start timestamptz,
    credits bigint,            -- below zero: to be taken back
    returned bigint,           -- how much less it is, because money was returned
    expires_at timestamptz,
    rollover text,
    rollover_cap bigint,
    is_waiting boolean
);

create function billing._moment_text(moment timestamptz)
returns text
language sql
stable
as $$
    select pg_catalog.to_char(moment at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
$$;

-- The credits that an invoice's months lose because its money was returned (with_contested: as if open disputes were
-- lost). moment null: the initial credits of the invoice, or a pack (with its key in place of the item). Each line
-- loses its share of the returned money, first from months that start after the return or never started, in proportion,
-- then from the others; rounded down in total.
create function billing._returned_credits(stripe_invoice_id text, with_contested boolean default false)
returns table (stripe_subscription_item_id text, moment timestamptz, credits bigint)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_invoice billing.invoices;
    v_price numeric;
    v_listed numeric;
    v_return billing.returned_money;
    v_line_ids text[];
    v_line_prices numeric[];
    v_line_worths numeric[];
    v_line_returned numeric[];
    v_line_gone numeric[];
    v_slot_lines integer[];
    v_slot_items text[];
    v_slot_moments timestamptz[];
    v_slot_unused boolean[];
    v_slot_worths numeric[];
    v_slot_left numeric[];
    v_spread numeric := 0;
    v_by_line numeric := 0;
    v_gone numeric;
    v_later numeric;
    v_part numeric;
begin
    select * into v_invoice from billing.invoices
    where invoices.stripe_invoice_id = _returned_credits.stripe_invoice_id;
    v_price := billing._price_of_invoice(v_invoice);
    if v_price is null or v_price <= 0 then
        return;
    end if;
    select coalesce(sum(lines.amount - coalesce(lines.discount, 0)), 0) into v_listed from billing.invoice_lines as lines
    where lines.stripe_invoice_id = v_invoice.stripe_invoice_id;

    -- Every month of every line; the initial credits count as one more month of the line that granted them.
    with found as (
        select
            months.*, months.whole_credits * months.line_seconds / months.slot_seconds as credits,
            months.gives_back and months.moment > months.slot_start as is_cut,
            months.proration_credits = 'none' and months.moment > months.slot_start and not months.gives_back
                as is_not_counted
        from billing._slots_of_lines('{}', '-infinity', 'infinity', v_invoice.stripe_invoice_id) as months
        where not months.is_free
    ),
    slots as (
        select
            found.stripe_line_id, found.stripe_subscription_item_id as item_id, found.moment,
            not found.is_reached as is_unused,
            case
                -- It offsets what was given back, at most.
                when found.is_not_counted then coalesce(
                    found.credits * least(
                        -sum(found.credits) filter (where found.is_cut) over together,
                        sum(found.credits) filter (where found.is_not_counted) over together
                    ) / nullif(sum(found.credits) filter (where found.is_not_counted) over together, 0), 0
                ) * (count(*) filter (where found.is_cut) over together > 0)::integer
                else found.credits
            end as worth
        from found
        window together as (partition by found.stripe_subscription_id, found.moment)
        union all
        select
            (
                select min(schedules.stripe_line_id) from billing.credit_schedules as schedules
                where schedules.stripe_invoice_id = v_invoice.stripe_invoice_id and not schedules.gives_back
                    and schedules.stripe_subscription_item_id = lots.stripe_subscription_item_id
            ),
            lots.stripe_subscription_item_id, null, false, sum(lots.amount)
        from billing.credit_grants as lots
        where lots.stripe_invoice_id = v_invoice.stripe_invoice_id and lots.key_space = 'stripe'
            and lots.idempotency_key ^@ 'initial:'
            and not exists (
                select from billing.credit_schedules as free
                where free.stripe_invoice_id = v_invoice.stripe_invoice_id and free.is_free
                    and free.stripe_subscription_item_id = lots.stripe_subscription_item_id
            )
        group by lots.stripe_subscription_item_id
        union all
        select purchases.stripe_line_id, purchases.business_key, null, false, purchases.credits
        from billing.pack_purchases as purchases
        where purchases.stripe_invoice_id = v_invoice.stripe_invoice_id and purchases.stripe_line_id is not null
            and purchases.price > 0
    ),
    lines as (
        select
            slots.stripe_line_id, sum(slots.worth) as worth,
            case when v_listed > 0 then v_price * max(invoice_lines.amount - coalesce(invoice_lines.discount, 0)) / v_listed end
                as price,
            row_number() over (order by slots.stripe_line_id)::integer as place
        from slots
        left join billing.invoice_lines on invoice_lines.stripe_line_id = slots.stripe_line_id
        group by slots.stripe_line_id
    )
    select
        (select array_agg(lines.stripe_line_id order by lines.place) from lines),
        (select array_agg(lines.price order by lines.place) from lines),
        (select array_agg(lines.worth order by lines.place) from lines),
        array_agg(lines.place order by slots.moment nulls first, slots.item_id, slots.stripe_line_id),
        array_agg(slots.item_id order by slots.moment nulls first, slots.item_id, slots.stripe_line_id),
        array_agg(slots.moment order by slots.moment nulls first, slots.item_id, slots.stripe_line_id),
        array_agg(slots.is_unused order by slots.moment nulls first, slots.item_id, slots.stripe_line_id),
        array_agg(slots.worth order by slots.moment nulls first, slots.item_id, slots.stripe_line_id)
    into
        v_line_ids, v_line_prices, v_line_worths, v_slot_lines, v_slot_items, v_slot_moments, v_slot_unused,
        v_slot_worths
    from slots join lines on lines.stripe_line_id is not distinct from slots.stripe_line_id;
    if v_line_ids is null then
        return;
    end if;
    v_slot_left := v_slot_worths;
    v_line_returned := array_fill(0::numeric, array[cardinality(v_line_ids)]);
    v_line_gone := v_line_returned;

    for v_return in
        select * from billing._returns_of_invoice(v_invoice.stripe_invoice_id) as returns
        where _returned_credits.with_contested or not returns.is_contested
        order by returns.is_contested, returns.returned_at, returns.stripe_line_id, returns.amount
    loop
        if v_return.stripe_line_id is null or v_listed <= 0 then
            v_spread := least(v_spread + v_return.amount, v_price - v_by_line);
        else
            v_by_line := least(v_by_line + v_return.amount, v_price);
            v_spread := least(v_spread, v_price - v_by_line);
        end if;
        for place in 1 .. cardinality(v_line_ids) loop
            if v_line_ids[place] = v_return.stripe_line_id then
                v_line_returned[place] := v_line_returned[place] + v_return.amount;
            end if;
            v_part := 1;
            if v_line_prices[place] > 0 then
                v_part := greatest(1 - v_line_returned[place] / v_line_prices[place], 0);
            end if;
            if v_by_line < v_price then
                v_part := v_part * (v_price - v_by_line - v_spread) / (v_price - v_by_line);
            end if;
            v_gone := v_line_worths[place] * (1 - v_part) - v_line_gone[place];
            continue when v_gone = 0;
            v_line_gone[place] := v_line_gone[place] + v_gone;
            select coalesce(sum(slots.worth), 0) into v_later
            from unnest(v_slot_lines, v_slot_moments, v_slot_unused, v_slot_left) as slots (line, moment, is_unused, worth)
            where slots.line = place and (slots.moment > v_return.returned_at or slots.is_unused);
            for slot in 1 .. cardinality(v_slot_left) loop
                continue when v_slot_lines[slot] <> place;
                if v_slot_unused[slot] or coalesce(v_slot_moments[slot] > v_return.returned_at, false) then
                    if v_later <> 0 then
                        v_slot_left[slot] := v_slot_left[slot] * (1 - least(v_gone / v_later, 1));
                    end if;
                elsif abs(v_gone) > abs(v_later) and v_line_worths[place] - v_line_gone[place] + v_gone - v_later <> 0 then
                    v_slot_left[slot] := v_slot_left[slot] * (
                        1 - (v_gone - v_later) / (v_line_worths[place] - v_line_gone[place] + v_gone - v_later)
                    );
                end if;
            end loop;
        end loop;
    end loop;

    -- Rounds the running total down; each part is the difference between its end and its start.
    return query
    select
        parts.item_id, parts.moment, (floor(round(parts.so_far, 9)) - floor(round(parts.so_far - parts.gone, 9)))::bigint
    from (
        select
            sums.item_id, sums.moment, sums.gone,
            sum(sums.gone) over (order by sums.moment nulls first, sums.item_id rows unbounded preceding) as so_far
        from (
            select slots.item_id, slots.moment, sum(slots.worth - slots.worth_left) as gone
            from unnest(v_slot_items, v_slot_moments, v_slot_worths, v_slot_left)
                as slots (item_id, moment, worth, worth_left)
            group by slots.item_id, slots.moment
        ) as sums
    ) as parts
    where floor(round(parts.so_far, 9)) <> floor(round(parts.so_far - parts.gone, 9));
end
$$;

-- Moves of plain lines, the common case: no other line shares their months.
create function billing._plain_worth(
    stripe_subscription_ids text[], from_moment timestamptz, until_moment timestamptz
)
returns setof billing.credit_move
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select
        case when slots.moment > slots.slot_start then 'proration:' else 'monthly:' end
            || slots.stripe_subscription_item_id || ':' || billing._moment_text(slots.moment),
        slots.account_id, slots.stripe_subscription_id, slots.stripe_subscription_item_id,
        slots.stripe_invoice_id, slots.stripe_price_id,
        case when slots.moment > slots.slot_start then 'stripe.proration' else 'stripe.monthly_allocation' end,
        slots.moment, slots.slot_start,
        case
            when not slots.is_reached then 0
            when slots.moment > slots.slot_start and slots.proration_credits = 'none' then 0
            else floor(slots.whole_credits * slots.line_seconds / slots.slot_seconds)::bigint
        end,
        0::bigint, slots.expires_at, slots.rollover, slots.rollover_cap, slots.is_waiting
    from billing._slots_of_lines(
        _plain_worth.stripe_subscription_ids, _plain_worth.from_moment, _plain_worth.until_moment
    ) as slots
    where billing._is_plain(slots) and slots.moment >= _plain_worth.from_moment;
end
$$;

create function billing._is_plain(slot billing.line_slot)
returns boolean
language sql
immutable
as $$
    select (slot).is_plain and not (slot).is_free and not (slot).has_returns
$$;

-- The moves of subscriptions between two times. Months that are not reached are moves of 0 credits, so that credits
-- granted for them earlier are taken back.
create function billing._worth(
    stripe_subscription_ids text[], from_moment timestamptz, until_moment timestamptz
)
returns setof billing.credit_move
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_free_account_ids uuid[];
    -- All free claims of a calendar month count, even those of months of credits that have ended.
    v_free_from timestamptz := date_trunc('month', _worth.from_moment - interval '1 month', 'UTC');
begin
    return query
    select * from billing._plain_worth(_worth.stripe_subscription_ids, _worth.from_moment, _worth.until_moment);
    if not exists (
        select from billing.credit_schedules
        where credit_schedules.stripe_subscription_id = any (_worth.stripe_subscription_ids)
            and credit_schedules.period_end > _worth.from_moment
            and (
                not credit_schedules.is_plain or credit_schedules.is_free or credit_schedules.has_returns
            )
    ) then
        return;
    end if;
    select array_agg(distinct credit_schedules.account_id) into v_free_account_ids from billing.credit_schedules
    where credit_schedules.stripe_subscription_id = any (_worth.stripe_subscription_ids) and credit_schedules.is_free
        and credit_schedules.period_end > _worth.from_moment;

    return query
    with slots as materialized (
        select * from billing._slots_of_lines(
            _worth.stripe_subscription_ids,
            case when v_free_account_ids is null then _worth.from_moment else v_free_from end,
            _worth.until_moment, null, v_free_account_ids
        )
    ),
    shared as (
        select
            slots.*,
            slots.moment > slots.slot_start as is_part,
            case
                -- A free line gives nothing back; an earlier event may have counted it.
                when not slots.is_reached or slots.is_free then 0
                else slots.whole_credits * slots.line_seconds
            end as credit_seconds
        from slots
        where (slots.gives_back or not slots.is_free) and not billing._is_plain(slots)
    ),
    -- Exact for months of equal length: adds up first, then divides.
    by_length as (
        select
            shared.stripe_subscription_id, shared.stripe_subscription_item_id, shared.moment, shared.slot_seconds,
            sum(shared.credit_seconds) filter (
                where shared.gives_back or not shared.is_part or shared.proration_credits <> 'none'
            ) / shared.slot_seconds as counted,
            sum(shared.credit_seconds) filter (where shared.gives_back and shared.is_part) / shared.slot_seconds as given_back,
            sum(shared.credit_seconds) filter (
                where not shared.gives_back and shared.is_part and shared.proration_credits = 'none'
            ) / shared.slot_seconds as not_counted,
            bool_or(shared.gives_back) as has_credits,
            bool_or(shared.is_reached) as is_reached,
            bool_or(shared.is_waiting) filter (where not shared.gives_back) as is_waiting,
            min(shared.slot_start) filter (where shared.gives_back) as credited_from,
            bool_or(shared.downgrade_credits = 'keep') as is_kept
        from shared
        where shared.moment >= _worth.from_moment
        group by 1, 2, 3, 4
    ),
    by_item as (
        select
            by_length.stripe_subscription_id, by_length.stripe_subscription_item_id, by_length.moment,
            bool_or(by_length.is_reached) as is_reached, bool_or(by_length.is_waiting) as is_waiting,
            sum(by_length.counted) as counted, sum(by_length.given_back) as given_back,
            sum(sum(by_length.given_back)) over together as all_given_back,
            sum(sum(by_length.not_counted)) over together as all_not_counted,
            bool_or(by_length.has_credits) as is_credited,
            bool_or(bool_or(by_length.has_credits)) over together as has_credits,
            min(min(by_length.credited_from)) over together as credited_from,
            bool_or(bool_or(by_length.is_kept)) over together as is_kept
        from by_length
        group by 1, 2, 3
        window together as (partition by by_length.stripe_subscription_id, by_length.moment)
    ),
    returned as (
        select credits.stripe_subscription_item_id, credits.moment, sum(credits.credits)::bigint as credits
        from (
            select distinct shared.stripe_invoice_id from shared where shared.has_returns
        ) as invoices
        cross join lateral billing._returned_credits(invoices.stripe_invoice_id) as credits
        where credits.moment is not null
        group by 1, 2
    ),
    -- A change to a plan with credits_on_proration=none offsets what was given back, at most. The offset part is
    -- exactly what is not taken back.
    rounded as (
        select
            by_item.stripe_subscription_id, by_item.stripe_subscription_item_id, by_item.moment, by_item.has_credits,
            by_item.is_credited, by_item.is_waiting, by_item.credited_from, by_item.is_kept, coalesce(returned.credits, 0) as returned,
            floor(round(coalesce(by_item.counted, 0) + coalesce(
                -by_item.given_back * least(coalesce(by_item.all_not_counted, 0) / nullif(-by_item.all_given_back, 0), 1), 0
            ), 9))::bigint - coalesce(returned.credits, 0) as credits
        from by_item
        -- Months that never start have nothing to lose.
        left join returned
            on by_item.is_reached and returned.stripe_subscription_item_id = by_item.stripe_subscription_item_id
            and returned.moment = by_item.moment
    ),
    offset_by_others as (
        select
            rounded.*,
            coalesce(sum(greatest(rounded.credits, 0)) over (
                together order by rounded.stripe_subscription_item_id
                rows between unbounded preceding and 1 preceding
            ), 0) as before,
            -- While a month waits, its negative sum waits too.
            -coalesce(sum(least(rounded.credits, 0)) filter (where rounded.is_waiting is not true) over together, 0)
                as below_zero,
            coalesce(sum(greatest(rounded.credits, 0)) over together, 0) as above_zero
        from rounded
        window together as (partition by rounded.stripe_subscription_id, rounded.moment)
    ),
    -- The line that pays for a move: the one of the item that was bought last.
    payers as (
        select distinct on (shared.stripe_subscription_id, shared.stripe_subscription_item_id, shared.moment) shared.*
        from shared
        where shared.moment >= _worth.from_moment
        order by
            shared.stripe_subscription_id, shared.stripe_subscription_item_id, shared.moment, shared.gives_back,
            shared.is_part, shared.period_start desc, shared.stripe_line_id desc
    ),
    netted as (
        select
            case when payers.is_part then 'proration:' else 'monthly:' end || payers.stripe_subscription_item_id || ':'
                || billing._moment_text(payers.moment),
            payers.account_id, payers.stripe_subscription_id, payers.stripe_subscription_item_id,
            payers.stripe_invoice_id, payers.stripe_price_id,
            case when payers.is_part then 'stripe.proration' else 'stripe.monthly_allocation' end, payers.moment,
            payers.slot_start,
            (greatest(offset_by_others.credits, 0) - least(
                greatest(offset_by_others.credits, 0),
                greatest(offset_by_others.below_zero - offset_by_others.before, 0)
            ))::bigint,
            offset_by_others.returned, payers.expires_at, payers.rollover, payers.rollover_cap, payers.is_waiting
        from offset_by_others
        join payers using (stripe_subscription_id, stripe_subscription_item_id, moment)
        where not payers.gives_back
    ),
    -- What is given back beyond everything that the subscription adds at that time.
    credited as (
        select distinct on (payers.stripe_subscription_id, payers.moment)
            'credited:' || payers.stripe_subscription_id || ':' || billing._moment_text(payers.moment),
            payers.account_id, payers.stripe_subscription_id, payers.stripe_subscription_item_id,
            payers.stripe_invoice_id, payers.stripe_price_id, 'stripe.proration', payers.moment,
            offset_by_others.credited_from,
            case
                when offset_by_others.is_kept then 0
                else least(offset_by_others.above_zero - offset_by_others.below_zero, 0)
            end::bigint,
            0::bigint, null::timestamptz, payers.rollover, payers.rollover_cap, false
        from offset_by_others
        join payers using (stripe_subscription_id, stripe_subscription_item_id, moment)
        where offset_by_others.has_credits
        order by
            payers.stripe_subscription_id, payers.moment, payers.gives_back desc, offset_by_others.is_credited desc,
            payers.stripe_subscription_item_id
    ),
    unpaid as (
        select
            slots.account_id, slots.stripe_subscription_id, slots.moment, plans.stripe_product_id,
            case
                when plans.recurring_interval in ('day', 'week') then date_bin(
                    make_interval(days => plans.recurring_interval_count * case plans.recurring_interval when 'week' then 7 else 1 end),
                    slots.slot_start, '1970-01-05Z'
                )
                else date_trunc('month', slots.slot_start, 'UTC')
            end as bucket,
            floor(sum(
                case
                    when not slots.is_reached then 0
                    when slots.moment > slots.slot_start and slots.proration_credits = 'none' then 0
                    else slots.whole_credits * slots.line_seconds / slots.slot_seconds
                end
            ))::bigint as credits,
            (array_agg(
                row(slots.*)::billing.line_slot order by slots.period_start desc, slots.stripe_line_id desc
            ))[1] as payer
        from slots
        join billing.plans on plans.stripe_price_id = slots.stripe_price_id
        where slots.is_free and not slots.gives_back
        -- Tiers of one purchase are one claim; a line that replaces another is a separate claim.
        group by 1, 2, 3, 4, 5, slots.stripe_invoice_id, slots.stripe_subscription_item_id, slots.period_start
    ),
    given as (
        select distinct on (unpaid.account_id, unpaid.stripe_product_id, unpaid.bucket)
            'free:' || unpaid.account_id || ':' || unpaid.stripe_product_id || ':'
                || to_char(unpaid.bucket at time zone 'utc', 'YYYY-MM-DD'),
            unpaid.account_id, unpaid.stripe_subscription_id, (unpaid.payer).stripe_subscription_item_id,
            (unpaid.payer).stripe_invoice_id, (unpaid.payer).stripe_price_id,
            case when unpaid.moment > (unpaid.payer).slot_start then 'stripe.proration' else 'stripe.monthly_allocation' end,
            unpaid.moment, (unpaid.payer).slot_start, unpaid.credits, 0::bigint, (unpaid.payer).expires_at,
            (unpaid.payer).rollover, (unpaid.payer).rollover_cap, (unpaid.payer).is_waiting
        from unpaid
        where unpaid.bucket >= v_free_from
        order by
            unpaid.account_id, unpaid.stripe_product_id, unpaid.bucket, unpaid.credits desc, unpaid.moment,
            unpaid.stripe_subscription_id
    )
    select * from netted
    union all
    select * from credited
    union all
    select * from given;
end
$$;

revoke all on function
    billing._moment_text, billing._returned_credits, billing._is_plain, billing._plain_worth, billing._worth
from public, anon, authenticated, service_role;

-- 50_allocation/34_take_back.sql

-- Credits that are worth less than was granted → revoked from the lots of one payment or one month.
--
-- Invariant: all unspent credits of the lots are taken before there is a shortfall. The shortfall is what was spent beyond what
-- the lots are still worth; credits that expired unspent count as unspent. A revocation has the business key that is worth less,
-- whichever lot it took from. The shortfall follows settings.shortfall_policy or, if the money is on the customer's balance in
-- Stripe, is carried against what invoices pay for later.
--
-- carried_credits   below zero: spent credits of time that was credited back; above zero: credits by which later grants were
--                   reduced. credit_balances.carried is the rest.
-- Only functions write; service_role reads. Private. The caller has locked the balance.

create table billing.carried_credits (
    business_key text primary key,
    account_id uuid not null references billing.accounts (id),
    amount bigint not null,
    created_at timestamptz not null default now(),
    constraint amount_is_not_zero check (amount <> 0)
);

create index carried_credits_account on billing.carried_credits (account_id);

alter table billing.carried_credits enable row level security;
revoke all on billing.carried_credits from public, anon, authenticated, service_role;
grant select on billing.carried_credits to service_role;

-- The credits that the ledger has for a business key: granted, minus carried and revoked.
create function billing._posted_credits(account_id uuid, business_key text)
returns bigint
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_posted bigint := 0;
    v_amount bigint;
    v_number integer := 1;
begin
    -- Further lots of one key are numbered: key#2, key#3.
    loop
        select credit_grants.amount into v_amount from billing.credit_grants
        where credit_grants.key_space = 'stripe' and credit_grants.idempotency_key = case
            when v_number = 1 then _posted_credits.business_key
            else format('%s#%s', _posted_credits.business_key, v_number)
        end;
        exit when not found;
        v_posted := v_posted + v_amount;
        v_number := v_number + 1;
    end loop;
    return v_posted
        + coalesce((
            select carried_credits.amount from billing.carried_credits
            where carried_credits.business_key = _posted_credits.business_key
        ), 0)
        - coalesce((
            select sum(billing._asked_back(credit_revocations)) from billing.credit_revocations
            where credit_revocations.business_key = _posted_credits.business_key
        ), 0);
end
$$;

-- The idempotency key for the next lot of a business key.
create function billing._next_lot_key(business_key text)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_number integer := 1;
    v_key text := _next_lot_key.business_key;
begin
    while exists (
        select from billing.credit_grants
        where credit_grants.key_space = 'stripe' and credit_grants.idempotency_key = v_key
    ) loop
        v_number := v_number + 1;
        v_key := format('%s#%s', _next_lot_key.business_key, v_number);
    end loop;
    return v_key;
end
$$;

-- Revokes an amount from lots, in their order, for a business key.
create function billing._take_back(
    account_id uuid, business_key text, amount bigint, grant_ids bigint[], shortfall_policy text, reason text
)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_left bigint := _take_back.amount;
    v_uncarried bigint;
    v_lot billing.credit_grants;
    v_part bigint;
    v_granted bigint;
    v_asked bigint;
    v_spent bigint;
    v_open bigint;
    v_by_hand bigint;
    v_lapsed bigint[];
    v_free bigint[];
    v_revocable bigint[];
    v_shortfall bigint;
    v_rest bigint;
    v_beyond bigint;
begin
    perform billing._lock_settled_balance(_take_back.account_id);
    -- From each lot first the credits that expired unspent: they are requested but not taken, because that many fewer
    -- would have expired. Then the free credits. Then the rest, up to what is still revocable: requested but not taken.
    select
        sum(lots.amount), sum(billing._spent_of_lot(lots)), sum(lots.amount - billing._revocable(lots)),
        sum(billing._open_shortfall(lots.id)), sum(billing._revoked_by_hand(lots.id)),
        array_agg(least(billing._lapsed_of_lot(lots), billing._revocable(lots)) order by wanted.place),
        array_agg(lots.remaining - lots.held order by wanted.place),
        array_agg(billing._revocable(lots) order by wanted.place)
    into v_granted, v_spent, v_asked, v_open, v_by_hand, v_lapsed, v_free, v_revocable
    from unnest(_take_back.grant_ids) with ordinality as wanted (id, place)
    join billing.credit_grants as lots on lots.id = wanted.id;
    v_free := coalesce(v_free, '{}');
    v_shortfall := v_left;
    for place in 1 .. cardinality(v_free) loop
        v_lapsed[place] := least(v_lapsed[place], v_shortfall);
        v_shortfall := v_shortfall - v_lapsed[place];
        v_free[place] := least(v_free[place], v_revocable[place] - v_lapsed[place], v_shortfall);
        v_shortfall := v_shortfall - v_free[place];
    end loop;
    v_rest := v_shortfall;
    -- Then the credits by which this key was reduced for carried ones: they are carried again.
    select least(v_rest, carried_credits.amount) into v_uncarried from billing.carried_credits
    where carried_credits.business_key = _take_back.business_key and carried_credits.amount > 0;
    if v_uncarried > 0 then
        perform billing._carry(_take_back.account_id, _take_back.business_key, -v_uncarried);
        v_rest := v_rest - v_uncarried;
        v_left := v_left - v_uncarried;
    end if;
    v_shortfall := least(v_rest, greatest(v_spent - (v_granted - v_asked - v_left) - v_open, 0));
    if _take_back.shortfall_policy = 'carry' then
        -- The money is on the customer's balance: everything is carried, except what a person revoked.
        v_shortfall := v_rest - least(v_rest, coalesce(v_by_hand, 0));
        perform billing._carry(_take_back.account_id, _take_back.business_key, -v_shortfall);
        v_rest := v_rest - v_shortfall;
        v_shortfall := 0;
    elsif v_rest > 0 then
        -- More than the lots' revocable credits: they were already taken for credited time, so the money was returned
        -- twice.
        v_beyond := greatest(v_left - (
            select coalesce(sum(revocable), 0) from unnest(v_revocable) as revocable
        ) - coalesce(v_by_hand, 0), 0);
        if v_beyond > 0 then
            perform billing._carry(_take_back.account_id, _take_back.business_key, -v_beyond);
            v_rest := v_rest - v_beyond;
            v_shortfall := least(v_shortfall, v_rest);
        end if;
    end if;

    for place in 1 .. cardinality(v_free) loop
        v_part := v_lapsed[place] + v_free[place]
            + least(v_rest, v_revocable[place] - v_lapsed[place] - v_free[place]);
        continue when v_part = 0;
        select * into strict v_lot from billing.credit_grants where credit_grants.id = _take_back.grant_ids[place];
        perform billing._write_revocation(
            v_lot, v_part, v_free[place], least(v_shortfall, v_part - v_lapsed[place] - v_free[place]), 'stripe',
            billing._next_revocation_key(v_lot.id),
            case _take_back.shortfall_policy when 'carry' then 'clamp_and_record' else _take_back.shortfall_policy end,
            _take_back.reason, 'tillbase',
            _take_back.business_key
        );
        v_part := v_part - v_lapsed[place] - v_free[place];
        v_shortfall := v_shortfall - least(v_shortfall, v_part);
        v_rest := v_rest - v_part;
    end loop;
end
$$;

-- Credits of a lot that expired unspent and were not yet revoked.
create function billing._lapsed_of_lot(lot billing.credit_grants)
returns bigint
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select greatest(
        (_lapsed_of_lot.lot).amount - (_lapsed_of_lot.lot).remaining
        - (billing._spent_of_lot(_lapsed_of_lot.lot) - (_lapsed_of_lot.lot).held)
        - coalesce(sum(
            -- A shortfall may be reinstated too, beyond what was taken.
            greatest(credit_revocations.taken - credit_revocations.reinstated, 0)
            + credit_revocations.requested - credit_revocations.taken - credit_revocations.shortfall
            -- A shortfall that was only recorded is voided before expired credits.
            - greatest(credit_revocations.voided - case credit_revocations.shortfall_policy
                when 'clamp_and_record' then credit_revocations.shortfall else 0
            end, 0)
        ), 0)::bigint, 0
    )
    from billing.credit_revocations where credit_revocations.grant_id = (_lapsed_of_lot.lot).id
$$;

-- Credits of a lot that a person revoked.
create function billing._revoked_by_hand(grant_id bigint)
returns bigint
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select coalesce(sum(credit_revocations.taken - credit_revocations.reinstated), 0)::bigint
    from billing.credit_revocations
    where credit_revocations.grant_id = _revoked_by_hand.grant_id and credit_revocations.business_key is null
$$;

-- Credits of a lot that can still be revoked.
create function billing._revocable(lot billing.credit_grants)
returns bigint
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select (_revocable.lot).amount - coalesce(sum(billing._asked_back(credit_revocations)), 0)::bigint
    from billing.credit_revocations where credit_revocations.grant_id = (_revocable.lot).id
$$;

create function billing._next_revocation_key(grant_id bigint)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select format('returned:%s:%s', _next_revocation_key.grant_id, count(*)) from billing.credit_revocations
    where credit_revocations.grant_id = _next_revocation_key.grant_id and credit_revocations.key_space = 'stripe'
$$;

-- Records that a key was reduced for carried credits (above zero), or that its spent credits are carried (below zero).
create function billing._carry(account_id uuid, business_key text, amount bigint)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_amount bigint := _carry.amount + coalesce((
        select carried_credits.amount from billing.carried_credits
        where carried_credits.business_key = _carry.business_key
    ), 0);
begin
    delete from billing.carried_credits where carried_credits.business_key = _carry.business_key;
    if v_amount <> 0 then
        insert into billing.carried_credits (business_key, account_id, amount)
        values (_carry.business_key, _carry.account_id, v_amount);
    end if;
    update billing.credit_balances set carried = credit_balances.carried - _carry.amount, updated_at = now()
    where credit_balances.account_id = _carry.account_id;
end
$$;

-- Deducts carried credits from those that a key is about to grant. Returns the rest.
create function billing._less_carried(account_id uuid, business_key text, amount bigint)
returns bigint
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_carried bigint := (
        select least(credit_balances.carried, _less_carried.amount) from billing.credit_balances
        where credit_balances.account_id = _less_carried.account_id
    );
begin
    if v_carried > 0 then
        perform billing._carry(_less_carried.account_id, _less_carried.business_key, v_carried);
    end if;
    return _less_carried.amount - v_carried;
end
$$;

-- A key is worth more than the ledger has for it: restores what was revoked for it, the newest revocation first. A
-- shortfall that was only recorded restores nothing; carried credits stop being carried. Returns the part for which
-- nothing had been revoked: the caller grants it.
create function billing._give_back(account_id uuid, business_key text, amount bigint)
returns bigint
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_left bigint := _give_back.amount;
    v_to_grant bigint := 0;
    v_revocation billing.credit_revocations;
    v_part bigint;
    v_given bigint;
begin
    -- Credits that are still carried stop being carried. If later grants were already reduced for them, the reduction
    -- stays recorded, and as many credits are granted.
    select least(v_left, -carried_credits.amount) into v_part from billing.carried_credits
    where carried_credits.business_key = _give_back.business_key and carried_credits.amount < 0;
    if v_part > 0 then
        select greatest(v_part - credit_balances.carried, 0) into v_to_grant from billing.credit_balances
        where credit_balances.account_id = _give_back.account_id;
        perform billing._carry(_give_back.account_id, _give_back.business_key, v_part - v_to_grant);
        v_left := v_left - v_part;
    end if;
    -- First shortfalls that were only recorded, of any lot: nothing is restored while more was spent than is left.
    for v_revocation in
        select * from billing.credit_revocations
        where credit_revocations.business_key = _give_back.business_key
            and credit_revocations.shortfall_policy = 'clamp_and_record'
            and credit_revocations.shortfall > credit_revocations.voided
        order by credit_revocations.id desc
    loop
        v_part := least(v_left, v_revocation.shortfall - v_revocation.voided);
        update billing.credit_revocations set voided = credit_revocations.voided + v_part
        where credit_revocations.id = v_revocation.id;
        v_left := v_left - v_part;
    end loop;
    for v_revocation in
        select * from billing.credit_revocations
        where credit_revocations.business_key = _give_back.business_key
        order by credit_revocations.id desc
    loop
        exit when v_left = 0;
        v_part := least(v_left, billing._asked_back(v_revocation));
        continue when v_part = 0;
        v_left := v_left - v_part;
        -- What was taken first, expired credits last.
        v_given := least(
            v_part,
            v_revocation.taken - v_revocation.reinstated + case v_revocation.shortfall_policy
                when 'clamp_and_record' then 0 else v_revocation.shortfall
            end
        );
        update billing.credit_revocations set voided = credit_revocations.voided + v_part - v_given
        where credit_revocations.id = v_revocation.id;
        if v_given > 0 then
            perform billing._reinstate(
                v_revocation, v_given, 'stripe', format('given_back:%s:%s', v_revocation.id, (
                    select count(*) from billing.credit_reinstatements
                    where credit_reinstatements.revocation_id = v_revocation.id
                )), 'Payment received again', 'tillbase'
            );
        end if;
    end loop;
    return v_left + v_to_grant;
end
$$;

revoke all on function
    billing._posted_credits, billing._next_lot_key, billing._take_back, billing._lapsed_of_lot,
    billing._revoked_by_hand, billing._revocable,
    billing._next_revocation_key, billing._carry, billing._less_carried, billing._give_back
from public, anon, authenticated, service_role;

comment on table billing.carried_credits is 'By business key: spent credits of time that Stripe credited back (below zero), and credits by which later grants were reduced for them (above zero).';

-- 50_allocation/36_initial_credits.sql

-- Initial and trial credits: granted once for each account and product, with the first paid period or the trial.
--
-- Invariant: initial credits are those of the earliest paid period, whichever is reported first. Trial credits are
-- those of the plans with which the trial started, once for each trial whatever it changes to; they expire with it
-- unless the plan has trial_credits_end: keep. Private: called by _allocate_subscription.

-- Revokes the initial credits' share of an invoice's returned money, besides those of its months and packs.
create function billing._post_returned_initial(invoice billing.invoices)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_lot billing.credit_grants;
    v_key text;
    v_change bigint;
    v_lots bigint[];
begin
    for v_lot in
        select * from billing.credit_grants
        where credit_grants.stripe_invoice_id = (_post_returned_initial.invoice).stripe_invoice_id
            and credit_grants.key_space = 'stripe' and credit_grants.idempotency_key ^@ 'initial:'
            and credit_grants.idempotency_key !~ '#'
        order by credit_grants.id
    loop
        v_key := v_lot.idempotency_key || ':returned';
        v_change := -coalesce((
            select sum(returned.credits) from billing._returned_credits(v_lot.stripe_invoice_id) as returned
            where returned.moment is null and returned.stripe_subscription_item_id = v_lot.stripe_subscription_item_id
        ), 0) - billing._posted_credits(v_lot.account_id, v_key);
        if v_change < 0 then
            select array_agg(lots.id order by lots.id = v_lot.id desc, lots.id desc) into v_lots
            from billing.credit_grants as lots
            where lots.stripe_invoice_id = v_lot.stripe_invoice_id and lots.key_space = 'stripe'
                and not lots.idempotency_key ^@ 'free:';
            perform billing._take_back(
                v_lot.account_id, v_key, -v_change, v_lots,
                (select settings.shortfall_policy from billing.settings), 'Payment returned to the customer'
            );
        elsif v_change > 0 then
            perform billing._give_back(v_lot.account_id, v_key, v_change);
        end if;
    end loop;
end
$$;

-- Initial credits of a paid line. If a later period was reported first, its lot moves to the earlier one and is
-- adjusted by the difference.
create function billing._grant_initial(
    invoice billing.invoices, stripe_price_id text, stripe_subscription_item_id text, period_start timestamptz
)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_invoice billing.invoices := _grant_initial.invoice;
    v_terms billing.credit_terms;
    v_plan billing.plans;
    v_key text;
    v_lot record;
    v_change bigint;
begin
    select billing._once_key('initial', v_invoice.account_id, plans.stripe_product_id) into strict v_key
    from billing.plans where plans.stripe_price_id = _grant_initial.stripe_price_id;
    select credit_grants.id, credit_grants.stripe_invoice_id, credit_grants.stripe_subscription_item_id into v_lot
    from billing.credit_grants
    where credit_grants.idempotency_key = v_key and credit_grants.key_space = 'stripe';
    if found and _grant_initial.period_start
        >= billing._paid_from(v_lot.stripe_invoice_id, v_lot.stripe_subscription_item_id) then
        return;  -- nor is what is held for review of a later period
    end if;
    select * into v_plan from billing.plans where plans.stripe_price_id = _grant_initial.stripe_price_id;
    v_terms := billing._terms_at(_grant_initial.stripe_price_id, _grant_initial.period_start);
    if v_lot.id is null or billing._is_held(v_key) then
        if v_terms.initial_credits > 0 then
            perform billing._grant_once(
                account_id => v_invoice.account_id,
                kind => 'initial',
                idempotency_key => v_key,
                amount => v_terms.initial_credits,
                source => 'stripe.subscription',
                reference_id => v_invoice.stripe_subscription_id,
                description => 'Initial subscription credits for ' || billing._plan_name(v_plan),
                stripe_invoice_id => v_invoice.stripe_invoice_id,
                stripe_subscription_item_id => _grant_initial.stripe_subscription_item_id,
                stripe_price_id => v_plan.stripe_price_id
            );
        end if;
        return;
    elsif v_lot.stripe_invoice_id = v_invoice.stripe_invoice_id then
        return;
    end if;

    update billing.credit_grants
    set stripe_invoice_id = v_invoice.stripe_invoice_id,
        stripe_subscription_item_id = _grant_initial.stripe_subscription_item_id,
        stripe_price_id = v_plan.stripe_price_id,
        reference_id = v_invoice.stripe_subscription_id
    where credit_grants.id = v_lot.id;
    v_change := v_terms.initial_credits - billing._posted_credits(v_invoice.account_id, v_key);
    if v_change < 0 then
        perform billing._take_back(
            v_invoice.account_id, v_key, -v_change, array[v_lot.id], 'clamp_and_record',
            'An earlier paid period gives fewer initial credits'
        );
    elsif v_change > 0 then
        v_change := billing._give_back(v_invoice.account_id, v_key, v_change);
    end if;
    if v_change > 0 then
        perform billing._grant_credits(
            account_id => v_invoice.account_id,
            amount => v_change,
            key_space => 'stripe',
            idempotency_key => billing._next_lot_key(v_key),
            source => 'stripe.subscription',
            reference_id => v_invoice.stripe_subscription_id,
            description => 'Initial subscription credits for ' || billing._plan_name(v_plan),
            stripe_invoice_id => v_invoice.stripe_invoice_id,
            stripe_subscription_item_id => _grant_initial.stripe_subscription_item_id,
            stripe_price_id => v_plan.stripe_price_id
        );
    end if;
    -- Money returned of the later invoice no longer affects the lot.
    perform billing._post_returned_initial(v_invoice);
end
$$;

-- A trial need not have an invoice: its credits are granted with the subscription's state.
create function billing._grant_trial(subscription billing.subscriptions)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_subscription billing.subscriptions := _grant_trial.subscription;
    v_item billing.trial_items;
    v_plan billing.plans;
    v_terms billing.credit_terms;
    v_lot billing.credit_grants;
    v_keys text[] := '{}';
begin
    for v_item in
        select trial_items.* from billing.trial_items
        where trial_items.stripe_subscription_id = v_subscription.stripe_subscription_id
            and trial_items.seen_at = (
                select min(others.seen_at) from billing.trial_items as others
                where others.stripe_subscription_id = v_subscription.stripe_subscription_id
            )
        order by trial_items.stripe_subscription_item_id, trial_items.stripe_price_id
    loop
        v_plan := billing._plan_of_line(v_subscription.stripe_subscription_id, v_item.stripe_price_id);
        v_terms := billing._terms_at(v_plan.stripe_price_id, v_item.seen_at);
        continue when coalesce(v_terms.trial_credits, 0) = 0;
        v_keys := v_keys || billing._once_key('trial', v_subscription.account_id, v_plan.stripe_product_id);
        -- A later trial was reported first: its lot moves to this one.
        update billing.credit_grants as lots
        set reference_id = v_subscription.stripe_subscription_id,
            stripe_subscription_item_id = v_item.stripe_subscription_item_id,
            stripe_price_id = v_plan.stripe_price_id,
            effective_at = least(lots.effective_at, v_subscription.trial_start)
        from billing.subscriptions as later
        where lots.key_space = 'stripe' and lots.idempotency_key = v_keys[cardinality(v_keys)]
            and later.stripe_subscription_id = lots.reference_id
            and later.stripe_subscription_id <> v_subscription.stripe_subscription_id
            and later.trial_start > v_subscription.trial_start;
        -- Or it was revoked, because the trial for which it was granted had started with another plan.
        update billing.credit_grants as lots
        set reference_id = v_subscription.stripe_subscription_id,
            stripe_subscription_item_id = v_item.stripe_subscription_item_id,
            stripe_price_id = v_plan.stripe_price_id,
            expires_at = case when v_terms.trial_end_credits = 'trial_end' then v_subscription.trial_end end
        where lots.key_space = 'stripe' and lots.idempotency_key = v_keys[cardinality(v_keys)]
            and billing._posted_credits(lots.account_id, lots.idempotency_key) = 0
        returning * into v_lot;
        if found then
            perform billing._give_back(
                v_lot.account_id, v_lot.idempotency_key, least(v_lot.amount, v_terms.trial_credits)
            );
            perform billing._remember_due(v_lot.account_id, v_lot.expires_at) where v_lot.expires_at is not null;
            continue;
        end if;
        perform billing._grant_once(
            account_id => v_subscription.account_id,
            kind => 'trial',
            idempotency_key => v_keys[cardinality(v_keys)],
            amount => v_terms.trial_credits,
            source => 'stripe.trial',
            reference_id => v_subscription.stripe_subscription_id,
            description => 'Trial credits for ' || billing._plan_name(v_plan),
            stripe_invoice_id => null,
            stripe_subscription_item_id => v_item.stripe_subscription_item_id,
            stripe_price_id => v_plan.stripe_price_id,
            effective_at => least(v_subscription.trial_start, billing.current_time()),
            expires_at => case when v_terms.trial_end_credits = 'trial_end' then v_subscription.trial_end end
        );
    end loop;

    for v_lot in
        select * from billing.credit_grants
        where credit_grants.account_id = v_subscription.account_id and credit_grants.source = 'stripe.trial'
            and credit_grants.reference_id = v_subscription.stripe_subscription_id
    loop
        if v_lot.idempotency_key <> all (v_keys) then
            -- The lot of a plan that the trial changed to: it was reported before the plan with which the trial
            -- started.
            if billing._posted_credits(v_lot.account_id, v_lot.idempotency_key) > 0 then
                perform billing._take_back(
                    v_lot.account_id, v_lot.idempotency_key, v_lot.amount, array[v_lot.id], 'clamp_and_record',
                    'The trial began with another plan'
                );
                perform billing._grant_trial(others) from billing.subscriptions as others
                where others.account_id = v_subscription.account_id and others.trial_end is not null
                    and others.stripe_subscription_id <> v_subscription.stripe_subscription_id;
            end if;
        elsif v_lot.expires_at <> v_subscription.trial_end and v_lot.closed_at is null
            and v_subscription.trial_end > v_lot.effective_at then
            -- The trial was extended or shortened.
            update billing.credit_grants set expires_at = v_subscription.trial_end where credit_grants.id = v_lot.id;
            perform billing._remember_due(v_lot.account_id, v_subscription.trial_end);
        end if;
    end loop;
end
$$;

revoke all on function
    billing._post_returned_initial, billing._grant_initial, billing._grant_trial
from public, anon, authenticated, service_role;

-- 50_allocation/38_freeze_disputed.sql

-- Credits of open disputes → frozen by holds that no app can capture or release. Spent ones are frozen when they are
-- refunded to the lot.
--
-- Private. The caller has locked the balance.

-- Credits of lots that are frozen, or will be when they return.
create function billing._frozen_of_lots(grant_ids bigint[])
returns bigint
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select coalesce(sum(lots.contested + coalesce(holds.amount, 0)), 0)::bigint
    from billing.credit_grants as lots
    left join (
        select credit_holds.frozen_grant_id, sum(credit_holds.amount) as amount from billing.credit_holds
        where credit_holds.frozen_grant_id = any (_frozen_of_lots.grant_ids) and credit_holds.status = 'held'
        group by credit_holds.frozen_grant_id
    ) as holds on holds.frozen_grant_id = lots.id
    where lots.id = any (_frozen_of_lots.grant_ids)
$$;

-- Unfreezes lots before credits are taken from them, unless exactly that many credits are frozen.
create function billing._thaw_lots(grant_ids bigint[], amount bigint)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    if billing._frozen_of_lots(_thaw_lots.grant_ids) = _thaw_lots.amount then
        return;
    end if;
    update billing.credit_grants set contested = 0
    where credit_grants.id = any (_thaw_lots.grant_ids) and credit_grants.contested > 0;
    perform billing._thaw(credit_holds) from billing.credit_holds
    where credit_holds.frozen_grant_id = any (_thaw_lots.grant_ids) and credit_holds.status = 'held';
end
$$;

-- Freezes credits of lots, the latest first, and records what could not be frozen.
create function billing._freeze_lots(grant_ids bigint[], amount bigint)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_left bigint := _freeze_lots.amount - billing._frozen_of_lots(_freeze_lots.grant_ids);
    v_lot billing.credit_grants;
    v_part bigint;
begin
    for v_lot in
        select * from billing.credit_grants where credit_grants.id = any (_freeze_lots.grant_ids)
        order by credit_grants.effective_at desc, credit_grants.id desc
    loop
        v_part := least(v_left, v_lot.remaining - v_lot.held);
        continue when v_part <= 0;
        perform billing._freeze(v_lot, v_part);
        v_left := v_left - v_part;
    end loop;
    for v_lot in
        select * from billing.credit_grants where credit_grants.id = any (_freeze_lots.grant_ids)
        order by credit_grants.effective_at desc, credit_grants.id desc
    loop
        v_part := least(v_left, billing._spent_of_lot(v_lot) - billing._frozen_of_lots(array[v_lot.id]));
        continue when v_part <= 0;
        update billing.credit_grants set contested = credit_grants.contested + v_part where credit_grants.id = v_lot.id;
        v_left := v_left - v_part;
    end loop;
end
$$;

-- The lots that an invoice paid for: everything that can be revoked or frozen when its money is returned or disputed.
create function billing._lots_of_invoice(stripe_invoice_id text)
returns bigint[]
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return array(
        select lots.id from billing.credit_grants as lots
        where lots.stripe_invoice_id = _lots_of_invoice.stripe_invoice_id and lots.key_space = 'stripe'
            and not lots.idempotency_key ^@ 'free:'
    );
end
$$;

-- The credits of an invoice that would be lost with its open disputes: of months that have started, and of the first
-- month even if it was paid in advance.
create function billing._contested_credits(stripe_invoice_id text)
returns bigint
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_begun timestamptz;
begin
    select greatest(billing._time_of_account(invoices.account_id), (
        select min(schedules.period_start) from billing.credit_schedules as schedules
        where schedules.stripe_invoice_id = invoices.stripe_invoice_id
    )) into v_begun
    from billing.invoices where invoices.stripe_invoice_id = _contested_credits.stripe_invoice_id;
    return greatest((
        select coalesce(sum(contested.credits), 0)
        from billing._returned_credits(_contested_credits.stripe_invoice_id, true) as contested
        where contested.moment is null or contested.moment <= v_begun
    ) - (
        select coalesce(sum(returned.credits), 0)
        from billing._returned_credits(_contested_credits.stripe_invoice_id) as returned
        where returned.moment is null or returned.moment <= v_begun
    ), 0);
end
$$;

-- Freezes the contested credits of an invoice again, after a revocation.
create function billing._freeze_contested(stripe_invoice_id text)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    perform billing._freeze_lots(
        billing._lots_of_invoice(_freeze_contested.stripe_invoice_id),
        billing._contested_credits(_freeze_contested.stripe_invoice_id)
    );
end
$$;

revoke all on function
    billing._frozen_of_lots, billing._thaw_lots, billing._freeze_lots, billing._lots_of_invoice,
    billing._contested_credits, billing._freeze_contested
from public, anon, authenticated, service_role;

-- 50_allocation/40_purchase_packs.sql

-- Packs that were paid in any way: a Checkout Session, a Stripe invoice, a recharge.
--
-- Invariant: a purchase is one row, with the same key however it is reported, and is granted once. Its credits are what
-- the pack was worth when it was paid; editing a price does not change them. A free pack is granted once for each
-- account, product and calendar month. Returned money revokes its share.
--
-- Only functions write; service_role reads. Private: called by the functions that record sessions, invoices and payment
-- intents.

-- The number of decimal places of a currency in Stripe: docs.stripe.com/currencies, zero-decimal and three-decimal.
create function billing._minor_digits(currency text)
returns integer
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
    select case
        when lower(_minor_digits.currency) in (
            'bif', 'clp', 'djf', 'gnf', 'jpy', 'kmf', 'krw', 'mga', 'pyg', 'rwf', 'vnd', 'vuv', 'xaf', 'xof', 'xpf'
        ) then 0
        when lower(_minor_digits.currency) in ('bhd', 'jod', 'kwd', 'omr', 'tnd') then 3
        else 2
    end
$$;

-- The credits of a quantity of packs, for a paid amount in minor units.
create function billing._credits_of_pack(pack billing.credit_packs, quantity bigint, amount bigint)
returns numeric
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
    select case
        when (_credits_of_pack.pack).credits_per_unit is not null then floor(
            (_credits_of_pack.pack).credits_per_unit * _credits_of_pack.amount
            / power(10::numeric, billing._minor_digits((_credits_of_pack.pack).currency))
        )
        else (_credits_of_pack.pack).pack_credits * coalesce(_credits_of_pack.quantity, 1)::numeric
    end
$$;

-- The credits of a purchase that its returned money revokes.
create function billing._returned_of_purchase(purchase billing.pack_purchases, with_contested boolean default false)
returns bigint
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_purchase billing.pack_purchases := _returned_of_purchase.purchase;
    v_returned numeric;
begin
    if v_purchase.price = 0 then
        return 0;
    elsif v_purchase.stripe_line_id is not null then
        return coalesce((
            select returned.credits
            from billing._returned_credits(v_purchase.stripe_invoice_id, _returned_of_purchase.with_contested) as returned
            where returned.stripe_subscription_item_id = v_purchase.business_key
        ), 0);
    end if;
    select sum(returns.amount) into v_returned
    from billing._returns_of_payments(array[v_purchase.stripe_payment_intent_id], '{}', '{}') as returns
    where _returned_of_purchase.with_contested or not returns.is_contested;
    return billing._gone(v_purchase.credits, coalesce(v_returned, 0), v_purchase.price);
end
$$;

-- Posts the worth of a purchase to the ledger: grants, revokes or restores credits.
create function billing._post_purchase(business_key text)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_purchase billing.pack_purchases;
    v_change bigint;
    v_returned bigint;
begin
    select * into strict v_purchase from billing.pack_purchases
    where pack_purchases.business_key = _post_purchase.business_key;
    perform billing._lock_balance(v_purchase.account_id);
    v_returned := billing._returned_of_purchase(v_purchase);
    v_change := v_purchase.credits - v_returned
        - billing._posted_credits(v_purchase.account_id, v_purchase.business_key);
    if exists (
        select from billing.accounts where accounts.id = v_purchase.account_id and accounts.closed_at is not null
    ) then
        -- Nothing can be revoked from a closed account; a grant to it is an error.
        if v_change > 0 and v_returned = 0 then
            perform billing._check_open(v_purchase.account_id);
        end if;
        return;
    elsif v_change < 0 then
        perform billing._take_back(
            v_purchase.account_id, v_purchase.business_key, -v_change, billing._lots_of_purchase(v_purchase),
            (select settings.shortfall_policy from billing.settings), 'Payment returned to the customer'
        );
    elsif v_change > 0 then
        v_change := billing._give_back(v_purchase.account_id, v_purchase.business_key, v_change);
        -- An invoice may have been paid from the customer's balance.
        if v_purchase.stripe_invoice_id is not null and v_purchase.price > 0 then
            v_change := billing._less_carried(v_purchase.account_id, v_purchase.business_key, v_change);
        end if;
        if v_change > 0 then
            perform billing._grant_credits(
                account_id => v_purchase.account_id,
                amount => v_change,
                key_space => 'stripe',
                idempotency_key => billing._next_lot_key(v_purchase.business_key),
                source => v_purchase.source,
                reference_id => v_purchase.reference_id,
                description => v_purchase.description,
                effective_at => least(v_purchase.purchased_at, billing.current_time()),
                expires_at => v_purchase.expires_at,
                stripe_invoice_id => v_purchase.stripe_invoice_id,
                stripe_price_id => v_purchase.stripe_price_id,
                stripe_checkout_session_id => v_purchase.stripe_checkout_session_id,
                stripe_payment_intent_id => v_purchase.stripe_payment_intent_id
            );
        end if;
    end if;
end
$$;

create function billing._lots_of_purchase(purchase billing.pack_purchases)
returns bigint[]
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return array(
        select lots.id from billing.credit_grants as lots
        where lots.account_id = (_lots_of_purchase.purchase).account_id and lots.key_space = 'stripe'
            and lots.entry_id is not null
            and (
                lots.idempotency_key = (_lots_of_purchase.purchase).business_key
                or lots.idempotency_key ^@ ((_lots_of_purchase.purchase).business_key || '#')
                or lots.stripe_invoice_id = (_lots_of_purchase.purchase).stripe_invoice_id
                and not lots.idempotency_key ^@ 'free:'
            )
        order by lots.idempotency_key = (_lots_of_purchase.purchase).business_key desc, lots.id desc
    );
end
$$;

-- TB010 for a price that declares credits but is not a pack; TB011 and TB055 if the account is unknown.
create function billing._check_buyer(stripe_id text, stripe_customer_id text, account_id uuid)
returns void
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    if _check_buyer.account_id is null and _check_buyer.stripe_customer_id is null then
        raise exception 'a guest without a Stripe customer paid for %', _check_buyer.stripe_id
            using errcode = 'TB055',
            hint = 'Grant the paid credits with `till credits grant`, and create Checkout Sessions for packs with customer_creation=always.';
    elsif _check_buyer.account_id is null then
        raise exception 'customer % of % is not linked to an account', _check_buyer.stripe_customer_id, _check_buyer.stripe_id
            using errcode = 'TB011', detail = _check_buyer.stripe_customer_id,
            hint = 'Call billing.link_customer(account_id, stripe_customer_id). The event is then retried automatically.';
    end if;
end
$$;

-- Records and grants one purchase, unless it is known.
create function billing._purchase(purchase billing.pack_purchases)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_purchase billing.pack_purchases := _purchase.purchase;
begin
    v_purchase.created_at := now();
    insert into billing.pack_purchases select (v_purchase).* on conflict (business_key) do nothing;
    perform billing._post_purchase(v_purchase.business_key);
    -- A test clock may be later than the expiry of the purchase.
    perform billing._settle_due(array[v_purchase.account_id], billing._time_of_account(v_purchase.account_id))
    where billing._time_of_account(v_purchase.account_id) > billing.current_time();
end
$$;

-- The key of free packs.
create function billing._free_pack_key(account_id uuid, stripe_product_id text, moment timestamptz)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select format(
        'free_pack:%s:%s:%s', _free_pack_key.account_id, _free_pack_key.stripe_product_id,
        to_char(_free_pack_key.moment at time zone 'utc', 'YYYY-MM')
    )
$$;

-- Packs on a paid invoice: with a plan or alone, also if a session created the invoice.
create function billing._purchase_packs_of_invoice(invoice billing.invoices)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_invoice billing.invoices := _purchase_packs_of_invoice.invoice;
    v_line billing.invoice_lines;
    v_pack billing.credit_packs;
    v_purchase billing.pack_purchases;
    v_credits numeric;
begin
    for v_line in
        select invoice_lines.* from billing.invoice_lines
        where invoice_lines.stripe_invoice_id = v_invoice.stripe_invoice_id
            and invoice_lines.stripe_subscription_item_id is null and invoice_lines.stripe_price_id is not null
            and invoice_lines.amount >= 0
        order by invoice_lines.stripe_line_id
    loop
        select * into v_pack from billing.credit_packs where credit_packs.stripe_price_id = v_line.stripe_price_id;
        if not found then
            -- An unknown price may be a pack: the line waits for it. A known price without a pack is not one.
            update billing.invoice_lines set is_waiting = not exists (
                select from billing.one_time_prices where one_time_prices.stripe_price_id = v_line.stripe_price_id
            )
            where invoice_lines.stripe_line_id = v_line.stripe_line_id;
            continue;
        end if;
        perform billing._check_buyer(v_invoice.stripe_invoice_id, v_invoice.stripe_customer_id, v_invoice.account_id);
        perform billing._lock_balance(v_invoice.account_id);
        v_credits := billing._credits_of_pack(v_pack, v_line.quantity, v_line.amount);
        continue when v_credits = 0;
        v_purchase := null;
        v_purchase.price := greatest(v_line.amount - coalesce(v_line.discount, case
            when v_invoice.total <= 0 and v_invoice.subtotal > 0 then v_line.amount else 0
        end), 0);
        v_purchase.purchased_at := coalesce(v_invoice.paid_at, v_invoice.as_of);
        v_purchase.business_key := case
            when v_purchase.price = 0
                then billing._free_pack_key(v_invoice.account_id, v_pack.stripe_product_id, v_purchase.purchased_at)
            else 'pack:' || v_line.stripe_line_id
        end;
        v_purchase.account_id := v_invoice.account_id;
        v_purchase.source := 'stripe.pack';
        v_purchase.reference_id := v_invoice.stripe_invoice_id;
        v_purchase.description := billing._pack_name(v_pack);
        v_purchase.credits := billing._checked_amount(v_credits);
        v_purchase.stripe_price_id := v_pack.stripe_price_id;
        v_purchase.stripe_invoice_id := v_invoice.stripe_invoice_id;
        v_purchase.stripe_line_id := v_line.stripe_line_id;
        v_purchase.expires_at := v_purchase.purchased_at + v_pack.expires_after;
        perform billing._purchase(v_purchase);
    end loop;
end
$$;

-- The price that invoices wait for has arrived, as a pack or not.
create function billing.tg_prices__purchase_waiting()
returns trigger
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_invoice billing.invoices;
begin
    for v_invoice in
        with arrived as (
            update billing.invoice_lines set is_waiting = false
            where invoice_lines.stripe_price_id = new.stripe_price_id and invoice_lines.is_waiting
                and invoice_lines.stripe_subscription_item_id is null
            returning invoice_lines.stripe_invoice_id
        )
        select invoices.* from billing.invoices
        where invoices.stripe_invoice_id in (select arrived.stripe_invoice_id from arrived) and invoices.status = 'paid'
        order by invoices.account_id, invoices.stripe_invoice_id
    loop
        perform billing._purchase_packs_of_invoice(v_invoice);
    end loop;
    return null;
end
$$;

create trigger tg_credit_packs__purchase_waiting
after insert on billing.credit_packs
for each row execute function billing.tg_prices__purchase_waiting();

create trigger tg_one_time_prices__purchase_waiting
after insert on billing.one_time_prices
for each row execute function billing.tg_prices__purchase_waiting();

-- When a payment intent's charge was paid, if known; the charge may be reported later.
create function billing._charged_at(stripe_payment_intent_id text)
returns timestamptz
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select min(payments.charged_at) from billing.payments
    where payments.stripe_payment_intent_id = _charged_at.stripe_payment_intent_id and payments.status = 'succeeded'
$$;

-- A purchase counts from its payment, whichever of the two is reported first.
create function billing._date_purchases(stripe_payment_intent_id text)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_charged_at timestamptz := billing._charged_at(_date_purchases.stripe_payment_intent_id);
    v_purchase billing.pack_purchases;
begin
    for v_purchase in
        select * from billing.pack_purchases
        where pack_purchases.stripe_payment_intent_id = _date_purchases.stripe_payment_intent_id
            and pack_purchases.purchased_at <> v_charged_at
        order by pack_purchases.business_key
    loop
        perform billing._lock_balance(v_purchase.account_id);
        update billing.pack_purchases
        set purchased_at = v_charged_at, expires_at = v_charged_at + (v_purchase.expires_at - v_purchase.purchased_at)
        where pack_purchases.business_key = v_purchase.business_key
        returning * into v_purchase;
        update billing.credit_grants
        set expires_at = v_purchase.expires_at, effective_at = least(v_charged_at, billing.current_time())
        where credit_grants.key_space = 'stripe' and credit_grants.closed_at is null
            and (
                credit_grants.idempotency_key = v_purchase.business_key
                or credit_grants.account_id = v_purchase.account_id
                and credit_grants.idempotency_key ^@ (v_purchase.business_key || '#')
            );
        perform billing._remember_due(v_purchase.account_id, v_purchase.expires_at)
        where v_purchase.expires_at is not null;
    end loop;
end
$$;

create function billing._pack_name(pack billing.credit_packs)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select coalesce((_pack_name.pack).nickname, products.name) from billing.products
    where products.stripe_product_id = (_pack_name.pack).stripe_product_id
$$;

revoke all on function
    billing._credits_of_pack, billing._minor_digits, billing._returned_of_purchase, billing._post_purchase,
    billing._lots_of_purchase, billing._check_buyer, billing._purchase, billing._free_pack_key,
    billing._purchase_packs_of_invoice, billing.tg_prices__purchase_waiting, billing._charged_at,
    billing._date_purchases, billing._pack_name
from public, anon, authenticated, service_role;

-- 50_allocation/41_expire_beyond_cap.sql

-- Plans with a rollover cap: credits beyond the cap expire when a month starts.
--
-- Private: called by the functions that post a month.

-- When a month of an item starts, expires what its earlier months have left beyond the cap, the oldest first. Credits
-- that were paid after the month started do not count as earlier.
create function billing._expire_beyond_cap(
    account_id uuid, stripe_subscription_item_id text, cap bigint, slot_start timestamptz
)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_balance billing.credit_balances := billing._lock_settled_balance(_expire_beyond_cap.account_id);
    v_entries billing.credit_entries[];
    v_takes billing.credit_consumptions[];
begin
    with lots as (
        select
            credit_grants.*, credit_grants.remaining - credit_grants.held as free,
            sum(credit_grants.remaining - credit_grants.held) over () - _expire_beyond_cap.cap as excess,
            sum(credit_grants.remaining - credit_grants.held) over (
                order by credit_grants.effective_at, credit_grants.id
            ) as upper
        from billing.credit_grants
        where credit_grants.account_id = _expire_beyond_cap.account_id and credit_grants.closed_at is null
            and credit_grants.source in ('stripe.monthly_allocation', 'stripe.proration')
            and credit_grants.stripe_subscription_item_id = _expire_beyond_cap.stripe_subscription_item_id
            and credit_grants.effective_at < _expire_beyond_cap.slot_start
            and credit_grants.remaining > credit_grants.held
            and not exists (
                select from billing.invoices
                where invoices.stripe_invoice_id = credit_grants.stripe_invoice_id
                    and invoices.paid_at > _expire_beyond_cap.slot_start
            )
    ),
    due as (
        select
            nextval('billing.credit_entries_id_seq') as expiry_id, lots.*,
            least(lots.free, lots.excess - (lots.upper - lots.free))::bigint as expiring
        from lots where lots.upper - lots.free < lots.excess
        order by lots.upper
    )
    select
        array_agg(billing._entry(
            id => due.expiry_id, account_id => due.account_id, kind => 'expiry', amount => -due.expiring,
            source => due.source, reference_id => due.reference_id,
            description => pg_catalog.format('More than %s carried over', _expire_beyond_cap.cap),
            key_space => 'system',
            idempotency_key => pg_catalog.format('expiry:%s:%s', due.id, billing._last_entry_id(due.account_id)),
            occurred_at => billing.current_time()
        ) order by due.expiry_id),
        array_agg(row(due.expiry_id, due.id, due.expiring)::billing.credit_consumptions)
    into v_entries, v_takes
    from due;
    if cardinality(v_entries) > 0 then
        perform billing._post_entries(v_balance, v_entries, takes => v_takes);
    end if;
end
$$;

revoke all on function billing._expire_beyond_cap from public, anon, authenticated, service_role;

-- 50_allocation/42_post_credits.sql

-- Worth → the ledger: compares, by key, what is paid for with what the ledger has, and posts the difference.
--
-- Invariant: for each key the ledger has exactly what it is worth: granted lots, minus what was carried or revoked
-- later. The result is the same for any caller (an event, the clock, a person), and for repeated calls. What a person
-- revoked, adjusted or refused stays, because only revocations with a key count. Simple moves are written as sets, the
-- others one by one, in the order of their times.
--
-- Private: called by _allocate_subscription and allocate_due_credits. The caller has locked the balances.

-- Lots from which a move may take credits, in order: those of its key, then those of its month and later ones of the
-- subscription, its month's first, and among these its item's first. For returned money: those of the invoice.
create function billing._lots_of_move(move billing.credit_move)
returns bigint[]
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_move billing.credit_move := _lots_of_move.move;
begin
    return array(
        select lots.id from billing.credit_grants as lots
        where lots.account_id = v_move.account_id and lots.key_space = 'stripe' and lots.entry_id is not null
            and (
                lots.idempotency_key = v_move.key or lots.idempotency_key ^@ (v_move.key || '#')
                -- Free lots serve only their own key, and free moves take from no other lots.
                or not v_move.key ^@ 'free:' and not lots.idempotency_key ^@ 'free:' and case
                    when v_move.returned > 0 then lots.stripe_invoice_id = v_move.stripe_invoice_id
                    else lots.reference_id = v_move.stripe_subscription_id and lots.effective_at >= v_move.slot_start
                        and lots.source in ('stripe.monthly_allocation', 'stripe.proration')
                end
            )
        order by
            lots.idempotency_key = v_move.key or lots.idempotency_key ^@ (v_move.key || '#') desc,
            lots.effective_at <= v_move.moment desc,
            lots.stripe_subscription_item_id is not distinct from v_move.stripe_subscription_item_id desc,
            lots.effective_at desc, lots.id desc
    );
end
$$;

-- Posts one move to the ledger. Returns how many credits it granted.
create function billing._post_move(move billing.credit_move)
returns bigint
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_move billing.credit_move := _post_move.move;
    v_is_new boolean;
    v_carried bigint;
    v_change bigint := v_move.credits;
    v_lots bigint[];
    v_contested text[];
    v_later timestamptz;
    v_entry billing.credit_entries;
    v_plan_name text;
begin
    select
        -- The common case: the ledger has nothing for this key yet.
        not (
            exists (
                select from billing.credit_grants
                where credit_grants.key_space = 'stripe' and credit_grants.idempotency_key = v_move.key
            )
            or exists (select from billing.credit_revocations where credit_revocations.business_key = v_move.key)
            or exists (select from billing.carried_credits where carried_credits.business_key = v_move.key)
        ),
        credit_balances.carried
    into v_is_new, v_carried
    from billing.credit_balances where credit_balances.account_id = v_move.account_id;
    if not v_is_new then
        v_change := v_change - billing._posted_credits(v_move.account_id, v_move.key);
    end if;
    if v_change < 0 then
        v_lots := billing._lots_of_move(v_move);
        -- Credits that a dispute froze count as unspent.
        v_contested := array(
            select distinct lots.stripe_invoice_id from billing.credit_holds as holds
            join billing.credit_grants as lots on lots.id = holds.frozen_grant_id
            where holds.frozen_grant_id = any (v_lots) and holds.status = 'held' and lots.stripe_invoice_id is not null
            order by lots.stripe_invoice_id
        );
        if cardinality(v_contested) > 0 then
            perform billing._thaw_lots(v_lots, 0);
        end if;
        perform billing._take_back(
            v_move.account_id, v_move.key, -v_change, v_lots,
            case
                when v_move.returned > 0 then (select settings.shortfall_policy from billing.settings)
                -- Free time is not credited back with money.
                when v_move.key ^@ 'free:' then 'clamp_and_record'
                else 'carry'
            end,
            case when v_move.returned > 0 then 'Payment returned to the customer' else 'Time credited back by Stripe' end
        );
        perform billing._freeze_contested(contested.stripe_invoice_id)
        from unnest(v_contested) as contested (stripe_invoice_id);
        return 0;
    elsif v_change > 0 and not v_is_new then
        v_change := billing._give_back(v_move.account_id, v_move.key, v_change);
    end if;
    if v_change > 0 and v_move.key ^@ 'credited:' then
        return billing._give_less_reduced(v_move.account_id, v_move.key, v_change);
    elsif v_change = 0 or v_move.is_waiting then
        return 0;
    end if;

    if v_carried > 0 and not v_move.key ^@ 'free:' then
        v_change := billing._less_carried(v_move.account_id, v_move.key, v_change);
    end if;
    if v_change = 0 then
        return 0;
    elsif v_move.rollover = 'cap' then
        perform billing._expire_beyond_cap(
            v_move.account_id, v_move.stripe_subscription_item_id, v_move.rollover_cap, v_move.slot_start
        );
    end if;
    select coalesce(plans.nickname, products.name) into v_plan_name from billing.plans
    join billing.products on products.stripe_product_id = plans.stripe_product_id
    where plans.stripe_price_id = v_move.stripe_price_id;
    v_entry := billing._grant_credits(
        account_id => v_move.account_id,
        amount => v_change,
        key_space => 'stripe',
        idempotency_key => case when v_is_new then v_move.key else billing._next_lot_key(v_move.key) end,
        source => v_move.source,
        reference_id => v_move.stripe_subscription_id,
        description => billing._description_of_move(v_move.source, v_plan_name),
        effective_at => v_move.moment,
        expires_at => v_move.expires_at,
        stripe_invoice_id => v_move.stripe_invoice_id,
        stripe_subscription_item_id => v_move.stripe_subscription_item_id,
        stripe_price_id => v_move.stripe_price_id
    );
    if v_move.returned > 0 then
        update billing.credit_grants set cut = v_move.returned where credit_grants.entry_id = v_entry.id;
    end if;
    if v_move.rollover = 'cap' then
        -- Months that started later may already be granted: what they carry over includes this month.
        for v_later in
            select credit_grants.effective_at from billing.credit_grants
            where credit_grants.account_id = v_move.account_id
                and credit_grants.stripe_subscription_item_id = v_move.stripe_subscription_item_id
                and credit_grants.source = 'stripe.monthly_allocation'
                and credit_grants.effective_at > v_move.slot_start
            order by credit_grants.effective_at
        loop
            perform billing._expire_beyond_cap(
                v_move.account_id, v_move.stripe_subscription_item_id, v_move.rollover_cap, v_later
            );
        end loop;
    end if;
    return v_change;
end
$$;

-- Credits that were carried for time that turned out not to be given back: the grants that were reduced for them, the
-- newest first, get them back, with their own expiry. Returns how many credits were granted.
create function billing._give_less_reduced(account_id uuid, business_key text, amount bigint)
returns bigint
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_left bigint := _give_less_reduced.amount;
    v_granted bigint := 0;
    v_reduced billing.carried_credits;
    v_part bigint;
    v_item_id text;
    v_from timestamptz;
begin
    for v_reduced in
        select * from billing.carried_credits
        where carried_credits.account_id = _give_less_reduced.account_id and carried_credits.amount > 0
        order by carried_credits.created_at desc, carried_credits.business_key desc
    loop
        exit when v_left = 0;
        v_part := least(v_left, v_reduced.amount);
        v_left := v_left - v_part;
        perform billing._carry(v_reduced.account_id, v_reduced.business_key, -v_part);
        perform billing._carry(v_reduced.account_id, _give_less_reduced.business_key, v_part);
        if v_reduced.business_key !~ '^(monthly|proration):' then
            perform billing._post_purchase(v_reduced.business_key);
            continue;
        end if;
        -- The key contains the item and the start of the month.
        v_item_id := split_part(v_reduced.business_key, ':', 2);
        v_from := right(v_reduced.business_key, 20)::timestamptz;
        v_granted := v_granted + coalesce((
            select sum(billing._post_move(worth)) from billing._worth(array(
                select distinct schedules.stripe_subscription_id from billing.credit_schedules as schedules
                where schedules.account_id = v_reduced.account_id
                    and schedules.stripe_subscription_item_id = v_item_id
            ), v_from, billing._slot(v_from, 1)) as worth
            where worth.key = v_reduced.business_key
        ), 0);
    end loop;
    return v_granted;
end
$$;

create function billing._description_of_move(source text, plan_name text)
returns text
language sql
immutable
as $$
    select case source
        when 'stripe.proration' then 'Subscription credits for the change to '
        else 'Monthly subscription credits for '
    end || plan_name
$$;

-- Writes simple moves as sets: nothing was posted for their keys, and their accounts owe nothing. Returns the others,
-- in the order of their times.
create function billing._post_simple_moves(moves billing.credit_move[])
returns table (slots_granted bigint, credits_granted numeric, others billing.credit_move[])
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_now timestamptz := billing.current_time();
    v_balances billing.credit_balances[];
    v_entries billing.credit_entries[];
    v_lots billing.credit_grants[];
begin
    with moves as (
        select
            worth as move, worth.*, lots.id as lot_id, lots.amount as lot_amount,
            worth.credits > 0 and not worth.is_waiting and worth.returned = 0 and lots.id is null
                and worth.rollover <> 'cap' and worth.credits <= 1000000000000
                and balances.debt = 0 and balances.withheld = 0 and balances.carried = 0
                and balances.balance <= 4611686018427387904 and (
                    balances.may_spend or not exists (
                        select from billing.accounts
                        where accounts.id = balances.account_id and accounts.closed_at is not null
                    )
                ) as is_simple,
            balances as locked
        from unnest(_post_simple_moves.moves) as worth
        join billing.credit_balances as balances on balances.account_id = worth.account_id
        left join billing.credit_grants as lots on lots.key_space = 'stripe' and lots.idempotency_key = worth.key
    ),
    -- Skips moves that the ledger already matches, and waiting moves without a lot.
    pending as materialized (
        select * from moves
        where not (
            moves.is_waiting and moves.lot_id is null
            or moves.credits = coalesce(moves.lot_amount, 0) and not exists (
                select from billing.credit_revocations where credit_revocations.business_key = moves.key
            ) and not exists (
                select from billing.carried_credits where carried_credits.business_key = moves.key
            )
        )
    ),
    simple as materialized (
        select
            pending.account_id, pending.moment, pending.key, pending.credits, pending.source, pending.expires_at,
            pending.stripe_subscription_id, pending.stripe_subscription_item_id, pending.stripe_price_id,
            pending.stripe_invoice_id, pending.locked
        from pending
        where pending.is_simple and not exists (
            select from pending as others where others.account_id = pending.account_id and not others.is_simple
        )
    ),
    fresh as (
        select
            nextval('billing.credit_entries_id_seq') as entry_id, ordered.*,
            row_number() over account as number,
            sum(ordered.credits) over (account rows unbounded preceding) as so_far,
            sum(ordered.credits) over (partition by ordered.account_id) as total,
            min(ordered.expires_at) over (partition by ordered.account_id) as due_at
        from (
            select
                simple.*,
                billing._description_of_move(simple.source, coalesce(plans.nickname, products.name)) as description
            from simple
            join billing.plans on plans.stripe_price_id = simple.stripe_price_id
            join billing.products on products.stripe_product_id = plans.stripe_product_id
            order by simple.account_id, simple.moment, simple.key
        ) as ordered
        window account as (partition by ordered.account_id order by ordered.moment, ordered.key)
    )
    select
        count(*), coalesce(sum(fresh.credits), 0),
        array_agg(billing._moved(fresh.locked, fresh.total::bigint, fresh.due_at)) filter (where fresh.number = 1),
        array_agg(billing._entry(
            id => fresh.entry_id, account_id => fresh.account_id, kind => 'grant', amount => fresh.credits,
            balance_after => (fresh.locked).balance + fresh.so_far::bigint,
            source => fresh.source, reference_id => fresh.stripe_subscription_id, description => fresh.description,
            key_space => 'stripe', idempotency_key => fresh.key, occurred_at => v_now
        )),
        array_agg(billing._lot(
            entry_id => fresh.entry_id, account_id => fresh.account_id, amount => fresh.credits,
            effective_at => fresh.moment, expires_at => fresh.expires_at, source => fresh.source,
            reference_id => fresh.stripe_subscription_id, key_space => 'stripe', idempotency_key => fresh.key,
            stripe_invoice_id => fresh.stripe_invoice_id,
            stripe_subscription_item_id => fresh.stripe_subscription_item_id,
            stripe_price_id => fresh.stripe_price_id
        )),
        (
            select array_agg(pending.move order by
                pending.account_id, pending.moment, pending.key ^@ 'credited:', pending.key
            )
            from pending
            where pending.account_id not in (select simple.account_id from simple)
        )
    into slots_granted, credits_granted, v_balances, v_entries, v_lots, others
    from fresh;
    if slots_granted > 0 then
        perform billing._write_entries(v_balances, v_entries, v_lots, '{}');
    end if;
    return next;
end
$$;

-- Posts the worth of subscriptions between two times, and moves their schedules forward. Returns the number of granting
-- moves, the credits, and the accounts without room for more.
create function billing._allocate_slots(
    stripe_subscription_ids text[], from_moment timestamptz, until_moment timestamptz,
    out slots_granted bigint, out credits_granted numeric, out full_account_ids uuid[]
)
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    -- A set has fixed costs of about a millisecond.
    v_one_by_one_max constant integer := 5;
    v_moves billing.credit_move[];
    v_move billing.credit_move;
    v_balance bigint;
    v_may_spend boolean;
    v_granted bigint;
begin
    select array_agg(worth order by worth.account_id, worth.moment, worth.key ^@ 'credited:', worth.key) into v_moves
    from billing._worth(
        _allocate_slots.stripe_subscription_ids, _allocate_slots.from_moment, _allocate_slots.until_moment
    ) as worth;
    slots_granted := 0;
    credits_granted := 0;
    if cardinality(v_moves) > v_one_by_one_max then
        select simple.slots_granted, simple.credits_granted, simple.others
        into slots_granted, credits_granted, v_moves
        from billing._post_simple_moves(v_moves) as simple;
    end if;

    foreach v_move in array coalesce(v_moves, '{}') loop
        continue when v_move.account_id = any (full_account_ids);
        select credit_balances.balance, credit_balances.may_spend into v_balance, v_may_spend
        from billing.credit_balances where credit_balances.account_id = v_move.account_id;
        if not v_may_spend then
            continue when exists (
                select from billing.accounts where accounts.id = v_move.account_id and accounts.closed_at is not null
            );
        end if;
        -- A move that would exceed the largest balance waits until there is room, even if its line has no other month.
        if v_move.credits > 9223372036854775807 - greatest(v_balance, 0) then
            full_account_ids := full_account_ids || v_move.account_id;
            update billing.credit_schedules set next_slot_at = credit_schedules.period_start
            where credit_schedules.stripe_subscription_id = any (_allocate_slots.stripe_subscription_ids)
                and credit_schedules.account_id = v_move.account_id
                and credit_schedules.period_start >= _allocate_slots.from_moment
                and credit_schedules.period_start < credit_schedules.ends_at
                and credit_schedules.next_slot_at is null and not credit_schedules.gives_back;
            continue;
        end if;
        v_granted := billing._post_move(v_move);
        slots_granted := slots_granted + (v_granted > 0)::integer;
        credits_granted := credits_granted + v_granted;
    end loop;

    update billing.credit_schedules as schedules
    set next_slot_at = (
        select case when later.slot_start < schedules.ends_at then later.slot_start end
        from (
            select billing._first_slot(schedules.anchor, case
                when schedules.disarmed_reason is null
                    then greatest(schedules.period_start, _allocate_slots.until_moment)
                -- Waiting months stay due; the first month of a line never waits.
                else schedules.period_start
            end + interval '1 microsecond') as slot_start
            offset 0  -- or it would be worked out twice
        ) as later
    )
    where schedules.stripe_subscription_id = any (_allocate_slots.stripe_subscription_ids)
        and (
            schedules.next_slot_at <= _allocate_slots.until_moment and schedules.disarmed_reason is null
            or schedules.next_slot_at = schedules.period_start
        )
        -- Months that start before from_moment were not read.
        and schedules.next_slot_at >= _allocate_slots.from_moment
        and schedules.account_id <> all (coalesce(full_account_ids, '{}'));
end
$$;

revoke all on function
    billing._lots_of_move, billing._post_move, billing._give_less_reduced, billing._description_of_move,
    billing._post_simple_moves, billing._allocate_slots
from public, anon, authenticated, service_role;

-- 50_allocation/44_allocate_due_credits.sql

-- Monthly credits by the clock: every month that has started, for every subscriber, in sets.
--
-- Invariant: a month is granted once, however many callers run at the same time; a second call finds nothing. Accounts
-- are locked in order, and those that another transaction has locked are left for the next call. A call is one
-- transaction: with many subscribers, pass accounts_max and commit after each call, as the worker and `till credits
-- allocate` do.
--
-- Callable by billing_worker, service_role and postgres (pg_cron).

create function billing.allocate_due_credits(as_of timestamptz default null, accounts_max integer default null)
returns table (accounts bigint, slots_granted bigint, credits_granted numeric)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
-- A plan for one specific array scans whole tables, however large; the generic plan uses the indexes.
set plan_cache_mode = force_generic_plan
as $$
declare
    v_as_of timestamptz := coalesce(allocate_due_credits.as_of, billing.current_time());
    v_chunk constant integer := 10000;
    v_spare constant integer := 1000;
    v_limit integer;
    v_account_ids uuid[];
    v_unsettled_ids uuid[];
    v_subscription_ids text[];
    v_from timestamptz;
    v_granted record;
begin
    if v_as_of > billing.current_time() then
        raise exception 'as_of must not be in the future: %', v_as_of
            using errcode = 'TB022', hint = 'Leave as_of out to grant what is due now.';
    end if;
    accounts := 0;
    slots_granted := 0;
    credits_granted := 0;
    loop
        v_limit := greatest(least(v_chunk, allocate_due_credits.accounts_max - allocate_due_credits.accounts), 0);
        -- First the accounts, then their locks: one statement would be a join that reads all balances. Selects some
        -- more than needed, because accounts that another transaction has locked are skipped.
        select array_agg(distinct due.account_id) into v_account_ids from (
            select credit_schedules.account_id from billing.credit_schedules
            where credit_schedules.next_slot_at <= v_as_of and credit_schedules.disarmed_reason is null
            order by credit_schedules.next_slot_at
            limit v_limit + v_spare
        ) as due;
        select array_agg(locked.account_id), array_agg(locked.account_id) filter (where locked.next_due_at <= v_as_of)
        into v_account_ids, v_unsettled_ids
        from (
            select credit_balances.account_id, credit_balances.next_due_at from billing.credit_balances
            where credit_balances.account_id = any (v_account_ids)
            order by credit_balances.account_id
            limit v_limit
            for update skip locked
        ) as locked;
        exit when v_account_ids is null;
        -- Other due changes first: lots expire before this month's lots open.
        if v_unsettled_ids is not null then
            perform billing._settle_due(v_unsettled_ids, v_as_of);
        end if;
        select array_agg(distinct credit_schedules.stripe_subscription_id), min(credit_schedules.next_slot_at)
        into v_subscription_ids, v_from
        from billing.credit_schedules
        where credit_schedules.account_id = any (v_account_ids)
            and credit_schedules.next_slot_at <= v_as_of and credit_schedules.disarmed_reason is null;
        exit when v_subscription_ids is null;
        select * into v_granted from billing._allocate_slots(v_subscription_ids, v_from, v_as_of);
        accounts := accounts + cardinality(v_account_ids) - coalesce(cardinality(v_granted.full_account_ids), 0);
        slots_granted := slots_granted + v_granted.slots_granted;
        credits_granted := credits_granted + v_granted.credits_granted;
        -- Only accounts without room for more are left.
        exit when cardinality(v_granted.full_account_ids) = cardinality(v_account_ids);
    end loop;
    return next;
end
$$;

revoke all on function billing.allocate_due_credits from public, anon, authenticated, service_role;
grant execute on function billing.allocate_due_credits(timestamptz, integer) to service_role, billing_worker;

comment on function billing.allocate_due_credits(timestamptz, integer) is 'Grants every month of credits that has started by as_of (null: now), for up to accounts_max accounts (null: all). Returns counts. Safe to run at any time, repeatedly and in parallel.';

-- 50_allocation/46_allocate_subscription.sql

-- The effect of a new fact about a subscription on its credits: every event goes through here.
--
-- Invariant: decided under the lock of the balance, from rows that are read under it. Months from the time that the
-- fact affects are recalculated; older months are not, so the cost does not grow with the subscription's age. Called by
-- the functions that record facts; private, except allocate_postponed, which billing_worker calls.

-- Initial credits of the lines that an invoice paid for.
create function billing._grant_initial_of_invoice(invoice billing.invoices)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_paid record;
begin
    for v_paid in
        select schedules.stripe_price_id, schedules.stripe_subscription_item_id, schedules.period_start
        from billing.credit_schedules as schedules
        where schedules.stripe_invoice_id = (_grant_initial_of_invoice.invoice).stripe_invoice_id
            and not schedules.is_change
            and exists (
                select from billing.credit_terms
                where credit_terms.stripe_price_id = schedules.stripe_price_id and credit_terms.initial_credits > 0
            )
        order by schedules.stripe_subscription_item_id, schedules.period_start
    loop
        perform billing._grant_initial(
            _grant_initial_of_invoice.invoice, v_paid.stripe_price_id, v_paid.stripe_subscription_item_id,
            v_paid.period_start
        );
    end loop;
end
$$;

-- Records what a paid invoice added and gave back, and grants its initial credits (TB008 if the account is closed). For
-- an unpaid invoice, records how it affects changes that give its time back. Returns the earliest affected time; null:
-- none.
create function billing._take_in_invoice(
    invoice billing.invoices, subscription billing.subscriptions, is_closed boolean default false
)
returns timestamptz
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_from timestamptz;
begin
    if (_take_in_invoice.invoice).status <> 'paid' then
        return billing._match_credits((_take_in_invoice.invoice).stripe_subscription_id, '-infinity');
    end if;
    v_from := billing._record_paid_time(_take_in_invoice.invoice, _take_in_invoice.subscription);
    if v_from is not null then
        if _take_in_invoice.is_closed then
            perform billing._check_open((_take_in_invoice.invoice).account_id);
        end if;
        perform billing._grant_initial_of_invoice(_take_in_invoice.invoice);
    end if;
    return v_from;
end
$$;

-- Postpones the months of a subscription to the end of the batch of events; false outside a batch.
create function billing._postpone_allocation(stripe_subscription_id text, from_moment timestamptz)
returns boolean
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_ids text := current_setting('billing.postponed_ids', true);
    v_moments text;
begin
    if coalesce(v_ids, '') = '' then
        return false;
    end if;
    v_moments := current_setting('billing.postponed_moments');
    v_ids := set_config(
        'billing.postponed_ids', (v_ids::text[] || _postpone_allocation.stripe_subscription_id)::text, true
    );
    v_moments := set_config(
        'billing.postponed_moments', (v_moments::timestamptz[] || _postpone_allocation.from_moment)::text, true
    );
    return true;
end
$$;

-- Grants the months that the events of a batch made due, as one set for each month in which they started: fifty
-- subscriptions cost little more than five.
create function billing.allocate_postponed()
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_ids text[] := nullif(current_setting('billing.postponed_ids', true), '');
    v_moments timestamptz[] := nullif(current_setting('billing.postponed_moments', true), '');
    v_due record;
begin
    perform set_config('billing.postponed_ids', '', true);
    for v_due in
        select array_agg(postponed.id) as subscription_ids, min(postponed.moment) as from_moment
        from unnest(v_ids, v_moments) as postponed (id, moment)
        group by date_trunc('month', postponed.moment, 'UTC')
        order by 2
    loop
        perform billing._allocate_slots(v_due.subscription_ids, v_due.from_moment, billing.current_time());
    end loop;
end
$$;

-- invoice: one that was just paid, or whose time a change gives back. from_moment: the time from which months may be
-- worth something else (null: only what the subscription's own state says).
create function billing._allocate_subscription(
    stripe_subscription_id text, from_moment timestamptz default null, invoice billing.invoices default null
)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_subscription billing.subscriptions;
    v_waiting_ids text[];
    v_invoice billing.invoices;
    v_balance billing.credit_balances;
    v_is_closed boolean := false;
    v_from timestamptz := _allocate_subscription.from_moment;
    v_now timestamptz := billing.current_time();
    v_until timestamptz;
    v_posted record;
begin
    select * into v_balance from billing.credit_balances
    where credit_balances.account_id = coalesce((_allocate_subscription.invoice).account_id, (
        select subscriptions.account_id from billing.subscriptions
        where subscriptions.stripe_subscription_id = _allocate_subscription.stripe_subscription_id
    ), (
        -- Its invoice may have arrived before it.
        select credit_schedules.account_id from billing.credit_schedules
        where credit_schedules.stripe_subscription_id = _allocate_subscription.stripe_subscription_id
        limit 1
    ))
    for update;
    if not v_balance.may_spend then
        v_is_closed := exists (
            select from billing.accounts where accounts.id = v_balance.account_id and accounts.closed_at is not null
        );
    end if;
    select * into v_subscription from billing.subscriptions
    where subscriptions.stripe_subscription_id = _allocate_subscription.stripe_subscription_id;
    if (_allocate_subscription.invoice).stripe_invoice_id is not null then
        v_from := least(v_from, billing._take_in_invoice(
            _allocate_subscription.invoice, v_subscription, v_is_closed
        ));
    end if;
    if v_balance.account_id is null then
        return;  -- not linked: the link calls it again
    elsif v_is_closed then
        -- Nothing can be granted, but what Stripe reports about its subscriptions must be recorded.
        if v_subscription.stripe_subscription_id is not null then
            perform billing._arm_schedules(v_subscription, v_now, v_is_closed);
        end if;
        return;
    end if;
    if v_subscription.stripe_subscription_id is not null then
        if v_subscription.trial_end is not null then
            perform billing._grant_trial(v_subscription);
        end if;
        -- Lines that only the subscription can explain.
        v_waiting_ids := array(
            select invoice_lines.stripe_invoice_id from billing.invoice_lines
            where invoice_lines.stripe_subscription_id = v_subscription.stripe_subscription_id
                and invoice_lines.is_waiting and invoice_lines.stripe_subscription_item_id is not null
        );
        if cardinality(v_waiting_ids) > 0 then
            for v_invoice in
                select * from billing.invoices where invoices.stripe_invoice_id = any (v_waiting_ids)
                order by invoices.invoiced_at, invoices.stripe_invoice_id
            loop
                v_from := least(v_from, billing._take_in_invoice(v_invoice, v_subscription));
            end loop;
        end if;
        v_from := least(v_from, billing._arm_schedules(v_subscription, v_now, v_is_closed, v_from));
    end if;
    v_until := billing._time_of_account(v_balance.account_id, v_now);
    select least(v_from, min(credit_schedules.next_slot_at)) into v_from from billing.credit_schedules
    where credit_schedules.stripe_subscription_id = _allocate_subscription.stripe_subscription_id
        and (
            credit_schedules.next_slot_at <= v_until and credit_schedules.disarmed_reason is null
            or credit_schedules.next_slot_at = credit_schedules.period_start
        );
    -- A batch is posted as of now: subscriptions on a test clock are not postponed.
    if v_from is not null and (
        v_until > v_now or v_subscription.stripe_test_clock_id is not null
        or not billing._postpone_allocation(_allocate_subscription.stripe_subscription_id, v_from)
    ) then
        v_posted := billing._allocate_slots(
            array[_allocate_subscription.stripe_subscription_id], v_from, v_until
        );
    end if;
    if v_until > v_now then
        perform billing._settle_due(array[v_balance.account_id], v_until);
    end if;
end
$$;

-- Terms that are reported after they became valid: months that started since then are recalculated.
create function billing.tg_credit_terms__allocate()
returns trigger
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_before billing.credit_terms;
    v_from timestamptz := new.valid_from;
    v_subscription_id text;
begin
    select * into v_before from billing.credit_terms
    where credit_terms.stripe_price_id = new.stripe_price_id and credit_terms.valid_from < new.valid_from
    order by credit_terms.valid_from desc
    limit 1;
    if not found then
        -- The earliest terms also apply before their start, as the later ones did until now.
        v_from := '-infinity';
        select * into v_before from billing.credit_terms
        where credit_terms.stripe_price_id = new.stripe_price_id and credit_terms.valid_from > new.valid_from
        order by credit_terms.valid_from
        limit 1;
    end if;
    v_before.valid_from := new.valid_from;
    if not found or v_before is not distinct from new then
        return null;
    end if;
    for v_subscription_id in
        select distinct schedules.stripe_subscription_id from billing.credit_schedules as schedules
        where schedules.stripe_price_id = new.stripe_price_id and schedules.period_end > v_from
            -- The first month of a line is granted as soon as it is paid.
            and (
                schedules.period_start >= v_from
                or billing._first_slot(schedules.anchor, v_from) <= billing.current_time()
            )
        order by 1
    loop
        perform billing._allocate_subscription(v_subscription_id, v_from);
    end loop;
    return null;
end
$$;

create trigger tg_credit_terms__allocate
after insert or update on billing.credit_terms
for each row execute function billing.tg_credit_terms__allocate();

revoke all on function
    billing._grant_initial_of_invoice, billing._take_in_invoice, billing._postpone_allocation, billing.allocate_postponed,
    billing._allocate_subscription, billing.tg_credit_terms__allocate
from public, anon, authenticated, service_role;
grant execute on function billing.allocate_postponed() to billing_worker;

comment on function billing.allocate_postponed() is 'Grants the months that a batch of events made due. Call it before committing a transaction that started with lock_stripe_events and postpone_months.';

-- 50_allocation/48_pack_arrivals.sql

-- A credit pack arrives → the events that wait for it are retried.
--
-- Invariant: as for plans, whichever commits first: sync_price and the function that parks an event both hold the
-- arrival's lock.

-- A trigger, so that a pack that was inserted with SQL requeues them too.
create function billing.tg_credit_packs__arrive()
returns trigger
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform billing._lock_arrival(new.stripe_price_id);
    perform billing._retry_events_waiting_for(new.stripe_price_id);
    return null;
end
$$;

create trigger tg_credit_packs__arrive
after insert on billing.credit_packs
for each row execute function billing.tg_credit_packs__arrive();

revoke all on function billing.tg_credit_packs__arrive from public, anon, authenticated, service_role;

-- 50_allocation/50_apply_returns.sql

-- Returned money → the credits that it had paid for: revoked, restored, or frozen while a dispute is open.
--
-- Invariant: calculated from all facts each time, for everything that one invoice or one payment paid for, so the order
-- of events makes no difference. Credits of open disputes are frozen by holds that no app can capture or release; spent
-- ones are frozen when they return.
--
-- Private: called by the functions that record such facts, and by those that grant credits for a payment. Both hold the
-- lock of the payment's or the invoice's arrival, so neither commits without having seen the other.

-- Posts the returned money of an invoice to the credits that it paid for. The caller has locked the balance.
create function billing._post_returned_credits(stripe_invoice_id text)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_invoice billing.invoices;
    v_from timestamptz;
    v_until timestamptz;
    v_subscription_ids text[];
    v_frozen bigint;
begin
    select * into v_invoice from billing.invoices
    where invoices.stripe_invoice_id = _post_returned_credits.stripe_invoice_id;
    if v_invoice.account_id is null or exists (
        select from billing.accounts where accounts.id = v_invoice.account_id and accounts.closed_at is not null
    ) then
        return;
    end if;
    update billing.credit_schedules
    set has_returns = true,
        disarmed_reason = case
            when v_invoice.amount_contested > 0 then coalesce(credit_schedules.disarmed_reason, 'disputed')
            else nullif(credit_schedules.disarmed_reason, 'disputed')
        end
    where credit_schedules.stripe_invoice_id = v_invoice.stripe_invoice_id;
    v_frozen := billing._contested_credits(v_invoice.stripe_invoice_id);
    perform billing._thaw_lots(billing._lots_of_invoice(v_invoice.stripe_invoice_id), v_frozen);
    select min(schedules.period_start), max(schedules.period_end), array_agg(distinct schedules.stripe_subscription_id)
    into v_from, v_until, v_subscription_ids
    from billing.credit_schedules as schedules where schedules.stripe_invoice_id = v_invoice.stripe_invoice_id;
    if v_subscription_ids is not null then
        perform billing._allocate_slots(v_subscription_ids, v_from, least(
            v_until, billing._time_of_account(v_invoice.account_id)
        ));
    end if;
    perform billing._post_returned_initial(v_invoice);
    perform billing._post_purchase(pack_purchases.business_key) from billing.pack_purchases
    where pack_purchases.stripe_invoice_id = v_invoice.stripe_invoice_id and pack_purchases.stripe_line_id is not null;

    perform billing._freeze_lots(billing._lots_of_invoice(v_invoice.stripe_invoice_id), v_frozen);
    perform billing._repay_debt(v_invoice.account_id);
end
$$;

-- Adds up the returned money of a paid invoice, and posts its effect on the credits.
create function billing._apply_returns_of_invoice(stripe_invoice_id text)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_invoice billing.invoices;
    v_price numeric;
    v_returned numeric;
    v_contested numeric;
begin
    perform billing._lock_money(null, null, _apply_returns_of_invoice.stripe_invoice_id);
    select * into v_invoice from billing.invoices
    where invoices.stripe_invoice_id = _apply_returns_of_invoice.stripe_invoice_id and invoices.status = 'paid'
        and (
            invoices.amount_returned + invoices.amount_contested > 0
            or exists (
                select from billing.invoice_payments
                where invoice_payments.stripe_invoice_id = _apply_returns_of_invoice.stripe_invoice_id
            )
            or exists (
                select from billing.credit_notes
                where credit_notes.stripe_invoice_id = _apply_returns_of_invoice.stripe_invoice_id
            )
        );
    if not found then
        return;  -- sync_invoice, or what pays it, comes back to it
    end if;
    select
        coalesce(sum(returns.amount) filter (where not returns.is_contested), 0),
        coalesce(sum(returns.amount) filter (where returns.is_contested), 0)
    into v_returned, v_contested
    from billing._returns_of_invoice(v_invoice.stripe_invoice_id) as returns;
    if v_returned + v_contested = 0 and v_invoice.amount_returned + v_invoice.amount_contested = 0 then
        return;
    end if;
    v_price := greatest(billing._price_of_invoice(v_invoice), 0);
    v_returned := least(v_returned, v_price);
    update billing.invoices
    set amount_returned = v_returned, amount_contested = least(v_contested, v_price - v_returned), updated_at = now()
    where invoices.stripe_invoice_id = v_invoice.stripe_invoice_id;
    perform billing._post_returned_credits(v_invoice.stripe_invoice_id);
end
$$;

-- Packs and recharges that a payment intent paid without an invoice.
create function billing._apply_returns_of_purchases(stripe_payment_intent_id text)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_purchase billing.pack_purchases;
    v_frozen bigint;
begin
    for v_purchase in
        select * from billing.pack_purchases
        where pack_purchases.stripe_payment_intent_id = _apply_returns_of_purchases.stripe_payment_intent_id
            and pack_purchases.stripe_line_id is null
        order by pack_purchases.business_key
    loop
        continue when exists (
            select from billing.accounts where accounts.id = v_purchase.account_id and accounts.closed_at is not null
        );
        v_frozen := billing._returned_of_purchase(v_purchase, true) - billing._returned_of_purchase(v_purchase);
        perform billing._thaw_lots(billing._lots_of_purchase(v_purchase), v_frozen);
        perform billing._post_purchase(v_purchase.business_key);
        perform billing._freeze_lots(billing._lots_of_purchase(v_purchase), v_frozen);
        perform billing._repay_debt(v_purchase.account_id);
    end loop;
end
$$;

-- Everything that a payment paid for, by either of its ids.
create function billing._apply_returns_of_payment(stripe_payment_intent_id text, stripe_charge_id text)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_intent_id text;
begin
    -- Every function that records a fact about the payment writes first, then takes these locks, then reads the others'
    -- rows.
    perform billing._lock_money(
        _apply_returns_of_payment.stripe_payment_intent_id, _apply_returns_of_payment.stripe_charge_id
    );
    v_intent_id := coalesce(_apply_returns_of_payment.stripe_payment_intent_id, (
        select payments.stripe_payment_intent_id from billing.payments
        where payments.stripe_charge_id = _apply_returns_of_payment.stripe_charge_id
    ));
    if v_intent_id is not null and _apply_returns_of_payment.stripe_payment_intent_id is null then
        perform billing._lock_money(v_intent_id, _apply_returns_of_payment.stripe_charge_id);
    end if;
    perform billing._apply_returns_of_invoice(paid.stripe_invoice_id)
    from unnest(billing._invoices_of_payment(v_intent_id, _apply_returns_of_payment.stripe_charge_id)) as paid (stripe_invoice_id);
    perform billing._apply_returns_of_purchases(v_intent_id) where v_intent_id is not null;
end
$$;

-- Applies returned money or credited time to one lot, after a person restored credits to it.
create function billing._apply_returns_of_lot(grant_id bigint)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_lot billing.credit_grants;
begin
    select * into strict v_lot from billing.credit_grants where credit_grants.id = _apply_returns_of_lot.grant_id;
    if v_lot.key_space <> 'stripe' then
        return;
    elsif v_lot.stripe_invoice_id is not null then
        perform billing._apply_returns_of_invoice(v_lot.stripe_invoice_id);
    elsif v_lot.stripe_payment_intent_id is not null then
        perform billing._apply_returns_of_payment(v_lot.stripe_payment_intent_id, null);
    end if;
    perform billing._allocate_subscription(schedules.stripe_subscription_id, v_lot.effective_at) from (
        select distinct credit_schedules.stripe_subscription_id from billing.credit_schedules
        where credit_schedules.stripe_subscription_item_id = v_lot.stripe_subscription_item_id
    ) as schedules;
end
$$;

-- A refund or a dispute may name only its charge, and only the charge's own row has the payment intent. When either
-- commits, it looks for the other once more, under a lock that is held only briefly: of two that commit at the same
-- time, one sees the other.
create function billing.tg_money__meet()
returns trigger
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_intent_id text;
begin
    perform billing._lock_arrival('charge:' || new.stripe_charge_id);
    select payments.stripe_payment_intent_id into v_intent_id from billing.payments
    where payments.stripe_charge_id = new.stripe_charge_id;
    if tg_table_name = 'payments' then
        perform billing._date_purchases(new.stripe_payment_intent_id);
    end if;
    if v_intent_id is not null and (
        exists (
            select from billing.refunds
            where refunds.stripe_charge_id = new.stripe_charge_id and refunds.stripe_payment_intent_id is null
        ) or exists (
            select from billing.disputes
            where disputes.stripe_charge_id = new.stripe_charge_id and disputes.stripe_payment_intent_id is null
        )
    ) then
        perform billing._apply_returns_of_payment(v_intent_id, new.stripe_charge_id);
    end if;
    return null;
end
$$;

create constraint trigger tg_refunds__meet
after insert or update of status on billing.refunds
deferrable initially deferred
for each row when (new.stripe_payment_intent_id is null and new.stripe_charge_id is not null)
execute function billing.tg_money__meet();

create constraint trigger tg_disputes__meet
after insert or update of status on billing.disputes
deferrable initially deferred
for each row when (new.stripe_payment_intent_id is null)
execute function billing.tg_money__meet();

create constraint trigger tg_payments__meet
after insert on billing.payments
deferrable initially deferred
for each row when (new.stripe_payment_intent_id is not null)
execute function billing.tg_money__meet();

revoke all on function
    billing.tg_money__meet, billing._post_returned_credits, billing._apply_returns_of_invoice,
    billing._apply_returns_of_purchases, billing._apply_returns_of_payment, billing._apply_returns_of_lot
from public, anon, authenticated, service_role;

-- 50_allocation/52_review_held_credits.sql

-- An administrator's decision on credits under review.
--
-- Invariant: decided once. An approval grants held credits, or restores revoked ones, exactly once. Reason and actor
-- are kept. Callable by service_role only.

create function billing.review_held_credits(id bigint, decision text, reason text, actor text)
returns billing.held_credits
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_held billing.held_credits;
    v_status text := case review_held_credits.decision when 'approve' then 'approved' when 'refuse' then 'refused' end;
begin
    perform billing._check_reason(review_held_credits.reason, review_held_credits.actor);
    if v_status is null then
        raise exception 'unknown decision: %', coalesce(review_held_credits.decision, 'null')
            using errcode = 'TB034', hint = 'Use approve or refuse.';
    end if;
    select * into v_held from billing.held_credits where held_credits.id = review_held_credits.id;
    if found then
        -- Read again under the lock that every function takes that holds or grants credits.
        perform billing._lock_balance(v_held.account_id);
        select * into v_held from billing.held_credits where held_credits.id = review_held_credits.id;
    end if;
    if not found then
        raise exception 'there are no credits under review with the id %', coalesce(review_held_credits.id::text, 'null')
            using errcode = 'TB035', hint = 'List credits under review with `till credits review list`.';
    elsif v_held.reviewed_at is not null and v_held.status = v_status then
        return v_held;
    elsif v_held.reviewed_at is not null then
        raise exception 'the review % was already decided: % by %', v_held.id, v_held.status, v_held.reviewed_by
            using errcode = 'TB036', hint = 'A decision is final. Grant or revoke credits with `till credits grant` or `till credits revoke`.';
    elsif v_status = 'approved' then
        perform billing._check_open(v_held.account_id);
        perform billing._give_held(v_held, review_held_credits.actor);
        perform billing._post_returned_credits(v_held.stripe_invoice_id) where v_held.stripe_invoice_id is not null;
    end if;

    update billing.held_credits
    set status = v_status,
        reason = review_held_credits.reason,
        reviewed_by = review_held_credits.actor,
        reviewed_at = billing.current_time(),
        updated_at = now()
    where held_credits.id = v_held.id
    returning * into v_held;
    return v_held;
end
$$;

create function public.review_held_credits(id bigint, decision text, reason text, actor text)
returns billing.held_credits
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    select billing.review_held_credits(
        review_held_credits.id, review_held_credits.decision, review_held_credits.reason, review_held_credits.actor
    )
$$;

revoke all on function
    billing.review_held_credits(bigint, text, text, text), public.review_held_credits(bigint, text, text, text)
from public, anon, authenticated, service_role;
grant execute on function
    billing.review_held_credits(bigint, text, text, text), public.review_held_credits(bigint, text, text, text)
to service_role;

comment on function billing.review_held_credits(bigint, text, text, text) is 'Approves or refuses credits under review (decision: approve or refuse), once; repeating the same decision changes nothing. Credits that only the policy refused can still be approved.';

-- 50_allocation/54_close_account.sql

-- Closes and reopens accounts.
--
-- Invariant: a closed account has no balance, no debt, no hold and no scheduled lot; entries with reason and actor
-- record what it had and owed. A reopened account owes nothing, but refunds of older movements first pay the debt that
-- was written off, so that they grant nothing that was not taken. Callable by service_role.

-- Removes limits, releases holds, cancels scheduled lots, forfeits the balance and writes off debt.
create function billing.close_account(account_id uuid, reason text, actor text)
returns billing.accounts
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_account billing.accounts;
    v_balance billing.credit_balances;
    v_hold billing.credit_holds;
    v_key text;
    v_debt bigint;
begin
    perform billing._check_reason(close_account.reason, close_account.actor);
    perform billing._lock_settled_balance(close_account.account_id);
    select * into strict v_account from billing.accounts where accounts.id = close_account.account_id;
    if v_account.closed_at is not null then
        return v_account;
    end if;

    perform billing.set_credit_limits(close_account.account_id);
    for v_hold in
        select * from billing.credit_holds
        where credit_holds.account_id = close_account.account_id and credit_holds.status = 'held'
    loop
        perform billing._settle_hold(v_hold, 'released');
    end loop;
    update billing.credit_grants set closed_at = billing.current_time()
    where credit_grants.account_id = close_account.account_id
        and credit_grants.entry_id is null and credit_grants.closed_at is null;

    v_balance := billing._lock_settled_balance(close_account.account_id);
    v_debt := v_balance.debt;
    -- Each further closing is a new movement: its key has a number.
    v_key := 'closing:' || billing._last_entry_id(close_account.account_id);
    if v_debt > 0 or v_balance.withheld > 0 then
        v_balance.written_off_debt := v_balance.written_off_debt + v_debt;
        v_balance.written_off_withheld := v_balance.written_off_withheld + v_balance.withheld;
        v_balance.written_off_at := clock_timestamp();
    end if;
    v_balance.withheld := 0;
    v_balance.carried := 0;
    v_balance.next_due_at := null;
    perform billing._post_entries(v_balance, array(
        select billing._entry(
            account_id => v_balance.account_id, kind => 'adjustment', amount => step.amount, debt => step.debt,
            source => 'closing', description => close_account.reason, actor => close_account.actor,
            key_space => 'system', idempotency_key => step.key, occurred_at => billing.current_time()
        )
        from (
            values
            (1, v_debt, -v_debt, v_key || ':debt'),
            (2, -(v_balance.balance + v_debt), 0::bigint, v_key || ':lots')
        ) as step (number, amount, debt, key)
        where step.amount <> 0
        order by step.number
    ));
    update billing.accounts set closed_at = billing.current_time(), updated_at = now()
    where accounts.id = close_account.account_id
    returning * into v_account;
    perform billing._allocate_subscriptions_of_account(close_account.account_id);
    return v_account;
end
$$;

-- Months of a closed account wait; the paid ones are granted when it is reopened.
create function billing._allocate_subscriptions_of_account(account_id uuid)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    perform billing._allocate_subscription(subscriptions.stripe_subscription_id) from billing.subscriptions
    where subscriptions.account_id = _allocate_subscriptions_of_account.account_id;
end
$$;

create function billing.reopen_account(account_id uuid)
returns billing.accounts
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_account billing.accounts;
begin
    perform billing._lock_balance(reopen_account.account_id);
    update billing.accounts set closed_at = null, updated_at = now()
    where accounts.id = reopen_account.account_id
    returning * into v_account;
    perform billing._allocate_subscriptions_of_account(reopen_account.account_id);
    return v_account;
end
$$;

revoke all on function billing.close_account, billing._allocate_subscriptions_of_account, billing.reopen_account
from public, anon, authenticated, service_role;
grant execute on function
    billing.close_account(uuid, text, text),
    billing.reopen_account(uuid)
to service_role;

comment on function billing.close_account(uuid, text, text) is 'Closes an account: releases holds, forfeits the balance, writes off debt. Nothing moves until it is reopened.';
comment on function billing.reopen_account(uuid) is 'Reopens a closed account with a balance of 0, plus the paid months of credits that fell due meanwhile.';

-- 50_allocation/56_reinstate_grant.sql

-- Restores by hand what a revocation took, minus what was refunded or disputed meanwhile.
--
-- Callable by service_role.

create function billing.reinstate_grant(
    revocation_id bigint,
    amount numeric,
    idempotency_key text,
    reason text,
    actor text
)
returns billing.credit_reinstatements
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_amount bigint := case when reinstate_grant.amount is not null then billing._checked_amount(reinstate_grant.amount) end;
    v_revocation billing.credit_revocations;
    v_reinstatement billing.credit_reinstatements;
begin
    perform billing._checked_key(reinstate_grant.idempotency_key, '{}');
    perform billing._check_reason(reinstate_grant.reason, reinstate_grant.actor);
    select * into v_revocation from billing.credit_revocations where credit_revocations.id = reinstate_grant.revocation_id;
    if not found then
        raise exception 'there is no revocation %', coalesce(reinstate_grant.revocation_id::text, 'null')
            using errcode = 'TB026', hint = 'Pass the id that revoke_grant returned.';
    end if;
    perform billing._lock_balance(v_revocation.account_id);

    select * into v_reinstatement from billing.credit_reinstatements
    where credit_reinstatements.account_id = v_revocation.account_id and credit_reinstatements.key_space = 'caller'
        and credit_reinstatements.idempotency_key = reinstate_grant.idempotency_key;
    if found then
        if (
            v_reinstatement.revocation_id, v_reinstatement.amount, v_reinstatement.reason, v_reinstatement.actor
        ) is distinct from (
            v_revocation.id, coalesce(v_amount, v_reinstatement.amount), reinstate_grant.reason, reinstate_grant.actor
        ) then
            perform billing._raise_key_reused(reinstate_grant.idempotency_key);
        end if;
        return v_reinstatement;
    end if;
    perform billing._check_key_is_new(v_revocation.account_id, reinstate_grant.idempotency_key);
    perform billing._check_open(v_revocation.account_id);
    v_reinstatement := billing._reinstate(
        v_revocation, v_amount, 'caller', reinstate_grant.idempotency_key, reinstate_grant.reason, reinstate_grant.actor
    );
    -- Credits whose money was refunded or disputed meanwhile are revoked or frozen again.
    perform billing._apply_returns_of_lot(v_revocation.grant_id);
    return v_reinstatement;
end
$$;

revoke all on function billing.reinstate_grant from public, anon, authenticated, service_role;
grant execute on function billing.reinstate_grant(bigint, numeric, text, text, text) to service_role;

comment on function billing.reinstate_grant(bigint, numeric, text, text, text) is 'Restores what a revocation took: all that is left (amount null) or a part. Once for each idempotency key.';

-- 50_allocation/60_entitlement_discrepancies.sql

-- Checks that credits follow money: differences between what was paid for and what the ledger has.
--
-- Invariant: the view is empty when all is well. It compares the recorded paid time with the lines of paid invoices, calculates
-- again what every subscription and purchase is worth, and compares that by key with what was granted, carried and revoked. A row
-- names account, key and figures.
--
--   paid_and_not_granted       a month, a change or a pack that was paid for but not granted
--   granted_and_not_paid       credits of a subscription or a pack beyond what was paid for
--   returned_and_not_taken     credits that were not revoked although their payment was returned
--   paid_time_is_not_recorded  a line of a paid invoice with credits but without its period of time
--   recorded_and_not_paid      a period of time without a matching paid line
--   carried_is_not_the_rest    the balance's carried credits are not the sum of carried_credits
--
-- service_role reads the view and the functions for one account; billing_worker may call check_account too.

-- The worth of an account's keys: of its subscriptions up to now, and of its packs.
create function billing._worth_of_account(account_id uuid)
returns table (
    business_key text, credits bigint, returned bigint, is_waiting boolean, stripe_invoice_id text, expires_at timestamptz
)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_subscription_ids text[] := array(
        select distinct credit_schedules.stripe_subscription_id from billing.credit_schedules
        where credit_schedules.account_id = _worth_of_account.account_id
    );
begin
    return query
    select worth.key, worth.credits, worth.returned, worth.is_waiting, worth.stripe_invoice_id, worth.expires_at
    from billing._worth(
        v_subscription_ids, '-infinity', billing._time_of_account(_worth_of_account.account_id)
    ) as worth
    union all
    select
        purchases.business_key, purchases.credits - billing._returned_of_purchase(purchases),
        billing._returned_of_purchase(purchases), false, purchases.stripe_invoice_id, purchases.expires_at
    from billing.pack_purchases as purchases
    where purchases.account_id = _worth_of_account.account_id;
end
$$;

-- The discrepancies of one account's credits.
create function billing.account_discrepancies(account_id uuid)
returns table (account_id_of uuid, invariant text, business_key text, expected bigint, found bigint, detail text)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    -- Nothing can be granted to a closed account, or revoked from it.
    if exists (
        select from billing.accounts
        where accounts.id = account_discrepancies.account_id and accounts.closed_at is not null
    ) then
        return;
    end if;
    return query
    with worth as materialized (
        select * from billing._worth_of_account(account_discrepancies.account_id)
    ),
    posted as materialized (
        select keys.business_key, billing._posted_credits(account_discrepancies.account_id, keys.business_key) as credits
        from (
            select worth.business_key from worth
            union
            select split_part(lots.idempotency_key, '#', 1) from billing.credit_grants as lots
            where lots.account_id = account_discrepancies.account_id and lots.key_space = 'stripe'
                and lots.source in ('stripe.monthly_allocation', 'stripe.proration', 'stripe.pack', 'stripe.recharge')
        ) as keys
    )
    select
        account_discrepancies.account_id,
        case
            when posted.credits < coalesce(worth.credits, 0) then 'paid_and_not_granted'
            when worth.returned > 0 then 'returned_and_not_taken'
            else 'granted_and_not_paid'
        end,
        posted.business_key, coalesce(worth.credits, 0), posted.credits,
        format('%s: worth %s, posted %s', posted.business_key, coalesce(worth.credits, 0), posted.credits)
    from posted
    left join worth on worth.business_key = posted.business_key
    where posted.credits <> coalesce(worth.credits, 0)
        and not (coalesce(worth.is_waiting, false) and posted.credits = 0)
        -- The clock is about to grant it.
        and not (posted.credits < worth.credits and exists (
            select from billing.credit_schedules
            where credit_schedules.account_id = account_discrepancies.account_id
                and credit_schedules.next_slot_at <= billing.current_time()
                and credit_schedules.disarmed_reason is null
        ));

    -- Initial credits: those of a paid invoice, minus what was returned of it.
    return query
    select
        account_discrepancies.account_id,
        case
            when invoices.status is distinct from 'paid' then 'granted_and_not_paid'
            when initial.posted > -initial.returned then 'returned_and_not_taken'
            else 'paid_and_not_granted'
        end,
        initial.idempotency_key, initial.amount - initial.returned, initial.amount + initial.posted,
        format(
            '%s: granted %s by %s, of which %s was returned and %s taken back', initial.idempotency_key, initial.amount,
            coalesce(initial.stripe_invoice_id, 'no invoice'), initial.returned, -initial.posted
        )
    from (
        select
            lots.idempotency_key::text, lots.amount, lots.stripe_invoice_id,
            billing._posted_credits(lots.account_id, lots.idempotency_key || ':returned') as posted,
            coalesce((
                select sum(returned.credits) from billing._returned_credits(lots.stripe_invoice_id) as returned
                where returned.moment is null
                    and returned.stripe_subscription_item_id = lots.stripe_subscription_item_id
            ), 0)::bigint as returned
        from billing.credit_grants as lots
        where lots.account_id = account_discrepancies.account_id and lots.key_space = 'stripe'
            and lots.idempotency_key ^@ 'initial:' and lots.idempotency_key !~ '#'
    ) as initial
    left join billing.invoices on invoices.stripe_invoice_id = initial.stripe_invoice_id
    where invoices.status is distinct from 'paid' or initial.posted <> -initial.returned;

    return query
    select
        account_discrepancies.account_id, 'carried_is_not_the_rest', null::text,
        coalesce(-sum(carried_credits.amount), 0)::bigint, max(balances.carried),
        format('carried %s, rows say %s', max(balances.carried), coalesce(-sum(carried_credits.amount), 0))
    from billing.credit_balances as balances
    left join billing.carried_credits on carried_credits.account_id = balances.account_id
    where balances.account_id = account_discrepancies.account_id
    group by balances.account_id
    having max(balances.carried) <> coalesce(-sum(carried_credits.amount), 0);

    return query
    select
        account_discrepancies.account_id, 'paid_time_is_not_recorded', lines.stripe_line_id, lines.amount, null::bigint,
        format('line %s of %s is paid for and recorded nowhere', lines.stripe_line_id, lines.stripe_invoice_id)
    from billing.invoices
    join billing.invoice_lines as lines on lines.stripe_invoice_id = invoices.stripe_invoice_id
    left join billing.subscriptions on subscriptions.stripe_subscription_id = coalesce(
        lines.stripe_subscription_id, invoices.stripe_subscription_id
    )
    where invoices.account_id = account_discrepancies.account_id and invoices.status = 'paid'
        and lines.stripe_subscription_item_id is not null and lines.period_end > lines.period_start
        and not lines.is_waiting and coalesce(lines.quantity, 1) > 0
        and (lines.is_proration or invoices.billing_reason in (
            'subscription_create', 'subscription_cycle', 'subscription_update', 'quote_accept', 'subscription'
        ))
        and exists (
            select from billing.credit_terms
            where credit_terms.stripe_price_id = lines.stripe_price_id
                and credit_terms.initial_credits + credit_terms.monthly_credits > 0
                and credit_terms.valid_from <= invoices.created_at
        )
        and not (
            lines.amount = 0 and coalesce(
                lines.period_start >= subscriptions.trial_start and lines.period_start < subscriptions.trial_end, false
            )
        )
        and not exists (
            select from billing.credit_schedules as schedules
            where schedules.stripe_line_id = lines.stripe_line_id
                -- Another invoice paid for the same period of the item.
                or schedules.stripe_subscription_item_id = lines.stripe_subscription_item_id
                and schedules.stripe_subscription_id = coalesce(lines.stripe_subscription_id, invoices.stripe_subscription_id)
                and schedules.period_start = lines.period_start and schedules.period_end = lines.period_end
                and not lines.is_proration
        );

    return query
    select
        account_discrepancies.account_id, 'recorded_and_not_paid', schedules.stripe_line_id, lines.quantity,
        schedules.quantity,
        format('%s of %s does not say what its line says', schedules.stripe_line_id, schedules.stripe_invoice_id)
    from billing.credit_schedules as schedules
    left join billing.invoice_lines as lines on lines.stripe_line_id = schedules.stripe_line_id
    left join billing.invoices on invoices.stripe_invoice_id = lines.stripe_invoice_id
    left join billing.plans on plans.stripe_price_id = lines.stripe_price_id
    where schedules.account_id = account_discrepancies.account_id
        and (
            invoices.status is distinct from 'paid' or invoices.account_id is distinct from schedules.account_id
            or (
                lines.stripe_price_id, lines.period_start, lines.period_end,
                case
                    when schedules.gives_back and schedules.is_change
                        then billing._seats_given_back(billing._seats(plans, lines.quantity), lines.credited_line_ids)
                    else billing._seats(plans, lines.quantity)
                end
            ) is distinct from (
                schedules.stripe_price_id, schedules.period_start, schedules.period_end, schedules.quantity
            )
        );
end
$$;

create view billing.entitlement_discrepancies with (security_invoker = on) as
select
    accounts.id as account_id, discrepancies.invariant, discrepancies.business_key, discrepancies.expected,
    discrepancies.found, discrepancies.detail
from billing.accounts
cross join lateral billing.account_discrepancies(accounts.id) as discrepancies;

revoke all on billing.entitlement_discrepancies from public, anon, authenticated, service_role;
grant select on billing.entitlement_discrepancies to service_role;

-- All checks of one account, at its own time.
create function billing.check_account(account_id uuid)
returns table (invariant text, business_key text, expected bigint, found bigint, detail text)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select
        discrepancies.invariant, discrepancies.business_key, discrepancies.expected, discrepancies.found,
        discrepancies.detail
    from billing.account_discrepancies(check_account.account_id) as discrepancies
    union all
    select ledger.invariant, null, null::bigint, null::bigint, ledger.detail
    from billing.account_ledger_discrepancies(check_account.account_id) as ledger;
end
$$;

revoke all on function
    billing._worth_of_account, billing.account_discrepancies, billing.check_account
from public, anon, authenticated, service_role;
grant execute on function billing.account_discrepancies(uuid) to service_role;
grant execute on function billing.check_account(uuid) to service_role, billing_worker;

comment on view billing.entitlement_discrepancies is 'Credits that were paid for but not granted, granted but not paid for, refunded but not revoked: account, key, figures. Empty when all is well.';
comment on function billing.account_discrepancies(uuid) is 'The rows of entitlement_discrepancies of one account.';
comment on function billing.check_account(uuid) is 'Rows of ledger_discrepancies and entitlement_discrepancies for one account. Empty when all is well.';

-- 50_allocation/62_prove_accounts.sql

-- The running check of ledger and payments: a few accounts at a time, in rounds. A discrepancy is stored until the
-- account is in order, and administrators are notified once of each.
--
-- Invariant: two workers never check the same accounts at the same time; an interrupted round continues after its last
-- commit. Each account is checked as of one point in time, without locks. Called by billing_worker.

create table billing.account_proof (
    id boolean primary key default true,
    last_account_id uuid,
    accounts_checked bigint not null default 0,
    round_started_at timestamptz,
    round_finished_at timestamptz,
    constraint there_is_one_row check (id)
);

insert into billing.account_proof default values;

create table billing.found_discrepancies (
    id bigint generated always as identity primary key,
    account_id uuid not null references billing.accounts (id),
    invariant text not null,
    business_key text,
    expected bigint,
    found bigint,
    detail text not null,
    found_at timestamptz not null default clock_timestamp()
);

create unique index found_discrepancies_once on billing.found_discrepancies (account_id, invariant, detail);

alter table billing.account_proof enable row level security;
alter table billing.found_discrepancies enable row level security;
revoke all on all sequences in schema billing from public, anon, authenticated, service_role;
revoke all on billing.account_proof, billing.found_discrepancies from public, anon, authenticated, service_role;
grant select on billing.account_proof, billing.found_discrepancies to service_role;

-- Checks an account, stores its discrepancies and deletes resolved ones. Returns how many it has.
create function billing._prove_account(account_id uuid)
returns bigint
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_count bigint;
begin
    with off as materialized (
        select
            'entitlement_discrepancy' as kind, paid.invariant, paid.business_key, paid.expected, paid.found,
            paid.detail,
            format(
                '%s:%s:%s:%s', paid.account_id_of, paid.invariant, paid.business_key, paid.expected || ':' || paid.found
            ) as key
        from billing.account_discrepancies(_prove_account.account_id) as paid
        union all
        select
            'ledger_discrepancy', ledger.invariant, null, null, null, ledger.detail,
            format('%s:%s:%s', _prove_account.account_id, ledger.invariant, md5(ledger.detail))
        from billing.account_ledger_discrepancies(_prove_account.account_id) as ledger
    ),
    in_order as (
        delete from billing.found_discrepancies
        where found_discrepancies.account_id = _prove_account.account_id and not exists (
            select from off
            where off.invariant = found_discrepancies.invariant and off.detail = found_discrepancies.detail
        )
    ),
    noted as (
        insert into billing.found_discrepancies (account_id, invariant, business_key, expected, found, detail)
        select _prove_account.account_id, off.invariant, off.business_key, off.expected, off.found, off.detail from off
        on conflict do nothing
    ),
    told as (
        insert into billing.notifications (account_id, audience, kind, dedupe_key, payload)
        select
            _prove_account.account_id, 'administrators', off.kind, format('%s:%s', off.kind, off.key),
            jsonb_build_object(
                'invariant', off.invariant, 'business_key', off.business_key, 'expected', off.expected,
                'found', off.found, 'detail', off.detail
            )
        from off
        on conflict (dedupe_key) do nothing
    )
    select count(*) into v_count from off;
    return v_count;
end
$$;

-- Checks up to accounts_max accounts, and stops after the account during which milliseconds_max passed. Returns how
-- many were checked (0: the round is over, or another worker is checking) and how many discrepancies they have.
create function billing.prove_accounts(accounts_max integer, milliseconds_max integer default 50)
returns table (accounts bigint, discrepancies bigint)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_began_at timestamptz := clock_timestamp();
    v_proof billing.account_proof;
    v_account_id uuid;
    v_last_account_id uuid;
begin
    accounts := 0;
    discrepancies := 0;
    select * into v_proof from billing.account_proof for update skip locked;
    if not found then
        return next;
        return;
    end if;
    for v_account_id in
        select accounts_after.id from billing.accounts as accounts_after
        where v_proof.last_account_id is null or accounts_after.id > v_proof.last_account_id
        order by accounts_after.id
        limit greatest(prove_accounts.accounts_max, 0)
    loop
        discrepancies := discrepancies + billing._prove_account(v_account_id);
        accounts := accounts + 1;
        v_last_account_id := v_account_id;
        exit when clock_timestamp() - v_began_at >= make_interval(secs => prove_accounts.milliseconds_max / 1000.0);
    end loop;
    update billing.account_proof
    set last_account_id = v_last_account_id,
        accounts_checked = account_proof.accounts_checked + prove_accounts.accounts,
        round_started_at = case
            when v_proof.last_account_id is null then v_began_at else account_proof.round_started_at
        end,
        round_finished_at = case
            when v_last_account_id is null then clock_timestamp() else account_proof.round_finished_at
        end;
    return next;
end
$$;

revoke all on function billing._prove_account, billing.prove_accounts from public, anon, authenticated, service_role;
grant execute on function billing.prove_accounts(integer, integer) to billing_worker, service_role;

comment on table billing.account_proof is 'Progress of the running check of all accounts (ledger_discrepancies and entitlement_discrepancies).';
comment on table billing.found_discrepancies is 'Discrepancies that the running check found and that still exist.';
comment on function billing.prove_accounts(integer, integer) is 'Checks the next accounts, stores discrepancies and notifies administrators of each once.';

-- 55_fraud/10_fraud_policy.sql

-- What is to be done about early fraud warnings, and what was done.
--
-- Invariant: each action is one row with its reason, done or not: what the policy asks for and the state of the charge
-- forbids is skipped and says why. settings.fraud_dry_run: warnings are recorded and nothing is done.
--
-- fraud_policies   for each risk level of the charge, what is to be done
-- fraud_actions    what was done, by the policy or by a person, and what was not, and why
-- Only functions write actions; the policy is the owner's to edit. service_role reads both.

create table billing.fraud_policies (
    risk_level text primary key,
    alert boolean not null default true,
    freeze_account boolean not null default false,
    refund boolean not null default false,
    refund_amount_max bigint,
    refund_age_max interval not null default '7 days',
    cancel_subscription boolean not null default false,
    updated_at timestamptz not null default now(),
    constraint risk_level_is_known check (risk_level in ('normal', 'elevated', 'highest', 'not_assessed', 'unknown')),
    constraint refund_amount_max_is_positive check (refund_amount_max > 0),
    constraint refund_age_max_is_positive check (refund_age_max > interval '0')
);

insert into billing.fraud_policies (risk_level, freeze_account)
values ('normal', false), ('elevated', false), ('highest', true), ('not_assessed', false), ('unknown', false);

create table billing.fraud_actions (
    id bigint generated always as identity primary key,
    idempotency_key uuid not null default gen_random_uuid(),
    stripe_early_fraud_warning_id text references billing.fraud_warnings (stripe_early_fraud_warning_id),
    account_id uuid references billing.accounts (id),
    action text not null,
    status text not null,
    reason text not null,
    actor text not null,
    stripe_charge_id text,
    stripe_subscription_id text,
    amount bigint,
    currency text,
    stripe_refund_id text,
    is_in_doubt boolean not null default false,
    attempts integer not null default 0,
    last_error text,
    decided_at timestamptz not null,
    settled_at timestamptz,
    undone_at timestamptz,
    undone_by text,
    undone_reason text,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint action_is_known
    check (action in ('alert', 'freeze_account', 'unfreeze_account', 'refund', 'cancel_subscription', 'note')),
    constraint status_is_known check (status in ('queued', 'done', 'skipped', 'failed', 'undone')),
    constraint undone_actions_say_who_and_why
    check ((status = 'undone') = (undone_at is not null) and (undone_at is null) = (undone_by is null or undone_reason is null))
);

-- What the policy does about a warning it does once; a person may do it again.
create unique index fraud_actions_of_policy on billing.fraud_actions
    (stripe_early_fraud_warning_id, action, coalesce(stripe_subscription_id, ''))
where actor = 'policy';
create index fraud_actions_warning on billing.fraud_actions (stripe_early_fraud_warning_id);
create index fraud_actions_account on billing.fraud_actions (account_id);
create index fraud_actions_refund on billing.fraud_actions (stripe_refund_id) where stripe_refund_id is not null;
create index fraud_actions_queued on billing.fraud_actions (id) where status = 'queued';
create unique index fraud_actions_of_deleted_user on billing.fraud_actions (stripe_subscription_id)
where actor = 'on_user_deleted';

alter table billing.fraud_policies enable row level security;
alter table billing.fraud_actions enable row level security;

revoke all on all sequences in schema billing from public, anon, authenticated, service_role;
revoke all on billing.fraud_policies, billing.fraud_actions from public, anon, authenticated, service_role;
grant select on billing.fraud_policies, billing.fraud_actions to service_role;

comment on table billing.fraud_policies is 'What is done about an early fraud warning, by the risk level of its charge. Edit it as you see fit.';
comment on column billing.fraud_policies.refund_amount_max is 'Refund at most so much by itself, in minor units of the charge''s currency; null: any amount.';
comment on table billing.fraud_actions is 'What was done about fraud, by the policy (actor policy) or by a person, and what was skipped, and why.';
comment on column billing.fraud_actions.idempotency_key is 'What Stripe is asked with, and what a refund of this action carries in its metadata. Not the id: two databases of one Stripe account have the same ids.';
comment on column billing.fraud_actions.attempts is 'How often Stripe was asked.';
comment on column billing.fraud_actions.is_in_doubt is 'Stripe may have done it already, and its answer was lost.';

-- 55_fraud/20_fraud_administration.sql

-- What a person decides about fraud: freeze, unfreeze, refund, note, resolve, undo.
--
-- Invariant: every decision has an actor and a reason. A freeze and queued actions can be undone; refunds and cancelled
-- subscriptions cannot. Callable by service_role.

-- The caller has locked the balance.
create function billing._freeze_account(account_id uuid, reason text)
returns void
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    with frozen as (
        update billing.accounts
        set frozen_at = billing.current_time(), frozen_reason = _freeze_account.reason, updated_at = now()
        where accounts.id = _freeze_account.account_id and accounts.frozen_at is null
        returning accounts.id, accounts.frozen_at, accounts.frozen_reason
    )
    insert into billing.notifications (account_id, audience, kind, dedupe_key, payload)
    select
        frozen.id, 'administrators', 'account_frozen', format('account_frozen:%s:%s', frozen.id, frozen.frozen_at),
        jsonb_build_object('account_id', frozen.id, 'reason', frozen.frozen_reason)
    from frozen
    on conflict (dedupe_key) do nothing
$$;

create function billing.freeze_account(account_id uuid, reason text, actor text)
returns billing.accounts
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_account billing.accounts;
begin
    perform billing._check_reason(freeze_account.reason, freeze_account.actor);
    perform billing._lock_balance(freeze_account.account_id);
    select * into strict v_account from billing.accounts where accounts.id = freeze_account.account_id;
    if v_account.frozen_at is not null then
        return v_account;
    end if;
    perform billing._freeze_account(v_account.id, freeze_account.reason);
    insert into billing.fraud_actions (account_id, action, status, reason, actor, decided_at, settled_at)
    values (
        v_account.id, 'freeze_account', 'done', freeze_account.reason, freeze_account.actor, billing.current_time(),
        billing.current_time()
    );
    select * into strict v_account from billing.accounts where accounts.id = freeze_account.account_id;
    return v_account;
end
$$;

create function billing.unfreeze_account(account_id uuid, reason text, actor text)
returns billing.accounts
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_account billing.accounts;
begin
    perform billing._check_reason(unfreeze_account.reason, unfreeze_account.actor);
    perform billing._lock_balance(unfreeze_account.account_id);
    update billing.accounts set frozen_at = null, frozen_reason = null, updated_at = now()
    where accounts.id = unfreeze_account.account_id and accounts.frozen_at is not null
    returning * into v_account;
    if not found then
        select * into strict v_account from billing.accounts where accounts.id = unfreeze_account.account_id;
        return v_account;
    end if;
    update billing.fraud_actions
    set status = 'undone', undone_at = billing.current_time(), undone_by = unfreeze_account.actor,
        undone_reason = unfreeze_account.reason, updated_at = now()
    where fraud_actions.account_id = v_account.id and fraud_actions.action = 'freeze_account'
        -- One that was skipped, because the account was frozen already, is answered too.
        and fraud_actions.status in ('done', 'skipped');
    insert into billing.fraud_actions (account_id, action, status, reason, actor, decided_at, settled_at)
    values (
        v_account.id, 'unfreeze_account', 'done', unfreeze_account.reason, unfreeze_account.actor,
        billing.current_time(), billing.current_time()
    );
    return v_account;
end
$$;

create function billing._warning(stripe_early_fraud_warning_id text)
returns billing.fraud_warnings
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_warning billing.fraud_warnings;
begin
    select * into v_warning from billing.fraud_warnings
    where fraud_warnings.stripe_early_fraud_warning_id = _warning.stripe_early_fraud_warning_id
    for update;
    if not found then
        raise exception 'there is no early fraud warning %', coalesce(_warning.stripe_early_fraud_warning_id, 'null')
            using errcode = 'TB072', hint = 'List them with `till fraud list`.';
    end if;
    return v_warning;
end
$$;

-- decision: resolved (something was done, or nothing had to be) or dismissed (no fraud); open takes it up again.
create function billing.resolve_fraud_warning(
    stripe_early_fraud_warning_id text, decision text, notes text, actor text
)
returns billing.fraud_warnings
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_warning billing.fraud_warnings;
begin
    perform billing._check_reason(resolve_fraud_warning.notes, resolve_fraud_warning.actor);
    if resolve_fraud_warning.decision is null
        or resolve_fraud_warning.decision not in ('resolved', 'dismissed', 'open') then
        raise exception 'unknown decision: %', coalesce(resolve_fraud_warning.decision, 'null')
            using errcode = 'TB073', hint = 'Use resolved, dismissed or open.';
    end if;
    v_warning := billing._warning(resolve_fraud_warning.stripe_early_fraud_warning_id);
    insert into billing.fraud_actions (
        stripe_early_fraud_warning_id, account_id, action, status, reason, actor, decided_at, settled_at
    )
    values (
        v_warning.stripe_early_fraud_warning_id, v_warning.account_id, 'note', 'done',
        format('%s: %s', resolve_fraud_warning.decision, resolve_fraud_warning.notes), resolve_fraud_warning.actor,
        billing.current_time(), billing.current_time()
    );
    update billing.fraud_warnings
    set status = resolve_fraud_warning.decision,
        processed_at = case when resolve_fraud_warning.decision <> 'open' then billing.current_time() end,
        notes = resolve_fraud_warning.notes,
        updated_at = now()
    where fraud_warnings.stripe_early_fraud_warning_id = v_warning.stripe_early_fraud_warning_id
    returning * into v_warning;
    return v_warning;
end
$$;

create function billing.note_fraud(stripe_early_fraud_warning_id text, notes text, actor text)
returns billing.fraud_actions
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_warning billing.fraud_warnings;
    v_action billing.fraud_actions;
begin
    perform billing._check_reason(note_fraud.notes, note_fraud.actor);
    v_warning := billing._warning(note_fraud.stripe_early_fraud_warning_id);
    insert into billing.fraud_actions (
        stripe_early_fraud_warning_id, account_id, action, status, reason, actor, decided_at, settled_at
    )
    values (
        v_warning.stripe_early_fraud_warning_id, v_warning.account_id, 'note', 'done', note_fraud.notes, note_fraud.actor,
        billing.current_time(), billing.current_time()
    )
    returning * into v_action;
    return v_action;
end
$$;

-- A person has the charge of a warning refunded, whatever the policy's caps; not one that is disputed or refunded.
create function billing.refund_fraud_warning(stripe_early_fraud_warning_id text, reason text, actor text)
returns billing.fraud_actions
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_warning billing.fraud_warnings;
    v_payment billing.payments;
    v_action billing.fraud_actions;
begin
    perform billing._check_reason(refund_fraud_warning.reason, refund_fraud_warning.actor);
    v_warning := billing._warning(refund_fraud_warning.stripe_early_fraud_warning_id);
    select * into v_action from billing.fraud_actions
    where fraud_actions.stripe_early_fraud_warning_id = v_warning.stripe_early_fraud_warning_id
        and fraud_actions.action = 'refund' and fraud_actions.status in ('queued', 'done');
    if found then
        return v_action;
    end if;
    select * into v_payment from billing.payments where payments.stripe_charge_id = v_warning.stripe_charge_id;
    if not found or v_payment.is_disputed or v_payment.amount_refunded = v_payment.amount then
        raise exception 'charge % is % and can''t be refunded', v_warning.stripe_charge_id, case
                when v_payment.stripe_charge_id is null then 'unknown'
                when v_payment.is_disputed then 'disputed'
                else 'already refunded'
            end
            using errcode = 'TB074', hint = 'Look at the charge in Stripe''s dashboard.';
    end if;
    insert into billing.fraud_actions (
        stripe_early_fraud_warning_id, account_id, action, status, reason, actor, stripe_charge_id, amount, currency,
        decided_at
    )
    values (
        v_warning.stripe_early_fraud_warning_id, v_warning.account_id, 'refund', 'queued', refund_fraud_warning.reason,
        refund_fraud_warning.actor, v_payment.stripe_charge_id, v_payment.amount - v_payment.amount_refunded,
        v_payment.currency, billing.current_time()
    )
    returning * into v_action;
    return v_action;
end
$$;

create function billing.undo_fraud_action(id bigint, reason text, actor text)
returns billing.fraud_actions
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_action billing.fraud_actions;
begin
    perform billing._check_reason(undo_fraud_action.reason, undo_fraud_action.actor);
    select * into v_action from billing.fraud_actions where fraud_actions.id = undo_fraud_action.id;
    if v_action.action = 'freeze_account' and v_action.status = 'done' then
        perform billing.unfreeze_account(v_action.account_id, undo_fraud_action.reason, undo_fraud_action.actor);
    else
        update billing.fraud_actions
        set status = 'undone', undone_at = billing.current_time(),
            undone_by = undo_fraud_action.actor, undone_reason = undo_fraud_action.reason, updated_at = now()
        where fraud_actions.id = undo_fraud_action.id and fraud_actions.status = 'queued'
            and not fraud_actions.is_in_doubt;
        if not found and v_action.status is distinct from 'undone' then
            raise exception '%', case
                    when v_action.id is null then format('there is no action %s', coalesce(undo_fraud_action.id::text, 'null'))
                    when v_action.status = 'queued' then format('action %s is being sent to Stripe', v_action.id)
                    else format('action %s (%s, %s) can''t be undone', v_action.id, v_action.action, v_action.status)
                end
                using errcode = 'TB075', hint = 'Only a freeze, or an action that was not sent to Stripe yet, can be undone.';
        end if;
    end if;
    select * into v_action from billing.fraud_actions where fraud_actions.id = undo_fraud_action.id;
    return v_action;
end
$$;

revoke all on function
    billing._freeze_account, billing.freeze_account, billing.unfreeze_account, billing._warning,
    billing.resolve_fraud_warning, billing.note_fraud, billing.refund_fraud_warning, billing.undo_fraud_action
from public, anon, authenticated, service_role;
grant execute on function
    billing.freeze_account(uuid, text, text), billing.unfreeze_account(uuid, text, text),
    billing.resolve_fraud_warning(text, text, text, text), billing.note_fraud(text, text, text),
    billing.refund_fraud_warning(text, text, text), billing.undo_fraud_action(bigint, text, text)
to service_role;

comment on function billing.freeze_account(uuid, text, text) is 'Refuses what takes credits out of an account (TB003) until it is unfrozen.';
comment on function billing.unfreeze_account(uuid, text, text) is 'Lets an account spend again; what froze it is marked as undone.';
comment on function billing.resolve_fraud_warning(text, text, text, text) is 'Closes a warning (decision: resolved or dismissed), or opens it again (open).';
comment on function billing.note_fraud(text, text, text) is 'Writes a note beside a warning.';
comment on function billing.refund_fraud_warning(text, text, text) is 'Has the rest of a warning''s charge refunded by the worker, once.';
comment on function billing.undo_fraud_action(bigint, text, text) is 'Undoes a freeze, or an action that Stripe was not asked for yet.';

-- 55_fraud/30_judge_fraud_warnings.sql

-- Early fraud warnings → what is done about them, by a policy that can be read, tried dry and undone.
--
-- Invariant: the policy is applied when a warning first arrives, and again when its account or subscription becomes known
-- (its customer is linked, its payment's invoice arrives); never by a replay. An action that was done or undone is not
-- repeated. What the database can do (alert, freeze) is done in the transaction of the warning; what Stripe must do (refund,
-- cancel) is queued for the worker. service_role may ask for a judgement.

-- What the policy would do about a warning now, and why not where it would not. Reads only.
create function billing.judge_fraud_warning(stripe_early_fraud_warning_id text)
returns table (
    action text, is_due boolean, reason text, stripe_subscription_id text, amount bigint, currency text
)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    with case_at_hand as (
        select
            warnings.account_id, warnings.actionable, warnings.stripe_charge_id,
            policies.risk_level, warnings.warned_at, warnings.livemode,
            policies.alert, policies.freeze_account, policies.refund, policies.refund_amount_max,
            policies.refund_age_max, policies.cancel_subscription,
            payments.stripe_charge_id is not null as is_known, payments.amount - payments.amount_refunded as left_over,
            payments.currency, payments.is_disputed, payments.is_liability_shifted, payments.charged_at,
            accounts.frozen_at, accounts.closed_at
        from billing.fraud_warnings as warnings
        -- A level that has no policy, such as one that Stripe added, is unknown.
        join billing.fraud_policies as policies on policies.risk_level = coalesce(
            (select known.risk_level from billing.fraud_policies as known where known.risk_level = warnings.risk_level),
            'unknown'
        )
        left join billing.payments on payments.stripe_charge_id = warnings.stripe_charge_id
        left join billing.accounts on accounts.id = warnings.account_id
        where warnings.stripe_early_fraud_warning_id = judge_fraud_warning.stripe_early_fraud_warning_id
    ),
    verdicts as (
        select
            'alert' as action, null::text as obstacle, null::text as stripe_subscription_id, null::bigint as amount,
            null::text as currency
        from case_at_hand where case_at_hand.alert
        union all
        select
            'freeze_account',
            case
                when case_at_hand.account_id is null then 'its customer is not linked to an account'
                when case_at_hand.closed_at is not null then 'the account is closed'
                when case_at_hand.frozen_at is not null then 'the account is frozen already'
            end, null, null, null
        from case_at_hand where case_at_hand.freeze_account
        union all
        select
            'refund',
            case
                when not case_at_hand.is_known then 'its charge is not known here'
                when case_at_hand.is_disputed then 'the charge is disputed'
                when case_at_hand.left_over = 0 then 'the charge is refunded already'
                when not case_at_hand.actionable then 'the warning is not actionable'
                when case_at_hand.is_liability_shifted then 'the card was authenticated: the issuer is liable'
                when case_at_hand.left_over > case_at_hand.refund_amount_max
                    then format('%s are more than refund_amount_max %s', case_at_hand.left_over, case_at_hand.refund_amount_max)
                when case_at_hand.charged_at < billing.current_time() - case_at_hand.refund_age_max
                    then format('the charge is older than refund_age_max %s', case_at_hand.refund_age_max)
            end, null, case_at_hand.left_over, case_at_hand.currency
        from case_at_hand where case_at_hand.refund
        union all
        select
            'cancel_subscription',
            case
                when paid.stripe_subscription_id is null then 'its charge paid for no subscription that is known here'
                when paid.ended_at is not null then 'the subscription has ended'
            end, paid.stripe_subscription_id, null, null
        from case_at_hand
        left join lateral (
            select distinct subscriptions.stripe_subscription_id, subscriptions.ended_at
            from billing.payments
            join billing.invoice_payments
                on invoice_payments.stripe_payment_intent_id = payments.stripe_payment_intent_id
                or invoice_payments.stripe_charge_id = payments.stripe_charge_id
            join billing.invoices on invoices.stripe_invoice_id = invoice_payments.stripe_invoice_id
            join billing.subscriptions on subscriptions.stripe_subscription_id = invoices.stripe_subscription_id
            where payments.stripe_charge_id = case_at_hand.stripe_charge_id
        ) as paid on true
        where case_at_hand.cancel_subscription
    ),
    -- What was decided before stands: done, asked for, or undone by a person.
    decided as (
        select
            verdicts.*,
            (
                select case fraud_actions.status
                    when 'undone' then format('%s has undone it', fraud_actions.undone_by)
                    when 'failed' then format('it failed: %s', fraud_actions.last_error)
                    else format('it is %s already', fraud_actions.status)
                end
                from billing.fraud_actions
                where fraud_actions.stripe_early_fraud_warning_id = judge_fraud_warning.stripe_early_fraud_warning_id
                    and fraud_actions.action = verdicts.action and fraud_actions.status <> 'skipped'
                    and fraud_actions.stripe_subscription_id is not distinct from verdicts.stripe_subscription_id
                order by fraud_actions.id desc
                limit 1
            ) as before
        from verdicts
    )
    select
        decided.action, coalesce(decided.before, decided.obstacle) is null,
        coalesce(decided.before, decided.obstacle, 'risk ' || case_at_hand.risk_level), decided.stripe_subscription_id,
        decided.amount, decided.currency
    from decided cross join case_at_hand
$$;

create function billing._alert_of_warning(warning billing.fraud_warnings)
returns void
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    insert into billing.notifications (account_id, audience, kind, dedupe_key, payload)
    select
        (_alert_of_warning.warning).account_id, 'administrators', 'fraud_warning',
        'fraud_warning:' || (_alert_of_warning.warning).stripe_early_fraud_warning_id,
        jsonb_build_object(
            'stripe_early_fraud_warning_id', (_alert_of_warning.warning).stripe_early_fraud_warning_id,
            'stripe_charge_id', (_alert_of_warning.warning).stripe_charge_id,
            'fraud_type', (_alert_of_warning.warning).fraud_type,
            'risk_level', (_alert_of_warning.warning).risk_level, 'amount', max(payments.amount),
            'currency', max(payments.currency)
        )
    from billing.payments where payments.stripe_charge_id = (_alert_of_warning.warning).stripe_charge_id
    on conflict (dedupe_key) do nothing
$$;

-- Does what the policy says about a warning; what it has done already it does not do again. Nothing in a dry run.
create function billing._act_on_warning(warning billing.fraud_warnings)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_warning billing.fraud_warnings := _act_on_warning.warning;
    v_verdict record;
    v_action billing.fraud_actions;
begin
    if (select settings.fraud_dry_run from billing.settings) then
        return;
    elsif v_warning.account_id is not null then
        perform billing._lock_balance(v_warning.account_id);
    end if;
    for v_verdict in select * from billing.judge_fraud_warning(v_warning.stripe_early_fraud_warning_id) loop
        insert into billing.fraud_actions as held (
            stripe_early_fraud_warning_id, account_id, action, status, reason, actor, stripe_charge_id,
            stripe_subscription_id, amount, currency, decided_at, settled_at
        )
        select
            v_warning.stripe_early_fraud_warning_id, v_warning.account_id, v_verdict.action, became.status,
            v_verdict.reason, 'policy', v_warning.stripe_charge_id, v_verdict.stripe_subscription_id, v_verdict.amount,
            v_verdict.currency, billing.current_time(),
            case when became.status = 'done' then billing.current_time() end
        from (
            select case
                when not v_verdict.is_due then 'skipped'
                when v_verdict.action in ('alert', 'freeze_account') then 'done'
                else 'queued'
            end as status
        ) as became
        -- An account that is linked later can be frozen then.
        on conflict (stripe_early_fraud_warning_id, action, coalesce(stripe_subscription_id, '')) where actor = 'policy'
        do update
        set account_id = excluded.account_id, status = excluded.status, reason = excluded.reason,
            decided_at = excluded.decided_at, settled_at = excluded.settled_at, updated_at = now()
        where held.status = 'skipped' and excluded.status <> 'skipped'
        returning * into v_action;
        if not found or v_action.status <> 'done' then
            continue;
        elsif v_action.action = 'alert' then
            perform billing._alert_of_warning(v_warning);
        elsif v_action.action = 'freeze_account' then
            perform billing._freeze_account(
                v_warning.account_id, 'early fraud warning ' || v_warning.stripe_early_fraud_warning_id
            );
        end if;
    end loop;
end
$$;

revoke all on function
    billing.judge_fraud_warning, billing._alert_of_warning, billing._act_on_warning
from public, anon, authenticated, service_role;
grant execute on function billing.judge_fraud_warning(text) to service_role;

comment on function billing.judge_fraud_warning(text) is 'What the policy would do about a warning now, and why not where it would not. Changes nothing.';

-- 55_fraud/40_take_fraud_actions.sql

-- Refunds and cancellations that were decided on → jobs of the worker, which asks Stripe → what became of them.
--
-- Invariant: a queued action is a job; while one worker has it in hand, no other has. If that worker dies, the same is asked
-- for again with the same key (idempotency_key). From its beginning until the worker knows better an action is in doubt:
-- Stripe may have done it, so it can't be undone. Callable by billing_worker.

create function billing.tg_fraud_actions__enqueue()
returns trigger
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform billing._enqueue_jobs('fraud_action', array[new.id::text]);
    return null;
end
$$;

create trigger tg_fraud_actions__made_queued
after insert on billing.fraud_actions
for each row when (new.status = 'queued')
execute function billing.tg_fraud_actions__enqueue();

create trigger tg_fraud_actions__queued
after update of status on billing.fraud_actions
for each row when (old.status <> 'queued' and new.status = 'queued')
execute function billing.tg_fraud_actions__enqueue();

-- Which of these jobs' actions are still to be done. was_in_doubt: an earlier attempt may have been done, and its answer was
-- lost.
create function billing.begin_fraud_actions(msg_ids bigint[], ids text[])
returns table (
    msg_id bigint, id bigint, idempotency_key uuid, action text, stripe_charge_id text, stripe_subscription_id text,
    attempts integer, was_in_doubt boolean
)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '500ms'
as $$
begin
    return query
    with begun as (
        select job.msg_id, actions.id, actions.is_in_doubt
        from unnest(begin_fraud_actions.msg_ids, begin_fraud_actions.ids) as job (msg_id, id)
        join billing.fraud_actions as actions on actions.id = job.id::bigint
        where actions.status = 'queued'
        for update of actions
    )
    update billing.fraud_actions
    set attempts = fraud_actions.attempts + 1, is_in_doubt = true, updated_at = now()
    from begun
    where fraud_actions.id = begun.id
    returning
        begun.msg_id, fraud_actions.id, fraud_actions.idempotency_key, fraud_actions.action,
        fraud_actions.stripe_charge_id, fraud_actions.stripe_subscription_id, fraud_actions.attempts, begun.is_in_doubt;
end
$$;

create function billing._tell_of_failed_action(action billing.fraud_actions)
returns void
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    insert into billing.notifications (account_id, audience, kind, dedupe_key, payload)
    select
        failed.account_id, 'administrators', 'fraud_action_failed', 'fraud_action_failed:' || failed.id,
        jsonb_strip_nulls(jsonb_build_object(
            'action', failed.action, 'reason', failed.last_error, 'decided_because', failed.reason,
            'stripe_early_fraud_warning_id', failed.stripe_early_fraud_warning_id,
            'stripe_charge_id', failed.stripe_charge_id, 'stripe_subscription_id', failed.stripe_subscription_id
        ))
    from (select (_tell_of_failed_action.action).*) as failed
    where failed.status = 'failed'
    on conflict (dedupe_key) do nothing
$$;

-- A refund of ours that Stripe made and the bank refused.
create function billing._fail_refund_action(stripe_refund_id text)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_action billing.fraud_actions;
begin
    update billing.fraud_actions
    set status = 'failed', last_error = coalesce('the refund failed: ' || refunds.failure_reason, 'the refund failed'),
        updated_at = now()
    from billing.refunds
    where fraud_actions.stripe_refund_id = _fail_refund_action.stripe_refund_id and fraud_actions.status = 'done'
        and refunds.stripe_refund_id = fraud_actions.stripe_refund_id and refunds.status in ('failed', 'canceled')
    returning fraud_actions.* into v_action;
    if found then
        perform billing._tell_of_failed_action(v_action);
    end if;
end
$$;

-- outcome: done, failed (Stripe refuses for good), or queued: once more in retry_in_seconds. is_in_doubt: nobody knows
-- whether Stripe has done it. reason: what stood in the way.
create function billing.record_fraud_action(
    msg_id bigint, id bigint, outcome text, stripe_refund_id text, reason text, is_in_doubt boolean,
    retry_in_seconds integer
)
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '500ms'
as $$
declare
    v_is_in_hand boolean;
    v_action billing.fraud_actions;
begin
    -- As sync_refund does: neither commits without having seen the other.
    perform billing._lock_arrival(record_fraud_action.stripe_refund_id) where record_fraud_action.stripe_refund_id is not null;
    v_is_in_hand := billing._end_job(
        record_fraud_action.msg_id,
        case when record_fraud_action.outcome = 'queued' then record_fraud_action.retry_in_seconds end,
        record_fraud_action.reason
    );
    if record_fraud_action.outcome = 'queued' then
        update billing.fraud_actions
        set last_error = record_fraud_action.reason, is_in_doubt = record_fraud_action.is_in_doubt, updated_at = now()
        where fraud_actions.id = record_fraud_action.id and fraud_actions.status = 'queued' and v_is_in_hand;
        return;
    end if;
    update billing.fraud_actions
    set status = record_fraud_action.outcome,
        stripe_refund_id = record_fraud_action.stripe_refund_id,
        last_error = record_fraud_action.reason,
        is_in_doubt = record_fraud_action.is_in_doubt,
        settled_at = billing.current_time(),
        updated_at = now()
    where fraud_actions.id = record_fraud_action.id and fraud_actions.status = 'queued'
    returning * into v_action;
    perform billing._tell_of_failed_action(v_action);
    perform billing._fail_refund_action(record_fraud_action.stripe_refund_id);
end
$$;

revoke all on function
    billing.tg_fraud_actions__enqueue, billing.begin_fraud_actions, billing._tell_of_failed_action,
    billing._fail_refund_action, billing.record_fraud_action
from public, anon, authenticated, service_role;
grant execute on function
    billing.begin_fraud_actions(bigint[], text[]),
    billing.record_fraud_action(bigint, bigint, text, text, text, boolean, integer)
to billing_worker;

comment on function billing.begin_fraud_actions(bigint[], text[]) is 'Refunds and cancellations to ask Stripe for, of the jobs that the caller took.';
comment on function billing.record_fraud_action(bigint, bigint, text, text, text, boolean, integer) is 'What became of an action at Stripe: done, failed, or queued to be tried again.';

-- 55_fraud/50_deleted_users.sql

-- Users who are deleted while a subscription goes on charging their card → administrators are notified, and, where the
-- settings say so, the worker has Stripe cancel the subscription.
--
-- Invariant: deleting a user never fails because of billing, and waits for it a second at most: if an error occurs here,
-- the deletion succeeds, and enqueue_deleted_users reports it later. Each subscription is reported once. A cancellation
-- is a row of fraud_actions (actor on_user_deleted), once for each subscription: it is done, retried and can be undone as
-- one because of fraud.
--
-- Callable by billing_worker. Private: _report_deleted_user, _report_if_deleted.

-- Reports subscriptions that go on charging although no user can use them; repeated calls report nothing twice. A
-- subscription that ends with its period charges no more.
create function billing._report_deleted_user(account_id uuid)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_subscription record;
    v_policy text := (select settings.on_user_deleted from billing.settings);
begin
    if billing._has_user(_report_deleted_user.account_id) then
        return;
    end if;
    for v_subscription in
        select subscriptions.stripe_subscription_id, subscriptions.stripe_customer_id, subscriptions.status
        from billing.subscriptions
        where subscriptions.account_id = _report_deleted_user.account_id
            and subscriptions.livemode = billing.is_livemode() and not subscriptions.cancel_at_period_end
            and subscriptions.status in ('active', 'trialing', 'past_due', 'unpaid', 'paused')
        order by subscriptions.stripe_subscription_id
    loop
        perform billing._notify(
            _report_deleted_user.account_id, 'administrators', 'user_deleted_while_subscribed',
            'user_deleted_while_subscribed:' || v_subscription.stripe_subscription_id,
            jsonb_build_object(
                'stripe_subscription_id', v_subscription.stripe_subscription_id,
                'stripe_customer_id', v_subscription.stripe_customer_id, 'status', v_subscription.status,
                'on_user_deleted', v_policy
            )
        );
        if v_policy = 'cancel' then
            insert into billing.fraud_actions (
                account_id, action, status, reason, actor, stripe_subscription_id, decided_at
            )
            values (
                _report_deleted_user.account_id, 'cancel_subscription', 'queued', 'the user was deleted',
                'on_user_deleted', v_subscription.stripe_subscription_id, billing.current_time()
            )
            on conflict (stripe_subscription_id) where actor = 'on_user_deleted' do nothing;
        end if;
    end loop;
end
$$;

-- The account's owner, or a member, was deleted: not one who was removed from a team, or handed it over.
create function billing._report_if_deleted(user_id uuid, account_id uuid)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set lock_timeout = '1s'
as $$
begin
    if not exists (
        select from auth.users where users.id = _report_if_deleted.user_id and users.deleted_at is null
    ) then
        perform billing._report_deleted_user(_report_if_deleted.account_id);
    end if;
exception when others then
    raise warning 'could not check the subscriptions of account %: %', _report_if_deleted.account_id, sqlerrm;
end
$$;

create function billing.tg_accounts__owner_deleted()
returns trigger
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform billing._report_if_deleted(old.owner_id, old.id);
    return null;
end
$$;

create function billing.tg_account_members__member_deleted()
returns trigger
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform billing._report_if_deleted(old.user_id, old.account_id);
    return null;
end
$$;

create function billing.tg_users__deleted_softly()
returns trigger
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform billing._report_if_deleted(new.id, mine.account_id)
    from (
        select accounts.id as account_id from billing.accounts where accounts.owner_id = new.id
        union
        select account_members.account_id from billing.account_members where account_members.user_id = new.id
    ) as mine;
    return null;
exception when others then
    raise warning 'could not check the subscriptions of user %: %', new.id, sqlerrm;
    return null;
end
$$;

-- At the end of the transaction, when the owner and the members of one deletion are deleted.
create constraint trigger tg_accounts__owner_deleted
after update of owner_id on billing.accounts
deferrable initially deferred
for each row when (old.owner_id is not null and new.owner_id is null)
execute function billing.tg_accounts__owner_deleted();

create constraint trigger tg_account_members__member_deleted
after delete on billing.account_members
deferrable initially deferred
for each row execute function billing.tg_account_members__member_deleted();

create trigger tg_users__deleted_softly
after update of deleted_at on auth.users
for each row when (new.deleted_at is not null and old.deleted_at is null)
execute function billing.tg_users__deleted_softly();

-- Checks personal accounts of deleted users again for later changes: a subscription that Stripe reported after the
-- deletion, one that will no longer end, another policy.
create function billing.enqueue_deleted_users()
returns void
language sql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
    select billing._report_deleted_user(abandoned.id) from (
        select accounts.id from billing.accounts
        join billing.subscriptions on subscriptions.account_id = accounts.id
        cross join billing.settings
        where accounts.owner_id is null and accounts.kind = 'personal'
            and subscriptions.livemode = settings.livemode and not subscriptions.cancel_at_period_end
            and subscriptions.status in ('active', 'trialing', 'past_due', 'unpaid', 'paused')
            and (
                not exists (
                    select from billing.notifications
                    where notifications.dedupe_key
                        = 'user_deleted_while_subscribed:' || subscriptions.stripe_subscription_id
                )
                or settings.on_user_deleted = 'cancel' and not exists (
                    select from billing.fraud_actions
                    where fraud_actions.stripe_subscription_id = subscriptions.stripe_subscription_id
                        and fraud_actions.actor = 'on_user_deleted'
                )
            )
        group by accounts.id
        order by accounts.id
        limit 1000
    ) as abandoned
$$;

revoke all on function
    billing._report_deleted_user, billing._report_if_deleted, billing.tg_accounts__owner_deleted,
    billing.tg_account_members__member_deleted, billing.tg_users__deleted_softly, billing.enqueue_deleted_users
from public, anon, authenticated, service_role;
grant execute on function billing.enqueue_deleted_users() to billing_worker;

comment on function billing.enqueue_deleted_users() is 'Reports subscriptions of deleted users that go on charging, once each, and has them canceled where settings.on_user_deleted says so.';

-- 57_teams/10_invitations.sql

-- Invitations to teams: one open invitation for each team and address.
--
-- Invariant: of a token only its SHA-256 is stored. Owners and admins of a team read its invitations; only functions write.

create table billing.team_invitations (
    id bigint generated always as identity primary key,
    account_id uuid not null references billing.accounts (id) on delete cascade,
    email text not null,
    role text not null,
    token_hash bytea not null unique,
    invited_by uuid references auth.users (id) on delete set null,
    accepted_by uuid references auth.users (id) on delete set null,
    closed_as text,
    closed_at timestamptz,
    expires_at timestamptz not null,
    created_at timestamptz not null default now(),
    constraint role_can_be_invited check (role in ('admin', 'member')),
    constraint closed_as_is_known check (closed_as in ('accepted', 'revoked', 'replaced')),
    constraint closed_invitations_say_how check ((closed_at is null) = (closed_as is null))
);

create unique index team_invitations_open on billing.team_invitations (account_id, email) where closed_at is null;
create index team_invitations_inviter on billing.team_invitations (invited_by);
create index team_invitations_accepter on billing.team_invitations (accepted_by);

create function billing._token_hash(token text)
returns bytea
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
    select sha256(convert_to(_token_hash.token, 'UTF8'))
$$;

alter table billing.team_invitations enable row level security;

revoke all on all sequences in schema billing from public, anon, authenticated, service_role;
revoke all on billing.team_invitations from public, anon, authenticated, service_role;
revoke all on function billing._token_hash from public, anon, authenticated, service_role;

create policy team_invitations_select_managed on billing.team_invitations
for select to authenticated using (account_id = any (array(select billing.my_managed_account_ids())));

grant select (id, account_id, email, role, invited_by, accepted_by, closed_as, closed_at, expires_at, created_at)
on billing.team_invitations to authenticated, service_role;

comment on table billing.team_invitations is 'Invitations to teams, open and closed.';
comment on column billing.team_invitations.token_hash is 'SHA-256 of the token in the link.';
comment on column billing.team_invitations.closed_as is 'accepted, revoked, or replaced by a newer invitation of the same address; null while it is open.';

-- 57_teams/20_teams.sql

-- Teams: accounts that several users share, each with a role.
--
-- Invariant: a team that has members has an owner among them, who is accounts.owner_id; the last owner can neither leave
-- nor become something else. Only a deleted user leaves a team without an owner: another owner of the team takes the
-- place at once, otherwise an administrator hands it over with transfer_ownership.
--
--     owner    everything, also other owners and the team itself
--     admin    admins, members and invitations; buys for the team
--     member   reads the team's credits
--
-- Callers: a signed-in user acts as what the verified token says; the app's own server (service_role, postgres) may do
-- everything. Every change locks the account's row, so what is checked holds until it is written.

-- The team, locked; and the rank of who acts: 3 owner or the app's own server, 2 admin, 1 member.
create function billing._lock_team(account_id uuid, out team billing.accounts, out rank integer)
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    select * into team from billing.accounts where accounts.id = _lock_team.account_id for no key update;
    rank := case
        when billing._sees_every_account() or team.owner_id = auth.uid() then 3
        else billing._rank((
            select account_members.role from billing.account_members
            where account_members.account_id = _lock_team.account_id and account_members.user_id = auth.uid()
        ))
    end;
    if team.kind is distinct from 'team' or rank = 0 then
        raise exception 'there is no such team: %', _lock_team.account_id
            using errcode = 'TB076', hint = 'Pass the id of a team that you belong to. create_team makes one.';
    end if;
end
$$;

create function billing._rank(role text)
returns integer
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
    select case _rank.role when 'owner' then 3 when 'admin' then 2 when 'member' then 1 else 0 end
$$;

-- Refuses who is not at least an admin, and who would touch somebody of a higher rank than their own.
create function billing._check_rank(rank integer, role text)
returns void
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    if _check_rank.role is null or billing._rank(_check_rank.role) = 0 then
        raise exception 'there is no role %', coalesce(_check_rank.role, 'null')
            using errcode = 'TB077', hint = 'Roles are owner, admin and member.';
    elsif _check_rank.rank < greatest(billing._rank(_check_rank.role), 2) then
        raise exception 'your role in this team does not allow this'
            using errcode = 'TB078', hint = 'Admins manage admins and members; owners manage everybody.';
    end if;
end
$$;

create function billing._check_user(user_id uuid)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    if not exists (
        select from auth.users where users.id = _check_user.user_id and users.deleted_at is null
    ) then
        raise exception 'there is no such user: %', coalesce(_check_user.user_id::text, 'null')
            using errcode = 'TB079', hint = 'Pass the id of a row in auth.users that is not deleted.';
    end if;
end
$$;

-- Refuses one more member than the team has seats, where the settings limit them. Open invitations count.
create function billing._check_seats(account_id uuid, leaving_out_email text default null)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_seats bigint;
    v_taken bigint;
begin
    if not (select settings.limit_members_to_seats from billing.settings) then
        return;
    end if;
    select greatest(1, max(items.quantity)) into v_seats
    from billing.subscriptions
    join billing.subscription_items as items
        on items.stripe_subscription_id = subscriptions.stripe_subscription_id
    where subscriptions.account_id = _check_seats.account_id and subscriptions.livemode = billing.is_livemode()
        and subscriptions.status in ('trialing', 'active', 'past_due');
    select
        (
            select count(*) from billing.account_members
            where account_members.account_id = _check_seats.account_id
        ) + (
            select count(*) from billing.team_invitations
            where team_invitations.account_id = _check_seats.account_id and team_invitations.closed_at is null
                and team_invitations.expires_at > billing.current_time()
                and team_invitations.email is distinct from _check_seats.leaving_out_email
        )
    into v_taken;
    if v_taken >= v_seats then
        raise exception 'all % seats of this team are taken', v_seats
            using errcode = 'TB080', hint = 'Buy more seats (the quantity of the subscription), or remove a member or an invitation.';
    end if;
end
$$;

-- accounts.owner_id is always an owner among the members: it stays, or the owner of longest standing takes its place.
create function billing._appoint_owner(account_id uuid)
returns void
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    update billing.accounts
    set owner_id = (
            select account_members.user_id from billing.account_members
            where account_members.account_id = accounts.id and account_members.role = 'owner'
            order by account_members.user_id <> accounts.owner_id, account_members.created_at, account_members.user_id
            limit 1
        ),
        updated_at = now()
    where accounts.id = _appoint_owner.account_id and accounts.kind = 'team'
        and not exists (
            select from billing.account_members
            where account_members.account_id = accounts.id and account_members.user_id = accounts.owner_id
                and account_members.role = 'owner'
        )
$$;

create function billing._check_owner_is_left(account_id uuid)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    if not exists (
        select from billing.account_members
        where account_members.account_id = _check_owner_is_left.account_id and account_members.role = 'owner'
    ) then
        raise exception 'a team needs an owner'
            using errcode = 'TB081', hint = 'Make somebody else an owner first: set_member_role or transfer_ownership.';
    end if;
end
$$;

-- The same owner and name return the same team, so a call whose answer was lost can be repeated.
create function billing.create_team(name text, owner_id uuid)
returns billing.accounts
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_name text := btrim(create_team.name);
    v_team billing.accounts;
begin
    if coalesce(length(v_name), 0) not between 1 and 255 then
        raise exception 'the name of a team must have 1 to 255 characters'
            using errcode = 'TB082', hint = 'Pass a name for people to read.';
    end if;
    perform billing._check_user(create_team.owner_id);
    perform pg_advisory_xact_lock(hashtextextended('team:' || create_team.owner_id || ':' || v_name, 0));
    select * into v_team from billing.accounts
    where accounts.owner_id = create_team.owner_id and accounts.kind = 'team' and accounts.name = v_name
        and accounts.closed_at is null
    order by accounts.created_at
    limit 1;
    if not found then
        insert into billing.accounts (kind, name, owner_id) values ('team', v_name, create_team.owner_id)
        returning * into v_team;
        insert into billing.account_members (account_id, user_id, role)
        values (v_team.id, create_team.owner_id, 'owner');
    end if;
    return v_team;
end
$$;

-- A member is added once; another role for them is set_member_role's to give.
create function billing.add_member(account_id uuid, user_id uuid, role text default 'member')
returns billing.account_members
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_member billing.account_members;
begin
    perform billing._lock_team(add_member.account_id);
    perform billing._check_rank(3, add_member.role);
    perform billing._check_user(add_member.user_id);
    select * into v_member from billing.account_members
    where account_members.account_id = add_member.account_id and account_members.user_id = add_member.user_id;
    if found and v_member.role <> add_member.role then
        raise exception 'this user is a member already, with the role %', v_member.role
            using errcode = 'TB083', hint = 'Change it with set_member_role.';
    elsif not found then
        perform billing._check_seats(add_member.account_id);
        insert into billing.account_members (account_id, user_id, role)
        values (add_member.account_id, add_member.user_id, add_member.role)
        returning * into v_member;
        perform billing._appoint_owner(add_member.account_id);
    end if;
    return v_member;
end
$$;

create function billing.set_member_role(account_id uuid, user_id uuid, role text)
returns billing.account_members
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_rank integer := (billing._lock_team(set_member_role.account_id)).rank;
    v_member billing.account_members;
begin
    v_member := billing._member(set_member_role.account_id, set_member_role.user_id);
    perform billing._check_rank(v_rank, set_member_role.role);
    perform billing._check_rank(v_rank, v_member.role);
    update billing.account_members
    set role = set_member_role.role
    where account_members.account_id = set_member_role.account_id
        and account_members.user_id = set_member_role.user_id
    returning * into v_member;
    perform billing._check_owner_is_left(set_member_role.account_id);
    perform billing._appoint_owner(set_member_role.account_id);
    return v_member;
end
$$;

create function billing._member(account_id uuid, user_id uuid)
returns billing.account_members
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_member billing.account_members;
begin
    select * into v_member from billing.account_members
    where account_members.account_id = _member.account_id and account_members.user_id = _member.user_id;
    if not found then
        raise exception 'this user is not a member of the team'
            using errcode = 'TB084', hint = 'team_members lists them.';
    end if;
    return v_member;
end
$$;

-- Everybody may leave; others are removed by who manages them.
create function billing.remove_member(account_id uuid, user_id uuid)
returns billing.account_members
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_rank integer := (billing._lock_team(remove_member.account_id)).rank;
    v_member billing.account_members;
begin
    v_member := billing._member(remove_member.account_id, remove_member.user_id);
    if v_member.user_id is distinct from (select auth.uid()) then
        perform billing._check_rank(v_rank, v_member.role);
    end if;
    delete from billing.account_members
    where account_members.account_id = remove_member.account_id
        and account_members.user_id = remove_member.user_id;
    perform billing._check_owner_is_left(remove_member.account_id);
    return v_member;
end
$$;

-- An owner hands the team to a member; the app's own server hands it to any user, and also the account of a deleted
-- user, which becomes a team.
create function billing.transfer_ownership(account_id uuid, user_id uuid)
returns billing.account_members
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_is_server boolean := billing._sees_every_account();
    v_rank integer;
    v_owner billing.account_members;
begin
    if v_is_server then
        update billing.accounts
        set kind = 'team', name = coalesce(accounts.name, 'Account ' || left(accounts.id::text, 8)), updated_at = now()
        where accounts.id = transfer_ownership.account_id and accounts.kind = 'personal' and accounts.owner_id is null;
    end if;
    v_rank := (billing._lock_team(transfer_ownership.account_id)).rank;
    perform billing._check_rank(v_rank, 'owner');
    perform billing._check_user(transfer_ownership.user_id);
    if not v_is_server then
        perform billing._member(transfer_ownership.account_id, transfer_ownership.user_id);
    end if;
    update billing.account_members
    set role = 'admin'
    from billing.accounts
    where accounts.id = transfer_ownership.account_id and account_members.account_id = accounts.id
        and account_members.user_id = accounts.owner_id and accounts.owner_id <> transfer_ownership.user_id;
    insert into billing.account_members as held (account_id, user_id, role)
    values (transfer_ownership.account_id, transfer_ownership.user_id, 'owner')
    on conflict on constraint account_members_pkey do update set role = 'owner'
    returning * into v_owner;
    update billing.accounts
    set owner_id = transfer_ownership.user_id, updated_at = now()
    where accounts.id = transfer_ownership.account_id;
    return v_owner;
end
$$;

-- Members of a team see each other. Security definer: clients can't read auth.users.
create function billing.team_members(account_id uuid)
returns table (user_id uuid, email text, role text, created_at timestamptz)
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
    select account_members.user_id, users.email::text, account_members.role, account_members.created_at
    from billing.account_members
    join auth.users on users.id = account_members.user_id
    where account_members.account_id = team_members.account_id
        and (
            billing._sees_every_account()
            or account_members.account_id = any (array(select billing.my_account_ids()))
        )
    order by billing._rank(account_members.role) desc, account_members.created_at, users.email
$$;

-- An owner who was removed or deleted: another owner of the team takes their place. A deletion never fails because of it.
create function billing.tg_account_members__appoint_owner()
returns trigger
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '1s'
as $$
begin
    perform billing._appoint_owner(old.account_id);
    return null;
exception when others then
    raise warning 'could not appoint another owner of team %: %', old.account_id, sqlerrm;
    return null;
end
$$;

-- At the end of the transaction, when the owner and the members of one deletion are deleted.
create constraint trigger tg_account_members__appoint_owner
after delete on billing.account_members
deferrable initially deferred
for each row when (old.role = 'owner')
execute function billing.tg_account_members__appoint_owner();

revoke all on function
    billing._lock_team, billing._rank, billing._check_rank, billing._check_user, billing._check_seats,
    billing._appoint_owner, billing._check_owner_is_left, billing.create_team, billing.add_member,
    billing.set_member_role, billing._member, billing.remove_member, billing.transfer_ownership, billing.team_members,
    billing.tg_account_members__appoint_owner
from public, anon, authenticated, service_role;
grant execute on function billing.create_team(text, uuid), billing.add_member(uuid, uuid, text) to service_role;
grant execute on function
    billing.set_member_role(uuid, uuid, text), billing.remove_member(uuid, uuid),
    billing.transfer_ownership(uuid, uuid), billing.team_members(uuid)
to authenticated, service_role;

comment on function billing.create_team(text, uuid) is 'Creates a team account with its owner. The same owner and name return the same team.';
comment on function billing.add_member(uuid, uuid, text) is 'Adds a user to a team as member, admin or owner. Repeated with the same role it changes nothing.';
comment on function billing.set_member_role(uuid, uuid, text) is 'Changes the role of a member. A team keeps at least one owner.';
comment on function billing.remove_member(uuid, uuid) is 'Removes a member, or lets the signed-in user leave. The last owner can''t leave.';
comment on function billing.transfer_ownership(uuid, uuid) is 'Makes a member the owner of a team, and the former owner an admin. Your server can also hand over the account of a deleted user, which becomes a team.';
comment on function billing.team_members(uuid) is 'The members of a team with their e-mail addresses, for its members and your server.';

-- 57_teams/30_invite.sql

-- Invitations: a link that makes whoever opens it, signed in with the invited address, a member of a team, once.
--
-- Invariant: the token of a link is random, is returned once, and only its SHA-256 is stored. It expires, works for one
-- user, and only for a user whose confirmed e-mail address is the one that was invited. A new invitation of an address
-- replaces the open one. Owners and admins of a team invite, revoke and read; nobody can invite an owner.

create function billing.invite_member(account_id uuid, email text, role text default 'member')
returns table (invitation_id bigint, token text, expires_at timestamptz)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_rank integer := (billing._lock_team(invite_member.account_id)).rank;
    v_email text := lower(btrim(invite_member.email));
    v_now timestamptz := billing.current_time();
begin
    perform billing._check_rank(v_rank, invite_member.role);
    if invite_member.role = 'owner' then
        raise exception 'an owner cannot be invited'
            using errcode = 'TB077', hint = 'Invite an admin, then use transfer_ownership.';
    elsif (v_email ~ '^[^@[:space:]]+@[^@[:space:]]+$' and length(v_email) <= 255) is not true then
        raise exception 'the e-mail address cannot be invited'
            using errcode = 'TB085', hint = 'Pass one address, such as ada@example.com.';
    elsif exists (
        select from billing.account_members join auth.users on users.id = account_members.user_id
        where account_members.account_id = invite_member.account_id and lower(users.email) = v_email
    ) then
        raise exception 'this user is a member already'
            using errcode = 'TB083', hint = 'Change a role with set_member_role.';
    end if;
    perform billing._check_seats(invite_member.account_id, v_email);
    update billing.team_invitations
    set closed_at = v_now, closed_as = 'replaced'
    where team_invitations.account_id = invite_member.account_id and team_invitations.email = v_email
        and team_invitations.closed_at is null;
    token := replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', '');
    insert into billing.team_invitations (account_id, email, role, token_hash, invited_by, expires_at, created_at)
    select
        invite_member.account_id, v_email, invite_member.role, billing._token_hash(token), auth.uid(),
        v_now + settings.invitation_lifetime, v_now
    from billing.settings
    returning team_invitations.id, team_invitations.expires_at into invitation_id, expires_at;
    return next;
end
$$;

-- Repeated by the same user it returns the same member. A signed-in user accepts for themselves; the app's own server
-- names the user.
create function billing.accept_invitation(token text, user_id uuid default null)
returns billing.account_members
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_user_id uuid := case when billing._sees_every_account() then accept_invitation.user_id else auth.uid() end;
    v_invitation billing.team_invitations;
    v_member billing.account_members;
    v_now timestamptz := billing.current_time();
begin
    perform billing._check_user(v_user_id);
    -- The team is locked first, as everywhere.
    select * into v_invitation from billing.team_invitations
    where team_invitations.token_hash = billing._token_hash(accept_invitation.token);
    perform from billing.accounts where accounts.id = v_invitation.account_id for no key update;
    select * into v_invitation from billing.team_invitations where team_invitations.id = v_invitation.id for update;
    select * into v_member from billing.account_members
    where account_members.account_id = v_invitation.account_id and account_members.user_id = v_user_id;
    if v_invitation.closed_as = 'accepted' and found then
        return v_member;
    elsif v_invitation.id is null or v_invitation.closed_at is not null or v_invitation.expires_at <= v_now then
        raise exception 'this invitation is no longer valid'
            using errcode = 'TB086', hint = 'It was used, revoked or has expired. Ask an owner or admin of the team for another.';
    elsif not exists (
        select from auth.users
        where users.id = v_user_id and lower(users.email) = v_invitation.email and users.email_confirmed_at is not null
    ) then
        raise exception 'this invitation is for another e-mail address'
            using errcode = 'TB087', hint = 'Sign in with the address that was invited, and confirm it.';
    end if;
    update billing.team_invitations
    set closed_at = v_now, closed_as = 'accepted', accepted_by = v_user_id
    where team_invitations.id = v_invitation.id;
    if v_member.user_id is not null then
        return v_member;
    end if;
    perform billing._check_seats(v_invitation.account_id);
    insert into billing.account_members (account_id, user_id, role)
    values (v_invitation.account_id, v_user_id, v_invitation.role)
    returning * into v_member;
    return v_member;
end
$$;

create function billing.revoke_invitation(account_id uuid, email text)
returns boolean
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform billing._check_rank((billing._lock_team(revoke_invitation.account_id)).rank, 'member');
    update billing.team_invitations
    set closed_at = billing.current_time(), closed_as = 'revoked'
    where team_invitations.account_id = revoke_invitation.account_id
        and team_invitations.email = lower(btrim(revoke_invitation.email)) and team_invitations.closed_at is null;
    return found;
end
$$;

revoke all on function billing.invite_member, billing.accept_invitation, billing.revoke_invitation
from public, anon, authenticated, service_role;
grant execute on function
    billing.invite_member(uuid, text, text), billing.accept_invitation(text, uuid), billing.revoke_invitation(uuid, text)
to authenticated, service_role;

comment on function billing.invite_member(uuid, text, text) is 'Invites an e-mail address to a team. Returns the token for the link that you send; it can''t be read again.';
comment on function billing.accept_invitation(text, uuid) is 'Makes the signed-in user a member of the team that invited their confirmed e-mail address. Your server names the user.';
comment on function billing.revoke_invitation(uuid, text) is 'Revokes the open invitation of an address. False if there is none.';

-- 58_sync/10_catalog.sql

-- Products and prices from Stripe → products, plans and credit packs with their credits.
--
-- Invariant: a plan is what its price and its product declare in their newest states, whatever the order of events.
--
-- Called by billing_worker.

-- Updates a plan to what its price and its product declare, and records its terms as of the newer of the two.
create function billing._resolve_plan(stripe_price_id text)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_plan billing.plans;
    v_product billing.products;
begin
    select * into strict v_plan from billing.plans where plans.stripe_price_id = _resolve_plan.stripe_price_id;
    select * into strict v_product from billing.products
    where products.stripe_product_id = v_plan.stripe_product_id;
    v_plan := billing._declared_plan(v_plan, v_product);
    perform billing._set_terms(v_plan);
    if billing._declares_credits(v_plan.metadata) or billing._declares_credits(v_product.metadata) then
        perform billing._record_terms(v_plan, greatest(v_plan.as_of, v_product.as_of));
    end if;
    perform billing._resolve_terms(v_plan, v_product);
end
$$;

-- A late event still says which terms were valid at its time. Invalid metadata is skipped: it was not valid then
-- either.
create function billing._record_late_terms(
    stripe_price_id text, price_metadata jsonb, product_metadata jsonb, as_of timestamptz
)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_plan billing.plans;
    v_product billing.products;
begin
    select * into v_plan from billing.plans where plans.stripe_price_id = _record_late_terms.stripe_price_id;
    select * into v_product from billing.products where products.stripe_product_id = v_plan.stripe_product_id;
    v_plan.metadata := coalesce(_record_late_terms.price_metadata, v_plan.metadata);
    v_product.metadata := coalesce(_record_late_terms.product_metadata, v_product.metadata);
    if v_plan.stripe_price_id is not null
        and (billing._declares_credits(v_plan.metadata) or billing._declares_credits(v_product.metadata)) then
        perform billing._record_terms(billing._declared_plan(v_plan, v_product), _record_late_terms.as_of);
    end if;
exception when sqlstate 'TB017' then
    null;
end
$$;

-- Grants trial credits of trials that started before their price or product was synced, of customers linked meanwhile.
create function billing._allocate_trials(stripe_price_id text)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    perform billing._allocate_subscription(subscriptions.stripe_subscription_id)
    from billing.plans
    join billing.subscription_items as items on items.stripe_price_id = plans.stripe_price_id
    join billing.subscriptions on subscriptions.stripe_subscription_id = items.stripe_subscription_id
    where plans.stripe_price_id = _allocate_trials.stripe_price_id and plans.trial_credits > 0
        and subscriptions.status = 'trialing' and subscriptions.account_id is not null
        and not exists (
            select from billing.credit_grants
            where credit_grants.account_id = subscriptions.account_id and credit_grants.source = 'stripe.trial'
        )
    order by subscriptions.account_id;
end
$$;

create function billing.sync_product(
    stripe_product_id text, livemode boolean, name text, description text, active boolean, metadata jsonb,
    as_of timestamptz
)
returns text
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_as_of timestamptz;
begin
    perform billing._lock_arrival(sync_product.stripe_product_id);
    insert into billing.products as held (
        stripe_product_id, livemode, name, description, active, metadata, as_of
    )
    values (
        sync_product.stripe_product_id, sync_product.livemode, sync_product.name, sync_product.description,
        sync_product.active, sync_product.metadata, sync_product.as_of
    )
    on conflict on constraint products_pkey do update
    set livemode = excluded.livemode,
        name = excluded.name,
        description = excluded.description,
        active = excluded.active,
        metadata = excluded.metadata,
        as_of = excluded.as_of,
        updated_at = now()
    where held.as_of < excluded.as_of;

    if not found then
        select products.as_of into strict v_as_of from billing.products
        where products.stripe_product_id = sync_product.stripe_product_id;
        perform billing._record_late_terms(plans.stripe_price_id, null, sync_product.metadata, sync_product.as_of)
        from billing.plans
        where plans.stripe_product_id = sync_product.stripe_product_id and sync_product.as_of < v_as_of;
        return billing._refused(v_as_of, sync_product.as_of);
    end if;

    perform billing._resolve_plan(plans.stripe_price_id) from billing.plans
    where plans.stripe_product_id = sync_product.stripe_product_id;
    perform billing._allocate_trials(plans.stripe_price_id) from billing.plans
    where plans.stripe_product_id = sync_product.stripe_product_id;
    perform billing._resolve_packs(sync_product.stripe_product_id);
    perform billing._retry_events_waiting_for(sync_product.stripe_product_id);
    return 'applied';
end
$$;

create function billing.sync_price(
    stripe_price_id text, stripe_product_id text, livemode boolean, active boolean, type text, lookup_key text,
    nickname text, currency text, unit_amount bigint, has_custom_amount boolean, recurring_interval text,
    recurring_interval_count integer, usage_type text, metadata jsonb, as_of timestamptz
)
returns text
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_as_of timestamptz;
begin
    perform billing._lock_arrival(sync_price.stripe_price_id);
    insert into billing.products (stripe_product_id, livemode, name)
    values (sync_price.stripe_product_id, sync_price.livemode, sync_price.stripe_product_id)
    on conflict do nothing;
    -- The product's declaration is read below: this lock makes a concurrent update of it visible, or makes it wait.
    perform from billing.products where products.stripe_product_id = sync_price.stripe_product_id for no key update;

    if sync_price.type = 'one_time' then
        return billing._sync_one_time_price(row(
            sync_price.stripe_price_id, sync_price.stripe_product_id, sync_price.livemode, sync_price.active,
            sync_price.lookup_key, sync_price.nickname, sync_price.currency, sync_price.unit_amount,
            sync_price.has_custom_amount, sync_price.metadata, sync_price.as_of
        ));
    end if;

    insert into billing.plans as held (
        stripe_price_id, stripe_product_id, livemode, active, lookup_key, nickname, currency, unit_amount,
        recurring_interval, recurring_interval_count, usage_type, metadata, as_of
    )
    values (
        sync_price.stripe_price_id, sync_price.stripe_product_id, sync_price.livemode, sync_price.active,
        sync_price.lookup_key, sync_price.nickname, sync_price.currency, sync_price.unit_amount,
        sync_price.recurring_interval, sync_price.recurring_interval_count, sync_price.usage_type,
        sync_price.metadata, sync_price.as_of
    )
    on conflict on constraint plans_pkey do update
    set stripe_product_id = excluded.stripe_product_id, livemode = excluded.livemode, active = excluded.active,
        lookup_key = excluded.lookup_key, nickname = excluded.nickname, currency = excluded.currency,
        unit_amount = excluded.unit_amount, recurring_interval = excluded.recurring_interval,
        recurring_interval_count = excluded.recurring_interval_count, usage_type = excluded.usage_type,
        metadata = excluded.metadata, as_of = excluded.as_of, updated_at = now()
    where held.as_of < excluded.as_of;
    if not found then
        select plans.as_of into strict v_as_of from billing.plans
        where plans.stripe_price_id = sync_price.stripe_price_id;
        if sync_price.as_of < v_as_of then
            perform billing._record_late_terms(sync_price.stripe_price_id, sync_price.metadata, null, sync_price.as_of);
        end if;
        return billing._refused(v_as_of, sync_price.as_of);
    end if;

    perform billing._resolve_plan(sync_price.stripe_price_id);
    perform billing._allocate_trials(sync_price.stripe_price_id);
    perform billing._retry_events_waiting_for(sync_price.stripe_price_id);
    return 'applied';
end
$$;

revoke all on function
    billing._resolve_plan, billing._record_late_terms, billing._allocate_trials, billing.sync_product,
    billing.sync_price
from public, anon, authenticated, service_role;
grant execute on function
    billing.sync_product(text, boolean, text, text, boolean, jsonb, timestamptz),
    billing.sync_price(
        text, text, boolean, boolean, text, text, text, text, bigint, boolean, text, integer, text, jsonb, timestamptz
    )
to billing_worker;

comment on function billing.sync_product(text, boolean, text, text, boolean, jsonb, timestamptz) is 'Stores the state of a Stripe product at a point in time. Returns applied, stale or refetch.';
comment on function billing.sync_price(text, text, boolean, boolean, text, text, text, text, bigint, boolean, text, integer, text, jsonb, timestamptz) is 'Stores the state of a Stripe price at a point in time, as a plan or a credit pack. Returns applied, stale or refetch.';

-- 58_sync/12_deleted_prices.sql

-- Prices and products deleted in Stripe → permanently off sale; their rows stay for earlier purchases.
--
-- Invariant: deletion is the final state of a price or a product. Whatever writes its row later, a late event or a
-- person, it does not go on sale again. All other fields of a late update are stored.
--
-- Called by billing_worker, and by the owner of the database (`till plans sync`).

create table billing.deleted_prices (
    kind text not null,
    stripe_id text not null,
    deleted_at timestamptz not null,
    created_at timestamptz not null default now(),
    primary key (kind, stripe_id),
    constraint kind_is_known check (kind in ('price', 'product'))
);

alter table billing.deleted_prices enable row level security;

revoke all on billing.deleted_prices from public, anon, authenticated, service_role;
grant select on billing.deleted_prices to service_role;

create function billing.tg_prices__stay_deleted()
returns trigger
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    new.active := not exists (
        select from billing.deleted_prices
        where deleted_prices.kind = 'price' and deleted_prices.stripe_id = new.stripe_price_id
    );
    return new;
end
$$;

create trigger tg_plans__stay_deleted
before insert or update on billing.plans
for each row when (new.active)
execute function billing.tg_prices__stay_deleted();

create trigger tg_credit_packs__stay_deleted
before insert or update on billing.credit_packs
for each row when (new.active)
execute function billing.tg_prices__stay_deleted();

create trigger tg_one_time_prices__stay_deleted
before insert or update on billing.one_time_prices
for each row when (new.active)
execute function billing.tg_prices__stay_deleted();

create function billing.tg_products__stay_deleted()
returns trigger
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    new.active := not exists (
        select from billing.deleted_prices
        where deleted_prices.kind = 'product' and deleted_prices.stripe_id = new.stripe_product_id
    );
    return new;
end
$$;

create trigger tg_products__stay_deleted
before insert or update on billing.products
for each row when (new.active)
execute function billing.tg_products__stay_deleted();

-- Returns applied, or stale if it was deleted before. It takes the same arrival lock as sync_price, so a concurrent
-- sync_price is either seen here or sees the deletion.
create function billing.delete_price(stripe_price_id text, as_of timestamptz)
returns text
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform billing._lock_arrival(delete_price.stripe_price_id);
    insert into billing.deleted_prices (kind, stripe_id, deleted_at)
    values ('price', delete_price.stripe_price_id, delete_price.as_of)
    on conflict do nothing;
    if not found then
        return 'stale';
    end if;
    update billing.plans set active = false, updated_at = now()
    where plans.stripe_price_id = delete_price.stripe_price_id and plans.active;
    update billing.credit_packs set active = false, updated_at = now()
    where credit_packs.stripe_price_id = delete_price.stripe_price_id and credit_packs.active;
    update billing.one_time_prices set active = false
    where one_time_prices.stripe_price_id = delete_price.stripe_price_id and one_time_prices.active;
    return 'applied';
end
$$;

create function billing.delete_product(stripe_product_id text, as_of timestamptz)
returns text
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform billing._lock_arrival(delete_product.stripe_product_id);
    insert into billing.deleted_prices (kind, stripe_id, deleted_at)
    values ('product', delete_product.stripe_product_id, delete_product.as_of)
    on conflict do nothing;
    if not found then
        return 'stale';
    end if;
    update billing.products set active = false, updated_at = now()
    where products.stripe_product_id = delete_product.stripe_product_id and products.active;
    return 'applied';
end
$$;

revoke all on function
    billing.tg_prices__stay_deleted, billing.tg_products__stay_deleted, billing.delete_price, billing.delete_product
from public, anon, authenticated, service_role;
grant execute on function
    billing.delete_price(text, timestamptz), billing.delete_product(text, timestamptz)
to billing_worker;

comment on table billing.deleted_prices is 'Prices and products that were deleted in Stripe: they never go on sale again.';
comment on column billing.deleted_prices.kind is 'The kind of stripe_id: price or product.';
comment on function billing.delete_price(text, timestamptz) is 'A price was deleted in Stripe: takes it off sale permanently and keeps its row for earlier purchases. Returns applied, or stale if it was deleted before.';
comment on function billing.delete_product(text, timestamptz) is 'A product was deleted in Stripe: takes it and its prices off sale permanently. Returns applied, or stale if it was deleted before.';

-- 58_sync/20_customer_links.sql

-- Which account owns a customer: links a customer to an account, or merges it with the account's customer.
--
-- Invariant: the app's own server links a customer, once and permanently. Everything that Stripe has already reported
-- about the customer then belongs to the account, and the events that waited for the link are retried.
--
-- Locks, here as in the worker: the account's balance, then the customer.
--
-- Called by service_role: the app's own server decides which account owns a customer.

-- The account's current Stripe customer; null before the first.
create function billing._customer_of(account_id uuid, livemode boolean)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select customers.stripe_customer_id from billing.customers
    where customers.account_id = _customer_of.account_id and customers.livemode = _customer_of.livemode
        and customers.deleted_at is null and customers.duplicate_of is null
$$;

-- Raises if the text is not the id of a Stripe customer.
create function billing._check_customer_id(stripe_customer_id text)
returns void
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    if _check_customer_id.stripe_customer_id is null or _check_customer_id.stripe_customer_id !~ '^cus_[A-Za-z0-9_]+$' then
        raise exception '"%" is not the id of a Stripe customer', coalesce(_check_customer_id.stripe_customer_id, 'null')
            using errcode = 'TB018', hint = 'Pass an id such as cus_NffrFeUfNV2Hib.';
    end if;
end
$$;

-- Locks the customer's row, and creates it if Stripe has not reported the customer yet. Waits for transactions that are
-- about to use the answer "not linked" (_account_of_customer), so that their rows are seen afterwards. TB018 if the
-- customer belongs to another account.
create function billing._lock_customer(stripe_customer_id text, account_id uuid, livemode boolean)
returns billing.customers
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_customer billing.customers;
begin
    perform billing._lock_arrival(_lock_customer.stripe_customer_id);
    insert into billing.customers (stripe_customer_id, livemode)
    values (_lock_customer.stripe_customer_id, _lock_customer.livemode)
    on conflict do nothing;
    select * into strict v_customer from billing.customers
    where customers.stripe_customer_id = _lock_customer.stripe_customer_id
    -- Not `for update`: rows that the worker writes refer to the customer, and then wait for the balance.
    for no key update;
    if v_customer.account_id <> _lock_customer.account_id then
        raise exception 'customer % belongs to another account', v_customer.stripe_customer_id
            using errcode = 'TB018', hint = 'A customer cannot move to another account. Create a new customer in Stripe.';
    end if;
    return v_customer;
end
$$;

-- Assigns everything that Stripe reported about the customer to the account, and requeues its events.
create function billing._adopt_customer(stripe_customer_id text, account_id uuid)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    update billing.customers
    set account_id = _adopt_customer.account_id, linked_at = coalesce(customers.linked_at, now()),
        dismissed_at = null, dismissed_reason = null, dismissed_by = null, updated_at = now()
    where customers.stripe_customer_id = _adopt_customer.stripe_customer_id;

    update billing.subscriptions set account_id = _adopt_customer.account_id
    where subscriptions.stripe_customer_id = _adopt_customer.stripe_customer_id;
    update billing.invoices set account_id = _adopt_customer.account_id
    where invoices.stripe_customer_id = _adopt_customer.stripe_customer_id;
    update billing.checkout_sessions set account_id = _adopt_customer.account_id
    where checkout_sessions.stripe_customer_id = _adopt_customer.stripe_customer_id;
    update billing.payments set account_id = _adopt_customer.account_id
    where payments.stripe_customer_id = _adopt_customer.stripe_customer_id;
    update billing.fraud_warnings set account_id = _adopt_customer.account_id
    where fraud_warnings.stripe_customer_id = _adopt_customer.stripe_customer_id;

    perform billing._act_on_warning(fraud_warnings) from billing.fraud_warnings
    where fraud_warnings.stripe_customer_id = _adopt_customer.stripe_customer_id and fraud_warnings.status = 'open';
    perform billing._record_cards_of_customer(_adopt_customer.stripe_customer_id, _adopt_customer.account_id);
    perform billing._allocate_subscriptions_of(_adopt_customer.stripe_customer_id);
    perform billing._retry_events_waiting_for(_adopt_customer.stripe_customer_id);
end
$$;

-- An unknown plan stops neither a link nor a deletion: when it arrives, the subscription's credits are calculated.
create function billing._allocate_subscriptions_of(stripe_customer_id text)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_subscription_id text;
begin
    for v_subscription_id in
        select subscriptions.stripe_subscription_id from billing.subscriptions
        where subscriptions.stripe_customer_id = _allocate_subscriptions_of.stripe_customer_id
        order by 1
    loop
        begin
            perform billing._allocate_subscription(v_subscription_id);
        exception when sqlstate 'TB010' then
            null;
        end;
    end loop;
end
$$;

create function billing.link_customer(account_id uuid, stripe_customer_id text, livemode boolean default null)
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_customer billing.customers;
begin
    perform billing._lock_balance(link_customer.account_id);
    perform billing._check_customer_id(link_customer.stripe_customer_id);
    v_customer := billing._lock_customer(
        link_customer.stripe_customer_id, link_customer.account_id,
        coalesce(link_customer.livemode, billing.is_livemode())
    );
    if v_customer.account_id is not null then
        return;
    -- A deleted customer is linked for its earlier payments; it does not count as the account's customer.
    elsif v_customer.deleted_at is null
        and billing._customer_of(link_customer.account_id, v_customer.livemode) is not null then
        raise exception 'account % already has a customer', link_customer.account_id
            using errcode = 'TB018',
            hint = 'Use the account''s customer in billing.customers. If both are the same person, call billing.merge_customer(stripe_customer_id, duplicate_of).';
    end if;
    perform billing._adopt_customer(link_customer.stripe_customer_id, link_customer.account_id);
end
$$;

-- A second customer of the same person (from a Payment Link, or a guest): its payments belong to the account too.
create function billing.merge_customer(stripe_customer_id text, duplicate_of text)
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_kept billing.customers;
    v_duplicate billing.customers;
begin
    perform billing._check_customer_id(merge_customer.stripe_customer_id);
    perform billing._check_customer_id(merge_customer.duplicate_of);
    if merge_customer.stripe_customer_id = merge_customer.duplicate_of then
        raise exception 'customer % cannot be merged into itself', merge_customer.duplicate_of
            using errcode = 'TB033', hint = 'Pass the customer that the account keeps as duplicate_of.';
    end if;

    select * into v_kept from billing.customers where customers.stripe_customer_id = merge_customer.duplicate_of;
    if v_kept.account_id is null then
        raise exception 'customer % is not linked to an account', merge_customer.duplicate_of
            using errcode = 'TB033', hint = 'Link it first with billing.link_customer(account_id, stripe_customer_id).';
    end if;
    -- An account never changes once it is set. The rest of the row is read again under the lock that all links of the
    -- account take.
    perform billing._lock_balance(v_kept.account_id);
    select * into strict v_kept from billing.customers where customers.stripe_customer_id = merge_customer.duplicate_of;
    v_duplicate := billing._lock_customer(merge_customer.stripe_customer_id, v_kept.account_id, v_kept.livemode);
    if v_duplicate.duplicate_of = v_kept.stripe_customer_id then
        return;
    elsif v_kept.duplicate_of is not null then
        raise exception 'customer % is itself a duplicate of %', v_kept.stripe_customer_id, v_kept.duplicate_of
            using errcode = 'TB033', hint = pg_catalog.format('Merge into %s.', v_kept.duplicate_of);
    elsif v_kept.deleted_at is not null then
        raise exception 'customer % is deleted in Stripe', v_kept.stripe_customer_id
            using errcode = 'TB033', hint = 'Link the other customer to the account with billing.link_customer.';
    elsif v_kept.livemode <> v_duplicate.livemode then
        raise exception 'one of the customers % and % is in test mode, the other in live mode', v_duplicate.stripe_customer_id, v_kept.stripe_customer_id
            using errcode = 'TB033', hint = 'An account has one customer in test mode and one in live mode.';
    end if;

    update billing.customers
    set account_id = v_kept.account_id, duplicate_of = v_kept.stripe_customer_id, updated_at = now()
    where customers.stripe_customer_id = v_duplicate.stripe_customer_id
        or customers.duplicate_of = v_duplicate.stripe_customer_id;
    perform billing._adopt_customer(v_duplicate.stripe_customer_id, v_kept.account_id);
end
$$;

revoke all on function
    billing._customer_of, billing._check_customer_id, billing._lock_customer, billing._adopt_customer,
    billing._allocate_subscriptions_of, billing.link_customer, billing.merge_customer
from public, anon, authenticated, service_role;
grant execute on function billing.link_customer(uuid, text, boolean), billing.merge_customer(text, text) to service_role;

comment on function billing.link_customer(uuid, text, boolean) is 'Links a Stripe customer to an account, once and permanently; events that waited for it are retried. Call it from the server that created the customer.';
comment on function billing.merge_customer(text, text) is 'Marks a Stripe customer as a duplicate of the same person: its payments belong to the account too, and events that waited for it are retried. Call it from the server that knows the person.';

-- 58_sync/22_dismissals.sql

-- Events and customers that do not belong to this installation: several apps or environments share a Stripe account,
-- and each of them receives the events of the others. An administrator dismisses them, and they no longer wait.
--
-- Invariant: an ignored event has the actor and the reason. A customer with an account cannot be dismissed; a dismissed
-- customer that is linked later is an ordinary customer again, and its events are retried. An applied event stays
-- applied.
--
-- Callable by service_role.

-- Returns the number of waiting events that are now ignored. It can be called repeatedly; the last reason is kept.
create function billing.dismiss_customer(stripe_customer_id text, reason text, actor text)
returns bigint
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_customer billing.customers;
    v_ignored bigint;
begin
    perform billing._check_reason(dismiss_customer.reason, dismiss_customer.actor);
    perform billing._check_customer_id(dismiss_customer.stripe_customer_id);
    -- An event that is being parked concurrently is either seen below, or sees the dismissal.
    perform billing._lock_arrival(dismiss_customer.stripe_customer_id);
    insert into billing.customers (stripe_customer_id, livemode)
    values (dismiss_customer.stripe_customer_id, billing.is_livemode())
    on conflict do nothing;
    select * into strict v_customer from billing.customers
    where customers.stripe_customer_id = dismiss_customer.stripe_customer_id
    for no key update;
    if v_customer.account_id is not null then
        raise exception 'customer % is linked to account %', v_customer.stripe_customer_id, v_customer.account_id
            using errcode = 'TB018', hint = 'Only a customer without an account can be dismissed.';
    end if;

    update billing.customers
    set dismissed_at = now(), dismissed_reason = dismiss_customer.reason, dismissed_by = dismiss_customer.actor,
        updated_at = now()
    where customers.stripe_customer_id = v_customer.stripe_customer_id;
    update billing.stripe_events
    set status = 'ignored', settled_at = now(),
        last_error = billing._dismissal(stripe_events.payload, v_customer.stripe_customer_id)
    where stripe_events.status in ('parked', 'dead')
        and (
            stripe_events.waiting_for = v_customer.stripe_customer_id
            or stripe_events.payload ~ pg_catalog.format('"customer"\s*:\s*"%s"', v_customer.stripe_customer_id)
        );
    get diagnostics v_ignored = row_count;
    return v_ignored;
end
$$;

-- Returns the new status: ignored, or the old one if the event was neither dead nor parked.
create function billing.dismiss_stripe_event(event_id text, reason text, actor text)
returns text
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_status text;
begin
    perform billing._check_reason(dismiss_stripe_event.reason, dismiss_stripe_event.actor);
    select stripe_events.status into v_status from billing.stripe_events
    where stripe_events.stripe_event_id = dismiss_stripe_event.event_id
    for update;
    if not found then
        raise exception 'there is no event %', coalesce(dismiss_stripe_event.event_id, 'null')
            using errcode = 'TB014', hint = 'List events with `till events list`.';
    elsif v_status not in ('dead', 'parked') then
        return v_status;
    end if;
    update billing.stripe_events
    set status = 'ignored', waiting_for = null, settled_at = now(),
        last_error = pg_catalog.format('dismissed by %s: %s', dismiss_stripe_event.actor, dismiss_stripe_event.reason)
    where stripe_events.stripe_event_id = dismiss_stripe_event.event_id;
    return 'ignored';
end
$$;

revoke all on function billing.dismiss_customer, billing.dismiss_stripe_event
from public, anon, authenticated, service_role;
grant execute on function
    billing.dismiss_customer(text, text, text), billing.dismiss_stripe_event(text, text, text)
to service_role;

comment on function billing.dismiss_customer(text, text, text) is 'Marks a Stripe customer as not belonging to this installation: events that wait for its link are ignored, now and later. Returns how many events were ignored. Linking the customer ends this.';
comment on function billing.dismiss_stripe_event(text, text, text) is 'Ignores a dead or parked event permanently; any other event is left unchanged. Returns the status.';

-- 58_sync/24_customer.sql

-- Customers from Stripe → their rows here.
--
-- Invariant: the newest state wins; deletion is a customer's final state, whenever it is reported.
--
-- Called by billing_worker.

-- A customer that was deleted in Stripe keeps its row and its account, because the ledger refers to it; the account may
-- then get a new customer. After the deletion Stripe's answers have only its id.
create function billing.sync_customer(
    stripe_customer_id text, livemode boolean, email text, name text, is_deleted boolean, as_of timestamptz
)
returns text
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_held billing.customers;
begin
    insert into billing.customers as held (stripe_customer_id, livemode, email, name, deleted_at, as_of)
    values (
        sync_customer.stripe_customer_id, sync_customer.livemode, sync_customer.email, sync_customer.name,
        case when sync_customer.is_deleted then sync_customer.as_of end, sync_customer.as_of
    )
    on conflict on constraint customers_stripe_customer_id_key do update
    set email = case
            when held.as_of > excluded.as_of then held.email
            when sync_customer.is_deleted then coalesce(excluded.email, held.email)
            else excluded.email
        end,
        name = case
            when held.as_of > excluded.as_of then held.name
            when sync_customer.is_deleted then coalesce(excluded.name, held.name)
            else excluded.name
        end,
        deleted_at = least(held.deleted_at, excluded.deleted_at),
        as_of = greatest(held.as_of, excluded.as_of),
        updated_at = now()
    -- Deletion is final, also within one second, and its time is that of the earliest report.
    where held.as_of < excluded.as_of or excluded.deleted_at < coalesce(held.deleted_at, 'infinity');

    if not found then
        select * into strict v_held from billing.customers
        where customers.stripe_customer_id = sync_customer.stripe_customer_id;
        return case
            when sync_customer.is_deleted then 'stale'  -- it is already deleted
            else billing._refused(v_held.as_of, sync_customer.as_of)
        end;
    elsif sync_customer.is_deleted then
        perform billing._allocate_subscriptions_of(sync_customer.stripe_customer_id);
    end if;
    return 'applied';
end
$$;

revoke all on function billing.sync_customer from public, anon, authenticated, service_role;
grant execute on function billing.sync_customer(text, boolean, text, text, boolean, timestamptz) to billing_worker;

comment on function billing.sync_customer(text, boolean, text, text, boolean, timestamptz) is 'Stores the state of a Stripe customer at a point in time. Returns applied, stale or refetch.';

-- 58_sync/30_subscription.sql

-- Subscriptions from Stripe → their rows here.
--
-- Invariant: of two states the newer wins. A final status, or a fact that a newer state cannot undo, is replaced only
-- by Stripe's own answer (is_fetched), never by an event. An answer is always stored, so that reading from Stripe ends.
--
-- sync_subscription is called by billing_worker.

-- True if a state with a newer time contradicts what is already known: Stripe may report an older state again in a new
-- event. Checks only values that move in one direction, so ordinary events need no read from Stripe. If a change is
-- allowed but rare (a trial for an active subscription, a shorter period), the read is harmless. Volatile: it must see
-- the items that were committed while the upsert waited for the row.
create function billing._is_a_step_back(held billing.subscriptions, offered billing.subscriptions, items jsonb)
returns boolean
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_held billing.subscriptions := _is_a_step_back.held;
    v_offered billing.subscriptions := _is_a_step_back.offered;
begin
    if v_offered.ended_at is not null then
        return false;  -- an end is final
    end if;
    return coalesce(
        v_held.ended_at is not null
        or v_offered.status in ('incomplete', 'incomplete_expired')
            and v_held.status not in ('incomplete', 'incomplete_expired')
        or v_offered.status = 'trialing' and v_held.status not in ('incomplete', 'trialing')
        or coalesce(v_offered.trial_start, '-infinity') < v_held.trial_start
        or coalesce(v_offered.trial_end, '-infinity') < v_held.trial_end
            and (v_offered.trial_end is null or v_offered.status = 'trialing')
        -- A cancellation at a time when there was none, or earlier than the one that is known.
        or v_offered.canceled_at < coalesce(v_held.canceled_at, v_held.as_of)
        or v_offered.billing_cycle_anchor < v_held.billing_cycle_anchor
            and v_offered.trial_end is not distinct from v_held.trial_end
        or v_offered.billing_cycle_anchor = v_held.billing_cycle_anchor
            and (
                select min((item ->> 'current_period_end')::timestamptz)
                from jsonb_array_elements(_is_a_step_back.items) as item
            ) < (
                select min(subscription_items.current_period_end) from billing.subscription_items
                where subscription_items.stripe_subscription_id = v_held.stripe_subscription_id
            ),
        false
    );
end
$$;

create function billing._record_trial(stripe_subscription_id text, items jsonb, as_of timestamptz)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    insert into billing.trial_items as held (
        stripe_subscription_id, stripe_subscription_item_id, stripe_price_id, seen_at
    )
    select
        _record_trial.stripe_subscription_id, item.stripe_subscription_item_id, item.stripe_price_id, _record_trial.as_of
    from jsonb_to_recordset(_record_trial.items) as item (stripe_subscription_item_id text, stripe_price_id text)
    on conflict on constraint trial_items_pkey do update set seen_at = excluded.seen_at
    where held.seen_at > excluded.seen_at;
end
$$;

-- An older state still reports the anchor that the subscription had, and the plans of its trial.
create function billing._record_older_state(
    stripe_subscription_id text, billing_cycle_anchor timestamptz, status text
)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    update billing.subscriptions
    set anchors = subscriptions.anchors || _record_older_state.billing_cycle_anchor
    where subscriptions.stripe_subscription_id = _record_older_state.stripe_subscription_id
        and _record_older_state.billing_cycle_anchor <> all (subscriptions.anchors);
    if found or _record_older_state.status = 'trialing' then
        perform billing._allocate_subscription(_record_older_state.stripe_subscription_id);
    end if;
end
$$;

create function billing.sync_subscription(
    stripe_subscription_id text, stripe_customer_id text, livemode boolean, status text, currency text,
    billing_cycle_anchor timestamptz, cancel_at timestamptz, cancel_at_period_end boolean, canceled_at timestamptz,
    ended_at timestamptz, trial_start timestamptz, trial_end timestamptz, is_collection_paused boolean,
    metadata jsonb, started_at timestamptz, stripe_test_clock_id text, items jsonb, as_of timestamptz, is_fetched boolean
)
returns text
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_as_of timestamptz;
begin
    if sync_subscription.status = 'trialing' then
        perform billing._record_trial(
            sync_subscription.stripe_subscription_id, sync_subscription.items, sync_subscription.as_of
        );
    end if;
    insert into billing.subscriptions as held (
        stripe_subscription_id, stripe_customer_id, account_id, livemode, status, currency, billing_cycle_anchor, anchors,
        cancel_at, cancel_at_period_end, canceled_at, ended_at, trial_start, trial_end, is_collection_paused,
        metadata, started_at, stripe_test_clock_id, as_of
    )
    values (
        sync_subscription.stripe_subscription_id, sync_subscription.stripe_customer_id,
        billing._account_of_customer(sync_subscription.stripe_customer_id, sync_subscription.livemode),
        sync_subscription.livemode, sync_subscription.status, sync_subscription.currency,
        sync_subscription.billing_cycle_anchor, array[sync_subscription.billing_cycle_anchor],
        sync_subscription.cancel_at, sync_subscription.cancel_at_period_end,
        sync_subscription.canceled_at, sync_subscription.ended_at, sync_subscription.trial_start,
        sync_subscription.trial_end, sync_subscription.is_collection_paused, sync_subscription.metadata,
        sync_subscription.started_at, sync_subscription.stripe_test_clock_id, sync_subscription.as_of
    )
    on conflict on constraint subscriptions_pkey do update
    set status = excluded.status,
        currency = excluded.currency,
        billing_cycle_anchor = excluded.billing_cycle_anchor,
        anchors = case
            when excluded.billing_cycle_anchor = any (held.anchors) then held.anchors
            else held.anchors || excluded.billing_cycle_anchor
        end,
        cancel_at = excluded.cancel_at,
        cancel_at_period_end = excluded.cancel_at_period_end,
        canceled_at = excluded.canceled_at,
        ended_at = excluded.ended_at,
        trial_start = excluded.trial_start,
        trial_end = excluded.trial_end,
        is_collection_paused = excluded.is_collection_paused,
        metadata = excluded.metadata,
        as_of = excluded.as_of,
        updated_at = now()
    where held.as_of < excluded.as_of
        and (
            sync_subscription.is_fetched
            or (held.status not in ('canceled', 'incomplete_expired') or held.status = excluded.status)
            and not billing._is_a_step_back(held, excluded, sync_subscription.items)
        );

    if not found then
        select subscriptions.as_of into strict v_as_of from billing.subscriptions
        where subscriptions.stripe_subscription_id = sync_subscription.stripe_subscription_id;
        perform billing._record_older_state(
            sync_subscription.stripe_subscription_id, sync_subscription.billing_cycle_anchor, sync_subscription.status
        );
        return billing._refused(v_as_of, sync_subscription.as_of);
    end if;

    insert into billing.subscription_items (
        stripe_subscription_item_id, stripe_subscription_id, stripe_price_id, stripe_product_id, quantity,
        current_period_start, current_period_end
    )
    select
        item.stripe_subscription_item_id, sync_subscription.stripe_subscription_id, item.stripe_price_id,
        item.stripe_product_id, item.quantity, item.current_period_start, item.current_period_end
    from jsonb_to_recordset(sync_subscription.items) as item (
        stripe_subscription_item_id text, stripe_price_id text, stripe_product_id text, quantity bigint,
        current_period_start timestamptz, current_period_end timestamptz
    )
    on conflict on constraint subscription_items_pkey do update
    set stripe_price_id = excluded.stripe_price_id,
        stripe_product_id = excluded.stripe_product_id,
        quantity = excluded.quantity,
        current_period_start = excluded.current_period_start,
        current_period_end = excluded.current_period_end,
        updated_at = now();

    delete from billing.subscription_items
    where subscription_items.stripe_subscription_id = sync_subscription.stripe_subscription_id
        and not exists (
            select from jsonb_array_elements(sync_subscription.items) as item
            where item ->> 'stripe_subscription_item_id' = subscription_items.stripe_subscription_item_id
        );
    perform billing._allocate_subscription(sync_subscription.stripe_subscription_id);
    return 'applied';
end
$$;

revoke all on function
    billing._is_a_step_back, billing._record_trial, billing._record_older_state, billing.sync_subscription
from public, anon, authenticated, service_role;
grant execute on function billing.sync_subscription(
    text, text, boolean, text, text, timestamptz, timestamptz, boolean, timestamptz, timestamptz, timestamptz,
    timestamptz, boolean, jsonb, timestamptz, text, jsonb, timestamptz, boolean
) to billing_worker;

comment on function billing.sync_subscription(
    text, text, boolean, text, text, timestamptz, timestamptz, boolean, timestamptz, timestamptz, timestamptz,
    timestamptz, boolean, jsonb, timestamptz, text, jsonb, timestamptz, boolean
) is 'Stores the state of a Stripe subscription at a point in time. Returns applied, stale or refetch.';

-- 58_sync/32_invoice.sql

-- Invoices from Stripe → their rows here, and credits for what was paid.
--
-- Invariant: an invoice only moves forward. Its lines are recorded when it is paid, and credits are calculated from
-- them.
-- Called by billing_worker.

create function billing._invoice_rank(status text)
returns integer
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
    select array_position(array['draft', 'open', 'uncollectible', 'paid'], replace(_invoice_rank.status, 'void', 'paid'))
$$;

create function billing._record_lines(invoice billing.invoices, lines jsonb)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    insert into billing.invoice_lines (
        stripe_line_id, stripe_invoice_id, stripe_subscription_id, stripe_subscription_item_id, stripe_price_id, amount,
        discount, quantity, is_proration, credited_line_ids, credited_invoice_id, period_start, period_end
    )
    select
        line.stripe_line_id, (_record_lines.invoice).stripe_invoice_id, line.stripe_subscription_id,
        line.stripe_subscription_item_id, line.stripe_price_id, line.amount, line.discount, line.quantity,
        line.is_proration,
        case jsonb_typeof(line.credited_line_ids) when 'array' then array(
            select jsonb_array_elements_text(line.credited_line_ids)
        ) end,
        line.credited_invoice_id, line.period_start, line.period_end
    from jsonb_to_recordset(_record_lines.lines) as line (
        stripe_line_id text, stripe_subscription_id text, stripe_subscription_item_id text, stripe_price_id text,
        amount bigint, discount bigint, quantity bigint, is_proration boolean, credited_line_ids jsonb,
        credited_invoice_id text, period_start timestamptz, period_end timestamptz
    )
    on conflict do nothing;
end
$$;

create function billing.sync_invoice(
    stripe_invoice_id text, stripe_customer_id text, stripe_subscription_id text, livemode boolean, status text,
    billing_reason text, collection_method text, currency text, subtotal bigint, total bigint, amount_due bigint, amount_paid bigint,
    attempt_count integer, next_payment_attempt_at timestamptz, hosted_invoice_url text, invoiced_at timestamptz,
    paid_at timestamptz, lines jsonb, as_of timestamptz
)
returns text
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_invoice billing.invoices;
begin
    insert into billing.invoices as held (
        stripe_invoice_id, stripe_customer_id, account_id, stripe_subscription_id, livemode, status, billing_reason,
        collection_method, currency, subtotal, total, amount_due, amount_paid, attempt_count, next_payment_attempt_at,
        hosted_invoice_url, invoiced_at, paid_at, as_of
    )
    values (
        sync_invoice.stripe_invoice_id, sync_invoice.stripe_customer_id,
        billing._account_of_customer(sync_invoice.stripe_customer_id, sync_invoice.livemode),
        -- An invoice may name no subscription although its line belongs to one.
        coalesce(sync_invoice.stripe_subscription_id, sync_invoice.lines -> 0 ->> 'stripe_subscription_id'),
        sync_invoice.livemode, sync_invoice.status, sync_invoice.billing_reason,
        sync_invoice.collection_method, sync_invoice.currency, sync_invoice.subtotal, sync_invoice.total, sync_invoice.amount_due,
        sync_invoice.amount_paid, sync_invoice.attempt_count, sync_invoice.next_payment_attempt_at,
        sync_invoice.hosted_invoice_url, sync_invoice.invoiced_at, sync_invoice.paid_at, sync_invoice.as_of
    )
    on conflict on constraint invoices_pkey do update
    set status = excluded.status,
        billing_reason = excluded.billing_reason,
        collection_method = excluded.collection_method,
        subtotal = excluded.subtotal,
        total = excluded.total,
        amount_due = excluded.amount_due,
        amount_paid = excluded.amount_paid,
        attempt_count = excluded.attempt_count,
        next_payment_attempt_at = excluded.next_payment_attempt_at,
        hosted_invoice_url = excluded.hosted_invoice_url,
        paid_at = excluded.paid_at,
        as_of = greatest(held.as_of, excluded.as_of),
        updated_at = now()
    -- An invoice only moves forward, so its own fields tell which of two states is newer, also within one second.
    where (billing._invoice_rank(held.status), held.attempt_count, held.as_of)
        <= (billing._invoice_rank(excluded.status), excluded.attempt_count, excluded.as_of)
    returning * into v_invoice;

    if not found then
        return 'stale';
    elsif v_invoice.status = 'paid' then
        perform billing._record_lines(v_invoice, sync_invoice.lines);
        if v_invoice.stripe_subscription_id is not null then
            perform billing._allocate_subscription(v_invoice.stripe_subscription_id, null, v_invoice);
        end if;
        -- Packs are lines without a subscription item.
        if sync_invoice.lines @? '$[*] ? (!exists(@.stripe_subscription_item_id) || @.stripe_subscription_item_id == null)' then
            perform billing._purchase_packs_of_invoice(v_invoice);
        end if;
        perform billing._apply_returns_of_invoice(v_invoice.stripe_invoice_id);
    elsif exists (
        select from billing.invoice_lines where invoice_lines.credited_invoice_id = v_invoice.stripe_invoice_id
    ) then
        perform billing._allocate_subscription(v_invoice.stripe_subscription_id, null, v_invoice);
    end if;
    return 'applied';
end
$$;

revoke all on function
    billing._invoice_rank, billing._record_lines, billing.sync_invoice
from public, anon, authenticated, service_role;
grant execute on function billing.sync_invoice(
    text, text, text, boolean, text, text, text, text, bigint, bigint, bigint, bigint, integer, timestamptz, text, timestamptz,
    timestamptz, jsonb, timestamptz
) to billing_worker;

-- 58_sync/40_payment.sql

-- Charges, early fraud warnings and reviews from Stripe → their rows, the cards that were charged, and the policy's
-- actions on a warning.
--
-- Invariant: the policy acts on a warning when it first arrives (or its customer is linked). A replay does not freeze
-- an account that an administrator has unfrozen. Called by billing_worker.

create function billing.sync_payment(
    stripe_charge_id text, stripe_payment_intent_id text, stripe_customer_id text, livemode boolean, status text,
    currency text, amount bigint, amount_refunded bigint, is_disputed boolean, risk_level text, risk_score integer,
    is_liability_shifted boolean, card_fingerprint text, failure_code text, receipt_url text, charged_at timestamptz,
    as_of timestamptz
)
returns text
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_payment billing.payments;
    v_as_of timestamptz;
begin
    insert into billing.payments as held (
        stripe_charge_id, stripe_payment_intent_id, stripe_customer_id, account_id, livemode, status, currency,
        amount, amount_refunded, is_disputed, risk_level, risk_score, is_liability_shifted, card_fingerprint,
        failure_code, receipt_url, charged_at, as_of
    )
    values (
        sync_payment.stripe_charge_id, sync_payment.stripe_payment_intent_id, sync_payment.stripe_customer_id,
        billing._account_of_customer(sync_payment.stripe_customer_id, sync_payment.livemode), sync_payment.livemode,
        sync_payment.status, sync_payment.currency, sync_payment.amount, sync_payment.amount_refunded,
        sync_payment.is_disputed, sync_payment.risk_level, sync_payment.risk_score, sync_payment.is_liability_shifted,
        sync_payment.card_fingerprint, sync_payment.failure_code, sync_payment.receipt_url, sync_payment.charged_at,
        sync_payment.as_of
    )
    on conflict on constraint payments_pkey do update
    set status = excluded.status,
        amount = excluded.amount,
        amount_refunded = excluded.amount_refunded,
        is_disputed = excluded.is_disputed,
        risk_level = excluded.risk_level,
        risk_score = excluded.risk_score,
        is_liability_shifted = excluded.is_liability_shifted,
        card_fingerprint = excluded.card_fingerprint,
        failure_code = excluded.failure_code,
        receipt_url = excluded.receipt_url,
        as_of = excluded.as_of,
        updated_at = now()
    where held.as_of < excluded.as_of
    returning * into v_payment;

    if not found then
        select payments.as_of into strict v_as_of from billing.payments
        where payments.stripe_charge_id = sync_payment.stripe_charge_id;
        return billing._refused(v_as_of, sync_payment.as_of);
    end if;
    -- A declined card proves nothing about its owner: somebody may have tried a stolen number.
    if v_payment.card_fingerprint is not null and v_payment.stripe_customer_id is not null
        and v_payment.status <> 'failed' then
        perform billing._record_card(
            v_payment.stripe_customer_id, v_payment.account_id, v_payment.card_fingerprint, v_payment.charged_at
        );
    end if;
    -- Refunds and disputes that were recorded before the charge may have named either of its ids.
    if v_payment.amount_refunded > 0 or v_payment.is_disputed or exists (
        select from billing.refunds
        where refunds.stripe_charge_id = v_payment.stripe_charge_id
            or refunds.stripe_payment_intent_id = v_payment.stripe_payment_intent_id
    ) or exists (
        select from billing.disputes
        where disputes.stripe_charge_id = v_payment.stripe_charge_id
            or disputes.stripe_payment_intent_id = v_payment.stripe_payment_intent_id
    ) then
        perform billing._apply_returns_of_payment(v_payment.stripe_payment_intent_id, v_payment.stripe_charge_id);
    end if;
    return 'applied';
end
$$;

-- The policy (_act_on_warning) acts when the warning first arrives; later events say whether it is still actionable.
create function billing.record_fraud_warning(
    stripe_early_fraud_warning_id text, stripe_charge_id text, stripe_payment_intent_id text, livemode boolean,
    fraud_type text, actionable boolean, warned_at timestamptz, stripe_customer_id text, risk_level text,
    risk_score integer, as_of timestamptz
)
returns text
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_warning billing.fraud_warnings;
begin
    insert into billing.fraud_warnings (
        stripe_early_fraud_warning_id, stripe_charge_id, stripe_payment_intent_id, stripe_customer_id, account_id,
        livemode, fraud_type, actionable, risk_level, risk_score, warned_at, as_of
    )
    values (
        record_fraud_warning.stripe_early_fraud_warning_id, record_fraud_warning.stripe_charge_id,
        record_fraud_warning.stripe_payment_intent_id, record_fraud_warning.stripe_customer_id,
        billing._account_of_customer(record_fraud_warning.stripe_customer_id, record_fraud_warning.livemode),
        record_fraud_warning.livemode, record_fraud_warning.fraud_type, record_fraud_warning.actionable,
        record_fraud_warning.risk_level, record_fraud_warning.risk_score, record_fraud_warning.warned_at,
        record_fraud_warning.as_of
    )
    on conflict on constraint fraud_warnings_pkey do nothing
    returning * into v_warning;
    if found then
        perform billing._act_on_warning(v_warning);
        return 'applied';
    end if;

    update billing.fraud_warnings
    set actionable = record_fraud_warning.actionable, as_of = record_fraud_warning.as_of, updated_at = now()
    where fraud_warnings.stripe_early_fraud_warning_id = record_fraud_warning.stripe_early_fraud_warning_id
        -- A warning whose charge was disputed or refunded stays not actionable.
        and fraud_warnings.actionable and not record_fraud_warning.actionable;
    return case when found then 'applied' else 'stale' end;
end
$$;

create function billing.sync_review(
    stripe_review_id text, stripe_charge_id text, stripe_payment_intent_id text, livemode boolean, is_open boolean,
    reason text, closed_reason text, opened_at timestamptz, as_of timestamptz
)
returns text
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_review billing.reviews;
begin
    insert into billing.reviews as held (
        stripe_review_id, stripe_charge_id, stripe_payment_intent_id, account_id, livemode, is_open, reason,
        closed_reason, opened_at, as_of
    )
    values (
        sync_review.stripe_review_id, sync_review.stripe_charge_id, sync_review.stripe_payment_intent_id,
        (
            select payments.account_id from billing.payments
            where payments.stripe_charge_id = sync_review.stripe_charge_id
                or payments.stripe_payment_intent_id = sync_review.stripe_payment_intent_id
            order by payments.charged_at desc
            limit 1
        ),
        sync_review.livemode, sync_review.is_open, sync_review.reason, sync_review.closed_reason,
        sync_review.opened_at, sync_review.as_of
    )
    -- A closed review stays closed.
    on conflict on constraint reviews_pkey do update
    set is_open = excluded.is_open, reason = excluded.reason, closed_reason = excluded.closed_reason,
        account_id = coalesce(held.account_id, excluded.account_id), as_of = excluded.as_of, updated_at = now()
    where held.is_open and not excluded.is_open
    returning * into v_review;
    if not found then
        return 'stale';
    elsif v_review.is_open then
        insert into billing.notifications (account_id, audience, kind, dedupe_key, payload)
        values (
            v_review.account_id, 'administrators', 'review_opened', 'review_opened:' || v_review.stripe_review_id,
            jsonb_build_object(
                'stripe_review_id', v_review.stripe_review_id, 'stripe_charge_id', v_review.stripe_charge_id,
                'reason', v_review.reason
            )
        )
        on conflict (dedupe_key) do nothing;
    end if;
    return 'applied';
end
$$;

revoke all on function billing.sync_payment, billing.record_fraud_warning, billing.sync_review
from public, anon, authenticated, service_role;
grant execute on function
    billing.sync_payment(
        text, text, text, boolean, text, text, bigint, bigint, boolean, text, integer, boolean, text, text, text,
        timestamptz, timestamptz
    ),
    billing.record_fraud_warning(
        text, text, text, boolean, text, boolean, timestamptz, text, text, integer, timestamptz
    ),
    billing.sync_review(text, text, text, boolean, boolean, text, text, timestamptz, timestamptz)
to billing_worker;

-- 58_sync/42_refund.sql

-- Refunds, disputes, credit notes and invoice payments from Stripe → their rows, and the credits that they change.
--
-- Invariant: each only moves forward: a failed refund stays failed, a decided dispute reopens only by an appeal. A
-- Stripe refund does not report its mode; its payment does. Called by billing_worker.

create function billing.sync_invoice_payment(
    stripe_invoice_payment_id text, stripe_invoice_id text, stripe_payment_intent_id text, stripe_charge_id text,
    livemode boolean, status text, currency text, amount_paid bigint, paid_at timestamptz
)
returns text
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    insert into billing.invoice_payments as held (
        stripe_invoice_payment_id, stripe_invoice_id, stripe_payment_intent_id, stripe_charge_id, status, amount_paid
    )
    values (
        coalesce(sync_invoice_payment.stripe_invoice_payment_id, sync_invoice_payment.stripe_invoice_id),
        sync_invoice_payment.stripe_invoice_id, sync_invoice_payment.stripe_payment_intent_id,
        sync_invoice_payment.stripe_charge_id, sync_invoice_payment.status, sync_invoice_payment.amount_paid
    )
    on conflict on constraint invoice_payments_pkey do update
    set status = excluded.status, amount_paid = excluded.amount_paid
    where held.status = 'open';
    if found and sync_invoice_payment.status = 'paid' then
        perform billing._apply_returns_of_payment(
            sync_invoice_payment.stripe_payment_intent_id, sync_invoice_payment.stripe_charge_id
        );
        -- A warning that arrived earlier: the subscription that its charge paid for is known now.
        perform billing._act_on_warning(fraud_warnings) from billing.fraud_warnings
        where fraud_warnings.status = 'open' and (
            fraud_warnings.stripe_payment_intent_id = sync_invoice_payment.stripe_payment_intent_id
            or fraud_warnings.stripe_charge_id = sync_invoice_payment.stripe_charge_id
        );
    end if;
    return 'applied';
end
$$;

create function billing._refund_rank(status text)
returns integer
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
    select case _refund_rank.status when 'pending' then 1 when 'requires_action' then 1 when 'succeeded' then 2 else 3 end
$$;

create function billing.sync_refund(
    stripe_refund_id text, stripe_charge_id text, stripe_payment_intent_id text, status text, currency text,
    amount bigint, reason text, failure_reason text, refunded_at timestamptz, as_of timestamptz
)
returns text
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    insert into billing.refunds as held (
        stripe_refund_id, stripe_charge_id, stripe_payment_intent_id, status, currency, amount, reason, failure_reason,
        refunded_at, as_of
    )
    values (
        sync_refund.stripe_refund_id, sync_refund.stripe_charge_id, sync_refund.stripe_payment_intent_id,
        sync_refund.status, sync_refund.currency, sync_refund.amount, sync_refund.reason, sync_refund.failure_reason,
        sync_refund.refunded_at, sync_refund.as_of
    )
    on conflict on constraint refunds_pkey do update
    set status = excluded.status,
        reason = excluded.reason,
        failure_reason = excluded.failure_reason,
        as_of = greatest(held.as_of, excluded.as_of),
        updated_at = now()
    where billing._refund_rank(held.status) < billing._refund_rank(excluded.status);
    if not found then
        return 'stale';
    end if;
    perform billing._apply_returns_of_payment(sync_refund.stripe_payment_intent_id, sync_refund.stripe_charge_id);
    perform billing._lock_arrival(sync_refund.stripe_refund_id);
    perform billing._fail_refund_action(sync_refund.stripe_refund_id);
    if sync_refund.status = 'succeeded' then
        insert into billing.notifications (account_id, audience, kind, dedupe_key, payload)
        select
            (
                select payments.account_id from billing.payments
                where payments.stripe_charge_id = sync_refund.stripe_charge_id
            ),
            'administrators', 'refund_applied', 'refund_applied:' || sync_refund.stripe_refund_id,
            jsonb_build_object(
                'stripe_refund_id', sync_refund.stripe_refund_id, 'stripe_charge_id', sync_refund.stripe_charge_id,
                'amount', sync_refund.amount, 'currency', sync_refund.currency, 'reason', sync_refund.reason
            )
        on conflict (dedupe_key) do nothing;
    end if;
    return 'applied';
end
$$;

-- An inquiry precedes the dispute that it may become; an appeal follows the decision.
create function billing._dispute_rank(status text)
returns integer
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
    select array_position(array[
        'warning_needs_response', 'warning_under_review', 'warning_closed', 'prevented', 'needs_response', 'under_review',
        'lost', 'appeal_needs_response', 'appeal_under_review', 'won'
    ], _dispute_rank.status)
$$;

create function billing.sync_dispute(
    stripe_dispute_id text, stripe_charge_id text, stripe_payment_intent_id text, livemode boolean, status text,
    currency text, amount bigint, reason text, evidence_due_at timestamptz, disputed_at timestamptz, as_of timestamptz
)
returns text
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_before text;
    v_dispute billing.disputes;
begin
    if billing._dispute_rank(sync_dispute.status) is null then
        raise exception 'dispute % has the unknown status %', sync_dispute.stripe_dispute_id, sync_dispute.status
            using errcode = 'TB071', hint = 'Upgrade Tillbase, then retry the event.';
    end if;
    perform billing._lock_arrival(sync_dispute.stripe_dispute_id);
    select disputes.status into v_before from billing.disputes
    where disputes.stripe_dispute_id = sync_dispute.stripe_dispute_id;
    insert into billing.disputes as held (
        stripe_dispute_id, stripe_charge_id, stripe_payment_intent_id, livemode, status, currency, amount, reason,
        evidence_due_at, disputed_at, as_of
    )
    values (
        sync_dispute.stripe_dispute_id, sync_dispute.stripe_charge_id, sync_dispute.stripe_payment_intent_id,
        sync_dispute.livemode, sync_dispute.status, sync_dispute.currency, sync_dispute.amount, sync_dispute.reason,
        sync_dispute.evidence_due_at, sync_dispute.disputed_at, sync_dispute.as_of
    )
    on conflict on constraint disputes_pkey do update
    set status = excluded.status,
        amount = excluded.amount,
        reason = excluded.reason,
        evidence_due_at = excluded.evidence_due_at,
        as_of = greatest(held.as_of, excluded.as_of),
        updated_at = now()
    where (billing._dispute_rank(held.status), held.as_of) < (billing._dispute_rank(excluded.status), excluded.as_of)
        or held.status in ('appeal_needs_response', 'appeal_under_review') and excluded.status = 'lost'
        and held.as_of < excluded.as_of
    returning * into v_dispute;
    if not found then
        return 'stale';
    end if;
    perform billing._apply_returns_of_payment(v_dispute.stripe_payment_intent_id, v_dispute.stripe_charge_id);
    if v_before is distinct from v_dispute.status then
        perform billing._tell_of_dispute(v_dispute, v_before);
    end if;
    return 'applied';
end
$$;

-- Notifies administrators when a dispute is opened and when it is decided.
create function billing._tell_of_dispute(dispute billing.disputes, before text)
returns void
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    insert into billing.notifications (account_id, audience, kind, dedupe_key, payload)
    select
        payments.account_id, 'administrators', told.kind,
        format('%s:%s:%s', told.kind, (_tell_of_dispute.dispute).stripe_dispute_id, (_tell_of_dispute.dispute).status),
        jsonb_build_object(
            'stripe_dispute_id', (_tell_of_dispute.dispute).stripe_dispute_id,
            'stripe_charge_id', (_tell_of_dispute.dispute).stripe_charge_id,
            'status', (_tell_of_dispute.dispute).status, 'reason', (_tell_of_dispute.dispute).reason,
            'amount', (_tell_of_dispute.dispute).amount, 'currency', (_tell_of_dispute.dispute).currency,
            'evidence_due_at', (_tell_of_dispute.dispute).evidence_due_at
        )
    from (
        select case
            when not (_tell_of_dispute.dispute).is_open then 'dispute_closed'
            when _tell_of_dispute.before is null
                or billing._dispute_rank(_tell_of_dispute.before) < billing._dispute_rank('needs_response')
                and (_tell_of_dispute.dispute).status = 'needs_response' then 'dispute_opened'
        end as kind
    ) as told
    left join billing.payments on payments.stripe_charge_id = (_tell_of_dispute.dispute).stripe_charge_id
    where told.kind is not null
    on conflict (dedupe_key) do nothing
$$;

create function billing.sync_credit_note(
    stripe_credit_note_id text, stripe_invoice_id text, livemode boolean, status text, currency text, amount bigint,
    amount_refunded bigint, reason text, noted_at timestamptz, lines jsonb, stripe_refund_ids text[],
    pre_payment_amount bigint, as_of timestamptz
)
returns text
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    insert into billing.credit_notes as held (
        stripe_credit_note_id, stripe_invoice_id, livemode, status, currency, amount, amount_refunded,
        pre_payment_amount, stripe_refund_ids, reason, noted_at, as_of
    )
    values (
        sync_credit_note.stripe_credit_note_id, sync_credit_note.stripe_invoice_id, sync_credit_note.livemode,
        sync_credit_note.status, sync_credit_note.currency, sync_credit_note.amount, sync_credit_note.amount_refunded,
        sync_credit_note.pre_payment_amount, coalesce(sync_credit_note.stripe_refund_ids, '{}'),
        sync_credit_note.reason, sync_credit_note.noted_at, sync_credit_note.as_of
    )
    on conflict on constraint credit_notes_pkey do update
    set status = excluded.status,
        amount_refunded = greatest(held.amount_refunded, excluded.amount_refunded),
        -- Refunds are only ever added.
        stripe_refund_ids = array(
            select refund_id from unnest(held.stripe_refund_ids || excluded.stripe_refund_ids) as refund_id
            group by refund_id order by refund_id
        ),
        as_of = greatest(held.as_of, excluded.as_of),
        updated_at = now()
    where held.status = 'issued';
    if not found then
        return 'stale';
    end if;
    insert into billing.credit_note_lines (stripe_credit_note_id, number, stripe_line_id, amount)
    select sync_credit_note.stripe_credit_note_id, line.number, line.item ->> 'stripe_line_id', (line.item ->> 'amount')::bigint
    from jsonb_array_elements(sync_credit_note.lines) with ordinality as line (item, number)
    on conflict do nothing;
    perform billing._apply_returns_of_invoice(sync_credit_note.stripe_invoice_id);
    return 'applied';
end
$$;

revoke all on function
    billing.sync_invoice_payment, billing._refund_rank, billing.sync_refund, billing._dispute_rank, billing.sync_dispute,
    billing._tell_of_dispute, billing.sync_credit_note
from public, anon, authenticated, service_role;
grant execute on function
    billing.sync_invoice_payment(text, text, text, text, boolean, text, text, bigint, timestamptz),
    billing.sync_refund(text, text, text, text, text, bigint, text, text, timestamptz, timestamptz),
    billing.sync_dispute(text, text, text, boolean, text, text, bigint, text, timestamptz, timestamptz, timestamptz),
    billing.sync_credit_note(
        text, text, boolean, text, text, bigint, bigint, text, timestamptz, jsonb, text[], bigint, timestamptz
    )
to billing_worker;

-- 58_sync/44_payment_references.sql

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

-- 58_sync/46_attribute_payments.sql

-- A payment through a Payment Link → the account that its reference names.
--
-- A link creates a new customer for each payment, which becomes the account's customer, or a duplicate of the one that
-- it has. Only a reference that we signed names the account; an e-mail address or metadata does not.
--
-- Invariant: a customer keeps its account, whatever a reference names. A payment without an account stops its event
-- (TB011), with the reason, until an administrator links the customer.
--
-- Private: called by sync_checkout_session, before it reads the session's account.

create function billing._attribute_payment(
    stripe_checkout_session_id text, stripe_payment_link_id text, stripe_customer_id text, client_reference_id text,
    livemode boolean, opened_at timestamptz
)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_named record;
    v_kept text;
begin
    if _attribute_payment.stripe_customer_id is null then
        return;  -- a guest: the function that grants the credits raises
    end if;
    select * into strict v_named from billing._read_reference(
        _attribute_payment.client_reference_id, _attribute_payment.livemode, _attribute_payment.opened_at
    );
    if v_named.refusal is null then
        perform billing._lock_balance(v_named.account_id);
    end if;
    perform billing._lock_arrival(_attribute_payment.stripe_customer_id);
    if exists (
        select from billing.customers
        where customers.stripe_customer_id = _attribute_payment.stripe_customer_id and customers.account_id is not null
    ) then
        return;
    elsif v_named.refusal is not null then
        raise exception 'customer % of % is not linked to an account, and the reference of its payment through % is unusable: %',
            _attribute_payment.stripe_customer_id, _attribute_payment.stripe_checkout_session_id,
            _attribute_payment.stripe_payment_link_id, v_named.refusal
            using errcode = 'TB011', detail = _attribute_payment.stripe_customer_id,
            hint = 'Find out who paid, then call billing.link_customer(account_id, stripe_customer_id) or billing.merge_customer. The event is then retried automatically.';
    end if;
    v_kept := billing._customer_of(v_named.account_id, _attribute_payment.livemode);
    if v_kept is null then
        perform billing.link_customer(
            v_named.account_id, _attribute_payment.stripe_customer_id, _attribute_payment.livemode
        );
    else
        perform billing.merge_customer(_attribute_payment.stripe_customer_id, v_kept);
    end if;
end
$$;

revoke all on function billing._attribute_payment from public, anon, authenticated, service_role;

-- 58_sync/50_checkout_session.sql

-- Checkout Sessions from Stripe → their rows, and credits for the packs that they paid for.
--
-- Invariant: a session ends once and is paid once. A paid session of mode payment grants its packs once (pack:{checkout
-- session}), whichever of its events reports it. What was bought comes from the session's line items, which are read
-- from Stripe: events don't contain them, and the session's metadata is not used. Lines that are no pack and declare no
-- credits belong to the app. A price that declares credits but is not in billing.credit_packs (TB010), or a customer
-- that is not linked to an account (TB011), stops the whole event, and DETAIL names what is missing. A guest stops it
-- too (TB055), because an administrator must decide.
--
-- Called by billing_worker. service_role reads what was bought.

create table billing.checkout_line_items (
    stripe_line_item_id text primary key,
    stripe_checkout_session_id text not null references billing.checkout_sessions (stripe_checkout_session_id),
    stripe_price_id text,
    quantity bigint,
    amount_total bigint not null,
    declares_credits boolean not null,
    created_at timestamptz not null default now()
);

create index checkout_line_items_session on billing.checkout_line_items (stripe_checkout_session_id);

alter table billing.checkout_line_items enable row level security;

revoke all on billing.checkout_line_items from public, anon, authenticated, service_role;
grant select on billing.checkout_line_items to service_role;

-- Grants the packs of a paid session; safe to repeat. If the session created an invoice, the invoice grants its packs.
create function billing._purchase_packs_of_session(session billing.checkout_sessions)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_session billing.checkout_sessions := _purchase_packs_of_session.session;
    v_missing text;
    v_bought record;
    v_purchase billing.pack_purchases;
    -- A payment that is captured in part pays for that share.
    v_paid bigint := (
        select payment_intents.amount_received from billing.payment_intents
        where payment_intents.stripe_payment_intent_id = v_session.stripe_payment_intent_id
    );
begin
    if v_session.stripe_invoice_id is not null or not exists (
        select from billing.checkout_line_items as items
        left join billing.credit_packs on credit_packs.stripe_price_id = items.stripe_price_id
        where items.stripe_checkout_session_id = v_session.stripe_checkout_session_id
            and (items.declares_credits or credit_packs.stripe_price_id is not null)
    ) then
        return;
    end if;
    perform billing._check_buyer(
        v_session.stripe_checkout_session_id, v_session.stripe_customer_id, v_session.account_id
    );
    -- Two sessions at the same time, or an account that no customer of the batch named.
    perform billing._lock_balance(v_session.account_id);

    select items.stripe_price_id into v_missing
    from billing.checkout_line_items as items
    left join billing.credit_packs on credit_packs.stripe_price_id = items.stripe_price_id
    where items.stripe_checkout_session_id = v_session.stripe_checkout_session_id
        and credit_packs.stripe_price_id is null and items.declares_credits
    order by 1
    limit 1;
    if found then
        raise exception 'price % of % is not in billing.credit_packs', v_missing, v_session.stripe_checkout_session_id
            using errcode = 'TB010', detail = v_missing,
            hint = 'Set pack_credits in the price''s metadata in Stripe. Its event adds the pack, and this event is then retried automatically.';
    end if;

    for v_bought in
        select
            items.amount_total = 0 as is_free,
            case when items.amount_total = 0 then packs.stripe_product_id end as stripe_product_id,
            sum(billing._credits_of_pack(packs, items.quantity, items.amount_total)) as credits,
            array_agg(distinct packs.stripe_price_id) as stripe_price_ids,
            string_agg(distinct coalesce(packs.nickname, products.name), ', ') as names,
            min(packs.expires_after) as expires_after
        from billing.checkout_line_items as items
        join billing.credit_packs as packs on packs.stripe_price_id = items.stripe_price_id
        join billing.products on products.stripe_product_id = packs.stripe_product_id
        where items.stripe_checkout_session_id = v_session.stripe_checkout_session_id
        group by 1, 2
        order by 1, 2
    loop
        continue when v_bought.credits = 0;
        v_purchase := null;
        v_purchase.purchased_at := coalesce(
            billing._charged_at(v_session.stripe_payment_intent_id), v_session.opened_at, v_session.completed_at
        );
        v_purchase.business_key := case
            when v_bought.is_free
                then billing._free_pack_key(v_session.account_id, v_bought.stripe_product_id, v_purchase.purchased_at)
            else 'pack:' || v_session.stripe_checkout_session_id
        end;
        v_purchase.account_id := v_session.account_id;
        v_purchase.source := 'stripe.pack';
        v_purchase.reference_id := v_session.stripe_checkout_session_id;
        v_purchase.description := v_bought.names;
        v_purchase.price := case
            when v_bought.is_free then 0 else coalesce(least(v_paid, v_session.amount_total), 0)
        end;
        v_purchase.credits := billing._checked_amount(v_bought.credits);
        if v_purchase.price < v_session.amount_total and not v_bought.is_free then
            v_purchase.credits := floor(v_bought.credits * v_purchase.price / v_session.amount_total);
        end if;
        -- For several packs, see the line items.
        v_purchase.stripe_price_id :=
            case when cardinality(v_bought.stripe_price_ids) = 1 then v_bought.stripe_price_ids[1] end;
        v_purchase.stripe_checkout_session_id := v_session.stripe_checkout_session_id;
        v_purchase.stripe_payment_intent_id := v_session.stripe_payment_intent_id;
        v_purchase.expires_at := v_purchase.purchased_at + v_bought.expires_after;
        perform billing._purchase(v_purchase);
        perform billing._apply_returns_of_payment(v_session.stripe_payment_intent_id, null)
        where v_session.stripe_payment_intent_id is not null;
    end loop;
end
$$;

-- Records what a session's payment intent received: at once, by a later capture, or by a bank debit.
create function billing._pay_session(stripe_payment_intent_id text, amount_received bigint)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    insert into billing.payment_intents (stripe_payment_intent_id, amount_received)
    values (_pay_session.stripe_payment_intent_id, _pay_session.amount_received)
    on conflict on constraint payment_intents_pkey do nothing;
    perform billing._settle_session(_pay_session.stripe_payment_intent_id);
end
$$;

-- A completed session and the amount that its payment intent received, in either order: both are written before this is
-- called, and under the lock the later of two concurrent transactions sees the other.
create function billing._settle_session(stripe_payment_intent_id text)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_session billing.checkout_sessions;
    v_received bigint;
begin
    perform billing._lock_money(_settle_session.stripe_payment_intent_id, null);
    select payment_intents.amount_received into v_received from billing.payment_intents
    where payment_intents.stripe_payment_intent_id = _settle_session.stripe_payment_intent_id;
    if not found then
        return;
    end if;
    update billing.checkout_sessions set payment_status = 'paid', updated_at = now()
    where checkout_sessions.stripe_payment_intent_id = _settle_session.stripe_payment_intent_id
        and checkout_sessions.mode = 'payment' and checkout_sessions.status = 'complete'
        and checkout_sessions.payment_status = 'unpaid'
    returning * into v_session;
    if found then
        perform billing._purchase_packs_of_session(v_session);
        return;
    end if;
    -- A session that was read as paid does not report a partial capture.
    update billing.pack_purchases
    set credits = floor(pack_purchases.credits::numeric * v_received / pack_purchases.price), price = v_received
    where pack_purchases.stripe_payment_intent_id = _settle_session.stripe_payment_intent_id
        and pack_purchases.stripe_checkout_session_id is not null and v_received < pack_purchases.price;
    if found then
        perform billing._apply_returns_of_purchases(_settle_session.stripe_payment_intent_id);
    end if;
end
$$;

-- lines is null if they were not read: an event has none, and only a paid session of mode payment needs them.
create function billing.sync_checkout_session(
    stripe_checkout_session_id text, stripe_customer_id text, livemode boolean, mode text, status text,
    payment_status text, client_reference_id text, stripe_subscription_id text, stripe_invoice_id text,
    stripe_payment_intent_id text, stripe_payment_link_id text, currency text, amount_total bigint, opened_at timestamptz,
    lines jsonb, as_of timestamptz
)
returns text
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_session billing.checkout_sessions;
begin
    if sync_checkout_session.stripe_payment_link_id is not null and sync_checkout_session.status = 'complete' then
        perform billing._attribute_payment(
            sync_checkout_session.stripe_checkout_session_id, sync_checkout_session.stripe_payment_link_id,
            sync_checkout_session.stripe_customer_id, sync_checkout_session.client_reference_id,
            sync_checkout_session.livemode, sync_checkout_session.opened_at
        );
    end if;
    insert into billing.checkout_sessions as held (
        stripe_checkout_session_id, stripe_customer_id, account_id, livemode, mode, status, payment_status,
        client_reference_id, stripe_subscription_id, stripe_invoice_id, stripe_payment_intent_id,
        stripe_payment_link_id, currency, amount_total, opened_at, completed_at, as_of
    )
    values (
        sync_checkout_session.stripe_checkout_session_id, sync_checkout_session.stripe_customer_id,
        billing._account_of_customer(sync_checkout_session.stripe_customer_id, sync_checkout_session.livemode),
        sync_checkout_session.livemode, sync_checkout_session.mode, sync_checkout_session.status,
        sync_checkout_session.payment_status, sync_checkout_session.client_reference_id,
        sync_checkout_session.stripe_subscription_id, sync_checkout_session.stripe_invoice_id,
        sync_checkout_session.stripe_payment_intent_id, sync_checkout_session.stripe_payment_link_id,
        sync_checkout_session.currency, sync_checkout_session.amount_total, sync_checkout_session.opened_at,
        case when sync_checkout_session.status = 'complete' then sync_checkout_session.as_of end,
        sync_checkout_session.as_of
    )
    on conflict on constraint checkout_sessions_pkey do update
    -- Completing a session may create its customer.
    set stripe_customer_id = coalesce(held.stripe_customer_id, excluded.stripe_customer_id),
        account_id = coalesce(held.account_id, excluded.account_id),
        status = excluded.status,
        payment_status = excluded.payment_status,
        stripe_subscription_id = coalesce(excluded.stripe_subscription_id, held.stripe_subscription_id),
        stripe_invoice_id = coalesce(excluded.stripe_invoice_id, held.stripe_invoice_id),
        stripe_payment_intent_id = coalesce(excluded.stripe_payment_intent_id, held.stripe_payment_intent_id),
        amount_total = coalesce(excluded.amount_total, held.amount_total),
        -- The earliest reported time, whichever event came first.
        completed_at = least(held.completed_at, excluded.completed_at),
        as_of = greatest(held.as_of, excluded.as_of),
        updated_at = now()
    -- A session only moves forward: it ends once and is paid once. A session with nothing to pay may still become paid;
    -- a paid one stays paid.
    where (held.status = 'open' or held.status = excluded.status)
        and (held.payment_status = 'unpaid' or held.payment_status = excluded.payment_status or held.status = 'open')
    returning * into v_session;

    if not found then
        return 'stale';
    elsif v_session.mode = 'payment' and v_session.status = 'complete' and sync_checkout_session.lines is not null then
        insert into billing.checkout_line_items (
            stripe_line_item_id, stripe_checkout_session_id, stripe_price_id, quantity, amount_total, declares_credits
        )
        select
            line.stripe_line_item_id, v_session.stripe_checkout_session_id, line.stripe_price_id, line.quantity,
            line.amount_total, line.declares_credits
        from jsonb_to_recordset(sync_checkout_session.lines) as line (
            stripe_line_item_id text, stripe_price_id text, quantity bigint, amount_total bigint,
            declares_credits boolean
        )
        on conflict do nothing;
        if v_session.payment_status <> 'unpaid' then
            perform billing._purchase_packs_of_session(v_session);
        end if;
        perform billing._settle_session(v_session.stripe_payment_intent_id)
        where v_session.stripe_payment_intent_id is not null;
    end if;
    return 'applied';
end
$$;

revoke all on function
    billing._purchase_packs_of_session, billing._pay_session, billing._settle_session,
    billing.sync_checkout_session
from public, anon, authenticated, service_role;
grant execute on function billing.sync_checkout_session(
    text, text, boolean, text, text, text, text, text, text, text, text, text, bigint, timestamptz, jsonb, timestamptz
) to billing_worker;

comment on table billing.checkout_line_items is 'The line items of paid Checkout Sessions of mode payment, as read from Stripe.';
comment on column billing.checkout_line_items.declares_credits is 'True if the price or its product has pack_credits in its metadata; otherwise the line is not one of our packs.';
comment on column billing.checkout_line_items.amount_total is 'The amount paid for the line after discounts, in minor units of the session''s currency.';

-- 58_sync/60_test_clock.sql

-- A Stripe test clock that has advanced → grants the months of its subscriptions that have started by its time.
--
-- Called by billing_worker.

create function billing.sync_test_clock(stripe_test_clock_id text, livemode boolean, frozen_at timestamptz)
returns text
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    insert into billing.test_clocks as held (stripe_test_clock_id, frozen_at)
    select sync_test_clock.stripe_test_clock_id, sync_test_clock.frozen_at
    where not sync_test_clock.livemode
    on conflict on constraint test_clocks_pkey do update set frozen_at = excluded.frozen_at
    where held.frozen_at < excluded.frozen_at;
    if not found then
        return 'stale';
    end if;
    perform billing._allocate_subscription(subscriptions.stripe_subscription_id) from billing.subscriptions
    where subscriptions.stripe_test_clock_id = sync_test_clock.stripe_test_clock_id
    order by subscriptions.account_id, subscriptions.stripe_subscription_id;
    return 'applied';
end
$$;

revoke all on function billing.sync_test_clock from public, anon, authenticated, service_role;
grant execute on function billing.sync_test_clock(text, boolean, timestamptz) to billing_worker;

comment on function billing.sync_test_clock(text, boolean, timestamptz) is 'A Stripe test clock has advanced to a time. Returns applied or stale.';

-- 60_checkout/10_redirects.sql

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

-- 60_checkout/15_stripe_steps.sql

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

-- 60_checkout/20_customer_claims.sql

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

-- 60_checkout/30_checkout_rules.sql

-- Checkout's rules: who may buy for an account, what is on sale, and at which quantity.
--
-- Invariant: all decisions use rows that clients cannot write. Prices come from Stripe and plans from our tables; a
-- client never sends an amount.
--
-- Private: called by prepare_checkout and prepare_portal.

-- The account for which a user buys: their own, or one that they own or administer. Checks the user's row, because a
-- token outlives its user.
create function billing._account_to_bill(user_id uuid, account_id uuid)
returns uuid
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    if not exists (
        select from auth.users
        where users.id = _account_to_bill.user_id and users.deleted_at is null
            and coalesce(users.banned_until, '-infinity') <= now()
    ) then
        raise exception 'this user no longer exists'
            using errcode = 'TB040', hint = 'Sign in again.';
    elsif _account_to_bill.account_id is null then
        return billing.ensure_account(_account_to_bill.user_id);
    elsif not exists (
        select from billing.accounts
        where accounts.id = _account_to_bill.account_id and accounts.owner_id = _account_to_bill.user_id
    ) and not exists (
        select from billing.account_members
        where account_members.account_id = _account_to_bill.account_id
            and account_members.user_id = _account_to_bill.user_id and account_members.role in ('owner', 'admin')
    ) then
        raise exception 'this user cannot buy for that account'
            using errcode = 'TB041', hint = 'Only owners and admins of an account can. Leave account_id out to buy for the user''s own account.';
    end if;
    return _account_to_bill.account_id;
end
$$;

-- The plan or pack with this price id or lookup key that is on sale now.
create function billing._price_on_sale(plan text, pack text)
returns table (stripe_price_id text, stripe_product_id text, is_metered boolean, seats_min bigint, seats_max bigint)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    if (_price_on_sale.plan is null) = (_price_on_sale.pack is null) then
        raise exception 'pass either plan or pack'
            using errcode = 'TB048', hint = 'Use a lookup key or a price id.';
    end if;
    return query
    select price.stripe_price_id, price.stripe_product_id, price.is_metered, price.seats_min, price.seats_max
    from (
        select plans.stripe_price_id, plans.stripe_product_id, plans.usage_type = 'metered', plans.seats_min,
            -- Each seat grants credits, and seats of a free plan cost nothing: only as many as were declared.
            case when plans.unit_amount = 0 then coalesce(plans.seats_max, plans.seats_min) else plans.seats_max end,
            plans.lookup_key, plans.as_of, 'plan'
        from billing.plans where plans.active and plans.livemode = billing.is_livemode()
        union all
        select credit_packs.stripe_price_id, credit_packs.stripe_product_id, false, 1, null, credit_packs.lookup_key,
            credit_packs.as_of, 'pack'
        from billing.credit_packs
        -- A free pack could be taken any number of times.
        where credit_packs.active and credit_packs.livemode = billing.is_livemode()
            and credit_packs.unit_amount is distinct from 0
    ) as price (
        stripe_price_id, stripe_product_id, is_metered, seats_min, seats_max, lookup_key, as_of, kind
    )
    join billing.products on products.stripe_product_id = price.stripe_product_id and products.active
    where price.kind = case when _price_on_sale.plan is null then 'pack' else 'plan' end
        and coalesce(_price_on_sale.plan, _price_on_sale.pack) in (price.stripe_price_id, price.lookup_key)
    -- A lookup key can move between prices in Stripe; until both events have arrived, the newer price has it.
    order by price.stripe_price_id = coalesce(_price_on_sale.plan, _price_on_sale.pack) desc, price.as_of desc
    limit 1;
    if not found then
        raise exception 'this % is not on sale', case when _price_on_sale.plan is null then 'pack' else 'plan' end
            using errcode = 'TB042', hint = 'See public.billing_plans and billing_packs. A new price appears after its event was processed.';
    end if;
end
$$;

-- A transaction that ends the price waits until the caller commits, and then sees the caller's rows. TB042 if the price
-- has ended by now, or no longer has that name. Product before price, as Stripe's events lock them.
create function billing._hold_price(stripe_price_id text, name text)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    perform from billing.products
    where products.stripe_product_id in (
        select plans.stripe_product_id from billing.plans where plans.stripe_price_id = _hold_price.stripe_price_id
        union all
        select packs.stripe_product_id from billing.credit_packs as packs
        where packs.stripe_price_id = _hold_price.stripe_price_id
    )
    for share;
    perform from billing.plans where plans.stripe_price_id = _hold_price.stripe_price_id for share;
    perform from billing.credit_packs where credit_packs.stripe_price_id = _hold_price.stripe_price_id for share;
    if not exists (
        select from (
            select plans.stripe_price_id, plans.lookup_key, plans.active, plans.stripe_product_id from billing.plans
            union all
            select packs.stripe_price_id, packs.lookup_key, packs.active, packs.stripe_product_id
            from billing.credit_packs as packs
        ) as price
        join billing.products on products.stripe_product_id = price.stripe_product_id
        where price.stripe_price_id = _hold_price.stripe_price_id and price.active and products.active
            and _hold_price.name in (price.stripe_price_id, price.lookup_key)
    ) then
        raise exception '% is no longer on sale', _hold_price.name
            using errcode = 'TB042', hint = 'Try again: another price may have this lookup key now.';
    end if;
end
$$;

-- Whole units within the plan's or else the owner's limit; the default is the smallest quantity. Null for metered
-- prices, which Stripe counts.
create function billing._checked_quantity(quantity numeric, is_metered boolean, seats_min bigint, seats_max bigint)
returns bigint
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_least bigint := case when _checked_quantity.is_metered then 1 else _checked_quantity.seats_min end;
    v_most bigint := case
        when _checked_quantity.is_metered then 1
        else coalesce(_checked_quantity.seats_max, (select settings.max_checkout_quantity from billing.settings))
    end;
    v_quantity numeric := coalesce(_checked_quantity.quantity, v_least);
begin
    if v_quantity not between v_least and v_most or v_quantity % 1 <> 0 then
        raise exception 'quantity must be a whole number from % to %', v_least, v_most
            using errcode = 'TB043',
            hint = 'The limit is the plan''s metadata seats, or else billing.settings.max_checkout_quantity.';
    end if;
    return case when not _checked_quantity.is_metered then v_quantity end;
end
$$;

-- The URL with Stripe's placeholder for the session's id in its query, so that the page can show the purchase.
create function billing._with_session_id(url text)
returns text
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
    select case
        when pg_catalog.strpos(_with_session_id.url, '{CHECKOUT_SESSION_ID}') > 0 then _with_session_id.url
        else pg_catalog.regexp_replace(
            _with_session_id.url, '^([^#]*)',
            '\1' || case when _with_session_id.url ~ '^[^#]*\?' then '&' else '?' end || 'session_id={CHECKOUT_SESSION_ID}'
        )
    end
$$;

revoke all on function
    billing._account_to_bill, billing._price_on_sale, billing._hold_price, billing._checked_quantity,
    billing._with_session_id
from public, anon, authenticated, service_role;

-- 60_checkout/40_stripe_requests.sql

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

-- 60_checkout/50_checkout_requests.sql

-- Checkout requests of users, and which of them exclude each other.
--
-- Invariant: nobody subscribes twice against one_subscription_per, not even with two open sessions. A repeated click,
-- within ten minutes and until its session has ended, is the same request with the same Idempotency-Key, and so the
-- same session; a click on another plan supersedes it. The same applies to trials.
--
-- Only functions write; service_role reads. Private: all functions here.

create table billing.checkout_requests (
    id uuid primary key default gen_random_uuid(),
    account_id uuid not null references billing.accounts (id),
    user_id uuid references auth.users (id) on delete set null,
    livemode boolean not null,
    stripe_price_id text not null,
    quantity bigint,
    params jsonb not null,
    idempotency_key text not null unique,
    stripe_checkout_session_id text unique,
    discarded_at timestamptz,
    superseded_at timestamptz,
    expired_at timestamptz,
    created_at timestamptz not null default now(),
    constraint quantity_is_positive check (quantity > 0),
    constraint params_are_an_object check (jsonb_typeof(params) = 'object')
);

create index checkout_requests_account on billing.checkout_requests (account_id, created_at);
create index checkout_requests_user on billing.checkout_requests (user_id);

alter table billing.checkout_requests enable row level security;

revoke all on billing.checkout_requests from public, anon, authenticated, service_role;
grant select on billing.checkout_requests to service_role;

-- True if a rule for each price, product or account covers both a plan and a price.
create function billing._is_within(
    scope text, plan billing.plans, stripe_price_id text, stripe_product_id text default null
)
returns boolean
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select case _is_within.scope
        when 'account' then true
        when 'product' then coalesce(
            (select plans.stripe_product_id from billing.plans where plans.stripe_price_id = _is_within.stripe_price_id),
            _is_within.stripe_product_id
        ) is not distinct from (_is_within.plan).stripe_product_id
        when 'price' then _is_within.stripe_price_id = (_is_within.plan).stripe_price_id
        else false
    end
$$;

-- A subscription that was paid at checkout counts from the end of the session, before its own events arrive: until then
-- its row is missing or incomplete.
create function billing._check_not_subscribed(account_id uuid, plan billing.plans)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_scope text := (select settings.one_subscription_per from billing.settings);
begin
    if exists (
        select from billing.subscriptions
        join billing.subscription_items as items
            on items.stripe_subscription_id = subscriptions.stripe_subscription_id
        where subscriptions.account_id = _check_not_subscribed.account_id
            and subscriptions.livemode = (_check_not_subscribed.plan).livemode
            and subscriptions.status in ('active', 'trialing', 'past_due', 'unpaid', 'paused')
            and billing._is_within(v_scope, _check_not_subscribed.plan, items.stripe_price_id, items.stripe_product_id)
    ) or exists (
        select from billing.checkout_requests as requests
        join billing.checkout_sessions as sessions
            on sessions.stripe_checkout_session_id = requests.stripe_checkout_session_id
        left join billing.subscriptions
            on subscriptions.stripe_subscription_id = sessions.stripe_subscription_id
        where requests.account_id = _check_not_subscribed.account_id
            and requests.livemode = (_check_not_subscribed.plan).livemode
            and sessions.mode = 'subscription' and sessions.status = 'complete'
            and coalesce(subscriptions.status, 'incomplete') = 'incomplete'
            and requests.created_at > now() - interval '2 days'
            and billing._is_within(v_scope, _check_not_subscribed.plan, requests.stripe_price_id)
    ) then
        raise exception 'the account is already subscribed: use the portal to change the plan'
            using errcode = 'TB045', hint = 'billing.settings.one_subscription_per decides which plans exclude each other.';
    -- A free plan that is cancelled and taken again at once would grant its month's credits again.
    elsif (_check_not_subscribed.plan).unit_amount = 0 and exists (
        select from billing.subscriptions
        join billing.subscription_items as items
            on items.stripe_subscription_id = subscriptions.stripe_subscription_id
        where subscriptions.account_id = _check_not_subscribed.account_id
            and subscriptions.livemode = (_check_not_subscribed.plan).livemode
            and subscriptions.status = 'canceled' and items.current_period_end > billing.current_time()
            and billing._is_within(v_scope, _check_not_subscribed.plan, items.stripe_price_id, items.stripe_product_id)
    ) then
        raise exception 'a cancelled free plan can be taken again after its last period'
            using errcode = 'TB045', hint = 'Choose another plan until then.';
    end if;
end
$$;

-- Days of trial that a plan gives to an account: none after an earlier subscription, as one_trial_per says. A completed
-- session counts permanently, whatever plan its subscription has changed to.
create function billing._trial_days(account_id uuid, plan billing.plans)
returns integer
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select (_trial_days.plan).trial_days from billing.settings
    where (_trial_days.plan).trial_days > 0
        and not exists (
            select from billing.subscriptions
            join billing.subscription_items as items
                on items.stripe_subscription_id = subscriptions.stripe_subscription_id
            where subscriptions.account_id = _trial_days.account_id
                and subscriptions.livemode = (_trial_days.plan).livemode
                and subscriptions.status not in ('incomplete', 'incomplete_expired')
                and billing._is_within(
                    settings.one_trial_per, _trial_days.plan, items.stripe_price_id, items.stripe_product_id
                )
        )
        and not exists (
            select from billing.checkout_requests as requests
            join billing.checkout_sessions as sessions
                on sessions.stripe_checkout_session_id = requests.stripe_checkout_session_id
            where requests.account_id = _trial_days.account_id and requests.livemode = (_trial_days.plan).livemode
                and sessions.mode = 'subscription' and sessions.status = 'complete'
                and billing._is_within(settings.one_trial_per, _trial_days.plan, requests.stripe_price_id)
        )
$$;

-- The account's other open sessions that one_subscription_per or one_trial_per excludes; their keys are discarded. A
-- session that is being opened at this moment is unknown here: its own click closes it (continue_checkout). A session
-- lives for a day.
create function billing._supersede_requests(
    account_id uuid, plan billing.plans, idempotency_key text, has_trial boolean
)
returns text[]
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    with superseded as (
        update billing.checkout_requests as requests
        set discarded_at = coalesce(requests.discarded_at, now()),
            superseded_at = coalesce(requests.superseded_at, now())
        from billing.settings
        where requests.account_id = _supersede_requests.account_id
            and requests.livemode = (_supersede_requests.plan).livemode
            and requests.idempotency_key <> _supersede_requests.idempotency_key
            and requests.params ->> 'mode' = 'subscription'
            and requests.created_at > now() - interval '25 hours' and requests.expired_at is null
            and (
                billing._is_within(settings.one_subscription_per, _supersede_requests.plan, requests.stripe_price_id)
                or _supersede_requests.has_trial
                and requests.params #> '{subscription_data,trial_period_days}' is not null
                and billing._is_within(settings.one_trial_per, _supersede_requests.plan, requests.stripe_price_id)
            )
            and not exists (
                select from billing.checkout_sessions as sessions
                where sessions.stripe_checkout_session_id = requests.stripe_checkout_session_id
                    and sessions.status <> 'open'
            )
        returning requests.stripe_checkout_session_id
    )
    select coalesce(array_agg(stripe_checkout_session_id order by stripe_checkout_session_id), '{}') from superseded
    where stripe_checkout_session_id is not null
$$;

revoke all on function
    billing._is_within, billing._check_not_subscribed, billing._trial_days, billing._supersede_requests
from public, anon, authenticated, service_role;

comment on table billing.checkout_requests is 'Checkout requests of users, and the session that Stripe opened for each.';
comment on column billing.checkout_requests.params is 'The parameters for Stripe, without the customer.';
comment on column billing.checkout_requests.discarded_at is 'Since when the idempotency key is no longer used; the next click is a new request.';
comment on column billing.checkout_requests.superseded_at is 'Since when a request for another plan, which excludes this one, has replaced it.';
comment on column billing.checkout_requests.expired_at is 'When we closed the session, because another one replaced it.';

-- 60_checkout/55_continue_checkout.sql

-- Checkout's steps: make the account's customer, expire the sessions that another plan excludes, open the session.
--
-- Invariant: if anything breaks, the same click later continues where this one stopped. Of two sessions that exclude each
-- other, one is expired.
--
-- continue_checkout is called by billing_checkout. Private: all other functions here.

-- The next step once the customer is known: expire these sessions, then open the request's own. Without a customer none is
-- opened: the request was superseded, and its own session is the one to expire.
create function billing._checkout_step(request billing.checkout_requests, stripe_customer_id text, sessions text[])
returns jsonb
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_calls jsonb := coalesce((
        select jsonb_agg(
            billing._stripe_call('post', '/v1/checkout/sessions/' || session_id || '/expire', '{}', keep => '{status}')
            order by place
        )
        from unnest(_checkout_step.sessions) with ordinality as session (session_id, place)
    ), '[]');
begin
    if _checkout_step.stripe_customer_id is not null then
        v_calls := v_calls || billing._stripe_call(
            'post', '/v1/checkout/sessions',
            params => (_checkout_step.request).params
                || jsonb_build_object('customer', _checkout_step.stripe_customer_id),
            keep => '{id,url,expires_at}',
            idempotency_key => (_checkout_step.request).idempotency_key
        );
    elsif v_calls = '[]' then
        return billing._refused_step(
            errcode => 'TB064',
            message => 'another checkout was started at the same time and replaces this one',
            hint => 'Continue with the other one, or start again.'
        );
    end if;
    return billing._stripe_step((_checkout_step.request).livemode, v_calls, jsonb_build_object(
        'asked', 'session', 'key', (_checkout_step.request).idempotency_key,
        'customer', _checkout_step.stripe_customer_id, 'expire', to_jsonb(_checkout_step.sessions)
    ));
end
$$;

-- The first step: the customer where the account has none (see _claim_customer).
create function billing._begin_checkout(request billing.checkout_requests, customer jsonb, sessions text[])
returns jsonb
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    if _begin_checkout.customer ? 'id' then
        return billing._checkout_step(
            _begin_checkout.request, _begin_checkout.customer ->> 'id', _begin_checkout.sessions
        );
    end if;
    return billing._stripe_step(
        (_begin_checkout.request).livemode, _begin_checkout.customer -> 'calls',
        jsonb_build_object(
            'asked', 'customer', 'key', (_begin_checkout.request).idempotency_key,
            'token', _begin_checkout.customer -> 'token', 'expire', to_jsonb(_begin_checkout.sessions)
        )
    );
end
$$;

-- The next click uses another key. Only the key that failed is discarded, so many clicks that fail together discard one.
create function billing._discard_checkout_key(idempotency_key text)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    update billing.checkout_requests set discarded_at = now()
    where checkout_requests.idempotency_key = _discard_checkout_key.idempotency_key
        and checkout_requests.discarded_at is null;
    update billing.customer_claims
    set idempotency_key = gen_random_uuid()::text,
        keyed_at = now(), may_exist = true, updated_at = now()
    where customer_claims.idempotency_key = _discard_checkout_key.idempotency_key
        and customer_claims.stripe_customer_id is null;
end
$$;

create function billing._refuse_checkout(answer jsonb)
returns jsonb
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_error jsonb := _refuse_checkout.answer -> 'error';
begin
    if billing._is_kept_by_stripe(v_error) then
        perform billing._discard_checkout_key(_refuse_checkout.answer ->> 'idempotency_key');
    elsif v_error ->> 'code' = 'resource_missing' and v_error ->> 'param' ~ '^line_items\y.*\yprice\y' then
        -- The price was deleted in Stripe, and its event has not arrived yet.
        return billing._refused_step(
            errcode => 'TB042', message => 'this plan or pack is no longer on sale',
            hint => 'Choose another plan or pack.'
        );
    end if;
    return billing._refused_by_stripe(v_error);
end
$$;

-- Stripe's answers to a step → the next step. The result is {"id", "url", "expires_at"} of the session.
create function billing.continue_checkout(state jsonb, answers jsonb)
returns jsonb
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_request billing.checkout_requests;
    v_asked text := continue_checkout.state ->> 'asked';
    v_customer_id text := continue_checkout.state ->> 'customer';
    v_sessions text[] := array(select jsonb_array_elements_text(continue_checkout.state -> 'expire'));
    v_answer jsonb := continue_checkout.answers -> -1;
    v_has_failed boolean := v_answer ? 'error';
    v_stands boolean;
begin
    select * into strict v_request from billing.checkout_requests
    where checkout_requests.idempotency_key = continue_checkout.state ->> 'key';

    if v_asked = 'customer' then
        if v_has_failed then
            return billing._refuse_checkout(v_answer);
        end if;
        return billing._checkout_step(v_request, billing._link_claimed_customer(
            v_request.account_id, (continue_checkout.state ->> 'token')::uuid, v_answer #>> '{body,id}'
        ), v_sessions);
    elsif v_asked = 'end' and v_answer #>> '{body,status}' = 'complete' then
        -- Just paid, and its event has not arrived yet.
        return billing._refused_step(
            errcode => 'TB045', message => 'the account is already subscribed: use the portal to change the plan',
            hint => 'The function portal opens it, and so does `till portal`.'
        );
    end if;

    -- Sessions are expired in order: one for each call that succeeded.
    v_sessions := v_sessions[1 + jsonb_array_length(continue_checkout.answers) - v_has_failed::integer:];
    update billing.checkout_requests set expired_at = now()
    where checkout_requests.stripe_checkout_session_id in (
            select jsonb_array_elements_text(continue_checkout.state -> 'expire') except select unnest(v_sessions)
        )
        and checkout_requests.expired_at is null;
    if v_has_failed then
        if v_asked = 'end' or v_sessions = '{}' or v_answer #>> '{error,status}' is distinct from '400' then
            return billing._refuse_checkout(v_answer);
        end if;
        -- Stripe expires open sessions only. Its error has no code for that, so read how the session ended.
        return billing._stripe_step(
            v_request.livemode,
            jsonb_build_array(billing._stripe_call(
                'get', '/v1/checkout/sessions/' || v_sessions[1], '{}', keep => '{status}'
            )),
            jsonb_build_object(
                'asked', 'end', 'key', v_request.idempotency_key, 'customer', v_customer_id,
                'expire', to_jsonb(v_sessions)
            )
        );
    elsif v_asked = 'end' or v_customer_id is null then
        return billing._checkout_step(v_request, v_customer_id, v_sessions);
    end if;

    update billing.checkout_requests set stripe_checkout_session_id = v_answer #>> '{body,id}'
    where checkout_requests.id = v_request.id
    returning checkout_requests.superseded_at is null into v_stands;
    if not v_stands then
        return billing._checkout_step(v_request, null, array[v_answer #>> '{body,id}']);
    end if;
    return jsonb_build_object('done', v_answer -> 'body');
end
$$;

revoke all on function
    billing._checkout_step, billing._begin_checkout, billing._discard_checkout_key, billing._refuse_checkout,
    billing.continue_checkout
from public, anon, authenticated, service_role;
grant execute on function billing.continue_checkout(jsonb, jsonb) to billing_checkout;

comment on function billing.continue_checkout(jsonb, jsonb) is 'Takes Stripe''s answers to a step of a checkout; returns the next step, or the open session.';

-- 60_checkout/60_prepare_checkout.sql

-- A user's order → the first step of a checkout. continue_checkout returns the later ones.
--
-- Invariant: a refused request changes nothing, here or in Stripe. If anything fails, the same click continues.
--
-- Called by billing_checkout.

-- The same order within ten minutes returns the same request, until the session has ended.
create function billing.prepare_checkout(
    user_id uuid,
    plan text,
    pack text,
    quantity numeric,
    success_url text,
    cancel_url text,
    save_card boolean default false,
    account_id uuid default null
)
returns jsonb
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_settings billing.settings;
    v_account_id uuid := billing._account_to_bill(prepare_checkout.user_id, prepare_checkout.account_id);
    v_price record;
    v_plan billing.plans;
    v_trial_days integer;
    v_quantity bigint;
    v_success_url text;
    v_cancel_url text;
    v_customer jsonb;
    v_params jsonb;
    v_request billing.checkout_requests;
    v_superseded text[] := '{}';
begin
    select * into strict v_settings from billing.settings;
    perform billing._check_may_spend(v_account_id);
    select * into strict v_price from billing._price_on_sale(prepare_checkout.plan, prepare_checkout.pack);
    v_quantity := billing._checked_quantity(
        prepare_checkout.quantity, v_price.is_metered, v_price.seats_min, v_price.seats_max
    );
    v_success_url := coalesce(prepare_checkout.success_url, v_settings.site_url);
    v_cancel_url := coalesce(prepare_checkout.cancel_url, v_settings.site_url, v_success_url);
    perform billing._check_redirect('success_url', v_success_url);
    perform billing._check_redirect('cancel_url', v_cancel_url);
    if prepare_checkout.plan is not null then
        select * into strict v_plan from billing.plans where plans.stripe_price_id = v_price.stripe_price_id;
        v_trial_days := billing._trial_days(v_account_id, v_plan);
    end if;

    v_params := jsonb_strip_nulls(jsonb_build_object(
        'mode', case when prepare_checkout.plan is null then 'payment' else 'subscription' end,
        'line_items', jsonb_build_array(jsonb_build_object('price', v_price.stripe_price_id, 'quantity', v_quantity)),
        'success_url', billing._with_session_id(v_success_url),
        'cancel_url', v_cancel_url,
        'billing_address_collection', v_settings.billing_address_collection,
        'allow_promotion_codes', case when v_settings.allow_promotion_codes then true end,
        'automatic_tax', case when v_settings.automatic_tax then '{"enabled": true}'::jsonb end,
        'tax_id_collection', case when v_settings.collect_tax_ids then '{"enabled": true}'::jsonb end,
        -- Stripe takes the address and the business's name from the customer, so it must be allowed to save them there.
        'customer_update', case when v_settings.automatic_tax or v_settings.collect_tax_ids then
            '{"address": "auto", "name": "auto"}'::jsonb
        end,
        'branding_settings', v_settings.checkout_branding,
        -- For people who use Stripe's Dashboard; we never read it.
        'metadata', jsonb_build_object('account_id', v_account_id),
        'payment_method_collection', case when v_trial_days > 0 and v_settings.trial_without_card is not null then
            'if_required'
        end,
        'subscription_data', case when prepare_checkout.plan is not null then jsonb_build_object(
            'metadata', jsonb_build_object('account_id', v_account_id),
            'trial_period_days', v_trial_days,
            'trial_settings', case when v_trial_days > 0 and v_settings.trial_without_card is not null then
                jsonb_build_object(
                    'end_behavior', jsonb_build_object('missing_payment_method', v_settings.trial_without_card)
                )
            end
        ) end,
        'payment_intent_data', case when prepare_checkout.pack is not null then jsonb_build_object(
            'metadata', jsonb_build_object('account_id', v_account_id),
            'setup_future_usage', case when prepare_checkout.save_card then 'off_session' end
        ) end
    ));

    -- From here to the commit the clicks of an account run one after the other.
    v_customer := billing._claim_customer(v_account_id, v_settings.livemode);
    select requests.* into v_request from billing.checkout_requests as requests
    left join billing.checkout_sessions as sessions
        on sessions.stripe_checkout_session_id = requests.stripe_checkout_session_id
    where requests.account_id = v_account_id and requests.livemode = v_settings.livemode
        and requests.params = v_params and requests.discarded_at is null
        and requests.created_at > now() - interval '10 minutes'
        and coalesce(sessions.status, 'open') = 'open'
    order by requests.created_at desc
    limit 1;
    if not found then
        insert into billing.checkout_requests (
            account_id, user_id, livemode, stripe_price_id, quantity, params, idempotency_key
        )
        values (
            v_account_id, prepare_checkout.user_id, v_settings.livemode, v_price.stripe_price_id, v_quantity, v_params,
            gen_random_uuid()::text
        )
        returning * into v_request;
        perform billing._note_stripe_request(v_account_id, v_request.idempotency_key);
    end if;

    if prepare_checkout.plan is not null then
        v_superseded := billing._supersede_requests(
            v_account_id, v_plan, v_request.idempotency_key, v_trial_days > 0
        );
        -- In this order: a session that is paid at this moment is among those to expire, or is known to be paid.
        perform billing._check_not_subscribed(v_account_id, v_plan);
        if billing._trial_days(v_account_id, v_plan) is distinct from v_trial_days then
            raise exception 'a trial started at the same time' using errcode = '40001', hint = 'Try again.';
        end if;
    end if;
    return billing._begin_checkout(v_request, v_customer, v_superseded);
end
$$;

revoke all on function billing.prepare_checkout from public, anon, authenticated, service_role;
grant execute on function
    billing.prepare_checkout(uuid, text, text, numeric, text, text, boolean, uuid)
to billing_checkout;

comment on function billing.prepare_checkout(uuid, text, text, numeric, text, text, boolean, uuid) is 'Checks a user''s order. Returns the first step.';

-- 60_checkout/70_prepare_portal.sql

-- The customer portal: a user's change → the request to send to Stripe.
--
-- Invariant: users get the portal of their account's own customers only, and deep links to subscriptions of that
-- account only. Frozen and closed accounts get it too, because their owners must be able to cancel. The portal opens
-- for the customer that has the subscription, which may have been created by a Payment Link. A deleted user who signed
-- up again gets it too, because the card is still charged for the account that they left behind.
--
-- prepare_portal and continue_portal are called by billing_checkout. Private: all other functions here.

-- Of an account's live subscriptions the one that started last; for `cancel`, of those that are not being cancelled.
-- Without a flow, a subscription of the customer that the account keeps comes first.
create function billing._subscription_to_change(account_id uuid, livemode boolean, flow text)
returns billing.subscriptions
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select subscriptions from billing.subscriptions
    join billing.customers on customers.stripe_customer_id = subscriptions.stripe_customer_id
    where subscriptions.account_id = _subscription_to_change.account_id
        and subscriptions.livemode = _subscription_to_change.livemode
        and customers.deleted_at is null
        and subscriptions.status in ('active', 'trialing', 'past_due', 'unpaid', 'paused')
        and (
            _subscription_to_change.flow is distinct from 'cancel'
            or subscriptions.cancel_at is null and not subscriptions.cancel_at_period_end
        )
    order by
        coalesce(_subscription_to_change.flow not in ('cancel', 'update_plan'), true) and customers.duplicate_of is null desc,
        subscriptions.started_at desc, subscriptions.stripe_subscription_id
    limit 1
$$;

-- A live subscription of an account whose user was deleted, for the user who has its customer's e-mail address now. Not
-- that of another customer of the account, who may be a stranger that paid through its Payment Link. The address counts
-- only if it was confirmed by a message: a project that confirms sign-ups automatically proves nothing about it.
create function billing._subscription_left_behind(account_id uuid, livemode boolean, flow text)
returns billing.subscriptions
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_subscription billing.subscriptions;
begin
    select living.* into v_subscription
    from billing.accounts as own
    join auth.users on users.id = own.owner_id
    join billing.customers on lower(customers.email) = lower(users.email)
    join billing.accounts as left_behind on left_behind.id = customers.account_id
    cross join lateral billing._subscription_to_change(
        left_behind.id, _subscription_left_behind.livemode, _subscription_left_behind.flow
    ) as living
    where own.id = _subscription_left_behind.account_id and own.kind = 'personal'
        and users.email_confirmed_at >= users.confirmation_sent_at
        and left_behind.kind = 'personal' and not billing._has_user(left_behind.id)
        and living.stripe_customer_id = customers.stripe_customer_id
    order by living.started_at desc
    limit 1;
    return v_subscription;
end
$$;

-- flow_data of a Portal Session; null without a flow.
create function billing._portal_flow(flow text, stripe_subscription_id text, return_url text)
returns jsonb
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_type text := case _portal_flow.flow
        when 'cancel' then 'subscription_cancel'
        when 'update_plan' then 'subscription_update'
        when 'update_card' then 'payment_method_update'
    end;
begin
    if _portal_flow.flow is null then
        return null;
    elsif v_type is null then
        raise exception 'unknown flow'
            using errcode = 'TB048', hint = 'Use cancel, update_plan or update_card.';
    elsif _portal_flow.flow <> 'update_card' and _portal_flow.stripe_subscription_id is null then
        raise exception 'the account has no subscription to %', case _portal_flow.flow when 'cancel' then 'cancel' else 'change' end
            using errcode = 'TB047', hint = 'Leave flow out to open the portal''s first page.';
    end if;
    return jsonb_strip_nulls(jsonb_build_object(
        'type', v_type,
        v_type, case when _portal_flow.flow <> 'update_card' then
            jsonb_build_object('subscription', _portal_flow.stripe_subscription_id)
        end,
        'after_completion', case when _portal_flow.return_url is not null then
            jsonb_build_object('type', 'redirect', 'redirect', jsonb_build_object('return_url', _portal_flow.return_url))
        end
    ));
end
$$;

-- One step (see 15_stripe_steps.sql), whose result is {"id", "url"} of the session.
create function billing.prepare_portal(user_id uuid, return_url text, flow text, account_id uuid default null)
returns jsonb
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_settings billing.settings;
    v_account_id uuid := billing._account_to_bill(prepare_portal.user_id, prepare_portal.account_id);
    v_return_url text;
    v_subscription billing.subscriptions;
    v_customer_id text;
begin
    select * into strict v_settings from billing.settings;
    if prepare_portal.return_url is not null then
        perform billing._check_redirect('return_url', prepare_portal.return_url);
    end if;
    v_return_url := coalesce(prepare_portal.return_url, v_settings.site_url);

    v_subscription := billing._subscription_to_change(v_account_id, v_settings.livemode, prepare_portal.flow);
    if v_subscription.stripe_subscription_id is null then
        v_subscription := billing._subscription_left_behind(v_account_id, v_settings.livemode, prepare_portal.flow);
    end if;
    v_customer_id := coalesce(
        v_subscription.stripe_customer_id, billing._customer_of(v_account_id, v_settings.livemode)
    );
    if v_customer_id is null then
        raise exception 'this account has not bought anything yet'
            using errcode = 'TB046', hint = 'The first checkout creates the customer that the portal needs.';
    end if;
    perform billing._note_stripe_request(v_account_id);
    return billing._stripe_step(
        v_settings.livemode,
        jsonb_build_array(billing._stripe_call(
            'post', '/v1/billing_portal/sessions',
            params => jsonb_strip_nulls(jsonb_build_object(
                'customer', v_customer_id,
                'return_url', v_return_url,
                'flow_data',
                billing._portal_flow(prepare_portal.flow, v_subscription.stripe_subscription_id, v_return_url)
            )),
            keep => '{id,url}'
        )),
        state => '{}',
        is_last => true
    );
end
$$;

-- Stripe failed.
create function billing.continue_portal(state jsonb, answers jsonb)
returns jsonb
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    return billing._refused_by_stripe(continue_portal.answers #> '{-1,error}');
end
$$;

revoke all on function
    billing._subscription_to_change, billing._subscription_left_behind, billing._portal_flow, billing.prepare_portal,
    billing.continue_portal
from public, anon, authenticated, service_role;
grant execute on function
    billing.prepare_portal(uuid, text, text, uuid), billing.continue_portal(jsonb, jsonb)
to billing_checkout;

comment on function billing.prepare_portal(uuid, text, text, uuid) is 'Checks a user''s change. Returns the step that opens the customer portal.';
comment on function billing.continue_portal(jsonb, jsonb) is 'Takes Stripe''s failure to open the portal. Returns the refusal.';

-- 65_payment_links/10_payment_links.sql

-- Payment Links: got or made once for each plan or pack and options.
--
-- Options are parameters of Stripe's own (custom_fields, automatic_tax, after_completion …): those of the settings, and
-- on top of them what the caller says. With the price they are the link's parameters, and their hash is what there is one
-- active link of. All who ask at once send the row's own parameters under the row's own Idempotency-Key, so Stripe makes one
-- link; the row's id in the link's metadata finds it when Stripe has forgotten the key or keeps answering it with a failure.
--
-- Invariant: a link that is not active any more never becomes active again here: what asks for it next makes another.
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

-- The options that a link has: the caller's over those of the settings. Refuses unknown ones, and a redirect elsewhere.
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

-- The next step for a link (see 60_checkout/15_stripe_steps.sql): return its URL, or ask Stripe whether it is active, or make
-- it. name: of the plan or pack, as the caller gave it.
create function billing._link_step(link billing.payment_links, name text)
returns jsonb
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_calls jsonb := '[]';
begin
    -- Events report it too, so Stripe is not asked at every click.
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

-- The link of a price that is on sale. Holds its row's lock.
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
        -- Without a customer nobody could tell whose the credits are; a subscription always makes one.
        'customer_creation', case when _claim_link.is_pack then 'always' end
    ));
    -- jsonb writes its keys in one order.
    v_hash bytea := sha256(convert_to(v_params::text, 'UTF8'));
    v_link billing.payment_links;
begin
    -- Again where the row was made, or retired, while we waited for a lock.
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

comment on table billing.payment_links is 'Payment Links that we made, one active one for each price and options.';
comment on column billing.payment_links.id is 'In the metadata (tillbase_link) of the link that we made for this row, and nowhere else.';
comment on column billing.payment_links.params is 'What Stripe was sent, without the metadata.';
comment on column billing.payment_links.params_hash is 'SHA-256 of params.';
comment on column billing.payment_links.active is 'True while the link is offered; permanently false once the link or its price is deleted or inactive in Stripe.';
comment on column billing.payment_links.confirmed_at is 'When Stripe last confirmed that the link is active.';
comment on column billing.payment_links.retired_reason is 'price: changed, or not on sale any more. stripe: inactive or gone there. duplicate: another was made. caller: by till.';
comment on column billing.payment_links.deactivate_at is 'Since when the worker is to deactivate it in Stripe; null when there is nothing to do.';

-- 65_payment_links/20_prepare_payment_links.sql

-- What a user asks for → the steps that get or make its Payment Links (see 60_checkout/15_stripe_steps.sql). prepare_… or
-- claim_… returns the first step, continue_payment_link the later ones.
--
-- Invariant: a refused request leaves nothing behind, here or in Stripe. If anything breaks, the next request continues.
--
-- Called by billing_checkout; claim_payment_link by the owner of the database only. Private: all other functions here.

create function billing.claim_payment_link(plan text, pack text, options jsonb default '{}')
returns jsonb
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_price record;
begin
    select * into strict v_price from billing._price_on_sale(claim_payment_link.plan, claim_payment_link.pack);
    if v_price.is_metered then
        raise exception 'a metered plan cannot be sold by a payment link'
            using errcode = 'TB042', hint = 'A Payment Link has a fixed quantity. Use checkout.';
    -- A link sells as often as it is followed, and each time would bring its credits.
    elsif exists (
        select from billing.plans where plans.stripe_price_id = v_price.stripe_price_id and plans.unit_amount = 0
    ) then
        raise exception 'a free plan cannot be sold by a payment link'
            using errcode = 'TB042', hint = 'Use checkout, which checks that an account takes it once.';
    end if;
    return billing._claim_link(
        v_price.stripe_price_id, v_price.seats_min, claim_payment_link.pack is not null, claim_payment_link.options,
        coalesce(claim_payment_link.plan, claim_payment_link.pack)
    );
end
$$;

-- {"links": [{"name", "step"}], "reference"}: the link of the plan or pack, without either those of all plans that the account
-- may subscribe to; and what makes their URLs name the account.
create function billing.prepare_payment_links(user_id uuid, plan text, pack text, account_id uuid default null)
returns jsonb
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_account_id uuid := billing._account_to_bill(prepare_payment_links.user_id, prepare_payment_links.account_id);
    v_links jsonb := '[]';
    v_name text;
    v_plan billing.plans;
begin
    perform billing._check_may_spend(v_account_id);
    if prepare_payment_links.plan is not null and prepare_payment_links.pack is null then
        select plans.* into strict v_plan
        from billing._price_on_sale(prepare_payment_links.plan, null) as price
        join billing.plans on plans.stripe_price_id = price.stripe_price_id;
        perform billing._check_not_subscribed(v_account_id, v_plan);
    end if;
    if prepare_payment_links.plan is not null or prepare_payment_links.pack is not null then
        v_links := jsonb_build_array(jsonb_build_object(
            'name', coalesce(prepare_payment_links.plan, prepare_payment_links.pack),
            'step', billing.claim_payment_link(prepare_payment_links.plan, prepare_payment_links.pack)
        ));
    else
        -- In the order of their names, or two at once could wait for each other.
        for v_name in
            select distinct coalesce(plans.lookup_key, plans.stripe_price_id)
            from billing.plans
            join billing.products on products.stripe_product_id = plans.stripe_product_id and products.active
            where plans.active and plans.livemode = billing.is_livemode() and plans.usage_type = 'licensed'
            order by 1
        loop
            begin
                select plans.* into strict v_plan
                from billing._price_on_sale(v_name, null) as price
                join billing.plans on plans.stripe_price_id = price.stripe_price_id;
                perform billing._check_not_subscribed(v_account_id, v_plan);
                v_links := v_links
                    || jsonb_build_object('name', v_name, 'step', billing.claim_payment_link(v_name, null));
            exception when sqlstate 'TB045' or sqlstate 'TB042' then
                null;  -- the portal changes what they have; or it went off sale at this moment
            end;
        end loop;
    end if;
    perform billing._note_stripe_request(v_account_id, link #>> '{step,calls,-1,idempotency_key}')
    from jsonb_array_elements(v_links) as link
    where link #>> '{step,calls,-1,idempotency_key}' is not null;
    return jsonb_build_object('links', v_links, 'reference', billing.payment_reference(v_account_id));
end
$$;

-- The URL to hand out: that of the link given, unless another was made for the same row in the meantime; null when the
-- row was retired meanwhile. Whatever is not handed out is deactivated by the worker.
create function billing._note_payment_link(token uuid, stripe_payment_link_id text, url text)
returns text
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_link billing.payment_links;
begin
    select * into strict v_link from billing.payment_links where payment_links.id = _note_payment_link.token for update;
    if v_link.stripe_payment_link_id is null then
        update billing.payment_links
        set stripe_payment_link_id = _note_payment_link.stripe_payment_link_id, url = _note_payment_link.url,
            confirmed_at = now(), may_exist = false, updated_at = now(),
            deactivate_at = case when v_link.active then null else now() end
        where payment_links.id = v_link.id
        returning * into v_link;
    elsif v_link.stripe_payment_link_id <> _note_payment_link.stripe_payment_link_id then
        insert into billing.payment_links (
            livemode, stripe_price_id, options, params, params_hash, idempotency_key, stripe_payment_link_id, url,
            active, retired_at, retired_reason, deactivate_at
        )
        values (
            v_link.livemode, v_link.stripe_price_id, v_link.options, v_link.params, v_link.params_hash,
            gen_random_uuid()::text, _note_payment_link.stripe_payment_link_id,
            _note_payment_link.url, false, now(), 'duplicate', now()
        )
        on conflict on constraint payment_links_stripe_payment_link_id_key do nothing;
    elsif v_link.active then
        update billing.payment_links set confirmed_at = now(), updated_at = now()
        where payment_links.id = v_link.id;
    end if;
    return case when v_link.active then v_link.url end;
end
$$;

-- Stripe has just said that the link stands: its URL, null when it was retired meanwhile.
create function billing._confirm_payment_link(stripe_payment_link_id text)
returns text
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    update billing.payment_links set confirmed_at = now(), updated_at = now()
    where payment_links.stripe_payment_link_id = _confirm_payment_link.stripe_payment_link_id and payment_links.active
    returning payment_links.url
$$;

-- Stripe has said that the link is gone or inactive: what is to be done for the one that takes its place. It may be so
-- because its price ended a moment ago, so what the name means is looked up again.
create function billing._replace_payment_link(stripe_payment_link_id text, name text)
returns jsonb
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_gone billing.payment_links;
    v_is_pack boolean;
begin
    update billing.payment_links
    set active = false, retired_at = now(), retired_reason = 'stripe', updated_at = now()
    where payment_links.stripe_payment_link_id = _replace_payment_link.stripe_payment_link_id and payment_links.active;
    select * into strict v_gone from billing.payment_links
    where payment_links.stripe_payment_link_id = _replace_payment_link.stripe_payment_link_id;
    v_is_pack := v_gone.params ? 'customer_creation';
    return billing.claim_payment_link(
        case when not v_is_pack then _replace_payment_link.name end,
        case when v_is_pack then _replace_payment_link.name end,
        v_gone.options
    );
end
$$;

-- Stripe keeps the first answer to a key, also a failure: after one the next click needs another key, and looks first for
-- what may have been made under this one.
create function billing._discard_payment_link_key(idempotency_key text)
returns void
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    update billing.payment_links
    set idempotency_key = gen_random_uuid()::text, keyed_at = now(), may_exist = true,
        updated_at = now()
    where payment_links.idempotency_key = _discard_payment_link_key.idempotency_key
        and payment_links.stripe_payment_link_id is null
$$;

-- Stripe's answers to a step → the next step. The result is {"url"}.
create function billing.continue_payment_link(state jsonb, answers jsonb)
returns jsonb
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_answer jsonb := continue_payment_link.answers -> -1;
    v_error jsonb := v_answer -> 'error';
    v_link_id text := continue_payment_link.state ->> 'check';
    v_url text;
begin
    if v_link_id is not null and (v_error ->> 'status' = '404' or v_answer #>> '{body,active}' = 'false') then
        return billing._replace_payment_link(v_link_id, continue_payment_link.state ->> 'name');
    elsif v_error is not null then
        if billing._is_kept_by_stripe(v_error) then
            perform billing._discard_payment_link_key(v_answer ->> 'idempotency_key');
        end if;
        return billing._refused_by_stripe(v_error);
    elsif v_link_id is not null then
        v_url := billing._confirm_payment_link(v_link_id);
    else
        v_url := billing._note_payment_link(
            (continue_payment_link.state ->> 'token')::uuid, v_answer #>> '{body,id}', v_answer #>> '{body,url}'
        );
    end if;
    if v_url is null then
        return billing._refused_step(
            errcode => 'TB064', message => 'the plan was changed in the meantime', hint => 'Request the link again.'
        );
    end if;
    return jsonb_build_object('done', jsonb_build_object('url', v_url));
end
$$;

revoke all on function
    billing.claim_payment_link, billing.prepare_payment_links, billing._note_payment_link,
    billing._confirm_payment_link, billing._replace_payment_link, billing._discard_payment_link_key,
    billing.continue_payment_link
from public, anon, authenticated, service_role;
grant execute on function
    billing.prepare_payment_links(uuid, text, text, uuid), billing.continue_payment_link(jsonb, jsonb)
to billing_checkout;

comment on function billing.claim_payment_link(text, text, jsonb) is 'Returns the first step to the link of a plan or pack with these options.';
comment on function billing.prepare_payment_links(uuid, text, text, uuid) is 'Judges for which plans a user gets links; returns the first step of each, and the reference that names the account.';
comment on function billing.continue_payment_link(jsonb, jsonb) is 'Takes Stripe''s answers to a step of a link; returns the next step, or the URL.';

-- 65_payment_links/30_retire_payment_links.sql

-- Payment Links that must not sell any more: their price was archived, changed or lost its name, Stripe says that they are
-- inactive, or somebody said so. Noted here in the transaction of what happened; the worker then tells Stripe.
--
-- Invariant: the deactivation is sent to Stripe until Stripe has answered; sending it twice is harmless.
--
-- Called by billing_worker; retire_payment_links by the owner of the database only (`till links deactivate`).

-- Links that are handed out no more. One that Stripe has not answered yet is deactivated when it does (_note_payment_link).
create function billing._retire_links(ids uuid[], reason text)
returns void
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    update billing.payment_links
    set active = false, retired_at = now(), retired_reason = _retire_links.reason,
        deactivate_at = case when payment_links.stripe_payment_link_id is not null then now() end, updated_at = now()
    where payment_links.id = any (_retire_links.ids) and payment_links.active
$$;

create function billing._retire_links_of_price(stripe_price_id text)
returns void
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    select billing._retire_links(array_agg(payment_links.id), 'price') from billing.payment_links
    where payment_links.stripe_price_id = _retire_links_of_price.stripe_price_id and payment_links.active
$$;

-- Triggers, so that a plan changed by hand, by `till plans` or by an event all count.
create function billing.tg_prices__retire_links()
returns trigger
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform billing._retire_links_of_price(new.stripe_price_id);
    return null;
end
$$;

-- A lookup key that moved to another price is a new price for the same name.
create trigger tg_plans__retire_links
after update on billing.plans
for each row
when (
    old.active and not new.active or old.lookup_key <> coalesce(new.lookup_key, '')
    or (old.unit_amount, old.currency) is distinct from (new.unit_amount, new.currency)
)
execute function billing.tg_prices__retire_links();

create trigger tg_credit_packs__retire_links
after update on billing.credit_packs
for each row
when (
    old.active and not new.active or old.lookup_key <> coalesce(new.lookup_key, '')
    or (old.unit_amount, old.currency) is distinct from (new.unit_amount, new.currency)
)
execute function billing.tg_prices__retire_links();

create function billing.tg_products__retire_links()
returns trigger
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform billing._retire_links_of_price(price.stripe_price_id)
    from (
        select plans.stripe_price_id from billing.plans where plans.stripe_product_id = new.stripe_product_id
        union all
        select credit_packs.stripe_price_id from billing.credit_packs
        where credit_packs.stripe_product_id = new.stripe_product_id
    ) as price;
    return null;
end
$$;

create trigger tg_products__retire_links
after update on billing.products
for each row when (old.active and not new.active)
execute function billing.tg_products__retire_links();

-- Inactive is a link's final state, so the order of its events does not matter. token: the row for which it was created,
-- if Stripe's answer to us was lost; writing it needs our API key.
create function billing.sync_payment_link(
    stripe_payment_link_id text, livemode boolean, active boolean, url text, token uuid
)
returns text
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    if exists (
        select from billing.payment_links
        where payment_links.id = sync_payment_link.token and payment_links.livemode = sync_payment_link.livemode
    ) then
        perform billing._note_payment_link(
            sync_payment_link.token, sync_payment_link.stripe_payment_link_id, sync_payment_link.url
        );
    end if;
    if not sync_payment_link.active then
        update billing.payment_links
        set active = false, retired_at = coalesce(payment_links.retired_at, now()),
            retired_reason = coalesce(payment_links.retired_reason, 'stripe'), deactivate_at = null,
            deactivated_at = coalesce(payment_links.deactivated_at, now()), updated_at = now()
        where payment_links.stripe_payment_link_id = sync_payment_link.stripe_payment_link_id
            and payment_links.deactivated_at is null;
    end if;
    return 'applied';
end
$$;

-- A link that is to be deactivated is a job, whatever made it so.
create function billing.tg_payment_links__enqueue()
returns trigger
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform billing._enqueue_jobs('payment_link', array[new.id::text]);
    return null;
end
$$;

create trigger tg_payment_links__made_retired
after insert on billing.payment_links
for each row when (new.deactivate_at is not null)
execute function billing.tg_payment_links__enqueue();

create trigger tg_payment_links__retired
after update of deactivate_at on billing.payment_links
for each row when (old.deactivate_at is null and new.deactivate_at is not null)
execute function billing.tg_payment_links__enqueue();

-- Which of these jobs' links are still to be deactivated.
create function billing.begin_retired_links(msg_ids bigint[], ids text[])
returns table (msg_id bigint, id uuid, stripe_payment_link_id text)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select job.msg_id, payment_links.id, payment_links.stripe_payment_link_id
    from unnest(begin_retired_links.msg_ids, begin_retired_links.ids) as job (msg_id, id)
    join billing.payment_links on payment_links.id = job.id::uuid
    where payment_links.deactivate_at is not null
    order by job.msg_id;
end
$$;

-- retry_in_seconds is null when the link is inactive in Stripe, or gone. msg_id is null where no job asked for it.
create function billing.record_retired_link(
    msg_id bigint, link_id uuid, retry_in_seconds integer, reason text
)
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '500ms'
as $$
begin
    if billing._end_job(
        record_retired_link.msg_id, record_retired_link.retry_in_seconds, record_retired_link.reason
    ) or record_retired_link.retry_in_seconds is null then
        update billing.payment_links
        set deactivate_at = case when record_retired_link.retry_in_seconds is not null
                then payment_links.deactivate_at end,
            deactivated_at = case when record_retired_link.retry_in_seconds is null then now() end,
            last_error = record_retired_link.reason, updated_at = now()
        where payment_links.id = record_retired_link.link_id and payment_links.deactivated_at is null;
    end if;
end
$$;

-- Retires the active links of a Stripe id, a price or a lookup key. Returns those to deactivate in Stripe.
create function billing.retire_payment_links(name text)
returns setof billing.payment_links
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_ids uuid[] := array(
        select payment_links.id from billing.payment_links
        where payment_links.active and payment_links.livemode = billing.is_livemode()
            and (
                retire_payment_links.name in (payment_links.stripe_payment_link_id, payment_links.stripe_price_id)
                or payment_links.stripe_price_id in (
                    select plans.stripe_price_id from billing.plans where plans.lookup_key = retire_payment_links.name
                    union all
                    select credit_packs.stripe_price_id from billing.credit_packs
                    where credit_packs.lookup_key = retire_payment_links.name
                )
            )
        order by 1
    );
begin
    perform billing._retire_links(v_ids, 'caller');
    return query
    select * from billing.payment_links where payment_links.id = any (v_ids) order by payment_links.created_at;
end
$$;

revoke all on function
    billing._retire_links, billing._retire_links_of_price, billing.tg_prices__retire_links,
    billing.tg_products__retire_links, billing.sync_payment_link, billing.tg_payment_links__enqueue,
    billing.begin_retired_links, billing.record_retired_link, billing.retire_payment_links
from public, anon, authenticated, service_role;
grant execute on function
    billing.sync_payment_link(text, boolean, boolean, text, uuid),
    billing.begin_retired_links(bigint[], text[]),
    billing.record_retired_link(bigint, uuid, integer, text)
to billing_worker;

comment on function billing.sync_payment_link(text, boolean, boolean, text, uuid) is 'Stores the state of a Payment Link in Stripe; links that we did not create are ignored.';
comment on function billing.begin_retired_links(bigint[], text[]) is 'Payment Links to deactivate in Stripe, of the jobs that the caller took.';
comment on function billing.record_retired_link(bigint, uuid, integer, text) is 'A retired link is inactive in Stripe, or is to be tried again later.';
comment on function billing.retire_payment_links(text) is 'Retires the links of a plan or pack, or one by its id; the worker deactivates them in Stripe.';

-- 70_recharge/10_recharges.sql

-- Auto-recharge: a credit pack bought with the customer's saved card when what is available falls below a threshold.
--
-- recharge_settings   what an account has agreed to: below which balance, which pack, how much in a month
-- recharges           each time it came to that: claimed in the database, charged by the worker, paid or failed
--
-- Invariant: an account has at most one recharge that is under way, and each of them is at most one payment: its id is the
-- idempotency key that Stripe is asked with. A recharge that failed pauses the settings, so nothing is tried a second time
-- until somebody says so. A balance is watched by its own row (recharge_below: the threshold while armed, else null), so
-- that a spend of an account without auto-recharge, or with one under way, costs nothing.
--
-- Clients read their own, where a payment is authenticated too; only functions write.

create table billing.recharge_settings (
    account_id uuid primary key references billing.accounts (id),
    threshold bigint not null,
    stripe_price_id text not null references billing.credit_packs (stripe_price_id),
    monthly_cap_amount bigint,
    monthly_cap_count integer,
    return_url text,
    is_paused boolean not null default false,
    paused_reason text,
    paused_at timestamptz,
    check_again_at timestamptz,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint threshold_is_positive check (threshold > 0),
    constraint monthly_cap_amount_is_positive check (monthly_cap_amount > 0),
    constraint monthly_cap_count_is_positive check (monthly_cap_count > 0),
    constraint paused_settings_say_why_and_when
    check (is_paused = (paused_reason is not null) and is_paused = (paused_at is not null))
);

create index recharge_settings_price on billing.recharge_settings (stripe_price_id);
create index recharge_settings_paused on billing.recharge_settings (paused_at) where is_paused;
create index recharge_settings_check_again on billing.recharge_settings (check_again_at) where check_again_at is not null;

create table billing.recharges (
    id uuid primary key default gen_random_uuid(),
    account_id uuid not null references billing.accounts (id),
    status text not null default 'claimed',
    stripe_customer_id text not null,
    stripe_price_id text not null,
    credits billing.positive_credits not null,
    amount bigint not null,
    currency text not null,
    return_url text,
    idempotency_key text not null generated always as (id::text) stored,
    stripe_payment_intent_id text,
    stripe_payment_method_id text,
    reason text,
    is_final boolean not null default false,
    action_url text,
    attempts integer not null default 0,
    last_error text,
    first_attempt_at timestamptz,
    claimed_at timestamptz not null,
    settled_at timestamptz,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint status_is_known check (status in ('claimed', 'charging', 'paid', 'failed', 'requires_action')),
    constraint amount_is_positive check (amount > 0),
    constraint paid_recharges_name_their_payment check (status <> 'paid' or stripe_payment_intent_id is not null),
    constraint failed_recharges_say_why check (status not in ('failed', 'requires_action') or reason is not null),
    constraint settled_recharges_say_when check ((status in ('paid', 'failed')) = (settled_at is not null))
);

create unique index recharges_under_way on billing.recharges (account_id)
where status in ('claimed', 'charging', 'requires_action');
create unique index recharges_payment_intent on billing.recharges (stripe_payment_intent_id)
where stripe_payment_intent_id is not null;
create unique index recharges_key on billing.recharges (idempotency_key);
create index recharges_account on billing.recharges (account_id, claimed_at);

alter table billing.recharge_settings enable row level security;
alter table billing.recharges enable row level security;

revoke all on billing.recharge_settings, billing.recharges from public, anon, authenticated, service_role;

create policy recharge_settings_select_managed on billing.recharge_settings
for select to authenticated using (account_id = any (array(select billing.my_managed_account_ids())));

create policy recharges_select_managed on billing.recharges
for select to authenticated using (account_id = any (array(select billing.my_managed_account_ids())));

grant select on billing.recharge_settings, billing.recharges to service_role;
grant select on billing.recharge_settings to authenticated;
grant select (
    id, account_id, status, stripe_price_id, credits, amount, currency, reason, action_url, claimed_at, settled_at
) on billing.recharges to authenticated;

comment on table billing.recharge_settings is 'What accounts have agreed to be charged by themselves.';
comment on column billing.recharge_settings.threshold is 'Credits: a pack is bought when fewer are available.';
comment on column billing.recharge_settings.monthly_cap_amount is 'At most so much in a calendar month (UTC), in minor units of the pack''s currency; null: no cap.';
comment on column billing.recharge_settings.monthly_cap_count is 'At most so many recharges in a calendar month (UTC); null: no cap.';
comment on column billing.recharge_settings.return_url is 'Where the customer comes back to from the bank''s page, when a payment must be authenticated; settings.site_url if null.';
comment on column billing.recharge_settings.paused_reason is 'paused: by the app. Else why the last recharge failed: a Stripe code, or no_customer, no_pack, no_payment_method, no_user, account_closed, no_answer.';
comment on column billing.recharge_settings.check_again_at is 'When it is looked at again without any movement: the cap''s month is over, or the account may be frozen no more.';
comment on table billing.recharges is 'Packs bought by themselves, each at most one payment; amounts in minor units of currency.';
comment on column billing.recharges.idempotency_key is 'What Stripe is asked with, however often: the recharge''s id.';
comment on column billing.recharges.reason is 'Why it failed or must be authenticated: Stripe''s decline code or code.';
comment on column billing.recharges.is_final is 'The card was refused for good: the same payment method is never charged by itself again.';
comment on column billing.recharges.action_url is 'Where the customer authenticates the payment; it is the bank''s page.';
comment on column billing.recharges.attempts is 'How often Stripe was asked for it.';

-- 70_recharge/20_claim_recharges.sql

-- Claiming a recharge when a balance falls below the threshold.
--
-- Invariant: a claim is made in the transaction of the movement, once for each fall: it disarms the balance, and only the
-- end of the recharge arms it again. A claim never fails a movement. Caps count what was not refused, by calendar month
-- (UTC).
--
-- Private. Locks: the account's balance before anything else of it.

create function billing._pause_recharge(account_id uuid, reason text)
returns void
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    update billing.recharge_settings
    set is_paused = true, paused_reason = _pause_recharge.reason, paused_at = billing.current_time(),
        check_again_at = null, updated_at = now()
    where recharge_settings.account_id = _pause_recharge.account_id and not recharge_settings.is_paused
$$;

-- Lets the balance be watched, unless the settings are paused or a recharge is under way. A balance that is below the
-- threshold already is one that falls. The caller holds the balance's lock.
create function billing._arm_recharge(account_id uuid)
returns void
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    update billing.credit_balances
    set recharge_below = (
        select recharge_settings.threshold from billing.recharge_settings
        where recharge_settings.account_id = _arm_recharge.account_id and not recharge_settings.is_paused
            and not exists (
                select from billing.recharges
                where recharges.account_id = _arm_recharge.account_id
                    and recharges.status in ('claimed', 'charging', 'requires_action')
            )
    )
    where credit_balances.account_id = _arm_recharge.account_id
$$;

-- What becomes of a fall below the threshold: a recharge, a pause, or another look later. The caller holds the balance's
-- lock.
create function billing._claim_recharge(account_id uuid)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_now timestamptz := billing.current_time();
    v_month timestamptz := date_trunc('month', v_now, 'UTC');
    v_settings billing.recharge_settings;
    v_account billing.accounts;
    v_pack billing.credit_packs;
    v_customer_id text;
    v_obstacle text;
    v_count bigint;
    v_amount numeric;
    v_recharge_id uuid;
begin
    select * into v_settings from billing.recharge_settings
    where recharge_settings.account_id = _claim_recharge.account_id and not recharge_settings.is_paused
    for update;
    if not found then
        return;
    end if;
    select * into strict v_account from billing.accounts where accounts.id = v_settings.account_id;
    select * into v_pack from billing.credit_packs where credit_packs.stripe_price_id = v_settings.stripe_price_id;
    v_customer_id := billing._customer_of(v_settings.account_id, billing.is_livemode());

    v_obstacle := case
        when v_account.closed_at is not null then 'account_closed'
        -- Nobody is left who agreed to be charged.
        when not billing._has_user(v_account.id) then 'no_user'
        when v_customer_id is null then 'no_customer'
        when not v_pack.active or coalesce(v_pack.unit_amount, 0) <= 0 or not exists (
            select from billing.products where products.stripe_product_id = v_pack.stripe_product_id and products.active
        ) then 'no_pack'
    end;
    if v_obstacle is not null then
        perform billing._pause_recharge(v_account.id, v_obstacle);
        insert into billing.notifications (account_id, audience, kind, dedupe_key, payload)
        values (
            v_account.id, 'administrators', 'recharge_paused',
            format('recharge_paused:%s:%s', v_account.id, pg_current_xact_id()),
            jsonb_build_object('reason', v_obstacle, 'stripe_price_id', v_settings.stripe_price_id)
        )
        on conflict (dedupe_key) do nothing;
        return;
    elsif v_account.frozen_at is not null then
        update billing.recharge_settings set check_again_at = v_now + interval '1 hour', updated_at = now()
        where recharge_settings.account_id = v_account.id;
        return;
    end if;

    select count(*), coalesce(sum(recharges.amount), 0) into v_count, v_amount from billing.recharges
    where recharges.account_id = v_account.id and recharges.status <> 'failed' and recharges.claimed_at >= v_month;
    if v_count >= v_settings.monthly_cap_count or v_amount + v_pack.unit_amount > v_settings.monthly_cap_amount then
        update billing.recharge_settings
        set check_again_at = ((v_month at time zone 'UTC') + interval '1 month') at time zone 'UTC', updated_at = now()
        where recharge_settings.account_id = v_account.id;
        insert into billing.notifications (account_id, audience, kind, dedupe_key, payload)
        values (
            v_account.id, 'customer', 'recharge_capped',
            format('recharge_capped:%s:%s', v_account.id, to_char(v_month at time zone 'UTC', 'YYYY-MM')),
            jsonb_build_object('count', v_count, 'amount', v_amount, 'currency', v_pack.currency)
        )
        on conflict (dedupe_key) do nothing;
        return;
    end if;
    insert into billing.recharges (
        account_id, stripe_customer_id, stripe_price_id, credits, amount, currency, return_url, claimed_at
    )
    values (
        v_account.id, v_customer_id, v_pack.stripe_price_id, v_pack.pack_credits, v_pack.unit_amount, v_pack.currency,
        coalesce(v_settings.return_url, (select settings.site_url from billing.settings)), v_now
    )
    returning recharges.id into v_recharge_id;
    perform billing._enqueue_jobs('recharge', array[v_recharge_id::text]);
end
$$;

-- At the end of the transaction, so that what falls and rises within one is no fall.
create function billing.tg_credit_balances__recharge()
returns trigger
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    update billing.credit_balances set recharge_below = null
    where credit_balances.account_id = new.account_id
        and credit_balances.balance - credit_balances.held < credit_balances.recharge_below;
    if found then
        perform billing._claim_recharge(new.account_id);
    end if;
    return null;
end
$$;

create constraint trigger tg_credit_balances__recharge
after update on billing.credit_balances
deferrable initially deferred
for each row
-- Parsed for every update, so as short as can be: null, which no threshold makes it, is no.
when (new.balance - new.held < new.recharge_below)
execute function billing.tg_credit_balances__recharge();

revoke all on function
    billing._pause_recharge, billing._arm_recharge, billing._claim_recharge, billing.tg_credit_balances__recharge
from public, anon, authenticated, service_role;

-- 70_recharge/30_set_recharge.sql

-- Agreeing to auto-recharge, changing it, pausing it and ending a pause; and its twin over the Data API.
--
-- Invariant: what is agreed to can be bought: an active pack with a price, and a customer to charge. Pausing is always
-- possible. Callable by service_role: the app's own server says what its customer has agreed to.

create function billing.set_recharge(
    account_id uuid,
    threshold numeric,
    stripe_price_id text,
    monthly_cap_amount numeric default null,
    monthly_cap_count integer default 10,
    is_paused boolean default false,
    return_url text default null
)
returns billing.recharge_settings
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_settings billing.recharge_settings;
begin
    perform billing._lock_balance(set_recharge.account_id);
    perform billing._check_open(set_recharge.account_id);
    if not coalesce(set_recharge.threshold between 1 and 1000000000000000, false)
        or set_recharge.threshold <> trunc(set_recharge.threshold) then
        raise exception 'threshold is %, not a whole number of credits from 1 to 1000000000000000',
            coalesce(set_recharge.threshold::text, 'null')
            using errcode = 'TB005', hint = 'Pass credits as a whole number. To stop recharges, pass is_paused => true.';
    elsif set_recharge.monthly_cap_amount not between 1 and 1000000000000000
        or set_recharge.monthly_cap_amount <> trunc(set_recharge.monthly_cap_amount)
        or set_recharge.monthly_cap_count < 1 then
        raise exception 'a monthly cap must be a whole number of at least 1'
            using errcode = 'TB052',
            hint = 'monthly_cap_amount is in minor units of the pack''s currency, monthly_cap_count a number of recharges; null is no cap.';
    elsif set_recharge.return_url !~ '^https?://[^[:space:]]+$' then
        raise exception 'return_url is not a valid URL'
            using errcode = 'TB053', hint = 'Pass an https address of your app, or leave it out.';
    elsif not coalesce(set_recharge.is_paused, false) and exists (
        select from billing.credit_packs
        where credit_packs.stripe_price_id = set_recharge.stripe_price_id and credit_packs.credits_per_unit is not null
    ) then
        raise exception 'the customer chooses the amount of price %: auto-recharge needs a pack with a fixed amount',
            set_recharge.stripe_price_id
            using errcode = 'TB050', hint = 'Use the stripe_price_id of a credit pack that has a unit_amount.';
    elsif not exists (
        select from billing.credit_packs
        join billing.products on products.stripe_product_id = credit_packs.stripe_product_id
        where credit_packs.stripe_price_id = set_recharge.stripe_price_id and (
            set_recharge.is_paused
            or credit_packs.active and products.active and credit_packs.unit_amount > 0
            and credit_packs.livemode = billing.is_livemode()
        )
    ) then
        raise exception 'price % is not a credit pack on sale', coalesce(set_recharge.stripe_price_id, 'null')
            using errcode = 'TB050', hint = 'Use the stripe_price_id of an active row of billing.credit_packs with a fixed price.';
    elsif not coalesce(set_recharge.is_paused, false)
        and billing._customer_of(set_recharge.account_id, billing.is_livemode()) is null then
        raise exception 'account % has no Stripe customer', set_recharge.account_id
            using errcode = 'TB051', hint = 'Link a customer with billing.link_customer(account_id, stripe_customer_id), and save a card for it.';
    end if;

    insert into billing.recharge_settings as held (
        account_id, threshold, stripe_price_id, monthly_cap_amount, monthly_cap_count, return_url, is_paused,
        paused_reason, paused_at
    )
    values (
        set_recharge.account_id, set_recharge.threshold::bigint, set_recharge.stripe_price_id,
        set_recharge.monthly_cap_amount::bigint, set_recharge.monthly_cap_count, set_recharge.return_url,
        coalesce(set_recharge.is_paused, false), case when set_recharge.is_paused then 'paused' end,
        case when set_recharge.is_paused then billing.current_time() end
    )
    on conflict on constraint recharge_settings_pkey do update
    set threshold = excluded.threshold, stripe_price_id = excluded.stripe_price_id,
        monthly_cap_amount = excluded.monthly_cap_amount, monthly_cap_count = excluded.monthly_cap_count,
        return_url = excluded.return_url, is_paused = excluded.is_paused, paused_reason = excluded.paused_reason,
        paused_at = excluded.paused_at, check_again_at = null, updated_at = now()
    returning * into v_settings;
    -- Enabling it again fails recharges that wait for an authentication. If one is paid later, it is still granted.
    if not v_settings.is_paused then
        update billing.recharges
        set status = 'failed', settled_at = billing.current_time(), updated_at = now()
        where recharges.account_id = v_settings.account_id and recharges.status = 'requires_action';
    end if;
    perform billing._arm_recharge(v_settings.account_id);
    return v_settings;
end
$$;

create function public.set_recharge(
    account_id uuid,
    threshold numeric,
    stripe_price_id text,
    monthly_cap_amount numeric default null,
    monthly_cap_count integer default 10,
    is_paused boolean default false,
    return_url text default null
)
returns billing.recharge_settings
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    select billing.set_recharge(
        set_recharge.account_id, set_recharge.threshold, set_recharge.stripe_price_id, set_recharge.monthly_cap_amount,
        set_recharge.monthly_cap_count, set_recharge.is_paused, set_recharge.return_url
    )
$$;

revoke all on function
    billing.set_recharge(uuid, numeric, text, numeric, integer, boolean, text),
    public.set_recharge(uuid, numeric, text, numeric, integer, boolean, text)
from public, anon, authenticated, service_role;
grant execute on function
    billing.set_recharge(uuid, numeric, text, numeric, integer, boolean, text),
    public.set_recharge(uuid, numeric, text, numeric, integer, boolean, text)
to service_role;

comment on function billing.set_recharge(uuid, numeric, text, numeric, integer, boolean, text) is 'Agrees to buy a credit pack with the customer''s default payment method whenever fewer credits than threshold are available; what is left out is no cap by amount, ten recharges a month, not paused. Calling it again changes it, and ends a pause.';
comment on function public.set_recharge(uuid, numeric, text, numeric, integer, boolean, text) is 'Agrees to buy a credit pack with the customer''s default payment method whenever fewer credits than threshold are available.';

-- 70_recharge/40_take_recharges.sql

-- Beginning recharges that are due, and retrying later those of which Stripe gave no answer.
--
-- Invariant: a recharge that is claimed or charging is a job, in the hands of one worker at a time; a claim that has no point
-- any more is never charged. Called by billing_worker. begin_recharges holds recharges before balances, the other way round
-- than everybody else, and so never waits for a balance.

-- Why a claim that is not charged yet is no longer needed; null if it is.
create function billing._obstacle_to_recharge(account_id uuid)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select case
        when accounts.closed_at is not null then 'account_closed'
        when not billing._has_user(accounts.id) then 'no_user'
        when accounts.frozen_at is not null then 'account_frozen'
        when recharge_settings.is_paused then 'paused'
        when credit_balances.balance - credit_balances.held >= recharge_settings.threshold then 'not_needed'
    end
    from billing.recharge_settings
    join billing.accounts on accounts.id = recharge_settings.account_id
    join billing.credit_balances on credit_balances.account_id = recharge_settings.account_id
    where recharge_settings.account_id = _obstacle_to_recharge.account_id
$$;

-- Watches balances again whose cap's month is over, or that were frozen.
create function billing.check_recharges_again()
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_account_id uuid;
begin
    for v_account_id in
        select recharge_settings.account_id from billing.recharge_settings
        where recharge_settings.check_again_at <= billing.current_time()
        order by recharge_settings.check_again_at
        limit 100
    loop
        perform from billing.credit_balances where credit_balances.account_id = v_account_id for update skip locked;
        continue when not found;
        update billing.recharge_settings set check_again_at = null, updated_at = now()
        where recharge_settings.account_id = v_account_id;
        perform billing._arm_recharge(v_account_id);
    end loop;
end
$$;

-- Locks an account's balance, unless that takes longer than the movements of a busy account: then an app's transaction
-- holds the lock, and the account is skipped.
create function billing._lock_balance_soon(account_id uuid)
returns boolean
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set lock_timeout = '100ms'
as $$
begin
    perform billing._lock_balance(_lock_balance_soon.account_id);
    return true;
exception when lock_not_available then
    return false;
end
$$;

-- Which of these jobs' recharges are still to be charged. One whose account is held by an app's transaction is due again in a
-- second. was_asked: an earlier attempt asked Stripe for the payment. barred: payment methods of the customer that were
-- refused for good.
create function billing.begin_recharges(msg_ids bigint[], ids text[])
returns table (
    msg_id bigint, id uuid, stripe_customer_id text, stripe_price_id text, amount bigint, currency text, return_url text,
    stripe_payment_intent_id text, was_asked boolean, first_attempt_at timestamptz, age_seconds double precision,
    barred text[]
)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_job record;
    v_recharge billing.recharges;
    v_begun bigint[] := '{}';
    v_begun_ids uuid[] := '{}';
    v_was_asked boolean;
    v_obstacle text;
begin
    for v_job in
        select job.msg_id, recharges as recharge
        from unnest(begin_recharges.msg_ids, begin_recharges.ids) as job (msg_id, id)
        join billing.recharges on recharges.id = job.id::uuid
        where recharges.status in ('claimed', 'charging')
        order by job.msg_id
        for update of recharges skip locked
    loop
        v_recharge := v_job.recharge;
        -- A second message of one recharge waits for the first one's outcome.
        continue when v_recharge.id = any (v_begun_ids);
        v_was_asked := v_recharge.status = 'charging';
        v_obstacle := null;
        if not v_was_asked then
            -- Under the lock: an account that is frozen or closed at this moment must not be charged.
            continue when not billing._lock_balance_soon(v_recharge.account_id);
            v_obstacle := billing._obstacle_to_recharge(v_recharge.account_id);
        end if;
        if v_obstacle is not null then
            update billing.recharges
            set status = 'failed', reason = v_obstacle, settled_at = billing.current_time(), updated_at = now()
            where recharges.id = v_recharge.id;
            perform billing._arm_recharge(v_recharge.account_id);
            continue;
        end if;

        update billing.recharges
        set status = 'charging', attempts = v_recharge.attempts + 1,
            first_attempt_at = coalesce(v_recharge.first_attempt_at, now()), updated_at = now()
        where recharges.id = v_recharge.id
        returning * into v_recharge;
        v_begun := v_begun || v_job.msg_id;
        v_begun_ids := v_begun_ids || v_recharge.id;
        return query select
            v_job.msg_id, v_recharge.id, v_recharge.stripe_customer_id, v_recharge.stripe_price_id, v_recharge.amount,
            v_recharge.currency, v_recharge.return_url, v_recharge.stripe_payment_intent_id, v_was_asked,
            v_recharge.first_attempt_at,
            extract(epoch from now() - v_recharge.first_attempt_at)::double precision,
            array(
                select distinct refused.stripe_payment_method_id from billing.recharges as refused
                where refused.account_id = v_recharge.account_id and refused.is_final
                    and refused.stripe_payment_method_id is not null
            );
    end loop;

    perform billing.retry_job(job.msg_id, 1, 'the account, or another message of the recharge, is in use', excused => true)
    from unnest(begin_recharges.msg_ids, begin_recharges.ids) as job (msg_id, id)
    join billing.recharges on recharges.id = job.id::uuid
    where recharges.status in ('claimed', 'charging') and job.msg_id <> all (v_begun);
end
$$;

-- Nothing is known of the payment: it is asked for again, after a while.
create function billing.delay_recharge(msg_id bigint, recharge_id uuid, delay_seconds integer, reason text)
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '500ms'
as $$
begin
    if billing._end_job(delay_recharge.msg_id, delay_recharge.delay_seconds, delay_recharge.reason) then
        update billing.recharges set last_error = delay_recharge.reason, updated_at = now()
        where recharges.id = delay_recharge.recharge_id and recharges.status = 'charging';
    end if;
end
$$;

revoke all on function
    billing._obstacle_to_recharge, billing.check_recharges_again, billing._lock_balance_soon, billing.begin_recharges,
    billing.delay_recharge
from public, anon, authenticated, service_role;
grant execute on function
    billing.check_recharges_again(), billing.begin_recharges(bigint[], text[]),
    billing.delay_recharge(bigint, uuid, integer, text)
to billing_worker;

comment on function billing.check_recharges_again() is 'Watches balances again whose cap''s month is over, or whose account was frozen.';
comment on function billing.begin_recharges(bigint[], text[]) is 'Recharges to charge, of the jobs that the caller took: each is one payment, asked for with its id as the idempotency key.';
comment on function billing.delay_recharge(bigint, uuid, integer, text) is 'Retries later a recharge of which Stripe gave no answer.';

-- 70_recharge/50_settle_recharges.sql

-- What became of a recharge: paid, failed, waiting for the customer or for the bank.
--
-- Invariant: a recharge's pack is granted once (recharge:{payment intent}), by Stripe's answer or by its event, whichever
-- comes first; a payment that succeeded is granted whatever was held of the recharge before. What fails pauses the
-- settings and tells once.
--
-- Called by billing_worker. Locks: the account's balance before anything else of it.

-- The caller holds the locks of balance and recharge.
create function billing._pay_recharge(recharge billing.recharges, stripe_payment_intent_id text)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_recharge billing.recharges := _pay_recharge.recharge;
    v_pack billing.credit_packs;
    v_purchase billing.pack_purchases;
begin
    update billing.recharges
    set status = 'paid', stripe_payment_intent_id = _pay_recharge.stripe_payment_intent_id, reason = null,
        is_final = false, action_url = null, settled_at = billing.current_time(),
        updated_at = now()
    where recharges.id = v_recharge.id;
    select * into v_pack from billing.credit_packs where credit_packs.stripe_price_id = v_recharge.stripe_price_id;
    v_purchase.business_key := 'recharge:' || _pay_recharge.stripe_payment_intent_id;
    v_purchase.account_id := v_recharge.account_id;
    v_purchase.source := 'stripe.recharge';
    v_purchase.reference_id := v_recharge.id::text;
    v_purchase.description := billing._pack_name(v_pack);
    v_purchase.credits := v_recharge.credits;
    v_purchase.price := v_recharge.amount;
    v_purchase.stripe_price_id := v_recharge.stripe_price_id;
    v_purchase.stripe_payment_intent_id := _pay_recharge.stripe_payment_intent_id;
    v_purchase.purchased_at := coalesce(
        billing._charged_at(_pay_recharge.stripe_payment_intent_id), billing.current_time()
    );
    v_purchase.expires_at := v_purchase.purchased_at + v_pack.expires_after;
    perform billing._purchase(v_purchase);
    perform billing._apply_returns_of_payment(_pay_recharge.stripe_payment_intent_id, null);
    -- The customer has authenticated it: what this recharge had paused goes on.
    update billing.recharge_settings set is_paused = false, paused_reason = null, paused_at = null, updated_at = now()
    where recharge_settings.account_id = v_recharge.account_id and recharge_settings.is_paused
        and recharge_settings.paused_reason = v_recharge.reason;
    perform billing._arm_recharge(v_recharge.account_id);
end
$$;

-- Pauses the settings and tells once. The caller holds the locks of balance and recharge.
create function billing._stop_recharge(recharge billing.recharges, audience text)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_recharge billing.recharges := _stop_recharge.recharge;
    v_kind text := case v_recharge.status when 'requires_action' then 'recharge_requires_action' else 'recharge_failed' end;
begin
    update billing.recharges
    set status = v_recharge.status, reason = v_recharge.reason, is_final = v_recharge.is_final,
        stripe_payment_intent_id = v_recharge.stripe_payment_intent_id,
        stripe_payment_method_id = v_recharge.stripe_payment_method_id, action_url = v_recharge.action_url,
        settled_at = case when v_recharge.status = 'failed' then billing.current_time() end,
        updated_at = now()
    where recharges.id = v_recharge.id;
    perform billing._pause_recharge(v_recharge.account_id, v_recharge.reason);
    insert into billing.notifications (account_id, audience, kind, dedupe_key, payload)
    values (
        v_recharge.account_id, _stop_recharge.audience, v_kind, format('%s:%s', v_kind, v_recharge.id),
        jsonb_build_object(
            'recharge_id', v_recharge.id, 'reason', v_recharge.reason, 'amount', v_recharge.amount,
            'currency', v_recharge.currency, 'credits', v_recharge.credits, 'url', v_recharge.action_url,
            'stripe_payment_intent_id', v_recharge.stripe_payment_intent_id
        )
    )
    on conflict (dedupe_key) do nothing;
end
$$;

-- The recharge under its lock and its account's. TB054 when there is none.
create function billing._lock_recharge(recharge_id uuid)
returns billing.recharges
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_recharge billing.recharges;
begin
    select * into v_recharge from billing.recharges where recharges.id = _lock_recharge.recharge_id;
    if not found then
        raise exception 'there is no recharge %', coalesce(_lock_recharge.recharge_id::text, 'null')
            using errcode = 'TB054', hint = 'Pass the id of a row of billing.recharges.';
    end if;
    perform billing._lock_balance(v_recharge.account_id);
    select * into strict v_recharge from billing.recharges where recharges.id = _lock_recharge.recharge_id for update;
    return v_recharge;
end
$$;

-- The worker's queue must not wait for an app that holds the account in a transaction of its own: then 55P03, and it is
-- settled later.
--
-- What Stripe answered. status: paid, failed, requires_action, or charging while the bank takes its time. Returns the
-- status that the recharge has then.
create function billing.record_recharge(
    msg_id bigint, recharge_id uuid, status text, stripe_payment_intent_id text, stripe_payment_method_id text, reason text,
    is_final boolean, action_url text, audience text
)
returns text
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '500ms'
as $$
declare
    v_recharge billing.recharges := billing._lock_recharge(record_recharge.recharge_id);
begin
    -- While the bank takes its time, an event ends it; should that be lost, Stripe is asked again.
    perform billing._end_job(
        record_recharge.msg_id,
        case when record_recharge.status = 'charging' and v_recharge.status = 'charging' then 6 * 3600 end,
        'the bank takes its time'
    );
    if record_recharge.status = 'paid' and v_recharge.status <> 'paid' then
        perform billing._pay_recharge(v_recharge, record_recharge.stripe_payment_intent_id);
        return 'paid';
    elsif v_recharge.status <> 'charging' then
        return v_recharge.status;  -- an event was faster, or another worker
    elsif record_recharge.status = 'charging' then
        update billing.recharges
        set stripe_payment_intent_id = record_recharge.stripe_payment_intent_id,
            stripe_payment_method_id = record_recharge.stripe_payment_method_id, updated_at = now()
        where recharges.id = v_recharge.id;
        return 'charging';
    end if;
    v_recharge.status := record_recharge.status;
    v_recharge.reason := record_recharge.reason;
    v_recharge.is_final := record_recharge.is_final;
    v_recharge.action_url := record_recharge.action_url;
    v_recharge.stripe_payment_intent_id :=
        coalesce(record_recharge.stripe_payment_intent_id, v_recharge.stripe_payment_intent_id);
    v_recharge.stripe_payment_method_id := record_recharge.stripe_payment_method_id;
    perform billing._stop_recharge(v_recharge, record_recharge.audience);
    return v_recharge.status;
end
$$;

revoke all on function
    billing._pay_recharge, billing._stop_recharge, billing._lock_recharge, billing.record_recharge
from public, anon, authenticated, service_role;
grant execute on function billing.record_recharge(bigint, uuid, text, text, text, text, boolean, text, text) to billing_worker;

comment on function billing.record_recharge(bigint, uuid, text, text, text, text, boolean, text, text) is 'What became of a recharge at Stripe: paid (grants the pack once), failed or requires_action (pauses and tells once), charging (the bank takes its time). Returns its status.';

-- 70_recharge/60_recharge_payments.sql

-- Payment intents from Stripe → the recharges that they pay for, and sessions that are paid after they were completed.
--
-- Invariant: an intent of a recharge grants its pack once (recharge:{payment intent}), however many events report it and
-- whatever answer the worker got. An intent is a recharge's by its id, or by the recharge's id in its metadata, and then
-- only if customer, amount and currency are the recharge's: what metadata says is looked up, never believed. Any other
-- intent is no concern of this function. Called by billing_worker.

create function billing.sync_payment_intent(
    stripe_payment_intent_id text, stripe_customer_id text, stripe_charge_id text, stripe_payment_method_id text,
    livemode boolean, status text, currency text, amount bigint, amount_received bigint, failure_code text,
    metadata jsonb, created_at timestamptz, as_of timestamptz
)
returns text
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_recharge billing.recharges;
    v_is_known boolean;
begin
    select * into v_recharge from billing.recharges
    where recharges.stripe_payment_intent_id = sync_payment_intent.stripe_payment_intent_id;
    if not found then
        -- Stripe's event may be faster than its answer, or the answer lost. What the metadata names must fit.
        select * into v_recharge from billing.recharges
        where recharges.idempotency_key = sync_payment_intent.metadata ->> 'recharge_id';
    end if;
    if v_recharge.id is null then
        perform billing._pay_session(sync_payment_intent.stripe_payment_intent_id, sync_payment_intent.amount_received)
        where sync_payment_intent.status = 'succeeded' and sync_payment_intent.amount_received > 0;
        return 'applied';
    end if;
    v_recharge := billing._lock_recharge(v_recharge.id);
    v_is_known := coalesce(v_recharge.stripe_payment_intent_id = sync_payment_intent.stripe_payment_intent_id, false);
    if (v_recharge.stripe_customer_id, v_recharge.amount, v_recharge.currency) is distinct from
        (sync_payment_intent.stripe_customer_id, sync_payment_intent.amount, sync_payment_intent.currency)
        or v_recharge.stripe_payment_intent_id is not null and not v_is_known
        or v_recharge.status = 'paid'
    then
        return 'applied';
    end if;

    if sync_payment_intent.status = 'succeeded' then
        if sync_payment_intent.amount_received >= v_recharge.amount then
            perform billing._pay_recharge(v_recharge, sync_payment_intent.stripe_payment_intent_id);
        end if;
    -- The worker's own request reports an immediate decline, and writes the intent's id with it.
    elsif v_is_known and (
        sync_payment_intent.status = 'canceled' and v_recharge.status in ('charging', 'requires_action')
        or sync_payment_intent.status = 'requires_payment_method' and v_recharge.status = 'charging'
    ) then
        v_recharge.status := 'failed';
        v_recharge.reason := coalesce(sync_payment_intent.failure_code, sync_payment_intent.status);
        v_recharge.action_url := null;
        perform billing._stop_recharge(v_recharge, 'customer');
    end if;
    return 'applied';
end
$$;

revoke all on function billing.sync_payment_intent from public, anon, authenticated, service_role;
grant execute on function billing.sync_payment_intent(
    text, text, text, text, boolean, text, text, bigint, bigint, text, jsonb, timestamptz, timestamptz
) to billing_worker;

comment on function billing.sync_payment_intent(text, text, text, text, boolean, text, text, bigint, bigint, text, jsonb, timestamptz, timestamptz) is 'A Stripe payment intent: where it is a recharge''s, what became of that. Always applied.';

-- 80_notifications/10_take_notifications.sql

-- Jobs of notifications → messages: single ones, or a digest where there are many alike.
--
-- Invariant: of one kind, for one reader (the administrators, or a customer), at most notification_rate messages are sent in
-- a notification_window; what goes beyond waits until the window is over, and is one digest then. Workers decide about one
-- kind and reader one after the other.
--
-- Called by billing_worker.

-- Ends what customers are not to receive: the kind is not opted in to, or the time for it has passed. ids null: all of them.
create function billing._skip_notifications(ids bigint[])
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_ids text[];
begin
    with judged as (
        select
            notifications.id,
            case when is_wanted then 'dead' else 'skipped' end as status,
            case when is_wanted then 'not sent in time: is TILLBASE_CUSTOMER_MAIL_URL set, and the worker running?'
                else 'settings.customer_notifications does not name this kind' end as reason
        from billing.notifications
        cross join billing.settings
        cross join lateral (select notifications.kind = any (settings.customer_notifications) as is_wanted) as opted
        where notifications.audience = 'customer' and notifications.status = 'queued'
            and (_skip_notifications.ids is null or notifications.id = any (_skip_notifications.ids))
            and (
                not is_wanted
                or notifications.first_attempt_at is null
                and notifications.queued_at < now() - settings.notification_deadline
            )
        order by notifications.queued_at
        limit 10000
        for update of notifications skip locked
    ),
    skipped as (
        update billing.notifications
        set status = judged.status, last_error = judged.reason
        from judged
        where notifications.id = judged.id
        returning notifications.id
    )
    select array_agg(skipped.id::text) into v_ids from skipped;
    if v_ids is not null then
        perform billing._drop_jobs('customer_notification', v_ids);
    end if;
end
$$;

-- Also where no worker can reach customers.
create function billing.skip_notifications()
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform billing._skip_notifications(null);
end
$$;

-- Makes one digest of what is alike, or lets it wait, where there is more than may go out singly. `first` is the one of them
-- that is reported first.
create function billing._digest_notifications(first billing.notifications)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_first billing.notifications := _digest_notifications.first;
    v_job billing.job_kind := v_first.audience || '_notification';
    v_rate integer;
    v_window interval;
    v_sent bigint;
    v_free_at timestamptz;
    v_ids bigint[];
begin
    select settings.notification_rate, settings.notification_window into v_rate, v_window from billing.settings;
    select count(*), min(notifications.first_attempt_at) + v_window into v_sent, v_free_at
    from billing.notifications
    where notifications.kind = v_first.kind and notifications.reader = v_first.reader
        and notifications.first_attempt_at > now() - v_window;
    select array_agg(notifications.id order by notifications.id) into v_ids from billing.notifications
    where notifications.kind = v_first.kind and notifications.reader = v_first.reader
        and notifications.status = 'queued' and notifications.attempts = 0 and notifications.digest_id is null;

    if v_sent + cardinality(v_ids) <= v_rate then
        return;
    elsif v_sent >= v_rate then
        perform billing._postpone_jobs(v_job, v_ids::text[], v_free_at);
    elsif cardinality(v_ids) > 1 then
        update billing.notifications
        set digest_id = v_first.id,
            digest_size = case when notifications.id = v_first.id then cardinality(v_ids) end,
            status = case when notifications.id = v_first.id then 'queued' else 'digested' end
        where notifications.id = any (v_ids) and notifications.status = 'queued';
        perform billing._drop_jobs(v_job, array_remove(v_ids, v_first.id)::text[]);
    end if;
end
$$;

-- Which of these jobs' notifications are to be sent now. email: where the owner of the account reads mail now. first:
-- payloads of the first few that a digest stands for.
create function billing.begin_notifications(msg_ids bigint[], ids text[])
returns table (
    msg_id bigint, id bigint, audience text, kind text, account_id uuid, payload jsonb, attempts integer,
    delivered_to text[], digest_size integer, first jsonb, email text, created_at timestamptz
)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_ids bigint[] := begin_notifications.ids::bigint[];
    v_reader record;
    v_first billing.notifications;
begin
    perform billing._skip_notifications(v_ids);
    for v_reader in
        select distinct notifications.kind, notifications.reader from billing.notifications
        where notifications.id = any (v_ids) and notifications.status = 'queued' and notifications.attempts = 0
            and notifications.digest_id is null
        order by notifications.kind, notifications.reader
    loop
        -- Another worker that has such notifications in hand decides first; what it decided is seen after the lock.
        perform pg_advisory_xact_lock(
            hashtextextended(format('billing.notifications:%s:%s', v_reader.kind, v_reader.reader), 0)
        );
        select * into v_first from billing.notifications
        where notifications.id = any (v_ids) and notifications.kind = v_reader.kind
            and notifications.reader = v_reader.reader and notifications.status = 'queued'
            and notifications.attempts = 0 and notifications.digest_id is null
        order by notifications.id
        limit 1
        -- Locked: skip_notifications passes it over, and does not end what others are about to become part of.
        for update;
        if found then
            perform billing._digest_notifications(v_first);
        end if;
    end loop;

    return query
    with begun as (
        update billing.notifications
        set status = 'sending', attempts = notifications.attempts + 1,
            first_attempt_at = coalesce(notifications.first_attempt_at, now())
        from unnest(begin_notifications.msg_ids, v_ids) as job (msg_id, id)
        -- Neither what waits nor what became part of a digest is in hand any more.
        join pgmq.q_billing_jobs as message
            on message.msg_id = job.msg_id and message.headers ->> 'worker_pid' = pg_backend_pid()::text
        where notifications.id = job.id and notifications.status in ('queued', 'sending')
        returning job.msg_id, notifications.*
    )
    select
        begun.msg_id, begun.id, begun.audience, begun.kind::text, begun.account_id, begun.payload, begun.attempts,
        begun.delivered_to, begun.digest_size,
        (
            select jsonb_agg(members.payload order by members.id) from (
                select told.id, told.payload from billing.notifications as told
                where told.digest_id = begun.id
                order by told.id
                limit 5
            ) as members
        ),
        case begun.audience when 'customer' then users.email::text end, begun.created_at
    from begun
    left join billing.accounts on accounts.id = begun.account_id
    left join auth.users on users.id = accounts.owner_id
    order by begun.id;
end
$$;

revoke all on function
    billing._skip_notifications, billing.skip_notifications, billing._digest_notifications, billing.begin_notifications
from public, anon, authenticated, service_role;
grant execute on function
    billing.skip_notifications(), billing.begin_notifications(bigint[], text[])
to billing_worker;

comment on function billing.skip_notifications() is 'Ends notifications that customers are not to receive: of a kind that is not enabled, or not sent within settings.notification_deadline.';
comment on function billing.begin_notifications(bigint[], text[]) is 'Messages to send now, of the jobs that the caller took.';

-- 80_notifications/20_settle_notifications.sql

-- What became of a message, a second chance for one that is dead, and the end of what was delivered long ago.
--
-- Invariant: what was delivered stays so. A failure is believed to the worker that has the message in hand, no longer to
-- one whose lease is over. A digest's rows share the fate of the one that has its message.

-- status: delivered, queued (again in retry_in_seconds; dead once the deadline has passed), skipped or dead. attempts: as
-- it was begun. delivered_to: the channels that took it in this attempt. Returns the status that it has then.
create function billing.record_notification(
    msg_id bigint, notification_id bigint, attempts integer, delivered_to text[], status text, retry_in_seconds integer,
    reason text
)
returns text
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '500ms'
as $$
declare
    v_status text;
begin
    update billing.notifications
    set status = judged.status,
        delivered_to = array(
            select distinct channel from unnest(notifications.delivered_to || record_notification.delivered_to) as channel
            order by channel
        ),
        last_error = case
            when judged.status = record_notification.status then record_notification.reason
            else format('%s (given up after %s attempts)', record_notification.reason, notifications.attempts)
        end,
        delivered_at = case when judged.status = 'delivered' then now() end
    from (
        select told.id, case
            when record_notification.status = 'queued' and told.first_attempt_at < now() - settings.notification_deadline
            then 'dead'
            else record_notification.status
        end as status
        from billing.notifications as told cross join billing.settings
        where told.id = record_notification.notification_id
    ) as judged
    where notifications.id = judged.id and notifications.status in ('sending', 'queued')
        and (
            judged.status = 'delivered'
            or notifications.status = 'sending' and notifications.attempts = record_notification.attempts
        )
    returning notifications.status into v_status;
    if found then
        perform billing._end_job(
            record_notification.msg_id, case when v_status = 'queued' then record_notification.retry_in_seconds end,
            record_notification.reason
        );
    end if;
    return v_status;
end
$$;

create function billing.retry_notification(notification_id bigint)
returns text
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_status text;
begin
    update billing.notifications
    set status = 'queued', attempts = 0, first_attempt_at = null, queued_at = now()
    where notifications.id = retry_notification.notification_id and notifications.status in ('dead', 'skipped');
    if found then
        perform billing._enqueue_jobs(notifications.audience || '_notification', array[notifications.id::text])
        from billing.notifications where notifications.id = retry_notification.notification_id;
    end if;
    select notifications.status into v_status from billing.notifications
    where notifications.id = retry_notification.notification_id;
    if not found then
        raise exception 'there is no notification %', coalesce(retry_notification.notification_id::text, 'null')
            using errcode = 'TB065', hint = 'List them with `till notifications list`.';
    end if;
    return v_status;
end
$$;

-- The rows of a digest go with it.
create function billing.prune_notifications(rows_max integer)
returns bigint
language sql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
    with pruned as (
        delete from billing.notifications
        where notifications.id in (
            select over.id from billing.notifications as over
            where over.status in ('delivered', 'skipped')
                and over.created_at < now() - (select settings.notification_retention from billing.settings)
            order by over.created_at
            limit prune_notifications.rows_max
        )
        returning notifications.id
    )
    select count(*) from pruned
$$;

revoke all on function
    billing.record_notification, billing.retry_notification, billing.prune_notifications
from public, anon, authenticated, service_role;
grant execute on function
    billing.record_notification(bigint, bigint, integer, text[], text, integer, text), billing.prune_notifications(integer)
to billing_worker;
grant execute on function billing.retry_notification(bigint) to service_role;

comment on function billing.record_notification(bigint, bigint, integer, text[], text, integer, text) is 'What became of a message that was begun: delivered, queued again, skipped or dead. Returns its status, null where somebody else has it.';
comment on function billing.retry_notification(bigint) is 'Queues a notification that is dead or was skipped once more; any other is left alone. Returns the status.';
comment on function billing.prune_notifications(integer) is 'Deletes up to rows_max notifications that were delivered, or skipped, longer ago than settings.notification_retention.';

-- 80_notifications/30_notification_sources.sql

-- Notifications about payments and events, written with the fact: triggers on its row.
--
-- Invariant: a notification commits with the fact that it reports, or not at all; a repeated fact is one row. For events
-- that may be retried automatically (they wait for a plan or a customer), the clock notifies after they have waited.

-- Events whose money would have become credits.
create function billing._pays_for_credits(event_type text)
returns boolean
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
    select _pays_for_credits.event_type in (
        'invoice.paid', 'invoice.payment_succeeded', 'checkout.session.completed', 'checkout.session.async_payment_succeeded',
        'payment_intent.succeeded'
    )
$$;

create function billing._notify_of_event(event billing.stripe_events)
returns void
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    select billing._notify(
        (
            select customers.account_id from billing.customers
            where customers.stripe_customer_id = (_notify_of_event.event).waiting_for
        ),
        'administrators', kind,
        -- An event that was retried and parked again notifies again.
        format('%s:%s:%s', kind, (_notify_of_event.event).stripe_event_id, (_notify_of_event.event).attempts),
        jsonb_build_object(
            'stripe_event_id', (_notify_of_event.event).stripe_event_id, 'type', (_notify_of_event.event).type,
            'status', (_notify_of_event.event).status, 'reason', (_notify_of_event.event).last_error,
            'waiting_for', (_notify_of_event.event).waiting_for
        )
    )
    from (
        select case when billing._pays_for_credits((_notify_of_event.event).type) then 'credits_not_granted'
            else 'event_dead' end as kind
    ) as judged
$$;

create function billing.tg_stripe_events__notify()
returns trigger
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform billing._notify_of_event(new);
    return null;
end
$$;

create trigger tg_stripe_events__notify
after update of status on billing.stripe_events
for each row when (new.status = 'dead' and old.status <> 'dead' and new.waiting_for is null)
execute function billing.tg_stripe_events__notify();

-- A first invoice that could not be paid is no news: its payer is looking at the checkout.
create function billing.tg_invoices__payment_failed()
returns trigger
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform billing._notify(
        new.account_id, 'customer', 'payment_failed',
        format('payment_failed:%s:%s', new.stripe_invoice_id, new.attempt_count),
        jsonb_build_object(
            'stripe_invoice_id', new.stripe_invoice_id, 'amount', new.amount_due, 'currency', new.currency,
            'url', new.hosted_invoice_url, 'attempts', new.attempt_count,
            'next_attempt_at', new.next_payment_attempt_at
        )
    );
    return null;
end
$$;

create trigger tg_invoices__payment_failed
after insert or update of attempt_count on billing.invoices
for each row when (
    new.status = 'open' and new.attempt_count > 0 and new.amount_due > 0 and new.account_id is not null
    and new.billing_reason is distinct from 'subscription_create'
)
execute function billing.tg_invoices__payment_failed();

create function billing._notify_of_receipt(
    account_id uuid, reference_id text, credits numeric, amount bigint, currency text, url text
)
returns void
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    select billing._notify(
        _notify_of_receipt.account_id, 'customer', 'receipt', 'receipt:' || _notify_of_receipt.reference_id,
        jsonb_build_object(
            'credits', _notify_of_receipt.credits, 'amount', _notify_of_receipt.amount,
            'currency', _notify_of_receipt.currency, 'url', _notify_of_receipt.url
        )
    )
    where _notify_of_receipt.credits > 0
$$;

-- At the end of the transaction, when the credits are there.
create function billing.tg_invoices__receipt()
returns trigger
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    if exists (select from billing.settings where 'receipt' = any (settings.customer_notifications)) then
        perform billing._notify_of_receipt(
            new.account_id, new.stripe_invoice_id, sum(credit_grants.amount), new.amount_paid, new.currency,
            new.hosted_invoice_url
        )
        from billing.credit_grants where credit_grants.stripe_invoice_id = new.stripe_invoice_id;
    end if;
    return null;
end
$$;

create constraint trigger tg_invoices__receipt
after insert or update of status on billing.invoices
deferrable initially deferred
for each row when (new.status = 'paid' and new.amount_paid > 0 and new.account_id is not null)
execute function billing.tg_invoices__receipt();

create function billing.tg_checkout_sessions__receipt()
returns trigger
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    if exists (select from billing.settings where 'receipt' = any (settings.customer_notifications)) then
        perform billing._notify_of_receipt(
            new.account_id, new.stripe_checkout_session_id, credit_grants.amount, new.amount_total, new.currency, null
        )
        from billing.credit_grants
        where credit_grants.idempotency_key = 'pack:' || new.stripe_checkout_session_id
            and credit_grants.key_space = 'stripe';
    end if;
    return null;
end
$$;

create constraint trigger tg_checkout_sessions__receipt
after insert or update of payment_status, account_id on billing.checkout_sessions
deferrable initially deferred
for each row when (new.mode = 'payment' and new.payment_status = 'paid' and new.account_id is not null)
execute function billing.tg_checkout_sessions__receipt();

revoke all on function
    billing._pays_for_credits, billing._notify_of_event, billing.tg_stripe_events__notify,
    billing.tg_invoices__payment_failed, billing._notify_of_receipt, billing.tg_invoices__receipt,
    billing.tg_checkout_sessions__receipt
from public, anon, authenticated, service_role;

-- 80_notifications/40_reminders.sql

-- What only time tells: silence, events that have waited too long, cards and credits that will expire.
--
-- Invariant: told once for each silence, wait, card and day of expiry, however often the clock asks. A call looks at few
-- rows: the worker makes it between two batches.
--
-- Called by billing_worker.

-- Nothing came for long, though somebody subscribes. Real time counts: Stripe's events arrive by it.
create function billing._notify_of_silence()
returns void
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    select billing._notify(
        null, 'administrators', 'silence', format('silence:%s', extract(epoch from latest.received_at)),
        jsonb_build_object('last_event_at', latest.received_at, 'hours', floor(extract(epoch from now() - latest.received_at) / 3600))
    )
    from billing.settings
    cross join lateral (
        select stripe_events.received_at from billing.stripe_events
        order by stripe_events.received_at desc limit 1
    ) as latest
    where latest.received_at < now() - settings.silence_after and exists (
        select from billing.subscriptions
        where subscriptions.status in ('active', 'trialing', 'past_due') and subscriptions.livemode = settings.livemode
    )
$$;

-- Money that came in and waits for a plan, a pack or a customer, and other events that wait for a plan: after a quarter of
-- an hour, each by itself. Any other event that waits for a customer: after an hour, once for the customer. Only those that
-- were not told of yet are looked at.
create function billing._notify_of_waiting_events()
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_events billing.stripe_events[];
begin
    v_events := array(
        select stripe_events from billing.stripe_events
        where stripe_events.status in ('parked', 'dead') and stripe_events.waiting_for is not null
            and stripe_events.notified_at is null
            and stripe_events.settled_at < now() - case
                when stripe_events.status = 'dead' or billing._pays_for_credits(stripe_events.type)
                then interval '15 minutes' else interval '1 hour' end
        order by stripe_events.settled_at
        limit 1000
        for update skip locked
    );
    perform billing._notify_of_event(event) from unnest(v_events) as event
    where event.status = 'dead' or billing._pays_for_credits(event.type);

    perform billing._notify(
        null, 'administrators', 'event_waiting', 'event_waiting:' || event.waiting_for,
        jsonb_build_object(
            'stripe_event_id', event.stripe_event_id, 'type', event.type, 'reason', event.last_error,
            'waiting_for', event.waiting_for, 'received_at', event.received_at
        )
    )
    from unnest(v_events) as event
    where not (event.status = 'dead' or billing._pays_for_credits(event.type));

    update billing.stripe_events set notified_at = now()
    where stripe_events.stripe_event_id = any (array(select event.stripe_event_id from unnest(v_events) as event));
end
$$;

-- Events that are still in the queue after an hour: they wait for a key, for Stripe, or for somebody who holds a lock.
-- Once for the one that has waited longest, with the first few.
create function billing._notify_of_queued_events()
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_first jsonb;
begin
    select jsonb_agg(to_jsonb(oldest) order by oldest.received_at) into v_first
    from (
        select
            stripe_events.stripe_event_id, stripe_events.type, stripe_events.last_error as reason,
            stripe_events.received_at
        from billing.stripe_events
        where stripe_events.status = 'queued' and stripe_events.received_at < now() - interval '1 hour'
        order by stripe_events.received_at
        limit 10
    ) as oldest;
    if v_first is null then
        return;
    end if;
    perform billing._notify(
        null, 'administrators', 'event_waiting', 'event_waiting:' || (v_first -> 0 ->> 'stripe_event_id'),
        (v_first -> 0) || jsonb_build_object('first', v_first)
    );
end
$$;

-- Cards of those who are to pay again, a month before.
create function billing._notify_of_expiring_cards()
returns void
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    select billing._notify(
        customers.account_id, 'customer', 'card_expiring',
        format('card_expiring:%s:%s', cards.stripe_payment_method_id, cards.expires_on),
        jsonb_build_object('brand', cards.brand, 'last4', cards.last4, 'expires_on', cards.expires_on)
    )
    from billing.settings
    join billing.saved_cards as cards on cards.livemode = settings.livemode
    join billing.customers on customers.stripe_customer_id = cards.stripe_customer_id
    where 'card_expiring' = any (settings.customer_notifications)
        and cards.expires_on > billing.current_time()::date
        and cards.expires_on <= billing.current_time()::date + interval '31 days'
        and customers.account_id is not null
        and (
            exists (
                select from billing.subscriptions
                where subscriptions.account_id = customers.account_id
                    and subscriptions.status in ('active', 'trialing', 'past_due')
            )
            or exists (
                select from billing.recharge_settings
                where recharge_settings.account_id = customers.account_id and not recharge_settings.is_paused
            )
        )
        and not exists (
            select from billing.notifications
            where notifications.dedupe_key = format('card_expiring:%s:%s', cards.stripe_payment_method_id, cards.expires_on)
        )
    limit 1000
$$;

create function billing.enqueue_reminders()
returns void
language sql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
    select billing._notify_of_silence();
    select billing._notify_of_waiting_events();
    select billing._notify_of_queued_events();
    select billing._notify_of_expiring_cards();
$$;

-- Looks at the next accounts_max accounts. Returns the last of them, null when all were looked at: the caller begins again
-- there, after a while. Lots whose life is not longer than the notice are left out.
create function billing.enqueue_expiring_credits(after_account_id uuid, accounts_max integer)
returns uuid
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_now timestamptz := billing.current_time();
    v_notice interval;
    v_ids uuid[];
    v_due_ids uuid[];
begin
    select settings.expiring_credits_notice into v_notice from billing.settings
    where 'credits_expiring' = any (settings.customer_notifications);
    if not found then
        return null;
    end if;
    select array_agg(looked_at.account_id order by looked_at.account_id),
        array_agg(looked_at.account_id) filter (where looked_at.next_due_at <= v_now + v_notice)
    into v_ids, v_due_ids
    from (
        select credit_balances.account_id, credit_balances.next_due_at from billing.credit_balances
        where credit_balances.account_id > coalesce(
            enqueue_expiring_credits.after_account_id, '00000000-0000-0000-0000-000000000000'
        )
        order by credit_balances.account_id
        limit enqueue_expiring_credits.accounts_max
    ) as looked_at;
    perform billing._notify(
        expiring.account_id, 'customer', 'credits_expiring',
        format('credits_expiring:%s:%s', expiring.account_id, expiring.day),
        jsonb_build_object('credits', expiring.credits, 'expires_at', expiring.expires_at)
    )
    from (
        select
            credit_grants.account_id, (credit_grants.expires_at at time zone 'UTC')::date as day,
            sum(credit_grants.remaining) as credits, min(credit_grants.expires_at) as expires_at
        from billing.credit_grants
        where credit_grants.account_id = any (v_due_ids) and credit_grants.closed_at is null
            and credit_grants.entry_id is not null and credit_grants.remaining > 0
            and credit_grants.expires_at > v_now and credit_grants.expires_at <= v_now + v_notice
            and credit_grants.expires_at - v_notice > credit_grants.effective_at
        group by 1, 2
    ) as expiring;
    return case when cardinality(v_ids) = enqueue_expiring_credits.accounts_max then v_ids[cardinality(v_ids)] end;
end
$$;

revoke all on function
    billing._notify_of_silence, billing._notify_of_waiting_events, billing._notify_of_queued_events,
    billing._notify_of_expiring_cards, billing.enqueue_reminders, billing.enqueue_expiring_credits
from public, anon, authenticated, service_role;
grant execute on function billing.enqueue_reminders(), billing.enqueue_expiring_credits(uuid, integer) to billing_worker;

comment on function billing.enqueue_reminders() is 'Tells what only time tells: silence, events that have waited too long, cards that will expire. Once for each, however often it is called.';
comment on function billing.enqueue_expiring_credits(uuid, integer) is 'Tells owners of credits that will expire, of the accounts_max accounts after one. Returns the last account looked at, null at the end.';

-- 85_jobs/10_lost_jobs.sql

-- Rows that are to be worked on and lost their job: found, listed by the proof, and queued again.
--
-- Invariant: a row that the worker has something to do for has a message in billing_jobs. Both are written in one
-- transaction, so what is off was done from outside: a restore of a project whose pgmq (1.5.1) leaves its queues out of
-- dumps, a queue that was purged. The other way round nothing is off: a job whose row needs nothing any more ends when it
-- is taken.
--
-- Callable by billing_worker; lost_jobs is part of billing.ledger_discrepancies.

-- Every row that needs a job: for each kind, where its table says so.
create function billing._needed_jobs()
returns table (kind billing.job_kind, id text)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select 'payment_link'::billing.job_kind, payment_links.id::text from billing.payment_links
    where payment_links.deactivate_at is not null
    union all
    select 'email_change', changes.stripe_customer_id from billing.customer_email_changes as changes
    where changes.settled_at is null
    union all
    select 'fraud_action', fraud_actions.id::text from billing.fraud_actions where fraud_actions.status = 'queued'
    union all
    select 'recharge', recharges.id::text from billing.recharges where recharges.status in ('claimed', 'charging')
    union all
    select (notifications.audience || '_notification')::billing.job_kind, notifications.id::text
    from billing.notifications where notifications.status in ('queued', 'sending')
$$;

-- A table of its own plan: hashes, for the queue has no index by a row's id.
create function billing._lost_jobs()
returns table (kind billing.job_kind, id text)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set enable_nestloop = off
as $$
begin
    return query
    select needed.kind, needed.id from billing._needed_jobs() as needed
    where not exists (
        select from billing.queued_jobs() as job where job.kind = needed.kind and job.id = needed.id
    );
end
$$;

create function billing.lost_jobs()
returns table (invariant text, detail text)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select 'open_work_has_a_job', format('%s %s has no message in billing_jobs', lost.kind, lost.id)
    from billing._lost_jobs() as lost;
end
$$;

-- Called when a worker has started, and every hour. How many were queued again; one worker at a time.
create function billing.requeue_jobs()
returns bigint
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_lost record;
    v_count bigint := 0;
begin
    if not pg_try_advisory_xact_lock(hashtextextended('billing.requeue_jobs', 0)) then
        return 0;
    end if;
    for v_lost in
        select lost.kind, array_agg(lost.id order by lost.id) as ids from billing._lost_jobs() as lost group by lost.kind
    loop
        perform billing._enqueue_jobs(v_lost.kind, v_lost.ids);
        v_count := v_count + cardinality(v_lost.ids);
    end loop;
    return v_count;
end
$$;

revoke all on function
    billing._needed_jobs, billing._lost_jobs, billing.lost_jobs, billing.requeue_jobs
from public, anon, authenticated, service_role;
grant execute on function billing.requeue_jobs() to billing_worker;
grant execute on function billing.lost_jobs() to service_role;

comment on function billing.requeue_jobs() is 'Queues again the jobs of rows that lost theirs, as after a restore that left the queue out. How many.';
comment on function billing.lost_jobs() is 'Rows that need a job of the worker and have no message in billing_jobs. Part of ledger_discrepancies.';

-- 90_api/05_ledger_discrepancies.sql

-- All checks of the ledger: every account, rows that belong to no account, and events and jobs that lost their queue
-- message: the credits of such events are missing too. The time grows with the ledger: use it after a restore, and in tests.
--
-- Readable by service_role and postgres.

create view billing.ledger_discrepancies with (security_invoker = on) as
select ids.account_id, discrepancies.invariant, discrepancies.detail
from (
    select accounts.id as account_id from billing.accounts
    union
    select credit_entries.account_id from billing.credit_entries
    union
    select credit_grants.account_id from billing.credit_grants
    union
    select credit_holds.account_id from billing.credit_holds
) as ids
cross join lateral billing.account_ledger_discrepancies(ids.account_id) as discrepancies
union all
select
    null, 'lineage_joins_entry_and_lot',
    format('%s credits of lot %s by entry %s, neither of which is there', c.amount, c.grant_id, c.entry_id)
from billing.credit_consumptions as c
where not exists (select from billing.credit_entries where credit_entries.id = c.entry_id)
    and not exists (select from billing.credit_grants where credit_grants.id = c.grant_id)
union all
select null, lost.invariant, lost.detail from billing.lost_messages() as lost
union all
select null, lost.invariant, lost.detail from billing.lost_jobs() as lost;

revoke all on billing.ledger_discrepancies from public, anon, authenticated, service_role;
grant select on billing.ledger_discrepancies to service_role;

comment on view billing.ledger_discrepancies is 'Every inconsistency of the ledger: account, broken invariant, figures. Empty when all is well.';

-- 90_api/10_entitlements.sql

-- Entitlements: the features that an account may use, by the plans that it subscribes to.
--
-- Features are declared in the metadata `features` of a price (plans.features). They apply while the subscription's
-- status is active or trialing, or past_due unless the settings say otherwise. A pause of collection does not change
-- the status, so the features stay. Subscribers of a plan keep its features even if it is no longer on sale.
--
-- Invariant: users can read only their own accounts, also inside a security definer function of the app; roles that
-- bypass row level security (service_role, postgres) can read all. Nothing is stored: features are calculated from the
-- newest state of the subscriptions.
--
-- For authenticated and service_role. Policies: with check ((select billing.has_feature('projects'))).

-- The only definition of the rules. Security definer: users can't read archived plans, settings and deleted customers.
create function billing.account_entitlements(account_id uuid)
returns table (feature text, value jsonb, stripe_subscription_id text, stripe_price_id text)
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
rows 10
as $$
    select features.key, features.value, subscriptions.stripe_subscription_id, items.stripe_price_id
    from billing.settings
    join billing.subscriptions on subscriptions.livemode = settings.livemode
    join billing.customers
        on customers.stripe_customer_id = subscriptions.stripe_customer_id and customers.deleted_at is null
    join billing.subscription_items as items
        on items.stripe_subscription_id = subscriptions.stripe_subscription_id
    join billing.plans on plans.stripe_price_id = items.stripe_price_id
    cross join lateral jsonb_each(plans.features) as features
    where subscriptions.account_id = account_entitlements.account_id
        and (
            subscriptions.status in ('active', 'trialing')
            or subscriptions.status = 'past_due' and settings.past_due_keeps_features
        )
        and features.value not in ('false', 'null', '0')
        and (
            account_entitlements.account_id = any (array(select billing.my_account_ids()))
            or (select billing._sees_every_account())
        )
$$;

-- Security definer: service_role, which has no accounts, may not execute my_account_ids.
create function billing.has_feature(feature text)
returns boolean
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
    select exists (
        select from billing.my_account_ids() as mine (account_id)
        cross join lateral billing.account_entitlements(mine.account_id) as granted
        where granted.feature = has_feature.feature
    )
$$;

create function billing.has_feature(feature text, account_id uuid)
returns boolean
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select exists (
        select from billing.account_entitlements(has_feature.account_id) as granted
        where granted.feature = has_feature.feature
    )
$$;

create function public.has_feature(feature text)
returns boolean
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select billing.has_feature(has_feature.feature)
$$;

create function public.has_feature(feature text, account_id uuid)
returns boolean
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select billing.has_feature(has_feature.feature, has_feature.account_id)
$$;

revoke all on function
    billing.account_entitlements(uuid),
    billing.has_feature(text), billing.has_feature(text, uuid),
    public.has_feature(text), public.has_feature(text, uuid)
from public, anon, authenticated, service_role;
grant execute on function
    billing.account_entitlements(uuid),
    billing.has_feature(text), billing.has_feature(text, uuid),
    public.has_feature(text), public.has_feature(text, uuid)
to authenticated, service_role;

-- The policy on subscriptions limits the rows, and so does the function.
create view public.billing_entitlements with (security_invoker = on) as
select
    subscribers.account_id, granted.feature, granted.value, granted.stripe_subscription_id, granted.stripe_price_id
from (select distinct subscriptions.account_id from billing.subscriptions) as subscribers
cross join lateral billing.account_entitlements(subscribers.account_id) as granted;

revoke all on public.billing_entitlements from public, anon, authenticated, service_role;
grant select on public.billing_entitlements to authenticated, service_role;

comment on function billing.account_entitlements(uuid) is 'The features that an account may use. Empty for another user''s account, unless the caller bypasses row level security.';
comment on function billing.has_feature(text) is 'True if one of the signed-in user''s accounts has the feature. Policies: with check ((select billing.has_feature(''projects''))).';
comment on function billing.has_feature(text, uuid) is 'True if this account, one of the signed-in user''s, has the feature; service_role can check any account.';
comment on function public.has_feature(text) is 'True if one of the signed-in user''s accounts has the feature.';
comment on function public.has_feature(text, uuid) is 'True if this account, one of the signed-in user''s, has the feature; service_role can check any account.';
comment on view public.billing_entitlements is 'Features of my accounts: one row for each feature of a price that the account subscribes to.';
comment on column public.billing_entitlements.account_id is 'The account; its id is in public.billing_account.';
comment on column public.billing_entitlements.feature is 'Name of the feature, from the metadata key features of the price or its product.';
comment on column public.billing_entitlements.value is 'Its value there: true, a number, a text. Features that are false, null or 0 have no row.';
comment on column public.billing_entitlements.stripe_subscription_id is 'The subscription that unlocks it.';
comment on column public.billing_entitlements.stripe_price_id is 'The price that declares it.';

-- 90_api/20_views.sql

-- Views for clients, under row level security.
--
-- Invariant: a view shows only what its reader's policies on the tables allow (security_invoker). Each object first
-- loses the default privileges of older projects, then gets its grants.

-- An account's balance as the next expiry will leave it, calculated without writing: expired holds are released,
-- scheduled lots open (debt and withheld credits first), expired lots are removed except for held credits. Same rules
-- as _settle_due.
create function billing.settled_balance(balance billing.credit_balances)
returns billing.credit_balances
language plpgsql
stable
strict
set search_path = pg_catalog, pg_temp
as $$
declare
    v_now timestamptz := billing.current_time();
    v_balance numeric := (settled_balance.balance).balance;
    v_debt bigint := (settled_balance.balance).debt;
    v_withheld bigint := (settled_balance.balance).withheld;
    v_available numeric;
    v_settled billing.credit_balances := settled_balance.balance;
    v_lot record;
    v_repaid bigint;
    v_kept_back bigint;
begin
    -- Due holds are released, debt takes its part in the order of spending, then due lots expire.
    with given_back as (
        select pins.grant_id, sum(pins.amount) as amount from billing.credit_holds as holds
        join billing.credit_hold_lots as pins on pins.hold_id = holds.id
        where holds.account_id = (settled_balance.balance).account_id and holds.status = 'held'
            and holds.expires_at <= v_now
        group by pins.grant_id
    ),
    free as (
        select
            lots.expires_at, lots.remaining - lots.held + coalesce(given_back.amount, 0) as amount,
            sum(lots.remaining - lots.held + coalesce(given_back.amount, 0)) over (
                order by lots.priority, lots.expires_at, lots.id
            ) as upper
        from billing.credit_grants as lots
        left join given_back on given_back.grant_id = lots.id
        where lots.account_id = (settled_balance.balance).account_id and lots.closed_at is null
    )
    select
        greatest(v_debt - coalesce(sum(free.amount), 0), 0),
        coalesce(sum(least(free.amount, greatest(free.upper - v_debt, 0))) filter (
            where (free.expires_at > v_now) is not false
        ), 0)
    into v_debt, v_available
    from free;
    v_available := v_available - v_debt;
    for v_lot in
        select lots.amount, lots.expires_at from billing.credit_grants as lots
        where lots.account_id = (settled_balance.balance).account_id and lots.entry_id is null
            and lots.closed_at is null and lots.effective_at <= v_now
        order by lots.effective_at, lots.id
    loop
        continue when v_balance + v_lot.amount > 9223372036854775807;
        v_repaid := least(v_debt, v_lot.amount);
        v_kept_back := least(v_withheld, v_lot.amount - v_repaid);
        v_debt := v_debt - v_repaid;
        v_withheld := v_withheld - v_kept_back;
        v_balance := v_balance + v_lot.amount - v_kept_back;
        v_available := v_available + v_lot.amount - v_kept_back;
        if v_lot.expires_at <= v_now then
            v_available := v_available - (v_lot.amount - v_repaid - v_kept_back);
        end if;
    end loop;
    v_settled.held := v_settled.held - coalesce((
        select sum(pins.amount) from billing.credit_holds as holds
        join billing.credit_hold_lots as pins on pins.hold_id = holds.id
        where holds.account_id = v_settled.account_id and holds.status = 'held' and holds.expires_at <= v_now
    ), 0);
    v_settled.balance := v_available + v_settled.held;
    return v_settled;
end
$$;

revoke all on function billing.settled_balance from public, anon, authenticated, service_role;
grant execute on function billing.settled_balance(billing.credit_balances) to authenticated, service_role;

create view public.credit_balance with (security_invoker = on) as
select
    balances.account_id,
    -- Credits that are due count as expired, although no movement has expired them yet.
    coalesce(settled.balance, balances.balance) as balance,
    coalesce(settled.held, balances.held) as held,
    greatest(coalesce(settled.balance, balances.balance) - coalesce(settled.held, balances.held), 0) as available,
    balances.updated_at
from billing.credit_balances as balances
left join lateral (
    -- A condition would be evaluated after the function. Being strict, the function is not called for null.
    select swept.balance, swept.held
    from billing.settled_balance(case when balances.next_due_at <= billing.current_time() then balances end) as swept
) as settled on true;

-- Without these triggers Postgres refuses a write to this view of two relations before it checks privileges, and
-- PostgREST answers 500. With them, roles without the privilege get a permission error.
create function billing.tg_credit_balance__refuse()
returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    raise exception using
        errcode = 'insufficient_privilege',
        message = 'credit_balance is read-only',
        hint = 'To change a balance, call grant_credits, spend_credits or adjust_credits.';
end
$$;

revoke all on function billing.tg_credit_balance__refuse from public, anon, authenticated, service_role;

create trigger tg_credit_balance__refuse
instead of insert or update or delete on public.credit_balance
for each row execute function billing.tg_credit_balance__refuse();

create view public.credit_history with (security_invoker = on) as
select id, account_id, kind, amount, balance_after, source, reference_id, description, feature, metadata, occurred_at
from billing.credit_entries;

create view public.billing_plans with (security_invoker = on) as
select
    plans.stripe_price_id, plans.lookup_key, coalesce(plans.nickname, products.name) as name, products.description,
    plans.currency, plans.unit_amount, plans.recurring_interval, plans.recurring_interval_count,
    plans.initial_credits, plans.monthly_credits, plans.trial_credits, plans.features, plans.trial_days,
    plans.seats_min, plans.seats_max
from billing.plans
join billing.products on products.stripe_product_id = plans.stripe_product_id
-- The policies apply the same filter to clients; roles that bypass them also get only what is on sale.
where plans.active and products.active and plans.livemode = (select billing.is_livemode());

create view public.billing_packs with (security_invoker = on) as
select
    packs.stripe_price_id, packs.lookup_key, coalesce(packs.nickname, products.name) as name, products.description,
    packs.currency, packs.unit_amount, packs.pack_credits, packs.credits_per_unit, packs.expires_after
from billing.credit_packs as packs
join billing.products on products.stripe_product_id = packs.stripe_product_id
where packs.active and products.active and packs.livemode = (select billing.is_livemode());

create view public.billing_subscription with (security_invoker = on) as
select
    subscriptions.account_id, subscriptions.stripe_subscription_id, subscriptions.status,
    items.stripe_price_id, items.quantity, items.current_period_start, items.current_period_end,
    subscriptions.trial_end,
    -- Flexible billing mode schedules a cancellation with cancel_at alone.
    case when subscriptions.cancel_at_period_end then items.current_period_end else subscriptions.cancel_at end as cancels_at,
    subscriptions.ended_at
from billing.subscriptions
join billing.subscription_items as items
    on items.stripe_subscription_id = subscriptions.stripe_subscription_id;

revoke all on
    public.credit_balance, public.credit_history, public.billing_plans, public.billing_packs, public.billing_subscription
from public, anon, authenticated, service_role;
grant select on
    public.credit_balance, public.credit_history, public.billing_packs, public.billing_subscription
to authenticated, service_role;
grant select on public.billing_plans to anon, authenticated, service_role;

create function public.ensure_account(user_id uuid)
returns uuid
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    select billing.ensure_account(ensure_account.user_id)
$$;

create function public.link_customer(account_id uuid, stripe_customer_id text, livemode boolean default null)
returns void
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    select billing.link_customer(link_customer.account_id, link_customer.stripe_customer_id, link_customer.livemode)
$$;

revoke all on function
    public.ensure_account(uuid),
    public.link_customer(uuid, text, boolean)
from public, anon, authenticated, service_role;
grant execute on function
    public.ensure_account(uuid),
    public.link_customer(uuid, text, boolean)
to service_role;

comment on function billing.settled_balance(billing.credit_balances) is 'An account''s balance with everything that is due released, opened and expired.';
comment on view public.credit_balance is 'Credits of my accounts: one row each. available leaves out credits that are held or due to expire.';
comment on column public.credit_balance.account_id is 'The account; its id is in public.billing_account.';
comment on column public.credit_balance.balance is 'Credits of the account, without those that expired. Below zero only by debt.';
comment on column public.credit_balance.held is 'Credits that open holds set aside; part of balance.';
comment on column public.credit_balance.available is 'What can be spent now: balance less held, never below zero.';
comment on column public.credit_balance.updated_at is 'When the balance last changed.';
comment on view public.credit_history is 'Movements of credits of my accounts; page by id descending.';
comment on column public.credit_history.id is 'Entries of one account have ascending ids: page with id less than the last one shown.';
comment on column public.credit_history.account_id is 'The account; its id is in public.billing_account.';
comment on column public.credit_history.kind is 'What kind of movement: grant, spend, capture, refund, expiry, revocation and so on.';
comment on column public.credit_history.amount is 'Credits added (above zero) or taken (below zero).';
comment on column public.credit_history.balance_after is 'The balance after this entry.';
comment on column public.credit_history.source is 'Where it comes from: app, or stripe.subscription, stripe.checkout and so on.';
comment on column public.credit_history.reference_id is 'Id of what it is for, as the app or Stripe names it.';
comment on column public.credit_history.description is 'A line for the user.';
comment on column public.credit_history.feature is 'The feature or meter that the credits were used for.';
comment on column public.credit_history.metadata is 'JSON object that the app passed.';
comment on column public.credit_history.occurred_at is 'When it happened.';
comment on view public.billing_plans is 'Plans on sale and the credits they are worth.';
comment on column public.billing_plans.stripe_price_id is 'The price in Stripe.';
comment on column public.billing_plans.lookup_key is 'The price''s lookup key, which checkout accepts; null if it has none.';
comment on column public.billing_plans.name is 'Nickname of the price, or the product''s name.';
comment on column public.billing_plans.description is 'The product''s description.';
comment on column public.billing_plans.currency is 'Three-letter code in lower case.';
comment on column public.billing_plans.unit_amount is 'Price of one unit in minor units (1900 is 19.00 usd); null for tiered prices.';
comment on column public.billing_plans.recurring_interval is 'day, week, month or year.';
comment on column public.billing_plans.recurring_interval_count is 'How many intervals one period has.';
comment on column public.billing_plans.initial_credits is 'Credits granted once, with the first paid period.';
comment on column public.billing_plans.monthly_credits is 'Credits for each paid month and seat.';
comment on column public.billing_plans.trial_credits is 'Credits for the trial.';
comment on column public.billing_plans.features is 'JSON object of what the plan unlocks.';
comment on column public.billing_plans.trial_days is 'Length of the trial that checkout offers; 0: none.';
comment on column public.billing_plans.seats_min is 'The fewest seats that checkout sells.';
comment on column public.billing_plans.seats_max is 'The most seats that checkout sells; null: settings.max_checkout_quantity.';
comment on view public.billing_packs is 'Credit packs on sale, for signed-in users.';
comment on column public.billing_packs.stripe_price_id is 'The price in Stripe.';
comment on column public.billing_packs.lookup_key is 'The price''s lookup key, which checkout accepts; null if it has none.';
comment on column public.billing_packs.name is 'Nickname of the price, or the product''s name.';
comment on column public.billing_packs.description is 'The product''s description.';
comment on column public.billing_packs.currency is 'Three-letter code in lower case.';
comment on column public.billing_packs.unit_amount is 'Price in minor units; null if the customer chooses the amount.';
comment on column public.billing_packs.pack_credits is 'Credits of one pack; null if the customer chooses the amount.';
comment on column public.billing_packs.credits_per_unit is 'Credits for one whole unit of the currency if the customer chooses the amount; else null.';
comment on column public.billing_packs.expires_after is 'How long after the payment the credits expire; null: never.';
comment on view public.billing_subscription is 'Subscriptions of my accounts: one row for each item.';
comment on column public.billing_subscription.account_id is 'The account; its id is in public.billing_account.';
comment on column public.billing_subscription.stripe_subscription_id is 'The subscription in Stripe.';
comment on column public.billing_subscription.status is 'Stripe''s status: trialing, active, past_due, canceled and so on.';
comment on column public.billing_subscription.stripe_price_id is 'The price of this item.';
comment on column public.billing_subscription.quantity is 'Seats.';
comment on column public.billing_subscription.current_period_start is 'Start of the current billing period.';
comment on column public.billing_subscription.current_period_end is 'End of the current billing period.';
comment on column public.billing_subscription.trial_end is 'When the trial ends; null without a trial.';
comment on column public.billing_subscription.cancels_at is 'When a cancellation that was requested takes effect; null if there is none.';
comment on column public.billing_subscription.ended_at is 'When the subscription ended; null while it has not.';

-- Accounts for users who signed up before billing was installed.
select billing.ensure_account(users.id) from auth.users;

-- 90_api/30_credits.sql

-- Moving credits over the Data API, for the app's own server: functions in `public` that call those in `billing`.
--
-- Invariant: each function runs as its caller and adds no rules. Only service_role may execute it.

create function public.grant_credits(
    account_id uuid,
    amount numeric,
    idempotency_key text,
    description text default null,
    source text default 'app',
    reference_id text default null,
    expires_at timestamptz default null,
    priority integer default 100,
    metadata jsonb default '{}'
)
returns billing.credit_entries
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    select billing.grant_credits(
        grant_credits.account_id, grant_credits.amount, grant_credits.idempotency_key, grant_credits.description,
        grant_credits.source, grant_credits.reference_id, grant_credits.expires_at, grant_credits.priority,
        grant_credits.metadata
    )
$$;

create function public.schedule_credits(
    account_id uuid,
    amount numeric,
    effective_at timestamptz,
    idempotency_key text,
    description text default null,
    source text default 'app',
    reference_id text default null,
    expires_at timestamptz default null,
    priority integer default 100
)
returns billing.credit_grants
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    select billing.schedule_credits(
        schedule_credits.account_id, schedule_credits.amount, schedule_credits.effective_at,
        schedule_credits.idempotency_key, schedule_credits.description, schedule_credits.source,
        schedule_credits.reference_id, schedule_credits.expires_at, schedule_credits.priority
    )
$$;

create function public.spend_credits(
    account_id uuid,
    amount numeric,
    idempotency_key text,
    description text default null,
    metadata jsonb default '{}',
    feature text default null,
    reference_id text default null,
    up_to boolean default false
)
returns billing.credit_entries
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    select billing.spend_credits(
        spend_credits.account_id, spend_credits.amount, spend_credits.idempotency_key, spend_credits.description,
        spend_credits.metadata, spend_credits.feature, spend_credits.reference_id, spend_credits.up_to
    )
$$;

create function public.spend_credits_batch(
    spends jsonb
)
returns setof billing.credit_entries
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    select * from billing.spend_credits_batch(
        spend_credits_batch.spends
    )
$$;

create function public.refund_spend(
    entry_id bigint,
    amount numeric,
    idempotency_key text,
    description text default null,
    metadata jsonb default '{}'
)
returns billing.credit_entries
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    select billing.refund_spend(
        refund_spend.entry_id, refund_spend.amount, refund_spend.idempotency_key, refund_spend.description,
        refund_spend.metadata
    )
$$;

create function public.transfer_credits(
    from_account_id uuid,
    to_account_id uuid,
    amount numeric,
    idempotency_key text,
    description text default null,
    metadata jsonb default '{}'
)
returns billing.credit_entries
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    select billing.transfer_credits(
        transfer_credits.from_account_id, transfer_credits.to_account_id, transfer_credits.amount,
        transfer_credits.idempotency_key, transfer_credits.description, transfer_credits.metadata
    )
$$;

revoke all on function
    public.grant_credits(uuid, numeric, text, text, text, text, timestamptz, integer, jsonb),
    public.schedule_credits(uuid, numeric, timestamptz, text, text, text, text, timestamptz, integer),
    public.spend_credits(uuid, numeric, text, text, jsonb, text, text, boolean),
    public.spend_credits_batch(jsonb),
    public.refund_spend(bigint, numeric, text, text, jsonb),
    public.transfer_credits(uuid, uuid, numeric, text, text, jsonb)
from public, anon, authenticated, service_role;
grant execute on function
    public.grant_credits(uuid, numeric, text, text, text, text, timestamptz, integer, jsonb),
    public.schedule_credits(uuid, numeric, timestamptz, text, text, text, text, timestamptz, integer),
    public.spend_credits(uuid, numeric, text, text, jsonb, text, text, boolean),
    public.spend_credits_batch(jsonb),
    public.refund_spend(bigint, numeric, text, text, jsonb),
    public.transfer_credits(uuid, uuid, numeric, text, text, jsonb)
to service_role;

-- 90_api/40_holds.sql

-- Holds over the Data API, for the app's own server: functions in `public` that call those in `billing`.
--
-- Invariant: each function runs as its caller and adds no rules. Only service_role may execute it.

create function public.hold_credits(
    account_id uuid,
    amount numeric,
    idempotency_key text,
    expires_in interval default '1 hour',
    description text default null,
    metadata jsonb default '{}',
    feature text default null
)
returns billing.credit_holds
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    select billing.hold_credits(
        hold_credits.account_id, hold_credits.amount, hold_credits.idempotency_key, hold_credits.expires_in,
        hold_credits.description, hold_credits.metadata, hold_credits.feature
    )
$$;

create function public.capture_hold(
    hold_id uuid,
    amount numeric,
    idempotency_key text,
    description text default null,
    metadata jsonb default '{}',
    release_rest boolean default false
)
returns billing.credit_entries
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    select billing.capture_hold(
        capture_hold.hold_id, capture_hold.amount, capture_hold.idempotency_key, capture_hold.description,
        capture_hold.metadata, capture_hold.release_rest
    )
$$;

create function public.release_hold(
    hold_id uuid,
    idempotency_key text
)
returns billing.credit_holds
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    select billing.release_hold(
        release_hold.hold_id, release_hold.idempotency_key
    )
$$;

create function public.extend_hold(
    hold_id uuid,
    expires_in interval
)
returns billing.credit_holds
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    select billing.extend_hold(
        extend_hold.hold_id, extend_hold.expires_in
    )
$$;

revoke all on function
    public.hold_credits(uuid, numeric, text, interval, text, jsonb, text),
    public.capture_hold(uuid, numeric, text, text, jsonb, boolean),
    public.release_hold(uuid, text),
    public.extend_hold(uuid, interval)
from public, anon, authenticated, service_role;
grant execute on function
    public.hold_credits(uuid, numeric, text, interval, text, jsonb, text),
    public.capture_hold(uuid, numeric, text, text, jsonb, boolean),
    public.release_hold(uuid, text),
    public.extend_hold(uuid, interval)
to service_role;

-- 90_api/50_administration.sql

-- Administration over the Data API, for the app's own server: functions in `public` that call those in `billing`.
--
-- Invariant: each function runs as its caller and adds no rules. Only service_role may execute it.

create function public.revoke_grant(
    grant_id bigint,
    amount numeric,
    idempotency_key text,
    reason text,
    actor text,
    shortfall_policy text default 'clamp_and_record'
)
returns billing.credit_revocations
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    select billing.revoke_grant(
        revoke_grant.grant_id, revoke_grant.amount, revoke_grant.idempotency_key, revoke_grant.reason,
        revoke_grant.actor, revoke_grant.shortfall_policy
    )
$$;

create function public.reinstate_grant(
    revocation_id bigint,
    amount numeric,
    idempotency_key text,
    reason text,
    actor text
)
returns billing.credit_reinstatements
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    select billing.reinstate_grant(
        reinstate_grant.revocation_id, reinstate_grant.amount, reinstate_grant.idempotency_key,
        reinstate_grant.reason, reinstate_grant.actor
    )
$$;

create function public.adjust_credits(
    account_id uuid,
    amount numeric,
    idempotency_key text,
    reason text,
    actor text,
    expires_at timestamptz default null
)
returns billing.credit_entries
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    select billing.adjust_credits(
        adjust_credits.account_id, adjust_credits.amount, adjust_credits.idempotency_key, adjust_credits.reason,
        adjust_credits.actor, adjust_credits.expires_at
    )
$$;

create function public.set_credit_limits(
    account_id uuid,
    overdraft numeric default 0,
    spend_cap numeric default null,
    spend_cap_period text default null,
    low_balance_threshold numeric default null
)
returns billing.credit_balances
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    select billing.set_credit_limits(
        set_credit_limits.account_id, set_credit_limits.overdraft, set_credit_limits.spend_cap,
        set_credit_limits.spend_cap_period, set_credit_limits.low_balance_threshold
    )
$$;

create function public.close_account(
    account_id uuid,
    reason text,
    actor text
)
returns billing.accounts
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    select billing.close_account(
        close_account.account_id, close_account.reason, close_account.actor
    )
$$;

create function public.reopen_account(
    account_id uuid
)
returns billing.accounts
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    select billing.reopen_account(
        reopen_account.account_id
    )
$$;

revoke all on function
    public.revoke_grant(bigint, numeric, text, text, text, text),
    public.reinstate_grant(bigint, numeric, text, text, text),
    public.adjust_credits(uuid, numeric, text, text, text, timestamptz),
    public.set_credit_limits(uuid, numeric, numeric, text, numeric),
    public.close_account(uuid, text, text),
    public.reopen_account(uuid)
from public, anon, authenticated, service_role;
grant execute on function
    public.revoke_grant(bigint, numeric, text, text, text, text),
    public.reinstate_grant(bigint, numeric, text, text, text),
    public.adjust_credits(uuid, numeric, text, text, text, timestamptz),
    public.set_credit_limits(uuid, numeric, numeric, text, numeric),
    public.close_account(uuid, text, text),
    public.reopen_account(uuid)
to service_role;

-- 90_api/60_customers.sql

-- Customers and dismissals over the Data API, for the app's own server: functions in `public` that call those in
-- `billing`.
--
-- Invariant: each function runs as its caller and adds no rules. Only service_role may execute it.

create function public.merge_customer(stripe_customer_id text, duplicate_of text)
returns void
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    select billing.merge_customer(merge_customer.stripe_customer_id, merge_customer.duplicate_of)
$$;

create function public.dismiss_customer(stripe_customer_id text, reason text, actor text)
returns bigint
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    select billing.dismiss_customer(
        dismiss_customer.stripe_customer_id, dismiss_customer.reason, dismiss_customer.actor
    )
$$;

create function public.dismiss_stripe_event(event_id text, reason text, actor text)
returns text
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    select billing.dismiss_stripe_event(
        dismiss_stripe_event.event_id, dismiss_stripe_event.reason, dismiss_stripe_event.actor
    )
$$;

revoke all on function
    public.merge_customer(text, text),
    public.dismiss_customer(text, text, text),
    public.dismiss_stripe_event(text, text, text)
from public, anon, authenticated, service_role;
grant execute on function
    public.merge_customer(text, text),
    public.dismiss_customer(text, text, text),
    public.dismiss_stripe_event(text, text, text)
to service_role;

-- 90_api/65_teams.sql

-- Teams over the Data API: functions in `public` that call those in `billing`, and the open invitations.
--
-- Invariant: each function runs as its caller and adds no rules. Signed-in users manage the teams in which their role
-- allows it; only the app's own server (service_role) creates teams and adds users to them.

create function public.create_team(name text, owner_id uuid)
returns billing.accounts
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    select billing.create_team(create_team.name, create_team.owner_id)
$$;

create function public.add_member(account_id uuid, user_id uuid, role text default 'member')
returns billing.account_members
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    select billing.add_member(add_member.account_id, add_member.user_id, add_member.role)
$$;

create function public.set_member_role(account_id uuid, user_id uuid, role text)
returns billing.account_members
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    select billing.set_member_role(set_member_role.account_id, set_member_role.user_id, set_member_role.role)
$$;

create function public.remove_member(account_id uuid, user_id uuid)
returns billing.account_members
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    select billing.remove_member(remove_member.account_id, remove_member.user_id)
$$;

create function public.transfer_ownership(account_id uuid, user_id uuid)
returns billing.account_members
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    select billing.transfer_ownership(transfer_ownership.account_id, transfer_ownership.user_id)
$$;

create function public.team_members(account_id uuid)
returns table (user_id uuid, email text, role text, created_at timestamptz)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select * from billing.team_members(team_members.account_id)
$$;

create function public.invite_member(account_id uuid, email text, role text default 'member')
returns table (invitation_id bigint, token text, expires_at timestamptz)
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    select * from billing.invite_member(invite_member.account_id, invite_member.email, invite_member.role)
$$;

create function public.accept_invitation(token text, user_id uuid default null)
returns billing.account_members
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    select billing.accept_invitation(accept_invitation.token, accept_invitation.user_id)
$$;

create function public.revoke_invitation(account_id uuid, email text)
returns boolean
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    select billing.revoke_invitation(revoke_invitation.account_id, revoke_invitation.email)
$$;

create view public.team_invitations with (security_invoker = on) as
select
    team_invitations.account_id, team_invitations.email, team_invitations.role, team_invitations.expires_at,
    team_invitations.created_at
from billing.team_invitations
where team_invitations.closed_at is null and team_invitations.expires_at > billing.current_time();

revoke all on public.team_invitations from public, anon, authenticated, service_role;
grant select on public.team_invitations to authenticated, service_role;

revoke all on function
    public.create_team(text, uuid), public.add_member(uuid, uuid, text), public.set_member_role(uuid, uuid, text),
    public.remove_member(uuid, uuid), public.transfer_ownership(uuid, uuid), public.team_members(uuid),
    public.invite_member(uuid, text, text), public.accept_invitation(text, uuid), public.revoke_invitation(uuid, text)
from public, anon, authenticated, service_role;
grant execute on function public.create_team(text, uuid), public.add_member(uuid, uuid, text) to service_role;
grant execute on function
    public.set_member_role(uuid, uuid, text), public.remove_member(uuid, uuid),
    public.transfer_ownership(uuid, uuid), public.team_members(uuid), public.invite_member(uuid, text, text),
    public.accept_invitation(text, uuid), public.revoke_invitation(uuid, text)
to authenticated, service_role;

comment on view public.team_invitations is 'Open invitations of the teams that I own or administer.';
comment on column public.team_invitations.account_id is 'The team''s account.';
comment on column public.team_invitations.email is 'The invited address.';
comment on column public.team_invitations.role is 'The role of the new member: admin or member.';
comment on column public.team_invitations.expires_at is 'Until when it can be accepted.';
comment on column public.team_invitations.created_at is 'When it was made.';

-- 90_api/70_fraud.sql

-- Decisions about fraud over the Data API, for the app's own server: functions in `public` that call those in
-- `billing`.
--
-- Invariant: each function runs as its caller and adds no rules. Only service_role may execute it.

create function public.freeze_account(account_id uuid, reason text, actor text)
returns billing.accounts
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    select billing.freeze_account(
        freeze_account.account_id, freeze_account.reason, freeze_account.actor
    )
$$;

create function public.unfreeze_account(account_id uuid, reason text, actor text)
returns billing.accounts
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    select billing.unfreeze_account(
        unfreeze_account.account_id, unfreeze_account.reason, unfreeze_account.actor
    )
$$;

create function public.resolve_fraud_warning(stripe_early_fraud_warning_id text, decision text, notes text, actor text)
returns billing.fraud_warnings
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    select billing.resolve_fraud_warning(
        resolve_fraud_warning.stripe_early_fraud_warning_id, resolve_fraud_warning.decision, resolve_fraud_warning.notes, resolve_fraud_warning.actor
    )
$$;

create function public.note_fraud(stripe_early_fraud_warning_id text, notes text, actor text)
returns billing.fraud_actions
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    select billing.note_fraud(
        note_fraud.stripe_early_fraud_warning_id, note_fraud.notes, note_fraud.actor
    )
$$;

create function public.refund_fraud_warning(stripe_early_fraud_warning_id text, reason text, actor text)
returns billing.fraud_actions
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    select billing.refund_fraud_warning(
        refund_fraud_warning.stripe_early_fraud_warning_id, refund_fraud_warning.reason, refund_fraud_warning.actor
    )
$$;

create function public.undo_fraud_action(id bigint, reason text, actor text)
returns billing.fraud_actions
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    select billing.undo_fraud_action(
        undo_fraud_action.id, undo_fraud_action.reason, undo_fraud_action.actor
    )
$$;

revoke all on function
    public.freeze_account(uuid, text, text),
    public.unfreeze_account(uuid, text, text),
    public.resolve_fraud_warning(text, text, text, text),
    public.note_fraud(text, text, text),
    public.refund_fraud_warning(text, text, text),
    public.undo_fraud_action(bigint, text, text)
from public, anon, authenticated, service_role;
grant execute on function
    public.freeze_account(uuid, text, text),
    public.unfreeze_account(uuid, text, text),
    public.resolve_fraud_warning(text, text, text, text),
    public.note_fraud(text, text, text),
    public.refund_fraud_warning(text, text, text),
    public.undo_fraud_action(bigint, text, text)
to service_role;

-- 90_api/80_billing_account.sql

-- What signed-in users can read of their accounts: whether one is frozen or closed, and since when.
--
-- Invariant: row level security limits the rows. The view shows no fraud data: frozen_reason is a neutral sentence, and
-- the reason that an administrator or a fraud warning gave is not for clients.

create view public.billing_account with (security_invoker = on) as
select
    accounts.id as account_id, accounts.kind,
    case
        when accounts.closed_at is not null then 'closed'
        when accounts.frozen_at is not null then 'frozen'
        else 'active'
    end as status,
    accounts.frozen_at,
    case
        when accounts.frozen_at is not null then 'Payments of this account are under review. Contact support.'
    end as frozen_reason,
    accounts.closed_at
from billing.accounts;

revoke all on public.billing_account from public, anon, authenticated, service_role;
grant select on public.billing_account to authenticated, service_role;

comment on view public.billing_account is 'My billing accounts: active, frozen (cannot spend; frozen_reason is a neutral text) or closed.';
comment on column public.billing_account.account_id is 'Id of the account, for every other view and function.';
comment on column public.billing_account.kind is 'personal or team.';
comment on column public.billing_account.status is 'active, frozen or closed.';
comment on column public.billing_account.frozen_at is 'Since when nothing can be spent or bought; null if it is not frozen.';
comment on column public.billing_account.frozen_reason is 'A sentence for the user; null if it is not frozen.';
comment on column public.billing_account.closed_at is 'Since when it is closed; null if it is open.';

-- 90_api/90_administrators.sql

-- Functions that administrators read besides tables and views: users' e-mail addresses, the queue and the settings.
--
-- Invariant: nothing here writes. The functions run as their owner, because the app's own server may not read auth.users, the
-- queue's tables or the settings. Callable by service_role only.
--
--   owner_email        an account → its owner's e-mail address
--   find_accounts      an id, an e-mail address or a part of one → accounts
--   worker_state       the queue's length and age, and the connected workers
--   installation       the settings

create function billing.owner_email(account_id uuid)
returns text
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select users.email from billing.accounts join auth.users on users.id = accounts.owner_id
        where accounts.id = owner_email.account_id
    );
end
$$;

-- An id names one account: its own, or one of Stripe's. A user's id or e-mail address names the accounts that the user
-- owns, the personal one first. Any other text is a part of an e-mail address or of a team's name, from three letters on.
-- With is_exact, a user means the personal account, and parts find nothing: that is how a command names an account.
create function billing.find_accounts(search text, results_max integer, is_exact boolean default false)
returns setof uuid
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_id text := pg_catalog.btrim(find_accounts.search);
    v_search text := lower(v_id);
begin
    if v_search ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then
        return query select accounts.id from billing.accounts
        where accounts.id = v_search::uuid
            or accounts.owner_id = v_search::uuid and (accounts.kind = 'personal' or not find_accounts.is_exact)
        order by accounts.id <> v_search::uuid, accounts.kind <> 'personal', accounts.id
        limit find_accounts.results_max;
        return;
    elsif v_id ~ '^(cus|sub|in|ch|py|pi|issfr)_[A-Za-z0-9_]+$' then
        return query select distinct found.account_id from (
            select customers.account_id from billing.customers where customers.stripe_customer_id = v_id
            union all
            select subscriptions.account_id from billing.subscriptions where subscriptions.stripe_subscription_id = v_id
            union all
            select invoices.account_id from billing.invoices where invoices.stripe_invoice_id = v_id
            union all
            select payments.account_id from billing.payments
            where payments.stripe_charge_id = v_id or payments.stripe_payment_intent_id = v_id
            union all
            select fraud_warnings.account_id from billing.fraud_warnings
            where fraud_warnings.stripe_early_fraud_warning_id = v_id
        ) as found
        where found.account_id is not null
        limit find_accounts.results_max;
        return;
    end if;
    return query select accounts.id from auth.users
    join billing.accounts on accounts.owner_id = users.id
    where users.email = v_search and (accounts.kind = 'personal' or not find_accounts.is_exact)
    order by accounts.kind <> 'personal', accounts.id limit find_accounts.results_max;
    if found or find_accounts.is_exact or length(v_search) < 3 then
        return;
    end if;
    return query select accounts.id from billing.accounts
    left join auth.users on users.id = accounts.owner_id
    where pg_catalog.strpos(lower(users.email), v_search) > 0 or pg_catalog.strpos(lower(accounts.name), v_search) > 0
    limit find_accounts.results_max;
end
$$;

create function billing.worker_state()
returns table (queue_length bigint, oldest_message_at timestamptz, messages_waiting bigint, workers bigint)
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
    select
        count(*), min(messages.enqueued_at), count(*) filter (where messages.vt > now() and messages.read_ct > 0),
        (
            select count(*) from pg_catalog.pg_stat_activity
            where pg_stat_activity.datname = pg_catalog.current_database()
                and pg_stat_activity.application_name = 'till worker'
        )
    from pgmq.q_stripe_events as messages
$$;

create function billing.installation()
returns table (name text, value jsonb, meaning text)
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
    select field.key, field.value, pg_catalog.col_description('billing.settings'::pg_catalog.regclass, attribute.attnum)
    from billing.settings
    cross join lateral jsonb_each(to_jsonb(settings)) as field
    join pg_catalog.pg_attribute as attribute
        on attribute.attrelid = 'billing.settings'::pg_catalog.regclass and attribute.attname = field.key
    where field.key not in ('id', 'updated_at')
    order by attribute.attnum
$$;

revoke all on function billing.owner_email, billing.find_accounts, billing.worker_state, billing.installation
from public, anon, authenticated, service_role;
grant execute on function
    billing.owner_email(uuid), billing.find_accounts(text, integer, boolean), billing.worker_state(), billing.installation()
to service_role;

comment on function billing.owner_email(uuid) is 'The e-mail address of an account''s owner; null if the owner was deleted.';
comment on function billing.find_accounts(text, integer, boolean) is 'Finds accounts by an id of ours or of Stripe''s, an e-mail address or, unless is_exact, a part of one.';
comment on function billing.worker_state() is 'How many messages wait in the queue and since when, how many of them are retries, and how many workers are connected.';
comment on function billing.installation() is 'The settings of this installation, with their descriptions.';

-- 90_api/92_admin_views.sql

-- Views for administrators: each question that the command line and the dashboard both ask is answered here once.
--
-- Invariant: nothing here writes, and nothing here is for clients: readable by service_role, which reads the tables
-- beneath as well (security_invoker). Readers order and page by the columns that the tables have an index for.
--
--   admin_attention        how much waits for a person, by kind: one row
--   admin_accounts         accounts with owner, status and balance
--   admin_customers        Stripe customers and what they are to this installation
--   admin_subscriptions    subscriptions with owner, plans and end of the period
--   admin_fraud_warnings   early fraud warnings with charge, owner and what was done
--   admin_disputes         disputes with owner
--   admin_reviews          Radar reviews with payment and owner
--   admin_plans_without_credits  live subscriptions whose plan gives neither credits nor features
--   admin_credit_reviews   initial and trial credits under review, with both owners
--
-- owner_email is called for the rows that are shown: Postgres works out the columns of a view after its limit.

create view billing.admin_attention with (security_invoker = on) as
select
    (select count(*) from billing.fraud_warnings where fraud_warnings.status = 'open') as open_warnings,
    (select count(*) from billing.disputes where disputes.needs_response) as disputes_to_answer,
    (select count(*) from billing.held_credits where held_credits.status = 'pending') as credits_under_review,
    (select count(*) from billing.stripe_events where stripe_events.status = 'dead') as dead_events,
    (select count(*) from billing.stripe_events where stripe_events.status = 'parked') as parked_events,
    (select count(*) from billing.notifications where notifications.status = 'dead') as dead_notifications,
    (select count(*) from billing.recharge_settings where recharge_settings.is_paused) as paused_recharges,
    (select count(*) from billing.accounts where accounts.frozen_at is not null) as frozen_accounts,
    (select count(*) from billing.customers where customers.status = 'unlinked') as unlinked_customers;

create view billing.admin_accounts with (security_invoker = on) as
select
    accounts.id, accounts.kind, accounts.name, accounts.owner_id, billing.owner_email(accounts.id) as email,
    states.status, accounts.frozen_at, accounts.frozen_reason, accounts.closed_at, accounts.created_at,
    settled.balance, settled.held, settled.available, balances.debt, balances.withheld
from billing.accounts
join public.billing_account as states on states.account_id = accounts.id
join public.credit_balance as settled on settled.account_id = accounts.id
join billing.credit_balances as balances on balances.account_id = accounts.id;

create view billing.admin_customers with (security_invoker = on) as
select
    customers.stripe_customer_id, customers.status, customers.email, customers.name, customers.account_id,
    customers.duplicate_of, customers.dismissed_at, customers.dismissed_reason, customers.dismissed_by,
    customers.livemode, customers.deleted_at, customers.created_at,
    (
        select count(*) from billing.stripe_events
        where stripe_events.waiting_for = customers.stripe_customer_id and stripe_events.status in ('parked', 'dead')
    ) as events_waiting
from billing.customers
where customers.stripe_customer_id is not null;

create view billing.admin_subscriptions with (security_invoker = on) as
select
    subscriptions.stripe_subscription_id, subscriptions.status,
    subscriptions.status in ('active', 'trialing', 'past_due') as is_live,
    subscriptions.account_id, billing.owner_email(subscriptions.account_id) as email, subscriptions.stripe_customer_id,
    subscriptions.livemode, subscriptions.currency, subscriptions.started_at, subscriptions.billing_cycle_anchor,
    subscriptions.trial_end, subscriptions.cancel_at_period_end, subscriptions.cancel_at, subscriptions.canceled_at,
    subscriptions.ended_at, subscriptions.is_collection_paused,
    (
        select string_agg(
            coalesce(nullif(plans.nickname, ''), products.name, items.stripe_price_id)
                || case when items.quantity > 1 then ' × ' || items.quantity else '' end,
            ', ' order by items.stripe_subscription_item_id
        )
        from billing.subscription_items as items
        left join billing.plans on plans.stripe_price_id = items.stripe_price_id
        left join billing.products on products.stripe_product_id = plans.stripe_product_id
        where items.stripe_subscription_id = subscriptions.stripe_subscription_id
    ) as plans,
    (
        select max(items.current_period_end) from billing.subscription_items as items
        where items.stripe_subscription_id = subscriptions.stripe_subscription_id
    ) as current_period_end
from billing.subscriptions;

create view billing.admin_fraud_warnings with (security_invoker = on) as
select
    warnings.stripe_early_fraud_warning_id, warnings.warned_at, warnings.status, warnings.fraud_type,
    coalesce(warnings.risk_level, payments.risk_level) as risk_level,
    coalesce(warnings.risk_score, payments.risk_score) as risk_score,
    warnings.actionable, warnings.stripe_charge_id, payments.amount, payments.amount_refunded, payments.currency,
    payments.charged_at, payments.is_disputed, payments.is_liability_shifted, warnings.stripe_customer_id,
    warnings.account_id, billing.owner_email(warnings.account_id) as email, accounts.frozen_at,
    array(
        select actions.action || ' ' || actions.status from billing.fraud_actions as actions
        where actions.stripe_early_fraud_warning_id = warnings.stripe_early_fraud_warning_id
            and actions.action not in ('alert', 'note')
        order by actions.id
    ) as actions
from billing.fraud_warnings as warnings
left join billing.payments on payments.stripe_charge_id = warnings.stripe_charge_id
left join billing.accounts on accounts.id = warnings.account_id;

create view billing.admin_disputes with (security_invoker = on) as
select
    disputes.stripe_dispute_id, disputes.disputed_at, disputes.status, disputes.is_open, disputes.needs_response,
    disputes.reason, disputes.amount, disputes.currency, disputes.evidence_due_at, disputes.stripe_charge_id,
    payments.stripe_customer_id, payments.account_id, billing.owner_email(payments.account_id) as email
from billing.disputes
left join billing.payments on payments.stripe_charge_id = disputes.stripe_charge_id;

create view billing.admin_reviews with (security_invoker = on) as
select
    reviews.stripe_review_id, reviews.opened_at, reviews.is_open, reviews.reason, reviews.closed_reason,
    reviews.stripe_charge_id, payments.amount, payments.currency, payments.risk_level, reviews.account_id,
    billing.owner_email(reviews.account_id) as email
from billing.reviews
left join billing.payments on payments.stripe_charge_id = reviews.stripe_charge_id;

create view billing.admin_plans_without_credits with (security_invoker = on) as
select
    plans.stripe_price_id, coalesce(plans.lookup_key, nullif(plans.nickname, ''), products.name) as name,
    subscriptions.stripe_subscription_id, subscriptions.account_id
from billing.subscriptions
join billing.subscription_items as items on items.stripe_subscription_id = subscriptions.stripe_subscription_id
join billing.plans on plans.stripe_price_id = items.stripe_price_id
join billing.products on products.stripe_product_id = plans.stripe_product_id
where subscriptions.status in ('active', 'trialing', 'past_due') and plans.usage_type = 'licensed'
    and plans.initial_credits = 0 and plans.monthly_credits = 0 and plans.trial_credits = 0 and plans.features = '{}';

create view billing.admin_credit_reviews with (security_invoker = on) as
select
    held.id, held.held_at, held.status, held.kind, held.amount, held.description, held.source, held.reference_id,
    held.account_id, billing.owner_email(held.account_id) as email,
    held.matched_account_id, billing.owner_email(held.matched_account_id) as matched_email,
    held.reviewed_at, held.reviewed_by, held.reason
from billing.held_credits as held;

revoke all on
    billing.admin_attention, billing.admin_accounts, billing.admin_customers, billing.admin_subscriptions,
    billing.admin_fraud_warnings, billing.admin_disputes, billing.admin_reviews, billing.admin_credit_reviews,
    billing.admin_plans_without_credits
from public, anon, authenticated, service_role;
grant select on
    billing.admin_attention, billing.admin_accounts, billing.admin_customers, billing.admin_subscriptions,
    billing.admin_fraud_warnings, billing.admin_disputes, billing.admin_reviews, billing.admin_credit_reviews,
    billing.admin_plans_without_credits
to service_role;

comment on view billing.admin_attention is 'How much waits for a person, by kind. Each number is answered from an index of just those rows.';
comment on view billing.admin_accounts is 'Accounts with their owner, status and balance; what is due counts as settled.';
comment on view billing.admin_customers is 'Stripe customers: unlinked, linked, duplicate or dismissed, and how many events wait for each.';
comment on view billing.admin_subscriptions is 'Subscriptions with their owner, plans and end of the current period.';
comment on view billing.admin_fraud_warnings is 'Early fraud warnings with the charge, its risk, the owner and what was done.';
comment on view billing.admin_disputes is 'Disputes with the owner of the payment. Open: not decided yet. needs_response: Stripe waits for an answer.';
comment on view billing.admin_reviews is 'Radar reviews with the payment and its owner.';
comment on view billing.admin_plans_without_credits is 'Live subscriptions whose plan declares neither credits nor features: the customers pay and get nothing here.';
comment on view billing.admin_credit_reviews is 'Initial and trial credits under review because their card was seen on another account; pending until a person decides.';

-- 90_api/94_realtime.sql

-- Balances in Supabase Realtime: a client that subscribes to its own row of billing.credit_balances receives every
-- change.
--
-- Realtime applies the table's row level security to each subscriber. If there is no publication (Realtime is switched
-- off, or this is plain Postgres), or it already has every table, nothing is done.

do $$
begin
    if exists (select from pg_catalog.pg_publication where pubname = 'supabase_realtime' and not puballtables) then
        alter publication supabase_realtime add table billing.credit_balances;
    end if;
end
$$;

-- 90_api/96_pg_cron.sql

-- A clock inside Postgres, if pg_cron is enabled: months are granted and credits expire even while no worker runs.
--
-- Optional, in addition to the worker's own clock: a month is granted once, however many callers run at the same time.
-- New Supabase projects include pg_cron but don't enable it; this file then does nothing, and billing.use_pg_cron()
-- must be called once after enabling it. docs/how-to/schedule.md explains how, and how to stop it.
--
-- Callable by postgres only: a job runs as the role that scheduled it.

create function billing._has_pg_cron()
returns boolean
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select coalesce(has_function_privilege(to_regprocedure('cron.schedule(text, text, text)'), 'execute'), false)
$$;

create function billing.use_pg_cron()
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    -- About 0.25 ms for each account, and the accounts stay locked until the job commits: half a second at most.
    v_accounts_max constant integer := 2000;
    -- Dynamic SQL: a linter would report a function that may not exist.
    v_every_minute constant text := 'select cron.schedule($1, ''* * * * *'', $2)';
begin
    if not billing._has_pg_cron() then
        raise exception 'pg_cron is not enabled in this database, or not for %', current_user
            using errcode = 'feature_not_supported',
                hint = 'Enable it (Supabase: Integrations, Cron), then call this function again as postgres.';
    end if;
    execute v_every_minute using
        'tillbase_allocate', format('select billing.allocate_due_credits(accounts_max => %s)', v_accounts_max);
    execute v_every_minute using
        'tillbase_expire', format('select billing.expire_due_credits(accounts_max => %s)', v_accounts_max);
end
$$;

revoke all on function billing._has_pg_cron, billing.use_pg_cron from public, anon, authenticated, service_role;

do $$
begin
    if billing._has_pg_cron() then
        perform billing.use_pg_cron();
    end if;
end
$$;

comment on function billing.use_pg_cron() is 'Schedules pg_cron jobs that allocate and expire due credits once a minute: tillbase_allocate and tillbase_expire. Safe to call again.';

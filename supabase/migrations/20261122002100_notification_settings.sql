-- What is told to whom, how much of it, and how long it is kept; and the one way into the outbox for what is told below.
--
-- Invariant: customers are told of a kind only if customer_notifications names it.

alter table billing.settings
add column customer_notifications text[] not null default '{}',
add column notification_rate integer not null default 5,
add column notification_window interval not null default '10 minutes',
add column notification_deadline interval not null default '3 days',
add column notification_retention interval not null default '90 days',
add column silence_after interval default '2 days',
add column expiring_credits_notice interval not null default '7 days',
add constraint notification_rate_is_positive check (notification_rate > 0),
add constraint notification_window_is_positive check (notification_window > interval '0'),
add constraint notification_deadline_is_positive check (notification_deadline > interval '0'),
-- Stripe sends an event for three days, and again by hand for thirty: until then a key must be known.
add constraint notifications_are_kept_for_replays check (notification_retention >= interval '30 days'),
add constraint silence_is_an_hour_at_least check (silence_after >= interval '1 hour'),
add constraint expiring_credits_notice_is_positive check (expiring_credits_notice > interval '0');

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

revoke all on function billing._notify from public, anon, authenticated, service_role;

comment on column billing.settings.customer_notifications is 'Kinds of which customers are told by e-mail, such as {payment_failed,low_balance}; none at first.';
comment on column billing.settings.notification_rate is 'The most messages of one kind for one reader in a notification_window; what goes beyond waits, and comes as one digest.';
comment on column billing.settings.notification_window is 'See notification_rate.';
comment on column billing.settings.notification_deadline is 'How long delivery is tried before a notification is dead.';
comment on column billing.settings.notification_retention is 'How long delivered notifications are kept; 30 days at least.';
comment on column billing.settings.silence_after is 'After how long without an event from Stripe administrators are told, while there are subscriptions; null: never.';
comment on column billing.settings.expiring_credits_notice is 'How long before credits expire their owner is told.';

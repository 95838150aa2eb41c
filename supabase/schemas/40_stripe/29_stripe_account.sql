-- The Stripe account whose books these are.
--
-- Invariant: it is noted once, by the first worker whose key is of it, and only its owner changes it. A worker with a key
-- of another account would read 404 where there is an object, and take it for deleted.
--
-- Called by billing_worker.

-- What a key must fit: the account if it is known, the mode, and an event that came with our signature, which only a key
-- of our account can read (Stripe keeps events for thirty days); null where there is none. An event that
-- names an account is no witness: it may be of a connected account, which our key does not see into.
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

-- The account that is noted then.
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

comment on function billing.stripe_account() is 'What a Stripe key must fit: account, mode, and an event that its account has.';
comment on function billing.claim_stripe_account(text) is 'Notes the Stripe account unless one is noted already; the one that is.';

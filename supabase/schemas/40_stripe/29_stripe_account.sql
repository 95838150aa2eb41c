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
            and not stripe_events.stripe_event_id ^@ 'till_'
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

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

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

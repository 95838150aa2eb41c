-- Users who are deleted while a subscription still charges their card → a notification to administrators, and, if the
-- settings say so, a cancellation in Stripe by the worker.
--
-- Invariant: deleting a user never fails because of billing, and waits for it a second at most: if an error occurs here,
-- the deletion succeeds, and enqueue_deleted_users reports it later. Each subscription is reported once. A cancellation
-- is a row of fraud_actions (actor on_user_deleted), once for each subscription: it is done, retried and can be undone as
-- one because of fraud.
--
-- Callable by billing_worker. Private: _report_deleted_user, _report_if_deleted.

-- Reports subscriptions that still charge a card although no user can use them, each once. A subscription that ends with
-- its period is left out, because it charges nothing more.
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

-- Only if the user was deleted. A member who left a team, or an owner who handed it over, still exists.
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

-- Deferred: at the end of the transaction, the owner and all members are deleted.
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

comment on function billing.enqueue_deleted_users() is 'Reports subscriptions of deleted users that still charge a card, each once, and queues their cancellation if settings.on_user_deleted is cancel.';

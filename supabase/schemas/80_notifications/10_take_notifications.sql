-- Handing out notifications that are due, as messages: singly, or as a digest where there are many alike.
--
-- Invariant: one worker takes at a time, and what it took is its own until the lease is over. Of one kind, for one reader
-- (the administrators, or a customer), at most notification_rate messages go out in a notification_window; what goes
-- beyond waits until the window is over, and is one digest then. Costs are those of what is taken, not of what waits.
--
-- Called by billing_worker.

-- Ends what customers are not to be told: the kind is not opted in to, or the time for it has passed.
create function billing._skip_notifications()
returns void
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    update billing.notifications
    set status = judged.status, last_error = judged.reason, next_attempt_at = null
    from (
        select
            notifications.id,
            case when is_wanted then 'dead' else 'skipped' end as status,
            case when is_wanted then 'not sent in time: is TILLBASE_CUSTOMER_MAIL_URL set, and the worker running?'
                else 'settings.customer_notifications does not name this kind' end as reason
        from billing.notifications
        cross join billing.settings
        cross join lateral (select notifications.kind = any (settings.customer_notifications) as is_wanted) as opted
        where notifications.audience = 'customer' and notifications.next_attempt_at <= now()
            and notifications.status = 'queued' and (
                not is_wanted
                or notifications.attempts = 0 and notifications.next_attempt_at < now() - settings.notification_deadline
            )
        order by notifications.next_attempt_at
        limit 10000
        for update of notifications skip locked
    ) as judged
    where notifications.id = judged.id
$$;

-- Makes one digest of what is alike and due, or lets it wait, where there is more than may go out singly. `first` is the
-- one of them that is told of first.
create function billing._digest_notifications(first billing.notifications)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_first billing.notifications := _digest_notifications.first;
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
    select array_agg(notifications.id) into v_ids from billing.notifications
    where notifications.kind = v_first.kind and notifications.reader = v_first.reader
        and notifications.status = 'queued' and notifications.attempts = 0 and notifications.digest_id is null
        and notifications.next_attempt_at <= now();

    if v_sent + cardinality(v_ids) <= v_rate then
        return;
    elsif v_sent >= v_rate then
        update billing.notifications set next_attempt_at = v_free_at
        where notifications.id = any (v_ids) and notifications.status = 'queued';
    elsif cardinality(v_ids) > 1 then
        update billing.notifications
        set digest_id = v_first.id,
            digest_size = case when notifications.id = v_first.id then cardinality(v_ids) end,
            status = case when notifications.id = v_first.id then 'queued' else 'digested' end,
            next_attempt_at = case when notifications.id = v_first.id then notifications.next_attempt_at end
        where notifications.id = any (v_ids) and notifications.status = 'queued';
    end if;
end
$$;

-- audiences: those that the worker can reach. email: where the owner of the account reads mail now. first: payloads of the
-- first few that a digest stands for.
create function billing.take_notifications(messages_max integer, lease_seconds integer, audiences text[])
returns table (
    id bigint, audience text, kind text, account_id uuid, payload jsonb, attempts integer, delivered_to text[],
    digest_size integer, first jsonb, email text, created_at timestamptz
)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_ids bigint[];
    v_first billing.notifications;
begin
    if not exists (
        select from billing.notifications
        where notifications.audience = any (take_notifications.audiences || array['customer'])
            and notifications.next_attempt_at <= now()
    ) or not pg_try_advisory_xact_lock(hashtextextended('billing.notifications', 0)) then
        return;
    end if;
    perform billing._skip_notifications();
    select array_agg(due.id) into v_ids from (
        select notifications.id from billing.notifications
        where notifications.audience = any (take_notifications.audiences) and notifications.next_attempt_at <= now()
        order by notifications.next_attempt_at, notifications.id
        limit take_notifications.messages_max
    ) as due;
    for v_first in
        select distinct on (notifications.kind, notifications.reader) notifications.*
        from billing.notifications
        where notifications.id = any (v_ids) and notifications.attempts = 0 and notifications.digest_id is null
        order by notifications.kind, notifications.reader, notifications.id
    loop
        perform billing._digest_notifications(v_first);
    end loop;

    return query
    with due as (
        select notifications.id from billing.notifications
        where notifications.id = any (v_ids) and notifications.next_attempt_at <= now()
        for update skip locked
    ),
    taken as (
        update billing.notifications
        set status = 'sending', attempts = notifications.attempts + 1,
            first_attempt_at = coalesce(notifications.first_attempt_at, now()),
            next_attempt_at = now() + make_interval(secs => take_notifications.lease_seconds)
        from due where notifications.id = due.id
        returning notifications.*
    )
    select
        taken.id, taken.audience, taken.kind, taken.account_id, taken.payload, taken.attempts, taken.delivered_to,
        taken.digest_size,
        (
            select jsonb_agg(members.payload order by members.id) from (
                select told.id, told.payload from billing.notifications as told
                where told.digest_id = taken.id
                order by told.id
                limit 5
            ) as members
        ),
        case taken.audience when 'customer' then users.email::text end, taken.created_at
    from taken
    left join billing.accounts on accounts.id = taken.account_id
    left join auth.users on users.id = accounts.owner_id
    order by taken.id;
end
$$;

revoke all on function
    billing._skip_notifications, billing._digest_notifications, billing.take_notifications
from public, anon, authenticated, service_role;
grant execute on function billing.take_notifications(integer, integer, text[]) to billing_worker;

comment on function billing.take_notifications(integer, integer, text[]) is 'Messages that are due for these audiences, taken by the caller for lease_seconds.';

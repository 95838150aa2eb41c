-- Jobs of notifications → messages: one for each, or a digest of many.
--
-- Invariant: at most notification_rate messages of one kind are sent to one reader (the administrators, or a customer) in a
-- notification_window. Further notifications wait until the window is over and are then one digest. For one kind and reader,
-- workers decide one after the other.
--
-- Called by billing_worker.

-- Ends notifications that customers must not receive: their kind is not enabled, or their deadline has passed. ids null: all.
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

-- Also called if no worker can reach customers.
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

-- If there are more notifications of a kind for a reader than may be sent, makes one digest of them or postpones them.
-- `first` is the earliest.
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

-- The notifications of these jobs that are sent now. email: the current address of the account's owner. first: payloads of
-- the first few notifications of a digest.
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
        -- After the lock, the decision of another worker for this kind and reader is visible.
        perform pg_advisory_xact_lock(
            hashtextextended(format('billing.notifications:%s:%s', v_reader.kind, v_reader.reader), 0)
        );
        select * into v_first from billing.notifications
        where notifications.id = any (v_ids) and notifications.kind = v_reader.kind
            and notifications.reader = v_reader.reader and notifications.status = 'queued'
            and notifications.attempts = 0 and notifications.digest_id is null
        order by notifications.id
        limit 1
        -- Locked, so that skip_notifications passes it over while others become part of its digest.
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
        -- Notifications that were postponed, or became part of a digest, no longer have a job in hand.
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

comment on function billing.skip_notifications() is 'Ends notifications that customers must not receive: their kind is not enabled, or settings.notification_deadline has passed.';
comment on function billing.begin_notifications(bigint[], text[]) is 'Messages to send now, of the jobs that the caller took.';

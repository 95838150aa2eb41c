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

-- The outcome of a message, the retry of a dead one, and the deletion of old delivered ones.
--
-- Invariant: a delivered notification stays delivered. Only the worker that has the message in hand can record a failure,
-- not one with an expired lease. All rows of a digest have the outcome of its first row, which has the message.

-- status: delivered, queued (retried in retry_in_seconds; dead if the deadline has passed), skipped or dead. attempts: the
-- value when it was begun. delivered_to: the channels that accepted it in this attempt. Returns the new status, null if
-- another worker has recorded one.
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
    elsif not exists (
        select from billing.notifications
        where notifications.id = record_notification.notification_id and notifications.status in ('queued', 'sending')
    ) then
        -- A worker that lost its session, and this job with it, has recorded the message meanwhile.
        perform billing._end_job(record_notification.msg_id, null, null);
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

-- Deleting a digest's first row deletes its other rows.
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

comment on function billing.record_notification(bigint, bigint, integer, text[], text, integer, text) is 'Records the outcome of a message: delivered, queued again, skipped or dead. Returns its status, or null if another worker has it.';
comment on function billing.retry_notification(bigint) is 'Queues a dead or skipped notification again; any other is unchanged. Returns the status.';
comment on function billing.prune_notifications(integer) is 'Deletes up to rows_max delivered or skipped notifications that are older than settings.notification_retention.';

-- What became of a message, a second chance for one that is dead, and the end of what was delivered long ago.
--
-- Invariant: what was delivered stays so. A failure is believed to the worker that has the message in hand, no longer to
-- one whose lease is over. A digest's rows share the fate of the one that has its message.

-- status: delivered, queued (again in retry_in_seconds; dead once the deadline has passed), skipped or dead. attempts: as
-- it was begun. delivered_to: the channels that took it in this attempt. Returns the status that it has then.
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

-- The rows of a digest go with it.
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

comment on function billing.record_notification(bigint, bigint, integer, text[], text, integer, text) is 'What became of a message that was begun: delivered, queued again, skipped or dead. Returns its status, null where somebody else has it.';
comment on function billing.retry_notification(bigint) is 'Queues a notification that is dead or was skipped once more; any other is left alone. Returns the status.';
comment on function billing.prune_notifications(integer) is 'Deletes up to rows_max notifications that were delivered, or skipped, longer ago than settings.notification_retention.';

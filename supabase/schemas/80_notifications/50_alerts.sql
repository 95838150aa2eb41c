-- Alerts: what is wrong with the installation as a whole, from when it is noticed until it is over.
--
-- Invariant: of each kind and subject one alert is open at a time, and administrators are notified when it opens. So a
-- situation that lasts is reported once, and again if it comes back.
--
-- What no worker can send is also posted by the database itself, by pg_net, where that is enabled and
-- settings.alert_webhook_url is set. What is posted has neither secrets nor personal data.
--
-- Private: opened and ended by the functions that watch. service_role reads the table.

create table billing.alerts (
    id bigint generated always as identity primary key,
    kind billing.notification_kind not null,
    subject text not null default '',
    payload jsonb not null default '{}',
    began_at timestamptz not null default now(),
    ended_at timestamptz,
    constraint payload_is_an_object check (jsonb_typeof(payload) = 'object'),
    constraint alerts_end_after_they_begin check (ended_at >= began_at)
);

create unique index alerts_open on billing.alerts (kind, subject) where ended_at is null;

alter table billing.alerts enable row level security;

revoke all on all sequences in schema billing from public, anon, authenticated, service_role;
revoke all on billing.alerts from public, anon, authenticated, service_role;
grant select on billing.alerts to service_role;

-- Returns true if it was not open.
create function billing._open_alert(kind text, subject text, payload jsonb)
returns boolean
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_id bigint;
begin
    insert into billing.alerts (kind, subject, payload)
    values (_open_alert.kind, _open_alert.subject, _open_alert.payload)
    on conflict do nothing
    returning alerts.id into v_id;
    if v_id is null then
        return false;
    end if;
    perform billing._notify(
        null, 'administrators', _open_alert.kind, format('%s:%s', _open_alert.kind, v_id), _open_alert.payload
    );
    return true;
end
$$;

-- Ends the open alerts of a kind, except for these subjects. Returns those that it ended.
create function billing._end_alerts(kind text, except_subjects text[] default '{}')
returns setof billing.alerts
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    update billing.alerts set ended_at = now()
    where alerts.kind = _end_alerts.kind and alerts.ended_at is null
        and alerts.subject <> all (_end_alerts.except_subjects)
    returning alerts.*;
end
$$;

create function billing._has_pg_net()
returns boolean
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select coalesce(
        has_function_privilege(to_regprocedure('net.http_post(text, jsonb, jsonb, jsonb, integer)'), 'execute'), false
    )
$$;

-- Sent after the commit, and not repeated. The name tells apart several installations that post to one channel.
create function billing._post_alert(message text)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_url text;
    v_name text;
begin
    select
        settings.alert_webhook_url,
        format(
            'Tillbase, %s, %s mode',
            coalesce(billing._origin_of(settings.site_url), settings.stripe_account_id, current_database()),
            case when settings.livemode then 'live' else 'test' end
        )
    into v_url, v_name from billing.settings;
    if v_url is null or not billing._has_pg_net() then
        return;
    end if;
    -- Dynamic SQL, put together here: `supabase db lint` would report a function that may not exist.
    execute format('select %s(url => $1, body => $2)', 'net.http_post')
    using v_url, jsonb_build_object('text', format('%s: %s', v_name, _post_alert.message));
exception when others then
    -- The message of the error may have the URL.
    raise warning 'the alert could not be posted by pg_net (%)', sqlstate;
end
$$;

revoke all on function billing._open_alert, billing._end_alerts, billing._has_pg_net, billing._post_alert
from public, anon, authenticated, service_role;

comment on table billing.alerts is 'Situations of the whole installation that need a person: open ones have no ended_at.';
comment on column billing.alerts.subject is 'What it is about, such as a price; empty where there can be only one.';

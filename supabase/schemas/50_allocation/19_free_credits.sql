-- Free credits without a subscription: rules, and for each account when it is due for which.
--
-- Invariant: an account gets a rule's credits once for each period: once at all, or each calendar day, week or month in UTC.
-- Of a rule that is once_per_person, one account of a person gets them: a person is a confirmed e-mail address without its
-- alias (or a confirmed phone number), and the first account that was granted keeps it. If that account's user is deleted,
-- another account of the person goes on, without the period that was granted.
--
-- free_credits          the rules, written by set_free_credits (`till plans push`). Never deleted: an ended rule is not active
-- free_credit_slots     accounts and rules: the last granted period, and when the next one is due
-- free_credit_persons   which account is a person's; a hash, because it outlives the address
-- Only functions write; service_role reads. 43_grant_free_credits grants what is due.

create table billing.free_credits (
    name text primary key,
    credits billing.positive_credits not null,
    every text not null,
    expires text not null,
    description text not null,
    until_subscribed boolean not null,
    once_per_person boolean not null,
    for_accounts_since timestamptz,
    active boolean not null,
    valid_from timestamptz not null,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint name_is_a_word check (name ~ '^[a-z][a-z0-9_]{0,62}$'),
    constraint every_is_known check (every in ('once', 'day', 'week', 'month')),
    constraint expires_is_known check (expires ~ '^(period_end|never|[1-9][0-9]{0,3} (day|week|month|year)s?)$'),
    constraint credits_granted_once_have_no_period check (every <> 'once' or expires <> 'period_end'),
    constraint description_has_1_to_200_characters check (length(description) between 1 and 200)
);

create table billing.free_credit_slots (
    rule text not null references billing.free_credits (name),
    account_id uuid not null references billing.accounts (id),
    granted_for timestamptz,
    granted billing.credits not null default 0,
    next_at timestamptz,
    primary key (account_id, rule)
);

create index free_credit_slots_due on billing.free_credit_slots (next_at) where next_at is not null;
create index free_credit_slots_rule on billing.free_credit_slots (rule);

create table billing.free_credit_persons (
    rule text not null references billing.free_credits (name),
    person text not null,
    account_id uuid not null references billing.accounts (id),
    created_at timestamptz not null default now(),
    primary key (rule, person)
);

create index free_credit_persons_account on billing.free_credit_persons (account_id);

alter table billing.free_credits enable row level security;
alter table billing.free_credit_slots enable row level security;
alter table billing.free_credit_persons enable row level security;

revoke all on billing.free_credits, billing.free_credit_slots, billing.free_credit_persons
from public, anon, authenticated, service_role;
grant select on billing.free_credits, billing.free_credit_slots, billing.free_credit_persons to service_role;

-- A person by a confirmed address: without what follows a plus, and of Gmail also without dots, because all of these are
-- one mailbox. Without one, by a confirmed phone number; null: neither is confirmed.
create function billing._person_of(
    email text, email_confirmed_at timestamptz, phone text, phone_confirmed_at timestamptz
)
returns text
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_parts text[];
begin
    if _person_of.email_confirmed_at is not null and _person_of.email <> '' then
        v_parts := regexp_match(lower(btrim(_person_of.email)), '^([^+]+).*@([^@]+)$');
        if v_parts is null then
            v_parts := array[lower(_person_of.email), ''];
        elsif v_parts[2] in ('gmail.com', 'googlemail.com') then
            v_parts := array[replace(v_parts[1], '.', ''), 'gmail.com'];
        end if;
    elsif _person_of.phone_confirmed_at is not null and _person_of.phone <> '' then
        v_parts := array['phone', _person_of.phone];
    else
        return null;
    end if;
    return encode(sha256(convert_to(v_parts[1] || '@' || v_parts[2], 'UTF8')), 'hex');
end
$$;

-- The start of the running period, as of a budget; of credits granted once, the beginning of time.
create function billing._free_period(every text, moment timestamptz)
returns timestamptz
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return case _free_period.every
        when 'once' then '-infinity' else billing.period_start(_free_period.every, _free_period.moment)
    end;
end
$$;

-- The start of the period after it; null: there is none.
create function billing._next_free_period(every text, period timestamptz)
returns timestamptz
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return case when _next_free_period.every <> 'once'
        then billing.period_end(_next_free_period.every, _next_free_period.period)
    end;
end
$$;

-- When credits expire that a rule grants at a time, for a period; null: never.
create function billing._free_expiry(rule billing.free_credits, period timestamptz, granted_at timestamptz)
returns timestamptz
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return case (_free_expiry.rule).expires
        when 'never' then null
        when 'period_end' then billing._next_free_period((_free_expiry.rule).every, _free_expiry.period)
        else (
            _free_expiry.granted_at at time zone 'utc' + (_free_expiry.rule).expires::interval
        ) at time zone 'utc'
    end;
end
$$;

-- The business key of a period's credits. By to_char, which no session's date style changes.
create function billing._free_key(rule text, account_id uuid, period timestamptz)
returns text
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    return 'free_credits:' || _free_key.rule || ':' || _free_key.account_id || ':' || case
        when _free_key.period = '-infinity' then 'once'
        else to_char(_free_key.period at time zone 'utc', 'YYYY-MM-DD')
    end;
end
$$;

-- Personal accounts, as a rule sees them: the person, if the rule asks for one, why it grants nothing (null: it does), and
-- the account's slot. By indexes, from the accounts on, whatever the statistics say.
create function billing._free_candidates(rule billing.free_credits, account_ids uuid[])
returns table (account_id uuid, person text, reason text, granted_for timestamptz, next_at timestamptz)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set enable_hashjoin = off
set enable_mergejoin = off
set enable_seqscan = off
set plan_cache_mode = force_generic_plan
as $$
declare
    v_livemode boolean := billing.is_livemode();
begin
    return query
    select accounts.id, found.person, case
        when users.id is null or users.deleted_at is not null then 'no_user'
        when accounts.closed_at is not null then 'closed'
        when accounts.frozen_at is not null then 'frozen'
        when users.banned_until > now() then 'banned'
        when accounts.created_at < (_free_candidates.rule).for_accounts_since then 'too_old'
        when found.person is null and (_free_candidates.rule).once_per_person then 'unconfirmed'
        when (_free_candidates.rule).until_subscribed and exists (
            select from billing.subscriptions
            where subscriptions.account_id = accounts.id and subscriptions.livemode = v_livemode
                and subscriptions.status in ('active', 'trialing', 'past_due')
        ) then 'subscribed'
    end, slots.granted_for, slots.next_at
    from unnest(_free_candidates.account_ids) as wanted (id)
    join billing.accounts on accounts.id = wanted.id
    left join auth.users on users.id = accounts.owner_id
    left join billing.free_credit_slots as slots
        on slots.account_id = accounts.id and slots.rule = (_free_candidates.rule).name
    cross join lateral (
        select case when (_free_candidates.rule).once_per_person then billing._person_of(
            users.email, users.email_confirmed_at, users.phone, users.phone_confirmed_at
        ) end as person
        offset 0  -- or it would be worked out twice
    ) as found
    where accounts.kind = 'personal';
end
$$;

-- Accounts (null: all) become due for a rule. Those that already are, or were, stay as they are.
create function billing._schedule_free_credits(rule billing.free_credits, account_ids uuid[])
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_since timestamptz := coalesce((_schedule_free_credits.rule).for_accounts_since, '-infinity');
begin
    if _schedule_free_credits.account_ids is null then
        insert into billing.free_credit_slots (rule, account_id, next_at)
        select (_schedule_free_credits.rule).name, accounts.id, '-infinity' from billing.accounts
        where accounts.kind = 'personal' and accounts.owner_id is not null and accounts.created_at >= v_since
        on conflict do nothing;
    else
        insert into billing.free_credit_slots (rule, account_id, next_at)
        select (_schedule_free_credits.rule).name, accounts.id, '-infinity'
        from unnest(_schedule_free_credits.account_ids) as wanted (id)
        join billing.accounts on accounts.id = wanted.id
        where accounts.kind = 'personal' and accounts.owner_id is not null and accounts.created_at >= v_since
        on conflict do nothing;
    end if;
end
$$;

create function billing.end_free_credits(name text)
returns billing.free_credits
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_rule billing.free_credits;
begin
    update billing.free_credits set active = false, updated_at = now()
    where free_credits.name = end_free_credits.name
    returning * into v_rule;
    if not found then
        raise exception 'there are no free credits %', coalesce(end_free_credits.name, 'null')
            using errcode = 'TB112', hint = 'billing.free_credits lists them.';
    end if;
    update billing.free_credit_slots set next_at = null
    where free_credit_slots.rule = v_rule.name and free_credit_slots.next_at is not null;
    return v_rule;
end
$$;

create function billing.set_free_credits(
    name text,
    credits numeric,
    every text,
    expires text default null,
    description text default 'Free credits',
    until_subscribed boolean default false,
    once_per_person boolean default true,
    for_accounts_since timestamptz default null,
    active boolean default true
)
returns billing.free_credits
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_before billing.free_credits;
    v_rule billing.free_credits;
    v_constraint text;
begin
    select * into v_before from billing.free_credits
    where free_credits.name = set_free_credits.name
    for no key update;  -- which lets users sign up
    if v_before.every <> set_free_credits.every then
        raise exception 'free credits % are granted by %, which cannot change to %', v_before.name, v_before.every,
            set_free_credits.every
            using errcode = 'TB110', hint = 'End them (active false), and add a rule with another name.';
    end if;
    insert into billing.free_credits (
        name, credits, every, expires, description, until_subscribed, once_per_person, for_accounts_since, active,
        valid_from
    )
    values (
        set_free_credits.name, billing._checked_amount(set_free_credits.credits), set_free_credits.every,
        coalesce(set_free_credits.expires, case when set_free_credits.every = 'once' then 'never' else 'period_end' end),
        set_free_credits.description, set_free_credits.until_subscribed, set_free_credits.once_per_person,
        set_free_credits.for_accounts_since, set_free_credits.active, billing.current_time()
    )
    on conflict on constraint free_credits_pkey do update
    set credits = excluded.credits,
        expires = excluded.expires,
        description = excluded.description,
        until_subscribed = excluded.until_subscribed,
        once_per_person = excluded.once_per_person,
        for_accounts_since = excluded.for_accounts_since,
        active = excluded.active,
        valid_from = case when excluded.active and not free_credits.active then excluded.valid_from
            else free_credits.valid_from end,
        updated_at = now()
    returning * into v_rule;
    if not v_rule.active then
        return billing.end_free_credits(v_rule.name);
    elsif not v_before.active then
        -- It grants the running period, unless that was granted before it ended.
        update billing.free_credit_slots set next_at = '-infinity' where free_credit_slots.rule = v_rule.name;
    end if;
    perform billing._schedule_free_credits(v_rule, null);
    return v_rule;
exception when check_violation or not_null_violation then
    get stacked diagnostics v_constraint = constraint_name;
    raise exception 'invalid rule of free credits %: %', coalesce(set_free_credits.name, 'null'),
        coalesce(replace(nullif(v_constraint, ''), '_', ' '), sqlerrm)
        using errcode = 'TB111', hint = 'See docs/how-to/free-credits.md for what a rule may say.';
end
$$;

revoke all on function
    billing._person_of, billing._free_period, billing._next_free_period, billing._free_expiry, billing._free_key,
    billing._free_candidates, billing._schedule_free_credits, billing.end_free_credits, billing.set_free_credits
from public, anon, authenticated, service_role;
grant execute on function
    billing.end_free_credits(text),
    billing.set_free_credits(text, numeric, text, text, text, boolean, boolean, timestamptz, boolean)
to service_role;

comment on table billing.free_credits is 'Rules of free credits without a subscription.';
comment on column billing.free_credits.every is 'once, or each calendar day, week (from Monday) or month, in UTC.';
comment on column billing.free_credits.expires is 'period_end, never, or a time after the grant such as "30 days".';
comment on column billing.free_credits.description is 'The description of the entries, which users read.';
comment on column billing.free_credits.until_subscribed is 'True if accounts with a subscription (active, trialing or past due) get none while it lasts.';
comment on column billing.free_credits.once_per_person is 'True if one account of a person gets them, by a confirmed address. False: each personal account, confirmed or not.';
comment on column billing.free_credits.for_accounts_since is 'Accounts that were created before this time get none; null: all accounts do.';
comment on column billing.free_credits.active is 'False: the rule has ended. What was granted stays.';
comment on column billing.free_credits.valid_from is 'When the rule was added, or last made active.';
comment on table billing.free_credit_slots is 'Which rules an account is due for, and what it was granted.';
comment on column billing.free_credit_slots.granted_for is 'Start of the last granted period; -infinity for credits granted once; null: none was granted yet.';
comment on column billing.free_credit_slots.granted is 'Credits of that period.';
comment on column billing.free_credit_slots.next_at is 'When the rule looks at the account next: at the start of the next period, or the next day if it granted nothing. -infinity: at once; null: never.';
comment on table billing.free_credit_persons is 'Which account of a person gets a rule''s credits.';
comment on column billing.free_credit_persons.person is 'A hash of the confirmed e-mail address without its alias, or of the phone number.';
comment on function billing.set_free_credits(text, numeric, text, text, text, boolean, boolean, timestamptz, boolean) is 'Adds or changes a rule of free credits. Changes count from the next period; active false ends the rule. Existing accounts get the running period''s credits with the next run of the clock.';
comment on function billing.end_free_credits(text) is 'Ends a rule of free credits. What it granted stays.';

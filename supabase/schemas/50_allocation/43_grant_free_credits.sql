-- Free credits that are due → the ledger, in sets; at once for a new account and a confirmed address.
--
-- Invariant: each account and period once, by its business key and under the lock of the balance. Only the running period is
-- granted, never one that was missed. A sign-up never fails because of it: the clock grants what could not be granted then.
-- Private; called by allocate_due_credits and by triggers.
--
-- Credits of a person whose card was seen on another account before follow settings.seen_card_policy, as initial credits do:
-- the first period is set aside for review, and the later ones wait for its outcome.

-- True if a person's account keeps the person from others: its user still exists, it is frozen, or it was granted the period.
-- Volatile, so that it sees what was committed while the claim waited for another one.
create function billing._keeps_person(rule text, account_id uuid, period timestamptz)
returns boolean
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    return exists (
        select from billing.accounts
        left join auth.users on users.id = accounts.owner_id
        where accounts.id = _keeps_person.account_id
            and (users.id is not null and users.deleted_at is null or accounts.frozen_at is not null)
    ) or exists (
        select from billing.free_credit_slots
        where free_credit_slots.account_id = _keeps_person.account_id and free_credit_slots.rule = _keeps_person.rule
            and free_credit_slots.granted_for >= _keeps_person.period
    );
end
$$;

-- Claims the persons of accounts. Returns the accounts that have theirs.
create function billing._claim_persons(rule text, account_ids uuid[], persons text[], period timestamptz)
returns uuid[]
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set plan_cache_mode = force_generic_plan
as $$
begin
    -- Subqueries, which are one look-up for each row, whatever the statistics say.
    insert into billing.free_credit_persons as held (rule, person, account_id)
    select distinct on (wanted.person) _claim_persons.rule, wanted.person, wanted.account_id
    from unnest(_claim_persons.account_ids, _claim_persons.persons) as wanted (account_id, person)
    where wanted.account_id is distinct from (
        select mine.account_id from billing.free_credit_persons as mine
        where mine.rule = _claim_persons.rule and mine.person = wanted.person
    )
    order by
        wanted.person,
        (select accounts.created_at from billing.accounts where accounts.id = wanted.account_id),
        wanted.account_id
    on conflict on constraint free_credit_persons_pkey do update
    set account_id = excluded.account_id
    where not billing._keeps_person(held.rule, held.account_id, _claim_persons.period);
    return array(
        select wanted.account_id
        from unnest(_claim_persons.account_ids, _claim_persons.persons) as wanted (account_id, person)
        where wanted.account_id = (
            select mine.account_id from billing.free_credit_persons as mine
            where mine.rule = _claim_persons.rule and mine.person = wanted.person
        )
    );
end
$$;

-- Whether a card of an account was seen on another account before: clear (it was not), aside (this period's credits are now
-- under review), or waiting. One review decides for all periods: an approved card no longer counts, and until it is
-- approved, later periods grant nothing.
create function billing._review_free_credits(
    rule billing.free_credits, account_id uuid, key text, expires_at timestamptz
)
returns text
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_seen billing.card_fingerprints := billing._seen_card(_review_free_credits.account_id, billing.current_time());
    v_held billing.held_credits;
begin
    if v_seen.card_fingerprint is null then
        return 'clear';
    elsif exists (
        select from billing.held_credits
        where held_credits.account_id = _review_free_credits.account_id and held_credits.kind = 'free'
            and held_credits.reference_id = (_review_free_credits.rule).name and held_credits.status <> 'approved'
    ) then
        return 'waiting';
    end if;
    v_held.account_id := _review_free_credits.account_id;
    v_held.kind := 'free';
    v_held.amount := (_review_free_credits.rule).credits;
    v_held.card_fingerprint := v_seen.card_fingerprint;
    v_held.matched_account_id := v_seen.account_id;
    v_held.idempotency_key := _review_free_credits.key;
    v_held.source := 'free';
    v_held.reference_id := (_review_free_credits.rule).name;
    v_held.description := (_review_free_credits.rule).description;
    v_held.expires_at := _review_free_credits.expires_at;
    perform billing._set_aside(v_held);
    return 'aside';
end
$$;

-- Posts a rule's credits for accounts whose balances are locked, as one set; accounts that owe something one by one. What an
-- account has already is not posted again.
-- Returns the accounts that have them; those without room for more are left out.
create function billing._post_free_credits(
    rule billing.free_credits, account_ids uuid[], period timestamptz, expires_at timestamptz
)
returns uuid[]
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set enable_hashjoin = off
set enable_mergejoin = off
set enable_seqscan = off
set plan_cache_mode = force_generic_plan
as $$
declare
    v_rule billing.free_credits := _post_free_credits.rule;
    v_now timestamptz := billing.current_time();
    v_done uuid[];
    v_balances billing.credit_balances[];
    v_entries billing.credit_entries[];
    v_lots billing.credit_grants[];
    v_other billing.credit_balances;
begin
    with fresh as (
        select nextval('billing.credit_entries_id_seq') as entry_id, balances as locked, balances.account_id, keys.key
        from unnest(_post_free_credits.account_ids) as wanted (account_id)
        join billing.credit_balances as balances on balances.account_id = wanted.account_id
        cross join lateral (
            select billing._free_key(v_rule.name, balances.account_id, _post_free_credits.period) as key
            offset 0  -- or it would be worked out twice
        ) as keys
        where balances.debt = 0 and balances.withheld = 0 and balances.balance <= 4611686018427387904
            and v_rule.credits <= 4611686018427387904
            -- An account that has them already, even if its slot says otherwise, must not stop the others.
            and not exists (
                select from billing.credit_grants
                where credit_grants.key_space = 'stripe' and credit_grants.idempotency_key = keys.key
            )
    )
    select
        array_agg(fresh.account_id),
        array_agg(billing._moved(fresh.locked, v_rule.credits, _post_free_credits.expires_at)),
        array_agg(billing._entry(
            id => fresh.entry_id, account_id => fresh.account_id, kind => 'grant', amount => v_rule.credits,
            balance_after => (fresh.locked).balance + v_rule.credits, source => 'free', reference_id => v_rule.name,
            description => v_rule.description, key_space => 'stripe', idempotency_key => fresh.key, occurred_at => v_now
        )),
        array_agg(billing._lot(
            entry_id => fresh.entry_id, account_id => fresh.account_id, amount => v_rule.credits,
            effective_at => v_now, expires_at => _post_free_credits.expires_at, source => 'free',
            reference_id => v_rule.name, key_space => 'stripe', idempotency_key => fresh.key
        ))
    into v_done, v_balances, v_entries, v_lots
    from fresh;
    if v_done is not null then
        perform billing._write_entries(v_balances, v_entries, v_lots, '{}');
    end if;

    for v_other in
        select balances.* from (
            select unnest(_post_free_credits.account_ids) as account_id except select unnest(v_done)
        ) as wanted
        join billing.credit_balances as balances on balances.account_id = wanted.account_id
        order by balances.account_id
    loop
        continue when v_rule.credits > 9223372036854775807 - greatest(v_other.balance, 0);
        perform billing._grant_credits(
            account_id => v_other.account_id, amount => v_rule.credits, key_space => 'stripe',
            idempotency_key => billing._free_key(v_rule.name, v_other.account_id, _post_free_credits.period),
            source => 'free', reference_id => v_rule.name, description => v_rule.description,
            expires_at => _post_free_credits.expires_at
        );
        v_done := v_done || v_other.account_id;
    end loop;
    return coalesce(v_done, '{}');
end
$$;

-- Grants what accounts are due for by one rule, and says when it looks at them next. The caller has locked the rule and the
-- balances. Returns how many slots were looked at, and how many granted something.
create function billing._grant_free_credits(
    rule billing.free_credits, account_ids uuid[], as_of timestamptz, out slots_due bigint, out slots_granted bigint
)
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set enable_hashjoin = off
set enable_mergejoin = off
set enable_seqscan = off
set plan_cache_mode = force_generic_plan
as $$
declare
    v_rule billing.free_credits := _grant_free_credits.rule;
    v_now timestamptz := billing.current_time();
    v_period timestamptz := billing._free_period(v_rule.every, v_now);
    v_expires_at timestamptz := billing._free_expiry(v_rule, v_period, v_now);
    v_due_ids uuid[];
    v_ids uuid[];
    v_persons text[];
    v_claimed_ids uuid[];
    v_over_ids uuid[];
    v_aside_ids uuid[];
    v_done_ids uuid[];
begin
    select
        array_agg(due.account_id),
        array_agg(due.account_id) filter (where due.reason is null and due.is_open),
        array_agg(due.person) filter (where due.reason is null and due.is_open),
        array_agg(due.account_id) filter (where due.reason = 'no_user')
    into v_due_ids, v_ids, v_persons, v_over_ids
    from (
        select candidates.*, coalesce(candidates.granted_for < v_period, true) as is_open
        from billing._free_candidates(v_rule, _grant_free_credits.account_ids) as candidates
        where candidates.next_at <= _grant_free_credits.as_of
    ) as due;
    slots_due := coalesce(cardinality(v_due_ids), 0);
    slots_granted := 0;
    if slots_due = 0 then
        return;
    end if;

    if v_rule.once_per_person and v_ids is not null then
        v_claimed_ids := billing._claim_persons(v_rule.name, v_ids, v_persons, v_period);
        if v_rule.every = 'once' then
            v_over_ids := v_over_ids || array(select unnest(v_ids) except select unnest(v_claimed_ids));
        end if;
        v_ids := v_claimed_ids;
        if billing._seen_card_policy() <> 'grant' then
            select
                array_agg(reviewed.account_id) filter (where reviewed.outcome = 'clear'),
                array_agg(reviewed.account_id) filter (where reviewed.outcome = 'aside')
            into v_ids, v_aside_ids
            from (
                select wanted.account_id, case
                    when exists (
                        select from billing.card_fingerprints
                        where card_fingerprints.account_id = wanted.account_id
                    ) then billing._review_free_credits(
                        v_rule, wanted.account_id, billing._free_key(v_rule.name, wanted.account_id, v_period),
                        v_expires_at
                    )
                    else 'clear'
                end as outcome
                from unnest(v_ids) as wanted (account_id)
            ) as reviewed;
        end if;
    end if;
    if cardinality(v_ids) > 0 then
        v_done_ids := billing._post_free_credits(v_rule, v_ids, v_period, v_expires_at);
        slots_granted := cardinality(v_done_ids);
    end if;
    v_done_ids := v_done_ids || v_aside_ids;

    update billing.free_credit_slots
    set granted_for = v_period, granted = v_rule.credits,
        next_at = billing._next_free_period(v_rule.every, v_period)
    from unnest(v_done_ids) as done (account_id)
    where free_credit_slots.account_id = done.account_id and free_credit_slots.rule = v_rule.name;
    update billing.free_credit_slots set next_at = null
    from unnest(v_over_ids) as over (account_id)
    where free_credit_slots.account_id = over.account_id and free_credit_slots.rule = v_rule.name;
    -- It may grant something tomorrow; unless it was granted already, before the clock was set back.
    update billing.free_credit_slots
    set next_at = case
        when free_credit_slots.granted_for >= v_period then billing._next_free_period(v_rule.every, v_period)
        else billing._next_free_period('day', billing._free_period('day', v_now))
    end
    from (
        select unnest(v_due_ids) as account_id except select unnest(v_done_ids) except select unnest(v_over_ids)
    ) as others
    where free_credit_slots.account_id = others.account_id and free_credit_slots.rule = v_rule.name;
end
$$;

-- Accounts that signed up while a rule was added: neither transaction saw the other.
create function billing._schedule_new_accounts()
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    perform billing._schedule_free_credits(free_credits, array(
        select accounts.id from billing.accounts
        where accounts.created_at > free_credits.updated_at - interval '10 minutes' and not exists (
            select from billing.free_credit_slots as slots
            where slots.account_id = accounts.id and slots.rule = free_credits.name
        )
    ))
    from billing.free_credits
    where free_credits.active and free_credits.updated_at > now() - interval '10 minutes';
end
$$;

-- Grants what is due by all rules. Accounts that another transaction has locked are left for the next call.
create function billing._allocate_free_credits(
    as_of timestamptz, accounts_max integer, out accounts bigint, out slots_granted bigint, out credits_granted numeric
)
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
as $$
declare
    v_chunk constant integer := 10000;
    v_spare constant integer := 1000;
    v_limit integer;
    v_account_ids uuid[];
    v_unsettled_ids uuid[];
    v_rule billing.free_credits;
    v_granted record;
    v_slots_due bigint;
begin
    accounts := 0;
    slots_granted := 0;
    credits_granted := 0;
    perform billing._schedule_new_accounts();
    loop
        v_limit := greatest(least(v_chunk, _allocate_free_credits.accounts_max - _allocate_free_credits.accounts), 0);
        select array_agg(distinct due.account_id) into v_account_ids from (
            select free_credit_slots.account_id from billing.free_credit_slots
            where free_credit_slots.next_at <= _allocate_free_credits.as_of
            order by free_credit_slots.next_at
            limit v_limit + v_spare
        ) as due;
        exit when v_account_ids is null;
        select array_agg(locked.account_id), array_agg(locked.account_id) filter (where locked.next_due_at <= _allocate_free_credits.as_of)
        into v_account_ids, v_unsettled_ids
        from (
            select credit_balances.account_id, credit_balances.next_due_at from billing.credit_balances
            where credit_balances.account_id = any (v_account_ids)
            order by credit_balances.account_id
            limit v_limit
            for update skip locked
        ) as locked;
        exit when v_account_ids is null;
        -- Yesterday's lots expire before today's open.
        if v_unsettled_ids is not null then
            perform billing._settle_due(v_unsettled_ids, _allocate_free_credits.as_of);
        end if;
        v_slots_due := 0;
        for v_rule in select * from billing.free_credits where free_credits.active order by free_credits.name for share loop
            v_granted := billing._grant_free_credits(v_rule, v_account_ids, _allocate_free_credits.as_of);
            v_slots_due := v_slots_due + v_granted.slots_due;
            slots_granted := slots_granted + v_granted.slots_granted;
            credits_granted := credits_granted + v_granted.slots_granted * v_rule.credits;
        end loop;
        accounts := accounts + cardinality(v_account_ids);
        -- The rules ended meanwhile.
        exit when v_slots_due = 0;
    end loop;
end
$$;

-- Grants what one account is due for, at once.
create function billing._grant_free_credits_of_account(account_id uuid)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_rule billing.free_credits;
begin
    perform billing._lock_settled_balance(_grant_free_credits_of_account.account_id);
    for v_rule in select * from billing.free_credits where free_credits.active order by free_credits.name for share loop
        perform billing._grant_free_credits(
            v_rule, array[_grant_free_credits_of_account.account_id], billing.current_time()
        );
    end loop;
end
$$;

-- The same for a user who signs up or confirms an address. If it cannot, the clock does.
create function billing._welcome(account_id uuid)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set lock_timeout = '1s'
as $$
begin
    perform billing._grant_free_credits_of_account(_welcome.account_id);
exception when others then
    raise warning 'could not grant free credits to account % yet: %', _welcome.account_id, sqlerrm;
end
$$;

create function billing.tg_accounts__schedule_free_credits()
returns trigger
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform billing._schedule_free_credits(free_credits, array[new.id]) from billing.free_credits where free_credits.active;
    if found then
        perform billing._welcome(new.id);
    end if;
    return null;
exception when others then
    raise warning 'could not schedule free credits for account % yet: %', new.id, sqlerrm;
    return null;
end
$$;

-- After tg_accounts__open_balance: triggers run in the order of their names.
create trigger tg_accounts__schedule_free_credits
after insert on billing.accounts
for each row when (new.kind = 'personal')
execute function billing.tg_accounts__schedule_free_credits();

create function billing.tg_users__confirmed()
returns trigger
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_account_id uuid := (
        select accounts.id from billing.accounts where accounts.owner_id = new.id and accounts.kind = 'personal'
    );
begin
    update billing.free_credit_slots set next_at = '-infinity'
    where free_credit_slots.account_id = v_account_id and free_credit_slots.next_at is not null;
    if found then
        perform billing._welcome(v_account_id);
    end if;
    return null;
exception when others then
    raise warning 'could not grant free credits to user % yet: %', new.id, sqlerrm;
    return null;
end
$$;

create trigger tg_users__confirmed
after update of email_confirmed_at, phone_confirmed_at on auth.users
for each row when (
    new.email_confirmed_at is not null and old.email_confirmed_at is null
    or new.phone_confirmed_at is not null and old.phone_confirmed_at is null
)
execute function billing.tg_users__confirmed();

-- Differences between what an account was or should be granted, and what the ledger has. A period under review has nothing.
create function billing._free_credit_discrepancies(account_id uuid)
returns table (invariant text, business_key text, expected bigint, found bigint)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_now timestamptz := billing.current_time();
begin
    return query
    select 'free_and_not_granted', granted.key, granted.credits, granted.posted
    from (
        select
            keys.key, slots.granted::bigint as credits, billing._posted_credits(slots.account_id, keys.key) as posted
        from billing.free_credit_slots as slots
        cross join lateral (
            select billing._free_key(slots.rule, slots.account_id, slots.granted_for) as key
        ) as keys
        where slots.account_id = _free_credit_discrepancies.account_id and slots.granted_for is not null
            and not exists (
                select from billing.held_credits
                where held_credits.idempotency_key = keys.key and held_credits.status <> 'approved'
                    and held_credits.revocation_id is null
            )
    ) as granted
    where granted.posted <> granted.credits;

    return query
    select 'granted_and_not_free', lots.idempotency_key::text, 0::bigint, posted.credits
    from billing.credit_grants as lots
    cross join lateral (
        select billing._posted_credits(lots.account_id, lots.idempotency_key) as credits
    ) as posted
    where posted.credits <> 0 and lots.account_id = _free_credit_discrepancies.account_id and lots.key_space = 'stripe' and lots.source = 'free'
        and not exists (
            select from billing.free_credit_slots as slots
            join billing.free_credits on free_credits.name = slots.rule
            where slots.account_id = lots.account_id and slots.rule = lots.reference_id
                and lots.idempotency_key = billing._free_key(
                    slots.rule, slots.account_id, billing._free_period(free_credits.every, lots.effective_at)
                )
                and slots.granted_for >= billing._free_period(free_credits.every, lots.effective_at)
        );

    -- What is due, or will be by tomorrow, is the clock's.
    return query
    select
        'free_and_not_granted', billing._free_key(
            free_credits.name, candidates.account_id, billing._free_period(free_credits.every, v_now)
        ), free_credits.credits::bigint, 0::bigint
    from billing.free_credits
    cross join lateral billing._free_candidates(
        free_credits, array[_free_credit_discrepancies.account_id]
    ) as candidates
    where free_credits.active and candidates.reason is null
        and coalesce(candidates.granted_for < billing._free_period(free_credits.every, v_now), true)
        and coalesce(
            candidates.next_at > billing._next_free_period('day', billing._free_period('day', v_now)), true
        )
        -- Another account of the person has them.
        and not exists (
            select from billing.free_credit_persons as others
            where others.rule = free_credits.name and others.person = candidates.person
                and others.account_id <> candidates.account_id
        );
end
$$;

-- Free credits of an account whose rows were changed by hand: slots that are missing, or say what the ledger does not.
create function billing._recalculate_free_credits(account_id uuid)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_account_id uuid := _recalculate_free_credits.account_id;
begin
    perform billing._schedule_free_credits(free_credits, array[v_account_id]) from billing.free_credits
    where free_credits.active;
    update billing.free_credit_slots as slots set granted_for = null
    where slots.account_id = v_account_id and slots.granted_for is not null
        and billing._posted_credits(
            v_account_id, billing._free_key(slots.rule, v_account_id, slots.granted_for)
        ) = 0
        and not billing._is_held(billing._free_key(slots.rule, v_account_id, slots.granted_for));
    update billing.free_credit_slots set next_at = '-infinity'
    where free_credit_slots.account_id = v_account_id and exists (
        select from billing.free_credits where free_credits.name = free_credit_slots.rule and free_credits.active
    );
    perform billing._grant_free_credits_of_account(v_account_id);
    perform billing._take_back(
        v_account_id, off.business_key, off.found, array(
            select lots.id from billing.credit_grants as lots
            where lots.key_space = 'stripe' and lots.idempotency_key = off.business_key
        ), 'clamp_and_record', 'Granted by no rule of free credits'
    )
    from billing._free_credit_discrepancies(v_account_id) as off
    where off.invariant = 'granted_and_not_free';
end
$$;

revoke all on function
    billing._keeps_person, billing._claim_persons, billing._review_free_credits, billing._post_free_credits,
    billing._grant_free_credits, billing._schedule_new_accounts, billing._allocate_free_credits,
    billing._grant_free_credits_of_account, billing._welcome, billing._recalculate_free_credits,
    billing._free_credit_discrepancies, billing.tg_accounts__schedule_free_credits,
    billing.tg_users__confirmed
from public, anon, authenticated, service_role;

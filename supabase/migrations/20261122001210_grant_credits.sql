-- Granting credits: an entry and the lot that it opens, debt repaid first.
--
-- Callable by service_role (the app's own server); clients never, and the worker only by way of what was paid for.

-- Writes the entry of a lot and opens it: what is owed is taken from it at once, first debt, then what is withheld for
-- something already spent that was taken back. `lot` is a row that is not written yet, or a scheduled one (with its id);
-- `entry` names what is written beside amounts. The caller holds the lock.
create function billing._open_lot(entry billing.credit_entries, lot billing.credit_grants)
returns billing.credit_entries
language plpgsql
volatile
set search_path = ''
as $$
declare
    v_balance billing.credit_balances := billing._lock_balance((_open_lot.entry).account_id);
    v_entry billing.credit_entries := _open_lot.entry;
    v_lot billing.credit_grants := _open_lot.lot;
    v_repaid bigint := least(v_balance.debt, v_entry.amount);
    v_withheld bigint := 0;
begin
    if v_balance.balance > 9223372036854775807 - v_entry.amount then
        raise exception 'account % would exceed 9223372036854775807 credits', v_entry.account_id
            using errcode = 'TB009', hint = 'Grant less.';
    elsif v_entry.kind in ('grant', 'transfer_in') then
        v_withheld := least(v_balance.withheld, v_entry.amount - v_repaid);
    end if;

    insert into billing.credit_entries (
        account_id, kind, amount, balance_after, debt, source, reference_id, description, metadata, actor,
        reverses_entry_id, key_space, idempotency_key, occurred_at
    )
    values (
        v_entry.account_id, v_entry.kind, v_entry.amount, v_balance.balance + v_entry.amount, -v_repaid, v_entry.source,
        v_entry.reference_id, v_entry.description, coalesce(v_entry.metadata, '{}'), v_entry.actor,
        v_entry.reverses_entry_id, v_entry.key_space, v_entry.idempotency_key, v_entry.occurred_at
    )
    returning * into v_entry;

    v_lot.remaining := v_entry.amount - v_repaid - v_withheld;
    v_lot.closed_at := case when v_lot.remaining = 0 then v_entry.occurred_at end;
    if v_lot.id is null then
        insert into billing.credit_grants (
            account_id, entry_id, amount, remaining, priority, effective_at, expires_at, closed_at, source,
            reference_id, key_space, idempotency_key, stripe_invoice_id, stripe_subscription_item_id, stripe_price_id,
            stripe_checkout_session_id, stripe_payment_intent_id
        )
        values (
            v_entry.account_id, v_entry.id, v_entry.amount, v_lot.remaining, coalesce(v_lot.priority, 100),
            coalesce(v_lot.effective_at, v_entry.occurred_at), v_lot.expires_at, v_lot.closed_at, v_entry.source,
            v_entry.reference_id, v_entry.key_space, v_entry.idempotency_key, v_lot.stripe_invoice_id,
            v_lot.stripe_subscription_item_id, v_lot.stripe_price_id, v_lot.stripe_checkout_session_id,
            v_lot.stripe_payment_intent_id
        )
        returning id into v_lot.id;
    else
        update billing.credit_grants
        set entry_id = v_entry.id, remaining = v_lot.remaining, closed_at = v_lot.closed_at
        where credit_grants.id = v_lot.id;
    end if;
    if v_repaid > 0 then
        insert into billing.credit_consumptions (entry_id, grant_id, amount) values (v_entry.id, v_lot.id, v_repaid);
    end if;

    if v_withheld > 0 then
        perform billing._withhold(v_entry, v_lot.id, v_withheld);
    end if;
    update billing.credit_balances
    set balance = v_entry.balance_after - v_withheld,
        debt = v_balance.debt - v_repaid,
        withheld = v_balance.withheld - v_withheld,
        next_due_at = least(v_balance.next_due_at, case when v_lot.closed_at is null then v_lot.expires_at end),
        updated_at = now()
    where credit_balances.account_id = v_entry.account_id;
    return v_entry;
end
$$;

-- Takes from a new lot what earlier revocations could not take: an entry of its own beside the grant's.
create function billing._withhold(entry billing.credit_entries, grant_id bigint, amount bigint)
returns void
language plpgsql
volatile
set search_path = ''
as $$
declare
    v_entry_id bigint;
begin
    insert into billing.credit_entries (
        account_id, kind, amount, balance_after, source, reference_id, description, reverses_entry_id, key_space,
        idempotency_key, occurred_at
    )
    values (
        (_withhold.entry).account_id, 'revocation', -_withhold.amount, (_withhold.entry).balance_after - _withhold.amount,
        (_withhold.entry).source, (_withhold.entry).reference_id, 'Withheld for credits taken back',
        (_withhold.entry).id, 'system', 'withheld:' || (_withhold.entry).id, (_withhold.entry).occurred_at
    )
    returning id into v_entry_id;
    insert into billing.credit_consumptions (entry_id, grant_id, amount)
    values (v_entry_id, _withhold.grant_id, _withhold.amount);
end
$$;

create function billing._open_scheduled_lot(lot billing.credit_grants)
returns void
language plpgsql
volatile
set search_path = ''
as $$
declare
    v_entry billing.credit_entries;
begin
    v_entry.account_id := (_open_scheduled_lot.lot).account_id;
    v_entry.kind := 'grant';
    v_entry.amount := (_open_scheduled_lot.lot).amount;
    v_entry.source := (_open_scheduled_lot.lot).source;
    v_entry.reference_id := (_open_scheduled_lot.lot).reference_id;
    v_entry.description := (_open_scheduled_lot.lot).description;
    v_entry.key_space := 'system';
    v_entry.idempotency_key := 'opening:' || (_open_scheduled_lot.lot).id;
    v_entry.occurred_at := (_open_scheduled_lot.lot).effective_at;
    perform billing._open_lot(v_entry, _open_scheduled_lot.lot);
end
$$;

-- What grants of every origin have in common. A business key (key_space stripe) that was used before is not an error:
-- two different events can tell of one payment.
create function billing._grant_credits(
    account_id uuid,
    amount bigint,
    key_space text,
    idempotency_key text,
    source text,
    reference_id text,
    description text,
    metadata jsonb default '{}',
    priority integer default 100,
    effective_at timestamptz default null,
    expires_at timestamptz default null,
    stripe_invoice_id text default null,
    stripe_subscription_item_id text default null,
    stripe_price_id text default null,
    stripe_checkout_session_id text default null,
    stripe_payment_intent_id text default null,
    kind text default 'grant',
    actor text default null
)
returns billing.credit_entries
language plpgsql
volatile
set search_path = ''
as $$
declare
    v_now timestamptz := billing.current_time();
    v_entry billing.credit_entries;
    v_lot billing.credit_grants;
begin
    perform billing._lock_balance(_grant_credits.account_id);

    select credit_entries.* into v_entry from billing.credit_entries
    where credit_entries.account_id = _grant_credits.account_id
        and credit_entries.key_space = _grant_credits.key_space
        and credit_entries.idempotency_key = _grant_credits.idempotency_key;
    if found then
        select credit_grants.* into v_lot from billing.credit_grants where credit_grants.entry_id = v_entry.id;
        if _grant_credits.key_space = 'caller' and (
            v_entry.kind, v_entry.amount, v_entry.source, v_entry.reference_id, v_entry.description, v_entry.metadata,
            v_entry.actor, v_lot.priority, v_lot.expires_at
        ) is distinct from (
            _grant_credits.kind, _grant_credits.amount, _grant_credits.source, _grant_credits.reference_id,
            _grant_credits.description, _grant_credits.metadata, _grant_credits.actor, _grant_credits.priority,
            _grant_credits.expires_at
        ) then
            perform billing._raise_key_reused(_grant_credits.idempotency_key);
        end if;
        return v_entry;
    end if;

    perform billing._check_open(_grant_credits.account_id);
    if _grant_credits.key_space = 'caller' then
        if exists (
            select from billing.credit_grants
            where credit_grants.account_id = _grant_credits.account_id and credit_grants.key_space = 'caller'
                and credit_grants.idempotency_key = _grant_credits.idempotency_key
        ) then
            perform billing._raise_key_reused(_grant_credits.idempotency_key);  -- by a scheduled lot
        end if;
        perform billing._check_expiry(_grant_credits.expires_at, v_now);
    end if;

    v_entry.account_id := _grant_credits.account_id;
    v_entry.kind := _grant_credits.kind;
    v_entry.amount := _grant_credits.amount;
    v_entry.source := _grant_credits.source;
    v_entry.reference_id := _grant_credits.reference_id;
    v_entry.description := _grant_credits.description;
    v_entry.metadata := _grant_credits.metadata;
    v_entry.actor := _grant_credits.actor;
    v_entry.key_space := _grant_credits.key_space;
    v_entry.idempotency_key := _grant_credits.idempotency_key;
    v_entry.occurred_at := v_now;
    v_lot.priority := _grant_credits.priority;
    v_lot.effective_at := coalesce(_grant_credits.effective_at, v_now);
    v_lot.expires_at := _grant_credits.expires_at;
    v_lot.stripe_invoice_id := _grant_credits.stripe_invoice_id;
    v_lot.stripe_subscription_item_id := _grant_credits.stripe_subscription_item_id;
    v_lot.stripe_price_id := _grant_credits.stripe_price_id;
    v_lot.stripe_checkout_session_id := _grant_credits.stripe_checkout_session_id;
    v_lot.stripe_payment_intent_id := _grant_credits.stripe_payment_intent_id;
    return billing._open_lot(v_entry, v_lot);
end
$$;

create function billing._check_expiry(expires_at timestamptz, opens_at timestamptz)
returns void
language plpgsql
immutable
set search_path = ''
as $$
begin
    if _check_expiry.expires_at <= _check_expiry.opens_at then
        raise exception 'expires_at % is not after %, when the credits open', _check_expiry.expires_at, _check_expiry.opens_at
            using errcode = 'TB012', hint = 'Pass a later time, or leave it out for credits that never expire.';
    end if;
end
$$;

create function billing.grant_credits(
    account_id uuid,
    amount numeric,
    idempotency_key text,
    description text default null,
    source text default 'app',
    reference_id text default null,
    expires_at timestamptz default null,
    priority integer default 100,
    metadata jsonb default '{}'
)
returns billing.credit_entries
language plpgsql
volatile
security definer
set search_path = ''
as $$
begin
    perform billing._check_request(grant_credits.idempotency_key, grant_credits.metadata);
    return billing._grant_credits(
        account_id => grant_credits.account_id,
        amount => billing._checked_amount(grant_credits.amount),
        key_space => 'caller',
        idempotency_key => grant_credits.idempotency_key,
        source => grant_credits.source,
        reference_id => grant_credits.reference_id,
        description => grant_credits.description,
        metadata => grant_credits.metadata,
        priority => grant_credits.priority,
        expires_at => grant_credits.expires_at
    );
end
$$;

-- A grant that opens by itself at a later time. Its entry is written then; the lot is the answer until then.
create function billing.schedule_credits(
    account_id uuid,
    amount numeric,
    effective_at timestamptz,
    idempotency_key text,
    description text default null,
    source text default 'app',
    reference_id text default null,
    expires_at timestamptz default null,
    priority integer default 100
)
returns billing.credit_grants
language plpgsql
volatile
security definer
set search_path = ''
as $$
declare
    v_amount bigint := billing._checked_amount(schedule_credits.amount);
    v_lot billing.credit_grants;
begin
    perform billing._check_request(schedule_credits.idempotency_key, '{}');
    perform billing._lock_balance(schedule_credits.account_id);

    select * into v_lot from billing.credit_grants
    where credit_grants.account_id = schedule_credits.account_id and credit_grants.key_space = 'caller'
        and credit_grants.idempotency_key = schedule_credits.idempotency_key;
    if found then
        if (
            v_lot.amount, v_lot.effective_at, v_lot.source, v_lot.reference_id, v_lot.description, v_lot.expires_at,
            v_lot.priority
        ) is distinct from (
            v_amount, schedule_credits.effective_at, schedule_credits.source, schedule_credits.reference_id,
            schedule_credits.description, schedule_credits.expires_at, schedule_credits.priority
        ) then
            perform billing._raise_key_reused(schedule_credits.idempotency_key);
        end if;
        return v_lot;
    end if;

    perform billing._check_key_is_new(schedule_credits.account_id, schedule_credits.idempotency_key);
    perform billing._check_open(schedule_credits.account_id);
    if schedule_credits.effective_at is null or schedule_credits.effective_at <= billing.current_time() then
        raise exception 'effective_at % is not to come', coalesce(schedule_credits.effective_at::text, 'null')
            using errcode = 'TB012', hint = 'Credits that open at once are granted with grant_credits.';
    end if;
    perform billing._check_expiry(schedule_credits.expires_at, schedule_credits.effective_at);
    insert into billing.credit_grants (
        account_id, amount, remaining, priority, effective_at, expires_at, source, reference_id, description, key_space,
        idempotency_key
    )
    values (
        schedule_credits.account_id, v_amount, 0, schedule_credits.priority, schedule_credits.effective_at,
        schedule_credits.expires_at, schedule_credits.source, schedule_credits.reference_id,
        schedule_credits.description, 'caller', schedule_credits.idempotency_key
    )
    returning * into v_lot;
    perform billing._remember_due(v_lot.account_id, v_lot.effective_at);
    return v_lot;
end
$$;

revoke all on function
    billing._open_lot, billing._withhold, billing._open_scheduled_lot, billing._grant_credits, billing._check_expiry,
    billing.grant_credits, billing.schedule_credits
from public, anon, authenticated, service_role;
grant execute on function
    billing.grant_credits(uuid, numeric, text, text, text, text, timestamptz, integer, jsonb),
    billing.schedule_credits(uuid, numeric, timestamptz, text, text, text, text, timestamptz, integer)
to service_role;

comment on function billing.grant_credits(uuid, numeric, text, text, text, text, timestamptz, integer, jsonb) is 'Grants credits to an account, once for each idempotency key, and returns the entry. Lots of a lower priority number are spent first.';
comment on function billing.schedule_credits(uuid, numeric, timestamptz, text, text, text, text, timestamptz, integer) is 'Grants credits that open at effective_at, once for each idempotency key, and returns the lot. Cancel it with revoke_grant.';

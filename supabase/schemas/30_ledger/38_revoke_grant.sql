-- Revokes a lot, by lineage.
--
-- Invariant: at most what was granted is taken. Credits that were spent (or are held) are the revocation's shortfall, which is
-- always recorded:
--     clamp_and_record      nothing more is taken
--     allow_negative        other lots pay, then the balance goes below zero: debt, which the next credits repay
--     block_future_grants   the balance stays as it is; the next grants are withheld until the shortfall is covered
-- Credits that expired unspent are no shortfall. Callable by service_role.

-- What a revocation still requests.
create function billing._asked_back(revocation billing.credit_revocations)
returns bigint
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
    select (_asked_back.revocation).requested - (_asked_back.revocation).reinstated - (_asked_back.revocation).voided
$$;

-- Credits of a lot that were spent or are held, and not returned: everything missing from it, except what expired
-- unspent and what revocations of the lot itself took. Calculated from these, because a lot may have a million spends.
create function billing._spent_of_lot(lot billing.credit_grants)
returns bigint
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_lot billing.credit_grants := _spent_of_lot.lot;
begin
    if v_lot.entry_id is null then
        return 0;
    end if;
    return v_lot.amount - v_lot.remaining + v_lot.held - v_lot.lapsed - coalesce((
        select sum(credit_consumptions.amount)
        from (
            select credit_revocations.entry_id from billing.credit_revocations
            where credit_revocations.grant_id = v_lot.id and credit_revocations.entry_id is not null
            union
            -- What revocations took of credits that returned later; what was withheld of the lot counts as spent.
            select credit_entries.id from billing.credit_entries
            where credit_entries.reverses_entry_id = v_lot.entry_id and credit_entries.kind = 'revocation'
                and credit_entries.key_space = 'system' and credit_entries.idempotency_key ^@ 'claim:'
        ) as taken
        cross join lateral (
            select taken.entry_id
            union all
            select credit_entries.id from billing.credit_entries where credit_entries.reverses_entry_id = taken.entry_id
        ) as moved
        join billing.credit_consumptions
            on credit_consumptions.entry_id = moved.entry_id and credit_consumptions.grant_id = v_lot.id
    ), 0);
end
$$;

-- What earlier revocations of a lot could not take, minus what reinstatements returned elsewhere than to the lot.
create function billing._open_shortfall(grant_id bigint)
returns bigint
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select coalesce((
        select sum(greatest(credit_revocations.shortfall - case credit_revocations.shortfall_policy
            when 'clamp_and_record' then credit_revocations.voided else 0
        end, 0) - credit_revocations.reinstated)
        from billing.credit_revocations where credit_revocations.grant_id = _open_shortfall.grant_id
    ), 0)::bigint - coalesce((
        select sum(credit_consumptions.amount)
        from billing.credit_grants as lots
        join billing.credit_entries as taken on taken.reverses_entry_id = lots.entry_id and taken.kind = 'revocation'
        join billing.credit_entries as given on given.reverses_entry_id = taken.id and given.kind = 'reinstatement'
        join billing.credit_consumptions
            on credit_consumptions.entry_id = given.id and credit_consumptions.grant_id = lots.id
        where lots.id = _open_shortfall.grant_id
    ), 0)::bigint
$$;

-- Writes a revocation of a lot: what is taken of it at once, and the shortfall by its policy. business_key: the key
-- that is worth less than was granted; null for a decision of a person.
create function billing._write_revocation(
    lot billing.credit_grants, requested bigint, taken bigint, shortfall bigint, key_space text, idempotency_key text,
    shortfall_policy text, reason text, actor text, business_key text default null
)
returns billing.credit_revocations
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_lot billing.credit_grants := _write_revocation.lot;
    v_balance billing.credit_balances := billing._lock_balance(v_lot.account_id);
    v_entry billing.credit_entries;
    v_revocation billing.credit_revocations;
    v_from_others bigint := 0;
    v_debt bigint := 0;
begin
    if _write_revocation.shortfall_policy = 'allow_negative' and _write_revocation.shortfall > 0 then
        v_from_others := least(
            _write_revocation.shortfall,
            greatest(v_balance.balance + v_balance.debt - v_balance.held - _write_revocation.taken, 0)
        );
        v_debt := _write_revocation.shortfall - v_from_others;
    end if;

    if _write_revocation.shortfall_policy = 'block_future_grants' then
        v_balance.withheld := v_balance.withheld + _write_revocation.shortfall;
    end if;

    v_entry := billing._entry(
        account_id => v_lot.account_id, kind => 'revocation',
        amount => -(_write_revocation.taken + v_from_others + v_debt), debt => v_debt, source => v_lot.source,
        reference_id => v_lot.reference_id, description => _write_revocation.reason,
        actor => _write_revocation.actor, reverses_entry_id => v_lot.entry_id,
        key_space => _write_revocation.key_space, idempotency_key => _write_revocation.idempotency_key,
        occurred_at => billing.current_time()
    );
    perform billing._post_entries(
        v_balance,
        case when v_entry.amount < 0 then array[v_entry] else '{}' end,
        takes => case
            when _write_revocation.taken > 0
                then array[row(v_entry.id, v_lot.id, _write_revocation.taken)::billing.credit_consumptions]
            else '{}'
        end
    );
    if v_lot.entry_id is null then
        -- It has not opened yet: it is empty, and cancelled.
        update billing.credit_grants set closed_at = coalesce(credit_grants.closed_at, v_entry.occurred_at)
        where credit_grants.id = v_lot.id;
    end if;

    insert into billing.credit_revocations (
        account_id, grant_id, entry_id, requested, taken, shortfall, shortfall_policy, reason, actor, key_space,
        idempotency_key, business_key
    )
    values (
        v_lot.account_id, v_lot.id, case when v_entry.amount < 0 then v_entry.id end, _write_revocation.requested, _write_revocation.taken,
        _write_revocation.shortfall, _write_revocation.shortfall_policy, _write_revocation.reason,
        _write_revocation.actor, _write_revocation.key_space, _write_revocation.idempotency_key,
        _write_revocation.business_key
    )
    returning * into v_revocation;
    return v_revocation;
end
$$;

create function billing._revoke_grant(
    lot billing.credit_grants, amount bigint, key_space text, idempotency_key text, shortfall_policy text, reason text,
    actor text
)
returns billing.credit_revocations
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_lot billing.credit_grants;
    v_revocation billing.credit_revocations;
    v_revocable bigint;
begin
    perform billing._lock_settled_balance((_revoke_grant.lot).account_id);
    select * into strict v_lot from billing.credit_grants where credit_grants.id = (_revoke_grant.lot).id;
    select v_lot.amount - coalesce(sum(billing._asked_back(credit_revocations)), 0) into v_revocable
    from billing.credit_revocations where credit_revocations.grant_id = v_lot.id;
    v_revocation.requested := coalesce(_revoke_grant.amount, v_revocable);
    if v_revocable = 0 or v_revocation.requested > v_revocable then
        raise exception 'only % credits of grant % can be revoked, not %', v_revocable, v_lot.id, v_revocation.requested
            using errcode = 'TB027', hint = 'Revoke at most what is left of the grant.';
    elsif v_lot.entry_id is null and v_revocation.requested < v_revocable then
        raise exception 'grant % is scheduled and can only be revoked as a whole', v_lot.id
            using errcode = 'TB032', hint = 'Revoke all of it (amount null), then schedule a smaller grant.';
    end if;

    v_revocation.taken := least(v_revocation.requested, v_lot.remaining - v_lot.held);
    v_revocation.shortfall := case
        when v_lot.entry_id is null then 0
        else least(
            v_revocation.requested - v_revocation.taken,
            greatest(billing._spent_of_lot(v_lot) - billing._open_shortfall(v_lot.id), 0)
        )
    end;
    return billing._write_revocation(
        v_lot, v_revocation.requested, v_revocation.taken, v_revocation.shortfall, _revoke_grant.key_space,
        _revoke_grant.idempotency_key, _revoke_grant.shortfall_policy, _revoke_grant.reason, _revoke_grant.actor
    );
end
$$;

create function billing.revoke_grant(
    grant_id bigint,
    amount numeric,
    idempotency_key text,
    reason text,
    actor text,
    shortfall_policy text default 'clamp_and_record'
)
returns billing.credit_revocations
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_amount bigint := case when revoke_grant.amount is not null then billing._checked_amount(revoke_grant.amount) end;
    v_lot billing.credit_grants;
    v_revocation billing.credit_revocations;
begin
    perform billing._checked_key(revoke_grant.idempotency_key, '{}');
    perform billing._check_reason(revoke_grant.reason, revoke_grant.actor);
    if revoke_grant.shortfall_policy is null
        or revoke_grant.shortfall_policy not in ('clamp_and_record', 'allow_negative', 'block_future_grants') then
        raise exception 'unknown shortfall_policy: %', coalesce(revoke_grant.shortfall_policy, 'null')
            using errcode = 'TB029', hint = 'Use clamp_and_record, allow_negative or block_future_grants.';
    end if;
    select * into v_lot from billing.credit_grants where credit_grants.id = revoke_grant.grant_id;
    if not found then
        raise exception 'there is no credit grant %', coalesce(revoke_grant.grant_id::text, 'null')
            using errcode = 'TB026', hint = 'Pass the id of a row in billing.credit_grants.';
    end if;
    perform billing._lock_balance(v_lot.account_id);

    select * into v_revocation from billing.credit_revocations
    where credit_revocations.account_id = v_lot.account_id and credit_revocations.key_space = 'caller'
        and credit_revocations.idempotency_key = revoke_grant.idempotency_key;
    if found then
        if (
            v_revocation.grant_id, v_revocation.requested, v_revocation.shortfall_policy, v_revocation.reason,
            v_revocation.actor
        ) is distinct from (
            v_lot.id, coalesce(v_amount, v_revocation.requested), revoke_grant.shortfall_policy, revoke_grant.reason,
            revoke_grant.actor
        ) then
            perform billing._raise_key_reused(revoke_grant.idempotency_key);
        end if;
        return v_revocation;
    end if;
    perform billing._check_key_is_new(v_lot.account_id, revoke_grant.idempotency_key);
    perform billing._check_open(v_lot.account_id);
    return billing._revoke_grant(
        v_lot, v_amount, 'caller', revoke_grant.idempotency_key, revoke_grant.shortfall_policy, revoke_grant.reason,
        revoke_grant.actor
    );
end
$$;

revoke all on function
    billing._asked_back, billing._spent_of_lot, billing._open_shortfall, billing._write_revocation, billing._revoke_grant,
    billing.revoke_grant
from public, anon, authenticated, service_role;
grant execute on function billing.revoke_grant(bigint, numeric, text, text, text, text) to service_role;

comment on function billing.revoke_grant(bigint, numeric, text, text, text, text) is 'Revokes a lot: all of it (amount null) or a part; shortfall_policy decides about spent credits. A scheduled lot is cancelled.';

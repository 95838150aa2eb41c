-- Reversals, by lineage: a spend given back to the lots it came from; a lot taken back, and reinstated.
--
-- Invariant: never more is given back than was taken, however many calls. What a revocation can't take because it was
-- spent (or is held) is its shortfall, and is always recorded:
--     clamp_and_record      nothing more is taken
--     allow_negative        other lots pay, then the balance goes below zero: debt, which the next credits repay
--     block_future_grants   the balance stays as it is; the next grants are withheld until it is made up
-- What had lapsed unspent is nobody's gain and no shortfall. Callable by service_role.

-- Gives back part of what an entry took, the last taken first: debt, then lots from the end of their order. What was
-- debt and is repaid by now comes back as a lot of its own. Lots that are due expire again by themselves.
create function billing._reverse_entry(
    original billing.credit_entries, kind text, amount bigint, key_space text, idempotency_key text, description text,
    metadata jsonb, actor text
)
returns billing.credit_entries
language plpgsql
volatile
set search_path = ''
as $$
declare
    v_original billing.credit_entries := _reverse_entry.original;
    v_balance billing.credit_balances := billing._lock_settled_balance(v_original.account_id);
    v_entry billing.credit_entries;
    v_to_lots bigint;
    v_debt bigint;
    v_new bigint;
    v_lot record;
    v_left bigint;
    v_given bigint;
begin
    if v_balance.balance > 9223372036854775807 - _reverse_entry.amount then
        raise exception 'account % would exceed 9223372036854775807 credits', v_original.account_id
            using errcode = 'TB009', hint = 'Give back less.';
    end if;

    -- What the entry took from lots and has not been given back to them yet.
    select coalesce(sum(credit_consumptions.amount), 0) into v_to_lots
    from billing.credit_entries
    join billing.credit_consumptions on credit_consumptions.entry_id = credit_entries.id
    where credit_entries.id = v_original.id
        or credit_entries.reverses_entry_id = v_original.id and credit_entries.kind in ('refund', 'reinstatement');
    v_left := -v_original.amount - coalesce((
        select sum(credit_entries.amount) from billing.credit_entries
        where credit_entries.reverses_entry_id = v_original.id and credit_entries.kind in ('refund', 'reinstatement')
    ), 0);
    -- The rest of what it took was debt, and comes first.
    v_new := least(_reverse_entry.amount, greatest(v_left - v_to_lots, 0));
    v_debt := least(v_new, v_balance.debt);
    v_to_lots := least(_reverse_entry.amount - v_new, v_to_lots);
    v_new := _reverse_entry.amount - v_debt - v_to_lots;

    insert into billing.credit_entries (
        account_id, kind, amount, balance_after, debt, source, reference_id, description, feature, metadata, actor,
        reverses_entry_id, key_space, idempotency_key, occurred_at
    )
    values (
        v_original.account_id, _reverse_entry.kind, _reverse_entry.amount, v_balance.balance + _reverse_entry.amount,
        -v_debt, v_original.source, v_original.reference_id, _reverse_entry.description, v_original.feature,
        _reverse_entry.metadata, _reverse_entry.actor, v_original.id, _reverse_entry.key_space,
        _reverse_entry.idempotency_key, billing.current_time()
    )
    returning * into v_entry;

    v_left := v_to_lots;
    for v_lot in
        select credit_grants.id, credit_grants.expires_at, sum(credit_consumptions.amount)::bigint as taken
        from billing.credit_entries
        join billing.credit_consumptions on credit_consumptions.entry_id = credit_entries.id
        join billing.credit_grants on credit_grants.id = credit_consumptions.grant_id
        where credit_entries.id = v_original.id
            or credit_entries.reverses_entry_id = v_original.id and credit_entries.kind in ('refund', 'reinstatement')
        group by credit_grants.id
        having sum(credit_consumptions.amount) > 0
        order by credit_grants.priority desc, credit_grants.expires_at desc, credit_grants.id desc
    loop
        exit when v_left = 0;
        v_given := least(v_left, v_lot.taken);
        update billing.credit_grants set remaining = credit_grants.remaining + v_given, closed_at = null
        where credit_grants.id = v_lot.id;
        insert into billing.credit_consumptions (entry_id, grant_id, amount) values (v_entry.id, v_lot.id, -v_given);
        perform billing._remember_due(v_original.account_id, v_lot.expires_at);
        v_left := v_left - v_given;
    end loop;

    if v_new > 0 then
        insert into billing.credit_grants (
            account_id, entry_id, amount, remaining, effective_at, source, reference_id, key_space, idempotency_key
        )
        values (
            v_original.account_id, v_entry.id, v_new, v_new, v_entry.occurred_at, v_entry.source, v_entry.reference_id,
            'system', 'returned:' || v_entry.id
        );
    end if;
    update billing.credit_balances
    set balance = v_entry.balance_after, debt = v_balance.debt - v_debt, updated_at = now()
    where credit_balances.account_id = v_original.account_id;
    return v_entry;
end
$$;

create function billing.refund_spend(
    entry_id bigint,
    amount numeric,
    idempotency_key text,
    description text default null,
    metadata jsonb default '{}'
)
returns billing.credit_entries
language plpgsql
volatile
security definer
set search_path = ''
as $$
declare
    v_amount bigint := case when refund_spend.amount is not null then billing._checked_amount(refund_spend.amount) end;
    v_spend billing.credit_entries;
    v_entry billing.credit_entries;
    v_balance billing.credit_balances;
    v_left bigint;
begin
    perform billing._check_request(refund_spend.idempotency_key, refund_spend.metadata);
    select * into v_spend from billing.credit_entries
    where credit_entries.id = refund_spend.entry_id and credit_entries.kind in ('spend', 'capture');
    if not found then
        raise exception 'entry % is no spend', coalesce(refund_spend.entry_id::text, 'null')
            using errcode = 'TB026', hint = 'Pass the id that spend_credits or capture_hold returned.';
    end if;
    v_balance := billing._lock_balance(v_spend.account_id);

    select * into v_entry from billing.credit_entries
    where credit_entries.account_id = v_spend.account_id and credit_entries.key_space = 'caller'
        and credit_entries.idempotency_key = refund_spend.idempotency_key;
    if found then
        if (v_entry.kind, v_entry.reverses_entry_id, v_entry.amount, v_entry.description, v_entry.metadata)
            is distinct from (
                'refund', v_spend.id, coalesce(v_amount, v_entry.amount), refund_spend.description, refund_spend.metadata
            ) then
            perform billing._raise_key_reused(refund_spend.idempotency_key);
        end if;
        return v_entry;
    end if;

    perform billing._check_open(v_spend.account_id);
    select -v_spend.amount - coalesce(sum(credit_entries.amount), 0) into v_left from billing.credit_entries
    where credit_entries.reverses_entry_id = v_spend.id and credit_entries.kind = 'refund';
    v_amount := coalesce(v_amount, v_left);
    if v_left = 0 or v_amount > v_left then
        raise exception '% credits of entry % are left to refund, % are asked for', v_left, v_spend.id, v_amount
            using errcode = 'TB027', hint = 'Refund at most what the spend took.';
    end if;

    v_entry := billing._reverse_entry(
        v_spend, 'refund', v_amount, 'caller', refund_spend.idempotency_key, refund_spend.description,
        refund_spend.metadata, null
    );
    -- It counts no more towards the cap of the period that it was spent in.
    update billing.credit_balances set spent_in_period = greatest(credit_balances.spent_in_period - v_amount, 0)
    where credit_balances.account_id = v_spend.account_id and credit_balances.spend_cap is not null
        and v_spend.occurred_at >= credit_balances.spend_period_start;
    return v_entry;
end
$$;

-- How much of a lot was spent or is held, and was not given back: what is gone of it, but for what lapsed unspent and
-- what revocations of the lot itself took.
create function billing._spent_of_lot(lot billing.credit_grants)
returns bigint
language sql
stable
set search_path = ''
as $$
    select (_spent_of_lot.lot).held + coalesce(sum(credit_consumptions.amount), 0)::bigint
    from billing.credit_consumptions
    join billing.credit_entries on credit_entries.id = credit_consumptions.entry_id
    where credit_consumptions.grant_id = (_spent_of_lot.lot).id
        and credit_entries.kind <> 'expiry'
        and not (credit_entries.kind = 'adjustment' and credit_entries.source = 'closing')
        and not exists (
            select from billing.credit_revocations
            where credit_revocations.grant_id = (_spent_of_lot.lot).id
                and credit_revocations.entry_id in (credit_entries.id, credit_entries.reverses_entry_id)
        )
$$;

-- What earlier revocations of a lot could not take, less what reinstatements gave back elsewhere than to the lot.
create function billing._open_shortfall(grant_id bigint)
returns bigint
language sql
stable
set search_path = ''
as $$
    select coalesce(sum(credit_revocations.shortfall - credit_revocations.reinstated - coalesce((
        select sum(credit_consumptions.amount) from billing.credit_entries
        join billing.credit_consumptions on credit_consumptions.entry_id = credit_entries.id
        where credit_entries.reverses_entry_id = credit_revocations.entry_id and credit_entries.kind = 'reinstatement'
            and credit_consumptions.grant_id = credit_revocations.grant_id
    ), 0)), 0)::bigint
    from billing.credit_revocations where credit_revocations.grant_id = _open_shortfall.grant_id
$$;

create function billing._revoke_grant(
    lot billing.credit_grants, amount bigint, key_space text, idempotency_key text, shortfall_policy text, reason text,
    actor text
)
returns billing.credit_revocations
language plpgsql
volatile
set search_path = ''
as $$
declare
    v_lot billing.credit_grants;
    v_balance billing.credit_balances := billing._lock_settled_balance((_revoke_grant.lot).account_id);
    v_revocation billing.credit_revocations;
    v_revocable bigint;
    v_debt bigint := 0;
    v_from_others bigint := 0;
begin
    select * into strict v_lot from billing.credit_grants where credit_grants.id = (_revoke_grant.lot).id;
    select v_lot.amount - coalesce(sum(credit_revocations.requested - credit_revocations.reinstated), 0) into v_revocable
    from billing.credit_revocations where credit_revocations.grant_id = v_lot.id;
    v_revocation.requested := coalesce(_revoke_grant.amount, v_revocable);
    if v_revocable = 0 or v_revocation.requested > v_revocable then
        raise exception '% credits of lot % are left to revoke, % are asked for', v_revocable, v_lot.id, v_revocation.requested
            using errcode = 'TB027', hint = 'Revoke at most what the lot was granted.';
    elsif v_lot.entry_id is null and v_revocation.requested < v_revocable then
        raise exception 'lot % has not opened yet: it can only be cancelled as a whole', v_lot.id
            using errcode = 'TB032', hint = 'Revoke all of it (amount null) and schedule what is to remain.';
    end if;

    v_revocation.taken := least(v_revocation.requested, v_lot.remaining - v_lot.held);
    v_revocation.shortfall := case
        when v_lot.entry_id is null then 0
        else least(
            v_revocation.requested - v_revocation.taken,
            greatest(billing._spent_of_lot(v_lot) - billing._open_shortfall(v_lot.id), 0)
        )
    end;
    if _revoke_grant.shortfall_policy = 'allow_negative' and v_revocation.shortfall > 0 then
        v_from_others := least(
            v_revocation.shortfall, greatest(v_balance.balance + v_balance.debt - v_balance.held - v_revocation.taken, 0)
        );
        v_debt := v_revocation.shortfall - v_from_others;
    end if;

    if v_revocation.taken + v_from_others + v_debt > 0 then
        insert into billing.credit_entries (
            account_id, kind, amount, balance_after, debt, source, reference_id, description, actor, reverses_entry_id,
            key_space, idempotency_key, occurred_at
        )
        values (
            v_lot.account_id, 'revocation', -(v_revocation.taken + v_from_others + v_debt),
            v_balance.balance - (v_revocation.taken + v_from_others + v_debt), v_debt, v_lot.source, v_lot.reference_id,
            _revoke_grant.reason, _revoke_grant.actor, v_lot.entry_id, _revoke_grant.key_space,
            _revoke_grant.idempotency_key, billing.current_time()
        )
        returning id into v_revocation.entry_id;
    end if;
    if v_revocation.taken > 0 then
        insert into billing.credit_consumptions (entry_id, grant_id, amount)
        values (v_revocation.entry_id, v_lot.id, v_revocation.taken);
    end if;
    update billing.credit_grants
    set remaining = v_lot.remaining - v_revocation.taken,
        -- One that has not opened yet is empty, and cancelled.
        closed_at = case
            when v_lot.remaining = v_revocation.taken then coalesce(v_lot.closed_at, billing.current_time())
        end
    where credit_grants.id = v_lot.id;
    perform billing._burn_lots(v_lot.account_id, v_revocation.entry_id, v_from_others);

    update billing.credit_balances
    set balance = v_balance.balance - (v_revocation.taken + v_from_others + v_debt),
        debt = v_balance.debt + v_debt,
        withheld = v_balance.withheld
            + case _revoke_grant.shortfall_policy when 'block_future_grants' then v_revocation.shortfall else 0 end,
        updated_at = now()
    where credit_balances.account_id = v_lot.account_id;

    insert into billing.credit_revocations (
        account_id, grant_id, entry_id, requested, taken, shortfall, shortfall_policy, reason, actor, key_space,
        idempotency_key
    )
    values (
        v_lot.account_id, v_lot.id, v_revocation.entry_id, v_revocation.requested, v_revocation.taken,
        v_revocation.shortfall, _revoke_grant.shortfall_policy, _revoke_grant.reason, _revoke_grant.actor,
        _revoke_grant.key_space, _revoke_grant.idempotency_key
    )
    returning * into v_revocation;
    return v_revocation;
end
$$;

create function billing._check_reason(reason text, actor text)
returns void
language plpgsql
immutable
set search_path = ''
as $$
begin
    if coalesce(length(_check_reason.reason), 0) = 0 or coalesce(length(_check_reason.actor), 0) = 0 then
        raise exception 'reason or actor is missing'
            using errcode = 'TB028', hint = 'Say why, and who does it: it is written beside the entry for ever.';
    end if;
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
set search_path = ''
as $$
declare
    v_amount bigint := case when revoke_grant.amount is not null then billing._checked_amount(revoke_grant.amount) end;
    v_lot billing.credit_grants;
    v_revocation billing.credit_revocations;
begin
    perform billing._check_request(revoke_grant.idempotency_key, '{}');
    perform billing._check_reason(revoke_grant.reason, revoke_grant.actor);
    if revoke_grant.shortfall_policy is null
        or revoke_grant.shortfall_policy not in ('clamp_and_record', 'allow_negative', 'block_future_grants') then
        raise exception 'shortfall_policy % is not known', coalesce(revoke_grant.shortfall_policy, 'null')
            using errcode = 'TB029', hint = 'Use clamp_and_record, allow_negative or block_future_grants.';
    end if;
    select * into v_lot from billing.credit_grants where credit_grants.id = revoke_grant.grant_id;
    if not found then
        raise exception 'there is no lot %', coalesce(revoke_grant.grant_id::text, 'null')
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

-- Gives back what a revocation took, as _reverse_entry does; then lifts what is withheld still.
create function billing._reinstate(
    revocation billing.credit_revocations, amount bigint, key_space text, idempotency_key text, reason text, actor text
)
returns billing.credit_reinstatements
language plpgsql
volatile
set search_path = ''
as $$
declare
    v_balance billing.credit_balances := billing._lock_settled_balance((_reinstate.revocation).account_id);
    v_revocation billing.credit_revocations;
    v_original billing.credit_entries;
    v_entry billing.credit_entries;
    v_reinstatement billing.credit_reinstatements;
    v_left bigint;
begin
    -- Read again: now under the lock.
    select * into strict v_revocation from billing.credit_revocations
    where credit_revocations.id = (_reinstate.revocation).id;
    v_left := v_revocation.taken - v_revocation.reinstated
        + case v_revocation.shortfall_policy when 'clamp_and_record' then 0 else v_revocation.shortfall end;
    v_reinstatement.amount := coalesce(_reinstate.amount, v_left);
    if v_left = 0 or v_reinstatement.amount > v_left then
        raise exception '% credits of revocation % are left to reinstate', v_left, v_revocation.id
            using errcode = 'TB027', hint = 'Reinstate at most what was taken.';
    end if;
    v_reinstatement.unwithheld := case v_revocation.shortfall_policy
        when 'block_future_grants' then least(
            v_balance.withheld,
            greatest(v_reinstatement.amount - greatest(v_revocation.taken - v_revocation.reinstated, 0), 0)
        )
        else 0
    end;

    update billing.credit_revocations set reinstated = credit_revocations.reinstated + v_reinstatement.amount
    where credit_revocations.id = v_revocation.id;
    update billing.credit_balances set withheld = credit_balances.withheld - v_reinstatement.unwithheld
    where credit_balances.account_id = v_revocation.account_id;
    if v_reinstatement.unwithheld < v_reinstatement.amount then
        select * into v_original from billing.credit_entries where credit_entries.id = v_revocation.entry_id;
        if found then
            v_entry := billing._reverse_entry(
                v_original, 'reinstatement', v_reinstatement.amount - v_reinstatement.unwithheld, _reinstate.key_space,
                _reinstate.idempotency_key, _reinstate.reason, '{}', _reinstate.actor
            );
        else
            -- Nothing was taken at once, and later grants gave it up.
            v_entry := billing._grant_credits(
                account_id => v_revocation.account_id,
                amount => v_reinstatement.amount - v_reinstatement.unwithheld,
                key_space => _reinstate.key_space,
                idempotency_key => _reinstate.idempotency_key,
                source => 'reinstatement',
                reference_id => v_revocation.id::text,
                description => _reinstate.reason,
                kind => 'reinstatement',
                actor => _reinstate.actor
            );
        end if;
    end if;

    insert into billing.credit_reinstatements (
        account_id, revocation_id, entry_id, amount, unwithheld, reason, actor, key_space, idempotency_key
    )
    values (
        v_revocation.account_id, v_revocation.id, v_entry.id, v_reinstatement.amount, v_reinstatement.unwithheld,
        _reinstate.reason, _reinstate.actor, _reinstate.key_space, _reinstate.idempotency_key
    )
    returning * into v_reinstatement;
    return v_reinstatement;
end
$$;

create function billing.reinstate_grant(
    revocation_id bigint,
    amount numeric,
    idempotency_key text,
    reason text,
    actor text
)
returns billing.credit_reinstatements
language plpgsql
volatile
security definer
set search_path = ''
as $$
declare
    v_amount bigint := case when reinstate_grant.amount is not null then billing._checked_amount(reinstate_grant.amount) end;
    v_revocation billing.credit_revocations;
    v_reinstatement billing.credit_reinstatements;
begin
    perform billing._check_request(reinstate_grant.idempotency_key, '{}');
    perform billing._check_reason(reinstate_grant.reason, reinstate_grant.actor);
    select * into v_revocation from billing.credit_revocations where credit_revocations.id = reinstate_grant.revocation_id;
    if not found then
        raise exception 'there is no revocation %', coalesce(reinstate_grant.revocation_id::text, 'null')
            using errcode = 'TB026', hint = 'Pass the id that revoke_grant returned.';
    end if;
    perform billing._lock_balance(v_revocation.account_id);

    select * into v_reinstatement from billing.credit_reinstatements
    where credit_reinstatements.account_id = v_revocation.account_id and credit_reinstatements.key_space = 'caller'
        and credit_reinstatements.idempotency_key = reinstate_grant.idempotency_key;
    if found then
        if (
            v_reinstatement.revocation_id, v_reinstatement.amount, v_reinstatement.reason, v_reinstatement.actor
        ) is distinct from (
            v_revocation.id, coalesce(v_amount, v_reinstatement.amount), reinstate_grant.reason, reinstate_grant.actor
        ) then
            perform billing._raise_key_reused(reinstate_grant.idempotency_key);
        end if;
        return v_reinstatement;
    end if;
    perform billing._check_key_is_new(v_revocation.account_id, reinstate_grant.idempotency_key);
    perform billing._check_open(v_revocation.account_id);
    return billing._reinstate(
        v_revocation, v_amount, 'caller', reinstate_grant.idempotency_key, reinstate_grant.reason, reinstate_grant.actor
    );
end
$$;

revoke all on function
    billing._reverse_entry, billing.refund_spend, billing._spent_of_lot, billing._open_shortfall, billing._revoke_grant, billing._check_reason,
    billing.revoke_grant, billing._reinstate, billing.reinstate_grant
from public, anon, authenticated, service_role;
grant execute on function
    billing.refund_spend(bigint, numeric, text, text, jsonb),
    billing.revoke_grant(bigint, numeric, text, text, text, text),
    billing.reinstate_grant(bigint, numeric, text, text, text)
to service_role;

comment on function billing.refund_spend(bigint, numeric, text, text, jsonb) is 'Gives a spend or capture back to the lots it came from, all that is left of it (amount null) or part; once for each idempotency key.';
comment on function billing.revoke_grant(bigint, numeric, text, text, text, text) is 'Takes a lot back, all of it (amount null) or part; what was spent is a shortfall, dealt with by shortfall_policy. A scheduled lot is cancelled.';
comment on function billing.reinstate_grant(bigint, numeric, text, text, text) is 'Gives back what a revocation took, all that is left (amount null) or part; once for each idempotency key.';

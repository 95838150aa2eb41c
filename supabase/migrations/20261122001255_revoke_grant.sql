-- Taking a lot back, by lineage, and reinstating it.
--
-- Invariant: never more is taken than was granted, nor given back than was taken. What a revocation can't take because
-- it was spent (or is held) is its shortfall, and is always recorded:
--     clamp_and_record      nothing more is taken
--     allow_negative        other lots pay, then the balance goes below zero: debt, which the next credits repay
--     block_future_grants   the balance stays as it is; the next grants are withheld until it is made up
-- What had lapsed unspent is nobody's gain and no shortfall. Callable by service_role; clients read none of it.

create table billing.credit_revocations (
    id bigint generated always as identity primary key,
    account_id uuid not null references billing.accounts (id),
    grant_id bigint not null references billing.credit_grants (id),
    entry_id bigint references billing.credit_entries (id),
    requested bigint not null,
    taken bigint not null,
    shortfall bigint not null,
    shortfall_policy text not null,
    reinstated bigint not null default 0,
    reason text not null,
    actor text,
    key_space text not null,
    idempotency_key text not null,
    created_at timestamptz not null default now(),
    constraint requested_is_positive check (requested > 0),
    constraint taken_and_shortfall_are_within_the_request
    check (taken >= 0 and shortfall >= 0 and taken + shortfall <= requested),
    constraint reinstated_is_within_what_was_collected check (
        reinstated between 0 and taken + case shortfall_policy when 'clamp_and_record' then 0 else shortfall end
    ),
    constraint shortfall_policy_is_known
    check (shortfall_policy in ('clamp_and_record', 'allow_negative', 'block_future_grants')),
    constraint key_space_is_known check (key_space in ('caller', 'stripe', 'system'))
);

create table billing.credit_reinstatements (
    id bigint generated always as identity primary key,
    account_id uuid not null references billing.accounts (id),
    revocation_id bigint not null references billing.credit_revocations (id),
    entry_id bigint references billing.credit_entries (id),
    amount bigint not null,
    unwithheld bigint not null,
    reason text not null,
    actor text not null,
    key_space text not null,
    idempotency_key text not null,
    created_at timestamptz not null default now(),
    constraint amount_is_positive check (amount > 0),
    constraint unwithheld_is_within_the_amount check (unwithheld between 0 and amount),
    constraint key_space_is_known check (key_space in ('caller', 'stripe', 'system'))
);

create unique index credit_reinstatements_key on billing.credit_reinstatements (account_id, key_space, idempotency_key);
create index credit_reinstatements_revocation on billing.credit_reinstatements (revocation_id);
create index credit_reinstatements_entry on billing.credit_reinstatements (entry_id) where entry_id is not null;
create unique index credit_revocations_key on billing.credit_revocations (account_id, key_space, idempotency_key);
create index credit_revocations_grant on billing.credit_revocations (grant_id);
create index credit_revocations_entry on billing.credit_revocations (entry_id) where entry_id is not null;

alter table billing.credit_revocations enable row level security;
alter table billing.credit_reinstatements enable row level security;

revoke all on all sequences in schema billing from public, anon, authenticated, service_role;
revoke all on billing.credit_revocations, billing.credit_reinstatements from public, anon, authenticated, service_role;
grant select on billing.credit_revocations, billing.credit_reinstatements to service_role;

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
    billing._spent_of_lot, billing._open_shortfall, billing._revoke_grant, billing.revoke_grant, billing._reinstate,
    billing.reinstate_grant
from public, anon, authenticated, service_role;
grant execute on function
    billing.revoke_grant(bigint, numeric, text, text, text, text),
    billing.reinstate_grant(bigint, numeric, text, text, text)
to service_role;

comment on table billing.credit_revocations is 'What was taken back of a lot. requested = taken + shortfall (spent or held) + what had lapsed unspent.';
comment on table billing.credit_reinstatements is 'What was given back of revocations.';
comment on column billing.credit_reinstatements.entry_id is 'The entry that gave it back; null when only withholding was lifted.';
comment on column billing.credit_reinstatements.unwithheld is 'How much of it was still to be withheld, and is no more.';
comment on column billing.credit_revocations.entry_id is 'The entry that took it; null when nothing was left to take.';
comment on function billing.revoke_grant(bigint, numeric, text, text, text, text) is 'Takes a lot back, all of it (amount null) or part; what was spent is a shortfall, dealt with by shortfall_policy. A scheduled lot is cancelled.';
comment on function billing.reinstate_grant(bigint, numeric, text, text, text) is 'Gives back what a revocation took, all that is left (amount null) or part; once for each idempotency key.';

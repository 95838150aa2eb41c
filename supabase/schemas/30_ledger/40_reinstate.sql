-- Reinstates what a revocation took, to the lots that it came from, by lineage.
--
-- Invariant: at most what the revocation took, over all calls. Private.

-- Returns what a revocation took, as _reverse_entry does; then ends what is still withheld.
create function billing._reinstate(
    revocation billing.credit_revocations, amount bigint, key_space text, idempotency_key text, reason text, actor text
)
returns billing.credit_reinstatements
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_balance billing.credit_balances := billing._lock_settled_balance((_reinstate.revocation).account_id);
    v_revocation billing.credit_revocations;
    v_original billing.credit_entries;
    v_entry billing.credit_entries;
    v_reinstatement billing.credit_reinstatements;
    v_left bigint;
    v_part bigint;
    v_suffix text := '';
    v_written_off bigint := 0;
begin
    -- Read again: now under the lock.
    select * into strict v_revocation from billing.credit_revocations
    where credit_revocations.id = (_reinstate.revocation).id;
    v_left := v_revocation.taken - v_revocation.reinstated
        + case v_revocation.shortfall_policy when 'clamp_and_record' then 0 else v_revocation.shortfall end;
    v_reinstatement.amount := coalesce(_reinstate.amount, v_left);
    if v_left = 0 or v_reinstatement.amount > v_left then
        raise exception 'only % credits of revocation % can be reinstated', v_left, v_revocation.id
            using errcode = 'TB027', hint = 'Reinstate at most that number.';
    end if;
    if v_revocation.created_at < v_balance.written_off_at then
        -- Closing the account ended this withholding, so no grant gave it up.
        v_written_off := v_balance.written_off_withheld;
    end if;
    v_reinstatement.unwithheld := case v_revocation.shortfall_policy
        when 'block_future_grants' then least(
            v_balance.withheld + v_written_off,
            greatest(v_reinstatement.amount - greatest(v_revocation.taken - v_revocation.reinstated, 0), 0)
        )
        else 0
    end;

    update billing.credit_revocations
    set reinstated = credit_revocations.reinstated + v_reinstatement.amount,
        -- What was only recorded is no longer requested; otherwise it would be taken from the reinstated credits.
        voided = case credit_revocations.shortfall_policy
            when 'clamp_and_record' then greatest(credit_revocations.voided, credit_revocations.shortfall)
            else credit_revocations.voided
        end
    where credit_revocations.id = v_revocation.id;
    v_written_off := least(v_written_off, v_reinstatement.unwithheld);
    update billing.credit_balances
    set withheld = credit_balances.withheld + v_written_off - v_reinstatement.unwithheld,
        written_off_withheld = credit_balances.written_off_withheld - v_written_off
    where credit_balances.account_id = v_revocation.account_id;
    v_left := v_reinstatement.amount - v_reinstatement.unwithheld;
    -- What it took at once, then what it took of credits that returned later.
    for v_original in
        select credit_entries.* from billing.credit_entries
        where credit_entries.id = v_revocation.entry_id
            or credit_entries.kind = 'revocation' and credit_entries.key_space = 'system'
            and credit_entries.reverses_entry_id = (
                select credit_grants.entry_id from billing.credit_grants where credit_grants.id = v_revocation.grant_id
            )
            and credit_entries.idempotency_key ^@ pg_catalog.format('claim:%s:', v_revocation.id)
        order by credit_entries.id
    loop
        v_part := least(v_left, -v_original.amount - coalesce((
            select sum(credit_entries.amount) from billing.credit_entries
            where credit_entries.reverses_entry_id = v_original.id and credit_entries.kind = 'reinstatement'
        ), 0));
        continue when v_part = 0;
        v_entry := billing._reverse_entry(
            v_original, 'reinstatement', v_part, _reinstate.key_space, _reinstate.idempotency_key || v_suffix,
            _reinstate.reason, '{}', _reinstate.actor
        );
        v_suffix := pg_catalog.format(':%s', v_original.id);
        v_left := v_left - v_part;
    end loop;
    if v_left > 0 then
        -- Later grants gave it up.
        v_entry := billing._grant_credits(
            account_id => v_revocation.account_id,
            amount => v_left,
            key_space => _reinstate.key_space,
            idempotency_key => _reinstate.idempotency_key || v_suffix,
            source => 'reinstatement',
            reference_id => v_revocation.id::text,
            description => _reinstate.reason,
            kind => 'reinstatement',
            actor => _reinstate.actor
        );
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

revoke all on function billing._reinstate from public, anon, authenticated, service_role;

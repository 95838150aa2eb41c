-- Credits that return to a lot (by a release, a refunded spend or an expired hold) after it was revoked or while it is
-- disputed: what is owed on them is taken, or frozen, at once.
--
-- Invariant: no lot has free credits together with its own open shortfall, or with contested credits that are not
-- frozen. Private: called by the functions that return credits to lots. The caller has locked the balance.

create function billing._thaw(hold billing.credit_holds)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    update billing.credit_holds set status = 'released', settled_at = billing.current_time()
    where credit_holds.id = (_thaw.hold).id;
    update billing.credit_balances set held = credit_balances.held - (_thaw.hold).amount, updated_at = now()
    where credit_balances.account_id = (_thaw.hold).account_id;
    perform billing._remember_due((_thaw.hold).account_id, billing._release_pins(array[(_thaw.hold).id]));
end
$$;

-- Freezes free credits of a lot. A dispute takes months, so the hold lasts until it is ended, or the credits expire.
create function billing._freeze(lot billing.credit_grants, amount bigint)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_hold billing.credit_holds;
begin
    insert into billing.credit_holds (
        account_id, amount, description, idempotency_key, frozen_grant_id, expires_in, expires_at
    )
    values (
        (_freeze.lot).account_id, _freeze.amount, 'Frozen by a dispute', 'dispute:' || gen_random_uuid(),
        (_freeze.lot).id, '100 years',
        coalesce((_freeze.lot).expires_at, billing.current_time() + interval '100 years')
    )
    returning * into v_hold;
    insert into billing.credit_hold_lots (hold_id, grant_id, amount) values (v_hold.id, (_freeze.lot).id, _freeze.amount);
    update billing.credit_grants set held = credit_grants.held + _freeze.amount
    where credit_grants.id = (_freeze.lot).id;
    update billing.credit_balances set held = credit_balances.held + _freeze.amount, updated_at = now()
    where credit_balances.account_id = (_freeze.lot).account_id;
    perform billing._remember_due(v_hold.account_id, v_hold.expires_at);
end
$$;

-- Takes part of an open shortfall from the lot itself: the revocation's taken grows, and its shortfall shrinks.
create function billing._claim_shortfall(revocation billing.credit_revocations, lot billing.credit_grants, amount bigint)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_revocation billing.credit_revocations := _claim_shortfall.revocation;
    v_balance billing.credit_balances := billing._lock_balance(v_revocation.account_id);
    v_entry billing.credit_entries := billing._entry(
        account_id => v_revocation.account_id, kind => 'revocation', amount => -_claim_shortfall.amount,
        source => (_claim_shortfall.lot).source, reference_id => (_claim_shortfall.lot).reference_id,
        description => v_revocation.reason, actor => v_revocation.actor,
        reverses_entry_id => (_claim_shortfall.lot).entry_id, key_space => 'system',
        idempotency_key => format('claim:%s:%s', v_revocation.id, v_revocation.shortfall),
        occurred_at => billing.current_time()
    );
begin
    if v_revocation.shortfall_policy = 'block_future_grants' then
        v_balance.withheld := v_balance.withheld - _claim_shortfall.amount;
    end if;
    perform billing._post_entry(v_balance, v_entry, takes => array[
        row(v_entry.id, (_claim_shortfall.lot).id, _claim_shortfall.amount)::billing.credit_consumptions
    ]);
    update billing.credit_revocations
    set taken = credit_revocations.taken + _claim_shortfall.amount,
        shortfall = credit_revocations.shortfall - _claim_shortfall.amount
    where credit_revocations.id = v_revocation.id;
end
$$;

-- as_of: credits that have expired by then are not frozen, because they are about to lapse.
create function billing._claim_returned_credits(account_id uuid, as_of timestamptz default billing.current_time())
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_revocation billing.credit_revocations;
    v_balance billing.credit_balances;
    v_lot billing.credit_grants;
    v_claimed bigint;
begin
    for v_revocation in
        select * from billing.credit_revocations
        where credit_revocations.account_id = _claim_returned_credits.account_id and credit_revocations.shortfall > 0
            and credit_revocations.shortfall_policy <> 'allow_negative'
        order by credit_revocations.id
    loop
        select * into v_lot from billing.credit_grants where credit_grants.id = v_revocation.grant_id;
        select * into v_balance from billing.credit_balances
        where credit_balances.account_id = v_revocation.account_id;
        v_claimed := least(
            v_lot.remaining - v_lot.held, v_revocation.shortfall,
            -- Later credits have already covered it.
            case v_revocation.shortfall_policy
                when 'block_future_grants' then least(
                    v_balance.withheld,
                    v_revocation.requested - greatest(v_revocation.taken, v_revocation.reinstated)
                )
                else v_revocation.shortfall - v_revocation.voided
            end
        );
        if v_claimed > 0 then
            perform billing._claim_shortfall(v_revocation, v_lot, v_claimed);
        end if;
    end loop;

    for v_lot in
        select * from billing.credit_grants
        where credit_grants.account_id = _claim_returned_credits.account_id and credit_grants.contested > 0
            and credit_grants.remaining > credit_grants.held
            and (credit_grants.expires_at > _claim_returned_credits.as_of) is not false
        order by credit_grants.id
    loop
        v_claimed := least(v_lot.contested, v_lot.remaining - v_lot.held);
        update billing.credit_grants set contested = v_lot.contested - v_claimed where credit_grants.id = v_lot.id;
        perform billing._freeze(v_lot, v_claimed);
    end loop;
end
$$;

revoke all on function
    billing._thaw, billing._freeze, billing._claim_shortfall, billing._claim_returned_credits
from public, anon, authenticated, service_role;

-- One lot, in line with what went back of its price: taken back, given back, frozen, thawed.
--
-- Invariant: what was taken back for returned money, less what was given back of that, is floor(credits * share) of the
-- lot, beside `cut`, which was never granted. Repeating it changes nothing. Keys: returned:{lot}:{n}, given_back:{lot}:{n}.
--
-- Private. The caller has locked the balance.

-- What was asked back of a lot because of returned money, all in all.
create function billing._asked_back_of_lot(grant_id bigint)
returns bigint
language sql
stable
set search_path = ''
as $$
    select coalesce(sum(billing._asked_back(credit_revocations)), 0)::bigint from billing.credit_revocations
    where credit_revocations.grant_id = _asked_back_of_lot.grant_id and credit_revocations.key_space = 'stripe'
        and credit_revocations.idempotency_key ^@ 'returned:'
$$;

create function billing._thaw(hold billing.credit_holds)
returns void
language plpgsql
volatile
set search_path = ''
as $$
begin
    update billing.credit_holds set status = 'released', settled_at = billing.current_time()
    where credit_holds.id = (_thaw.hold).id;
    update billing.credit_balances set held = credit_balances.held - (_thaw.hold).amount, updated_at = now()
    where credit_balances.account_id = (_thaw.hold).account_id;
    perform billing._remember_due((_thaw.hold).account_id, billing._release_pins(array[(_thaw.hold).id]));
end
$$;

-- Freezes what is left of a lot, up to an amount. A dispute takes months, so the hold lasts until it is thawed.
create function billing._freeze(lot billing.credit_grants, amount bigint)
returns void
language plpgsql
volatile
set search_path = ''
as $$
declare
    v_hold_id uuid;
begin
    insert into billing.credit_holds (
        account_id, amount, description, idempotency_key, frozen_grant_id, expires_in, expires_at
    )
    values (
        (_freeze.lot).account_id, _freeze.amount, 'Frozen by a dispute', 'dispute:' || gen_random_uuid(),
        (_freeze.lot).id, '100 years', billing.current_time() + interval '100 years'
    )
    returning id into v_hold_id;
    insert into billing.credit_hold_lots (hold_id, grant_id, amount) values (v_hold_id, (_freeze.lot).id, _freeze.amount);
    update billing.credit_grants set held = credit_grants.held + _freeze.amount
    where credit_grants.id = (_freeze.lot).id;
    update billing.credit_balances set held = credit_balances.held + _freeze.amount, updated_at = now()
    where credit_balances.account_id = (_freeze.lot).account_id;
    perform billing._remember_due((_freeze.lot).account_id, billing.current_time() + interval '100 years');
end
$$;

-- Money that had gone back came again: the newest revocations first. Of what they could not take nothing is given.
create function billing._give_back(lot billing.credit_grants, amount bigint)
returns void
language plpgsql
volatile
set search_path = ''
as $$
declare
    v_left bigint := _give_back.amount;
    v_revocation billing.credit_revocations;
    v_part bigint;
    v_voided bigint;
begin
    for v_revocation in
        select * from billing.credit_revocations
        where credit_revocations.grant_id = (_give_back.lot).id and credit_revocations.key_space = 'stripe'
            and credit_revocations.idempotency_key ^@ 'returned:'
        order by credit_revocations.id desc
    loop
        exit when v_left = 0;
        v_part := least(v_left, billing._asked_back(v_revocation));
        v_voided := least(v_part, v_revocation.requested - v_revocation.voided - v_revocation.taken - case
            when v_revocation.shortfall_policy = 'clamp_and_record' then 0 else v_revocation.shortfall
        end);
        if v_voided > 0 then
            update billing.credit_revocations set voided = credit_revocations.voided + v_voided
            where credit_revocations.id = v_revocation.id
            returning * into v_revocation;
        end if;
        if v_part > v_voided then
            perform billing._reinstate(
                v_revocation, v_part - v_voided, 'stripe', format('given_back:%s:%s', v_revocation.grant_id, (
                    select count(*) from billing.credit_reinstatements
                    join billing.credit_revocations on credit_revocations.id = credit_reinstatements.revocation_id
                    where credit_revocations.grant_id = v_revocation.grant_id
                )), 'Payment received again', 'tillbase'
            );
        end if;
        v_left := v_left - v_part;
    end loop;
end
$$;

-- Grants what had been cut off a lot before it opened. One whose time has passed meanwhile lasts.
create function billing._grant_cut(lot billing.credit_grants, amount bigint)
returns void
language plpgsql
volatile
set search_path = ''
as $$
declare
    v_lot billing.credit_grants := _grant_cut.lot;
begin
    perform billing._grant_credits(
        account_id => v_lot.account_id,
        amount => _grant_cut.amount,
        key_space => 'stripe',
        idempotency_key => format('cut:%s:%s', v_lot.id, v_lot.cut),
        source => v_lot.source,
        reference_id => v_lot.reference_id,
        description => 'Credits of a payment received again',
        expires_at => case when v_lot.expires_at > billing.current_time() then v_lot.expires_at end,
        stripe_invoice_id => v_lot.stripe_invoice_id,
        stripe_subscription_item_id => v_lot.stripe_subscription_item_id,
        stripe_price_id => v_lot.stripe_price_id
    );
    update billing.credit_grants set cut = v_lot.cut - _grant_cut.amount where credit_grants.id = v_lot.id;
end
$$;

create function billing._settle_lot(lot billing.credit_grants, paid numeric, returned numeric, contested numeric)
returns void
language plpgsql
volatile
set search_path = ''
as $$
declare
    v_lot billing.credit_grants := _settle_lot.lot;
    v_full numeric := v_lot.amount + v_lot.cut;
    v_gone bigint := billing._gone(v_full, _settle_lot.returned, _settle_lot.paid);
    v_frozen bigint := billing._gone(v_full, _settle_lot.returned + _settle_lot.contested, _settle_lot.paid) - v_gone;
    v_asked bigint := billing._asked_back_of_lot(v_lot.id);
    v_hold billing.credit_holds;
    v_more bigint;
begin
    select * into v_hold from billing.credit_holds
    where credit_holds.frozen_grant_id = v_lot.id and credit_holds.status = 'held';
    v_more := least(greatest(v_gone - v_lot.cut, 0) - v_asked, v_lot.amount - coalesce((
        select sum(billing._asked_back(credit_revocations)) from billing.credit_revocations
        where credit_revocations.grant_id = v_lot.id
    ), 0));
    if v_more = 0 and v_gone >= v_lot.cut and coalesce(v_hold.amount, 0) = least(
            v_frozen, v_lot.remaining - v_lot.held + coalesce(v_hold.amount, 0)
        ) or exists (
            select from billing.accounts where accounts.id = v_lot.account_id and accounts.closed_at is not null
        ) then
        return;
    elsif v_hold.id is not null then
        perform billing._thaw(v_hold);
    end if;

    if v_more > 0 then
        perform billing._revoke_grant(
            v_lot, v_more, 'stripe', format('returned:%s:%s', v_lot.id, (
                select count(*) from billing.credit_revocations
                where credit_revocations.grant_id = v_lot.id and credit_revocations.key_space = 'stripe'
            )), (select settings.shortfall_policy from billing.settings), 'Payment returned to the customer', 'tillbase'
        );
    elsif v_more < 0 then
        perform billing._give_back(v_lot, -v_more);
    end if;
    if v_gone < v_lot.cut then
        perform billing._grant_cut(v_lot, v_lot.cut - v_gone);
    end if;

    select * into strict v_lot from billing.credit_grants where credit_grants.id = v_lot.id;
    if least(v_frozen, v_lot.remaining - v_lot.held) > 0 then
        perform billing._freeze(v_lot, least(v_frozen, v_lot.remaining - v_lot.held));
    end if;
    perform billing._repay_debt(v_lot.account_id);
end
$$;

revoke all on function
    billing._asked_back_of_lot, billing._thaw, billing._freeze, billing._give_back,
    billing._grant_cut, billing._settle_lot
from public, anon, authenticated, service_role;

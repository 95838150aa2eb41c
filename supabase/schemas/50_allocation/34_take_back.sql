-- Credits that are worth less than was granted → revoked from the lots of one payment or one month.
--
-- Invariant: all unspent credits of the lots are taken before there is a shortfall. The shortfall is what was spent beyond what
-- the lots are still worth; credits that expired unspent count as unspent. A revocation has the business key that is worth less,
-- whichever lot it took from. The shortfall follows settings.shortfall_policy or, if the money is on the customer's balance in
-- Stripe, is carried against what invoices pay for later.
--
-- carried_credits   below zero: spent credits of time that was credited back; above zero: credits by which later grants were
--                   reduced. credit_balances.carried is the rest.
-- Only functions write; service_role reads. Private. The caller has locked the balance.

create table billing.carried_credits (
    business_key text primary key,
    account_id uuid not null references billing.accounts (id),
    amount bigint not null,
    created_at timestamptz not null default now(),
    constraint amount_is_not_zero check (amount <> 0)
);

create index carried_credits_account on billing.carried_credits (account_id);

alter table billing.carried_credits enable row level security;
revoke all on billing.carried_credits from public, anon, authenticated, service_role;
grant select on billing.carried_credits to service_role;

-- The credits that the ledger has for a business key: granted, minus carried and revoked.
create function billing._posted_credits(account_id uuid, business_key text)
returns bigint
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_posted bigint := 0;
    v_amount bigint;
    v_number integer := 1;
begin
    -- Further lots of one key are numbered: key#2, key#3.
    loop
        select credit_grants.amount into v_amount from billing.credit_grants
        where credit_grants.key_space = 'stripe' and credit_grants.idempotency_key = case
            when v_number = 1 then _posted_credits.business_key
            else format('%s#%s', _posted_credits.business_key, v_number)
        end;
        exit when not found;
        v_posted := v_posted + v_amount;
        v_number := v_number + 1;
    end loop;
    return v_posted
        + coalesce((
            select carried_credits.amount from billing.carried_credits
            where carried_credits.business_key = _posted_credits.business_key
        ), 0)
        - coalesce((
            select sum(billing._asked_back(credit_revocations)) from billing.credit_revocations
            where credit_revocations.business_key = _posted_credits.business_key
        ), 0);
end
$$;

-- The idempotency key for the next lot of a business key.
create function billing._next_lot_key(business_key text)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_number integer := 1;
    v_key text := _next_lot_key.business_key;
begin
    while exists (
        select from billing.credit_grants
        where credit_grants.key_space = 'stripe' and credit_grants.idempotency_key = v_key
    ) loop
        v_number := v_number + 1;
        v_key := format('%s#%s', _next_lot_key.business_key, v_number);
    end loop;
    return v_key;
end
$$;

-- Revokes an amount from lots, in their order, for a business key.
create function billing._take_back(
    account_id uuid, business_key text, amount bigint, grant_ids bigint[], shortfall_policy text, reason text
)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_left bigint := _take_back.amount;
    v_uncarried bigint;
    v_lot billing.credit_grants;
    v_part bigint;
    v_granted bigint;
    v_asked bigint;
    v_spent bigint;
    v_open bigint;
    v_by_hand bigint;
    v_lapsed bigint[];
    v_free bigint[];
    v_revocable bigint[];
    v_shortfall bigint;
    v_rest bigint;
    v_beyond bigint;
begin
    perform billing._lock_settled_balance(_take_back.account_id);
    -- From each lot first the credits that expired unspent: they are requested but not taken, because that many fewer
    -- would have expired. Then the free credits. Then the rest, up to what is still revocable: requested but not taken.
    select
        sum(lots.amount), sum(billing._spent_of_lot(lots)), sum(lots.amount - billing._revocable(lots)),
        sum(billing._open_shortfall(lots.id)), sum(billing._revoked_by_hand(lots.id)),
        array_agg(least(billing._lapsed_of_lot(lots), billing._revocable(lots)) order by wanted.place),
        array_agg(lots.remaining - lots.held order by wanted.place),
        array_agg(billing._revocable(lots) order by wanted.place)
    into v_granted, v_spent, v_asked, v_open, v_by_hand, v_lapsed, v_free, v_revocable
    from unnest(_take_back.grant_ids) with ordinality as wanted (id, place)
    join billing.credit_grants as lots on lots.id = wanted.id;
    v_free := coalesce(v_free, '{}');
    v_shortfall := v_left;
    for place in 1 .. cardinality(v_free) loop
        v_lapsed[place] := least(v_lapsed[place], v_shortfall);
        v_shortfall := v_shortfall - v_lapsed[place];
        v_free[place] := least(v_free[place], v_revocable[place] - v_lapsed[place], v_shortfall);
        v_shortfall := v_shortfall - v_free[place];
    end loop;
    v_rest := v_shortfall;
    -- Then the credits by which this key was reduced for carried ones: they are carried again.
    select least(v_rest, carried_credits.amount) into v_uncarried from billing.carried_credits
    where carried_credits.business_key = _take_back.business_key and carried_credits.amount > 0;
    if v_uncarried > 0 then
        perform billing._carry(_take_back.account_id, _take_back.business_key, -v_uncarried);
        v_rest := v_rest - v_uncarried;
        v_left := v_left - v_uncarried;
    end if;
    v_shortfall := least(v_rest, greatest(v_spent - (v_granted - v_asked - v_left) - v_open, 0));
    if _take_back.shortfall_policy = 'carry' then
        -- The money is on the customer's balance: everything is carried, except what a person revoked.
        v_shortfall := v_rest - least(v_rest, coalesce(v_by_hand, 0));
        perform billing._carry(_take_back.account_id, _take_back.business_key, -v_shortfall);
        v_rest := v_rest - v_shortfall;
        v_shortfall := 0;
    elsif v_rest > 0 then
        -- More than the lots' revocable credits: they were already taken for credited time, so the money was returned
        -- twice.
        v_beyond := greatest(v_left - (
            select coalesce(sum(revocable), 0) from unnest(v_revocable) as revocable
        ) - coalesce(v_by_hand, 0), 0);
        if v_beyond > 0 then
            perform billing._carry(_take_back.account_id, _take_back.business_key, -v_beyond);
            v_rest := v_rest - v_beyond;
            v_shortfall := least(v_shortfall, v_rest);
        end if;
    end if;

    for place in 1 .. cardinality(v_free) loop
        v_part := v_lapsed[place] + v_free[place]
            + least(v_rest, v_revocable[place] - v_lapsed[place] - v_free[place]);
        continue when v_part = 0;
        select * into strict v_lot from billing.credit_grants where credit_grants.id = _take_back.grant_ids[place];
        perform billing._write_revocation(
            v_lot, v_part, v_free[place], least(v_shortfall, v_part - v_lapsed[place] - v_free[place]), 'stripe',
            billing._next_revocation_key(v_lot.id),
            case _take_back.shortfall_policy when 'carry' then 'clamp_and_record' else _take_back.shortfall_policy end,
            _take_back.reason, 'tillbase',
            _take_back.business_key
        );
        v_part := v_part - v_lapsed[place] - v_free[place];
        v_shortfall := v_shortfall - least(v_shortfall, v_part);
        v_rest := v_rest - v_part;
    end loop;
end
$$;

-- Credits of a lot that expired unspent and were not yet revoked.
create function billing._lapsed_of_lot(lot billing.credit_grants)
returns bigint
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select greatest(
        (_lapsed_of_lot.lot).amount - (_lapsed_of_lot.lot).remaining
        - (billing._spent_of_lot(_lapsed_of_lot.lot) - (_lapsed_of_lot.lot).held)
        - coalesce(sum(
            -- A shortfall may be reinstated too, beyond what was taken.
            greatest(credit_revocations.taken - credit_revocations.reinstated, 0)
            + credit_revocations.requested - credit_revocations.taken - credit_revocations.shortfall
            -- A shortfall that was only recorded is voided before expired credits.
            - greatest(credit_revocations.voided - case credit_revocations.shortfall_policy
                when 'clamp_and_record' then credit_revocations.shortfall else 0
            end, 0)
        ), 0)::bigint, 0
    )
    from billing.credit_revocations where credit_revocations.grant_id = (_lapsed_of_lot.lot).id
$$;

-- Credits of a lot that a person revoked.
create function billing._revoked_by_hand(grant_id bigint)
returns bigint
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select coalesce(sum(credit_revocations.taken - credit_revocations.reinstated), 0)::bigint
    from billing.credit_revocations
    where credit_revocations.grant_id = _revoked_by_hand.grant_id and credit_revocations.business_key is null
$$;

-- Credits of a lot that can still be revoked.
create function billing._revocable(lot billing.credit_grants)
returns bigint
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select (_revocable.lot).amount - coalesce(sum(billing._asked_back(credit_revocations)), 0)::bigint
    from billing.credit_revocations where credit_revocations.grant_id = (_revocable.lot).id
$$;

create function billing._next_revocation_key(grant_id bigint)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select format('returned:%s:%s', _next_revocation_key.grant_id, count(*)) from billing.credit_revocations
    where credit_revocations.grant_id = _next_revocation_key.grant_id and credit_revocations.key_space = 'stripe'
$$;

-- Records that a key was reduced for carried credits (above zero), or that its spent credits are carried (below zero).
create function billing._carry(account_id uuid, business_key text, amount bigint)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_amount bigint := _carry.amount + coalesce((
        select carried_credits.amount from billing.carried_credits
        where carried_credits.business_key = _carry.business_key
    ), 0);
begin
    delete from billing.carried_credits where carried_credits.business_key = _carry.business_key;
    if v_amount <> 0 then
        insert into billing.carried_credits (business_key, account_id, amount)
        values (_carry.business_key, _carry.account_id, v_amount);
    end if;
    update billing.credit_balances set carried = credit_balances.carried - _carry.amount, updated_at = now()
    where credit_balances.account_id = _carry.account_id;
end
$$;

-- Deducts carried credits from those that a key is about to grant. Returns the rest.
create function billing._less_carried(account_id uuid, business_key text, amount bigint)
returns bigint
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_carried bigint := (
        select least(credit_balances.carried, _less_carried.amount) from billing.credit_balances
        where credit_balances.account_id = _less_carried.account_id
    );
begin
    if v_carried > 0 then
        perform billing._carry(_less_carried.account_id, _less_carried.business_key, v_carried);
    end if;
    return _less_carried.amount - v_carried;
end
$$;

-- Restores a part of what a revocation still requests: what was taken first, expired credits last.
create function billing._restore_revoked(revocation billing.credit_revocations, amount bigint)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_revocation billing.credit_revocations := _restore_revoked.revocation;
    v_given bigint := least(
        _restore_revoked.amount,
        v_revocation.taken - v_revocation.reinstated + case v_revocation.shortfall_policy
            when 'clamp_and_record' then 0 else v_revocation.shortfall
        end
    );
begin
    update billing.credit_revocations
    set voided = credit_revocations.voided + _restore_revoked.amount - v_given
    where credit_revocations.id = v_revocation.id;
    if v_given > 0 then
        perform billing._reinstate(
            v_revocation, v_given, 'stripe', format('given_back:%s:%s', v_revocation.id, (
                select count(*) from billing.credit_reinstatements
                where credit_reinstatements.revocation_id = v_revocation.id
            )), 'Payment received again', 'tillbase'
        );
    end if;
end
$$;

-- A key is worth more than the ledger has for it: restores what was revoked for it, the newest revocation first. A
-- shortfall that was only recorded restores nothing; carried credits stop being carried. Returns the part for which
-- nothing had been revoked: the caller grants it.
create function billing._give_back(account_id uuid, business_key text, amount bigint)
returns bigint
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_left bigint := _give_back.amount;
    v_to_grant bigint := 0;
    v_revocation billing.credit_revocations;
    v_part bigint;
begin
    -- Credits that are still carried stop being carried. If later grants were already reduced for them, the reduction
    -- stays recorded, and as many credits are granted.
    select least(v_left, -carried_credits.amount) into v_part from billing.carried_credits
    where carried_credits.business_key = _give_back.business_key and carried_credits.amount < 0;
    if v_part > 0 then
        select greatest(v_part - credit_balances.carried, 0) into v_to_grant from billing.credit_balances
        where credit_balances.account_id = _give_back.account_id;
        perform billing._carry(_give_back.account_id, _give_back.business_key, v_part - v_to_grant);
        v_left := v_left - v_part;
    end if;
    -- First shortfalls that were only recorded, of any lot: nothing is restored while more was spent than is left.
    for v_revocation in
        select * from billing.credit_revocations
        where credit_revocations.business_key = _give_back.business_key
            and credit_revocations.shortfall_policy = 'clamp_and_record'
            and credit_revocations.shortfall > credit_revocations.voided
        order by credit_revocations.id desc
    loop
        v_part := least(v_left, v_revocation.shortfall - v_revocation.voided);
        update billing.credit_revocations set voided = credit_revocations.voided + v_part
        where credit_revocations.id = v_revocation.id;
        v_left := v_left - v_part;
    end loop;
    for v_revocation in
        select * from billing.credit_revocations
        where credit_revocations.business_key = _give_back.business_key
        order by credit_revocations.id desc
    loop
        exit when v_left = 0;
        v_part := least(v_left, billing._asked_back(v_revocation));
        continue when v_part = 0;
        v_left := v_left - v_part;
        perform billing._restore_revoked(v_revocation, v_part);
    end loop;
    return v_left + v_to_grant;
end
$$;

revoke all on function
    billing._posted_credits, billing._next_lot_key, billing._take_back, billing._lapsed_of_lot,
    billing._revoked_by_hand, billing._revocable,
    billing._next_revocation_key, billing._carry, billing._less_carried, billing._restore_revoked,
    billing._give_back
from public, anon, authenticated, service_role;

comment on table billing.carried_credits is 'By business key: spent credits of time that Stripe credited back (below zero), and credits by which later grants were reduced for them (above zero).';

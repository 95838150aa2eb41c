-- Priced work: an operation and its quantities → credits by the price list, held before the work and settled after it, or
-- spent at once.
--
-- Invariant: each charge keeps its quantities and the version of the price that it was worked out by, so it can be worked
-- out again (account_work_discrepancies). Work that was held is settled at the price that was in force when the hold was
-- made. Holds, captures and spends are the ledger's own; a charge names its entries. A plain spend knows nothing of this.
--
-- Callable by service_role. Clients read their own rows.

-- No foreign keys to rows of the ledger, which are never deleted; account_work_discrepancies lists broken references.
create table billing.work_holds (
    hold_id uuid primary key,
    operation_price_id bigint not null references billing.operation_prices (id),
    quantities jsonb not null
);

create index work_holds_price on billing.work_holds (operation_price_id);

create table billing.work_charges (
    id bigint generated always as identity primary key,
    account_id uuid not null,
    operation_price_id bigint not null references billing.operation_prices (id),
    quantities jsonb not null,
    unrounded numeric not null,
    credits billing.credits not null,
    charged billing.credits not null,
    on_excess text,
    hold_id uuid,
    entry_id bigint,
    excess_entry_id bigint,
    idempotency_key billing.idempotency_key not null,
    occurred_at timestamptz not null,
    created_at timestamptz not null default now()
);

create unique index work_charges_key on billing.work_charges (account_id, idempotency_key);
create unique index work_charges_hold on billing.work_charges (hold_id) where hold_id is not null;
create unique index work_charges_entry on billing.work_charges (entry_id) where entry_id is not null;
create unique index work_charges_excess on billing.work_charges (excess_entry_id) where excess_entry_id is not null;
create index work_charges_history on billing.work_charges (account_id, id desc);
create index work_charges_price on billing.work_charges (operation_price_id);

alter table billing.work_holds enable row level security;
alter table billing.work_charges enable row level security;
revoke all on all sequences in schema billing from public, anon, authenticated, service_role;
revoke all on billing.work_holds, billing.work_charges from public, anon, authenticated, service_role;

-- The holds are read first, under their own policy, and once for each statement.
create policy work_holds_select_own on billing.work_holds
for select to authenticated using (hold_id = any (array(select credit_holds.id from billing.credit_holds)));

create policy work_charges_select_own on billing.work_charges
for select to authenticated using (account_id = any (array(select billing.my_account_ids())));

grant select on billing.work_holds, billing.work_charges to authenticated, service_role;

create trigger tg_work_holds__append_only
before update or delete or truncate on billing.work_holds
for each statement execute function billing.tg_ledger__append_only();

create trigger tg_work_charges__append_only
before update or delete or truncate on billing.work_charges
for each statement execute function billing.tg_ledger__append_only();

-- Raises TB002 if a charge that has the key of a call was made by another one.
create function billing._check_same_charge(
    charge billing.work_charges, operation text, quantities jsonb, hold_id uuid, on_excess text, description text,
    metadata jsonb, actor text
)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    if (
        (_check_same_charge.charge).quantities, (_check_same_charge.charge).hold_id,
        (_check_same_charge.charge).on_excess
    ) is distinct from (
        _check_same_charge.quantities, _check_same_charge.hold_id, _check_same_charge.on_excess
    )
    or not exists (
        select from billing.operation_prices
        where operation_prices.id = (_check_same_charge.charge).operation_price_id
            and operation_prices.operation = _check_same_charge.operation
    )
    -- Work that cost nothing has no entry.
    or exists (
        select from billing.credit_entries
        where credit_entries.id = (_check_same_charge.charge).entry_id
            and (credit_entries.description, credit_entries.metadata, credit_entries.actor) is distinct from (
                _check_same_charge.description, _check_same_charge.metadata, _check_same_charge.actor
            )
    ) then
        perform billing._raise_key_reused((_check_same_charge.charge).idempotency_key);
    end if;
end
$$;

-- A hold for work that is estimated to cost nothing: it reserves nothing, and is settled and released like any other.
create function billing._hold_nothing(
    balance billing.credit_balances, idempotency_key text, expires_in interval, description text, metadata jsonb,
    feature text, actor text
)
returns billing.credit_holds
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_hold billing.credit_holds;
begin
    if not (_hold_nothing.balance).may_spend then
        perform billing._check_may_spend((_hold_nothing.balance).account_id);
    end if;
    perform billing._check_expires_in(_hold_nothing.expires_in);
    insert into billing.credit_holds (
        account_id, amount, description, metadata, feature, actor, idempotency_key, expires_in, expires_at
    )
    values (
        (_hold_nothing.balance).account_id, 0, _hold_nothing.description, _hold_nothing.metadata,
        _hold_nothing.feature, billing._checked_actor(_hold_nothing.actor), _hold_nothing.idempotency_key, _hold_nothing.expires_in,
        billing.current_time() + _hold_nothing.expires_in
    )
    returning * into v_hold;
    perform billing._remember_due(v_hold.account_id, v_hold.expires_at);
    return v_hold;
end
$$;

create function billing.hold_work(
    account_id uuid,
    operation text,
    quantities jsonb,
    idempotency_key text,
    expires_in interval default '1 hour',
    description text default null,
    metadata jsonb default '{}',
    actor text default null
)
returns billing.credit_holds
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_balance billing.credit_balances;
    v_hold billing.credit_holds;
    v_price billing.operation_prices;
    v_credits bigint;
begin
    perform billing._checked_key(hold_work.idempotency_key, hold_work.metadata);
    v_balance := billing._lock_balance(hold_work.account_id);

    select * into v_hold from billing.credit_holds
    where credit_holds.account_id = hold_work.account_id
        and credit_holds.idempotency_key = hold_work.idempotency_key;
    if found then
        if (v_hold.expires_in, v_hold.description, v_hold.metadata, v_hold.actor) is distinct from (
                hold_work.expires_in, hold_work.description, hold_work.metadata, hold_work.actor
            )
            or not exists (
                select from billing.work_holds
                join billing.operation_prices on operation_prices.id = work_holds.operation_price_id
                where work_holds.hold_id = v_hold.id and work_holds.quantities = hold_work.quantities
                    and operation_prices.operation = hold_work.operation
            ) then
            perform billing._raise_key_reused(hold_work.idempotency_key);
        end if;
        return v_hold;
    end if;

    v_price := billing._operation_price(hold_work.operation, billing.current_time());
    v_credits := (billing._price_work(v_price, hold_work.quantities)).credits;
    if v_credits > 0 then
        v_hold := billing.hold_credits(
            account_id => hold_work.account_id, amount => v_credits, idempotency_key => hold_work.idempotency_key,
            expires_in => hold_work.expires_in, description => hold_work.description, metadata => hold_work.metadata,
            feature => hold_work.operation, actor => hold_work.actor
        );
    else
        v_hold := billing._hold_nothing(
            v_balance, hold_work.idempotency_key, hold_work.expires_in, hold_work.description, hold_work.metadata,
            hold_work.operation, hold_work.actor
        );
    end if;
    insert into billing.work_holds (hold_id, operation_price_id, quantities)
    values (v_hold.id, v_price.id, hold_work.quantities);
    return v_hold;
end
$$;

-- Spends what work cost beyond its hold, whatever the account has: what its lots cannot pay becomes debt. Counted by a
-- spend cap and by budgets and refused by none, because the work is done.
create function billing._spend_excess(
    hold billing.credit_holds, amount bigint, key_space text, idempotency_key text, description text, metadata jsonb
)
returns billing.credit_entries
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_balance billing.credit_balances := billing._lock_settled_balance((_spend_excess.hold).account_id);
    -- One time for the entry and the budgets' periods.
    v_now timestamptz := billing.current_time();
    v_debt numeric := greatest(
        _spend_excess.amount - (v_balance.balance::numeric + v_balance.debt - v_balance.held), 0
    );
begin
    if v_balance.debt + v_debt > 9223372036854775807 then
        raise exception 'account % would owe % credits', v_balance.account_id, v_balance.debt + v_debt
            using errcode = 'TB104', hint = 'Settle with on_excess => ''clip'', or pass less usage.';
    end if;
    if v_balance.spend_cap is not null then
        v_balance := billing._in_running_period(v_balance);
        v_balance.spent_in_period := v_balance.spent_in_period + _spend_excess.amount;
    end if;
    if v_balance.has_budgets and (_spend_excess.hold).actor is not null then
        perform billing._count_in_budgets(
            v_balance.account_id, (_spend_excess.hold).actor, _spend_excess.amount, 0, v_now
        );
    end if;
    return billing._post_entry(v_balance, billing._entry(
        account_id => v_balance.account_id, kind => 'spend', amount => -_spend_excess.amount, debt => v_debt::bigint,
        source => 'app', description => _spend_excess.description, feature => (_spend_excess.hold).feature,
        metadata => _spend_excess.metadata, actor => (_spend_excess.hold).actor, key_space => _spend_excess.key_space,
        idempotency_key => _spend_excess.idempotency_key, occurred_at => v_now
    ));
end
$$;

create function billing.settle_work(
    hold_id uuid,
    usage jsonb,
    idempotency_key text,
    on_excess text default null,
    description text default null,
    metadata jsonb default '{}'
)
returns billing.work_charges
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_hold billing.credit_holds;
    v_price billing.operation_prices;
    v_on_excess text;
    v_description text;
    v_charge billing.work_charges;
    v_captured bigint;
    v_excess bigint;
begin
    perform billing._checked_key(settle_work.idempotency_key, settle_work.metadata);
    v_hold := billing._lock_hold(settle_work.hold_id);
    select operation_prices.* into v_price from billing.work_holds
    join billing.operation_prices on operation_prices.id = work_holds.operation_price_id
    where work_holds.hold_id = v_hold.id;
    if not found then
        raise exception 'hold % is not for priced work', v_hold.id
            using errcode = 'TB109', hint = 'Use capture_hold, or make the hold with hold_work.';
    end if;
    v_on_excess := coalesce(settle_work.on_excess, v_price.on_excess);
    v_description := coalesce(settle_work.description, v_hold.description);
    select * into v_charge from billing.work_charges
    where work_charges.account_id = v_hold.account_id
        and work_charges.idempotency_key = settle_work.idempotency_key;
    if found then
        perform billing._check_same_charge(
            v_charge, v_price.operation, settle_work.usage, v_hold.id, v_on_excess, v_description,
            settle_work.metadata, v_hold.actor
        );
        return v_charge;
    end if;

    perform billing._check_on_excess(v_on_excess);
    perform billing._check_held(v_hold);
    select priced.unrounded, priced.credits into v_charge.unrounded, v_charge.credits
    from billing._price_work(v_price, settle_work.usage) as priced;
    perform billing._check_key_is_new(v_hold.account_id, settle_work.idempotency_key);
    v_captured := least(v_charge.credits, v_hold.amount - v_hold.captured);
    v_excess := v_charge.credits - v_captured;
    if v_excess > 0 and v_on_excess = 'refuse' then
        raise exception 'the work costs % credits, and hold % has % left', v_charge.credits, v_hold.id,
            v_hold.amount - v_hold.captured
            using errcode = 'TB105', hint = 'Settle with on_excess => ''debt'' or ''clip'', or release the hold.';
    elsif v_on_excess = 'clip' then
        v_excess := 0;
    end if;

    if v_captured > 0 then
        v_charge.entry_id := (billing._capture(
            v_hold, v_captured, settle_work.idempotency_key, v_description, settle_work.metadata, release_rest => true
        )).id;
    else
        perform billing.release_hold(v_hold.id, settle_work.idempotency_key);
    end if;
    if v_excess > 0 and v_captured > 0 then
        v_charge.excess_entry_id := (billing._spend_excess(
            v_hold, v_excess, 'system', 'excess:' || v_hold.id, v_description, settle_work.metadata
        )).id;
    elsif v_excess > 0 then
        v_charge.entry_id := (billing._spend_excess(
            v_hold, v_excess, 'caller', settle_work.idempotency_key, v_description, settle_work.metadata
        )).id;
    end if;
    insert into billing.work_charges (
        account_id, operation_price_id, quantities, unrounded, credits, charged, on_excess, hold_id, entry_id,
        excess_entry_id, idempotency_key, occurred_at
    )
    values (
        v_hold.account_id, v_price.id, settle_work.usage, v_charge.unrounded, v_charge.credits, v_captured + v_excess,
        v_on_excess, v_hold.id, v_charge.entry_id, v_charge.excess_entry_id, settle_work.idempotency_key,
        billing.current_time()
    )
    returning * into v_charge;
    return v_charge;
end
$$;

create function billing.spend_work(
    account_id uuid,
    operation text,
    quantities jsonb,
    idempotency_key text,
    description text default null,
    metadata jsonb default '{}',
    actor text default null
)
returns billing.work_charges
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_balance billing.credit_balances;
    v_price billing.operation_prices;
    v_charge billing.work_charges;
begin
    perform billing._checked_key(spend_work.idempotency_key, spend_work.metadata);
    perform billing._checked_actor(spend_work.actor);
    -- Before the price is read, so that of two calls with one key the second finds the charge of the first.
    v_balance := billing._lock_balance(spend_work.account_id);
    select * into v_charge from billing.work_charges
    where work_charges.account_id = spend_work.account_id
        and work_charges.idempotency_key = spend_work.idempotency_key;
    if found then
        perform billing._check_same_charge(
            v_charge, spend_work.operation, spend_work.quantities, null, null, spend_work.description,
            spend_work.metadata, spend_work.actor
        );
        return v_charge;
    end if;

    v_price := billing._operation_price(spend_work.operation, billing.current_time());
    select priced.unrounded, priced.credits into v_charge.unrounded, v_charge.credits
    from billing._price_work(v_price, spend_work.quantities) as priced;
    if v_charge.credits > 0 then
        v_charge.entry_id := (billing.spend_credits(
            account_id => spend_work.account_id, amount => v_charge.credits,
            idempotency_key => spend_work.idempotency_key, description => spend_work.description,
            metadata => spend_work.metadata, feature => spend_work.operation, actor => spend_work.actor
        )).id;
    else
        perform billing._check_key_is_new(spend_work.account_id, spend_work.idempotency_key);
        if not v_balance.may_spend then
            perform billing._check_may_spend(spend_work.account_id);
        end if;
    end if;
    insert into billing.work_charges (
        account_id, operation_price_id, quantities, unrounded, credits, charged, entry_id, idempotency_key, occurred_at
    )
    values (
        spend_work.account_id, v_price.id, spend_work.quantities, v_charge.unrounded, v_charge.credits,
        v_charge.credits, v_charge.entry_id, spend_work.idempotency_key, billing.current_time()
    )
    returning * into v_charge;
    return v_charge;
end
$$;

revoke all on function
    billing._check_same_charge, billing._hold_nothing, billing.hold_work, billing._spend_excess, billing.settle_work,
    billing.spend_work
from public, anon, authenticated, service_role;
grant execute on function
    billing.hold_work(uuid, text, jsonb, text, interval, text, jsonb, text),
    billing.settle_work(uuid, jsonb, text, text, text, jsonb),
    billing.spend_work(uuid, text, jsonb, text, text, jsonb, text)
to service_role;

comment on table billing.work_holds is 'Holds for priced work: the price that was in force, and the estimated quantities.';
comment on column billing.work_holds.operation_price_id is 'The version by which the work is settled, even if the price has changed since.';
comment on table billing.work_charges is 'Priced work that was charged: quantities, the version of the price, and the entries.';
comment on column billing.work_charges.unrounded is 'What the quantities cost before rounding and the minimum, to 18 decimal places.';
comment on column billing.work_charges.credits is 'What the work costs by the price list.';
comment on column billing.work_charges.charged is 'What the account was charged; less than credits only if on_excess is clip.';
comment on column billing.work_charges.on_excess is 'The policy for work that costs more than its hold had; null without a hold.';
comment on column billing.work_charges.entry_id is 'The capture or spend; null if nothing was charged.';
comment on column billing.work_charges.excess_entry_id is 'The spend of what the hold did not have, beside the capture.';
comment on function billing.hold_work(uuid, text, jsonb, text, interval, text, jsonb, text) is 'Holds what an operation is estimated to cost, at the price in force now; once for each idempotency key.';
comment on function billing.settle_work(uuid, jsonb, text, text, text, jsonb) is 'Charges what held work really used, at the price of its hold, and releases the rest; once for each idempotency key. If it costs more than the hold has, on_excess decides (null: as the price says).';
comment on function billing.spend_work(uuid, text, jsonb, text, text, jsonb, text) is 'Prices an operation and spends the credits in one call, without a hold; once for each idempotency key.';

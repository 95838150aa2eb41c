-- Worth → the ledger: compares, by key, what is paid for with what the ledger has, and posts the difference.
--
-- Invariant: for each key the ledger has exactly what it is worth: granted lots, minus what was carried or revoked
-- later. The result is the same for any caller (an event, the clock, a person), and for repeated calls. What a person
-- revoked, adjusted or refused stays, because only revocations with a key count. Simple moves are written as sets, the
-- others one by one, in the order of their times.
--
-- Private: called by _allocate_subscription and allocate_due_credits. The caller has locked the balances.

-- Lots from which a move may take credits, in order: those of its key, then those of its month and later ones of the
-- subscription, its month's first, and among these its item's first. For returned money: those of the invoice.
create function billing._lots_of_move(move billing.credit_move)
returns bigint[]
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_move billing.credit_move := _lots_of_move.move;
begin
    return array(
        select lots.id from billing.credit_grants as lots
        where lots.account_id = v_move.account_id and lots.key_space = 'stripe' and lots.entry_id is not null
            and (
                lots.idempotency_key = v_move.key or lots.idempotency_key ^@ (v_move.key || '#')
                -- Free lots serve only their own key, and free moves take from no other lots.
                or not v_move.key ^@ 'free:' and not lots.idempotency_key ^@ 'free:' and case
                    when v_move.returned > 0 then lots.stripe_invoice_id = v_move.stripe_invoice_id
                    else lots.reference_id = v_move.stripe_subscription_id and lots.effective_at >= v_move.slot_start
                        and lots.source in ('stripe.monthly_allocation', 'stripe.proration')
                end
            )
        order by
            lots.idempotency_key = v_move.key or lots.idempotency_key ^@ (v_move.key || '#') desc,
            lots.effective_at <= v_move.moment desc,
            lots.stripe_subscription_item_id is not distinct from v_move.stripe_subscription_item_id desc,
            lots.effective_at desc, lots.id desc
    );
end
$$;

-- Posts one move to the ledger. Returns how many credits it granted.
create function billing._post_move(move billing.credit_move)
returns bigint
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_move billing.credit_move := _post_move.move;
    v_is_new boolean;
    v_carried bigint;
    v_change bigint := v_move.credits;
    v_lots bigint[];
    v_contested text[];
    v_later timestamptz;
    v_entry billing.credit_entries;
    v_plan_name text;
begin
    select
        -- The common case: the ledger has nothing for this key yet.
        not (
            exists (
                select from billing.credit_grants
                where credit_grants.key_space = 'stripe' and credit_grants.idempotency_key = v_move.key
            )
            or exists (select from billing.credit_revocations where credit_revocations.business_key = v_move.key)
            or exists (select from billing.carried_credits where carried_credits.business_key = v_move.key)
        ),
        credit_balances.carried
    into v_is_new, v_carried
    from billing.credit_balances where credit_balances.account_id = v_move.account_id;
    if not v_is_new then
        v_change := v_change - billing._posted_credits(v_move.account_id, v_move.key);
    end if;
    if v_change < 0 then
        v_lots := billing._lots_of_move(v_move);
        -- Credits that a dispute froze count as unspent.
        v_contested := array(
            select distinct lots.stripe_invoice_id from billing.credit_holds as holds
            join billing.credit_grants as lots on lots.id = holds.frozen_grant_id
            where holds.frozen_grant_id = any (v_lots) and holds.status = 'held' and lots.stripe_invoice_id is not null
            order by lots.stripe_invoice_id
        );
        if cardinality(v_contested) > 0 then
            perform billing._thaw_lots(v_lots, 0);
        end if;
        perform billing._take_back(
            v_move.account_id, v_move.key, -v_change, v_lots,
            case
                when v_move.returned > 0 then (select settings.shortfall_policy from billing.settings)
                -- Free time is not credited back with money.
                when v_move.key ^@ 'free:' then 'clamp_and_record'
                else 'carry'
            end,
            case when v_move.returned > 0 then 'Payment returned to the customer' else 'Time credited back by Stripe' end
        );
        perform billing._freeze_contested(contested.stripe_invoice_id)
        from unnest(v_contested) as contested (stripe_invoice_id);
        return 0;
    elsif v_change > 0 and not v_is_new then
        v_change := billing._give_back(v_move.account_id, v_move.key, v_change);
    end if;
    if v_change > 0 and v_move.key ^@ 'credited:' then
        return billing._give_less_reduced(v_move.account_id, v_move.key, v_change);
    elsif v_change = 0 or v_move.is_waiting then
        return 0;
    end if;

    if v_carried > 0 and not v_move.key ^@ 'free:' then
        v_change := billing._less_carried(v_move.account_id, v_move.key, v_change);
    end if;
    if v_change = 0 then
        return 0;
    elsif v_move.rollover = 'cap' then
        perform billing._expire_beyond_cap(
            v_move.account_id, v_move.stripe_subscription_item_id, v_move.rollover_cap, v_move.slot_start
        );
    end if;
    select coalesce(plans.nickname, products.name) into v_plan_name from billing.plans
    join billing.products on products.stripe_product_id = plans.stripe_product_id
    where plans.stripe_price_id = v_move.stripe_price_id;
    v_entry := billing._grant_credits(
        account_id => v_move.account_id,
        amount => v_change,
        key_space => 'stripe',
        idempotency_key => case when v_is_new then v_move.key else billing._next_lot_key(v_move.key) end,
        source => v_move.source,
        reference_id => v_move.stripe_subscription_id,
        description => billing._description_of_move(v_move.source, v_plan_name),
        effective_at => v_move.moment,
        expires_at => v_move.expires_at,
        stripe_invoice_id => v_move.stripe_invoice_id,
        stripe_subscription_item_id => v_move.stripe_subscription_item_id,
        stripe_price_id => v_move.stripe_price_id
    );
    if v_move.returned > 0 then
        update billing.credit_grants set cut = v_move.returned where credit_grants.entry_id = v_entry.id;
    end if;
    if v_move.rollover = 'cap' then
        -- Months that started later may already be granted: what they carry over includes this month.
        for v_later in
            select credit_grants.effective_at from billing.credit_grants
            where credit_grants.account_id = v_move.account_id
                and credit_grants.stripe_subscription_item_id = v_move.stripe_subscription_item_id
                and credit_grants.source = 'stripe.monthly_allocation'
                and credit_grants.effective_at > v_move.slot_start
            order by credit_grants.effective_at
        loop
            perform billing._expire_beyond_cap(
                v_move.account_id, v_move.stripe_subscription_item_id, v_move.rollover_cap, v_later
            );
        end loop;
    end if;
    return v_change;
end
$$;

-- Credits that were carried for time that turned out not to be given back: the grants that were reduced for them, the
-- newest first, get them back, with their own expiry. Returns how many credits were granted.
create function billing._give_less_reduced(account_id uuid, business_key text, amount bigint)
returns bigint
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_left bigint := _give_less_reduced.amount;
    v_granted bigint := 0;
    v_reduced billing.carried_credits;
    v_part bigint;
    v_item_id text;
    v_from timestamptz;
begin
    for v_reduced in
        select * from billing.carried_credits
        where carried_credits.account_id = _give_less_reduced.account_id and carried_credits.amount > 0
        order by carried_credits.created_at desc, carried_credits.business_key desc
    loop
        exit when v_left = 0;
        v_part := least(v_left, v_reduced.amount);
        v_left := v_left - v_part;
        perform billing._carry(v_reduced.account_id, v_reduced.business_key, -v_part);
        perform billing._carry(v_reduced.account_id, _give_less_reduced.business_key, v_part);
        if v_reduced.business_key !~ '^(monthly|proration):' then
            perform billing._post_purchase(v_reduced.business_key);
            continue;
        end if;
        -- The key contains the item and the start of the month.
        v_item_id := split_part(v_reduced.business_key, ':', 2);
        v_from := right(v_reduced.business_key, 20)::timestamptz;
        v_granted := v_granted + coalesce((
            select sum(billing._post_move(worth)) from billing._worth(array(
                select distinct schedules.stripe_subscription_id from billing.credit_schedules as schedules
                where schedules.account_id = v_reduced.account_id
                    and schedules.stripe_subscription_item_id = v_item_id
            ), v_from, billing._slot(v_from, 1)) as worth
            where worth.key = v_reduced.business_key
        ), 0);
    end loop;
    return v_granted;
end
$$;

create function billing._description_of_move(source text, plan_name text)
returns text
language sql
immutable
as $$
    select case source
        when 'stripe.proration' then 'Subscription credits for the change to '
        else 'Monthly subscription credits for '
    end || plan_name
$$;

-- Writes simple moves as sets: nothing was posted for their keys, and their accounts owe nothing. Returns the others,
-- in the order of their times.
create function billing._post_simple_moves(moves billing.credit_move[])
returns table (slots_granted bigint, credits_granted numeric, others billing.credit_move[])
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_now timestamptz := billing.current_time();
    v_balances billing.credit_balances[];
    v_entries billing.credit_entries[];
    v_lots billing.credit_grants[];
begin
    with moves as (
        select
            worth as move, worth.*, lots.id as lot_id, lots.amount as lot_amount,
            worth.credits > 0 and not worth.is_waiting and worth.returned = 0 and lots.id is null
                and worth.rollover <> 'cap' and worth.credits <= 1000000000000
                and balances.debt = 0 and balances.withheld = 0 and balances.carried = 0
                and balances.balance <= 4611686018427387904 and (
                    balances.may_spend or not exists (
                        select from billing.accounts
                        where accounts.id = balances.account_id and accounts.closed_at is not null
                    )
                ) as is_simple,
            balances as locked
        from unnest(_post_simple_moves.moves) as worth
        join billing.credit_balances as balances on balances.account_id = worth.account_id
        left join billing.credit_grants as lots on lots.key_space = 'stripe' and lots.idempotency_key = worth.key
    ),
    -- Skips moves that the ledger already matches, and waiting moves without a lot.
    pending as materialized (
        select * from moves
        where not (
            moves.is_waiting and moves.lot_id is null
            or moves.credits = coalesce(moves.lot_amount, 0) and not exists (
                select from billing.credit_grants as more
                where more.key_space = 'stripe' and more.idempotency_key = moves.key || '#2'
            ) and not exists (
                select from billing.credit_revocations where credit_revocations.business_key = moves.key
            ) and not exists (
                select from billing.carried_credits where carried_credits.business_key = moves.key
            )
        )
    ),
    simple as materialized (
        select
            pending.account_id, pending.moment, pending.key, pending.credits, pending.source, pending.expires_at,
            pending.stripe_subscription_id, pending.stripe_subscription_item_id, pending.stripe_price_id,
            pending.stripe_invoice_id, pending.locked
        from pending
        where pending.is_simple and not exists (
            select from pending as others where others.account_id = pending.account_id and not others.is_simple
        )
    ),
    fresh as (
        select
            nextval('billing.credit_entries_id_seq') as entry_id, ordered.*,
            row_number() over account as number,
            sum(ordered.credits) over (account rows unbounded preceding) as so_far,
            sum(ordered.credits) over (partition by ordered.account_id) as total,
            min(ordered.expires_at) over (partition by ordered.account_id) as due_at
        from (
            select
                simple.*,
                billing._description_of_move(simple.source, coalesce(plans.nickname, products.name)) as description
            from simple
            join billing.plans on plans.stripe_price_id = simple.stripe_price_id
            join billing.products on products.stripe_product_id = plans.stripe_product_id
            order by simple.account_id, simple.moment, simple.key
        ) as ordered
        window account as (partition by ordered.account_id order by ordered.moment, ordered.key)
    )
    select
        count(*), coalesce(sum(fresh.credits), 0),
        array_agg(billing._moved(fresh.locked, fresh.total::bigint, fresh.due_at)) filter (where fresh.number = 1),
        array_agg(billing._entry(
            id => fresh.entry_id, account_id => fresh.account_id, kind => 'grant', amount => fresh.credits,
            balance_after => (fresh.locked).balance + fresh.so_far::bigint,
            source => fresh.source, reference_id => fresh.stripe_subscription_id, description => fresh.description,
            key_space => 'stripe', idempotency_key => fresh.key, occurred_at => v_now
        )),
        array_agg(billing._lot(
            entry_id => fresh.entry_id, account_id => fresh.account_id, amount => fresh.credits,
            effective_at => fresh.moment, expires_at => fresh.expires_at, source => fresh.source,
            reference_id => fresh.stripe_subscription_id, key_space => 'stripe', idempotency_key => fresh.key,
            stripe_invoice_id => fresh.stripe_invoice_id,
            stripe_subscription_item_id => fresh.stripe_subscription_item_id,
            stripe_price_id => fresh.stripe_price_id
        )),
        (
            select array_agg(pending.move order by
                pending.account_id, pending.moment, pending.key ^@ 'credited:', pending.key
            )
            from pending
            where pending.account_id not in (select simple.account_id from simple)
        )
    into slots_granted, credits_granted, v_balances, v_entries, v_lots, others
    from fresh;
    if slots_granted > 0 then
        perform billing._write_entries(v_balances, v_entries, v_lots, '{}');
    end if;
    return next;
end
$$;

-- Posts the worth of subscriptions between two times, and moves their schedules forward. Returns the number of granting
-- moves, the credits, and the accounts without room for more.
create function billing._allocate_slots(
    stripe_subscription_ids text[], from_moment timestamptz, until_moment timestamptz,
    out slots_granted bigint, out credits_granted numeric, out full_account_ids uuid[]
)
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    -- A set has fixed costs of about a millisecond.
    v_one_by_one_max constant integer := 5;
    v_moves billing.credit_move[];
    v_move billing.credit_move;
    v_balance bigint;
    v_may_spend boolean;
    v_granted bigint;
begin
    select array_agg(worth order by worth.account_id, worth.moment, worth.key ^@ 'credited:', worth.key) into v_moves
    from billing._worth(
        _allocate_slots.stripe_subscription_ids, _allocate_slots.from_moment, _allocate_slots.until_moment
    ) as worth;
    slots_granted := 0;
    credits_granted := 0;
    if cardinality(v_moves) > v_one_by_one_max then
        select simple.slots_granted, simple.credits_granted, simple.others
        into slots_granted, credits_granted, v_moves
        from billing._post_simple_moves(v_moves) as simple;
    end if;

    if cardinality(v_moves) > 1 then
        -- Of one moment, what becomes more comes first: what becomes less is set against it, before later months.
        select array_agg(
            ordered.move order by
                ordered.account_id, ordered.moment, ordered.key ^@ 'credited:', ordered.becomes_less, ordered.key
        ) into v_moves
        from (
            select
                moves as move, moves.account_id, moves.moment, moves.key,
                case
                    when count(*) over (partition by moves.account_id, moves.moment) = 1 then false
                    else moves.credits < billing._posted_credits(moves.account_id, moves.key)
                end as becomes_less
            from unnest(v_moves) as moves
        ) as ordered;
    end if;

    foreach v_move in array coalesce(v_moves, '{}') loop
        continue when v_move.account_id = any (full_account_ids);
        select credit_balances.balance, credit_balances.may_spend into v_balance, v_may_spend
        from billing.credit_balances where credit_balances.account_id = v_move.account_id;
        if not v_may_spend then
            continue when exists (
                select from billing.accounts where accounts.id = v_move.account_id and accounts.closed_at is not null
            );
        end if;
        -- A move that would exceed the largest balance waits until there is room, even if its line has no other month.
        if v_move.credits > 9223372036854775807 - greatest(v_balance, 0) then
            full_account_ids := full_account_ids || v_move.account_id;
            update billing.credit_schedules set next_slot_at = credit_schedules.period_start
            where credit_schedules.stripe_subscription_id = any (_allocate_slots.stripe_subscription_ids)
                and credit_schedules.account_id = v_move.account_id
                and credit_schedules.period_start >= _allocate_slots.from_moment
                and credit_schedules.period_start < credit_schedules.ends_at
                and credit_schedules.next_slot_at is null and not credit_schedules.gives_back;
            continue;
        end if;
        v_granted := billing._post_move(v_move);
        slots_granted := slots_granted + (v_granted > 0)::integer;
        credits_granted := credits_granted + v_granted;
    end loop;

    update billing.credit_schedules as schedules
    set next_slot_at = (
        select case when later.slot_start < schedules.ends_at then later.slot_start end
        from (
            select billing._first_slot(schedules.anchor, case
                when schedules.disarmed_reason is null
                    then greatest(schedules.period_start, _allocate_slots.until_moment)
                -- Waiting months stay due; the first month of a line never waits.
                else schedules.period_start
            end + interval '1 microsecond') as slot_start
            offset 0  -- or it would be worked out twice
        ) as later
    )
    where schedules.stripe_subscription_id = any (_allocate_slots.stripe_subscription_ids)
        and (
            schedules.next_slot_at <= _allocate_slots.until_moment and schedules.disarmed_reason is null
            or schedules.next_slot_at = schedules.period_start
        )
        -- Months that start before from_moment were not read.
        and schedules.next_slot_at >= _allocate_slots.from_moment
        and schedules.account_id <> all (coalesce(full_account_ids, '{}'));
end
$$;

revoke all on function
    billing._lots_of_move, billing._post_move, billing._give_less_reduced, billing._description_of_move,
    billing._post_simple_moves, billing._allocate_slots
from public, anon, authenticated, service_role;

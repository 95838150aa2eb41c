-- Credits of open disputes → frozen by holds that no app can capture or release. Spent ones are frozen when they are
-- refunded to the lot.
--
-- Private. The caller has locked the balance.

-- Credits of lots that are frozen, or will be when they return.
create function billing._frozen_of_lots(grant_ids bigint[])
returns bigint
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select coalesce(sum(lots.contested + coalesce(holds.amount, 0)), 0)::bigint
    from billing.credit_grants as lots
    left join (
        select credit_holds.frozen_grant_id, sum(credit_holds.amount) as amount from billing.credit_holds
        where credit_holds.frozen_grant_id = any (_frozen_of_lots.grant_ids) and credit_holds.status = 'held'
        group by credit_holds.frozen_grant_id
    ) as holds on holds.frozen_grant_id = lots.id
    where lots.id = any (_frozen_of_lots.grant_ids)
$$;

-- Unfreezes lots before credits are taken from them, unless exactly that many credits are frozen.
create function billing._thaw_lots(grant_ids bigint[], amount bigint)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    if billing._frozen_of_lots(_thaw_lots.grant_ids) = _thaw_lots.amount then
        return;
    end if;
    update billing.credit_grants set contested = 0
    where credit_grants.id = any (_thaw_lots.grant_ids) and credit_grants.contested > 0;
    perform billing._thaw(credit_holds) from billing.credit_holds
    where credit_holds.frozen_grant_id = any (_thaw_lots.grant_ids) and credit_holds.status = 'held';
end
$$;

-- Freezes credits of lots, the latest first, and records what could not be frozen.
create function billing._freeze_lots(grant_ids bigint[], amount bigint)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_left bigint := _freeze_lots.amount - billing._frozen_of_lots(_freeze_lots.grant_ids);
    v_lot billing.credit_grants;
    v_part bigint;
begin
    for v_lot in
        select * from billing.credit_grants where credit_grants.id = any (_freeze_lots.grant_ids)
        order by credit_grants.effective_at desc, credit_grants.id desc
    loop
        v_part := least(v_left, v_lot.remaining - v_lot.held);
        continue when v_part <= 0;
        perform billing._freeze(v_lot, v_part);
        v_left := v_left - v_part;
    end loop;
    for v_lot in
        select * from billing.credit_grants where credit_grants.id = any (_freeze_lots.grant_ids)
        order by credit_grants.effective_at desc, credit_grants.id desc
    loop
        v_part := least(v_left, billing._spent_of_lot(v_lot) - billing._frozen_of_lots(array[v_lot.id]));
        continue when v_part <= 0;
        update billing.credit_grants set contested = credit_grants.contested + v_part where credit_grants.id = v_lot.id;
        v_left := v_left - v_part;
    end loop;
end
$$;

-- The lots that an invoice paid for: everything that can be revoked or frozen when its money is returned or disputed.
create function billing._lots_of_invoice(stripe_invoice_id text)
returns bigint[]
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return array(
        select lots.id from billing.credit_grants as lots
        where lots.stripe_invoice_id = _lots_of_invoice.stripe_invoice_id and lots.key_space = 'stripe'
            and not lots.idempotency_key ^@ 'free:'
    );
end
$$;

-- The credits of an invoice that would be lost with its open disputes: of months that have started, and of the first
-- month even if it was paid in advance.
create function billing._contested_credits(stripe_invoice_id text)
returns bigint
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_begun timestamptz;
begin
    select greatest(billing._time_of_account(invoices.account_id), (
        select min(schedules.period_start) from billing.credit_schedules as schedules
        where schedules.stripe_invoice_id = invoices.stripe_invoice_id
    )) into v_begun
    from billing.invoices where invoices.stripe_invoice_id = _contested_credits.stripe_invoice_id;
    return greatest((
        select coalesce(sum(contested.credits), 0)
        from billing._returned_credits(_contested_credits.stripe_invoice_id, true) as contested
        where contested.moment is null or contested.moment <= v_begun
    ) - (
        select coalesce(sum(returned.credits), 0)
        from billing._returned_credits(_contested_credits.stripe_invoice_id) as returned
        where returned.moment is null or returned.moment <= v_begun
    ), 0);
end
$$;

-- Freezes the contested credits of an invoice again, after a revocation.
create function billing._freeze_contested(stripe_invoice_id text)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    perform billing._freeze_lots(
        billing._lots_of_invoice(_freeze_contested.stripe_invoice_id),
        billing._contested_credits(_freeze_contested.stripe_invoice_id)
    );
end
$$;

revoke all on function
    billing._frozen_of_lots, billing._thaw_lots, billing._freeze_lots, billing._lots_of_invoice,
    billing._contested_credits, billing._freeze_contested
from public, anon, authenticated, service_role;

-- A balance falls below its threshold → a claimed recharge.
--
-- Invariant: the transaction of the movement makes the claim, once for each fall: the claim disarms the balance, and only
-- the end of the recharge arms it again. A claim never makes a movement fail. Caps count recharges that were not refused,
-- by calendar month (UTC).
--
-- Private. Locks: the account's balance first.

create function billing._pause_recharge(account_id uuid, reason text)
returns void
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    update billing.recharge_settings
    set is_paused = true, paused_reason = _pause_recharge.reason, paused_at = billing.current_time(),
        check_again_at = null, updated_at = now()
    where recharge_settings.account_id = _pause_recharge.account_id and not recharge_settings.is_paused
$$;

-- Arms the balance, unless the settings are paused or a recharge is open. A balance that is already below the threshold
-- counts as falling. The caller holds the balance's lock.
create function billing._arm_recharge(account_id uuid)
returns void
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    update billing.credit_balances
    set recharge_below = (
        select recharge_settings.threshold from billing.recharge_settings
        where recharge_settings.account_id = _arm_recharge.account_id and not recharge_settings.is_paused
            and not exists (
                select from billing.recharges
                where recharges.account_id = _arm_recharge.account_id
                    and recharges.status in ('claimed', 'charging', 'requires_action')
            )
    )
    where credit_balances.account_id = _arm_recharge.account_id
$$;

-- The account of a deleted user is handed to somebody else (transfer_ownership), who did not agree; the card is not theirs.
create function billing.tg_accounts__pause_recharge()
returns trigger
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform billing._pause_recharge(new.id, 'no_user');
    return null;
end
$$;

create trigger tg_accounts__pause_recharge
after update of kind on billing.accounts
for each row when (old.kind = 'personal' and new.kind = 'team')
execute function billing.tg_accounts__pause_recharge();

-- Handles a fall below the threshold: claims a recharge, pauses the settings, or schedules a later check. The caller holds
-- the balance's lock.
create function billing._claim_recharge(account_id uuid)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_now timestamptz := billing.current_time();
    v_month timestamptz := date_trunc('month', v_now, 'UTC');
    v_settings billing.recharge_settings;
    v_account billing.accounts;
    v_pack billing.credit_packs;
    v_customer_id text;
    v_obstacle text;
    v_count bigint;
    v_amount numeric;
    v_recharge_id uuid;
begin
    select * into v_settings from billing.recharge_settings
    where recharge_settings.account_id = _claim_recharge.account_id and not recharge_settings.is_paused
    for update;
    if not found then
        return;
    end if;
    select * into strict v_account from billing.accounts where accounts.id = v_settings.account_id;
    select * into v_pack from billing.credit_packs where credit_packs.stripe_price_id = v_settings.stripe_price_id;
    v_customer_id := billing._customer_of(v_settings.account_id, billing.is_livemode());

    v_obstacle := case
        when v_account.closed_at is not null then 'account_closed'
        -- The user who agreed was deleted.
        when not billing._has_user(v_account.id) then 'no_user'
        when v_customer_id is null then 'no_customer'
        when not v_pack.active or coalesce(v_pack.unit_amount, 0) <= 0 or not exists (
            select from billing.products where products.stripe_product_id = v_pack.stripe_product_id and products.active
        ) then 'no_pack'
    end;
    if v_obstacle is not null then
        perform billing._pause_recharge(v_account.id, v_obstacle);
        insert into billing.notifications (account_id, audience, kind, dedupe_key, payload)
        values (
            v_account.id, 'administrators', 'recharge_paused',
            format('recharge_paused:%s:%s', v_account.id, pg_current_xact_id()),
            jsonb_build_object('reason', v_obstacle, 'stripe_price_id', v_settings.stripe_price_id)
        )
        on conflict (dedupe_key) do nothing;
        return;
    elsif v_account.frozen_at is not null then
        update billing.recharge_settings set check_again_at = v_now + interval '1 hour', updated_at = now()
        where recharge_settings.account_id = v_account.id;
        return;
    end if;

    select count(*), coalesce(sum(recharges.amount), 0) into v_count, v_amount from billing.recharges
    where recharges.account_id = v_account.id and recharges.status <> 'failed' and recharges.claimed_at >= v_month;
    if v_count >= v_settings.monthly_cap_count or v_amount + v_pack.unit_amount > v_settings.monthly_cap_amount then
        update billing.recharge_settings
        set check_again_at = ((v_month at time zone 'UTC') + interval '1 month') at time zone 'UTC', updated_at = now()
        where recharge_settings.account_id = v_account.id;
        insert into billing.notifications (account_id, audience, kind, dedupe_key, payload)
        values (
            v_account.id, 'customer', 'recharge_capped',
            format('recharge_capped:%s:%s', v_account.id, to_char(v_month at time zone 'UTC', 'YYYY-MM')),
            jsonb_build_object('count', v_count, 'amount', v_amount, 'currency', v_pack.currency)
        )
        on conflict (dedupe_key) do nothing;
        return;
    end if;
    insert into billing.recharges (
        account_id, stripe_customer_id, stripe_price_id, credits, amount, currency, return_url, claimed_at
    )
    values (
        v_account.id, v_customer_id, v_pack.stripe_price_id, v_pack.pack_credits, v_pack.unit_amount, v_pack.currency,
        coalesce(v_settings.return_url, (select settings.site_url from billing.settings)), v_now
    )
    returning recharges.id into v_recharge_id;
    perform billing._enqueue_jobs('recharge', array[v_recharge_id::text]);
end
$$;

-- Deferred: a balance that falls and rises within one transaction did not fall.
create function billing.tg_credit_balances__recharge()
returns trigger
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    update billing.credit_balances set recharge_below = null
    where credit_balances.account_id = new.account_id
        and credit_balances.balance - credit_balances.held < credit_balances.recharge_below;
    if found then
        perform billing._claim_recharge(new.account_id);
    end if;
    return null;
end
$$;

create constraint trigger tg_credit_balances__recharge
-- A plain spend writes none of these; it judges by _is_alarming, and then writes held.
after update of held, recharge_below on billing.credit_balances
deferrable initially deferred
for each row
-- Null, for accounts without a threshold, counts as false.
when (new.balance - new.held < new.recharge_below)
execute function billing.tg_credit_balances__recharge();

revoke all on function
    billing._pause_recharge, billing._arm_recharge, billing.tg_accounts__pause_recharge,
    billing._claim_recharge, billing.tg_credit_balances__recharge
from public, anon, authenticated, service_role;

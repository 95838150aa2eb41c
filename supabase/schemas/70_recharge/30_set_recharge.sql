-- Agreeing to auto-recharge, changing, pausing and resuming it; and the RPC twin.
--
-- Invariant: settings that are not paused name an active pack with a price, and the account has a customer to charge.
-- Pausing is always possible. Callable by service_role: the app's own server records what its customer agreed to.

create function billing.set_recharge(
    account_id uuid,
    threshold numeric,
    stripe_price_id text,
    monthly_cap_amount numeric default null,
    monthly_cap_count integer default 10,
    is_paused boolean default false,
    return_url text default null
)
returns billing.recharge_settings
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_settings billing.recharge_settings;
begin
    perform billing._lock_balance(set_recharge.account_id);
    perform billing._check_open(set_recharge.account_id);
    if not coalesce(set_recharge.threshold between 1 and 1000000000000000, false)
        or set_recharge.threshold <> trunc(set_recharge.threshold) then
        raise exception 'threshold is %, not a whole number of credits from 1 to 1000000000000000',
            coalesce(set_recharge.threshold::text, 'null')
            using errcode = 'TB005', hint = 'Pass credits as a whole number. To stop recharges, pass is_paused => true.';
    elsif set_recharge.monthly_cap_amount not between 1 and 1000000000000000
        or set_recharge.monthly_cap_amount <> trunc(set_recharge.monthly_cap_amount)
        or set_recharge.monthly_cap_count < 1 then
        raise exception 'a monthly cap must be a whole number of at least 1'
            using errcode = 'TB052',
            hint = 'monthly_cap_amount is in minor units of the pack''s currency, monthly_cap_count a number of recharges; null is no cap.';
    elsif set_recharge.return_url !~ '^https?://[^[:space:]]+$' then
        raise exception 'return_url is not a valid URL'
            using errcode = 'TB053', hint = 'Pass an https address of your app, or leave it out.';
    elsif not coalesce(set_recharge.is_paused, false) and exists (
        select from billing.credit_packs
        where credit_packs.stripe_price_id = set_recharge.stripe_price_id and credit_packs.credits_per_unit is not null
    ) then
        raise exception 'the customer chooses the amount of price %: auto-recharge needs a pack with a fixed amount',
            set_recharge.stripe_price_id
            using errcode = 'TB050', hint = 'Use the stripe_price_id of a credit pack that has a unit_amount.';
    elsif not exists (
        select from billing.credit_packs
        join billing.products on products.stripe_product_id = credit_packs.stripe_product_id
        where credit_packs.stripe_price_id = set_recharge.stripe_price_id and (
            set_recharge.is_paused
            or credit_packs.active and products.active and credit_packs.unit_amount > 0
            and credit_packs.livemode = billing.is_livemode()
        )
    ) then
        raise exception 'price % is not a credit pack on sale', coalesce(set_recharge.stripe_price_id, 'null')
            using errcode = 'TB050', hint = 'Use the stripe_price_id of an active row of billing.credit_packs with a fixed price.';
    elsif not coalesce(set_recharge.is_paused, false)
        and billing._customer_of(set_recharge.account_id, billing.is_livemode()) is null then
        raise exception 'account % has no Stripe customer', set_recharge.account_id
            using errcode = 'TB051', hint = 'Link a customer with billing.link_customer(account_id, stripe_customer_id), and save a card for it.';
    end if;

    insert into billing.recharge_settings as held (
        account_id, threshold, stripe_price_id, monthly_cap_amount, monthly_cap_count, return_url, is_paused,
        paused_reason, paused_at
    )
    values (
        set_recharge.account_id, set_recharge.threshold::bigint, set_recharge.stripe_price_id,
        set_recharge.monthly_cap_amount::bigint, set_recharge.monthly_cap_count, set_recharge.return_url,
        coalesce(set_recharge.is_paused, false), case when set_recharge.is_paused then 'paused' end,
        case when set_recharge.is_paused then billing.current_time() end
    )
    on conflict on constraint recharge_settings_pkey do update
    set threshold = excluded.threshold, stripe_price_id = excluded.stripe_price_id,
        monthly_cap_amount = excluded.monthly_cap_amount, monthly_cap_count = excluded.monthly_cap_count,
        return_url = excluded.return_url, is_paused = excluded.is_paused, paused_reason = excluded.paused_reason,
        paused_at = excluded.paused_at, check_again_at = null, updated_at = now()
    returning * into v_settings;
    -- Enabling it again fails recharges that wait for an authentication. If one is paid later, it is still granted.
    if not v_settings.is_paused then
        update billing.recharges
        set status = 'failed', settled_at = billing.current_time(), updated_at = now()
        where recharges.account_id = v_settings.account_id and recharges.status = 'requires_action';
    end if;
    perform billing._arm_recharge(v_settings.account_id);
    return v_settings;
end
$$;

create function public.set_recharge(
    account_id uuid,
    threshold numeric,
    stripe_price_id text,
    monthly_cap_amount numeric default null,
    monthly_cap_count integer default 10,
    is_paused boolean default false,
    return_url text default null
)
returns billing.recharge_settings
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    select billing.set_recharge(
        set_recharge.account_id, set_recharge.threshold, set_recharge.stripe_price_id, set_recharge.monthly_cap_amount,
        set_recharge.monthly_cap_count, set_recharge.is_paused, set_recharge.return_url
    )
$$;

revoke all on function
    billing.set_recharge(uuid, numeric, text, numeric, integer, boolean, text),
    public.set_recharge(uuid, numeric, text, numeric, integer, boolean, text)
from public, anon, authenticated, service_role;
grant execute on function
    billing.set_recharge(uuid, numeric, text, numeric, integer, boolean, text),
    public.set_recharge(uuid, numeric, text, numeric, integer, boolean, text)
to service_role;

comment on function billing.set_recharge(uuid, numeric, text, numeric, integer, boolean, text) is 'Agrees to buy a credit pack with the customer''s default payment method whenever fewer credits than threshold are available; what is left out is no cap by amount, ten recharges a month, not paused. Calling it again changes it, and ends a pause.';
comment on function public.set_recharge(uuid, numeric, text, numeric, integer, boolean, text) is 'Agrees to buy a credit pack with the customer''s default payment method whenever fewer credits than threshold are available.';

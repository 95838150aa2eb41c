-- Packs that were paid in any way: a Checkout Session, a Stripe invoice, a recharge.
--
-- Invariant: a purchase is one row, with the same key however it is reported, and is granted once. Its credits are what
-- the pack was worth when it was paid; editing a price does not change them. A free pack is granted once for each
-- account, product and calendar month. Returned money revokes its share.
--
-- Only functions write; service_role reads. Private: called by the functions that record sessions, invoices and payment
-- intents.

-- The number of decimal places of a currency in Stripe: docs.stripe.com/currencies, zero-decimal and three-decimal.
create function billing._minor_digits(currency text)
returns integer
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
    select case
        when lower(_minor_digits.currency) in (
            'bif', 'clp', 'djf', 'gnf', 'jpy', 'kmf', 'krw', 'mga', 'pyg', 'rwf', 'vnd', 'vuv', 'xaf', 'xof', 'xpf'
        ) then 0
        when lower(_minor_digits.currency) in ('bhd', 'jod', 'kwd', 'omr', 'tnd') then 3
        else 2
    end
$$;

-- The credits of a quantity of packs, for a paid amount in minor units.
create function billing._credits_of_pack(pack billing.credit_packs, quantity bigint, amount bigint)
returns numeric
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
    select case
        when (_credits_of_pack.pack).credits_per_unit is not null then floor(
            (_credits_of_pack.pack).credits_per_unit * _credits_of_pack.amount
            / power(10::numeric, billing._minor_digits((_credits_of_pack.pack).currency))
        )
        else (_credits_of_pack.pack).pack_credits * coalesce(_credits_of_pack.quantity, 1)::numeric
    end
$$;

-- The credits of a purchase that its returned money revokes.
create function billing._returned_of_purchase(purchase billing.pack_purchases, with_contested boolean default false)
returns bigint
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_purchase billing.pack_purchases := _returned_of_purchase.purchase;
    v_returned numeric;
begin
    if v_purchase.price = 0 then
        return 0;
    elsif v_purchase.stripe_line_id is not null then
        return coalesce((
            select returned.credits
            from billing._returned_credits(v_purchase.stripe_invoice_id, _returned_of_purchase.with_contested) as returned
            where returned.stripe_subscription_item_id = v_purchase.business_key
        ), 0);
    end if;
    select sum(returns.amount) into v_returned
    from billing._returns_of_payments(array[v_purchase.stripe_payment_intent_id], '{}', '{}') as returns
    where _returned_of_purchase.with_contested or not returns.is_contested;
    return billing._gone(v_purchase.credits, coalesce(v_returned, 0), v_purchase.price);
end
$$;

-- Posts the worth of a purchase to the ledger: grants, revokes or restores credits.
create function billing._post_purchase(business_key text)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_purchase billing.pack_purchases;
    v_change bigint;
    v_returned bigint;
begin
    select * into strict v_purchase from billing.pack_purchases
    where pack_purchases.business_key = _post_purchase.business_key;
    perform billing._lock_balance(v_purchase.account_id);
    v_returned := billing._returned_of_purchase(v_purchase);
    v_change := v_purchase.credits - v_returned
        - billing._posted_credits(v_purchase.account_id, v_purchase.business_key);
    if exists (
        select from billing.accounts where accounts.id = v_purchase.account_id and accounts.closed_at is not null
    ) then
        -- Nothing can be revoked from a closed account; a grant to it is an error.
        if v_change > 0 and v_returned = 0 then
            perform billing._check_open(v_purchase.account_id);
        end if;
        return;
    elsif v_change < 0 then
        perform billing._take_back(
            v_purchase.account_id, v_purchase.business_key, -v_change, billing._lots_of_purchase(v_purchase),
            (select settings.shortfall_policy from billing.settings), 'Payment returned to the customer'
        );
    elsif v_change > 0 then
        v_change := billing._give_back(v_purchase.account_id, v_purchase.business_key, v_change);
        -- An invoice may have been paid from the customer's balance.
        if v_purchase.stripe_invoice_id is not null and v_purchase.price > 0 then
            v_change := billing._less_carried(v_purchase.account_id, v_purchase.business_key, v_change);
        end if;
        if v_change > 0 then
            perform billing._grant_credits(
                account_id => v_purchase.account_id,
                amount => v_change,
                key_space => 'stripe',
                idempotency_key => billing._next_lot_key(v_purchase.business_key),
                source => v_purchase.source,
                reference_id => v_purchase.reference_id,
                description => v_purchase.description,
                effective_at => least(v_purchase.purchased_at, billing.current_time()),
                expires_at => v_purchase.expires_at,
                stripe_invoice_id => v_purchase.stripe_invoice_id,
                stripe_price_id => v_purchase.stripe_price_id,
                stripe_checkout_session_id => v_purchase.stripe_checkout_session_id,
                stripe_payment_intent_id => v_purchase.stripe_payment_intent_id
            );
        end if;
    end if;
end
$$;

create function billing._lots_of_purchase(purchase billing.pack_purchases)
returns bigint[]
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return array(
        select lots.id from billing.credit_grants as lots
        where lots.account_id = (_lots_of_purchase.purchase).account_id and lots.key_space = 'stripe'
            and lots.entry_id is not null
            and (
                lots.idempotency_key = (_lots_of_purchase.purchase).business_key
                or lots.idempotency_key ^@ ((_lots_of_purchase.purchase).business_key || '#')
                or lots.stripe_invoice_id = (_lots_of_purchase.purchase).stripe_invoice_id
                and not lots.idempotency_key ^@ 'free:'
            )
        order by lots.idempotency_key = (_lots_of_purchase.purchase).business_key desc, lots.id desc
    );
end
$$;

-- TB010 for a price that declares credits but is not a pack; TB011 and TB055 if the account is unknown.
create function billing._check_buyer(stripe_id text, stripe_customer_id text, account_id uuid)
returns void
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    if _check_buyer.account_id is null and _check_buyer.stripe_customer_id is null then
        raise exception 'a guest without a Stripe customer paid for %', _check_buyer.stripe_id
            using errcode = 'TB055',
            hint = 'Grant the paid credits with `till credits grant`, and create Checkout Sessions for packs with customer_creation=always.';
    elsif _check_buyer.account_id is null then
        raise exception 'customer % of % is not linked to an account', _check_buyer.stripe_customer_id, _check_buyer.stripe_id
            using errcode = 'TB011', detail = _check_buyer.stripe_customer_id,
            hint = 'Call billing.link_customer(account_id, stripe_customer_id). The event is then retried automatically.';
    end if;
end
$$;

-- Records and grants one purchase, unless it is known.
create function billing._purchase(purchase billing.pack_purchases)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_purchase billing.pack_purchases := _purchase.purchase;
begin
    v_purchase.created_at := now();
    insert into billing.pack_purchases select (v_purchase).* on conflict (business_key) do nothing;
    perform billing._post_purchase(v_purchase.business_key);
    -- A test clock may be later than the expiry of the purchase.
    perform billing._settle_due(array[v_purchase.account_id], billing._time_of_account(v_purchase.account_id))
    where billing._time_of_account(v_purchase.account_id) > billing.current_time();
end
$$;

-- The key of free packs.
create function billing._free_pack_key(account_id uuid, stripe_product_id text, moment timestamptz)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select format(
        'free_pack:%s:%s:%s', _free_pack_key.account_id, _free_pack_key.stripe_product_id,
        to_char(_free_pack_key.moment at time zone 'utc', 'YYYY-MM')
    )
$$;

-- Packs on a paid invoice: with a plan or alone, also if a session created the invoice.
create function billing._purchase_packs_of_invoice(invoice billing.invoices)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_invoice billing.invoices := _purchase_packs_of_invoice.invoice;
    v_line billing.invoice_lines;
    v_pack billing.credit_packs;
    v_purchase billing.pack_purchases;
    v_credits numeric;
begin
    if coalesce(v_invoice.paid_at, v_invoice.as_of) < (select settings.credits_since from billing.settings)
        and not exists (
            select from billing.pack_purchases where pack_purchases.stripe_invoice_id = v_invoice.stripe_invoice_id
        ) then
        return;
    end if;
    for v_line in
        select invoice_lines.* from billing.invoice_lines
        where invoice_lines.stripe_invoice_id = v_invoice.stripe_invoice_id
            and invoice_lines.stripe_subscription_item_id is null and invoice_lines.stripe_price_id is not null
            and invoice_lines.amount >= 0
        order by invoice_lines.stripe_line_id
    loop
        select * into v_pack from billing.credit_packs
        where credit_packs.stripe_price_id = v_line.stripe_price_id
            and credit_packs.declared_from <= coalesce(v_invoice.paid_at, v_invoice.as_of);
        if not found then
            -- An unknown price may be a pack: the line waits for it. A known price that was no pack then is not one.
            update billing.invoice_lines set is_waiting = not exists (
                select from billing.one_time_prices where one_time_prices.stripe_price_id = v_line.stripe_price_id
                union all
                select from billing.credit_packs where credit_packs.stripe_price_id = v_line.stripe_price_id
            )
            where invoice_lines.stripe_line_id = v_line.stripe_line_id;
            continue;
        end if;
        perform billing._check_buyer(v_invoice.stripe_invoice_id, v_invoice.stripe_customer_id, v_invoice.account_id);
        perform billing._lock_balance(v_invoice.account_id);
        v_credits := billing._credits_of_pack(v_pack, v_line.quantity, v_line.amount);
        continue when v_credits = 0;
        v_purchase := null;
        v_purchase.price := greatest(v_line.amount - coalesce(v_line.discount, case
            when v_invoice.total <= 0 and v_invoice.subtotal > 0 then v_line.amount else 0
        end), 0);
        v_purchase.purchased_at := coalesce(v_invoice.paid_at, v_invoice.as_of);
        v_purchase.business_key := case
            when v_purchase.price = 0
                then billing._free_pack_key(v_invoice.account_id, v_pack.stripe_product_id, v_purchase.purchased_at)
            else 'pack:' || v_line.stripe_line_id
        end;
        v_purchase.account_id := v_invoice.account_id;
        v_purchase.source := 'stripe.pack';
        v_purchase.reference_id := v_invoice.stripe_invoice_id;
        v_purchase.description := billing._pack_name(v_pack);
        v_purchase.credits := billing._checked_amount(v_credits);
        v_purchase.stripe_price_id := v_pack.stripe_price_id;
        v_purchase.stripe_invoice_id := v_invoice.stripe_invoice_id;
        v_purchase.stripe_line_id := v_line.stripe_line_id;
        v_purchase.expires_at := v_purchase.purchased_at + v_pack.expires_after;
        perform billing._purchase(v_purchase);
    end loop;
end
$$;

-- The price that lines of invoices wait for has arrived, and is no pack.
create function billing.tg_one_time_prices__end_waiting()
returns trigger
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    update billing.invoice_lines set is_waiting = false
    where invoice_lines.stripe_price_id = new.stripe_price_id and invoice_lines.is_waiting
        and invoice_lines.stripe_subscription_item_id is null;
    return null;
end
$$;

create trigger tg_one_time_prices__end_waiting
after insert on billing.one_time_prices
for each row execute function billing.tg_one_time_prices__end_waiting();

-- When a payment intent's charge was paid, if known; the charge may be reported later.
create function billing._charged_at(stripe_payment_intent_id text)
returns timestamptz
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select min(payments.charged_at) from billing.payments
    where payments.stripe_payment_intent_id = _charged_at.stripe_payment_intent_id and payments.status = 'succeeded'
$$;

-- A purchase counts from its payment, whichever of the two is reported first.
create function billing._date_purchases(stripe_payment_intent_id text)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_charged_at timestamptz := billing._charged_at(_date_purchases.stripe_payment_intent_id);
    v_purchase billing.pack_purchases;
begin
    for v_purchase in
        select * from billing.pack_purchases
        where pack_purchases.stripe_payment_intent_id = _date_purchases.stripe_payment_intent_id
            and pack_purchases.purchased_at <> v_charged_at
        order by pack_purchases.business_key
    loop
        perform billing._lock_balance(v_purchase.account_id);
        update billing.pack_purchases
        set purchased_at = v_charged_at, expires_at = v_charged_at + (v_purchase.expires_at - v_purchase.purchased_at)
        where pack_purchases.business_key = v_purchase.business_key
        returning * into v_purchase;
        update billing.credit_grants
        set expires_at = v_purchase.expires_at, effective_at = least(v_charged_at, billing.current_time())
        where credit_grants.key_space = 'stripe' and credit_grants.closed_at is null
            and (
                credit_grants.idempotency_key = v_purchase.business_key
                or credit_grants.account_id = v_purchase.account_id
                and credit_grants.idempotency_key ^@ (v_purchase.business_key || '#')
            );
        perform billing._remember_due(v_purchase.account_id, v_purchase.expires_at)
        where v_purchase.expires_at is not null;
    end loop;
end
$$;

create function billing._pack_name(pack billing.credit_packs)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select coalesce((_pack_name.pack).nickname, products.name) from billing.products
    where products.stripe_product_id = (_pack_name.pack).stripe_product_id
$$;

revoke all on function
    billing._credits_of_pack, billing._minor_digits, billing._returned_of_purchase, billing._post_purchase,
    billing._lots_of_purchase, billing._check_buyer, billing._purchase, billing._free_pack_key,
    billing._purchase_packs_of_invoice, billing.tg_one_time_prices__end_waiting, billing._charged_at,
    billing._date_purchases, billing._pack_name
from public, anon, authenticated, service_role;

-- Checkout Sessions from Stripe → their rows, and credits for the packs that they paid for.
--
-- Invariant: a session ends once and is paid once. A paid session of mode payment grants its packs once (pack:{checkout
-- session}), whichever of its events reports it. What was bought comes from the session's line items, which are read
-- from Stripe: events don't contain them, and the session's metadata is not used. Lines that are no pack and declare no
-- credits belong to the app. A price that declares credits but is not in billing.credit_packs (TB010), or a customer
-- that is not linked to an account (TB011), stops the whole event, and DETAIL names what is missing. A guest stops it
-- too (TB055), because an administrator must decide.
--
-- Called by billing_worker. service_role reads what was bought.

create table billing.checkout_line_items (
    stripe_line_item_id text primary key,
    stripe_checkout_session_id text not null references billing.checkout_sessions (stripe_checkout_session_id),
    stripe_price_id text,
    quantity bigint,
    amount_total bigint not null,
    declares_credits boolean not null,
    created_at timestamptz not null default now()
);

create index checkout_line_items_session on billing.checkout_line_items (stripe_checkout_session_id);

alter table billing.checkout_line_items enable row level security;

revoke all on billing.checkout_line_items from public, anon, authenticated, service_role;
grant select on billing.checkout_line_items to service_role;

-- Grants the packs of a paid session; safe to repeat. If the session created an invoice, the invoice grants its packs.
create function billing._purchase_packs_of_session(session billing.checkout_sessions)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_session billing.checkout_sessions := _purchase_packs_of_session.session;
    v_moment timestamptz := coalesce(v_session.completed_at, v_session.opened_at);
    v_missing text;
    v_bought record;
    v_purchase billing.pack_purchases;
    -- A payment that is captured in part pays for that share.
    v_paid bigint := (
        select payment_intents.amount_received from billing.payment_intents
        where payment_intents.stripe_payment_intent_id = v_session.stripe_payment_intent_id
    );
begin
    if v_session.stripe_invoice_id is not null or not exists (
        select from billing.checkout_line_items as items
        left join billing.credit_packs on credit_packs.stripe_price_id = items.stripe_price_id
        where items.stripe_checkout_session_id = v_session.stripe_checkout_session_id
            and (items.declares_credits or credit_packs.declared_from <= v_moment)
    ) then
        return;
    elsif v_session.completed_at < (select settings.credits_since from billing.settings) and not exists (
        -- Completed, not opened or charged: a session is paid for hours after it was opened, and its charge may be
        -- reported later than the session.
        select from billing.pack_purchases
        where pack_purchases.stripe_checkout_session_id = v_session.stripe_checkout_session_id
    ) then
        return;
    end if;
    perform billing._check_buyer(
        v_session.stripe_checkout_session_id, v_session.stripe_customer_id, v_session.account_id
    );
    -- Two sessions at the same time, or an account that no customer of the batch named.
    perform billing._lock_balance(v_session.account_id);

    select items.stripe_price_id into v_missing
    from billing.checkout_line_items as items
    left join billing.credit_packs on credit_packs.stripe_price_id = items.stripe_price_id
    where items.stripe_checkout_session_id = v_session.stripe_checkout_session_id
        and credit_packs.stripe_price_id is null and items.declares_credits
    order by 1
    limit 1;
    if found then
        raise exception 'price % of % is not in billing.credit_packs', v_missing, v_session.stripe_checkout_session_id
            using errcode = 'TB010', detail = v_missing,
            hint = 'Set pack_credits in the price''s metadata in Stripe. Its event adds the pack, and this event is then retried automatically.';
    end if;

    for v_bought in
        select
            items.amount_total = 0 as is_free,
            case when items.amount_total = 0 then packs.stripe_product_id end as stripe_product_id,
            sum(billing._credits_of_pack(packs, items.quantity, items.amount_total)) as credits,
            array_agg(distinct packs.stripe_price_id) as stripe_price_ids,
            string_agg(distinct coalesce(packs.nickname, products.name), ', ') as names,
            min(packs.expires_after) as expires_after
        from billing.checkout_line_items as items
        join billing.credit_packs as packs on packs.stripe_price_id = items.stripe_price_id
        join billing.products on products.stripe_product_id = packs.stripe_product_id
        where items.stripe_checkout_session_id = v_session.stripe_checkout_session_id
            and (items.declares_credits or packs.declared_from <= v_moment)
        group by 1, 2
        order by 1, 2
    loop
        continue when v_bought.credits = 0;
        v_purchase := null;
        v_purchase.purchased_at := coalesce(
            billing._charged_at(v_session.stripe_payment_intent_id), v_session.opened_at, v_session.completed_at
        );
        v_purchase.business_key := case
            when v_bought.is_free
                then billing._free_pack_key(v_session.account_id, v_bought.stripe_product_id, v_purchase.purchased_at)
            else 'pack:' || v_session.stripe_checkout_session_id
        end;
        v_purchase.account_id := v_session.account_id;
        v_purchase.source := 'stripe.pack';
        v_purchase.reference_id := v_session.stripe_checkout_session_id;
        v_purchase.description := v_bought.names;
        v_purchase.price := case
            when v_bought.is_free then 0 else coalesce(least(v_paid, v_session.amount_total), 0)
        end;
        v_purchase.credits := billing._checked_amount(v_bought.credits);
        if v_purchase.price < v_session.amount_total and not v_bought.is_free then
            v_purchase.credits := floor(v_bought.credits * v_purchase.price / v_session.amount_total);
        end if;
        -- For several packs, see the line items.
        v_purchase.stripe_price_id :=
            case when cardinality(v_bought.stripe_price_ids) = 1 then v_bought.stripe_price_ids[1] end;
        v_purchase.stripe_checkout_session_id := v_session.stripe_checkout_session_id;
        v_purchase.stripe_payment_intent_id := v_session.stripe_payment_intent_id;
        v_purchase.expires_at := v_purchase.purchased_at + v_bought.expires_after;
        perform billing._purchase(v_purchase);
        perform billing._apply_returns_of_payment(v_session.stripe_payment_intent_id, null)
        where v_session.stripe_payment_intent_id is not null;
    end loop;
end
$$;

-- A price has become a pack: what was paid for it since then may have arrived before.
create function billing.tg_credit_packs__purchase_since()
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
    perform billing._purchase_packs_of_invoice(invoices) from billing.invoices
    where invoices.status = 'paid' and coalesce(invoices.paid_at, invoices.as_of) >= new.declared_from
        and invoices.stripe_invoice_id in (
            select invoice_lines.stripe_invoice_id from billing.invoice_lines
            where invoice_lines.stripe_price_id = new.stripe_price_id
                and invoice_lines.stripe_subscription_item_id is null
        )
    order by invoices.account_id, invoices.stripe_invoice_id;
    perform billing._purchase_packs_of_session(sessions) from billing.checkout_sessions as sessions
    where sessions.mode = 'payment' and sessions.status = 'complete' and sessions.payment_status <> 'unpaid'
        and sessions.completed_at >= new.declared_from
        and sessions.stripe_checkout_session_id in (
            select items.stripe_checkout_session_id from billing.checkout_line_items as items
            where items.stripe_price_id = new.stripe_price_id
        )
    order by sessions.account_id, sessions.stripe_checkout_session_id;
    return null;
end
$$;

create trigger tg_credit_packs__purchase_since
after insert on billing.credit_packs
for each row execute function billing.tg_credit_packs__purchase_since();

-- Records what a session's payment intent received: at once, by a later capture, or by a bank debit.
create function billing._pay_session(stripe_payment_intent_id text, amount_received bigint)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    insert into billing.payment_intents (stripe_payment_intent_id, amount_received)
    values (_pay_session.stripe_payment_intent_id, _pay_session.amount_received)
    on conflict on constraint payment_intents_pkey do nothing;
    perform billing._settle_session(_pay_session.stripe_payment_intent_id);
end
$$;

-- A completed session and the amount that its payment intent received, in either order: both are written before this is
-- called, and under the lock the later of two concurrent transactions sees the other.
create function billing._settle_session(stripe_payment_intent_id text)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_session billing.checkout_sessions;
    v_received bigint;
begin
    perform billing._lock_money(_settle_session.stripe_payment_intent_id, null);
    select payment_intents.amount_received into v_received from billing.payment_intents
    where payment_intents.stripe_payment_intent_id = _settle_session.stripe_payment_intent_id;
    if not found then
        return;
    end if;
    update billing.checkout_sessions set payment_status = 'paid', updated_at = now()
    where checkout_sessions.stripe_payment_intent_id = _settle_session.stripe_payment_intent_id
        and checkout_sessions.mode = 'payment' and checkout_sessions.status = 'complete'
        and checkout_sessions.payment_status = 'unpaid'
    returning * into v_session;
    if found then
        perform billing._purchase_packs_of_session(v_session);
        return;
    end if;
    -- A session that was read as paid does not report a partial capture.
    update billing.pack_purchases
    set credits = floor(pack_purchases.credits::numeric * v_received / pack_purchases.price), price = v_received
    where pack_purchases.stripe_payment_intent_id = _settle_session.stripe_payment_intent_id
        and pack_purchases.stripe_checkout_session_id is not null and v_received < pack_purchases.price;
    if found then
        perform billing._apply_returns_of_purchases(_settle_session.stripe_payment_intent_id);
    end if;
end
$$;

-- lines is null if they were not read: an event has none, and only a paid session of mode payment needs them.
create function billing.sync_checkout_session(
    stripe_checkout_session_id text, stripe_customer_id text, livemode boolean, mode text, status text,
    payment_status text, client_reference_id text, stripe_subscription_id text, stripe_invoice_id text,
    stripe_payment_intent_id text, stripe_payment_link_id text, currency text, amount_total bigint, opened_at timestamptz,
    lines jsonb, as_of timestamptz
)
returns text
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_session billing.checkout_sessions;
begin
    if sync_checkout_session.stripe_payment_link_id is not null and sync_checkout_session.status = 'complete' then
        perform billing._attribute_payment(
            sync_checkout_session.stripe_checkout_session_id, sync_checkout_session.stripe_payment_link_id,
            sync_checkout_session.stripe_customer_id, sync_checkout_session.client_reference_id,
            sync_checkout_session.livemode, sync_checkout_session.opened_at
        );
    end if;
    insert into billing.checkout_sessions as held (
        stripe_checkout_session_id, stripe_customer_id, account_id, livemode, mode, status, payment_status,
        client_reference_id, stripe_subscription_id, stripe_invoice_id, stripe_payment_intent_id,
        stripe_payment_link_id, currency, amount_total, opened_at, completed_at, as_of
    )
    values (
        sync_checkout_session.stripe_checkout_session_id, sync_checkout_session.stripe_customer_id,
        billing._account_of_customer(sync_checkout_session.stripe_customer_id, sync_checkout_session.livemode),
        sync_checkout_session.livemode, sync_checkout_session.mode, sync_checkout_session.status,
        sync_checkout_session.payment_status, sync_checkout_session.client_reference_id,
        sync_checkout_session.stripe_subscription_id, sync_checkout_session.stripe_invoice_id,
        sync_checkout_session.stripe_payment_intent_id, sync_checkout_session.stripe_payment_link_id,
        sync_checkout_session.currency, sync_checkout_session.amount_total, sync_checkout_session.opened_at,
        case when sync_checkout_session.status = 'complete' then sync_checkout_session.as_of end,
        sync_checkout_session.as_of
    )
    on conflict on constraint checkout_sessions_pkey do update
    -- Completing a session may create its customer.
    set stripe_customer_id = coalesce(held.stripe_customer_id, excluded.stripe_customer_id),
        account_id = coalesce(held.account_id, excluded.account_id),
        status = excluded.status,
        payment_status = excluded.payment_status,
        stripe_subscription_id = coalesce(excluded.stripe_subscription_id, held.stripe_subscription_id),
        stripe_invoice_id = coalesce(excluded.stripe_invoice_id, held.stripe_invoice_id),
        stripe_payment_intent_id = coalesce(excluded.stripe_payment_intent_id, held.stripe_payment_intent_id),
        amount_total = coalesce(excluded.amount_total, held.amount_total),
        -- The earliest reported time, whichever event came first.
        completed_at = least(held.completed_at, excluded.completed_at),
        as_of = greatest(held.as_of, excluded.as_of),
        updated_at = now()
    -- A session only moves forward: it ends once and is paid once. A session with nothing to pay may still become paid;
    -- a paid one stays paid.
    where (held.status = 'open' or held.status = excluded.status)
        and (held.payment_status = 'unpaid' or held.payment_status = excluded.payment_status or held.status = 'open')
    returning * into v_session;

    if not found then
        return 'stale';
    elsif v_session.mode = 'payment' and v_session.status = 'complete' and sync_checkout_session.lines is not null then
        insert into billing.checkout_line_items (
            stripe_line_item_id, stripe_checkout_session_id, stripe_price_id, quantity, amount_total, declares_credits
        )
        select
            line.stripe_line_item_id, v_session.stripe_checkout_session_id, line.stripe_price_id, line.quantity,
            line.amount_total, line.declares_credits
        from jsonb_to_recordset(sync_checkout_session.lines) as line (
            stripe_line_item_id text, stripe_price_id text, quantity bigint, amount_total bigint,
            declares_credits boolean
        )
        on conflict do nothing;
        if v_session.payment_status <> 'unpaid' then
            perform billing._purchase_packs_of_session(v_session);
        end if;
        perform billing._settle_session(v_session.stripe_payment_intent_id)
        where v_session.stripe_payment_intent_id is not null;
    end if;
    return 'applied';
end
$$;

revoke all on function
    billing._purchase_packs_of_session, billing.tg_credit_packs__purchase_since, billing._pay_session,
    billing._settle_session, billing.sync_checkout_session
from public, anon, authenticated, service_role;
grant execute on function billing.sync_checkout_session(
    text, text, boolean, text, text, text, text, text, text, text, text, text, bigint, timestamptz, jsonb, timestamptz
) to billing_worker;

comment on table billing.checkout_line_items is 'The line items of paid Checkout Sessions of mode payment, as read from Stripe.';
comment on column billing.checkout_line_items.declares_credits is 'True if the price or its product has pack_credits in its metadata; otherwise the line is not one of our packs.';
comment on column billing.checkout_line_items.amount_total is 'The amount of the line after discounts, without tax that was added, in minor units of the session''s currency.';

-- Invoices from Stripe → their rows here, and credits for what was paid.
--
-- Invariant: an invoice only moves forward. Its lines are recorded when it is paid, and credits are calculated from
-- them.
-- Called by billing_worker.

create function billing._invoice_rank(status text)
returns integer
language sql
immutable
as $$
    select array_position(array['draft', 'open', 'uncollectible', 'paid'], replace(_invoice_rank.status, 'void', 'paid'))
$$;

create function billing._record_lines(invoice billing.invoices, lines jsonb)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    insert into billing.invoice_lines (
        stripe_line_id, stripe_invoice_id, stripe_subscription_id, stripe_subscription_item_id, stripe_price_id, amount,
        discount, tax, quantity, is_proration, credited_line_ids, credited_invoice_id, period_start, period_end
    )
    select
        line.stripe_line_id, (_record_lines.invoice).stripe_invoice_id, line.stripe_subscription_id,
        line.stripe_subscription_item_id, line.stripe_price_id, line.amount, line.discount, line.tax, line.quantity,
        line.is_proration,
        case jsonb_typeof(line.credited_line_ids) when 'array' then array(
            select jsonb_array_elements_text(line.credited_line_ids)
        ) end,
        line.credited_invoice_id, line.period_start, line.period_end
    from jsonb_to_recordset(_record_lines.lines) as line (
        stripe_line_id text, stripe_subscription_id text, stripe_subscription_item_id text, stripe_price_id text,
        amount bigint, discount bigint, tax bigint, quantity bigint, is_proration boolean, credited_line_ids jsonb,
        credited_invoice_id text, period_start timestamptz, period_end timestamptz
    )
    on conflict do nothing;
end
$$;

create function billing.sync_invoice(
    stripe_invoice_id text, stripe_customer_id text, stripe_subscription_id text, livemode boolean, status text,
    billing_reason text, collection_method text, currency text, subtotal bigint, total bigint, amount_due bigint, amount_paid bigint,
    attempt_count integer, next_payment_attempt_at timestamptz, hosted_invoice_url text, invoiced_at timestamptz,
    paid_at timestamptz, lines jsonb, as_of timestamptz
)
returns text
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_invoice billing.invoices;
begin
    insert into billing.invoices as held (
        stripe_invoice_id, stripe_customer_id, account_id, stripe_subscription_id, livemode, status, billing_reason,
        collection_method, currency, subtotal, total, amount_due, amount_paid, attempt_count, next_payment_attempt_at,
        hosted_invoice_url, invoiced_at, paid_at, as_of
    )
    values (
        sync_invoice.stripe_invoice_id, sync_invoice.stripe_customer_id,
        billing._account_of_customer(sync_invoice.stripe_customer_id, sync_invoice.livemode),
        -- An invoice may name no subscription although its line belongs to one.
        coalesce(sync_invoice.stripe_subscription_id, sync_invoice.lines -> 0 ->> 'stripe_subscription_id'),
        sync_invoice.livemode, sync_invoice.status, sync_invoice.billing_reason,
        sync_invoice.collection_method, sync_invoice.currency, sync_invoice.subtotal, sync_invoice.total, sync_invoice.amount_due,
        sync_invoice.amount_paid, sync_invoice.attempt_count, sync_invoice.next_payment_attempt_at,
        sync_invoice.hosted_invoice_url, sync_invoice.invoiced_at, sync_invoice.paid_at, sync_invoice.as_of
    )
    on conflict on constraint invoices_pkey do update
    set status = excluded.status,
        billing_reason = excluded.billing_reason,
        collection_method = excluded.collection_method,
        subtotal = excluded.subtotal,
        total = excluded.total,
        amount_due = excluded.amount_due,
        amount_paid = excluded.amount_paid,
        attempt_count = excluded.attempt_count,
        next_payment_attempt_at = excluded.next_payment_attempt_at,
        hosted_invoice_url = excluded.hosted_invoice_url,
        paid_at = excluded.paid_at,
        as_of = greatest(held.as_of, excluded.as_of),
        updated_at = now()
    -- An invoice only moves forward, so its own fields tell which of two states is newer, also within one second.
    where (billing._invoice_rank(held.status), held.attempt_count, held.as_of)
        <= (billing._invoice_rank(excluded.status), excluded.attempt_count, excluded.as_of)
    returning * into v_invoice;

    if not found then
        return 'stale';
    elsif v_invoice.status = 'paid' then
        perform billing._record_lines(v_invoice, sync_invoice.lines);
        -- Packs are lines without a subscription item. They come first: overage is repaid by what is paid for it, and not
        -- by the month that the same invoice pays for.
        if sync_invoice.lines @? '$[*] ? (!exists(@.stripe_subscription_item_id) || @.stripe_subscription_item_id == null)' then
            perform billing._purchase_packs_of_invoice(v_invoice);
        end if;
        if v_invoice.stripe_subscription_id is not null then
            perform billing._allocate_subscription(v_invoice.stripe_subscription_id, null, v_invoice);
            perform billing._lock_arrival(v_invoice.stripe_invoice_id);  -- its balance is locked already
        else
            perform billing._lock_money(null, null, v_invoice.stripe_invoice_id);
        end if;
        -- Most are paid before their payment is known.
        if v_invoice.amount_returned + v_invoice.amount_contested > 0 or exists (
            select from billing.invoice_payments where invoice_payments.stripe_invoice_id = v_invoice.stripe_invoice_id
        ) or exists (
            select from billing.credit_notes where credit_notes.stripe_invoice_id = v_invoice.stripe_invoice_id
        ) then
            perform billing._apply_returns_of_invoice(v_invoice.stripe_invoice_id);
        end if;
    elsif exists (
        select from billing.invoice_lines where invoice_lines.credited_invoice_id = v_invoice.stripe_invoice_id
    ) then
        perform billing._allocate_subscription(v_invoice.stripe_subscription_id, null, v_invoice);
    end if;
    return 'applied';
end
$$;

revoke all on function
    billing._invoice_rank, billing._record_lines, billing.sync_invoice
from public, anon, authenticated, service_role;
grant execute on function billing.sync_invoice(
    text, text, text, boolean, text, text, text, text, bigint, bigint, bigint, bigint, integer, timestamptz, text, timestamptz,
    timestamptz, jsonb, timestamptz
) to billing_worker;

-- Invoices from Stripe → their rows here, and credits for what was paid.
--
-- Invariant: an invoice only moves forward; credits are granted from paid lines of subscription items and from nothing
-- else. Called by billing_worker.

create function billing._invoice_rank(status text)
returns integer
language sql
immutable
set search_path = ''
as $$
    select array_position(array['draft', 'open', 'uncollectible', 'paid'], replace(_invoice_rank.status, 'void', 'paid'))
$$;

create function billing._record_lines(invoice billing.invoices, lines jsonb)
returns void
language sql
volatile
set search_path = ''
as $$
    insert into billing.invoice_lines (
        stripe_line_id, stripe_invoice_id, stripe_subscription_item_id, stripe_price_id, amount, quantity,
        is_proration, period_start, period_end
    )
    select
        line.stripe_line_id, (_record_lines.invoice).stripe_invoice_id, line.stripe_subscription_item_id,
        line.stripe_price_id, line.amount, line.quantity, line.is_proration, line.period_start, line.period_end
    from jsonb_to_recordset(_record_lines.lines) as line (
        stripe_line_id text, stripe_subscription_item_id text, stripe_price_id text, amount bigint, quantity bigint,
        is_proration boolean, period_start timestamptz, period_end timestamptz
    )
    on conflict do nothing
$$;

-- Grants what the lines of a paid invoice are worth; as often as you like.
create function billing._grant_paid_lines(invoice billing.invoices)
returns void
language plpgsql
volatile
set search_path = ''
as $$
declare
    v_invoice billing.invoices := _grant_paid_lines.invoice;
    v_net numeric := billing._net_of_changes(v_invoice);
    v_deduct bigint := greatest(-floor(v_net), 0);
    v_deducted bigint := 0;
    v_period record;
begin
    -- A manual invoice is no new month; lines of a change of plan that are no proration are one.
    if v_invoice.billing_reason
        in ('subscription_create', 'subscription_cycle', 'subscription_update', 'quote_accept', 'subscription')
    then
        -- Tiers make several lines of one item and period.
        for v_period in
            select
                invoice_lines.stripe_subscription_item_id, invoice_lines.stripe_price_id, invoice_lines.period_start,
                invoice_lines.period_end, sum(invoice_lines.quantity)::bigint as quantity,
                sum(invoice_lines.amount)::bigint as amount
            from billing.invoice_lines
            where invoice_lines.stripe_invoice_id = v_invoice.stripe_invoice_id
                and invoice_lines.stripe_subscription_item_id is not null
                and not invoice_lines.is_proration
                and invoice_lines.period_end > invoice_lines.period_start
            group by 1, 2, 3, 4
            order by 1, 3
        loop
            v_deducted := v_deducted + billing._open_period(
                v_invoice, v_period.stripe_subscription_item_id, v_period.stripe_price_id, v_period.quantity,
                v_period.amount, v_period.period_start, v_period.period_end,
                case when v_invoice.billing_reason = 'subscription_update' then v_deduct - v_deducted else 0 end
            );
        end loop;
    end if;
    if v_invoice.stripe_subscription_id is not null then
        perform billing._record_changes(v_invoice, v_net, v_deducted);
    end if;
end
$$;

create function billing.sync_invoice(
    stripe_invoice_id text, stripe_customer_id text, stripe_subscription_id text, livemode boolean, status text,
    billing_reason text, currency text, subtotal bigint, total bigint, amount_due bigint, amount_paid bigint,
    attempt_count integer, next_payment_attempt_at timestamptz, hosted_invoice_url text, invoiced_at timestamptz,
    paid_at timestamptz, lines jsonb, as_of timestamptz
)
returns text
language plpgsql
volatile
security definer
set search_path = ''
as $$
declare
    v_invoice billing.invoices;
begin
    insert into billing.invoices as held (
        stripe_invoice_id, stripe_customer_id, account_id, stripe_subscription_id, livemode, status, billing_reason,
        currency, subtotal, total, amount_due, amount_paid, attempt_count, next_payment_attempt_at,
        hosted_invoice_url, invoiced_at, paid_at, as_of
    )
    values (
        sync_invoice.stripe_invoice_id, sync_invoice.stripe_customer_id,
        billing._account_of_customer(sync_invoice.stripe_customer_id, sync_invoice.livemode),
        sync_invoice.stripe_subscription_id, sync_invoice.livemode, sync_invoice.status, sync_invoice.billing_reason,
        sync_invoice.currency, sync_invoice.subtotal, sync_invoice.total, sync_invoice.amount_due,
        sync_invoice.amount_paid, sync_invoice.attempt_count, sync_invoice.next_payment_attempt_at,
        sync_invoice.hosted_invoice_url, sync_invoice.invoiced_at, sync_invoice.paid_at, sync_invoice.as_of
    )
    on conflict on constraint invoices_pkey do update
    set status = excluded.status,
        billing_reason = excluded.billing_reason,
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
    -- An invoice only moves forward, so its own facts tell which of two states is later, also within one second.
    where (billing._invoice_rank(held.status), held.attempt_count, held.as_of)
        <= (billing._invoice_rank(excluded.status), excluded.attempt_count, excluded.as_of)
    returning * into v_invoice;

    if not found then
        return 'stale';
    elsif v_invoice.status = 'paid' then
        perform billing._record_lines(v_invoice, sync_invoice.lines);
        perform billing._grant_paid_lines(v_invoice);
        perform billing._settle_invoice(v_invoice.stripe_invoice_id);
        perform billing._settle_subscription(v_invoice.stripe_subscription_id);
    end if;
    return 'applied';
end
$$;

revoke all on function
    billing._invoice_rank, billing._record_lines, billing._grant_paid_lines, billing.sync_invoice
from public, anon, authenticated, service_role;
grant execute on function billing.sync_invoice(
    text, text, text, boolean, text, text, text, bigint, bigint, bigint, bigint, integer, timestamptz, text, timestamptz,
    timestamptz, jsonb, timestamptz
) to billing_worker;

-- Money that was returned of an invoice or a payment, and when. Facts only, no credits.
--
-- Invariant: calculated from all rows (refunds, charges, disputes, credit notes), so neither their order nor repeated
-- reports make a difference. A refund that belongs to a credit note counts once, with the note. A credit note that
-- names lines returns money of those lines; everything else returns money of what is left of the whole invoice.
--
-- Private. Amounts in minor units.

create type billing.returned_money as (returned_at timestamptz, amount numeric, stripe_line_id text, is_contested boolean);

-- Returns of payments: refunds that did not fail, lost disputes, and the amounts of open disputes. A charge may report
-- refunds before their own events arrive. Inquiries and prevented disputes do not count, because they move no money.
-- Refunds in note_refund_ids belong to credit notes.
create function billing._returns_of_payments(
    stripe_payment_intent_ids text[], stripe_charge_ids text[], note_refund_ids text[]
)
returns setof billing.returned_money
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_charge_ids text[] := _returns_of_payments.stripe_charge_ids || array(
        select payments.stripe_charge_id from billing.payments
        where payments.stripe_payment_intent_id = any (_returns_of_payments.stripe_payment_intent_ids)
    );
begin
    return query
    select refunds.refunded_at, refunds.amount::numeric, null::text, false from billing.refunds
    where (
            refunds.stripe_payment_intent_id = any (_returns_of_payments.stripe_payment_intent_ids)
            or refunds.stripe_charge_id = any (v_charge_ids)
        )
        and refunds.status not in ('failed', 'canceled')
        and refunds.stripe_refund_id <> all (_returns_of_payments.note_refund_ids)
    union all
    select charged.as_of, charged.amount_refunded - coalesce(reported.amount, 0), null, false
    from (
        select max(payments.as_of) as as_of, sum(payments.amount_refunded) as amount_refunded from billing.payments
        where payments.stripe_charge_id = any (v_charge_ids)
    ) as charged
    cross join (
        select sum(refunds.amount) as amount from billing.refunds
        where refunds.stripe_payment_intent_id = any (_returns_of_payments.stripe_payment_intent_ids)
            or refunds.stripe_charge_id = any (v_charge_ids)
    ) as reported
    where charged.amount_refunded > coalesce(reported.amount, 0)
    union all
    select disputes.disputed_at, disputes.amount, null, disputes.status <> 'lost' from billing.disputes
    where (
            disputes.stripe_payment_intent_id = any (_returns_of_payments.stripe_payment_intent_ids)
            or disputes.stripe_charge_id = any (v_charge_ids)
        )
        and disputes.status in ('lost', 'needs_response', 'under_review', 'appeal_needs_response', 'appeal_under_review');
end
$$;

-- The same for an invoice: the returns of all its payments, and its credit notes. If a payment paid several invoices,
-- its returns are divided among them.
create function billing._returns_of_invoice(stripe_invoice_id text)
returns setof billing.returned_money
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_intent_ids text[];
    v_charge_ids text[];
    v_part numeric;
    v_note_refund_ids text[];
begin
    select
        coalesce(array_agg(mine.stripe_payment_intent_id)
            filter (where mine.stripe_payment_intent_id is not null), '{}'),
        coalesce(array_agg(mine.stripe_charge_id) filter (where mine.stripe_charge_id is not null), '{}'),
        sum(mine.amount_paid) / nullif(sum(mine.amount_paid + coalesce(others.amount_paid, 0)), 0)
    into v_intent_ids, v_charge_ids, v_part
    from billing.invoice_payments as mine
    left join lateral (
        select sum(invoice_payments.amount_paid) as amount_paid from billing.invoice_payments
        where invoice_payments.stripe_invoice_id <> mine.stripe_invoice_id and invoice_payments.status = 'paid'
            and (
                invoice_payments.stripe_payment_intent_id = mine.stripe_payment_intent_id
                or invoice_payments.stripe_charge_id = mine.stripe_charge_id
            )
    ) as others on true
    where mine.stripe_invoice_id = _returns_of_invoice.stripe_invoice_id and mine.status = 'paid';
    select coalesce(array_agg(refund_id), '{}') into v_note_refund_ids
    from billing.credit_notes
    cross join lateral unnest(credit_notes.stripe_refund_ids) as refund_id
    where credit_notes.stripe_invoice_id = _returns_of_invoice.stripe_invoice_id and credit_notes.status = 'issued';

    return query
    select returns.returned_at, returns.amount * coalesce(v_part, 1), returns.stripe_line_id, returns.is_contested
    from billing._returns_of_payments(v_intent_ids, v_charge_ids, v_note_refund_ids) as returns
    union all
    select
        notes.noted_at,
        notes.amount * case when notes.lines_total > 0 then lines.amount::numeric / notes.lines_total else 1 end,
        lines.stripe_line_id, false
    from (
        select
            credit_notes.stripe_credit_note_id, credit_notes.noted_at,
            -- A failed refund of the note returned nothing. If the note names no refund, refunds count separately.
            credit_notes.amount - case
                when credit_notes.stripe_refund_ids = '{}' then credit_notes.amount_refunded
                else coalesce((
                    select sum(refunds.amount) from billing.refunds
                    where refunds.stripe_refund_id = any (credit_notes.stripe_refund_ids)
                        and refunds.status in ('failed', 'canceled')
                ), 0)
            end as amount,
            (
                select sum(credit_note_lines.amount) from billing.credit_note_lines
                where credit_note_lines.stripe_credit_note_id = credit_notes.stripe_credit_note_id
            ) as lines_total
        from billing.credit_notes
        where credit_notes.stripe_invoice_id = _returns_of_invoice.stripe_invoice_id and credit_notes.status = 'issued'
    ) as notes
    left join billing.credit_note_lines as lines
        on lines.stripe_credit_note_id = notes.stripe_credit_note_id and notes.lines_total > 0
    where notes.amount > 0;
end
$$;

-- The amount with which returns are compared: the invoice's total, whatever paid it (card, customer balance, out of
-- band), minus credit notes before the payment.
create function billing._price_of_invoice(invoice billing.invoices)
returns numeric
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select (_price_of_invoice.invoice).total - coalesce(sum(credit_notes.pre_payment_amount), 0)
    from billing.credit_notes
    where credit_notes.stripe_invoice_id = (_price_of_invoice.invoice).stripe_invoice_id
        and credit_notes.status = 'issued'
$$;

-- What a line came to: its amount, without discounts, with its own tax.
create function billing._price_of_line(line billing.invoice_lines)
returns bigint
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
    select (_price_of_line.line).amount - coalesce((_price_of_line.line).discount, 0)
        + coalesce((_price_of_line.line).tax, 0)
$$;

-- The credits lost by a return, rounded down; multiplies before it divides, so that a third of 300 is 100.
create function billing._gone(credits numeric, returned numeric, paid numeric)
returns bigint
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
    select case
        when _gone.paid > 0 then floor(_gone.credits * least(_gone.returned, _gone.paid) / _gone.paid)::bigint else 0
    end
$$;

revoke all on function
    billing._gone, billing._returns_of_payments, billing._returns_of_invoice, billing._price_of_invoice, billing._price_of_line
from public, anon, authenticated, service_role;

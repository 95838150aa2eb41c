-- A row that contradicts Stripe → a row that Stripe's answer replaces.
--
-- Invariant: only rows that nothing has written since Stripe was read, and that no event could bring to Stripe's state. What
-- Stripe says is then brought by an event, like everything else; until that is applied, a refund, a dispute or a credit note
-- is missing, so what it took or froze may come back for that long. Called by `till reconcile --apply`
-- in the transaction that queues the event, as the owner of the database.

-- kind: Stripe's `object`; line_item for a line of an invoice. read_at: the database's time before Stripe was read. status:
-- Stripe's, if the row is wrong in nothing else: a row that its event moves forward stays as it is.
create function billing.distrust_stripe_row(kind text, stripe_id text, read_at timestamptz, status text default null)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_id text := distrust_stripe_row.stripe_id;
    v_read_at timestamptz := distrust_stripe_row.read_at;
    v_status text := distrust_stripe_row.status;
begin
    case distrust_stripe_row.kind
        when 'customer' then
            update billing.customers set as_of = '-infinity', deleted_at = null
            where customers.stripe_customer_id = v_id and customers.updated_at <= v_read_at;
        when 'product' then
            update billing.products set as_of = '-infinity'
            where products.stripe_product_id = v_id and products.updated_at <= v_read_at;
        when 'price' then
            update billing.plans set as_of = '-infinity'
            where plans.stripe_price_id = v_id and plans.updated_at <= v_read_at;
            if not found then
                update billing.credit_packs set as_of = '-infinity'
                where credit_packs.stripe_price_id = v_id and credit_packs.updated_at <= v_read_at;
            end if;
            if not found then
                update billing.one_time_prices set as_of = '-infinity' where one_time_prices.stripe_price_id = v_id;
            end if;
        when 'subscription' then
            update billing.subscriptions set as_of = '-infinity'
            where subscriptions.stripe_subscription_id = v_id and subscriptions.updated_at <= v_read_at;
        when 'invoice' then
            update billing.invoices set status = 'draft', attempt_count = 0, as_of = '-infinity'
            where invoices.stripe_invoice_id = v_id and invoices.updated_at <= v_read_at
                and (v_status is null or billing._invoice_rank(invoices.status) >= billing._invoice_rank(v_status));
        when 'line_item' then
            delete from billing.invoice_lines where invoice_lines.stripe_line_id = v_id;
        when 'invoice_payment' then
            delete from billing.invoice_payments where invoice_payments.stripe_invoice_payment_id = v_id;
        when 'charge' then
            update billing.payments set as_of = '-infinity'
            where payments.stripe_charge_id = v_id and payments.updated_at <= v_read_at;
        when 'refund' then
            delete from billing.refunds
            where refunds.stripe_refund_id = v_id and refunds.updated_at <= v_read_at
                and (v_status is null or billing._refund_rank(refunds.status) >= billing._refund_rank(v_status));
        when 'dispute' then
            delete from billing.disputes
            where disputes.stripe_dispute_id = v_id and disputes.updated_at <= v_read_at
                and (v_status is null or billing._dispute_rank(disputes.status) >= billing._dispute_rank(v_status));
        when 'credit_note' then
            perform from billing.credit_notes
            where credit_notes.stripe_credit_note_id = v_id and credit_notes.updated_at <= v_read_at
                and (v_status is null or credit_notes.status <> 'issued')
            for update;
            if found then
                delete from billing.credit_note_lines where credit_note_lines.stripe_credit_note_id = v_id;
                delete from billing.credit_notes where credit_notes.stripe_credit_note_id = v_id;
            end if;
        when 'radar.early_fraud_warning' then
            update billing.fraud_warnings set actionable = true
            where fraud_warnings.stripe_early_fraud_warning_id = v_id and fraud_warnings.updated_at <= v_read_at;
        when 'checkout.session' then
            update billing.checkout_sessions set status = 'open', payment_status = 'unpaid'
            where checkout_sessions.stripe_checkout_session_id = v_id and checkout_sessions.updated_at <= v_read_at;
            if found then
                delete from billing.checkout_line_items where checkout_line_items.stripe_checkout_session_id = v_id;
            end if;
    end case;
end
$$;

-- A refund, dispute or credit note that Stripe does not have → what its payment paid for, without it.
create function billing.withdraw_stripe_row(kind text, stripe_id text, read_at timestamptz)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_payment_intent_id text;
    v_charge_id text;
    v_invoice_id text;
begin
    case withdraw_stripe_row.kind
        when 'refund' then
            select refunds.stripe_payment_intent_id, refunds.stripe_charge_id into v_payment_intent_id, v_charge_id
            from billing.refunds where refunds.stripe_refund_id = withdraw_stripe_row.stripe_id;
        when 'dispute' then
            select disputes.stripe_payment_intent_id, disputes.stripe_charge_id into v_payment_intent_id, v_charge_id
            from billing.disputes where disputes.stripe_dispute_id = withdraw_stripe_row.stripe_id;
        when 'credit_note' then
            select credit_notes.stripe_invoice_id into v_invoice_id
            from billing.credit_notes where credit_notes.stripe_credit_note_id = withdraw_stripe_row.stripe_id;
    end case;
    perform billing.distrust_stripe_row(
        withdraw_stripe_row.kind, withdraw_stripe_row.stripe_id, withdraw_stripe_row.read_at
    );
    if v_invoice_id is not null then
        perform billing._apply_returns_of_invoice(v_invoice_id);
    else
        perform billing._apply_returns_of_payment(v_payment_intent_id, v_charge_id);
    end if;
end
$$;

revoke all on function billing.distrust_stripe_row, billing.withdraw_stripe_row
from public, anon, authenticated, service_role;

comment on function billing.withdraw_stripe_row(text, text, timestamptz) is 'Deletes a refund, dispute or credit note that Stripe does not have, unless it was written after read_at, and its effect on the credits.';
comment on function billing.distrust_stripe_row(text, text, timestamptz, text) is 'Lets the next event replace a row that contradicts Stripe, unless the row was written after read_at, or the event brings it to that status anyway.';

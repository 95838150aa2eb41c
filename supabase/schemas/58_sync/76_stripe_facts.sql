-- What the rows say about each object of Stripe, in one shape, for `till reconcile`, which compares it with Stripe.
--
-- Invariant: facts has only what an event brings here: what no event reports is no difference. Times are Unix seconds, as in
-- Stripe. Read it by object and id: each kind uses the index of its own table. service_role reads it.

create view billing.stripe_facts with (security_invoker = on) as
select
    'product' as object, products.stripe_product_id as stripe_id, products.livemode, products.as_of,
    products.active as is_expected,
    jsonb_build_object('name', products.name, 'active', products.active, 'metadata', products.metadata) as facts
from billing.products
where products.as_of > '-infinity'
union all
select
    'price', prices.stripe_price_id, prices.livemode, prices.as_of, prices.active,
    jsonb_build_object(
        'stripe_product_id', prices.stripe_product_id, 'active', prices.active, 'currency', prices.currency,
        'unit_amount', prices.unit_amount, 'metadata', prices.metadata
    )
from (
    select stripe_price_id, stripe_product_id, livemode, as_of, active, currency, unit_amount, metadata
    from billing.plans
    union all
    select stripe_price_id, stripe_product_id, livemode, as_of, active, currency, unit_amount, metadata
    from billing.credit_packs
    union all
    select stripe_price_id, stripe_product_id, livemode, as_of, active, currency, unit_amount, metadata
    from billing.one_time_prices
) as prices
union all
select
    'customer', customers.stripe_customer_id, customers.livemode, customers.as_of, customers.deleted_at is null,
    case
        when customers.deleted_at is not null then jsonb_build_object('is_deleted', true)
        when exists (
            select from billing.erasures
            where erasures.account_id = customers.account_id
                or erasures.stripe_customer_id = customers.stripe_customer_id
        ) then jsonb_build_object('is_deleted', false, 'is_erased', true)
        else jsonb_build_object('is_deleted', false, 'email', customers.email, 'name', customers.name)
    end
from billing.customers
where customers.as_of > '-infinity'
union all
select
    'subscription', subscriptions.stripe_subscription_id, subscriptions.livemode, subscriptions.as_of, true,
    jsonb_build_object(
        'stripe_customer_id', subscriptions.stripe_customer_id, 'status', subscriptions.status,
        'billing_cycle_anchor', extract(epoch from subscriptions.billing_cycle_anchor)::bigint,
        'cancel_at', extract(epoch from subscriptions.cancel_at)::bigint,
        'cancel_at_period_end', subscriptions.cancel_at_period_end,
        'canceled_at', extract(epoch from subscriptions.canceled_at)::bigint,
        'ended_at', extract(epoch from subscriptions.ended_at)::bigint,
        'trial_start', extract(epoch from subscriptions.trial_start)::bigint,
        'trial_end', extract(epoch from subscriptions.trial_end)::bigint,
        'is_collection_paused', subscriptions.is_collection_paused,
        'items', (
            select coalesce(jsonb_object_agg(items.stripe_subscription_item_id, jsonb_build_object(
                'price', items.stripe_price_id, 'quantity', items.quantity,
                'start', extract(epoch from items.current_period_start)::bigint,
                'end', extract(epoch from items.current_period_end)::bigint
            )), '{}')
            from billing.subscription_items as items
            where items.stripe_subscription_id = subscriptions.stripe_subscription_id
        )
    )
from billing.subscriptions
union all
select
    'invoice', invoices.stripe_invoice_id, invoices.livemode, invoices.as_of, invoices.status <> 'draft',
    case
        -- That an invoice is finalized is reported by no event that is used.
        when invoices.status <> 'paid' then jsonb_build_object('status', replace(invoices.status, 'draft', 'open'))
        else jsonb_build_object(
            'status', invoices.status, 'total', invoices.total, 'amount_paid', invoices.amount_paid,
            'lines', (
                select coalesce(jsonb_object_agg(lines.stripe_line_id, jsonb_build_object(
                    'item', lines.stripe_subscription_item_id, 'price', lines.stripe_price_id,
                    'amount', lines.amount, 'quantity', lines.quantity, 'is_proration', lines.is_proration,
                    'start', extract(epoch from lines.period_start)::bigint,
                    'end', extract(epoch from lines.period_end)::bigint
                )), '{}')
                from billing.invoice_lines as lines where lines.stripe_invoice_id = invoices.stripe_invoice_id
            )
        )
    end
from billing.invoices
union all
select
    'invoice_payment', payments.stripe_invoice_payment_id, null, null, false,
    jsonb_build_object(
        'stripe_invoice_id', payments.stripe_invoice_id, 'stripe_payment_intent_id', payments.stripe_payment_intent_id,
        'stripe_charge_id', payments.stripe_charge_id, 'amount_paid', payments.amount_paid
    )
from billing.invoice_payments as payments
where payments.status = 'paid'
union all
select
    'charge', payments.stripe_charge_id, payments.livemode, payments.as_of, true,
    jsonb_build_object(
        'status', payments.status, 'amount', payments.amount, 'amount_refunded', payments.amount_refunded,
        'currency', payments.currency
    )
from billing.payments
union all
select
    'refund', refunds.stripe_refund_id,
    -- A refund does not say it; the charge that it returns does.
    (
        select payments.livemode from billing.payments
        where payments.stripe_charge_id = refunds.stripe_charge_id
            or payments.stripe_payment_intent_id = refunds.stripe_payment_intent_id
        limit 1
    ),
    refunds.as_of, true,
    jsonb_build_object(
        'status', refunds.status, 'amount', refunds.amount, 'currency', refunds.currency,
        'stripe_charge_id', refunds.stripe_charge_id, 'stripe_payment_intent_id', refunds.stripe_payment_intent_id
    )
from billing.refunds
union all
select
    'dispute', disputes.stripe_dispute_id, disputes.livemode, disputes.as_of, true,
    jsonb_build_object(
        'status', disputes.status, 'amount', disputes.amount, 'stripe_charge_id', disputes.stripe_charge_id
    )
from billing.disputes
union all
select
    'credit_note', notes.stripe_credit_note_id, notes.livemode, notes.as_of, true,
    jsonb_build_object(
        'stripe_invoice_id', notes.stripe_invoice_id, 'status', notes.status, 'amount', notes.amount,
        'pre_payment_amount', notes.pre_payment_amount, 'lines', (
            select coalesce(jsonb_object_agg(lines.number, jsonb_build_object(
                'line', lines.stripe_line_id, 'amount', lines.amount
            )), '{}')
            from billing.credit_note_lines as lines
            where lines.stripe_credit_note_id = notes.stripe_credit_note_id
        )
    )
from billing.credit_notes as notes
union all
select
    'checkout.session', sessions.stripe_checkout_session_id, sessions.livemode, sessions.as_of, false,
    jsonb_build_object(
        'status', sessions.status, 'payment_status', sessions.payment_status, 'lines', (
            select coalesce(jsonb_object_agg(lines.stripe_line_item_id, jsonb_build_object(
                'price', lines.stripe_price_id, 'amount', lines.amount_total
            )), '{}')
            from billing.checkout_line_items as lines
            where lines.stripe_checkout_session_id = sessions.stripe_checkout_session_id
        )
    )
from billing.checkout_sessions as sessions
union all
select
    'radar.early_fraud_warning', warnings.stripe_early_fraud_warning_id, warnings.livemode, warnings.as_of, true,
    jsonb_build_object('actionable', warnings.actionable, 'stripe_charge_id', warnings.stripe_charge_id)
from billing.fraud_warnings as warnings;

revoke all on billing.stripe_facts from public, anon, authenticated, service_role;
grant select on billing.stripe_facts to service_role;

comment on view billing.stripe_facts is 'What the database has of each Stripe object, in one shape: object (Stripe''s name of the kind), id, time of the state, facts. is_expected: Stripe must have the object too.';

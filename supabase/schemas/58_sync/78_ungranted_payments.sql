-- Payments that should have given credits once, and of which nothing is recorded here: packs, and initial credits.
--
-- Invariant: the view is empty when all is well. What entitlement_discrepancies compares is not repeated: it starts from what
-- is recorded, and so does not see a purchase, or initial credits, that somebody deleted. Read by the owner of the database.

create view billing.ungranted_payments with (security_invoker = on) as
select
    sessions.account_id,
    format('checkout session %s is paid for, and no purchase', sessions.stripe_checkout_session_id) as detail
from billing.checkout_sessions as sessions
cross join billing.settings
where sessions.account_id is not null and sessions.status = 'complete' and sessions.payment_status <> 'unpaid'
    and sessions.stripe_invoice_id is null and sessions.completed_at >= coalesce(settings.credits_since, '-infinity')
    and exists (
        select from billing.checkout_line_items as lines
        join billing.credit_packs on credit_packs.stripe_price_id = lines.stripe_price_id
        where lines.stripe_checkout_session_id = sessions.stripe_checkout_session_id and lines.amount_total > 0
            and (lines.declares_credits or credit_packs.declared_from <= sessions.completed_at)
    )
    and not exists (
        select from billing.pack_purchases
        where pack_purchases.stripe_checkout_session_id = sessions.stripe_checkout_session_id
    )
union all
select
    invoices.account_id,
    format('line %s of invoice %s is paid for, and no purchase', lines.stripe_line_id, invoices.stripe_invoice_id)
from billing.invoices
join billing.invoice_lines as lines on lines.stripe_invoice_id = invoices.stripe_invoice_id
join billing.credit_packs as packs
    on packs.stripe_price_id = lines.stripe_price_id
    and packs.declared_from <= coalesce(invoices.paid_at, invoices.as_of)
cross join billing.settings
where invoices.account_id is not null and invoices.status = 'paid' and lines.stripe_subscription_item_id is null
    and lines.amount - coalesce(lines.discount, 0) > 0 and invoices.total > 0
    and coalesce(invoices.paid_at, invoices.as_of) >= coalesce(settings.credits_since, '-infinity')
    and billing._credits_of_pack(packs, lines.quantity, lines.amount) > 0
    and not exists (
        select from billing.pack_purchases where pack_purchases.stripe_line_id = lines.stripe_line_id
    )
union all
select
    first_periods.account_id,
    format('initial credits of invoice %s are not granted', first_periods.stripe_invoice_id)
from (
    select distinct on (schedules.account_id, plans.stripe_product_id)
        schedules.account_id, schedules.stripe_price_id, schedules.stripe_invoice_id, schedules.period_start,
        schedules.counts_from
    from billing.credit_schedules as schedules
    join billing.plans on plans.stripe_price_id = schedules.stripe_price_id
    where not schedules.is_change and not schedules.gives_back
    order by schedules.account_id, plans.stripe_product_id, schedules.period_start, schedules.stripe_line_id
) as first_periods
cross join lateral billing._terms_at(first_periods.stripe_price_id, first_periods.period_start) as terms
where first_periods.counts_from <= first_periods.period_start
    and terms.initial_credits > 0 and terms.valid_from <= first_periods.period_start
    and not billing._was_given(first_periods.account_id, 'initial', first_periods.stripe_price_id);

revoke all on billing.ungranted_payments from public, anon, authenticated, service_role;

comment on view billing.ungranted_payments is 'Paid packs without a purchase, and paid first periods without initial credits. Empty when all is well; `till credits recalculate` grants them.';

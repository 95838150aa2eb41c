-- Rows that name another account than the one that owns their customer.
--
-- Invariant: the view is empty when all is well: link_customer assigns everything at once, and each row takes its customer's
-- account. service_role reads it.

create view billing.wrong_links with (security_invoker = on) as
select
    customers.stripe_customer_id, customers.account_id, owned.object, owned.stripe_id,
    owned.account_id as found_account_id
from billing.customers
cross join lateral (
    select 'subscription' as object, subscriptions.stripe_subscription_id as stripe_id, subscriptions.account_id
    from billing.subscriptions where subscriptions.stripe_customer_id = customers.stripe_customer_id
    union all
    select 'invoice', invoices.stripe_invoice_id, invoices.account_id
    from billing.invoices where invoices.stripe_customer_id = customers.stripe_customer_id
    union all
    select 'checkout session', checkout_sessions.stripe_checkout_session_id, checkout_sessions.account_id
    from billing.checkout_sessions where checkout_sessions.stripe_customer_id = customers.stripe_customer_id
    union all
    select 'charge', payments.stripe_charge_id, payments.account_id
    from billing.payments where payments.stripe_customer_id = customers.stripe_customer_id
    union all
    select 'early fraud warning', fraud_warnings.stripe_early_fraud_warning_id, fraud_warnings.account_id
    from billing.fraud_warnings where fraud_warnings.stripe_customer_id = customers.stripe_customer_id
) as owned
where owned.account_id is distinct from customers.account_id;

revoke all on billing.wrong_links from public, anon, authenticated, service_role;
grant select on billing.wrong_links to service_role;

comment on view billing.wrong_links is 'Subscriptions, invoices and payments that name another account than their customer''s. Empty when all is well; `till customers link` assigns them again.';

-- Payments and events → notifications, by triggers on their rows.
--
-- Invariant: a notification commits with the fact that it reports; a repeated fact is one row. For events that are retried
-- automatically (they wait for a plan or a customer), the clock writes the notification after a while.

-- Events of payments, which grant credits.
create function billing._pays_for_credits(event_type text)
returns boolean
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
    select _pays_for_credits.event_type in (
        'invoice.paid', 'invoice.payment_succeeded', 'checkout.session.completed', 'checkout.session.async_payment_succeeded',
        'payment_intent.succeeded'
    )
$$;

create function billing._notify_of_event(event billing.stripe_events)
returns void
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    select billing._notify(
        (
            select customers.account_id from billing.customers
            where customers.stripe_customer_id = (_notify_of_event.event).waiting_for
        ),
        'administrators', kind,
        -- If an event is retried and parked again, it is reported again.
        format('%s:%s:%s', kind, (_notify_of_event.event).stripe_event_id, (_notify_of_event.event).attempts),
        jsonb_build_object(
            'stripe_event_id', (_notify_of_event.event).stripe_event_id, 'type', (_notify_of_event.event).type,
            'status', (_notify_of_event.event).status, 'reason', (_notify_of_event.event).last_error,
            'waiting_for', (_notify_of_event.event).waiting_for
        )
    )
    from (
        select case when billing._pays_for_credits((_notify_of_event.event).type) then 'credits_not_granted'
            else 'event_dead' end as kind
    ) as judged
$$;

create function billing.tg_stripe_events__notify()
returns trigger
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform billing._notify_of_event(new);
    return null;
end
$$;

create trigger tg_stripe_events__notify
after update of status on billing.stripe_events
for each row when (new.status = 'dead' and old.status <> 'dead' and new.waiting_for is null)
execute function billing.tg_stripe_events__notify();

-- Not for a first invoice: its payer sees the failure at the checkout.
create function billing.tg_invoices__payment_failed()
returns trigger
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    if tg_op = 'INSERT' and new.invoiced_at < (select settings.credits_since from billing.settings) then
        return null;  -- from before this installation
    end if;
    perform billing._notify(
        new.account_id, 'customer', 'payment_failed',
        format('payment_failed:%s:%s', new.stripe_invoice_id, new.attempt_count),
        jsonb_build_object(
            'stripe_invoice_id', new.stripe_invoice_id, 'amount', new.amount_due, 'currency', new.currency,
            'url', new.hosted_invoice_url, 'attempts', new.attempt_count,
            'next_attempt_at', new.next_payment_attempt_at
        )
    );
    return null;
end
$$;

create trigger tg_invoices__payment_failed
after insert or update of attempt_count on billing.invoices
for each row when (
    new.status = 'open' and new.attempt_count > 0 and new.amount_due > 0 and new.account_id is not null
    and new.billing_reason is distinct from 'subscription_create'
)
execute function billing.tg_invoices__payment_failed();

create function billing._notify_of_receipt(
    account_id uuid, reference_id text, credits numeric, amount bigint, currency text, url text
)
returns void
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    select billing._notify(
        _notify_of_receipt.account_id, 'customer', 'receipt', 'receipt:' || _notify_of_receipt.reference_id,
        jsonb_build_object(
            'credits', _notify_of_receipt.credits, 'amount', _notify_of_receipt.amount,
            'currency', _notify_of_receipt.currency, 'url', _notify_of_receipt.url
        )
    )
    where _notify_of_receipt.credits > 0
$$;

-- Deferred: at the end of the transaction the credits are granted.
create function billing.tg_invoices__receipt()
returns trigger
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    if exists (select from billing.settings where 'receipt' = any (settings.customer_notifications)) then
        perform billing._notify_of_receipt(
            new.account_id, new.stripe_invoice_id, sum(credit_grants.amount), new.amount_paid, new.currency,
            new.hosted_invoice_url
        )
        from billing.credit_grants where credit_grants.stripe_invoice_id = new.stripe_invoice_id;
    end if;
    return null;
end
$$;

create constraint trigger tg_invoices__receipt
after insert or update of status on billing.invoices
deferrable initially deferred
for each row when (new.status = 'paid' and new.amount_paid > 0 and new.account_id is not null)
execute function billing.tg_invoices__receipt();

create function billing.tg_checkout_sessions__receipt()
returns trigger
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    if exists (select from billing.settings where 'receipt' = any (settings.customer_notifications)) then
        perform billing._notify_of_receipt(
            new.account_id, new.stripe_checkout_session_id, credit_grants.amount, new.amount_total, new.currency, null
        )
        from billing.credit_grants
        where credit_grants.idempotency_key = 'pack:' || new.stripe_checkout_session_id
            and credit_grants.key_space = 'stripe';
    end if;
    return null;
end
$$;

create constraint trigger tg_checkout_sessions__receipt
after insert or update of payment_status, account_id on billing.checkout_sessions
deferrable initially deferred
for each row when (new.mode = 'payment' and new.payment_status = 'paid' and new.account_id is not null)
execute function billing.tg_checkout_sessions__receipt();

revoke all on function
    billing._pays_for_credits, billing._notify_of_event, billing.tg_stripe_events__notify,
    billing.tg_invoices__payment_failed, billing._notify_of_receipt, billing.tg_invoices__receipt,
    billing.tg_checkout_sessions__receipt
from public, anon, authenticated, service_role;

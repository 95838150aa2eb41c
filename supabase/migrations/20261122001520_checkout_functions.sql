-- Checkout Sessions from Stripe → their rows here.
--
-- Invariant: a session ends once, and is paid once. Called by billing_worker.

create function billing.sync_checkout_session(
    stripe_checkout_session_id text, stripe_customer_id text, livemode boolean, mode text, status text,
    payment_status text, client_reference_id text, stripe_subscription_id text, stripe_invoice_id text,
    stripe_payment_intent_id text, stripe_payment_link_id text, currency text, amount_total bigint, as_of timestamptz
)
returns text
language plpgsql
volatile
security definer
set search_path = ''
as $$
begin
    insert into billing.checkout_sessions as held (
        stripe_checkout_session_id, stripe_customer_id, account_id, livemode, mode, status, payment_status,
        client_reference_id, stripe_subscription_id, stripe_invoice_id, stripe_payment_intent_id,
        stripe_payment_link_id, currency, amount_total, completed_at, as_of
    )
    values (
        sync_checkout_session.stripe_checkout_session_id, sync_checkout_session.stripe_customer_id,
        billing._account_of_customer(sync_checkout_session.stripe_customer_id, sync_checkout_session.livemode),
        sync_checkout_session.livemode, sync_checkout_session.mode, sync_checkout_session.status,
        sync_checkout_session.payment_status, sync_checkout_session.client_reference_id,
        sync_checkout_session.stripe_subscription_id, sync_checkout_session.stripe_invoice_id,
        sync_checkout_session.stripe_payment_intent_id, sync_checkout_session.stripe_payment_link_id,
        sync_checkout_session.currency, sync_checkout_session.amount_total,
        case when sync_checkout_session.status = 'complete' then sync_checkout_session.as_of end,
        sync_checkout_session.as_of
    )
    on conflict on constraint checkout_sessions_pkey do update
    set status = excluded.status,
        payment_status = excluded.payment_status,
        stripe_subscription_id = excluded.stripe_subscription_id,
        stripe_invoice_id = excluded.stripe_invoice_id,
        stripe_payment_intent_id = excluded.stripe_payment_intent_id,
        completed_at = coalesce(held.completed_at, excluded.completed_at),
        as_of = greatest(held.as_of, excluded.as_of),
        updated_at = now()
    -- A session only moves forward: it ends once, and is paid once.
    where (held.status = 'open' or held.status = excluded.status)
        and (held.payment_status = 'unpaid' or held.payment_status = excluded.payment_status);
    return case when found then 'applied' else 'stale' end;
end
$$;

revoke all on function billing.sync_checkout_session from public, anon, authenticated, service_role;
grant execute on function billing.sync_checkout_session(
    text, text, boolean, text, text, text, text, text, text, text, text, text, bigint, timestamptz
) to billing_worker;

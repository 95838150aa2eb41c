-- A payment through a Payment Link → the account that its reference names.
--
-- A link creates a new customer for each payment, which becomes the account's customer, or a duplicate of the one that
-- it has. Only a reference that we signed names the account; an e-mail address or metadata does not.
--
-- Invariant: a customer keeps its account, whatever a reference names. A payment without an account stops its event
-- (TB011), with the reason, until an administrator links the customer.
--
-- Private: called by sync_checkout_session, before it reads the session's account.

create function billing._attribute_payment(
    stripe_checkout_session_id text, stripe_payment_link_id text, stripe_customer_id text, client_reference_id text,
    livemode boolean, opened_at timestamptz
)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_named record;
    v_kept text;
begin
    if _attribute_payment.stripe_customer_id is null then
        return;  -- a guest: the function that grants the credits raises
    end if;
    select * into strict v_named from billing._read_reference(
        _attribute_payment.client_reference_id, _attribute_payment.livemode, _attribute_payment.opened_at
    );
    if v_named.refusal is null then
        perform billing._lock_balance(v_named.account_id);
    end if;
    perform billing._lock_arrival(_attribute_payment.stripe_customer_id);
    if exists (
        select from billing.customers
        where customers.stripe_customer_id = _attribute_payment.stripe_customer_id and customers.account_id is not null
    ) then
        return;
    elsif v_named.refusal is not null then
        raise exception 'customer % of % is not linked to an account, and the reference of its payment through % is unusable: %',
            _attribute_payment.stripe_customer_id, _attribute_payment.stripe_checkout_session_id,
            _attribute_payment.stripe_payment_link_id, v_named.refusal
            using errcode = 'TB011', detail = _attribute_payment.stripe_customer_id,
            hint = 'Find out who paid, then call billing.link_customer(account_id, stripe_customer_id) or billing.merge_customer. The event is then retried automatically.';
    end if;
    v_kept := billing._customer_of(v_named.account_id, _attribute_payment.livemode);
    if v_kept is null then
        perform billing.link_customer(
            v_named.account_id, _attribute_payment.stripe_customer_id, _attribute_payment.livemode
        );
    else
        perform billing.merge_customer(_attribute_payment.stripe_customer_id, v_kept);
    end if;
end
$$;

revoke all on function billing._attribute_payment from public, anon, authenticated, service_role;

CREATE SCHEMA billing;

COMMENT ON SCHEMA billing IS 'Stripe billing and the credit ledger. Not exposed to the Data API: clients use the views in public.';

CREATE FUNCTION billing._account_of_customer(stripe_customer_id text, livemode boolean) RETURNS uuid
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
declare
    v_account_id uuid;
begin
    if _account_of_customer.stripe_customer_id is null then
        return null;
    end if;
    select customers.account_id into v_account_id from billing.customers
    where customers.stripe_customer_id = _account_of_customer.stripe_customer_id;
    if v_account_id is null then
        insert into billing.customers (stripe_customer_id, livemode)
        values (_account_of_customer.stripe_customer_id, _account_of_customer.livemode)
        on conflict do nothing;
        -- The lock, until the caller commits, keeps a link from happening between this answer and its use.
        select customers.account_id into v_account_id from billing.customers
        where customers.stripe_customer_id = _account_of_customer.stripe_customer_id
        for share;
    end if;
    return v_account_id;
end
$$;

CREATE TABLE billing.invoices (
    stripe_invoice_id text NOT NULL,
    stripe_customer_id text,
    account_id uuid,
    stripe_subscription_id text,
    livemode boolean NOT NULL,
    status text NOT NULL,
    billing_reason text,
    currency text NOT NULL,
    subtotal bigint NOT NULL,
    total bigint NOT NULL,
    amount_due bigint NOT NULL,
    amount_paid bigint NOT NULL,
    attempt_count integer DEFAULT 0 NOT NULL,
    next_payment_attempt_at timestamp with time zone,
    hosted_invoice_url text,
    invoiced_at timestamp with time zone NOT NULL,
    paid_at timestamp with time zone,
    as_of timestamp with time zone NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT status_is_known CHECK ((status = ANY (ARRAY['draft'::text, 'open'::text, 'uncollectible'::text, 'paid'::text, 'void'::text])))
);

COMMENT ON TABLE billing.invoices IS 'Stripe invoices; amounts in minor units of currency.';

CREATE FUNCTION billing._apply_paid_lines(invoice billing.invoices, lines jsonb) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
declare
    v_period record;
begin
    insert into billing.invoice_lines (
        stripe_line_id, stripe_invoice_id, stripe_subscription_item_id, stripe_price_id, amount, quantity,
        is_proration, period_start, period_end
    )
    select
        line.stripe_line_id, (_apply_paid_lines.invoice).stripe_invoice_id, line.stripe_subscription_item_id,
        line.stripe_price_id, line.amount, line.quantity, line.is_proration, line.period_start, line.period_end
    from jsonb_to_recordset(_apply_paid_lines.lines) as line (
        stripe_line_id text, stripe_subscription_item_id text, stripe_price_id text, amount bigint, quantity bigint,
        is_proration boolean, period_start timestamptz, period_end timestamptz
    )
    on conflict do nothing;

    -- A manual invoice is no new month; a change of plan is one only by lines that are no proration.
    if (_apply_paid_lines.invoice).billing_reason is null
        or (_apply_paid_lines.invoice).billing_reason
            not in ('subscription_create', 'subscription_cycle', 'subscription_update')
    then
        return;
    end if;

    -- Tiers make several lines of one item and period.
    for v_period in
        select
            invoice_lines.stripe_subscription_item_id, invoice_lines.stripe_price_id, invoice_lines.period_start,
            invoice_lines.period_end, sum(invoice_lines.quantity)::bigint as quantity,
            sum(invoice_lines.amount)::bigint as amount
        from billing.invoice_lines
        where invoice_lines.stripe_invoice_id = (_apply_paid_lines.invoice).stripe_invoice_id
            and invoice_lines.stripe_subscription_item_id is not null
            and not invoice_lines.is_proration
            and invoice_lines.period_end > invoice_lines.period_start
        group by 1, 2, 3, 4
        order by 1, 3
    loop
        perform billing._grant_paid_period(
            _apply_paid_lines.invoice, v_period.stripe_subscription_item_id, v_period.stripe_price_id,
            v_period.quantity, v_period.amount, v_period.period_start, v_period.period_end
        );
    end loop;
end
$$;

CREATE FUNCTION billing._check_request(idempotency_key text, metadata jsonb) RETURNS void
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO ''
    AS $$
begin
    if _check_request.idempotency_key is null or length(_check_request.idempotency_key) not between 1 and 255 then
        raise exception 'idempotency_key has % characters, it needs 1 to 255',
            coalesce(length(_check_request.idempotency_key), 0)
            using errcode = 'TB006', hint = 'Name what the credits are for, such as the id of the job or the order.';
    elsif jsonb_typeof(_check_request.metadata) is distinct from 'object' then
        raise exception 'metadata is %, it must be an object', coalesce(jsonb_typeof(_check_request.metadata), 'null')
            using errcode = 'TB007', hint = 'Pass a JSON object, such as {"job": "42"}.';
    end if;
end
$$;

CREATE FUNCTION billing._checked_amount(amount numeric) RETURNS bigint
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO ''
    AS $$
begin
    if _checked_amount.amount between 1 and 9223372036854775807 and _checked_amount.amount = trunc(_checked_amount.amount) then
        return _checked_amount.amount::bigint;
    end if;
    raise exception 'amount is %, not a whole number of credits from 1 to 9223372036854775807',
        coalesce(_checked_amount.amount::text, 'null')
        using errcode = 'TB005', hint = 'Pass credits as a positive whole number.';
end
$$;

CREATE TABLE billing.credit_balances (
    account_id uuid NOT NULL,
    balance bigint DEFAULT 0 NOT NULL,
    held bigint DEFAULT 0 NOT NULL,
    debt bigint DEFAULT 0 NOT NULL,
    next_due_at timestamp with time zone,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT debt_is_not_negative CHECK ((debt >= 0)),
    CONSTRAINT held_is_not_negative CHECK ((held >= 0))
)
WITH (fillfactor='70');

COMMENT ON TABLE billing.credit_balances IS 'The balance of each account: one row that every movement locks.';

COMMENT ON COLUMN billing.credit_balances.balance IS 'Credits; sum of all entries. Below zero only by debt.';

COMMENT ON COLUMN billing.credit_balances.held IS 'Credits set aside by open holds; part of balance.';

COMMENT ON COLUMN billing.credit_balances.debt IS 'Credits owed because something already spent was taken back; the next grant repays it.';

COMMENT ON COLUMN billing.credit_balances.next_due_at IS 'No open lot falls due before this; null: none ever does.';

CREATE FUNCTION billing._close_due_lots(account_id uuid) RETURNS billing.credit_balances
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
declare
    v_now timestamptz := billing.current_time();
    v_balance billing.credit_balances;
    v_lot billing.credit_grants;
    v_entry_id bigint;
begin
    select * into strict v_balance from billing.credit_balances
    where credit_balances.account_id = _close_due_lots.account_id
    for update;

    for v_lot in
        select * from billing.credit_grants
        where credit_grants.account_id = _close_due_lots.account_id
            and credit_grants.closed_at is null and credit_grants.expires_at <= v_now and credit_grants.held = 0
        order by credit_grants.expires_at, credit_grants.id
    loop
        v_balance.balance := v_balance.balance - v_lot.remaining;
        insert into billing.credit_entries (
            account_id, kind, amount, balance_after, source, reference_id, key_space, idempotency_key, occurred_at
        )
        values (
            v_lot.account_id, 'expiry', -v_lot.remaining, v_balance.balance, v_lot.source, v_lot.reference_id,
            'system', 'expiry:' || v_lot.id, v_lot.expires_at
        )
        returning id into v_entry_id;
        insert into billing.credit_consumptions (entry_id, grant_id, amount)
        values (v_entry_id, v_lot.id, v_lot.remaining);
        update billing.credit_grants set remaining = 0, closed_at = v_now where credit_grants.id = v_lot.id;
    end loop;

    select min(credit_grants.expires_at) into v_balance.next_due_at from billing.credit_grants
    where credit_grants.account_id = _close_due_lots.account_id and credit_grants.closed_at is null;

    update billing.credit_balances
    set balance = v_balance.balance, next_due_at = v_balance.next_due_at, updated_at = now()
    where credit_balances.account_id = _close_due_lots.account_id;
    return v_balance;
end
$$;

CREATE FUNCTION billing._declared_credits(stripe_id text, key text, price_metadata jsonb, product_metadata jsonb) RETURNS bigint
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO ''
    AS $_$
declare
    v_text text := coalesce(
        _declared_credits.price_metadata ->> _declared_credits.key,
        _declared_credits.product_metadata ->> _declared_credits.key
    );
begin
    if v_text is null or v_text ~ '^[0-9]{1,18}$' then
        return v_text::bigint;
    end if;
    raise exception 'metadata % of % is "%", not a whole number of credits',
        _declared_credits.key, _declared_credits.stripe_id, v_text
        using errcode = 'TB017', hint = 'Correct it in Stripe; the update that follows brings the plan here.';
end
$_$;

CREATE FUNCTION billing._declared_features(stripe_id text, features text) RETURNS jsonb
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO ''
    AS $$
begin
    if jsonb_typeof(_declared_features.features::jsonb) <> 'object' then
        raise invalid_text_representation;
    end if;
    return _declared_features.features::jsonb;
exception when invalid_text_representation then
    raise exception 'metadata features of % is not a JSON object', _declared_features.stripe_id
        using errcode = 'TB017', hint = 'Correct it in Stripe; the update that follows brings the plan here.';
end
$$;

CREATE TABLE billing.fraud_warnings (
    stripe_early_fraud_warning_id text NOT NULL,
    stripe_charge_id text NOT NULL,
    stripe_payment_intent_id text,
    stripe_customer_id text,
    account_id uuid,
    livemode boolean NOT NULL,
    fraud_type text NOT NULL,
    actionable boolean NOT NULL,
    risk_level text,
    risk_score integer,
    status text DEFAULT 'open'::text NOT NULL,
    processed_at timestamp with time zone,
    notes text,
    warned_at timestamp with time zone NOT NULL,
    as_of timestamp with time zone NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT status_is_known CHECK ((status = ANY (ARRAY['open'::text, 'resolved'::text, 'dismissed'::text])))
);

COMMENT ON TABLE billing.fraud_warnings IS 'Early fraud warnings, with the risk of their charge (a warning itself carries none).';

CREATE FUNCTION billing._freeze_on_warning(warning billing.fraud_warnings) RETURNS void
    LANGUAGE sql
    SET search_path TO ''
    AS $$
    update billing.accounts
    set frozen_at = now(),
        frozen_reason = 'early fraud warning ' || (_freeze_on_warning.warning).stripe_early_fraud_warning_id,
        updated_at = now()
    where (_freeze_on_warning.warning).risk_level = 'highest' and accounts.frozen_at is null
        and accounts.id = (_freeze_on_warning.warning).account_id
$$;

CREATE TABLE billing.credit_schedules (
    stripe_subscription_item_id text NOT NULL,
    period_start timestamp with time zone NOT NULL,
    period_end timestamp with time zone NOT NULL,
    account_id uuid NOT NULL,
    stripe_subscription_id text NOT NULL,
    stripe_invoice_id text NOT NULL,
    stripe_price_id text NOT NULL,
    quantity bigint NOT NULL,
    slots_granted integer DEFAULT 0 NOT NULL,
    next_slot_at timestamp with time zone,
    disarmed_at timestamp with time zone,
    disarmed_reason text,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT disarmed_schedules_say_why CHECK (((disarmed_at IS NULL) = (disarmed_reason IS NULL))),
    CONSTRAINT next_slot_is_within_the_period CHECK (((next_slot_at >= period_start) AND (next_slot_at < period_end))),
    CONSTRAINT period_ends_after_it_starts CHECK ((period_end > period_start)),
    CONSTRAINT quantity_is_positive CHECK ((quantity > 0))
);

COMMENT ON TABLE billing.credit_schedules IS 'Paid periods of subscription items and the monthly slots granted of them.';

CREATE TABLE billing.plans (
    stripe_price_id text NOT NULL,
    stripe_product_id text NOT NULL,
    livemode boolean DEFAULT false NOT NULL,
    active boolean DEFAULT true NOT NULL,
    lookup_key text,
    nickname text,
    currency text DEFAULT 'usd'::text NOT NULL,
    unit_amount bigint,
    recurring_interval text DEFAULT 'month'::text NOT NULL,
    recurring_interval_count integer DEFAULT 1 NOT NULL,
    usage_type text DEFAULT 'licensed'::text NOT NULL,
    initial_credits bigint DEFAULT 0 NOT NULL,
    monthly_credits bigint DEFAULT 0 NOT NULL,
    trial_credits bigint DEFAULT 0 NOT NULL,
    rollover text DEFAULT 'all'::text NOT NULL,
    rollover_periods integer,
    features jsonb DEFAULT '{}'::jsonb NOT NULL,
    metadata jsonb DEFAULT '{}'::jsonb NOT NULL,
    as_of timestamp with time zone DEFAULT '-infinity'::timestamp with time zone NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT features_are_an_object CHECK ((jsonb_typeof(features) = 'object'::text)),
    CONSTRAINT initial_credits_are_not_negative CHECK ((initial_credits >= 0)),
    CONSTRAINT monthly_credits_are_not_negative CHECK ((monthly_credits >= 0)),
    CONSTRAINT recurring_interval_count_is_positive CHECK ((recurring_interval_count > 0)),
    CONSTRAINT recurring_interval_is_known CHECK ((recurring_interval = ANY (ARRAY['day'::text, 'week'::text, 'month'::text, 'year'::text]))),
    CONSTRAINT rollover_is_known CHECK ((rollover = ANY (ARRAY['none'::text, 'all'::text, 'periods'::text]))),
    CONSTRAINT rollover_periods_are_positive CHECK ((rollover_periods > 0)),
    CONSTRAINT rollover_periods_come_with_the_rule CHECK (((rollover = 'periods'::text) = (rollover_periods IS NOT NULL))),
    CONSTRAINT trial_credits_are_not_negative CHECK ((trial_credits >= 0)),
    CONSTRAINT usage_type_is_known CHECK ((usage_type = ANY (ARRAY['licensed'::text, 'metered'::text])))
);

COMMENT ON TABLE billing.plans IS 'Recurring Stripe prices and the credits they are worth.';

COMMENT ON COLUMN billing.plans.unit_amount IS 'Minor units of currency for one unit; null for tiered prices.';

COMMENT ON COLUMN billing.plans.initial_credits IS 'Granted once for each account and product, with the first paid period.';

COMMENT ON COLUMN billing.plans.monthly_credits IS 'Granted for each paid month, for each seat of a licensed price.';

COMMENT ON COLUMN billing.plans.trial_credits IS 'Granted once for each account and product, when a trial starts.';

COMMENT ON COLUMN billing.plans.rollover IS 'What happens to unspent monthly credits: none (expire with their month), all (never expire), periods (expire after rollover_periods more months).';

CREATE FUNCTION billing._given_in_this_month(invoice billing.invoices, plan billing.plans, schedule billing.credit_schedules) RETURNS bigint
    LANGUAGE sql STABLE
    SET search_path TO ''
    AS $$
    select coalesce(sum(credit_grants.amount), 0)::bigint from billing.credit_grants
    where (
            (_given_in_this_month.invoice).billing_reason = 'subscription_update'
            or (_given_in_this_month.plan).recurring_interval in ('day', 'week')
        )
        and credit_grants.account_id = (_given_in_this_month.schedule).account_id
        and credit_grants.stripe_subscription_item_id = (_given_in_this_month.schedule).stripe_subscription_item_id
        and credit_grants.source = 'stripe.monthly_allocation'
        and credit_grants.effective_at > (_given_in_this_month.schedule).period_start - interval '1 month'
        and credit_grants.effective_at < (_given_in_this_month.schedule).period_start
$$;

CREATE TABLE billing.credit_entries (
    id bigint NOT NULL,
    account_id uuid NOT NULL,
    kind text NOT NULL,
    amount bigint NOT NULL,
    balance_after bigint NOT NULL,
    source text NOT NULL,
    reference_id text,
    description text,
    feature text,
    metadata jsonb DEFAULT '{}'::jsonb NOT NULL,
    actor text,
    reverses_entry_id bigint,
    hold_id uuid,
    key_space text NOT NULL,
    idempotency_key text NOT NULL,
    occurred_at timestamp with time zone NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT amount_has_the_sign_of_its_kind CHECK (
CASE
    WHEN (kind = ANY (ARRAY['grant'::text, 'reinstatement'::text, 'refund'::text, 'transfer_in'::text])) THEN (amount > 0)
    WHEN (kind = ANY (ARRAY['spend'::text, 'capture'::text, 'expiry'::text, 'revocation'::text, 'transfer_out'::text])) THEN (amount < 0)
    ELSE true
END),
    CONSTRAINT amount_is_not_zero CHECK ((amount <> 0)),
    CONSTRAINT idempotency_key_has_1_to_255_characters CHECK (((length(idempotency_key) >= 1) AND (length(idempotency_key) <= 255))),
    CONSTRAINT key_space_is_known CHECK ((key_space = ANY (ARRAY['caller'::text, 'stripe'::text, 'system'::text]))),
    CONSTRAINT kind_is_known CHECK ((kind = ANY (ARRAY['grant'::text, 'spend'::text, 'capture'::text, 'expiry'::text, 'revocation'::text, 'reinstatement'::text, 'refund'::text, 'adjustment'::text, 'transfer_in'::text, 'transfer_out'::text]))),
    CONSTRAINT metadata_is_an_object CHECK ((jsonb_typeof(metadata) = 'object'::text))
);

COMMENT ON TABLE billing.credit_entries IS 'Every movement of credits, once, for ever.';

COMMENT ON COLUMN billing.credit_entries.balance_after IS 'The account''s balance after this entry; ids of one account are in order of commit.';

COMMENT ON COLUMN billing.credit_entries.occurred_at IS 'When it happened, by billing.current_time(); created_at is when it was written.';

CREATE FUNCTION billing._grant_credits(account_id uuid, amount bigint, key_space text, idempotency_key text, source text, reference_id text, description text, metadata jsonb DEFAULT '{}'::jsonb, priority integer DEFAULT 100, effective_at timestamp with time zone DEFAULT NULL::timestamp with time zone, expires_at timestamp with time zone DEFAULT NULL::timestamp with time zone, stripe_invoice_id text DEFAULT NULL::text, stripe_subscription_item_id text DEFAULT NULL::text, stripe_price_id text DEFAULT NULL::text, stripe_checkout_session_id text DEFAULT NULL::text, stripe_payment_intent_id text DEFAULT NULL::text) RETURNS billing.credit_entries
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
declare
    v_now timestamptz := billing.current_time();
    v_balance billing.credit_balances;
    v_entry billing.credit_entries;
    v_grant billing.credit_grants;
    v_repaid bigint;
begin
    select credit_balances.* into v_balance from billing.credit_balances
    where credit_balances.account_id = _grant_credits.account_id
    for update;
    if not found then
        perform billing._raise_no_account(_grant_credits.account_id);
    end if;

    select credit_entries.* into v_entry from billing.credit_entries
    where credit_entries.account_id = _grant_credits.account_id
        and credit_entries.key_space = _grant_credits.key_space
        and credit_entries.idempotency_key = _grant_credits.idempotency_key;
    if found then
        select credit_grants.* into v_grant from billing.credit_grants where credit_grants.entry_id = v_entry.id;
        if _grant_credits.key_space = 'caller' and (
            v_entry.kind, v_entry.amount, v_entry.source, v_entry.reference_id, v_entry.description, v_entry.metadata,
            v_grant.priority, v_grant.expires_at
        ) is distinct from (
            'grant', _grant_credits.amount, _grant_credits.source, _grant_credits.reference_id,
            _grant_credits.description, _grant_credits.metadata, _grant_credits.priority, _grant_credits.expires_at
        ) then
            perform billing._raise_key_reused(_grant_credits.idempotency_key);
        end if;
        return v_entry;
    end if;

    if exists (select from billing.accounts where accounts.id = _grant_credits.account_id and accounts.closed_at is not null) then
        raise exception 'account % is closed', _grant_credits.account_id
            using errcode = 'TB008', hint = 'Grant to another account, or open this one again.';
    elsif _grant_credits.key_space = 'caller' and _grant_credits.expires_at <= v_now then
        raise exception 'expires_at % has passed', _grant_credits.expires_at
            using errcode = 'TB012', hint = 'Pass a time to come, or leave it out for credits that never expire.';
    elsif v_balance.balance > 9223372036854775807 - _grant_credits.amount then
        raise exception 'account % would exceed 9223372036854775807 credits', _grant_credits.account_id
            using errcode = 'TB009', hint = 'Grant less.';
    end if;

    insert into billing.credit_entries (
        account_id, kind, amount, balance_after, source, reference_id, description, metadata, key_space,
        idempotency_key, occurred_at
    )
    values (
        _grant_credits.account_id, 'grant', _grant_credits.amount, v_balance.balance + _grant_credits.amount,
        _grant_credits.source, _grant_credits.reference_id, _grant_credits.description, _grant_credits.metadata,
        _grant_credits.key_space, _grant_credits.idempotency_key, v_now
    )
    returning * into v_entry;

    -- Debt comes first: what was owed is taken from the new lot at once.
    v_repaid := least(v_balance.debt, _grant_credits.amount);
    insert into billing.credit_grants (
        account_id, entry_id, amount, remaining, priority, effective_at, expires_at, closed_at, source, reference_id,
        key_space, idempotency_key, stripe_invoice_id, stripe_subscription_item_id, stripe_price_id,
        stripe_checkout_session_id, stripe_payment_intent_id
    )
    values (
        _grant_credits.account_id, v_entry.id, _grant_credits.amount, _grant_credits.amount - v_repaid,
        _grant_credits.priority, coalesce(_grant_credits.effective_at, v_now), _grant_credits.expires_at,
        case when v_repaid = _grant_credits.amount then v_now end, _grant_credits.source,
        _grant_credits.reference_id, _grant_credits.key_space, _grant_credits.idempotency_key,
        _grant_credits.stripe_invoice_id, _grant_credits.stripe_subscription_item_id, _grant_credits.stripe_price_id,
        _grant_credits.stripe_checkout_session_id, _grant_credits.stripe_payment_intent_id
    )
    returning * into v_grant;
    if v_repaid > 0 then
        insert into billing.credit_consumptions (entry_id, grant_id, amount) values (v_entry.id, v_grant.id, v_repaid);
    end if;

    update billing.credit_balances
    set balance = v_entry.balance_after,
        debt = v_balance.debt - v_repaid,
        next_due_at = least(v_balance.next_due_at, case when v_grant.closed_at is null then v_grant.expires_at end),
        updated_at = now()
    where credit_balances.account_id = _grant_credits.account_id;
    return v_entry;
end
$$;

CREATE FUNCTION billing._grant_paid_period(invoice billing.invoices, stripe_subscription_item_id text, stripe_price_id text, quantity bigint, amount bigint, period_start timestamp with time zone, period_end timestamp with time zone) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
declare
    v_invoice billing.invoices := _grant_paid_period.invoice;
    v_plan billing.plans;
    v_schedule billing.credit_schedules;
    v_slot_end timestamptz;
    v_initial_key text;
begin
    if _grant_paid_period.stripe_price_id is null then
        raise exception 'a line of invoice % names no price', v_invoice.stripe_invoice_id
            using errcode = 'TB010', detail = v_invoice.stripe_invoice_id,
            hint = 'Grant by hand what was paid for.';
    end if;
    select * into v_plan from billing.plans where plans.stripe_price_id = _grant_paid_period.stripe_price_id;
    if not found then
        raise exception 'price % of invoice % is no plan here', _grant_paid_period.stripe_price_id, v_invoice.stripe_invoice_id
            using errcode = 'TB010', detail = _grant_paid_period.stripe_price_id,
            hint = 'Update the price in Stripe (its event brings it here) or add it to billing.plans, then retry the event.';
    elsif v_plan.usage_type = 'licensed' and _grant_paid_period.quantity = 0 then
        return;
    elsif v_plan.initial_credits + v_plan.monthly_credits + v_plan.trial_credits = 0 then
        -- The product may declare what the price doesn't, and it is not here yet: sync_price made a placeholder.
        perform from billing.products
        where products.stripe_product_id = v_plan.stripe_product_id and products.as_of = '-infinity'
            and products.name = products.stripe_product_id;
        if not found then
            return;
        end if;
        raise exception 'product % of price % is not here yet', v_plan.stripe_product_id, v_plan.stripe_price_id
            using errcode = 'TB010', detail = v_plan.stripe_product_id,
            hint = 'Update the product in Stripe: its event brings it here, and this event then goes on by itself.';
    elsif v_invoice.account_id is null then
        raise exception 'customer % of invoice % is linked to no account', v_invoice.stripe_customer_id, v_invoice.stripe_invoice_id
            using errcode = 'TB011', detail = v_invoice.stripe_customer_id,
            hint = 'Link it with billing.link_customer(account_id, stripe_customer_id); the event then goes on by itself.';
    end if;

    -- A period of a month is one slot, however many days its month has. Months are counted in UTC, as at Stripe.
    v_slot_end := case
        when v_plan.recurring_interval = 'month' and v_plan.recurring_interval_count = 1
            then _grant_paid_period.period_end
        else (_grant_paid_period.period_start at time zone 'utc' + interval '1 month') at time zone 'utc'
    end;

    if billing._is_trial(v_invoice, v_plan, _grant_paid_period.amount, _grant_paid_period.period_start) then
        if v_plan.trial_credits > 0 then
            perform billing._grant_credits(
                account_id => v_invoice.account_id,
                amount => v_plan.trial_credits,
                key_space => 'stripe',
                idempotency_key => pg_catalog.format('trial:%s:%s', v_invoice.account_id, v_plan.stripe_product_id),
                source => 'stripe.trial',
                reference_id => v_invoice.stripe_subscription_id,
                description => 'Trial credits for ' || billing._plan_name(v_plan),
                stripe_invoice_id => v_invoice.stripe_invoice_id,
                stripe_subscription_item_id => _grant_paid_period.stripe_subscription_item_id,
                stripe_price_id => v_plan.stripe_price_id
            );
        end if;
        return;
    end if;

    -- Looked up first, because every renewal but the first would only find the key used.
    v_initial_key := pg_catalog.format('initial:%s:%s', v_invoice.account_id, v_plan.stripe_product_id);
    if v_plan.initial_credits > 0 and not exists (
        select from billing.credit_grants
        where credit_grants.idempotency_key = v_initial_key and credit_grants.key_space = 'stripe'
    ) then
        perform billing._grant_credits(
            account_id => v_invoice.account_id,
            amount => v_plan.initial_credits,
            key_space => 'stripe',
            idempotency_key => v_initial_key,
            source => 'stripe.subscription',
            reference_id => v_invoice.stripe_subscription_id,
            description => 'Initial subscription credits for ' || billing._plan_name(v_plan),
            stripe_invoice_id => v_invoice.stripe_invoice_id,
            stripe_subscription_item_id => _grant_paid_period.stripe_subscription_item_id,
            stripe_price_id => v_plan.stripe_price_id
        );
    end if;

    if v_plan.monthly_credits > 0 then
        insert into billing.credit_schedules (
            stripe_subscription_item_id, period_start, period_end, account_id, stripe_subscription_id,
            stripe_invoice_id, stripe_price_id, quantity, slots_granted, next_slot_at
        )
        values (
            _grant_paid_period.stripe_subscription_item_id, _grant_paid_period.period_start,
            _grant_paid_period.period_end, v_invoice.account_id, v_invoice.stripe_subscription_id,
            v_invoice.stripe_invoice_id, v_plan.stripe_price_id,
            -- The quantity of a metered line is usage, not seats.
            case v_plan.usage_type when 'metered' then 1 else greatest(_grant_paid_period.quantity, 1) end,
            1, case when v_slot_end < _grant_paid_period.period_end then v_slot_end end
        )
        on conflict on constraint credit_schedules_pkey do nothing
        returning * into v_schedule;
        if found then
            perform billing._grant_slot(
                v_schedule, v_plan, v_schedule.period_start, v_slot_end,
                billing._given_in_this_month(v_invoice, v_plan, v_schedule)
            );
        end if;
    end if;
end
$$;

CREATE FUNCTION billing._grant_slot(schedule billing.credit_schedules, plan billing.plans, slot_start timestamp with time zone, slot_end timestamp with time zone, already_granted bigint) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
begin
    if (_grant_slot.plan).monthly_credits * (_grant_slot.schedule).quantity <= _grant_slot.already_granted then
        return;
    end if;
    perform billing._grant_credits(
        account_id => (_grant_slot.schedule).account_id,
        amount => (_grant_slot.plan).monthly_credits * (_grant_slot.schedule).quantity - _grant_slot.already_granted,
        key_space => 'stripe',
        idempotency_key => pg_catalog.format(
            'monthly:%s:%s', (_grant_slot.schedule).stripe_subscription_item_id,
            to_char(_grant_slot.slot_start at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
        ),
        source => 'stripe.monthly_allocation',
        reference_id => (_grant_slot.schedule).stripe_subscription_id,
        description => 'Monthly subscription credits for ' || billing._plan_name(_grant_slot.plan),
        effective_at => least(_grant_slot.slot_start, billing.current_time()),
        expires_at => case (_grant_slot.plan).rollover
            when 'none' then _grant_slot.slot_end
            when 'periods' then _grant_slot.slot_end + make_interval(months => (_grant_slot.plan).rollover_periods)
        end,
        stripe_invoice_id => (_grant_slot.schedule).stripe_invoice_id,
        stripe_subscription_item_id => (_grant_slot.schedule).stripe_subscription_item_id,
        stripe_price_id => (_grant_slot.schedule).stripe_price_id
    );
end
$$;

CREATE FUNCTION billing._has_arrived(stripe_id text) RETURNS boolean
    LANGUAGE sql STABLE
    SET search_path TO ''
    AS $$
    select
        exists (select from billing.plans where plans.stripe_price_id = _has_arrived.stripe_id)
        or exists (
            select from billing.products
            where products.stripe_product_id = _has_arrived.stripe_id and products.as_of > '-infinity'
        )
        or exists (
            select from billing.customers
            where customers.stripe_customer_id = _has_arrived.stripe_id and customers.account_id is not null
        )
$$;

CREATE FUNCTION billing._invoice_rank(status text) RETURNS integer
    LANGUAGE sql IMMUTABLE
    SET search_path TO ''
    AS $$
    select array_position(array['draft', 'open', 'uncollectible', 'paid'], replace(_invoice_rank.status, 'void', 'paid'))
$$;

CREATE FUNCTION billing._is_trial(invoice billing.invoices, plan billing.plans, amount bigint, period_start timestamp with time zone) RETURNS boolean
    LANGUAGE plpgsql STABLE
    SET search_path TO ''
    AS $$
declare
    v_subscription billing.subscriptions;
begin
    if _is_trial.amount <> 0 then
        return false;
    end if;
    select * into v_subscription from billing.subscriptions
    where subscriptions.stripe_subscription_id = (_is_trial.invoice).stripe_subscription_id;
    if found then
        return coalesce(
            _is_trial.period_start >= v_subscription.trial_start and _is_trial.period_start < v_subscription.trial_end,
            false
        );
    end if;
    return (_is_trial.plan).usage_type = 'licensed' and (_is_trial.plan).unit_amount is distinct from 0;
end
$$;

CREATE FUNCTION billing._lock_arrival(stripe_id text) RETURNS void
    LANGUAGE sql
    SET search_path TO ''
    AS $$
    select pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended('billing.arrival:' || _lock_arrival.stripe_id, 0))
$$;

CREATE FUNCTION billing._plan_name(plan billing.plans) RETURNS text
    LANGUAGE sql STABLE
    SET search_path TO ''
    AS $$
    select coalesce((_plan_name.plan).nickname, products.name) from billing.products
    where products.stripe_product_id = (_plan_name.plan).stripe_product_id
$$;

CREATE FUNCTION billing._raise_key_reused(idempotency_key text) RETURNS void
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO ''
    AS $$
begin
    raise exception 'idempotency key % was used before with other arguments', _raise_key_reused.idempotency_key
        using errcode = 'TB002', hint = 'Repeat the first call unchanged, or use a new key for a new movement.';
end
$$;

CREATE FUNCTION billing._raise_no_account(account_id uuid) RETURNS void
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO ''
    AS $$
begin
    raise exception 'there is no account %', coalesce(_raise_no_account.account_id::text, 'null')
        using errcode = 'TB004', hint = 'Use the id of a row in billing.accounts, not the id of the user.';
end
$$;

CREATE FUNCTION billing._refused(held_as_of timestamp with time zone, offered_as_of timestamp with time zone) RETURNS text
    LANGUAGE sql IMMUTABLE
    SET search_path TO ''
    AS $$
    select case when _refused.held_as_of > _refused.offered_as_of then 'stale' else 'refetch' end
$$;

CREATE FUNCTION billing._resolve_plan(stripe_price_id text) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $_$
declare
    v_plan billing.plans;
    v_product billing.products;
    v_rollover text;
    v_features jsonb;
begin
    select * into strict v_plan from billing.plans where plans.stripe_price_id = _resolve_plan.stripe_price_id;
    select * into strict v_product from billing.products
    where products.stripe_product_id = v_plan.stripe_product_id;

    v_rollover := coalesce(v_plan.metadata ->> 'credits_rollover', v_product.metadata ->> 'credits_rollover');
    if v_rollover !~ '^(none|all|periods:[1-9][0-9]{0,2})$' then
        raise exception 'metadata credits_rollover of % is "%", not none, all or periods:N',
            v_plan.stripe_price_id, v_rollover
            using errcode = 'TB017', hint = 'Correct it in Stripe; the update that follows brings the plan here.';
    end if;
    v_features := billing._declared_features(
        v_plan.stripe_price_id, coalesce(v_plan.metadata ->> 'features', v_product.metadata ->> 'features')
    );

    update billing.plans
    set initial_credits = coalesce(billing._declared_credits(
            v_plan.stripe_price_id, 'initial_credits', v_plan.metadata, v_product.metadata), v_plan.initial_credits),
        monthly_credits = coalesce(billing._declared_credits(
            v_plan.stripe_price_id, 'monthly_credits', v_plan.metadata, v_product.metadata), v_plan.monthly_credits),
        trial_credits = coalesce(billing._declared_credits(
            v_plan.stripe_price_id, 'trial_credits', v_plan.metadata, v_product.metadata), v_plan.trial_credits),
        rollover = coalesce(split_part(v_rollover, ':', 1), v_plan.rollover),
        rollover_periods = case
            when v_rollover is null then v_plan.rollover_periods
            else nullif(split_part(v_rollover, ':', 2), '')::integer
        end,
        features = coalesce(v_features, v_plan.features),
        updated_at = now()
    where plans.stripe_price_id = _resolve_plan.stripe_price_id;
end
$_$;

CREATE FUNCTION billing._retry_events_waiting_for(stripe_id text) RETURNS void
    LANGUAGE sql
    SET search_path TO ''
    AS $$
    select billing.retry_stripe_event(stripe_events.stripe_event_id) from billing.stripe_events
    where stripe_events.waiting_for = _retry_events_waiting_for.stripe_id
$$;

CREATE FUNCTION billing."current_time"() RETURNS timestamp with time zone
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO ''
    AS $$
    select now() + clock.ahead_by from billing.clock
$$;

COMMENT ON FUNCTION billing."current_time"() IS 'The time that credits open, fall due and expire by: now(), later in a local stack whose clock was moved.';

CREATE FUNCTION billing.delay_stripe_event(msg_id bigint, event_id text, delay_seconds integer, reason text, excused boolean) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
begin
    update billing.stripe_events
    set attempts = stripe_events.attempts + 1,
        excused_attempts = stripe_events.excused_attempts + delay_stripe_event.excused::integer,
        last_error = delay_stripe_event.reason
    where stripe_events.stripe_event_id = delay_stripe_event.event_id and stripe_events.status = 'queued';

    perform pgmq.set_vt('stripe_events', delay_stripe_event.msg_id, delay_stripe_event.delay_seconds);
end
$$;

CREATE FUNCTION billing.ensure_account(user_id uuid) RETURNS uuid
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
    v_account_id uuid;
begin
    insert into billing.accounts (kind, owner_id) values ('personal', ensure_account.user_id)
    on conflict (owner_id) where kind = 'personal' do nothing
    returning id into v_account_id;

    if v_account_id is null then
        select accounts.id into strict v_account_id from billing.accounts
        where accounts.owner_id = ensure_account.user_id and accounts.kind = 'personal';
    end if;
    return v_account_id;
end
$$;

COMMENT ON FUNCTION billing.ensure_account(user_id uuid) IS 'The personal account of a user, made if there is none.';

CREATE FUNCTION billing.grant_credits(account_id uuid, amount numeric, idempotency_key text, description text DEFAULT NULL::text, source text DEFAULT 'app'::text, reference_id text DEFAULT NULL::text, expires_at timestamp with time zone DEFAULT NULL::timestamp with time zone, priority integer DEFAULT 100, metadata jsonb DEFAULT '{}'::jsonb) RETURNS billing.credit_entries
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
begin
    perform billing._check_request(grant_credits.idempotency_key, grant_credits.metadata);
    return billing._grant_credits(
        account_id => grant_credits.account_id,
        amount => billing._checked_amount(grant_credits.amount),
        key_space => 'caller',
        idempotency_key => grant_credits.idempotency_key,
        source => grant_credits.source,
        reference_id => grant_credits.reference_id,
        description => grant_credits.description,
        metadata => grant_credits.metadata,
        priority => grant_credits.priority,
        expires_at => grant_credits.expires_at
    );
end
$$;

COMMENT ON FUNCTION billing.grant_credits(account_id uuid, amount numeric, idempotency_key text, description text, source text, reference_id text, expires_at timestamp with time zone, priority integer, metadata jsonb) IS 'Grants credits to an account, once for each idempotency key, and returns the entry. Lots of a lower priority number are spent first.';

CREATE FUNCTION billing.is_livemode() RETURNS boolean
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO ''
    AS $$
    select settings.livemode from billing.settings
$$;

COMMENT ON FUNCTION billing.is_livemode() IS 'True when this installation expects real money.';

CREATE FUNCTION billing.link_customer(account_id uuid, stripe_customer_id text, livemode boolean DEFAULT NULL::boolean) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $_$
declare
    v_livemode boolean := coalesce(link_customer.livemode, billing.is_livemode());
    v_customer billing.customers;
begin
    -- No key update: two links of one account wait for each other, rows that refer to the account don't.
    perform from billing.accounts where accounts.id = link_customer.account_id for no key update;
    if not found then
        perform billing._raise_no_account(link_customer.account_id);
    elsif link_customer.stripe_customer_id is null or link_customer.stripe_customer_id !~ '^cus_[A-Za-z0-9_]+$' then
        raise exception '"%" is not the id of a Stripe customer', link_customer.stripe_customer_id
            using errcode = 'TB018', hint = 'Pass the id that Stripe gave, such as cus_NffrFeUfNV2Hib.';
    end if;

    perform billing._lock_arrival(link_customer.stripe_customer_id);
    insert into billing.customers (stripe_customer_id, livemode)
    values (link_customer.stripe_customer_id, v_livemode)
    on conflict do nothing;
    -- Waits for whoever is about to use the answer "linked to nobody" (_account_of_customer), so that the updates below
    -- see what was written with it.
    select * into strict v_customer from billing.customers
    where customers.stripe_customer_id = link_customer.stripe_customer_id
    for update;

    if v_customer.account_id = link_customer.account_id then
        return;
    elsif v_customer.account_id is not null then
        raise exception 'customer % belongs to another account', link_customer.stripe_customer_id
            using errcode = 'TB018', hint = 'A customer never changes its account; make a new customer in Stripe.';
    elsif exists (
        select from billing.customers
        where customers.account_id = link_customer.account_id and customers.livemode = v_livemode
            and customers.deleted_at is null
    ) then
        raise exception 'account % has a customer already', link_customer.account_id
            using errcode = 'TB018', hint = 'Use the customer that billing.customers names for this account.';
    end if;

    update billing.customers set account_id = link_customer.account_id, linked_at = now(), updated_at = now()
    where customers.stripe_customer_id = link_customer.stripe_customer_id;

    -- What Stripe told us of this customer before anyone was linked now has an account.
    update billing.subscriptions set account_id = link_customer.account_id
    where subscriptions.stripe_customer_id = link_customer.stripe_customer_id;
    update billing.invoices set account_id = link_customer.account_id
    where invoices.stripe_customer_id = link_customer.stripe_customer_id;
    update billing.checkout_sessions set account_id = link_customer.account_id
    where checkout_sessions.stripe_customer_id = link_customer.stripe_customer_id;
    update billing.payments set account_id = link_customer.account_id
    where payments.stripe_customer_id = link_customer.stripe_customer_id;
    update billing.fraud_warnings set account_id = link_customer.account_id
    where fraud_warnings.stripe_customer_id = link_customer.stripe_customer_id;
    perform billing._freeze_on_warning(fraud_warnings) from billing.fraud_warnings
    where fraud_warnings.stripe_customer_id = link_customer.stripe_customer_id and fraud_warnings.status = 'open';
    perform billing._retry_events_waiting_for(link_customer.stripe_customer_id);
end
$_$;

COMMENT ON FUNCTION billing.link_customer(account_id uuid, stripe_customer_id text, livemode boolean) IS 'Binds a Stripe customer to an account, once and for ever; events that waited for it go on. Call it from the server that made the customer.';

CREATE FUNCTION billing.lock_stripe_events(event_ids text[], stripe_customer_ids text[]) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
begin
    perform pg_catalog.set_config('lock_timeout', '500ms', true);
    perform from billing.stripe_events
    where stripe_events.stripe_event_id = any (lock_stripe_events.event_ids)
    order by stripe_events.stripe_event_id
    for update;

    perform from billing.credit_balances
    where credit_balances.account_id in (
        select customers.account_id from billing.customers
        where customers.stripe_customer_id = any (lock_stripe_events.stripe_customer_ids)
    )
    order by credit_balances.account_id
    for update;
end
$$;

CREATE FUNCTION billing.my_account_ids() RETURNS SETOF uuid
    LANGUAGE sql STABLE SECURITY DEFINER ROWS 2
    SET search_path TO ''
    AS $$
    select accounts.id from billing.accounts where accounts.owner_id = (select auth.uid())
    union all
    select account_members.account_id from billing.account_members where account_members.user_id = (select auth.uid())
$$;

COMMENT ON FUNCTION billing.my_account_ids() IS 'The accounts of the signed-in user. Policies: account_id = any (array(select billing.my_account_ids())).';

CREATE FUNCTION billing.read_stripe_events(visibility_seconds integer, batch_size integer) RETURNS TABLE(msg_id bigint, read_ct integer, attempts integer, stripe_event_id text, type text, api_version text, created_at timestamp with time zone, payload text)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
    v_msg_ids bigint[];
    v_read_cts integer[];
    v_event_ids text[];
begin
    select array_agg(message.msg_id), array_agg(message.read_ct), array_agg(message.message ->> 'event_id')
    into v_msg_ids, v_read_cts, v_event_ids
    from pgmq.read('stripe_events', read_stripe_events.visibility_seconds, read_stripe_events.batch_size) as message;

    return query
    select
        message.msg_id, message.read_ct, message.read_ct - event.excused_attempts, event.stripe_event_id, event.type,
        event.api_version, event.created_at, event.payload
    from unnest(v_msg_ids, v_read_cts, v_event_ids) as message (msg_id, read_ct, event_id)
    join billing.stripe_events as event on event.stripe_event_id = message.event_id
    order by message.msg_id;
end
$$;

CREATE FUNCTION billing.receive_stripe_event(event_id text, type text, api_version text, created bigint, livemode boolean, payload text) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
    v_expected boolean := (select settings.livemode from billing.settings);
    v_is_ours boolean := receive_stripe_event.livemode = v_expected;
begin
    insert into billing.stripe_events (
        stripe_event_id, type, api_version, created_at, livemode, payload, status, settled_at, last_error
    )
    values (
        receive_stripe_event.event_id,
        receive_stripe_event.type,
        receive_stripe_event.api_version,
        pg_catalog.to_timestamp(receive_stripe_event.created),
        receive_stripe_event.livemode,
        receive_stripe_event.payload,
        case when v_is_ours then 'queued' else 'ignored' end,
        case when not v_is_ours then now() end,
        case when not v_is_ours then pg_catalog.format(
            'livemode is %s, this installation expects %s', receive_stripe_event.livemode, v_expected
        ) end
    )
    on conflict (stripe_event_id) do nothing;

    if not found then
        return 'duplicate';
    elsif not v_is_ours then
        return 'ignored';
    end if;

    perform pgmq.send('stripe_events', pg_catalog.jsonb_build_object('event_id', receive_stripe_event.event_id));
    return 'queued';
end
$$;

COMMENT ON FUNCTION billing.receive_stripe_event(event_id text, type text, api_version text, created bigint, livemode boolean, payload text) IS 'Stores a signed event and queues it: queued, duplicate or ignored. created is in Unix seconds.';

CREATE FUNCTION billing.record_fraud_warning(stripe_early_fraud_warning_id text, stripe_charge_id text, stripe_payment_intent_id text, livemode boolean, fraud_type text, actionable boolean, warned_at timestamp with time zone, stripe_customer_id text, risk_level text, risk_score integer, as_of timestamp with time zone) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
    v_warning billing.fraud_warnings;
begin
    insert into billing.fraud_warnings (
        stripe_early_fraud_warning_id, stripe_charge_id, stripe_payment_intent_id, stripe_customer_id, account_id,
        livemode, fraud_type, actionable, risk_level, risk_score, warned_at, as_of
    )
    values (
        record_fraud_warning.stripe_early_fraud_warning_id, record_fraud_warning.stripe_charge_id,
        record_fraud_warning.stripe_payment_intent_id, record_fraud_warning.stripe_customer_id,
        billing._account_of_customer(record_fraud_warning.stripe_customer_id, record_fraud_warning.livemode),
        record_fraud_warning.livemode, record_fraud_warning.fraud_type, record_fraud_warning.actionable,
        record_fraud_warning.risk_level, record_fraud_warning.risk_score, record_fraud_warning.warned_at,
        record_fraud_warning.as_of
    )
    on conflict on constraint fraud_warnings_pkey do nothing
    returning * into v_warning;
    if not found then
        return 'stale';
    end if;

    perform billing._freeze_on_warning(v_warning);
    return 'applied';
end
$$;

CREATE FUNCTION billing.retry_stripe_event(event_id text) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
    v_status text;
    v_is_ours boolean;
begin
    select stripe_events.status, stripe_events.livemode = billing.is_livemode() into v_status, v_is_ours
    from billing.stripe_events
    where stripe_events.stripe_event_id = retry_stripe_event.event_id
    for update;

    if not found then
        raise exception 'there is no event %', retry_stripe_event.event_id
            using errcode = 'TB014', hint = 'List what is here with `till events list`.';
    elsif v_status not in ('dead', 'parked', 'ignored') or not v_is_ours then
        return v_status;
    end if;

    update billing.stripe_events
    set status = 'queued', excused_attempts = 0, waiting_for = null, settled_at = null
    where stripe_events.stripe_event_id = retry_stripe_event.event_id;
    perform pgmq.send('stripe_events', pg_catalog.jsonb_build_object('event_id', retry_stripe_event.event_id));
    return 'queued';
end
$$;

COMMENT ON FUNCTION billing.retry_stripe_event(event_id text) IS 'Sends a dead, parked or ignored event to the queue again; any other is left alone. Returns the status.';

CREATE FUNCTION billing.settle_stripe_events(msg_ids bigint[], event_ids text[], statuses text[], reasons text[], waiting_for text[]) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
    v_stripe_id text;
begin
    for v_stripe_id in select distinct id from unnest(settle_stripe_events.waiting_for) as id where id is not null order by id
    loop
        perform billing._lock_arrival(v_stripe_id);
    end loop;

    -- Somebody else may have settled it meanwhile: an event that was applied stays applied.
    update billing.stripe_events
    set status = outcome.status,
        attempts = stripe_events.attempts + 1,
        last_error = outcome.reason,
        waiting_for = outcome.waiting_for,
        settled_at = now()
    from unnest(
        settle_stripe_events.event_ids, settle_stripe_events.statuses, settle_stripe_events.reasons,
        settle_stripe_events.waiting_for
    ) as outcome (stripe_event_id, status, reason, waiting_for)
    where stripe_events.stripe_event_id = outcome.stripe_event_id
        and (stripe_events.status = 'queued' or outcome.status = 'applied');

    perform pgmq.archive('stripe_events', settle_stripe_events.msg_ids);

    perform billing._retry_events_waiting_for(id)
    from (select distinct id from unnest(settle_stripe_events.waiting_for) as id where id is not null) as awaited
    where billing._has_arrived(awaited.id);
end
$$;

CREATE FUNCTION billing.spend_credits(account_id uuid, amount numeric, idempotency_key text, description text DEFAULT NULL::text, metadata jsonb DEFAULT '{}'::jsonb, feature text DEFAULT NULL::text, reference_id text DEFAULT NULL::text) RETURNS billing.credit_entries
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
    v_amount bigint := billing._checked_amount(spend_credits.amount);
    v_now timestamptz := billing.current_time();
    v_balance billing.credit_balances;
    v_account billing.accounts;
    v_entry billing.credit_entries;
    v_lot record;
    v_left bigint := v_amount;
    v_taken bigint;
begin
    perform billing._check_request(spend_credits.idempotency_key, spend_credits.metadata);

    select credit_balances.* into v_balance from billing.credit_balances
    where credit_balances.account_id = spend_credits.account_id
    for update;
    if not found then
        perform billing._raise_no_account(spend_credits.account_id);
    end if;

    select credit_entries.* into v_entry from billing.credit_entries
    where credit_entries.account_id = spend_credits.account_id
        and credit_entries.key_space = 'caller'
        and credit_entries.idempotency_key = spend_credits.idempotency_key;
    if found then
        if (
            v_entry.kind, v_entry.amount, v_entry.description, v_entry.metadata, v_entry.feature, v_entry.reference_id
        ) is distinct from (
            'spend', -v_amount, spend_credits.description, spend_credits.metadata, spend_credits.feature,
            spend_credits.reference_id
        ) then
            perform billing._raise_key_reused(spend_credits.idempotency_key);
        end if;
        return v_entry;
    end if;

    select accounts.* into strict v_account from billing.accounts where accounts.id = spend_credits.account_id;
    if v_account.frozen_at is not null then
        raise exception 'account % is frozen: %', v_account.id, v_account.frozen_reason
            using errcode = 'TB003', hint = 'Spending opens again once the account is unfrozen.';
    elsif v_account.closed_at is not null then
        raise exception 'account % is closed', v_account.id
            using errcode = 'TB008', hint = 'Spend from another account, or open this one again.';
    end if;

    if v_balance.next_due_at <= v_now then
        v_balance := billing._close_due_lots(spend_credits.account_id);
    end if;
    if v_balance.balance - v_balance.held < v_amount then
        raise exception 'account % has % credits available, % are needed',
            v_account.id, greatest(v_balance.balance - v_balance.held, 0), v_amount
            using errcode = 'TB001', hint = 'Offer the user a credit pack or a larger plan.';
    end if;

    insert into billing.credit_entries (
        account_id, kind, amount, balance_after, source, reference_id, description, feature, metadata, key_space,
        idempotency_key, occurred_at
    )
    values (
        spend_credits.account_id, 'spend', -v_amount, v_balance.balance - v_amount, 'app', spend_credits.reference_id,
        spend_credits.description, spend_credits.feature, spend_credits.metadata, 'caller',
        spend_credits.idempotency_key, v_now
    )
    returning * into v_entry;

    for v_lot in
        select credit_grants.id, credit_grants.remaining, credit_grants.held from billing.credit_grants
        where credit_grants.account_id = spend_credits.account_id
            and credit_grants.closed_at is null and credit_grants.remaining > credit_grants.held
        order by credit_grants.priority, credit_grants.expires_at, credit_grants.id
    loop
        v_taken := least(v_left, v_lot.remaining - v_lot.held);
        update billing.credit_grants
        set remaining = v_lot.remaining - v_taken,
            closed_at = case when v_lot.remaining = v_taken then v_now end
        where credit_grants.id = v_lot.id;
        insert into billing.credit_consumptions (entry_id, grant_id, amount) values (v_entry.id, v_lot.id, v_taken);
        v_left := v_left - v_taken;
        exit when v_left = 0;
    end loop;
    if v_left > 0 then
        raise exception 'the open lots of account % hold % credits less than its balance', v_account.id, v_left
            using errcode = 'TB016', hint = 'Look at billing.ledger_discrepancies before anything is spent again.';
    end if;

    update billing.credit_balances set balance = v_entry.balance_after, updated_at = now()
    where credit_balances.account_id = spend_credits.account_id;
    return v_entry;
end
$$;

COMMENT ON FUNCTION billing.spend_credits(account_id uuid, amount numeric, idempotency_key text, description text, metadata jsonb, feature text, reference_id text) IS 'Spends credits of an account, once for each idempotency key, and returns the entry. Refused below zero (TB001) and while frozen (TB003). Call it inside your own transaction.';

CREATE FUNCTION billing.sync_checkout_session(stripe_checkout_session_id text, stripe_customer_id text, livemode boolean, mode text, status text, payment_status text, client_reference_id text, stripe_subscription_id text, stripe_invoice_id text, stripe_payment_intent_id text, stripe_payment_link_id text, currency text, amount_total bigint, as_of timestamp with time zone) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
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

CREATE FUNCTION billing.sync_customer(stripe_customer_id text, livemode boolean, email text, name text, is_deleted boolean, as_of timestamp with time zone) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
    v_as_of timestamptz;
begin
    insert into billing.customers as held (stripe_customer_id, livemode, email, name, deleted_at, as_of)
    values (
        sync_customer.stripe_customer_id, sync_customer.livemode, sync_customer.email, sync_customer.name,
        case when sync_customer.is_deleted then sync_customer.as_of end, sync_customer.as_of
    )
    on conflict on constraint customers_stripe_customer_id_key do update
    set email = excluded.email,
        name = excluded.name,
        deleted_at = coalesce(held.deleted_at, excluded.deleted_at),
        as_of = excluded.as_of,
        updated_at = now()
    -- Deletion is the last thing that happens to a customer, also within one second.
    where held.as_of < excluded.as_of or held.deleted_at is null and excluded.deleted_at is not null;

    if not found then
        select customers.as_of into strict v_as_of from billing.customers
        where customers.stripe_customer_id = sync_customer.stripe_customer_id;
        return billing._refused(v_as_of, sync_customer.as_of);
    end if;
    return 'applied';
end
$$;

CREATE FUNCTION billing.sync_invoice(stripe_invoice_id text, stripe_customer_id text, stripe_subscription_id text, livemode boolean, status text, billing_reason text, currency text, subtotal bigint, total bigint, amount_due bigint, amount_paid bigint, attempt_count integer, next_payment_attempt_at timestamp with time zone, hosted_invoice_url text, invoiced_at timestamp with time zone, paid_at timestamp with time zone, lines jsonb, as_of timestamp with time zone) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
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
        perform billing._apply_paid_lines(v_invoice, sync_invoice.lines);
    end if;
    return 'applied';
end
$$;

CREATE FUNCTION billing.sync_payment(stripe_charge_id text, stripe_payment_intent_id text, stripe_customer_id text, livemode boolean, status text, currency text, amount bigint, amount_refunded bigint, is_disputed boolean, risk_level text, risk_score integer, card_fingerprint text, failure_code text, receipt_url text, charged_at timestamp with time zone, as_of timestamp with time zone) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
    v_as_of timestamptz;
begin
    insert into billing.payments as held (
        stripe_charge_id, stripe_payment_intent_id, stripe_customer_id, account_id, livemode, status, currency,
        amount, amount_refunded, is_disputed, risk_level, risk_score, card_fingerprint, failure_code, receipt_url,
        charged_at, as_of
    )
    values (
        sync_payment.stripe_charge_id, sync_payment.stripe_payment_intent_id, sync_payment.stripe_customer_id,
        billing._account_of_customer(sync_payment.stripe_customer_id, sync_payment.livemode), sync_payment.livemode,
        sync_payment.status, sync_payment.currency, sync_payment.amount, sync_payment.amount_refunded,
        sync_payment.is_disputed, sync_payment.risk_level, sync_payment.risk_score, sync_payment.card_fingerprint,
        sync_payment.failure_code, sync_payment.receipt_url, sync_payment.charged_at, sync_payment.as_of
    )
    on conflict on constraint payments_pkey do update
    set status = excluded.status,
        amount = excluded.amount,
        amount_refunded = excluded.amount_refunded,
        is_disputed = excluded.is_disputed,
        risk_level = excluded.risk_level,
        risk_score = excluded.risk_score,
        card_fingerprint = excluded.card_fingerprint,
        failure_code = excluded.failure_code,
        receipt_url = excluded.receipt_url,
        as_of = excluded.as_of,
        updated_at = now()
    where held.as_of < excluded.as_of;

    if not found then
        select payments.as_of into strict v_as_of from billing.payments
        where payments.stripe_charge_id = sync_payment.stripe_charge_id;
        return billing._refused(v_as_of, sync_payment.as_of);
    end if;
    return 'applied';
end
$$;

CREATE FUNCTION billing.sync_price(stripe_price_id text, stripe_product_id text, livemode boolean, active boolean, type text, lookup_key text, nickname text, currency text, unit_amount bigint, recurring_interval text, recurring_interval_count integer, usage_type text, metadata jsonb, as_of timestamp with time zone) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
    v_as_of timestamptz;
    v_pack_credits bigint;
begin
    perform billing._lock_arrival(sync_price.stripe_price_id);
    insert into billing.products (stripe_product_id, livemode, name)
    values (sync_price.stripe_product_id, sync_price.livemode, sync_price.stripe_product_id)
    on conflict do nothing;
    -- What the product declares is read below: an update of it must be seen, or wait.
    perform from billing.products where products.stripe_product_id = sync_price.stripe_product_id for no key update;

    if sync_price.type = 'one_time' then
        select billing._declared_credits(
            sync_price.stripe_price_id, 'pack_credits', sync_price.metadata, products.metadata
        ) into v_pack_credits
        from billing.products where products.stripe_product_id = sync_price.stripe_product_id;
        if v_pack_credits is null then
            return 'applied';
        elsif v_pack_credits = 0 then
            raise exception 'metadata pack_credits of % is "0", a credit pack has at least one', sync_price.stripe_price_id
                using errcode = 'TB017', hint = 'Correct it in Stripe; the update that follows brings the pack here.';
        end if;
        insert into billing.credit_packs as held (
            stripe_price_id, stripe_product_id, livemode, active, lookup_key, nickname, currency, unit_amount,
            pack_credits, metadata, as_of
        )
        values (
            sync_price.stripe_price_id, sync_price.stripe_product_id, sync_price.livemode, sync_price.active,
            sync_price.lookup_key, sync_price.nickname, sync_price.currency, sync_price.unit_amount, v_pack_credits,
            sync_price.metadata, sync_price.as_of
        )
        on conflict on constraint credit_packs_pkey do update
        set active = excluded.active, lookup_key = excluded.lookup_key, nickname = excluded.nickname,
            pack_credits = excluded.pack_credits, metadata = excluded.metadata, as_of = excluded.as_of,
            updated_at = now()
        where held.as_of < excluded.as_of;
        if not found then
            select credit_packs.as_of into strict v_as_of from billing.credit_packs
            where credit_packs.stripe_price_id = sync_price.stripe_price_id;
            return billing._refused(v_as_of, sync_price.as_of);
        end if;
        return 'applied';
    end if;

    insert into billing.plans as held (
        stripe_price_id, stripe_product_id, livemode, active, lookup_key, nickname, currency, unit_amount,
        recurring_interval, recurring_interval_count, usage_type, metadata, as_of
    )
    values (
        sync_price.stripe_price_id, sync_price.stripe_product_id, sync_price.livemode, sync_price.active,
        sync_price.lookup_key, sync_price.nickname, sync_price.currency, sync_price.unit_amount,
        sync_price.recurring_interval, sync_price.recurring_interval_count, sync_price.usage_type,
        sync_price.metadata, sync_price.as_of
    )
    on conflict on constraint plans_pkey do update
    set stripe_product_id = excluded.stripe_product_id, livemode = excluded.livemode, active = excluded.active,
        lookup_key = excluded.lookup_key, nickname = excluded.nickname, currency = excluded.currency,
        unit_amount = excluded.unit_amount, recurring_interval = excluded.recurring_interval,
        recurring_interval_count = excluded.recurring_interval_count, usage_type = excluded.usage_type,
        metadata = excluded.metadata, as_of = excluded.as_of, updated_at = now()
    where held.as_of < excluded.as_of;
    if not found then
        select plans.as_of into strict v_as_of from billing.plans
        where plans.stripe_price_id = sync_price.stripe_price_id;
        return billing._refused(v_as_of, sync_price.as_of);
    end if;

    perform billing._resolve_plan(sync_price.stripe_price_id);
    perform billing._retry_events_waiting_for(sync_price.stripe_price_id);
    return 'applied';
end
$$;

COMMENT ON FUNCTION billing.sync_price(stripe_price_id text, stripe_product_id text, livemode boolean, active boolean, type text, lookup_key text, nickname text, currency text, unit_amount bigint, recurring_interval text, recurring_interval_count integer, usage_type text, metadata jsonb, as_of timestamp with time zone) IS 'A Stripe price as of a moment, a plan or a credit pack here: applied, stale or refetch.';

CREATE FUNCTION billing.sync_product(stripe_product_id text, livemode boolean, name text, description text, active boolean, metadata jsonb, as_of timestamp with time zone) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
    v_as_of timestamptz;
begin
    perform billing._lock_arrival(sync_product.stripe_product_id);
    insert into billing.products as held (
        stripe_product_id, livemode, name, description, active, metadata, as_of
    )
    values (
        sync_product.stripe_product_id, sync_product.livemode, sync_product.name, sync_product.description,
        sync_product.active, sync_product.metadata, sync_product.as_of
    )
    on conflict on constraint products_pkey do update
    set livemode = excluded.livemode,
        name = excluded.name,
        description = excluded.description,
        active = excluded.active,
        metadata = excluded.metadata,
        as_of = excluded.as_of,
        updated_at = now()
    where held.as_of < excluded.as_of;

    if not found then
        select products.as_of into strict v_as_of from billing.products
        where products.stripe_product_id = sync_product.stripe_product_id;
        return billing._refused(v_as_of, sync_product.as_of);
    end if;

    perform billing._resolve_plan(plans.stripe_price_id) from billing.plans
    where plans.stripe_product_id = sync_product.stripe_product_id;
    perform billing._retry_events_waiting_for(sync_product.stripe_product_id);
    return 'applied';
end
$$;

COMMENT ON FUNCTION billing.sync_product(stripe_product_id text, livemode boolean, name text, description text, active boolean, metadata jsonb, as_of timestamp with time zone) IS 'A Stripe product as of a moment: applied, stale or refetch.';

CREATE FUNCTION billing.sync_subscription(stripe_subscription_id text, stripe_customer_id text, livemode boolean, status text, currency text, billing_cycle_anchor timestamp with time zone, cancel_at timestamp with time zone, cancel_at_period_end boolean, canceled_at timestamp with time zone, ended_at timestamp with time zone, trial_start timestamp with time zone, trial_end timestamp with time zone, is_collection_paused boolean, metadata jsonb, started_at timestamp with time zone, items jsonb, as_of timestamp with time zone, is_fetched boolean) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
    v_as_of timestamptz;
begin
    insert into billing.subscriptions as held (
        stripe_subscription_id, stripe_customer_id, account_id, livemode, status, currency, billing_cycle_anchor,
        cancel_at, cancel_at_period_end, canceled_at, ended_at, trial_start, trial_end, collection_paused_at,
        metadata, started_at, as_of
    )
    values (
        sync_subscription.stripe_subscription_id, sync_subscription.stripe_customer_id,
        billing._account_of_customer(sync_subscription.stripe_customer_id, sync_subscription.livemode),
        sync_subscription.livemode, sync_subscription.status, sync_subscription.currency,
        sync_subscription.billing_cycle_anchor, sync_subscription.cancel_at, sync_subscription.cancel_at_period_end,
        sync_subscription.canceled_at, sync_subscription.ended_at, sync_subscription.trial_start,
        sync_subscription.trial_end, case when sync_subscription.is_collection_paused then sync_subscription.as_of end,
        sync_subscription.metadata, sync_subscription.started_at, sync_subscription.as_of
    )
    on conflict on constraint subscriptions_pkey do update
    set status = excluded.status,
        currency = excluded.currency,
        billing_cycle_anchor = excluded.billing_cycle_anchor,
        cancel_at = excluded.cancel_at,
        cancel_at_period_end = excluded.cancel_at_period_end,
        canceled_at = excluded.canceled_at,
        ended_at = excluded.ended_at,
        trial_start = excluded.trial_start,
        trial_end = excluded.trial_end,
        collection_paused_at = case
            when sync_subscription.is_collection_paused then coalesce(held.collection_paused_at, excluded.as_of)
        end,
        metadata = excluded.metadata,
        as_of = excluded.as_of,
        updated_at = now()
    where held.as_of < excluded.as_of
        and (
            sync_subscription.is_fetched or held.status not in ('canceled', 'incomplete_expired')
            or held.status = excluded.status
        );

    if not found then
        select subscriptions.as_of into strict v_as_of from billing.subscriptions
        where subscriptions.stripe_subscription_id = sync_subscription.stripe_subscription_id;
        return billing._refused(v_as_of, sync_subscription.as_of);
    end if;

    insert into billing.subscription_items (
        stripe_subscription_item_id, stripe_subscription_id, stripe_price_id, stripe_product_id, quantity,
        current_period_start, current_period_end
    )
    select
        item.stripe_subscription_item_id, sync_subscription.stripe_subscription_id, item.stripe_price_id,
        item.stripe_product_id, item.quantity, item.current_period_start, item.current_period_end
    from jsonb_to_recordset(sync_subscription.items) as item (
        stripe_subscription_item_id text, stripe_price_id text, stripe_product_id text, quantity bigint,
        current_period_start timestamptz, current_period_end timestamptz
    )
    on conflict on constraint subscription_items_pkey do update
    set stripe_price_id = excluded.stripe_price_id,
        stripe_product_id = excluded.stripe_product_id,
        quantity = excluded.quantity,
        current_period_start = excluded.current_period_start,
        current_period_end = excluded.current_period_end,
        removed_at = null,
        updated_at = now();

    update billing.subscription_items
    set removed_at = sync_subscription.as_of, updated_at = now()
    where subscription_items.stripe_subscription_id = sync_subscription.stripe_subscription_id
        and subscription_items.removed_at is null
        and not exists (
            select from jsonb_array_elements(sync_subscription.items) as item
            where item ->> 'stripe_subscription_item_id' = subscription_items.stripe_subscription_item_id
        );
    return 'applied';
end
$$;

CREATE FUNCTION billing.tg_accounts__open_balance() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
begin
    insert into billing.credit_balances (account_id) values (new.id);
    return null;
end
$$;

CREATE FUNCTION billing.tg_clock__local_only() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
begin
    if not exists (select from pg_catalog.pg_roles where rolname = session_user and rolsuper) then
        raise exception 'the clock can only be moved in a local stack'
            using errcode = 'TB013', hint = 'Use Stripe test clocks with `till dev`.';
    end if;
    return null;
end
$$;

CREATE FUNCTION billing.tg_ledger__append_only() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
begin
    raise exception '% is append-only: % refused', tg_table_name, lower(tg_op)
        using errcode = 'TB015', hint = 'Correct a mistake with a new entry, such as a revocation or a refund.';
end
$$;

CREATE FUNCTION billing.tg_users__open_account() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    SET lock_timeout TO '1s'
    AS $$
begin
    perform billing.ensure_account(new.id);
    return null;
exception when others then
    raise warning 'no billing account for user %: %', new.id, sqlerrm;
    return null;
end
$$;

CREATE FUNCTION public.ensure_account(user_id uuid) RETURNS uuid
    LANGUAGE sql
    SET search_path TO ''
    AS $$
    select billing.ensure_account(ensure_account.user_id)
$$;

CREATE FUNCTION public.grant_credits(account_id uuid, amount numeric, idempotency_key text, description text DEFAULT NULL::text, source text DEFAULT 'app'::text, reference_id text DEFAULT NULL::text, expires_at timestamp with time zone DEFAULT NULL::timestamp with time zone, priority integer DEFAULT 100, metadata jsonb DEFAULT '{}'::jsonb) RETURNS billing.credit_entries
    LANGUAGE sql
    SET search_path TO ''
    AS $$
    select billing.grant_credits(
        grant_credits.account_id, grant_credits.amount, grant_credits.idempotency_key, grant_credits.description,
        grant_credits.source, grant_credits.reference_id, grant_credits.expires_at, grant_credits.priority,
        grant_credits.metadata
    )
$$;

CREATE FUNCTION public.link_customer(account_id uuid, stripe_customer_id text, livemode boolean DEFAULT NULL::boolean) RETURNS void
    LANGUAGE sql
    SET search_path TO ''
    AS $$
    select billing.link_customer(link_customer.account_id, link_customer.stripe_customer_id, link_customer.livemode)
$$;

CREATE FUNCTION public.spend_credits(account_id uuid, amount numeric, idempotency_key text, description text DEFAULT NULL::text, metadata jsonb DEFAULT '{}'::jsonb, feature text DEFAULT NULL::text, reference_id text DEFAULT NULL::text) RETURNS billing.credit_entries
    LANGUAGE sql
    SET search_path TO ''
    AS $$
    select billing.spend_credits(
        spend_credits.account_id, spend_credits.amount, spend_credits.idempotency_key, spend_credits.description,
        spend_credits.metadata, spend_credits.feature, spend_credits.reference_id
    )
$$;

CREATE TABLE billing.account_members (
    account_id uuid NOT NULL,
    user_id uuid NOT NULL,
    role text DEFAULT 'member'::text NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT role_is_known CHECK ((role = ANY (ARRAY['owner'::text, 'admin'::text, 'member'::text])))
);

COMMENT ON TABLE billing.account_members IS 'Who belongs to a team account.';

CREATE TABLE billing.accounts (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    kind text DEFAULT 'personal'::text NOT NULL,
    name text,
    owner_id uuid,
    frozen_at timestamp with time zone,
    frozen_reason text,
    closed_at timestamp with time zone,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT frozen_accounts_say_why CHECK (((frozen_at IS NULL) = (frozen_reason IS NULL))),
    CONSTRAINT kind_is_known CHECK ((kind = ANY (ARRAY['personal'::text, 'team'::text])))
);

COMMENT ON TABLE billing.accounts IS 'What has a balance: a person or a team.';

COMMENT ON COLUMN billing.accounts.frozen_at IS 'Since when spending is refused (TB003); frozen_reason says why.';

CREATE TABLE billing.checkout_sessions (
    stripe_checkout_session_id text NOT NULL,
    stripe_customer_id text,
    account_id uuid,
    livemode boolean NOT NULL,
    mode text NOT NULL,
    status text NOT NULL,
    payment_status text NOT NULL,
    client_reference_id text,
    stripe_subscription_id text,
    stripe_invoice_id text,
    stripe_payment_intent_id text,
    stripe_payment_link_id text,
    currency text,
    amount_total bigint,
    completed_at timestamp with time zone,
    as_of timestamp with time zone NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT mode_is_known CHECK ((mode = ANY (ARRAY['payment'::text, 'setup'::text, 'subscription'::text]))),
    CONSTRAINT payment_status_is_known CHECK ((payment_status = ANY (ARRAY['unpaid'::text, 'paid'::text, 'no_payment_required'::text]))),
    CONSTRAINT status_is_known CHECK ((status = ANY (ARRAY['open'::text, 'complete'::text, 'expired'::text])))
);

COMMENT ON TABLE billing.checkout_sessions IS 'Stripe Checkout Sessions that ended.';

COMMENT ON COLUMN billing.checkout_sessions.client_reference_id IS 'As it came; the payer may have edited it, so it links nothing by itself.';

CREATE TABLE billing.clock (
    id boolean DEFAULT true NOT NULL,
    ahead_by interval DEFAULT '00:00:00'::interval NOT NULL,
    CONSTRAINT ahead_by_is_not_negative CHECK ((ahead_by >= '00:00:00'::interval)),
    CONSTRAINT there_is_one_row CHECK (id)
);

COMMENT ON TABLE billing.clock IS 'How far billing time is ahead of now(); moved by the local stack only.';

CREATE TABLE billing.credit_consumptions (
    entry_id bigint NOT NULL,
    grant_id bigint NOT NULL,
    amount bigint NOT NULL,
    CONSTRAINT amount_is_not_zero CHECK ((amount <> 0))
);

COMMENT ON TABLE billing.credit_consumptions IS 'Which entry took how many credits from which lot; negative where it gave back.';

ALTER TABLE billing.credit_entries ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME billing.credit_entries_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE billing.credit_grants (
    id bigint NOT NULL,
    account_id uuid NOT NULL,
    entry_id bigint,
    amount bigint NOT NULL,
    remaining bigint NOT NULL,
    held bigint DEFAULT 0 NOT NULL,
    priority integer DEFAULT 100 NOT NULL,
    effective_at timestamp with time zone NOT NULL,
    expires_at timestamp with time zone,
    closed_at timestamp with time zone,
    source text NOT NULL,
    reference_id text,
    key_space text NOT NULL,
    idempotency_key text NOT NULL,
    stripe_invoice_id text,
    stripe_subscription_item_id text,
    stripe_price_id text,
    stripe_checkout_session_id text,
    stripe_payment_intent_id text,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT amount_is_positive CHECK ((amount > 0)),
    CONSTRAINT closed_lots_are_empty CHECK (((closed_at IS NULL) OR (remaining = 0))),
    CONSTRAINT expires_after_it_takes_effect CHECK ((expires_at > effective_at)),
    CONSTRAINT held_is_within_what_remains CHECK (((held >= 0) AND (held <= remaining))),
    CONSTRAINT key_space_is_known CHECK ((key_space = ANY (ARRAY['caller'::text, 'stripe'::text, 'system'::text]))),
    CONSTRAINT remaining_is_within_the_amount CHECK (((remaining >= 0) AND (remaining <= amount)))
)
WITH (fillfactor='80');

COMMENT ON TABLE billing.credit_grants IS 'Lots of credits: what is left of each grant and what paid for it.';

COMMENT ON COLUMN billing.credit_grants.entry_id IS 'The entry that opened the lot; null until a future-dated lot takes effect.';

COMMENT ON COLUMN billing.credit_grants.held IS 'Part of remaining that open holds have pinned.';

ALTER TABLE billing.credit_grants ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME billing.credit_grants_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE billing.credit_hold_lots (
    hold_id uuid NOT NULL,
    grant_id bigint NOT NULL,
    amount bigint NOT NULL,
    CONSTRAINT amount_is_not_negative CHECK ((amount >= 0))
);

COMMENT ON TABLE billing.credit_hold_lots IS 'The lots that a hold has pinned.';

CREATE TABLE billing.credit_holds (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    account_id uuid NOT NULL,
    amount bigint NOT NULL,
    captured bigint DEFAULT 0 NOT NULL,
    status text DEFAULT 'held'::text NOT NULL,
    description text,
    metadata jsonb DEFAULT '{}'::jsonb NOT NULL,
    idempotency_key text NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    settled_at timestamp with time zone,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT amount_is_positive CHECK ((amount > 0)),
    CONSTRAINT captured_is_within_the_amount CHECK (((captured >= 0) AND (captured <= amount))),
    CONSTRAINT metadata_is_an_object CHECK ((jsonb_typeof(metadata) = 'object'::text)),
    CONSTRAINT settled_holds_say_when CHECK (((status = 'held'::text) = (settled_at IS NULL))),
    CONSTRAINT status_is_known CHECK ((status = ANY (ARRAY['held'::text, 'captured'::text, 'released'::text, 'expired'::text])))
);

COMMENT ON TABLE billing.credit_holds IS 'Credits set aside until captured, released or expired.';

CREATE TABLE billing.credit_packs (
    stripe_price_id text NOT NULL,
    stripe_product_id text NOT NULL,
    livemode boolean DEFAULT false NOT NULL,
    active boolean DEFAULT true NOT NULL,
    lookup_key text,
    nickname text,
    currency text DEFAULT 'usd'::text NOT NULL,
    unit_amount bigint,
    pack_credits bigint NOT NULL,
    metadata jsonb DEFAULT '{}'::jsonb NOT NULL,
    as_of timestamp with time zone DEFAULT '-infinity'::timestamp with time zone NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT pack_credits_are_positive CHECK ((pack_credits > 0))
);

COMMENT ON TABLE billing.credit_packs IS 'One-time Stripe prices and the credits they are worth.';

CREATE TABLE billing.customers (
    id bigint NOT NULL,
    stripe_customer_id text,
    account_id uuid,
    livemode boolean NOT NULL,
    email text,
    name text,
    metadata jsonb DEFAULT '{}'::jsonb NOT NULL,
    as_of timestamp with time zone DEFAULT '-infinity'::timestamp with time zone NOT NULL,
    linked_at timestamp with time zone,
    deleted_at timestamp with time zone,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT customer_is_known_to_us_or_to_stripe CHECK (((account_id IS NOT NULL) OR (stripe_customer_id IS NOT NULL)))
);

COMMENT ON TABLE billing.customers IS 'Stripe customers and the accounts they belong to.';

COMMENT ON COLUMN billing.customers.account_id IS 'Null while Stripe knows the customer and we don''t; set once, by link_customer.';

COMMENT ON COLUMN billing.customers.as_of IS 'Age of the state held here: the event''s created, or the Date of a read from Stripe.';

ALTER TABLE billing.customers ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME billing.customers_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE billing.disputes (
    stripe_dispute_id text NOT NULL,
    stripe_charge_id text NOT NULL,
    stripe_payment_intent_id text,
    livemode boolean NOT NULL,
    status text NOT NULL,
    currency text NOT NULL,
    amount bigint NOT NULL,
    reason text,
    evidence_due_at timestamp with time zone,
    disputed_at timestamp with time zone NOT NULL,
    as_of timestamp with time zone NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL
);

COMMENT ON TABLE billing.disputes IS 'Stripe disputes, inquiries included.';

CREATE TABLE billing.invoice_lines (
    stripe_line_id text NOT NULL,
    stripe_invoice_id text NOT NULL,
    stripe_subscription_item_id text,
    stripe_price_id text,
    amount bigint NOT NULL,
    quantity bigint,
    is_proration boolean NOT NULL,
    period_start timestamp with time zone NOT NULL,
    period_end timestamp with time zone NOT NULL
);

COMMENT ON TABLE billing.invoice_lines IS 'Lines of paid invoices: what was paid for, and for which period.';

COMMENT ON COLUMN billing.invoice_lines.quantity IS 'Seats of a licensed price; usage of a metered one.';

CREATE TABLE billing.invoice_payments (
    stripe_invoice_payment_id text NOT NULL,
    stripe_invoice_id text NOT NULL,
    stripe_payment_intent_id text,
    stripe_charge_id text,
    status text NOT NULL,
    amount_paid bigint,
    created_at timestamp with time zone DEFAULT now() NOT NULL
);

COMMENT ON TABLE billing.invoice_payments IS 'Which payment paid which invoice.';

CREATE VIEW billing.ledger_discrepancies WITH (security_invoker='on') AS
 WITH entry_sums AS (
         SELECT credit_entries.account_id,
            sum(credit_entries.amount) AS total
           FROM billing.credit_entries
          GROUP BY credit_entries.account_id
        ), lot_sums AS (
         SELECT credit_grants.account_id,
            sum(credit_grants.remaining) AS remaining,
            sum(credit_grants.held) AS held,
            min(credit_grants.expires_at) FILTER (WHERE (credit_grants.closed_at IS NULL)) AS next_due_at
           FROM billing.credit_grants
          GROUP BY credit_grants.account_id
        ), hold_sums AS (
         SELECT credit_holds.account_id,
            sum((credit_holds.amount - credit_holds.captured)) AS held
           FROM billing.credit_holds
          WHERE (credit_holds.status = 'held'::text)
          GROUP BY credit_holds.account_id
        ), chain AS (
         SELECT credit_entries.id,
            credit_entries.account_id,
            credit_entries.amount,
            credit_entries.balance_after,
            lag(credit_entries.balance_after, 1, (0)::bigint) OVER (PARTITION BY credit_entries.account_id ORDER BY credit_entries.id) AS balance_before
           FROM billing.credit_entries
        ), taken_from_lots AS (
         SELECT credit_consumptions.grant_id,
            sum(credit_consumptions.amount) AS taken
           FROM billing.credit_consumptions
          GROUP BY credit_consumptions.grant_id
        ), taken_by_entries AS (
         SELECT credit_consumptions.entry_id,
            sum(credit_consumptions.amount) AS taken
           FROM billing.credit_consumptions
          GROUP BY credit_consumptions.entry_id
        )
 SELECT a.id AS account_id,
    'account_has_a_balance'::text AS invariant,
    'no row in credit_balances'::text AS detail
   FROM (billing.accounts a
     LEFT JOIN billing.credit_balances b ON ((b.account_id = a.id)))
  WHERE (b.account_id IS NULL)
UNION ALL
 SELECT b.account_id,
    'balance_is_the_sum_of_entries'::text AS invariant,
    format('balance %s, entries %s'::text, b.balance, COALESCE(e.total, (0)::numeric)) AS detail
   FROM (billing.credit_balances b
     LEFT JOIN entry_sums e ON ((e.account_id = b.account_id)))
  WHERE ((b.balance)::numeric <> COALESCE(e.total, (0)::numeric))
UNION ALL
 SELECT b.account_id,
    'balance_is_what_remains_less_debt'::text AS invariant,
    format('balance %s, remaining %s, debt %s'::text, b.balance, COALESCE(l.remaining, (0)::numeric), b.debt) AS detail
   FROM (billing.credit_balances b
     LEFT JOIN lot_sums l ON ((l.account_id = b.account_id)))
  WHERE ((b.balance)::numeric <> (COALESCE(l.remaining, (0)::numeric) - (b.debt)::numeric))
UNION ALL
 SELECT b.account_id,
    'held_is_the_sum_of_open_holds'::text AS invariant,
    format('held %s, holds %s, lots %s'::text, b.held, COALESCE(h.held, (0)::numeric), COALESCE(l.held, (0)::numeric)) AS detail
   FROM ((billing.credit_balances b
     LEFT JOIN hold_sums h ON ((h.account_id = b.account_id)))
     LEFT JOIN lot_sums l ON ((l.account_id = b.account_id)))
  WHERE (((b.held)::numeric <> COALESCE(h.held, (0)::numeric)) OR ((b.held)::numeric <> COALESCE(l.held, (0)::numeric)))
UNION ALL
 SELECT b.account_id,
    'no_lot_falls_due_unseen'::text AS invariant,
    format('next_due_at %s, a lot expires at %s'::text, b.next_due_at, l.next_due_at) AS detail
   FROM (billing.credit_balances b
     JOIN lot_sums l ON ((l.account_id = b.account_id)))
  WHERE (l.next_due_at < COALESCE(b.next_due_at, 'infinity'::timestamp with time zone))
UNION ALL
 SELECT c.account_id,
    'balance_after_continues_the_chain'::text AS invariant,
    format('entry %s: %s and %s make not %s'::text, c.id, c.balance_before, c.amount, c.balance_after) AS detail
   FROM chain c
  WHERE (c.balance_after <> (c.balance_before + c.amount))
UNION ALL
 SELECT g.account_id,
    'lot_lost_what_entries_took'::text AS invariant,
    format('lot %s: amount %s, remaining %s, taken %s'::text, g.id, g.amount, g.remaining, COALESCE(t.taken, (0)::numeric)) AS detail
   FROM (billing.credit_grants g
     LEFT JOIN taken_from_lots t ON ((t.grant_id = g.id)))
  WHERE ((g.entry_id IS NOT NULL) AND (((g.amount - g.remaining))::numeric <> COALESCE(t.taken, (0)::numeric)))
UNION ALL
 SELECT g.account_id,
    'lot_is_open_while_something_remains'::text AS invariant,
    format('lot %s is open and empty'::text, g.id) AS detail
   FROM billing.credit_grants g
  WHERE ((g.closed_at IS NULL) AND (g.remaining = 0))
UNION ALL
 SELECT e.account_id,
    'lot_opens_by_its_grant_entry'::text AS invariant,
    format('grant entry %s of %s opened lot %s of %s'::text, e.id, e.amount, g.id, g.amount) AS detail
   FROM (billing.credit_entries e
     LEFT JOIN billing.credit_grants g ON ((g.entry_id = e.id)))
  WHERE ((e.kind = 'grant'::text) AND ((g.id IS NULL) OR (g.amount <> e.amount) OR (g.account_id <> e.account_id)))
UNION ALL
 SELECT e.account_id,
    'spend_names_its_lots'::text AS invariant,
    format('entry %s of %s took %s from lots'::text, e.id, e.amount, COALESCE(t.taken, (0)::numeric)) AS detail
   FROM (billing.credit_entries e
     LEFT JOIN taken_by_entries t ON ((t.entry_id = e.id)))
  WHERE ((e.kind = ANY (ARRAY['spend'::text, 'capture'::text, 'expiry'::text])) AND (COALESCE(t.taken, (0)::numeric) <> ((- e.amount))::numeric));

COMMENT ON VIEW billing.ledger_discrepancies IS 'Whatever is off in the ledger: account, broken invariant, figures. Empty when all is well.';

CREATE TABLE billing.notifications (
    id bigint NOT NULL,
    account_id uuid,
    audience text NOT NULL,
    kind text NOT NULL,
    dedupe_key text NOT NULL,
    payload jsonb DEFAULT '{}'::jsonb NOT NULL,
    status text DEFAULT 'queued'::text NOT NULL,
    attempts integer DEFAULT 0 NOT NULL,
    last_error text,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    delivered_at timestamp with time zone,
    CONSTRAINT audience_is_known CHECK ((audience = ANY (ARRAY['administrators'::text, 'customer'::text]))),
    CONSTRAINT payload_is_an_object CHECK ((jsonb_typeof(payload) = 'object'::text)),
    CONSTRAINT status_is_known CHECK ((status = ANY (ARRAY['queued'::text, 'delivered'::text, 'digested'::text, 'dead'::text])))
);

COMMENT ON TABLE billing.notifications IS 'What people are to be told; delivered by the worker.';

ALTER TABLE billing.notifications ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME billing.notifications_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE billing.payment_links (
    stripe_payment_link_id text NOT NULL,
    canonical_hash text NOT NULL,
    stripe_price_id text NOT NULL,
    livemode boolean NOT NULL,
    url text NOT NULL,
    active boolean DEFAULT true NOT NULL,
    parameters jsonb DEFAULT '{}'::jsonb NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL
);

COMMENT ON TABLE billing.payment_links IS 'One active Payment Link for each set of canonical parameters.';

CREATE TABLE billing.payments (
    stripe_charge_id text NOT NULL,
    stripe_payment_intent_id text,
    stripe_customer_id text,
    account_id uuid,
    livemode boolean NOT NULL,
    status text NOT NULL,
    currency text NOT NULL,
    amount bigint NOT NULL,
    amount_refunded bigint DEFAULT 0 NOT NULL,
    is_disputed boolean DEFAULT false NOT NULL,
    risk_level text,
    risk_score integer,
    card_fingerprint text,
    failure_code text,
    receipt_url text,
    charged_at timestamp with time zone NOT NULL,
    as_of timestamp with time zone NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT amount_refunded_is_within_the_amount CHECK (((amount_refunded >= 0) AND (amount_refunded <= amount))),
    CONSTRAINT status_is_known CHECK ((status = ANY (ARRAY['succeeded'::text, 'pending'::text, 'failed'::text])))
);

COMMENT ON TABLE billing.payments IS 'Stripe charges; amounts in minor units of currency.';

COMMENT ON COLUMN billing.payments.risk_level IS 'The charge''s outcome.risk_level: normal, elevated, highest, not_assessed or unknown.';

CREATE TABLE billing.products (
    stripe_product_id text NOT NULL,
    livemode boolean NOT NULL,
    name text NOT NULL,
    description text,
    active boolean DEFAULT true NOT NULL,
    metadata jsonb DEFAULT '{}'::jsonb NOT NULL,
    as_of timestamp with time zone DEFAULT '-infinity'::timestamp with time zone NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL
);

COMMENT ON TABLE billing.products IS 'Stripe products.';

CREATE TABLE billing.refunds (
    stripe_refund_id text NOT NULL,
    stripe_charge_id text,
    stripe_payment_intent_id text,
    livemode boolean NOT NULL,
    status text NOT NULL,
    currency text NOT NULL,
    amount bigint NOT NULL,
    reason text,
    failure_reason text,
    refunded_at timestamp with time zone NOT NULL,
    as_of timestamp with time zone NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT status_is_known CHECK ((status = ANY (ARRAY['pending'::text, 'requires_action'::text, 'succeeded'::text, 'failed'::text, 'canceled'::text])))
);

COMMENT ON TABLE billing.refunds IS 'Stripe refunds.';

CREATE TABLE billing.reviews (
    stripe_review_id text NOT NULL,
    stripe_charge_id text,
    stripe_payment_intent_id text,
    account_id uuid,
    livemode boolean NOT NULL,
    is_open boolean NOT NULL,
    reason text NOT NULL,
    closed_reason text,
    opened_at timestamp with time zone NOT NULL,
    as_of timestamp with time zone NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL
);

COMMENT ON TABLE billing.reviews IS 'Radar reviews.';

CREATE TABLE billing.settings (
    id boolean DEFAULT true NOT NULL,
    livemode boolean DEFAULT false NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT there_is_one_row CHECK (id)
);

COMMENT ON TABLE billing.settings IS 'What this installation is told by its owner; one row.';

COMMENT ON COLUMN billing.settings.livemode IS 'True when real money is expected. Events of the other mode are recorded and ignored.';

CREATE TABLE billing.stripe_events (
    stripe_event_id text NOT NULL,
    type text NOT NULL,
    api_version text,
    livemode boolean NOT NULL,
    payload text NOT NULL,
    status text DEFAULT 'queued'::text NOT NULL,
    attempts integer DEFAULT 0 NOT NULL,
    excused_attempts integer DEFAULT 0 NOT NULL,
    last_error text,
    waiting_for text,
    created_at timestamp with time zone NOT NULL,
    received_at timestamp with time zone DEFAULT now() NOT NULL,
    settled_at timestamp with time zone,
    CONSTRAINT events_set_aside_say_why CHECK (((status = ANY (ARRAY['queued'::text, 'applied'::text])) OR (last_error IS NOT NULL))),
    CONSTRAINT settled_events_say_when CHECK (((status = 'queued'::text) = (settled_at IS NULL))),
    CONSTRAINT status_is_known CHECK ((status = ANY (ARRAY['queued'::text, 'applied'::text, 'ignored'::text, 'parked'::text, 'dead'::text])))
);

COMMENT ON TABLE billing.stripe_events IS 'Every event that Stripe signed, once, as it came.';

COMMENT ON COLUMN billing.stripe_events.status IS 'queued: has a message. applied: effects committed. ignored: not for us, by mode or type. parked: waits for waiting_for. dead: needs a person; last_error says what to do.';

COMMENT ON COLUMN billing.stripe_events.waiting_for IS 'Stripe id whose arrival here sends the event to the queue again.';

COMMENT ON COLUMN billing.stripe_events.created_at IS 'When it happened at Stripe, in whole seconds.';

CREATE TABLE billing.subscription_items (
    stripe_subscription_item_id text NOT NULL,
    stripe_subscription_id text NOT NULL,
    stripe_price_id text NOT NULL,
    stripe_product_id text,
    quantity bigint,
    current_period_start timestamp with time zone NOT NULL,
    current_period_end timestamp with time zone NOT NULL,
    removed_at timestamp with time zone,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT current_period_ends_after_it_starts CHECK ((current_period_end >= current_period_start)),
    CONSTRAINT quantity_is_not_negative CHECK ((quantity >= 0))
);

COMMENT ON TABLE billing.subscription_items IS 'What a subscription consists of: a price, a quantity and a current period each.';

CREATE TABLE billing.subscriptions (
    stripe_subscription_id text NOT NULL,
    stripe_customer_id text NOT NULL,
    account_id uuid,
    livemode boolean NOT NULL,
    status text NOT NULL,
    currency text,
    billing_cycle_anchor timestamp with time zone NOT NULL,
    cancel_at timestamp with time zone,
    cancel_at_period_end boolean DEFAULT false NOT NULL,
    canceled_at timestamp with time zone,
    ended_at timestamp with time zone,
    trial_start timestamp with time zone,
    trial_end timestamp with time zone,
    collection_paused_at timestamp with time zone,
    metadata jsonb DEFAULT '{}'::jsonb NOT NULL,
    started_at timestamp with time zone NOT NULL,
    as_of timestamp with time zone NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT status_is_known CHECK ((status = ANY (ARRAY['incomplete'::text, 'incomplete_expired'::text, 'trialing'::text, 'active'::text, 'past_due'::text, 'canceled'::text, 'unpaid'::text, 'paused'::text])))
);

COMMENT ON TABLE billing.subscriptions IS 'Stripe subscriptions.';

COMMENT ON COLUMN billing.subscriptions.account_id IS 'Null while the customer is linked to no account.';

COMMENT ON COLUMN billing.subscriptions.collection_paused_at IS 'When pause_collection was first seen; independent of status.';

COMMENT ON COLUMN billing.subscriptions.as_of IS 'Age of the state held here: the event''s created, or the Date of a read from Stripe.';

CREATE VIEW public.billing_plans WITH (security_invoker='on') AS
 SELECT plans.stripe_price_id,
    plans.lookup_key,
    COALESCE(plans.nickname, products.name) AS name,
    products.description,
    plans.currency,
    plans.unit_amount,
    plans.recurring_interval,
    plans.recurring_interval_count,
    plans.initial_credits,
    plans.monthly_credits,
    plans.trial_credits,
    plans.features
   FROM (billing.plans
     JOIN billing.products ON ((products.stripe_product_id = plans.stripe_product_id)));

COMMENT ON VIEW public.billing_plans IS 'Plans on sale and the credits they are worth.';

CREATE VIEW public.billing_subscription WITH (security_invoker='on') AS
 SELECT subscriptions.account_id,
    subscriptions.stripe_subscription_id,
    subscriptions.status,
    items.stripe_price_id,
    items.quantity,
    items.current_period_start,
    items.current_period_end,
    subscriptions.trial_end,
        CASE
            WHEN subscriptions.cancel_at_period_end THEN items.current_period_end
            ELSE subscriptions.cancel_at
        END AS cancels_at,
    subscriptions.ended_at
   FROM (billing.subscriptions
     JOIN billing.subscription_items items ON (((items.stripe_subscription_id = subscriptions.stripe_subscription_id) AND (items.removed_at IS NULL))));

COMMENT ON VIEW public.billing_subscription IS 'Subscriptions of my accounts: one row for each item.';

CREATE VIEW public.credit_balance WITH (security_invoker='on') AS
 SELECT account_id,
    balance,
    held,
    (GREATEST((((balance - held))::numeric -
        CASE
            WHEN (next_due_at <= billing."current_time"()) THEN COALESCE(( SELECT sum((lots.remaining - lots.held)) AS sum
               FROM billing.credit_grants lots
              WHERE ((lots.account_id = balances.account_id) AND (lots.closed_at IS NULL) AND (lots.expires_at <= billing."current_time"()))), (0)::numeric)
            ELSE (0)::numeric
        END), (0)::numeric))::bigint AS available,
    updated_at
   FROM billing.credit_balances balances;

COMMENT ON VIEW public.credit_balance IS 'Credits of my accounts: one row each. available leaves out what is held and what is due.';

CREATE VIEW public.credit_history WITH (security_invoker='on') AS
 SELECT id,
    account_id,
    kind,
    amount,
    balance_after,
    source,
    reference_id,
    description,
    feature,
    metadata,
    occurred_at
   FROM billing.credit_entries;

COMMENT ON VIEW public.credit_history IS 'Movements of credits of my accounts; page by id descending.';

ALTER TABLE ONLY billing.account_members
    ADD CONSTRAINT account_members_pkey PRIMARY KEY (account_id, user_id);

ALTER TABLE ONLY billing.accounts
    ADD CONSTRAINT accounts_pkey PRIMARY KEY (id);

ALTER TABLE ONLY billing.checkout_sessions
    ADD CONSTRAINT checkout_sessions_pkey PRIMARY KEY (stripe_checkout_session_id);

ALTER TABLE ONLY billing.clock
    ADD CONSTRAINT clock_pkey PRIMARY KEY (id);

ALTER TABLE ONLY billing.credit_balances
    ADD CONSTRAINT credit_balances_pkey PRIMARY KEY (account_id);

ALTER TABLE ONLY billing.credit_consumptions
    ADD CONSTRAINT credit_consumptions_pkey PRIMARY KEY (entry_id, grant_id);

ALTER TABLE ONLY billing.credit_entries
    ADD CONSTRAINT credit_entries_pkey PRIMARY KEY (id);

ALTER TABLE ONLY billing.credit_grants
    ADD CONSTRAINT credit_grants_pkey PRIMARY KEY (id);

ALTER TABLE ONLY billing.credit_hold_lots
    ADD CONSTRAINT credit_hold_lots_pkey PRIMARY KEY (hold_id, grant_id);

ALTER TABLE ONLY billing.credit_holds
    ADD CONSTRAINT credit_holds_pkey PRIMARY KEY (id);

ALTER TABLE ONLY billing.credit_packs
    ADD CONSTRAINT credit_packs_pkey PRIMARY KEY (stripe_price_id);

ALTER TABLE ONLY billing.credit_schedules
    ADD CONSTRAINT credit_schedules_pkey PRIMARY KEY (stripe_subscription_item_id, period_start);

ALTER TABLE ONLY billing.customers
    ADD CONSTRAINT customers_pkey PRIMARY KEY (id);

ALTER TABLE ONLY billing.customers
    ADD CONSTRAINT customers_stripe_customer_id_key UNIQUE (stripe_customer_id);

ALTER TABLE ONLY billing.disputes
    ADD CONSTRAINT disputes_pkey PRIMARY KEY (stripe_dispute_id);

ALTER TABLE ONLY billing.fraud_warnings
    ADD CONSTRAINT fraud_warnings_pkey PRIMARY KEY (stripe_early_fraud_warning_id);

ALTER TABLE ONLY billing.invoice_lines
    ADD CONSTRAINT invoice_lines_pkey PRIMARY KEY (stripe_line_id);

ALTER TABLE ONLY billing.invoice_payments
    ADD CONSTRAINT invoice_payments_pkey PRIMARY KEY (stripe_invoice_payment_id);

ALTER TABLE ONLY billing.invoices
    ADD CONSTRAINT invoices_pkey PRIMARY KEY (stripe_invoice_id);

ALTER TABLE ONLY billing.notifications
    ADD CONSTRAINT notifications_dedupe_key_key UNIQUE (dedupe_key);

ALTER TABLE ONLY billing.notifications
    ADD CONSTRAINT notifications_pkey PRIMARY KEY (id);

ALTER TABLE ONLY billing.payment_links
    ADD CONSTRAINT payment_links_pkey PRIMARY KEY (stripe_payment_link_id);

ALTER TABLE ONLY billing.payments
    ADD CONSTRAINT payments_pkey PRIMARY KEY (stripe_charge_id);

ALTER TABLE ONLY billing.plans
    ADD CONSTRAINT plans_pkey PRIMARY KEY (stripe_price_id);

ALTER TABLE ONLY billing.products
    ADD CONSTRAINT products_pkey PRIMARY KEY (stripe_product_id);

ALTER TABLE ONLY billing.refunds
    ADD CONSTRAINT refunds_pkey PRIMARY KEY (stripe_refund_id);

ALTER TABLE ONLY billing.reviews
    ADD CONSTRAINT reviews_pkey PRIMARY KEY (stripe_review_id);

ALTER TABLE ONLY billing.settings
    ADD CONSTRAINT settings_pkey PRIMARY KEY (id);

ALTER TABLE ONLY billing.stripe_events
    ADD CONSTRAINT stripe_events_pkey PRIMARY KEY (stripe_event_id);

ALTER TABLE ONLY billing.subscription_items
    ADD CONSTRAINT subscription_items_pkey PRIMARY KEY (stripe_subscription_item_id);

ALTER TABLE ONLY billing.subscriptions
    ADD CONSTRAINT subscriptions_pkey PRIMARY KEY (stripe_subscription_id);

CREATE INDEX account_members_user ON billing.account_members USING btree (user_id);

CREATE INDEX accounts_owner ON billing.accounts USING btree (owner_id);

CREATE UNIQUE INDEX accounts_personal_owner ON billing.accounts USING btree (owner_id) WHERE (kind = 'personal'::text);

CREATE INDEX checkout_sessions_account ON billing.checkout_sessions USING btree (account_id);

CREATE INDEX checkout_sessions_customer ON billing.checkout_sessions USING btree (stripe_customer_id);

CREATE INDEX checkout_sessions_payment_intent ON billing.checkout_sessions USING btree (stripe_payment_intent_id);

CREATE INDEX credit_balances_due ON billing.credit_balances USING btree (next_due_at) WHERE (next_due_at IS NOT NULL);

CREATE INDEX credit_consumptions_grant ON billing.credit_consumptions USING btree (grant_id);

CREATE INDEX credit_entries_history ON billing.credit_entries USING btree (account_id, id DESC);

CREATE INDEX credit_entries_hold ON billing.credit_entries USING btree (hold_id) WHERE (hold_id IS NOT NULL);

CREATE UNIQUE INDEX credit_entries_key ON billing.credit_entries USING btree (account_id, key_space, idempotency_key);

CREATE INDEX credit_entries_reverses ON billing.credit_entries USING btree (reverses_entry_id) WHERE (reverses_entry_id IS NOT NULL);

CREATE UNIQUE INDEX credit_grants_business_key ON billing.credit_grants USING btree (idempotency_key) WHERE (key_space = 'stripe'::text);

CREATE INDEX credit_grants_entry ON billing.credit_grants USING btree (entry_id);

CREATE INDEX credit_grants_invoice ON billing.credit_grants USING btree (stripe_invoice_id) WHERE (stripe_invoice_id IS NOT NULL);

CREATE UNIQUE INDEX credit_grants_key ON billing.credit_grants USING btree (account_id, key_space, idempotency_key);

CREATE INDEX credit_grants_payment_intent ON billing.credit_grants USING btree (stripe_payment_intent_id) WHERE (stripe_payment_intent_id IS NOT NULL);

CREATE INDEX credit_grants_spending_order ON billing.credit_grants USING btree (account_id, priority, expires_at, id) WHERE (closed_at IS NULL);

CREATE INDEX credit_hold_lots_grant ON billing.credit_hold_lots USING btree (grant_id);

CREATE UNIQUE INDEX credit_holds_key ON billing.credit_holds USING btree (account_id, idempotency_key);

CREATE INDEX credit_holds_open ON billing.credit_holds USING btree (account_id, expires_at) WHERE (status = 'held'::text);

CREATE INDEX credit_packs_lookup_key ON billing.credit_packs USING btree (lookup_key) WHERE (lookup_key IS NOT NULL);

CREATE INDEX credit_packs_product ON billing.credit_packs USING btree (stripe_product_id);

CREATE INDEX credit_schedules_account ON billing.credit_schedules USING btree (account_id);

CREATE INDEX credit_schedules_due ON billing.credit_schedules USING btree (next_slot_at) WHERE ((next_slot_at IS NOT NULL) AND (disarmed_at IS NULL));

CREATE INDEX credit_schedules_invoice ON billing.credit_schedules USING btree (stripe_invoice_id);

CREATE INDEX credit_schedules_subscription ON billing.credit_schedules USING btree (stripe_subscription_id);

CREATE UNIQUE INDEX customers_account ON billing.customers USING btree (account_id, livemode) WHERE (deleted_at IS NULL);

CREATE INDEX disputes_charge ON billing.disputes USING btree (stripe_charge_id);

CREATE INDEX fraud_warnings_account ON billing.fraud_warnings USING btree (account_id);

CREATE INDEX fraud_warnings_charge ON billing.fraud_warnings USING btree (stripe_charge_id);

CREATE INDEX fraud_warnings_customer ON billing.fraud_warnings USING btree (stripe_customer_id);

CREATE INDEX fraud_warnings_open ON billing.fraud_warnings USING btree (warned_at) WHERE (status = 'open'::text);

CREATE INDEX invoice_lines_invoice ON billing.invoice_lines USING btree (stripe_invoice_id);

CREATE INDEX invoice_lines_item ON billing.invoice_lines USING btree (stripe_subscription_item_id);

CREATE INDEX invoice_payments_charge ON billing.invoice_payments USING btree (stripe_charge_id);

CREATE INDEX invoice_payments_invoice ON billing.invoice_payments USING btree (stripe_invoice_id);

CREATE INDEX invoice_payments_payment_intent ON billing.invoice_payments USING btree (stripe_payment_intent_id);

CREATE INDEX invoices_account ON billing.invoices USING btree (account_id);

CREATE INDEX invoices_customer ON billing.invoices USING btree (stripe_customer_id);

CREATE INDEX invoices_subscription ON billing.invoices USING btree (stripe_subscription_id);

CREATE INDEX notifications_account ON billing.notifications USING btree (account_id);

CREATE INDEX notifications_queued ON billing.notifications USING btree (created_at) WHERE (status = 'queued'::text);

CREATE UNIQUE INDEX payment_links_active ON billing.payment_links USING btree (canonical_hash, livemode) WHERE active;

CREATE INDEX payment_links_price ON billing.payment_links USING btree (stripe_price_id);

CREATE INDEX payments_account ON billing.payments USING btree (account_id);

CREATE INDEX payments_card_fingerprint ON billing.payments USING btree (card_fingerprint);

CREATE INDEX payments_customer ON billing.payments USING btree (stripe_customer_id);

CREATE INDEX payments_payment_intent ON billing.payments USING btree (stripe_payment_intent_id);

CREATE INDEX plans_lookup_key ON billing.plans USING btree (lookup_key) WHERE (lookup_key IS NOT NULL);

CREATE INDEX plans_product ON billing.plans USING btree (stripe_product_id);

CREATE INDEX refunds_charge ON billing.refunds USING btree (stripe_charge_id);

CREATE INDEX refunds_payment_intent ON billing.refunds USING btree (stripe_payment_intent_id);

CREATE INDEX reviews_account ON billing.reviews USING btree (account_id);

CREATE INDEX reviews_charge ON billing.reviews USING btree (stripe_charge_id);

CREATE INDEX stripe_events_received ON billing.stripe_events USING btree (received_at);

CREATE INDEX stripe_events_set_aside ON billing.stripe_events USING btree (status, received_at) WHERE (status = ANY (ARRAY['parked'::text, 'dead'::text]));

CREATE INDEX stripe_events_waiting ON billing.stripe_events USING btree (waiting_for) WHERE (waiting_for IS NOT NULL);

CREATE INDEX subscription_items_price ON billing.subscription_items USING btree (stripe_price_id);

CREATE INDEX subscription_items_subscription ON billing.subscription_items USING btree (stripe_subscription_id);

CREATE INDEX subscriptions_account ON billing.subscriptions USING btree (account_id);

CREATE INDEX subscriptions_customer ON billing.subscriptions USING btree (stripe_customer_id);

CREATE TRIGGER tg_accounts__open_balance AFTER INSERT ON billing.accounts FOR EACH ROW EXECUTE FUNCTION billing.tg_accounts__open_balance();

CREATE TRIGGER tg_clock__local_only BEFORE INSERT OR DELETE OR UPDATE OR TRUNCATE ON billing.clock FOR EACH STATEMENT EXECUTE FUNCTION billing.tg_clock__local_only();

CREATE TRIGGER tg_credit_consumptions__append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON billing.credit_consumptions FOR EACH STATEMENT EXECUTE FUNCTION billing.tg_ledger__append_only();

CREATE TRIGGER tg_credit_entries__append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON billing.credit_entries FOR EACH STATEMENT EXECUTE FUNCTION billing.tg_ledger__append_only();

ALTER TABLE ONLY billing.account_members
    ADD CONSTRAINT account_members_account_id_fkey FOREIGN KEY (account_id) REFERENCES billing.accounts(id) ON DELETE CASCADE;

ALTER TABLE ONLY billing.account_members
    ADD CONSTRAINT account_members_user_id_fkey FOREIGN KEY (user_id) REFERENCES auth.users(id) ON DELETE CASCADE;

ALTER TABLE ONLY billing.accounts
    ADD CONSTRAINT accounts_owner_id_fkey FOREIGN KEY (owner_id) REFERENCES auth.users(id) ON DELETE SET NULL;

ALTER TABLE ONLY billing.checkout_sessions
    ADD CONSTRAINT checkout_sessions_account_id_fkey FOREIGN KEY (account_id) REFERENCES billing.accounts(id);

ALTER TABLE ONLY billing.checkout_sessions
    ADD CONSTRAINT checkout_sessions_stripe_customer_id_fkey FOREIGN KEY (stripe_customer_id) REFERENCES billing.customers(stripe_customer_id);

ALTER TABLE ONLY billing.credit_balances
    ADD CONSTRAINT credit_balances_account_id_fkey FOREIGN KEY (account_id) REFERENCES billing.accounts(id);

ALTER TABLE ONLY billing.credit_consumptions
    ADD CONSTRAINT credit_consumptions_entry_id_fkey FOREIGN KEY (entry_id) REFERENCES billing.credit_entries(id);

ALTER TABLE ONLY billing.credit_consumptions
    ADD CONSTRAINT credit_consumptions_grant_id_fkey FOREIGN KEY (grant_id) REFERENCES billing.credit_grants(id);

ALTER TABLE ONLY billing.credit_entries
    ADD CONSTRAINT credit_entries_account_id_fkey FOREIGN KEY (account_id) REFERENCES billing.accounts(id);

ALTER TABLE ONLY billing.credit_entries
    ADD CONSTRAINT credit_entries_hold_id_fkey FOREIGN KEY (hold_id) REFERENCES billing.credit_holds(id);

ALTER TABLE ONLY billing.credit_entries
    ADD CONSTRAINT credit_entries_reverses_entry_id_fkey FOREIGN KEY (reverses_entry_id) REFERENCES billing.credit_entries(id);

ALTER TABLE ONLY billing.credit_grants
    ADD CONSTRAINT credit_grants_account_id_fkey FOREIGN KEY (account_id) REFERENCES billing.accounts(id);

ALTER TABLE ONLY billing.credit_grants
    ADD CONSTRAINT credit_grants_entry_id_fkey FOREIGN KEY (entry_id) REFERENCES billing.credit_entries(id);

ALTER TABLE ONLY billing.credit_hold_lots
    ADD CONSTRAINT credit_hold_lots_grant_id_fkey FOREIGN KEY (grant_id) REFERENCES billing.credit_grants(id);

ALTER TABLE ONLY billing.credit_hold_lots
    ADD CONSTRAINT credit_hold_lots_hold_id_fkey FOREIGN KEY (hold_id) REFERENCES billing.credit_holds(id);

ALTER TABLE ONLY billing.credit_holds
    ADD CONSTRAINT credit_holds_account_id_fkey FOREIGN KEY (account_id) REFERENCES billing.accounts(id);

ALTER TABLE ONLY billing.credit_packs
    ADD CONSTRAINT credit_packs_stripe_product_id_fkey FOREIGN KEY (stripe_product_id) REFERENCES billing.products(stripe_product_id);

ALTER TABLE ONLY billing.credit_schedules
    ADD CONSTRAINT credit_schedules_account_id_fkey FOREIGN KEY (account_id) REFERENCES billing.accounts(id);

ALTER TABLE ONLY billing.credit_schedules
    ADD CONSTRAINT credit_schedules_stripe_invoice_id_fkey FOREIGN KEY (stripe_invoice_id) REFERENCES billing.invoices(stripe_invoice_id);

ALTER TABLE ONLY billing.customers
    ADD CONSTRAINT customers_account_id_fkey FOREIGN KEY (account_id) REFERENCES billing.accounts(id);

ALTER TABLE ONLY billing.fraud_warnings
    ADD CONSTRAINT fraud_warnings_account_id_fkey FOREIGN KEY (account_id) REFERENCES billing.accounts(id);

ALTER TABLE ONLY billing.fraud_warnings
    ADD CONSTRAINT fraud_warnings_stripe_customer_id_fkey FOREIGN KEY (stripe_customer_id) REFERENCES billing.customers(stripe_customer_id);

ALTER TABLE ONLY billing.invoice_lines
    ADD CONSTRAINT invoice_lines_stripe_invoice_id_fkey FOREIGN KEY (stripe_invoice_id) REFERENCES billing.invoices(stripe_invoice_id);

ALTER TABLE ONLY billing.invoices
    ADD CONSTRAINT invoices_account_id_fkey FOREIGN KEY (account_id) REFERENCES billing.accounts(id);

ALTER TABLE ONLY billing.invoices
    ADD CONSTRAINT invoices_stripe_customer_id_fkey FOREIGN KEY (stripe_customer_id) REFERENCES billing.customers(stripe_customer_id);

ALTER TABLE ONLY billing.notifications
    ADD CONSTRAINT notifications_account_id_fkey FOREIGN KEY (account_id) REFERENCES billing.accounts(id);

ALTER TABLE ONLY billing.payments
    ADD CONSTRAINT payments_account_id_fkey FOREIGN KEY (account_id) REFERENCES billing.accounts(id);

ALTER TABLE ONLY billing.payments
    ADD CONSTRAINT payments_stripe_customer_id_fkey FOREIGN KEY (stripe_customer_id) REFERENCES billing.customers(stripe_customer_id);

ALTER TABLE ONLY billing.plans
    ADD CONSTRAINT plans_stripe_product_id_fkey FOREIGN KEY (stripe_product_id) REFERENCES billing.products(stripe_product_id);

ALTER TABLE ONLY billing.reviews
    ADD CONSTRAINT reviews_account_id_fkey FOREIGN KEY (account_id) REFERENCES billing.accounts(id);

ALTER TABLE ONLY billing.subscription_items
    ADD CONSTRAINT subscription_items_stripe_subscription_id_fkey FOREIGN KEY (stripe_subscription_id) REFERENCES billing.subscriptions(stripe_subscription_id);

ALTER TABLE ONLY billing.subscriptions
    ADD CONSTRAINT subscriptions_account_id_fkey FOREIGN KEY (account_id) REFERENCES billing.accounts(id);

ALTER TABLE ONLY billing.subscriptions
    ADD CONSTRAINT subscriptions_stripe_customer_id_fkey FOREIGN KEY (stripe_customer_id) REFERENCES billing.customers(stripe_customer_id);

ALTER TABLE billing.account_members ENABLE ROW LEVEL SECURITY;

CREATE POLICY account_members_select_own ON billing.account_members FOR SELECT TO authenticated USING ((account_id = ANY (ARRAY( SELECT billing.my_account_ids() AS my_account_ids))));

ALTER TABLE billing.accounts ENABLE ROW LEVEL SECURITY;

CREATE POLICY accounts_select_own ON billing.accounts FOR SELECT TO authenticated USING ((id = ANY (ARRAY( SELECT billing.my_account_ids() AS my_account_ids))));

ALTER TABLE billing.checkout_sessions ENABLE ROW LEVEL SECURITY;

ALTER TABLE billing.clock ENABLE ROW LEVEL SECURITY;

ALTER TABLE billing.credit_balances ENABLE ROW LEVEL SECURITY;

CREATE POLICY credit_balances_select_own ON billing.credit_balances FOR SELECT TO authenticated USING ((account_id = ANY (ARRAY( SELECT billing.my_account_ids() AS my_account_ids))));

ALTER TABLE billing.credit_consumptions ENABLE ROW LEVEL SECURITY;

ALTER TABLE billing.credit_entries ENABLE ROW LEVEL SECURITY;

CREATE POLICY credit_entries_select_own ON billing.credit_entries FOR SELECT TO authenticated USING ((account_id = ANY (ARRAY( SELECT billing.my_account_ids() AS my_account_ids))));

ALTER TABLE billing.credit_grants ENABLE ROW LEVEL SECURITY;

CREATE POLICY credit_grants_select_own ON billing.credit_grants FOR SELECT TO authenticated USING ((account_id = ANY (ARRAY( SELECT billing.my_account_ids() AS my_account_ids))));

ALTER TABLE billing.credit_hold_lots ENABLE ROW LEVEL SECURITY;

ALTER TABLE billing.credit_holds ENABLE ROW LEVEL SECURITY;

CREATE POLICY credit_holds_select_own ON billing.credit_holds FOR SELECT TO authenticated USING ((account_id = ANY (ARRAY( SELECT billing.my_account_ids() AS my_account_ids))));

ALTER TABLE billing.credit_packs ENABLE ROW LEVEL SECURITY;

CREATE POLICY credit_packs_select_users ON billing.credit_packs FOR SELECT TO authenticated USING ((active AND (livemode = ( SELECT billing.is_livemode() AS is_livemode))));

ALTER TABLE billing.credit_schedules ENABLE ROW LEVEL SECURITY;

ALTER TABLE billing.customers ENABLE ROW LEVEL SECURITY;

CREATE POLICY customers_select_own ON billing.customers FOR SELECT TO authenticated USING ((account_id = ANY (ARRAY( SELECT billing.my_account_ids() AS my_account_ids))));

ALTER TABLE billing.disputes ENABLE ROW LEVEL SECURITY;

ALTER TABLE billing.fraud_warnings ENABLE ROW LEVEL SECURITY;

ALTER TABLE billing.invoice_lines ENABLE ROW LEVEL SECURITY;

ALTER TABLE billing.invoice_payments ENABLE ROW LEVEL SECURITY;

ALTER TABLE billing.invoices ENABLE ROW LEVEL SECURITY;

CREATE POLICY invoices_select_own ON billing.invoices FOR SELECT TO authenticated USING ((account_id = ANY (ARRAY( SELECT billing.my_account_ids() AS my_account_ids))));

ALTER TABLE billing.notifications ENABLE ROW LEVEL SECURITY;

ALTER TABLE billing.payment_links ENABLE ROW LEVEL SECURITY;

ALTER TABLE billing.payments ENABLE ROW LEVEL SECURITY;

CREATE POLICY payments_select_own ON billing.payments FOR SELECT TO authenticated USING ((account_id = ANY (ARRAY( SELECT billing.my_account_ids() AS my_account_ids))));

ALTER TABLE billing.plans ENABLE ROW LEVEL SECURITY;

CREATE POLICY plans_select_everyone ON billing.plans FOR SELECT TO anon, authenticated USING ((active AND (livemode = ( SELECT billing.is_livemode() AS is_livemode))));

ALTER TABLE billing.products ENABLE ROW LEVEL SECURITY;

CREATE POLICY products_select_everyone ON billing.products FOR SELECT TO anon, authenticated USING ((active AND (livemode = ( SELECT billing.is_livemode() AS is_livemode))));

ALTER TABLE billing.refunds ENABLE ROW LEVEL SECURITY;

ALTER TABLE billing.reviews ENABLE ROW LEVEL SECURITY;

ALTER TABLE billing.settings ENABLE ROW LEVEL SECURITY;

ALTER TABLE billing.stripe_events ENABLE ROW LEVEL SECURITY;

ALTER TABLE billing.subscription_items ENABLE ROW LEVEL SECURITY;

CREATE POLICY subscription_items_select_own ON billing.subscription_items FOR SELECT TO authenticated USING ((stripe_subscription_id IN ( SELECT subscriptions.stripe_subscription_id
   FROM billing.subscriptions
  WHERE (subscriptions.account_id = ANY (ARRAY( SELECT billing.my_account_ids() AS my_account_ids))))));

ALTER TABLE billing.subscriptions ENABLE ROW LEVEL SECURITY;

CREATE POLICY subscriptions_select_own ON billing.subscriptions FOR SELECT TO authenticated USING ((account_id = ANY (ARRAY( SELECT billing.my_account_ids() AS my_account_ids))));

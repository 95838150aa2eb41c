CREATE SCHEMA billing;

COMMENT ON SCHEMA billing IS 'Stripe billing and the credit ledger. Not exposed to the Data API: clients use the views in public.';

CREATE DOMAIN billing.credit_change AS bigint
	CONSTRAINT credits_change_by_something CHECK ((VALUE <> 0));

CREATE TYPE billing.credit_move AS (
	key text,
	account_id uuid,
	stripe_subscription_id text,
	stripe_subscription_item_id text,
	stripe_invoice_id text,
	stripe_price_id text,
	source text,
	moment timestamp with time zone,
	slot_start timestamp with time zone,
	credits bigint,
	returned bigint,
	expires_at timestamp with time zone,
	rollover text,
	rollover_cap bigint,
	is_waiting boolean
);

CREATE DOMAIN billing.credits AS bigint
	CONSTRAINT credits_are_not_negative CHECK ((VALUE >= 0));

CREATE TYPE billing.declared_pack AS (
	pack_credits bigint,
	credits_per_unit numeric,
	expires_after interval
);

CREATE DOMAIN billing.entry_kind AS text
	CONSTRAINT entry_kind_is_known CHECK ((VALUE = ANY (ARRAY['grant'::text, 'spend'::text, 'capture'::text, 'expiry'::text, 'revocation'::text, 'reinstatement'::text, 'refund'::text, 'adjustment'::text, 'transfer_in'::text, 'transfer_out'::text, 'repayment'::text])));

CREATE DOMAIN billing.idempotency_key AS text
	CONSTRAINT idempotency_key_has_1_to_255_characters CHECK (((length(VALUE) >= 1) AND (length(VALUE) <= 255)));

CREATE DOMAIN billing.job_kind AS text
	CONSTRAINT job_kind_is_known CHECK ((VALUE = ANY (ARRAY['payment_link'::text, 'email_change'::text, 'fraud_action'::text, 'recharge'::text, 'administrators_notification'::text, 'customer_notification'::text])));

CREATE DOMAIN billing.key_space AS text
	CONSTRAINT key_space_is_known CHECK ((VALUE = ANY (ARRAY['caller'::text, 'stripe'::text, 'system'::text])));

CREATE TYPE billing.line_slot AS (
	stripe_line_id text,
	account_id uuid,
	stripe_subscription_id text,
	stripe_subscription_item_id text,
	stripe_invoice_id text,
	stripe_price_id text,
	gives_back boolean,
	is_free boolean,
	is_plain boolean,
	has_returns boolean,
	is_reached boolean,
	is_waiting boolean,
	period_start timestamp with time zone,
	slot_start timestamp with time zone,
	slot_end timestamp with time zone,
	moment timestamp with time zone,
	whole_credits numeric,
	line_seconds numeric,
	slot_seconds numeric,
	expires_at timestamp with time zone,
	rollover text,
	rollover_cap bigint,
	proration_credits text,
	downgrade_credits text
);

CREATE DOMAIN billing.metadata AS jsonb
	CONSTRAINT metadata_is_an_object CHECK ((jsonb_typeof(VALUE) = 'object'::text));

CREATE DOMAIN billing.notification_kind AS text
	CONSTRAINT notification_kind_is_known CHECK ((VALUE = ANY (ARRAY['account_frozen'::text, 'card_expiring'::text, 'credits_expiring'::text, 'credits_held'::text, 'credits_not_granted'::text, 'dispute_closed'::text, 'dispute_opened'::text, 'entitlement_discrepancy'::text, 'event_dead'::text, 'event_waiting'::text, 'events_missing'::text, 'fraud_action_failed'::text, 'fraud_warning'::text, 'ledger_discrepancy'::text, 'low_balance'::text, 'notifications_undeliverable'::text, 'payment_failed'::text, 'plan_without_credits'::text, 'receipt'::text, 'recharge_capped'::text, 'recharge_failed'::text, 'recharge_paused'::text, 'recharge_requires_action'::text, 'refund_applied'::text, 'review_opened'::text, 'silence'::text, 'stripe_key'::text, 'test'::text, 'user_deleted_while_subscribed'::text, 'worker_back'::text, 'worker_missing'::text])));

CREATE DOMAIN billing.positive_credits AS bigint
	CONSTRAINT credits_are_positive CHECK ((VALUE > 0));

CREATE TYPE billing.returned_money AS (
	returned_at timestamp with time zone,
	amount numeric,
	stripe_line_id text,
	is_contested boolean
);

CREATE FUNCTION billing._account_of_customer(stripe_customer_id text, livemode boolean) RETURNS uuid
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
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
        -- This lock, held until the caller commits, prevents a link between this answer and its use.
        select customers.account_id into v_account_id from billing.customers
        where customers.stripe_customer_id = _account_of_customer.stripe_customer_id
        for share;
    end if;
    return v_account_id;
end
$$;

CREATE FUNCTION billing._account_to_bill(user_id uuid, account_id uuid) RETURNS uuid
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    if not billing._is_active_user(_account_to_bill.user_id) then
        raise exception 'this user no longer exists'
            using errcode = 'TB040', hint = 'Sign in again.';
    elsif _account_to_bill.account_id is null then
        return billing.ensure_account(_account_to_bill.user_id);
    elsif not exists (
        select from billing.accounts
        where accounts.id = _account_to_bill.account_id and accounts.owner_id = _account_to_bill.user_id
    ) and not exists (
        select from billing.account_members
        where account_members.account_id = _account_to_bill.account_id
            and account_members.user_id = _account_to_bill.user_id and account_members.role in ('owner', 'admin')
    ) then
        raise exception 'this user cannot buy for that account'
            using errcode = 'TB041', hint = 'Only owners and admins of an account can. Leave account_id out to buy for the user''s own account.';
    end if;
    return _account_to_bill.account_id;
end
$$;

CREATE FUNCTION billing._accounts_of_money(stripe_payment_intent_id text, stripe_charge_id text, stripe_invoice_ids text[]) RETURNS uuid[]
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select coalesce(array_agg(distinct concerned.account_id order by concerned.account_id), '{}') from (
        select payments.account_id from billing.payments
        where payments.stripe_payment_intent_id = _accounts_of_money.stripe_payment_intent_id
            or payments.stripe_charge_id = _accounts_of_money.stripe_charge_id
        union all
        select invoices.account_id from billing.invoices
        where invoices.stripe_invoice_id = any (_accounts_of_money.stripe_invoice_ids)
        union all
        select checkout_sessions.account_id from billing.checkout_sessions
        where checkout_sessions.stripe_payment_intent_id = _accounts_of_money.stripe_payment_intent_id
        union all
        select credit_grants.account_id from billing.credit_grants
        where credit_grants.stripe_payment_intent_id = _accounts_of_money.stripe_payment_intent_id
    ) as concerned
    where concerned.account_id is not null
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

COMMENT ON TABLE billing.fraud_warnings IS 'Early fraud warnings, with the risk level of their charge.';

CREATE FUNCTION billing._act_on_warning(warning billing.fraud_warnings) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_warning billing.fraud_warnings := _act_on_warning.warning;
    v_verdict record;
    v_action billing.fraud_actions;
begin
    if (select settings.fraud_dry_run from billing.settings) then
        return;
    elsif v_warning.account_id is not null then
        perform billing._lock_balance(v_warning.account_id);
    end if;
    for v_verdict in select * from billing.judge_fraud_warning(v_warning.stripe_early_fraud_warning_id) loop
        insert into billing.fraud_actions as held (
            stripe_early_fraud_warning_id, account_id, action, status, reason, actor, stripe_charge_id,
            stripe_subscription_id, amount, currency, decided_at, settled_at
        )
        select
            v_warning.stripe_early_fraud_warning_id, v_warning.account_id, v_verdict.action, became.status,
            v_verdict.reason, 'policy', v_warning.stripe_charge_id, v_verdict.stripe_subscription_id, v_verdict.amount,
            v_verdict.currency, billing.current_time(),
            case when became.status = 'done' then billing.current_time() end
        from (
            select case
                when not v_verdict.is_due then 'skipped'
                when v_verdict.action in ('alert', 'freeze_account') then 'done'
                else 'queued'
            end as status
        ) as became
        -- An account that is linked later can be frozen then.
        on conflict (stripe_early_fraud_warning_id, action, coalesce(stripe_subscription_id, '')) where actor = 'policy'
        do update
        set account_id = excluded.account_id, status = excluded.status, reason = excluded.reason,
            decided_at = excluded.decided_at, settled_at = excluded.settled_at, updated_at = now()
        where held.status = 'skipped' and excluded.status <> 'skipped'
        returning * into v_action;
        if not found or v_action.status <> 'done' then
            continue;
        elsif v_action.action = 'alert' then
            perform billing._alert_of_warning(v_warning);
        elsif v_action.action = 'freeze_account' then
            perform billing._freeze_account(
                v_warning.account_id, 'early fraud warning ' || v_warning.stripe_early_fraud_warning_id
            );
        end if;
    end loop;
end
$$;

CREATE FUNCTION billing._adopt_customer(stripe_customer_id text, account_id uuid) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    update billing.customers
    set account_id = _adopt_customer.account_id, linked_at = coalesce(customers.linked_at, now()),
        dismissed_at = null, dismissed_reason = null, dismissed_by = null, updated_at = now()
    where customers.stripe_customer_id = _adopt_customer.stripe_customer_id;

    update billing.subscriptions set account_id = _adopt_customer.account_id
    where subscriptions.stripe_customer_id = _adopt_customer.stripe_customer_id;
    update billing.invoices set account_id = _adopt_customer.account_id
    where invoices.stripe_customer_id = _adopt_customer.stripe_customer_id;
    update billing.checkout_sessions set account_id = _adopt_customer.account_id
    where checkout_sessions.stripe_customer_id = _adopt_customer.stripe_customer_id;
    update billing.payments set account_id = _adopt_customer.account_id
    where payments.stripe_customer_id = _adopt_customer.stripe_customer_id;
    update billing.fraud_warnings set account_id = _adopt_customer.account_id
    where fraud_warnings.stripe_customer_id = _adopt_customer.stripe_customer_id;

    perform billing._act_on_warning(fraud_warnings) from billing.fraud_warnings
    where fraud_warnings.stripe_customer_id = _adopt_customer.stripe_customer_id and fraud_warnings.status = 'open';
    perform billing._record_cards_of_customer(_adopt_customer.stripe_customer_id, _adopt_customer.account_id);
    perform billing._allocate_subscriptions_of(_adopt_customer.stripe_customer_id);
    perform billing._retry_events_waiting_for(_adopt_customer.stripe_customer_id);
end
$$;

CREATE FUNCTION billing._alert_of_warning(warning billing.fraud_warnings) RETURNS void
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    insert into billing.notifications (account_id, audience, kind, dedupe_key, payload)
    select
        (_alert_of_warning.warning).account_id, 'administrators', 'fraud_warning',
        'fraud_warning:' || (_alert_of_warning.warning).stripe_early_fraud_warning_id,
        jsonb_build_object(
            'stripe_early_fraud_warning_id', (_alert_of_warning.warning).stripe_early_fraud_warning_id,
            'stripe_charge_id', (_alert_of_warning.warning).stripe_charge_id,
            'fraud_type', (_alert_of_warning.warning).fraud_type,
            'risk_level', (_alert_of_warning.warning).risk_level, 'amount', max(payments.amount),
            'currency', max(payments.currency)
        )
    from billing.payments where payments.stripe_charge_id = (_alert_of_warning.warning).stripe_charge_id
    on conflict (dedupe_key) do nothing
$$;

CREATE FUNCTION billing._allocate_slots(stripe_subscription_ids text[], from_moment timestamp with time zone, until_moment timestamp with time zone, OUT slots_granted bigint, OUT credits_granted numeric, OUT full_account_ids uuid[]) RETURNS record
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    -- A set has fixed costs of about a millisecond.
    v_one_by_one_max constant integer := 5;
    v_moves billing.credit_move[];
    v_move billing.credit_move;
    v_balance bigint;
    v_may_spend boolean;
    v_granted bigint;
begin
    select array_agg(worth order by worth.account_id, worth.moment, worth.key ^@ 'credited:', worth.key) into v_moves
    from billing._worth(
        _allocate_slots.stripe_subscription_ids, _allocate_slots.from_moment, _allocate_slots.until_moment
    ) as worth;
    slots_granted := 0;
    credits_granted := 0;
    if cardinality(v_moves) > v_one_by_one_max then
        select simple.slots_granted, simple.credits_granted, simple.others
        into slots_granted, credits_granted, v_moves
        from billing._post_simple_moves(v_moves) as simple;
    end if;

    foreach v_move in array coalesce(v_moves, '{}') loop
        continue when v_move.account_id = any (full_account_ids);
        select credit_balances.balance, credit_balances.may_spend into v_balance, v_may_spend
        from billing.credit_balances where credit_balances.account_id = v_move.account_id;
        if not v_may_spend then
            continue when exists (
                select from billing.accounts where accounts.id = v_move.account_id and accounts.closed_at is not null
            );
        end if;
        -- A move that would exceed the largest balance waits until there is room, even if its line has no other month.
        if v_move.credits > 9223372036854775807 - greatest(v_balance, 0) then
            full_account_ids := full_account_ids || v_move.account_id;
            update billing.credit_schedules set next_slot_at = credit_schedules.period_start
            where credit_schedules.stripe_subscription_id = any (_allocate_slots.stripe_subscription_ids)
                and credit_schedules.account_id = v_move.account_id
                and credit_schedules.period_start >= _allocate_slots.from_moment
                and credit_schedules.period_start < credit_schedules.ends_at
                and credit_schedules.next_slot_at is null and not credit_schedules.gives_back;
            continue;
        end if;
        v_granted := billing._post_move(v_move);
        slots_granted := slots_granted + (v_granted > 0)::integer;
        credits_granted := credits_granted + v_granted;
    end loop;

    update billing.credit_schedules as schedules
    set next_slot_at = (
        select case when later.slot_start < schedules.ends_at then later.slot_start end
        from (
            select billing._first_slot(schedules.anchor, case
                when schedules.disarmed_reason is null
                    then greatest(schedules.period_start, _allocate_slots.until_moment)
                -- Waiting months stay due; the first month of a line never waits.
                else schedules.period_start
            end + interval '1 microsecond') as slot_start
            offset 0  -- or it would be worked out twice
        ) as later
    )
    where schedules.stripe_subscription_id = any (_allocate_slots.stripe_subscription_ids)
        and (
            schedules.next_slot_at <= _allocate_slots.until_moment and schedules.disarmed_reason is null
            or schedules.next_slot_at = schedules.period_start
        )
        -- Months that start before from_moment were not read.
        and schedules.next_slot_at >= _allocate_slots.from_moment
        and schedules.account_id <> all (coalesce(full_account_ids, '{}'));
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
    collection_method text,
    currency text NOT NULL,
    subtotal bigint NOT NULL,
    total bigint NOT NULL,
    amount_due bigint NOT NULL,
    amount_paid bigint NOT NULL,
    amount_returned bigint DEFAULT 0 NOT NULL,
    amount_contested bigint DEFAULT 0 NOT NULL,
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

COMMENT ON COLUMN billing.invoices.amount_returned IS 'The returned part of total: refunds, lost disputes, credit notes after payment.';

COMMENT ON COLUMN billing.invoices.amount_contested IS 'The part of the rest that open disputes contest.';

CREATE FUNCTION billing._allocate_subscription(stripe_subscription_id text, from_moment timestamp with time zone DEFAULT NULL::timestamp with time zone, invoice billing.invoices DEFAULT NULL::billing.invoices) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_subscription billing.subscriptions;
    v_waiting_ids text[];
    v_invoice billing.invoices;
    v_balance billing.credit_balances;
    v_is_closed boolean := false;
    v_from timestamptz := _allocate_subscription.from_moment;
    v_now timestamptz := billing.current_time();
    v_until timestamptz;
    v_posted record;
begin
    select * into v_balance from billing.credit_balances
    where credit_balances.account_id = coalesce((_allocate_subscription.invoice).account_id, (
        select subscriptions.account_id from billing.subscriptions
        where subscriptions.stripe_subscription_id = _allocate_subscription.stripe_subscription_id
    ), (
        -- Its invoice may have arrived before it.
        select credit_schedules.account_id from billing.credit_schedules
        where credit_schedules.stripe_subscription_id = _allocate_subscription.stripe_subscription_id
        limit 1
    ))
    for update;
    if not v_balance.may_spend then
        v_is_closed := exists (
            select from billing.accounts where accounts.id = v_balance.account_id and accounts.closed_at is not null
        );
    end if;
    select * into v_subscription from billing.subscriptions
    where subscriptions.stripe_subscription_id = _allocate_subscription.stripe_subscription_id;
    if (_allocate_subscription.invoice).stripe_invoice_id is not null then
        v_from := least(v_from, billing._take_in_invoice(
            _allocate_subscription.invoice, v_subscription, v_is_closed
        ));
    end if;
    if v_balance.account_id is null then
        return;  -- not linked: the link calls it again
    elsif v_is_closed then
        -- Nothing can be granted, but what Stripe reports about its subscriptions must be recorded.
        if v_subscription.stripe_subscription_id is not null then
            perform billing._arm_schedules(v_subscription, v_now, v_is_closed);
        end if;
        return;
    end if;
    if v_subscription.stripe_subscription_id is not null then
        if v_subscription.trial_end is not null then
            perform billing._grant_trial(v_subscription);
        end if;
        -- Lines that only the subscription can explain.
        v_waiting_ids := array(
            select invoice_lines.stripe_invoice_id from billing.invoice_lines
            where invoice_lines.stripe_subscription_id = v_subscription.stripe_subscription_id
                and invoice_lines.is_waiting and invoice_lines.stripe_subscription_item_id is not null
        );
        if cardinality(v_waiting_ids) > 0 then
            for v_invoice in
                select * from billing.invoices where invoices.stripe_invoice_id = any (v_waiting_ids)
                order by invoices.invoiced_at, invoices.stripe_invoice_id
            loop
                v_from := least(v_from, billing._take_in_invoice(v_invoice, v_subscription));
            end loop;
        end if;
        v_from := least(v_from, billing._arm_schedules(v_subscription, v_now, v_is_closed, v_from));
    end if;
    v_until := billing._time_of_account(v_balance.account_id, v_now);
    select least(v_from, min(credit_schedules.next_slot_at)) into v_from from billing.credit_schedules
    where credit_schedules.stripe_subscription_id = _allocate_subscription.stripe_subscription_id
        and (
            credit_schedules.next_slot_at <= v_until and credit_schedules.disarmed_reason is null
            or credit_schedules.next_slot_at = credit_schedules.period_start
        );
    -- A batch is posted as of now: subscriptions on a test clock are not postponed.
    if v_from is not null and (
        v_until > v_now or v_subscription.stripe_test_clock_id is not null
        or not billing._postpone_allocation(_allocate_subscription.stripe_subscription_id, v_from)
    ) then
        v_posted := billing._allocate_slots(
            array[_allocate_subscription.stripe_subscription_id], v_from, v_until
        );
    end if;
    if v_until > v_now then
        perform billing._settle_due(array[v_balance.account_id], v_until);
    end if;
end
$$;

CREATE FUNCTION billing._allocate_subscriptions_of(stripe_customer_id text) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_subscription_id text;
begin
    for v_subscription_id in
        select subscriptions.stripe_subscription_id from billing.subscriptions
        where subscriptions.stripe_customer_id = _allocate_subscriptions_of.stripe_customer_id
        order by 1
    loop
        begin
            perform billing._allocate_subscription(v_subscription_id);
        exception when sqlstate 'TB010' then
            null;
        end;
    end loop;
end
$$;

CREATE FUNCTION billing._allocate_subscriptions_of_account(account_id uuid) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    perform billing._allocate_subscription(subscriptions.stripe_subscription_id) from billing.subscriptions
    where subscriptions.account_id = _allocate_subscriptions_of_account.account_id;
end
$$;

CREATE FUNCTION billing._allocate_trials(stripe_price_id text) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    perform billing._allocate_subscription(subscriptions.stripe_subscription_id)
    from billing.plans
    join billing.subscription_items as items on items.stripe_price_id = plans.stripe_price_id
    join billing.subscriptions on subscriptions.stripe_subscription_id = items.stripe_subscription_id
    where plans.stripe_price_id = _allocate_trials.stripe_price_id and plans.trial_credits > 0
        and subscriptions.status = 'trialing' and subscriptions.account_id is not null
        and not exists (
            select from billing.credit_grants
            where credit_grants.account_id = subscriptions.account_id and credit_grants.source = 'stripe.trial'
        )
    order by subscriptions.account_id;
end
$$;

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
    rollover_cap bigint,
    proration_credits text DEFAULT 'delta'::text NOT NULL,
    downgrade_credits text DEFAULT 'take_back'::text NOT NULL,
    cancel_credits text DEFAULT 'period_end'::text NOT NULL,
    trial_end_credits text DEFAULT 'trial_end'::text NOT NULL,
    trial_days integer DEFAULT 0 NOT NULL,
    seats_min bigint DEFAULT 1 NOT NULL,
    seats_max bigint,
    features jsonb DEFAULT '{}'::jsonb NOT NULL,
    metadata jsonb DEFAULT '{}'::jsonb NOT NULL,
    as_of timestamp with time zone DEFAULT '-infinity'::timestamp with time zone NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT cancel_credits_is_known CHECK ((cancel_credits = ANY (ARRAY['period_end'::text, 'stop'::text]))),
    CONSTRAINT downgrade_credits_is_known CHECK ((downgrade_credits = ANY (ARRAY['take_back'::text, 'keep'::text]))),
    CONSTRAINT features_are_an_object CHECK ((jsonb_typeof(features) = 'object'::text)),
    CONSTRAINT initial_credits_are_not_negative CHECK ((initial_credits >= 0)),
    CONSTRAINT monthly_credits_are_not_negative CHECK ((monthly_credits >= 0)),
    CONSTRAINT proration_credits_is_known CHECK ((proration_credits = ANY (ARRAY['none'::text, 'delta'::text, 'full'::text]))),
    CONSTRAINT recurring_interval_count_is_positive CHECK ((recurring_interval_count > 0)),
    CONSTRAINT recurring_interval_is_known CHECK ((recurring_interval = ANY (ARRAY['day'::text, 'week'::text, 'month'::text, 'year'::text]))),
    CONSTRAINT rollover_cap_comes_with_the_rule CHECK (((rollover = 'cap'::text) = (rollover_cap IS NOT NULL))),
    CONSTRAINT rollover_cap_is_not_negative CHECK ((rollover_cap >= 0)),
    CONSTRAINT rollover_is_known CHECK ((rollover = ANY (ARRAY['none'::text, 'all'::text, 'periods'::text, 'cap'::text]))),
    CONSTRAINT rollover_periods_are_positive CHECK ((rollover_periods > 0)),
    CONSTRAINT rollover_periods_come_with_the_rule CHECK (((rollover = 'periods'::text) = (rollover_periods IS NOT NULL))),
    CONSTRAINT seats_are_in_order CHECK (((seats_min > 0) AND (seats_max >= seats_min))),
    CONSTRAINT trial_credits_are_not_negative CHECK ((trial_credits >= 0)),
    CONSTRAINT trial_days_are_at_most_two_years CHECK (((trial_days >= 0) AND (trial_days <= 730))),
    CONSTRAINT trial_end_credits_is_known CHECK ((trial_end_credits = ANY (ARRAY['trial_end'::text, 'keep'::text]))),
    CONSTRAINT usage_type_is_known CHECK ((usage_type = ANY (ARRAY['licensed'::text, 'metered'::text])))
);

COMMENT ON TABLE billing.plans IS 'Recurring Stripe prices and the credits they are worth.';

COMMENT ON COLUMN billing.plans.unit_amount IS 'Minor units of currency for one unit; null for tiered prices.';

COMMENT ON COLUMN billing.plans.initial_credits IS 'Granted once for each account and product, with the first paid period.';

COMMENT ON COLUMN billing.plans.monthly_credits IS 'Granted for each paid month, for each seat of a licensed price.';

COMMENT ON COLUMN billing.plans.trial_credits IS 'Granted once for each account and product, when a trial starts.';

COMMENT ON COLUMN billing.plans.rollover IS 'What happens to unspent monthly credits: none (expire with their month), all (never expire), periods (expire after rollover_periods more months), cap (at most rollover_cap are carried into the next month).';

COMMENT ON COLUMN billing.plans.proration_credits IS 'The credits of a change to this plan within a paid period, for the running month: delta (the share of the time left), full (a whole month, once), none.';

COMMENT ON COLUMN billing.plans.downgrade_credits IS 'Unspent credits of time that Stripe credits back: take_back (revoked; spent credits are carried against later credits) or keep.';

COMMENT ON COLUMN billing.plans.cancel_credits IS 'Which months are granted after the customer cancels: period_end (all that are paid), stop (none).';

COMMENT ON COLUMN billing.plans.trial_end_credits IS 'Whether trial credits expire at the end of the trial (trial_end) or stay (keep).';

COMMENT ON COLUMN billing.plans.trial_days IS 'Length of the trial for new subscribers at checkout; 0: no trial.';

COMMENT ON COLUMN billing.plans.seats_min IS 'The smallest quantity at checkout, and the default.';

COMMENT ON COLUMN billing.plans.seats_max IS 'The largest quantity at checkout; null: settings.max_checkout_quantity.';

COMMENT ON COLUMN billing.plans.features IS 'What the plan unlocks: a JSON object of your own names. A feature that is false, null or 0 is not granted.';

CREATE FUNCTION billing._anchor_of_period(plan billing.plans, anchors timestamp with time zone[], period_start timestamp with time zone, period_end timestamp with time zone) RETURNS timestamp with time zone
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_start timestamptz := _anchor_of_period.period_start;
    v_end timestamptz := _anchor_of_period.period_end;
    v_months integer := billing._months(_anchor_of_period.plan);
    v_anchor timestamptz;
    v_found timestamptz;
begin
    if v_months is null then
        return v_end - make_interval(days => (_anchor_of_period.plan).recurring_interval_count
            * case (_anchor_of_period.plan).recurring_interval when 'week' then 7 else 1 end);
    end if;
    foreach v_anchor in array _anchor_of_period.anchors loop
        if billing._first_slot(v_anchor, v_end) = v_end and (
            v_found is null
            or (v_anchor <= v_start) > (v_found <= v_start)
            or (v_anchor <= v_start) = (v_found <= v_start) and v_anchor > v_found
        ) then
            v_found := v_anchor;
        end if;
    end loop;
    return coalesce(v_found, case when billing._slot(v_start, v_months) = v_end then v_start else v_end end);
end
$$;

CREATE FUNCTION billing._apply_returns_of_invoice(stripe_invoice_id text) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_invoice billing.invoices;
    v_price numeric;
    v_returned numeric;
    v_contested numeric;
begin
    perform billing._lock_money(null, null, _apply_returns_of_invoice.stripe_invoice_id);
    select * into v_invoice from billing.invoices
    where invoices.stripe_invoice_id = _apply_returns_of_invoice.stripe_invoice_id and invoices.status = 'paid'
        and (
            invoices.amount_returned + invoices.amount_contested > 0
            or exists (
                select from billing.invoice_payments
                where invoice_payments.stripe_invoice_id = _apply_returns_of_invoice.stripe_invoice_id
            )
            or exists (
                select from billing.credit_notes
                where credit_notes.stripe_invoice_id = _apply_returns_of_invoice.stripe_invoice_id
            )
        );
    if not found then
        return;  -- sync_invoice, or what pays it, comes back to it
    end if;
    select
        coalesce(sum(returns.amount) filter (where not returns.is_contested), 0),
        coalesce(sum(returns.amount) filter (where returns.is_contested), 0)
    into v_returned, v_contested
    from billing._returns_of_invoice(v_invoice.stripe_invoice_id) as returns;
    if v_returned + v_contested = 0 and v_invoice.amount_returned + v_invoice.amount_contested = 0 then
        return;
    end if;
    v_price := greatest(billing._price_of_invoice(v_invoice), 0);
    v_returned := least(v_returned, v_price);
    update billing.invoices
    set amount_returned = v_returned, amount_contested = least(v_contested, v_price - v_returned), updated_at = now()
    where invoices.stripe_invoice_id = v_invoice.stripe_invoice_id;
    perform billing._post_returned_credits(v_invoice.stripe_invoice_id);
end
$$;

CREATE FUNCTION billing._apply_returns_of_lot(grant_id bigint) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_lot billing.credit_grants;
begin
    select * into strict v_lot from billing.credit_grants where credit_grants.id = _apply_returns_of_lot.grant_id;
    if v_lot.key_space <> 'stripe' then
        return;
    elsif v_lot.stripe_invoice_id is not null then
        perform billing._apply_returns_of_invoice(v_lot.stripe_invoice_id);
    elsif v_lot.stripe_payment_intent_id is not null then
        perform billing._apply_returns_of_payment(v_lot.stripe_payment_intent_id, null);
    end if;
    perform billing._allocate_subscription(schedules.stripe_subscription_id, v_lot.effective_at) from (
        select distinct credit_schedules.stripe_subscription_id from billing.credit_schedules
        where credit_schedules.stripe_subscription_item_id = v_lot.stripe_subscription_item_id
    ) as schedules;
end
$$;

CREATE FUNCTION billing._apply_returns_of_payment(stripe_payment_intent_id text, stripe_charge_id text) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_intent_id text;
begin
    -- Every function that records a fact about the payment writes first, then takes these locks, then reads the others'
    -- rows.
    perform billing._lock_money(
        _apply_returns_of_payment.stripe_payment_intent_id, _apply_returns_of_payment.stripe_charge_id
    );
    v_intent_id := coalesce(_apply_returns_of_payment.stripe_payment_intent_id, (
        select payments.stripe_payment_intent_id from billing.payments
        where payments.stripe_charge_id = _apply_returns_of_payment.stripe_charge_id
    ));
    if v_intent_id is not null and _apply_returns_of_payment.stripe_payment_intent_id is null then
        perform billing._lock_money(v_intent_id, _apply_returns_of_payment.stripe_charge_id);
    end if;
    perform billing._apply_returns_of_invoice(paid.stripe_invoice_id)
    from unnest(billing._invoices_of_payment(v_intent_id, _apply_returns_of_payment.stripe_charge_id)) as paid (stripe_invoice_id);
    perform billing._apply_returns_of_purchases(v_intent_id) where v_intent_id is not null;
end
$$;

CREATE FUNCTION billing._apply_returns_of_purchases(stripe_payment_intent_id text) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_purchase billing.pack_purchases;
    v_frozen bigint;
begin
    for v_purchase in
        select * from billing.pack_purchases
        where pack_purchases.stripe_payment_intent_id = _apply_returns_of_purchases.stripe_payment_intent_id
            and pack_purchases.stripe_line_id is null
        order by pack_purchases.business_key
    loop
        continue when exists (
            select from billing.accounts where accounts.id = v_purchase.account_id and accounts.closed_at is not null
        );
        v_frozen := billing._returned_of_purchase(v_purchase, true) - billing._returned_of_purchase(v_purchase);
        perform billing._thaw_lots(billing._lots_of_purchase(v_purchase), v_frozen);
        perform billing._post_purchase(v_purchase.business_key);
        perform billing._freeze_lots(billing._lots_of_purchase(v_purchase), v_frozen);
        perform billing._repay_debt(v_purchase.account_id);
    end loop;
end
$$;

CREATE FUNCTION billing._appoint_owner(account_id uuid) RETURNS void
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    update billing.accounts
    set owner_id = (
            select account_members.user_id from billing.account_members
            where account_members.account_id = accounts.id and account_members.role = 'owner'
            order by account_members.created_at, account_members.user_id
            limit 1
        ),
        updated_at = now()
    where accounts.id = _appoint_owner.account_id and accounts.kind = 'team'
        and not exists (
            select from billing.account_members
            where account_members.account_id = accounts.id and account_members.user_id = accounts.owner_id
                and account_members.role = 'owner'
        )
$$;

CREATE FUNCTION billing._are_link_options(options jsonb) RETURNS boolean
    LANGUAGE sql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select case when jsonb_typeof(_are_link_options.options) <> 'object' then false else not exists (
        select from jsonb_object_keys(_are_link_options.options) as name
        where name not in (
            'after_completion', 'allow_promotion_codes', 'automatic_tax', 'billing_address_collection',
            'consent_collection', 'custom_fields', 'custom_text', 'inactive_message', 'phone_number_collection',
            'submit_type', 'tax_id_collection'
        )
    ) end
$$;

CREATE FUNCTION billing._are_origins(urls text[]) RETURNS boolean
    LANGUAGE sql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select coalesce(bool_and(billing._origin_of(url) is not distinct from url), true)
    from unnest(_are_origins.urls) as url
$$;

CREATE FUNCTION billing._arm_recharge(account_id uuid) RETURNS void
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    update billing.credit_balances
    set recharge_below = (
        select recharge_settings.threshold from billing.recharge_settings
        where recharge_settings.account_id = _arm_recharge.account_id and not recharge_settings.is_paused
            and not exists (
                select from billing.recharges
                where recharges.account_id = _arm_recharge.account_id
                    and recharges.status in ('claimed', 'charging', 'requires_action')
            )
    )
    where credit_balances.account_id = _arm_recharge.account_id
$$;

CREATE TABLE billing.subscriptions (
    stripe_subscription_id text NOT NULL,
    stripe_customer_id text NOT NULL,
    account_id uuid,
    livemode boolean NOT NULL,
    status text NOT NULL,
    currency text,
    billing_cycle_anchor timestamp with time zone NOT NULL,
    anchors timestamp with time zone[] DEFAULT '{}'::timestamp with time zone[] NOT NULL,
    cancel_at timestamp with time zone,
    cancel_at_period_end boolean DEFAULT false NOT NULL,
    canceled_at timestamp with time zone,
    ended_at timestamp with time zone,
    trial_start timestamp with time zone,
    trial_end timestamp with time zone,
    is_collection_paused boolean DEFAULT false NOT NULL,
    metadata jsonb DEFAULT '{}'::jsonb NOT NULL,
    started_at timestamp with time zone NOT NULL,
    stripe_test_clock_id text,
    as_of timestamp with time zone NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT status_is_known CHECK ((status = ANY (ARRAY['incomplete'::text, 'incomplete_expired'::text, 'trialing'::text, 'active'::text, 'past_due'::text, 'canceled'::text, 'unpaid'::text, 'paused'::text])))
);

COMMENT ON TABLE billing.subscriptions IS 'Stripe subscriptions.';

COMMENT ON COLUMN billing.subscriptions.account_id IS 'Null while the customer is not linked to an account.';

COMMENT ON COLUMN billing.subscriptions.anchors IS 'Every billing_cycle_anchor that Stripe reported, late events included: earlier paid periods keep their own anchor.';

COMMENT ON COLUMN billing.subscriptions.is_collection_paused IS 'True while Stripe creates invoices without collecting them (pause_collection); independent of status.';

COMMENT ON COLUMN billing.subscriptions.as_of IS 'Time of the stored state: the event''s created, or the Date of Stripe''s answer.';

CREATE FUNCTION billing._arm_schedules(subscription billing.subscriptions, moment timestamp with time zone, is_closed boolean, from_moment timestamp with time zone DEFAULT NULL::timestamp with time zone) RETURNS timestamp with time zone
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_subscription billing.subscriptions := _arm_schedules.subscription;
    v_waiting text := billing._waiting_reason(v_subscription, _arm_schedules.is_closed);
    v_changes_from timestamptz := least(
        _arm_schedules.moment, v_subscription.ended_at, v_subscription.canceled_at, _arm_schedules.from_moment
    );
    v_schedule billing.credit_schedules;
    v_terms billing.credit_terms;
    v_ends_at timestamptz;
    v_disarmed_reason text;
    v_from timestamptz;
begin
    -- Row by row: only one or two rows of a subscription can change, and a set would be joined with all schedules.
    for v_schedule in
        select * from billing.credit_schedules
        where credit_schedules.stripe_subscription_id = v_subscription.stripe_subscription_id
            and credit_schedules.period_end > v_changes_from
        union all
        select * from billing.credit_schedules
        where credit_schedules.stripe_subscription_id = v_subscription.stripe_subscription_id
            and credit_schedules.next_slot_at is not null and credit_schedules.period_end <= v_changes_from
    loop
        v_ends_at := least(v_schedule.period_end, v_subscription.ended_at);
        if v_subscription.canceled_at < v_ends_at then
            v_terms := billing._terms_at(v_schedule.stripe_price_id, v_subscription.canceled_at);
            if v_terms.cancel_credits = 'stop' then
                v_ends_at := v_subscription.canceled_at;
            end if;
        end if;
        if v_schedule.is_free and not v_schedule.gives_back and not v_schedule.is_plain then
            select least(v_ends_at, min(greatest(credits.period_start, credits.paid_at))) into v_ends_at
            from billing.credit_schedules as credits
            join billing.invoice_lines on invoice_lines.stripe_line_id = credits.stripe_line_id
            where credits.stripe_subscription_id = v_subscription.stripe_subscription_id
                and (
                    credits.credited_line_id = v_schedule.stripe_line_id
                    or v_schedule.stripe_line_id = any (invoice_lines.credited_line_ids)
                );
        end if;
        v_disarmed_reason := v_waiting;
        if v_waiting is null and v_schedule.has_returns then
            select 'disputed' into v_disarmed_reason from billing.invoices
            where invoices.stripe_invoice_id = v_schedule.stripe_invoice_id and invoices.amount_contested > 0;
        end if;
        if v_ends_at = v_schedule.ends_at and v_disarmed_reason is not distinct from v_schedule.disarmed_reason then
            continue;
        end if;

        update billing.credit_schedules
        set ends_at = v_ends_at,
            disarmed_reason = v_disarmed_reason,
            next_slot_at = case
                when v_schedule.gives_back then null
                -- The first month to recalculate; _allocate_slots moves it forward.
                when v_ends_at <> v_schedule.ends_at then least(
                    v_schedule.next_slot_at, greatest(v_schedule.period_start, least(v_ends_at, v_schedule.ends_at))
                )
                else v_schedule.next_slot_at
            end
        where credit_schedules.stripe_line_id = v_schedule.stripe_line_id;
        if v_ends_at <> v_schedule.ends_at then
            v_from := least(v_from, greatest(v_schedule.period_start, least(v_ends_at, v_schedule.ends_at)));
        end if;
    end loop;
    return v_from;
end
$$;

CREATE TABLE billing.credit_revocations (
    id bigint NOT NULL,
    account_id uuid NOT NULL,
    grant_id bigint NOT NULL,
    entry_id bigint,
    requested bigint NOT NULL,
    taken bigint NOT NULL,
    shortfall bigint NOT NULL,
    shortfall_policy text NOT NULL,
    reinstated bigint DEFAULT 0 NOT NULL,
    voided bigint DEFAULT 0 NOT NULL,
    reason text NOT NULL,
    actor text,
    key_space billing.key_space NOT NULL,
    idempotency_key billing.idempotency_key NOT NULL,
    business_key text,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT reinstated_is_within_what_was_collected CHECK (((reinstated >= 0) AND (reinstated <= (taken +
CASE shortfall_policy
    WHEN 'clamp_and_record'::text THEN (0)::bigint
    ELSE shortfall
END)))),
    CONSTRAINT requested_is_positive CHECK ((requested > 0)),
    CONSTRAINT shortfall_policy_is_known CHECK ((shortfall_policy = ANY (ARRAY['clamp_and_record'::text, 'allow_negative'::text, 'block_future_grants'::text]))),
    CONSTRAINT taken_and_shortfall_are_within_the_request CHECK (((taken >= 0) AND (shortfall >= 0) AND ((taken + shortfall) <= requested))),
    CONSTRAINT voided_is_within_what_was_not_taken CHECK (((voided >= 0) AND (voided <= (requested - taken))))
);

COMMENT ON TABLE billing.credit_revocations IS 'Revocations of lots. requested = taken + shortfall (spent or held) + expired unspent.';

COMMENT ON COLUMN billing.credit_revocations.entry_id IS 'The entry of the revocation; null if nothing was left to take.';

COMMENT ON COLUMN billing.credit_revocations.voided IS 'Part of requested for which nothing had been taken, and which is no longer requested.';

COMMENT ON COLUMN billing.credit_revocations.business_key IS 'The business key that is worth less than was granted; null for a revocation by a person.';

CREATE FUNCTION billing._asked_back(revocation billing.credit_revocations) RETURNS bigint
    LANGUAGE sql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select (_asked_back.revocation).requested - (_asked_back.revocation).reinstated - (_asked_back.revocation).voided
$$;

CREATE FUNCTION billing._attribute_payment(stripe_checkout_session_id text, stripe_payment_link_id text, stripe_customer_id text, client_reference_id text, livemode boolean, opened_at timestamp with time zone) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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

CREATE TABLE billing.checkout_requests (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    account_id uuid NOT NULL,
    user_id uuid,
    livemode boolean NOT NULL,
    stripe_price_id text NOT NULL,
    quantity bigint,
    params jsonb NOT NULL,
    idempotency_key text NOT NULL,
    stripe_checkout_session_id text,
    discarded_at timestamp with time zone,
    superseded_at timestamp with time zone,
    expired_at timestamp with time zone,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT params_are_an_object CHECK ((jsonb_typeof(params) = 'object'::text)),
    CONSTRAINT quantity_is_positive CHECK ((quantity > 0))
);

COMMENT ON TABLE billing.checkout_requests IS 'Checkout requests of users, and the session that Stripe opened for each.';

COMMENT ON COLUMN billing.checkout_requests.params IS 'The parameters for Stripe, without the customer.';

COMMENT ON COLUMN billing.checkout_requests.discarded_at IS 'Since when the idempotency key is no longer used; the next click is a new request.';

COMMENT ON COLUMN billing.checkout_requests.superseded_at IS 'Since when a request for another plan, which excludes this one, has replaced it.';

COMMENT ON COLUMN billing.checkout_requests.expired_at IS 'When we closed the session, because another one replaced it.';

CREATE FUNCTION billing._begin_checkout(request billing.checkout_requests, customer jsonb, sessions text[]) RETURNS jsonb
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    if _begin_checkout.customer ? 'id' then
        return billing._checkout_step(
            _begin_checkout.request, _begin_checkout.customer ->> 'id', _begin_checkout.sessions
        );
    end if;
    return billing._stripe_step(
        (_begin_checkout.request).livemode, _begin_checkout.customer -> 'calls',
        jsonb_build_object(
            'asked', 'customer', 'key', (_begin_checkout.request).idempotency_key,
            'token', _begin_checkout.customer -> 'token', 'expire', to_jsonb(_begin_checkout.sessions)
        )
    );
end
$$;

CREATE TABLE billing.credit_consumptions (
    entry_id bigint NOT NULL,
    grant_id bigint NOT NULL,
    amount billing.credit_change NOT NULL
);

COMMENT ON TABLE billing.credit_consumptions IS 'Which entry took how many credits from which lot; negative: returned.';

CREATE TABLE billing.credit_entries (
    id bigint NOT NULL,
    account_id uuid NOT NULL,
    kind billing.entry_kind NOT NULL,
    amount bigint NOT NULL,
    balance_after bigint NOT NULL,
    debt bigint DEFAULT 0 NOT NULL,
    up_to billing.positive_credits,
    source text NOT NULL,
    reference_id text,
    description text,
    feature text,
    metadata billing.metadata DEFAULT '{}'::jsonb NOT NULL,
    actor text,
    reverses_entry_id bigint,
    hold_id uuid,
    key_space billing.key_space NOT NULL,
    idempotency_key billing.idempotency_key NOT NULL,
    occurred_at timestamp with time zone NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL
);
ALTER TABLE ONLY billing.credit_entries ALTER COLUMN account_id SET (n_distinct=-0.01);

COMMENT ON TABLE billing.credit_entries IS 'Every movement of credits, once; never changed or deleted.';

COMMENT ON COLUMN billing.credit_entries.balance_after IS 'The account''s balance after this entry; ids of one account are in order of commit.';

COMMENT ON COLUMN billing.credit_entries.debt IS 'By how much it increased the account''s debt; negative: repaid.';

COMMENT ON COLUMN billing.credit_entries.up_to IS 'The requested amount of a spend with up_to; else null.';

COMMENT ON COLUMN billing.credit_entries.occurred_at IS 'When it happened, in billing time; created_at is when it was written.';

CREATE FUNCTION billing._burn_lots(entries billing.credit_entries[], takes billing.credit_consumptions[], amount numeric) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    AS $$
declare
    v_account_id uuid := (_burn_lots.entries[1]).account_id;
    v_lots cursor for
    select credit_grants.id, credit_grants.ctid as place, credit_grants.remaining - credit_grants.held as free
    from billing.credit_grants
    where credit_grants.account_id = v_account_id and credit_grants.closed_at is null
        and credit_grants.remaining > credit_grants.held
    order by credit_grants.priority, credit_grants.expires_at, credit_grants.id, credit_grants.epoch desc;
    v_lot record;
    v_left numeric := _burn_lots.amount;
    v_entry billing.credit_entries;
    v_number integer := 0;
    v_cost bigint := 0;
    v_taken bigint;
    v_part bigint;
    v_burnt billing.credit_consumptions[] := '{}';
begin
    open v_lots;
    while v_left > 0 loop
        fetch v_lots into v_lot;
        if not found then
            raise exception 'the open lots of account % hold % credits less than its balance', v_account_id, v_left
                using errcode = 'TB016', hint = 'Check billing.ledger_discrepancies before the account spends again.';
        end if;
        v_taken := 0;
        while v_left > 0 and v_taken < v_lot.free loop
            if v_cost <= 0 then
                v_number := v_number + 1;
                v_entry := _burn_lots.entries[v_number];
                v_cost := -(v_entry.amount + v_entry.debt);
                if cardinality(_burn_lots.takes) > 0 then
                    v_cost := v_cost - coalesce((
                        select sum(take.amount) from unnest(_burn_lots.takes) as take where take.entry_id = v_entry.id
                    ), 0);
                end if;
                continue when v_cost <= 0;
            end if;
            v_part := least(v_cost, v_lot.free - v_taken);
            v_burnt := v_burnt || row(v_entry.id, v_lot.id, v_part)::billing.credit_consumptions;
            v_cost := v_cost - v_part;
            v_taken := v_taken + v_part;
            v_left := v_left - v_part;
        end loop;
        update billing.credit_grants
        set remaining = credit_grants.remaining - v_taken,
            lapsed = credit_grants.lapsed + case when billing._lets_lapse(v_entry) then v_taken else 0 end,
            closed_at = case when credit_grants.remaining = v_taken then v_entry.occurred_at end,
            epoch = credit_grants.epoch + (random() < 0.02)::integer
        where credit_grants.ctid = v_lot.place;
    end loop;
    close v_lots;
    insert into billing.credit_consumptions (entry_id, grant_id, amount)
    select burnt.entry_id, burnt.grant_id, burnt.amount from unnest(v_burnt) as burnt;
end
$$;

CREATE FUNCTION billing._carry(account_id uuid, business_key text, amount bigint) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_amount bigint := _carry.amount + coalesce((
        select carried_credits.amount from billing.carried_credits
        where carried_credits.business_key = _carry.business_key
    ), 0);
begin
    delete from billing.carried_credits where carried_credits.business_key = _carry.business_key;
    if v_amount <> 0 then
        insert into billing.carried_credits (business_key, account_id, amount)
        values (_carry.business_key, _carry.account_id, v_amount);
    end if;
    update billing.credit_balances set carried = credit_balances.carried - _carry.amount, updated_at = now()
    where credit_balances.account_id = _carry.account_id;
end
$$;

CREATE FUNCTION billing._charged_at(stripe_payment_intent_id text) RETURNS timestamp with time zone
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select min(payments.charged_at) from billing.payments
    where payments.stripe_payment_intent_id = _charged_at.stripe_payment_intent_id and payments.status = 'succeeded'
$$;

CREATE FUNCTION billing._check_buyer(stripe_id text, stripe_customer_id text, account_id uuid) RETURNS void
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    if _check_buyer.account_id is null and _check_buyer.stripe_customer_id is null then
        raise exception 'a guest without a Stripe customer paid for %', _check_buyer.stripe_id
            using errcode = 'TB055',
            hint = 'Grant the paid credits with `till credits grant`, and create Checkout Sessions for packs with customer_creation=always.';
    elsif _check_buyer.account_id is null then
        raise exception 'customer % of % is not linked to an account', _check_buyer.stripe_customer_id, _check_buyer.stripe_id
            using errcode = 'TB011', detail = _check_buyer.stripe_customer_id,
            hint = 'Call billing.link_customer(account_id, stripe_customer_id). The event is then retried automatically.';
    end if;
end
$$;

CREATE FUNCTION billing._check_customer_id(stripe_customer_id text) RETURNS void
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
begin
    if _check_customer_id.stripe_customer_id is null or _check_customer_id.stripe_customer_id !~ '^cus_[A-Za-z0-9_]+$' then
        raise exception '"%" is not the id of a Stripe customer', coalesce(_check_customer_id.stripe_customer_id, 'null')
            using errcode = 'TB018', hint = 'Pass an id such as cus_NffrFeUfNV2Hib.';
    end if;
end
$_$;

CREATE FUNCTION billing._check_erasable(account_id uuid, stripe_customer_id text) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_customers text[] := billing._customers_of_person(_check_erasable.account_id, _check_erasable.stripe_customer_id);
    v_found record;
begin
    select subscriptions.stripe_subscription_id, subscriptions.status into v_found from billing.subscriptions
    where (
            subscriptions.account_id = _check_erasable.account_id
            or subscriptions.stripe_customer_id = any (v_customers)
        )
        and subscriptions.status not in ('canceled', 'incomplete_expired')
    order by subscriptions.started_at, subscriptions.stripe_subscription_id
    limit 1;
    if found then
        raise exception 'subscription % is %', v_found.stripe_subscription_id, v_found.status
            using errcode = 'TB080', detail = v_found.stripe_subscription_id,
            hint = 'Cancel it in Stripe at once, not at the end of its period, and wait for its event: `till subscriptions show` with its id shows its status.';
    end if;
    select disputes.stripe_dispute_id, disputes.status into v_found
    from billing.disputes join billing.payments on payments.stripe_charge_id = disputes.stripe_charge_id
    where (payments.account_id = _check_erasable.account_id or payments.stripe_customer_id = any (v_customers))
        and disputes.is_open
    order by disputes.disputed_at, disputes.stripe_dispute_id
    limit 1;
    if found then
        raise exception 'dispute % is open (%)', v_found.stripe_dispute_id, v_found.status
            using errcode = 'TB080', detail = v_found.stripe_dispute_id,
            hint = 'Its evidence needs this data. Wait until it is decided: `till fraud list disputes`.';
    end if;
    select recharges.id, recharges.status into v_found from billing.recharges
    where recharges.account_id = _check_erasable.account_id and recharges.status in ('claimed', 'charging')
    limit 1;
    if found then
        raise exception 'recharge % is being paid', v_found.id
            using errcode = 'TB080', hint = 'Run it again in a minute: `till recharge attempts` shows when the payment has ended.';
    end if;
    select teams.id into v_found from billing.accounts
    join billing.accounts as teams on teams.owner_id = accounts.owner_id and teams.kind = 'team'
    where accounts.id = _check_erasable.account_id and accounts.kind = 'personal'
    order by teams.created_at
    limit 1;
    if found then
        raise exception 'the person owns the team account %', v_found.id
            using errcode = 'TB080', detail = v_found.id,
            hint = 'Hand it over with `till teams transfer`, or erase that account first with `till accounts erase`.';
    end if;
end
$$;

CREATE FUNCTION billing._check_expires_in(expires_in interval) RETURNS void
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    if _check_expires_in.expires_in is null or _check_expires_in.expires_in not between '1 second' and '1 year' then
        raise exception 'expires_in is %, it must be from one second to one year',
            coalesce(_check_expires_in.expires_in::text, 'null')
            using errcode = 'TB024', hint = 'Pass slightly more time than the work takes, such as interval ''15 minutes''.';
    end if;
end
$$;

CREATE FUNCTION billing._check_expiry(expires_at timestamp with time zone, opens_at timestamp with time zone) RETURNS void
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    if _check_expiry.expires_at <= _check_expiry.opens_at then
        raise exception 'expires_at % must be after %, when the credits become available', _check_expiry.expires_at, _check_expiry.opens_at
            using errcode = 'TB012', hint = 'Pass a later time, or leave it out for credits that never expire.';
    end if;
end
$$;

CREATE TABLE billing.credit_holds (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    account_id uuid NOT NULL,
    amount billing.positive_credits NOT NULL,
    captured billing.credits DEFAULT 0 NOT NULL,
    status text DEFAULT 'held'::text NOT NULL,
    description text,
    metadata billing.metadata DEFAULT '{}'::jsonb NOT NULL,
    feature text,
    idempotency_key billing.idempotency_key NOT NULL,
    release_key billing.idempotency_key,
    frozen_grant_id bigint,
    expires_in interval NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    settled_at timestamp with time zone,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT captured_is_within_the_amount CHECK (((captured)::bigint <= (amount)::bigint)),
    CONSTRAINT settled_holds_say_when CHECK (((status = 'held'::text) = (settled_at IS NULL))),
    CONSTRAINT status_is_known CHECK ((status = ANY (ARRAY['held'::text, 'captured'::text, 'released'::text, 'expired'::text])))
);

COMMENT ON TABLE billing.credit_holds IS 'Credits set aside until captured, released or expired.';

COMMENT ON COLUMN billing.credit_holds.release_key IS 'The idempotency key of its release.';

COMMENT ON COLUMN billing.credit_holds.frozen_grant_id IS 'The lot that a dispute froze; null for the app''s own holds.';

CREATE FUNCTION billing._check_held(hold billing.credit_holds) RETURNS void
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    if (_check_held.hold).status <> 'held' then
        raise exception 'hold % was % at %', (_check_held.hold).id, (_check_held.hold).status, (_check_held.hold).settled_at
            using errcode = 'TB020', hint = 'Create a new hold, or spend directly.';
    end if;
end
$$;

CREATE FUNCTION billing._check_is_unowned(stripe_customer_id text) RETURNS void
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_customer billing.customers;
begin
    select * into v_customer from billing.customers
    where customers.stripe_customer_id = _check_is_unowned.stripe_customer_id;
    if not found then
        raise exception 'there is no customer %', coalesce(_check_is_unowned.stripe_customer_id, 'null')
            using errcode = 'TB018', hint = 'List customers with `till customers list --status all`.';
    elsif v_customer.account_id is not null then
        raise exception 'customer % is linked to account %', v_customer.stripe_customer_id, v_customer.account_id
            using errcode = 'TB018', hint = 'Export or erase the account: its customers are part of it.';
    end if;
end
$$;

CREATE FUNCTION billing._check_key_is_new(account_id uuid, idempotency_key text) RETURNS void
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    if exists (
        select from billing.credit_entries
        where credit_entries.account_id = _check_key_is_new.account_id and credit_entries.key_space = 'caller'
            and credit_entries.idempotency_key = _check_key_is_new.idempotency_key
    ) then
        perform billing._raise_key_reused(_check_key_is_new.idempotency_key);
    end if;
end
$$;

CREATE FUNCTION billing._check_may_spend(account_id uuid) RETURNS void
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_account billing.accounts;
begin
    select * into strict v_account from billing.accounts where accounts.id = _check_may_spend.account_id;
    if v_account.frozen_at is not null then
        raise exception 'account % is frozen: %', v_account.id, v_account.frozen_reason
            using errcode = 'TB003', hint = 'The account can spend again after it is unfrozen.';
    elsif v_account.closed_at is not null then
        perform billing._check_open(v_account.id);
    end if;
end
$$;

CREATE FUNCTION billing._check_not_subscribed(account_id uuid, plan billing.plans) RETURNS void
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_scope text := (select settings.one_subscription_per from billing.settings);
begin
    if exists (
        select from billing.subscriptions
        join billing.subscription_items as items
            on items.stripe_subscription_id = subscriptions.stripe_subscription_id
        where subscriptions.account_id = _check_not_subscribed.account_id
            and subscriptions.livemode = (_check_not_subscribed.plan).livemode
            and subscriptions.status in ('active', 'trialing', 'past_due', 'unpaid', 'paused')
            and billing._is_within(v_scope, _check_not_subscribed.plan, items.stripe_price_id, items.stripe_product_id)
    ) or exists (
        select from billing.checkout_requests as requests
        join billing.checkout_sessions as sessions
            on sessions.stripe_checkout_session_id = requests.stripe_checkout_session_id
        left join billing.subscriptions
            on subscriptions.stripe_subscription_id = sessions.stripe_subscription_id
        where requests.account_id = _check_not_subscribed.account_id
            and requests.livemode = (_check_not_subscribed.plan).livemode
            and sessions.mode = 'subscription' and sessions.status = 'complete'
            and coalesce(subscriptions.status, 'incomplete') = 'incomplete'
            and requests.created_at > now() - interval '2 days'
            and billing._is_within(v_scope, _check_not_subscribed.plan, requests.stripe_price_id)
    ) then
        raise exception 'the account is already subscribed: use the portal to change the plan'
            using errcode = 'TB045', hint = 'billing.settings.one_subscription_per decides which plans exclude each other.';
    -- A free plan that is cancelled and taken again at once would grant its month's credits again.
    elsif (_check_not_subscribed.plan).unit_amount = 0 and exists (
        select from billing.subscriptions
        join billing.subscription_items as items
            on items.stripe_subscription_id = subscriptions.stripe_subscription_id
        where subscriptions.account_id = _check_not_subscribed.account_id
            and subscriptions.livemode = (_check_not_subscribed.plan).livemode
            and subscriptions.status = 'canceled' and items.current_period_end > billing.current_time()
            and billing._is_within(v_scope, _check_not_subscribed.plan, items.stripe_price_id, items.stripe_product_id)
    ) then
        raise exception 'a cancelled free plan can be taken again after its last period'
            using errcode = 'TB045', hint = 'Choose another plan until then.';
    end if;
end
$$;

CREATE FUNCTION billing._check_open(account_id uuid) RETURNS void
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    if exists (select from billing.accounts where accounts.id = _check_open.account_id and accounts.closed_at is not null) then
        raise exception 'account % is closed', _check_open.account_id
            using errcode = 'TB008', hint = 'Use another account, or reopen this one.';
    end if;
end
$$;

CREATE FUNCTION billing._check_owner_is_left(account_id uuid) RETURNS void
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    if not exists (
        select from billing.account_members
        where account_members.account_id = _check_owner_is_left.account_id and account_members.role = 'owner'
    ) then
        raise exception 'a team needs an owner'
            using errcode = 'TB089', hint = 'Make somebody else an owner first: set_member_role or transfer_ownership.';
    end if;
end
$$;

CREATE FUNCTION billing._check_rank(rank integer, role text) RETURNS void
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    if _check_rank.role is null or billing._rank(_check_rank.role) = 0 then
        raise exception 'there is no role %', coalesce(_check_rank.role, 'null')
            using errcode = 'TB077', hint = 'Roles are owner, admin and member.';
    elsif _check_rank.rank < greatest(billing._rank(_check_rank.role), 2) then
        raise exception 'your role in this team does not allow this'
            using errcode = 'TB078', hint = 'Admins manage admins and members; owners manage everybody.';
    end if;
end
$$;

CREATE FUNCTION billing._check_reason(reason text, actor text) RETURNS void
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    if coalesce(length(_check_reason.reason), 0) = 0 or coalesce(length(_check_reason.actor), 0) = 0 then
        raise exception 'reason or actor is missing'
            using errcode = 'TB028', hint = 'Pass both. They are stored with the entry.';
    end if;
end
$$;

CREATE FUNCTION billing._check_redirect(parameter text, url text) RETURNS void
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    if _check_redirect.url is null or length(_check_redirect.url) > 2000 or not exists (
        select from billing.settings
        where billing._origin_of(_check_redirect.url)
            = any (settings.allowed_redirect_origins || billing._origin_of(settings.site_url))
    ) then
        raise exception 'the origin of % is not allowed', _check_redirect.parameter
            using errcode = 'TB044',
            hint = 'Set billing.settings.site_url, or add the origin (https://app.example.com) to allowed_redirect_origins.';
    end if;
end
$$;

CREATE FUNCTION billing._check_seats(account_id uuid, leaving_out_email text DEFAULT NULL::text) RETURNS void
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_seats bigint;
    v_taken bigint;
begin
    if not (select settings.limit_members_to_seats from billing.settings) then
        return;
    end if;
    select greatest(1, max(items.quantity)) into v_seats
    from billing.subscriptions
    join billing.subscription_items as items
        on items.stripe_subscription_id = subscriptions.stripe_subscription_id
    where subscriptions.account_id = _check_seats.account_id and subscriptions.livemode = billing.is_livemode()
        and subscriptions.status in ('trialing', 'active', 'past_due');
    select
        (
            select count(*) from billing.account_members
            where account_members.account_id = _check_seats.account_id
        ) + (
            select count(*) from billing.team_invitations
            where team_invitations.account_id = _check_seats.account_id and team_invitations.closed_at is null
                and team_invitations.expires_at > billing.current_time()
                and team_invitations.email is distinct from _check_seats.leaving_out_email
        )
    into v_taken;
    if v_taken >= v_seats then
        raise exception 'all % seats of this team are taken', v_seats
            using errcode = 'TB088', hint = 'Buy more seats (the quantity of the subscription), or remove a member or an invitation.';
    end if;
end
$$;

CREATE FUNCTION billing._check_user(user_id uuid) RETURNS void
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    if not billing._is_active_user(_check_user.user_id) then
        raise exception 'there is no such user: %', coalesce(_check_user.user_id::text, 'null')
            using errcode = 'TB079', hint = 'Pass the id of a row in auth.users that is neither deleted nor banned.';
    end if;
end
$$;

CREATE FUNCTION billing._checked_amount(amount numeric) RETURNS bigint
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
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

CREATE FUNCTION billing._checked_key(idempotency_key text, metadata jsonb) RETURNS text
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    if _checked_key.idempotency_key is null or length(_checked_key.idempotency_key) not between 1 and 255 then
        raise exception 'idempotency_key has % characters, it needs 1 to 255',
            coalesce(length(_checked_key.idempotency_key), 0)
            using errcode = 'TB006', hint = 'Use the id of what the credits are for, such as a job or an order.';
    elsif jsonb_typeof(_checked_key.metadata) is distinct from 'object' then
        raise exception 'metadata is %, it must be an object', coalesce(jsonb_typeof(_checked_key.metadata), 'null')
            using errcode = 'TB007', hint = 'Pass a JSON object, such as {"job": "42"}.';
    end if;
    return _checked_key.idempotency_key;
end
$$;

CREATE FUNCTION billing._checked_limit(name text, amount numeric) RETURNS bigint
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    if _checked_limit.amount not between 0 and 1000000000000000 or _checked_limit.amount <> trunc(_checked_limit.amount) then
        raise exception '% is %, not a whole number of credits from 0 to 1000000000000000', _checked_limit.name, _checked_limit.amount
            using errcode = 'TB005', hint = 'Pass credits as a whole number.';
    end if;
    return _checked_limit.amount::bigint;
end
$$;

CREATE FUNCTION billing._checked_quantity(quantity numeric, is_metered boolean, seats_min bigint, seats_max bigint) RETURNS bigint
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_least bigint := case when _checked_quantity.is_metered then 1 else _checked_quantity.seats_min end;
    v_most bigint := case
        when _checked_quantity.is_metered then 1
        else coalesce(_checked_quantity.seats_max, (select settings.max_checkout_quantity from billing.settings))
    end;
    v_quantity numeric := coalesce(_checked_quantity.quantity, v_least);
begin
    if v_quantity not between v_least and v_most or v_quantity % 1 <> 0 then
        raise exception 'quantity must be a whole number from % to %', v_least, v_most
            using errcode = 'TB043',
            hint = 'The limit is the plan''s metadata seats, or else billing.settings.max_checkout_quantity.';
    end if;
    return case when not _checked_quantity.is_metered then v_quantity end;
end
$$;

CREATE FUNCTION billing._checkout_step(request billing.checkout_requests, stripe_customer_id text, sessions text[]) RETURNS jsonb
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_calls jsonb := coalesce((
        select jsonb_agg(
            billing._stripe_call('post', '/v1/checkout/sessions/' || session_id || '/expire', '{}', keep => '{status}')
            order by place
        )
        from unnest(_checkout_step.sessions) with ordinality as session (session_id, place)
    ), '[]');
begin
    if _checkout_step.stripe_customer_id is not null then
        v_calls := v_calls || billing._stripe_call(
            'post', '/v1/checkout/sessions',
            params => (_checkout_step.request).params
                || jsonb_build_object('customer', _checkout_step.stripe_customer_id),
            keep => '{id,url,expires_at}',
            idempotency_key => (_checkout_step.request).idempotency_key
        );
    elsif v_calls = '[]' then
        return billing._refused_step(
            errcode => 'TB064',
            message => 'another checkout was started at the same time and replaces this one',
            hint => 'Continue with the other one, or start again.'
        );
    end if;
    return billing._stripe_step((_checkout_step.request).livemode, v_calls, jsonb_build_object(
        'asked', 'session', 'key', (_checkout_step.request).idempotency_key,
        'customer', _checkout_step.stripe_customer_id, 'expire', to_jsonb(_checkout_step.sessions)
    ));
end
$$;

CREATE FUNCTION billing._claim_customer(account_id uuid, livemode boolean) RETURNS jsonb
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_claim billing.customer_claims;
    v_customer_id text;
    v_calls jsonb;
    v_email text := (
        select users.email from billing.accounts join auth.users on users.id = accounts.owner_id
        where accounts.id = _claim_customer.account_id
    );
begin
    insert into billing.customer_claims (account_id, livemode, email, name, idempotency_key)
    values (
        _claim_customer.account_id, _claim_customer.livemode, v_email,
        billing._name_of_account(_claim_customer.account_id),
        gen_random_uuid()::text
    )
    on conflict on constraint customer_claims_pkey do nothing;
    select * into strict v_claim from billing.customer_claims
    where customer_claims.account_id = _claim_customer.account_id and customer_claims.livemode = _claim_customer.livemode
    for update;

    v_customer_id := billing._customer_of(_claim_customer.account_id, _claim_customer.livemode);
    if v_customer_id is not null then
        return jsonb_build_object('id', v_customer_id);
    end if;

    -- A linked customer that was deleted in Stripe since, or a key that Stripe is about to forget.
    if v_claim.stripe_customer_id is not null or v_claim.keyed_at < now() - interval '23 hours' then
        update billing.customer_claims
        set token = case when v_claim.stripe_customer_id is null then v_claim.token else gen_random_uuid() end,
            email = case when v_claim.stripe_customer_id is null then v_claim.email else v_email end,
            name = billing._name_of_account(v_claim.account_id),
            may_exist = v_claim.stripe_customer_id is null,
            stripe_customer_id = null,
            idempotency_key = gen_random_uuid()::text,
            keyed_at = now(), updated_at = now()
        where customer_claims.account_id = v_claim.account_id and customer_claims.livemode = v_claim.livemode
        returning * into v_claim;
    end if;

    v_calls := jsonb_build_array(billing._stripe_call(
        'post', '/v1/customers',
        params => jsonb_strip_nulls(jsonb_build_object(
            'email', v_claim.email,
            'name', v_claim.name,
            'metadata', jsonb_build_object('account_id', v_claim.account_id, 'tillbase_claim', v_claim.token)
        )),
        keep => '{id}',
        idempotency_key => v_claim.idempotency_key
    ));
    if v_claim.may_exist then
        v_calls := billing._stripe_call(
            'get', '/v1/customers',
            params => '{"limit": 100}'::jsonb || case
                when v_claim.email is not null then jsonb_build_object('email', v_claim.email)
                else jsonb_build_object('created[gte]', extract(epoch from v_claim.created_at)::bigint - 300)
            end,
            keep => '{id}',
            find => jsonb_build_object('tillbase_claim', v_claim.token)
        ) || v_calls;
    end if;
    return jsonb_build_object('token', v_claim.token, 'calls', v_calls);
end
$$;

CREATE FUNCTION billing._claim_link(stripe_price_id text, quantity bigint, is_pack boolean, options jsonb, name text) RETURNS jsonb
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_livemode boolean := billing.is_livemode();
    v_options jsonb := billing._link_options(_claim_link.options);
    v_params jsonb := v_options || jsonb_strip_nulls(jsonb_build_object(
        'line_items', jsonb_build_array(
            jsonb_build_object('price', _claim_link.stripe_price_id, 'quantity', _claim_link.quantity)
        ),
        -- The credits need a customer to belong to; a subscription always creates one.
        'customer_creation', case when _claim_link.is_pack then 'always' end
    ));
    -- jsonb prints its keys in a fixed order, so equal options have one hash.
    v_hash bytea := sha256(convert_to(v_params::text, 'UTF8'));
    v_link billing.payment_links;
begin
    -- Repeated if the row was created or retired while this transaction waited for a lock.
    loop
        select * into v_link from billing.payment_links
        where payment_links.params_hash = v_hash and payment_links.livemode = v_livemode and payment_links.active
        for update;
        exit when found;
        perform billing._hold_price(_claim_link.stripe_price_id, _claim_link.name);
        insert into billing.payment_links (livemode, stripe_price_id, options, params, params_hash, idempotency_key)
        values (
            v_livemode, _claim_link.stripe_price_id, v_options, v_params, v_hash,
            gen_random_uuid()::text
        )
        on conflict (params_hash, livemode) where active do nothing;
    end loop;
    -- A key that Stripe is about to forget.
    if v_link.url is null and v_link.keyed_at < now() - interval '23 hours' then
        update billing.payment_links
        set idempotency_key = gen_random_uuid()::text, keyed_at = now(), may_exist = true,
            updated_at = now()
        where payment_links.id = v_link.id
        returning * into v_link;
    end if;
    return billing._link_step(v_link, _claim_link.name);
end
$$;

CREATE FUNCTION billing._claim_recharge(account_id uuid) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_now timestamptz := billing.current_time();
    v_month timestamptz := date_trunc('month', v_now, 'UTC');
    v_settings billing.recharge_settings;
    v_account billing.accounts;
    v_pack billing.credit_packs;
    v_customer_id text;
    v_obstacle text;
    v_count bigint;
    v_amount numeric;
    v_recharge_id uuid;
begin
    select * into v_settings from billing.recharge_settings
    where recharge_settings.account_id = _claim_recharge.account_id and not recharge_settings.is_paused
    for update;
    if not found then
        return;
    end if;
    select * into strict v_account from billing.accounts where accounts.id = v_settings.account_id;
    select * into v_pack from billing.credit_packs where credit_packs.stripe_price_id = v_settings.stripe_price_id;
    v_customer_id := billing._customer_of(v_settings.account_id, billing.is_livemode());

    v_obstacle := case
        when v_account.closed_at is not null then 'account_closed'
        -- The user who agreed was deleted.
        when not billing._has_user(v_account.id) then 'no_user'
        when v_customer_id is null then 'no_customer'
        when not v_pack.active or coalesce(v_pack.unit_amount, 0) <= 0 or not exists (
            select from billing.products where products.stripe_product_id = v_pack.stripe_product_id and products.active
        ) then 'no_pack'
    end;
    if v_obstacle is not null then
        perform billing._pause_recharge(v_account.id, v_obstacle);
        insert into billing.notifications (account_id, audience, kind, dedupe_key, payload)
        values (
            v_account.id, 'administrators', 'recharge_paused',
            format('recharge_paused:%s:%s', v_account.id, pg_current_xact_id()),
            jsonb_build_object('reason', v_obstacle, 'stripe_price_id', v_settings.stripe_price_id)
        )
        on conflict (dedupe_key) do nothing;
        return;
    elsif v_account.frozen_at is not null then
        update billing.recharge_settings set check_again_at = v_now + interval '1 hour', updated_at = now()
        where recharge_settings.account_id = v_account.id;
        return;
    end if;

    select count(*), coalesce(sum(recharges.amount), 0) into v_count, v_amount from billing.recharges
    where recharges.account_id = v_account.id and recharges.status <> 'failed' and recharges.claimed_at >= v_month;
    if v_count >= v_settings.monthly_cap_count or v_amount + v_pack.unit_amount > v_settings.monthly_cap_amount then
        update billing.recharge_settings
        set check_again_at = ((v_month at time zone 'UTC') + interval '1 month') at time zone 'UTC', updated_at = now()
        where recharge_settings.account_id = v_account.id;
        insert into billing.notifications (account_id, audience, kind, dedupe_key, payload)
        values (
            v_account.id, 'customer', 'recharge_capped',
            format('recharge_capped:%s:%s', v_account.id, to_char(v_month at time zone 'UTC', 'YYYY-MM')),
            jsonb_build_object('count', v_count, 'amount', v_amount, 'currency', v_pack.currency)
        )
        on conflict (dedupe_key) do nothing;
        return;
    end if;
    insert into billing.recharges (
        account_id, stripe_customer_id, stripe_price_id, credits, amount, currency, return_url, claimed_at
    )
    values (
        v_account.id, v_customer_id, v_pack.stripe_price_id, v_pack.pack_credits, v_pack.unit_amount, v_pack.currency,
        coalesce(v_settings.return_url, (select settings.site_url from billing.settings)), v_now
    )
    returning recharges.id into v_recharge_id;
    perform billing._enqueue_jobs('recharge', array[v_recharge_id::text]);
end
$$;

CREATE FUNCTION billing."current_time"() RETURNS timestamp with time zone
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    -- Not the start of the transaction, which may have waited long for a lock: a movement uses the time at which it
    -- holds the lock.
    return (select clock_timestamp() + clock.ahead_by from billing.clock);
end
$$;

COMMENT ON FUNCTION billing."current_time"() IS 'Billing time, by which credits open and expire: the real time, or later in a local stack whose clock was moved.';

CREATE FUNCTION billing._claim_returned_credits(account_id uuid, as_of timestamp with time zone DEFAULT billing."current_time"()) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_revocation billing.credit_revocations;
    v_balance billing.credit_balances;
    v_lot billing.credit_grants;
    v_claimed bigint;
begin
    for v_revocation in
        select * from billing.credit_revocations
        where credit_revocations.account_id = _claim_returned_credits.account_id and credit_revocations.shortfall > 0
            and credit_revocations.shortfall_policy <> 'allow_negative'
        order by credit_revocations.id
    loop
        select * into v_lot from billing.credit_grants where credit_grants.id = v_revocation.grant_id;
        select * into v_balance from billing.credit_balances
        where credit_balances.account_id = v_revocation.account_id;
        v_claimed := least(
            v_lot.remaining - v_lot.held, v_revocation.shortfall,
            -- Later credits have already covered it.
            case v_revocation.shortfall_policy
                when 'block_future_grants' then least(
                    v_balance.withheld,
                    v_revocation.requested - greatest(v_revocation.taken, v_revocation.reinstated)
                )
                else v_revocation.shortfall - v_revocation.voided
            end
        );
        if v_claimed > 0 then
            perform billing._claim_shortfall(v_revocation, v_lot, v_claimed);
        end if;
    end loop;

    for v_lot in
        select * from billing.credit_grants
        where credit_grants.account_id = _claim_returned_credits.account_id and credit_grants.contested > 0
            and credit_grants.remaining > credit_grants.held
            and (credit_grants.expires_at > _claim_returned_credits.as_of) is not false
        order by credit_grants.id
    loop
        v_claimed := least(v_lot.contested, v_lot.remaining - v_lot.held);
        update billing.credit_grants set contested = v_lot.contested - v_claimed where credit_grants.id = v_lot.id;
        perform billing._freeze(v_lot, v_claimed);
    end loop;
end
$$;

CREATE TABLE billing.credit_grants (
    id bigint NOT NULL,
    account_id uuid NOT NULL,
    entry_id bigint,
    amount billing.positive_credits NOT NULL,
    remaining bigint NOT NULL,
    held bigint DEFAULT 0 NOT NULL,
    contested bigint DEFAULT 0 NOT NULL,
    cut bigint DEFAULT 0 NOT NULL,
    lapsed bigint DEFAULT 0 NOT NULL,
    priority integer DEFAULT 100 NOT NULL,
    effective_at timestamp with time zone NOT NULL,
    expires_at timestamp with time zone,
    closed_at timestamp with time zone,
    source text NOT NULL,
    reference_id text,
    description text,
    key_space billing.key_space NOT NULL,
    idempotency_key billing.idempotency_key NOT NULL,
    stripe_invoice_id text,
    stripe_subscription_item_id text,
    stripe_price_id text,
    stripe_checkout_session_id text,
    stripe_payment_intent_id text,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    epoch integer DEFAULT 0 NOT NULL
)
WITH (fillfactor='80');

COMMENT ON TABLE billing.credit_grants IS 'Lots of credits: what is left of each grant and what paid for it.';

COMMENT ON COLUMN billing.credit_grants.entry_id IS 'The entry that opened the lot; null until a scheduled lot opens.';

COMMENT ON COLUMN billing.credit_grants.held IS 'Part of remaining that open holds have reserved.';

COMMENT ON COLUMN billing.credit_grants.contested IS 'Credits of an open dispute that could not be frozen, because they were spent or held; frozen when they return.';

COMMENT ON COLUMN billing.credit_grants.cut IS 'Credits that were left out, because their payment had already been refunded.';

COMMENT ON COLUMN billing.credit_grants.lapsed IS 'Credits that expired unspent, or that the closing of the account forfeited.';

CREATE FUNCTION billing._claim_shortfall(revocation billing.credit_revocations, lot billing.credit_grants, amount bigint) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_revocation billing.credit_revocations := _claim_shortfall.revocation;
    v_balance billing.credit_balances := billing._lock_balance(v_revocation.account_id);
    v_entry billing.credit_entries := billing._entry(
        account_id => v_revocation.account_id, kind => 'revocation', amount => -_claim_shortfall.amount,
        source => (_claim_shortfall.lot).source, reference_id => (_claim_shortfall.lot).reference_id,
        description => v_revocation.reason, actor => v_revocation.actor,
        reverses_entry_id => (_claim_shortfall.lot).entry_id, key_space => 'system',
        idempotency_key => format('claim:%s:%s', v_revocation.id, v_revocation.shortfall),
        occurred_at => billing.current_time()
    );
begin
    if v_revocation.shortfall_policy = 'block_future_grants' then
        v_balance.withheld := v_balance.withheld - _claim_shortfall.amount;
    end if;
    perform billing._post_entry(v_balance, v_entry, takes => array[
        row(v_entry.id, (_claim_shortfall.lot).id, _claim_shortfall.amount)::billing.credit_consumptions
    ]);
    update billing.credit_revocations
    set taken = credit_revocations.taken + _claim_shortfall.amount,
        shortfall = credit_revocations.shortfall - _claim_shortfall.amount
    where credit_revocations.id = v_revocation.id;
end
$$;

CREATE FUNCTION billing._confirm_payment_link(stripe_payment_link_id text) RETURNS text
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    update billing.payment_links set confirmed_at = now(), updated_at = now()
    where payment_links.stripe_payment_link_id = _confirm_payment_link.stripe_payment_link_id and payment_links.active
    returning payment_links.url
$$;

CREATE FUNCTION billing._contested_credits(stripe_invoice_id text) RETURNS bigint
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_begun timestamptz;
begin
    select greatest(billing._time_of_account(invoices.account_id), (
        select min(schedules.period_start) from billing.credit_schedules as schedules
        where schedules.stripe_invoice_id = invoices.stripe_invoice_id
    )) into v_begun
    from billing.invoices where invoices.stripe_invoice_id = _contested_credits.stripe_invoice_id;
    return greatest((
        select coalesce(sum(contested.credits), 0)
        from billing._returned_credits(_contested_credits.stripe_invoice_id, true) as contested
        where contested.moment is null or contested.moment <= v_begun
    ) - (
        select coalesce(sum(returned.credits), 0)
        from billing._returned_credits(_contested_credits.stripe_invoice_id) as returned
        where returned.moment is null or returned.moment <= v_begun
    ), 0);
end
$$;

CREATE TABLE billing.credit_balances (
    account_id uuid NOT NULL,
    balance bigint DEFAULT 0 NOT NULL,
    held bigint DEFAULT 0 NOT NULL,
    debt bigint DEFAULT 0 NOT NULL,
    withheld bigint DEFAULT 0 NOT NULL,
    carried bigint DEFAULT 0 NOT NULL,
    written_off_debt bigint DEFAULT 0 NOT NULL,
    written_off_withheld bigint DEFAULT 0 NOT NULL,
    written_off_at timestamp with time zone,
    next_due_at timestamp with time zone,
    may_spend boolean DEFAULT true NOT NULL,
    overdraft bigint DEFAULT 0 NOT NULL,
    spend_cap bigint,
    spend_cap_period text,
    spent_in_period bigint DEFAULT 0 NOT NULL,
    spend_period_start timestamp with time zone,
    low_balance_threshold bigint,
    is_low boolean DEFAULT false NOT NULL,
    recharge_below bigint,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    epoch integer DEFAULT 0 NOT NULL
)
WITH (fillfactor='70');

COMMENT ON TABLE billing.credit_balances IS 'The balance of each account: one row that every movement locks.';

COMMENT ON COLUMN billing.credit_balances.balance IS 'Credits; sum of all entries. Below zero only by debt.';

COMMENT ON COLUMN billing.credit_balances.held IS 'Credits set aside by open holds; part of balance.';

COMMENT ON COLUMN billing.credit_balances.debt IS 'Credits owed, because spent credits were revoked or an overdraft was used; the next grant repays them.';

COMMENT ON COLUMN billing.credit_balances.withheld IS 'Credits that the next grants give up, because spent credits were revoked.';

COMMENT ON COLUMN billing.credit_balances.carried IS 'Credits by which the next credits that invoices pay for are reduced: spent credits of time that Stripe credited back.';

COMMENT ON COLUMN billing.credit_balances.written_off_debt IS 'Debt that closing the account wrote off; refunds of older movements repay it first.';

COMMENT ON COLUMN billing.credit_balances.written_off_withheld IS 'Withholding that closing the account ended; refunds of older movements cover it first.';

COMMENT ON COLUMN billing.credit_balances.written_off_at IS 'When the account was last closed with debt or withholding, by the clock of created_at.';

COMMENT ON COLUMN billing.credit_balances.next_due_at IS 'The earliest time at which a lot opens or expires or a hold expires; null: never.';

COMMENT ON COLUMN billing.credit_balances.may_spend IS 'False while the account is frozen or closed; see accounts.';

COMMENT ON COLUMN billing.credit_balances.overdraft IS 'How far spending may go below zero.';

COMMENT ON COLUMN billing.credit_balances.spend_cap IS 'Credits that may be spent in a spend_cap_period (UTC); null: no cap.';

COMMENT ON COLUMN billing.credit_balances.spent_in_period IS 'Credits spent since spend_period_start; kept while there is a cap. Open holds count towards the cap in addition.';

COMMENT ON COLUMN billing.credit_balances.low_balance_threshold IS 'The customer is notified when the available credits fall below it, once for each fall.';

COMMENT ON COLUMN billing.credit_balances.is_low IS 'True if the available credits were below the threshold at the last check.';

COMMENT ON COLUMN billing.credit_balances.recharge_below IS 'A credit pack is bought when the available credits fall below it; null: no auto-recharge is waiting.';

COMMENT ON COLUMN billing.credit_balances.epoch IS 'Incremented by one update in fifty, so that look-ups skip old versions of the row.';

CREATE FUNCTION billing._count_spend(balance billing.credit_balances, amount bigint) RETURNS billing.credit_balances
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_balance billing.credit_balances := billing._in_running_period(_count_spend.balance);
    v_room bigint := billing._room_under_cap(v_balance);
begin
    if _count_spend.amount > v_room then
        raise exception 'account % may spend % more credits this %, % are needed', v_balance.account_id,
            v_room, v_balance.spend_cap_period, _count_spend.amount
            using errcode = 'TB021',
            hint = 'Release holds that are not needed, wait for the next period, or raise the cap with set_credit_limits.';
    end if;
    v_balance.spent_in_period := v_balance.spent_in_period + _count_spend.amount;
    return v_balance;
end
$$;

CREATE FUNCTION billing._counted_by_cap(entry billing.credit_entries, period_start timestamp with time zone) RETURNS bigint
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    if (_counted_by_cap.entry).kind = 'refund' and not exists (
        select from billing.credit_entries
        where credit_entries.id = (_counted_by_cap.entry).reverses_entry_id
            and credit_entries.occurred_at >= _counted_by_cap.period_start
    ) then
        return 0;
    end if;
    return -(_counted_by_cap.entry).amount;
end
$$;

CREATE FUNCTION billing._origin_of(url text) RETURNS text
    LANGUAGE sql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
    select parts[1] || '://' || lower(parts[2])
        || case when parts[3]::integer = case parts[1] when 'https' then 443 else 80 end then '' else ':' || parts[3] end
    from (
        select array[found[1], found[2], coalesce(found[3], case found[1] when 'https' then '443' else '80' end)] as parts
        from pg_catalog.regexp_match(
            _origin_of.url,
            '^(https?)://([A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|\[::1\])(?::([1-9][0-9]{0,4}))?(?:[/?#][!-\[\]-~]*)?$'
        ) as found
        where found is not null
    ) as address
$_$;

CREATE TABLE billing.settings (
    id boolean DEFAULT true NOT NULL,
    livemode boolean DEFAULT false NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    stripe_account_id text,
    credits_since timestamp with time zone,
    grants_current_period boolean DEFAULT false NOT NULL,
    initial_credits_per text DEFAULT 'product'::text NOT NULL,
    seen_card_policy text,
    shortfall_policy text DEFAULT 'clamp_and_record'::text NOT NULL,
    past_due_keeps_features boolean DEFAULT true NOT NULL,
    site_url text,
    allowed_redirect_origins text[] DEFAULT '{}'::text[] NOT NULL,
    one_subscription_per text DEFAULT 'product'::text NOT NULL,
    max_checkout_quantity bigint DEFAULT 100 NOT NULL,
    allow_promotion_codes boolean DEFAULT true NOT NULL,
    automatic_tax boolean DEFAULT false NOT NULL,
    collect_tax_ids boolean DEFAULT false NOT NULL,
    billing_address_collection text DEFAULT 'auto'::text NOT NULL,
    one_trial_per text DEFAULT 'product'::text NOT NULL,
    trial_without_card text,
    checkout_branding jsonb,
    payment_reference_lifetime interval DEFAULT '1 day'::interval NOT NULL,
    payment_link_options jsonb DEFAULT '{}'::jsonb NOT NULL,
    customer_notifications text[] DEFAULT '{}'::text[] NOT NULL,
    notification_rate integer DEFAULT 5 NOT NULL,
    notification_window interval DEFAULT '00:10:00'::interval NOT NULL,
    notification_deadline interval DEFAULT '3 days'::interval NOT NULL,
    notification_retention interval DEFAULT '90 days'::interval NOT NULL,
    silence_after interval DEFAULT '2 days'::interval,
    expiring_credits_notice interval DEFAULT '7 days'::interval NOT NULL,
    worker_missing_after interval DEFAULT '00:03:00'::interval,
    alert_webhook_url text,
    keep_events_days integer DEFAULT 90 NOT NULL,
    fraud_dry_run boolean DEFAULT false NOT NULL,
    refund_policy text,
    on_user_deleted text DEFAULT 'report'::text NOT NULL,
    limit_members_to_seats boolean DEFAULT false NOT NULL,
    invitation_lifetime interval DEFAULT '7 days'::interval NOT NULL,
    CONSTRAINT alert_webhook_url_is_a_web_address CHECK (((alert_webhook_url IS NULL) OR (billing._origin_of(alert_webhook_url) IS NOT NULL))),
    CONSTRAINT billing_address_collection_is_known CHECK ((billing_address_collection = ANY (ARRAY['auto'::text, 'required'::text]))),
    CONSTRAINT checkout_branding_is_an_object CHECK ((jsonb_typeof(checkout_branding) = 'object'::text)),
    CONSTRAINT customer_notifications_are_known CHECK (((customer_notifications)::billing.notification_kind[] IS NOT NULL)),
    CONSTRAINT expiring_credits_notice_is_positive CHECK ((expiring_credits_notice > '00:00:00'::interval)),
    CONSTRAINT initial_credits_per_is_known CHECK ((initial_credits_per = ANY (ARRAY['product'::text, 'account'::text]))),
    CONSTRAINT invitation_lifetime_is_positive CHECK (((invitation_lifetime >= '00:01:00'::interval) AND (invitation_lifetime <= '1 year'::interval))),
    CONSTRAINT keep_events_days_is_positive CHECK ((keep_events_days > 0)),
    CONSTRAINT max_checkout_quantity_is_positive CHECK ((max_checkout_quantity > 0)),
    CONSTRAINT notification_deadline_is_positive CHECK ((notification_deadline > '00:00:00'::interval)),
    CONSTRAINT notification_rate_is_positive CHECK ((notification_rate > 0)),
    CONSTRAINT notification_window_is_positive CHECK ((notification_window > '00:00:00'::interval)),
    CONSTRAINT notifications_are_kept_for_replays CHECK ((notification_retention >= '30 days'::interval)),
    CONSTRAINT on_user_deleted_is_known CHECK ((on_user_deleted = ANY (ARRAY['report'::text, 'cancel'::text]))),
    CONSTRAINT one_subscription_per_is_known CHECK ((one_subscription_per = ANY (ARRAY['price'::text, 'product'::text, 'account'::text, 'none'::text]))),
    CONSTRAINT one_trial_per_is_known CHECK ((one_trial_per = ANY (ARRAY['product'::text, 'account'::text, 'none'::text]))),
    CONSTRAINT payment_link_options_are_known CHECK (billing._are_link_options(payment_link_options)),
    CONSTRAINT payment_reference_lifetime_is_positive CHECK (((payment_reference_lifetime >= '00:01:00'::interval) AND (payment_reference_lifetime <= '1 year'::interval))),
    CONSTRAINT redirect_origins_are_origins CHECK (billing._are_origins(allowed_redirect_origins)),
    CONSTRAINT refund_policy_fits_stripe CHECK (((length(refund_policy) >= 1) AND (length(refund_policy) <= 20000))),
    CONSTRAINT seen_card_policy_is_known CHECK ((seen_card_policy = ANY (ARRAY['grant'::text, 'hold'::text, 'refuse'::text]))),
    CONSTRAINT shortfall_policy_is_known CHECK ((shortfall_policy = ANY (ARRAY['clamp_and_record'::text, 'allow_negative'::text, 'block_future_grants'::text]))),
    CONSTRAINT silence_is_an_hour_at_least CHECK ((silence_after >= '01:00:00'::interval)),
    CONSTRAINT site_url_is_a_web_address CHECK (((site_url IS NULL) OR (billing._origin_of(site_url) IS NOT NULL))),
    CONSTRAINT stripe_account_id_is_one CHECK ((stripe_account_id ~ '^acct_[A-Za-z0-9_]+$'::text)),
    CONSTRAINT there_is_one_row CHECK (id),
    CONSTRAINT trial_without_card_is_known CHECK ((trial_without_card = ANY (ARRAY['cancel'::text, 'pause'::text, 'create_invoice'::text]))),
    CONSTRAINT worker_missing_after_is_a_minute_at_least CHECK ((worker_missing_after >= '00:01:00'::interval))
);

COMMENT ON TABLE billing.settings IS 'Settings of this installation; one row.';

COMMENT ON COLUMN billing.settings.livemode IS 'True when real money is expected. Events of the other mode are recorded and ignored.';

COMMENT ON COLUMN billing.settings.stripe_account_id IS 'The Stripe account of this installation; null until a worker has read it from Stripe. Events of other accounts are ignored. Set it to null to move to another account.';

COMMENT ON COLUMN billing.settings.credits_since IS 'Payments before this time give no credits; null: all do. Set once, by `till backfill`. What is already recorded stays as it is.';

COMMENT ON COLUMN billing.settings.grants_current_period IS 'True if a period that was paid for before credits_since gives the credits of its time after it.';

COMMENT ON COLUMN billing.settings.initial_credits_per IS 'Initial credits are granted once for each account and product, or once for each account.';

COMMENT ON COLUMN billing.settings.seen_card_policy IS 'What happens to initial and trial credits if the card was already used on another account: grant, hold (for review by an administrator) or refuse. Null: hold in live mode, grant in test mode, where everybody uses the same test cards.';

COMMENT ON COLUMN billing.settings.shortfall_policy IS 'What happens to spent credits whose payment is refunded: clamp_and_record (recorded only), allow_negative (debt), block_future_grants (withheld from later grants).';

COMMENT ON COLUMN billing.settings.past_due_keeps_features IS 'True if a subscription keeps its features after a failed renewal while Stripe retries the payment.';

COMMENT ON COLUMN billing.settings.site_url IS 'The app''s address: Stripe redirects users here unless a request names another page.';

COMMENT ON COLUMN billing.settings.allowed_redirect_origins IS 'Further origins (scheme://host[:port]) to which users may be redirected.';

COMMENT ON COLUMN billing.settings.one_subscription_per IS 'Which existing subscribers checkout sends to the portal: of the same price, of the same product, of any plan (account), or none.';

COMMENT ON COLUMN billing.settings.max_checkout_quantity IS 'The largest quantity of a price in one checkout, unless the plan declares seats.';

COMMENT ON COLUMN billing.settings.allow_promotion_codes IS 'Whether checkout has a field for promotion codes.';

COMMENT ON COLUMN billing.settings.automatic_tax IS 'Whether Stripe calculates the tax at checkout (Stripe Tax must be set up).';

COMMENT ON COLUMN billing.settings.collect_tax_ids IS 'Whether checkout has a field for a business''s tax id.';

COMMENT ON COLUMN billing.settings.billing_address_collection IS 'Whether checkout asks for an address when it needs one (auto), or always (required).';

COMMENT ON COLUMN billing.settings.one_trial_per IS 'Which accounts get a plan''s trial: those that never subscribed to its product (product), never subscribed at all (account), or all accounts (none). Trial credits follow it too.';

COMMENT ON COLUMN billing.settings.trial_without_card IS 'Trials start without a card. If there is still none at the end, the subscription is cancelled (cancel), paused (pause), or billed by an invoice (create_invoice). Null: checkout requires a card.';

COMMENT ON COLUMN billing.settings.checkout_branding IS 'branding_settings of every Checkout Session; null: the branding of the Stripe account.';

COMMENT ON COLUMN billing.settings.payment_reference_lifetime IS 'How long the reference in a Payment Link''s URL is valid.';

COMMENT ON COLUMN billing.settings.payment_link_options IS 'Options of every Payment Link, named as Stripe''s parameters; see docs/how-to/payment-links.md.';

COMMENT ON COLUMN billing.settings.customer_notifications IS 'Kinds of notifications that customers receive by e-mail, such as {payment_failed,low_balance}. Default: none.';

COMMENT ON COLUMN billing.settings.notification_rate IS 'The most messages of one kind for one recipient in a notification_window; further ones wait and are sent as one digest.';

COMMENT ON COLUMN billing.settings.notification_window IS 'See notification_rate.';

COMMENT ON COLUMN billing.settings.notification_deadline IS 'How long delivery is retried before a notification is dead.';

COMMENT ON COLUMN billing.settings.notification_retention IS 'How long delivered notifications are kept; at least 30 days.';

COMMENT ON COLUMN billing.settings.silence_after IS 'Administrators are notified if there are subscriptions but no event from Stripe for this long; null: never.';

COMMENT ON COLUMN billing.settings.expiring_credits_notice IS 'How long before the expiry of credits their owner is notified.';

COMMENT ON COLUMN billing.settings.worker_missing_after IS 'Administrators are notified if no worker has been seen for this long although one is expected; null: never.';

COMMENT ON COLUMN billing.settings.alert_webhook_url IS 'Where the database itself posts what no worker can send, as {"text": …} by pg_net: a Slack webhook, for example. Null: nowhere.';

COMMENT ON COLUMN billing.settings.keep_events_days IS 'How long the bodies of applied and ignored events and the archive of the queue are kept. The rows of events stay.';

COMMENT ON COLUMN billing.settings.fraud_dry_run IS 'Warnings are recorded, without any action; judge_fraud_warning shows what the policy would do.';

COMMENT ON COLUMN billing.settings.refund_policy IS 'The refund policy as shown to customers before they buy; evidence in disputes.';

COMMENT ON COLUMN billing.settings.on_user_deleted IS 'What happens when a user is deleted whose account has a subscription: report (administrators are notified) or cancel (Stripe also cancels it at once).';

COMMENT ON COLUMN billing.settings.limit_members_to_seats IS 'Whether a team may have only as many members and open invitations as its subscription has seats (its quantity); one without a subscription.';

COMMENT ON COLUMN billing.settings.invitation_lifetime IS 'How long an invitation to a team can be accepted.';

CREATE FUNCTION billing._counts_from(invoice billing.invoices, period_end timestamp with time zone, settings billing.settings) RETURNS timestamp with time zone
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_since timestamptz := (_counts_from.settings).credits_since;
begin
    return case
        when coalesce(
            coalesce((_counts_from.invoice).paid_at, (_counts_from.invoice).as_of) >= v_since, true
        ) then '-infinity'
        when (_counts_from.settings).grants_current_period and _counts_from.period_end > v_since then v_since
        else 'infinity'
    end;
end
$$;

CREATE FUNCTION billing._create_job_queue() RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    if to_regclass('pgmq.q_billing_jobs') is not null and to_regclass('pgmq.a_billing_jobs') is not null then
        return;
    end if;
    perform pgmq.create('billing_jobs');
    create index if not exists billing_jobs_due on pgmq.q_billing_jobs ((message ->> 'kind'), vt);
    alter table pgmq.q_billing_jobs enable row level security;
    alter table pgmq.a_billing_jobs enable row level security;
    revoke all on pgmq.q_billing_jobs, pgmq.a_billing_jobs from public, anon, authenticated, service_role;
end
$$;

CREATE FUNCTION billing._create_queue() RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    if to_regclass('pgmq.q_stripe_events') is not null and to_regclass('pgmq.a_stripe_events') is not null then
        return;
    end if;
    perform pgmq.create('stripe_events');
    alter table pgmq.q_stripe_events enable row level security;
    alter table pgmq.a_stripe_events enable row level security;
    revoke all on pgmq.q_stripe_events, pgmq.a_stripe_events from public, anon, authenticated, service_role;
end
$$;

CREATE FUNCTION billing._credits_are_final_until() RETURNS timestamp with time zone
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select least(min(pg_stat_activity.xact_start), now() - interval '10 seconds') from pg_stat_activity
    where pg_stat_activity.datname = current_database() and pg_stat_activity.pid <> pg_backend_pid()
$$;

CREATE TABLE billing.credit_packs (
    stripe_price_id text NOT NULL,
    stripe_product_id text NOT NULL,
    livemode boolean DEFAULT false NOT NULL,
    active boolean DEFAULT true NOT NULL,
    lookup_key text,
    nickname text,
    currency text DEFAULT 'usd'::text NOT NULL,
    unit_amount bigint,
    pack_credits bigint,
    credits_per_unit numeric,
    expires_after interval,
    declared_from timestamp with time zone DEFAULT '-infinity'::timestamp with time zone NOT NULL,
    metadata jsonb DEFAULT '{}'::jsonb NOT NULL,
    as_of timestamp with time zone DEFAULT '-infinity'::timestamp with time zone NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT credits_are_fixed_or_by_the_amount CHECK (((pack_credits IS NULL) <> (credits_per_unit IS NULL))),
    CONSTRAINT credits_per_unit_are_positive CHECK ((credits_per_unit > (0)::numeric)),
    CONSTRAINT expires_after_is_positive CHECK ((expires_after > '00:00:00'::interval)),
    CONSTRAINT pack_credits_are_positive CHECK ((pack_credits > 0))
);

COMMENT ON TABLE billing.credit_packs IS 'One-time Stripe prices and the credits they are worth.';

COMMENT ON COLUMN billing.credit_packs.pack_credits IS 'Credits of one pack; null if the customer chooses the amount.';

COMMENT ON COLUMN billing.credit_packs.credits_per_unit IS 'Credits for one whole unit of currency (1.00 usd, 1 jpy) of a price whose amount the customer chooses.';

COMMENT ON COLUMN billing.credit_packs.expires_after IS 'How long after the payment the credits expire; null: never.';

COMMENT ON COLUMN billing.credit_packs.declared_from IS 'Since when it is a pack: what was paid for it before gave no credits. -infinity: since its price is known.';

CREATE FUNCTION billing._credits_of_pack(pack billing.credit_packs, quantity bigint, amount bigint) RETURNS numeric
    LANGUAGE sql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select case
        when (_credits_of_pack.pack).credits_per_unit is not null then floor(
            (_credits_of_pack.pack).credits_per_unit * _credits_of_pack.amount
            / power(10::numeric, billing._minor_digits((_credits_of_pack.pack).currency))
        )
        else (_credits_of_pack.pack).pack_credits * coalesce(_credits_of_pack.quantity, 1)::numeric
    end
$$;

CREATE FUNCTION billing._customer_of(account_id uuid, livemode boolean) RETURNS text
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select customers.stripe_customer_id from billing.customers
    where customers.account_id = _customer_of.account_id and customers.livemode = _customer_of.livemode
        and customers.deleted_at is null and customers.duplicate_of is null
$$;

CREATE FUNCTION billing._customers_of_person(account_id uuid, stripe_customer_id text) RETURNS text[]
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select array(
        select customers.stripe_customer_id from billing.customers
        where customers.stripe_customer_id is not null and (
            customers.account_id = _customers_of_person.account_id
            or customers.stripe_customer_id = _customers_of_person.stripe_customer_id
        )
        order by customers.id
    )
$$;

CREATE FUNCTION billing._date_purchases(stripe_payment_intent_id text) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_charged_at timestamptz := billing._charged_at(_date_purchases.stripe_payment_intent_id);
    v_purchase billing.pack_purchases;
begin
    for v_purchase in
        select * from billing.pack_purchases
        where pack_purchases.stripe_payment_intent_id = _date_purchases.stripe_payment_intent_id
            and pack_purchases.purchased_at <> v_charged_at
        order by pack_purchases.business_key
    loop
        perform billing._lock_balance(v_purchase.account_id);
        update billing.pack_purchases
        set purchased_at = v_charged_at, expires_at = v_charged_at + (v_purchase.expires_at - v_purchase.purchased_at)
        where pack_purchases.business_key = v_purchase.business_key
        returning * into v_purchase;
        update billing.credit_grants
        set expires_at = v_purchase.expires_at, effective_at = least(v_charged_at, billing.current_time())
        where credit_grants.key_space = 'stripe' and credit_grants.closed_at is null
            and (
                credit_grants.idempotency_key = v_purchase.business_key
                or credit_grants.account_id = v_purchase.account_id
                and credit_grants.idempotency_key ^@ (v_purchase.business_key || '#')
            );
        perform billing._remember_due(v_purchase.account_id, v_purchase.expires_at)
        where v_purchase.expires_at is not null;
    end loop;
end
$$;

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

CREATE FUNCTION billing._declared_choice(plan billing.plans, product billing.products, key text, choices text[]) RETURNS text
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_text text := coalesce(
        (_declared_choice.plan).metadata ->> _declared_choice.key,
        (_declared_choice.product).metadata ->> _declared_choice.key
    );
begin
    if v_text is null or v_text = any (_declared_choice.choices) then
        return v_text;
    end if;
    raise exception 'metadata % of % is "%", it must be one of %', _declared_choice.key,
        (_declared_choice.plan).stripe_price_id, v_text, array_to_string(_declared_choice.choices, ', ')
        using errcode = 'TB017', hint = 'Correct the metadata in Stripe. The update event then syncs the plan.';
end
$$;

CREATE FUNCTION billing._declared_credits(stripe_id text, key text, price_metadata jsonb, product_metadata jsonb) RETURNS bigint
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
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
    raise exception 'metadata % of % is "%", it must be a whole number of credits',
        _declared_credits.key, _declared_credits.stripe_id, v_text
        using errcode = 'TB017', hint = 'Correct the metadata in Stripe. The update event then syncs the plan.';
end
$_$;

CREATE FUNCTION billing._declared_features(stripe_id text, features text) RETURNS jsonb
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    if jsonb_typeof(_declared_features.features::jsonb) <> 'object' then
        raise invalid_text_representation;
    end if;
    return _declared_features.features::jsonb;
exception when invalid_text_representation then
    raise exception 'metadata features of % is not a JSON object', _declared_features.stripe_id
        using errcode = 'TB017', hint = 'Correct the metadata in Stripe. The update event then syncs the plan.';
end
$$;

CREATE TABLE billing.one_time_prices (
    stripe_price_id text NOT NULL,
    stripe_product_id text NOT NULL,
    livemode boolean NOT NULL,
    active boolean NOT NULL,
    lookup_key text,
    nickname text,
    currency text NOT NULL,
    unit_amount bigint,
    has_custom_amount boolean DEFAULT false NOT NULL,
    metadata jsonb NOT NULL,
    as_of timestamp with time zone NOT NULL
);

COMMENT ON TABLE billing.one_time_prices IS 'One-time Stripe prices without credits of their own or of their product. They become packs if credits are declared later.';

CREATE FUNCTION billing._declared_pack(price billing.one_time_prices) RETURNS billing.declared_pack
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
declare
    v_price billing.one_time_prices := _declared_pack.price;
    v_pack billing.declared_pack;
    v_metadata jsonb := (
        select products.metadata from billing.products where products.stripe_product_id = v_price.stripe_product_id
    ) || v_price.metadata;
    v_after text := v_metadata ->> 'pack_expires_after';
begin
    if v_price.has_custom_amount then
        if (v_metadata ->> 'credits_per_unit') !~ '^[0-9]{1,12}([.][0-9]{1,6})?$'
            or (v_metadata ->> 'credits_per_unit')::numeric = 0 then
            raise exception 'metadata credits_per_unit of % is "%", it must be a number above 0',
                v_price.stripe_price_id, v_metadata ->> 'credits_per_unit'
                using errcode = 'TB017', hint = 'Correct the metadata in Stripe. The update event then syncs the pack.';
        end if;
        v_pack.credits_per_unit := (v_metadata ->> 'credits_per_unit')::numeric;
    else
        v_pack.pack_credits := billing._declared_credits(v_price.stripe_price_id, 'pack_credits', v_metadata, '{}');
        if v_pack.pack_credits = 0 then
            raise exception 'metadata pack_credits of % is "0", it must be at least 1', v_price.stripe_price_id
                using errcode = 'TB017', hint = 'Correct the metadata in Stripe. The update event then syncs the pack.';
        end if;
    end if;
    if v_after !~ '^[1-9][0-9]{0,3} (day|month|year)s?$' then
        raise exception 'metadata pack_expires_after of % is "%", it must be a duration such as "90 days", "12 months" or "1 year"',
            v_price.stripe_price_id, v_after
            using errcode = 'TB017', hint = 'Correct the metadata in Stripe. The update event then syncs the pack.';
    end if;
    v_pack.expires_after := v_after::interval;
    return v_pack;
end
$_$;

CREATE FUNCTION billing._declared_plan(plan billing.plans, product billing.products) RETURNS billing.plans
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
declare
    v_plan billing.plans := _declared_plan.plan;
    v_product billing.products := _declared_plan.product;
    v_rollover text;
    v_features text := coalesce(v_plan.metadata ->> 'features', v_product.metadata ->> 'features');
begin
    if v_plan.usage_type = 'metered' then
        v_product.metadata := '{}';
    end if;
    v_rollover := coalesce(v_plan.metadata ->> 'credits_rollover', v_product.metadata ->> 'credits_rollover');
    if v_rollover !~ '^(none|all|periods:[1-9][0-9]{0,2}|cap:[0-9]{1,15})$' then
        raise exception 'metadata credits_rollover of % is "%", it must be none, all, periods:N or cap:N',
            v_plan.stripe_price_id, v_rollover
            using errcode = 'TB017', hint = 'Correct the metadata in Stripe. The update event then syncs the plan.';
    elsif v_rollover is not null then
        v_plan.rollover := split_part(v_rollover, ':', 1);
        v_plan.rollover_periods := case when v_rollover ^@ 'periods:' then split_part(v_rollover, ':', 2)::integer end;
        v_plan.rollover_cap := case when v_rollover ^@ 'cap:' then split_part(v_rollover, ':', 2)::bigint end;
    end if;
    v_plan.initial_credits := coalesce(billing._declared_credits(
        v_plan.stripe_price_id, 'initial_credits', v_plan.metadata, v_product.metadata), v_plan.initial_credits);
    v_plan.monthly_credits := coalesce(billing._declared_credits(
        v_plan.stripe_price_id, 'monthly_credits', v_plan.metadata, v_product.metadata), v_plan.monthly_credits);
    v_plan.trial_credits := coalesce(billing._declared_credits(
        v_plan.stripe_price_id, 'trial_credits', v_plan.metadata, v_product.metadata), v_plan.trial_credits);
    v_plan.proration_credits := coalesce(billing._declared_choice(
        v_plan, v_product, 'credits_on_proration', array['none', 'delta', 'full']), v_plan.proration_credits);
    v_plan.downgrade_credits := coalesce(billing._declared_choice(
        v_plan, v_product, 'credits_on_downgrade', array['take_back', 'keep']), v_plan.downgrade_credits);
    v_plan.cancel_credits := coalesce(billing._declared_choice(
        v_plan, v_product, 'credits_on_cancel', array['period_end', 'stop']), v_plan.cancel_credits);
    v_plan.trial_end_credits := coalesce(billing._declared_choice(
        v_plan, v_product, 'trial_credits_end', array['trial_end', 'keep']), v_plan.trial_end_credits);
    v_plan.features := coalesce(billing._declared_features(v_plan.stripe_price_id, v_features), v_plan.features);
    return v_plan;
end
$_$;

CREATE FUNCTION billing._declares_credits(metadata jsonb) RETURNS boolean
    LANGUAGE sql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select _declares_credits.metadata ?| array[
        'initial_credits', 'monthly_credits', 'trial_credits', 'credits_rollover', 'credits_on_proration',
        'credits_on_downgrade', 'credits_on_cancel', 'trial_credits_end'
    ]
$$;

CREATE FUNCTION billing._description_of_move(source text, plan_name text) RETURNS text
    LANGUAGE sql IMMUTABLE
    AS $$
    select case source
        when 'stripe.proration' then 'Subscription credits for the change to '
        else 'Monthly subscription credits for '
    end || plan_name
$$;

CREATE TABLE billing.notifications (
    id bigint NOT NULL,
    account_id uuid,
    audience text NOT NULL,
    reader text GENERATED ALWAYS AS (
CASE audience
    WHEN 'customer'::text THEN (account_id)::text
    ELSE audience
END) STORED NOT NULL,
    kind billing.notification_kind NOT NULL,
    dedupe_key text NOT NULL,
    payload jsonb DEFAULT '{}'::jsonb NOT NULL,
    status text DEFAULT 'queued'::text NOT NULL,
    attempts integer DEFAULT 0 NOT NULL,
    queued_at timestamp with time zone DEFAULT now() NOT NULL,
    first_attempt_at timestamp with time zone,
    delivered_to text[] DEFAULT '{}'::text[] NOT NULL,
    digest_id bigint,
    digest_size integer,
    last_error text,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    delivered_at timestamp with time zone,
    CONSTRAINT audience_is_known CHECK ((audience = ANY (ARRAY['administrators'::text, 'customer'::text]))),
    CONSTRAINT customers_have_an_account CHECK (((audience <> 'customer'::text) OR (account_id IS NOT NULL))),
    CONSTRAINT delivered_notifications_say_when CHECK (((status = 'delivered'::text) = (delivered_at IS NOT NULL))),
    CONSTRAINT digested_notifications_name_their_digest CHECK (((status = 'digested'::text) = ((digest_id <> id) IS TRUE))),
    CONSTRAINT digests_say_how_many CHECK (((digest_size IS NULL) = (digest_id IS DISTINCT FROM id))),
    CONSTRAINT payload_is_an_object CHECK ((jsonb_typeof(payload) = 'object'::text)),
    CONSTRAINT status_is_known CHECK ((status = ANY (ARRAY['queued'::text, 'sending'::text, 'delivered'::text, 'digested'::text, 'skipped'::text, 'dead'::text]))),
    CONSTRAINT undelivered_notifications_say_why CHECK (((status <> ALL (ARRAY['skipped'::text, 'dead'::text])) OR (last_error IS NOT NULL)))
);

COMMENT ON TABLE billing.notifications IS 'Notifications; the worker delivers them.';

COMMENT ON COLUMN billing.notifications.audience IS 'administrators, or customer: the owner of the account, if the kind is enabled in the settings.';

COMMENT ON COLUMN billing.notifications.reader IS 'The recipient: administrators, or a customer''s account id.';

COMMENT ON COLUMN billing.notifications.status IS 'queued, sending: to be delivered. delivered: by every channel. digested: part of the message of digest_id. skipped: has no recipient. dead: needs a person; last_error says why.';

COMMENT ON COLUMN billing.notifications.attempts IS 'How often its channels were tried.';

COMMENT ON COLUMN billing.notifications.queued_at IS 'When it was written, or retried by a person.';

COMMENT ON COLUMN billing.notifications.delivered_to IS 'The channels that accepted it; later attempts skip them.';

COMMENT ON COLUMN billing.notifications.digest_id IS 'The notification whose message includes this one.';

CREATE FUNCTION billing._digest_notifications(first billing.notifications) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_first billing.notifications := _digest_notifications.first;
    v_job billing.job_kind := v_first.audience || '_notification';
    v_rate integer;
    v_window interval;
    v_sent bigint;
    v_free_at timestamptz;
    v_ids bigint[];
begin
    select settings.notification_rate, settings.notification_window into v_rate, v_window from billing.settings;
    select count(*), min(notifications.first_attempt_at) + v_window into v_sent, v_free_at
    from billing.notifications
    where notifications.kind = v_first.kind and notifications.reader = v_first.reader
        and notifications.first_attempt_at > now() - v_window;
    select array_agg(notifications.id order by notifications.id) into v_ids from billing.notifications
    where notifications.kind = v_first.kind and notifications.reader = v_first.reader
        and notifications.status = 'queued' and notifications.attempts = 0 and notifications.digest_id is null;

    if v_sent + cardinality(v_ids) <= v_rate then
        return;
    elsif v_sent >= v_rate then
        perform billing._postpone_jobs(v_job, v_ids::text[], v_free_at);
    elsif cardinality(v_ids) > 1 then
        update billing.notifications
        set digest_id = v_first.id,
            digest_size = case when notifications.id = v_first.id then cardinality(v_ids) end,
            status = case when notifications.id = v_first.id then 'queued' else 'digested' end
        where notifications.id = any (v_ids) and notifications.status = 'queued';
        perform billing._drop_jobs(v_job, array_remove(v_ids, v_first.id)::text[]);
    end if;
end
$$;

CREATE FUNCTION billing._discard_checkout_key(idempotency_key text) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    update billing.checkout_requests set discarded_at = now()
    where checkout_requests.idempotency_key = _discard_checkout_key.idempotency_key
        and checkout_requests.discarded_at is null;
    update billing.customer_claims
    set idempotency_key = gen_random_uuid()::text,
        keyed_at = now(), may_exist = true, updated_at = now()
    where customer_claims.idempotency_key = _discard_checkout_key.idempotency_key
        and customer_claims.stripe_customer_id is null;
end
$$;

CREATE FUNCTION billing._discard_payment_link_key(idempotency_key text) RETURNS void
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    update billing.payment_links
    set idempotency_key = gen_random_uuid()::text, keyed_at = now(), may_exist = true,
        updated_at = now()
    where payment_links.idempotency_key = _discard_payment_link_key.idempotency_key
        and payment_links.stripe_payment_link_id is null
$$;

CREATE FUNCTION billing._dismissal(payload text, waiting_for text) RETURNS text
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select pg_catalog.format(
        'customer %s was dismissed by %s: %s', customers.stripe_customer_id, customers.dismissed_by,
        customers.dismissed_reason
    )
    from billing.customers
    where customers.stripe_customer_id in (
            _dismissal.waiting_for, pg_catalog.substring(_dismissal.payload, '"customer"\s*:\s*"(cus_[A-Za-z0-9_]+)"')
        )
        and customers.dismissed_at is not null and customers.account_id is null
    limit 1
$$;

CREATE FUNCTION billing._dispute_rank(status text) RETURNS integer
    LANGUAGE sql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select array_position(array[
        'warning_needs_response', 'warning_under_review', 'warning_closed', 'prevented', 'needs_response', 'under_review',
        'lost', 'appeal_needs_response', 'appeal_under_review', 'won'
    ], _dispute_rank.status)
$$;

CREATE FUNCTION billing._drop_jobs(kind billing.job_kind, ids text[]) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET enable_nestloop TO 'off'
    AS $$
begin
    delete from pgmq.q_billing_jobs as message
    using unnest(_drop_jobs.ids) as job (id)
    where message.message ->> 'kind' = _drop_jobs.kind and message.message ->> 'id' = job.id;
end
$$;

CREATE FUNCTION billing._due_after_death(attempts integer, due_at timestamp with time zone) RETURNS timestamp with time zone
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select case when _due_after_death.attempts > 2 then clock_timestamp() + random() * interval '4 seconds'
        else _due_after_death.due_at end
$$;

CREATE FUNCTION billing._emails_of_person(account_id uuid, stripe_customer_ids text[]) RETURNS text[]
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select array(
        select lower(found.email) from (
            select users.email::text as email
            from billing.accounts join auth.users on users.id = accounts.owner_id
            where accounts.id = _emails_of_person.account_id and accounts.kind = 'personal'
                and users.email_confirmed_at is not null
            union
            select customers.email from billing.customers
            where customers.stripe_customer_id = any (_emails_of_person.stripe_customer_ids)
                and customers.account_id is null
            union
            select customer_claims.email
            from billing.accounts join billing.customer_claims on customer_claims.account_id = accounts.id
            where accounts.id = _emails_of_person.account_id and accounts.kind = 'personal'
            union
            select unnest(changes.old_emails || changes.new_email)
            from billing.accounts
            join billing.customers on customers.account_id = accounts.id
            join billing.customer_email_changes as changes
                on changes.stripe_customer_id = customers.stripe_customer_id
            where accounts.id = _emails_of_person.account_id and accounts.kind = 'personal'
        ) as found
        where found.email like '%@%'
        order by 1
    )
$$;

CREATE FUNCTION billing._empty_events(event_ids text[]) RETURNS bigint
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    with emptied as (
        update billing.stripe_events
        set payload = '', last_error = case when stripe_events.last_error is not null then 'erased' end
        where stripe_events.stripe_event_id = any (_empty_events.event_ids)
        returning stripe_events.stripe_event_id
    )
    select count(*) from emptied
$$;

CREATE TABLE billing.alerts (
    id bigint NOT NULL,
    kind billing.notification_kind NOT NULL,
    subject text DEFAULT ''::text NOT NULL,
    payload jsonb DEFAULT '{}'::jsonb NOT NULL,
    began_at timestamp with time zone DEFAULT now() NOT NULL,
    ended_at timestamp with time zone,
    CONSTRAINT alerts_end_after_they_begin CHECK ((ended_at >= began_at)),
    CONSTRAINT payload_is_an_object CHECK ((jsonb_typeof(payload) = 'object'::text))
);

COMMENT ON TABLE billing.alerts IS 'Situations of the whole installation that need a person: open ones have no ended_at.';

COMMENT ON COLUMN billing.alerts.subject IS 'What it is about, such as a price; empty where there can be only one.';

CREATE FUNCTION billing._end_alerts(kind text, except_subjects text[] DEFAULT '{}'::text[]) RETURNS SETOF billing.alerts
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    return query
    update billing.alerts set ended_at = now()
    where alerts.kind = _end_alerts.kind and alerts.ended_at is null
        and alerts.subject <> all (_end_alerts.except_subjects)
    returning alerts.*;
end
$$;

CREATE FUNCTION billing._end_job(msg_id bigint, retry_in_seconds integer, reason text) RETURNS boolean
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    if _end_job.msg_id is null then
        return true;
    elsif _end_job.retry_in_seconds is null then
        delete from pgmq.q_billing_jobs as message
        where message.msg_id = _end_job.msg_id and message.headers ->> 'worker_pid' = pg_backend_pid()::text;
    else
        update pgmq.q_billing_jobs as message
        set vt = clock_timestamp() + make_interval(secs => _end_job.retry_in_seconds),
            headers = jsonb_build_object('reason', _end_job.reason)
        where message.msg_id = _end_job.msg_id and message.headers ->> 'worker_pid' = pg_backend_pid()::text;
    end if;
    return found;
end
$$;

CREATE FUNCTION billing._ended_hold(capture billing.credit_entries, hold billing.credit_holds) RETURNS boolean
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select (_ended_hold.hold).status = 'captured' and not exists (
        select from billing.credit_entries
        where credit_entries.hold_id = (_ended_hold.hold).id and credit_entries.id > (_ended_hold.capture).id
    )
$$;

CREATE FUNCTION billing._enqueue_jobs(kind billing.job_kind, ids text[]) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    if to_regclass('pgmq.q_billing_jobs') is null then
        return;
    end if;
    insert into pgmq.q_billing_jobs (vt, message)
    select clock_timestamp(), jsonb_build_object('kind', _enqueue_jobs.kind, 'id', job.id)
    from unnest(_enqueue_jobs.ids) with ordinality as job (id, place)
    order by job.place;
end
$$;

ALTER TABLE billing.credit_entries ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME billing.credit_entries_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE FUNCTION billing._entry(account_id uuid, kind text, amount bigint, source text, key_space text, idempotency_key text, occurred_at timestamp with time zone, debt bigint DEFAULT 0, reference_id text DEFAULT NULL::text, description text DEFAULT NULL::text, metadata jsonb DEFAULT '{}'::jsonb, actor text DEFAULT NULL::text, feature text DEFAULT NULL::text, up_to bigint DEFAULT NULL::bigint, reverses_entry_id bigint DEFAULT NULL::bigint, hold_id uuid DEFAULT NULL::uuid, balance_after bigint DEFAULT NULL::bigint, id bigint DEFAULT nextval('billing.credit_entries_id_seq'::regclass)) RETURNS billing.credit_entries
    LANGUAGE sql STABLE
    AS $$
    select row(
        _entry.id, _entry.account_id, _entry.kind, _entry.amount, _entry.balance_after, _entry.debt, _entry.up_to,
        _entry.source, _entry.reference_id, _entry.description, _entry.feature, _entry.metadata, _entry.actor,
        _entry.reverses_entry_id, _entry.hold_id, _entry.key_space, _entry.idempotency_key, _entry.occurred_at, now()
    )::billing.credit_entries
$$;

CREATE TABLE billing.erasures (
    id bigint NOT NULL,
    account_id uuid,
    stripe_customer_id text,
    reason text NOT NULL,
    actor text NOT NULL,
    events_emptied bigint DEFAULT 0 NOT NULL,
    erased_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT erases_an_account_or_a_customer CHECK (((account_id IS NULL) <> (stripe_customer_id IS NULL)))
);

COMMENT ON TABLE billing.erasures IS 'Accounts and customers whose personal data was erased.';

COMMENT ON COLUMN billing.erasures.stripe_customer_id IS 'A customer that no account owned; null for an account, whose customers are erased with it.';

COMMENT ON COLUMN billing.erasures.events_emptied IS 'How many stored events lost their body.';

CREATE FUNCTION billing._erase(account_id uuid, stripe_customer_id text, reason text, actor text) RETURNS billing.erasures
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_account_id uuid := _erase.account_id;
    v_customers text[] := billing._customers_of_person(v_account_id, _erase.stripe_customer_id);
    v_names text[] := billing._emails_of_person(v_account_id, v_customers);
    v_owner_id uuid := (
        select accounts.owner_id from billing.accounts where accounts.id = v_account_id and accounts.kind = 'personal'
    );
    v_erasure billing.erasures;
    v_ids text[];
    v_event_ids text[];
begin
    perform billing._check_reason(_erase.reason, _erase.actor);
    select * into v_erasure from billing.erasures
    where erasures.account_id = v_account_id or erasures.stripe_customer_id = _erase.stripe_customer_id;
    if found then
        return v_erasure;
    end if;
    perform billing._check_erasable(v_account_id, _erase.stripe_customer_id);
    v_ids := billing._ids_in_events(v_account_id, v_customers);
    v_event_ids := billing._lock_events_of_person(v_ids, v_names);
    if v_account_id is not null then
        perform billing._lock_balance(v_account_id);
        -- Nobody makes the person the only owner of a team meanwhile.
        perform from billing.accounts
        where accounts.id in (
            select account_members.account_id from billing.account_members where account_members.user_id = v_owner_id
        )
        order by accounts.id
        for no key update;
        -- Again, because they can have changed before the lock.
        perform billing._check_erasable(v_account_id, null);
        v_event_ids := v_event_ids
            || billing._lock_events_of_person(v_ids, v_names, now() - interval '1 minute');
        perform billing.close_account(v_account_id, 'erased', _erase.actor);
    end if;
    insert into billing.erasures (account_id, stripe_customer_id, reason, actor, events_emptied)
    values (
        v_account_id, _erase.stripe_customer_id, _erase.reason, _erase.actor, billing._empty_events(v_event_ids)
    )
    on conflict do nothing
    returning * into v_erasure;
    if not found then
        select * into strict v_erasure from billing.erasures
        where erasures.account_id = v_account_id or erasures.stripe_customer_id = _erase.stripe_customer_id;
        return v_erasure;
    end if;

    perform billing._skip_erased_notifications(v_account_id, 'administrators');
    perform billing._erase_rows(v_account_id, _erase.stripe_customer_id, v_names || v_owner_id::text);
    delete from billing.account_members where account_members.user_id = v_owner_id;
    update billing.checkout_requests set user_id = null where checkout_requests.user_id = v_owner_id;
    return v_erasure;
end
$$;

CREATE FUNCTION billing._erase_rows(account_id uuid, stripe_customer_id text, names text[] DEFAULT '{}'::text[]) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_account_id uuid := _erase_rows.account_id;
    v_customers text[] := billing._customers_of_person(v_account_id, _erase_rows.stripe_customer_id);
    v_charges text[];
begin
    update billing.accounts
    set name = null, owner_id = null, updated_at = now(),
        frozen_reason = case when accounts.frozen_reason is not null then 'erased' end
    where accounts.id = v_account_id
        and (accounts.name is not null or accounts.owner_id is not null or accounts.frozen_reason <> 'erased');
    delete from billing.account_members where account_members.account_id = v_account_id;
    delete from billing.team_invitations
    where team_invitations.account_id = v_account_id or team_invitations.email = any (_erase_rows.names);

    update billing.customers
    set email = null, name = null, metadata = '{}', updated_at = now(),
        dismissed_reason = case when customers.dismissed_reason is not null then 'erased' end,
        dismissed_by = billing._without_names(customers.dismissed_by, _erase_rows.names)
    where (customers.account_id = v_account_id or customers.stripe_customer_id = any (v_customers))
        and (
            customers.email is not null or customers.name is not null or customers.metadata <> '{}'
            or customers.dismissed_reason <> 'erased'
            or billing._without_names(customers.dismissed_by, _erase_rows.names) <> customers.dismissed_by
        );
    update billing.customer_claims set email = null, name = null, updated_at = now()
    where customer_claims.account_id = v_account_id
        and (customer_claims.email is not null or customer_claims.name is not null);
    perform billing._drop_jobs('email_change', v_customers) where exists (
        select from billing.customer_email_changes where customer_email_changes.stripe_customer_id = any (v_customers)
    );
    delete from billing.customer_email_changes where customer_email_changes.stripe_customer_id = any (v_customers);
    delete from billing.saved_cards where saved_cards.stripe_customer_id = any (v_customers);
    if billing._seen_card_policy() = 'grant' then
        delete from billing.card_fingerprints where card_fingerprints.stripe_customer_id = any (v_customers);
    end if;

    update billing.subscriptions set metadata = '{}', updated_at = now()
    where (subscriptions.account_id = v_account_id or subscriptions.stripe_customer_id = any (v_customers))
        and subscriptions.metadata <> '{}';
    update billing.invoices set hosted_invoice_url = null, updated_at = now()
    where (invoices.account_id = v_account_id or invoices.stripe_customer_id = any (v_customers))
        and invoices.hosted_invoice_url is not null;
    update billing.checkout_sessions set client_reference_id = null, updated_at = now()
    where (checkout_sessions.account_id = v_account_id or checkout_sessions.stripe_customer_id = any (v_customers))
        and checkout_sessions.client_reference_id is not null;
    update billing.checkout_requests set params = '{}', user_id = null
    where checkout_requests.account_id = v_account_id
        and (checkout_requests.params <> '{}' or checkout_requests.user_id is not null);
    delete from billing.stripe_requests where stripe_requests.account_id = v_account_id;

    update billing.payments set card_fingerprint = null, receipt_url = null, updated_at = now()
    where (payments.account_id = v_account_id or payments.stripe_customer_id = any (v_customers))
        and (payments.card_fingerprint is not null or payments.receipt_url is not null);
    v_charges := array(
        select payments.stripe_charge_id from billing.payments
        where payments.account_id = v_account_id or payments.stripe_customer_id = any (v_customers)
    );
    update billing.fraud_warnings set notes = null, updated_at = now()
    where fraud_warnings.stripe_charge_id = any (v_charges) and fraud_warnings.notes is not null;
    update billing.fraud_actions
    set reason = 'erased', last_error = null, updated_at = now(),
        undone_reason = case when fraud_actions.undone_reason is not null then 'erased' end,
        actor = billing._without_names(fraud_actions.actor, _erase_rows.names),
        undone_by = billing._without_names(fraud_actions.undone_by, _erase_rows.names)
    where (fraud_actions.account_id = v_account_id or fraud_actions.stripe_charge_id = any (v_charges))
        and (
            fraud_actions.reason <> 'erased' or fraud_actions.undone_reason <> 'erased'
            or fraud_actions.last_error is not null
            or billing._without_names(fraud_actions.actor, _erase_rows.names) <> fraud_actions.actor
            or billing._without_names(fraud_actions.undone_by, _erase_rows.names) <> fraud_actions.undone_by
        );
    update billing.held_credits
    set description = null, updated_at = now(),
        reason = case when held_credits.reason is not null then 'erased' end,
        reviewed_by = billing._without_names(held_credits.reviewed_by, _erase_rows.names),
        card_fingerprint = case
            when billing._seen_card_policy() = 'grant' then 'erased' else held_credits.card_fingerprint
        end
    where held_credits.account_id = v_account_id
        and (
            held_credits.description is not null or held_credits.reason <> 'erased'
            or billing._without_names(held_credits.reviewed_by, _erase_rows.names) <> held_credits.reviewed_by
        );

    update billing.credit_entries
    set description = null, metadata = '{}',
        actor = billing._without_names(credit_entries.actor, _erase_rows.names)
    where credit_entries.account_id = v_account_id
        and (
            credit_entries.description is not null or credit_entries.metadata::jsonb <> '{}'
            or billing._without_names(credit_entries.actor, _erase_rows.names) <> credit_entries.actor
        );
    update billing.credit_grants set description = null
    where credit_grants.account_id = v_account_id and credit_grants.description is not null;
    update billing.credit_holds set description = null, metadata = '{}'
    where credit_holds.account_id = v_account_id
        and (credit_holds.description is not null or credit_holds.metadata::jsonb <> '{}');
    update billing.credit_revocations
    set reason = 'erased', actor = billing._without_names(credit_revocations.actor, _erase_rows.names)
    where credit_revocations.account_id = v_account_id
        and (
            credit_revocations.reason <> 'erased'
            or billing._without_names(credit_revocations.actor, _erase_rows.names) <> credit_revocations.actor
        );
    update billing.credit_reinstatements
    set reason = 'erased', actor = billing._without_names(credit_reinstatements.actor, _erase_rows.names)
    where credit_reinstatements.account_id = v_account_id
        and (
            credit_reinstatements.reason <> 'erased'
            or billing._without_names(credit_reinstatements.actor, _erase_rows.names) <> credit_reinstatements.actor
        );
    update billing.pack_purchases set description = null
    where pack_purchases.account_id = v_account_id and pack_purchases.description is not null;
    delete from billing.recharge_settings where recharge_settings.account_id = v_account_id;
    update billing.recharges set return_url = null, action_url = null, last_error = null, updated_at = now()
    where recharges.account_id = v_account_id
        and (recharges.return_url is not null or recharges.action_url is not null or recharges.last_error is not null);

    -- A dispute that is opened later must still reach the administrators: their open notifications stay.
    perform billing._skip_erased_notifications(v_account_id, 'customer');
    update billing.notifications
    set payload = '{}', last_error = case when notifications.last_error is not null then 'erased' end
    where notifications.account_id = v_account_id and notifications.status not in ('queued', 'sending')
        and (notifications.payload <> '{}' or notifications.last_error <> 'erased');
end
$$;

CREATE FUNCTION billing._events_of_person(stripe_ids text[], emails text[], received_from timestamp with time zone DEFAULT '-infinity'::timestamp with time zone) RETURNS TABLE(stripe_event_id text, status text, has_id boolean)
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select events.stripe_event_id, events.status, found.has_id
    -- All ids at once, as keys: a search for each would read the body again and again.
    from (
        select coalesce(jsonb_object_agg(named.id, true), '{}') as ids
        from unnest(_events_of_person.stripe_ids) as named (id)
        where named.id is not null
    ) as person
    cross join billing.stripe_events as events
    cross join lateral (
        select person.ids ?| array(
            select named.match[1]
            from pg_catalog.regexp_matches(
                events.payload, '"((?:cus|ch|py|pi|in)_[A-Za-z0-9_]+)"', 'g'
            ) as named (match)
        ) as has_id
    ) as found
    where events.payload <> '' and events.received_at >= _events_of_person.received_from and (
        found.has_id
        or pg_catalog.strpos(events.payload, '"cus_') = 0 and exists (
            select from unnest(_events_of_person.emails) as named (email)
            where pg_catalog.strpos(lower(events.payload), to_json(named.email)::text) > 0
        )
    )
$$;

CREATE FUNCTION billing._expire_beyond_cap(account_id uuid, stripe_subscription_item_id text, cap bigint, slot_start timestamp with time zone) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_balance billing.credit_balances := billing._lock_settled_balance(_expire_beyond_cap.account_id);
    v_entries billing.credit_entries[];
    v_takes billing.credit_consumptions[];
begin
    with lots as (
        select
            credit_grants.*, credit_grants.remaining - credit_grants.held as free,
            sum(credit_grants.remaining - credit_grants.held) over () - _expire_beyond_cap.cap as excess,
            sum(credit_grants.remaining - credit_grants.held) over (
                order by credit_grants.effective_at, credit_grants.id
            ) as upper
        from billing.credit_grants
        where credit_grants.account_id = _expire_beyond_cap.account_id and credit_grants.closed_at is null
            and credit_grants.source in ('stripe.monthly_allocation', 'stripe.proration')
            and credit_grants.stripe_subscription_item_id = _expire_beyond_cap.stripe_subscription_item_id
            and credit_grants.effective_at < _expire_beyond_cap.slot_start
            and credit_grants.remaining > credit_grants.held
            and not exists (
                select from billing.invoices
                where invoices.stripe_invoice_id = credit_grants.stripe_invoice_id
                    and invoices.paid_at > _expire_beyond_cap.slot_start
            )
    ),
    due as (
        select
            nextval('billing.credit_entries_id_seq') as expiry_id, lots.*,
            least(lots.free, lots.excess - (lots.upper - lots.free))::bigint as expiring
        from lots where lots.upper - lots.free < lots.excess
        order by lots.upper
    )
    select
        array_agg(billing._entry(
            id => due.expiry_id, account_id => due.account_id, kind => 'expiry', amount => -due.expiring,
            source => due.source, reference_id => due.reference_id,
            description => pg_catalog.format('More than %s carried over', _expire_beyond_cap.cap),
            key_space => 'system',
            idempotency_key => pg_catalog.format('expiry:%s:%s', due.id, billing._last_entry_id(due.account_id)),
            occurred_at => billing.current_time()
        ) order by due.expiry_id),
        array_agg(row(due.expiry_id, due.id, due.expiring)::billing.credit_consumptions)
    into v_entries, v_takes
    from due;
    if cardinality(v_entries) > 0 then
        perform billing._post_entries(v_balance, v_entries, takes => v_takes);
    end if;
end
$$;

CREATE FUNCTION billing._expiry_key(lot billing.credit_grants) RETURNS text
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    return format('expiry:%s:%s', (_expiry_key.lot).id, (
        select max(credit_entries.id) from billing.credit_entries
        where credit_entries.account_id = (_expiry_key.lot).account_id
    ));
end
$$;

CREATE FUNCTION billing._export(account_id uuid, stripe_customer_id text) RETURNS TABLE(section text, data jsonb)
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_account_id uuid := _export.account_id;
    v_customers text[] := billing._customers_of_person(v_account_id, _export.stripe_customer_id);
    v_emails text[] := billing._emails_of_person(v_account_id, v_customers);
    v_subscriptions text[];
    v_invoices text[];
    v_sessions text[];
    v_charges text[];
    v_intents text[];
    v_events text[];
begin
    return query select 'accounts', to_jsonb(accounts) from billing.accounts where accounts.id = v_account_id;
    return query
    select 'user', jsonb_build_object(
        'id', users.id, 'email', users.email, 'created_at', users.created_at, 'user_metadata', users.raw_user_meta_data
    )
    from billing.accounts join auth.users on users.id = accounts.owner_id where accounts.id = v_account_id;
    return query
    select 'account_members', to_jsonb(members) from billing.account_members as members
    where members.account_id = v_account_id or members.user_id in (
        select accounts.owner_id from billing.accounts where accounts.id = v_account_id and accounts.kind = 'personal'
    );
    return query
    select 'team_invitations', to_jsonb(invitations) - 'token_hash' from billing.team_invitations as invitations
    where invitations.account_id = v_account_id or invitations.email = any (v_emails);
    return query
    select 'erasures', to_jsonb(erasures) from billing.erasures
    where erasures.account_id = v_account_id or erasures.stripe_customer_id = any (v_customers);
    return query
    select 'customers', to_jsonb(customers) from billing.customers
    where customers.account_id = v_account_id or customers.stripe_customer_id = any (v_customers);
    return query
    select 'customer_claims', to_jsonb(claims) from billing.customer_claims as claims
    where claims.account_id = v_account_id;
    return query
    select 'customer_email_changes', to_jsonb(changes) from billing.customer_email_changes as changes
    where changes.stripe_customer_id = any (v_customers);
    return query
    select 'saved_cards', to_jsonb(cards) from billing.saved_cards as cards
    where cards.stripe_customer_id = any (v_customers);
    return query
    select 'card_fingerprints', to_jsonb(cards) from billing.card_fingerprints as cards
    where cards.stripe_customer_id = any (v_customers);

    select array_agg(subscriptions.stripe_subscription_id) into v_subscriptions from billing.subscriptions
    where subscriptions.account_id = v_account_id or subscriptions.stripe_customer_id = any (v_customers);
    return query
    select 'subscriptions', to_jsonb(subscriptions) from billing.subscriptions
    where subscriptions.stripe_subscription_id = any (v_subscriptions);
    return query
    select 'subscription_items', to_jsonb(items) from billing.subscription_items as items
    where items.stripe_subscription_id = any (v_subscriptions);
    return query
    select 'trial_items', to_jsonb(items) from billing.trial_items as items
    where items.stripe_subscription_id = any (v_subscriptions);
    return query
    select 'credit_schedules', to_jsonb(schedules) from billing.credit_schedules as schedules
    where schedules.stripe_subscription_id = any (v_subscriptions);

    select array_agg(invoices.stripe_invoice_id) into v_invoices from billing.invoices
    where invoices.account_id = v_account_id or invoices.stripe_customer_id = any (v_customers);
    return query
    select 'invoices', to_jsonb(invoices) from billing.invoices where invoices.stripe_invoice_id = any (v_invoices);
    return query
    select 'invoice_lines', to_jsonb(lines) from billing.invoice_lines as lines
    where lines.stripe_invoice_id = any (v_invoices);
    return query
    select 'invoice_payments', to_jsonb(paid) from billing.invoice_payments as paid
    where paid.stripe_invoice_id = any (v_invoices);
    return query
    select 'credit_notes', to_jsonb(notes) from billing.credit_notes as notes
    where notes.stripe_invoice_id = any (v_invoices);
    return query
    select 'credit_note_lines', to_jsonb(lines) from billing.credit_note_lines as lines
    join billing.credit_notes as notes using (stripe_credit_note_id)
    where notes.stripe_invoice_id = any (v_invoices);

    select array_agg(sessions.stripe_checkout_session_id), array_agg(sessions.stripe_payment_intent_id)
    into v_sessions, v_intents
    from billing.checkout_sessions as sessions
    where sessions.account_id = v_account_id or sessions.stripe_customer_id = any (v_customers);
    return query
    select 'checkout_sessions', to_jsonb(sessions) from billing.checkout_sessions as sessions
    where sessions.stripe_checkout_session_id = any (v_sessions);
    return query
    select 'checkout_line_items', to_jsonb(items) from billing.checkout_line_items as items
    where items.stripe_checkout_session_id = any (v_sessions);
    return query
    select 'checkout_requests', to_jsonb(requests) from billing.checkout_requests as requests
    where requests.account_id = v_account_id;
    return query
    select 'stripe_requests', to_jsonb(requests) from billing.stripe_requests as requests
    where requests.account_id = v_account_id;

    select array_agg(payments.stripe_charge_id), v_intents || array_agg(payments.stripe_payment_intent_id)
    into v_charges, v_intents
    from billing.payments
    where payments.account_id = v_account_id or payments.stripe_customer_id = any (v_customers);
    return query
    select 'payments', to_jsonb(payments) from billing.payments where payments.stripe_charge_id = any (v_charges);
    return query
    select 'payment_intents', to_jsonb(intents) from billing.payment_intents as intents
    where intents.stripe_payment_intent_id = any (v_intents);
    return query
    select 'refunds', to_jsonb(refunds) from billing.refunds
    where refunds.stripe_charge_id = any (v_charges) or refunds.stripe_payment_intent_id = any (v_intents);
    return query
    select 'disputes', to_jsonb(disputes) from billing.disputes where disputes.stripe_charge_id = any (v_charges);
    return query
    select 'fraud_warnings', to_jsonb(warnings) from billing.fraud_warnings as warnings
    where warnings.stripe_charge_id = any (v_charges);
    return query
    select 'reviews', to_jsonb(reviews) from billing.reviews
    where reviews.stripe_charge_id = any (v_charges) or reviews.stripe_payment_intent_id = any (v_intents);
    return query
    select 'fraud_actions', to_jsonb(actions) from billing.fraud_actions as actions
    where actions.account_id = v_account_id or actions.stripe_charge_id = any (v_charges);
    return query
    select 'held_credits', to_jsonb(held) - 'matched_account_id' from billing.held_credits as held
    where held.account_id = v_account_id;

    return query
    select 'credit_balances', to_jsonb(balances) from billing.credit_balances as balances
    where balances.account_id = v_account_id;
    return query
    select 'credit_entries', to_jsonb(entries) from billing.credit_entries as entries
    where entries.account_id = v_account_id order by entries.id;
    return query
    select 'credit_grants', to_jsonb(grants) from billing.credit_grants as grants
    where grants.account_id = v_account_id order by grants.id;
    return query
    select 'credit_consumptions', to_jsonb(taken) from billing.credit_consumptions as taken
    join billing.credit_grants as grants on grants.id = taken.grant_id
    where grants.account_id = v_account_id order by taken.entry_id, taken.grant_id;
    return query
    select 'credit_holds', to_jsonb(holds) from billing.credit_holds as holds
    where holds.account_id = v_account_id order by holds.created_at;
    return query
    select 'credit_hold_lots', to_jsonb(reserved) from billing.credit_hold_lots as reserved
    join billing.credit_holds as holds on holds.id = reserved.hold_id
    where holds.account_id = v_account_id;
    return query
    select 'credit_revocations', to_jsonb(revocations) from billing.credit_revocations as revocations
    where revocations.account_id = v_account_id order by revocations.id;
    return query
    select 'credit_reinstatements', to_jsonb(reinstated) from billing.credit_reinstatements as reinstated
    where reinstated.account_id = v_account_id order by reinstated.id;
    return query
    select 'carried_credits', to_jsonb(carried) from billing.carried_credits as carried
    where carried.account_id = v_account_id;
    return query
    select 'pack_purchases', to_jsonb(packs) from billing.pack_purchases as packs
    where packs.account_id = v_account_id order by packs.purchased_at;
    return query
    select 'recharge_settings', to_jsonb(recharging) from billing.recharge_settings as recharging
    where recharging.account_id = v_account_id;
    return query
    select 'recharges', to_jsonb(recharges) from billing.recharges
    where recharges.account_id = v_account_id order by recharges.claimed_at;
    return query
    select 'found_discrepancies', to_jsonb(discrepancies) from billing.found_discrepancies as discrepancies
    where discrepancies.account_id = v_account_id;
    return query
    select 'notifications', to_jsonb(notifications) from billing.notifications
    where notifications.account_id = v_account_id order by notifications.id;

    select array_agg(events.stripe_event_id) into v_events
    from billing._events_of_person(billing._ids_in_events(v_account_id, v_customers), v_emails) as events;
    return query
    select 'stripe_events', to_jsonb(events) from billing.stripe_events as events
    where events.stripe_event_id = any (v_events) order by events.received_at;
end
$$;

CREATE FUNCTION billing._fail_refund_action(stripe_refund_id text) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_action billing.fraud_actions;
begin
    update billing.fraud_actions
    set status = 'failed', last_error = coalesce('the refund failed: ' || refunds.failure_reason, 'the refund failed'),
        updated_at = now()
    from billing.refunds
    where fraud_actions.stripe_refund_id = _fail_refund_action.stripe_refund_id and fraud_actions.status = 'done'
        and refunds.stripe_refund_id = fraud_actions.stripe_refund_id and refunds.status in ('failed', 'canceled')
    returning fraud_actions.* into v_action;
    if found then
        perform billing._tell_of_failed_action(v_action);
    end if;
end
$$;

CREATE FUNCTION billing._first_slot(anchor timestamp with time zone, from_moment timestamp with time zone) RETURNS timestamp with time zone
    LANGUAGE sql IMMUTABLE
    AS $$
    select case
        when billing._slot(anchor, billing._slot_number(anchor, from_moment)) >= from_moment
            then billing._slot(anchor, billing._slot_number(anchor, from_moment))
        else billing._slot(anchor, billing._slot_number(anchor, from_moment) + 1)
    end
$$;

CREATE FUNCTION billing._follow_email(stripe_customer_id text, old_email text, new_email text) RETURNS void
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    insert into billing.customer_email_changes as held (stripe_customer_id, old_emails, new_email)
    values (
        _follow_email.stripe_customer_id, array[coalesce(_follow_email.old_email, '')], _follow_email.new_email
    )
    on conflict (stripe_customer_id) do update
    -- Until the change is done in Stripe, the customer may have any of the earlier addresses.
    set old_emails = case
            when held.settled_at is not null then excluded.old_emails
            else held.old_emails || held.new_email || excluded.old_emails
        end,
        new_email = excluded.new_email, settled_at = null, last_error = null, updated_at = now();
    select billing._enqueue_jobs('email_change', array[_follow_email.stripe_customer_id]);
$$;

CREATE FUNCTION billing._free_pack_key(account_id uuid, stripe_product_id text, moment timestamp with time zone) RETURNS text
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select format(
        'free_pack:%s:%s:%s', _free_pack_key.account_id, _free_pack_key.stripe_product_id,
        to_char(_free_pack_key.moment at time zone 'utc', 'YYYY-MM')
    )
$$;

CREATE FUNCTION billing._freeze(lot billing.credit_grants, amount bigint) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_hold billing.credit_holds;
begin
    insert into billing.credit_holds (
        account_id, amount, description, idempotency_key, frozen_grant_id, expires_in, expires_at
    )
    values (
        (_freeze.lot).account_id, _freeze.amount, 'Frozen by a dispute', 'dispute:' || gen_random_uuid(),
        (_freeze.lot).id, '100 years',
        coalesce((_freeze.lot).expires_at, billing.current_time() + interval '100 years')
    )
    returning * into v_hold;
    insert into billing.credit_hold_lots (hold_id, grant_id, amount) values (v_hold.id, (_freeze.lot).id, _freeze.amount);
    update billing.credit_grants set held = credit_grants.held + _freeze.amount
    where credit_grants.id = (_freeze.lot).id;
    update billing.credit_balances set held = credit_balances.held + _freeze.amount, updated_at = now()
    where credit_balances.account_id = (_freeze.lot).account_id;
    perform billing._remember_due(v_hold.account_id, v_hold.expires_at);
end
$$;

CREATE FUNCTION billing._freeze_account(account_id uuid, reason text) RETURNS void
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    with frozen as (
        update billing.accounts
        set frozen_at = billing.current_time(), frozen_reason = _freeze_account.reason, updated_at = now()
        where accounts.id = _freeze_account.account_id and accounts.frozen_at is null
        returning accounts.id, accounts.frozen_at, accounts.frozen_reason
    )
    insert into billing.notifications (account_id, audience, kind, dedupe_key, payload)
    select
        frozen.id, 'administrators', 'account_frozen', format('account_frozen:%s:%s', frozen.id, frozen.frozen_at),
        jsonb_build_object('account_id', frozen.id, 'reason', frozen.frozen_reason)
    from frozen
    on conflict (dedupe_key) do nothing
$$;

CREATE FUNCTION billing._freeze_contested(stripe_invoice_id text) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    perform billing._freeze_lots(
        billing._lots_of_invoice(_freeze_contested.stripe_invoice_id),
        billing._contested_credits(_freeze_contested.stripe_invoice_id)
    );
end
$$;

CREATE FUNCTION billing._freeze_lots(grant_ids bigint[], amount bigint) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_left bigint := _freeze_lots.amount - billing._frozen_of_lots(_freeze_lots.grant_ids);
    v_lot billing.credit_grants;
    v_part bigint;
begin
    for v_lot in
        select * from billing.credit_grants where credit_grants.id = any (_freeze_lots.grant_ids)
        order by credit_grants.effective_at desc, credit_grants.id desc
    loop
        v_part := least(v_left, v_lot.remaining - v_lot.held);
        continue when v_part <= 0;
        perform billing._freeze(v_lot, v_part);
        v_left := v_left - v_part;
    end loop;
    for v_lot in
        select * from billing.credit_grants where credit_grants.id = any (_freeze_lots.grant_ids)
        order by credit_grants.effective_at desc, credit_grants.id desc
    loop
        v_part := least(v_left, billing._spent_of_lot(v_lot) - billing._frozen_of_lots(array[v_lot.id]));
        continue when v_part <= 0;
        update billing.credit_grants set contested = credit_grants.contested + v_part where credit_grants.id = v_lot.id;
        v_left := v_left - v_part;
    end loop;
end
$$;

CREATE FUNCTION billing._frozen_of_lots(grant_ids bigint[]) RETURNS bigint
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select coalesce(sum(lots.contested + coalesce(holds.amount, 0)), 0)::bigint
    from billing.credit_grants as lots
    left join (
        select credit_holds.frozen_grant_id, sum(credit_holds.amount) as amount from billing.credit_holds
        where credit_holds.frozen_grant_id = any (_frozen_of_lots.grant_ids) and credit_holds.status = 'held'
        group by credit_holds.frozen_grant_id
    ) as holds on holds.frozen_grant_id = lots.id
    where lots.id = any (_frozen_of_lots.grant_ids)
$$;

CREATE FUNCTION billing._give_back(account_id uuid, business_key text, amount bigint) RETURNS bigint
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_left bigint := _give_back.amount;
    v_to_grant bigint := 0;
    v_revocation billing.credit_revocations;
    v_part bigint;
    v_given bigint;
begin
    -- Credits that are still carried stop being carried. If later grants were already reduced for them, the reduction
    -- stays recorded, and as many credits are granted.
    select least(v_left, -carried_credits.amount) into v_part from billing.carried_credits
    where carried_credits.business_key = _give_back.business_key and carried_credits.amount < 0;
    if v_part > 0 then
        select greatest(v_part - credit_balances.carried, 0) into v_to_grant from billing.credit_balances
        where credit_balances.account_id = _give_back.account_id;
        perform billing._carry(_give_back.account_id, _give_back.business_key, v_part - v_to_grant);
        v_left := v_left - v_part;
    end if;
    -- First shortfalls that were only recorded, of any lot: nothing is restored while more was spent than is left.
    for v_revocation in
        select * from billing.credit_revocations
        where credit_revocations.business_key = _give_back.business_key
            and credit_revocations.shortfall_policy = 'clamp_and_record'
            and credit_revocations.shortfall > credit_revocations.voided
        order by credit_revocations.id desc
    loop
        v_part := least(v_left, v_revocation.shortfall - v_revocation.voided);
        update billing.credit_revocations set voided = credit_revocations.voided + v_part
        where credit_revocations.id = v_revocation.id;
        v_left := v_left - v_part;
    end loop;
    for v_revocation in
        select * from billing.credit_revocations
        where credit_revocations.business_key = _give_back.business_key
        order by credit_revocations.id desc
    loop
        exit when v_left = 0;
        v_part := least(v_left, billing._asked_back(v_revocation));
        continue when v_part = 0;
        v_left := v_left - v_part;
        -- What was taken first, expired credits last.
        v_given := least(
            v_part,
            v_revocation.taken - v_revocation.reinstated + case v_revocation.shortfall_policy
                when 'clamp_and_record' then 0 else v_revocation.shortfall
            end
        );
        update billing.credit_revocations set voided = credit_revocations.voided + v_part - v_given
        where credit_revocations.id = v_revocation.id;
        if v_given > 0 then
            perform billing._reinstate(
                v_revocation, v_given, 'stripe', format('given_back:%s:%s', v_revocation.id, (
                    select count(*) from billing.credit_reinstatements
                    where credit_reinstatements.revocation_id = v_revocation.id
                )), 'Payment received again', 'tillbase'
            );
        end if;
    end loop;
    return v_left + v_to_grant;
end
$$;

CREATE TABLE billing.held_credits (
    id bigint NOT NULL,
    account_id uuid NOT NULL,
    kind text NOT NULL,
    amount billing.positive_credits NOT NULL,
    card_fingerprint text NOT NULL,
    matched_account_id uuid NOT NULL,
    status text DEFAULT 'pending'::text NOT NULL,
    reason text,
    reviewed_by text,
    reviewed_at timestamp with time zone,
    idempotency_key billing.idempotency_key NOT NULL,
    source text NOT NULL,
    reference_id text,
    description text,
    stripe_invoice_id text,
    stripe_subscription_item_id text,
    stripe_price_id text,
    expires_at timestamp with time zone,
    revocation_id bigint,
    held_at timestamp with time zone NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT accounts_differ CHECK ((matched_account_id <> account_id)),
    CONSTRAINT credits_are_approved_by_somebody CHECK (((status <> 'approved'::text) OR (reviewed_at IS NOT NULL))),
    CONSTRAINT kind_is_known CHECK ((kind = ANY (ARRAY['initial'::text, 'trial'::text]))),
    CONSTRAINT reviewed_credits_are_pending_no_more CHECK (((status <> 'pending'::text) OR (reviewed_at IS NULL))),
    CONSTRAINT reviews_say_who_and_why CHECK ((((reviewed_at IS NULL) = (reviewed_by IS NULL)) AND ((reviewed_at IS NULL) = (reason IS NULL)))),
    CONSTRAINT status_is_known CHECK ((status = ANY (ARRAY['pending'::text, 'approved'::text, 'refused'::text])))
);

COMMENT ON TABLE billing.held_credits IS 'Initial and trial credits under review: a card of the account was seen on another account before. The key is their business key (key space stripe); the other columns are the arguments of the grant.';

COMMENT ON COLUMN billing.held_credits.card_fingerprint IS 'The card that was seen on matched_account_id before.';

COMMENT ON COLUMN billing.held_credits.status IS 'pending: waits for an administrator. approved or refused: by reviewed_by, or refused by the policy if that is null.';

COMMENT ON COLUMN billing.held_credits.revocation_id IS 'The revocation of the credits, if they were granted before the card was reported.';

CREATE FUNCTION billing._give_held(held billing.held_credits, actor text) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_held billing.held_credits := _give_held.held;
    v_revocation billing.credit_revocations;
    v_left bigint := v_held.amount;
begin
    if v_held.revocation_id is not null then
        select * into strict v_revocation from billing.credit_revocations
        where credit_revocations.id = v_held.revocation_id;
        -- The lot moves to the period for which it is held.
        update billing.credit_grants
        set stripe_invoice_id = v_held.stripe_invoice_id,
            stripe_subscription_item_id = v_held.stripe_subscription_item_id,
            stripe_price_id = v_held.stripe_price_id,
            reference_id = v_held.reference_id
        where credit_grants.id = v_revocation.grant_id;
        -- Credits that stayed with the account, and those that a person reinstated, count.
        v_left := v_held.amount - (v_revocation.requested - v_revocation.taken) - v_revocation.reinstated;
        if least(v_left, v_revocation.taken - v_revocation.reinstated) > 0 then
            perform billing._reinstate(
                v_revocation, least(v_left, v_revocation.taken - v_revocation.reinstated), 'system',
                'approved:' || v_held.id, 'Held credits approved', _give_held.actor
            );
        end if;
        -- The rest is the difference of an earlier paid period, which grants more than the lot had.
        v_left := v_held.amount - v_revocation.requested;
        if v_left <= 0 then
            return;
        end if;
    end if;
    perform billing._grant_credits(
        account_id => v_held.account_id,
        amount => v_left,
        key_space => 'stripe',
        idempotency_key => v_held.idempotency_key
            || case when v_held.revocation_id is null then '' else ':' || v_held.stripe_invoice_id end,
        source => v_held.source,
        reference_id => v_held.reference_id,
        description => v_held.description,
        expires_at => case when v_held.expires_at > billing.current_time() then v_held.expires_at end,
        stripe_invoice_id => v_held.stripe_invoice_id,
        stripe_subscription_item_id => v_held.stripe_subscription_item_id,
        stripe_price_id => v_held.stripe_price_id,
        actor => _give_held.actor
    );
end
$$;

CREATE FUNCTION billing._give_less_reduced(account_id uuid, business_key text, amount bigint) RETURNS bigint
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_left bigint := _give_less_reduced.amount;
    v_granted bigint := 0;
    v_reduced billing.carried_credits;
    v_part bigint;
    v_item_id text;
    v_from timestamptz;
begin
    for v_reduced in
        select * from billing.carried_credits
        where carried_credits.account_id = _give_less_reduced.account_id and carried_credits.amount > 0
        order by carried_credits.created_at desc, carried_credits.business_key desc
    loop
        exit when v_left = 0;
        v_part := least(v_left, v_reduced.amount);
        v_left := v_left - v_part;
        perform billing._carry(v_reduced.account_id, v_reduced.business_key, -v_part);
        perform billing._carry(v_reduced.account_id, _give_less_reduced.business_key, v_part);
        if v_reduced.business_key !~ '^(monthly|proration):' then
            perform billing._post_purchase(v_reduced.business_key);
            continue;
        end if;
        -- The key contains the item and the start of the month.
        v_item_id := split_part(v_reduced.business_key, ':', 2);
        v_from := right(v_reduced.business_key, 20)::timestamptz;
        v_granted := v_granted + coalesce((
            select sum(billing._post_move(worth)) from billing._worth(array(
                select distinct schedules.stripe_subscription_id from billing.credit_schedules as schedules
                where schedules.account_id = v_reduced.account_id
                    and schedules.stripe_subscription_item_id = v_item_id
            ), v_from, billing._slot(v_from, 1)) as worth
            where worth.key = v_reduced.business_key
        ), 0);
    end loop;
    return v_granted;
end
$$;

CREATE FUNCTION billing._gone(credits numeric, returned numeric, paid numeric) RETURNS bigint
    LANGUAGE sql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select case
        when _gone.paid > 0 then floor(_gone.credits * least(_gone.returned, _gone.paid) / _gone.paid)::bigint else 0
    end
$$;

CREATE FUNCTION billing._grant_credits(account_id uuid, amount bigint, key_space text, idempotency_key text, source text, reference_id text, description text, metadata jsonb DEFAULT '{}'::jsonb, priority integer DEFAULT 100, effective_at timestamp with time zone DEFAULT NULL::timestamp with time zone, expires_at timestamp with time zone DEFAULT NULL::timestamp with time zone, stripe_invoice_id text DEFAULT NULL::text, stripe_subscription_item_id text DEFAULT NULL::text, stripe_price_id text DEFAULT NULL::text, stripe_checkout_session_id text DEFAULT NULL::text, stripe_payment_intent_id text DEFAULT NULL::text, kind text DEFAULT 'grant'::text, actor text DEFAULT NULL::text) RETURNS billing.credit_entries
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_balance billing.credit_balances := billing._lock_balance(_grant_credits.account_id);
    v_now timestamptz := billing.current_time();
    v_entry billing.credit_entries;
    v_lot billing.credit_grants;
begin
    select credit_entries.* into v_entry from billing.credit_entries
    where credit_entries.account_id = _grant_credits.account_id
        and credit_entries.key_space = _grant_credits.key_space
        and credit_entries.idempotency_key = _grant_credits.idempotency_key;
    if found then
        select credit_grants.* into v_lot from billing.credit_grants where credit_grants.entry_id = v_entry.id;
        if _grant_credits.key_space = 'caller' and (
            v_entry.kind, v_entry.amount, v_entry.source, v_entry.reference_id, v_entry.description, v_entry.metadata,
            v_entry.actor, v_lot.priority, v_lot.expires_at
        ) is distinct from (
            _grant_credits.kind, _grant_credits.amount, _grant_credits.source, _grant_credits.reference_id,
            _grant_credits.description, _grant_credits.metadata, _grant_credits.actor, _grant_credits.priority,
            _grant_credits.expires_at
        ) then
            perform billing._raise_key_reused(_grant_credits.idempotency_key);
        end if;
        return v_entry;
    end if;

    if not v_balance.may_spend then
        perform billing._check_open(_grant_credits.account_id);
    end if;
    if _grant_credits.key_space = 'caller' then
        if exists (
            select from billing.credit_grants
            where credit_grants.account_id = _grant_credits.account_id and credit_grants.key_space = 'caller'
                and credit_grants.idempotency_key = _grant_credits.idempotency_key
        ) then
            perform billing._raise_key_reused(_grant_credits.idempotency_key);  -- by a scheduled lot
        end if;
        perform billing._check_expiry(_grant_credits.expires_at, v_now);
    end if;

    v_entry := billing._entry(
        account_id => _grant_credits.account_id, kind => _grant_credits.kind, amount => _grant_credits.amount,
        source => _grant_credits.source, reference_id => _grant_credits.reference_id,
        description => _grant_credits.description, metadata => _grant_credits.metadata,
        actor => _grant_credits.actor, key_space => _grant_credits.key_space,
        idempotency_key => _grant_credits.idempotency_key, occurred_at => v_now
    );
    return billing._open_lot(v_balance, v_entry, billing._lot(
        account_id => v_entry.account_id, entry_id => v_entry.id, amount => v_entry.amount,
        priority => _grant_credits.priority, effective_at => coalesce(_grant_credits.effective_at, v_now),
        expires_at => _grant_credits.expires_at, source => v_entry.source, reference_id => v_entry.reference_id,
        key_space => v_entry.key_space, idempotency_key => v_entry.idempotency_key,
        stripe_invoice_id => _grant_credits.stripe_invoice_id,
        stripe_subscription_item_id => _grant_credits.stripe_subscription_item_id,
        stripe_price_id => _grant_credits.stripe_price_id,
        stripe_checkout_session_id => _grant_credits.stripe_checkout_session_id,
        stripe_payment_intent_id => _grant_credits.stripe_payment_intent_id
    ), is_scheduled => false);
end
$$;

CREATE FUNCTION billing._grant_initial(invoice billing.invoices, stripe_price_id text, stripe_subscription_item_id text, period_start timestamp with time zone) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_invoice billing.invoices := _grant_initial.invoice;
    v_terms billing.credit_terms;
    v_plan billing.plans;
    v_key text;
    v_lot record;
    v_change bigint;
begin
    select billing._once_key('initial', v_invoice.account_id, plans.stripe_product_id) into strict v_key
    from billing.plans where plans.stripe_price_id = _grant_initial.stripe_price_id;
    select credit_grants.id, credit_grants.stripe_invoice_id, credit_grants.stripe_subscription_item_id into v_lot
    from billing.credit_grants
    where credit_grants.idempotency_key = v_key and credit_grants.key_space = 'stripe';
    if found and _grant_initial.period_start
        >= billing._paid_from(v_lot.stripe_invoice_id, v_lot.stripe_subscription_item_id) then
        return;  -- nor is what is held for review of a later period
    end if;
    select * into v_plan from billing.plans where plans.stripe_price_id = _grant_initial.stripe_price_id;
    v_terms := billing._terms_at(_grant_initial.stripe_price_id, _grant_initial.period_start);
    -- The earliest paid period was before settings.credits_since.
    if exists (
        select from billing.credit_schedules as past
        join billing.plans on plans.stripe_price_id = past.stripe_price_id
        where past.account_id = v_invoice.account_id and past.counts_from > '-infinity'
            and past.counts_from > past.period_start and past.period_start <= _grant_initial.period_start
            and not past.is_change and not past.gives_back
            and billing._once_key('initial', past.account_id, plans.stripe_product_id) = v_key
    ) then
        v_change := billing._posted_credits(v_invoice.account_id, v_key);
        if v_change > 0 then
            perform billing._take_back(
                v_invoice.account_id, v_key, v_change, array[v_lot.id], 'clamp_and_record',
                'An earlier paid period gives fewer initial credits'
            );
        end if;
        -- Nor can what was held of a later period be approved any more.
        update billing.held_credits
        set status = 'refused', reason = 'An earlier period was paid for before settings.credits_since',
            reviewed_by = 'till backfill', reviewed_at = billing.current_time(), updated_at = now()
        where held_credits.idempotency_key = v_key and held_credits.reviewed_at is null;
        return;
    end if;
    if v_lot.id is null or billing._is_held(v_key) then
        if v_terms.initial_credits > 0 then
            perform billing._grant_once(
                account_id => v_invoice.account_id,
                kind => 'initial',
                idempotency_key => v_key,
                amount => v_terms.initial_credits,
                source => 'stripe.subscription',
                reference_id => v_invoice.stripe_subscription_id,
                description => 'Initial subscription credits for ' || billing._plan_name(v_plan),
                stripe_invoice_id => v_invoice.stripe_invoice_id,
                stripe_subscription_item_id => _grant_initial.stripe_subscription_item_id,
                stripe_price_id => v_plan.stripe_price_id
            );
        end if;
        return;
    elsif v_lot.stripe_invoice_id = v_invoice.stripe_invoice_id then
        return;
    end if;

    update billing.credit_grants
    set stripe_invoice_id = v_invoice.stripe_invoice_id,
        stripe_subscription_item_id = _grant_initial.stripe_subscription_item_id,
        stripe_price_id = v_plan.stripe_price_id,
        reference_id = v_invoice.stripe_subscription_id
    where credit_grants.id = v_lot.id;
    v_change := v_terms.initial_credits - billing._posted_credits(v_invoice.account_id, v_key);
    if v_change < 0 then
        perform billing._take_back(
            v_invoice.account_id, v_key, -v_change, array[v_lot.id], 'clamp_and_record',
            'An earlier paid period gives fewer initial credits'
        );
    elsif v_change > 0 then
        v_change := billing._give_back(v_invoice.account_id, v_key, v_change);
    end if;
    if v_change > 0 then
        perform billing._grant_credits(
            account_id => v_invoice.account_id,
            amount => v_change,
            key_space => 'stripe',
            idempotency_key => billing._next_lot_key(v_key),
            source => 'stripe.subscription',
            reference_id => v_invoice.stripe_subscription_id,
            description => 'Initial subscription credits for ' || billing._plan_name(v_plan),
            stripe_invoice_id => v_invoice.stripe_invoice_id,
            stripe_subscription_item_id => _grant_initial.stripe_subscription_item_id,
            stripe_price_id => v_plan.stripe_price_id
        );
    end if;
    -- Money returned of the later invoice no longer affects the lot.
    perform billing._post_returned_initial(v_invoice);
end
$$;

CREATE FUNCTION billing._grant_initial_of_invoice(invoice billing.invoices) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_paid record;
begin
    for v_paid in
        select schedules.stripe_price_id, schedules.stripe_subscription_item_id, schedules.period_start
        from billing.credit_schedules as schedules
        where schedules.stripe_invoice_id = (_grant_initial_of_invoice.invoice).stripe_invoice_id
            and not schedules.is_change
            and exists (
                select from billing.credit_terms
                where credit_terms.stripe_price_id = schedules.stripe_price_id and credit_terms.initial_credits > 0
            )
        order by schedules.stripe_subscription_item_id, schedules.period_start
    loop
        perform billing._grant_initial(
            _grant_initial_of_invoice.invoice, v_paid.stripe_price_id, v_paid.stripe_subscription_item_id,
            v_paid.period_start
        );
    end loop;
end
$$;

CREATE FUNCTION billing._grant_once(account_id uuid, kind text, idempotency_key text, amount bigint, source text, reference_id text, description text, stripe_invoice_id text, stripe_subscription_item_id text, stripe_price_id text, effective_at timestamp with time zone DEFAULT NULL::timestamp with time zone, expires_at timestamp with time zone DEFAULT NULL::timestamp with time zone) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_held billing.held_credits;
    v_seen billing.card_fingerprints;
begin
    perform billing._lock_balance(_grant_once.account_id);
    select * into v_held from billing.held_credits where held_credits.idempotency_key = _grant_once.idempotency_key;
    if found then
        update billing.held_credits
        set amount = _grant_once.amount,
            reference_id = _grant_once.reference_id,
            description = _grant_once.description,
            stripe_invoice_id = _grant_once.stripe_invoice_id,
            stripe_subscription_item_id = _grant_once.stripe_subscription_item_id,
            stripe_price_id = _grant_once.stripe_price_id,
            updated_at = now()
        where held_credits.id = v_held.id and held_credits.reviewed_at is null
            and billing._paid_from(_grant_once.stripe_invoice_id, _grant_once.stripe_subscription_item_id)
                < billing._paid_from(v_held.stripe_invoice_id, v_held.stripe_subscription_item_id);
        return;
    elsif exists (
        select from billing.credit_grants
        where credit_grants.idempotency_key = _grant_once.idempotency_key and credit_grants.key_space = 'stripe'
    ) or billing._was_given(_grant_once.account_id, _grant_once.kind, _grant_once.stripe_price_id) then
        return;
    elsif billing._seen_card_policy() <> 'grant' then
        v_seen := billing._seen_card(_grant_once.account_id, billing.current_time());
    end if;

    if v_seen.card_fingerprint is null then
        perform billing._grant_credits(
            account_id => _grant_once.account_id,
            amount => _grant_once.amount,
            key_space => 'stripe',
            idempotency_key => _grant_once.idempotency_key,
            source => _grant_once.source,
            reference_id => _grant_once.reference_id,
            description => _grant_once.description,
            effective_at => _grant_once.effective_at,
            expires_at => _grant_once.expires_at,
            stripe_invoice_id => _grant_once.stripe_invoice_id,
            stripe_subscription_item_id => _grant_once.stripe_subscription_item_id,
            stripe_price_id => _grant_once.stripe_price_id
        );
        return;
    end if;
    perform billing._check_open(_grant_once.account_id);
    v_held.account_id := _grant_once.account_id;
    v_held.kind := _grant_once.kind;
    v_held.amount := _grant_once.amount;
    v_held.card_fingerprint := v_seen.card_fingerprint;
    v_held.matched_account_id := v_seen.account_id;
    v_held.idempotency_key := _grant_once.idempotency_key;
    v_held.source := _grant_once.source;
    v_held.reference_id := _grant_once.reference_id;
    v_held.description := _grant_once.description;
    v_held.stripe_invoice_id := _grant_once.stripe_invoice_id;
    v_held.stripe_subscription_item_id := _grant_once.stripe_subscription_item_id;
    v_held.stripe_price_id := _grant_once.stripe_price_id;
    v_held.expires_at := _grant_once.expires_at;
    perform billing._set_aside(v_held);
end
$$;

CREATE FUNCTION billing._grant_trial(subscription billing.subscriptions) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_subscription billing.subscriptions := _grant_trial.subscription;
    v_item billing.trial_items;
    v_plan billing.plans;
    v_terms billing.credit_terms;
    v_lot billing.credit_grants;
    v_keys text[] := '{}';
begin
    if v_subscription.trial_start < (select settings.credits_since from billing.settings) and not exists (
        select from billing.credit_grants
        where credit_grants.account_id = v_subscription.account_id and credit_grants.source = 'stripe.trial'
            and credit_grants.reference_id = v_subscription.stripe_subscription_id
    ) then
        return;
    end if;
    for v_item in
        select trial_items.* from billing.trial_items
        where trial_items.stripe_subscription_id = v_subscription.stripe_subscription_id
            and trial_items.seen_at = (
                select min(others.seen_at) from billing.trial_items as others
                where others.stripe_subscription_id = v_subscription.stripe_subscription_id
            )
        order by trial_items.stripe_subscription_item_id, trial_items.stripe_price_id
    loop
        v_plan := billing._plan_of_line(v_subscription.stripe_subscription_id, v_item.stripe_price_id);
        v_terms := billing._terms_at(v_plan.stripe_price_id, v_item.seen_at);
        continue when coalesce(v_terms.trial_credits, 0) = 0;
        v_keys := v_keys || billing._once_key('trial', v_subscription.account_id, v_plan.stripe_product_id);
        -- A later trial was reported first: its lot moves to this one.
        update billing.credit_grants as lots
        set reference_id = v_subscription.stripe_subscription_id,
            stripe_subscription_item_id = v_item.stripe_subscription_item_id,
            stripe_price_id = v_plan.stripe_price_id,
            effective_at = least(lots.effective_at, v_subscription.trial_start)
        from billing.subscriptions as later
        where lots.key_space = 'stripe' and lots.idempotency_key = v_keys[cardinality(v_keys)]
            and later.stripe_subscription_id = lots.reference_id
            and later.stripe_subscription_id <> v_subscription.stripe_subscription_id
            and later.trial_start > v_subscription.trial_start;
        -- Or it was revoked, because the trial for which it was granted had started with another plan.
        update billing.credit_grants as lots
        set reference_id = v_subscription.stripe_subscription_id,
            stripe_subscription_item_id = v_item.stripe_subscription_item_id,
            stripe_price_id = v_plan.stripe_price_id,
            expires_at = case when v_terms.trial_end_credits = 'trial_end' then v_subscription.trial_end end
        where lots.key_space = 'stripe' and lots.idempotency_key = v_keys[cardinality(v_keys)]
            and billing._posted_credits(lots.account_id, lots.idempotency_key) = 0
        returning * into v_lot;
        if found then
            perform billing._give_back(
                v_lot.account_id, v_lot.idempotency_key, least(v_lot.amount, v_terms.trial_credits)
            );
            perform billing._remember_due(v_lot.account_id, v_lot.expires_at) where v_lot.expires_at is not null;
            continue;
        end if;
        perform billing._grant_once(
            account_id => v_subscription.account_id,
            kind => 'trial',
            idempotency_key => v_keys[cardinality(v_keys)],
            amount => v_terms.trial_credits,
            source => 'stripe.trial',
            reference_id => v_subscription.stripe_subscription_id,
            description => 'Trial credits for ' || billing._plan_name(v_plan),
            stripe_invoice_id => null,
            stripe_subscription_item_id => v_item.stripe_subscription_item_id,
            stripe_price_id => v_plan.stripe_price_id,
            effective_at => least(v_subscription.trial_start, billing.current_time()),
            expires_at => case when v_terms.trial_end_credits = 'trial_end' then v_subscription.trial_end end
        );
    end loop;

    for v_lot in
        select * from billing.credit_grants
        where credit_grants.account_id = v_subscription.account_id and credit_grants.source = 'stripe.trial'
            and credit_grants.reference_id = v_subscription.stripe_subscription_id
    loop
        if v_lot.idempotency_key <> all (v_keys) then
            -- The lot of a plan that the trial changed to: it was reported before the plan with which the trial
            -- started.
            if billing._posted_credits(v_lot.account_id, v_lot.idempotency_key) > 0 then
                perform billing._take_back(
                    v_lot.account_id, v_lot.idempotency_key, v_lot.amount, array[v_lot.id], 'clamp_and_record',
                    'The trial began with another plan'
                );
                perform billing._grant_trial(others) from billing.subscriptions as others
                where others.account_id = v_subscription.account_id and others.trial_end is not null
                    and others.stripe_subscription_id <> v_subscription.stripe_subscription_id;
            end if;
        elsif v_lot.expires_at <> v_subscription.trial_end and v_lot.closed_at is null
            and v_subscription.trial_end > v_lot.effective_at then
            -- The trial was extended or shortened.
            update billing.credit_grants set expires_at = v_subscription.trial_end where credit_grants.id = v_lot.id;
            perform billing._remember_due(v_lot.account_id, v_subscription.trial_end);
        end if;
    end loop;
end
$$;

CREATE TABLE billing.workers (
    pid integer NOT NULL,
    in_hand bigint[] DEFAULT '{}'::bigint[] NOT NULL,
    in_hand_until timestamp with time zone DEFAULT '-infinity'::timestamp with time zone NOT NULL,
    started_at timestamp with time zone DEFAULT now() NOT NULL,
    last_seen_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    stripe_key_error text,
    stripe_key_failing_since timestamp with time zone,
    CONSTRAINT failing_keys_say_since_when CHECK (((stripe_key_error IS NULL) = (stripe_key_failing_since IS NULL)))
);

COMMENT ON TABLE billing.workers IS 'Connected workers, and dead ones: by the process id of their session, the messages that each took last.';

COMMENT ON COLUMN billing.workers.in_hand_until IS 'The time-out of these messages; the worker no longer holds those with another time-out.';

COMMENT ON COLUMN billing.workers.last_seen_at IS 'The last sign of life of the worker''s loop.';

COMMENT ON COLUMN billing.workers.stripe_key_error IS 'What is wrong with the STRIPE_API_KEY of this worker; null: nothing, as far as it knows.';

CREATE FUNCTION billing._hand_back(worker billing.workers) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    update pgmq.q_stripe_events as message
    set vt = billing._due_after_death(message.read_ct - events.excused_attempts, message.enqueued_at)
    from billing.stripe_events as events
    where message.msg_id = any ((_hand_back.worker).in_hand) and message.vt = (_hand_back.worker).in_hand_until
        and events.stripe_event_id = message.message ->> 'event_id';

    update billing.stripe_lookups
    set worker_pid = null, next_attempt_at = billing._due_after_death(stripe_lookups.attempts, now())
    where stripe_lookups.worker_pid = (_hand_back.worker).pid;

    perform billing._hand_back_jobs((_hand_back.worker).pid);

    delete from billing.workers where workers.pid = (_hand_back.worker).pid;
end
$$;

CREATE FUNCTION billing._hand_back_jobs(worker_pid integer) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    update pgmq.q_billing_jobs as message
    set vt = billing._due_after_death(message.read_ct, message.enqueued_at), headers = null
    where message.headers ->> 'worker_pid' = _hand_back_jobs.worker_pid::text;
end
$$;

CREATE FUNCTION billing._has_arrived(stripe_id text) RETURNS boolean
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select
        exists (select from billing.plans where plans.stripe_price_id = _has_arrived.stripe_id)
        or exists (select from billing.credit_packs where credit_packs.stripe_price_id = _has_arrived.stripe_id)
        or exists (
            select from billing.products
            where products.stripe_product_id = _has_arrived.stripe_id and products.as_of > '-infinity'
        )
        or exists (
            select from billing.customers
            where customers.stripe_customer_id = _has_arrived.stripe_id and customers.account_id is not null
        )
$$;

CREATE FUNCTION billing._has_pg_cron() RETURNS boolean
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select coalesce(has_function_privilege(to_regprocedure('cron.schedule(text, text, text)'), 'execute'), false)
$$;

CREATE FUNCTION billing._has_pg_net() RETURNS boolean
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select coalesce(
        has_function_privilege(to_regprocedure('net.http_post(text, jsonb, jsonb, jsonb, integer)'), 'execute'), false
    )
$$;

CREATE FUNCTION billing._has_user(account_id uuid) RETURNS boolean
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select exists (
        select from billing.accounts join auth.users on users.id = accounts.owner_id
        where accounts.id = _has_user.account_id and users.deleted_at is null
    ) or exists (
        select from billing.account_members join auth.users on users.id = account_members.user_id
        where account_members.account_id = _has_user.account_id and users.deleted_at is null
    )
$$;

CREATE FUNCTION billing._hmac_sha256(key bytea, message text) RETURNS bytea
    LANGUAGE sql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    with pads as (
        select
            string_agg(decode(lpad(to_hex(get_byte(_hmac_sha256.key, place) # 54), 2, '0'), 'hex'), '' order by place)
                as inner_pad,
            string_agg(decode(lpad(to_hex(get_byte(_hmac_sha256.key, place) # 92), 2, '0'), 'hex'), '' order by place)
                as outer_pad
        from pg_catalog.generate_series(0, 63) as place
    )
    select sha256(pads.outer_pad || sha256(pads.inner_pad || convert_to(_hmac_sha256.message, 'UTF8'))) from pads
$$;

CREATE FUNCTION billing._hold_price(stripe_price_id text, name text) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    perform from billing.products
    where products.stripe_product_id in (
        select plans.stripe_product_id from billing.plans where plans.stripe_price_id = _hold_price.stripe_price_id
        union all
        select packs.stripe_product_id from billing.credit_packs as packs
        where packs.stripe_price_id = _hold_price.stripe_price_id
    )
    for share;
    perform from billing.plans where plans.stripe_price_id = _hold_price.stripe_price_id for share;
    perform from billing.credit_packs where credit_packs.stripe_price_id = _hold_price.stripe_price_id for share;
    if not exists (
        select from (
            select plans.stripe_price_id, plans.lookup_key, plans.active, plans.stripe_product_id from billing.plans
            union all
            select packs.stripe_price_id, packs.lookup_key, packs.active, packs.stripe_product_id
            from billing.credit_packs as packs
        ) as price
        join billing.products on products.stripe_product_id = price.stripe_product_id
        where price.stripe_price_id = _hold_price.stripe_price_id and price.active and products.active
            and _hold_price.name in (price.stripe_price_id, price.lookup_key)
    ) then
        raise exception '% is no longer on sale', _hold_price.name
            using errcode = 'TB042', hint = 'Try again: another price may have this lookup key now.';
    end if;
end
$$;

CREATE FUNCTION billing._ids_in_events(account_id uuid, stripe_customer_ids text[]) RETURNS text[]
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select array(
        select unnest(_ids_in_events.stripe_customer_ids)
        union
        select unnest(array[payments.stripe_charge_id, payments.stripe_payment_intent_id]) from billing.payments
        where payments.account_id = _ids_in_events.account_id
            or payments.stripe_customer_id = any (_ids_in_events.stripe_customer_ids)
        union
        select invoices.stripe_invoice_id from billing.invoices
        where invoices.account_id = _ids_in_events.account_id
            or invoices.stripe_customer_id = any (_ids_in_events.stripe_customer_ids)
    )
$$;

CREATE FUNCTION billing._in_running_period(balance billing.credit_balances) RETURNS billing.credit_balances
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_balance billing.credit_balances := _in_running_period.balance;
    v_period_start timestamptz := date_trunc(v_balance.spend_cap_period, billing.current_time(), 'UTC');
begin
    -- Only forward: a started period is never counted again.
    if coalesce(v_balance.spend_period_start < v_period_start, true) then
        v_balance.spend_period_start := v_period_start;
        v_balance.spent_in_period := 0;
    end if;
    return v_balance;
end
$$;

CREATE FUNCTION billing._invoice_rank(status text) RETURNS integer
    LANGUAGE sql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select array_position(array['draft', 'open', 'uncollectible', 'paid'], replace(_invoice_rank.status, 'void', 'paid'))
$$;

CREATE FUNCTION billing._invoices_of_payment(stripe_payment_intent_id text, stripe_charge_id text) RETURNS text[]
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select coalesce(array_agg(distinct invoice_payments.stripe_invoice_id order by invoice_payments.stripe_invoice_id), '{}')
    from billing.invoice_payments
    where invoice_payments.status = 'paid' and (
        invoice_payments.stripe_payment_intent_id = _invoices_of_payment.stripe_payment_intent_id
        or invoice_payments.stripe_charge_id = _invoices_of_payment.stripe_charge_id
    )
$$;

CREATE FUNCTION billing._is_a_step_back(held billing.subscriptions, offered billing.subscriptions, items jsonb) RETURNS boolean
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_held billing.subscriptions := _is_a_step_back.held;
    v_offered billing.subscriptions := _is_a_step_back.offered;
begin
    if v_offered.ended_at is not null then
        return false;  -- an end is final
    end if;
    return coalesce(
        v_held.ended_at is not null
        or v_offered.status in ('incomplete', 'incomplete_expired')
            and v_held.status not in ('incomplete', 'incomplete_expired')
        or v_offered.status = 'trialing' and v_held.status not in ('incomplete', 'trialing')
        or coalesce(v_offered.trial_start, '-infinity') < v_held.trial_start
        or coalesce(v_offered.trial_end, '-infinity') < v_held.trial_end
            and (v_offered.trial_end is null or v_offered.status = 'trialing')
        -- A cancellation at a time when there was none, or earlier than the one that is known.
        or v_offered.canceled_at < coalesce(v_held.canceled_at, v_held.as_of)
        or v_offered.billing_cycle_anchor < v_held.billing_cycle_anchor
            and v_offered.trial_end is not distinct from v_held.trial_end
        or v_offered.billing_cycle_anchor = v_held.billing_cycle_anchor
            and (
                select min((item ->> 'current_period_end')::timestamptz)
                from jsonb_array_elements(_is_a_step_back.items) as item
            ) < (
                select min(subscription_items.current_period_end) from billing.subscription_items
                where subscription_items.stripe_subscription_id = v_held.stripe_subscription_id
            ),
        false
    );
end
$$;

CREATE FUNCTION billing._is_active_user(user_id uuid) RETURNS boolean
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select exists (
        select from auth.users
        where users.id = _is_active_user.user_id and users.deleted_at is null
            and coalesce(users.banned_until, '-infinity') <= now()
    )
$$;

CREATE TABLE billing.credit_schedules (
    stripe_line_id text NOT NULL,
    account_id uuid NOT NULL,
    stripe_subscription_id text NOT NULL,
    stripe_subscription_item_id text NOT NULL,
    stripe_invoice_id text NOT NULL,
    stripe_price_id text NOT NULL,
    gives_back boolean NOT NULL,
    credited_line_id text,
    is_change boolean NOT NULL,
    is_free boolean NOT NULL,
    is_unpaid boolean DEFAULT false NOT NULL,
    is_plain boolean NOT NULL,
    has_returns boolean DEFAULT false NOT NULL,
    counts_from timestamp with time zone DEFAULT '-infinity'::timestamp with time zone NOT NULL,
    offsets_only boolean DEFAULT false NOT NULL,
    quantity bigint NOT NULL,
    period_start timestamp with time zone NOT NULL,
    period_end timestamp with time zone NOT NULL,
    anchor timestamp with time zone NOT NULL,
    terms_from timestamp with time zone NOT NULL,
    paid_at timestamp with time zone NOT NULL,
    ends_at timestamp with time zone NOT NULL,
    next_slot_at timestamp with time zone,
    disarmed_reason text,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT disarmed_reason_is_known CHECK ((disarmed_reason = ANY (ARRAY['paused'::text, 'collection_paused'::text, 'unpaid'::text, 'incomplete'::text, 'customer_deleted'::text, 'account_closed'::text, 'disputed'::text]))),
    CONSTRAINT only_credits_name_a_line CHECK ((gives_back OR (credited_line_id IS NULL))),
    CONSTRAINT only_credits_offset CHECK ((gives_back OR (NOT offsets_only))),
    CONSTRAINT period_ends_after_it_starts CHECK ((period_end > period_start)),
    CONSTRAINT quantity_is_not_negative CHECK ((quantity >= 0))
);

COMMENT ON TABLE billing.credit_schedules IS 'Time that was paid for each subscription item, and time that Stripe credited back.';

COMMENT ON COLUMN billing.credit_schedules.gives_back IS 'True if the line credits time that an earlier line paid for.';

COMMENT ON COLUMN billing.credit_schedules.credited_line_id IS 'The line whose time it gives back; null if that line was not paid.';

COMMENT ON COLUMN billing.credit_schedules.is_change IS 'True if Stripe created the line for a change within a period (a proration).';

COMMENT ON COLUMN billing.credit_schedules.is_free IS 'True if nothing was paid for the line: its credits are granted once for each account, product and calendar month. For a line that gives back: true if it takes nothing, because Stripe credits no money, or because the credited line was not paid and never will be.';

COMMENT ON COLUMN billing.credit_schedules.is_unpaid IS 'True if Stripe credits money for time that was not paid for (not paid yet, or free by a coupon): all of it counts at once, because the customer has the money at once.';

COMMENT ON COLUMN billing.credit_schedules.is_plain IS 'True if no other line shares its months, so they can be granted in sets.';

COMMENT ON COLUMN billing.credit_schedules.has_returns IS 'True if money of its invoice was returned or is disputed.';

COMMENT ON COLUMN billing.credit_schedules.counts_from IS 'Its time before this gives no credits, because it was paid for before settings.credits_since; infinity: none of its time does.';

COMMENT ON COLUMN billing.credit_schedules.offsets_only IS 'True if the credited line gave no credits here (counts_from): what it gives back reduces what the same change adds, and nothing else.';

COMMENT ON COLUMN billing.credit_schedules.quantity IS 'Seats; 1 for a metered price, whose quantity is usage.';

COMMENT ON COLUMN billing.credit_schedules.anchor IS 'The billing anchor: months are counted from it, in UTC.';

COMMENT ON COLUMN billing.credit_schedules.terms_from IS 'Earlier terms of the plan do not apply: the time of the purchase; -infinity if it is not known.';

COMMENT ON COLUMN billing.credit_schedules.ends_at IS 'No month starts at or after this time: the period is over, or the subscription has ended.';

COMMENT ON COLUMN billing.credit_schedules.next_slot_at IS 'Start of the next month to grant; null if none is left.';

COMMENT ON COLUMN billing.credit_schedules.disarmed_reason IS 'Why later months wait; null if they don''t.';

CREATE FUNCTION billing._is_first_change(line billing.credit_schedules, slot_start timestamp with time zone) RETURNS boolean
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_line billing.credit_schedules := _is_first_change.line;
begin
    return not v_line.gives_back and not v_line.is_free and v_line.period_start > _is_first_change.slot_start
        and not exists (
            select from billing.credit_schedules as earlier
            where earlier.stripe_subscription_id = v_line.stripe_subscription_id
                and earlier.stripe_price_id = v_line.stripe_price_id and not earlier.gives_back and not earlier.is_free
                and earlier.period_start > _is_first_change.slot_start
                and earlier.period_end > _is_first_change.slot_start
                and earlier.period_start < v_line.period_start
        );
end
$$;

CREATE TABLE billing.invoice_lines (
    stripe_line_id text NOT NULL,
    stripe_invoice_id text NOT NULL,
    stripe_subscription_id text,
    stripe_subscription_item_id text,
    stripe_price_id text,
    amount bigint NOT NULL,
    discount bigint,
    quantity bigint,
    is_proration boolean NOT NULL,
    credited_line_ids text[],
    credited_invoice_id text,
    period_start timestamp with time zone NOT NULL,
    period_end timestamp with time zone NOT NULL,
    is_waiting boolean DEFAULT false NOT NULL
);

COMMENT ON TABLE billing.invoice_lines IS 'Lines of paid invoices: what was paid, and for which period.';

COMMENT ON COLUMN billing.invoice_lines.discount IS 'Discounts on the line, in minor units; null: not reported by Stripe.';

COMMENT ON COLUMN billing.invoice_lines.quantity IS 'Seats of a licensed price; usage of a metered one.';

COMMENT ON COLUMN billing.invoice_lines.credited_line_ids IS 'The lines that a proration credits; null: none, or not reported by Stripe.';

COMMENT ON COLUMN billing.invoice_lines.credited_invoice_id IS 'The invoice of the lines that a proration credits; null: none, or not reported by Stripe.';

COMMENT ON COLUMN billing.invoice_lines.is_waiting IS 'True while the line is paid, but its subscription or price, which explains it, has not been synced.';

CREATE FUNCTION billing._is_free(line billing.invoice_lines, invoice billing.invoices) RETURNS boolean
    LANGUAGE sql IMMUTABLE
    AS $$
    select case
        when (line).discount is not null then (line).amount - (line).discount <= 0
        else (line).amount <= 0 or (invoice).total <= 0 and (invoice).subtotal > 0
    end
$$;

CREATE FUNCTION billing._is_held(idempotency_key text) RETURNS boolean
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select exists (
        select from billing.held_credits
        where held_credits.idempotency_key = _is_held.idempotency_key and held_credits.status <> 'approved'
    )
$$;

CREATE FUNCTION billing._is_kept_by_stripe(error jsonb) RETURNS boolean
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_status integer := (_is_kept_by_stripe.error ->> 'status')::integer;
begin
    return coalesce(
        v_status >= 500 or v_status <> 409 and _is_kept_by_stripe.error ->> 'type' = 'idempotency_error', false
    );
end
$$;

CREATE FUNCTION billing._is_pack(declared billing.declared_pack) RETURNS boolean
    LANGUAGE sql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select (_is_pack.declared).pack_credits is not null or (_is_pack.declared).credits_per_unit is not null
$$;

CREATE FUNCTION billing._is_plain(slot billing.line_slot) RETURNS boolean
    LANGUAGE sql IMMUTABLE
    AS $$
    select (slot).is_plain and not (slot).is_free and not (slot).has_returns
$$;

CREATE FUNCTION billing._is_within(scope text, plan billing.plans, stripe_price_id text, stripe_product_id text DEFAULT NULL::text) RETURNS boolean
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select case _is_within.scope
        when 'account' then true
        when 'product' then coalesce(
            (select plans.stripe_product_id from billing.plans where plans.stripe_price_id = _is_within.stripe_price_id),
            _is_within.stripe_product_id
        ) is not distinct from (_is_within.plan).stripe_product_id
        when 'price' then _is_within.stripe_price_id = (_is_within.plan).stripe_price_id
        else false
    end
$$;

CREATE FUNCTION billing._judge_card(card_fingerprint text, account_id uuid) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_first_seen_at timestamptz := (
        select min(card_fingerprints.first_seen_at) from billing.card_fingerprints
        where card_fingerprints.card_fingerprint = _judge_card.card_fingerprint
            and card_fingerprints.account_id = _judge_card.account_id
    );
    v_account_id uuid;
begin
    for v_account_id in
        select distinct card_fingerprints.account_id from billing.card_fingerprints
        where card_fingerprints.card_fingerprint = _judge_card.card_fingerprint
            and card_fingerprints.account_id is not null and card_fingerprints.first_seen_at >= v_first_seen_at
        order by 1
    loop
        perform billing._judge_credits(v_account_id);
    end loop;
end
$$;

CREATE FUNCTION billing._judge_credits(account_id uuid) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_held billing.held_credits;
    v_lot record;
    v_seen billing.card_fingerprints;
begin
    perform billing._lock_balance(_judge_credits.account_id);
    if exists (
        select from billing.accounts where accounts.id = _judge_credits.account_id and accounts.closed_at is not null
    ) then
        return;
    end if;

    for v_held in
        select * from billing.held_credits
        where held_credits.account_id = _judge_credits.account_id and held_credits.reviewed_at is null
        order by held_credits.id
    loop
        v_seen := billing._seen_card(_judge_credits.account_id, v_held.held_at, v_held.card_fingerprint);
        if v_seen.card_fingerprint is not null then
            update billing.held_credits
            set card_fingerprint = v_seen.card_fingerprint, matched_account_id = v_seen.account_id, updated_at = now()
            where held_credits.id = v_held.id
                and (held_credits.card_fingerprint, held_credits.matched_account_id)
                    <> (v_seen.card_fingerprint, v_seen.account_id);
        else
            -- Its own card turned out to be the earlier one: grants as if nothing had been held.
            perform billing._give_held(v_held, 'tillbase');
            delete from billing.held_credits where held_credits.id = v_held.id;
            delete from billing.notifications
            where notifications.dedupe_key = 'credits_held:' || v_held.id and notifications.status = 'queued'
                and notifications.attempts = 0 and notifications.digest_id is null;
        end if;
    end loop;

    if billing._seen_card_policy() = 'grant' then
        return;
    end if;
    for v_lot in
        select credit_grants as lot, credit_entries.occurred_at as granted_at
        from billing.credit_grants
        join billing.credit_entries on credit_entries.id = credit_grants.entry_id
        where credit_grants.account_id = _judge_credits.account_id and credit_grants.key_space = 'stripe'
            and split_part(credit_grants.idempotency_key, ':', 1) in ('initial', 'trial')
            and not exists (
                select from billing.held_credits where held_credits.idempotency_key = credit_grants.idempotency_key
            )
            and credit_grants.amount > (
                select coalesce(sum(billing._asked_back(credit_revocations)), 0)
                from billing.credit_revocations where credit_revocations.grant_id = credit_grants.id
            )
        order by credit_grants.id
    loop
        v_seen := billing._seen_card(_judge_credits.account_id, v_lot.granted_at);
        if v_seen.card_fingerprint is not null then
            perform billing._withdraw_for_review(v_lot.lot, v_seen);
        end if;
    end loop;
end
$$;

CREATE FUNCTION billing._lapsed_of_lot(lot billing.credit_grants) RETURNS bigint
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select greatest(
        (_lapsed_of_lot.lot).amount - (_lapsed_of_lot.lot).remaining
        - (billing._spent_of_lot(_lapsed_of_lot.lot) - (_lapsed_of_lot.lot).held)
        - coalesce(sum(
            -- A shortfall may be reinstated too, beyond what was taken.
            greatest(credit_revocations.taken - credit_revocations.reinstated, 0)
            + credit_revocations.requested - credit_revocations.taken - credit_revocations.shortfall
            -- A shortfall that was only recorded is voided before expired credits.
            - greatest(credit_revocations.voided - case credit_revocations.shortfall_policy
                when 'clamp_and_record' then credit_revocations.shortfall else 0
            end, 0)
        ), 0)::bigint, 0
    )
    from billing.credit_revocations where credit_revocations.grant_id = (_lapsed_of_lot.lot).id
$$;

CREATE FUNCTION billing._last_entry_id(account_id uuid) RETURNS bigint
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    return (
        select coalesce(max(credit_entries.id), 0) from billing.credit_entries
        where credit_entries.account_id = _last_entry_id.account_id
    );
end
$$;

CREATE FUNCTION billing._less_carried(account_id uuid, business_key text, amount bigint) RETURNS bigint
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_carried bigint := (
        select least(credit_balances.carried, _less_carried.amount) from billing.credit_balances
        where credit_balances.account_id = _less_carried.account_id
    );
begin
    if v_carried > 0 then
        perform billing._carry(_less_carried.account_id, _less_carried.business_key, v_carried);
    end if;
    return _less_carried.amount - v_carried;
end
$$;

CREATE FUNCTION billing._lets_lapse(entry billing.credit_entries) RETURNS boolean
    LANGUAGE sql IMMUTABLE
    AS $$
    select (_lets_lapse.entry).kind = 'expiry'
        or (_lets_lapse.entry).kind = 'adjustment' and (_lets_lapse.entry).source = 'closing'
$$;

CREATE FUNCTION billing._link_claimed_customer(account_id uuid, claim_token uuid, stripe_customer_id text) RETURNS text
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_claim billing.customer_claims;
    v_customer_id text;
begin
    perform billing._lock_balance(_link_claimed_customer.account_id);
    select * into v_claim from billing.customer_claims
    where customer_claims.account_id = _link_claimed_customer.account_id
        and customer_claims.token = _link_claimed_customer.claim_token
    for update;
    if not found then
        raise exception 'account % has no such customer claim', _link_claimed_customer.account_id
            using errcode = 'TB018', hint = 'The claim was replaced. Call billing.prepare_checkout again.';
    end if;

    v_customer_id := billing._customer_of(v_claim.account_id, v_claim.livemode);
    if v_customer_id is null then
        perform billing.link_customer(v_claim.account_id, _link_claimed_customer.stripe_customer_id, v_claim.livemode);
        v_customer_id := _link_claimed_customer.stripe_customer_id;
        -- The address may have changed since the claim was made.
        perform billing._follow_email(v_customer_id, v_claim.email, users.email)
        from billing.accounts
        join auth.users on users.id = accounts.owner_id
        where accounts.id = v_claim.account_id and users.email <> '' and users.email is distinct from v_claim.email;
    end if;
    update billing.customer_claims set stripe_customer_id = v_customer_id, may_exist = false, updated_at = now()
    where customer_claims.account_id = v_claim.account_id and customer_claims.livemode = v_claim.livemode;
    return v_customer_id;
end
$$;

CREATE FUNCTION billing._link_options(options jsonb) RETURNS jsonb
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_options jsonb;
begin
    if not coalesce(billing._are_link_options(coalesce(_link_options.options, '{}')), false) then
        raise exception 'options of a payment link must be an object of supported names'
            using errcode = 'TB061',
            hint = 'Names are Stripe''s: after_completion, allow_promotion_codes, automatic_tax, custom_fields …; see docs/how-to/payment-links.md.';
    end if;
    select jsonb_strip_nulls(
        jsonb_build_object(
            'allow_promotion_codes', case when settings.allow_promotion_codes then true end,
            'automatic_tax', case when settings.automatic_tax then '{"enabled": true}'::jsonb end,
            'billing_address_collection', settings.billing_address_collection,
            'tax_id_collection', case when settings.collect_tax_ids then '{"enabled": true}'::jsonb end
        ) || settings.payment_link_options || coalesce(_link_options.options, '{}')
    ) into strict v_options
    from billing.settings;
    if v_options #> '{after_completion,redirect}' is not null then
        perform billing._check_redirect('after_completion', v_options #>> '{after_completion,redirect,url}');
    end if;
    return v_options;
end
$$;

CREATE TABLE billing.payment_links (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    livemode boolean NOT NULL,
    stripe_price_id text NOT NULL,
    options jsonb NOT NULL,
    params jsonb NOT NULL,
    params_hash bytea NOT NULL,
    idempotency_key text NOT NULL,
    keyed_at timestamp with time zone DEFAULT now() NOT NULL,
    may_exist boolean DEFAULT false NOT NULL,
    stripe_payment_link_id text,
    url text,
    active boolean DEFAULT true NOT NULL,
    confirmed_at timestamp with time zone,
    retired_at timestamp with time zone,
    retired_reason text,
    deactivate_at timestamp with time zone,
    deactivated_at timestamp with time zone,
    last_error text,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT only_retired_links_are_deactivated CHECK (((NOT active) OR ((deactivate_at IS NULL) AND (deactivated_at IS NULL)))),
    CONSTRAINT options_are_an_object CHECK ((jsonb_typeof(options) = 'object'::text)),
    CONSTRAINT retired_links_say_when_and_why CHECK (((active = (retired_at IS NULL)) AND (active = (retired_reason IS NULL)))),
    CONSTRAINT url_comes_with_the_link CHECK (((url IS NULL) = (stripe_payment_link_id IS NULL)))
);

COMMENT ON TABLE billing.payment_links IS 'Payment Links that Tillbase created; one is active for each price and options.';

COMMENT ON COLUMN billing.payment_links.id IS 'Also in the metadata (tillbase_link) of the link that was created for this row.';

COMMENT ON COLUMN billing.payment_links.params IS 'The parameters of the request to Stripe, without the metadata.';

COMMENT ON COLUMN billing.payment_links.params_hash IS 'SHA-256 of params.';

COMMENT ON COLUMN billing.payment_links.active IS 'True while the link is offered; permanently false once the link or its price is deleted or inactive in Stripe.';

COMMENT ON COLUMN billing.payment_links.confirmed_at IS 'When Stripe last confirmed that the link is active.';

COMMENT ON COLUMN billing.payment_links.retired_reason IS 'price: changed, or no longer on sale. stripe: inactive or deleted in Stripe. duplicate: another link replaced it. caller: by till.';

COMMENT ON COLUMN billing.payment_links.deactivate_at IS 'Since when the worker has to deactivate it in Stripe; null: nothing to do.';

CREATE FUNCTION billing._link_step(link billing.payment_links, name text) RETURNS jsonb
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_calls jsonb := '[]';
begin
    -- Events report it too, so not every click needs a request to Stripe.
    if (_link_step.link).confirmed_at >= now() - interval '10 seconds' then
        return jsonb_build_object('done', jsonb_build_object('url', (_link_step.link).url));
    elsif (_link_step.link).url is not null then
        return billing._stripe_step(
            (_link_step.link).livemode,
            jsonb_build_array(billing._stripe_call(
                'get', '/v1/payment_links/' || (_link_step.link).stripe_payment_link_id, '{}', keep => '{active}'
            )),
            jsonb_build_object('check', (_link_step.link).stripe_payment_link_id, 'name', _link_step.name)
        );
    end if;
    if (_link_step.link).may_exist then
        v_calls := jsonb_build_array(billing._stripe_call(
            'get', '/v1/payment_links', '{"active": true, "limit": 100}', keep => '{id,url}',
            find => jsonb_build_object('tillbase_link', (_link_step.link).id)
        ));
    end if;
    return billing._stripe_step(
        (_link_step.link).livemode,
        v_calls || billing._stripe_call(
            'post', '/v1/payment_links',
            params => (_link_step.link).params
                || jsonb_build_object('metadata', jsonb_build_object('tillbase_link', (_link_step.link).id)),
            keep => '{id,url}',
            idempotency_key => (_link_step.link).idempotency_key
        ),
        jsonb_build_object('token', (_link_step.link).id)
    );
end
$$;

CREATE FUNCTION billing._lock_arrival(stripe_id text) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    perform pg_catalog.pg_advisory_xact_lock(
        pg_catalog.hashtextextended('billing.arrival:' || _lock_arrival.stripe_id, 0)
    );
end
$$;

CREATE FUNCTION billing._lock_balance(account_id uuid) RETURNS billing.credit_balances
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    AS $$
declare
    v_balance billing.credit_balances;
begin
    select * into v_balance from billing.credit_balances
    where uuid_hash(credit_balances.account_id) = uuid_hash(_lock_balance.account_id)
        and credit_balances.account_id is not distinct from _lock_balance.account_id
    order by credit_balances.epoch desc
    limit 1
    for update;
    if not found then
        perform billing._raise_no_account(_lock_balance.account_id);
    end if;
    return v_balance;
end
$$;

CREATE FUNCTION billing._lock_balance_soon(account_id uuid) RETURNS boolean
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET lock_timeout TO '100ms'
    AS $$
begin
    perform billing._lock_balance(_lock_balance_soon.account_id);
    return true;
exception when lock_not_available then
    return false;
end
$$;

CREATE FUNCTION billing._lock_card(card_fingerprint text) RETURNS void
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended('billing.card:' || _lock_card.card_fingerprint, 0))
$$;

CREATE TABLE billing.customers (
    id bigint NOT NULL,
    stripe_customer_id text,
    account_id uuid,
    duplicate_of text,
    livemode boolean NOT NULL,
    email text,
    name text,
    metadata jsonb DEFAULT '{}'::jsonb NOT NULL,
    as_of timestamp with time zone DEFAULT '-infinity'::timestamp with time zone NOT NULL,
    linked_at timestamp with time zone,
    deleted_at timestamp with time zone,
    dismissed_at timestamp with time zone,
    dismissed_reason text,
    dismissed_by text,
    status text GENERATED ALWAYS AS (
CASE
    WHEN (duplicate_of IS NOT NULL) THEN 'duplicate'::text
    WHEN (account_id IS NOT NULL) THEN 'linked'::text
    WHEN (dismissed_at IS NOT NULL) THEN 'dismissed'::text
    ELSE 'unlinked'::text
END) STORED NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT customer_is_known_to_us_or_to_stripe CHECK (((account_id IS NOT NULL) OR (stripe_customer_id IS NOT NULL))),
    CONSTRAINT customer_is_no_duplicate_of_itself CHECK ((duplicate_of <> stripe_customer_id)),
    CONSTRAINT dismissed_customers_say_why_and_by_whom CHECK ((((dismissed_at IS NULL) = (dismissed_reason IS NULL)) AND ((dismissed_at IS NULL) = (dismissed_by IS NULL)))),
    CONSTRAINT duplicates_have_an_account CHECK (((duplicate_of IS NULL) OR (account_id IS NOT NULL)))
);

COMMENT ON TABLE billing.customers IS 'Stripe customers and their accounts.';

COMMENT ON COLUMN billing.customers.account_id IS 'Null until link_customer, merge_customer or checkout links the customer; set once.';

COMMENT ON COLUMN billing.customers.duplicate_of IS 'For a duplicate of the same person: the customer that the account keeps. Set by merge_customer.';

COMMENT ON COLUMN billing.customers.as_of IS 'Time of the stored state: the event''s created, or the Date of Stripe''s answer.';

COMMENT ON COLUMN billing.customers.dismissed_at IS 'Since when the customer is dismissed, because it belongs to another app or environment: events that would wait for its link are ignored. Linking the customer ends this.';

COMMENT ON COLUMN billing.customers.status IS 'unlinked (no account owns it yet, and its events wait), linked, duplicate or dismissed.';

CREATE FUNCTION billing._lock_customer(stripe_customer_id text, account_id uuid, livemode boolean) RETURNS billing.customers
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_customer billing.customers;
begin
    perform billing._lock_arrival(_lock_customer.stripe_customer_id);
    insert into billing.customers (stripe_customer_id, livemode)
    values (_lock_customer.stripe_customer_id, _lock_customer.livemode)
    on conflict do nothing;
    select * into strict v_customer from billing.customers
    where customers.stripe_customer_id = _lock_customer.stripe_customer_id
    -- Not `for update`: rows that the worker writes refer to the customer, and then wait for the balance.
    for no key update;
    if v_customer.account_id <> _lock_customer.account_id then
        raise exception 'customer % belongs to another account', v_customer.stripe_customer_id
            using errcode = 'TB018', hint = 'A customer cannot move to another account. Create a new customer in Stripe.';
    end if;
    return v_customer;
end
$$;

CREATE FUNCTION billing._lock_events_of_person(stripe_ids text[], emails text[], received_from timestamp with time zone DEFAULT '-infinity'::timestamp with time zone) RETURNS text[]
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_found record;
    v_event_ids text[] := '{}';
begin
    for v_found in
        select events.stripe_event_id, events.status, named.has_id
        from billing._events_of_person(
            _lock_events_of_person.stripe_ids, _lock_events_of_person.emails, _lock_events_of_person.received_from
        ) as named
        join billing.stripe_events as events on events.stripe_event_id = named.stripe_event_id
        order by events.stripe_event_id
        for update of events
    loop
        if v_found.status in ('applied', 'ignored') then
            v_event_ids := v_event_ids || v_found.stripe_event_id;
        elsif v_found.has_id then
            raise exception 'event % is %', v_found.stripe_event_id, v_found.status
                using errcode = 'TB080', detail = v_found.stripe_event_id,
                hint = 'A queued event is applied within seconds. Retry or dismiss one that is parked or dead: `till events show` with its id says why.';
        end if;
    end loop;
    return v_event_ids;
end
$$;

CREATE FUNCTION billing._lock_hold(hold_id uuid) RETURNS billing.credit_holds
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_hold billing.credit_holds;
begin
    select * into v_hold from billing.credit_holds where credit_holds.id = _lock_hold.hold_id;
    if not found then
        raise exception 'there is no hold %', coalesce(_lock_hold.hold_id::text, 'null')
            using errcode = 'TB019', hint = 'Pass the id that hold_credits returned.';
    end if;
    if v_hold.frozen_grant_id is not null then
        raise exception 'hold % belongs to a dispute', v_hold.id
            using errcode = 'TB070', hint = 'It ends when the dispute is closed.';
    end if;
    perform billing._lock_settled_balance(v_hold.account_id);
    select * into strict v_hold from billing.credit_holds where credit_holds.id = _lock_hold.hold_id for update;
    return v_hold;
end
$$;

CREATE FUNCTION billing._lock_money(stripe_payment_intent_id text, stripe_charge_id text, stripe_invoice_id text DEFAULT NULL::text) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_invoice_ids text[];
    v_locked uuid[] := '{}';
    v_concerned uuid[];
begin
    -- An invoice never changes its account, so one pass is enough.
    if coalesce(_lock_money.stripe_payment_intent_id, _lock_money.stripe_charge_id) is null then
        perform from billing.credit_balances
        where credit_balances.account_id = (
            select invoices.account_id from billing.invoices
            where invoices.stripe_invoice_id = _lock_money.stripe_invoice_id
        )
        for update;
        if found then
            perform billing._lock_arrival(_lock_money.stripe_invoice_id);
            return;
        end if;
    end if;
    loop
        v_invoice_ids := array_remove(
            billing._invoices_of_payment(_lock_money.stripe_payment_intent_id, _lock_money.stripe_charge_id)
                || _lock_money.stripe_invoice_id, null
        );
        v_concerned := billing._accounts_of_money(
            _lock_money.stripe_payment_intent_id, _lock_money.stripe_charge_id, v_invoice_ids
        );
        perform billing._lock_balance(concerned.account_id) from unnest(v_concerned) as concerned (account_id);
        v_locked := v_locked || v_concerned;
        begin
            perform billing._lock_arrival(arrival.stripe_id)
            from unnest(
                array_remove(array[_lock_money.stripe_charge_id, _lock_money.stripe_payment_intent_id], null)
                    || v_invoice_ids
            ) with ordinality as arrival (stripe_id, place)
            order by arrival.place;
            if billing._invoices_of_payment(_lock_money.stripe_payment_intent_id, _lock_money.stripe_charge_id)
                    <@ v_invoice_ids
                and billing._accounts_of_money(
                    _lock_money.stripe_payment_intent_id, _lock_money.stripe_charge_id, v_invoice_ids
                ) <@ v_locked then
                return;
            end if;
            raise sqlstate 'TB999';
        exception when sqlstate 'TB999' then
            null;  -- the rollback released the arrivals
        end;
    end loop;
end
$$;

CREATE FUNCTION billing._lock_of_workers() RETURNS integer
    LANGUAGE sql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select hashtext('billing.workers')
$$;

CREATE TABLE billing.recharges (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    account_id uuid NOT NULL,
    status text DEFAULT 'claimed'::text NOT NULL,
    stripe_customer_id text NOT NULL,
    stripe_price_id text NOT NULL,
    credits billing.positive_credits NOT NULL,
    amount bigint NOT NULL,
    currency text NOT NULL,
    return_url text,
    idempotency_key text GENERATED ALWAYS AS ((id)::text) STORED NOT NULL,
    stripe_payment_intent_id text,
    stripe_payment_method_id text,
    reason text,
    is_final boolean DEFAULT false NOT NULL,
    action_url text,
    attempts integer DEFAULT 0 NOT NULL,
    last_error text,
    first_attempt_at timestamp with time zone,
    claimed_at timestamp with time zone NOT NULL,
    settled_at timestamp with time zone,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT amount_is_positive CHECK ((amount > 0)),
    CONSTRAINT failed_recharges_say_why CHECK (((status <> ALL (ARRAY['failed'::text, 'requires_action'::text])) OR (reason IS NOT NULL))),
    CONSTRAINT paid_recharges_name_their_payment CHECK (((status <> 'paid'::text) OR (stripe_payment_intent_id IS NOT NULL))),
    CONSTRAINT settled_recharges_say_when CHECK (((status = ANY (ARRAY['paid'::text, 'failed'::text])) = (settled_at IS NOT NULL))),
    CONSTRAINT status_is_known CHECK ((status = ANY (ARRAY['claimed'::text, 'charging'::text, 'paid'::text, 'failed'::text, 'requires_action'::text])))
);

COMMENT ON TABLE billing.recharges IS 'Auto-recharges, each at most one payment; amounts in minor units of currency.';

COMMENT ON COLUMN billing.recharges.idempotency_key IS 'The Idempotency-Key of every request to Stripe for this recharge: its id.';

COMMENT ON COLUMN billing.recharges.reason IS 'Why it failed or must be authenticated: Stripe''s decline code or code.';

COMMENT ON COLUMN billing.recharges.is_final IS 'The card was refused permanently: auto-recharge never charges this payment method again.';

COMMENT ON COLUMN billing.recharges.action_url IS 'The bank''s page on which the customer authenticates the payment.';

COMMENT ON COLUMN billing.recharges.attempts IS 'The number of requests to Stripe.';

CREATE FUNCTION billing._lock_recharge(recharge_id uuid) RETURNS billing.recharges
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_recharge billing.recharges;
begin
    select * into v_recharge from billing.recharges where recharges.id = _lock_recharge.recharge_id;
    if not found then
        raise exception 'there is no recharge %', coalesce(_lock_recharge.recharge_id::text, 'null')
            using errcode = 'TB054', hint = 'Pass the id of a row of billing.recharges.';
    end if;
    perform billing._lock_balance(v_recharge.account_id);
    select * into strict v_recharge from billing.recharges where recharges.id = _lock_recharge.recharge_id for update;
    return v_recharge;
end
$$;

CREATE FUNCTION billing._lock_settled_balance(account_id uuid) RETURNS billing.credit_balances
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_balance billing.credit_balances := billing._lock_balance(_lock_settled_balance.account_id);
begin
    if v_balance.next_due_at <= billing.current_time() then
        perform billing._settle_due(array[v_balance.account_id], billing.current_time());
        v_balance := billing._lock_balance(v_balance.account_id);
    end if;
    return v_balance;
end
$$;

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

COMMENT ON COLUMN billing.accounts.frozen_at IS 'Since when spending is refused (TB003); administrators read the reason in frozen_reason.';

CREATE FUNCTION billing._lock_team(account_id uuid, user_id uuid DEFAULT NULL::uuid, OUT team billing.accounts, OUT rank integer) RETURNS record
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    perform from auth.users
    where users.id = _lock_team.user_id or users.id in (
        select account_members.user_id from billing.account_members
        where account_members.account_id = _lock_team.account_id and account_members.role = 'owner'
    )
    order by users.id for key share;
    select * into team from billing.accounts where accounts.id = _lock_team.account_id for no key update;
    rank := case
        when billing._sees_every_account() then 3
        when not billing._is_active_user(auth.uid()) then 0
        when team.owner_id = auth.uid() then 3
        else billing._rank((
            select account_members.role from billing.account_members
            where account_members.account_id = _lock_team.account_id and account_members.user_id = auth.uid()
        ))
    end;
    -- An erased team has nobody, for good.
    if team.kind is distinct from 'team' or rank = 0 or exists (
        select from billing.erasures where erasures.account_id = team.id
    ) then
        raise exception 'there is no such team: %', _lock_team.account_id
            using errcode = 'TB076', hint = 'Pass the id of a team that you belong to. create_team makes one.';
    end if;
end
$$;

CREATE FUNCTION billing._lost_jobs() RETURNS TABLE(kind billing.job_kind, id text)
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET enable_nestloop TO 'off'
    AS $$
begin
    return query
    select needed.kind, needed.id from billing._needed_jobs() as needed
    where not exists (
        select from billing.queued_jobs() as job where job.kind = needed.kind and job.id = needed.id
    );
end
$$;

ALTER TABLE billing.credit_grants ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME billing.credit_grants_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE FUNCTION billing._lot(account_id uuid, entry_id bigint, amount bigint, effective_at timestamp with time zone, source text, reference_id text, key_space text, idempotency_key text, description text DEFAULT NULL::text, priority integer DEFAULT 100, expires_at timestamp with time zone DEFAULT NULL::timestamp with time zone, stripe_invoice_id text DEFAULT NULL::text, stripe_subscription_item_id text DEFAULT NULL::text, stripe_price_id text DEFAULT NULL::text, stripe_checkout_session_id text DEFAULT NULL::text, stripe_payment_intent_id text DEFAULT NULL::text, id bigint DEFAULT nextval('billing.credit_grants_id_seq'::regclass)) RETURNS billing.credit_grants
    LANGUAGE sql IMMUTABLE
    AS $$
    select row(
        _lot.id, _lot.account_id, _lot.entry_id, _lot.amount,
        case when _lot.entry_id is null then 0 else _lot.amount end, 0, 0, 0, 0, _lot.priority, _lot.effective_at,
        _lot.expires_at, null, _lot.source, _lot.reference_id, _lot.description, _lot.key_space, _lot.idempotency_key,
        _lot.stripe_invoice_id, _lot.stripe_subscription_item_id, _lot.stripe_price_id,
        _lot.stripe_checkout_session_id, _lot.stripe_payment_intent_id, null, 0
    )::billing.credit_grants
$$;

CREATE FUNCTION billing._lots_of_invoice(stripe_invoice_id text) RETURNS bigint[]
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    return array(
        select lots.id from billing.credit_grants as lots
        where lots.stripe_invoice_id = _lots_of_invoice.stripe_invoice_id and lots.key_space = 'stripe'
            and not lots.idempotency_key ^@ 'free:'
    );
end
$$;

CREATE FUNCTION billing._lots_of_move(move billing.credit_move) RETURNS bigint[]
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_move billing.credit_move := _lots_of_move.move;
begin
    return array(
        select lots.id from billing.credit_grants as lots
        where lots.account_id = v_move.account_id and lots.key_space = 'stripe' and lots.entry_id is not null
            and (
                lots.idempotency_key = v_move.key or lots.idempotency_key ^@ (v_move.key || '#')
                -- Free lots serve only their own key, and free moves take from no other lots.
                or not v_move.key ^@ 'free:' and not lots.idempotency_key ^@ 'free:' and case
                    when v_move.returned > 0 then lots.stripe_invoice_id = v_move.stripe_invoice_id
                    else lots.reference_id = v_move.stripe_subscription_id and lots.effective_at >= v_move.slot_start
                        and lots.source in ('stripe.monthly_allocation', 'stripe.proration')
                end
            )
        order by
            lots.idempotency_key = v_move.key or lots.idempotency_key ^@ (v_move.key || '#') desc,
            lots.effective_at <= v_move.moment desc,
            lots.stripe_subscription_item_id is not distinct from v_move.stripe_subscription_item_id desc,
            lots.effective_at desc, lots.id desc
    );
end
$$;

CREATE TABLE billing.pack_purchases (
    business_key text NOT NULL,
    account_id uuid NOT NULL,
    source text NOT NULL,
    reference_id text NOT NULL,
    description text,
    credits bigint NOT NULL,
    price bigint NOT NULL,
    stripe_price_id text,
    stripe_checkout_session_id text,
    stripe_invoice_id text,
    stripe_line_id text,
    stripe_payment_intent_id text,
    purchased_at timestamp with time zone NOT NULL,
    expires_at timestamp with time zone,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT credits_are_not_negative CHECK ((credits >= 0)),
    CONSTRAINT price_is_not_negative CHECK ((price >= 0))
);

COMMENT ON TABLE billing.pack_purchases IS 'Paid credit packs: the credits of each purchase, and its payment.';

COMMENT ON COLUMN billing.pack_purchases.credits IS '0 if the paid amount is worth less than one credit.';

COMMENT ON COLUMN billing.pack_purchases.price IS 'The paid amount after discounts, in minor units; 0: nothing was paid.';

CREATE FUNCTION billing._lots_of_purchase(purchase billing.pack_purchases) RETURNS bigint[]
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    return array(
        select lots.id from billing.credit_grants as lots
        where lots.account_id = (_lots_of_purchase.purchase).account_id and lots.key_space = 'stripe'
            and lots.entry_id is not null
            and (
                lots.idempotency_key = (_lots_of_purchase.purchase).business_key
                or lots.idempotency_key ^@ ((_lots_of_purchase.purchase).business_key || '#')
                or lots.stripe_invoice_id = (_lots_of_purchase.purchase).stripe_invoice_id
                and not lots.idempotency_key ^@ 'free:'
            )
        order by lots.idempotency_key = (_lots_of_purchase.purchase).business_key desc, lots.id desc
    );
end
$$;

CREATE FUNCTION billing._match_credits(stripe_subscription_id text, from_moment timestamp with time zone) RETURNS timestamp with time zone
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    -- Stripe finalizes and charges a renewal about an hour after it creates the draft.
    v_draft_time constant interval := '1 hour 15 minutes';
    v_change record;
    v_credited billing.credit_schedules;
    v_gives_back boolean;
    v_is_free boolean;
    v_is_unpaid boolean;
    v_offsets_only boolean;
    v_counts_from timestamptz;
    v_quantity bigint;
    v_from timestamptz;
begin
    for v_change in
        select
            schedules.stripe_line_id, schedules.stripe_invoice_id, schedules.stripe_subscription_item_id,
            schedules.stripe_price_id, schedules.period_start, schedules.is_free, schedules.counts_from,
            billing._seats(plans, lines.quantity) as quantity, lines.credited_line_ids, lines.amount,
            lines.amount >= coalesce(lines.discount, 0) as credits_no_money, lines.credited_invoice_id
        from billing.credit_schedules as schedules
        join billing.invoice_lines as lines on lines.stripe_line_id = schedules.stripe_line_id
        join billing.plans on plans.stripe_price_id = schedules.stripe_price_id
        where schedules.stripe_subscription_id = _match_credits.stripe_subscription_id and schedules.is_change
            and schedules.period_end > _match_credits.from_moment
            and (cardinality(lines.credited_line_ids) > 0 or lines.amount <= 0)
        order by schedules.period_start, lines.amount, schedules.stripe_line_id
    loop
        v_credited := null;
        if cardinality(v_change.credited_line_ids) > 0 then
            select * into v_credited from billing.credit_schedules as paid
            where paid.stripe_line_id = any (v_change.credited_line_ids)
                and paid.stripe_subscription_id = _match_credits.stripe_subscription_id
            order by paid.is_free, paid.period_start desc, paid.stripe_line_id
            limit 1;
        else
            select paid.* into v_credited from billing.credit_schedules as paid
            join billing.invoices on invoices.stripe_invoice_id = paid.stripe_invoice_id
            where paid.stripe_subscription_id = _match_credits.stripe_subscription_id
                and paid.stripe_subscription_item_id = v_change.stripe_subscription_item_id
                and paid.stripe_price_id = v_change.stripe_price_id and not paid.gives_back
                and paid.period_start <= v_change.period_start and paid.period_end > v_change.period_start
                and paid.stripe_line_id <> v_change.stripe_line_id
                -- Of its own invoice, only time that another change on it added.
                and (paid.stripe_invoice_id <> v_change.stripe_invoice_id or v_change.amount < 0 and paid.is_change)
                and (v_change.amount < 0 or paid.quantity = v_change.quantity)
                and (v_change.amount < 0 or exists (
                    select from billing.invoice_lines as added
                    where added.stripe_invoice_id = v_change.stripe_invoice_id and added.is_proration
                        and added.stripe_subscription_item_id = v_change.stripe_subscription_item_id
                        and added.stripe_line_id <> v_change.stripe_line_id and added.amount >= 0
                ))
            order by paid.quantity = v_change.quantity desc, paid.period_start desc, invoices.invoiced_at desc,
                paid.stripe_line_id
            limit 1;
        end if;
        v_quantity := billing._seats_given_back(v_change.quantity, v_change.credited_line_ids);
        v_gives_back := v_change.amount < 0 or coalesce(cardinality(v_change.credited_line_ids), 0) > 0
            or v_credited.stripe_line_id is not null;
        v_is_free := case
            when not v_gives_back then v_change.is_free
            when v_credited.stripe_line_id is not null then v_change.credits_no_money
            else v_change.credits_no_money or not exists (
                select from billing.invoices
                where invoices.stripe_invoice_id = v_change.credited_invoice_id
                    and (
                        invoices.status in ('open', 'uncollectible')
                        -- Later it has been charged, and the event of its payment or failure will arrive.
                        or invoices.status = 'draft' and v_change.period_start <= invoices.invoiced_at + v_draft_time
                    )
            )
        end;
        v_is_unpaid := v_gives_back and not v_is_free and v_credited.is_free is not false;
        v_offsets_only := coalesce(v_gives_back and v_credited.counts_from = 'infinity', false);
        -- No more is given back than the credited line gave.
        v_counts_from := case
            when v_gives_back and not v_offsets_only
                then greatest(v_change.counts_from, v_credited.counts_from)
            else v_change.counts_from
        end;
        update billing.credit_schedules
        set gives_back = v_gives_back,
            credited_line_id = v_credited.stripe_line_id,
            anchor = coalesce(v_credited.anchor, credit_schedules.anchor),
            terms_from = coalesce(v_credited.period_start, credit_schedules.terms_from),
            is_free = v_is_free,
            is_unpaid = v_is_unpaid,
            offsets_only = v_offsets_only,
            counts_from = v_counts_from,
            quantity = v_quantity,
            next_slot_at = case
                when not v_gives_back and credit_schedules.counts_from < 'infinity' then coalesce(credit_schedules.next_slot_at, credit_schedules.period_start)
            end
        where credit_schedules.stripe_line_id = v_change.stripe_line_id
            and (
                credit_schedules.credited_line_id, credit_schedules.quantity, credit_schedules.is_free,
                credit_schedules.is_unpaid, credit_schedules.offsets_only, credit_schedules.counts_from
            ) is distinct from (
                v_credited.stripe_line_id, v_quantity, v_is_free, v_is_unpaid, v_offsets_only, v_counts_from
            );
        if found then
            v_from := least(v_from, v_change.period_start);
        end if;
    end loop;

    update billing.credit_schedules as schedules set is_plain = false
    where schedules.stripe_subscription_id = _match_credits.stripe_subscription_id and schedules.is_plain
        and schedules.period_end > _match_credits.from_moment
        and (schedules.is_change or exists (
            select from billing.credit_schedules as others
            where others.stripe_subscription_id = schedules.stripe_subscription_id
                and others.period_end > schedules.period_start and others.period_start < schedules.period_end
                and others.stripe_line_id <> schedules.stripe_line_id
                and (
                    others.is_change or others.stripe_subscription_item_id = schedules.stripe_subscription_item_id
                )
        ));
    return v_from;
end
$$;

CREATE TABLE billing.account_members (
    account_id uuid NOT NULL,
    user_id uuid NOT NULL,
    role text DEFAULT 'member'::text NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT role_is_known CHECK ((role = ANY (ARRAY['owner'::text, 'admin'::text, 'member'::text])))
);

COMMENT ON TABLE billing.account_members IS 'The members of team accounts.';

CREATE FUNCTION billing._member(account_id uuid, user_id uuid) RETURNS billing.account_members
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_member billing.account_members;
begin
    select * into v_member from billing.account_members
    where account_members.account_id = _member.account_id and account_members.user_id = _member.user_id;
    if not found then
        raise exception 'this user is not a member of the team'
            using errcode = 'TB084', hint = 'team_members lists them.';
    end if;
    return v_member;
end
$$;

CREATE FUNCTION billing._metrics_count_max() RETURNS integer
    LANGUAGE sql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select 10000
$$;

CREATE FUNCTION billing._minor_digits(currency text) RETURNS integer
    LANGUAGE sql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select case
        when lower(_minor_digits.currency) in (
            'bif', 'clp', 'djf', 'gnf', 'jpy', 'kmf', 'krw', 'mga', 'pyg', 'rwf', 'vnd', 'vuv', 'xaf', 'xof', 'xpf'
        ) then 0
        when lower(_minor_digits.currency) in ('bhd', 'jod', 'kwd', 'omr', 'tnd') then 3
        else 2
    end
$$;

CREATE FUNCTION billing._missing_grants(account_id uuid) RETURNS TABLE(business_key text, credits bigint, moment timestamp with time zone, source text, reference_id text, description text, expires_at timestamp with time zone, stripe_invoice_id text, stripe_subscription_item_id text, stripe_price_id text, stripe_checkout_session_id text, stripe_payment_intent_id text)
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    return query
    with grants as (
        select
            worth.key as business_key, worth.credits, worth.moment, worth.source,
            worth.stripe_subscription_id as reference_id,
            billing._description_of_move(worth.source, billing._plan_name(plans)) as description, worth.expires_at,
            worth.stripe_invoice_id, worth.stripe_subscription_item_id, worth.stripe_price_id, null::text as session_id,
            null::text as intent_id
        from billing._worth(array(
            select distinct credit_schedules.stripe_subscription_id from billing.credit_schedules
            where credit_schedules.account_id = _missing_grants.account_id
        ), '-infinity', billing._time_of_account(_missing_grants.account_id)) as worth
        join billing.plans on plans.stripe_price_id = worth.stripe_price_id
        where not worth.is_waiting
        union all
        select
            purchases.business_key, purchases.credits - billing._returned_of_purchase(purchases),
            purchases.purchased_at, purchases.source, purchases.reference_id, purchases.description,
            purchases.expires_at, purchases.stripe_invoice_id, null, purchases.stripe_price_id,
            purchases.stripe_checkout_session_id, purchases.stripe_payment_intent_id
        from billing.pack_purchases as purchases
        where purchases.account_id = _missing_grants.account_id
        union all
        select
            initial.key, (billing._terms_at(initial.stripe_price_id, initial.period_start)).initial_credits,
            initial.period_start, 'stripe.subscription', initial.stripe_subscription_id,
            'Initial subscription credits for ' || initial.plan_name, null, initial.stripe_invoice_id,
            initial.stripe_subscription_item_id, initial.stripe_price_id, null, null
        from (
            select distinct on (1)
                billing._once_key('initial', schedules.account_id, plans.stripe_product_id) as key,
                billing._plan_name(plans) as plan_name, schedules.*
            from billing.credit_schedules as schedules
            join billing.plans on plans.stripe_price_id = schedules.stripe_price_id
            where schedules.account_id = _missing_grants.account_id
                and not schedules.is_change and not schedules.gives_back
            order by 1, schedules.period_start
        ) as initial
        where initial.counts_from <= initial.period_start
    )
    select
        grants.business_key, grants.credits - posted.credits, grants.moment, grants.source, grants.reference_id,
        grants.description, grants.expires_at, grants.stripe_invoice_id, grants.stripe_subscription_item_id,
        grants.stripe_price_id, grants.session_id, grants.intent_id
    from grants
    cross join lateral (
        select billing._posted_credits(_missing_grants.account_id, grants.business_key) as credits
    ) as posted
    where grants.credits > posted.credits or not exists (
        select from billing.credit_grants as lots
        where lots.key_space = 'stripe' and lots.idempotency_key = grants.business_key
    );
end
$$;

CREATE FUNCTION billing._moment_text(moment timestamp with time zone) RETURNS text
    LANGUAGE sql STABLE
    AS $$
    select pg_catalog.to_char(moment at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
$$;

CREATE FUNCTION billing._months(plan billing.plans) RETURNS integer
    LANGUAGE sql IMMUTABLE
    AS $$
    select (plan).recurring_interval_count * case (plan).recurring_interval when 'year' then 12 when 'month' then 1 end
$$;

CREATE FUNCTION billing._moved(balance billing.credit_balances, amount bigint, due_at timestamp with time zone DEFAULT NULL::timestamp with time zone) RETURNS billing.credit_balances
    LANGUAGE sql IMMUTABLE
    AS $$
    select row(
        (_moved.balance).account_id, (_moved.balance).balance + _moved.amount, (_moved.balance).held,
        (_moved.balance).debt, (_moved.balance).withheld, (_moved.balance).carried, (_moved.balance).written_off_debt,
        (_moved.balance).written_off_withheld, (_moved.balance).written_off_at,
        least((_moved.balance).next_due_at, _moved.due_at), (_moved.balance).may_spend, (_moved.balance).overdraft,
        (_moved.balance).spend_cap, (_moved.balance).spend_cap_period, (_moved.balance).spent_in_period,
        (_moved.balance).spend_period_start, (_moved.balance).low_balance_threshold, (_moved.balance).is_low,
        (_moved.balance).recharge_below, (_moved.balance).updated_at, (_moved.balance).epoch
    )::billing.credit_balances
$$;

CREATE FUNCTION billing._name_of_account(account_id uuid) RETURNS text
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select left(
        coalesce(
            nullif(pg_catalog.btrim(accounts.name), ''), nullif(pg_catalog.btrim(users.raw_user_meta_data ->> 'full_name'), ''),
            nullif(pg_catalog.btrim(users.raw_user_meta_data ->> 'name'), '')
        ),
        256
    )
    from billing.accounts
    left join auth.users on users.id = accounts.owner_id
    where accounts.id = _name_of_account.account_id
$$;

CREATE FUNCTION billing._needed_jobs() RETURNS TABLE(kind billing.job_kind, id text)
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select 'payment_link'::billing.job_kind, payment_links.id::text from billing.payment_links
    where payment_links.deactivate_at is not null
    union all
    select 'email_change', changes.stripe_customer_id from billing.customer_email_changes as changes
    where changes.settled_at is null
    union all
    select 'fraud_action', fraud_actions.id::text from billing.fraud_actions where fraud_actions.status = 'queued'
    union all
    select 'recharge', recharges.id::text from billing.recharges where recharges.status in ('claimed', 'charging')
    union all
    select (notifications.audience || '_notification')::billing.job_kind, notifications.id::text
    from billing.notifications where notifications.status in ('queued', 'sending')
$$;

CREATE FUNCTION billing._next_lot_key(business_key text) RETURNS text
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_number integer := 1;
    v_key text := _next_lot_key.business_key;
begin
    while exists (
        select from billing.credit_grants
        where credit_grants.key_space = 'stripe' and credit_grants.idempotency_key = v_key
    ) loop
        v_number := v_number + 1;
        v_key := format('%s#%s', _next_lot_key.business_key, v_number);
    end loop;
    return v_key;
end
$$;

CREATE FUNCTION billing._next_revocation_key(grant_id bigint) RETURNS text
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select format('returned:%s:%s', _next_revocation_key.grant_id, count(*)) from billing.credit_revocations
    where credit_revocations.grant_id = _next_revocation_key.grant_id and credit_revocations.key_space = 'stripe'
$$;

CREATE FUNCTION billing._note_payment_link(token uuid, stripe_payment_link_id text, url text) RETURNS text
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_link billing.payment_links;
begin
    select * into strict v_link from billing.payment_links where payment_links.id = _note_payment_link.token for update;
    if v_link.stripe_payment_link_id is null then
        update billing.payment_links
        set stripe_payment_link_id = _note_payment_link.stripe_payment_link_id, url = _note_payment_link.url,
            confirmed_at = now(), may_exist = false, updated_at = now(),
            deactivate_at = case when v_link.active then null else now() end
        where payment_links.id = v_link.id
        returning * into v_link;
    elsif v_link.stripe_payment_link_id <> _note_payment_link.stripe_payment_link_id then
        insert into billing.payment_links (
            livemode, stripe_price_id, options, params, params_hash, idempotency_key, stripe_payment_link_id, url,
            active, retired_at, retired_reason, deactivate_at
        )
        values (
            v_link.livemode, v_link.stripe_price_id, v_link.options, v_link.params, v_link.params_hash,
            gen_random_uuid()::text, _note_payment_link.stripe_payment_link_id,
            _note_payment_link.url, false, now(), 'duplicate', now()
        )
        on conflict on constraint payment_links_stripe_payment_link_id_key do nothing;
    elsif v_link.active then
        update billing.payment_links set confirmed_at = now(), updated_at = now()
        where payment_links.id = v_link.id;
    end if;
    return case when v_link.active then v_link.url end;
end
$$;

CREATE FUNCTION billing._note_stripe_request(account_id uuid, idempotency_key text DEFAULT (gen_random_uuid())::text) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    delete from billing.stripe_requests
    where stripe_requests.account_id = _note_stripe_request.account_id
        and stripe_requests.requested_at <= now() - interval '10 minutes';
    insert into billing.stripe_requests (account_id, idempotency_key)
    values (_note_stripe_request.account_id, _note_stripe_request.idempotency_key)
    on conflict on constraint stripe_requests_pkey do nothing;
    if (
        select count(*) > 30 from billing.stripe_requests
        where stripe_requests.account_id = _note_stripe_request.account_id
    ) then
        raise exception 'too many requests for this account'
            using errcode = 'TB049', hint = 'Try again in ten minutes.';
    end if;
end
$$;

CREATE FUNCTION billing._notify(account_id uuid, audience text, kind text, dedupe_key text, payload jsonb) RETURNS void
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    insert into billing.notifications (account_id, audience, kind, dedupe_key, payload)
    select
        _notify.account_id, _notify.audience, _notify.kind, _notify.dedupe_key, jsonb_strip_nulls(_notify.payload)
    from billing.settings
    where _notify.audience <> 'customer' or _notify.kind = any (settings.customer_notifications)
    on conflict (dedupe_key) do nothing
$$;

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
    notified_at timestamp with time zone,
    CONSTRAINT events_set_aside_say_why CHECK (((status = ANY (ARRAY['queued'::text, 'applied'::text])) OR (last_error IS NOT NULL))),
    CONSTRAINT settled_events_say_when CHECK (((status = 'queued'::text) = (settled_at IS NULL))),
    CONSTRAINT status_is_known CHECK ((status = ANY (ARRAY['queued'::text, 'applied'::text, 'ignored'::text, 'parked'::text, 'dead'::text])))
);

COMMENT ON TABLE billing.stripe_events IS 'Every signed event from Stripe, once, as received.';

COMMENT ON COLUMN billing.stripe_events.payload IS 'The original body; empty after it was deleted, settings.keep_events_days after the event was received.';

COMMENT ON COLUMN billing.stripe_events.status IS 'queued: has a message. applied: effects committed. ignored: not for this installation (mode, type, Stripe account, dismissed). parked: waits for waiting_for. dead: needs a person; last_error says what to do.';

COMMENT ON COLUMN billing.stripe_events.waiting_for IS 'The Stripe id whose arrival requeues the event.';

COMMENT ON COLUMN billing.stripe_events.created_at IS 'When the event happened in Stripe, in whole seconds.';

COMMENT ON COLUMN billing.stripe_events.notified_at IS 'When administrators were notified that the event waits for waiting_for.';

CREATE FUNCTION billing._notify_of_event(event billing.stripe_events) RETURNS void
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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

CREATE FUNCTION billing._notify_of_expiring_cards() RETURNS void
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select billing._notify(
        customers.account_id, 'customer', 'card_expiring',
        format('card_expiring:%s:%s', cards.stripe_payment_method_id, cards.expires_on),
        jsonb_build_object('brand', cards.brand, 'last4', cards.last4, 'expires_on', cards.expires_on)
    )
    from billing.settings
    join billing.saved_cards as cards on cards.livemode = settings.livemode
    join billing.customers on customers.stripe_customer_id = cards.stripe_customer_id
    where 'card_expiring' = any (settings.customer_notifications)
        and cards.expires_on > billing.current_time()::date
        and cards.expires_on <= billing.current_time()::date + interval '31 days'
        and customers.account_id is not null
        and (
            exists (
                select from billing.subscriptions
                where subscriptions.account_id = customers.account_id
                    and subscriptions.status in ('active', 'trialing', 'past_due')
            )
            or exists (
                select from billing.recharge_settings
                where recharge_settings.account_id = customers.account_id and not recharge_settings.is_paused
            )
        )
        and not exists (
            select from billing.notifications
            where notifications.dedupe_key = format('card_expiring:%s:%s', cards.stripe_payment_method_id, cards.expires_on)
        )
    limit 1000
$$;

CREATE FUNCTION billing._notify_of_queued_events() RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_first jsonb;
begin
    select jsonb_agg(to_jsonb(oldest) order by oldest.received_at) into v_first
    from (
        select
            stripe_events.stripe_event_id, stripe_events.type, stripe_events.last_error as reason,
            stripe_events.received_at
        from billing.stripe_events
        where stripe_events.status = 'queued' and stripe_events.received_at < now() - interval '1 hour'
        order by stripe_events.received_at
        limit 10
    ) as oldest;
    if v_first is null then
        return;
    end if;
    perform billing._notify(
        null, 'administrators', 'event_waiting', 'event_waiting:' || (v_first -> 0 ->> 'stripe_event_id'),
        (v_first -> 0) || jsonb_build_object('first', v_first)
    );
end
$$;

CREATE FUNCTION billing._notify_of_receipt(account_id uuid, reference_id text, credits numeric, amount bigint, currency text, url text) RETURNS void
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select billing._notify(
        _notify_of_receipt.account_id, 'customer', 'receipt', 'receipt:' || _notify_of_receipt.reference_id,
        jsonb_build_object(
            'credits', _notify_of_receipt.credits, 'amount', _notify_of_receipt.amount,
            'currency', _notify_of_receipt.currency, 'url', _notify_of_receipt.url
        )
    )
    where _notify_of_receipt.credits > 0
$$;

CREATE FUNCTION billing._notify_of_silence() RETURNS void
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select billing._notify(
        null, 'administrators', 'silence', format('silence:%s', extract(epoch from latest.received_at)),
        jsonb_build_object('last_event_at', latest.received_at, 'hours', floor(extract(epoch from now() - latest.received_at) / 3600))
    )
    from billing.settings
    cross join lateral (
        select stripe_events.received_at from billing.stripe_events
        where not stripe_events.stripe_event_id ^@ 'till_'
        order by stripe_events.received_at desc limit 1
    ) as latest
    where latest.received_at < now() - settings.silence_after and exists (
        select from billing.subscriptions
        where subscriptions.status in ('active', 'trialing', 'past_due') and subscriptions.livemode = settings.livemode
    )
$$;

CREATE FUNCTION billing._notify_of_waiting_events() RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_events billing.stripe_events[];
begin
    v_events := array(
        select stripe_events from billing.stripe_events
        where stripe_events.status in ('parked', 'dead') and stripe_events.waiting_for is not null
            and stripe_events.notified_at is null
            and stripe_events.settled_at < now() - case
                when stripe_events.status = 'dead' or billing._pays_for_credits(stripe_events.type)
                then interval '15 minutes' else interval '1 hour' end
        order by stripe_events.settled_at
        limit 1000
        for update skip locked
    );
    perform billing._notify_of_event(event) from unnest(v_events) as event
    where event.status = 'dead' or billing._pays_for_credits(event.type);

    perform billing._notify(
        null, 'administrators', 'event_waiting', 'event_waiting:' || event.waiting_for,
        jsonb_build_object(
            'stripe_event_id', event.stripe_event_id, 'type', event.type, 'reason', event.last_error,
            'waiting_for', event.waiting_for, 'received_at', event.received_at
        )
    )
    from unnest(v_events) as event
    where not (event.status = 'dead' or billing._pays_for_credits(event.type));

    update billing.stripe_events set notified_at = now()
    where stripe_events.stripe_event_id = any (array(select event.stripe_event_id from unnest(v_events) as event));
end
$$;

CREATE FUNCTION billing._obstacle_to_recharge(account_id uuid) RETURNS text
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select case
        when accounts.closed_at is not null then 'account_closed'
        when not billing._has_user(accounts.id) then 'no_user'
        when accounts.frozen_at is not null then 'account_frozen'
        when recharge_settings.is_paused then 'paused'
        when credit_balances.balance - credit_balances.held >= recharge_settings.threshold then 'not_needed'
    end
    from billing.recharge_settings
    join billing.accounts on accounts.id = recharge_settings.account_id
    join billing.credit_balances on credit_balances.account_id = recharge_settings.account_id
    where recharge_settings.account_id = _obstacle_to_recharge.account_id
$$;

CREATE FUNCTION billing._once_key(kind text, account_id uuid, stripe_product_id text) RETURNS text
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    return (select case case _once_key.kind when 'trial' then settings.one_trial_per else settings.initial_credits_per end
        when 'account' then format('%s:%s', _once_key.kind, _once_key.account_id)
        else format('%s:%s:%s', _once_key.kind, _once_key.account_id, _once_key.stripe_product_id)
    end
    from billing.settings);
end
$$;

CREATE FUNCTION billing._open_alert(kind text, subject text, payload jsonb) RETURNS boolean
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_id bigint;
begin
    insert into billing.alerts (kind, subject, payload)
    values (_open_alert.kind, _open_alert.subject, _open_alert.payload)
    on conflict do nothing
    returning alerts.id into v_id;
    if v_id is null then
        return false;
    end if;
    perform billing._notify(
        null, 'administrators', _open_alert.kind, format('%s:%s', _open_alert.kind, v_id), _open_alert.payload
    );
    return true;
end
$$;

CREATE FUNCTION billing._open_lot(balance billing.credit_balances, entry billing.credit_entries, lot billing.credit_grants, is_scheduled boolean) RETURNS billing.credit_entries
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_balance billing.credit_balances := _open_lot.balance;
    v_entry billing.credit_entries := _open_lot.entry;
    v_lot billing.credit_grants := _open_lot.lot;
    v_entries billing.credit_entries[];
    v_takes billing.credit_consumptions[] := '{}';
    v_repaid bigint := least(v_balance.debt, v_entry.amount);
    v_withheld bigint := 0;
    v_withholding billing.credit_entries;
begin
    if v_balance.balance > 9223372036854775807 - v_entry.amount then
        raise exception 'account % would exceed 9223372036854775807 credits', v_entry.account_id
            using errcode = 'TB009', hint = 'Grant less.';
    elsif v_entry.kind in ('grant', 'transfer_in') then
        v_withheld := least(v_balance.withheld, v_entry.amount - v_repaid);
    end if;

    v_entry.debt := -v_repaid;
    v_entries := array[v_entry];
    if v_repaid > 0 then
        v_takes := array[row(v_entry.id, v_lot.id, v_repaid)::billing.credit_consumptions];
    end if;
    if v_withheld > 0 then
        -- Earlier revocations could not take it: a separate entry beside the grant's.
        v_withholding := billing._entry(
            account_id => v_entry.account_id, kind => 'revocation', amount => -v_withheld,
            source => v_entry.source, reference_id => v_entry.reference_id,
            description => 'Withheld for credits taken back', reverses_entry_id => v_entry.id,
            key_space => 'system', idempotency_key => 'withheld:' || v_entry.id, occurred_at => v_entry.occurred_at
        );
        v_entries := v_entries || v_withholding;
        v_takes := v_takes || row(v_withholding.id, v_lot.id, v_withheld)::billing.credit_consumptions;
        v_balance.withheld := v_balance.withheld - v_withheld;
    end if;
    v_entries := billing._post_entries(
        v_balance, v_entries, case when _open_lot.is_scheduled then '{}' else array[v_lot] end, v_takes
    );
    return v_entries[1];
end
$$;

CREATE FUNCTION billing._open_pack(price billing.one_time_prices, declared billing.declared_pack, declared_from timestamp with time zone) RETURNS void
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    insert into billing.credit_packs (
        stripe_price_id, stripe_product_id, livemode, active, lookup_key, nickname, currency, unit_amount,
        pack_credits, credits_per_unit, expires_after, declared_from, metadata, as_of
    )
    values (
        (_open_pack.price).stripe_price_id, (_open_pack.price).stripe_product_id, (_open_pack.price).livemode,
        (_open_pack.price).active, (_open_pack.price).lookup_key, (_open_pack.price).nickname,
        (_open_pack.price).currency, (_open_pack.price).unit_amount, (_open_pack.declared).pack_credits,
        (_open_pack.declared).credits_per_unit, (_open_pack.declared).expires_after, _open_pack.declared_from,
        (_open_pack.price).metadata, (_open_pack.price).as_of
    )
$$;

CREATE FUNCTION billing._open_scheduled_lot(lot billing.credit_grants) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_lot billing.credit_grants := _open_scheduled_lot.lot;
    v_entry billing.credit_entries := billing._entry(
        account_id => v_lot.account_id, kind => 'grant', amount => v_lot.amount, source => v_lot.source,
        reference_id => v_lot.reference_id, description => v_lot.description, key_space => 'system',
        idempotency_key => 'opening:' || v_lot.id, occurred_at => v_lot.effective_at
    );
begin
    update billing.credit_grants set entry_id = v_entry.id, remaining = credit_grants.amount
    where credit_grants.id = v_lot.id;
    perform billing._open_lot(billing._lock_balance(v_lot.account_id), v_entry, v_lot, is_scheduled => true);
end
$$;

CREATE FUNCTION billing._open_shortfall(grant_id bigint) RETURNS bigint
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select coalesce((
        select sum(greatest(credit_revocations.shortfall - case credit_revocations.shortfall_policy
            when 'clamp_and_record' then credit_revocations.voided else 0
        end, 0) - credit_revocations.reinstated)
        from billing.credit_revocations where credit_revocations.grant_id = _open_shortfall.grant_id
    ), 0)::bigint - coalesce((
        select sum(credit_consumptions.amount)
        from billing.credit_grants as lots
        join billing.credit_entries as taken on taken.reverses_entry_id = lots.entry_id and taken.kind = 'revocation'
        join billing.credit_entries as given on given.reverses_entry_id = taken.id and given.kind = 'reinstatement'
        join billing.credit_consumptions
            on credit_consumptions.entry_id = given.id and credit_consumptions.grant_id = lots.id
        where lots.id = _open_shortfall.grant_id
    ), 0)::bigint
$$;

CREATE FUNCTION billing._owe_again(original billing.credit_entries, kind text, amount bigint) RETURNS billing.credit_balances
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_balance billing.credit_balances := billing._lock_balance((_owe_again.original).account_id);
    v_debt bigint := least(v_balance.written_off_debt, _owe_again.amount);
    -- A reinstatement itself ends what its own revocation withholds.
    v_withheld bigint := case _owe_again.kind
        when 'refund' then least(v_balance.written_off_withheld, _owe_again.amount - v_debt) else 0
    end;
begin
    v_balance.withheld := v_balance.withheld + v_withheld;
    v_balance.written_off_debt := v_balance.written_off_debt - v_debt;
    v_balance.written_off_withheld := v_balance.written_off_withheld - v_withheld;
    perform billing._post_entries(v_balance, case when v_debt > 0 then array[billing._entry(
        account_id => v_balance.account_id, kind => 'adjustment', amount => -v_debt, debt => v_debt,
        source => 'closing', description => 'Debt that was written off is owed again',
        reverses_entry_id => (_owe_again.original).id, key_space => 'system',
        idempotency_key => 'owed_again:' || billing._last_entry_id(v_balance.account_id),
        occurred_at => billing.current_time()
    )] else '{}' end);
    return billing._lock_balance(v_balance.account_id);
end
$$;

CREATE FUNCTION billing._owners_of_object(stripe_id text) RETURNS TABLE(account_id uuid, stripe_customer_id text)
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
declare
    v_id text := _owners_of_object.stripe_id;
    v_charge_ids text[] := array(
        select v_id
        union
        select payments.stripe_charge_id from billing.payments where payments.stripe_payment_intent_id = v_id
        union
        select refunds.stripe_charge_id from billing.refunds where refunds.stripe_refund_id = v_id
        union
        select disputes.stripe_charge_id from billing.disputes where disputes.stripe_dispute_id = v_id
        union
        select reviews.stripe_charge_id from billing.reviews where reviews.stripe_review_id = v_id
    );
begin
    return query
    select distinct coalesce(found.account_id, customers.account_id), found.stripe_customer_id
    from (
        select null::uuid as account_id, v_id as stripe_customer_id
        union all
        select subscriptions.account_id, subscriptions.stripe_customer_id from billing.subscriptions
        where subscriptions.stripe_subscription_id = v_id
        union all
        select invoices.account_id, invoices.stripe_customer_id from billing.invoices
        where invoices.stripe_invoice_id = v_id
        union all
        select invoices.account_id, invoices.stripe_customer_id from billing.invoice_payments
        join billing.invoices on invoices.stripe_invoice_id = invoice_payments.stripe_invoice_id
        where invoice_payments.stripe_payment_intent_id = v_id
        union all
        select sessions.account_id, sessions.stripe_customer_id from billing.checkout_sessions as sessions
        where sessions.stripe_checkout_session_id = v_id or sessions.stripe_payment_intent_id = v_id
        union all
        select payments.account_id, payments.stripe_customer_id from billing.payments
        where payments.stripe_charge_id = any (v_charge_ids)
        union all
        select warnings.account_id, warnings.stripe_customer_id from billing.fraud_warnings as warnings
        where warnings.stripe_early_fraud_warning_id = v_id
        union all
        select reviews.account_id, null from billing.reviews where reviews.stripe_review_id = v_id
        union all
        -- The customer that the event waits for, or is about.
        select null, coalesce(
            substring(events.waiting_for from '^cus_[A-Za-z0-9_]+$'),
            substring(events.payload from '"customer"\s*:\s*"(cus_[A-Za-z0-9_]+)"'),
            substring(events.payload from '"id"\s*:\s*"(cus_[A-Za-z0-9_]+)"')
        )
        from billing.stripe_events as events where events.stripe_event_id = v_id
    ) as found
    left join billing.customers on customers.stripe_customer_id = found.stripe_customer_id
    where coalesce(found.account_id, customers.account_id) is not null
        or customers.stripe_customer_id is not null;
end
$_$;

CREATE FUNCTION billing._pack_name(pack billing.credit_packs) RETURNS text
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select coalesce((_pack_name.pack).nickname, products.name) from billing.products
    where products.stripe_product_id = (_pack_name.pack).stripe_product_id
$$;

CREATE FUNCTION billing._paid_from(stripe_invoice_id text, stripe_subscription_item_id text) RETURNS timestamp with time zone
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    return (
        select min(invoice_lines.period_start) from billing.invoice_lines
        where invoice_lines.stripe_invoice_id = _paid_from.stripe_invoice_id and not invoice_lines.is_proration
            and invoice_lines.stripe_subscription_item_id = _paid_from.stripe_subscription_item_id
    );
end
$$;

CREATE FUNCTION billing._pause_recharge(account_id uuid, reason text) RETURNS void
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    update billing.recharge_settings
    set is_paused = true, paused_reason = _pause_recharge.reason, paused_at = billing.current_time(),
        check_again_at = null, updated_at = now()
    where recharge_settings.account_id = _pause_recharge.account_id and not recharge_settings.is_paused
$$;

CREATE FUNCTION billing._pay_recharge(recharge billing.recharges, stripe_payment_intent_id text) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_recharge billing.recharges := _pay_recharge.recharge;
    v_pack billing.credit_packs;
    v_purchase billing.pack_purchases;
begin
    update billing.recharges
    set status = 'paid', stripe_payment_intent_id = _pay_recharge.stripe_payment_intent_id, reason = null,
        is_final = false, action_url = null, settled_at = billing.current_time(),
        updated_at = now()
    where recharges.id = v_recharge.id;
    select * into v_pack from billing.credit_packs where credit_packs.stripe_price_id = v_recharge.stripe_price_id;
    v_purchase.business_key := 'recharge:' || _pay_recharge.stripe_payment_intent_id;
    v_purchase.account_id := v_recharge.account_id;
    v_purchase.source := 'stripe.recharge';
    v_purchase.reference_id := v_recharge.id::text;
    v_purchase.description := billing._pack_name(v_pack);
    v_purchase.credits := v_recharge.credits;
    v_purchase.price := v_recharge.amount;
    v_purchase.stripe_price_id := v_recharge.stripe_price_id;
    v_purchase.stripe_payment_intent_id := _pay_recharge.stripe_payment_intent_id;
    v_purchase.purchased_at := coalesce(
        billing._charged_at(_pay_recharge.stripe_payment_intent_id), billing.current_time()
    );
    v_purchase.expires_at := v_purchase.purchased_at + v_pack.expires_after;
    perform billing._purchase(v_purchase);
    perform billing._apply_returns_of_payment(_pay_recharge.stripe_payment_intent_id, null);
    -- The customer authenticated the payment: the settings that this recharge paused are resumed.
    update billing.recharge_settings set is_paused = false, paused_reason = null, paused_at = null, updated_at = now()
    where recharge_settings.account_id = v_recharge.account_id and recharge_settings.is_paused
        and recharge_settings.paused_reason = v_recharge.reason;
    perform billing._arm_recharge(v_recharge.account_id);
end
$$;

CREATE FUNCTION billing._pay_session(stripe_payment_intent_id text, amount_received bigint) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    insert into billing.payment_intents (stripe_payment_intent_id, amount_received)
    values (_pay_session.stripe_payment_intent_id, _pay_session.amount_received)
    on conflict on constraint payment_intents_pkey do nothing;
    perform billing._settle_session(_pay_session.stripe_payment_intent_id);
end
$$;

CREATE FUNCTION billing._pays_for_credits(event_type text) RETURNS boolean
    LANGUAGE sql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select _pays_for_credits.event_type in (
        'invoice.paid', 'invoice.payment_succeeded', 'checkout.session.completed', 'checkout.session.async_payment_succeeded',
        'payment_intent.succeeded'
    )
$$;

CREATE FUNCTION billing._plain_worth(stripe_subscription_ids text[], from_moment timestamp with time zone, until_moment timestamp with time zone) RETURNS SETOF billing.credit_move
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    return query
    select
        case when slots.moment > slots.slot_start then 'proration:' else 'monthly:' end
            || slots.stripe_subscription_item_id || ':' || billing._moment_text(slots.moment),
        slots.account_id, slots.stripe_subscription_id, slots.stripe_subscription_item_id,
        slots.stripe_invoice_id, slots.stripe_price_id,
        case when slots.moment > slots.slot_start then 'stripe.proration' else 'stripe.monthly_allocation' end,
        slots.moment, slots.slot_start,
        case
            when not slots.is_reached then 0
            when slots.moment > slots.slot_start and slots.proration_credits = 'none' then 0
            else floor(slots.whole_credits * slots.line_seconds / slots.slot_seconds)::bigint
        end,
        0::bigint, slots.expires_at, slots.rollover, slots.rollover_cap, slots.is_waiting
    from billing._slots_of_lines(
        _plain_worth.stripe_subscription_ids, _plain_worth.from_moment, _plain_worth.until_moment
    ) as slots
    where billing._is_plain(slots) and slots.moment >= _plain_worth.from_moment;
end
$$;

CREATE FUNCTION billing._plan_name(plan billing.plans) RETURNS text
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    return coalesce((_plan_name.plan).nickname, (
        select products.name from billing.products
        where products.stripe_product_id = (_plan_name.plan).stripe_product_id
    ));
end
$$;

CREATE FUNCTION billing._plan_of_line(stripe_id text, stripe_price_id text) RETURNS billing.plans
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_plan billing.plans;
begin
    if _plan_of_line.stripe_price_id is null then
        raise exception 'a line of % has no price', _plan_of_line.stripe_id
            using errcode = 'TB010', detail = _plan_of_line.stripe_id, hint = 'Grant the paid credits with `till credits grant`.';
    end if;
    select * into v_plan from billing.plans where plans.stripe_price_id = _plan_of_line.stripe_price_id;
    if not found then
        raise exception 'price % of % is not in billing.plans', _plan_of_line.stripe_price_id, _plan_of_line.stripe_id
            using errcode = 'TB010', detail = _plan_of_line.stripe_price_id,
            hint = 'Update the price in Stripe, so that its event adds the plan, or insert it into billing.plans. Then retry the event.';
    elsif v_plan.initial_credits + v_plan.monthly_credits + v_plan.trial_credits > 0 then
        return v_plan;
    elsif exists (
        -- The product may declare what the price doesn't, and has not been synced: sync_price created a placeholder.
        select from billing.products
        where products.stripe_product_id = v_plan.stripe_product_id and products.as_of = '-infinity'
            and products.name = products.stripe_product_id
    ) then
        raise exception 'product % of price % has not been synced yet', v_plan.stripe_product_id, v_plan.stripe_price_id
            using errcode = 'TB010', detail = v_plan.stripe_product_id,
            hint = 'Update the product in Stripe. Its event syncs the product, and this event is then retried automatically.';
    end if;
    return v_plan;
end
$$;

CREATE FUNCTION billing._portal_flow(flow text, stripe_subscription_id text, return_url text) RETURNS jsonb
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_type text := case _portal_flow.flow
        when 'cancel' then 'subscription_cancel'
        when 'update_plan' then 'subscription_update'
        when 'update_card' then 'payment_method_update'
    end;
begin
    if _portal_flow.flow is null then
        return null;
    elsif v_type is null then
        raise exception 'unknown flow'
            using errcode = 'TB048', hint = 'Use cancel, update_plan or update_card.';
    elsif _portal_flow.flow <> 'update_card' and _portal_flow.stripe_subscription_id is null then
        raise exception 'the account has no subscription to %', case _portal_flow.flow when 'cancel' then 'cancel' else 'change' end
            using errcode = 'TB047', hint = 'Leave flow out to open the portal''s first page.';
    end if;
    return jsonb_strip_nulls(jsonb_build_object(
        'type', v_type,
        v_type, case when _portal_flow.flow <> 'update_card' then
            jsonb_build_object('subscription', _portal_flow.stripe_subscription_id)
        end,
        'after_completion', case when _portal_flow.return_url is not null then
            jsonb_build_object('type', 'redirect', 'redirect', jsonb_build_object('return_url', _portal_flow.return_url))
        end
    ));
end
$$;

CREATE FUNCTION billing._post_alert(message text) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
declare
    v_url text;
    v_name text;
begin
    select
        settings.alert_webhook_url,
        format(
            'Tillbase, %s, %s mode',
            coalesce(billing._origin_of(settings.site_url), settings.stripe_account_id, current_database()),
            case when settings.livemode then 'live' else 'test' end
        )
    into v_url, v_name from billing.settings;
    if v_url is null or not billing._has_pg_net() then
        return;
    end if;
    -- Dynamic SQL, put together here: `supabase db lint` would report a function that may not exist.
    execute format('select %s(url => $1, body => $2)', 'net.http_post')
    using v_url, jsonb_build_object('text', format('%s: %s', v_name, _post_alert.message));
exception when others then
    -- The message of the error may have the URL.
    raise warning 'the alert could not be posted by pg_net (%)', sqlstate;
end
$_$;

CREATE FUNCTION billing._post_entries(balance billing.credit_balances, entries billing.credit_entries[], lots billing.credit_grants[] DEFAULT '{}'::billing.credit_grants[], takes billing.credit_consumptions[] DEFAULT '{}'::billing.credit_consumptions[]) RETURNS billing.credit_entries[]
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_balance billing.credit_balances := _post_entries.balance;
    v_entries billing.credit_entries[] := _post_entries.entries;
    v_lot billing.credit_grants;
    v_rest numeric := 0;
begin
    for v_number in 1 .. cardinality(v_entries) loop
        v_balance.balance := v_balance.balance + v_entries[v_number].amount;
        v_balance.debt := v_balance.debt + v_entries[v_number].debt;
        v_rest := v_rest - v_entries[v_number].amount - v_entries[v_number].debt;
        v_entries[v_number].balance_after := v_balance.balance;
    end loop;
    foreach v_lot in array _post_entries.lots loop
        v_rest := v_rest + v_lot.remaining;
        -- Unless it is used up at once.
        continue when cardinality(_post_entries.takes) > 0 and v_lot.remaining = (
            select sum(take.amount) from unnest(_post_entries.takes) as take where take.grant_id = v_lot.id
        );
        v_balance.next_due_at := least(
            v_balance.next_due_at, case when v_lot.entry_id is null then v_lot.effective_at else v_lot.expires_at end
        );
    end loop;
    v_rest := v_rest - billing._write_entries(array[v_balance], v_entries, _post_entries.lots, _post_entries.takes);
    if v_rest > 0 then
        perform billing._burn_lots(v_entries, _post_entries.takes, v_rest);
    end if;
    return v_entries;
end
$$;

CREATE FUNCTION billing._post_entry(balance billing.credit_balances, entry billing.credit_entries, lots billing.credit_grants[] DEFAULT '{}'::billing.credit_grants[], takes billing.credit_consumptions[] DEFAULT '{}'::billing.credit_consumptions[]) RETURNS billing.credit_entries
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    return (billing._post_entries(
        _post_entry.balance, array[_post_entry.entry], _post_entry.lots, _post_entry.takes
    ))[1];
end
$$;

CREATE FUNCTION billing._post_move(move billing.credit_move) RETURNS bigint
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_move billing.credit_move := _post_move.move;
    v_is_new boolean;
    v_carried bigint;
    v_change bigint := v_move.credits;
    v_lots bigint[];
    v_contested text[];
    v_later timestamptz;
    v_entry billing.credit_entries;
    v_plan_name text;
begin
    select
        -- The common case: the ledger has nothing for this key yet.
        not (
            exists (
                select from billing.credit_grants
                where credit_grants.key_space = 'stripe' and credit_grants.idempotency_key = v_move.key
            )
            or exists (select from billing.credit_revocations where credit_revocations.business_key = v_move.key)
            or exists (select from billing.carried_credits where carried_credits.business_key = v_move.key)
        ),
        credit_balances.carried
    into v_is_new, v_carried
    from billing.credit_balances where credit_balances.account_id = v_move.account_id;
    if not v_is_new then
        v_change := v_change - billing._posted_credits(v_move.account_id, v_move.key);
    end if;
    if v_change < 0 then
        v_lots := billing._lots_of_move(v_move);
        -- Credits that a dispute froze count as unspent.
        v_contested := array(
            select distinct lots.stripe_invoice_id from billing.credit_holds as holds
            join billing.credit_grants as lots on lots.id = holds.frozen_grant_id
            where holds.frozen_grant_id = any (v_lots) and holds.status = 'held' and lots.stripe_invoice_id is not null
            order by lots.stripe_invoice_id
        );
        if cardinality(v_contested) > 0 then
            perform billing._thaw_lots(v_lots, 0);
        end if;
        perform billing._take_back(
            v_move.account_id, v_move.key, -v_change, v_lots,
            case
                when v_move.returned > 0 then (select settings.shortfall_policy from billing.settings)
                -- Free time is not credited back with money.
                when v_move.key ^@ 'free:' then 'clamp_and_record'
                else 'carry'
            end,
            case when v_move.returned > 0 then 'Payment returned to the customer' else 'Time credited back by Stripe' end
        );
        perform billing._freeze_contested(contested.stripe_invoice_id)
        from unnest(v_contested) as contested (stripe_invoice_id);
        return 0;
    elsif v_change > 0 and not v_is_new then
        v_change := billing._give_back(v_move.account_id, v_move.key, v_change);
    end if;
    if v_change > 0 and v_move.key ^@ 'credited:' then
        return billing._give_less_reduced(v_move.account_id, v_move.key, v_change);
    elsif v_change = 0 or v_move.is_waiting then
        return 0;
    end if;

    if v_carried > 0 and not v_move.key ^@ 'free:' then
        v_change := billing._less_carried(v_move.account_id, v_move.key, v_change);
    end if;
    if v_change = 0 then
        return 0;
    elsif v_move.rollover = 'cap' then
        perform billing._expire_beyond_cap(
            v_move.account_id, v_move.stripe_subscription_item_id, v_move.rollover_cap, v_move.slot_start
        );
    end if;
    select coalesce(plans.nickname, products.name) into v_plan_name from billing.plans
    join billing.products on products.stripe_product_id = plans.stripe_product_id
    where plans.stripe_price_id = v_move.stripe_price_id;
    v_entry := billing._grant_credits(
        account_id => v_move.account_id,
        amount => v_change,
        key_space => 'stripe',
        idempotency_key => case when v_is_new then v_move.key else billing._next_lot_key(v_move.key) end,
        source => v_move.source,
        reference_id => v_move.stripe_subscription_id,
        description => billing._description_of_move(v_move.source, v_plan_name),
        effective_at => v_move.moment,
        expires_at => v_move.expires_at,
        stripe_invoice_id => v_move.stripe_invoice_id,
        stripe_subscription_item_id => v_move.stripe_subscription_item_id,
        stripe_price_id => v_move.stripe_price_id
    );
    if v_move.returned > 0 then
        update billing.credit_grants set cut = v_move.returned where credit_grants.entry_id = v_entry.id;
    end if;
    if v_move.rollover = 'cap' then
        -- Months that started later may already be granted: what they carry over includes this month.
        for v_later in
            select credit_grants.effective_at from billing.credit_grants
            where credit_grants.account_id = v_move.account_id
                and credit_grants.stripe_subscription_item_id = v_move.stripe_subscription_item_id
                and credit_grants.source = 'stripe.monthly_allocation'
                and credit_grants.effective_at > v_move.slot_start
            order by credit_grants.effective_at
        loop
            perform billing._expire_beyond_cap(
                v_move.account_id, v_move.stripe_subscription_item_id, v_move.rollover_cap, v_later
            );
        end loop;
    end if;
    return v_change;
end
$$;

CREATE FUNCTION billing._post_purchase(business_key text) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_purchase billing.pack_purchases;
    v_change bigint;
    v_returned bigint;
begin
    select * into strict v_purchase from billing.pack_purchases
    where pack_purchases.business_key = _post_purchase.business_key;
    perform billing._lock_balance(v_purchase.account_id);
    v_returned := billing._returned_of_purchase(v_purchase);
    v_change := v_purchase.credits - v_returned
        - billing._posted_credits(v_purchase.account_id, v_purchase.business_key);
    if exists (
        select from billing.accounts where accounts.id = v_purchase.account_id and accounts.closed_at is not null
    ) then
        -- Nothing can be revoked from a closed account; a grant to it is an error.
        if v_change > 0 and v_returned = 0 then
            perform billing._check_open(v_purchase.account_id);
        end if;
        return;
    elsif v_change < 0 then
        perform billing._take_back(
            v_purchase.account_id, v_purchase.business_key, -v_change, billing._lots_of_purchase(v_purchase),
            (select settings.shortfall_policy from billing.settings), 'Payment returned to the customer'
        );
    elsif v_change > 0 then
        v_change := billing._give_back(v_purchase.account_id, v_purchase.business_key, v_change);
        -- An invoice may have been paid from the customer's balance.
        if v_purchase.stripe_invoice_id is not null and v_purchase.price > 0 then
            v_change := billing._less_carried(v_purchase.account_id, v_purchase.business_key, v_change);
        end if;
        if v_change > 0 then
            perform billing._grant_credits(
                account_id => v_purchase.account_id,
                amount => v_change,
                key_space => 'stripe',
                idempotency_key => billing._next_lot_key(v_purchase.business_key),
                source => v_purchase.source,
                reference_id => v_purchase.reference_id,
                description => v_purchase.description,
                effective_at => least(v_purchase.purchased_at, billing.current_time()),
                expires_at => v_purchase.expires_at,
                stripe_invoice_id => v_purchase.stripe_invoice_id,
                stripe_price_id => v_purchase.stripe_price_id,
                stripe_checkout_session_id => v_purchase.stripe_checkout_session_id,
                stripe_payment_intent_id => v_purchase.stripe_payment_intent_id
            );
        end if;
    end if;
end
$$;

CREATE FUNCTION billing._post_returned_credits(stripe_invoice_id text) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_invoice billing.invoices;
    v_from timestamptz;
    v_until timestamptz;
    v_subscription_ids text[];
    v_frozen bigint;
begin
    select * into v_invoice from billing.invoices
    where invoices.stripe_invoice_id = _post_returned_credits.stripe_invoice_id;
    if v_invoice.account_id is null or exists (
        select from billing.accounts where accounts.id = v_invoice.account_id and accounts.closed_at is not null
    ) then
        return;
    end if;
    update billing.credit_schedules
    set has_returns = true,
        disarmed_reason = case
            when v_invoice.amount_contested > 0 then coalesce(credit_schedules.disarmed_reason, 'disputed')
            else nullif(credit_schedules.disarmed_reason, 'disputed')
        end
    where credit_schedules.stripe_invoice_id = v_invoice.stripe_invoice_id;
    v_frozen := billing._contested_credits(v_invoice.stripe_invoice_id);
    perform billing._thaw_lots(billing._lots_of_invoice(v_invoice.stripe_invoice_id), v_frozen);
    select min(schedules.period_start), max(schedules.period_end), array_agg(distinct schedules.stripe_subscription_id)
    into v_from, v_until, v_subscription_ids
    from billing.credit_schedules as schedules where schedules.stripe_invoice_id = v_invoice.stripe_invoice_id;
    if v_subscription_ids is not null then
        perform billing._allocate_slots(v_subscription_ids, v_from, least(
            v_until, billing._time_of_account(v_invoice.account_id)
        ));
    end if;
    perform billing._post_returned_initial(v_invoice);
    perform billing._post_purchase(pack_purchases.business_key) from billing.pack_purchases
    where pack_purchases.stripe_invoice_id = v_invoice.stripe_invoice_id and pack_purchases.stripe_line_id is not null;

    perform billing._freeze_lots(billing._lots_of_invoice(v_invoice.stripe_invoice_id), v_frozen);
    perform billing._repay_debt(v_invoice.account_id);
end
$$;

CREATE FUNCTION billing._post_returned_initial(invoice billing.invoices) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_lot billing.credit_grants;
    v_key text;
    v_change bigint;
    v_lots bigint[];
begin
    for v_lot in
        select * from billing.credit_grants
        where credit_grants.stripe_invoice_id = (_post_returned_initial.invoice).stripe_invoice_id
            and credit_grants.key_space = 'stripe' and credit_grants.idempotency_key ^@ 'initial:'
            and credit_grants.idempotency_key !~ '#'
        order by credit_grants.id
    loop
        v_key := v_lot.idempotency_key || ':returned';
        v_change := -coalesce((
            select sum(returned.credits) from billing._returned_credits(v_lot.stripe_invoice_id) as returned
            where returned.moment is null and returned.stripe_subscription_item_id = v_lot.stripe_subscription_item_id
        ), 0) - billing._posted_credits(v_lot.account_id, v_key);
        if v_change < 0 then
            select array_agg(lots.id order by lots.id = v_lot.id desc, lots.id desc) into v_lots
            from billing.credit_grants as lots
            where lots.stripe_invoice_id = v_lot.stripe_invoice_id and lots.key_space = 'stripe'
                and not lots.idempotency_key ^@ 'free:';
            perform billing._take_back(
                v_lot.account_id, v_key, -v_change, v_lots,
                (select settings.shortfall_policy from billing.settings), 'Payment returned to the customer'
            );
        elsif v_change > 0 then
            perform billing._give_back(v_lot.account_id, v_key, v_change);
        end if;
    end loop;
end
$$;

CREATE FUNCTION billing._post_simple_moves(moves billing.credit_move[]) RETURNS TABLE(slots_granted bigint, credits_granted numeric, others billing.credit_move[])
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_now timestamptz := billing.current_time();
    v_balances billing.credit_balances[];
    v_entries billing.credit_entries[];
    v_lots billing.credit_grants[];
begin
    with moves as (
        select
            worth as move, worth.*, lots.id as lot_id, lots.amount as lot_amount,
            worth.credits > 0 and not worth.is_waiting and worth.returned = 0 and lots.id is null
                and worth.rollover <> 'cap' and worth.credits <= 1000000000000
                and balances.debt = 0 and balances.withheld = 0 and balances.carried = 0
                and balances.balance <= 4611686018427387904 and (
                    balances.may_spend or not exists (
                        select from billing.accounts
                        where accounts.id = balances.account_id and accounts.closed_at is not null
                    )
                ) as is_simple,
            balances as locked
        from unnest(_post_simple_moves.moves) as worth
        join billing.credit_balances as balances on balances.account_id = worth.account_id
        left join billing.credit_grants as lots on lots.key_space = 'stripe' and lots.idempotency_key = worth.key
    ),
    -- Skips moves that the ledger already matches, and waiting moves without a lot.
    pending as materialized (
        select * from moves
        where not (
            moves.is_waiting and moves.lot_id is null
            or moves.credits = coalesce(moves.lot_amount, 0) and not exists (
                select from billing.credit_revocations where credit_revocations.business_key = moves.key
            ) and not exists (
                select from billing.carried_credits where carried_credits.business_key = moves.key
            )
        )
    ),
    simple as materialized (
        select
            pending.account_id, pending.moment, pending.key, pending.credits, pending.source, pending.expires_at,
            pending.stripe_subscription_id, pending.stripe_subscription_item_id, pending.stripe_price_id,
            pending.stripe_invoice_id, pending.locked
        from pending
        where pending.is_simple and not exists (
            select from pending as others where others.account_id = pending.account_id and not others.is_simple
        )
    ),
    fresh as (
        select
            nextval('billing.credit_entries_id_seq') as entry_id, ordered.*,
            row_number() over account as number,
            sum(ordered.credits) over (account rows unbounded preceding) as so_far,
            sum(ordered.credits) over (partition by ordered.account_id) as total,
            min(ordered.expires_at) over (partition by ordered.account_id) as due_at
        from (
            select
                simple.*,
                billing._description_of_move(simple.source, coalesce(plans.nickname, products.name)) as description
            from simple
            join billing.plans on plans.stripe_price_id = simple.stripe_price_id
            join billing.products on products.stripe_product_id = plans.stripe_product_id
            order by simple.account_id, simple.moment, simple.key
        ) as ordered
        window account as (partition by ordered.account_id order by ordered.moment, ordered.key)
    )
    select
        count(*), coalesce(sum(fresh.credits), 0),
        array_agg(billing._moved(fresh.locked, fresh.total::bigint, fresh.due_at)) filter (where fresh.number = 1),
        array_agg(billing._entry(
            id => fresh.entry_id, account_id => fresh.account_id, kind => 'grant', amount => fresh.credits,
            balance_after => (fresh.locked).balance + fresh.so_far::bigint,
            source => fresh.source, reference_id => fresh.stripe_subscription_id, description => fresh.description,
            key_space => 'stripe', idempotency_key => fresh.key, occurred_at => v_now
        )),
        array_agg(billing._lot(
            entry_id => fresh.entry_id, account_id => fresh.account_id, amount => fresh.credits,
            effective_at => fresh.moment, expires_at => fresh.expires_at, source => fresh.source,
            reference_id => fresh.stripe_subscription_id, key_space => 'stripe', idempotency_key => fresh.key,
            stripe_invoice_id => fresh.stripe_invoice_id,
            stripe_subscription_item_id => fresh.stripe_subscription_item_id,
            stripe_price_id => fresh.stripe_price_id
        )),
        (
            select array_agg(pending.move order by
                pending.account_id, pending.moment, pending.key ^@ 'credited:', pending.key
            )
            from pending
            where pending.account_id not in (select simple.account_id from simple)
        )
    into slots_granted, credits_granted, v_balances, v_entries, v_lots, others
    from fresh;
    if slots_granted > 0 then
        perform billing._write_entries(v_balances, v_entries, v_lots, '{}');
    end if;
    return next;
end
$$;

CREATE FUNCTION billing._post_spends(balance billing.credit_balances, spends billing.credit_entries[]) RETURNS billing.credit_entries[]
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_balance billing.credit_balances := _post_spends.balance;
    v_spends billing.credit_entries[] := _post_spends.spends;
    v_number integer := cardinality(v_spends);
    v_total numeric;
    v_debt bigint;
begin
    select -sum(spend.amount) into v_total from unnest(v_spends) as spend;
    if v_total - v_balance.overdraft > v_balance.balance - v_balance.held then
        perform billing._raise_insufficient(
            v_balance.account_id, v_balance.balance::numeric - v_balance.held + v_balance.overdraft, v_total
        );
    elsif v_balance.spend_cap is not null then
        v_balance := billing._count_spend(v_balance, v_total::bigint);
    end if;
    -- Lots contain balance + debt. The last credits are beyond them.
    v_debt := greatest(v_total - v_balance.debt - (v_balance.balance - v_balance.held), 0);
    while v_debt > 0 loop
        v_spends[v_number].debt := least(v_debt, -v_spends[v_number].amount);
        v_debt := v_debt - v_spends[v_number].debt;
        v_number := v_number - 1;
    end loop;
    return billing._post_entries(v_balance, v_spends);
end
$$;

CREATE FUNCTION billing._posted_credits(account_id uuid, business_key text) RETURNS bigint
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_posted bigint := 0;
    v_amount bigint;
    v_number integer := 1;
begin
    -- Further lots of one key are numbered: key#2, key#3.
    loop
        select credit_grants.amount into v_amount from billing.credit_grants
        where credit_grants.key_space = 'stripe' and credit_grants.idempotency_key = case
            when v_number = 1 then _posted_credits.business_key
            else format('%s#%s', _posted_credits.business_key, v_number)
        end;
        exit when not found;
        v_posted := v_posted + v_amount;
        v_number := v_number + 1;
    end loop;
    return v_posted
        + coalesce((
            select carried_credits.amount from billing.carried_credits
            where carried_credits.business_key = _posted_credits.business_key
        ), 0)
        - coalesce((
            select sum(billing._asked_back(credit_revocations)) from billing.credit_revocations
            where credit_revocations.business_key = _posted_credits.business_key
        ), 0);
end
$$;

CREATE FUNCTION billing._postpone_allocation(stripe_subscription_id text, from_moment timestamp with time zone) RETURNS boolean
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_ids text := current_setting('billing.postponed_ids', true);
    v_moments text;
begin
    if coalesce(v_ids, '') = '' then
        return false;
    end if;
    v_moments := current_setting('billing.postponed_moments');
    v_ids := set_config(
        'billing.postponed_ids', (v_ids::text[] || _postpone_allocation.stripe_subscription_id)::text, true
    );
    v_moments := set_config(
        'billing.postponed_moments', (v_moments::timestamptz[] || _postpone_allocation.from_moment)::text, true
    );
    return true;
end
$$;

CREATE FUNCTION billing._postpone_jobs(kind billing.job_kind, ids text[], due_at timestamp with time zone) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET enable_nestloop TO 'off'
    AS $$
begin
    update pgmq.q_billing_jobs as message
    set vt = _postpone_jobs.due_at, headers = null,
        read_ct = message.read_ct - (message.headers ? 'worker_pid' is true)::integer
    from unnest(_postpone_jobs.ids) as job (id)
    where message.message ->> 'kind' = _postpone_jobs.kind and message.message ->> 'id' = job.id
        and (message.vt <= now() or message.headers ->> 'worker_pid' = pg_backend_pid()::text);
end
$$;

CREATE FUNCTION billing._price_of_invoice(invoice billing.invoices) RETURNS numeric
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select (_price_of_invoice.invoice).total - coalesce(sum(credit_notes.pre_payment_amount), 0)
    from billing.credit_notes
    where credit_notes.stripe_invoice_id = (_price_of_invoice.invoice).stripe_invoice_id
        and credit_notes.status = 'issued'
$$;

CREATE FUNCTION billing._price_on_sale(plan text, pack text) RETURNS TABLE(stripe_price_id text, stripe_product_id text, is_metered boolean, seats_min bigint, seats_max bigint)
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    if (_price_on_sale.plan is null) = (_price_on_sale.pack is null) then
        raise exception 'pass either plan or pack'
            using errcode = 'TB048', hint = 'Use a lookup key or a price id.';
    end if;
    return query
    select price.stripe_price_id, price.stripe_product_id, price.is_metered, price.seats_min, price.seats_max
    from (
        select plans.stripe_price_id, plans.stripe_product_id, plans.usage_type = 'metered', plans.seats_min,
            -- Each seat grants credits, and seats of a free plan cost nothing: only as many as were declared.
            case when plans.unit_amount = 0 then coalesce(plans.seats_max, plans.seats_min) else plans.seats_max end,
            plans.lookup_key, plans.as_of, 'plan'
        from billing.plans where plans.active and plans.livemode = billing.is_livemode()
        union all
        select credit_packs.stripe_price_id, credit_packs.stripe_product_id, false, 1, null, credit_packs.lookup_key,
            credit_packs.as_of, 'pack'
        from billing.credit_packs
        -- A free pack could be taken any number of times.
        where credit_packs.active and credit_packs.livemode = billing.is_livemode()
            and credit_packs.unit_amount is distinct from 0
    ) as price (
        stripe_price_id, stripe_product_id, is_metered, seats_min, seats_max, lookup_key, as_of, kind
    )
    join billing.products on products.stripe_product_id = price.stripe_product_id and products.active
    where price.kind = case when _price_on_sale.plan is null then 'pack' else 'plan' end
        and coalesce(_price_on_sale.plan, _price_on_sale.pack) in (price.stripe_price_id, price.lookup_key)
    -- A lookup key can move between prices in Stripe; until both events have arrived, the newer price has it.
    order by price.stripe_price_id = coalesce(_price_on_sale.plan, _price_on_sale.pack) desc, price.as_of desc
    limit 1;
    if not found then
        raise exception 'this % is not on sale', case when _price_on_sale.plan is null then 'pack' else 'plan' end
            using errcode = 'TB042', hint = 'See public.billing_plans and billing_packs. A new price appears after its event was processed.';
    end if;
end
$$;

CREATE FUNCTION billing._prove_account(account_id uuid) RETURNS bigint
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_count bigint;
begin
    with off as materialized (
        select
            'entitlement_discrepancy' as kind, paid.invariant, paid.business_key, paid.expected, paid.found, paid.detail
        from billing.account_discrepancies(_prove_account.account_id) as paid
        union all
        select
            'ledger_discrepancy', ledger.invariant, null, null, null, ledger.detail
        from billing.account_ledger_discrepancies(_prove_account.account_id) as ledger
    ),
    in_order as (
        delete from billing.found_discrepancies
        where found_discrepancies.account_id = _prove_account.account_id and not exists (
            select from off
            where off.invariant = found_discrepancies.invariant and off.detail = found_discrepancies.detail
        )
    ),
    noted as (
        insert into billing.found_discrepancies (account_id, invariant, business_key, expected, found, detail)
        select _prove_account.account_id, off.invariant, off.business_key, off.expected, off.found, off.detail from off
        on conflict do nothing
        returning found_discrepancies.id, found_discrepancies.invariant, found_discrepancies.detail
    ),
    told as (
        insert into billing.notifications (account_id, audience, kind, dedupe_key, payload)
        select
            _prove_account.account_id, 'administrators', off.kind, format('%s:%s', off.kind, noted.id),
            jsonb_build_object(
                'invariant', off.invariant, 'business_key', off.business_key, 'expected', off.expected,
                'found', off.found, 'detail', off.detail
            )
        from noted
        join off on off.invariant = noted.invariant and off.detail = noted.detail
    )
    select count(*) into v_count from off;
    return v_count;
end
$$;

CREATE FUNCTION billing._purchase(purchase billing.pack_purchases) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_purchase billing.pack_purchases := _purchase.purchase;
begin
    v_purchase.created_at := now();
    insert into billing.pack_purchases select (v_purchase).* on conflict (business_key) do nothing;
    perform billing._post_purchase(v_purchase.business_key);
    -- A test clock may be later than the expiry of the purchase.
    perform billing._settle_due(array[v_purchase.account_id], billing._time_of_account(v_purchase.account_id))
    where billing._time_of_account(v_purchase.account_id) > billing.current_time();
end
$$;

CREATE FUNCTION billing._purchase_packs_of_invoice(invoice billing.invoices) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_invoice billing.invoices := _purchase_packs_of_invoice.invoice;
    v_line billing.invoice_lines;
    v_pack billing.credit_packs;
    v_purchase billing.pack_purchases;
    v_credits numeric;
begin
    if coalesce(v_invoice.paid_at, v_invoice.as_of) < (select settings.credits_since from billing.settings)
        and not exists (
            select from billing.pack_purchases where pack_purchases.stripe_invoice_id = v_invoice.stripe_invoice_id
        ) then
        return;
    end if;
    for v_line in
        select invoice_lines.* from billing.invoice_lines
        where invoice_lines.stripe_invoice_id = v_invoice.stripe_invoice_id
            and invoice_lines.stripe_subscription_item_id is null and invoice_lines.stripe_price_id is not null
            and invoice_lines.amount >= 0
        order by invoice_lines.stripe_line_id
    loop
        select * into v_pack from billing.credit_packs
        where credit_packs.stripe_price_id = v_line.stripe_price_id
            and credit_packs.declared_from <= coalesce(v_invoice.paid_at, v_invoice.as_of);
        if not found then
            -- An unknown price may be a pack: the line waits for it. A known price that was no pack then is not one.
            update billing.invoice_lines set is_waiting = not exists (
                select from billing.one_time_prices where one_time_prices.stripe_price_id = v_line.stripe_price_id
                union all
                select from billing.credit_packs where credit_packs.stripe_price_id = v_line.stripe_price_id
            )
            where invoice_lines.stripe_line_id = v_line.stripe_line_id;
            continue;
        end if;
        perform billing._check_buyer(v_invoice.stripe_invoice_id, v_invoice.stripe_customer_id, v_invoice.account_id);
        perform billing._lock_balance(v_invoice.account_id);
        v_credits := billing._credits_of_pack(v_pack, v_line.quantity, v_line.amount);
        continue when v_credits = 0;
        v_purchase := null;
        v_purchase.price := greatest(v_line.amount - coalesce(v_line.discount, case
            when v_invoice.total <= 0 and v_invoice.subtotal > 0 then v_line.amount else 0
        end), 0);
        v_purchase.purchased_at := coalesce(v_invoice.paid_at, v_invoice.as_of);
        v_purchase.business_key := case
            when v_purchase.price = 0
                then billing._free_pack_key(v_invoice.account_id, v_pack.stripe_product_id, v_purchase.purchased_at)
            else 'pack:' || v_line.stripe_line_id
        end;
        v_purchase.account_id := v_invoice.account_id;
        v_purchase.source := 'stripe.pack';
        v_purchase.reference_id := v_invoice.stripe_invoice_id;
        v_purchase.description := billing._pack_name(v_pack);
        v_purchase.credits := billing._checked_amount(v_credits);
        v_purchase.stripe_price_id := v_pack.stripe_price_id;
        v_purchase.stripe_invoice_id := v_invoice.stripe_invoice_id;
        v_purchase.stripe_line_id := v_line.stripe_line_id;
        v_purchase.expires_at := v_purchase.purchased_at + v_pack.expires_after;
        perform billing._purchase(v_purchase);
    end loop;
end
$$;

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
    opened_at timestamp with time zone,
    completed_at timestamp with time zone,
    as_of timestamp with time zone NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT mode_is_known CHECK ((mode = ANY (ARRAY['payment'::text, 'setup'::text, 'subscription'::text]))),
    CONSTRAINT payment_status_is_known CHECK ((payment_status = ANY (ARRAY['unpaid'::text, 'paid'::text, 'no_payment_required'::text]))),
    CONSTRAINT status_is_known CHECK ((status = ANY (ARRAY['open'::text, 'complete'::text, 'expired'::text])))
);

COMMENT ON TABLE billing.checkout_sessions IS 'Completed and expired Stripe Checkout Sessions.';

COMMENT ON COLUMN billing.checkout_sessions.client_reference_id IS 'As received; the payer may have edited it, so it links nothing without a signature.';

CREATE FUNCTION billing._purchase_packs_of_session(session billing.checkout_sessions) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_session billing.checkout_sessions := _purchase_packs_of_session.session;
    v_moment timestamptz := coalesce(v_session.completed_at, v_session.opened_at);
    v_missing text;
    v_bought record;
    v_purchase billing.pack_purchases;
    -- A payment that is captured in part pays for that share.
    v_paid bigint := (
        select payment_intents.amount_received from billing.payment_intents
        where payment_intents.stripe_payment_intent_id = v_session.stripe_payment_intent_id
    );
begin
    if v_session.stripe_invoice_id is not null or not exists (
        select from billing.checkout_line_items as items
        left join billing.credit_packs on credit_packs.stripe_price_id = items.stripe_price_id
        where items.stripe_checkout_session_id = v_session.stripe_checkout_session_id
            and (items.declares_credits or credit_packs.declared_from <= v_moment)
    ) then
        return;
    elsif v_session.completed_at < (select settings.credits_since from billing.settings) and not exists (
        -- Completed, not opened or charged: a session is paid for hours after it was opened, and its charge may be
        -- reported later than the session.
        select from billing.pack_purchases
        where pack_purchases.stripe_checkout_session_id = v_session.stripe_checkout_session_id
    ) then
        return;
    end if;
    perform billing._check_buyer(
        v_session.stripe_checkout_session_id, v_session.stripe_customer_id, v_session.account_id
    );
    -- Two sessions at the same time, or an account that no customer of the batch named.
    perform billing._lock_balance(v_session.account_id);

    select items.stripe_price_id into v_missing
    from billing.checkout_line_items as items
    left join billing.credit_packs on credit_packs.stripe_price_id = items.stripe_price_id
    where items.stripe_checkout_session_id = v_session.stripe_checkout_session_id
        and credit_packs.stripe_price_id is null and items.declares_credits
    order by 1
    limit 1;
    if found then
        raise exception 'price % of % is not in billing.credit_packs', v_missing, v_session.stripe_checkout_session_id
            using errcode = 'TB010', detail = v_missing,
            hint = 'Set pack_credits in the price''s metadata in Stripe. Its event adds the pack, and this event is then retried automatically.';
    end if;

    for v_bought in
        select
            items.amount_total = 0 as is_free,
            case when items.amount_total = 0 then packs.stripe_product_id end as stripe_product_id,
            sum(billing._credits_of_pack(packs, items.quantity, items.amount_total)) as credits,
            array_agg(distinct packs.stripe_price_id) as stripe_price_ids,
            string_agg(distinct coalesce(packs.nickname, products.name), ', ') as names,
            min(packs.expires_after) as expires_after
        from billing.checkout_line_items as items
        join billing.credit_packs as packs on packs.stripe_price_id = items.stripe_price_id
        join billing.products on products.stripe_product_id = packs.stripe_product_id
        where items.stripe_checkout_session_id = v_session.stripe_checkout_session_id
            and (items.declares_credits or packs.declared_from <= v_moment)
        group by 1, 2
        order by 1, 2
    loop
        continue when v_bought.credits = 0;
        v_purchase := null;
        v_purchase.purchased_at := coalesce(
            billing._charged_at(v_session.stripe_payment_intent_id), v_session.opened_at, v_session.completed_at
        );
        v_purchase.business_key := case
            when v_bought.is_free
                then billing._free_pack_key(v_session.account_id, v_bought.stripe_product_id, v_purchase.purchased_at)
            else 'pack:' || v_session.stripe_checkout_session_id
        end;
        v_purchase.account_id := v_session.account_id;
        v_purchase.source := 'stripe.pack';
        v_purchase.reference_id := v_session.stripe_checkout_session_id;
        v_purchase.description := v_bought.names;
        v_purchase.price := case
            when v_bought.is_free then 0 else coalesce(least(v_paid, v_session.amount_total), 0)
        end;
        v_purchase.credits := billing._checked_amount(v_bought.credits);
        if v_purchase.price < v_session.amount_total and not v_bought.is_free then
            v_purchase.credits := floor(v_bought.credits * v_purchase.price / v_session.amount_total);
        end if;
        -- For several packs, see the line items.
        v_purchase.stripe_price_id :=
            case when cardinality(v_bought.stripe_price_ids) = 1 then v_bought.stripe_price_ids[1] end;
        v_purchase.stripe_checkout_session_id := v_session.stripe_checkout_session_id;
        v_purchase.stripe_payment_intent_id := v_session.stripe_payment_intent_id;
        v_purchase.expires_at := v_purchase.purchased_at + v_bought.expires_after;
        perform billing._purchase(v_purchase);
        perform billing._apply_returns_of_payment(v_session.stripe_payment_intent_id, null)
        where v_session.stripe_payment_intent_id is not null;
    end loop;
end
$$;

CREATE FUNCTION billing._raise_insufficient(account_id uuid, available numeric, needed numeric) RETURNS void
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    raise exception 'account % has % credits available, % are needed',
        _raise_insufficient.account_id, greatest(_raise_insufficient.available, 0), _raise_insufficient.needed
        using errcode = 'TB001', hint = 'Offer the user a credit pack or a larger plan.';
end
$$;

CREATE FUNCTION billing._raise_key_reused(idempotency_key text) RETURNS void
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    raise exception 'idempotency key % was used before with other arguments', _raise_key_reused.idempotency_key
        using errcode = 'TB002', hint = 'Repeat the first call unchanged, or use a new key for a new movement.';
end
$$;

CREATE FUNCTION billing._raise_no_account(account_id uuid) RETURNS void
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    raise exception 'there is no account %', coalesce(_raise_no_account.account_id::text, 'null')
        using errcode = 'TB004', hint = 'Use the id of a row in billing.accounts, not the id of the user.';
end
$$;

CREATE FUNCTION billing._raise_not_linked(invoice billing.invoices) RETURNS void
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    raise exception 'customer % of invoice % is not linked to an account',
        coalesce((_raise_not_linked.invoice).stripe_customer_id, 'null'), (_raise_not_linked.invoice).stripe_invoice_id
        using errcode = 'TB011', detail = coalesce((_raise_not_linked.invoice).stripe_customer_id, ''),
        hint = 'Call billing.link_customer(account_id, stripe_customer_id). The event is then retried automatically.';
end
$$;

CREATE FUNCTION billing._raise_unsound(table_name text, rule text) RETURNS void
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    raise exception 'new row for relation "%" violates check constraint "%"', _raise_unsound.table_name, _raise_unsound.rule
        using errcode = 'check_violation', schema = 'billing', table = _raise_unsound.table_name,
            constraint = _raise_unsound.rule;
end
$$;

CREATE FUNCTION billing._rank(role text) RETURNS integer
    LANGUAGE sql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select case _rank.role when 'owner' then 3 when 'admin' then 2 when 'member' then 1 else 0 end
$$;

CREATE FUNCTION billing._read_reference(reference text, livemode boolean, used_at timestamp with time zone) RETURNS TABLE(account_id uuid, refusal text)
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
declare
    v_found text[] := pg_catalog.regexp_match(
        _read_reference.reference, '^(tb1_([tl])_([1-9][0-9]{0,8})_([0-9a-f]{32})_([0-9]{1,12}))_([0-9a-f]{64})$'
    );
    v_secret bytea;
begin
    if _read_reference.reference is null then
        return query select null::uuid, 'missing';
        return;
    elsif v_found is null then
        return query select null::uuid, 'unsigned';
        return;
    end if;
    select keys.secret into v_secret from billing.payment_reference_keys as keys where keys.id = v_found[3]::integer;
    return query
    select
        accounts.id,
        case
            when v_secret is null or accounts.id is null
                or encode(billing._hmac_sha256(v_secret, v_found[1]), 'hex') <> v_found[6] then 'forged'
            when v_found[2] <> case when _read_reference.livemode then 'l' else 't' end then 'other_mode'
            when coalesce(_read_reference.used_at, 'infinity') > to_timestamp(v_found[5]::bigint) then 'expired'
        end
    from (select v_found[4]::uuid as id) as named
    left join billing.accounts on accounts.id = named.id;
end
$_$;

CREATE FUNCTION billing._recalculate_balance(account_id uuid) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_balance billing.credit_balances;
    v_total bigint;
    v_debt bigint;
    v_held bigint;
    v_lot_due_at timestamptz;
    v_hold_due_at timestamptz;
begin
    select coalesce(sum(credit_entries.amount), 0), coalesce(sum(credit_entries.debt), 0) into v_total, v_debt
    from billing.credit_entries where credit_entries.account_id = _recalculate_balance.account_id;
    select least(
        min(lots.expires_at) filter (where lots.closed_at is null and lots.remaining > lots.held),
        min(lots.effective_at) filter (where lots.closed_at is null and lots.entry_id is null)
    )
    into v_lot_due_at
    from billing.credit_grants as lots where lots.account_id = _recalculate_balance.account_id;
    select coalesce(sum(holds.amount - holds.captured), 0), min(holds.expires_at) into v_held, v_hold_due_at
    from billing.credit_holds as holds
    where holds.account_id = _recalculate_balance.account_id and holds.status = 'held';
    select * into strict v_balance from billing.credit_balances
    where credit_balances.account_id = _recalculate_balance.account_id;
    v_balance.balance := v_total;
    v_balance.debt := v_debt;
    v_balance.held := v_held;
    v_balance.next_due_at := least(v_lot_due_at, v_hold_due_at);
    v_balance.carried := coalesce((
        select -sum(carried_credits.amount) from billing.carried_credits
        where carried_credits.account_id = _recalculate_balance.account_id
    ), 0);
    perform billing._write_entries(array[v_balance], '{}', '{}', '{}');
    update billing.credit_balances
    set may_spend = (
        select accounts.frozen_at is null and accounts.closed_at is null from billing.accounts
        where accounts.id = _recalculate_balance.account_id
    )
    where credit_balances.account_id = _recalculate_balance.account_id;
end
$$;

CREATE FUNCTION billing._record_card(stripe_customer_id text, account_id uuid, card_fingerprint text, seen_at timestamp with time zone) RETURNS text
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    if exists (
        select from billing.card_fingerprints
        where card_fingerprints.stripe_customer_id = _record_card.stripe_customer_id
            and card_fingerprints.card_fingerprint = _record_card.card_fingerprint
            and card_fingerprints.first_seen_at <= _record_card.seen_at
    ) then
        return 'stale';
    elsif _record_card.account_id is not null then
        perform billing._lock_balance(_record_card.account_id);
    end if;
    perform billing._lock_card(_record_card.card_fingerprint);
    insert into billing.card_fingerprints as held (card_fingerprint, stripe_customer_id, account_id, first_seen_at)
    values (
        _record_card.card_fingerprint, _record_card.stripe_customer_id, _record_card.account_id, _record_card.seen_at
    )
    on conflict on constraint card_fingerprints_pkey do update
    set first_seen_at = least(held.first_seen_at, excluded.first_seen_at);
    if _record_card.account_id is not null then
        perform billing._judge_card(_record_card.card_fingerprint, _record_card.account_id);
    end if;
    return 'applied';
end
$$;

CREATE FUNCTION billing._record_cards_of_customer(stripe_customer_id text, account_id uuid) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_card_fingerprint text;
begin
    perform billing._lock_balance(_record_cards_of_customer.account_id);
    for v_card_fingerprint in
        select card_fingerprints.card_fingerprint from billing.card_fingerprints
        where card_fingerprints.stripe_customer_id = _record_cards_of_customer.stripe_customer_id
        order by 1
    loop
        perform billing._lock_card(v_card_fingerprint);
        update billing.card_fingerprints set account_id = _record_cards_of_customer.account_id
        where card_fingerprints.stripe_customer_id = _record_cards_of_customer.stripe_customer_id
            and card_fingerprints.card_fingerprint = v_card_fingerprint;
        perform billing._judge_card(v_card_fingerprint, _record_cards_of_customer.account_id);
    end loop;
end
$$;

CREATE FUNCTION billing._record_late_terms(stripe_price_id text, price_metadata jsonb, product_metadata jsonb, as_of timestamp with time zone) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_plan billing.plans;
    v_product billing.products;
begin
    select * into v_plan from billing.plans where plans.stripe_price_id = _record_late_terms.stripe_price_id;
    select * into v_product from billing.products where products.stripe_product_id = v_plan.stripe_product_id;
    v_plan.metadata := coalesce(_record_late_terms.price_metadata, v_plan.metadata);
    v_product.metadata := coalesce(_record_late_terms.product_metadata, v_product.metadata);
    if v_plan.stripe_price_id is not null
        and (billing._declares_credits(v_plan.metadata) or billing._declares_credits(v_product.metadata)) then
        perform billing._record_terms(billing._declared_plan(v_plan, v_product), _record_late_terms.as_of);
    end if;
exception when sqlstate 'TB017' then
    null;
end
$$;

CREATE FUNCTION billing._record_lines(invoice billing.invoices, lines jsonb) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    insert into billing.invoice_lines (
        stripe_line_id, stripe_invoice_id, stripe_subscription_id, stripe_subscription_item_id, stripe_price_id, amount,
        discount, quantity, is_proration, credited_line_ids, credited_invoice_id, period_start, period_end
    )
    select
        line.stripe_line_id, (_record_lines.invoice).stripe_invoice_id, line.stripe_subscription_id,
        line.stripe_subscription_item_id, line.stripe_price_id, line.amount, line.discount, line.quantity,
        line.is_proration,
        case jsonb_typeof(line.credited_line_ids) when 'array' then array(
            select jsonb_array_elements_text(line.credited_line_ids)
        ) end,
        line.credited_invoice_id, line.period_start, line.period_end
    from jsonb_to_recordset(_record_lines.lines) as line (
        stripe_line_id text, stripe_subscription_id text, stripe_subscription_item_id text, stripe_price_id text,
        amount bigint, discount bigint, quantity bigint, is_proration boolean, credited_line_ids jsonb,
        credited_invoice_id text, period_start timestamptz, period_end timestamptz
    )
    on conflict do nothing;
end
$$;

CREATE FUNCTION billing._record_older_state(stripe_subscription_id text, billing_cycle_anchor timestamp with time zone, status text) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    update billing.subscriptions
    set anchors = subscriptions.anchors || _record_older_state.billing_cycle_anchor
    where subscriptions.stripe_subscription_id = _record_older_state.stripe_subscription_id
        and _record_older_state.billing_cycle_anchor <> all (subscriptions.anchors);
    if found or _record_older_state.status = 'trialing' then
        perform billing._allocate_subscription(_record_older_state.stripe_subscription_id);
    end if;
end
$$;

CREATE FUNCTION billing._record_paid_time(invoice billing.invoices, subscription billing.subscriptions) RETURNS timestamp with time zone
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_invoice billing.invoices := _record_paid_time.invoice;
    v_subscription billing.subscriptions := _record_paid_time.subscription;
    v_line billing.invoice_lines;
    v_plan billing.plans;
    v_subscription_id text;
    v_anchor timestamptz;
    v_gives_back boolean;
    v_is_free boolean;
    v_from timestamptz;
    v_shared_from timestamptz;
    v_settings billing.settings;
    v_counts_from timestamptz;
    v_is_paid_already boolean;
    v_has_neighbours boolean;
    v_is_shared boolean := false;
begin
    select * into strict v_settings from billing.settings;
    for v_line in
        select * from billing.invoice_lines
        where invoice_lines.stripe_invoice_id = v_invoice.stripe_invoice_id
            and invoice_lines.stripe_subscription_item_id is not null
            and invoice_lines.period_end > invoice_lines.period_start
            -- Lines added by hand and usage that is billed early do not start a new month.
            and (invoice_lines.is_proration or v_invoice.billing_reason in (
                'subscription_create', 'subscription_cycle', 'subscription_update', 'quote_accept', 'subscription'
            ))
        order by invoice_lines.stripe_line_id
    loop
        v_subscription_id := coalesce(v_line.stripe_subscription_id, v_invoice.stripe_subscription_id);
        v_counts_from := billing._counts_from(v_invoice, v_line.period_end, v_settings);
        -- Of the past only what the present may change: plans that are gone and customers without an account stop nothing.
        continue when v_counts_from = 'infinity' and not exists (
            select from billing.plans where plans.stripe_price_id = v_line.stripe_price_id
        );
        v_plan := billing._plan_of_line(v_invoice.stripe_invoice_id, v_line.stripe_price_id);
        if v_plan.initial_credits + v_plan.monthly_credits + v_plan.trial_credits = 0 then
            continue when not exists (
                select from billing.credit_terms
                where credit_terms.stripe_price_id = v_plan.stripe_price_id
                    and credit_terms.initial_credits + credit_terms.monthly_credits > 0
            );
        end if;
        continue when v_plan.usage_type = 'licensed' and v_line.quantity = 0;
        if v_invoice.account_id is null and v_counts_from < 'infinity' then
            perform billing._raise_not_linked(v_invoice);
        end if;
        if v_invoice.account_id is null or v_subscription.stripe_subscription_id is null and (
            v_line.amount = 0 or v_plan.rollover = 'periods'
            or (v_plan.recurring_interval, v_plan.recurring_interval_count) <> ('month', 1)
        ) then
            update billing.invoice_lines
            set is_waiting = true,
                -- Needed to find the line later; a line need not name its subscription.
                stripe_subscription_id = v_subscription_id
            where invoice_lines.stripe_line_id = v_line.stripe_line_id and not invoice_lines.is_waiting;
            continue;  -- _allocate_subscription comes back to it
        elsif v_line.is_waiting then
            update billing.invoice_lines set is_waiting = false
            where invoice_lines.stripe_line_id = v_line.stripe_line_id;
        end if;
        -- A trial is not paid time.
        continue when v_line.amount = 0 and v_line.period_start >= v_subscription.trial_start
            and v_line.period_start < v_subscription.trial_end;

        select
            coalesce(bool_or(
                others.stripe_subscription_item_id = v_line.stripe_subscription_item_id
                and others.period_start = v_line.period_start and others.period_end = v_line.period_end
                and not others.is_change and others.stripe_invoice_id <> v_invoice.stripe_invoice_id
            ), false),
            coalesce(bool_or(
                others.is_change or others.stripe_subscription_item_id = v_line.stripe_subscription_item_id
            ), false)
        into v_is_paid_already, v_has_neighbours
        from billing.credit_schedules as others
        where others.stripe_subscription_id = v_subscription_id
            and others.period_end > v_line.period_start and others.period_start < v_line.period_end
            and others.stripe_line_id <> v_line.stripe_line_id;
        -- Each period of an item counts once, even if a second invoice charges for it.
        continue when v_is_paid_already and not v_line.is_proration;

        v_anchor := billing._anchor_of_period(
            v_plan, coalesce(v_subscription.anchors, '{}'), v_line.period_start, v_line.period_end
        );
        v_gives_back := v_line.is_proration
            and (coalesce(cardinality(v_line.credited_line_ids), 0) > 0 or v_line.amount < 0);
        v_is_free := billing._is_free(v_line, v_invoice);
        insert into billing.credit_schedules (
            stripe_line_id, account_id, stripe_subscription_id, stripe_subscription_item_id, stripe_invoice_id,
            stripe_price_id, gives_back, is_change, is_free, is_plain, counts_from, quantity, period_start, period_end,
            anchor, terms_from, paid_at, ends_at, next_slot_at
        )
        values (
            v_line.stripe_line_id, v_invoice.account_id, v_subscription_id,
            v_line.stripe_subscription_item_id, v_invoice.stripe_invoice_id, v_plan.stripe_price_id, v_gives_back,
            v_line.is_proration, v_gives_back or v_is_free, true, v_counts_from,
            billing._seats(v_plan, v_line.quantity), v_line.period_start, v_line.period_end, v_anchor,
            case when v_gives_back then '-infinity' else v_line.period_start end,
            coalesce(v_invoice.paid_at, v_invoice.as_of), v_line.period_end,
            -- The first month is granted at once, so a paid line with only one month never falls due.
            case
                when v_gives_back or v_counts_from = 'infinity' then null
                when v_is_free or billing._first_slot(v_anchor, v_line.period_start + interval '1 microsecond')
                    < v_line.period_end then v_line.period_start
            end
        )
        on conflict on constraint credit_schedules_pkey do nothing;
        continue when not found;
        v_from := least(v_from, case when v_counts_from < 'infinity' then v_line.period_start else 'infinity' end);
        v_shared_from := least(v_shared_from, v_line.period_start);
        v_is_shared := v_is_shared or v_line.is_proration or v_has_neighbours;
    end loop;
    if v_is_shared then
        v_from := least(v_from, billing._match_credits(v_invoice.stripe_subscription_id, v_shared_from));
    end if;
    return v_from;
end
$$;

CREATE FUNCTION billing._record_terms(plan billing.plans, valid_from timestamp with time zone) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    insert into billing.credit_terms (
        stripe_price_id, valid_from, initial_credits, monthly_credits, trial_credits, rollover, rollover_periods,
        rollover_cap, proration_credits, downgrade_credits, cancel_credits, trial_end_credits
    )
    values (
        (_record_terms.plan).stripe_price_id, _record_terms.valid_from, (_record_terms.plan).initial_credits,
        (_record_terms.plan).monthly_credits, (_record_terms.plan).trial_credits, (_record_terms.plan).rollover,
        (_record_terms.plan).rollover_periods, (_record_terms.plan).rollover_cap,
        (_record_terms.plan).proration_credits, (_record_terms.plan).downgrade_credits,
        (_record_terms.plan).cancel_credits, (_record_terms.plan).trial_end_credits
    )
    on conflict on constraint credit_terms_pkey do update
    set initial_credits = excluded.initial_credits,
        monthly_credits = excluded.monthly_credits,
        trial_credits = excluded.trial_credits,
        rollover = excluded.rollover,
        rollover_periods = excluded.rollover_periods,
        rollover_cap = excluded.rollover_cap,
        proration_credits = excluded.proration_credits,
        downgrade_credits = excluded.downgrade_credits,
        cancel_credits = excluded.cancel_credits,
        trial_end_credits = excluded.trial_end_credits;
end
$$;

CREATE FUNCTION billing._record_trial(stripe_subscription_id text, items jsonb, as_of timestamp with time zone) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    insert into billing.trial_items as held (
        stripe_subscription_id, stripe_subscription_item_id, stripe_price_id, seen_at
    )
    select
        _record_trial.stripe_subscription_id, item.stripe_subscription_item_id, item.stripe_price_id, _record_trial.as_of
    from jsonb_to_recordset(_record_trial.items) as item (stripe_subscription_item_id text, stripe_price_id text)
    on conflict on constraint trial_items_pkey do update set seen_at = excluded.seen_at
    where held.seen_at > excluded.seen_at;
end
$$;

CREATE FUNCTION billing._refund_rank(status text) RETURNS integer
    LANGUAGE sql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select case _refund_rank.status when 'pending' then 1 when 'requires_action' then 1 when 'succeeded' then 2 else 3 end
$$;

CREATE FUNCTION billing._refuse_checkout(answer jsonb) RETURNS jsonb
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_error jsonb := _refuse_checkout.answer -> 'error';
begin
    if billing._is_kept_by_stripe(v_error) then
        perform billing._discard_checkout_key(_refuse_checkout.answer ->> 'idempotency_key');
    elsif v_error ->> 'code' = 'resource_missing' and v_error ->> 'param' ~ '^line_items\y.*\yprice\y' then
        -- The price was deleted in Stripe, and its event has not arrived yet.
        return billing._refused_step(
            errcode => 'TB042', message => 'this plan or pack is no longer on sale',
            hint => 'Choose another plan or pack.'
        );
    end if;
    return billing._refused_by_stripe(v_error);
end
$$;

CREATE FUNCTION billing._refused(held_as_of timestamp with time zone, offered_as_of timestamp with time zone) RETURNS text
    LANGUAGE sql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select case when _refused.held_as_of > _refused.offered_as_of then 'stale' else 'refetch' end
$$;

CREATE FUNCTION billing._refused_by_stripe(error jsonb) RETURNS jsonb
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_status integer := (_refused_by_stripe.error ->> 'status')::integer;
begin
    if v_status is null or v_status in (409, 429) or v_status >= 500
        or _refused_by_stripe.error ->> 'type' in ('api_error', 'idempotency_error')
        or _refused_by_stripe.error ->> 'code' = 'rate_limit'
    then
        return billing._refused_step(
            errcode => 'TB062',
            message => format('Stripe is unavailable: %s', _refused_by_stripe.error ->> 'message'),
            hint => 'Nothing was bought; try again.'
        );
    end if;
    return billing._refused_step(
        errcode => 'TB063',
        message => format('Stripe refused the request: %s', _refused_by_stripe.error ->> 'message'),
        hint => 'Correct what Stripe names, or check STRIPE_API_KEY and its permissions.'
    );
end
$$;

CREATE FUNCTION billing._refused_step(errcode text, message text, hint text) RETURNS jsonb
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    return jsonb_build_object('refused', jsonb_build_object(
        'code', _refused_step.errcode, 'message', _refused_step.message, 'hint', _refused_step.hint
    ));
end
$$;

CREATE TABLE billing.credit_reinstatements (
    id bigint NOT NULL,
    account_id uuid NOT NULL,
    revocation_id bigint NOT NULL,
    entry_id bigint,
    amount bigint NOT NULL,
    unwithheld bigint NOT NULL,
    reason text NOT NULL,
    actor text NOT NULL,
    key_space billing.key_space NOT NULL,
    idempotency_key billing.idempotency_key NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT amount_is_positive CHECK ((amount > 0)),
    CONSTRAINT unwithheld_is_within_the_amount CHECK (((unwithheld >= 0) AND (unwithheld <= amount)))
);

COMMENT ON TABLE billing.credit_reinstatements IS 'What was reinstated of revocations.';

COMMENT ON COLUMN billing.credit_reinstatements.entry_id IS 'The entry of the reinstatement; null if it only ended withholding.';

COMMENT ON COLUMN billing.credit_reinstatements.unwithheld IS 'Credits that were still to be withheld, and no longer are.';

CREATE FUNCTION billing._reinstate(revocation billing.credit_revocations, amount bigint, key_space text, idempotency_key text, reason text, actor text) RETURNS billing.credit_reinstatements
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_balance billing.credit_balances := billing._lock_settled_balance((_reinstate.revocation).account_id);
    v_revocation billing.credit_revocations;
    v_original billing.credit_entries;
    v_entry billing.credit_entries;
    v_reinstatement billing.credit_reinstatements;
    v_left bigint;
    v_part bigint;
    v_suffix text := '';
    v_written_off bigint := 0;
begin
    -- Read again: now under the lock.
    select * into strict v_revocation from billing.credit_revocations
    where credit_revocations.id = (_reinstate.revocation).id;
    v_left := v_revocation.taken - v_revocation.reinstated
        + case v_revocation.shortfall_policy when 'clamp_and_record' then 0 else v_revocation.shortfall end;
    v_reinstatement.amount := coalesce(_reinstate.amount, v_left);
    if v_left = 0 or v_reinstatement.amount > v_left then
        raise exception 'only % credits of revocation % can be reinstated', v_left, v_revocation.id
            using errcode = 'TB027', hint = 'Reinstate at most that number.';
    end if;
    if v_revocation.created_at < v_balance.written_off_at then
        -- Closing the account ended this withholding, so no grant gave it up.
        v_written_off := v_balance.written_off_withheld;
    end if;
    v_reinstatement.unwithheld := case v_revocation.shortfall_policy
        when 'block_future_grants' then least(
            v_balance.withheld + v_written_off,
            greatest(v_reinstatement.amount - greatest(v_revocation.taken - v_revocation.reinstated, 0), 0)
        )
        else 0
    end;

    update billing.credit_revocations
    set reinstated = credit_revocations.reinstated + v_reinstatement.amount,
        -- What was only recorded is no longer requested; otherwise it would be taken from the reinstated credits.
        voided = case credit_revocations.shortfall_policy
            when 'clamp_and_record' then greatest(credit_revocations.voided, credit_revocations.shortfall)
            else credit_revocations.voided
        end
    where credit_revocations.id = v_revocation.id;
    v_written_off := least(v_written_off, v_reinstatement.unwithheld);
    update billing.credit_balances
    set withheld = credit_balances.withheld + v_written_off - v_reinstatement.unwithheld,
        written_off_withheld = credit_balances.written_off_withheld - v_written_off
    where credit_balances.account_id = v_revocation.account_id;
    v_left := v_reinstatement.amount - v_reinstatement.unwithheld;
    -- What it took at once, then what it took of credits that returned later.
    for v_original in
        select credit_entries.* from billing.credit_entries
        where credit_entries.id = v_revocation.entry_id
            or credit_entries.kind = 'revocation' and credit_entries.key_space = 'system'
            and credit_entries.reverses_entry_id = (
                select credit_grants.entry_id from billing.credit_grants where credit_grants.id = v_revocation.grant_id
            )
            and credit_entries.idempotency_key ^@ pg_catalog.format('claim:%s:', v_revocation.id)
        order by credit_entries.id
    loop
        v_part := least(v_left, -v_original.amount - coalesce((
            select sum(credit_entries.amount) from billing.credit_entries
            where credit_entries.reverses_entry_id = v_original.id and credit_entries.kind = 'reinstatement'
        ), 0));
        continue when v_part = 0;
        v_entry := billing._reverse_entry(
            v_original, 'reinstatement', v_part, _reinstate.key_space, _reinstate.idempotency_key || v_suffix,
            _reinstate.reason, '{}', _reinstate.actor
        );
        v_suffix := pg_catalog.format(':%s', v_original.id);
        v_left := v_left - v_part;
    end loop;
    if v_left > 0 then
        -- Later grants gave it up.
        v_entry := billing._grant_credits(
            account_id => v_revocation.account_id,
            amount => v_left,
            key_space => _reinstate.key_space,
            idempotency_key => _reinstate.idempotency_key || v_suffix,
            source => 'reinstatement',
            reference_id => v_revocation.id::text,
            description => _reinstate.reason,
            kind => 'reinstatement',
            actor => _reinstate.actor
        );
    end if;

    insert into billing.credit_reinstatements (
        account_id, revocation_id, entry_id, amount, unwithheld, reason, actor, key_space, idempotency_key
    )
    values (
        v_revocation.account_id, v_revocation.id, v_entry.id, v_reinstatement.amount, v_reinstatement.unwithheld,
        _reinstate.reason, _reinstate.actor, _reinstate.key_space, _reinstate.idempotency_key
    )
    returning * into v_reinstatement;
    return v_reinstatement;
end
$$;

CREATE FUNCTION billing._release_pins(hold_ids uuid[]) RETURNS timestamp with time zone
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    with pins as (
        select credit_hold_lots.grant_id, sum(credit_hold_lots.amount) as amount from billing.credit_hold_lots
        where credit_hold_lots.hold_id = any (_release_pins.hold_ids) and credit_hold_lots.amount > 0
        group by credit_hold_lots.grant_id
    ),
    emptied as (
        update billing.credit_hold_lots set amount = 0
        where credit_hold_lots.hold_id = any (_release_pins.hold_ids) and credit_hold_lots.amount > 0
    ),
    freed as (
        update billing.credit_grants set held = credit_grants.held - pins.amount
        from pins where credit_grants.id = pins.grant_id
        returning credit_grants.expires_at
    )
    select min(freed.expires_at) from freed
$$;

CREATE FUNCTION billing._remember_due(account_id uuid, due_at timestamp with time zone) RETURNS void
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    update billing.credit_balances set next_due_at = _remember_due.due_at
    where credit_balances.account_id = _remember_due.account_id
        and _remember_due.due_at < coalesce(credit_balances.next_due_at, 'infinity')
$$;

CREATE FUNCTION billing._repay_debt(account_id uuid) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_balance billing.credit_balances := billing._lock_balance(_repay_debt.account_id);
    v_repaid bigint := least(v_balance.debt, v_balance.balance + v_balance.debt - v_balance.held);
begin
    if v_repaid > 0 then
        perform billing._post_entry(v_balance, billing._entry(
            account_id => v_balance.account_id, kind => 'repayment', amount => 0, debt => -v_repaid,
            source => 'app', description => format('%s credits of debt repaid', v_repaid), key_space => 'system',
            idempotency_key => 'repayment:' || billing._last_entry_id(v_balance.account_id),
            occurred_at => billing.current_time()
        ));
    end if;
end
$$;

CREATE FUNCTION billing._replace_payment_link(stripe_payment_link_id text, name text) RETURNS jsonb
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_gone billing.payment_links;
    v_is_pack boolean;
begin
    update billing.payment_links
    set active = false, retired_at = now(), retired_reason = 'stripe', updated_at = now()
    where payment_links.stripe_payment_link_id = _replace_payment_link.stripe_payment_link_id and payment_links.active;
    select * into strict v_gone from billing.payment_links
    where payment_links.stripe_payment_link_id = _replace_payment_link.stripe_payment_link_id;
    v_is_pack := v_gone.params ? 'customer_creation';
    return billing.claim_payment_link(
        case when not v_is_pack then _replace_payment_link.name end,
        case when v_is_pack then _replace_payment_link.name end,
        v_gone.options
    );
end
$$;

CREATE FUNCTION billing._report_deleted_user(account_id uuid) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_subscription record;
    v_policy text := (select settings.on_user_deleted from billing.settings);
begin
    if billing._has_user(_report_deleted_user.account_id) then
        return;
    end if;
    for v_subscription in
        select subscriptions.stripe_subscription_id, subscriptions.stripe_customer_id, subscriptions.status
        from billing.subscriptions
        where subscriptions.account_id = _report_deleted_user.account_id
            and subscriptions.livemode = billing.is_livemode() and not subscriptions.cancel_at_period_end
            and subscriptions.status in ('active', 'trialing', 'past_due', 'unpaid', 'paused')
        order by subscriptions.stripe_subscription_id
    loop
        perform billing._notify(
            _report_deleted_user.account_id, 'administrators', 'user_deleted_while_subscribed',
            'user_deleted_while_subscribed:' || v_subscription.stripe_subscription_id,
            jsonb_build_object(
                'stripe_subscription_id', v_subscription.stripe_subscription_id,
                'stripe_customer_id', v_subscription.stripe_customer_id, 'status', v_subscription.status,
                'on_user_deleted', v_policy
            )
        );
        if v_policy = 'cancel' then
            insert into billing.fraud_actions (
                account_id, action, status, reason, actor, stripe_subscription_id, decided_at
            )
            values (
                _report_deleted_user.account_id, 'cancel_subscription', 'queued', 'the user was deleted',
                'on_user_deleted', v_subscription.stripe_subscription_id, billing.current_time()
            )
            on conflict (stripe_subscription_id) where actor = 'on_user_deleted' do nothing;
        end if;
    end loop;
end
$$;

CREATE FUNCTION billing._report_if_deleted(user_id uuid, account_id uuid) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET lock_timeout TO '1s'
    AS $$
begin
    if not exists (
        select from auth.users where users.id = _report_if_deleted.user_id and users.deleted_at is null
    ) then
        perform billing._report_deleted_user(_report_if_deleted.account_id);
    end if;
exception when others then
    raise warning 'could not check the subscriptions of account %: %', _report_if_deleted.account_id, sqlerrm;
end
$$;

CREATE FUNCTION billing._resolve_packs(stripe_product_id text, declared_from timestamp with time zone) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_price billing.one_time_prices;
begin
    update billing.credit_packs
    set pack_credits = (found.declared).pack_credits, credits_per_unit = (found.declared).credits_per_unit,
        expires_after = (found.declared).expires_after, updated_at = now()
    from (
        select packs.stripe_price_id, billing._declared_pack(row(
            packs.stripe_price_id, packs.stripe_product_id, packs.livemode, packs.active, packs.lookup_key,
            packs.nickname, packs.currency, packs.unit_amount, packs.credits_per_unit is not null, packs.metadata,
            packs.as_of
        )) as declared
        from billing.credit_packs as packs
        where packs.stripe_product_id = _resolve_packs.stripe_product_id
    ) as found
    where credit_packs.stripe_price_id = found.stripe_price_id and billing._is_pack(found.declared)
        and (credit_packs.pack_credits, credit_packs.credits_per_unit, credit_packs.expires_after) is distinct from
            ((found.declared).pack_credits, (found.declared).credits_per_unit, (found.declared).expires_after);

    for v_price in
        delete from billing.one_time_prices
        where one_time_prices.stripe_product_id = _resolve_packs.stripe_product_id
            and billing._is_pack(billing._declared_pack(one_time_prices))
        returning *
    loop
        perform billing._open_pack(v_price, billing._declared_pack(v_price), _resolve_packs.declared_from);
    end loop;
end
$$;

CREATE FUNCTION billing._resolve_plan(stripe_price_id text) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_plan billing.plans;
    v_product billing.products;
begin
    select * into strict v_plan from billing.plans where plans.stripe_price_id = _resolve_plan.stripe_price_id;
    select * into strict v_product from billing.products
    where products.stripe_product_id = v_plan.stripe_product_id;
    v_plan := billing._declared_plan(v_plan, v_product);
    perform billing._set_terms(v_plan);
    if billing._declares_credits(v_plan.metadata) or billing._declares_credits(v_product.metadata) then
        perform billing._record_terms(v_plan, greatest(v_plan.as_of, v_product.as_of));
    end if;
    perform billing._resolve_terms(v_plan, v_product);
end
$$;

CREATE FUNCTION billing._resolve_terms(plan billing.plans, product billing.products) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
declare
    v_stripe_price_id text := (_resolve_terms.plan).stripe_price_id;
    v_trial text := coalesce(
        (_resolve_terms.plan).metadata ->> 'trial_days', (_resolve_terms.product).metadata ->> 'trial_days'
    );
    v_seats text := coalesce((_resolve_terms.plan).metadata ->> 'seats', (_resolve_terms.product).metadata ->> 'seats');
    v_bounds text[] := regexp_match(v_seats, '^([1-9][0-9]{0,5})(?:-([1-9][0-9]{0,5}))?$');
begin
    if v_trial !~ '^[0-9]{1,3}$' or v_trial::integer > 730 then
        raise exception 'metadata trial_days of % is "%", it must be a whole number of days up to 730', v_stripe_price_id, v_trial
            using errcode = 'TB017', hint = 'Correct the metadata in Stripe. The update event then syncs the plan.';
    elsif v_seats <> 'any' and (v_bounds is null or v_bounds[2]::bigint < v_bounds[1]::bigint) then
        raise exception 'metadata seats of % is "%", it must be any, N or N-M', v_stripe_price_id, v_seats
            using errcode = 'TB017', hint = 'Correct the metadata in Stripe. The update event then syncs the plan.';
    end if;
    update billing.plans
    set trial_days = coalesce(v_trial::integer, plans.trial_days),
        seats_min = case when v_seats is null then plans.seats_min else coalesce(v_bounds[1]::bigint, 1) end,
        seats_max = case when v_seats is null then plans.seats_max else coalesce(v_bounds[2], v_bounds[1])::bigint end
    where plans.stripe_price_id = v_stripe_price_id
        and (v_trial is not null or v_seats is not null);
end
$_$;

CREATE FUNCTION billing._restore_grants(account_id uuid) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_account_id uuid := _restore_grants.account_id;
    v_balance billing.credit_balances;
    v_gap record;
    v_grant record;
    v_entry_id bigint;
    v_taken record;
    v_lot billing.credit_grants;
begin
    for v_gap in
        select chain.id, chain.previous_id, chain.balance_before, chain.occurred_at, chain.missing
        from (
            select
                entries.id, entries.occurred_at, lag(entries.id, 1, 0::bigint) over earlier as previous_id,
                lag(entries.balance_after, 1, 0::bigint) over earlier as balance_before,
                entries.balance_after - entries.amount - lag(entries.balance_after, 1, 0::bigint) over earlier as missing
            from billing.credit_entries as entries
            where entries.account_id = v_account_id
            window earlier as (order by entries.id)
        ) as chain
        where chain.missing > 0
        order by chain.id
    loop
        select * into v_grant from billing._missing_grants(v_account_id) as missing
        -- It may be worth less since, because money was returned: the rest is then taken back.
        where missing.credits <= v_gap.missing
        order by missing.credits desc, missing.moment, missing.business_key
        limit 1;
        continue when not found;
        -- The id that the entry had is free, whatever other accounts have around it.
        select free.id into v_entry_id
        from generate_series(v_gap.id - 1, v_gap.previous_id + 1, -1) as free (id)
        where not exists (select from billing.credit_entries where credit_entries.id = free.id)
        limit 1;
        select consumptions.grant_id, sum(consumptions.amount)::bigint as credits into v_taken
        from billing.credit_consumptions as consumptions
        join billing.credit_entries as entries on entries.id = consumptions.entry_id
        where entries.account_id = v_account_id
            and not exists (select from billing.credit_grants where credit_grants.id = consumptions.grant_id)
        group by consumptions.grant_id
        having sum(consumptions.amount) <= v_gap.missing
        order by consumptions.grant_id
        limit 1;

        v_lot := billing._lot(
            account_id => v_account_id, entry_id => v_entry_id, amount => v_gap.missing,
            effective_at => v_grant.moment, source => v_grant.source, reference_id => v_grant.reference_id,
            key_space => 'stripe', idempotency_key => billing._next_lot_key(v_grant.business_key),
            description => v_grant.description, expires_at => v_grant.expires_at,
            stripe_invoice_id => v_grant.stripe_invoice_id,
            stripe_subscription_item_id => v_grant.stripe_subscription_item_id,
            stripe_price_id => v_grant.stripe_price_id,
            stripe_checkout_session_id => v_grant.stripe_checkout_session_id,
            stripe_payment_intent_id => v_grant.stripe_payment_intent_id,
            id => coalesce(v_taken.grant_id, nextval('billing.credit_grants_id_seq'))
        );
        v_lot.remaining := v_gap.missing - coalesce(v_taken.credits, 0);
        select * into strict v_balance from billing.credit_balances where credit_balances.account_id = v_account_id;
        perform billing._write_entries(
            array[v_balance],
            array[billing._entry(
                id => v_entry_id, account_id => v_account_id, kind => 'grant', amount => v_gap.missing,
                balance_after => v_gap.balance_before + v_gap.missing, source => v_grant.source,
                reference_id => v_grant.reference_id, description => v_grant.description, key_space => 'stripe',
                idempotency_key => v_lot.idempotency_key, occurred_at => v_gap.occurred_at
            )],
            array[v_lot], '{}'
        );
        if v_lot.remaining = 0 then
            update billing.credit_grants set closed_at = v_gap.occurred_at where credit_grants.id = v_lot.id;
        end if;
    end loop;
end
$$;

CREATE FUNCTION billing._retire_links(ids uuid[], reason text) RETURNS void
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    update billing.payment_links
    set active = false, retired_at = now(), retired_reason = _retire_links.reason,
        deactivate_at = case when payment_links.stripe_payment_link_id is not null then now() end, updated_at = now()
    where payment_links.id = any (_retire_links.ids) and payment_links.active
$$;

CREATE FUNCTION billing._retire_links_of_price(stripe_price_id text) RETURNS void
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select billing._retire_links(array_agg(payment_links.id), 'price') from billing.payment_links
    where payment_links.stripe_price_id = _retire_links_of_price.stripe_price_id and payment_links.active
$$;

CREATE FUNCTION billing._retry_events_waiting_for(stripe_id text) RETURNS void
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select billing.retry_stripe_event(stripe_events.stripe_event_id) from billing.stripe_events
    where stripe_events.waiting_for = _retry_events_waiting_for.stripe_id
$$;

CREATE FUNCTION billing._returned_credits(stripe_invoice_id text, with_contested boolean DEFAULT false) RETURNS TABLE(stripe_subscription_item_id text, moment timestamp with time zone, credits bigint)
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_invoice billing.invoices;
    v_price numeric;
    v_listed numeric;
    v_return billing.returned_money;
    v_line_ids text[];
    v_line_prices numeric[];
    v_line_worths numeric[];
    v_line_returned numeric[];
    v_line_gone numeric[];
    v_slot_lines integer[];
    v_slot_items text[];
    v_slot_moments timestamptz[];
    v_slot_unused boolean[];
    v_slot_worths numeric[];
    v_slot_left numeric[];
    v_spread numeric := 0;
    v_by_line numeric := 0;
    v_gone numeric;
    v_later numeric;
    v_part numeric;
begin
    select * into v_invoice from billing.invoices
    where invoices.stripe_invoice_id = _returned_credits.stripe_invoice_id;
    v_price := billing._price_of_invoice(v_invoice);
    if v_price is null or v_price <= 0 then
        return;
    end if;
    select coalesce(sum(lines.amount - coalesce(lines.discount, 0)), 0) into v_listed from billing.invoice_lines as lines
    where lines.stripe_invoice_id = v_invoice.stripe_invoice_id;

    -- Every month of every line; the initial credits count as one more month of the line that granted them.
    with found as (
        select
            months.*, months.whole_credits * months.line_seconds / months.slot_seconds as credits,
            months.gives_back and months.moment > months.slot_start as is_cut,
            months.proration_credits = 'none' and months.moment > months.slot_start and not months.gives_back
                as is_not_counted
        from billing._slots_of_lines('{}', '-infinity', 'infinity', v_invoice.stripe_invoice_id) as months
        where not months.is_free
    ),
    slots as (
        select
            found.stripe_line_id, found.stripe_subscription_item_id as item_id, found.moment,
            not found.is_reached as is_unused,
            case
                -- It offsets what was given back, at most.
                when found.is_not_counted then coalesce(
                    found.credits * least(
                        -sum(found.credits) filter (where found.is_cut) over together,
                        sum(found.credits) filter (where found.is_not_counted) over together
                    ) / nullif(sum(found.credits) filter (where found.is_not_counted) over together, 0), 0
                ) * (count(*) filter (where found.is_cut) over together > 0)::integer
                else found.credits
            end as worth
        from found
        window together as (partition by found.stripe_subscription_id, found.moment)
        union all
        select
            (
                select min(schedules.stripe_line_id) from billing.credit_schedules as schedules
                where schedules.stripe_invoice_id = v_invoice.stripe_invoice_id and not schedules.gives_back
                    and schedules.stripe_subscription_item_id = lots.stripe_subscription_item_id
            ),
            lots.stripe_subscription_item_id, null, false, sum(lots.amount)
        from billing.credit_grants as lots
        where lots.stripe_invoice_id = v_invoice.stripe_invoice_id and lots.key_space = 'stripe'
            and lots.idempotency_key ^@ 'initial:'
            and not exists (
                select from billing.credit_schedules as free
                where free.stripe_invoice_id = v_invoice.stripe_invoice_id and free.is_free
                    and free.stripe_subscription_item_id = lots.stripe_subscription_item_id
            )
        group by lots.stripe_subscription_item_id
        union all
        select purchases.stripe_line_id, purchases.business_key, null, false, purchases.credits
        from billing.pack_purchases as purchases
        where purchases.stripe_invoice_id = v_invoice.stripe_invoice_id and purchases.stripe_line_id is not null
            and purchases.price > 0
    ),
    lines as (
        select
            slots.stripe_line_id, sum(slots.worth) as worth,
            case when v_listed > 0 then v_price * max(invoice_lines.amount - coalesce(invoice_lines.discount, 0)) / v_listed end
                as price,
            row_number() over (order by slots.stripe_line_id)::integer as place
        from slots
        left join billing.invoice_lines on invoice_lines.stripe_line_id = slots.stripe_line_id
        group by slots.stripe_line_id
    )
    select
        (select array_agg(lines.stripe_line_id order by lines.place) from lines),
        (select array_agg(lines.price order by lines.place) from lines),
        (select array_agg(lines.worth order by lines.place) from lines),
        array_agg(lines.place order by slots.moment nulls first, slots.item_id, slots.stripe_line_id),
        array_agg(slots.item_id order by slots.moment nulls first, slots.item_id, slots.stripe_line_id),
        array_agg(slots.moment order by slots.moment nulls first, slots.item_id, slots.stripe_line_id),
        array_agg(slots.is_unused order by slots.moment nulls first, slots.item_id, slots.stripe_line_id),
        array_agg(slots.worth order by slots.moment nulls first, slots.item_id, slots.stripe_line_id)
    into
        v_line_ids, v_line_prices, v_line_worths, v_slot_lines, v_slot_items, v_slot_moments, v_slot_unused,
        v_slot_worths
    from slots join lines on lines.stripe_line_id is not distinct from slots.stripe_line_id;
    if v_line_ids is null then
        return;
    end if;
    v_slot_left := v_slot_worths;
    v_line_returned := array_fill(0::numeric, array[cardinality(v_line_ids)]);
    v_line_gone := v_line_returned;

    for v_return in
        select * from billing._returns_of_invoice(v_invoice.stripe_invoice_id) as returns
        where _returned_credits.with_contested or not returns.is_contested
        order by returns.is_contested, returns.returned_at, returns.stripe_line_id, returns.amount
    loop
        if v_return.stripe_line_id is null or v_listed <= 0 then
            v_spread := least(v_spread + v_return.amount, v_price - v_by_line);
        else
            v_by_line := least(v_by_line + v_return.amount, v_price);
            v_spread := least(v_spread, v_price - v_by_line);
        end if;
        for place in 1 .. cardinality(v_line_ids) loop
            if v_line_ids[place] = v_return.stripe_line_id then
                v_line_returned[place] := v_line_returned[place] + v_return.amount;
            end if;
            v_part := 1;
            if v_line_prices[place] > 0 then
                v_part := greatest(1 - v_line_returned[place] / v_line_prices[place], 0);
            end if;
            if v_by_line < v_price then
                v_part := v_part * (v_price - v_by_line - v_spread) / (v_price - v_by_line);
            end if;
            v_gone := v_line_worths[place] * (1 - v_part) - v_line_gone[place];
            continue when v_gone = 0;
            v_line_gone[place] := v_line_gone[place] + v_gone;
            select coalesce(sum(slots.worth), 0) into v_later
            from unnest(v_slot_lines, v_slot_moments, v_slot_unused, v_slot_left) as slots (line, moment, is_unused, worth)
            where slots.line = place and (slots.moment > v_return.returned_at or slots.is_unused);
            for slot in 1 .. cardinality(v_slot_left) loop
                continue when v_slot_lines[slot] <> place;
                if v_slot_unused[slot] or coalesce(v_slot_moments[slot] > v_return.returned_at, false) then
                    if v_later <> 0 then
                        v_slot_left[slot] := v_slot_left[slot] * (1 - least(v_gone / v_later, 1));
                    end if;
                elsif abs(v_gone) > abs(v_later) and v_line_worths[place] - v_line_gone[place] + v_gone - v_later <> 0 then
                    v_slot_left[slot] := v_slot_left[slot] * (
                        1 - (v_gone - v_later) / (v_line_worths[place] - v_line_gone[place] + v_gone - v_later)
                    );
                end if;
            end loop;
        end loop;
    end loop;

    -- Rounds the running total down; each part is the difference between its end and its start.
    return query
    select
        parts.item_id, parts.moment, (floor(round(parts.so_far, 9)) - floor(round(parts.so_far - parts.gone, 9)))::bigint
    from (
        select
            sums.item_id, sums.moment, sums.gone,
            sum(sums.gone) over (order by sums.moment nulls first, sums.item_id rows unbounded preceding) as so_far
        from (
            select slots.item_id, slots.moment, sum(slots.worth - slots.worth_left) as gone
            from unnest(v_slot_items, v_slot_moments, v_slot_worths, v_slot_left)
                as slots (item_id, moment, worth, worth_left)
            group by slots.item_id, slots.moment
        ) as sums
    ) as parts
    where floor(round(parts.so_far, 9)) <> floor(round(parts.so_far - parts.gone, 9));
end
$$;

CREATE FUNCTION billing._returned_of_purchase(purchase billing.pack_purchases, with_contested boolean DEFAULT false) RETURNS bigint
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_purchase billing.pack_purchases := _returned_of_purchase.purchase;
    v_returned numeric;
begin
    if v_purchase.price = 0 then
        return 0;
    elsif v_purchase.stripe_line_id is not null then
        return coalesce((
            select returned.credits
            from billing._returned_credits(v_purchase.stripe_invoice_id, _returned_of_purchase.with_contested) as returned
            where returned.stripe_subscription_item_id = v_purchase.business_key
        ), 0);
    end if;
    select sum(returns.amount) into v_returned
    from billing._returns_of_payments(array[v_purchase.stripe_payment_intent_id], '{}', '{}') as returns
    where _returned_of_purchase.with_contested or not returns.is_contested;
    return billing._gone(v_purchase.credits, coalesce(v_returned, 0), v_purchase.price);
end
$$;

CREATE FUNCTION billing._returns_of_invoice(stripe_invoice_id text) RETURNS SETOF billing.returned_money
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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

CREATE FUNCTION billing._returns_of_payments(stripe_payment_intent_ids text[], stripe_charge_ids text[], note_refund_ids text[]) RETURNS SETOF billing.returned_money
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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

CREATE FUNCTION billing._reverse_entry(original billing.credit_entries, kind text, amount bigint, key_space text, idempotency_key text, description text, metadata jsonb, actor text) RETURNS billing.credit_entries
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_original billing.credit_entries := _reverse_entry.original;
    v_balance billing.credit_balances := billing._lock_settled_balance(v_original.account_id);
    v_entry billing.credit_entries;
    v_to_lots bigint;
    v_debt bigint;
    v_new bigint;
    v_left bigint;
    v_takes billing.credit_consumptions[];
begin
    if v_balance.balance > 9223372036854775807 - _reverse_entry.amount then
        raise exception 'account % would exceed 9223372036854775807 credits', v_original.account_id
            using errcode = 'TB009', hint = 'Refund less.';
    elsif v_original.created_at < v_balance.written_off_at then
        v_balance := billing._owe_again(v_original, _reverse_entry.kind, _reverse_entry.amount);
    end if;

    -- What the entry took from lots and was not returned to them yet.
    select coalesce(sum(credit_consumptions.amount), 0) into v_to_lots
    from billing.credit_entries
    join billing.credit_consumptions on credit_consumptions.entry_id = credit_entries.id
    where credit_entries.id = v_original.id
        or credit_entries.reverses_entry_id = v_original.id and credit_entries.kind in ('refund', 'reinstatement');
    v_left := -v_original.amount - coalesce((
        select sum(credit_entries.amount) from billing.credit_entries
        where credit_entries.reverses_entry_id = v_original.id and credit_entries.kind in ('refund', 'reinstatement')
    ), 0);
    -- The rest of what it took was debt, and comes first.
    v_new := least(_reverse_entry.amount, greatest(v_left - v_to_lots, 0));
    v_debt := least(v_new, v_balance.debt);
    v_to_lots := least(_reverse_entry.amount - v_new, v_to_lots);
    v_new := _reverse_entry.amount - v_debt - v_to_lots;

    v_entry := billing._entry(
        account_id => v_original.account_id, kind => _reverse_entry.kind, amount => _reverse_entry.amount,
        debt => -v_debt, source => v_original.source, reference_id => v_original.reference_id,
        description => _reverse_entry.description, feature => v_original.feature,
        metadata => _reverse_entry.metadata, actor => _reverse_entry.actor, reverses_entry_id => v_original.id,
        key_space => _reverse_entry.key_space, idempotency_key => _reverse_entry.idempotency_key,
        occurred_at => billing.current_time()
    );
    select
        array_agg(row(v_entry.id, given.id, -given.amount)::billing.credit_consumptions),
        least(v_balance.next_due_at, min(given.expires_at))
    into v_takes, v_balance.next_due_at
    from (
        select
            lots.*, least(lots.taken, v_to_lots - (sum(lots.taken) over (
                order by lots.priority desc, lots.expires_at desc, lots.id desc
            ) - lots.taken))::bigint as amount
        from (
            select
                credit_grants.id, credit_grants.priority, credit_grants.expires_at,
                sum(credit_consumptions.amount)::bigint as taken
            from billing.credit_entries
            join billing.credit_consumptions on credit_consumptions.entry_id = credit_entries.id
            join billing.credit_grants on credit_grants.id = credit_consumptions.grant_id
            where credit_entries.id = v_original.id
                or credit_entries.reverses_entry_id = v_original.id
                and credit_entries.kind in ('refund', 'reinstatement')
            group by credit_grants.id
            having sum(credit_consumptions.amount) > 0
        ) as lots
    ) as given
    where given.amount > 0;
    v_entry := billing._post_entry(
        v_balance, v_entry,
        case when v_new > 0 then array[billing._lot(
            account_id => v_entry.account_id, entry_id => v_entry.id, amount => v_new,
            effective_at => v_entry.occurred_at, source => v_entry.source, reference_id => v_entry.reference_id,
            key_space => 'system', idempotency_key => 'returned:' || v_entry.id
        )] else '{}' end,
        coalesce(v_takes, '{}')
    );
    perform billing._repay_debt(v_original.account_id);
    perform billing._claim_returned_credits(v_original.account_id);
    return v_entry;
end
$$;

CREATE FUNCTION billing._revocable(lot billing.credit_grants) RETURNS bigint
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select (_revocable.lot).amount - coalesce(sum(billing._asked_back(credit_revocations)), 0)::bigint
    from billing.credit_revocations where credit_revocations.grant_id = (_revocable.lot).id
$$;

CREATE FUNCTION billing._revoke_grant(lot billing.credit_grants, amount bigint, key_space text, idempotency_key text, shortfall_policy text, reason text, actor text) RETURNS billing.credit_revocations
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_lot billing.credit_grants;
    v_revocation billing.credit_revocations;
    v_revocable bigint;
begin
    perform billing._lock_settled_balance((_revoke_grant.lot).account_id);
    select * into strict v_lot from billing.credit_grants where credit_grants.id = (_revoke_grant.lot).id;
    select v_lot.amount - coalesce(sum(billing._asked_back(credit_revocations)), 0) into v_revocable
    from billing.credit_revocations where credit_revocations.grant_id = v_lot.id;
    v_revocation.requested := coalesce(_revoke_grant.amount, v_revocable);
    if v_revocable = 0 or v_revocation.requested > v_revocable then
        raise exception 'only % credits of grant % can be revoked, not %', v_revocable, v_lot.id, v_revocation.requested
            using errcode = 'TB027', hint = 'Revoke at most what is left of the grant.';
    elsif v_lot.entry_id is null and v_revocation.requested < v_revocable then
        raise exception 'grant % is scheduled and can only be revoked as a whole', v_lot.id
            using errcode = 'TB032', hint = 'Revoke all of it (amount null), then schedule a smaller grant.';
    end if;

    v_revocation.taken := least(v_revocation.requested, v_lot.remaining - v_lot.held);
    v_revocation.shortfall := case
        when v_lot.entry_id is null then 0
        else least(
            v_revocation.requested - v_revocation.taken,
            greatest(billing._spent_of_lot(v_lot) - billing._open_shortfall(v_lot.id), 0)
        )
    end;
    return billing._write_revocation(
        v_lot, v_revocation.requested, v_revocation.taken, v_revocation.shortfall, _revoke_grant.key_space,
        _revoke_grant.idempotency_key, _revoke_grant.shortfall_policy, _revoke_grant.reason, _revoke_grant.actor
    );
end
$$;

CREATE FUNCTION billing._revoke_invitations_of(account_id uuid, user_id uuid) RETURNS void
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    update billing.team_invitations
    set closed_at = billing.current_time(), closed_as = 'revoked'
    where team_invitations.account_id = _revoke_invitations_of.account_id
        and team_invitations.invited_by = _revoke_invitations_of.user_id and team_invitations.closed_at is null
$$;

CREATE FUNCTION billing._revoked_by_hand(grant_id bigint) RETURNS bigint
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select coalesce(sum(credit_revocations.taken - credit_revocations.reinstated), 0)::bigint
    from billing.credit_revocations
    where credit_revocations.grant_id = _revoked_by_hand.grant_id and credit_revocations.business_key is null
$$;

CREATE FUNCTION billing._room_under_cap(balance billing.credit_balances) RETURNS bigint
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_balance billing.credit_balances := billing._in_running_period(_room_under_cap.balance);
    v_held bigint := v_balance.held;
begin
    if v_held > 0 then
        v_held := v_held - coalesce((
            select sum(credit_holds.amount - credit_holds.captured) from billing.credit_holds
            where credit_holds.account_id = v_balance.account_id and credit_holds.status = 'held'
                and credit_holds.frozen_grant_id is not null
        ), 0);
    end if;
    return greatest(v_balance.spend_cap - v_balance.spent_in_period - v_held, 0);
end
$$;

CREATE FUNCTION billing._seats(plan billing.plans, quantity bigint) RETURNS bigint
    LANGUAGE sql IMMUTABLE
    AS $$
    select case when (plan).usage_type = 'metered' then 1 else coalesce(quantity, 1) end
$$;

CREATE FUNCTION billing._seats_given_back(quantity bigint, credited_line_ids text[]) RETURNS bigint
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    return least(_seats_given_back.quantity, (
        select sum(paid.quantity)::bigint from billing.credit_schedules as paid
        where paid.stripe_line_id = any (_seats_given_back.credited_line_ids) and not paid.is_free
    ));
end
$$;

CREATE TABLE billing.card_fingerprints (
    card_fingerprint text NOT NULL,
    stripe_customer_id text NOT NULL,
    account_id uuid,
    first_seen_at timestamp with time zone NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL
);

COMMENT ON TABLE billing.card_fingerprints IS 'Cards that Stripe saw on a customer: attached or charged.';

COMMENT ON COLUMN billing.card_fingerprints.account_id IS 'The customer''s account; null while the customer is not linked.';

COMMENT ON COLUMN billing.card_fingerprints.first_seen_at IS 'The earliest time that Stripe reported, not the time of our processing.';

CREATE FUNCTION billing._seen_card(account_id uuid, granted_at timestamp with time zone, held_for text DEFAULT NULL::text) RETURNS billing.card_fingerprints
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select earlier.*
    from (
        select card_fingerprints.card_fingerprint, min(card_fingerprints.first_seen_at) as first_seen_at
        from billing.card_fingerprints
        where card_fingerprints.account_id = _seen_card.account_id
        group by 1
    ) as mine
    cross join lateral (
        select others.* from billing.card_fingerprints as others
        where others.card_fingerprint = mine.card_fingerprint and others.account_id <> _seen_card.account_id
            and (others.first_seen_at, others.account_id) < (mine.first_seen_at, _seen_card.account_id)
        order by others.first_seen_at, others.account_id
        limit 1
    ) as earlier
    where mine.first_seen_at <= _seen_card.granted_at + interval '30 days' and (
        mine.card_fingerprint = _seen_card.held_for
        or not exists (
            select from billing.held_credits
            where held_credits.account_id = _seen_card.account_id and held_credits.status = 'approved'
                and held_credits.card_fingerprint = mine.card_fingerprint
        )
    )
    order by earlier.first_seen_at, earlier.account_id, earlier.card_fingerprint
    limit 1
$$;

CREATE FUNCTION billing._seen_card_policy() RETURNS text
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select coalesce(settings.seen_card_policy, case when settings.livemode then 'hold' else 'grant' end)
    from billing.settings
$$;

CREATE FUNCTION billing._sees_every_account() RETURNS boolean
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select exists (
        select from pg_catalog.pg_roles
        where pg_roles.rolname = coalesce(nullif(current_setting('role'), 'none'), session_user)
            and (pg_roles.rolbypassrls or pg_roles.rolsuper)
    )
$$;

CREATE FUNCTION billing._set_aside(held billing.held_credits) RETURNS bigint
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_held billing.held_credits := _set_aside.held;
begin
    insert into billing.held_credits (
        account_id, kind, amount, card_fingerprint, matched_account_id, status, idempotency_key, source, reference_id,
        description, stripe_invoice_id, stripe_subscription_item_id, stripe_price_id, expires_at, held_at
    )
    select
        v_held.account_id, v_held.kind, v_held.amount, v_held.card_fingerprint, v_held.matched_account_id,
        case billing._seen_card_policy() when 'refuse' then 'refused' else 'pending' end, v_held.idempotency_key,
        v_held.source, v_held.reference_id, v_held.description, v_held.stripe_invoice_id,
        v_held.stripe_subscription_item_id, v_held.stripe_price_id, v_held.expires_at, billing.current_time()
    from billing.settings
    returning * into v_held;
    insert into billing.notifications (account_id, audience, kind, dedupe_key, payload)
    values (
        v_held.account_id, 'administrators', 'credits_held', 'credits_held:' || v_held.id,
        jsonb_build_object(
            'held_credits_id', v_held.id, 'kind', v_held.kind, 'amount', v_held.amount, 'status', v_held.status,
            'matched_account_id', v_held.matched_account_id
        )
    );
    return v_held.id;
end
$$;

CREATE FUNCTION billing._set_terms(plan billing.plans) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    perform set_config('billing.is_resolving_plan', 'true', true);
    update billing.plans
    set initial_credits = (_set_terms.plan).initial_credits,
        monthly_credits = (_set_terms.plan).monthly_credits,
        trial_credits = (_set_terms.plan).trial_credits,
        rollover = (_set_terms.plan).rollover,
        rollover_periods = (_set_terms.plan).rollover_periods,
        rollover_cap = (_set_terms.plan).rollover_cap,
        proration_credits = (_set_terms.plan).proration_credits,
        downgrade_credits = (_set_terms.plan).downgrade_credits,
        cancel_credits = (_set_terms.plan).cancel_credits,
        trial_end_credits = (_set_terms.plan).trial_end_credits,
        features = (_set_terms.plan).features,
        updated_at = now()
    where plans.stripe_price_id = (_set_terms.plan).stripe_price_id;
    perform set_config('billing.is_resolving_plan', '', true);
end
$$;

CREATE FUNCTION billing._settle_due(account_ids uuid[], as_of timestamp with time zone) RETURNS TABLE(holds_expired bigint, lots_opened bigint, lots_expired bigint, credits_expired numeric)
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_hold_ids uuid[];
    v_lot billing.credit_grants;
    v_balances billing.credit_balances[];
    v_entries billing.credit_entries[];
    v_takes billing.credit_consumptions[];
begin
    with due as (
        update billing.credit_holds set status = 'expired', settled_at = credit_holds.expires_at
        where credit_holds.account_id = any (_settle_due.account_ids)
            and credit_holds.status = 'held' and credit_holds.expires_at <= _settle_due.as_of
        returning credit_holds.id, credit_holds.account_id, credit_holds.amount - credit_holds.captured as pinned
    ),
    totals as (
        select due.account_id, sum(due.pinned) as pinned from due group by due.account_id
    ),
    given_back as (
        update billing.credit_balances set held = credit_balances.held - totals.pinned
        from totals where credit_balances.account_id = totals.account_id
    )
    select array_agg(due.id), count(*) into v_hold_ids, holds_expired from due;
    if holds_expired > 0 then
        perform billing._release_pins(v_hold_ids);
        perform billing._repay_debt(credit_balances.account_id) from billing.credit_balances
        where credit_balances.account_id = any (_settle_due.account_ids) and credit_balances.debt > 0;
        perform billing._claim_returned_credits(holds.account_id, _settle_due.as_of) from (
            select distinct credit_holds.account_id from billing.credit_holds where credit_holds.id = any (v_hold_ids)
        ) as holds;
    end if;

    lots_opened := 0;
    for v_lot in
        select * from billing.credit_grants
        where credit_grants.account_id = any (_settle_due.account_ids) and credit_grants.entry_id is null
            and credit_grants.closed_at is null and credit_grants.effective_at <= _settle_due.as_of
        order by credit_grants.account_id, credit_grants.effective_at, credit_grants.id
    loop
        -- A lot that would exceed the largest balance waits until there is room; nothing else of the account waits for
        -- it.
        if (
            select credit_balances.balance <= 9223372036854775807 - v_lot.amount from billing.credit_balances
            where credit_balances.account_id = v_lot.account_id
        ) then
            perform billing._open_scheduled_lot(v_lot);
            lots_opened := lots_opened + 1;
        end if;
    end loop;

    with due as (
        select
            nextval('billing.credit_entries_id_seq') as expiry_id, lots.*,
            -- Credits that were returned after the lot's expiry expire when they were returned, not before.
            greatest(lots.expires_at, (
                select credit_entries.occurred_at from billing.credit_consumptions
                join billing.credit_entries on credit_entries.id = credit_consumptions.entry_id
                where credit_consumptions.grant_id = lots.id and credit_consumptions.amount < 0
                order by credit_consumptions.entry_id desc
                limit 1
            )) as expired_at
        from (
            select
                credit_grants.*, credit_grants as lot, credit_grants.remaining - credit_grants.held as expiring,
                credit_balances as locked,
                row_number() over account as number,
                sum(credit_grants.remaining - credit_grants.held) over account as so_far,
                sum(credit_grants.remaining - credit_grants.held) over (partition by credit_grants.account_id) as total
            from billing.credit_grants
            join billing.credit_balances on credit_balances.account_id = credit_grants.account_id
            where credit_grants.account_id = any (_settle_due.account_ids) and credit_grants.closed_at is null
                and credit_grants.expires_at <= _settle_due.as_of and credit_grants.remaining > credit_grants.held
            window account as (
                partition by credit_grants.account_id order by credit_grants.expires_at, credit_grants.id
            )
            order by credit_grants.account_id, credit_grants.expires_at, credit_grants.id
        ) as lots
    )
    select
        array_agg(billing._moved(due.locked, -due.total::bigint)) filter (where due.number = 1),
        array_agg(billing._entry(
            id => due.expiry_id, account_id => due.account_id, kind => 'expiry', amount => -due.expiring,
            balance_after => (due.locked).balance - due.so_far::bigint, source => due.source,
            reference_id => due.reference_id, key_space => 'system',
            idempotency_key => billing._expiry_key(due.lot), occurred_at => due.expired_at
        )),
        array_agg(row(due.expiry_id, due.id, due.expiring)::billing.credit_consumptions),
        count(*), coalesce(sum(due.expiring), 0)
    into v_balances, v_entries, v_takes, lots_expired, credits_expired
    from due;
    if lots_expired > 0 then
        perform billing._write_entries(v_balances, v_entries, '{}', v_takes);
    end if;

    update billing.credit_balances
    set next_due_at = least(
            (
                select min(credit_grants.expires_at) from billing.credit_grants
                where credit_grants.account_id = credit_balances.account_id
                    and credit_grants.closed_at is null and credit_grants.remaining > credit_grants.held
            ),
            (
                select min(credit_grants.effective_at) from billing.credit_grants
                where credit_grants.account_id = credit_balances.account_id
                    and credit_grants.entry_id is null and credit_grants.closed_at is null
            ),
            (
                select min(credit_holds.expires_at) from billing.credit_holds
                where credit_holds.account_id = credit_balances.account_id and credit_holds.status = 'held'
            )
        ),
        updated_at = now()
    where credit_balances.account_id = any (_settle_due.account_ids);
    return next;
end
$$;

CREATE FUNCTION billing._settle_hold(hold billing.credit_holds, status text, release_key text DEFAULT NULL::text) RETURNS billing.credit_holds
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_hold billing.credit_holds;
    v_pinned bigint := (_settle_hold.hold).amount - (_settle_hold.hold).captured;
begin
    update billing.credit_holds
    set status = _settle_hold.status, release_key = _settle_hold.release_key, settled_at = billing.current_time()
    where credit_holds.id = (_settle_hold.hold).id
    returning * into v_hold;
    if v_pinned > 0 then
        update billing.credit_balances set held = credit_balances.held - v_pinned, updated_at = now()
        where credit_balances.account_id = v_hold.account_id;
        perform billing._remember_due(v_hold.account_id, billing._release_pins(array[v_hold.id]));
        perform billing._repay_debt(v_hold.account_id);
        perform billing._claim_returned_credits(v_hold.account_id);
    end if;
    return v_hold;
end
$$;

CREATE FUNCTION billing._settle_session(stripe_payment_intent_id text) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_session billing.checkout_sessions;
    v_received bigint;
begin
    perform billing._lock_money(_settle_session.stripe_payment_intent_id, null);
    select payment_intents.amount_received into v_received from billing.payment_intents
    where payment_intents.stripe_payment_intent_id = _settle_session.stripe_payment_intent_id;
    if not found then
        return;
    end if;
    update billing.checkout_sessions set payment_status = 'paid', updated_at = now()
    where checkout_sessions.stripe_payment_intent_id = _settle_session.stripe_payment_intent_id
        and checkout_sessions.mode = 'payment' and checkout_sessions.status = 'complete'
        and checkout_sessions.payment_status = 'unpaid'
    returning * into v_session;
    if found then
        perform billing._purchase_packs_of_session(v_session);
        return;
    end if;
    -- A session that was read as paid does not report a partial capture.
    update billing.pack_purchases
    set credits = floor(pack_purchases.credits::numeric * v_received / pack_purchases.price), price = v_received
    where pack_purchases.stripe_payment_intent_id = _settle_session.stripe_payment_intent_id
        and pack_purchases.stripe_checkout_session_id is not null and v_received < pack_purchases.price;
    if found then
        perform billing._apply_returns_of_purchases(_settle_session.stripe_payment_intent_id);
    end if;
end
$$;

CREATE FUNCTION billing._sign_reference(account_id uuid, livemode boolean, expires_at timestamp with time zone) RETURNS text
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select signed.text || '_' || encode(billing._hmac_sha256(keys.secret, signed.text), 'hex')
    from (
        select * from billing.payment_reference_keys order by payment_reference_keys.id desc limit 1
    ) as keys,
    lateral (
        select pg_catalog.format(
            'tb1_%s_%s_%s_%s', case when _sign_reference.livemode then 'l' else 't' end, keys.id,
            replace(_sign_reference.account_id::text, '-', ''), floor(extract(epoch from _sign_reference.expires_at))
        ) as text
    ) as signed
$$;

CREATE FUNCTION billing._skip_erased_notifications(account_id uuid, audience text) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_ids text[];
begin
    with skipped as (
        update billing.notifications set status = 'skipped', last_error = 'erased'
        where notifications.account_id = _skip_erased_notifications.account_id
            and notifications.audience = _skip_erased_notifications.audience
            and notifications.status in ('queued', 'sending')
        returning notifications.id
    )
    select array_agg(skipped.id::text) into v_ids from skipped;
    if v_ids is not null then
        perform billing._drop_jobs(_skip_erased_notifications.audience || '_notification', v_ids);
    end if;
end
$$;

CREATE FUNCTION billing._skip_notifications(ids bigint[]) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_ids text[];
begin
    with judged as (
        select
            notifications.id,
            case when is_wanted then 'dead' else 'skipped' end as status,
            case when is_wanted then 'not sent in time: is TILLBASE_CUSTOMER_MAIL_URL set, and the worker running?'
                else 'settings.customer_notifications does not name this kind' end as reason
        from billing.notifications
        cross join billing.settings
        cross join lateral (select notifications.kind = any (settings.customer_notifications) as is_wanted) as opted
        where notifications.audience = 'customer' and notifications.status = 'queued'
            and (_skip_notifications.ids is null or notifications.id = any (_skip_notifications.ids))
            and (
                not is_wanted
                or notifications.first_attempt_at is null
                and notifications.queued_at < now() - settings.notification_deadline
            )
        order by notifications.queued_at
        limit 10000
        for update of notifications skip locked
    ),
    skipped as (
        update billing.notifications
        set status = judged.status, last_error = judged.reason
        from judged
        where notifications.id = judged.id
        returning notifications.id
    )
    select array_agg(skipped.id::text) into v_ids from skipped;
    if v_ids is not null then
        perform billing._drop_jobs('customer_notification', v_ids);
    end if;
end
$$;

CREATE FUNCTION billing._slot(anchor timestamp with time zone, k integer) RETURNS timestamp with time zone
    LANGUAGE sql IMMUTABLE
    AS $$
    select (anchor at time zone 'utc' + pg_catalog.make_interval(months => k)) at time zone 'utc'
$$;

CREATE FUNCTION billing._slot_number(anchor timestamp with time zone, moment timestamp with time zone) RETURNS integer
    LANGUAGE sql IMMUTABLE
    AS $$
    select (12 * (pg_catalog.date_part('year', moment at time zone 'utc') - pg_catalog.date_part('year', anchor at time zone 'utc'))
        + pg_catalog.date_part('month', moment at time zone 'utc') - pg_catalog.date_part('month', anchor at time zone 'utc'))::integer
$$;

CREATE FUNCTION billing._slots_of_lines(stripe_subscription_ids text[], from_moment timestamp with time zone, until_moment timestamp with time zone, stripe_invoice_id text DEFAULT NULL::text, free_account_ids uuid[] DEFAULT NULL::uuid[]) RETURNS SETOF billing.line_slot
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    return query
    select
        lines.stripe_line_id, lines.account_id, lines.stripe_subscription_id, lines.stripe_subscription_item_id,
        lines.stripe_invoice_id, lines.stripe_price_id, lines.gives_back, lines.is_free, lines.is_plain,
        lines.has_returns,
        -- terms_from: for a line that gives back, the start of the line that it credits.
        (lines.is_unpaid or slots.slot_start <= lines.terms_from or slots.slot_start < lines.ends_at)
            and lines.ends_at > lines.counts_from,
        lines.disarmed_reason is not null and slots.slot_start > lines.period_start,
        lines.period_start, slots.slot_start, slots.slot_end,
        greatest(
            case when lines.is_unpaid then lines.period_start else greatest(slots.slot_start, lines.period_start) end,
            lines.counts_from
        ),
        (case when lines.gives_back then -1 else 1 end) * terms.monthly_credits::numeric * lines.quantity,
        extract(epoch from least(slots.slot_end, lines.period_end) - case
            when terms.proration_credits = 'full' and lines.counts_from <= slots.slot_start
                and billing._is_first_change(lines, slots.slot_start)
                then slots.slot_start
            else greatest(slots.slot_start, lines.period_start, lines.counts_from)
        end),
        extract(epoch from slots.slot_end - slots.slot_start),
        case terms.rollover
            when 'none' then case
                when lines.paid_at > greatest(slots.slot_start, lines.period_start) + interval '1 day'
                    then greatest(slots.slot_end, billing._slot(lines.paid_at, 1))
                else slots.slot_end
            end
            when 'periods' then case
                when lines.paid_at > greatest(slots.slot_start, lines.period_start) + interval '1 day'
                    then greatest(
                        billing._slot(lines.anchor, slots.k + 1 + terms.rollover_periods),
                        billing._slot(lines.paid_at, 1 + terms.rollover_periods)
                    )
                else billing._slot(lines.anchor, slots.k + 1 + terms.rollover_periods)
            end
        end,
        terms.rollover, terms.rollover_cap,
        -- The month in which the credits begin is no change of plan.
        case when lines.counts_from > slots.slot_start then 'delta' else terms.proration_credits end,
        case when lines.offsets_only then 'elsewhere' else terms.downgrade_credits end
    from (
        select credit_schedules.* from billing.credit_schedules
        where credit_schedules.stripe_subscription_id = any (_slots_of_lines.stripe_subscription_ids)
            and credit_schedules.period_end > _slots_of_lines.from_moment
        union all
        select credit_schedules.* from billing.credit_schedules
        where credit_schedules.stripe_invoice_id = _slots_of_lines.stripe_invoice_id
        union all
        select credit_schedules.* from billing.credit_schedules
        where credit_schedules.account_id = any (_slots_of_lines.free_account_ids) and credit_schedules.is_free
            and credit_schedules.stripe_subscription_id <> all (_slots_of_lines.stripe_subscription_ids)
            and credit_schedules.period_end > _slots_of_lines.from_moment
    ) as lines
    cross join lateral (
        select
            series.k, billing._slot(lines.anchor, series.k) as slot_start,
            billing._slot(lines.anchor, series.k + 1) as slot_end
        from generate_series(
            billing._slot_number(lines.anchor, greatest(lines.period_start, _slots_of_lines.from_moment)) - 1,
            billing._slot_number(lines.anchor, case
                when lines.is_unpaid then lines.period_end
                else least(lines.period_end, greatest(lines.period_start, _slots_of_lines.until_moment))
            end)
        ) as series (k)
        offset 0  -- or each month would be worked out at each place that names it
    ) as slots
    cross join lateral (
        (
            select credit_terms.* from billing.credit_terms
            where credit_terms.stripe_price_id = lines.stripe_price_id
                and credit_terms.valid_from <= greatest(slots.slot_start, lines.terms_from)
            order by credit_terms.valid_from desc
            limit 1
        )
        union all
        (
            select credit_terms.* from billing.credit_terms
            where credit_terms.stripe_price_id = lines.stripe_price_id
            order by credit_terms.valid_from
            limit 1
        )
        limit 1
    ) as terms
    where slots.slot_end > greatest(lines.period_start, _slots_of_lines.from_moment, lines.counts_from)
        and slots.slot_start < lines.period_end
        and (
            lines.is_unpaid or slots.slot_start <= lines.period_start
            or slots.slot_start <= _slots_of_lines.until_moment
        );
end
$$;

CREATE FUNCTION billing._spend_judged(account_id uuid, amount bigint, idempotency_key text, description text, metadata jsonb, feature text, reference_id text, up_to boolean) RETURNS billing.credit_entries
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    AS $$
declare
    v_amount bigint := _spend_judged.amount;
    v_up_to bigint := case when _spend_judged.up_to then v_amount end;
    v_now timestamptz;
    v_balance billing.credit_balances;
    v_entry billing.credit_entries;
begin
    v_balance := billing._lock_balance(_spend_judged.account_id);
    v_now := billing.current_time();

    select credit_entries.* into v_entry from billing.credit_entries
    where credit_entries.account_id = _spend_judged.account_id
        and credit_entries.key_space = 'caller'
        and credit_entries.idempotency_key = _spend_judged.idempotency_key;
    if found then
        if (
            v_entry.kind, coalesce(v_entry.up_to, -v_entry.amount), v_entry.up_to is not null, v_entry.description,
            v_entry.metadata, v_entry.feature, v_entry.reference_id
        ) is distinct from (
            'spend', v_amount, v_up_to is not null, _spend_judged.description, _spend_judged.metadata,
            _spend_judged.feature, _spend_judged.reference_id
        ) then
            perform billing._raise_key_reused(_spend_judged.idempotency_key);
        end if;
        return v_entry;
    end if;

    if not v_balance.may_spend then
        perform billing._check_may_spend(_spend_judged.account_id);
    end if;
    if v_balance.next_due_at <= v_now then
        v_balance := billing._lock_settled_balance(_spend_judged.account_id);
    end if;
    if v_up_to is not null then
        v_amount := least(v_up_to, v_balance.balance::numeric - v_balance.held + v_balance.overdraft);
        if v_balance.spend_cap is not null then
            -- At least one, so that a cap that is used up raises its own error.
            v_amount := least(v_amount, greatest(billing._room_under_cap(v_balance), 1));
        end if;
    end if;
    if v_amount <= 0 then
        perform billing._raise_insufficient(v_balance.account_id, 0, _spend_judged.amount);
    end if;
    v_entry := billing._entry(
        account_id => v_balance.account_id, kind => 'spend', amount => -v_amount, up_to => v_up_to,
        source => 'app', reference_id => _spend_judged.reference_id, description => _spend_judged.description,
        feature => _spend_judged.feature, metadata => _spend_judged.metadata, key_space => 'caller',
        idempotency_key => _spend_judged.idempotency_key, occurred_at => v_now
    );
    return (billing._post_spends(v_balance, array[v_entry]))[1];
end
$$;

CREATE FUNCTION billing._spent_after(account_id uuid, period_start timestamp with time zone, last_entry_id bigint) RETURNS numeric
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    return (
        select coalesce(sum(billing._counted_by_cap(latest, _spent_after.period_start)), 0)
        from (
            select * from billing.credit_entries
            where credit_entries.account_id = _spent_after.account_id and credit_entries.id > _spent_after.last_entry_id
            order by credit_entries.id desc
            offset 0
        ) as latest
        where latest.kind in ('spend', 'capture', 'refund') and latest.occurred_at >= _spent_after.period_start
    );
end
$$;

CREATE FUNCTION billing._spent_of_lot(lot billing.credit_grants) RETURNS bigint
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_lot billing.credit_grants := _spent_of_lot.lot;
begin
    if v_lot.entry_id is null then
        return 0;
    end if;
    return v_lot.held + v_lot.amount - v_lot.remaining - v_lot.lapsed - coalesce((
        select sum(credit_consumptions.amount)
        from (
            select credit_revocations.entry_id from billing.credit_revocations
            where credit_revocations.grant_id = v_lot.id and credit_revocations.entry_id is not null
            union
            -- What revocations took of credits that returned later; what was withheld of the lot counts as spent.
            select credit_entries.id from billing.credit_entries
            where credit_entries.reverses_entry_id = v_lot.entry_id and credit_entries.kind = 'revocation'
                and credit_entries.key_space = 'system' and credit_entries.idempotency_key ^@ 'claim:'
        ) as taken
        cross join lateral (
            select taken.entry_id
            union all
            select credit_entries.id from billing.credit_entries where credit_entries.reverses_entry_id = taken.entry_id
        ) as moved
        join billing.credit_consumptions
            on credit_consumptions.entry_id = moved.entry_id and credit_consumptions.grant_id = v_lot.id
    ), 0);
end
$$;

CREATE FUNCTION billing._spent_until(account_id uuid, period_start timestamp with time zone, last_entry_id bigint) RETURNS numeric
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    return (
        select coalesce(sum(
            case
                when credit_entries.kind = 'refund'
                    then billing._counted_by_cap(credit_entries, _spent_until.period_start)
                else -credit_entries.amount
            end
        ), 0)
        from billing.credit_entries
        where credit_entries.account_id = _spent_until.account_id
            and credit_entries.kind in ('spend', 'capture', 'refund')
            and credit_entries.occurred_at >= _spent_until.period_start
            and credit_entries.id <= _spent_until.last_entry_id
    );
end
$$;

CREATE FUNCTION billing._stop_recharge(recharge billing.recharges, audience text) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_recharge billing.recharges := _stop_recharge.recharge;
    v_kind text := case v_recharge.status when 'requires_action' then 'recharge_requires_action' else 'recharge_failed' end;
begin
    update billing.recharges
    set status = v_recharge.status, reason = v_recharge.reason, is_final = v_recharge.is_final,
        stripe_payment_intent_id = v_recharge.stripe_payment_intent_id,
        stripe_payment_method_id = v_recharge.stripe_payment_method_id, action_url = v_recharge.action_url,
        settled_at = case when v_recharge.status = 'failed' then billing.current_time() end,
        updated_at = now()
    where recharges.id = v_recharge.id;
    perform billing._pause_recharge(v_recharge.account_id, v_recharge.reason);
    insert into billing.notifications (account_id, audience, kind, dedupe_key, payload)
    values (
        v_recharge.account_id, _stop_recharge.audience, v_kind, format('%s:%s', v_kind, v_recharge.id),
        jsonb_build_object(
            'recharge_id', v_recharge.id, 'reason', v_recharge.reason, 'amount', v_recharge.amount,
            'currency', v_recharge.currency, 'credits', v_recharge.credits, 'url', v_recharge.action_url,
            'stripe_payment_intent_id', v_recharge.stripe_payment_intent_id
        )
    )
    on conflict (dedupe_key) do nothing;
end
$$;

CREATE FUNCTION billing._stripe_call(method text, path text, params jsonb, keep text[], idempotency_key text DEFAULT NULL::text, find jsonb DEFAULT NULL::jsonb) RETURNS jsonb
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    return jsonb_build_object(
        'method', _stripe_call.method, 'path', _stripe_call.path, 'params', _stripe_call.params,
        'idempotency_key', _stripe_call.idempotency_key, 'find', _stripe_call.find, 'keep', to_jsonb(_stripe_call.keep)
    );
end
$$;

CREATE FUNCTION billing._stripe_step(livemode boolean, calls jsonb, state jsonb, is_last boolean DEFAULT false) RETURNS jsonb
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    return jsonb_build_object(
        'livemode', _stripe_step.livemode, 'calls', _stripe_step.calls, 'state', _stripe_step.state,
        'is_last', _stripe_step.is_last
    );
end
$$;

CREATE FUNCTION billing._subscription_left_behind(account_id uuid, livemode boolean, flow text) RETURNS billing.subscriptions
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_subscription billing.subscriptions;
begin
    select living.* into v_subscription
    from billing.accounts as own
    join auth.users on users.id = own.owner_id
    join billing.customers on lower(customers.email) = lower(users.email)
    join billing.accounts as left_behind on left_behind.id = customers.account_id
    cross join lateral billing._subscription_to_change(
        left_behind.id, _subscription_left_behind.livemode, _subscription_left_behind.flow
    ) as living
    where own.id = _subscription_left_behind.account_id and own.kind = 'personal'
        and users.email_confirmed_at >= users.confirmation_sent_at
        and left_behind.kind = 'personal' and not billing._has_user(left_behind.id)
        and living.stripe_customer_id = customers.stripe_customer_id
    order by living.started_at desc
    limit 1;
    return v_subscription;
end
$$;

CREATE FUNCTION billing._subscription_to_change(account_id uuid, livemode boolean, flow text) RETURNS billing.subscriptions
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select subscriptions from billing.subscriptions
    join billing.customers on customers.stripe_customer_id = subscriptions.stripe_customer_id
    where subscriptions.account_id = _subscription_to_change.account_id
        and subscriptions.livemode = _subscription_to_change.livemode
        and customers.deleted_at is null
        and subscriptions.status in ('active', 'trialing', 'past_due', 'unpaid', 'paused')
        and (
            _subscription_to_change.flow is distinct from 'cancel'
            or subscriptions.cancel_at is null and not subscriptions.cancel_at_period_end
        )
    order by
        coalesce(_subscription_to_change.flow not in ('cancel', 'update_plan'), true) and customers.duplicate_of is null desc,
        subscriptions.started_at desc, subscriptions.stripe_subscription_id
    limit 1
$$;

CREATE FUNCTION billing._supersede_requests(account_id uuid, plan billing.plans, idempotency_key text, has_trial boolean) RETURNS text[]
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    with superseded as (
        update billing.checkout_requests as requests
        set discarded_at = coalesce(requests.discarded_at, now()),
            superseded_at = coalesce(requests.superseded_at, now())
        from billing.settings
        where requests.account_id = _supersede_requests.account_id
            and requests.livemode = (_supersede_requests.plan).livemode
            and requests.idempotency_key <> _supersede_requests.idempotency_key
            and requests.params ->> 'mode' = 'subscription'
            and requests.created_at > now() - interval '25 hours' and requests.expired_at is null
            and (
                billing._is_within(settings.one_subscription_per, _supersede_requests.plan, requests.stripe_price_id)
                or _supersede_requests.has_trial
                and requests.params #> '{subscription_data,trial_period_days}' is not null
                and billing._is_within(settings.one_trial_per, _supersede_requests.plan, requests.stripe_price_id)
            )
            and not exists (
                select from billing.checkout_sessions as sessions
                where sessions.stripe_checkout_session_id = requests.stripe_checkout_session_id
                    and sessions.status <> 'open'
            )
        returning requests.stripe_checkout_session_id
    )
    select coalesce(array_agg(stripe_checkout_session_id order by stripe_checkout_session_id), '{}') from superseded
    where stripe_checkout_session_id is not null
$$;

CREATE FUNCTION billing._sync_one_time_price(price billing.one_time_prices) RETURNS text
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_price billing.one_time_prices := _sync_one_time_price.price;
    v_declared billing.declared_pack := billing._declared_pack(v_price);
    v_declared_from timestamptz;
    v_as_of timestamptz := (
        select max(held.as_of)
        from (
            select credit_packs.as_of from billing.credit_packs
            where credit_packs.stripe_price_id = v_price.stripe_price_id
            union all
            select one_time_prices.as_of from billing.one_time_prices
            where one_time_prices.stripe_price_id = v_price.stripe_price_id
        ) as held
    );
begin
    if v_as_of >= v_price.as_of then
        return billing._refused(v_as_of, v_price.as_of);
    end if;

    update billing.credit_packs
    set active = v_price.active, lookup_key = v_price.lookup_key, nickname = v_price.nickname,
        pack_credits = case
            when billing._is_pack(v_declared) then v_declared.pack_credits else credit_packs.pack_credits
        end,
        credits_per_unit = case
            when billing._is_pack(v_declared) then v_declared.credits_per_unit else credit_packs.credits_per_unit
        end,
        expires_after = v_declared.expires_after, metadata = v_price.metadata, as_of = v_price.as_of, updated_at = now()
    where credit_packs.stripe_price_id = v_price.stripe_price_id;
    if found then
        return 'applied';
    end if;
    delete from billing.one_time_prices where one_time_prices.stripe_price_id = v_price.stripe_price_id;
    v_declared_from := case when found then v_price.as_of else '-infinity' end;
    if billing._is_pack(v_declared) then
        perform billing._open_pack(v_price, v_declared, v_declared_from);
    else
        insert into billing.one_time_prices select (v_price).*;
    end if;
    return 'applied';
end
$$;

CREATE FUNCTION billing._take_back(account_id uuid, business_key text, amount bigint, grant_ids bigint[], shortfall_policy text, reason text) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_left bigint := _take_back.amount;
    v_uncarried bigint;
    v_lot billing.credit_grants;
    v_part bigint;
    v_granted bigint;
    v_asked bigint;
    v_spent bigint;
    v_open bigint;
    v_by_hand bigint;
    v_lapsed bigint[];
    v_free bigint[];
    v_revocable bigint[];
    v_shortfall bigint;
    v_rest bigint;
    v_beyond bigint;
begin
    perform billing._lock_settled_balance(_take_back.account_id);
    -- From each lot first the credits that expired unspent: they are requested but not taken, because that many fewer
    -- would have expired. Then the free credits. Then the rest, up to what is still revocable: requested but not taken.
    select
        sum(lots.amount), sum(billing._spent_of_lot(lots)), sum(lots.amount - billing._revocable(lots)),
        sum(billing._open_shortfall(lots.id)), sum(billing._revoked_by_hand(lots.id)),
        array_agg(least(billing._lapsed_of_lot(lots), billing._revocable(lots)) order by wanted.place),
        array_agg(lots.remaining - lots.held order by wanted.place),
        array_agg(billing._revocable(lots) order by wanted.place)
    into v_granted, v_spent, v_asked, v_open, v_by_hand, v_lapsed, v_free, v_revocable
    from unnest(_take_back.grant_ids) with ordinality as wanted (id, place)
    join billing.credit_grants as lots on lots.id = wanted.id;
    v_free := coalesce(v_free, '{}');
    v_shortfall := v_left;
    for place in 1 .. cardinality(v_free) loop
        v_lapsed[place] := least(v_lapsed[place], v_shortfall);
        v_shortfall := v_shortfall - v_lapsed[place];
        v_free[place] := least(v_free[place], v_revocable[place] - v_lapsed[place], v_shortfall);
        v_shortfall := v_shortfall - v_free[place];
    end loop;
    v_rest := v_shortfall;
    -- Then the credits by which this key was reduced for carried ones: they are carried again.
    select least(v_rest, carried_credits.amount) into v_uncarried from billing.carried_credits
    where carried_credits.business_key = _take_back.business_key and carried_credits.amount > 0;
    if v_uncarried > 0 then
        perform billing._carry(_take_back.account_id, _take_back.business_key, -v_uncarried);
        v_rest := v_rest - v_uncarried;
        v_left := v_left - v_uncarried;
    end if;
    v_shortfall := least(v_rest, greatest(v_spent - (v_granted - v_asked - v_left) - v_open, 0));
    if _take_back.shortfall_policy = 'carry' then
        -- The money is on the customer's balance: everything is carried, except what a person revoked.
        v_shortfall := v_rest - least(v_rest, coalesce(v_by_hand, 0));
        perform billing._carry(_take_back.account_id, _take_back.business_key, -v_shortfall);
        v_rest := v_rest - v_shortfall;
        v_shortfall := 0;
    elsif v_rest > 0 then
        -- More than the lots' revocable credits: they were already taken for credited time, so the money was returned
        -- twice.
        v_beyond := greatest(v_left - (
            select coalesce(sum(revocable), 0) from unnest(v_revocable) as revocable
        ) - coalesce(v_by_hand, 0), 0);
        if v_beyond > 0 then
            perform billing._carry(_take_back.account_id, _take_back.business_key, -v_beyond);
            v_rest := v_rest - v_beyond;
            v_shortfall := least(v_shortfall, v_rest);
        end if;
    end if;

    for place in 1 .. cardinality(v_free) loop
        v_part := v_lapsed[place] + v_free[place]
            + least(v_rest, v_revocable[place] - v_lapsed[place] - v_free[place]);
        continue when v_part = 0;
        select * into strict v_lot from billing.credit_grants where credit_grants.id = _take_back.grant_ids[place];
        perform billing._write_revocation(
            v_lot, v_part, v_free[place], least(v_shortfall, v_part - v_lapsed[place] - v_free[place]), 'stripe',
            billing._next_revocation_key(v_lot.id),
            case _take_back.shortfall_policy when 'carry' then 'clamp_and_record' else _take_back.shortfall_policy end,
            _take_back.reason, 'tillbase',
            _take_back.business_key
        );
        v_part := v_part - v_lapsed[place] - v_free[place];
        v_shortfall := v_shortfall - least(v_shortfall, v_part);
        v_rest := v_rest - v_part;
    end loop;
end
$$;

CREATE FUNCTION billing._take_credits(balance billing.credit_balances, entry billing.credit_entries) RETURNS billing.credit_entries
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_free bigint := (_take_credits.balance).balance - (_take_credits.balance).held;
begin
    if -(_take_credits.entry).amount > v_free then
        perform billing._raise_insufficient(
            (_take_credits.entry).account_id, v_free, -(_take_credits.entry).amount
        );
    end if;
    return billing._post_entry(_take_credits.balance, _take_credits.entry);
end
$$;

CREATE FUNCTION billing._take_in_invoice(invoice billing.invoices, subscription billing.subscriptions, is_closed boolean DEFAULT false) RETURNS timestamp with time zone
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_from timestamptz;
begin
    if (_take_in_invoice.invoice).status <> 'paid' then
        return billing._match_credits((_take_in_invoice.invoice).stripe_subscription_id, '-infinity');
    end if;
    v_from := billing._record_paid_time(_take_in_invoice.invoice, _take_in_invoice.subscription);
    if v_from is not null then
        if _take_in_invoice.is_closed and v_from < 'infinity' then
            perform billing._check_open((_take_in_invoice.invoice).account_id);
        elsif not _take_in_invoice.is_closed then
            perform billing._grant_initial_of_invoice(_take_in_invoice.invoice);
        end if;
    end if;
    return nullif(v_from, 'infinity');
end
$$;

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
    is_open boolean GENERATED ALWAYS AS ((status <> ALL (ARRAY['won'::text, 'lost'::text, 'warning_closed'::text, 'prevented'::text]))) STORED NOT NULL,
    needs_response boolean GENERATED ALWAYS AS ((status = ANY (ARRAY['needs_response'::text, 'appeal_needs_response'::text, 'warning_needs_response'::text]))) STORED NOT NULL,
    as_of timestamp with time zone NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL
);

COMMENT ON TABLE billing.disputes IS 'Stripe disputes, including inquiries.';

COMMENT ON COLUMN billing.disputes.is_open IS 'Not decided yet.';

COMMENT ON COLUMN billing.disputes.needs_response IS 'Stripe waits for an answer to a dispute, an appeal or an inquiry.';

CREATE FUNCTION billing._tell_of_dispute(dispute billing.disputes, before text) RETURNS void
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    insert into billing.notifications (account_id, audience, kind, dedupe_key, payload)
    select
        payments.account_id, 'administrators', told.kind,
        format('%s:%s:%s', told.kind, (_tell_of_dispute.dispute).stripe_dispute_id, (_tell_of_dispute.dispute).status),
        jsonb_build_object(
            'stripe_dispute_id', (_tell_of_dispute.dispute).stripe_dispute_id,
            'stripe_charge_id', (_tell_of_dispute.dispute).stripe_charge_id,
            'status', (_tell_of_dispute.dispute).status, 'reason', (_tell_of_dispute.dispute).reason,
            'amount', (_tell_of_dispute.dispute).amount, 'currency', (_tell_of_dispute.dispute).currency,
            'evidence_due_at', (_tell_of_dispute.dispute).evidence_due_at
        )
    from (
        select case
            when not (_tell_of_dispute.dispute).is_open then 'dispute_closed'
            when _tell_of_dispute.before is null
                or billing._dispute_rank(_tell_of_dispute.before) < billing._dispute_rank('needs_response')
                and (_tell_of_dispute.dispute).status = 'needs_response' then 'dispute_opened'
        end as kind
    ) as told
    left join billing.payments on payments.stripe_charge_id = (_tell_of_dispute.dispute).stripe_charge_id
    where told.kind is not null and not (
        told.kind = 'dispute_closed' and (_tell_of_dispute.dispute).disputed_at < coalesce(
            (select settings.credits_since from billing.settings), '-infinity'
        )
    )
    on conflict (dedupe_key) do nothing
$$;

CREATE TABLE billing.fraud_actions (
    id bigint NOT NULL,
    idempotency_key uuid DEFAULT gen_random_uuid() NOT NULL,
    stripe_early_fraud_warning_id text,
    account_id uuid,
    action text NOT NULL,
    status text NOT NULL,
    reason text NOT NULL,
    actor text NOT NULL,
    stripe_charge_id text,
    stripe_subscription_id text,
    amount bigint,
    currency text,
    stripe_refund_id text,
    is_in_doubt boolean DEFAULT false NOT NULL,
    attempts integer DEFAULT 0 NOT NULL,
    last_error text,
    decided_at timestamp with time zone NOT NULL,
    settled_at timestamp with time zone,
    undone_at timestamp with time zone,
    undone_by text,
    undone_reason text,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT action_is_known CHECK ((action = ANY (ARRAY['alert'::text, 'freeze_account'::text, 'unfreeze_account'::text, 'refund'::text, 'cancel_subscription'::text, 'note'::text]))),
    CONSTRAINT status_is_known CHECK ((status = ANY (ARRAY['queued'::text, 'done'::text, 'skipped'::text, 'failed'::text, 'undone'::text]))),
    CONSTRAINT undone_actions_say_who_and_why CHECK ((((status = 'undone'::text) = (undone_at IS NOT NULL)) AND ((undone_at IS NULL) = ((undone_by IS NULL) OR (undone_reason IS NULL)))))
);

COMMENT ON TABLE billing.fraud_actions IS 'Actions because of fraud, of the policy (actor policy) or of a person, with their status and reason.';

COMMENT ON COLUMN billing.fraud_actions.idempotency_key IS 'Part of the Idempotency-Key of the request to Stripe, and in the metadata of the action''s refund. Not the id, because two databases of one Stripe account can have the same ids.';

COMMENT ON COLUMN billing.fraud_actions.is_in_doubt IS 'True if a request was sent and its answer is unknown: Stripe may have done it.';

COMMENT ON COLUMN billing.fraud_actions.attempts IS 'The number of requests to Stripe.';

CREATE FUNCTION billing._tell_of_failed_action(action billing.fraud_actions) RETURNS void
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    insert into billing.notifications (account_id, audience, kind, dedupe_key, payload)
    select
        failed.account_id, 'administrators', 'fraud_action_failed', 'fraud_action_failed:' || failed.id,
        jsonb_strip_nulls(jsonb_build_object(
            'action', failed.action, 'reason', failed.last_error, 'decided_because', failed.reason,
            'stripe_early_fraud_warning_id', failed.stripe_early_fraud_warning_id,
            'stripe_charge_id', failed.stripe_charge_id, 'stripe_subscription_id', failed.stripe_subscription_id
        ))
    from (select (_tell_of_failed_action.action).*) as failed
    where failed.status = 'failed'
    on conflict (dedupe_key) do nothing
$$;

CREATE TABLE billing.credit_terms (
    stripe_price_id text NOT NULL,
    valid_from timestamp with time zone NOT NULL,
    initial_credits bigint NOT NULL,
    monthly_credits bigint NOT NULL,
    trial_credits bigint NOT NULL,
    rollover text NOT NULL,
    rollover_periods integer,
    rollover_cap bigint,
    proration_credits text NOT NULL,
    downgrade_credits text NOT NULL,
    cancel_credits text NOT NULL,
    trial_end_credits text NOT NULL
);

COMMENT ON TABLE billing.credit_terms IS 'What each plan declared, and since when. Each grant uses the terms of its own time.';

COMMENT ON COLUMN billing.credit_terms.valid_from IS 'Time of the Stripe event, or of the edit in SQL. The first row is also valid before it.';

CREATE FUNCTION billing._terms_at(stripe_price_id text, moment timestamp with time zone) RETURNS billing.credit_terms
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_terms billing.credit_terms;
begin
    select * into v_terms from billing.credit_terms
    where credit_terms.stripe_price_id = _terms_at.stripe_price_id and credit_terms.valid_from <= _terms_at.moment
    order by credit_terms.valid_from desc
    limit 1;
    if not found then
        select * into v_terms from billing.credit_terms
        where credit_terms.stripe_price_id = _terms_at.stripe_price_id
        order by credit_terms.valid_from
        limit 1;
    end if;
    return v_terms;
end
$$;

CREATE FUNCTION billing._thaw(hold billing.credit_holds) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    update billing.credit_holds set status = 'released', settled_at = billing.current_time()
    where credit_holds.id = (_thaw.hold).id;
    update billing.credit_balances set held = credit_balances.held - (_thaw.hold).amount, updated_at = now()
    where credit_balances.account_id = (_thaw.hold).account_id;
    perform billing._remember_due((_thaw.hold).account_id, billing._release_pins(array[(_thaw.hold).id]));
end
$$;

CREATE FUNCTION billing._thaw_lots(grant_ids bigint[], amount bigint) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    if billing._frozen_of_lots(_thaw_lots.grant_ids) = _thaw_lots.amount then
        return;
    end if;
    update billing.credit_grants set contested = 0
    where credit_grants.id = any (_thaw_lots.grant_ids) and credit_grants.contested > 0;
    perform billing._thaw(credit_holds) from billing.credit_holds
    where credit_holds.frozen_grant_id = any (_thaw_lots.grant_ids) and credit_holds.status = 'held';
end
$$;

CREATE FUNCTION billing._time_of_account(account_id uuid, moment timestamp with time zone DEFAULT billing."current_time"()) RETURNS timestamp with time zone
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    if not exists (select from billing.test_clocks) then
        return _time_of_account.moment;
    end if;
    return greatest(_time_of_account.moment, (
        select max(test_clocks.frozen_at) from billing.subscriptions
        join billing.test_clocks on test_clocks.stripe_test_clock_id = subscriptions.stripe_test_clock_id
        where subscriptions.account_id = _time_of_account.account_id
    ));
end
$$;

CREATE FUNCTION billing._token_hash(token text) RETURNS bytea
    LANGUAGE sql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select sha256(convert_to(_token_hash.token, 'UTF8'))
$$;

CREATE FUNCTION billing._trial_days(account_id uuid, plan billing.plans) RETURNS integer
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select (_trial_days.plan).trial_days from billing.settings
    where (_trial_days.plan).trial_days > 0
        and not exists (
            select from billing.subscriptions
            join billing.subscription_items as items
                on items.stripe_subscription_id = subscriptions.stripe_subscription_id
            where subscriptions.account_id = _trial_days.account_id
                and subscriptions.livemode = (_trial_days.plan).livemode
                and subscriptions.status not in ('incomplete', 'incomplete_expired')
                and billing._is_within(
                    settings.one_trial_per, _trial_days.plan, items.stripe_price_id, items.stripe_product_id
                )
        )
        and not exists (
            select from billing.checkout_requests as requests
            join billing.checkout_sessions as sessions
                on sessions.stripe_checkout_session_id = requests.stripe_checkout_session_id
            where requests.account_id = _trial_days.account_id and requests.livemode = (_trial_days.plan).livemode
                and sessions.mode = 'subscription' and sessions.status = 'complete'
                and billing._is_within(settings.one_trial_per, _trial_days.plan, requests.stripe_price_id)
        )
$$;

CREATE FUNCTION billing._up_since() RETURNS timestamp with time zone
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select pg_postmaster_start_time()
$$;

CREATE FUNCTION billing._waiting_reason(subscription billing.subscriptions, is_closed boolean) RETURNS text
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    if _waiting_reason.is_closed then
        return 'account_closed';
    elsif (_waiting_reason.subscription).status in ('paused', 'unpaid') then
        return (_waiting_reason.subscription).status;
    elsif (_waiting_reason.subscription).status in ('incomplete', 'incomplete_expired') then
        return 'incomplete';
    elsif (_waiting_reason.subscription).is_collection_paused then
        return 'collection_paused';
    elsif exists (
        select from billing.customers
        where customers.stripe_customer_id = (_waiting_reason.subscription).stripe_customer_id
            and customers.deleted_at is not null
    ) then
        return 'customer_deleted';
    end if;
    return null;
end
$$;

CREATE FUNCTION billing._warning(stripe_early_fraud_warning_id text) RETURNS billing.fraud_warnings
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_warning billing.fraud_warnings;
begin
    select * into v_warning from billing.fraud_warnings
    where fraud_warnings.stripe_early_fraud_warning_id = _warning.stripe_early_fraud_warning_id
    for update;
    if not found then
        raise exception 'there is no early fraud warning %', coalesce(_warning.stripe_early_fraud_warning_id, 'null')
            using errcode = 'TB072', hint = 'List them with `till fraud list`.';
    end if;
    return v_warning;
end
$$;

CREATE FUNCTION billing._was_given(account_id uuid, kind text, stripe_price_id text) RETURNS boolean
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    return (select exists (
        select from (
            select credit_grants.idempotency_key, credit_grants.stripe_price_id from billing.credit_grants
            where credit_grants.account_id = _was_given.account_id and credit_grants.key_space = 'stripe'
            union all
            select held_credits.idempotency_key, held_credits.stripe_price_id from billing.held_credits
            where held_credits.account_id = _was_given.account_id
        ) as given
        left join billing.plans on plans.stripe_price_id = given.stripe_price_id
        where split_part(given.idempotency_key, ':', 1) = _was_given.kind and (
            case _was_given.kind when 'trial' then settings.one_trial_per else settings.initial_credits_per end = 'account'
            or plans.stripe_product_id = (
                select mine.stripe_product_id from billing.plans as mine
                where mine.stripe_price_id = _was_given.stripe_price_id
            )
        )
    )
    from billing.settings);
end
$$;

CREATE FUNCTION billing._watch_keys() RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_reason text;
    v_since timestamptz;
begin
    select workers.stripe_key_error, workers.stripe_key_failing_since into v_reason, v_since
    from billing.workers
    where workers.stripe_key_failing_since < now() - interval '15 minutes'
        and workers.last_seen_at > now() - interval '15 minutes'
    order by workers.stripe_key_failing_since limit 1;
    if found then
        perform billing._open_alert('stripe_key', '', jsonb_build_object('reason', v_reason, 'since', v_since));
    elsif exists (
        -- One that has just started may not know yet.
        select from billing.workers
        where workers.stripe_key_error is null and workers.last_seen_at > now() - interval '1 minute'
            and workers.started_at < now() - interval '2 minutes'
    ) then
        perform billing._end_alerts('stripe_key');
    end if;
end
$$;

CREATE FUNCTION billing._watch_notifications() RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_count bigint;
    v_last_id bigint;
begin
    select count(*), max(notifications.id) into v_count, v_last_id from billing.notifications
    where notifications.status = 'dead' and notifications.kind <> 'notifications_undeliverable';
    if v_count = 0 then
        perform billing._end_alerts('notifications_undeliverable');
        return;
    end if;
    if exists (
        select from billing.alerts
        where alerts.kind = 'notifications_undeliverable' and alerts.ended_at is null
            and alerts.began_at < now() - interval '1 day' and (alerts.payload ->> 'last_id')::bigint < v_last_id
    ) then
        perform billing._end_alerts('notifications_undeliverable');
    end if;
    if billing._open_alert(
        'notifications_undeliverable', '', jsonb_build_object('count', v_count, 'last_id', v_last_id)
    ) then
        perform billing._post_alert(format(
            '%s could not be delivered. Reasons: `till notifications list --status dead`.',
            case v_count when 1 then '1 notification' else format('%s notifications', v_count) end
        ));
    end if;
end
$$;

CREATE FUNCTION billing._watch_plans() RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_price_ids text[] := array(
        select plans.stripe_price_id from billing.plans
        where plans.unit_amount is distinct from 0
            and plans.initial_credits = 0 and plans.monthly_credits = 0 and plans.trial_credits = 0
            and plans.usage_type = 'licensed' and plans.features = '{}'
            -- exists, so that the first subscription is enough.
            and exists (
                select from billing.subscription_items as items
                join billing.subscriptions on subscriptions.stripe_subscription_id = items.stripe_subscription_id
                where items.stripe_price_id = plans.stripe_price_id
                    and items.current_period_end > now() - interval '31 days'
                    and subscriptions.status in ('active', 'trialing', 'past_due')
            )
        order by plans.stripe_price_id
    );
begin
    perform billing._open_alert(
        'plan_without_credits', plans.stripe_price_id,
        jsonb_build_object(
            'stripe_price_id', plans.stripe_price_id,
            'name', coalesce(plans.lookup_key, nullif(plans.nickname, ''), products.name)
        )
    )
    from billing.plans join billing.products using (stripe_product_id)
    where plans.stripe_price_id = any (v_price_ids);
    perform billing._end_alerts('plan_without_credits', v_price_ids);
end
$$;

CREATE FUNCTION billing._watch_workers() RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_after interval := (select settings.worker_missing_after from billing.settings);
    v_seen_at timestamptz := (select max(workers.last_seen_at) from billing.workers);
    v_since timestamptz;
    v_ended billing.alerts;
    v_skipped text;
begin
    -- A worker is expected once there was one, or an event waits for it.
    v_since := coalesce(v_seen_at, (
        select min(stripe_events.received_at) from billing.stripe_events where stripe_events.status = 'queued'
    ));
    if v_since < now() - v_after and billing._up_since() < now() - v_after then
        if billing._open_alert('worker_missing', '', jsonb_build_object('since', v_since)) then
            perform billing._post_alert(format(
                'no worker has been seen since %s UTC. Stripe''s events wait in the queue. Start it with `till worker run`; '
                '`till doctor` says what else is wrong.', to_char(v_since at time zone 'UTC', 'YYYY-MM-DD HH24:MI')
            ));
        end if;
        return;
    elsif v_seen_at < now() - coalesce(v_after, interval '1 minute') then
        return;
    end if;

    for v_ended in select * from billing._end_alerts('worker_missing') loop
        -- Nobody could send it while it was true.
        update billing.notifications set status = 'skipped', last_error = 'the worker is back: worker_back reports it'
        where notifications.dedupe_key = format('worker_missing:%s', v_ended.id)
            and notifications.status = 'queued' and notifications.attempts = 0
        returning notifications.id::text into v_skipped;
        if v_skipped is not null then
            perform billing._drop_jobs('administrators_notification', array[v_skipped]);
        end if;
        perform billing._notify(
            null, 'administrators', 'worker_back', format('worker_back:%s', v_ended.id),
            jsonb_build_object('since', v_ended.payload -> 'since', 'until', now())
        );
        perform billing._post_alert('a worker runs again.');
    end loop;
end
$$;

CREATE FUNCTION billing._with_session_id(url text) RETURNS text
    LANGUAGE sql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select case
        when pg_catalog.strpos(_with_session_id.url, '{CHECKOUT_SESSION_ID}') > 0 then _with_session_id.url
        else pg_catalog.regexp_replace(
            _with_session_id.url, '^([^#]*)',
            '\1' || case when _with_session_id.url ~ '^[^#]*\?' then '&' else '?' end || 'session_id={CHECKOUT_SESSION_ID}'
        )
    end
$$;

CREATE FUNCTION billing._withdraw_for_review(lot billing.credit_grants, seen billing.card_fingerprints) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_lot billing.credit_grants := _withdraw_for_review.lot;
    v_held billing.held_credits;
    v_revocation billing.credit_revocations;
begin
    v_held.account_id := v_lot.account_id;
    v_held.kind := split_part(v_lot.idempotency_key, ':', 1);
    v_held.card_fingerprint := (_withdraw_for_review.seen).card_fingerprint;
    v_held.matched_account_id := (_withdraw_for_review.seen).account_id;
    v_held.idempotency_key := v_lot.idempotency_key;
    v_held.source := v_lot.source;
    v_held.reference_id := v_lot.reference_id;
    select credit_entries.description into v_held.description from billing.credit_entries
    where credit_entries.id = v_lot.entry_id;
    v_held.stripe_invoice_id := v_lot.stripe_invoice_id;
    v_held.stripe_subscription_item_id := v_lot.stripe_subscription_item_id;
    v_held.stripe_price_id := v_lot.stripe_price_id;
    v_held.expires_at := v_lot.expires_at;
    select v_lot.amount - coalesce(sum(billing._asked_back(credit_revocations)), 0)
    into v_held.amount
    from billing.credit_revocations where credit_revocations.grant_id = v_lot.id;
    v_held.id := billing._set_aside(v_held);
    v_revocation := billing._revoke_grant(
        v_lot, null, 'system', 'held:' || v_held.id, 'clamp_and_record', 'Held for review', 'tillbase'
    );
    update billing.held_credits set revocation_id = v_revocation.id where held_credits.id = v_held.id;
end
$$;

CREATE FUNCTION billing._without_names(actor text, names text[]) RETURNS text
    LANGUAGE sql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select case
        when exists (
            select from unnest(_without_names.names) as named (name)
            where pg_catalog.strpos(lower(_without_names.actor), named.name) > 0
        ) then 'erased'
        else _without_names.actor
    end
$$;

CREATE FUNCTION billing._without_repeats(account_id uuid, spends jsonb) RETURNS jsonb
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_key text;
begin
    select spend.idempotency_key into v_key
    from jsonb_to_recordset(_without_repeats.spends) as spend (
        amount numeric, idempotency_key text, description text, metadata jsonb, feature text, reference_id text
    )
    left join lateral (
        select * from billing.credit_entries
        where credit_entries.account_id = _without_repeats.account_id and credit_entries.key_space = 'caller'
            and credit_entries.idempotency_key = spend.idempotency_key
        limit 1
    ) as held on true
    group by spend.idempotency_key, held.id
    having count(distinct (
            spend.amount, spend.description, coalesce(spend.metadata, '{}'), spend.feature, spend.reference_id
        )) > 1
        or held.id is not null and bool_or(
            (
                'spend', -spend.amount, spend.description, coalesce(spend.metadata, '{}'), spend.feature,
                spend.reference_id
            ) is distinct from (
                held.kind, held.amount, held.description, held.metadata, held.feature, held.reference_id
            ) or held.up_to is not null
        )
    limit 1;
    if found then
        perform billing._raise_key_reused(v_key);
    end if;

    return (
        select jsonb_agg(fresh.spend order by fresh.position) from (
            select distinct on (asked.spend ->> 'idempotency_key') asked.spend, asked.position
            from jsonb_array_elements(_without_repeats.spends) with ordinality as asked (spend, position)
            where (
                select credit_entries.id from billing.credit_entries
                where credit_entries.account_id = _without_repeats.account_id and credit_entries.key_space = 'caller'
                    and credit_entries.idempotency_key = asked.spend ->> 'idempotency_key'
                limit 1
            ) is null
            order by asked.spend ->> 'idempotency_key', asked.position
        ) as fresh
    );
end
$$;

CREATE FUNCTION billing._worth(stripe_subscription_ids text[], from_moment timestamp with time zone, until_moment timestamp with time zone) RETURNS SETOF billing.credit_move
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_free_account_ids uuid[];
    -- All free claims of a calendar month count, even those of months of credits that have ended.
    v_free_from timestamptz := date_trunc('month', _worth.from_moment - interval '1 month', 'UTC');
begin
    return query
    select * from billing._plain_worth(_worth.stripe_subscription_ids, _worth.from_moment, _worth.until_moment);
    if not exists (
        select from billing.credit_schedules
        where credit_schedules.stripe_subscription_id = any (_worth.stripe_subscription_ids)
            and credit_schedules.period_end > _worth.from_moment
            and (
                not credit_schedules.is_plain or credit_schedules.is_free or credit_schedules.has_returns
            )
    ) then
        return;
    end if;
    select array_agg(distinct credit_schedules.account_id) into v_free_account_ids from billing.credit_schedules
    where credit_schedules.stripe_subscription_id = any (_worth.stripe_subscription_ids) and credit_schedules.is_free
        and credit_schedules.period_end > _worth.from_moment;

    return query
    with slots as materialized (
        select * from billing._slots_of_lines(
            _worth.stripe_subscription_ids,
            case when v_free_account_ids is null then _worth.from_moment else v_free_from end,
            _worth.until_moment, null, v_free_account_ids
        )
    ),
    shared as (
        select
            slots.*,
            slots.moment > slots.slot_start as is_part,
            case
                -- A free line gives nothing back; an earlier event may have counted it.
                when not slots.is_reached or slots.is_free then 0
                else slots.whole_credits * slots.line_seconds
            end as credit_seconds
        from slots
        where (slots.gives_back or not slots.is_free) and not billing._is_plain(slots)
    ),
    -- Exact for months of equal length: adds up first, then divides.
    by_length as (
        select
            shared.stripe_subscription_id, shared.stripe_subscription_item_id, shared.moment, shared.slot_seconds,
            sum(shared.credit_seconds) filter (
                where shared.gives_back or not shared.is_part or shared.proration_credits <> 'none'
            ) / shared.slot_seconds as counted,
            sum(shared.credit_seconds) filter (where shared.gives_back and shared.is_part) / shared.slot_seconds as given_back,
            sum(shared.credit_seconds) filter (
                where not shared.gives_back and shared.is_part and shared.proration_credits = 'none'
            ) / shared.slot_seconds as not_counted,
            bool_or(shared.gives_back) as has_credits,
            bool_or(shared.is_reached) as is_reached,
            bool_or(shared.is_waiting) filter (where not shared.gives_back) as is_waiting,
            min(shared.slot_start) filter (where shared.gives_back) as credited_from, min(shared.slot_start) as slot_start,
            bool_or(shared.downgrade_credits in ('keep', 'elsewhere')) as is_kept,
            bool_or(shared.downgrade_credits = 'elsewhere') as is_elsewhere
        from shared
        group by 1, 2, 3, 4
    ),
    by_item as (
        select
            by_length.stripe_subscription_id, by_length.stripe_subscription_item_id, by_length.moment,
            bool_or(by_length.is_reached) as is_reached, bool_or(by_length.is_waiting) as is_waiting,
            sum(by_length.counted) as counted, sum(by_length.given_back) as given_back,
            sum(sum(by_length.given_back)) over together as all_given_back,
            sum(sum(by_length.not_counted)) over together as all_not_counted,
            bool_or(by_length.has_credits) as is_credited,
            bool_or(bool_or(by_length.has_credits)) over together as has_credits,
            min(min(by_length.credited_from)) over together as credited_from,
            bool_or(bool_or(by_length.is_kept)) over together as is_kept,
            min(by_length.slot_start) as slot_start, bool_or(by_length.is_elsewhere) as is_elsewhere
        from by_length
        group by 1, 2, 3
        window together as (partition by by_length.stripe_subscription_id, by_length.moment)
    ),
    returned as (
        select credits.stripe_subscription_item_id, credits.moment, sum(credits.credits)::bigint as credits
        from (
            select distinct shared.stripe_invoice_id from shared where shared.has_returns
        ) as invoices
        cross join lateral billing._returned_credits(invoices.stripe_invoice_id) as credits
        where credits.moment is not null
        group by 1, 2
    ),
    -- A change to a plan with credits_on_proration=none offsets what was given back, at most. The offset part is
    -- exactly what is not taken back.
    rounded as (
        select
            by_item.stripe_subscription_id, by_item.stripe_subscription_item_id, by_item.moment, by_item.has_credits,
            by_item.is_credited, by_item.is_waiting, by_item.credited_from, by_item.is_kept, by_item.slot_start,
            by_item.is_elsewhere, coalesce(returned.credits, 0) as returned,
            floor(round(coalesce(by_item.counted, 0) + coalesce(
                -by_item.given_back * least(coalesce(by_item.all_not_counted, 0) / nullif(-by_item.all_given_back, 0), 1), 0
            ), 9))::bigint - coalesce(returned.credits, 0) as item_credits
        from by_item
        -- Months that never start have nothing to lose.
        left join returned
            on by_item.is_reached and returned.stripe_subscription_item_id = by_item.stripe_subscription_item_id
            and returned.moment = by_item.moment
    ),
    -- Once time is given back whose credits were granted elsewhere (counts_from), all later changes of the item within that
    -- month give no more than what they add to it: a downgrade and the way back add nothing.
    after_elsewhere as (
        select
            begun.*,
            case
                when begun.elsewhere_before > 0
                    then greatest(begun.so_far + begun.item_credits, 0) - greatest(begun.so_far, 0)
                else begun.item_credits
            end as credits
        from (
            select
                counted.*,
                coalesce(sum(counted.item_credits) filter (where counted.elsewhere_until_now > 0) over earlier, 0) as so_far,
                coalesce(max(counted.elsewhere_until_now) over earlier, 0) as elsewhere_before
            from (
                select
                    rounded.*,
                    count(*) filter (where rounded.is_elsewhere) over (
                        partition by rounded.stripe_subscription_id, rounded.stripe_subscription_item_id,
                            rounded.slot_start
                        order by rounded.moment
                    ) as elsewhere_until_now
                from rounded
            ) as counted
            window earlier as (
                partition by counted.stripe_subscription_id, counted.stripe_subscription_item_id, counted.slot_start
                order by counted.moment rows between unbounded preceding and 1 preceding
            )
        ) as begun
    ),
    offset_by_others as (
        select
            changes.*,
            coalesce(sum(greatest(changes.credits, 0)) over (
                together order by changes.stripe_subscription_item_id
                rows between unbounded preceding and 1 preceding
            ), 0) as before,
            -- While a month waits, its negative sum waits too.
            -coalesce(sum(least(changes.credits, 0)) filter (where changes.is_waiting is not true) over together, 0)
                as below_zero,
            coalesce(sum(greatest(changes.credits, 0)) over together, 0) as above_zero
        from after_elsewhere as changes
        window together as (partition by changes.stripe_subscription_id, changes.moment)
    ),
    -- The line that pays for a move: the one of the item that was bought last.
    payers as (
        select distinct on (shared.stripe_subscription_id, shared.stripe_subscription_item_id, shared.moment) shared.*
        from shared
        where shared.moment >= _worth.from_moment
        order by
            shared.stripe_subscription_id, shared.stripe_subscription_item_id, shared.moment, shared.gives_back,
            shared.is_part, shared.period_start desc, shared.stripe_line_id desc
    ),
    netted as (
        select
            case when payers.is_part then 'proration:' else 'monthly:' end || payers.stripe_subscription_item_id || ':'
                || billing._moment_text(payers.moment),
            payers.account_id, payers.stripe_subscription_id, payers.stripe_subscription_item_id,
            payers.stripe_invoice_id, payers.stripe_price_id,
            case when payers.is_part then 'stripe.proration' else 'stripe.monthly_allocation' end, payers.moment,
            payers.slot_start,
            (greatest(offset_by_others.credits, 0) - least(
                greatest(offset_by_others.credits, 0),
                greatest(offset_by_others.below_zero - offset_by_others.before, 0)
            ))::bigint,
            offset_by_others.returned, payers.expires_at, payers.rollover, payers.rollover_cap, payers.is_waiting
        from offset_by_others
        join payers using (stripe_subscription_id, stripe_subscription_item_id, moment)
        where not payers.gives_back
    ),
    -- What is given back beyond everything that the subscription adds at that time.
    credited as (
        select distinct on (payers.stripe_subscription_id, payers.moment)
            'credited:' || payers.stripe_subscription_id || ':' || billing._moment_text(payers.moment),
            payers.account_id, payers.stripe_subscription_id, payers.stripe_subscription_item_id,
            payers.stripe_invoice_id, payers.stripe_price_id, 'stripe.proration', payers.moment,
            offset_by_others.credited_from,
            case
                when offset_by_others.is_kept then 0
                else least(offset_by_others.above_zero - offset_by_others.below_zero, 0)
            end::bigint,
            0::bigint, null::timestamptz, payers.rollover, payers.rollover_cap, false
        from offset_by_others
        join payers using (stripe_subscription_id, stripe_subscription_item_id, moment)
        where offset_by_others.has_credits
        order by
            payers.stripe_subscription_id, payers.moment, payers.gives_back desc, offset_by_others.is_credited desc,
            payers.stripe_subscription_item_id
    ),
    unpaid as (
        select
            slots.account_id, slots.stripe_subscription_id, slots.moment, plans.stripe_product_id,
            case
                when plans.recurring_interval in ('day', 'week') then date_bin(
                    make_interval(days => plans.recurring_interval_count * case plans.recurring_interval when 'week' then 7 else 1 end),
                    slots.slot_start, '1970-01-05Z'
                )
                else date_trunc('month', slots.slot_start, 'UTC')
            end as bucket,
            floor(sum(
                case
                    when not slots.is_reached then 0
                    when slots.moment > slots.slot_start and slots.proration_credits = 'none' then 0
                    else slots.whole_credits * slots.line_seconds / slots.slot_seconds
                end
            ))::bigint as credits,
            (array_agg(
                row(slots.*)::billing.line_slot order by slots.period_start desc, slots.stripe_line_id desc
            ))[1] as payer
        from slots
        join billing.plans on plans.stripe_price_id = slots.stripe_price_id
        where slots.is_free and not slots.gives_back
        -- Tiers of one purchase are one claim; a line that replaces another is a separate claim.
        group by 1, 2, 3, 4, 5, slots.stripe_invoice_id, slots.stripe_subscription_item_id, slots.period_start
    ),
    given as (
        select distinct on (unpaid.account_id, unpaid.stripe_product_id, unpaid.bucket)
            'free:' || unpaid.account_id || ':' || unpaid.stripe_product_id || ':'
                || to_char(unpaid.bucket at time zone 'utc', 'YYYY-MM-DD'),
            unpaid.account_id, unpaid.stripe_subscription_id, (unpaid.payer).stripe_subscription_item_id,
            (unpaid.payer).stripe_invoice_id, (unpaid.payer).stripe_price_id,
            case when unpaid.moment > (unpaid.payer).slot_start then 'stripe.proration' else 'stripe.monthly_allocation' end,
            unpaid.moment, (unpaid.payer).slot_start, unpaid.credits, 0::bigint, (unpaid.payer).expires_at,
            (unpaid.payer).rollover, (unpaid.payer).rollover_cap, (unpaid.payer).is_waiting
        from unpaid
        where unpaid.bucket >= v_free_from
        order by
            unpaid.account_id, unpaid.stripe_product_id, unpaid.bucket, unpaid.credits desc, unpaid.moment,
            unpaid.stripe_subscription_id
    )
    select * from netted
    union all
    select * from credited
    union all
    select * from given;
end
$$;

CREATE FUNCTION billing._worth_of_account(account_id uuid) RETURNS TABLE(business_key text, credits bigint, returned bigint, is_waiting boolean, stripe_invoice_id text, expires_at timestamp with time zone)
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_subscription_ids text[] := array(
        select distinct credit_schedules.stripe_subscription_id from billing.credit_schedules
        where credit_schedules.account_id = _worth_of_account.account_id
    );
begin
    return query
    select worth.key, worth.credits, worth.returned, worth.is_waiting, worth.stripe_invoice_id, worth.expires_at
    from billing._worth(
        v_subscription_ids, '-infinity', billing._time_of_account(_worth_of_account.account_id)
    ) as worth
    union all
    select
        purchases.business_key, purchases.credits - billing._returned_of_purchase(purchases),
        billing._returned_of_purchase(purchases), false, purchases.stripe_invoice_id, purchases.expires_at
    from billing.pack_purchases as purchases
    where purchases.account_id = _worth_of_account.account_id;
end
$$;

CREATE FUNCTION billing._write_entries(balances billing.credit_balances[], entries billing.credit_entries[], lots billing.credit_grants[], takes billing.credit_consumptions[]) RETURNS numeric
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET plan_cache_mode TO 'force_generic_plan'
    AS $$
declare
    v_taken numeric := 0;
begin
    update billing.credit_balances as balance
    set balance = moved.balance,
        debt = moved.debt,
        held = moved.held,
        withheld = moved.withheld,
        carried = moved.carried,
        written_off_debt = moved.written_off_debt,
        written_off_withheld = moved.written_off_withheld,
        written_off_at = moved.written_off_at,
        next_due_at = moved.next_due_at,
        spent_in_period = moved.spent_in_period,
        spend_period_start = moved.spend_period_start,
        updated_at = now(),
        epoch = balance.epoch + (random() < 0.02)::integer
    from unnest(_write_entries.balances) as moved
    where uuid_hash(balance.account_id) = uuid_hash(moved.account_id)
        and balance.account_id is not distinct from moved.account_id and balance.epoch >= moved.epoch;

    insert into billing.credit_entries (
        id, account_id, kind, amount, balance_after, debt, up_to, source, reference_id, description, feature, metadata,
        actor, reverses_entry_id, hold_id, key_space, idempotency_key, occurred_at
    )
    overriding system value
    select
        entry.id, entry.account_id, entry.kind, entry.amount, entry.balance_after, entry.debt, entry.up_to,
        entry.source, entry.reference_id, entry.description, entry.feature, entry.metadata, entry.actor,
        entry.reverses_entry_id, entry.hold_id, entry.key_space, entry.idempotency_key, entry.occurred_at
    from unnest(_write_entries.entries) as entry;

    if cardinality(_write_entries.lots) > 0 then
        insert into billing.credit_grants (
            id, account_id, entry_id, amount, remaining, priority, effective_at, expires_at, source, reference_id,
            description, key_space, idempotency_key, stripe_invoice_id, stripe_subscription_item_id, stripe_price_id,
            stripe_checkout_session_id, stripe_payment_intent_id
        )
        overriding system value
        select
            lot.id, lot.account_id, lot.entry_id, lot.amount, lot.remaining, lot.priority, lot.effective_at,
            lot.expires_at, lot.source, lot.reference_id, lot.description, lot.key_space, lot.idempotency_key,
            lot.stripe_invoice_id, lot.stripe_subscription_item_id, lot.stripe_price_id,
            lot.stripe_checkout_session_id, lot.stripe_payment_intent_id
        from unnest(_write_entries.lots) as lot;
    end if;

    if cardinality(_write_entries.takes) > 0 then
        with written as (
            insert into billing.credit_consumptions (entry_id, grant_id, amount)
            select take.entry_id, take.grant_id, take.amount from unnest(_write_entries.takes) as take
            returning credit_consumptions.amount
        ),
        moved as (
            -- A capture takes the credits that its hold reserved.
            update billing.credit_grants
            set remaining = credit_grants.remaining - taken.amount,
                held = credit_grants.held - taken.captured,
                lapsed = credit_grants.lapsed + taken.lapsed,
                closed_at = case when credit_grants.remaining = taken.amount then taken.taken_at end,
                epoch = credit_grants.epoch + (random() < 0.02)::integer
            from (
                select
                    take.grant_id, sum(take.amount)::bigint as amount, max(entry.occurred_at) as taken_at,
                    coalesce(sum(take.amount) filter (where entry.kind = 'capture'), 0)::bigint as captured,
                    coalesce(sum(take.amount) filter (where billing._lets_lapse(entry)), 0)::bigint as lapsed
                from unnest(_write_entries.takes) as take
                join unnest(_write_entries.entries) as entry on entry.id = take.entry_id
                group by take.grant_id
            ) as taken
            where credit_grants.id = taken.grant_id
        )
        select sum(written.amount) into v_taken from written;
    end if;
    return v_taken;
end
$$;

CREATE FUNCTION billing._write_revocation(lot billing.credit_grants, requested bigint, taken bigint, shortfall bigint, key_space text, idempotency_key text, shortfall_policy text, reason text, actor text, business_key text DEFAULT NULL::text) RETURNS billing.credit_revocations
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_lot billing.credit_grants := _write_revocation.lot;
    v_balance billing.credit_balances := billing._lock_balance(v_lot.account_id);
    v_entry billing.credit_entries;
    v_revocation billing.credit_revocations;
    v_from_others bigint := 0;
    v_debt bigint := 0;
begin
    if _write_revocation.shortfall_policy = 'allow_negative' and _write_revocation.shortfall > 0 then
        v_from_others := least(
            _write_revocation.shortfall,
            greatest(v_balance.balance + v_balance.debt - v_balance.held - _write_revocation.taken, 0)
        );
        v_debt := _write_revocation.shortfall - v_from_others;
    end if;

    if _write_revocation.shortfall_policy = 'block_future_grants' then
        v_balance.withheld := v_balance.withheld + _write_revocation.shortfall;
    end if;

    v_entry := billing._entry(
        account_id => v_lot.account_id, kind => 'revocation',
        amount => -(_write_revocation.taken + v_from_others + v_debt), debt => v_debt, source => v_lot.source,
        reference_id => v_lot.reference_id, description => _write_revocation.reason,
        actor => _write_revocation.actor, reverses_entry_id => v_lot.entry_id,
        key_space => _write_revocation.key_space, idempotency_key => _write_revocation.idempotency_key,
        occurred_at => billing.current_time()
    );
    perform billing._post_entries(
        v_balance,
        case when v_entry.amount < 0 then array[v_entry] else '{}' end,
        takes => case
            when _write_revocation.taken > 0
                then array[row(v_entry.id, v_lot.id, _write_revocation.taken)::billing.credit_consumptions]
            else '{}'
        end
    );
    if v_lot.entry_id is null then
        -- It has not opened yet: it is empty, and cancelled.
        update billing.credit_grants set closed_at = coalesce(credit_grants.closed_at, v_entry.occurred_at)
        where credit_grants.id = v_lot.id;
    end if;

    insert into billing.credit_revocations (
        account_id, grant_id, entry_id, requested, taken, shortfall, shortfall_policy, reason, actor, key_space,
        idempotency_key, business_key
    )
    values (
        v_lot.account_id, v_lot.id, case when v_entry.amount < 0 then v_entry.id end, _write_revocation.requested, _write_revocation.taken,
        _write_revocation.shortfall, _write_revocation.shortfall_policy, _write_revocation.reason,
        _write_revocation.actor, _write_revocation.key_space, _write_revocation.idempotency_key,
        _write_revocation.business_key
    )
    returning * into v_revocation;
    return v_revocation;
end
$$;

CREATE FUNCTION billing.accept_invitation(token text, user_id uuid DEFAULT NULL::uuid) RETURNS billing.account_members
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_user_id uuid := case when billing._sees_every_account() then accept_invitation.user_id else auth.uid() end;
    v_invitation billing.team_invitations;
    v_member billing.account_members;
    v_now timestamptz := billing.current_time();
begin
    perform billing._check_user(v_user_id);
    -- The user is locked first, then the team, as everywhere.
    perform from auth.users where users.id = v_user_id for key share;
    select * into v_invitation from billing.team_invitations
    where team_invitations.token_hash = billing._token_hash(accept_invitation.token);
    perform from billing.accounts where accounts.id = v_invitation.account_id for no key update;
    select * into v_invitation from billing.team_invitations where team_invitations.id = v_invitation.id for update;
    select * into v_member from billing.account_members
    where account_members.account_id = v_invitation.account_id and account_members.user_id = v_user_id;
    if v_invitation.closed_as = 'accepted' and found then
        return v_member;
    elsif v_invitation.id is null or v_invitation.closed_at is not null or v_invitation.expires_at <= v_now then
        raise exception 'this invitation is no longer valid'
            using errcode = 'TB086', hint = 'It was used, revoked or has expired. Ask an owner or admin of the team for another.';
    elsif not exists (
        select from auth.users
        where users.id = v_user_id and lower(users.email) = v_invitation.email and users.email_confirmed_at is not null
    ) then
        raise exception 'this invitation is for another e-mail address'
            using errcode = 'TB087', hint = 'Sign in with the address that was invited, and confirm it.';
    end if;
    update billing.team_invitations
    set closed_at = v_now, closed_as = 'accepted', accepted_by = v_user_id
    where team_invitations.id = v_invitation.id;
    if v_member.user_id is not null then
        return v_member;
    end if;
    perform billing._check_seats(v_invitation.account_id);
    insert into billing.account_members (account_id, user_id, role)
    values (v_invitation.account_id, v_user_id, v_invitation.role)
    returning * into v_member;
    return v_member;
end
$$;

COMMENT ON FUNCTION billing.accept_invitation(token text, user_id uuid) IS 'Makes the signed-in user a member of the team that invited their confirmed e-mail address. Your server names the user.';

CREATE FUNCTION billing.account_discrepancies(account_id uuid) RETURNS TABLE(account_id_of uuid, invariant text, business_key text, expected bigint, found bigint, detail text)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    -- Nothing can be granted to a closed account, or revoked from it.
    if exists (
        select from billing.accounts
        where accounts.id = account_discrepancies.account_id and accounts.closed_at is not null
    ) then
        return;
    end if;
    return query
    with worth as materialized (
        select * from billing._worth_of_account(account_discrepancies.account_id)
    ),
    posted as materialized (
        select keys.business_key, billing._posted_credits(account_discrepancies.account_id, keys.business_key) as credits
        from (
            select worth.business_key from worth
            union
            select split_part(lots.idempotency_key, '#', 1) from billing.credit_grants as lots
            where lots.account_id = account_discrepancies.account_id and lots.key_space = 'stripe'
                and lots.source in ('stripe.monthly_allocation', 'stripe.proration', 'stripe.pack', 'stripe.recharge')
        ) as keys
    )
    select
        account_discrepancies.account_id,
        case
            when posted.credits < coalesce(worth.credits, 0) then 'paid_and_not_granted'
            when worth.returned > 0 then 'returned_and_not_taken'
            else 'granted_and_not_paid'
        end,
        posted.business_key, coalesce(worth.credits, 0), posted.credits,
        format('%s: worth %s, posted %s', posted.business_key, coalesce(worth.credits, 0), posted.credits)
    from posted
    left join worth on worth.business_key = posted.business_key
    where posted.credits <> coalesce(worth.credits, 0)
        and not (coalesce(worth.is_waiting, false) and posted.credits = 0)
        -- The clock is about to grant it.
        and not (posted.credits < worth.credits and exists (
            select from billing.credit_schedules
            where credit_schedules.account_id = account_discrepancies.account_id
                and credit_schedules.next_slot_at <= billing.current_time()
                and credit_schedules.disarmed_reason is null
        ));

    -- Initial credits: those of a paid invoice, minus what was returned of it.
    return query
    select
        account_discrepancies.account_id,
        case
            when invoices.status is distinct from 'paid' then 'granted_and_not_paid'
            when initial.posted > -initial.returned then 'returned_and_not_taken'
            else 'paid_and_not_granted'
        end,
        initial.idempotency_key, initial.amount - initial.returned, initial.amount + initial.posted,
        format(
            '%s: granted %s by %s, of which %s was returned and %s taken back', initial.idempotency_key, initial.amount,
            coalesce(initial.stripe_invoice_id, 'no invoice'), initial.returned, -initial.posted
        )
    from (
        select
            lots.idempotency_key::text, lots.amount, lots.stripe_invoice_id,
            billing._posted_credits(lots.account_id, lots.idempotency_key || ':returned') as posted,
            coalesce((
                select sum(returned.credits) from billing._returned_credits(lots.stripe_invoice_id) as returned
                where returned.moment is null
                    and returned.stripe_subscription_item_id = lots.stripe_subscription_item_id
            ), 0)::bigint as returned
        from billing.credit_grants as lots
        where lots.account_id = account_discrepancies.account_id and lots.key_space = 'stripe'
            and lots.idempotency_key ^@ 'initial:' and lots.idempotency_key !~ '#'
    ) as initial
    left join billing.invoices on invoices.stripe_invoice_id = initial.stripe_invoice_id
    where invoices.status is distinct from 'paid' or initial.posted <> -initial.returned;

    return query
    select
        account_discrepancies.account_id, 'carried_is_not_the_rest', null::text,
        coalesce(-sum(carried_credits.amount), 0)::bigint, max(balances.carried),
        format('carried %s, rows say %s', max(balances.carried), coalesce(-sum(carried_credits.amount), 0))
    from billing.credit_balances as balances
    left join billing.carried_credits on carried_credits.account_id = balances.account_id
    where balances.account_id = account_discrepancies.account_id
    group by balances.account_id
    having max(balances.carried) <> coalesce(-sum(carried_credits.amount), 0);

    return query
    select
        account_discrepancies.account_id, 'paid_time_is_not_recorded', lines.stripe_line_id, lines.amount, null::bigint,
        format('line %s of %s is paid for and recorded nowhere', lines.stripe_line_id, lines.stripe_invoice_id)
    from billing.invoices
    join billing.invoice_lines as lines on lines.stripe_invoice_id = invoices.stripe_invoice_id
    left join billing.subscriptions on subscriptions.stripe_subscription_id = coalesce(
        lines.stripe_subscription_id, invoices.stripe_subscription_id
    )
    where invoices.account_id = account_discrepancies.account_id and invoices.status = 'paid'
        and lines.stripe_subscription_item_id is not null and lines.period_end > lines.period_start
        and not lines.is_waiting and coalesce(lines.quantity, 1) > 0
        and (lines.is_proration or invoices.billing_reason in (
            'subscription_create', 'subscription_cycle', 'subscription_update', 'quote_accept', 'subscription'
        ))
        and exists (
            select from billing.credit_terms
            where credit_terms.stripe_price_id = lines.stripe_price_id
                and credit_terms.initial_credits + credit_terms.monthly_credits > 0
                and credit_terms.valid_from <= invoices.created_at
        )
        and not (
            lines.amount = 0 and coalesce(
                lines.period_start >= subscriptions.trial_start and lines.period_start < subscriptions.trial_end, false
            )
        )
        and not exists (
            select from billing.credit_schedules as schedules
            where schedules.stripe_line_id = lines.stripe_line_id
                -- Another invoice paid for the same period of the item.
                or schedules.stripe_subscription_item_id = lines.stripe_subscription_item_id
                and schedules.stripe_subscription_id = coalesce(lines.stripe_subscription_id, invoices.stripe_subscription_id)
                and schedules.period_start = lines.period_start and schedules.period_end = lines.period_end
                and not lines.is_proration
        );

    return query
    select
        account_discrepancies.account_id, 'recorded_and_not_paid', schedules.stripe_line_id, lines.quantity,
        schedules.quantity,
        format('%s of %s does not say what its line says', schedules.stripe_line_id, schedules.stripe_invoice_id)
    from billing.credit_schedules as schedules
    left join billing.invoice_lines as lines on lines.stripe_line_id = schedules.stripe_line_id
    left join billing.invoices on invoices.stripe_invoice_id = lines.stripe_invoice_id
    left join billing.plans on plans.stripe_price_id = lines.stripe_price_id
    where schedules.account_id = account_discrepancies.account_id
        and (
            invoices.status is distinct from 'paid' or invoices.account_id is distinct from schedules.account_id
            or (
                lines.stripe_price_id, lines.period_start, lines.period_end,
                case
                    when schedules.gives_back and schedules.is_change
                        then billing._seats_given_back(billing._seats(plans, lines.quantity), lines.credited_line_ids)
                    else billing._seats(plans, lines.quantity)
                end
            ) is distinct from (
                schedules.stripe_price_id, schedules.period_start, schedules.period_end, schedules.quantity
            )
        );
end
$$;

COMMENT ON FUNCTION billing.account_discrepancies(account_id uuid) IS 'The rows of entitlement_discrepancies of one account.';

CREATE FUNCTION billing.account_entitlements(account_id uuid) RETURNS TABLE(feature text, value jsonb, stripe_subscription_id text, stripe_price_id text)
    LANGUAGE sql STABLE SECURITY DEFINER ROWS 10
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select features.key, features.value, subscriptions.stripe_subscription_id, items.stripe_price_id
    from billing.settings
    join billing.subscriptions on subscriptions.livemode = settings.livemode
    join billing.customers
        on customers.stripe_customer_id = subscriptions.stripe_customer_id and customers.deleted_at is null
    join billing.subscription_items as items
        on items.stripe_subscription_id = subscriptions.stripe_subscription_id
    join billing.plans on plans.stripe_price_id = items.stripe_price_id
    cross join lateral jsonb_each(plans.features) as features
    where subscriptions.account_id = account_entitlements.account_id
        and (
            subscriptions.status in ('active', 'trialing')
            or subscriptions.status = 'past_due' and settings.past_due_keeps_features
        )
        and features.value not in ('false', 'null', '0')
        and (
            account_entitlements.account_id = any (array(select billing.my_account_ids()))
            or (select billing._sees_every_account())
        )
$$;

COMMENT ON FUNCTION billing.account_entitlements(account_id uuid) IS 'The features that an account may use. Empty for another user''s account, unless the caller bypasses row level security.';

CREATE FUNCTION billing.account_ledger_discrepancies(account_id uuid) RETURNS TABLE(invariant text, detail text)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET enable_seqscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    AS $$
declare
    v_account billing.accounts;
    v_balance billing.credit_balances;
    v_entries record;
    v_lots record;
    v_holds record;
begin
    select * into v_account from billing.accounts where accounts.id = account_ledger_discrepancies.account_id;
    select * into v_balance from billing.credit_balances
    where credit_balances.account_id = account_ledger_discrepancies.account_id;

    -- For every kind of movement: an entry is what it opened, minus what it took from lots, minus what it owes.
    select
        coalesce(sum(e.amount), 0) as total, coalesce(sum(e.debt), 0) as debt, coalesce(sum(t.taken), 0) as taken,
        max(e.id) as last_id,
        array_agg(format('entry %s: %s and %s make not %s', e.id, e.balance_before, e.amount, e.balance_after))
            filter (where e.balance_after <> e.balance_before + e.amount) as out_of_the_chain,
        array_agg(format('entry %s of %s opened %s, took %s, owes %s', e.id, e.amount, o.opened, t.taken, e.debt))
            filter (where e.amount <> o.opened - t.taken - e.debt) as unaccounted
    into v_entries
    from (
        select
            credit_entries.id, credit_entries.amount, credit_entries.debt, credit_entries.balance_after,
            lag(credit_entries.balance_after, 1, 0::bigint) over (order by credit_entries.id) as balance_before
        from billing.credit_entries
        where credit_entries.account_id = account_ledger_discrepancies.account_id
    ) as e
    cross join lateral (
        select coalesce(sum(credit_consumptions.amount), 0) as taken from billing.credit_consumptions
        where credit_consumptions.entry_id = e.id
    ) as t
    cross join lateral (
        select coalesce(sum(credit_grants.amount), 0) as opened from billing.credit_grants
        where credit_grants.entry_id = e.id
    ) as o;
    return query
    select 'balance_after_continues_the_chain', broken.detail from unnest(v_entries.out_of_the_chain) as broken (detail)
    union all
    select 'entry_is_accounted_for', broken.detail from unnest(v_entries.unaccounted) as broken (detail)
    union all
    select 'entry_has_a_balance', format('entry %s of an account that is not there', v_entries.last_id)
    where v_entries.last_id is not null and v_balance.account_id is null;

    select
        coalesce(sum(g.remaining), 0) as remaining, coalesce(sum(g.held), 0) as held, coalesce(sum(t.taken), 0) as taken,
        least(
            min(g.expires_at) filter (where g.closed_at is null and g.remaining > g.held),
            min(g.effective_at) filter (where g.closed_at is null and g.entry_id is null)
        ) as due_at,
        array_agg(format('lot %s: held %s, pinned %s', g.id, g.held, p.pinned))
            filter (where g.held <> p.pinned) as held_by_none,
        array_agg(format('lot %s: amount %s, remaining %s, taken %s', g.id, g.amount, g.remaining, t.taken))
            filter (where g.entry_id is not null and g.amount - g.remaining <> t.taken) as otherwise_taken,
        array_agg(format('lot %s is open and empty', g.id))
            filter (where g.entry_id is not null and g.closed_at is null and g.remaining = 0) as empty,
        array_agg(format('lot %s: entry %s is not there, or of another account', g.id, g.entry_id))
            filter (
                where g.entry_id is not null and opening.account_id is distinct from g.account_id
                    or v_balance.account_id is null
            ) as without_entry
    into v_lots
    from billing.credit_grants as g
    left join billing.credit_entries as opening on opening.id = g.entry_id
    cross join lateral (
        select coalesce(sum(credit_consumptions.amount), 0) as taken from billing.credit_consumptions
        where credit_consumptions.grant_id = g.id
    ) as t
    cross join lateral (
        select coalesce(sum(credit_hold_lots.amount), 0) as pinned from billing.credit_hold_lots
        where credit_hold_lots.grant_id = g.id
    ) as p
    where g.account_id = account_ledger_discrepancies.account_id;
    return query
    select 'lot_is_held_by_its_holds', broken.detail from unnest(v_lots.held_by_none) as broken (detail)
    union all
    select 'lot_lost_what_entries_took', broken.detail from unnest(v_lots.otherwise_taken) as broken (detail)
    union all
    select 'lot_is_open_while_something_remains', broken.detail from unnest(v_lots.empty) as broken (detail)
    union all
    select 'lot_has_its_entry', broken.detail from unnest(v_lots.without_entry) as broken (detail)
    union all
    -- Lineage that refers to a missing lot or entry, or to one of another account, is on one side only.
    select
        'lineage_joins_entry_and_lot',
        format('entries took %s credits from lots, and from the lots %s were taken', v_entries.taken, v_lots.taken)
    where v_entries.taken <> v_lots.taken;

    return query
    select
        'lot_lapsed_by_entries',
        format('lot %s: lapsed %s, entries %s', sides.grant_id, sum(sides.lapsed), sum(sides.expired))
    from (
        select credit_grants.id as grant_id, credit_grants.lapsed, 0 as expired from billing.credit_grants
        where credit_grants.account_id = account_ledger_discrepancies.account_id
        union all
        select credit_consumptions.grant_id, 0, credit_consumptions.amount from billing.credit_entries
        join billing.credit_consumptions on credit_consumptions.entry_id = credit_entries.id
        where credit_entries.account_id = account_ledger_discrepancies.account_id
            and (
                credit_entries.kind = 'expiry'
                or credit_entries.kind = 'adjustment' and credit_entries.source = 'closing'
            )
    ) as sides
    group by sides.grant_id
    having sum(sides.lapsed) <> sum(sides.expired);

    return query
    select judged.invariant, judged.detail
    from billing.credit_holds as h
    cross join lateral (
        select coalesce(sum(credit_hold_lots.amount), 0) as pinned from billing.credit_hold_lots
        where credit_hold_lots.hold_id = h.id
    ) as p
    cross join lateral (
        select coalesce(-sum(credit_entries.amount), 0) as captured from billing.credit_entries
        where credit_entries.hold_id = h.id and credit_entries.kind = 'capture'
    ) as c
    cross join lateral (
        select
            'hold_pins_what_it_holds',
            format('hold %s is %s: %s of %s captured, %s pinned', h.id, h.status, h.captured, h.amount, p.pinned)
        where p.pinned <> case h.status when 'held' then h.amount - h.captured else 0 end
        union all
        select
            'hold_captured_what_entries_took', format('hold %s: captured %s, entries %s', h.id, h.captured, c.captured)
        where h.captured <> c.captured
    ) as judged (invariant, detail)
    where h.account_id = account_ledger_discrepancies.account_id;

    return query
    select
        'refunds_are_within_the_spend',
        format('entry %s of %s was given back %s', spends.id, spends.amount, given_back.amount)
    from (
        select credit_entries.reverses_entry_id, sum(credit_entries.amount) as amount from billing.credit_entries
        where credit_entries.account_id = account_ledger_discrepancies.account_id and credit_entries.kind = 'refund'
        group by credit_entries.reverses_entry_id
    ) as given_back
    join billing.credit_entries as spends on spends.id = given_back.reverses_entry_id
    where given_back.amount > -spends.amount;

    if v_balance.account_id is null then
        return query select 'account_has_a_balance', 'no row in credit_balances' where v_account.id is not null;
        return;
    end if;

    select
        coalesce(sum(credit_holds.amount - credit_holds.captured), 0) as held, min(credit_holds.expires_at) as due_at
    into v_holds from billing.credit_holds
    where credit_holds.account_id = account_ledger_discrepancies.account_id and credit_holds.status = 'held';

    return query
    select 'balance_knows_who_may_spend', format('may_spend %s, the account says otherwise', v_balance.may_spend)
    where v_balance.may_spend <> (v_account.frozen_at is null and v_account.closed_at is null)
    union all
    select 'balance_is_the_sum_of_entries', format('balance %s, entries %s', v_balance.balance, v_entries.total)
    where v_balance.balance <> v_entries.total
    union all
    select
        'balance_is_what_remains_less_debt',
        format('balance %s, remaining %s, debt %s', v_balance.balance, v_lots.remaining, v_balance.debt)
    where v_balance.balance <> v_lots.remaining - v_balance.debt
    union all
    select 'debt_is_the_sum_of_entries', format('debt %s, entries %s', v_balance.debt, v_entries.debt)
    where v_balance.debt <> v_entries.debt
    union all
    select
        'held_is_the_sum_of_open_holds',
        format('held %s, holds %s, lots %s', v_balance.held, v_holds.held, v_lots.held)
    where v_balance.held <> v_holds.held or v_balance.held <> v_lots.held
    union all
    select
        'debt_leaves_no_credits_free',
        format('debt %s beside %s credits that nothing holds', v_balance.debt, v_lots.remaining - v_lots.held)
    where v_balance.debt > 0 and v_lots.remaining > v_lots.held
    union all
    select
        'nothing_falls_due_unseen',
        format(
            'next_due_at %s, a lot is due at %s, a hold at %s', v_balance.next_due_at, v_lots.due_at, v_holds.due_at
        )
    where least(v_lots.due_at, v_holds.due_at) < coalesce(v_balance.next_due_at, 'infinity');
end
$$;

COMMENT ON FUNCTION billing.account_ledger_discrepancies(account_id uuid) IS 'The rows of ledger_discrepancies of one account.';

CREATE FUNCTION billing.add_member(account_id uuid, user_id uuid, role text DEFAULT 'member'::text) RETURNS billing.account_members
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_member billing.account_members;
begin
    perform billing._lock_team(add_member.account_id, add_member.user_id);
    perform billing._check_rank(3, add_member.role);
    perform billing._check_user(add_member.user_id);
    select * into v_member from billing.account_members
    where account_members.account_id = add_member.account_id and account_members.user_id = add_member.user_id;
    if found and v_member.role <> add_member.role then
        raise exception 'this user is a member already, with the role %', v_member.role
            using errcode = 'TB083', hint = 'Change it with set_member_role.';
    elsif not found then
        perform billing._check_seats(add_member.account_id);
        insert into billing.account_members (account_id, user_id, role)
        values (add_member.account_id, add_member.user_id, add_member.role)
        returning * into v_member;
        perform billing._appoint_owner(add_member.account_id);
    end if;
    return v_member;
end
$$;

COMMENT ON FUNCTION billing.add_member(account_id uuid, user_id uuid, role text) IS 'Adds a user to a team as member, admin or owner. Repeated with the same role it changes nothing.';

CREATE FUNCTION billing.adjust_credits(account_id uuid, amount numeric, idempotency_key text, reason text, actor text, expires_at timestamp with time zone DEFAULT NULL::timestamp with time zone) RETURNS billing.credit_entries
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_amount bigint := billing._checked_amount(abs(adjust_credits.amount));
    v_entry billing.credit_entries;
begin
    perform billing._checked_key(adjust_credits.idempotency_key, '{}');
    perform billing._check_reason(adjust_credits.reason, adjust_credits.actor);
    if adjust_credits.amount > 0 then
        return billing._grant_credits(
            account_id => adjust_credits.account_id,
            amount => v_amount,
            key_space => 'caller',
            idempotency_key => adjust_credits.idempotency_key,
            source => 'adjustment',
            reference_id => null,
            description => adjust_credits.reason,
            expires_at => adjust_credits.expires_at,
            kind => 'adjustment',
            actor => adjust_credits.actor
        );
    end if;

    perform billing._lock_balance(adjust_credits.account_id);
    select * into v_entry from billing.credit_entries
    where credit_entries.account_id = adjust_credits.account_id and credit_entries.key_space = 'caller'
        and credit_entries.idempotency_key = adjust_credits.idempotency_key;
    if found then
        if (v_entry.kind, v_entry.amount, v_entry.description, v_entry.actor) is distinct from (
            'adjustment', -v_amount, adjust_credits.reason, adjust_credits.actor
        ) then
            perform billing._raise_key_reused(adjust_credits.idempotency_key);
        end if;
        return v_entry;
    end if;
    perform billing._check_open(adjust_credits.account_id);
    return billing._take_credits(billing._lock_settled_balance(adjust_credits.account_id), billing._entry(
        account_id => adjust_credits.account_id, kind => 'adjustment', amount => -v_amount, source => 'adjustment',
        description => adjust_credits.reason, actor => adjust_credits.actor, key_space => 'caller',
        idempotency_key => adjust_credits.idempotency_key, occurred_at => billing.current_time()
    ));
end
$$;

COMMENT ON FUNCTION billing.adjust_credits(account_id uuid, amount numeric, idempotency_key text, reason text, actor text, expires_at timestamp with time zone) IS 'Adds credits or (amount below zero) removes them by hand, with a reason and an actor; once for each idempotency key.';

CREATE FUNCTION billing.advance_backfill(list text, last_stripe_id text, objects bigint, is_complete boolean) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    insert into billing.backfilled_lists as held (list, last_stripe_id, objects, is_complete)
    values (
        advance_backfill.list, advance_backfill.last_stripe_id, advance_backfill.objects, advance_backfill.is_complete
    )
    on conflict on constraint backfilled_lists_pkey do update
    set last_stripe_id = coalesce(excluded.last_stripe_id, held.last_stripe_id),
        objects = held.objects + excluded.objects,
        is_complete = excluded.is_complete,
        updated_at = now();
end
$$;

COMMENT ON FUNCTION billing.advance_backfill(list text, last_stripe_id text, objects bigint, is_complete boolean) IS 'Records that a page of one of Stripe''s lists was received.';

CREATE FUNCTION billing.allocate_due_credits(as_of timestamp with time zone DEFAULT NULL::timestamp with time zone, accounts_max integer DEFAULT NULL::integer) RETURNS TABLE(accounts bigint, slots_granted bigint, credits_granted numeric)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET plan_cache_mode TO 'force_generic_plan'
    AS $$
declare
    v_as_of timestamptz := coalesce(allocate_due_credits.as_of, billing.current_time());
    v_chunk constant integer := 10000;
    v_spare constant integer := 1000;
    v_limit integer;
    v_account_ids uuid[];
    v_unsettled_ids uuid[];
    v_subscription_ids text[];
    v_from timestamptz;
    v_granted record;
begin
    if v_as_of > billing.current_time() then
        raise exception 'as_of must not be in the future: %', v_as_of
            using errcode = 'TB022', hint = 'Leave as_of out to grant what is due now.';
    end if;
    accounts := 0;
    slots_granted := 0;
    credits_granted := 0;
    loop
        v_limit := greatest(least(v_chunk, allocate_due_credits.accounts_max - allocate_due_credits.accounts), 0);
        -- First the accounts, then their locks: one statement would be a join that reads all balances. Selects some
        -- more than needed, because accounts that another transaction has locked are skipped.
        select array_agg(distinct due.account_id) into v_account_ids from (
            select credit_schedules.account_id from billing.credit_schedules
            where credit_schedules.next_slot_at <= v_as_of and credit_schedules.disarmed_reason is null
            order by credit_schedules.next_slot_at
            limit v_limit + v_spare
        ) as due;
        select array_agg(locked.account_id), array_agg(locked.account_id) filter (where locked.next_due_at <= v_as_of)
        into v_account_ids, v_unsettled_ids
        from (
            select credit_balances.account_id, credit_balances.next_due_at from billing.credit_balances
            where credit_balances.account_id = any (v_account_ids)
            order by credit_balances.account_id
            limit v_limit
            for update skip locked
        ) as locked;
        exit when v_account_ids is null;
        -- Other due changes first: lots expire before this month's lots open.
        if v_unsettled_ids is not null then
            perform billing._settle_due(v_unsettled_ids, v_as_of);
        end if;
        select array_agg(distinct credit_schedules.stripe_subscription_id), min(credit_schedules.next_slot_at)
        into v_subscription_ids, v_from
        from billing.credit_schedules
        where credit_schedules.account_id = any (v_account_ids)
            and credit_schedules.next_slot_at <= v_as_of and credit_schedules.disarmed_reason is null;
        exit when v_subscription_ids is null;
        select * into v_granted from billing._allocate_slots(v_subscription_ids, v_from, v_as_of);
        accounts := accounts + cardinality(v_account_ids) - coalesce(cardinality(v_granted.full_account_ids), 0);
        slots_granted := slots_granted + v_granted.slots_granted;
        credits_granted := credits_granted + v_granted.credits_granted;
        -- Only accounts without room for more are left.
        exit when cardinality(v_granted.full_account_ids) = cardinality(v_account_ids);
    end loop;
    return next;
end
$$;

COMMENT ON FUNCTION billing.allocate_due_credits(as_of timestamp with time zone, accounts_max integer) IS 'Grants every month of credits that has started by as_of (null: now), for up to accounts_max accounts (null: all). Returns counts. Safe to run at any time, repeatedly and in parallel.';

CREATE FUNCTION billing.allocate_postponed() RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_ids text[] := nullif(current_setting('billing.postponed_ids', true), '');
    v_moments timestamptz[] := nullif(current_setting('billing.postponed_moments', true), '');
    v_due record;
begin
    perform set_config('billing.postponed_ids', '', true);
    for v_due in
        select array_agg(postponed.id) as subscription_ids, min(postponed.moment) as from_moment
        from unnest(v_ids, v_moments) as postponed (id, moment)
        group by date_trunc('month', postponed.moment, 'UTC')
        order by 2
    loop
        perform billing._allocate_slots(v_due.subscription_ids, v_due.from_moment, billing.current_time());
    end loop;
end
$$;

COMMENT ON FUNCTION billing.allocate_postponed() IS 'Grants the months that a batch of events made due. Call it before committing a transaction that started with lock_stripe_events and postpone_months.';

CREATE FUNCTION billing.ask_stripe(msg_id bigint, event_id text, tie_kind text, tie_stripe_id text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    delete from billing.stripe_lookups
    where stripe_lookups.stripe_event_id = ask_stripe.event_id and stripe_lookups.worker_pid = pg_backend_pid();
    if found then
        perform pgmq.set_vt('stripe_events', ask_stripe.msg_id, 1);
        return;
    end if;

    update billing.stripe_events
    set attempts = stripe_events.attempts + 1, excused_attempts = stripe_events.excused_attempts + 1
    where stripe_events.stripe_event_id = ask_stripe.event_id and stripe_events.status = 'queued';

    insert into billing.stripe_lookups (stripe_event_id, msg_id, tie_kind, tie_stripe_id)
    values (ask_stripe.event_id, ask_stripe.msg_id, ask_stripe.tie_kind, ask_stripe.tie_stripe_id)
    on conflict (stripe_event_id) do update
    set msg_id = excluded.msg_id, tie_kind = excluded.tie_kind, tie_stripe_id = excluded.tie_stripe_id,
        next_attempt_at = now();

    perform pgmq.set_vt('stripe_events', ask_stripe.msg_id, 3600);
end
$$;

CREATE FUNCTION billing.begin_email_changes(msg_ids bigint[], ids text[]) RETURNS TABLE(msg_id bigint, stripe_customer_id text, old_emails text[], new_email text)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    return query
    select distinct on (changes.stripe_customer_id)
        job.msg_id, changes.stripe_customer_id, changes.old_emails, changes.new_email
    from unnest(begin_email_changes.msg_ids, begin_email_changes.ids) as job (msg_id, id)
    join billing.customer_email_changes as changes on changes.stripe_customer_id = job.id
    where changes.settled_at is null
    order by changes.stripe_customer_id, job.msg_id;
end
$$;

COMMENT ON FUNCTION billing.begin_email_changes(msg_ids bigint[], ids text[]) IS 'Customers whose e-mail address must be changed in Stripe, of the jobs that the caller took.';

CREATE FUNCTION billing.begin_fraud_actions(msg_ids bigint[], ids text[]) RETURNS TABLE(msg_id bigint, id bigint, idempotency_key uuid, action text, stripe_charge_id text, stripe_subscription_id text, attempts integer, was_in_doubt boolean)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET lock_timeout TO '500ms'
    AS $$
begin
    return query
    with begun as (
        select job.msg_id, actions.id, actions.is_in_doubt
        from unnest(begin_fraud_actions.msg_ids, begin_fraud_actions.ids) as job (msg_id, id)
        join billing.fraud_actions as actions on actions.id = job.id::bigint
        where actions.status = 'queued'
        for update of actions
    )
    update billing.fraud_actions
    set attempts = fraud_actions.attempts + 1, is_in_doubt = true, updated_at = now()
    from begun
    where fraud_actions.id = begun.id
    returning
        begun.msg_id, fraud_actions.id, fraud_actions.idempotency_key, fraud_actions.action,
        fraud_actions.stripe_charge_id, fraud_actions.stripe_subscription_id, fraud_actions.attempts, begun.is_in_doubt;
end
$$;

COMMENT ON FUNCTION billing.begin_fraud_actions(msg_ids bigint[], ids text[]) IS 'Refunds and cancellations to send to Stripe, of the jobs that the caller took.';

CREATE FUNCTION billing.begin_notifications(msg_ids bigint[], ids text[]) RETURNS TABLE(msg_id bigint, id bigint, audience text, kind text, account_id uuid, payload jsonb, attempts integer, delivered_to text[], digest_size integer, first jsonb, email text, created_at timestamp with time zone)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_ids bigint[] := begin_notifications.ids::bigint[];
    v_reader record;
    v_first billing.notifications;
begin
    perform billing._skip_notifications(v_ids);
    for v_reader in
        select distinct notifications.kind, notifications.reader from billing.notifications
        where notifications.id = any (v_ids) and notifications.status = 'queued' and notifications.attempts = 0
            and notifications.digest_id is null
        order by notifications.kind, notifications.reader
    loop
        -- After the lock, the decision of another worker for this kind and reader is visible.
        perform pg_advisory_xact_lock(
            hashtextextended(format('billing.notifications:%s:%s', v_reader.kind, v_reader.reader), 0)
        );
        select * into v_first from billing.notifications
        where notifications.id = any (v_ids) and notifications.kind = v_reader.kind
            and notifications.reader = v_reader.reader and notifications.status = 'queued'
            and notifications.attempts = 0 and notifications.digest_id is null
        order by notifications.id
        limit 1
        -- Locked, so that skip_notifications passes it over while others become part of its digest.
        for update;
        if found then
            perform billing._digest_notifications(v_first);
        end if;
    end loop;

    return query
    with begun as (
        update billing.notifications
        set status = 'sending', attempts = notifications.attempts + 1,
            first_attempt_at = coalesce(notifications.first_attempt_at, now())
        from unnest(begin_notifications.msg_ids, v_ids) as job (msg_id, id)
        -- Notifications that were postponed, or became part of a digest, no longer have a job in hand.
        join pgmq.q_billing_jobs as message
            on message.msg_id = job.msg_id and message.headers ->> 'worker_pid' = pg_backend_pid()::text
        where notifications.id = job.id and notifications.status in ('queued', 'sending')
        returning job.msg_id, notifications.*
    )
    select
        begun.msg_id, begun.id, begun.audience, begun.kind::text, begun.account_id, begun.payload, begun.attempts,
        begun.delivered_to, begun.digest_size,
        (
            select jsonb_agg(members.payload order by members.id) from (
                select told.id, told.payload from billing.notifications as told
                where told.digest_id = begun.id
                order by told.id
                limit 5
            ) as members
        ),
        case begun.audience when 'customer' then users.email::text end, begun.created_at
    from begun
    left join billing.accounts on accounts.id = begun.account_id
    left join auth.users on users.id = accounts.owner_id
    order by begun.id;
end
$$;

COMMENT ON FUNCTION billing.begin_notifications(msg_ids bigint[], ids text[]) IS 'Messages to send now, of the jobs that the caller took.';

CREATE FUNCTION billing.begin_recharges(msg_ids bigint[], ids text[]) RETURNS TABLE(msg_id bigint, id uuid, stripe_customer_id text, stripe_price_id text, amount bigint, currency text, return_url text, stripe_payment_intent_id text, was_asked boolean, first_attempt_at timestamp with time zone, age_seconds double precision, barred text[])
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_job record;
    v_recharge billing.recharges;
    v_begun bigint[] := '{}';
    v_begun_ids uuid[] := '{}';
    v_was_asked boolean;
    v_obstacle text;
begin
    for v_job in
        select job.msg_id, recharges as recharge
        from unnest(begin_recharges.msg_ids, begin_recharges.ids) as job (msg_id, id)
        join billing.recharges on recharges.id = job.id::uuid
        where recharges.status in ('claimed', 'charging')
        order by job.msg_id
        for update of recharges skip locked
    loop
        v_recharge := v_job.recharge;
        -- A second message of one recharge waits for the first one's outcome.
        continue when v_recharge.id = any (v_begun_ids);
        v_was_asked := v_recharge.status = 'charging';
        v_obstacle := null;
        if not v_was_asked then
            -- Under the lock: an account that is frozen or closed at this moment must not be charged.
            continue when not billing._lock_balance_soon(v_recharge.account_id);
            v_obstacle := billing._obstacle_to_recharge(v_recharge.account_id);
        end if;
        if v_obstacle is not null then
            update billing.recharges
            set status = 'failed', reason = v_obstacle, settled_at = billing.current_time(), updated_at = now()
            where recharges.id = v_recharge.id;
            perform billing._arm_recharge(v_recharge.account_id);
            continue;
        end if;

        update billing.recharges
        set status = 'charging', attempts = v_recharge.attempts + 1,
            first_attempt_at = coalesce(v_recharge.first_attempt_at, now()), updated_at = now()
        where recharges.id = v_recharge.id
        returning * into v_recharge;
        v_begun := v_begun || v_job.msg_id;
        v_begun_ids := v_begun_ids || v_recharge.id;
        return query select
            v_job.msg_id, v_recharge.id, v_recharge.stripe_customer_id, v_recharge.stripe_price_id, v_recharge.amount,
            v_recharge.currency, v_recharge.return_url, v_recharge.stripe_payment_intent_id, v_was_asked,
            v_recharge.first_attempt_at,
            extract(epoch from now() - v_recharge.first_attempt_at)::double precision,
            array(
                select distinct refused.stripe_payment_method_id from billing.recharges as refused
                where refused.account_id = v_recharge.account_id and refused.is_final
                    and refused.stripe_payment_method_id is not null
            );
    end loop;

    perform billing.retry_job(job.msg_id, 1, 'the account, or another message of the recharge, is in use', excused => true)
    from unnest(begin_recharges.msg_ids, begin_recharges.ids) as job (msg_id, id)
    join billing.recharges on recharges.id = job.id::uuid
    where recharges.status in ('claimed', 'charging') and job.msg_id <> all (v_begun);
end
$$;

COMMENT ON FUNCTION billing.begin_recharges(msg_ids bigint[], ids text[]) IS 'Recharges to charge, of the jobs that the caller took: each is one payment, with its id as the Idempotency-Key.';

CREATE FUNCTION billing.begin_retired_links(msg_ids bigint[], ids text[]) RETURNS TABLE(msg_id bigint, id uuid, stripe_payment_link_id text)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    return query
    select job.msg_id, payment_links.id, payment_links.stripe_payment_link_id
    from unnest(begin_retired_links.msg_ids, begin_retired_links.ids) as job (msg_id, id)
    join billing.payment_links on payment_links.id = job.id::uuid
    where payment_links.deactivate_at is not null
    order by job.msg_id;
end
$$;

COMMENT ON FUNCTION billing.begin_retired_links(msg_ids bigint[], ids text[]) IS 'Payment Links to deactivate in Stripe, of the jobs that the caller took.';

CREATE FUNCTION billing.capture_hold(hold_id uuid, amount numeric, idempotency_key text, description text DEFAULT NULL::text, metadata jsonb DEFAULT '{}'::jsonb, release_rest boolean DEFAULT false) RETURNS billing.credit_entries
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_amount bigint;
    v_hold billing.credit_holds;
    v_balance billing.credit_balances;
    v_entry billing.credit_entries;
    v_takes billing.credit_consumptions[];
begin
    perform billing._checked_key(capture_hold.idempotency_key, capture_hold.metadata);
    v_hold := billing._lock_hold(capture_hold.hold_id);
    v_amount := case when capture_hold.amount is not null then billing._checked_amount(capture_hold.amount) end;

    select * into v_entry from billing.credit_entries
    where credit_entries.account_id = v_hold.account_id and credit_entries.key_space = 'caller'
        and credit_entries.idempotency_key = capture_hold.idempotency_key;
    if found then
        if (v_entry.kind, v_entry.hold_id, -v_entry.amount, v_entry.description, v_entry.metadata) is distinct from (
                'capture', v_hold.id, coalesce(v_amount, -v_entry.amount),
                coalesce(capture_hold.description, v_hold.description), capture_hold.metadata
            ) or billing._ended_hold(v_entry, v_hold) <> capture_hold.release_rest
            and not (v_hold.status = 'captured' and v_hold.captured = v_hold.amount) then
            perform billing._raise_key_reused(capture_hold.idempotency_key);
        end if;
        return v_entry;
    end if;

    perform billing._check_held(v_hold);
    v_amount := coalesce(v_amount, v_hold.amount - v_hold.captured);
    if v_amount > v_hold.amount - v_hold.captured then
        raise exception 'hold % has % credits left, % cannot be captured', v_hold.id, v_hold.amount - v_hold.captured, v_amount
            using errcode = 'TB025', hint = 'Capture what is held and spend the rest with spend_credits.';
    end if;
    v_balance := billing._lock_balance(v_hold.account_id);
    if v_balance.spend_cap is not null then
        -- Checked when the hold was created; counted now.
        v_balance := billing._in_running_period(v_balance);
        v_balance.spent_in_period := v_balance.spent_in_period + v_amount;
    end if;

    v_entry := billing._entry(
        account_id => v_hold.account_id, kind => 'capture', amount => -v_amount, source => 'app',
        description => coalesce(capture_hold.description, v_hold.description), feature => v_hold.feature,
        metadata => capture_hold.metadata, hold_id => v_hold.id, key_space => 'caller',
        idempotency_key => capture_hold.idempotency_key, occurred_at => billing.current_time()
    );
    with pins as (
        select
            credit_hold_lots.grant_id, credit_hold_lots.amount,
            sum(credit_hold_lots.amount) over (
                order by credit_grants.priority, credit_grants.expires_at, credit_grants.id
            ) as upper
        from billing.credit_hold_lots
        join billing.credit_grants on credit_grants.id = credit_hold_lots.grant_id
        where credit_hold_lots.hold_id = v_hold.id and credit_hold_lots.amount > 0
    ),
    captured as (
        select pins.grant_id, least(pins.amount, v_amount - (pins.upper - pins.amount))::bigint as amount from pins
        where pins.upper - pins.amount < v_amount
    ),
    unpinned as (
        update billing.credit_hold_lots set amount = credit_hold_lots.amount - captured.amount
        from captured where credit_hold_lots.hold_id = v_hold.id and credit_hold_lots.grant_id = captured.grant_id
    )
    select array_agg(row(v_entry.id, captured.grant_id, captured.amount)::billing.credit_consumptions) into v_takes
    from captured;
    v_balance.held := v_balance.held - v_amount;
    v_entry := billing._post_entry(v_balance, v_entry, takes => v_takes);
    update billing.credit_holds set captured = credit_holds.captured + v_amount where credit_holds.id = v_hold.id
    returning * into v_hold;
    if capture_hold.release_rest or v_hold.captured = v_hold.amount then
        perform billing._settle_hold(v_hold, 'captured');
    end if;
    return v_entry;
end
$$;

COMMENT ON FUNCTION billing.capture_hold(hold_id uuid, amount numeric, idempotency_key text, description text, metadata jsonb, release_rest boolean) IS 'Spends credits of a hold, once for each idempotency key, and returns the entry. amount null: all that is left. The rest stays held until it is captured, released (release_rest) or expires.';

CREATE FUNCTION billing.check_account(account_id uuid) RETURNS TABLE(invariant text, business_key text, expected bigint, found bigint, detail text)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    return query
    select
        discrepancies.invariant, discrepancies.business_key, discrepancies.expected, discrepancies.found,
        discrepancies.detail
    from billing.account_discrepancies(check_account.account_id) as discrepancies
    union all
    select ledger.invariant, null, null::bigint, null::bigint, ledger.detail
    from billing.account_ledger_discrepancies(check_account.account_id) as ledger;
end
$$;

COMMENT ON FUNCTION billing.check_account(account_id uuid) IS 'Rows of ledger_discrepancies and entitlement_discrepancies for one account. Empty when all is well.';

CREATE FUNCTION billing.check_recharges_again() RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_account_id uuid;
begin
    for v_account_id in
        select recharge_settings.account_id from billing.recharge_settings
        where recharge_settings.check_again_at <= billing.current_time()
        order by recharge_settings.check_again_at
        limit 100
    loop
        perform from billing.credit_balances where credit_balances.account_id = v_account_id for update skip locked;
        continue when not found;
        update billing.recharge_settings set check_again_at = null, updated_at = now()
        where recharge_settings.account_id = v_account_id;
        perform billing._arm_recharge(v_account_id);
    end loop;
end
$$;

COMMENT ON FUNCTION billing.check_recharges_again() IS 'Arms balances again: the month of their cap is over, or their account was frozen.';

CREATE FUNCTION billing.claim_payment_link(plan text, pack text, options jsonb DEFAULT '{}'::jsonb) RETURNS jsonb
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_price record;
begin
    select * into strict v_price from billing._price_on_sale(claim_payment_link.plan, claim_payment_link.pack);
    if v_price.is_metered then
        raise exception 'a metered plan cannot be sold by a payment link'
            using errcode = 'TB042', hint = 'A Payment Link has a fixed quantity. Use checkout.';
    -- A link can be paid any number of times, and each payment would grant credits.
    elsif exists (
        select from billing.plans where plans.stripe_price_id = v_price.stripe_price_id and plans.unit_amount = 0
    ) then
        raise exception 'a free plan cannot be sold by a payment link'
            using errcode = 'TB042', hint = 'Use checkout, which checks that an account takes it once.';
    end if;
    return billing._claim_link(
        v_price.stripe_price_id, v_price.seats_min, claim_payment_link.pack is not null, claim_payment_link.options,
        coalesce(claim_payment_link.plan, claim_payment_link.pack)
    );
end
$$;

COMMENT ON FUNCTION billing.claim_payment_link(plan text, pack text, options jsonb) IS 'Returns the first step to the link of a plan or pack with these options.';

CREATE FUNCTION billing.claim_stripe_account(stripe_account_id text) RETURNS text
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    update billing.settings
    set stripe_account_id = coalesce(settings.stripe_account_id, claim_stripe_account.stripe_account_id)
    returning settings.stripe_account_id
$$;

COMMENT ON FUNCTION billing.claim_stripe_account(stripe_account_id text) IS 'Sets the Stripe account if none is set. Returns the account that is set.';

CREATE FUNCTION billing.close_account(account_id uuid, reason text, actor text) RETURNS billing.accounts
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_account billing.accounts;
    v_balance billing.credit_balances;
    v_hold billing.credit_holds;
    v_key text;
    v_debt bigint;
begin
    perform billing._check_reason(close_account.reason, close_account.actor);
    perform billing._lock_settled_balance(close_account.account_id);
    select * into strict v_account from billing.accounts where accounts.id = close_account.account_id;
    if v_account.closed_at is not null then
        return v_account;
    end if;

    perform billing.set_credit_limits(close_account.account_id);
    for v_hold in
        select * from billing.credit_holds
        where credit_holds.account_id = close_account.account_id and credit_holds.status = 'held'
    loop
        perform billing._settle_hold(v_hold, 'released');
    end loop;
    update billing.credit_grants set closed_at = billing.current_time()
    where credit_grants.account_id = close_account.account_id
        and credit_grants.entry_id is null and credit_grants.closed_at is null;

    v_balance := billing._lock_settled_balance(close_account.account_id);
    v_debt := v_balance.debt;
    -- Each further closing is a new movement: its key has a number.
    v_key := 'closing:' || billing._last_entry_id(close_account.account_id);
    if v_debt > 0 or v_balance.withheld > 0 then
        v_balance.written_off_debt := v_balance.written_off_debt + v_debt;
        v_balance.written_off_withheld := v_balance.written_off_withheld + v_balance.withheld;
        v_balance.written_off_at := clock_timestamp();
    end if;
    v_balance.withheld := 0;
    v_balance.carried := 0;
    v_balance.next_due_at := null;
    perform billing._post_entries(v_balance, array(
        select billing._entry(
            account_id => v_balance.account_id, kind => 'adjustment', amount => step.amount, debt => step.debt,
            source => 'closing', description => close_account.reason, actor => close_account.actor,
            key_space => 'system', idempotency_key => step.key, occurred_at => billing.current_time()
        )
        from (
            values
            (1, v_debt, -v_debt, v_key || ':debt'),
            (2, -(v_balance.balance + v_debt), 0::bigint, v_key || ':lots')
        ) as step (number, amount, debt, key)
        where step.amount <> 0
        order by step.number
    ));
    update billing.accounts set closed_at = billing.current_time(), updated_at = now()
    where accounts.id = close_account.account_id
    returning * into v_account;
    perform billing._allocate_subscriptions_of_account(close_account.account_id);
    return v_account;
end
$$;

COMMENT ON FUNCTION billing.close_account(account_id uuid, reason text, actor text) IS 'Closes an account: releases holds, forfeits the balance, writes off debt. Nothing moves until it is reopened.';

CREATE FUNCTION billing.continue_checkout(state jsonb, answers jsonb) RETURNS jsonb
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_request billing.checkout_requests;
    v_asked text := continue_checkout.state ->> 'asked';
    v_customer_id text := continue_checkout.state ->> 'customer';
    v_sessions text[] := array(select jsonb_array_elements_text(continue_checkout.state -> 'expire'));
    v_answer jsonb := continue_checkout.answers -> -1;
    v_has_failed boolean := v_answer ? 'error';
    v_stands boolean;
begin
    select * into strict v_request from billing.checkout_requests
    where checkout_requests.idempotency_key = continue_checkout.state ->> 'key';

    if v_asked = 'customer' then
        if v_has_failed then
            return billing._refuse_checkout(v_answer);
        end if;
        return billing._checkout_step(v_request, billing._link_claimed_customer(
            v_request.account_id, (continue_checkout.state ->> 'token')::uuid, v_answer #>> '{body,id}'
        ), v_sessions);
    elsif v_asked = 'end' and v_answer #>> '{body,status}' = 'complete' then
        -- Just paid, and its event has not arrived yet.
        return billing._refused_step(
            errcode => 'TB045', message => 'the account is already subscribed: use the portal to change the plan',
            hint => 'The function portal opens it, and so does `till portal`.'
        );
    end if;

    -- Sessions are expired in order: one for each call that succeeded.
    v_sessions := v_sessions[1 + jsonb_array_length(continue_checkout.answers) - v_has_failed::integer:];
    update billing.checkout_requests set expired_at = now()
    where checkout_requests.stripe_checkout_session_id in (
            select jsonb_array_elements_text(continue_checkout.state -> 'expire') except select unnest(v_sessions)
        )
        and checkout_requests.expired_at is null;
    if v_has_failed then
        if v_asked = 'end' or v_sessions = '{}' or v_answer #>> '{error,status}' is distinct from '400' then
            return billing._refuse_checkout(v_answer);
        end if;
        -- Stripe expires open sessions only. Its error has no code for that, so read how the session ended.
        return billing._stripe_step(
            v_request.livemode,
            jsonb_build_array(billing._stripe_call(
                'get', '/v1/checkout/sessions/' || v_sessions[1], '{}', keep => '{status}'
            )),
            jsonb_build_object(
                'asked', 'end', 'key', v_request.idempotency_key, 'customer', v_customer_id,
                'expire', to_jsonb(v_sessions)
            )
        );
    elsif v_asked = 'end' or v_customer_id is null then
        return billing._checkout_step(v_request, v_customer_id, v_sessions);
    end if;

    update billing.checkout_requests set stripe_checkout_session_id = v_answer #>> '{body,id}'
    where checkout_requests.id = v_request.id
    returning checkout_requests.superseded_at is null into v_stands;
    if not v_stands then
        return billing._checkout_step(v_request, null, array[v_answer #>> '{body,id}']);
    end if;
    return jsonb_build_object('done', v_answer -> 'body');
end
$$;

COMMENT ON FUNCTION billing.continue_checkout(state jsonb, answers jsonb) IS 'Takes Stripe''s answers to a step of a checkout; returns the next step, or the open session.';

CREATE FUNCTION billing.continue_payment_link(state jsonb, answers jsonb) RETURNS jsonb
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_answer jsonb := continue_payment_link.answers -> -1;
    v_error jsonb := v_answer -> 'error';
    v_link_id text := continue_payment_link.state ->> 'check';
    v_url text;
begin
    if v_link_id is not null and (v_error ->> 'status' = '404' or v_answer #>> '{body,active}' = 'false') then
        return billing._replace_payment_link(v_link_id, continue_payment_link.state ->> 'name');
    elsif v_error is not null then
        if billing._is_kept_by_stripe(v_error) then
            perform billing._discard_payment_link_key(v_answer ->> 'idempotency_key');
        end if;
        return billing._refused_by_stripe(v_error);
    elsif v_link_id is not null then
        v_url := billing._confirm_payment_link(v_link_id);
    else
        v_url := billing._note_payment_link(
            (continue_payment_link.state ->> 'token')::uuid, v_answer #>> '{body,id}', v_answer #>> '{body,url}'
        );
    end if;
    if v_url is null then
        return billing._refused_step(
            errcode => 'TB064', message => 'the plan was changed in the meantime', hint => 'Request the link again.'
        );
    end if;
    return jsonb_build_object('done', jsonb_build_object('url', v_url));
end
$$;

COMMENT ON FUNCTION billing.continue_payment_link(state jsonb, answers jsonb) IS 'Takes Stripe''s answers to a step of a link; returns the next step, or the URL.';

CREATE FUNCTION billing.continue_portal(state jsonb, answers jsonb) RETURNS jsonb
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    return billing._refused_by_stripe(continue_portal.answers #> '{-1,error}');
end
$$;

COMMENT ON FUNCTION billing.continue_portal(state jsonb, answers jsonb) IS 'Takes Stripe''s failure to open the portal. Returns the refusal.';

CREATE FUNCTION billing.count_credits() RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_count billing.credit_count;
    v_until timestamptz;
    v_highest_id bigint;
begin
    select * into v_count from billing.credit_count for update skip locked;
    if not found then
        return;
    end if;
    v_until := billing._credits_are_final_until();
    -- Not while a transaction is running that began before: the entries since then would be read each time.
    if v_until <= v_count.counted_until then
        return;
    end if;
    -- A statement of its own after that, so that it sees what had ended by then.
    insert into billing.credit_totals as totals (kind, credits)
    select credit_entries.kind, sum(credit_entries.amount) from billing.credit_entries
    where credit_entries.id > v_count.id_floor
        and credit_entries.created_at >= v_count.counted_until and credit_entries.created_at < v_until
    group by credit_entries.kind
    on conflict (kind) do update set credits = totals.credits + excluded.credits;

    select coalesce(pg_sequence_last_value('billing.credit_entries_id_seq'::regclass), 0) into v_highest_id;
    update billing.credit_count
    set counted_until = v_until,
        id_floor = case when v_until >= v_count.next_floor_at then v_count.next_floor else credit_count.id_floor end,
        next_floor = case when v_until >= v_count.next_floor_at then v_highest_id else credit_count.next_floor end,
        next_floor_at = case when v_until >= v_count.next_floor_at then clock_timestamp() else credit_count.next_floor_at end;
end
$$;

COMMENT ON FUNCTION billing.count_credits() IS 'Adds the newest entries to credit_totals.';

CREATE FUNCTION billing.create_team(name text, owner_id uuid) RETURNS billing.accounts
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_name text := btrim(create_team.name);
    v_team billing.accounts;
begin
    if coalesce(length(v_name), 0) not between 1 and 255 then
        raise exception 'the name of a team must have 1 to 255 characters'
            using errcode = 'TB090', hint = 'Pass a name for people to read.';
    end if;
    perform billing._check_user(create_team.owner_id);
    perform pg_advisory_xact_lock(hashtextextended('team:' || create_team.owner_id || ':' || v_name, 0));
    select * into v_team from billing.accounts
    where accounts.owner_id = create_team.owner_id and accounts.kind = 'team' and accounts.name = v_name
        and accounts.closed_at is null
    order by accounts.created_at
    limit 1;
    if not found then
        insert into billing.accounts (kind, name, owner_id) values ('team', v_name, create_team.owner_id)
        returning * into v_team;
        insert into billing.account_members (account_id, user_id, role)
        values (v_team.id, create_team.owner_id, 'owner');
    end if;
    return v_team;
end
$$;

COMMENT ON FUNCTION billing.create_team(name text, owner_id uuid) IS 'Creates a team account with its owner. The same owner and name return the same team.';

CREATE FUNCTION billing.delay_recharge(msg_id bigint, recharge_id uuid, delay_seconds integer, reason text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET lock_timeout TO '500ms'
    AS $$
begin
    if billing._end_job(delay_recharge.msg_id, delay_recharge.delay_seconds, delay_recharge.reason) then
        update billing.recharges set last_error = delay_recharge.reason, updated_at = now()
        where recharges.id = delay_recharge.recharge_id and recharges.status = 'charging';
    end if;
end
$$;

COMMENT ON FUNCTION billing.delay_recharge(msg_id bigint, recharge_id uuid, delay_seconds integer, reason text) IS 'Retries a recharge later, because Stripe gave no answer.';

CREATE FUNCTION billing.delay_stripe_event(msg_id bigint, event_id text, delay_seconds integer, reason text, excused boolean) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    update billing.stripe_events
    set attempts = stripe_events.attempts + 1,
        excused_attempts = stripe_events.excused_attempts + delay_stripe_event.excused::integer,
        last_error = delay_stripe_event.reason
    where stripe_events.stripe_event_id = delay_stripe_event.event_id and stripe_events.status = 'queued';

    update billing.stripe_lookups
    set next_attempt_at = now() + pg_catalog.make_interval(secs => delay_stripe_event.delay_seconds),
        excused_attempts = stripe_lookups.excused_attempts + delay_stripe_event.excused::integer,
        worker_pid = null
    where stripe_lookups.stripe_event_id = delay_stripe_event.event_id;
    if not found then
        perform pgmq.set_vt('stripe_events', delay_stripe_event.msg_id, delay_stripe_event.delay_seconds);
    end if;
end
$$;

CREATE FUNCTION billing.delete_price(stripe_price_id text, as_of timestamp with time zone) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    perform billing._lock_arrival(delete_price.stripe_price_id);
    insert into billing.deleted_prices (kind, stripe_id, deleted_at)
    values ('price', delete_price.stripe_price_id, delete_price.as_of)
    on conflict do nothing;
    if not found then
        return 'stale';
    end if;
    update billing.plans set active = false, updated_at = now()
    where plans.stripe_price_id = delete_price.stripe_price_id and plans.active;
    update billing.credit_packs set active = false, updated_at = now()
    where credit_packs.stripe_price_id = delete_price.stripe_price_id and credit_packs.active;
    update billing.one_time_prices set active = false
    where one_time_prices.stripe_price_id = delete_price.stripe_price_id and one_time_prices.active;
    return 'applied';
end
$$;

COMMENT ON FUNCTION billing.delete_price(stripe_price_id text, as_of timestamp with time zone) IS 'A price was deleted in Stripe: takes it off sale permanently and keeps its row for earlier purchases. Returns applied, or stale if it was deleted before.';

CREATE FUNCTION billing.delete_product(stripe_product_id text, as_of timestamp with time zone) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    perform billing._lock_arrival(delete_product.stripe_product_id);
    insert into billing.deleted_prices (kind, stripe_id, deleted_at)
    values ('product', delete_product.stripe_product_id, delete_product.as_of)
    on conflict do nothing;
    if not found then
        return 'stale';
    end if;
    update billing.products set active = false, updated_at = now()
    where products.stripe_product_id = delete_product.stripe_product_id and products.active;
    return 'applied';
end
$$;

COMMENT ON FUNCTION billing.delete_product(stripe_product_id text, as_of timestamp with time zone) IS 'A product was deleted in Stripe: takes it and its prices off sale permanently. Returns applied, or stale if it was deleted before.';

CREATE FUNCTION billing.dismiss_customer(stripe_customer_id text, reason text, actor text) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_customer billing.customers;
    v_ignored bigint;
begin
    perform billing._check_reason(dismiss_customer.reason, dismiss_customer.actor);
    perform billing._check_customer_id(dismiss_customer.stripe_customer_id);
    -- An event that is being parked concurrently is either seen below, or sees the dismissal.
    perform billing._lock_arrival(dismiss_customer.stripe_customer_id);
    insert into billing.customers (stripe_customer_id, livemode)
    values (dismiss_customer.stripe_customer_id, billing.is_livemode())
    on conflict do nothing;
    select * into strict v_customer from billing.customers
    where customers.stripe_customer_id = dismiss_customer.stripe_customer_id
    for no key update;
    if v_customer.account_id is not null then
        raise exception 'customer % is linked to account %', v_customer.stripe_customer_id, v_customer.account_id
            using errcode = 'TB018', hint = 'Only a customer without an account can be dismissed.';
    end if;

    update billing.customers
    set dismissed_at = now(), dismissed_reason = dismiss_customer.reason, dismissed_by = dismiss_customer.actor,
        updated_at = now()
    where customers.stripe_customer_id = v_customer.stripe_customer_id;
    update billing.stripe_events
    set status = 'ignored', settled_at = now(),
        last_error = billing._dismissal(stripe_events.payload, v_customer.stripe_customer_id)
    where stripe_events.status in ('parked', 'dead')
        and (
            stripe_events.waiting_for = v_customer.stripe_customer_id
            or stripe_events.payload ~ pg_catalog.format('"customer"\s*:\s*"%s"', v_customer.stripe_customer_id)
        );
    get diagnostics v_ignored = row_count;
    return v_ignored;
end
$$;

COMMENT ON FUNCTION billing.dismiss_customer(stripe_customer_id text, reason text, actor text) IS 'Marks a Stripe customer as not belonging to this installation: events that wait for its link are ignored, now and later. Returns how many events were ignored. Linking the customer ends this.';

CREATE FUNCTION billing.dismiss_stripe_event(event_id text, reason text, actor text) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_status text;
begin
    perform billing._check_reason(dismiss_stripe_event.reason, dismiss_stripe_event.actor);
    select stripe_events.status into v_status from billing.stripe_events
    where stripe_events.stripe_event_id = dismiss_stripe_event.event_id
    for update;
    if not found then
        raise exception 'there is no event %', coalesce(dismiss_stripe_event.event_id, 'null')
            using errcode = 'TB014', hint = 'List events with `till events list`.';
    elsif v_status not in ('dead', 'parked') then
        return v_status;
    end if;
    update billing.stripe_events
    set status = 'ignored', waiting_for = null, settled_at = now(),
        last_error = pg_catalog.format('dismissed by %s: %s', dismiss_stripe_event.actor, dismiss_stripe_event.reason)
    where stripe_events.stripe_event_id = dismiss_stripe_event.event_id;
    return 'ignored';
end
$$;

COMMENT ON FUNCTION billing.dismiss_stripe_event(event_id text, reason text, actor text) IS 'Ignores a dead or parked event permanently; any other event is left unchanged. Returns the status.';

CREATE FUNCTION billing.distrust_stripe_row(kind text, stripe_id text, read_at timestamp with time zone, status text DEFAULT NULL::text) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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

COMMENT ON FUNCTION billing.distrust_stripe_row(kind text, stripe_id text, read_at timestamp with time zone, status text) IS 'Lets the next event replace a row that contradicts Stripe, unless the row was written after read_at, or the event brings it to that status anyway.';

CREATE FUNCTION billing.enqueue_deleted_users() RETURNS void
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select billing._report_deleted_user(abandoned.id) from (
        select accounts.id from billing.accounts
        join billing.subscriptions on subscriptions.account_id = accounts.id
        cross join billing.settings
        where accounts.owner_id is null and accounts.kind = 'personal'
            and subscriptions.livemode = settings.livemode and not subscriptions.cancel_at_period_end
            and subscriptions.status in ('active', 'trialing', 'past_due', 'unpaid', 'paused')
            and (
                not exists (
                    select from billing.notifications
                    where notifications.dedupe_key
                        = 'user_deleted_while_subscribed:' || subscriptions.stripe_subscription_id
                )
                or settings.on_user_deleted = 'cancel' and not exists (
                    select from billing.fraud_actions
                    where fraud_actions.stripe_subscription_id = subscriptions.stripe_subscription_id
                        and fraud_actions.actor = 'on_user_deleted'
                )
            )
        group by accounts.id
        order by accounts.id
        limit 1000
    ) as abandoned
$$;

COMMENT ON FUNCTION billing.enqueue_deleted_users() IS 'Reports subscriptions of deleted users that still charge a card, each once, and queues their cancellation if settings.on_user_deleted is cancel.';

CREATE FUNCTION billing.enqueue_expiring_credits(after_account_id uuid, accounts_max integer) RETURNS uuid
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_now timestamptz := billing.current_time();
    v_notice interval;
    v_ids uuid[];
    v_due_ids uuid[];
begin
    select settings.expiring_credits_notice into v_notice from billing.settings
    where 'credits_expiring' = any (settings.customer_notifications);
    if not found then
        return null;
    end if;
    select array_agg(looked_at.account_id order by looked_at.account_id),
        array_agg(looked_at.account_id) filter (where looked_at.next_due_at <= v_now + v_notice)
    into v_ids, v_due_ids
    from (
        select credit_balances.account_id, credit_balances.next_due_at from billing.credit_balances
        where credit_balances.account_id > coalesce(
            enqueue_expiring_credits.after_account_id, '00000000-0000-0000-0000-000000000000'
        )
        order by credit_balances.account_id
        limit enqueue_expiring_credits.accounts_max
    ) as looked_at;
    perform billing._notify(
        expiring.account_id, 'customer', 'credits_expiring',
        format('credits_expiring:%s:%s', expiring.account_id, expiring.day),
        jsonb_build_object('credits', expiring.credits, 'expires_at', expiring.expires_at)
    )
    from (
        select
            credit_grants.account_id, (credit_grants.expires_at at time zone 'UTC')::date as day,
            sum(credit_grants.remaining) as credits, min(credit_grants.expires_at) as expires_at
        from billing.credit_grants
        where credit_grants.account_id = any (v_due_ids) and credit_grants.closed_at is null
            and credit_grants.entry_id is not null and credit_grants.remaining > 0
            and credit_grants.expires_at > v_now and credit_grants.expires_at <= v_now + v_notice
            and credit_grants.expires_at - v_notice > credit_grants.effective_at
        group by 1, 2
    ) as expiring;
    return case when cardinality(v_ids) = enqueue_expiring_credits.accounts_max then v_ids[cardinality(v_ids)] end;
end
$$;

COMMENT ON FUNCTION billing.enqueue_expiring_credits(after_account_id uuid, accounts_max integer) IS 'Notifies owners of credits that expire soon, for the accounts_max accounts after one. Returns the last account that was checked, null at the end.';

CREATE FUNCTION billing.enqueue_reminders() RETURNS void
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select billing._notify_of_silence();
    select billing._notify_of_waiting_events();
    select billing._notify_of_queued_events();
    select billing._notify_of_expiring_cards();
$$;

COMMENT ON FUNCTION billing.enqueue_reminders() IS 'Writes reminders: silence, events that wait too long, cards that expire soon. Each once, however often it is called.';

CREATE FUNCTION billing.ensure_account(user_id uuid) RETURNS uuid
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_account_id uuid;
begin
    if ensure_account.user_id is null then
        raise exception 'user_id is missing'
            using errcode = 'TB037', hint = 'Pass the id of a row in auth.users.';
    end if;
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

COMMENT ON FUNCTION billing.ensure_account(user_id uuid) IS 'The personal account of a user, created if it does not exist.';

CREATE FUNCTION billing.erase_account(account_id uuid, reason text, actor text) RETURNS billing.erasures
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    if not exists (select from billing.accounts where accounts.id = erase_account.account_id) then
        perform billing._raise_no_account(erase_account.account_id);
    end if;
    return billing._erase(erase_account.account_id, null, erase_account.reason, erase_account.actor);
end
$$;

COMMENT ON FUNCTION billing.erase_account(account_id uuid, reason text, actor text) IS 'Erases the personal data of an account and closes it; amounts, entries and the ids of Stripe objects stay. Later events don''t bring the data back. Refused while a subscription, a dispute, a recharge or an event is open (TB080). Erasing again returns the first erasure.';

CREATE FUNCTION billing.erase_customer(stripe_customer_id text, reason text, actor text) RETURNS billing.erasures
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    perform billing._check_is_unowned(erase_customer.stripe_customer_id);
    return billing._erase(null, erase_customer.stripe_customer_id, erase_customer.reason, erase_customer.actor);
end
$$;

COMMENT ON FUNCTION billing.erase_customer(stripe_customer_id text, reason text, actor text) IS 'Erases the personal data of a Stripe customer that no account owns, like erase_account.';

CREATE FUNCTION billing.expire_due_credits(as_of timestamp with time zone DEFAULT NULL::timestamp with time zone, accounts_max integer DEFAULT NULL::integer) RETURNS TABLE(accounts bigint, holds_expired bigint, lots_opened bigint, lots_expired bigint, credits_expired numeric)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_as_of timestamptz := coalesce(expire_due_credits.as_of, billing.current_time());
    v_account_ids uuid[];
begin
    if v_as_of > billing.current_time() then
        raise exception 'as_of % is in the future', v_as_of
            using errcode = 'TB022', hint = 'Leave as_of out to process what is due now.';
    end if;
    -- Accounts that another transaction has locked are skipped: their movement processes them.
    select array_agg(due.account_id) into v_account_ids from (
        select credit_balances.account_id from billing.credit_balances
        where credit_balances.next_due_at <= v_as_of
        order by credit_balances.next_due_at
        limit case when expire_due_credits.accounts_max < 0 then 0 else expire_due_credits.accounts_max end
        for update skip locked
    ) as due;
    return query
    select coalesce(cardinality(v_account_ids), 0)::bigint, settled.*
    from billing._settle_due(coalesce(v_account_ids, '{}'), v_as_of) as settled;
end
$$;

COMMENT ON FUNCTION billing.expire_due_credits(as_of timestamp with time zone, accounts_max integer) IS 'Expires due holds and lots and opens scheduled lots, for up to accounts_max accounts (null: all). Returns counts. Safe to run at any time, repeatedly and in parallel.';

CREATE FUNCTION billing.explain_credits(account_id uuid, results_max integer) RETURNS TABLE(business_key text, source text, moment timestamp with time zone, stripe_price_id text, stripe_invoice_id text, stripe_payment_intent_id text, worth bigint, returned bigint, posted bigint, remaining bigint, expires_at timestamp with time zone, waits_for text)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_subscription_ids text[] := array(
        select distinct credit_schedules.stripe_subscription_id
        from billing.subscriptions
        join billing.credit_schedules using (stripe_subscription_id)
        where subscriptions.account_id = explain_credits.account_id
    );
begin
    return query
    with paid as materialized (
        select
            moves.key, moves.source, moves.moment, moves.stripe_price_id, moves.stripe_invoice_id,
            null as stripe_payment_intent_id, moves.credits, moves.returned, moves.expires_at, case
                when moves.is_waiting then (
                    select max(credit_schedules.disarmed_reason) from billing.credit_schedules
                    where credit_schedules.stripe_invoice_id = moves.stripe_invoice_id
                )
            end as waits_for
        from billing._worth(
            v_subscription_ids, '-infinity', billing._time_of_account(explain_credits.account_id)
        ) as moves
        union all
        select
            purchases.business_key, purchases.source, purchases.purchased_at, purchases.stripe_price_id,
            purchases.stripe_invoice_id, purchases.stripe_payment_intent_id,
            purchases.credits - billing._returned_of_purchase(purchases), billing._returned_of_purchase(purchases),
            purchases.expires_at, null
        from billing.pack_purchases as purchases
        where purchases.account_id = explain_credits.account_id
    ),
    lots as materialized (
        select
            split_part(grants.idempotency_key, '#', 1) as key, min(grants.source) as source,
            min(grants.effective_at) as moment, min(grants.stripe_price_id) as stripe_price_id,
            min(grants.stripe_invoice_id) as stripe_invoice_id,
            min(grants.stripe_payment_intent_id) as stripe_payment_intent_id,
            min(grants.stripe_subscription_item_id) as stripe_subscription_item_id,
            sum(grants.amount)::bigint as amount, sum(grants.remaining)::bigint as remaining,
            max(grants.expires_at) as expires_at
        from billing.credit_grants as grants
        where grants.account_id = explain_credits.account_id and grants.key_space = 'stripe'
        group by 1
    ),
    -- Initial credits of a paid invoice: minus what was returned of it.
    explained as (
        select
            coalesce(paid.key, lots.key) as key, coalesce(paid.source, lots.source) as source,
            coalesce(paid.moment, lots.moment) as moment,
            coalesce(paid.stripe_price_id, lots.stripe_price_id) as stripe_price_id,
            coalesce(paid.stripe_invoice_id, lots.stripe_invoice_id) as stripe_invoice_id,
            coalesce(paid.stripe_payment_intent_id, lots.stripe_payment_intent_id) as stripe_payment_intent_id,
            coalesce(paid.credits, lots.amount - coalesce(of_invoice.credits, 0)) as worth,
            coalesce(paid.returned, of_invoice.credits, 0) as returned,
            case
                when lots.key ^@ 'initial:' then lots.amount
                    + billing._posted_credits(explain_credits.account_id, lots.key || ':returned')
                else billing._posted_credits(explain_credits.account_id, coalesce(paid.key, lots.key))
            end as posted,
            coalesce(lots.remaining, 0) as remaining, coalesce(paid.expires_at, lots.expires_at) as expires_at,
            paid.waits_for
        from paid
        full join lots on lots.key = paid.key
        left join lateral (
            select sum(gone.credits)::bigint as credits
            from billing._returned_credits(lots.stripe_invoice_id) as gone
            where lots.key ^@ 'initial:' and gone.moment is null
                and gone.stripe_subscription_item_id = lots.stripe_subscription_item_id
        ) as of_invoice on true
    )
    select
        explained.key, explained.source, explained.moment, explained.stripe_price_id, explained.stripe_invoice_id,
        explained.stripe_payment_intent_id, explained.worth, explained.returned, explained.posted, explained.remaining,
        explained.expires_at, explained.waits_for
    from explained
    where explained.worth <> 0 or explained.returned <> 0 or explained.posted <> 0
    order by explained.moment desc, explained.key
    limit explain_credits.results_max;
end
$$;

COMMENT ON FUNCTION billing.explain_credits(account_id uuid, results_max integer) IS 'What each payment of an account is worth in credits, and what the ledger has of it, newest first.';

CREATE FUNCTION billing.export_account(account_id uuid) RETURNS TABLE(section text, data jsonb)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    if not exists (select from billing.accounts where accounts.id = export_account.account_id) then
        perform billing._raise_no_account(export_account.account_id);
    end if;
    return query select found.section, found.data from billing._export(export_account.account_id, null) as found;
end
$$;

COMMENT ON FUNCTION billing.export_account(account_id uuid) IS 'Everything that the database has about the person or team of an account: a row for each row of each table, and the events that name them.';

CREATE FUNCTION billing.export_customer(stripe_customer_id text) RETURNS TABLE(section text, data jsonb)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    perform billing._check_is_unowned(export_customer.stripe_customer_id);
    return query
    select found.section, found.data from billing._export(null, export_customer.stripe_customer_id) as found;
end
$$;

COMMENT ON FUNCTION billing.export_customer(stripe_customer_id text) IS 'Everything that the database has about a Stripe customer that no account owns.';

CREATE FUNCTION billing.extend_hold(hold_id uuid, expires_in interval) RETURNS billing.credit_holds
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_hold billing.credit_holds;
begin
    perform billing._check_expires_in(extend_hold.expires_in);
    v_hold := billing._lock_hold(extend_hold.hold_id);
    perform billing._check_held(v_hold);
    update billing.credit_holds
    set expires_at = greatest(credit_holds.expires_at, billing.current_time() + extend_hold.expires_in)
    where credit_holds.id = v_hold.id
    returning * into v_hold;
    return v_hold;
end
$$;

COMMENT ON FUNCTION billing.extend_hold(hold_id uuid, expires_in interval) IS 'Keeps a hold open for expires_in from now; never shortens it.';

CREATE FUNCTION billing.find_accounts(search text, results_max integer, is_exact boolean DEFAULT false) RETURNS SETOF uuid
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
declare
    v_id text := pg_catalog.btrim(find_accounts.search);
    v_search text := lower(v_id);
begin
    if v_search ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then
        return query select accounts.id from billing.accounts
        where accounts.id = v_search::uuid
            or accounts.owner_id = v_search::uuid and (accounts.kind = 'personal' or not find_accounts.is_exact)
        order by accounts.id <> v_search::uuid, accounts.kind <> 'personal', accounts.id
        limit find_accounts.results_max;
        return;
    elsif v_id ~ '^(cus|sub|in|ch|py|pi|cs|re|pyr|du|dp|prv|issfr|evt)_[A-Za-z0-9_]+$'
        and not (find_accounts.is_exact and v_id ^@ 'evt_') then
        return query select distinct owners.account_id from billing._owners_of_object(v_id) as owners
        where owners.account_id is not null
        limit find_accounts.results_max;
        return;
    end if;
    return query select accounts.id from auth.users
    join billing.accounts on accounts.owner_id = users.id
    where users.email = v_search and (accounts.kind = 'personal' or not find_accounts.is_exact)
    order by accounts.kind <> 'personal', accounts.id limit find_accounts.results_max;
    if found or find_accounts.is_exact or length(v_search) < 3 then
        return;
    end if;
    return query select accounts.id from billing.accounts
    left join auth.users on users.id = accounts.owner_id
    where pg_catalog.strpos(lower(users.email), v_search) > 0 or pg_catalog.strpos(lower(accounts.name), v_search) > 0
    union
    select customers.account_id from billing.customers
    where customers.account_id is not null
        and (pg_catalog.strpos(lower(customers.email), v_search) > 0 or pg_catalog.strpos(lower(customers.name), v_search) > 0)
    limit find_accounts.results_max;
end
$_$;

COMMENT ON FUNCTION billing.find_accounts(search text, results_max integer, is_exact boolean) IS 'Finds accounts by an id of ours or of Stripe''s, an e-mail address or, unless is_exact, a part of an address or a name.';

CREATE FUNCTION billing.find_customers(search text, results_max integer) RETURNS SETOF text
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_id text := pg_catalog.btrim(find_customers.search);
    v_search text := lower(v_id);
begin
    return query
    select customers.stripe_customer_id from billing.customers
    where customers.account_id is null and (
        customers.stripe_customer_id in (
            select owners.stripe_customer_id from billing._owners_of_object(v_id) as owners
        )
        or lower(customers.email) = v_search
    )
    union
    select customers.stripe_customer_id from billing.customers
    where customers.status = 'unlinked' and length(v_search) >= 3
        and (pg_catalog.strpos(lower(customers.email), v_search) > 0 or pg_catalog.strpos(lower(customers.name), v_search) > 0)
    order by 1
    limit find_customers.results_max;
end
$$;

COMMENT ON FUNCTION billing.find_customers(search text, results_max integer) IS 'Finds Stripe customers that no account owns: by their id, that of one of their objects, an e-mail address, or a part of an address or a name.';

CREATE FUNCTION billing.finish_jobs(msg_ids bigint[]) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    perform billing._end_job(job.msg_id, null, null) from unnest(finish_jobs.msg_ids) as job (msg_id);
end
$$;

COMMENT ON FUNCTION billing.finish_jobs(msg_ids bigint[]) IS 'Removes jobs of the caller that have nothing left to do.';

CREATE FUNCTION billing.freeze_account(account_id uuid, reason text, actor text) RETURNS billing.accounts
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_account billing.accounts;
begin
    perform billing._check_reason(freeze_account.reason, freeze_account.actor);
    perform billing._lock_balance(freeze_account.account_id);
    select * into strict v_account from billing.accounts where accounts.id = freeze_account.account_id;
    if v_account.frozen_at is not null then
        return v_account;
    end if;
    perform billing._freeze_account(v_account.id, freeze_account.reason);
    insert into billing.fraud_actions (account_id, action, status, reason, actor, decided_at, settled_at)
    values (
        v_account.id, 'freeze_account', 'done', freeze_account.reason, freeze_account.actor, billing.current_time(),
        billing.current_time()
    );
    select * into strict v_account from billing.accounts where accounts.id = freeze_account.account_id;
    return v_account;
end
$$;

COMMENT ON FUNCTION billing.freeze_account(account_id uuid, reason text, actor text) IS 'Blocks spending from an account (TB003) until it is unfrozen.';

CREATE FUNCTION billing.grant_credits(account_id uuid, amount numeric, idempotency_key text, description text DEFAULT NULL::text, source text DEFAULT 'app'::text, reference_id text DEFAULT NULL::text, expires_at timestamp with time zone DEFAULT NULL::timestamp with time zone, priority integer DEFAULT 100, metadata jsonb DEFAULT '{}'::jsonb) RETURNS billing.credit_entries
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    perform billing._checked_key(grant_credits.idempotency_key, grant_credits.metadata);
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

COMMENT ON FUNCTION billing.grant_credits(account_id uuid, amount numeric, idempotency_key text, description text, source text, reference_id text, expires_at timestamp with time zone, priority integer, metadata jsonb) IS 'Grants credits to an account, once for each idempotency key, and returns the entry. Lots with a lower priority number are spent first.';

CREATE FUNCTION billing.hand_back_stripe_events() RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_worker billing.workers;
begin
    for v_worker in
        select * from billing.workers where workers.pid <> pg_backend_pid() order by workers.pid for update skip locked
    loop
        if pg_try_advisory_xact_lock(billing._lock_of_workers(), v_worker.pid) then
            perform billing._hand_back(v_worker);
        end if;
    end loop;
end
$$;

CREATE FUNCTION billing.has_feature(feature text) RETURNS boolean
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select exists (
        select from billing.my_account_ids() as mine (account_id)
        cross join lateral billing.account_entitlements(mine.account_id) as granted
        where granted.feature = has_feature.feature
    )
$$;

COMMENT ON FUNCTION billing.has_feature(feature text) IS 'True if one of the signed-in user''s accounts has the feature. Policies: with check ((select billing.has_feature(''projects''))).';

CREATE FUNCTION billing.has_feature(feature text, account_id uuid) RETURNS boolean
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select exists (
        select from billing.account_entitlements(has_feature.account_id) as granted
        where granted.feature = has_feature.feature
    )
$$;

COMMENT ON FUNCTION billing.has_feature(feature text, account_id uuid) IS 'True if this account, one of the signed-in user''s, has the feature; service_role can check any account.';

CREATE FUNCTION billing.hold_credits(account_id uuid, amount numeric, idempotency_key text, expires_in interval DEFAULT '01:00:00'::interval, description text DEFAULT NULL::text, metadata jsonb DEFAULT '{}'::jsonb, feature text DEFAULT NULL::text) RETURNS billing.credit_holds
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_amount bigint := billing._checked_amount(hold_credits.amount);
    v_balance billing.credit_balances;
    v_hold billing.credit_holds;
begin
    perform billing._checked_key(hold_credits.idempotency_key, hold_credits.metadata);
    perform billing._lock_balance(hold_credits.account_id);

    select * into v_hold from billing.credit_holds
    where credit_holds.account_id = hold_credits.account_id
        and credit_holds.idempotency_key = hold_credits.idempotency_key;
    if found then
        if (v_hold.amount, v_hold.expires_in, v_hold.description, v_hold.metadata, v_hold.feature) is distinct from (
            v_amount, hold_credits.expires_in, hold_credits.description, hold_credits.metadata, hold_credits.feature
        ) then
            perform billing._raise_key_reused(hold_credits.idempotency_key);
        end if;
        return v_hold;
    end if;

    perform billing._check_may_spend(hold_credits.account_id);
    perform billing._check_expires_in(hold_credits.expires_in);
    v_balance := billing._lock_settled_balance(hold_credits.account_id);
    if v_amount > v_balance.balance - v_balance.held then
        perform billing._raise_insufficient(v_balance.account_id, v_balance.balance - v_balance.held, v_amount);
    elsif v_balance.spend_cap is not null then
        perform billing._count_spend(v_balance, v_amount);
    end if;

    insert into billing.credit_holds (
        account_id, amount, description, metadata, feature, idempotency_key, expires_in, expires_at
    )
    values (
        hold_credits.account_id, v_amount, hold_credits.description, hold_credits.metadata, hold_credits.feature,
        hold_credits.idempotency_key, hold_credits.expires_in, billing.current_time() + hold_credits.expires_in
    )
    returning * into v_hold;

    with free as (
        select
            credit_grants.id, credit_grants.remaining - credit_grants.held as amount,
            sum(credit_grants.remaining - credit_grants.held) over (
                order by credit_grants.priority, credit_grants.expires_at, credit_grants.id
            ) as upper
        from billing.credit_grants
        where credit_grants.account_id = hold_credits.account_id
            and credit_grants.closed_at is null and credit_grants.remaining > credit_grants.held
    ),
    pinned as (
        insert into billing.credit_hold_lots (hold_id, grant_id, amount)
        select v_hold.id, free.id, least(free.amount, v_amount - (free.upper - free.amount)) from free
        where free.upper - free.amount < v_amount
        returning credit_hold_lots.grant_id, credit_hold_lots.amount
    )
    update billing.credit_grants set held = credit_grants.held + pinned.amount
    from pinned where credit_grants.id = pinned.grant_id;

    update billing.credit_balances
    set held = credit_balances.held + v_amount,
        next_due_at = least(credit_balances.next_due_at, v_hold.expires_at),
        updated_at = now()
    where credit_balances.account_id = v_hold.account_id;
    return v_hold;
end
$$;

COMMENT ON FUNCTION billing.hold_credits(account_id uuid, amount numeric, idempotency_key text, expires_in interval, description text, metadata jsonb, feature text) IS 'Sets credits aside until they are captured or released, or expires_in has passed; once for each idempotency key.';

CREATE FUNCTION billing.installation() RETURNS TABLE(name text, value jsonb, meaning text)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select field.key, case
            -- Anybody who has the whole URL can post there.
            when field.key = 'alert_webhook_url' then to_jsonb(billing._origin_of(settings.alert_webhook_url) || '/…')
            else field.value
        end, pg_catalog.col_description('billing.settings'::pg_catalog.regclass, attribute.attnum)
    from billing.settings
    cross join lateral jsonb_each(to_jsonb(settings)) as field
    join pg_catalog.pg_attribute as attribute
        on attribute.attrelid = 'billing.settings'::pg_catalog.regclass and attribute.attname = field.key
    where field.key not in ('id', 'updated_at')
    order by attribute.attnum
$$;

COMMENT ON FUNCTION billing.installation() IS 'The settings of this installation, with their descriptions; of the alert webhook the host only.';

CREATE FUNCTION billing.invite_member(account_id uuid, email text, role text DEFAULT 'member'::text) RETURNS TABLE(invitation_id bigint, token text, expires_at timestamp with time zone)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
declare
    v_rank integer := (billing._lock_team(invite_member.account_id)).rank;
    v_email text := lower(btrim(invite_member.email));
    v_now timestamptz := billing.current_time();
begin
    perform billing._check_rank(v_rank, invite_member.role);
    if invite_member.role = 'owner' then
        raise exception 'an owner cannot be invited'
            using errcode = 'TB077', hint = 'Invite an admin, then use transfer_ownership.';
    elsif (v_email ~ '^[^@[:space:]]+@[^@[:space:]]+$' and length(v_email) <= 255) is not true then
        raise exception 'the e-mail address cannot be invited'
            using errcode = 'TB085', hint = 'Pass one address, such as ada@example.com.';
    elsif exists (
        select from billing.account_members join auth.users on users.id = account_members.user_id
        where account_members.account_id = invite_member.account_id and lower(users.email) = v_email
    ) then
        raise exception 'this user is a member already'
            using errcode = 'TB083', hint = 'Change a role with set_member_role.';
    end if;
    perform billing._check_seats(invite_member.account_id, v_email);
    update billing.team_invitations
    set closed_at = v_now, closed_as = 'replaced'
    where team_invitations.account_id = invite_member.account_id and team_invitations.email = v_email
        and team_invitations.closed_at is null;
    token := replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', '');
    insert into billing.team_invitations (account_id, email, role, token_hash, invited_by, expires_at, created_at)
    select
        invite_member.account_id, v_email, invite_member.role, billing._token_hash(token), auth.uid(),
        v_now + settings.invitation_lifetime, v_now
    from billing.settings
    returning team_invitations.id, team_invitations.expires_at into invitation_id, expires_at;
    return next;
end
$_$;

COMMENT ON FUNCTION billing.invite_member(account_id uuid, email text, role text) IS 'Invites an e-mail address to a team. Returns the token for the link that you send; it can''t be read again.';

CREATE FUNCTION billing.is_livemode() RETURNS boolean
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select settings.livemode from billing.settings
$$;

COMMENT ON FUNCTION billing.is_livemode() IS 'True if this installation is in live mode.';

CREATE FUNCTION billing.judge_fraud_warning(stripe_early_fraud_warning_id text) RETURNS TABLE(action text, is_due boolean, reason text, stripe_subscription_id text, amount bigint, currency text)
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    with case_at_hand as (
        select
            warnings.account_id, warnings.actionable, warnings.stripe_charge_id,
            policies.risk_level, warnings.warned_at, warnings.livemode,
            policies.alert, policies.freeze_account, policies.refund, policies.refund_amount_max,
            policies.refund_age_max, policies.cancel_subscription,
            payments.stripe_charge_id is not null as is_known, payments.amount - payments.amount_refunded as left_over,
            payments.currency, payments.is_disputed, payments.is_liability_shifted, payments.charged_at,
            accounts.frozen_at, accounts.closed_at
        from billing.fraud_warnings as warnings
        -- A level without a policy, such as a new one of Stripe, counts as unknown.
        join billing.fraud_policies as policies on policies.risk_level = coalesce(
            (select known.risk_level from billing.fraud_policies as known where known.risk_level = warnings.risk_level),
            'unknown'
        )
        left join billing.payments on payments.stripe_charge_id = warnings.stripe_charge_id
        left join billing.accounts on accounts.id = warnings.account_id
        where warnings.stripe_early_fraud_warning_id = judge_fraud_warning.stripe_early_fraud_warning_id
    ),
    verdicts as (
        select
            'alert' as action, null::text as obstacle, null::text as stripe_subscription_id, null::bigint as amount,
            null::text as currency
        from case_at_hand where case_at_hand.alert
        union all
        select
            'freeze_account',
            case
                when case_at_hand.account_id is null then 'its customer is not linked to an account'
                when case_at_hand.closed_at is not null then 'the account is closed'
                when case_at_hand.frozen_at is not null then 'the account is frozen already'
            end, null, null, null
        from case_at_hand where case_at_hand.freeze_account
        union all
        select
            'refund',
            case
                when not case_at_hand.is_known then 'its charge is not known here'
                when case_at_hand.is_disputed then 'the charge is disputed'
                when case_at_hand.left_over = 0 then 'the charge is refunded already'
                when not case_at_hand.actionable then 'the warning is not actionable'
                when case_at_hand.is_liability_shifted then 'the card was authenticated: the issuer is liable'
                when case_at_hand.left_over > case_at_hand.refund_amount_max
                    then format('%s are more than refund_amount_max %s', case_at_hand.left_over, case_at_hand.refund_amount_max)
                when case_at_hand.charged_at < billing.current_time() - case_at_hand.refund_age_max
                    then format('the charge is older than refund_age_max %s', case_at_hand.refund_age_max)
            end, null, case_at_hand.left_over, case_at_hand.currency
        from case_at_hand where case_at_hand.refund
        union all
        select
            'cancel_subscription',
            case
                when paid.stripe_subscription_id is null then 'its charge paid for no subscription that is known here'
                when paid.ended_at is not null then 'the subscription has ended'
            end, paid.stripe_subscription_id, null, null
        from case_at_hand
        left join lateral (
            select distinct subscriptions.stripe_subscription_id, subscriptions.ended_at
            from billing.payments
            join billing.invoice_payments
                on invoice_payments.stripe_payment_intent_id = payments.stripe_payment_intent_id
                or invoice_payments.stripe_charge_id = payments.stripe_charge_id
            join billing.invoices on invoices.stripe_invoice_id = invoice_payments.stripe_invoice_id
            join billing.subscriptions on subscriptions.stripe_subscription_id = invoices.stripe_subscription_id
            where payments.stripe_charge_id = case_at_hand.stripe_charge_id
        ) as paid on true
        where case_at_hand.cancel_subscription
    ),
    -- Earlier decisions stay: done, queued, or undone by a person.
    decided as (
        select
            verdicts.*,
            (
                select case fraud_actions.status
                    when 'undone' then format('%s has undone it', fraud_actions.undone_by)
                    when 'failed' then format('it failed: %s', fraud_actions.last_error)
                    else format('it is %s already', fraud_actions.status)
                end
                from billing.fraud_actions
                where fraud_actions.stripe_early_fraud_warning_id = judge_fraud_warning.stripe_early_fraud_warning_id
                    and fraud_actions.action = verdicts.action and fraud_actions.status <> 'skipped'
                    and fraud_actions.stripe_subscription_id is not distinct from verdicts.stripe_subscription_id
                order by fraud_actions.id desc
                limit 1
            ) as before
        from verdicts
    )
    select
        decided.action, coalesce(decided.before, decided.obstacle) is null,
        coalesce(decided.before, decided.obstacle, 'risk ' || case_at_hand.risk_level), decided.stripe_subscription_id,
        decided.amount, decided.currency
    from decided cross join case_at_hand
$$;

COMMENT ON FUNCTION billing.judge_fraud_warning(stripe_early_fraud_warning_id text) IS 'The actions of the policy for a warning as of now, and the reason for each that it would skip. Changes nothing.';

CREATE FUNCTION billing.link_customer(account_id uuid, stripe_customer_id text, livemode boolean DEFAULT NULL::boolean) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_customer billing.customers;
begin
    perform billing._lock_balance(link_customer.account_id);
    perform billing._check_customer_id(link_customer.stripe_customer_id);
    v_customer := billing._lock_customer(
        link_customer.stripe_customer_id, link_customer.account_id,
        coalesce(link_customer.livemode, billing.is_livemode())
    );
    if v_customer.account_id is not null then
        perform billing._adopt_customer(v_customer.stripe_customer_id, v_customer.account_id)
        where exists (
            select from billing.wrong_links where wrong_links.stripe_customer_id = v_customer.stripe_customer_id
        );
        return;
    -- A deleted customer is linked for its earlier payments; it does not count as the account's customer.
    elsif v_customer.deleted_at is null
        and billing._customer_of(link_customer.account_id, v_customer.livemode) is not null then
        raise exception 'account % already has a customer', link_customer.account_id
            using errcode = 'TB018',
            hint = 'Use the account''s customer in billing.customers. If both are the same person, call billing.merge_customer(stripe_customer_id, duplicate_of).';
    end if;
    perform billing._adopt_customer(link_customer.stripe_customer_id, link_customer.account_id);
end
$$;

COMMENT ON FUNCTION billing.link_customer(account_id uuid, stripe_customer_id text, livemode boolean) IS 'Links a Stripe customer to an account, once and permanently; events that waited for it are retried. Call it from the server that created the customer.';

CREATE FUNCTION billing.lock_stripe_events(event_ids text[], stripe_customer_ids text[], postpone_months boolean DEFAULT false) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    perform pg_catalog.set_config('lock_timeout', '500ms', true);
    if lock_stripe_events.postpone_months then
        perform
            pg_catalog.set_config('billing.postponed_ids', '{}', true),
            pg_catalog.set_config('billing.postponed_moments', '{}', true);
    end if;
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

CREATE FUNCTION billing.lost_jobs() RETURNS TABLE(invariant text, detail text)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    return query
    select 'open_work_has_a_job', format('%s %s has no message in billing_jobs', lost.kind, lost.id)
    from billing._lost_jobs() as lost;
end
$$;

COMMENT ON FUNCTION billing.lost_jobs() IS 'Rows that need a job of the worker and have no message in billing_jobs. Part of ledger_discrepancies.';

CREATE FUNCTION billing.lost_messages() RETURNS TABLE(invariant text, detail text)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET enable_nestloop TO 'off'
    AS $$
begin
    if to_regclass('pgmq.q_stripe_events') is null then
        return query
        select 'queued_event_has_a_message', format('event %s: there is no queue', stripe_events.stripe_event_id)
        from billing.stripe_events where stripe_events.status = 'queued';
        return;
    end if;
    return query
    select 'queued_event_has_a_message', format('event %s has no message', stripe_events.stripe_event_id)
    from billing.stripe_events
    where stripe_events.status = 'queued' and not exists (
        select from pgmq.q_stripe_events as message where message.message ->> 'event_id' = stripe_events.stripe_event_id
    )
    union all
    select 'message_has_a_queued_event', format('message %s of event %s', message.msg_id, message.message ->> 'event_id')
    from pgmq.q_stripe_events as message
    where not exists (
        select from billing.stripe_events
        where stripe_events.stripe_event_id = message.message ->> 'event_id' and stripe_events.status = 'queued'
    );
end
$$;

COMMENT ON FUNCTION billing.lost_messages() IS 'Queued events without a message in the queue, and messages without a queued event. Empty when all is well.';

CREATE FUNCTION billing.merge_customer(stripe_customer_id text, duplicate_of text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_kept billing.customers;
    v_duplicate billing.customers;
begin
    perform billing._check_customer_id(merge_customer.stripe_customer_id);
    perform billing._check_customer_id(merge_customer.duplicate_of);
    if merge_customer.stripe_customer_id = merge_customer.duplicate_of then
        raise exception 'customer % cannot be merged into itself', merge_customer.duplicate_of
            using errcode = 'TB033', hint = 'Pass the customer that the account keeps as duplicate_of.';
    end if;

    select * into v_kept from billing.customers where customers.stripe_customer_id = merge_customer.duplicate_of;
    if v_kept.account_id is null then
        raise exception 'customer % is not linked to an account', merge_customer.duplicate_of
            using errcode = 'TB033', hint = 'Link it first with billing.link_customer(account_id, stripe_customer_id).';
    end if;
    -- An account never changes once it is set. The rest of the row is read again under the lock that all links of the
    -- account take.
    perform billing._lock_balance(v_kept.account_id);
    select * into strict v_kept from billing.customers where customers.stripe_customer_id = merge_customer.duplicate_of;
    v_duplicate := billing._lock_customer(merge_customer.stripe_customer_id, v_kept.account_id, v_kept.livemode);
    if v_duplicate.duplicate_of = v_kept.stripe_customer_id then
        return;
    elsif v_kept.duplicate_of is not null then
        raise exception 'customer % is itself a duplicate of %', v_kept.stripe_customer_id, v_kept.duplicate_of
            using errcode = 'TB033', hint = pg_catalog.format('Merge into %s.', v_kept.duplicate_of);
    elsif v_kept.deleted_at is not null then
        raise exception 'customer % is deleted in Stripe', v_kept.stripe_customer_id
            using errcode = 'TB033', hint = 'Link the other customer to the account with billing.link_customer.';
    elsif v_kept.livemode <> v_duplicate.livemode then
        raise exception 'one of the customers % and % is in test mode, the other in live mode', v_duplicate.stripe_customer_id, v_kept.stripe_customer_id
            using errcode = 'TB033', hint = 'An account has one customer in test mode and one in live mode.';
    end if;

    update billing.customers
    set account_id = v_kept.account_id, duplicate_of = v_kept.stripe_customer_id, updated_at = now()
    where customers.stripe_customer_id = v_duplicate.stripe_customer_id
        or customers.duplicate_of = v_duplicate.stripe_customer_id;
    perform billing._adopt_customer(v_duplicate.stripe_customer_id, v_kept.account_id);
end
$$;

COMMENT ON FUNCTION billing.merge_customer(stripe_customer_id text, duplicate_of text) IS 'Marks a Stripe customer as a duplicate of the same person: its payments belong to the account too, and events that waited for it are retried. Call it from the server that knows the person.';

CREATE FUNCTION billing.metrics() RETURNS TABLE(name text, label text, value double precision)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    return query
    select 'events', 'queued', (
        select count(*) from (
            select from billing.stripe_events where stripe_events.status = 'queued' limit billing._metrics_count_max()
        ) as counted
    )::double precision
    union all
    select 'events', 'parked', (
        select count(*) from (
            select from billing.stripe_events where stripe_events.status = 'parked' limit billing._metrics_count_max()
        ) as counted
    )
    union all
    select 'events', 'dead', (
        select count(*) from (
            select from billing.stripe_events where stripe_events.status = 'dead' limit billing._metrics_count_max()
        ) as counted
    )
    union all
    select 'events', 'waiting_for_stripe', (
        select count(*) from (select from billing.stripe_lookups limit billing._metrics_count_max()) as counted
    )
    union all
    select 'oldest_event_age', null, coalesce((
        select extract(epoch from now() - stripe_events.received_at) from billing.stripe_events
        where stripe_events.status = 'queued' order by stripe_events.received_at limit 1
    ), 0)
    union all
    select 'jobs', jobs.kind, jobs.number from (
        select counted.kind, count(*) as number
        from (
            select queued.message ->> 'kind' as kind from pgmq.q_billing_jobs as queued
            limit billing._metrics_count_max()
        ) as counted
        group by 1
    ) as jobs
    union all
    select 'dead_notifications', null, (
        select count(*) from (
            select from billing.notifications where notifications.status = 'dead' limit billing._metrics_count_max()
        ) as counted
    )
    union all
    select 'discrepancies', null, (
        select count(*) from (select from billing.found_discrepancies limit billing._metrics_count_max()) as counted
    )
    union all
    select 'proof_finished', null, (select extract(epoch from account_proof.round_finished_at) from billing.account_proof)
    union all
    select 'open_alerts', alerts.kind, count(*) from billing.alerts where alerts.ended_at is null group by alerts.kind
    union all
    select 'workers', case when workers.last_seen_at > now() - interval '1 minute' then 'seen' else 'missing' end, count(*)
    from billing.workers group by 2
    union all
    select 'worker_last_seen', null, (select extract(epoch from max(workers.last_seen_at)) from billing.workers)
    union all
    select 'credits', credit_totals.kind, credit_totals.credits from billing.credit_totals
    union all
    select 'credits_outstanding', null, (select coalesce(sum(credit_totals.credits), 0) from billing.credit_totals)
    union all
    select 'credits_counted', null, (
        select extract(epoch from credit_count.counted_until) from billing.credit_count
        where credit_count.counted_until > '-infinity'
    );
end
$$;

COMMENT ON FUNCTION billing.metrics() IS 'Figures for monitoring, in a time that does not grow with the installation. Counts end at 10,000.';

CREATE FUNCTION billing.my_account_ids() RETURNS SETOF uuid
    LANGUAGE sql STABLE SECURITY DEFINER ROWS 2
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select accounts.id from billing.accounts where accounts.owner_id = (select auth.uid())
    union all
    select account_members.account_id from billing.account_members where account_members.user_id = (select auth.uid())
$$;

COMMENT ON FUNCTION billing.my_account_ids() IS 'The accounts of the signed-in user. Policies: account_id = any (array(select billing.my_account_ids())).';

CREATE FUNCTION billing.my_managed_account_ids() RETURNS SETOF uuid
    LANGUAGE sql STABLE SECURITY DEFINER ROWS 2
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select accounts.id from billing.accounts where accounts.owner_id = (select auth.uid())
    union all
    select account_members.account_id from billing.account_members
    where account_members.user_id = (select auth.uid()) and account_members.role in ('owner', 'admin')
$$;

COMMENT ON FUNCTION billing.my_managed_account_ids() IS 'The accounts that the signed-in user owns or administers: those whose invoices, payments and e-mail address they may read.';

CREATE FUNCTION billing.note_fraud(stripe_early_fraud_warning_id text, notes text, actor text) RETURNS billing.fraud_actions
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_warning billing.fraud_warnings;
    v_action billing.fraud_actions;
begin
    perform billing._check_reason(note_fraud.notes, note_fraud.actor);
    v_warning := billing._warning(note_fraud.stripe_early_fraud_warning_id);
    insert into billing.fraud_actions (
        stripe_early_fraud_warning_id, account_id, action, status, reason, actor, decided_at, settled_at
    )
    values (
        v_warning.stripe_early_fraud_warning_id, v_warning.account_id, 'note', 'done', note_fraud.notes, note_fraud.actor,
        billing.current_time(), billing.current_time()
    )
    returning * into v_action;
    return v_action;
end
$$;

COMMENT ON FUNCTION billing.note_fraud(stripe_early_fraud_warning_id text, notes text, actor text) IS 'Adds a note to a warning.';

CREATE FUNCTION billing.owner_email(account_id uuid) RETURNS text
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    return (
        select users.email from billing.accounts join auth.users on users.id = accounts.owner_id
        where accounts.id = owner_email.account_id
    );
end
$$;

COMMENT ON FUNCTION billing.owner_email(account_id uuid) IS 'The e-mail address of an account''s owner; null if the owner was deleted.';

CREATE FUNCTION billing.payment_reference(account_id uuid, expires_in interval DEFAULT NULL::interval) RETURNS text
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_expires_in interval := coalesce(
        payment_reference.expires_in, (select settings.payment_reference_lifetime from billing.settings)
    );
begin
    if not exists (select from billing.accounts where accounts.id = payment_reference.account_id) then
        perform billing._raise_no_account(payment_reference.account_id);
    elsif v_expires_in not between interval '1 minute' and interval '1 year' then
        raise exception 'expires_in must be from one minute to one year'
            using errcode = 'TB060', hint = 'Leave expires_in out to use billing.settings.payment_reference_lifetime.';
    end if;
    return billing._sign_reference(payment_reference.account_id, billing.is_livemode(), now() + v_expires_in);
end
$$;

COMMENT ON FUNCTION billing.payment_reference(account_id uuid, expires_in interval) IS 'A client_reference_id that assigns a payment through a Payment Link to the account: add ?client_reference_id=… to the link''s URL.';

CREATE FUNCTION billing.prepare_checkout(user_id uuid, plan text, pack text, quantity numeric, success_url text, cancel_url text, save_card boolean DEFAULT false, account_id uuid DEFAULT NULL::uuid) RETURNS jsonb
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_settings billing.settings;
    v_account_id uuid := billing._account_to_bill(prepare_checkout.user_id, prepare_checkout.account_id);
    v_price record;
    v_plan billing.plans;
    v_trial_days integer;
    v_quantity bigint;
    v_success_url text;
    v_cancel_url text;
    v_customer jsonb;
    v_params jsonb;
    v_request billing.checkout_requests;
    v_superseded text[] := '{}';
begin
    select * into strict v_settings from billing.settings;
    perform billing._check_may_spend(v_account_id);
    select * into strict v_price from billing._price_on_sale(prepare_checkout.plan, prepare_checkout.pack);
    v_quantity := billing._checked_quantity(
        prepare_checkout.quantity, v_price.is_metered, v_price.seats_min, v_price.seats_max
    );
    v_success_url := coalesce(prepare_checkout.success_url, v_settings.site_url);
    v_cancel_url := coalesce(prepare_checkout.cancel_url, v_settings.site_url, v_success_url);
    perform billing._check_redirect('success_url', v_success_url);
    perform billing._check_redirect('cancel_url', v_cancel_url);
    if prepare_checkout.plan is not null then
        select * into strict v_plan from billing.plans where plans.stripe_price_id = v_price.stripe_price_id;
        v_trial_days := billing._trial_days(v_account_id, v_plan);
    end if;

    v_params := jsonb_strip_nulls(jsonb_build_object(
        'mode', case when prepare_checkout.plan is null then 'payment' else 'subscription' end,
        'line_items', jsonb_build_array(jsonb_build_object('price', v_price.stripe_price_id, 'quantity', v_quantity)),
        'success_url', billing._with_session_id(v_success_url),
        'cancel_url', v_cancel_url,
        'billing_address_collection', v_settings.billing_address_collection,
        'allow_promotion_codes', case when v_settings.allow_promotion_codes then true end,
        'automatic_tax', case when v_settings.automatic_tax then '{"enabled": true}'::jsonb end,
        'tax_id_collection', case when v_settings.collect_tax_ids then '{"enabled": true}'::jsonb end,
        -- Stripe takes the address and the business's name from the customer, so it must be allowed to save them there.
        'customer_update', case when v_settings.automatic_tax or v_settings.collect_tax_ids then
            '{"address": "auto", "name": "auto"}'::jsonb
        end,
        'branding_settings', v_settings.checkout_branding,
        -- For people who use Stripe's Dashboard; we never read it.
        'metadata', jsonb_build_object('account_id', v_account_id),
        'payment_method_collection', case when v_trial_days > 0 and v_settings.trial_without_card is not null then
            'if_required'
        end,
        'subscription_data', case when prepare_checkout.plan is not null then jsonb_build_object(
            'metadata', jsonb_build_object('account_id', v_account_id),
            'trial_period_days', v_trial_days,
            'trial_settings', case when v_trial_days > 0 and v_settings.trial_without_card is not null then
                jsonb_build_object(
                    'end_behavior', jsonb_build_object('missing_payment_method', v_settings.trial_without_card)
                )
            end
        ) end,
        'payment_intent_data', case when prepare_checkout.pack is not null then jsonb_build_object(
            'metadata', jsonb_build_object('account_id', v_account_id),
            'setup_future_usage', case when prepare_checkout.save_card then 'off_session' end
        ) end
    ));

    -- From here to the commit the clicks of an account run one after the other.
    v_customer := billing._claim_customer(v_account_id, v_settings.livemode);
    select requests.* into v_request from billing.checkout_requests as requests
    left join billing.checkout_sessions as sessions
        on sessions.stripe_checkout_session_id = requests.stripe_checkout_session_id
    where requests.account_id = v_account_id and requests.livemode = v_settings.livemode
        and requests.params = v_params and requests.discarded_at is null
        and requests.created_at > now() - interval '10 minutes'
        and coalesce(sessions.status, 'open') = 'open'
    order by requests.created_at desc
    limit 1;
    if not found then
        insert into billing.checkout_requests (
            account_id, user_id, livemode, stripe_price_id, quantity, params, idempotency_key
        )
        values (
            v_account_id, prepare_checkout.user_id, v_settings.livemode, v_price.stripe_price_id, v_quantity, v_params,
            gen_random_uuid()::text
        )
        returning * into v_request;
        perform billing._note_stripe_request(v_account_id, v_request.idempotency_key);
    end if;

    if prepare_checkout.plan is not null then
        v_superseded := billing._supersede_requests(
            v_account_id, v_plan, v_request.idempotency_key, v_trial_days > 0
        );
        -- In this order: a session that is paid at this moment is among those to expire, or is known to be paid.
        perform billing._check_not_subscribed(v_account_id, v_plan);
        if billing._trial_days(v_account_id, v_plan) is distinct from v_trial_days then
            raise exception 'a trial started at the same time' using errcode = '40001', hint = 'Try again.';
        end if;
    end if;
    return billing._begin_checkout(v_request, v_customer, v_superseded);
end
$$;

COMMENT ON FUNCTION billing.prepare_checkout(user_id uuid, plan text, pack text, quantity numeric, success_url text, cancel_url text, save_card boolean, account_id uuid) IS 'Checks a user''s order. Returns the first step.';

CREATE FUNCTION billing.prepare_payment_links(user_id uuid, plan text, pack text, account_id uuid DEFAULT NULL::uuid) RETURNS jsonb
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_account_id uuid := billing._account_to_bill(prepare_payment_links.user_id, prepare_payment_links.account_id);
    v_links jsonb := '[]';
    v_name text;
    v_plan billing.plans;
begin
    perform billing._check_may_spend(v_account_id);
    if prepare_payment_links.plan is not null and prepare_payment_links.pack is null then
        select plans.* into strict v_plan
        from billing._price_on_sale(prepare_payment_links.plan, null) as price
        join billing.plans on plans.stripe_price_id = price.stripe_price_id;
        perform billing._check_not_subscribed(v_account_id, v_plan);
    end if;
    if prepare_payment_links.plan is not null or prepare_payment_links.pack is not null then
        v_links := jsonb_build_array(jsonb_build_object(
            'name', coalesce(prepare_payment_links.plan, prepare_payment_links.pack),
            'step', billing.claim_payment_link(prepare_payment_links.plan, prepare_payment_links.pack)
        ));
    else
        -- In the order of their names, so that two requests don't deadlock.
        for v_name in
            select distinct coalesce(plans.lookup_key, plans.stripe_price_id)
            from billing.plans
            join billing.products on products.stripe_product_id = plans.stripe_product_id and products.active
            where plans.active and plans.livemode = billing.is_livemode() and plans.usage_type = 'licensed'
            order by 1
        loop
            begin
                select plans.* into strict v_plan
                from billing._price_on_sale(v_name, null) as price
                join billing.plans on plans.stripe_price_id = price.stripe_price_id;
                perform billing._check_not_subscribed(v_account_id, v_plan);
                v_links := v_links
                    || jsonb_build_object('name', v_name, 'step', billing.claim_payment_link(v_name, null));
            exception when sqlstate 'TB045' or sqlstate 'TB042' then
                null;  -- the portal changes what they have; or it went off sale at this moment
            end;
        end loop;
    end if;
    perform billing._note_stripe_request(v_account_id, link #>> '{step,calls,-1,idempotency_key}')
    from jsonb_array_elements(v_links) as link
    where link #>> '{step,calls,-1,idempotency_key}' is not null;
    return jsonb_build_object('links', v_links, 'reference', billing.payment_reference(v_account_id));
end
$$;

COMMENT ON FUNCTION billing.prepare_payment_links(user_id uuid, plan text, pack text, account_id uuid) IS 'Decides for which plans a user gets links; returns the first step of each, and the reference that names the account.';

CREATE FUNCTION billing.prepare_portal(user_id uuid, return_url text, flow text, account_id uuid DEFAULT NULL::uuid) RETURNS jsonb
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_settings billing.settings;
    v_account_id uuid := billing._account_to_bill(prepare_portal.user_id, prepare_portal.account_id);
    v_return_url text;
    v_subscription billing.subscriptions;
    v_customer_id text;
begin
    select * into strict v_settings from billing.settings;
    if prepare_portal.return_url is not null then
        perform billing._check_redirect('return_url', prepare_portal.return_url);
    end if;
    v_return_url := coalesce(prepare_portal.return_url, v_settings.site_url);

    v_subscription := billing._subscription_to_change(v_account_id, v_settings.livemode, prepare_portal.flow);
    if v_subscription.stripe_subscription_id is null then
        v_subscription := billing._subscription_left_behind(v_account_id, v_settings.livemode, prepare_portal.flow);
    end if;
    v_customer_id := coalesce(
        v_subscription.stripe_customer_id, billing._customer_of(v_account_id, v_settings.livemode)
    );
    if v_customer_id is null then
        raise exception 'this account has not bought anything yet'
            using errcode = 'TB046', hint = 'The first checkout creates the customer that the portal needs.';
    end if;
    perform billing._note_stripe_request(v_account_id);
    return billing._stripe_step(
        v_settings.livemode,
        jsonb_build_array(billing._stripe_call(
            'post', '/v1/billing_portal/sessions',
            params => jsonb_strip_nulls(jsonb_build_object(
                'customer', v_customer_id,
                'return_url', v_return_url,
                'flow_data',
                billing._portal_flow(prepare_portal.flow, v_subscription.stripe_subscription_id, v_return_url)
            )),
            keep => '{id,url}'
        )),
        state => '{}',
        is_last => true
    );
end
$$;

COMMENT ON FUNCTION billing.prepare_portal(user_id uuid, return_url text, flow text, account_id uuid) IS 'Checks a user''s change. Returns the step that opens the customer portal.';

CREATE FUNCTION billing.prove_accounts(accounts_max integer, milliseconds_max integer DEFAULT 50) RETURNS TABLE(accounts bigint, discrepancies bigint)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_began_at timestamptz := clock_timestamp();
    v_proof billing.account_proof;
    v_account_id uuid;
    v_last_account_id uuid;
begin
    accounts := 0;
    discrepancies := 0;
    select * into v_proof from billing.account_proof for update skip locked;
    if not found then
        return next;
        return;
    end if;
    for v_account_id in
        select accounts_after.id from billing.accounts as accounts_after
        where v_proof.last_account_id is null or accounts_after.id > v_proof.last_account_id
        order by accounts_after.id
        limit greatest(prove_accounts.accounts_max, 0)
    loop
        discrepancies := discrepancies + billing._prove_account(v_account_id);
        accounts := accounts + 1;
        v_last_account_id := v_account_id;
        exit when clock_timestamp() - v_began_at >= make_interval(secs => prove_accounts.milliseconds_max / 1000.0);
    end loop;
    update billing.account_proof
    set last_account_id = v_last_account_id,
        accounts_checked = account_proof.accounts_checked + prove_accounts.accounts,
        round_started_at = case
            when v_proof.last_account_id is null then v_began_at else account_proof.round_started_at
        end,
        round_finished_at = case
            when v_last_account_id is null then clock_timestamp() else account_proof.round_finished_at
        end;
    return next;
end
$$;

COMMENT ON FUNCTION billing.prove_accounts(accounts_max integer, milliseconds_max integer) IS 'Checks the next accounts, stores discrepancies and notifies administrators of each once.';

CREATE FUNCTION billing.prune_events(rows_max integer) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_kept_from timestamptz;
    v_queued_from timestamptz;
    v_from timestamptz;
    v_until timestamptz;
    v_count bigint;
    v_messages bigint;
begin
    select now() - make_interval(days => settings.keep_events_days) into v_kept_from from billing.settings;
    select event_pruning.pruned_until into v_from from billing.event_pruning;
    select min(stripe_events.received_at) into v_queued_from
    from billing.stripe_events where stripe_events.status = 'queued';

    select count(*), max(old.received_at) into v_count, v_until
    from (
        select stripe_events.received_at from billing.stripe_events
        where stripe_events.received_at > v_from and stripe_events.received_at < least(v_kept_from, v_queued_from)
        order by stripe_events.received_at
        fetch first (prune_events.rows_max) rows with ties
    ) as old;
    if v_count > 0 then
        update billing.stripe_events set payload = ''
        where stripe_events.received_at > v_from and stripe_events.received_at <= v_until
            and stripe_events.status in ('applied', 'ignored') and stripe_events.payload <> '';
        update billing.event_pruning set pruned_until = v_until where event_pruning.pruned_until = v_from;
    end if;

    delete from pgmq.a_stripe_events as archived
    where archived.msg_id in (
        select old.msg_id from pgmq.a_stripe_events as old
        where old.archived_at < v_kept_from
        order by old.archived_at
        limit prune_events.rows_max
    );
    get diagnostics v_messages = row_count;
    return greatest(v_count, v_messages);
end
$$;

COMMENT ON FUNCTION billing.prune_events(rows_max integer) IS 'Deletes the bodies of about rows_max events that are older than settings.keep_events_days, and as many archived messages. Returns less than rows_max when nothing is left.';

CREATE FUNCTION billing.prune_notifications(rows_max integer) RETURNS bigint
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    with pruned as (
        delete from billing.notifications
        where notifications.id in (
            select over.id from billing.notifications as over
            where over.status in ('delivered', 'skipped')
                and over.created_at < now() - (select settings.notification_retention from billing.settings)
            order by over.created_at
            limit prune_notifications.rows_max
        )
        returning notifications.id
    )
    select count(*) from pruned
$$;

COMMENT ON FUNCTION billing.prune_notifications(rows_max integer) IS 'Deletes up to rows_max delivered or skipped notifications that are older than settings.notification_retention.';

CREATE FUNCTION billing.queued_jobs() RETURNS TABLE(kind text, id text, attempts integer, due_at timestamp with time zone, reason text, worker_pid integer)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    if to_regclass('pgmq.q_billing_jobs') is null then
        return;
    end if;
    return query
    select
        message.message ->> 'kind', message.message ->> 'id', message.read_ct, message.vt, message.headers ->> 'reason',
        (message.headers ->> 'worker_pid')::integer
    from pgmq.q_billing_jobs as message
    order by message.msg_id;
end
$$;

COMMENT ON FUNCTION billing.queued_jobs() IS 'All jobs of the worker, with their attempts, their due times and the session that has them.';

CREATE FUNCTION billing.read_stripe_events(visibility_seconds integer, batch_size integer, due_within_seconds double precision DEFAULT NULL::double precision) RETURNS TABLE(msg_id bigint, read_ct integer, attempts integer, stripe_event_id text, type text, api_version text, created_at timestamp with time zone, payload text, received_at timestamp with time zone)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_due_after timestamptz := coalesce(
        now() - make_interval(secs => read_stripe_events.due_within_seconds), '-infinity'
    );
    v_until timestamptz := clock_timestamp() + make_interval(secs => read_stripe_events.visibility_seconds);
    v_msg_ids bigint[];
    v_read_cts integer[];
    v_event_ids text[];
    v_count bigint;
begin
    loop
        with due as materialized (
            select queued.msg_id from pgmq.q_stripe_events as queued
            where queued.vt <= now() and queued.vt >= v_due_after
            order by queued.vt
            limit read_stripe_events.batch_size
            for update skip locked
        ),
        taken as (
            update pgmq.q_stripe_events as message
            set vt = v_until, read_ct = message.read_ct + 1
            from due
            where message.msg_id = due.msg_id
            returning message.msg_id, message.read_ct, message.message ->> 'event_id' as event_id
        )
        select array_agg(taken.msg_id), array_agg(taken.read_ct), array_agg(taken.event_id)
        into v_msg_ids, v_read_cts, v_event_ids
        from taken;
        exit when v_msg_ids is null;

        return query
        select
            message.msg_id, message.read_ct, message.read_ct - event.excused_attempts, event.stripe_event_id, event.type,
            event.api_version, event.created_at, event.payload, event.received_at
        from unnest(v_msg_ids, v_read_cts, v_event_ids) as message (msg_id, read_ct, event_id)
        join billing.stripe_events as event
            on event.stripe_event_id = message.event_id and event.status = 'queued'
        order by message.msg_id;
        get diagnostics v_count = row_count;

        if v_count < cardinality(v_msg_ids) then
            perform pgmq.archive('stripe_events', array(
                select message.msg_id from unnest(v_msg_ids, v_event_ids) as message (msg_id, event_id)
                where not exists (
                    select from billing.stripe_events as event
                    where event.stripe_event_id = message.event_id and event.status = 'queued'
                )
            ));
        end if;
        exit when v_count > 0;
    end loop;

    if v_msg_ids is null then
        return;
    end if;
    update billing.workers set in_hand = v_msg_ids, in_hand_until = v_until where workers.pid = pg_backend_pid();
    if not found then
        perform billing.start_worker();
        update billing.workers set in_hand = v_msg_ids, in_hand_until = v_until where workers.pid = pg_backend_pid();
    end if;
end
$$;

CREATE FUNCTION billing.recalculate_account(account_id uuid) RETURNS TABLE(balance_before bigint, balance bigint)
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_account_id uuid := recalculate_account.account_id;
    v_invoice billing.invoices;
    v_subscription billing.subscriptions;
    v_broken text;
begin
    select balances.balance into balance_before from billing.credit_balances as balances
    where balances.account_id = v_account_id
    for update;
    if not found then
        perform billing._raise_no_account(v_account_id);
    end if;
    perform billing._restore_grants(v_account_id);
    perform billing._recalculate_balance(v_account_id);
    if not exists (select from billing.accounts where accounts.id = v_account_id and accounts.closed_at is not null) then
        delete from billing.credit_schedules using billing.account_discrepancies(v_account_id) as off
        where off.invariant = 'recorded_and_not_paid' and credit_schedules.stripe_line_id = off.business_key;
        for v_invoice in
            select * from billing.invoices where invoices.account_id = v_account_id and invoices.status = 'paid'
            order by invoices.invoiced_at, invoices.stripe_invoice_id
        loop
            if v_invoice.stripe_subscription_id is not null then
                perform billing._allocate_subscription(v_invoice.stripe_subscription_id, null, v_invoice);
                perform billing._grant_initial_of_invoice(v_invoice);
            end if;
            perform billing._purchase_packs_of_invoice(v_invoice);
        end loop;
        perform billing._purchase_packs_of_session(sessions) from billing.checkout_sessions as sessions
        where sessions.account_id = v_account_id and sessions.mode = 'payment' and sessions.status = 'complete'
            and sessions.payment_status <> 'unpaid';
        for v_subscription in
            select * from billing.subscriptions where subscriptions.account_id = v_account_id order by 1
        loop
            perform billing._allocate_subscription(v_subscription.stripe_subscription_id, '-infinity');
        end loop;
        perform billing._post_purchase(purchases.business_key) from billing.pack_purchases as purchases
        where purchases.account_id = v_account_id;
        perform billing._apply_returns_of_invoice(invoices.stripe_invoice_id) from billing.invoices
        where invoices.account_id = v_account_id and invoices.status = 'paid';
    end if;
    select string_agg(broken.invariant || ': ' || broken.detail, '; ') into v_broken
    from billing.account_ledger_discrepancies(v_account_id) as broken;
    if v_broken is not null then
        raise exception 'the ledger of account % stays broken: %', v_account_id, v_broken
            using errcode = 'TB082', hint = 'Rows of the ledger are missing or edited: restore them from a backup.';
    end if;
    -- What the running proof found is over.
    perform billing._prove_account(v_account_id);
    select balances.balance into recalculate_account.balance from billing.credit_balances as balances
    where balances.account_id = v_account_id;
    return next;
end
$$;

COMMENT ON FUNCTION billing.recalculate_account(account_id uuid) IS 'Brings an account''s balance, paid time and credits to what its entries, grants and facts say, after rows were changed by hand. A sound account stays as it is. Returns the balance before and after.';

CREATE FUNCTION billing.receive_own_events(events jsonb) RETURNS TABLE(event_id text, answer text)
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_event jsonb;
begin
    for v_event in select * from jsonb_array_elements(receive_own_events.events) loop
        event_id := v_event ->> 'id';
        if not coalesce(event_id ^@ 'till_', false) then
            raise exception 'event id % does not start with till_', event_id
                using errcode = 'TB081', hint = 'Pass events of Stripe to billing.receive_stripe_event.';
        end if;
        answer := billing.receive_stripe_event(
            event_id => v_event ->> 'id', type => v_event ->> 'type', api_version => v_event ->> 'api_version',
            created => (v_event ->> 'created')::bigint, livemode => (v_event ->> 'livemode')::boolean,
            payload => v_event ->> 'payload'
        );
        return next;
    end loop;
end
$$;

COMMENT ON FUNCTION billing.receive_own_events(events jsonb) IS 'Queues events that were made from objects read from Stripe, as `till reconcile --apply` and `till backfill` do. Returns queued, duplicate or ignored for each.';

CREATE FUNCTION billing.receive_stripe_event(event_id text, type text, api_version text, created bigint, livemode boolean, payload text) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
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

COMMENT ON FUNCTION billing.receive_stripe_event(event_id text, type text, api_version text, created bigint, livemode boolean, payload text) IS 'Stores a signed event and queues it. Returns queued, duplicate or ignored. created is in Unix seconds.';

CREATE FUNCTION billing.receiving_since() RETURNS timestamp with time zone
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    -- What `till` itself queued did not arrive from Stripe. The oldest events are read first, by the index.
    return (
        select stripe_events.received_at from billing.stripe_events
        where not stripe_events.stripe_event_id ^@ 'till_'
        order by stripe_events.received_at limit 1
    );
end
$$;

COMMENT ON FUNCTION billing.receiving_since() IS 'When the first event arrived from Stripe; null if none has.';

CREATE FUNCTION billing.record_card(stripe_customer_id text, livemode boolean, card_fingerprint text, seen_at timestamp with time zone) RETURNS text
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select billing._record_card(
        record_card.stripe_customer_id,
        billing._account_of_customer(record_card.stripe_customer_id, record_card.livemode),
        record_card.card_fingerprint, record_card.seen_at
    )
$$;

COMMENT ON FUNCTION billing.record_card(stripe_customer_id text, livemode boolean, card_fingerprint text, seen_at timestamp with time zone) IS 'Stripe saw a card on a customer. Returns applied, or stale if an earlier sighting is known.';

CREATE FUNCTION billing.record_email_change(msg_id bigint, stripe_customer_id text, new_email text, retry_in_seconds integer, reason text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET lock_timeout TO '500ms'
    AS $$
begin
    if billing._end_job(
        record_email_change.msg_id, record_email_change.retry_in_seconds, record_email_change.reason
    ) or record_email_change.retry_in_seconds is null then
        update billing.customer_email_changes
        set settled_at = case when record_email_change.retry_in_seconds is null then now() end,
            last_error = record_email_change.reason, updated_at = now()
        where customer_email_changes.stripe_customer_id = record_email_change.stripe_customer_id
            and customer_email_changes.new_email = record_email_change.new_email
            and customer_email_changes.settled_at is null;
        if not found and record_email_change.retry_in_seconds is null then
            -- A newer address was written to Stripe meanwhile, and this attempt may have overwritten it.
            update billing.customer_email_changes
            set settled_at = null, old_emails = customer_email_changes.old_emails || record_email_change.new_email,
                updated_at = now()
            where customer_email_changes.stripe_customer_id = record_email_change.stripe_customer_id
                and customer_email_changes.new_email <> record_email_change.new_email
                and customer_email_changes.settled_at is not null;
            if found then
                perform billing._enqueue_jobs('email_change', array[record_email_change.stripe_customer_id]);
            end if;
        end if;
    end if;
end
$$;

COMMENT ON FUNCTION billing.record_email_change(msg_id bigint, stripe_customer_id text, new_email text, retry_in_seconds integer, reason text) IS 'Records that a customer has its new address in Stripe, was left unchanged, or must be retried later.';

CREATE FUNCTION billing.record_fraud_action(msg_id bigint, id bigint, outcome text, stripe_refund_id text, reason text, is_in_doubt boolean, retry_in_seconds integer) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET lock_timeout TO '500ms'
    AS $$
declare
    v_is_in_hand boolean;
    v_action billing.fraud_actions;
begin
    -- The lock that sync_refund takes, so that of the two the later one sees the other's row.
    perform billing._lock_arrival(record_fraud_action.stripe_refund_id) where record_fraud_action.stripe_refund_id is not null;
    v_is_in_hand := billing._end_job(
        record_fraud_action.msg_id,
        case when record_fraud_action.outcome = 'queued' then record_fraud_action.retry_in_seconds end,
        record_fraud_action.reason
    );
    if record_fraud_action.outcome = 'queued' then
        update billing.fraud_actions
        set last_error = record_fraud_action.reason, is_in_doubt = record_fraud_action.is_in_doubt, updated_at = now()
        where fraud_actions.id = record_fraud_action.id and fraud_actions.status = 'queued' and v_is_in_hand;
        return;
    end if;
    update billing.fraud_actions
    set status = record_fraud_action.outcome,
        stripe_refund_id = record_fraud_action.stripe_refund_id,
        last_error = record_fraud_action.reason,
        is_in_doubt = record_fraud_action.is_in_doubt,
        settled_at = billing.current_time(),
        updated_at = now()
    where fraud_actions.id = record_fraud_action.id and fraud_actions.status = 'queued'
    returning * into v_action;
    perform billing._tell_of_failed_action(v_action);
    perform billing._fail_refund_action(record_fraud_action.stripe_refund_id);
end
$$;

COMMENT ON FUNCTION billing.record_fraud_action(msg_id bigint, id bigint, outcome text, stripe_refund_id text, reason text, is_in_doubt boolean, retry_in_seconds integer) IS 'Records the outcome of an action at Stripe: done, failed, or queued for another attempt.';

CREATE FUNCTION billing.record_fraud_warning(stripe_early_fraud_warning_id text, stripe_charge_id text, stripe_payment_intent_id text, livemode boolean, fraud_type text, actionable boolean, warned_at timestamp with time zone, stripe_customer_id text, risk_level text, risk_score integer, as_of timestamp with time zone) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
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
    if found then
        perform billing._act_on_warning(v_warning);
        return 'applied';
    end if;

    update billing.fraud_warnings
    set actionable = record_fraud_warning.actionable, as_of = record_fraud_warning.as_of, updated_at = now()
    where fraud_warnings.stripe_early_fraud_warning_id = record_fraud_warning.stripe_early_fraud_warning_id
        -- A warning whose charge was disputed or refunded stays not actionable.
        and fraud_warnings.actionable and not record_fraud_warning.actionable;
    return case when found then 'applied' else 'stale' end;
end
$$;

CREATE FUNCTION billing.record_notification(msg_id bigint, notification_id bigint, attempts integer, delivered_to text[], status text, retry_in_seconds integer, reason text) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET lock_timeout TO '500ms'
    AS $$
declare
    v_status text;
begin
    update billing.notifications
    set status = judged.status,
        delivered_to = array(
            select distinct channel from unnest(notifications.delivered_to || record_notification.delivered_to) as channel
            order by channel
        ),
        last_error = case
            when judged.status = record_notification.status then record_notification.reason
            else format('%s (given up after %s attempts)', record_notification.reason, notifications.attempts)
        end,
        delivered_at = case when judged.status = 'delivered' then now() end
    from (
        select told.id, case
            when record_notification.status = 'queued' and told.first_attempt_at < now() - settings.notification_deadline
            then 'dead'
            else record_notification.status
        end as status
        from billing.notifications as told cross join billing.settings
        where told.id = record_notification.notification_id
    ) as judged
    where notifications.id = judged.id and notifications.status in ('sending', 'queued')
        and (
            judged.status = 'delivered'
            or notifications.status = 'sending' and notifications.attempts = record_notification.attempts
        )
    returning notifications.status into v_status;
    if found then
        perform billing._end_job(
            record_notification.msg_id, case when v_status = 'queued' then record_notification.retry_in_seconds end,
            record_notification.reason
        );
    end if;
    return v_status;
end
$$;

COMMENT ON FUNCTION billing.record_notification(msg_id bigint, notification_id bigint, attempts integer, delivered_to text[], status text, retry_in_seconds integer, reason text) IS 'Records the outcome of a message: delivered, queued again, skipped or dead. Returns its status, or null if another worker has it.';

CREATE FUNCTION billing.record_recharge(msg_id bigint, recharge_id uuid, status text, stripe_payment_intent_id text, stripe_payment_method_id text, reason text, is_final boolean, action_url text, audience text) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET lock_timeout TO '500ms'
    AS $$
declare
    v_recharge billing.recharges := billing._lock_recharge(record_recharge.recharge_id);
begin
    -- An event reports the bank's decision. If that event is lost, the job asks Stripe again.
    perform billing._end_job(
        record_recharge.msg_id,
        case when record_recharge.status = 'charging' and v_recharge.status = 'charging' then 6 * 3600 end,
        'the bank takes its time'
    );
    if record_recharge.status = 'paid' and v_recharge.status <> 'paid' then
        perform billing._pay_recharge(v_recharge, record_recharge.stripe_payment_intent_id);
        return 'paid';
    elsif v_recharge.status <> 'charging' then
        return v_recharge.status;  -- an event was faster, or another worker
    elsif record_recharge.status = 'charging' then
        update billing.recharges
        set stripe_payment_intent_id = record_recharge.stripe_payment_intent_id,
            stripe_payment_method_id = record_recharge.stripe_payment_method_id, updated_at = now()
        where recharges.id = v_recharge.id;
        return 'charging';
    end if;
    v_recharge.status := record_recharge.status;
    v_recharge.reason := record_recharge.reason;
    v_recharge.is_final := record_recharge.is_final;
    v_recharge.action_url := record_recharge.action_url;
    v_recharge.stripe_payment_intent_id :=
        coalesce(record_recharge.stripe_payment_intent_id, v_recharge.stripe_payment_intent_id);
    v_recharge.stripe_payment_method_id := record_recharge.stripe_payment_method_id;
    perform billing._stop_recharge(v_recharge, record_recharge.audience);
    return v_recharge.status;
end
$$;

COMMENT ON FUNCTION billing.record_recharge(msg_id bigint, recharge_id uuid, status text, stripe_payment_intent_id text, stripe_payment_method_id text, reason text, is_final boolean, action_url text, audience text) IS 'What became of a recharge at Stripe: paid (grants the pack once), failed or requires_action (pauses and tells once), charging (the bank takes its time). Returns its status.';

CREATE FUNCTION billing.record_retired_link(msg_id bigint, link_id uuid, retry_in_seconds integer, reason text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET lock_timeout TO '500ms'
    AS $$
begin
    if billing._end_job(
        record_retired_link.msg_id, record_retired_link.retry_in_seconds, record_retired_link.reason
    ) or record_retired_link.retry_in_seconds is null then
        update billing.payment_links
        set deactivate_at = case when record_retired_link.retry_in_seconds is not null
                then payment_links.deactivate_at end,
            deactivated_at = case when record_retired_link.retry_in_seconds is null then now() end,
            last_error = record_retired_link.reason, updated_at = now()
        where payment_links.id = record_retired_link.link_id and payment_links.deactivated_at is null;
    end if;
end
$$;

COMMENT ON FUNCTION billing.record_retired_link(msg_id bigint, link_id uuid, retry_in_seconds integer, reason text) IS 'Records that a retired link is inactive in Stripe, or that it is retried later.';

CREATE FUNCTION billing.record_saved_card(stripe_payment_method_id text, stripe_customer_id text, livemode boolean, card_brand text, card_last4 text, card_exp_month integer, card_exp_year integer, as_of timestamp with time zone) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    insert into billing.saved_cards as held (
        stripe_payment_method_id, stripe_customer_id, livemode, brand, last4, expires_on, as_of
    )
    values (
        record_saved_card.stripe_payment_method_id, record_saved_card.stripe_customer_id, record_saved_card.livemode,
        record_saved_card.card_brand, record_saved_card.card_last4,
        make_date(record_saved_card.card_exp_year, record_saved_card.card_exp_month, 1) + interval '1 month',
        record_saved_card.as_of
    )
    on conflict on constraint saved_cards_pkey do update
    set stripe_customer_id = excluded.stripe_customer_id,
        brand = excluded.brand,
        last4 = excluded.last4,
        expires_on = excluded.expires_on,
        as_of = excluded.as_of,
        updated_at = now()
    where (held.as_of, held.stripe_customer_id is null, coalesce(held.expires_on, '-infinity'))
        < (excluded.as_of, excluded.stripe_customer_id is null, coalesce(excluded.expires_on, '-infinity'));
    return case when found then 'applied' else 'stale' end;
end
$$;

COMMENT ON FUNCTION billing.record_saved_card(stripe_payment_method_id text, stripe_customer_id text, livemode boolean, card_brand text, card_last4 text, card_exp_month integer, card_exp_year integer, as_of timestamp with time zone) IS 'Records a saved, changed or detached card. Returns applied or stale.';

CREATE FUNCTION billing.refund_fraud_warning(stripe_early_fraud_warning_id text, reason text, actor text) RETURNS billing.fraud_actions
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_warning billing.fraud_warnings;
    v_payment billing.payments;
    v_action billing.fraud_actions;
begin
    perform billing._check_reason(refund_fraud_warning.reason, refund_fraud_warning.actor);
    v_warning := billing._warning(refund_fraud_warning.stripe_early_fraud_warning_id);
    select * into v_action from billing.fraud_actions
    where fraud_actions.stripe_early_fraud_warning_id = v_warning.stripe_early_fraud_warning_id
        and fraud_actions.action = 'refund' and fraud_actions.status in ('queued', 'done');
    if found then
        return v_action;
    end if;
    select * into v_payment from billing.payments where payments.stripe_charge_id = v_warning.stripe_charge_id;
    if not found or v_payment.is_disputed or v_payment.amount_refunded = v_payment.amount then
        raise exception 'charge % is % and can''t be refunded', v_warning.stripe_charge_id, case
                when v_payment.stripe_charge_id is null then 'unknown'
                when v_payment.is_disputed then 'disputed'
                else 'already refunded'
            end
            using errcode = 'TB074', hint = 'Look at the charge in Stripe''s dashboard.';
    end if;
    insert into billing.fraud_actions (
        stripe_early_fraud_warning_id, account_id, action, status, reason, actor, stripe_charge_id, amount, currency,
        decided_at
    )
    values (
        v_warning.stripe_early_fraud_warning_id, v_warning.account_id, 'refund', 'queued', refund_fraud_warning.reason,
        refund_fraud_warning.actor, v_payment.stripe_charge_id, v_payment.amount - v_payment.amount_refunded,
        v_payment.currency, billing.current_time()
    )
    returning * into v_action;
    return v_action;
end
$$;

COMMENT ON FUNCTION billing.refund_fraud_warning(stripe_early_fraud_warning_id text, reason text, actor text) IS 'Queues a refund of the remaining amount of a warning''s charge, once; the worker sends it to Stripe.';

CREATE FUNCTION billing.refund_spend(entry_id bigint, amount numeric, idempotency_key text, description text DEFAULT NULL::text, metadata jsonb DEFAULT '{}'::jsonb) RETURNS billing.credit_entries
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_amount bigint := case when refund_spend.amount is not null then billing._checked_amount(refund_spend.amount) end;
    v_spend billing.credit_entries;
    v_entry billing.credit_entries;
    v_left bigint;
begin
    perform billing._checked_key(refund_spend.idempotency_key, refund_spend.metadata);
    select * into v_spend from billing.credit_entries
    where credit_entries.id = refund_spend.entry_id and credit_entries.kind in ('spend', 'capture');
    if not found then
        raise exception 'entry % is not a spend', coalesce(refund_spend.entry_id::text, 'null')
            using errcode = 'TB026', hint = 'Pass the id that spend_credits or capture_hold returned.';
    end if;
    perform billing._lock_balance(v_spend.account_id);

    select * into v_entry from billing.credit_entries
    where credit_entries.account_id = v_spend.account_id and credit_entries.key_space = 'caller'
        and credit_entries.idempotency_key = refund_spend.idempotency_key;
    if found then
        if (v_entry.kind, v_entry.reverses_entry_id, v_entry.amount, v_entry.description, v_entry.metadata)
            is distinct from (
                'refund', v_spend.id, coalesce(v_amount, v_entry.amount), refund_spend.description, refund_spend.metadata
            ) then
            perform billing._raise_key_reused(refund_spend.idempotency_key);
        end if;
        return v_entry;
    end if;

    perform billing._check_open(v_spend.account_id);
    select -v_spend.amount - coalesce(sum(credit_entries.amount), 0) into v_left from billing.credit_entries
    where credit_entries.reverses_entry_id = v_spend.id and credit_entries.kind = 'refund';
    v_amount := coalesce(v_amount, v_left);
    if v_left = 0 or v_amount > v_left then
        raise exception 'only % credits of entry % can be refunded, not %', v_left, v_spend.id, v_amount
            using errcode = 'TB027', hint = 'Refund at most what is left of the spend.';
    end if;

    v_entry := billing._reverse_entry(
        v_spend, 'refund', v_amount, 'caller', refund_spend.idempotency_key, refund_spend.description,
        refund_spend.metadata, null
    );
    -- It no longer counts towards the cap of the period in which it was spent.
    update billing.credit_balances set spent_in_period = greatest(credit_balances.spent_in_period - v_amount, 0)
    where credit_balances.account_id = v_spend.account_id and credit_balances.spend_cap is not null
        and v_spend.occurred_at >= credit_balances.spend_period_start;
    return v_entry;
end
$$;

COMMENT ON FUNCTION billing.refund_spend(entry_id bigint, amount numeric, idempotency_key text, description text, metadata jsonb) IS 'Refunds a spend or capture to the lots that it came from: all that is left of it (amount null) or a part. Once for each idempotency key.';

CREATE FUNCTION billing.reinstate_grant(revocation_id bigint, amount numeric, idempotency_key text, reason text, actor text) RETURNS billing.credit_reinstatements
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_amount bigint := case when reinstate_grant.amount is not null then billing._checked_amount(reinstate_grant.amount) end;
    v_revocation billing.credit_revocations;
    v_reinstatement billing.credit_reinstatements;
begin
    perform billing._checked_key(reinstate_grant.idempotency_key, '{}');
    perform billing._check_reason(reinstate_grant.reason, reinstate_grant.actor);
    select * into v_revocation from billing.credit_revocations where credit_revocations.id = reinstate_grant.revocation_id;
    if not found then
        raise exception 'there is no revocation %', coalesce(reinstate_grant.revocation_id::text, 'null')
            using errcode = 'TB026', hint = 'Pass the id that revoke_grant returned.';
    end if;
    perform billing._lock_balance(v_revocation.account_id);

    select * into v_reinstatement from billing.credit_reinstatements
    where credit_reinstatements.account_id = v_revocation.account_id and credit_reinstatements.key_space = 'caller'
        and credit_reinstatements.idempotency_key = reinstate_grant.idempotency_key;
    if found then
        if (
            v_reinstatement.revocation_id, v_reinstatement.amount, v_reinstatement.reason, v_reinstatement.actor
        ) is distinct from (
            v_revocation.id, coalesce(v_amount, v_reinstatement.amount), reinstate_grant.reason, reinstate_grant.actor
        ) then
            perform billing._raise_key_reused(reinstate_grant.idempotency_key);
        end if;
        return v_reinstatement;
    end if;
    perform billing._check_key_is_new(v_revocation.account_id, reinstate_grant.idempotency_key);
    perform billing._check_open(v_revocation.account_id);
    v_reinstatement := billing._reinstate(
        v_revocation, v_amount, 'caller', reinstate_grant.idempotency_key, reinstate_grant.reason, reinstate_grant.actor
    );
    -- Credits whose money was refunded or disputed meanwhile are revoked or frozen again.
    perform billing._apply_returns_of_lot(v_revocation.grant_id);
    return v_reinstatement;
end
$$;

COMMENT ON FUNCTION billing.reinstate_grant(revocation_id bigint, amount numeric, idempotency_key text, reason text, actor text) IS 'Restores what a revocation took: all that is left (amount null) or a part. Once for each idempotency key.';

CREATE FUNCTION billing.release_hold(hold_id uuid, idempotency_key text) RETURNS billing.credit_holds
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_hold billing.credit_holds;
begin
    perform billing._checked_key(release_hold.idempotency_key, '{}');
    v_hold := billing._lock_hold(release_hold.hold_id);
    if v_hold.release_key = release_hold.idempotency_key then
        return v_hold;
    elsif exists (
        select from billing.credit_holds
        where credit_holds.account_id = v_hold.account_id and credit_holds.release_key = release_hold.idempotency_key
    ) then
        perform billing._raise_key_reused(release_hold.idempotency_key);
    elsif v_hold.status = 'expired' then
        -- Too late to release anything, but nothing is held any more, which is what the caller wanted.
        return v_hold;
    end if;
    perform billing._check_held(v_hold);
    return billing._settle_hold(v_hold, 'released', release_hold.idempotency_key);
end
$$;

COMMENT ON FUNCTION billing.release_hold(hold_id uuid, idempotency_key text) IS 'Releases what a hold still has set aside.';

CREATE FUNCTION billing.release_stripe_events(delay_seconds integer) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    update pgmq.q_stripe_events as message
    set vt = clock_timestamp() + random() * make_interval(secs => release_stripe_events.delay_seconds),
        read_ct = greatest(message.read_ct - 1, 0)
    from billing.workers
    where workers.pid = pg_backend_pid() and message.msg_id = any (workers.in_hand)
        and message.vt = workers.in_hand_until;

    update billing.stripe_lookups
    set worker_pid = null, attempts = stripe_lookups.attempts - 1,
        next_attempt_at = clock_timestamp() + random() * make_interval(secs => release_stripe_events.delay_seconds)
    where stripe_lookups.worker_pid = pg_backend_pid();
end
$$;

CREATE FUNCTION billing.remove_member(account_id uuid, user_id uuid) RETURNS billing.account_members
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_rank integer := (billing._lock_team(remove_member.account_id)).rank;
    v_member billing.account_members;
begin
    v_member := billing._member(remove_member.account_id, remove_member.user_id);
    if v_member.user_id is distinct from (select auth.uid()) then
        perform billing._check_rank(v_rank, v_member.role);
    end if;
    delete from billing.account_members
    where account_members.account_id = remove_member.account_id
        and account_members.user_id = remove_member.user_id;
    perform billing._revoke_invitations_of(remove_member.account_id, remove_member.user_id);
    perform billing._check_owner_is_left(remove_member.account_id);
    return v_member;
end
$$;

COMMENT ON FUNCTION billing.remove_member(account_id uuid, user_id uuid) IS 'Removes a member, or lets the signed-in user leave. The last owner can''t leave.';

CREATE FUNCTION billing.reopen_account(account_id uuid) RETURNS billing.accounts
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_account billing.accounts;
begin
    perform billing._lock_balance(reopen_account.account_id);
    update billing.accounts set closed_at = null, updated_at = now()
    where accounts.id = reopen_account.account_id
    returning * into v_account;
    perform billing._allocate_subscriptions_of_account(reopen_account.account_id);
    return v_account;
end
$$;

COMMENT ON FUNCTION billing.reopen_account(account_id uuid) IS 'Reopens a closed account with a balance of 0, plus the paid months of credits that fell due meanwhile.';

CREATE FUNCTION billing.report_arrivals(missing integer, event_id text, type text, created_at timestamp with time zone) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    if report_arrivals.missing = 0 then
        perform billing._end_alerts('events_missing');
    else
        perform billing._open_alert(
            'events_missing', '',
            jsonb_build_object(
                'count', report_arrivals.missing, 'stripe_event_id', report_arrivals.event_id,
                'type', report_arrivals.type, 'created_at', report_arrivals.created_at
            )
        );
    end if;
end
$$;

COMMENT ON FUNCTION billing.report_arrivals(missing integer, event_id text, type text, created_at timestamp with time zone) IS 'Opens or ends the alert that Stripe has events that never arrived.';

CREATE FUNCTION billing.report_worker(stripe_key_error text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    update billing.workers
    set last_seen_at = clock_timestamp(),
        stripe_key_error = report_worker.stripe_key_error,
        stripe_key_failing_since = case
            when report_worker.stripe_key_error is not null then coalesce(workers.stripe_key_failing_since, now())
        end
    where workers.pid = pg_backend_pid();
end
$$;

CREATE FUNCTION billing.requeue_jobs() RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_lost record;
    v_count bigint := 0;
begin
    if not pg_try_advisory_xact_lock(hashtextextended('billing.requeue_jobs', 0)) then
        return 0;
    end if;
    for v_lost in
        select lost.kind, array_agg(lost.id order by lost.id) as ids from billing._lost_jobs() as lost group by lost.kind
    loop
        perform billing._enqueue_jobs(v_lost.kind, v_lost.ids);
        v_count := v_count + cardinality(v_lost.ids);
    end loop;
    return v_count;
end
$$;

COMMENT ON FUNCTION billing.requeue_jobs() IS 'Queues jobs for rows that lost theirs, as after a restore that left the queue out. Returns how many.';

CREATE FUNCTION billing.requeue_stripe_events() RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET enable_nestloop TO 'off'
    AS $$
declare
    v_event_ids text[];
begin
    if not pg_try_advisory_xact_lock(hashtextextended('billing.requeue_stripe_events', 0)) then
        return 0;
    end if;
    v_event_ids := array(
        select stripe_events.stripe_event_id from billing.stripe_events
        where stripe_events.status = 'queued' and not exists (
            select from pgmq.q_stripe_events as message
            where message.message ->> 'event_id' = stripe_events.stripe_event_id
        )
        order by stripe_events.received_at
    );
    if v_event_ids <> '{}' then
        -- A new message counts its reads from zero.
        update billing.stripe_events set excused_attempts = 0
        where stripe_events.stripe_event_id = any (v_event_ids) and stripe_events.excused_attempts > 0;
        perform pgmq.send_batch(
            'stripe_events', array(select jsonb_build_object('event_id', id) from unnest(v_event_ids) as id)
        );
    end if;
    return cardinality(v_event_ids);
end
$$;

COMMENT ON FUNCTION billing.requeue_stripe_events() IS 'Requeues queued events without a message, as after a restore that left the queue out. Returns how many.';

CREATE FUNCTION billing.resolve_fraud_warning(stripe_early_fraud_warning_id text, decision text, notes text, actor text) RETURNS billing.fraud_warnings
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_warning billing.fraud_warnings;
begin
    perform billing._check_reason(resolve_fraud_warning.notes, resolve_fraud_warning.actor);
    if resolve_fraud_warning.decision is null
        or resolve_fraud_warning.decision not in ('resolved', 'dismissed', 'open') then
        raise exception 'unknown decision: %', coalesce(resolve_fraud_warning.decision, 'null')
            using errcode = 'TB073', hint = 'Use resolved, dismissed or open.';
    end if;
    v_warning := billing._warning(resolve_fraud_warning.stripe_early_fraud_warning_id);
    insert into billing.fraud_actions (
        stripe_early_fraud_warning_id, account_id, action, status, reason, actor, decided_at, settled_at
    )
    values (
        v_warning.stripe_early_fraud_warning_id, v_warning.account_id, 'note', 'done',
        format('%s: %s', resolve_fraud_warning.decision, resolve_fraud_warning.notes), resolve_fraud_warning.actor,
        billing.current_time(), billing.current_time()
    );
    update billing.fraud_warnings
    set status = resolve_fraud_warning.decision,
        processed_at = case when resolve_fraud_warning.decision <> 'open' then billing.current_time() end,
        notes = resolve_fraud_warning.notes,
        updated_at = now()
    where fraud_warnings.stripe_early_fraud_warning_id = v_warning.stripe_early_fraud_warning_id
    returning * into v_warning;
    return v_warning;
end
$$;

COMMENT ON FUNCTION billing.resolve_fraud_warning(stripe_early_fraud_warning_id text, decision text, notes text, actor text) IS 'Closes a warning (decision resolved or dismissed), or reopens it (open).';

CREATE FUNCTION billing.retire_payment_links(name text) RETURNS SETOF billing.payment_links
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_ids uuid[] := array(
        select payment_links.id from billing.payment_links
        where payment_links.active and payment_links.livemode = billing.is_livemode()
            and (
                retire_payment_links.name in (payment_links.stripe_payment_link_id, payment_links.stripe_price_id)
                or payment_links.stripe_price_id in (
                    select plans.stripe_price_id from billing.plans where plans.lookup_key = retire_payment_links.name
                    union all
                    select credit_packs.stripe_price_id from billing.credit_packs
                    where credit_packs.lookup_key = retire_payment_links.name
                )
            )
        order by 1
    );
begin
    perform billing._retire_links(v_ids, 'caller');
    return query
    select * from billing.payment_links where payment_links.id = any (v_ids) order by payment_links.created_at;
end
$$;

COMMENT ON FUNCTION billing.retire_payment_links(name text) IS 'Retires the links of a plan or pack, or one by its id; the worker deactivates them in Stripe.';

CREATE FUNCTION billing.retry_job(msg_id bigint, delay_seconds integer, reason text, excused boolean DEFAULT false) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    if billing._end_job(retry_job.msg_id, retry_job.delay_seconds, retry_job.reason) and retry_job.excused then
        update pgmq.q_billing_jobs as message set read_ct = greatest(message.read_ct - 1, 0)
        where message.msg_id = retry_job.msg_id;
    end if;
end
$$;

COMMENT ON FUNCTION billing.retry_job(msg_id bigint, delay_seconds integer, reason text, excused boolean) IS 'Makes a job of the caller due again after delay_seconds.';

CREATE FUNCTION billing.retry_notification(notification_id bigint) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_status text;
begin
    update billing.notifications
    set status = 'queued', attempts = 0, first_attempt_at = null, queued_at = now()
    where notifications.id = retry_notification.notification_id and notifications.status in ('dead', 'skipped');
    if found then
        perform billing._enqueue_jobs(notifications.audience || '_notification', array[notifications.id::text])
        from billing.notifications where notifications.id = retry_notification.notification_id;
    end if;
    select notifications.status into v_status from billing.notifications
    where notifications.id = retry_notification.notification_id;
    if not found then
        raise exception 'there is no notification %', coalesce(retry_notification.notification_id::text, 'null')
            using errcode = 'TB065', hint = 'List them with `till notifications list`.';
    end if;
    return v_status;
end
$$;

COMMENT ON FUNCTION billing.retry_notification(notification_id bigint) IS 'Queues a dead or skipped notification again; any other is unchanged. Returns the status.';

CREATE FUNCTION billing.retry_stripe_event(event_id text) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_status text;
    v_is_ours boolean;
    v_has_body boolean;
begin
    select stripe_events.status, stripe_events.livemode = billing.is_livemode(), stripe_events.payload <> ''
    into v_status, v_is_ours, v_has_body
    from billing.stripe_events
    where stripe_events.stripe_event_id = retry_stripe_event.event_id
    for update;

    if not found then
        raise exception 'there is no event %', retry_stripe_event.event_id
            using errcode = 'TB014', hint = 'List events with `till events list`.';
    elsif v_status not in ('dead', 'parked', 'ignored') or not v_is_ours then
        return v_status;
    elsif not v_has_body then
        raise exception 'the body of event % was deleted after settings.keep_events_days', retry_stripe_event.event_id
            using errcode = 'TB056', hint = 'Grant the paid credits with `till credits grant`.';
    end if;

    update billing.stripe_events
    set status = 'queued', excused_attempts = 0, waiting_for = null, settled_at = null, notified_at = null
    where stripe_events.stripe_event_id = retry_stripe_event.event_id;
    perform pgmq.send('stripe_events', pg_catalog.jsonb_build_object('event_id', retry_stripe_event.event_id));
    return 'queued';
end
$$;

COMMENT ON FUNCTION billing.retry_stripe_event(event_id text) IS 'Requeues a dead, parked or ignored event and leaves any other unchanged. Returns the status.';

CREATE FUNCTION billing.review_held_credits(id bigint, decision text, reason text, actor text) RETURNS billing.held_credits
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_held billing.held_credits;
    v_status text := case review_held_credits.decision when 'approve' then 'approved' when 'refuse' then 'refused' end;
begin
    perform billing._check_reason(review_held_credits.reason, review_held_credits.actor);
    if v_status is null then
        raise exception 'unknown decision: %', coalesce(review_held_credits.decision, 'null')
            using errcode = 'TB034', hint = 'Use approve or refuse.';
    end if;
    select * into v_held from billing.held_credits where held_credits.id = review_held_credits.id;
    if found then
        -- Read again under the lock that every function takes that holds or grants credits.
        perform billing._lock_balance(v_held.account_id);
        select * into v_held from billing.held_credits where held_credits.id = review_held_credits.id;
    end if;
    if not found then
        raise exception 'there are no credits under review with the id %', coalesce(review_held_credits.id::text, 'null')
            using errcode = 'TB035', hint = 'List credits under review with `till credits review list`.';
    elsif v_held.reviewed_at is not null and v_held.status = v_status then
        return v_held;
    elsif v_held.reviewed_at is not null then
        raise exception 'the review % was already decided: % by %', v_held.id, v_held.status, v_held.reviewed_by
            using errcode = 'TB036', hint = 'A decision is final. Grant or revoke credits with `till credits grant` or `till credits revoke`.';
    elsif v_status = 'approved' then
        perform billing._check_open(v_held.account_id);
        perform billing._give_held(v_held, review_held_credits.actor);
        perform billing._post_returned_credits(v_held.stripe_invoice_id) where v_held.stripe_invoice_id is not null;
    end if;

    update billing.held_credits
    set status = v_status,
        reason = review_held_credits.reason,
        reviewed_by = review_held_credits.actor,
        reviewed_at = billing.current_time(),
        updated_at = now()
    where held_credits.id = v_held.id
    returning * into v_held;
    return v_held;
end
$$;

COMMENT ON FUNCTION billing.review_held_credits(id bigint, decision text, reason text, actor text) IS 'Approves or refuses credits under review (decision: approve or refuse), once; repeating the same decision changes nothing. Credits that only the policy refused can still be approved.';

CREATE FUNCTION billing.revoke_grant(grant_id bigint, amount numeric, idempotency_key text, reason text, actor text, shortfall_policy text DEFAULT 'clamp_and_record'::text) RETURNS billing.credit_revocations
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_amount bigint := case when revoke_grant.amount is not null then billing._checked_amount(revoke_grant.amount) end;
    v_lot billing.credit_grants;
    v_revocation billing.credit_revocations;
begin
    perform billing._checked_key(revoke_grant.idempotency_key, '{}');
    perform billing._check_reason(revoke_grant.reason, revoke_grant.actor);
    if revoke_grant.shortfall_policy is null
        or revoke_grant.shortfall_policy not in ('clamp_and_record', 'allow_negative', 'block_future_grants') then
        raise exception 'unknown shortfall_policy: %', coalesce(revoke_grant.shortfall_policy, 'null')
            using errcode = 'TB029', hint = 'Use clamp_and_record, allow_negative or block_future_grants.';
    end if;
    select * into v_lot from billing.credit_grants where credit_grants.id = revoke_grant.grant_id;
    if not found then
        raise exception 'there is no credit grant %', coalesce(revoke_grant.grant_id::text, 'null')
            using errcode = 'TB026', hint = 'Pass the id of a row in billing.credit_grants.';
    end if;
    perform billing._lock_balance(v_lot.account_id);

    select * into v_revocation from billing.credit_revocations
    where credit_revocations.account_id = v_lot.account_id and credit_revocations.key_space = 'caller'
        and credit_revocations.idempotency_key = revoke_grant.idempotency_key;
    if found then
        if (
            v_revocation.grant_id, v_revocation.requested, v_revocation.shortfall_policy, v_revocation.reason,
            v_revocation.actor
        ) is distinct from (
            v_lot.id, coalesce(v_amount, v_revocation.requested), revoke_grant.shortfall_policy, revoke_grant.reason,
            revoke_grant.actor
        ) then
            perform billing._raise_key_reused(revoke_grant.idempotency_key);
        end if;
        return v_revocation;
    end if;
    perform billing._check_key_is_new(v_lot.account_id, revoke_grant.idempotency_key);
    perform billing._check_open(v_lot.account_id);
    return billing._revoke_grant(
        v_lot, v_amount, 'caller', revoke_grant.idempotency_key, revoke_grant.shortfall_policy, revoke_grant.reason,
        revoke_grant.actor
    );
end
$$;

COMMENT ON FUNCTION billing.revoke_grant(grant_id bigint, amount numeric, idempotency_key text, reason text, actor text, shortfall_policy text) IS 'Revokes a lot: all of it (amount null) or a part; shortfall_policy decides about spent credits. A scheduled lot is cancelled.';

CREATE FUNCTION billing.revoke_invitation(account_id uuid, email text) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    perform billing._check_rank((billing._lock_team(revoke_invitation.account_id)).rank, 'member');
    update billing.team_invitations
    set closed_at = billing.current_time(), closed_as = 'revoked'
    where team_invitations.account_id = revoke_invitation.account_id
        and team_invitations.email = lower(btrim(revoke_invitation.email)) and team_invitations.closed_at is null;
    return found;
end
$$;

COMMENT ON FUNCTION billing.revoke_invitation(account_id uuid, email text) IS 'Revokes the open invitation of an address. False if there is none.';

CREATE FUNCTION billing.schedule_credits(account_id uuid, amount numeric, effective_at timestamp with time zone, idempotency_key text, description text DEFAULT NULL::text, source text DEFAULT 'app'::text, reference_id text DEFAULT NULL::text, expires_at timestamp with time zone DEFAULT NULL::timestamp with time zone, priority integer DEFAULT 100) RETURNS billing.credit_grants
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_amount bigint := billing._checked_amount(schedule_credits.amount);
    v_balance billing.credit_balances;
    v_lot billing.credit_grants;
begin
    perform billing._checked_key(schedule_credits.idempotency_key, '{}');
    v_balance := billing._lock_balance(schedule_credits.account_id);

    select * into v_lot from billing.credit_grants
    where credit_grants.account_id = schedule_credits.account_id and credit_grants.key_space = 'caller'
        and credit_grants.idempotency_key = schedule_credits.idempotency_key;
    if found then
        if (
            v_lot.amount, v_lot.effective_at, v_lot.source, v_lot.reference_id, v_lot.description, v_lot.expires_at,
            v_lot.priority
        ) is distinct from (
            v_amount, schedule_credits.effective_at, schedule_credits.source, schedule_credits.reference_id,
            schedule_credits.description, schedule_credits.expires_at, schedule_credits.priority
        ) then
            perform billing._raise_key_reused(schedule_credits.idempotency_key);
        end if;
        return v_lot;
    end if;

    perform billing._check_key_is_new(schedule_credits.account_id, schedule_credits.idempotency_key);
    perform billing._check_open(schedule_credits.account_id);
    if schedule_credits.effective_at is null or schedule_credits.effective_at <= billing.current_time() then
        raise exception 'effective_at % must be in the future', coalesce(schedule_credits.effective_at::text, 'null')
            using errcode = 'TB012', hint = 'To grant credits now, use grant_credits.';
    end if;
    perform billing._check_expiry(schedule_credits.expires_at, schedule_credits.effective_at);
    v_lot := billing._lot(
        account_id => schedule_credits.account_id, entry_id => null, amount => v_amount,
        priority => schedule_credits.priority, effective_at => schedule_credits.effective_at,
        expires_at => schedule_credits.expires_at, source => schedule_credits.source,
        reference_id => schedule_credits.reference_id, description => schedule_credits.description,
        key_space => 'caller', idempotency_key => schedule_credits.idempotency_key
    );
    perform billing._post_entries(v_balance, '{}', array[v_lot]);
    select * into strict v_lot from billing.credit_grants where credit_grants.id = v_lot.id;
    return v_lot;
end
$$;

COMMENT ON FUNCTION billing.schedule_credits(account_id uuid, amount numeric, effective_at timestamp with time zone, idempotency_key text, description text, source text, reference_id text, expires_at timestamp with time zone, priority integer) IS 'Grants credits that open at effective_at, once for each idempotency key, and returns the lot. Cancel it with revoke_grant.';

CREATE FUNCTION billing.set_credit_limits(account_id uuid, overdraft numeric DEFAULT 0, spend_cap numeric DEFAULT NULL::numeric, spend_cap_period text DEFAULT NULL::text, low_balance_threshold numeric DEFAULT NULL::numeric) RETURNS billing.credit_balances
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_balance billing.credit_balances;
    v_last_entry_id bigint;
    v_period_start timestamptz;
    v_spent numeric := 0;
begin
    if (set_credit_limits.spend_cap is null) <> (set_credit_limits.spend_cap_period is null)
        or set_credit_limits.spend_cap_period not in ('day', 'week', 'month') then
        raise exception 'spend_cap and spend_cap_period must be set together'
            using errcode = 'TB031', hint = 'Pass both, with day, week or month as the period. Pass neither for no cap.';
    end if;
    -- A cap also counts what was spent before it was set. Committed spends are added up before the lock is taken, which
    -- would block the account's movements; under the lock only those since then.
    if set_credit_limits.spend_cap is not null then
        select coalesce(max(credit_entries.id), 0) into v_last_entry_id from billing.credit_entries
        where credit_entries.account_id = set_credit_limits.account_id;
        v_period_start := date_trunc(set_credit_limits.spend_cap_period, billing.current_time(), 'UTC');
        v_spent := billing._spent_until(set_credit_limits.account_id, v_period_start, v_last_entry_id);
    end if;
    v_balance := billing._lock_balance(set_credit_limits.account_id);
    if set_credit_limits.spend_cap is not null then
        if v_period_start < date_trunc(set_credit_limits.spend_cap_period, billing.current_time(), 'UTC') then
            -- A new period has started meanwhile.
            v_period_start := date_trunc(set_credit_limits.spend_cap_period, billing.current_time(), 'UTC');
            v_spent := 0;
        end if;
        v_spent := v_spent + billing._spent_after(v_balance.account_id, v_period_start, v_last_entry_id);
    end if;

    update billing.credit_balances
    set overdraft = billing._checked_limit('overdraft', coalesce(set_credit_limits.overdraft, 0)),
        spend_cap = billing._checked_limit('spend_cap', set_credit_limits.spend_cap),
        spend_cap_period = set_credit_limits.spend_cap_period,
        low_balance_threshold = nullif(
            billing._checked_limit('low_balance_threshold', set_credit_limits.low_balance_threshold), 0
        ),
        -- Setting it above the balance notifies nobody, because the balance did not fall.
        is_low = credit_balances.balance - credit_balances.held < coalesce(set_credit_limits.low_balance_threshold, 0),
        spend_period_start = v_period_start,
        spent_in_period = greatest(v_spent, 0)
    where credit_balances.account_id = v_balance.account_id
    returning * into v_balance;
    return v_balance;
end
$$;

COMMENT ON FUNCTION billing.set_credit_limits(account_id uuid, overdraft numeric, spend_cap numeric, spend_cap_period text, low_balance_threshold numeric) IS 'Sets all limits of an account: an omitted one means no overdraft, no cap, no warning.';

CREATE FUNCTION billing.set_member_role(account_id uuid, user_id uuid, role text) RETURNS billing.account_members
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_rank integer := (billing._lock_team(set_member_role.account_id, set_member_role.user_id)).rank;
    v_member billing.account_members;
begin
    v_member := billing._member(set_member_role.account_id, set_member_role.user_id);
    perform billing._check_rank(v_rank, set_member_role.role);
    perform billing._check_rank(v_rank, v_member.role);
    update billing.account_members
    set role = set_member_role.role
    where account_members.account_id = set_member_role.account_id
        and account_members.user_id = set_member_role.user_id
    returning * into v_member;
    if set_member_role.role = 'member' then
        perform billing._revoke_invitations_of(set_member_role.account_id, set_member_role.user_id);
    end if;
    perform billing._check_owner_is_left(set_member_role.account_id);
    perform billing._appoint_owner(set_member_role.account_id);
    return v_member;
end
$$;

COMMENT ON FUNCTION billing.set_member_role(account_id uuid, user_id uuid, role text) IS 'Changes the role of a member. A team keeps at least one owner.';

CREATE TABLE billing.recharge_settings (
    account_id uuid NOT NULL,
    threshold bigint NOT NULL,
    stripe_price_id text NOT NULL,
    monthly_cap_amount bigint,
    monthly_cap_count integer,
    return_url text,
    is_paused boolean DEFAULT false NOT NULL,
    paused_reason text,
    paused_at timestamp with time zone,
    check_again_at timestamp with time zone,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT monthly_cap_amount_is_positive CHECK ((monthly_cap_amount > 0)),
    CONSTRAINT monthly_cap_count_is_positive CHECK ((monthly_cap_count > 0)),
    CONSTRAINT paused_settings_say_why_and_when CHECK (((is_paused = (paused_reason IS NOT NULL)) AND (is_paused = (paused_at IS NOT NULL)))),
    CONSTRAINT threshold_is_positive CHECK ((threshold > 0))
);

COMMENT ON TABLE billing.recharge_settings IS 'What accounts agreed to for auto-recharge.';

COMMENT ON COLUMN billing.recharge_settings.threshold IS 'A pack is bought when fewer credits are available.';

COMMENT ON COLUMN billing.recharge_settings.monthly_cap_amount IS 'The largest amount in a calendar month (UTC), in minor units of the pack''s currency; null: no cap.';

COMMENT ON COLUMN billing.recharge_settings.monthly_cap_count IS 'The largest number of recharges in a calendar month (UTC); null: no cap.';

COMMENT ON COLUMN billing.recharge_settings.return_url IS 'Where the bank''s page sends the customer after an authentication; null: settings.site_url.';

COMMENT ON COLUMN billing.recharge_settings.paused_reason IS 'paused: by the app. Else why the last recharge failed: a Stripe code, or no_customer, no_pack, no_payment_method, no_user, account_closed, no_answer.';

COMMENT ON COLUMN billing.recharge_settings.check_again_at IS 'When the balance is checked again without a movement: the month of the cap is over, or the account may be unfrozen.';

CREATE FUNCTION billing.set_recharge(account_id uuid, threshold numeric, stripe_price_id text, monthly_cap_amount numeric DEFAULT NULL::numeric, monthly_cap_count integer DEFAULT 10, is_paused boolean DEFAULT false, return_url text DEFAULT NULL::text) RETURNS billing.recharge_settings
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
declare
    v_settings billing.recharge_settings;
begin
    perform billing._lock_balance(set_recharge.account_id);
    perform billing._check_open(set_recharge.account_id);
    if not coalesce(set_recharge.threshold between 1 and 1000000000000000, false)
        or set_recharge.threshold <> trunc(set_recharge.threshold) then
        raise exception 'threshold is %, not a whole number of credits from 1 to 1000000000000000',
            coalesce(set_recharge.threshold::text, 'null')
            using errcode = 'TB005', hint = 'Pass credits as a whole number. To stop recharges, pass is_paused => true.';
    elsif set_recharge.monthly_cap_amount not between 1 and 1000000000000000
        or set_recharge.monthly_cap_amount <> trunc(set_recharge.monthly_cap_amount)
        or set_recharge.monthly_cap_count < 1 then
        raise exception 'a monthly cap must be a whole number of at least 1'
            using errcode = 'TB052',
            hint = 'monthly_cap_amount is in minor units of the pack''s currency, monthly_cap_count a number of recharges; null is no cap.';
    elsif set_recharge.return_url !~ '^https?://[^[:space:]]+$' then
        raise exception 'return_url is not a valid URL'
            using errcode = 'TB053', hint = 'Pass an https address of your app, or leave it out.';
    elsif not coalesce(set_recharge.is_paused, false) and exists (
        select from billing.credit_packs
        where credit_packs.stripe_price_id = set_recharge.stripe_price_id and credit_packs.credits_per_unit is not null
    ) then
        raise exception 'the customer chooses the amount of price %: auto-recharge needs a pack with a fixed amount',
            set_recharge.stripe_price_id
            using errcode = 'TB050', hint = 'Use the stripe_price_id of a credit pack that has a unit_amount.';
    elsif not exists (
        select from billing.credit_packs
        join billing.products on products.stripe_product_id = credit_packs.stripe_product_id
        where credit_packs.stripe_price_id = set_recharge.stripe_price_id and (
            set_recharge.is_paused
            or credit_packs.active and products.active and credit_packs.unit_amount > 0
            and credit_packs.livemode = billing.is_livemode()
        )
    ) then
        raise exception 'price % is not a credit pack on sale', coalesce(set_recharge.stripe_price_id, 'null')
            using errcode = 'TB050', hint = 'Use the stripe_price_id of an active row of billing.credit_packs with a fixed price.';
    elsif not coalesce(set_recharge.is_paused, false)
        and billing._customer_of(set_recharge.account_id, billing.is_livemode()) is null then
        raise exception 'account % has no Stripe customer', set_recharge.account_id
            using errcode = 'TB051', hint = 'Link a customer with billing.link_customer(account_id, stripe_customer_id), and save a card for it.';
    end if;

    insert into billing.recharge_settings as held (
        account_id, threshold, stripe_price_id, monthly_cap_amount, monthly_cap_count, return_url, is_paused,
        paused_reason, paused_at
    )
    values (
        set_recharge.account_id, set_recharge.threshold::bigint, set_recharge.stripe_price_id,
        set_recharge.monthly_cap_amount::bigint, set_recharge.monthly_cap_count, set_recharge.return_url,
        coalesce(set_recharge.is_paused, false), case when set_recharge.is_paused then 'paused' end,
        case when set_recharge.is_paused then billing.current_time() end
    )
    on conflict on constraint recharge_settings_pkey do update
    set threshold = excluded.threshold, stripe_price_id = excluded.stripe_price_id,
        monthly_cap_amount = excluded.monthly_cap_amount, monthly_cap_count = excluded.monthly_cap_count,
        return_url = excluded.return_url, is_paused = excluded.is_paused, paused_reason = excluded.paused_reason,
        paused_at = excluded.paused_at, check_again_at = null, updated_at = now()
    returning * into v_settings;
    -- Enabling it again fails recharges that wait for an authentication. If one is paid later, it is still granted.
    if not v_settings.is_paused then
        update billing.recharges
        set status = 'failed', settled_at = billing.current_time(), updated_at = now()
        where recharges.account_id = v_settings.account_id and recharges.status = 'requires_action';
    end if;
    perform billing._arm_recharge(v_settings.account_id);
    return v_settings;
end
$_$;

COMMENT ON FUNCTION billing.set_recharge(account_id uuid, threshold numeric, stripe_price_id text, monthly_cap_amount numeric, monthly_cap_count integer, is_paused boolean, return_url text) IS 'Agrees to buy a credit pack with the customer''s default payment method whenever fewer credits than threshold are available; what is left out is no cap by amount, ten recharges a month, not paused. Calling it again changes it, and ends a pause.';

CREATE FUNCTION billing.settle_stripe_events(msg_ids bigint[], event_ids text[], statuses text[], reasons text[], waiting_for text[]) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_stripe_id text;
begin
    for v_stripe_id in select distinct id from unnest(settle_stripe_events.waiting_for) as id where id is not null order by id
    loop
        perform billing._lock_arrival(v_stripe_id);
    end loop;

    -- Another worker may have ended it meanwhile: an applied event stays applied.
    update billing.stripe_events
    set status = case
            when outcome.status in ('parked', 'dead')
                and billing._dismissal(stripe_events.payload, outcome.waiting_for) is not null
            then 'ignored'
            else outcome.status
        end,
        attempts = stripe_events.attempts + 1,
        last_error = coalesce(
            case when outcome.status in ('parked', 'dead') then
                billing._dismissal(stripe_events.payload, outcome.waiting_for)
            end,
            outcome.reason
        ),
        waiting_for = outcome.waiting_for,
        settled_at = now()
    from unnest(
        settle_stripe_events.event_ids, settle_stripe_events.statuses, settle_stripe_events.reasons,
        settle_stripe_events.waiting_for
    ) as outcome (stripe_event_id, status, reason, waiting_for)
    where stripe_events.stripe_event_id = outcome.stripe_event_id
        and (stripe_events.status = 'queued' or outcome.status = 'applied');

    perform pgmq.archive('stripe_events', settle_stripe_events.msg_ids);
    delete from billing.stripe_lookups where stripe_lookups.stripe_event_id = any (settle_stripe_events.event_ids);

    perform billing._retry_events_waiting_for(id)
    from (select distinct id from unnest(settle_stripe_events.waiting_for) as id where id is not null) as awaited
    where billing._has_arrived(awaited.id);
end
$$;

CREATE FUNCTION billing.settled_balance(balance billing.credit_balances) RETURNS billing.credit_balances
    LANGUAGE plpgsql STABLE STRICT
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_now timestamptz := billing.current_time();
    v_balance numeric := (settled_balance.balance).balance;
    v_debt bigint := (settled_balance.balance).debt;
    v_withheld bigint := (settled_balance.balance).withheld;
    v_available numeric;
    v_settled billing.credit_balances := settled_balance.balance;
    v_lot record;
    v_repaid bigint;
    v_kept_back bigint;
begin
    -- Due holds are released, debt takes its part in the order of spending, then due lots expire.
    with given_back as (
        select pins.grant_id, sum(pins.amount) as amount from billing.credit_holds as holds
        join billing.credit_hold_lots as pins on pins.hold_id = holds.id
        where holds.account_id = (settled_balance.balance).account_id and holds.status = 'held'
            and holds.expires_at <= v_now
        group by pins.grant_id
    ),
    free as (
        select
            lots.expires_at, lots.remaining - lots.held + coalesce(given_back.amount, 0) as amount,
            sum(lots.remaining - lots.held + coalesce(given_back.amount, 0)) over (
                order by lots.priority, lots.expires_at, lots.id
            ) as upper
        from billing.credit_grants as lots
        left join given_back on given_back.grant_id = lots.id
        where lots.account_id = (settled_balance.balance).account_id and lots.closed_at is null
    )
    select
        greatest(v_debt - coalesce(sum(free.amount), 0), 0),
        coalesce(sum(least(free.amount, greatest(free.upper - v_debt, 0))) filter (
            where (free.expires_at > v_now) is not false
        ), 0)
    into v_debt, v_available
    from free;
    v_available := v_available - v_debt;
    for v_lot in
        select lots.amount, lots.expires_at from billing.credit_grants as lots
        where lots.account_id = (settled_balance.balance).account_id and lots.entry_id is null
            and lots.closed_at is null and lots.effective_at <= v_now
        order by lots.effective_at, lots.id
    loop
        continue when v_balance + v_lot.amount > 9223372036854775807;
        v_repaid := least(v_debt, v_lot.amount);
        v_kept_back := least(v_withheld, v_lot.amount - v_repaid);
        v_debt := v_debt - v_repaid;
        v_withheld := v_withheld - v_kept_back;
        v_balance := v_balance + v_lot.amount - v_kept_back;
        v_available := v_available + v_lot.amount - v_kept_back;
        if v_lot.expires_at <= v_now then
            v_available := v_available - (v_lot.amount - v_repaid - v_kept_back);
        end if;
    end loop;
    v_settled.held := v_settled.held - coalesce((
        select sum(pins.amount) from billing.credit_holds as holds
        join billing.credit_hold_lots as pins on pins.hold_id = holds.id
        where holds.account_id = v_settled.account_id and holds.status = 'held' and holds.expires_at <= v_now
    ), 0);
    v_settled.balance := v_available + v_settled.held;
    return v_settled;
end
$$;

COMMENT ON FUNCTION billing.settled_balance(balance billing.credit_balances) IS 'An account''s balance with everything that is due released, opened and expired.';

CREATE FUNCTION billing.skip_notifications() RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    perform billing._skip_notifications(null);
end
$$;

COMMENT ON FUNCTION billing.skip_notifications() IS 'Ends notifications that customers must not receive: their kind is not enabled, or settings.notification_deadline has passed.';

CREATE FUNCTION billing.spend_credits(account_id uuid, amount numeric, idempotency_key text, description text DEFAULT NULL::text, metadata jsonb DEFAULT '{}'::jsonb, feature text DEFAULT NULL::text, reference_id text DEFAULT NULL::text, up_to boolean DEFAULT false) RETURNS billing.credit_entries
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    AS $$
declare
    v_amount bigint := billing._checked_amount(spend_credits.amount);
    v_key text := billing._checked_key(spend_credits.idempotency_key, spend_credits.metadata);
    v_now timestamptz;
    v_entry billing.credit_entries;
    v_left bigint;
    v_due_at timestamptz;
    v_lot_id bigint;
begin
    -- The plain case, the common one: one statement locks, checks and moves the balance. Whether anything is due is
    -- checked afterwards, with the time at which the lock is held.
    update billing.credit_balances
    set balance = credit_balances.balance - v_amount, updated_at = now(),
        epoch = credit_balances.epoch + (random() < 0.02)::integer
    where uuid_hash(credit_balances.account_id) = uuid_hash(spend_credits.account_id)
        and credit_balances.account_id is not distinct from spend_credits.account_id
        -- From this epoch on: it may be incremented while this statement waits for the lock.
        and credit_balances.epoch >= (
            select newest.epoch from billing.credit_balances as newest
            where uuid_hash(newest.account_id) = uuid_hash(spend_credits.account_id)
                and newest.account_id is not distinct from spend_credits.account_id
            order by newest.epoch desc
            limit 1
        )
        and not spend_credits.up_to and credit_balances.may_spend and credit_balances.spend_cap is null
        and v_amount <= credit_balances.balance - credit_balances.held
    returning credit_balances.balance, credit_balances.next_due_at into v_left, v_due_at;
    if found then
        v_now := billing.current_time();
        insert into billing.credit_entries (
            account_id, kind, amount, balance_after, source, reference_id, description, feature, metadata, key_space,
            idempotency_key, occurred_at
        )
        select
            spend_credits.account_id, 'spend', -v_amount, v_left, 'app', spend_credits.reference_id,
            spend_credits.description, spend_credits.feature, spend_credits.metadata, 'caller', v_key, v_now
        where (v_due_at > v_now) is not false
        on conflict do nothing
        returning * into v_entry;
        if found then
            -- The first lot usually has enough.
            update billing.credit_grants
            set remaining = credit_grants.remaining - v_amount, epoch = credit_grants.epoch + (random() < 0.02)::integer
            where credit_grants.remaining - credit_grants.held > v_amount and credit_grants.ctid = (
                select lots.ctid from billing.credit_grants as lots
                where lots.account_id = spend_credits.account_id and lots.closed_at is null
                    and lots.remaining > lots.held
                order by lots.priority, lots.expires_at, lots.id, lots.epoch desc
                limit 1
            )
            returning credit_grants.id into v_lot_id;
            if found then
                insert into billing.credit_consumptions (entry_id, grant_id, amount)
                values (v_entry.id, v_lot_id, v_amount);
            else
                perform billing._burn_lots(array[v_entry], '{}', v_amount);
            end if;
            return v_entry;
        end if;
        -- The key was used before, or something is due first.
        update billing.credit_balances set balance = credit_balances.balance + v_amount
        where credit_balances.account_id = spend_credits.account_id;
    end if;
    return billing._spend_judged(
        spend_credits.account_id, v_amount, v_key, spend_credits.description, spend_credits.metadata,
        spend_credits.feature, spend_credits.reference_id, spend_credits.up_to
    );
end
$$;

COMMENT ON FUNCTION billing.spend_credits(account_id uuid, amount numeric, idempotency_key text, description text, metadata jsonb, feature text, reference_id text, up_to boolean) IS 'Spends credits of an account, once for each idempotency key, and returns the entry. Fails below zero (TB001) and while frozen (TB003); with up_to it spends at most the available credits. Call it inside your own transaction.';

CREATE FUNCTION billing.spend_credits_batch(spends jsonb) RETURNS SETOF billing.credit_entries
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
declare
    v_account_id uuid;
    v_key text;
    v_new jsonb;
    v_repeated boolean;
    v_balance billing.credit_balances;
begin
    if jsonb_typeof(spend_credits_batch.spends) is distinct from 'array'
        or jsonb_path_exists(spend_credits_batch.spends, 'strict $[*] ? (@.type() != "object")') then
        raise exception 'spends must be an array of objects'
            using errcode = 'TB023',
            hint = 'Pass [{"account_id": …, "amount": …, "idempotency_key": …}, …], with the parameters of spend_credits.';
    end if;
    -- Otherwise a misspelt name would be ignored silently, and the spend would differ from what was meant.
    select name into v_key
    from jsonb_array_elements(spend_credits_batch.spends) as spend, jsonb_object_keys(spend) as name
    where name not in (
        'account_id', 'amount', 'idempotency_key', 'description', 'metadata', 'feature', 'reference_id'
    )
    limit 1;
    if found then
        raise exception 'a spend of the batch has the unknown field %', v_key
            using errcode = 'TB023', hint = 'Allowed fields: account_id, amount, idempotency_key, description, metadata, feature, reference_id.';
    end if;
    perform billing._checked_key(spend.idempotency_key, coalesce(spend.metadata, '{}')),
        billing._checked_amount(spend.amount)
    from jsonb_to_recordset(spend_credits_batch.spends) as spend (amount numeric, idempotency_key text, metadata jsonb);

    for v_account_id in
        select distinct spend.account_id from jsonb_to_recordset(spend_credits_batch.spends) as spend (account_id uuid)
        order by spend.account_id
    loop
        perform billing._lock_balance(v_account_id);

        select
            jsonb_agg(asked.spend order by asked.position),
            count(held.id) > 0 or count(distinct asked.spend ->> 'idempotency_key') < count(*)
        into v_new, v_repeated
        from jsonb_array_elements(spend_credits_batch.spends) with ordinality as asked (spend, position)
        left join lateral (
            select credit_entries.id from billing.credit_entries
            where credit_entries.account_id = v_account_id and credit_entries.key_space = 'caller'
                and credit_entries.idempotency_key = asked.spend ->> 'idempotency_key'
            limit 1
        ) as held on true
        where (asked.spend ->> 'account_id')::uuid = v_account_id;
        if v_repeated then
            v_new := billing._without_repeats(v_account_id, v_new);
        end if;
        if v_new is not null then
            v_balance := billing._lock_settled_balance(v_account_id);
            perform billing._check_may_spend(v_account_id);
            perform billing._post_spends(v_balance, array_agg(billing._entry(
                account_id => v_account_id, kind => 'spend', amount => -spend.amount::bigint, source => 'app',
                reference_id => spend.reference_id, description => spend.description, feature => spend.feature,
                metadata => coalesce(spend.metadata, '{}'), key_space => 'caller',
                idempotency_key => spend.idempotency_key, occurred_at => billing.current_time()
            )))
            from jsonb_to_recordset(v_new) as spend (
                amount numeric, idempotency_key text, description text, metadata jsonb, feature text, reference_id text
            );
        end if;
    end loop;

    return query
    select found.*
    from jsonb_array_elements(spend_credits_batch.spends) with ordinality as asked (spend, position)
    cross join lateral (
        select * from billing.credit_entries
        where credit_entries.account_id = (asked.spend ->> 'account_id')::uuid and credit_entries.key_space = 'caller'
            and credit_entries.idempotency_key = asked.spend ->> 'idempotency_key'
        limit 1
    ) as found
    order by asked.position;
end
$_$;

COMMENT ON FUNCTION billing.spend_credits_batch(spends jsonb) IS 'Spends for many jobs in one call, all or none: [{account_id, amount, idempotency_key, description, metadata, feature, reference_id}, …]. Returns the entries in the same order; a used key returns its first entry.';

CREATE FUNCTION billing.start_backfill(grant_current_period boolean DEFAULT false, restart boolean DEFAULT false) RETURNS TABLE(credits_since timestamp with time zone, grants_current_period boolean)
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_before billing.settings;
begin
    select * into strict v_before from billing.settings for update;
    credits_since := date_trunc('second', coalesce(v_before.credits_since, (
        select least(
            min(stripe_events.received_at),
            -- What waits is applied later. It reports what was paid a moment before Stripe made the event.
            min(stripe_events.created_at) filter (where stripe_events.status in ('queued', 'parked', 'dead'))
                - interval '1 minute'
        )
        from billing.stripe_events
        where not stripe_events.stripe_event_id ^@ 'till_' and stripe_events.status <> 'ignored'
    ), billing.current_time()));
    grants_current_period := v_before.grants_current_period or start_backfill.grant_current_period;
    update billing.settings
    set credits_since = start_backfill.credits_since, grants_current_period = start_backfill.grants_current_period,
        updated_at = now();
    if start_backfill.restart then
        delete from billing.backfilled_lists;
    end if;
    -- Also if it was wanted before: a payment that was being recorded at that moment may not have seen it.
    if grants_current_period then
        update billing.credit_schedules as schedules
        set counts_from = start_backfill.credits_since, offsets_only = false,
            next_slot_at = case when not schedules.gives_back then schedules.period_start end
        where schedules.counts_from = 'infinity' and schedules.period_end > start_backfill.credits_since;
        update billing.credit_schedules as schedules
        set offsets_only = false, counts_from = greatest(schedules.counts_from, credited.counts_from)
        from billing.credit_schedules as credited
        where schedules.offsets_only and credited.stripe_line_id = schedules.credited_line_id
            and credited.counts_from < 'infinity';
    end if;
    return next;
end
$$;

COMMENT ON FUNCTION billing.start_backfill(grant_current_period boolean, restart boolean) IS 'Sets settings.credits_since if it is not set, and grants_current_period if wanted. Returns both.';

CREATE FUNCTION billing.start_worker() RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    perform billing._create_queue();
    perform billing._create_job_queue();
    perform billing._hand_back(workers) from billing.workers where workers.pid = pg_backend_pid();
    insert into billing.workers (pid) values (pg_backend_pid());
    perform pg_advisory_lock(billing._lock_of_workers(), pg_backend_pid());
    perform billing.hand_back_stripe_events();
end
$$;

CREATE FUNCTION billing.stripe_account() RETURNS TABLE(stripe_account_id text, livemode boolean, witness_event_id text)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select settings.stripe_account_id, settings.livemode, (
        select stripe_events.stripe_event_id from billing.stripe_events
        where stripe_events.livemode = settings.livemode and stripe_events.received_at > now() - interval '25 days'
            and stripe_events.status <> 'ignored' and stripe_events.payload <> ''
            and not stripe_events.stripe_event_id ^@ 'till_'
            and stripe_events.payload !~ '"(account|context)"\s*:\s*"'
        order by stripe_events.received_at desc
        limit 1
    )
    from billing.settings
$$;

COMMENT ON FUNCTION billing.stripe_account() IS 'What a Stripe key must match: account, mode, and an event of the account.';

CREATE FUNCTION billing.sync_checkout_session(stripe_checkout_session_id text, stripe_customer_id text, livemode boolean, mode text, status text, payment_status text, client_reference_id text, stripe_subscription_id text, stripe_invoice_id text, stripe_payment_intent_id text, stripe_payment_link_id text, currency text, amount_total bigint, opened_at timestamp with time zone, lines jsonb, as_of timestamp with time zone) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_session billing.checkout_sessions;
begin
    if sync_checkout_session.stripe_payment_link_id is not null and sync_checkout_session.status = 'complete' then
        perform billing._attribute_payment(
            sync_checkout_session.stripe_checkout_session_id, sync_checkout_session.stripe_payment_link_id,
            sync_checkout_session.stripe_customer_id, sync_checkout_session.client_reference_id,
            sync_checkout_session.livemode, sync_checkout_session.opened_at
        );
    end if;
    insert into billing.checkout_sessions as held (
        stripe_checkout_session_id, stripe_customer_id, account_id, livemode, mode, status, payment_status,
        client_reference_id, stripe_subscription_id, stripe_invoice_id, stripe_payment_intent_id,
        stripe_payment_link_id, currency, amount_total, opened_at, completed_at, as_of
    )
    values (
        sync_checkout_session.stripe_checkout_session_id, sync_checkout_session.stripe_customer_id,
        billing._account_of_customer(sync_checkout_session.stripe_customer_id, sync_checkout_session.livemode),
        sync_checkout_session.livemode, sync_checkout_session.mode, sync_checkout_session.status,
        sync_checkout_session.payment_status, sync_checkout_session.client_reference_id,
        sync_checkout_session.stripe_subscription_id, sync_checkout_session.stripe_invoice_id,
        sync_checkout_session.stripe_payment_intent_id, sync_checkout_session.stripe_payment_link_id,
        sync_checkout_session.currency, sync_checkout_session.amount_total, sync_checkout_session.opened_at,
        case when sync_checkout_session.status = 'complete' then sync_checkout_session.as_of end,
        sync_checkout_session.as_of
    )
    on conflict on constraint checkout_sessions_pkey do update
    -- Completing a session may create its customer.
    set stripe_customer_id = coalesce(held.stripe_customer_id, excluded.stripe_customer_id),
        account_id = coalesce(held.account_id, excluded.account_id),
        status = excluded.status,
        payment_status = excluded.payment_status,
        stripe_subscription_id = coalesce(excluded.stripe_subscription_id, held.stripe_subscription_id),
        stripe_invoice_id = coalesce(excluded.stripe_invoice_id, held.stripe_invoice_id),
        stripe_payment_intent_id = coalesce(excluded.stripe_payment_intent_id, held.stripe_payment_intent_id),
        amount_total = coalesce(excluded.amount_total, held.amount_total),
        -- The earliest reported time, whichever event came first.
        completed_at = least(held.completed_at, excluded.completed_at),
        as_of = greatest(held.as_of, excluded.as_of),
        updated_at = now()
    -- A session only moves forward: it ends once and is paid once. A session with nothing to pay may still become paid;
    -- a paid one stays paid.
    where (held.status = 'open' or held.status = excluded.status)
        and (held.payment_status = 'unpaid' or held.payment_status = excluded.payment_status or held.status = 'open')
    returning * into v_session;

    if not found then
        return 'stale';
    elsif v_session.mode = 'payment' and v_session.status = 'complete' and sync_checkout_session.lines is not null then
        insert into billing.checkout_line_items (
            stripe_line_item_id, stripe_checkout_session_id, stripe_price_id, quantity, amount_total, declares_credits
        )
        select
            line.stripe_line_item_id, v_session.stripe_checkout_session_id, line.stripe_price_id, line.quantity,
            line.amount_total, line.declares_credits
        from jsonb_to_recordset(sync_checkout_session.lines) as line (
            stripe_line_item_id text, stripe_price_id text, quantity bigint, amount_total bigint,
            declares_credits boolean
        )
        on conflict do nothing;
        if v_session.payment_status <> 'unpaid' then
            perform billing._purchase_packs_of_session(v_session);
        end if;
        perform billing._settle_session(v_session.stripe_payment_intent_id)
        where v_session.stripe_payment_intent_id is not null;
    end if;
    return 'applied';
end
$$;

CREATE FUNCTION billing.sync_credit_note(stripe_credit_note_id text, stripe_invoice_id text, livemode boolean, status text, currency text, amount bigint, amount_refunded bigint, reason text, noted_at timestamp with time zone, lines jsonb, stripe_refund_ids text[], pre_payment_amount bigint, as_of timestamp with time zone) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    insert into billing.credit_notes as held (
        stripe_credit_note_id, stripe_invoice_id, livemode, status, currency, amount, amount_refunded,
        pre_payment_amount, stripe_refund_ids, reason, noted_at, as_of
    )
    values (
        sync_credit_note.stripe_credit_note_id, sync_credit_note.stripe_invoice_id, sync_credit_note.livemode,
        sync_credit_note.status, sync_credit_note.currency, sync_credit_note.amount, sync_credit_note.amount_refunded,
        sync_credit_note.pre_payment_amount, coalesce(sync_credit_note.stripe_refund_ids, '{}'),
        sync_credit_note.reason, sync_credit_note.noted_at, sync_credit_note.as_of
    )
    on conflict on constraint credit_notes_pkey do update
    set status = excluded.status,
        amount_refunded = greatest(held.amount_refunded, excluded.amount_refunded),
        -- Refunds are only ever added.
        stripe_refund_ids = array(
            select refund_id from unnest(held.stripe_refund_ids || excluded.stripe_refund_ids) as refund_id
            group by refund_id order by refund_id
        ),
        as_of = greatest(held.as_of, excluded.as_of),
        updated_at = now()
    where held.status = 'issued';
    if not found then
        return 'stale';
    end if;
    insert into billing.credit_note_lines (stripe_credit_note_id, number, stripe_line_id, amount)
    select sync_credit_note.stripe_credit_note_id, line.number, line.item ->> 'stripe_line_id', (line.item ->> 'amount')::bigint
    from jsonb_array_elements(sync_credit_note.lines) with ordinality as line (item, number)
    on conflict do nothing;
    perform billing._apply_returns_of_invoice(sync_credit_note.stripe_invoice_id);
    return 'applied';
end
$$;

CREATE FUNCTION billing.sync_customer(stripe_customer_id text, livemode boolean, email text, name text, is_deleted boolean, as_of timestamp with time zone) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_held billing.customers;
begin
    insert into billing.customers as held (stripe_customer_id, livemode, email, name, deleted_at, as_of)
    values (
        sync_customer.stripe_customer_id, sync_customer.livemode, sync_customer.email, sync_customer.name,
        case when sync_customer.is_deleted then sync_customer.as_of end, sync_customer.as_of
    )
    on conflict on constraint customers_stripe_customer_id_key do update
    set email = case
            when held.as_of > excluded.as_of then held.email
            when sync_customer.is_deleted then coalesce(excluded.email, held.email)
            else excluded.email
        end,
        name = case
            when held.as_of > excluded.as_of then held.name
            when sync_customer.is_deleted then coalesce(excluded.name, held.name)
            else excluded.name
        end,
        deleted_at = least(held.deleted_at, excluded.deleted_at),
        as_of = greatest(held.as_of, excluded.as_of),
        updated_at = now()
    -- Deletion is final, also within one second, and its time is that of the earliest report.
    where held.as_of < excluded.as_of or excluded.deleted_at < coalesce(held.deleted_at, 'infinity');

    if not found then
        select * into strict v_held from billing.customers
        where customers.stripe_customer_id = sync_customer.stripe_customer_id;
        return case
            when sync_customer.is_deleted then 'stale'  -- it is already deleted
            else billing._refused(v_held.as_of, sync_customer.as_of)
        end;
    elsif sync_customer.is_deleted then
        perform billing._allocate_subscriptions_of(sync_customer.stripe_customer_id);
    end if;
    return 'applied';
end
$$;

COMMENT ON FUNCTION billing.sync_customer(stripe_customer_id text, livemode boolean, email text, name text, is_deleted boolean, as_of timestamp with time zone) IS 'Stores the state of a Stripe customer at a point in time. Returns applied, stale or refetch.';

CREATE FUNCTION billing.sync_dispute(stripe_dispute_id text, stripe_charge_id text, stripe_payment_intent_id text, livemode boolean, status text, currency text, amount bigint, reason text, evidence_due_at timestamp with time zone, disputed_at timestamp with time zone, as_of timestamp with time zone) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_before text;
    v_dispute billing.disputes;
begin
    if billing._dispute_rank(sync_dispute.status) is null then
        raise exception 'dispute % has the unknown status %', sync_dispute.stripe_dispute_id, sync_dispute.status
            using errcode = 'TB071', hint = 'Upgrade Tillbase, then retry the event.';
    end if;
    perform billing._lock_arrival(sync_dispute.stripe_dispute_id);
    select disputes.status into v_before from billing.disputes
    where disputes.stripe_dispute_id = sync_dispute.stripe_dispute_id;
    insert into billing.disputes as held (
        stripe_dispute_id, stripe_charge_id, stripe_payment_intent_id, livemode, status, currency, amount, reason,
        evidence_due_at, disputed_at, as_of
    )
    values (
        sync_dispute.stripe_dispute_id, sync_dispute.stripe_charge_id, sync_dispute.stripe_payment_intent_id,
        sync_dispute.livemode, sync_dispute.status, sync_dispute.currency, sync_dispute.amount, sync_dispute.reason,
        sync_dispute.evidence_due_at, sync_dispute.disputed_at, sync_dispute.as_of
    )
    on conflict on constraint disputes_pkey do update
    set status = excluded.status,
        amount = excluded.amount,
        reason = excluded.reason,
        evidence_due_at = excluded.evidence_due_at,
        as_of = greatest(held.as_of, excluded.as_of),
        updated_at = now()
    where (billing._dispute_rank(held.status), held.as_of) < (billing._dispute_rank(excluded.status), excluded.as_of)
        or held.status in ('appeal_needs_response', 'appeal_under_review') and excluded.status = 'lost'
        and held.as_of < excluded.as_of
    returning * into v_dispute;
    if not found then
        return 'stale';
    end if;
    perform billing._apply_returns_of_payment(v_dispute.stripe_payment_intent_id, v_dispute.stripe_charge_id);
    if v_before is distinct from v_dispute.status then
        perform billing._tell_of_dispute(v_dispute, v_before);
    end if;
    return 'applied';
end
$$;

CREATE FUNCTION billing.sync_invoice(stripe_invoice_id text, stripe_customer_id text, stripe_subscription_id text, livemode boolean, status text, billing_reason text, collection_method text, currency text, subtotal bigint, total bigint, amount_due bigint, amount_paid bigint, attempt_count integer, next_payment_attempt_at timestamp with time zone, hosted_invoice_url text, invoiced_at timestamp with time zone, paid_at timestamp with time zone, lines jsonb, as_of timestamp with time zone) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
declare
    v_invoice billing.invoices;
begin
    insert into billing.invoices as held (
        stripe_invoice_id, stripe_customer_id, account_id, stripe_subscription_id, livemode, status, billing_reason,
        collection_method, currency, subtotal, total, amount_due, amount_paid, attempt_count, next_payment_attempt_at,
        hosted_invoice_url, invoiced_at, paid_at, as_of
    )
    values (
        sync_invoice.stripe_invoice_id, sync_invoice.stripe_customer_id,
        billing._account_of_customer(sync_invoice.stripe_customer_id, sync_invoice.livemode),
        -- An invoice may name no subscription although its line belongs to one.
        coalesce(sync_invoice.stripe_subscription_id, sync_invoice.lines -> 0 ->> 'stripe_subscription_id'),
        sync_invoice.livemode, sync_invoice.status, sync_invoice.billing_reason,
        sync_invoice.collection_method, sync_invoice.currency, sync_invoice.subtotal, sync_invoice.total, sync_invoice.amount_due,
        sync_invoice.amount_paid, sync_invoice.attempt_count, sync_invoice.next_payment_attempt_at,
        sync_invoice.hosted_invoice_url, sync_invoice.invoiced_at, sync_invoice.paid_at, sync_invoice.as_of
    )
    on conflict on constraint invoices_pkey do update
    set status = excluded.status,
        billing_reason = excluded.billing_reason,
        collection_method = excluded.collection_method,
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
    -- An invoice only moves forward, so its own fields tell which of two states is newer, also within one second.
    where (billing._invoice_rank(held.status), held.attempt_count, held.as_of)
        <= (billing._invoice_rank(excluded.status), excluded.attempt_count, excluded.as_of)
    returning * into v_invoice;

    if not found then
        return 'stale';
    elsif v_invoice.status = 'paid' then
        perform billing._record_lines(v_invoice, sync_invoice.lines);
        if v_invoice.stripe_subscription_id is not null then
            perform billing._allocate_subscription(v_invoice.stripe_subscription_id, null, v_invoice);
        end if;
        -- Packs are lines without a subscription item.
        if sync_invoice.lines @? '$[*] ? (!exists(@.stripe_subscription_item_id) || @.stripe_subscription_item_id == null)' then
            perform billing._purchase_packs_of_invoice(v_invoice);
        end if;
        perform billing._apply_returns_of_invoice(v_invoice.stripe_invoice_id);
    elsif exists (
        select from billing.invoice_lines where invoice_lines.credited_invoice_id = v_invoice.stripe_invoice_id
    ) then
        perform billing._allocate_subscription(v_invoice.stripe_subscription_id, null, v_invoice);
    end if;
    return 'applied';
end
$_$;

CREATE FUNCTION billing.sync_invoice_payment(stripe_invoice_payment_id text, stripe_invoice_id text, stripe_payment_intent_id text, stripe_charge_id text, livemode boolean, status text, currency text, amount_paid bigint, paid_at timestamp with time zone) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    insert into billing.invoice_payments as held (
        stripe_invoice_payment_id, stripe_invoice_id, stripe_payment_intent_id, stripe_charge_id, status, amount_paid
    )
    values (
        coalesce(sync_invoice_payment.stripe_invoice_payment_id, sync_invoice_payment.stripe_invoice_id),
        sync_invoice_payment.stripe_invoice_id, sync_invoice_payment.stripe_payment_intent_id,
        sync_invoice_payment.stripe_charge_id, sync_invoice_payment.status, sync_invoice_payment.amount_paid
    )
    on conflict on constraint invoice_payments_pkey do update
    set status = excluded.status, amount_paid = excluded.amount_paid
    where held.status = 'open';
    if found and sync_invoice_payment.status = 'paid' then
        perform billing._apply_returns_of_payment(
            sync_invoice_payment.stripe_payment_intent_id, sync_invoice_payment.stripe_charge_id
        );
        -- A warning that arrived earlier: the subscription that its charge paid for is known now.
        perform billing._act_on_warning(fraud_warnings) from billing.fraud_warnings
        where fraud_warnings.status = 'open' and (
            fraud_warnings.stripe_payment_intent_id = sync_invoice_payment.stripe_payment_intent_id
            or fraud_warnings.stripe_charge_id = sync_invoice_payment.stripe_charge_id
        );
    end if;
    return 'applied';
end
$$;

CREATE FUNCTION billing.sync_payment(stripe_charge_id text, stripe_payment_intent_id text, stripe_customer_id text, livemode boolean, status text, currency text, amount bigint, amount_refunded bigint, is_disputed boolean, risk_level text, risk_score integer, is_liability_shifted boolean, card_fingerprint text, failure_code text, receipt_url text, charged_at timestamp with time zone, as_of timestamp with time zone) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_payment billing.payments;
    v_as_of timestamptz;
begin
    insert into billing.payments as held (
        stripe_charge_id, stripe_payment_intent_id, stripe_customer_id, account_id, livemode, status, currency,
        amount, amount_refunded, is_disputed, risk_level, risk_score, is_liability_shifted, card_fingerprint,
        failure_code, receipt_url, charged_at, as_of
    )
    values (
        sync_payment.stripe_charge_id, sync_payment.stripe_payment_intent_id, sync_payment.stripe_customer_id,
        billing._account_of_customer(sync_payment.stripe_customer_id, sync_payment.livemode), sync_payment.livemode,
        sync_payment.status, sync_payment.currency, sync_payment.amount, sync_payment.amount_refunded,
        sync_payment.is_disputed, sync_payment.risk_level, sync_payment.risk_score, sync_payment.is_liability_shifted,
        sync_payment.card_fingerprint, sync_payment.failure_code, sync_payment.receipt_url, sync_payment.charged_at,
        sync_payment.as_of
    )
    on conflict on constraint payments_pkey do update
    set status = excluded.status,
        amount = excluded.amount,
        amount_refunded = excluded.amount_refunded,
        is_disputed = excluded.is_disputed,
        risk_level = excluded.risk_level,
        risk_score = excluded.risk_score,
        is_liability_shifted = excluded.is_liability_shifted,
        card_fingerprint = excluded.card_fingerprint,
        failure_code = excluded.failure_code,
        receipt_url = excluded.receipt_url,
        as_of = excluded.as_of,
        updated_at = now()
    where held.as_of < excluded.as_of
    returning * into v_payment;

    if not found then
        select payments.as_of into strict v_as_of from billing.payments
        where payments.stripe_charge_id = sync_payment.stripe_charge_id;
        return billing._refused(v_as_of, sync_payment.as_of);
    end if;
    -- A declined card proves nothing about its owner: somebody may have tried a stolen number.
    if v_payment.card_fingerprint is not null and v_payment.stripe_customer_id is not null
        and v_payment.status <> 'failed' then
        perform billing._record_card(
            v_payment.stripe_customer_id, v_payment.account_id, v_payment.card_fingerprint, v_payment.charged_at
        );
    end if;
    -- Refunds and disputes that were recorded before the charge may have named either of its ids.
    if v_payment.amount_refunded > 0 or v_payment.is_disputed or exists (
        select from billing.refunds
        where refunds.stripe_charge_id = v_payment.stripe_charge_id
            or refunds.stripe_payment_intent_id = v_payment.stripe_payment_intent_id
    ) or exists (
        select from billing.disputes
        where disputes.stripe_charge_id = v_payment.stripe_charge_id
            or disputes.stripe_payment_intent_id = v_payment.stripe_payment_intent_id
    ) then
        perform billing._apply_returns_of_payment(v_payment.stripe_payment_intent_id, v_payment.stripe_charge_id);
    end if;
    return 'applied';
end
$$;

CREATE FUNCTION billing.sync_payment_intent(stripe_payment_intent_id text, stripe_customer_id text, stripe_charge_id text, stripe_payment_method_id text, livemode boolean, status text, currency text, amount bigint, amount_received bigint, failure_code text, metadata jsonb, created_at timestamp with time zone, as_of timestamp with time zone) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_recharge billing.recharges;
    v_is_known boolean;
begin
    select * into v_recharge from billing.recharges
    where recharges.stripe_payment_intent_id = sync_payment_intent.stripe_payment_intent_id;
    if not found then
        -- Stripe's event can arrive before its answer, or the answer is lost. Customer, amount and currency must be equal.
        select * into v_recharge from billing.recharges
        where recharges.idempotency_key = sync_payment_intent.metadata ->> 'recharge_id';
    end if;
    if v_recharge.id is null then
        perform billing._pay_session(sync_payment_intent.stripe_payment_intent_id, sync_payment_intent.amount_received)
        where sync_payment_intent.status = 'succeeded' and sync_payment_intent.amount_received > 0;
        return 'applied';
    end if;
    v_recharge := billing._lock_recharge(v_recharge.id);
    v_is_known := coalesce(v_recharge.stripe_payment_intent_id = sync_payment_intent.stripe_payment_intent_id, false);
    if (v_recharge.stripe_customer_id, v_recharge.amount, v_recharge.currency) is distinct from
        (sync_payment_intent.stripe_customer_id, sync_payment_intent.amount, sync_payment_intent.currency)
        or v_recharge.stripe_payment_intent_id is not null and not v_is_known
        or v_recharge.status = 'paid'
    then
        return 'applied';
    end if;

    if sync_payment_intent.status = 'succeeded' then
        if sync_payment_intent.amount_received >= v_recharge.amount then
            perform billing._pay_recharge(v_recharge, sync_payment_intent.stripe_payment_intent_id);
        end if;
    -- The worker records an immediate decline itself, with the intent's id.
    elsif v_is_known and (
        sync_payment_intent.status = 'canceled' and v_recharge.status in ('charging', 'requires_action')
        or sync_payment_intent.status = 'requires_payment_method' and v_recharge.status = 'charging'
    ) then
        v_recharge.status := 'failed';
        v_recharge.reason := coalesce(sync_payment_intent.failure_code, sync_payment_intent.status);
        v_recharge.action_url := null;
        perform billing._stop_recharge(v_recharge, 'customer');
    end if;
    return 'applied';
end
$$;

COMMENT ON FUNCTION billing.sync_payment_intent(stripe_payment_intent_id text, stripe_customer_id text, stripe_charge_id text, stripe_payment_method_id text, livemode boolean, status text, currency text, amount bigint, amount_received bigint, failure_code text, metadata jsonb, created_at timestamp with time zone, as_of timestamp with time zone) IS 'A Stripe payment intent: where it is a recharge''s, what became of that. Always applied.';

CREATE FUNCTION billing.sync_payment_link(stripe_payment_link_id text, livemode boolean, active boolean, url text, token uuid) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    if exists (
        select from billing.payment_links
        where payment_links.id = sync_payment_link.token and payment_links.livemode = sync_payment_link.livemode
    ) then
        perform billing._note_payment_link(
            sync_payment_link.token, sync_payment_link.stripe_payment_link_id, sync_payment_link.url
        );
    end if;
    if not sync_payment_link.active then
        update billing.payment_links
        set active = false, retired_at = coalesce(payment_links.retired_at, now()),
            retired_reason = coalesce(payment_links.retired_reason, 'stripe'), deactivate_at = null,
            deactivated_at = coalesce(payment_links.deactivated_at, now()), updated_at = now()
        where payment_links.stripe_payment_link_id = sync_payment_link.stripe_payment_link_id
            and payment_links.deactivated_at is null;
    end if;
    return 'applied';
end
$$;

COMMENT ON FUNCTION billing.sync_payment_link(stripe_payment_link_id text, livemode boolean, active boolean, url text, token uuid) IS 'Stores the state of a Payment Link in Stripe; links that we did not create are ignored.';

CREATE FUNCTION billing.sync_price(stripe_price_id text, stripe_product_id text, livemode boolean, active boolean, type text, lookup_key text, nickname text, currency text, unit_amount bigint, has_custom_amount boolean, recurring_interval text, recurring_interval_count integer, usage_type text, metadata jsonb, as_of timestamp with time zone) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_as_of timestamptz;
begin
    perform billing._lock_arrival(sync_price.stripe_price_id);
    insert into billing.products (stripe_product_id, livemode, name)
    values (sync_price.stripe_product_id, sync_price.livemode, sync_price.stripe_product_id)
    on conflict do nothing;
    -- The product's declaration is read below: this lock makes a concurrent update of it visible, or makes it wait.
    perform from billing.products where products.stripe_product_id = sync_price.stripe_product_id for no key update;

    if sync_price.type = 'one_time' then
        return billing._sync_one_time_price(row(
            sync_price.stripe_price_id, sync_price.stripe_product_id, sync_price.livemode, sync_price.active,
            sync_price.lookup_key, sync_price.nickname, sync_price.currency, sync_price.unit_amount,
            sync_price.has_custom_amount, sync_price.metadata, sync_price.as_of
        ));
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
        if sync_price.as_of < v_as_of then
            perform billing._record_late_terms(sync_price.stripe_price_id, sync_price.metadata, null, sync_price.as_of);
        end if;
        return billing._refused(v_as_of, sync_price.as_of);
    end if;

    perform billing._resolve_plan(sync_price.stripe_price_id);
    perform billing._allocate_trials(sync_price.stripe_price_id);
    perform billing._retry_events_waiting_for(sync_price.stripe_price_id);
    return 'applied';
end
$$;

COMMENT ON FUNCTION billing.sync_price(stripe_price_id text, stripe_product_id text, livemode boolean, active boolean, type text, lookup_key text, nickname text, currency text, unit_amount bigint, has_custom_amount boolean, recurring_interval text, recurring_interval_count integer, usage_type text, metadata jsonb, as_of timestamp with time zone) IS 'Stores the state of a Stripe price at a point in time, as a plan or a credit pack. Returns applied, stale or refetch.';

CREATE FUNCTION billing.sync_product(stripe_product_id text, livemode boolean, name text, description text, active boolean, metadata jsonb, as_of timestamp with time zone) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_as_of timestamptz;
    v_known_as_of timestamptz;
begin
    perform billing._lock_arrival(sync_product.stripe_product_id);
    select products.as_of into v_known_as_of from billing.products
    where products.stripe_product_id = sync_product.stripe_product_id;
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
        perform billing._record_late_terms(plans.stripe_price_id, null, sync_product.metadata, sync_product.as_of)
        from billing.plans
        where plans.stripe_product_id = sync_product.stripe_product_id and sync_product.as_of < v_as_of;
        return billing._refused(v_as_of, sync_product.as_of);
    end if;

    perform billing._resolve_plan(plans.stripe_price_id) from billing.plans
    where plans.stripe_product_id = sync_product.stripe_product_id;
    perform billing._allocate_trials(plans.stripe_price_id) from billing.plans
    where plans.stripe_product_id = sync_product.stripe_product_id;
    perform billing._resolve_packs(
        sync_product.stripe_product_id,
        case when v_known_as_of > '-infinity' then sync_product.as_of else '-infinity' end
    );
    perform billing._retry_events_waiting_for(sync_product.stripe_product_id);
    return 'applied';
end
$$;

COMMENT ON FUNCTION billing.sync_product(stripe_product_id text, livemode boolean, name text, description text, active boolean, metadata jsonb, as_of timestamp with time zone) IS 'Stores the state of a Stripe product at a point in time. Returns applied, stale or refetch.';

CREATE FUNCTION billing.sync_refund(stripe_refund_id text, stripe_charge_id text, stripe_payment_intent_id text, status text, currency text, amount bigint, reason text, failure_reason text, refunded_at timestamp with time zone, as_of timestamp with time zone) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    insert into billing.refunds as held (
        stripe_refund_id, stripe_charge_id, stripe_payment_intent_id, status, currency, amount, reason, failure_reason,
        refunded_at, as_of
    )
    values (
        sync_refund.stripe_refund_id, sync_refund.stripe_charge_id, sync_refund.stripe_payment_intent_id,
        sync_refund.status, sync_refund.currency, sync_refund.amount, sync_refund.reason, sync_refund.failure_reason,
        sync_refund.refunded_at, sync_refund.as_of
    )
    on conflict on constraint refunds_pkey do update
    set status = excluded.status,
        reason = excluded.reason,
        failure_reason = excluded.failure_reason,
        as_of = greatest(held.as_of, excluded.as_of),
        updated_at = now()
    where billing._refund_rank(held.status) < billing._refund_rank(excluded.status);
    if not found then
        return 'stale';
    end if;
    perform billing._apply_returns_of_payment(sync_refund.stripe_payment_intent_id, sync_refund.stripe_charge_id);
    perform billing._lock_arrival(sync_refund.stripe_refund_id);
    perform billing._fail_refund_action(sync_refund.stripe_refund_id);
    -- Refunds from before this installation are not news.
    if sync_refund.status = 'succeeded' and sync_refund.refunded_at >= coalesce(
        (select settings.credits_since from billing.settings), '-infinity'
    ) then
        insert into billing.notifications (account_id, audience, kind, dedupe_key, payload)
        select
            (
                select payments.account_id from billing.payments
                where payments.stripe_charge_id = sync_refund.stripe_charge_id
            ),
            'administrators', 'refund_applied', 'refund_applied:' || sync_refund.stripe_refund_id,
            jsonb_build_object(
                'stripe_refund_id', sync_refund.stripe_refund_id, 'stripe_charge_id', sync_refund.stripe_charge_id,
                'amount', sync_refund.amount, 'currency', sync_refund.currency, 'reason', sync_refund.reason
            )
        on conflict (dedupe_key) do nothing;
    end if;
    return 'applied';
end
$$;

CREATE FUNCTION billing.sync_review(stripe_review_id text, stripe_charge_id text, stripe_payment_intent_id text, livemode boolean, is_open boolean, reason text, closed_reason text, opened_at timestamp with time zone, as_of timestamp with time zone) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_review billing.reviews;
begin
    insert into billing.reviews as held (
        stripe_review_id, stripe_charge_id, stripe_payment_intent_id, account_id, livemode, is_open, reason,
        closed_reason, opened_at, as_of
    )
    values (
        sync_review.stripe_review_id, sync_review.stripe_charge_id, sync_review.stripe_payment_intent_id,
        (
            select payments.account_id from billing.payments
            where payments.stripe_charge_id = sync_review.stripe_charge_id
                or payments.stripe_payment_intent_id = sync_review.stripe_payment_intent_id
            order by payments.charged_at desc
            limit 1
        ),
        sync_review.livemode, sync_review.is_open, sync_review.reason, sync_review.closed_reason,
        sync_review.opened_at, sync_review.as_of
    )
    -- A closed review stays closed.
    on conflict on constraint reviews_pkey do update
    set is_open = excluded.is_open, reason = excluded.reason, closed_reason = excluded.closed_reason,
        account_id = coalesce(held.account_id, excluded.account_id), as_of = excluded.as_of, updated_at = now()
    where held.is_open and not excluded.is_open
    returning * into v_review;
    if not found then
        return 'stale';
    elsif v_review.is_open then
        insert into billing.notifications (account_id, audience, kind, dedupe_key, payload)
        values (
            v_review.account_id, 'administrators', 'review_opened', 'review_opened:' || v_review.stripe_review_id,
            jsonb_build_object(
                'stripe_review_id', v_review.stripe_review_id, 'stripe_charge_id', v_review.stripe_charge_id,
                'reason', v_review.reason
            )
        )
        on conflict (dedupe_key) do nothing;
    end if;
    return 'applied';
end
$$;

CREATE FUNCTION billing.sync_subscription(stripe_subscription_id text, stripe_customer_id text, livemode boolean, status text, currency text, billing_cycle_anchor timestamp with time zone, cancel_at timestamp with time zone, cancel_at_period_end boolean, canceled_at timestamp with time zone, ended_at timestamp with time zone, trial_start timestamp with time zone, trial_end timestamp with time zone, is_collection_paused boolean, metadata jsonb, started_at timestamp with time zone, stripe_test_clock_id text, items jsonb, as_of timestamp with time zone, is_fetched boolean) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_as_of timestamptz;
begin
    if sync_subscription.status = 'trialing' then
        perform billing._record_trial(
            sync_subscription.stripe_subscription_id, sync_subscription.items, sync_subscription.as_of
        );
    end if;
    insert into billing.subscriptions as held (
        stripe_subscription_id, stripe_customer_id, account_id, livemode, status, currency, billing_cycle_anchor, anchors,
        cancel_at, cancel_at_period_end, canceled_at, ended_at, trial_start, trial_end, is_collection_paused,
        metadata, started_at, stripe_test_clock_id, as_of
    )
    values (
        sync_subscription.stripe_subscription_id, sync_subscription.stripe_customer_id,
        billing._account_of_customer(sync_subscription.stripe_customer_id, sync_subscription.livemode),
        sync_subscription.livemode, sync_subscription.status, sync_subscription.currency,
        sync_subscription.billing_cycle_anchor, array[sync_subscription.billing_cycle_anchor],
        sync_subscription.cancel_at, sync_subscription.cancel_at_period_end,
        sync_subscription.canceled_at, sync_subscription.ended_at, sync_subscription.trial_start,
        sync_subscription.trial_end, sync_subscription.is_collection_paused, sync_subscription.metadata,
        sync_subscription.started_at, sync_subscription.stripe_test_clock_id, sync_subscription.as_of
    )
    on conflict on constraint subscriptions_pkey do update
    set status = excluded.status,
        currency = excluded.currency,
        billing_cycle_anchor = excluded.billing_cycle_anchor,
        anchors = case
            when excluded.billing_cycle_anchor = any (held.anchors) then held.anchors
            else held.anchors || excluded.billing_cycle_anchor
        end,
        cancel_at = excluded.cancel_at,
        cancel_at_period_end = excluded.cancel_at_period_end,
        canceled_at = excluded.canceled_at,
        ended_at = excluded.ended_at,
        trial_start = excluded.trial_start,
        trial_end = excluded.trial_end,
        is_collection_paused = excluded.is_collection_paused,
        metadata = excluded.metadata,
        as_of = excluded.as_of,
        updated_at = now()
    where held.as_of < excluded.as_of
        and (
            sync_subscription.is_fetched
            or (held.status not in ('canceled', 'incomplete_expired') or held.status = excluded.status)
            and not billing._is_a_step_back(held, excluded, sync_subscription.items)
        );

    if not found then
        select subscriptions.as_of into strict v_as_of from billing.subscriptions
        where subscriptions.stripe_subscription_id = sync_subscription.stripe_subscription_id;
        perform billing._record_older_state(
            sync_subscription.stripe_subscription_id, sync_subscription.billing_cycle_anchor, sync_subscription.status
        );
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
        updated_at = now();

    delete from billing.subscription_items
    where subscription_items.stripe_subscription_id = sync_subscription.stripe_subscription_id
        and not exists (
            select from jsonb_array_elements(sync_subscription.items) as item
            where item ->> 'stripe_subscription_item_id' = subscription_items.stripe_subscription_item_id
        );
    perform billing._allocate_subscription(sync_subscription.stripe_subscription_id);
    return 'applied';
end
$$;

COMMENT ON FUNCTION billing.sync_subscription(stripe_subscription_id text, stripe_customer_id text, livemode boolean, status text, currency text, billing_cycle_anchor timestamp with time zone, cancel_at timestamp with time zone, cancel_at_period_end boolean, canceled_at timestamp with time zone, ended_at timestamp with time zone, trial_start timestamp with time zone, trial_end timestamp with time zone, is_collection_paused boolean, metadata jsonb, started_at timestamp with time zone, stripe_test_clock_id text, items jsonb, as_of timestamp with time zone, is_fetched boolean) IS 'Stores the state of a Stripe subscription at a point in time. Returns applied, stale or refetch.';

CREATE FUNCTION billing.sync_test_clock(stripe_test_clock_id text, livemode boolean, frozen_at timestamp with time zone) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    insert into billing.test_clocks as held (stripe_test_clock_id, frozen_at)
    select sync_test_clock.stripe_test_clock_id, sync_test_clock.frozen_at
    where not sync_test_clock.livemode
    on conflict on constraint test_clocks_pkey do update set frozen_at = excluded.frozen_at
    where held.frozen_at < excluded.frozen_at;
    if not found then
        return 'stale';
    end if;
    perform billing._allocate_subscription(subscriptions.stripe_subscription_id) from billing.subscriptions
    where subscriptions.stripe_test_clock_id = sync_test_clock.stripe_test_clock_id
    order by subscriptions.account_id, subscriptions.stripe_subscription_id;
    return 'applied';
end
$$;

COMMENT ON FUNCTION billing.sync_test_clock(stripe_test_clock_id text, livemode boolean, frozen_at timestamp with time zone) IS 'A Stripe test clock has advanced to a time. Returns applied or stale.';

CREATE FUNCTION billing.take_jobs(kinds text[], jobs_max integer[], lease_seconds integer) RETURNS TABLE(msg_id bigint, kind text, id text, attempts integer)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_msg_ids bigint[];
begin
    v_msg_ids := array(
        select queued.msg_id from unnest(take_jobs.kinds, take_jobs.jobs_max) as wanted (kind, jobs_max)
        cross join lateral (
            select message.msg_id from pgmq.q_billing_jobs as message
            -- A comparison of rows, which only the index by kind can answer; pgmq's own index has the jobs of all kinds.
            where (message.message ->> 'kind', message.vt) >= (wanted.kind, '-infinity')
                and (message.message ->> 'kind', message.vt) <= (wanted.kind, now())
            order by message.message ->> 'kind', message.vt
            limit wanted.jobs_max
            for update skip locked
        ) as queued
    );
    if v_msg_ids = '{}' then
        return;
    end if;
    return query
    with taken as (
        update pgmq.q_billing_jobs as message
        set vt = clock_timestamp() + make_interval(secs => take_jobs.lease_seconds), read_ct = message.read_ct + 1,
            headers = jsonb_build_object('worker_pid', pg_backend_pid())
        where message.msg_id = any (v_msg_ids)
        returning message.msg_id, message.message, message.read_ct
    )
    select taken.msg_id, taken.message ->> 'kind', taken.message ->> 'id', taken.read_ct
    from taken
    order by taken.msg_id;
end
$$;

COMMENT ON FUNCTION billing.take_jobs(kinds text[], jobs_max integer[], lease_seconds integer) IS 'Jobs of these kinds that are due, up to jobs_max of each, taken by the caller for lease_seconds.';

CREATE FUNCTION billing.take_stripe_lookups(lookups_max integer, lease_seconds integer) RETURNS TABLE(msg_id bigint, read_ct integer, attempts integer, stripe_event_id text, type text, api_version text, created_at timestamp with time zone, payload text, received_at timestamp with time zone, tie_kind text, tie_stripe_id text)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_event_ids text[];
begin
    with due as materialized (
        select lookups.stripe_event_id from billing.stripe_lookups as lookups
        where lookups.next_attempt_at <= now()
        order by lookups.next_attempt_at
        limit take_stripe_lookups.lookups_max
        for update skip locked
    ),
    taken as (
        update billing.stripe_lookups as lookups
        set attempts = lookups.attempts + 1, worker_pid = pg_backend_pid(),
            next_attempt_at = now() + make_interval(secs => take_stripe_lookups.lease_seconds)
        from due
        where lookups.stripe_event_id = due.stripe_event_id
        returning lookups.stripe_event_id
    )
    select array_agg(taken.stripe_event_id) into v_event_ids from taken;
    if v_event_ids is null then
        return;
    end if;

    delete from billing.stripe_lookups as lookups
    where lookups.stripe_event_id = any (v_event_ids) and not (
        exists (
            select from pgmq.q_stripe_events as message
            where message.msg_id = lookups.msg_id and message.message ->> 'event_id' = lookups.stripe_event_id
        )
        and exists (
            select from billing.stripe_events as event
            where event.stripe_event_id = lookups.stripe_event_id and event.status = 'queued'
        )
    );

    return query
    select
        lookups.msg_id, lookups.attempts, lookups.attempts - lookups.excused_attempts, event.stripe_event_id, event.type,
        event.api_version, event.created_at, event.payload, event.received_at, lookups.tie_kind, lookups.tie_stripe_id
    from billing.stripe_lookups as lookups
    join billing.stripe_events as event on event.stripe_event_id = lookups.stripe_event_id
    where lookups.stripe_event_id = any (v_event_ids)
    order by lookups.msg_id;
end
$$;

CREATE FUNCTION billing.take_unknown_jobs(kinds text[], delay_seconds integer) RETURNS TABLE(msg_id bigint, kind text, id text)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    return query
    update pgmq.q_billing_jobs as message
    set vt = clock_timestamp() + make_interval(secs => take_unknown_jobs.delay_seconds), read_ct = message.read_ct + 1,
        headers = jsonb_build_object('reason', 'the worker knows no such kind of job')
    where message.vt <= now() and coalesce(message.message ->> 'kind', '') <> all (take_unknown_jobs.kinds)
    returning message.msg_id, message.message ->> 'kind', message.message ->> 'id';
end
$$;

COMMENT ON FUNCTION billing.take_unknown_jobs(kinds text[], delay_seconds integer) IS 'Jobs that are due and of none of these kinds; they stay in the queue and are due again after delay_seconds.';

CREATE FUNCTION billing.team_members(account_id uuid) RETURNS TABLE(user_id uuid, email text, role text, created_at timestamp with time zone)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select account_members.user_id, users.email::text, account_members.role, account_members.created_at
    from billing.account_members
    join auth.users on users.id = account_members.user_id
    where account_members.account_id = team_members.account_id
        and (
            billing._sees_every_account()
            or account_members.account_id = any (array(select billing.my_account_ids()))
        )
    order by billing._rank(account_members.role) desc, account_members.created_at, users.email
$$;

COMMENT ON FUNCTION billing.team_members(account_id uuid) IS 'The members of a team with their e-mail addresses, for its members and your server.';

CREATE FUNCTION billing.tg_account_members__appoint_owner() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET lock_timeout TO '1s'
    AS $$
begin
    perform billing._appoint_owner(old.account_id);
    return null;
exception when others then
    raise warning 'could not appoint another owner of team %: %', old.account_id, sqlerrm;
    return null;
end
$$;

CREATE FUNCTION billing.tg_account_members__member_deleted() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    perform billing._report_if_deleted(old.user_id, old.account_id);
    return null;
end
$$;

CREATE FUNCTION billing.tg_accounts__follow_owner() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET lock_timeout TO '1s'
    AS $$
begin
    perform billing._follow_email(customers.stripe_customer_id, before.email, after.email)
    from billing.customers
    join auth.users as before on before.id = old.owner_id
    join auth.users as after on after.id = new.owner_id
    where customers.account_id = new.id and customers.stripe_customer_id is not null and customers.deleted_at is null
        and customers.livemode = billing.is_livemode() and after.email <> ''
        and after.email is distinct from before.email
    order by customers.stripe_customer_id;
    return null;
exception when others then
    raise warning 'could not queue the new owner''s e-mail address of account % for Stripe: %', new.id, sqlerrm;
    return null;
end
$$;

CREATE FUNCTION billing.tg_accounts__may_spend() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    update billing.credit_balances set may_spend = new.frozen_at is null and new.closed_at is null
    where credit_balances.account_id = new.id;
    return null;
end
$$;

CREATE FUNCTION billing.tg_accounts__open_balance() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    insert into billing.credit_balances (account_id) values (new.id);
    return null;
end
$$;

CREATE FUNCTION billing.tg_accounts__owner_deleted() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    perform billing._report_if_deleted(old.owner_id, old.id);
    return null;
end
$$;

CREATE FUNCTION billing.tg_accounts__pause_recharge() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    perform billing._pause_recharge(new.id, 'no_user');
    return null;
end
$$;

CREATE FUNCTION billing.tg_checkout_sessions__receipt() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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

CREATE FUNCTION billing.tg_clock__local_only() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    if not exists (select from pg_catalog.pg_roles where rolname = session_user and rolsuper) then
        raise exception 'the clock can only be moved in a local stack'
            using errcode = 'TB013', hint = 'Use Stripe test clocks with `till dev`.';
    end if;
    return null;
end
$$;

CREATE FUNCTION billing.tg_credit_balance__refuse() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    raise exception using
        errcode = 'insufficient_privilege',
        message = 'credit_balance is read-only',
        hint = 'To change a balance, call grant_credits, spend_credits or adjust_credits.';
end
$$;

CREATE FUNCTION billing.tg_credit_balances__low_balance() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_balance billing.credit_balances;
begin
    update billing.credit_balances
    set is_low = credit_balances.balance - credit_balances.held < credit_balances.low_balance_threshold
    where credit_balances.account_id = new.account_id
        and credit_balances.is_low is distinct from
            (credit_balances.balance - credit_balances.held < credit_balances.low_balance_threshold)
        and credit_balances.low_balance_threshold is not null
    returning * into v_balance;
    if v_balance.is_low then
        insert into billing.notifications (account_id, audience, kind, dedupe_key, payload)
        values (
            v_balance.account_id, 'customer', 'low_balance',
            pg_catalog.format('low_balance:%s:%s', v_balance.account_id, pg_current_xact_id()),
            jsonb_build_object(
                'available', greatest(v_balance.balance - v_balance.held, 0),
                'threshold', v_balance.low_balance_threshold
            )
        )
        on conflict (dedupe_key) do nothing;
    end if;
    return null;
end
$$;

CREATE FUNCTION billing.tg_credit_balances__recharge() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    update billing.credit_balances set recharge_below = null
    where credit_balances.account_id = new.account_id
        and credit_balances.balance - credit_balances.held < credit_balances.recharge_below;
    if found then
        perform billing._claim_recharge(new.account_id);
    end if;
    return null;
end
$$;

CREATE FUNCTION billing.tg_credit_balances__sound() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    -- Null (no cap, no threshold) violates no rule.
    if least(new.held, new.debt, new.withheld, new.carried, new.written_off_debt, new.written_off_withheld, new.overdraft, new.spend_cap, new.low_balance_threshold) < 0 then
        perform billing._raise_unsound(tg_table_name, 'only_the_balance_is_negative');
    elsif (new.spend_cap is null) <> (new.spend_cap_period is null)
        or new.spend_cap_period not in ('day', 'week', 'month') then
        perform billing._raise_unsound(tg_table_name, 'spend_cap_comes_with_its_period');
    end if;
    return new;
end
$$;

CREATE FUNCTION billing.tg_credit_entries__erased() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_erased billing.credit_entries := old;
begin
    v_erased.description := null;
    v_erased.metadata := '{}';
    if new.actor = 'erased' then
        v_erased.actor := 'erased';
    end if;
    if new is distinct from v_erased
        or not exists (select from billing.erasures where erasures.account_id = old.account_id) then
        raise exception 'update refused: credit_entries is append-only'
            using errcode = 'TB015', hint = 'Correct a mistake with a new entry, such as a revocation or a refund.';
    end if;
    return new;
end
$$;

CREATE FUNCTION billing.tg_credit_entries__sound() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    if (
        case
            when new.kind in ('grant', 'reinstatement', 'refund', 'transfer_in') then new.amount <= 0
            when new.kind = 'adjustment' then new.amount = 0
            when new.kind = 'repayment' then new.amount <> 0
            else new.amount >= 0
        end
    ) then
        perform billing._raise_unsound(tg_table_name, 'amount_has_the_sign_of_its_kind');
    end if;
    return new;
end
$$;

CREATE FUNCTION billing.tg_credit_grants__sound() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    if new.held < 0 or new.held > new.remaining or new.remaining > new.amount then
        perform billing._raise_unsound(tg_table_name, 'held_remaining_and_amount_ascend');
    elsif new.remaining <> 0 and (new.entry_id is null or new.closed_at is not null) then
        perform billing._raise_unsound(tg_table_name, 'only_open_lots_hold_credits');
    elsif new.expires_at <= new.effective_at then
        perform billing._raise_unsound(tg_table_name, 'expires_after_it_takes_effect');
    end if;
    return new;
end
$$;

CREATE FUNCTION billing.tg_credit_packs__arrive() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    perform billing._lock_arrival(new.stripe_price_id);
    perform billing._retry_events_waiting_for(new.stripe_price_id);
    return null;
end
$$;

CREATE FUNCTION billing.tg_credit_packs__purchase_since() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    update billing.invoice_lines set is_waiting = false
    where invoice_lines.stripe_price_id = new.stripe_price_id and invoice_lines.is_waiting
        and invoice_lines.stripe_subscription_item_id is null;
    perform billing._purchase_packs_of_invoice(invoices) from billing.invoices
    where invoices.status = 'paid' and coalesce(invoices.paid_at, invoices.as_of) >= new.declared_from
        and invoices.stripe_invoice_id in (
            select invoice_lines.stripe_invoice_id from billing.invoice_lines
            where invoice_lines.stripe_price_id = new.stripe_price_id
                and invoice_lines.stripe_subscription_item_id is null
        )
    order by invoices.account_id, invoices.stripe_invoice_id;
    perform billing._purchase_packs_of_session(sessions) from billing.checkout_sessions as sessions
    where sessions.mode = 'payment' and sessions.status = 'complete' and sessions.payment_status <> 'unpaid'
        and sessions.completed_at >= new.declared_from
        and sessions.stripe_checkout_session_id in (
            select items.stripe_checkout_session_id from billing.checkout_line_items as items
            where items.stripe_price_id = new.stripe_price_id
        )
    order by sessions.account_id, sessions.stripe_checkout_session_id;
    return null;
end
$$;

CREATE FUNCTION billing.tg_credit_terms__allocate() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_before billing.credit_terms;
    v_from timestamptz := new.valid_from;
    v_subscription_id text;
begin
    select * into v_before from billing.credit_terms
    where credit_terms.stripe_price_id = new.stripe_price_id and credit_terms.valid_from < new.valid_from
    order by credit_terms.valid_from desc
    limit 1;
    if not found then
        -- The earliest terms also apply before their start, as the later ones did until now.
        v_from := '-infinity';
        select * into v_before from billing.credit_terms
        where credit_terms.stripe_price_id = new.stripe_price_id and credit_terms.valid_from > new.valid_from
        order by credit_terms.valid_from
        limit 1;
    end if;
    v_before.valid_from := new.valid_from;
    if not found or v_before is not distinct from new then
        return null;
    end if;
    for v_subscription_id in
        select distinct schedules.stripe_subscription_id from billing.credit_schedules as schedules
        where schedules.stripe_price_id = new.stripe_price_id and schedules.period_end > v_from
            -- The first month of a line is granted as soon as it is paid.
            and (
                schedules.period_start >= v_from
                or billing._first_slot(schedules.anchor, v_from) <= billing.current_time()
            )
        order by 1
    loop
        perform billing._allocate_subscription(v_subscription_id, v_from);
    end loop;
    return null;
end
$$;

CREATE FUNCTION billing.tg_fraud_actions__enqueue() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    perform billing._enqueue_jobs('fraud_action', array[new.id::text]);
    return null;
end
$$;

CREATE FUNCTION billing.tg_invoices__payment_failed() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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

CREATE FUNCTION billing.tg_invoices__receipt() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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

CREATE FUNCTION billing.tg_ledger__append_only() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    raise exception '% refused: % is append-only', lower(tg_op), tg_table_name
        using errcode = 'TB015', hint = 'Correct a mistake with a new entry, such as a revocation or a refund.';
end
$$;

CREATE FUNCTION billing.tg_money__meet() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_intent_id text;
begin
    perform billing._lock_arrival('charge:' || new.stripe_charge_id);
    select payments.stripe_payment_intent_id into v_intent_id from billing.payments
    where payments.stripe_charge_id = new.stripe_charge_id;
    if tg_table_name = 'payments' then
        perform billing._date_purchases(new.stripe_payment_intent_id);
    end if;
    if v_intent_id is not null and (
        exists (
            select from billing.refunds
            where refunds.stripe_charge_id = new.stripe_charge_id and refunds.stripe_payment_intent_id is null
        ) or exists (
            select from billing.disputes
            where disputes.stripe_charge_id = new.stripe_charge_id and disputes.stripe_payment_intent_id is null
        )
    ) then
        perform billing._apply_returns_of_payment(v_intent_id, new.stripe_charge_id);
    end if;
    return null;
end
$$;

CREATE FUNCTION billing.tg_notifications__enqueue() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    perform billing._enqueue_jobs(queued.audience || '_notification', queued.ids)
    from (
        select added.audience, array_agg(added.id::text order by added.id) as ids from added
        where added.status = 'queued'
        group by added.audience
    ) as queued;
    return null;
end
$$;

CREATE FUNCTION billing.tg_one_time_prices__end_waiting() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    update billing.invoice_lines set is_waiting = false
    where invoice_lines.stripe_price_id = new.stripe_price_id and invoice_lines.is_waiting
        and invoice_lines.stripe_subscription_item_id is null;
    return null;
end
$$;

CREATE FUNCTION billing.tg_payment_links__enqueue() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    perform billing._enqueue_jobs('payment_link', array[new.id::text]);
    return null;
end
$$;

CREATE FUNCTION billing.tg_plans__record_terms() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    if coalesce(current_setting('billing.is_resolving_plan', true), '') = '' then
        perform billing._record_terms(new, billing.current_time());
    end if;
    return null;
end
$$;

CREATE FUNCTION billing.tg_prices__retire_links() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    perform billing._retire_links_of_price(new.stripe_price_id);
    return null;
end
$$;

CREATE FUNCTION billing.tg_prices__stay_deleted() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    new.active := not exists (
        select from billing.deleted_prices
        where deleted_prices.kind = 'price' and deleted_prices.stripe_id = new.stripe_price_id
    );
    return new;
end
$$;

CREATE FUNCTION billing.tg_products__retire_links() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    perform billing._retire_links_of_price(price.stripe_price_id)
    from (
        select plans.stripe_price_id from billing.plans where plans.stripe_product_id = new.stripe_product_id
        union all
        select credit_packs.stripe_price_id from billing.credit_packs
        where credit_packs.stripe_product_id = new.stripe_product_id
    ) as price;
    return null;
end
$$;

CREATE FUNCTION billing.tg_products__stay_deleted() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    new.active := not exists (
        select from billing.deleted_prices
        where deleted_prices.kind = 'product' and deleted_prices.stripe_id = new.stripe_product_id
    );
    return new;
end
$$;

CREATE FUNCTION billing.tg_stripe_events__erase() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_ids text[];
    v_account_ids uuid[];
    v_erasure billing.erasures;
    v_is_named boolean := false;
begin
    if not exists (select from billing.erasures) then
        return null;
    end if;
    -- Nearly every object names its customer; that is found at once. The others name a payment or an invoice.
    v_ids := array[pg_catalog.substring(new.payload, '"customer"\s*:\s*"(cus_[A-Za-z0-9_]+)"')];
    if v_ids[1] is null then
        v_ids := array(
            select found.match[1]
            from regexp_matches(new.payload, '"((?:cus|ch|py|pi|in)_[A-Za-z0-9_]+)"', 'g') as found (match)
        );
        v_account_ids := array(
            select payments.account_id from billing.payments
            where payments.stripe_charge_id = any (v_ids) or payments.stripe_payment_intent_id = any (v_ids)
            union
            select invoices.account_id from billing.invoices where invoices.stripe_invoice_id = any (v_ids)
        );
    end if;
    v_account_ids := v_account_ids || array(
        select customers.account_id from billing.customers where customers.stripe_customer_id = any (v_ids)
    );
    for v_erasure in
        select erasures.* from billing.erasures
        where erasures.account_id = any (v_account_ids) or erasures.stripe_customer_id in (
            -- A guest who was linked to an account since is a customer like others.
            select customers.stripe_customer_id from billing.customers
            where customers.stripe_customer_id = any (v_ids) and customers.account_id is null
        )
        order by erasures.id
    loop
        perform billing._erase_rows(v_erasure.account_id, v_erasure.stripe_customer_id);
        v_is_named := true;
    end loop;
    if v_is_named then
        perform billing._empty_events(array[new.stripe_event_id]);
    end if;
    return null;
end
$$;

CREATE FUNCTION billing.tg_stripe_events__notify() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    perform billing._notify_of_event(new);
    return null;
end
$$;

CREATE FUNCTION billing.tg_stripe_events__prune_again() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    update billing.event_pruning set pruned_until = new.received_at - interval '1 microsecond'
    where event_pruning.pruned_until >= new.received_at;
    return null;
end
$$;

CREATE FUNCTION billing.tg_users__deleted_softly() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    perform billing._report_if_deleted(new.id, mine.account_id)
    from (
        select accounts.id as account_id from billing.accounts where accounts.owner_id = new.id
        union
        select account_members.account_id from billing.account_members where account_members.user_id = new.id
    ) as mine;
    return null;
exception when others then
    raise warning 'could not check the subscriptions of user %: %', new.id, sqlerrm;
    return null;
end
$$;

CREATE FUNCTION billing.tg_users__follow_email() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET lock_timeout TO '1s'
    AS $$
begin
    perform billing._follow_email(customers.stripe_customer_id, old.email, new.email)
    from billing.accounts
    join billing.customers on customers.account_id = accounts.id
    where accounts.owner_id = new.id and customers.stripe_customer_id is not null and customers.deleted_at is null
        and customers.livemode = billing.is_livemode()
    order by customers.stripe_customer_id;
    return null;
exception when others then
    raise warning 'could not queue the new e-mail address of user % for Stripe: %', new.id, sqlerrm;
    return null;
end
$$;

CREATE FUNCTION billing.tg_users__open_account() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET lock_timeout TO '1s'
    AS $$
begin
    perform billing.ensure_account(new.id);
    return null;
exception when others then
    raise warning 'could not create a billing account for user %: %', new.id, sqlerrm;
    return null;
end
$$;

CREATE FUNCTION billing.transfer_credits(from_account_id uuid, to_account_id uuid, amount numeric, idempotency_key text, description text DEFAULT NULL::text, metadata jsonb DEFAULT '{}'::jsonb) RETURNS billing.credit_entries
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_amount bigint := billing._checked_amount(transfer_credits.amount);
    v_out billing.credit_entries;
    v_lot record;
begin
    perform billing._checked_key(transfer_credits.idempotency_key, transfer_credits.metadata);
    if transfer_credits.from_account_id = transfer_credits.to_account_id then
        raise exception 'account % cannot transfer to itself', transfer_credits.from_account_id
            using errcode = 'TB030', hint = 'Pass a different to_account_id.';
    elsif transfer_credits.from_account_id is null or transfer_credits.to_account_id is null then
        perform billing._lock_balance(null);
    end if;
    -- Both in the order of their ids, so that two transfers in opposite directions never deadlock.
    perform billing._lock_balance(least(transfer_credits.from_account_id, transfer_credits.to_account_id));
    perform billing._lock_balance(greatest(transfer_credits.from_account_id, transfer_credits.to_account_id));

    select * into v_out from billing.credit_entries
    where credit_entries.account_id = transfer_credits.from_account_id and credit_entries.key_space = 'caller'
        and credit_entries.idempotency_key = transfer_credits.idempotency_key;
    if found then
        if (v_out.kind, v_out.amount, v_out.reference_id, v_out.description, v_out.metadata) is distinct from (
            'transfer_out', -v_amount, transfer_credits.to_account_id::text, transfer_credits.description,
            transfer_credits.metadata
        ) then
            perform billing._raise_key_reused(transfer_credits.idempotency_key);
        end if;
        return v_out;
    end if;

    perform billing._check_may_spend(transfer_credits.from_account_id);
    perform billing._check_open(transfer_credits.to_account_id);
    v_out := billing._take_credits(billing._lock_settled_balance(transfer_credits.from_account_id), billing._entry(
        account_id => transfer_credits.from_account_id, kind => 'transfer_out', amount => -v_amount,
        source => 'transfer', reference_id => transfer_credits.to_account_id::text,
        description => transfer_credits.description, metadata => transfer_credits.metadata, key_space => 'caller',
        idempotency_key => transfer_credits.idempotency_key, occurred_at => billing.current_time()
    ));
    for v_lot in
        select credit_consumptions.amount, credit_grants.id, credit_grants.priority, credit_grants.expires_at
        from billing.credit_consumptions
        join billing.credit_grants on credit_grants.id = credit_consumptions.grant_id
        where credit_consumptions.entry_id = v_out.id
        order by credit_grants.priority, credit_grants.expires_at, credit_grants.id
    loop
        perform billing._grant_credits(
            account_id => transfer_credits.to_account_id,
            amount => v_lot.amount,
            key_space => 'system',
            idempotency_key => pg_catalog.format('transfer:%s:%s', v_out.id, v_lot.id),
            source => 'transfer',
            reference_id => transfer_credits.from_account_id::text,
            description => transfer_credits.description,
            metadata => transfer_credits.metadata,
            priority => v_lot.priority,
            expires_at => v_lot.expires_at,
            kind => 'transfer_in'
        );
    end loop;
    return v_out;
end
$$;

COMMENT ON FUNCTION billing.transfer_credits(from_account_id uuid, to_account_id uuid, amount numeric, idempotency_key text, description text, metadata jsonb) IS 'Moves credits to another account, once for each idempotency key of the paying account. Lots keep priority and expiry.';

CREATE FUNCTION billing.transfer_ownership(account_id uuid, user_id uuid) RETURNS billing.account_members
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_is_server boolean := billing._sees_every_account();
    v_rank integer;
    v_owner billing.account_members;
begin
    perform from auth.users where users.id = transfer_ownership.user_id for key share;
    if v_is_server then
        update billing.accounts
        set kind = 'team', name = coalesce(accounts.name, 'Account ' || left(accounts.id::text, 8)), updated_at = now()
        where accounts.id = transfer_ownership.account_id and accounts.kind = 'personal' and accounts.owner_id is null;
    end if;
    v_rank := (billing._lock_team(transfer_ownership.account_id)).rank;
    perform billing._check_rank(v_rank, 'owner');
    perform billing._check_user(transfer_ownership.user_id);
    if not v_is_server then
        perform billing._member(transfer_ownership.account_id, transfer_ownership.user_id);
    end if;
    update billing.account_members
    set role = 'admin'
    from billing.accounts
    where accounts.id = transfer_ownership.account_id and account_members.account_id = accounts.id
        and account_members.user_id = accounts.owner_id and accounts.owner_id <> transfer_ownership.user_id;
    insert into billing.account_members as held (account_id, user_id, role)
    values (transfer_ownership.account_id, transfer_ownership.user_id, 'owner')
    on conflict on constraint account_members_pkey do update set role = 'owner'
    returning * into v_owner;
    update billing.accounts
    set owner_id = transfer_ownership.user_id, updated_at = now()
    where accounts.id = transfer_ownership.account_id;
    return v_owner;
end
$$;

COMMENT ON FUNCTION billing.transfer_ownership(account_id uuid, user_id uuid) IS 'Makes a member the owner of a team, and the former owner an admin. Your server can also hand over the account of a deleted user, which becomes a team.';

CREATE FUNCTION billing.undo_fraud_action(id bigint, reason text, actor text) RETURNS billing.fraud_actions
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_action billing.fraud_actions;
begin
    perform billing._check_reason(undo_fraud_action.reason, undo_fraud_action.actor);
    select * into v_action from billing.fraud_actions where fraud_actions.id = undo_fraud_action.id;
    if v_action.action = 'freeze_account' and v_action.status = 'done' then
        perform billing.unfreeze_account(v_action.account_id, undo_fraud_action.reason, undo_fraud_action.actor);
    else
        update billing.fraud_actions
        set status = 'undone', undone_at = billing.current_time(),
            undone_by = undo_fraud_action.actor, undone_reason = undo_fraud_action.reason, updated_at = now()
        where fraud_actions.id = undo_fraud_action.id and fraud_actions.status = 'queued'
            and not fraud_actions.is_in_doubt;
        if not found and v_action.status is distinct from 'undone' then
            raise exception '%', case
                    when v_action.id is null then format('there is no action %s', coalesce(undo_fraud_action.id::text, 'null'))
                    when v_action.status = 'queued' then format('action %s is being sent to Stripe', v_action.id)
                    else format('action %s (%s, %s) can''t be undone', v_action.id, v_action.action, v_action.status)
                end
                using errcode = 'TB075', hint = 'Only a freeze, or an action that was not sent to Stripe yet, can be undone.';
        end if;
    end if;
    select * into v_action from billing.fraud_actions where fraud_actions.id = undo_fraud_action.id;
    return v_action;
end
$$;

COMMENT ON FUNCTION billing.undo_fraud_action(id bigint, reason text, actor text) IS 'Undoes a freeze, or an action that was not sent to Stripe yet.';

CREATE FUNCTION billing.unfreeze_account(account_id uuid, reason text, actor text) RETURNS billing.accounts
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    v_account billing.accounts;
begin
    perform billing._check_reason(unfreeze_account.reason, unfreeze_account.actor);
    perform billing._lock_balance(unfreeze_account.account_id);
    update billing.accounts set frozen_at = null, frozen_reason = null, updated_at = now()
    where accounts.id = unfreeze_account.account_id and accounts.frozen_at is not null
    returning * into v_account;
    if not found then
        select * into strict v_account from billing.accounts where accounts.id = unfreeze_account.account_id;
        return v_account;
    end if;
    update billing.fraud_actions
    set status = 'undone', undone_at = billing.current_time(), undone_by = unfreeze_account.actor,
        undone_reason = unfreeze_account.reason, updated_at = now()
    where fraud_actions.account_id = v_account.id and fraud_actions.action = 'freeze_account'
        -- Also one that was skipped because the account was frozen already.
        and fraud_actions.status in ('done', 'skipped');
    insert into billing.fraud_actions (account_id, action, status, reason, actor, decided_at, settled_at)
    values (
        v_account.id, 'unfreeze_account', 'done', unfreeze_account.reason, unfreeze_account.actor,
        billing.current_time(), billing.current_time()
    );
    return v_account;
end
$$;

COMMENT ON FUNCTION billing.unfreeze_account(account_id uuid, reason text, actor text) IS 'Lets an account spend again, and marks the actions that froze it as undone.';

CREATE FUNCTION billing.unreceived_events(event_ids text[]) RETURNS SETOF text
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    return query
    select event.id from unnest(unreceived_events.event_ids) with ordinality as event (id, place)
    where not exists (select from billing.stripe_events where stripe_events.stripe_event_id = event.id)
    order by event.place;
end
$$;

COMMENT ON FUNCTION billing.unreceived_events(event_ids text[]) IS 'Those of these events that never arrived.';

CREATE FUNCTION billing.use_pg_cron() RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
declare
    -- About 0.25 ms for each account, and the accounts stay locked until the job commits: half a second at most.
    v_accounts_max constant integer := 2000;
    -- Dynamic SQL: a linter would report a function that may not exist.
    v_every_minute constant text := 'select cron.schedule($1, ''* * * * *'', $2)';
begin
    if not billing._has_pg_cron() then
        raise exception 'pg_cron is not enabled in this database, or not for %', current_user
            using errcode = 'feature_not_supported',
                hint = 'Enable it (Supabase: Integrations, Cron), then call this function again as postgres.';
    end if;
    execute v_every_minute using
        'tillbase_allocate', format('select billing.allocate_due_credits(accounts_max => %s)', v_accounts_max);
    execute v_every_minute using
        'tillbase_expire', format('select billing.expire_due_credits(accounts_max => %s)', v_accounts_max);
    execute v_every_minute using 'tillbase_watch', 'select billing.watch()';
end
$_$;

COMMENT ON FUNCTION billing.use_pg_cron() IS 'Schedules pg_cron jobs that run once a minute: tillbase_allocate and tillbase_expire for due credits, tillbase_watch for alerts. Safe to call again.';

CREATE FUNCTION billing.watch() RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    perform billing._watch_workers();
    perform billing._watch_keys();
    perform billing._watch_plans();
    perform billing._watch_notifications();
end
$$;

COMMENT ON FUNCTION billing.watch() IS 'Opens and ends alerts: no worker, a Stripe key that fails, paid plans without credits, undeliverable notifications. pg_cron and each worker call it once a minute.';

CREATE FUNCTION billing.withdraw_stripe_row(kind text, stripe_id text, read_at timestamp with time zone) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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

COMMENT ON FUNCTION billing.withdraw_stripe_row(kind text, stripe_id text, read_at timestamp with time zone) IS 'Deletes a refund, dispute or credit note that Stripe does not have, unless it was written after read_at, and its effect on the credits.';

CREATE FUNCTION billing.worker_state() RETURNS TABLE(queue_length bigint, oldest_message_at timestamp with time zone, messages_waiting bigint, workers bigint, last_seen_at timestamp with time zone)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select
        count(*), min(messages.enqueued_at), count(*) filter (where messages.vt > now() and messages.read_ct > 0),
        (
            select count(*) from pg_catalog.pg_stat_activity
            where pg_stat_activity.datname = pg_catalog.current_database()
                and pg_stat_activity.application_name = 'till worker'
        ),
        (select max(workers.last_seen_at) from billing.workers)
    from pgmq.q_stripe_events as messages
$$;

COMMENT ON FUNCTION billing.worker_state() IS 'How many messages wait in the queue and since when, how many of them are retries, how many workers are connected, and when one was last seen.';

CREATE FUNCTION public.accept_invitation(token text, user_id uuid DEFAULT NULL::uuid) RETURNS billing.account_members
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select billing.accept_invitation(accept_invitation.token, accept_invitation.user_id)
$$;

CREATE FUNCTION public.add_member(account_id uuid, user_id uuid, role text DEFAULT 'member'::text) RETURNS billing.account_members
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select billing.add_member(add_member.account_id, add_member.user_id, add_member.role)
$$;

CREATE FUNCTION public.adjust_credits(account_id uuid, amount numeric, idempotency_key text, reason text, actor text, expires_at timestamp with time zone DEFAULT NULL::timestamp with time zone) RETURNS billing.credit_entries
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select billing.adjust_credits(
        adjust_credits.account_id, adjust_credits.amount, adjust_credits.idempotency_key, adjust_credits.reason,
        adjust_credits.actor, adjust_credits.expires_at
    )
$$;

CREATE FUNCTION public.capture_hold(hold_id uuid, amount numeric, idempotency_key text, description text DEFAULT NULL::text, metadata jsonb DEFAULT '{}'::jsonb, release_rest boolean DEFAULT false) RETURNS billing.credit_entries
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select billing.capture_hold(
        capture_hold.hold_id, capture_hold.amount, capture_hold.idempotency_key, capture_hold.description,
        capture_hold.metadata, capture_hold.release_rest
    )
$$;

CREATE FUNCTION public.close_account(account_id uuid, reason text, actor text) RETURNS billing.accounts
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select billing.close_account(
        close_account.account_id, close_account.reason, close_account.actor
    )
$$;

CREATE FUNCTION public.create_team(name text, owner_id uuid) RETURNS billing.accounts
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select billing.create_team(create_team.name, create_team.owner_id)
$$;

CREATE FUNCTION public.credit_balance_as_of(account_id uuid, moment timestamp with time zone) RETURNS bigint
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    -- From the current balance backwards, because most questions are about the recent past.
    select (credit_balances.balance - coalesce((
        select sum(credit_entries.amount) from billing.credit_entries
        where credit_entries.account_id = credit_balance_as_of.account_id
            and credit_entries.occurred_at > credit_balance_as_of.moment
    ), 0))::bigint
    from billing.credit_balances
    where credit_balances.account_id = credit_balance_as_of.account_id
$$;

COMMENT ON FUNCTION public.credit_balance_as_of(account_id uuid, moment timestamp with time zone) IS 'The balance of an account at a point in time.';

CREATE FUNCTION public.credit_statement(account_id uuid, period_start timestamp with time zone, period_end timestamp with time zone) RETURNS TABLE(line text, kind text, source text, feature text, entries bigint, amount bigint)
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select
        'opening', null, null, null, null,
        public.credit_balance_as_of(credit_statement.account_id, credit_statement.period_start - interval '1 microsecond')
    union all
    (
        select
            'movement', credit_entries.kind, credit_entries.source, credit_entries.feature, count(*),
            sum(credit_entries.amount)::bigint
        from billing.credit_entries
        where credit_entries.account_id = credit_statement.account_id
            and credit_entries.occurred_at >= credit_statement.period_start
            and credit_entries.occurred_at < credit_statement.period_end
        group by credit_entries.kind, credit_entries.source, credit_entries.feature
        order by credit_entries.kind, credit_entries.source, credit_entries.feature
    )
    union all
    select
        'closing', null, null, null, null,
        public.credit_balance_as_of(credit_statement.account_id, credit_statement.period_end - interval '1 microsecond')
$$;

COMMENT ON FUNCTION public.credit_statement(account_id uuid, period_start timestamp with time zone, period_end timestamp with time zone) IS 'Opening balance, movements by kind, source and feature, and closing balance of a period [start, end).';

CREATE FUNCTION public.credit_usage(account_id uuid, period_start timestamp with time zone, period_end timestamp with time zone) RETURNS TABLE(day date, feature text, spends bigint, credits bigint)
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select
        (credit_entries.occurred_at at time zone 'utc')::date, credit_entries.feature,
        count(*) filter (where credit_entries.kind <> 'refund'), -sum(credit_entries.amount)::bigint
    from billing.credit_entries
    where credit_entries.account_id = credit_usage.account_id
        and credit_entries.kind in ('spend', 'capture', 'refund')
        and credit_entries.occurred_at >= credit_usage.period_start
        and credit_entries.occurred_at < credit_usage.period_end
    group by 1, 2
    order by 1, 2
$$;

COMMENT ON FUNCTION public.credit_usage(account_id uuid, period_start timestamp with time zone, period_end timestamp with time zone) IS 'Credits spent by day (UTC) and feature in a period [start, end), minus refunds.';

CREATE FUNCTION public.dismiss_customer(stripe_customer_id text, reason text, actor text) RETURNS bigint
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select billing.dismiss_customer(
        dismiss_customer.stripe_customer_id, dismiss_customer.reason, dismiss_customer.actor
    )
$$;

CREATE FUNCTION public.dismiss_stripe_event(event_id text, reason text, actor text) RETURNS text
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select billing.dismiss_stripe_event(
        dismiss_stripe_event.event_id, dismiss_stripe_event.reason, dismiss_stripe_event.actor
    )
$$;

CREATE FUNCTION public.ensure_account(user_id uuid) RETURNS uuid
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select billing.ensure_account(ensure_account.user_id)
$$;

CREATE FUNCTION public.erase_account(account_id uuid, reason text, actor text) RETURNS billing.erasures
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select billing.erase_account(erase_account.account_id, erase_account.reason, erase_account.actor)
$$;

COMMENT ON FUNCTION public.erase_account(account_id uuid, reason text, actor text) IS 'Erases the personal data of an account and closes it; the ledger stays. Erasing again returns the first erasure.';

CREATE FUNCTION public.export_account(account_id uuid) RETURNS TABLE(section text, data jsonb)
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select found.section, found.data from billing.export_account(export_account.account_id) as found
$$;

COMMENT ON FUNCTION public.export_account(account_id uuid) IS 'Everything that the database has about the person or team of an account.';

CREATE FUNCTION public.extend_hold(hold_id uuid, expires_in interval) RETURNS billing.credit_holds
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select billing.extend_hold(
        extend_hold.hold_id, extend_hold.expires_in
    )
$$;

CREATE FUNCTION public.freeze_account(account_id uuid, reason text, actor text) RETURNS billing.accounts
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select billing.freeze_account(
        freeze_account.account_id, freeze_account.reason, freeze_account.actor
    )
$$;

CREATE FUNCTION public.grant_credits(account_id uuid, amount numeric, idempotency_key text, description text DEFAULT NULL::text, source text DEFAULT 'app'::text, reference_id text DEFAULT NULL::text, expires_at timestamp with time zone DEFAULT NULL::timestamp with time zone, priority integer DEFAULT 100, metadata jsonb DEFAULT '{}'::jsonb) RETURNS billing.credit_entries
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select billing.grant_credits(
        grant_credits.account_id, grant_credits.amount, grant_credits.idempotency_key, grant_credits.description,
        grant_credits.source, grant_credits.reference_id, grant_credits.expires_at, grant_credits.priority,
        grant_credits.metadata
    )
$$;

CREATE FUNCTION public.has_feature(feature text) RETURNS boolean
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select billing.has_feature(has_feature.feature)
$$;

COMMENT ON FUNCTION public.has_feature(feature text) IS 'True if one of the signed-in user''s accounts has the feature.';

CREATE FUNCTION public.has_feature(feature text, account_id uuid) RETURNS boolean
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select billing.has_feature(has_feature.feature, has_feature.account_id)
$$;

COMMENT ON FUNCTION public.has_feature(feature text, account_id uuid) IS 'True if this account, one of the signed-in user''s, has the feature; service_role can check any account.';

CREATE FUNCTION public.hold_credits(account_id uuid, amount numeric, idempotency_key text, expires_in interval DEFAULT '01:00:00'::interval, description text DEFAULT NULL::text, metadata jsonb DEFAULT '{}'::jsonb, feature text DEFAULT NULL::text) RETURNS billing.credit_holds
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select billing.hold_credits(
        hold_credits.account_id, hold_credits.amount, hold_credits.idempotency_key, hold_credits.expires_in,
        hold_credits.description, hold_credits.metadata, hold_credits.feature
    )
$$;

CREATE FUNCTION public.invite_member(account_id uuid, email text, role text DEFAULT 'member'::text) RETURNS TABLE(invitation_id bigint, token text, expires_at timestamp with time zone)
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select * from billing.invite_member(invite_member.account_id, invite_member.email, invite_member.role)
$$;

CREATE FUNCTION public.link_customer(account_id uuid, stripe_customer_id text, livemode boolean DEFAULT NULL::boolean) RETURNS void
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select billing.link_customer(link_customer.account_id, link_customer.stripe_customer_id, link_customer.livemode)
$$;

CREATE FUNCTION public.merge_customer(stripe_customer_id text, duplicate_of text) RETURNS void
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select billing.merge_customer(merge_customer.stripe_customer_id, merge_customer.duplicate_of)
$$;

CREATE FUNCTION public.note_fraud(stripe_early_fraud_warning_id text, notes text, actor text) RETURNS billing.fraud_actions
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select billing.note_fraud(
        note_fraud.stripe_early_fraud_warning_id, note_fraud.notes, note_fraud.actor
    )
$$;

CREATE FUNCTION public.refund_fraud_warning(stripe_early_fraud_warning_id text, reason text, actor text) RETURNS billing.fraud_actions
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select billing.refund_fraud_warning(
        refund_fraud_warning.stripe_early_fraud_warning_id, refund_fraud_warning.reason, refund_fraud_warning.actor
    )
$$;

CREATE FUNCTION public.refund_spend(entry_id bigint, amount numeric, idempotency_key text, description text DEFAULT NULL::text, metadata jsonb DEFAULT '{}'::jsonb) RETURNS billing.credit_entries
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select billing.refund_spend(
        refund_spend.entry_id, refund_spend.amount, refund_spend.idempotency_key, refund_spend.description,
        refund_spend.metadata
    )
$$;

CREATE FUNCTION public.reinstate_grant(revocation_id bigint, amount numeric, idempotency_key text, reason text, actor text) RETURNS billing.credit_reinstatements
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select billing.reinstate_grant(
        reinstate_grant.revocation_id, reinstate_grant.amount, reinstate_grant.idempotency_key,
        reinstate_grant.reason, reinstate_grant.actor
    )
$$;

CREATE FUNCTION public.release_hold(hold_id uuid, idempotency_key text) RETURNS billing.credit_holds
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select billing.release_hold(
        release_hold.hold_id, release_hold.idempotency_key
    )
$$;

CREATE FUNCTION public.remove_member(account_id uuid, user_id uuid) RETURNS billing.account_members
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select billing.remove_member(remove_member.account_id, remove_member.user_id)
$$;

CREATE FUNCTION public.reopen_account(account_id uuid) RETURNS billing.accounts
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select billing.reopen_account(
        reopen_account.account_id
    )
$$;

CREATE FUNCTION public.resolve_fraud_warning(stripe_early_fraud_warning_id text, decision text, notes text, actor text) RETURNS billing.fraud_warnings
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select billing.resolve_fraud_warning(
        resolve_fraud_warning.stripe_early_fraud_warning_id, resolve_fraud_warning.decision, resolve_fraud_warning.notes, resolve_fraud_warning.actor
    )
$$;

CREATE FUNCTION public.review_held_credits(id bigint, decision text, reason text, actor text) RETURNS billing.held_credits
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select billing.review_held_credits(
        review_held_credits.id, review_held_credits.decision, review_held_credits.reason, review_held_credits.actor
    )
$$;

CREATE FUNCTION public.revoke_grant(grant_id bigint, amount numeric, idempotency_key text, reason text, actor text, shortfall_policy text DEFAULT 'clamp_and_record'::text) RETURNS billing.credit_revocations
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select billing.revoke_grant(
        revoke_grant.grant_id, revoke_grant.amount, revoke_grant.idempotency_key, revoke_grant.reason,
        revoke_grant.actor, revoke_grant.shortfall_policy
    )
$$;

CREATE FUNCTION public.revoke_invitation(account_id uuid, email text) RETURNS boolean
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select billing.revoke_invitation(revoke_invitation.account_id, revoke_invitation.email)
$$;

CREATE FUNCTION public.schedule_credits(account_id uuid, amount numeric, effective_at timestamp with time zone, idempotency_key text, description text DEFAULT NULL::text, source text DEFAULT 'app'::text, reference_id text DEFAULT NULL::text, expires_at timestamp with time zone DEFAULT NULL::timestamp with time zone, priority integer DEFAULT 100) RETURNS billing.credit_grants
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select billing.schedule_credits(
        schedule_credits.account_id, schedule_credits.amount, schedule_credits.effective_at,
        schedule_credits.idempotency_key, schedule_credits.description, schedule_credits.source,
        schedule_credits.reference_id, schedule_credits.expires_at, schedule_credits.priority
    )
$$;

CREATE FUNCTION public.set_credit_limits(account_id uuid, overdraft numeric DEFAULT 0, spend_cap numeric DEFAULT NULL::numeric, spend_cap_period text DEFAULT NULL::text, low_balance_threshold numeric DEFAULT NULL::numeric) RETURNS billing.credit_balances
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select billing.set_credit_limits(
        set_credit_limits.account_id, set_credit_limits.overdraft, set_credit_limits.spend_cap,
        set_credit_limits.spend_cap_period, set_credit_limits.low_balance_threshold
    )
$$;

CREATE FUNCTION public.set_member_role(account_id uuid, user_id uuid, role text) RETURNS billing.account_members
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select billing.set_member_role(set_member_role.account_id, set_member_role.user_id, set_member_role.role)
$$;

CREATE FUNCTION public.set_recharge(account_id uuid, threshold numeric, stripe_price_id text, monthly_cap_amount numeric DEFAULT NULL::numeric, monthly_cap_count integer DEFAULT 10, is_paused boolean DEFAULT false, return_url text DEFAULT NULL::text) RETURNS billing.recharge_settings
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select billing.set_recharge(
        set_recharge.account_id, set_recharge.threshold, set_recharge.stripe_price_id, set_recharge.monthly_cap_amount,
        set_recharge.monthly_cap_count, set_recharge.is_paused, set_recharge.return_url
    )
$$;

COMMENT ON FUNCTION public.set_recharge(account_id uuid, threshold numeric, stripe_price_id text, monthly_cap_amount numeric, monthly_cap_count integer, is_paused boolean, return_url text) IS 'Agrees to buy a credit pack with the customer''s default payment method whenever fewer credits than threshold are available.';

CREATE FUNCTION public.spend_credits(account_id uuid, amount numeric, idempotency_key text, description text DEFAULT NULL::text, metadata jsonb DEFAULT '{}'::jsonb, feature text DEFAULT NULL::text, reference_id text DEFAULT NULL::text, up_to boolean DEFAULT false) RETURNS billing.credit_entries
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select billing.spend_credits(
        spend_credits.account_id, spend_credits.amount, spend_credits.idempotency_key, spend_credits.description,
        spend_credits.metadata, spend_credits.feature, spend_credits.reference_id, spend_credits.up_to
    )
$$;

CREATE FUNCTION public.spend_credits_batch(spends jsonb) RETURNS SETOF billing.credit_entries
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select * from billing.spend_credits_batch(
        spend_credits_batch.spends
    )
$$;

CREATE FUNCTION public.team_members(account_id uuid) RETURNS TABLE(user_id uuid, email text, role text, created_at timestamp with time zone)
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select * from billing.team_members(team_members.account_id)
$$;

CREATE FUNCTION public.transfer_credits(from_account_id uuid, to_account_id uuid, amount numeric, idempotency_key text, description text DEFAULT NULL::text, metadata jsonb DEFAULT '{}'::jsonb) RETURNS billing.credit_entries
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select billing.transfer_credits(
        transfer_credits.from_account_id, transfer_credits.to_account_id, transfer_credits.amount,
        transfer_credits.idempotency_key, transfer_credits.description, transfer_credits.metadata
    )
$$;

CREATE FUNCTION public.transfer_ownership(account_id uuid, user_id uuid) RETURNS billing.account_members
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select billing.transfer_ownership(transfer_ownership.account_id, transfer_ownership.user_id)
$$;

CREATE FUNCTION public.undo_fraud_action(id bigint, reason text, actor text) RETURNS billing.fraud_actions
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select billing.undo_fraud_action(
        undo_fraud_action.id, undo_fraud_action.reason, undo_fraud_action.actor
    )
$$;

CREATE FUNCTION public.unfreeze_account(account_id uuid, reason text, actor text) RETURNS billing.accounts
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select billing.unfreeze_account(
        unfreeze_account.account_id, unfreeze_account.reason, unfreeze_account.actor
    )
$$;

CREATE TABLE billing.account_proof (
    id boolean DEFAULT true NOT NULL,
    last_account_id uuid,
    accounts_checked bigint DEFAULT 0 NOT NULL,
    round_started_at timestamp with time zone,
    round_finished_at timestamp with time zone,
    CONSTRAINT there_is_one_row CHECK (id)
);

COMMENT ON TABLE billing.account_proof IS 'Progress of the running check of all accounts (ledger_discrepancies and entitlement_discrepancies).';

CREATE VIEW public.billing_account WITH (security_invoker='on') AS
 SELECT id AS account_id,
    kind,
        CASE
            WHEN (closed_at IS NOT NULL) THEN 'closed'::text
            WHEN (frozen_at IS NOT NULL) THEN 'frozen'::text
            ELSE 'active'::text
        END AS status,
    frozen_at,
        CASE
            WHEN (frozen_at IS NOT NULL) THEN 'Payments of this account are under review. Contact support.'::text
            ELSE NULL::text
        END AS frozen_reason,
    closed_at
   FROM billing.accounts;

COMMENT ON VIEW public.billing_account IS 'My billing accounts: active, frozen (cannot spend; frozen_reason is a neutral text) or closed.';

COMMENT ON COLUMN public.billing_account.account_id IS 'Id of the account, for every other view and function.';

COMMENT ON COLUMN public.billing_account.kind IS 'personal or team.';

COMMENT ON COLUMN public.billing_account.status IS 'active, frozen or closed.';

COMMENT ON COLUMN public.billing_account.frozen_at IS 'Since when nothing can be spent or bought; null if it is not frozen.';

COMMENT ON COLUMN public.billing_account.frozen_reason IS 'A sentence for the user; null if it is not frozen.';

COMMENT ON COLUMN public.billing_account.closed_at IS 'Since when it is closed; null if it is open.';

CREATE VIEW public.credit_balance WITH (security_invoker='on') AS
 SELECT balances.account_id,
    COALESCE(settled.balance, balances.balance) AS balance,
    COALESCE(settled.held, balances.held) AS held,
    GREATEST((COALESCE(settled.balance, balances.balance) - COALESCE(settled.held, balances.held)), (0)::bigint) AS available,
    balances.updated_at
   FROM (billing.credit_balances balances
     LEFT JOIN LATERAL ( SELECT swept.balance,
            swept.held
           FROM billing.settled_balance(
                CASE
                    WHEN (balances.next_due_at <= billing."current_time"()) THEN balances.*
                    ELSE NULL::billing.credit_balances
                END) swept(account_id, balance, held, debt, withheld, carried, written_off_debt, written_off_withheld, written_off_at, next_due_at, may_spend, overdraft, spend_cap, spend_cap_period, spent_in_period, spend_period_start, low_balance_threshold, is_low, recharge_below, updated_at, epoch)) settled ON (true));

COMMENT ON VIEW public.credit_balance IS 'Credits of my accounts: one row each. available leaves out credits that are held or due to expire.';

COMMENT ON COLUMN public.credit_balance.account_id IS 'The account; its id is in public.billing_account.';

COMMENT ON COLUMN public.credit_balance.balance IS 'Credits of the account, without those that expired. Below zero only by debt.';

COMMENT ON COLUMN public.credit_balance.held IS 'Credits that open holds set aside; part of balance.';

COMMENT ON COLUMN public.credit_balance.available IS 'What can be spent now: balance less held, never below zero.';

COMMENT ON COLUMN public.credit_balance.updated_at IS 'When the balance last changed.';

CREATE VIEW billing.admin_accounts WITH (security_invoker='on') AS
 SELECT accounts.id,
    accounts.kind,
    accounts.name,
    accounts.owner_id,
    billing.owner_email(accounts.id) AS email,
    states.status,
    accounts.frozen_at,
    accounts.frozen_reason,
    accounts.closed_at,
    accounts.created_at,
    settled.balance,
    settled.held,
    settled.available,
    balances.debt,
    balances.withheld
   FROM (((billing.accounts
     JOIN public.billing_account states ON ((states.account_id = accounts.id)))
     JOIN public.credit_balance settled ON ((settled.account_id = accounts.id)))
     JOIN billing.credit_balances balances ON ((balances.account_id = accounts.id)));

COMMENT ON VIEW billing.admin_accounts IS 'Accounts with their owner, status and balance; what is due counts as settled.';

CREATE TABLE billing.found_discrepancies (
    id bigint NOT NULL,
    account_id uuid NOT NULL,
    invariant text NOT NULL,
    business_key text,
    expected bigint,
    found bigint,
    detail text NOT NULL,
    found_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);

COMMENT ON TABLE billing.found_discrepancies IS 'Discrepancies that the running check found and that still exist.';

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

CREATE TABLE billing.stripe_lookups (
    stripe_event_id text NOT NULL,
    msg_id bigint NOT NULL,
    tie_kind text,
    tie_stripe_id text,
    attempts integer DEFAULT 0 NOT NULL,
    excused_attempts integer DEFAULT 0 NOT NULL,
    next_attempt_at timestamp with time zone DEFAULT now() NOT NULL,
    worker_pid integer,
    CONSTRAINT ties_have_a_kind CHECK (((tie_kind IS NULL) = (tie_stripe_id IS NULL)))
);

COMMENT ON TABLE billing.stripe_lookups IS 'Events that need an object from Stripe.';

COMMENT ON COLUMN billing.stripe_lookups.tie_stripe_id IS 'The object with two states of the same second, which only Stripe can order; null: another object that the event needs.';

CREATE VIEW billing.admin_attention WITH (security_invoker='on') AS
 SELECT ( SELECT count(*) AS count
           FROM billing.fraud_warnings
          WHERE (fraud_warnings.status = 'open'::text)) AS open_warnings,
    ( SELECT count(*) AS count
           FROM billing.disputes
          WHERE disputes.needs_response) AS disputes_to_answer,
    ( SELECT count(*) AS count
           FROM billing.reviews
          WHERE reviews.is_open) AS open_reviews,
    ( SELECT count(*) AS count
           FROM billing.held_credits
          WHERE (held_credits.status = 'pending'::text)) AS credits_under_review,
    ( SELECT count(*) AS count
           FROM billing.stripe_events
          WHERE (stripe_events.status = 'dead'::text)) AS dead_events,
    ( SELECT count(*) AS count
           FROM billing.stripe_events
          WHERE (stripe_events.status = 'parked'::text)) AS parked_events,
    ( SELECT count(*) AS count
           FROM billing.stripe_lookups
          WHERE (stripe_lookups.attempts > 3)) AS waiting_events,
    ( SELECT count(*) AS count
           FROM billing.notifications
          WHERE (notifications.status = 'dead'::text)) AS dead_notifications,
    ( SELECT count(*) AS count
           FROM billing.found_discrepancies) AS discrepancies,
    ( SELECT count(*) AS count
           FROM billing.recharge_settings
          WHERE recharge_settings.is_paused) AS paused_recharges,
    ( SELECT count(*) AS count
           FROM billing.accounts
          WHERE (accounts.frozen_at IS NOT NULL)) AS frozen_accounts,
    ( SELECT count(*) AS count
           FROM billing.customers
          WHERE (customers.status = 'unlinked'::text)) AS unlinked_customers;

COMMENT ON VIEW billing.admin_attention IS 'How much waits for a person, by kind. Each number is answered from an index of just those rows, or from a table of few.';

CREATE VIEW billing.admin_credit_reviews WITH (security_invoker='on') AS
 SELECT id,
    held_at,
    status,
    kind,
    amount,
    description,
    source,
    reference_id,
    account_id,
    billing.owner_email(account_id) AS email,
    matched_account_id,
    billing.owner_email(matched_account_id) AS matched_email,
    reviewed_at,
    reviewed_by,
    reason
   FROM billing.held_credits held;

COMMENT ON VIEW billing.admin_credit_reviews IS 'Initial and trial credits under review because their card was seen on another account; pending until a person decides.';

CREATE VIEW billing.admin_customers WITH (security_invoker='on') AS
 SELECT stripe_customer_id,
    status,
    email,
    name,
    account_id,
    duplicate_of,
    dismissed_at,
    dismissed_reason,
    dismissed_by,
    livemode,
    deleted_at,
    created_at,
    ( SELECT count(*) AS count
           FROM billing.stripe_events
          WHERE ((stripe_events.waiting_for = customers.stripe_customer_id) AND (stripe_events.status = ANY (ARRAY['parked'::text, 'dead'::text])))) AS events_waiting
   FROM billing.customers
  WHERE (stripe_customer_id IS NOT NULL);

COMMENT ON VIEW billing.admin_customers IS 'Stripe customers: unlinked, linked, duplicate or dismissed, and how many events wait for each.';

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
    is_liability_shifted boolean DEFAULT false NOT NULL,
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

COMMENT ON COLUMN billing.payments.is_liability_shifted IS 'True if the cardholder was authenticated (3-D Secure), so the issuer is liable for fraud.';

CREATE VIEW billing.admin_disputes WITH (security_invoker='on') AS
 SELECT disputes.stripe_dispute_id,
    disputes.disputed_at,
    disputes.status,
    disputes.is_open,
    disputes.needs_response,
    disputes.reason,
    disputes.amount,
    disputes.currency,
    disputes.evidence_due_at,
    disputes.stripe_charge_id,
    payments.stripe_customer_id,
    payments.account_id,
    billing.owner_email(payments.account_id) AS email
   FROM (billing.disputes
     LEFT JOIN billing.payments ON ((payments.stripe_charge_id = disputes.stripe_charge_id)));

COMMENT ON VIEW billing.admin_disputes IS 'Disputes with the owner of the payment. Open: not decided yet. needs_response: Stripe waits for an answer.';

CREATE VIEW billing.admin_fraud_warnings WITH (security_invoker='on') AS
 SELECT warnings.stripe_early_fraud_warning_id,
    warnings.warned_at,
    warnings.status,
    warnings.fraud_type,
    COALESCE(warnings.risk_level, payments.risk_level) AS risk_level,
    COALESCE(warnings.risk_score, payments.risk_score) AS risk_score,
    warnings.actionable,
    warnings.stripe_charge_id,
    payments.amount,
    payments.amount_refunded,
    payments.currency,
    payments.charged_at,
    payments.is_disputed,
    payments.is_liability_shifted,
    warnings.stripe_customer_id,
    warnings.account_id,
    billing.owner_email(warnings.account_id) AS email,
    accounts.frozen_at,
    ARRAY( SELECT ((actions.action || ' '::text) || actions.status)
           FROM billing.fraud_actions actions
          WHERE ((actions.stripe_early_fraud_warning_id = warnings.stripe_early_fraud_warning_id) AND (actions.action <> ALL (ARRAY['alert'::text, 'note'::text])))
          ORDER BY actions.id) AS actions
   FROM ((billing.fraud_warnings warnings
     LEFT JOIN billing.payments ON ((payments.stripe_charge_id = warnings.stripe_charge_id)))
     LEFT JOIN billing.accounts ON ((accounts.id = warnings.account_id)));

COMMENT ON VIEW billing.admin_fraud_warnings IS 'Early fraud warnings with the charge, its risk, the owner and what was done.';

CREATE TABLE billing.subscription_items (
    stripe_subscription_item_id text NOT NULL,
    stripe_subscription_id text NOT NULL,
    stripe_price_id text NOT NULL,
    stripe_product_id text,
    quantity bigint,
    current_period_start timestamp with time zone NOT NULL,
    current_period_end timestamp with time zone NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT current_period_ends_after_it_starts CHECK ((current_period_end >= current_period_start)),
    CONSTRAINT quantity_is_not_negative CHECK ((quantity >= 0))
);

COMMENT ON TABLE billing.subscription_items IS 'The items of a subscription in its newest state, each with a price, a quantity and a current period.';

CREATE VIEW billing.admin_plans_without_credits WITH (security_invoker='on') AS
 SELECT plans.stripe_price_id,
    COALESCE(plans.lookup_key, NULLIF(plans.nickname, ''::text), products.name) AS name,
    subscriptions.stripe_subscription_id,
    subscriptions.account_id
   FROM (((billing.subscriptions
     JOIN billing.subscription_items items ON ((items.stripe_subscription_id = subscriptions.stripe_subscription_id)))
     JOIN billing.plans ON ((plans.stripe_price_id = items.stripe_price_id)))
     JOIN billing.products ON ((products.stripe_product_id = plans.stripe_product_id)))
  WHERE ((subscriptions.status = ANY (ARRAY['active'::text, 'trialing'::text, 'past_due'::text])) AND (plans.usage_type = 'licensed'::text) AND (plans.initial_credits = 0) AND (plans.monthly_credits = 0) AND (plans.trial_credits = 0) AND (plans.features = '{}'::jsonb));

COMMENT ON VIEW billing.admin_plans_without_credits IS 'Live subscriptions whose plan declares neither credits nor features: the customers pay and get nothing here.';

CREATE VIEW billing.admin_reviews WITH (security_invoker='on') AS
 SELECT reviews.stripe_review_id,
    reviews.opened_at,
    reviews.is_open,
    reviews.reason,
    reviews.closed_reason,
    reviews.stripe_charge_id,
    payments.amount,
    payments.currency,
    payments.risk_level,
    reviews.account_id,
    billing.owner_email(reviews.account_id) AS email
   FROM (billing.reviews
     LEFT JOIN billing.payments ON ((payments.stripe_charge_id = reviews.stripe_charge_id)));

COMMENT ON VIEW billing.admin_reviews IS 'Radar reviews with the payment and its owner.';

CREATE VIEW billing.admin_subscriptions WITH (security_invoker='on') AS
 SELECT stripe_subscription_id,
    status,
    (status = ANY (ARRAY['active'::text, 'trialing'::text, 'past_due'::text])) AS is_live,
    account_id,
    billing.owner_email(account_id) AS email,
    stripe_customer_id,
    livemode,
    currency,
    started_at,
    billing_cycle_anchor,
    trial_end,
    cancel_at_period_end,
    cancel_at,
    canceled_at,
    ended_at,
    is_collection_paused,
    ( SELECT string_agg((COALESCE(NULLIF(plans.nickname, ''::text), products.name, items.stripe_price_id) ||
                CASE
                    WHEN (items.quantity > 1) THEN (' × '::text || items.quantity)
                    ELSE ''::text
                END), ', '::text ORDER BY items.stripe_subscription_item_id) AS string_agg
           FROM ((billing.subscription_items items
             LEFT JOIN billing.plans ON ((plans.stripe_price_id = items.stripe_price_id)))
             LEFT JOIN billing.products ON ((products.stripe_product_id = plans.stripe_product_id)))
          WHERE (items.stripe_subscription_id = subscriptions.stripe_subscription_id)) AS plans,
    ( SELECT max(items.current_period_end) AS max
           FROM billing.subscription_items items
          WHERE (items.stripe_subscription_id = subscriptions.stripe_subscription_id)) AS current_period_end
   FROM billing.subscriptions;

COMMENT ON VIEW billing.admin_subscriptions IS 'Subscriptions with their owner, plans and end of the current period.';

ALTER TABLE billing.alerts ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME billing.alerts_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE billing.backfilled_lists (
    list text NOT NULL,
    last_stripe_id text,
    objects bigint DEFAULT 0 NOT NULL,
    is_complete boolean DEFAULT false NOT NULL,
    started_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT objects_are_not_negative CHECK ((objects >= 0))
);

COMMENT ON TABLE billing.backfilled_lists IS 'How far `till backfill` has read each of Stripe''s lists: where it was stopped, it goes on.';

COMMENT ON COLUMN billing.backfilled_lists.last_stripe_id IS 'The last object that was received; Stripe lists the newest first.';

CREATE TABLE billing.carried_credits (
    business_key text NOT NULL,
    account_id uuid NOT NULL,
    amount bigint NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT amount_is_not_zero CHECK ((amount <> 0))
);

COMMENT ON TABLE billing.carried_credits IS 'By business key: spent credits of time that Stripe credited back (below zero), and credits by which later grants were reduced for them (above zero).';

CREATE TABLE billing.checkout_line_items (
    stripe_line_item_id text NOT NULL,
    stripe_checkout_session_id text NOT NULL,
    stripe_price_id text,
    quantity bigint,
    amount_total bigint NOT NULL,
    declares_credits boolean NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL
);

COMMENT ON TABLE billing.checkout_line_items IS 'The line items of paid Checkout Sessions of mode payment, as read from Stripe.';

COMMENT ON COLUMN billing.checkout_line_items.amount_total IS 'The amount paid for the line after discounts, in minor units of the session''s currency.';

COMMENT ON COLUMN billing.checkout_line_items.declares_credits IS 'True if the price or its product has pack_credits in its metadata; otherwise the line is not one of our packs.';

CREATE TABLE billing.clock (
    id boolean DEFAULT true NOT NULL,
    ahead_by interval DEFAULT '00:00:00'::interval NOT NULL,
    CONSTRAINT ahead_by_is_not_negative CHECK ((ahead_by >= '00:00:00'::interval)),
    CONSTRAINT there_is_one_row CHECK (id)
);

COMMENT ON TABLE billing.clock IS 'How far billing time is ahead of the real time; only the local stack moves it.';

CREATE TABLE billing.credit_count (
    id boolean DEFAULT true NOT NULL,
    counted_until timestamp with time zone DEFAULT '-infinity'::timestamp with time zone NOT NULL,
    id_floor bigint DEFAULT 0 NOT NULL,
    next_floor bigint DEFAULT 0 NOT NULL,
    next_floor_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT there_is_one_row CHECK (id)
);

COMMENT ON TABLE billing.credit_count IS 'How far credit_totals has counted.';

CREATE TABLE billing.credit_hold_lots (
    hold_id uuid NOT NULL,
    grant_id bigint NOT NULL,
    amount billing.credits NOT NULL
);

COMMENT ON TABLE billing.credit_hold_lots IS 'The lots of a hold, and how many credits of each it still reserves.';

CREATE TABLE billing.credit_note_lines (
    stripe_credit_note_id text NOT NULL,
    number integer NOT NULL,
    stripe_line_id text,
    amount bigint NOT NULL
);

COMMENT ON TABLE billing.credit_note_lines IS 'Lines of credit notes: the credited line of the invoice and the amount.';

COMMENT ON COLUMN billing.credit_note_lines.stripe_line_id IS 'The invoice''s line; null for a line of the credit note''s own.';

CREATE TABLE billing.credit_notes (
    stripe_credit_note_id text NOT NULL,
    stripe_invoice_id text NOT NULL,
    livemode boolean NOT NULL,
    status text NOT NULL,
    currency text NOT NULL,
    amount bigint NOT NULL,
    amount_refunded bigint NOT NULL,
    pre_payment_amount bigint DEFAULT 0 NOT NULL,
    stripe_refund_ids text[] DEFAULT '{}'::text[] NOT NULL,
    reason text,
    noted_at timestamp with time zone NOT NULL,
    as_of timestamp with time zone NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT amount_refunded_is_within_the_amount CHECK (((amount_refunded >= 0) AND (amount_refunded <= amount))),
    CONSTRAINT status_is_known CHECK ((status = ANY (ARRAY['issued'::text, 'void'::text])))
);

COMMENT ON TABLE billing.credit_notes IS 'Stripe credit notes on paid invoices.';

COMMENT ON COLUMN billing.credit_notes.amount IS 'The amount returned after payment, in any form. A credit note before payment only reduces the invoice.';

COMMENT ON COLUMN billing.credit_notes.amount_refunded IS 'The part of amount returned by refunds, which have their own rows.';

COMMENT ON COLUMN billing.credit_notes.pre_payment_amount IS 'The amount by which it reduced the invoice before payment.';

COMMENT ON COLUMN billing.credit_notes.stripe_refund_ids IS 'Refunds of this credit note: they return the same money, which counts once.';

ALTER TABLE billing.credit_reinstatements ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME billing.credit_reinstatements_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

ALTER TABLE billing.credit_revocations ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME billing.credit_revocations_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE billing.credit_totals (
    kind billing.entry_kind NOT NULL,
    credits numeric DEFAULT 0 NOT NULL
);

COMMENT ON TABLE billing.credit_totals IS 'Credits of all entries by kind, as of credit_count.counted_until; their sum is what all accounts have.';

CREATE TABLE billing.customer_claims (
    account_id uuid NOT NULL,
    livemode boolean NOT NULL,
    token uuid DEFAULT gen_random_uuid() NOT NULL,
    idempotency_key text NOT NULL,
    keyed_at timestamp with time zone DEFAULT now() NOT NULL,
    may_exist boolean DEFAULT false NOT NULL,
    email text,
    name text,
    stripe_customer_id text,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL
);

COMMENT ON TABLE billing.customer_claims IS 'Stripe customers that accounts are getting, or got, by checkout.';

COMMENT ON COLUMN billing.customer_claims.token IS 'Stored only in the metadata of the customer that we created for this claim.';

COMMENT ON COLUMN billing.customer_claims.keyed_at IS 'Since when the idempotency key is in use; Stripe forgets it after a day.';

COMMENT ON COLUMN billing.customer_claims.may_exist IS 'True if Stripe may have created the customer under an earlier key whose answer was lost.';

CREATE TABLE billing.customer_email_changes (
    stripe_customer_id text NOT NULL,
    old_emails text[] NOT NULL,
    new_email text NOT NULL,
    settled_at timestamp with time zone,
    last_error text,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL
);

COMMENT ON TABLE billing.customer_email_changes IS 'Stripe customers whose user has a new e-mail address; one row for each customer.';

COMMENT ON COLUMN billing.customer_email_changes.old_emails IS 'The user''s earlier addresses; empty text: none. A customer with any other address is left unchanged.';

COMMENT ON COLUMN billing.customer_email_changes.last_error IS 'Why the change is retried, or why the customer was left unchanged.';

ALTER TABLE billing.customers ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME billing.customers_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE billing.deleted_prices (
    kind text NOT NULL,
    stripe_id text NOT NULL,
    deleted_at timestamp with time zone NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT kind_is_known CHECK ((kind = ANY (ARRAY['price'::text, 'product'::text])))
);

COMMENT ON TABLE billing.deleted_prices IS 'Prices and products that were deleted in Stripe: they never go on sale again.';

COMMENT ON COLUMN billing.deleted_prices.kind IS 'The kind of stripe_id: price or product.';

CREATE VIEW billing.entitlement_discrepancies WITH (security_invoker='on') AS
 SELECT accounts.id AS account_id,
    discrepancies.invariant,
    discrepancies.business_key,
    discrepancies.expected,
    discrepancies.found,
    discrepancies.detail
   FROM (billing.accounts
     CROSS JOIN LATERAL billing.account_discrepancies(accounts.id) discrepancies(account_id_of, invariant, business_key, expected, found, detail));

COMMENT ON VIEW billing.entitlement_discrepancies IS 'Credits that were paid for but not granted, granted but not paid for, refunded but not revoked: account, key, figures. Empty when all is well.';

ALTER TABLE billing.erasures ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME billing.erasures_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE billing.event_pruning (
    id boolean DEFAULT true NOT NULL,
    pruned_until timestamp with time zone DEFAULT '-infinity'::timestamp with time zone NOT NULL,
    CONSTRAINT there_is_one_row CHECK (id)
);

COMMENT ON TABLE billing.event_pruning IS 'How far the bodies of old events are deleted.';

ALTER TABLE billing.found_discrepancies ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME billing.found_discrepancies_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

ALTER TABLE billing.fraud_actions ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME billing.fraud_actions_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE billing.fraud_policies (
    risk_level text NOT NULL,
    alert boolean DEFAULT true NOT NULL,
    freeze_account boolean DEFAULT false NOT NULL,
    refund boolean DEFAULT false NOT NULL,
    refund_amount_max bigint,
    refund_age_max interval DEFAULT '7 days'::interval NOT NULL,
    cancel_subscription boolean DEFAULT false NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT refund_age_max_is_positive CHECK ((refund_age_max > '00:00:00'::interval)),
    CONSTRAINT refund_amount_max_is_positive CHECK ((refund_amount_max > 0)),
    CONSTRAINT risk_level_is_known CHECK ((risk_level = ANY (ARRAY['normal'::text, 'elevated'::text, 'highest'::text, 'not_assessed'::text, 'unknown'::text])))
);

COMMENT ON TABLE billing.fraud_policies IS 'Which actions an early fraud warning causes, by the risk level of its charge. Edit the rows as you like.';

COMMENT ON COLUMN billing.fraud_policies.refund_amount_max IS 'The largest amount that is refunded automatically, in minor units of the charge''s currency; null: any amount.';

ALTER TABLE billing.held_credits ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME billing.held_credits_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

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

COMMENT ON COLUMN billing.invoice_payments.stripe_invoice_payment_id IS 'For API versions without invoice payments: the invoice''s own id.';

CREATE VIEW billing.ledger_discrepancies WITH (security_invoker='on') AS
 SELECT ids.account_id,
    discrepancies.invariant,
    discrepancies.detail
   FROM (( SELECT accounts.id AS account_id
           FROM billing.accounts
        UNION
         SELECT credit_entries.account_id
           FROM billing.credit_entries
        UNION
         SELECT credit_grants.account_id
           FROM billing.credit_grants
        UNION
         SELECT credit_holds.account_id
           FROM billing.credit_holds) ids
     CROSS JOIN LATERAL billing.account_ledger_discrepancies(ids.account_id) discrepancies(invariant, detail))
UNION ALL
 SELECT NULL::uuid AS account_id,
    'lineage_joins_entry_and_lot'::text AS invariant,
    format('%s credits of lot %s by entry %s, neither of which is there'::text, c.amount, c.grant_id, c.entry_id) AS detail
   FROM billing.credit_consumptions c
  WHERE ((NOT (EXISTS ( SELECT
           FROM billing.credit_entries
          WHERE (credit_entries.id = c.entry_id)))) AND (NOT (EXISTS ( SELECT
           FROM billing.credit_grants
          WHERE (credit_grants.id = c.grant_id)))))
UNION ALL
 SELECT NULL::uuid AS account_id,
    lost.invariant,
    lost.detail
   FROM billing.lost_messages() lost(invariant, detail)
UNION ALL
 SELECT NULL::uuid AS account_id,
    lost.invariant,
    lost.detail
   FROM billing.lost_jobs() lost(invariant, detail);

COMMENT ON VIEW billing.ledger_discrepancies IS 'Every inconsistency of the ledger: account, broken invariant, figures. Empty when all is well.';

ALTER TABLE billing.notifications ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME billing.notifications_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE billing.payment_intents (
    stripe_payment_intent_id text NOT NULL,
    amount_received bigint NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT amount_received_is_positive CHECK ((amount_received > 0))
);

COMMENT ON TABLE billing.payment_intents IS 'Succeeded Stripe payment intents and the amount that each received, in minor units.';

CREATE TABLE billing.payment_reference_keys (
    id integer NOT NULL,
    secret bytea DEFAULT sha512(((((uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())) || uuid_send(gen_random_uuid())) || uuid_send(gen_random_uuid())) || uuid_send(gen_random_uuid()))) NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT secret_is_one_block CHECK ((length(secret) = 64))
);

COMMENT ON TABLE billing.payment_reference_keys IS 'Keys that sign the references of payments through Payment Links; the newest one signs. Only the owner of the database can read them.';

ALTER TABLE billing.payment_reference_keys ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME billing.payment_reference_keys_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE billing.refunds (
    stripe_refund_id text NOT NULL,
    stripe_charge_id text,
    stripe_payment_intent_id text,
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

CREATE TABLE billing.saved_cards (
    stripe_payment_method_id text NOT NULL,
    stripe_customer_id text,
    livemode boolean NOT NULL,
    brand text,
    last4 text,
    expires_on date,
    as_of timestamp with time zone NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL
);

COMMENT ON TABLE billing.saved_cards IS 'Cards saved in Stripe, in their newest state; without a customer once detached.';

COMMENT ON COLUMN billing.saved_cards.expires_on IS 'The first day on which the card is no longer valid.';

CREATE VIEW billing.stripe_facts WITH (security_invoker='on') AS
 SELECT 'product'::text AS object,
    products.stripe_product_id AS stripe_id,
    products.livemode,
    products.as_of,
    products.active AS is_expected,
    jsonb_build_object('name', products.name, 'active', products.active, 'metadata', products.metadata) AS facts
   FROM billing.products
  WHERE (products.as_of > '-infinity'::timestamp with time zone)
UNION ALL
 SELECT 'price'::text AS object,
    prices.stripe_price_id AS stripe_id,
    prices.livemode,
    prices.as_of,
    prices.active AS is_expected,
    jsonb_build_object('stripe_product_id', prices.stripe_product_id, 'active', prices.active, 'currency', prices.currency, 'unit_amount', prices.unit_amount, 'metadata', prices.metadata) AS facts
   FROM ( SELECT plans.stripe_price_id,
            plans.stripe_product_id,
            plans.livemode,
            plans.as_of,
            plans.active,
            plans.currency,
            plans.unit_amount,
            plans.metadata
           FROM billing.plans
        UNION ALL
         SELECT credit_packs.stripe_price_id,
            credit_packs.stripe_product_id,
            credit_packs.livemode,
            credit_packs.as_of,
            credit_packs.active,
            credit_packs.currency,
            credit_packs.unit_amount,
            credit_packs.metadata
           FROM billing.credit_packs
        UNION ALL
         SELECT one_time_prices.stripe_price_id,
            one_time_prices.stripe_product_id,
            one_time_prices.livemode,
            one_time_prices.as_of,
            one_time_prices.active,
            one_time_prices.currency,
            one_time_prices.unit_amount,
            one_time_prices.metadata
           FROM billing.one_time_prices) prices
UNION ALL
 SELECT 'customer'::text AS object,
    customers.stripe_customer_id AS stripe_id,
    customers.livemode,
    customers.as_of,
    (customers.deleted_at IS NULL) AS is_expected,
        CASE
            WHEN (customers.deleted_at IS NOT NULL) THEN jsonb_build_object('is_deleted', true)
            WHEN (EXISTS ( SELECT
               FROM billing.erasures
              WHERE ((erasures.account_id = customers.account_id) OR (erasures.stripe_customer_id = customers.stripe_customer_id)))) THEN jsonb_build_object('is_deleted', false, 'is_erased', true)
            ELSE jsonb_build_object('is_deleted', false, 'email', customers.email, 'name', customers.name)
        END AS facts
   FROM billing.customers
  WHERE (customers.as_of > '-infinity'::timestamp with time zone)
UNION ALL
 SELECT 'subscription'::text AS object,
    subscriptions.stripe_subscription_id AS stripe_id,
    subscriptions.livemode,
    subscriptions.as_of,
    true AS is_expected,
    jsonb_build_object('stripe_customer_id', subscriptions.stripe_customer_id, 'status', subscriptions.status, 'billing_cycle_anchor', (EXTRACT(epoch FROM subscriptions.billing_cycle_anchor))::bigint, 'cancel_at', (EXTRACT(epoch FROM subscriptions.cancel_at))::bigint, 'cancel_at_period_end', subscriptions.cancel_at_period_end, 'canceled_at', (EXTRACT(epoch FROM subscriptions.canceled_at))::bigint, 'ended_at', (EXTRACT(epoch FROM subscriptions.ended_at))::bigint, 'trial_start', (EXTRACT(epoch FROM subscriptions.trial_start))::bigint, 'trial_end', (EXTRACT(epoch FROM subscriptions.trial_end))::bigint, 'is_collection_paused', subscriptions.is_collection_paused, 'items', ( SELECT COALESCE(jsonb_object_agg(items.stripe_subscription_item_id, jsonb_build_object('price', items.stripe_price_id, 'quantity', items.quantity, 'start', (EXTRACT(epoch FROM items.current_period_start))::bigint, 'end', (EXTRACT(epoch FROM items.current_period_end))::bigint)), '{}'::jsonb) AS "coalesce"
           FROM billing.subscription_items items
          WHERE (items.stripe_subscription_id = subscriptions.stripe_subscription_id))) AS facts
   FROM billing.subscriptions
UNION ALL
 SELECT 'invoice'::text AS object,
    invoices.stripe_invoice_id AS stripe_id,
    invoices.livemode,
    invoices.as_of,
    (invoices.status <> 'draft'::text) AS is_expected,
        CASE
            WHEN (invoices.status <> 'paid'::text) THEN jsonb_build_object('status', replace(invoices.status, 'draft'::text, 'open'::text))
            ELSE jsonb_build_object('status', invoices.status, 'total', invoices.total, 'amount_paid', invoices.amount_paid, 'lines', ( SELECT COALESCE(jsonb_object_agg(lines.stripe_line_id, jsonb_build_object('item', lines.stripe_subscription_item_id, 'price', lines.stripe_price_id, 'amount', lines.amount, 'quantity', lines.quantity, 'is_proration', lines.is_proration, 'start', (EXTRACT(epoch FROM lines.period_start))::bigint, 'end', (EXTRACT(epoch FROM lines.period_end))::bigint)), '{}'::jsonb) AS "coalesce"
               FROM billing.invoice_lines lines
              WHERE (lines.stripe_invoice_id = invoices.stripe_invoice_id)))
        END AS facts
   FROM billing.invoices
UNION ALL
 SELECT 'invoice_payment'::text AS object,
    payments.stripe_invoice_payment_id AS stripe_id,
    NULL::boolean AS livemode,
    NULL::timestamp with time zone AS as_of,
    false AS is_expected,
    jsonb_build_object('stripe_invoice_id', payments.stripe_invoice_id, 'stripe_payment_intent_id', payments.stripe_payment_intent_id, 'stripe_charge_id', payments.stripe_charge_id, 'amount_paid', payments.amount_paid) AS facts
   FROM billing.invoice_payments payments
  WHERE (payments.status = 'paid'::text)
UNION ALL
 SELECT 'charge'::text AS object,
    payments.stripe_charge_id AS stripe_id,
    payments.livemode,
    payments.as_of,
    true AS is_expected,
    jsonb_build_object('status', payments.status, 'amount', payments.amount, 'amount_refunded', payments.amount_refunded, 'currency', payments.currency) AS facts
   FROM billing.payments
UNION ALL
 SELECT 'refund'::text AS object,
    refunds.stripe_refund_id AS stripe_id,
    ( SELECT payments.livemode
           FROM billing.payments
          WHERE ((payments.stripe_charge_id = refunds.stripe_charge_id) OR (payments.stripe_payment_intent_id = refunds.stripe_payment_intent_id))
         LIMIT 1) AS livemode,
    refunds.as_of,
    true AS is_expected,
    jsonb_build_object('status', refunds.status, 'amount', refunds.amount, 'currency', refunds.currency, 'stripe_charge_id', refunds.stripe_charge_id, 'stripe_payment_intent_id', refunds.stripe_payment_intent_id) AS facts
   FROM billing.refunds
UNION ALL
 SELECT 'dispute'::text AS object,
    disputes.stripe_dispute_id AS stripe_id,
    disputes.livemode,
    disputes.as_of,
    true AS is_expected,
    jsonb_build_object('status', disputes.status, 'amount', disputes.amount, 'stripe_charge_id', disputes.stripe_charge_id) AS facts
   FROM billing.disputes
UNION ALL
 SELECT 'credit_note'::text AS object,
    notes.stripe_credit_note_id AS stripe_id,
    notes.livemode,
    notes.as_of,
    true AS is_expected,
    jsonb_build_object('stripe_invoice_id', notes.stripe_invoice_id, 'status', notes.status, 'amount', notes.amount, 'pre_payment_amount', notes.pre_payment_amount, 'lines', ( SELECT COALESCE(jsonb_object_agg(lines.number, jsonb_build_object('line', lines.stripe_line_id, 'amount', lines.amount)), '{}'::jsonb) AS "coalesce"
           FROM billing.credit_note_lines lines
          WHERE (lines.stripe_credit_note_id = notes.stripe_credit_note_id))) AS facts
   FROM billing.credit_notes notes
UNION ALL
 SELECT 'checkout.session'::text AS object,
    sessions.stripe_checkout_session_id AS stripe_id,
    sessions.livemode,
    sessions.as_of,
    false AS is_expected,
    jsonb_build_object('status', sessions.status, 'payment_status', sessions.payment_status, 'lines', ( SELECT COALESCE(jsonb_object_agg(lines.stripe_line_item_id, jsonb_build_object('price', lines.stripe_price_id, 'amount', lines.amount_total)), '{}'::jsonb) AS "coalesce"
           FROM billing.checkout_line_items lines
          WHERE (lines.stripe_checkout_session_id = sessions.stripe_checkout_session_id))) AS facts
   FROM billing.checkout_sessions sessions
UNION ALL
 SELECT 'radar.early_fraud_warning'::text AS object,
    warnings.stripe_early_fraud_warning_id AS stripe_id,
    warnings.livemode,
    warnings.as_of,
    true AS is_expected,
    jsonb_build_object('actionable', warnings.actionable, 'stripe_charge_id', warnings.stripe_charge_id) AS facts
   FROM billing.fraud_warnings warnings;

COMMENT ON VIEW billing.stripe_facts IS 'What the database has of each Stripe object, in one shape: object (Stripe''s name of the kind), id, time of the state, facts. is_expected: Stripe must have the object too.';

CREATE TABLE billing.stripe_requests (
    account_id uuid NOT NULL,
    idempotency_key text NOT NULL,
    requested_at timestamp with time zone DEFAULT now() NOT NULL
);

COMMENT ON TABLE billing.stripe_requests IS 'Requests to Stripe that an account''s users caused in the last ten minutes.';

CREATE TABLE billing.team_invitations (
    id bigint NOT NULL,
    account_id uuid NOT NULL,
    email text NOT NULL,
    role text NOT NULL,
    token_hash bytea NOT NULL,
    invited_by uuid,
    accepted_by uuid,
    closed_as text,
    closed_at timestamp with time zone,
    expires_at timestamp with time zone NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT closed_as_is_known CHECK ((closed_as = ANY (ARRAY['accepted'::text, 'revoked'::text, 'replaced'::text]))),
    CONSTRAINT closed_invitations_say_how CHECK (((closed_at IS NULL) = (closed_as IS NULL))),
    CONSTRAINT role_can_be_invited CHECK ((role = ANY (ARRAY['admin'::text, 'member'::text])))
);

COMMENT ON TABLE billing.team_invitations IS 'Invitations to teams, open and closed.';

COMMENT ON COLUMN billing.team_invitations.token_hash IS 'SHA-256 of the token in the link.';

COMMENT ON COLUMN billing.team_invitations.invited_by IS 'The owner or admin who sent it, whose right it ends with; null: your server.';

COMMENT ON COLUMN billing.team_invitations.closed_as IS 'accepted, revoked, or replaced by a newer invitation of the same address; null while it is open.';

ALTER TABLE billing.team_invitations ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME billing.team_invitations_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE billing.test_clocks (
    stripe_test_clock_id text NOT NULL,
    frozen_at timestamp with time zone NOT NULL
);

COMMENT ON TABLE billing.test_clocks IS 'Stripe test clocks and the time of their subscriptions.';

CREATE TABLE billing.trial_items (
    stripe_subscription_id text NOT NULL,
    stripe_subscription_item_id text NOT NULL,
    stripe_price_id text NOT NULL,
    seen_at timestamp with time zone NOT NULL
);

COMMENT ON TABLE billing.trial_items IS 'The plans of subscriptions during their trial, with the time of the earliest state that shows each.';

CREATE VIEW billing.ungranted_payments WITH (security_invoker='on') AS
 SELECT sessions.account_id,
    format('checkout session %s is paid for, and no purchase'::text, sessions.stripe_checkout_session_id) AS detail
   FROM (billing.checkout_sessions sessions
     CROSS JOIN billing.settings)
  WHERE ((sessions.account_id IS NOT NULL) AND (sessions.status = 'complete'::text) AND (sessions.payment_status <> 'unpaid'::text) AND (sessions.stripe_invoice_id IS NULL) AND (sessions.completed_at >= COALESCE(settings.credits_since, '-infinity'::timestamp with time zone)) AND (EXISTS ( SELECT
           FROM (billing.checkout_line_items lines
             JOIN billing.credit_packs ON ((credit_packs.stripe_price_id = lines.stripe_price_id)))
          WHERE ((lines.stripe_checkout_session_id = sessions.stripe_checkout_session_id) AND (lines.amount_total > 0) AND (lines.declares_credits OR (credit_packs.declared_from <= sessions.completed_at))))) AND (NOT (EXISTS ( SELECT
           FROM billing.pack_purchases
          WHERE (pack_purchases.stripe_checkout_session_id = sessions.stripe_checkout_session_id)))))
UNION ALL
 SELECT invoices.account_id,
    format('line %s of invoice %s is paid for, and no purchase'::text, lines.stripe_line_id, invoices.stripe_invoice_id) AS detail
   FROM (((billing.invoices
     JOIN billing.invoice_lines lines ON ((lines.stripe_invoice_id = invoices.stripe_invoice_id)))
     JOIN billing.credit_packs packs ON (((packs.stripe_price_id = lines.stripe_price_id) AND (packs.declared_from <= COALESCE(invoices.paid_at, invoices.as_of)))))
     CROSS JOIN billing.settings)
  WHERE ((invoices.account_id IS NOT NULL) AND (invoices.status = 'paid'::text) AND (lines.stripe_subscription_item_id IS NULL) AND ((lines.amount - COALESCE(lines.discount, (0)::bigint)) > 0) AND (invoices.total > 0) AND (COALESCE(invoices.paid_at, invoices.as_of) >= COALESCE(settings.credits_since, '-infinity'::timestamp with time zone)) AND (billing._credits_of_pack(packs.*, lines.quantity, lines.amount) > (0)::numeric) AND (NOT (EXISTS ( SELECT
           FROM billing.pack_purchases
          WHERE (pack_purchases.stripe_line_id = lines.stripe_line_id)))))
UNION ALL
 SELECT first_periods.account_id,
    format('initial credits of invoice %s are not granted'::text, first_periods.stripe_invoice_id) AS detail
   FROM (( SELECT DISTINCT ON (schedules.account_id, plans.stripe_product_id) schedules.account_id,
            schedules.stripe_price_id,
            schedules.stripe_invoice_id,
            schedules.period_start,
            schedules.counts_from
           FROM (billing.credit_schedules schedules
             JOIN billing.plans ON ((plans.stripe_price_id = schedules.stripe_price_id)))
          WHERE ((NOT schedules.is_change) AND (NOT schedules.gives_back))
          ORDER BY schedules.account_id, plans.stripe_product_id, schedules.period_start, schedules.stripe_line_id) first_periods
     CROSS JOIN LATERAL billing._terms_at(first_periods.stripe_price_id, first_periods.period_start) terms(stripe_price_id, valid_from, initial_credits, monthly_credits, trial_credits, rollover, rollover_periods, rollover_cap, proration_credits, downgrade_credits, cancel_credits, trial_end_credits))
  WHERE ((first_periods.counts_from <= first_periods.period_start) AND (terms.initial_credits > 0) AND (terms.valid_from <= first_periods.period_start) AND (NOT billing._was_given(first_periods.account_id, 'initial'::text, first_periods.stripe_price_id)));

COMMENT ON VIEW billing.ungranted_payments IS 'Paid packs without a purchase, and paid first periods without initial credits. Empty when all is well; `till credits recalculate` grants them.';

CREATE VIEW billing.wrong_links WITH (security_invoker='on') AS
 SELECT customers.stripe_customer_id,
    customers.account_id,
    owned.object,
    owned.stripe_id,
    owned.account_id AS found_account_id
   FROM (billing.customers
     CROSS JOIN LATERAL ( SELECT 'subscription'::text AS object,
            subscriptions.stripe_subscription_id AS stripe_id,
            subscriptions.account_id
           FROM billing.subscriptions
          WHERE (subscriptions.stripe_customer_id = customers.stripe_customer_id)
        UNION ALL
         SELECT 'invoice'::text,
            invoices.stripe_invoice_id,
            invoices.account_id
           FROM billing.invoices
          WHERE (invoices.stripe_customer_id = customers.stripe_customer_id)
        UNION ALL
         SELECT 'checkout session'::text,
            checkout_sessions.stripe_checkout_session_id,
            checkout_sessions.account_id
           FROM billing.checkout_sessions
          WHERE (checkout_sessions.stripe_customer_id = customers.stripe_customer_id)
        UNION ALL
         SELECT 'charge'::text,
            payments.stripe_charge_id,
            payments.account_id
           FROM billing.payments
          WHERE (payments.stripe_customer_id = customers.stripe_customer_id)
        UNION ALL
         SELECT 'early fraud warning'::text,
            fraud_warnings.stripe_early_fraud_warning_id,
            fraud_warnings.account_id
           FROM billing.fraud_warnings
          WHERE (fraud_warnings.stripe_customer_id = customers.stripe_customer_id)) owned)
  WHERE (owned.account_id IS DISTINCT FROM customers.account_id);

COMMENT ON VIEW billing.wrong_links IS 'Subscriptions, invoices and payments that name another account than their customer''s. Empty when all is well; `till customers link` assigns them again.';

CREATE VIEW public.billing_entitlements WITH (security_invoker='on') AS
 SELECT subscribers.account_id,
    granted.feature,
    granted.value,
    granted.stripe_subscription_id,
    granted.stripe_price_id
   FROM (( SELECT DISTINCT subscriptions.account_id
           FROM billing.subscriptions) subscribers
     CROSS JOIN LATERAL billing.account_entitlements(subscribers.account_id) granted(feature, value, stripe_subscription_id, stripe_price_id));

COMMENT ON VIEW public.billing_entitlements IS 'Features of my accounts: one row for each feature of a price that the account subscribes to.';

COMMENT ON COLUMN public.billing_entitlements.account_id IS 'The account; its id is in public.billing_account.';

COMMENT ON COLUMN public.billing_entitlements.feature IS 'Name of the feature, from the metadata key features of the price or its product.';

COMMENT ON COLUMN public.billing_entitlements.value IS 'Its value there: true, a number, a text. Features that are false, null or 0 have no row.';

COMMENT ON COLUMN public.billing_entitlements.stripe_subscription_id IS 'The subscription that unlocks it.';

COMMENT ON COLUMN public.billing_entitlements.stripe_price_id IS 'The price that declares it.';

CREATE VIEW public.billing_packs WITH (security_invoker='on') AS
 SELECT packs.stripe_price_id,
    packs.lookup_key,
    COALESCE(packs.nickname, products.name) AS name,
    products.description,
    packs.currency,
    packs.unit_amount,
    packs.pack_credits,
    packs.credits_per_unit,
    packs.expires_after
   FROM (billing.credit_packs packs
     JOIN billing.products ON ((products.stripe_product_id = packs.stripe_product_id)))
  WHERE (packs.active AND products.active AND (packs.livemode = ( SELECT billing.is_livemode() AS is_livemode)));

COMMENT ON VIEW public.billing_packs IS 'Credit packs on sale, for signed-in users.';

COMMENT ON COLUMN public.billing_packs.stripe_price_id IS 'The price in Stripe.';

COMMENT ON COLUMN public.billing_packs.lookup_key IS 'The price''s lookup key, which checkout accepts; null if it has none.';

COMMENT ON COLUMN public.billing_packs.name IS 'Nickname of the price, or the product''s name.';

COMMENT ON COLUMN public.billing_packs.description IS 'The product''s description.';

COMMENT ON COLUMN public.billing_packs.currency IS 'Three-letter code in lower case.';

COMMENT ON COLUMN public.billing_packs.unit_amount IS 'Price in minor units; null if the customer chooses the amount.';

COMMENT ON COLUMN public.billing_packs.pack_credits IS 'Credits of one pack; null if the customer chooses the amount.';

COMMENT ON COLUMN public.billing_packs.credits_per_unit IS 'Credits for one whole unit of the currency if the customer chooses the amount; else null.';

COMMENT ON COLUMN public.billing_packs.expires_after IS 'How long after the payment the credits expire; null: never.';

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
    plans.features,
    plans.trial_days,
    plans.seats_min,
    plans.seats_max
   FROM (billing.plans
     JOIN billing.products ON ((products.stripe_product_id = plans.stripe_product_id)))
  WHERE (plans.active AND products.active AND (plans.livemode = ( SELECT billing.is_livemode() AS is_livemode)));

COMMENT ON VIEW public.billing_plans IS 'Plans on sale and the credits they are worth.';

COMMENT ON COLUMN public.billing_plans.stripe_price_id IS 'The price in Stripe.';

COMMENT ON COLUMN public.billing_plans.lookup_key IS 'The price''s lookup key, which checkout accepts; null if it has none.';

COMMENT ON COLUMN public.billing_plans.name IS 'Nickname of the price, or the product''s name.';

COMMENT ON COLUMN public.billing_plans.description IS 'The product''s description.';

COMMENT ON COLUMN public.billing_plans.currency IS 'Three-letter code in lower case.';

COMMENT ON COLUMN public.billing_plans.unit_amount IS 'Price of one unit in minor units (1900 is 19.00 usd); null for tiered prices.';

COMMENT ON COLUMN public.billing_plans.recurring_interval IS 'day, week, month or year.';

COMMENT ON COLUMN public.billing_plans.recurring_interval_count IS 'How many intervals one period has.';

COMMENT ON COLUMN public.billing_plans.initial_credits IS 'Credits granted once, with the first paid period.';

COMMENT ON COLUMN public.billing_plans.monthly_credits IS 'Credits for each paid month and seat.';

COMMENT ON COLUMN public.billing_plans.trial_credits IS 'Credits for the trial.';

COMMENT ON COLUMN public.billing_plans.features IS 'JSON object of what the plan unlocks.';

COMMENT ON COLUMN public.billing_plans.trial_days IS 'Length of the trial that checkout offers; 0: none.';

COMMENT ON COLUMN public.billing_plans.seats_min IS 'The fewest seats that checkout sells.';

COMMENT ON COLUMN public.billing_plans.seats_max IS 'The most seats that checkout sells; null: settings.max_checkout_quantity.';

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
     JOIN billing.subscription_items items ON ((items.stripe_subscription_id = subscriptions.stripe_subscription_id)));

COMMENT ON VIEW public.billing_subscription IS 'Subscriptions of my accounts: one row for each item.';

COMMENT ON COLUMN public.billing_subscription.account_id IS 'The account; its id is in public.billing_account.';

COMMENT ON COLUMN public.billing_subscription.stripe_subscription_id IS 'The subscription in Stripe.';

COMMENT ON COLUMN public.billing_subscription.status IS 'Stripe''s status: trialing, active, past_due, canceled and so on.';

COMMENT ON COLUMN public.billing_subscription.stripe_price_id IS 'The price of this item.';

COMMENT ON COLUMN public.billing_subscription.quantity IS 'Seats.';

COMMENT ON COLUMN public.billing_subscription.current_period_start IS 'Start of the current billing period.';

COMMENT ON COLUMN public.billing_subscription.current_period_end IS 'End of the current billing period.';

COMMENT ON COLUMN public.billing_subscription.trial_end IS 'When the trial ends; null without a trial.';

COMMENT ON COLUMN public.billing_subscription.cancels_at IS 'When a cancellation that was requested takes effect; null if there is none.';

COMMENT ON COLUMN public.billing_subscription.ended_at IS 'When the subscription ended; null while it has not.';

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

COMMENT ON COLUMN public.credit_history.id IS 'Entries of one account have ascending ids: page with id less than the last one shown.';

COMMENT ON COLUMN public.credit_history.account_id IS 'The account; its id is in public.billing_account.';

COMMENT ON COLUMN public.credit_history.kind IS 'What kind of movement: grant, spend, capture, refund, expiry, revocation and so on.';

COMMENT ON COLUMN public.credit_history.amount IS 'Credits added (above zero) or taken (below zero).';

COMMENT ON COLUMN public.credit_history.balance_after IS 'The balance after this entry.';

COMMENT ON COLUMN public.credit_history.source IS 'Where it comes from: app, or stripe.subscription, stripe.checkout and so on.';

COMMENT ON COLUMN public.credit_history.reference_id IS 'Id of what it is for, as the app or Stripe names it.';

COMMENT ON COLUMN public.credit_history.description IS 'A line for the user.';

COMMENT ON COLUMN public.credit_history.feature IS 'The feature or meter that the credits were used for.';

COMMENT ON COLUMN public.credit_history.metadata IS 'JSON object that the app passed.';

COMMENT ON COLUMN public.credit_history.occurred_at IS 'When it happened.';

CREATE VIEW public.team_invitations WITH (security_invoker='on') AS
 SELECT account_id,
    email,
    role,
    expires_at,
    created_at
   FROM billing.team_invitations
  WHERE ((closed_at IS NULL) AND (expires_at > billing."current_time"()));

COMMENT ON VIEW public.team_invitations IS 'Open invitations of the teams that I own or administer.';

COMMENT ON COLUMN public.team_invitations.account_id IS 'The team''s account.';

COMMENT ON COLUMN public.team_invitations.email IS 'The invited address.';

COMMENT ON COLUMN public.team_invitations.role IS 'The role of the new member: admin or member.';

COMMENT ON COLUMN public.team_invitations.expires_at IS 'Until when it can be accepted.';

COMMENT ON COLUMN public.team_invitations.created_at IS 'When it was made.';

ALTER TABLE ONLY billing.account_members
    ADD CONSTRAINT account_members_pkey PRIMARY KEY (account_id, user_id);

ALTER TABLE ONLY billing.account_proof
    ADD CONSTRAINT account_proof_pkey PRIMARY KEY (id);

ALTER TABLE ONLY billing.accounts
    ADD CONSTRAINT accounts_pkey PRIMARY KEY (id);

ALTER TABLE ONLY billing.alerts
    ADD CONSTRAINT alerts_pkey PRIMARY KEY (id);

ALTER TABLE ONLY billing.backfilled_lists
    ADD CONSTRAINT backfilled_lists_pkey PRIMARY KEY (list);

ALTER TABLE ONLY billing.card_fingerprints
    ADD CONSTRAINT card_fingerprints_pkey PRIMARY KEY (stripe_customer_id, card_fingerprint);

ALTER TABLE ONLY billing.carried_credits
    ADD CONSTRAINT carried_credits_pkey PRIMARY KEY (business_key);

ALTER TABLE ONLY billing.checkout_line_items
    ADD CONSTRAINT checkout_line_items_pkey PRIMARY KEY (stripe_line_item_id);

ALTER TABLE ONLY billing.checkout_requests
    ADD CONSTRAINT checkout_requests_idempotency_key_key UNIQUE (idempotency_key);

ALTER TABLE ONLY billing.checkout_requests
    ADD CONSTRAINT checkout_requests_pkey PRIMARY KEY (id);

ALTER TABLE ONLY billing.checkout_requests
    ADD CONSTRAINT checkout_requests_stripe_checkout_session_id_key UNIQUE (stripe_checkout_session_id);

ALTER TABLE ONLY billing.checkout_sessions
    ADD CONSTRAINT checkout_sessions_pkey PRIMARY KEY (stripe_checkout_session_id);

ALTER TABLE ONLY billing.clock
    ADD CONSTRAINT clock_pkey PRIMARY KEY (id);

ALTER TABLE ONLY billing.credit_balances
    ADD CONSTRAINT credit_balances_pkey PRIMARY KEY (account_id);

ALTER TABLE ONLY billing.credit_consumptions
    ADD CONSTRAINT credit_consumptions_pkey PRIMARY KEY (entry_id, grant_id);

ALTER TABLE ONLY billing.credit_count
    ADD CONSTRAINT credit_count_pkey PRIMARY KEY (id);

ALTER TABLE ONLY billing.credit_entries
    ADD CONSTRAINT credit_entries_pkey PRIMARY KEY (id);

ALTER TABLE ONLY billing.credit_grants
    ADD CONSTRAINT credit_grants_pkey PRIMARY KEY (id);

ALTER TABLE ONLY billing.credit_hold_lots
    ADD CONSTRAINT credit_hold_lots_pkey PRIMARY KEY (hold_id, grant_id);

ALTER TABLE ONLY billing.credit_holds
    ADD CONSTRAINT credit_holds_pkey PRIMARY KEY (id);

ALTER TABLE ONLY billing.credit_note_lines
    ADD CONSTRAINT credit_note_lines_pkey PRIMARY KEY (stripe_credit_note_id, number);

ALTER TABLE ONLY billing.credit_notes
    ADD CONSTRAINT credit_notes_pkey PRIMARY KEY (stripe_credit_note_id);

ALTER TABLE ONLY billing.credit_packs
    ADD CONSTRAINT credit_packs_pkey PRIMARY KEY (stripe_price_id);

ALTER TABLE ONLY billing.credit_reinstatements
    ADD CONSTRAINT credit_reinstatements_pkey PRIMARY KEY (id);

ALTER TABLE ONLY billing.credit_revocations
    ADD CONSTRAINT credit_revocations_pkey PRIMARY KEY (id);

ALTER TABLE ONLY billing.credit_schedules
    ADD CONSTRAINT credit_schedules_pkey PRIMARY KEY (stripe_line_id);

ALTER TABLE ONLY billing.credit_terms
    ADD CONSTRAINT credit_terms_pkey PRIMARY KEY (stripe_price_id, valid_from);

ALTER TABLE ONLY billing.credit_totals
    ADD CONSTRAINT credit_totals_pkey PRIMARY KEY (kind);

ALTER TABLE ONLY billing.customer_claims
    ADD CONSTRAINT customer_claims_idempotency_key_key UNIQUE (idempotency_key);

ALTER TABLE ONLY billing.customer_claims
    ADD CONSTRAINT customer_claims_pkey PRIMARY KEY (account_id, livemode);

ALTER TABLE ONLY billing.customer_email_changes
    ADD CONSTRAINT customer_email_changes_pkey PRIMARY KEY (stripe_customer_id);

ALTER TABLE ONLY billing.customers
    ADD CONSTRAINT customers_pkey PRIMARY KEY (id);

ALTER TABLE ONLY billing.customers
    ADD CONSTRAINT customers_stripe_customer_id_key UNIQUE (stripe_customer_id);

ALTER TABLE ONLY billing.deleted_prices
    ADD CONSTRAINT deleted_prices_pkey PRIMARY KEY (kind, stripe_id);

ALTER TABLE ONLY billing.disputes
    ADD CONSTRAINT disputes_pkey PRIMARY KEY (stripe_dispute_id);

ALTER TABLE ONLY billing.erasures
    ADD CONSTRAINT erasures_account_id_key UNIQUE (account_id);

ALTER TABLE ONLY billing.erasures
    ADD CONSTRAINT erasures_pkey PRIMARY KEY (id);

ALTER TABLE ONLY billing.erasures
    ADD CONSTRAINT erasures_stripe_customer_id_key UNIQUE (stripe_customer_id);

ALTER TABLE ONLY billing.event_pruning
    ADD CONSTRAINT event_pruning_pkey PRIMARY KEY (id);

ALTER TABLE ONLY billing.found_discrepancies
    ADD CONSTRAINT found_discrepancies_pkey PRIMARY KEY (id);

ALTER TABLE ONLY billing.fraud_actions
    ADD CONSTRAINT fraud_actions_pkey PRIMARY KEY (id);

ALTER TABLE ONLY billing.fraud_policies
    ADD CONSTRAINT fraud_policies_pkey PRIMARY KEY (risk_level);

ALTER TABLE ONLY billing.fraud_warnings
    ADD CONSTRAINT fraud_warnings_pkey PRIMARY KEY (stripe_early_fraud_warning_id);

ALTER TABLE ONLY billing.held_credits
    ADD CONSTRAINT held_credits_pkey PRIMARY KEY (id);

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

ALTER TABLE ONLY billing.one_time_prices
    ADD CONSTRAINT one_time_prices_pkey PRIMARY KEY (stripe_price_id);

ALTER TABLE ONLY billing.pack_purchases
    ADD CONSTRAINT pack_purchases_pkey PRIMARY KEY (business_key);

ALTER TABLE ONLY billing.payment_intents
    ADD CONSTRAINT payment_intents_pkey PRIMARY KEY (stripe_payment_intent_id);

ALTER TABLE ONLY billing.payment_links
    ADD CONSTRAINT payment_links_idempotency_key_key UNIQUE (idempotency_key);

ALTER TABLE ONLY billing.payment_links
    ADD CONSTRAINT payment_links_pkey PRIMARY KEY (id);

ALTER TABLE ONLY billing.payment_links
    ADD CONSTRAINT payment_links_stripe_payment_link_id_key UNIQUE (stripe_payment_link_id);

ALTER TABLE ONLY billing.payment_reference_keys
    ADD CONSTRAINT payment_reference_keys_pkey PRIMARY KEY (id);

ALTER TABLE ONLY billing.payments
    ADD CONSTRAINT payments_pkey PRIMARY KEY (stripe_charge_id);

ALTER TABLE ONLY billing.plans
    ADD CONSTRAINT plans_pkey PRIMARY KEY (stripe_price_id);

ALTER TABLE ONLY billing.products
    ADD CONSTRAINT products_pkey PRIMARY KEY (stripe_product_id);

ALTER TABLE ONLY billing.recharge_settings
    ADD CONSTRAINT recharge_settings_pkey PRIMARY KEY (account_id);

ALTER TABLE ONLY billing.recharges
    ADD CONSTRAINT recharges_pkey PRIMARY KEY (id);

ALTER TABLE ONLY billing.refunds
    ADD CONSTRAINT refunds_pkey PRIMARY KEY (stripe_refund_id);

ALTER TABLE ONLY billing.reviews
    ADD CONSTRAINT reviews_pkey PRIMARY KEY (stripe_review_id);

ALTER TABLE ONLY billing.saved_cards
    ADD CONSTRAINT saved_cards_pkey PRIMARY KEY (stripe_payment_method_id);

ALTER TABLE ONLY billing.settings
    ADD CONSTRAINT settings_pkey PRIMARY KEY (id);

ALTER TABLE ONLY billing.stripe_events
    ADD CONSTRAINT stripe_events_pkey PRIMARY KEY (stripe_event_id);

ALTER TABLE ONLY billing.stripe_lookups
    ADD CONSTRAINT stripe_lookups_pkey PRIMARY KEY (stripe_event_id);

ALTER TABLE ONLY billing.stripe_requests
    ADD CONSTRAINT stripe_requests_pkey PRIMARY KEY (account_id, idempotency_key);

ALTER TABLE ONLY billing.subscription_items
    ADD CONSTRAINT subscription_items_pkey PRIMARY KEY (stripe_subscription_item_id);

ALTER TABLE ONLY billing.subscriptions
    ADD CONSTRAINT subscriptions_pkey PRIMARY KEY (stripe_subscription_id);

ALTER TABLE ONLY billing.team_invitations
    ADD CONSTRAINT team_invitations_pkey PRIMARY KEY (id);

ALTER TABLE ONLY billing.team_invitations
    ADD CONSTRAINT team_invitations_token_hash_key UNIQUE (token_hash);

ALTER TABLE ONLY billing.test_clocks
    ADD CONSTRAINT test_clocks_pkey PRIMARY KEY (stripe_test_clock_id);

ALTER TABLE ONLY billing.trial_items
    ADD CONSTRAINT trial_items_pkey PRIMARY KEY (stripe_subscription_id, stripe_subscription_item_id, stripe_price_id);

ALTER TABLE ONLY billing.workers
    ADD CONSTRAINT workers_pkey PRIMARY KEY (pid);

CREATE INDEX account_members_user ON billing.account_members USING btree (user_id);

CREATE INDEX accounts_created ON billing.accounts USING btree (created_at, id);

CREATE INDEX accounts_frozen ON billing.accounts USING btree (frozen_at) WHERE (frozen_at IS NOT NULL);

CREATE INDEX accounts_of_deleted_users ON billing.accounts USING btree (id) WHERE ((owner_id IS NULL) AND (kind = 'personal'::text));

CREATE INDEX accounts_owner ON billing.accounts USING btree (owner_id);

CREATE UNIQUE INDEX accounts_personal_owner ON billing.accounts USING btree (owner_id) WHERE (kind = 'personal'::text);

CREATE UNIQUE INDEX alerts_open ON billing.alerts USING btree (kind, subject) WHERE (ended_at IS NULL);

CREATE INDEX card_fingerprints_account ON billing.card_fingerprints USING btree (account_id);

CREATE INDEX card_fingerprints_seen ON billing.card_fingerprints USING btree (card_fingerprint, first_seen_at, account_id);

CREATE INDEX carried_credits_account ON billing.carried_credits USING btree (account_id);

CREATE INDEX checkout_line_items_session ON billing.checkout_line_items USING btree (stripe_checkout_session_id);

CREATE INDEX checkout_requests_account ON billing.checkout_requests USING btree (account_id, created_at);

CREATE INDEX checkout_requests_user ON billing.checkout_requests USING btree (user_id);

CREATE INDEX checkout_sessions_account ON billing.checkout_sessions USING btree (account_id);

CREATE INDEX checkout_sessions_customer ON billing.checkout_sessions USING btree (stripe_customer_id);

CREATE INDEX checkout_sessions_payment_intent ON billing.checkout_sessions USING btree (stripe_payment_intent_id);

CREATE INDEX credit_balances_due ON billing.credit_balances USING btree (next_due_at) WHERE (next_due_at IS NOT NULL);

CREATE INDEX credit_balances_newest ON billing.credit_balances USING btree (uuid_hash(account_id), epoch DESC);

CREATE INDEX credit_consumptions_given_back ON billing.credit_consumptions USING btree (grant_id, entry_id) WHERE ((amount)::bigint < 0);

CREATE INDEX credit_consumptions_grant ON billing.credit_consumptions USING btree (grant_id);

CREATE INDEX credit_entries_history ON billing.credit_entries USING btree (account_id, id DESC);

CREATE INDEX credit_entries_hold ON billing.credit_entries USING btree (hold_id) WHERE (hold_id IS NOT NULL);

CREATE UNIQUE INDEX credit_entries_key ON billing.credit_entries USING btree (account_id, key_space, idempotency_key);

CREATE INDEX credit_entries_moment ON billing.credit_entries USING brin (occurred_at);

CREATE INDEX credit_entries_reverses ON billing.credit_entries USING btree (reverses_entry_id) WHERE (reverses_entry_id IS NOT NULL);

CREATE INDEX credit_entries_time ON billing.credit_entries USING btree (account_id, occurred_at);

CREATE UNIQUE INDEX credit_grants_business_key ON billing.credit_grants USING btree (idempotency_key) WHERE ((key_space)::text = 'stripe'::text);

CREATE INDEX credit_grants_contested ON billing.credit_grants USING btree (account_id) WHERE (contested > 0);

CREATE INDEX credit_grants_entry ON billing.credit_grants USING btree (entry_id);

CREATE INDEX credit_grants_invoice ON billing.credit_grants USING btree (stripe_invoice_id) WHERE (stripe_invoice_id IS NOT NULL);

CREATE UNIQUE INDEX credit_grants_key ON billing.credit_grants USING btree (account_id, key_space, idempotency_key);

CREATE INDEX credit_grants_payment_intent ON billing.credit_grants USING btree (stripe_payment_intent_id) WHERE (stripe_payment_intent_id IS NOT NULL);

CREATE INDEX credit_grants_scheduled ON billing.credit_grants USING btree (account_id, effective_at) WHERE ((entry_id IS NULL) AND (closed_at IS NULL));

CREATE INDEX credit_grants_spending_order ON billing.credit_grants USING btree (account_id, priority, expires_at, id, epoch DESC) WHERE (closed_at IS NULL);

CREATE INDEX credit_hold_lots_grant ON billing.credit_hold_lots USING btree (grant_id);

CREATE INDEX credit_holds_frozen ON billing.credit_holds USING btree (frozen_grant_id) WHERE (frozen_grant_id IS NOT NULL);

CREATE UNIQUE INDEX credit_holds_key ON billing.credit_holds USING btree (account_id, idempotency_key);

CREATE INDEX credit_holds_of_disputes ON billing.credit_holds USING btree (account_id) WHERE ((status = 'held'::text) AND (frozen_grant_id IS NOT NULL));

CREATE INDEX credit_holds_open ON billing.credit_holds USING btree (account_id, expires_at) WHERE (status = 'held'::text);

CREATE UNIQUE INDEX credit_holds_release_key ON billing.credit_holds USING btree (account_id, release_key) WHERE (release_key IS NOT NULL);

CREATE INDEX credit_notes_invoice ON billing.credit_notes USING btree (stripe_invoice_id);

CREATE INDEX credit_notes_refunds ON billing.credit_notes USING gin (stripe_refund_ids);

CREATE INDEX credit_packs_lookup_key ON billing.credit_packs USING btree (lookup_key) WHERE (lookup_key IS NOT NULL);

CREATE INDEX credit_packs_product ON billing.credit_packs USING btree (stripe_product_id);

CREATE INDEX credit_reinstatements_entry ON billing.credit_reinstatements USING btree (entry_id) WHERE (entry_id IS NOT NULL);

CREATE UNIQUE INDEX credit_reinstatements_key ON billing.credit_reinstatements USING btree (account_id, key_space, idempotency_key);

CREATE INDEX credit_reinstatements_revocation ON billing.credit_reinstatements USING btree (revocation_id);

CREATE INDEX credit_revocations_business_key ON billing.credit_revocations USING btree (business_key) WHERE (business_key IS NOT NULL);

CREATE INDEX credit_revocations_entry ON billing.credit_revocations USING btree (entry_id) WHERE (entry_id IS NOT NULL);

CREATE INDEX credit_revocations_grant ON billing.credit_revocations USING btree (grant_id);

CREATE UNIQUE INDEX credit_revocations_key ON billing.credit_revocations USING btree (account_id, key_space, idempotency_key);

CREATE INDEX credit_revocations_shortfall ON billing.credit_revocations USING btree (account_id) WHERE ((shortfall > 0) AND (shortfall_policy <> 'allow_negative'::text));

CREATE INDEX credit_schedules_account ON billing.credit_schedules USING btree (account_id, next_slot_at) WHERE ((next_slot_at IS NOT NULL) AND (disarmed_reason IS NULL));

CREATE INDEX credit_schedules_due ON billing.credit_schedules USING btree (next_slot_at) WHERE ((next_slot_at IS NOT NULL) AND (disarmed_reason IS NULL));

CREATE INDEX credit_schedules_free ON billing.credit_schedules USING btree (account_id, period_end) WHERE is_free;

CREATE INDEX credit_schedules_invoice ON billing.credit_schedules USING btree (stripe_invoice_id);

CREATE INDEX credit_schedules_next ON billing.credit_schedules USING btree (stripe_subscription_id) WHERE (next_slot_at IS NOT NULL);

CREATE INDEX credit_schedules_past ON billing.credit_schedules USING btree (account_id) WHERE (counts_from > '-infinity'::timestamp with time zone);

CREATE INDEX credit_schedules_subscription ON billing.credit_schedules USING btree (stripe_subscription_id, period_end);

CREATE INDEX customer_email_changes_open ON billing.customer_email_changes USING btree (stripe_customer_id) WHERE (settled_at IS NULL);

CREATE UNIQUE INDEX customers_account ON billing.customers USING btree (account_id, livemode) WHERE ((deleted_at IS NULL) AND (duplicate_of IS NULL));

CREATE INDEX customers_duplicates ON billing.customers USING btree (duplicate_of) WHERE (duplicate_of IS NOT NULL);

CREATE INDEX customers_email ON billing.customers USING btree (lower(email));

CREATE INDEX customers_of_account ON billing.customers USING btree (account_id);

CREATE INDEX customers_unlinked ON billing.customers USING btree (created_at) WHERE (status = 'unlinked'::text);

CREATE INDEX disputes_charge ON billing.disputes USING btree (stripe_charge_id);

CREATE INDEX disputes_disputed ON billing.disputes USING btree (disputed_at, stripe_dispute_id);

CREATE INDEX disputes_payment_intent ON billing.disputes USING btree (stripe_payment_intent_id);

CREATE INDEX disputes_to_answer ON billing.disputes USING btree (disputed_at, stripe_dispute_id) WHERE needs_response;

CREATE UNIQUE INDEX found_discrepancies_once ON billing.found_discrepancies USING btree (account_id, invariant, detail);

CREATE INDEX fraud_actions_account ON billing.fraud_actions USING btree (account_id);

CREATE UNIQUE INDEX fraud_actions_of_deleted_user ON billing.fraud_actions USING btree (stripe_subscription_id) WHERE (actor = 'on_user_deleted'::text);

CREATE UNIQUE INDEX fraud_actions_of_policy ON billing.fraud_actions USING btree (stripe_early_fraud_warning_id, action, COALESCE(stripe_subscription_id, ''::text)) WHERE (actor = 'policy'::text);

CREATE INDEX fraud_actions_queued ON billing.fraud_actions USING btree (id) WHERE (status = 'queued'::text);

CREATE INDEX fraud_actions_refund ON billing.fraud_actions USING btree (stripe_refund_id) WHERE (stripe_refund_id IS NOT NULL);

CREATE INDEX fraud_actions_warning ON billing.fraud_actions USING btree (stripe_early_fraud_warning_id);

CREATE INDEX fraud_warnings_account ON billing.fraud_warnings USING btree (account_id);

CREATE INDEX fraud_warnings_charge ON billing.fraud_warnings USING btree (stripe_charge_id);

CREATE INDEX fraud_warnings_customer ON billing.fraud_warnings USING btree (stripe_customer_id);

CREATE INDEX fraud_warnings_open ON billing.fraud_warnings USING btree (warned_at) WHERE (status = 'open'::text);

CREATE INDEX fraud_warnings_payment_intent ON billing.fraud_warnings USING btree (stripe_payment_intent_id);

CREATE INDEX fraud_warnings_warned ON billing.fraud_warnings USING btree (warned_at, stripe_early_fraud_warning_id);

CREATE INDEX held_credits_account ON billing.held_credits USING btree (account_id);

CREATE UNIQUE INDEX held_credits_key ON billing.held_credits USING btree (idempotency_key);

CREATE INDEX held_credits_matched_account ON billing.held_credits USING btree (matched_account_id);

CREATE INDEX held_credits_pending ON billing.held_credits USING btree (held_at) WHERE (status = 'pending'::text);

CREATE INDEX held_credits_revocation ON billing.held_credits USING btree (revocation_id) WHERE (revocation_id IS NOT NULL);

CREATE INDEX invoice_lines_credited ON billing.invoice_lines USING btree (credited_invoice_id) WHERE (credited_invoice_id IS NOT NULL);

CREATE INDEX invoice_lines_invoice ON billing.invoice_lines USING btree (stripe_invoice_id);

CREATE INDEX invoice_lines_item ON billing.invoice_lines USING btree (stripe_subscription_item_id) WHERE (stripe_subscription_item_id IS NOT NULL);

CREATE INDEX invoice_lines_one_time ON billing.invoice_lines USING btree (stripe_price_id) WHERE (stripe_subscription_item_id IS NULL);

CREATE INDEX invoice_lines_waiting ON billing.invoice_lines USING btree (stripe_subscription_id) WHERE is_waiting;

CREATE INDEX invoice_lines_waiting_for ON billing.invoice_lines USING btree (stripe_price_id) WHERE is_waiting;

CREATE INDEX invoice_payments_charge ON billing.invoice_payments USING btree (stripe_charge_id);

CREATE INDEX invoice_payments_invoice ON billing.invoice_payments USING btree (stripe_invoice_id);

CREATE INDEX invoice_payments_payment_intent ON billing.invoice_payments USING btree (stripe_payment_intent_id);

CREATE INDEX invoices_account ON billing.invoices USING btree (account_id);

CREATE INDEX invoices_customer ON billing.invoices USING btree (stripe_customer_id);

CREATE INDEX invoices_subscription ON billing.invoices USING btree (stripe_subscription_id);

CREATE INDEX notifications_account ON billing.notifications USING btree (account_id);

CREATE INDEX notifications_alike ON billing.notifications USING btree (kind, reader) WHERE (status = 'queued'::text);

CREATE INDEX notifications_dead ON billing.notifications USING btree (id) WHERE (status = 'dead'::text);

CREATE INDEX notifications_digest ON billing.notifications USING btree (digest_id, id) WHERE (digest_id IS NOT NULL);

CREATE INDEX notifications_open ON billing.notifications USING btree (audience, status, queued_at) WHERE (status = ANY (ARRAY['queued'::text, 'sending'::text]));

CREATE INDEX notifications_over ON billing.notifications USING btree (created_at) WHERE (status = ANY (ARRAY['delivered'::text, 'skipped'::text]));

CREATE INDEX notifications_sent ON billing.notifications USING btree (kind, reader, first_attempt_at) WHERE (first_attempt_at IS NOT NULL);

CREATE INDEX one_time_prices_product ON billing.one_time_prices USING btree (stripe_product_id);

CREATE INDEX pack_purchases_account ON billing.pack_purchases USING btree (account_id);

CREATE INDEX pack_purchases_invoice ON billing.pack_purchases USING btree (stripe_invoice_id) WHERE (stripe_invoice_id IS NOT NULL);

CREATE INDEX pack_purchases_payment_intent ON billing.pack_purchases USING btree (stripe_payment_intent_id) WHERE (stripe_payment_intent_id IS NOT NULL);

CREATE INDEX pack_purchases_session ON billing.pack_purchases USING btree (stripe_checkout_session_id) WHERE (stripe_checkout_session_id IS NOT NULL);

CREATE INDEX payment_links_due ON billing.payment_links USING btree (deactivate_at) WHERE (deactivate_at IS NOT NULL);

CREATE UNIQUE INDEX payment_links_params ON billing.payment_links USING btree (params_hash, livemode) WHERE active;

CREATE INDEX payment_links_price ON billing.payment_links USING btree (stripe_price_id);

CREATE INDEX payments_account ON billing.payments USING btree (account_id);

CREATE INDEX payments_card_fingerprint ON billing.payments USING btree (card_fingerprint);

CREATE INDEX payments_charged ON billing.payments USING btree (charged_at);

CREATE INDEX payments_customer ON billing.payments USING btree (stripe_customer_id);

CREATE INDEX payments_payment_intent ON billing.payments USING btree (stripe_payment_intent_id);

CREATE INDEX plans_lookup_key ON billing.plans USING btree (lookup_key) WHERE (lookup_key IS NOT NULL);

CREATE INDEX plans_product ON billing.plans USING btree (stripe_product_id);

CREATE INDEX recharge_settings_check_again ON billing.recharge_settings USING btree (check_again_at) WHERE (check_again_at IS NOT NULL);

CREATE INDEX recharge_settings_paused ON billing.recharge_settings USING btree (paused_at) WHERE is_paused;

CREATE INDEX recharge_settings_price ON billing.recharge_settings USING btree (stripe_price_id);

CREATE INDEX recharges_account ON billing.recharges USING btree (account_id, claimed_at);

CREATE UNIQUE INDEX recharges_key ON billing.recharges USING btree (idempotency_key);

CREATE UNIQUE INDEX recharges_payment_intent ON billing.recharges USING btree (stripe_payment_intent_id) WHERE (stripe_payment_intent_id IS NOT NULL);

CREATE UNIQUE INDEX recharges_under_way ON billing.recharges USING btree (account_id) WHERE (status = ANY (ARRAY['claimed'::text, 'charging'::text, 'requires_action'::text]));

CREATE INDEX refunds_charge ON billing.refunds USING btree (stripe_charge_id);

CREATE INDEX refunds_payment_intent ON billing.refunds USING btree (stripe_payment_intent_id);

CREATE INDEX refunds_refunded ON billing.refunds USING btree (refunded_at);

CREATE INDEX reviews_account ON billing.reviews USING btree (account_id);

CREATE INDEX reviews_charge ON billing.reviews USING btree (stripe_charge_id);

CREATE INDEX reviews_opened ON billing.reviews USING btree (is_open, opened_at);

CREATE INDEX saved_cards_customer ON billing.saved_cards USING btree (stripe_customer_id);

CREATE INDEX saved_cards_expiry ON billing.saved_cards USING btree (expires_on) WHERE (stripe_customer_id IS NOT NULL);

CREATE INDEX stripe_events_queued ON billing.stripe_events USING btree (received_at) WHERE (status = 'queued'::text);

CREATE INDEX stripe_events_received ON billing.stripe_events USING btree (received_at);

CREATE INDEX stripe_events_set_aside ON billing.stripe_events USING btree (status, received_at) WHERE (status = ANY (ARRAY['parked'::text, 'dead'::text]));

CREATE INDEX stripe_events_unreported ON billing.stripe_events USING btree (settled_at) WHERE ((status = ANY (ARRAY['parked'::text, 'dead'::text])) AND (waiting_for IS NOT NULL) AND (notified_at IS NULL));

CREATE INDEX stripe_events_waiting ON billing.stripe_events USING btree (waiting_for) WHERE (waiting_for IS NOT NULL);

CREATE INDEX stripe_lookups_due ON billing.stripe_lookups USING btree (next_attempt_at);

CREATE INDEX subscription_items_price ON billing.subscription_items USING btree (stripe_price_id, current_period_end);

CREATE INDEX subscription_items_subscription ON billing.subscription_items USING btree (stripe_subscription_id);

CREATE INDEX subscriptions_account ON billing.subscriptions USING btree (account_id);

CREATE INDEX subscriptions_customer ON billing.subscriptions USING btree (stripe_customer_id);

CREATE INDEX subscriptions_started ON billing.subscriptions USING btree (started_at, stripe_subscription_id);

CREATE INDEX subscriptions_test_clock ON billing.subscriptions USING btree (stripe_test_clock_id) WHERE (stripe_test_clock_id IS NOT NULL);

CREATE INDEX team_invitations_accepter ON billing.team_invitations USING btree (accepted_by);

CREATE INDEX team_invitations_inviter ON billing.team_invitations USING btree (invited_by);

CREATE UNIQUE INDEX team_invitations_open ON billing.team_invitations USING btree (account_id, email) WHERE (closed_at IS NULL);

CREATE CONSTRAINT TRIGGER tg_account_members__appoint_owner AFTER DELETE ON billing.account_members DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN ((old.role = 'owner'::text)) EXECUTE FUNCTION billing.tg_account_members__appoint_owner();

CREATE CONSTRAINT TRIGGER tg_account_members__member_deleted AFTER DELETE ON billing.account_members DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION billing.tg_account_members__member_deleted();

CREATE TRIGGER tg_accounts__follow_owner AFTER UPDATE OF owner_id ON billing.accounts FOR EACH ROW WHEN ((old.owner_id <> new.owner_id)) EXECUTE FUNCTION billing.tg_accounts__follow_owner();

CREATE TRIGGER tg_accounts__may_spend AFTER UPDATE OF frozen_at, closed_at ON billing.accounts FOR EACH ROW EXECUTE FUNCTION billing.tg_accounts__may_spend();

CREATE TRIGGER tg_accounts__open_balance AFTER INSERT ON billing.accounts FOR EACH ROW EXECUTE FUNCTION billing.tg_accounts__open_balance();

CREATE CONSTRAINT TRIGGER tg_accounts__owner_deleted AFTER UPDATE OF owner_id ON billing.accounts DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (((old.owner_id IS NOT NULL) AND (new.owner_id IS NULL))) EXECUTE FUNCTION billing.tg_accounts__owner_deleted();

CREATE TRIGGER tg_accounts__pause_recharge AFTER UPDATE OF kind ON billing.accounts FOR EACH ROW WHEN (((old.kind = 'personal'::text) AND (new.kind = 'team'::text))) EXECUTE FUNCTION billing.tg_accounts__pause_recharge();

CREATE CONSTRAINT TRIGGER tg_checkout_sessions__receipt AFTER INSERT OR UPDATE OF payment_status, account_id ON billing.checkout_sessions DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (((new.mode = 'payment'::text) AND (new.payment_status = 'paid'::text) AND (new.account_id IS NOT NULL))) EXECUTE FUNCTION billing.tg_checkout_sessions__receipt();

CREATE TRIGGER tg_clock__local_only BEFORE INSERT OR DELETE OR UPDATE OR TRUNCATE ON billing.clock FOR EACH STATEMENT EXECUTE FUNCTION billing.tg_clock__local_only();

CREATE TRIGGER tg_credit_balances__kept BEFORE DELETE OR TRUNCATE ON billing.credit_balances FOR EACH STATEMENT EXECUTE FUNCTION billing.tg_ledger__append_only();

CREATE CONSTRAINT TRIGGER tg_credit_balances__low_balance AFTER UPDATE ON billing.credit_balances DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN ((new.is_low <> ((new.balance - new.held) < new.low_balance_threshold))) EXECUTE FUNCTION billing.tg_credit_balances__low_balance();

CREATE CONSTRAINT TRIGGER tg_credit_balances__recharge AFTER UPDATE ON billing.credit_balances DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (((new.balance - new.held) < new.recharge_below)) EXECUTE FUNCTION billing.tg_credit_balances__recharge();

CREATE TRIGGER tg_credit_balances__sound BEFORE INSERT OR UPDATE OF held, debt, withheld, carried, written_off_debt, written_off_withheld, overdraft, spend_cap, spend_cap_period, low_balance_threshold ON billing.credit_balances FOR EACH ROW EXECUTE FUNCTION billing.tg_credit_balances__sound();

CREATE TRIGGER tg_credit_consumptions__append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON billing.credit_consumptions FOR EACH STATEMENT EXECUTE FUNCTION billing.tg_ledger__append_only();

CREATE TRIGGER tg_credit_entries__append_only BEFORE DELETE OR UPDATE OF account_id, kind, amount, balance_after, debt, up_to, source, reference_id, feature, reverses_entry_id, hold_id, key_space, idempotency_key, occurred_at, created_at OR TRUNCATE ON billing.credit_entries FOR EACH STATEMENT EXECUTE FUNCTION billing.tg_ledger__append_only();

CREATE TRIGGER tg_credit_entries__erased BEFORE UPDATE ON billing.credit_entries FOR EACH ROW EXECUTE FUNCTION billing.tg_credit_entries__erased();

CREATE TRIGGER tg_credit_entries__sound BEFORE INSERT ON billing.credit_entries FOR EACH ROW EXECUTE FUNCTION billing.tg_credit_entries__sound();

CREATE TRIGGER tg_credit_grants__kept BEFORE DELETE OR TRUNCATE ON billing.credit_grants FOR EACH STATEMENT EXECUTE FUNCTION billing.tg_ledger__append_only();

CREATE TRIGGER tg_credit_grants__sound BEFORE INSERT OR UPDATE ON billing.credit_grants FOR EACH ROW EXECUTE FUNCTION billing.tg_credit_grants__sound();

CREATE TRIGGER tg_credit_packs__arrive AFTER INSERT ON billing.credit_packs FOR EACH ROW EXECUTE FUNCTION billing.tg_credit_packs__arrive();

CREATE TRIGGER tg_credit_packs__purchase_since AFTER INSERT ON billing.credit_packs FOR EACH ROW EXECUTE FUNCTION billing.tg_credit_packs__purchase_since();

CREATE TRIGGER tg_credit_packs__retire_links AFTER UPDATE ON billing.credit_packs FOR EACH ROW WHEN (((old.active AND (NOT new.active)) OR (old.lookup_key <> COALESCE(new.lookup_key, ''::text)) OR ((old.unit_amount IS DISTINCT FROM new.unit_amount) OR (old.currency IS DISTINCT FROM new.currency)))) EXECUTE FUNCTION billing.tg_prices__retire_links();

CREATE TRIGGER tg_credit_packs__stay_deleted BEFORE INSERT OR UPDATE ON billing.credit_packs FOR EACH ROW WHEN (new.active) EXECUTE FUNCTION billing.tg_prices__stay_deleted();

CREATE TRIGGER tg_credit_terms__allocate AFTER INSERT OR UPDATE ON billing.credit_terms FOR EACH ROW EXECUTE FUNCTION billing.tg_credit_terms__allocate();

CREATE CONSTRAINT TRIGGER tg_disputes__meet AFTER INSERT OR UPDATE OF status ON billing.disputes DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN ((new.stripe_payment_intent_id IS NULL)) EXECUTE FUNCTION billing.tg_money__meet();

CREATE TRIGGER tg_fraud_actions__made_queued AFTER INSERT ON billing.fraud_actions FOR EACH ROW WHEN ((new.status = 'queued'::text)) EXECUTE FUNCTION billing.tg_fraud_actions__enqueue();

CREATE TRIGGER tg_fraud_actions__queued AFTER UPDATE OF status ON billing.fraud_actions FOR EACH ROW WHEN (((old.status <> 'queued'::text) AND (new.status = 'queued'::text))) EXECUTE FUNCTION billing.tg_fraud_actions__enqueue();

CREATE TRIGGER tg_invoices__payment_failed AFTER INSERT OR UPDATE OF attempt_count ON billing.invoices FOR EACH ROW WHEN (((new.status = 'open'::text) AND (new.attempt_count > 0) AND (new.amount_due > 0) AND (new.account_id IS NOT NULL) AND (new.billing_reason IS DISTINCT FROM 'subscription_create'::text))) EXECUTE FUNCTION billing.tg_invoices__payment_failed();

CREATE CONSTRAINT TRIGGER tg_invoices__receipt AFTER INSERT OR UPDATE OF status ON billing.invoices DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (((new.status = 'paid'::text) AND (new.amount_paid > 0) AND (new.account_id IS NOT NULL))) EXECUTE FUNCTION billing.tg_invoices__receipt();

CREATE TRIGGER tg_notifications__enqueue AFTER INSERT ON billing.notifications REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION billing.tg_notifications__enqueue();

CREATE TRIGGER tg_one_time_prices__end_waiting AFTER INSERT ON billing.one_time_prices FOR EACH ROW EXECUTE FUNCTION billing.tg_one_time_prices__end_waiting();

CREATE TRIGGER tg_one_time_prices__stay_deleted BEFORE INSERT OR UPDATE ON billing.one_time_prices FOR EACH ROW WHEN (new.active) EXECUTE FUNCTION billing.tg_prices__stay_deleted();

CREATE TRIGGER tg_payment_links__made_retired AFTER INSERT ON billing.payment_links FOR EACH ROW WHEN ((new.deactivate_at IS NOT NULL)) EXECUTE FUNCTION billing.tg_payment_links__enqueue();

CREATE TRIGGER tg_payment_links__retired AFTER UPDATE OF deactivate_at ON billing.payment_links FOR EACH ROW WHEN (((old.deactivate_at IS NULL) AND (new.deactivate_at IS NOT NULL))) EXECUTE FUNCTION billing.tg_payment_links__enqueue();

CREATE CONSTRAINT TRIGGER tg_payments__meet AFTER INSERT ON billing.payments DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN ((new.stripe_payment_intent_id IS NOT NULL)) EXECUTE FUNCTION billing.tg_money__meet();

CREATE TRIGGER tg_plans__record_terms AFTER UPDATE OF initial_credits, monthly_credits, trial_credits, rollover, rollover_periods, rollover_cap, proration_credits, downgrade_credits, cancel_credits, trial_end_credits ON billing.plans FOR EACH ROW EXECUTE FUNCTION billing.tg_plans__record_terms();

CREATE TRIGGER tg_plans__record_terms_of_new AFTER INSERT ON billing.plans FOR EACH ROW WHEN ((((new.initial_credits + new.monthly_credits) + new.trial_credits) > 0)) EXECUTE FUNCTION billing.tg_plans__record_terms();

CREATE TRIGGER tg_plans__retire_links AFTER UPDATE ON billing.plans FOR EACH ROW WHEN (((old.active AND (NOT new.active)) OR (old.lookup_key <> COALESCE(new.lookup_key, ''::text)) OR ((old.unit_amount IS DISTINCT FROM new.unit_amount) OR (old.currency IS DISTINCT FROM new.currency)))) EXECUTE FUNCTION billing.tg_prices__retire_links();

CREATE TRIGGER tg_plans__stay_deleted BEFORE INSERT OR UPDATE ON billing.plans FOR EACH ROW WHEN (new.active) EXECUTE FUNCTION billing.tg_prices__stay_deleted();

CREATE TRIGGER tg_products__retire_links AFTER UPDATE ON billing.products FOR EACH ROW WHEN ((old.active AND (NOT new.active))) EXECUTE FUNCTION billing.tg_products__retire_links();

CREATE TRIGGER tg_products__stay_deleted BEFORE INSERT OR UPDATE ON billing.products FOR EACH ROW WHEN (new.active) EXECUTE FUNCTION billing.tg_products__stay_deleted();

CREATE CONSTRAINT TRIGGER tg_refunds__meet AFTER INSERT OR UPDATE OF status ON billing.refunds DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (((new.stripe_payment_intent_id IS NULL) AND (new.stripe_charge_id IS NOT NULL))) EXECUTE FUNCTION billing.tg_money__meet();

CREATE TRIGGER tg_stripe_events__erase AFTER UPDATE OF status ON billing.stripe_events FOR EACH ROW WHEN (((new.status = ANY (ARRAY['applied'::text, 'ignored'::text])) AND (new.status <> old.status))) EXECUTE FUNCTION billing.tg_stripe_events__erase();

CREATE TRIGGER tg_stripe_events__notify AFTER UPDATE OF status ON billing.stripe_events FOR EACH ROW WHEN (((new.status = 'dead'::text) AND (old.status <> 'dead'::text) AND (new.waiting_for IS NULL))) EXECUTE FUNCTION billing.tg_stripe_events__notify();

CREATE TRIGGER tg_stripe_events__prune_again AFTER UPDATE OF status ON billing.stripe_events FOR EACH ROW WHEN (((old.status = ANY (ARRAY['parked'::text, 'dead'::text])) AND (new.status <> ALL (ARRAY['parked'::text, 'dead'::text])))) EXECUTE FUNCTION billing.tg_stripe_events__prune_again();

CREATE TRIGGER tg_credit_balance__refuse INSTEAD OF INSERT OR DELETE OR UPDATE ON public.credit_balance FOR EACH ROW EXECUTE FUNCTION billing.tg_credit_balance__refuse();

ALTER TABLE ONLY billing.account_members
    ADD CONSTRAINT account_members_account_id_fkey FOREIGN KEY (account_id) REFERENCES billing.accounts(id) ON DELETE CASCADE;

ALTER TABLE ONLY billing.account_members
    ADD CONSTRAINT account_members_user_id_fkey FOREIGN KEY (user_id) REFERENCES auth.users(id) ON DELETE CASCADE;

ALTER TABLE ONLY billing.accounts
    ADD CONSTRAINT accounts_owner_id_fkey FOREIGN KEY (owner_id) REFERENCES auth.users(id) ON DELETE SET NULL;

ALTER TABLE ONLY billing.card_fingerprints
    ADD CONSTRAINT card_fingerprints_account_id_fkey FOREIGN KEY (account_id) REFERENCES billing.accounts(id);

ALTER TABLE ONLY billing.card_fingerprints
    ADD CONSTRAINT card_fingerprints_stripe_customer_id_fkey FOREIGN KEY (stripe_customer_id) REFERENCES billing.customers(stripe_customer_id);

ALTER TABLE ONLY billing.carried_credits
    ADD CONSTRAINT carried_credits_account_id_fkey FOREIGN KEY (account_id) REFERENCES billing.accounts(id);

ALTER TABLE ONLY billing.checkout_line_items
    ADD CONSTRAINT checkout_line_items_stripe_checkout_session_id_fkey FOREIGN KEY (stripe_checkout_session_id) REFERENCES billing.checkout_sessions(stripe_checkout_session_id);

ALTER TABLE ONLY billing.checkout_requests
    ADD CONSTRAINT checkout_requests_account_id_fkey FOREIGN KEY (account_id) REFERENCES billing.accounts(id);

ALTER TABLE ONLY billing.checkout_requests
    ADD CONSTRAINT checkout_requests_user_id_fkey FOREIGN KEY (user_id) REFERENCES auth.users(id) ON DELETE SET NULL;

ALTER TABLE ONLY billing.checkout_sessions
    ADD CONSTRAINT checkout_sessions_account_id_fkey FOREIGN KEY (account_id) REFERENCES billing.accounts(id);

ALTER TABLE ONLY billing.checkout_sessions
    ADD CONSTRAINT checkout_sessions_stripe_customer_id_fkey FOREIGN KEY (stripe_customer_id) REFERENCES billing.customers(stripe_customer_id);

ALTER TABLE ONLY billing.credit_balances
    ADD CONSTRAINT credit_balances_account_id_fkey FOREIGN KEY (account_id) REFERENCES billing.accounts(id);

ALTER TABLE ONLY billing.credit_entries
    ADD CONSTRAINT credit_entries_hold_id_fkey FOREIGN KEY (hold_id) REFERENCES billing.credit_holds(id);

ALTER TABLE ONLY billing.credit_entries
    ADD CONSTRAINT credit_entries_reverses_entry_id_fkey FOREIGN KEY (reverses_entry_id) REFERENCES billing.credit_entries(id);

ALTER TABLE ONLY billing.credit_hold_lots
    ADD CONSTRAINT credit_hold_lots_grant_id_fkey FOREIGN KEY (grant_id) REFERENCES billing.credit_grants(id);

ALTER TABLE ONLY billing.credit_hold_lots
    ADD CONSTRAINT credit_hold_lots_hold_id_fkey FOREIGN KEY (hold_id) REFERENCES billing.credit_holds(id);

ALTER TABLE ONLY billing.credit_holds
    ADD CONSTRAINT credit_holds_account_id_fkey FOREIGN KEY (account_id) REFERENCES billing.accounts(id);

ALTER TABLE ONLY billing.credit_holds
    ADD CONSTRAINT credit_holds_frozen_grant_id_fkey FOREIGN KEY (frozen_grant_id) REFERENCES billing.credit_grants(id);

ALTER TABLE ONLY billing.credit_note_lines
    ADD CONSTRAINT credit_note_lines_stripe_credit_note_id_fkey FOREIGN KEY (stripe_credit_note_id) REFERENCES billing.credit_notes(stripe_credit_note_id);

ALTER TABLE ONLY billing.credit_packs
    ADD CONSTRAINT credit_packs_stripe_product_id_fkey FOREIGN KEY (stripe_product_id) REFERENCES billing.products(stripe_product_id);

ALTER TABLE ONLY billing.credit_reinstatements
    ADD CONSTRAINT credit_reinstatements_account_id_fkey FOREIGN KEY (account_id) REFERENCES billing.accounts(id);

ALTER TABLE ONLY billing.credit_reinstatements
    ADD CONSTRAINT credit_reinstatements_entry_id_fkey FOREIGN KEY (entry_id) REFERENCES billing.credit_entries(id);

ALTER TABLE ONLY billing.credit_reinstatements
    ADD CONSTRAINT credit_reinstatements_revocation_id_fkey FOREIGN KEY (revocation_id) REFERENCES billing.credit_revocations(id);

ALTER TABLE ONLY billing.credit_revocations
    ADD CONSTRAINT credit_revocations_account_id_fkey FOREIGN KEY (account_id) REFERENCES billing.accounts(id);

ALTER TABLE ONLY billing.credit_revocations
    ADD CONSTRAINT credit_revocations_entry_id_fkey FOREIGN KEY (entry_id) REFERENCES billing.credit_entries(id);

ALTER TABLE ONLY billing.credit_revocations
    ADD CONSTRAINT credit_revocations_grant_id_fkey FOREIGN KEY (grant_id) REFERENCES billing.credit_grants(id);

ALTER TABLE ONLY billing.credit_terms
    ADD CONSTRAINT credit_terms_stripe_price_id_fkey FOREIGN KEY (stripe_price_id) REFERENCES billing.plans(stripe_price_id) ON DELETE CASCADE;

ALTER TABLE ONLY billing.customer_claims
    ADD CONSTRAINT customer_claims_account_id_fkey FOREIGN KEY (account_id) REFERENCES billing.accounts(id);

ALTER TABLE ONLY billing.customer_email_changes
    ADD CONSTRAINT customer_email_changes_stripe_customer_id_fkey FOREIGN KEY (stripe_customer_id) REFERENCES billing.customers(stripe_customer_id);

ALTER TABLE ONLY billing.customers
    ADD CONSTRAINT customers_account_id_fkey FOREIGN KEY (account_id) REFERENCES billing.accounts(id);

ALTER TABLE ONLY billing.customers
    ADD CONSTRAINT customers_duplicate_of_fkey FOREIGN KEY (duplicate_of) REFERENCES billing.customers(stripe_customer_id);

ALTER TABLE ONLY billing.erasures
    ADD CONSTRAINT erasures_account_id_fkey FOREIGN KEY (account_id) REFERENCES billing.accounts(id);

ALTER TABLE ONLY billing.found_discrepancies
    ADD CONSTRAINT found_discrepancies_account_id_fkey FOREIGN KEY (account_id) REFERENCES billing.accounts(id);

ALTER TABLE ONLY billing.fraud_actions
    ADD CONSTRAINT fraud_actions_account_id_fkey FOREIGN KEY (account_id) REFERENCES billing.accounts(id);

ALTER TABLE ONLY billing.fraud_actions
    ADD CONSTRAINT fraud_actions_stripe_early_fraud_warning_id_fkey FOREIGN KEY (stripe_early_fraud_warning_id) REFERENCES billing.fraud_warnings(stripe_early_fraud_warning_id);

ALTER TABLE ONLY billing.fraud_warnings
    ADD CONSTRAINT fraud_warnings_account_id_fkey FOREIGN KEY (account_id) REFERENCES billing.accounts(id);

ALTER TABLE ONLY billing.fraud_warnings
    ADD CONSTRAINT fraud_warnings_stripe_customer_id_fkey FOREIGN KEY (stripe_customer_id) REFERENCES billing.customers(stripe_customer_id);

ALTER TABLE ONLY billing.held_credits
    ADD CONSTRAINT held_credits_account_id_fkey FOREIGN KEY (account_id) REFERENCES billing.accounts(id);

ALTER TABLE ONLY billing.held_credits
    ADD CONSTRAINT held_credits_matched_account_id_fkey FOREIGN KEY (matched_account_id) REFERENCES billing.accounts(id);

ALTER TABLE ONLY billing.held_credits
    ADD CONSTRAINT held_credits_revocation_id_fkey FOREIGN KEY (revocation_id) REFERENCES billing.credit_revocations(id);

ALTER TABLE ONLY billing.invoice_lines
    ADD CONSTRAINT invoice_lines_stripe_invoice_id_fkey FOREIGN KEY (stripe_invoice_id) REFERENCES billing.invoices(stripe_invoice_id);

ALTER TABLE ONLY billing.invoices
    ADD CONSTRAINT invoices_account_id_fkey FOREIGN KEY (account_id) REFERENCES billing.accounts(id);

ALTER TABLE ONLY billing.invoices
    ADD CONSTRAINT invoices_stripe_customer_id_fkey FOREIGN KEY (stripe_customer_id) REFERENCES billing.customers(stripe_customer_id);

ALTER TABLE ONLY billing.notifications
    ADD CONSTRAINT notifications_account_id_fkey FOREIGN KEY (account_id) REFERENCES billing.accounts(id);

ALTER TABLE ONLY billing.notifications
    ADD CONSTRAINT notifications_digest_id_fkey FOREIGN KEY (digest_id) REFERENCES billing.notifications(id) ON DELETE CASCADE;

ALTER TABLE ONLY billing.one_time_prices
    ADD CONSTRAINT one_time_prices_stripe_product_id_fkey FOREIGN KEY (stripe_product_id) REFERENCES billing.products(stripe_product_id);

ALTER TABLE ONLY billing.pack_purchases
    ADD CONSTRAINT pack_purchases_account_id_fkey FOREIGN KEY (account_id) REFERENCES billing.accounts(id);

ALTER TABLE ONLY billing.payments
    ADD CONSTRAINT payments_account_id_fkey FOREIGN KEY (account_id) REFERENCES billing.accounts(id);

ALTER TABLE ONLY billing.payments
    ADD CONSTRAINT payments_stripe_customer_id_fkey FOREIGN KEY (stripe_customer_id) REFERENCES billing.customers(stripe_customer_id);

ALTER TABLE ONLY billing.plans
    ADD CONSTRAINT plans_stripe_product_id_fkey FOREIGN KEY (stripe_product_id) REFERENCES billing.products(stripe_product_id);

ALTER TABLE ONLY billing.recharge_settings
    ADD CONSTRAINT recharge_settings_account_id_fkey FOREIGN KEY (account_id) REFERENCES billing.accounts(id);

ALTER TABLE ONLY billing.recharge_settings
    ADD CONSTRAINT recharge_settings_stripe_price_id_fkey FOREIGN KEY (stripe_price_id) REFERENCES billing.credit_packs(stripe_price_id);

ALTER TABLE ONLY billing.recharges
    ADD CONSTRAINT recharges_account_id_fkey FOREIGN KEY (account_id) REFERENCES billing.accounts(id);

ALTER TABLE ONLY billing.reviews
    ADD CONSTRAINT reviews_account_id_fkey FOREIGN KEY (account_id) REFERENCES billing.accounts(id);

ALTER TABLE ONLY billing.stripe_requests
    ADD CONSTRAINT stripe_requests_account_id_fkey FOREIGN KEY (account_id) REFERENCES billing.accounts(id);

ALTER TABLE ONLY billing.subscription_items
    ADD CONSTRAINT subscription_items_stripe_subscription_id_fkey FOREIGN KEY (stripe_subscription_id) REFERENCES billing.subscriptions(stripe_subscription_id);

ALTER TABLE ONLY billing.subscriptions
    ADD CONSTRAINT subscriptions_account_id_fkey FOREIGN KEY (account_id) REFERENCES billing.accounts(id);

ALTER TABLE ONLY billing.subscriptions
    ADD CONSTRAINT subscriptions_stripe_customer_id_fkey FOREIGN KEY (stripe_customer_id) REFERENCES billing.customers(stripe_customer_id);

ALTER TABLE ONLY billing.team_invitations
    ADD CONSTRAINT team_invitations_accepted_by_fkey FOREIGN KEY (accepted_by) REFERENCES auth.users(id) ON DELETE SET NULL;

ALTER TABLE ONLY billing.team_invitations
    ADD CONSTRAINT team_invitations_account_id_fkey FOREIGN KEY (account_id) REFERENCES billing.accounts(id) ON DELETE CASCADE;

ALTER TABLE ONLY billing.team_invitations
    ADD CONSTRAINT team_invitations_invited_by_fkey FOREIGN KEY (invited_by) REFERENCES auth.users(id) ON DELETE CASCADE;

ALTER TABLE billing.account_members ENABLE ROW LEVEL SECURITY;

CREATE POLICY account_members_select_own ON billing.account_members FOR SELECT TO authenticated USING ((account_id = ANY (ARRAY( SELECT billing.my_account_ids() AS my_account_ids))));

ALTER TABLE billing.account_proof ENABLE ROW LEVEL SECURITY;

ALTER TABLE billing.accounts ENABLE ROW LEVEL SECURITY;

CREATE POLICY accounts_select_own ON billing.accounts FOR SELECT TO authenticated USING ((id = ANY (ARRAY( SELECT billing.my_account_ids() AS my_account_ids))));

ALTER TABLE billing.alerts ENABLE ROW LEVEL SECURITY;

ALTER TABLE billing.backfilled_lists ENABLE ROW LEVEL SECURITY;

ALTER TABLE billing.card_fingerprints ENABLE ROW LEVEL SECURITY;

ALTER TABLE billing.carried_credits ENABLE ROW LEVEL SECURITY;

ALTER TABLE billing.checkout_line_items ENABLE ROW LEVEL SECURITY;

ALTER TABLE billing.checkout_requests ENABLE ROW LEVEL SECURITY;

ALTER TABLE billing.checkout_sessions ENABLE ROW LEVEL SECURITY;

ALTER TABLE billing.clock ENABLE ROW LEVEL SECURITY;

ALTER TABLE billing.credit_balances ENABLE ROW LEVEL SECURITY;

CREATE POLICY credit_balances_select_own ON billing.credit_balances FOR SELECT TO authenticated USING ((account_id = ANY (ARRAY( SELECT billing.my_account_ids() AS my_account_ids))));

ALTER TABLE billing.credit_consumptions ENABLE ROW LEVEL SECURITY;

ALTER TABLE billing.credit_count ENABLE ROW LEVEL SECURITY;

ALTER TABLE billing.credit_entries ENABLE ROW LEVEL SECURITY;

CREATE POLICY credit_entries_select_own ON billing.credit_entries FOR SELECT TO authenticated USING ((account_id = ANY (ARRAY( SELECT billing.my_account_ids() AS my_account_ids))));

ALTER TABLE billing.credit_grants ENABLE ROW LEVEL SECURITY;

CREATE POLICY credit_grants_select_own ON billing.credit_grants FOR SELECT TO authenticated USING ((account_id = ANY (ARRAY( SELECT billing.my_account_ids() AS my_account_ids))));

ALTER TABLE billing.credit_hold_lots ENABLE ROW LEVEL SECURITY;

CREATE POLICY credit_hold_lots_select_own ON billing.credit_hold_lots FOR SELECT TO authenticated USING ((hold_id = ANY (ARRAY( SELECT credit_holds.id
   FROM billing.credit_holds))));

ALTER TABLE billing.credit_holds ENABLE ROW LEVEL SECURITY;

CREATE POLICY credit_holds_select_own ON billing.credit_holds FOR SELECT TO authenticated USING ((account_id = ANY (ARRAY( SELECT billing.my_account_ids() AS my_account_ids))));

ALTER TABLE billing.credit_note_lines ENABLE ROW LEVEL SECURITY;

ALTER TABLE billing.credit_notes ENABLE ROW LEVEL SECURITY;

ALTER TABLE billing.credit_packs ENABLE ROW LEVEL SECURITY;

CREATE POLICY credit_packs_select_users ON billing.credit_packs FOR SELECT TO authenticated USING ((active AND (livemode = ( SELECT billing.is_livemode() AS is_livemode))));

ALTER TABLE billing.credit_reinstatements ENABLE ROW LEVEL SECURITY;

ALTER TABLE billing.credit_revocations ENABLE ROW LEVEL SECURITY;

ALTER TABLE billing.credit_schedules ENABLE ROW LEVEL SECURITY;

ALTER TABLE billing.credit_terms ENABLE ROW LEVEL SECURITY;

ALTER TABLE billing.credit_totals ENABLE ROW LEVEL SECURITY;

ALTER TABLE billing.customer_claims ENABLE ROW LEVEL SECURITY;

ALTER TABLE billing.customer_email_changes ENABLE ROW LEVEL SECURITY;

ALTER TABLE billing.customers ENABLE ROW LEVEL SECURITY;

CREATE POLICY customers_select_managed ON billing.customers FOR SELECT TO authenticated USING ((account_id = ANY (ARRAY( SELECT billing.my_managed_account_ids() AS my_managed_account_ids))));

ALTER TABLE billing.deleted_prices ENABLE ROW LEVEL SECURITY;

ALTER TABLE billing.disputes ENABLE ROW LEVEL SECURITY;

ALTER TABLE billing.erasures ENABLE ROW LEVEL SECURITY;

ALTER TABLE billing.event_pruning ENABLE ROW LEVEL SECURITY;

ALTER TABLE billing.found_discrepancies ENABLE ROW LEVEL SECURITY;

ALTER TABLE billing.fraud_actions ENABLE ROW LEVEL SECURITY;

ALTER TABLE billing.fraud_policies ENABLE ROW LEVEL SECURITY;

ALTER TABLE billing.fraud_warnings ENABLE ROW LEVEL SECURITY;

ALTER TABLE billing.held_credits ENABLE ROW LEVEL SECURITY;

ALTER TABLE billing.invoice_lines ENABLE ROW LEVEL SECURITY;

ALTER TABLE billing.invoice_payments ENABLE ROW LEVEL SECURITY;

ALTER TABLE billing.invoices ENABLE ROW LEVEL SECURITY;

CREATE POLICY invoices_select_managed ON billing.invoices FOR SELECT TO authenticated USING ((account_id = ANY (ARRAY( SELECT billing.my_managed_account_ids() AS my_managed_account_ids))));

ALTER TABLE billing.notifications ENABLE ROW LEVEL SECURITY;

ALTER TABLE billing.one_time_prices ENABLE ROW LEVEL SECURITY;

ALTER TABLE billing.pack_purchases ENABLE ROW LEVEL SECURITY;

ALTER TABLE billing.payment_intents ENABLE ROW LEVEL SECURITY;

ALTER TABLE billing.payment_links ENABLE ROW LEVEL SECURITY;

ALTER TABLE billing.payment_reference_keys ENABLE ROW LEVEL SECURITY;

ALTER TABLE billing.payments ENABLE ROW LEVEL SECURITY;

CREATE POLICY payments_select_managed ON billing.payments FOR SELECT TO authenticated USING ((account_id = ANY (ARRAY( SELECT billing.my_managed_account_ids() AS my_managed_account_ids))));

ALTER TABLE billing.plans ENABLE ROW LEVEL SECURITY;

CREATE POLICY plans_select_everyone ON billing.plans FOR SELECT TO anon, authenticated USING ((active AND (livemode = ( SELECT billing.is_livemode() AS is_livemode))));

ALTER TABLE billing.products ENABLE ROW LEVEL SECURITY;

CREATE POLICY products_select_everyone ON billing.products FOR SELECT TO anon, authenticated USING ((active AND (livemode = ( SELECT billing.is_livemode() AS is_livemode))));

ALTER TABLE billing.recharge_settings ENABLE ROW LEVEL SECURITY;

CREATE POLICY recharge_settings_select_managed ON billing.recharge_settings FOR SELECT TO authenticated USING ((account_id = ANY (ARRAY( SELECT billing.my_managed_account_ids() AS my_managed_account_ids))));

ALTER TABLE billing.recharges ENABLE ROW LEVEL SECURITY;

CREATE POLICY recharges_select_managed ON billing.recharges FOR SELECT TO authenticated USING ((account_id = ANY (ARRAY( SELECT billing.my_managed_account_ids() AS my_managed_account_ids))));

ALTER TABLE billing.refunds ENABLE ROW LEVEL SECURITY;

ALTER TABLE billing.reviews ENABLE ROW LEVEL SECURITY;

ALTER TABLE billing.saved_cards ENABLE ROW LEVEL SECURITY;

ALTER TABLE billing.settings ENABLE ROW LEVEL SECURITY;

ALTER TABLE billing.stripe_events ENABLE ROW LEVEL SECURITY;

ALTER TABLE billing.stripe_lookups ENABLE ROW LEVEL SECURITY;

ALTER TABLE billing.stripe_requests ENABLE ROW LEVEL SECURITY;

ALTER TABLE billing.subscription_items ENABLE ROW LEVEL SECURITY;

CREATE POLICY subscription_items_select_own ON billing.subscription_items FOR SELECT TO authenticated USING ((stripe_subscription_id IN ( SELECT subscriptions.stripe_subscription_id
   FROM billing.subscriptions
  WHERE (subscriptions.account_id = ANY (ARRAY( SELECT billing.my_account_ids() AS my_account_ids))))));

ALTER TABLE billing.subscriptions ENABLE ROW LEVEL SECURITY;

CREATE POLICY subscriptions_select_own ON billing.subscriptions FOR SELECT TO authenticated USING ((account_id = ANY (ARRAY( SELECT billing.my_account_ids() AS my_account_ids))));

ALTER TABLE billing.team_invitations ENABLE ROW LEVEL SECURITY;

CREATE POLICY team_invitations_select_managed ON billing.team_invitations FOR SELECT TO authenticated USING ((account_id = ANY (ARRAY( SELECT billing.my_managed_account_ids() AS my_managed_account_ids))));

ALTER TABLE billing.test_clocks ENABLE ROW LEVEL SECURITY;

ALTER TABLE billing.trial_items ENABLE ROW LEVEL SECURITY;

ALTER TABLE billing.workers ENABLE ROW LEVEL SECURITY;

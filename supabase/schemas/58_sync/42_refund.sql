-- Refunds, disputes, credit notes and invoice payments from Stripe → their rows, and the credits that they change.
--
-- Invariant: each only moves forward: a failed refund stays failed, a decided dispute reopens only by an appeal. A
-- Stripe refund does not report its mode; its payment does. Called by billing_worker.

create function billing.sync_invoice_payment(
    stripe_invoice_payment_id text, stripe_invoice_id text, stripe_payment_intent_id text, stripe_charge_id text,
    livemode boolean, status text, currency text, amount_paid bigint, paid_at timestamptz
)
returns text
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
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

create function billing._refund_rank(status text)
returns integer
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
    select case _refund_rank.status when 'pending' then 1 when 'requires_action' then 1 when 'succeeded' then 2 else 3 end
$$;

create function billing.sync_refund(
    stripe_refund_id text, stripe_charge_id text, stripe_payment_intent_id text, status text, currency text,
    amount bigint, reason text, failure_reason text, refunded_at timestamptz, as_of timestamptz
)
returns text
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
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

-- An inquiry precedes the dispute that it may become; an appeal follows the decision.
create function billing._dispute_rank(status text)
returns integer
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
    select array_position(array[
        'warning_needs_response', 'warning_under_review', 'warning_closed', 'prevented', 'needs_response', 'under_review',
        'lost', 'appeal_needs_response', 'appeal_under_review', 'won'
    ], _dispute_rank.status)
$$;

create function billing.sync_dispute(
    stripe_dispute_id text, stripe_charge_id text, stripe_payment_intent_id text, livemode boolean, status text,
    currency text, amount bigint, reason text, evidence_due_at timestamptz, disputed_at timestamptz, as_of timestamptz
)
returns text
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
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

-- Notifies administrators when a dispute is opened and when it is decided.
create function billing._tell_of_dispute(dispute billing.disputes, before text)
returns void
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
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

create function billing.sync_credit_note(
    stripe_credit_note_id text, stripe_invoice_id text, livemode boolean, status text, currency text, amount bigint,
    amount_refunded bigint, reason text, noted_at timestamptz, lines jsonb, stripe_refund_ids text[],
    pre_payment_amount bigint, as_of timestamptz
)
returns text
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
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

revoke all on function
    billing.sync_invoice_payment, billing._refund_rank, billing.sync_refund, billing._dispute_rank, billing.sync_dispute,
    billing._tell_of_dispute, billing.sync_credit_note
from public, anon, authenticated, service_role;
grant execute on function
    billing.sync_invoice_payment(text, text, text, text, boolean, text, text, bigint, timestamptz),
    billing.sync_refund(text, text, text, text, text, bigint, text, text, timestamptz, timestamptz),
    billing.sync_dispute(text, text, text, boolean, text, text, bigint, text, timestamptz, timestamptz, timestamptz),
    billing.sync_credit_note(
        text, text, boolean, text, text, bigint, bigint, text, timestamptz, jsonb, text[], bigint, timestamptz
    )
to billing_worker;

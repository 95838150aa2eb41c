-- Claimed overages → billed by the worker: one invoice item each, on the draft of the subscription's renewal or on an invoice
-- of its own.
--
-- Invariant: an overage has at most one item. Where the item goes is recorded before Stripe is asked for it, so that each
-- request is always the same, with an Idempotency-Key from the overage's id; an item whose answer was lost is found by the
-- id in its metadata. Called by billing_worker.

create function billing.begin_overages(msg_ids bigint[], ids text[])
returns table (
    msg_id bigint, id uuid, stripe_customer_id text, stripe_subscription_id text, stripe_price_id text, quantity bigint,
    currency text, period_start timestamptz, period_end timestamptz, stripe_invoice_id text, is_own_invoice boolean,
    stripe_invoice_item_id text, attempts integer, age_seconds double precision
)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_job record;
    v_overage billing.overages;
    v_begun bigint[] := '{}';
    v_begun_ids uuid[] := '{}';
begin
    for v_job in
        select job.msg_id, overages as overage
        from unnest(begin_overages.msg_ids, begin_overages.ids) as job (msg_id, id)
        join billing.overages on overages.id = job.id::uuid
        where overages.status = 'claimed'
        order by job.msg_id
        for update of overages skip locked
    loop
        v_overage := v_job.overage;
        -- A second message of one overage waits for the first one's outcome.
        continue when v_overage.id = any (v_begun_ids);
        if v_overage.attempts = 0 and exists (
            select from billing.accounts where accounts.id = v_overage.account_id and accounts.closed_at is not null
        ) then
            -- Its credits could not be granted.
            update billing.overages
            set status = 'failed', reason = 'account_closed', settled_at = billing.current_time(), updated_at = now()
            where overages.id = v_overage.id;
            continue;
        end if;
        update billing.overages
        set attempts = v_overage.attempts + 1, updated_at = now()
        where overages.id = v_overage.id;
        v_begun := v_begun || v_job.msg_id;
        v_begun_ids := v_begun_ids || v_overage.id;
        return query select
            v_job.msg_id, v_overage.id, v_overage.stripe_customer_id, v_overage.stripe_subscription_id,
            v_overage.stripe_pack_price_id, v_overage.quantity, v_overage.currency, v_overage.period_start,
            v_overage.period_end, v_overage.stripe_invoice_id, v_overage.is_own_invoice,
            v_overage.stripe_invoice_item_id, v_overage.attempts + 1,
            extract(epoch from now() - v_overage.created_at)::double precision;
    end loop;

    perform billing.retry_job(job.msg_id, 1, 'another message of the overage is in use', excused => true)
    from unnest(begin_overages.msg_ids, begin_overages.ids) as job (msg_id, id)
    join billing.overages on overages.id = job.id::uuid
    where overages.status = 'claimed' and job.msg_id <> all (v_begun);
end
$$;

-- Records what was done at Stripe. status: claimed (the job is due again after retry_in_seconds), invoiced or failed.
create function billing.record_overage(
    msg_id bigint, overage_id uuid, status text, stripe_invoice_id text, is_own_invoice boolean,
    stripe_invoice_item_id text, reason text, retry_in_seconds integer
)
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '500ms'
as $$
declare
    v_overage billing.overages;
begin
    if not billing._end_job(
        record_overage.msg_id, case when record_overage.status = 'claimed' then record_overage.retry_in_seconds end,
        record_overage.reason
    ) then
        return;  -- another worker has the job
    end if;
    update billing.overages
    set status = record_overage.status,
        stripe_invoice_id = record_overage.stripe_invoice_id,
        is_own_invoice = record_overage.is_own_invoice,
        stripe_invoice_item_id = record_overage.stripe_invoice_item_id,
        reason = case when record_overage.status = 'failed' then record_overage.reason end,
        last_error = case when record_overage.status = 'claimed' then record_overage.reason end,
        settled_at = case when record_overage.status <> 'claimed' then billing.current_time() end,
        updated_at = now()
    where overages.id = record_overage.overage_id and overages.status = 'claimed'
    returning * into v_overage;
    if v_overage.status = 'failed' then
        insert into billing.notifications (account_id, audience, kind, dedupe_key, payload)
        values (
            v_overage.account_id, 'administrators', 'overage_failed', format('overage_failed:%s', v_overage.id),
            jsonb_build_object(
                'overage_id', v_overage.id, 'reason', v_overage.reason, 'credits', v_overage.credits,
                'amount', v_overage.amount, 'currency', v_overage.currency,
                'stripe_customer_id', v_overage.stripe_customer_id
            )
        )
        on conflict (dedupe_key) do nothing;
    end if;
end
$$;

-- A failed overage is billed again, by the pack that its plan names now if its own is no longer on sale.
create function billing.retry_overage(overage_id uuid)
returns billing.overages
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_overage billing.overages;
    v_pack billing.credit_packs;
begin
    select * into v_overage from billing.overages where overages.id = retry_overage.overage_id for update;
    if not found then
        raise exception 'there is no overage %', coalesce(retry_overage.overage_id::text, 'null')
            using errcode = 'TB120', hint = 'Pass the id of a row of billing.overages. `till overage list` shows them.';
    elsif v_overage.status <> 'failed' then
        raise exception 'overage % is %: only a failed one can be retried', v_overage.id, v_overage.status
            using errcode = 'TB121', hint = 'Nothing is to be done. The worker bills claimed overages by itself.';
    end if;
    if v_overage.stripe_invoice_item_id is null then
        select (billing._overage_pack(plans)).* into v_pack from billing.plans
        where plans.stripe_price_id = v_overage.stripe_price_id;
        if v_pack.stripe_price_id is not null and not exists (
            select from billing.credit_packs
            where credit_packs.stripe_price_id = v_overage.stripe_pack_price_id and credit_packs.active
        ) then
            v_overage.stripe_pack_price_id := v_pack.stripe_price_id;
            v_overage.quantity := billing._packs_for(v_pack, v_overage.credits);
            v_overage.amount := billing._price_of_packs(v_pack, v_overage.quantity);
        end if;
    end if;
    update billing.overages
    set status = 'claimed', reason = null, settled_at = null,
        stripe_pack_price_id = v_overage.stripe_pack_price_id, quantity = v_overage.quantity,
        amount = v_overage.amount, updated_at = now()
    where overages.id = v_overage.id
    returning * into v_overage;
    perform billing._enqueue_jobs('overage', array[v_overage.id::text]);
    return v_overage;
end
$$;

revoke all on function billing.begin_overages, billing.record_overage, billing.retry_overage from public, anon, authenticated, service_role;
grant execute on function
    billing.begin_overages(bigint[], text[]),
    billing.record_overage(bigint, uuid, text, text, boolean, text, text, integer)
to billing_worker;
grant execute on function billing.retry_overage(uuid) to service_role;

comment on function billing.begin_overages(bigint[], text[]) is 'Overages to bill, of the jobs that the caller took.';
comment on function billing.record_overage(bigint, uuid, text, text, boolean, text, text, integer) is 'What was done for an overage at Stripe: the invoice that was chosen for it, then its item; invoiced or failed at the end.';
comment on function billing.retry_overage(uuid) is 'Bills an overage again that Stripe refused (TB120, TB121).';

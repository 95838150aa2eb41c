-- Decisions of a person about fraud: freeze, unfreeze, refund, note, resolve, undo.
--
-- Invariant: every decision has an actor and a reason. A freeze and queued actions can be undone; refunds and cancelled
-- subscriptions cannot. Callable by service_role.

-- The caller has locked the balance.
create function billing._freeze_account(account_id uuid, reason text)
returns void
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
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

create function billing.freeze_account(account_id uuid, reason text, actor text)
returns billing.accounts
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
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

create function billing.unfreeze_account(account_id uuid, reason text, actor text)
returns billing.accounts
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
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

create function billing._warning(stripe_early_fraud_warning_id text)
returns billing.fraud_warnings
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
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

-- decision: resolved (dealt with), dismissed (no fraud), or open (to be decided again).
create function billing.resolve_fraud_warning(
    stripe_early_fraud_warning_id text, decision text, notes text, actor text
)
returns billing.fraud_warnings
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
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

create function billing.note_fraud(stripe_early_fraud_warning_id text, notes text, actor text)
returns billing.fraud_actions
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
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

-- Refunds the charge of a warning; the policy's caps don't apply. Raises if the charge is disputed or refunded.
create function billing.refund_fraud_warning(stripe_early_fraud_warning_id text, reason text, actor text)
returns billing.fraud_actions
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
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

create function billing.undo_fraud_action(id bigint, reason text, actor text)
returns billing.fraud_actions
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
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

revoke all on function
    billing._freeze_account, billing.freeze_account, billing.unfreeze_account, billing._warning,
    billing.resolve_fraud_warning, billing.note_fraud, billing.refund_fraud_warning, billing.undo_fraud_action
from public, anon, authenticated, service_role;
grant execute on function
    billing.freeze_account(uuid, text, text), billing.unfreeze_account(uuid, text, text),
    billing.resolve_fraud_warning(text, text, text, text), billing.note_fraud(text, text, text),
    billing.refund_fraud_warning(text, text, text), billing.undo_fraud_action(bigint, text, text)
to service_role;

comment on function billing.freeze_account(uuid, text, text) is 'Blocks spending from an account (TB003) until it is unfrozen.';
comment on function billing.unfreeze_account(uuid, text, text) is 'Lets an account spend again, and marks the actions that froze it as undone.';
comment on function billing.resolve_fraud_warning(text, text, text, text) is 'Closes a warning (decision resolved or dismissed), or reopens it (open).';
comment on function billing.note_fraud(text, text, text) is 'Adds a note to a warning.';
comment on function billing.refund_fraud_warning(text, text, text) is 'Queues a refund of the remaining amount of a warning''s charge, once; the worker sends it to Stripe.';
comment on function billing.undo_fraud_action(bigint, text, text) is 'Undoes a freeze, or an action that was not sent to Stripe yet.';

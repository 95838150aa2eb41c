-- Decisions about fraud over the Data API, for the app's own server: functions in `public` that call those in
-- `billing`.
--
-- Invariant: each function runs as its caller and adds no rules. Only service_role may execute it.

create function public.freeze_account(account_id uuid, reason text, actor text)
returns billing.accounts
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    select billing.freeze_account(
        freeze_account.account_id, freeze_account.reason, freeze_account.actor
    )
$$;

create function public.unfreeze_account(account_id uuid, reason text, actor text)
returns billing.accounts
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    select billing.unfreeze_account(
        unfreeze_account.account_id, unfreeze_account.reason, unfreeze_account.actor
    )
$$;

create function public.resolve_fraud_warning(stripe_early_fraud_warning_id text, decision text, notes text, actor text)
returns billing.fraud_warnings
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    select billing.resolve_fraud_warning(
        resolve_fraud_warning.stripe_early_fraud_warning_id, resolve_fraud_warning.decision, resolve_fraud_warning.notes, resolve_fraud_warning.actor
    )
$$;

create function public.note_fraud(stripe_early_fraud_warning_id text, notes text, actor text)
returns billing.fraud_actions
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    select billing.note_fraud(
        note_fraud.stripe_early_fraud_warning_id, note_fraud.notes, note_fraud.actor
    )
$$;

create function public.refund_fraud_warning(stripe_early_fraud_warning_id text, reason text, actor text)
returns billing.fraud_actions
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    select billing.refund_fraud_warning(
        refund_fraud_warning.stripe_early_fraud_warning_id, refund_fraud_warning.reason, refund_fraud_warning.actor
    )
$$;

create function public.undo_fraud_action(id bigint, reason text, actor text)
returns billing.fraud_actions
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    select billing.undo_fraud_action(
        undo_fraud_action.id, undo_fraud_action.reason, undo_fraud_action.actor
    )
$$;

revoke all on function
    public.freeze_account(uuid, text, text),
    public.unfreeze_account(uuid, text, text),
    public.resolve_fraud_warning(text, text, text, text),
    public.note_fraud(text, text, text),
    public.refund_fraud_warning(text, text, text),
    public.undo_fraud_action(bigint, text, text)
from public, anon, authenticated, service_role;
grant execute on function
    public.freeze_account(uuid, text, text),
    public.unfreeze_account(uuid, text, text),
    public.resolve_fraud_warning(text, text, text, text),
    public.note_fraud(text, text, text),
    public.refund_fraud_warning(text, text, text),
    public.undo_fraud_action(bigint, text, text)
to service_role;

-- The values that the ledger may store, in any of its tables.
--
-- Domains, because Postgres parses the CHECKs of a table again for every statement that writes to it, and those of a
-- domain once for each connection: on the ledger's tables that was a third of a spend. Clients see the base types. The
-- table published to Realtime (credit_balances) uses base types only, because Realtime reports a column's own type.

create domain billing.credits as bigint
constraint credits_are_not_negative check (value >= 0);

create domain billing.positive_credits as bigint
constraint credits_are_positive check (value > 0);

-- What a movement adds to a balance or removes from it.
create domain billing.credit_change as bigint
constraint credits_change_by_something check (value <> 0);

create domain billing.entry_kind as text
constraint entry_kind_is_known check (
    value in (
        'grant', 'spend', 'capture', 'expiry', 'revocation', 'reinstatement', 'refund', 'adjustment', 'transfer_in',
        'transfer_out', 'repayment'
    )
);

-- caller: chosen by the app. stripe: business keys of payments. system: our own (expiry).
create domain billing.key_space as text
constraint key_space_is_known check (value in ('caller', 'stripe', 'system'));

create domain billing.idempotency_key as text
constraint idempotency_key_has_1_to_255_characters check (length(value) between 1 and 255);

create domain billing.metadata as jsonb
constraint metadata_is_an_object check (jsonb_typeof(value) = 'object');

-- Every kind of notification there is. worker/jobs/templates/ has a text for each.
create domain billing.notification_kind as text
constraint notification_kind_is_known check (
    value in (
        'account_frozen', 'card_expiring', 'credits_expiring', 'credits_held', 'credits_not_granted', 'dispute_closed',
        'dispute_opened', 'entitlement_discrepancy', 'event_dead', 'event_waiting', 'events_missing',
        'fraud_action_failed', 'fraud_warning', 'ledger_discrepancy', 'low_balance', 'notifications_undeliverable',
        'overage_failed', 'payment_failed', 'plan_without_credits', 'receipt', 'recharge_capped', 'recharge_failed', 'recharge_paused',
        'recharge_requires_action', 'refund_applied', 'review_opened', 'silence', 'stripe_key', 'test',
        'user_deleted_while_subscribed', 'worker_back', 'worker_missing'
    )
);

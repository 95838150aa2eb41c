// What the Supabase CLI makes of the schema public, and of rows that RPCs return or Realtime sends: of billing,
// which is not exposed to the Data API. Not written by hand: `make types`.
export type Json = string | number | boolean | null | {
  [key: string]: Json | undefined;
} | Json[];

export type Database = {
  "billing": {
    Tables: {
      "account_members": {
        Row: {
          "account_id": string;
          "created_at": string;
          "role": string;
          "user_id": string;
        };
        ComputedFields: never;
        Insert: {
          "account_id": string;
          "created_at"?: string;
          "role"?: string;
          "user_id": string;
        };
        Update: {
          "account_id"?: string;
          "created_at"?: string;
          "role"?: string;
          "user_id"?: string;
        };
        Relationships: [];
      };
      "accounts": {
        Row: {
          "closed_at": string | null;
          "created_at": string;
          "frozen_at": string | null;
          "frozen_reason": string | null;
          "id": string;
          "kind": string;
          "name": string | null;
          "owner_id": string | null;
          "updated_at": string;
        };
        ComputedFields: never;
        Insert: {
          "closed_at"?: string | null;
          "created_at"?: string;
          "frozen_at"?: string | null;
          "frozen_reason"?: string | null;
          "id"?: string;
          "kind"?: string;
          "name"?: string | null;
          "owner_id"?: string | null;
          "updated_at"?: string;
        };
        Update: {
          "closed_at"?: string | null;
          "created_at"?: string;
          "frozen_at"?: string | null;
          "frozen_reason"?: string | null;
          "id"?: string;
          "kind"?: string;
          "name"?: string | null;
          "owner_id"?: string | null;
          "updated_at"?: string;
        };
        Relationships: [];
      };
      "budgets": {
        Row: {
          "account_id": string;
          "actor": string;
          "cap": number | null;
          "created_at": string;
          "epoch": number;
          "held": number;
          "parent": string | null;
          "path": (string)[];
          "period": string;
          "period_start": string;
          "spent_in_period": number;
          "updated_at": string;
        };
        ComputedFields: never;
        Insert: {
          "account_id": string;
          "actor": string;
          "cap"?: number | null;
          "created_at"?: string;
          "epoch"?: number;
          "held"?: number;
          "parent"?: string | null;
          "path": (string)[];
          "period": string;
          "period_start": string;
          "spent_in_period"?: number;
          "updated_at"?: string;
        };
        Update: {
          "account_id"?: string;
          "actor"?: string;
          "cap"?: number | null;
          "created_at"?: string;
          "epoch"?: number;
          "held"?: number;
          "parent"?: string | null;
          "path"?: (string)[];
          "period"?: string;
          "period_start"?: string;
          "spent_in_period"?: number;
          "updated_at"?: string;
        };
        Relationships: [];
      };
      "credit_balances": {
        Row: {
          "account_id": string;
          "balance": number;
          "carried": number;
          "debt": number;
          "epoch": number;
          "has_budgets": boolean;
          "held": number;
          "is_low": boolean;
          "low_balance_threshold": number | null;
          "may_spend": boolean;
          "next_due_at": string | null;
          "overage_limit": number;
          "overdraft": number;
          "recharge_below": number | null;
          "spend_cap": number | null;
          "spend_cap_period": string | null;
          "spend_period_start": string | null;
          "spent_in_period": number;
          "updated_at": string;
          "withheld": number;
          "written_off_at": string | null;
          "written_off_debt": number;
          "written_off_withheld": number;
          "_in_running_period": {
            "account_id": string;
            "balance": number;
            "carried": number;
            "debt": number;
            "epoch": number;
            "has_budgets": boolean;
            "held": number;
            "is_low": boolean;
            "low_balance_threshold": number | null;
            "may_spend": boolean;
            "next_due_at": string | null;
            "overage_limit": number;
            "overdraft": number;
            "recharge_below": number | null;
            "spend_cap": number | null;
            "spend_cap_period": string | null;
            "spend_period_start": string | null;
            "spent_in_period": number;
            "updated_at": string;
            "withheld": number;
            "written_off_at": string | null;
            "written_off_debt": number;
            "written_off_withheld": number;
          } | null;
          "_room_under_cap": number | null;
          "settled_balance": {
            "account_id": string;
            "balance": number;
            "carried": number;
            "debt": number;
            "epoch": number;
            "has_budgets": boolean;
            "held": number;
            "is_low": boolean;
            "low_balance_threshold": number | null;
            "may_spend": boolean;
            "next_due_at": string | null;
            "overage_limit": number;
            "overdraft": number;
            "recharge_below": number | null;
            "spend_cap": number | null;
            "spend_cap_period": string | null;
            "spend_period_start": string | null;
            "spent_in_period": number;
            "updated_at": string;
            "withheld": number;
            "written_off_at": string | null;
            "written_off_debt": number;
            "written_off_withheld": number;
          } | null;
        };
        ComputedFields:
          | "_in_running_period"
          | "_room_under_cap"
          | "settled_balance";
        Insert: {
          "account_id": string;
          "balance"?: number;
          "carried"?: number;
          "debt"?: number;
          "epoch"?: number;
          "has_budgets"?: boolean;
          "held"?: number;
          "is_low"?: boolean;
          "low_balance_threshold"?: number | null;
          "may_spend"?: boolean;
          "next_due_at"?: string | null;
          "overage_limit"?: number;
          "overdraft"?: number;
          "recharge_below"?: number | null;
          "spend_cap"?: number | null;
          "spend_cap_period"?: string | null;
          "spend_period_start"?: string | null;
          "spent_in_period"?: number;
          "updated_at"?: string;
          "withheld"?: number;
          "written_off_at"?: string | null;
          "written_off_debt"?: number;
          "written_off_withheld"?: number;
        };
        Update: {
          "account_id"?: string;
          "balance"?: number;
          "carried"?: number;
          "debt"?: number;
          "epoch"?: number;
          "has_budgets"?: boolean;
          "held"?: number;
          "is_low"?: boolean;
          "low_balance_threshold"?: number | null;
          "may_spend"?: boolean;
          "next_due_at"?: string | null;
          "overage_limit"?: number;
          "overdraft"?: number;
          "recharge_below"?: number | null;
          "spend_cap"?: number | null;
          "spend_cap_period"?: string | null;
          "spend_period_start"?: string | null;
          "spent_in_period"?: number;
          "updated_at"?: string;
          "withheld"?: number;
          "written_off_at"?: string | null;
          "written_off_debt"?: number;
          "written_off_withheld"?: number;
        };
        Relationships: [];
      };
      "credit_entries": {
        Row: {
          "account_id": string;
          "actor": string | null;
          "amount": number;
          "balance_after": number;
          "created_at": string;
          "debt": number;
          "description": string | null;
          "feature": string | null;
          "hold_id": string | null;
          "id": number;
          "idempotency_key": string;
          "key_space": string;
          "kind": string;
          "metadata": NonNullable<Json>;
          "occurred_at": string;
          "reference_id": string | null;
          "reverses_entry_id": number | null;
          "source": string;
          "up_to": number | null;
          "_lets_lapse": boolean | null;
        };
        ComputedFields: "_lets_lapse";
        Insert: {
          "account_id": string;
          "actor"?: string | null;
          "amount": number;
          "balance_after": number;
          "created_at"?: string;
          "debt"?: number;
          "description"?: string | null;
          "feature"?: string | null;
          "hold_id"?: string | null;
          "id"?: never;
          "idempotency_key": string;
          "key_space": string;
          "kind": string;
          "metadata"?: NonNullable<Json>;
          "occurred_at": string;
          "reference_id"?: string | null;
          "reverses_entry_id"?: number | null;
          "source": string;
          "up_to"?: number | null;
        };
        Update: {
          "account_id"?: string;
          "actor"?: string | null;
          "amount"?: number;
          "balance_after"?: number;
          "created_at"?: string;
          "debt"?: number;
          "description"?: string | null;
          "feature"?: string | null;
          "hold_id"?: string | null;
          "id"?: never;
          "idempotency_key"?: string;
          "key_space"?: string;
          "kind"?: string;
          "metadata"?: NonNullable<Json>;
          "occurred_at"?: string;
          "reference_id"?: string | null;
          "reverses_entry_id"?: number | null;
          "source"?: string;
          "up_to"?: number | null;
        };
        Relationships: [];
      };
      "credit_grants": {
        Row: {
          "account_id": string;
          "amount": number;
          "closed_at": string | null;
          "contested": number;
          "created_at": string;
          "cut": number;
          "description": string | null;
          "effective_at": string;
          "entry_id": number | null;
          "epoch": number;
          "expires_at": string | null;
          "held": number;
          "id": number;
          "idempotency_key": string;
          "key_space": string;
          "lapsed": number;
          "priority": number;
          "reference_id": string | null;
          "remaining": number;
          "source": string;
          "stripe_checkout_session_id": string | null;
          "stripe_invoice_id": string | null;
          "stripe_payment_intent_id": string | null;
          "stripe_price_id": string | null;
          "stripe_subscription_item_id": string | null;
          "_expiry_key": string | null;
          "_lapsed_of_lot": number | null;
          "_open_scheduled_lot": undefined | null;
          "_revocable": number | null;
          "_spent_of_lot": number | null;
        };
        ComputedFields:
          | "_expiry_key"
          | "_lapsed_of_lot"
          | "_open_scheduled_lot"
          | "_revocable"
          | "_spent_of_lot";
        Insert: {
          "account_id": string;
          "amount": number;
          "closed_at"?: string | null;
          "contested"?: number;
          "created_at"?: string;
          "cut"?: number;
          "description"?: string | null;
          "effective_at": string;
          "entry_id"?: number | null;
          "epoch"?: number;
          "expires_at"?: string | null;
          "held"?: number;
          "id"?: never;
          "idempotency_key": string;
          "key_space": string;
          "lapsed"?: number;
          "priority"?: number;
          "reference_id"?: string | null;
          "remaining": number;
          "source": string;
          "stripe_checkout_session_id"?: string | null;
          "stripe_invoice_id"?: string | null;
          "stripe_payment_intent_id"?: string | null;
          "stripe_price_id"?: string | null;
          "stripe_subscription_item_id"?: string | null;
        };
        Update: {
          "account_id"?: string;
          "amount"?: number;
          "closed_at"?: string | null;
          "contested"?: number;
          "created_at"?: string;
          "cut"?: number;
          "description"?: string | null;
          "effective_at"?: string;
          "entry_id"?: number | null;
          "epoch"?: number;
          "expires_at"?: string | null;
          "held"?: number;
          "id"?: never;
          "idempotency_key"?: string;
          "key_space"?: string;
          "lapsed"?: number;
          "priority"?: number;
          "reference_id"?: string | null;
          "remaining"?: number;
          "source"?: string;
          "stripe_checkout_session_id"?: string | null;
          "stripe_invoice_id"?: string | null;
          "stripe_payment_intent_id"?: string | null;
          "stripe_price_id"?: string | null;
          "stripe_subscription_item_id"?: string | null;
        };
        Relationships: [];
      };
      "credit_holds": {
        Row: {
          "account_id": string;
          "actor": string | null;
          "amount": number;
          "captured": number;
          "created_at": string;
          "description": string | null;
          "expires_at": string;
          "expires_in": string;
          "feature": string | null;
          "frozen_grant_id": number | null;
          "id": string;
          "idempotency_key": string;
          "metadata": NonNullable<Json>;
          "release_key": string | null;
          "settled_at": string | null;
          "status": string;
          "_check_held": undefined | null;
          "_thaw": undefined | null;
        };
        ComputedFields: "_check_held" | "_thaw";
        Insert: {
          "account_id": string;
          "actor"?: string | null;
          "amount": number;
          "captured"?: number;
          "created_at"?: string;
          "description"?: string | null;
          "expires_at": string;
          "expires_in": string;
          "feature"?: string | null;
          "frozen_grant_id"?: number | null;
          "id"?: string;
          "idempotency_key": string;
          "metadata"?: NonNullable<Json>;
          "release_key"?: string | null;
          "settled_at"?: string | null;
          "status"?: string;
        };
        Update: {
          "account_id"?: string;
          "actor"?: string | null;
          "amount"?: number;
          "captured"?: number;
          "created_at"?: string;
          "description"?: string | null;
          "expires_at"?: string;
          "expires_in"?: string;
          "feature"?: string | null;
          "frozen_grant_id"?: number | null;
          "id"?: string;
          "idempotency_key"?: string;
          "metadata"?: NonNullable<Json>;
          "release_key"?: string | null;
          "settled_at"?: string | null;
          "status"?: string;
        };
        Relationships: [];
      };
      "credit_reinstatements": {
        Row: {
          "account_id": string;
          "actor": string;
          "amount": number;
          "created_at": string;
          "entry_id": number | null;
          "id": number;
          "idempotency_key": string;
          "key_space": string;
          "reason": string;
          "revocation_id": number;
          "unwithheld": number;
        };
        ComputedFields: never;
        Insert: {
          "account_id": string;
          "actor": string;
          "amount": number;
          "created_at"?: string;
          "entry_id"?: number | null;
          "id"?: never;
          "idempotency_key": string;
          "key_space": string;
          "reason": string;
          "revocation_id": number;
          "unwithheld": number;
        };
        Update: {
          "account_id"?: string;
          "actor"?: string;
          "amount"?: number;
          "created_at"?: string;
          "entry_id"?: number | null;
          "id"?: never;
          "idempotency_key"?: string;
          "key_space"?: string;
          "reason"?: string;
          "revocation_id"?: number;
          "unwithheld"?: number;
        };
        Relationships: [];
      };
      "credit_revocations": {
        Row: {
          "account_id": string;
          "actor": string | null;
          "business_key": string | null;
          "created_at": string;
          "entry_id": number | null;
          "grant_id": number;
          "id": number;
          "idempotency_key": string;
          "key_space": string;
          "reason": string;
          "reinstated": number;
          "requested": number;
          "shortfall": number;
          "shortfall_policy": string;
          "taken": number;
          "voided": number;
          "_asked_back": number | null;
        };
        ComputedFields: "_asked_back";
        Insert: {
          "account_id": string;
          "actor"?: string | null;
          "business_key"?: string | null;
          "created_at"?: string;
          "entry_id"?: number | null;
          "grant_id": number;
          "id"?: never;
          "idempotency_key": string;
          "key_space": string;
          "reason": string;
          "reinstated"?: number;
          "requested": number;
          "shortfall": number;
          "shortfall_policy": string;
          "taken": number;
          "voided"?: number;
        };
        Update: {
          "account_id"?: string;
          "actor"?: string | null;
          "business_key"?: string | null;
          "created_at"?: string;
          "entry_id"?: number | null;
          "grant_id"?: number;
          "id"?: never;
          "idempotency_key"?: string;
          "key_space"?: string;
          "reason"?: string;
          "reinstated"?: number;
          "requested"?: number;
          "shortfall"?: number;
          "shortfall_policy"?: string;
          "taken"?: number;
          "voided"?: number;
        };
        Relationships: [];
      };
      "erasures": {
        Row: {
          "account_id": string | null;
          "actor": string;
          "erased_at": string;
          "events_emptied": number;
          "id": number;
          "reason": string;
          "stripe_customer_id": string | null;
        };
        ComputedFields: never;
        Insert: {
          "account_id"?: string | null;
          "actor": string;
          "erased_at"?: string;
          "events_emptied"?: number;
          "id"?: never;
          "reason": string;
          "stripe_customer_id"?: string | null;
        };
        Update: {
          "account_id"?: string | null;
          "actor"?: string;
          "erased_at"?: string;
          "events_emptied"?: number;
          "id"?: never;
          "reason"?: string;
          "stripe_customer_id"?: string | null;
        };
        Relationships: [];
      };
      "fraud_actions": {
        Row: {
          "account_id": string | null;
          "action": string;
          "actor": string;
          "amount": number | null;
          "attempts": number;
          "created_at": string;
          "currency": string | null;
          "decided_at": string;
          "id": number;
          "idempotency_key": string;
          "is_in_doubt": boolean;
          "last_error": string | null;
          "reason": string;
          "settled_at": string | null;
          "status": string;
          "stripe_charge_id": string | null;
          "stripe_early_fraud_warning_id": string | null;
          "stripe_refund_id": string | null;
          "stripe_subscription_id": string | null;
          "undone_at": string | null;
          "undone_by": string | null;
          "undone_reason": string | null;
          "updated_at": string;
          "_tell_of_failed_action": undefined | null;
        };
        ComputedFields: "_tell_of_failed_action";
        Insert: {
          "account_id"?: string | null;
          "action": string;
          "actor": string;
          "amount"?: number | null;
          "attempts"?: number;
          "created_at"?: string;
          "currency"?: string | null;
          "decided_at": string;
          "id"?: never;
          "idempotency_key"?: string;
          "is_in_doubt"?: boolean;
          "last_error"?: string | null;
          "reason": string;
          "settled_at"?: string | null;
          "status": string;
          "stripe_charge_id"?: string | null;
          "stripe_early_fraud_warning_id"?: string | null;
          "stripe_refund_id"?: string | null;
          "stripe_subscription_id"?: string | null;
          "undone_at"?: string | null;
          "undone_by"?: string | null;
          "undone_reason"?: string | null;
          "updated_at"?: string;
        };
        Update: {
          "account_id"?: string | null;
          "action"?: string;
          "actor"?: string;
          "amount"?: number | null;
          "attempts"?: number;
          "created_at"?: string;
          "currency"?: string | null;
          "decided_at"?: string;
          "id"?: never;
          "idempotency_key"?: string;
          "is_in_doubt"?: boolean;
          "last_error"?: string | null;
          "reason"?: string;
          "settled_at"?: string | null;
          "status"?: string;
          "stripe_charge_id"?: string | null;
          "stripe_early_fraud_warning_id"?: string | null;
          "stripe_refund_id"?: string | null;
          "stripe_subscription_id"?: string | null;
          "undone_at"?: string | null;
          "undone_by"?: string | null;
          "undone_reason"?: string | null;
          "updated_at"?: string;
        };
        Relationships: [];
      };
      "fraud_warnings": {
        Row: {
          "account_id": string | null;
          "actionable": boolean;
          "as_of": string;
          "created_at": string;
          "fraud_type": string;
          "livemode": boolean;
          "notes": string | null;
          "processed_at": string | null;
          "risk_level": string | null;
          "risk_score": number | null;
          "status": string;
          "stripe_charge_id": string;
          "stripe_customer_id": string | null;
          "stripe_early_fraud_warning_id": string;
          "stripe_payment_intent_id": string | null;
          "updated_at": string;
          "warned_at": string;
          "_act_on_warning": undefined | null;
          "_alert_of_warning": undefined | null;
        };
        ComputedFields: "_act_on_warning" | "_alert_of_warning";
        Insert: {
          "account_id"?: string | null;
          "actionable": boolean;
          "as_of": string;
          "created_at"?: string;
          "fraud_type": string;
          "livemode": boolean;
          "notes"?: string | null;
          "processed_at"?: string | null;
          "risk_level"?: string | null;
          "risk_score"?: number | null;
          "status"?: string;
          "stripe_charge_id": string;
          "stripe_customer_id"?: string | null;
          "stripe_early_fraud_warning_id": string;
          "stripe_payment_intent_id"?: string | null;
          "updated_at"?: string;
          "warned_at": string;
        };
        Update: {
          "account_id"?: string | null;
          "actionable"?: boolean;
          "as_of"?: string;
          "created_at"?: string;
          "fraud_type"?: string;
          "livemode"?: boolean;
          "notes"?: string | null;
          "processed_at"?: string | null;
          "risk_level"?: string | null;
          "risk_score"?: number | null;
          "status"?: string;
          "stripe_charge_id"?: string;
          "stripe_customer_id"?: string | null;
          "stripe_early_fraud_warning_id"?: string;
          "stripe_payment_intent_id"?: string | null;
          "updated_at"?: string;
          "warned_at"?: string;
        };
        Relationships: [];
      };
      "held_credits": {
        Row: {
          "account_id": string;
          "amount": number;
          "card_fingerprint": string;
          "created_at": string;
          "description": string | null;
          "expires_at": string | null;
          "held_at": string;
          "id": number;
          "idempotency_key": string;
          "kind": string;
          "matched_account_id": string;
          "reason": string | null;
          "reference_id": string | null;
          "reviewed_at": string | null;
          "reviewed_by": string | null;
          "revocation_id": number | null;
          "source": string;
          "status": string;
          "stripe_invoice_id": string | null;
          "stripe_price_id": string | null;
          "stripe_subscription_item_id": string | null;
          "updated_at": string;
          "_set_aside": number | null;
        };
        ComputedFields: "_set_aside";
        Insert: {
          "account_id": string;
          "amount": number;
          "card_fingerprint": string;
          "created_at"?: string;
          "description"?: string | null;
          "expires_at"?: string | null;
          "held_at": string;
          "id"?: never;
          "idempotency_key": string;
          "kind": string;
          "matched_account_id": string;
          "reason"?: string | null;
          "reference_id"?: string | null;
          "reviewed_at"?: string | null;
          "reviewed_by"?: string | null;
          "revocation_id"?: number | null;
          "source": string;
          "status"?: string;
          "stripe_invoice_id"?: string | null;
          "stripe_price_id"?: string | null;
          "stripe_subscription_item_id"?: string | null;
          "updated_at"?: string;
        };
        Update: {
          "account_id"?: string;
          "amount"?: number;
          "card_fingerprint"?: string;
          "created_at"?: string;
          "description"?: string | null;
          "expires_at"?: string | null;
          "held_at"?: string;
          "id"?: never;
          "idempotency_key"?: string;
          "kind"?: string;
          "matched_account_id"?: string;
          "reason"?: string | null;
          "reference_id"?: string | null;
          "reviewed_at"?: string | null;
          "reviewed_by"?: string | null;
          "revocation_id"?: number | null;
          "source"?: string;
          "status"?: string;
          "stripe_invoice_id"?: string | null;
          "stripe_price_id"?: string | null;
          "stripe_subscription_item_id"?: string | null;
          "updated_at"?: string;
        };
        Relationships: [];
      };
      "recharge_settings": {
        Row: {
          "account_id": string;
          "check_again_at": string | null;
          "created_at": string;
          "is_paused": boolean;
          "monthly_cap_amount": number | null;
          "monthly_cap_count": number | null;
          "paused_at": string | null;
          "paused_reason": string | null;
          "return_url": string | null;
          "stripe_price_id": string;
          "threshold": number;
          "updated_at": string;
        };
        ComputedFields: never;
        Insert: {
          "account_id": string;
          "check_again_at"?: string | null;
          "created_at"?: string;
          "is_paused"?: boolean;
          "monthly_cap_amount"?: number | null;
          "monthly_cap_count"?: number | null;
          "paused_at"?: string | null;
          "paused_reason"?: string | null;
          "return_url"?: string | null;
          "stripe_price_id": string;
          "threshold": number;
          "updated_at"?: string;
        };
        Update: {
          "account_id"?: string;
          "check_again_at"?: string | null;
          "created_at"?: string;
          "is_paused"?: boolean;
          "monthly_cap_amount"?: number | null;
          "monthly_cap_count"?: number | null;
          "paused_at"?: string | null;
          "paused_reason"?: string | null;
          "return_url"?: string | null;
          "stripe_price_id"?: string;
          "threshold"?: number;
          "updated_at"?: string;
        };
        Relationships: [];
      };
      "work_charges": {
        Row: {
          "account_id": string;
          "charged": number;
          "created_at": string;
          "credits": number;
          "entry_id": number | null;
          "excess_entry_id": number | null;
          "hold_id": string | null;
          "id": number;
          "idempotency_key": string;
          "occurred_at": string;
          "on_excess": string | null;
          "operation_price_id": number;
          "quantities": NonNullable<Json>;
          "unrounded": number;
        };
        ComputedFields: never;
        Insert: {
          "account_id": string;
          "charged": number;
          "created_at"?: string;
          "credits": number;
          "entry_id"?: number | null;
          "excess_entry_id"?: number | null;
          "hold_id"?: string | null;
          "id"?: never;
          "idempotency_key": string;
          "occurred_at": string;
          "on_excess"?: string | null;
          "operation_price_id": number;
          "quantities": NonNullable<Json>;
          "unrounded": number;
        };
        Update: {
          "account_id"?: string;
          "charged"?: number;
          "created_at"?: string;
          "credits"?: number;
          "entry_id"?: number | null;
          "excess_entry_id"?: number | null;
          "hold_id"?: string | null;
          "id"?: never;
          "idempotency_key"?: string;
          "occurred_at"?: string;
          "on_excess"?: string | null;
          "operation_price_id"?: number;
          "quantities"?: NonNullable<Json>;
          "unrounded"?: number;
        };
        Relationships: [];
      };
    };
    Views: { [_ in never]: never };
    Functions: { [_ in never]: never };
    Enums: { [_ in never]: never };
    CompositeTypes: { [_ in never]: never };
  };
  "public": {
    Tables: {
      [_ in never]: never;
    };
    Views: {
      "billing_account": {
        Row: {
          "account_id": string;
          "closed_at": string | null;
          "frozen_at": string | null;
          "frozen_reason": string | null;
          "kind": string;
          "name": string | null;
          "role": string | null;
          "status": string | null;
        };
        ComputedFields: never;
        Insert: {
          "account_id"?: string | null;
          "closed_at"?: string | null;
          "frozen_at"?: string | null;
          "frozen_reason"?: never;
          "kind"?: string | null;
          "name"?: string | null;
          "role"?: never;
          "status"?: never;
        };
        Update: {
          "account_id"?: string | null;
          "closed_at"?: string | null;
          "frozen_at"?: string | null;
          "frozen_reason"?: never;
          "kind"?: string | null;
          "name"?: string | null;
          "role"?: never;
          "status"?: never;
        };
        Relationships: [];
      };
      "billing_entitlements": {
        Row: {
          "account_id": string | null;
          "feature": string | null;
          "stripe_price_id": string | null;
          "stripe_subscription_id": string | null;
          "value": Json | null;
        };
        ComputedFields: never;
        Relationships: [
          {
            foreignKeyName: "subscriptions_account_id_fkey";
            columns: ["account_id"];
            isOneToOne: false;
            referencedRelation: "billing_account";
            referencedColumns: ["account_id"];
          },
        ];
      };
      "billing_operations": {
        Row: {
          "minimum": number;
          "name": string;
          "on_excess": string;
          "operation": string;
          "rates": NonNullable<Json>;
          "rounding": string;
          "valid_from": string;
        };
        ComputedFields: never;
        Insert: {
          "minimum"?: number | null;
          "name"?: string | null;
          "on_excess"?: string | null;
          "operation"?: string | null;
          "rates"?: Json | null;
          "rounding"?: string | null;
          "valid_from"?: string | null;
        };
        Update: {
          "minimum"?: number | null;
          "name"?: string | null;
          "on_excess"?: string | null;
          "operation"?: string | null;
          "rates"?: Json | null;
          "rounding"?: string | null;
          "valid_from"?: string | null;
        };
        Relationships: [];
      };
      "billing_overages": {
        Row: {
          "account_id": string;
          "amount": number;
          "claimed_at": string;
          "credits": number;
          "currency": string;
          "hosted_invoice_url": string | null;
          "id": string;
          "period_end": string;
          "period_start": string;
          "quantity": number;
          "reason": string | null;
          "status": string | null;
          "stripe_invoice_id": string | null;
          "stripe_subscription_id": string;
        };
        ComputedFields: never;
        Relationships: [
          {
            foreignKeyName: "overages_account_id_fkey";
            columns: ["account_id"];
            isOneToOne: false;
            referencedRelation: "billing_account";
            referencedColumns: ["account_id"];
          },
        ];
      };
      "billing_packs": {
        Row: {
          "credits_per_unit": number | null;
          "currency": string;
          "description": string | null;
          "expires_after": string | null;
          "lookup_key": string | null;
          "name": string | null;
          "pack_credits": number | null;
          "stripe_price_id": string;
          "unit_amount": number | null;
        };
        ComputedFields: never;
        Relationships: [];
      };
      "billing_plans": {
        Row: {
          "currency": string;
          "description": string | null;
          "features": NonNullable<Json>;
          "initial_credits": number;
          "lookup_key": string | null;
          "monthly_credits": number;
          "name": string | null;
          "overage_limit": number;
          "overage_pack": string | null;
          "recurring_interval": string;
          "recurring_interval_count": number;
          "seats_max": number | null;
          "seats_min": number;
          "stripe_price_id": string;
          "trial_credits": number;
          "trial_days": number;
          "unit_amount": number | null;
        };
        ComputedFields: never;
        Relationships: [];
      };
      "billing_subscription": {
        Row: {
          "account_id": string | null;
          "cancels_at": string | null;
          "current_period_end": string;
          "current_period_start": string;
          "ended_at": string | null;
          "quantity": number | null;
          "status": string;
          "stripe_price_id": string;
          "stripe_subscription_id": string;
          "trial_end": string | null;
        };
        ComputedFields: never;
        Relationships: [
          {
            foreignKeyName: "subscriptions_account_id_fkey";
            columns: ["account_id"];
            isOneToOne: false;
            referencedRelation: "billing_account";
            referencedColumns: ["account_id"];
          },
        ];
      };
      "budgets": {
        Row: {
          "account_id": string;
          "actor": string;
          "cap": number | null;
          "created_at": string;
          "held": number;
          "parent": string | null;
          "period": string;
          "remaining": number | null;
          "resets_at": string | null;
          "spent": number | null;
          "updated_at": string;
        };
        ComputedFields: never;
        Insert: {
          "account_id"?: string | null;
          "actor"?: string | null;
          "cap"?: number | null;
          "created_at"?: string | null;
          "held"?: number | null;
          "parent"?: string | null;
          "period"?: string | null;
          "remaining"?: never;
          "resets_at"?: never;
          "spent"?: never;
          "updated_at"?: string | null;
        };
        Update: {
          "account_id"?: string | null;
          "actor"?: string | null;
          "cap"?: number | null;
          "created_at"?: string | null;
          "held"?: number | null;
          "parent"?: string | null;
          "period"?: string | null;
          "remaining"?: never;
          "resets_at"?: never;
          "spent"?: never;
          "updated_at"?: string | null;
        };
        Relationships: [
          {
            foreignKeyName: "budgets_account_id_fkey";
            columns: ["account_id"];
            isOneToOne: false;
            referencedRelation: "billing_account";
            referencedColumns: ["account_id"];
          },
        ];
      };
      "credit_balance": {
        Row: {
          "account_id": string;
          "available": number | null;
          "balance": number | null;
          "held": number | null;
          "updated_at": string;
        };
        ComputedFields: never;
        Insert: {
          "account_id"?: string | null;
          "available"?: number | null;
          "balance"?: number | null;
          "held"?: number | null;
          "updated_at"?: string | null;
        };
        Update: {
          "account_id"?: string | null;
          "available"?: number | null;
          "balance"?: number | null;
          "held"?: number | null;
          "updated_at"?: string | null;
        };
        Relationships: [
          {
            foreignKeyName: "credit_balances_account_id_fkey";
            columns: ["account_id"];
            isOneToOne: true;
            referencedRelation: "billing_account";
            referencedColumns: ["account_id"];
          },
        ];
      };
      "credit_history": {
        Row: {
          "account_id": string;
          "amount": number;
          "balance_after": number;
          "description": string | null;
          "feature": string | null;
          "id": number;
          "kind": string;
          "metadata": NonNullable<Json>;
          "occurred_at": string;
          "reference_id": string | null;
          "source": string;
        };
        ComputedFields: never;
        Insert: {
          "account_id"?: string | null;
          "amount"?: number | null;
          "balance_after"?: number | null;
          "description"?: string | null;
          "feature"?: string | null;
          "id"?: number | null;
          "kind"?: string | null;
          "metadata"?: Json | null;
          "occurred_at"?: string | null;
          "reference_id"?: string | null;
          "source"?: string | null;
        };
        Update: {
          "account_id"?: string | null;
          "amount"?: number | null;
          "balance_after"?: number | null;
          "description"?: string | null;
          "feature"?: string | null;
          "id"?: number | null;
          "kind"?: string | null;
          "metadata"?: Json | null;
          "occurred_at"?: string | null;
          "reference_id"?: string | null;
          "source"?: string | null;
        };
        Relationships: [];
      };
      "team_invitations": {
        Row: {
          "account_id": string;
          "created_at": string;
          "email": string;
          "expires_at": string;
          "role": string;
        };
        ComputedFields: never;
        Insert: {
          "account_id"?: string | null;
          "created_at"?: string | null;
          "email"?: string | null;
          "expires_at"?: string | null;
          "role"?: string | null;
        };
        Update: {
          "account_id"?: string | null;
          "created_at"?: string | null;
          "email"?: string | null;
          "expires_at"?: string | null;
          "role"?: string | null;
        };
        Relationships: [
          {
            foreignKeyName: "team_invitations_account_id_fkey";
            columns: ["account_id"];
            isOneToOne: false;
            referencedRelation: "billing_account";
            referencedColumns: ["account_id"];
          },
        ];
      };
      "work_charges": {
        Row: {
          "account_id": string;
          "charged": number;
          "credits": number;
          "entry_id": number | null;
          "excess_entry_id": number | null;
          "hold_id": string | null;
          "id": number;
          "name": string;
          "occurred_at": string;
          "operation": string;
          "quantities": NonNullable<Json>;
          "rates": NonNullable<Json>;
          "unrounded": number;
        };
        ComputedFields: never;
        Relationships: [];
      };
    };
    Functions: {
      "accept_invitation": {
        Args: { "token": string; "user_id"?: string };
        Returns: Database["billing"]["Tables"]["account_members"]["Row"];
        SetofOptions: {
          from: "*";
          to: "account_members";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      "add_member": {
        Args: { "account_id": string; "role"?: string; "user_id": string };
        Returns: Database["billing"]["Tables"]["account_members"]["Row"];
        SetofOptions: {
          from: "*";
          to: "account_members";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      "adjust_credits": {
        Args: {
          "account_id": string;
          "actor": string;
          "amount": number;
          "expires_at"?: string;
          "idempotency_key": string;
          "reason": string;
        };
        Returns: Database["billing"]["Tables"]["credit_entries"]["Row"];
        SetofOptions: {
          from: "*";
          to: "credit_entries";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      "capture_hold": {
        Args: {
          "amount": number;
          "description"?: string;
          "hold_id": string;
          "idempotency_key": string;
          "metadata"?: Json;
          "release_rest"?: boolean;
        };
        Returns: Database["billing"]["Tables"]["credit_entries"]["Row"];
        SetofOptions: {
          from: "*";
          to: "credit_entries";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      "close_account": {
        Args: { "account_id": string; "actor": string; "reason": string };
        Returns: Database["billing"]["Tables"]["accounts"]["Row"];
        SetofOptions: {
          from: "*";
          to: "accounts";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      "create_team": {
        Args: { "name": string; "owner_id": string };
        Returns: Database["billing"]["Tables"]["accounts"]["Row"];
        SetofOptions: {
          from: "*";
          to: "accounts";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      "credit_balance_as_of": {
        Args: { "account_id": string; "moment": string };
        Returns: number;
      };
      "credit_statement": {
        Args: {
          "account_id": string;
          "period_end": string;
          "period_start": string;
        };
        Returns: {
          "amount": number;
          "entries": number;
          "feature": string;
          "kind": string;
          "line": string;
          "source": string;
        }[];
      };
      "credit_usage": {
        Args: {
          "account_id": string;
          "period_end": string;
          "period_start": string;
        };
        Returns: {
          "credits": number;
          "day": string;
          "feature": string;
          "spends": number;
        }[];
      };
      "credit_usage_by_actor": {
        Args: {
          "account_id": string;
          "period_end": string;
          "period_start": string;
        };
        Returns: {
          "actor": string;
          "credits": number;
          "day": string;
          "spends": number;
        }[];
      };
      "dismiss_customer": {
        Args: {
          "actor": string;
          "reason": string;
          "stripe_customer_id": string;
        };
        Returns: number;
      };
      "dismiss_stripe_event": {
        Args: { "actor": string; "event_id": string; "reason": string };
        Returns: string;
      };
      "ensure_account": { Args: { "user_id": string }; Returns: string };
      "erase_account": {
        Args: { "account_id": string; "actor": string; "reason": string };
        Returns: Database["billing"]["Tables"]["erasures"]["Row"];
        SetofOptions: {
          from: "*";
          to: "erasures";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      "estimate_work": {
        Args: { "operation": string; "quantities": Json };
        Returns: {
          "credits": number;
          "operation_price_id": number;
          "unrounded": number;
        }[];
      };
      "export_account": {
        Args: { "account_id": string };
        Returns: {
          "data": Json;
          "section": string;
        }[];
      };
      "extend_hold": {
        Args: { "expires_in": string; "hold_id": string };
        Returns: Database["billing"]["Tables"]["credit_holds"]["Row"];
        SetofOptions: {
          from: "*";
          to: "credit_holds";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      "freeze_account": {
        Args: { "account_id": string; "actor": string; "reason": string };
        Returns: Database["billing"]["Tables"]["accounts"]["Row"];
        SetofOptions: {
          from: "*";
          to: "accounts";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      "grant_credits": {
        Args: {
          "account_id": string;
          "amount": number;
          "description"?: string;
          "expires_at"?: string;
          "idempotency_key": string;
          "metadata"?: Json;
          "priority"?: number;
          "reference_id"?: string;
          "source"?: string;
        };
        Returns: Database["billing"]["Tables"]["credit_entries"]["Row"];
        SetofOptions: {
          from: "*";
          to: "credit_entries";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      "has_feature":
        | { Args: { "feature": string }; Returns: boolean }
        | {
          Args: { "account_id": string; "feature": string };
          Returns: boolean;
        };
      "hold_credits": {
        Args: {
          "account_id": string;
          "actor"?: string;
          "amount": number;
          "description"?: string;
          "expires_in"?: string;
          "feature"?: string;
          "idempotency_key": string;
          "metadata"?: Json;
        };
        Returns: Database["billing"]["Tables"]["credit_holds"]["Row"];
        SetofOptions: {
          from: "*";
          to: "credit_holds";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      "hold_work": {
        Args: {
          "account_id": string;
          "actor"?: string;
          "description"?: string;
          "expires_in"?: string;
          "idempotency_key": string;
          "metadata"?: Json;
          "operation": string;
          "quantities": Json;
        };
        Returns: Database["billing"]["Tables"]["credit_holds"]["Row"];
        SetofOptions: {
          from: "*";
          to: "credit_holds";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      "invite_member": {
        Args: { "account_id": string; "email": string; "role"?: string };
        Returns: {
          "expires_at": string;
          "invitation_id": number;
          "token": string;
        }[];
      };
      "link_customer": {
        Args: {
          "account_id": string;
          "livemode"?: boolean;
          "stripe_customer_id": string;
        };
        Returns: undefined;
      };
      "merge_customer": {
        Args: { "duplicate_of": string; "stripe_customer_id": string };
        Returns: undefined;
      };
      "note_fraud": {
        Args: {
          "actor": string;
          "notes": string;
          "stripe_early_fraud_warning_id": string;
        };
        Returns: Database["billing"]["Tables"]["fraud_actions"]["Row"];
        SetofOptions: {
          from: "*";
          to: "fraud_actions";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      "refund_fraud_warning": {
        Args: {
          "actor": string;
          "reason": string;
          "stripe_early_fraud_warning_id": string;
        };
        Returns: Database["billing"]["Tables"]["fraud_actions"]["Row"];
        SetofOptions: {
          from: "*";
          to: "fraud_actions";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      "refund_spend": {
        Args: {
          "amount": number;
          "description"?: string;
          "entry_id": number;
          "idempotency_key": string;
          "metadata"?: Json;
        };
        Returns: Database["billing"]["Tables"]["credit_entries"]["Row"];
        SetofOptions: {
          from: "*";
          to: "credit_entries";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      "reinstate_grant": {
        Args: {
          "actor": string;
          "amount": number;
          "idempotency_key": string;
          "reason": string;
          "revocation_id": number;
        };
        Returns: Database["billing"]["Tables"]["credit_reinstatements"]["Row"];
        SetofOptions: {
          from: "*";
          to: "credit_reinstatements";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      "release_hold": {
        Args: { "hold_id": string; "idempotency_key": string };
        Returns: Database["billing"]["Tables"]["credit_holds"]["Row"];
        SetofOptions: {
          from: "*";
          to: "credit_holds";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      "remove_budget": {
        Args: { "account_id": string; "actor": string };
        Returns: Database["billing"]["Tables"]["budgets"]["Row"];
        SetofOptions: {
          from: "*";
          to: "budgets";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      "remove_member": {
        Args: { "account_id": string; "user_id": string };
        Returns: Database["billing"]["Tables"]["account_members"]["Row"];
        SetofOptions: {
          from: "*";
          to: "account_members";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      "reopen_account": {
        Args: { "account_id": string };
        Returns: Database["billing"]["Tables"]["accounts"]["Row"];
        SetofOptions: {
          from: "*";
          to: "accounts";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      "resolve_fraud_warning": {
        Args: {
          "actor": string;
          "decision": string;
          "notes": string;
          "stripe_early_fraud_warning_id": string;
        };
        Returns: Database["billing"]["Tables"]["fraud_warnings"]["Row"];
        SetofOptions: {
          from: "*";
          to: "fraud_warnings";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      "review_held_credits": {
        Args: {
          "actor": string;
          "decision": string;
          "id": number;
          "reason": string;
        };
        Returns: Database["billing"]["Tables"]["held_credits"]["Row"];
        SetofOptions: {
          from: "*";
          to: "held_credits";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      "revoke_grant": {
        Args: {
          "actor": string;
          "amount": number;
          "grant_id": number;
          "idempotency_key": string;
          "reason": string;
          "shortfall_policy"?: string;
        };
        Returns: Database["billing"]["Tables"]["credit_revocations"]["Row"];
        SetofOptions: {
          from: "*";
          to: "credit_revocations";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      "revoke_invitation": {
        Args: { "account_id": string; "email": string };
        Returns: boolean;
      };
      "schedule_credits": {
        Args: {
          "account_id": string;
          "amount": number;
          "description"?: string;
          "effective_at": string;
          "expires_at"?: string;
          "idempotency_key": string;
          "priority"?: number;
          "reference_id"?: string;
          "source"?: string;
        };
        Returns: Database["billing"]["Tables"]["credit_grants"]["Row"];
        SetofOptions: {
          from: "*";
          to: "credit_grants";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      "set_budget": {
        Args: {
          "account_id": string;
          "actor": string;
          "cap": number;
          "parent"?: string;
          "period": string;
        };
        Returns: Database["billing"]["Tables"]["budgets"]["Row"];
        SetofOptions: {
          from: "*";
          to: "budgets";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      "set_credit_limits": {
        Args: {
          "account_id": string;
          "low_balance_threshold"?: number;
          "overdraft"?: number;
          "spend_cap"?: number;
          "spend_cap_period"?: string;
        };
        Returns: Database["billing"]["Tables"]["credit_balances"]["Row"];
        SetofOptions: {
          from: "*";
          to: "credit_balances";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      "set_member_role": {
        Args: { "account_id": string; "role": string; "user_id": string };
        Returns: Database["billing"]["Tables"]["account_members"]["Row"];
        SetofOptions: {
          from: "*";
          to: "account_members";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      "set_recharge": {
        Args: {
          "account_id": string;
          "is_paused"?: boolean;
          "monthly_cap_amount"?: number;
          "monthly_cap_count"?: number;
          "return_url"?: string;
          "stripe_price_id": string;
          "threshold": number;
        };
        Returns: Database["billing"]["Tables"]["recharge_settings"]["Row"];
        SetofOptions: {
          from: "*";
          to: "recharge_settings";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      "settle_work": {
        Args: {
          "description"?: string;
          "hold_id": string;
          "idempotency_key": string;
          "metadata"?: Json;
          "on_excess"?: string;
          "usage": Json;
        };
        Returns: Database["billing"]["Tables"]["work_charges"]["Row"];
        SetofOptions: {
          from: "*";
          to: "work_charges";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      "spend_credits": {
        Args: {
          "account_id": string;
          "actor"?: string;
          "amount": number;
          "description"?: string;
          "feature"?: string;
          "idempotency_key": string;
          "metadata"?: Json;
          "reference_id"?: string;
          "up_to"?: boolean;
        };
        Returns: Database["billing"]["Tables"]["credit_entries"]["Row"];
        SetofOptions: {
          from: "*";
          to: "credit_entries";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      "spend_credits_batch": {
        Args: { "spends": Json };
        Returns: Database["billing"]["Tables"]["credit_entries"]["Row"][];
        SetofOptions: {
          from: "*";
          to: "credit_entries";
          isOneToOne: false;
          isSetofReturn: true;
        };
      };
      "spend_work": {
        Args: {
          "account_id": string;
          "actor"?: string;
          "description"?: string;
          "idempotency_key": string;
          "metadata"?: Json;
          "operation": string;
          "quantities": Json;
        };
        Returns: Database["billing"]["Tables"]["work_charges"]["Row"];
        SetofOptions: {
          from: "*";
          to: "work_charges";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      "team_members": {
        Args: { "account_id": string };
        Returns: {
          "created_at": string;
          "email": string;
          "role": string;
          "user_id": string;
        }[];
      };
      "transfer_credits": {
        Args: {
          "amount": number;
          "description"?: string;
          "from_account_id": string;
          "idempotency_key": string;
          "metadata"?: Json;
          "to_account_id": string;
        };
        Returns: Database["billing"]["Tables"]["credit_entries"]["Row"];
        SetofOptions: {
          from: "*";
          to: "credit_entries";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      "transfer_ownership": {
        Args: { "account_id": string; "user_id": string };
        Returns: Database["billing"]["Tables"]["account_members"]["Row"];
        SetofOptions: {
          from: "*";
          to: "account_members";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      "undo_fraud_action": {
        Args: { "actor": string; "id": number; "reason": string };
        Returns: Database["billing"]["Tables"]["fraud_actions"]["Row"];
        SetofOptions: {
          from: "*";
          to: "fraud_actions";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      "unfreeze_account": {
        Args: { "account_id": string; "actor": string; "reason": string };
        Returns: Database["billing"]["Tables"]["accounts"]["Row"];
        SetofOptions: {
          from: "*";
          to: "accounts";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
    };
    Enums: {
      [_ in never]: never;
    };
    CompositeTypes: {
      [_ in never]: never;
    };
  };
};

type DatabaseWithoutInternals = Omit<Database, "__InternalSupabase">;

type DefaultSchema =
  DatabaseWithoutInternals[Extract<keyof Database, "public">];

export type Tables<
  DefaultSchemaTableNameOrOptions extends
    | keyof (DefaultSchema["Tables"] & DefaultSchema["Views"])
    | { schema: keyof DatabaseWithoutInternals },
  TableName extends DefaultSchemaTableNameOrOptions extends {
    schema: keyof DatabaseWithoutInternals;
  } ? keyof (
      & DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions["schema"]][
        "Tables"
      ]
      & DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions["schema"]][
        "Views"
      ]
    )
    : never = never,
> = DefaultSchemaTableNameOrOptions extends
  { schema: keyof DatabaseWithoutInternals } ? (
    & DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions["schema"]][
      "Tables"
    ]
    & DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions["schema"]][
      "Views"
    ]
  )[TableName] extends {
    Row: infer R;
  } ? R
  : never
  : DefaultSchemaTableNameOrOptions extends
    keyof (DefaultSchema["Tables"] & DefaultSchema["Views"])
    ? (DefaultSchema["Tables"] & DefaultSchema["Views"])[
      DefaultSchemaTableNameOrOptions
    ] extends {
      Row: infer R;
    } ? R
    : never
  : never;

export type TablesInsert<
  DefaultSchemaTableNameOrOptions extends
    | keyof DefaultSchema["Tables"]
    | { schema: keyof DatabaseWithoutInternals },
  TableName extends DefaultSchemaTableNameOrOptions extends {
    schema: keyof DatabaseWithoutInternals;
  } ? keyof DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions["schema"]][
      "Tables"
    ]
    : never = never,
> = DefaultSchemaTableNameOrOptions extends
  { schema: keyof DatabaseWithoutInternals }
  ? DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions["schema"]][
    "Tables"
  ][TableName] extends {
    Insert: infer I;
  } ? I
  : never
  : DefaultSchemaTableNameOrOptions extends keyof DefaultSchema["Tables"]
    ? DefaultSchema["Tables"][DefaultSchemaTableNameOrOptions] extends {
      Insert: infer I;
    } ? I
    : never
  : never;

export type TablesUpdate<
  DefaultSchemaTableNameOrOptions extends
    | keyof DefaultSchema["Tables"]
    | { schema: keyof DatabaseWithoutInternals },
  TableName extends DefaultSchemaTableNameOrOptions extends {
    schema: keyof DatabaseWithoutInternals;
  } ? keyof DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions["schema"]][
      "Tables"
    ]
    : never = never,
> = DefaultSchemaTableNameOrOptions extends
  { schema: keyof DatabaseWithoutInternals }
  ? DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions["schema"]][
    "Tables"
  ][TableName] extends {
    Update: infer U;
  } ? U
  : never
  : DefaultSchemaTableNameOrOptions extends keyof DefaultSchema["Tables"]
    ? DefaultSchema["Tables"][DefaultSchemaTableNameOrOptions] extends {
      Update: infer U;
    } ? U
    : never
  : never;

export type Enums<
  DefaultSchemaEnumNameOrOptions extends
    | keyof DefaultSchema["Enums"]
    | { schema: keyof DatabaseWithoutInternals },
  EnumName extends DefaultSchemaEnumNameOrOptions extends {
    schema: keyof DatabaseWithoutInternals;
  } ? keyof DatabaseWithoutInternals[DefaultSchemaEnumNameOrOptions["schema"]][
      "Enums"
    ]
    : never = never,
> = DefaultSchemaEnumNameOrOptions extends
  { schema: keyof DatabaseWithoutInternals }
  ? DatabaseWithoutInternals[DefaultSchemaEnumNameOrOptions["schema"]]["Enums"][
    EnumName
  ]
  : DefaultSchemaEnumNameOrOptions extends keyof DefaultSchema["Enums"]
    ? DefaultSchema["Enums"][DefaultSchemaEnumNameOrOptions]
  : never;

export type CompositeTypes<
  PublicCompositeTypeNameOrOptions extends
    | keyof DefaultSchema["CompositeTypes"]
    | { schema: keyof DatabaseWithoutInternals },
  CompositeTypeName extends PublicCompositeTypeNameOrOptions extends {
    schema: keyof DatabaseWithoutInternals;
  } ? keyof DatabaseWithoutInternals[
      PublicCompositeTypeNameOrOptions["schema"]
    ]["CompositeTypes"]
    : never = never,
> = PublicCompositeTypeNameOrOptions extends
  { schema: keyof DatabaseWithoutInternals }
  ? DatabaseWithoutInternals[PublicCompositeTypeNameOrOptions["schema"]][
    "CompositeTypes"
  ][CompositeTypeName]
  : PublicCompositeTypeNameOrOptions extends
    keyof DefaultSchema["CompositeTypes"]
    ? DefaultSchema["CompositeTypes"][PublicCompositeTypeNameOrOptions]
  : never;

export const Constants = {
  "billing": {
    Enums: {},
  },
  "public": {
    Enums: {},
  },
} as const;

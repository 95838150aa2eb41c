// What the Supabase CLI makes of the schemas public and billing. Not written by hand: `make types`.
// `billing` is not exposed to the Data API: its rows are what the functions return and what Realtime sends.

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
        Relationships: [
          {
            foreignKeyName: "account_members_account_id_fkey";
            columns: ["account_id"];
            isOneToOne: false;
            referencedRelation: "accounts";
            referencedColumns: ["id"];
          },
          {
            foreignKeyName: "account_members_account_id_fkey";
            columns: ["account_id"];
            isOneToOne: false;
            referencedRelation: "entitlement_discrepancies";
            referencedColumns: ["account_id"];
          },
        ];
      };
      "account_proof": {
        Row: {
          "accounts_checked": number;
          "id": boolean;
          "last_account_id": string | null;
          "round_finished_at": string | null;
          "round_started_at": string | null;
        };
        ComputedFields: never;
        Insert: {
          "accounts_checked"?: number;
          "id"?: boolean;
          "last_account_id"?: string | null;
          "round_finished_at"?: string | null;
          "round_started_at"?: string | null;
        };
        Update: {
          "accounts_checked"?: number;
          "id"?: boolean;
          "last_account_id"?: string | null;
          "round_finished_at"?: string | null;
          "round_started_at"?: string | null;
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
      "card_fingerprints": {
        Row: {
          "account_id": string | null;
          "card_fingerprint": string;
          "created_at": string;
          "first_seen_at": string;
          "stripe_customer_id": string;
        };
        ComputedFields: never;
        Insert: {
          "account_id"?: string | null;
          "card_fingerprint": string;
          "created_at"?: string;
          "first_seen_at": string;
          "stripe_customer_id": string;
        };
        Update: {
          "account_id"?: string | null;
          "card_fingerprint"?: string;
          "created_at"?: string;
          "first_seen_at"?: string;
          "stripe_customer_id"?: string;
        };
        Relationships: [
          {
            foreignKeyName: "card_fingerprints_account_id_fkey";
            columns: ["account_id"];
            isOneToOne: false;
            referencedRelation: "accounts";
            referencedColumns: ["id"];
          },
          {
            foreignKeyName: "card_fingerprints_account_id_fkey";
            columns: ["account_id"];
            isOneToOne: false;
            referencedRelation: "entitlement_discrepancies";
            referencedColumns: ["account_id"];
          },
          {
            foreignKeyName: "card_fingerprints_stripe_customer_id_fkey";
            columns: ["stripe_customer_id"];
            isOneToOne: false;
            referencedRelation: "customers";
            referencedColumns: ["stripe_customer_id"];
          },
        ];
      };
      "carried_credits": {
        Row: {
          "account_id": string;
          "amount": number;
          "business_key": string;
          "created_at": string;
        };
        ComputedFields: never;
        Insert: {
          "account_id": string;
          "amount": number;
          "business_key": string;
          "created_at"?: string;
        };
        Update: {
          "account_id"?: string;
          "amount"?: number;
          "business_key"?: string;
          "created_at"?: string;
        };
        Relationships: [
          {
            foreignKeyName: "carried_credits_account_id_fkey";
            columns: ["account_id"];
            isOneToOne: false;
            referencedRelation: "accounts";
            referencedColumns: ["id"];
          },
          {
            foreignKeyName: "carried_credits_account_id_fkey";
            columns: ["account_id"];
            isOneToOne: false;
            referencedRelation: "entitlement_discrepancies";
            referencedColumns: ["account_id"];
          },
        ];
      };
      "checkout_line_items": {
        Row: {
          "amount_total": number;
          "created_at": string;
          "declares_credits": boolean;
          "quantity": number | null;
          "stripe_checkout_session_id": string;
          "stripe_line_item_id": string;
          "stripe_price_id": string | null;
        };
        ComputedFields: never;
        Insert: {
          "amount_total": number;
          "created_at"?: string;
          "declares_credits": boolean;
          "quantity"?: number | null;
          "stripe_checkout_session_id": string;
          "stripe_line_item_id": string;
          "stripe_price_id"?: string | null;
        };
        Update: {
          "amount_total"?: number;
          "created_at"?: string;
          "declares_credits"?: boolean;
          "quantity"?: number | null;
          "stripe_checkout_session_id"?: string;
          "stripe_line_item_id"?: string;
          "stripe_price_id"?: string | null;
        };
        Relationships: [
          {
            foreignKeyName:
              "checkout_line_items_stripe_checkout_session_id_fkey";
            columns: ["stripe_checkout_session_id"];
            isOneToOne: false;
            referencedRelation: "checkout_sessions";
            referencedColumns: ["stripe_checkout_session_id"];
          },
        ];
      };
      "checkout_requests": {
        Row: {
          "account_id": string;
          "created_at": string;
          "discarded_at": string | null;
          "expired_at": string | null;
          "id": string;
          "idempotency_key": string;
          "livemode": boolean;
          "params": NonNullable<Json>;
          "quantity": number | null;
          "stripe_checkout_session_id": string | null;
          "stripe_price_id": string;
          "superseded_at": string | null;
          "user_id": string | null;
        };
        ComputedFields: never;
        Insert: {
          "account_id": string;
          "created_at"?: string;
          "discarded_at"?: string | null;
          "expired_at"?: string | null;
          "id"?: string;
          "idempotency_key": string;
          "livemode": boolean;
          "params": NonNullable<Json>;
          "quantity"?: number | null;
          "stripe_checkout_session_id"?: string | null;
          "stripe_price_id": string;
          "superseded_at"?: string | null;
          "user_id"?: string | null;
        };
        Update: {
          "account_id"?: string;
          "created_at"?: string;
          "discarded_at"?: string | null;
          "expired_at"?: string | null;
          "id"?: string;
          "idempotency_key"?: string;
          "livemode"?: boolean;
          "params"?: NonNullable<Json>;
          "quantity"?: number | null;
          "stripe_checkout_session_id"?: string | null;
          "stripe_price_id"?: string;
          "superseded_at"?: string | null;
          "user_id"?: string | null;
        };
        Relationships: [
          {
            foreignKeyName: "checkout_requests_account_id_fkey";
            columns: ["account_id"];
            isOneToOne: false;
            referencedRelation: "accounts";
            referencedColumns: ["id"];
          },
          {
            foreignKeyName: "checkout_requests_account_id_fkey";
            columns: ["account_id"];
            isOneToOne: false;
            referencedRelation: "entitlement_discrepancies";
            referencedColumns: ["account_id"];
          },
        ];
      };
      "checkout_sessions": {
        Row: {
          "account_id": string | null;
          "amount_total": number | null;
          "as_of": string;
          "client_reference_id": string | null;
          "completed_at": string | null;
          "created_at": string;
          "currency": string | null;
          "livemode": boolean;
          "mode": string;
          "opened_at": string | null;
          "payment_status": string;
          "status": string;
          "stripe_checkout_session_id": string;
          "stripe_customer_id": string | null;
          "stripe_invoice_id": string | null;
          "stripe_payment_intent_id": string | null;
          "stripe_payment_link_id": string | null;
          "stripe_subscription_id": string | null;
          "updated_at": string;
          "_purchase_packs_of_session": undefined | null;
        };
        ComputedFields: "_purchase_packs_of_session";
        Insert: {
          "account_id"?: string | null;
          "amount_total"?: number | null;
          "as_of": string;
          "client_reference_id"?: string | null;
          "completed_at"?: string | null;
          "created_at"?: string;
          "currency"?: string | null;
          "livemode": boolean;
          "mode": string;
          "opened_at"?: string | null;
          "payment_status": string;
          "status": string;
          "stripe_checkout_session_id": string;
          "stripe_customer_id"?: string | null;
          "stripe_invoice_id"?: string | null;
          "stripe_payment_intent_id"?: string | null;
          "stripe_payment_link_id"?: string | null;
          "stripe_subscription_id"?: string | null;
          "updated_at"?: string;
        };
        Update: {
          "account_id"?: string | null;
          "amount_total"?: number | null;
          "as_of"?: string;
          "client_reference_id"?: string | null;
          "completed_at"?: string | null;
          "created_at"?: string;
          "currency"?: string | null;
          "livemode"?: boolean;
          "mode"?: string;
          "opened_at"?: string | null;
          "payment_status"?: string;
          "status"?: string;
          "stripe_checkout_session_id"?: string;
          "stripe_customer_id"?: string | null;
          "stripe_invoice_id"?: string | null;
          "stripe_payment_intent_id"?: string | null;
          "stripe_payment_link_id"?: string | null;
          "stripe_subscription_id"?: string | null;
          "updated_at"?: string;
        };
        Relationships: [
          {
            foreignKeyName: "checkout_sessions_account_id_fkey";
            columns: ["account_id"];
            isOneToOne: false;
            referencedRelation: "accounts";
            referencedColumns: ["id"];
          },
          {
            foreignKeyName: "checkout_sessions_account_id_fkey";
            columns: ["account_id"];
            isOneToOne: false;
            referencedRelation: "entitlement_discrepancies";
            referencedColumns: ["account_id"];
          },
          {
            foreignKeyName: "checkout_sessions_stripe_customer_id_fkey";
            columns: ["stripe_customer_id"];
            isOneToOne: false;
            referencedRelation: "customers";
            referencedColumns: ["stripe_customer_id"];
          },
        ];
      };
      "clock": {
        Row: {
          "ahead_by": string;
          "id": boolean;
        };
        ComputedFields: never;
        Insert: {
          "ahead_by"?: string;
          "id"?: boolean;
        };
        Update: {
          "ahead_by"?: string;
          "id"?: boolean;
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
          "held": number;
          "is_low": boolean;
          "low_balance_threshold": number | null;
          "may_spend": boolean;
          "next_due_at": string | null;
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
            "held": number;
            "is_low": boolean;
            "low_balance_threshold": number | null;
            "may_spend": boolean;
            "next_due_at": string | null;
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
            "held": number;
            "is_low": boolean;
            "low_balance_threshold": number | null;
            "may_spend": boolean;
            "next_due_at": string | null;
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
          "held"?: number;
          "is_low"?: boolean;
          "low_balance_threshold"?: number | null;
          "may_spend"?: boolean;
          "next_due_at"?: string | null;
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
          "held"?: number;
          "is_low"?: boolean;
          "low_balance_threshold"?: number | null;
          "may_spend"?: boolean;
          "next_due_at"?: string | null;
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
        Relationships: [
          {
            foreignKeyName: "credit_balances_account_id_fkey";
            columns: ["account_id"];
            isOneToOne: true;
            referencedRelation: "accounts";
            referencedColumns: ["id"];
          },
          {
            foreignKeyName: "credit_balances_account_id_fkey";
            columns: ["account_id"];
            isOneToOne: true;
            referencedRelation: "entitlement_discrepancies";
            referencedColumns: ["account_id"];
          },
        ];
      };
      "credit_consumptions": {
        Row: {
          "amount": number;
          "entry_id": number;
          "grant_id": number;
        };
        ComputedFields: never;
        Insert: {
          "amount": number;
          "entry_id": number;
          "grant_id": number;
        };
        Update: {
          "amount"?: number;
          "entry_id"?: number;
          "grant_id"?: number;
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
        };
        ComputedFields: never;
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
        Relationships: [
          {
            foreignKeyName: "credit_entries_hold_id_fkey";
            columns: ["hold_id"];
            isOneToOne: false;
            referencedRelation: "credit_holds";
            referencedColumns: ["id"];
          },
          {
            foreignKeyName: "credit_entries_reverses_entry_id_fkey";
            columns: ["reverses_entry_id"];
            isOneToOne: false;
            referencedRelation: "credit_entries";
            referencedColumns: ["id"];
          },
        ];
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
      "credit_hold_lots": {
        Row: {
          "amount": number;
          "grant_id": number;
          "hold_id": string;
        };
        ComputedFields: never;
        Insert: {
          "amount": number;
          "grant_id": number;
          "hold_id": string;
        };
        Update: {
          "amount"?: number;
          "grant_id"?: number;
          "hold_id"?: string;
        };
        Relationships: [
          {
            foreignKeyName: "credit_hold_lots_grant_id_fkey";
            columns: ["grant_id"];
            isOneToOne: false;
            referencedRelation: "credit_grants";
            referencedColumns: ["id"];
          },
          {
            foreignKeyName: "credit_hold_lots_hold_id_fkey";
            columns: ["hold_id"];
            isOneToOne: false;
            referencedRelation: "credit_holds";
            referencedColumns: ["id"];
          },
        ];
      };
      "credit_holds": {
        Row: {
          "account_id": string;
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
        Relationships: [
          {
            foreignKeyName: "credit_holds_account_id_fkey";
            columns: ["account_id"];
            isOneToOne: false;
            referencedRelation: "accounts";
            referencedColumns: ["id"];
          },
          {
            foreignKeyName: "credit_holds_account_id_fkey";
            columns: ["account_id"];
            isOneToOne: false;
            referencedRelation: "entitlement_discrepancies";
            referencedColumns: ["account_id"];
          },
          {
            foreignKeyName: "credit_holds_frozen_grant_id_fkey";
            columns: ["frozen_grant_id"];
            isOneToOne: false;
            referencedRelation: "credit_grants";
            referencedColumns: ["id"];
          },
        ];
      };
      "credit_note_lines": {
        Row: {
          "amount": number;
          "number": number;
          "stripe_credit_note_id": string;
          "stripe_line_id": string | null;
        };
        ComputedFields: never;
        Insert: {
          "amount": number;
          "number": number;
          "stripe_credit_note_id": string;
          "stripe_line_id"?: string | null;
        };
        Update: {
          "amount"?: number;
          "number"?: number;
          "stripe_credit_note_id"?: string;
          "stripe_line_id"?: string | null;
        };
        Relationships: [
          {
            foreignKeyName: "credit_note_lines_stripe_credit_note_id_fkey";
            columns: ["stripe_credit_note_id"];
            isOneToOne: false;
            referencedRelation: "credit_notes";
            referencedColumns: ["stripe_credit_note_id"];
          },
        ];
      };
      "credit_notes": {
        Row: {
          "amount": number;
          "amount_refunded": number;
          "as_of": string;
          "created_at": string;
          "currency": string;
          "livemode": boolean;
          "noted_at": string;
          "pre_payment_amount": number;
          "reason": string | null;
          "status": string;
          "stripe_credit_note_id": string;
          "stripe_invoice_id": string;
          "stripe_refund_ids": (string)[];
          "updated_at": string;
        };
        ComputedFields: never;
        Insert: {
          "amount": number;
          "amount_refunded": number;
          "as_of": string;
          "created_at"?: string;
          "currency": string;
          "livemode": boolean;
          "noted_at": string;
          "pre_payment_amount"?: number;
          "reason"?: string | null;
          "status": string;
          "stripe_credit_note_id": string;
          "stripe_invoice_id": string;
          "stripe_refund_ids"?: (string)[];
          "updated_at"?: string;
        };
        Update: {
          "amount"?: number;
          "amount_refunded"?: number;
          "as_of"?: string;
          "created_at"?: string;
          "currency"?: string;
          "livemode"?: boolean;
          "noted_at"?: string;
          "pre_payment_amount"?: number;
          "reason"?: string | null;
          "status"?: string;
          "stripe_credit_note_id"?: string;
          "stripe_invoice_id"?: string;
          "stripe_refund_ids"?: (string)[];
          "updated_at"?: string;
        };
        Relationships: [];
      };
      "credit_packs": {
        Row: {
          "active": boolean;
          "as_of": string;
          "created_at": string;
          "credits_per_unit": number | null;
          "currency": string;
          "expires_after": string | null;
          "livemode": boolean;
          "lookup_key": string | null;
          "metadata": NonNullable<Json>;
          "nickname": string | null;
          "pack_credits": number | null;
          "stripe_price_id": string;
          "stripe_product_id": string;
          "unit_amount": number | null;
          "updated_at": string;
          "_pack_name": string | null;
        };
        ComputedFields: "_pack_name";
        Insert: {
          "active"?: boolean;
          "as_of"?: string;
          "created_at"?: string;
          "credits_per_unit"?: number | null;
          "currency"?: string;
          "expires_after"?: string | null;
          "livemode"?: boolean;
          "lookup_key"?: string | null;
          "metadata"?: NonNullable<Json>;
          "nickname"?: string | null;
          "pack_credits"?: number | null;
          "stripe_price_id": string;
          "stripe_product_id": string;
          "unit_amount"?: number | null;
          "updated_at"?: string;
        };
        Update: {
          "active"?: boolean;
          "as_of"?: string;
          "created_at"?: string;
          "credits_per_unit"?: number | null;
          "currency"?: string;
          "expires_after"?: string | null;
          "livemode"?: boolean;
          "lookup_key"?: string | null;
          "metadata"?: NonNullable<Json>;
          "nickname"?: string | null;
          "pack_credits"?: number | null;
          "stripe_price_id"?: string;
          "stripe_product_id"?: string;
          "unit_amount"?: number | null;
          "updated_at"?: string;
        };
        Relationships: [
          {
            foreignKeyName: "credit_packs_stripe_product_id_fkey";
            columns: ["stripe_product_id"];
            isOneToOne: false;
            referencedRelation: "products";
            referencedColumns: ["stripe_product_id"];
          },
        ];
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
        Relationships: [
          {
            foreignKeyName: "credit_reinstatements_account_id_fkey";
            columns: ["account_id"];
            isOneToOne: false;
            referencedRelation: "accounts";
            referencedColumns: ["id"];
          },
          {
            foreignKeyName: "credit_reinstatements_account_id_fkey";
            columns: ["account_id"];
            isOneToOne: false;
            referencedRelation: "entitlement_discrepancies";
            referencedColumns: ["account_id"];
          },
          {
            foreignKeyName: "credit_reinstatements_entry_id_fkey";
            columns: ["entry_id"];
            isOneToOne: false;
            referencedRelation: "credit_entries";
            referencedColumns: ["id"];
          },
          {
            foreignKeyName: "credit_reinstatements_revocation_id_fkey";
            columns: ["revocation_id"];
            isOneToOne: false;
            referencedRelation: "credit_revocations";
            referencedColumns: ["id"];
          },
        ];
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
        Relationships: [
          {
            foreignKeyName: "credit_revocations_account_id_fkey";
            columns: ["account_id"];
            isOneToOne: false;
            referencedRelation: "accounts";
            referencedColumns: ["id"];
          },
          {
            foreignKeyName: "credit_revocations_account_id_fkey";
            columns: ["account_id"];
            isOneToOne: false;
            referencedRelation: "entitlement_discrepancies";
            referencedColumns: ["account_id"];
          },
          {
            foreignKeyName: "credit_revocations_entry_id_fkey";
            columns: ["entry_id"];
            isOneToOne: false;
            referencedRelation: "credit_entries";
            referencedColumns: ["id"];
          },
          {
            foreignKeyName: "credit_revocations_grant_id_fkey";
            columns: ["grant_id"];
            isOneToOne: false;
            referencedRelation: "credit_grants";
            referencedColumns: ["id"];
          },
        ];
      };
      "credit_schedules": {
        Row: {
          "account_id": string;
          "anchor": string;
          "created_at": string;
          "credited_line_id": string | null;
          "disarmed_reason": string | null;
          "ends_at": string;
          "gives_back": boolean;
          "has_returns": boolean;
          "is_change": boolean;
          "is_free": boolean;
          "is_plain": boolean;
          "is_unpaid": boolean;
          "next_slot_at": string | null;
          "paid_at": string;
          "period_end": string;
          "period_start": string;
          "quantity": number;
          "stripe_invoice_id": string;
          "stripe_line_id": string;
          "stripe_price_id": string;
          "stripe_subscription_id": string;
          "stripe_subscription_item_id": string;
          "terms_from": string;
        };
        ComputedFields: never;
        Insert: {
          "account_id": string;
          "anchor": string;
          "created_at"?: string;
          "credited_line_id"?: string | null;
          "disarmed_reason"?: string | null;
          "ends_at": string;
          "gives_back": boolean;
          "has_returns"?: boolean;
          "is_change": boolean;
          "is_free": boolean;
          "is_plain": boolean;
          "is_unpaid"?: boolean;
          "next_slot_at"?: string | null;
          "paid_at": string;
          "period_end": string;
          "period_start": string;
          "quantity": number;
          "stripe_invoice_id": string;
          "stripe_line_id": string;
          "stripe_price_id": string;
          "stripe_subscription_id": string;
          "stripe_subscription_item_id": string;
          "terms_from": string;
        };
        Update: {
          "account_id"?: string;
          "anchor"?: string;
          "created_at"?: string;
          "credited_line_id"?: string | null;
          "disarmed_reason"?: string | null;
          "ends_at"?: string;
          "gives_back"?: boolean;
          "has_returns"?: boolean;
          "is_change"?: boolean;
          "is_free"?: boolean;
          "is_plain"?: boolean;
          "is_unpaid"?: boolean;
          "next_slot_at"?: string | null;
          "paid_at"?: string;
          "period_end"?: string;
          "period_start"?: string;
          "quantity"?: number;
          "stripe_invoice_id"?: string;
          "stripe_line_id"?: string;
          "stripe_price_id"?: string;
          "stripe_subscription_id"?: string;
          "stripe_subscription_item_id"?: string;
          "terms_from"?: string;
        };
        Relationships: [];
      };
      "credit_terms": {
        Row: {
          "cancel_credits": string;
          "downgrade_credits": string;
          "initial_credits": number;
          "monthly_credits": number;
          "proration_credits": string;
          "rollover": string;
          "rollover_cap": number | null;
          "rollover_periods": number | null;
          "stripe_price_id": string;
          "trial_credits": number;
          "trial_end_credits": string;
          "valid_from": string;
        };
        ComputedFields: never;
        Insert: {
          "cancel_credits": string;
          "downgrade_credits": string;
          "initial_credits": number;
          "monthly_credits": number;
          "proration_credits": string;
          "rollover": string;
          "rollover_cap"?: number | null;
          "rollover_periods"?: number | null;
          "stripe_price_id": string;
          "trial_credits": number;
          "trial_end_credits": string;
          "valid_from": string;
        };
        Update: {
          "cancel_credits"?: string;
          "downgrade_credits"?: string;
          "initial_credits"?: number;
          "monthly_credits"?: number;
          "proration_credits"?: string;
          "rollover"?: string;
          "rollover_cap"?: number | null;
          "rollover_periods"?: number | null;
          "stripe_price_id"?: string;
          "trial_credits"?: number;
          "trial_end_credits"?: string;
          "valid_from"?: string;
        };
        Relationships: [
          {
            foreignKeyName: "credit_terms_stripe_price_id_fkey";
            columns: ["stripe_price_id"];
            isOneToOne: false;
            referencedRelation: "plans";
            referencedColumns: ["stripe_price_id"];
          },
        ];
      };
      "customer_claims": {
        Row: {
          "account_id": string;
          "created_at": string;
          "email": string | null;
          "idempotency_key": string;
          "keyed_at": string;
          "livemode": boolean;
          "may_exist": boolean;
          "name": string | null;
          "stripe_customer_id": string | null;
          "token": string;
          "updated_at": string;
        };
        ComputedFields: never;
        Insert: {
          "account_id": string;
          "created_at"?: string;
          "email"?: string | null;
          "idempotency_key": string;
          "keyed_at"?: string;
          "livemode": boolean;
          "may_exist"?: boolean;
          "name"?: string | null;
          "stripe_customer_id"?: string | null;
          "token"?: string;
          "updated_at"?: string;
        };
        Update: {
          "account_id"?: string;
          "created_at"?: string;
          "email"?: string | null;
          "idempotency_key"?: string;
          "keyed_at"?: string;
          "livemode"?: boolean;
          "may_exist"?: boolean;
          "name"?: string | null;
          "stripe_customer_id"?: string | null;
          "token"?: string;
          "updated_at"?: string;
        };
        Relationships: [
          {
            foreignKeyName: "customer_claims_account_id_fkey";
            columns: ["account_id"];
            isOneToOne: false;
            referencedRelation: "accounts";
            referencedColumns: ["id"];
          },
          {
            foreignKeyName: "customer_claims_account_id_fkey";
            columns: ["account_id"];
            isOneToOne: false;
            referencedRelation: "entitlement_discrepancies";
            referencedColumns: ["account_id"];
          },
        ];
      };
      "customer_email_changes": {
        Row: {
          "attempts": number;
          "created_at": string;
          "last_error": string | null;
          "new_email": string;
          "next_attempt_at": string | null;
          "old_emails": (string)[];
          "settled_at": string | null;
          "stripe_customer_id": string;
          "updated_at": string;
        };
        ComputedFields: never;
        Insert: {
          "attempts"?: number;
          "created_at"?: string;
          "last_error"?: string | null;
          "new_email": string;
          "next_attempt_at"?: string | null;
          "old_emails": (string)[];
          "settled_at"?: string | null;
          "stripe_customer_id": string;
          "updated_at"?: string;
        };
        Update: {
          "attempts"?: number;
          "created_at"?: string;
          "last_error"?: string | null;
          "new_email"?: string;
          "next_attempt_at"?: string | null;
          "old_emails"?: (string)[];
          "settled_at"?: string | null;
          "stripe_customer_id"?: string;
          "updated_at"?: string;
        };
        Relationships: [
          {
            foreignKeyName: "customer_email_changes_stripe_customer_id_fkey";
            columns: ["stripe_customer_id"];
            isOneToOne: true;
            referencedRelation: "customers";
            referencedColumns: ["stripe_customer_id"];
          },
        ];
      };
      "customers": {
        Row: {
          "account_id": string | null;
          "as_of": string;
          "created_at": string;
          "deleted_at": string | null;
          "dismissed_at": string | null;
          "dismissed_by": string | null;
          "dismissed_reason": string | null;
          "duplicate_of": string | null;
          "email": string | null;
          "id": number;
          "linked_at": string | null;
          "livemode": boolean;
          "metadata": NonNullable<Json>;
          "name": string | null;
          "stripe_customer_id": string | null;
          "updated_at": string;
        };
        ComputedFields: never;
        Insert: {
          "account_id"?: string | null;
          "as_of"?: string;
          "created_at"?: string;
          "deleted_at"?: string | null;
          "dismissed_at"?: string | null;
          "dismissed_by"?: string | null;
          "dismissed_reason"?: string | null;
          "duplicate_of"?: string | null;
          "email"?: string | null;
          "id"?: never;
          "linked_at"?: string | null;
          "livemode": boolean;
          "metadata"?: NonNullable<Json>;
          "name"?: string | null;
          "stripe_customer_id"?: string | null;
          "updated_at"?: string;
        };
        Update: {
          "account_id"?: string | null;
          "as_of"?: string;
          "created_at"?: string;
          "deleted_at"?: string | null;
          "dismissed_at"?: string | null;
          "dismissed_by"?: string | null;
          "dismissed_reason"?: string | null;
          "duplicate_of"?: string | null;
          "email"?: string | null;
          "id"?: never;
          "linked_at"?: string | null;
          "livemode"?: boolean;
          "metadata"?: NonNullable<Json>;
          "name"?: string | null;
          "stripe_customer_id"?: string | null;
          "updated_at"?: string;
        };
        Relationships: [
          {
            foreignKeyName: "customers_account_id_fkey";
            columns: ["account_id"];
            isOneToOne: false;
            referencedRelation: "accounts";
            referencedColumns: ["id"];
          },
          {
            foreignKeyName: "customers_account_id_fkey";
            columns: ["account_id"];
            isOneToOne: false;
            referencedRelation: "entitlement_discrepancies";
            referencedColumns: ["account_id"];
          },
          {
            foreignKeyName: "customers_duplicate_of_fkey";
            columns: ["duplicate_of"];
            isOneToOne: false;
            referencedRelation: "customers";
            referencedColumns: ["stripe_customer_id"];
          },
        ];
      };
      "deleted_prices": {
        Row: {
          "created_at": string;
          "deleted_at": string;
          "kind": string;
          "stripe_id": string;
        };
        ComputedFields: never;
        Insert: {
          "created_at"?: string;
          "deleted_at": string;
          "kind": string;
          "stripe_id": string;
        };
        Update: {
          "created_at"?: string;
          "deleted_at"?: string;
          "kind"?: string;
          "stripe_id"?: string;
        };
        Relationships: [];
      };
      "disputes": {
        Row: {
          "amount": number;
          "as_of": string;
          "created_at": string;
          "currency": string;
          "disputed_at": string;
          "evidence_due_at": string | null;
          "livemode": boolean;
          "reason": string | null;
          "status": string;
          "stripe_charge_id": string;
          "stripe_dispute_id": string;
          "stripe_payment_intent_id": string | null;
          "updated_at": string;
        };
        ComputedFields: never;
        Insert: {
          "amount": number;
          "as_of": string;
          "created_at"?: string;
          "currency": string;
          "disputed_at": string;
          "evidence_due_at"?: string | null;
          "livemode": boolean;
          "reason"?: string | null;
          "status": string;
          "stripe_charge_id": string;
          "stripe_dispute_id": string;
          "stripe_payment_intent_id"?: string | null;
          "updated_at"?: string;
        };
        Update: {
          "amount"?: number;
          "as_of"?: string;
          "created_at"?: string;
          "currency"?: string;
          "disputed_at"?: string;
          "evidence_due_at"?: string | null;
          "livemode"?: boolean;
          "reason"?: string | null;
          "status"?: string;
          "stripe_charge_id"?: string;
          "stripe_dispute_id"?: string;
          "stripe_payment_intent_id"?: string | null;
          "updated_at"?: string;
        };
        Relationships: [];
      };
      "event_pruning": {
        Row: {
          "id": boolean;
          "pruned_until": string;
        };
        ComputedFields: never;
        Insert: {
          "id"?: boolean;
          "pruned_until"?: string;
        };
        Update: {
          "id"?: boolean;
          "pruned_until"?: string;
        };
        Relationships: [];
      };
      "found_discrepancies": {
        Row: {
          "account_id": string;
          "business_key": string | null;
          "detail": string;
          "expected": number | null;
          "found": number | null;
          "found_at": string;
          "id": number;
          "invariant": string;
        };
        ComputedFields: never;
        Insert: {
          "account_id": string;
          "business_key"?: string | null;
          "detail": string;
          "expected"?: number | null;
          "found"?: number | null;
          "found_at"?: string;
          "id"?: never;
          "invariant": string;
        };
        Update: {
          "account_id"?: string;
          "business_key"?: string | null;
          "detail"?: string;
          "expected"?: number | null;
          "found"?: number | null;
          "found_at"?: string;
          "id"?: never;
          "invariant"?: string;
        };
        Relationships: [
          {
            foreignKeyName: "found_discrepancies_account_id_fkey";
            columns: ["account_id"];
            isOneToOne: false;
            referencedRelation: "accounts";
            referencedColumns: ["id"];
          },
          {
            foreignKeyName: "found_discrepancies_account_id_fkey";
            columns: ["account_id"];
            isOneToOne: false;
            referencedRelation: "entitlement_discrepancies";
            referencedColumns: ["account_id"];
          },
        ];
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
          "next_attempt_at": string | null;
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
          "next_attempt_at"?: string | null;
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
          "next_attempt_at"?: string | null;
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
        Relationships: [
          {
            foreignKeyName: "fraud_actions_account_id_fkey";
            columns: ["account_id"];
            isOneToOne: false;
            referencedRelation: "accounts";
            referencedColumns: ["id"];
          },
          {
            foreignKeyName: "fraud_actions_account_id_fkey";
            columns: ["account_id"];
            isOneToOne: false;
            referencedRelation: "entitlement_discrepancies";
            referencedColumns: ["account_id"];
          },
          {
            foreignKeyName: "fraud_actions_stripe_early_fraud_warning_id_fkey";
            columns: ["stripe_early_fraud_warning_id"];
            isOneToOne: false;
            referencedRelation: "fraud_warnings";
            referencedColumns: ["stripe_early_fraud_warning_id"];
          },
        ];
      };
      "fraud_policies": {
        Row: {
          "alert": boolean;
          "cancel_subscription": boolean;
          "freeze_account": boolean;
          "refund": boolean;
          "refund_age_max": string;
          "refund_amount_max": number | null;
          "risk_level": string;
          "updated_at": string;
        };
        ComputedFields: never;
        Insert: {
          "alert"?: boolean;
          "cancel_subscription"?: boolean;
          "freeze_account"?: boolean;
          "refund"?: boolean;
          "refund_age_max"?: string;
          "refund_amount_max"?: number | null;
          "risk_level": string;
          "updated_at"?: string;
        };
        Update: {
          "alert"?: boolean;
          "cancel_subscription"?: boolean;
          "freeze_account"?: boolean;
          "refund"?: boolean;
          "refund_age_max"?: string;
          "refund_amount_max"?: number | null;
          "risk_level"?: string;
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
        Relationships: [
          {
            foreignKeyName: "fraud_warnings_account_id_fkey";
            columns: ["account_id"];
            isOneToOne: false;
            referencedRelation: "accounts";
            referencedColumns: ["id"];
          },
          {
            foreignKeyName: "fraud_warnings_account_id_fkey";
            columns: ["account_id"];
            isOneToOne: false;
            referencedRelation: "entitlement_discrepancies";
            referencedColumns: ["account_id"];
          },
          {
            foreignKeyName: "fraud_warnings_stripe_customer_id_fkey";
            columns: ["stripe_customer_id"];
            isOneToOne: false;
            referencedRelation: "customers";
            referencedColumns: ["stripe_customer_id"];
          },
        ];
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
        Relationships: [
          {
            foreignKeyName: "held_credits_account_id_fkey";
            columns: ["account_id"];
            isOneToOne: false;
            referencedRelation: "accounts";
            referencedColumns: ["id"];
          },
          {
            foreignKeyName: "held_credits_account_id_fkey";
            columns: ["account_id"];
            isOneToOne: false;
            referencedRelation: "entitlement_discrepancies";
            referencedColumns: ["account_id"];
          },
          {
            foreignKeyName: "held_credits_matched_account_id_fkey";
            columns: ["matched_account_id"];
            isOneToOne: false;
            referencedRelation: "accounts";
            referencedColumns: ["id"];
          },
          {
            foreignKeyName: "held_credits_matched_account_id_fkey";
            columns: ["matched_account_id"];
            isOneToOne: false;
            referencedRelation: "entitlement_discrepancies";
            referencedColumns: ["account_id"];
          },
          {
            foreignKeyName: "held_credits_revocation_id_fkey";
            columns: ["revocation_id"];
            isOneToOne: false;
            referencedRelation: "credit_revocations";
            referencedColumns: ["id"];
          },
        ];
      };
      "invoice_lines": {
        Row: {
          "amount": number;
          "credited_invoice_id": string | null;
          "credited_line_ids": (string)[] | null;
          "discount": number | null;
          "is_proration": boolean;
          "is_waiting": boolean;
          "period_end": string;
          "period_start": string;
          "quantity": number | null;
          "stripe_invoice_id": string;
          "stripe_line_id": string;
          "stripe_price_id": string | null;
          "stripe_subscription_id": string | null;
          "stripe_subscription_item_id": string | null;
        };
        ComputedFields: never;
        Insert: {
          "amount": number;
          "credited_invoice_id"?: string | null;
          "credited_line_ids"?: (string)[] | null;
          "discount"?: number | null;
          "is_proration": boolean;
          "is_waiting"?: boolean;
          "period_end": string;
          "period_start": string;
          "quantity"?: number | null;
          "stripe_invoice_id": string;
          "stripe_line_id": string;
          "stripe_price_id"?: string | null;
          "stripe_subscription_id"?: string | null;
          "stripe_subscription_item_id"?: string | null;
        };
        Update: {
          "amount"?: number;
          "credited_invoice_id"?: string | null;
          "credited_line_ids"?: (string)[] | null;
          "discount"?: number | null;
          "is_proration"?: boolean;
          "is_waiting"?: boolean;
          "period_end"?: string;
          "period_start"?: string;
          "quantity"?: number | null;
          "stripe_invoice_id"?: string;
          "stripe_line_id"?: string;
          "stripe_price_id"?: string | null;
          "stripe_subscription_id"?: string | null;
          "stripe_subscription_item_id"?: string | null;
        };
        Relationships: [
          {
            foreignKeyName: "invoice_lines_stripe_invoice_id_fkey";
            columns: ["stripe_invoice_id"];
            isOneToOne: false;
            referencedRelation: "invoices";
            referencedColumns: ["stripe_invoice_id"];
          },
        ];
      };
      "invoice_payments": {
        Row: {
          "amount_paid": number | null;
          "created_at": string;
          "status": string;
          "stripe_charge_id": string | null;
          "stripe_invoice_id": string;
          "stripe_invoice_payment_id": string;
          "stripe_payment_intent_id": string | null;
        };
        ComputedFields: never;
        Insert: {
          "amount_paid"?: number | null;
          "created_at"?: string;
          "status": string;
          "stripe_charge_id"?: string | null;
          "stripe_invoice_id": string;
          "stripe_invoice_payment_id": string;
          "stripe_payment_intent_id"?: string | null;
        };
        Update: {
          "amount_paid"?: number | null;
          "created_at"?: string;
          "status"?: string;
          "stripe_charge_id"?: string | null;
          "stripe_invoice_id"?: string;
          "stripe_invoice_payment_id"?: string;
          "stripe_payment_intent_id"?: string | null;
        };
        Relationships: [];
      };
      "invoices": {
        Row: {
          "account_id": string | null;
          "amount_contested": number;
          "amount_due": number;
          "amount_paid": number;
          "amount_returned": number;
          "as_of": string;
          "attempt_count": number;
          "billing_reason": string | null;
          "collection_method": string | null;
          "created_at": string;
          "currency": string;
          "hosted_invoice_url": string | null;
          "invoiced_at": string;
          "livemode": boolean;
          "next_payment_attempt_at": string | null;
          "paid_at": string | null;
          "status": string;
          "stripe_customer_id": string | null;
          "stripe_invoice_id": string;
          "stripe_subscription_id": string | null;
          "subtotal": number;
          "total": number;
          "updated_at": string;
          "_grant_initial_of_invoice": undefined | null;
          "_post_returned_initial": undefined | null;
          "_price_of_invoice": number | null;
          "_purchase_packs_of_invoice": undefined | null;
          "_raise_not_linked": undefined | null;
        };
        ComputedFields:
          | "_grant_initial_of_invoice"
          | "_post_returned_initial"
          | "_price_of_invoice"
          | "_purchase_packs_of_invoice"
          | "_raise_not_linked";
        Insert: {
          "account_id"?: string | null;
          "amount_contested"?: number;
          "amount_due": number;
          "amount_paid": number;
          "amount_returned"?: number;
          "as_of": string;
          "attempt_count"?: number;
          "billing_reason"?: string | null;
          "collection_method"?: string | null;
          "created_at"?: string;
          "currency": string;
          "hosted_invoice_url"?: string | null;
          "invoiced_at": string;
          "livemode": boolean;
          "next_payment_attempt_at"?: string | null;
          "paid_at"?: string | null;
          "status": string;
          "stripe_customer_id"?: string | null;
          "stripe_invoice_id": string;
          "stripe_subscription_id"?: string | null;
          "subtotal": number;
          "total": number;
          "updated_at"?: string;
        };
        Update: {
          "account_id"?: string | null;
          "amount_contested"?: number;
          "amount_due"?: number;
          "amount_paid"?: number;
          "amount_returned"?: number;
          "as_of"?: string;
          "attempt_count"?: number;
          "billing_reason"?: string | null;
          "collection_method"?: string | null;
          "created_at"?: string;
          "currency"?: string;
          "hosted_invoice_url"?: string | null;
          "invoiced_at"?: string;
          "livemode"?: boolean;
          "next_payment_attempt_at"?: string | null;
          "paid_at"?: string | null;
          "status"?: string;
          "stripe_customer_id"?: string | null;
          "stripe_invoice_id"?: string;
          "stripe_subscription_id"?: string | null;
          "subtotal"?: number;
          "total"?: number;
          "updated_at"?: string;
        };
        Relationships: [
          {
            foreignKeyName: "invoices_account_id_fkey";
            columns: ["account_id"];
            isOneToOne: false;
            referencedRelation: "accounts";
            referencedColumns: ["id"];
          },
          {
            foreignKeyName: "invoices_account_id_fkey";
            columns: ["account_id"];
            isOneToOne: false;
            referencedRelation: "entitlement_discrepancies";
            referencedColumns: ["account_id"];
          },
          {
            foreignKeyName: "invoices_stripe_customer_id_fkey";
            columns: ["stripe_customer_id"];
            isOneToOne: false;
            referencedRelation: "customers";
            referencedColumns: ["stripe_customer_id"];
          },
        ];
      };
      "notifications": {
        Row: {
          "account_id": string | null;
          "attempts": number;
          "audience": string;
          "created_at": string;
          "dedupe_key": string;
          "delivered_at": string | null;
          "delivered_to": (string)[];
          "digest_id": number | null;
          "digest_size": number | null;
          "first_attempt_at": string | null;
          "id": number;
          "kind": string;
          "last_error": string | null;
          "next_attempt_at": string | null;
          "payload": NonNullable<Json>;
          "reader": string;
          "status": string;
          "_digest_notifications": undefined | null;
        };
        ComputedFields: "_digest_notifications";
        Insert: {
          "account_id"?: string | null;
          "attempts"?: number;
          "audience": string;
          "created_at"?: string;
          "dedupe_key": string;
          "delivered_at"?: string | null;
          "delivered_to"?: (string)[];
          "digest_id"?: number | null;
          "digest_size"?: number | null;
          "first_attempt_at"?: string | null;
          "id"?: never;
          "kind": string;
          "last_error"?: string | null;
          "next_attempt_at"?: string | null;
          "payload"?: NonNullable<Json>;
          "reader"?: never;
          "status"?: string;
        };
        Update: {
          "account_id"?: string | null;
          "attempts"?: number;
          "audience"?: string;
          "created_at"?: string;
          "dedupe_key"?: string;
          "delivered_at"?: string | null;
          "delivered_to"?: (string)[];
          "digest_id"?: number | null;
          "digest_size"?: number | null;
          "first_attempt_at"?: string | null;
          "id"?: never;
          "kind"?: string;
          "last_error"?: string | null;
          "next_attempt_at"?: string | null;
          "payload"?: NonNullable<Json>;
          "reader"?: never;
          "status"?: string;
        };
        Relationships: [
          {
            foreignKeyName: "notifications_account_id_fkey";
            columns: ["account_id"];
            isOneToOne: false;
            referencedRelation: "accounts";
            referencedColumns: ["id"];
          },
          {
            foreignKeyName: "notifications_account_id_fkey";
            columns: ["account_id"];
            isOneToOne: false;
            referencedRelation: "entitlement_discrepancies";
            referencedColumns: ["account_id"];
          },
          {
            foreignKeyName: "notifications_digest_id_fkey";
            columns: ["digest_id"];
            isOneToOne: false;
            referencedRelation: "notifications";
            referencedColumns: ["id"];
          },
        ];
      };
      "one_time_prices": {
        Row: {
          "active": boolean;
          "as_of": string;
          "currency": string;
          "has_custom_amount": boolean;
          "livemode": boolean;
          "lookup_key": string | null;
          "metadata": NonNullable<Json>;
          "nickname": string | null;
          "stripe_price_id": string;
          "stripe_product_id": string;
          "unit_amount": number | null;
          "_declared_pack":
            | Database["billing"]["CompositeTypes"]["declared_pack"]
            | null;
          "_sync_one_time_price": string | null;
        };
        ComputedFields: "_declared_pack" | "_sync_one_time_price";
        Insert: {
          "active": boolean;
          "as_of": string;
          "currency": string;
          "has_custom_amount"?: boolean;
          "livemode": boolean;
          "lookup_key"?: string | null;
          "metadata": NonNullable<Json>;
          "nickname"?: string | null;
          "stripe_price_id": string;
          "stripe_product_id": string;
          "unit_amount"?: number | null;
        };
        Update: {
          "active"?: boolean;
          "as_of"?: string;
          "currency"?: string;
          "has_custom_amount"?: boolean;
          "livemode"?: boolean;
          "lookup_key"?: string | null;
          "metadata"?: NonNullable<Json>;
          "nickname"?: string | null;
          "stripe_price_id"?: string;
          "stripe_product_id"?: string;
          "unit_amount"?: number | null;
        };
        Relationships: [
          {
            foreignKeyName: "one_time_prices_stripe_product_id_fkey";
            columns: ["stripe_product_id"];
            isOneToOne: false;
            referencedRelation: "products";
            referencedColumns: ["stripe_product_id"];
          },
        ];
      };
      "pack_purchases": {
        Row: {
          "account_id": string;
          "business_key": string;
          "created_at": string;
          "credits": number;
          "description": string | null;
          "expires_at": string | null;
          "price": number;
          "purchased_at": string;
          "reference_id": string;
          "source": string;
          "stripe_checkout_session_id": string | null;
          "stripe_invoice_id": string | null;
          "stripe_line_id": string | null;
          "stripe_payment_intent_id": string | null;
          "stripe_price_id": string | null;
          "_lots_of_purchase": (number)[] | null;
          "_purchase": undefined | null;
        };
        ComputedFields: "_lots_of_purchase" | "_purchase";
        Insert: {
          "account_id": string;
          "business_key": string;
          "created_at"?: string;
          "credits": number;
          "description"?: string | null;
          "expires_at"?: string | null;
          "price": number;
          "purchased_at": string;
          "reference_id": string;
          "source": string;
          "stripe_checkout_session_id"?: string | null;
          "stripe_invoice_id"?: string | null;
          "stripe_line_id"?: string | null;
          "stripe_payment_intent_id"?: string | null;
          "stripe_price_id"?: string | null;
        };
        Update: {
          "account_id"?: string;
          "business_key"?: string;
          "created_at"?: string;
          "credits"?: number;
          "description"?: string | null;
          "expires_at"?: string | null;
          "price"?: number;
          "purchased_at"?: string;
          "reference_id"?: string;
          "source"?: string;
          "stripe_checkout_session_id"?: string | null;
          "stripe_invoice_id"?: string | null;
          "stripe_line_id"?: string | null;
          "stripe_payment_intent_id"?: string | null;
          "stripe_price_id"?: string | null;
        };
        Relationships: [
          {
            foreignKeyName: "pack_purchases_account_id_fkey";
            columns: ["account_id"];
            isOneToOne: false;
            referencedRelation: "accounts";
            referencedColumns: ["id"];
          },
          {
            foreignKeyName: "pack_purchases_account_id_fkey";
            columns: ["account_id"];
            isOneToOne: false;
            referencedRelation: "entitlement_discrepancies";
            referencedColumns: ["account_id"];
          },
        ];
      };
      "payment_intents": {
        Row: {
          "amount_received": number;
          "created_at": string;
          "stripe_payment_intent_id": string;
        };
        ComputedFields: never;
        Insert: {
          "amount_received": number;
          "created_at"?: string;
          "stripe_payment_intent_id": string;
        };
        Update: {
          "amount_received"?: number;
          "created_at"?: string;
          "stripe_payment_intent_id"?: string;
        };
        Relationships: [];
      };
      "payment_links": {
        Row: {
          "active": boolean;
          "attempts": number;
          "confirmed_at": string | null;
          "created_at": string;
          "deactivate_at": string | null;
          "deactivated_at": string | null;
          "id": string;
          "idempotency_key": string;
          "keyed_at": string;
          "last_error": string | null;
          "livemode": boolean;
          "may_exist": boolean;
          "options": NonNullable<Json>;
          "params": NonNullable<Json>;
          "params_hash": string;
          "retired_at": string | null;
          "retired_reason": string | null;
          "stripe_payment_link_id": string | null;
          "stripe_price_id": string;
          "updated_at": string;
          "url": string | null;
        };
        ComputedFields: never;
        Insert: {
          "active"?: boolean;
          "attempts"?: number;
          "confirmed_at"?: string | null;
          "created_at"?: string;
          "deactivate_at"?: string | null;
          "deactivated_at"?: string | null;
          "id"?: string;
          "idempotency_key": string;
          "keyed_at"?: string;
          "last_error"?: string | null;
          "livemode": boolean;
          "may_exist"?: boolean;
          "options": NonNullable<Json>;
          "params": NonNullable<Json>;
          "params_hash": string;
          "retired_at"?: string | null;
          "retired_reason"?: string | null;
          "stripe_payment_link_id"?: string | null;
          "stripe_price_id": string;
          "updated_at"?: string;
          "url"?: string | null;
        };
        Update: {
          "active"?: boolean;
          "attempts"?: number;
          "confirmed_at"?: string | null;
          "created_at"?: string;
          "deactivate_at"?: string | null;
          "deactivated_at"?: string | null;
          "id"?: string;
          "idempotency_key"?: string;
          "keyed_at"?: string;
          "last_error"?: string | null;
          "livemode"?: boolean;
          "may_exist"?: boolean;
          "options"?: NonNullable<Json>;
          "params"?: NonNullable<Json>;
          "params_hash"?: string;
          "retired_at"?: string | null;
          "retired_reason"?: string | null;
          "stripe_payment_link_id"?: string | null;
          "stripe_price_id"?: string;
          "updated_at"?: string;
          "url"?: string | null;
        };
        Relationships: [];
      };
      "payment_reference_keys": {
        Row: {
          "created_at": string;
          "id": number;
          "secret": string;
        };
        ComputedFields: never;
        Insert: {
          "created_at"?: string;
          "id"?: never;
          "secret"?: string;
        };
        Update: {
          "created_at"?: string;
          "id"?: never;
          "secret"?: string;
        };
        Relationships: [];
      };
      "payments": {
        Row: {
          "account_id": string | null;
          "amount": number;
          "amount_refunded": number;
          "as_of": string;
          "card_fingerprint": string | null;
          "charged_at": string;
          "created_at": string;
          "currency": string;
          "failure_code": string | null;
          "is_disputed": boolean;
          "is_liability_shifted": boolean;
          "livemode": boolean;
          "receipt_url": string | null;
          "risk_level": string | null;
          "risk_score": number | null;
          "status": string;
          "stripe_charge_id": string;
          "stripe_customer_id": string | null;
          "stripe_payment_intent_id": string | null;
          "updated_at": string;
        };
        ComputedFields: never;
        Insert: {
          "account_id"?: string | null;
          "amount": number;
          "amount_refunded"?: number;
          "as_of": string;
          "card_fingerprint"?: string | null;
          "charged_at": string;
          "created_at"?: string;
          "currency": string;
          "failure_code"?: string | null;
          "is_disputed"?: boolean;
          "is_liability_shifted"?: boolean;
          "livemode": boolean;
          "receipt_url"?: string | null;
          "risk_level"?: string | null;
          "risk_score"?: number | null;
          "status": string;
          "stripe_charge_id": string;
          "stripe_customer_id"?: string | null;
          "stripe_payment_intent_id"?: string | null;
          "updated_at"?: string;
        };
        Update: {
          "account_id"?: string | null;
          "amount"?: number;
          "amount_refunded"?: number;
          "as_of"?: string;
          "card_fingerprint"?: string | null;
          "charged_at"?: string;
          "created_at"?: string;
          "currency"?: string;
          "failure_code"?: string | null;
          "is_disputed"?: boolean;
          "is_liability_shifted"?: boolean;
          "livemode"?: boolean;
          "receipt_url"?: string | null;
          "risk_level"?: string | null;
          "risk_score"?: number | null;
          "status"?: string;
          "stripe_charge_id"?: string;
          "stripe_customer_id"?: string | null;
          "stripe_payment_intent_id"?: string | null;
          "updated_at"?: string;
        };
        Relationships: [
          {
            foreignKeyName: "payments_account_id_fkey";
            columns: ["account_id"];
            isOneToOne: false;
            referencedRelation: "accounts";
            referencedColumns: ["id"];
          },
          {
            foreignKeyName: "payments_account_id_fkey";
            columns: ["account_id"];
            isOneToOne: false;
            referencedRelation: "entitlement_discrepancies";
            referencedColumns: ["account_id"];
          },
          {
            foreignKeyName: "payments_stripe_customer_id_fkey";
            columns: ["stripe_customer_id"];
            isOneToOne: false;
            referencedRelation: "customers";
            referencedColumns: ["stripe_customer_id"];
          },
        ];
      };
      "plans": {
        Row: {
          "active": boolean;
          "as_of": string;
          "cancel_credits": string;
          "created_at": string;
          "currency": string;
          "downgrade_credits": string;
          "features": NonNullable<Json>;
          "initial_credits": number;
          "livemode": boolean;
          "lookup_key": string | null;
          "metadata": NonNullable<Json>;
          "monthly_credits": number;
          "nickname": string | null;
          "proration_credits": string;
          "recurring_interval": string;
          "recurring_interval_count": number;
          "rollover": string;
          "rollover_cap": number | null;
          "rollover_periods": number | null;
          "seats_max": number | null;
          "seats_min": number;
          "stripe_price_id": string;
          "stripe_product_id": string;
          "trial_credits": number;
          "trial_days": number;
          "trial_end_credits": string;
          "unit_amount": number | null;
          "updated_at": string;
          "usage_type": string;
          "_months": number | null;
          "_plan_name": string | null;
        };
        ComputedFields: "_months" | "_plan_name";
        Insert: {
          "active"?: boolean;
          "as_of"?: string;
          "cancel_credits"?: string;
          "created_at"?: string;
          "currency"?: string;
          "downgrade_credits"?: string;
          "features"?: NonNullable<Json>;
          "initial_credits"?: number;
          "livemode"?: boolean;
          "lookup_key"?: string | null;
          "metadata"?: NonNullable<Json>;
          "monthly_credits"?: number;
          "nickname"?: string | null;
          "proration_credits"?: string;
          "recurring_interval"?: string;
          "recurring_interval_count"?: number;
          "rollover"?: string;
          "rollover_cap"?: number | null;
          "rollover_periods"?: number | null;
          "seats_max"?: number | null;
          "seats_min"?: number;
          "stripe_price_id": string;
          "stripe_product_id": string;
          "trial_credits"?: number;
          "trial_days"?: number;
          "trial_end_credits"?: string;
          "unit_amount"?: number | null;
          "updated_at"?: string;
          "usage_type"?: string;
        };
        Update: {
          "active"?: boolean;
          "as_of"?: string;
          "cancel_credits"?: string;
          "created_at"?: string;
          "currency"?: string;
          "downgrade_credits"?: string;
          "features"?: NonNullable<Json>;
          "initial_credits"?: number;
          "livemode"?: boolean;
          "lookup_key"?: string | null;
          "metadata"?: NonNullable<Json>;
          "monthly_credits"?: number;
          "nickname"?: string | null;
          "proration_credits"?: string;
          "recurring_interval"?: string;
          "recurring_interval_count"?: number;
          "rollover"?: string;
          "rollover_cap"?: number | null;
          "rollover_periods"?: number | null;
          "seats_max"?: number | null;
          "seats_min"?: number;
          "stripe_price_id"?: string;
          "stripe_product_id"?: string;
          "trial_credits"?: number;
          "trial_days"?: number;
          "trial_end_credits"?: string;
          "unit_amount"?: number | null;
          "updated_at"?: string;
          "usage_type"?: string;
        };
        Relationships: [
          {
            foreignKeyName: "plans_stripe_product_id_fkey";
            columns: ["stripe_product_id"];
            isOneToOne: false;
            referencedRelation: "products";
            referencedColumns: ["stripe_product_id"];
          },
        ];
      };
      "products": {
        Row: {
          "active": boolean;
          "as_of": string;
          "created_at": string;
          "description": string | null;
          "livemode": boolean;
          "metadata": NonNullable<Json>;
          "name": string;
          "stripe_product_id": string;
          "updated_at": string;
        };
        ComputedFields: never;
        Insert: {
          "active"?: boolean;
          "as_of"?: string;
          "created_at"?: string;
          "description"?: string | null;
          "livemode": boolean;
          "metadata"?: NonNullable<Json>;
          "name": string;
          "stripe_product_id": string;
          "updated_at"?: string;
        };
        Update: {
          "active"?: boolean;
          "as_of"?: string;
          "created_at"?: string;
          "description"?: string | null;
          "livemode"?: boolean;
          "metadata"?: NonNullable<Json>;
          "name"?: string;
          "stripe_product_id"?: string;
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
        Relationships: [
          {
            foreignKeyName: "recharge_settings_account_id_fkey";
            columns: ["account_id"];
            isOneToOne: true;
            referencedRelation: "accounts";
            referencedColumns: ["id"];
          },
          {
            foreignKeyName: "recharge_settings_account_id_fkey";
            columns: ["account_id"];
            isOneToOne: true;
            referencedRelation: "entitlement_discrepancies";
            referencedColumns: ["account_id"];
          },
          {
            foreignKeyName: "recharge_settings_stripe_price_id_fkey";
            columns: ["stripe_price_id"];
            isOneToOne: false;
            referencedRelation: "credit_packs";
            referencedColumns: ["stripe_price_id"];
          },
        ];
      };
      "recharges": {
        Row: {
          "account_id": string;
          "action_url": string | null;
          "amount": number;
          "attempts": number;
          "claimed_at": string;
          "created_at": string;
          "credits": number;
          "currency": string;
          "first_attempt_at": string | null;
          "id": string;
          "idempotency_key": string;
          "is_final": boolean;
          "last_error": string | null;
          "next_attempt_at": string | null;
          "reason": string | null;
          "return_url": string | null;
          "settled_at": string | null;
          "status": string;
          "stripe_customer_id": string;
          "stripe_payment_intent_id": string | null;
          "stripe_payment_method_id": string | null;
          "stripe_price_id": string;
          "updated_at": string;
        };
        ComputedFields: never;
        Insert: {
          "account_id": string;
          "action_url"?: string | null;
          "amount": number;
          "attempts"?: number;
          "claimed_at": string;
          "created_at"?: string;
          "credits": number;
          "currency": string;
          "first_attempt_at"?: string | null;
          "id"?: string;
          "idempotency_key"?: never;
          "is_final"?: boolean;
          "last_error"?: string | null;
          "next_attempt_at"?: string | null;
          "reason"?: string | null;
          "return_url"?: string | null;
          "settled_at"?: string | null;
          "status"?: string;
          "stripe_customer_id": string;
          "stripe_payment_intent_id"?: string | null;
          "stripe_payment_method_id"?: string | null;
          "stripe_price_id": string;
          "updated_at"?: string;
        };
        Update: {
          "account_id"?: string;
          "action_url"?: string | null;
          "amount"?: number;
          "attempts"?: number;
          "claimed_at"?: string;
          "created_at"?: string;
          "credits"?: number;
          "currency"?: string;
          "first_attempt_at"?: string | null;
          "id"?: string;
          "idempotency_key"?: never;
          "is_final"?: boolean;
          "last_error"?: string | null;
          "next_attempt_at"?: string | null;
          "reason"?: string | null;
          "return_url"?: string | null;
          "settled_at"?: string | null;
          "status"?: string;
          "stripe_customer_id"?: string;
          "stripe_payment_intent_id"?: string | null;
          "stripe_payment_method_id"?: string | null;
          "stripe_price_id"?: string;
          "updated_at"?: string;
        };
        Relationships: [
          {
            foreignKeyName: "recharges_account_id_fkey";
            columns: ["account_id"];
            isOneToOne: false;
            referencedRelation: "accounts";
            referencedColumns: ["id"];
          },
          {
            foreignKeyName: "recharges_account_id_fkey";
            columns: ["account_id"];
            isOneToOne: false;
            referencedRelation: "entitlement_discrepancies";
            referencedColumns: ["account_id"];
          },
        ];
      };
      "refunds": {
        Row: {
          "amount": number;
          "as_of": string;
          "created_at": string;
          "currency": string;
          "failure_reason": string | null;
          "reason": string | null;
          "refunded_at": string;
          "status": string;
          "stripe_charge_id": string | null;
          "stripe_payment_intent_id": string | null;
          "stripe_refund_id": string;
          "updated_at": string;
        };
        ComputedFields: never;
        Insert: {
          "amount": number;
          "as_of": string;
          "created_at"?: string;
          "currency": string;
          "failure_reason"?: string | null;
          "reason"?: string | null;
          "refunded_at": string;
          "status": string;
          "stripe_charge_id"?: string | null;
          "stripe_payment_intent_id"?: string | null;
          "stripe_refund_id": string;
          "updated_at"?: string;
        };
        Update: {
          "amount"?: number;
          "as_of"?: string;
          "created_at"?: string;
          "currency"?: string;
          "failure_reason"?: string | null;
          "reason"?: string | null;
          "refunded_at"?: string;
          "status"?: string;
          "stripe_charge_id"?: string | null;
          "stripe_payment_intent_id"?: string | null;
          "stripe_refund_id"?: string;
          "updated_at"?: string;
        };
        Relationships: [];
      };
      "reviews": {
        Row: {
          "account_id": string | null;
          "as_of": string;
          "closed_reason": string | null;
          "created_at": string;
          "is_open": boolean;
          "livemode": boolean;
          "opened_at": string;
          "reason": string;
          "stripe_charge_id": string | null;
          "stripe_payment_intent_id": string | null;
          "stripe_review_id": string;
          "updated_at": string;
        };
        ComputedFields: never;
        Insert: {
          "account_id"?: string | null;
          "as_of": string;
          "closed_reason"?: string | null;
          "created_at"?: string;
          "is_open": boolean;
          "livemode": boolean;
          "opened_at": string;
          "reason": string;
          "stripe_charge_id"?: string | null;
          "stripe_payment_intent_id"?: string | null;
          "stripe_review_id": string;
          "updated_at"?: string;
        };
        Update: {
          "account_id"?: string | null;
          "as_of"?: string;
          "closed_reason"?: string | null;
          "created_at"?: string;
          "is_open"?: boolean;
          "livemode"?: boolean;
          "opened_at"?: string;
          "reason"?: string;
          "stripe_charge_id"?: string | null;
          "stripe_payment_intent_id"?: string | null;
          "stripe_review_id"?: string;
          "updated_at"?: string;
        };
        Relationships: [
          {
            foreignKeyName: "reviews_account_id_fkey";
            columns: ["account_id"];
            isOneToOne: false;
            referencedRelation: "accounts";
            referencedColumns: ["id"];
          },
          {
            foreignKeyName: "reviews_account_id_fkey";
            columns: ["account_id"];
            isOneToOne: false;
            referencedRelation: "entitlement_discrepancies";
            referencedColumns: ["account_id"];
          },
        ];
      };
      "saved_cards": {
        Row: {
          "as_of": string;
          "brand": string | null;
          "created_at": string;
          "expires_on": string | null;
          "last4": string | null;
          "livemode": boolean;
          "stripe_customer_id": string | null;
          "stripe_payment_method_id": string;
          "updated_at": string;
        };
        ComputedFields: never;
        Insert: {
          "as_of": string;
          "brand"?: string | null;
          "created_at"?: string;
          "expires_on"?: string | null;
          "last4"?: string | null;
          "livemode": boolean;
          "stripe_customer_id"?: string | null;
          "stripe_payment_method_id": string;
          "updated_at"?: string;
        };
        Update: {
          "as_of"?: string;
          "brand"?: string | null;
          "created_at"?: string;
          "expires_on"?: string | null;
          "last4"?: string | null;
          "livemode"?: boolean;
          "stripe_customer_id"?: string | null;
          "stripe_payment_method_id"?: string;
          "updated_at"?: string;
        };
        Relationships: [];
      };
      "settings": {
        Row: {
          "allow_promotion_codes": boolean;
          "allowed_redirect_origins": (string)[];
          "automatic_tax": boolean;
          "billing_address_collection": string;
          "checkout_branding": Json | null;
          "collect_tax_ids": boolean;
          "customer_notifications": (string)[];
          "expiring_credits_notice": string;
          "fraud_dry_run": boolean;
          "id": boolean;
          "initial_credits_per": string;
          "keep_events_days": number;
          "livemode": boolean;
          "max_checkout_quantity": number;
          "notification_deadline": string;
          "notification_rate": number;
          "notification_retention": string;
          "notification_window": string;
          "on_user_deleted": string;
          "one_subscription_per": string;
          "one_trial_per": string;
          "past_due_keeps_features": boolean;
          "payment_link_options": NonNullable<Json>;
          "payment_reference_lifetime": string;
          "refund_policy": string | null;
          "seen_card_policy": string | null;
          "shortfall_policy": string;
          "silence_after": string | null;
          "site_url": string | null;
          "stripe_account_id": string | null;
          "trial_without_card": string | null;
          "updated_at": string;
        };
        ComputedFields: never;
        Insert: {
          "allow_promotion_codes"?: boolean;
          "allowed_redirect_origins"?: (string)[];
          "automatic_tax"?: boolean;
          "billing_address_collection"?: string;
          "checkout_branding"?: Json | null;
          "collect_tax_ids"?: boolean;
          "customer_notifications"?: (string)[];
          "expiring_credits_notice"?: string;
          "fraud_dry_run"?: boolean;
          "id"?: boolean;
          "initial_credits_per"?: string;
          "keep_events_days"?: number;
          "livemode"?: boolean;
          "max_checkout_quantity"?: number;
          "notification_deadline"?: string;
          "notification_rate"?: number;
          "notification_retention"?: string;
          "notification_window"?: string;
          "on_user_deleted"?: string;
          "one_subscription_per"?: string;
          "one_trial_per"?: string;
          "past_due_keeps_features"?: boolean;
          "payment_link_options"?: NonNullable<Json>;
          "payment_reference_lifetime"?: string;
          "refund_policy"?: string | null;
          "seen_card_policy"?: string | null;
          "shortfall_policy"?: string;
          "silence_after"?: string | null;
          "site_url"?: string | null;
          "stripe_account_id"?: string | null;
          "trial_without_card"?: string | null;
          "updated_at"?: string;
        };
        Update: {
          "allow_promotion_codes"?: boolean;
          "allowed_redirect_origins"?: (string)[];
          "automatic_tax"?: boolean;
          "billing_address_collection"?: string;
          "checkout_branding"?: Json | null;
          "collect_tax_ids"?: boolean;
          "customer_notifications"?: (string)[];
          "expiring_credits_notice"?: string;
          "fraud_dry_run"?: boolean;
          "id"?: boolean;
          "initial_credits_per"?: string;
          "keep_events_days"?: number;
          "livemode"?: boolean;
          "max_checkout_quantity"?: number;
          "notification_deadline"?: string;
          "notification_rate"?: number;
          "notification_retention"?: string;
          "notification_window"?: string;
          "on_user_deleted"?: string;
          "one_subscription_per"?: string;
          "one_trial_per"?: string;
          "past_due_keeps_features"?: boolean;
          "payment_link_options"?: NonNullable<Json>;
          "payment_reference_lifetime"?: string;
          "refund_policy"?: string | null;
          "seen_card_policy"?: string | null;
          "shortfall_policy"?: string;
          "silence_after"?: string | null;
          "site_url"?: string | null;
          "stripe_account_id"?: string | null;
          "trial_without_card"?: string | null;
          "updated_at"?: string;
        };
        Relationships: [];
      };
      "stripe_events": {
        Row: {
          "api_version": string | null;
          "attempts": number;
          "created_at": string;
          "excused_attempts": number;
          "last_error": string | null;
          "livemode": boolean;
          "notified_at": string | null;
          "payload": string;
          "received_at": string;
          "settled_at": string | null;
          "status": string;
          "stripe_event_id": string;
          "type": string;
          "waiting_for": string | null;
          "_notify_of_event": undefined | null;
        };
        ComputedFields: "_notify_of_event";
        Insert: {
          "api_version"?: string | null;
          "attempts"?: number;
          "created_at": string;
          "excused_attempts"?: number;
          "last_error"?: string | null;
          "livemode": boolean;
          "notified_at"?: string | null;
          "payload": string;
          "received_at"?: string;
          "settled_at"?: string | null;
          "status"?: string;
          "stripe_event_id": string;
          "type": string;
          "waiting_for"?: string | null;
        };
        Update: {
          "api_version"?: string | null;
          "attempts"?: number;
          "created_at"?: string;
          "excused_attempts"?: number;
          "last_error"?: string | null;
          "livemode"?: boolean;
          "notified_at"?: string | null;
          "payload"?: string;
          "received_at"?: string;
          "settled_at"?: string | null;
          "status"?: string;
          "stripe_event_id"?: string;
          "type"?: string;
          "waiting_for"?: string | null;
        };
        Relationships: [];
      };
      "stripe_lookups": {
        Row: {
          "attempts": number;
          "excused_attempts": number;
          "msg_id": number;
          "next_attempt_at": string;
          "stripe_event_id": string;
          "tie_kind": string | null;
          "tie_stripe_id": string | null;
          "worker_pid": number | null;
        };
        ComputedFields: never;
        Insert: {
          "attempts"?: number;
          "excused_attempts"?: number;
          "msg_id": number;
          "next_attempt_at"?: string;
          "stripe_event_id": string;
          "tie_kind"?: string | null;
          "tie_stripe_id"?: string | null;
          "worker_pid"?: number | null;
        };
        Update: {
          "attempts"?: number;
          "excused_attempts"?: number;
          "msg_id"?: number;
          "next_attempt_at"?: string;
          "stripe_event_id"?: string;
          "tie_kind"?: string | null;
          "tie_stripe_id"?: string | null;
          "worker_pid"?: number | null;
        };
        Relationships: [];
      };
      "stripe_requests": {
        Row: {
          "account_id": string;
          "idempotency_key": string;
          "requested_at": string;
        };
        ComputedFields: never;
        Insert: {
          "account_id": string;
          "idempotency_key": string;
          "requested_at"?: string;
        };
        Update: {
          "account_id"?: string;
          "idempotency_key"?: string;
          "requested_at"?: string;
        };
        Relationships: [
          {
            foreignKeyName: "stripe_requests_account_id_fkey";
            columns: ["account_id"];
            isOneToOne: false;
            referencedRelation: "accounts";
            referencedColumns: ["id"];
          },
          {
            foreignKeyName: "stripe_requests_account_id_fkey";
            columns: ["account_id"];
            isOneToOne: false;
            referencedRelation: "entitlement_discrepancies";
            referencedColumns: ["account_id"];
          },
        ];
      };
      "subscription_items": {
        Row: {
          "created_at": string;
          "current_period_end": string;
          "current_period_start": string;
          "quantity": number | null;
          "stripe_price_id": string;
          "stripe_product_id": string | null;
          "stripe_subscription_id": string;
          "stripe_subscription_item_id": string;
          "updated_at": string;
        };
        ComputedFields: never;
        Insert: {
          "created_at"?: string;
          "current_period_end": string;
          "current_period_start": string;
          "quantity"?: number | null;
          "stripe_price_id": string;
          "stripe_product_id"?: string | null;
          "stripe_subscription_id": string;
          "stripe_subscription_item_id": string;
          "updated_at"?: string;
        };
        Update: {
          "created_at"?: string;
          "current_period_end"?: string;
          "current_period_start"?: string;
          "quantity"?: number | null;
          "stripe_price_id"?: string;
          "stripe_product_id"?: string | null;
          "stripe_subscription_id"?: string;
          "stripe_subscription_item_id"?: string;
          "updated_at"?: string;
        };
        Relationships: [
          {
            foreignKeyName: "subscription_items_stripe_subscription_id_fkey";
            columns: ["stripe_subscription_id"];
            isOneToOne: false;
            referencedRelation: "subscriptions";
            referencedColumns: ["stripe_subscription_id"];
          },
        ];
      };
      "subscriptions": {
        Row: {
          "account_id": string | null;
          "anchors": (string)[];
          "as_of": string;
          "billing_cycle_anchor": string;
          "cancel_at": string | null;
          "cancel_at_period_end": boolean;
          "canceled_at": string | null;
          "created_at": string;
          "currency": string | null;
          "ended_at": string | null;
          "is_collection_paused": boolean;
          "livemode": boolean;
          "metadata": NonNullable<Json>;
          "started_at": string;
          "status": string;
          "stripe_customer_id": string;
          "stripe_subscription_id": string;
          "stripe_test_clock_id": string | null;
          "trial_end": string | null;
          "trial_start": string | null;
          "updated_at": string;
          "_grant_trial": undefined | null;
        };
        ComputedFields: "_grant_trial";
        Insert: {
          "account_id"?: string | null;
          "anchors"?: (string)[];
          "as_of": string;
          "billing_cycle_anchor": string;
          "cancel_at"?: string | null;
          "cancel_at_period_end"?: boolean;
          "canceled_at"?: string | null;
          "created_at"?: string;
          "currency"?: string | null;
          "ended_at"?: string | null;
          "is_collection_paused"?: boolean;
          "livemode": boolean;
          "metadata"?: NonNullable<Json>;
          "started_at": string;
          "status": string;
          "stripe_customer_id": string;
          "stripe_subscription_id": string;
          "stripe_test_clock_id"?: string | null;
          "trial_end"?: string | null;
          "trial_start"?: string | null;
          "updated_at"?: string;
        };
        Update: {
          "account_id"?: string | null;
          "anchors"?: (string)[];
          "as_of"?: string;
          "billing_cycle_anchor"?: string;
          "cancel_at"?: string | null;
          "cancel_at_period_end"?: boolean;
          "canceled_at"?: string | null;
          "created_at"?: string;
          "currency"?: string | null;
          "ended_at"?: string | null;
          "is_collection_paused"?: boolean;
          "livemode"?: boolean;
          "metadata"?: NonNullable<Json>;
          "started_at"?: string;
          "status"?: string;
          "stripe_customer_id"?: string;
          "stripe_subscription_id"?: string;
          "stripe_test_clock_id"?: string | null;
          "trial_end"?: string | null;
          "trial_start"?: string | null;
          "updated_at"?: string;
        };
        Relationships: [
          {
            foreignKeyName: "subscriptions_account_id_fkey";
            columns: ["account_id"];
            isOneToOne: false;
            referencedRelation: "accounts";
            referencedColumns: ["id"];
          },
          {
            foreignKeyName: "subscriptions_account_id_fkey";
            columns: ["account_id"];
            isOneToOne: false;
            referencedRelation: "entitlement_discrepancies";
            referencedColumns: ["account_id"];
          },
          {
            foreignKeyName: "subscriptions_stripe_customer_id_fkey";
            columns: ["stripe_customer_id"];
            isOneToOne: false;
            referencedRelation: "customers";
            referencedColumns: ["stripe_customer_id"];
          },
        ];
      };
      "test_clocks": {
        Row: {
          "frozen_at": string;
          "stripe_test_clock_id": string;
        };
        ComputedFields: never;
        Insert: {
          "frozen_at": string;
          "stripe_test_clock_id": string;
        };
        Update: {
          "frozen_at"?: string;
          "stripe_test_clock_id"?: string;
        };
        Relationships: [];
      };
      "trial_items": {
        Row: {
          "seen_at": string;
          "stripe_price_id": string;
          "stripe_subscription_id": string;
          "stripe_subscription_item_id": string;
        };
        ComputedFields: never;
        Insert: {
          "seen_at": string;
          "stripe_price_id": string;
          "stripe_subscription_id": string;
          "stripe_subscription_item_id": string;
        };
        Update: {
          "seen_at"?: string;
          "stripe_price_id"?: string;
          "stripe_subscription_id"?: string;
          "stripe_subscription_item_id"?: string;
        };
        Relationships: [];
      };
      "workers": {
        Row: {
          "in_hand": (number)[];
          "in_hand_until": string;
          "pid": number;
          "started_at": string;
          "_hand_back": undefined | null;
        };
        ComputedFields: "_hand_back";
        Insert: {
          "in_hand"?: (number)[];
          "in_hand_until"?: string;
          "pid": number;
          "started_at"?: string;
        };
        Update: {
          "in_hand"?: (number)[];
          "in_hand_until"?: string;
          "pid"?: number;
          "started_at"?: string;
        };
        Relationships: [];
      };
    };
    Views: {
      "entitlement_discrepancies": {
        Row: {
          "account_id": string;
          "business_key": string | null;
          "detail": string | null;
          "expected": number | null;
          "found": number | null;
          "invariant": string | null;
        };
        ComputedFields: never;
        Relationships: [];
      };
      "ledger_discrepancies": {
        Row: {
          "account_id": string | null;
          "detail": string | null;
          "invariant": string | null;
        };
        ComputedFields: never;
        Relationships: [];
      };
    };
    Functions: {
      "_account_of_customer": {
        Args: { "livemode": boolean; "stripe_customer_id": string };
        Returns: string;
      };
      "_account_to_bill": {
        Args: { "account_id": string; "user_id": string };
        Returns: string;
      };
      "_accounts_of_money": {
        Args: {
          "stripe_charge_id": string;
          "stripe_invoice_ids": (string)[];
          "stripe_payment_intent_id": string;
        };
        Returns: (string)[];
      };
      "_act_on_warning": {
        Args: {
          "warning": Omit<
            Database["billing"]["Tables"]["fraud_warnings"]["Row"],
            Database["billing"]["Tables"]["fraud_warnings"]["ComputedFields"]
          >;
        };
        Returns: undefined;
      };
      "_adopt_customer": {
        Args: { "account_id": string; "stripe_customer_id": string };
        Returns: undefined;
      };
      "_alert_of_warning": {
        Args: {
          "warning": Omit<
            Database["billing"]["Tables"]["fraud_warnings"]["Row"],
            Database["billing"]["Tables"]["fraud_warnings"]["ComputedFields"]
          >;
        };
        Returns: undefined;
      };
      "_allocate_slots": {
        Args: {
          "from_moment": string;
          "stripe_subscription_ids": (string)[];
          "until_moment": string;
        };
        Returns: Record<string, unknown>;
      };
      "_allocate_subscription": {
        Args: {
          "from_moment"?: string;
          "invoice"?: Omit<
            Database["billing"]["Tables"]["invoices"]["Row"],
            Database["billing"]["Tables"]["invoices"]["ComputedFields"]
          >;
          "stripe_subscription_id": string;
        };
        Returns: undefined;
      };
      "_allocate_subscriptions_of": {
        Args: { "stripe_customer_id": string };
        Returns: undefined;
      };
      "_allocate_subscriptions_of_account": {
        Args: { "account_id": string };
        Returns: undefined;
      };
      "_allocate_trials": {
        Args: { "stripe_price_id": string };
        Returns: undefined;
      };
      "_anchor_of_period": {
        Args: {
          "anchors": (string)[];
          "period_end": string;
          "period_start": string;
          "plan": Omit<
            Database["billing"]["Tables"]["plans"]["Row"],
            Database["billing"]["Tables"]["plans"]["ComputedFields"]
          >;
        };
        Returns: string;
      };
      "_apply_returns_of_invoice": {
        Args: { "stripe_invoice_id": string };
        Returns: undefined;
      };
      "_apply_returns_of_lot": {
        Args: { "grant_id": number };
        Returns: undefined;
      };
      "_apply_returns_of_payment": {
        Args: {
          "stripe_charge_id": string;
          "stripe_payment_intent_id": string;
        };
        Returns: undefined;
      };
      "_apply_returns_of_purchases": {
        Args: { "stripe_payment_intent_id": string };
        Returns: undefined;
      };
      "_are_link_options": { Args: { "options": Json }; Returns: boolean };
      "_are_origins": { Args: { "urls": (string)[] }; Returns: boolean };
      "_arm_recharge": { Args: { "account_id": string }; Returns: undefined };
      "_arm_schedules": {
        Args: {
          "from_moment"?: string;
          "is_closed": boolean;
          "moment": string;
          "subscription": Omit<
            Database["billing"]["Tables"]["subscriptions"]["Row"],
            Database["billing"]["Tables"]["subscriptions"]["ComputedFields"]
          >;
        };
        Returns: string;
      };
      "_asked_back": {
        Args: {
          "revocation": Omit<
            Database["billing"]["Tables"]["credit_revocations"]["Row"],
            Database["billing"]["Tables"]["credit_revocations"][
              "ComputedFields"
            ]
          >;
        };
        Returns: number;
      };
      "_attribute_payment": {
        Args: {
          "client_reference_id": string;
          "livemode": boolean;
          "opened_at": string;
          "stripe_checkout_session_id": string;
          "stripe_customer_id": string;
          "stripe_payment_link_id": string;
        };
        Returns: undefined;
      };
      "_burn_lots": {
        Args: { "account_id": string; "amount": number; "entry_id": number };
        Returns: number;
      };
      "_carry": {
        Args: {
          "account_id": string;
          "amount": number;
          "business_key": string;
        };
        Returns: undefined;
      };
      "_charged_at": {
        Args: { "stripe_payment_intent_id": string };
        Returns: string;
      };
      "_check_buyer": {
        Args: {
          "account_id": string;
          "stripe_customer_id": string;
          "stripe_id": string;
        };
        Returns: undefined;
      };
      "_check_customer_id": {
        Args: { "stripe_customer_id": string };
        Returns: undefined;
      };
      "_check_expires_in": {
        Args: { "expires_in": string };
        Returns: undefined;
      };
      "_check_expiry": {
        Args: { "expires_at": string; "opens_at": string };
        Returns: undefined;
      };
      "_check_held": {
        Args: {
          "hold": Omit<
            Database["billing"]["Tables"]["credit_holds"]["Row"],
            Database["billing"]["Tables"]["credit_holds"]["ComputedFields"]
          >;
        };
        Returns: undefined;
      };
      "_check_key_is_new": {
        Args: { "account_id": string; "idempotency_key": string };
        Returns: undefined;
      };
      "_check_may_spend": {
        Args: { "account_id": string };
        Returns: undefined;
      };
      "_check_not_subscribed": {
        Args: {
          "account_id": string;
          "plan": Omit<
            Database["billing"]["Tables"]["plans"]["Row"],
            Database["billing"]["Tables"]["plans"]["ComputedFields"]
          >;
        };
        Returns: undefined;
      };
      "_check_open": { Args: { "account_id": string }; Returns: undefined };
      "_check_reason": {
        Args: { "actor": string; "reason": string };
        Returns: undefined;
      };
      "_check_recharges_again": {
        Args: Record<PropertyKey, never>;
        Returns: undefined;
      };
      "_check_redirect": {
        Args: { "parameter": string; "url": string };
        Returns: undefined;
      };
      "_checked_amount": { Args: { "amount": number }; Returns: number };
      "_checked_key": {
        Args: { "idempotency_key": string; "metadata": Json };
        Returns: string;
      };
      "_checked_limit": {
        Args: { "amount": number; "name": string };
        Returns: number;
      };
      "_checked_quantity": {
        Args: {
          "is_metered": boolean;
          "quantity": number;
          "seats_max": number;
          "seats_min": number;
        };
        Returns: number;
      };
      "_claim_customer": {
        Args: { "account_id": string; "livemode": boolean };
        Returns: Json;
      };
      "_claim_link": {
        Args: {
          "is_pack": boolean;
          "name": string;
          "options": Json;
          "quantity": number;
          "stripe_price_id": string;
        };
        Returns: Json;
      };
      "_claim_recharge": { Args: { "account_id": string }; Returns: undefined };
      "_claim_returned_credits": {
        Args: { "account_id": string; "as_of"?: string };
        Returns: undefined;
      };
      "_claim_shortfall": {
        Args: {
          "amount": number;
          "lot": Omit<
            Database["billing"]["Tables"]["credit_grants"]["Row"],
            Database["billing"]["Tables"]["credit_grants"]["ComputedFields"]
          >;
          "revocation": Omit<
            Database["billing"]["Tables"]["credit_revocations"]["Row"],
            Database["billing"]["Tables"]["credit_revocations"][
              "ComputedFields"
            ]
          >;
        };
        Returns: undefined;
      };
      "_contested_credits": {
        Args: { "stripe_invoice_id": string };
        Returns: number;
      };
      "_count_spend": {
        Args: {
          "amount": number;
          "balance": Omit<
            Database["billing"]["Tables"]["credit_balances"]["Row"],
            Database["billing"]["Tables"]["credit_balances"]["ComputedFields"]
          >;
        };
        Returns: {
          "account_id": string;
          "balance": number;
          "carried": number;
          "debt": number;
          "epoch": number;
          "held": number;
          "is_low": boolean;
          "low_balance_threshold": number | null;
          "may_spend": boolean;
          "next_due_at": string | null;
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
        };
        SetofOptions: {
          from: "*";
          to: "credit_balances";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      "_counted_by_cap": {
        Args: {
          "entry": Omit<
            Database["billing"]["Tables"]["credit_entries"]["Row"],
            Database["billing"]["Tables"]["credit_entries"]["ComputedFields"]
          >;
          "period_start": string;
        };
        Returns: number;
      };
      "_create_queue": { Args: Record<PropertyKey, never>; Returns: undefined };
      "_credits_of_pack": {
        Args: {
          "amount": number;
          "pack": Omit<
            Database["billing"]["Tables"]["credit_packs"]["Row"],
            Database["billing"]["Tables"]["credit_packs"]["ComputedFields"]
          >;
          "quantity": number;
        };
        Returns: number;
      };
      "_customer_of": {
        Args: { "account_id": string; "livemode": boolean };
        Returns: string;
      };
      "_date_purchases": {
        Args: { "stripe_payment_intent_id": string };
        Returns: undefined;
      };
      "_declared_choice": {
        Args: {
          "choices": (string)[];
          "key": string;
          "plan": Omit<
            Database["billing"]["Tables"]["plans"]["Row"],
            Database["billing"]["Tables"]["plans"]["ComputedFields"]
          >;
          "product": Omit<
            Database["billing"]["Tables"]["products"]["Row"],
            Database["billing"]["Tables"]["products"]["ComputedFields"]
          >;
        };
        Returns: string;
      };
      "_declared_credits": {
        Args: {
          "key": string;
          "price_metadata": Json;
          "product_metadata": Json;
          "stripe_id": string;
        };
        Returns: number;
      };
      "_declared_features": {
        Args: { "features": string; "stripe_id": string };
        Returns: Json;
      };
      "_declared_pack": {
        Args: {
          "price": Omit<
            Database["billing"]["Tables"]["one_time_prices"]["Row"],
            Database["billing"]["Tables"]["one_time_prices"]["ComputedFields"]
          >;
        };
        Returns: Database["billing"]["CompositeTypes"]["declared_pack"];
        SetofOptions: {
          from: "billing.one_time_prices";
          to: "declared_pack";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      "_declared_plan": {
        Args: {
          "plan": Omit<
            Database["billing"]["Tables"]["plans"]["Row"],
            Database["billing"]["Tables"]["plans"]["ComputedFields"]
          >;
          "product": Omit<
            Database["billing"]["Tables"]["products"]["Row"],
            Database["billing"]["Tables"]["products"]["ComputedFields"]
          >;
        };
        Returns: {
          "active": boolean;
          "as_of": string;
          "cancel_credits": string;
          "created_at": string;
          "currency": string;
          "downgrade_credits": string;
          "features": NonNullable<Json>;
          "initial_credits": number;
          "livemode": boolean;
          "lookup_key": string | null;
          "metadata": NonNullable<Json>;
          "monthly_credits": number;
          "nickname": string | null;
          "proration_credits": string;
          "recurring_interval": string;
          "recurring_interval_count": number;
          "rollover": string;
          "rollover_cap": number | null;
          "rollover_periods": number | null;
          "seats_max": number | null;
          "seats_min": number;
          "stripe_price_id": string;
          "stripe_product_id": string;
          "trial_credits": number;
          "trial_days": number;
          "trial_end_credits": string;
          "unit_amount": number | null;
          "updated_at": string;
          "usage_type": string;
        };
        SetofOptions: {
          from: "*";
          to: "plans";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      "_declares_credits": { Args: { "metadata": Json }; Returns: boolean };
      "_description_of_move": {
        Args: { "plan_name": string; "source": string };
        Returns: string;
      };
      "_digest_notifications": {
        Args: {
          "first": Omit<
            Database["billing"]["Tables"]["notifications"]["Row"],
            Database["billing"]["Tables"]["notifications"]["ComputedFields"]
          >;
        };
        Returns: undefined;
      };
      "_dismissal": {
        Args: { "payload": string; "waiting_for": string };
        Returns: string;
      };
      "_dispute_rank": { Args: { "status": string }; Returns: number };
      "_due_after_death": {
        Args: { "attempts": number; "due_at": string };
        Returns: string;
      };
      "_ended_hold": {
        Args: {
          "capture": Omit<
            Database["billing"]["Tables"]["credit_entries"]["Row"],
            Database["billing"]["Tables"]["credit_entries"]["ComputedFields"]
          >;
          "hold": Omit<
            Database["billing"]["Tables"]["credit_holds"]["Row"],
            Database["billing"]["Tables"]["credit_holds"]["ComputedFields"]
          >;
        };
        Returns: boolean;
      };
      "_expire_beyond_cap": {
        Args: {
          "account_id": string;
          "cap": number;
          "slot_start": string;
          "stripe_subscription_item_id": string;
        };
        Returns: undefined;
      };
      "_expiry_key": {
        Args: {
          "lot": Omit<
            Database["billing"]["Tables"]["credit_grants"]["Row"],
            Database["billing"]["Tables"]["credit_grants"]["ComputedFields"]
          >;
        };
        Returns: string;
      };
      "_fail_refund_action": {
        Args: { "stripe_refund_id": string };
        Returns: undefined;
      };
      "_first_slot": {
        Args: { "anchor": string; "from_moment": string };
        Returns: string;
      };
      "_follow_email": {
        Args: {
          "new_email": string;
          "old_email": string;
          "stripe_customer_id": string;
        };
        Returns: undefined;
      };
      "_free_pack_key": {
        Args: {
          "account_id": string;
          "moment": string;
          "stripe_product_id": string;
        };
        Returns: string;
      };
      "_freeze": {
        Args: {
          "amount": number;
          "lot": Omit<
            Database["billing"]["Tables"]["credit_grants"]["Row"],
            Database["billing"]["Tables"]["credit_grants"]["ComputedFields"]
          >;
        };
        Returns: undefined;
      };
      "_freeze_account": {
        Args: { "account_id": string; "reason": string };
        Returns: undefined;
      };
      "_freeze_contested": {
        Args: { "stripe_invoice_id": string };
        Returns: undefined;
      };
      "_freeze_lots": {
        Args: { "amount": number; "grant_ids": (number)[] };
        Returns: undefined;
      };
      "_frozen_of_lots": { Args: { "grant_ids": (number)[] }; Returns: number };
      "_give_back": {
        Args: {
          "account_id": string;
          "amount": number;
          "business_key": string;
        };
        Returns: number;
      };
      "_give_held": {
        Args: {
          "actor": string;
          "held": Omit<
            Database["billing"]["Tables"]["held_credits"]["Row"],
            Database["billing"]["Tables"]["held_credits"]["ComputedFields"]
          >;
        };
        Returns: undefined;
      };
      "_give_less_reduced": {
        Args: {
          "account_id": string;
          "amount": number;
          "business_key": string;
        };
        Returns: number;
      };
      "_gone": {
        Args: { "credits": number; "paid": number; "returned": number };
        Returns: number;
      };
      "_grant_credits": {
        Args: {
          "account_id": string;
          "actor"?: string;
          "amount": number;
          "description": string;
          "effective_at"?: string;
          "expires_at"?: string;
          "idempotency_key": string;
          "key_space": string;
          "kind"?: string;
          "metadata"?: Json;
          "priority"?: number;
          "reference_id": string;
          "source": string;
          "stripe_checkout_session_id"?: string;
          "stripe_invoice_id"?: string;
          "stripe_payment_intent_id"?: string;
          "stripe_price_id"?: string;
          "stripe_subscription_item_id"?: string;
        };
        Returns: {
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
        };
        SetofOptions: {
          from: "*";
          to: "credit_entries";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      "_grant_initial": {
        Args: {
          "invoice": Omit<
            Database["billing"]["Tables"]["invoices"]["Row"],
            Database["billing"]["Tables"]["invoices"]["ComputedFields"]
          >;
          "period_start": string;
          "stripe_price_id": string;
          "stripe_subscription_item_id": string;
        };
        Returns: undefined;
      };
      "_grant_initial_of_invoice": {
        Args: {
          "invoice": Omit<
            Database["billing"]["Tables"]["invoices"]["Row"],
            Database["billing"]["Tables"]["invoices"]["ComputedFields"]
          >;
        };
        Returns: undefined;
      };
      "_grant_once": {
        Args: {
          "account_id": string;
          "amount": number;
          "description": string;
          "effective_at"?: string;
          "expires_at"?: string;
          "idempotency_key": string;
          "kind": string;
          "reference_id": string;
          "source": string;
          "stripe_invoice_id": string;
          "stripe_price_id": string;
          "stripe_subscription_item_id": string;
        };
        Returns: undefined;
      };
      "_grant_trial": {
        Args: {
          "subscription": Omit<
            Database["billing"]["Tables"]["subscriptions"]["Row"],
            Database["billing"]["Tables"]["subscriptions"]["ComputedFields"]
          >;
        };
        Returns: undefined;
      };
      "_hand_back": {
        Args: {
          "worker": Omit<
            Database["billing"]["Tables"]["workers"]["Row"],
            Database["billing"]["Tables"]["workers"]["ComputedFields"]
          >;
        };
        Returns: undefined;
      };
      "_has_arrived": { Args: { "stripe_id": string }; Returns: boolean };
      "_has_pg_cron": { Args: Record<PropertyKey, never>; Returns: boolean };
      "_has_user": { Args: { "account_id": string }; Returns: boolean };
      "_hmac_sha256": {
        Args: { "key": string; "message": string };
        Returns: string;
      };
      "_hold_price": {
        Args: { "name": string; "stripe_price_id": string };
        Returns: undefined;
      };
      "_in_running_period": {
        Args: {
          "balance": Omit<
            Database["billing"]["Tables"]["credit_balances"]["Row"],
            Database["billing"]["Tables"]["credit_balances"]["ComputedFields"]
          >;
        };
        Returns: {
          "account_id": string;
          "balance": number;
          "carried": number;
          "debt": number;
          "epoch": number;
          "held": number;
          "is_low": boolean;
          "low_balance_threshold": number | null;
          "may_spend": boolean;
          "next_due_at": string | null;
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
        };
        SetofOptions: {
          from: "billing.credit_balances";
          to: "credit_balances";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      "_invoice_rank": { Args: { "status": string }; Returns: number };
      "_invoices_of_payment": {
        Args: {
          "stripe_charge_id": string;
          "stripe_payment_intent_id": string;
        };
        Returns: (string)[];
      };
      "_is_a_step_back": {
        Args: {
          "held": Omit<
            Database["billing"]["Tables"]["subscriptions"]["Row"],
            Database["billing"]["Tables"]["subscriptions"]["ComputedFields"]
          >;
          "items": Json;
          "offered": Omit<
            Database["billing"]["Tables"]["subscriptions"]["Row"],
            Database["billing"]["Tables"]["subscriptions"]["ComputedFields"]
          >;
        };
        Returns: boolean;
      };
      "_is_first_change": {
        Args: {
          "line": Omit<
            Database["billing"]["Tables"]["credit_schedules"]["Row"],
            Database["billing"]["Tables"]["credit_schedules"]["ComputedFields"]
          >;
          "slot_start": string;
        };
        Returns: boolean;
      };
      "_is_free": {
        Args: {
          "invoice": Omit<
            Database["billing"]["Tables"]["invoices"]["Row"],
            Database["billing"]["Tables"]["invoices"]["ComputedFields"]
          >;
          "line": Omit<
            Database["billing"]["Tables"]["invoice_lines"]["Row"],
            Database["billing"]["Tables"]["invoice_lines"]["ComputedFields"]
          >;
        };
        Returns: boolean;
      };
      "_is_held": { Args: { "idempotency_key": string }; Returns: boolean };
      "_is_pack": {
        Args: {
          "declared": Database["billing"]["CompositeTypes"]["declared_pack"];
        };
        Returns: boolean;
      };
      "_is_plain": {
        Args: { "slot": Database["billing"]["CompositeTypes"]["line_slot"] };
        Returns: boolean;
      };
      "_is_within": {
        Args: {
          "plan": Omit<
            Database["billing"]["Tables"]["plans"]["Row"],
            Database["billing"]["Tables"]["plans"]["ComputedFields"]
          >;
          "scope": string;
          "stripe_price_id": string;
          "stripe_product_id"?: string;
        };
        Returns: boolean;
      };
      "_judge_card": {
        Args: { "account_id": string; "card_fingerprint": string };
        Returns: undefined;
      };
      "_judge_credits": { Args: { "account_id": string }; Returns: undefined };
      "_lapsed_of_lot": {
        Args: {
          "lot": Omit<
            Database["billing"]["Tables"]["credit_grants"]["Row"],
            Database["billing"]["Tables"]["credit_grants"]["ComputedFields"]
          >;
        };
        Returns: number;
      };
      "_less_carried": {
        Args: {
          "account_id": string;
          "amount": number;
          "business_key": string;
        };
        Returns: number;
      };
      "_link_as_told": {
        Args: {
          "link": Omit<
            Database["billing"]["Tables"]["payment_links"]["Row"],
            Database["billing"]["Tables"]["payment_links"]["ComputedFields"]
          >;
          "name": string;
        };
        Returns: Json;
      };
      "_link_options": { Args: { "options": Json }; Returns: Json };
      "_lock_arrival": { Args: { "stripe_id": string }; Returns: undefined };
      "_lock_balance": {
        Args: { "account_id": string };
        Returns: {
          "account_id": string;
          "balance": number;
          "carried": number;
          "debt": number;
          "epoch": number;
          "held": number;
          "is_low": boolean;
          "low_balance_threshold": number | null;
          "may_spend": boolean;
          "next_due_at": string | null;
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
        };
        SetofOptions: {
          from: "*";
          to: "credit_balances";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      "_lock_balance_soon": {
        Args: { "account_id": string };
        Returns: boolean;
      };
      "_lock_card": {
        Args: { "card_fingerprint": string };
        Returns: undefined;
      };
      "_lock_customer": {
        Args: {
          "account_id": string;
          "livemode": boolean;
          "stripe_customer_id": string;
        };
        Returns: {
          "account_id": string | null;
          "as_of": string;
          "created_at": string;
          "deleted_at": string | null;
          "dismissed_at": string | null;
          "dismissed_by": string | null;
          "dismissed_reason": string | null;
          "duplicate_of": string | null;
          "email": string | null;
          "id": number;
          "linked_at": string | null;
          "livemode": boolean;
          "metadata": NonNullable<Json>;
          "name": string | null;
          "stripe_customer_id": string | null;
          "updated_at": string;
        };
        SetofOptions: {
          from: "*";
          to: "customers";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      "_lock_hold": {
        Args: { "hold_id": string };
        Returns: {
          "account_id": string;
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
        };
        SetofOptions: {
          from: "*";
          to: "credit_holds";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      "_lock_money": {
        Args: {
          "stripe_charge_id": string;
          "stripe_invoice_id"?: string;
          "stripe_payment_intent_id": string;
        };
        Returns: undefined;
      };
      "_lock_of_workers": { Args: Record<PropertyKey, never>; Returns: number };
      "_lock_recharge": {
        Args: { "recharge_id": string };
        Returns: {
          "account_id": string;
          "action_url": string | null;
          "amount": number;
          "attempts": number;
          "claimed_at": string;
          "created_at": string;
          "credits": number;
          "currency": string;
          "first_attempt_at": string | null;
          "id": string;
          "idempotency_key": string;
          "is_final": boolean;
          "last_error": string | null;
          "next_attempt_at": string | null;
          "reason": string | null;
          "return_url": string | null;
          "settled_at": string | null;
          "status": string;
          "stripe_customer_id": string;
          "stripe_payment_intent_id": string | null;
          "stripe_payment_method_id": string | null;
          "stripe_price_id": string;
          "updated_at": string;
        };
        SetofOptions: {
          from: "*";
          to: "recharges";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      "_lock_settled_balance": {
        Args: { "account_id": string };
        Returns: {
          "account_id": string;
          "balance": number;
          "carried": number;
          "debt": number;
          "epoch": number;
          "held": number;
          "is_low": boolean;
          "low_balance_threshold": number | null;
          "may_spend": boolean;
          "next_due_at": string | null;
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
        };
        SetofOptions: {
          from: "*";
          to: "credit_balances";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      "_lots_of_invoice": {
        Args: { "stripe_invoice_id": string };
        Returns: (number)[];
      };
      "_lots_of_move": {
        Args: { "move": Database["billing"]["CompositeTypes"]["credit_move"] };
        Returns: (number)[];
      };
      "_lots_of_purchase": {
        Args: {
          "purchase": Omit<
            Database["billing"]["Tables"]["pack_purchases"]["Row"],
            Database["billing"]["Tables"]["pack_purchases"]["ComputedFields"]
          >;
        };
        Returns: (number)[];
      };
      "_match_credits": {
        Args: { "from_moment": string; "stripe_subscription_id": string };
        Returns: string;
      };
      "_minor_digits": { Args: { "currency": string }; Returns: number };
      "_moment_text": { Args: { "moment": string }; Returns: string };
      "_months": {
        Args: {
          "plan": Omit<
            Database["billing"]["Tables"]["plans"]["Row"],
            Database["billing"]["Tables"]["plans"]["ComputedFields"]
          >;
        };
        Returns: number;
      };
      "_name_of_account": { Args: { "account_id": string }; Returns: string };
      "_next_lot_key": { Args: { "business_key": string }; Returns: string };
      "_next_revocation_key": { Args: { "grant_id": number }; Returns: string };
      "_note_stripe_request": {
        Args: { "account_id": string; "idempotency_key"?: string };
        Returns: undefined;
      };
      "_notify": {
        Args: {
          "account_id": string;
          "audience": string;
          "dedupe_key": string;
          "kind": string;
          "payload": Json;
        };
        Returns: undefined;
      };
      "_notify_of_event": {
        Args: {
          "event": Omit<
            Database["billing"]["Tables"]["stripe_events"]["Row"],
            Database["billing"]["Tables"]["stripe_events"]["ComputedFields"]
          >;
        };
        Returns: undefined;
      };
      "_notify_of_expiring_cards": {
        Args: Record<PropertyKey, never>;
        Returns: undefined;
      };
      "_notify_of_queued_events": {
        Args: Record<PropertyKey, never>;
        Returns: undefined;
      };
      "_notify_of_receipt": {
        Args: {
          "account_id": string;
          "amount": number;
          "credits": number;
          "currency": string;
          "reference_id": string;
          "url": string;
        };
        Returns: undefined;
      };
      "_notify_of_silence": {
        Args: Record<PropertyKey, never>;
        Returns: undefined;
      };
      "_notify_of_waiting_events": {
        Args: Record<PropertyKey, never>;
        Returns: undefined;
      };
      "_obstacle_to_recharge": {
        Args: { "account_id": string };
        Returns: string;
      };
      "_once_key": {
        Args: {
          "account_id": string;
          "kind": string;
          "stripe_product_id": string;
        };
        Returns: string;
      };
      "_open_lot": {
        Args: {
          "balance": Omit<
            Database["billing"]["Tables"]["credit_balances"]["Row"],
            Database["billing"]["Tables"]["credit_balances"]["ComputedFields"]
          >;
          "entry": Omit<
            Database["billing"]["Tables"]["credit_entries"]["Row"],
            Database["billing"]["Tables"]["credit_entries"]["ComputedFields"]
          >;
          "lot": Omit<
            Database["billing"]["Tables"]["credit_grants"]["Row"],
            Database["billing"]["Tables"]["credit_grants"]["ComputedFields"]
          >;
        };
        Returns: {
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
        };
        SetofOptions: {
          from: "*";
          to: "credit_entries";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      "_open_pack": {
        Args: {
          "declared": Database["billing"]["CompositeTypes"]["declared_pack"];
          "price": Omit<
            Database["billing"]["Tables"]["one_time_prices"]["Row"],
            Database["billing"]["Tables"]["one_time_prices"]["ComputedFields"]
          >;
        };
        Returns: undefined;
      };
      "_open_scheduled_lot": {
        Args: {
          "lot": Omit<
            Database["billing"]["Tables"]["credit_grants"]["Row"],
            Database["billing"]["Tables"]["credit_grants"]["ComputedFields"]
          >;
        };
        Returns: undefined;
      };
      "_open_shortfall": { Args: { "grant_id": number }; Returns: number };
      "_origin_of": { Args: { "url": string }; Returns: string };
      "_owe_again": {
        Args: {
          "amount": number;
          "kind": string;
          "original": Omit<
            Database["billing"]["Tables"]["credit_entries"]["Row"],
            Database["billing"]["Tables"]["credit_entries"]["ComputedFields"]
          >;
        };
        Returns: {
          "account_id": string;
          "balance": number;
          "carried": number;
          "debt": number;
          "epoch": number;
          "held": number;
          "is_low": boolean;
          "low_balance_threshold": number | null;
          "may_spend": boolean;
          "next_due_at": string | null;
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
        };
        SetofOptions: {
          from: "*";
          to: "credit_balances";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      "_pack_name": {
        Args: {
          "pack": Omit<
            Database["billing"]["Tables"]["credit_packs"]["Row"],
            Database["billing"]["Tables"]["credit_packs"]["ComputedFields"]
          >;
        };
        Returns: string;
      };
      "_paid_from": {
        Args: {
          "stripe_invoice_id": string;
          "stripe_subscription_item_id": string;
        };
        Returns: string;
      };
      "_pause_recharge": {
        Args: { "account_id": string; "reason": string };
        Returns: undefined;
      };
      "_pay_recharge": {
        Args: {
          "recharge": Omit<
            Database["billing"]["Tables"]["recharges"]["Row"],
            Database["billing"]["Tables"]["recharges"]["ComputedFields"]
          >;
          "stripe_payment_intent_id": string;
        };
        Returns: undefined;
      };
      "_pay_session": {
        Args: { "amount_received": number; "stripe_payment_intent_id": string };
        Returns: undefined;
      };
      "_pays_for_credits": { Args: { "event_type": string }; Returns: boolean };
      "_plain_worth": {
        Args: {
          "from_moment": string;
          "stripe_subscription_ids": (string)[];
          "until_moment": string;
        };
        Returns: Database["billing"]["CompositeTypes"]["credit_move"][];
        SetofOptions: {
          from: "*";
          to: "credit_move";
          isOneToOne: false;
          isSetofReturn: true;
        };
      };
      "_plan_name": {
        Args: {
          "plan": Omit<
            Database["billing"]["Tables"]["plans"]["Row"],
            Database["billing"]["Tables"]["plans"]["ComputedFields"]
          >;
        };
        Returns: string;
      };
      "_plan_of_line": {
        Args: { "stripe_id": string; "stripe_price_id": string };
        Returns: {
          "active": boolean;
          "as_of": string;
          "cancel_credits": string;
          "created_at": string;
          "currency": string;
          "downgrade_credits": string;
          "features": NonNullable<Json>;
          "initial_credits": number;
          "livemode": boolean;
          "lookup_key": string | null;
          "metadata": NonNullable<Json>;
          "monthly_credits": number;
          "nickname": string | null;
          "proration_credits": string;
          "recurring_interval": string;
          "recurring_interval_count": number;
          "rollover": string;
          "rollover_cap": number | null;
          "rollover_periods": number | null;
          "seats_max": number | null;
          "seats_min": number;
          "stripe_price_id": string;
          "stripe_product_id": string;
          "trial_credits": number;
          "trial_days": number;
          "trial_end_credits": string;
          "unit_amount": number | null;
          "updated_at": string;
          "usage_type": string;
        };
        SetofOptions: {
          from: "*";
          to: "plans";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      "_portal_flow": {
        Args: {
          "flow": string;
          "return_url": string;
          "stripe_subscription_id": string;
        };
        Returns: Json;
      };
      "_post_move": {
        Args: { "move": Database["billing"]["CompositeTypes"]["credit_move"] };
        Returns: number;
      };
      "_post_purchase": {
        Args: { "business_key": string };
        Returns: undefined;
      };
      "_post_returned_credits": {
        Args: { "stripe_invoice_id": string };
        Returns: undefined;
      };
      "_post_returned_initial": {
        Args: {
          "invoice": Omit<
            Database["billing"]["Tables"]["invoices"]["Row"],
            Database["billing"]["Tables"]["invoices"]["ComputedFields"]
          >;
        };
        Returns: undefined;
      };
      "_post_simple_moves": {
        Args: {
          "moves": (Database["billing"]["CompositeTypes"]["credit_move"])[];
        };
        Returns: {
          "credits_granted": number;
          "others": (Database["billing"]["CompositeTypes"]["credit_move"])[];
          "slots_granted": number;
        }[];
      };
      "_posted_credits": {
        Args: { "account_id": string; "business_key": string };
        Returns: number;
      };
      "_postpone_allocation": {
        Args: { "from_moment": string; "stripe_subscription_id": string };
        Returns: boolean;
      };
      "_price_of_invoice": {
        Args: {
          "invoice": Omit<
            Database["billing"]["Tables"]["invoices"]["Row"],
            Database["billing"]["Tables"]["invoices"]["ComputedFields"]
          >;
        };
        Returns: number;
      };
      "_price_on_sale": {
        Args: { "pack": string; "plan": string };
        Returns: {
          "is_metered": boolean;
          "seats_max": number;
          "seats_min": number;
          "stripe_price_id": string;
          "stripe_product_id": string;
        }[];
      };
      "_prove_account": { Args: { "account_id": string }; Returns: number };
      "_purchase": {
        Args: {
          "purchase": Omit<
            Database["billing"]["Tables"]["pack_purchases"]["Row"],
            Database["billing"]["Tables"]["pack_purchases"]["ComputedFields"]
          >;
        };
        Returns: undefined;
      };
      "_purchase_packs_of_invoice": {
        Args: {
          "invoice": Omit<
            Database["billing"]["Tables"]["invoices"]["Row"],
            Database["billing"]["Tables"]["invoices"]["ComputedFields"]
          >;
        };
        Returns: undefined;
      };
      "_purchase_packs_of_session": {
        Args: {
          "session": Omit<
            Database["billing"]["Tables"]["checkout_sessions"]["Row"],
            Database["billing"]["Tables"]["checkout_sessions"]["ComputedFields"]
          >;
        };
        Returns: undefined;
      };
      "_raise_insufficient": {
        Args: { "account_id": string; "available": number; "needed": number };
        Returns: undefined;
      };
      "_raise_key_reused": {
        Args: { "idempotency_key": string };
        Returns: undefined;
      };
      "_raise_no_account": {
        Args: { "account_id": string };
        Returns: undefined;
      };
      "_raise_not_linked": {
        Args: {
          "invoice": Omit<
            Database["billing"]["Tables"]["invoices"]["Row"],
            Database["billing"]["Tables"]["invoices"]["ComputedFields"]
          >;
        };
        Returns: undefined;
      };
      "_raise_unsound": {
        Args: { "rule": string; "table_name": string };
        Returns: undefined;
      };
      "_read_reference": {
        Args: { "livemode": boolean; "reference": string; "used_at": string };
        Returns: {
          "account_id": string;
          "refusal": string;
        }[];
      };
      "_record_card": {
        Args: {
          "account_id": string;
          "card_fingerprint": string;
          "seen_at": string;
          "stripe_customer_id": string;
        };
        Returns: string;
      };
      "_record_cards_of_customer": {
        Args: { "account_id": string; "stripe_customer_id": string };
        Returns: undefined;
      };
      "_record_late_terms": {
        Args: {
          "as_of": string;
          "price_metadata": Json;
          "product_metadata": Json;
          "stripe_price_id": string;
        };
        Returns: undefined;
      };
      "_record_lines": {
        Args: {
          "invoice": Omit<
            Database["billing"]["Tables"]["invoices"]["Row"],
            Database["billing"]["Tables"]["invoices"]["ComputedFields"]
          >;
          "lines": Json;
        };
        Returns: undefined;
      };
      "_record_older_state": {
        Args: {
          "billing_cycle_anchor": string;
          "status": string;
          "stripe_subscription_id": string;
        };
        Returns: undefined;
      };
      "_record_paid_time": {
        Args: {
          "invoice": Omit<
            Database["billing"]["Tables"]["invoices"]["Row"],
            Database["billing"]["Tables"]["invoices"]["ComputedFields"]
          >;
          "subscription": Omit<
            Database["billing"]["Tables"]["subscriptions"]["Row"],
            Database["billing"]["Tables"]["subscriptions"]["ComputedFields"]
          >;
        };
        Returns: string;
      };
      "_record_terms": {
        Args: {
          "plan": Omit<
            Database["billing"]["Tables"]["plans"]["Row"],
            Database["billing"]["Tables"]["plans"]["ComputedFields"]
          >;
          "valid_from": string;
        };
        Returns: undefined;
      };
      "_record_trial": {
        Args: {
          "as_of": string;
          "items": Json;
          "stripe_subscription_id": string;
        };
        Returns: undefined;
      };
      "_refund_rank": { Args: { "status": string }; Returns: number };
      "_refused": {
        Args: { "held_as_of": string; "offered_as_of": string };
        Returns: string;
      };
      "_reinstate": {
        Args: {
          "actor": string;
          "amount": number;
          "idempotency_key": string;
          "key_space": string;
          "reason": string;
          "revocation": Omit<
            Database["billing"]["Tables"]["credit_revocations"]["Row"],
            Database["billing"]["Tables"]["credit_revocations"][
              "ComputedFields"
            ]
          >;
        };
        Returns: {
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
        SetofOptions: {
          from: "*";
          to: "credit_reinstatements";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      "_release_pins": { Args: { "hold_ids": (string)[] }; Returns: string };
      "_remember_due": {
        Args: { "account_id": string; "due_at": string };
        Returns: undefined;
      };
      "_repay_debt": { Args: { "account_id": string }; Returns: undefined };
      "_report_deleted_user": {
        Args: { "account_id": string };
        Returns: undefined;
      };
      "_report_if_deleted": {
        Args: { "account_id": string; "user_id": string };
        Returns: undefined;
      };
      "_resolve_packs": {
        Args: { "stripe_product_id": string };
        Returns: undefined;
      };
      "_resolve_plan": {
        Args: { "stripe_price_id": string };
        Returns: undefined;
      };
      "_resolve_terms": {
        Args: {
          "plan": Omit<
            Database["billing"]["Tables"]["plans"]["Row"],
            Database["billing"]["Tables"]["plans"]["ComputedFields"]
          >;
          "product": Omit<
            Database["billing"]["Tables"]["products"]["Row"],
            Database["billing"]["Tables"]["products"]["ComputedFields"]
          >;
        };
        Returns: undefined;
      };
      "_retire_links": {
        Args: { "ids": (string)[]; "reason": string };
        Returns: undefined;
      };
      "_retire_links_of_price": {
        Args: { "stripe_price_id": string };
        Returns: undefined;
      };
      "_retry_events_waiting_for": {
        Args: { "stripe_id": string };
        Returns: undefined;
      };
      "_returned_credits": {
        Args: { "stripe_invoice_id": string; "with_contested"?: boolean };
        Returns: {
          "credits": number;
          "moment": string;
          "stripe_subscription_item_id": string;
        }[];
      };
      "_returned_of_purchase": {
        Args: {
          "purchase": Omit<
            Database["billing"]["Tables"]["pack_purchases"]["Row"],
            Database["billing"]["Tables"]["pack_purchases"]["ComputedFields"]
          >;
          "with_contested"?: boolean;
        };
        Returns: number;
      };
      "_returns_of_invoice": {
        Args: { "stripe_invoice_id": string };
        Returns: Database["billing"]["CompositeTypes"]["returned_money"][];
        SetofOptions: {
          from: "*";
          to: "returned_money";
          isOneToOne: false;
          isSetofReturn: true;
        };
      };
      "_returns_of_payments": {
        Args: {
          "note_refund_ids": (string)[];
          "stripe_charge_ids": (string)[];
          "stripe_payment_intent_ids": (string)[];
        };
        Returns: Database["billing"]["CompositeTypes"]["returned_money"][];
        SetofOptions: {
          from: "*";
          to: "returned_money";
          isOneToOne: false;
          isSetofReturn: true;
        };
      };
      "_reverse_entry": {
        Args: {
          "actor": string;
          "amount": number;
          "description": string;
          "idempotency_key": string;
          "key_space": string;
          "kind": string;
          "metadata": Json;
          "original": Omit<
            Database["billing"]["Tables"]["credit_entries"]["Row"],
            Database["billing"]["Tables"]["credit_entries"]["ComputedFields"]
          >;
        };
        Returns: {
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
        };
        SetofOptions: {
          from: "*";
          to: "credit_entries";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      "_revocable": {
        Args: {
          "lot": Omit<
            Database["billing"]["Tables"]["credit_grants"]["Row"],
            Database["billing"]["Tables"]["credit_grants"]["ComputedFields"]
          >;
        };
        Returns: number;
      };
      "_revoke_grant": {
        Args: {
          "actor": string;
          "amount": number;
          "idempotency_key": string;
          "key_space": string;
          "lot": Omit<
            Database["billing"]["Tables"]["credit_grants"]["Row"],
            Database["billing"]["Tables"]["credit_grants"]["ComputedFields"]
          >;
          "reason": string;
          "shortfall_policy": string;
        };
        Returns: {
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
        };
        SetofOptions: {
          from: "*";
          to: "credit_revocations";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      "_revoked_by_hand": { Args: { "grant_id": number }; Returns: number };
      "_room_under_cap": {
        Args: {
          "balance": Omit<
            Database["billing"]["Tables"]["credit_balances"]["Row"],
            Database["billing"]["Tables"]["credit_balances"]["ComputedFields"]
          >;
        };
        Returns: number;
      };
      "_seats": {
        Args: {
          "plan": Omit<
            Database["billing"]["Tables"]["plans"]["Row"],
            Database["billing"]["Tables"]["plans"]["ComputedFields"]
          >;
          "quantity": number;
        };
        Returns: number;
      };
      "_seats_given_back": {
        Args: { "credited_line_ids": (string)[]; "quantity": number };
        Returns: number;
      };
      "_seen_card": {
        Args: {
          "account_id": string;
          "granted_at": string;
          "held_for"?: string;
        };
        Returns: {
          "account_id": string | null;
          "card_fingerprint": string;
          "created_at": string;
          "first_seen_at": string;
          "stripe_customer_id": string;
        };
        SetofOptions: {
          from: "*";
          to: "card_fingerprints";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      "_seen_card_policy": {
        Args: Record<PropertyKey, never>;
        Returns: string;
      };
      "_sees_every_account": {
        Args: Record<PropertyKey, never>;
        Returns: boolean;
      };
      "_set_aside": {
        Args: {
          "held": Omit<
            Database["billing"]["Tables"]["held_credits"]["Row"],
            Database["billing"]["Tables"]["held_credits"]["ComputedFields"]
          >;
        };
        Returns: number;
      };
      "_settle_due": {
        Args: { "account_ids": (string)[]; "as_of": string };
        Returns: {
          "credits_expired": number;
          "holds_expired": number;
          "lots_expired": number;
          "lots_opened": number;
        }[];
      };
      "_settle_hold": {
        Args: {
          "hold": Omit<
            Database["billing"]["Tables"]["credit_holds"]["Row"],
            Database["billing"]["Tables"]["credit_holds"]["ComputedFields"]
          >;
          "release_key"?: string;
          "status": string;
        };
        Returns: {
          "account_id": string;
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
        };
        SetofOptions: {
          from: "*";
          to: "credit_holds";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      "_settle_session": {
        Args: { "stripe_payment_intent_id": string };
        Returns: undefined;
      };
      "_sign_reference": {
        Args: {
          "account_id": string;
          "expires_at": string;
          "livemode": boolean;
        };
        Returns: string;
      };
      "_skip_notifications": {
        Args: Record<PropertyKey, never>;
        Returns: undefined;
      };
      "_slot": { Args: { "anchor": string; "k": number }; Returns: string };
      "_slot_number": {
        Args: { "anchor": string; "moment": string };
        Returns: number;
      };
      "_slots_of_lines": {
        Args: {
          "free_account_ids"?: (string)[];
          "from_moment": string;
          "stripe_invoice_id"?: string;
          "stripe_subscription_ids": (string)[];
          "until_moment": string;
        };
        Returns: Database["billing"]["CompositeTypes"]["line_slot"][];
        SetofOptions: {
          from: "*";
          to: "line_slot";
          isOneToOne: false;
          isSetofReturn: true;
        };
      };
      "_spend_all": {
        Args: { "account_id": string; "spends": Json };
        Returns: undefined;
      };
      "_spend_judged": {
        Args: {
          "account_id": string;
          "amount": number;
          "description": string;
          "feature": string;
          "idempotency_key": string;
          "metadata": Json;
          "reference_id": string;
          "up_to": boolean;
        };
        Returns: {
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
        };
        SetofOptions: {
          from: "*";
          to: "credit_entries";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      "_spent_after": {
        Args: {
          "account_id": string;
          "last_entry_id": number;
          "period_start": string;
        };
        Returns: number;
      };
      "_spent_of_lot": {
        Args: {
          "lot": Omit<
            Database["billing"]["Tables"]["credit_grants"]["Row"],
            Database["billing"]["Tables"]["credit_grants"]["ComputedFields"]
          >;
        };
        Returns: number;
      };
      "_spent_until": {
        Args: {
          "account_id": string;
          "last_entry_id": number;
          "period_start": string;
        };
        Returns: number;
      };
      "_stop_recharge": {
        Args: {
          "audience": string;
          "recharge": Omit<
            Database["billing"]["Tables"]["recharges"]["Row"],
            Database["billing"]["Tables"]["recharges"]["ComputedFields"]
          >;
        };
        Returns: undefined;
      };
      "_subscription_left_behind": {
        Args: { "account_id": string; "flow": string; "livemode": boolean };
        Returns: {
          "account_id": string | null;
          "anchors": (string)[];
          "as_of": string;
          "billing_cycle_anchor": string;
          "cancel_at": string | null;
          "cancel_at_period_end": boolean;
          "canceled_at": string | null;
          "created_at": string;
          "currency": string | null;
          "ended_at": string | null;
          "is_collection_paused": boolean;
          "livemode": boolean;
          "metadata": NonNullable<Json>;
          "started_at": string;
          "status": string;
          "stripe_customer_id": string;
          "stripe_subscription_id": string;
          "stripe_test_clock_id": string | null;
          "trial_end": string | null;
          "trial_start": string | null;
          "updated_at": string;
        };
        SetofOptions: {
          from: "*";
          to: "subscriptions";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      "_subscription_to_change": {
        Args: { "account_id": string; "flow": string; "livemode": boolean };
        Returns: {
          "account_id": string | null;
          "anchors": (string)[];
          "as_of": string;
          "billing_cycle_anchor": string;
          "cancel_at": string | null;
          "cancel_at_period_end": boolean;
          "canceled_at": string | null;
          "created_at": string;
          "currency": string | null;
          "ended_at": string | null;
          "is_collection_paused": boolean;
          "livemode": boolean;
          "metadata": NonNullable<Json>;
          "started_at": string;
          "status": string;
          "stripe_customer_id": string;
          "stripe_subscription_id": string;
          "stripe_test_clock_id": string | null;
          "trial_end": string | null;
          "trial_start": string | null;
          "updated_at": string;
        };
        SetofOptions: {
          from: "*";
          to: "subscriptions";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      "_supersede_requests": {
        Args: {
          "account_id": string;
          "has_trial": boolean;
          "idempotency_key": string;
          "plan": Omit<
            Database["billing"]["Tables"]["plans"]["Row"],
            Database["billing"]["Tables"]["plans"]["ComputedFields"]
          >;
        };
        Returns: Json;
      };
      "_sync_one_time_price": {
        Args: {
          "price": Omit<
            Database["billing"]["Tables"]["one_time_prices"]["Row"],
            Database["billing"]["Tables"]["one_time_prices"]["ComputedFields"]
          >;
        };
        Returns: string;
      };
      "_take_back": {
        Args: {
          "account_id": string;
          "amount": number;
          "business_key": string;
          "grant_ids": (number)[];
          "reason": string;
          "shortfall_policy": string;
        };
        Returns: undefined;
      };
      "_take_credits": {
        Args: {
          "actor"?: string;
          "amount": number;
          "balance": Omit<
            Database["billing"]["Tables"]["credit_balances"]["Row"],
            Database["billing"]["Tables"]["credit_balances"]["ComputedFields"]
          >;
          "description": string;
          "idempotency_key": string;
          "kind": string;
          "metadata"?: Json;
          "reference_id"?: string;
          "source": string;
        };
        Returns: {
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
        };
        SetofOptions: {
          from: "*";
          to: "credit_entries";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      "_take_in_invoice": {
        Args: {
          "invoice": Omit<
            Database["billing"]["Tables"]["invoices"]["Row"],
            Database["billing"]["Tables"]["invoices"]["ComputedFields"]
          >;
          "is_closed"?: boolean;
          "subscription": Omit<
            Database["billing"]["Tables"]["subscriptions"]["Row"],
            Database["billing"]["Tables"]["subscriptions"]["ComputedFields"]
          >;
        };
        Returns: string;
      };
      "_tell_of_dispute": {
        Args: {
          "before": string;
          "dispute": Omit<
            Database["billing"]["Tables"]["disputes"]["Row"],
            Database["billing"]["Tables"]["disputes"]["ComputedFields"]
          >;
        };
        Returns: undefined;
      };
      "_tell_of_failed_action": {
        Args: {
          "action": Omit<
            Database["billing"]["Tables"]["fraud_actions"]["Row"],
            Database["billing"]["Tables"]["fraud_actions"]["ComputedFields"]
          >;
        };
        Returns: undefined;
      };
      "_terms_at": {
        Args: { "moment": string; "stripe_price_id": string };
        Returns: {
          "cancel_credits": string;
          "downgrade_credits": string;
          "initial_credits": number;
          "monthly_credits": number;
          "proration_credits": string;
          "rollover": string;
          "rollover_cap": number | null;
          "rollover_periods": number | null;
          "stripe_price_id": string;
          "trial_credits": number;
          "trial_end_credits": string;
          "valid_from": string;
        };
        SetofOptions: {
          from: "*";
          to: "credit_terms";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      "_thaw": {
        Args: {
          "hold": Omit<
            Database["billing"]["Tables"]["credit_holds"]["Row"],
            Database["billing"]["Tables"]["credit_holds"]["ComputedFields"]
          >;
        };
        Returns: undefined;
      };
      "_thaw_lots": {
        Args: { "amount": number; "grant_ids": (number)[] };
        Returns: undefined;
      };
      "_time_of_account": {
        Args: { "account_id": string; "moment"?: string };
        Returns: string;
      };
      "_trial_days": {
        Args: {
          "account_id": string;
          "plan": Omit<
            Database["billing"]["Tables"]["plans"]["Row"],
            Database["billing"]["Tables"]["plans"]["ComputedFields"]
          >;
        };
        Returns: number;
      };
      "_waiting_reason": {
        Args: {
          "is_closed": boolean;
          "subscription": Omit<
            Database["billing"]["Tables"]["subscriptions"]["Row"],
            Database["billing"]["Tables"]["subscriptions"]["ComputedFields"]
          >;
        };
        Returns: string;
      };
      "_warning": {
        Args: { "stripe_early_fraud_warning_id": string };
        Returns: {
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
        };
        SetofOptions: {
          from: "*";
          to: "fraud_warnings";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      "_was_given": {
        Args: {
          "account_id": string;
          "kind": string;
          "stripe_price_id": string;
        };
        Returns: boolean;
      };
      "_with_session_id": { Args: { "url": string }; Returns: string };
      "_withdraw_for_review": {
        Args: {
          "lot": Omit<
            Database["billing"]["Tables"]["credit_grants"]["Row"],
            Database["billing"]["Tables"]["credit_grants"]["ComputedFields"]
          >;
          "seen": Omit<
            Database["billing"]["Tables"]["card_fingerprints"]["Row"],
            Database["billing"]["Tables"]["card_fingerprints"]["ComputedFields"]
          >;
        };
        Returns: undefined;
      };
      "_withhold": {
        Args: {
          "amount": number;
          "entry": Omit<
            Database["billing"]["Tables"]["credit_entries"]["Row"],
            Database["billing"]["Tables"]["credit_entries"]["ComputedFields"]
          >;
          "grant_id": number;
        };
        Returns: undefined;
      };
      "_without_repeats": {
        Args: { "account_id": string; "spends": Json };
        Returns: Json;
      };
      "_worth": {
        Args: {
          "from_moment": string;
          "stripe_subscription_ids": (string)[];
          "until_moment": string;
        };
        Returns: Database["billing"]["CompositeTypes"]["credit_move"][];
        SetofOptions: {
          from: "*";
          to: "credit_move";
          isOneToOne: false;
          isSetofReturn: true;
        };
      };
      "_worth_of_account": {
        Args: { "account_id": string };
        Returns: {
          "business_key": string;
          "credits": number;
          "expires_at": string;
          "is_waiting": boolean;
          "returned": number;
          "stripe_invoice_id": string;
        }[];
      };
      "_write_revocation": {
        Args: {
          "actor": string;
          "business_key"?: string;
          "idempotency_key": string;
          "key_space": string;
          "lot": Omit<
            Database["billing"]["Tables"]["credit_grants"]["Row"],
            Database["billing"]["Tables"]["credit_grants"]["ComputedFields"]
          >;
          "reason": string;
          "requested": number;
          "shortfall": number;
          "shortfall_policy": string;
          "taken": number;
        };
        Returns: {
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
        };
        SetofOptions: {
          from: "*";
          to: "credit_revocations";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      "account_discrepancies": {
        Args: { "account_id": string };
        Returns: {
          "account_id_of": string;
          "business_key": string;
          "detail": string;
          "expected": number;
          "found": number;
          "invariant": string;
        }[];
      };
      "account_emails": {
        Args: { "account_ids": (string)[] };
        Returns: {
          "account_id": string;
          "email": string;
        }[];
      };
      "account_entitlements": {
        Args: { "account_id": string };
        Returns: {
          "feature": string;
          "stripe_price_id": string;
          "stripe_subscription_id": string;
          "value": Json;
        }[];
      };
      "account_ledger_discrepancies": {
        Args: { "account_id": string };
        Returns: {
          "detail": string;
          "invariant": string;
        }[];
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
        Returns: {
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
        };
        SetofOptions: {
          from: "*";
          to: "credit_entries";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      "allocate_due_credits": {
        Args: { "accounts_max"?: number; "as_of"?: string };
        Returns: {
          "accounts": number;
          "credits_granted": number;
          "slots_granted": number;
        }[];
      };
      "allocate_postponed": {
        Args: Record<PropertyKey, never>;
        Returns: undefined;
      };
      "ask_stripe": {
        Args: {
          "event_id": string;
          "msg_id": number;
          "tie_kind": string;
          "tie_stripe_id": string;
        };
        Returns: undefined;
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
        Returns: {
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
        };
        SetofOptions: {
          from: "*";
          to: "credit_entries";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      "check_account": {
        Args: { "account_id": string };
        Returns: {
          "business_key": string;
          "detail": string;
          "expected": number;
          "found": number;
          "invariant": string;
        }[];
      };
      "claim_payment_link": {
        Args: { "options"?: Json; "pack": string; "plan": string };
        Returns: Json;
      };
      "claim_stripe_account": {
        Args: { "stripe_account_id": string };
        Returns: string;
      };
      "close_account": {
        Args: { "account_id": string; "actor": string; "reason": string };
        Returns: {
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
        SetofOptions: {
          from: "*";
          to: "accounts";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      "confirm_payment_link": {
        Args: { "stripe_payment_link_id": string };
        Returns: undefined;
      };
      "current_time": { Args: Record<PropertyKey, never>; Returns: string };
      "delay_recharge": {
        Args: {
          "delay_seconds": number;
          "reason": string;
          "recharge_id": string;
        };
        Returns: undefined;
      };
      "delay_stripe_event": {
        Args: {
          "delay_seconds": number;
          "event_id": string;
          "excused": boolean;
          "msg_id": number;
          "reason": string;
        };
        Returns: undefined;
      };
      "delete_price": {
        Args: { "as_of": string; "stripe_price_id": string };
        Returns: string;
      };
      "delete_product": {
        Args: { "as_of": string; "stripe_product_id": string };
        Returns: string;
      };
      "discard_checkout_key": {
        Args: { "idempotency_key": string };
        Returns: undefined;
      };
      "discard_payment_link_key": {
        Args: { "idempotency_key": string };
        Returns: undefined;
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
      "enqueue_deleted_users": {
        Args: Record<PropertyKey, never>;
        Returns: undefined;
      };
      "enqueue_expiring_credits": {
        Args: { "accounts_max": number; "after_account_id": string };
        Returns: string;
      };
      "enqueue_reminders": {
        Args: Record<PropertyKey, never>;
        Returns: undefined;
      };
      "ensure_account": { Args: { "user_id": string }; Returns: string };
      "expire_due_credits": {
        Args: { "accounts_max"?: number; "as_of"?: string };
        Returns: {
          "accounts": number;
          "credits_expired": number;
          "holds_expired": number;
          "lots_expired": number;
          "lots_opened": number;
        }[];
      };
      "extend_hold": {
        Args: { "expires_in": string; "hold_id": string };
        Returns: {
          "account_id": string;
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
        };
        SetofOptions: {
          from: "*";
          to: "credit_holds";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      "find_accounts": {
        Args: { "results_max": number; "search": string };
        Returns: string[];
      };
      "freeze_account": {
        Args: { "account_id": string; "actor": string; "reason": string };
        Returns: {
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
        Returns: {
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
        };
        SetofOptions: {
          from: "*";
          to: "credit_entries";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      "hand_back_stripe_events": {
        Args: Record<PropertyKey, never>;
        Returns: undefined;
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
          "amount": number;
          "description"?: string;
          "expires_in"?: string;
          "feature"?: string;
          "idempotency_key": string;
          "metadata"?: Json;
        };
        Returns: {
          "account_id": string;
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
        };
        SetofOptions: {
          from: "*";
          to: "credit_holds";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      "installation": {
        Args: Record<PropertyKey, never>;
        Returns: {
          "meaning": string;
          "name": string;
          "value": Json;
        }[];
      };
      "is_livemode": { Args: Record<PropertyKey, never>; Returns: boolean };
      "judge_fraud_warning": {
        Args: { "stripe_early_fraud_warning_id": string };
        Returns: {
          "action": string;
          "amount": number;
          "currency": string;
          "is_due": boolean;
          "reason": string;
          "stripe_subscription_id": string;
        }[];
      };
      "link_checkout_customer": {
        Args: {
          "account_id": string;
          "claim_token": string;
          "stripe_customer_id": string;
        };
        Returns: string;
      };
      "link_customer": {
        Args: {
          "account_id": string;
          "livemode"?: boolean;
          "stripe_customer_id": string;
        };
        Returns: undefined;
      };
      "lock_stripe_events": {
        Args: {
          "event_ids": (string)[];
          "postpone_months"?: boolean;
          "stripe_customer_ids": (string)[];
        };
        Returns: undefined;
      };
      "lost_messages": {
        Args: Record<PropertyKey, never>;
        Returns: {
          "detail": string;
          "invariant": string;
        }[];
      };
      "merge_customer": {
        Args: { "duplicate_of": string; "stripe_customer_id": string };
        Returns: undefined;
      };
      "my_account_ids": { Args: Record<PropertyKey, never>; Returns: string[] };
      "my_managed_account_ids": {
        Args: Record<PropertyKey, never>;
        Returns: string[];
      };
      "note_checkout_session": {
        Args: {
          "expired"?: (string)[];
          "idempotency_key": string;
          "stripe_checkout_session_id": string;
        };
        Returns: boolean;
      };
      "note_fraud": {
        Args: {
          "actor": string;
          "notes": string;
          "stripe_early_fraud_warning_id": string;
        };
        Returns: {
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
          "next_attempt_at": string | null;
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
        };
        SetofOptions: {
          from: "*";
          to: "fraud_actions";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      "note_payment_link": {
        Args: {
          "stripe_payment_link_id": string;
          "token": string;
          "url": string;
        };
        Returns: string;
      };
      "payment_reference": {
        Args: { "account_id": string; "expires_in"?: string };
        Returns: string;
      };
      "prepare_checkout": {
        Args: {
          "account_id"?: string;
          "cancel_url": string;
          "pack": string;
          "plan": string;
          "quantity": number;
          "save_card"?: boolean;
          "success_url": string;
          "user_id": string;
        };
        Returns: Json;
      };
      "prepare_payment_links": {
        Args: {
          "account_id"?: string;
          "pack": string;
          "plan": string;
          "user_id": string;
        };
        Returns: Json;
      };
      "prepare_portal": {
        Args: {
          "account_id"?: string;
          "flow": string;
          "return_url": string;
          "user_id": string;
        };
        Returns: Json;
      };
      "prove_accounts": {
        Args: { "accounts_max": number; "milliseconds_max"?: number };
        Returns: {
          "accounts": number;
          "discrepancies": number;
        }[];
      };
      "prune_events": { Args: { "rows_max": number }; Returns: number };
      "prune_notifications": { Args: { "rows_max": number }; Returns: number };
      "read_stripe_events": {
        Args: {
          "batch_size": number;
          "due_within_seconds"?: number;
          "visibility_seconds": number;
        };
        Returns: {
          "api_version": string;
          "attempts": number;
          "created_at": string;
          "msg_id": number;
          "payload": string;
          "read_ct": number;
          "stripe_event_id": string;
          "type": string;
        }[];
      };
      "receive_stripe_event": {
        Args: {
          "api_version": string;
          "created": number;
          "event_id": string;
          "livemode": boolean;
          "payload": string;
          "type": string;
        };
        Returns: string;
      };
      "record_card": {
        Args: {
          "card_fingerprint": string;
          "livemode": boolean;
          "seen_at": string;
          "stripe_customer_id": string;
        };
        Returns: string;
      };
      "record_fraud_warning": {
        Args: {
          "actionable": boolean;
          "as_of": string;
          "fraud_type": string;
          "livemode": boolean;
          "risk_level": string;
          "risk_score": number;
          "stripe_charge_id": string;
          "stripe_customer_id": string;
          "stripe_early_fraud_warning_id": string;
          "stripe_payment_intent_id": string;
          "warned_at": string;
        };
        Returns: string;
      };
      "record_saved_card": {
        Args: {
          "as_of": string;
          "card_brand": string;
          "card_exp_month": number;
          "card_exp_year": number;
          "card_last4": string;
          "livemode": boolean;
          "stripe_customer_id": string;
          "stripe_payment_method_id": string;
        };
        Returns: string;
      };
      "refund_fraud_warning": {
        Args: {
          "actor": string;
          "reason": string;
          "stripe_early_fraud_warning_id": string;
        };
        Returns: {
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
          "next_attempt_at": string | null;
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
        };
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
        Returns: {
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
        };
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
        Returns: {
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
        SetofOptions: {
          from: "*";
          to: "credit_reinstatements";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      "release_hold": {
        Args: { "hold_id": string; "idempotency_key": string };
        Returns: {
          "account_id": string;
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
        };
        SetofOptions: {
          from: "*";
          to: "credit_holds";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      "release_stripe_events": {
        Args: { "delay_seconds": number };
        Returns: undefined;
      };
      "reopen_account": {
        Args: { "account_id": string };
        Returns: {
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
        SetofOptions: {
          from: "*";
          to: "accounts";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      "replace_payment_link": {
        Args: { "name": string; "stripe_payment_link_id": string };
        Returns: Json;
      };
      "requeue_stripe_events": {
        Args: Record<PropertyKey, never>;
        Returns: number;
      };
      "resolve_fraud_warning": {
        Args: {
          "actor": string;
          "decision": string;
          "notes": string;
          "stripe_early_fraud_warning_id": string;
        };
        Returns: {
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
        };
        SetofOptions: {
          from: "*";
          to: "fraud_warnings";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      "retire_payment_links": {
        Args: { "name": string };
        Returns: {
          "active": boolean;
          "attempts": number;
          "confirmed_at": string | null;
          "created_at": string;
          "deactivate_at": string | null;
          "deactivated_at": string | null;
          "id": string;
          "idempotency_key": string;
          "keyed_at": string;
          "last_error": string | null;
          "livemode": boolean;
          "may_exist": boolean;
          "options": NonNullable<Json>;
          "params": NonNullable<Json>;
          "params_hash": string;
          "retired_at": string | null;
          "retired_reason": string | null;
          "stripe_payment_link_id": string | null;
          "stripe_price_id": string;
          "updated_at": string;
          "url": string | null;
        }[];
        SetofOptions: {
          from: "*";
          to: "payment_links";
          isOneToOne: false;
          isSetofReturn: true;
        };
      };
      "retry_notification": {
        Args: { "notification_id": number };
        Returns: string;
      };
      "retry_stripe_event": { Args: { "event_id": string }; Returns: string };
      "review_held_credits": {
        Args: {
          "actor": string;
          "decision": string;
          "id": number;
          "reason": string;
        };
        Returns: {
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
        };
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
        Returns: {
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
        };
        SetofOptions: {
          from: "*";
          to: "credit_revocations";
          isOneToOne: true;
          isSetofReturn: false;
        };
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
        Returns: {
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
        };
        SetofOptions: {
          from: "*";
          to: "credit_grants";
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
        Returns: {
          "account_id": string;
          "balance": number;
          "carried": number;
          "debt": number;
          "epoch": number;
          "held": number;
          "is_low": boolean;
          "low_balance_threshold": number | null;
          "may_spend": boolean;
          "next_due_at": string | null;
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
        };
        SetofOptions: {
          from: "*";
          to: "credit_balances";
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
        Returns: {
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
        SetofOptions: {
          from: "*";
          to: "recharge_settings";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      "settle_email_change": {
        Args: {
          "new_email": string;
          "reason": string;
          "retry_in_seconds": number;
          "stripe_customer_id": string;
        };
        Returns: undefined;
      };
      "settle_fraud_action": {
        Args: {
          "id": number;
          "is_in_doubt": boolean;
          "outcome": string;
          "reason": string;
          "retry_in_seconds": number;
          "stripe_refund_id": string;
        };
        Returns: undefined;
      };
      "settle_notification": {
        Args: {
          "attempts": number;
          "delivered_to": (string)[];
          "notification_id": number;
          "reason": string;
          "retry_in_seconds": number;
          "status": string;
        };
        Returns: string;
      };
      "settle_recharge": {
        Args: {
          "action_url": string;
          "audience": string;
          "is_final": boolean;
          "reason": string;
          "recharge_id": string;
          "status": string;
          "stripe_payment_intent_id": string;
          "stripe_payment_method_id": string;
        };
        Returns: string;
      };
      "settle_retired_link": {
        Args: {
          "link_id": string;
          "reason": string;
          "retry_in_seconds": number;
        };
        Returns: undefined;
      };
      "settle_stripe_events": {
        Args: {
          "event_ids": (string)[];
          "msg_ids": (number)[];
          "reasons": (string)[];
          "statuses": (string)[];
          "waiting_for": (string)[];
        };
        Returns: undefined;
      };
      "settled_balance": {
        Args: {
          "balance": Omit<
            Database["billing"]["Tables"]["credit_balances"]["Row"],
            Database["billing"]["Tables"]["credit_balances"]["ComputedFields"]
          >;
        };
        Returns: {
          "account_id": string;
          "balance": number;
          "carried": number;
          "debt": number;
          "epoch": number;
          "held": number;
          "is_low": boolean;
          "low_balance_threshold": number | null;
          "may_spend": boolean;
          "next_due_at": string | null;
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
        };
        SetofOptions: {
          from: "billing.credit_balances";
          to: "credit_balances";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      "spend_credits": {
        Args: {
          "account_id": string;
          "amount": number;
          "description"?: string;
          "feature"?: string;
          "idempotency_key": string;
          "metadata"?: Json;
          "reference_id"?: string;
          "up_to"?: boolean;
        };
        Returns: {
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
        };
        SetofOptions: {
          from: "*";
          to: "credit_entries";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      "spend_credits_batch": {
        Args: { "spends": Json };
        Returns: {
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
        }[];
        SetofOptions: {
          from: "*";
          to: "credit_entries";
          isOneToOne: false;
          isSetofReturn: true;
        };
      };
      "start_worker": { Args: Record<PropertyKey, never>; Returns: undefined };
      "stripe_account": {
        Args: Record<PropertyKey, never>;
        Returns: {
          "livemode": boolean;
          "stripe_account_id": string;
          "witness_event_id": string;
        }[];
      };
      "sync_checkout_session": {
        Args: {
          "amount_total": number;
          "as_of": string;
          "client_reference_id": string;
          "currency": string;
          "lines": Json;
          "livemode": boolean;
          "mode": string;
          "opened_at": string;
          "payment_status": string;
          "status": string;
          "stripe_checkout_session_id": string;
          "stripe_customer_id": string;
          "stripe_invoice_id": string;
          "stripe_payment_intent_id": string;
          "stripe_payment_link_id": string;
          "stripe_subscription_id": string;
        };
        Returns: string;
      };
      "sync_credit_note": {
        Args: {
          "amount": number;
          "amount_refunded": number;
          "as_of": string;
          "currency": string;
          "lines": Json;
          "livemode": boolean;
          "noted_at": string;
          "pre_payment_amount": number;
          "reason": string;
          "status": string;
          "stripe_credit_note_id": string;
          "stripe_invoice_id": string;
          "stripe_refund_ids": (string)[];
        };
        Returns: string;
      };
      "sync_customer": {
        Args: {
          "as_of": string;
          "email": string;
          "is_deleted": boolean;
          "livemode": boolean;
          "name": string;
          "stripe_customer_id": string;
        };
        Returns: string;
      };
      "sync_dispute": {
        Args: {
          "amount": number;
          "as_of": string;
          "currency": string;
          "disputed_at": string;
          "evidence_due_at": string;
          "livemode": boolean;
          "reason": string;
          "status": string;
          "stripe_charge_id": string;
          "stripe_dispute_id": string;
          "stripe_payment_intent_id": string;
        };
        Returns: string;
      };
      "sync_invoice": {
        Args: {
          "amount_due": number;
          "amount_paid": number;
          "as_of": string;
          "attempt_count": number;
          "billing_reason": string;
          "collection_method": string;
          "currency": string;
          "hosted_invoice_url": string;
          "invoiced_at": string;
          "lines": Json;
          "livemode": boolean;
          "next_payment_attempt_at": string;
          "paid_at": string;
          "status": string;
          "stripe_customer_id": string;
          "stripe_invoice_id": string;
          "stripe_subscription_id": string;
          "subtotal": number;
          "total": number;
        };
        Returns: string;
      };
      "sync_invoice_payment": {
        Args: {
          "amount_paid": number;
          "currency": string;
          "livemode": boolean;
          "paid_at": string;
          "status": string;
          "stripe_charge_id": string;
          "stripe_invoice_id": string;
          "stripe_invoice_payment_id": string;
          "stripe_payment_intent_id": string;
        };
        Returns: string;
      };
      "sync_payment": {
        Args: {
          "amount": number;
          "amount_refunded": number;
          "as_of": string;
          "card_fingerprint": string;
          "charged_at": string;
          "currency": string;
          "failure_code": string;
          "is_disputed": boolean;
          "is_liability_shifted": boolean;
          "livemode": boolean;
          "receipt_url": string;
          "risk_level": string;
          "risk_score": number;
          "status": string;
          "stripe_charge_id": string;
          "stripe_customer_id": string;
          "stripe_payment_intent_id": string;
        };
        Returns: string;
      };
      "sync_payment_intent": {
        Args: {
          "amount": number;
          "amount_received": number;
          "as_of": string;
          "created_at": string;
          "currency": string;
          "failure_code": string;
          "livemode": boolean;
          "metadata": Json;
          "status": string;
          "stripe_charge_id": string;
          "stripe_customer_id": string;
          "stripe_payment_intent_id": string;
          "stripe_payment_method_id": string;
        };
        Returns: string;
      };
      "sync_payment_link": {
        Args: {
          "active": boolean;
          "livemode": boolean;
          "stripe_payment_link_id": string;
          "token": string;
          "url": string;
        };
        Returns: string;
      };
      "sync_price": {
        Args: {
          "active": boolean;
          "as_of": string;
          "currency": string;
          "has_custom_amount": boolean;
          "livemode": boolean;
          "lookup_key": string;
          "metadata": Json;
          "nickname": string;
          "recurring_interval": string;
          "recurring_interval_count": number;
          "stripe_price_id": string;
          "stripe_product_id": string;
          "type": string;
          "unit_amount": number;
          "usage_type": string;
        };
        Returns: string;
      };
      "sync_product": {
        Args: {
          "active": boolean;
          "as_of": string;
          "description": string;
          "livemode": boolean;
          "metadata": Json;
          "name": string;
          "stripe_product_id": string;
        };
        Returns: string;
      };
      "sync_refund": {
        Args: {
          "amount": number;
          "as_of": string;
          "currency": string;
          "failure_reason": string;
          "reason": string;
          "refunded_at": string;
          "status": string;
          "stripe_charge_id": string;
          "stripe_payment_intent_id": string;
          "stripe_refund_id": string;
        };
        Returns: string;
      };
      "sync_review": {
        Args: {
          "as_of": string;
          "closed_reason": string;
          "is_open": boolean;
          "livemode": boolean;
          "opened_at": string;
          "reason": string;
          "stripe_charge_id": string;
          "stripe_payment_intent_id": string;
          "stripe_review_id": string;
        };
        Returns: string;
      };
      "sync_subscription": {
        Args: {
          "as_of": string;
          "billing_cycle_anchor": string;
          "cancel_at": string;
          "cancel_at_period_end": boolean;
          "canceled_at": string;
          "currency": string;
          "ended_at": string;
          "is_collection_paused": boolean;
          "is_fetched": boolean;
          "items": Json;
          "livemode": boolean;
          "metadata": Json;
          "started_at": string;
          "status": string;
          "stripe_customer_id": string;
          "stripe_subscription_id": string;
          "stripe_test_clock_id": string;
          "trial_end": string;
          "trial_start": string;
        };
        Returns: string;
      };
      "sync_test_clock": {
        Args: {
          "frozen_at": string;
          "livemode": boolean;
          "stripe_test_clock_id": string;
        };
        Returns: string;
      };
      "take_email_changes": {
        Args: { "changes_max": number; "lease_seconds": number };
        Returns: {
          "attempts": number;
          "new_email": string;
          "old_emails": (string)[];
          "stripe_customer_id": string;
        }[];
      };
      "take_fraud_actions": {
        Args: { "actions_max": number; "lease_seconds": number };
        Returns: {
          "action": string;
          "attempts": number;
          "id": number;
          "idempotency_key": string;
          "stripe_charge_id": string;
          "stripe_subscription_id": string;
          "was_in_doubt": boolean;
        }[];
      };
      "take_notifications": {
        Args: {
          "audiences": (string)[];
          "lease_seconds": number;
          "messages_max": number;
        };
        Returns: {
          "account_id": string;
          "attempts": number;
          "audience": string;
          "created_at": string;
          "delivered_to": (string)[];
          "digest_size": number;
          "email": string;
          "first": Json;
          "id": number;
          "kind": string;
          "payload": Json;
        }[];
      };
      "take_recharges": {
        Args: { "lease_seconds": number; "recharges_max": number };
        Returns: {
          "age_seconds": number;
          "amount": number;
          "attempts": number;
          "barred": (string)[];
          "currency": string;
          "first_attempt_at": string;
          "id": string;
          "return_url": string;
          "stripe_customer_id": string;
          "stripe_payment_intent_id": string;
          "stripe_price_id": string;
        }[];
      };
      "take_retired_links": {
        Args: { "lease_seconds": number; "links_max": number };
        Returns: {
          "attempts": number;
          "id": string;
          "stripe_payment_link_id": string;
        }[];
      };
      "take_stripe_lookups": {
        Args: { "lease_seconds": number; "lookups_max": number };
        Returns: {
          "api_version": string;
          "attempts": number;
          "created_at": string;
          "msg_id": number;
          "payload": string;
          "read_ct": number;
          "stripe_event_id": string;
          "tie_kind": string;
          "tie_stripe_id": string;
          "type": string;
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
        Returns: {
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
        };
        SetofOptions: {
          from: "*";
          to: "credit_entries";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      "undo_fraud_action": {
        Args: { "actor": string; "id": number; "reason": string };
        Returns: {
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
          "next_attempt_at": string | null;
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
        };
        SetofOptions: {
          from: "*";
          to: "fraud_actions";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      "unfreeze_account": {
        Args: { "account_id": string; "actor": string; "reason": string };
        Returns: {
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
        SetofOptions: {
          from: "*";
          to: "accounts";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      "use_pg_cron": { Args: Record<PropertyKey, never>; Returns: undefined };
      "worker_state": {
        Args: Record<PropertyKey, never>;
        Returns: {
          "messages_waiting": number;
          "oldest_message_at": string;
          "queue_length": number;
          "workers": number;
        }[];
      };
    };
    Enums: {
      [_ in never]: never;
    };
    CompositeTypes: {
      "credit_move": {
        "key": string | null;
        "account_id": string | null;
        "stripe_subscription_id": string | null;
        "stripe_subscription_item_id": string | null;
        "stripe_invoice_id": string | null;
        "stripe_price_id": string | null;
        "source": string | null;
        "moment": string | null;
        "slot_start": string | null;
        "credits": number | null;
        "returned": number | null;
        "expires_at": string | null;
        "rollover": string | null;
        "rollover_cap": number | null;
        "is_waiting": boolean | null;
      };
      "declared_pack": {
        "pack_credits": number | null;
        "credits_per_unit": number | null;
        "expires_after": string | null;
      };
      "line_slot": {
        "stripe_line_id": string | null;
        "account_id": string | null;
        "stripe_subscription_id": string | null;
        "stripe_subscription_item_id": string | null;
        "stripe_invoice_id": string | null;
        "stripe_price_id": string | null;
        "gives_back": boolean | null;
        "is_free": boolean | null;
        "is_plain": boolean | null;
        "has_returns": boolean | null;
        "is_reached": boolean | null;
        "is_waiting": boolean | null;
        "period_start": string | null;
        "slot_start": string | null;
        "slot_end": string | null;
        "moment": string | null;
        "whole_credits": number | null;
        "line_seconds": number | null;
        "slot_seconds": number | null;
        "expires_at": string | null;
        "rollover": string | null;
        "rollover_cap": number | null;
        "proration_credits": string | null;
        "downgrade_credits": string | null;
      };
      "returned_money": {
        "returned_at": string | null;
        "amount": number | null;
        "stripe_line_id": string | null;
        "is_contested": boolean | null;
      };
    };
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
          "status": string | null;
        };
        ComputedFields: never;
        Insert: {
          "account_id"?: string | null;
          "closed_at"?: string | null;
          "frozen_at"?: string | null;
          "frozen_reason"?: never;
          "kind"?: string | null;
          "status"?: never;
        };
        Update: {
          "account_id"?: string | null;
          "closed_at"?: string | null;
          "frozen_at"?: string | null;
          "frozen_reason"?: never;
          "kind"?: string | null;
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
    };
    Functions: {
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
      "spend_credits": {
        Args: {
          "account_id": string;
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
  }
    ? keyof DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions["schema"]][
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
  }
    ? keyof DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions["schema"]][
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
  }
    ? keyof DatabaseWithoutInternals[DefaultSchemaEnumNameOrOptions["schema"]][
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
  }
    ? keyof DatabaseWithoutInternals[
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

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
        ];
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
            foreignKeyName: "card_fingerprints_stripe_customer_id_fkey";
            columns: ["stripe_customer_id"];
            isOneToOne: false;
            referencedRelation: "customers";
            referencedColumns: ["stripe_customer_id"];
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
          "payment_status": string;
          "status": string;
          "stripe_checkout_session_id": string;
          "stripe_customer_id": string | null;
          "stripe_invoice_id": string | null;
          "stripe_payment_intent_id": string | null;
          "stripe_payment_link_id": string | null;
          "stripe_subscription_id": string | null;
          "updated_at": string;
          "_grant_packs": undefined | null;
        };
        ComputedFields: "_grant_packs";
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
          "debt": number;
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
          "_in_running_period": {
            "account_id": string;
            "balance": number;
            "debt": number;
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
          } | null;
          "available_when_settled": number | null;
        };
        ComputedFields: "_in_running_period" | "available_when_settled";
        Insert: {
          "account_id": string;
          "balance"?: number;
          "debt"?: number;
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
        };
        Update: {
          "account_id"?: string;
          "balance"?: number;
          "debt"?: number;
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
        };
        Relationships: [
          {
            foreignKeyName: "credit_balances_account_id_fkey";
            columns: ["account_id"];
            isOneToOne: true;
            referencedRelation: "accounts";
            referencedColumns: ["id"];
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
          "created_at": string;
          "description": string | null;
          "effective_at": string;
          "entry_id": number | null;
          "expires_at": string | null;
          "held": number;
          "id": number;
          "idempotency_key": string;
          "key_space": string;
          "priority": number;
          "reference_id": string | null;
          "remaining": number;
          "source": string;
          "stripe_checkout_session_id": string | null;
          "stripe_invoice_id": string | null;
          "stripe_payment_intent_id": string | null;
          "stripe_price_id": string | null;
          "stripe_subscription_item_id": string | null;
          "_open_scheduled_lot": undefined | null;
          "_spent_of_lot": number | null;
        };
        ComputedFields: "_open_scheduled_lot" | "_spent_of_lot";
        Insert: {
          "account_id": string;
          "amount": number;
          "closed_at"?: string | null;
          "created_at"?: string;
          "description"?: string | null;
          "effective_at": string;
          "entry_id"?: number | null;
          "expires_at"?: string | null;
          "held"?: number;
          "id"?: never;
          "idempotency_key": string;
          "key_space": string;
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
          "created_at"?: string;
          "description"?: string | null;
          "effective_at"?: string;
          "entry_id"?: number | null;
          "expires_at"?: string | null;
          "held"?: number;
          "id"?: never;
          "idempotency_key"?: string;
          "key_space"?: string;
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
          "id": string;
          "idempotency_key": string;
          "metadata": NonNullable<Json>;
          "release_key": string | null;
          "settled_at": string | null;
          "status": string;
          "_check_held": undefined | null;
        };
        ComputedFields: "_check_held";
        Insert: {
          "account_id": string;
          "amount": number;
          "captured"?: number;
          "created_at"?: string;
          "description"?: string | null;
          "expires_at": string;
          "expires_in": string;
          "feature"?: string | null;
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
        ];
      };
      "credit_packs": {
        Row: {
          "active": boolean;
          "as_of": string;
          "created_at": string;
          "currency": string;
          "livemode": boolean;
          "lookup_key": string | null;
          "metadata": NonNullable<Json>;
          "nickname": string | null;
          "pack_credits": number;
          "stripe_price_id": string;
          "stripe_product_id": string;
          "unit_amount": number | null;
          "updated_at": string;
        };
        ComputedFields: never;
        Insert: {
          "active"?: boolean;
          "as_of"?: string;
          "created_at"?: string;
          "currency"?: string;
          "livemode"?: boolean;
          "lookup_key"?: string | null;
          "metadata"?: NonNullable<Json>;
          "nickname"?: string | null;
          "pack_credits": number;
          "stripe_price_id": string;
          "stripe_product_id": string;
          "unit_amount"?: number | null;
          "updated_at"?: string;
        };
        Update: {
          "active"?: boolean;
          "as_of"?: string;
          "created_at"?: string;
          "currency"?: string;
          "livemode"?: boolean;
          "lookup_key"?: string | null;
          "metadata"?: NonNullable<Json>;
          "nickname"?: string | null;
          "pack_credits"?: number;
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
      "credit_prorations": {
        Row: {
          "account_id": string;
          "changed_at": string;
          "created_at": string;
          "granted": number;
          "net": number;
          "policy": string;
          "slot_end": string;
          "stripe_invoice_id": string;
          "stripe_price_id": string;
          "stripe_subscription_id": string;
          "stripe_subscription_item_id": string;
          "updated_at": string;
        };
        ComputedFields: never;
        Insert: {
          "account_id": string;
          "changed_at": string;
          "created_at"?: string;
          "granted"?: number;
          "net": number;
          "policy": string;
          "slot_end": string;
          "stripe_invoice_id": string;
          "stripe_price_id": string;
          "stripe_subscription_id": string;
          "stripe_subscription_item_id": string;
          "updated_at"?: string;
        };
        Update: {
          "account_id"?: string;
          "changed_at"?: string;
          "created_at"?: string;
          "granted"?: number;
          "net"?: number;
          "policy"?: string;
          "slot_end"?: string;
          "stripe_invoice_id"?: string;
          "stripe_price_id"?: string;
          "stripe_subscription_id"?: string;
          "stripe_subscription_item_id"?: string;
          "updated_at"?: string;
        };
        Relationships: [
          {
            foreignKeyName: "credit_prorations_account_id_fkey";
            columns: ["account_id"];
            isOneToOne: false;
            referencedRelation: "accounts";
            referencedColumns: ["id"];
          },
          {
            foreignKeyName: "credit_prorations_stripe_invoice_id_fkey";
            columns: ["stripe_invoice_id"];
            isOneToOne: true;
            referencedRelation: "invoices";
            referencedColumns: ["stripe_invoice_id"];
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
        };
        ComputedFields: never;
        Insert: {
          "account_id": string;
          "actor"?: string | null;
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
        };
        Update: {
          "account_id"?: string;
          "actor"?: string | null;
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
          "deducted": number;
          "disarmed_reason": string | null;
          "ends_at": string;
          "is_change": boolean;
          "last_slot_at": string | null;
          "next_slot_at": string | null;
          "period_end": string;
          "period_start": string;
          "quantity": number;
          "slots_granted": number;
          "stripe_invoice_id": string;
          "stripe_price_id": string;
          "stripe_subscription_id": string;
          "stripe_subscription_item_id": string;
          "updated_at": string;
        };
        ComputedFields: never;
        Insert: {
          "account_id": string;
          "anchor": string;
          "created_at"?: string;
          "deducted"?: number;
          "disarmed_reason"?: string | null;
          "ends_at": string;
          "is_change": boolean;
          "last_slot_at"?: string | null;
          "next_slot_at"?: string | null;
          "period_end": string;
          "period_start": string;
          "quantity": number;
          "slots_granted"?: number;
          "stripe_invoice_id": string;
          "stripe_price_id": string;
          "stripe_subscription_id": string;
          "stripe_subscription_item_id": string;
          "updated_at"?: string;
        };
        Update: {
          "account_id"?: string;
          "anchor"?: string;
          "created_at"?: string;
          "deducted"?: number;
          "disarmed_reason"?: string | null;
          "ends_at"?: string;
          "is_change"?: boolean;
          "last_slot_at"?: string | null;
          "next_slot_at"?: string | null;
          "period_end"?: string;
          "period_start"?: string;
          "quantity"?: number;
          "slots_granted"?: number;
          "stripe_invoice_id"?: string;
          "stripe_price_id"?: string;
          "stripe_subscription_id"?: string;
          "stripe_subscription_item_id"?: string;
          "updated_at"?: string;
        };
        Relationships: [
          {
            foreignKeyName: "credit_schedules_account_id_fkey";
            columns: ["account_id"];
            isOneToOne: false;
            referencedRelation: "accounts";
            referencedColumns: ["id"];
          },
          {
            foreignKeyName: "credit_schedules_stripe_invoice_id_fkey";
            columns: ["stripe_invoice_id"];
            isOneToOne: false;
            referencedRelation: "invoices";
            referencedColumns: ["stripe_invoice_id"];
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
        ];
      };
      "customers": {
        Row: {
          "account_id": string | null;
          "as_of": string;
          "created_at": string;
          "deleted_at": string | null;
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
            foreignKeyName: "customers_duplicate_of_fkey";
            columns: ["duplicate_of"];
            isOneToOne: false;
            referencedRelation: "customers";
            referencedColumns: ["stripe_customer_id"];
          },
        ];
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
          "_freeze_on_warning": undefined | null;
        };
        ComputedFields: "_freeze_on_warning";
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
            foreignKeyName: "held_credits_matched_account_id_fkey";
            columns: ["matched_account_id"];
            isOneToOne: false;
            referencedRelation: "accounts";
            referencedColumns: ["id"];
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
          "is_proration": boolean;
          "is_waiting": boolean;
          "period_end": string;
          "period_start": string;
          "quantity": number | null;
          "stripe_invoice_id": string;
          "stripe_line_id": string;
          "stripe_price_id": string | null;
          "stripe_subscription_item_id": string | null;
        };
        ComputedFields: never;
        Insert: {
          "amount": number;
          "is_proration": boolean;
          "is_waiting"?: boolean;
          "period_end": string;
          "period_start": string;
          "quantity"?: number | null;
          "stripe_invoice_id": string;
          "stripe_line_id": string;
          "stripe_price_id"?: string | null;
          "stripe_subscription_item_id"?: string | null;
        };
        Update: {
          "amount"?: number;
          "is_proration"?: boolean;
          "is_waiting"?: boolean;
          "period_end"?: string;
          "period_start"?: string;
          "quantity"?: number | null;
          "stripe_invoice_id"?: string;
          "stripe_line_id"?: string;
          "stripe_price_id"?: string | null;
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
          "amount_due": number;
          "amount_paid": number;
          "as_of": string;
          "attempt_count": number;
          "billing_reason": string | null;
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
          "_check_linked": undefined | null;
          "_grant_paid_lines": undefined | null;
          "_net_of_changes": number | null;
        };
        ComputedFields:
          | "_check_linked"
          | "_grant_paid_lines"
          | "_net_of_changes";
        Insert: {
          "account_id"?: string | null;
          "amount_due": number;
          "amount_paid": number;
          "as_of": string;
          "attempt_count"?: number;
          "billing_reason"?: string | null;
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
          "amount_due"?: number;
          "amount_paid"?: number;
          "as_of"?: string;
          "attempt_count"?: number;
          "billing_reason"?: string | null;
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
          "id": number;
          "kind": string;
          "last_error": string | null;
          "payload": NonNullable<Json>;
          "status": string;
        };
        ComputedFields: never;
        Insert: {
          "account_id"?: string | null;
          "attempts"?: number;
          "audience": string;
          "created_at"?: string;
          "dedupe_key": string;
          "delivered_at"?: string | null;
          "id"?: never;
          "kind": string;
          "last_error"?: string | null;
          "payload"?: NonNullable<Json>;
          "status"?: string;
        };
        Update: {
          "account_id"?: string | null;
          "attempts"?: number;
          "audience"?: string;
          "created_at"?: string;
          "dedupe_key"?: string;
          "delivered_at"?: string | null;
          "id"?: never;
          "kind"?: string;
          "last_error"?: string | null;
          "payload"?: NonNullable<Json>;
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
        ];
      };
      "payment_links": {
        Row: {
          "active": boolean;
          "canonical_hash": string;
          "created_at": string;
          "livemode": boolean;
          "parameters": NonNullable<Json>;
          "stripe_payment_link_id": string;
          "stripe_price_id": string;
          "updated_at": string;
          "url": string;
        };
        ComputedFields: never;
        Insert: {
          "active"?: boolean;
          "canonical_hash": string;
          "created_at"?: string;
          "livemode": boolean;
          "parameters"?: NonNullable<Json>;
          "stripe_payment_link_id": string;
          "stripe_price_id": string;
          "updated_at"?: string;
          "url": string;
        };
        Update: {
          "active"?: boolean;
          "canonical_hash"?: string;
          "created_at"?: string;
          "livemode"?: boolean;
          "parameters"?: NonNullable<Json>;
          "stripe_payment_link_id"?: string;
          "stripe_price_id"?: string;
          "updated_at"?: string;
          "url"?: string;
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
          "stripe_price_id": string;
          "stripe_product_id": string;
          "trial_credits": number;
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
          "stripe_price_id": string;
          "stripe_product_id": string;
          "trial_credits"?: number;
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
          "stripe_price_id"?: string;
          "stripe_product_id"?: string;
          "trial_credits"?: number;
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
        ];
      };
      "refunds": {
        Row: {
          "amount": number;
          "as_of": string;
          "created_at": string;
          "currency": string;
          "failure_reason": string | null;
          "livemode": boolean;
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
          "livemode": boolean;
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
          "livemode"?: boolean;
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
        ];
      };
      "settings": {
        Row: {
          "allow_promotion_codes": boolean;
          "allowed_redirect_origins": (string)[];
          "automatic_tax": boolean;
          "checkout_branding": Json | null;
          "id": boolean;
          "initial_credits_per": string;
          "livemode": boolean;
          "max_checkout_quantity": number;
          "one_subscription_per": string;
          "past_due_keeps_features": boolean;
          "seen_card_policy": string | null;
          "site_url": string | null;
          "updated_at": string;
        };
        ComputedFields: never;
        Insert: {
          "allow_promotion_codes"?: boolean;
          "allowed_redirect_origins"?: (string)[];
          "automatic_tax"?: boolean;
          "checkout_branding"?: Json | null;
          "id"?: boolean;
          "initial_credits_per"?: string;
          "livemode"?: boolean;
          "max_checkout_quantity"?: number;
          "one_subscription_per"?: string;
          "past_due_keeps_features"?: boolean;
          "seen_card_policy"?: string | null;
          "site_url"?: string | null;
          "updated_at"?: string;
        };
        Update: {
          "allow_promotion_codes"?: boolean;
          "allowed_redirect_origins"?: (string)[];
          "automatic_tax"?: boolean;
          "checkout_branding"?: Json | null;
          "id"?: boolean;
          "initial_credits_per"?: string;
          "livemode"?: boolean;
          "max_checkout_quantity"?: number;
          "one_subscription_per"?: string;
          "past_due_keeps_features"?: boolean;
          "seen_card_policy"?: string | null;
          "site_url"?: string | null;
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
          "payload": string;
          "received_at": string;
          "settled_at": string | null;
          "status": string;
          "stripe_event_id": string;
          "type": string;
          "waiting_for": string | null;
        };
        ComputedFields: never;
        Insert: {
          "api_version"?: string | null;
          "attempts"?: number;
          "created_at": string;
          "excused_attempts"?: number;
          "last_error"?: string | null;
          "livemode": boolean;
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
          "trial_end": string | null;
          "trial_start": string | null;
          "updated_at": string;
          "_arm_schedules": undefined | null;
          "_grant_trial": undefined | null;
        };
        ComputedFields: "_arm_schedules" | "_grant_trial";
        Insert: {
          "account_id"?: string | null;
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
          "trial_end"?: string | null;
          "trial_start"?: string | null;
          "updated_at"?: string;
        };
        Update: {
          "account_id"?: string | null;
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
            foreignKeyName: "subscriptions_stripe_customer_id_fkey";
            columns: ["stripe_customer_id"];
            isOneToOne: false;
            referencedRelation: "customers";
            referencedColumns: ["stripe_customer_id"];
          },
        ];
      };
    };
    Views: {
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
      "_adopt_customer": {
        Args: { "account_id": string; "stripe_customer_id": string };
        Returns: undefined;
      };
      "_allocate_slots": {
        Args: { "account_ids": (string)[]; "as_of": string };
        Returns: {
          "accounts_done": number;
          "credits_granted": number;
          "slots_granted": number;
        }[];
      };
      "_anchor_of_period": {
        Args: {
          "period_end": string;
          "period_start": string;
          "plan": Omit<
            Database["billing"]["Tables"]["plans"]["Row"],
            Database["billing"]["Tables"]["plans"]["ComputedFields"]
          >;
          "subscription": Omit<
            Database["billing"]["Tables"]["subscriptions"]["Row"],
            Database["billing"]["Tables"]["subscriptions"]["ComputedFields"]
          >;
        };
        Returns: string;
      };
      "_are_origins": { Args: { "urls": (string)[] }; Returns: boolean };
      "_arm_recharge": { Args: { "account_id": string }; Returns: undefined };
      "_arm_schedules": {
        Args: {
          "subscription": Omit<
            Database["billing"]["Tables"]["subscriptions"]["Row"],
            Database["billing"]["Tables"]["subscriptions"]["ComputedFields"]
          >;
        };
        Returns: undefined;
      };
      "_burn_lots": {
        Args: { "account_id": string; "amount": number; "entry_id": number };
        Returns: number;
      };
      "_change_ends": {
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
        Returns: string;
      };
      "_change_starts": {
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
        Returns: string;
      };
      "_changes": {
        Args: { "stripe_invoice_id": string };
        Returns: {
          "amount": number;
          "is_proration": boolean;
          "is_waiting": boolean;
          "period_end": string;
          "period_start": string;
          "quantity": number | null;
          "stripe_invoice_id": string;
          "stripe_line_id": string;
          "stripe_price_id": string | null;
          "stripe_subscription_item_id": string | null;
        }[];
        SetofOptions: {
          from: "*";
          to: "invoice_lines";
          isOneToOne: false;
          isSetofReturn: true;
        };
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
      "_check_few_requests": {
        Args: { "account_id": string };
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
      "_check_linked": {
        Args: {
          "invoice": Omit<
            Database["billing"]["Tables"]["invoices"]["Row"],
            Database["billing"]["Tables"]["invoices"]["ComputedFields"]
          >;
        };
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
        Args: { "is_metered": boolean; "quantity": number };
        Returns: number;
      };
      "_claim_customer": {
        Args: { "account_id": string; "livemode": boolean };
        Returns: Json;
      };
      "_claim_recharge": { Args: { "account_id": string }; Returns: undefined };
      "_correct_grant": {
        Args: {
          "amount": number;
          "idempotency_key": string;
          "lot": Omit<
            Database["billing"]["Tables"]["credit_grants"]["Row"],
            Database["billing"]["Tables"]["credit_grants"]["ComputedFields"]
          >;
          "reason": string;
        };
        Returns: undefined;
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
          "debt": number;
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
        };
        SetofOptions: {
          from: "*";
          to: "credit_balances";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      "_customer_of": {
        Args: { "account_id": string; "livemode": boolean };
        Returns: string;
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
      "_first_slot": {
        Args: { "anchor": string; "from_moment": string };
        Returns: string;
      };
      "_freeze_on_warning": {
        Args: {
          "warning": Omit<
            Database["billing"]["Tables"]["fraud_warnings"]["Row"],
            Database["billing"]["Tables"]["fraud_warnings"]["ComputedFields"]
          >;
        };
        Returns: undefined;
      };
      "_fresh_stripe_key": {
        Args: { "id": string; "purpose": string };
        Returns: string;
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
      "_grant_due_slots": {
        Args: { "as_of": string; "stripe_subscription_id": string };
        Returns: {
          "credits": number;
          "slots": number;
        }[];
      };
      "_grant_initial": {
        Args: {
          "invoice": Omit<
            Database["billing"]["Tables"]["invoices"]["Row"],
            Database["billing"]["Tables"]["invoices"]["ComputedFields"]
          >;
          "period_start": string;
          "plan": Omit<
            Database["billing"]["Tables"]["plans"]["Row"],
            Database["billing"]["Tables"]["plans"]["ComputedFields"]
          >;
          "stripe_subscription_item_id": string;
        };
        Returns: undefined;
      };
      "_grant_once": {
        Args: {
          "account_id": string;
          "amount": number;
          "description": string;
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
      "_grant_packs": {
        Args: {
          "session": Omit<
            Database["billing"]["Tables"]["checkout_sessions"]["Row"],
            Database["billing"]["Tables"]["checkout_sessions"]["ComputedFields"]
          >;
        };
        Returns: undefined;
      };
      "_grant_paid_lines": {
        Args: {
          "invoice": Omit<
            Database["billing"]["Tables"]["invoices"]["Row"],
            Database["billing"]["Tables"]["invoices"]["ComputedFields"]
          >;
        };
        Returns: undefined;
      };
      "_grant_slot": {
        Args: {
          "amount": number;
          "plan": Omit<
            Database["billing"]["Tables"]["plans"]["Row"],
            Database["billing"]["Tables"]["plans"]["ComputedFields"]
          >;
          "schedule": Omit<
            Database["billing"]["Tables"]["credit_schedules"]["Row"],
            Database["billing"]["Tables"]["credit_schedules"]["ComputedFields"]
          >;
          "slot_end": string;
          "slot_start": string;
        };
        Returns: number;
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
      "_grant_trial_of_plan": {
        Args: {
          "plan": Omit<
            Database["billing"]["Tables"]["plans"]["Row"],
            Database["billing"]["Tables"]["plans"]["ComputedFields"]
          >;
          "stripe_subscription_item_id": string;
          "subscription": Omit<
            Database["billing"]["Tables"]["subscriptions"]["Row"],
            Database["billing"]["Tables"]["subscriptions"]["ComputedFields"]
          >;
        };
        Returns: undefined;
      };
      "_grant_waiting_periods": {
        Args: { "stripe_subscription_id": string };
        Returns: undefined;
      };
      "_has_arrived": { Args: { "stripe_id": string }; Returns: boolean };
      "_has_pg_cron": { Args: Record<PropertyKey, never>; Returns: boolean };
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
          "debt": number;
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
        };
        SetofOptions: {
          from: "billing.credit_balances";
          to: "credit_balances";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      "_invoice_rank": { Args: { "status": string }; Returns: number };
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
      "_is_held": { Args: { "idempotency_key": string }; Returns: boolean };
      "_is_one_too_many": {
        Args: {
          "plan": Omit<
            Database["billing"]["Tables"]["plans"]["Row"],
            Database["billing"]["Tables"]["plans"]["ComputedFields"]
          >;
          "stripe_price_id": string;
          "stripe_product_id": string;
        };
        Returns: boolean;
      };
      "_judge_card": {
        Args: { "account_id": string; "card_fingerprint": string };
        Returns: undefined;
      };
      "_judge_credits": { Args: { "account_id": string }; Returns: undefined };
      "_lock_arrival": { Args: { "stripe_id": string }; Returns: undefined };
      "_lock_balance": {
        Args: { "account_id": string };
        Returns: {
          "account_id": string;
          "balance": number;
          "debt": number;
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
        };
        SetofOptions: {
          from: "*";
          to: "credit_balances";
          isOneToOne: true;
          isSetofReturn: false;
        };
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
          "debt": number;
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
        };
        SetofOptions: {
          from: "*";
          to: "credit_balances";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      "_months": {
        Args: {
          "plan": Omit<
            Database["billing"]["Tables"]["plans"]["Row"],
            Database["billing"]["Tables"]["plans"]["ComputedFields"]
          >;
        };
        Returns: number;
      };
      "_net_of_changes": {
        Args: {
          "invoice": Omit<
            Database["billing"]["Tables"]["invoices"]["Row"],
            Database["billing"]["Tables"]["invoices"]["ComputedFields"]
          >;
        };
        Returns: number;
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
      "_open_period": {
        Args: {
          "amount": number;
          "deduct": number;
          "invoice": Omit<
            Database["billing"]["Tables"]["invoices"]["Row"],
            Database["billing"]["Tables"]["invoices"]["ComputedFields"]
          >;
          "period_end": string;
          "period_start": string;
          "quantity": number;
          "stripe_price_id": string;
          "stripe_subscription_item_id": string;
        };
        Returns: number;
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
      "_opening_credits": {
        Args: {
          "period_end": string;
          "period_start": string;
          "plan": Omit<
            Database["billing"]["Tables"]["plans"]["Row"],
            Database["billing"]["Tables"]["plans"]["ComputedFields"]
          >;
          "quantity": number;
          "slot_end": string;
        };
        Returns: number;
      };
      "_origin_of": { Args: { "url": string }; Returns: string };
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
          "stripe_price_id": string;
          "stripe_product_id": string;
          "trial_credits": number;
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
          "stripe_customer_id": string;
        };
        Returns: Json;
      };
      "_price_on_sale": {
        Args: { "pack": string; "plan": string };
        Returns: {
          "is_metered": boolean;
          "stripe_price_id": string;
          "stripe_product_id": string;
        }[];
      };
      "_proration_of_line": {
        Args: {
          "invoice": Omit<
            Database["billing"]["Tables"]["invoices"]["Row"],
            Database["billing"]["Tables"]["invoices"]["ComputedFields"]
          >;
          "line": Omit<
            Database["billing"]["Tables"]["invoice_lines"]["Row"],
            Database["billing"]["Tables"]["invoice_lines"]["ComputedFields"]
          >;
          "plan": Omit<
            Database["billing"]["Tables"]["plans"]["Row"],
            Database["billing"]["Tables"]["plans"]["ComputedFields"]
          >;
        };
        Returns: number;
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
      "_raise_unsound": {
        Args: { "rule": string; "table_name": string };
        Returns: undefined;
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
      "_record_changes": {
        Args: {
          "deducted": number;
          "invoice": Omit<
            Database["billing"]["Tables"]["invoices"]["Row"],
            Database["billing"]["Tables"]["invoices"]["ComputedFields"]
          >;
          "net": number;
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
      "_resolve_plan": {
        Args: { "stripe_price_id": string };
        Returns: undefined;
      };
      "_retry_events_waiting_for": {
        Args: { "stripe_id": string };
        Returns: undefined;
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
        };
        SetofOptions: {
          from: "*";
          to: "credit_revocations";
          isOneToOne: true;
          isSetofReturn: false;
        };
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
      "_settle_prorations": {
        Args: { "stripe_subscription_id": string };
        Returns: undefined;
      };
      "_settle_subscription": {
        Args: { "stripe_subscription_id": string };
        Returns: undefined;
      };
      "_settle_subscriptions_of": {
        Args: { "stripe_customer_id": string };
        Returns: undefined;
      };
      "_settle_subscriptions_of_account": {
        Args: { "account_id": string };
        Returns: undefined;
      };
      "_settle_trials": {
        Args: { "stripe_price_id": string };
        Returns: undefined;
      };
      "_share_of_slots": {
        Args: {
          "from_moment": string;
          "slot_end": string;
          "to_moment": string;
        };
        Returns: number;
      };
      "_slot": { Args: { "anchor": string; "k": number }; Returns: string };
      "_slot_end": {
        Args: { "anchor": string; "moment": string };
        Returns: string;
      };
      "_slot_expiry": {
        Args: {
          "anchor": string;
          "plan": Omit<
            Database["billing"]["Tables"]["plans"]["Row"],
            Database["billing"]["Tables"]["plans"]["ComputedFields"]
          >;
          "slot_end": string;
        };
        Returns: string;
      };
      "_slot_number": {
        Args: { "anchor": string; "moment": string };
        Returns: number;
      };
      "_spend_all": {
        Args: { "account_id": string; "spends": Json };
        Returns: undefined;
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
      "_supersede_requests": {
        Args: {
          "account_id": string;
          "idempotency_key": string;
          "plan": Omit<
            Database["billing"]["Tables"]["plans"]["Row"],
            Database["billing"]["Tables"]["plans"]["ComputedFields"]
          >;
        };
        Returns: Json;
      };
      "_take_back": {
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
      "_was_given": {
        Args: {
          "account_id": string;
          "kind": string;
          "stripe_price_id": string;
        };
        Returns: boolean;
      };
      "_with_session_id": { Args: { "url": string }; Returns: string };
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
      "account_entitlements": {
        Args: { "account_id": string };
        Returns: {
          "feature": string;
          "stripe_price_id": string;
          "stripe_subscription_id": string;
          "value": Json;
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
      "available_when_settled": {
        Args: {
          "balance": Omit<
            Database["billing"]["Tables"]["credit_balances"]["Row"],
            Database["billing"]["Tables"]["credit_balances"]["ComputedFields"]
          >;
        };
        Returns: number;
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
      "discard_checkout_key": {
        Args: { "idempotency_key": string };
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
      "is_livemode": { Args: Record<PropertyKey, never>; Returns: boolean };
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
        Args: { "event_ids": (string)[]; "stripe_customer_ids": (string)[] };
        Returns: undefined;
      };
      "merge_customer": {
        Args: { "duplicate_of": string; "stripe_customer_id": string };
        Returns: undefined;
      };
      "my_account_ids": { Args: Record<PropertyKey, never>; Returns: string[] };
      "note_checkout_session": {
        Args: {
          "expired"?: (string)[];
          "idempotency_key": string;
          "stripe_checkout_session_id": string;
        };
        Returns: boolean;
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
      "prepare_portal": {
        Args: {
          "account_id"?: string;
          "flow": string;
          "return_url": string;
          "user_id": string;
        };
        Returns: Json;
      };
      "read_stripe_events": {
        Args: { "batch_size": number; "visibility_seconds": number };
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
          "created_at": string;
          "description": string | null;
          "effective_at": string;
          "entry_id": number | null;
          "expires_at": string | null;
          "held": number;
          "id": number;
          "idempotency_key": string;
          "key_space": string;
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
          "debt": number;
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
      "sync_checkout_session": {
        Args: {
          "amount_total": number;
          "as_of": string;
          "client_reference_id": string;
          "currency": string;
          "lines": Json;
          "livemode": boolean;
          "mode": string;
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
      "sync_invoice": {
        Args: {
          "amount_due": number;
          "amount_paid": number;
          "as_of": string;
          "attempt_count": number;
          "billing_reason": string;
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
      "sync_price": {
        Args: {
          "active": boolean;
          "as_of": string;
          "currency": string;
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
          "trial_end": string;
          "trial_start": string;
        };
        Returns: string;
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
      "use_pg_cron": { Args: Record<PropertyKey, never>; Returns: undefined };
    };
    Enums: {
      [_ in never]: never;
    };
    CompositeTypes: {
      [_ in never]: never;
    };
  };
  "public": {
    Tables: {
      [_ in never]: never;
    };
    Views: {
      "billing_entitlements": {
        Row: {
          "account_id": string | null;
          "feature": string | null;
          "stripe_price_id": string | null;
          "stripe_subscription_id": string | null;
          "value": Json | null;
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
          "stripe_price_id": string;
          "trial_credits": number;
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
        Relationships: [];
      };
      "credit_balance": {
        Row: {
          "account_id": string;
          "available": number | null;
          "balance": number;
          "held": number;
          "updated_at": string;
        };
        ComputedFields: never;
        Insert: {
          "account_id"?: string | null;
          "available"?: never;
          "balance"?: number | null;
          "held"?: number | null;
          "updated_at"?: string | null;
        };
        Update: {
          "account_id"?: string | null;
          "available"?: never;
          "balance"?: number | null;
          "held"?: number | null;
          "updated_at"?: string | null;
        };
        Relationships: [];
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

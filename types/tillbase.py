# What the Supabase CLI makes of the schema public, and of rows that RPCs return or Realtime sends: of billing,
# which is not exposed to the Data API. Not written by hand: `make types`.
# ruff: noqa
from __future__ import annotations

import datetime
import uuid
from typing import (
    Annotated,
    Any,
    List,
    Literal,
    Optional,
    TypedDict,
)
from typing_extensions import NotRequired, TypeAlias

from pydantic import BaseModel, Field, JsonValue


class BillingAccountMembers(BaseModel):
    account_id: uuid.UUID = Field(alias="account_id")
    created_at: datetime.datetime = Field(alias="created_at")
    role: str = Field(alias="role")
    user_id: uuid.UUID = Field(alias="user_id")


class BillingAccounts(BaseModel):
    closed_at: Optional[datetime.datetime] = Field(alias="closed_at")
    created_at: datetime.datetime = Field(alias="created_at")
    frozen_at: Optional[datetime.datetime] = Field(alias="frozen_at")
    frozen_reason: Optional[str] = Field(alias="frozen_reason")
    id: uuid.UUID = Field(alias="id")
    kind: str = Field(alias="kind")
    name: Optional[str] = Field(alias="name")
    owner_id: Optional[uuid.UUID] = Field(alias="owner_id")
    updated_at: datetime.datetime = Field(alias="updated_at")


class BillingBudgets(BaseModel):
    account_id: uuid.UUID = Field(alias="account_id")
    actor: str = Field(alias="actor")
    cap: Optional[int] = Field(alias="cap")
    created_at: datetime.datetime = Field(alias="created_at")
    epoch: int = Field(alias="epoch")
    held: int = Field(alias="held")
    parent: Optional[str] = Field(alias="parent")
    path: List[str] = Field(alias="path")
    period: str = Field(alias="period")
    period_start: datetime.datetime = Field(alias="period_start")
    spent_in_period: int = Field(alias="spent_in_period")
    updated_at: datetime.datetime = Field(alias="updated_at")


class BillingCreditBalances(BaseModel):
    account_id: uuid.UUID = Field(alias="account_id")
    balance: int = Field(alias="balance")
    carried: int = Field(alias="carried")
    debt: int = Field(alias="debt")
    epoch: int = Field(alias="epoch")
    has_budgets: bool = Field(alias="has_budgets")
    held: int = Field(alias="held")
    is_low: bool = Field(alias="is_low")
    low_balance_threshold: Optional[int] = Field(alias="low_balance_threshold")
    may_spend: bool = Field(alias="may_spend")
    next_due_at: Optional[datetime.datetime] = Field(alias="next_due_at")
    overage_limit: int = Field(alias="overage_limit")
    overdraft: int = Field(alias="overdraft")
    recharge_below: Optional[int] = Field(alias="recharge_below")
    spend_cap: Optional[int] = Field(alias="spend_cap")
    spend_cap_period: Optional[str] = Field(alias="spend_cap_period")
    spend_period_start: Optional[datetime.datetime] = Field(alias="spend_period_start")
    spent_in_period: int = Field(alias="spent_in_period")
    updated_at: datetime.datetime = Field(alias="updated_at")
    withheld: int = Field(alias="withheld")
    written_off_at: Optional[datetime.datetime] = Field(alias="written_off_at")
    written_off_debt: int = Field(alias="written_off_debt")
    written_off_withheld: int = Field(alias="written_off_withheld")


class BillingCreditEntries(BaseModel):
    account_id: uuid.UUID = Field(alias="account_id")
    actor: Optional[str] = Field(alias="actor")
    amount: int = Field(alias="amount")
    balance_after: int = Field(alias="balance_after")
    created_at: datetime.datetime = Field(alias="created_at")
    debt: int = Field(alias="debt")
    description: Optional[str] = Field(alias="description")
    feature: Optional[str] = Field(alias="feature")
    hold_id: Optional[uuid.UUID] = Field(alias="hold_id")
    id: int = Field(alias="id")
    idempotency_key: str = Field(alias="idempotency_key")
    key_space: str = Field(alias="key_space")
    kind: str = Field(alias="kind")
    metadata: JsonValue = Field(alias="metadata")
    occurred_at: datetime.datetime = Field(alias="occurred_at")
    reference_id: Optional[str] = Field(alias="reference_id")
    reverses_entry_id: Optional[int] = Field(alias="reverses_entry_id")
    source: str = Field(alias="source")
    up_to: Optional[int] = Field(alias="up_to")


class BillingCreditGrants(BaseModel):
    account_id: uuid.UUID = Field(alias="account_id")
    amount: int = Field(alias="amount")
    closed_at: Optional[datetime.datetime] = Field(alias="closed_at")
    contested: int = Field(alias="contested")
    created_at: datetime.datetime = Field(alias="created_at")
    cut: int = Field(alias="cut")
    description: Optional[str] = Field(alias="description")
    effective_at: datetime.datetime = Field(alias="effective_at")
    entry_id: Optional[int] = Field(alias="entry_id")
    epoch: int = Field(alias="epoch")
    expires_at: Optional[datetime.datetime] = Field(alias="expires_at")
    held: int = Field(alias="held")
    id: int = Field(alias="id")
    idempotency_key: str = Field(alias="idempotency_key")
    key_space: str = Field(alias="key_space")
    lapsed: int = Field(alias="lapsed")
    priority: int = Field(alias="priority")
    reference_id: Optional[str] = Field(alias="reference_id")
    remaining: int = Field(alias="remaining")
    source: str = Field(alias="source")
    stripe_checkout_session_id: Optional[str] = Field(alias="stripe_checkout_session_id")
    stripe_invoice_id: Optional[str] = Field(alias="stripe_invoice_id")
    stripe_payment_intent_id: Optional[str] = Field(alias="stripe_payment_intent_id")
    stripe_price_id: Optional[str] = Field(alias="stripe_price_id")
    stripe_subscription_item_id: Optional[str] = Field(alias="stripe_subscription_item_id")


class BillingCreditHolds(BaseModel):
    account_id: uuid.UUID = Field(alias="account_id")
    actor: Optional[str] = Field(alias="actor")
    amount: int = Field(alias="amount")
    captured: int = Field(alias="captured")
    created_at: datetime.datetime = Field(alias="created_at")
    description: Optional[str] = Field(alias="description")
    expires_at: datetime.datetime = Field(alias="expires_at")
    expires_in: str = Field(alias="expires_in")
    feature: Optional[str] = Field(alias="feature")
    frozen_grant_id: Optional[int] = Field(alias="frozen_grant_id")
    id: uuid.UUID = Field(alias="id")
    idempotency_key: str = Field(alias="idempotency_key")
    metadata: JsonValue = Field(alias="metadata")
    release_key: Optional[str] = Field(alias="release_key")
    settled_at: Optional[datetime.datetime] = Field(alias="settled_at")
    status: str = Field(alias="status")


class BillingCreditReinstatements(BaseModel):
    account_id: uuid.UUID = Field(alias="account_id")
    actor: str = Field(alias="actor")
    amount: int = Field(alias="amount")
    created_at: datetime.datetime = Field(alias="created_at")
    entry_id: Optional[int] = Field(alias="entry_id")
    id: int = Field(alias="id")
    idempotency_key: str = Field(alias="idempotency_key")
    key_space: str = Field(alias="key_space")
    reason: str = Field(alias="reason")
    revocation_id: int = Field(alias="revocation_id")
    unwithheld: int = Field(alias="unwithheld")


class BillingCreditRevocations(BaseModel):
    account_id: uuid.UUID = Field(alias="account_id")
    actor: Optional[str] = Field(alias="actor")
    business_key: Optional[str] = Field(alias="business_key")
    created_at: datetime.datetime = Field(alias="created_at")
    entry_id: Optional[int] = Field(alias="entry_id")
    grant_id: int = Field(alias="grant_id")
    id: int = Field(alias="id")
    idempotency_key: str = Field(alias="idempotency_key")
    key_space: str = Field(alias="key_space")
    reason: str = Field(alias="reason")
    reinstated: int = Field(alias="reinstated")
    requested: int = Field(alias="requested")
    shortfall: int = Field(alias="shortfall")
    shortfall_policy: str = Field(alias="shortfall_policy")
    taken: int = Field(alias="taken")
    voided: int = Field(alias="voided")


class BillingErasures(BaseModel):
    account_id: Optional[uuid.UUID] = Field(alias="account_id")
    actor: str = Field(alias="actor")
    erased_at: datetime.datetime = Field(alias="erased_at")
    events_emptied: int = Field(alias="events_emptied")
    id: int = Field(alias="id")
    reason: str = Field(alias="reason")
    stripe_customer_id: Optional[str] = Field(alias="stripe_customer_id")


class BillingFraudActions(BaseModel):
    account_id: Optional[uuid.UUID] = Field(alias="account_id")
    action: str = Field(alias="action")
    actor: str = Field(alias="actor")
    amount: Optional[int] = Field(alias="amount")
    attempts: int = Field(alias="attempts")
    created_at: datetime.datetime = Field(alias="created_at")
    currency: Optional[str] = Field(alias="currency")
    decided_at: datetime.datetime = Field(alias="decided_at")
    id: int = Field(alias="id")
    idempotency_key: uuid.UUID = Field(alias="idempotency_key")
    is_in_doubt: bool = Field(alias="is_in_doubt")
    last_error: Optional[str] = Field(alias="last_error")
    reason: str = Field(alias="reason")
    settled_at: Optional[datetime.datetime] = Field(alias="settled_at")
    status: str = Field(alias="status")
    stripe_charge_id: Optional[str] = Field(alias="stripe_charge_id")
    stripe_early_fraud_warning_id: Optional[str] = Field(alias="stripe_early_fraud_warning_id")
    stripe_refund_id: Optional[str] = Field(alias="stripe_refund_id")
    stripe_subscription_id: Optional[str] = Field(alias="stripe_subscription_id")
    undone_at: Optional[datetime.datetime] = Field(alias="undone_at")
    undone_by: Optional[str] = Field(alias="undone_by")
    undone_reason: Optional[str] = Field(alias="undone_reason")
    updated_at: datetime.datetime = Field(alias="updated_at")


class BillingFraudWarnings(BaseModel):
    account_id: Optional[uuid.UUID] = Field(alias="account_id")
    actionable: bool = Field(alias="actionable")
    as_of: datetime.datetime = Field(alias="as_of")
    created_at: datetime.datetime = Field(alias="created_at")
    fraud_type: str = Field(alias="fraud_type")
    livemode: bool = Field(alias="livemode")
    notes: Optional[str] = Field(alias="notes")
    processed_at: Optional[datetime.datetime] = Field(alias="processed_at")
    risk_level: Optional[str] = Field(alias="risk_level")
    risk_score: Optional[int] = Field(alias="risk_score")
    status: str = Field(alias="status")
    stripe_charge_id: str = Field(alias="stripe_charge_id")
    stripe_customer_id: Optional[str] = Field(alias="stripe_customer_id")
    stripe_early_fraud_warning_id: str = Field(alias="stripe_early_fraud_warning_id")
    stripe_payment_intent_id: Optional[str] = Field(alias="stripe_payment_intent_id")
    updated_at: datetime.datetime = Field(alias="updated_at")
    warned_at: datetime.datetime = Field(alias="warned_at")


class BillingHeldCredits(BaseModel):
    account_id: uuid.UUID = Field(alias="account_id")
    amount: int = Field(alias="amount")
    card_fingerprint: str = Field(alias="card_fingerprint")
    created_at: datetime.datetime = Field(alias="created_at")
    description: Optional[str] = Field(alias="description")
    expires_at: Optional[datetime.datetime] = Field(alias="expires_at")
    held_at: datetime.datetime = Field(alias="held_at")
    id: int = Field(alias="id")
    idempotency_key: str = Field(alias="idempotency_key")
    kind: str = Field(alias="kind")
    matched_account_id: uuid.UUID = Field(alias="matched_account_id")
    reason: Optional[str] = Field(alias="reason")
    reference_id: Optional[str] = Field(alias="reference_id")
    reviewed_at: Optional[datetime.datetime] = Field(alias="reviewed_at")
    reviewed_by: Optional[str] = Field(alias="reviewed_by")
    revocation_id: Optional[int] = Field(alias="revocation_id")
    source: str = Field(alias="source")
    status: str = Field(alias="status")
    stripe_invoice_id: Optional[str] = Field(alias="stripe_invoice_id")
    stripe_price_id: Optional[str] = Field(alias="stripe_price_id")
    stripe_subscription_item_id: Optional[str] = Field(alias="stripe_subscription_item_id")
    updated_at: datetime.datetime = Field(alias="updated_at")


class BillingRechargeSettings(BaseModel):
    account_id: uuid.UUID = Field(alias="account_id")
    check_again_at: Optional[datetime.datetime] = Field(alias="check_again_at")
    created_at: datetime.datetime = Field(alias="created_at")
    is_paused: bool = Field(alias="is_paused")
    monthly_cap_amount: Optional[int] = Field(alias="monthly_cap_amount")
    monthly_cap_count: Optional[int] = Field(alias="monthly_cap_count")
    paused_at: Optional[datetime.datetime] = Field(alias="paused_at")
    paused_reason: Optional[str] = Field(alias="paused_reason")
    return_url: Optional[str] = Field(alias="return_url")
    stripe_price_id: str = Field(alias="stripe_price_id")
    threshold: int = Field(alias="threshold")
    updated_at: datetime.datetime = Field(alias="updated_at")


class BillingWorkCharges(BaseModel):
    account_id: uuid.UUID = Field(alias="account_id")
    charged: int = Field(alias="charged")
    created_at: datetime.datetime = Field(alias="created_at")
    credits: int = Field(alias="credits")
    entry_id: Optional[int] = Field(alias="entry_id")
    excess_entry_id: Optional[int] = Field(alias="excess_entry_id")
    hold_id: Optional[uuid.UUID] = Field(alias="hold_id")
    id: int = Field(alias="id")
    idempotency_key: str = Field(alias="idempotency_key")
    occurred_at: datetime.datetime = Field(alias="occurred_at")
    on_excess: Optional[str] = Field(alias="on_excess")
    operation_price_id: int = Field(alias="operation_price_id")
    quantities: JsonValue = Field(alias="quantities")
    unrounded: float = Field(alias="unrounded")


class PublicBillingAccount(BaseModel):
    account_id: uuid.UUID = Field(alias="account_id")
    closed_at: Optional[datetime.datetime] = Field(alias="closed_at")
    frozen_at: Optional[datetime.datetime] = Field(alias="frozen_at")
    frozen_reason: Optional[str] = Field(alias="frozen_reason")
    kind: str = Field(alias="kind")
    name: Optional[str] = Field(alias="name")
    role: Optional[str] = Field(alias="role")
    status: Optional[str] = Field(alias="status")


class PublicBillingEntitlements(BaseModel):
    account_id: Optional[uuid.UUID] = Field(alias="account_id")
    feature: Optional[str] = Field(alias="feature")
    stripe_price_id: Optional[str] = Field(alias="stripe_price_id")
    stripe_subscription_id: Optional[str] = Field(alias="stripe_subscription_id")
    value: Optional[JsonValue] = Field(alias="value")


class PublicBillingOperations(BaseModel):
    minimum: int = Field(alias="minimum")
    name: str = Field(alias="name")
    on_excess: str = Field(alias="on_excess")
    operation: str = Field(alias="operation")
    rates: JsonValue = Field(alias="rates")
    rounding: str = Field(alias="rounding")
    valid_from: datetime.datetime = Field(alias="valid_from")


class PublicBillingOverages(BaseModel):
    account_id: uuid.UUID = Field(alias="account_id")
    amount: int = Field(alias="amount")
    claimed_at: datetime.datetime = Field(alias="claimed_at")
    credits: int = Field(alias="credits")
    currency: str = Field(alias="currency")
    hosted_invoice_url: Optional[str] = Field(alias="hosted_invoice_url")
    id: uuid.UUID = Field(alias="id")
    period_end: datetime.datetime = Field(alias="period_end")
    period_start: datetime.datetime = Field(alias="period_start")
    quantity: int = Field(alias="quantity")
    reason: Optional[str] = Field(alias="reason")
    status: Optional[str] = Field(alias="status")
    stripe_invoice_id: Optional[str] = Field(alias="stripe_invoice_id")
    stripe_subscription_id: str = Field(alias="stripe_subscription_id")


class PublicBillingPacks(BaseModel):
    credits_per_unit: Optional[float] = Field(alias="credits_per_unit")
    currency: str = Field(alias="currency")
    description: Optional[str] = Field(alias="description")
    expires_after: Optional[str] = Field(alias="expires_after")
    lookup_key: Optional[str] = Field(alias="lookup_key")
    name: Optional[str] = Field(alias="name")
    pack_credits: Optional[int] = Field(alias="pack_credits")
    stripe_price_id: str = Field(alias="stripe_price_id")
    unit_amount: Optional[int] = Field(alias="unit_amount")


class PublicBillingPlans(BaseModel):
    currency: str = Field(alias="currency")
    description: Optional[str] = Field(alias="description")
    features: JsonValue = Field(alias="features")
    initial_credits: int = Field(alias="initial_credits")
    lookup_key: Optional[str] = Field(alias="lookup_key")
    monthly_credits: int = Field(alias="monthly_credits")
    name: Optional[str] = Field(alias="name")
    overage_limit: int = Field(alias="overage_limit")
    overage_pack: Optional[str] = Field(alias="overage_pack")
    recurring_interval: str = Field(alias="recurring_interval")
    recurring_interval_count: int = Field(alias="recurring_interval_count")
    seats_max: Optional[int] = Field(alias="seats_max")
    seats_min: int = Field(alias="seats_min")
    stripe_price_id: str = Field(alias="stripe_price_id")
    trial_credits: int = Field(alias="trial_credits")
    trial_days: int = Field(alias="trial_days")
    unit_amount: Optional[int] = Field(alias="unit_amount")


class PublicBillingSubscription(BaseModel):
    account_id: Optional[uuid.UUID] = Field(alias="account_id")
    cancels_at: Optional[datetime.datetime] = Field(alias="cancels_at")
    current_period_end: datetime.datetime = Field(alias="current_period_end")
    current_period_start: datetime.datetime = Field(alias="current_period_start")
    ended_at: Optional[datetime.datetime] = Field(alias="ended_at")
    quantity: Optional[int] = Field(alias="quantity")
    status: str = Field(alias="status")
    stripe_price_id: str = Field(alias="stripe_price_id")
    stripe_subscription_id: str = Field(alias="stripe_subscription_id")
    trial_end: Optional[datetime.datetime] = Field(alias="trial_end")


class PublicBudgets(BaseModel):
    account_id: uuid.UUID = Field(alias="account_id")
    actor: str = Field(alias="actor")
    cap: Optional[int] = Field(alias="cap")
    created_at: datetime.datetime = Field(alias="created_at")
    held: int = Field(alias="held")
    parent: Optional[str] = Field(alias="parent")
    period: str = Field(alias="period")
    remaining: Optional[int] = Field(alias="remaining")
    resets_at: Optional[datetime.datetime] = Field(alias="resets_at")
    spent: Optional[int] = Field(alias="spent")
    updated_at: datetime.datetime = Field(alias="updated_at")


class PublicCreditBalance(BaseModel):
    account_id: uuid.UUID = Field(alias="account_id")
    available: Optional[int] = Field(alias="available")
    balance: Optional[int] = Field(alias="balance")
    held: Optional[int] = Field(alias="held")
    updated_at: datetime.datetime = Field(alias="updated_at")


class PublicCreditHistory(BaseModel):
    account_id: uuid.UUID = Field(alias="account_id")
    amount: int = Field(alias="amount")
    balance_after: int = Field(alias="balance_after")
    description: Optional[str] = Field(alias="description")
    feature: Optional[str] = Field(alias="feature")
    id: int = Field(alias="id")
    kind: str = Field(alias="kind")
    metadata: JsonValue = Field(alias="metadata")
    occurred_at: datetime.datetime = Field(alias="occurred_at")
    reference_id: Optional[str] = Field(alias="reference_id")
    source: str = Field(alias="source")


class PublicTeamInvitations(BaseModel):
    account_id: uuid.UUID = Field(alias="account_id")
    created_at: datetime.datetime = Field(alias="created_at")
    email: str = Field(alias="email")
    expires_at: datetime.datetime = Field(alias="expires_at")
    role: str = Field(alias="role")


class PublicWorkCharges(BaseModel):
    account_id: uuid.UUID = Field(alias="account_id")
    charged: int = Field(alias="charged")
    credits: int = Field(alias="credits")
    entry_id: Optional[int] = Field(alias="entry_id")
    excess_entry_id: Optional[int] = Field(alias="excess_entry_id")
    hold_id: Optional[uuid.UUID] = Field(alias="hold_id")
    id: int = Field(alias="id")
    name: str = Field(alias="name")
    occurred_at: datetime.datetime = Field(alias="occurred_at")
    operation: str = Field(alias="operation")
    quantities: JsonValue = Field(alias="quantities")
    rates: JsonValue = Field(alias="rates")
    unrounded: float = Field(alias="unrounded")

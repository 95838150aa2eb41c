# What the Supabase CLI makes of the schemas public and billing. Not written by hand: `make types`.
# `billing` is not exposed to the Data API: its rows are what the functions return and what Realtime sends.
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


class BillingAccountMembersInsert(TypedDict):
    account_id: Annotated[uuid.UUID, Field(alias="account_id")]
    created_at: NotRequired[Annotated[datetime.datetime, Field(alias="created_at")]]
    role: NotRequired[Annotated[str, Field(alias="role")]]
    user_id: Annotated[uuid.UUID, Field(alias="user_id")]


class BillingAccountMembersUpdate(TypedDict):
    account_id: NotRequired[Annotated[uuid.UUID, Field(alias="account_id")]]
    created_at: NotRequired[Annotated[datetime.datetime, Field(alias="created_at")]]
    role: NotRequired[Annotated[str, Field(alias="role")]]
    user_id: NotRequired[Annotated[uuid.UUID, Field(alias="user_id")]]


class BillingAccountProof(BaseModel):
    accounts_checked: int = Field(alias="accounts_checked")
    id: bool = Field(alias="id")
    last_account_id: Optional[uuid.UUID] = Field(alias="last_account_id")
    round_finished_at: Optional[datetime.datetime] = Field(alias="round_finished_at")
    round_started_at: Optional[datetime.datetime] = Field(alias="round_started_at")


class BillingAccountProofInsert(TypedDict):
    accounts_checked: NotRequired[Annotated[int, Field(alias="accounts_checked")]]
    id: NotRequired[Annotated[bool, Field(alias="id")]]
    last_account_id: NotRequired[Annotated[Optional[uuid.UUID], Field(alias="last_account_id")]]
    round_finished_at: NotRequired[Annotated[Optional[datetime.datetime], Field(alias="round_finished_at")]]
    round_started_at: NotRequired[Annotated[Optional[datetime.datetime], Field(alias="round_started_at")]]


class BillingAccountProofUpdate(TypedDict):
    accounts_checked: NotRequired[Annotated[int, Field(alias="accounts_checked")]]
    id: NotRequired[Annotated[bool, Field(alias="id")]]
    last_account_id: NotRequired[Annotated[Optional[uuid.UUID], Field(alias="last_account_id")]]
    round_finished_at: NotRequired[Annotated[Optional[datetime.datetime], Field(alias="round_finished_at")]]
    round_started_at: NotRequired[Annotated[Optional[datetime.datetime], Field(alias="round_started_at")]]


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


class BillingAccountsInsert(TypedDict):
    closed_at: NotRequired[Annotated[Optional[datetime.datetime], Field(alias="closed_at")]]
    created_at: NotRequired[Annotated[datetime.datetime, Field(alias="created_at")]]
    frozen_at: NotRequired[Annotated[Optional[datetime.datetime], Field(alias="frozen_at")]]
    frozen_reason: NotRequired[Annotated[Optional[str], Field(alias="frozen_reason")]]
    id: NotRequired[Annotated[uuid.UUID, Field(alias="id")]]
    kind: NotRequired[Annotated[str, Field(alias="kind")]]
    name: NotRequired[Annotated[Optional[str], Field(alias="name")]]
    owner_id: NotRequired[Annotated[Optional[uuid.UUID], Field(alias="owner_id")]]
    updated_at: NotRequired[Annotated[datetime.datetime, Field(alias="updated_at")]]


class BillingAccountsUpdate(TypedDict):
    closed_at: NotRequired[Annotated[Optional[datetime.datetime], Field(alias="closed_at")]]
    created_at: NotRequired[Annotated[datetime.datetime, Field(alias="created_at")]]
    frozen_at: NotRequired[Annotated[Optional[datetime.datetime], Field(alias="frozen_at")]]
    frozen_reason: NotRequired[Annotated[Optional[str], Field(alias="frozen_reason")]]
    id: NotRequired[Annotated[uuid.UUID, Field(alias="id")]]
    kind: NotRequired[Annotated[str, Field(alias="kind")]]
    name: NotRequired[Annotated[Optional[str], Field(alias="name")]]
    owner_id: NotRequired[Annotated[Optional[uuid.UUID], Field(alias="owner_id")]]
    updated_at: NotRequired[Annotated[datetime.datetime, Field(alias="updated_at")]]


class BillingCardFingerprints(BaseModel):
    account_id: Optional[uuid.UUID] = Field(alias="account_id")
    card_fingerprint: str = Field(alias="card_fingerprint")
    created_at: datetime.datetime = Field(alias="created_at")
    first_seen_at: datetime.datetime = Field(alias="first_seen_at")
    stripe_customer_id: str = Field(alias="stripe_customer_id")


class BillingCardFingerprintsInsert(TypedDict):
    account_id: NotRequired[Annotated[Optional[uuid.UUID], Field(alias="account_id")]]
    card_fingerprint: Annotated[str, Field(alias="card_fingerprint")]
    created_at: NotRequired[Annotated[datetime.datetime, Field(alias="created_at")]]
    first_seen_at: Annotated[datetime.datetime, Field(alias="first_seen_at")]
    stripe_customer_id: Annotated[str, Field(alias="stripe_customer_id")]


class BillingCardFingerprintsUpdate(TypedDict):
    account_id: NotRequired[Annotated[Optional[uuid.UUID], Field(alias="account_id")]]
    card_fingerprint: NotRequired[Annotated[str, Field(alias="card_fingerprint")]]
    created_at: NotRequired[Annotated[datetime.datetime, Field(alias="created_at")]]
    first_seen_at: NotRequired[Annotated[datetime.datetime, Field(alias="first_seen_at")]]
    stripe_customer_id: NotRequired[Annotated[str, Field(alias="stripe_customer_id")]]


class BillingCarriedCredits(BaseModel):
    account_id: uuid.UUID = Field(alias="account_id")
    amount: int = Field(alias="amount")
    business_key: str = Field(alias="business_key")
    created_at: datetime.datetime = Field(alias="created_at")


class BillingCarriedCreditsInsert(TypedDict):
    account_id: Annotated[uuid.UUID, Field(alias="account_id")]
    amount: Annotated[int, Field(alias="amount")]
    business_key: Annotated[str, Field(alias="business_key")]
    created_at: NotRequired[Annotated[datetime.datetime, Field(alias="created_at")]]


class BillingCarriedCreditsUpdate(TypedDict):
    account_id: NotRequired[Annotated[uuid.UUID, Field(alias="account_id")]]
    amount: NotRequired[Annotated[int, Field(alias="amount")]]
    business_key: NotRequired[Annotated[str, Field(alias="business_key")]]
    created_at: NotRequired[Annotated[datetime.datetime, Field(alias="created_at")]]


class BillingCheckoutLineItems(BaseModel):
    amount_total: int = Field(alias="amount_total")
    created_at: datetime.datetime = Field(alias="created_at")
    declares_credits: bool = Field(alias="declares_credits")
    quantity: Optional[int] = Field(alias="quantity")
    stripe_checkout_session_id: str = Field(alias="stripe_checkout_session_id")
    stripe_line_item_id: str = Field(alias="stripe_line_item_id")
    stripe_price_id: Optional[str] = Field(alias="stripe_price_id")


class BillingCheckoutLineItemsInsert(TypedDict):
    amount_total: Annotated[int, Field(alias="amount_total")]
    created_at: NotRequired[Annotated[datetime.datetime, Field(alias="created_at")]]
    declares_credits: Annotated[bool, Field(alias="declares_credits")]
    quantity: NotRequired[Annotated[Optional[int], Field(alias="quantity")]]
    stripe_checkout_session_id: Annotated[str, Field(alias="stripe_checkout_session_id")]
    stripe_line_item_id: Annotated[str, Field(alias="stripe_line_item_id")]
    stripe_price_id: NotRequired[Annotated[Optional[str], Field(alias="stripe_price_id")]]


class BillingCheckoutLineItemsUpdate(TypedDict):
    amount_total: NotRequired[Annotated[int, Field(alias="amount_total")]]
    created_at: NotRequired[Annotated[datetime.datetime, Field(alias="created_at")]]
    declares_credits: NotRequired[Annotated[bool, Field(alias="declares_credits")]]
    quantity: NotRequired[Annotated[Optional[int], Field(alias="quantity")]]
    stripe_checkout_session_id: NotRequired[Annotated[str, Field(alias="stripe_checkout_session_id")]]
    stripe_line_item_id: NotRequired[Annotated[str, Field(alias="stripe_line_item_id")]]
    stripe_price_id: NotRequired[Annotated[Optional[str], Field(alias="stripe_price_id")]]


class BillingCheckoutRequests(BaseModel):
    account_id: uuid.UUID = Field(alias="account_id")
    created_at: datetime.datetime = Field(alias="created_at")
    discarded_at: Optional[datetime.datetime] = Field(alias="discarded_at")
    expired_at: Optional[datetime.datetime] = Field(alias="expired_at")
    id: uuid.UUID = Field(alias="id")
    idempotency_key: str = Field(alias="idempotency_key")
    livemode: bool = Field(alias="livemode")
    params: JsonValue = Field(alias="params")
    quantity: Optional[int] = Field(alias="quantity")
    stripe_checkout_session_id: Optional[str] = Field(alias="stripe_checkout_session_id")
    stripe_price_id: str = Field(alias="stripe_price_id")
    superseded_at: Optional[datetime.datetime] = Field(alias="superseded_at")
    user_id: Optional[uuid.UUID] = Field(alias="user_id")


class BillingCheckoutRequestsInsert(TypedDict):
    account_id: Annotated[uuid.UUID, Field(alias="account_id")]
    created_at: NotRequired[Annotated[datetime.datetime, Field(alias="created_at")]]
    discarded_at: NotRequired[Annotated[Optional[datetime.datetime], Field(alias="discarded_at")]]
    expired_at: NotRequired[Annotated[Optional[datetime.datetime], Field(alias="expired_at")]]
    id: NotRequired[Annotated[uuid.UUID, Field(alias="id")]]
    idempotency_key: Annotated[str, Field(alias="idempotency_key")]
    livemode: Annotated[bool, Field(alias="livemode")]
    params: Annotated[JsonValue, Field(alias="params")]
    quantity: NotRequired[Annotated[Optional[int], Field(alias="quantity")]]
    stripe_checkout_session_id: NotRequired[
        Annotated[Optional[str], Field(alias="stripe_checkout_session_id")]
    ]
    stripe_price_id: Annotated[str, Field(alias="stripe_price_id")]
    superseded_at: NotRequired[Annotated[Optional[datetime.datetime], Field(alias="superseded_at")]]
    user_id: NotRequired[Annotated[Optional[uuid.UUID], Field(alias="user_id")]]


class BillingCheckoutRequestsUpdate(TypedDict):
    account_id: NotRequired[Annotated[uuid.UUID, Field(alias="account_id")]]
    created_at: NotRequired[Annotated[datetime.datetime, Field(alias="created_at")]]
    discarded_at: NotRequired[Annotated[Optional[datetime.datetime], Field(alias="discarded_at")]]
    expired_at: NotRequired[Annotated[Optional[datetime.datetime], Field(alias="expired_at")]]
    id: NotRequired[Annotated[uuid.UUID, Field(alias="id")]]
    idempotency_key: NotRequired[Annotated[str, Field(alias="idempotency_key")]]
    livemode: NotRequired[Annotated[bool, Field(alias="livemode")]]
    params: NotRequired[Annotated[JsonValue, Field(alias="params")]]
    quantity: NotRequired[Annotated[Optional[int], Field(alias="quantity")]]
    stripe_checkout_session_id: NotRequired[
        Annotated[Optional[str], Field(alias="stripe_checkout_session_id")]
    ]
    stripe_price_id: NotRequired[Annotated[str, Field(alias="stripe_price_id")]]
    superseded_at: NotRequired[Annotated[Optional[datetime.datetime], Field(alias="superseded_at")]]
    user_id: NotRequired[Annotated[Optional[uuid.UUID], Field(alias="user_id")]]


class BillingCheckoutSessions(BaseModel):
    account_id: Optional[uuid.UUID] = Field(alias="account_id")
    amount_total: Optional[int] = Field(alias="amount_total")
    as_of: datetime.datetime = Field(alias="as_of")
    client_reference_id: Optional[str] = Field(alias="client_reference_id")
    completed_at: Optional[datetime.datetime] = Field(alias="completed_at")
    created_at: datetime.datetime = Field(alias="created_at")
    currency: Optional[str] = Field(alias="currency")
    livemode: bool = Field(alias="livemode")
    mode: str = Field(alias="mode")
    opened_at: Optional[datetime.datetime] = Field(alias="opened_at")
    payment_status: str = Field(alias="payment_status")
    status: str = Field(alias="status")
    stripe_checkout_session_id: str = Field(alias="stripe_checkout_session_id")
    stripe_customer_id: Optional[str] = Field(alias="stripe_customer_id")
    stripe_invoice_id: Optional[str] = Field(alias="stripe_invoice_id")
    stripe_payment_intent_id: Optional[str] = Field(alias="stripe_payment_intent_id")
    stripe_payment_link_id: Optional[str] = Field(alias="stripe_payment_link_id")
    stripe_subscription_id: Optional[str] = Field(alias="stripe_subscription_id")
    updated_at: datetime.datetime = Field(alias="updated_at")


class BillingCheckoutSessionsInsert(TypedDict):
    account_id: NotRequired[Annotated[Optional[uuid.UUID], Field(alias="account_id")]]
    amount_total: NotRequired[Annotated[Optional[int], Field(alias="amount_total")]]
    as_of: Annotated[datetime.datetime, Field(alias="as_of")]
    client_reference_id: NotRequired[Annotated[Optional[str], Field(alias="client_reference_id")]]
    completed_at: NotRequired[Annotated[Optional[datetime.datetime], Field(alias="completed_at")]]
    created_at: NotRequired[Annotated[datetime.datetime, Field(alias="created_at")]]
    currency: NotRequired[Annotated[Optional[str], Field(alias="currency")]]
    livemode: Annotated[bool, Field(alias="livemode")]
    mode: Annotated[str, Field(alias="mode")]
    opened_at: NotRequired[Annotated[Optional[datetime.datetime], Field(alias="opened_at")]]
    payment_status: Annotated[str, Field(alias="payment_status")]
    status: Annotated[str, Field(alias="status")]
    stripe_checkout_session_id: Annotated[str, Field(alias="stripe_checkout_session_id")]
    stripe_customer_id: NotRequired[Annotated[Optional[str], Field(alias="stripe_customer_id")]]
    stripe_invoice_id: NotRequired[Annotated[Optional[str], Field(alias="stripe_invoice_id")]]
    stripe_payment_intent_id: NotRequired[Annotated[Optional[str], Field(alias="stripe_payment_intent_id")]]
    stripe_payment_link_id: NotRequired[Annotated[Optional[str], Field(alias="stripe_payment_link_id")]]
    stripe_subscription_id: NotRequired[Annotated[Optional[str], Field(alias="stripe_subscription_id")]]
    updated_at: NotRequired[Annotated[datetime.datetime, Field(alias="updated_at")]]


class BillingCheckoutSessionsUpdate(TypedDict):
    account_id: NotRequired[Annotated[Optional[uuid.UUID], Field(alias="account_id")]]
    amount_total: NotRequired[Annotated[Optional[int], Field(alias="amount_total")]]
    as_of: NotRequired[Annotated[datetime.datetime, Field(alias="as_of")]]
    client_reference_id: NotRequired[Annotated[Optional[str], Field(alias="client_reference_id")]]
    completed_at: NotRequired[Annotated[Optional[datetime.datetime], Field(alias="completed_at")]]
    created_at: NotRequired[Annotated[datetime.datetime, Field(alias="created_at")]]
    currency: NotRequired[Annotated[Optional[str], Field(alias="currency")]]
    livemode: NotRequired[Annotated[bool, Field(alias="livemode")]]
    mode: NotRequired[Annotated[str, Field(alias="mode")]]
    opened_at: NotRequired[Annotated[Optional[datetime.datetime], Field(alias="opened_at")]]
    payment_status: NotRequired[Annotated[str, Field(alias="payment_status")]]
    status: NotRequired[Annotated[str, Field(alias="status")]]
    stripe_checkout_session_id: NotRequired[Annotated[str, Field(alias="stripe_checkout_session_id")]]
    stripe_customer_id: NotRequired[Annotated[Optional[str], Field(alias="stripe_customer_id")]]
    stripe_invoice_id: NotRequired[Annotated[Optional[str], Field(alias="stripe_invoice_id")]]
    stripe_payment_intent_id: NotRequired[Annotated[Optional[str], Field(alias="stripe_payment_intent_id")]]
    stripe_payment_link_id: NotRequired[Annotated[Optional[str], Field(alias="stripe_payment_link_id")]]
    stripe_subscription_id: NotRequired[Annotated[Optional[str], Field(alias="stripe_subscription_id")]]
    updated_at: NotRequired[Annotated[datetime.datetime, Field(alias="updated_at")]]


class BillingClock(BaseModel):
    ahead_by: str = Field(alias="ahead_by")
    id: bool = Field(alias="id")


class BillingClockInsert(TypedDict):
    ahead_by: NotRequired[Annotated[str, Field(alias="ahead_by")]]
    id: NotRequired[Annotated[bool, Field(alias="id")]]


class BillingClockUpdate(TypedDict):
    ahead_by: NotRequired[Annotated[str, Field(alias="ahead_by")]]
    id: NotRequired[Annotated[bool, Field(alias="id")]]


class BillingCreditBalances(BaseModel):
    account_id: uuid.UUID = Field(alias="account_id")
    balance: int = Field(alias="balance")
    carried: int = Field(alias="carried")
    debt: int = Field(alias="debt")
    epoch: int = Field(alias="epoch")
    held: int = Field(alias="held")
    is_low: bool = Field(alias="is_low")
    low_balance_threshold: Optional[int] = Field(alias="low_balance_threshold")
    may_spend: bool = Field(alias="may_spend")
    next_due_at: Optional[datetime.datetime] = Field(alias="next_due_at")
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


class BillingCreditBalancesInsert(TypedDict):
    account_id: Annotated[uuid.UUID, Field(alias="account_id")]
    balance: NotRequired[Annotated[int, Field(alias="balance")]]
    carried: NotRequired[Annotated[int, Field(alias="carried")]]
    debt: NotRequired[Annotated[int, Field(alias="debt")]]
    epoch: NotRequired[Annotated[int, Field(alias="epoch")]]
    held: NotRequired[Annotated[int, Field(alias="held")]]
    is_low: NotRequired[Annotated[bool, Field(alias="is_low")]]
    low_balance_threshold: NotRequired[Annotated[Optional[int], Field(alias="low_balance_threshold")]]
    may_spend: NotRequired[Annotated[bool, Field(alias="may_spend")]]
    next_due_at: NotRequired[Annotated[Optional[datetime.datetime], Field(alias="next_due_at")]]
    overdraft: NotRequired[Annotated[int, Field(alias="overdraft")]]
    recharge_below: NotRequired[Annotated[Optional[int], Field(alias="recharge_below")]]
    spend_cap: NotRequired[Annotated[Optional[int], Field(alias="spend_cap")]]
    spend_cap_period: NotRequired[Annotated[Optional[str], Field(alias="spend_cap_period")]]
    spend_period_start: NotRequired[Annotated[Optional[datetime.datetime], Field(alias="spend_period_start")]]
    spent_in_period: NotRequired[Annotated[int, Field(alias="spent_in_period")]]
    updated_at: NotRequired[Annotated[datetime.datetime, Field(alias="updated_at")]]
    withheld: NotRequired[Annotated[int, Field(alias="withheld")]]
    written_off_at: NotRequired[Annotated[Optional[datetime.datetime], Field(alias="written_off_at")]]
    written_off_debt: NotRequired[Annotated[int, Field(alias="written_off_debt")]]
    written_off_withheld: NotRequired[Annotated[int, Field(alias="written_off_withheld")]]


class BillingCreditBalancesUpdate(TypedDict):
    account_id: NotRequired[Annotated[uuid.UUID, Field(alias="account_id")]]
    balance: NotRequired[Annotated[int, Field(alias="balance")]]
    carried: NotRequired[Annotated[int, Field(alias="carried")]]
    debt: NotRequired[Annotated[int, Field(alias="debt")]]
    epoch: NotRequired[Annotated[int, Field(alias="epoch")]]
    held: NotRequired[Annotated[int, Field(alias="held")]]
    is_low: NotRequired[Annotated[bool, Field(alias="is_low")]]
    low_balance_threshold: NotRequired[Annotated[Optional[int], Field(alias="low_balance_threshold")]]
    may_spend: NotRequired[Annotated[bool, Field(alias="may_spend")]]
    next_due_at: NotRequired[Annotated[Optional[datetime.datetime], Field(alias="next_due_at")]]
    overdraft: NotRequired[Annotated[int, Field(alias="overdraft")]]
    recharge_below: NotRequired[Annotated[Optional[int], Field(alias="recharge_below")]]
    spend_cap: NotRequired[Annotated[Optional[int], Field(alias="spend_cap")]]
    spend_cap_period: NotRequired[Annotated[Optional[str], Field(alias="spend_cap_period")]]
    spend_period_start: NotRequired[Annotated[Optional[datetime.datetime], Field(alias="spend_period_start")]]
    spent_in_period: NotRequired[Annotated[int, Field(alias="spent_in_period")]]
    updated_at: NotRequired[Annotated[datetime.datetime, Field(alias="updated_at")]]
    withheld: NotRequired[Annotated[int, Field(alias="withheld")]]
    written_off_at: NotRequired[Annotated[Optional[datetime.datetime], Field(alias="written_off_at")]]
    written_off_debt: NotRequired[Annotated[int, Field(alias="written_off_debt")]]
    written_off_withheld: NotRequired[Annotated[int, Field(alias="written_off_withheld")]]


class BillingCreditConsumptions(BaseModel):
    amount: int = Field(alias="amount")
    entry_id: int = Field(alias="entry_id")
    grant_id: int = Field(alias="grant_id")


class BillingCreditConsumptionsInsert(TypedDict):
    amount: Annotated[int, Field(alias="amount")]
    entry_id: Annotated[int, Field(alias="entry_id")]
    grant_id: Annotated[int, Field(alias="grant_id")]


class BillingCreditConsumptionsUpdate(TypedDict):
    amount: NotRequired[Annotated[int, Field(alias="amount")]]
    entry_id: NotRequired[Annotated[int, Field(alias="entry_id")]]
    grant_id: NotRequired[Annotated[int, Field(alias="grant_id")]]


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


class BillingCreditEntriesInsert(TypedDict):
    account_id: Annotated[uuid.UUID, Field(alias="account_id")]
    actor: NotRequired[Annotated[Optional[str], Field(alias="actor")]]
    amount: Annotated[int, Field(alias="amount")]
    balance_after: Annotated[int, Field(alias="balance_after")]
    created_at: NotRequired[Annotated[datetime.datetime, Field(alias="created_at")]]
    debt: NotRequired[Annotated[int, Field(alias="debt")]]
    description: NotRequired[Annotated[Optional[str], Field(alias="description")]]
    feature: NotRequired[Annotated[Optional[str], Field(alias="feature")]]
    hold_id: NotRequired[Annotated[Optional[uuid.UUID], Field(alias="hold_id")]]
    id: NotRequired[Annotated[int, Field(alias="id")]]
    idempotency_key: Annotated[str, Field(alias="idempotency_key")]
    key_space: Annotated[str, Field(alias="key_space")]
    kind: Annotated[str, Field(alias="kind")]
    metadata: NotRequired[Annotated[JsonValue, Field(alias="metadata")]]
    occurred_at: Annotated[datetime.datetime, Field(alias="occurred_at")]
    reference_id: NotRequired[Annotated[Optional[str], Field(alias="reference_id")]]
    reverses_entry_id: NotRequired[Annotated[Optional[int], Field(alias="reverses_entry_id")]]
    source: Annotated[str, Field(alias="source")]
    up_to: NotRequired[Annotated[Optional[int], Field(alias="up_to")]]


class BillingCreditEntriesUpdate(TypedDict):
    account_id: NotRequired[Annotated[uuid.UUID, Field(alias="account_id")]]
    actor: NotRequired[Annotated[Optional[str], Field(alias="actor")]]
    amount: NotRequired[Annotated[int, Field(alias="amount")]]
    balance_after: NotRequired[Annotated[int, Field(alias="balance_after")]]
    created_at: NotRequired[Annotated[datetime.datetime, Field(alias="created_at")]]
    debt: NotRequired[Annotated[int, Field(alias="debt")]]
    description: NotRequired[Annotated[Optional[str], Field(alias="description")]]
    feature: NotRequired[Annotated[Optional[str], Field(alias="feature")]]
    hold_id: NotRequired[Annotated[Optional[uuid.UUID], Field(alias="hold_id")]]
    id: NotRequired[Annotated[int, Field(alias="id")]]
    idempotency_key: NotRequired[Annotated[str, Field(alias="idempotency_key")]]
    key_space: NotRequired[Annotated[str, Field(alias="key_space")]]
    kind: NotRequired[Annotated[str, Field(alias="kind")]]
    metadata: NotRequired[Annotated[JsonValue, Field(alias="metadata")]]
    occurred_at: NotRequired[Annotated[datetime.datetime, Field(alias="occurred_at")]]
    reference_id: NotRequired[Annotated[Optional[str], Field(alias="reference_id")]]
    reverses_entry_id: NotRequired[Annotated[Optional[int], Field(alias="reverses_entry_id")]]
    source: NotRequired[Annotated[str, Field(alias="source")]]
    up_to: NotRequired[Annotated[Optional[int], Field(alias="up_to")]]


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


class BillingCreditGrantsInsert(TypedDict):
    account_id: Annotated[uuid.UUID, Field(alias="account_id")]
    amount: Annotated[int, Field(alias="amount")]
    closed_at: NotRequired[Annotated[Optional[datetime.datetime], Field(alias="closed_at")]]
    contested: NotRequired[Annotated[int, Field(alias="contested")]]
    created_at: NotRequired[Annotated[datetime.datetime, Field(alias="created_at")]]
    cut: NotRequired[Annotated[int, Field(alias="cut")]]
    description: NotRequired[Annotated[Optional[str], Field(alias="description")]]
    effective_at: Annotated[datetime.datetime, Field(alias="effective_at")]
    entry_id: NotRequired[Annotated[Optional[int], Field(alias="entry_id")]]
    epoch: NotRequired[Annotated[int, Field(alias="epoch")]]
    expires_at: NotRequired[Annotated[Optional[datetime.datetime], Field(alias="expires_at")]]
    held: NotRequired[Annotated[int, Field(alias="held")]]
    id: NotRequired[Annotated[int, Field(alias="id")]]
    idempotency_key: Annotated[str, Field(alias="idempotency_key")]
    key_space: Annotated[str, Field(alias="key_space")]
    lapsed: NotRequired[Annotated[int, Field(alias="lapsed")]]
    priority: NotRequired[Annotated[int, Field(alias="priority")]]
    reference_id: NotRequired[Annotated[Optional[str], Field(alias="reference_id")]]
    remaining: Annotated[int, Field(alias="remaining")]
    source: Annotated[str, Field(alias="source")]
    stripe_checkout_session_id: NotRequired[
        Annotated[Optional[str], Field(alias="stripe_checkout_session_id")]
    ]
    stripe_invoice_id: NotRequired[Annotated[Optional[str], Field(alias="stripe_invoice_id")]]
    stripe_payment_intent_id: NotRequired[Annotated[Optional[str], Field(alias="stripe_payment_intent_id")]]
    stripe_price_id: NotRequired[Annotated[Optional[str], Field(alias="stripe_price_id")]]
    stripe_subscription_item_id: NotRequired[
        Annotated[Optional[str], Field(alias="stripe_subscription_item_id")]
    ]


class BillingCreditGrantsUpdate(TypedDict):
    account_id: NotRequired[Annotated[uuid.UUID, Field(alias="account_id")]]
    amount: NotRequired[Annotated[int, Field(alias="amount")]]
    closed_at: NotRequired[Annotated[Optional[datetime.datetime], Field(alias="closed_at")]]
    contested: NotRequired[Annotated[int, Field(alias="contested")]]
    created_at: NotRequired[Annotated[datetime.datetime, Field(alias="created_at")]]
    cut: NotRequired[Annotated[int, Field(alias="cut")]]
    description: NotRequired[Annotated[Optional[str], Field(alias="description")]]
    effective_at: NotRequired[Annotated[datetime.datetime, Field(alias="effective_at")]]
    entry_id: NotRequired[Annotated[Optional[int], Field(alias="entry_id")]]
    epoch: NotRequired[Annotated[int, Field(alias="epoch")]]
    expires_at: NotRequired[Annotated[Optional[datetime.datetime], Field(alias="expires_at")]]
    held: NotRequired[Annotated[int, Field(alias="held")]]
    id: NotRequired[Annotated[int, Field(alias="id")]]
    idempotency_key: NotRequired[Annotated[str, Field(alias="idempotency_key")]]
    key_space: NotRequired[Annotated[str, Field(alias="key_space")]]
    lapsed: NotRequired[Annotated[int, Field(alias="lapsed")]]
    priority: NotRequired[Annotated[int, Field(alias="priority")]]
    reference_id: NotRequired[Annotated[Optional[str], Field(alias="reference_id")]]
    remaining: NotRequired[Annotated[int, Field(alias="remaining")]]
    source: NotRequired[Annotated[str, Field(alias="source")]]
    stripe_checkout_session_id: NotRequired[
        Annotated[Optional[str], Field(alias="stripe_checkout_session_id")]
    ]
    stripe_invoice_id: NotRequired[Annotated[Optional[str], Field(alias="stripe_invoice_id")]]
    stripe_payment_intent_id: NotRequired[Annotated[Optional[str], Field(alias="stripe_payment_intent_id")]]
    stripe_price_id: NotRequired[Annotated[Optional[str], Field(alias="stripe_price_id")]]
    stripe_subscription_item_id: NotRequired[
        Annotated[Optional[str], Field(alias="stripe_subscription_item_id")]
    ]


class BillingCreditHoldLots(BaseModel):
    amount: int = Field(alias="amount")
    grant_id: int = Field(alias="grant_id")
    hold_id: uuid.UUID = Field(alias="hold_id")


class BillingCreditHoldLotsInsert(TypedDict):
    amount: Annotated[int, Field(alias="amount")]
    grant_id: Annotated[int, Field(alias="grant_id")]
    hold_id: Annotated[uuid.UUID, Field(alias="hold_id")]


class BillingCreditHoldLotsUpdate(TypedDict):
    amount: NotRequired[Annotated[int, Field(alias="amount")]]
    grant_id: NotRequired[Annotated[int, Field(alias="grant_id")]]
    hold_id: NotRequired[Annotated[uuid.UUID, Field(alias="hold_id")]]


class BillingCreditHolds(BaseModel):
    account_id: uuid.UUID = Field(alias="account_id")
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


class BillingCreditHoldsInsert(TypedDict):
    account_id: Annotated[uuid.UUID, Field(alias="account_id")]
    amount: Annotated[int, Field(alias="amount")]
    captured: NotRequired[Annotated[int, Field(alias="captured")]]
    created_at: NotRequired[Annotated[datetime.datetime, Field(alias="created_at")]]
    description: NotRequired[Annotated[Optional[str], Field(alias="description")]]
    expires_at: Annotated[datetime.datetime, Field(alias="expires_at")]
    expires_in: Annotated[str, Field(alias="expires_in")]
    feature: NotRequired[Annotated[Optional[str], Field(alias="feature")]]
    frozen_grant_id: NotRequired[Annotated[Optional[int], Field(alias="frozen_grant_id")]]
    id: NotRequired[Annotated[uuid.UUID, Field(alias="id")]]
    idempotency_key: Annotated[str, Field(alias="idempotency_key")]
    metadata: NotRequired[Annotated[JsonValue, Field(alias="metadata")]]
    release_key: NotRequired[Annotated[Optional[str], Field(alias="release_key")]]
    settled_at: NotRequired[Annotated[Optional[datetime.datetime], Field(alias="settled_at")]]
    status: NotRequired[Annotated[str, Field(alias="status")]]


class BillingCreditHoldsUpdate(TypedDict):
    account_id: NotRequired[Annotated[uuid.UUID, Field(alias="account_id")]]
    amount: NotRequired[Annotated[int, Field(alias="amount")]]
    captured: NotRequired[Annotated[int, Field(alias="captured")]]
    created_at: NotRequired[Annotated[datetime.datetime, Field(alias="created_at")]]
    description: NotRequired[Annotated[Optional[str], Field(alias="description")]]
    expires_at: NotRequired[Annotated[datetime.datetime, Field(alias="expires_at")]]
    expires_in: NotRequired[Annotated[str, Field(alias="expires_in")]]
    feature: NotRequired[Annotated[Optional[str], Field(alias="feature")]]
    frozen_grant_id: NotRequired[Annotated[Optional[int], Field(alias="frozen_grant_id")]]
    id: NotRequired[Annotated[uuid.UUID, Field(alias="id")]]
    idempotency_key: NotRequired[Annotated[str, Field(alias="idempotency_key")]]
    metadata: NotRequired[Annotated[JsonValue, Field(alias="metadata")]]
    release_key: NotRequired[Annotated[Optional[str], Field(alias="release_key")]]
    settled_at: NotRequired[Annotated[Optional[datetime.datetime], Field(alias="settled_at")]]
    status: NotRequired[Annotated[str, Field(alias="status")]]


class BillingCreditNoteLines(BaseModel):
    amount: int = Field(alias="amount")
    number: int = Field(alias="number")
    stripe_credit_note_id: str = Field(alias="stripe_credit_note_id")
    stripe_line_id: Optional[str] = Field(alias="stripe_line_id")


class BillingCreditNoteLinesInsert(TypedDict):
    amount: Annotated[int, Field(alias="amount")]
    number: Annotated[int, Field(alias="number")]
    stripe_credit_note_id: Annotated[str, Field(alias="stripe_credit_note_id")]
    stripe_line_id: NotRequired[Annotated[Optional[str], Field(alias="stripe_line_id")]]


class BillingCreditNoteLinesUpdate(TypedDict):
    amount: NotRequired[Annotated[int, Field(alias="amount")]]
    number: NotRequired[Annotated[int, Field(alias="number")]]
    stripe_credit_note_id: NotRequired[Annotated[str, Field(alias="stripe_credit_note_id")]]
    stripe_line_id: NotRequired[Annotated[Optional[str], Field(alias="stripe_line_id")]]


class BillingCreditNotes(BaseModel):
    amount: int = Field(alias="amount")
    amount_refunded: int = Field(alias="amount_refunded")
    as_of: datetime.datetime = Field(alias="as_of")
    created_at: datetime.datetime = Field(alias="created_at")
    currency: str = Field(alias="currency")
    livemode: bool = Field(alias="livemode")
    noted_at: datetime.datetime = Field(alias="noted_at")
    pre_payment_amount: int = Field(alias="pre_payment_amount")
    reason: Optional[str] = Field(alias="reason")
    status: str = Field(alias="status")
    stripe_credit_note_id: str = Field(alias="stripe_credit_note_id")
    stripe_invoice_id: str = Field(alias="stripe_invoice_id")
    stripe_refund_ids: List[str] = Field(alias="stripe_refund_ids")
    updated_at: datetime.datetime = Field(alias="updated_at")


class BillingCreditNotesInsert(TypedDict):
    amount: Annotated[int, Field(alias="amount")]
    amount_refunded: Annotated[int, Field(alias="amount_refunded")]
    as_of: Annotated[datetime.datetime, Field(alias="as_of")]
    created_at: NotRequired[Annotated[datetime.datetime, Field(alias="created_at")]]
    currency: Annotated[str, Field(alias="currency")]
    livemode: Annotated[bool, Field(alias="livemode")]
    noted_at: Annotated[datetime.datetime, Field(alias="noted_at")]
    pre_payment_amount: NotRequired[Annotated[int, Field(alias="pre_payment_amount")]]
    reason: NotRequired[Annotated[Optional[str], Field(alias="reason")]]
    status: Annotated[str, Field(alias="status")]
    stripe_credit_note_id: Annotated[str, Field(alias="stripe_credit_note_id")]
    stripe_invoice_id: Annotated[str, Field(alias="stripe_invoice_id")]
    stripe_refund_ids: NotRequired[Annotated[List[str], Field(alias="stripe_refund_ids")]]
    updated_at: NotRequired[Annotated[datetime.datetime, Field(alias="updated_at")]]


class BillingCreditNotesUpdate(TypedDict):
    amount: NotRequired[Annotated[int, Field(alias="amount")]]
    amount_refunded: NotRequired[Annotated[int, Field(alias="amount_refunded")]]
    as_of: NotRequired[Annotated[datetime.datetime, Field(alias="as_of")]]
    created_at: NotRequired[Annotated[datetime.datetime, Field(alias="created_at")]]
    currency: NotRequired[Annotated[str, Field(alias="currency")]]
    livemode: NotRequired[Annotated[bool, Field(alias="livemode")]]
    noted_at: NotRequired[Annotated[datetime.datetime, Field(alias="noted_at")]]
    pre_payment_amount: NotRequired[Annotated[int, Field(alias="pre_payment_amount")]]
    reason: NotRequired[Annotated[Optional[str], Field(alias="reason")]]
    status: NotRequired[Annotated[str, Field(alias="status")]]
    stripe_credit_note_id: NotRequired[Annotated[str, Field(alias="stripe_credit_note_id")]]
    stripe_invoice_id: NotRequired[Annotated[str, Field(alias="stripe_invoice_id")]]
    stripe_refund_ids: NotRequired[Annotated[List[str], Field(alias="stripe_refund_ids")]]
    updated_at: NotRequired[Annotated[datetime.datetime, Field(alias="updated_at")]]


class BillingCreditPacks(BaseModel):
    active: bool = Field(alias="active")
    as_of: datetime.datetime = Field(alias="as_of")
    created_at: datetime.datetime = Field(alias="created_at")
    credits_per_unit: Optional[float] = Field(alias="credits_per_unit")
    currency: str = Field(alias="currency")
    expires_after: Optional[str] = Field(alias="expires_after")
    livemode: bool = Field(alias="livemode")
    lookup_key: Optional[str] = Field(alias="lookup_key")
    metadata: JsonValue = Field(alias="metadata")
    nickname: Optional[str] = Field(alias="nickname")
    pack_credits: Optional[int] = Field(alias="pack_credits")
    stripe_price_id: str = Field(alias="stripe_price_id")
    stripe_product_id: str = Field(alias="stripe_product_id")
    unit_amount: Optional[int] = Field(alias="unit_amount")
    updated_at: datetime.datetime = Field(alias="updated_at")


class BillingCreditPacksInsert(TypedDict):
    active: NotRequired[Annotated[bool, Field(alias="active")]]
    as_of: NotRequired[Annotated[datetime.datetime, Field(alias="as_of")]]
    created_at: NotRequired[Annotated[datetime.datetime, Field(alias="created_at")]]
    credits_per_unit: NotRequired[Annotated[Optional[float], Field(alias="credits_per_unit")]]
    currency: NotRequired[Annotated[str, Field(alias="currency")]]
    expires_after: NotRequired[Annotated[Optional[str], Field(alias="expires_after")]]
    livemode: NotRequired[Annotated[bool, Field(alias="livemode")]]
    lookup_key: NotRequired[Annotated[Optional[str], Field(alias="lookup_key")]]
    metadata: NotRequired[Annotated[JsonValue, Field(alias="metadata")]]
    nickname: NotRequired[Annotated[Optional[str], Field(alias="nickname")]]
    pack_credits: NotRequired[Annotated[Optional[int], Field(alias="pack_credits")]]
    stripe_price_id: Annotated[str, Field(alias="stripe_price_id")]
    stripe_product_id: Annotated[str, Field(alias="stripe_product_id")]
    unit_amount: NotRequired[Annotated[Optional[int], Field(alias="unit_amount")]]
    updated_at: NotRequired[Annotated[datetime.datetime, Field(alias="updated_at")]]


class BillingCreditPacksUpdate(TypedDict):
    active: NotRequired[Annotated[bool, Field(alias="active")]]
    as_of: NotRequired[Annotated[datetime.datetime, Field(alias="as_of")]]
    created_at: NotRequired[Annotated[datetime.datetime, Field(alias="created_at")]]
    credits_per_unit: NotRequired[Annotated[Optional[float], Field(alias="credits_per_unit")]]
    currency: NotRequired[Annotated[str, Field(alias="currency")]]
    expires_after: NotRequired[Annotated[Optional[str], Field(alias="expires_after")]]
    livemode: NotRequired[Annotated[bool, Field(alias="livemode")]]
    lookup_key: NotRequired[Annotated[Optional[str], Field(alias="lookup_key")]]
    metadata: NotRequired[Annotated[JsonValue, Field(alias="metadata")]]
    nickname: NotRequired[Annotated[Optional[str], Field(alias="nickname")]]
    pack_credits: NotRequired[Annotated[Optional[int], Field(alias="pack_credits")]]
    stripe_price_id: NotRequired[Annotated[str, Field(alias="stripe_price_id")]]
    stripe_product_id: NotRequired[Annotated[str, Field(alias="stripe_product_id")]]
    unit_amount: NotRequired[Annotated[Optional[int], Field(alias="unit_amount")]]
    updated_at: NotRequired[Annotated[datetime.datetime, Field(alias="updated_at")]]


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


class BillingCreditReinstatementsInsert(TypedDict):
    account_id: Annotated[uuid.UUID, Field(alias="account_id")]
    actor: Annotated[str, Field(alias="actor")]
    amount: Annotated[int, Field(alias="amount")]
    created_at: NotRequired[Annotated[datetime.datetime, Field(alias="created_at")]]
    entry_id: NotRequired[Annotated[Optional[int], Field(alias="entry_id")]]
    id: NotRequired[Annotated[int, Field(alias="id")]]
    idempotency_key: Annotated[str, Field(alias="idempotency_key")]
    key_space: Annotated[str, Field(alias="key_space")]
    reason: Annotated[str, Field(alias="reason")]
    revocation_id: Annotated[int, Field(alias="revocation_id")]
    unwithheld: Annotated[int, Field(alias="unwithheld")]


class BillingCreditReinstatementsUpdate(TypedDict):
    account_id: NotRequired[Annotated[uuid.UUID, Field(alias="account_id")]]
    actor: NotRequired[Annotated[str, Field(alias="actor")]]
    amount: NotRequired[Annotated[int, Field(alias="amount")]]
    created_at: NotRequired[Annotated[datetime.datetime, Field(alias="created_at")]]
    entry_id: NotRequired[Annotated[Optional[int], Field(alias="entry_id")]]
    id: NotRequired[Annotated[int, Field(alias="id")]]
    idempotency_key: NotRequired[Annotated[str, Field(alias="idempotency_key")]]
    key_space: NotRequired[Annotated[str, Field(alias="key_space")]]
    reason: NotRequired[Annotated[str, Field(alias="reason")]]
    revocation_id: NotRequired[Annotated[int, Field(alias="revocation_id")]]
    unwithheld: NotRequired[Annotated[int, Field(alias="unwithheld")]]


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


class BillingCreditRevocationsInsert(TypedDict):
    account_id: Annotated[uuid.UUID, Field(alias="account_id")]
    actor: NotRequired[Annotated[Optional[str], Field(alias="actor")]]
    business_key: NotRequired[Annotated[Optional[str], Field(alias="business_key")]]
    created_at: NotRequired[Annotated[datetime.datetime, Field(alias="created_at")]]
    entry_id: NotRequired[Annotated[Optional[int], Field(alias="entry_id")]]
    grant_id: Annotated[int, Field(alias="grant_id")]
    id: NotRequired[Annotated[int, Field(alias="id")]]
    idempotency_key: Annotated[str, Field(alias="idempotency_key")]
    key_space: Annotated[str, Field(alias="key_space")]
    reason: Annotated[str, Field(alias="reason")]
    reinstated: NotRequired[Annotated[int, Field(alias="reinstated")]]
    requested: Annotated[int, Field(alias="requested")]
    shortfall: Annotated[int, Field(alias="shortfall")]
    shortfall_policy: Annotated[str, Field(alias="shortfall_policy")]
    taken: Annotated[int, Field(alias="taken")]
    voided: NotRequired[Annotated[int, Field(alias="voided")]]


class BillingCreditRevocationsUpdate(TypedDict):
    account_id: NotRequired[Annotated[uuid.UUID, Field(alias="account_id")]]
    actor: NotRequired[Annotated[Optional[str], Field(alias="actor")]]
    business_key: NotRequired[Annotated[Optional[str], Field(alias="business_key")]]
    created_at: NotRequired[Annotated[datetime.datetime, Field(alias="created_at")]]
    entry_id: NotRequired[Annotated[Optional[int], Field(alias="entry_id")]]
    grant_id: NotRequired[Annotated[int, Field(alias="grant_id")]]
    id: NotRequired[Annotated[int, Field(alias="id")]]
    idempotency_key: NotRequired[Annotated[str, Field(alias="idempotency_key")]]
    key_space: NotRequired[Annotated[str, Field(alias="key_space")]]
    reason: NotRequired[Annotated[str, Field(alias="reason")]]
    reinstated: NotRequired[Annotated[int, Field(alias="reinstated")]]
    requested: NotRequired[Annotated[int, Field(alias="requested")]]
    shortfall: NotRequired[Annotated[int, Field(alias="shortfall")]]
    shortfall_policy: NotRequired[Annotated[str, Field(alias="shortfall_policy")]]
    taken: NotRequired[Annotated[int, Field(alias="taken")]]
    voided: NotRequired[Annotated[int, Field(alias="voided")]]


class BillingCreditSchedules(BaseModel):
    account_id: uuid.UUID = Field(alias="account_id")
    anchor: datetime.datetime = Field(alias="anchor")
    created_at: datetime.datetime = Field(alias="created_at")
    credited_line_id: Optional[str] = Field(alias="credited_line_id")
    disarmed_reason: Optional[str] = Field(alias="disarmed_reason")
    ends_at: datetime.datetime = Field(alias="ends_at")
    gives_back: bool = Field(alias="gives_back")
    has_returns: bool = Field(alias="has_returns")
    is_change: bool = Field(alias="is_change")
    is_free: bool = Field(alias="is_free")
    is_plain: bool = Field(alias="is_plain")
    is_unpaid: bool = Field(alias="is_unpaid")
    next_slot_at: Optional[datetime.datetime] = Field(alias="next_slot_at")
    paid_at: datetime.datetime = Field(alias="paid_at")
    period_end: datetime.datetime = Field(alias="period_end")
    period_start: datetime.datetime = Field(alias="period_start")
    quantity: int = Field(alias="quantity")
    stripe_invoice_id: str = Field(alias="stripe_invoice_id")
    stripe_line_id: str = Field(alias="stripe_line_id")
    stripe_price_id: str = Field(alias="stripe_price_id")
    stripe_subscription_id: str = Field(alias="stripe_subscription_id")
    stripe_subscription_item_id: str = Field(alias="stripe_subscription_item_id")
    terms_from: datetime.datetime = Field(alias="terms_from")


class BillingCreditSchedulesInsert(TypedDict):
    account_id: Annotated[uuid.UUID, Field(alias="account_id")]
    anchor: Annotated[datetime.datetime, Field(alias="anchor")]
    created_at: NotRequired[Annotated[datetime.datetime, Field(alias="created_at")]]
    credited_line_id: NotRequired[Annotated[Optional[str], Field(alias="credited_line_id")]]
    disarmed_reason: NotRequired[Annotated[Optional[str], Field(alias="disarmed_reason")]]
    ends_at: Annotated[datetime.datetime, Field(alias="ends_at")]
    gives_back: Annotated[bool, Field(alias="gives_back")]
    has_returns: NotRequired[Annotated[bool, Field(alias="has_returns")]]
    is_change: Annotated[bool, Field(alias="is_change")]
    is_free: Annotated[bool, Field(alias="is_free")]
    is_plain: Annotated[bool, Field(alias="is_plain")]
    is_unpaid: NotRequired[Annotated[bool, Field(alias="is_unpaid")]]
    next_slot_at: NotRequired[Annotated[Optional[datetime.datetime], Field(alias="next_slot_at")]]
    paid_at: Annotated[datetime.datetime, Field(alias="paid_at")]
    period_end: Annotated[datetime.datetime, Field(alias="period_end")]
    period_start: Annotated[datetime.datetime, Field(alias="period_start")]
    quantity: Annotated[int, Field(alias="quantity")]
    stripe_invoice_id: Annotated[str, Field(alias="stripe_invoice_id")]
    stripe_line_id: Annotated[str, Field(alias="stripe_line_id")]
    stripe_price_id: Annotated[str, Field(alias="stripe_price_id")]
    stripe_subscription_id: Annotated[str, Field(alias="stripe_subscription_id")]
    stripe_subscription_item_id: Annotated[str, Field(alias="stripe_subscription_item_id")]
    terms_from: Annotated[datetime.datetime, Field(alias="terms_from")]


class BillingCreditSchedulesUpdate(TypedDict):
    account_id: NotRequired[Annotated[uuid.UUID, Field(alias="account_id")]]
    anchor: NotRequired[Annotated[datetime.datetime, Field(alias="anchor")]]
    created_at: NotRequired[Annotated[datetime.datetime, Field(alias="created_at")]]
    credited_line_id: NotRequired[Annotated[Optional[str], Field(alias="credited_line_id")]]
    disarmed_reason: NotRequired[Annotated[Optional[str], Field(alias="disarmed_reason")]]
    ends_at: NotRequired[Annotated[datetime.datetime, Field(alias="ends_at")]]
    gives_back: NotRequired[Annotated[bool, Field(alias="gives_back")]]
    has_returns: NotRequired[Annotated[bool, Field(alias="has_returns")]]
    is_change: NotRequired[Annotated[bool, Field(alias="is_change")]]
    is_free: NotRequired[Annotated[bool, Field(alias="is_free")]]
    is_plain: NotRequired[Annotated[bool, Field(alias="is_plain")]]
    is_unpaid: NotRequired[Annotated[bool, Field(alias="is_unpaid")]]
    next_slot_at: NotRequired[Annotated[Optional[datetime.datetime], Field(alias="next_slot_at")]]
    paid_at: NotRequired[Annotated[datetime.datetime, Field(alias="paid_at")]]
    period_end: NotRequired[Annotated[datetime.datetime, Field(alias="period_end")]]
    period_start: NotRequired[Annotated[datetime.datetime, Field(alias="period_start")]]
    quantity: NotRequired[Annotated[int, Field(alias="quantity")]]
    stripe_invoice_id: NotRequired[Annotated[str, Field(alias="stripe_invoice_id")]]
    stripe_line_id: NotRequired[Annotated[str, Field(alias="stripe_line_id")]]
    stripe_price_id: NotRequired[Annotated[str, Field(alias="stripe_price_id")]]
    stripe_subscription_id: NotRequired[Annotated[str, Field(alias="stripe_subscription_id")]]
    stripe_subscription_item_id: NotRequired[Annotated[str, Field(alias="stripe_subscription_item_id")]]
    terms_from: NotRequired[Annotated[datetime.datetime, Field(alias="terms_from")]]


class BillingCreditTerms(BaseModel):
    cancel_credits: str = Field(alias="cancel_credits")
    downgrade_credits: str = Field(alias="downgrade_credits")
    initial_credits: int = Field(alias="initial_credits")
    monthly_credits: int = Field(alias="monthly_credits")
    proration_credits: str = Field(alias="proration_credits")
    rollover: str = Field(alias="rollover")
    rollover_cap: Optional[int] = Field(alias="rollover_cap")
    rollover_periods: Optional[int] = Field(alias="rollover_periods")
    stripe_price_id: str = Field(alias="stripe_price_id")
    trial_credits: int = Field(alias="trial_credits")
    trial_end_credits: str = Field(alias="trial_end_credits")
    valid_from: datetime.datetime = Field(alias="valid_from")


class BillingCreditTermsInsert(TypedDict):
    cancel_credits: Annotated[str, Field(alias="cancel_credits")]
    downgrade_credits: Annotated[str, Field(alias="downgrade_credits")]
    initial_credits: Annotated[int, Field(alias="initial_credits")]
    monthly_credits: Annotated[int, Field(alias="monthly_credits")]
    proration_credits: Annotated[str, Field(alias="proration_credits")]
    rollover: Annotated[str, Field(alias="rollover")]
    rollover_cap: NotRequired[Annotated[Optional[int], Field(alias="rollover_cap")]]
    rollover_periods: NotRequired[Annotated[Optional[int], Field(alias="rollover_periods")]]
    stripe_price_id: Annotated[str, Field(alias="stripe_price_id")]
    trial_credits: Annotated[int, Field(alias="trial_credits")]
    trial_end_credits: Annotated[str, Field(alias="trial_end_credits")]
    valid_from: Annotated[datetime.datetime, Field(alias="valid_from")]


class BillingCreditTermsUpdate(TypedDict):
    cancel_credits: NotRequired[Annotated[str, Field(alias="cancel_credits")]]
    downgrade_credits: NotRequired[Annotated[str, Field(alias="downgrade_credits")]]
    initial_credits: NotRequired[Annotated[int, Field(alias="initial_credits")]]
    monthly_credits: NotRequired[Annotated[int, Field(alias="monthly_credits")]]
    proration_credits: NotRequired[Annotated[str, Field(alias="proration_credits")]]
    rollover: NotRequired[Annotated[str, Field(alias="rollover")]]
    rollover_cap: NotRequired[Annotated[Optional[int], Field(alias="rollover_cap")]]
    rollover_periods: NotRequired[Annotated[Optional[int], Field(alias="rollover_periods")]]
    stripe_price_id: NotRequired[Annotated[str, Field(alias="stripe_price_id")]]
    trial_credits: NotRequired[Annotated[int, Field(alias="trial_credits")]]
    trial_end_credits: NotRequired[Annotated[str, Field(alias="trial_end_credits")]]
    valid_from: NotRequired[Annotated[datetime.datetime, Field(alias="valid_from")]]


class BillingCustomerClaims(BaseModel):
    account_id: uuid.UUID = Field(alias="account_id")
    created_at: datetime.datetime = Field(alias="created_at")
    email: Optional[str] = Field(alias="email")
    idempotency_key: str = Field(alias="idempotency_key")
    keyed_at: datetime.datetime = Field(alias="keyed_at")
    livemode: bool = Field(alias="livemode")
    may_exist: bool = Field(alias="may_exist")
    name: Optional[str] = Field(alias="name")
    stripe_customer_id: Optional[str] = Field(alias="stripe_customer_id")
    token: uuid.UUID = Field(alias="token")
    updated_at: datetime.datetime = Field(alias="updated_at")


class BillingCustomerClaimsInsert(TypedDict):
    account_id: Annotated[uuid.UUID, Field(alias="account_id")]
    created_at: NotRequired[Annotated[datetime.datetime, Field(alias="created_at")]]
    email: NotRequired[Annotated[Optional[str], Field(alias="email")]]
    idempotency_key: Annotated[str, Field(alias="idempotency_key")]
    keyed_at: NotRequired[Annotated[datetime.datetime, Field(alias="keyed_at")]]
    livemode: Annotated[bool, Field(alias="livemode")]
    may_exist: NotRequired[Annotated[bool, Field(alias="may_exist")]]
    name: NotRequired[Annotated[Optional[str], Field(alias="name")]]
    stripe_customer_id: NotRequired[Annotated[Optional[str], Field(alias="stripe_customer_id")]]
    token: NotRequired[Annotated[uuid.UUID, Field(alias="token")]]
    updated_at: NotRequired[Annotated[datetime.datetime, Field(alias="updated_at")]]


class BillingCustomerClaimsUpdate(TypedDict):
    account_id: NotRequired[Annotated[uuid.UUID, Field(alias="account_id")]]
    created_at: NotRequired[Annotated[datetime.datetime, Field(alias="created_at")]]
    email: NotRequired[Annotated[Optional[str], Field(alias="email")]]
    idempotency_key: NotRequired[Annotated[str, Field(alias="idempotency_key")]]
    keyed_at: NotRequired[Annotated[datetime.datetime, Field(alias="keyed_at")]]
    livemode: NotRequired[Annotated[bool, Field(alias="livemode")]]
    may_exist: NotRequired[Annotated[bool, Field(alias="may_exist")]]
    name: NotRequired[Annotated[Optional[str], Field(alias="name")]]
    stripe_customer_id: NotRequired[Annotated[Optional[str], Field(alias="stripe_customer_id")]]
    token: NotRequired[Annotated[uuid.UUID, Field(alias="token")]]
    updated_at: NotRequired[Annotated[datetime.datetime, Field(alias="updated_at")]]


class BillingCustomerEmailChanges(BaseModel):
    attempts: int = Field(alias="attempts")
    created_at: datetime.datetime = Field(alias="created_at")
    last_error: Optional[str] = Field(alias="last_error")
    new_email: str = Field(alias="new_email")
    next_attempt_at: Optional[datetime.datetime] = Field(alias="next_attempt_at")
    old_emails: List[str] = Field(alias="old_emails")
    settled_at: Optional[datetime.datetime] = Field(alias="settled_at")
    stripe_customer_id: str = Field(alias="stripe_customer_id")
    updated_at: datetime.datetime = Field(alias="updated_at")


class BillingCustomerEmailChangesInsert(TypedDict):
    attempts: NotRequired[Annotated[int, Field(alias="attempts")]]
    created_at: NotRequired[Annotated[datetime.datetime, Field(alias="created_at")]]
    last_error: NotRequired[Annotated[Optional[str], Field(alias="last_error")]]
    new_email: Annotated[str, Field(alias="new_email")]
    next_attempt_at: NotRequired[Annotated[Optional[datetime.datetime], Field(alias="next_attempt_at")]]
    old_emails: Annotated[List[str], Field(alias="old_emails")]
    settled_at: NotRequired[Annotated[Optional[datetime.datetime], Field(alias="settled_at")]]
    stripe_customer_id: Annotated[str, Field(alias="stripe_customer_id")]
    updated_at: NotRequired[Annotated[datetime.datetime, Field(alias="updated_at")]]


class BillingCustomerEmailChangesUpdate(TypedDict):
    attempts: NotRequired[Annotated[int, Field(alias="attempts")]]
    created_at: NotRequired[Annotated[datetime.datetime, Field(alias="created_at")]]
    last_error: NotRequired[Annotated[Optional[str], Field(alias="last_error")]]
    new_email: NotRequired[Annotated[str, Field(alias="new_email")]]
    next_attempt_at: NotRequired[Annotated[Optional[datetime.datetime], Field(alias="next_attempt_at")]]
    old_emails: NotRequired[Annotated[List[str], Field(alias="old_emails")]]
    settled_at: NotRequired[Annotated[Optional[datetime.datetime], Field(alias="settled_at")]]
    stripe_customer_id: NotRequired[Annotated[str, Field(alias="stripe_customer_id")]]
    updated_at: NotRequired[Annotated[datetime.datetime, Field(alias="updated_at")]]


class BillingCustomers(BaseModel):
    account_id: Optional[uuid.UUID] = Field(alias="account_id")
    as_of: datetime.datetime = Field(alias="as_of")
    created_at: datetime.datetime = Field(alias="created_at")
    deleted_at: Optional[datetime.datetime] = Field(alias="deleted_at")
    dismissed_at: Optional[datetime.datetime] = Field(alias="dismissed_at")
    dismissed_by: Optional[str] = Field(alias="dismissed_by")
    dismissed_reason: Optional[str] = Field(alias="dismissed_reason")
    duplicate_of: Optional[str] = Field(alias="duplicate_of")
    email: Optional[str] = Field(alias="email")
    id: int = Field(alias="id")
    linked_at: Optional[datetime.datetime] = Field(alias="linked_at")
    livemode: bool = Field(alias="livemode")
    metadata: JsonValue = Field(alias="metadata")
    name: Optional[str] = Field(alias="name")
    stripe_customer_id: Optional[str] = Field(alias="stripe_customer_id")
    updated_at: datetime.datetime = Field(alias="updated_at")


class BillingCustomersInsert(TypedDict):
    account_id: NotRequired[Annotated[Optional[uuid.UUID], Field(alias="account_id")]]
    as_of: NotRequired[Annotated[datetime.datetime, Field(alias="as_of")]]
    created_at: NotRequired[Annotated[datetime.datetime, Field(alias="created_at")]]
    deleted_at: NotRequired[Annotated[Optional[datetime.datetime], Field(alias="deleted_at")]]
    dismissed_at: NotRequired[Annotated[Optional[datetime.datetime], Field(alias="dismissed_at")]]
    dismissed_by: NotRequired[Annotated[Optional[str], Field(alias="dismissed_by")]]
    dismissed_reason: NotRequired[Annotated[Optional[str], Field(alias="dismissed_reason")]]
    duplicate_of: NotRequired[Annotated[Optional[str], Field(alias="duplicate_of")]]
    email: NotRequired[Annotated[Optional[str], Field(alias="email")]]
    id: NotRequired[Annotated[int, Field(alias="id")]]
    linked_at: NotRequired[Annotated[Optional[datetime.datetime], Field(alias="linked_at")]]
    livemode: Annotated[bool, Field(alias="livemode")]
    metadata: NotRequired[Annotated[JsonValue, Field(alias="metadata")]]
    name: NotRequired[Annotated[Optional[str], Field(alias="name")]]
    stripe_customer_id: NotRequired[Annotated[Optional[str], Field(alias="stripe_customer_id")]]
    updated_at: NotRequired[Annotated[datetime.datetime, Field(alias="updated_at")]]


class BillingCustomersUpdate(TypedDict):
    account_id: NotRequired[Annotated[Optional[uuid.UUID], Field(alias="account_id")]]
    as_of: NotRequired[Annotated[datetime.datetime, Field(alias="as_of")]]
    created_at: NotRequired[Annotated[datetime.datetime, Field(alias="created_at")]]
    deleted_at: NotRequired[Annotated[Optional[datetime.datetime], Field(alias="deleted_at")]]
    dismissed_at: NotRequired[Annotated[Optional[datetime.datetime], Field(alias="dismissed_at")]]
    dismissed_by: NotRequired[Annotated[Optional[str], Field(alias="dismissed_by")]]
    dismissed_reason: NotRequired[Annotated[Optional[str], Field(alias="dismissed_reason")]]
    duplicate_of: NotRequired[Annotated[Optional[str], Field(alias="duplicate_of")]]
    email: NotRequired[Annotated[Optional[str], Field(alias="email")]]
    id: NotRequired[Annotated[int, Field(alias="id")]]
    linked_at: NotRequired[Annotated[Optional[datetime.datetime], Field(alias="linked_at")]]
    livemode: NotRequired[Annotated[bool, Field(alias="livemode")]]
    metadata: NotRequired[Annotated[JsonValue, Field(alias="metadata")]]
    name: NotRequired[Annotated[Optional[str], Field(alias="name")]]
    stripe_customer_id: NotRequired[Annotated[Optional[str], Field(alias="stripe_customer_id")]]
    updated_at: NotRequired[Annotated[datetime.datetime, Field(alias="updated_at")]]


class BillingDeletedPrices(BaseModel):
    created_at: datetime.datetime = Field(alias="created_at")
    deleted_at: datetime.datetime = Field(alias="deleted_at")
    kind: str = Field(alias="kind")
    stripe_id: str = Field(alias="stripe_id")


class BillingDeletedPricesInsert(TypedDict):
    created_at: NotRequired[Annotated[datetime.datetime, Field(alias="created_at")]]
    deleted_at: Annotated[datetime.datetime, Field(alias="deleted_at")]
    kind: Annotated[str, Field(alias="kind")]
    stripe_id: Annotated[str, Field(alias="stripe_id")]


class BillingDeletedPricesUpdate(TypedDict):
    created_at: NotRequired[Annotated[datetime.datetime, Field(alias="created_at")]]
    deleted_at: NotRequired[Annotated[datetime.datetime, Field(alias="deleted_at")]]
    kind: NotRequired[Annotated[str, Field(alias="kind")]]
    stripe_id: NotRequired[Annotated[str, Field(alias="stripe_id")]]


class BillingDisputes(BaseModel):
    amount: int = Field(alias="amount")
    as_of: datetime.datetime = Field(alias="as_of")
    created_at: datetime.datetime = Field(alias="created_at")
    currency: str = Field(alias="currency")
    disputed_at: datetime.datetime = Field(alias="disputed_at")
    evidence_due_at: Optional[datetime.datetime] = Field(alias="evidence_due_at")
    livemode: bool = Field(alias="livemode")
    reason: Optional[str] = Field(alias="reason")
    status: str = Field(alias="status")
    stripe_charge_id: str = Field(alias="stripe_charge_id")
    stripe_dispute_id: str = Field(alias="stripe_dispute_id")
    stripe_payment_intent_id: Optional[str] = Field(alias="stripe_payment_intent_id")
    updated_at: datetime.datetime = Field(alias="updated_at")


class BillingDisputesInsert(TypedDict):
    amount: Annotated[int, Field(alias="amount")]
    as_of: Annotated[datetime.datetime, Field(alias="as_of")]
    created_at: NotRequired[Annotated[datetime.datetime, Field(alias="created_at")]]
    currency: Annotated[str, Field(alias="currency")]
    disputed_at: Annotated[datetime.datetime, Field(alias="disputed_at")]
    evidence_due_at: NotRequired[Annotated[Optional[datetime.datetime], Field(alias="evidence_due_at")]]
    livemode: Annotated[bool, Field(alias="livemode")]
    reason: NotRequired[Annotated[Optional[str], Field(alias="reason")]]
    status: Annotated[str, Field(alias="status")]
    stripe_charge_id: Annotated[str, Field(alias="stripe_charge_id")]
    stripe_dispute_id: Annotated[str, Field(alias="stripe_dispute_id")]
    stripe_payment_intent_id: NotRequired[Annotated[Optional[str], Field(alias="stripe_payment_intent_id")]]
    updated_at: NotRequired[Annotated[datetime.datetime, Field(alias="updated_at")]]


class BillingDisputesUpdate(TypedDict):
    amount: NotRequired[Annotated[int, Field(alias="amount")]]
    as_of: NotRequired[Annotated[datetime.datetime, Field(alias="as_of")]]
    created_at: NotRequired[Annotated[datetime.datetime, Field(alias="created_at")]]
    currency: NotRequired[Annotated[str, Field(alias="currency")]]
    disputed_at: NotRequired[Annotated[datetime.datetime, Field(alias="disputed_at")]]
    evidence_due_at: NotRequired[Annotated[Optional[datetime.datetime], Field(alias="evidence_due_at")]]
    livemode: NotRequired[Annotated[bool, Field(alias="livemode")]]
    reason: NotRequired[Annotated[Optional[str], Field(alias="reason")]]
    status: NotRequired[Annotated[str, Field(alias="status")]]
    stripe_charge_id: NotRequired[Annotated[str, Field(alias="stripe_charge_id")]]
    stripe_dispute_id: NotRequired[Annotated[str, Field(alias="stripe_dispute_id")]]
    stripe_payment_intent_id: NotRequired[Annotated[Optional[str], Field(alias="stripe_payment_intent_id")]]
    updated_at: NotRequired[Annotated[datetime.datetime, Field(alias="updated_at")]]


class BillingEventPruning(BaseModel):
    id: bool = Field(alias="id")
    pruned_until: datetime.datetime = Field(alias="pruned_until")


class BillingEventPruningInsert(TypedDict):
    id: NotRequired[Annotated[bool, Field(alias="id")]]
    pruned_until: NotRequired[Annotated[datetime.datetime, Field(alias="pruned_until")]]


class BillingEventPruningUpdate(TypedDict):
    id: NotRequired[Annotated[bool, Field(alias="id")]]
    pruned_until: NotRequired[Annotated[datetime.datetime, Field(alias="pruned_until")]]


class BillingFoundDiscrepancies(BaseModel):
    account_id: uuid.UUID = Field(alias="account_id")
    business_key: Optional[str] = Field(alias="business_key")
    detail: str = Field(alias="detail")
    expected: Optional[int] = Field(alias="expected")
    found: Optional[int] = Field(alias="found")
    found_at: datetime.datetime = Field(alias="found_at")
    id: int = Field(alias="id")
    invariant: str = Field(alias="invariant")


class BillingFoundDiscrepanciesInsert(TypedDict):
    account_id: Annotated[uuid.UUID, Field(alias="account_id")]
    business_key: NotRequired[Annotated[Optional[str], Field(alias="business_key")]]
    detail: Annotated[str, Field(alias="detail")]
    expected: NotRequired[Annotated[Optional[int], Field(alias="expected")]]
    found: NotRequired[Annotated[Optional[int], Field(alias="found")]]
    found_at: NotRequired[Annotated[datetime.datetime, Field(alias="found_at")]]
    id: NotRequired[Annotated[int, Field(alias="id")]]
    invariant: Annotated[str, Field(alias="invariant")]


class BillingFoundDiscrepanciesUpdate(TypedDict):
    account_id: NotRequired[Annotated[uuid.UUID, Field(alias="account_id")]]
    business_key: NotRequired[Annotated[Optional[str], Field(alias="business_key")]]
    detail: NotRequired[Annotated[str, Field(alias="detail")]]
    expected: NotRequired[Annotated[Optional[int], Field(alias="expected")]]
    found: NotRequired[Annotated[Optional[int], Field(alias="found")]]
    found_at: NotRequired[Annotated[datetime.datetime, Field(alias="found_at")]]
    id: NotRequired[Annotated[int, Field(alias="id")]]
    invariant: NotRequired[Annotated[str, Field(alias="invariant")]]


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
    next_attempt_at: Optional[datetime.datetime] = Field(alias="next_attempt_at")
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


class BillingFraudActionsInsert(TypedDict):
    account_id: NotRequired[Annotated[Optional[uuid.UUID], Field(alias="account_id")]]
    action: Annotated[str, Field(alias="action")]
    actor: Annotated[str, Field(alias="actor")]
    amount: NotRequired[Annotated[Optional[int], Field(alias="amount")]]
    attempts: NotRequired[Annotated[int, Field(alias="attempts")]]
    created_at: NotRequired[Annotated[datetime.datetime, Field(alias="created_at")]]
    currency: NotRequired[Annotated[Optional[str], Field(alias="currency")]]
    decided_at: Annotated[datetime.datetime, Field(alias="decided_at")]
    id: NotRequired[Annotated[int, Field(alias="id")]]
    idempotency_key: NotRequired[Annotated[uuid.UUID, Field(alias="idempotency_key")]]
    is_in_doubt: NotRequired[Annotated[bool, Field(alias="is_in_doubt")]]
    last_error: NotRequired[Annotated[Optional[str], Field(alias="last_error")]]
    next_attempt_at: NotRequired[Annotated[Optional[datetime.datetime], Field(alias="next_attempt_at")]]
    reason: Annotated[str, Field(alias="reason")]
    settled_at: NotRequired[Annotated[Optional[datetime.datetime], Field(alias="settled_at")]]
    status: Annotated[str, Field(alias="status")]
    stripe_charge_id: NotRequired[Annotated[Optional[str], Field(alias="stripe_charge_id")]]
    stripe_early_fraud_warning_id: NotRequired[
        Annotated[Optional[str], Field(alias="stripe_early_fraud_warning_id")]
    ]
    stripe_refund_id: NotRequired[Annotated[Optional[str], Field(alias="stripe_refund_id")]]
    stripe_subscription_id: NotRequired[Annotated[Optional[str], Field(alias="stripe_subscription_id")]]
    undone_at: NotRequired[Annotated[Optional[datetime.datetime], Field(alias="undone_at")]]
    undone_by: NotRequired[Annotated[Optional[str], Field(alias="undone_by")]]
    undone_reason: NotRequired[Annotated[Optional[str], Field(alias="undone_reason")]]
    updated_at: NotRequired[Annotated[datetime.datetime, Field(alias="updated_at")]]


class BillingFraudActionsUpdate(TypedDict):
    account_id: NotRequired[Annotated[Optional[uuid.UUID], Field(alias="account_id")]]
    action: NotRequired[Annotated[str, Field(alias="action")]]
    actor: NotRequired[Annotated[str, Field(alias="actor")]]
    amount: NotRequired[Annotated[Optional[int], Field(alias="amount")]]
    attempts: NotRequired[Annotated[int, Field(alias="attempts")]]
    created_at: NotRequired[Annotated[datetime.datetime, Field(alias="created_at")]]
    currency: NotRequired[Annotated[Optional[str], Field(alias="currency")]]
    decided_at: NotRequired[Annotated[datetime.datetime, Field(alias="decided_at")]]
    id: NotRequired[Annotated[int, Field(alias="id")]]
    idempotency_key: NotRequired[Annotated[uuid.UUID, Field(alias="idempotency_key")]]
    is_in_doubt: NotRequired[Annotated[bool, Field(alias="is_in_doubt")]]
    last_error: NotRequired[Annotated[Optional[str], Field(alias="last_error")]]
    next_attempt_at: NotRequired[Annotated[Optional[datetime.datetime], Field(alias="next_attempt_at")]]
    reason: NotRequired[Annotated[str, Field(alias="reason")]]
    settled_at: NotRequired[Annotated[Optional[datetime.datetime], Field(alias="settled_at")]]
    status: NotRequired[Annotated[str, Field(alias="status")]]
    stripe_charge_id: NotRequired[Annotated[Optional[str], Field(alias="stripe_charge_id")]]
    stripe_early_fraud_warning_id: NotRequired[
        Annotated[Optional[str], Field(alias="stripe_early_fraud_warning_id")]
    ]
    stripe_refund_id: NotRequired[Annotated[Optional[str], Field(alias="stripe_refund_id")]]
    stripe_subscription_id: NotRequired[Annotated[Optional[str], Field(alias="stripe_subscription_id")]]
    undone_at: NotRequired[Annotated[Optional[datetime.datetime], Field(alias="undone_at")]]
    undone_by: NotRequired[Annotated[Optional[str], Field(alias="undone_by")]]
    undone_reason: NotRequired[Annotated[Optional[str], Field(alias="undone_reason")]]
    updated_at: NotRequired[Annotated[datetime.datetime, Field(alias="updated_at")]]


class BillingFraudPolicies(BaseModel):
    alert: bool = Field(alias="alert")
    cancel_subscription: bool = Field(alias="cancel_subscription")
    freeze_account: bool = Field(alias="freeze_account")
    refund: bool = Field(alias="refund")
    refund_age_max: str = Field(alias="refund_age_max")
    refund_amount_max: Optional[int] = Field(alias="refund_amount_max")
    risk_level: str = Field(alias="risk_level")
    updated_at: datetime.datetime = Field(alias="updated_at")


class BillingFraudPoliciesInsert(TypedDict):
    alert: NotRequired[Annotated[bool, Field(alias="alert")]]
    cancel_subscription: NotRequired[Annotated[bool, Field(alias="cancel_subscription")]]
    freeze_account: NotRequired[Annotated[bool, Field(alias="freeze_account")]]
    refund: NotRequired[Annotated[bool, Field(alias="refund")]]
    refund_age_max: NotRequired[Annotated[str, Field(alias="refund_age_max")]]
    refund_amount_max: NotRequired[Annotated[Optional[int], Field(alias="refund_amount_max")]]
    risk_level: Annotated[str, Field(alias="risk_level")]
    updated_at: NotRequired[Annotated[datetime.datetime, Field(alias="updated_at")]]


class BillingFraudPoliciesUpdate(TypedDict):
    alert: NotRequired[Annotated[bool, Field(alias="alert")]]
    cancel_subscription: NotRequired[Annotated[bool, Field(alias="cancel_subscription")]]
    freeze_account: NotRequired[Annotated[bool, Field(alias="freeze_account")]]
    refund: NotRequired[Annotated[bool, Field(alias="refund")]]
    refund_age_max: NotRequired[Annotated[str, Field(alias="refund_age_max")]]
    refund_amount_max: NotRequired[Annotated[Optional[int], Field(alias="refund_amount_max")]]
    risk_level: NotRequired[Annotated[str, Field(alias="risk_level")]]
    updated_at: NotRequired[Annotated[datetime.datetime, Field(alias="updated_at")]]


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


class BillingFraudWarningsInsert(TypedDict):
    account_id: NotRequired[Annotated[Optional[uuid.UUID], Field(alias="account_id")]]
    actionable: Annotated[bool, Field(alias="actionable")]
    as_of: Annotated[datetime.datetime, Field(alias="as_of")]
    created_at: NotRequired[Annotated[datetime.datetime, Field(alias="created_at")]]
    fraud_type: Annotated[str, Field(alias="fraud_type")]
    livemode: Annotated[bool, Field(alias="livemode")]
    notes: NotRequired[Annotated[Optional[str], Field(alias="notes")]]
    processed_at: NotRequired[Annotated[Optional[datetime.datetime], Field(alias="processed_at")]]
    risk_level: NotRequired[Annotated[Optional[str], Field(alias="risk_level")]]
    risk_score: NotRequired[Annotated[Optional[int], Field(alias="risk_score")]]
    status: NotRequired[Annotated[str, Field(alias="status")]]
    stripe_charge_id: Annotated[str, Field(alias="stripe_charge_id")]
    stripe_customer_id: NotRequired[Annotated[Optional[str], Field(alias="stripe_customer_id")]]
    stripe_early_fraud_warning_id: Annotated[str, Field(alias="stripe_early_fraud_warning_id")]
    stripe_payment_intent_id: NotRequired[Annotated[Optional[str], Field(alias="stripe_payment_intent_id")]]
    updated_at: NotRequired[Annotated[datetime.datetime, Field(alias="updated_at")]]
    warned_at: Annotated[datetime.datetime, Field(alias="warned_at")]


class BillingFraudWarningsUpdate(TypedDict):
    account_id: NotRequired[Annotated[Optional[uuid.UUID], Field(alias="account_id")]]
    actionable: NotRequired[Annotated[bool, Field(alias="actionable")]]
    as_of: NotRequired[Annotated[datetime.datetime, Field(alias="as_of")]]
    created_at: NotRequired[Annotated[datetime.datetime, Field(alias="created_at")]]
    fraud_type: NotRequired[Annotated[str, Field(alias="fraud_type")]]
    livemode: NotRequired[Annotated[bool, Field(alias="livemode")]]
    notes: NotRequired[Annotated[Optional[str], Field(alias="notes")]]
    processed_at: NotRequired[Annotated[Optional[datetime.datetime], Field(alias="processed_at")]]
    risk_level: NotRequired[Annotated[Optional[str], Field(alias="risk_level")]]
    risk_score: NotRequired[Annotated[Optional[int], Field(alias="risk_score")]]
    status: NotRequired[Annotated[str, Field(alias="status")]]
    stripe_charge_id: NotRequired[Annotated[str, Field(alias="stripe_charge_id")]]
    stripe_customer_id: NotRequired[Annotated[Optional[str], Field(alias="stripe_customer_id")]]
    stripe_early_fraud_warning_id: NotRequired[Annotated[str, Field(alias="stripe_early_fraud_warning_id")]]
    stripe_payment_intent_id: NotRequired[Annotated[Optional[str], Field(alias="stripe_payment_intent_id")]]
    updated_at: NotRequired[Annotated[datetime.datetime, Field(alias="updated_at")]]
    warned_at: NotRequired[Annotated[datetime.datetime, Field(alias="warned_at")]]


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


class BillingHeldCreditsInsert(TypedDict):
    account_id: Annotated[uuid.UUID, Field(alias="account_id")]
    amount: Annotated[int, Field(alias="amount")]
    card_fingerprint: Annotated[str, Field(alias="card_fingerprint")]
    created_at: NotRequired[Annotated[datetime.datetime, Field(alias="created_at")]]
    description: NotRequired[Annotated[Optional[str], Field(alias="description")]]
    expires_at: NotRequired[Annotated[Optional[datetime.datetime], Field(alias="expires_at")]]
    held_at: Annotated[datetime.datetime, Field(alias="held_at")]
    id: NotRequired[Annotated[int, Field(alias="id")]]
    idempotency_key: Annotated[str, Field(alias="idempotency_key")]
    kind: Annotated[str, Field(alias="kind")]
    matched_account_id: Annotated[uuid.UUID, Field(alias="matched_account_id")]
    reason: NotRequired[Annotated[Optional[str], Field(alias="reason")]]
    reference_id: NotRequired[Annotated[Optional[str], Field(alias="reference_id")]]
    reviewed_at: NotRequired[Annotated[Optional[datetime.datetime], Field(alias="reviewed_at")]]
    reviewed_by: NotRequired[Annotated[Optional[str], Field(alias="reviewed_by")]]
    revocation_id: NotRequired[Annotated[Optional[int], Field(alias="revocation_id")]]
    source: Annotated[str, Field(alias="source")]
    status: NotRequired[Annotated[str, Field(alias="status")]]
    stripe_invoice_id: NotRequired[Annotated[Optional[str], Field(alias="stripe_invoice_id")]]
    stripe_price_id: NotRequired[Annotated[Optional[str], Field(alias="stripe_price_id")]]
    stripe_subscription_item_id: NotRequired[
        Annotated[Optional[str], Field(alias="stripe_subscription_item_id")]
    ]
    updated_at: NotRequired[Annotated[datetime.datetime, Field(alias="updated_at")]]


class BillingHeldCreditsUpdate(TypedDict):
    account_id: NotRequired[Annotated[uuid.UUID, Field(alias="account_id")]]
    amount: NotRequired[Annotated[int, Field(alias="amount")]]
    card_fingerprint: NotRequired[Annotated[str, Field(alias="card_fingerprint")]]
    created_at: NotRequired[Annotated[datetime.datetime, Field(alias="created_at")]]
    description: NotRequired[Annotated[Optional[str], Field(alias="description")]]
    expires_at: NotRequired[Annotated[Optional[datetime.datetime], Field(alias="expires_at")]]
    held_at: NotRequired[Annotated[datetime.datetime, Field(alias="held_at")]]
    id: NotRequired[Annotated[int, Field(alias="id")]]
    idempotency_key: NotRequired[Annotated[str, Field(alias="idempotency_key")]]
    kind: NotRequired[Annotated[str, Field(alias="kind")]]
    matched_account_id: NotRequired[Annotated[uuid.UUID, Field(alias="matched_account_id")]]
    reason: NotRequired[Annotated[Optional[str], Field(alias="reason")]]
    reference_id: NotRequired[Annotated[Optional[str], Field(alias="reference_id")]]
    reviewed_at: NotRequired[Annotated[Optional[datetime.datetime], Field(alias="reviewed_at")]]
    reviewed_by: NotRequired[Annotated[Optional[str], Field(alias="reviewed_by")]]
    revocation_id: NotRequired[Annotated[Optional[int], Field(alias="revocation_id")]]
    source: NotRequired[Annotated[str, Field(alias="source")]]
    status: NotRequired[Annotated[str, Field(alias="status")]]
    stripe_invoice_id: NotRequired[Annotated[Optional[str], Field(alias="stripe_invoice_id")]]
    stripe_price_id: NotRequired[Annotated[Optional[str], Field(alias="stripe_price_id")]]
    stripe_subscription_item_id: NotRequired[
        Annotated[Optional[str], Field(alias="stripe_subscription_item_id")]
    ]
    updated_at: NotRequired[Annotated[datetime.datetime, Field(alias="updated_at")]]


class BillingInvoiceLines(BaseModel):
    amount: int = Field(alias="amount")
    credited_invoice_id: Optional[str] = Field(alias="credited_invoice_id")
    credited_line_ids: Optional[List[str]] = Field(alias="credited_line_ids")
    discount: Optional[int] = Field(alias="discount")
    is_proration: bool = Field(alias="is_proration")
    is_waiting: bool = Field(alias="is_waiting")
    period_end: datetime.datetime = Field(alias="period_end")
    period_start: datetime.datetime = Field(alias="period_start")
    quantity: Optional[int] = Field(alias="quantity")
    stripe_invoice_id: str = Field(alias="stripe_invoice_id")
    stripe_line_id: str = Field(alias="stripe_line_id")
    stripe_price_id: Optional[str] = Field(alias="stripe_price_id")
    stripe_subscription_id: Optional[str] = Field(alias="stripe_subscription_id")
    stripe_subscription_item_id: Optional[str] = Field(alias="stripe_subscription_item_id")


class BillingInvoiceLinesInsert(TypedDict):
    amount: Annotated[int, Field(alias="amount")]
    credited_invoice_id: NotRequired[Annotated[Optional[str], Field(alias="credited_invoice_id")]]
    credited_line_ids: NotRequired[Annotated[Optional[List[str]], Field(alias="credited_line_ids")]]
    discount: NotRequired[Annotated[Optional[int], Field(alias="discount")]]
    is_proration: Annotated[bool, Field(alias="is_proration")]
    is_waiting: NotRequired[Annotated[bool, Field(alias="is_waiting")]]
    period_end: Annotated[datetime.datetime, Field(alias="period_end")]
    period_start: Annotated[datetime.datetime, Field(alias="period_start")]
    quantity: NotRequired[Annotated[Optional[int], Field(alias="quantity")]]
    stripe_invoice_id: Annotated[str, Field(alias="stripe_invoice_id")]
    stripe_line_id: Annotated[str, Field(alias="stripe_line_id")]
    stripe_price_id: NotRequired[Annotated[Optional[str], Field(alias="stripe_price_id")]]
    stripe_subscription_id: NotRequired[Annotated[Optional[str], Field(alias="stripe_subscription_id")]]
    stripe_subscription_item_id: NotRequired[
        Annotated[Optional[str], Field(alias="stripe_subscription_item_id")]
    ]


class BillingInvoiceLinesUpdate(TypedDict):
    amount: NotRequired[Annotated[int, Field(alias="amount")]]
    credited_invoice_id: NotRequired[Annotated[Optional[str], Field(alias="credited_invoice_id")]]
    credited_line_ids: NotRequired[Annotated[Optional[List[str]], Field(alias="credited_line_ids")]]
    discount: NotRequired[Annotated[Optional[int], Field(alias="discount")]]
    is_proration: NotRequired[Annotated[bool, Field(alias="is_proration")]]
    is_waiting: NotRequired[Annotated[bool, Field(alias="is_waiting")]]
    period_end: NotRequired[Annotated[datetime.datetime, Field(alias="period_end")]]
    period_start: NotRequired[Annotated[datetime.datetime, Field(alias="period_start")]]
    quantity: NotRequired[Annotated[Optional[int], Field(alias="quantity")]]
    stripe_invoice_id: NotRequired[Annotated[str, Field(alias="stripe_invoice_id")]]
    stripe_line_id: NotRequired[Annotated[str, Field(alias="stripe_line_id")]]
    stripe_price_id: NotRequired[Annotated[Optional[str], Field(alias="stripe_price_id")]]
    stripe_subscription_id: NotRequired[Annotated[Optional[str], Field(alias="stripe_subscription_id")]]
    stripe_subscription_item_id: NotRequired[
        Annotated[Optional[str], Field(alias="stripe_subscription_item_id")]
    ]


class BillingInvoicePayments(BaseModel):
    amount_paid: Optional[int] = Field(alias="amount_paid")
    created_at: datetime.datetime = Field(alias="created_at")
    status: str = Field(alias="status")
    stripe_charge_id: Optional[str] = Field(alias="stripe_charge_id")
    stripe_invoice_id: str = Field(alias="stripe_invoice_id")
    stripe_invoice_payment_id: str = Field(alias="stripe_invoice_payment_id")
    stripe_payment_intent_id: Optional[str] = Field(alias="stripe_payment_intent_id")


class BillingInvoicePaymentsInsert(TypedDict):
    amount_paid: NotRequired[Annotated[Optional[int], Field(alias="amount_paid")]]
    created_at: NotRequired[Annotated[datetime.datetime, Field(alias="created_at")]]
    status: Annotated[str, Field(alias="status")]
    stripe_charge_id: NotRequired[Annotated[Optional[str], Field(alias="stripe_charge_id")]]
    stripe_invoice_id: Annotated[str, Field(alias="stripe_invoice_id")]
    stripe_invoice_payment_id: Annotated[str, Field(alias="stripe_invoice_payment_id")]
    stripe_payment_intent_id: NotRequired[Annotated[Optional[str], Field(alias="stripe_payment_intent_id")]]


class BillingInvoicePaymentsUpdate(TypedDict):
    amount_paid: NotRequired[Annotated[Optional[int], Field(alias="amount_paid")]]
    created_at: NotRequired[Annotated[datetime.datetime, Field(alias="created_at")]]
    status: NotRequired[Annotated[str, Field(alias="status")]]
    stripe_charge_id: NotRequired[Annotated[Optional[str], Field(alias="stripe_charge_id")]]
    stripe_invoice_id: NotRequired[Annotated[str, Field(alias="stripe_invoice_id")]]
    stripe_invoice_payment_id: NotRequired[Annotated[str, Field(alias="stripe_invoice_payment_id")]]
    stripe_payment_intent_id: NotRequired[Annotated[Optional[str], Field(alias="stripe_payment_intent_id")]]


class BillingInvoices(BaseModel):
    account_id: Optional[uuid.UUID] = Field(alias="account_id")
    amount_contested: int = Field(alias="amount_contested")
    amount_due: int = Field(alias="amount_due")
    amount_paid: int = Field(alias="amount_paid")
    amount_returned: int = Field(alias="amount_returned")
    as_of: datetime.datetime = Field(alias="as_of")
    attempt_count: int = Field(alias="attempt_count")
    billing_reason: Optional[str] = Field(alias="billing_reason")
    collection_method: Optional[str] = Field(alias="collection_method")
    created_at: datetime.datetime = Field(alias="created_at")
    currency: str = Field(alias="currency")
    hosted_invoice_url: Optional[str] = Field(alias="hosted_invoice_url")
    invoiced_at: datetime.datetime = Field(alias="invoiced_at")
    livemode: bool = Field(alias="livemode")
    next_payment_attempt_at: Optional[datetime.datetime] = Field(alias="next_payment_attempt_at")
    paid_at: Optional[datetime.datetime] = Field(alias="paid_at")
    status: str = Field(alias="status")
    stripe_customer_id: Optional[str] = Field(alias="stripe_customer_id")
    stripe_invoice_id: str = Field(alias="stripe_invoice_id")
    stripe_subscription_id: Optional[str] = Field(alias="stripe_subscription_id")
    subtotal: int = Field(alias="subtotal")
    total: int = Field(alias="total")
    updated_at: datetime.datetime = Field(alias="updated_at")


class BillingInvoicesInsert(TypedDict):
    account_id: NotRequired[Annotated[Optional[uuid.UUID], Field(alias="account_id")]]
    amount_contested: NotRequired[Annotated[int, Field(alias="amount_contested")]]
    amount_due: Annotated[int, Field(alias="amount_due")]
    amount_paid: Annotated[int, Field(alias="amount_paid")]
    amount_returned: NotRequired[Annotated[int, Field(alias="amount_returned")]]
    as_of: Annotated[datetime.datetime, Field(alias="as_of")]
    attempt_count: NotRequired[Annotated[int, Field(alias="attempt_count")]]
    billing_reason: NotRequired[Annotated[Optional[str], Field(alias="billing_reason")]]
    collection_method: NotRequired[Annotated[Optional[str], Field(alias="collection_method")]]
    created_at: NotRequired[Annotated[datetime.datetime, Field(alias="created_at")]]
    currency: Annotated[str, Field(alias="currency")]
    hosted_invoice_url: NotRequired[Annotated[Optional[str], Field(alias="hosted_invoice_url")]]
    invoiced_at: Annotated[datetime.datetime, Field(alias="invoiced_at")]
    livemode: Annotated[bool, Field(alias="livemode")]
    next_payment_attempt_at: NotRequired[
        Annotated[Optional[datetime.datetime], Field(alias="next_payment_attempt_at")]
    ]
    paid_at: NotRequired[Annotated[Optional[datetime.datetime], Field(alias="paid_at")]]
    status: Annotated[str, Field(alias="status")]
    stripe_customer_id: NotRequired[Annotated[Optional[str], Field(alias="stripe_customer_id")]]
    stripe_invoice_id: Annotated[str, Field(alias="stripe_invoice_id")]
    stripe_subscription_id: NotRequired[Annotated[Optional[str], Field(alias="stripe_subscription_id")]]
    subtotal: Annotated[int, Field(alias="subtotal")]
    total: Annotated[int, Field(alias="total")]
    updated_at: NotRequired[Annotated[datetime.datetime, Field(alias="updated_at")]]


class BillingInvoicesUpdate(TypedDict):
    account_id: NotRequired[Annotated[Optional[uuid.UUID], Field(alias="account_id")]]
    amount_contested: NotRequired[Annotated[int, Field(alias="amount_contested")]]
    amount_due: NotRequired[Annotated[int, Field(alias="amount_due")]]
    amount_paid: NotRequired[Annotated[int, Field(alias="amount_paid")]]
    amount_returned: NotRequired[Annotated[int, Field(alias="amount_returned")]]
    as_of: NotRequired[Annotated[datetime.datetime, Field(alias="as_of")]]
    attempt_count: NotRequired[Annotated[int, Field(alias="attempt_count")]]
    billing_reason: NotRequired[Annotated[Optional[str], Field(alias="billing_reason")]]
    collection_method: NotRequired[Annotated[Optional[str], Field(alias="collection_method")]]
    created_at: NotRequired[Annotated[datetime.datetime, Field(alias="created_at")]]
    currency: NotRequired[Annotated[str, Field(alias="currency")]]
    hosted_invoice_url: NotRequired[Annotated[Optional[str], Field(alias="hosted_invoice_url")]]
    invoiced_at: NotRequired[Annotated[datetime.datetime, Field(alias="invoiced_at")]]
    livemode: NotRequired[Annotated[bool, Field(alias="livemode")]]
    next_payment_attempt_at: NotRequired[
        Annotated[Optional[datetime.datetime], Field(alias="next_payment_attempt_at")]
    ]
    paid_at: NotRequired[Annotated[Optional[datetime.datetime], Field(alias="paid_at")]]
    status: NotRequired[Annotated[str, Field(alias="status")]]
    stripe_customer_id: NotRequired[Annotated[Optional[str], Field(alias="stripe_customer_id")]]
    stripe_invoice_id: NotRequired[Annotated[str, Field(alias="stripe_invoice_id")]]
    stripe_subscription_id: NotRequired[Annotated[Optional[str], Field(alias="stripe_subscription_id")]]
    subtotal: NotRequired[Annotated[int, Field(alias="subtotal")]]
    total: NotRequired[Annotated[int, Field(alias="total")]]
    updated_at: NotRequired[Annotated[datetime.datetime, Field(alias="updated_at")]]


class BillingNotifications(BaseModel):
    account_id: Optional[uuid.UUID] = Field(alias="account_id")
    attempts: int = Field(alias="attempts")
    audience: str = Field(alias="audience")
    created_at: datetime.datetime = Field(alias="created_at")
    dedupe_key: str = Field(alias="dedupe_key")
    delivered_at: Optional[datetime.datetime] = Field(alias="delivered_at")
    delivered_to: List[str] = Field(alias="delivered_to")
    digest_id: Optional[int] = Field(alias="digest_id")
    digest_size: Optional[int] = Field(alias="digest_size")
    first_attempt_at: Optional[datetime.datetime] = Field(alias="first_attempt_at")
    id: int = Field(alias="id")
    kind: str = Field(alias="kind")
    last_error: Optional[str] = Field(alias="last_error")
    next_attempt_at: Optional[datetime.datetime] = Field(alias="next_attempt_at")
    payload: JsonValue = Field(alias="payload")
    reader: str = Field(alias="reader")
    status: str = Field(alias="status")


class BillingNotificationsInsert(TypedDict):
    account_id: NotRequired[Annotated[Optional[uuid.UUID], Field(alias="account_id")]]
    attempts: NotRequired[Annotated[int, Field(alias="attempts")]]
    audience: Annotated[str, Field(alias="audience")]
    created_at: NotRequired[Annotated[datetime.datetime, Field(alias="created_at")]]
    dedupe_key: Annotated[str, Field(alias="dedupe_key")]
    delivered_at: NotRequired[Annotated[Optional[datetime.datetime], Field(alias="delivered_at")]]
    delivered_to: NotRequired[Annotated[List[str], Field(alias="delivered_to")]]
    digest_id: NotRequired[Annotated[Optional[int], Field(alias="digest_id")]]
    digest_size: NotRequired[Annotated[Optional[int], Field(alias="digest_size")]]
    first_attempt_at: NotRequired[Annotated[Optional[datetime.datetime], Field(alias="first_attempt_at")]]
    id: NotRequired[Annotated[int, Field(alias="id")]]
    kind: Annotated[str, Field(alias="kind")]
    last_error: NotRequired[Annotated[Optional[str], Field(alias="last_error")]]
    next_attempt_at: NotRequired[Annotated[Optional[datetime.datetime], Field(alias="next_attempt_at")]]
    payload: NotRequired[Annotated[JsonValue, Field(alias="payload")]]
    reader: NotRequired[Annotated[str, Field(alias="reader")]]
    status: NotRequired[Annotated[str, Field(alias="status")]]


class BillingNotificationsUpdate(TypedDict):
    account_id: NotRequired[Annotated[Optional[uuid.UUID], Field(alias="account_id")]]
    attempts: NotRequired[Annotated[int, Field(alias="attempts")]]
    audience: NotRequired[Annotated[str, Field(alias="audience")]]
    created_at: NotRequired[Annotated[datetime.datetime, Field(alias="created_at")]]
    dedupe_key: NotRequired[Annotated[str, Field(alias="dedupe_key")]]
    delivered_at: NotRequired[Annotated[Optional[datetime.datetime], Field(alias="delivered_at")]]
    delivered_to: NotRequired[Annotated[List[str], Field(alias="delivered_to")]]
    digest_id: NotRequired[Annotated[Optional[int], Field(alias="digest_id")]]
    digest_size: NotRequired[Annotated[Optional[int], Field(alias="digest_size")]]
    first_attempt_at: NotRequired[Annotated[Optional[datetime.datetime], Field(alias="first_attempt_at")]]
    id: NotRequired[Annotated[int, Field(alias="id")]]
    kind: NotRequired[Annotated[str, Field(alias="kind")]]
    last_error: NotRequired[Annotated[Optional[str], Field(alias="last_error")]]
    next_attempt_at: NotRequired[Annotated[Optional[datetime.datetime], Field(alias="next_attempt_at")]]
    payload: NotRequired[Annotated[JsonValue, Field(alias="payload")]]
    reader: NotRequired[Annotated[str, Field(alias="reader")]]
    status: NotRequired[Annotated[str, Field(alias="status")]]


class BillingOneTimePrices(BaseModel):
    active: bool = Field(alias="active")
    as_of: datetime.datetime = Field(alias="as_of")
    currency: str = Field(alias="currency")
    has_custom_amount: bool = Field(alias="has_custom_amount")
    livemode: bool = Field(alias="livemode")
    lookup_key: Optional[str] = Field(alias="lookup_key")
    metadata: JsonValue = Field(alias="metadata")
    nickname: Optional[str] = Field(alias="nickname")
    stripe_price_id: str = Field(alias="stripe_price_id")
    stripe_product_id: str = Field(alias="stripe_product_id")
    unit_amount: Optional[int] = Field(alias="unit_amount")


class BillingOneTimePricesInsert(TypedDict):
    active: Annotated[bool, Field(alias="active")]
    as_of: Annotated[datetime.datetime, Field(alias="as_of")]
    currency: Annotated[str, Field(alias="currency")]
    has_custom_amount: NotRequired[Annotated[bool, Field(alias="has_custom_amount")]]
    livemode: Annotated[bool, Field(alias="livemode")]
    lookup_key: NotRequired[Annotated[Optional[str], Field(alias="lookup_key")]]
    metadata: Annotated[JsonValue, Field(alias="metadata")]
    nickname: NotRequired[Annotated[Optional[str], Field(alias="nickname")]]
    stripe_price_id: Annotated[str, Field(alias="stripe_price_id")]
    stripe_product_id: Annotated[str, Field(alias="stripe_product_id")]
    unit_amount: NotRequired[Annotated[Optional[int], Field(alias="unit_amount")]]


class BillingOneTimePricesUpdate(TypedDict):
    active: NotRequired[Annotated[bool, Field(alias="active")]]
    as_of: NotRequired[Annotated[datetime.datetime, Field(alias="as_of")]]
    currency: NotRequired[Annotated[str, Field(alias="currency")]]
    has_custom_amount: NotRequired[Annotated[bool, Field(alias="has_custom_amount")]]
    livemode: NotRequired[Annotated[bool, Field(alias="livemode")]]
    lookup_key: NotRequired[Annotated[Optional[str], Field(alias="lookup_key")]]
    metadata: NotRequired[Annotated[JsonValue, Field(alias="metadata")]]
    nickname: NotRequired[Annotated[Optional[str], Field(alias="nickname")]]
    stripe_price_id: NotRequired[Annotated[str, Field(alias="stripe_price_id")]]
    stripe_product_id: NotRequired[Annotated[str, Field(alias="stripe_product_id")]]
    unit_amount: NotRequired[Annotated[Optional[int], Field(alias="unit_amount")]]


class BillingPackPurchases(BaseModel):
    account_id: uuid.UUID = Field(alias="account_id")
    business_key: str = Field(alias="business_key")
    created_at: datetime.datetime = Field(alias="created_at")
    credits: int = Field(alias="credits")
    description: Optional[str] = Field(alias="description")
    expires_at: Optional[datetime.datetime] = Field(alias="expires_at")
    price: int = Field(alias="price")
    purchased_at: datetime.datetime = Field(alias="purchased_at")
    reference_id: str = Field(alias="reference_id")
    source: str = Field(alias="source")
    stripe_checkout_session_id: Optional[str] = Field(alias="stripe_checkout_session_id")
    stripe_invoice_id: Optional[str] = Field(alias="stripe_invoice_id")
    stripe_line_id: Optional[str] = Field(alias="stripe_line_id")
    stripe_payment_intent_id: Optional[str] = Field(alias="stripe_payment_intent_id")
    stripe_price_id: Optional[str] = Field(alias="stripe_price_id")


class BillingPackPurchasesInsert(TypedDict):
    account_id: Annotated[uuid.UUID, Field(alias="account_id")]
    business_key: Annotated[str, Field(alias="business_key")]
    created_at: NotRequired[Annotated[datetime.datetime, Field(alias="created_at")]]
    credits: Annotated[int, Field(alias="credits")]
    description: NotRequired[Annotated[Optional[str], Field(alias="description")]]
    expires_at: NotRequired[Annotated[Optional[datetime.datetime], Field(alias="expires_at")]]
    price: Annotated[int, Field(alias="price")]
    purchased_at: Annotated[datetime.datetime, Field(alias="purchased_at")]
    reference_id: Annotated[str, Field(alias="reference_id")]
    source: Annotated[str, Field(alias="source")]
    stripe_checkout_session_id: NotRequired[
        Annotated[Optional[str], Field(alias="stripe_checkout_session_id")]
    ]
    stripe_invoice_id: NotRequired[Annotated[Optional[str], Field(alias="stripe_invoice_id")]]
    stripe_line_id: NotRequired[Annotated[Optional[str], Field(alias="stripe_line_id")]]
    stripe_payment_intent_id: NotRequired[Annotated[Optional[str], Field(alias="stripe_payment_intent_id")]]
    stripe_price_id: NotRequired[Annotated[Optional[str], Field(alias="stripe_price_id")]]


class BillingPackPurchasesUpdate(TypedDict):
    account_id: NotRequired[Annotated[uuid.UUID, Field(alias="account_id")]]
    business_key: NotRequired[Annotated[str, Field(alias="business_key")]]
    created_at: NotRequired[Annotated[datetime.datetime, Field(alias="created_at")]]
    credits: NotRequired[Annotated[int, Field(alias="credits")]]
    description: NotRequired[Annotated[Optional[str], Field(alias="description")]]
    expires_at: NotRequired[Annotated[Optional[datetime.datetime], Field(alias="expires_at")]]
    price: NotRequired[Annotated[int, Field(alias="price")]]
    purchased_at: NotRequired[Annotated[datetime.datetime, Field(alias="purchased_at")]]
    reference_id: NotRequired[Annotated[str, Field(alias="reference_id")]]
    source: NotRequired[Annotated[str, Field(alias="source")]]
    stripe_checkout_session_id: NotRequired[
        Annotated[Optional[str], Field(alias="stripe_checkout_session_id")]
    ]
    stripe_invoice_id: NotRequired[Annotated[Optional[str], Field(alias="stripe_invoice_id")]]
    stripe_line_id: NotRequired[Annotated[Optional[str], Field(alias="stripe_line_id")]]
    stripe_payment_intent_id: NotRequired[Annotated[Optional[str], Field(alias="stripe_payment_intent_id")]]
    stripe_price_id: NotRequired[Annotated[Optional[str], Field(alias="stripe_price_id")]]


class BillingPaymentIntents(BaseModel):
    amount_received: int = Field(alias="amount_received")
    created_at: datetime.datetime = Field(alias="created_at")
    stripe_payment_intent_id: str = Field(alias="stripe_payment_intent_id")


class BillingPaymentIntentsInsert(TypedDict):
    amount_received: Annotated[int, Field(alias="amount_received")]
    created_at: NotRequired[Annotated[datetime.datetime, Field(alias="created_at")]]
    stripe_payment_intent_id: Annotated[str, Field(alias="stripe_payment_intent_id")]


class BillingPaymentIntentsUpdate(TypedDict):
    amount_received: NotRequired[Annotated[int, Field(alias="amount_received")]]
    created_at: NotRequired[Annotated[datetime.datetime, Field(alias="created_at")]]
    stripe_payment_intent_id: NotRequired[Annotated[str, Field(alias="stripe_payment_intent_id")]]


class BillingPaymentLinks(BaseModel):
    active: bool = Field(alias="active")
    attempts: int = Field(alias="attempts")
    confirmed_at: Optional[datetime.datetime] = Field(alias="confirmed_at")
    created_at: datetime.datetime = Field(alias="created_at")
    deactivate_at: Optional[datetime.datetime] = Field(alias="deactivate_at")
    deactivated_at: Optional[datetime.datetime] = Field(alias="deactivated_at")
    id: uuid.UUID = Field(alias="id")
    idempotency_key: str = Field(alias="idempotency_key")
    keyed_at: datetime.datetime = Field(alias="keyed_at")
    last_error: Optional[str] = Field(alias="last_error")
    livemode: bool = Field(alias="livemode")
    may_exist: bool = Field(alias="may_exist")
    options: JsonValue = Field(alias="options")
    params: JsonValue = Field(alias="params")
    params_hash: bytes = Field(alias="params_hash")
    retired_at: Optional[datetime.datetime] = Field(alias="retired_at")
    retired_reason: Optional[str] = Field(alias="retired_reason")
    stripe_payment_link_id: Optional[str] = Field(alias="stripe_payment_link_id")
    stripe_price_id: str = Field(alias="stripe_price_id")
    updated_at: datetime.datetime = Field(alias="updated_at")
    url: Optional[str] = Field(alias="url")


class BillingPaymentLinksInsert(TypedDict):
    active: NotRequired[Annotated[bool, Field(alias="active")]]
    attempts: NotRequired[Annotated[int, Field(alias="attempts")]]
    confirmed_at: NotRequired[Annotated[Optional[datetime.datetime], Field(alias="confirmed_at")]]
    created_at: NotRequired[Annotated[datetime.datetime, Field(alias="created_at")]]
    deactivate_at: NotRequired[Annotated[Optional[datetime.datetime], Field(alias="deactivate_at")]]
    deactivated_at: NotRequired[Annotated[Optional[datetime.datetime], Field(alias="deactivated_at")]]
    id: NotRequired[Annotated[uuid.UUID, Field(alias="id")]]
    idempotency_key: Annotated[str, Field(alias="idempotency_key")]
    keyed_at: NotRequired[Annotated[datetime.datetime, Field(alias="keyed_at")]]
    last_error: NotRequired[Annotated[Optional[str], Field(alias="last_error")]]
    livemode: Annotated[bool, Field(alias="livemode")]
    may_exist: NotRequired[Annotated[bool, Field(alias="may_exist")]]
    options: Annotated[JsonValue, Field(alias="options")]
    params: Annotated[JsonValue, Field(alias="params")]
    params_hash: Annotated[bytes, Field(alias="params_hash")]
    retired_at: NotRequired[Annotated[Optional[datetime.datetime], Field(alias="retired_at")]]
    retired_reason: NotRequired[Annotated[Optional[str], Field(alias="retired_reason")]]
    stripe_payment_link_id: NotRequired[Annotated[Optional[str], Field(alias="stripe_payment_link_id")]]
    stripe_price_id: Annotated[str, Field(alias="stripe_price_id")]
    updated_at: NotRequired[Annotated[datetime.datetime, Field(alias="updated_at")]]
    url: NotRequired[Annotated[Optional[str], Field(alias="url")]]


class BillingPaymentLinksUpdate(TypedDict):
    active: NotRequired[Annotated[bool, Field(alias="active")]]
    attempts: NotRequired[Annotated[int, Field(alias="attempts")]]
    confirmed_at: NotRequired[Annotated[Optional[datetime.datetime], Field(alias="confirmed_at")]]
    created_at: NotRequired[Annotated[datetime.datetime, Field(alias="created_at")]]
    deactivate_at: NotRequired[Annotated[Optional[datetime.datetime], Field(alias="deactivate_at")]]
    deactivated_at: NotRequired[Annotated[Optional[datetime.datetime], Field(alias="deactivated_at")]]
    id: NotRequired[Annotated[uuid.UUID, Field(alias="id")]]
    idempotency_key: NotRequired[Annotated[str, Field(alias="idempotency_key")]]
    keyed_at: NotRequired[Annotated[datetime.datetime, Field(alias="keyed_at")]]
    last_error: NotRequired[Annotated[Optional[str], Field(alias="last_error")]]
    livemode: NotRequired[Annotated[bool, Field(alias="livemode")]]
    may_exist: NotRequired[Annotated[bool, Field(alias="may_exist")]]
    options: NotRequired[Annotated[JsonValue, Field(alias="options")]]
    params: NotRequired[Annotated[JsonValue, Field(alias="params")]]
    params_hash: NotRequired[Annotated[bytes, Field(alias="params_hash")]]
    retired_at: NotRequired[Annotated[Optional[datetime.datetime], Field(alias="retired_at")]]
    retired_reason: NotRequired[Annotated[Optional[str], Field(alias="retired_reason")]]
    stripe_payment_link_id: NotRequired[Annotated[Optional[str], Field(alias="stripe_payment_link_id")]]
    stripe_price_id: NotRequired[Annotated[str, Field(alias="stripe_price_id")]]
    updated_at: NotRequired[Annotated[datetime.datetime, Field(alias="updated_at")]]
    url: NotRequired[Annotated[Optional[str], Field(alias="url")]]


class BillingPaymentReferenceKeys(BaseModel):
    created_at: datetime.datetime = Field(alias="created_at")
    id: int = Field(alias="id")
    secret: bytes = Field(alias="secret")


class BillingPaymentReferenceKeysInsert(TypedDict):
    created_at: NotRequired[Annotated[datetime.datetime, Field(alias="created_at")]]
    id: NotRequired[Annotated[int, Field(alias="id")]]
    secret: NotRequired[Annotated[bytes, Field(alias="secret")]]


class BillingPaymentReferenceKeysUpdate(TypedDict):
    created_at: NotRequired[Annotated[datetime.datetime, Field(alias="created_at")]]
    id: NotRequired[Annotated[int, Field(alias="id")]]
    secret: NotRequired[Annotated[bytes, Field(alias="secret")]]


class BillingPayments(BaseModel):
    account_id: Optional[uuid.UUID] = Field(alias="account_id")
    amount: int = Field(alias="amount")
    amount_refunded: int = Field(alias="amount_refunded")
    as_of: datetime.datetime = Field(alias="as_of")
    card_fingerprint: Optional[str] = Field(alias="card_fingerprint")
    charged_at: datetime.datetime = Field(alias="charged_at")
    created_at: datetime.datetime = Field(alias="created_at")
    currency: str = Field(alias="currency")
    failure_code: Optional[str] = Field(alias="failure_code")
    is_disputed: bool = Field(alias="is_disputed")
    is_liability_shifted: bool = Field(alias="is_liability_shifted")
    livemode: bool = Field(alias="livemode")
    receipt_url: Optional[str] = Field(alias="receipt_url")
    risk_level: Optional[str] = Field(alias="risk_level")
    risk_score: Optional[int] = Field(alias="risk_score")
    status: str = Field(alias="status")
    stripe_charge_id: str = Field(alias="stripe_charge_id")
    stripe_customer_id: Optional[str] = Field(alias="stripe_customer_id")
    stripe_payment_intent_id: Optional[str] = Field(alias="stripe_payment_intent_id")
    updated_at: datetime.datetime = Field(alias="updated_at")


class BillingPaymentsInsert(TypedDict):
    account_id: NotRequired[Annotated[Optional[uuid.UUID], Field(alias="account_id")]]
    amount: Annotated[int, Field(alias="amount")]
    amount_refunded: NotRequired[Annotated[int, Field(alias="amount_refunded")]]
    as_of: Annotated[datetime.datetime, Field(alias="as_of")]
    card_fingerprint: NotRequired[Annotated[Optional[str], Field(alias="card_fingerprint")]]
    charged_at: Annotated[datetime.datetime, Field(alias="charged_at")]
    created_at: NotRequired[Annotated[datetime.datetime, Field(alias="created_at")]]
    currency: Annotated[str, Field(alias="currency")]
    failure_code: NotRequired[Annotated[Optional[str], Field(alias="failure_code")]]
    is_disputed: NotRequired[Annotated[bool, Field(alias="is_disputed")]]
    is_liability_shifted: NotRequired[Annotated[bool, Field(alias="is_liability_shifted")]]
    livemode: Annotated[bool, Field(alias="livemode")]
    receipt_url: NotRequired[Annotated[Optional[str], Field(alias="receipt_url")]]
    risk_level: NotRequired[Annotated[Optional[str], Field(alias="risk_level")]]
    risk_score: NotRequired[Annotated[Optional[int], Field(alias="risk_score")]]
    status: Annotated[str, Field(alias="status")]
    stripe_charge_id: Annotated[str, Field(alias="stripe_charge_id")]
    stripe_customer_id: NotRequired[Annotated[Optional[str], Field(alias="stripe_customer_id")]]
    stripe_payment_intent_id: NotRequired[Annotated[Optional[str], Field(alias="stripe_payment_intent_id")]]
    updated_at: NotRequired[Annotated[datetime.datetime, Field(alias="updated_at")]]


class BillingPaymentsUpdate(TypedDict):
    account_id: NotRequired[Annotated[Optional[uuid.UUID], Field(alias="account_id")]]
    amount: NotRequired[Annotated[int, Field(alias="amount")]]
    amount_refunded: NotRequired[Annotated[int, Field(alias="amount_refunded")]]
    as_of: NotRequired[Annotated[datetime.datetime, Field(alias="as_of")]]
    card_fingerprint: NotRequired[Annotated[Optional[str], Field(alias="card_fingerprint")]]
    charged_at: NotRequired[Annotated[datetime.datetime, Field(alias="charged_at")]]
    created_at: NotRequired[Annotated[datetime.datetime, Field(alias="created_at")]]
    currency: NotRequired[Annotated[str, Field(alias="currency")]]
    failure_code: NotRequired[Annotated[Optional[str], Field(alias="failure_code")]]
    is_disputed: NotRequired[Annotated[bool, Field(alias="is_disputed")]]
    is_liability_shifted: NotRequired[Annotated[bool, Field(alias="is_liability_shifted")]]
    livemode: NotRequired[Annotated[bool, Field(alias="livemode")]]
    receipt_url: NotRequired[Annotated[Optional[str], Field(alias="receipt_url")]]
    risk_level: NotRequired[Annotated[Optional[str], Field(alias="risk_level")]]
    risk_score: NotRequired[Annotated[Optional[int], Field(alias="risk_score")]]
    status: NotRequired[Annotated[str, Field(alias="status")]]
    stripe_charge_id: NotRequired[Annotated[str, Field(alias="stripe_charge_id")]]
    stripe_customer_id: NotRequired[Annotated[Optional[str], Field(alias="stripe_customer_id")]]
    stripe_payment_intent_id: NotRequired[Annotated[Optional[str], Field(alias="stripe_payment_intent_id")]]
    updated_at: NotRequired[Annotated[datetime.datetime, Field(alias="updated_at")]]


class BillingPlans(BaseModel):
    active: bool = Field(alias="active")
    as_of: datetime.datetime = Field(alias="as_of")
    cancel_credits: str = Field(alias="cancel_credits")
    created_at: datetime.datetime = Field(alias="created_at")
    currency: str = Field(alias="currency")
    downgrade_credits: str = Field(alias="downgrade_credits")
    features: JsonValue = Field(alias="features")
    initial_credits: int = Field(alias="initial_credits")
    livemode: bool = Field(alias="livemode")
    lookup_key: Optional[str] = Field(alias="lookup_key")
    metadata: JsonValue = Field(alias="metadata")
    monthly_credits: int = Field(alias="monthly_credits")
    nickname: Optional[str] = Field(alias="nickname")
    proration_credits: str = Field(alias="proration_credits")
    recurring_interval: str = Field(alias="recurring_interval")
    recurring_interval_count: int = Field(alias="recurring_interval_count")
    rollover: str = Field(alias="rollover")
    rollover_cap: Optional[int] = Field(alias="rollover_cap")
    rollover_periods: Optional[int] = Field(alias="rollover_periods")
    seats_max: Optional[int] = Field(alias="seats_max")
    seats_min: int = Field(alias="seats_min")
    stripe_price_id: str = Field(alias="stripe_price_id")
    stripe_product_id: str = Field(alias="stripe_product_id")
    trial_credits: int = Field(alias="trial_credits")
    trial_days: int = Field(alias="trial_days")
    trial_end_credits: str = Field(alias="trial_end_credits")
    unit_amount: Optional[int] = Field(alias="unit_amount")
    updated_at: datetime.datetime = Field(alias="updated_at")
    usage_type: str = Field(alias="usage_type")


class BillingPlansInsert(TypedDict):
    active: NotRequired[Annotated[bool, Field(alias="active")]]
    as_of: NotRequired[Annotated[datetime.datetime, Field(alias="as_of")]]
    cancel_credits: NotRequired[Annotated[str, Field(alias="cancel_credits")]]
    created_at: NotRequired[Annotated[datetime.datetime, Field(alias="created_at")]]
    currency: NotRequired[Annotated[str, Field(alias="currency")]]
    downgrade_credits: NotRequired[Annotated[str, Field(alias="downgrade_credits")]]
    features: NotRequired[Annotated[JsonValue, Field(alias="features")]]
    initial_credits: NotRequired[Annotated[int, Field(alias="initial_credits")]]
    livemode: NotRequired[Annotated[bool, Field(alias="livemode")]]
    lookup_key: NotRequired[Annotated[Optional[str], Field(alias="lookup_key")]]
    metadata: NotRequired[Annotated[JsonValue, Field(alias="metadata")]]
    monthly_credits: NotRequired[Annotated[int, Field(alias="monthly_credits")]]
    nickname: NotRequired[Annotated[Optional[str], Field(alias="nickname")]]
    proration_credits: NotRequired[Annotated[str, Field(alias="proration_credits")]]
    recurring_interval: NotRequired[Annotated[str, Field(alias="recurring_interval")]]
    recurring_interval_count: NotRequired[Annotated[int, Field(alias="recurring_interval_count")]]
    rollover: NotRequired[Annotated[str, Field(alias="rollover")]]
    rollover_cap: NotRequired[Annotated[Optional[int], Field(alias="rollover_cap")]]
    rollover_periods: NotRequired[Annotated[Optional[int], Field(alias="rollover_periods")]]
    seats_max: NotRequired[Annotated[Optional[int], Field(alias="seats_max")]]
    seats_min: NotRequired[Annotated[int, Field(alias="seats_min")]]
    stripe_price_id: Annotated[str, Field(alias="stripe_price_id")]
    stripe_product_id: Annotated[str, Field(alias="stripe_product_id")]
    trial_credits: NotRequired[Annotated[int, Field(alias="trial_credits")]]
    trial_days: NotRequired[Annotated[int, Field(alias="trial_days")]]
    trial_end_credits: NotRequired[Annotated[str, Field(alias="trial_end_credits")]]
    unit_amount: NotRequired[Annotated[Optional[int], Field(alias="unit_amount")]]
    updated_at: NotRequired[Annotated[datetime.datetime, Field(alias="updated_at")]]
    usage_type: NotRequired[Annotated[str, Field(alias="usage_type")]]


class BillingPlansUpdate(TypedDict):
    active: NotRequired[Annotated[bool, Field(alias="active")]]
    as_of: NotRequired[Annotated[datetime.datetime, Field(alias="as_of")]]
    cancel_credits: NotRequired[Annotated[str, Field(alias="cancel_credits")]]
    created_at: NotRequired[Annotated[datetime.datetime, Field(alias="created_at")]]
    currency: NotRequired[Annotated[str, Field(alias="currency")]]
    downgrade_credits: NotRequired[Annotated[str, Field(alias="downgrade_credits")]]
    features: NotRequired[Annotated[JsonValue, Field(alias="features")]]
    initial_credits: NotRequired[Annotated[int, Field(alias="initial_credits")]]
    livemode: NotRequired[Annotated[bool, Field(alias="livemode")]]
    lookup_key: NotRequired[Annotated[Optional[str], Field(alias="lookup_key")]]
    metadata: NotRequired[Annotated[JsonValue, Field(alias="metadata")]]
    monthly_credits: NotRequired[Annotated[int, Field(alias="monthly_credits")]]
    nickname: NotRequired[Annotated[Optional[str], Field(alias="nickname")]]
    proration_credits: NotRequired[Annotated[str, Field(alias="proration_credits")]]
    recurring_interval: NotRequired[Annotated[str, Field(alias="recurring_interval")]]
    recurring_interval_count: NotRequired[Annotated[int, Field(alias="recurring_interval_count")]]
    rollover: NotRequired[Annotated[str, Field(alias="rollover")]]
    rollover_cap: NotRequired[Annotated[Optional[int], Field(alias="rollover_cap")]]
    rollover_periods: NotRequired[Annotated[Optional[int], Field(alias="rollover_periods")]]
    seats_max: NotRequired[Annotated[Optional[int], Field(alias="seats_max")]]
    seats_min: NotRequired[Annotated[int, Field(alias="seats_min")]]
    stripe_price_id: NotRequired[Annotated[str, Field(alias="stripe_price_id")]]
    stripe_product_id: NotRequired[Annotated[str, Field(alias="stripe_product_id")]]
    trial_credits: NotRequired[Annotated[int, Field(alias="trial_credits")]]
    trial_days: NotRequired[Annotated[int, Field(alias="trial_days")]]
    trial_end_credits: NotRequired[Annotated[str, Field(alias="trial_end_credits")]]
    unit_amount: NotRequired[Annotated[Optional[int], Field(alias="unit_amount")]]
    updated_at: NotRequired[Annotated[datetime.datetime, Field(alias="updated_at")]]
    usage_type: NotRequired[Annotated[str, Field(alias="usage_type")]]


class BillingProducts(BaseModel):
    active: bool = Field(alias="active")
    as_of: datetime.datetime = Field(alias="as_of")
    created_at: datetime.datetime = Field(alias="created_at")
    description: Optional[str] = Field(alias="description")
    livemode: bool = Field(alias="livemode")
    metadata: JsonValue = Field(alias="metadata")
    name: str = Field(alias="name")
    stripe_product_id: str = Field(alias="stripe_product_id")
    updated_at: datetime.datetime = Field(alias="updated_at")


class BillingProductsInsert(TypedDict):
    active: NotRequired[Annotated[bool, Field(alias="active")]]
    as_of: NotRequired[Annotated[datetime.datetime, Field(alias="as_of")]]
    created_at: NotRequired[Annotated[datetime.datetime, Field(alias="created_at")]]
    description: NotRequired[Annotated[Optional[str], Field(alias="description")]]
    livemode: Annotated[bool, Field(alias="livemode")]
    metadata: NotRequired[Annotated[JsonValue, Field(alias="metadata")]]
    name: Annotated[str, Field(alias="name")]
    stripe_product_id: Annotated[str, Field(alias="stripe_product_id")]
    updated_at: NotRequired[Annotated[datetime.datetime, Field(alias="updated_at")]]


class BillingProductsUpdate(TypedDict):
    active: NotRequired[Annotated[bool, Field(alias="active")]]
    as_of: NotRequired[Annotated[datetime.datetime, Field(alias="as_of")]]
    created_at: NotRequired[Annotated[datetime.datetime, Field(alias="created_at")]]
    description: NotRequired[Annotated[Optional[str], Field(alias="description")]]
    livemode: NotRequired[Annotated[bool, Field(alias="livemode")]]
    metadata: NotRequired[Annotated[JsonValue, Field(alias="metadata")]]
    name: NotRequired[Annotated[str, Field(alias="name")]]
    stripe_product_id: NotRequired[Annotated[str, Field(alias="stripe_product_id")]]
    updated_at: NotRequired[Annotated[datetime.datetime, Field(alias="updated_at")]]


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


class BillingRechargeSettingsInsert(TypedDict):
    account_id: Annotated[uuid.UUID, Field(alias="account_id")]
    check_again_at: NotRequired[Annotated[Optional[datetime.datetime], Field(alias="check_again_at")]]
    created_at: NotRequired[Annotated[datetime.datetime, Field(alias="created_at")]]
    is_paused: NotRequired[Annotated[bool, Field(alias="is_paused")]]
    monthly_cap_amount: NotRequired[Annotated[Optional[int], Field(alias="monthly_cap_amount")]]
    monthly_cap_count: NotRequired[Annotated[Optional[int], Field(alias="monthly_cap_count")]]
    paused_at: NotRequired[Annotated[Optional[datetime.datetime], Field(alias="paused_at")]]
    paused_reason: NotRequired[Annotated[Optional[str], Field(alias="paused_reason")]]
    return_url: NotRequired[Annotated[Optional[str], Field(alias="return_url")]]
    stripe_price_id: Annotated[str, Field(alias="stripe_price_id")]
    threshold: Annotated[int, Field(alias="threshold")]
    updated_at: NotRequired[Annotated[datetime.datetime, Field(alias="updated_at")]]


class BillingRechargeSettingsUpdate(TypedDict):
    account_id: NotRequired[Annotated[uuid.UUID, Field(alias="account_id")]]
    check_again_at: NotRequired[Annotated[Optional[datetime.datetime], Field(alias="check_again_at")]]
    created_at: NotRequired[Annotated[datetime.datetime, Field(alias="created_at")]]
    is_paused: NotRequired[Annotated[bool, Field(alias="is_paused")]]
    monthly_cap_amount: NotRequired[Annotated[Optional[int], Field(alias="monthly_cap_amount")]]
    monthly_cap_count: NotRequired[Annotated[Optional[int], Field(alias="monthly_cap_count")]]
    paused_at: NotRequired[Annotated[Optional[datetime.datetime], Field(alias="paused_at")]]
    paused_reason: NotRequired[Annotated[Optional[str], Field(alias="paused_reason")]]
    return_url: NotRequired[Annotated[Optional[str], Field(alias="return_url")]]
    stripe_price_id: NotRequired[Annotated[str, Field(alias="stripe_price_id")]]
    threshold: NotRequired[Annotated[int, Field(alias="threshold")]]
    updated_at: NotRequired[Annotated[datetime.datetime, Field(alias="updated_at")]]


class BillingRecharges(BaseModel):
    account_id: uuid.UUID = Field(alias="account_id")
    action_url: Optional[str] = Field(alias="action_url")
    amount: int = Field(alias="amount")
    attempts: int = Field(alias="attempts")
    claimed_at: datetime.datetime = Field(alias="claimed_at")
    created_at: datetime.datetime = Field(alias="created_at")
    credits: int = Field(alias="credits")
    currency: str = Field(alias="currency")
    first_attempt_at: Optional[datetime.datetime] = Field(alias="first_attempt_at")
    id: uuid.UUID = Field(alias="id")
    idempotency_key: str = Field(alias="idempotency_key")
    is_final: bool = Field(alias="is_final")
    last_error: Optional[str] = Field(alias="last_error")
    next_attempt_at: Optional[datetime.datetime] = Field(alias="next_attempt_at")
    reason: Optional[str] = Field(alias="reason")
    return_url: Optional[str] = Field(alias="return_url")
    settled_at: Optional[datetime.datetime] = Field(alias="settled_at")
    status: str = Field(alias="status")
    stripe_customer_id: str = Field(alias="stripe_customer_id")
    stripe_payment_intent_id: Optional[str] = Field(alias="stripe_payment_intent_id")
    stripe_payment_method_id: Optional[str] = Field(alias="stripe_payment_method_id")
    stripe_price_id: str = Field(alias="stripe_price_id")
    updated_at: datetime.datetime = Field(alias="updated_at")


class BillingRechargesInsert(TypedDict):
    account_id: Annotated[uuid.UUID, Field(alias="account_id")]
    action_url: NotRequired[Annotated[Optional[str], Field(alias="action_url")]]
    amount: Annotated[int, Field(alias="amount")]
    attempts: NotRequired[Annotated[int, Field(alias="attempts")]]
    claimed_at: Annotated[datetime.datetime, Field(alias="claimed_at")]
    created_at: NotRequired[Annotated[datetime.datetime, Field(alias="created_at")]]
    credits: Annotated[int, Field(alias="credits")]
    currency: Annotated[str, Field(alias="currency")]
    first_attempt_at: NotRequired[Annotated[Optional[datetime.datetime], Field(alias="first_attempt_at")]]
    id: NotRequired[Annotated[uuid.UUID, Field(alias="id")]]
    idempotency_key: NotRequired[Annotated[str, Field(alias="idempotency_key")]]
    is_final: NotRequired[Annotated[bool, Field(alias="is_final")]]
    last_error: NotRequired[Annotated[Optional[str], Field(alias="last_error")]]
    next_attempt_at: NotRequired[Annotated[Optional[datetime.datetime], Field(alias="next_attempt_at")]]
    reason: NotRequired[Annotated[Optional[str], Field(alias="reason")]]
    return_url: NotRequired[Annotated[Optional[str], Field(alias="return_url")]]
    settled_at: NotRequired[Annotated[Optional[datetime.datetime], Field(alias="settled_at")]]
    status: NotRequired[Annotated[str, Field(alias="status")]]
    stripe_customer_id: Annotated[str, Field(alias="stripe_customer_id")]
    stripe_payment_intent_id: NotRequired[Annotated[Optional[str], Field(alias="stripe_payment_intent_id")]]
    stripe_payment_method_id: NotRequired[Annotated[Optional[str], Field(alias="stripe_payment_method_id")]]
    stripe_price_id: Annotated[str, Field(alias="stripe_price_id")]
    updated_at: NotRequired[Annotated[datetime.datetime, Field(alias="updated_at")]]


class BillingRechargesUpdate(TypedDict):
    account_id: NotRequired[Annotated[uuid.UUID, Field(alias="account_id")]]
    action_url: NotRequired[Annotated[Optional[str], Field(alias="action_url")]]
    amount: NotRequired[Annotated[int, Field(alias="amount")]]
    attempts: NotRequired[Annotated[int, Field(alias="attempts")]]
    claimed_at: NotRequired[Annotated[datetime.datetime, Field(alias="claimed_at")]]
    created_at: NotRequired[Annotated[datetime.datetime, Field(alias="created_at")]]
    credits: NotRequired[Annotated[int, Field(alias="credits")]]
    currency: NotRequired[Annotated[str, Field(alias="currency")]]
    first_attempt_at: NotRequired[Annotated[Optional[datetime.datetime], Field(alias="first_attempt_at")]]
    id: NotRequired[Annotated[uuid.UUID, Field(alias="id")]]
    idempotency_key: NotRequired[Annotated[str, Field(alias="idempotency_key")]]
    is_final: NotRequired[Annotated[bool, Field(alias="is_final")]]
    last_error: NotRequired[Annotated[Optional[str], Field(alias="last_error")]]
    next_attempt_at: NotRequired[Annotated[Optional[datetime.datetime], Field(alias="next_attempt_at")]]
    reason: NotRequired[Annotated[Optional[str], Field(alias="reason")]]
    return_url: NotRequired[Annotated[Optional[str], Field(alias="return_url")]]
    settled_at: NotRequired[Annotated[Optional[datetime.datetime], Field(alias="settled_at")]]
    status: NotRequired[Annotated[str, Field(alias="status")]]
    stripe_customer_id: NotRequired[Annotated[str, Field(alias="stripe_customer_id")]]
    stripe_payment_intent_id: NotRequired[Annotated[Optional[str], Field(alias="stripe_payment_intent_id")]]
    stripe_payment_method_id: NotRequired[Annotated[Optional[str], Field(alias="stripe_payment_method_id")]]
    stripe_price_id: NotRequired[Annotated[str, Field(alias="stripe_price_id")]]
    updated_at: NotRequired[Annotated[datetime.datetime, Field(alias="updated_at")]]


class BillingRefunds(BaseModel):
    amount: int = Field(alias="amount")
    as_of: datetime.datetime = Field(alias="as_of")
    created_at: datetime.datetime = Field(alias="created_at")
    currency: str = Field(alias="currency")
    failure_reason: Optional[str] = Field(alias="failure_reason")
    reason: Optional[str] = Field(alias="reason")
    refunded_at: datetime.datetime = Field(alias="refunded_at")
    status: str = Field(alias="status")
    stripe_charge_id: Optional[str] = Field(alias="stripe_charge_id")
    stripe_payment_intent_id: Optional[str] = Field(alias="stripe_payment_intent_id")
    stripe_refund_id: str = Field(alias="stripe_refund_id")
    updated_at: datetime.datetime = Field(alias="updated_at")


class BillingRefundsInsert(TypedDict):
    amount: Annotated[int, Field(alias="amount")]
    as_of: Annotated[datetime.datetime, Field(alias="as_of")]
    created_at: NotRequired[Annotated[datetime.datetime, Field(alias="created_at")]]
    currency: Annotated[str, Field(alias="currency")]
    failure_reason: NotRequired[Annotated[Optional[str], Field(alias="failure_reason")]]
    reason: NotRequired[Annotated[Optional[str], Field(alias="reason")]]
    refunded_at: Annotated[datetime.datetime, Field(alias="refunded_at")]
    status: Annotated[str, Field(alias="status")]
    stripe_charge_id: NotRequired[Annotated[Optional[str], Field(alias="stripe_charge_id")]]
    stripe_payment_intent_id: NotRequired[Annotated[Optional[str], Field(alias="stripe_payment_intent_id")]]
    stripe_refund_id: Annotated[str, Field(alias="stripe_refund_id")]
    updated_at: NotRequired[Annotated[datetime.datetime, Field(alias="updated_at")]]


class BillingRefundsUpdate(TypedDict):
    amount: NotRequired[Annotated[int, Field(alias="amount")]]
    as_of: NotRequired[Annotated[datetime.datetime, Field(alias="as_of")]]
    created_at: NotRequired[Annotated[datetime.datetime, Field(alias="created_at")]]
    currency: NotRequired[Annotated[str, Field(alias="currency")]]
    failure_reason: NotRequired[Annotated[Optional[str], Field(alias="failure_reason")]]
    reason: NotRequired[Annotated[Optional[str], Field(alias="reason")]]
    refunded_at: NotRequired[Annotated[datetime.datetime, Field(alias="refunded_at")]]
    status: NotRequired[Annotated[str, Field(alias="status")]]
    stripe_charge_id: NotRequired[Annotated[Optional[str], Field(alias="stripe_charge_id")]]
    stripe_payment_intent_id: NotRequired[Annotated[Optional[str], Field(alias="stripe_payment_intent_id")]]
    stripe_refund_id: NotRequired[Annotated[str, Field(alias="stripe_refund_id")]]
    updated_at: NotRequired[Annotated[datetime.datetime, Field(alias="updated_at")]]


class BillingReviews(BaseModel):
    account_id: Optional[uuid.UUID] = Field(alias="account_id")
    as_of: datetime.datetime = Field(alias="as_of")
    closed_reason: Optional[str] = Field(alias="closed_reason")
    created_at: datetime.datetime = Field(alias="created_at")
    is_open: bool = Field(alias="is_open")
    livemode: bool = Field(alias="livemode")
    opened_at: datetime.datetime = Field(alias="opened_at")
    reason: str = Field(alias="reason")
    stripe_charge_id: Optional[str] = Field(alias="stripe_charge_id")
    stripe_payment_intent_id: Optional[str] = Field(alias="stripe_payment_intent_id")
    stripe_review_id: str = Field(alias="stripe_review_id")
    updated_at: datetime.datetime = Field(alias="updated_at")


class BillingReviewsInsert(TypedDict):
    account_id: NotRequired[Annotated[Optional[uuid.UUID], Field(alias="account_id")]]
    as_of: Annotated[datetime.datetime, Field(alias="as_of")]
    closed_reason: NotRequired[Annotated[Optional[str], Field(alias="closed_reason")]]
    created_at: NotRequired[Annotated[datetime.datetime, Field(alias="created_at")]]
    is_open: Annotated[bool, Field(alias="is_open")]
    livemode: Annotated[bool, Field(alias="livemode")]
    opened_at: Annotated[datetime.datetime, Field(alias="opened_at")]
    reason: Annotated[str, Field(alias="reason")]
    stripe_charge_id: NotRequired[Annotated[Optional[str], Field(alias="stripe_charge_id")]]
    stripe_payment_intent_id: NotRequired[Annotated[Optional[str], Field(alias="stripe_payment_intent_id")]]
    stripe_review_id: Annotated[str, Field(alias="stripe_review_id")]
    updated_at: NotRequired[Annotated[datetime.datetime, Field(alias="updated_at")]]


class BillingReviewsUpdate(TypedDict):
    account_id: NotRequired[Annotated[Optional[uuid.UUID], Field(alias="account_id")]]
    as_of: NotRequired[Annotated[datetime.datetime, Field(alias="as_of")]]
    closed_reason: NotRequired[Annotated[Optional[str], Field(alias="closed_reason")]]
    created_at: NotRequired[Annotated[datetime.datetime, Field(alias="created_at")]]
    is_open: NotRequired[Annotated[bool, Field(alias="is_open")]]
    livemode: NotRequired[Annotated[bool, Field(alias="livemode")]]
    opened_at: NotRequired[Annotated[datetime.datetime, Field(alias="opened_at")]]
    reason: NotRequired[Annotated[str, Field(alias="reason")]]
    stripe_charge_id: NotRequired[Annotated[Optional[str], Field(alias="stripe_charge_id")]]
    stripe_payment_intent_id: NotRequired[Annotated[Optional[str], Field(alias="stripe_payment_intent_id")]]
    stripe_review_id: NotRequired[Annotated[str, Field(alias="stripe_review_id")]]
    updated_at: NotRequired[Annotated[datetime.datetime, Field(alias="updated_at")]]


class BillingSavedCards(BaseModel):
    as_of: datetime.datetime = Field(alias="as_of")
    brand: Optional[str] = Field(alias="brand")
    created_at: datetime.datetime = Field(alias="created_at")
    expires_on: Optional[datetime.date] = Field(alias="expires_on")
    last4: Optional[str] = Field(alias="last4")
    livemode: bool = Field(alias="livemode")
    stripe_customer_id: Optional[str] = Field(alias="stripe_customer_id")
    stripe_payment_method_id: str = Field(alias="stripe_payment_method_id")
    updated_at: datetime.datetime = Field(alias="updated_at")


class BillingSavedCardsInsert(TypedDict):
    as_of: Annotated[datetime.datetime, Field(alias="as_of")]
    brand: NotRequired[Annotated[Optional[str], Field(alias="brand")]]
    created_at: NotRequired[Annotated[datetime.datetime, Field(alias="created_at")]]
    expires_on: NotRequired[Annotated[Optional[datetime.date], Field(alias="expires_on")]]
    last4: NotRequired[Annotated[Optional[str], Field(alias="last4")]]
    livemode: Annotated[bool, Field(alias="livemode")]
    stripe_customer_id: NotRequired[Annotated[Optional[str], Field(alias="stripe_customer_id")]]
    stripe_payment_method_id: Annotated[str, Field(alias="stripe_payment_method_id")]
    updated_at: NotRequired[Annotated[datetime.datetime, Field(alias="updated_at")]]


class BillingSavedCardsUpdate(TypedDict):
    as_of: NotRequired[Annotated[datetime.datetime, Field(alias="as_of")]]
    brand: NotRequired[Annotated[Optional[str], Field(alias="brand")]]
    created_at: NotRequired[Annotated[datetime.datetime, Field(alias="created_at")]]
    expires_on: NotRequired[Annotated[Optional[datetime.date], Field(alias="expires_on")]]
    last4: NotRequired[Annotated[Optional[str], Field(alias="last4")]]
    livemode: NotRequired[Annotated[bool, Field(alias="livemode")]]
    stripe_customer_id: NotRequired[Annotated[Optional[str], Field(alias="stripe_customer_id")]]
    stripe_payment_method_id: NotRequired[Annotated[str, Field(alias="stripe_payment_method_id")]]
    updated_at: NotRequired[Annotated[datetime.datetime, Field(alias="updated_at")]]


class BillingSettings(BaseModel):
    allow_promotion_codes: bool = Field(alias="allow_promotion_codes")
    allowed_redirect_origins: List[str] = Field(alias="allowed_redirect_origins")
    automatic_tax: bool = Field(alias="automatic_tax")
    billing_address_collection: str = Field(alias="billing_address_collection")
    checkout_branding: Optional[JsonValue] = Field(alias="checkout_branding")
    collect_tax_ids: bool = Field(alias="collect_tax_ids")
    customer_notifications: List[str] = Field(alias="customer_notifications")
    expiring_credits_notice: str = Field(alias="expiring_credits_notice")
    fraud_dry_run: bool = Field(alias="fraud_dry_run")
    id: bool = Field(alias="id")
    initial_credits_per: str = Field(alias="initial_credits_per")
    keep_events_days: int = Field(alias="keep_events_days")
    livemode: bool = Field(alias="livemode")
    max_checkout_quantity: int = Field(alias="max_checkout_quantity")
    notification_deadline: str = Field(alias="notification_deadline")
    notification_rate: int = Field(alias="notification_rate")
    notification_retention: str = Field(alias="notification_retention")
    notification_window: str = Field(alias="notification_window")
    on_user_deleted: str = Field(alias="on_user_deleted")
    one_subscription_per: str = Field(alias="one_subscription_per")
    one_trial_per: str = Field(alias="one_trial_per")
    past_due_keeps_features: bool = Field(alias="past_due_keeps_features")
    payment_link_options: JsonValue = Field(alias="payment_link_options")
    payment_reference_lifetime: str = Field(alias="payment_reference_lifetime")
    refund_policy: Optional[str] = Field(alias="refund_policy")
    seen_card_policy: Optional[str] = Field(alias="seen_card_policy")
    shortfall_policy: str = Field(alias="shortfall_policy")
    silence_after: Optional[str] = Field(alias="silence_after")
    site_url: Optional[str] = Field(alias="site_url")
    stripe_account_id: Optional[str] = Field(alias="stripe_account_id")
    trial_without_card: Optional[str] = Field(alias="trial_without_card")
    updated_at: datetime.datetime = Field(alias="updated_at")


class BillingSettingsInsert(TypedDict):
    allow_promotion_codes: NotRequired[Annotated[bool, Field(alias="allow_promotion_codes")]]
    allowed_redirect_origins: NotRequired[Annotated[List[str], Field(alias="allowed_redirect_origins")]]
    automatic_tax: NotRequired[Annotated[bool, Field(alias="automatic_tax")]]
    billing_address_collection: NotRequired[Annotated[str, Field(alias="billing_address_collection")]]
    checkout_branding: NotRequired[Annotated[Optional[JsonValue], Field(alias="checkout_branding")]]
    collect_tax_ids: NotRequired[Annotated[bool, Field(alias="collect_tax_ids")]]
    customer_notifications: NotRequired[Annotated[List[str], Field(alias="customer_notifications")]]
    expiring_credits_notice: NotRequired[Annotated[str, Field(alias="expiring_credits_notice")]]
    fraud_dry_run: NotRequired[Annotated[bool, Field(alias="fraud_dry_run")]]
    id: NotRequired[Annotated[bool, Field(alias="id")]]
    initial_credits_per: NotRequired[Annotated[str, Field(alias="initial_credits_per")]]
    keep_events_days: NotRequired[Annotated[int, Field(alias="keep_events_days")]]
    livemode: NotRequired[Annotated[bool, Field(alias="livemode")]]
    max_checkout_quantity: NotRequired[Annotated[int, Field(alias="max_checkout_quantity")]]
    notification_deadline: NotRequired[Annotated[str, Field(alias="notification_deadline")]]
    notification_rate: NotRequired[Annotated[int, Field(alias="notification_rate")]]
    notification_retention: NotRequired[Annotated[str, Field(alias="notification_retention")]]
    notification_window: NotRequired[Annotated[str, Field(alias="notification_window")]]
    on_user_deleted: NotRequired[Annotated[str, Field(alias="on_user_deleted")]]
    one_subscription_per: NotRequired[Annotated[str, Field(alias="one_subscription_per")]]
    one_trial_per: NotRequired[Annotated[str, Field(alias="one_trial_per")]]
    past_due_keeps_features: NotRequired[Annotated[bool, Field(alias="past_due_keeps_features")]]
    payment_link_options: NotRequired[Annotated[JsonValue, Field(alias="payment_link_options")]]
    payment_reference_lifetime: NotRequired[Annotated[str, Field(alias="payment_reference_lifetime")]]
    refund_policy: NotRequired[Annotated[Optional[str], Field(alias="refund_policy")]]
    seen_card_policy: NotRequired[Annotated[Optional[str], Field(alias="seen_card_policy")]]
    shortfall_policy: NotRequired[Annotated[str, Field(alias="shortfall_policy")]]
    silence_after: NotRequired[Annotated[Optional[str], Field(alias="silence_after")]]
    site_url: NotRequired[Annotated[Optional[str], Field(alias="site_url")]]
    stripe_account_id: NotRequired[Annotated[Optional[str], Field(alias="stripe_account_id")]]
    trial_without_card: NotRequired[Annotated[Optional[str], Field(alias="trial_without_card")]]
    updated_at: NotRequired[Annotated[datetime.datetime, Field(alias="updated_at")]]


class BillingSettingsUpdate(TypedDict):
    allow_promotion_codes: NotRequired[Annotated[bool, Field(alias="allow_promotion_codes")]]
    allowed_redirect_origins: NotRequired[Annotated[List[str], Field(alias="allowed_redirect_origins")]]
    automatic_tax: NotRequired[Annotated[bool, Field(alias="automatic_tax")]]
    billing_address_collection: NotRequired[Annotated[str, Field(alias="billing_address_collection")]]
    checkout_branding: NotRequired[Annotated[Optional[JsonValue], Field(alias="checkout_branding")]]
    collect_tax_ids: NotRequired[Annotated[bool, Field(alias="collect_tax_ids")]]
    customer_notifications: NotRequired[Annotated[List[str], Field(alias="customer_notifications")]]
    expiring_credits_notice: NotRequired[Annotated[str, Field(alias="expiring_credits_notice")]]
    fraud_dry_run: NotRequired[Annotated[bool, Field(alias="fraud_dry_run")]]
    id: NotRequired[Annotated[bool, Field(alias="id")]]
    initial_credits_per: NotRequired[Annotated[str, Field(alias="initial_credits_per")]]
    keep_events_days: NotRequired[Annotated[int, Field(alias="keep_events_days")]]
    livemode: NotRequired[Annotated[bool, Field(alias="livemode")]]
    max_checkout_quantity: NotRequired[Annotated[int, Field(alias="max_checkout_quantity")]]
    notification_deadline: NotRequired[Annotated[str, Field(alias="notification_deadline")]]
    notification_rate: NotRequired[Annotated[int, Field(alias="notification_rate")]]
    notification_retention: NotRequired[Annotated[str, Field(alias="notification_retention")]]
    notification_window: NotRequired[Annotated[str, Field(alias="notification_window")]]
    on_user_deleted: NotRequired[Annotated[str, Field(alias="on_user_deleted")]]
    one_subscription_per: NotRequired[Annotated[str, Field(alias="one_subscription_per")]]
    one_trial_per: NotRequired[Annotated[str, Field(alias="one_trial_per")]]
    past_due_keeps_features: NotRequired[Annotated[bool, Field(alias="past_due_keeps_features")]]
    payment_link_options: NotRequired[Annotated[JsonValue, Field(alias="payment_link_options")]]
    payment_reference_lifetime: NotRequired[Annotated[str, Field(alias="payment_reference_lifetime")]]
    refund_policy: NotRequired[Annotated[Optional[str], Field(alias="refund_policy")]]
    seen_card_policy: NotRequired[Annotated[Optional[str], Field(alias="seen_card_policy")]]
    shortfall_policy: NotRequired[Annotated[str, Field(alias="shortfall_policy")]]
    silence_after: NotRequired[Annotated[Optional[str], Field(alias="silence_after")]]
    site_url: NotRequired[Annotated[Optional[str], Field(alias="site_url")]]
    stripe_account_id: NotRequired[Annotated[Optional[str], Field(alias="stripe_account_id")]]
    trial_without_card: NotRequired[Annotated[Optional[str], Field(alias="trial_without_card")]]
    updated_at: NotRequired[Annotated[datetime.datetime, Field(alias="updated_at")]]


class BillingStripeEvents(BaseModel):
    api_version: Optional[str] = Field(alias="api_version")
    attempts: int = Field(alias="attempts")
    created_at: datetime.datetime = Field(alias="created_at")
    excused_attempts: int = Field(alias="excused_attempts")
    last_error: Optional[str] = Field(alias="last_error")
    livemode: bool = Field(alias="livemode")
    notified_at: Optional[datetime.datetime] = Field(alias="notified_at")
    payload: str = Field(alias="payload")
    received_at: datetime.datetime = Field(alias="received_at")
    settled_at: Optional[datetime.datetime] = Field(alias="settled_at")
    status: str = Field(alias="status")
    stripe_event_id: str = Field(alias="stripe_event_id")
    type: str = Field(alias="type")
    waiting_for: Optional[str] = Field(alias="waiting_for")


class BillingStripeEventsInsert(TypedDict):
    api_version: NotRequired[Annotated[Optional[str], Field(alias="api_version")]]
    attempts: NotRequired[Annotated[int, Field(alias="attempts")]]
    created_at: Annotated[datetime.datetime, Field(alias="created_at")]
    excused_attempts: NotRequired[Annotated[int, Field(alias="excused_attempts")]]
    last_error: NotRequired[Annotated[Optional[str], Field(alias="last_error")]]
    livemode: Annotated[bool, Field(alias="livemode")]
    notified_at: NotRequired[Annotated[Optional[datetime.datetime], Field(alias="notified_at")]]
    payload: Annotated[str, Field(alias="payload")]
    received_at: NotRequired[Annotated[datetime.datetime, Field(alias="received_at")]]
    settled_at: NotRequired[Annotated[Optional[datetime.datetime], Field(alias="settled_at")]]
    status: NotRequired[Annotated[str, Field(alias="status")]]
    stripe_event_id: Annotated[str, Field(alias="stripe_event_id")]
    type: Annotated[str, Field(alias="type")]
    waiting_for: NotRequired[Annotated[Optional[str], Field(alias="waiting_for")]]


class BillingStripeEventsUpdate(TypedDict):
    api_version: NotRequired[Annotated[Optional[str], Field(alias="api_version")]]
    attempts: NotRequired[Annotated[int, Field(alias="attempts")]]
    created_at: NotRequired[Annotated[datetime.datetime, Field(alias="created_at")]]
    excused_attempts: NotRequired[Annotated[int, Field(alias="excused_attempts")]]
    last_error: NotRequired[Annotated[Optional[str], Field(alias="last_error")]]
    livemode: NotRequired[Annotated[bool, Field(alias="livemode")]]
    notified_at: NotRequired[Annotated[Optional[datetime.datetime], Field(alias="notified_at")]]
    payload: NotRequired[Annotated[str, Field(alias="payload")]]
    received_at: NotRequired[Annotated[datetime.datetime, Field(alias="received_at")]]
    settled_at: NotRequired[Annotated[Optional[datetime.datetime], Field(alias="settled_at")]]
    status: NotRequired[Annotated[str, Field(alias="status")]]
    stripe_event_id: NotRequired[Annotated[str, Field(alias="stripe_event_id")]]
    type: NotRequired[Annotated[str, Field(alias="type")]]
    waiting_for: NotRequired[Annotated[Optional[str], Field(alias="waiting_for")]]


class BillingStripeLookups(BaseModel):
    attempts: int = Field(alias="attempts")
    excused_attempts: int = Field(alias="excused_attempts")
    msg_id: int = Field(alias="msg_id")
    next_attempt_at: datetime.datetime = Field(alias="next_attempt_at")
    stripe_event_id: str = Field(alias="stripe_event_id")
    tie_kind: Optional[str] = Field(alias="tie_kind")
    tie_stripe_id: Optional[str] = Field(alias="tie_stripe_id")
    worker_pid: Optional[int] = Field(alias="worker_pid")


class BillingStripeLookupsInsert(TypedDict):
    attempts: NotRequired[Annotated[int, Field(alias="attempts")]]
    excused_attempts: NotRequired[Annotated[int, Field(alias="excused_attempts")]]
    msg_id: Annotated[int, Field(alias="msg_id")]
    next_attempt_at: NotRequired[Annotated[datetime.datetime, Field(alias="next_attempt_at")]]
    stripe_event_id: Annotated[str, Field(alias="stripe_event_id")]
    tie_kind: NotRequired[Annotated[Optional[str], Field(alias="tie_kind")]]
    tie_stripe_id: NotRequired[Annotated[Optional[str], Field(alias="tie_stripe_id")]]
    worker_pid: NotRequired[Annotated[Optional[int], Field(alias="worker_pid")]]


class BillingStripeLookupsUpdate(TypedDict):
    attempts: NotRequired[Annotated[int, Field(alias="attempts")]]
    excused_attempts: NotRequired[Annotated[int, Field(alias="excused_attempts")]]
    msg_id: NotRequired[Annotated[int, Field(alias="msg_id")]]
    next_attempt_at: NotRequired[Annotated[datetime.datetime, Field(alias="next_attempt_at")]]
    stripe_event_id: NotRequired[Annotated[str, Field(alias="stripe_event_id")]]
    tie_kind: NotRequired[Annotated[Optional[str], Field(alias="tie_kind")]]
    tie_stripe_id: NotRequired[Annotated[Optional[str], Field(alias="tie_stripe_id")]]
    worker_pid: NotRequired[Annotated[Optional[int], Field(alias="worker_pid")]]


class BillingStripeRequests(BaseModel):
    account_id: uuid.UUID = Field(alias="account_id")
    idempotency_key: str = Field(alias="idempotency_key")
    requested_at: datetime.datetime = Field(alias="requested_at")


class BillingStripeRequestsInsert(TypedDict):
    account_id: Annotated[uuid.UUID, Field(alias="account_id")]
    idempotency_key: Annotated[str, Field(alias="idempotency_key")]
    requested_at: NotRequired[Annotated[datetime.datetime, Field(alias="requested_at")]]


class BillingStripeRequestsUpdate(TypedDict):
    account_id: NotRequired[Annotated[uuid.UUID, Field(alias="account_id")]]
    idempotency_key: NotRequired[Annotated[str, Field(alias="idempotency_key")]]
    requested_at: NotRequired[Annotated[datetime.datetime, Field(alias="requested_at")]]


class BillingSubscriptionItems(BaseModel):
    created_at: datetime.datetime = Field(alias="created_at")
    current_period_end: datetime.datetime = Field(alias="current_period_end")
    current_period_start: datetime.datetime = Field(alias="current_period_start")
    quantity: Optional[int] = Field(alias="quantity")
    stripe_price_id: str = Field(alias="stripe_price_id")
    stripe_product_id: Optional[str] = Field(alias="stripe_product_id")
    stripe_subscription_id: str = Field(alias="stripe_subscription_id")
    stripe_subscription_item_id: str = Field(alias="stripe_subscription_item_id")
    updated_at: datetime.datetime = Field(alias="updated_at")


class BillingSubscriptionItemsInsert(TypedDict):
    created_at: NotRequired[Annotated[datetime.datetime, Field(alias="created_at")]]
    current_period_end: Annotated[datetime.datetime, Field(alias="current_period_end")]
    current_period_start: Annotated[datetime.datetime, Field(alias="current_period_start")]
    quantity: NotRequired[Annotated[Optional[int], Field(alias="quantity")]]
    stripe_price_id: Annotated[str, Field(alias="stripe_price_id")]
    stripe_product_id: NotRequired[Annotated[Optional[str], Field(alias="stripe_product_id")]]
    stripe_subscription_id: Annotated[str, Field(alias="stripe_subscription_id")]
    stripe_subscription_item_id: Annotated[str, Field(alias="stripe_subscription_item_id")]
    updated_at: NotRequired[Annotated[datetime.datetime, Field(alias="updated_at")]]


class BillingSubscriptionItemsUpdate(TypedDict):
    created_at: NotRequired[Annotated[datetime.datetime, Field(alias="created_at")]]
    current_period_end: NotRequired[Annotated[datetime.datetime, Field(alias="current_period_end")]]
    current_period_start: NotRequired[Annotated[datetime.datetime, Field(alias="current_period_start")]]
    quantity: NotRequired[Annotated[Optional[int], Field(alias="quantity")]]
    stripe_price_id: NotRequired[Annotated[str, Field(alias="stripe_price_id")]]
    stripe_product_id: NotRequired[Annotated[Optional[str], Field(alias="stripe_product_id")]]
    stripe_subscription_id: NotRequired[Annotated[str, Field(alias="stripe_subscription_id")]]
    stripe_subscription_item_id: NotRequired[Annotated[str, Field(alias="stripe_subscription_item_id")]]
    updated_at: NotRequired[Annotated[datetime.datetime, Field(alias="updated_at")]]


class BillingSubscriptions(BaseModel):
    account_id: Optional[uuid.UUID] = Field(alias="account_id")
    anchors: List[datetime.datetime] = Field(alias="anchors")
    as_of: datetime.datetime = Field(alias="as_of")
    billing_cycle_anchor: datetime.datetime = Field(alias="billing_cycle_anchor")
    cancel_at: Optional[datetime.datetime] = Field(alias="cancel_at")
    cancel_at_period_end: bool = Field(alias="cancel_at_period_end")
    canceled_at: Optional[datetime.datetime] = Field(alias="canceled_at")
    created_at: datetime.datetime = Field(alias="created_at")
    currency: Optional[str] = Field(alias="currency")
    ended_at: Optional[datetime.datetime] = Field(alias="ended_at")
    is_collection_paused: bool = Field(alias="is_collection_paused")
    livemode: bool = Field(alias="livemode")
    metadata: JsonValue = Field(alias="metadata")
    started_at: datetime.datetime = Field(alias="started_at")
    status: str = Field(alias="status")
    stripe_customer_id: str = Field(alias="stripe_customer_id")
    stripe_subscription_id: str = Field(alias="stripe_subscription_id")
    stripe_test_clock_id: Optional[str] = Field(alias="stripe_test_clock_id")
    trial_end: Optional[datetime.datetime] = Field(alias="trial_end")
    trial_start: Optional[datetime.datetime] = Field(alias="trial_start")
    updated_at: datetime.datetime = Field(alias="updated_at")


class BillingSubscriptionsInsert(TypedDict):
    account_id: NotRequired[Annotated[Optional[uuid.UUID], Field(alias="account_id")]]
    anchors: NotRequired[Annotated[List[datetime.datetime], Field(alias="anchors")]]
    as_of: Annotated[datetime.datetime, Field(alias="as_of")]
    billing_cycle_anchor: Annotated[datetime.datetime, Field(alias="billing_cycle_anchor")]
    cancel_at: NotRequired[Annotated[Optional[datetime.datetime], Field(alias="cancel_at")]]
    cancel_at_period_end: NotRequired[Annotated[bool, Field(alias="cancel_at_period_end")]]
    canceled_at: NotRequired[Annotated[Optional[datetime.datetime], Field(alias="canceled_at")]]
    created_at: NotRequired[Annotated[datetime.datetime, Field(alias="created_at")]]
    currency: NotRequired[Annotated[Optional[str], Field(alias="currency")]]
    ended_at: NotRequired[Annotated[Optional[datetime.datetime], Field(alias="ended_at")]]
    is_collection_paused: NotRequired[Annotated[bool, Field(alias="is_collection_paused")]]
    livemode: Annotated[bool, Field(alias="livemode")]
    metadata: NotRequired[Annotated[JsonValue, Field(alias="metadata")]]
    started_at: Annotated[datetime.datetime, Field(alias="started_at")]
    status: Annotated[str, Field(alias="status")]
    stripe_customer_id: Annotated[str, Field(alias="stripe_customer_id")]
    stripe_subscription_id: Annotated[str, Field(alias="stripe_subscription_id")]
    stripe_test_clock_id: NotRequired[Annotated[Optional[str], Field(alias="stripe_test_clock_id")]]
    trial_end: NotRequired[Annotated[Optional[datetime.datetime], Field(alias="trial_end")]]
    trial_start: NotRequired[Annotated[Optional[datetime.datetime], Field(alias="trial_start")]]
    updated_at: NotRequired[Annotated[datetime.datetime, Field(alias="updated_at")]]


class BillingSubscriptionsUpdate(TypedDict):
    account_id: NotRequired[Annotated[Optional[uuid.UUID], Field(alias="account_id")]]
    anchors: NotRequired[Annotated[List[datetime.datetime], Field(alias="anchors")]]
    as_of: NotRequired[Annotated[datetime.datetime, Field(alias="as_of")]]
    billing_cycle_anchor: NotRequired[Annotated[datetime.datetime, Field(alias="billing_cycle_anchor")]]
    cancel_at: NotRequired[Annotated[Optional[datetime.datetime], Field(alias="cancel_at")]]
    cancel_at_period_end: NotRequired[Annotated[bool, Field(alias="cancel_at_period_end")]]
    canceled_at: NotRequired[Annotated[Optional[datetime.datetime], Field(alias="canceled_at")]]
    created_at: NotRequired[Annotated[datetime.datetime, Field(alias="created_at")]]
    currency: NotRequired[Annotated[Optional[str], Field(alias="currency")]]
    ended_at: NotRequired[Annotated[Optional[datetime.datetime], Field(alias="ended_at")]]
    is_collection_paused: NotRequired[Annotated[bool, Field(alias="is_collection_paused")]]
    livemode: NotRequired[Annotated[bool, Field(alias="livemode")]]
    metadata: NotRequired[Annotated[JsonValue, Field(alias="metadata")]]
    started_at: NotRequired[Annotated[datetime.datetime, Field(alias="started_at")]]
    status: NotRequired[Annotated[str, Field(alias="status")]]
    stripe_customer_id: NotRequired[Annotated[str, Field(alias="stripe_customer_id")]]
    stripe_subscription_id: NotRequired[Annotated[str, Field(alias="stripe_subscription_id")]]
    stripe_test_clock_id: NotRequired[Annotated[Optional[str], Field(alias="stripe_test_clock_id")]]
    trial_end: NotRequired[Annotated[Optional[datetime.datetime], Field(alias="trial_end")]]
    trial_start: NotRequired[Annotated[Optional[datetime.datetime], Field(alias="trial_start")]]
    updated_at: NotRequired[Annotated[datetime.datetime, Field(alias="updated_at")]]


class BillingTestClocks(BaseModel):
    frozen_at: datetime.datetime = Field(alias="frozen_at")
    stripe_test_clock_id: str = Field(alias="stripe_test_clock_id")


class BillingTestClocksInsert(TypedDict):
    frozen_at: Annotated[datetime.datetime, Field(alias="frozen_at")]
    stripe_test_clock_id: Annotated[str, Field(alias="stripe_test_clock_id")]


class BillingTestClocksUpdate(TypedDict):
    frozen_at: NotRequired[Annotated[datetime.datetime, Field(alias="frozen_at")]]
    stripe_test_clock_id: NotRequired[Annotated[str, Field(alias="stripe_test_clock_id")]]


class BillingTrialItems(BaseModel):
    seen_at: datetime.datetime = Field(alias="seen_at")
    stripe_price_id: str = Field(alias="stripe_price_id")
    stripe_subscription_id: str = Field(alias="stripe_subscription_id")
    stripe_subscription_item_id: str = Field(alias="stripe_subscription_item_id")


class BillingTrialItemsInsert(TypedDict):
    seen_at: Annotated[datetime.datetime, Field(alias="seen_at")]
    stripe_price_id: Annotated[str, Field(alias="stripe_price_id")]
    stripe_subscription_id: Annotated[str, Field(alias="stripe_subscription_id")]
    stripe_subscription_item_id: Annotated[str, Field(alias="stripe_subscription_item_id")]


class BillingTrialItemsUpdate(TypedDict):
    seen_at: NotRequired[Annotated[datetime.datetime, Field(alias="seen_at")]]
    stripe_price_id: NotRequired[Annotated[str, Field(alias="stripe_price_id")]]
    stripe_subscription_id: NotRequired[Annotated[str, Field(alias="stripe_subscription_id")]]
    stripe_subscription_item_id: NotRequired[Annotated[str, Field(alias="stripe_subscription_item_id")]]


class BillingWorkers(BaseModel):
    in_hand: List[int] = Field(alias="in_hand")
    in_hand_until: datetime.datetime = Field(alias="in_hand_until")
    pid: int = Field(alias="pid")
    started_at: datetime.datetime = Field(alias="started_at")


class BillingWorkersInsert(TypedDict):
    in_hand: NotRequired[Annotated[List[int], Field(alias="in_hand")]]
    in_hand_until: NotRequired[Annotated[datetime.datetime, Field(alias="in_hand_until")]]
    pid: Annotated[int, Field(alias="pid")]
    started_at: NotRequired[Annotated[datetime.datetime, Field(alias="started_at")]]


class BillingWorkersUpdate(TypedDict):
    in_hand: NotRequired[Annotated[List[int], Field(alias="in_hand")]]
    in_hand_until: NotRequired[Annotated[datetime.datetime, Field(alias="in_hand_until")]]
    pid: NotRequired[Annotated[int, Field(alias="pid")]]
    started_at: NotRequired[Annotated[datetime.datetime, Field(alias="started_at")]]


class BillingEntitlementDiscrepancies(BaseModel):
    account_id: uuid.UUID = Field(alias="account_id")
    business_key: Optional[str] = Field(alias="business_key")
    detail: Optional[str] = Field(alias="detail")
    expected: Optional[int] = Field(alias="expected")
    found: Optional[int] = Field(alias="found")
    invariant: Optional[str] = Field(alias="invariant")


class BillingLedgerDiscrepancies(BaseModel):
    account_id: Optional[uuid.UUID] = Field(alias="account_id")
    detail: Optional[str] = Field(alias="detail")
    invariant: Optional[str] = Field(alias="invariant")


class PublicBillingAccount(BaseModel):
    account_id: uuid.UUID = Field(alias="account_id")
    closed_at: Optional[datetime.datetime] = Field(alias="closed_at")
    frozen_at: Optional[datetime.datetime] = Field(alias="frozen_at")
    frozen_reason: Optional[str] = Field(alias="frozen_reason")
    kind: str = Field(alias="kind")
    status: Optional[str] = Field(alias="status")


class PublicBillingEntitlements(BaseModel):
    account_id: Optional[uuid.UUID] = Field(alias="account_id")
    feature: Optional[str] = Field(alias="feature")
    stripe_price_id: Optional[str] = Field(alias="stripe_price_id")
    stripe_subscription_id: Optional[str] = Field(alias="stripe_subscription_id")
    value: Optional[JsonValue] = Field(alias="value")


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


class BillingCreditMove(BaseModel):
    key: Optional[str] = Field(alias="key")
    account_id: Optional[uuid.UUID] = Field(alias="account_id")
    stripe_subscription_id: Optional[str] = Field(alias="stripe_subscription_id")
    stripe_subscription_item_id: Optional[str] = Field(alias="stripe_subscription_item_id")
    stripe_invoice_id: Optional[str] = Field(alias="stripe_invoice_id")
    stripe_price_id: Optional[str] = Field(alias="stripe_price_id")
    source: Optional[str] = Field(alias="source")
    moment: Optional[datetime.datetime] = Field(alias="moment")
    slot_start: Optional[datetime.datetime] = Field(alias="slot_start")
    credits: Optional[int] = Field(alias="credits")
    returned: Optional[int] = Field(alias="returned")
    expires_at: Optional[datetime.datetime] = Field(alias="expires_at")
    rollover: Optional[str] = Field(alias="rollover")
    rollover_cap: Optional[int] = Field(alias="rollover_cap")
    is_waiting: Optional[bool] = Field(alias="is_waiting")


class BillingDeclaredPack(BaseModel):
    pack_credits: Optional[int] = Field(alias="pack_credits")
    credits_per_unit: Optional[float] = Field(alias="credits_per_unit")
    expires_after: Optional[str] = Field(alias="expires_after")


class BillingLineSlot(BaseModel):
    stripe_line_id: Optional[str] = Field(alias="stripe_line_id")
    account_id: Optional[uuid.UUID] = Field(alias="account_id")
    stripe_subscription_id: Optional[str] = Field(alias="stripe_subscription_id")
    stripe_subscription_item_id: Optional[str] = Field(alias="stripe_subscription_item_id")
    stripe_invoice_id: Optional[str] = Field(alias="stripe_invoice_id")
    stripe_price_id: Optional[str] = Field(alias="stripe_price_id")
    gives_back: Optional[bool] = Field(alias="gives_back")
    is_free: Optional[bool] = Field(alias="is_free")
    is_plain: Optional[bool] = Field(alias="is_plain")
    has_returns: Optional[bool] = Field(alias="has_returns")
    is_reached: Optional[bool] = Field(alias="is_reached")
    is_waiting: Optional[bool] = Field(alias="is_waiting")
    period_start: Optional[datetime.datetime] = Field(alias="period_start")
    slot_start: Optional[datetime.datetime] = Field(alias="slot_start")
    slot_end: Optional[datetime.datetime] = Field(alias="slot_end")
    moment: Optional[datetime.datetime] = Field(alias="moment")
    whole_credits: Optional[float] = Field(alias="whole_credits")
    line_seconds: Optional[float] = Field(alias="line_seconds")
    slot_seconds: Optional[float] = Field(alias="slot_seconds")
    expires_at: Optional[datetime.datetime] = Field(alias="expires_at")
    rollover: Optional[str] = Field(alias="rollover")
    rollover_cap: Optional[int] = Field(alias="rollover_cap")
    proration_credits: Optional[str] = Field(alias="proration_credits")
    downgrade_credits: Optional[str] = Field(alias="downgrade_credits")


class BillingReturnedMoney(BaseModel):
    returned_at: Optional[datetime.datetime] = Field(alias="returned_at")
    amount: Optional[float] = Field(alias="amount")
    stripe_line_id: Optional[str] = Field(alias="stripe_line_id")
    is_contested: Optional[bool] = Field(alias="is_contested")

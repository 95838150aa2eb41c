"""What an app writes with types/tillbase.py: tests/test_types.py has it checked, nobody runs it."""

from typing import Any

from tillbase import BillingCreditEntries, PublicCreditBalance


def available(row: Any) -> int:
    """Of a row of `supabase.table("credit_balance").select("*").single().execute().data`."""
    return PublicCreditBalance.model_validate(row).available or 0


def balance_after(row: Any) -> int:
    """Of the data of `supabase.rpc("spend_credits", {…}).execute()`."""
    return BillingCreditEntries.model_validate(row).balance_after

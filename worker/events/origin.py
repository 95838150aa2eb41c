"""An event's text → the Stripe account that it names, if any; and whether that account is ours.

An endpoint of a Connect platform also receives the events of connected accounts. Their owners write their own
products, prices and sessions, so nothing in these events may grant credits.
"""

import json
import re
from typing import Any, cast

# Both are null, or missing, in an event of our own account. The pattern may also match deeper in the body; the full
# check then finds nothing, so it only avoids parsing most bodies twice.
_MAY_NAME_ACCOUNT = re.compile(r'"(?:account|context)"\s*:\s*"')


def named_account(payload: str) -> str | None:
    """The account that an event names: `account` (Connect), or the last part of `context` (organizations, API v2).

    None for an event of our own account, and for a body that is not a JSON object: normalise reports its error.
    """
    if _MAY_NAME_ACCOUNT.search(payload) is None:
        return None
    try:
        body = json.loads(payload)
    except (ValueError, RecursionError):
        return None
    if not isinstance(body, dict):
        return None
    event = cast("dict[str, Any]", body)
    account, context = event.get("account"), event.get("context")
    if isinstance(account, str) and account:
        return account
    return context.rpartition("/")[2] or context if isinstance(context, str) and context else None


def reason_of_other_account(named: str | None, ours: str | None) -> str | None:
    """Why an event of another account is ignored; None if it is ours. `ours`: settings.stripe_account_id."""
    if named is None or named == ours:
        return None
    whose = "no Stripe account is set yet" if ours is None else f"this installation belongs to {ours}"
    return (
        f"the event belongs to Stripe account {named}, and {whose} (billing.settings.stripe_account_id). "
        f"If {named} is yours, set it there and retry the event."
    )

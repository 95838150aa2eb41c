"""Steps → Stripe, one after the other; cut off anywhere, a repeat goes on where it stopped."""

from collections.abc import Callable, Sequence
from typing import Any

import stripe as stripe_sdk

from cli.output import CliError
from cli.plans.catalogue import StripeAccount, refusal
from cli.plans.changes import Step


def take(account: StripeAccount, steps: Sequence[Step], on_step: Callable[[], None]) -> None:
    """Take the steps that change anything. Raises CliError that says how far it came."""
    product_ids = {step.key: step.stripe_id for step in steps if step.kind == "product"}
    price_ids: dict[str, str] = {}
    to_do = [step for step in steps if step.writes]
    for done, step in enumerate(to_do):
        try:
            _take(account, step, product_ids, price_ids)
        except stripe_sdk.StripeError as error:
            raise CliError(
                f"to {step.action} {step.kind} {step.key}: {refusal(error)}. Steps done before it: "
                f"{done} of {len(to_do)}. Run it again: what was made is not made twice"
            ) from None
        on_step()


def _take(
    account: StripeAccount, step: Step, product_ids: dict[str, str | None], price_ids: dict[str, str]
) -> None:
    params: Any = dict(step.params or {})
    match step:
        case Step(action="create", kind="product"):
            product_ids[step.key] = account.create_product(params)
        case Step(action="create", product=str(product)):
            price_ids[step.key] = account.create_price(params | {"product": product_ids[product]})
        case Step(kind="product", stripe_id=str(stripe_id)):
            if step.successor is not None:
                params["default_price"] = price_ids[step.successor]
            account.update_product(stripe_id, params)
        case Step(stripe_id=str(stripe_id)):
            account.update_price(stripe_id, params)
        case _:
            raise AssertionError(f"a step of no kind: {step}")

"""Steps → Stripe, one after the other; after an interruption, a repeated push continues."""

from collections.abc import Callable, Sequence
from typing import Any

import stripe as stripe_sdk

from cli.output import CliError
from cli.plans.catalogue import StripeAccount
from cli.plans.changes import Step
from cli.stripe_key import refusal


def take(account: StripeAccount, steps: Sequence[Step], on_step: Callable[[], None]) -> None:
    """Run the steps that change anything. Raises CliError with the number of finished steps."""
    product_ids = {step.key: step.stripe_id for step in steps if step.kind == "product"}
    price_ids: dict[str, str] = {}
    to_do = [step for step in steps if step.writes]
    for done, step in enumerate(to_do):
        try:
            _take(account, step, product_ids, price_ids)
        except stripe_sdk.StripeError as error:
            raise CliError(
                f"to {step.action} {step.kind} {step.key}: {refusal(error)}. Steps done before it: "
                f"{done} of {len(to_do)}. Run the command again: finished steps are not repeated"
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

"""A key → a client of Stripe with our time-outs. Each job and each reader has its own."""

from uuid import UUID, uuid5

import stripe


def stripe_client(
    api_key: str, api_base: str | None, timeout_seconds: float, retries: int = 0
) -> stripe.StripeClient:
    """`api_base` None: Stripe itself. Without `retries` an attempt is one request, and the caller retries."""
    return stripe.StripeClient(
        api_key,
        base_addresses={"api": api_base} if api_base else None,
        max_network_retries=retries,
        http_client=stripe.RequestsClient(timeout=timeout_seconds),
    )


def key_of_step(key: UUID, step: str) -> str:
    """An Idempotency-Key for a further request of the row that has `key`: always the same, and different for other
    rows.
    """
    return str(uuid5(key, step))

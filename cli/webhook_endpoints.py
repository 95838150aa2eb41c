"""A webhook endpoint of Stripe's → what is wrong with it for Tillbase. Pure."""

from collections.abc import Collection, Sequence
from typing import Any

import stripe

from cli.findings import Finding
from worker.arrivals import events_of

API_VERSION = stripe.api_version or ""
# The environment variables of the receiver. An endpoint's metadata names the one that holds its signing secret, so that
# the next rotation takes the other.
SECRET_NAMES = ("STRIPE_WEBHOOK_SECRET", "STRIPE_WEBHOOK_SECRET_NEXT")
SECRET_KEY = "tillbase_secret"  # noqa: S105  a key of metadata
# The oldest version whose shapes the worker reads.
_OLDEST = "2024-09-30.acacia"


def params_of(url: str, secret_name: str, *, livemode: bool) -> dict[str, Any]:
    """What to send to Stripe for a new endpoint."""
    return {
        "url": url,
        "enabled_events": events_of(livemode=livemode),
        "api_version": API_VERSION,
        "description": "Tillbase",
        "metadata": {SECRET_KEY: secret_name},
    }


def secret_name_of(endpoint: stripe.WebhookEndpoint) -> str:
    """The variable that holds its signing secret; the first for an endpoint that was made by hand."""
    metadata = endpoint.metadata
    return metadata[SECRET_KEY] if metadata and SECRET_KEY in metadata else SECRET_NAMES[0]


def other_secret(endpoint: stripe.WebhookEndpoint) -> str:
    """The variable for the secret of the endpoint that takes over."""
    first, second = SECRET_NAMES
    return second if secret_name_of(endpoint) == first else first


def newest_first(endpoints: Collection[stripe.WebhookEndpoint], url: str) -> list[stripe.WebhookEndpoint]:
    """Those of the URL."""
    return sorted((one for one in endpoints if one.url == url), key=lambda one: one.created, reverse=True)


def check(endpoints: Sequence[stripe.WebhookEndpoint], url: str) -> list[Finding]:
    """What is wrong with the endpoints of a URL, newest first; nothing when all is well."""
    if not endpoints:
        return [Finding("webhook", f"Stripe has no webhook endpoint for {url}", "till webhook create")]
    newest, *older = endpoints
    findings = [*_check(newest)]
    if older:
        ids = ", ".join(one.id for one in older)
        findings.append(
            Finding(
                "webhook",
                f"{ids} is older than {newest.id} and has the same URL",
                "till webhook rotate --finish",
                "warning",
            )
        )
    return findings


def _check(endpoint: stripe.WebhookEndpoint) -> list[Finding]:
    findings: list[Finding] = []
    if endpoint.status != "enabled":
        findings.append(
            Finding("webhook", f"{endpoint.id} is {endpoint.status}", "till webhook verify --fix")
        )
    wanted, enabled = set(events_of(livemode=endpoint.livemode)), set(endpoint.enabled_events)
    missing = sorted(wanted - enabled) if "*" not in enabled else []
    if missing:
        findings.append(
            Finding(
                "webhook", f"{endpoint.id} does not send {', '.join(missing)}", "till webhook verify --fix"
            )
        )
    if extra := sorted(enabled - wanted):
        what = "every event there is" if extra == ["*"] else ", ".join(extra)
        findings.append(
            Finding(
                "webhook",
                f"{endpoint.id} sends {what}, also what Tillbase ignores",
                "till webhook verify --fix",
                "warning",
            )
        )
    if endpoint.api_version is None:
        findings.append(
            Finding(
                "webhook",
                f"{endpoint.id} follows the API version of the Stripe account, which may change",
                "till webhook rotate",
                "warning",
            )
        )
    elif endpoint.api_version < _OLDEST:
        findings.append(
            Finding(
                "webhook",
                f"{endpoint.id} has API version {endpoint.api_version}, older than {_OLDEST}",
                "till webhook rotate",
            )
        )
    return findings

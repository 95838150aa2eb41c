"""A key and a connection → what is wrong at Stripe: key, permissions, endpoint, events that never arrived."""

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import psycopg
import stripe

from cli.database import Connection, row
from cli.deploy import functions
from cli.findings import Finding, Result, Skipped
from cli.output import counted
from cli.webhook_endpoints import check as check_endpoints
from cli.webhook_endpoints import newest_first
from worker import arrivals
from worker.account import ask, check_answer, check_mode, read_installation
from worker.errors import WrongStripeKey
from worker.settings import Settings, is_live

CLOCK_SKEW_MAX_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Permission:
    """A permission of a restricted key, by the name that Stripe's Dashboard gives it."""

    name: str
    path: str
    access: str  # read | write
    needed_by: str  # worker | functions
    reason: str


# Every permission that the two restricted keys need: docs list them from here, and `probe` asks Stripe for each.
PERMISSIONS = (
    Permission("Events", "events", "read", "worker", "whose key this is; till events replay"),
    Permission("Customers", "customers", "write", "worker", "a user's new e-mail address"),
    Permission("Products", "products", "read", "worker", "plans and packs"),
    Permission("Prices", "prices", "read", "worker", "plans and packs"),
    Permission("Subscriptions", "subscriptions", "write", "worker", "cancellations by the fraud policy"),
    Permission("Invoices", "invoices", "write", "worker", "what was paid for; overage"),
    Permission("Invoices", "invoiceitems", "write", "worker", "overage"),
    Permission("Credit notes", "credit_notes", "read", "worker", "what was given back"),
    Permission("Charges and Refunds", "charges", "read", "worker", "what was paid"),
    Permission("Charges and Refunds", "refunds", "write", "worker", "refunds by the fraud policy"),
    Permission("Disputes", "disputes", "read", "worker", "what is disputed"),
    Permission("PaymentIntents", "payment_intents", "write", "worker", "auto-recharge"),
    Permission("PaymentMethods", "payment_methods", "read", "worker", "saved cards of auto-recharge"),
    Permission("Checkout Sessions", "checkout/sessions", "read", "worker", "what was bought"),
    Permission("Payment Links", "payment_links", "write", "worker", "links of ended prices are deactivated"),
    Permission("Reviews", "reviews", "read", "worker", "Radar's reviews"),
    Permission("Radar", "radar/early_fraud_warnings", "read", "worker", "early fraud warnings"),
    Permission("Customers", "customers", "write", "functions", "one customer for each account"),
    Permission("Checkout Sessions", "checkout/sessions", "write", "functions", "checkout"),
    Permission("Customer portal", "billing_portal/sessions", "write", "functions", "portal"),
    Permission("Payment Links", "payment_links", "write", "functions", "payment-links"),
)


def key(conn: Connection, settings: Settings) -> Iterator[Finding]:
    """Its kind, mode and Stripe account."""
    text = settings.stripe_api_key or ""
    if text.startswith("pk_"):
        yield Finding("stripe_key", "STRIPE_API_KEY is a publishable key", "export a restricted key (rk_…)")
        return
    installation = read_installation(conn)
    try:
        check_mode(text, installation)
        answer = ask(text, settings.stripe_api_base, installation)
        check_answer(answer, installation.stripe_account_id)
    except WrongStripeKey as error:
        yield Finding("stripe_key", str(error), "export the key of this installation's account and mode")
    except stripe.AuthenticationError:
        yield Finding(
            "stripe_key", "Stripe does not accept STRIPE_API_KEY: it has expired or was deleted",
            "make a new restricted key in Stripe's Dashboard and export it",
        )  # fmt: skip
    if text.startswith("sk_live_"):
        yield Finding(
            "stripe_key", "STRIPE_API_KEY is a secret key, which may do everything",
            "export a restricted key with the permissions that the worker needs", "warning",
        )  # fmt: skip


def permissions(client: Any) -> Iterator[Finding]:
    """What the worker's key may do. Writing is tried on an object that does not exist, so it has no effect.

    Without a permission to write only one feature is missing, which the owner may not use: a warning.
    """
    for permission in PERMISSIONS:
        if permission.needed_by == "worker" and not _is_permitted(client, permission):
            yield Finding(
                "stripe_permission",
                f"the key may not {permission.access} {permission.name} ({permission.reason})",
                f"give the restricted key {permission.access} permission on {permission.name}",
                "error" if permission.access == "read" else "warning",
            )


def _is_permitted(client: Any, permission: Permission) -> bool:
    is_list = permission.access == "read"
    method, path = (
        ("get", f"/v1/{permission.path}?limit=1") if is_list else ("post", f"/v1/{permission.path}/none")
    )
    try:
        client.raw_request(method, path)
    except stripe.PermissionError:
        return False
    except stripe.InvalidRequestError:
        return True
    return True


def endpoint(client: Any, url: str) -> Iterator[Result]:
    """There, enabled, with every event and a version. The worker's key need not be able to read it."""
    try:
        listed = list(client.v1.webhook_endpoints.list({"limit": 100}).auto_paging_iter())
    except stripe.PermissionError:
        yield Skipped(
            "webhook", "this key may not read webhook endpoints: run till webhook verify with one that may"
        )
        return
    yield from check_endpoints(newest_first(listed, url), url)


def arrived(conn: Connection, client: Any, url: str | None, *, livemode: bool) -> Iterator[Result]:
    """Events of the last day that Stripe has and the inbox has not, and whether the receiver refused them."""
    now = datetime.now(UTC)
    since, until = now - arrivals.PERIOD, now - arrivals.ARRIVAL
    looked = arrivals.newest(client, arrivals.events_of(livemode=livemode), since, until)
    missing = arrivals.unreceived(conn, looked.events)
    if looked.is_cut:
        yield Skipped(
            "events_missing",
            f"events of before {looked.since:%Y-%m-%d %H:%M} UTC were not compared, because there are more than "
            f"{arrivals.PAGES_MAX * arrivals.PAGE:,}: till events replay --days 1 --dry-run compares all",
        )
    if not missing:
        return
    example = missing[0]
    since_when = f"since {looked.since:%Y-%m-%d %H:%M} UTC" if looked.is_cut else "of the last day"
    yield Finding(
        "events_missing",
        f"{counted(len(missing), 'event')} {since_when} never arrived, such as {example['id']} ({example['type']})",
        "till webhook verify, then till events replay",
    )
    if url is not None:
        ids = {event["id"] for event in missing}
        yield from _refused(client, url, ids, since)


def _refused(client: Any, url: str, missing: Collection[str], since: datetime) -> Iterator[Finding]:
    """Why Stripe could not deliver events, as far as the receiver's answer to an unsigned request shows it."""
    path = f"/v1/events?limit={arrivals.PAGE}&delivery_success=false&created[gte]={int(since.timestamp())}"
    failed = [event["id"] for event in client.raw_request("get", path).data["data"] if event["id"] in missing]
    if not failed:
        return
    functions_url, _, name = url.rpartition("/")
    answers = functions.ask(functions_url, [name])
    wrong = list(functions.deployed(answers))
    yield from wrong
    if wrong:
        return
    lacks = answers[name].code == "webhook_secret_missing"
    what = (
        "has no STRIPE_WEBHOOK_SECRET"
        if lacks
        else "answers: its STRIPE_WEBHOOK_SECRET may be another endpoint's"
    )
    yield Finding(
        "webhook_secret",
        f"Stripe could not deliver {failed[0]}, and {name} {what}",
        "till webhook rotate --set-secret, then till webhook rotate --finish, then till events replay; the endpoint's "
        "page in Stripe's Dashboard shows what was answered",
    )


def clock(conn: Connection, client: Any) -> Iterator[Finding]:
    """The clocks of this machine and of the database against Stripe's."""
    answered = client.raw_request("get", "/v1/events?limit=1").headers.get("Date")
    if answered is None:
        return
    here, at_stripe = datetime.now(UTC), parsedate_to_datetime(answered)
    in_database = row(conn, "select clock_timestamp() as now", {})["now"]
    for name, moment, mend in (
        ("this machine", here, "synchronise this machine's clock"),
        (
            "the database",
            in_database,
            "synchronise the clock of the database's server: due times depend on it",
        ),
    ):
        skew = abs((moment - at_stripe).total_seconds())
        if skew > CLOCK_SKEW_MAX_SECONDS:
            yield Finding("clock", f"{name} and Stripe differ by {skew:.0f} seconds", mend, "warning")


def is_live_key(settings: Settings) -> bool:
    """Whether the key says that it is of live mode."""
    return bool(is_live(settings.stripe_api_key or ""))


def run(check: Callable[[], Iterable[Result]]) -> list[Result]:
    """The results of a check; what Stripe refuses, or that it does not answer, is a finding itself."""
    try:
        return list(check())
    except psycopg.Error:
        return [Skipped("stripe", "the database could not be asked, as said above")]
    except stripe.PermissionError as error:
        return [Finding("stripe_permission", one_line(error), "give the restricted key that permission")]
    except stripe.AuthenticationError as error:
        return [Finding("stripe_key", one_line(error), "export a key that Stripe accepts")]
    except stripe.StripeError as error:
        return [
            Finding("stripe", f"Stripe could not be asked: {one_line(error)}", "run this again", "warning")
        ]


def one_line(error: stripe.StripeError) -> str:
    """What Stripe says, without line breaks."""
    return " ".join(str(error.user_message or error).split())

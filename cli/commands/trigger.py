"""`till trigger EVENT`: has the local Stripe do what makes it send that event."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from cli.app import App
from cli.database import one_line_errors, setting
from cli.output import CliError, err, out

if TYPE_CHECKING:
    from cli.shop import Shop

app = App(panel="Local stack")

PLAN = {"unit_amount": 1900, "initial_credits": 500, "monthly_credits": 1000}


def _buy(shop: "Shop", user: str) -> str:
    return shop.pay_checkout(shop.sign_up(user), shop.plan("Triggered", **PLAN))


def _change(shop: "Shop", user: str) -> None:
    shop.stripe.subscriptions.update(_buy(shop, user), {"metadata": {"changed": "yes"}})


def _fail_to_pay(shop: "Shop", user: str) -> None:
    price = shop.plan("Triggered", **PLAN)
    shop.subscribe(shop.sign_up(user), price, payment_method="pm_card_chargeCustomerFail")


def _refund(shop: "Shop", user: str) -> None:
    shop.stripe.refunds.create({"charge": shop.pay_once(shop.sign_up(user), 1900)})


# What makes Stripe send an event → the event.
SCENES: "dict[str, Callable[[Shop, str], object]]" = {
    "product.created": lambda shop, _: shop.plan("Triggered", **PLAN),
    "price.created": lambda shop, _: shop.plan("Triggered", **PLAN),
    "customer.subscription.created": _buy,
    "customer.subscription.updated": _change,
    "customer.subscription.deleted": lambda shop, user: shop.stripe.subscriptions.cancel(_buy(shop, user)),
    "invoice.paid": _buy,
    "invoice.payment_failed": _fail_to_pay,
    "checkout.session.completed": _buy,
    "charge.succeeded": lambda shop, user: shop.pay_once(shop.sign_up(user), 1900),
    "charge.refunded": _refund,
    "refund.created": _refund,
    "charge.dispute.created": lambda shop, user: shop.pay_once(
        shop.sign_up(user), 1900, payment_method="pm_card_createDispute"
    ),
    "radar.early_fraud_warning.created": lambda shop, user: shop.pay_once(
        shop.sign_up(user), 1900, payment_method="pm_card_createIssuerFraudRecord"
    ),
}


@app.command(no_args_is_help=True, epilog=f"Events: {', '.join(sorted(SCENES))}.")
def trigger(
    event: Annotated[
        str, typer.Argument(help="Event type, as listed below.", autocompletion=lambda: sorted(SCENES))
    ],
    user: Annotated[
        str,
        typer.Option(help="E-mail address of the user it happens to; signed up if need be.", metavar="EMAIL"),
    ] = "trigger@example.com",
) -> None:
    """Have the local Stripe send an event, by doing what causes it."""
    import httpx
    import stripe

    from cli.shop import Shop

    if event not in SCENES:
        raise typer.BadParameter(f"{event!r} is not one of {', '.join(sorted(SCENES))}", param_hint="EVENT")
    names = ("DATABASE_URL", "POSTGRES_URL", "STRIPE_API_BASE", "STRIPE_API_KEY")
    settings = {name: setting(name) for name in names}
    try:
        with one_line_errors("POSTGRES_URL", settings["POSTGRES_URL"]), Shop(settings) as shop:
            before = _latest(shop, event)
            SCENES[event](shop, user)
            shop.settle()
            sent = _latest(shop, event)
            has_arrived = sent is not None and _has_arrived(shop, sent)
    except (stripe.APIConnectionError, httpx.TransportError):
        base = settings["STRIPE_API_BASE"]
        raise CliError(f"no Stripe answers at {base}: start the local stack with `till dev`") from None
    except stripe.StripeError as error:
        raise CliError(f"Stripe refused: {error.user_message or error}") from None
    if sent is None or sent == before:
        raise CliError(f"Stripe sent no {event}")
    if not has_arrived:
        raise CliError(
            f"Stripe sent {sent}, and it did not arrive: look into functions.log in .till, "
            "and whether STRIPE_API_BASE and POSTGRES_URL are of one stack"
        )
    out.print(sent, highlight=False)
    err.print(f"processed: see it with till events show {sent}", style="dim")


def _has_arrived(shop: "Shop", event_id: str) -> bool:
    with shop.connect() as conn:
        found = conn.execute("select from billing.stripe_events where stripe_event_id = %s", [event_id])
        return found.fetchone() is not None


def _latest(shop: "Shop", event: str) -> str | None:
    return next((found.id for found in shop.stripe.events.list({"types": [event], "limit": 1}).data), None)

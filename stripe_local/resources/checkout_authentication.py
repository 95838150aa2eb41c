"""3-D Secure within Checkout: whether the payer's bank asks, and what a failure records."""

from stripe_local.parameters import Params
from stripe_local.resources import payment_intents, payments
from stripe_local.resources.checkout_completion import attempted_intent, checked
from stripe_local.resources.payment_methods import card_of
from stripe_local.store import Object
from stripe_local.world import World

NOT_AUTHENTICATED = (
    "We are unable to authenticate your payment method. "
    "Please choose a different payment method and try again."
)


def is_needed(world: World, session: Object, given: Params) -> bool:
    """Whether the bank asks before this can be paid. Raises whatever `complete` would refuse."""
    _, method = checked(world, session, given)
    return method is not None and payments.needs_authentication(card_of(method), method, off_session=False)


def fail(world: World, session: Object, given: Params) -> None:
    """The session stays open; if there is an amount, the attempt is a failed payment intent."""
    _, method = checked(world, session, given)
    if method is None or not session.get("amount_total"):
        return
    intent = attempted_intent(world, session)
    payments.confirm(world, intent, method, off_session=False)
    payment_intents.authenticate(world, intent, succeeds=False)

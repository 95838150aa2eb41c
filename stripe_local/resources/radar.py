"""Early fraud warnings and reviews of charges."""

from stripe_local.errors import invalid
from stripe_local.parameters import Params
from stripe_local.render import listed
from stripe_local.resources.common import matching
from stripe_local.store import Object
from stripe_local.world import World

FRAUD_TYPES = (
    "card_never_received",
    "fraudulent_card_application",
    "made_with_counterfeit_card",
    "made_with_lost_card",
    "made_with_stolen_card",
    "misc",
    "unauthorized_use_of_card",
)


def warn(world: World, charge: Object, fraud_type: str) -> Object:
    """The issuer reports this charge. The warning has no risk level: the charge's outcome has."""
    if fraud_type not in FRAUD_TYPES:
        raise invalid(f"Invalid fraud_type: must be one of {', '.join(FRAUD_TYPES)}", "fraud_type")
    warning = world.store.add(
        "radar.early_fraud_warning",
        {
            "actionable": not charge["disputed"] and not charge["refunded"],
            "charge": charge["id"],
            "created": world.wall_time(),
            "fraud_type": fraud_type,
            "payment_intent": charge.get("payment_intent"),
        },
    )
    world.emit("radar.early_fraud_warning.created", warning)
    return warning


def settle_warnings(world: World, charge: Object) -> None:
    """A warning is no longer actionable once its charge is disputed or fully refunded."""
    for warning in world.store.all("radar.early_fraud_warning"):
        if warning["charge"] == charge["id"] and warning["actionable"]:
            with world.updating(warning, "radar.early_fraud_warning.updated"):
                warning["actionable"] = not charge["disputed"] and not charge["refunded"]


def open_review(world: World, charge: Object, reason: str) -> Object:
    review = world.store.add(
        "review",
        {
            "charge": charge["id"],
            "created": world.wall_time(),
            "open": True,
            "opened_reason": reason,
            "payment_intent": charge.get("payment_intent"),
            "reason": reason,
        },
    )
    charge["review"] = review["id"]
    intent = world.store.find("payment_intent", charge.get("payment_intent"))
    if intent is not None:
        intent["review"] = review["id"]
    world.emit("review.opened", review)
    return review


def close_review(world: World, review: Object, reason: str) -> Object:
    """`reason`: approved, refunded, refunded_as_fraud, disputed …"""
    review |= {"open": False, "closed_reason": reason, "reason": reason}
    for kind, key in (("charge", "charge"), ("payment_intent", "payment_intent")):
        holder = world.store.find(kind, review.get(key))
        if holder is not None:
            holder.pop("review", None)
    world.emit("review.closed", review)
    return review


def close_reviews_of(world: World, charge: Object, reason: str) -> None:
    review = world.store.find("review", charge.get("review"))
    if review is not None and review["open"]:
        close_review(world, review, reason)


def approve(world: World, params: Params, identifier: str) -> Object:
    review = world.store.get("review", identifier)
    if not review["open"]:
        raise invalid("This review has already been closed.")
    return close_review(world, review, "approved")


def list_reviews(world: World, params: Params) -> Object:
    """Those that are open."""
    waiting = [review for review in world.store.newest_first("review") if review["open"]]
    return listed(world, matching(waiting, params), params, "/v1/reviews")

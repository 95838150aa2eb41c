"""Refunds, of a charge or a payment intent, whole or in part."""

from stripe_local.errors import invalid, malformed
from stripe_local.parameters import Params
from stripe_local.resources import balance, radar
from stripe_local.resources.payment_methods import card_of
from stripe_local.store import Object
from stripe_local.world import World, merge_metadata

SETTLE_SECONDS = 2


def create(world: World, params: Params) -> Object:
    """`refund.created`, then by the test card: succeeded, pending for a moment, or failed a moment later."""
    charge = _charge_of(world, params)
    refundable = charge["amount_captured"] - charge["amount_refunded"]
    if not charge["captured"]:
        raise invalid(f"Charge {charge['id']} has not been captured.", code="charge_not_captured")
    if charge["refunded"] or refundable <= 0:
        raise invalid(f"Charge {charge['id']} has already been refunded.", code="charge_already_refunded")
    if charge["disputed"] and not _inquiry(world, charge):
        raise invalid(
            f"Charge {charge['id']} has been charged back; cannot issue a refund.", code="charge_disputed"
        )
    amount: int = params.get("amount", refundable)
    if amount < 1:
        raise malformed("Invalid positive integer", "amount", "parameter_invalid_integer")
    if amount > refundable:
        raise invalid(
            f"Refund amount ({amount}) is greater than unrefunded amount on charge ({refundable})", "amount"
        )
    return make(world, charge, amount, params)


def make(world: World, charge: Object, amount: int, params: Params) -> Object:
    """The refund itself, checked before."""
    behaviour = card_of(charge).refund
    refund = world.store.add(
        "refund",
        {
            "amount": amount,
            "charge": charge["id"],
            "created": world.now(world.clock_of(charge.get("customer"))),
            "currency": charge["currency"],
            "customer": charge.get("customer"),
            "destination_details": _destination(charge),
            "metadata": {},
            "payment_intent": charge.get("payment_intent"),
            "payment_method": charge.get("payment_method"),
            "reason": params.get("reason"),
            "status": "pending" if behaviour == "pending" else "succeeded",
        },
    )
    merge_metadata(refund, params.get("metadata"))
    is_card = charge["payment_method_details"]["type"] == "card"
    kind = "refund" if is_card else "payment_refund"
    refund["balance_transaction"] = balance.record(world, kind, refund, -amount)["id"]
    _add_refunded(world, charge, amount)
    world.emit("refund.created", refund)
    world.emit("charge.refunded", charge, {"amount_refunded": charge["amount_refunded"] - amount})
    if behaviour != "pending" and is_card:
        _name_reference(world, refund)
    if charge["refunded"]:
        radar.settle_warnings(world, charge)
        radar.close_reviews_of(
            world, charge, "refunded_as_fraud" if params.get("reason") == "fraudulent" else "refunded"
        )
    if behaviour != "succeeded":
        world.schedule(None, world.wall_time() + SETTLE_SECONDS, lambda: settle(world, refund, behaviour))
    return refund


def _destination(charge: Object) -> Object:
    kind: str = charge["payment_method_details"]["type"]
    if kind != "card":
        name = "us_bank_transfer" if kind == "us_bank_account" else "eu_bank_transfer"
        return {"type": name, name: {"reference_status": "pending"}}
    reference = {
        "reference_status": "pending",
        "reference_type": "acquirer_reference_number",
        "type": "refund",
    }
    return {"type": "card", "card": reference}


def _name_reference(world: World, refund: Object) -> None:
    """The acquirer's reference arrives later: an update of the refund, reported in two events."""
    details: Object = refund["destination_details"]
    before = {"destination_details": {"card": {"reference_status": "pending"}}}
    reference = f"{world.store.random.randrange(10**22):023}"
    card: Object = details["card"] | {"reference": reference, "reference_status": "available"}
    refund["destination_details"] = details | {"card": card}
    for event_type in ("refund.updated", "charge.refund.updated"):
        world.emit(event_type, refund, before)


def _charge_of(world: World, params: Params) -> Object:
    if "charge" in params:
        return world.store.get("charge", params["charge"], "charge")
    if "payment_intent" not in params:
        raise malformed(
            "One of the following params should be provided for this request: payment_intent or charge.",
            "charge",
            "parameter_missing",
        )
    intent = world.store.get("payment_intent", params["payment_intent"], "payment_intent")
    charge = world.store.find("charge", intent.get("latest_charge"))
    if charge is None or charge["status"] != "succeeded":
        raise invalid(
            f"This PaymentIntent ({intent['id']}) does not have a successful charge to refund.",
            "payment_intent",
        )
    return charge


def _inquiry(world: World, charge: Object) -> bool:
    return all(
        dispute["is_charge_refundable"]
        for dispute in world.store.all("dispute")
        if dispute["charge"] == charge["id"]
    )


def _add_refunded(world: World, charge: Object, amount: int) -> None:
    charge["amount_refunded"] += amount
    charge["refunded"] = charge["amount_refunded"] >= charge["amount_captured"]


def settle(world: World, refund: Object, behaviour: str) -> None:
    """The bank's answer to a refund that was not final: pending ones succeed, failing ones return the money."""
    if refund["status"] not in ("pending", "succeeded") or refund.get("_settled"):
        return
    refund["_settled"] = True
    previous = {"status": refund["status"]}
    if behaviour == "pending":
        refund["status"] = "succeeded"
        world.emit("refund.updated", refund, previous)
        world.emit("charge.refund.updated", refund, previous)
        return
    charge = world.store.get("charge", refund["charge"])
    refund |= {
        "status": "failed",
        "failure_reason": "expired_or_canceled_card",
    }
    returned = balance.record(world, "refund_failure", refund, refund["amount"])
    refund["failure_balance_transaction"] = returned["id"]
    _add_refunded(world, charge, -refund["amount"])
    world.emit("refund.updated", refund, previous)
    world.emit("refund.failed", refund)
    world.emit("charge.refund.updated", refund, previous)


def update(world: World, params: Params, identifier: str) -> Object:
    refund = world.store.get("refund", identifier)
    with world.updating(refund, "refund.updated"):
        merge_metadata(refund, params.get("metadata"))
    return refund


def cancel(world: World, params: Params, identifier: str) -> Object:
    refund = world.store.get("refund", identifier)
    raise invalid(f"You cannot cancel this refund because its status is {refund['status']}.")

"""Disputes: opened by test cards or by hand, won or lost by the magic evidence text."""

from stripe_local.errors import invalid
from stripe_local.parameters import Params
from stripe_local.render import DERIVED, render
from stripe_local.resources import balance, radar
from stripe_local.state import State
from stripe_local.store import Object
from stripe_local.values import inside
from stripe_local.world import World, merge_metadata

RESPONSE_DAYS = 9
EVIDENCE_KEYS = (
    "access_activity_log",
    "billing_address",
    "cancellation_policy",
    "cancellation_policy_disclosure",
    "cancellation_rebuttal",
    "customer_communication",
    "customer_email_address",
    "customer_name",
    "customer_purchase_ip",
    "customer_signature",
    "duplicate_charge_documentation",
    "duplicate_charge_explanation",
    "duplicate_charge_id",
    "product_description",
    "receipt",
    "refund_policy",
    "refund_policy_disclosure",
    "refund_refusal_explanation",
    "service_date",
    "service_documentation",
    "shipping_address",
    "shipping_carrier",
    "shipping_date",
    "shipping_documentation",
    "shipping_tracking_number",
    "uncategorized_file",
    "uncategorized_text",
)


def open_dispute(world: World, charge: Object, reason: str, *, inquiry: bool = False) -> Object:
    """An inquiry moves no money until it becomes a dispute."""
    now = world.now(world.clock_of(charge.get("customer")))
    method = inside(charge, "payment_method_details", "card")
    dispute = world.store.add(
        "dispute",
        {
            "amount": charge["amount"],
            "_movements": [] if inquiry else [_moved(world, charge, -1)],
            "charge": charge["id"],
            "created": now,
            "currency": charge["currency"],
            "enhanced_eligibility_types": [],
            "evidence": {"enhanced_evidence": {}, **dict.fromkeys(EVIDENCE_KEYS)},
            "evidence_details": {
                "due_by": now + RESPONSE_DAYS * 86_400,
                "enhanced_eligibility": {},
                "has_evidence": False,
                "past_due": False,
                "submission_count": 0,
                "submission_method": "not_submitted",
            },
            "is_charge_refundable": inquiry,
            "metadata": {},
            "payment_intent": charge.get("payment_intent"),
            "payment_method_details": {
                "type": "card",
                "card": {
                    "brand": method["brand"],
                    "case_type": "inquiry" if inquiry else "chargeback",
                    "network": method["network"],
                    "network_reason_code": "10.4",
                },
            }
            if method
            else None,
            "reason": reason,
            "status": "warning_needs_response" if inquiry else "needs_response",
        },
    )
    with world.updating(charge, "charge.updated"):
        charge["disputed"] = True
    world.emit("charge.dispute.created", dispute)
    if not inquiry:
        world.emit("charge.dispute.funds_withdrawn", dispute)
    radar.settle_warnings(world, charge)
    radar.close_reviews_of(world, charge, "disputed")
    return dispute


def _moved(world: World, charge: Object, sign: int) -> str:
    """The id of a balance transaction that takes the money away (-1) or brings it back (1)."""
    words = f"Chargeback {'withdrawal' if sign < 0 else 'reversal'} for {charge['id']}"
    made = balance.record(
        world,
        "adjustment",
        charge,
        sign * charge["amount"],
        fee=balance.DISPUTE_FEE if sign < 0 else 0,
        words=words,
        category="dispute" if sign < 0 else "dispute_reversal",
    )
    return made["id"]


def _shown(state: State, dispute: Object) -> Object:
    movements = [state.store.get("balance_transaction", identifier) for identifier in dispute["_movements"]]
    return {"balance_transactions": [render(state, movement) for movement in movements]}


def update(world: World, params: Params, identifier: str) -> Object:
    """Evidence is sent to the bank unless `submit` is false. The magic text decides at once."""
    dispute = world.store.get("dispute", identifier)
    if dispute["status"] in ("won", "lost", "warning_closed"):
        if set(params) - {"metadata"}:
            raise invalid("This dispute is already closed.", code=None)
        merge_metadata(dispute, params.get("metadata"))
        return dispute
    given: Params = inside(params, "evidence")
    with world.updating(dispute, "charge.dispute.updated"):
        merge_metadata(dispute, params.get("metadata"))
        if given:
            dispute["evidence"] = dispute["evidence"] | {
                k: v or None for k, v in given.items() if k in EVIDENCE_KEYS
            }
            dispute["evidence_details"] = dispute["evidence_details"] | {"has_evidence": True}
        if params.get("submit", bool(given)):
            dispute["evidence_details"] = dispute["evidence_details"] | {
                "submission_count": 1,
                "submission_method": "manual",
            }
            inquiry = dispute["status"].startswith("warning")
            dispute["status"] = "warning_under_review" if inquiry else "under_review"
    if params.get("submit", bool(given)):
        _decide(world, dispute)
    return dispute


def _decide(world: World, dispute: Object) -> None:
    text = dispute["evidence"].get("uncategorized_text")
    inquiry = dispute["status"].startswith("warning")
    if text == "winning_evidence":
        finish(world, dispute, "warning_closed" if inquiry else "won")
    elif text == "losing_evidence":
        finish(world, dispute, "warning_closed" if inquiry else "lost")
    elif text == "escalate_inquiry_evidence" and inquiry:
        charge = world.store.get("charge", dispute["charge"])
        with world.updating(dispute, "charge.dispute.updated"):
            dispute["status"] = "needs_response"
            dispute["is_charge_refundable"] = False
            dispute["_movements"] = [_moved(world, charge, -1)]
        world.emit("charge.dispute.funds_withdrawn", dispute)


def finish(world: World, dispute: Object, status: str) -> Object:
    """won | lost | warning_closed"""
    dispute["status"] = status
    charge = world.store.get("charge", dispute["charge"])
    if status == "won":
        dispute["_movements"] = [*dispute["_movements"], _moved(world, charge, 1)]
        world.emit("charge.dispute.funds_reinstated", dispute)
    world.emit("charge.dispute.closed", dispute)
    return dispute


def close(world: World, params: Params, identifier: str) -> Object:
    """Accept the dispute: it is lost."""
    dispute = world.store.get("dispute", identifier)
    if dispute["status"] in ("won", "lost", "warning_closed"):
        raise invalid("This dispute is already closed.")
    return finish(world, dispute, "warning_closed" if dispute["status"].startswith("warning") else "lost")


DERIVED["dispute"] = _shown

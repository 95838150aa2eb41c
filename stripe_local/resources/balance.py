"""Balance transactions: what each charge, refund and dispute moved, and Stripe's fee for it."""

from stripe_local.parameters import Params
from stripe_local.render import DERIVED, listed
from stripe_local.resources.common import matching
from stripe_local.state import State
from stripe_local.store import Object
from stripe_local.world import World

AVAILABLE_AFTER_SECONDS = 2 * 86_400
DISPUTE_FEE = 1500
# Kind of payment method → (per thousand, fixed, most), in minor units.
FEES: dict[str, tuple[int, int, int | None]] = {
    "card": (29, 30, None),
    "sepa_debit": (8, 30, 600),
    "us_bank_account": (8, 0, 500),
}
CATEGORIES = {"payment": "charge", "payment_refund": "refund"}


def record(
    world: World, kind: str, source: Object, amount: int, *, fee: int = 0, words: str = "", category: str = ""
) -> Object:
    """`amount` is negative where money leaves."""
    now = world.wall_time()
    details = {
        "amount": fee,
        "application": None,
        "currency": source["currency"],
        "description": "Dispute fee" if kind == "adjustment" else "Stripe processing fees",
        "type": "stripe_fee",
    }
    return world.store.add(
        "balance_transaction",
        {
            "amount": amount,
            "available_on": now + (AVAILABLE_AFTER_SECONDS if amount > 0 else 0),
            "balance_type": "payments",
            "created": now,
            "currency": source["currency"],
            "description": words or source.get("description"),
            "fee": fee,
            "fee_details": [details] if fee else [],
            "net": amount - fee,
            "reporting_category": category or CATEGORIES.get(kind, kind),
            "source": source["id"],
            "type": kind,
        },
    )


def of_charge(world: World, charge: Object, amount: int) -> str:
    """What a capture brings, less the fee; its id."""
    method: str = charge["payment_method_details"]["type"]
    permille, fixed, most = FEES[method]
    fee = (amount * permille + 500) // 1000 + fixed
    kind = "charge" if method == "card" else "payment"
    made = record(world, kind, charge, amount, fee=min(fee, most) if most is not None else fee)
    return made["id"]


def _shown(state: State, transaction: Object) -> Object:
    due = transaction["available_on"] <= state.wall_time()
    return {"status": "available" if due else "pending"}


def list_all(world: World, params: Params) -> Object:
    found = matching(world.store.newest_first("balance_transaction"), params)
    return listed(world, found, params, "/v1/balance_transactions")


DERIVED["balance_transaction"] = _shown

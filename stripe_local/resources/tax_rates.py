"""Tax rates: made by hand, changed in little, never deleted."""

from stripe_local.errors import invalid
from stripe_local.parameters import Params
from stripe_local.render import listed
from stripe_local.resources.common import matching
from stripe_local.store import Object
from stripe_local.world import World, merge_metadata, put

TEXTS = ("country", "description", "display_name", "jurisdiction", "state", "tax_type")


def create(world: World, params: Params) -> Object:
    percentage: float = params["percentage"]
    if not 0 <= percentage <= 100:
        raise invalid("Invalid percentage: must be between 0 and 100", "percentage")
    rate = world.store.add(
        "tax_rate",
        {
            "active": params.get("active", True),
            "created": world.wall_time(),
            "inclusive": params["inclusive"],
            "metadata": {},
            "percentage": percentage,
            "rate_type": "percentage",
        },
    )
    put(rate, params, *TEXTS)
    merge_metadata(rate, params.get("metadata"))
    world.emit("tax_rate.created", rate)
    return rate


def update(world: World, params: Params, identifier: str) -> Object:
    """All but the percentage, and whether a price has it in it."""
    rate = world.store.get("tax_rate", identifier)
    with world.updating(rate, "tax_rate.updated"):
        put(rate, params, *TEXTS, "active")
        merge_metadata(rate, params.get("metadata"))
    return rate


def list_all(world: World, params: Params) -> Object:
    """Without those of automatic tax."""
    found = [rate for rate in matching(world.store.newest_first("tax_rate"), params) if "_place" not in rate]
    return listed(world, found, params, "/v1/tax_rates")

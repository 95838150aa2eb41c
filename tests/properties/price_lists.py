"""What a merchant sells → prices at Stripe."""

from dataclasses import dataclass
from typing import Any

from simulator.oracle.price_list import Code, Pack, Plan, PriceList
from tests.oracle.in_process import Stripe


@dataclass(frozen=True)
class Offers:
    """Ids of the prices, and codes as they are typed in, in the order of the list."""

    plans: list[str]
    packs: list[str]
    codes: list[str]


def put_on_sale(stripe: Stripe, prices: PriceList) -> Offers:
    products = {
        number: stripe.post("products", name=f"Product {number}")["id"]
        for number in sorted({plan.product for plan in prices.plans})
    }
    overage = _pack(stripe, prices.overage) if prices.overage_limit else ""
    return Offers(
        plans=[_plan(stripe, products[plan.product], plan, overage) for plan in prices.plans],
        packs=[_pack(stripe, pack) for pack in prices.packs],
        codes=[_code(stripe, number, code) for number, code in enumerate(prices.codes)],
    )


def _plan(stripe: Stripe, product: str, plan: Plan, overage: str) -> str:
    declared = {
        "monthly_credits": plan.credits,
        "initial_credits": plan.initial_credits,
        "trial_credits": plan.trial_credits,
        "trial_days": plan.trial_days,
    }
    metadata = {name: str(value) for name, value in declared.items() if value}
    if plan.rollover != "all":
        metadata["credits_rollover"] = plan.rollover
    if plan.overage_limit:
        metadata |= {"overage_limit": str(plan.overage_limit), "overage_pack": overage}
    cost: dict[str, Any] = {"unit_amount": plan.amount}
    if plan.first_seat_free:
        tiers = [{"up_to": 1, "unit_amount": 0}, {"up_to": "inf", "unit_amount": plan.amount}]
        cost = {"billing_scheme": "tiered", "tiers_mode": "graduated", "tiers": tiers}
    return stripe.post(
        "prices",
        product=product,
        currency="usd",
        recurring={"interval": plan.interval},
        metadata=metadata,
        **cost,
    )["id"]


def _pack(stripe: Stripe, pack: Pack) -> str:
    product = stripe.post("products", name="Credits")["id"]
    if pack.amount is not None:
        metadata = {"pack_credits": str(pack.credits)}
        return stripe.post(
            "prices", product=product, currency="usd", unit_amount=pack.amount, metadata=metadata
        )["id"]
    # Both are declared, as a merchant may who also sells a pack of fixed size: only one of them may count.
    return stripe.post(
        "prices",
        product=product,
        currency="usd",
        custom_unit_amount={"enabled": True, "minimum": 50, "preset": 1000},
        metadata={"credits_per_unit": str(pack.credits), "pack_credits": str(pack.credits * 100)},
    )["id"]


def _code(stripe: Stripe, number: int, code: Code) -> str:
    duration = "once" if code.once else "forever"
    coupon = stripe.post("coupons", percent_off=code.percent, duration=duration)["id"]
    text = f"CODE{number}"
    stripe.post(
        "promotion_codes",
        code=text,
        promotion={"type": "coupon", "coupon": coupon},
        restrictions={"first_time_transaction": code.first_time},
    )
    return text

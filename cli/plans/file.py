"""What a plan file may declare: its tables as pydantic models. Read by `read.py`.

Only `till plans` and the example import this module: pydantic takes its time to load.
"""

import re
from decimal import Decimal
from typing import Annotated, Any, ClassVar, Literal, Self, cast

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    PrivateAttr,
    Tag,
    ValidationInfo,
    field_validator,
    model_validator,
)

from cli.plans.rules import (
    CREDITS_MAX,
    DESCRIPTION_LENGTH_MAX,
    EXPIRES_AFTER,
    FREE_EXPIRES,
    LIMIT_MAX,
    LOOKUP_KEY_LENGTH_MAX,
    METADATA_VALUE_LENGTH_MAX,
    OPERATION_LENGTH_MAX,
    PER_MAX,
    ROLLOVER,
    TRIAL_DAYS_MAX,
    UNIT_LENGTH_MAX,
    Amount,
    AmountAboveZero,
    Column,
    Credits,
    Currency,
    Every,
    Flag,
    Interval,
    Markup,
    Moment,
    OnCancel,
    OnDowngrade,
    OnExcess,
    OnProration,
    Rate,
    Rounding,
    Text,
    TrialCreditsEnd,
    can_bill,
    custom_table,
    features_text,
    fits_interval,
    is_declared,
    is_no_plan,
    is_pack,
    matching,
    name,
    one_of,
    per_unit_text,
    rate_table,
    rates_table,
    seats_text,
    short_name,
    table,
    whole,
    wrong,
)

Kind = Literal["plan", "pack"]


class _Table(BaseModel):
    """A named table of the file. `key` is its name."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    _key: str = PrivateAttr("")

    @property
    def key(self) -> str:
        return self._key

    def set_key(self, key: str) -> None:
        """Let it know its name."""
        self._key = key


class Product(_Table):
    """A product by the key that its plans name. `description` None: as it is in Stripe."""

    name: Text
    description: Text | None = None
    active: Flag = True
    stripe_id: (
        Annotated[
            Text, matching(re.compile(r"\S{1,255}"), "a Stripe product's id such as prod_NWjs8kKbJWmuuc")
        ]
        | None
    ) = None


class CustomAmount(BaseModel):
    """What a customer who chooses the amount of a pack may choose, in minor units; None: no limit, no suggestion."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    minimum: AmountAboveZero | None = None
    maximum: AmountAboveZero | None = None
    preset: AmountAboveZero | None = None

    @model_validator(mode="after")
    def _is_in_order(self) -> Self:
        found = [amount for amount in (self.minimum, self.preset, self.maximum) if amount is not None]
        if found != sorted(found):
            raise wrong("minimum, preset and maximum are not in ascending order")
        return self


class _Price(_Table):
    """A plan or a pack by its lookup key. All fields but those of Stripe's prices are metadata there."""

    product: Annotated[Text, AfterValidator(is_declared)]
    currency: Currency
    nickname: Text | None = None
    active: Flag = True

    @property
    def metadata(self) -> dict[str, str]:
        """What the file says, as Stripe is to have it."""
        return {
            key: str(getattr(self, key)) for key in _metadata_of(type(self)) if key in self.model_fields_set
        }


class Plan(_Price):
    """A recurring price, with its credits and terms."""

    kind: ClassVar[Kind] = "plan"
    custom_unit_amount: ClassVar[None] = None

    unit_amount: Amount
    interval: Annotated[Interval, one_of(Interval)]
    interval_count: Annotated[int, BeforeValidator(fits_interval)] = 1
    initial_credits: Credits = 0
    monthly_credits: Credits = 0
    trial_credits: Credits = 0
    credits_rollover: Annotated[
        Text, matching(ROLLOVER, "none, all, periods:N or cap:N"), Column("rollover")
    ] = "all"
    credits_on_proration: Annotated[OnProration, one_of(OnProration), Column("proration_credits")] = "delta"
    credits_on_downgrade: Annotated[OnDowngrade, one_of(OnDowngrade), Column("downgrade_credits")] = (
        "take_back"
    )
    credits_on_cancel: Annotated[OnCancel, one_of(OnCancel), Column("cancel_credits")] = "period_end"
    trial_credits_end: Annotated[TrialCreditsEnd, one_of(TrialCreditsEnd), Column("trial_end_credits")] = (
        "trial_end"
    )
    trial_days: Annotated[int, whole(0, TRIAL_DAYS_MAX, "days")] = 0
    seats: Annotated[str, BeforeValidator(seats_text)] = "any"
    features: Annotated[str, BeforeValidator(features_text)] = "{}"
    overage_limit: Credits = 0
    overage_pack: Annotated[Text, AfterValidator(is_pack)] = ""

    @model_validator(mode="after")
    def _bills_its_overage(self, info: ValidationInfo) -> Self:
        if self.overage_limit and not self.overage_pack:
            raise wrong("overage_limit needs overage_pack, the pack that bills the overage")
        declared = cast("dict[str, dict[str, Any]]", info.context or {})
        pack = declared["packs"].get(self.overage_pack)
        if isinstance(pack, dict) and not can_bill(cast("dict[str, Any]", pack), self.currency):
            raise wrong(
                f"overage_pack {self.overage_pack} must have a fixed price above 0 in {self.currency}"
            )
        return self


class _Pack(_Price):
    kind: ClassVar[Kind] = "pack"
    interval: ClassVar[None] = None
    interval_count: ClassVar[None] = None

    pack_expires_after: Annotated[
        Text, matching(EXPIRES_AFTER, 'such as "90 days", "12 months" or "1 year"')
    ] = ""


class FixedPack(_Pack):
    """Credits for a fixed amount."""

    custom_unit_amount: ClassVar[None] = None

    unit_amount: Amount
    pack_credits: Annotated[int, whole(1, CREDITS_MAX, "credits")]


class CustomPack(_Pack):
    """Credits for an amount that the customer chooses."""

    unit_amount: ClassVar[None] = None

    custom_unit_amount: Annotated[CustomAmount, BeforeValidator(custom_table)]
    credits_per_unit: Annotated[str, BeforeValidator(per_unit_text)]


Price = Plan | FixedPack | CustomPack


def _kind_of_pack(value: object) -> str:
    return "custom" if isinstance(value, dict) and "custom_unit_amount" in value else "fixed"


Pack = Annotated[
    Annotated[FixedPack, Tag("fixed")] | Annotated[CustomPack, Tag("custom")], Discriminator(_kind_of_pack)
]
PACKS = {"fixed": FixedPack, "custom": CustomPack}  # by tag, as errors name them


class ComponentRate(BaseModel):
    """What a component of an operation costs: credits for `per` of its unit. `cost`: what that many cost you."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    credits: Rate
    per: Annotated[int, whole(1, PER_MAX, "units")] = 1
    unit: (
        Annotated[Text, matching(re.compile(rf".{{1,{UNIT_LENGTH_MAX}}}"), "a short text such as tokens")]
        | None
    ) = None
    cost: Rate = Decimal(0)


class Operation(_Table):
    """What an operation costs in credits, by its key."""

    name: Text | None = None
    active: Flag = True
    rates: Annotated[
        dict[
            Annotated[str, AfterValidator(short_name)], Annotated[ComponentRate, BeforeValidator(rate_table)]
        ],
        BeforeValidator(rates_table),
    ]
    markup: Markup = Decimal(0)
    minimum: Annotated[int, whole(0, LIMIT_MAX, "credits")] = 0
    rounding: Annotated[Rounding, one_of(Rounding)] = "up"
    on_excess: Annotated[OnExcess, one_of(OnExcess)] = "debt"
    valid_from: Moment | None = None


class FreeCredits(_Table):
    """Credits without a subscription, by the rule's name."""

    credits: Annotated[int, whole(1, CREDITS_MAX, "credits")]
    every: Annotated[Every, one_of(Every)]
    expires: (
        Annotated[Text, matching(FREE_EXPIRES, 'period_end, never or a time such as "30 days"')] | None
    ) = None
    description: Annotated[
        Text,
        matching(
            re.compile(rf"(?s).{{1,{DESCRIPTION_LENGTH_MAX}}}"),
            f"at most {DESCRIPTION_LENGTH_MAX} characters",
        ),
    ] = "Free credits"
    until_subscribed: Flag = False
    once_per_person: Flag = True
    for_accounts_since: Moment | None = None
    active: Flag = True

    @model_validator(mode="after")
    def _ends_with_a_period_that_it_has(self) -> Self:
        if self.every == "once" and self.expires == "period_end":
            raise wrong(
                'expires is period_end, and credits that are granted once have no period: write "30 days"'
            )
        return self


_PriceKey = Annotated[str, name(LOOKUP_KEY_LENGTH_MAX)]
_IsTable = BeforeValidator(table)


class PlanFile(BaseModel):
    """All that a file declares, in its order. Its validation's context has products and plans by name."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    products: Annotated[
        dict[Annotated[str, name(METADATA_VALUE_LENGTH_MAX)], Annotated[Product, _IsTable]], _IsTable
    ] = {}
    plans: Annotated[dict[_PriceKey, Annotated[Plan, _IsTable]], _IsTable] = {}
    packs: Annotated[
        dict[Annotated[_PriceKey, AfterValidator(is_no_plan)], Annotated[Pack, _IsTable]], _IsTable
    ] = {}

    operations: Annotated[
        dict[Annotated[str, name(OPERATION_LENGTH_MAX)], Annotated[Operation, _IsTable]], _IsTable
    ] = {}

    free_credits: Annotated[
        dict[Annotated[str, AfterValidator(short_name)], Annotated[FreeCredits, _IsTable]], _IsTable
    ] = {}

    @field_validator("products")
    @classmethod
    def _have_ids_of_their_own(cls, products: dict[str, Product]) -> dict[str, Product]:
        seen: dict[str, str] = {}
        for key, product in products.items():
            if product.stripe_id is not None and (other := seen.setdefault(product.stripe_id, key)) != key:
                raise wrong(f"{other} and {key} have the same stripe_id, {product.stripe_id}")
        return products

    @model_validator(mode="after")
    def _know_their_names(self) -> Self:
        for key, named in (
            *self.products.items(),
            *self.prices.items(),
            *self.operations.items(),
            *self.free_credits.items(),
        ):
            named.set_key(key)
        return self

    @property
    def prices(self) -> dict[str, Price]:
        """Plans and packs by their lookup keys."""
        return {**self.plans, **self.packs}


# Fields of Stripe's own prices; all others are metadata there.
_OF_STRIPE = {
    "product", "unit_amount", "custom_unit_amount", "currency", "nickname", "active", "interval", "interval_count",
}  # fmt: skip


def _metadata_of(model: type[_Price]) -> list[str]:
    return [name for name in model.model_fields if name not in _OF_STRIPE]


# What a plan says of credits and of its terms, and what it means where it says nothing.
PLAN_METADATA = {key: str(Plan.model_fields[key].default) for key in _metadata_of(Plan)}
# Where the database keeps them.
PLAN_COLUMNS = {
    key: next((str(each) for each in Plan.model_fields[key].metadata if isinstance(each, Column)), key)
    for key in PLAN_METADATA
}
# What a pack says; "" removes a key from Stripe's metadata.
PACK_METADATA = dict.fromkeys((*_metadata_of(FixedPack), *_metadata_of(CustomPack)), "")

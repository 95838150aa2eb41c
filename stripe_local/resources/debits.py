"""What billed an item's time last → what a credit proration gives back, and which lines it names."""

from dataclasses import dataclass

from stripe_local.resources.invoice_lines import item_of
from stripe_local.store import Object
from stripe_local.values import inside
from stripe_local.world import World


@dataclass(frozen=True)
class Debit:
    """Lines of one invoice (the tiers of a price), or an invoice item that no invoice has taken yet."""

    shown: list[Object]
    invoice: str | None

    @property
    def price(self) -> str:
        return self.shown[0]["pricing"]["price_details"]["price"]

    @property
    def quantity(self) -> int:
        return sum(part["quantity"] for part in self.shown)

    @property
    def period(self) -> tuple[int, int]:
        return self.shown[0]["period"]["start"], self.shown[0]["period"]["end"]

    @property
    def gross(self) -> int:
        return sum(part["amount"] for part in self.shown)

    @property
    def taken(self) -> list[Object]:
        """What discounts took off it."""
        return [
            taken
            for part in self.shown
            for taken in part.get("_discount_amounts", part.get("discount_amounts", ()))
        ]

    @property
    def reference(self) -> Object:
        """`credited_items` of an invoice item."""
        if self.invoice is None:
            return {
                "invoice_item": self.shown[0]["id"],
                "invoice_line_item_details": None,
                "type": "invoice_item",
            }
        details = {"invoice": self.invoice, "invoice_line_items": [line["id"] for line in self.shown]}
        return {"invoice_item": None, "invoice_line_item_details": details, "type": "invoice_line_items"}


def record(item: Object, *, invoice: str | None, identifier: str) -> None:
    """`identifier` of a line of the invoice, or of an invoice item, bills time of this subscription item."""
    item.setdefault("_billed", []).append((invoice, identifier))


def last(world: World, item: Object, moment: int) -> Debit | None:
    """What billed the time at `moment`, unless that was credited already."""
    found = [_found(world, *entry) for entry in item.get("_billed", ())]
    billed = [(shown, invoice) for shown, invoice in found if shown is not None]
    if not billed:
        return None
    latest, invoice = billed[-1]
    group = [
        shown
        for shown, other in billed
        if shown is latest
        or (other == invoice is not None and item_of(shown) is None and shown["period"] == latest["period"])
    ]
    debit = Debit(group, invoice)
    start, end = debit.period
    return debit if start <= moment < end and not latest.get("_credited") else None


def undo(world: World, invoice: Object, items: list[Object]) -> None:
    """The invoice is void before it was paid: what it credited can be credited again, what it billed was not."""
    for line in invoice["_lines"]:
        credited: Object = line.get("_credits", {})
        details = inside(credited, "invoice_line_item_details")
        named = {credited.get("invoice_item"), *details.get("invoice_line_items", ())} - {None}
        for other in world.store.all("invoice"):
            for held in other["_lines"]:
                if held["id"] in named or item_of(held) in named:
                    held.pop("_credited", None)
    own = {item_of(line) for line in invoice["_lines"]} | {line["id"] for line in invoice["_lines"]}
    for item in items:
        item["_billed"] = [entry for entry in item.get("_billed", ()) if entry[1] not in own]


def _found(world: World, invoice_id: str | None, identifier: str) -> tuple[Object | None, str | None]:
    """The line, or the invoice item as long as no invoice has taken it, else its line."""
    if invoice_id is None:
        item = world.store.find("invoiceitem", identifier)
        if item is None or "_line" not in item:
            return item, None
        invoice_id, identifier = item["invoice"], item["_line"]
    invoice = world.store.find("invoice", invoice_id) or {"_lines": []}
    return next((line for line in invoice["_lines"] if line["id"] == identifier), None), invoice_id


def name_credited(world: World, line: Object) -> None:
    """A line that credits names lines: those of an invoice item once an invoice has taken that."""
    details: Object = line["parent"]["subscription_item_details"]
    credited: Object = line["_credits"]
    if credited["type"] == "invoice_item":
        item = world.store.find("invoiceitem", credited["invoice_item"])
        if item is None or "_line" not in item:
            return
        named: Object = {"invoice": item["invoice"], "invoice_line_items": [item["_line"]]}
    else:
        named = dict(credited["invoice_line_item_details"])
    details["proration_details"] = {"credited_items": named}

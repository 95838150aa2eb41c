"""Credit notes: deductions from an open invoice, or returns of a paid one."""

from decimal import Decimal

from stripe_local.errors import invalid, missing_parameter, not_acted_on
from stripe_local.parameters import Params
from stripe_local.render import DERIVED, complete, listed, page
from stripe_local.resources import collection, refunds, taxes
from stripe_local.resources.pricing import prorated, rounded
from stripe_local.state import State
from stripe_local.store import Object
from stripe_local.values import each
from stripe_local.world import World, merge_metadata, put


def create(world: World, params: Params) -> Object:
    """Before payment it reduces the amount due; afterwards the money is returned as the parameters say."""
    invoice = world.store.get("invoice", params["invoice"], "invoice")
    if invoice["status"] not in ("open", "paid"):
        raise invalid(
            f"Credit notes need an open or paid invoice: this one is {invoice['status']}.", "invoice"
        )
    lines = _lines(world, invoice, params)
    subtotal = sum(line["amount"] for line in lines)
    reduced = subtotal - sum(line["discount_amount"] for line in lines)
    total_taxes = taxes.added_up([tax for line in lines for tax in line["taxes"]])
    total = reduced + taxes.exclusive(total_taxes)
    within = taxes.inclusive(total_taxes)
    linked = _linked_refunds(world, params)
    _check_total(invoice, params, total, sum(entry["amount_refunded"] for entry in linked))
    number = sum(1 for note in world.store.all("credit_note") if note["invoice"] == invoice["id"]) + 1
    before = invoice["status"] == "open"
    if not before:
        # What is refused leaves no note behind.
        linked += _refund(world, invoice, params.get("refund_amount", 0))
    note = world.store.add(
        "credit_note",
        {
            "amount": total,
            "amount_shipping": 0,
            "created": world.now(invoice.get("test_clock")),
            "currency": invoice["currency"],
            "customer": invoice["customer"],
            "discount_amount": subtotal - reduced,
            "discount_amounts": _added_up(lines),
            "effective_at": params.get("effective_at") or world.now(invoice.get("test_clock")),
            "invoice": invoice["id"],
            "metadata": {},
            "number": f"{invoice['number']}-CN-{number:02}",
            "pdf": f"{world.base_url}/invoices/{invoice['id']}/pdf",
            "post_payment_amount": 0 if before else total,
            "pre_payment_amount": total if before else 0,
            "pretax_credit_amounts": [],
            "refunds": linked,
            "status": "issued",
            "subtotal": subtotal,
            "subtotal_excluding_tax": subtotal - within,
            "total": total,
            "total_excluding_tax": reduced - within,
            "total_taxes": total_taxes,
            "type": "pre_payment" if before else "post_payment",
            "_lines": lines,
        },
    )
    put(note, params, "memo", "out_of_band_amount", "reason")
    merge_metadata(note, params.get("metadata"))
    if before:
        _take_off(world, invoice, total)
    else:
        _give_back(world, invoice, note, params)
    world.emit("credit_note.created", note)
    if before and invoice["amount_remaining"] == 0:
        collection.mark_paid(world, invoice)
    return note


def _lines(world: World, invoice: Object, params: Params) -> list[Object]:
    given = each(params, "lines")
    if not given and "amount" not in params:
        raise missing_parameter("lines")
    if not given:
        given = [{"type": "custom_line_item", "unit_amount": params["amount"], "description": "Credit"}]
    lines = [_line(world, invoice, entry, f"lines[{number}]") for number, entry in enumerate(given)]
    _check_lines(world, invoice, lines)
    return lines


def _line(world: World, invoice: Object, entry: Params, where: str) -> Object:
    """A line of its own, or what is credited of one of the invoice: an amount of it, or so many of its quantity."""
    billed: Object | None = None
    if entry["type"] == "invoice_line_item":
        billed = _billed(invoice, entry.get("invoice_line_item"), f"{where}[invoice_line_item]")
    quantity: int | None = entry.get(
        "quantity", None if "amount" in entry else (billed or {}).get("quantity") or 1
    )
    if billed is None:
        unit: int | None = entry.get("unit_amount", 0)
        amount: int = entry.get("amount", (unit or 0) * (quantity or 1))
    elif "amount" in entry:
        unit, amount = None, entry["amount"]
    else:
        share = Decimal(quantity or 0) / (billed["quantity"] or 1)
        amount = rounded(billed["amount"] * share)
        unit = rounded(Decimal(billed["amount"]) / (billed["quantity"] or 1))
    if amount < 0 or (quantity is not None and quantity < 1):
        raise invalid("A credit note's line is a positive amount.", where)
    discounts = [
        taken | {"amount": prorated(taken["amount"], amount, billed["amount"])}
        for taken in (billed or {}).get("discount_amounts", ())
        if billed is not None and taken["amount"]
    ]
    taken_off = sum(taken["amount"] for taken in discounts)
    rates = taxes.rates_of(world, entry.get("tax_rates"), f"{where}[tax_rates]")
    return {
        "id": world.store.new_id("credit_note_line_item"),
        "object": "credit_note_line_item",
        "amount": amount,
        "description": entry.get("description") or (billed or {}).get("description"),
        "discount_amount": taken_off,
        "discount_amounts": discounts,
        "invoice_line_item": billed["id"] if billed else None,
        "livemode": False,
        "metadata": entry.get("metadata") or {},
        "pretax_credit_amounts": [],
        "quantity": quantity,
        "tax_rates": rates,
        "taxes": _taxes(amount - taken_off, billed, rates),
        "type": entry["type"],
        "unit_amount": unit,
        "unit_amount_decimal": None if unit is None else str(unit),
    }


def _taxes(net: int, billed: Object | None, rates: list[Object]) -> list[Object]:
    """The credited part of what the line bore; of a line of its own, what was asked for."""
    if billed is None:
        return taxes.on_amount(net, rates, "not_available")
    whole = billed["amount"] - sum(taken["amount"] for taken in billed["discount_amounts"])
    return [
        tax | {key: prorated(tax[key], net, whole) for key in ("amount", "taxable_amount")}
        for tax in billed["taxes"]
    ]


def _billed(invoice: Object, identifier: str | None, param: str) -> Object:
    billed = next((line for line in invoice["_lines"] if line["id"] == identifier), None)
    if billed is None:
        raise invalid(f"No such invoice line item: '{identifier}'", param, "resource_missing")
    return billed


def _check_lines(world: World, invoice: Object, lines: list[Object]) -> None:
    """No line of the invoice is credited more than it came to."""
    notes = [
        n for n in world.store.all("credit_note") if n["invoice"] == invoice["id"] and n["status"] == "issued"
    ]
    credited = [line for note in notes for line in note["_lines"]]
    for billed in invoice["_lines"]:
        of_it = [line["amount"] for line in (*credited, *lines) if line["invoice_line_item"] == billed["id"]]
        if of_it and sum(of_it) > billed["amount"]:
            raise invalid(
                f"The credit notes of {billed['id']} come to {sum(of_it)}, more than its amount ({billed['amount']}).",
                "lines",
            )


def _added_up(lines: list[Object]) -> list[Object]:
    totals: dict[str, int] = {}
    for taken in (one for line in lines for one in line["discount_amounts"]):
        totals[taken["discount"]] = totals.get(taken["discount"], 0) + taken["amount"]
    return [{"amount": amount, "discount": discount} for discount, amount in totals.items()]


def _linked_refunds(world: World, params: Params) -> list[Object]:
    """Refunds that were made before, and belong to this note."""
    linked: list[Object] = []
    for number, entry in enumerate(each(params, "refunds")):
        refund = world.store.get("refund", entry.get("refund") or "", f"refunds[{number}][refund]")
        amount: int = entry.get("amount_refunded", refund["amount"])
        if not 1 <= amount <= refund["amount"]:
            raise invalid("The refund is of another amount.", f"refunds[{number}][amount_refunded]")
        kind: str = entry.get("type", "refund")
        if kind != "refund":
            raise not_acted_on(f"refunds[{number}][type]")
        linked.append({"amount_refunded": amount, "refund": refund["id"], "type": kind})
    return linked


def _check_total(invoice: Object, params: Params, total: int, linked: int) -> None:
    if invoice["status"] == "open":
        if total > invoice["amount_remaining"]:
            raise invalid(
                f"The total credit amount ({total}) exceeds the invoice's amount remaining "
                f"({invoice['amount_remaining']}).",
                "amount",
            )
        return
    back = [params.get(key, 0) for key in ("refund_amount", "credit_amount", "out_of_band_amount")]
    if sum(back) + linked != total or min(back) < 0:
        raise invalid(
            f"The sum of credit_amount, refund_amount, out_of_band_amount and refunds must equal the credit note's "
            f"total ({total}).",
            "amount",
        )
    credited = invoice["pre_payment_credit_notes_amount"] + invoice["post_payment_credit_notes_amount"]
    if total > invoice["total"] - credited:
        raise invalid("The credit notes exceed what the invoice came to.", "amount")


def _take_off(world: World, invoice: Object, total: int) -> None:
    with world.updating(invoice, "invoice.updated"):
        invoice["pre_payment_credit_notes_amount"] += total
        invoice["amount_due"] -= total
        invoice["amount_remaining"] -= total
    intent = collection.intent_of(world, invoice)
    if intent is not None and invoice["amount_remaining"]:
        intent["amount"] = invoice["amount_remaining"]


def _refund(world: World, invoice: Object, amount: int) -> list[Object]:
    """What a note refunds by itself."""
    if not amount:
        return []
    intent = collection.intent_of(world, invoice)
    if intent is None:
        raise invalid("This invoice was not paid with a charge that could be refunded.", "refund_amount")
    refund = refunds.create(world, {"payment_intent": intent["id"], "amount": amount})
    return [{"amount_refunded": amount, "refund": refund["id"], "type": "refund"}]


def _give_back(world: World, invoice: Object, note: Object, params: Params) -> None:
    credit = params.get("credit_amount", 0)
    if credit:
        customer = world.store.get("customer", invoice["customer"])
        with world.updating(customer, "customer.updated"):
            customer["balance"] -= credit
    with world.updating(invoice, "invoice.updated"):
        invoice["post_payment_credit_notes_amount"] += note["total"]


def update(world: World, params: Params, identifier: str) -> Object:
    note = world.store.get("credit_note", identifier)
    with world.updating(note, "credit_note.updated"):
        put(note, params, "memo")
        merge_metadata(note, params.get("metadata"))
    return note


def void(world: World, params: Params, identifier: str) -> Object:
    """Only while the invoice is open: the deduction is due again."""
    note = world.store.get("credit_note", identifier)
    invoice = world.store.get("invoice", note["invoice"])
    if note["status"] == "void" or invoice["status"] != "open":
        raise invalid("You can only void a credit note that is issued for an open invoice.")
    note |= {"status": "void", "voided_at": world.now(invoice.get("test_clock"))}
    _take_off(world, invoice, -note["total"])
    world.emit("credit_note.voided", note)
    return note


def lines(world: World, params: Params, identifier: str) -> Object:
    note = world.store.get("credit_note", identifier)
    return listed(world, note["_lines"], params, f"/v1/credit_notes/{identifier}/lines")


def _shown(state: State, note: Object) -> Object:
    shown = [complete("credit_note_line_item", line) for line in note["_lines"][:10]]
    return {"lines": page(shown, f"/v1/credit_notes/{note['id']}/lines", len(note["_lines"]) > 10)}


DERIVED["credit_note"] = _shown

"""Credit notes: what is taken off an open invoice, or given back of a paid one."""

from cli.local.stripe.errors import invalid, missing_parameter
from cli.local.stripe.parameters import Params
from cli.local.stripe.render import DERIVED, complete, listed, page
from cli.local.stripe.resources import collection, refunds
from cli.local.stripe.store import Object
from cli.local.stripe.values import each
from cli.local.stripe.world import World, merge_metadata, put


def create(world: World, params: Params) -> Object:
    """Before the payment it lowers what is due; afterwards the money goes back as the parameters say."""
    invoice = world.store.get("invoice", params["invoice"], "invoice")
    if invoice["status"] not in ("open", "paid"):
        raise invalid(
            f"Credit notes need an open or paid invoice: this one is {invoice['status']}.", "invoice"
        )
    lines = _lines(world, invoice, params)
    total = sum(line["amount"] for line in lines)
    _check_total(invoice, params, total)
    number = sum(1 for note in world.store.all("credit_note") if note["invoice"] == invoice["id"]) + 1
    before = invoice["status"] == "open"
    note = world.store.add(
        "credit_note",
        {
            "amount": total,
            "amount_shipping": 0,
            "created": world.now(invoice.get("test_clock")),
            "currency": invoice["currency"],
            "customer": invoice["customer"],
            "discount_amount": 0,
            "discount_amounts": [],
            "effective_at": params.get("effective_at") or world.now(invoice.get("test_clock")),
            "invoice": invoice["id"],
            "metadata": {},
            "number": f"{invoice['number']}-CN-{number:02}",
            "pdf": f"{world.base_url}/invoices/{invoice['id']}/pdf",
            "post_payment_amount": 0 if before else total,
            "pre_payment_amount": total if before else 0,
            "pretax_credit_amounts": [],
            "refunds": [],
            "status": "issued",
            "subtotal": total,
            "subtotal_excluding_tax": total,
            "total": total,
            "total_excluding_tax": total,
            "total_taxes": [],
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
    return [_line(world, invoice, entry, f"lines[{number}]") for number, entry in enumerate(given)]


def _line(world: World, invoice: Object, entry: Params, where: str) -> Object:
    billed: Object | None = None
    if entry["type"] == "invoice_line_item":
        identifier = entry.get("invoice_line_item")
        billed = next((line for line in invoice["_lines"] if line["id"] == identifier), None)
        if billed is None:
            raise invalid(
                f"No such invoice line item: '{identifier}'",
                f"{where}[invoice_line_item]",
                "resource_missing",
            )
    quantity: int = entry.get("quantity", 1)
    unit: int = entry.get("unit_amount", billed["amount"] if billed else 0)
    amount: int = entry.get("amount", unit * quantity)
    if amount < 0 or quantity < 1:
        raise invalid("A credit note's line is a positive amount.", where)
    return {
        "id": world.store.new_id("credit_note_line_item"),
        "object": "credit_note_line_item",
        "amount": amount,
        "description": entry.get("description") or (billed or {}).get("description"),
        "discount_amount": 0,
        "discount_amounts": [],
        "invoice_line_item": billed["id"] if billed else None,
        "livemode": False,
        "metadata": entry.get("metadata") or {},
        "pretax_credit_amounts": [],
        "quantity": quantity,
        "tax_rates": [],
        "taxes": [],
        "type": entry["type"],
        "unit_amount": unit,
        "unit_amount_decimal": str(unit),
    }


def _check_total(invoice: Object, params: Params, total: int) -> None:
    if invoice["status"] == "open":
        if total > invoice["amount_remaining"]:
            raise invalid(
                f"The total credit amount ({total}) exceeds the invoice's amount remaining "
                f"({invoice['amount_remaining']}).",
                "amount",
            )
        return
    back = [params.get(key, 0) for key in ("refund_amount", "credit_amount", "out_of_band_amount")]
    if sum(back) != total or min(back) < 0:
        raise invalid(
            f"The sum of credit_amount, refund_amount and out_of_band_amount must equal the credit note's total "
            f"({total}).",
            "amount",
        )
    if total > invoice["total"] - invoice["post_payment_credit_notes_amount"]:
        raise invalid("The credit notes exceed what the invoice came to.", "amount")


def _take_off(world: World, invoice: Object, total: int) -> None:
    with world.updating(invoice, "invoice.updated"):
        invoice["pre_payment_credit_notes_amount"] += total
        invoice["amount_due"] -= total
        invoice["amount_remaining"] -= total
    intent = collection.intent_of(world, invoice)
    if intent is not None and invoice["amount_remaining"]:
        intent["amount"] = invoice["amount_remaining"]


def _give_back(world: World, invoice: Object, note: Object, params: Params) -> None:
    refund_amount, credit = params.get("refund_amount", 0), params.get("credit_amount", 0)
    if refund_amount:
        intent = collection.intent_of(world, invoice)
        if intent is None:
            raise invalid("This invoice was not paid with a charge that could be refunded.", "refund_amount")
        refund = refunds.create(world, {"payment_intent": intent["id"], "amount": refund_amount})
        note["refunds"] = [{"amount_refunded": refund_amount, "refund": refund["id"], "type": "refund"}]
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
    """Only while the invoice is open: what was taken off is due again."""
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


def _shown(world: World, note: Object) -> Object:
    shown = [complete("credit_note_line_item", line) for line in note["_lines"][:10]]
    return {"lines": page(shown, f"/v1/credit_notes/{note['id']}/lines", len(note["_lines"]) > 10)}


DERIVED["credit_note"] = _shown

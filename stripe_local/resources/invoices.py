"""Invoices through their life: draft → open → paid, uncollectible or void, with every event on the way."""

from collections.abc import Iterable
from typing import Any

from stripe_local.errors import StripeError, invalid
from stripe_local.render import DERIVED, INCLUDABLE, page, render
from stripe_local.resources import collection, debits, discounts, lifecycle, tax_ids, taxes
from stripe_local.resources.invoice_lines import add_up, take_balance
from stripe_local.state import ACCOUNT_COUNTRY, ACCOUNT_NAME, State
from stripe_local.store import Object
from stripe_local.world import World

FINALIZE_AFTER_SECONDS = 3_600
SHOWN_LINES = 10


def draft(world: World, customer: Object, lines: Iterable[Object], fields: Object) -> Object:
    """A draft invoice with these lines; `invoice.created`."""
    clock = customer.get("test_clock")
    now = world.now(clock)
    invoice = world.store.add(
        "invoice",
        {
            "account_country": ACCOUNT_COUNTRY,
            "account_name": ACCOUNT_NAME,
            "amount_overpaid": 0,
            "amount_paid": 0,
            "amount_shipping": 0,
            "attempt_count": 0,
            "attempted": False,
            "auto_advance": False,
            "automatic_tax": {"enabled": False, "liability": None},
            "collection_method": "charge_automatically",
            "created": now,
            "currency": customer.get("currency") or "usd",
            "customer": customer["id"],
            "customer_address": customer.get("address"),
            "customer_email": customer.get("email"),
            "customer_name": customer.get("name"),
            "customer_phone": customer.get("phone"),
            "customer_shipping": customer.get("shipping"),
            "customer_tax_exempt": customer.get("tax_exempt", "none"),
            "customer_tax_ids": tax_ids.shown(world, customer),
            "default_tax_rates": [],
            "discounts": [],
            "issuer": {"type": "self"},
            "metadata": {},
            "payment_settings": {},
            "period_end": now,
            "period_start": now,
            "post_payment_credit_notes_amount": 0,
            "pre_payment_credit_notes_amount": 0,
            "status": "draft",
            "status_transitions": {},
            "test_clock": clock,
            "total_pretax_credit_amounts": [],
            "total_taxes": [],
            "_lines": [],
            "_payments": [],
            **fields,
        },
    )
    put_lines(world, invoice, lines)
    add_up(world, invoice)
    customer.setdefault("currency", invoice["currency"])
    subscription = lifecycle.subscription_of(world, invoice)
    if subscription is not None:
        subscription.setdefault("_invoices", []).append(invoice["id"])
    world.emit("invoice.created", invoice)
    return invoice


def put_lines(world: World, invoice: Object, lines: Iterable[Object]) -> None:
    """Records too which invoice items became lines, and which lines bill time of a subscription item."""
    for line in lines:
        line["invoice"] = invoice["id"]
        invoice["_lines"].append(line)
        parent: Object = line["parent"] or {}
        details: Object = parent.get(parent.get("type", "")) or {}
        taken = world.store.find("invoiceitem", details.get("invoice_item"))
        if taken is not None:
            taken |= {"invoice": invoice["id"], "_line": line["id"]}
        elif details.get("subscription_item"):
            item = world.store.find("subscription_item", details["subscription_item"]) or {}
            debits.record(item, invoice=invoice["id"], identifier=line["id"])
        if "_credits" in line:
            debits.name_credited(world, line)


def finalize_later(world: World, invoice: Object) -> None:
    """Drafts of renewals are finalized an hour after they were made."""
    at = invoice["created"] + FINALIZE_AFTER_SECONDS
    invoice["automatically_finalizes_at"] = at
    invoice["auto_advance"] = True

    def act() -> None:
        if invoice["status"] == "draft" and invoice.get("automatically_finalizes_at") == at:
            try:
                finalize(world, invoice)
            except StripeError:
                if "last_finalization_error" not in invoice:
                    raise
            collection.advance(world, invoice)

    world.schedule(invoice.get("test_clock"), at, act)


def finalize(world: World, invoice: Object) -> Object:
    """draft → open, with a number and, if something is due, a payment to make."""
    if invoice["status"] != "draft":
        raise invalid("This invoice is already finalized, you can't re-finalize a non-draft invoice.")
    now = world.now(invoice.get("test_clock"))
    customer = world.store.find("customer", invoice["customer"]) or {}
    add_up(world, invoice)
    if invoice["automatic_tax"].get("status") == taxes.NOWHERE:
        _refuse_finalization(world, invoice)
    take_balance(world, invoice)
    discounts.consume(world, invoice["discounts"])
    sequence: int = customer.get("next_invoice_sequence", 1)
    customer["next_invoice_sequence"] = sequence + 1
    invoice.pop("automatically_finalizes_at", None)
    invoice |= {
        "number": f"{customer.get('invoice_prefix', 'LOCAL')}-{sequence:04}",
        "status": "open",
        "effective_at": now,
        "hosted_invoice_url": f"{world.base_url}/invoices/{invoice['id']}",
        "invoice_pdf": f"{world.base_url}/invoices/{invoice['id']}/pdf",
        "status_transitions": {**invoice["status_transitions"], "finalized_at": now},
    }
    invoice.pop("last_finalization_error", None)
    _freeze_metadata(world, invoice)
    if invoice["collection_method"] == "send_invoice":
        invoice.setdefault("due_date", now + 86_400 * invoice.get("_days_until_due", 30))
    world.emit("invoice.finalized", invoice)
    if invoice["amount_due"] > 0:
        collection.default_payment(world, invoice)
    else:
        collection.mark_paid(world, invoice)
    return invoice


def _refuse_finalization(world: World, invoice: Object) -> None:
    error = taxes.no_place()
    with world.updating(invoice, "invoice.updated"):
        invoice["last_finalization_error"] = {
            "code": error.code,
            "message": error.message,
            "type": error.kind,
        }
    world.emit("invoice.finalization_failed", invoice)
    raise error


def _freeze_metadata(world: World, invoice: Object) -> None:
    """The subscription's metadata as of finalization: later changes don't reach the invoice."""
    subscription = lifecycle.subscription_of(world, invoice)
    if subscription is not None:
        details: Object = {"metadata": dict(subscription["metadata"]), "subscription": subscription["id"]}
        invoice["parent"] = {
            "type": "subscription_details",
            "quote_details": None,
            "subscription_details": details,
        }


def close(world: World, invoice: Object, status: str, transition: str, event_type: str) -> Object:
    """void or uncollectible."""
    now = world.now(invoice.get("test_clock"))
    before = invoice["status"]
    invoice.pop("next_payment_attempt", None)
    invoice |= {
        "status": status,
        "auto_advance": False,
        "status_transitions": {**invoice["status_transitions"], transition: now},
    }
    if status == "void":
        invoice["amount_remaining"] = 0
        intent = collection.intent_of(world, invoice)
        if intent is not None and intent["status"] not in ("succeeded", "canceled"):
            intent |= {
                "status": "canceled",
                "canceled_at": world.wall_time(),
                "cancellation_reason": "void_invoice",
            }
            world.emit("payment_intent.canceled", intent)
        for link_id in invoice["_payments"]:
            link = world.store.get("invoice_payment", link_id)
            link |= {"status": "canceled", "status_transitions": {"canceled_at": now}}
    world.emit("invoice.updated", invoice, {"status": before})
    world.emit(event_type, invoice)
    return invoice


def _shown(state: State, invoice: Object) -> Object:
    """The lines an invoice shows itself: the first ten."""
    lines: list[Object] = invoice["_lines"]
    more = len(lines) > SHOWN_LINES
    shown = page(lines[:SHOWN_LINES], f"/v1/invoices/{invoice['id']}/lines", more)
    return {"lines": {**shown, "total_count": len(lines)}}


def _payments(state: State, invoice: Object) -> Any:
    stored = state.store.find("invoice", invoice["id"]) or {}
    links = [render(state, state.store.get("invoice_payment", link)) for link in stored.get("_payments", ())]
    return page(links, f"/v1/invoice_payments?invoice={invoice['id']}")


def _confirmation_secret(state: State, invoice: Object) -> Any:
    stored = state.store.find("invoice", invoice["id"])
    intent = collection.intent_of(state, stored) if stored is not None else None
    return {"client_secret": intent["client_secret"], "type": "payment_intent"} if intent else None


DERIVED["invoice"] = _shown
INCLUDABLE[("invoice", "payments")] = _payments
INCLUDABLE[("invoice", "confirmation_secret")] = _confirmation_secret

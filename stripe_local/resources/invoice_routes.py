"""The API's own handling of invoices: one-off drafts, paying, voiding, previews."""

from stripe_local.errors import StripeError, invalid, malformed
from stripe_local.parameters import Params
from stripe_local.render import listed
from stripe_local.resources import collection, discounts, invoice_items, invoices, payment_methods, taxes
from stripe_local.resources.common import deleted, matching
from stripe_local.resources.invoice_lines import add_up
from stripe_local.store import Object
from stripe_local.values import each, inside
from stripe_local.world import World, merge_metadata, put

FIELDS = (
    "description",
    "footer",
    "statement_descriptor",
    "due_date",
    "auto_advance",
    "custom_fields",
    "number",
)

# What a line that is added says of itself.
ADDED = ("amount", "description", "discountable", "metadata", "period", "pricing", "quantity", "tax_rates")


def create(world: World, params: Params) -> Object:
    """A draft with the customer's pending items (or, from an invoice on, those of a subscription)."""
    subscription: Object | None = None
    if params.get("subscription"):
        subscription = world.store.get("subscription", params["subscription"], "subscription")
    customer_id = params.get("customer") or (subscription or {}).get("customer")
    if not customer_id:
        raise malformed("Missing required param: customer.", "customer", "parameter_missing")
    customer = world.store.get("customer", customer_id, "customer")
    excluded = params.get("pending_invoice_items_behavior", "exclude") == "exclude" and subscription is None
    pending = [] if excluded else invoice_items.pending(world, customer_id, (subscription or {}).get("id"))
    if subscription is not None and not pending:
        raise invalid("Nothing to invoice for subscription", code="invoice_no_subscription_line_items")
    fields: Object = {
        "billing_reason": "manual",
        "collection_method": params.get("collection_method", "charge_automatically"),
        "auto_advance": params.get("auto_advance", False),
        "currency": params.get("currency")
        or (pending[0]["currency"] if pending else customer.get("currency", "usd")),
        "_days_until_due": params.get("days_until_due", 30),
    }
    if subscription is not None:
        details: Object = {"metadata": dict(subscription["metadata"]), "subscription": subscription["id"]}
        fields["parent"] = {
            "type": "subscription_details",
            "quote_details": None,
            "subscription_details": details,
        }
    if params.get("default_payment_method"):
        method = payment_methods.resolve(world, params["default_payment_method"], "default_payment_method")
        fields["default_payment_method"] = payment_methods.attach_to(world, method, customer_id)["id"]
    if params.get("discounts"):
        fields["discounts"] = discounts.redeem(
            world, params["discounts"], "discounts", {"customer": customer_id}
        )
    fields |= taxes.settings(world, customer, params)
    put(fields, params, *FIELDS)
    merge_metadata(fields, params.get("metadata"))
    invoice = invoices.draft(world, customer, [], fields)
    if pending:
        invoice_items.take_into(world, invoice, pending)
        add_up(world, invoice)
    if invoice["auto_advance"]:
        invoices.finalize_later(world, invoice)
    return invoice


def update(world: World, params: Params, identifier: str) -> Object:
    invoice = world.store.get("invoice", identifier)
    if invoice["status"] != "draft" and set(params) - {"metadata", "auto_advance", "default_payment_method"}:
        raise invalid("Finalized invoices can't be updated in this way", code="invoice_not_editable")
    with world.updating(invoice, "invoice.updated"):
        put(invoice, params, *FIELDS, "collection_method")
        invoice |= taxes.settings(world, world.store.get("customer", invoice["customer"]), params)
        if "days_until_due" in params:
            invoice["_days_until_due"] = params["days_until_due"]
        merge_metadata(invoice, params.get("metadata"))
        if params.get("default_payment_method"):
            method = payment_methods.resolve(
                world, params["default_payment_method"], "default_payment_method"
            )
            attached = payment_methods.attach_to(world, method, invoice["customer"])
            invoice["default_payment_method"] = attached["id"]
        if "discounts" in params:
            given = each(params, "discounts")
            invoice["discounts"] = discounts.redeem(
                world, given, "discounts", {"customer": invoice["customer"]}
            )
        if params.keys() & {"automatic_tax", "default_tax_rates", "discounts"}:
            add_up(world, invoice)
    return invoice


def list_all(world: World, params: Params) -> Object:
    found = matching(world.store.newest_first("invoice"), params, frozenset({"subscription"}))
    if "subscription" in params:
        found = [i for i in found if _subscription_id(i) == params["subscription"]]
    return listed(world, found, params, "/v1/invoices")


def _subscription_id(invoice: Object) -> str | None:
    return inside(invoice, "parent", "subscription_details").get("subscription")


def lines(world: World, params: Params, identifier: str) -> Object:
    invoice = world.store.get("invoice", identifier)
    return listed(world, invoice["_lines"], params, f"/v1/invoices/{identifier}/lines")


def delete(world: World, params: Params, identifier: str) -> Object:
    invoice = world.store.get("invoice", identifier)
    if invoice["status"] != "draft" or _subscription_id(invoice):
        raise invalid(
            "You can only delete draft invoices that are not for a subscription.", code="invoice_not_editable"
        )
    world.store.remove("invoice", identifier)
    world.emit("invoice.deleted", invoice)
    return deleted("invoice", identifier)


def finalize(world: World, params: Params, identifier: str) -> Object:
    """With auto_advance the payment is tried too."""
    invoice = world.store.get("invoice", identifier)
    put(invoice, params, "auto_advance")
    invoices.finalize(world, invoice)
    if invoice["auto_advance"]:
        collection.advance(world, invoice)
    return invoice


def send(world: World, params: Params, identifier: str) -> Object:
    invoice = world.store.get("invoice", identifier)
    if invoice["collection_method"] != "send_invoice" and invoice["status"] == "draft":
        invoice["collection_method"] = "send_invoice"
    if invoice["status"] == "draft":
        invoices.finalize(world, invoice)
    if invoice["status"] not in ("open", "paid"):
        raise invalid(f"You can only send open invoices: this one is {invoice['status']}.")
    world.emit("invoice.sent", invoice)
    return invoice


def pay(world: World, params: Params, identifier: str) -> Object:
    """Now: with the method given, with the default one, or out of band. A decline is a 402."""
    invoice = world.store.get("invoice", identifier)
    if invoice["status"] == "paid":
        raise invalid("Invoice is already paid", code="invoice_already_paid")
    if invoice["status"] == "draft":
        invoices.finalize(world, invoice)
    if invoice["status"] not in ("open", "uncollectible", "paid"):
        raise invalid(f"Invoice is {invoice['status']}: it can no longer be paid.", code="invoice_not_open")
    if invoice["status"] == "paid":
        return invoice
    invoice["status"] = "open"
    if params.get("paid_out_of_band"):
        collection.mark_paid(world, invoice, out_of_band=True)
        return invoice
    given = params.get("payment_method") or params.get("source")
    method = (
        payment_methods.resolve(world, given, "payment_method")
        if given
        else collection.method_for(world, invoice)
    )
    if method is None:
        raise collection.no_method(invoice)
    error = collection.attempt(world, invoice, method, off_session=params.get("off_session", True))
    if error is not None:
        raise error
    if collection.is_processing(world, invoice):
        return invoice
    if invoice["status"] == "open":
        raise StripeError(
            402,
            "This payment requires additional user action before it can be completed successfully.",
            kind="card_error",
            code="invoice_payment_intent_requires_action",
        )
    return invoice


def void(world: World, params: Params, identifier: str) -> Object:
    invoice = world.store.get("invoice", identifier)
    if invoice["status"] not in ("open", "uncollectible"):
        raise invalid(
            f"You can only pass in open or uncollectible invoices. This invoice isn't: {invoice['status']}."
        )
    return invoices.close(world, invoice, "void", "voided_at", "invoice.voided")


def mark_uncollectible(world: World, params: Params, identifier: str) -> Object:
    invoice = world.store.get("invoice", identifier)
    if invoice["status"] != "open":
        raise invalid(f"You can only pass in open invoices. This invoice isn't: {invoice['status']}.")
    return invoices.close(
        world, invoice, "uncollectible", "marked_uncollectible_at", "invoice.marked_uncollectible"
    )


def add_lines(world: World, params: Params, identifier: str) -> Object:
    """Each line becomes an invoice item of the draft."""
    invoice = world.store.get("invoice", identifier)
    if invoice["status"] != "draft":
        raise invalid("The invoice is already finalized: lines can only be added to a draft.")
    for line in each(params, "lines"):
        if line.get("invoice_item"):
            item = world.store.get("invoiceitem", line["invoice_item"], "lines[invoice_item]")
            invoice_items.take_into(world, invoice, [item])
            continue
        given: Params = {key: line[key] for key in ADDED if key in line}
        given |= {"customer": invoice["customer"], "invoice": identifier, "currency": invoice["currency"]}
        invoice_items.create(world, given)
    with world.updating(invoice, "invoice.updated"):
        add_up(world, invoice)
    return invoice


def list_payments(world: World, params: Params) -> Object:
    """By invoice, by what paid it, by status."""
    found = matching(world.store.newest_first("invoice_payment"), params, frozenset({"payment"}))
    wanted: Params = inside(params, "payment")
    if "type" in wanted:
        found = [link for link in found if link["payment"]["type"] == wanted["type"]]
    for key in ("payment_intent", "charge", "payment_record"):
        if key in wanted:
            found = [link for link in found if link["payment"].get(key) == wanted[key]]
    return listed(world, found, params, "/v1/invoice_payments")

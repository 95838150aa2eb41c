"""Pages for a browser: Checkout, payment links, 3-D Secure, invoices, and an overview at the root."""

from urllib.parse import quote, urlencode

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from stripe_local import portal_page
from stripe_local.checkout_page import bank_page, checkout_page
from stripe_local.errors import StripeError
from stripe_local.index_page import BUTTONS, act, advance, index
from stripe_local.object_page import object_page, search
from stripe_local.resources import (
    collection,
    invoice_routes,
    payment_intents,
    payment_links,
    payment_methods,
    setup_intents,
)
from stripe_local.resources.checkout_authentication import NOT_AUTHENTICATED
from stripe_local.templating import Endpoint, day, form_of, message, money, page
from stripe_local.world import World


def _link(world: World) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        link = world.store.find("payment_link", request.path_params["identifier"])
        if link is None:
            return message("No such link", status=404)
        try:
            session = payment_links.open_session(world, link, dict(request.query_params))
        except StripeError as problem:
            return message("This link is no longer active", problem.message)
        session["_prefilled_code"] = request.query_params.get("prefilled_promo_code", "")
        return RedirectResponse(f"/c/pay/{quote(session['id'])}", 303)

    return endpoint


def _authenticate(world: World) -> Endpoint:
    """The bank's page. Afterwards back to return_url, as Stripe does, with the result in the query."""
    families = {
        "payment_intents": ("payment_intent", payment_intents.authenticate),
        "setup_intents": ("setup_intent", setup_intents.authenticate),
    }

    async def endpoint(request: Request) -> Response:
        kind, act = families.get(request.path_params["family"], families["payment_intents"])
        intent = world.store.find(kind, request.path_params["identifier"])
        if intent is None or intent["status"] != "requires_action":
            return message("Nothing to authenticate", status=404)
        if request.method == "GET":
            return page("authenticate.jinja", amount=intent.get("amount"), currency=intent.get("currency"))
        succeeds = (await form_of(request)).get("succeeds") != "false"
        act(world, intent, succeeds)
        if not intent.get("_return_url"):
            return message("Thank you", "You may close this window.")
        query = {
            kind: intent["id"],
            f"{kind}_client_secret": intent["client_secret"],
            "redirect_status": "succeeded" if succeeds else "failed",
        }
        joint = "&" if "?" in intent["_return_url"] else "?"
        return RedirectResponse(f"{intent['_return_url']}{joint}{urlencode(query)}", 303)

    return endpoint


def _invoice(world: World) -> Endpoint:
    """The hosted invoice, with a form to pay it."""

    async def endpoint(request: Request) -> Response:
        invoice = world.store.find("invoice", request.path_params["identifier"])
        if invoice is None:
            return message("No such invoice", status=404)
        failed = request.query_params.get("redirect_status") == "failed"
        error = NOT_AUTHENTICATED if failed else None
        form: dict[str, str] = {}
        if request.method == "POST":
            form = await form_of(request)
            error = None
            try:
                order = {"payment_method": form.get("payment_method", "pm_card_visa"), "off_session": False}
                invoice_routes.pay(world, order, invoice["id"])
            except StripeError as problem:
                intent = collection.intent_of(world, invoice)
                if intent is not None and intent["status"] == "requires_action":
                    intent["_return_url"] = f"{world.base_url}/invoices/{invoice['id']}"
                    return RedirectResponse(f"/authenticate/payment_intents/{intent['id']}", 303)
                error = problem.message
        if invoice["status"] != "open":
            total = money(invoice["total"], invoice["currency"])
            return message(f"Invoice {invoice.get('number', '')}", f"{total} · {invoice['status']}")
        items = [line | {"quantity": 1, "amount_total": line["amount"]} for line in invoice["_lines"]]
        shown = {
            "mode": "payment",
            "amount_total": invoice["amount_due"],
            "currency": invoice["currency"],
            "customer": invoice["customer"],
        }
        return page(
            "checkout.jinja",
            session=shown,
            items=items,
            given=form,
            error=error,
        )

    return endpoint


def _receipt(world: World) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        charge = world.store.find("charge", request.path_params["identifier"])
        if charge is None:
            return message("No such receipt", status=404)
        method = payment_methods.label(charge["payment_method_details"])
        paid = f"{money(charge['amount'], charge['currency'])} with {method}"
        return message("Receipt", f"{paid} on {day(charge['created'])}")

    return endpoint


def _portal(world: World) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        session = world.store.find("billing_portal.session", request.path_params["identifier"])
        customer = world.store.find("customer", session["customer"]) if session else None
        if session is None or customer is None or session["_expires_at"] < world.wall_time():
            return message("This link has expired", "Ask for a new one.", status=404)
        error = None
        if request.method == "POST":
            try:
                portal_page.act(world, session, customer, await form_of(request))
            except StripeError as problem:
                error = problem.message
            done = portal_page.return_after(session)
            if error is None and done:
                return RedirectResponse(done, 303)
            if error is None:
                session["_flow_is_over"] = True
        return page(
            "portal.jinja",
            200 if error is None else 400,
            error=error,
            **portal_page.shown(world, session, customer),
        )

    return endpoint


def routes(world: World) -> list[BaseRoute]:
    """Every page."""
    both = ["GET", "POST"]
    return [
        Route("/", index(world)),
        Route("/clocks/{identifier}/advance", advance(world), methods=["POST"]),
        *(Route(f"/{path}", act(world, path), methods=["POST"]) for path in BUTTONS),
        # As in Stripe's Dashboard, so that links to it lead here.
        Route("/test/search", search(world)),
        Route("/test/{family}/{identifier}", object_page(world)),
        Route("/c/pay/{identifier}", checkout_page(world), methods=both),
        Route("/c/pay/{identifier}/authenticate", bank_page(world), methods=both),
        Route("/b/{identifier}", _link(world)),
        Route("/p/session/{identifier}", _portal(world), methods=both),
        Route("/authenticate/{family}/{identifier}", _authenticate(world), methods=both),
        Route("/invoices/{identifier}", _invoice(world), methods=both),
        Route("/invoices/{identifier}/pdf", _invoice(world)),
        Route("/receipts/{identifier}", _receipt(world)),
    ]

"""Checkout's page: the chosen card → paid, 3-D Secure at the payer's bank, or the reason of a decline."""

from typing import Any
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from stripe_local.errors import StripeError
from stripe_local.render import render
from stripe_local.resources import checkout, checkout_authentication, checkout_completion, line_items
from stripe_local.resources.checkout_authentication import NOT_AUTHENTICATED
from stripe_local.store import Object
from stripe_local.templating import Endpoint, every, form_of, message, page
from stripe_local.values import inside
from stripe_local.world import World


def checkout_page(world: World) -> Endpoint:
    """The order and the form; its POST is the Pay button."""

    async def endpoint(request: Request) -> Response:
        session = world.store.find("checkout.session", request.path_params["identifier"])
        if session is None:
            return message("No such session", status=404)
        if ended := _ended(world, session):
            return ended
        if request.method == "POST":
            given = _typed_in(await form_of(request))
            try:
                return _pay(world, session, given)
            except StripeError as problem:
                return _form(world, session, given, problem.message, problem.status)
        failed = request.query_params.get("redirect_status") == "failed"
        return _form(world, session, {}, NOT_AUTHENTICATED if failed else None)

    return endpoint


def bank_page(world: World) -> Endpoint:
    """The payer's bank: success pays, failure returns to Checkout."""

    async def endpoint(request: Request) -> Response:
        session = world.store.find("checkout.session", request.path_params["identifier"])
        given = (session or {}).get("_challenge")
        if session is None or given is None:
            return message("Nothing to authenticate", status=404)
        if ended := _ended(world, session):
            return ended
        if request.method == "GET":
            return page(
                "authenticate.jinja", amount=session.get("amount_total"), currency=session.get("currency")
            )
        del session["_challenge"]
        if (await form_of(request)).get("succeeds") == "false":
            checkout_authentication.fail(world, session, given)
            return RedirectResponse(f"{_path(session)}?redirect_status=failed", 303)
        try:
            checkout_completion.complete(world, session, given)
        except StripeError as problem:
            return _form(world, session, given, problem.message, problem.status)
        return _after(session)

    return endpoint


def _typed_in(form: dict[str, str]) -> dict[str, Any]:
    """The fields of the form, with the address in one."""
    address = {key: form[key].strip().upper() for key in ("country", "state") if form.get(key, "").strip()}
    others = {key: value for key, value in form.items() if key not in ("country", "state")}
    return {**others, "address": address} if address else others


def _path(session: Object) -> str:
    return f"/c/pay/{quote(session['id'])}"


def _ended(world: World, session: Object) -> Response | None:
    checkout.expire_when_due(world, session)
    if session["status"] == "complete":
        return message("You're all done here", "This session was paid already.", link=_success_url(session))
    if session["status"] == "expired":
        return message(
            "This session has expired",
            "Nothing was paid. Go back and start again.",
            link=session.get("cancel_url"),
        )
    return None


def _pay(world: World, session: Object, given: dict[str, Any]) -> Response:
    if checkout_authentication.is_needed(world, session, given):
        session["_challenge"] = given
        return RedirectResponse(f"{_path(session)}/authenticate", 303)
    checkout_completion.complete(world, session, given)
    return _after(session)


def _success_url(session: Object) -> str:
    url: str = session.get("success_url") or session.get("return_url") or ""
    return url.replace("{CHECKOUT_SESSION_ID}", session["id"])


def _after(session: Object) -> Response:
    """Where Checkout sends the payer: success_url with the session's id put in."""
    url = _success_url(session)
    return RedirectResponse(url, 303) if url else message("Thanks for your payment")


def _form(
    world: World, session: Object, given: dict[str, Any], error: str | None, status: int = 200
) -> Response:
    items = [
        item | {"every": every(inside(item["price"], "recurring"))}
        for item in line_items.shown(world, session["_line_items"])
    ]
    return page(
        "checkout.jinja",
        status,
        session=render(world, session),
        items=items,
        custom=inside(items[0]["price"], "custom_unit_amount") if items else {},
        given=given,
        error=error,
        promotion_code=session.get("_prefilled_code", ""),
        asks_address=session["automatic_tax"]["enabled"]
        or session.get("billing_address_collection") == "required",
    )

"""An error → the body and status of Stripe's answer."""

from typing import Any


class StripeError(Exception):
    """An answer that is an error. `details` are further keys of the body (decline_code, payment_intent …)."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        code: str | None = None,
        param: str | None = None,
        **details: Any,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.kind = kind
        self.code = code
        self.param = param
        self.details = details

    def body(self, request_id: str) -> dict[str, Any]:
        """Without empty keys, as Stripe's."""
        error: dict[str, Any] = {}
        if self.code:
            error["code"] = self.code
            error["doc_url"] = f"https://stripe.com/docs/error-codes/{self.code.replace('_', '-')}"
        error["message"] = self.message
        if self.param:
            error["param"] = self.param
        error["request_log_url"] = f"https://dashboard.stripe.com/test/logs/{request_id}"
        error["type"] = self.kind
        return {"error": error | self.details}


class InvalidParameter(StripeError):
    """Refused before anything was done: such an answer is not stored for its idempotency key."""


def invalid(message: str, param: str | None = None, code: str | None = None) -> StripeError:
    """A request that cannot be carried out as it is."""
    return StripeError(400, message, param=param, code=code)


def malformed(message: str, param: str | None = None, code: str | None = None) -> InvalidParameter:
    """A parameter that is not of its type."""
    return InvalidParameter(400, message, param=param, code=code)


def missing_parameter(param: str) -> InvalidParameter:
    return InvalidParameter(400, f"Missing required param: {param}.", param=param, code="parameter_missing")


def unknown_parameter(param: str) -> InvalidParameter:
    return InvalidParameter(
        400, f"Received unknown parameter: {param}", param=param, code="parameter_unknown"
    )


def not_acted_on(param: str) -> InvalidParameter:
    """A parameter of Stripe's that would be accepted here and have no effect."""
    return InvalidParameter(
        400,
        f"The local Stripe does not act on `{param}`: leave it out, or try it in a Stripe sandbox.",
        param=param,
        code="not_emulated",
    )


def no_such(noun: str, identifier: str, param: str = "id") -> StripeError:
    """404 for an id in the path, 400 for one that a parameter names."""
    status = 404 if param == "id" else 400
    return StripeError(status, f"No such {noun}: '{identifier}'", param=param, code="resource_missing")


def unknown_url(method: str, path: str) -> StripeError:
    return StripeError(
        404,
        f"Unrecognized request URL ({method}: {path}). Please see https://stripe.com/docs or we can help at "
        "https://support.stripe.com/.",
    )


def not_played(method: str, path: str) -> StripeError:
    """Stripe has this endpoint, the emulator doesn't: a clear error rather than a 404."""
    return StripeError(
        501,
        f"{method} {path} exists at Stripe but not in the local emulator. Try it in a Stripe sandbox.",
        kind="api_error",
        code="not_emulated",
    )

"""A step of the database's → the calls of Stripe that it names, step by step, until there is a result.

The edge functions do the same (supabase/functions/_tillbase/steps.ts). What may be bought, the order of the calls and
what each answer means are in the database (supabase/schemas/60_checkout/15_stripe_steps.sql).
"""

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import stripe
from psycopg.types.json import Jsonb

from cli.database import Connection, call
from cli.output import CliError

# More than any flow needs, so that a bug cannot loop forever.
STEPS_MAX = 50

Json = dict[str, Any]
Continue = Literal["continue_checkout", "continue_portal", "continue_payment_link"]


def carry_out(conn: Connection, client: Any, step: Json, continue_by: Continue) -> Json:
    """Carry out steps, from the first one to the result. `continue_by` takes the answers.

    If anything breaks, the same command later continues where this one stopped. Raises CliError, psycopg.Error.
    """
    for _ in range(STEPS_MAX):
        if "done" in step:
            return step["done"]
        if "refused" in step:
            raise CliError("{message} ({code}). {hint}".format(**step["refused"]))
        answers = list(_answers(client, step["calls"]))
        if step["is_last"] and "body" in answers[-1]:
            return answers[-1]["body"]
        step = answer(conn, continue_by, state=Jsonb(step["state"]), answers=Jsonb(answers))
    raise CliError(f"there was no result after {STEPS_MAX} steps: run it again")


def answer(conn: Connection, function: str, **arguments: Any) -> Any:
    """The one value that a function of `billing` returns to the edge functions, as the role that they have."""
    with conn.transaction():
        conn.execute("set local role billing_checkout")
        [row] = call(conn, f"billing.{function}", **arguments)
    [value] = row.values()
    return value


def _answers(client: Any, calls: list[Json]) -> Iterator[Json]:
    """In the order of the calls, up to the first that fails or finds what it looks for."""
    for each in calls:
        given = _answer(client, each)
        yield given
        if "error" in given or (each["find"] and given["body"]):
            return


def _answer(client: Any, call: Mapping[str, Any]) -> Json:
    key = call["idempotency_key"]
    try:
        options = {"idempotency_key": key} if key else {}
        listed = client.raw_request(call["method"], call["path"], **call["params"], **options).data
        body = _found(listed, call["find"]) if call["find"] else listed
        if body is not None and not body.keys() >= set(call["keep"]):
            raise stripe.APIError(f"Stripe's answer to {call['path']} is none")
        return {"body": body and {name: body[name] for name in call["keep"]}}
    except stripe.StripeError as error:
        return {"error": _reported(error), "idempotency_key": key}


def _found(listed: Json, metadata: Mapping[str, str]) -> Json | None:
    return next(
        (found for found in listed["data"] if metadata.items() <= (found.get("metadata") or {}).items()), None
    )


def _reported(error: stripe.StripeError) -> Json:
    told: Any = error.error
    return {
        "status": error.http_status,
        "type": getattr(told, "type", None),
        "code": getattr(told, "code", None),
        "param": getattr(told, "param", None),
        "message": " ".join(str(error.user_message or error).split()),
    }

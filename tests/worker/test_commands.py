"""Commands against the SQL functions that they call."""

from typing import Any, get_args

import psycopg
import pytest

from tests.worker import events
from worker.events.commands import (
    _KINDS,
    Command,
    SyncCreditNote,
    SyncInvoice,
    SyncPaymentLink,
    SyncPrice,
    SyncReview,
    SyncTestClock,
    function_of,
    parameter_names,
    parameters_of,
    sql_of,
)
from worker.events.decide import sync
from worker.events.fetch import _PATHS
from worker.events.normalise import normalise_object
from worker.events.shapes import Node

KINDS: tuple[type[Command], ...] = get_args(Command)
_FUNCTION = """
select proargnames, has_function_privilege('billing_worker', oid, 'execute'), prorettype::regtype::text
from pg_catalog.pg_proc where pronamespace = 'billing'::regnamespace and proname = %s
"""


@pytest.mark.parametrize("kind", KINDS, ids=[kind.__name__ for kind in KINDS])
def test_a_command_is_one_function_with_its_parameters_in_order(
    conn: psycopg.Connection[Any], kind: type[Command]
) -> None:
    found = conn.execute(_FUNCTION, [function_of(kind)]).fetchall()
    assert found == [(list(parameter_names(kind)), True, "text")]


def test_every_sync_function_of_the_database_has_a_command(conn: psycopg.Connection[Any]) -> None:
    found = conn.execute(
        "select proname from pg_catalog.pg_proc "
        r"where pronamespace = 'billing'::regnamespace and proname ~ '^(sync|record|delete)_' "
        "and not 'msg_id' = any (proargnames)"  # what became of a job
    )
    assert {name for (name,) in found} == {function_of(kind) for kind in KINDS}


def test_a_call_names_every_parameter() -> None:
    names = parameter_names(SyncPrice)
    assert names[0] == "stripe_price_id"
    assert sql_of(SyncPrice) == (f"select billing.sync_price({', '.join(f'{name} => %s' for name in names)})")


def test_lists_travel_as_json_with_their_times_in_iso_form() -> None:
    found = normalise_object(Node(events.invoice(), "body"))
    assert found is not None
    command = sync(found, events.moment(events.JANUARY), is_fetched=False)
    assert isinstance(command, SyncInvoice)
    lines = dict(zip(parameter_names(SyncInvoice), parameters_of(command), strict=True))["lines"]
    assert lines.dumps(lines.obj) == (
        '[{"stripe_line_id": "il_1_0", "stripe_subscription_id": "sub_1", "stripe_subscription_item_id": "si_1", '
        '"stripe_price_id": "price_pro", "amount": 1000, "quantity": 1, "is_proration": false, '
        '"period_start": "2026-01-01T00:00:00+00:00", "period_end": "2026-02-01T00:00:00+00:00", '
        '"credited_line_ids": null, "credited_invoice_id": null, "discount": 0, "tax": 0}]'
    )


def test_ids_travel_as_an_array_and_lists_of_objects_as_json_however_empty_they_are() -> None:
    nothing = {"object": "list", "has_more": False, "data": []}
    for body, ids, lines in (
        (events.credit_note(lines=nothing), [], "[]"),
        (
            events.credit_note(refunds=[{"amount_refunded": 500, "refund": "re_1"}]),
            ["re_1"],
            '[{"stripe_line_id": "il_1_0", "amount": 500}]',
        ),
    ):
        found = normalise_object(Node(body, "body"))
        assert found is not None
        command = sync(found, events.moment(events.JANUARY), is_fetched=False)
        told = dict(zip(parameter_names(SyncCreditNote), parameters_of(command), strict=True))
        assert told["stripe_refund_ids"] == ids
        assert told["lines"].dumps(told["lines"].obj) == lines


def test_every_command_that_may_ask_for_its_object_again_names_a_kind_that_is_read() -> None:
    objects = [kind for kind in KINDS if kind.__name__.startswith("Sync")]
    not_read = {SyncPaymentLink, SyncReview, SyncTestClock}  # they only move forward
    assert {kind for kind in objects if kind not in _KINDS} == not_read
    assert set(_KINDS.values()) == set(_PATHS) - {"payment_method"}

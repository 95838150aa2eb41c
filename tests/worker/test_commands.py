"""Commands against the SQL functions that they call."""

from typing import Any, get_args

import psycopg
import pytest

from tests.worker import events
from worker.commands import (
    Command,
    SyncInvoice,
    SyncPrice,
    function_of,
    parameter_names,
    parameters_of,
    sql_of,
)
from worker.decide import sync
from worker.normalise import normalise_object
from worker.shapes import Node

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
        r"where pronamespace = 'billing'::regnamespace and proname ~ '^(sync|record)_'"
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
        '"period_start": "2026-01-01T00:00:00+00:00", "period_end": "2026-02-01T00:00:00+00:00"}]'
    )

"""Random lives of a customer: when their events are applied, nothing is missing, and what never arrived is brought."""

import os
from collections.abc import Callable
from random import Random

import psycopg
import pytest
import stripe
from psycopg.rows import dict_row

from cli.database import Connection
from cli.reconcile.apply import apply
from cli.reconcile.compare import compare
from cli.reconcile.report import Reported, findings_of, of_database, of_stripe
from cli.reconcile.stripe_lists import StripeLists
from devstack.scaffold import DefaultGrants
from tests.databases import Databases
from tests.oracle.in_process import KEY, Stripe, _Http
from tests.oracle.kinds import FAMILIES
from tests.oracle.test_lives_agree import Stage

FIRST = int(os.environ.get("LIVES_FROM", "0"))
LIVES = int(os.environ.get("LIVES", "4"))
VERSION = "2026-10-28.endive"


def found(conn: Connection, local: Stripe) -> tuple[list[Reported], list[str]]:
    """What reconcile says; the plan of the test's own shop is not of this Stripe."""
    lists = StripeLists(stripe.StripeClient(KEY, http_client=_Http(local)), None)
    reported = of_stripe(conn, list(compare(conn, lists, None, lambda what, objects: None)))
    reported = [each for each in reported if not each.difference.stripe_id.endswith("_pro")]
    return reported, [each.what for each in findings_of(reported) + list(of_database(conn))]


@pytest.mark.parametrize("seed", range(FIRST, FIRST + LIVES))
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dropped", [0, 0.4], ids=["all_arrive", "some_never_arrive"])
def test_nothing_is_missing_of_a_life(
    databases: Databases, template: Callable[[DefaultGrants], str], family: str, seed: int, dropped: float
) -> None:
    life = FAMILIES[family](seed)
    life.spends = False
    draw = Random(seed)
    with Stage(databases, template).project(life, VERSION) as project:
        life.live()
        events = [each for each in life.stripe.world.events.bodies() if draw.random() >= dropped]
        project.tell(life.stripe, events, f"{seed}")
        with psycopg.connect(project.shop.database.url, autocommit=True, row_factory=dict_row) as conn:
            reported, _ = found(conn, life.stripe)
            assert not dropped or reported
            apply(conn, [each.difference for each in reported if each.is_mendable])
            project.tell(life.stripe, [], f"{seed}")
            assert found(conn, life.stripe)[1] == [], life.told
        project.check()

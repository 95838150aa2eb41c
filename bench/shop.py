"""A running Postgres → databases that hold a shop with a full queue, one copy for each measurement."""

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager

import psycopg

from bench.clone import copy
from bench.stream import Event, catalogue, customer_ids
from devstack.migrate import migrate
from devstack.paths import migrations_directory
from devstack.postgres import Postgres
from devstack.scaffold import create_database
from worker.events.drain import drain
from worker.sessions import connect
from worker.settings import Settings

# In one transaction: each takes a lock of its own.
LINKED_MAX = 1_000
_SIGN_UP = """
insert into auth.users (id, email) select gen_random_uuid(), id || '@example.com' from unnest(%s::text[]) as id
"""
_LINK = """
select billing.link_customer(account_id => accounts.id, stripe_customer_id => split_part(users.email, '@', 1))
from billing.accounts join auth.users on users.id = accounts.owner_id
where users.email = any (%s)
"""
_RECEIVE = """
with received as (
    insert into billing.stripe_events (stripe_event_id, type, api_version, livemode, payload, created_at)
    select event.id, event.type, event.body::jsonb ->> 'api_version', false, event.body, to_timestamp(event.created)
    from unnest(%s::text[], %s::text[], %s::bigint[], %s::text[]) as event (id, type, created, body)
    returning stripe_event_id
)
select count(*) from pgmq.send_batch(
    'stripe_events', array(select jsonb_build_object('event_id', stripe_event_id) from received)
)
"""


class Shop:
    """A template of so many customers: what they did before is applied, and the queue is full."""

    def __init__(
        self, server: Postgres, template: str, customers: int, before: Iterable[Event], queue: Iterable[Event]
    ) -> None:
        self._server = server
        self._template = template
        create_database(server, template)
        migrate(server.url(template), migrations_directory())
        with psycopg.connect(server.admin_url(template), autocommit=True) as conn:
            link(conn, customer_ids(customers))
            receive(conn, [*catalogue(), *before])
            with connect(Settings(server.url(template))) as worker:
                while drain(worker):
                    pass
            receive(conn, list(queue))
            conn.execute("vacuum analyze")

    def copy(self) -> AbstractContextManager[str]:
        """Name of a copy for one measurement."""
        return copy(self._server, self._template)


def link(conn: psycopg.Connection, stripe_ids: Sequence[str]) -> None:
    """Sign up so many users, and link each one's customer."""
    conn.execute(_SIGN_UP, [stripe_ids])
    emails = [f"{stripe_id}@example.com" for stripe_id in stripe_ids]
    for first in range(0, len(emails), LINKED_MAX):
        conn.execute(_LINK, [emails[first : first + LINKED_MAX]])


def receive(conn: psycopg.Connection, events: Sequence[Event]) -> None:
    """Put events, if any, into the inbox and the queue, as the receiver does."""
    if not events:
        return
    columns = [[getattr(event, name) for event in events] for name in ("id", "type", "created", "body")]
    conn.execute(_RECEIVE, columns)

"""A user changes their e-mail address → the Stripe customer has it too, unless it has one of its own."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import psycopg
import pytest

from tests.sql.calls import make_jobs_due
from tests.stripe_local.conftest import KEY, Local, _serve, until
from tests.support import Database, account_of, create_user
from tests.worker.conftest import Shop, begin, opened
from worker.events.fetch import StripeReader
from worker.jobs.emails import Answer, EmailChange, Emails, write
from worker.jobs.queue import Job
from worker.run import run
from worker.settings import Settings
from worker.stripe_api import StripeAccess

OLD, NEW, THIRD = "old@example.com", "new@example.com", "third@example.com"


@dataclass
class Till:
    """A shop whose Stripe is the local one, and a user with a customer there."""

    shop: Shop
    local: Local
    user_id: UUID
    account_id: UUID
    customer_id: str
    attempts: int = 0

    def rename(self, email: str | None) -> None:
        """As the auth server does it, once the new address is confirmed."""
        with self.shop.database.connect(admin=True) as auth, auth.transaction():
            auth.execute("set local role supabase_auth_admin")
            auth.execute("update auth.users set email = %s where id = %s", [email, self.user_id])

    def stripe(self, **more: Any) -> StripeAccess:
        return StripeAccess(KEY, self.local.url, **more)

    def begin(self) -> list[tuple[Job, EmailChange]]:
        begun = begin(self.shop.worker, Emails(self.stripe()), "email_change")
        self.attempts = max([self.attempts, *(job.attempts for job, _ in begun)])
        return begun

    def work(self, stripe: StripeAccess | None = None) -> list[Answer]:
        emails, answers = Emails(stripe or self.stripe()), list[Answer]()
        for job, change in self.begin():
            answers.append(emails.do(job, change))
            emails.record(self.shop.worker, job, change, answers[-1])
        return answers

    def make_due(self) -> None:
        make_jobs_due(self.shop.app)

    def email(self, customer_id: str | None = None) -> str | None:
        return self.local.client.customers.retrieve(customer_id or self.customer_id).email

    def held(self) -> tuple[bool, str | None, int]:
        """Settled, last error, attempts of this worker."""
        row = self.shop.app.execute(
            "select settled_at is not null, last_error from billing.customer_email_changes"
        ).fetchone()
        assert row is not None
        return (*row, self.attempts)


@pytest.fixture
def till(database: Database) -> Iterator[Till]:
    with contextmanager(_serve)(None) as local, opened(database, StripeReader(KEY, local.url)) as shop:
        user_id = create_user(database, OLD)
        account_id = account_of(shop.app, user_id)
        customer = local.client.customers.create({"email": OLD})
        shop.app.execute("select billing.link_customer(%s, %s)", [account_id, customer.id])
        yield Till(shop, local, user_id, account_id, customer.id)


def test_the_customer_gets_the_new_address_once(till: Till) -> None:
    assert till.work() == []
    till.rename(NEW)
    assert till.work() == [Answer(True)]
    assert (till.email(), till.held()) == (NEW, (True, None, 1))
    assert till.work() == []


def test_to_write_it_twice_is_to_write_it_once(till: Till) -> None:
    till.rename(NEW)
    [(_, change)] = till.begin()
    assert [write(till.stripe(), change), write(till.stripe(), change)] == [Answer(True), Answer(True)]
    assert till.local.event_types().count("customer.updated") == 1


def test_an_address_of_its_own_stays(till: Till) -> None:
    till.local.client.customers.update(till.customer_id, {"email": "books@example.org"})
    till.rename(NEW)
    [answer] = till.work()
    assert answer.is_settled
    assert till.email() == "books@example.org"
    assert till.held() == (True, "the customer has an address of its own in Stripe", 1)


def test_case_makes_no_other_address(till: Till) -> None:
    till.local.client.customers.update(till.customer_id, {"email": OLD.title()})
    till.rename(NEW)
    assert till.work() == [Answer(True)]
    assert till.email() == NEW


def test_a_customer_without_an_address_gets_the_first(till: Till) -> None:
    till.rename(None)
    assert till.work() == []
    till.local.world.store.get("customer", till.customer_id)["email"] = None
    till.rename(NEW)
    assert till.work() == [Answer(True)]
    assert till.email() == NEW


@pytest.mark.parametrize("is_written", [False, True], ids=["nothing was written", "the first was written"])
def test_of_two_changes_the_last_stands_whatever_became_of_the_first(till: Till, is_written: bool) -> None:
    till.rename(NEW)
    [(job, change)] = till.begin()
    if is_written:
        write(till.stripe(), change)
    till.rename(THIRD)
    Emails(till.stripe()).record(till.shop.worker, job, change, Answer(True))
    assert till.held()[0] is False
    assert till.work() == [Answer(True)]
    assert (till.email(), till.held()[0]) == (THIRD, True)


def test_there_and_back_again(till: Till) -> None:
    till.rename(NEW)
    till.work()
    till.rename(OLD)
    till.work()
    assert till.email() == OLD
    till.rename(NEW)
    till.rename(OLD)
    assert till.work() == [Answer(True)]
    assert till.email() == OLD


def test_every_customer_of_the_owner_follows_and_no_one_else_s(till: Till, database: Database) -> None:
    client = till.local.client
    mine, other = client.customers.create({"email": OLD}).id, client.customers.create({"email": OLD}).id
    team = till.shop.value(
        "insert into billing.accounts (kind, owner_id) values ('team', %s) returning id", till.user_id
    )
    till.shop.app.execute("select billing.link_customer(%s, %s)", [team, mine])
    stranger = account_of(till.shop.app, create_user(database))
    till.shop.app.execute("select billing.link_customer(%s, %s)", [stranger, other])
    till.rename(NEW)
    till.work()
    assert [till.email(), till.email(mine), till.email(other)] == [NEW, NEW, OLD]


def handed_over(till: Till, database: Database) -> tuple[UUID, str]:
    """A team of the user, with a customer, goes to another user."""
    customer = till.local.client.customers.create({"email": OLD}).id
    [team] = till.shop.app.execute(
        "select id from billing.create_team('Rocket', %s)", [till.user_id]
    ).fetchall()
    till.shop.app.execute("select billing.link_customer(%s, %s)", [team[0], customer])
    heir = create_user(database, NEW)
    till.shop.app.execute("select billing.add_member(%s, %s, 'admin')", [team[0], heir])
    till.shop.app.execute("select billing.transfer_ownership(%s, %s)", [team[0], heir])
    return team[0], customer


def test_receipts_of_a_team_that_was_handed_over_go_to_its_new_owner(till: Till, database: Database) -> None:
    _, customer = handed_over(till, database)
    till.work()
    assert [till.email(customer), till.email()] == [NEW, OLD]


def test_a_teams_own_address_stays_when_it_is_handed_over(till: Till, database: Database) -> None:
    update = till.local.client.customers.update
    _, customer = handed_over(till, database)
    update(customer, {"email": "books@example.org"})
    till.work()
    assert till.email(customer) == "books@example.org"


def test_a_deleted_customer_is_left_alone(till: Till) -> None:
    till.local.client.customers.delete(till.customer_id)
    till.rename(NEW)
    [answer] = till.work()
    assert (answer.is_settled, till.held()[0]) == (True, True)


@pytest.mark.parametrize("fault", ["429", "500", "timeout"])
def test_requests_are_repeated_until_stripe_answers(till: Till, fault: str) -> None:
    till.rename(NEW)
    till.local.world.faults.set({"api": {fault: 1}})
    for attempts in (1, 2):
        [answer] = till.work(till.stripe(timeout_seconds=0.3))
        assert till.held() == (False, answer.reason, attempts)
        assert till.work() == [], "not before its time"
        till.make_due()
    till.local.world.faults.set({})
    assert till.work() == [Answer(True)]
    assert till.email() == NEW


@pytest.mark.parametrize(
    ("key", "base", "word"),
    [
        (None, None, "STRIPE_API_KEY is not set"),
        ("nonsense", None, "STRIPE_API_KEY"),
        (KEY, "http://127.0.0.1:1", ""),
    ],
    ids=["no_key", "wrong_key", "nobody_there"],
)
def test_what_a_person_must_mend_says_so_and_is_tried_again(
    till: Till, key: str | None, base: str | None, word: str
) -> None:
    till.rename(NEW)
    [answer] = till.work(StripeAccess(key, base or till.local.url))
    assert not answer.is_settled
    assert word in (answer.reason or "")
    assert till.held()[0] is False


def test_a_customer_that_stripe_does_not_know_is_believed_to_a_key_of_ours_only(till: Till) -> None:
    gone = EmailChange(1, "cus_gone", [OLD], NEW)
    assert write(till.stripe(), gone).is_settled
    assert not write(till.stripe(is_our_key=lambda: False), gone).is_settled


def test_changing_an_address_never_fails(till: Till) -> None:
    with till.shop.database.connect(admin=True) as admin:
        admin.execute("alter table billing.customer_email_changes rename to broken")
    till.rename(NEW)
    assert till.shop.value("select email from auth.users where id = %s", till.user_id) == NEW


def test_a_running_worker_follows_by_itself(till: Till) -> None:
    stop = threading.Event()
    thread = threading.Thread(target=run, args=[Settings(till.shop.database.url, KEY, till.local.url), stop])
    thread.start()
    try:
        till.rename(NEW)
        until(lambda: till.email() == NEW)
    finally:
        stop.set()
        thread.join(30)


def test_a_change_that_postgres_refuses_to_settle_is_tried_again(till: Till) -> None:
    till.rename(NEW)
    [(job, change)] = till.begin()
    Emails(till.stripe()).put_off(till.shop.worker, job, change, "refused", 900)
    assert till.held() == (False, "refused", 1)
    assert till.work() == [], "not before its time"
    till.make_due()
    assert till.work() == [Answer(True)]


# What a new customer is made of


def claim(shop: Shop, account_id: UUID) -> dict[str, Any]:
    """The call of Stripe that makes it, and the claim's token."""
    claimed = shop.value("select billing._claim_customer(%s, false)", account_id)
    [create] = claimed["calls"]
    return create | {"token": claimed["token"]}


@pytest.mark.parametrize(
    ("metadata", "name"),
    [
        ('{"full_name": " Ada Lovelace ", "name": "Ada"}', "Ada Lovelace"),
        ('{"name": "Ada"}', "Ada"),
        ('{"full_name": ""}', None),
        ("{}", None),
        (None, None),
    ],
)
def test_a_customer_is_made_with_the_name_that_the_user_has(
    shop: Shop, metadata: str | None, name: str | None
) -> None:
    user_id = create_user(shop.database)
    with shop.database.connect(admin=True) as admin:
        admin.execute("update auth.users set raw_user_meta_data = %s where id = %s", [metadata, user_id])
    assert claim(shop, account_of(shop.app, user_id))["params"].get("name") == name


def test_a_team_s_customer_has_the_team_s_name_of_a_length_that_stripe_takes(shop: Shop) -> None:
    team = shop.value("insert into billing.accounts (kind, name) values ('team', %s) returning id", "A" * 300)
    assert claim(shop, team)["params"]["name"] == "A" * 256


def test_a_name_that_changes_does_not_change_what_a_key_was_used_for(shop: Shop) -> None:
    team = shop.value("insert into billing.accounts (kind, name) values ('team', 'Before') returning id")
    before = claim(shop, team)
    shop.app.execute("update billing.accounts set name = 'After' where id = %s", [team])
    assert claim(shop, team) == before


def test_an_address_that_changed_between_claim_and_customer_follows(till: Till, database: Database) -> None:
    user_id = create_user(database, "first@example.com")
    account_id = account_of(till.shop.app, user_id)
    made = claim(till.shop, account_id)
    with database.connect(admin=True) as admin:
        admin.execute("update auth.users set email = %s where id = %s", [THIRD, user_id])
    customer = till.local.client.customers.create(
        made["params"], {"idempotency_key": made["idempotency_key"]}
    )
    till.shop.app.execute(
        "select billing._link_claimed_customer(%s, %s, %s)", [account_id, made["token"], customer.id]
    )
    assert till.work() == [Answer(True)]
    assert till.email(customer.id) == THIRD


def test_an_older_address_that_is_written_late_is_written_over(till: Till) -> None:
    till.rename(NEW)
    [(_, late)] = till.begin()
    till.rename("newest@example.com")
    assert till.work() == [Answer(True)]
    assert till.email() == "newest@example.com"
    # The first attempt goes on in its thread only now.
    till.local.client.customers.update(till.customer_id, {"email": NEW})
    till.shop.worker.execute(
        "select billing.record_email_change(%s, %s, %s, null, null)",
        [late.msg_id, late.stripe_customer_id, NEW],
    )
    assert till.work() == [Answer(True)]
    assert till.email() == "newest@example.com"


def test_an_app_that_holds_the_change_does_not_hold_the_worker(till: Till) -> None:
    till.rename(NEW)
    [(_, change)] = till.begin()
    with till.shop.database.connect(autocommit=False) as app:
        app.execute("update auth.users set email = 'open@example.com' where id = %s", [till.user_id])
        with pytest.raises(psycopg.errors.LockNotAvailable):
            till.shop.worker.execute(
                "select billing.record_email_change(%s, %s, %s, null, null)",
                [change.msg_id, change.stripe_customer_id, NEW],
            )

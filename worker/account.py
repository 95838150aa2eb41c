"""Checks that STRIPE_API_KEY belongs to the Stripe account and the mode of this database.

With a key of another account, Stripe answers 404 for every object, as for a deleted one. So a 404 is ignored until
the key's account is known, and a worker with a wrong key stops at once. Ordinary events need no key and do not wait
for the check.
"""

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

import stripe
import structlog
from psycopg import Connection
from psycopg.rows import class_row

from worker.background import in_background
from worker.errors import WrongStripeKey
from worker.settings import is_live
from worker.stripe_api import KeyRefused, NotFound, opened_client, trouble_of

ASK_AGAIN_SECONDS = 30.0
REQUEST_TIMEOUT_SECONDS = 8

Told = TypeVar("Told")

log = structlog.stdlib.get_logger()


@dataclass(frozen=True, slots=True)
class Installation:
    """What a key must match. The witness is an event with our signature: only keys of our account can read it."""

    stripe_account_id: str | None
    livemode: bool
    witness_event_id: str | None


@dataclass(frozen=True, slots=True)
class Answer:
    """Stripe's answer about a key; None if the key lacks the permission."""

    stripe_account_id: str | None
    has_witness: bool | None


class KeyCheck:
    """Reads the key's account from Stripe in the background, and checks it on the worker's connection."""

    def __init__(self, api_key: str | None, api_base: str | None) -> None:
        self.is_ours = False
        self._api_key = api_key
        self._api_base = api_base
        self._asked: Future[Answer] | None = None
        self._next_seconds = float("-inf")

    def tick(self, conn: Connection[Any], now_seconds: float) -> None:
        """Start a check if one is due, and process the last answer. Raises WrongStripeKey, psycopg.Error."""
        key = self._api_key
        if key is None or self.is_ours:
            return
        if self._asked is None:
            if now_seconds >= self._next_seconds:
                self._next_seconds = now_seconds + ASK_AGAIN_SECONDS
                installation = read_installation(conn)
                check_mode(key, installation)
                self._asked = in_background("account", lambda: ask(key, self._api_base, installation))
            return
        if not self._asked.done():
            return
        asked, self._asked = self._asked, None
        try:
            answer = asked.result()
        except Exception as error:  # Stripe is unavailable, or refuses the key, or a proxy answers
            log.warning("stripe_key_not_checked", error=str(trouble_of(error, is_our_key=False)))
        else:
            self.is_ours = judge(conn, answer)
            if not self.is_ours:
                log.warning("stripe_key_not_checked", **_doubt(answer))


def read_installation(conn: Connection[Any]) -> Installation:
    """The Stripe account and mode of the database."""
    with conn.cursor(row_factory=class_row(Installation)) as cursor:
        installation = cursor.execute(
            "select stripe_account_id, livemode, witness_event_id from billing.stripe_account()"
        ).fetchone()
    assert installation is not None
    return installation


def check_mode(api_key: str, installation: Installation) -> None:
    """Raises WrongStripeKey for a key of the other mode."""
    mode = is_live(api_key)
    if mode is not None and mode != installation.livemode:
        ours, its = ("live", "test") if installation.livemode else ("test", "live")
        raise WrongStripeKey(
            f"STRIPE_API_KEY is a key of {its} mode, and this installation is in {ours} mode: export a key of "
            f"{ours} mode, or set billing.settings.livemode"
        )


def ask(api_key: str, api_base: str | None, installation: Installation) -> Answer:
    """The key's account, and if that is not enough, whether it can read an event of our account. Raises
    stripe.StripeError.
    """
    with opened_client(api_key, api_base, REQUEST_TIMEOUT_SECONDS) as client:
        account_id = _permitted(lambda: client.v1.accounts.retrieve_current().id)
        witness = installation.witness_event_id
        if witness is None or (account_id is not None and installation.stripe_account_id is not None):
            return Answer(account_id, None)
        return Answer(account_id, _permitted(lambda: _has_event(client.v1, witness)))


def judge(conn: Connection[Any], answer: Answer) -> bool:
    """Whether the key is known to be ours; sets the database's account if none is set. Raises WrongStripeKey."""
    if answer.stripe_account_id is None or answer.has_witness is False:
        return check_answer(answer, None)
    row = conn.execute(
        "select billing.claim_stripe_account(stripe_account_id => %s)", [answer.stripe_account_id]
    ).fetchone()
    assert row is not None
    return check_answer(answer, row[0])


def check_answer(answer: Answer, ours: str | None) -> bool:
    """Whether the key is known to be of the account `ours`, if that is set. Raises WrongStripeKey if it is not."""
    its = answer.stripe_account_id
    if its is None and answer.has_witness is False:
        raise WrongStripeKey(
            "STRIPE_API_KEY belongs to another Stripe account than the events in the database: export a key of "
            "that account"
        )
    if its is not None and ours is not None and its != ours:
        raise WrongStripeKey(
            f"STRIPE_API_KEY is a key of Stripe account {its}, and this installation belongs to {ours}: export a key "
            f"of {ours}, or set billing.settings.stripe_account_id to null if it has moved"
        )
    return answer.has_witness is not False and (its is not None or answer.has_witness is True)


def _doubt(answer: Answer) -> dict[str, str]:
    """Why a key is neither accepted nor refused yet, and what to do."""
    if answer.stripe_account_id is None:
        return {
            "error": "the key may not read its Stripe account",
            "hint": "give it read permission on events, or use a secret key",
        }
    return {
        "error": f"the newest event in the database does not belong to Stripe account {answer.stripe_account_id}",
        "hint": "export a key of the Stripe account that sends its webhooks here",
    }


def _has_event(v1: Any, event_id: str) -> bool:
    try:
        v1.events.retrieve(event_id)
    except stripe.StripeError as error:
        # Whose key it is, is what this asks: that it does not find the event is the answer.
        if isinstance(trouble_of(error, is_our_key=True), NotFound):
            return False
        raise
    return True


def _permitted(ask: Callable[[], Told]) -> Told | None:
    try:
        return ask()
    except stripe.StripeError as error:
        match trouble_of(error, is_our_key=True):
            case KeyRefused(is_known=True):
                return None
            case _:
                raise

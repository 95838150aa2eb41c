"""Recharges that are due → one off-session payment each at Stripe → paid, failed, or waiting for somebody.

A recharge is claimed in the database, by the movement that brought the balance below its threshold. Stripe is asked
outside any transaction, in a thread of its own, so that the queue never waits for a bank.
"""

from collections.abc import Callable
from typing import Any

import structlog
from psycopg import Connection

from worker import metrics
from worker.jobs.errands import Errands
from worker.jobs.recharges import Answer, Recharge, Unknown, delay, settle, take

# A recharge that Postgres refuses to settle waits for a person, and is tried again meanwhile.
REFUSED_SECONDS = 900

log = structlog.stdlib.get_logger()


class Recharger(Errands[Recharge, Answer | Unknown]):
    """Takes what is due, has it charged in the background, and writes down what became of it, on one connection."""

    name = "recharge"

    def __init__(self, charge: Callable[[Recharge], Answer | Unknown]) -> None:
        super().__init__()
        self._charge = charge

    def take(self, conn: Connection[Any], tasks_max: int) -> list[Recharge]:
        return take(conn, tasks_max)

    def do(self, task: Recharge) -> Answer | Unknown:
        return self._charge(task)

    def settle(self, conn: Connection[Any], task: Recharge, answer: Answer | Unknown) -> None:
        outcome = settle(conn, task, answer)
        metrics.RECHARGES.labels(outcome).inc()
        told = self.describe(task) | {"outcome": outcome}
        if isinstance(answer, Unknown):
            log.warning("recharge_delayed", **told, reason=answer.reason)
        elif answer.reason is not None:
            log.warning("recharge_stopped", **told, reason=answer.reason)
        else:
            log.info("recharged", **told)

    def put_off(self, conn: Connection[Any], task: Recharge, reason: str) -> None:
        metrics.RECHARGES.labels("refused").inc()
        delay(conn, task, REFUSED_SECONDS, reason)

    def describe(self, task: Recharge) -> dict[str, str]:
        return {"recharge_id": str(task.id)}

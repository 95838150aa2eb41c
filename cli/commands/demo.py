"""`till demo`: the whole story on a stack of its own, step by step, with the ledger's proof at the end."""

import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, LiteralString

import psycopg
from psycopg.rows import dict_row
from rich.panel import Panel
from rich.table import Table

from cli.app import App
from cli.output import CliError, err, out, print_rows

if TYPE_CHECKING:
    from cli.shop import Buyer, Shop

app = App(panel="Local stack")


@app.command()
def demo() -> None:
    """Play a purchase, refund and dispute on a temporary stack."""
    from cli.shop import Shop
    from devstack.stack import Stack

    with tempfile.TemporaryDirectory(prefix="till-demo-") as name:
        state = Path(name)
        state.chmod(0o711)  # as root, Postgres runs as another user and must get through
        with err.status("starting the local stack") as status:
            stack = Stack.start(state, durable=False, report=status.update)
        with stack, Shop(stack.settings) as shop:
            Story(shop).play()


class Story:
    """Ada buys a plan and uses it; every figure shown is read back from the database."""

    def __init__(self, shop: "Shop") -> None:
        self._shop = shop
        self._now = datetime.now(UTC).replace(microsecond=0)
        self._steps = 0

    def play(self) -> None:
        """Play it all. Raises CliError where a figure is not what it should be."""
        shop = self._shop
        out.print(Panel("Tillbase: Stripe money in, credits out, every credit accounted for", expand=False))

        price = shop.plan("Pro", unit_amount=1900, initial_credits=500, monthly_credits=1000)
        shop.settle()
        plan = self._read_as_anon("select name, initial_credits, monthly_credits from public.billing_plans")[
            0
        ]
        self._tell(
            f"A plan is made in Stripe, its credits in the price's metadata. A visitor reads: {plan['name']}, "
            f"{plan['initial_credits']:,} credits at the start, {plan['monthly_credits']:,} each month"
        )

        clock = shop.clock(self._now)
        ada = shop.sign_up("ada@example.com", clock=clock)
        self._tell(f"Ada signs up; her account is there at once, with {self._balance(ada):,} credits")

        subscription = shop.pay_checkout(ada, price)
        shop.settle()
        self._tell(
            "Ada pays the Checkout page; Stripe's signed events go through the edge function and the queue"
        )
        self._expect(ada, 1500, "initial and monthly credits, granted once by what was paid for")

        self._deliver_again(ada)
        self._spend(ada)

        shop.advance(clock, self._now + timedelta(days=32))
        shop.settle()
        status = self._read(ada, "select status, current_period_end from public.billing_subscription")[0]
        self._tell(
            f"A month passes; Stripe renews {subscription} ({status['status']} until "
            f"{status['current_period_end']:%d %b %Y})"
        )
        self._expect(ada, 2260, "this month's credits, once")

        self._refund(ada)
        self._dispute(ada)
        self._fraud(ada)
        self._prove(ada)

    def _deliver_again(self, buyer: "Buyer") -> None:
        event = self._shop.stripe.events.list({"types": ["invoice.paid"], "limit": 1}).data[0]
        self._shop.control("post", f"/events/{event.id}/deliver", {"times": 20})
        self._shop.control("post", f"/events/{event.id}/deliver", {"as_new_event": True})
        self._shop.settle()
        self._tell(
            "Stripe delivers invoice.paid 20 times more, and reports the payment with a second event too"
        )
        self._expect(buyer, 1500, "still granted once")

    def _spend(self, buyer: "Buyer") -> None:
        with self._shop.connect() as conn:
            for job, amount in (("render-1", 120), ("render-2", 80), ("render-3", 40), ("render-3", 40)):
                conn.execute(
                    "select billing.spend_credits(account_id => %s, amount => %s, idempotency_key => %s, "
                    "description => %s)",
                    [buyer.account_id, amount, job, f"Rendered {job}"],
                )
            self._tell(
                "The app spends 120, 80 and 40 credits, the last one twice by mistake, with the same key"
            )
            self._expect(buyer, 1260, "each key once")
            self._refused(conn, buyer, 5000, "TB001")

    def _refund(self, buyer: "Buyer") -> None:
        self._shop.stripe.refunds.create({"charge": self._shop.newest_charge(buyer), "amount": 760})
        self._shop.settle()
        self._tell("Ada is refunded 7.60 of the 19.00 that the month cost")
        self._expect(buyer, 1860, "40 % of that month's 1,000 credits were revoked")

    def _dispute(self, buyer: "Buyer") -> None:
        charge = self._shop.buy_pack(buyer, self._shop.pack("Boost", unit_amount=900, pack_credits=500))
        self._shop.settle()
        self._tell("Ada buys a pack of 500 credits")
        self._expect(buyer, 2360, "the pack's credits")
        dispute = self._shop.control("post", f"/charges/{charge}/dispute")["id"]
        self._shop.settle()
        self._tell("Her bank disputes that payment: its credits are frozen until it is decided")
        self._expect_available(buyer, 1860, "500 of 2,360 are frozen, not gone")
        self._shop.stripe.disputes.update(
            dispute, {"evidence": {"uncategorized_text": "winning_evidence"}, "submit": True}
        )
        self._shop.settle()
        status = self._first("select status from billing.disputes", [])["status"]
        self._tell(f"Evidence is submitted, as `till fraud evidence` collects it; the dispute is {status}")
        self._expect_available(buyer, 2360, "free again")

    def _fraud(self, buyer: "Buyer") -> None:
        charge = self._shop.pay_once(buyer, 1900)
        self._shop.control("post", f"/charges/{charge}/outcome", {"risk_level": "highest"})
        self._shop.control(
            "post", f"/charges/{charge}/early_fraud_warning", {"fraud_type": "made_with_stolen_card"}
        )
        self._shop.settle()
        warning = self._first("select fraud_type, risk_level from billing.fraud_warnings", [])
        account = self._read(buyer, "select status, frozen_reason from public.billing_account")[0]
        self._tell(
            f"The card's issuer sends an early fraud warning ({warning['fraud_type']}); its charge, read from "
            f"Stripe, has risk level {warning['risk_level']}: the account is {account['status']}, and Ada reads why "
            f"({account['frozen_reason'].split(' issfr_')[0]})"
        )
        with self._shop.connect() as conn:
            self._refused(conn, buyer, 10, "TB003")

    def _refused(self, conn: psycopg.Connection[Any], buyer: "Buyer", amount: int, code: str) -> None:
        try:
            conn.execute(
                "select billing.spend_credits(%s, %s, %s)", [buyer.account_id, amount, f"refused-{code}"]
            )
        except psycopg.Error as error:
            if error.sqlstate == code:
                self._tell(f"Spending {amount:,} is refused: {error.diag.message_primary} ({code})")
                return
            raise
        raise CliError(f"spending {amount} should have been refused with {code}")

    def _prove(self, buyer: "Buyer") -> None:
        history = self._read(
            buyer, "select kind, amount, balance_after, description from public.credit_history order by id"
        )
        out.print()
        print_rows(history, as_json=False, empty="", numbers=("amount", "balance_after"))
        events = self._first(
            "select count(*) as received, count(*) filter (where status = 'dead') as dead from billing.stripe_events",
            [],
        )
        discrepancies = self._first("select count(*) as found from billing.ledger_discrepancies", [])["found"]
        out.print()
        out.print(f"events received: {events['received']}, dead letters: {events['dead']}", highlight=False)
        out.print(f"balance as Ada reads it: {self._balance(buyer)}", highlight=False)
        out.print(f"ledger discrepancies: {discrepancies}", highlight=False)
        if events["dead"] or discrepancies:
            raise CliError(
                "the demo ended with dead letters or discrepancies; this is a bug, please report it"
            )

    def _expect(self, buyer: "Buyer", credits: int, why: str) -> None:
        self._check("her balance", self._balance(buyer), credits, why)

    def _expect_available(self, buyer: "Buyer", credits: int, why: str) -> None:
        available = self._read(buyer, "select available from public.credit_balance")[0]["available"]
        self._check("what she can spend", available, credits, why)

    def _check(self, what: str, found: int, credits: int, why: str) -> None:
        if found != credits:
            raise CliError(
                f"Ada has {found} credits where {credits} were expected ({why}); this is a bug, please report it"
            )
        out.print(_line("", f"[green]→ Ada reads {what}: [bold]{found:,}[/bold] credits[/] [dim]({why})[/]"))

    def _balance(self, buyer: "Buyer") -> int:
        return self._read(buyer, "select balance from public.credit_balance")[0]["balance"]

    def _tell(self, text: str) -> None:
        self._steps += 1
        out.print(_line(f"[bold cyan]{self._steps}[/]", text))

    def _read(self, buyer: "Buyer", query: LiteralString) -> Sequence[dict[str, Any]]:
        """What the user's own client reads: the role and claims that the Data API sets for a signed-in user."""
        return self._read_as("authenticated", f'{{"sub": "{buyer.user_id}", "role": "authenticated"}}', query)

    def _read_as_anon(self, query: LiteralString) -> Sequence[dict[str, Any]]:
        return self._read_as("anon", '{"role": "anon"}', query)

    def _read_as(self, role: LiteralString, claims: str, query: LiteralString) -> Sequence[dict[str, Any]]:
        with self._shop.connect() as conn, conn.transaction(), conn.cursor(row_factory=dict_row) as cursor:
            cursor.execute("select set_config('request.jwt.claims', %s, true)", [claims])
            cursor.execute(f"set local role {role}")
            return cursor.execute(query).fetchall()

    def _first(self, query: LiteralString, parameters: list[Any]) -> dict[str, Any]:
        with self._shop.connect() as conn, conn.cursor(row_factory=dict_row) as cursor:
            found = cursor.execute(query, parameters).fetchone()
        assert found is not None
        return found


def _line(number: str, text: str) -> Table:
    line = Table.grid(padding=(0, 2))
    line.add_column(width=2, justify="right")
    line.add_column()
    line.add_row(number, text)
    return line

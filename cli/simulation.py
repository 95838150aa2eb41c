"""What the simulator needs of the command line: a plan file to Stripe, and what `till reconcile` finds."""

from dataclasses import dataclass
from pathlib import Path

from cli.database import connect
from cli.output import CliError
from cli.plans.catalogue import StripeAccount
from cli.plans.changes import steps
from cli.plans.database import push_database
from cli.plans.file import PlanFile
from cli.plans.push import take
from cli.plans.read import read_plan_file
from cli.reconcile.apply import apply as bring
from cli.reconcile.compare import compare
from cli.reconcile.report import findings_of, of_database, of_stripe
from cli.reconcile.stripe_lists import StripeLists
from worker.stripe_api import opened_client

REQUEST_SECONDS = 30


def declared(plans: Path) -> PlanFile:
    """What a plan file sells. Raises CliError with what is wrong in it, or if it sells nothing."""
    file = read_plan_file(plans)
    if not file.prices:
        raise CliError(f"{plans}: sells nothing: write [plans.<lookup key>] or [packs.<lookup key>]")
    return file


@dataclass(frozen=True, slots=True)
class CommandLine:
    """`till plans push` and `till reconcile`, against a Stripe and a database of the simulator's."""

    declared: PlanFile

    def push(self, postgres_url: str, stripe_url: str, key: str) -> None:
        """Bring the file's products and prices to a Stripe that has none, and its operations to the database."""
        with connect(postgres_url) as conn:
            push_database(conn, self.declared.model_copy(update={"free_credits": {}}), yes=True)
        with opened_client(key, stripe_url, REQUEST_SECONDS) as client:
            account = StripeAccount(client)
            take(account, steps(self.declared, account.read_catalogue(lambda _: None)), lambda: None)

    def reconcile(self, postgres_url: str, stripe_url: str, key: str) -> list[str]:
        """What `till reconcile --apply` finds, and queues as far as Stripe says it."""
        with connect(postgres_url) as conn, opened_client(key, stripe_url, REQUEST_SECONDS) as client:
            # A local Stripe has no limit of requests.
            differences = list(compare(conn, StripeLists(client, None), None, lambda _what, _number: None))
            reported = of_stripe(conn, differences)
            bring(conn, [each.difference for each in reported if each.is_mendable])
            return [each.what for each in (*findings_of(reported), *of_database(conn))]

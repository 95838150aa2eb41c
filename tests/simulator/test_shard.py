"""A part of a Stripe that many share is to the oracle what a Stripe of its own is."""

from simulator.oracle.credits import Oracle
from simulator.oracle.reading import read
from simulator.shard import Shards
from tests.oracle.in_process import Stripe

START = 1_990_612_807
DAY = 86_400


def lived(stripe: Stripe, *quantities: int) -> list[str]:
    """One customer for each number of seats; each buys a plan and gets a part of the money back."""
    product = stripe.post("products", name="Pro")["id"]
    price = stripe.post(
        "prices", product=product, currency="usd", unit_amount=1000, recurring={"interval": "month"},
        metadata={"monthly_credits": "100"},
    )["id"]  # fmt: skip
    customers: list[str] = []
    for quantity in quantities:
        customer = stripe.post(
            "customers", test_clock=stripe.clock, payment_method="pm_card_visa",
            invoice_settings={"default_payment_method": "pm_card_visa"},
        )["id"]  # fmt: skip
        customers.append(customer)
        stripe.wait(60)
        stripe.post("subscriptions", customer=customer, items=[{"price": price, "quantity": quantity}])
        stripe.wait(60)
        charge = next(c for c in stripe.world.store.all("charge") if c["customer"] == customer)
        stripe.post("refunds", charge=charge["id"], amount=500)
        dispute = stripe.control("charges/{identifier}/dispute", charge["id"])["id"]
        stripe.wait(60)
        stripe.control("disputes/{identifier}/decide", dispute, status="won")
    stripe.wait(40 * DAY)
    return customers


def test_a_shard_reads_as_a_stripe_of_its_own() -> None:
    shared = Stripe(1, START)
    shards = Shards(shared.world)
    for customer, quantity in zip(lived(shared, 1, 3), (1, 3), strict=True):
        facts = read(shards.shard([customer]))
        assert len(facts.subscriptions) == 1
        assert (len(facts.invoices), len(facts.returns), len(facts.disputes)) == (2, 1, 1)
        assert Oracle(facts).at(shared.now).balance == 200 * quantity - 50


def test_a_shard_of_all_is_the_whole() -> None:
    shared = Stripe(1, START)
    shards = Shards(shared.world)
    customers = lived(shared, 1, 3)
    whole, together = read(shared.world), read(shards.shard(customers))
    assert Oracle(together).at(shared.now).balance == Oracle(whole).at(shared.now).balance == 700

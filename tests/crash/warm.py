"""What a worker loads when it first needs it, loaded before it is forked. Imported by the nursery's process only."""

import gc
import warnings
from contextlib import suppress

import worker.run  # noqa: F401
from worker.jobs.channels import administrator_channels
from worker.stripe_api import stripe_client

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    administrator_channels(["json://127.0.0.1:1"])
_v1 = stripe_client("sk_test_1", "http://127.0.0.1:1", 1).v1
with suppress(Exception):  # nobody answers
    _v1.accounts.retrieve_current()
for _service in (
    "customers",
    "events",
    "invoice_items",
    "invoices",
    "payment_intents",
    "payment_links",
    "refunds",
    "subscriptions",
):
    getattr(_v1, _service)
gc.collect()
gc.freeze()

"""A Stripe on localhost: its API, its webhooks and a clock that can be moved, for development and tests."""

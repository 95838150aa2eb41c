"""Queue of signed Stripe events → rows, credits and dead letters in the `billing` schema.

The modules in the order of the flow: inbox (read) → events (normalise) → fetch → decide → apply; drain joins
them, run keeps them going.
"""

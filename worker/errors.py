"""The worker's exceptions; their text says what to do next."""


class BillingError(Exception):
    """Something went wrong in billing."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or type(self).__doc__)


class SettingsError(BillingError):
    """A setting of the environment is missing or not valid."""


class WrongStripeKey(BillingError):
    """STRIPE_API_KEY belongs to another Stripe account, or to the other mode."""


class TransactionPooler(BillingError):
    """POSTGRES_URL leads to a transaction pooler: use the direct one, or the pooler in session mode (port 5432)."""


class MissingRight(BillingError):
    """The worker lacks a right in the database."""


class UnknownShape(BillingError):
    """The event's body has a shape that this version does not know."""


class StripeUnavailable(BillingError):
    """Stripe is unavailable; the same request may succeed later."""


class StripeRefused(BillingError):
    """Stripe refuses this request permanently."""


class StripeGone(StripeRefused):
    """The object was deleted in Stripe."""

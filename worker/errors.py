"""What can go wrong in the worker, as exceptions whose text says what to do next."""


class BillingError(Exception):
    """Something went wrong in billing."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or type(self).__doc__)


class SettingsError(BillingError):
    """The environment lacks a setting or has one that cannot be right."""


class WrongStripeKey(BillingError):
    """STRIPE_API_KEY is a key of another Stripe account, or of the other mode."""


class TransactionPooler(BillingError):
    """POSTGRES_URL leads to a transaction pooler: use the direct one, or the pooler in session mode (port 5432)."""


class UnknownShape(BillingError):
    """The event's body has a shape that this version does not know."""


class StripeUnavailable(BillingError):
    """Stripe could not be read just now; the same question later may get an answer."""


class StripeRefused(BillingError):
    """Stripe will not answer this question, however often it is asked."""


class StripeGone(StripeRefused):
    """Stripe no longer has an object of a kind that can be deleted there."""

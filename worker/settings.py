"""Environment → settings, read once at the start."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import psycopg
from psycopg.conninfo import conninfo_to_dict

from worker.errors import SettingsError


@dataclass(frozen=True, slots=True)
class Settings:
    """What the worker is told. Secrets stay out of its repr."""

    postgres_url: str = field(repr=False)
    stripe_api_key: str | None = field(default=None, repr=False)
    stripe_api_base: str | None = None
    metrics_host: str = "127.0.0.1"
    metrics_port: int | None = None

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> "Settings":
        """Read POSTGRES_URL, STRIPE_API_KEY, STRIPE_API_BASE and WORKER_METRICS_ADDRESS (host:port).

        Raises SettingsError with a line that says which variable to set.
        """
        url = environ.get("POSTGRES_URL", "").strip()
        if not url:
            raise SettingsError(
                "POSTGRES_URL is not set: give the connection string of your project "
                "(direct, or the pooler in session mode on port 5432)"
            )
        check_postgres_url(url)
        key = environ.get("STRIPE_API_KEY", "").strip() or None
        base = environ.get("STRIPE_API_BASE", "").strip() or None
        if base and key and "_live_" in key:
            raise SettingsError("STRIPE_API_BASE is set with a live key: unset one of them")
        host, port = _metrics_address(environ.get("WORKER_METRICS_ADDRESS", "").strip())
        return cls(url, key, base, host, port)


def check_postgres_url(url: str) -> None:
    """Raise SettingsError for what is no connection string, without repeating it: there is a password in it."""
    try:
        conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        raise SettingsError(
            "POSTGRES_URL is no connection string: write postgresql://user:password@host:port/database, "
            "special characters of the password percent-encoded"
        ) from None


def _metrics_address(text: str) -> tuple[str, int | None]:
    if not text:
        return "127.0.0.1", None
    try:
        address = urlsplit(f"//{text}")
        if address.hostname and address.port is not None:
            return address.hostname, address.port
    except ValueError:
        pass
    raise SettingsError(f"WORKER_METRICS_ADDRESS is {text!r}: give it as host:port, such as 127.0.0.1:9464")

"""Environment → settings, read once at the start."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
from psycopg.conninfo import conninfo_to_dict

from worker.errors import SettingsError, TransactionPooler

# Of Supavisor and the dedicated pooler; sessions.py detects any other pooler by its behaviour.
_TRANSACTION_POOLER_PORT = "6543"


@dataclass(frozen=True, slots=True)
class Settings:
    """The worker's settings. Secrets are not in its repr."""

    postgres_url: str = field(repr=False)
    stripe_api_key: str | None = field(default=None, repr=False)
    stripe_api_base: str | None = None
    metrics_host: str = "127.0.0.1"
    metrics_port: int | None = None
    notify_urls: tuple[str, ...] = field(default=(), repr=False)
    customer_mail_url: str | None = field(default=None, repr=False)
    templates_directory: Path | None = None

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> "Settings":
        """Read POSTGRES_URL, STRIPE_API_KEY, STRIPE_API_BASE, WORKER_METRICS_ADDRESS (host:port), and for notifications
        TILLBASE_NOTIFY_URLS (separated by spaces), TILLBASE_CUSTOMER_MAIL_URL, TILLBASE_TEMPLATES (a directory).

        Raises SettingsError that names the variable to set.
        """
        url = environ.get("POSTGRES_URL", "").strip()
        if not url:
            raise SettingsError(
                "POSTGRES_URL is not set: give the connection string of your project "
                "(direct, or the pooler in session mode on port 5432)"
            )
        check_postgres_url(url)
        _refuse_transaction_pooler(url)
        key = environ.get("STRIPE_API_KEY", "").strip() or None
        base = environ.get("STRIPE_API_BASE", "").strip() or None
        if base and key and is_live(key):
            raise SettingsError("STRIPE_API_BASE is set with a live key: unset one of them")
        host, port = _metrics_address(environ.get("WORKER_METRICS_ADDRESS", "").strip())
        notify_urls, mail_url, templates = notification_settings(environ)
        return cls(url, key, base, host, port, notify_urls, mail_url, templates)


def notification_settings(environ: Mapping[str, str]) -> tuple[tuple[str, ...], str | None, Path | None]:
    """The channels of administrators, the mail server for customers, and the operator's own templates."""
    templates = environ.get("TILLBASE_TEMPLATES", "").strip()
    if templates and not Path(templates).is_dir():
        raise SettingsError(f"TILLBASE_TEMPLATES is {templates!r}, which is not a directory")
    return (
        tuple(environ.get("TILLBASE_NOTIFY_URLS", "").split()),
        environ.get("TILLBASE_CUSTOMER_MAIL_URL", "").strip() or None,
        Path(templates) if templates else None,
    )


def is_live(api_key: str) -> bool | None:
    """The mode in a key's name: sk_live_…, rk_test_…; None if it has none."""
    kind, _, rest = api_key.partition("_")
    mode = rest.partition("_")[0] if kind in ("sk", "rk") else ""
    return {"live": True, "test": False}.get(mode)


def check_postgres_url(url: str) -> None:
    """Raise SettingsError if the text is not a connection string, without repeating it, because it has a password."""
    try:
        conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        raise SettingsError(
            "POSTGRES_URL is not a connection string: write postgresql://user:password@host:port/database, "
            "special characters of the password percent-encoded"
        ) from None


def _refuse_transaction_pooler(url: str) -> None:
    parts = conninfo_to_dict(url)
    host, port = str(parts.get("host", "")), str(parts.get("port", ""))
    if port == _TRANSACTION_POOLER_PORT and host.endswith((".supabase.com", ".supabase.co")):
        raise TransactionPooler


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

"""Setting → channels; a channel and a message → sent, or why not.

Each is a URL of apprise's (https://appriseit.com/services): mail goes by `mail`, all else by apprise. No URL, and
nothing of one that may be secret, is in what is logged or raised.
"""

import hashlib
import logging
import re
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import apprise
from apprise.plugins.email.base import NotifyEmail, PGPMode

from worker.errors import SettingsError
from worker.jobs.compose import Message
from worker.jobs.mail import MailServer, NeverDelivered, NotDelivered, send_mail

# By default apprise gives up after 4 s and reports a failure; a message that was accepted then would be sent twice.
ANSWER_SECONDS = 15
REST_FIRST_SECONDS = 2.0
REST_MAX_SECONDS = 120.0
REASON_LENGTH_MAX = 300
SECRET_LENGTH_MIN = 4

_HOST = re.compile(r"[a-z0-9-]+(\.[a-z0-9-]+)+(:\d+)?|localhost(:\d+)?")

_LIBRARY: Any = apprise.Apprise  # its types are incomplete
# Nothing is stored on disk, no thread is started, and texts are sent as they are.
_ASSET = apprise.AppriseAsset(
    app_id="Tillbase", app_desc="Tillbase", async_mode=False, interpret_escapes=False, interpret_emojis=False,
    storage_mode=apprise.PersistentStoreMode.MEMORY, secure_logging=True, allow_templates=False,
)  # fmt: skip
# It would print to stderr; its messages are read from its log records instead.
_LOGGER = logging.getLogger("apprise")
_LOGGER.addHandler(logging.NullHandler())
_LOGGER.propagate = False


@dataclass(slots=True)
class Channel:
    """One way to send. A channel that is down is skipped for a while, so that messages by other channels don't wait."""

    name: str
    secrets: tuple[str, ...] = field(repr=False)
    deliver: Callable[[Message, str], None] = field(repr=False)
    clock: Callable[[], float] = time.monotonic
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _rests_until: float = float("-inf")
    _rest_seconds: float = 0.0
    _trouble: str = ""

    def send(self, message: Message, address: str = "") -> None:
        """Hand a message over, to `address` where the URL names none. Raises NeverDelivered or NotDelivered, without
        secrets."""
        with self._lock:
            if self.clock() < self._rests_until:
                raise NotDelivered(self._trouble)
        try:
            self.deliver(message, address)
        except NeverDelivered as error:
            raise NeverDelivered(self._redacted(str(error))) from None
        except NotDelivered as error:
            reason = self._redacted(str(error))
            if error.is_down:
                self._rest(reason)
            raise NotDelivered(reason, is_down=error.is_down) from None
        except Exception as error:  # a bug, with any text; the other channels continue
            self._rest(type(error).__name__)
            raise NotDelivered(type(error).__name__) from None
        with self._lock:
            self._rest_seconds = 0.0

    def _rest(self, reason: str) -> None:
        with self._lock:
            self._rest_seconds = min(max(self._rest_seconds * 2, REST_FIRST_SECONDS), REST_MAX_SECONDS)
            self._rests_until = self.clock() + self._rest_seconds
            self._trouble = reason

    def _redacted(self, reason: str) -> str:
        reason = " ".join(reason.replace("\x00", " ").split())
        for secret in self.secrets:
            reason = reason.replace(secret, "***")
        return reason[:REASON_LENGTH_MAX]


def administrator_channels(urls: Iterable[str]) -> list[Channel]:
    """A channel for each URL, and for each address of a mailto:// one. Raises SettingsError."""
    found: dict[str, Channel] = {}
    for place, url in enumerate(urls, start=1):
        service = _service(url, f"TILLBASE_NOTIFY_URLS, no. {place}")
        if isinstance(service, NotifyEmail):
            server = _server(service)
            channels = [_mail_channel(server, url, address) for address in _addresses(service)]
        else:
            channels = [
                Channel(_name(url), _secrets(url), lambda message, _address, url=url: _deliver(url, message))
            ]
        found |= {channel.name: channel for channel in channels}
    return list(found.values())


def customer_channel(url: str) -> Channel:
    """Mail to an account's owner: server and sender of a mailto:// URL. Raises SettingsError."""
    service = _service(url, "TILLBASE_CUSTOMER_MAIL_URL")
    if not isinstance(service, NotifyEmail):
        raise SettingsError("TILLBASE_CUSTOMER_MAIL_URL is no mailto:// or mailtos:// URL")
    server = _server(service)
    if server.copies or server.blind_copies:
        raise SettingsError("TILLBASE_CUSTOMER_MAIL_URL has cc or bcc: each customer's mail is their own")
    return Channel("customer", _secrets(url), lambda message, address: send_mail(server, address, message))


def _service(url: str, setting: str) -> Any:
    service = _LIBRARY.instantiate(url, asset=_ASSET)
    if service is None:
        raise SettingsError(f"{setting}: apprise knows no such URL. See https://appriseit.com/services")
    if isinstance(service, NotifyEmail) and service.pgp_mode != PGPMode.NONE:
        raise SettingsError(f"{setting}: pgp is not supported")
    return service


def _server(service: Any) -> MailServer:
    return MailServer(
        host=service.smtp_host,
        port=service.port,
        mode=service.secure_mode,
        sender=service.from_addr[1],
        sender_name=service.from_addr[0] or "Tillbase",
        user=service.user,
        password=service.password,
        verify_certificate=service.verify_certificate,
        copies=tuple(sorted(service.cc)),
        blind_copies=tuple(sorted(service.bcc)),
        reply_to=tuple(sorted(service.reply_to)),
        headers=dict(service.headers),
    )


def _addresses(service: Any) -> list[str]:
    return [address for _, address in service.targets]


def _mail_channel(server: MailServer, url: str, address: str) -> Channel:
    return Channel(
        _name(url, address), _secrets(url), lambda message, _address: send_mail(server, address, message)
    )


def _deliver(url: str, message: Message) -> None:
    """By any other service that apprise supports."""
    # Created for each message, because it has the message's headers.
    service = _LIBRARY.instantiate(url, asset=_ASSET)
    if "rto=" not in url:
        service.socket_read_timeout = ANSWER_SECONDS
    if isinstance(getattr(service, "headers", None), dict):
        service.headers["Idempotency-Key"] = message.key
    if _schema(url) in ("json", "jsons"):
        service.payload_extras.update(message.facts)
    sender = _LIBRARY(asset=_ASSET)
    sender.add(service)
    told: list[str] = []

    def note(entry: Any, _service: Any) -> None:
        told.append(entry.message)

    result = sender.notify(
        body=message.text, title=message.subject, body_format=apprise.NotifyFormat.TEXT,
        notify_type=apprise.NotifyType.WARNING, log_level=logging.WARNING, log_callback=note,
    )  # fmt: skip
    if not result:
        raise NotDelivered("; ".join(told) or "it was not taken")


def _name(url: str, address: str = "") -> str:
    """A name that identifies the channel and reveals nothing else: mailto-5f2c…"""
    digest = hashlib.sha256(f"{url} {address}".encode()).hexdigest()[:12]
    return f"{_schema(url)}-{digest}"


def _schema(url: str) -> str:
    return url.partition(":")[0].lower()


def _secrets(url: str) -> tuple[str, ...]:
    """Parts of a URL that may be secret: all but the names of hosts and parameters, encoded and decoded."""
    rest = url.partition("://")[2]
    place, _, query = rest.partition("?")
    authority, *path = place.split("/")
    user_info, _, host = authority.rpartition("@")
    parts = {url, user_info, *user_info.split(":"), host, *path, *re.findall(r"=([^&]*)", query)}
    texts = {text for part in parts for text in (part, unquote(part))}
    return tuple(
        sorted(
            (text for text in texts if len(text) >= SECRET_LENGTH_MIN and not _HOST.fullmatch(text)),
            key=len,
            reverse=True,
        )
    )

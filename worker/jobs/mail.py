"""A message → one mail to one address, by the server that a mailto:// URL names.

apprise would use a new Message-ID for each attempt, and reports only success or failure. Mail programs show a repeated
mail once only if its Message-ID is the same, and SMTP codes distinguish an unknown address from a server that is down.
"""

import smtplib
import ssl
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import formataddr, formatdate

from worker.jobs.compose import Message

TIMEOUT_SECONDS = 15


@dataclass(frozen=True, slots=True)
class MailServer:
    """The mail server and the sender. `mode`: ssl, starttls or insecure."""

    host: str
    port: int
    mode: str
    sender: str
    sender_name: str
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    verify_certificate: bool = True
    copies: tuple[str, ...] = ()
    blind_copies: tuple[str, ...] = ()
    reply_to: tuple[str, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


class NeverDelivered(Exception):
    """A permanent failure; the text says why."""


class NotDelivered(Exception):
    """A temporary failure. `is_down`: it would affect any other mail too."""

    def __init__(self, reason: str, *, is_down: bool = True) -> None:
        super().__init__(reason)
        self.is_down = is_down


def send_mail(server: MailServer, address: str, message: Message) -> None:
    """Send one mail. Raises NeverDelivered and NotDelivered."""
    mail = _mail(server, address, message)
    try:
        smtp = _connect(server)
    except (OSError, smtplib.SMTPException) as error:
        raise NotDelivered(_told(error)) from None
    try:
        smtp.send_message(mail, server.sender, [address, *server.copies, *server.blind_copies])
    except smtplib.SMTPRecipientsRefused as error:
        code, reply = error.recipients.get(address) or next(iter(error.recipients.values()))
        reason = f"{code} {_text(reply)}"
        raise NeverDelivered(reason) if code >= 500 else NotDelivered(reason, is_down=False) from None
    except smtplib.SMTPDataError as error:
        reason = f"{error.smtp_code} {_text(error.smtp_error)}"
        raise (
            NeverDelivered(reason) if error.smtp_code >= 500 else NotDelivered(reason, is_down=False)
        ) from None
    except (smtplib.SMTPNotSupportedError, ValueError) as error:
        raise NeverDelivered(_told(error)) from None
    except (OSError, smtplib.SMTPException) as error:
        raise NotDelivered(_told(error)) from None
    finally:
        with suppress(OSError, smtplib.SMTPException):  # the message was accepted or refused before
            smtp.quit()


def _mail(server: MailServer, address: str, message: Message) -> EmailMessage:
    mail = EmailMessage(SMTP)
    try:
        for name, value in server.headers.items():
            mail[name] = value
        mail["Subject"] = message.subject
        mail["From"] = formataddr((server.sender_name, server.sender))
        mail["To"] = address
        if server.copies:
            mail["Cc"] = ", ".join(server.copies)
        if server.reply_to:
            mail["Reply-To"] = ", ".join(server.reply_to)
        mail["Date"] = formatdate()
        mail["Message-ID"] = f"<{message.key}@{server.sender.rpartition('@')[2]}>"
        mail["Auto-Submitted"] = "auto-generated"
        mail.set_content(message.text)
        mail.add_alternative(message.html, subtype="html")
        if len(mail["To"].addresses) != 1 or mail["To"].addresses[0].addr_spec != address:
            raise ValueError("it is no plain address")
    except (ValueError, IndexError) as error:
        raise NeverDelivered(f"cannot write to that address: {error}") from None
    return mail


def _connect(server: MailServer) -> smtplib.SMTP:
    context = ssl.create_default_context()
    if not server.verify_certificate:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    host, port = server.host, server.port
    if server.mode == "ssl":
        smtp = smtplib.SMTP_SSL(host, port, timeout=TIMEOUT_SECONDS, context=context)
    else:
        smtp = smtplib.SMTP(host, port, timeout=TIMEOUT_SECONDS)
    try:
        if server.mode == "starttls":
            smtp.starttls(context=context)
        if server.user and server.password:
            smtp.login(server.user, server.password)
    except BaseException:
        smtp.close()
        raise
    return smtp


def _told(error: Exception) -> str:
    match error:
        case smtplib.SMTPSenderRefused() | smtplib.SMTPResponseException():
            return f"{error.smtp_code} {_text(error.smtp_error)}"
        case _:
            return f"{type(error).__name__}: {error}"


def _text(reply: bytes | str) -> str:
    return reply.decode("utf-8", "replace") if isinstance(reply, bytes) else reply

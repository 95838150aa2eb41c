"""The functions' URL → which of them are deployed and how, by what they answer to a request that changes nothing."""

import json
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from urllib.error import HTTPError, URLError
from urllib.request import ProxyHandler, Request, build_opener

from cli.deploy.project import is_local
from cli.findings import Finding, Result, Skipped

TIMEOUT_SECONDS = 15
# The edge functions need both; the others are set by Supabase.
SECRETS = ("STRIPE_WEBHOOK_SECRET", "STRIPE_API_KEY")
RECEIVER = "stripe-webhook"
_GET = "payment-links"
# What ours answer to a request with no signature and a token that is none.
_OURS = ("invalid_signature", "webhook_secret_missing", "unauthorized")


@dataclass(frozen=True, slots=True)
class Answer:
    """Status 0 where nothing answers; `code` is ours, None where something else answered."""

    status: int
    code: str | None
    text: str


def ask(url: str, names: Iterable[str]) -> Mapping[str, Answer]:
    """Function → its answer to a request that it must refuse."""
    return {name: _request(f"{url}/{name}", "GET" if name.endswith(_GET) else "POST") for name in names}


def deployed(answers: Mapping[str, Answer]) -> Iterator[Finding]:
    """Whether each function is there, is ours, and lets requests without a token of Supabase through."""
    for name, answer in answers.items():
        deploy = f"supabase functions deploy {name}"
        if answer.status == 0:
            yield Finding(
                "functions", f"{name} can't be reached: {answer.text}", "check the URL and the network"
            )
        elif answer.status == 404:
            yield Finding("functions", f"{name} is not deployed", deploy)
        elif answer.code == "auth_not_configured":
            yield Finding(
                "functions", f"{name}: {answer.text}", f"{deploy}: Supabase then sets SUPABASE_JWKS"
            )
        elif answer.status == 401 and answer.code is None:
            yield Finding(
                "functions", f"{name} is deployed with verify_jwt, which refuses Stripe and browsers",
                f"{deploy} --no-verify-jwt",
            )  # fmt: skip
        elif answer.code not in _OURS:
            yield Finding(
                "functions", f"{name} answers {answer.status}, not as Tillbase's function does", deploy
            )


def secrets(answers: Mapping[str, Answer], directory: Path, *, is_hosted: bool) -> Iterator[Result]:
    """Whether the functions have their secrets: as the Supabase CLI lists them, else as the functions answer."""
    named = _listed(directory) if is_hosted else "no hosted project is linked"
    if not isinstance(named, str):
        for secret in SECRETS:
            if secret not in named:
                yield Finding("secrets", f"the functions have no {secret}", _set(secret))
        return
    receiver = next((answer for name, answer in answers.items() if name.endswith(RECEIVER)), None)
    if receiver is not None and receiver.code == "webhook_secret_missing":
        yield Finding("secrets", f"the functions have no {SECRETS[0]}", _set(SECRETS[0]))
    yield Skipped(
        "secrets", f"{SECRETS[1]} of the functions is not visible from here ({named}): supabase secrets list"
    )


def _set(secret: str) -> str:
    if secret == SECRETS[0]:
        return "till webhook create --set-secret; where the endpoint is there already, till webhook rotate --set-secret"
    return f"supabase secrets set {secret}=rk_…"


def _listed(directory: Path) -> set[str] | str:
    """The secrets' names by `supabase secrets list`, or why they can't be listed."""
    program = shutil.which("supabase")
    if program is None:
        return "the Supabase CLI is not on PATH"
    command = [program, "secrets", "list", "--output", "json"]
    try:
        done = subprocess.run(
            command, cwd=directory, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
            timeout=TIMEOUT_SECONDS * 2,
        )  # fmt: skip
        # A line of advice may stand before the document.
        listed = cast("list[dict[str, Any]]", json.loads(done.stdout[done.stdout.index("[") :]))
        return {str(each["name"]) for each in listed}
    except (subprocess.TimeoutExpired, ValueError, KeyError, TypeError):
        return "the Supabase CLI could not list them"


def _request(url: str, method: str) -> Answer:
    request = Request(url, method=method, data=b"{}" if method == "POST" else None)  # noqa: S310  the owner's own URL
    request.add_header("Content-Type", "application/json")
    request.add_header("Authorization", "Bearer none")
    # A proxy of the environment knows nothing of loopback.
    opener = build_opener(ProxyHandler({})) if is_local(url) else build_opener()
    try:
        with opener.open(request, timeout=TIMEOUT_SECONDS) as answer:
            return _answer(answer.status, answer.read())
    except HTTPError as error:
        with error:
            return _answer(error.code, error.read())
    except (URLError, OSError, ValueError) as error:
        return Answer(0, None, " ".join(str(getattr(error, "reason", error)).split()))


def _answer(status: int, body: bytes) -> Answer:
    """Ours are `{"error": {"code", "message"}}`; the platform's own have other shapes."""
    try:
        error = json.loads(body)["error"]
        return Answer(status, str(error["code"]), str(error["message"]))
    except (ValueError, KeyError, TypeError):
        return Answer(status, None, "")

"""`till webhook …`: the endpoint at Stripe that sends events to the edge function `stripe-webhook`."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.adopt.project import function_url
from cli.app import App
from cli.database import setting
from cli.findings import findings_json, print_findings
from cli.output import AsJson, CliError, counted, err, out, print_json

if TYPE_CHECKING:  # Stripe's library takes its time to load: only who needs it waits
    import stripe

app = App(
    "webhook", panel="Install and check", help="Create, check and rotate the webhook endpoint at Stripe."
)

_FUNCTION = "stripe-webhook"

Url = Annotated[
    str | None,
    typer.Option(
        help="The endpoint's URL. If left out: that of the linked Supabase project, else WEBHOOK_URL.",
        metavar="URL",
    ),
]
InProject = Annotated[
    Path, typer.Option("--project", help="Where the Supabase project is.", metavar="DIRECTORY")
]
SetSecret = Annotated[
    bool,
    typer.Option(
        "--set-secret", help="Set the signing secret with the Supabase CLI instead of printing it once."
    ),
]


@app.command()
def create(
    url: Url = None, project: InProject = Path(), set_secret: SetSecret = False, as_json: AsJson = False
) -> None:
    """Create the endpoint with exactly the events that Tillbase handles, at a pinned API version."""
    from cli.webhook_endpoints import SECRET_NAMES, newest_first, params_of

    wanted = url or webhook_url(project)
    secrets = _Secrets(project, is_set=set_secret)
    with _stripe() as (client, livemode):
        if found := newest_first(_endpoints(client), wanted):
            raise CliError(f"{found[0].id} has this URL already: check it with `till webhook verify`")
        params = params_of(wanted, SECRET_NAMES[0], livemode=livemode)
        made = client.webhook_endpoints.create(params)
        secrets.hand_over(SECRET_NAMES[0], made.secret)
    _print_endpoint(made, secrets.told, as_json=as_json)


@app.command()
def verify(
    url: Url = None,
    project: InProject = Path(),
    fix: Annotated[bool, typer.Option("--fix", help="Enable the endpoint and set its events.")] = False,
    as_json: AsJson = False,
) -> None:
    """Check that the endpoint exists, is enabled, sends every event and has a fixed API version.

    Fails where credits depend on what is wrong.
    """
    from cli.webhook_endpoints import check, events_of, newest_first

    wanted = url or webhook_url(project)
    with _stripe() as (client, livemode):
        endpoints = newest_first(_endpoints(client), wanted)
        if fix and endpoints:
            changed = {"disabled": False, "enabled_events": events_of(livemode=livemode)}
            endpoints[0] = client.webhook_endpoints.update(endpoints[0].id, changed)
    findings = check(endpoints, wanted)
    if as_json:
        print_json(findings_json(findings))
    elif findings:
        print_findings(findings)
    else:
        out.print(f"[green]ok[/]  {wanted}", highlight=False)
    if any(finding.severity == "error" for finding in findings):
        raise typer.Exit(1)


@app.command()
def rotate(
    url: Url = None,
    project: InProject = Path(),
    finish: Annotated[
        bool, typer.Option("--finish", help="Delete the older endpoint, once the new secret is set.")
    ] = False,
    set_secret: SetSecret = False,
    as_json: AsJson = False,
) -> None:
    """Replace the signing secret, or bring the endpoint to this version's API version, without losing an event.

    A second endpoint sends the same events beside the first until --finish; each event is processed once. Its secret
    goes into the other of STRIPE_WEBHOOK_SECRET and STRIPE_WEBHOOK_SECRET_NEXT, so that the first one stays valid.
    """
    from cli.webhook_endpoints import newest_first, other_secret, params_of

    wanted = url or webhook_url(project)
    secrets = _Secrets(project, is_set=set_secret)
    with _stripe() as (client, livemode):
        endpoints = newest_first(_endpoints(client), wanted)
        if not endpoints:
            raise CliError(
                f"Stripe has no webhook endpoint for {wanted}: create it with `till webhook create`"
            )
        newest, *older = endpoints
        if finish:
            if not older:
                raise CliError(
                    f"{newest.id} is the only endpoint of this URL: run `till webhook rotate` first"
                )
            if newest.status != "enabled":
                raise CliError(f"{newest.id} is {newest.status}: run `till webhook verify --fix` first")
            for endpoint in older:
                client.webhook_endpoints.delete(endpoint.id)
            _print_deleted(newest, older, as_json=as_json)
            return
        if older:
            raise CliError(
                f"{newest.id} replaces {older[0].id} already: end that with `till webhook rotate --finish`"
            )
        name = other_secret(newest)
        made = client.webhook_endpoints.create(params_of(wanted, name, livemode=livemode))
        secrets.hand_over(name, made.secret)
    _print_endpoint(made, secrets.told, as_json=as_json)
    err.print("When the secret is set: till webhook rotate --finish", style="dim")


@contextmanager
def _stripe() -> Generator[tuple[Any, bool]]:
    """Stripe's `v1`, and whether the key is a live one."""
    from cli.stripe_key import stripe_client
    from worker.settings import Settings, is_live

    environ = {name: os.environ.get(name, "") for name in ("STRIPE_API_KEY", "STRIPE_API_BASE")}
    if not environ["STRIPE_API_KEY"].strip():
        environ = {name: setting(name) for name in environ}
    key = environ["STRIPE_API_KEY"].strip()
    # No database is asked.
    settings = Settings("", key, environ["STRIPE_API_BASE"].strip() or None)
    with stripe_client(settings) as client:
        yield client.v1, bool(is_live(key))


def _endpoints(client: Any) -> list["stripe.WebhookEndpoint"]:
    return list(client.webhook_endpoints.list({"limit": 100}).auto_paging_iter())


def webhook_url(directory: Path) -> str:
    """Where the linked project has the function, else what the environment or the local stack says. Raises CliError."""
    return function_url(directory, _FUNCTION) or setting("WEBHOOK_URL")


class _Secrets:
    """A signing secret, which Stripe tells once: printed, or set with the Supabase CLI. It is on no command line."""

    def __init__(self, directory: Path, *, is_set: bool) -> None:
        self._directory = directory
        self._program = shutil.which("supabase")
        self._is_set = is_set
        # What is left to print.
        self.told: dict[str, str] = {}
        if is_set and self._program is None:
            raise CliError("the Supabase CLI is not on PATH: install it, or leave out --set-secret")

    def hand_over(self, name: str, secret: str) -> None:
        """Never raises: the endpoint is there by now, and Stripe does not tell its secret again."""
        if not self._is_set or not self._set(name, secret):
            self.told = {name: secret}

    def _set(self, name: str, secret: str) -> bool:
        with tempfile.NamedTemporaryFile("w", prefix="till-", suffix=".env") as file:  # mode 0600
            file.write(f"{name}={secret}\n")
            file.flush()
            command = [str(self._program), "secrets", "set", "--env-file", file.name, "--yes"]
            result = subprocess.run(command, cwd=self._directory, capture_output=True, text=True, check=False)
        if result.returncode != 0:
            said = " ".join((result.stderr or result.stdout).split())[-200:]
            err.print(f"[yellow]the Supabase CLI did not set {name}:[/] {said}", highlight=False)
            return False
        err.print(f"{name} is set in the Supabase project", style="dim")
        return True


def _print_endpoint(endpoint: "stripe.WebhookEndpoint", told: dict[str, str], *, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "id": endpoint.id,
                "url": endpoint.url,
                "api_version": endpoint.api_version,
                "livemode": endpoint.livemode,
                "events": len(endpoint.enabled_events),
                "secrets": told,
            }
        )
        return
    mode = "live" if endpoint.livemode else "test"
    events = counted(len(endpoint.enabled_events), "event")
    out.print(
        f"{endpoint.id} ({mode}): {events}, {endpoint.api_version} → {endpoint.url}",
        highlight=False,
    )
    for name, secret in told.items():
        err.print("\nStripe shows this secret once. Set it now:", highlight=False)
        out.print(f"supabase secrets set {name}={secret}", highlight=False)


def _print_deleted(
    newest: "stripe.WebhookEndpoint", older: list["stripe.WebhookEndpoint"], *, as_json: bool
) -> None:
    from cli.webhook_endpoints import secret_name_of

    unused = [secret_name_of(one) for one in older]
    if as_json:
        print_json({"id": newest.id, "deleted": [one.id for one in older], "unused_secrets": unused})
        return
    out.print(f"deleted {', '.join(one.id for one in older)}; {newest.id} goes on", highlight=False)
    err.print(f"Its secret is used no more: supabase secrets unset {' '.join(unused)}", style="dim")

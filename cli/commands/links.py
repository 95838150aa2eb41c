"""`till links …`: Payment Links of plans and packs: got or made, listed, deactivated."""

import json
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from cli.app import App
from cli.call import Yes, say_nothing_was_done
from cli.database import Connection, account_id_of, call, connect, row, rows
from cli.output import AsJson, CliError, err, out, print_json
from cli.tables import print_table

app = App("links", panel="Sell", help="Create, list and deactivate Payment Links.")

_LIST = """
select links.stripe_payment_link_id, links.url, coalesce(plans.lookup_key, packs.lookup_key) as lookup_key,
    links.stripe_price_id, links.active, links.options, links.retired_reason, links.retired_at, links.deactivated_at,
    links.last_error, links.livemode, links.created_at
from billing.payment_links as links
left join billing.plans using (stripe_price_id)
left join billing.credit_packs as packs using (stripe_price_id)
where links.active or %(everything)s
order by links.active desc, links.created_at desc
"""
_DEFAULTS = ("allow_promotion_codes", "billing_address_collection")


@app.command()
def create(
    plan: Annotated[str | None, typer.Argument(help="Lookup key or price id of a plan.")] = None,
    pack: Annotated[
        str | None, typer.Option(help="Of a pack instead: its lookup key or price id.", metavar="KEY")
    ] = None,
    account: Annotated[
        str | None,
        typer.Option(
            help="Which account pays: account id, e-mail or cus_… id. Without it the link is tied to no account.",
            metavar="ACCOUNT",
        ),
    ] = None,
    expires_in: Annotated[
        str | None,
        typer.Option(
            help="How long the URL is tied to the account, such as '7 days'. Default: the settings."
        ),
    ] = None,
    promotion_codes: Annotated[
        bool | None,
        typer.Option(
            "--promotion-codes/--no-promotion-codes", help="Whether there is a field for promotion codes."
        ),
    ] = None,
    automatic_tax: Annotated[
        bool | None,
        typer.Option("--automatic-tax/--no-automatic-tax", help="Whether Stripe works out the tax."),
    ] = None,
    custom_field: Annotated[
        list[str] | None,
        typer.Option(help="A text to ask for, at most three times.", metavar="KEY=LABEL"),
    ] = None,
    after_completion: Annotated[
        str | None, typer.Option(help="A URL of yours to go to after paying, or a text to show.")
    ] = None,
    options: Annotated[
        Path | None,
        typer.Option(help="A JSON file with options as Stripe names them.", exists=True, dir_okay=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Print the URL of the Payment Link for a plan and options; creates it if there is none.

    Without options those of the settings, as for the edge function payment-links.
    """
    if (plan is None) == (pack is None):
        raise typer.BadParameter("name either a plan or a pack", param_hint="PLAN, --pack")
    if expires_in is not None and account is None:
        raise typer.BadParameter("is about --account, which is not there", param_hint="--expires-in")
    from cli.open_links import open_link
    from cli.plans.catalogue import stripe_settings
    from cli.stripe_key import check_key, stripe_client

    wanted = _options(promotion_codes, automatic_tax, custom_field or [], after_completion, options)
    settings = stripe_settings()
    with connect() as conn, stripe_client(settings) as client:
        check_key(conn, settings)
        reference = None if account is None else _reference(conn, account, expires_in)
        link = open_link(conn, client, plan, pack, wanted)
    url = link["url"] if reference is None else f"{link['url']}?client_reference_id={reference}"
    if as_json:
        told = {name: link[name] for name in ("stripe_payment_link_id", "stripe_price_id", "options")}
        print_json(told | {"url": url})
    else:
        out.print(url, markup=False, highlight=False)


@app.command("list")
def list_links(
    everything: Annotated[bool, typer.Option("--all", help="Also those that are no longer active.")] = False,
    as_json: AsJson = False,
) -> None:
    """List Payment Links."""
    with connect() as conn:
        found = rows(conn, _LIST, {"everything": everything})
    if as_json:
        print_json(found)
    elif not found:
        err.print("no payment links: make one with `till links create`", style="dim")
    else:
        _print(found)


@app.command()
def deactivate(
    name: Annotated[str, typer.Argument(help="A link (plink_…), or a plan or pack: all its links.")],
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Deactivate Payment Links, here and in Stripe. Creating one later makes another."""
    from cli.open_links import close_links
    from cli.plans.catalogue import stripe_settings
    from cli.stripe_key import check_key, stripe_client

    settings = stripe_settings()
    with connect() as conn, stripe_client(settings):
        check_key(conn, settings)
        with conn.transaction(force_rollback=not yes):
            links = list(call(conn, "billing.retire_payment_links", name=name))
        if not links:
            raise CliError(f"no active payment link of {name!r}: list them with `till links list`")
        reasons = close_links(conn, settings, links) if yes else []
    told = [{"stripe_payment_link_id": link["stripe_payment_link_id"], "url": link["url"]} for link in links]
    if as_json:
        print_json({"dry_run": not yes, "links": told, "failed": reasons})
    else:
        for link in told:
            out.print(
                link["stripe_payment_link_id"] or "a link in the making", link["url"] or "", markup=False
            )
    if not yes:
        say_nothing_was_done()
    if reasons:
        raise CliError(f"not deactivated in Stripe yet, the worker goes on trying: {'; '.join(reasons)}")


def _reference(conn: Connection, account: str, expires_in: str | None) -> str:
    found = row(
        conn,
        "select billing.payment_reference(account_id => %(account)s, expires_in => %(expires_in)s::interval) as it",
        {"account": account_id_of(conn, account), "expires_in": expires_in},
    )
    return found["it"]


def _options(
    promotion_codes: bool | None,
    automatic_tax: bool | None,
    custom_fields: list[str],
    after_completion: str | None,
    file: Path | None,
) -> dict[str, Any]:
    """What was asked for, as Stripe names it; the single options over those of the file."""
    wanted = {} if file is None else _read(file)
    if promotion_codes is not None:
        wanted["allow_promotion_codes"] = promotion_codes
    if automatic_tax is not None:
        wanted["automatic_tax"] = {"enabled": automatic_tax}
    if custom_fields:
        wanted["custom_fields"] = [_custom_field(text) for text in custom_fields]
    if after_completion is not None:
        is_url = after_completion.startswith(("http://", "https://"))
        wanted["after_completion"] = (
            {"type": "redirect", "redirect": {"url": after_completion}}
            if is_url
            else {"type": "hosted_confirmation", "hosted_confirmation": {"custom_message": after_completion}}
        )
    return wanted


def _custom_field(text: str) -> dict[str, Any]:
    key, equals, label = text.partition("=")
    if not equals or not key.isalnum() or not label.strip():
        raise typer.BadParameter(f"{text!r} is no KEY=LABEL", param_hint="--custom-field")
    return {"key": key, "label": {"type": "custom", "custom": label}, "type": "text"}


def _read(file: Path) -> dict[str, Any]:
    try:
        options = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CliError(f"{file} is no JSON ({error}): write options as Stripe names them") from None
    if not isinstance(options, dict):
        raise CliError(f"{file} is no JSON object: write options as Stripe names them")
    return cast("dict[str, Any]", options)


def _print(links: Any) -> None:
    print_table(
        ("plan or pack", "link", "active", "url", "options"),
        (
            (
                "" if link["active"] else "dim",
                (
                    link["lookup_key"] or link["stripe_price_id"],
                    link["stripe_payment_link_id"],
                    "yes" if link["active"] else f"no ({link['retired_reason']})",
                    link["url"],
                    ", ".join(name for name in link["options"] if name not in _DEFAULTS),
                ),
            )
            for link in links
        ),
        wrapped=("options",),
    )

"""`till teams …`: accounts that several users share, their members and invitations."""

from enum import StrEnum
from typing import Annotated, Any, LiteralString
from uuid import UUID

import typer

from cli.app import App
from cli.call import print_record
from cli.database import Connection, Row, call, connect, row, rows
from cli.output import AsJson, CliError, err, out, print_fields, print_json, print_rows

app = App("teams", panel="Accounts and credits", help="Teams: accounts that several users share.")


class Role(StrEnum):
    """What a member may do."""

    OWNER = "owner"
    ADMIN = "admin"
    MEMBER = "member"


class Invited(StrEnum):
    """What an invited member may do."""

    ADMIN = "admin"
    MEMBER = "member"


Team = Annotated[str, typer.Argument(help="Account id of the team, or its name.")]
Email = Annotated[str, typer.Argument(help="E-mail address of a user, or their user id.")]

_LIST: LiteralString = """
select accounts.id, accounts.name, accounts.email as owner, (
        select count(*) from billing.account_members where account_members.account_id = accounts.id
    ) as members,
    accounts.status, accounts.balance, accounts.available, accounts.created_at
from billing.admin_accounts as accounts where accounts.kind = 'team'
order by accounts.created_at desc, accounts.id desc limit %(limit)s
"""
_SHOW: LiteralString = "select * from billing.admin_accounts where id = %(id)s"
_MEMBERS: LiteralString = "select email, role, user_id, created_at from billing.team_members(%(id)s)"
_INVITATIONS: LiteralString = """
select email, role, expires_at from public.team_invitations where account_id = %(id)s order by created_at
"""
_FIND: LiteralString = """
select id from billing.accounts
where id::text = lower(%(it)s) or kind = 'team' and name = %(it)s and closed_at is null
order by id::text <> lower(%(it)s) limit 2
"""
_USER: LiteralString = """
select id, id::text = lower(%(it)s) or email_confirmed_at is not null as is_theirs from auth.users
where (lower(email) = lower(%(it)s) or id::text = lower(%(it)s)) and deleted_at is null limit 2
"""


@app.command("list")
def list_teams(
    limit: Annotated[int, typer.Option(help="How many.", min=1, max=1000)] = 50, as_json: AsJson = False
) -> None:
    """List teams, newest first. One without an owner waits for `till teams transfer`."""
    with connect() as conn:
        found = rows(conn, _LIST, {"limit": limit})
    print_rows(found, as_json=as_json, empty="no teams", numbers=("members", "balance", "available"))


@app.command()
def show(team: Team, as_json: AsJson = False) -> None:
    """Show a team: its balance, members and open invitations."""
    with connect() as conn:
        wanted: Row = {"id": _team(conn, team)}
        found = row(conn, _SHOW, wanted)
        parts = {"members": rows(conn, _MEMBERS, wanted), "invitations": rows(conn, _INVITATIONS, wanted)}
    if as_json:
        print_json(found | parts)
        return
    print_fields(found)
    for title, listing in parts.items():
        if listing:
            out.print(f"\n[bold]{title}[/]")
            print_rows(listing, as_json=False, empty="")


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="Its name, as people read it.")],
    *,
    owner: Annotated[str, typer.Option(help="E-mail address or user id of its owner.")],
    as_json: AsJson = False,
) -> None:
    """Create a team. The same name and owner give the same team again."""
    with connect() as conn:
        [made] = call(conn, "billing.create_team", name=name, owner_id=_user(conn, owner))
    print_record({key: made[key] for key in ("id", "name", "owner_id", "created_at")}, as_json=as_json)


@app.command()
def add(
    team: Team,
    email: Email,
    role: Annotated[Role, typer.Option(help="What they may do.")] = Role.MEMBER,
    as_json: AsJson = False,
) -> None:
    """Add a user who has signed up. Others are invited."""
    _change("add_member", team, email, as_json=as_json, role=role.value)


@app.command()
def role(
    team: Team,
    email: Email,
    role: Annotated[Role, typer.Argument(help="What they may do.", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Change a member's role."""
    _change("set_member_role", team, email, as_json=as_json, role=role.value)


@app.command()
def remove(team: Team, email: Email, as_json: AsJson = False) -> None:
    """Remove a member. The last owner stays."""
    _change("remove_member", team, email, as_json=as_json)


@app.command()
def transfer(team: Team, email: Email, as_json: AsJson = False) -> None:
    """Make a user the owner. The former owner becomes an admin.

    The account of a deleted user, given by its id, becomes a team.
    """
    _change("transfer_ownership", team, email, as_json=as_json)


@app.command()
def invite(
    team: Team,
    email: Annotated[str, typer.Argument(help="E-mail address to invite.")],
    role: Annotated[Invited, typer.Option(help="What they may do.")] = Invited.MEMBER,
    as_json: AsJson = False,
) -> None:
    """Invite an address and print the token for the link that you send. A new one replaces it."""
    with connect() as conn:
        [made] = call(
            conn, "billing.invite_member", account_id=_team(conn, team), email=email, role=role.value
        )
    print_record(made, as_json=as_json)


@app.command()
def revoke(
    team: Team,
    email: Annotated[str, typer.Argument(help="The address that was invited.")],
    as_json: AsJson = False,
) -> None:
    """Revoke the open invitation of an address."""
    with connect() as conn:
        [found] = call(conn, "billing.revoke_invitation", account_id=_team(conn, team), email=email)
    if as_json:
        print_json({"revoked": found["revoke_invitation"]})
    else:
        err.print(
            "revoked" if found["revoke_invitation"] else "there is no open invitation of this address",
            style="dim",
        )


def _change(function: str, team: str, email: str, *, as_json: bool, **arguments: Any) -> None:
    with connect() as conn:
        [member] = call(
            conn,
            f"billing.{function}",
            account_id=_team(conn, team),
            user_id=_user(conn, email),
            **arguments,
        )
    print_record(member, as_json=as_json)


def _team(conn: Connection, team: str) -> UUID:
    found = rows(conn, _FIND, {"it": team})
    if not found:
        raise CliError(f"there is no team {team!r}: list them with `till teams list`")
    if len(found) > 1:
        raise CliError(f"several teams are called {team!r}: give the id that `till teams list` prints")
    return found[0]["id"]


def _user(conn: Connection, email: str) -> UUID:
    found = rows(conn, _USER, {"it": email})
    if not found:
        raise CliError(f"no user {email!r} has signed up: invite them with `till teams invite`")
    if len(found) > 1:
        raise CliError(f"several users have the address {email!r}: give the user's id")
    if not found[0]["is_theirs"]:
        raise CliError(
            f"{email!r} has not confirmed the address: if it is theirs, give the user's id {found[0]['id']}"
        )
    return found[0]["id"]

"""`till init`: add Tillbase to a Supabase project, upgrade it there, take it out again."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from cli.adopt import changes as plan
from cli.adopt.changes import Changes
from cli.adopt.export import export, new_directory
from cli.adopt.project import Project, find_project
from cli.adopt.removal import removal
from cli.adopt.shipped import Shipped, shipped
from cli.adopt.write import write
from cli.app import App
from cli.database import connect
from cli.output import AsJson, CliError, err, out, print_json
from devstack.paths import schemas_directory

app = App(panel="Install and check")


@app.command()
def init(
    project: Annotated[
        Path, typer.Option("--project", help="Where the Supabase project is.", metavar="DIRECTORY")
    ] = Path(),
    functions_prefix: Annotated[
        str,
        typer.Option(
            "--functions-prefix",
            help="Stands before the names of the edge functions, where the project has its own of those names.",
            metavar="PREFIX",
        ),
    ] = "",
    upgrade: Annotated[bool, typer.Option("--upgrade", help="Bring what is new in this version.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="With --upgrade: also replace files that you edited.")
    ] = False,
    uninstall: Annotated[
        bool,
        typer.Option(
            "--uninstall",
            help="Export every table, then delete the files and write a migration that drops what is Tillbase's.",
        ),
    ] = False,
    no_export: Annotated[
        bool, typer.Option("--no-export", help="With --uninstall: keep no copy of the data.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would change, and change nothing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Add Tillbase to a Supabase project.

    Copies its migration and its edge functions, and adds their settings.

    Nothing that is there is changed; what is in the way is named before anything is written. A second run changes
    nothing.
    """
    if upgrade and uninstall:
        raise typer.BadParameter("choose one", param_hint="--upgrade, --uninstall")
    theirs = find_project(project)
    prefix = theirs.manifest.functions_prefix if theirs.manifest else functions_prefix
    if functions_prefix not in ("", prefix):
        raise CliError(
            f"the functions are here already, with the prefix {prefix!r}: uninstall first to change it"
        )
    ours = shipped(prefix)
    now = datetime.now(UTC)
    functions = [*ours.config_blocks]
    if uninstall:
        changes = plan.uninstall(theirs, ours, removal(schemas_directory(), functions), now)
    elif upgrade:
        changes = plan.upgrade(theirs, ours, now, overwrite=overwrite)
    else:
        changes = plan.install(theirs, ours, prefix, now)
    if changes.clashes:
        raise CliError(_sentence(changes.clashes))
    exported = None
    if not dry_run:
        if uninstall and not no_export:
            exported = _export(theirs, now)
        write(theirs, changes)
    if as_json:
        print_json(_summary(theirs, ours, changes, exported, dry_run=dry_run))
        return
    _print(theirs, changes, dry_run=dry_run)
    if not dry_run and changes.writes:
        _print_next(_after_uninstall(functions) if uninstall else _after_install(functions))


def _sentence(clashes: list[str]) -> str:
    """One line for one clash; more are a list."""
    if len(clashes) == 1:
        return f"{clashes[0]}. Nothing was changed"
    return "nothing was changed, because of:" + "".join(f"\n  {clash}" for clash in clashes)


def _export(project: Project, now: datetime) -> Path:
    """Raises CliError where the database can't be read: what is not exported is not uninstalled."""
    columns = (TextColumn("exporting {task.description}"), BarColumn(), MofNCompleteColumn())
    with (
        connect() as conn,
        Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bar,
    ):
        directory = new_directory(project.root, now)
        task = bar.add_task("")

        def show(done: int, total: int, table: str) -> None:
            bar.update(task, completed=done, total=total, description=table)

        written = export(conn, directory, show)
    err.print(
        f"exported {sum(written.values()):,} rows of {len(written)} tables to {directory}", highlight=False
    )
    return directory


def _summary(
    project: Project, ours: Shipped, changes: Changes, exported: Path | None, *, dry_run: bool
) -> dict[str, object]:
    return {
        "project": str(project.root),
        "version": ours.version,
        "dry_run": dry_run,
        "written": sorted(changes.writes),
        "deleted": sorted(changes.deletes),
        "notes": changes.notes,
        "export": None if exported is None else str(exported),
    }


def _print(project: Project, changes: Changes, *, dry_run: bool) -> None:
    """A line for each file, and one for each folder of functions."""
    if not (changes.writes or changes.deletes):
        err.print(f"Nothing to change in {project.root}.", highlight=False)
    for verb, paths in (("write", sorted(changes.writes)), ("delete", sorted(changes.deletes))):
        for path, files in _by_folder(paths).items():
            count = f"  [dim]{files} files[/]" if files > 1 else ""
            style = {"write": "green", "delete": "red"}[verb]
            out.print(f"[{style}]{verb:>6}[/]  {path}{count}", highlight=False)
    for note in changes.notes:
        err.print(f"[yellow]note:[/] {note}", highlight=False)
    if dry_run:
        err.print("Nothing was changed (--dry-run).", style="dim")


def _by_folder(paths: list[str]) -> dict[str, int]:
    folders: dict[str, int] = {}
    for path in paths:
        parts = path.split("/")
        name = "/".join(parts[:3]) + "/" if parts[1:2] == ["functions"] else path
        folders[name] = folders.get(name, 0) + 1
    return folders


def _after_install(functions: list[str]) -> list[tuple[str, str]]:
    return [
        ("supabase db push --remote --yes", "provision the database"),
        (
            "supabase secrets set STRIPE_WEBHOOK_SECRET=whsec_… STRIPE_API_KEY=rk_…",
            "what .env.example explains",
        ),
        (f"supabase functions deploy {' '.join(functions)}", "publish the edge functions"),
        ("till worker run", "with POSTGRES_URL and STRIPE_API_KEY, wherever you run long-lived processes"),
        ("till plans sync", "bring your plans from Stripe"),
    ]


def _after_uninstall(functions: list[str]) -> list[tuple[str, str]]:
    return [
        ("supabase db push --remote --yes", "drop the schema; it refuses while something of yours needs it"),
        *((f"supabase functions delete {name}", "the CLI takes one at a time") for name in functions),
    ]


def _print_next(steps: list[tuple[str, str]]) -> None:
    out.print("\nNext:", highlight=False)
    for command, why in steps:
        out.print(f"  {command}  [dim]# {why}[/]", highlight=False)

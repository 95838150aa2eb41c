"""A project's files → what of Tillbase is missing, edited or old in them."""

from collections.abc import Iterator
from pathlib import Path

from cli.adopt.project import CONFIG, MIGRATIONS, NoProject, digest, find_project
from cli.adopt.shipped import shipped
from cli.findings import Finding, Result, Skipped, finding_of
from cli.output import CliError


def files(directory: Path) -> Iterator[Result]:
    """The release's migration, the functions and their settings, as `till init` wrote them."""
    try:
        project = find_project(directory)
    except NoProject:
        yield Skipped("files", "no Supabase project here: pass --project")
        return
    except CliError as error:
        yield finding_of("files", error)
        return
    if project.manifest is None:
        yield Skipped("files", "not added to this project by till init")
        return
    ours = shipped(project.manifest.functions_prefix)
    if project.manifest.version != ours.version:
        yield Finding(
            "files",
            f"the project has version {project.manifest.version}, this is {ours.version}",
            "till init --upgrade",
            "warning",
        )
    for path, content in ours.functions.items():
        held = project.read(path)
        if held is None:
            yield Finding("files", f"{path} is missing", "till init")
        elif held != content and digest(held) != project.manifest.files.get(path):
            yield Finding(
                "files",
                f"{path} was edited",
                "till init --upgrade --overwrite, or keep your change",
                "warning",
            )
    for name in ours.config_blocks:
        block = project.config.get("functions", {}).get(name)
        if block is None:
            yield Finding("files", f"[functions.{name}] is missing in {CONFIG}", "till init")
        elif block.get("verify_jwt", True):
            yield Finding(
                "files",
                f"[functions.{name}] of {CONFIG} lacks verify_jwt = false",
                "set it, then deploy the function",
            )
    releases = project.releases()
    for name, sql in ours.releases.items():
        if name not in releases:
            yield Finding("files", f"release {name} is not among the migrations", "till init --upgrade")
            continue
        version = max(version for version, held in project.migrations.items() if held == f"tillbase_{name}")
        if project.read(f"{MIGRATIONS}/{version}_tillbase_{name}.sql") != sql:
            yield Finding(
                "files",
                f"{MIGRATIONS}/{version}_tillbase_{name}.sql was edited",
                "restore it, and put changes of your own into migrations of your own",
            )

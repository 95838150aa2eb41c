"""A directory → what its Supabase project lacks on disk before it goes live: Tillbase, the link, Auth's address."""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from cli.adopt.project import CONFIG, NoProject, Project, find_project
from cli.doctor.files import files
from cli.findings import Finding, Result, Skipped, finding_of
from cli.output import CliError

LINK = "supabase link --project-ref <ref>"
LOCAL_HOSTS = ("localhost", "127.0.0.1", "[::1]", "::1")


def open_project(directory: Path) -> tuple[Project | None, list[Result]]:
    """The project, and what is wrong with its files: also that there is none."""
    try:
        project = find_project(directory)
    except NoProject:
        return None, [Finding("project", f"there is no {CONFIG} here", "supabase init, then till init")]
    except CliError as error:
        return None, [finding_of("project", error)]
    if project.manifest is None:
        return project, [Finding("project", "Tillbase is not in this project", "till init")]
    return project, list(files(directory))


def link(project: Project | None, functions_url: str | None) -> Iterator[Result]:
    """Whether `supabase link` noted where the project is hosted. With a URL of the functions it is hosted elsewhere."""
    if functions_url is not None:
        yield Skipped("link", f"not needed: the functions are at {functions_url}")
    elif project is None or project.reference() is None:
        yield Finding("link", "no hosted project is linked", LINK)


def auth(project: Project | None, site_url: str | None) -> Iterator[Result]:
    """Where Supabase Auth sends people back to, by the settings that `supabase config push` brings there."""
    told = "" if project is None else str(project.config.get("auth", {}).get("site_url", ""))
    address = "your app’s address" if site_url is None or is_local(site_url) else site_url
    if told and is_local(told):
        yield Finding(
            "auth", f"[auth] site_url of {CONFIG} is {told}: links in Auth's e-mails would lead there",
            f"set it to {address}, then supabase config push --remote", "warning",
        )  # fmt: skip
    elif told and site_url and _origin(told) != _origin(site_url):
        yield Finding(
            "auth", f"[auth] site_url of {CONFIG} is {told}, and checkout returns to {site_url}",
            "set both to your app's address, then supabase config push --remote", "warning",
        )  # fmt: skip
    else:
        yield Skipped(
            "auth", "look at Site URL and Redirect URLs in the Dashboard: Authentication, URL Configuration"
        )


def is_local(url: str) -> bool:
    """Whether an address leads to the machine of the person who opens it."""
    return urlsplit(url).hostname in LOCAL_HOSTS


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc.lower()

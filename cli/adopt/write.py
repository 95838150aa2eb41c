"""Changes → the project's files: each whole or not at all."""

import os
import tempfile
from pathlib import Path

from cli.adopt.changes import Changes
from cli.adopt.project import Project


def write(project: Project, changes: Changes) -> None:
    """Write and delete. A file that exists is replaced in one step; an emptied folder of functions goes too."""
    for path, content in changes.writes.items():
        target = project.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        _replace(target, content)
    for path in changes.deletes:
        target = project.root / path
        target.unlink(missing_ok=True)
        for folder in target.parents:
            if folder in (project.root, project.root / "supabase") or any(folder.iterdir()):
                break
            folder.rmdir()


def _replace(target: Path, content: bytes) -> None:
    mode = target.stat().st_mode & 0o777 if target.exists() else 0o644
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(name).chmod(mode)
        Path(name).replace(target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise

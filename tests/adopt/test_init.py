"""`till init` in somebody's project: what it adds, what it leaves alone, and what it names instead of touching it."""

import json
import subprocess
import tomllib
from pathlib import Path

import pytest
from deno import find_deno_bin

from cli.adopt.project import MANIFEST, digest
from devstack.paths import migrations_directory, supabase_directory
from tests.adopt.conftest import CONFIG, MIGRATION, Init, tree

FUNCTIONS = ["stripe-webhook", "checkout", "portal", "payment-links"]


def test_a_project_gets_the_migration_after_its_own_the_functions_and_their_settings(
    project: Path, init: Init
) -> None:
    before = tree(project)
    told = init()
    after = tree(project)
    assert sorted(set(after) - set(before)) == [
        path for path in told["written"] if path != "supabase/config.toml"
    ]
    assert {path: after[path] for path in before if path != "supabase/config.toml"} == {
        path: text for path, text in before.items() if path != "supabase/config.toml"
    }
    [ours] = migrations_directory().glob("*.sql")
    assert after["supabase/migrations/20300101000001_tillbase_0_1_0.sql"] == ours.read_bytes()
    assert after["supabase/config.toml"].decode().startswith(CONFIG)
    blocks = tomllib.loads(after["supabase/config.toml"].decode())["functions"]
    shipped = tomllib.loads((supabase_directory() / "config.toml").read_text())["functions"]
    assert blocks == {"hello": {"verify_jwt": True}, **shipped}
    assert [path for path in after if path.endswith("_test.ts")] == []


def test_a_migration_of_today_is_dated_today_when_theirs_are_older(project: Path, init: Init) -> None:
    migrations = project / "supabase/migrations"
    (migrations / MIGRATION).rename(migrations / "20240101000000_create_accounts.sql")
    init()
    [ours] = migrations.glob("*_tillbase_0_1_0.sql")
    assert "20240101000000" < ours.name[:14] < "20300101000000"


@pytest.mark.parametrize("options", [[], ["--upgrade"]])
def test_again_changes_nothing(project: Path, init: Init, options: list[str]) -> None:
    init()
    before = tree(project)
    told = init(*options)
    assert (told["written"], told["deleted"], tree(project)) == ([], [], before)


def test_a_dry_run_tells_what_would_change_and_changes_nothing(project: Path, init: Init) -> None:
    before = tree(project)
    would = init("--dry-run")
    assert tree(project) == before
    assert init()["written"] == would["written"]


def test_a_function_of_theirs_is_named_and_nothing_is_written(project: Path, init: Init) -> None:
    theirs = project / "supabase/functions/stripe-webhook/index.ts"
    theirs.parent.mkdir()
    theirs.write_text("Deno.serve(() => new Response());\n")
    before = tree(project)
    told = init(refused=True)
    assert "functions/stripe-webhook/index.ts is there already" in told
    assert "--functions-prefix tillbase-" in told
    assert tree(project) == before


def test_with_a_prefix_ours_stand_beside_theirs(project: Path, init: Init) -> None:
    theirs = project / "supabase/functions/checkout/index.ts"
    theirs.parent.mkdir()
    theirs.write_text("Deno.serve(() => new Response());\n")
    init("--functions-prefix", "tillbase-")
    assert theirs.read_text() == "Deno.serve(() => new Response());\n"
    blocks = tomllib.loads((project / "supabase/config.toml").read_text())["functions"]
    assert set(blocks) == {"hello", *(f"tillbase-{name}" for name in FUNCTIONS)}
    for name, block in blocks.items():
        if name != "hello":
            assert (project / "supabase" / block["entrypoint"]).is_file()
            assert (project / "supabase" / block["import_map"]).is_file()
    # The prefix is remembered.
    assert init("--upgrade")["written"] == []
    assert "uninstall first" in init("--functions-prefix", "other-", refused=True)


@pytest.mark.slow
def test_the_functions_of_a_project_are_whole(project: Path, init: Init) -> None:
    init("--functions-prefix", "tillbase-")
    for name in FUNCTIONS:
        folder = project / "supabase/functions" / f"tillbase-{name}"
        # Not their types: those are checked where they are shipped from.
        command = [find_deno_bin(), "cache", "--quiet", f"--config={folder / 'deno.json'}"]
        command += [f"--lock={folder / 'deno.lock'}", "--frozen", str(folder / "index.ts")]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr


def test_a_block_of_theirs_that_checks_tokens_is_named(project: Path, init: Init) -> None:
    config = project / "supabase/config.toml"
    config.write_text(CONFIG + "\n[functions.checkout]\nverify_jwt = true\n")
    assert "[functions.checkout] of supabase/config.toml lacks verify_jwt = false" in init(refused=True)
    config.write_text(CONFIG + "\n[functions.checkout]\nverify_jwt = false\n")
    init()
    assert tomllib.loads(config.read_text())["functions"]["checkout"] == {"verify_jwt": False}


def test_functions_as_an_inline_table_are_named(project: Path, init: Init) -> None:
    (project / "supabase/config.toml").write_text("functions = { hello = { verify_jwt = true } }\n")
    assert "inline table" in init(refused=True)


def test_line_endings_of_the_settings_stay(project: Path, init: Init) -> None:
    config = project / "supabase/config.toml"
    config.write_bytes(CONFIG.replace("\n", "\r\n").encode())
    init()
    assert config.read_bytes().count(b"\n") == config.read_bytes().count(b"\r\n") > 20
    init("--uninstall", "--no-export")
    assert config.read_bytes() == CONFIG.replace("\n", "\r\n").encode()


def test_the_example_of_their_environment_gets_ours(project: Path, init: Init) -> None:
    example = project / ".env.example"
    example.write_text("OPENAI_API_KEY=\n")
    init()
    assert example.read_text().startswith("OPENAI_API_KEY=\n\n# Tillbase\n")
    init("--uninstall", "--no-export")
    assert example.read_text() == "OPENAI_API_KEY=\n"


def test_a_project_that_declares_its_schemas_gets_a_file_to_declare(project: Path, init: Init) -> None:
    config = project / "supabase/config.toml"
    config.write_text(CONFIG + '\n[db.migrations]\nschema_paths = ["./schemas/*.sql"]\n')
    assert [note for note in init()["notes"] if '"./tillbase/*.sql"' in note]
    [ours] = migrations_directory().glob("*.sql")
    assert (project / "supabase/tillbase/tillbase.sql").read_bytes() == ours.read_bytes()
    config.write_text(config.read_text().replace('["./', '["./tillbase/*.sql", "./'))
    assert init()["notes"] == []


def outdate(project: Path, path: str) -> None:
    """Make a file one that an older version wrote."""
    file, manifest = project / path, project / MANIFEST
    file.write_text("// of an older version\n")
    held = json.loads(manifest.read_text())
    held["files"][path] = digest(file.read_bytes())
    held["version"] = "0.0.9"
    manifest.write_text(json.dumps(held))


def test_an_upgrade_brings_new_functions_and_releases_and_nothing_else(project: Path, init: Init) -> None:
    init()
    whole = tree(project)
    outdate(project, "supabase/functions/portal/handler.ts")
    gone = "supabase/functions/portal/gone.ts"
    (project / gone).write_text("// no longer shipped\n")
    held = json.loads((project / MANIFEST).read_text())
    held["files"][gone] = digest((project / gone).read_bytes())
    (project / MANIFEST).write_text(json.dumps(held))
    (project / "supabase/functions/checkout/index.ts").unlink()
    before = tree(project)
    assert [note for note in init()["notes"] if "till init --upgrade" in note]
    assert tree(project) == before
    told = init("--upgrade")
    assert told["written"] == [
        "supabase/functions/checkout/index.ts",
        "supabase/functions/portal/handler.ts",
        MANIFEST,
    ]
    assert told["deleted"] == [gone]
    assert tree(project) == whole


def test_an_upgrade_names_what_the_owner_edited_and_leaves_it(project: Path, init: Init) -> None:
    init()
    path = "supabase/functions/portal/handler.ts"
    outdate(project, path)
    (project / path).write_text("// edited by its owner\n")
    before = tree(project)
    assert f"{path} was edited" in init("--upgrade", refused=True)
    assert tree(project) == before
    assert path in init("--upgrade", "--overwrite")["written"]


def test_uninstalling_leaves_what_was_there_before(project: Path, init: Init) -> None:
    before = tree(project)
    init()
    told = init("--uninstall", "--no-export")
    after = tree(project)
    migrations = sorted(path for path in set(after) - set(before))
    assert migrations == [
        "supabase/migrations/20300101000001_tillbase_0_1_0.sql",
        "supabase/migrations/20300101000002_tillbase_uninstall.sql",
    ]
    assert {path: after[path] for path in before} == before
    assert told["export"] is None
    init()
    assert (project / "supabase/migrations/20300101000003_tillbase_0_1_0.sql").is_file()


def test_uninstalling_leaves_what_the_owner_edited(project: Path, init: Init) -> None:
    init()
    edited = project / "supabase/functions/portal/handler.ts"
    edited.write_text("// edited by its owner\n")
    [note] = init("--uninstall", "--no-export")["notes"]
    assert "portal/handler.ts was edited: it stays" in note
    assert edited.read_text() == "// edited by its owner\n"


def test_what_is_no_project_is_refused_with_what_to_do(tmp_path: Path, init: Init) -> None:
    assert "run `supabase init` first" in init("--project", str(tmp_path), refused=True)
    assert "run `till init` first" in init("--uninstall", "--no-export", refused=True)


def test_settings_that_cannot_be_read_are_refused(project: Path, init: Init) -> None:
    (project / "supabase/config.toml").write_text("project_id = \n")
    told = init(refused=True)
    assert "supabase/config.toml can't be read" in told
    assert told.count("\n") == 1


def test_without_a_database_nothing_is_uninstalled_unless_no_copy_is_wanted(
    project: Path, init: Init, monkeypatch: pytest.MonkeyPatch
) -> None:
    init()
    before = tree(project)
    monkeypatch.setenv("POSTGRES_URL", "postgresql://postgres@127.0.0.1:1/postgres")
    assert "start Postgres, or correct the host and port in POSTGRES_URL" in init("--uninstall", refused=True)
    assert tree(project) == before

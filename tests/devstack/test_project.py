"""`till dev` in somebody's own Supabase project: their migrations, seed and functions run beside ours."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest

from devstack.env_file import read_env_file
from devstack.errors import LocalStackError
from devstack.project import local_project

DEADLINE_SECONDS = 120
CONFIG = """\
project_id = "shop"

[db]
major_version = 17

[db.seed]
enabled = true
sql_paths = ["./seed.sql", "./seeds/*.sql"]

[auth]
site_url = "http://localhost:4321"

[functions.greet]
import_map = "./functions/greet/map.json"
entrypoint = "./functions/greet/src/main.ts"

[functions.webhook-of-theirs]
verify_jwt = false

[functions.off]
enabled = false
"""
# As `supabase db pull` writes a first migration, then one with a queue, a trigger on sign-ups and a bucket.
FIRST = """
create extension if not exists "pg_net" with schema "extensions";
create extension if not exists "pg_graphql" with schema "graphql";
create extension if not exists "uuid-ossp" with schema "extensions";
create extension if not exists "pgcrypto" with schema "extensions";
create extension if not exists pgmq;
select pgmq.create('orders');
create table public.accounts (id uuid primary key default extensions.uuid_generate_v4(), name text not null);
alter table public.accounts enable row level security;
insert into storage.buckets (id, name) values ('avatars', 'avatars');
create policy own_avatars on storage.objects for select to authenticated
using (bucket_id = 'avatars' and (select auth.uid())::text = (storage.foldername(name))[1]);
"""
# Later than ours, and it needs ours.
LATER = """
create table public.projects (id integer primary key, account_id uuid references billing.accounts);
"""
SEED = """
insert into auth.users (id, instance_id, email, encrypted_password, email_confirmed_at, email_change_token_current)
values ('6f9619ff-8b86-4d01-b42d-00cf4fc964ff', '00000000-0000-0000-0000-000000000000', 'ada@example.com',
    extensions.crypt('secret', extensions.gen_salt('bf', 4)), now(), '');
insert into auth.identities (provider_id, user_id, identity_data, provider)
select id, id, '{"email": "ada@example.com"}', 'email' from auth.users;
insert into public.accounts (name) values ('seeded');
"""
FILES = {
    "supabase/config.toml": CONFIG,
    "supabase/migrations/20240101000000_Remote Schema.sql": FIRST,
    "supabase/seed.sql": SEED,
    "supabase/seeds/more.sql": "insert into public.accounts (name) values ('more');\n",
    "supabase/functions/.env": '# Mail\n# OFF=1\nexport MAIL_KEY="of-theirs"\nSTRIPE_API_KEY=sk_test_of_theirs\n',
    # The name of ours, other versions of the same package, a shared file.
    "supabase/functions/stripe-webhook/index.ts": (
        'import { name } from "../_shared/name.ts";\n'
        "Deno.serve(() => Response.json([name, Deno.env.get('MAIL_KEY'), Deno.env.get('STRIPE_API_KEY')]));\n"
    ),
    "supabase/functions/stripe-webhook/deno.jsonc": (
        '{\n  // Stripe\'s own\n  "imports": { "stripe": "npm:stripe@18.0.0", },\n}\n'
    ),
    "supabase/functions/_shared/name.ts": 'export const name = "theirs";\n',
    "supabase/functions/greet/src/main.ts": (
        'import { greeting } from "words";\nDeno.serve(() => Response.json(greeting));\n'
    ),
    "supabase/functions/greet/map.json": '{"imports": {"words": "./words.ts"}}',
    "supabase/functions/greet/words.ts": 'export const greeting = "hello";\n',
    "supabase/functions/webhook-of-theirs/index.ts": "Deno.serve(() => Response.json(1));\n",
    "supabase/functions/off/index.ts": "Deno.serve(() => Response.json('off'));\n",
    "supabase/functions/broken/index.ts": "throw new Error('no luck');\n",
}


@pytest.fixture
def project() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="tillbase-project-", ignore_cleanup_errors=True) as directory:
        Path(directory).chmod(0o711)  # as root, Postgres runs as another user and must get through
        root = Path(directory) / "shop"
        for name, text in FILES.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
        yield root


def till(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `till …` in the project until it ends."""
    return subprocess.run(
        [sys.executable, "-c", "from cli.main import main; main()", *arguments],
        cwd=project, env=environment(), capture_output=True, text=True, timeout=DEADLINE_SECONDS, check=False,
    )  # fmt: skip


def environment() -> dict[str, str]:
    root = Path(__file__).parents[2]
    return {**os.environ, "PYTHONPATH": str(root), "COLUMNS": "500"}


@contextmanager
def dev(project: Path, *options: str) -> Iterator[tuple[dict[str, str], Path]]:
    """`till dev …` in the project, running → the stack's settings, and the file with what it prints."""
    env_file, log = project.parent / f"{uuid4().hex}.env", project.parent / f"{uuid4().hex}.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", "from cli.main import main; main()", "dev", "--env-file", str(env_file), *options],
            cwd=project, env=environment(), stdout=output, stderr=output,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not env_file.exists():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield read_env_file(env_file), log
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(DEADLINE_SECONDS) == 0, log.read_text()


def post(settings: dict[str, str], function: str, token: str | None = None) -> tuple[int, object]:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    answer = httpx.post(f"{settings['FUNCTIONS_URL']}/{function}", headers=headers, timeout=DEADLINE_SECONDS)
    return answer.status_code, answer.json()


@pytest.mark.slow
def test_an_existing_project_runs_whole_with_ours_in_it(project: Path) -> None:
    assert till(project, "init", "--functions-prefix", "tillbase-").returncode == 0
    (project / "supabase/migrations/29990101000000_projects.sql").write_text(LATER)

    with dev(project) as (settings, log):
        with psycopg.connect(settings["POSTGRES_URL"], autocommit=True) as conn:
            applied = [name for (name,) in conn.execute(
                "select name from supabase_migrations.schema_migrations order by version"
            )]  # fmt: skip
            assert applied == ["Remote Schema", "tillbase_0_1_0", "projects"]
            names = conn.execute("select array_agg(name order by name) from public.accounts").fetchone()
            assert names == (["more", "seeded"],)
            # Ada, of their seed, has an account of ours, and their queue is there beside ours.
            accounts = conn.execute(
                "select count(*) from billing.accounts where owner_id is not null"
            ).fetchone()
            assert accounts == (1,)
            queues = {name for (name,) in conn.execute("select queue_name from pgmq.list_queues()")}
            assert {"orders", "stripe_events"} <= queues
            site = conn.execute("select site_url from billing.settings").fetchone()
            assert site == ("http://localhost:4321",)

        token = till(project, "token", "--user", "ada@example.com").stdout.strip()
        assert post(settings, "greet") == (401, {"code": 401, "message": "Missing authorization header"})
        assert post(settings, "greet", "none") == (401, {"code": 401, "message": "Invalid JWT"})
        assert post(settings, "greet", token) == (200, "hello")
        assert httpx.options(f"{settings['FUNCTIONS_URL']}/greet").status_code == 200
        assert post(settings, "webhook-of-theirs") == (200, 1)
        # Of their own secrets only those that are not the local stack's.
        assert post(settings, "stripe-webhook", token) == (
            200,
            ["theirs", "of-theirs", settings["STRIPE_API_KEY"]],
        )
        assert post(settings, "off")[0] == 404
        assert post(settings, "broken", token)[0] == 503
        assert "the edge function broken cannot be loaded: Error: no luck" in log.read_text()
        assert settings["WEBHOOK_URL"].endswith("/tillbase-stripe-webhook")
        assert post(settings, "tillbase-stripe-webhook")[0] == 400
        assert post(settings, "tillbase-checkout", token) == (400, {
            "error": {"code": "invalid_request", "message": "Pass either plan or pack."}
        })  # fmt: skip

    assert (project / ".till/.gitignore").read_text() == "*\n"

    # Again: the seed is not run twice, and one that was changed is named.
    (project / "supabase/seeds/more.sql").write_text(
        "insert into public.accounts (name) values ('changed');\n"
    )
    with dev(project, "--only", "database") as (settings, log):
        with psycopg.connect(settings["POSTGRES_URL"], autocommit=True) as conn:
            assert conn.execute("select count(*) from public.accounts").fetchone() == (2,)
        assert "supabase/seeds/more.sql has changed since it was run: till dev --fresh" in log.read_text()


def test_a_project_without_tillbase_is_told_the_command(project: Path) -> None:
    done = till(project, "dev", "--only", "database")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"error: Tillbase is not in the Supabase project {project}: run `till init`, then this again\n"
    )


@pytest.mark.slow
def test_a_migration_that_needs_more_than_the_local_postgres_has_can_be_left_out(project: Path) -> None:
    assert till(project, "init", "--functions-prefix", "tillbase-").returncode == 0
    name = "20240201000000_lacking.sql"
    (project / "supabase/migrations" / name).write_text("create extension if not exists vector;\n")
    done = till(project, "dev", "--only", "database")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert f"error: {name}, line 1: the local Postgres has no extension vector" in done.stderr
    with (
        dev(project, "--only", "database", "--skip-migration", "20240201000000") as (settings, _),
        psycopg.connect(settings["POSTGRES_URL"]) as conn,
    ):
        applied = conn.execute("select count(*) from supabase_migrations.schema_migrations").fetchone()
        assert applied == (2,)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"db": {"seed": {"sql_paths": ["./none.sql"]}}}, "names ./none.sql, and there is no such file"),
        (
            {"functions": {"none": {"verify_jwt": True}}},
            "[functions.none] of supabase/config.toml: there is no",
        ),
    ],
)
def test_settings_that_name_what_is_not_there_are_refused(
    project: Path, settings: dict[str, Any], told: str
) -> None:
    with pytest.raises(LocalStackError, match=re.escape(told)):
        local_project(project, settings, "")


def test_what_is_switched_off_is_not_run(project: Path) -> None:
    settings = {"db": {"seed": {"enabled": False}}, "functions": {"none": {"enabled": False}}}
    local = local_project(project, settings, "")
    assert local.seeds == ()
    assert "none" not in local.functions
    # Without a block a function checks tokens, as on Supabase.
    assert local.functions["webhook-of-theirs"].verify_jwt

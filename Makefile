.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
TYPESCRIPT := supabase/functions devstack/functions.ts devstack/data_api tests/devstack/*.ts tests/adopt/*.ts \
	examples/web/*.ts examples/web/functions examples/web/page/*.js cli/dashboard/static/*.js
# Also behind a proxy whose certificate only the system's store knows.
export DENO_TLS_CA_STORE ?= system,mozilla

# Tests wait for half of their time, for a time-out or another program: two more than the cores keep those busy.
PROCESSES ?= $(shell expr $$(getconf _NPROCESSORS_ONLN) + 2)

.PHONY: help setup demo dev example pictures test test-fast test-postgres lives adversary mutants chaos bench fmt lint typecheck check migration snapshots reference types clean

help: ## What can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  \033[1m%-13s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(STAMP): pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "installing (once) …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[local,dev]'
	@touch $@

setup: $(STAMP) ## Install everything into .venv (Python >= 3.11 is all it needs)

demo: $(STAMP) ## The whole story on this machine, step by step
	@$(BIN)/till demo

dev: $(STAMP) ## The local stack: Postgres, Stripe, edge functions, worker, dashboard
	@$(BIN)/till dev

example: $(STAMP) ## The example app on a fresh local stack: a shop to click through
	@$(BIN)/till dev --example --fresh

pictures: $(STAMP) ## Take the pictures of the example app and the dashboard again → docs/pictures (needs Chromium)
	@$(BIN)/python -m pytest -q tests/browser --update-snapshots

test: $(STAMP) ## Every test
	@$(BIN)/python -m pytest -n $(PROCESSES) --dist loadgroup

test-fast: $(STAMP) ## After each edit, in a minute and a half: all but browsers, stacks, programs, months of a shop, and further cases of a test with a database
	@$(BIN)/python -m pytest -n $(PROCESSES) --dist loadgroup -m "not slow"

test-postgres: $(STAMP) ## The SQL, worker and release suites on PostgreSQL 15, 16, 17 and 18, and on hosted projects' pgmq (POSTGRES=15: one)
	@PROCESSES=$(PROCESSES) $(BIN)/python -m tests.versions $(POSTGRES)

lives: $(STAMP) ## Two thousand random lives of customers against the oracle (LIVES=n: another number)
	@LIVES=$${LIVES:-2000} $(BIN)/python -m pytest -q -n 2 tests/oracle/test_lives_agree.py

adversary: $(STAMP) ## Three hundred cheapest buyers against the price list, and what each finds with a fix taken out (ADVERSARY_EXAMPLES=n)
	@ADVERSARY_EXAMPLES=$${ADVERSARY_EXAMPLES:-300} $(BIN)/python -m pytest -q -n 2 --show-capture=no tests/properties/test_adversary.py tests/properties/test_adversary_finds.py

mutants: $(STAMP) ## Break seventy rules in copies of the project, and show which test sees each → docs/reference/mutants.md
	@$(BIN)/python -m tests.mutants

chaos: $(STAMP) ## Kill, cut and restart things under load, at each statement and request alone, and in simulated businesses (CHAOS_KILLS, CRASH_TIMES, SEEDS)
	@CHAOS_KILLS=$${CHAOS_KILLS:-100} CRASH_TIMES=$${CRASH_TIMES:-2} SEEDS=$${SEEDS:-20} $(BIN)/python -m pytest -n 2 --dist loadgroup tests/chaos tests/crash tests/simulator

bench: $(STAMP) ## Speed as ratios to a floor of the same run, in ten minutes → bench/latest.json
	@$(BIN)/python -m bench --postgres 17

fmt: $(STAMP) ## Format Python and TypeScript
	@$(BIN)/ruff format --quiet .
	@$(BIN)/ruff check --quiet --fix .
	@$(BIN)/deno fmt --quiet $(TYPESCRIPT)

lint: $(STAMP) ## Formatting and lint, nothing changed
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check --quiet .
	@$(BIN)/deno fmt --quiet --check $(TYPESCRIPT)
	@$(BIN)/deno lint --quiet $(TYPESCRIPT)

typecheck: $(STAMP) ## Pyright, strict, on worker and cli; deno check on the functions
	@$(BIN)/pyright
	@for f in supabase/functions/*/deno.json; do $(BIN)/deno check --quiet --lock=$$(dirname $$f)/deno.lock --frozen --config $$f $$(dirname $$f)/*.ts || exit 1; done
	@$(BIN)/deno check --quiet --config devstack/data_api/deno.json devstack/data_api/*.ts
	@$(BIN)/deno check --quiet --no-lock --config examples/web/deno.json examples/web/*.ts
	@for f in examples/web/functions/*/deno.json; do $(BIN)/deno check --quiet --no-lock --config $$f $$(dirname $$f)/*.ts || exit 1; done

migration: $(STAMP) ## Write the release's migration from supabase/schemas
	@$(BIN)/python -m devstack.release

snapshots: migration ## Write schema.sql, access.txt, the CLI help and docs/reference
	@$(BIN)/python -m pytest -q tests/test_snapshots.py tests/test_cli_help.py tests/doctor/test_catalogue.py tests/reference tests/crash --update-snapshots

reference: migration ## Write docs/reference from the code, its comments and examples that are run
	@$(BIN)/python -m pytest -q tests/reference --update-snapshots

types: migration ## Write types/tillbase.ts and .py from the migrations (needs Node)
	@$(BIN)/python -m pytest -q tests/test_types.py --update-snapshots

check: lint typecheck test ## All that CI looks at

clean: ## Remove the local stack's data and caches (not .venv)
	@rm -rf .till .pytest_cache .ruff_cache .hypothesis

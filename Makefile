# FASHIONISTAR. `make` lists the verbs. Two are enough to start: `make up` and `make test`.
SHELL := /usr/bin/env bash
.DEFAULT_GOAL := help
UV := .tools/venv/bin/uv
PY := .venv/bin/python
SHARED ?= ../shared

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  \033[36m%-18s\033[0m %s\n", $$1, $$2}'

# --- tools -------------------------------------------------------------------------------------
.venv/.synced: requirements/dev.txt .python-version
	@bash devstack/bootstrap.sh
	@touch $@

.PHONY: setup
setup: .venv/.synced ## Install the pinned tools and dependencies into .tools/ and .venv/

.PHONY: lock
lock: setup ## Recompile the hash-pinned requirement files from pyproject.toml
	@bash devstack/lock.sh

# --- run ---------------------------------------------------------------------------------------
.PHONY: up down reset logs status demo
up: .venv/.synced ## Start everything, seeded, and print the URLs (Ctrl-C stops; DETACH=1 returns)
	@$(PY) -m devstack up $(if $(DETACH),--detach)
down: .venv/.synced ## Stop everything that `make up` started
	@$(PY) -m devstack down
reset: .venv/.synced ## Stop and delete the state in .devstack/
	@$(PY) -m devstack reset
logs: .venv/.synced ## Follow the logs of all processes
	@$(PY) -m devstack logs
status: .venv/.synced ## Which processes run, where
	@$(PY) -m devstack status
demo: .venv/.synced ## Buy something and read back the order, the stock and the e-mail
	@$(PY) -m devstack demo

# --- prove -------------------------------------------------------------------------------------
.PHONY: test lint types contracts hops prove load bench
test: .venv/.synced ## The fast suite (own PostgreSQL and Valkey Cluster on free ports, < 5 minutes)
	@$(PY) -m pytest -n auto tests
lint: .venv/.synced ## ruff: rules and format
	@.venv/bin/ruff check . && .venv/bin/ruff format --check .
types: .venv/.synced ## mypy, strict
	@.venv/bin/mypy
contracts: .venv/.synced ## Import contracts and dependency hygiene
	@.venv/bin/lint-imports --no-cache && .venv/bin/deptry .
hops: .venv/.synced ## Thread hops per route, exact
	@$(PY) -m tests.proofs.hops || test $$? -eq 77
prove: .venv/.synced ## Races and kills with exact counts (ROUNDS=3 is quick, MUTANTS=0 leaves the planted bugs out)
	@$(PY) -m tests.proofs.last_unit
	@$(PY) -m tests.proofs.kill_web
	@$(PY) -m tests.proofs.kill_worker
.PHONY: prove-tasks-model conservation
prove-tasks-model: .venv/.synced ## The queue in random order against a reference (EXAMPLES=, STEPS=, SEED=, MUTANTS=0)
	@$(PY) -m tests.proofs.tasks_model
conservation: .venv/.synced ## Tasks counted while workers and relays are killed: none lost, none doubled (ROUNDS=, SEED=)
	@$(PY) -m tests.proofs.conservation
load: .venv/.synced ## Locust, 30 s, against devstack or HOST=; exits 1 on any failure
	@$(PY) -m loadtests
bench: .venv/.synced ## Ratios against the bare ASGI + psycopg limit, interleaved
	@$(PY) -m benchmarks || test $$? -eq 77

# --- ship --------------------------------------------------------------------------------------
.PHONY: images chart cluster-test test-platform
images: ## Build the images with Docker (here: the engine of ../shared/images)
	@bash docker/build.sh
chart: .venv/.synced ## Lint and render the chart
	@$(PY) -m tests.platform
test-platform: chart ## Alias of chart
cluster-test: .venv/.synced ## Build, load, install, buy through the ingress, find the trace, uninstall
	@$(PY) -m tests.cluster || test $$? -eq 77

# --- everything --------------------------------------------------------------------------------
.PHONY: check
check: .venv/.synced ## Exactly what CI runs; the last step is `make test`
	@bash devstack/check.sh

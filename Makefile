# The commands of the shop. Each makes .venv by itself, from hash-pinned requirements.

PYTHON ?= python3
ARGS ?=
BIN := .venv/bin
READY := .venv/.ready
# Test processes, each with a database of its own: as many as suit this machine.
WORKERS ?= $(shell $(PYTHON) tools/workers.py)

# Compiled files make the second start fast, whatever the surroundings say.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: up test lint protos bench chaos siege promises fuzz drill failover audit image-check requirements help

up: $(READY)  ## start the shop: Postgres, services, Envoy (make up ARGS="--port 9000")
	@exec $(BIN)/shop up $(ARGS)

test: $(READY)  ## run the tests (make test ARGS="tests/catalog -k slug")
	@exec $(BIN)/pytest -n $(WORKERS) --dist loadfile $(ARGS)

lint: $(READY)  ## style, types, imports, protos, migrations
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/buf lint
	$(BIN)/buf format --diff --exit-code protos
	$(BIN)/python -m tools.protos --check
	$(BIN)/python -m tools.protos --breaking
	$(BIN)/python -m tools.configuration --check
	$(BIN)/python -m tools.currencies --check
	$(BIN)/python -m tools.lint_migrations

protos: $(READY)  ## regenerate what is made from protos/, settings and ISO 4217
	$(BIN)/python -m tools.protos
	$(BIN)/python -m cli.edge
	$(BIN)/python -m tools.configuration
	$(BIN)/python -m tools.currencies

bench: $(BIN)/.bench  ## load the shop, its peers and plain SQL, and print ratios
	@exec $(BIN)/python -m bench $(ARGS)

chaos: $(READY)  ## kill and stop parts of a shop under load (make chaos ARGS="--seconds 600 --seed 7")
	@exec $(BIN)/python -m tests.chaos $(ARGS)

siege: $(READY)  ## promises about load, faults, replacement at full size (make siege ARGS="overload", or soak)
	@SHOP_TEST_WHOLE=1 exec $(BIN)/python -m tests.siege $(ARGS)

drill: $(READY)  ## back up a large shop, restore it elsewhere, compare (make drill ARGS="--orders 500000")
	@exec $(BIN)/python -m tools.drill $(ARGS)

failover: $(READY)  ## kill a primary under writes, promote its standby (make failover ARGS="--rounds 5")
	@exec $(BIN)/python -m tests.faults.failover $(ARGS)

audit: $(READY)  ## look for known weaknesses in what is installed; asks a service on the network
	@exec $(BIN)/pip-audit --strict --disable-pip --require-hashes -r requirements.txt $(ARGS)

image-check: $(READY)  ## run the Dockerfiles' steps without docker, and the images (root, debootstrap)
	@$(BIN)/python -m tools.image $(ARGS) && exec $(BIN)/python -m tools.image_pooler $(ARGS)

promises: $(READY)  ## what is promised of payments and sign-ins, at full size (about a quarter of an hour)
	@exec $(BIN)/python -m tests.chaos.promises $(ARGS)

fuzz: $(READY)  ## random calls to everything, and the OpenAPI document (make fuzz ARGS="--seconds 600 --seed 7")
	@exec $(BIN)/python -m tests.fuzz $(ARGS)

requirements: $(READY)  ## pin requirements*.in anew (make requirements ARGS=--upgrade)
	@for name in requirements-uv requirements requirements-tracing requirements-dev requirements-bench; do \
	  $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	    --no-emit-index-url --no-emit-find-links --custom-compile-command "make requirements" \
	    $(ARGS) $$name.in --output-file $$name.txt || exit 1; \
	done

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# An environment that was moved here from another folder does not work: its stamp names its home.
ifneq ($(lastword $(shell cat $(READY) 2>/dev/null)),$(CURDIR)/.venv)
.PHONY: $(READY)
endif

$(READY): requirements-uv.txt requirements.txt requirements-tracing.txt requirements-dev.txt pyproject.toml tools/venv.py
	@$(PYTHON) tools/venv.py

# The peers and the profiler, which nothing but the bench needs.
$(BIN)/.bench: requirements-bench.txt $(READY)
	@$(BIN)/python tools/venv.py requirements-bench.txt
	@touch $@

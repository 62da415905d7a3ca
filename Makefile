# The commands of the project; `make help` lists them. All set-up there is: `make demo` and `make test`.
SHELL := /bin/bash
.DEFAULT_GOAL := help

# The newest suitable interpreter that has venv; 3.11 alone is enough.
PYTHON ?= $(shell for v in 3.14 3.13 3.12 3.11 3; do \
	p=$$(command -v python$$v 2>/dev/null) && $$p -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
ARGS ?=

.PHONY: help install test check format realcluster real faults bench bench-render docs clean

help: ## list the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

install: $(READY) ## create .venv and install what tests and tools need

$(READY): pyproject.toml requirements/dev.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer with venv is needed: apt-get install python3-venv" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

test: $(READY) ## fast tests, no cluster needed
	$(BIN)/python -m pytest $(ARGS)

check: $(READY) ## format, lint, types, layers, sizes, generated documents
	$(BIN)/ruff format --check src tests tools bench
	$(BIN)/ruff check src tests tools bench
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python tools/shape.py
	$(BIN)/python tools/reference.py --check
	$(BIN)/python tools/fragments.py

format: $(READY) ## write the format and the generated documents
	$(BIN)/ruff format src tests tools bench
	$(BIN)/ruff check --fix --quiet src tests tools bench
	$(BIN)/python tools/reference.py

docs: $(READY) ## generate the reference
	$(BIN)/python tools/reference.py

realcluster: $(READY) ## build the real control plane once (needs Go 1.26 and, cold, about 8 minutes)
	$(BIN)/python -m tests.realcluster.build

real: realcluster ## recordings and corpora end to end on the real control plane
	$(BIN)/python -m pytest tests/real $(ARGS)

faults: realcluster ## kills at every call, API faults, counts over time
	$(BIN)/python -m pytest tests/faults $(ARGS)

bench: realcluster ## ratios against a peer in the same run
	$(BIN)/python -m bench $(ARGS)

bench-render: $(READY) ## our kustomize against the binary: ratios and slopes
	$(BIN)/python -m bench.render $(ARGS)

clean: ## remove what was built here
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache

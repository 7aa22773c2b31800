# `make` says what there is. On a fresh Debian or Ubuntu, root or sudo, `make demo` and `make test`
# install what is missing and say what; PYTHON=... names an interpreter that has everything.

LAB_SPECS ?= trixie:nspawn:root+user bookworm:nspawn:root+user trixie:vm:root+user bookworm:vm:root+user
LAB_ARGS ?= -m "systemd or root"
PYTEST_ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help demo test lint types unit lab bench clean prepare

INTERPRETER = $(or $(PYTHON),.venv/bin/python)
# The lab mounts, chroots and boots: it is root's.
ROOT = $(if $(filter 0,$(shell id -u)),,sudo)
LAB = -p tests.lab.plugin --lab-args '$(LAB_ARGS)' $(foreach spec,$(LAB_SPECS),--lab '$(spec)')
QUIET = -p no:cacheprovider -q

help: ## this list
	@sed -n 's/^\([a-z]*\):[^#]*## /\1\t/p' Makefile | expand -t 10

demo: ## a gateway with nine MCP servers is killed; what stays without and with scopekeeper
	@PYTHON='$(PYTHON)' tests/prepare.sh demo
	@PYTHONDONTWRITEBYTECODE=1 $(INTERPRETER) -m tests.demo

test: lint types ## everything: lint, types, unit tests, and the suites in the lab's machines
	@$(ROOT) $(INTERPRETER) -m pytest $(QUIET) $(LAB) $(PYTEST_ARGS) tests

prepare:
	@PYTHON='$(PYTHON)' tests/prepare.sh test

lint: prepare ## ruff
	@$(INTERPRETER) -m ruff check --quiet .
	@$(INTERPRETER) -m ruff format --check --quiet .

types: prepare ## mypy
	@$(INTERPRETER) -m mypy

unit: prepare ## the tests that need no machine of their own
	@$(INTERPRETER) -m pytest $(QUIET) -m 'not systemd and not root and not mcp' $(PYTEST_ARGS) tests

lab: prepare ## the suites in the lab's machines only: make lab LAB_SPECS=trixie:nspawn:user
	@$(ROOT) $(INTERPRETER) -m pytest $(QUIET) $(LAB) $(PYTEST_ARGS) tests/lab

bench: prepare ## the benchmarks, in a machine at native speed
	@$(ROOT) $(INTERPRETER) -m tests.lab run trixie --nspawn -- python -m benchmarks

clean: ## remove what make made here; the lab's images stay (python -m tests.lab clean)
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist

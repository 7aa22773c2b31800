# `make` says what there is. On a fresh Debian or Ubuntu, root or sudo, `make demo` and `make test`
# install what is missing and say what; PYTHON=... names an interpreter that has everything.

LAB_SPECS ?= trixie:nspawn:root+user bookworm:nspawn:root+user trixie:vm:root+user bookworm:vm:root
LAB_ARGS ?= -m "(systemd or root) and not controllers"
# All rounds of the tests of races: make test LAB_ARGS='-m "(systemd or root) and not controllers" --thorough'
# The virtual machines run what a container cannot: an emulated processor is ten times slower.
# What has a machine to itself is run in one of them only. All of it in all: make test VM_ARGS='-m "systemd or root"'
VM_ARGS ?=
TO_ITSELF ?= trixie:vm:root+user
PYTEST_ARGS ?=
# The real OpenClaw in a machine of its own: a version, both, or nothing. What it needs is fetched
# from npm's registry once.
OPENCLAW ?= 2026.9.6

# vagrant/ in an emulated Debian: which one, from deb or pip, and what of the suites (all of them:
# make test-vagrant VAGRANT_ARGS=)
VAGRANT_BOX ?= trixie
VAGRANT_FROM ?=
VAGRANT_ARGS ?= --quick

.DEFAULT_GOAL := help
.PHONY: help demo test test-openclaw test-vagrant lint types unit lab bench clean prepare

INTERPRETER = $(abspath $(or $(PYTHON),.venv/bin/python))
# The lab mounts, chroots and boots: it is root's. The tests find the installed command in PATH.
RUN = exec $(if $(filter 0,$(shell id -u)),,sudo) env PYTHONDONTWRITEBYTECODE=1 \
    PATH="$(dir $(INTERPRETER)):$$PATH" $(INTERPRETER) -m
vm_args = $(or $(VM_ARGS),-m "controllers$(if $(filter $(1),$(TO_ITSELF)),, and not machine)")
spec = --lab '$(1)=$(if $(findstring :vm:,$(1)),$(vm_args),$(LAB_ARGS))'
LAB = -p tests.lab.plugin $(foreach each,$(LAB_SPECS),$(call spec,$(each)))
PYTEST = pytest -p no:cacheprovider -q
WITH_OPENCLAW = -p tests.e2e.plugin --openclaw '$(OPENCLAW)'

help: ## this list
	@sed -n 's/^\([a-z-]*\):[^#]*## /\1\t/p' Makefile | expand -t 16

demo: ## a gateway with nine MCP servers is killed; what stays without and with scopekeeper
	@PYTHON='$(PYTHON)' tests/prepare.sh demo
	@PYTHONDONTWRITEBYTECODE=1 $(INTERPRETER) -m tests.demo

test: lint types ## everything: lint, types, unit tests, and the suites in the lab's machines
	@$(RUN) $(PYTEST) $(LAB) $(WITH_OPENCLAW) -m 'not systemd and not root and not openclaw' \
	    $(PYTEST_ARGS) tests

test-openclaw: prepare ## the real OpenClaw without and with it: make test-openclaw OPENCLAW=both
	@$(RUN) $(PYTEST) -p tests.lab.plugin $(WITH_OPENCLAW) --lab-jobs 1 --lab-timeout 1500 \
	    -m 'not openclaw' $(PYTEST_ARGS) tests/e2e

test-vagrant: prepare ## vagrant/ as it is, in an emulated Debian: make test-vagrant VAGRANT_BOX=bookworm
	@$(RUN) tests.vagrant test $(VAGRANT_BOX) $(addprefix --from=,$(VAGRANT_FROM)) -- $(VAGRANT_ARGS)

prepare:
	@PYTHON='$(PYTHON)' OPENCLAW='$(OPENCLAW)' tests/prepare.sh test

lint: prepare ## ruff
	@$(INTERPRETER) -m ruff check --quiet .
	@$(INTERPRETER) -m ruff format --check --quiet .

types: prepare ## mypy
	@$(INTERPRETER) -m mypy

unit: prepare ## the tests that need no machine of their own
	@$(INTERPRETER) -m $(PYTEST) -m 'not systemd and not root and not mcp and not openclaw' $(PYTEST_ARGS) tests

lab: prepare ## the suites in the lab's machines only: make lab LAB_SPECS=trixie:nspawn:user
	@$(RUN) $(PYTEST) $(LAB) $(PYTEST_ARGS) tests/lab

bench: prepare ## the benchmarks, in a machine at native speed
	@$(RUN) tests.lab run trixie --nspawn -- python -m benchmarks

clean: ## remove what make made here; the lab's images stay (python -m tests.lab clean)
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist

# `make` says what there is. On a fresh Debian or Ubuntu, root or sudo, `make demo` and `make test`
# install what is missing and say what; PYTHON=... names an interpreter that has everything.

LAB_SPECS ?= trixie:nspawn:root+user bookworm:nspawn:user trixie:vm:root+user
# What `make test` leaves to `make test-all`, for time's sake.
MORE_SPECS = root@bookworm:nspawn:root bookworm:vm:root
LAB_ARGS ?= -m "(systemd or root) and not controllers"
# All rounds of the tests of races: make test LAB_ARGS='-m "(systemd or root) and not controllers" --thorough'
# The virtual machines run what a container cannot: an emulated processor is ten times slower.
# What has a machine to itself is run in one of them only. All of it in all: make test VM_ARGS='-m "systemd or root"'
VM_ARGS ?=
# Every systemd, kernel and Python that the lab has; all of it in each virtual machine, and the unit
# tests with each Python.
MATRIX ?= bookworm bookworm-backports trixie forky
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
.PHONY: help demo test test-all test-matrix test-openclaw test-vagrant deb test-deb lint types unit lab bench \
    docs clean prepare

INTERPRETER = $(abspath $(or $(PYTHON),.venv/bin/python))
# The lab mounts, chroots and boots: it is root's. The tests find the installed command in PATH.
RUN = exec $(if $(filter 0,$(shell id -u)),,sudo) env PYTHONDONTWRITEBYTECODE=1 \
    PATH="$(dir $(INTERPRETER)):$$PATH" $(INTERPRETER) -m
vm_args = $(or $(VM_ARGS),-m "controllers$(if $(filter $(1),$(TO_ITSELF)),, and not machine)")
spec = --lab '$(1)=$(if $(findstring :vm:,$(1)),$(vm_args),$(LAB_ARGS))'
LAB = -p tests.lab.plugin $(foreach each,$(LAB_SPECS),$(call spec,$(each)))
PYTEST = pytest -p no:cacheprovider -q
# What is to run where make does, and not in machines of the lab.
HERE = not systemd and not root and not openclaw and not reload and not deb and not builds
# The .deb on machines that have what it depends on from their own archive, and no compiler.
DEB = $(foreach suite,bookworm trixie,--lab '$(suite)-deb:nspawn:root:$(CURDIR)/dist:/srv/deb=-m deb tests/deb')
WITH_OPENCLAW = -p tests.e2e.plugin --openclaw '$(OPENCLAW)'

help: ## this list
	@sed -n 's/^\([a-z-]*\):[^#]*## /\1\t/p' Makefile | expand -t 16

demo: ## a gateway with nine MCP servers is killed; what stays without and with scopekeeper
	@PYTHON='$(PYTHON)' tests/prepare.sh demo
	@PYTHONDONTWRITEBYTECODE=1 $(INTERPRETER) -m tests.demo

test: lint types deb ## lint, types, unit tests, and the suites in the lab's machines
	@echo 'Machines: $(LAB_SPECS)$(if $(filter $(MORE_SPECS),$(LAB_SPECS)),,; not run: $(MORE_SPECS) (make test-all))'
	@$(RUN) $(PYTEST) $(LAB) $(DEB) $(WITH_OPENCLAW) --lab-timeout 1800 -m '$(HERE)' $(PYTEST_ARGS) tests

test-all: LAB_SPECS += $(MORE_SPECS)
test-all: test ## the same in all of the lab's machines for both of Debian 12 and 13

test-matrix: LAB_SPECS = $(foreach each,$(MATRIX),$(each):nspawn:root+user $(each):vm:root+user)
test-matrix: TO_ITSELF = $(LAB_SPECS)
test-matrix: prepare ## the suites on every systemd of the lab, hours: make test-matrix MATRIX=forky
	@$(RUN) $(PYTEST) $(LAB) $(foreach each,$(MATRIX),--lab 'unit@$(each):nspawn:user=tests/unit') \
	    --lab-timeout 5400 $(PYTEST_ARGS) tests/lab

test-openclaw: prepare ## the real OpenClaw without and with it: make test-openclaw OPENCLAW=both
	@$(RUN) $(PYTEST) -p tests.lab.plugin $(WITH_OPENCLAW) --lab-jobs 1 --lab-timeout 1500 \
	    -m 'not openclaw' $(PYTEST_ARGS) tests/e2e

deb: prepare ## dist/scopekeeper_VERSION_ARCH.deb, for Debian 12 and later and Ubuntu 24.04
	@$(RUN) tests.lab deb

test-deb: deb ## the .deb: built again to the byte, and installed, used and purged on both suites
	@$(RUN) $(PYTEST) -p tests.lab.plugin $(DEB) -m builds $(PYTEST_ARGS) tests/deb

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
	@PATH="$(dir $(INTERPRETER)):$$PATH" $(INTERPRETER) -m $(PYTEST) -m '$(HERE) and not mcp' $(PYTEST_ARGS) tests

lab: prepare ## the suites in the lab's machines only: make lab LAB_SPECS=trixie:nspawn:user
	@$(RUN) $(PYTEST) $(LAB) $(PYTEST_ARGS) tests/lab

bench: prepare ## the benchmarks, in a machine at native speed
	@$(RUN) tests.lab run trixie --nspawn -- python -m benchmarks

docs: prepare ## write docs/commands.md from what the commands declare
	@$(INTERPRETER) -m tests.docs.commands

clean: ## remove what make made here; the lab's images stay (python -m tests.lab clean)
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist

# `make` says what there is. On a fresh Debian or Ubuntu, root or sudo, `make demo` and `make test`
# install what is missing and say what; PYTHON=... names an interpreter that has everything.

# The machines of `make lab`.
LAB_SPECS ?= trixie:nspawn:root+user bookworm:nspawn:user trixie:vm:root+user
LAB_ARGS ?= -m "(systemd or root) and not controllers"
# All rounds of the tests of races: make lab LAB_ARGS='-m "(systemd or root) and not controllers" --thorough'
# The virtual machines run what a container cannot: an emulated processor is ten times slower.
# All of it in all: make lab VM_ARGS='-m "systemd or root"'
VM_ARGS ?= -m controllers
# Every systemd, kernel and Python that the lab has; all of it in each virtual machine, and the unit
# tests with each Python.
MATRIX ?= bookworm bookworm-backports trixie forky
# Some of the parts of make test and make test-all: make test PARTS='lint trixie-root'
PARTS ?=
# What make test goes on with: each of the other parts, in their order, that fits in so many minutes.
WITHIN ?=
# When those minutes have begun: seconds since 1970.
SINCE := $(or $(SINCE),$(shell date +%s))
# How much at a time; two for each processor and one more are as much as they take.
JOBS ?=
PYTEST_ARGS ?=
# How make bench mounts cgroup2, which only a virtual machine can: favordynmods or nofavordynmods
CGROUP2 ?=
# The real OpenClaw in a machine of its own, of make test-openclaw: a version or both. What it needs
# is fetched from npm's registry once.
OPENCLAW ?= 2026.9.6
# The real MCP clients, of make test-clients: one, several, or all.
CLIENT ?= all

# vagrant/ in an emulated Debian: which one, from deb or pip, and what of the suites (all of them:
# make test-vagrant VAGRANT_ARGS=)
VAGRANT_BOX ?= trixie
VAGRANT_FROM ?=
VAGRANT_ARGS ?= --quick

.DEFAULT_GOAL := help
.PHONY: help demo test test-all parts proof model faults storm day test-matrix test-openclaw test-clients test-prometheus test-ansible test-vagrant deb test-deb lint types unit lab bench curves \
    docs site pictures clean prepare

INTERPRETER = $(abspath $(or $(PYTHON),.venv/bin/python))
# The lab mounts, chroots and boots: it is root's. The tests find the installed command in PATH.
AS_ROOT = exec $(if $(filter 0,$(shell id -u)),,sudo) env PYTHONDONTWRITEBYTECODE=1
RUN = $(AS_ROOT) PATH="$(dir $(INTERPRETER)):$$PATH" $(INTERPRETER) -m
spec = --lab '$(1)=$(if $(findstring :vm:,$(1)),$(VM_ARGS),$(LAB_ARGS))'
LAB = -p tests.lab.plugin $(foreach each,$(LAB_SPECS),$(call spec,$(each)))
PYTEST = pytest -p no:cacheprovider -q
# What is to run where make does, and not in machines of the lab.
HERE = not systemd and not root and not openclaw and not prometheus and not reload and not deb and not builds and not browser and not oomd
# The .deb on machines that have what it depends on from their own archive, and no compiler.
DEB = $(foreach suite,bookworm trixie,--lab '$(suite)-deb:nspawn:root:$(CURDIR)/dist:/srv/deb=-m deb tests/deb')
REMOUNT = mount -o remount,$(CGROUP2) /sys/fs/cgroup && exec "$$@"
BENCH_IN = $(if $(CGROUP2),--vm -- sh -c '$(REMOUNT)' sh,--nspawn --)
PART_ARGS = $(if $(WITHIN),--within $(WITHIN)) --since $(SINCE) $(if $(JOBS),--jobs $(JOBS))
WITH_OPENCLAW = -p tests.e2e.plugin --openclaw '$(OPENCLAW)'

help: ## this list
	@sed -n 's/^\([a-z-]*\):[^#]*## /\1\t/p' Makefile | expand -t 16

demo: ## a gateway with nine MCP servers is killed; what stays without and with scopekeeper
	@PYTHON='$(PYTHON)' tests/prepare.sh demo
	@PYTHONDONTWRITEBYTECODE=1 $(INTERPRETER) -m tests.demo

# npm, where something of it is asked for
test-all test-openclaw test-clients: NPM = yes
test: NPM = $(WITHIN)$(findstring openclaw,$(PARTS))$(findstring clients-,$(PARTS))

test: prepare ## lint, types, unit tests, the main job on real systemds: some 6 minutes
	@$(RUN) tests.parts test $(PARTS) $(PART_ARGS)

test-all: prepare ## everything there is, with a table: hours
	@$(RUN) tests.parts all $(PART_ARGS)

parts: prepare ## the parts of both, in their order
	@$(INTERPRETER) -m tests.parts list

proof: prepare ## kill and fail commands at so many points, in a machine: make proof COUNT=5000 SEED=1
	@$(RUN) tests.proof lab crash $(if $(COUNT),--count $(COUNT)) $(if $(SEED),--seed $(SEED)) $(PROOF_ARGS)

model: prepare ## random steps beside a model of what must exist: make model STEPS=10000 SEED=1
	@$(RUN) tests.model lab $(if $(STEPS),--steps $(STEPS)) $(if $(SEED),--seed $(SEED)) $(MODEL_ARGS)

faults: prepare ## the bus, systemd and /run fail in a machine: make faults FAULTS_ARGS=--root
	@$(RUN) tests.proof.faults $(FAULTS_ARGS)

storm: prepare ## sessions begin and end as fast as the machine can: make storm MINUTES=30 SEED=1
	@$(RUN) tests.storm lab storm $(if $(MINUTES),--minutes $(MINUTES)) $(if $(SEED),--seed $(SEED)) $(STORM_ARGS)

day: prepare ## a day of a keeper, its clock moved on: make day ENDS=100000 HOURS=24
	@$(RUN) tests.storm lab day $(if $(ENDS),--ends $(ENDS)) $(if $(HOURS),--hours $(HOURS)) $(if $(SEED),--seed $(SEED)) $(STORM_ARGS)

test-matrix: LAB_SPECS = $(foreach each,$(MATRIX),$(each):nspawn:root+user $(each):vm:root+user)
test-matrix: prepare ## the suites on every systemd of the lab, hours: make test-matrix MATRIX=forky
	@$(RUN) $(PYTEST) $(LAB) $(foreach each,$(MATRIX),--lab 'unit@$(each):nspawn:user=tests/unit') \
	    --lab-timeout 5400 $(PYTEST_ARGS) tests/lab

test-openclaw: prepare ## the real OpenClaw without and with it: make test-openclaw OPENCLAW=both
	@$(RUN) $(PYTEST) -p tests.lab.plugin $(WITH_OPENCLAW) --lab-jobs 1 --lab-timeout 5400 \
	    -m 'not openclaw' $(PYTEST_ARGS) tests/e2e

test-clients: prepare ## real MCP clients without and with it: make test-clients CLIENT=claude
	@$(RUN) $(PYTEST) -p tests.lab.plugin -p tests.e2e.clients.plugin --client '$(CLIENT)' \
	    --lab-jobs 1 --lab-timeout 5400 -m 'not openclaw' $(PYTEST_ARGS) tests/e2e/clients

test-prometheus: prepare ## a real Prometheus and node_exporter read the metrics
	@$(RUN) $(PYTEST) -p tests.lab.plugin -p tests.prometheus.plugin --prometheus --lab-only \
	    $(PYTEST_ARGS) tests/lab

test-ansible: prepare deb ## a real Ansible plays the role of examples/ansible
	@$(RUN) $(PYTEST) -p tests.lab.plugin -p tests.ansible.plugin --ansible --lab-only \
	    $(PYTEST_ARGS) tests/lab

deb: ## dist/scopekeeper_VERSION_ARCH.deb, for Debian 12 and later and Ubuntu 24.04
	@python=$$(PYTHON='$(PYTHON)' tests/prepare.sh deb) && $(AS_ROOT) "$$python" -m tests.lab deb

test-deb: prepare deb ## the .deb: built again to the byte, and installed, used and purged on both suites
	@$(RUN) $(PYTEST) -p tests.lab.plugin $(DEB) -m builds $(PYTEST_ARGS) tests/deb

test-vagrant: prepare ## vagrant/ as it is, in an emulated Debian: make test-vagrant VAGRANT_BOX=bookworm
	@$(RUN) tests.vagrant test $(VAGRANT_BOX) $(addprefix --from=,$(VAGRANT_FROM)) -- $(VAGRANT_ARGS)

prepare:
	@PYTHON='$(PYTHON)' OPENCLAW='$(NPM)' tests/prepare.sh test

lint: prepare ## ruff
	@$(INTERPRETER) -m ruff check --quiet .
	@$(INTERPRETER) -m ruff format --check --quiet .

types: prepare ## mypy
	@$(INTERPRETER) -m mypy

unit: prepare ## the tests that need no machine of their own
	@PATH="$(dir $(INTERPRETER)):$$PATH" $(INTERPRETER) -m $(PYTEST) -m '$(HERE) and not mcp' $(PYTEST_ARGS) tests

lab: prepare ## the suites in the lab's machines only: make lab LAB_SPECS=trixie:nspawn:user
	@$(RUN) $(PYTEST) $(LAB) $(PYTEST_ARGS) tests/lab

bench: prepare ## the benchmarks, in a machine at native speed; ONLY=words: tables with these in the title
	@$(RUN) tests.lab run trixie $(BENCH_IN) python -m benchmarks --only '$(ONLY)'

curves: prepare ## what 100 to 10,000 scopes cost, drawn for docs/performance.md: some 15 minutes
	@$(RUN) tests.lab run trixie --nspawn --timeout 1500 -- python -m benchmarks.curves --most $(or $(MOST),10000) | \
	    $(INTERPRETER) -m benchmarks.curves --from -

site: prepare ## the pages of docs/ as a site in build/site
	@NO_MKDOCS_2_WARNING=1 $(INTERPRETER) -m mkdocs build --strict --quiet
	@echo build/site/index.html

pictures: prepare ## film README's picture in a machine of the lab, and draw it
	@$(RUN) tests.pictures

docs: prepare ## write docs/commands.md, docs/python.md and the drawings from the code
	@$(INTERPRETER) -m tests.docs.commands
	@$(INTERPRETER) -m tests.docs.python
	@$(INTERPRETER) -m tests.pictures.diagrams

clean: ## remove what make made here; the lab's images stay (python -m tests.lab clean)
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist

# `make run` and `make test` start from nothing: they build the environments they need, from the locks.
#
#   .venv          runtime.txt + build.txt + this package (editable): what `make run` needs
#   .venv-dev      test.txt + lint.txt + build.txt + this package (editable)
#   .venv-clients  the real clients that the tests run
#   .venv-bench    servers to compare with, and to copy from
#   .venv-docs     Sphinx

PYTHON ?= python3
HOST ?= 127.0.0.1
PORT ?= 8888
PYTEST_ARGS ?=
BENCH_ARGS ?=
UPGRADE ?=
# Test processes: two a core, for they wait half of their time; four at the most (each may start servers of its own).
WORKERS ?= $(shell n=$$(getconf _NPROCESSORS_ONLN); echo $$((n > 1 ? 4 : 2)))
# Those of the inner loop: unit tests hardly wait, and each process collects all of them.
UNIT_WORKERS ?= $(shell n=$$(getconf _NPROCESSORS_ONLN); echo $$((n < 4 ? n : 4)))
# The program of `make pytest` and `make e2e`. CI's runs a few failed tests once more.
PYTEST ?= .venv-dev/bin/pytest

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

# Environments. Each is made anew when its locks or the interpreter change, told by a stamp whose name holds
# the hash of both: times of files, which a checkout or a CI cache resets, do not count.
python := $(shell $(PYTHON) -VV 2>&1)
content = $(shell { cat $(1) && echo '$(python)'; } 2>&1 | sha256sum | cut -c1-16)
req = $(patsubst %,requirements/%.txt,$(1))

RUN_LOCKS := $(call req,runtime build)
DEV_LOCKS := $(call req,test lint build)
RUN_STAMP := .venv/stamp-$(call content,$(RUN_LOCKS))
DEV_STAMP := .venv-dev/stamp-$(call content,$(DEV_LOCKS))
CLIENTS_STAMP := .venv-clients/stamp-$(call content,$(call req,clients))
BENCH_STAMP := .venv-bench/stamp-$(call content,$(call req,bench))
DOCS_STAMP := .venv-docs/stamp-$(call content,$(call req,docs))
# The package itself is editable; only a change of its metadata (entry points) needs it installed again.
RUN_PACKAGE := $(RUN_STAMP)-package-$(call content,pyproject.toml)
DEV_PACKAGE := $(DEV_STAMP)-package-$(call content,pyproject.toml)

pip_install = $(1)/bin/python -m pip install --quiet --disable-pip-version-check

# $(1): folder, $(2): locks. With hashes pip takes nothing but what is locked, from wherever it comes.
define environment
@echo "--- $(1): $(2)"
@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later: make PYTHON=...")'
$(PYTHON) -m venv --clear $(1)
$(pip_install) --require-hashes $(addprefix -r ,$(2))
@touch $@
endef

define package
$(pip_install) --no-deps --no-build-isolation --editable .
@rm -f $(1)/stamp-*-package-* && touch $@
endef

$(RUN_STAMP):
	$(call environment,.venv,$(RUN_LOCKS))
$(DEV_STAMP):
	$(call environment,.venv-dev,$(DEV_LOCKS))
$(CLIENTS_STAMP):
	$(call environment,.venv-clients,$(call req,clients))
$(BENCH_STAMP):
	$(call environment,.venv-bench,$(call req,bench))
$(DOCS_STAMP):
	$(call environment,.venv-docs,$(call req,docs))
$(RUN_PACKAGE): $(RUN_STAMP)
	$(call package,.venv)
$(DEV_PACKAGE): $(DEV_STAMP)
	$(call package,.venv-dev)

.PHONY: .venv .venv-dev .venv-clients .venv-bench .venv-docs
.venv: $(RUN_PACKAGE)
.venv-dev: $(DEV_PACKAGE)
.venv-clients: $(CLIENTS_STAMP)
.venv-bench: $(BENCH_STAMP)
.venv-docs: $(DOCS_STAMP)

.PHONY: help run run-cluster stop-cluster test cluster node pytest unit e2e coverage lint format lock bench docs clean

help: ## This list
	@sed -nE 's/^([a-z0-9-]+):[^#]*## (.*)/  make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 20

run: .venv ## Serve examples/quickstart (HOST, PORT); packages are kept in .pywharf
	exec .venv/bin/pywharf up examples/quickstart --root .pywharf --host $(HOST) --port $(PORT)

# Without CONTEXT on a node of its own, which needs root; with CONTEXT=NAME (or `current`) and IMAGE=… on a cluster
# that is there. What it has made it remembers in CLUSTER_STATE.
CLUSTER_STATE ?= .pywharf-cluster
CONTEXT ?=
IMAGE ?=
run_cluster = PYTHONPATH=tests .venv-dev/bin/python -m support.run_cluster.command $(1) --state '$(CLUSTER_STATE)'

run-cluster: .venv-dev ## The same on Kubernetes, by the chart (PORT; CONTEXT, IMAGE for a cluster that is there)
	@$(call run_cluster,start) --port $(PORT) --context '$(CONTEXT)' --image '$(IMAGE)'

stop-cluster: .venv-dev ## End what run-cluster started, and remove every trace of it
	@$(call run_cluster,stop)

test: lint ## Every check and test this machine can run; names what it leaves out
	@$(MAKE) --no-print-directory pytest
	@$(MAKE) --no-print-directory e2e

# Programs built from Go modules, once, into ~/.cache/pywharf-test (XDG_CACHE_HOME): docs/testing.md.
cluster: ## Build the Kubernetes, helm and the linters that the tests run (needs go)
	@$(PYTHON) tests/support/cluster/build.py $(CLUSTER)

CLUSTER := cluster lint helm helm-docs versitygw
NODE := cluster node containers coredns helm

# Without go, or without a way to its modules, the tests that need a cluster are left out and say why.
# tests/bench is left out, and tests/e2e comes after it in one process (make e2e). Fast folders come first:
# tests/conftest.py.
pytest: .venv-dev .venv-clients .venv-bench ## The tests alone (WORKERS, PYTEST_ARGS)
	-@$(PYTHON) tests/support/cluster/build.py $(CLUSTER) >/dev/null
	PYWHARF_TEST_CLIENTS=$(CURDIR)/.venv-clients/bin \
	  $(PYTEST) tests --ignore=tests/bench --ignore=tests/e2e \
	  --numprocesses $(WORKERS) --durations 5 --hypothesis-profile thorough $(PYTEST_ARGS)

# Properties are tried with fewer examples than in `make pytest`: tests/support/examples.py.
unit: .venv-dev ## The inner loop: tests/unit, in less than a minute on two cores
	.venv-dev/bin/pytest tests/unit --numprocesses $(UNIT_WORKERS) --quiet $(PYTEST_ARGS)

# What a node is made of: Kubernetes' parts, container runtime, DNS, and images (needs root, Debian packages).
node:
	@$(PYTHON) tests/support/cluster/build.py $(NODE) >/dev/null
	@$(PYTHON) tests/support/node/image_build.py >/dev/null

# One process: they share one node. Without its parts they are left out and say why.
e2e: .venv-dev .venv-clients ## The tests with real containers, on a node of their own (needs root)
	-@$(MAKE) --no-print-directory node
	PYWHARF_TEST_CLIENTS=$(CURDIR)/.venv-clients/bin \
	  $(PYTEST) tests/e2e --durations 5 --timeout 600 -rP $(PYTEST_ARGS)

coverage: ## The tests, with branch coverage of both packages
	@$(MAKE) --no-print-directory pytest PYTEST_ARGS="--cov --cov-report term --cov-report html $(PYTEST_ARGS)"

# Until a folder has its first file, mypy and ruff must not be sent there.
SOURCES := $(wildcard server operator tests examples/backend/src .ci/check_tree.py)

lint: .venv-dev ## ruff, mypy, import-linter, deptry, codespell, .ci/check_tree.py
	.venv-dev/bin/ruff check $(SOURCES)
	.venv-dev/bin/ruff format --check $(SOURCES)
	.venv-dev/bin/mypy $(SOURCES)
	.venv-dev/bin/lint-imports --no-logo
	.venv-dev/bin/deptry server operator --no-ansi
	.venv-dev/bin/codespell
	.venv-dev/bin/python .ci/check_tree.py

format: .venv-dev ## Format, and mend what ruff can mend
	.venv-dev/bin/ruff check --fix-only $(SOURCES)
	.venv-dev/bin/ruff format $(SOURCES)

# Nothing of this machine may come in: no uv.toml, no folder of wheels, no index of its own in the file.
# Existing pins stay unless they must move; `make lock UPGRADE=--upgrade` moves all.
compile = env -u UV_FIND_LINKS UV_CUSTOM_COMPILE_COMMAND="make lock" \
  .venv-clients/bin/uv pip compile --quiet --no-config --no-strip-extras --generate-hashes --no-emit-index-url \
  --universal --python-version 3.11 $(UPGRADE) --output-file requirements/$(strip $(1)).txt $(2)

# The order matters: what is installed together is held to the same versions by -c.
lock: .venv-clients ## Write requirements/*.txt anew (UPGRADE=--upgrade for newer versions)
	$(call compile, runtime, pyproject.toml --extra operator --extra github --extra s3 --extra gcs --extra azure --extra identity)
	$(call compile, build, requirements/build.in -c requirements/runtime.txt)
	$(call compile, test, pyproject.toml --extra operator --extra github --extra s3 --extra gcs --extra azure --extra identity requirements/test.in -c requirements/runtime.txt \
	  -c requirements/build.txt)
	$(call compile, lint, requirements/lint.in -c requirements/test.txt -c requirements/build.txt)
	$(call compile, clients, requirements/clients.in)
	$(call compile, bench, requirements/bench.in)
	$(call compile, docs, requirements/docs.in)

# It measures and does not judge; what it needs besides (nginx, wrk) it names. On a machine at rest, please.
bench: .venv-dev .venv-bench .venv-clients ## Measure against other servers (BENCH_ARGS="--json FILE", "--help" …)
	PYTHONPATH=tests PYWHARF_BENCH_PEERS=$(CURDIR)/.venv-bench/bin PYWHARF_TEST_CLIENTS=$(CURDIR)/.venv-clients/bin \
	  .venv-dev/bin/python -m bench.main $(BENCH_ARGS)

docs: .venv-docs ## The documentation as HTML, in build/docs
	.venv-docs/bin/sphinx-build --fail-on-warning --keep-going docs build/docs

clean: ## Remove the environments, caches and reports; .pywharf (packages of `make run`) stays
	@test ! -e '$(CLUSTER_STATE)' || { echo "a cluster of run-cluster is there: first make stop-cluster" >&2; exit 1; }
	rm -rf .venv .venv-dev .venv-clients .venv-bench .venv-docs build dist htmlcov .coverage* .hypothesis
	rm -rf .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	find server operator tests .ci -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

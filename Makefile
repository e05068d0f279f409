# `make help` lists the targets. PYTHON=... chooses the interpreter, PYTEST_ARGS=...,
# BENCHMARK=..., SCALE=..., ONLY=... and JOBS=... are passed on.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
# Every set of extras is installed into the same environment.
.NOTPARALLEL:

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?=
PYTEST_ARGS ?=
SCALE ?= 1
ONLY ?=
JOBS ?= 1
# By file, since the tests of a file share what they compile.
PARALLEL := -n auto --dist loadfile
# A test that takes ten minutes hangs: it ends the run, which tells its name.
LIMITED := -o faulthandler_timeout=600 -o faulthandler_exit_on_timeout=true --max-worker-restart=0
BENCHMARK ?= $(basename $(notdir $(wildcard benchmarks/[!_]*.py)))

# By environment and not `-c`, so that it also holds where pip builds the package in isolation
# (newer pips read the second name there). Relative, since pip splits the value at blanks.
CONSTRAINED := PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt
PIP_QUIET := PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
PIP := $(BIN)/python -m pip

# A stamp per set of extras: made again only where what it was made from has changed.
BASE := $(VENV)/.stamp-install
DEV := $(VENV)/.stamp-dev
DOCS := $(VENV)/.stamp-docs
PEERS := $(VENV)/.stamp-peers

# The interpreters that are tried, oldest first: the first one that is new enough is taken. They are
# run rather than looked up, since a version manager's shim may exist and yet not run.
PYTHONS := python3.11 python3.12 python3.13 python3.14 python3 python

define FIND_PYTHON
python=""; \
for candidate in $(or $(PYTHON),$(PYTHONS)); do \
	"$$candidate" -c "import sys; sys.exit(sys.version_info < (3, 11))" 2>/dev/null || continue; \
	python="$$candidate"; break; \
done; \
if test -z "$$python"; then \
	echo "Python 3.11 or newer was not found (tried: $(or $(PYTHON),$(PYTHONS)))." >&2; \
	echo "Install it (on Debian: apt-get install python3 python3-venv)," >&2; \
	echo "or name an interpreter that is 3.11 or newer: make install PYTHON=/path/to/python." >&2; \
	exit 1; \
fi
endef

.PHONY: help install demo test test-examples test-thorough test-slow test-all torture mutants lint format docs picture tables benchmark lock clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s  %s\n", $$1, $$2 }' Makefile

install: $(BASE) ## create .venv with the command .venv/bin/impindiff

demo: $(BASE) ## learn an unknown velocity field from one snapshot, forecast, draw the report
	@$(BIN)/impindiff run advection-diffusion-steady --preset quick

test: $(BASE) ## run the tests, or some: make test PYTEST_ARGS="-k grid -x"
	@$(BIN)/python -m pytest $(PARALLEL) $(LIMITED) $(PYTEST_ARGS)

test-examples: $(BASE) ## run every example to its end, and hold it to its figures
	@$(BIN)/python -m pytest -n auto tests/test_examples.py -k it_learns -m "slow or not slow" $(PYTEST_ARGS)

test-thorough: $(BASE) ## run what `make test` leaves out and takes seconds, shapes and types checked
	@CHECK_TYPES=1 $(BIN)/python -m pytest $(PARALLEL) $(LIMITED) -m "thorough and not slow" $(PYTEST_ARGS)

test-slow: $(BASE) ## run what takes longer still
	@$(BIN)/python -m pytest -m slow $(PYTEST_ARGS)

test-all: $(BASE) ## run all tests, shapes and types checked
	@CHECK_TYPES=1 $(BIN)/python -m pytest $(PARALLEL) -m "" $(PYTEST_ARGS)

torture: $(BASE) ## kill, starve and let compete, and count what is lost: make torture SCALE=0.1
	@$(BIN)/python tests/torture --scale $(SCALE)

mutants: $(BASE) ## put small mistakes into copies of the package, and count those that tests find
	@$(BIN)/python tests/mutants --jobs $(JOBS) $(addprefix --only ,$(ONLY))

lint: $(DEV) ## check style, format and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/pyright

format: $(DEV) ## bring the code into the form `make lint` asks for
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

docs: $(DOCS) ## build the pages of docs/ into site/; a broken link fails
	@$(BIN)/zensical build --strict --clean

picture: $(BASE) ## draw the packages and their imports: docs/images/architecture.svg
	@$(BIN)/python docs/draw_architecture.py

tables: $(BASE) ## write the tables of names in the pages: docs/config.md
	@$(BIN)/python docs/write_tables.py

benchmark: $(PEERS) ## measure beside other libraries: all of benchmarks/, or make benchmark BENCHMARK=name
	@for name in $(BENCHMARK); do $(BIN)/impindiff benchmark "$$name" || exit; done

lock: ## write constraints.txt anew: the newest versions that pyproject.toml allows
	@set -e; $(FIND_PYTHON); \
	folder="$$(mktemp -d)"; trap 'rm -rf "$$folder"' EXIT; \
	echo "Resolving into a fresh environment ..."; \
	"$$python" -m venv "$$folder"; \
	$(PIP_QUIET) "$$folder/bin/python" -m pip install -qq ".[test,dev,docs,peers]" hatchling editables; \
	{ \
		echo "# Every version of a working installation, all extras and the build included."; \
		echo "# Written by \`make lock\` ($$("$$python" -c 'import platform as p; print("Python", p.python_version(), "on", p.system(), p.machine())'))."; \
		"$$folder/bin/python" -m pip freeze --exclude impindiff; \
	} > "$$folder/constraints.txt"; \
	cp "$$folder/constraints.txt" constraints.txt

clean: ## remove .venv, caches and built pages; runs/ stays
	@rm -rf $(VENV) .cache .pytest_cache .ruff_cache build dist site
	@find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(BASE): EXTRAS := test
$(DEV): EXTRAS := test,dev
$(DOCS): EXTRAS := test,docs
$(PEERS): EXTRAS := test,peers
$(BASE) $(DEV) $(DOCS) $(PEERS): pyproject.toml constraints.txt
	@$(BIN)/python -c "import pip, sys; sys.exit(sys.version_info < (3, 11))" 2>/dev/null || { \
		$(FIND_PYTHON); "$$python" -m venv --clear $(VENV); \
	}
	@echo "Installing impindiff [$(EXTRAS)] into $(VENV): a minute or two the first time."
	@$(CONSTRAINED) $(PIP_QUIET) $(PIP) install -qq -e ".[$(EXTRAS)]" || { \
		echo "The installation failed; to see all that pip says:" >&2; \
		echo '$(CONSTRAINED) $(PIP) install -e ".[$(EXTRAS)]"' >&2; \
		exit 1; \
	}
	@touch $@

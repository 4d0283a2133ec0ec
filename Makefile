# Every target makes its own virtual environment; Python 3.11+ and make suffice.
PYTHON ?= python3
VENV ?= .venv
JOBS ?= 2
PYENV_ROOT ?= $(HOME)/.pyenv

bin := $(VENV)/bin
install := $(bin)/python -m pip install -qq --disable-pip-version-check $(PIP_FLAGS)

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test test-newest check format doctest soak bench clean versions

help:  ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1: /p' Makefile \
	  | while IFS=: read -r name what; do printf '%-12s%s\n' "$$name" "$$what"; done

demo: $(VENV)/.has-examples  ## train a Flax model on real data, metrics inside the steps
	$(bin)/python examples/train_flax.py

test: versions check  ## everything: check, tests, the installed wheel and its doctests
	$(bin)/python -m pytest -n $(JOBS) --dist worksteal -m "not soak and not optimized"
	OPTIMIZED=1 $(bin)/python -m pytest -n $(JOBS) --dist worksteal \
	  -m "not soak and optimized"
	$(bin)/python tests/check_installed.py -n $(JOBS) --dist worksteal

check: $(VENV)/.has-test  ## format, lint, types, documents
	$(bin)/ruff format --check .
	$(bin)/ruff check .
	$(bin)/mypy
	$(bin)/python tests/lint_docs.py

format: $(VENV)/.has-test  ## rewrite the code in the house format
	$(bin)/ruff check --fix .
	$(bin)/ruff format .

doctest: $(VENV)/.has-test  ## the examples in the docstrings
	$(bin)/python -m pytest --doctest-modules jaxmetrics

soak: $(VENV)/.has-test  ## the tests that take minutes
	OPTIMIZED=1 $(bin)/python -m pytest -n $(JOBS) -m soak

# Fails where no newer Python works, so that a shim without a Python is passed over.
find_newest = $(firstword $(foreach version,3.13 3.12,$(foreach command, \
  python$(version) $(wildcard $(PYENV_ROOT)/versions/$(version).*/bin/python$(version)), \
  $(shell $(command) -c 'import ensurepip, ssl, sys; print(sys.executable)' 2>/dev/null))))

test-newest:  ## what test does, with the newest Python and the newest JAX
	@newest="$(find_newest)"; \
	if [ -z "$$newest" ]; then \
	  newest="$(PYTHON)"; \
	  echo "No Python 3.13 or 3.12 is here, only $$($(PYTHON) --version):" \
	    "testing with the newest JAX that it can install."; \
	fi; \
	if [ "$$(.venv-newest/bin/python --version 2>&1)" != "$$("$$newest" --version)" ]; \
	then rm -rf .venv-newest; fi; \
	rm -f .venv-newest/.has-test; \
	$(MAKE) test VENV=.venv-newest PYTHON="$$newest" \
	  PIP_FLAGS="--upgrade --upgrade-strategy eager"

bench:  ## the tables of benchmarks/README.md (installs the peers, torch included)
	@$(MAKE) VENV=.venv-bench .venv-bench/.has-bench
	set -e; for script in benchmarks/[!_]*.py; do .venv-bench/bin/python $$script; done

clean:  ## remove virtual environments, builds and caches
	rm -rf .venv .venv-newest .venv-bench build dist *.egg-info
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

versions: $(VENV)/.has-test
	@$(bin)/python -c 'import sys; from importlib.metadata import version as v; \
	  print("Python " + sys.version.split()[0], *("%s %s" % (name, v(name)) for name in \
	  "jax jaxlib numpy optax flax keras scikit-learn".split()), sep=", ")'

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "jaxmetrics needs Python 3.11 or newer, and $(PYTHON) is not:" \
	    "make PYTHON=/path/to/python ..."; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	@touch $@

$(VENV)/.has-%: $(VENV)/.made pyproject.toml
	@echo "Installing jaxmetrics[$*] into $(VENV) ..."
	@$(install) -e '.[$*]'
	@touch $@

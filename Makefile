# Everything runs in .venv, made from the lock files; only python3 (3.11 or newer) is needed.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
EDITABLE := --quiet --no-deps --no-build-isolation --editable .
COMPILE := $(BIN)/uv pip compile pyproject.toml --universal --fork-strategy fewest --generate-hashes \
	--no-config --custom-compile-command "make lock" --quiet $(LOCK_FLAGS)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test check lock bench build smoke clean

help: ## List the targets
	@grep -E '^[a-z]+:.*## ' Makefile | sed -E 's/^([a-z]+):.*## /\1|/' \
		| while IFS='|' read -r name text; do printf '  make %-7s %s\n' "$$name" "$$text"; done
	@echo '  PYTHON=python3.12 chooses the interpreter; VENV=dir the environment.'

demo: $(VENV)/.runtime ## Learn, mix and predict: sinusoids, then a walking robot; ends in reports to look at
	$(BIN)/dmcm demo

test: $(VENV)/.dev ## Run all tests; PYTEST_FLAGS="-k name" passes options on
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile --durations 20 $(PYTEST_FLAGS)

check: $(VENV)/.dev ## Lint, formatting and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

lock: | $(BIN)/python ## Rewrite the lock files; LOCK_FLAGS=--upgrade takes newer versions
	$(PIP) install --quiet "uv>=0.9"
	$(COMPILE) --group build --output-file requirements.lock
	$(COMPILE) --group build --extra quadruped --constraint requirements.lock \
		--output-file requirements-quadruped.lock
	$(COMPILE) --group dev --constraint requirements-quadruped.lock --output-file requirements-dev.lock

bench: $(VENV)/.dev ## Measure speed against peers (installs PyTorch if it is missing)
	@$(BIN)/python -c 'import torch' 2>/dev/null || $(PIP) install "torch>=2.4"
	$(BIN)/python -m benchmarks.speed

build: $(VENV)/.dev ## Build the sdist, and the wheel from it, into dist/
	rm -rf dist
	$(BIN)/python -m build --no-isolation

smoke: build ## Install wheel and sdist in environments of their own and use them
	$(BIN)/python tests/smoke_archives.py dist

clean: ## Remove the environment, builds and caches (not runs/)
	rm -rf $(VENV) dist build .pytest_cache .ruff_cache .hypothesis
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

# The stamps are older than a changed lock, which then installs again.
$(VENV)/.runtime: requirements-quadruped.lock pyproject.toml | $(BIN)/python
	@echo 'Installing what DMCM and its robot need into $(VENV) ...'
	@$(PIP) install --quiet --require-hashes -r requirements-quadruped.lock
	@$(PIP) install $(EDITABLE)
	@touch $@

$(VENV)/.dev: requirements-quadruped.lock requirements-dev.lock pyproject.toml | $(BIN)/python
	@echo 'Installing what DMCM and its tests need into $(VENV) ...'
	@$(PIP) install --quiet --require-hashes -r requirements-dev.lock
	@$(PIP) install $(EDITABLE)
	@touch $(VENV)/.runtime $@

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { \
		echo 'There is no $(PYTHON). Install Python 3.11 or newer, or name one: make PYTHON=/path/to/python3'; \
		exit 1; } >&2
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "DMCM needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1)."; \
		echo 'Name a newer one: make PYTHON=python3.12'; exit 1; } >&2
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo '$(PYTHON) cannot make virtual environments: its venv module is missing.'; \
		echo 'On Debian and Ubuntu: apt install python3-venv'; exit 1; } >&2
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

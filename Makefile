# `make` lists the targets. Every one sets up what it needs in .venv, from requirements/dev.txt, on its first run.

PYTHON ?= python3
VENV := .venv
UV := $(or $(shell command -v uv 2>/dev/null),$(VENV)/bin/uv)
INSTALLED := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help demo test test-others lint bench release lock environment clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@echo 'PYTHON=$(PYTHON) makes the environment; ARGS="..." is handed on.'

demo: build/demo ## Generate the default repository into build/demo and run its demo
	@cd build/demo && PYTHONPATH=src ../../$(VENV)/bin/python -m local.demo $(ARGS)

# Which tests; empty: all.
WHICH ?= -m 'not others'

test: $(INSTALLED) ## Render and check every variant; update the default one from every release, and run the tests that it ships
	@$(FOR_UV) $(VENV)/bin/python -m pytest -n 2 --dist worksteal $(WHICH) $(ARGS)

test-others: ## Update every other variant from every release, and run the tests that it ships: takes longer than all the rest
	@$(MAKE) --no-print-directory test WHICH='-m others'

lint: $(INSTALLED) ## Check this repository's own code; `make test` checks what is generated
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/mypy

bench: $(INSTALLED) ## Measure, side by side with other generators
	@$(FOR_UV) $(VENV)/bin/python -m benchmarks $(ARGS)

release: $(INSTALLED) ## Check that this tree can be released, and stamp it: make release VERSION=0.3.0
	@$(VENV)/bin/python -m tests.releases check '$(VERSION)'
	@$(VENV)/bin/python -m pytest -n 2 --dist worksteal $(addprefix tests/test_,releases.py updates.py update_merges.py next_releases.py)
	@$(VENV)/bin/python -m tests.releases stamp '$(VERSION)'

lock: $(UV) build/lock ## Pin the dependencies of the template and of what it generates; ARGS=--upgrade takes newer ones
	@$(MAKE) --no-print-directory -C build/lock lock UV='$(abspath $(UV))' VENV='$(abspath $(VENV))' ARGS='$(ARGS)'
	@cp build/lock/requirements/*.txt template/requirements/
	@$(FOR_UV) $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-header --no-annotate requirements/dev.in --output-file requirements/dev.txt $(ARGS)

environment: $(INSTALLED) ## Set up .venv alone

clean: ## Remove what was built; .venv stays
	rm -rf build .mypy_cache .ruff_cache .pytest_cache

# Rendered afresh each time: an edit of the template shows in the next demo.
.PHONY: build/demo build/lock
# What is pinned is one list for all variants: that of the one which needs most.
build/lock: ANSWERS = --data gateway=yes --data analytics=athena_quicksight
build/demo build/lock: $(INSTALLED)
	@rm -rf $@
	@echo 'Generating $@ from the default answers $(ANSWERS)'
	@$(VENV)/bin/copier copy --quiet --defaults $(ANSWERS) --vcs-ref HEAD . $@

# uv doesn't read pip's configuration: the index and the certificates that this machine gave pip are handed on.
FOR_UV := pip_says() { $(VENV)/bin/python -m pip config list | sed -nE "s/^(:env:|global|install)\.$$1='(.*)'/\2/p" | head -n 1; }; \
	index="$${UV_DEFAULT_INDEX:-$$(pip_says index-url)}"; certificates="$${SSL_CERT_FILE:-$$(pip_says cert)}"; \
	[ -z "$$index" ] || export UV_DEFAULT_INDEX="$$index"; \
	[ -z "$$certificates" ] || export SSL_CERT_FILE="$$certificates";

NEW_VENV := $(PYTHON) -c 'import sys; sys.exit("Python is too old; expected 3.11 or newer; run make PYTHON=python3.13" if sys.version_info < (3, 11) else 0)' \
	&& $(PYTHON) -m venv $(VENV)

$(VENV)/bin/uv: template/requirements/uv.txt
	@echo 'Setting up $(VENV)'
	@$(NEW_VENV)
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement $<
	@touch $@

$(INSTALLED): requirements/dev.txt template/requirements/uv.txt | $(UV)
	@echo 'Installing what requirements/dev.txt pins'
	@[ -x $(VENV)/bin/python ] || { $(NEW_VENV); }
	@$(FOR_UV) $(UV) pip sync --quiet --require-hashes --python $(VENV)/bin/python requirements/dev.txt template/requirements/uv.txt
	@touch $@

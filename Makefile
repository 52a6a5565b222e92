# Each target sets up its own virtual environment; Python >= 3.11 and make are all it takes.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help run test test-prometheus test-operators test-odms test-faults soak-faults \
	soak-supervision explore-actor planted-bugs mutants coverage check bench bench-faults clean

help: ## show this help
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 18

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "moorings needs Python >= 3.11: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	@touch $@

$(VENV)/.run: $(VENV)/.created pyproject.toml
	$(BIN)/python -m pip install --quiet --editable '.[mongo,pymongo]'
	@touch $@

$(VENV)/.dev: $(VENV)/.run
	$(BIN)/python -m pip install --quiet --group dev
	@touch $@

$(VENV)/.mutation: $(VENV)/.dev
	$(BIN)/python -m pip install --quiet --group mutation
	@touch $@

# Beanie 1 stands on Motor, Beanie 2 on PyMongo's asynchronous client: an environment for each.
$(VENV)/beanie%/.created: $(VENV)/.created pyproject.toml
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check \
		--editable '.[mongo]' 'beanie>=$*,<'$$(($* + 1))
	@touch $@

run: $(VENV)/.run ## serve the embedded default (in memory) until Ctrl-C
	@# On a terminal a job of its own takes the Ctrl-C: make, which would die of it, sees status 0.
	@if [ -t 0 ]; then sh -mc '$(BIN)/moorings run; exit $$?'; else exec $(BIN)/moorings run; fi

test: $(VENV)/.dev ## the tests, under 5 minutes, with a real mongod
	$(BIN)/python -m pytest

test-prometheus: $(VENV)/.dev ## a real Prometheus scrapes us (Debian: apt-get install prometheus)
	$(BIN)/python -m pytest -m prometheus

test-operators: $(VENV)/.dev ## what operators look at, in real tools (Debian: .ci/debian installs them)
	.ci/debian
	$(BIN)/python -m pytest -m operators

.PHONY: screenshots
screenshots: $(VENV)/.dev ## the pictures of the status page in docs/images, taken anew
	.ci/debian
	$(BIN)/python -m tests.screenshots

coverage: $(VENV)/.dev ## branch coverage of `make test`
	$(BIN)/coverage run -m pytest
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

.PHONY: grafana
grafana: $(VENV)/.dev ## write the dashboards, the rules and docs/metrics.md anew
	$(BIN)/python -m moorings.grafana

test-odms: $(VENV)/.dev $(VENV)/beanie1/.created $(VENV)/beanie2/.created ## Beanie 1 and 2 on a real mongod
	$(BIN)/python -m pytest -m odm

test-faults: $(VENV)/.dev ## faults, elections, a thousand lives, uvloop; takes minutes
	$(BIN)/python -m pytest -m slow

MINUTES ?= 30
SEED ?=
soak-faults: $(VENV)/.dev ## 50 connections, a replica set, all that can fail (MINUTES=30 SEED=)
	$(BIN)/python -m tests.soak --minutes $(MINUTES) $(if $(SEED),--seed $(SEED))

SEEDS ?= 100000
soak-supervision: $(VENV)/.dev ## random supervision trees against OTP's rules (SEEDS=100000)
	$(BIN)/python -m tests.simulation --seeds $(SEEDS)

planted-bugs: $(VENV)/.dev ## are the bugs in tests/simulation/bugs and tests/exploration/bugs found?
	$(BIN)/python -m tests.planting simulation
	$(BIN)/python -m tests.planting exploration

DEPTH ?= 6
TOGETHER ?= 3
explore-actor: $(VENV)/.dev ## every interleaving of events that reach a connection (DEPTH=6 TOGETHER=3)
	$(BIN)/python -m tests.exploration --depth $(DEPTH)
	$(BIN)/python -m tests.exploration --depth $(TOGETHER) --together

MODULES ?=
mutants: $(VENV)/.mutation ## is every small change to what decides noticed? (MODULES=supervisors/policy.py)
	$(BIN)/python -m tests.mutation $(MODULES)

check: $(VENV)/.dev ## lint, types, imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@mkdir -p .typing && ln -sfn .. .typing/moorings
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.dev ## ratios to the bare floors, side by side
	$(BIN)/python -m tests.bench

.PHONY: docs pages
docs: $(VENV)/.dev ## the site, in build/docs; warnings are errors, and readers fetch nothing elsewhere
	$(BIN)/sphinx-build --fail-on-warning --keep-going --quiet --builder html docs build/docs
	$(BIN)/python -m tests.pages.offline build/docs

pages: $(VENV)/.dev ## write the pages of docs/ that are made by code
	$(BIN)/python -m tests.pages
	$(BIN)/python -m tests.faults > docs/faults.md
	$(BIN)/python -m moorings.grafana

FAULTS ?=
bench-faults: $(VENV)/.dev ## how soon faults, and a return, are noticed (FAULTS=--quick)
	$(BIN)/python -m tests.bench_faults $(FAULTS)

clean: ## remove what the other targets made
	rm -rf $(VENV) .typing build dist *.egg-info .coverage*

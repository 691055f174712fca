# `make` lists what there is. Everything runs in .venv, which is made when it is missing and renewed when pyproject.toml changes.

PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
READY := .venv/.ready
TESTS ?= tests
COMPILED := build/compiled
WHEELS ?= dist
# Builds a wheel with its busy modules compiled: $(call compiled_wheel,PYTHON,FOLDER)
compiled_wheel = rm -rf $(2)/*.whl && HATCH_BUILD_HOOKS_ENABLE=1 \
	$(1) -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir $(2) .
# What exercises the compiled modules.
COMPILED_TESTS := tests/property $(addprefix tests/unit/test_,$(addsuffix .py,codec commands compiled deadlines fires fold_rules \
	intake keys lane outlet_batches partitioner rows_codec state_diagram stores working_set))

.DEFAULT_GOAL := help
.PHONY: help install demo test test-compiled verify wheel lint format types arch kafka up down clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(READY) ## Install everything into .venv (the other targets do it when needed)

demo: $(READY) ## Show it all at work in a minute; needs neither Kafka nor Docker (ARGS=--keep holds its page open)
	@$(BIN)/wait-for-me demo $(ARGS)

test: $(READY) ## Run the tests (make test TESTS=tests/unit for some); with Java 17 and Maven on a real Kafka, with Chromium in a browser
	@$(BIN)/pytest --numprocesses 2 --dist loadfile $(TESTS)

test-compiled: $(READY) ## Run the tests of the compiled modules on a compiled wheel (a C compiler and Python's headers)
	@rm -rf $(COMPILED)
	@$(call compiled_wheel,$(BIN)/python,$(COMPILED))
	@$(BIN)/python -m zipfile --extract $(COMPILED)/*.whl $(COMPILED)
	@WAIT_FOR_ME_TEST_COMPILED=1 PYTHONPATH=$(COMPILED) $(BIN)/pytest --numprocesses 2 --dist loadfile $(COMPILED_TESTS)

verify: lint types arch test-compiled test ## Run exactly what CI runs

wheel: $(READY) ## Build a wheel with its busy modules compiled, a quarter quicker (into WHEELS, which is dist)
	@$(call compiled_wheel,$(BIN)/python,$(WHEELS))

lint: $(READY) ## Check format and style
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .

format: $(READY) ## Put everything into format
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

types: $(READY) ## Check types, strictly
	@$(BIN)/mypy

arch: $(READY) ## Check who may import whom
	@$(BIN)/lint-imports --no-cache

kafka: $(READY) ## Run a real Kafka on localhost:9092 until Ctrl-C (Java 17 and Maven)
	@$(BIN)/python tests/kafka_broker.py

up: ## Start Kafka, topics, two workers and an executor with Docker
	docker compose up --build --detach

down: ## Stop what `make up` started; volumes stay
	docker compose down

clean: ## Remove what can be made again, Kafka's jars and data included
	rm -rf .venv .kafka .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist
	find app producers tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): pyproject.toml
	@test -n "$(PYTHON)" || { echo "No Python 3.11 or newer on the PATH: install one, or say make PYTHON=/path/to/python" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

-include benchmarks/bench.mk
-include tests/simulation/simulation.mk
-include tests/chaos/chaos.mk

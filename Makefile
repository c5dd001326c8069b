# Two commands matter: `make run` opens the studio, `make test` passes the tests.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=

.PHONY: run test check bench bench-inspect starter starter-table samples screenshots clean

run: $(VENV)/.run-ready
	$(BIN)/python app.py $(ARGS)

test: $(VENV)/.test-ready
	$(BIN)/python -m tests.setup
	$(BIN)/python -m pytest $(ARGS)

check: $(VENV)/.test-ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.test-ready
	mkdir -p build
	$(BIN)/python -m tests.benchmarks.bench_adapters --json build/bench.json

bench-inspect: $(VENV)/.test-ready
	mkdir -p build
	$(BIN)/python -m tests.benchmarks.bench_inspect --json build/inspect.json

starter: $(VENV)/.run-ready
	$(BIN)/python -m hydralora.starter $(ARGS)

starter-table: $(VENV)/.run-ready
	mkdir -p build
	$(BIN)/python -m tests.benchmarks.bench_starter --json build/starter.json

samples: $(VENV)/.run-ready
	$(BIN)/python -m hydralora.samples $(ARGS)

screenshots: $(VENV)/.test-ready
	$(BIN)/python -m tests.setup
	$(BIN)/python -m tests.browser.screenshots $(ARGS)

$(VENV)/.run-ready: requirements.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

$(VENV)/.test-ready: requirements.txt requirements-test.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-test.txt
	touch $@ $(VENV)/.run-ready

clean:
	rm -rf $(VENV) build .pytest_cache .ruff_cache .mypy_cache

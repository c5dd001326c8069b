# Two commands matter: `make run` opens the studio, `make test` passes the tests.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=

.PHONY: run test test-long check bench bench-chat bench-clusters bench-compare bench-data bench-database bench-endpoint bench-engines bench-gpu bench-inspect bench-live bench-llamacpp bench-memory bench-packing bench-page bench-pages bench-real chaos matrix peft-suite starter starter-table samples screenshots clean

run: $(VENV)/.run-ready
	$(BIN)/python app.py $(ARGS)

test: $(VENV)/.test-ready
	$(BIN)/python -m tests.setup
	$(BIN)/python -m pytest -n 2 $(ARGS)

test-long: $(VENV)/.test-ready
	HYDRA_TEST_LONG=1 $(MAKE) test

check: $(VENV)/.test-ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	npm ci --silent --no-audit --no-fund
	npm run --silent lint

bench: $(VENV)/.test-ready
	mkdir -p build
	$(BIN)/python -m tests.benchmarks.bench_adapters --json build/bench.json

bench-chat: $(VENV)/.test-ready
	mkdir -p build
	$(BIN)/python -m tests.benchmarks.bench_chat --json build/chat.json $(ARGS)

bench-clusters: $(VENV)/.test-ready
	mkdir -p build
	$(BIN)/python -m tests.benchmarks.bench_clusters --json build/clusters.json $(ARGS)

bench-compare: $(VENV)/.test-ready
	mkdir -p build
	$(BIN)/python -m tests.benchmarks.bench_compare --json build/compare.json

bench-data: $(VENV)/.test-ready
	mkdir -p build
	$(BIN)/python -m tests.benchmarks.bench_data --json build/data.json $(ARGS)

bench-database: $(VENV)/.test-ready
	mkdir -p build
	$(BIN)/python -m tests.benchmarks.bench_database --json build/scaling.json

bench-engines: $(VENV)/.test-ready
	mkdir -p build
	$(BIN)/python -m tests.benchmarks.bench_engines --json build/engines.json

bench-endpoint: $(VENV)/.test-ready
	mkdir -p build
	$(BIN)/python -m tests.benchmarks.bench_endpoint --json build/endpoint.json $(ARGS)

bench-gpu: $(VENV)/.test-ready
	mkdir -p build
	$(BIN)/python -m tests.benchmarks.bench_gpu --json build/gpu.json $(ARGS)

bench-inspect: $(VENV)/.test-ready
	mkdir -p build
	$(BIN)/python -m tests.benchmarks.bench_inspect --json build/inspect.json

bench-live: $(VENV)/.test-ready
	mkdir -p build
	$(BIN)/python -m tests.benchmarks.bench_live --json build/live.json $(ARGS)

bench-llamacpp: $(VENV)/.test-ready
	mkdir -p build
	$(BIN)/python -m tests.benchmarks.bench_llamacpp --json build/llamacpp.json $(ARGS)

bench-memory: $(VENV)/.test-ready
	mkdir -p build
	$(BIN)/python -m tests.benchmarks.bench_memory --json build/memory.json $(ARGS)

bench-real: $(VENV)/.test-ready
	mkdir -p build
	$(BIN)/python -m tests.benchmarks.bench_real --json build/real-models.json $(ARGS)

bench-packing: $(VENV)/.test-ready
	mkdir -p build
	$(BIN)/python -m tests.benchmarks.bench_packing --json build/packing.json $(ARGS)

bench-page: $(VENV)/.test-ready
	$(BIN)/python -m tests.setup
	mkdir -p build
	$(BIN)/python -m tests.benchmarks.bench_page --json build/page.json

bench-pages: $(VENV)/.test-ready
	mkdir -p build
	$(BIN)/python -m tests.benchmarks.bench_pages --json build/pages.json

matrix: $(VENV)/.test-ready
	mkdir -p build
	$(BIN)/python -m tests.matrix --json build/matrix.json $(ARGS)

peft-suite: $(VENV)/.test-ready
	mkdir -p build
	$(BIN)/python -m tests.peft_suite --json build/peft.json $(ARGS)

chaos: $(VENV)/.test-ready
	$(BIN)/python -m tests.chaos --json docs/chaos.json $(ARGS)

starter: $(VENV)/.run-ready
	$(BIN)/python -m data.recipes.starter $(ARGS)

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
	rm -rf $(VENV) build node_modules .pytest_cache .ruff_cache .mypy_cache

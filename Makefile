# Two commands on a fresh machine (Python >= 3.11 and make): `make demo` and `make test`. The rest is for work on it.
# Everything goes into .venv from the lock files; nothing else of the machine is touched.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: help demo test test-long peers run bench bench-stats bench-console bench-console-render screenshots docs fuzz-api lint format check wheel lock clean
.DEFAULT_GOAL := help

help:
	@echo "make demo    show the gateway at work: embedded store, simulated carriers, a mixed load, a carrier killed"
	@echo "make test    all tests          make test-long   those that it runs at a smaller size, at full size"
	@echo "make peers   a foreign SMSC and axe-core (need npm) for some"
	@echo "make run     keep the gateway up with simulated carriers, for your own curl (data under var/)"
	@echo "make bench   the load test (ARGS=\"--help\" lists its options)      make bench-webhooks  that of webhooks"
	@echo "make bench-stats   how long a month's report of 100 accounts takes   make bench-console  what open consoles cost"
	@echo "make bench-console-render   how soon the console shows itself     make screenshots  the pictures of it (docs/console.png)"
	@echo "make lint    ruff and mypy        make format  ruff format"
	@echo "make docs    docs/http_api.md from the code      make fuzz-api  schemathesis at length (EXAMPLES=200)"
	@echo "make wheel   the wheel in dist/   make lock    newer versions into the lock files"

# The runtime alone is enough to run; the tests and tools come on top. A stamp a lock file: installed again when it changes.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.12"; exit 1; }
	@echo "setting up $(VENV) ..."
	@$(PYTHON) -m venv $(VENV)

$(VENV)/runtime: requirements.txt pyproject.toml setup.py | $(BIN)/python
	@$(PIP) install --require-hashes -r requirements.txt
	@$(PIP) install "setuptools>=75"
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/dev: requirements-dev.txt $(VENV)/runtime
	@$(PIP) install --require-hashes -r requirements-dev.txt
	@touch $@

demo: $(VENV)/runtime
	@$(BIN)/smsgw demo $(ARGS)

run: $(VENV)/runtime
	@$(BIN)/smsgw demo --serve $(ARGS)

# Most tests wait for a clock or a socket, so they run side by side (JOBS=0: one by one), but for those whose subject is a
# rate or a time. 5 is "no test was selected", as where ARGS names a file.
JOBS ?= 3
test: $(VENV)/dev
	@$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder -m "not alone" $(ARGS) || [ $$? -eq 5 ]
	@$(BIN)/python -m pytest -m alone $(ARGS) || [ $$? -eq 5 ]

# What `make test` runs with shorter queues and fewer repeats, as long as it is: the figures of the README come from here.
test-long: $(VENV)/dev
	@SMSGW_TEST_LONG=1 $(BIN)/python -m pytest -s -m long $(ARGS)

# The tests start some hundred processes, each of which would compile the whole gateway where the environment forbids to
# keep bytecode.
test test-long: export PYTHONDONTWRITEBYTECODE =

# Names, versions and hashes stand in peers.txt: npm's own lock file would name a registry. None of their scripts runs.
peers: .peers/installed

.peers/installed: tests/interop/peers.txt
	@npm install --loglevel=error --no-save --no-package-lock --ignore-scripts --prefix .peers $$(cut -d' ' -f1 $<) >/dev/null
	@while read -r name hash; do grep -qF "\"$$hash\"" .peers/node_modules/.package-lock.json \
		|| { echo "$$name is not what tests/interop/peers.txt says"; exit 1; }; done < $<
	@cp $< $@

# Schemathesis at length, against throw-away gateways: EXAMPLES random requests a call beside the systematic ones.
EXAMPLES ?= 200
fuzz-api: $(VENV)/dev
	@FUZZ_EXAMPLES=$(EXAMPLES) $(BIN)/python -m pytest tests/fuzz --timeout 1800 -q $(ARGS)

bench: $(VENV)/dev
	@$(BIN)/smsgw bench $(ARGS)

bench-stats: $(VENV)/dev
	@$(BIN)/python loadtests/stats_report.py $(ARGS)

bench-webhooks: $(VENV)/dev
	@$(BIN)/python loadtests/webhooks.py $(ARGS)

bench-console: $(VENV)/dev
	@$(BIN)/python loadtests/console_streams.py $(ARGS)

bench-console-render: $(VENV)/dev   # with Chromium
	@$(BIN)/python loadtests/console_render.py $(ARGS)

# With Chromium and fonts for Chinese (Debian: fonts-noto-cjk). docs/console.png, and every page in build/screenshots.
screenshots: $(VENV)/dev
	@$(BIN)/python -m tools.screenshots $(ARGS)

lint: $(VENV)/dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

docs: $(VENV)/runtime   # the page of the HTTP API, from the code
	@$(BIN)/python docs/generate_http_api.py

format: $(VENV)/dev
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

wheel: $(VENV)/dev
	@$(PIP) wheel --no-deps --no-build-isolation --wheel-dir dist .

LOCK := --quiet --allow-unsafe --generate-hashes --strip-extras --no-emit-index-url --no-emit-trusted-host --no-emit-find-links
lock: $(VENV)/dev   # by the oldest Python there is (3.11.0 to 3.11.2 need a package more)
	CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/pip-compile $(LOCK) --upgrade --output-file requirements.txt pyproject.toml
	CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/pip-compile $(LOCK) --upgrade --extra dev --constraint requirements.txt --output-file requirements-dev.txt pyproject.toml

clean:
	rm -rf $(VENV) .peers build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

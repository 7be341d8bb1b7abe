# Everything runs in .venv in this folder; nothing else on the machine is touched.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEMO ?= demo
WORKERS ?= 2
SEEDS ?= 2000

.PHONY: help demo test test-all test-crash test-sim check docs bench bench-late clean

help:
	@echo "make demo      set up, generate a small delivery, run everything, show the answers"
	@echo "make test      set up, pass the tests (about 3 minutes on 2 cores)"
	@echo "make test-all  the slow ones too"
	@echo "make test-crash  killed and refused at every system call (hours)"
	@echo "make test-sim SEEDS=2000  simulated machines: crashes, power losses, clocks set back"
	@echo "make check     ruff, mypy --strict, import-linter"
	@echo "make docs      write the generated pages of docs/ anew"
	@echo "make bench     measure speed and memory (docs/performance.md)"
	@echo "make bench-late  stream the sample through a watermark and through Meterhouse"
	@echo "make clean     remove what the other targets made"

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "meterhouse needs Python 3.11 or newer; try make PYTHON=python3.12")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,cassandra,astra]'
	touch $(STAMP)

demo: $(STAMP)
	$(BIN)/meterhouse demo $(DEMO)

test: $(STAMP)
	$(BIN)/python -m pytest -q -m "not slow" -n $(WORKERS) --dist worksteal

test-all: $(STAMP)
	$(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal

test-crash: $(STAMP)
	CRASH_POINTS=all $(BIN)/python -m pytest -q tests/crash -n $(WORKERS) --dist worksteal

test-sim: $(STAMP)
	SEEDS=$(SEEDS) $(BIN)/python -m pytest -q tests/simulation -n $(WORKERS) --dist worksteal

check: $(STAMP)
	$(BIN)/ruff format --check src tests bench tools
	$(BIN)/ruff check src tests bench tools
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(STAMP)
	PYTHONPATH=tools $(BIN)/python -m docs_pages

bench: $(STAMP)
	$(BIN)/python bench/whole_path.py

bench-late: $(STAMP)
	$(BIN)/python bench/late_data.py --page docs/late-data.md

clean:
	rm -rf $(VENV) $(DEMO) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

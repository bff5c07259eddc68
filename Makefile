# Everything that a fresh machine needs beside this: Python 3.11 or newer, pip, make and a package index.
PYTHON ?= python3
BIN := .venv/bin
export PYTHONUNBUFFERED = 1

.PHONY: .venv demo test check bench clean

.venv: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: .venv/installed
	$(BIN)/leadline demo

# One process per core, one thread each: threads that share a core wait for each other.
test: .venv/installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses logical --dist loadfile

check: .venv/installed
	$(BIN)/ruff format --check src tests benchmarks docs
	$(BIN)/ruff check src tests benchmarks docs
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: .venv/installed
	$(BIN)/python benchmarks/training_step.py
	$(BIN)/python benchmarks/sampler_shares.py
	$(BIN)/python benchmarks/neighbors.py
	$(BIN)/python benchmarks/lpips_mean.py
	$(BIN)/python benchmarks/streaming.py
	$(BIN)/python benchmarks/steering.py
	$(BIN)/python benchmarks/denoisers.py
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/coverage.py

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .import_linter_cache

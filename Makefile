# Everything a newcomer needs: `make demo`, `make test`, `make parity`, `make check`. Each sets up .venv first if it is not there.

PYTHON ?= python3
BIN := .venv/bin
UV := $(shell command -v uv 2>/dev/null || echo .venv/bootstrap/bin/uv)
export OMP_NUM_THREADS ?= 1

.PHONY: setup demo few-shot test parity peers check lock clean

setup: .venv/ready

# uv makes the environment; where it is missing, pip brings it into a small environment of its own. Modules are compiled
# at once: where Python may not write them later, each of a run's processes would compile 4,000 of them anew (11 s).
.venv/ready: requirements.lock pyproject.toml
	@command -v uv >/dev/null || { $(PYTHON) -m venv .venv/bootstrap && .venv/bootstrap/bin/python -m pip install --quiet uv; }
	@test -x $(BIN)/python || $(UV) venv --quiet --allow-existing --python $(PYTHON) .venv
	$(UV) pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes \
		--requirements requirements.lock
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $@

demo: setup
	$(BIN)/python tools/demo/run.py

few-shot: setup
	$(BIN)/python tools/few_shot/run.py
	$(BIN)/python tools/few_shot/check.py

# Two files of tests side by side; the longest come first.
test: setup
	$(BIN)/python -m pytest -n 2

# Other projects' code to compare with, in a folder that nothing but tests/parity and the benchmark looks into.
peers: .venv/peers/ready

.venv/peers/ready: .venv/ready tests/parity/requirements.txt
	$(UV) pip install --quiet --python $(BIN)/python --target .venv/peers --no-deps --require-hashes \
		--requirements tests/parity/requirements.txt
	@touch $@

parity: peers
	$(BIN)/python -m pytest tests/parity

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --config setup.cfg

# After a change of dependencies in pyproject.toml.
lock:
	$(UV) pip compile --quiet --universal --generate-hashes --no-annotate --python-version 3.11 \
		--extra demo --extra dev --extra parquet pyproject.toml --output-file requirements.lock

clean:
	rm -rf .venv runs build *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

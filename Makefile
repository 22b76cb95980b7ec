# The README's two commands are `make demo` and `make test`; both need only Python >= 3.11.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test test-all bench docs docs-data lint clean

demo: $(VENV)/.base
	$(BIN)/cai compare frozen_lake -t 0.003 -t 0.01 -t 0.1 --fit tabular --steps 300 \
	  --learn soft_reinforce,soft_q_learning,q_learning --seeds 3 --learn-steps 60000 --jobs 2 --out reports/frozen_lake

test: $(VENV)/.dev lint
	$(BIN)/python -m pytest -n logical -p no:benchmark --durations 20 -m 'not slow'

test-all: $(VENV)/.dev lint  # without its own plugin, which would import cai before its calls can be checked
	$(BIN)/python -m pytest -n logical -p no:benchmark -p no:cai --durations 20 --jaxtyping-packages=cai,beartype.beartype

lint: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

bench: $(VENV)/.bench
	$(BIN)/python -m pytest tests/benchmarks -s -rs

docs: $(VENV)/.dev
	$(BIN)/sphinx-build -W --keep-going -j 2 -d docs/_build/doctrees -b html docs docs/_build/html

docs-data: $(VENV)/.dev
	$(BIN)/python docs/stored.py

clean:
	rm -rf $(VENV) docs/_build reports

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "cai needs Python >= 3.11; name one with: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.base: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.base
	$(PIP) -e '.[test,docs]'
	@touch $@

$(VENV)/.bench: $(VENV)/.dev
	$(PIP) -e '.[bench]'
	@touch $@

# Every target does its own set-up. PYTHON may name another interpreter (3.10 to 3.12).
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test test-fast test-faults check lint types format bench docs clean

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev,eval]'
	touch $@

demo: $(STAMP)  ## text -> tokenizer -> rows -> MLM, CLM, MLM decay -> encoder -> report; CORPUS=file for real text
	PYTHONPATH=. $(BIN)/python scripts/demo.py $(foreach file,$(CORPUS),--corpus $(file)) $(ARGS)

test: $(STAMP)  ## every test that runs on this machine
	$(BIN)/python -m pytest

test-fast: $(STAMP)  ## without those marked slow
	$(BIN)/python -m pytest -m 'not slow'

test-faults: $(STAMP)  ## the long form of the fault tests (kills, soak, fuzz), and the table of what was survived
	DETOUR_FAULTS=long $(BIN)/python -m pytest -m faults tests/faults tests/training tests/data tests/export tests/test_cli.py

check: lint types test  ## what must pass before a change lands

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/pyright

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(STAMP)  ## CPU benchmarks; ratios against peers in the same run
	$(BIN)/python -m benchmarks cpu

docs: $(STAMP)  ## the pages of docs/ as a site in build/site
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[docs]'
	$(BIN)/mkdocs build --quiet

clean:
	rm -rf $(VENV) work build *.egg-info

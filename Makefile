# Every target does its own set-up. PYTHON may name another interpreter (3.10 to 3.12).
PYTHON ?= python3
# STACK=newest: the newest torch and transformers (docs/install.md), in an environment of its own
STACK ?= pinned
ifeq ($(STACK),newest)
VENV ?= .venv-newest
# what depends on the versions: core, parity, export, training and resume; whoever says what to test replaces it
TESTS ?= tests/models tests/objectives tests/export tests/training tests/data/test_tokenizer.py tests/data/test_loader.py \
	tests/data/test_stream.py tests/examples tests/test_stacks.py tests/test_hub.py
else ifeq ($(STACK),pinned)
VENV ?= .venv
TESTS ?=
else
$(error STACK is '$(STACK)', expected pinned or newest)
endif
BIN := $(VENV)/bin
# tests run in one process per core, at most eight; `make test PARALLEL=` runs them in one
PARALLEL ?= -n auto --maxprocesses 8 --dist worksteal
STAMP := $(VENV)/.installed

.PHONY: demo test test-fast test-faults test-smoke check lint types format bench figure docs wheel clean

$(STAMP): pyproject.toml constraints.txt constraints-newest.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(INSTALL_$(STACK))
	touch $@

INSTALL_pinned = $(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev,eval]'
# torch with what it needs; the rest is a complete list, since no resolver accepts it
define INSTALL_newest
$(BIN)/python -m pip install --quiet $$(grep -o '^torch==[0-9.]*' constraints-newest.txt)
$(BIN)/python -m pip install --quiet --no-deps -r constraints-newest.txt
$(BIN)/python -c 'import torchvision' 2> /dev/null || $(BIN)/python -m pip install --quiet --no-deps scripts/torchvision_stub
$(BIN)/python -m pip install --quiet --no-deps -e .
endef

demo: $(STAMP)  ## text -> tokenizer -> rows -> MLM, CLM, MLM decay -> encoder -> report; CORPUS=file for real text, MODEL=roberta
	PYTHONPATH=. $(BIN)/python scripts/demo.py $(foreach file,$(CORPUS),--corpus $(file)) $(if $(MODEL),--model $(MODEL)) $(ARGS)

test: $(STAMP)  ## every test that runs on this machine; STACK=newest: those that depend on the versions
	$(BIN)/python -m pytest $(PARALLEL) $(TESTS)

test-fast: $(STAMP)  ## without those marked slow
	$(BIN)/python -m pytest $(PARALLEL) -m 'not slow'

test-faults: $(STAMP)  ## the long form of the fault tests (kills, soak, fuzz), with a table of the results
	DETOUR_FAULTS=long $(BIN)/python -m pytest -m faults tests/faults tests/training tests/data tests/export tests/test_cli.py

test-smoke: $(STAMP)  ## the smoke experiment, killed ten times and finished, and its page in a browser; about 20 CPU minutes
	DETOUR_FAULTS=part $(BIN)/python -m pytest tests/experiments/test_smoke.py tests/experiments/test_page_in_a_browser.py

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

figure: $(STAMP)  ## the picture of the README, from the run that make demo left
	PYTHONPATH=. $(BIN)/python scripts/readme_figure.py work/demo/runs/smoke

docs: $(STAMP)  ## generated pages checked, then docs/ as a site in build/site; a broken link, reference or page in Chromium is an error
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[docs]'
	PYTHONPATH=. $(BIN)/python scripts/reference.py --check
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	$(BIN)/python scripts/check_site.py build/site

wheel: $(STAMP)  ## the wheel, installed and tried outside the repository in an environment of its own
	BASE=$(abspath $(VENV)) scripts/try_wheel.sh run

clean:
	rm -rf .venv .venv-newest work build dist *.egg-info

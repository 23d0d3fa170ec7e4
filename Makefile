# make demo and make test do all of their own set-up: they need Python 3.10+ with pip and venv, git and make.
#
#   TORCH     the torch to install, e.g. TORCH=torch or TORCH="torch --index-url <your torch build>"
#   PIP_ARGS  anything else for pip, e.g. PIP_ARGS=--no-cache-dir
#   PYTHON    the Python that makes the virtual environment
#   OUT       where the demo's run goes; it must not exist yet
PYTHON   ?= python3
VENV     ?= .venv
TORCH    ?= $(shell grep '^torch==' requirements-dev.txt)
PIP_ARGS ?=
OUT      ?= runs/demo-$(shell date +%Y%m%d-%H%M%S)
BIN      := $(VENV)/bin

.PHONY: demo test test-core lint bench

demo: $(VENV)/.headless  ## train a LoRA on the demo model and show what it did
	$(BIN)/mixgrpo demo --out $(OUT)

test: lint test-core  ## everything

test-core: $(VENV)/.dev  ## the headless core's tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/core

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

bench: $(VENV)/.dev  ## the README's table and pictures
	$(BIN)/python benchmarks/readme.py

$(VENV)/.torch:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install $(PIP_ARGS) $(TORCH)
	@touch $@

$(VENV)/.headless: $(VENV)/.torch pyproject.toml
	$(BIN)/pip install $(PIP_ARGS) -e ".[headless]"
	@touch $@

$(VENV)/.dev: $(VENV)/.torch pyproject.toml
	$(BIN)/pip install $(PIP_ARGS) -e ".[headless,dev]"
	@touch $@

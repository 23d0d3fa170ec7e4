# make demo, make host and make test do all of their own set-up: they need Python 3.10+ with pip and venv, git and make.
#
#   TORCH     the torch to install, e.g. TORCH=torch or TORCH="torch --index-url <your torch build>"
#   PIP_ARGS  anything else for pip, e.g. PIP_ARGS=--no-cache-dir
#   PYTHON    the Python that makes the virtual environments
#   OUT       where the demo's run goes; it must not exist yet
#
# make host starts a ComfyUI with this pack and prints its address; Ctrl-C stops it. It gets ComfyUI and a virtual
# environment for it into HOST (about 2 GB) and works in HOST/base. With another TORCH, name torchvision and torchaudio
# in it too. To use a ComfyUI that you have, with its own Python and its models:
#
#   make host COMFYUI=/path/of/ComfyUI [COMFYUI_PYTHON=/path/of/its/python]    (default: the one in its venv or .venv)
#   make test-host COMFYUI=... COMFYUI_PYTHON=...    that Python then needs pytest, hypothesis, diffusers and peft
#
#   PORT      where it listens
#   HOST_ARGS for ComfyUI's command line; --cpu, or nothing for a ComfyUI of yours
PYTHON   ?= python3
VENV     ?= .venv
TORCH    ?= $(shell grep '^torch==' requirements-dev.txt)
PIP_ARGS ?=
OUT      ?= runs/demo-$(shell date +%Y%m%d-%H%M%S)
BIN      := $(VENV)/bin

HOST      ?= .host
PORT      ?= 8188
COMFYUI   ?=
HOST_ARGS ?= $(if $(COMFYUI),,--cpu)
NEWEST    := 0.30.0
OLDEST    := 0.24.1
GET_HOST  := --folder "$(HOST)" --torch "$(TORCH)" --pip-args="$(PIP_ARGS)"
CHROMIUM  := $(shell command -v chromium || command -v chromium-browser || command -v google-chrome)
ifdef COMFYUI
COMFYUI_PYTHON ?= $(firstword $(wildcard $(COMFYUI)/venv/bin/python $(COMFYUI)/.venv/bin/python) $(PYTHON))
HOST_TEST := OMP_NUM_THREADS=1 $(COMFYUI_PYTHON) -m pytest --comfyui=$(COMFYUI)
else
HOST_TEST := OMP_NUM_THREADS=1 $(HOST)/venv/bin/python -m pytest --comfyui=$(HOST)/ComfyUI-$(NEWEST)
endif

.PHONY: demo host test test-core test-host test-web lint bench accept-nodes get-host

demo: $(VENV)/.headless  ## train a LoRA on the demo model and show what it did
	$(BIN)/mixgrpo demo --out $(OUT)

host:  ## start a ComfyUI with this pack
	$(PYTHON) scripts/host.py serve $(GET_HOST) --port $(PORT) --arguments="$(HOST_ARGS)" \
	  $(if $(COMFYUI),--comfyui "$(COMFYUI)" --python "$(COMFYUI_PYTHON)")

test: lint test-core test-host test-web  ## everything

test-core: $(VENV)/.dev  ## the headless core, and the pack as it would be published
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses=2 --dist=loadfile tests/core tests/pack

test-host: get-host  ## the nodes in a real ComfyUI: in the tests' process, and as a server
	$(HOST_TEST) tests/host

test-web: get-host  ## the pages in a real browser
ifeq ($(CHROMIUM),)
	@echo "The browser tests are skipped: no chromium was found. Install it and run make test-web."
else
	$(HOST_TEST) tests/web
endif

accept-nodes: get-host  ## the nodes are meant to be as they are now: write tests/host/server/nodes.json
	$(HOST_TEST) tests/host/server/test_nodes.py --accept-nodes

get-host:
ifndef COMFYUI
	$(PYTHON) scripts/host.py install $(GET_HOST) --version $(OLDEST)
	$(PYTHON) scripts/host.py install $(GET_HOST) --version $(NEWEST)
endif

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.dev  ## the README's table and pictures
	$(BIN)/python benchmarks/readme.py

$(VENV)/.torch:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install $(PIP_ARGS) $(TORCH)
	@touch $@

$(VENV)/.headless: $(VENV)/.torch pyproject.toml
	$(BIN)/pip install $(PIP_ARGS) -e ".[headless]"
	@touch $@

$(VENV)/.dev: $(VENV)/.torch pyproject.toml judge/pyproject.toml
	$(BIN)/pip install $(PIP_ARGS) -e ".[headless,dev]" -e ./judge
	@touch $@

# make demo, make host and make test do all of their own set-up: they need Python 3.10+ with pip and venv, git and make.
#
#   TORCH     the torch to install, e.g. TORCH=torch or TORCH="torch --index-url <your torch build>"
#   PIP_ARGS  anything else for pip, e.g. PIP_ARGS=--no-cache-dir
#   PYTHON    the Python that makes the virtual environments
#   OUT       where the demo's run goes; it must not exist yet
#
# make docs builds the site from docs/ into site/.
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
#
# make test runs two jobs at a time, as it is made for two cores; what a job prints comes when the job has ended. A test
# that costs more than 10 CPU seconds fails it. Those that are long by nature are for make test-long: all of its parts
# that have not passed with the code as it is, or the one that PART names; LONG lists them. Its campaigns - kills, fuzz,
# soak - are made of numbered cases: one that was interrupted goes on behind its last case, and one that is asked for more
# than it has done does the rest. What they do and found stands in benchmarks/reliability.md; make reliability writes it.
#
#   KILLS       of a headless run          HOST_KILLS  of a ComfyUI that trains
#   FUZZ        mutated inputs in all      MINUTES     of soak in all
PYTHON   ?= python3
VENV     ?= .venv
TORCH    ?= $(shell grep '^torch==' requirements-dev.txt)
MKDOCS   := $(shell grep '^mkdocs==' requirements-dev.txt)
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
ifdef COMFYUI
COMFYUI_PYTHON ?= $(firstword $(wildcard $(COMFYUI)/venv/bin/python $(COMFYUI)/.venv/bin/python) $(PYTHON))
COMFY       := $(COMFYUI)
HOST_PYTHON := $(COMFYUI_PYTHON)
else
COMFY       := $(HOST)/ComfyUI-$(NEWEST)
HOST_PYTHON := $(HOST)/venv/bin/python
endif

BAR       := --cpu-bar=10
CORE_TEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest
HOST_TEST := OMP_NUM_THREADS=1 $(HOST_PYTHON) -m pytest --comfyui=$(COMFY)
PROCESSES ?= 2
PARALLEL  := --jobs=2 --keep-going $(if $(filter output-sync,$(.FEATURES)),--output-sync=target)
CHROMIUM  := $(shell command -v chromium || command -v chromium-browser || command -v google-chrome)
PAGES     := $(if $(CHROMIUM),tests/web)
NO_PAGES  := @echo "The browser tests are skipped: no chromium was found. Install it and run make test-web."

LONG_CORE := recipe families kills ranks bases fuzz-run-files fuzz-prompts fuzz-loras fuzz-checkpoints fuzz-rewards fuzz-judges soak
LONG_HOST := benchmark methods canvas host-kills fuzz-endpoints fuzz-conversions host-soak users hour
LONG      := coverage $(LONG_CORE) $(LONG_HOST)
PART      ?= $(LONG)
CODE      := $(wildcard $(shell git ls-files ':!*.md' ':!benchmarks/*.json'))

KILLS      ?= 200
HOST_KILLS ?= 20
FUZZ       ?= 10000
MINUTES    ?= 30
SIZES      := --kills=$(KILLS) --host-kills=$(HOST_KILLS) --fuzz=$(FUZZ) --minutes=$(MINUTES)

# Where a machine forbids it, every process that the tests start would compile ComfyUI anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo docs host test test-core test-host test-nodes test-server test-web test-long lint lint-nodes bench \
        reliability accept-nodes get-host FORCE

demo: $(VENV)/.headless  ## train a LoRA on the demo model and show what it did
	$(BIN)/mixgrpo demo --out $(OUT)

host:  ## start a ComfyUI with this pack
	$(PYTHON) scripts/host.py serve $(GET_HOST) --port $(PORT) --arguments="$(HOST_ARGS)" \
	  $(if $(COMFYUI),--comfyui "$(COMFYUI)" --python "$(COMFYUI_PYTHON)")

test:  ## everything
	@$(MAKE) $(PARALLEL) PROCESSES=0 lint test-core test-server lint-nodes test-nodes

test-core: $(VENV)/.dev  ## the headless core, and the pack as it would be published
	$(CORE_TEST) $(BAR) --numprocesses=$(PROCESSES) --dist=loadfile tests/core tests/pack

test-host: get-host  ## the nodes in a real ComfyUI: in the tests' process, and as a server
	$(HOST_TEST) $(BAR) tests/host

test-nodes: get-host  ## those in the tests' process
	$(HOST_TEST) $(BAR) tests/host --ignore=tests/host/server

test-server: get-host  ## those of the server, and the pages, with one ComfyUI
	$(HOST_TEST) $(BAR) tests/host/server $(PAGES)
	$(if $(PAGES),,$(NO_PAGES))

test-web: get-host  ## the pages in a real browser
	$(if $(PAGES),$(HOST_TEST) $(BAR) $(PAGES),$(NO_PAGES))

test-long: $(PART:%=.long/%)  ## what is long by nature

.long/coverage: $(CODE) | $(VENV)/.dev  # which lines of the core its own tests leave out
	@mkdir -p $(@D)
	OMP_NUM_THREADS=1 $(BIN)/coverage run --branch --source=mixgrpo_core --data-file=.long/coverage.data -m pytest -q tests/core
	$(BIN)/coverage report --data-file=.long/coverage.data --skip-covered --sort=miss
	@mkdir -p $(@D) && touch $@

$(LONG_CORE:%=.long/%): .long/%: $(CODE) | $(VENV)/.dev
	$(CORE_TEST) --long=$* $(SIZES) tests/core
	@mkdir -p $(@D) && touch $@

$(LONG_HOST:%=.long/%): .long/%: $(CODE) | get-host
	$(HOST_TEST) --long=$* $(SIZES) tests/host $(PAGES)
	@mkdir -p $(@D) && touch $@

$(patsubst %,.long/%,$(filter %kills fuzz-% %soak,$(LONG))): .long/sizes

.long/sizes: FORCE
	@mkdir -p $(@D) && echo "$(SIZES)" | cmp -s - $@ || echo "$(SIZES)" > $@

reliability: $(VENV)/.dev  ## benchmarks/reliability.md, from what the campaigns of make test-long found here
	$(BIN)/python benchmarks/reliability.py

accept-nodes: get-host  ## the nodes are meant to be as they are now: write tests/host/server/nodes.json
	$(HOST_TEST) tests/host/server/test_nodes.py --accept-nodes

get-host:
ifndef COMFYUI
	$(PYTHON) scripts/host.py install $(GET_HOST) --version $(OLDEST)
	$(PYTHON) scripts/host.py install $(GET_HOST) --version $(NEWEST)
endif

docs: $(VENV)/.docs  ## the site, in site/; a link to nothing fails it
	$(BIN)/mkdocs build --quiet --strict

lint: $(VENV)/.dev docs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

lint-nodes: get-host  ## the types of nodes/, in ComfyUI's environment
	@mkdir -p "$(HOST)/pack" && ln -sfn "$(CURDIR)" "$(HOST)/pack/mixgrpo"
	MYPYPATH="$(HOST)/pack:$(COMFY)" $(HOST_PYTHON) -m mypy --config-file scripts/nodes_mypy.ini

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

$(VENV)/.docs: $(VENV)/.dev requirements-dev.txt
	$(BIN)/pip install $(PIP_ARGS) $(MKDOCS)
	@touch $@

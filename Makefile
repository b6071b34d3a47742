# `make demo` and `make test` do all the set-up: Python 3.10 or newer, make and a package index are enough.

PYTHON ?= python3
JOBS ?= 2

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# The libraries of the month of the published tables; torch stays, because torch does not decide those numbers.
TABLES_VENV := .venv-tables
TABLES_READY := $(TABLES_VENV)/.ready
TABLES_TRANSFORMERS := transformers==4.52.4

# The counters that people use, for the comparison beside hand-derived counts.
PEERS_VENV := .venv-peers
PEERS_READY := $(PEERS_VENV)/.ready

TORCH := $(shell grep '^torch==' constraints.txt)
TORCHVISION := $(shell grep '^torchvision==' constraints.txt)
PIP := -m pip -qq --disable-pip-version-check install

# Every model that is named here is in the catalogue, so nothing needs the hub.
export HF_HUB_OFFLINE := 1

.DEFAULT_GOAL := help
.PHONY: help demo test lint format docs truth tables counts bench clean

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile

demo: $(READY)  ## Weigh three models on a card you do not have, derive T5's parameters, and the published tables
	@mkdir -p out
	$(BIN)/tonnage weigh t5-small torchvision:vgg16 bert-base-uncased --gpu "RTX 3060 Laptop" --save out/demo.tonnage
	$(BIN)/tonnage weigh bert-base-uncased --mode training --batch 8 --seq 128 --gpu "RTX 3060 Laptop" \
		--save out/bert-training.tonnage
	$(BIN)/tonnage params t5-small
	$(BIN)/tonnage params t5-small --check docs/derivations/t5-small.yaml || true
	$(BIN)/python benchmarks/tables/tables.py
	@echo
	@echo "Saved: out/demo.tonnage (three models), out/bert-training.tonnage (one training step). To see them again:"
	@echo "    $(BIN)/tonnage show out/demo.tonnage"
	@echo "    $(BIN)/tonnage show out/bert-training.tonnage"

test: lint  ## Style, types, import contracts and all tests that need no network
	$(BIN)/python -m pytest -n $(JOBS)

lint: $(READY)  ## Style, types and import contracts alone
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY)  ## Rewrite the code in the project's style
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

docs: $(READY)  ## Write the generated parts of docs/ anew
	$(BIN)/python docs/gpus_table.py
	$(BIN)/python docs/models_table.py
	$(BIN)/python docs/commands_help.py
	$(BIN)/python docs/closed_forms_table.py
	$(BIN)/python docs/command_output.py

truth: $(READY)  ## Every published measurement beside the prediction of its script; writes docs/accuracy.md
	$(BIN)/python -m benchmarks.truth --write

tables: $(TABLES_READY)  ## The published tables with the libraries of their month, to the printed digit
	$(TABLES_VENV)/bin/python benchmarks/tables/tables.py --exact

counts: $(PEERS_READY)  ## Who counts the zoo right, beside torchinfo, fvcore, torch and DeepSpeed
	$(PEERS_VENV)/bin/python benchmarks/counts/counts.py --write docs/benchmarks/counts.md

bench: $(READY)  ## Time and memory of tonnage itself
	@for file in benchmarks/*.py; do echo "== $$file"; $(BIN)/python $$file || exit 1; done

clean:  ## Remove environments, caches and output
	rm -rf $(VENV) $(TABLES_VENV) $(PEERS_VENV) out build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find src tests benchmarks docs -name __pycache__ -type d -prune -exec rm -rf {} +

# torch and torchvision go first and by their exact versions, so that no later step wants another torch.
define new_environment
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "tonnage needs Python 3.10 or newer; name one: make PYTHON=python3.12"; exit 1; }
	@echo "Installing into $(1), once; PyTorch is large, so this can take some minutes."
	@$(PYTHON) -m venv $(1) || { echo "No venv module: on Debian and Ubuntu, apt install python3-venv"; exit 1; }
	$(1)/bin/python $(PIP) $(TORCH)
	$(1)/bin/python $(PIP) --no-deps $(TORCHVISION)
endef

$(READY): pyproject.toml constraints.txt
	$(call new_environment,$(VENV))
	$(BIN)/python $(PIP) --constraint constraints.txt --editable '.[transformers,torchvision,timm,dev]'
	@touch $@

$(TABLES_READY): pyproject.toml constraints.txt
	$(call new_environment,$(TABLES_VENV))
	$(TABLES_VENV)/bin/python $(PIP) --editable . $(TORCH) $(TORCHVISION) $(TABLES_TRANSFORMERS)
	@touch $@

$(PEERS_READY): pyproject.toml constraints.txt benchmarks/peers.txt
	$(call new_environment,$(PEERS_VENV))
	DS_BUILD_OPS=0 $(PEERS_VENV)/bin/python $(PIP) --editable . --requirement benchmarks/peers.txt
	@touch $@

# `make demo` and `make test` set up all that they need on a fresh Debian 12.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help deb demo test attacks test-fast lint setup lab bench bench-decide bench-analysis bench-meter bench-attest findings fuzz clean
.DEFAULT_GOAL := help

help: ## show what can be made
	@echo "shype: mandatory access control for virtual machines, enforced by the hypervisor"
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)$$/  make \1\t\2/' | expand -t 20

demo: $(STAMP) ## set up, boot a real Xen with FLASK, and watch it enforce examples/banks.yaml
	@$(BIN)/shype demo examples/banks.yaml

test: $(STAMP) lint lab ## set up, then linters, all tests, and the tests on the real hypervisor
	$(BIN)/pytest -m "not lab" --hypothesis-profile same
	$(BIN)/pytest -m "lab and not findings" -n 2 --no-loadscope-reorder --durations 10

findings: $(STAMP) lab ## repeat what docs/findings says about Xen (about five minutes)
	$(BIN)/pytest -m findings -n 2 --durations 10

attacks: $(STAMP) lab ## try to get past everything, on the real hypervisor, in three modes; one table
	$(BIN)/pytest tests/attacks -m lab -n 2 --no-loadscope-reorder

test-fast: $(STAMP) lint ## everything that needs no hypervisor, with new random examples
	$(BIN)/pytest -m "not lab"

lint: $(STAMP) ## ruff and mypy --strict
	$(BIN)/ruff check src tests bench
	$(BIN)/mypy

lab: $(STAMP) ## build the lab once: Xen with FLASK, dom0 image, guests (cached)
	$(BIN)/shype lab build

deb: $(STAMP) ## the Debian package for a Xen host, in dist/
	$(BIN)/python scripts/deb.py dist

bench: $(STAMP) lab ## count instructions on the hot paths, with and without shype
	$(BIN)/python -m bench

bench-decide: $(STAMP) ## time decisions, beside cedarpy, pycasbin and regopy on the same policy
	$(BIN)/python -m bench.decide

bench-analysis: $(STAMP) ## time the flow graph of large policies, and beside SETools' infoflow
	$(BIN)/python -m bench.analysis

bench-attest: $(STAMP) lab ## time a verifier, and count what an attested label adds to a launch
	$(BIN)/python -m bench.attest
	$(BIN)/python -m bench.launch

bench-meter: $(STAMP) ## what a sample of 1,000 VMs costs dom0
	$(BIN)/python -m bench.meter

FUZZ_SECONDS ?= 400

fuzz: $(STAMP) ## fuzz everything that reads files, 20 minutes (FUZZ_SECONDS per reader)
	$(BIN)/pip install -q --disable-pip-version-check -e '.[fuzz]'
	for reader in policy acm bundle suite; do \
	  $(BIN)/python -m tests.fuzz.driver $$reader --seconds $(FUZZ_SECONDS) || exit 1; done

setup: $(STAMP) ## the tools from Debian and the Python environment

$(STAMP): pyproject.toml scripts/setup.sh
	@PYTHON="$(PYTHON)" scripts/setup.sh "$(VENV)"
	@touch $@

clean: ## remove the Python environment and caches of this checkout (not the lab's cache)
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build

# `make` alone prints this list. The two that matter: `make run` and `make test`.
.DEFAULT_GOAL := help
SHELL := /bin/sh

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

# The sidecar sees to this itself; tests and benchmarks import ONNX Runtime on their own too.
export ORT_DISABLE_TELEMETRY := 1

OWN := inference_server strategy_client model_export tests examples benchmarks
PROTOS := $(shell cd proto && find . -name '*.proto' | sort)

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(INSTALLED): pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV) (once; a minute or two) ..."
	@PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

.PHONY: install
install: $(INSTALLED) ## the virtual environment with everything in it

.PHONY: run
run: $(INSTALLED) ## the main job: a real session replayed, one model replaced in the middle
	@ticks=$$($(BIN)/python examples/fetch_ticks.py .cache) && \
	$(BIN)/strategy-client replay "$$ticks" --strategies examples/strategies.yaml --models models --out out \
		--skip 300000 --limit 100000 --replace 50000:es_momentum:examples/next/es_momentum.onnx

.PHONY: models
models: $(INSTALLED) ## train the sample models again, on the same ticks
	@ticks=$$($(BIN)/python examples/fetch_ticks.py .cache) && $(BIN)/python examples/train_models.py "$$ticks"

.PHONY: bench
bench: $(INSTALLED) ## all measurements of speed, each beside a floor or a peer in the same run
	@$(BIN)/python benchmarks/bench.py

# Servers of others to measure beside ours; each in an environment of its own, and never needed for anything else.
PEERS := $(patsubst %,build/peers/%/.installed,mlserver kserve)

build/peers/%/.installed: benchmarks/peers/constraints-%.txt
	@echo "Installing $* into $(@D) (once; a few minutes) ..."
	@rm -rf $(@D) && $(PYTHON) -m venv $(@D)
	@PIP_DISABLE_PIP_VERSION_CHECK=1 $(@D)/bin/python -m pip install --quiet --constraint $< $* onnxruntime
	@touch $@

.PHONY: peers
peers: $(PEERS) ## what `make bench` measures beside ours: MLServer and KServe, under build/peers (1 GB)

.PHONY: stress
stress: $(INSTALLED) ## a thousand swaps under load: no failed call, no mixed answer, nothing that grows
	@$(BIN)/python benchmarks/swap_stress.py

.PHONY: soak
soak: $(INSTALLED) ## an hour of callers who stall, reset, flood and vanish beside good ones; MINUTES=60
	@$(BIN)/python benchmarks/soak.py --minutes $(or $(MINUTES),60)

# The fuzzer is needed by nothing else; the tests replay what it found without it.
FUZZ := build/fuzz
SECONDS ?= 600

$(FUZZ)/.installed: $(INSTALLED)
	@echo "Installing atheris into $(FUZZ) (once; a minute) ..."
	@rm -rf $(FUZZ) && $(PYTHON) -m venv $(FUZZ)
	@PIP_DISABLE_PIP_VERSION_CHECK=1 $(FUZZ)/bin/python -m pip install --quiet --constraint constraints.txt 'atheris>=3,<4' --editable '.[server,fast]'
	@touch $@

.PHONY: fuzz
fuzz: $(FUZZ)/.installed ## fuzz both ends of the HTTP/2 transport, led by coverage; SECONDS=600 each
	@for name in server client grpc; do \
		mkdir -p $(FUZZ)/found/$$name && $(FUZZ)/bin/python tests/fuzz/run.py $$name $(FUZZ)/found/$$name \
			tests/fuzz/corpus/$$name -max_len=800 -timeout=20 -max_total_time=$(SECONDS) \
			-artifact_prefix=$(FUZZ)/found/$$name- || exit 1; \
	done

.PHONY: swap-latency
swap-latency: $(INSTALLED) ## from the close of a new file to the first answer by it, beside its own load time
	@$(BIN)/python benchmarks/swap_latency.py

.PHONY: dead-sidecar
dead-sidecar: $(INSTALLED) ## what a dead sidecar costs the traditional strategies beside it
	@$(BIN)/python benchmarks/dead_sidecar.py

# A test of real processes can lose a race to a busy machine. What fails is run up to twice more, and the summary names
# it as RERUN: that is a defect to mend, of the test or of the code. What fails each time has failed.
.PHONY: test
test: $(INSTALLED) ## the tests
	@$(BIN)/python -m pytest -n 2 --dist loadscope --reruns 2

.PHONY: check
check: $(INSTALLED) format-check lint types architecture proto-check test ## everything: format, lint, types, architecture, generated code, tests

.PHONY: format
format: $(INSTALLED) ## put the code in its format
	@$(BIN)/ruff format $(OWN)
	@$(BIN)/ruff check --fix-only --quiet $(OWN)

.PHONY: format-check lint types architecture
format-check: $(INSTALLED)
	@$(BIN)/ruff format --check --quiet $(OWN)
lint: $(INSTALLED) ## ruff
	@$(BIN)/ruff check --quiet $(OWN)
types: $(INSTALLED) ## mypy --strict
	@$(BIN)/mypy
architecture: $(INSTALLED) ## the import rules
	@$(BIN)/lint-imports --no-cache

# tritonclient registers the same `inference.*` names: ours go into a descriptor pool of their own.
define generate
	cd proto && ../$(BIN)/python -m grpc_tools.protoc -I. --python_out=$(1) --pyi_out=$(1) $(PROTOS)
	sed -i 's/_descriptor_pool\.Default()/_descriptor_pool.DescriptorPool()/' $(1)/open_inference/v2/inference_pb2.py
endef

.PHONY: proto
proto: $(INSTALLED) ## generate the code beside the .proto files
	$(call generate,$(CURDIR)/proto)

.PHONY: proto-check
proto-check: $(INSTALLED)
	@rm -rf build/proto && mkdir -p build/proto
	@$(call generate,$(CURDIR)/build/proto)
	@diff -ru -x '*.proto' -x __pycache__ proto build/proto || { echo "generated code is out of date: run 'make proto'"; exit 1; }

.PHONY: clean
clean: ## remove what was made, except the downloads
	rm -rf $(VENV) build out .pytest_cache .mypy_cache .ruff_cache .hypothesis

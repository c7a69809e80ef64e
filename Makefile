# Everything happens in .venv of this checkout; `make demo` and `make test` do all set-up.
PYTHON ?= python3
TORCH ?= torch==2.13.0
BIN := .venv/bin
ENV := .venv/.installed
BUILT := .venv/.built
FUZZ_SECONDS ?= 600
FUZZ_SEED ?= 0
FUZZ_TARGETS ?= audio nam native journal manifest
NATIVE_TESTS := build/native-tests
SOURCES := $(shell find csrc -type f) CMakeLists.txt setup.py pyproject.toml
CPP := $(shell find csrc tests/native examples -name '*.cpp' -o -name '*.h')

.PHONY: build demo test test-native test-python fuzz bench zoo readme gpu gpu-packages check format clean

build: $(BUILT)

$(ENV): requirements.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet "$(TORCH)"
	$(BIN)/pip install --quiet -r requirements.txt
	touch $@

$(BUILT): $(ENV) $(SOURCES)
	tools/python-headers $(BIN)/python build/python-headers
	$(BIN)/pip install --quiet --no-build-isolation --no-deps --editable .
	touch $@

demo: build
	$(BIN)/fxfast demo

test: check test-native test-python

test-native: $(ENV)
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/cmake -S . -B $(NATIVE_TESTS) -G Ninja \
	  -DFXFAST_PYTHON=OFF -DFXFAST_NATIVE_TESTS=ON $(NATIVE_TEST_OPTIONS) > /dev/null
	$(BIN)/cmake --build $(NATIVE_TESTS) -- --quiet
	$(BIN)/ctest --test-dir $(NATIVE_TESTS) --output-on-failure --no-tests=error

test-python: build
	$(BIN)/pytest -n 2 --durations=10

# Coverage-guided where atheris installs, else by mutations; what breaks a reader is in build/fuzz.
fuzz: build
	$(BIN)/pip install --quiet --disable-pip-version-check atheris==3.0.0 || echo "without atheris"
	printf '%s\n' $(FUZZ_TARGETS) | xargs -P 2 -I {} \
	  $(BIN)/python -m tests.fuzz {} --seconds $(FUZZ_SECONDS) --seed $(FUZZ_SEED)

readme: build
	$(BIN)/python -m bench.readme

bench: build
	$(BIN)/python -m bench.run $(BENCH)
	$(BIN)/python -m bench.bench_sampler

# Hours: at most 10 minutes for each of 27 presets; goes on where it was stopped.
zoo: build
	$(BIN)/python -m bench.zoo $(ZOO)

# On a machine with a GPU: build, test and measure the CUDA engine with the torch that is there.
gpu:
	PYTHON=$(PYTHON) tools/gpu

# Before, where that machine reaches no package index.
gpu-packages: $(ENV)
	tools/gpu-packages

check: build
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run --Werror $(CPP)

format: $(ENV)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/clang-format -i $(CPP)

clean:
	rm -rf build dist .venv demo-out *.egg-info fxfast/*.so

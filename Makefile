# Every target builds .venv from requirements.lock first, when it is missing or older than the lock.
PYTHON ?= python3.11
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.complete

# Two workers with one thread each are faster on two cores than four threads that wait for each other.
THREADS := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OMP_WAIT_POLICY=passive
JOBS    ?= 2
OUT     ?= figures/demo

.PHONY: help env demo test test-fast soak lint bench figures notebooks clean
.DEFAULT_GOAL := help

help:
	@echo "make demo       probe, steer and judge the model that ships; writes $(OUT)/index.html"
	@echo "make test       all tests"
	@echo "make test-fast  the tests that take less than some seconds each"
	@echo "make soak       memory over a thousand traces, 50 kills at random moments; about a quarter of an hour"
	@echo "make lint       ruff and mypy"
	@echo "make bench      speed and memory, on an otherwise idle machine"
	@echo "make figures    every figure and table of every study"
	@echo "make notebooks  execute the notebooks in place"

env: $(STAMP)
	@:

$(STAMP): requirements.lock pyproject.toml
	@echo "Building $(VENV) from requirements.lock (once: about 3 minutes, 7 GB)."
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is not on the path: install Python 3.11, or say make PYTHON=/path/to/python3.11."; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps -r requirements.lock
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(STAMP)
	@OMP_WAIT_POLICY=passive $(BIN)/python -m analyses.demo --out $(OUT) $(ARGS)

test: $(STAMP)
	@$(THREADS) $(BIN)/python -m pytest -q -n $(JOBS) --dist loadfile $(ARGS)

test-fast: $(STAMP)
	@$(THREADS) $(BIN)/python -m pytest -q -n $(JOBS) --dist loadfile -m "not bench and not soak and not slow" $(ARGS)

soak: $(STAMP)
	@$(THREADS) $(BIN)/python -m pytest -q -s -m soak tests/soak $(ARGS)

lint: $(STAMP)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy

bench: $(STAMP)
	@$(BIN)/python -m pytest -q -s -m bench tests/benchmarks $(ARGS)

figures: $(STAMP)
	@$(BIN)/python -m analyses.figures $(ARGS)

notebooks: $(STAMP)
	@PYTHONWARNINGS='ignore:IProgress not found' $(BIN)/jupyter-execute --inplace notebooks/*.ipynb

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache

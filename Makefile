# Everything is installed into .venv of this folder; nothing outside of it is touched but the model cache.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
VLLM := .venv-vllm
# The packages of a dependency group: pip before 25.1 has no --group.
GROUP = $(BIN)/python -c "import sys, tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['dependency-groups'][sys.argv[1]])"
READY := $(VENV)/.ready

DEMO_MINUTES ?= 7
DEMO_SEED ?= 0
DEMO_MODEL ?= local?max_tokens=1000
PROOF_SCALE ?= 1

.PHONY: help install demo test test-slow vllm-test docs pictures lint typecheck format proof coverage mutants bench bench-real lock build clean

help:  ## show this help
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 14

# The lock names everything, so nothing is left to resolve: older pips would look past its pins for `coverage[toml]`.
$(READY): requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $(READY)

install: $(READY)  ## install flashgraph and all it needs into .venv

demo: $(READY)  ## evolve a prompt on the embedded model: about 10 minutes, the first time plus a 1.1 GB download
	$(BIN)/flashgraph run gepa --task examples/tickets/task.py --model '$(DEMO_MODEL)' \
		--set minibatch=4 --set window=2 --minutes $(DEMO_MINUTES) --seed $(DEMO_SEED)

test: $(READY)  ## the default test suite
	$(BIN)/python -m pytest -q -n auto -m "not slow and not local_model and not vllm"

test-slow: $(READY)  ## what takes minutes: claims measured under virtual time, the embedded model
	$(BIN)/python -m pytest -q -n auto -m "slow or local_model"

$(VLLM)/.ready: tests/real_vllm/requirements.txt | $(READY)
	$(BIN)/python -m tests.real_vllm.install $(VLLM)
	@touch $@

vllm-test: $(VLLM)/.ready  ## the tests against a real vLLM on the processor, in a virtual environment of 2.4 GB of its own
	$(VLLM)/bin/python -m pytest -q tests/real_vllm

proof: $(READY)  ## every invariant on generated graphs, all orders of tiny runs, processes killed: about 12 minutes
	$(BIN)/python -m tests.proof --scale $(PROOF_SCALE)
	$(BIN)/python -m pytest -q -n auto -m "not slow" tests/journal/test_kill.py

coverage: $(READY)  ## fails unless their own tests run every branch of the graphs' checks, the policies and the scheduler
	$(BIN)/python -m pytest -q -n auto -m "not slow" --hypothesis-seed=0 \
		--cov=flashgraph/graph --cov=flashgraph/policies --cov=flashgraph/run --cov-branch \
		--cov-report=term-missing:skip-covered --cov-fail-under=100 \
		tests/graph tests/policies tests/run tests/journal tests/proof/test_properties.py \
		tests/testing/test_policies.py tests/graph/test_params.py tests/cli/test_check.py

docs: $(READY)  ## the site of docs/ in build/site, from pages and code; a warning is an error
	$(GROUP) docs | xargs $(BIN)/python -m pip install --quiet --disable-pip-version-check
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

pictures: $(READY)  ## the drawings and screenshots of docs/
	$(BIN)/python -m tests.docs.pictures --pages

lint: $(READY)  ## ruff, and the linter of prose
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m tests.prose

typecheck: $(READY)  ## mypy, strict
	$(BIN)/mypy

format: $(READY)  ## let ruff fix what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

mutants: $(READY)  ## mutation testing: all mutants take hours, SAMPLE=200 SEED=0 SUITE=invariants tries some
	$(GROUP) mutants | xargs $(BIN)/python -m pip install --quiet --disable-pip-version-check
	$(BIN)/python -m tests.mutants.historical
	$(BIN)/python -m tests.mutants.sample $(if $(SAMPLE),--sample $(SAMPLE)) --seed $(or $(SEED),0) \
		--suite $(or $(SUITE),every)

bench: $(READY)  ## the tables of docs/benchmarks/index.md, and of docs/algorithms/ace.md and docs/algorithms/meta-harness.md: about an hour
	$(BIN)/python -m tests.benchmarks.family
	$(BIN)/python -m tests.benchmarks.family --held-out --first 100
	$(BIN)/python -m tests.benchmarks.family --profile api --seeds 2
	$(BIN)/python -m tests.benchmarks.policies
	$(BIN)/python -m tests.benchmarks.overhead
	$(BIN)/python -m tests.benchmarks.client
	$(BIN)/python -m tests.benchmarks.limits
	$(BIN)/python -m tests.benchmarks.peer_http
	$(BIN)/python -m tests.benchmarks.ace
	$(BIN)/python -m tests.benchmarks.harness_world 12

bench-real: $(READY)  ## the embedded model on two tasks beside the gepa package: about two hours of both cores
	$(BIN)/python -m tests.benchmarks.real

build: $(READY)  ## wheel and sdist
	rm -rf dist
	$(BIN)/uv build
	$(BIN)/python -m zipfile -l dist/*.whl | grep flashgraph/algorithms/gepa.py

# All but vLLM, which `make vllm-test` installs apart, and DSPy, whose tests skip without it.
EXTRAS := data draw embedding gepa ifbench litellm local mlflow testing trio

lock:  ## resolve requirements.lock anew from pyproject.toml
	$(BIN)/uv pip compile --quiet pyproject.toml $(EXTRAS:%=--extra %) --group dev --universal --python-version 3.11 \
		--generate-hashes --no-header --no-annotate --no-emit-index-url --no-emit-find-links --upgrade -o requirements.lock

clean:  ## remove what was built and installed here
	rm -rf $(VENV) $(VLLM) dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis

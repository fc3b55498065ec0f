# `make ship` and `make test` need Python 3.10 or newer and nothing else: they make .venv/ and use it.
RECIPE ?= quickstart
PYTHON ?= $(firstword $(foreach name,python3.11 python3.12 python3.13 python3,$(shell command -v $(name))))
BIN := .venv/bin
READY := .venv/.ready
# Two processes: a test uses one thread, and each process imports torch.
UNIT = $(BIN)/python -m pytest --numprocesses 2 --dist worksteal

.PHONY: ship test test-all lint types recipes bench clean

ship: $(READY)
	@$(BIN)/edgeproof ship $(RECIPE) $(ARGS)

test: lint types recipes
	$(UNIT) -m "not slow and not gpu" $(ARGS)

test-all: lint types recipes
	$(UNIT) $(ARGS)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/pyright
	$(BIN)/pyright --pythonversion 3.10 deploy/edgeproof_deploy/runtime

recipes: $(READY)
	$(BIN)/python -m edgeproof_configs.validate

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[all]'
	@touch $(READY)

clean:
	rm -rf .venv runs .pytest_cache .ruff_cache

# Every target makes the environment it needs; nothing has to be installed by hand.
VENV := .venv
BIN := $(VENV)/bin

.PHONY: serve test check bench format clean
.DEFAULT_GOAL := serve

$(BIN)/osa: pyproject.toml
	python3 -m venv $(VENV)
	$(BIN)/pip install -q -e .
	touch $@

$(BIN)/pytest: pyproject.toml
	python3 -m venv $(VENV)
	$(BIN)/pip install -q -e '.[dev]'
	touch $@ $(BIN)/osa

serve: $(BIN)/osa             ## the server with the packaged model
	$(BIN)/osa serve

test: $(BIN)/pytest           ## every test
	$(BIN)/pytest

check: $(BIN)/pytest          ## format, lint, types, layers, tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest

bench: $(BIN)/pytest          ## errors and speed of the operator beside softmax attention
	$(BIN)/python -m benchmarks.kernels --output build/benchmarks

format: $(BIN)/pytest         ## format and fix what can be fixed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:                        ## remove the environment and every cache
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info build
	rm -f model/kernels/_native*

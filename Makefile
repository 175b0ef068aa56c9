# Everything runs in .venv, which is made on first use and brought up to date when pyproject.toml or constraints.txt
# change. PYTHON chooses the interpreter: make test PYTHON=python3.12

PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test quick test-all matrix bench lint notebooks docs clean

demo: .venv/installed-tutorials  ## train two networks, transform and certify them, print tables, draw demo.png
	$(BIN)/python -m tutorials.demo

test: .venv/installed-test  ## the tests that run in minutes, on up to four cores
	$(BIN)/python -m torch_shallow compile
	$(BIN)/python -m pytest -m "not slow" -n auto --maxprocesses=4 --dist=worksteal

quick: .venv/installed-test  ## a cut through all tests, for the daily loop
	$(BIN)/python -m pytest -m "quick and not slow" -n auto --maxprocesses=4 --dist=worksteal

test-all: .venv/installed-test  ## every test, with new random examples each time
	$(BIN)/python -m pytest --hypothesis-profile=thorough --typecheck

matrix:  ## the installed package with each Python, the lowest and newest versions, and each extra; two hours, gigabytes
	$(PYTHON) -m benchmarks.matrix

bench: .venv/installed-bench  ## side by side with other tools: a record of the ratios in record.json
	$(BIN)/python -m benchmarks.record record.json

lint: .venv/installed-dev  ## style, formatting, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

notebooks: .venv/installed-tutorials  ## run the tutorials and keep their outputs
	$(BIN)/python -m tutorials.execute

docs: .venv-docs/installed  ## the documentation site, in docs/_build/html; any warning is an error
	.venv-docs/bin/codespell docs README.md CHANGELOG.md CONTRIBUTING.md torch_shallow
	.venv-docs/bin/sphinx-build --fail-on-warning --keep-going --fresh-env -b html docs docs/_build/html

clean:  ## everything that these commands make
	rm -rf .venv .venv-docs build *.egg-info demo.png docs/_build docs/api docs/copied docs/pictures docs/reference

.venv/installed-%: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$*]'
	touch $@

$(BIN)/python:
	$(PYTHON) -m venv .venv

# The site has an environment of its own, so that its tools never decide what versions the package is tested with.
.venv-docs/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-docs
	.venv-docs/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	touch $@

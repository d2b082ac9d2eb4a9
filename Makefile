# make demo    train a small model on the built-in corpus, then evaluate it, sample from it, walk between two sentences
# make test    lint and tests, in at most ten minutes on two cores
# make slow    the longer tests
# make docs    build the documentation site into site/, every link checked
# make clean   remove the virtual environment and what the tools left
#
# The virtual environment is .venv, made with PYTHON (python3). A demo always makes a run folder of its own.

PYTHON ?= python3
BIN := .venv/bin
DEMO := runs/demo-$(shell date +%Y%m%d-%H%M%S)

# Threads that wait for work sleep instead of spinning, so that two busy programs do not slow each other down.
export OMP_WAIT_POLICY := PASSIVE

.PHONY: demo test lint slow docs clean

demo: .venv/installed
	$(BIN)/seqvae train --config tiny.yaml --out $(DEMO)
	$(BIN)/seqvae eval --model $(DEMO) --iw-samples 50
	$(BIN)/seqvae sample -n 10 --model $(DEMO)
	$(BIN)/seqvae interpolate "i happily discussed the ideas in the morning" "we will forget your awful emails at noon" --model $(DEMO)

test: lint
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

slow: .venv/installed-dev
	$(BIN)/python -m pytest -m slow

docs: .venv/installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

clean:
	rm -rf .venv .pytest_cache .ruff_cache .hypothesis build dist site

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/installed: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet -c constraints.txt -e .
	touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[dev]"
	touch $@

.venv/installed-docs: .venv/installed
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[docs]"
	touch $@

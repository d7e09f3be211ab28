# The list of verbs. PIP_ARGS goes to pip, for example for PyTorch's CPU build.
PYTHON ?= python3
PIP_ARGS ?=
VENV := .venv
RUN := $(VENV)/bin/python

.PHONY: env demo test test-slow lint clean-demo

env: $(VENV)/.complete

$(VENV)/.complete: requirements.txt requirements-dev.txt
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) -r requirements.txt -r requirements-dev.txt
	touch $@

lint: env
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

test: lint
	$(RUN) -m pytest -n 2

test-slow: env
	$(RUN) -m pytest -m slow

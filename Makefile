# `make demo` and `make test` are all a fresh clone needs; see README.md.
#
#   TF=reference  TensorFlow 2.15 on Python 3.9-3.11, in .venv (the default)
#   TF=current    TensorFlow 2.20 on Python 3.11-3.13, in .venv-current

TF ?= reference
ifeq ($(TF),reference)
  PYTHON ?= $(firstword $(shell command -v python3.11 python3.10 python3.9 python3))
  VENV := .venv
  CONSTRAINTS := constraints.txt
  EXTRAS := dev,protos,beam
  # The official evaluation tools, beside which tests put the metrics, and what they import; small and of Python alone.
  # Without their dependencies: they ask for NumPys that exclude each other, and none of it matters to them here.
  OFFICIAL := panopticapi-lite==0.2.0 cityscapesscripts==2.3.0 trackeval==1.3.0 \
    appdirs==1.4.4 coloredlogs==15.0.1 humanfriendly==10.0 pyquaternion==0.9.9
else ifeq ($(TF),current)
  PYTHON ?= $(firstword $(shell command -v python3.11 python3.12 python3.13 python3))
  VENV := .venv-current
  CONSTRAINTS := constraints-current.txt
  EXTRAS := dev
else
  $(error TF=$(TF) is unknown; use TF=reference or TF=current)
endif

PY := $(VENV)/bin/python
export TF_CPP_MIN_LOG_LEVEL ?= 3

.PHONY: help install demo test test-slow check format protos benchmark clean
help:
	@sed -n 's/^## //p' Makefile

## make install    makes the environment; later runs reuse it
install: $(VENV)/installed

# One call of pip: everything resolves by wheels through the constraints, nothing is compiled.
$(VENV)/installed: setup.py pyproject.toml $(CONSTRAINTS)
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 9) <= sys.version_info[:2] <= (3, 13))' || \
	  { echo "Python 3.11 is needed, $(PYTHON) is $$($(PYTHON) -V). Name one with: make PYTHON=/path/to/python3.11"; exit 2; }
	@echo "Installing into $(VENV) (about a minute) ..."
	@test -x $(PY) || $(PYTHON) -m venv $(VENV)
	@$(PY) -m pip install --quiet --disable-pip-version-check --no-compile --prefer-binary --constraint $(CONSTRAINTS) --editable '.[$(EXTRAS)]'
	@test -z "$(OFFICIAL)" || $(PY) -m pip install --quiet --disable-pip-version-check --no-compile --no-deps $(OFFICIAL)
	@touch $@

## make demo       trains, evaluates, exports, predicts on procedural scenes; writes runs/demo/report.html
demo: install
	@$(PY) trainer/demo.py --output_dir=runs/demo

## make test       the fast suite (TF=current: on TensorFlow 2.20)
test: install
	$(PY) -m pytest -n 2 --dist=loadfile -m "not slow"

## make test-slow  full-size networks and long runs
test-slow: install
	$(PY) -m pytest -n 2 --dist=loadfile -m slow

## make check      formatter, linter, types, fresh protobuf modules
check: install
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy
	$(PY) tools/compile_protos.py --check

## make format     formats the code
format: install
	$(PY) -m ruff format .
	$(PY) -m ruff check --fix .

## make protos     compiles protos/*.proto
protos: install
	$(PY) tools/compile_protos.py

## make benchmark  speed and memory, as JSON in runs/benchmark.json
benchmark: install
	$(PY) benchmarks/run.py --output=runs/benchmark.json

## make clean      removes the environments and everything under runs/
clean:
	rm -rf .venv .venv-current runs build *.egg-info .pytest_cache .mypy_cache .ruff_cache

# make train: from a fresh clone to a trained, evaluated model.   make test: every check.   make help: the rest.
PYTHON ?= python3.11
CONFIG ?= configs/kws.yaml
VENV := .venv
RECORDINGS ?= data
RUN := $(VENV)/bin/python
READY := $(VENV)/.ready
MODEL ?= models/kws
export HF_HUB_OFFLINE := 1

.DEFAULT_GOAL := help
.PHONY: help setup data prepare train evaluate mar serve serve-image load-test lint test test-slow ci-selfcheck clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

setup: $(READY)  ## create .venv and install the pinned requirements, once

$(READY): requirements.txt pyproject.toml scripts/repair_torchaudio.py
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(RUN) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	$(RUN) scripts/repair_torchaudio.py
	@touch $@

data: setup  ## make the default synthetic corpus in data/, unless there is something
	@test -e data || $(RUN) scripts/synthesize.py data -v

prepare: data  ## check the recordings and write the prepared store
	$(RUN) scripts/prepare.py $(CONFIG) -v

train: prepare  ## data, checks, training and evaluation
	$(RUN) scripts/train.py $(CONFIG) -v
	$(RUN) scripts/evaluate.py models/kws --config $(CONFIG) -v

mar: setup  ## pack the exported model for TorchServe
	$(RUN) scripts/archive.py $(MODEL)

serve: setup  ## run TorchServe here, on port 8080; needs Java 17
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" torchserve/serve.sh

serve-image:  ## build the image of the service
	@test -f torchserve/model-store/kws.mar || { echo "no torchserve/model-store/kws.mar; make mar makes it" >&2; exit 2; }
	docker build -t kws-serve:v1 $(DOCKER_BUILD_ARGS) torchserve

load-test: setup  ## measure the running service at rising rates
	$(RUN) scripts/load_test.py $(RECORDINGS) --rates 20 50 100 200 --requests 2000

lint: setup  ## flake8 and mypy
	$(RUN) -m flake8 kws scripts tests torchserve
	$(RUN) -m mypy

test: lint  ## flake8, mypy and the tests that take minutes in all
	$(RUN) -m pytest -m "not slow" $(PYTEST_ARGS)

test-slow: setup  ## the tests at full length
	$(RUN) -m pytest -m slow $(PYTEST_ARGS)

ci-selfcheck: setup  ## plant bugs in a throw-away copy and show that the tests turn red
	$(RUN) scripts/ci_selfcheck.py

clean:  ## remove everything that was made, but not data/ and not .venv/
	rm -rf prepared models runs reports

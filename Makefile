# make train: from a fresh clone to a trained, evaluated model.   make test: every check.   make help: the rest.
PYTHON ?= python3.11
VENV := .venv
RECORDINGS ?= data
RUN := $(VENV)/bin/python
READY := $(VENV)/.ready
PRETRAINED := kws/pretrained/kws-8
REAL ?= data-real
IMAGE ?= kws:v1
export HF_HUB_OFFLINE := 1
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

ifneq ($(filter models:/%,$(MODEL)),)  # a registered model, as models:/kws@champion, is downloaded first
REGISTERED := $(MODEL)
override MODEL := models/registered
image mar: registered
endif

.DEFAULT_GOAL := help
.PHONY: help setup data prepare train export registered image mar serve serve-image load-test ui demo lint test test-slow \
	ci-selfcheck pretrained wheel clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

setup: $(READY)  ## create .venv and install the pinned requirements, once

$(READY): requirements.txt pyproject.toml scripts/repair_torchaudio.py
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(RUN) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	$(RUN) scripts/repair_torchaudio.py
	@touch $@

data: setup  ## bring data/ back as data.dvc describes it: pulled, else synthesized
	@$(RUN) scripts/restore_data.py -v

prepare: data  ## check the recordings and write the prepared store
	$(RUN) -m dvc repro prepare

train: data  ## data, checks, training and evaluation: what of dvc.yaml is not up to date
	$(RUN) -m dvc repro

ui: setup  ## look at the runs: http://127.0.0.1:5000
	MLFLOW_DISABLE_TELEMETRY=true $(RUN) -m mlflow ui --backend-store-uri sqlite:///mlflow.db

demo: setup  ## the page that spots words in a browser: http://127.0.0.1:8000
	$(RUN) -m kws demo $(if $(MODEL),--model $(MODEL))

export: MODEL ?= models/kws
export: setup  ## add to the trained model what runs without PyTorch
	$(RUN) scripts/export.py $(MODEL) -v

registered: setup
	$(RUN) scripts/fetch_model.py $(REGISTERED) $(MODEL)

image: MODEL ?= models/kws
image:  ## build the Docker image around models/kws, or around the shipped model where none was trained
	@test ! -e $(MODEL) -o -f $(MODEL)/model.onnx || { echo "$(MODEL)/model.onnx: no such file; make export makes it" >&2; exit 2; }
	docker build -f docker/Dockerfile -t $(IMAGE) --build-arg MODEL=$(MODEL) $(DOCKER_BUILD_ARGS) .

mar: setup  ## pack the exported model, or the shipped one, for TorchServe
	$(RUN) scripts/archive.py $(MODEL)

serve: setup  ## run TorchServe here, on port 8080; needs Java 17
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" torchserve/serve.sh

serve-image:  ## build the image of the service
	@test -f torchserve/model-store/kws.mar || { echo "no torchserve/model-store/kws.mar; make mar makes it" >&2; exit 2; }
	docker build -t kws-serve:v1 $(DOCKER_BUILD_ARGS) torchserve

load-test: setup  ## measure the running service at rising rates
	$(RUN) scripts/load_test.py $(RECORDINGS) --rates 20 50 100 200 --requests 2000

wheel: setup  ## build dist/kws-….whl and the .tar.gz that it is built from, and check both
	rm -rf dist
	$(RUN) -m build --installer=uv
	$(RUN) -m twine check --strict dist/*
	@du -b dist/*

pretrained: setup  ## make the model that ships with the repository again, of the real recordings in REAL
	$(RUN) scripts/pretrained.py $(REAL) $(PRETRAINED) $(if $(NEGATIVES),--negatives $(NEGATIVES))

lint: setup  ## flake8 and mypy
	$(RUN) -m flake8 kws scripts tests torchserve
	$(RUN) -m mypy

test: lint  ## flake8, mypy and the tests that take minutes in all, on up to four cores
	$(RUN) -m pytest -m "not slow" -n auto $(PYTEST_ARGS)

test-slow: setup  ## the tests at full length
	$(RUN) -m pytest -m slow $(PYTEST_ARGS)

ci-selfcheck: setup  ## plant bugs in a throw-away copy and show that the tests turn red
	$(RUN) scripts/ci_selfcheck.py

clean:  ## remove everything that was made, but not data/, .venv/ and MLflow's runs
	rm -rf prepared models runs reports dist

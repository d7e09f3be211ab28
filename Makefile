# The list of verbs. PIP_ARGS goes to pip, for example for PyTorch's CPU build.
PYTHON ?= python3
PIP_ARGS ?=
VENV := .venv
RUN := $(VENV)/bin/python

.PHONY: env demo study probe test test-slow lint bench

env: $(VENV)/.complete

$(VENV)/.complete: requirements.txt requirements-dev.txt
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) -r requirements.txt -r requirements-dev.txt
	touch $@

DEMO := demo
STAGES := fuse_examples/imaging/oai_example

# A small synthetic knee data set, all three stages on it, and a table that fails where a figure is too low.
demo: env
	$(RUN) -m fuse_examples.imaging.oai_example.prepare.synthetic_knee $(DEMO)/data --overwrite
	$(RUN) $(STAGES)/self_supervised/dino.py --config configs/demo/dino_demo.yaml
	$(RUN) $(STAGES)/self_supervised/dino.py --config configs/demo/dino_demo.yaml test_ckpt=$(DEMO)/results/dino/checkpoints/best.ckpt
	$(RUN) $(STAGES)/downstream/classification.py --config configs/demo/classification_demo.yaml
	$(RUN) $(STAGES)/downstream/classification.py --config configs/demo/classification_demo.yaml dino_weights=null test_ckpt=$(DEMO)/results/classification/checkpoints/best.ckpt
	$(RUN) $(STAGES)/downstream/segmentation.py --config configs/demo/segmentation_demo.yaml
	$(RUN) $(STAGES)/downstream/segmentation.py --config configs/demo/segmentation_demo.yaml dino_weights=null test_ckpt=$(DEMO)/results/segmentation/checkpoints/best.ckpt
	$(RUN) -m fuse_examples.imaging.oai_example.prepare.demo_verdict $(DEMO)

# Whether the demo's pre-training helps with few labels; what is done already is not done again.
study: env
	test -f $(DEMO)/data/segmentation.csv || $(RUN) -m fuse_examples.imaging.oai_example.prepare.synthetic_knee $(DEMO)/data
	test -f $(DEMO)/results/dino/backbone.safetensors || $(RUN) $(STAGES)/self_supervised/dino.py --config configs/demo/dino_demo.yaml
	$(RUN) $(STAGES)/downstream/label_efficiency.py --config configs/demo/label_efficiency_demo.yaml

# Whether features pre-trained without labels tell the synthetic cohorts apart better than a random network's;
# what is done already is not done again.
probe: env
	test -f $(DEMO)/probe/data/knees.csv || $(RUN) -m fuse_examples.imaging.oai_example.prepare.synthetic_knee $(DEMO)/probe/data --patients 400 --labelled 0
	test -f $(DEMO)/probe/results/dino/backbone.safetensors || $(RUN) $(STAGES)/self_supervised/dino.py --config configs/studies/dino_knees.yaml
	$(RUN) benchmarks/pretrained_features.py $(DEMO)/probe/results/dino V00COHORT --columns foreground_mm3 mean_intensity

lint: env
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

test: lint
	$(RUN) -m pytest -n 2

test-slow: env
	$(RUN) -m pytest -m slow

# How fast views are made, beside the earlier example's way of the same work; docs/performance.md has the figures.
bench: env
	$(RUN) benchmarks/views.py
	$(RUN) benchmarks/reading.py
	$(RUN) benchmarks/surfaces.py
	$(RUN) benchmarks/windows.py
	$(RUN) benchmarks/backbones.py
	$(RUN) benchmarks/dino_step.py

# Every target sets up what it needs: a virtual environment in .venv, made once, and the packages
# of pyproject.toml, installed again when that file changes. GNU make 3.81 (macOS) is enough.

PYTHON ?= python3
WORKERS ?= 2
ARGS ?=
ifeq ($(OS),Windows_NT)
BIN := .venv/Scripts
else
BIN := .venv/bin
endif
TEST_EXTRAS := dev,demo,heic,notebooks,classroom
LAB_EXTRAS := notebooks,demo
# What the lab's file list leaves out: Jupyter's own defaults, and beside each lesson its text twin.
LAB_HIDES := __pycache__ *.pyc *.pyo .DS_Store *~ 0[1-9]_*.py slides.py times.json

# OpenMP threads that spin while they wait make a busy machine many times slower. This must be set
# before torch is imported.
OMP_WAIT_POLICY ?= passive
export OMP_WAIT_POLICY

.DEFAULT_GOAL := help
API := sparse_rcnn_lab sparse_rcnn_lab.analysis sparse_rcnn_lab.views.figures sparse_rcnn_lab.core sparse_rcnn_lab.course.lessons

SITE := build/site

.PHONY: help demo lab gallery lessons slides classroom api site test test-slow benchmark lint format hooks

help: ## these lines
	@echo 'Sparse R-CNN lab. Each of these sets up what it needs, the first time:'
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo 'The Python to set up with: make demo PYTHON=python3.12 (3.11 or newer).'

demo: .venv/.installed-demo ## detect in your own photos, at http://127.0.0.1:7860 (ARGS="--help" lists the options)
	$(BIN)/python apps/demo.py $(ARGS)

lab: .venv/.installed-lab ## the lessons in JupyterLab, as copies of yours in my_lessons
	@$(BIN)/jupyter labextension disable --level=sys_prefix '@jupyterlab/apputils-extension:announcements' >/dev/null 2>&1 || true
	@$(BIN)/python -m sparse_rcnn_lab.course.lessons copy my_lessons
	$(BIN)/jupyter lab --LabApp.default_url=/lab/tree/my_lessons/01_one_image.ipynb $(LAB_HIDES:%='--ContentsManager.hide_globs=%') $(ARGS)

gallery: .venv/.installed-lab ## the lessons as pages with outputs, in build/gallery (ARGS=--fast for toy amounts)
	OMP_NUM_THREADS=1 $(BIN)/python -m sparse_rcnn_lab.course.lessons gallery $(ARGS) build/gallery

lessons: .venv/.installed-lab ## run all lessons in full and keep their times (ARGS="05 06" for some of them)
	$(BIN)/python -m sparse_rcnn_lab.course.lessons sync
	$(BIN)/python -m sparse_rcnn_lab.course.lessons run --full $(ARGS)

slides: .venv/.installed-lab ## a deck of slides for a lecture, build/slides.html (ARGS=--fast for toy amounts)
	OMP_NUM_THREADS=1 $(BIN)/python -m sparse_rcnn_lab.course.lessons slides $(ARGS) build/slides.html

classroom: .venv/.installed-classroom ## assignments that grade themselves: builds course/ (docs/classroom.md)
	$(BIN)/python -m sparse_rcnn_lab classroom build $(ARGS)

api: .venv/.installed-test ## pages of every public name, in build/api
	$(BIN)/python -m pdoc -o build/api -d restructuredtext $(API)
	@echo 'Open build/api/index.html in a browser.'

site: .venv/.installed-test ## lessons, playgrounds, docs and every public name, in build/site: what is published
	OMP_NUM_THREADS=1 $(BIN)/python -m sparse_rcnn_lab.course.lessons site $(ARGS) $(SITE)
	$(BIN)/python -m pdoc -o $(SITE)/api -d restructuredtext $(API)

test: .venv/.installed-test ## the tests, in minutes (ARGS="-k matching" for some of them)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

test-slow: .venv/.installed-test ## the tests that train for many minutes
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) -m slow --timeout 3600 $(ARGS)

benchmark: .venv/.installed-test ## our detector and others on one image (ARGS="--model nano" for a smaller one)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks --model r50_3x_100 --against eager,folded,onnxruntime,openvino,onnxruntime-file,openvino-file,torchvision $(ARGS)

lint: .venv/.installed-test ## style and types: ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/.installed-test ## mend the style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

hooks: .venv/.installed-test ## run lint and format at each commit
	$(BIN)/pre-commit install

.venv/.made:
	@command -v $(PYTHON) >/dev/null 2>&1 || { \
	  echo 'There is no "$(PYTHON)" here. Install Python 3.11 or newer, or name yours: make PYTHON=/path/to/python'; \
	  exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python 3.11 or newer is needed; $(PYTHON) is $$($(PYTHON) -V 2>&1). Name a newer one: make PYTHON=python3.12"; \
	  exit 1; }
	@echo 'Making a virtual environment in .venv'
	@$(PYTHON) -m venv .venv || { \
	  echo 'Python could not make it (on Debian and Ubuntu: apt install python3-venv).'; exit 1; }
	@touch $@

define install
	@echo 'Installing $(1): a few minutes the first time (torch alone is some gigabytes on Linux).'
	$(BIN)/python -m pip install --disable-pip-version-check -e '.[$(1)]'
	@touch $@
endef

.venv/.installed-demo: pyproject.toml | .venv/.made
	$(call install,demo)

.venv/.installed-lab: pyproject.toml | .venv/.made
	$(call install,$(LAB_EXTRAS))

.venv/.installed-classroom: pyproject.toml | .venv/.made
	$(call install,classroom)

.venv/.installed-test: pyproject.toml | .venv/.made
	$(call install,$(TEST_EXTRAS))

# demo   install the product, build the embedded LeViT for every target into dist/
# test   install the test tools, run the fast tests, and the slow ones when CI or SLOW is set
# baselines  build the demo, show what differs from tests/baselines/demo.json, and record the new report there; needs
#        the emulated core: levit-edge device add qemu-arm64
# check  formatting, lint, types, import direction, duplicated logic, and the schemas of the CI files
#
# Variables: VENV (the virtual environment), PYTHON (the interpreter that makes it), OUT (folder of the demo's bundles),
# WORKERS and SLOW_WORKERS (processes that run the fast and the slow tests), PYTEST_ARGS, TORCH_INDEX (an extra index to
# look for torch in, such as https://download.pytorch.org/whl/cpu where the default index has only the CUDA build, which
# works too but is larger).

VENV ?= .venv
PYTHON ?= python3
OUT ?= dist
# One process for each CPU, but not more than four: each takes about 1 GB.
WORKERS ?= logical --maxprocesses 4
# Two for the slow tests: the build of the demo takes 1.5 GB, those of the larger variants more. The tests of one file
# run in one process.
SLOW_WORKERS ?= 2
PYTEST_ARGS ?=
TORCH_INDEX ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip
PACKAGES := levit_edge calibration quantize targets
INSTALL := $(PIP) install --editable . $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))

.PHONY: demo test baselines check format clean
.DELETE_ON_ERROR:

demo: $(VENV)/.installed
	$(BIN)/levit-edge build --out $(OUT)

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(PYTEST_ARGS)
	$(if $(CI)$(SLOW),$(BIN)/python -m pytest -m slow -n $(SLOW_WORKERS) --dist loadfile $(PYTEST_ARGS),@echo "slow tests left out; SLOW=1 runs them")

baselines: $(VENV)/.installed
	$(BIN)/levit-edge build --device qemu-arm64 --out $(OUT)
	$(BIN)/levit-edge diff tests/baselines/demo.json $(OUT)/report.json
	cp $(OUT)/report.json tests/baselines/demo.json

check: $(VENV)/.installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pylint $(PACKAGES)
	$(BIN)/check-jsonschema --builtin-schema vendor.github-actions action.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/ci.yml docs/ci/github-workflow.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.gitlab-ci docs/ci/gitlab-ci.yml

format: $(VENV)/.installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) build .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis

# A stamp is written only after everything before it succeeded, so an interrupted install is simply run again.
# Dependency groups came with pip 25.1; the pip inside a new environment is often older.
$(VENV)/.pip:
	$(PYTHON) -m venv $(VENV)
	$(PIP) install 'pip>=25.1'
	touch $@

$(VENV)/.installed: pyproject.toml | $(VENV)/.pip
	$(INSTALL)
	touch $@

$(VENV)/.installed-dev: pyproject.toml | $(VENV)/.pip
	$(INSTALL) --group dev
	touch $(VENV)/.installed $@

# demo   install the product, build the embedded LeViT for every target into dist/
# test   install the test tools, run the fast tests, and the slow ones when CI or SLOW is set
# check  formatting, lint, types, import direction, duplicated logic
#
# Variables: PYTHON (interpreter for .venv), OUT (folder of the demo's bundles), PYTEST_ARGS,
# TORCH_INDEX (an extra index to look for torch in, such as https://download.pytorch.org/whl/cpu where the default
# index has only the CUDA build; that one works as well, it is only larger).

PYTHON ?= python3
OUT ?= dist
PYTEST_ARGS ?=
TORCH_INDEX ?=

BIN := .venv/bin
PIP := $(BIN)/python -m pip
PACKAGES := levit_edge calibration quantize targets
INSTALL := $(PIP) install --editable . $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))

.PHONY: demo test check format clean
.DELETE_ON_ERROR:

demo: .venv/.installed
	$(BIN)/levit-edge build --out $(OUT)

test: .venv/.installed-dev
	$(BIN)/python -m pytest $(PYTEST_ARGS)
	$(if $(CI)$(SLOW),$(BIN)/python -m pytest -m slow $(PYTEST_ARGS),@echo "slow tests left out; SLOW=1 runs them")

check: .venv/.installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pylint $(PACKAGES)

format: .venv/.installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf .venv build .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis

# A stamp is written only after everything before it succeeded, so an interrupted install is simply run again.
# Dependency groups came with pip 25.1; the pip inside a new environment is often older.
.venv/.pip:
	$(PYTHON) -m venv .venv
	$(PIP) install 'pip>=25.1'
	touch $@

.venv/.installed: pyproject.toml | .venv/.pip
	$(INSTALL)
	touch $@

.venv/.installed-dev: pyproject.toml | .venv/.pip
	$(INSTALL) --group dev
	touch .venv/.installed $@

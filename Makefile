# Everything here works in .venv; nothing is installed outside it.
#
#   make demo       accelerated images and how close they are to the unaccelerated ones
#   make test       the whole test suite, one process a core        make test ARGS="tests/storage -x"
#   make test-fast  the part that needs no large set of models
#   make lint       style, types, and that imports run downward only
#   make install    the package alone               make install-dev    with what test and lint need
#   make clean      removes .venv and caches; outputs/ stays
#
# PYTHON=/path/to/python3.12 chooses the interpreter (3.11 to 3.13) when .venv is made.
# The versions in constraints.txt are used. Of torch, pip takes the build that its package index offers; for the CPU
# build where that is the CUDA one, set PIP_INDEX_URL or PIP_EXTRA_INDEX_URL to PyTorch's index of CPU builds.

VENV = .venv
BIN = $(VENV)/bin
ARGS =

# The first that could work, else python3, so that the checks below can say what is missing.
PYTHON ?= $(shell for p in python3.11 python3 python3.12 python3.13; do \
	$$p -c 'import ensurepip, sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && echo $$p && exit; \
	done; echo python3)

.PHONY: demo test test-fast lint install install-dev clean

demo: install
	$(BIN)/python -m wavespeed_runner cache=fbcache $(ARGS)

# A whole file to one process, because its tests share models; one process more than cores, because some tests wait.
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $$(($$(getconf _NPROCESSORS_ONLN) + 1)) --dist loadfile --no-loadscope-reorder

test: install-dev
	$(PYTEST) $(ARGS)

# Rooms whose tests load no model, or only the smallest.
FAST = cli config media metrics planning process records report rules storage

test-fast: install-dev
	$(PYTEST) -m "not slow" $(FAST:%=tests/%) $(ARGS)

lint: install-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

install: $(VENV)/.installed

install-dev: $(VENV)/.installed-dev

# The stamps make a second call free; one that was interrupted has left none and is repeated.
$(VENV)/.created:
	@python='$(PYTHON)'; \
	fail() { echo "make: $$1" >&2; exit 1; }; \
	"$$python" -c '' 2>/dev/null || \
		fail "$$python does not run; install Python (Debian: sudo apt-get install -y python3 python3-venv) or give PYTHON=..."; \
	"$$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || \
		fail "$$python is $$("$$python" -V), and 3.11, 3.12 or 3.13 is needed; give PYTHON=/path/to/python3.11"; \
	"$$python" -c 'import ensurepip' 2>/dev/null || \
		fail "$$python cannot make virtual environments; Debian: sudo apt-get install -y python3-venv"; \
	echo "$$python -m venv $(VENV)"; \
	"$$python" -m venv --clear $(VENV)
	@touch $@

$(VENV)/.installed: $(VENV)/.created pyproject.toml constraints.txt
	@echo 'installing into $(VENV) (torch is large: some minutes)'
	$(BIN)/python -m pip install --quiet -c constraints.txt -e .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.created pyproject.toml constraints.txt
	@echo 'installing into $(VENV) (torch is large: some minutes)'
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	@touch $(VENV)/.installed $@

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Everything a newcomer needs: `make demo` and `make test`. Works with GNU make 3.81 and later, on Linux and macOS.

VENV := .venv
# Test processes; each has one thread.
WORKERS ?= 2
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
# The first Python that is new enough and can make virtual environments; `make PYTHON=/path/to/python3 demo` overrides.
PYTHON ?= $(shell for python in python3.13 python3.12 python3.11 python3.14 python3; do \
	"$$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 \
	&& { echo "$$python"; break; }; done)

.PHONY: demo test lint docs bench clean help

help:
	@echo "make demo    install, then unlearn the pocket VLM and write runs/demo/report.html"
	@echo "             (more settings: make demo ARGS='--seed 1 --out runs/demo-1')"
	@echo "make test    install with the test tools, then lint, type check and run the tests"
	@echo "make lint    the same without the tests"
	@echo "make docs    install the documentation tools, and build the site into site/"
	@echo "make bench   speed and memory against what people do without unsay (about 15 minutes on 2 cores)"
	@echo "             (another model, more rounds: make bench ARGS='--model FOLDER --device cuda --rounds 5')"
	@echo "make clean   remove $(VENV) and the caches of the tools; runs/ stays"
	@echo
	@echo "Linux without an NVIDIA GPU: the CPU build of torch is a far smaller download:"
	@echo "             PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu make demo"

demo: $(VENV)/installed
	$(BIN)/unsay demo $(ARGS)

test: lint
	OMP_NUM_THREADS=1 $(BIN)/pytest -n $(WORKERS) --dist loadfile --durations=15 $(ARGS)

lint: $(VENV)/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(VENV)/installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	@echo "Open site/index.html; with search: $(BIN)/python -m http.server -d site"

bench: $(VENV)/installed-bench
	$(BIN)/python benchmarks/run.py $(ARGS)

# The stamps are older than pyproject.toml or constraints.txt exactly when something has to be installed again.
$(VENV)/installed: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing unsay into $(VENV); the first time this takes a few minutes, most of them for torch."
	@$(PIP) install --quiet -c constraints.txt -e .
	@touch $@

$(VENV)/installed-test: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing unsay and its test tools into $(VENV); the first time this takes a few minutes, most of them for torch."
	@$(PIP) install --quiet -c constraints.txt -e '.[test]'
	@touch $@ $(VENV)/installed

$(VENV)/installed-docs: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing unsay and its documentation tools into $(VENV)."
	@$(PIP) install --quiet -c constraints.txt -e '.[docs]'
	@touch $@ $(VENV)/installed

$(VENV)/installed-bench: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing unsay and what it is compared with into $(VENV)."
	@$(PIP) install --quiet -c constraints.txt -e '.[bench]'
	@touch $@ $(VENV)/installed

$(BIN)/python:
	@if test -z "$(PYTHON)"; then \
		echo "unsay needs Python 3.11 or later with venv; none was found (Debian, Ubuntu: apt install python3-venv)." >&2; \
		exit 1; \
	fi
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "unsay needs Python 3.11 or later; $(PYTHON) is too old." >&2; exit 1; }
	@echo "Making $(VENV) with $$("$(PYTHON)" --version)."
	@"$(PYTHON)" -m venv $(VENV)

clean:
	rm -rf $(VENV) dist build site .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

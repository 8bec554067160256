# The README's two commands are `make demo` and `make test`; each sets up what it needs in .venv.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PEERS  ?= .peers
# An environment that is already active elsewhere must not leak into this one.
unexport PYTHONPATH

.PHONY: demo test soak test-fast peers bench docs lint format clean install-all fuzz audit

demo: $(VENV)/.installed
	$(BIN)/medaudit demo --out runs/demo

test: $(VENV)/.installed-test
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder tests

# Every run that a test kills is killed twenty times as often.
soak: $(VENV)/.installed-test
	MEDAUDIT_KILLS=20 $(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder -k "kill" tests

test-fast: $(VENV)/.installed-test
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not slow and not realdata" tests

# Other people's tools, each in an environment of its own; a benchmark says which it did not find.
peers: $(VENV)/.installed-test
	$(BIN)/python -m benchmarks.peers $(PEERS)

# Every reader for SECONDS each, led by coverage; the table, and exit code 1 where one crashed.
SECONDS ?= 30
fuzz: $(VENV)/.installed-test
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[fuzz]'
	SECONDS=$(SECONDS) $(BIN)/python tests/fuzz/atheris_main.py

# What is installed: whether it fits together, and under which licences it stands.
audit: $(VENV)/.installed
	$(BIN)/python -m pip check
	$(BIN)/python tests/fuzz/dependencies.py

bench: $(VENV)/.installed-test
	MEDAUDIT_PEERS=$(PEERS) $(BIN)/python -m benchmarks

docs: $(VENV)/.installed-docs
	$(BIN)/mkdocs build --strict

lint: $(VENV)/.installed-test $(VENV)/.installed-lint
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/lint-imports
	$(BIN)/mypy

format: $(VENV)/.installed-lint
	$(BIN)/ruff format src tests benchmarks
	$(BIN)/ruff check --fix src tests benchmarks

clean:
	rm -rf $(VENV) build site runs .pytest_cache .ruff_cache .mypy_cache

# What `make test`, `lint` and `docs` need, at once: pip looks at everything once instead of four times, and modules that
# nobody imports are not compiled.
install-all: $(VENV)/.created
	$(BIN)/python -m pip install --no-compile --quiet --disable-pip-version-check -c constraints.txt -e '.[perceptual,huggingface,test,lint,docs]'
	@touch $(VENV)/.installed
	@touch $(VENV)/.installed-test $(VENV)/.installed-lint $(VENV)/.installed-docs

# Debian splits `venv` off python3. As root the missing package is installed; otherwise the user is told which it is.
$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "medaudit needs Python 3.11 or newer"; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { test "$$(id -u)" = 0 && apt-get update -qq && apt-get install -y -qq python3-venv; } \
	  || { echo "python3 has no venv here; install it with: sudo apt-get install python3-venv"; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.installed: $(VENV)/.created pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[perceptual,huggingface]'
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	@touch $@

$(VENV)/.installed-lint: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[lint]'
	@touch $@

$(VENV)/.installed-docs: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	@touch $@

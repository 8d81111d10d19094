# make demo   the main job on video files, ending with its rows in SQL; output in demo/
# make test   the tests          make lint   style and types          make bench   the measurements
# make tiny   the bundled checkpoint from nothing: hours, in build/tiny; goes on where it was stopped
#
# Each makes .venv and installs what it needs, once: again only after pyproject.toml or
# constraints.txt has changed. PYTHON=... chooses another interpreter than the first that is found.

PYTHON ?= $(firstword $(foreach name,python3.11 python3.12 python3.13 python3,$(shell \
	$(name) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $(name))))
BIN := .venv/bin

# In a folder of its own no file .env says otherwise.
DEMO := cd demo && ../$(BIN)/videomind
DEMO_URL := sqlite:///videomind.db
# What is made here is made with the checkpoint in this repository, whatever the environment names.
unexport VIDEOMIND_CHECKPOINT VIDEOMIND_BASE

.PHONY: demo test servers bench lint tiny
.DELETE_ON_ERROR:

demo: .venv/installed-demo
	mkdir -p demo
	rm -f demo/videomind.db* demo/moments-*.png
	@echo
	@echo "Clips of the synthetic world, each with a question and what is true:"
	@echo
	$(DEMO) sample-clips clips
	@echo
	@echo "The questions, queued, and answered by a worker with the small model that comes with this program:"
	@echo
	$(DEMO) submit --annotations clips/truth.jsonl --database $(DEMO_URL)
	$(DEMO) worker --embedded --drain --database $(DEMO_URL)
	@echo
	@echo "What it stored, read again without asking it. What is true stands beside what it found, right or wrong:"
	@echo
	$(DEMO) run --annotations clips/truth.jsonl --database $(DEMO_URL) \
		--contact-sheet moments.png
	@echo "The moments to look at: demo/moments-1.png, -2, -3. And the rows all this became:"
	@echo
	$(DEMO) moments --database $(DEMO_URL)
	@echo
	$(DEMO) sql --database $(DEMO_URL) "SELECT id, uri, duration, width, height, codec, state FROM videos"
	@echo
	$(DEMO) sql --database $(DEMO_URL) "SELECT analysis_id, rank, start_seconds, end_seconds, \
		confidence, p_yes, p_no, verifier_score FROM moments ORDER BY analysis_id, rank"

# One process more than there are cores, since many tests wait, but at most four; each with one thread and
# servers of its own; the longest files first. They start programs that need not be compiled anew each time.
test: PROCESSES = $(shell $(BIN)/python -c 'import os; print(min(4, os.cpu_count() + 1))')
test: .venv/installed-test servers
	env -u PYTHONDONTWRITEBYTECODE OMP_NUM_THREADS=1 \
		$(BIN)/pytest -q -n $(PROCESSES) --dist loadfile --no-loadscope-reorder

# The tests start the PostgreSQL and Redis that come with them. Where the package index has none for this
# Python, root on Debian gets them here; others are told to.
servers: .venv/installed-test
	@$(BIN)/python -m tests.servers || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && \
		apt-get update -qq && \
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq postgresql redis-server; }

bench: .venv/installed-bench
	$(BIN)/python tests/benchmarks/bench_decode.py
	$(BIN)/python tests/benchmarks/bench_chain.py
	$(BIN)/python tests/benchmarks/bench_chain.py --large --repeats 1
	$(BIN)/python tests/benchmarks/bench_bundled.py
	$(BIN)/python tests/benchmarks/bench_feature_cache.py
	$(BIN)/python -m tests.benchmarks.bench_queue
	$(BIN)/python -m tests.benchmarks.bench_store --database postgresql
	$(BIN)/python -m tests.benchmarks.bench_store --database sqlite

TINY := OMP_NUM_THREADS=1 $(BIN)/python -m vm.training.tiny
TINY_TOGETHER := OMP_NUM_THREADS=1 $(BIN)/torchrun --nproc-per-node 2 -m vm.training.tiny

tiny: .venv/installed-demo
	$(TINY) tokenizer
	$(TINY_TOGETHER) vision
	$(TINY) bank
	$(TINY_TOGETHER) base
	$(TINY_TOGETHER) role planner
	$(TINY_TOGETHER) role grounder
	$(TINY) proposals
	$(TINY_TOGETHER) role verifier
	$(TINY) pack

lint: .venv/installed-lint
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

.venv/installed-demo: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/pip install -q -c constraints.txt -e .
	touch $@

.venv/installed-%: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/pip install -q -c constraints.txt -e ".[$*]"
	touch $@

.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "videomind needs Python 3.11 or newer: none was found" >&2; exit 1; }
	$(PYTHON) -m venv .venv

# Every target makes .venv where it is missing and reuses it where it is there. The machine needs python3 >= 3.11
# with venv, make and gcc; another interpreter: make test PYTHON=python3.12.

PYTHON ?= python3
INSTALLED := .venv/.installed
PEERS := .venv/.peers
MLSERVER := .venv/.peers-mlserver
KSERVE := .venv/.peers-kserve
CROSS := .venv/.cross
SOURCES := $(wildcard kanserve exporters/kanserve_exporters tests benchmarks examples hatch_build.py)
PROTOS := $(shell find protos -name '*.proto' 2>/dev/null | sort)

# The tools come from .venv, and only .venv itself from the machine's own python3.
$(INSTALLED): export PATH := $(PATH)
export PATH := $(CURDIR)/.venv/bin:$(PATH)
# The tools' caches stay in .venv, so that an empty or read-only HOME does not matter.
export XDG_CACHE_HOME := $(CURDIR)/.venv/cache
# onnxruntime would otherwise keep an identifier of the machine and report to its maker.
export ORT_DISABLE_TELEMETRY := 1

.DELETE_ON_ERROR:
.DEFAULT_GOAL := run
.PHONY: run test check protos bench bench-inference bench-train bench-formulas bench-serving clients importers soak
.PHONY: cross clean

run: $(INSTALLED)
	kanserve demo

# One thread each: two processes of as many threads as there are cores wait for one another.
# worksteal gives a process neighbouring tests, which share what a file makes once.
test: $(INSTALLED)
	OMP_NUM_THREADS=1 pytest -n 2 --dist worksteal

check: check-style check-types check-layers check-protos check-deploy

protos: $(INSTALLED)
	$(call generate-stubs,.)

# Each table prints our figures beside the peers'. A file that starts with _ is shared code, not a table.
bench: $(PEERS)
	for table in benchmarks/[!_]*.py; do OMP_NUM_THREADS=1 python "$$table" || exit 1; done

# What a prediction costs in every format, beside torch, its ONNX export, OpenVINO and other libraries.
bench-inference: $(PEERS)
	OMP_NUM_THREADS=1 python benchmarks/inference.py

# What training costs: whole fits, then one step of a gradient, beside the other libraries.
bench-train: $(PEERS)
	OMP_NUM_THREADS=1 python benchmarks/training.py
	OMP_NUM_THREADS=1 python benchmarks/training_step.py

# Which laws are found again from rows, beside other finders of formulas. More: python benchmarks/formulas.py --help
bench-formulas: $(PEERS)
	OMP_NUM_THREADS=1 python benchmarks/formulas.py

# The server beside an empty handler, MLServer and KServe. These two want packages of their own, so each has an
# environment beside ours; what cannot be installed is not compared, and the table says so.
bench-serving: $(INSTALLED) $(MLSERVER) $(KSERVE)
	OMP_NUM_THREADS=1 python benchmarks/serving.py
	OMP_NUM_THREADS=1 python benchmarks/isolation.py

# Other projects' clients, as they are, against a server process: one line for each call.
clients: $(INSTALLED) $(KSERVE)
	python -m tests.clients

# Checkpoints made anew by the libraries themselves, a line for each: what they are here, and in every format.
importers: $(PEERS)
	OMP_NUM_THREADS=1 python -m tests.importers

# What takes minutes: kills, reloads, rotations, overload and long load, each with its number. SOAK=60 for one minute.
SOAK ?= 600
soak: $(INSTALLED)
	failed=0; for one in tests/soak_*.py; do \
		echo "$$one"; SOAK_SECONDS=$(SOAK) python -m "tests.$$(basename "$$one" .py)" || failed=1; done; exit $$failed

# The C source on other processors, bit for bit, and its size on a small one. Wants qemu-user, node and gcc for
# arm-none-eabi with newlib, and says which is missing. The first run compiles a C library for each, which takes minutes.
cross: $(CROSS)
	OMP_NUM_THREADS=1 python tests/cross.py

clean:
	rm -rf .venv dist kanserve/native/*.so .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find kanserve exporters tests -name __pycache__ -prune -exec rm -rf {} +

$(INSTALLED): pyproject.toml hatch_build.py $(wildcard kanserve/native/*.[ch] kanserve/native/onnxruntime/*.[ch])
	$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("kanserve needs Python 3.11 or newer, this is " + sys.version)'
	$(PYTHON) -m venv .venv
	.venv/bin/pip install -e '.[dev]'
	touch $@

$(PEERS): $(INSTALLED)
	.venv/bin/pip install -e '.[dev,bench]'
	touch $@

# uvloop 0.21 is the newest with which MLServer starts.
$(MLSERVER): | $(INSTALLED)
	$(PYTHON) -m venv $@.new
	$@.new/bin/pip install mlserver 'uvloop==0.21' onnxruntime && mv $@.new $@ || { \
		rm -rf $@.new; echo 'MLServer cannot be installed here: it is not compared.'; }

$(KSERVE): | $(INSTALLED)
	$(PYTHON) -m venv $@.new
	$@.new/bin/pip install kserve onnxruntime && mv $@.new $@ || { \
		rm -rf $@.new; echo 'KServe cannot be installed here: it is not compared, and its client not tried.'; }

# The packages of the extra alone: with what is there already pip would build kanserve again.
$(CROSS): $(INSTALLED)
	.venv/bin/pip install $$(python -c 'import tomllib; \
		print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["cross"])')
	touch $@

.PHONY: check-style check-types check-layers check-protos check-deploy released-protos

check-style: $(INSTALLED)
	ruff check
	ruff format --check

check-types: $(INSTALLED)
	mypy $(SOURCES)

check-layers: $(INSTALLED)
	lint-imports --no-logo --cache-dir .venv/cache/import-linter

# The protos as clients in the field know them: what breaks those is refused. After a release: make released-protos.
RELEASED := protos/released.binpb
released-protos: $(INSTALLED)
	buf breaking --against $(RELEASED)
	buf build --exclude-source-info -o $(RELEASED)

# The checked-in stubs are what the protos generate: no less, no more, no older.
FRESH := .venv/stubs/fresh
CHECKED_IN := .venv/stubs/checked-in
check-protos: $(INSTALLED)
	buf lint
	buf breaking --against $(RELEASED)
	rm -rf $(FRESH) $(CHECKED_IN) && mkdir -p $(FRESH) $(CHECKED_IN)
	$(call generate-stubs,$(FRESH))
	find kanserve -name '*_pb2*.py*' -not -path '*/__pycache__/*' | tar -cf - -T - | tar -xf - -C $(CHECKED_IN)
	diff -r $(CHECKED_IN) $(FRESH) || { echo 'The stubs differ from the protos: run make protos.'; exit 1; }

check-deploy: $(INSTALLED)
	hadolint deploy/Dockerfile
	deploy/check

# protos/kanserve/v1/x.proto becomes kanserve/v1/x_pb2.py, with imports that are right.
define generate-stubs
python -m grpc_tools.protoc -Iprotos --python_out=$(1) --grpc_python_out=$(1) --mypy_out=quiet:$(1) --mypy_grpc_out=quiet:$(1) $(PROTOS)
endef

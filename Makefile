# Every target makes .venv where it is missing and reuses it where it is there. The machine needs python3 >= 3.11
# with venv, make and gcc; another interpreter: make test PYTHON=python3.12.

PYTHON ?= python3
# Packages come by uv where the machine has it, otherwise by pip; `make run UV=` takes pip.
ifeq ($(origin UV), undefined)
UV := $(shell command -v uv)
endif
# One version of each package; `make test CONSTRAINTS=` takes the newest that pyproject.toml allows.
CONSTRAINTS ?= constraints.txt
# `make run QUIET=` shows what the installer says.
QUIET ?= --quiet
DEMO := .venv/.demo
TESTED := .venv/.tested
INSTALLED := .venv/.installed
PEERS := .venv/.peers
MLSERVER := .venv/.peers-mlserver
KSERVE := .venv/.peers-kserve
TRITON := .venv/.peers-triton
SCHEMATHESIS := .venv/.peers-schemathesis
GRPC_JS := .venv/.peers-grpc-js
ENGINES := .venv/.peers-engines
ENGINES_NEED := numpy joblib safetensors scikit-learn threadpoolctl sympy onnx pyarrow 'dask[distributed]' ray
CROSS := .venv/.cross
SITE := .venv/.docs
BROWSER := .venv/.browser
SOURCES := $(wildcard .ci kanserve exporters/kanserve_exporters tests benchmarks examples docs/conf.py docs/_sphinx hatch_build.py)
PROTOS := $(shell find protos -name '*.proto' 2>/dev/null | sort)

# The tools come from .venv, and only .venv itself from the machine's own python3.
$(DEMO) $(TESTED) $(INSTALLED): export PATH := $(PATH)
export PATH := $(CURDIR)/.venv/bin:$(PATH)
# The tools' caches stay in .venv, so that an empty or read-only HOME does not matter; those of pip and uv do not, which
# would make it twice as large.
DOWNLOADS := $(shell cache="$${XDG_CACHE_HOME:-$$HOME/.cache}"; mkdir -p "$$cache" 2> /dev/null && test -w "$$cache" && \
	echo "$$cache" || echo '$(CURDIR)/.venv/cache')
export XDG_CACHE_HOME := $(CURDIR)/.venv/cache
export COVERAGE_FILE := $(CURDIR)/.venv/coverage
# uv takes the system's certificates, as pip does; the name of that setting has changed.
export UV_NATIVE_TLS := 1
export UV_SYSTEM_CERTS := 1
# What pip does not compile, Python must keep when it has: each process would compile it again.
unexport PYTHONDONTWRITEBYTECODE
# onnxruntime would otherwise keep an identifier of the machine and report to its maker.
export ORT_DISABLE_TELEMETRY := 1

.DELETE_ON_ERROR:
.DEFAULT_GOAL := run
.PHONY: run test test-fast test-slow test-extended test-exhaustive test-grpcio test-all test-processors fresh check protos bench bench-inference bench-train bench-formulas bench-serving
.PHONY: bench-installation clients engines importers soak cross clean

run: $(DEMO)
	@echo 'Running the demo, which usually takes 25 seconds.'
	kanserve demo

# One thread each: processes of as many threads as there are cores wait for one another. Three on two cores, since a test
# that waits for a server or a compiler leaves its core idle.
# worksteal gives a process neighbouring tests, which share what a file makes once.
PYTEST := OMP_NUM_THREADS=1 pytest -n 3 --dist worksteal
# What judges by a clock or by memory has the machine to itself, after the others.
TIMED := OMP_NUM_THREADS=1 pytest tests/performance

test: $(TESTED)
	@echo 'Running the tests; `make test-fast` leaves out the slow ones, `make test-all` adds the extended ones.'
	$(PYTEST) -m 'not extended and not timing'
	$(TIMED) -m 'not extended'

# Further cases of what the others test, the benchmarks' own tests, and what is published.
test-extended: $(INSTALLED)
	$(PYTEST) -m 'extended and not exhaustive and not timing'
	$(TIMED) -m 'extended'

# The server's tests by grpcio, where the native transport is there too.
test-grpcio: $(INSTALLED)
	$(PYTEST) -m 'not extended and not timing' --transport grpcio tests/unit/serve tests/unit/client

# What takes too long for each change; `make release` runs it.
test-exhaustive: $(INSTALLED)
	$(PYTEST) -m exhaustive

test-all: test test-extended test-exhaustive test-grpcio

test-fast: $(TESTED)
	$(PYTEST) -m 'not slow and not extended and not timing'

# What `make test` runs besides; TESTS='tests/unit/serve tests/unit/client' are some of them.
test-slow: $(TESTED)
	$(PYTEST) -m 'slow and not extended and not timing' $(TESTS)
	$(TIMED) -m 'not extended'

# The tests that compute, with the linear algebra of older and newer processors and on one and two threads.
# ONLY='Haswell Zen' are some of them.
test-processors: $(INSTALLED)
	python -m tests.support.processors $(if $(ONLY),--only $(ONLY))

# Whether a change leaves the results of training, the search, simplification and exports as they were at a commit.
SINCE ?= HEAD
.PHONY: same-results
same-results: $(INSTALLED)
	OMP_NUM_THREADS=1 python -m tests.support.result_digests --since $(SINCE)

# What a newcomer sees: `make run` and `make test` from a new clone of the last commit, as an ordinary user with an empty
# HOME; then in a bare Debian, which wants root and mmdebstrap. BUSY=6 runs beside six processes that compute.
BUSY ?= 0
fresh:
	$(PYTHON) .ci/fresh.py here run test --busy $(BUSY)
	$(PYTHON) .ci/fresh.py debian run test --busy $(BUSY)

check: check-style check-types check-layers check-ratchets check-protos check-deploy check-constraints check-coverage

# The newest version of every package. Once a week: CHANGELOG.md gets a line that says what changed.
.PHONY: constraints
constraints: $(INSTALLED)
	python .ci/constraints.py

# The table of functions in the files that cannot read it: torch without kanserve, and the C of the training kernels.
.PHONY: functions
functions: $(INSTALLED)
	python -m tests.support.function_tables

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

# The server beside empty handlers, Triton, MLServer and KServe. These three want packages of their own, so each has an
# environment beside ours; what cannot be installed is not compared, and the table says so. Debian's nghttp2-client has
# the load generator, h2load; libgrpc++-dev adds C++ gRPC, libnghttp2-dev our edge server.
bench-serving: $(INSTALLED) $(MLSERVER) $(KSERVE) $(TRITON)
	OMP_NUM_THREADS=1 python benchmarks/serving.py
	OMP_NUM_THREADS=1 python benchmarks/isolation.py
	OMP_NUM_THREADS=1 python benchmarks/rest.py

# What setting up takes, in new clones of the last commit: sizes and times, as docs/installation.md has them.
bench-installation: $(INSTALLED)
	python benchmarks/installation.py

# The studies of the KAN papers, as docs/paper.md has them: one table, with PICTURES=FOLDER a picture of each. KEEP=FILE
# keeps what is done, to go on from.
.PHONY: paper
paper: $(INSTALLED)
	OMP_NUM_THREADS=1 python -m examples.paper $(addprefix --pictures ,$(PICTURES)) $(addprefix --keep ,$(KEEP)) \
		$(addprefix --markdown ,$(PAGE))

# Other projects' clients, as they are, against a server process and an edge server: one line for each call.
clients: $(INSTALLED) $(KSERVE)
	failed=0; for server in clients edge_clients; do python -m "tests.peers.$$server" || failed=1; done; exit $$failed

# Other projects' conformance suites and clients: h2spec (H2SPEC names it where it is not on the PATH), schemathesis,
# grpc-js, C++ gRPC (Debian: libgrpc++-dev) and buf, and requests that two servers could read differently. A line for
# each; what is missing here is said. ONLY='h2spec smuggling' are some of them.
.PHONY: conformance
conformance: $(INSTALLED) $(SCHEMATHESIS) $(GRPC_JS)
	python -m tests.peers.conformance $(ONLY)

# Searches, cross-validation and batch inference on loky, dask and ray, two workers each: equal results, also when a
# worker is killed, and how long they take.
engines: $(INSTALLED) $(ENGINES)
	failed=0; for part in engines batch_engines; do \
		OMP_NUM_THREADS=1 PYTHONPATH=exporters $(ENGINES)/bin/python -m "tests.peers.$$part" || failed=1; done; exit $$failed

# Checkpoints made anew by the libraries themselves, a line for each: what they are here, and in every format.
importers: $(PEERS)
	OMP_NUM_THREADS=1 python -m tests.peers.importers

# What takes minutes: kills, reloads, rotations, overload and long load, each with its number. SOAK=60 for one minute.
SOAK ?= 600
soak: $(INSTALLED)
	failed=0; for file in tests/soak/*.py; do \
		echo "$$file"; SOAK_SECONDS=$(SOAK) python -m "tests.soak.$$(basename "$$file" .py)" || failed=1; done; exit $$failed

# The attacks that a server must withstand, on every port: what an honest client notices, and what memory they take. Five
# minutes. ONLY='idle pages' are some of them.
.PHONY: attacks
attacks: $(INSTALLED)
	python -m tests.soak.soak_attacks $(ONLY)

# What comes over a connection, requests, exported networks, and the kernels of training and of onnxruntime's operators,
# by libFuzzer under ASan and UBSan: wants clang, and for the operators libonnxruntime-dev.
# FUZZ=3600 runs each fuzzer for an hour.
.PHONY: fuzz
FUZZ ?= 60
fuzz: $(INSTALLED)
	FUZZ=$(FUZZ) OMP_NUM_THREADS=1 python -m tests.fuzz.run_fuzzers

# The server under ASan and UBSan, then under TSan: clients whose connections are cut and delayed at random bytes, reloads,
# new certificates. SANITIZED=60 is one minute each. Wants gcc with its sanitizers.
.PHONY: sanitized
SANITIZED ?= 600
sanitized: $(INSTALLED)
	SANITIZED=$(SANITIZED) OMP_NUM_THREADS=1 python -m tests.fuzz.run_sanitized

# The C source on other processors, bit for bit, its size on a small one, and what a row takes there in integers and in
# float. Wants qemu-user, node, gcc for arm-none-eabi with newlib and gcc for riscv64-unknown-elf, and says which is
# missing. The first run compiles a C library for each, which takes minutes.
cross: $(CROSS)
	OMP_NUM_THREADS=1 python -m tests.peers.cross
	OMP_NUM_THREADS=1 python benchmarks/edge.py

# The files for an index, in dist/: the source distribution and, built from it, wheels for Linux with the kernels and a
# pure wheel for other systems. ziglang compiles the kernels against glibc 2.17, and auditwheel checks that no library
# needs more than the tag says. The operators are built where onnxruntime's C header is found, and the server's native
# transport where Debian 13's libnghttp2-dev, libssl-dev, zlib1g-dev, libzstd-dev, libllhttp-dev and libyyjson-dev of that
# processor are. The last lines say what each wheel has; without all of the transport in each, the command fails after it
# has built them, unless PARTIAL=1 asks for such wheels. The tools have an environment of their own. The first run takes
# minutes: ziglang compiles parts of two C libraries.
RELEASE := .venv/.release
PLATFORMS := manylinux_2_17_x86_64 manylinux_2_17_aarch64
.PHONY: wheels
wheels: export KANSERVE_SERVER_LIBRARIES := $(abspath $(KANSERVE_SERVER_LIBRARIES))
wheels: $(RELEASE)
	rm -rf dist
	$(RELEASE)/bin/python -m build --no-isolation --sdist --outdir dist
	KANSERVE_NATIVE=0 $(RELEASE)/bin/python -m build --no-isolation --wheel --outdir dist dist/kanserve-*.tar.gz
	for platform in $(PLATFORMS); do \
		KANSERVE_NATIVE=1 KANSERVE_PLATFORM=$$platform $(RELEASE)/bin/python -m build --no-isolation --wheel --outdir dist \
			dist/kanserve-*.tar.gz || exit 1; \
		$(RELEASE)/bin/auditwheel show --json dist/*-$$platform.whl | grep '"overall_tag": "'$$platform'"' || { \
			$(RELEASE)/bin/auditwheel show dist/*-$$platform.whl; exit 1; }; done
	$(RELEASE)/bin/twine check --strict dist/*
	$(RELEASE)/bin/python .ci/release.py wheels $(if $(PARTIAL),partial)

# `make version VERSION=0.2.0` gives every file that version, and the changelog its section; commit that. Then `make
# release` checks, builds all that is published into dist/, tries the wheel, and writes checksums. SIGN=KEY signs them
# with your private key: of OpenSSH, of minisign, or Ed25519 as a PEM file.
.PHONY: version release
version:
	$(PYTHON) .ci/release.py version '$(VERSION)'

release: $(INSTALLED)
	python .ci/release.py check
	$(MAKE) check test-exhaustive
	$(MAKE) wheels
	$(MAKE) docs
	$(RELEASE)/bin/python .ci/release.py assemble $(SIGN)
	python .ci/release.py try

$(RELEASE): pyproject.toml
	rm -rf $@ && $(PYTHON) -m venv $@
	$@/bin/pip install -c constraints.txt $$($@/bin/python -c 'import tomllib; \
		[print(one.split(";")[0]) for one in tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["release"]]') || { \
		rm -rf $@; exit 1; }
	touch $@

# The page of `kanserve studio`, into kanserve/studio/static; wants node and npm. What is published has it built.
.PHONY: studio check-studio
studio: studio/node_modules
	cd studio && npm run --silent build
	@echo 'The page is built: kanserve studio MODEL opens it.'

check-studio: studio/node_modules
	cd studio && npm run --silent check

studio/node_modules: studio/package-lock.json
	cd studio && npm ci --no-audit --no-fund
	@touch $@

# The widget in JupyterLab, opened in the machine's Chromium. A hundred packages more, so it is not part of make test.
NOTEBOOK := .venv/.notebook
.PHONY: test-notebook
test-notebook: $(NOTEBOOK) studio
	OMP_NUM_THREADS=1 pytest tests/unit/studio/test_jupyterlab.py

$(NOTEBOOK): $(INSTALLED)
	$(install) --no-build-isolation -e '.[dev,test-s3,test-notebook]'
	touch $@

# The documentation site, into docs/_build/html. Tutorials are run again only if they or kanserve have changed.
.PHONY: docs docs-serve docs-site
docs: $(SITE) $(if $(shell command -v npm),$(BROWSER))
	python -m sphinx -W -q -d .venv/cache/doctrees docs docs/_build/html
	@echo 'The site is built: `make docs-serve` shows it, or open docs/_build/html/index.html.'

docs-serve: docs
	python -m http.server --bind 127.0.0.1 --directory docs/_build/html 8000

# The documentation of several versions side by side: make docs-site SITE_FOLDER=FOLDER DOCS='kanserve-0.1.0-docs.zip ..'.
docs-site:
	$(PYTHON) .ci/docs_site.py '$(SITE_FOLDER)' $(DOCS)

# The runtime of the tutorial on browsers, which the site carries; without npm its page says that it is not there.
$(BROWSER): docs/_browser/package-lock.json
	rm -rf $@ && mkdir -p $@ && cp docs/_browser/package*.json $@
	cd $@ && npm ci --ignore-scripts --no-audit --no-fund || { rm -rf $(CURDIR)/$@; exit 1; }
	@touch $@

$(SITE): $(INSTALLED)
	$(install) --no-build-isolation -e '.[dev,test-s3,docs]'
	touch $@

clean:
	rm -rf .venv dist docs/_build studio/node_modules kanserve/studio/static kanserve/native/*.so .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find kanserve exporters tests -name __pycache__ -prune -exec rm -rf {} +

# What an editable install is made of: when one of these changes, it is made again.
BUILT_FROM := pyproject.toml hatch_build.py $(wildcard constraints.txt kanserve/native/build.py \
	kanserve/native/*.c kanserve/native/*/*.[ch])

# It is also made again when libraries of the native transport have come or gone since: a header's date does not tell,
# since it is the package's.
LIBRARIES := $(wildcard $(addprefix /usr/include/,nghttp2/nghttp2.h openssl/ssl.h zlib.h llhttp.h yyjson.h))
COMPILED_WITH := .venv/.libraries
ifneq ($(strip $(LIBRARIES)),$(strip $(shell cat $(COMPILED_WITH) 2> /dev/null)))
$(DEMO) $(TESTED) $(INSTALLED): changed-libraries
.PHONY: changed-libraries
changed-libraries:
endif

$(DEMO): $(BUILT_FROM)
	@echo 'Installing what the demo needs into .venv: 377 MB, which usually takes 22 seconds.'
	$(make-venv)
	@$(install) $(QUIET) --no-build-isolation -e '.[demo]'
	$(say-transport)
	@touch $@

$(TESTED): $(BUILT_FROM)
	@echo 'Installing what the tests need into .venv, which usually takes 24 seconds beside a torch that is there.'
	$(make-venv)
	$(install) --no-build-isolation -e '.[test]'
	$(say-transport)
	@touch $(DEMO) $@

$(INSTALLED): $(BUILT_FROM)
	@echo 'Installing everything into .venv: what the tests need, and what checks, measures and writes the rest.'
	$(make-venv)
	$(install) --no-build-isolation -e '.[dev,test-s3]'
	$(say-transport)
	@touch $(DEMO) $(TESTED) $@

$(PEERS): $(INSTALLED)
	$(install) --no-build-isolation -e '.[dev,test-s3,bench]'
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

$(SCHEMATHESIS): | $(INSTALLED)
	$(PYTHON) -m venv $@.new
	$@.new/bin/pip install schemathesis && mv $@.new $@ || { \
		rm -rf $@.new; echo 'Schemathesis cannot be installed here: it is not tried.'; }

$(GRPC_JS): | $(INSTALLED)
	mkdir -p $@.new && cd $@.new && npm install --no-audit --no-fund --silent @grpc/grpc-js && \
		mv $(CURDIR)/$@.new $(CURDIR)/$@ || { \
		rm -rf $(CURDIR)/$@.new; echo 'grpc-js cannot be installed here: it is not tried.'; }

$(ENGINES): | $(INSTALLED)
	$(PYTHON) -m venv $@.new
	$@.new/bin/pip install $(addprefix -c ,$(CONSTRAINTS)) $(ENGINES_NEED) && \
		mv $@.new $@ || { rm -rf $@.new; echo 'The engines cannot be installed here: they are not tried.'; }

# PyTriton's wheel has the server itself, and runs without the packages that PyTriton wants.
$(TRITON): | $(INSTALLED)
	$(PYTHON) -m venv $@.new
	$@.new/bin/pip install --no-deps nvidia-pytriton && mv $@.new $@ || { \
		rm -rf $@.new; echo 'Triton cannot be installed here: it is not compared.'; }

# The packages of the extra alone: with what is there already pip would build kanserve again.
$(CROSS): $(INSTALLED)
	$(install) $$(python -c 'import tomllib; \
		print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["cross"])')
	touch $@

# Installers hide what a build says, so this line says by which transport the server will serve.
define say-transport
@echo '$(LIBRARIES)' > $(COMPILED_WITH)
@.venv/bin/kanserve --version | tail -n 1
endef

# .venv with what builds kanserve, so that no build fetches a backend of its own, and with a new pip: an older Python's
# takes twice as long.
define make-venv
@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("kanserve needs Python 3.11 or newer, this is " + sys.version)'
@$(new-venv)
@$(install) --quiet --upgrade pip hatchling
endef

# pip compiles nothing: Python compiles what is imported, which is a small part.
ifneq ($(UV),)
new-venv = $(UV) venv --quiet --allow-existing --no-python-downloads --python "$$($(PYTHON) -c 'import sys; print(sys.executable)')" .venv
install = XDG_CACHE_HOME=$(DOWNLOADS) \
	$(UV) pip install --python .venv/bin/python $(addprefix --constraints ,$(CONSTRAINTS))
else
new-venv = $(PYTHON) -m venv .venv
install = XDG_CACHE_HOME=$(DOWNLOADS) .venv/bin/python -m pip install --no-compile $(addprefix --constraint ,$(CONSTRAINTS))
endif

.PHONY: check-style check-types check-layers check-ratchets check-protos check-deploy check-constraints check-coverage released released-protos

check-style: $(INSTALLED)
	ruff check
	ruff format --check

check-types: $(INSTALLED)
	mypy $(SOURCES)

check-layers: $(INSTALLED)
	lint-imports --no-logo --cache-dir .venv/cache/import-linter

# The lines, rules and branches of each package; tests/packaging/test_ratchets.py holds what may only fall.
check-ratchets: $(INSTALLED)
	python -m tests.support.ratchets
	pytest -q tests/packaging/test_ratchets.py tests/packaging/test_layout.py tests/packaging/test_comparisons.py \
		tests/packaging/test_error_texts.py

# What callers in the field know, after a release: the protos, and the public names and options. What breaks these fails.
released: released-protos
	python -m tests.support.public_api

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
	python -m tests.support.manifests

check-constraints: $(INSTALLED)
	python .ci/constraints.py --check

# Branches included. Of the fast tests: to trace the slow ones as well takes minutes more and finds little. Where the
# native transport was not built, its callers cannot be covered, and the figure is printed without a floor.
check-coverage: $(INSTALLED)
	$(PYTEST) -q -m 'not slow and not extended and not timing' --cov --cov-report= --cov-fail-under=0
	coverage report --format=total $$(python -c 'from kanserve.serve.transport.native_library import library; \
		print("" if library() else "--fail-under=0")')

# protos/kanserve/v1/x.proto becomes kanserve/v1/x_pb2.py, with imports that are right.
define generate-stubs
python -m grpc_tools.protoc -Iprotos --python_out=$(1) --grpc_python_out=$(1) --mypy_out=quiet:$(1) --mypy_grpc_out=quiet:$(1) $(PROTOS)
endef

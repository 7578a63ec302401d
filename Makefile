# The front door. `make help` lists what there is.
#
# Everything works from a fresh clone in a root shell of Debian with the Rust toolchain: what is missing is installed or
# said. With another shell, have a container engine ready.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

IMAGE ?= aigo-agent-runner:latest
PREFIX ?= /usr/local
FUZZ_SECONDS ?= 60
SOAK_SESSIONS ?= 2000
TARGET := $(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p')
TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)
TARGET_ENV := CARGO_TARGET_$(shell echo $(TARGET) | tr 'a-z-' 'A-Z_')_RUSTFLAGS
RUNNER := $(TARGET_DIR)/$(TARGET)/runner/aigo-runner
# The same settings for every build of one `make`, so that nothing is compiled twice.
export CARGO_INCREMENTAL ?= 0
export CARGO_TERM_COLOR ?= auto

.PHONY: help
help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

.PHONY: demo
demo: image ## Set everything up, and watch an agent mend a failing test (offline, from a script)
	@AIGO=$(TARGET_DIR)/debug/aigo tests/demo/demo.sh

.PHONY: test
test: prerequisites image ## Set everything up, and run every check and test
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	@tests/run.sh
	@AIGO_BIN=$(TARGET_DIR)/debug/aigo tests/api.sh
	@AIGO_BIN=$(TARGET_DIR)/debug/aigo AIGO_TEST_IMAGE=$(IMAGE) tests/clients.sh
	@tests/licenses.sh

.PHONY: test-vm
test-vm: $(TARGET_DIR)/debug/aigo runner ## Run the installed service under a real systemd, in a machine of its own (minutes)
	@AIGO_BIN=$(TARGET_DIR)/debug/aigo AIGO_RUNNER=$(RUNNER) AIGO_VM=$(TARGET_DIR)/vm tests/vm/run.sh

.PHONY: image
image: engine $(TARGET_DIR)/debug/aigo runner ## Build the agent image, with an engine that is installed if there is none
	$(TARGET_DIR)/debug/aigo image build --tag $(IMAGE) --runner $(RUNNER)

.PHONY: bench
bench: image ## Measure, and print the table of docs/benchmarks.md
	cargo build --release --locked -p supervisor
	@AIGO=$(TARGET_DIR)/release/aigo RUNNER=$(RUNNER) IMAGE=$(IMAGE) tests/bench/bench.sh

.PHONY: soak
soak: image ## Run SOAK_SESSIONS (2000) short sessions in one service: nothing may leak, or slow down
	AIGO_SOAK_SESSIONS=$(SOAK_SESSIONS) cargo test --locked -p tests --test service -- --nocapture soak::

.PHONY: fuzz
fuzz: ## Fuzz every parser of bytes from containers, FUZZ_SECONDS each
	ipc-protocol/fuzz/run.sh $(FUZZ_SECONDS)

.PHONY: install
install: runner ## Install aigo and the runner for its images under PREFIX (/usr/local)
	cargo build --release --locked -p supervisor
	install -D -m 0755 $(TARGET_DIR)/release/aigo $(DESTDIR)$(PREFIX)/bin/aigo
	install -D -m 0755 $(RUNNER) $(DESTDIR)$(PREFIX)/libexec/aigo/aigo-runner

.PHONY: engine
engine: prerequisites
	@image/setup/engine.sh

.PHONY: prerequisites
prerequisites:
	@tests/prerequisites.sh

# Static, so that it runs in any image. The flags are given for the target only: build scripts are not static.
.PHONY: runner
runner: prerequisites
	$(TARGET_ENV)='-C target-feature=+crt-static' cargo build --locked --profile runner --target $(TARGET) -p runner

.PHONY: $(TARGET_DIR)/debug/aigo
$(TARGET_DIR)/debug/aigo: prerequisites
	cargo build --locked -p supervisor

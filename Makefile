# `make help` lists what there is. Everything is built under build/ and .venv/, and nothing is built twice.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV := .venv/bin
BUNDLE := build/runtime_bundle/linux-x86_64
AGENT_TARGET := x86_64-unknown-linux-gnu
AGENT := build/cargo/$(AGENT_TARGET)/release/pyro-agent
export CARGO_TARGET_DIR := $(CURDIR)/build/cargo

.PHONY: help
help: ## This list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

.PHONY: run
run: runtime ## Set up, build, and run `git --version` in a throwaway microVM
	@$(VENV)/pyro run debian:12 -- git --version

.PHONY: setup
setup: ## Install what is missing: Debian packages, and Python packages into .venv
	@scripts/setup

.PHONY: agent
agent: setup ## Build the guest agent, one static binary
	@cd guest-agent && RUSTFLAGS="-C target-feature=+crt-static" cargo build -q --locked --release --target $(AGENT_TARGET)

.PHONY: runtime
runtime: agent ## Assemble the runtime bundle: kernel, modules, initramfs, Firecracker, jailer
	@$(VENV)/python -m pyro_mcp.runtime.build --agent $(AGENT) --output $(BUNDLE) \
	    $(if $(REFRESH),--refresh) $(if $(FIRECRACKER),--firecracker $(FIRECRACKER)) $(if $(JAILER),--jailer $(JAILER))

.PHONY: test-inits
test-inits: setup ## Build the inits of the bare and the hostile guests that tests and benchmarks boot
	@cd guest-agent/test-inits && RUSTFLAGS="-C target-feature=+crt-static" \
	    cargo build -q --locked --release --target $(AGENT_TARGET)

.PHONY: check
check: runtime test-inits ## Lint, types and every test, real guests included
	@scripts/setup tests
	@scripts/check

.PHONY: check-kvm
check-kvm: runtime test-inits ## The tests that need a host with KVM, in one that is made for them (emulated)
	@scripts/check-kvm

.PHONY: lint
lint: setup ## Formatting, lint, types and import layers only
	@scripts/check lint

.PHONY: test-fast
test-fast: setup ## The tests that need no guest
	@$(VENV)/pytest -q -n 2 tests/unit

.PHONY: bench
bench: runtime test-inits ## Benchmarks: ratios measured side by side in one run
	@$(VENV)/python -m tests.bench

.PHONY: bench-kvm
bench-kvm: runtime test-inits ## The same for Firecracker, on an emulated host with KVM
	@scripts/check-kvm -q -s tests/kvmhost/bench_firecracker.py

.PHONY: dist
dist: runtime ## Build the wheel, with the runtime bundle inside
	@scripts/build-wheel

.PHONY: dist-check
dist-check: dist ## Install that wheel into an empty virtual environment and run a guest from it
	@scripts/dist-check

.PHONY: lock
lock: setup ## Renew the hashed requirement lock
	@$(VENV)/pip-compile --quiet --upgrade --generate-hashes --allow-unsafe --strip-extras --no-annotate --no-header \
	    --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-emit-options -o requirements/dev.txt requirements/dev.in

.PHONY: clean
clean: ## Remove what was built (not the installed environments)
	@rm -rf build dist

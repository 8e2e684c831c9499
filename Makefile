# `make` or `make help` lists the commands. Needs Rust, a C compiler and make; the tests need Go as well. The curl lines
# that `make run` prints need curl; without curl their test is skipped with a message (in CI it fails).

CARGO ?= cargo
# The folder that `make run` serves, and its arguments: `make run EXAMPLE=examples/versions ARGS="--listen 127.0.0.1:9000"`.
EXAMPLE ?= examples/quickstart
ARGS ?=
TARGET := $(or $(CARGO_TARGET_DIR),target)/debug

.DEFAULT_GOAL := help
.PHONY: help run test test-peers check generate lint fuzz microbench bench bench-operator test-cluster test-overload test-balancers

help: ## Show this list.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# Commands build the whole workspace and name the program, so that all of them share the compiled dependencies:
# docs/decisions/0001-one-build.md
run: ## Build sluice and serve the quickstart, without a cluster.
	@tests/prerequisites rust
	$(CARGO) build --locked --workspace --bin sluice
	@exec $(TARGET)/sluice dev $(EXAMPLE) $(ARGS)

test: ## Run all tests that need no root. Builds a Kubernetes API server once, with Go.
	@CARGO="$(CARGO)" tests/run

test-peers: ## Programs of others against the proxy: h2spec, oidc-provider, moto. Installs them below target/, with Go, npm and pip.
	@CARGO="$(CARGO)" tests/peers/run

check: ## Formatting, clippy, generated files, layers, dependency policy, documentation, text.
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	$(CARGO) build --locked --quiet --workspace --bin crdgen
	$(TARGET)/crdgen --check crds/manifests charts/sluice-crds/templates
	tests/layers
	tests/text
	@! ls docs/decisions | grep -o '^[0-9]*' | sort | uniq -d | grep . || { echo "docs/decisions: two records have this number" >&2; exit 1; }
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --no-deps --quiet
	@if $(CARGO) deny --version >/dev/null 2>&1; then $(CARGO) deny --locked check --hide-inclusion-graph bans licenses sources; \
	elif [ -n "$$CI" ]; then echo "cargo-deny is not installed" >&2; exit 1; \
	else echo "left out: cargo-deny is not installed (cargo install cargo-deny)" >&2; fi
	@echo "formatting, clippy, generated files, layers, dependencies and documentation: all passed"

generate: ## Generate the custom resource definitions in crds/manifests and in the chart.
	$(CARGO) build --locked --quiet --workspace --bin crdgen
	$(TARGET)/crdgen --out crds/manifests charts/sluice-crds/templates

lint: ## Check the manifests of every example.
	$(CARGO) build --locked --workspace --bin sluice
	@for folder in examples/*/; do echo "== $$folder"; $(TARGET)/sluice lint "$$folder" || exit 1; done

fuzz: ## Search for failing inputs with libFuzzer, a minute for each target. Needs nightly Rust.
	proxy/fuzz/run

microbench: ## Measure single steps of a request, and a change in the operator.
	$(CARGO) bench --locked --profile quick -p sluice-microbench --bench micro

bench-operator: ## Measure the operator's CPU time for a change, behind a real API server, with 10 to 10,000 routes.
	$(CARGO) build --locked --profile quick --workspace --bin sluice-operator --bin sluice-proxy
	SLUICE_PROGRAMS="$(abspath $(TARGET)/../quick)" $(CARGO) test --locked --workspace --test system -- --ignored --nocapture operator_cpu

bench: ## Measure the proxy beside nginx and HAProxy. Builds it for release; takes an idle machine.
	$(CARGO) build --locked --release --workspace --bin sluice-proxy
	tests/bench/run

test-overload: ## Run the proxy with 256 MiB of memory under clients that take more. Needs root, nginx and Python.
	$(CARGO) build --locked --profile $(or $(PROFILE),quick) --workspace --bin sluice-proxy
	tests/cluster/overload --profile $(or $(PROFILE),quick)

test-balancers: ## Run the proxy behind a real HAProxy and nginx. Needs root, both of them, curl and Python.
	$(CARGO) build --locked --profile $(or $(PROFILE),quick) --workspace --bin sluice-proxy
	tests/cluster/balancers --profile $(or $(PROFILE),quick)

test-cluster: ## Install the charts in a real single-node cluster and use them. Needs root.
	tests/cluster/run

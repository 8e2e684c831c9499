# `make` or `make help` lists what there is. Needs Rust, a C compiler and make; the tests need Go as well. The curl lines
# that `make run` prints want curl, and their own test is left out, and says so, where it is missing (not in CI).

CARGO ?= cargo
# What `make run` serves, and how: `make run EXAMPLE=examples/versions ARGS="--listen 127.0.0.1:9000"`.
EXAMPLE ?= examples/quickstart
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help run test check generate lint bench test-cluster

help: ## Show this list.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: ## Build sluice and serve the quickstart, without a cluster.
	$(CARGO) build --locked -p sluice-cli
	@exec target/debug/sluice dev $(EXAMPLE) $(ARGS)

test: ## Run all tests that need no root. Builds a Kubernetes API server once, with Go.
	$(CARGO) build --locked --workspace --bins
	$(CARGO) test --locked --workspace

check: ## Formatting, clippy, generated files, layers, dependency policy, documentation.
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	$(CARGO) run --locked --quiet -p sluice-crds --bin crdgen -- --check crds/manifests charts/sluice-crds/templates
	tests/layers
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --no-deps --quiet
	@if $(CARGO) deny --version >/dev/null 2>&1; then $(CARGO) deny --locked check --hide-inclusion-graph bans licenses sources; \
	elif [ -n "$$CI" ]; then echo "cargo-deny is not installed" >&2; exit 1; \
	else echo "left out: cargo-deny is not installed (cargo install cargo-deny)" >&2; fi

generate: ## Write the generated files anew: the resource definitions in crds/manifests.
	$(CARGO) run --locked --quiet -p sluice-crds --bin crdgen -- --out crds/manifests charts/sluice-crds/templates

lint: ## Check the manifests of every example.
	$(CARGO) build --locked -p sluice-cli
	@for folder in examples/*/; do echo "== $$folder"; target/debug/sluice lint "$$folder" || exit 1; done

bench: ## Measure the proxy beside nginx and HAProxy. Takes a release build and an idle machine.
	tests/bench/run

test-cluster: ## Install the charts in a real single-node cluster and use them. Needs root.
	tests/cluster/run

# Everything a developer or a CI job runs. `make` alone lists the targets.

CARGO ?= cargo
# Most tests wait for servers: more at a time than there are cores.
export RUST_TEST_THREADS ?= 4

.DEFAULT_GOAL := help
.PHONY: help build test test-long bench demo clean compiler lints

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: compiler ## build target/release/keyhaul
	$(CARGO) build --release --locked

test: compiler lints ## format, lints and tests, against Redis 7.0 and Valkey 8.0
	scripts/servers default
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	scripts/test

test-long: compiler ## the tests at full length, against every server version that can be had
	scripts/servers all
	KEYHAUL_TEST_LONG=1 scripts/test --release

bench: build ## measure keyhaul against real servers
	scripts/servers default
	scripts/bench

demo: build ## replicate a million keys from Redis 7.0 to Valkey 8.0 and verify them
	scripts/demo

clean: ## remove what was built; the servers stay in their cache (scripts/servers path)
	$(CARGO) clean

# Rust links with the C compiler, and two dependencies compile C.
compiler:
	@command -v $(CARGO) >/dev/null || \
		{ echo 'make: cargo is missing; install Rust (rustup, stable toolchain)' >&2; exit 1; }
	@command -v cc >/dev/null || \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
			echo 'make: no C compiler, installing gcc and libc6-dev' >&2; \
			apt-get -qq update && apt-get -qq install -y --no-install-recommends gcc libc6-dev; \
		else \
			echo 'make: no C compiler (cc); as root: apt-get install gcc libc6-dev' >&2; exit 1; \
		fi

lints:
	@$(CARGO) fmt --version >/dev/null 2>&1 || rustup component add rustfmt || \
		{ echo 'make: cargo fmt is missing; run: rustup component add rustfmt' >&2; exit 1; }
	@$(CARGO) clippy --version >/dev/null 2>&1 || rustup component add clippy || \
		{ echo 'make: cargo clippy is missing; run: rustup component add clippy' >&2; exit 1; }

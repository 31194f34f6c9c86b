# The two commands a newcomer needs are `make run` and `make test`.

CARGO ?= cargo
# Debian packages that the tests use when they may install them: real programs
# to scrape, the reverse proxy that stands in front of Parca in the charm, network
# namespaces, and what closes their ports.
TEST_PACKAGES = prometheus etcd-server nginx iproute2 nftables

.PHONY: run test test-packages lint bench fuzz reference regenerate

# Builds and starts the relay without a configuration: it profiles itself.
run:
	$(CARGO) run --release -- quickstart

# Installs what tests need, when it may, and runs them all.
test: test-packages
	@CARGO='$(CARGO)' tests/run

# A host without apt or without the right to install runs the tests all the
# same: those that miss a program are counted as skipped.
test-packages:
	@tests/packages $(TEST_PACKAGES)
	@tests/peers/install

lint:
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets -- -D warnings

# The pure parts, then whole processes under load.
bench:
	$(CARGO) bench --bench pprof
	$(CARGO) bench --bench convert
	$(CARGO) bench --bench load
	$(CARGO) bench --bench forward
	$(CARGO) bench --bench queue
	$(CARGO) bench --bench agents

# Each fuzz target for FUZZ_SECONDS, from its committed corpus and what earlier
# runs found. Needs `cargo install cargo-fuzz` and a nightly toolchain.
FUZZ_SECONDS ?= 60
FUZZ_TARGETS = otlp_proto otlp_json pprof guard convert arrow queue parca_grpc otlp_grpc

fuzz:
	@for target in $(FUZZ_TARGETS); do \
	    mkdir -p fuzz/target/corpus/$$target; \
	    case $$target in arrow) len=16384;; *) len=4096;; esac; \
	    $(CARGO) +nightly fuzz run --sanitizer none $$target \
	        fuzz/target/corpus/$$target fuzz/corpus/$$target -- \
	        -max_total_time=$(FUZZ_SECONDS) -max_len=$$len -rss_limit_mb=1024 -timeout=10 \
	        || exit 1; \
	done

# docs/reference.md from the settings types and their doc comments.
reference:
	$(CARGO) run --quiet -- schema --format markdown > docs/reference.md

# src/gen and tests/gen from proto/.
regenerate:
	REGENERATE=1 $(CARGO) test --test codegen

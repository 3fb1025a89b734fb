# What one does with Burble. `make help` lists it.
.POSIX:
.PHONY: help run test reliability bench instructions check contracts schemathesis conformance dashboards packaging pictures fuzz dist

help: ## Show this list
	@sed -n 's/^\([a-z]*\):.*## /  make \1	/p' Makefile

run: ## Install what is missing, build Burble and start it (ARGS="…" goes to it)
	@scripts/need.sh rust compiler redis
	cargo run --profile quick --locked -- $(ARGS)

test: ## Install what the tests need and run them
	@scripts/need.sh rust compiler redis postgres python nginx haproxy caddy traefik faketime prometheus
	PATH="$$PATH:/usr/sbin:$$(scripts/postgres-bin.sh)" cargo test --locked --workspace $(ARGS)

reliability: ## Break everything under load, and write docs/reliability.md (ARGS="--fault kill-node" for a part, unwritten)
	@scripts/need.sh rust compiler redis postgres haproxy faketime
	@set -- $(ARGS); [ $$# -gt 0 ] || set -- --report docs/reliability.md; \
	PATH="$$PATH:/usr/sbin:$$(scripts/postgres-bin.sh)" cargo test --release --locked --test reliability -- --full "$$@"

bench: ## Measure everything beside a bare server, and write docs/performance.md (ARGS="--quick --only fanout" for a part, unwritten)
	@scripts/need.sh rust compiler redis postgres
	cargo build --release --locked --features jemalloc --bin burble --bin burble-bench
	@set -- $(ARGS); [ $$# -gt 0 ] || set -- --report docs/performance.md; target/release/burble-bench suite "$$@"

instructions: ## Count the instructions of the hot paths, and compare with benches/instructions.txt (ARGS=--write to renew it)
	@scripts/need.sh rust compiler valgrind
	cargo bench --locked --bench instructions -- $(ARGS)

check: ## Formatting, lints and documentation, without a warning
	@scripts/need.sh rust compiler
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS=-Dwarnings cargo doc --locked --no-deps --workspace

contracts: ## Make docs/openapi.json and docs/asyncapi.json anew from the code
	@scripts/need.sh rust compiler
	UPDATE_EXPECT=1 cargo test --locked --lib the_document_of

schemathesis: ## Look for requests that a node answers otherwise than docs/openapi.json says (ARGS="--seed 7")
	@scripts/need.sh rust compiler redis python
	@scripts/schemathesis.sh $(ARGS)

conformance: ## Judge the WebSocket by the Autobahn cases, also through proxies (ARGS="direct nginx" for some paths)
	@scripts/need.sh rust compiler redis python nginx haproxy caddy traefik
	@scripts/conformance.sh $(ARGS)

dashboards: ## Check that the dashboards are those of scripts/dashboards.py, and by Grafana's own model of them
	@scripts/need.sh python
	@scripts/dashboards.sh

packaging: ## Check the systemd units, the Dockerfile and the compose file
	@scripts/need.sh python prometheus systemd
	@scripts/packaging.sh

pictures: ## Draw docs/images anew, from two nodes under load (ARGS="latency" for one of them); takes six minutes
	@scripts/need.sh rust compiler redis postgres prometheus python
	@scripts/pictures.sh $(ARGS)

fuzz: ## Fuzz the decoder of frames for a minute (ARGS=600 for ten)
	@scripts/need.sh rust compiler
	@scripts/fuzz.sh $(ARGS)

dist: ## Build the fastest binary and pack it with all that is installed beside it
	@scripts/need.sh rust compiler
	@scripts/dist.sh

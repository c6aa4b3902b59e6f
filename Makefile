# Two commands do everything: make demo, make test. See make help.

GO ?= go
GO_NEEDED = 1.25
PACKAGES = ./...
FUZZTIME ?= 10s
# The testees that are tested together: without a C compiler Go's alone.
MIXED = $(if $(shell command -v cc),go$(comma)c,go$(comma)go)
comma := ,

.DEFAULT_GOAL := help

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: go-version
go-version:
	@command -v $(GO) >/dev/null || { echo "Go $(GO_NEEDED) or newer is needed: see https://go.dev/doc/install, or: make GO=/path/to/go" >&2; exit 1; }
	@v=$$($(GO) env GOVERSION); v=$${v#go}; \
	printf '%s\n%s\n' "$(GO_NEEDED)" "$$v" | sort -V -C || { \
	echo "Go $(GO_NEEDED) or newer is needed, this is $$v: see https://go.dev/doc/install, or: make GO=/path/to/newer/go" >&2; exit 1; }

.PHONY: build
build: go-version ## build bin/flagstone
	CGO_ENABLED=0 $(GO) build -o bin/flagstone ./cmd/flagstone

.PHONY: demo
demo: build ## four processes do real work through one cache, and one is killed
	bin/flagstone demo

.PHONY: test
test: go-version ## every test, the race run, 30 s of torture in Go and mixed with C, the C client, conformance, fuzzing, the models
	$(GO) vet $(PACKAGES)
	$(GO) test $(PACKAGES)
	$(GO) test -race -short $(PACKAGES)
	$(GO) test -tags steps -v ./internal/crash
	$(GO) run ./cmd/flagstone torture --seconds 30
	@if command -v cc >/dev/null; then $(MAKE) -C clients/c -j2 test FUZZ_SECONDS=5; else echo "the C client is not tested: it needs a C compiler"; fi
	$(GO) run ./conformance --mix $(MIXED) --suite vectors,peer,peers
	$(GO) run ./conformance --mix $(MIXED) --suite fuzz --seconds 5 --seed 1 # what is the same each time; make conformance goes further
	$(GO) run ./conformance --mix $(MIXED) --suite torture --seconds 30
	cd bench && $(GO) test ./...
	$(MAKE) fuzz FUZZTIME=3s
	@if command -v spin >/dev/null && command -v cc >/dev/null; then $(MAKE) models; \
	else echo "the models are not checked: they need spin and a C compiler (Debian: apt install spin gcc)"; fi

.PHONY: test-all
test-all: go-version ## everything longer: long variants, repeated, and 2 minutes of each fuzz target
	FLAGSTONE_LONG=1 $(GO) test -timeout 60m -count 2 $(PACKAGES)
	FLAGSTONE_LONG=1 $(GO) test -timeout 60m -race $(PACKAGES)
	$(GO) run ./conformance --mix $(MIXED) --suite fuzz,torture --seconds 600
	$(MAKE) fuzz FUZZTIME=2m
	$(MAKE) models

.PHONY: crash
crash: go-version ## kill a process at every step, and those who recover from it; some 20 minutes; writes docs/crash-matrix.md
	FLAGSTONE_LONG=1 FLAGSTONE_CRASH_TABLE=$(CURDIR)/docs/crash-matrix.md $(GO) test -tags steps -count 1 -timeout 3h -v ./internal/crash

.PHONY: conformance
conformance: go-version ## Go with Go, C with C, and both mixed: all suites; writes docs/conformance.md
	$(GO) run ./conformance --report docs/conformance.md $(CONFORMANCEFLAGS)

.PHONY: fuzz
fuzz: go-version ## run each fuzz target for FUZZTIME (10s)
	@set -e; for dir in $$(grep -rl --include='*_test.go' '^func Fuzz' . | xargs -n1 dirname | sort -u); do \
		for target in $$(grep -ho '^func Fuzz[A-Za-z0-9_]*' $$dir/*_test.go | cut -c6-); do \
			echo "fuzz $$dir $$target"; \
			$(GO) test $$dir -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 1s </dev/null; \
		done; done

.PHONY: models
models: ## check the Promela models, and that their broken variants are rejected
	spec/model/run.sh

.PHONY: generate
generate: go-version ## make internal/layout and the tables of spec/PROTOCOL.md from spec/layout.json
	$(GO) generate ./...

.PHONY: vectors
vectors: go-version ## make spec/vectors anew, from what the Go testee answers
	$(GO) build -o bin/testee-go ./conformance/testee
	$(GO) run ./conformance/internal/vectors/gen bin/testee-go spec/vectors

.PHONY: check
check: go-version ## generate, format, vet, lint, cross-build; fail on any difference
	.ci/check "$(GO)"

.PHONY: bench
bench: go-version ## side by side with the rivals; takes some minutes on a quiet machine
	cd bench && $(GO) run . $(BENCHFLAGS)

.PHONY: clean
clean: ## remove what was built
	rm -rf bin

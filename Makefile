# Everything here needs Go; `race` needs gcc too, `e2e` Debian and the right to
# install packages.

GOTESTFLAGS ?=
FUZZTIME    ?= 10s
BENCHTIME   ?= 1s
PKG         ?= ./...

.PHONY: all build test race lint fuzz e2e bench bench-peers bench-growth vuln generate ci

all: build lint test

# The binary: static, one file.
build:
	CGO_ENABLED=0 go build -trimpath -o bin/rookery ./cmd/rookery

test:
	CGO_ENABLED=0 go test $(GOTESTFLAGS) $(PKG)

# The detector sees every line run with fewer cuts, seeds and sizes than test does.
race:
	CGO_ENABLED=1 go test -race -short -timeout 30m $(GOTESTFLAGS) $(PKG)

# What a reviewer need not look for. internal/lint, among the tests, has the
# rules of this house.
lint:
	@files=$$($$(go env GOROOT)/bin/gofmt -l .); \
	if [ -n "$$files" ]; then echo "gofmt wants to change: $$files"; exit 1; fi
	CGO_ENABLED=0 go vet $(PKG)
	CGO_ENABLED=0 go vet -tags e2e ./e2e
	CGO_ENABLED=0 go tool staticcheck $(PKG)
	CGO_ENABLED=0 go tool staticcheck -tags e2e ./e2e

# Each fuzz target for a short while: make fuzz FUZZTIME=5m PKG=./imapwire
fuzz:
	.ci/fuzz $(PKG) $(FUZZTIME)

# Real mail programs against the real server; see e2e/doc.go.
e2e:
	e2e/install.sh
	CGO_ENABLED=0 go test -tags e2e -count 1 $(GOTESTFLAGS) ./e2e

bench:
	CGO_ENABLED=0 go test -run '^$$' -bench . -benchmem -benchtime $(BENCHTIME) $(PKG)

# Debian only, as root: compares with Dovecot and Cyrus, rewrites docs/benchmarks.md;
# about half an hour.
bench-peers:
	bench/peers

# How cost grows with messages, connections and accounts: about eight minutes on four
# processors; rewrites docs/growth-*.svg and their section in docs/benchmarks.md.
bench-growth:
	bench/growth

vuln:
	CGO_ENABLED=0 go tool govulncheck $(PKG)

generate:
	go generate ./...

ci:
	.ci/run

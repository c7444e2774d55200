# muster. Two commands are enough: make run, make test.

export CGO_CFLAGS ?= -Wno-deprecated-declarations
BUILD   := $(shell git describe --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X main.build=$(BUILD)
STATIC  := webapp/dist/static
GO_FILES  = $(shell find agent shared webapp -name '*.go' -not -name '*_test.go' -not -path '$(STATIC)/*')
APP_FILES = $(shell find webapp shared -type f -not -name '*_test.go' -not -path '$(STATIC)/*') go.mod go.sum
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help build run test check unit e2e bench soak fuzz fmt clean

help: ## print this help
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

build: bin/muster ## build bin/muster with the app in it

run: build ## build, and serve on http://127.0.0.1:8000 (ARGS="--simulate '4x V620'" adds flags)
	bin/muster serve $(ARGS)

test: ## run every test, those in a browser too (installs Chromium where none is found and it may)
	build/check.sh

check: ## formatting, vet for native and js/wasm, staticcheck
	build/lint.sh

unit: ## tests without browser
	go test -race $$(go list ./... | grep -v /e2e)

e2e: build ## tests of the real binary in a real browser
	build/chromium.sh
	MUSTER_BIN=$(CURDIR)/bin/muster go test -count=1 -timeout 20m ./e2e/...

bench: build ## measure, and print one table
	build/chromium.sh
	MUSTER_BIN=$(CURDIR)/bin/muster go run ./e2e/bench

soak: build ## kill the agent 1,000 times under load, cut its power 100 times (as root), let a GPU hang for 10 minutes; print one table
	MUSTER_BIN=$(CURDIR)/bin/muster MUSTER_SOAK=$${MUSTER_SOAK:-10m} go run ./e2e/bench -soak  # MUSTER_SOAK, MUSTER_KILLS, MUSTER_CUTS: other lengths

fuzz: ## run every fuzz target for a while (FUZZTIME=30s each)
	build/fuzz.sh

fmt: ## format the code
	gofmt -w agent shared webapp e2e

clean: ## remove what was built
	rm -rf bin
	find $(STATIC) -mindepth 1 -not -name .gitkeep -delete

bin/muster: $(GO_FILES) $(STATIC)/index.html go.mod go.sum Makefile
	go build -ldflags "$(LDFLAGS)" -o $@ ./agent/cmd/muster

bin/app.mod: go.mod go.sum build/goapp.sh
	build/goapp.sh

bin/app.wasm: $(APP_FILES) bin/app.mod
	GOOS=js GOARCH=wasm go build -modfile=bin/app.mod -trimpath -ldflags "-s -w" -o $@ ./webapp/cmd/site

$(STATIC)/index.html: bin/app.wasm $(APP_FILES)
	go run ./webapp/cmd/site -wasm bin/app.wasm -out $(STATIC)
	@touch $@

# ecadx: `make` builds build/ecadx and build/lib; `make demo` shows the product; `make test` tests it. `make help` lists the rest.
PREFIX ?= /usr/local
BUILD  := build
GO     ?= go
JOBS   ?= $(shell nproc 2>/dev/null || echo 2)
COMMIT := $(shell git describe --always --dirty 2>/dev/null || echo unknown)

LIB        := $(BUILD)/lib/libecad.a
LIB_SRC    := $(shell find kernels -name '*.cpp' -o -name '*.h' -o -name '*.hpp' 2>/dev/null)
STAMP      := cgo/libecad_stamp.h
MINI       := $(BUILD)/share/mini-pixart
GO_LDFLAGS := -X main.commit=$(COMMIT)

.PHONY: all lib demo test test-c test-go examples sanitize race fuzz tsan valgrind lint bench install clean help deps sz

all: $(BUILD)/ecadx ## build the command and the library (default)

lib: $(LIB) $(STAMP) ## build libecad alone

help: ## list the targets
	@grep -hE '^[a-z][a-z-]*:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

# ---- what the build needs ------------------------------------------------------------------------------------------

deps: $(BUILD)/.deps ## install the build's packages on Debian-like machines, or say what is missing

$(BUILD)/.deps: scripts/deps.sh
	@mkdir -p $(BUILD)
	@sh scripts/deps.sh
	@touch $@

# ---- libecad --------------------------------------------------------------------------------------------------------

$(LIB): $(LIB_SRC) CMakeLists.txt | $(BUILD)/.deps
	@cmake -S . -B $(BUILD)/cmake -DCMAKE_BUILD_TYPE=Release -DECAD_OUTPUT_DIR=$(abspath $(BUILD)) >$(BUILD)/cmake.log 2>&1 || { cat $(BUILD)/cmake.log; exit 1; }
	@cmake --build $(BUILD)/cmake -j $(JOBS) --target ecad_static ecad_shared
	@touch $@

# The Go build cache notices this header, not the archive (see cgo/link.go).
$(STAMP): $(LIB)
	@printf '#define ECAD_ARCHIVE "%s"\n' "$$(cksum <$(LIB))" >$@.new
	@cmp -s $@.new $@ && rm $@.new && touch $@ || mv $@.new $@

# ---- the command ----------------------------------------------------------------------------------------------------

# The go command knows best what changed (sources, embedded weights, modules), so it is always asked.
$(BUILD)/ecadx: $(LIB) $(STAMP) FORCE
	$(GO) build -trimpath -ldflags '$(GO_LDFLAGS)' -o $@ ./cmd/ecadx

demo: $(BUILD)/ecadx ## search schedules for the built-in miniature and show the front
	@sh scripts/demo.sh $(BUILD)/ecadx $(BUILD)/demo

FORCE:

# ---- checks ---------------------------------------------------------------------------------------------------------

TESTS := test-c test-go examples

test: ## every test (what CI runs), each with the time it took
	@for t in $(TESTS); do start=$$(date +%s); $(MAKE) --no-print-directory $$t || exit 1; echo "make $$t: $$(($$(date +%s) - start)) s"; done

sanitize: | $(BUILD)/.deps
	@cmake -S . -B $(BUILD)/sanitize -DECAD_SANITIZE=ON -DECAD_BUILD_TESTS=ON -DCMAKE_BUILD_TYPE=RelWithDebInfo >$(BUILD)/sanitize.log 2>&1 || { cat $(BUILD)/sanitize.log; exit 1; }

test-c: sanitize ## the library's own tests, under ASan and UBSan
	@cmake --build $(BUILD)/sanitize -j $(JOBS)
	@cd $(BUILD)/sanitize && ctest -j $(JOBS) --output-on-failure

test-go: $(BUILD)/ecadx
	$(GO) test ./...

# Installs into a folder outside the tree and works there, as a user of libecad would; see the script.
examples: all sanitize $(MINI)/manifest.json ## install libecad, run the commands of kernels/README.md, compare the three examples with ecadx denoise
	@cmake --build $(BUILD)/cmake -j $(JOBS) --target ecad_grown
	@cmake --build $(BUILD)/sanitize -j $(JOBS) --target ecad_shared
	@sh scripts/examples.sh $(BUILD)

race: $(LIB) $(STAMP) ## the Go tests under the race detector
	$(GO) test -race -short ./...

FUZZTIME ?= 20s
fuzz: $(LIB) $(STAMP) ## every fuzz target for FUZZTIME (20s) each, two at a time; FUZZ=word picks some
	@sh scripts/deps.sh fuzz
	@GO=$(GO) sh scripts/fuzz.sh $(abspath $(BUILD)) $(FUZZTIME) $(FUZZ)

tsan: | $(BUILD)/.deps ## the library's threads under ThreadSanitizer (core, reference backend, the cpu backend's team)
	@cmake -S . -B $(BUILD)/tsan -DECAD_THREAD_SANITIZE=ON -DECAD_CPU=OFF -DECAD_BUILD_TESTS=ON -DCMAKE_BUILD_TYPE=RelWithDebInfo >$(BUILD)/tsan.log 2>&1 || { cat $(BUILD)/tsan.log; exit 1; }
	@cmake --build $(BUILD)/tsan -j $(JOBS) --target test_threads test_state test_team
	@cd $(BUILD)/tsan && ctest -j $(JOBS) --output-on-failure -R '^(threads|state|team)$$'

# The tests that call the library a million times are left to the sanitizers.
valgrind: | $(BUILD)/.deps ## the reference backend's tests under Valgrind's memcheck
	@sh scripts/deps.sh valgrind
	@cmake -S . -B $(BUILD)/valgrind -DECAD_CPU=OFF -DECAD_BUILD_TESTS=ON -DCMAKE_BUILD_TYPE=Debug -DCMAKE_CXX_FLAGS=-O1 >$(BUILD)/valgrind.log 2>&1 || { cat $(BUILD)/valgrind.log; exit 1; }
	@cmake --build $(BUILD)/valgrind -j $(JOBS) --target test_state test_ops test_safetensors test_api
	@cd $(BUILD)/valgrind && for t in state ops safetensors api; do echo $$t; done | xargs -P $(JOBS) -I T valgrind -q --error-exitcode=99 --leak-check=full --show-leak-kinds=definite,possible --errors-for-leak-kinds=definite,possible --log-file=T.valgrind ./kernels/tests/test_T >T.out || { cat *.valgrind; exit 1; }

lint: $(LIB) $(STAMP) sz ## gofmt, vet, file sizes
	@out=$$(gofmt -l $$(git ls-files '*.go')); [ -z "$$out" ] || { echo "gofmt: $$out"; exit 1; }
	$(GO) vet ./...

sz: ## fail on source files over 800 lines, name those over 500
	@git ls-files '*.go' '*.c' '*.cpp' '*.h' '*.cu' '*.cuh' '*.py' | xargs wc -l | awk '$$2!="total" && $$1>500 {print ($$1>800?"too long":"long") ": " $$2 " " $$1; if($$1>800) bad=1} END {exit bad}'

# QUICK=1 measures less; ONLY="mini-bfloat16 ..." some cases; BENCH_PYTHON=... a Python that has bench/baseline/requirements.txt already.
BENCH_PYTHON ?= $(BUILD)/baseline/bin/python

bench: $(BUILD)/ecadx $(BENCH_PYTHON) ## measure this machine against diffusers, in turns, into bench/results and README (QUICK=1: less)
	@$(BENCH_PYTHON) bench/baseline/run.py --ecadx $(BUILD)/ecadx $(if $(QUICK),--quick) $(foreach case,$(ONLY),--only $(case))

$(BUILD)/baseline/bin/python: bench/baseline/requirements.txt
	python3 -m venv $(BUILD)/baseline
	$(BUILD)/baseline/bin/pip install -q -r $<
	@touch $@

# ---- installing -----------------------------------------------------------------------------------------------------

install: all $(MINI)/manifest.json ## install command, libraries, header, pkg-config file, CMake package and examples under PREFIX
	@cmake --install $(BUILD)/cmake --prefix $(DESTDIR)$(PREFIX)
	install -Dm755 $(BUILD)/ecadx $(DESTDIR)$(PREFIX)/bin/ecadx
	install -d $(DESTDIR)$(PREFIX)/share/ecad/examples $(DESTDIR)$(PREFIX)/share/ecad/mini-pixart
	install -m644 kernels/examples/* $(DESTDIR)$(PREFIX)/share/ecad/examples
	install -m644 $(MINI)/* $(DESTDIR)$(PREFIX)/share/ecad/mini-pixart

# What the examples load: the miniature under a schedule of the demo's front, and uncached.
$(MINI)/manifest.json: $(BUILD)/ecadx kernels/examples/schedule.json
	@$(BUILD)/ecadx compile --schedule kernels/examples/schedule.json --schedule none --device cpu --dtype float32 --seed 7 \
		-p "a small red ring above a large blue square on a grey background" --out $(MINI) --force --quiet

clean: ## remove everything that was built
	rm -rf $(BUILD) $(STAMP)

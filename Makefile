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

.PHONY: all lib cuda cuda-audit test-cuda cuda-symbols emulate test-emulate test-emulate-asan gpu-bundle demo test test-c test-go examples sanitize race fuzz torture simulate tsan valgrind lint bench ablation install clean help deps sz

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

# ---- CUDA -----------------------------------------------------------------------------------------------------------

# NVCC: an nvcc of CUDA 13.0; empty: the host's, or pinned wheels that are installed into $(BUILD)/cuda-wheels.
NVCC ?=
CUDA_SRC   := $(shell find kernels/cuda -name '*.cu' -o -name '*.cuh' 2>/dev/null)
CUDA_LIB   := $(BUILD)/cuda/lib/libecad.a
CUDA_STAMP := cgo/libecad_cuda_stamp.h
# What gorgonia.org/cu is built with: the shim and the toolkit's header, and an empty library for its -lcuda (the driver is looked for at run time).
CUDA_GO = CGO_CFLAGS="-O2 -g -I$(abspath cgo/cudev/shim) -I$$(cat $(BUILD)/cuda/include.txt)" CGO_LDFLAGS="-O2 -g -L$(abspath $(BUILD)/cuda/driver)" $(GO)

cuda: $(CUDA_LIB) $(CUDA_STAMP) FORCE ## build library and command with CUDA (needs no GPU; the command is then build/ecadx)
	$(CUDA_GO) build -trimpath -tags cuda -ldflags '$(GO_LDFLAGS)' -o $(BUILD)/ecadx ./cmd/ecadx

$(CUDA_LIB): $(LIB_SRC) $(CUDA_SRC) CMakeLists.txt kernels/cuda/CMakeLists.txt kernels/cmake/nvcc.sh scripts/cuda.sh scripts/cuda-wheels.txt | $(BUILD)/.deps
	@nvcc=$$(sh scripts/cuda.sh $(abspath $(BUILD)/cuda-wheels) $(NVCC)) && cmake -S . -B $(BUILD)/cuda -DCMAKE_BUILD_TYPE=Release -DECAD_CUDA=ON -DECAD_NVCC=$$nvcc -DECAD_BUILD_TESTS=ON -DECAD_OUTPUT_DIR=$(abspath $(BUILD)/cuda) >$(BUILD)/cuda.log 2>&1 || { cat $(BUILD)/cuda.log; exit 1; }
	@cmake --build $(BUILD)/cuda -j $(JOBS) --target ecad_static ecad_shared
	@mkdir -p $(BUILD)/cuda/driver && ar rcs $(BUILD)/cuda/driver/libcuda.a
	@touch $@

$(CUDA_STAMP): $(CUDA_LIB)
	@printf '#define ECAD_ARCHIVE "%s"\n' "$$(cksum <$(CUDA_LIB))" >$@.new
	@cmp -s $@.new $@ && rm $@.new && touch $@ || mv $@.new $@

test-cuda: $(CUDA_LIB) $(CUDA_STAMP) ## the Go tests that are about CUDA, of the CUDA build; without a GPU those that need one are skipped
	$(CUDA_GO) test -tags cuda -count=1 -run CUDARuntimeAndDriver ./bench

cuda-audit: $(CUDA_LIB) $(EMULATE_LIB) ## check the kernels' machine code; registers, shared memory, occupancy and roofline of each
	@$(BUILD)/emulate/kernels/tests/cuda_launches >$(BUILD)/cuda-launches.tsv
	@$(GO) run ./internal/cudaaudit -objects $(BUILD)/cuda/kernels/cuda -tools $$(cat $(BUILD)/cuda/tools.txt) -launches $(BUILD)/cuda-launches.tsv

# A folder that proves the CUDA build on a machine with a driver and nothing else.
BUNDLE := $(BUILD)/gpu-bundle

gpu-bundle: cuda emulate ## build/gpu-bundle: copy it to a machine with a GPU and run check.sh there
	@cmake --build $(BUILD)/cuda -j $(JOBS)
	@cmake --build $(BUILD)/cuda -j $(JOBS) --target ecad_probe
	@cmake --build $(BUILD)/emulate -j $(JOBS) --target ecad_probe
	@rm -rf $(BUNDLE) && mkdir -p $(BUNDLE)/bin $(BUNDLE)/tests $(BUNDLE)/torch
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w' -o $(BUNDLE)/bin/gpucheck ./bench/gpucheck
	$(CUDA_GO) build -trimpath -tags cuda -ldflags '-s -w $(GO_LDFLAGS)' -o $(BUNDLE)/bin/ecadx ./cmd/ecadx
	$(CUDA_GO) test -c -trimpath -tags cuda -ldflags '-s -w' -o $(BUNDLE)/tests/one_process.test ./bench
	@cp $(BUILD)/cuda/kernels/tests/test_cuda_* $(BUILD)/cuda/kernels/tests/cuda_race $(BUILD)/cuda/kernels/tests/cuda_bench $(BUNDLE)/tests/
	@cp bench/gpucheck/torch_peer.py bench/gpucheck/torch_pixart.py bench/baseline/peer.py $(BUNDLE)/torch/
	@cp $(BUILD)/cuda/kernels/cuda/probe/ecad_probe $(BUNDLE)/tests/
	@$(BUILD)/emulate/kernels/cuda/probe/ecad_probe --record $(BUNDLE)/probes.expected
	@strip $(BUNDLE)/tests/*
	@sh scripts/bundle-libraries.sh $(BUNDLE)
	@cp scripts/check.sh $(BUNDLE)/
	@$(BUNDLE)/bin/gpucheck prepare $(abspath $(BUNDLE))
	@$(BUNDLE)/bin/gpucheck pack $(abspath $(BUNDLE))
	@du -sm $(BUNDLE) | awk '{ print "gpu-bundle: " $$1 " MiB"; exit $$1 > 64 }'

# The same kernels and executor on the host emulator: for tests alone, never shipped.
EMULATE_LIB   := $(BUILD)/emulate/lib/libecad.a
EMULATE_STAMP := cgo/libecad_emulate_stamp.h

emulate: $(EMULATE_STAMP) ## build the library with the CUDA backend on the emulator, and its tests

$(EMULATE_LIB): $(LIB_SRC) $(CUDA_SRC) CMakeLists.txt kernels/cuda/CMakeLists.txt kernels/tests/CMakeLists.txt | $(BUILD)/.deps
	@cmake -S . -B $(BUILD)/emulate -DCMAKE_BUILD_TYPE=Release -DECAD_CUDA=EMULATE -DECAD_BUILD_TESTS=ON -DECAD_OUTPUT_DIR=$(abspath $(BUILD)/emulate) >$(BUILD)/emulate.log 2>&1 || { cat $(BUILD)/emulate.log; exit 1; }
	@cmake --build $(BUILD)/emulate -j $(JOBS)
	@touch $@

$(EMULATE_STAMP): $(EMULATE_LIB)
	@printf '#define ECAD_ARCHIVE "%s"\n' "$$(cksum <$(EMULATE_LIB))" >$@.new
	@cmp -s $@.new $@ && rm $@.new && touch $@ || mv $@.new $@

test-emulate: $(EMULATE_STAMP) ## every CUDA kernel, the executor and whole programs, on the emulator
	@cd $(BUILD)/emulate && ctest -L cuda -j $(JOBS) --output-on-failure
	$(GO) test -tags emulate -count=1 -run 'CUDA|ForksChangeNothing' ./dit

# AddressSanitizer over kernels, emulator and executor: the tails and the smaller half of the cases, see kernels/tests/cuda_watch.h.
test-emulate-asan: | $(BUILD)/.deps ## the emulated tests under ASan and UBSan
	@cmake -S . -B $(BUILD)/emulate-asan -DCMAKE_BUILD_TYPE=Release -DECAD_CUDA=EMULATE -DECAD_SANITIZE=ON -DECAD_CPU=OFF -DECAD_BUILD_TESTS=ON >$(BUILD)/emulate-asan.log 2>&1 || { cat $(BUILD)/emulate-asan.log; exit 1; }
	@cmake --build $(BUILD)/emulate-asan -j $(JOBS)
	@cd $(BUILD)/emulate-asan && ctest -L cuda -j $(JOBS) --output-on-failure

cuda-symbols: $(CUDA_LIB) ## write the list of driver functions that gorgonia.org/cu calls
	CGO_CFLAGS="-I$(abspath cgo/cudev/shim) -I$$(cat $(BUILD)/cuda/include.txt)" CGO_LDFLAGS="-L$(abspath $(BUILD)/cuda/driver)" sh scripts/cuda-symbols.sh cgo/cudev/symbols.inc

# ---- checks ---------------------------------------------------------------------------------------------------------

TESTS := test-c test-go examples

test: ## every test (what CI runs), each with the time it took
	@for t in $(TESTS); do start=$$(date +%s); $(MAKE) --no-print-directory $$t || exit 1; echo "make $$t: $$(($$(date +%s) - start)) s"; done

sanitize: | $(BUILD)/.deps
	@cmake -S . -B $(BUILD)/sanitize -DECAD_SANITIZE=ON -DECAD_BUILD_TESTS=ON -DCMAKE_BUILD_TYPE=RelWithDebInfo >$(BUILD)/sanitize.log 2>&1 || { cat $(BUILD)/sanitize.log; exit 1; }

test-c: sanitize ## the library's own tests, under ASan and UBSan
	@cmake --build $(BUILD)/sanitize -j $(JOBS)
	@cd $(BUILD)/sanitize && ctest -j $(JOBS) --output-on-failure

# The test of report.html is skipped where there is no Chromium and none can be installed.
test-go: $(BUILD)/ecadx
	-@sh scripts/deps.sh chromium
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

KILLS ?= 1000
torture: ## kill searches at KILLS (1000) random moments, each resumed to the same bytes (the Go tests do 50)
	$(GO) test -count=1 -v -timeout 30m -run '^TestTorture$$' ./ga/study -kills $(KILLS)

simulate: ## 10,000 small and 20 long searches, interrupted, killed and reordered, to the same front (the Go tests do 300 small ones)
	GOGC=400 $(GO) test -count=1 -v -timeout 30m -run '^TestSimulation$$' ./ga/study -simulate  # small heaps: a fifth less time

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

# Every score is kept in $(BUILD)/ablation, so that it goes on where it was interrupted; hours of two cores in all.
ablation: $(LIB) $(STAMP) ## measure what each part of the search brings, into bench/results, docs and README
	$(GO) run ./bench/ablation -state $(BUILD)/ablation -out bench/results/search-ablation.json -figure docs/search-ablation.svg -readme README.md $(ABLATION)

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
	rm -rf $(BUILD) $(STAMP) $(CUDA_STAMP) $(EMULATE_STAMP)

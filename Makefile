# octarc.  `make help` lists the targets; every variable here can be set on the command line.
VERSION    := 0.1.0
PREFIX     ?= /usr/local
bindir     ?= $(PREFIX)/bin
libdir     ?= $(PREFIX)/lib
includedir ?= $(PREFIX)/include
libexecdir ?= $(PREFIX)/libexec/octarc
mandir     ?= $(PREFIX)/share/man
unitdir    ?= $(PREFIX)/lib/systemd/system
sysusersdir ?= $(PREFIX)/lib/sysusers.d
tmpfilesdir ?= $(PREFIX)/lib/tmpfiles.d
datadir    ?= $(PREFIX)/share
sysconfdir ?= /etc

# SAN=address,undefined or SAN=thread.  Each variant has objects of its own, so none can mix.
SAN   ?=
BUILD ?= build
# make's lists are words separated by blanks, and so is a path with one in it.
ifneq ($(words $(CURDIR) $(BUILD)),2)
$(error octarc cannot be built in a path with blanks: '$(CURDIR)', BUILD='$(BUILD)')
endif
comma := ,
B     := $(BUILD)/$(or $(subst $(comma),-,$(SAN)),release)$(if $(findstring clang,$(CC)),-clang)

PKG_CONFIG ?= pkg-config
CFLAGS     ?= -O2 -g
WARN       := -Wall -Wextra -Wshadow -Wpointer-arith -Wstrict-prototypes -Wmissing-prototypes -Wundef -Wvla
HARDEN     := -fstack-protector-strong $(if $(SAN),,-D_FORTIFY_SOURCE=2)
# Tests run templates into their limit of work, which takes minutes under sanitizers.
SANFLAGS   := $(if $(SAN),-fsanitize=$(SAN) -fno-sanitize-recover=all -DVALUE_WORK_MAX=1048576u)
# -ffp-contract=off: a multiply-add is fused only where the source says fma (docs/numerics.md).
DRM_CFLAGS := $(shell $(PKG_CONFIG) --cflags libdrm 2>/dev/null)
ALL_CFLAGS  = -std=gnu11 $(WARN) $(HARDEN) -fPIE -ffp-contract=off -I. -Iinclude $(DRM_CFLAGS) -D_GNU_SOURCE \
              -DOCTARC_VERSION='"$(VERSION)"' -DOCTARC_LIBEXECDIR='"$(libexecdir)"' -DOCTARC_DATADIR='"$(datadir)"' $(SANFLAGS)
LINK        = $(CC) $(ALL_CFLAGS) $(CFLAGS) -pie -Wl,-z,relro,-z,now $(LDFLAGS)
pkg         = $(shell $(PKG_CONFIG) --libs $(1) 2>/dev/null)

FRONT_LIBS  = $(call pkg,libuv libcjson libmicrohttpd libsystemd inih libpcre2-8) -lm -lpthread
ENGINE_LIBS = $(call pkg,libdrm zlib) -lm -lpthread
CLIENT_LIBS = $(call pkg,libcjson libcurl libzip libcrypto) -lpthread
TEST_LIBS   = $(FRONT_LIBS) $(call pkg,libdrm zlib libzip libcrypto)

# OpenCL C becomes SPIR-V.  Without -disable-llvm-passes spirv-val refuses kernels with loops; without the
# default header the sub-groups' functions are not known.  Nothing is fused that the source does not fuse.
CL_CLANG   ?= clang-15
CL_SPIRV   ?= llvm-spirv-15
CL_EXT     := cl_khr_fp16 cl_intel_subgroups cl_intel_subgroups_short cl_intel_subgroups_char
CL_FLAGS   := -target spir64 -cl-std=CL3.0 -O1 -Xclang -disable-llvm-passes -emit-llvm -cl-no-stdinc \
              -ffp-contract=off -Xclang -finclude-default-header $(CL_EXT:%=-Xclang -cl-ext=+%) \
              $(CL_EXT:%=-D%=1) -Wall -Werror -I.
# The level_zero backend is built where what it takes is there: LEVEL_ZERO=no leaves it out.
LEVEL_ZERO ?= $(if $(and $(shell command -v $(CL_SPIRV)),$(wildcard /usr/include/level_zero/ze_api.h)),yes,no)

# Intel's offline compiler (Debian sid: intel-ocloc): where it is, what it makes of the kernels for Battlemage cards
# is embedded beside the SPIR-V; OCLOC= leaves it out.  The flag is the backend's own (modules.c): it changes code.
OCLOC      ?= $(shell command -v ocloc)
OCLOC_FLAGS := -q -spirv_input -device bmg -exclude_ir -output_no_suffix \
               -options "-ze-opt-greater-than-4GB-buffer-required"

# V=1 shows whole commands.
Q   := $(if $(filter 1,$(V)),,@)
say  = $(if $(Q),@printf '  %-5s %s\n' $(1) $(2))
obj  = $(patsubst %.c,$(B)/%.o,$(1))

mains    := daemon/main.c daemon/engine/main.c
backend_ze := daemon/device/level_zero
core     := $(filter-out $(mains) daemon/device/cpu/isa/% $(if $(filter no,$(LEVEL_ZERO)),$(backend_ze)/%),\
              $(shell find daemon models -name '*.c'))
lib      := $(wildcard client/lib/*.c)
cli      := $(wildcard client/*.c)
cli_bench := $(wildcard client/bench/*.c)
cli_pull := $(wildcard client/pull/*.c)
# A module of kernels for matrices of each tensor type, by the number that files give it; of quantised ones
# one more, for cards with a matrix engine (XMX).
ze_floats := 0 1 30
ze_quants := 2 3 6 7 8 10 11 12 13 14 20 23 39
ze_types := $(ze_floats) $(ze_quants)
ze_spirv := $(addprefix $(B)/$(backend_ze)/kernels/,$(addsuffix .spv,rows attention exchange routes measure measure_xmx digest \
              $(ze_types:%=matmul_%) $(ze_types:%=expert_%) \
              $(ze_quants:%=matmul_xmx_%) $(ze_quants:%=expert_xmx_%)))
# Tests of images take it from Debian sid where the machine has none (tests/intel/README.md).
sid_ocloc = OCTARC_BUILD=$(abspath $(B)) OCTARC_TINY=$(abspath $(B)) tests/intel/ocloc
# One of kernels/native_*.o is linked: bmg, none, or (in a test) sim.
ze_native = $(B)/$(backend_ze)/kernels/native_$(1).o
ze_images := $(B)/$(backend_ze)/kernels/images
isa      := $(foreach i,portable avx2 avx512,$(B)/daemon/device/cpu/isa/kernels_$(i).o)
ze_tests := tests/unit/sim_level_zero/% tests/unit/daemon/device/level_zero/%
tests    := $(patsubst %.c,$(B)/%,$(filter-out $(if $(filter no,$(LEVEL_ZERO)),$(ze_tests)),\
              $(shell find tests/unit -name '*.c')))
sim_tests := $(filter $(ze_tests:%=$(B)/%),$(tests))
sim_pocl := $(addprefix $(B)/tests/sim_level_zero/pocl/,translate functions.cl)
sim_ze   := $(B)/tests/sim_level_zero/libze_sim.so $(B)/tests/sim_level_zero/nodes/nodes.so \
            $(sim_pocl) $(patsubst %.cl,$(B)/%.spv,$(wildcard tests/sim_level_zero/kernels/*.cl))
simulation := $(B)/tests/unit/daemon/simulation
with_images := $(B)/tests/unit/$(backend_ze)/native
programs := $(B)/octarcd $(B)/octarc-engine $(B)/octarc
fuzzers  := $(patsubst %.c,$(B)/%,$(if $(FUZZ),tests/fuzz/$(FUZZ).c,$(wildcard tests/fuzz/*.c)))
man      := $(patsubst %.scd,$(B)/%,$(wildcard client/*.scd))

# Test programs emit TAP; tests/run counts it.  The slow ones do without sanitizers.
JOBS  ?= $(shell nproc)
# Reference data that is not part of the project; tests that need it are skipped without it.
export OCTARC_SHARED ?= $(abspath ../shared)
TALLY ?=
FUZZ_SECONDS ?= 5
FUZZ_SEED ?=
FAULTS_SECONDS ?= 300
RUN   := OCTARC_BUILD=$(abspath $(B)) OCTARC_TINY=$(abspath $(BUILD)/tiny) SAN=$(SAN)          tests/run -j $(JOBS) $(if $(TALLY),--tally $(TALLY))
quick := $(wildcard tests/e2e/quick_*.py) tests/lint/manuals \
         $(if $(filter no,$(LEVEL_ZERO)),,tests/sim_level_zero/validated)
intel := $(if $(filter no,$(LEVEL_ZERO)),,tests/intel/check)
slow  := $(wildcard tests/e2e/slow_*.py) $(wildcard tests/systemd/test_*) $(intel) \
         $(if $(filter no,$(LEVEL_ZERO)),,tests/sim_level_zero/on_pocl)

all: $(programs)  ## build octarcd, octarc-engine and octarc (default)

$(B)/octarcd: $(call obj,daemon/main.c) $(B)/core.a
	$(call say,LD,$@)
	$(Q)$(LINK) -o $@ $^ $(FRONT_LIBS)
$(B)/octarc-engine: $(call obj,daemon/engine/main.c) $(B)/core.a
	$(call say,LD,$@)
	$(Q)$(LINK) -o $@ $^ $(ENGINE_LIBS)
$(B)/octarc: $(call obj,$(cli) $(cli_bench) $(cli_pull)) $(B)/liboctarc.a $(B)/core.a
	$(call say,LD,$@)
	$(Q)$(LINK) -o $@ $^ $(CLIENT_LIBS)
$(filter-out $(simulation) $(with_images),$(tests)): $(B)/%: $(B)/%.o $(B)/bench.a $(B)/pull.a $(B)/liboctarc.a $(B)/core.a
	$(call say,LD,$@)
	$(Q)$(LINK) -o $@ $^ $(TEST_LIBS)
# What the simulation puts in the place of a file of the archive is found first.
$(simulation): $(B)/%: $(B)/%.o $(call obj,$(wildcard tests/sim/*.c)) $(B)/core.a
	$(call say,LD,$@)
	$(Q)$(LINK) -o $@ $^ $(FRONT_LIBS)

$(filter $(with_images),$(tests)): $(B)/%: $(B)/%.o $(call ze_native,sim) $(B)/core.a
	$(call say,LD,$@)
	$(Q)$(LINK) -o $@ $^ $(TEST_LIBS)

# A Level Zero driver that needs no card: tests/sim_level_zero/README.md.
sim_ze_sources := $(wildcard tests/sim_level_zero/*.c)
$(sim_tests): TEST_LIBS := $(ENGINE_LIBS) -lze_loader
$(sim_tests): | $(sim_ze)
$(sim_tests:=.log): $(sim_ze)
$(B)/tests/unit/$(backend_ze)/calls: | $(B)/tests/bench/arc/host
$(B)/tests/sim_level_zero/tables.c: tests/sim_level_zero/make_tables $(sim_ze_sources)
	@mkdir -p $(@D)
	$(call say,GEN,$@)
	$(Q)$^ > $@
$(B)/tests/sim_level_zero/tables.o: $(B)/tests/sim_level_zero/tables.c
	$(call say,CC,$<)
	$(Q)$(CC) $(ALL_CFLAGS) -fPIC $(CFLAGS) -c -o $@ $<
$(call obj,$(sim_ze_sources)): ALL_CFLAGS += -fPIC
# Where PoCL stands in for Intel's runtime, the driver translates modules by this.
pocl_flags := $(filter-out -Wall -Werror -I.,$(CL_FLAGS)) -Xclang -cl-ext=+__opencl_c_subgroups \
              -Xclang -cl-ext=+__opencl_c_program_scope_global_variables
$(sim_pocl): $(B)/%: % Makefile
	@mkdir -p $(@D)
	$(Q)sed 's|@clang@|$(CL_CLANG) $(pocl_flags)|; s|@llvm-spirv@|$(CL_SPIRV)|' $< > $@
	$(Q)chmod 755 $@
$(B)/tests/sim_level_zero/libze_sim.so: tests/sim_level_zero/exports.map $(call obj,$(sim_ze_sources)) \
                                        $(B)/tests/sim_level_zero/tables.o
	$(call say,LD,$@)
	$(Q)$(CC) $(ALL_CFLAGS) $(CFLAGS) -shared -Wl,--version-script=$< -o $@ $(filter %.o,$^) -lOpenCL -lpthread
$(call obj,tests/sim_level_zero/nodes/nodes.c): ALL_CFLAGS += -fPIC
$(B)/tests/sim_level_zero/nodes/nodes.so: $(call obj,tests/sim_level_zero/nodes/nodes.c)
	$(call say,LD,$@)
	$(Q)$(CC) $(ALL_CFLAGS) $(CFLAGS) -shared -o $@ $^ -ldl
intel-programs: $(B)/tests/intel/backend $(sim_tests) opencl
check-intel: all tiny intel-programs  ## the kernels in Intel's compiler, the backend on Intel's driver: tests/intel/README.md
	$(Q)OCTARC_BUILD=$(abspath $(B)) OCTARC_TINY=$(abspath $(BUILD)/tiny) tests/intel/check --needed
$(B)/tests/intel/backend: $(B)/tests/intel/backend.o $(call ze_native,none) $(B)/core.a
	$(call say,LD,$@)
	$(Q)$(LINK) -o $@ $^ $(ENGINE_LIBS)
# The same with images.
$(B)/tests/intel/images: $(B)/tests/intel/backend.o $(call ze_native,bmg) $(B)/core.a
	$(call say,LD,$@)
	$(Q)$(LINK) -o $@ $^ $(ENGINE_LIBS)

opencl:  ## fetch the OpenCL runtime for CPUs (Intel's, from PyPI) that tests run kernels on
	$(Q)tests/sim_level_zero/fetch-runtime >/dev/null || true

$(B)/%.spv: %.cl Makefile
	@mkdir -p $(@D)
	$(call say,CL,$<)
	$(Q)$(CL_CLANG) -c $(CL_FLAGS) -MMD -MP -MF $(@:.spv=.d) -MT $@ -o $(@:.spv=.bc) $<
	$(Q)$(CL_SPIRV) --spirv-max-version=1.4 --spirv-ext=+all -o $@ $(@:.spv=.bc)
	$(Q)spirv-val $@

define of_types # the source is compiled for each tensor type, without the matrix engine or (_xmx) with it
$(B)/$(backend_ze)/kernels/$(1)$(2)_%.spv: $(backend_ze)/kernels/$(1).cl Makefile
	@mkdir -p $$(@D)
	$$(call say,CL,"$$< ($(if $(2),xmx )$$*)")
	$$(Q)$$(CL_CLANG) -c $$(CL_FLAGS) -DTYPE=$$* -DXMX=$(if $(2),1,0) -MMD -MP -MF $$(@:.spv=.d) -MT $$@ -o $$(@:.spv=.bc) $$<
	$$(Q)$$(CL_SPIRV) --spirv-max-version=1.4 --spirv-ext=+all -o $$@ $$(@:.spv=.bc)
	$$(Q)spirv-val $$@
endef
$(foreach source,matmul expert,$(eval $(call of_types,$(source),)) $(eval $(call of_types,$(source),_xmx)))

$(B)/$(backend_ze)/kernels/binaries.o: $(backend_ze)/kernels/binaries.S $(ze_spirv)
	$(call say,AS,$<)
	$(Q)$(CC) -Wa,-I$(@D) -c -o $@ $<
$(B)/$(backend_ze)/kernels/%.bmg: $(B)/$(backend_ze)/kernels/%.spv
	$(call say,OCLOC,$@)
	$(Q)$(or $(OCLOC),$(sid_ocloc)) compile -file $(abspath $<) $(OCLOC_FLAGS) -out_dir $(abspath $(@D)) \
	  -output $*_native >$@.log 2>&1 || { cat $@.log >&2; exit 1; }
	$(Q)mv $(@D)/$*_native.bin $@
$(foreach i,bmg none sim,$(call ze_native,$(i))): $(backend_ze)/kernels/binaries.S
	@mkdir -p $(@D)
	$(call say,AS,$@)
	$(Q)$(CC) -DNATIVE=$(basename $(@F)) -Wa,-I$(@D) -c -o $@ $<
$(call ze_native,bmg): $(ze_spirv:.spv=.bmg)
$(call ze_native,sim): $(ze_spirv)
# Which are in: where that changes, what has them is linked anew.
$(ze_images): FORCE
	@mkdir -p $(@D)
	$(Q)echo $(if $(OCLOC),bmg,none) | cmp -s - $@ || echo $(if $(OCLOC),bmg,none) > $@
FORCE:
ifneq ($(LEVEL_ZERO),no)
$(B)/core.a: $(B)/$(backend_ze)/kernels/binaries.o $(call ze_native,$(if $(OCLOC),bmg,none)) $(ze_images)
$(B)/daemon/device/device.o: ALL_CFLAGS += -DOCTARC_LEVEL_ZERO
endif

$(B)/core.a: $(call obj,$(core)) $(isa)
$(B)/liboctarc.a: $(call obj,$(lib))
$(B)/bench.a: $(call obj,$(cli_bench))
$(B)/pull.a: $(call obj,$(cli_pull))
$(B)/%.a:
	$(call say,AR,$@)
	$(Q)rm -f $@ && $(AR) rcs $@ $(filter %.o,$^)

$(B)/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(CC) $(ALL_CFLAGS) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

# The same source for every instruction set; which one runs is chosen by the processor.  Under
# sanitizers -O1 will do; gcc takes minutes to watch the stack of what is all inlined.
KERNEL_OPT   := $(if $(SAN),-O1,-O3)
avx2_FLAGS   := -mavx2 -mfma -mf16c
ifeq ($(findstring clang,$(CC)),)
KERNEL_OPT   += $(if $(findstring address,$(SAN)),--param asan-stack=0)
# Else gcc puts off the additions of a register's sums, and sixteen registers cannot hold the parts.
avx2_FLAGS   += -fno-tree-ter -fno-tree-reassoc
endif
avx512_FLAGS := -mavx2 -mfma -mf16c -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni
$(isa): $(B)/daemon/device/cpu/isa/kernels_%.o: daemon/device/cpu/isa/kernels.c Makefile
	@mkdir -p $(@D)
	$(call say,CC,"$< ($*)")
	$(Q)$(CC) $(ALL_CFLAGS) $(CPPFLAGS) $(CFLAGS) $(KERNEL_OPT) $($*_FLAGS) -DKERNELS=kernels_$* \
	  -DKERNELS_NAME='"$*"' -MMD -MP -c -o $@ $<

programs-of-tests: $(programs) $(tests)
chosen := $(foreach t,$(tests),$(if $(findstring $(UNIT),$(t)),$(t)))
unit: $(or $(chosen:=.log),no-unit)  ## unit tests; UNIT=path/part runs those whose path holds it
no-unit:
	@echo "no unit test's path holds '$(UNIT)'" >&2 && exit 1
$(B)/%.log: $(B)/% $(BUILD)/tiny/tiny-f32.gguf
	$(call say,TEST,$*)
	$(Q)OCTARC_TINY=$(BUILD)/tiny $(abspath $<) > $@ || { cat $@; rm -f $@; exit 1; }

$(B)/tests/bench/%: $(B)/tests/bench/%.o $(B)/core.a
	$(call say,LD,$@)
	$(Q)$(LINK) -o $@ $^ $(FRONT_LIBS)

bench-kernels: $(B)/tests/bench/kernels  ## what the kernels reach of what the machine can
	$(Q)$< 1 && $< $$(nproc)

bench-step: $(B)/tests/bench/step  ## where a step's time goes, by operation; BENCH="[threads [isa [steps [shape]]]]"
	$(Q)$< $$(models/catalog/fetch) $(BENCH)

bench-plan: $(B)/tests/bench/plan  ## 100,000 random boxes with every promise checked; how long a plan takes
	$(Q)$< $(BENCH)

# What is measured comes first: the matrix would be load.
bench-faults: all tiny  ## what faults cost, and that nothing is lost: docs/faults.md anew, in ten minutes
	$(Q)OCTARC_BUILD=$(abspath $(B)) OCTARC_TINY=$(abspath $(BUILD)/tiny) tests/bench/faults \
	  $$(models/catalog/fetch) $(B)/faults.json $(FAULTS_SECONDS)
	$(Q)docs/faults/draw $(B)/faults.json docs/faults.md
	$(Q)FAULTS_ALL=1 $(RUN) --title faults tests/e2e/slow_fault_matrix.py

bench: all  ## measure speed with the default model; BENCH="--against DIR", or any option of octarc bench
	$(Q)$(B)/octarc bench $(BENCH) $$(models/catalog/fetch)

performance: all  ## measure, and write docs/performance.md anew; PERFORMANCE="--against DIR"
	$(Q)$(B)/octarc bench --json $(PERFORMANCE) $$(models/catalog/fetch) > $(B)/report.json
	$(Q)cp $(B)/report.json docs/performance/report.json
	$(Q)docs/performance/draw docs/performance/report.json docs/performance.md

performance-types: all  ## the same of other files, beside llama.cpp's: AGAINST=DIR TYPES="FILE..." ROUNDS=3
	$(Q)docs/performance/types $(B)/octarcd $(AGAINST) $(or $(ROUNDS),3) docs/performance.md $(TYPES)

# Stands for the loader where only the host's own work is looked at.
idle := $(call obj,tests/bench/arc/idle_loader.c tests/bench/arc/idle_cards.c)
$(idle): ALL_CFLAGS += -fPIC
$(B)/tests/bench/arc/libze_loader.so.1: $(idle)
	$(call say,LD,$@)
	$(Q)$(CC) $(CFLAGS) -shared -o $@ $^
$(B)/tests/bench/arc/host: | $(B)/tests/bench/arc/libze_loader.so.1
bench-host: $(B)/tests/bench/arc/host tiny  ## what a step costs the host: own instructions, calls of Level Zero
	$(Q)tests/bench/arc/host_cost $(B) $(BUILD)/tiny

performance-arc: all tiny $(B)/tests/bench/arc/host  ## what Arc cards would reach, on paper: docs/performance-arc.md anew; as root, see check-intel
	$(Q)OCTARC_BUILD=$(abspath $(B)) OCTARC_TINY=$(abspath $(BUILD)/tiny) tests/intel/check --needed \
	  --figures $(abspath $(B))/kernels.json all_are_compiled
	$(Q)tests/bench/arc/host_cost $(B) $(BUILD)/tiny > $(B)/host.json
	$(Q)tests/bench/arc/run $(B) $(B)/kernels.json $(B)/host.json > $(B)/report-arc.json
	$(Q)cp $(B)/report-arc.json docs/performance-arc/report.json
	$(Q)docs/performance-arc/draw docs/performance-arc/report.json docs/performance-arc.md

tiny: $(BUILD)/tiny/tiny-f32.gguf  ## generate the tiny models that tests use
$(BUILD)/tiny/tiny-f32.gguf: $(wildcard tests/golden/*)
	$(call say,GEN,$(@D))
	$(Q)python3 tests/golden/make_tiny.py $(@D)

test: programs-of-tests tiny opencl  ## the quick part of check; SAN=address,undefined or thread too
	$(Q)$(RUN) --title "$(or $(SAN),release)" $(tests) $(quick)

deps:  ## install the packages that are missing; DEPS=run takes the few that `make run` needs
	$(Q)[ "$(DEPS)" = none ] || .ci/deps $(or $(DEPS),check)

run:  ## install, build, fetch a small model and watch it answer over eight simulated cards
	$(Q)$(MAKE) --no-print-directory DEPS=$(or $(DEPS),run) deps
	$(Q)$(MAKE) --no-print-directory -j$(JOBS) all
	$(Q)tests/demo $(B)

# Each stage counts its tests in the tally; one that cannot even be built counts as a failure.  What is
# fuzzed here is drawn alike each time: a change does not fail by what chance finds elsewhere.
stages := lint-stage test san-address san-thread fuzz-stage slow
check: TALLY := $(abspath $(BUILD))/tally
check: FUZZ_SEED := 1
check:  ## everything a change must pass
	$(Q)$(MAKE) --no-print-directory deps
	$(Q)mkdir -p $(BUILD) && : > $(TALLY)
	$(Q)for stage in $(stages); do \
	  lines=$$(wc -l < $(TALLY)); \
	  $(MAKE) --no-print-directory -j$(JOBS) TALLY=$(TALLY) FUZZ_SEED=$(FUZZ_SEED) $$stage || \
	    [ $$(wc -l < $(TALLY)) -gt $$lines ] || \
	    { echo "$$stage: not built"; echo "0 1 0 $$stage" >> $(TALLY); }; \
	done; tests/run --sum $(TALLY)

lint: lint-stage  ## layers, format, gcc and clang without a warning
lint-stage:
	$(Q)COMPILE='$(subst ','\'',$(filter-out -D_FORTIFY_SOURCE=2,$(ALL_CFLAGS)))' \
	  $(RUN) --title lint tests/lint/run
san-address:
	$(Q)$(MAKE) --no-print-directory SAN=address,undefined test
san-thread:
	$(Q)$(MAKE) --no-print-directory SAN=thread test
# What check has no time for it leaves to check-intel, and says so.
slow: export INTEL_SECONDS ?= 300
slow: all tiny $(if $(intel),intel-programs)
	$(Q)$(RUN) --title slow $(slow)

fuzz: fuzz-stage  ## replay the corpora, then fuzz each parser for FUZZ_SECONDS (5); FUZZ=name for one
fuzz-stage:
	$(Q)$(MAKE) --no-print-directory CC=clang SAN=fuzzer-no-link,address,undefined fuzz-run
fuzz-run: $(fuzzers)
	$(Q)FUZZ_SECONDS=$(FUZZ_SECONDS) FUZZ_SEED=$(FUZZ_SEED) $(RUN) --title fuzz \
	  $(foreach f,$(fuzzers),"tests/fuzz/run $(f) tests/fuzz/corpus/$(notdir $(f)) $(B)/corpus")
$(fuzzers): $(B)/%: $(B)/%.o $(B)/pull.a $(B)/liboctarc.a $(B)/core.a
	$(call say,LD,$@)
	$(Q)$(LINK) -fsanitize=fuzzer -o $@ $^ $(TEST_LIBS)

soak: $(simulation)  ## simulated schedules until stopped, or for SOAK_SECONDS; SEED=n plays one again
	$(Q)SEED=$(SEED) SOAK_SECONDS=$(or $(SOAK_SECONDS),0) $<

mutants:  ## break each promise on purpose; the tests must notice
	$(Q)BUILD=$(BUILD) tests/mutants/run $(MUTANT)

$(B)/%: %.scd
	@mkdir -p $(@D)
	$(call say,MAN,$@)
	$(Q)scdoc < $< > $@
man: $(man)  ## the manual pages

install: all $(if $(shell command -v scdoc),man)  ## DESTDIR= PREFIX=; starts nothing
	install -D -m 755 -t "$(DESTDIR)$(bindir)" $(B)/octarcd $(B)/octarc
	install -D -m 755 -t "$(DESTDIR)$(libexecdir)" $(B)/octarc-engine
	install -D -m 644 -t "$(DESTDIR)$(libdir)" $(B)/liboctarc.a
	install -D -m 644 -t "$(DESTDIR)$(includedir)" include/octarc.h
	install -D -m 644 -t "$(DESTDIR)$(datadir)/octarc/topology" daemon/placement/topology/*.json
	install -D -m 644 -t "$(DESTDIR)$(datadir)/octarc/catalog" models/catalog/*.json
	install -D -m 644 client/octarc.bash \
	  "$(DESTDIR)$(PREFIX)/share/bash-completion/completions/octarc"
	install -D -m 644 -t "$(DESTDIR)$(unitdir)" systemd/octarcd.socket
	sed 's|@bindir@|$(bindir)|' systemd/octarcd.service.in > $(B)/octarcd.service
	install -D -m 644 -t "$(DESTDIR)$(unitdir)" $(B)/octarcd.service
	install -D -m 644 systemd/octarc.sysusers "$(DESTDIR)$(sysusersdir)/octarc.conf"
	install -D -m 644 systemd/octarc.tmpfiles "$(DESTDIR)$(tmpfilesdir)/octarc.conf"
	[ -e "$(DESTDIR)$(sysconfdir)/octarc/octarc.conf" ] || \
	  install -D -m 644 -t "$(DESTDIR)$(sysconfdir)/octarc" systemd/octarc.conf
	$(if $(shell command -v scdoc),$(foreach m,$(man),\
	  install -D -m 644 -t "$(DESTDIR)$(mandir)/man$(subst .,,$(suffix $(m)))" $(m) &&) :,\
	  @echo "no scdoc: the manual pages are left out")

clean:  ## remove the build folder
	rm -rf $(BUILD)

help:  ## this text
	@sed -n 's/^\([a-z-]*\):.*##  *\(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 22

.DELETE_ON_ERROR:
.SECONDARY:
.PHONY: all opencl unit no-unit bench bench-step bench-plan bench-faults performance performance-types performance-arc bench-host bench-kernels tiny test deps run check \
        lint lint-stage san-address san-thread slow fuzz fuzz-stage fuzz-run soak mutants man install clean \
        help programs-of-tests
-include $(shell find $(B) -name '*.d' 2>/dev/null)

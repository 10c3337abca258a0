# octarc.  `make help` lists the targets; every variable here can be set on the command line.
VERSION    := 0.1.0
PREFIX     ?= /usr/local
bindir     ?= $(PREFIX)/bin
libdir     ?= $(PREFIX)/lib
libexecdir ?= $(PREFIX)/libexec/octarc
mandir     ?= $(PREFIX)/share/man
unitdir    ?= $(PREFIX)/lib/systemd/system
sysconfdir ?= /etc

# SAN=address,undefined or SAN=thread.  Each variant has objects of its own, so none can mix.
SAN   ?=
BUILD ?= build
comma := ,
B     := $(BUILD)/$(or $(subst $(comma),-,$(SAN)),release)

PKG_CONFIG ?= pkg-config
CFLAGS     ?= -O2 -g
WARN       := -Wall -Wextra -Wshadow -Wpointer-arith -Wstrict-prototypes -Wmissing-prototypes -Wundef -Wvla
HARDEN     := -fstack-protector-strong $(if $(SAN),,-D_FORTIFY_SOURCE=2)
SANFLAGS   := $(if $(SAN),-fsanitize=$(SAN) -fno-sanitize-recover=all)
# -ffp-contract=off: a multiply-add is fused only where the source says fma (docs/numerics.md).
ALL_CFLAGS  = -std=gnu11 $(WARN) $(HARDEN) -fPIE -ffp-contract=off -I. -Iinclude -D_GNU_SOURCE \
              -DOCTARC_VERSION='"$(VERSION)"' $(SANFLAGS)
LINK        = $(CC) $(ALL_CFLAGS) $(CFLAGS) -pie -Wl,-z,relro,-z,now $(LDFLAGS)
pkg         = $(shell $(PKG_CONFIG) --libs $(1) 2>/dev/null)

FRONT_LIBS  = $(call pkg,libuv libcjson libmicrohttpd libsystemd inih libpcre2-8) -lm -lpthread
ENGINE_LIBS = -lm -lpthread
CLIENT_LIBS = $(call pkg,libcjson)

# V=1 shows whole commands.
Q   := $(if $(filter 1,$(V)),,@)
say  = $(if $(Q),@printf '  %-5s %s\n' $(1) $(2))
obj  = $(patsubst %.c,$(B)/%.o,$(1))

mains    := daemon/main.c daemon/engine/main.c
core     := $(filter-out $(mains) daemon/device/cpu/isa/%,$(shell find daemon models -name '*.c'))
lib      := $(wildcard client/lib/*.c)
cli      := $(wildcard client/*.c)
isa      := $(foreach i,portable avx2 avx512,$(B)/daemon/device/cpu/isa/kernels_$(i).o)
tests    := $(patsubst %.c,$(B)/%,$(shell find tests/unit -name '*.c'))
programs := $(B)/octarcd $(B)/octarc-engine $(B)/octarc

all: $(programs)  ## build octarcd, octarc-engine and octarc (default)

$(B)/octarcd: $(call obj,daemon/main.c) $(B)/core.a
	$(call say,LD,$@)
	$(Q)$(LINK) -o $@ $^ $(FRONT_LIBS)
$(B)/octarc-engine: $(call obj,daemon/engine/main.c) $(B)/core.a
	$(call say,LD,$@)
	$(Q)$(LINK) -o $@ $^ $(ENGINE_LIBS)
$(B)/octarc: $(call obj,$(cli)) $(B)/liboctarc.a $(B)/core.a
	$(call say,LD,$@)
	$(Q)$(LINK) -o $@ $^ $(CLIENT_LIBS)
$(tests): $(B)/%: $(B)/%.o $(B)/liboctarc.a $(B)/core.a
	$(call say,LD,$@)
	$(Q)$(LINK) -o $@ $^ $(FRONT_LIBS)

$(B)/core.a: $(call obj,$(core)) $(isa)
$(B)/liboctarc.a: $(call obj,$(lib))
$(B)/%.a:
	$(call say,AR,$@)
	$(Q)rm -f $@ && $(AR) rcs $@ $^

$(B)/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(CC) $(ALL_CFLAGS) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

# The same source for every instruction set; which one runs is chosen by the processor.
avx2_FLAGS   := -mavx2 -mfma -mf16c
avx512_FLAGS := $(avx2_FLAGS) -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni
$(isa): $(B)/daemon/device/cpu/isa/kernels_%.o: daemon/device/cpu/isa/kernels.c Makefile
	@mkdir -p $(@D)
	$(call say,CC,"$< ($*)")
	$(Q)$(CC) $(ALL_CFLAGS) $(CPPFLAGS) $(CFLAGS) -O3 $($*_FLAGS) -DKERNELS=kernels_$* \
	  -DKERNELS_NAME='"$*"' -MMD -MP -c -o $@ $<

unit: $(tests:=.log)  ## unit tests; UNIT=path/part runs those whose path holds it
$(B)/%.log: $(B)/% $(BUILD)/tiny/tiny-f32.gguf
	$(call say,TEST,$*)
	$(Q)OCTARC_TINY=$(BUILD)/tiny $(abspath $<) > $@ || { cat $@; rm -f $@; exit 1; }

tiny: $(BUILD)/tiny/tiny-f32.gguf  ## generate the tiny models that tests use
$(BUILD)/tiny/tiny-f32.gguf: tests/golden/make_tiny.py
	$(call say,GEN,$(@D))
	$(Q)python3 tests/golden/make_tiny.py $(@D)

lint:  ## refuse includes that point up the layers, and unformatted code
	$(Q)awk -f tests/lint/layers.awk $$(git ls-files '*.c' '*.h')
	$(Q)clang-format --dry-run -Werror $$(git ls-files '*.c' '*.h')

clean:  ## remove the build folder
	rm -rf $(BUILD)

help:  ## this text
	@sed -n 's/^\([a-z]*\):.*##  *\(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

.DELETE_ON_ERROR:
.SECONDARY:
.PHONY: all unit tiny lint clean help
-include $(shell find $(B) -name '*.d' 2>/dev/null)

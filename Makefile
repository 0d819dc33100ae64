# The C tests, and short names for tools/run (which also installs what is missing).
#
#   make demo | test | bench | asan | setup      as `sh tools/run NAME`
#   make ctest | ctest-asan                      the core's tests; no Python involved
#   make lint                                    layers, exported symbols, stray paths
#   make fuzz-regress                            replay the stored fuzz inputs
#   make mutation                                plant each known fault, see a test fail
#   make clean

CC ?= cc
CXX ?= c++
PYTHON ?= python3
PKG_CONFIG ?= pkg-config

MSGPACK := $(firstword $(foreach n,msgpack-c msgpack,$(shell $(PKG_CONFIG) --exists $(n) && echo $(n))))
DRAGONBOX := $(lastword $(sort $(wildcard /usr/include/dragonbox-*/dragonbox/dragonbox.h)))
NUMBER_FLAGS := $(if $(wildcard /usr/include/fast_float/fast_float.h),-DPN_HAVE_FAST_FLOAT=1) \
    $(if $(DRAGONBOX),-DPN_HAVE_DRAGONBOX=1 -isystem $(patsubst %/dragonbox/dragonbox.h,%,$(DRAGONBOX)))
# Instrumented code confuses gcc's flow analysis: warnings are errors in the plain build only.
WARN = -Wall -Wextra $(if $(filter plain,$(VARIANT)),-Werror)
COMMON = -Icsrc -Itests/c $(if $(MSGPACK),$(shell $(PKG_CONFIG) --cflags $(MSGPACK))) $(NUMBER_FLAGS) \
    -g $(VARIANT_FLAGS) -DPN_VERSION='"test"' -MMD -MP
C_FLAGS = -std=c11 $(WARN) -Wstrict-prototypes -Wpointer-arith $(COMMON)
CXX_FLAGS = -std=c++17 $(WARN) -fno-exceptions -fno-rtti $(COMMON)
LIBS = $(if $(MSGPACK),$(shell $(PKG_CONFIG) --libs $(MSGPACK)),-lmsgpackc) -lm -lpthread

# One build directory a variant: objects of one never meet objects of another.
VARIANT ?= plain
VARIANT_FLAGS_plain := -O2
VARIANT_FLAGS_asan := -O1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all
VARIANT_FLAGS_tsan := -O1 -fsanitize=thread
VARIANT_FLAGS_cov := -O0 --coverage
VARIANT_FLAGS = $(VARIANT_FLAGS_$(VARIANT))
OUT := build/ctest/$(VARIANT)

CORE_C := $(filter-out csrc/py/%,$(wildcard csrc/*/*.c))
CORE_CXX := $(wildcard csrc/codec/*.cpp)
CORE_OBJ := $(CORE_C:%.c=$(OUT)/%.o) $(CORE_CXX:%.cpp=$(OUT)/%.o)
TEST_C := $(wildcard tests/c/test_*.c)
# Helpers that the tests share (a failing allocator, a fault-injecting file layer).
HELP_OBJ := $(patsubst %.c,$(OUT)/%.o,$(filter-out $(TEST_C),$(wildcard tests/c/*.c)))
TESTS := $(TEST_C:tests/c/%.c=$(OUT)/%)

.PHONY: demo test bench asan setup ctest ctest-asan ctest-tsan lint fuzz-regress mutation clean
.SECONDARY:

demo test bench asan setup:
	@sh tools/run $@ $(ARGS)

ctest: $(TESTS)
	@sh tools/ctest.sh $(TESTS)

ctest-asan ctest-tsan:
	@$(MAKE) --no-print-directory ctest VARIANT=$(@:ctest-%=%)

$(OUT)/%.o: %.c
	@mkdir -p $(@D)
	@$(CC) $(C_FLAGS) -c $< -o $@

$(OUT)/%.o: %.cpp
	@mkdir -p $(@D)
	@$(CXX) $(CXX_FLAGS) -c $< -o $@

$(OUT)/libcore.a: $(CORE_OBJ)
	@rm -f $@
	@$(AR) rcs $@ $^

$(OUT)/test_%: $(OUT)/tests/c/test_%.o $(HELP_OBJ) $(OUT)/libcore.a
	@$(CXX) $(VARIANT_FLAGS) $^ $(LIBS) -o $@

lint:
	@$(PYTHON) tools/check_tree.py
	@for f in python/pannier/_core*.so build/lib*/pannier/_core*.so; do \
	    [ ! -e "$$f" ] || $(PYTHON) tools/check_exports.py "$$f" || exit 1; done

fuzz-regress: $(filter $(OUT)/test_fuzz%,$(TESTS))
	@sh tools/ctest.sh $^

mutation:
	@sh tools/run setup
	@.venv/bin/python tests/mutation/check.py $(ARGS)

clean:
	rm -rf build dist python/*.egg-info python/pannier/_core*.so

-include $(shell [ ! -d $(OUT) ] || find $(OUT) -name '*.d')

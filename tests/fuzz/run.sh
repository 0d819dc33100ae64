#!/bin/sh
# Fuzzes one target with libFuzzer for a while: sh tests/fuzz/run.sh json|mpack|number|rows|manifest|segment [SECONDS]
# Needs clang and its run-time (Debian: clang-14 libclang-rt-14-dev). New inputs go to
# build/fuzz/TARGET; a crashing one is left there as crash-*: fix it, then add it to
# tests/fuzz/corpus/TARGET, which tests/c/test_fuzz_corpus.c replays without libFuzzer.
set -eu
cd "$(dirname "$0")/../.."
target=$1
seconds=${2:-120}
clang=$(command -v clang || command -v clang-14)
out=build/fuzz/$target
mkdir -p "$out"
flags="-O1 -g -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all -Icsrc -Itests/fuzz"
numbers=
[ ! -e /usr/include/fast_float/fast_float.h ] || numbers="-DPN_HAVE_FAST_FLOAT=1"
for d in /usr/include/dragonbox-*; do
    [ ! -d "$d" ] || numbers="$numbers -DPN_HAVE_DRAGONBOX=1 -isystem $d"
done
for src in csrc/base/*.c csrc/codec/*.c csrc/os/*.c csrc/persist/*.c "tests/fuzz/fuzz_$target.c"; do
    $clang $flags -std=c11 -c "$src" -o "$out/$(basename "$src" .c).o"
done
$clang $flags -x c++ -std=c++17 -fno-exceptions -fno-rtti $numbers -c csrc/codec/number_leaf.cpp \
    -o "$out/number_leaf.o"
$clang -fsanitize=fuzzer,address,undefined "$out"/*.o -lstdc++ -lm -lpthread -o "$out/fuzz"
mkdir -p "$out/corpus"
exec "$out/fuzz" -max_total_time="$seconds" -max_len=4096 -timeout=20 -artifact_prefix="$out/" \
    "$out/corpus" "tests/fuzz/corpus/$target"

#!/bin/sh
# Runs C test programs; shows the output of those that fail, then one line of counts.
set -u
passed=0 failed=0 programs=0
for program in "$@"; do
    programs=$((programs + 1))
    if output=$("$program" 2>&1); then
        status=0
    else
        status=$?
    fi
    counts=$(printf '%s\n' "$output" | sed -n 's/^.*\b\([0-9][0-9]*\) passed, \([0-9][0-9]*\) failed.*$/\1 \2/p' | tail -n 1)
    p=${counts% *} f=${counts#* }
    if [ -z "$counts" ] || [ "$p" = 0 ]; then
        p=0 f=1 # crashed, or tested nothing
    fi
    [ $status -eq 0 ] || [ "$f" != 0 ] || f=1
    if [ "$f" != 0 ]; then
        printf -- '--- %s (exit %s)\n%s\n' "$program" "$status" "$output"
    fi
    passed=$((passed + p)) failed=$((failed + f))
done
if [ $programs -eq 0 ]; then
    echo "no C test programs found"
    exit 1
fi
echo "C tests: $programs programs, $passed passed, $failed failed"
[ $failed -eq 0 ]

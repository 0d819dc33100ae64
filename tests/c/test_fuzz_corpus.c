/* Replays the stored inputs of the fuzz targets (tests/fuzz) without a fuzzer. A property
 * that does not hold aborts, so a failure names the property; run from the tree's root. */
#include "check.h"

#include <dirent.h>
#include <stdint.h>
#include <stdlib.h>

#define LLVMFuzzerTestOneInput fuzz_json
#include "../fuzz/fuzz_json.c"
#undef LLVMFuzzerTestOneInput
#define LLVMFuzzerTestOneInput fuzz_manifest
#include "../fuzz/fuzz_manifest.c"
#undef LLVMFuzzerTestOneInput
#define LLVMFuzzerTestOneInput fuzz_mpack
#include "../fuzz/fuzz_mpack.c"
#undef LLVMFuzzerTestOneInput
#define LLVMFuzzerTestOneInput fuzz_number
#include "../fuzz/fuzz_number.c"
#undef LLVMFuzzerTestOneInput
#define LLVMFuzzerTestOneInput fuzz_rows
#include "../fuzz/fuzz_rows.c"
#undef LLVMFuzzerTestOneInput
#define LLVMFuzzerTestOneInput fuzz_segment
#include "../fuzz/fuzz_segment.c"
#undef LLVMFuzzerTestOneInput

static void replay_file(const char *path, int (*target)(const uint8_t *, size_t))
{
    FILE *f = fopen(path, "rb");
    CHECK(f != NULL);
    if (f == NULL) return;
    static uint8_t buffer[1 << 20];
    size_t n = fread(buffer, 1, sizeof buffer, f);
    fclose(f);
    uint8_t *exact = malloc(n ? n : 1); /* so that a sanitizer sees a read past the end */
    memcpy(exact, buffer, n);
    target(exact, n);
    free(exact);
}

static void replay(const char *name, int (*target)(const uint8_t *, size_t))
{
    char path[512];
    int files = 0;
    snprintf(path, sizeof path, "tests/fuzz/corpus/%s", name);
    DIR *dir = opendir(path);
    CHECK(dir != NULL);
    if (dir == NULL) return;
    for (struct dirent *e; (e = readdir(dir)) != NULL;) {
        if (e->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "tests/fuzz/corpus/%s/%.200s", name, e->d_name);
        replay_file(path, target);
        files++;
    }
    closedir(dir);
    CHECK(files > 5);
}

static void test_fuzz_json_corpus(void) { replay("json", fuzz_json); }
static void test_fuzz_manifest_corpus(void) { replay("manifest", fuzz_manifest); }
static void test_fuzz_mpack_corpus(void) { replay("mpack", fuzz_mpack); }
static void test_fuzz_number_corpus(void) { replay("number", fuzz_number); }
static void test_fuzz_rows_corpus(void) { replay("rows", fuzz_rows); }
static void test_fuzz_segment_corpus(void) { replay("segment", fuzz_segment); }

int main(void)
{
    RUN(test_fuzz_json_corpus);
    RUN(test_fuzz_manifest_corpus);
    RUN(test_fuzz_mpack_corpus);
    RUN(test_fuzz_number_corpus);
    RUN(test_fuzz_rows_corpus);
    RUN(test_fuzz_segment_corpus);
    return check_summary();
}

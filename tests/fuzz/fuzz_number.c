/* Any bytes as a number, against the C library; any eight bytes as a double, printed and
 * read back. */
#include "codec/number.h"

#include "demand.h"

#include <math.h>

static void check_text(const uint8_t *data, size_t size)
{
    double v;
    const uint8_t *end = pn_double_read(data, data + size, &v);
    if (end == NULL) return;
    size_t n = (size_t)(end - data);
    DEMAND(n > 0 && n <= size);
    char *text = malloc(n + 1), *stop;
    memcpy(text, data, n);
    text[n] = 0;
    double want = strtod(text, &stop);
    DEMAND(stop == text + n && memcmp(&v, &want, sizeof v) == 0);
    free(text);
}

static void check_bits(const uint8_t *data)
{
    char text[PN_DOUBLE_TEXT_MAX];
    double v, again;
    memcpy(&v, data, sizeof v);
    size_t n = pn_double_print(v, text);
    DEMAND(n > 0 && n < sizeof text);
    if (!isfinite(v)) return;
    DEMAND(pn_double_read((uint8_t *)text, (uint8_t *)text + n, &again) == (uint8_t *)text + n);
    DEMAND(memcmp(&v, &again, sizeof v) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    check_text(data, size);
    if (size >= 8) check_bits(data);
    return 0;
}

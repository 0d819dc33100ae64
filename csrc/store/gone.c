#include "store/gone.h"

static size_t size_of(const pn_struct *s)
{
    size_t bytes = sizeof *s;
    for (size_t i = 0; i < s->count; i++) {
        const pn_column *c = &s->columns[i];
        bytes += c->text.cap + c->row_cap * sizeof *c->lens + c->word_cap * sizeof *c->words;
    }
    return bytes;
}

void pn_gone_add(pn_gone *gone, pn_struct *s, const pn_host *host)
{
    size_t bytes = size_of(s);
    if (bytes > PN_GONE_MOST - gone->bytes) pn_gone_free(gone, SIZE_MAX, host);
    if (bytes > PN_GONE_MOST) {
        pn_struct_free(s, host);
        return;
    }
    s->next = gone->first;
    gone->first = s;
    gone->bytes += bytes;
}

void pn_gone_free_slow(pn_gone *gone, size_t effort, const pn_host *host)
{
    while (gone->first != NULL && effort) {
        pn_struct *s = gone->first, *next = s->next;
        size_t before = size_of(s);
        bool all = pn_struct_free_some(s, &effort, host);
        gone->bytes -= all ? before : before - size_of(s);
        if (all) gone->first = next;
    }
}

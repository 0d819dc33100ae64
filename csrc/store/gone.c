#include "store/gone.h"

void pn_gone_add(pn_gone *gone, pn_struct *s, const pn_host *host)
{
    if (s->bytes == 0) pn_struct_measure(s);
    if (s->bytes > PN_GONE_MOST - gone->bytes) pn_gone_free(gone, SIZE_MAX, host);
    if (s->bytes > PN_GONE_MOST) {
        pn_struct_free(s, host);
        return;
    }
    s->next = gone->first;
    gone->first = s;
    gone->bytes += s->bytes;
}

void pn_gone_free_slow(pn_gone *gone, size_t effort, const pn_host *host)
{
    while (gone->first != NULL && effort) {
        pn_struct *s = gone->first, *next = s->next;
        size_t bytes = s->bytes;
        if (!pn_struct_free_some(s, &effort, host)) return;
        gone->first = next;
        gone->bytes -= bytes;
    }
}

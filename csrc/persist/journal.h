/* journal.h: the text of `.pannier-commit`, which makes a commit of several files one.
 *
 * While the file exists, the commit it describes has happened: whoever opens the
 * directory finishes it (recover.h) or reads through it. Its bytes are specified in
 * FORMAT.md, chapter "The commit journal"; in short
 *
 *     pannier-commit 1
 *     rename 8a91c2f0 5210 4711:1700000000123456789 .pannier-00000000-<16 hex>.tmp docstore.json
 *     copy   ...
 *     end 2 <crc of all above>
 *
 * A journal in memory owns its entries and their strings. One owner, no locking.
 * Parsing and writing are linear in the text (finding equal names: in its square,
 * over at most PN_JOURNAL_MAX entries).
 */
#ifndef PN_PERSIST_JOURNAL_H
#define PN_PERSIST_JOURNAL_H

#include "os/file.h"

#define PN_JOURNAL_NAME ".pannier-commit"
#define PN_STAGED_PREFIX ".pannier-"
#define PN_STAGED_SUFFIX ".tmp"
enum {
    PN_STAGED_LEN = 9 + 8 + 1 + 16 + 4, /* .pannier-<8 hex>-<16 hex>.tmp */
    PN_JOURNAL_MAX = 10000,
};

typedef struct pn_journal_entry {
    bool copy;         /* the staged bytes are written over the file; else renamed onto it */
    bool had_old;      /* there was a file: its length and mtime follow */
    uint32_t crc;      /* of the staged bytes */
    uint64_t size;
    uint64_t old_size;
    int64_t old_mtime; /* nanoseconds */
    char *name;        /* final name, relative to the journal's directory */
    char staged[PN_STAGED_LEN + 1]; /* name without directory */
} pn_journal_entry;

typedef struct pn_journal {
    const pn_alloc *alloc;
    pn_journal_entry *entries;
    size_t len;
} pn_journal;

void pn_journal_init(pn_journal *j, const pn_alloc *alloc);
/* Room for n zeroed entries, once; the caller fills them and names them. */
pn_status pn_journal_reserve(pn_journal *j, size_t n);
pn_status pn_journal_name(pn_journal *j, size_t i, const char *name, size_t len); /* copies */
void pn_journal_clear(pn_journal *j);

/* A name that a commit may write: relative, of components that are neither empty,
 * "." nor "..", and none of pannier's own. */
bool pn_journal_name_ok(const char *name);

/* A name for a staged file. `tag` tells commits of different directories apart. */
void pn_staged_name(uint32_t tag, uint64_t random, char to[PN_STAGED_LEN + 1]);
/* Whether a name has that form; *tag (may be NULL) is its tag. */
bool pn_staged_name_parse(const char *name, uint32_t *tag);

pn_status pn_journal_write(const pn_journal *j, pn_buf *out);
/* Into an initialised, empty journal. PN_ERR_CORRUPT with a constant reason in err
 * when the text is not valid; the journal is then empty. */
pn_status pn_journal_parse(pn_journal *j, pn_bytes text, pn_error *err);

#endif

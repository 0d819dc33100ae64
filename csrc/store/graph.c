#include "store/graph.h"

#include "base/hash.h"
#include "codec/json_read.h"
#include "codec/json_write.h"
#include "store/batch.h"

#include <assert.h>

#define GONE UINT32_MAX /* the relation of a removed pair; a grave in an index */
enum { LINEAR = 8, MIN_SLOTS = 32, MAX_IDLE = 16 };

typedef struct pair {
    uint32_t rel, obj; /* word ids */
} pair;

struct pn_links {
    void *live;      /* set: the rest is zero */
    union {
        pair one;    /* while cap is 0: many a subject has a single pair */
        pair *many;
    } at;
    uint32_t *index; /* pair number + 1, 0 empty, GONE a grave; NULL while used <= LINEAR */
    uint32_t used;   /* pairs, removed ones included */
    uint32_t count;  /* pairs */
    uint32_t cap;    /* room at `many` */
    uint32_t mask;   /* slots - 1 */
};

typedef struct word {
    const uint8_t *ptr; /* bytes owned by the entry in words */
    uint32_t len;
    uint32_t uses; /* 0: idle, or free if ptr is NULL: then len is the next free id */
} word;

struct pn_graph {
    const pn_alloc *alloc;
    pn_omap subjects; /* text -> pn_links */
    pn_omap words;    /* text -> uint32_t id */
    word *table;      /* id -> word */
    uint32_t table_len, table_cap, free_id; /* free_id: GONE when none */
    size_t live, idle; /* live subjects; words without a use */
    pn_graph_track track;
};

/* ---- words ---- */

static pn_status word_room(pn_graph *g)
{
    if (g->free_id != GONE || g->table_len < g->table_cap) return PN_OK;
    PN_FAIL_IF(g->table_len >= UINT32_MAX - 16, PN_ERR_RANGE);
    size_t cap = (size_t)g->table_cap + g->table_cap / 2 + 16;
    if (cap > UINT32_MAX - 16) cap = UINT32_MAX - 16;
    PN_FAIL_IF(cap > SIZE_MAX / sizeof(word), PN_ERR_NOMEM);
    word *table = pn_alloc_grow(g->alloc, g->table, cap * sizeof(word));
    PN_FAIL_IF(table == NULL, PN_ERR_NOMEM);
    g->table = table;
    g->table_cap = (uint32_t)cap;
    return PN_OK;
}

static uint32_t take_id(pn_graph *g)
{
    if (g->free_id == GONE) return g->table_len++;
    uint32_t id = g->free_id;
    g->free_id = g->table[id].len;
    return id;
}

/* One more use of a word, whose hash is known. `owner` holds its bytes; NULL: they are copied if
 * it is new. */
static pn_status word_use(pn_graph *g, pn_bytes text, uint32_t hash, pn_blob *owner, uint32_t *id)
{
    void *value;
    bool added;
    PN_TRY(word_room(g));
    PN_TRY(pn_omap_put_hashed(&g->words, text, hash, owner, &value, &added));
    if (!added) {
        memcpy(id, value, sizeof *id);
        PN_FAIL_IF(g->table[*id].uses == UINT32_MAX, PN_ERR_RANGE);
        g->idle -= g->table[*id].uses == 0;
        g->table[*id].uses++;
        return PN_OK;
    }
    *id = take_id(g);
    memcpy(value, id, sizeof *id);
    pn_bytes kept = pn_omap_key_of(value);
    g->table[*id] = (word){kept.ptr, (uint32_t)kept.len, 1};
    return PN_OK;
}

static pn_bytes word_text(const pn_graph *g, uint32_t id) { return (pn_bytes){g->table[id].ptr, g->table[id].len}; }

/* Words without a use leave together, when they are many. */
static void sweep_words(pn_graph *g)
{
    size_t pos = 0;
    pn_bytes text;
    void *value;
    while (pn_omap_next(&g->words, &pos, &text, &value)) {
        uint32_t id;
        memcpy(&id, value, sizeof id);
        if (g->table[id].uses > 0) continue;
        pn_omap_remove(&g->words, text, NULL);
        g->table[id] = (word){NULL, g->free_id, 0};
        g->free_id = id;
    }
    g->idle = 0;
}

static void word_drop(pn_graph *g, uint32_t id)
{
    if (--g->table[id].uses == 0 && ++g->idle > MAX_IDLE && g->idle > pn_omap_len(&g->words) / 2) sweep_words(g);
}

/* The hashes of a triplet. Their places in the tables of a graph of some size, which is seldom
 * in the cache, are brought near all at once: a change waits for little else. */
enum { SOME_SIZE = 512 };
typedef struct hashes {
    uint32_t subj, rel, obj;
} hashes;

static void words_near(const pn_graph *g, pn_bytes rel, pn_bytes obj, hashes *h)
{
    h->rel = pn_omap_near(&g->words, rel);
    h->obj = pn_omap_near(&g->words, obj);
}

static hashes triplet_near(const pn_graph *g, pn_bytes subj, pn_bytes rel, pn_bytes obj)
{
    hashes h = {.subj = pn_omap_near(&g->subjects, subj)};
    words_near(g, rel, obj, &h);
    if (pn_omap_len(&g->words) < SOME_SIZE) return h;
    pn_omap_nearer(&g->subjects, h.subj);
    pn_omap_nearer(&g->words, h.rel);
    pn_omap_nearer(&g->words, h.obj);
    return h;
}

/* ---- the pairs of one subject ---- */

static const pair *pairs_of(const pn_links *l) { return l->cap ? l->at.many : &l->at.one; }
static pair *own_pairs(pn_links *l) { return l->cap ? l->at.many : &l->at.one; }
static uint32_t room_of(const pn_links *l) { return l->cap ? l->cap : 1; }

static bool same(pair a, pair b) { return a.rel == b.rel && a.obj == b.obj; }

/* Ids are handed out by us in order of arrival, so no input can aim at collisions
 * worth a keyed hash. */
static uint32_t spread(pair p)
{
    uint64_t h = ((uint64_t)p.rel << 32 | p.obj) * UINT64_C(0x9E3779B97F4A7C15);
    return (uint32_t)(h >> 32) ^ (uint32_t)h;
}

static void index_put(pn_links *l, uint32_t number)
{
    uint32_t i = spread(pairs_of(l)[number]) & l->mask;
    for (uint32_t step = 1; l->index[i] != 0 && l->index[i] != GONE; step++) i = (i + step) & l->mask;
    l->index[i] = number + 1;
}

/* The number of the pair, or GONE; *slot is where the index holds it. */
static uint32_t find_pair(const pn_links *l, pair p, uint32_t *slot)
{
    const pair *pairs = pairs_of(l);
    *slot = 0;
    if (l->index == NULL) {
        for (uint32_t n = 0; n < l->used; n++)
            if (same(pairs[n], p)) return n;
        return GONE;
    }
    uint32_t i = spread(p) & l->mask;
    for (uint32_t step = 1; l->index[i] != 0; i = (i + step++) & l->mask) {
        if (l->index[i] == GONE || !same(pairs[l->index[i] - 1], p)) continue;
        *slot = i;
        return l->index[i] - 1;
    }
    return GONE;
}

/* Closes the gaps of removed pairs; needs no memory. */
static void sweep(pn_links *l)
{
    uint32_t to = 0;
    pair *pairs = own_pairs(l);
    for (uint32_t from = 0; from < l->used; from++)
        if (pairs[from].rel != GONE) pairs[to++] = pairs[from];
    assert(to == l->count);
    l->used = to;
    if (l->index == NULL) return;
    memset(l->index, 0, ((size_t)l->mask + 1) * sizeof *l->index);
    for (uint32_t n = 0; n < to; n++) index_put(l, n);
}

/* An index with room for n pairs, at most 2/3 full. */
static pn_status index_grow(const pn_alloc *alloc, pn_links *l, size_t n)
{
    size_t slots = MIN_SLOTS;
    while (slots / 3 * 2 < n) slots *= 2;
    if (l->index != NULL && l->mask + (size_t)1 >= slots) return PN_OK;
    PN_FAIL_IF(slots > UINT32_MAX, PN_ERR_RANGE);
    uint32_t *index = pn_alloc_zero(alloc, slots, sizeof *index);
    PN_FAIL_IF(index == NULL, PN_ERR_NOMEM);
    pn_alloc_put(alloc, l->index);
    l->index = index;
    l->mask = (uint32_t)slots - 1;
    sweep(l);
    return PN_OK;
}

static pn_status grow_pairs(const pn_alloc *alloc, pn_links *l)
{
    PN_FAIL_IF(l->cap >= UINT32_MAX - 16, PN_ERR_RANGE);
    uint64_t cap = (uint64_t)room_of(l) + room_of(l) / 2 + 1;
    if (cap > UINT32_MAX - 16) cap = UINT32_MAX - 16;
    PN_FAIL_IF(cap > SIZE_MAX / sizeof(pair), PN_ERR_NOMEM);
    pair *pairs = pn_alloc_grow(alloc, l->cap ? l->at.many : NULL, (size_t)cap * sizeof(pair));
    PN_FAIL_IF(pairs == NULL, PN_ERR_NOMEM);
    if (l->cap == 0) pairs[0] = l->at.one;
    l->at.many = pairs;
    l->cap = (uint32_t)cap;
    return PN_OK;
}

/* Room for one more pair, and an index once the pairs are many. Slots in use, graves
 * included, never outnumber `used`: a sweep clears both. */
static pn_status pair_room(const pn_alloc *alloc, pn_links *l)
{
    if (l->used == room_of(l) && l->count < l->used - l->used / 4) sweep(l);
    if (l->used == room_of(l)) PN_TRY(grow_pairs(alloc, l));
    return l->used < LINEAR ? PN_OK : index_grow(alloc, l, (size_t)l->used + 1);
}

static void append_pair(pn_links *l, pair p)
{
    own_pairs(l)[l->used] = p;
    if (l->index != NULL) index_put(l, l->used);
    l->used++;
    l->count++;
}

static void free_pairs(pn_graph *g, pn_links *l)
{
    if (l->cap) pn_alloc_put(g->alloc, l->at.many);
    pn_alloc_put(g->alloc, l->index);
    *l = (pn_links){0};
}

static void drop_pairs(pn_graph *g, pn_links *l)
{
    const pair *pairs = pairs_of(l);
    for (uint32_t n = 0; n < l->used; n++) {
        if (pairs[n].rel == GONE) continue;
        word_drop(g, pairs[n].rel);
        word_drop(g, pairs[n].obj);
    }
    free_pairs(g, l);
}

/* ---- the graph ---- */

/* The first triplets find their tables made. */
static pn_status first_room(pn_graph *g)
{
    enum { SUBJECTS = 4, WORDS = 8 };
    PN_TRY(pn_omap_reserve(&g->subjects, SUBJECTS));
    PN_TRY(pn_omap_reserve(&g->words, WORDS));
    return word_room(g);
}

pn_status pn_graph_new(const pn_alloc *alloc, pn_graph **out)
{
    pn_graph *g = pn_alloc_zero(alloc, 1, sizeof *g);
    PN_FAIL_IF(g == NULL, PN_ERR_NOMEM);
    g->alloc = alloc;
    g->free_id = GONE;
    pn_omap_init(&g->subjects, alloc, sizeof(pn_links));
    pn_omap_init(&g->words, alloc, sizeof(uint32_t));
    pn_changes_init(&g->track.changes, alloc);
    pn_changes_init(&g->track.taken, alloc);
    pn_omap_init(&g->track.lives, alloc, sizeof(pn_live_note *));
    pn_status s = first_room(g);
    if (s == PN_OK) *out = g;
    else pn_graph_free(g, NULL, NULL);
    return s;
}

void pn_graph_free(pn_graph *g, pn_graph_release release, void *ctx)
{
    if (g == NULL) return;
    size_t pos = 0;
    pn_bytes subj;
    void *value;
    while (pn_omap_next(&g->subjects, &pos, &subj, &value)) {
        pn_links *l = value;
        void *live = l->live;
        free_pairs(g, l);
        if (live != NULL && release != NULL) release(ctx, live);
    }
    pn_omap_clear(&g->subjects);
    pn_omap_clear(&g->words);
    pn_changes_clear(&g->track.changes);
    pn_changes_clear(&g->track.taken);
    pn_live_notes_clear(&g->track.lives);
    pn_alloc_put(g->alloc, g->table);
    pn_alloc_put(g->alloc, g);
}

pn_graph_track *pn_graph_track_of(pn_graph *g) { return &g->track; }

static void note_put(pn_graph *g, const pn_links *l, bool fresh)
{
    pn_changes_put(&g->track.changes, pn_omap_key_of(l), pn_omap_owner_of(l), fresh);
}

size_t pn_graph_len(const pn_graph *g) { return pn_omap_len(&g->subjects); }
size_t pn_graph_live(const pn_graph *g) { return g->live; }
size_t pn_graph_words(const pn_graph *g) { return pn_omap_len(&g->words) - g->idle; }

const pn_links *pn_graph_find(const pn_graph *g, pn_bytes subj) { return pn_omap_get(&g->subjects, subj); }

bool pn_graph_next(const pn_graph *g, size_t *pos, pn_bytes *subj, const pn_links **links)
{
    void *value;
    if (!pn_omap_next(&g->subjects, pos, subj, &value)) return false;
    *links = value;
    return true;
}

void *pn_links_live(const pn_links *links) { return links->live; }
size_t pn_links_len(const pn_links *links) { return links->count; }

bool pn_links_next(const pn_graph *g, const pn_links *links, size_t *pos, pn_bytes *rel, pn_bytes *obj)
{
    while (*pos < links->used) {
        pair p = pairs_of(links)[(*pos)++];
        if (p.rel == GONE) continue;
        *rel = word_text(g, p.rel);
        *obj = word_text(g, p.obj);
        return true;
    }
    return false;
}

typedef struct step {
    pn_bytes subj;
    const pn_links *links; /* NULL: no such subject */
    size_t pos, left;      /* left: pairs that it may still give */
} step;

/* The next pair of a step, live or native; *more is false when it gives none any more. */
static pn_status step_next(const pn_graph *g, step *at, pn_graph_read read, void *ctx, pn_bytes *rel, pn_bytes *obj,
                           bool *more)
{
    *more = false;
    if (at->links == NULL) return PN_OK;
    if (at->links->live != NULL) {
        PN_FAIL_IF(read == NULL, PN_ERR_UNSUPPORTED);
        PN_TRY(read(ctx, at->links->live, &at->pos, rel, obj, more));
        *more = *more && at->left > 0;
    } else if (at->left > 0) {
        *more = pn_links_next(g, at->links, &at->pos, rel, obj);
    }
    at->left -= *more;
    return PN_OK;
}

pn_status pn_graph_follow(const pn_graph *g, pn_bytes subj, const pn_graph_walk *walk, pn_graph_visit visit,
                          pn_graph_read read, void *ctx)
{
    step way[PN_GRAPH_MAX_DEPTH];
    PN_FAIL_IF(walk->depth > PN_GRAPH_MAX_DEPTH, PN_ERR_RANGE);
    if (walk->depth == 0) return PN_OK;
    way[0] = (step){subj, pn_graph_find(g, subj), 0, walk->limit};
    for (size_t deep = 1, room = walk->room; deep > 0 && room > 0;) {
        step *at = &way[deep - 1];
        pn_bytes rel, obj;
        bool more;
        PN_TRY(step_next(g, at, read, ctx, &rel, &obj, &more));
        if (!more) {
            deep--;
            continue;
        }
        room--;
        PN_TRY(visit(ctx, at->subj, rel, obj));
        if (deep < walk->depth) way[deep++] = (step){obj, pn_graph_find(g, obj), 0, walk->inner_limit};
    }
    return PN_OK;
}

/* Adds one pair to native links; *added tells whether it was new. Words may be left
 * behind with no pair only if it fails, and then it takes them back. */
static pn_status link_words(pn_graph *g, pn_links *l, pair p, bool *added)
{
    uint32_t slot;
    *added = find_pair(l, p, &slot) == GONE;
    if (!*added) return PN_OK;
    PN_TRY(pair_room(g->alloc, l));
    append_pair(l, p);
    return PN_OK;
}

/* `owner` as in word_use, for both texts each. */
static pn_status link_texts(pn_graph *g, pn_links *l, const hashes *h, pn_bytes rel, pn_blob *rel_owner, pn_bytes obj,
                            pn_blob *obj_owner, bool *added)
{
    pair p;
    bool fresh = false;
    PN_TRY(word_use(g, rel, h->rel, rel_owner, &p.rel));
    pn_status s = word_use(g, obj, h->obj, obj_owner, &p.obj);
    if (s != PN_OK) {
        word_drop(g, p.rel);
        return s;
    }
    s = link_words(g, l, p, &fresh);
    if (!fresh || s != PN_OK) {
        word_drop(g, p.rel);
        word_drop(g, p.obj);
    }
    if (s == PN_OK) *added = fresh;
    return s;
}

pn_status pn_graph_upsert(pn_graph *g, pn_bytes subj, pn_bytes rel, pn_bytes obj, bool *added)
{
    void *value;
    bool fresh;
    PN_FAIL_IF(subj.len > UINT32_MAX || rel.len > UINT32_MAX || obj.len > UINT32_MAX, PN_ERR_RANGE);
    hashes h = triplet_near(g, subj, rel, obj);
    PN_TRY(pn_omap_put_hashed(&g->subjects, subj, h.subj, NULL, &value, &fresh));
    pn_links *l = value;
    PN_FAIL_IF(l->live != NULL, PN_ERR_UNSUPPORTED);
    pn_status s = link_texts(g, l, &h, rel, NULL, obj, NULL, added);
    if (s == PN_OK && *added) note_put(g, l, fresh);
    if (s != PN_OK && fresh) {
        drop_pairs(g, l);
        pn_omap_remove_hashed(&g->subjects, subj, h.subj, NULL);
    }
    return s;
}

/* The pair of two texts, if both are words. */
static bool known_pair(const pn_graph *g, const hashes *h, pn_bytes rel, pn_bytes obj, pair *p)
{
    const uint32_t *r = pn_omap_get_hashed(&g->words, rel, h->rel), *o = pn_omap_get_hashed(&g->words, obj, h->obj);
    if (r == NULL || o == NULL) return false;
    *p = (pair){*r, *o};
    return true;
}

/* The n-th pair goes, which the index holds in the slot. */
static void take_pair(pn_graph *g, pn_links *l, uint32_t n, uint32_t slot)
{
    pair *at = &own_pairs(l)[n], p = *at;
    *at = (pair){GONE, GONE};
    l->count--;
    if (l->index != NULL) l->index[slot] = GONE;
    if (l->count < l->used / 2 || l->count == 0) sweep(l);
    word_drop(g, p.rel);
    word_drop(g, p.obj);
}

pn_status pn_graph_delete(pn_graph *g, pn_bytes subj, pn_bytes rel, pn_bytes obj, bool keep, bool *removed)
{
    hashes h = triplet_near(g, subj, rel, obj);
    pn_links *l = pn_omap_get_hashed(&g->subjects, subj, h.subj);
    PN_FAIL_IF(l != NULL && l->live != NULL, PN_ERR_UNSUPPORTED);
    pair p;
    uint32_t slot, n = l != NULL && known_pair(g, &h, rel, obj, &p) ? find_pair(l, p, &slot) : GONE;
    *removed = n != GONE;
    if (n == GONE) return PN_OK;
    take_pair(g, l, n, slot);
    if (keep || l->count > 0) {
        note_put(g, l, false);
        return PN_OK;
    }
    pn_changes_remove(&g->track.changes, subj);
    free_pairs(g, l);
    pn_omap_remove_hashed(&g->subjects, pn_omap_key_of(l), h.subj, NULL);
    return PN_OK;
}

static void swap_value(pn_graph *g, pn_links *l, void *live, void **old)
{
    *old = l->live;
    g->live += (live != NULL) - (size_t)(l->live != NULL);
    drop_pairs(g, l);
    l->live = live;
}

static pn_status set_value(pn_graph *g, pn_bytes subj, void *live, void **old)
{
    void *value;
    bool fresh;
    PN_TRY(pn_omap_put(&g->subjects, subj, NULL, &value, &fresh));
    swap_value(g, value, live, old);
    note_put(g, value, fresh);
    return PN_OK;
}

void pn_graph_swap_live(pn_graph *g, pn_bytes subj, void *live, void **old)
{
    swap_value(g, pn_omap_get(&g->subjects, subj), live, old);
}

pn_status pn_graph_set_live(pn_graph *g, pn_bytes subj, void *live, void **old)
{
    PN_FAIL_IF(live == NULL, PN_ERR_INVALID);
    return set_value(g, subj, live, old);
}

pn_status pn_graph_set_native(pn_graph *g, pn_bytes subj, void **old) { return set_value(g, subj, NULL, old); }

bool pn_graph_remove(pn_graph *g, pn_bytes subj, void **old)
{
    pn_links gone;
    if (!pn_omap_remove(&g->subjects, subj, &gone)) return false;
    pn_changes_remove(&g->track.changes, subj);
    *old = gone.live;
    g->live -= gone.live != NULL;
    drop_pairs(g, &gone);
    return true;
}

/* ---- loading ---- */

typedef struct loader {
    pn_graph *g;
    pn_json_reader r;
    pn_blob *text;
    pn_buf scratch[2]; /* a relation and an object that had escapes */
} loader;

/* The characters of a string: in the text itself, or unescaped into *scratch. */
static pn_status plain_text(loader *ld, const pn_json_str *s, pn_buf *scratch, pn_bytes *out, pn_blob **owner)
{
    *owner = s->has_escape ? NULL : ld->text;
    *out = (pn_bytes){s->ptr, s->len};
    if (!s->has_escape) return PN_OK;
    scratch->len = 0;
    PN_TRY(pn_json_unescape(s, scratch));
    *out = pn_buf_view(scratch);
    return PN_OK;
}

/* The next element of the pair that is being read, which must be a string. */
static pn_status read_word(loader *ld, pn_buf *scratch, pn_bytes *out, pn_blob **owner)
{
    bool more;
    pn_json_str s;
    PN_TRY(pn_json_array_next(&ld->r, &more));
    PN_FAIL_IF(!more || pn_json_peek(&ld->r) != PN_JSON_STRING, PN_ERR_UNSUPPORTED);
    PN_TRY(pn_json_string(&ld->r, &s));
    return plain_text(ld, &s, scratch, out, owner);
}

static pn_status load_pair(loader *ld, pn_links *l)
{
    pn_bytes rel, obj;
    pn_blob *rel_owner, *obj_owner;
    bool more, added;
    hashes h = {0};
    PN_FAIL_IF(pn_json_peek(&ld->r) != PN_JSON_ARRAY, PN_ERR_UNSUPPORTED);
    PN_TRY(pn_json_array_begin(&ld->r));
    PN_TRY(read_word(ld, &ld->scratch[0], &rel, &rel_owner));
    PN_TRY(read_word(ld, &ld->scratch[1], &obj, &obj_owner));
    PN_TRY(pn_json_array_next(&ld->r, &more));
    PN_FAIL_IF(more, PN_ERR_UNSUPPORTED);
    words_near(ld->g, rel, obj, &h);
    PN_TRY(link_texts(ld->g, l, &h, rel, rel_owner, obj, obj_owner, &added));
    return added ? PN_OK : PN_ERR_UNSUPPORTED;
}

static pn_status load_links(loader *ld, pn_links *l)
{
    bool more;
    PN_FAIL_IF(pn_json_peek(&ld->r) != PN_JSON_ARRAY, PN_ERR_UNSUPPORTED);
    PN_TRY(pn_json_array_begin(&ld->r));
    for (;;) {
        PN_TRY(pn_json_array_next(&ld->r, &more));
        if (!more) return PN_OK;
        PN_TRY(load_pair(ld, l));
    }
}

static pn_status load_subjects(loader *ld)
{
    PN_FAIL_IF(pn_json_peek(&ld->r) != PN_JSON_OBJECT, PN_ERR_UNSUPPORTED);
    PN_TRY(pn_json_object_begin(&ld->r));
    for (;;) {
        pn_json_str key;
        pn_bytes subj;
        pn_blob *owner;
        void *links;
        bool more, added;
        PN_TRY(pn_json_object_next(&ld->r, &key, &more));
        if (!more) return PN_OK;
        PN_TRY(plain_text(ld, &key, &ld->scratch[0], &subj, &owner));
        PN_TRY(pn_omap_put(&ld->g->subjects, subj, owner, &links, &added));
        PN_FAIL_IF(!added, PN_ERR_UNSUPPORTED);
        PN_TRY(load_links(ld, links));
    }
}

static void loader_init(loader *ld, pn_graph *g, pn_blob *text, pn_bytes from)
{
    *ld = (loader){.g = g, .text = text};
    pn_json_reader_init(&ld->r, from);
    pn_buf_init(&ld->scratch[0], g->alloc);
    pn_buf_init(&ld->scratch[1], g->alloc);
}

static void loader_clear(loader *ld)
{
    pn_buf_clear(&ld->scratch[0]);
    pn_buf_clear(&ld->scratch[1]);
}

static pn_status load_list(loader *ld, pn_links *l)
{
    PN_TRY(load_links(ld, l));
    return pn_json_end(&ld->r);
}

pn_status pn_graph_load_links(pn_graph *g, pn_bytes subj, pn_blob *owner, pn_blob *text, pn_bytes list)
{
    loader ld;
    void *links;
    bool added;
    PN_TRY(pn_omap_put(&g->subjects, subj, owner, &links, &added));
    PN_FAIL_IF(!added, PN_ERR_UNSUPPORTED);
    loader_init(&ld, g, text, list);
    pn_status s = load_list(&ld, links);
    loader_clear(&ld);
    return s;
}

static pn_status load_file(loader *ld)
{
    pn_json_str key;
    bool more;
    PN_FAIL_IF(pn_json_peek(&ld->r) != PN_JSON_OBJECT, PN_ERR_UNSUPPORTED);
    PN_TRY(pn_json_object_begin(&ld->r));
    PN_TRY(pn_json_object_next(&ld->r, &key, &more));
    PN_FAIL_IF(!more || !pn_bytes_equal((pn_bytes){key.ptr, key.len}, PN_BYTES("graph_dict")), PN_ERR_UNSUPPORTED);
    PN_TRY(load_subjects(ld));
    PN_TRY(pn_json_object_next(&ld->r, &key, &more));
    PN_FAIL_IF(more, PN_ERR_UNSUPPORTED);
    return pn_json_end(&ld->r);
}

pn_status pn_graph_load(const pn_alloc *alloc, pn_blob *text, pn_graph **out, pn_error *err)
{
    loader ld;
    pn_graph *g;
    PN_TRY(pn_graph_new(alloc, &g));
    loader_init(&ld, g, text, pn_blob_view(text));
    pn_status s = load_file(&ld);
    loader_clear(&ld);
    if (s == PN_OK) {
        *out = g;
        return PN_OK;
    }
    pn_graph_free(g, NULL, NULL);
    if (err != NULL && (s == PN_ERR_SYNTAX || s == PN_ERR_UTF8 || s == PN_ERR_DEPTH)) *err = ld.r.error;
    return s;
}

/* ---- saving ---- */

static pn_status save_pairs(const pn_graph *g, const pn_links *l, pn_buf *out)
{
    size_t pos = 0;
    pn_bytes rel, obj;
    PN_TRY(pn_buf_push(out, '['));
    for (bool first = true; pn_links_next(g, l, &pos, &rel, &obj); first = false) {
        PN_TRY(first ? pn_buf_push(out, '[') : PN_BUF_LIT(out, ", ["));
        PN_TRY(pn_json_put_string(out, rel));
        PN_TRY(PN_BUF_LIT(out, ", "));
        PN_TRY(pn_json_put_string(out, obj));
        PN_TRY(pn_buf_push(out, ']'));
    }
    return pn_buf_push(out, ']');
}

pn_status pn_graph_write_links(const pn_graph *g, const pn_links *links, pn_graph_encode encode, void *ctx, pn_buf *out)
{
    if (links->live == NULL) return save_pairs(g, links, out);
    PN_FAIL_IF(encode == NULL, PN_ERR_INVALID);
    return encode(ctx, links->live, out);
}

static pn_status save_file(const pn_graph *g, pn_graph_encode encode, void *ctx, pn_buf *out)
{
    size_t pos = 0;
    pn_bytes subj;
    const pn_links *links;
    PN_TRY(PN_BUF_LIT(out, "{\"graph_dict\": {"));
    for (bool first = true; pn_graph_next(g, &pos, &subj, &links); first = false) {
        if (!first) PN_TRY(PN_BUF_LIT(out, ", "));
        PN_TRY(pn_json_put_string(out, subj));
        PN_TRY(PN_BUF_LIT(out, ": "));
        PN_TRY(pn_graph_write_links(g, links, encode, ctx, out));
    }
    return PN_BUF_LIT(out, "}}");
}

pn_status pn_graph_save(const pn_graph *g, pn_graph_encode encode, void *ctx, pn_buf *out)
{
    size_t start = out->len;
    pn_status s = save_file(g, encode, ctx, out);
    if (s != PN_OK) out->len = start;
    return s;
}

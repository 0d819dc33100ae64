/* filter.h: metadata filters evaluated on JSON text, without building values.
 *
 * The text is a cell of the vector store: *canonical* JSON (json_read.h), so equal
 * strings are equal bytes, keys occur once and nothing has to be validated again.
 *
 * The rules are Python's, since the filters of the store that this stands in for are
 * Python comparisons: True is 1, 1 is 1.0, strings compare by code point, a missing key
 * or null matches != and nin only. Wherever Python would raise (str > int), or where
 * telling exactly takes more than text (integers beyond 64 bits, nested lists, lower()
 * of non-ASCII text), the answer is PN_MATCH_ASK: the caller decides with Python.
 *
 * O(length of the text) for each evaluation; pure, thread safe.
 */
#ifndef PN_STORE_FILTER_H
#define PN_STORE_FILTER_H

#include "base/buffer.h"

typedef enum pn_filter_op {
    PN_OP_EQ,
    PN_OP_NE,
    PN_OP_GT,
    PN_OP_GTE,
    PN_OP_LT,
    PN_OP_LTE,
    PN_OP_IN,
    PN_OP_NIN,
    PN_OP_CONTAINS,
    PN_OP_TEXT_MATCH,
    PN_OP_TEXT_MATCH_INSENSITIVE,
    PN_OP_ALL,
    PN_OP_ANY,
    PN_OP_IS_EMPTY
} pn_filter_op;

typedef enum pn_filter_condition { PN_COND_AND, PN_COND_OR, PN_COND_NOT } pn_filter_condition;

typedef enum pn_match { PN_MATCH_NO, PN_MATCH_YES, PN_MATCH_ASK } pn_match;

typedef enum pn_scalar_kind { PN_SCALAR_NONE, PN_SCALAR_INT, PN_SCALAR_FLOAT, PN_SCALAR_STR } pn_scalar_kind;

/* A value of a filter. For a string both forms of the same characters. */
typedef struct pn_scalar {
    pn_scalar_kind kind;
    int64_t i;
    double d;
    pn_bytes utf8;    /* no surrogates */
    pn_bytes escaped; /* as canonical JSON, without the quotes */
} pn_scalar;

typedef struct pn_filter {
    pn_bytes key;    /* as canonical JSON, without the quotes */
    pn_bytes needle; /* `"key": ` where pn_filter_key_is_word(key), else empty */
    pn_filter_op op;
    bool is_list; /* the value is the list of all n values, else values[0] */
    const pn_scalar *values;
    size_t n;
} pn_filter;

enum { PN_FILTER_MAX = 32 };

typedef struct pn_filter_set {
    const pn_filter *filters;
    size_t n; /* 1 to PN_FILTER_MAX */
    pn_filter_condition condition;
} pn_filter_set;

/* Whether `"key": ` in canonical text can only be a key of an object (of letters, digits,
 * '_' and '-', so neither an escape nor what stands between two strings). Such keys are
 * found by a plain search. */
bool pn_filter_key_is_word(pn_bytes key);

/* The operator with that value of the peer's FilterOperator, e.g. "=="; false when
 * there is none. */
bool pn_filter_op_named(pn_bytes name, pn_filter_op *out);

/* ---- one value at a time, for who keeps them apart (column.h) ---- */

typedef enum pn_value_kind {
    PN_VALUE_MISSING, /* no such key, or null: the same to every operator */
    PN_VALUE_NUMBER,  /* int64 or double, true and false are 1 and 0 */
    PN_VALUE_STRING,
    PN_VALUE_LIST,
    PN_VALUE_OTHER    /* an object, an integer beyond 18 digits */
} pn_value_kind;

typedef struct pn_value {
    pn_value_kind kind;
    bool is_int;   /* of a number */
    pn_bytes text; /* canonical JSON; of a string: without its quotes */
    int64_t i;
    double d;
} pn_value;

/* The text of the key's value in a canonical object; {NULL, 0} when it is not there. */
pn_bytes pn_filter_find(const pn_filter *f, pn_bytes json);
pn_value pn_filter_classify(pn_bytes value_text); /* {NULL, 0}: missing */
pn_match pn_filter_eval_value(const pn_filter *f, const pn_value *v, pn_buf *scratch);
/* What all filters together say of a row; each has to be evaluated before. */
pn_match pn_filter_combine(pn_filter_condition condition, bool all, bool any);

/* Evaluates all filters on one value (an object, else ASK). `scratch` is reused between
 * calls; running out of memory there is ASK as well. */
pn_match pn_filter_eval(const pn_filter_set *set, pn_bytes json, pn_buf *scratch);

#endif

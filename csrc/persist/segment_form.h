/* segment_form.h: what writer and reader of segments agree on (for these files only).
 *
 * The numbers of FORMAT.md, and which tables and entries may stand where. */
#ifndef PN_PERSIST_SEGMENT_FORM_H
#define PN_PERSIST_SEGMENT_FORM_H

#include "persist/segment.h"

#define PN_SEGMENT_MAGIC "\x89PNSEG\r\n"
enum {
    PN_SEGMENT_MAGIC_LEN = 8,
    PN_SEGMENT_HEAD = 64,
    PN_SEGMENT_TAIL_CRC = PN_SEGMENT_TAIL - 4, /* where in the tail its CRC is */
};
#define PN_STRING_NONE UINT32_MAX /* the code of a removed key */

/* Whether a store of the kind has a table of this name and type. */
static inline bool pn_segment_table_fits(uint8_t kind, pn_bytes name, uint8_t type)
{
    switch (kind) {
    case PN_STORE_COLLECTIONS: return type == PN_TABLE_VALUES;
    case PN_STORE_TEXT: return type == PN_TABLE_VALUES && name.len == 0;
    default: break;
    }
    switch (type) {
    case PN_TABLE_VECTORS: return pn_bytes_equal(name, PN_BYTES("embedding_dict"));
    case PN_TABLE_STRINGS: return pn_bytes_equal(name, PN_BYTES("text_id_to_ref_doc_id"));
    default: return pn_bytes_equal(name, PN_BYTES("metadata_dict"));
    }
}

/* Bytes of a row's numbers. */
static inline size_t pn_row_used(size_t dim, pn_row_encoding encoding)
{
    return dim * (encoding == PN_ROW_F64 ? sizeof(double) : sizeof(float));
}

static inline uint8_t pn_segment_op_byte(pn_entry_op op, pn_value_form form) { return (uint8_t)(op | form << 2); }

/* Whether an entry's byte may stand in a table of the type. A change has something to
 * change, so it is never fresh; a removal has no form. */
static inline bool pn_segment_op_fits(uint8_t type, uint8_t byte)
{
    static const uint32_t values = 1u << 0 | 1u << 1 | 1u << 2 /* form 0: put, fresh, remove */
                                   | 1u << 4 | 1u << 5         /* form 1: put, fresh */
                                   | 1u << 8 | 1u << 9         /* form 2 */
                                   | 1u << 12;                 /* form 3: put */
    static const uint32_t others = 1u << 0 | 1u << 1 | 1u << 2;
    return byte < 32 && ((type == PN_TABLE_VALUES ? values : others) >> byte & 1);
}

#endif

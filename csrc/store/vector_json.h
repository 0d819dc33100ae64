/* vector_json.h: a vector store's file, read into a table and written from one.
 *
 *   {"embedding_dict": {id: [number, ...], ...},
 *    "text_id_to_ref_doc_id": {id: string, ...},
 *    "metadata_dict": {id: any, ...}}
 *
 * Reading takes the three members in any order, each at most once and each optional.
 * Numbers go straight into the matrix; ids and metadata are copied, in canonical form,
 * so the text can go afterwards. What is valid JSON but anything else than this is
 * PN_ERR_UNSUPPORTED.
 *
 * Both are one pass, O(text). Not locked.
 */
#ifndef PN_STORE_VECTOR_JSON_H
#define PN_STORE_VECTOR_JSON_H

#include "os/file.h"
#include "store/vector.h"

/* Fills an empty table. After a failure the table must be cleared. */
pn_status pn_vec_load_json(pn_vec *v, pn_bytes text, pn_error *err);

/* The same from an open file of that size. Of a large one whose vectors come first, and are
 * alike, only what follows them is ever in memory as a whole. IO: it could not be read. */
pn_status pn_vec_load_json_file(pn_vec *v, const pn_vfs *vfs, int fd, uint64_t size, pn_error *err);

/* Appends the file, byte for byte as json.dump writes it. Live cells take the next of
 * `live`, the canonical texts of all live cells in the order of metas. INVALID: there are
 * fewer, or the table is not settled. */
pn_status pn_vec_save_json(const pn_vec *v, const pn_bytes *live, size_t live_count, pn_buf *out);

#endif

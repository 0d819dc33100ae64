/* vector_pieces.h: the vectors of a file's text, read in pieces on the pool's threads.
 *
 *     {"embedding_dict": {"a": [..], "b": [..], "c": [..], "d": [..], "e": [..]}, ...
 *                       first row ^|<--- piece ---->|<--- piece ---->|<-- piece ...
 *
 * A piece is about a megabyte and ends behind a `]`, which is where a row ends if nobody
 * writes brackets into ids. Whoever takes it counts its `[`, takes that many rows of the
 * matrix, so that rows lie in the order of the text, and reads row after row until the end
 * of the piece or until something is not as in the row before the pieces: another
 * dimension, another width, a member's end, an error.
 *
 * A piece counts only when all pieces before it were read to their very ends: then it began
 * where one reader would have stood, and so what the pieces read is what that reader would
 * have read. It goes on where they stopped, and whatever is odd is left to it.
 */
#ifndef PN_STORE_VECTOR_PIECES_H
#define PN_STORE_VECTOR_PIECES_H

#include "codec/json_read.h"
#include "store/vector.h"

/* Text from here on that is worth pieces. */
enum { PN_VEC_PIECES_FROM = 2 * 1024 * 1024 };

/* What one item of a member is before it is put into its map. */
typedef struct pn_vec_staged {
    size_t id_at, id_len;
    size_t text_at, text_len; /* of metadata and source ids */
    pn_vec_row row;
} pn_vec_staged;

/* r stands behind a row that is like those that follow; then it stands behind the last one
 * read. Their ids are appended to *ids, one pn_vec_staged each to *items. Not to be called while
 * another thread looks at the table. O(text read); memory: one piece's ids and one row a thread. */
pn_status pn_vec_read_pieces(pn_vec *v, pn_json_reader *r, const pn_vec_row *like, pn_buf *ids, pn_buf *items);

#endif

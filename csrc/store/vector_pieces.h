/* vector_pieces.h: the vectors of a file's text, read in pieces on the pool's threads.
 *
 *     {"embedding_dict": {"a": [..], "b": [..], "c": [..], "d": [..], "e": [..]}, ...
 *                       first row ^|<--- piece ---->|<--- piece ---->|<-- piece ...
 *
 * A piece is at most a megabyte and ends behind a `]`, which is where a row ends if nobody
 * writes brackets into ids. The text lies in memory, or in a file, from which each thread
 * reads a piece into a block that stays in its cache: such a text is never in memory as a
 * whole. Whoever takes a piece counts its `[`, takes that many rows of the
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
#include "os/file.h"
#include "store/vector.h"

/* Text from here on that is worth pieces. */
enum { PN_VEC_PIECES_FROM = 2 * 1024 * 1024 };

/* What pieces are cut from. */
typedef struct pn_vec_source {
    uint64_t size;       /* of the file: what it was when it was opened */
    const pn_vfs *vfs;   /* NULL: in memory */
    int fd;
    const uint8_t *memory;
} pn_vec_source;

/* What one item of a member is before it is put into its map. */
typedef struct pn_vec_staged {
    size_t id_at, id_len;
    size_t text_at, text_len; /* of metadata and source ids */
    pn_vec_row row;
} pn_vec_staged;

/* `r` stands behind a row, which is like those that follow, and *at is that place in the text;
 * then it is the place behind the last row read. Their ids are appended to *ids, one
 * pn_vec_staged each to *items. What cannot be read from a file ends the pieces, no more. Not
 * to be called while another thread looks at the table. O(text read); memory: the ids, and a
 * row and, of a file, a piece a thread. */
pn_status pn_vec_read_pieces(pn_vec *v, const pn_vec_source *text, const pn_json_reader *r, uint64_t *at,
                             const pn_vec_row *like, pn_buf *ids, pn_buf *items);

#endif

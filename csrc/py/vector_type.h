/* vector_type.h: VectorTable, the state of pannier.SimpleVectorStore, as the files of
 * the binding that work on it share it.
 *
 * Lock and GIL: the table's maps change only with both held, so either is enough to
 * read them, and a scan holds the lock alone. The lock is never held while Python code
 * could run, and nobody waits for it with the GIL. What leaves the table is released
 * after the lock.
 */
#ifndef PN_PY_VECTOR_TYPE_H
#define PN_PY_VECTOR_TYPE_H

#include "py/json_py.h"
#include "py/module.h"
#include "store/coarse.h"
#include "store/column.h"
#include "store/vector.h"

#include <pthread.h>
#include <stdatomic.h>

/* A list that was handed out for an id: see vector_lent.c. */
typedef struct pn_recent {
    PyObject *id;   /* an exact str, held; or NULL */
    PyObject *list; /* of a loan that is out, if no loan has ended since */
    uint64_t ended; /* vec.lent.ended then */
} pn_recent;

typedef struct {
    PyObject_HEAD
    pn_vec vec;
    pn_rowview view;    /* for queries; guarded by the lock alone */
    pn_columns columns; /* likewise */
    pn_coarse coarse;   /* likewise */
    pthread_mutex_t mutex;
    unsigned forks; /* that lay before this process when the mutex was made */
    atomic_uint settled; /* PN_VECTOR_..: what is known to be */
    size_t keep_values;  /* see vector_lent.c */
    pn_recent *recent;   /* likewise */
    size_t recent_count;
} vector_object;

void pn_vector_lock(vector_object *self);
void pn_vector_unlock(vector_object *self); /* releases what was dropped */

/* Before rows, or metadata texts, are read: checks what a pack left unchecked, once. Called
 * with the GIL, which is let go meanwhile, and without the lock, before anything is looked
 * up. false: CorruptPackError or MemoryError is set. */
enum { PN_VECTOR_ROWS = 1, PN_VECTOR_METAS = 2 };
bool pn_vector_settle(vector_object *self, unsigned what);
static inline bool pn_vector_ready(vector_object *self, unsigned what)
{
    return (what & ~atomic_load(&self->settled)) == 0 || pn_vector_settle(self, what);
}
/* A new table with these contents (taken over, also on failure); NULL with an exception set. */
PyObject *pn_py_vector_table(PyTypeObject *type, pn_vec *vec);

/* The list of a vector, as get hands it out: lent. KeyError when there is none. */
PyObject *pn_vector_get_list(vector_object *self, PyObject *id);
/* 1 when it is done, 0 when the general way has to be taken, -1 with an exception set. */
int pn_vector_delete_ref(vector_object *self, PyObject *ref);

/* The lists that stand for rows, vector_lent.c. With the GIL, without the lock. */
PyObject *pn_vector_lend(vector_object *self, pn_bytes id); /* NULL without an exception: no such row */
/* With the lock: pn_vec_put_row of the values of that list. If it is the one that is lent for
 * the row, it goes on standing for it, as a list does that the peer is given back. */
pn_status pn_vector_put_list(vector_object *self, pn_bytes id, pn_blob *owner, const PyObject *list, const pn_buf *floats);
PyObject *pn_vector_copy_list(vector_object *self, const pn_vec_row *row); /* equal, the caller's own */
PyObject *pn_vector_sync(PyObject *self, PyObject *unused);
PyObject *pn_vector_lately(const vector_object *self, const PyObject *id); /* borrowed: lend would give it; or NULL */
/* After lend gave it; id is an exact str. ended: vec.lent.ended from before that. */
void pn_vector_note_lately(vector_object *self, PyObject *id, PyObject *list, uint64_t ended);
void pn_vector_lent_init(vector_object *self);
int pn_vector_lent_traverse(const vector_object *self, visitproc visit, void *arg);
void pn_vector_lent_release(vector_object *self); /* what was returned */
void pn_vector_lent_clear(vector_object *self);   /* everything: the rows are lent no more */

/* Methods that live in other files. */
PyObject *pn_vector_dense(PyObject *self, PyObject *unused);                             /* vector_rows.c */
PyObject *pn_vector_shape(PyObject *self, PyObject *unused);                             /* vector_rows.c */
PyObject *pn_vector_copy_rows(PyObject *self, PyObject *array);                          /* vector_rows.c */
int pn_vector_add_rows_type(PyObject *module);                                           /* vector_rows.c */
PyObject *pn_vector_add_nodes(PyObject *self, PyObject *const *args, Py_ssize_t nargs); /* vector_add.c */
PyObject *pn_vector_query(PyObject *self, PyObject *args);                               /* vector_query.c */
PyObject *pn_vector_query_many(PyObject *self, PyObject *args);                          /* vector_query.c */
PyObject *pn_vector_delete_matching(PyObject *self, PyObject *args);                     /* vector_query.c */
extern const char pn_vector_add_nodes_doc[], pn_vector_query_doc[], pn_vector_query_many_doc[],
    pn_vector_delete_matching_doc[];

/* The floats of an exact list of exact floats, in *out (bytes of doubles, appended);
 * false, without an exception, when it is anything else, or with MemoryError. */
bool pn_vector_floats(PyObject *list, pn_buf *out);

#endif

/* npdot.h: numpy's own dot of two float64 vectors, as a plain C function.
 *
 * Similarities have to equal, to the last bit, those that numpy computes, and what its
 * BLAS does with the last bits is not for us to guess: so the very function is called.
 */
#ifndef PN_PY_NPDOT_H
#define PN_PY_NPDOT_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "store/topk.h"

/* Imports numpy at the first call (GIL held). NULL with an exception set. The function
 * itself needs no GIL and is thread safe. */
pn_dot_fn pn_np_dot(void);

/* One value as a numpy.float64, a new reference. After pn_np_dot succeeded. */
PyObject *pn_np_float64(double value);

#endif

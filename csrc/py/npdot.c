#include "py/npdot.h"

#define NPY_NO_DEPRECATED_API NPY_1_7_API_VERSION
#include <numpy/arrayobject.h>
#include <numpy/arrayscalars.h>

#include <stdatomic.h>

/* A table of a process-wide library, not state of ours: set once, never changed. */
static _Atomic(PyArray_DotFunc *) dot_of_numpy;

static PyArray_DotFunc *find_dot(void)
{
    if (_import_array() < 0) return NULL;
    PyArray_Descr *descr = PyArray_DescrFromType(NPY_DOUBLE);
    if (descr == NULL) return NULL;
#if NPY_ABI_VERSION >= 0x02000000
    PyArray_DotFunc *dot = PyDataType_GetArrFuncs(descr)->dotfunc;
#else
    PyArray_DotFunc *dot = descr->f->dotfunc;
#endif
    Py_DECREF(descr); /* a built-in dtype: it lives as long as numpy */
    if (dot == NULL) PyErr_SetString(PyExc_SystemError, "numpy has no dot for float64");
    return dot;
}

static double call_dot(const double *a, const double *b, size_t n)
{
    double out = 0;
    PyArray_DotFunc *dot = atomic_load_explicit(&dot_of_numpy, memory_order_relaxed);
    dot((void *)a, sizeof(double), (void *)b, sizeof(double), &out, (npy_intp)n, NULL);
    return out;
}

pn_dot_fn pn_np_dot(void)
{
    if (atomic_load_explicit(&dot_of_numpy, memory_order_acquire) == NULL) {
        PyArray_DotFunc *dot = find_dot();
        if (dot == NULL) return NULL;
        atomic_store_explicit(&dot_of_numpy, dot, memory_order_release);
    }
    return call_dot;
}

PyObject *pn_np_float64(double value)
{
    PyObject *scalar = PyArrayScalar_New(Double);
    if (scalar != NULL) PyArrayScalar_ASSIGN(scalar, Double, value);
    return scalar;
}

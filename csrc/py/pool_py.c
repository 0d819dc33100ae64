/* pool_py.c: what searches run on: how many threads (pannier.set_threads), which kernel. */
#include "os/pool.h"
#include "py/module.h"
#include "simd/dot.h"

static PyObject *get_threads(PyObject *module, PyObject *unused)
{
    (void)module;
    (void)unused;
    return PyLong_FromUnsignedLong(pn_pool_threads());
}

static PyObject *set_threads(PyObject *module, PyObject *number)
{
    (void)module;
    int overflow;
    long n = PyLong_AsLongAndOverflow(number, &overflow);
    if (n == -1 && !overflow && PyErr_Occurred()) return NULL;
    if (n < 1 || overflow) return PyErr_Format(PyExc_ValueError, "there must be one thread at least, not %R", number);
    pn_pool_set_threads(n > PN_POOL_MAX ? PN_POOL_MAX : (unsigned)n);
    Py_RETURN_NONE;
}

static PyObject *helper_threads(PyObject *module, PyObject *unused)
{
    (void)module;
    (void)unused;
    return PyLong_FromUnsignedLong(pn_pool_helpers());
}

static PyObject *simd_kernel(PyObject *module, PyObject *unused)
{
    (void)module;
    (void)unused;
    return PyUnicode_FromString(pn_dot_best()->name);
}

static PyMethodDef functions[] = {
    {"get_threads", get_threads, METH_NOARGS, "get_threads() -> int: threads that a search may use, the caller's included."},
    {"set_threads", set_threads, METH_O, "set_threads(n): ValueError below 1; 64 at most."},
    {"helper_threads", helper_threads, METH_NOARGS, "helper_threads() -> int: started and alive, for tests."},
    {"simd_kernel", simd_kernel, METH_NOARGS, "simd_kernel() -> str: the kernel in use: serial, avx2, avx512 or neon."},
    {NULL, NULL, 0, NULL},
};

int pn_py_add_pool(PyObject *module)
{
    pn_pool_install();
    return PyModule_AddFunctions(module, functions);
}

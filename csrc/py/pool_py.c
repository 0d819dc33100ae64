/* pool_py.c: how many threads large searches may use, for pannier.set_threads. */
#include "os/pool.h"
#include "py/module.h"

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

static PyMethodDef functions[] = {
    {"get_threads", get_threads, METH_NOARGS, "get_threads() -> int: threads that a search may use, the caller's included."},
    {"set_threads", set_threads, METH_O, "set_threads(n): ValueError below 1; 64 at most."},
    {"helper_threads", helper_threads, METH_NOARGS, "helper_threads() -> int: started and alive, for tests."},
    {NULL, NULL, 0, NULL},
};

int pn_py_add_pool(PyObject *module)
{
    pn_pool_install();
    return PyModule_AddFunctions(module, functions);
}

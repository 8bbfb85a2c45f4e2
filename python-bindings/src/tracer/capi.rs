//! The few functions of CPython that the stable ABI leaves out, and that a span cannot do without cheaply.
//!
//! They have been exported under these names and signatures since Python 3.7. They are looked up in the running interpreter, so that one wheel
//! serves every version; where they are missing, the callers go through Python's own methods.

use std::{
    ffi::{CStr, c_int},
    sync::OnceLock,
};

use pyo3::{ffi, prelude::*};

type ContextVarGet = unsafe extern "C" fn(*mut ffi::PyObject, *mut ffi::PyObject, *mut *mut ffi::PyObject) -> c_int;
type ContextVarSet = unsafe extern "C" fn(*mut ffi::PyObject, *mut ffi::PyObject) -> *mut ffi::PyObject;
type ContextVarReset = unsafe extern "C" fn(*mut ffi::PyObject, *mut ffi::PyObject) -> c_int;

struct ContextVars {
    get: ContextVarGet,
    set: ContextVarSet,
    reset: ContextVarReset,
}

fn context_vars() -> Option<&'static ContextVars> {
    static FOUND: OnceLock<Option<ContextVars>> = OnceLock::new();
    FOUND
        .get_or_init(|| {
            let (get, set, reset) = (symbol(c"PyContextVar_Get")?, symbol(c"PyContextVar_Set")?, symbol(c"PyContextVar_Reset")?);
            // SAFETY: CPython's documented signatures of these functions, unchanged in every version this package supports.
            unsafe {
                Some(ContextVars {
                    get: std::mem::transmute::<*mut std::ffi::c_void, ContextVarGet>(get),
                    set: std::mem::transmute::<*mut std::ffi::c_void, ContextVarSet>(set),
                    reset: std::mem::transmute::<*mut std::ffi::c_void, ContextVarReset>(reset),
                })
            }
        })
        .as_ref()
}

#[cfg(unix)]
fn symbol(name: &CStr) -> Option<*mut std::ffi::c_void> {
    // SAFETY: `name` ends with a zero; looking a symbol up has no other requirement.
    let address = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    (!address.is_null()).then_some(address)
}

#[cfg(not(unix))]
fn symbol(_: &CStr) -> Option<*mut std::ffi::c_void> {
    None
}

/// `variable.get()` of a `ContextVar` with a default.
#[inline]
pub(super) fn get<'py>(variable: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = variable.py();
    let Some(functions) = context_vars() else { return variable.call_method0(pyo3::intern!(py, "get")) };
    let mut value = std::ptr::null_mut();
    // SAFETY: `variable` is a `ContextVar`, `value` a place for a new reference, and no default is given.
    let status = unsafe { (functions.get)(variable.as_ptr(), std::ptr::null_mut(), &raw mut value) };
    if status < 0 {
        return Err(PyErr::fetch(py));
    }
    // SAFETY: what was written is a new reference, or null.
    let value = unsafe { Bound::from_owned_ptr_or_opt(py, value) };
    value.ok_or_else(|| pyo3::exceptions::PyLookupError::new_err("a context variable without a value"))
}

/// `variable.set(value)`; gives the token.
#[inline]
pub(super) fn set<'py>(variable: &Bound<'py, PyAny>, value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = variable.py();
    let Some(functions) = context_vars() else { return variable.call_method1(pyo3::intern!(py, "set"), (value,)) };
    // SAFETY: `variable` is a `ContextVar`; the result is a new reference, or null with an exception set.
    unsafe { Bound::from_owned_ptr_or_err(py, (functions.set)(variable.as_ptr(), value.as_ptr())) }
}

/// `variable.reset(token)`.
#[inline]
pub(super) fn reset(variable: &Bound<'_, PyAny>, token: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = variable.py();
    let Some(functions) = context_vars() else { return variable.call_method1(pyo3::intern!(py, "reset"), (token,)).map(drop) };
    // SAFETY: `variable` is a `ContextVar`; a token that is none raises.
    let status = unsafe { (functions.reset)(variable.as_ptr(), token.as_ptr()) };
    if status < 0 { Err(PyErr::fetch(py)) } else { Ok(()) }
}

/// Makes an instance of `class`, as `class.__new__(class, *arguments)` does, without its `__init__`.
///
/// `base` is the class whose `__new__` runs; `class` must be it or derive from it.
pub(super) fn new_instance<'py>(
    constructor: ffi::newfunc,
    class: &Bound<'py, pyo3::types::PyType>,
    arguments: &Bound<'py, pyo3::types::PyTuple>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = class.py();
    // SAFETY: `constructor` is the `tp_new` of a base of `class`, and the arguments are a tuple.
    unsafe { Bound::from_owned_ptr_or_err(py, constructor(class.as_type_ptr(), arguments.as_ptr(), std::ptr::null_mut())) }
}

/// The `tp_new` of a class.
pub(super) fn constructor(class: &Bound<'_, pyo3::types::PyType>) -> PyResult<ffi::newfunc> {
    // SAFETY: any class may be asked for its slots; what comes back for `Py_tp_new` is a `newfunc` or null.
    let slot = unsafe { ffi::PyType_GetSlot(class.as_type_ptr(), ffi::Py_tp_new) };
    if slot.is_null() {
        return Err(pyo3::exceptions::PyTypeError::new_err("a class that makes no instances"));
    }
    // SAFETY: as above.
    Ok(unsafe { std::mem::transmute::<*mut std::ffi::c_void, ffi::newfunc>(slot) })
}

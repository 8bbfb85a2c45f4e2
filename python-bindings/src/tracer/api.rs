//! Classes and objects of OpenTelemetry's API, looked up once.

use pyo3::{
    ffi,
    prelude::*,
    sync::PyOnceLock,
    types::{PyDict, PyString, PyTuple, PyType},
};

use super::capi;

/// W3C trace flags, bit 0.
pub(super) const SAMPLED: u8 = 1;
/// W3C trace flags, bit 1.
pub(super) const RANDOM_TRACE_ID: u8 = 2;

/// Trace flags that have an object ready: every combination of the bits that have a meaning.
const READY_FLAGS: usize = 4;

pub(super) struct Api {
    /// `ContextVar` behind `opentelemetry.context`; `None` when another runtime context was configured.
    context_variable: Option<Py<PyAny>>,
    context_module: Py<PyAny>,
    context_class: Py<PyType>,
    context_constructor: ffi::newfunc,
    pub(super) span_key: Py<PyString>,
    pub(super) suppress_key: Py<PyString>,
    pub(super) baggage_key: Py<PyAny>,
    /// `opentelemetry.trace.Span`, the abstract class.
    pub(super) span_class: Py<PyType>,
    non_recording_span: Py<PyType>,
    span_context: Py<PyType>,
    tuple_constructor: Option<ffi::newfunc>,
    trace_flags_class: Py<PyType>,
    trace_flags: Vec<Py<PyAny>>,
    pub(super) default_trace_state: Py<PyAny>,
    invalid_span: Py<PyAny>,
    /// Whether this API knows the flag for random trace ids.
    pub(super) has_random_flag: bool,
    /// `SpanKind`, in the order of its values.
    kinds: Vec<Py<PyAny>>,
    pub(super) status_class: Py<PyType>,
    pub(super) status_code_class: Py<PyType>,
    /// `StatusCode`: unset, ok, error.
    pub(super) status_codes: [Py<PyAny>; 3],
    pub(super) status_unset: Py<PyAny>,
    empty_tuple: Py<PyTuple>,
}

impl Api {
    /// Imports them once.
    #[inline]
    pub(super) fn get(py: Python<'_>) -> PyResult<&'static Self> {
        static API: PyOnceLock<Api> = PyOnceLock::new();
        API.get_or_try_init(py, || Self::import(py))
    }

    fn import(py: Python<'_>) -> PyResult<Self> {
        let context = py.import("opentelemetry.context")?;
        let trace = py.import("opentelemetry.trace")?;
        let class = |module: &Bound<'_, PyModule>, name: &str| -> PyResult<Py<PyType>> {
            Ok(module.getattr(name)?.cast_into::<PyType>()?.unbind())
        };
        let runtime = context.getattr("_RUNTIME_CONTEXT")?;
        let usual = py.import("opentelemetry.context.contextvars_context")?.getattr("ContextVarsRuntimeContext")?;
        let context_variable = if runtime.get_type().is(&usual) { Some(runtime.getattr("_current_context")?.unbind()) } else { None };
        let context_class = class(&context, "Context")?;
        let flags_class = trace.getattr("TraceFlags")?;
        let span_context = trace.getattr("SpanContext")?;
        let codes = trace.getattr("StatusCode")?;
        let code = |name: &str| -> PyResult<Py<PyAny>> { Ok(codes.getattr(name)?.unbind()) };
        let kinds = ["INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER"];
        let span_kind = trace.getattr("SpanKind")?;
        let string = |owner: &Bound<'_, PyModule>, name: &str| -> PyResult<Py<PyString>> {
            Ok(owner.getattr(name)?.cast_into::<PyString>()?.unbind())
        };
        Ok(Self {
            context_variable,
            context_constructor: capi::constructor(context_class.bind(py))?,
            context_class,
            span_key: string(&py.import("opentelemetry.trace.propagation")?, "_SPAN_KEY")?,
            suppress_key: string(&context, "_SUPPRESS_INSTRUMENTATION_KEY")?,
            baggage_key: py.import("opentelemetry.baggage")?.getattr("_BAGGAGE_KEY")?.unbind(),
            context_module: context.into_any().unbind(),
            span_class: class(&trace, "Span")?,
            non_recording_span: class(&trace, "NonRecordingSpan")?,
            tuple_constructor: fast_tuple(&span_context)?,
            span_context: span_context.cast_into::<PyType>()?.unbind(),
            trace_flags: (0..READY_FLAGS).map(|bits| Ok(flags_class.call1((bits,))?.unbind())).collect::<PyResult<_>>()?,
            has_random_flag: flags_class.hasattr("RANDOM_TRACE_ID")?,
            trace_flags_class: flags_class.cast_into::<PyType>()?.unbind(),
            default_trace_state: py.import("opentelemetry.trace.span")?.getattr("DEFAULT_TRACE_STATE")?.unbind(),
            invalid_span: trace.getattr("INVALID_SPAN")?.unbind(),
            kinds: kinds.iter().map(|name| Ok(span_kind.getattr(*name)?.unbind())).collect::<PyResult<_>>()?,
            status_class: class(&trace, "Status")?,
            status_codes: [code("UNSET")?, code("OK")?, code("ERROR")?],
            status_unset: trace.getattr("Status")?.call1((codes.getattr("UNSET")?,))?.unbind(),
            status_code_class: codes.cast_into::<PyType>()?.unbind(),
            empty_tuple: PyTuple::empty(py).unbind(),
        })
    }

    pub(super) fn empty_tuple<'py>(&self, py: Python<'py>) -> &Bound<'py, PyTuple> {
        self.empty_tuple.bind(py)
    }

    /// The context that is current.
    #[inline]
    pub(super) fn current_context<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        match &self.context_variable {
            Some(variable) => capi::get(variable.bind(py)),
            None => self.context_module.bind(py).call_method0("get_current"),
        }
    }

    /// Makes a context current that has `span` in it; gives the token that undoes this.
    #[inline]
    pub(super) fn attach_span<'py>(&self, current: &Bound<'py, PyAny>, span: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = current.py();
        let fresh = capi::new_instance(self.context_constructor, self.context_class.bind(py), self.empty_tuple(py))?;
        // The class refuses changes by its own methods; as in the API, a context is filled before anybody sees it.
        let entries = fresh.cast::<PyDict>()?;
        let known = current.cast::<PyDict>()?;
        if known.len() > 0 {
            // SAFETY: both are dictionaries and stay alive.
            if unsafe { ffi::PyDict_Update(entries.as_ptr(), known.as_ptr()) } < 0 {
                return Err(PyErr::fetch(py));
            }
        }
        // SAFETY: as above; the class's own `__setitem__`, which raises, is for others.
        if unsafe { ffi::PyDict_SetItem(entries.as_ptr(), self.span_key.as_ptr(), span.as_ptr()) } < 0 {
            return Err(PyErr::fetch(py));
        }
        match &self.context_variable {
            Some(variable) => capi::set(variable.bind(py), &fresh),
            None => self.context_module.bind(py).call_method1("attach", (fresh,)),
        }
    }

    /// Undoes `attach_span`. In another context than that of the attachment, as at the end of a generator that was left to the
    /// collector, there is nothing to undo.
    #[inline]
    pub(super) fn detach(&self, py: Python<'_>, token: &Bound<'_, PyAny>) {
        let _foreign = match &self.context_variable {
            Some(variable) => capi::reset(variable.bind(py), token),
            None => self.context_module.bind(py).call_method1("detach", (token,)).map(drop),
        };
    }

    /// An entry of a context.
    #[inline]
    pub(super) fn entry<'py>(context: &Bound<'py, PyAny>, key: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
        match context.cast::<PyDict>() {
            Ok(entries) => entries.get_item(key),
            Err(_) => {
                let value = context.call_method1(pyo3::intern!(context.py(), "get"), (key,))?;
                Ok((!value.is_none()).then_some(value))
            }
        }
    }

    pub(super) fn kind<'py>(&self, py: Python<'py>, index: u8) -> Bound<'py, PyAny> {
        self.kinds.get(usize::from(index)).unwrap_or(&self.kinds[0]).bind(py).clone()
    }

    /// The index of a member of `SpanKind`.
    #[inline]
    pub(super) fn kind_index(&self, kind: &Bound<'_, PyAny>) -> Option<u8> {
        self.kinds.iter().position(|known| known.is(kind)).map(|index| index as u8)
    }

    pub(super) fn flags<'py>(&self, py: Python<'py>, flags: u8) -> PyResult<Bound<'py, PyAny>> {
        match self.trace_flags.get(usize::from(flags)) {
            Some(known) => Ok(known.bind(py).clone()),
            None => self.trace_flags_class.bind(py).call1((flags,)),
        }
    }

    /// The API's `SpanContext`.
    pub(super) fn span_context<'py>(
        &self,
        py: Python<'py>,
        trace_id: u128,
        span_id: u64,
        is_remote: bool,
        flags: u8,
        trace_state: Option<&Py<PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let flags = self.flags(py, flags)?;
        let state = trace_state.unwrap_or(&self.default_trace_state);
        let class = self.span_context.bind(py);
        match self.tuple_constructor {
            Some(constructor) => {
                let is_valid = trace_id != 0 && span_id != 0;
                let fields = (trace_id, span_id, is_remote, flags, state, is_valid).into_pyobject(py)?;
                capi::new_instance(constructor, class, &PyTuple::new(py, [fields])?)
            }
            None => class.call1((trace_id, span_id, is_remote, flags, state)),
        }
    }

    /// A span that records nothing and carries `context`.
    pub(super) fn non_recording<'py>(&self, context: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        self.non_recording_span.bind(context.py()).call1((context,))
    }

    pub(super) fn invalid_span<'py>(&self, py: Python<'py>) -> &Bound<'py, PyAny> {
        self.invalid_span.bind(py)
    }
}

/// How to make a `SpanContext` without the Python code of its constructor: `None` when it is not the tuple we know.
fn fast_tuple(class: &Bound<'_, PyAny>) -> PyResult<Option<ffi::newfunc>> {
    let sample = class.call1((1, 2, false))?;
    let Ok(fields) = sample.cast::<PyTuple>() else { return Ok(None) };
    let is_known = fields.len() == 6
        && fields.get_item(0)?.extract::<u64>().is_ok_and(|trace_id| trace_id == 1)
        && fields.get_item(1)?.extract::<u64>().is_ok_and(|span_id| span_id == 2)
        && fields.get_item(5)?.is_truthy()?;
    if !is_known {
        return Ok(None);
    }
    Ok(Some(capi::constructor(&class.py().get_type::<PyTuple>())?))
}

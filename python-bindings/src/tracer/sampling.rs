//! Samplers and generators of ids. Those that the SDK ships are understood and run here; any other is called.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use pyo3::{
    intern,
    prelude::*,
    types::{PyString, PyType},
};
use rand::RngCore;

use super::{api::SAMPLED, start::Parent};
use crate::log;

/// Deeper nesting of parent-based samplers is left to Python.
const MAX_NESTING: usize = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    Drop,
    RecordOnly,
    Sample,
}

pub(super) enum Sampler {
    Constant(Decision),
    /// Samples trace ids whose lower 64 bits are below.
    Ratio(u128),
    /// By parent: none, remote sampled, remote not sampled, local sampled, local not sampled.
    ParentBased(Box<[Sampler; 5]>),
    Python(Py<PyAny>),
}

/// What a sampler says. `None`: as asked, or as the parent has it.
pub(super) struct Sampled<'py> {
    pub(super) decision: Decision,
    pub(super) attributes: Option<Bound<'py, PyAny>>,
    pub(super) trace_state: Option<Option<Bound<'py, PyAny>>>,
}

/// What a sampler is asked.
pub(super) struct Question<'a, 'py> {
    pub(super) py: Python<'py>,
    pub(super) trace_id: u128,
    pub(super) parent: Option<&'a Parent>,
    pub(super) context: Option<&'a Bound<'py, PyAny>>,
    pub(super) name: &'a Bound<'py, PyAny>,
    pub(super) kind: Bound<'py, PyAny>,
    pub(super) attributes: Option<&'a Bound<'py, PyAny>>,
    pub(super) links: Option<&'a Bound<'py, PyAny>>,
}

impl Sampler {
    pub(super) fn from_python(sampler: &Bound<'_, PyAny>) -> PyResult<Self> {
        Self::understood(sampler, 0).map(|known| known.unwrap_or_else(|| Self::Python(sampler.clone().unbind())))
    }

    /// `None` for a sampler whose decisions are its own.
    fn understood(sampler: &Bound<'_, PyAny>, nesting: usize) -> PyResult<Option<Self>> {
        let py = sampler.py();
        let module = py.import("opentelemetry.sdk.trace.sampling")?;
        let decides_as = |class: &str| same_function(&sampler.get_type(), &module.getattr(class)?, "should_sample");
        if decides_as("StaticSampler")? {
            let decision = sampler.getattr("_decision")?;
            return Ok(Some(Self::Constant(decision_of(&decision)?)));
        }
        if decides_as("TraceIdRatioBased")? {
            return Ok(Some(Self::Ratio(sampler.getattr("bound")?.extract()?)));
        }
        if decides_as("ParentBased")? && nesting < MAX_NESTING {
            let names =
                ["_root", "_remote_parent_sampled", "_remote_parent_not_sampled", "_local_parent_sampled", "_local_parent_not_sampled"];
            let mut parts = Vec::with_capacity(names.len());
            for name in names {
                let part = sampler.getattr(name)?;
                parts.push(Self::understood(&part, nesting + 1)?.unwrap_or_else(|| Self::Python(part.unbind())));
            }
            return Ok(<[Sampler; 5]>::try_from(parts).ok().map(|parts| Self::ParentBased(Box::new(parts))));
        }
        Ok(None)
    }

    #[inline]
    pub(super) fn decide<'py>(&self, question: &Question<'_, 'py>) -> PyResult<Sampled<'py>> {
        let decision = match self {
            Self::Constant(decision) => *decision,
            Self::Ratio(bound) if question.trace_id & u128::from(u64::MAX) < *bound => Decision::Sample,
            Self::Ratio(_) => Decision::Drop,
            Self::ParentBased(parts) => {
                let index = match question.parent {
                    None => 0,
                    Some(parent) => 1 + usize::from(!parent.is_remote) * 2 + usize::from(parent.flags & SAMPLED == 0),
                };
                return parts[index].decide(question);
            }
            Self::Python(sampler) => return ask(sampler.bind(question.py), question),
        };
        Ok(Sampled { decision, attributes: None, trace_state: None })
    }

    pub(super) fn visit(&self, visit: &pyo3::gc::PyVisit<'_>) -> Result<(), pyo3::gc::PyTraverseError> {
        match self {
            Self::Python(sampler) => visit.call(sampler),
            Self::ParentBased(parts) => parts.iter().try_for_each(|part| part.visit(visit)),
            Self::Constant(_) | Self::Ratio(_) => Ok(()),
        }
    }
}

/// Asks a sampler written in Python. One that fails is none of the traced program's business: the span is sampled.
fn ask<'py>(sampler: &Bound<'py, PyAny>, question: &Question<'_, 'py>) -> PyResult<Sampled<'py>> {
    let py = question.py;
    let answer = || -> PyResult<Sampled<'py>> {
        let links = match question.links {
            Some(links) => links.clone(),
            None => pyo3::types::PyTuple::empty(py).into_any(),
        };
        let arguments = (question.context, question.trace_id, question.name, &question.kind, question.attributes, links);
        let result = sampler.call_method1(intern!(py, "should_sample"), arguments)?;
        let trace_state = result.getattr(intern!(py, "trace_state"))?;
        Ok(Sampled {
            decision: decision_of(&result.getattr(intern!(py, "decision"))?)?,
            attributes: Some(result.getattr(intern!(py, "attributes"))?),
            trace_state: Some((!trace_state.is_none()).then_some(trace_state)),
        })
    };
    answer().or_else(|error| {
        log::warn(py, "a sampler failed; the span is sampled", Some(&error));
        Ok(Sampled { decision: Decision::Sample, attributes: None, trace_state: None })
    })
}

fn decision_of(decision: &Bound<'_, PyAny>) -> PyResult<Decision> {
    let py = decision.py();
    if decision.call_method0(intern!(py, "is_sampled"))?.is_truthy()? {
        Ok(Decision::Sample)
    } else if decision.call_method0(intern!(py, "is_recording"))?.is_truthy()? {
        Ok(Decision::RecordOnly)
    } else {
        Ok(Decision::Drop)
    }
}

/// Whether a class has a method from `original` and not one of its own.
fn same_function(class: &Bound<'_, PyType>, original: &Bound<'_, PyAny>, name: &str) -> PyResult<bool> {
    let name = PyString::new(class.py(), name);
    Ok(class.getattr_opt(&name)?.is_some_and(|own| original.getattr(&name).is_ok_and(|known| own.is(&known))))
}

pub(super) enum Ids {
    Native,
    Python { generator: Py<PyAny>, is_random: bool },
}

impl Ids {
    pub(super) fn from_python(generator: &Bound<'_, PyAny>) -> PyResult<Self> {
        let py = generator.py();
        let usual = py.import("opentelemetry.sdk.trace.id_generator")?.getattr("RandomIdGenerator")?;
        let class = generator.get_type();
        if same_function(&class, &usual, "generate_trace_id")? && same_function(&class, &usual, "generate_span_id")? {
            return Ok(Self::Native);
        }
        let is_random = match generator.getattr_opt("is_trace_id_random")? {
            Some(method) => method.call0()?.is_truthy()?,
            None => false,
        };
        Ok(Self::Python { generator: generator.clone().unbind(), is_random })
    }

    pub(super) fn is_random(&self) -> bool {
        match self {
            Self::Native => true,
            Self::Python { is_random, .. } => *is_random,
        }
    }

    #[inline]
    pub(super) fn trace_id(&self, py: Python<'_>) -> PyResult<u128> {
        match self {
            Self::Python { generator, .. } => generator.bind(py).call_method0(intern!(py, "generate_trace_id"))?.extract(),
            Self::Native => Ok(u128::from(random_id()) << 64 | u128::from(random_id())),
        }
    }

    #[inline]
    pub(super) fn span_id(&self, py: Python<'_>) -> PyResult<u64> {
        match self {
            Self::Python { generator, .. } => generator.bind(py).call_method0(intern!(py, "generate_span_id"))?.extract(),
            Self::Native => Ok(random_id()),
        }
    }

    pub(super) fn visit(&self, visit: &pyo3::gc::PyVisit<'_>) -> Result<(), pyo3::gc::PyTraverseError> {
        match self {
            Self::Python { generator, .. } => visit.call(generator),
            Self::Native => Ok(()),
        }
    }
}

/// Counts forks of this process: a child must not go on with the numbers of its parent.
static FORKS: AtomicU64 = AtomicU64::new(0);

/// Forks go unnoticed, so no number may be taken for unforked.
static IS_UNWATCHED: AtomicBool = AtomicBool::new(false);

thread_local! {
    static SEEDED_AT: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// A random number other than zero, from the thread's own generator.
#[inline]
fn random_id() -> u64 {
    let forks = FORKS.load(Ordering::Relaxed);
    let mut random = rand::rng();
    if SEEDED_AT.get() != forks || IS_UNWATCHED.load(Ordering::Relaxed) {
        // It was seeded from the system before, so that failing now is next to impossible; the clock then tells two processes apart.
        if random.reseed().is_err() {
            let skipped = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(1, |time| time.subsec_nanos() % 4096);
            (0..skipped).for_each(|_| {
                random.next_u64();
            });
        }
        SEEDED_AT.set(forks);
    }
    loop {
        let id = random.next_u64();
        if id != 0 {
            return id;
        }
    }
}

/// Has forks counted from now on, whoever forks.
pub(super) fn watch_forks() {
    #[cfg(unix)]
    {
        extern "C" fn in_child() {
            FORKS.fetch_add(1, Ordering::Relaxed);
        }
        static WATCHED: std::sync::Once = std::sync::Once::new();
        WATCHED.call_once(|| {
            // SAFETY: the handler touches one atomic number, which is allowed between fork and exec.
            let status = unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
            if status != 0 {
                // Out of memory: from now on every id asks the system for fresh randomness.
                IS_UNWATCHED.store(true, Ordering::Relaxed);
            }
        });
    }
}

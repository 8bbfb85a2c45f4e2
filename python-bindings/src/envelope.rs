//! What stands around Python spans, encoded once for each pair of resource and scope.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use bumpalo::Bump;
use pyo3::{intern, prelude::*};
use scouter_exporter::encode::{EncodedEnvelope, EncodedResource, ScopeRef};

use crate::{
    log,
    span::EnvelopeParts,
    value::{entries, text},
};

/// Pairs remembered. A process has a handful; one that makes a new scope for every span must not grow for ever.
const CAPACITY: usize = 1024;

/// Encoded envelopes by the identity of Python's resource and scope objects, which are kept alive so that no other object
/// takes their address.
///
/// The lock is held for a look-up or an insertion only: no Python code runs under it, and nothing is freed.
#[derive(Default)]
pub(crate) struct Envelopes {
    known: Mutex<HashMap<(usize, usize), Known>>,
}

struct Known {
    envelope: Arc<EncodedEnvelope>,
    _resource: Py<PyAny>,
    _scope: Py<PyAny>,
}

impl Envelopes {
    /// The envelope of a span's resource and scope.
    pub(crate) fn get(&self, (resource, scope): &EnvelopeParts<'_>) -> PyResult<Arc<EncodedEnvelope>> {
        let key = (resource.as_ptr() as usize, scope.as_ptr() as usize);
        if let Some(known) = self.lock().get(&key) {
            return Ok(Arc::clone(&known.envelope));
        }
        let envelope = encode(resource, scope)?;
        let known = Known { envelope: Arc::clone(&envelope), _resource: resource.clone().unbind(), _scope: scope.clone().unbind() };
        let (replaced, forgotten) = {
            let mut all = self.lock();
            let forgotten = (all.len() >= CAPACITY).then(|| std::mem::take(&mut *all));
            (all.insert(key, known), forgotten)
        };
        drop((replaced, forgotten));
        Ok(envelope)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<(usize, usize), Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Encodes a resource and a scope, either may be `None`.
pub(crate) fn encode(resource: &Bound<'_, PyAny>, scope: &Bound<'_, PyAny>) -> PyResult<Arc<EncodedEnvelope>> {
    let py = resource.py();
    let arena = Bump::new();
    let optional_text = |owner: &Bound<'_, PyAny>, name| -> PyResult<String> {
        if owner.is_none() {
            return Ok(String::new());
        }
        match owner.getattr_opt(name)? {
            Some(value) if !value.is_none() => Ok(text(&value.str()?).into_owned()),
            _ => Ok(String::new()),
        }
    };
    let attributes = |owner: &Bound<'_, PyAny>| {
        if owner.is_none() {
            return Ok::<_, PyErr>(&[][..]);
        }
        match owner.getattr_opt(intern!(py, "attributes"))? {
            Some(attributes) if !attributes.is_none() => entries(&attributes, &arena, 0).or_else(|error| {
                log::warn(py, "attributes of a resource or a scope could not be read and were left out", Some(&error));
                Ok(&[][..])
            }),
            _ => Ok(&[][..]),
        }
    };
    let resource_schema = optional_text(resource, intern!(py, "schema_url"))?;
    let encoded = EncodedResource::new(attributes(resource)?.iter().copied(), Some(&resource_schema));
    let version = optional_text(scope, intern!(py, "version"))?;
    let schema = optional_text(scope, intern!(py, "schema_url"))?;
    Ok(EncodedEnvelope::new(
        encoded,
        &ScopeRef {
            name: &optional_text(scope, intern!(py, "name"))?,
            version: Some(&version),
            schema_url: Some(&schema),
            attributes: attributes(scope)?,
        },
    ))
}

//! Handles per method and per status, found without a lock.

use std::sync::{Arc, OnceLock};

use metrics::{Histogram, histogram};
use tonic::Code;

use super::{OTHER, status_label};
use crate::method::{MethodName, MethodSet};

/// Methods beyond those that were named at the start that get a row of their
/// own; the rest share `other`.
const UNNAMED_MAX: usize = 64;

/// One `T` for each method.
#[derive(Debug)]
pub(crate) struct MethodTable<T> {
    upstream: String,
    make: fn(&str, &str) -> T,
    named: Vec<Row<T>>,
    /// Filled from the front, as methods are first called.
    unnamed: Box<[OnceLock<Row<T>>]>,
    other: Arc<T>,
}

#[derive(Debug)]
struct Row<T> {
    method: String,
    handles: Arc<T>,
}

impl<T> MethodTable<T> {
    pub(crate) fn new(upstream: &str, methods: &MethodSet, make: fn(&str, &str) -> T) -> Self {
        let row = |method: &str| Row {
            method: method.to_owned(),
            handles: Arc::new(make(upstream, method)),
        };
        Self {
            upstream: upstream.to_owned(),
            make,
            named: methods.iter().map(row).collect(),
            unnamed: (0..UNNAMED_MAX).map(|_| OnceLock::new()).collect(),
            other: Arc::new(make(upstream, OTHER)),
        }
    }

    /// The row of `method`, which generated code names, or nobody.
    pub(crate) fn get(&self, method: Option<MethodName<'_>>) -> Arc<T> {
        let Some(method) = method else {
            return Arc::clone(&self.other);
        };
        if let Some(row) = self.named.iter().find(|row| method.is(&row.method)) {
            return Arc::clone(&row.handles);
        }
        for place in &self.unnamed {
            let row = place.get_or_init(|| {
                let name = format!("{}/{}", method.service, method.method);
                Row {
                    handles: Arc::new((self.make)(&self.upstream, &name)),
                    method: name,
                }
            });
            if method.is(&row.method) {
                return Arc::clone(&row.handles);
            }
        }
        Arc::clone(&self.other)
    }
}

/// A histogram for each status.
#[derive(Debug)]
pub(crate) struct ByStatus {
    name: &'static str,
    upstream: String,
    method: String,
    histograms: [OnceLock<Histogram>; 17],
}

impl ByStatus {
    pub(crate) fn new(name: &'static str, upstream: &str, method: &str) -> Self {
        let by_status = Self {
            name,
            upstream: upstream.to_owned(),
            method: method.to_owned(),
            histograms: Default::default(),
        };
        for code in [Code::Ok, Code::Unavailable, Code::DeadlineExceeded] {
            by_status.get(code);
        }
        by_status
    }

    pub(crate) fn get(&self, code: Code) -> &Histogram {
        self.histograms[code as usize].get_or_init(|| {
            histogram!(
                self.name,
                "grpc_target" => self.upstream.clone(),
                "grpc_method" => self.method.clone(),
                "grpc_status" => status_label(code)
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(method: &str) -> Option<MethodName<'_>> {
        Some(MethodName {
            service: "pkg.Service",
            method,
        })
    }

    #[test]
    fn a_method_beyond_the_bound_is_other() {
        let methods = MethodSet::from(["pkg.Service/Known"]);
        let table = MethodTable::new("upstream", &methods, |_, method| method.to_owned());

        assert_eq!(*table.get(name("Known")), "pkg.Service/Known");
        for index in 0..UNNAMED_MAX {
            let method = format!("M{index}");
            assert_eq!(*table.get(name(&method)), format!("pkg.Service/{method}"));
        }
        assert_eq!(*table.get(name("OneTooMany")), "other");
        assert_eq!(*table.get(name("M0")), "pkg.Service/M0");
        assert_eq!(*table.get(None), "other");
    }
}

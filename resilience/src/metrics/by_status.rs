//! A histogram per status, found without a lock.

use std::sync::OnceLock;

use metrics::{Histogram, histogram};
use tonic::Code;

use super::status_label;

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

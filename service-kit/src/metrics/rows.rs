//! The metrics of calls, one row per method, registered before the first call
//! and held.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
};

use http::HeaderMap;
use metrics::{Counter, Histogram, counter, histogram};
use tokio::time::Instant;
use tonic::Code;

use super::{CALL_DURATION, CALL_STARTED, CALLS_NOT_BEGUN};
use crate::{code, trace::InboundSpan};

/// The rows of a server.
///
/// A call of a method that is not known counts as `other`, so that a stranger
/// cannot add rows. Health checks and reflection are not measured: a watch that
/// stays open for a week says nothing about latency.
#[derive(Debug)]
pub(super) struct Rows {
    known: HashMap<&'static str, Arc<Row>>,
    other: Arc<Row>,
}

impl Rows {
    /// Registers `methods` (`package.Service/Method`), at zero.
    pub(super) fn new(methods: impl IntoIterator<Item = &'static str>) -> Self {
        let known = methods.into_iter().map(|method| (method, Row::new(method)));
        Self {
            known: known.collect(),
            other: Row::new("other"),
        }
    }

    /// Counts a call to `path`, and starts its clock and its span.
    pub(super) fn start(&self, path: &str, headers: &HeaderMap) -> Option<Call> {
        let method = path.strip_prefix('/').unwrap_or(path);
        if method.starts_with("grpc.") {
            return None;
        }
        let row = self.known.get(method).unwrap_or(&self.other);
        row.started.increment(1);
        Some(Call {
            span: InboundSpan::new(row.method, headers),
            row: Arc::clone(row),
            started: Instant::now(),
            over: false,
        })
    }
}

/// Why nothing was done for a call: among the extensions of its response, for the
/// service behind knows nothing of it and counts nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotBegun {
    /// Too many calls were under way.
    Overload,
    /// Its deadline passed before its turn came.
    TooLate,
}

impl NotBegun {
    const ALL: [Self; 2] = [Self::Overload, Self::TooLate];

    fn reason(self) -> &'static str {
        match self {
            Self::Overload => "overload",
            Self::TooLate => "too_late",
        }
    }
}

/// The metrics of one method.
#[derive(Debug)]
struct Row {
    method: &'static str,
    started: Counter,
    not_begun: [Counter; NotBegun::ALL.len()],
    /// By code; made when first needed, so that codes which never occur do not
    /// fill the page.
    durations: [OnceLock<Histogram>; code::NAMES.len()],
}

impl Row {
    fn new(method: &'static str) -> Arc<Self> {
        let row = Self {
            method,
            started: counter!(CALL_STARTED, "grpc_method" => method),
            not_begun: NotBegun::ALL.map(
                |why| counter!(CALLS_NOT_BEGUN, "grpc_method" => method, "reason" => why.reason()),
            ),
            durations: Default::default(),
        };
        for code in [Code::Ok, Code::Unavailable, Code::DeadlineExceeded] {
            row.duration(code);
        }
        Arc::new(row)
    }

    fn duration(&self, code: Code) -> &Histogram {
        self.durations[code as usize].get_or_init(|| {
            histogram!(
                CALL_DURATION,
                "grpc_method" => self.method, "grpc_status" => code::name(code)
            )
        })
    }
}

/// A call under way. Ends once; dropped before that, it was cancelled.
#[derive(Debug)]
pub(super) struct Call {
    row: Arc<Row>,
    span: InboundSpan,
    started: Instant,
    over: bool,
}

impl Call {
    /// The span of the call, to work inside.
    pub(super) fn span(&self) -> &InboundSpan {
        &self.span
    }

    /// It was turned away.
    pub(super) fn not_begun(&self, why: NotBegun) {
        self.row.not_begun[why as usize].increment(1);
    }

    /// It is over, with `code`; later ends count for nothing.
    pub(super) fn end(&mut self, code: Code) {
        if !self.over {
            self.over = true;
            self.row.duration(code).record(self.started.elapsed());
            self.span.end(code);
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.end(Code::Cancelled);
    }
}

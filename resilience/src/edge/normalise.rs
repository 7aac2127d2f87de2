//! Errors of tonic, hyper and h2 → [`Status`].
//!
//! tonic's own mapping depends on its Cargo features: with `server` on, which
//! any other crate may do, a reset stream has another code than without. So the
//! code is derived again here, from the chain of causes. Where gRPC's own
//! implementations agree (its HTTP/2 mapping, and the C core as measured), so
//! do we.

use std::{error::Error, io, sync::Arc};

use tonic::{Code, ConnectError, Status, TimeoutExpired};

use super::{BoxError, Delivery, TransportError};
use crate::cause::chain;

/// How far the attempt had come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// No response head yet.
    Head,
    /// In the body: the upstream has been at work, whatever it says now.
    Body,
}

/// The status of a channel that could not even take the request.
pub(super) fn not_ready(error: BoxError) -> Status {
    status(Code::Unavailable, Delivery::NotSent, error)
}

/// The status of an attempt that ended with `error`.
///
/// A status that no transport error stands behind is passed on untouched: a
/// service beneath may say what it likes.
pub(super) fn normalise(error: BoxError, phase: Phase) -> Status {
    let causes = Causes::of(&*error);
    match causes.verdict(phase) {
        Some((code, delivery)) => status(code, delivery, error),
        None => match error.downcast::<Status>() {
            Ok(status) => *status,
            Err(error) => status(Code::Unknown, Delivery::Unknown, error),
        },
    }
}

fn status(code: Code, delivery: Delivery, error: BoxError) -> Status {
    let mut status = Status::new(code, innermost(&*error));
    status.set_source(Arc::new(TransportError::new(delivery, error)));
    status
}

/// The two causes that tell most, `outer: innermost`; the outermost only says
/// "transport error". The chain is bounded in case someone ties it in a knot.
fn innermost(error: &(dyn Error + 'static)) -> String {
    let chain: Vec<String> = chain(error)
        .filter(|error| !error.is::<Status>() && !error.is::<tonic::transport::Error>())
        .map(ToString::to_string)
        .filter(|text| !text.is_empty())
        .collect();
    match chain.as_slice() {
        [] => error.to_string(),
        [only] => only.clone(),
        [first, .., last] if first == last || first.contains(last.as_str()) => first.clone(),
        [first, .., last] => format!("{first}: {last}"),
    }
}

/// What was found on the way down the chain.
#[derive(Default)]
struct Causes<'a> {
    connect: bool,
    timeout_expired: bool,
    transport: bool,
    hyper: Option<&'a hyper::Error>,
    h2: Option<&'a h2::Error>,
    io: Option<io::ErrorKind>,
}

impl<'a> Causes<'a> {
    fn of(error: &'a (dyn Error + 'static)) -> Self {
        let mut causes = Self::default();
        for error in chain(error) {
            if error.is::<ConnectError>() {
                causes.connect = true;
            } else if error.is::<TimeoutExpired>() {
                causes.timeout_expired = true;
            } else if error.is::<tonic::transport::Error>() {
                causes.transport = true;
            } else if let Some(error) = error.downcast_ref::<hyper::Error>() {
                causes.hyper = causes.hyper.or(Some(error));
            } else if let Some(error) = error.downcast_ref::<h2::Error>() {
                causes.h2 = causes.h2.or(Some(error));
            } else if let Some(error) = error.downcast_ref::<io::Error>() {
                causes.io = causes.io.or(Some(error.kind()));
            }
        }
        causes
    }

    /// The first rule that holds.
    fn verdict(&self, phase: Phase) -> Option<(Code, Delivery)> {
        // Refused, unresolved, unreachable, no TLS: there was no connection.
        if self.connect {
            return Some((Code::Unavailable, Delivery::NotSent));
        }
        // Somebody set `Endpoint::timeout`; tonic calls it CANCELLED.
        if self.timeout_expired {
            return Some((Code::DeadlineExceeded, Delivery::Unknown));
        }
        // The connect timeout of a custom connector.
        let head = phase == Phase::Head;
        if head
            && self.io == Some(io::ErrorKind::TimedOut)
            && self.hyper.is_none()
            && self.h2.is_none()
        {
            return Some((Code::Unavailable, Delivery::NotSent));
        }
        // hyper cancels only requests that it has not sent.
        if head && self.hyper.is_some_and(hyper::Error::is_canceled) {
            return Some((Code::Unavailable, Delivery::NotSent));
        }
        if let Some(h2) = self.h2 {
            return Some(of_h2(h2, phase));
        }
        // The rest of hyper (keep-alive, a connection that broke, a dispatcher
        // that is gone) and plain I/O: the connection failed under the call.
        if self.hyper.is_some() || self.io.is_some() {
            return Some((Code::Unavailable, Delivery::Unknown));
        }
        self.transport.then_some((Code::Unknown, Delivery::Unknown))
    }
}

fn of_h2(error: &h2::Error, phase: Phase) -> (Code, Delivery) {
    // A stream that the peer has answered was processed, whatever it says.
    let refused = match phase {
        Phase::Head => Delivery::NotProcessed,
        Phase::Body => Delivery::Unknown,
    };
    // h2 reports a GOAWAY only on streams above the last one it names.
    if error.is_go_away() && error.is_remote() {
        return (Code::Unavailable, refused);
    }
    if !error.is_reset() {
        return (Code::Unavailable, Delivery::Unknown);
    }
    // Reset by this side: the body of the request failed. What the upstream
    // would have said is not known.
    if !error.is_remote() && !error.is_library() {
        return (Code::Cancelled, Delivery::Unknown);
    }
    match error.reason() {
        Some(h2::Reason::REFUSED_STREAM) if error.is_remote() => (Code::Unavailable, refused),
        Some(h2::Reason::CANCEL) => (Code::Cancelled, Delivery::Unknown),
        Some(h2::Reason::ENHANCE_YOUR_CALM) => (Code::ResourceExhausted, Delivery::Unknown),
        Some(h2::Reason::INADEQUATE_SECURITY) => (Code::PermissionDenied, Delivery::Unknown),
        _ => (Code::Internal, Delivery::Unknown),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivery(status: &Status) -> Option<Delivery> {
        TransportError::of(status).map(TransportError::delivery)
    }

    #[test]
    fn a_refused_connection_was_not_sent() {
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        let status = normalise(Box::new(ConnectError(refused.into())), Phase::Head);

        assert_eq!(status.code(), Code::Unavailable);
        assert_eq!(delivery(&status), Some(Delivery::NotSent));
        assert!(status.message().contains("refused"), "{}", status.message());
    }

    #[test]
    fn a_connect_timeout_of_a_custom_connector_was_not_sent() {
        let status = normalise(
            Box::new(io::Error::from(io::ErrorKind::TimedOut)),
            Phase::Head,
        );

        assert_eq!(status.code(), Code::Unavailable);
        assert_eq!(delivery(&status), Some(Delivery::NotSent));
    }

    #[test]
    fn a_broken_connection_may_have_delivered() {
        let reset = io::Error::from(io::ErrorKind::ConnectionReset);
        let status = normalise(Box::new(reset), Phase::Head);

        assert_eq!(status.code(), Code::Unavailable);
        assert_eq!(delivery(&status), Some(Delivery::Unknown));
    }

    #[test]
    fn tonics_own_timeout_is_a_deadline_and_not_cancelled() {
        let status = normalise(Box::new(TimeoutExpired(())), Phase::Head);
        assert_eq!(status.code(), Code::DeadlineExceeded);
    }

    #[test]
    fn a_status_without_a_transport_error_is_passed_on_untouched() {
        let status = normalise(Box::new(Status::aborted("by an interceptor")), Phase::Head);

        assert_eq!(
            (status.code(), status.message()),
            (Code::Aborted, "by an interceptor")
        );
        assert_eq!(delivery(&status), None);
    }

    #[test]
    fn an_error_that_nobody_knows_is_unknown() {
        let status = normalise("who knows".into(), Phase::Head);
        assert_eq!(
            (status.code(), status.message()),
            (Code::Unknown, "who knows")
        );
        assert_eq!(delivery(&status), Some(Delivery::Unknown));
    }
}

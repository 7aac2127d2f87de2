//! One line of the matrix: what the server does, and what is to come of it.

use tonic::Code;

use crate::fault::Fault;

/// What the server does to a call, and what is to come of it.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) fault: Fault,
    /// What the caller sees when the server never stops.
    pub(crate) code: Code,
    pub(crate) origin: Origin,
    pub(crate) retry: Retry,
    pub(crate) says: Says,
    /// Whether the caller has been given a part of the answer by then.
    pub(crate) committed: bool,
    /// Whether the fault stays with the connection, and the client with it, so
    /// that a retry meets it again.
    pub(crate) lasting: bool,
    /// Whether the connection ends with it, so that a retry may meet that end,
    /// and be lost.
    pub(crate) dying: bool,
    /// Whether the server may miss requests that were sent to it.
    pub(crate) blind: bool,
}

/// Who says so. Statuses of the transport and of timers have a typed cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The upstream, by a status of gRPC or HTTP, or by ending without one.
    Upstream,
    /// The transport: the upstream has not looked at it.
    NotProcessed,
    /// The transport: the upstream may have acted on it.
    MaybeProcessed,
    /// The transport; what it knows depends on who is faster.
    Race,
    /// The timer of the attempt.
    Timer,
    /// tonic, above the stack, of a message that it cannot take.
    Codec,
}

/// Whether the call is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Retry {
    /// There is nothing to try again: the call succeeded, or failed above.
    Nothing,
    /// It would not help.
    Never,
    /// If the method is idempotent.
    IfIdempotent,
    /// Whatever the method, once at once and for nothing.
    Always,
    /// One of the last two; which depends on who is faster.
    Race,
}

/// What one attempt says to the breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Says {
    Success,
    Failure,
    /// That somebody is there: nothing in a closed circuit, success of a probe.
    Answered,
    /// Nothing; a probe gives its place back.
    Nothing,
}

impl Case {
    pub(crate) fn new(
        name: impl Into<String>,
        fault: Fault,
        code: Code,
        origin: Origin,
        retry: Retry,
        says: Says,
    ) -> Self {
        Self {
            name: name.into(),
            // A fault of the connection may come before the request is seen.
            blind: fault.at.is_of_connection(),
            fault,
            code,
            origin,
            retry,
            says,
            committed: false,
            lasting: false,
            dying: retry == Retry::Race,
        }
    }

    /// The call succeeds.
    pub(crate) fn ok(name: impl Into<String>, fault: Fault) -> Self {
        Self::new(
            name,
            fault,
            Code::Ok,
            Origin::Upstream,
            Retry::Nothing,
            Says::Success,
        )
    }

    /// No answer comes, and the timer of the attempt ends it.
    pub(crate) fn hangs(name: impl Into<String>, fault: Fault) -> Self {
        Self::new(
            name,
            fault,
            Code::DeadlineExceeded,
            Origin::Timer,
            Retry::IfIdempotent,
            Says::Failure,
        )
    }

    /// The connection ends, and whether the upstream acted on the call before
    /// that, nobody knows.
    pub(crate) fn breaks(name: impl Into<String>, fault: Fault) -> Self {
        Self::new(
            name,
            fault,
            Code::Unavailable,
            Origin::MaybeProcessed,
            Retry::IfIdempotent,
            Says::Failure,
        )
        .dying()
    }

    /// The upstream answers with a status.
    pub(crate) fn answers(
        name: impl Into<String>,
        fault: Fault,
        code: Code,
        retry: Retry,
        says: Says,
    ) -> Self {
        Self::new(name, fault, code, Origin::Upstream, retry, says)
    }

    /// tonic cannot take the message.
    pub(crate) fn undecodable(
        name: impl Into<String>,
        fault: Fault,
        code: Code,
        says: Says,
    ) -> Self {
        Self::new(name, fault, code, Origin::Codec, Retry::Nothing, says)
    }

    /// It happens when a part of the answer has been passed on.
    pub(crate) fn committed(mut self) -> Self {
        self.committed = true;
        self
    }

    /// It stays with the connection.
    pub(crate) fn lasting(mut self) -> Self {
        self.lasting = true;
        self
    }

    /// The connection ends with it.
    pub(crate) fn dying(mut self) -> Self {
        self.dying = true;
        self.blind = true;
        self
    }

    /// The server may miss requests.
    pub(crate) fn blind(mut self) -> Self {
        self.blind = true;
        self
    }

    /// Whether a method that is, or is not, idempotent is tried again; `None`
    /// when that depends on who is faster.
    pub(crate) fn is_retried(&self, idempotent: bool) -> Option<bool> {
        if self.committed {
            return Some(false);
        }
        match self.retry {
            Retry::Nothing | Retry::Never => Some(false),
            Retry::IfIdempotent => Some(idempotent),
            Retry::Always => Some(true),
            Retry::Race if idempotent => Some(true),
            Retry::Race => None,
        }
    }

    /// Why it is not tried again when the server never stops; `None` when there
    /// is nothing to stop.
    pub(crate) fn stopped_by(&self, idempotent: bool) -> Option<&'static str> {
        Some(match self.retry {
            Retry::Nothing => return None,
            // An answer is not asked for again.
            Retry::Never if self.says == Says::Success => return None,
            Retry::Never => "not_retryable",
            Retry::IfIdempotent if !idempotent => "not_idempotent",
            _ if self.committed => "committed",
            _ => "attempts",
        })
    }
}

//! What is measured, as the rows of four tables.

use std::hint::black_box;

use crate::{
    direct::Direct,
    ours,
    work::{Caller, Client, Manner, Tiny, Upstream, drive},
};

/// Makes one call, by hand.
pub(crate) type Call = Box<dyn FnMut()>;

/// The table that a row stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Table {
    /// Whole stacks, each under what it needs to be called.
    Stack,
    /// One layer alone.
    Layer,
    /// A breaker alone, on as little as can be.
    Breaker,
    /// Saying no.
    Refusal,
}

impl Table {
    pub(crate) const ALL: [Self; 4] = [Self::Stack, Self::Layer, Self::Breaker, Self::Refusal];

    /// A heading.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Stack => "A successful unary call: whole stacks",
            Self::Layer => "A successful unary call: one layer alone",
            Self::Breaker => "Circuit breakers alone: closed, and a success",
            Self::Refusal => "Circuit breakers: open, and a refusal",
        }
    }
}

/// One thing to measure.
#[derive(Clone, Copy)]
pub(crate) struct Row {
    pub(crate) table: Table,
    pub(crate) id: &'static str,
    /// The row that is subtracted; a row without one is there to be subtracted.
    pub(crate) over: Option<&'static str>,
    pub(crate) title: &'static str,
    /// What the service beneath may do.
    pub(crate) manners: &'static [Manner],
    pub(crate) make: fn(Manner) -> Call,
}

/// Answered at once, and after a wait.
pub(crate) const BOTH: &[Manner] = &[Manner::AtOnce, Manner::PendingOnce];
/// Where a wait below changes nothing.
pub(crate) const ONCE: &[Manner] = &[Manner::AtOnce];

/// All rows; each comes after the one that it is compared with.
pub(crate) fn all() -> Vec<Row> {
    let mut rows = bases();
    rows.extend(ours::rows());
    #[cfg(feature = "peers")]
    rows.extend(crate::peers::rows());
    rows
}

/// What the others are compared with.
fn bases() -> Vec<Row> {
    vec![
        Row {
            table: Table::Stack,
            id: "bare",
            over: None,
            title: "generated client on the service in memory",
            manners: BOTH,
            make: |manner| by_hand(Client::new(Upstream::<{ line!() }>::new(manner))),
        },
        Row {
            table: Table::Layer,
            id: "direct",
            over: None,
            title: "the generated client's request, made without it, on the service in memory",
            manners: BOTH,
            make: |manner| by_hand(Direct::new(Upstream::<{ line!() }>::new(manner))),
        },
        Row {
            table: Table::Breaker,
            id: "tiny",
            over: None,
            title: "request and response with nothing in them",
            manners: ONCE,
            make: |_| {
                let mut tiny = Tiny::succeeding();
                Box::new(move || {
                    let response = drive(tower_service::Service::call(&mut tiny, Tiny::request()));
                    assert!(response.is_ok());
                })
            },
        },
        Row {
            table: Table::Breaker,
            id: "nothing",
            over: None,
            title: "no call at all",
            manners: ONCE,
            make: |_| {
                Box::new(|| {
                    black_box(());
                })
            },
        },
        Row {
            table: Table::Refusal,
            id: "request",
            over: None,
            title: "a request with nothing in it, made and dropped",
            manners: ONCE,
            make: |_| {
                Box::new(|| {
                    black_box(Tiny::request());
                })
            },
        },
        Row {
            table: Table::Refusal,
            id: "refused",
            over: None,
            title: "generated client on a service that says UNAVAILABLE and reads nothing",
            manners: ONCE,
            make: |_| refused(Client::new(Upstream::<{ line!() }>::new(Manner::Refusing))),
        },
    ]
}

/// A caller whose calls succeed.
pub(crate) fn by_hand(mut caller: impl Caller + 'static) -> Call {
    Box::new(move || assert!(drive(caller.call())))
}

/// A caller whose calls are refused.
pub(crate) fn refused(mut caller: impl Caller + 'static) -> Call {
    Box::new(move || assert!(!drive(caller.call())))
}

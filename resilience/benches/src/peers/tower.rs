//! The layers of tower itself: no breaker, no metrics.

use std::{
    future::{Ready, ready},
    sync::Arc,
    time::Duration,
};

use proto::user::ValidateUserRequest;
use tower::{
    limit::ConcurrencyLimit,
    retry::{
        Policy, Retry,
        budget::{Budget as _, TpsBudget},
    },
    timeout::Timeout,
};

use super::typed::{Typed, on};
use crate::{
    rows::{BOTH, Row, Table},
    work::Manner,
};

/// Its stack: time, then retries, then the limit.
pub(crate) type Stack<S> = Timeout<Retry<Budgeted, ConcurrencyLimit<Typed<S>>>>;

/// The same settings as ours have, where there are such.
pub(crate) fn stack<S: Clone>(typed: Typed<S>, concurrency: usize) -> Stack<S> {
    let limited = ConcurrencyLimit::new(typed, concurrency);
    Timeout::new(Retry::new(Budgeted::new(), limited), Duration::from_secs(1))
}

/// Retries what failed, while the budget lasts: the least that a policy does.
#[derive(Debug, Clone)]
pub(crate) struct Budgeted(Arc<TpsBudget>);

impl Budgeted {
    fn new() -> Self {
        Self(Arc::new(TpsBudget::new(Duration::from_secs(10), 10, 0.2)))
    }
}

impl<T, E> Policy<ValidateUserRequest, T, E> for Budgeted {
    type Future = Ready<()>;

    fn retry(
        &mut self,
        _: &mut ValidateUserRequest,
        result: &mut Result<T, E>,
    ) -> Option<Ready<()>> {
        if result.is_ok() {
            self.0.deposit();
            return None;
        }
        self.0.withdraw().then(|| ready(()))
    }

    fn clone_request(&mut self, request: &ValidateUserRequest) -> Option<ValidateUserRequest> {
        Some(request.clone())
    }
}

pub(super) fn rows() -> Vec<Row> {
    let layer = |id, title, make: fn(Manner) -> _| Row {
        table: Table::Layer,
        id,
        over: Some("typed"),
        title,
        manners: BOTH,
        make,
    };
    vec![
        Row {
            table: Table::Stack,
            id: "tower",
            over: Some("bare"),
            title: "tower: timeout, retry with a budget, concurrency limit",
            manners: BOTH,
            make: |manner| on::<{ line!() }, _>(|typed| stack(typed, 100), manner),
        },
        layer("tower-timeout", "tower: timeout", |manner| {
            on::<{ line!() }, _>(|typed| Timeout::new(typed, Duration::from_secs(1)), manner)
        }),
        layer("tower-retry", "tower: retry with a budget", |manner| {
            on::<{ line!() }, _>(|typed| Retry::new(Budgeted::new(), typed), manner)
        }),
        layer("tower-limit", "tower: concurrency limit", |manner| {
            on::<{ line!() }, _>(|typed| ConcurrencyLimit::new(typed, 100), manner)
        }),
    ]
}

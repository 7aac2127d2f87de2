//! A response that the caller has been given.

use std::time::Duration;

use tonic::Status;

use super::{
    Shared,
    budget::{Withdrawal, settle},
    decision::{Decision, Failed, decide},
};
use crate::{rejection::Rejection, upstream::MethodIndex};

/// Settles with the budget when the response that the caller got is over. A
/// response that is dropped settles nothing: what was paid for it is spent.
#[derive(Debug)]
pub(super) struct Committed {
    pub(super) method: MethodIndex,
    pub(super) withdrawal: Option<Withdrawal>,
    pub(super) retried: bool,
}

impl Committed {
    pub(super) fn succeeded(self, shared: &Shared) {
        settle(&*shared.budget, self.withdrawal, self.retried);
    }

    pub(super) fn failed(self, status: &Status, shared: &Shared) {
        let upstream = &shared.upstream;
        if upstream.is_answer(status) {
            return self.succeeded(shared);
        }
        if Rejection::of(status).is_some() {
            return;
        }
        let policy = upstream.policy(self.method);
        let failed = Failed {
            status,
            rule: upstream.retry_rule(status),
            attempts: 1,
            max_attempts: policy.max_attempts,
            transparent_used: false,
            idempotent: policy.idempotent,
            committed: true,
            once: None,
            remaining: None,
        };
        if let Decision::Stop(reason) = decide(&failed, || Duration::ZERO) {
            shared.stopped.count(reason);
        }
    }
}

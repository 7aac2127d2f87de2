//! A future that may have been refused before it began.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;
use tonic::Status;

pin_project! {
    /// What a layer that may refuse returns: the future of the service below,
    /// or the status that stands in its place.
    #[derive(Debug)]
    pub struct MaybeRefused<F> {
        #[pin]
        state: State<F>,
    }
}

pin_project! {
    #[project = StateProj]
    #[derive(Debug)]
    enum State<F> {
        Sent { #[pin] future: F },
        Refused { status: Option<Status> },
    }
}

impl<F> MaybeRefused<F> {
    pub(crate) fn sent(future: F) -> Self {
        Self {
            state: State::Sent { future },
        }
    }

    pub(crate) fn refused(status: Status) -> Self {
        Self {
            state: State::Refused {
                status: Some(status),
            },
        }
    }
}

impl<F, T> Future for MaybeRefused<F>
where
    F: Future<Output = Result<T, Status>>,
{
    type Output = Result<T, Status>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProj::Sent { future } => future.poll(cx),
            StateProj::Refused { status } => match status.take() {
                Some(status) => Poll::Ready(Err(status)),
                // Polled after it was done: there is nothing more to come.
                None => Poll::Pending,
            },
        }
    }
}

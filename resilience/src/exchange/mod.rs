//! A request and its response, in one place.
//!
//! A tower service hands out a future, and the future a response with a body.
//! Were each layer such a service, each would have a future around the one
//! below, and then a body around the one below, and every call would move all
//! of that several times: most of what a stack of thin layers costs.
//!
//! So beneath the surface a layer is an [`Exchange`]: a state machine that
//! holds the one below it, is started with a request, and is asked for the
//! response head and then for its frames. All of them together lie in one
//! block of memory, and none of it moves.
//!
//! | file | what |
//! | --- | --- |
//! | `turn.rs` | what a poll is given: the waker, and one look at the clock |
//! | `sent.rs` | the innermost: any service, as an exchange |
//! | `service.rs` | the outermost: any exchange, as the future and the body of a service |
//! | `pool.rs` | exchanges that are over, for calls to come |
//!
//! In between are `guard/`, which asks policies, and `retry/`.

mod pool;
mod sent;
mod service;
mod turn;

use std::{pin::Pin, task::Poll};

use bytes::Bytes;
use http::{Request, response::Parts};
use http_body::{Frame, SizeHint};
use tonic::{Status, body::Body};

pub(crate) use self::{pool::Pool, turn::Turn};
pub use self::{
    sent::Sent,
    service::{ExchangeBody, ExchangeFuture},
};
use crate::context::Context;

/// A request and its response.
///
/// It ends as an attempt ends above the edge: with a body that is over, or with
/// a [`Status`], of the head or of a frame. After that it may be started again.
pub trait Exchange {
    /// Sends `request`, or begins to wait until it can be sent.
    fn start(self: Pin<&mut Self>, request: Request<Body>, context: Context);

    /// The response head. Once it has been returned, frames are asked for.
    fn poll_head(self: Pin<&mut Self>, turn: &mut Turn<'_, '_>) -> Poll<Result<Parts, Status>>;

    /// The next frame of the response; none before the head, and after the end.
    fn poll_frame(
        self: Pin<&mut Self>,
        turn: &mut Turn<'_, '_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>>;

    /// Drops what is under way, which resets the stream, and what is known of
    /// the call; a timer may be left running.
    fn stop(self: Pin<&mut Self>);

    /// Whether there is nothing more to come, as far as is known.
    fn is_end_stream(&self) -> bool;

    /// How much there is to come of the response.
    fn size_hint(&self) -> SizeHint;
}

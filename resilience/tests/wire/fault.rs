//! What the server does, and when.

use std::{fmt, sync::Arc, time::Duration};

use crate::frames::{Fields, data, flag, headers};

/// How far a connection, or a request on it, has come when something happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum At {
    /// Connected; nothing has been read.
    Accept,
    /// The client has said hello (preface and SETTINGS), the server nothing.
    Greeting,
    /// The HEADERS of a request are here, its DATA may not be.
    Headers,
    /// All of a request is here.
    Request,
}

impl At {
    /// Whether it happens once per connection, and not once per request.
    pub(crate) fn is_of_connection(self) -> bool {
        matches!(self, Self::Accept | Self::Greeting)
    }
}

/// One thing to do.
#[derive(Debug, Clone)]
pub(crate) enum Act {
    /// Write these bytes, whatever they are.
    Send(Vec<u8>),
    /// Write these bytes again and again, with this much time between.
    Trickle(Vec<u8>, Duration),
    /// Write DATA with these bytes again and again, as fast as they are taken.
    Flood(Vec<u8>),
    /// Write these bytes again and again, whatever the windows say.
    Spew(Vec<u8>),
    /// Do nothing for a time.
    Pause(Duration),
    /// Close this direction; the other is read to its end.
    Fin,
    /// Close gracefully: GOAWAY at this stream, the answers that are still due
    /// at or below it, and then FIN.
    Close,
    /// Break the connection off.
    Rst,
    /// Read on, and never say a word again.
    Mute,
    /// Not even read.
    Deaf,
}

/// What happens at one point, in place of what should.
#[derive(Clone)]
pub(crate) struct Fault {
    pub(crate) at: At,
    acts: Arc<dyn Fn(u32) -> Vec<Act> + Send + Sync>,
}

impl Fault {
    /// `acts` is told the stream, 0 before there is one.
    pub(crate) fn new(at: At, acts: impl Fn(u32) -> Vec<Act> + Send + Sync + 'static) -> Self {
        Self {
            at,
            acts: Arc::new(acts),
        }
    }

    /// These bytes in place of an answer.
    pub(crate) fn answer(bytes: impl Fn(u32) -> Vec<u8> + Send + Sync + 'static) -> Self {
        Self::new(At::Request, move |stream| vec![Act::Send(bytes(stream))])
    }

    pub(crate) fn acts(&self, stream: u32) -> Vec<Act> {
        (self.acts)(stream)
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fault")
            .field("at", &self.at)
            .finish_non_exhaustive()
    }
}

/// The message of a right answer: a user whose id is "user", in a gRPC frame.
pub(crate) const MESSAGE: &[u8] = b"\x00\x00\x00\x00\x06\x0a\x04user";

/// The head of a right answer.
pub(crate) const GRPC: [(&str, &str); 2] =
    [(":status", "200"), ("content-type", "application/grpc")];

/// A response head that says gRPC, and this.
pub(crate) fn head(stream: u32, fields: Fields<'_>) -> Vec<u8> {
    headers(stream, flag::NONE, &[&GRPC, fields].concat())
}

/// A response that is over with its head.
pub(crate) fn only_head(stream: u32, fields: Fields<'_>) -> Vec<u8> {
    headers(stream, flag::END_STREAM, &[&GRPC, fields].concat())
}

pub(crate) fn message(stream: u32) -> Vec<u8> {
    data(stream, flag::NONE, MESSAGE)
}

pub(crate) fn trailers(stream: u32, fields: Fields<'_>) -> Vec<u8> {
    headers(stream, flag::END_STREAM, fields)
}

/// A right answer.
pub(crate) fn healthy(stream: u32) -> Vec<u8> {
    [
        head(stream, &[]),
        message(stream),
        trailers(stream, &[("grpc-status", "0")]),
    ]
    .concat()
}

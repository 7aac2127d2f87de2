//! Scripts: what a body does, line by line.
//!
//! ```text
//! data BYTES     a frame of data; `%0a` is the byte 0a
//! fill N         a frame of N bytes
//! message        a frame with a whole, good message
//! trailers       a frame of trailers; `name: value` lines after it go into them
//! wait N         nothing, for so many milliseconds, and one at least
//! yield          not ready, the first time that it is asked
//! break          an error: the connection is reset
//! reset N        an error: the stream is reset, for the reason N of HTTP/2
//! hang           nothing, for ever
//! again          from the start, for ever, 20 milliseconds later each time
//! ```

use std::{future::pending, io, time::Duration};

use bytes::Bytes;
use futures_util::{Stream, stream::unfold};
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::Frame;
use http_body_util::StreamBody;
use prost::Message as _;
use proto::user::ValidateUserResponse;
use tokio::{task::yield_now, time::sleep};
use tonic::body::Body;
use tower::BoxError;

use super::time::ms;

/// Largest frame that `fill` makes.
const FILL_MAX: usize = 4096;

/// One thing that a body does.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Data(Bytes),
    Trailers(HeaderMap),
    Wait(Duration),
    Yield,
    Fail(Failure),
    Hang,
    Again,
}

/// How the transport fails.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Failure {
    Broken,
    Reset(u32),
}

impl Failure {
    pub(crate) fn error(self) -> BoxError {
        match self {
            Self::Broken => io::Error::from(io::ErrorKind::ConnectionReset).into(),
            Self::Reset(reason) => h2::Error::from(h2::Reason::from(reason)).into(),
        }
    }
}

impl Step {
    /// What a line says; `None` when that is not a step.
    pub(crate) fn read(line: &[u8]) -> Option<Self> {
        let (word, rest) = word(line);
        Some(match word {
            b"data" => Self::Data(unescaped(rest)),
            b"fill" => {
                let size = usize::try_from(number(rest)?).ok()?;
                Self::Data(vec![b'.'; size.min(FILL_MAX)].into())
            }
            b"message" => Self::Data(message()),
            b"trailers" => Self::Trailers(HeaderMap::new()),
            b"wait" => Self::Wait(ms(number(rest)?.clamp(1, 10_000))),
            b"yield" => Self::Yield,
            b"break" => Self::Fail(Failure::Broken),
            b"reset" => Self::Fail(Failure::Reset(u32::try_from(number(rest)?).ok()?)),
            b"hang" => Self::Hang,
            b"again" => Self::Again,
            _ => return None,
        })
    }
}

/// The first word of a line, and what follows the space after it.
pub(crate) fn word(line: &[u8]) -> (&[u8], &[u8]) {
    match line.iter().position(|byte| *byte == b' ') {
        Some(space) => (&line[..space], &line[space + 1..]),
        None => (line, b""),
    }
}

pub(crate) fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// A `name: value` line.
pub(crate) fn header(line: &[u8]) -> Option<(HeaderName, HeaderValue)> {
    let colon = line.windows(2).position(|pair| pair == b": ")?;
    let name = HeaderName::from_bytes(&line[..colon]).ok()?;
    let value = HeaderValue::from_bytes(&line[colon + 2..]).ok()?;
    Some((name, value))
}

fn unescaped(text: &[u8]) -> Bytes {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        let escaped = match after {
            [high, low, after @ ..] if *first == b'%' => {
                let digit = |byte: &u8| char::from(*byte).to_digit(16);
                digit(high)
                    .zip(digit(low))
                    .map(|(high, low)| (high * 16 + low, after))
            }
            _ => None,
        };
        match escaped {
            Some((byte, after)) => {
                bytes.push(u8::try_from(byte).expect("two hexadecimal digits"));
                rest = after;
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    bytes.into()
}

/// A whole, good message, framed as gRPC frames it.
pub(crate) fn message() -> Bytes {
    let message = ValidateUserResponse {
        valid: true,
        ..ValidateUserResponse::default()
    };
    let message = message.encode_to_vec();
    let length = u32::try_from(message.len()).expect("it is short");
    let mut framed = vec![0];
    framed.extend(length.to_be_bytes());
    framed.extend(message);
    framed.into()
}

/// A body that does `steps`.
pub(crate) fn body(steps: Vec<Step>) -> Body {
    Body::new(StreamBody::new(frames(steps)))
}

fn frames(steps: Vec<Step>) -> impl Stream<Item = Result<Frame<Bytes>, BoxError>> {
    unfold((steps, 0), |(steps, mut next)| async move {
        loop {
            let step = steps.get(next)?.clone();
            next += 1;
            let item = match step {
                Step::Data(data) => Ok(Frame::data(data)),
                Step::Trailers(trailers) => Ok(Frame::trailers(trailers)),
                Step::Fail(failure) => {
                    next = steps.len();
                    Err(failure.error())
                }
                Step::Wait(time) => {
                    sleep(time).await;
                    continue;
                }
                Step::Yield => {
                    yield_now().await;
                    continue;
                }
                Step::Hang => pending().await,
                Step::Again => {
                    // Often enough to be endless, and seldom enough to be quick.
                    sleep(ms(20)).await;
                    next = 0;
                    continue;
                }
            };
            return Some((item, (steps, next)));
        }
    })
}

//! A request that can be sent again.

use std::{
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http::Request;
use http_body::{Body as _, Frame};
use tonic::{Status, body::Body};

use super::head::Head;

/// What is kept of a request, so that it can be sent again if its body allows.
#[derive(Debug)]
#[expect(clippy::large_enum_variant)] // the large one is the usual one
pub(crate) enum Replay {
    /// The whole body is here.
    Whole {
        /// Everything but the body.
        head: Head,
        /// The body.
        frames: Frames,
    },
    /// It can be sent only once.
    Once(Why),
}

/// Why a request can be sent only once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    /// The body was not complete at the start: the caller streams.
    Streaming,
    /// It is larger than the bound.
    TooLarge,
}

/// The data of a body; one frame, unless many messages were ready at once.
#[derive(Debug, Clone, Default)]
pub(crate) struct Frames {
    first: Option<Bytes>,
    more: Option<Arc<Vec<Bytes>>>,
}

impl Frames {
    fn push(&mut self, data: Bytes) {
        match &self.first {
            None => self.first = Some(data),
            Some(_) => Arc::make_mut(self.more.get_or_insert_default()).push(data),
        }
    }

    fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.more.as_ref().map_or(0, |more| more.len())
    }

    fn get(&self, index: usize) -> Option<&Bytes> {
        match index.checked_sub(1) {
            None => self.first.as_ref(),
            Some(index) => self.more.as_ref()?.get(index),
        }
    }
}

/// Most frames that are kept, so that empty ones are bounded too.
const FRAMES_MAX: usize = 1024;

impl Replay {
    /// Keeps what it takes to send `request` again, which then is as it is to
    /// be sent first.
    ///
    /// The body is polled at once, without waiting. That of a unary call is
    /// complete by then; one that is not belongs to a stream, which is how the
    /// two are told apart. What was read goes out in front of the rest.
    ///
    /// # Errors
    /// What the body says that cannot be made, such as that of a message which
    /// is larger than its client may send. Sent, it would break the stream, and
    /// look like a failure of the upstream.
    pub(crate) fn of(request: &mut Request<Body>, bytes_max: usize) -> Result<Self, Status> {
        let mut body = mem::take(request.body_mut());
        match read(&mut body, bytes_max)? {
            (frames, Extent::Whole) => {
                *request.body_mut() = played(frames.clone(), None);
                Ok(Self::Whole {
                    head: Head::of(request),
                    frames,
                })
            }
            (frames, Extent::Part(why, trailers)) => {
                *request.body_mut() = played(frames, Some(Rest { trailers, body }));
                Ok(Self::Once(why))
            }
        }
    }

    /// Why it can be sent only once, if so.
    pub(crate) fn once(&self) -> Option<Why> {
        match self {
            Self::Whole { .. } => None,
            Self::Once(why) => Some(*why),
        }
    }

    /// The request again, if that can be.
    pub(crate) fn again(&self) -> Option<Request<Body>> {
        match self {
            Self::Whole { head, frames } => Some(head.request(played(frames.clone(), None))),
            Self::Once(_) => None,
        }
    }
}

/// How much of a body was read.
enum Extent {
    Whole,
    /// Up to where it cannot be kept, for this reason; the trailers, if it was
    /// up to these.
    Part(Why, Option<Frame<Bytes>>),
}

/// Reads what is there of `body`.
fn read(body: &mut Body, bytes_max: usize) -> Result<(Frames, Extent), Status> {
    let mut cx = Context::from_waker(Waker::noop());
    let mut frames = Frames::default();
    let mut size = 0;
    loop {
        match Pin::new(&mut *body).poll_frame(&mut cx) {
            Poll::Ready(None) => return Ok((frames, Extent::Whole)),
            Poll::Pending => return Ok((frames, Extent::Part(Why::Streaming, None))),
            Poll::Ready(Some(frame)) => match frame?.into_data() {
                Ok(data) => {
                    size += data.len();
                    frames.push(data);
                    if size > bytes_max || frames.len() > FRAMES_MAX {
                        return Ok((frames, Extent::Part(Why::TooLarge, None)));
                    }
                }
                Err(trailers) => {
                    return Ok((frames, Extent::Part(Why::Streaming, Some(trailers))));
                }
            },
        }
    }
}

fn played(frames: Frames, rest: Option<Rest>) -> Body {
    Body::new(Played {
        frames,
        next: 0,
        rest: rest.map(Box::new),
    })
}

/// A body that plays what was read, and then what was not.
///
/// It gives no exact size: hyper would add a `content-length`, which gRPC
/// requests do not have.
#[derive(Debug)]
struct Played {
    frames: Frames,
    next: usize,
    /// Boxed, as hardly any has one.
    rest: Option<Box<Rest>>,
}

#[derive(Debug)]
struct Rest {
    trailers: Option<Frame<Bytes>>,
    body: Body,
}

impl http_body::Body for Played {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        if let Some(data) = this.frames.get(this.next) {
            this.next += 1;
            return Poll::Ready(Some(Ok(Frame::data(data.clone()))));
        }
        match &mut this.rest {
            None => Poll::Ready(None),
            Some(rest) => match rest.trailers.take() {
                Some(trailers) => Poll::Ready(Some(Ok(trailers))),
                None => Pin::new(&mut rest.body).poll_frame(cx),
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        self.frames.get(self.next).is_none()
            && self
                .rest
                .as_ref()
                .is_none_or(|rest| rest.trailers.is_none() && rest.body.is_end_stream())
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt as _, StreamBody};
    use tokio_stream::{StreamExt as _, iter, pending};

    use super::*;

    fn request(body: Body) -> Request<Body> {
        let mut request = Request::new(body);
        request.headers_mut().insert("x-id", "7".parse().unwrap());
        request
    }

    /// What is kept, and what is sent first.
    fn replay(body: Body, bytes_max: usize) -> (Replay, Request<Body>) {
        let mut request = request(body);
        (Replay::of(&mut request, bytes_max).unwrap(), request)
    }

    fn data(text: &'static str) -> Result<Frame<Bytes>, Status> {
        Ok(Frame::data(Bytes::from_static(text.as_bytes())))
    }

    async fn text(request: Request<Body>) -> Result<String, Status> {
        assert_eq!(request.headers()["x-id"], "7");
        let bytes = request.into_body().collect().await?.to_bytes();
        Ok(String::from_utf8(bytes.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn a_complete_body_is_sent_again_as_often_as_asked() {
        let body = Body::new(StreamBody::new(iter([data("hello "), data("world")])));
        let (replay, first) = replay(body, 1024);

        assert_eq!(text(first).await.unwrap(), "hello world");
        for _ in 0..3 {
            assert_eq!(text(replay.again().unwrap()).await.unwrap(), "hello world");
        }
    }

    #[tokio::test]
    async fn a_body_that_is_not_complete_is_sent_once_and_whole() {
        let (sender, receiver) = tokio::sync::mpsc::channel(4);
        sender.send(data("now ")).await.unwrap();
        let stream = tokio_stream::wrappers::ReceiverStream::new(receiver);
        let (replay, first) = replay(Body::new(StreamBody::new(stream)), 1024);
        sender.send(data("later")).await.unwrap();
        drop(sender);

        assert_eq!(replay.once().unwrap(), Why::Streaming);
        assert_eq!(text(first).await.unwrap(), "now later");
    }

    #[tokio::test]
    async fn a_body_over_the_bound_is_sent_once_and_whole() {
        let body = Body::new(StreamBody::new(iter([
            data("four"),
            data("five!"),
            data("six"),
        ])));
        let (replay, first) = replay(body, 8);

        assert_eq!(replay.once().unwrap(), Why::TooLarge);
        assert_eq!(text(first).await.unwrap(), "fourfive!six");
    }

    #[test]
    fn a_body_that_cannot_be_made_says_why() {
        let body = Body::new(StreamBody::new(iter([
            data("half"),
            Err(Status::out_of_range("message too large")),
        ])));
        let status = Replay::of(&mut request(body), 1024).unwrap_err();
        assert_eq!(status.message(), "message too large");
    }

    #[test]
    fn frames_without_data_are_bounded_too() {
        /// A body that has nothing to say, and never stops saying it.
        struct Babble;
        impl http_body::Body for Babble {
            type Data = Bytes;
            type Error = Status;
            fn poll_frame(
                self: Pin<&mut Self>,
                _: &mut Context<'_>,
            ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
                Poll::Ready(Some(Ok(Frame::data(Bytes::new()))))
            }
        }
        let (replay, _) = replay(Body::new(Babble), 1024);
        assert_eq!(replay.once().unwrap(), Why::TooLarge);
    }

    #[test]
    fn a_body_that_never_begins_does_not_block() {
        let body = Body::new(StreamBody::new(pending::<Result<Frame<Bytes>, Status>>()));
        let (replay, _) = replay(body, 1024);
        assert_eq!(replay.once().unwrap(), Why::Streaming);
    }

    #[test]
    fn the_last_frame_ends_the_stream_and_no_length_is_claimed() {
        let body = Body::new(StreamBody::new(iter([data("hello")]).chain(iter([]))));
        let (_, first) = replay(body, 1024);

        let mut body = first.into_body();
        assert_eq!(body.size_hint().exact(), None);
        let mut cx = Context::from_waker(Waker::noop());
        assert!(Pin::new(&mut body).poll_frame(&mut cx).is_ready());
        assert!(body.is_end_stream());
    }
}

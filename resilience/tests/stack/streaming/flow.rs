//! Messages pass at once, one at a time, and nobody waits for nobody.

use std::{
    convert::Infallible,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, header::CONTENT_TYPE};
use http_body::Frame;
use http_body_util::BodyExt as _;
use resilience::ResilienceLayer;
use tokio::{sync::mpsc, time::Instant};
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
use tonic::{Code, Request, Status, Streaming, body::Body};
use tower::{Layer as _, ServiceExt as _, service_fn};

use super::{asks, client_on, declared, echo, endless, paced, server, with};
use crate::{
    config,
    feed::{Ask, CHAT, FeedServer, UPLOAD, WATCH, ask, note},
    ms,
};

#[tokio::test(start_paused = true)]
async fn the_first_message_arrives_before_the_second_is_made() {
    let two = || vec![(0, Ok(note("first"))), (10_000, Ok(note("second")))];
    for config in [with(WATCH, endless()), config()] {
        let (mut client, _) = client_on(server(two), config);
        let start = Instant::now();

        let mut notes = client.watch(ask("")).await.unwrap().into_inner();
        let first = notes.message().await.unwrap().unwrap();

        assert_eq!(first.user_name, "first");
        assert_eq!(start.elapsed(), ms(0));
    }
}

#[tokio::test(start_paused = true)]
async fn the_head_of_a_declared_stream_does_not_wait_for_its_first_message() {
    let late = || vec![(100, Ok(note("late")))];
    // Undeclared, it might still be retried, and is held back till then.
    for (config, head_at) in [(declared(), ms(0)), (config(), ms(100))] {
        let (mut client, _) = client_on(server(late), config);
        let start = Instant::now();

        let mut notes = client.watch(ask("")).await.unwrap().into_inner();
        let head = start.elapsed();
        notes.message().await.unwrap().unwrap();

        assert!(head >= head_at && head <= head_at + ms(1), "{head:?}");
        assert!(start.elapsed() <= ms(101), "{:?}", start.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn both_sides_may_wait_for_each_other_at_every_message() {
    let (mut client, layer) = client_on(echo(), declared());
    let (sender, asks) = mpsc::channel(1);
    let start = Instant::now();
    let asks = ReceiverStream::new(asks);
    let mut notes = client.chat(asks).await.unwrap().into_inner();
    for round in 0..100 {
        sender.send(ask(round.to_string())).await.unwrap();
        let note = notes.message().await.unwrap().unwrap();
        assert_eq!(note.user_name, round.to_string());
    }
    drop(sender);
    assert_eq!(notes.message().await.unwrap(), None);
    assert_eq!((start.elapsed(), layer.in_flight()), (ms(0), 0));
}

#[tokio::test(start_paused = true)]
async fn a_streamed_request_arrives_message_by_message() {
    let arrived = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&arrived);
    let counts = FeedServer::new(move |request: Request<Streaming<Ask>>| {
        let count = Arc::clone(&count);
        async move {
            let mut asks = request.into_inner();
            let mut all = String::new();
            while let Some(ask) = asks.message().await? {
                all.push_str(&ask.user_id);
                count.fetch_add(1, Ordering::Relaxed);
            }
            Ok(tokio_stream::once(Ok(note(all))))
        }
    });
    let (mut client, layer) = client_on(counts, with(UPLOAD, endless()));
    let upload = client.upload(asks(&[(0, "a"), (1_000, "b"), (1_000, "c")]));
    let mut upload = pin!(upload);

    let still = tokio::time::timeout(ms(1_500), &mut upload).await;
    assert!(still.is_err());
    assert_eq!((arrived.load(Ordering::Relaxed), layer.in_flight()), (2, 1));

    let reply = upload.await.unwrap().into_inner();
    assert_eq!(reply.user_name, "abc");
    assert_eq!(
        (layer.in_flight(), layer.breaker().failure_ratio()),
        (0, 0.0)
    );
}

#[tokio::test(start_paused = true)]
async fn an_answer_to_half_of_a_streamed_request_is_an_answer() {
    let hasty = FeedServer::new(|request: Request<Streaming<Ask>>| async {
        let first = request.into_inner().message().await?.unwrap();
        Ok(tokio_stream::once(Ok(note(first.user_id))))
    });
    let (mut client, layer) = client_on(hasty, declared());
    let (sender, asks) = mpsc::channel(1);
    sender.send(ask("first")).await.unwrap();

    let reply = client.upload(ReceiverStream::new(asks)).await.unwrap();

    assert_eq!(reply.into_inner().user_name, "first");
    assert_eq!(layer.in_flight(), 0);
    assert!(sender.is_closed(), "nobody will read the rest");
}

#[tokio::test(start_paused = true)]
async fn a_failure_in_the_middle_of_a_streamed_request_is_told_at_once() {
    let refuses = FeedServer::new(|request: Request<Streaming<Ask>>| async {
        request.into_inner().message().await?;
        Err::<tokio_stream::Empty<_>, _>(Status::invalid_argument("no more of this"))
    });
    let (mut client, _) = client_on(refuses, declared());
    let start = Instant::now();

    let slow = asks(&[(5, "one"), (200, "two")]);
    let status = client.upload(slow).await.unwrap_err();

    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(start.elapsed() <= ms(6), "{:?}", start.elapsed());
}

/// A body that always has one more frame, and counts those that were taken.
struct Endless(Arc<AtomicUsize>);

impl http_body::Body for Endless {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"\0\0\0\0\0")))))
    }
}

#[tokio::test(start_paused = true)]
async fn no_layer_reads_ahead_of_the_caller_but_the_one_frame_that_commits() {
    // Held back until its first frame, and not.
    for (config, ahead) in [(config(), 1), (declared(), 0)] {
        let taken = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&taken);
        let upstream = service_fn(move |_: http::Request<Body>| {
            let mut response = Response::new(Body::new(Endless(Arc::clone(&count))));
            let grpc = HeaderValue::from_static("application/grpc");
            response.headers_mut().insert(CONTENT_TYPE, grpc);
            async { Ok::<_, Infallible>(response) }
        });
        let layer = ResilienceLayer::new("feed", config).unwrap();
        let request = http::Request::post("http://feed/feed.Feed/Watch");
        let request = request.body(Body::empty()).unwrap();
        let mut body = layer
            .layer(upstream)
            .oneshot(request)
            .await
            .unwrap()
            .into_body();

        assert_eq!(taken.load(Ordering::Relaxed), ahead);
        for read in 1..=1_000 {
            body.frame().await.unwrap().unwrap();
            assert_eq!(taken.load(Ordering::Relaxed), read);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn of_a_request_that_never_ends_no_more_is_kept_than_the_bound() {
    const MESSAGE: usize = 64 << 10;
    let made = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&made);
    let never_ends = tokio_stream::iter(std::iter::repeat_with(move || {
        count.fetch_add(1, Ordering::Relaxed);
        ask("x".repeat(MESSAGE))
    }));
    let takes_three = FeedServer::new(|request: Request<Streaming<Ask>>| async {
        let mut asks = request.into_inner();
        for _ in 0..3 {
            asks.message().await?.unwrap();
        }
        Ok(tokio_stream::once(Ok(note("enough"))))
    });
    let config = declared();
    let bound = config.retry.replay_bytes_max / MESSAGE;
    let (mut client, _) = client_on(takes_three, config);

    client.upload(never_ends).await.unwrap();

    let made = made.load(Ordering::Relaxed);
    assert!((3..=bound + 2).contains(&made), "{made}, of {bound}");
}

/// The trailers, and what the caller of a stream is told in them, come through.
#[tokio::test(start_paused = true)]
async fn the_metadata_at_the_end_of_a_stream_arrives() {
    let upstream = service_fn(|_: http::Request<Body>| async {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        trailers.insert("x-last-words", HeaderValue::from_static("bye"));
        let frames = tokio_stream::once(Ok::<_, Infallible>(Frame::trailers(trailers)));
        let mut response = Response::new(Body::new(http_body_util::StreamBody::new(frames)));
        let grpc = HeaderValue::from_static("application/grpc");
        response.headers_mut().insert(CONTENT_TYPE, grpc);
        Ok::<_, Infallible>(response)
    });
    let (mut client, _) = client_on(upstream, declared());
    let mut notes = client.watch(ask("")).await.unwrap().into_inner();
    assert_eq!(notes.message().await.unwrap(), None);
    let trailers = notes.trailers().await.unwrap().unwrap();
    assert_eq!(trailers.get("x-last-words").unwrap(), "bye");
}

/// A stream that is slow for being read slowly is not late.
#[tokio::test(start_paused = true)]
async fn a_caller_who_reads_slowly_gets_all_of_an_endless_stream() {
    let (mut client, _) = client_on(echo(), with(CHAT, endless()));
    let many = paced((0..100).map(|n| (0, ask(n.to_string()))));
    let mut notes = client.chat(many).await.unwrap().into_inner();
    let mut seen = 0;
    while let Some(note) = notes.next().await {
        assert_eq!(note.unwrap().user_name, seen.to_string());
        seen += 1;
        tokio::time::sleep(ms(60_000)).await;
    }
    assert_eq!(seen, 100);
}

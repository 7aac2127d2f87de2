//! What HTTP/2 forbids, and what it allows and nobody does.

use tonic::Code;

use crate::{
    case::{Case, Origin, Retry, Says},
    fault::{Act, At, Fault, GRPC, head, healthy, message, trailers},
    frames::{block, data, flag, frame, headers, kind, setting, settings, window_update},
    matrix,
};

/// h2 finds it in the stream, and resets that.
fn breaks_the_stream(name: &str, bytes: fn(u32) -> Vec<u8>) -> Case {
    Case::new(
        name,
        Fault::answer(bytes),
        Code::Internal,
        Origin::MaybeProcessed,
        Retry::Never,
        Says::Failure,
    )
}

/// h2 finds it in the connection, and gives that up.
fn breaks_the_connection(name: &str, bytes: fn(u32) -> Vec<u8>) -> Case {
    Case::breaks(name, Fault::answer(bytes))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_breaks_the_rules_of_a_stream_is_internal() {
    matrix::run(vec![
        breaks_the_stream("B17 headers of 20 KiB, where 16 are allowed", |id| {
            headers(
                id,
                flag::END_STREAM,
                &[
                    &GRPC[..],
                    &[("grpc-status", "14"), ("x", &"x".repeat(20 << 10))],
                ]
                .concat(),
            )
        }),
        breaks_the_stream("trailers that are not the end", |id| {
            let more = headers(id, flag::NONE, &[("grpc-status", "0")]);
            [head(id, &[]), message(id), more].concat()
        })
        .committed(),
        breaks_the_stream("no HTTP status", |id| {
            headers(id, flag::NONE, &[("content-type", "application/grpc")])
        }),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_breaks_the_rules_of_the_connection_is_unavailable() {
    matrix::run(vec![
        breaks_the_connection("a header name in capitals", |id| {
            head(id, &[("X-Shout", "x")])
        }),
        breaks_the_connection("DATA before HEADERS", message),
        breaks_the_connection("WINDOW_UPDATE by nothing", |id| window_update(id, 0)),
        breaks_the_connection("DATA on stream 0", |_| data(0, flag::NONE, b"x")),
        breaks_the_connection("a frame longer than allowed", |id| {
            [head(id, &[]), data(id, flag::NONE, &[0; 20_000])].concat()
        }),
        breaks_the_connection("a header block that is not HPACK", |id| {
            frame(kind::HEADERS, flag::END_HEADERS, id, &[0xff; 9])
        }),
        breaks_the_connection("a promise, where none is wanted", |id| {
            let promise = [&2_u32.to_be_bytes()[..], &block(&GRPC)].concat();
            frame(kind::PUSH_PROMISE, flag::END_HEADERS, id, &promise)
        }),
        breaks_the_connection("an answer on a stream that nobody opened", |id| {
            head(id + 2, &[])
        }),
        breaks_the_connection("settings that cannot be", |_| {
            settings(&[(setting::ENABLE_PUSH, 2)])
        }),
        breaks_the_connection("a window that overflows", |_| window_update(0, 0x7fff_ffff)),
        breaks_the_connection("CONTINUATION of nothing", |id| {
            frame(kind::CONTINUATION, flag::END_HEADERS, id, &[])
        }),
        breaks_the_connection("headers without end", |id| {
            let part = frame(kind::CONTINUATION, flag::NONE, id, &block(&[("x", "y")]));
            [
                frame(kind::HEADERS, flag::NONE, id, &block(&GRPC)),
                part.repeat(100_000),
            ]
            .concat()
        }),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_only_unusual_is_no_error() {
    let ok = |name, bytes: fn(u32) -> Vec<u8>| Case::ok(name, Fault::answer(bytes));
    matrix::run(vec![
        ok("a frame that does not exist", |id| {
            [frame(0xbe, 0xff, id, b"who knows"), healthy(id)].concat()
        }),
        ok("an informational head first", |id| {
            [headers(id, flag::NONE, &[(":status", "103")]), healthy(id)].concat()
        }),
        ok("DATA with nothing in it before the message", |id| {
            [
                head(id, &[]),
                data(id, flag::NONE, b"").repeat(5),
                message(id),
                trailers(id, &[("grpc-status", "0")]),
            ]
            .concat()
        }),
        ok("headers in many frames", |id| {
            let long = "x".repeat(200);
            let fields: Vec<_> = ["a", "b", "c"].iter().map(|name| (*name, &*long)).collect();
            let block = block(&[&GRPC[..], &fields].concat());
            let mut head = Vec::new();
            for (index, part) in block.chunks(200).enumerate() {
                let kind = if index == 0 {
                    kind::HEADERS
                } else {
                    kind::CONTINUATION
                };
                head.extend(frame(kind, flag::NONE, id, part));
            }
            head.extend(frame(kind::CONTINUATION, flag::END_HEADERS, id, &[]));
            [head, message(id), trailers(id, &[("grpc-status", "0")])].concat()
        }),
        Case::ok(
            "an answer before the request is whole",
            Fault::new(At::Headers, |id| vec![Act::Send(healthy(id))]),
        ),
    ])
    .await;
}

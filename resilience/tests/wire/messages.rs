//! Messages: missing, in pieces, too many, and such as tonic cannot take.

use tonic::Code;

use crate::{
    case::{Case, Says},
    fault::{Fault, MESSAGE, head, message, only_head, trailers},
    frames::{data, flag},
    matrix,
};

const END: u8 = flag::END_STREAM;

/// The stack is out of it here: the upstream has said OK, or has not finished,
/// and it is tonic above that cannot take what came.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_tonic_cannot_take_is_not_tried_again() {
    let undecodable = |name, bytes: fn(u32) -> Vec<u8>, code, says| {
        Case::undecodable(name, Fault::answer(bytes), code, says)
    };
    matrix::run(vec![
        undecodable(
            "B5 OK in the head, and no message",
            |id| only_head(id, &[("grpc-status", "0")]),
            Code::Internal,
            Says::Success,
        ),
        undecodable(
            "B5 OK in a head that is not the end, and a message",
            |id| {
                [
                    head(id, &[("grpc-status", "0")]),
                    message(id),
                    trailers(id, &[]),
                ]
                .concat()
            },
            Code::Internal,
            Says::Success,
        ),
        undecodable(
            "B6 OK in trailers, and no message",
            |id| [head(id, &[]), trailers(id, &[("grpc-status", "0")])].concat(),
            Code::Internal,
            Says::Success,
        ),
        Case::ok(
            "B10 two messages",
            Fault::answer(|id| {
                [
                    head(id, &[]),
                    message(id),
                    message(id),
                    trailers(id, &[("grpc-status", "0")]),
                ]
                .concat()
            }),
        ),
        Case::ok(
            "a message in pieces of one byte",
            Fault::answer(|id| {
                let pieces = MESSAGE
                    .chunks(1)
                    .flat_map(|byte| data(id, flag::NONE, byte));
                [
                    head(id, &[]),
                    pieces.collect(),
                    trailers(id, &[("grpc-status", "0")]),
                ]
                .concat()
            }),
        ),
        // What tonic finds wrong with a message it finds before the trailers,
        // and then drops the body: nobody has heard how the call ended.
        undecodable(
            "B14 a page that claims to be gRPC",
            |id| [head(id, &[]), data(id, END, b"<html>sorry</html>")].concat(),
            Code::Internal,
            Says::Nothing,
        ),
        undecodable(
            "B15 a message longer than tonic takes",
            |id| {
                let start = b"\x00\x00\x50\x00\x00\x0a\x04u";
                [head(id, &[]), data(id, flag::NONE, start)].concat()
            },
            Code::OutOfRange,
            Says::Nothing,
        ),
        undecodable(
            "B16 a message that is not protobuf",
            |id| {
                [
                    head(id, &[]),
                    data(id, flag::NONE, b"\x00\x00\x00\x00\x02\xff\xff"),
                    trailers(id, &[("grpc-status", "0")]),
                ]
                .concat()
            },
            Code::Internal,
            Says::Nothing,
        ),
        undecodable(
            "a message compressed in a way that nobody asked for",
            |id| {
                [
                    head(id, &[("grpc-encoding", "zstd")]),
                    data(id, flag::NONE, b"\x01\x00\x00\x00\x02\xff\xff"),
                    trailers(id, &[("grpc-status", "0")]),
                ]
                .concat()
            },
            Code::Unimplemented,
            Says::Nothing,
        ),
    ])
    .await;
}

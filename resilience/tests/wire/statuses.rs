//! Statuses of gRPC: in the head, in trailers, malformed, missing.

use tonic::Code;

use crate::{
    case::{Case, Retry, Says},
    fault::{Fault, MESSAGE, head, message, only_head, trailers},
    frames::{data, flag, headers},
    matrix,
};

const END: u8 = flag::END_STREAM;

#[tokio::test(flavor = "multi_thread")]
async fn a_status_means_the_same_wherever_it_stands() {
    use Code::{Aborted, NotFound, ResourceExhausted, Unavailable, Unimplemented, Unknown};
    use Retry::{IfIdempotent, Never};
    use Says::{Answered, Failure, Success};

    let answers = |name, bytes: fn(u32) -> Vec<u8>, code, retry, says| {
        Case::answers(name, Fault::answer(bytes), code, retry, says)
    };
    matrix::run(vec![
        Case::ok("B1 an answer", Fault::answer(crate::fault::healthy)),
        answers(
            "B2 UNAVAILABLE in the head",
            |id| only_head(id, &[("grpc-status", "14")]),
            Unavailable,
            IfIdempotent,
            Failure,
        ),
        answers(
            "B3 UNAVAILABLE in trailers, no message",
            |id| [head(id, &[]), trailers(id, &[("grpc-status", "14")])].concat(),
            Unavailable,
            IfIdempotent,
            Failure,
        ),
        answers(
            "B3 UNAVAILABLE in trailers, after DATA with nothing in it",
            |id| {
                let nothing = data(id, flag::NONE, b"");
                [
                    head(id, &[]),
                    nothing,
                    trailers(id, &[("grpc-status", "14")]),
                ]
                .concat()
            },
            Unavailable,
            IfIdempotent,
            Failure,
        ),
        answers(
            "B4 UNAVAILABLE in trailers, after a message",
            |id| {
                [
                    head(id, &[]),
                    message(id),
                    trailers(id, &[("grpc-status", "14")]),
                ]
                .concat()
            },
            Unavailable,
            IfIdempotent,
            Failure,
        )
        .committed(),
        answers(
            "B7 UNAVAILABLE in a head that is not the end",
            |id| {
                [
                    head(id, &[("grpc-status", "14")]),
                    message(id),
                    trailers(id, &[]),
                ]
                .concat()
            },
            Unavailable,
            IfIdempotent,
            Failure,
        ),
        answers(
            "B8 a code that does not exist",
            |id| only_head(id, &[("grpc-status", "99")]),
            Unknown,
            Never,
            Answered,
        ),
        answers(
            "B9 a code with a leading zero",
            |id| only_head(id, &[("grpc-status", "014")]),
            Unknown,
            Never,
            Answered,
        ),
        answers(
            "B9 a code that is no number",
            |id| only_head(id, &[("grpc-status", "UNAVAILABLE")]),
            Unknown,
            Never,
            Answered,
        ),
        answers(
            "B9 no code",
            |id| only_head(id, &[("grpc-status", "")]),
            Unknown,
            Never,
            Answered,
        ),
        answers(
            "B11 a message, and the end without trailers",
            |id| [head(id, &[]), data(id, END, MESSAGE)].concat(),
            Unknown,
            Never,
            Answered,
        )
        .committed(),
        answers(
            "B11 a message, and trailers without a status",
            |id| [head(id, &[]), message(id), trailers(id, &[("x", "y")])].concat(),
            Unknown,
            Never,
            Answered,
        )
        .committed(),
        // h2 keeps what came before the limit. Such a head it refuses.
        answers(
            "B17 trailers of 20 KiB, where 16 are allowed",
            |id| {
                let long = "x".repeat(20 << 10);
                [
                    head(id, &[]),
                    trailers(id, &[("grpc-status", "14"), ("x", &long)]),
                ]
                .concat()
            },
            Unavailable,
            IfIdempotent,
            Failure,
        ),
        // tonic alone says INTERNAL, of the half message. That the status is
        // missing is known here first; gRPC's C core says UNKNOWN too.
        answers(
            "B12 half a message, and the end without trailers",
            |id| [head(id, &[]), data(id, END, &MESSAGE[..7])].concat(),
            Unknown,
            Never,
            Answered,
        )
        .committed(),
        answers(
            "B13 only a head, without a status",
            |id| only_head(id, &[]),
            Unknown,
            Never,
            Answered,
        ),
        answers(
            "NOT_FOUND is an answer",
            |id| only_head(id, &[("grpc-status", "5")]),
            NotFound,
            Never,
            Success,
        ),
        answers(
            "RESOURCE_EXHAUSTED without pushback",
            |id| only_head(id, &[("grpc-status", "8")]),
            ResourceExhausted,
            Never,
            Answered,
        ),
        answers(
            "RESOURCE_EXHAUSTED with pushback",
            |id| only_head(id, &[("grpc-status", "8"), ("grpc-retry-pushback-ms", "5")]),
            ResourceExhausted,
            IfIdempotent,
            Answered,
        ),
        answers(
            "ABORTED asks for more than the same again",
            |id| only_head(id, &[("grpc-status", "10")]),
            Aborted,
            Never,
            Answered,
        ),
        answers(
            "UNIMPLEMENTED",
            |id| only_head(id, &[("grpc-status", "12")]),
            Unimplemented,
            Never,
            Answered,
        ),
        // Without a transport error behind it, CANCELLED is what the upstream
        // chose to say.
        answers(
            "CANCELLED, by the upstream",
            |id| only_head(id, &[("grpc-status", "1")]),
            Code::Cancelled,
            Never,
            Answered,
        ),
        answers(
            "T6 DEADLINE_EXCEEDED, by the upstream",
            |id| only_head(id, &[("grpc-status", "4")]),
            Code::DeadlineExceeded,
            IfIdempotent,
            Failure,
        ),
        answers(
            "DATA_LOSS",
            |id| only_head(id, &[("grpc-status", "15")]),
            Code::DataLoss,
            Never,
            Failure,
        ),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_with_malformed_details_loses_them_and_nothing_else() {
    const BROKEN: (&str, &str) = ("grpc-status-details-bin", "!!not base64!!");
    let unavailable = |name, bytes: fn(u32) -> Vec<u8>| {
        Case::answers(
            name,
            Fault::answer(bytes),
            Code::Unavailable,
            Retry::IfIdempotent,
            Says::Failure,
        )
    };
    matrix::run(vec![
        unavailable("P1 malformed details in the head", |id| {
            only_head(id, &[("grpc-status", "14"), BROKEN])
        }),
        unavailable("P1 malformed details in trailers", |id| {
            [
                head(id, &[]),
                trailers(id, &[("grpc-status", "14"), BROKEN]),
            ]
            .concat()
        }),
        unavailable("P1 malformed details in trailers, after a message", |id| {
            [
                head(id, &[]),
                message(id),
                trailers(id, &[("grpc-status", "14"), BROKEN]),
            ]
            .concat()
        })
        .committed(),
        unavailable("P1 malformed details twice", |id| {
            only_head(id, &[("grpc-status", "14"), BROKEN, BROKEN])
        }),
        unavailable("P1 malformed details behind good ones", |id| {
            let good = ("grpc-status-details-bin", "aGVsbG8");
            only_head(id, &[("grpc-status", "14"), good, BROKEN])
        }),
        unavailable("P1 malformed details in a head without a status", |id| {
            [head(id, &[BROKEN]), trailers(id, &[("grpc-status", "14")])].concat()
        }),
        unavailable("P1 malformed details and an HTTP error", |id| {
            headers(id, END, &[(":status", "503"), BROKEN])
        }),
        unavailable("P1 other malformed binary metadata", |id| {
            only_head(id, &[("grpc-status", "14"), ("x-bin", "!!not base64!!")])
        }),
        // A message that is not UTF-8, once decoded, is no reason to lose the
        // code: the specification of gRPC says to keep what can be kept.
        unavailable("P2 a malformed message in the head", |id| {
            only_head(id, &[("grpc-status", "14"), ("grpc-message", "%ff%fe")])
        }),
        unavailable("P2 a malformed message in trailers", |id| {
            [
                head(id, &[]),
                trailers(id, &[("grpc-status", "14"), ("grpc-message", "%ff%fe")]),
            ]
            .concat()
        }),
        unavailable("P2 a message with an unfinished escape", |id| {
            only_head(id, &[("grpc-status", "14"), ("grpc-message", "100%")])
        }),
        Case::ok(
            "P1 malformed details of an OK, in trailers",
            Fault::answer(|id| {
                [
                    head(id, &[]),
                    message(id),
                    trailers(id, &[("grpc-status", "0"), BROKEN]),
                ]
                .concat()
            }),
        ),
        Case::ok(
            "P1 malformed details in the head of an OK",
            Fault::answer(|id| {
                [
                    head(id, &[BROKEN]),
                    message(id),
                    trailers(id, &[("grpc-status", "0")]),
                ]
                .concat()
            }),
        ),
    ])
    .await;
}

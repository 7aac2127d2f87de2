//! Answers of somebody who does not speak gRPC: a proxy, a web server, an older
//! HTTP.

use tonic::Code;

use crate::{
    case::{Case, Retry, Says},
    fault::{Act, At, Fault},
    frames::{Fields, data, flag, headers},
    matrix,
};

const TEXT: (&str, &str) = ("content-type", "text/plain");

fn answers(
    name: impl Into<String>,
    bytes: impl Fn(u32) -> Vec<u8> + Send + Sync + 'static,
    code: Code,
    retry: Retry,
    says: Says,
) -> Case {
    Case::answers(name, Fault::answer(bytes), code, retry, says)
}

/// A page with a body, as proxies send it.
fn page(stream: u32, status: &str, fields: Fields<'_>, body: &[u8]) -> Vec<u8> {
    let head = [&[(":status", status)], fields].concat();
    if body.is_empty() {
        headers(stream, flag::END_STREAM, &head)
    } else {
        [
            headers(stream, flag::NONE, &head),
            data(stream, flag::END_STREAM, body),
        ]
        .concat()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_http_error_is_what_grpc_says_it_is_with_a_body_or_without() {
    use Code::{Internal, PermissionDenied, Unauthenticated, Unavailable, Unimplemented, Unknown};
    use Retry::{IfIdempotent, Never};
    use Says::{Answered, Failure, Success};

    let mut cases = Vec::new();
    for (status, code, retry, says) in [
        ("302", Unknown, Never, Answered),
        ("400", Internal, Never, Failure),
        ("401", Unauthenticated, Never, Success),
        ("403", PermissionDenied, Never, Success),
        ("404", Unimplemented, Never, Answered),
        ("429", Unavailable, IfIdempotent, Failure),
        ("431", Unknown, Never, Answered),
        ("500", Unknown, Never, Answered),
        ("502", Unavailable, IfIdempotent, Failure),
        ("503", Unavailable, IfIdempotent, Failure),
        ("504", Unavailable, IfIdempotent, Failure),
    ] {
        cases.push(answers(
            format!("H1 HTTP {status}"),
            move |id| page(id, status, &[], b""),
            code,
            retry,
            says,
        ));
        for (id, body) in [
            (
                "H2",
                "upstream connect error or disconnect/reset before headers",
            ),
            ("H3", "oops"),
            // Which tonic would take for an empty message.
            ("H5", "\0\0\0\0\0"),
        ] {
            if id == "H2" || status == "503" {
                cases.push(answers(
                    format!("{id} HTTP {status} and a page of {} bytes", body.len()),
                    move |id| page(id, status, &[TEXT], body.as_bytes()),
                    code,
                    retry,
                    says,
                ));
            }
        }
    }
    matrix::run(cases).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_grpc_is_not_read_as_grpc() {
    matrix::run(vec![
        answers(
            "H4 HTTP 503 with a gRPC status: the status wins",
            |id| page(id, "503", &[("grpc-status", "5")], b""),
            Code::NotFound,
            Retry::Never,
            Says::Success,
        ),
        answers(
            "B14 a page in place of an answer",
            |id| page(id, "200", &[("content-type", "text/html")], b"<html>"),
            Code::Unknown,
            Retry::Never,
            Says::Answered,
        ),
        answers(
            "B14 no content-type",
            |id| page(id, "200", &[], crate::fault::MESSAGE),
            Code::Unknown,
            Retry::Never,
            Says::Answered,
        ),
        // hyper reads the reply as a frame, finds it too long, and says so of
        // the connection. gRPC's C core says UNAVAILABLE too.
        Case::breaks(
            "H6 a server that speaks HTTP/1.1",
            Fault::new(At::Headers, |_| {
                let reply = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n";
                vec![Act::Send(reply.to_vec()), Act::Fin]
            }),
        ),
    ])
    .await;
}

//! RST_STREAM and GOAWAY, for every reason, before the answer and in it.

use tonic::Code;

use crate::{
    case::{Case, Origin, Retry, Says},
    fault::{Act, At, Fault, head, healthy, message},
    frames::{go_away, reason, reset, settings},
    matrix,
};

/// Name, number, and what becomes of a stream that was reset for it: code,
/// retry, and what it says to the breaker.
const REASONS: &[(&str, u32, (Code, Retry, Says))] = {
    use Retry::{IfIdempotent, Never};
    use Says::{Failure, Nothing};
    const INTERNAL: (Code, Retry, Says) = (Code::Internal, Never, Failure);
    &[
        ("NO_ERROR", reason::NO_ERROR, INTERNAL),
        ("PROTOCOL_ERROR", reason::PROTOCOL_ERROR, INTERNAL),
        ("INTERNAL_ERROR", reason::INTERNAL_ERROR, INTERNAL),
        ("FLOW_CONTROL_ERROR", reason::FLOW_CONTROL_ERROR, INTERNAL),
        ("SETTINGS_TIMEOUT", reason::SETTINGS_TIMEOUT, INTERNAL),
        ("STREAM_CLOSED", reason::STREAM_CLOSED, INTERNAL),
        ("FRAME_SIZE_ERROR", reason::FRAME_SIZE_ERROR, INTERNAL),
        (
            "REFUSED_STREAM",
            reason::REFUSED_STREAM,
            (Code::Unavailable, IfIdempotent, Failure),
        ),
        (
            "CANCEL",
            reason::CANCEL,
            (Code::Cancelled, IfIdempotent, Nothing),
        ),
        ("COMPRESSION_ERROR", reason::COMPRESSION_ERROR, INTERNAL),
        ("CONNECT_ERROR", reason::CONNECT_ERROR, INTERNAL),
        (
            "ENHANCE_YOUR_CALM",
            reason::ENHANCE_YOUR_CALM,
            (Code::ResourceExhausted, Never, Nothing),
        ),
        // Not an answer: who reset the stream has not looked at the caller.
        (
            "INADEQUATE_SECURITY",
            reason::INADEQUATE_SECURITY,
            (Code::PermissionDenied, Never, Nothing),
        ),
        ("HTTP_1_1_REQUIRED", reason::HTTP_1_1_REQUIRED, INTERNAL),
        ("a reason that does not exist", 0xbad, INTERNAL),
    ]
};

fn resets(
    name: String,
    at: At,
    before: fn(u32) -> Vec<u8>,
    reason: u32,
    (code, retry, says): (Code, Retry, Says),
) -> Case {
    let fault = Fault::new(at, move |id| {
        vec![Act::Send([before(id), reset(id, reason)].concat())]
    });
    Case::new(name, fault, code, Origin::MaybeProcessed, retry, says)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_reset_before_the_answer_is_told_by_its_reason() {
    let mut cases = Vec::new();
    for (name, number, result) in REASONS {
        for at in [At::Headers, At::Request] {
            let name = format!("R1 RST_STREAM {name} at {at:?}");
            let mut case = resets(name, at, |_| Vec::new(), *number, *result);
            // The only reason that says something about the past.
            if *number == reason::REFUSED_STREAM {
                case.origin = Origin::NotProcessed;
                case.retry = Retry::Always;
            }
            cases.push(case);
        }
    }
    matrix::run(cases).await;
}

/// The head is held back, so that even here the call can be tried again.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_reset_after_the_head_may_have_been_processed_whatever_it_says() {
    let mut cases = Vec::new();
    for (name, number, result) in REASONS {
        let name = format!("R2 RST_STREAM {name} after the head");
        let head = |id| head(id, &[]);
        cases.push(match *number {
            reason::NO_ERROR => ends_early(name, head),
            number => resets(name, At::Request, head, number, *result),
        });
    }
    matrix::run(cases).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_reset_after_the_message_is_final() {
    let mut cases = Vec::new();
    for (name, number, result) in REASONS {
        let name = format!("R3 RST_STREAM {name} after a message");
        let answer = |id| [head(id, &[]), message(id)].concat();
        let case = match *number {
            reason::NO_ERROR => ends_early(name, answer),
            number => resets(name, At::Request, answer, number, *result),
        };
        cases.push(case.committed());
    }
    matrix::run(cases).await;
}

/// hyper shows a reset with NO_ERROR in a body as the end of the body.
fn ends_early(name: String, before: fn(u32) -> Vec<u8>) -> Case {
    let fault = Fault::answer(move |id| [before(id), reset(id, reason::NO_ERROR)].concat());
    Case::answers(name, fault, Code::Unknown, Retry::Never, Says::Answered)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_goaway_below_the_stream_was_not_processed() {
    let mut cases = Vec::new();
    for (name, number, _) in REASONS {
        for then in ["", ", and FIN"] {
            let fault = Fault::new(At::Request, move |_| {
                let mut acts = vec![Act::Send(go_away(0, *number))];
                if !then.is_empty() {
                    acts.push(Act::Fin);
                }
                acts
            });
            let case = Case::new(
                format!("G1 GOAWAY {name} below{then}"),
                fault,
                Code::Unavailable,
                Origin::NotProcessed,
                Retry::Always,
                Says::Failure,
            );
            cases.push(case.dying());
        }
    }
    matrix::run(cases).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_goaway_at_the_stream_may_have_been_processed_and_may_be_answered_yet() {
    let mut cases = Vec::new();
    for (name, number, _) in REASONS {
        cases.push(Case::breaks(
            format!("G2 GOAWAY {name} at the stream, and FIN"),
            Fault::new(At::Request, |id| {
                vec![Act::Send(go_away(id, *number)), Act::Fin]
            }),
        ));
        cases.push(Case::ok(
            format!("G3 GOAWAY {name} at the stream, and an answer"),
            Fault::answer(|id| [go_away(id, *number), healthy(id)].concat()),
        ));
    }
    for number in [reason::NO_ERROR, reason::ENHANCE_YOUR_CALM] {
        let case = Case::hangs(
            format!("G2b GOAWAY {number} at the stream, and silence"),
            Fault::answer(move |id| go_away(id, number)),
        );
        cases.push(case.dying());
    }
    matrix::run(cases).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_goaway_after_the_head_may_have_been_processed_whatever_it_says() {
    let mut cases = Vec::new();
    for (name, number, _) in REASONS {
        let name = format!("G2c GOAWAY {name} below, after the head");
        let fault = Fault::answer(|id| [head(id, &[]), go_away(0, *number)].concat());
        cases.push(if *number == reason::NO_ERROR {
            // Shown as the end of the body, as a reset is.
            Case::answers(name, fault, Code::Unknown, Retry::Never, Says::Answered)
        } else {
            Case::breaks(name, fault)
        });
    }
    matrix::run(cases).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_going_away_from_the_start_is_not_used() {
    let unprocessed = |name, acts: fn(u32) -> Vec<Act>| {
        Case::new(
            name,
            Fault::new(At::Greeting, acts),
            Code::Unavailable,
            Origin::Race,
            Retry::Race,
            Says::Failure,
        )
    };
    matrix::run(vec![
        unprocessed("G0 GOAWAY in place of a greeting", |_| {
            vec![Act::Send(go_away(0, reason::NO_ERROR)), Act::Fin]
        }),
        unprocessed("G0 GOAWAY behind the greeting", |_| {
            let bytes = [settings(&[]), go_away(0, reason::NO_ERROR)].concat();
            vec![Act::Send(bytes), Act::Fin]
        }),
    ])
    .await;
}

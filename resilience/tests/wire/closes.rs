//! The connection closes, breaks off or falls silent, at every point.

use std::time::Duration;

use tonic::Code;

use crate::{
    case::{Case, Origin, Retry, Says},
    fault::{Act, At, Fault, MESSAGE, head, healthy, message},
    frames::{data, flag},
    matrix,
};

/// The bytes for a stream.
type Bytes = fn(u32) -> Vec<u8>;

/// How far an answer has come, and the bytes of it so far.
const POINTS: &[(&str, Bytes)] = &[
    ("before the answer", |_| Vec::new()),
    ("after the head", |id| head(id, &[])),
    ("in a message", |id| {
        [head(id, &[]), data(id, flag::NONE, &MESSAGE[..7])].concat()
    }),
    ("after a message", |id| {
        [head(id, &[]), message(id)].concat()
    }),
];

/// The cases of one way to end, at each of the points. What has passed on a
/// part of a message, even half of one, is committed.
fn at_each_point(what: &str, acts: &'static [Act], case: fn(String, Fault) -> Case) -> Vec<Case> {
    POINTS
        .iter()
        .map(|(when, before)| {
            let fault = Fault::new(At::Request, move |id| {
                [&[Act::Send(before(id))], acts].concat()
            });
            let case = case(format!("{what} {when}"), fault);
            if when.ends_with("message") {
                case.committed()
            } else {
                case
            }
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_ends_during_a_call_may_have_delivered_it() {
    let mut cases = at_each_point("K1 to K6 FIN", &[Act::Fin], Case::breaks);
    cases.extend(at_each_point("K2 to K4 RST", &[Act::Rst], Case::breaks));
    cases.push(Case::breaks(
        "K1 FIN when only the HEADERS are here",
        Fault::new(At::Headers, |_| vec![Act::Fin]),
    ));
    cases.push(Case::breaks(
        "K2 RST when only the HEADERS are here",
        Fault::new(At::Headers, |_| vec![Act::Rst]),
    ));
    cases.push(Case::breaks(
        "K1 FIN after the first bytes of a frame",
        Fault::new(At::Request, |id| {
            vec![Act::Send(head(id, &[])[..5].to_vec()), Act::Fin]
        }),
    ));
    cases.push(Case::ok(
        "FIN after the answer",
        Fault::new(At::Request, |id| vec![Act::Send(healthy(id)), Act::Fin]),
    ));
    cases.push(Case::ok(
        "RST after the answer",
        Fault::new(At::Request, |id| vec![Act::Send(healthy(id)), Act::Rst]),
    ));
    matrix::run(cases).await;
}

/// The client writes its request without waiting for the server's greeting, so
/// what had left by then, and what the client knows of it, is a race. gRPC's C
/// core waits; it trades this for a round trip.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_ends_before_the_greeting_is_unavailable() {
    let mut cases = Vec::new();
    for (at, act, name) in [
        (At::Accept, Act::Fin, "K7 FIN at once"),
        (At::Accept, Act::Rst, "K8 RST at once"),
        (At::Greeting, Act::Fin, "K7 FIN in place of a greeting"),
        (At::Greeting, Act::Rst, "K8 RST in place of a greeting"),
    ] {
        cases.push(Case::new(
            name,
            Fault::new(at, move |_| vec![act.clone()]),
            Code::Unavailable,
            Origin::Race,
            Retry::Race,
            Says::Failure,
        ));
    }
    matrix::run(cases).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_is_ended_by_the_timer_of_the_attempt_wherever_it_begins() {
    let mut cases = at_each_point("T1 to T3 silence", &[], Case::hangs);
    let deaf = at_each_point("S1 a server that stops reading", &[Act::Deaf], Case::hangs);
    cases.extend(deaf.into_iter().map(|case| case.lasting().blind()));
    cases.extend([
        Case::hangs(
            "K9 never a word",
            Fault::new(At::Accept, |_| vec![Act::Mute]),
        )
        .lasting(),
        Case::hangs(
            "K9 never a word, nor read",
            Fault::new(At::Accept, |_| vec![Act::Deaf]),
        )
        .lasting(),
        Case::hangs(
            "a byte now and then",
            Fault::new(At::Request, |id| {
                let part = data(id, flag::NONE, &[0]);
                vec![
                    Act::Send(head(id, &[])),
                    Act::Trickle(part, Duration::from_millis(60)),
                ]
            }),
        )
        .committed(),
        Case::hangs(
            "a message, and then messages without end",
            Fault::new(At::Request, |id| {
                vec![
                    Act::Send([head(id, &[]), message(id)].concat()),
                    Act::Trickle(message(id).repeat(20), Duration::from_millis(1)),
                ]
            }),
        )
        .committed(),
    ]);
    matrix::run(cases).await;
}

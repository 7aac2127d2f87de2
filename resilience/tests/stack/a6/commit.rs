//! C: when a response, or a request, can no longer be taken back.

use resilience::{Commit, MethodConfig, ResilienceConfig, StopReason};
use tokio::time::Instant;
use tokio_stream::{StreamExt as _, iter};
use tonic::{Code, Request, Status};

use super::{call, policy, stopped};
use crate::{
    config,
    feed::{CHAT, FeedServer, UPLOAD, WATCH, ask, note},
    ms,
    streaming::{asks, client_on, echo},
    upstream::{Reply, Upstream},
};

/// The policy, with the methods of the feed declared as what they are. All are
/// idempotent, so that only commitment stands against a retry.
fn feed() -> ResilienceConfig {
    ResilienceConfig {
        idempotent: [WATCH, UPLOAD, CHAT].into(),
        streaming: [WATCH, CHAT].into(),
        ..policy()
    }
}

#[tokio::test(start_paused = true)]
async fn c01_a_head_is_final_where_the_caller_says_so() {
    let upstream = Upstream::replies([Reply::Trailers(Code::Unavailable), Reply::Valid]);
    let (mut client, _) = upstream.client(policy());
    assert_eq!(
        call(&mut client).await.unwrap_err().code(),
        Code::Unavailable
    );
    assert_eq!(upstream.count(), 1);

    // For one method, while the others are as by default.
    let strict = MethodConfig {
        commit: Some(resilience::Commit::Headers),
        ..MethodConfig::default()
    };
    let upstream = Upstream::replies([Reply::Trailers(Code::Unavailable), Reply::Valid]);
    let (mut client, _) = upstream.client(ResilienceConfig {
        overrides: [("user.UserService/ValidateUser".to_owned(), strict)].into(),
        ..config()
    });
    call(&mut client).await.unwrap_err();
    assert_eq!(upstream.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn c02_a_stream_that_fails_after_a_message_is_not_begun_again() {
    let upstream = Upstream::replies([
        Reply::code(Code::Unavailable),
        Reply::MessageThenTrailers(Code::Unavailable),
    ]);
    let (mut client, _) = client_on(upstream.clone(), feed());

    let mut notes = client.watch(ask("")).await.unwrap().into_inner();

    assert!(notes.message().await.unwrap().unwrap().valid);
    let status = notes.message().await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(upstream.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn c03_a_call_that_fails_after_its_message_is_not_made_again() {
    for config in [policy(), config()] {
        let upstream =
            Upstream::replies([Reply::MessageThenTrailers(Code::Unavailable), Reply::Valid]);
        let (mut client, _) = upstream.client(config);
        assert_eq!(
            call(&mut client).await.unwrap_err().code(),
            Code::Unavailable
        );
        assert_eq!(upstream.count(), 1);
    }
}

/// gRPC keeps what was streamed, up to a bound, and streams it again. Here it
/// is sent once: what is kept is what is there at the start.
#[tokio::test(start_paused = true)]
async fn c04_c05_c08_c10_a_streamed_request_is_sent_once_differs_on_purpose() {
    let upstream = Upstream::replies([Reply::code(Code::Unavailable), Reply::Valid]);
    let (mut client, _) = client_on(upstream.clone(), feed());

    let status = client
        .upload(asks(&[(1, "1"), (1, "2"), (1, "3")]))
        .await
        .unwrap_err();

    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(stopped(&status), Some(StopReason::Committed));
    let seen = upstream.seen();
    assert_eq!(seen.len(), 1);
    assert_eq!(messages(&seen[0].body), ["1", "2", "3"]);
}

#[tokio::test(start_paused = true)]
async fn c04_c05_what_was_streamed_and_closed_at_once_is_replayed_whole_and_in_order() {
    let upstream = Upstream::replies([Reply::code(Code::Unavailable), Reply::Valid]);
    let (mut client, _) = client_on(upstream.clone(), feed());

    let asks = iter(["1", "2", "3"].map(ask));
    assert!(client.upload(asks).await.unwrap().into_inner().valid);

    let seen = upstream.seen();
    assert_eq!(seen.len(), 2);
    for seen in seen {
        assert_eq!(messages(&seen.body), ["1", "2", "3"]);
    }
}

/// The texts of messages in gRPC frames.
fn messages(mut body: &[u8]) -> Vec<String> {
    let mut texts = Vec::new();
    while let [0, _, _, _, length, rest @ ..] = body {
        let (message, rest) = rest.split_at(usize::from(*length));
        // A field of text: its tag, its length, and itself.
        texts.push(String::from_utf8(message[2..].to_vec()).unwrap());
        body = rest;
    }
    texts
}

#[tokio::test(start_paused = true)]
async fn c06_who_waits_for_the_head_gets_that_of_the_retry() {
    let upstream = Upstream::replies([Reply::code(Code::Unavailable), Reply::Valid]);
    let (mut client, _) = client_on(upstream.clone(), feed());
    let notes = client.watch(ask("")).await.unwrap();
    assert_eq!(
        resilience::Attempts::of(notes.extensions()).retries,
        1,
        "before a message was asked for"
    );
    assert_eq!(upstream.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn c07_who_has_been_given_the_head_is_given_no_other() {
    let upstream = Upstream::replies([Reply::Trailers(Code::Unavailable), Reply::Valid]);
    let (mut client, _) = client_on(upstream.clone(), feed());
    let mut notes = client.watch(ask("")).await.unwrap().into_inner();
    assert_eq!(notes.message().await.unwrap_err().code(), Code::Unavailable);
    assert_eq!(upstream.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn c09_both_sides_go_on_after_the_first_message_and_the_end_is_the_end() {
    let echo = FeedServer::new(|request: Request<tonic::Streaming<_>>| async {
        let asks = request.into_inner();
        let echoed = asks.map(|ask: Result<crate::feed::Ask, _>| ask.map(|ask| note(ask.user_id)));
        let end = tokio_stream::once(Err(Status::unavailable("enough")));
        Ok(echoed.chain(end))
    });
    let (mut client, _) = client_on(echo, feed());

    let mut notes = client
        .chat(asks(&[(1, "1"), (1, "2")]))
        .await
        .unwrap()
        .into_inner();

    for text in ["1", "2"] {
        assert_eq!(notes.message().await.unwrap().unwrap().user_name, text);
    }
    let status = notes.message().await.unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::Unavailable, "enough")
    );
}

#[tokio::test(start_paused = true)]
async fn c11_a_request_over_the_bound_is_sent_once() {
    for (kibibytes, seen, reason) in [(200, 2, None), (300, 1, Some(StopReason::TooLarge))] {
        let mut config = policy();
        config.retry.replay_bytes_max = 256 << 10;
        let upstream = Upstream::replies([Reply::code(Code::Unavailable), Reply::Valid]);
        let (mut client, _) = upstream.client(config);
        let request = proto::user::ValidateUserRequest {
            user_id: "u".repeat(kibibytes << 10),
        };

        let result = client.validate_user(request).await;

        let stopped = result.err().and_then(|status| stopped(&status));
        assert_eq!((upstream.count(), stopped), (seen, reason));
        for seen in upstream.seen() {
            assert!(seen.body.len() > kibibytes << 10, "all of it was sent");
        }
    }
}

/// gRPC: at the head. Most servers send one before their handler fails, and
/// their failures would never be retried.
#[tokio::test(start_paused = true)]
async fn c14_a_response_is_final_at_its_first_message_by_default_differs_on_purpose() {
    let undeclared = ResilienceConfig {
        idempotent: [WATCH].into(),
        ..config()
    };
    let upstream = Upstream::replies([Reply::Trailers(Code::Unavailable), Reply::Valid]);
    let (mut client, _) = upstream.client(config());
    call(&mut client).await.unwrap();
    assert_eq!(upstream.count(), 2);

    let upstream = Upstream::replies([Reply::Trailers(Code::Unavailable), Reply::Valid]);
    let (mut client, _) = client_on(upstream.clone(), undeclared);
    let mut notes = client.watch(ask("")).await.unwrap().into_inner();
    assert!(notes.message().await.unwrap().unwrap().valid);
    assert_eq!(
        upstream.count(),
        2,
        "a stream as well, if it is not declared"
    );
}

#[tokio::test(start_paused = true)]
async fn c14_a_declared_stream_is_retried_until_its_first_message_if_that_is_said() {
    let own = MethodConfig {
        commit: Some(Commit::FirstMessage),
        idempotent: Some(true),
        ..MethodConfig::default()
    };
    let config = ResilienceConfig {
        streaming: [WATCH].into(),
        overrides: [(WATCH.to_owned(), own)].into(),
        ..config()
    };
    let upstream = Upstream::replies([Reply::Trailers(Code::Unavailable), Reply::Valid]);
    let (mut client, _) = client_on(upstream.clone(), config);
    let mut notes = client.watch(ask("")).await.unwrap().into_inner();
    assert!(notes.message().await.unwrap().unwrap().valid);
    assert_eq!(upstream.count(), 2);
}

/// The caller asks when it has the head, and the server answers when asked:
/// to hold the head back would be the end of both.
#[tokio::test(start_paused = true)]
async fn c15_a_caller_who_asks_after_the_head_is_answered_whatever_is_declared() {
    let undeclared = ResilienceConfig {
        idempotent: [CHAT].into(),
        ..config()
    };
    for config in [feed(), undeclared] {
        let (mut client, _) = client_on(echo(), config);
        let (asks, asked) = tokio::sync::mpsc::channel(1);
        let start = Instant::now();

        let asked = tokio_stream::wrappers::ReceiverStream::new(asked);
        let mut notes = client.chat(asked).await.unwrap().into_inner();
        asks.send(ask("late")).await.unwrap();

        assert_eq!(notes.message().await.unwrap().unwrap().user_name, "late");
        drop(asks);
        assert_eq!(notes.message().await.unwrap(), None);
        assert!(start.elapsed() < ms(10), "{:?}", start.elapsed());
    }
}

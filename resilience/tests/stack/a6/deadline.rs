//! D: cancellation and deadline.

use std::time::Duration;

use proto::user::ValidateUserRequest;
use resilience::{Deadline, Rejection, ResilienceConfig, Scope, StopReason, TimedOut};
use tokio::time::{Instant, sleep, timeout};
use tonic::{Code, Request};

use super::{call, policy, said, stopped, waits};
use crate::{
    config, ms,
    upstream::{Reply, Upstream},
};

#[tokio::test(start_paused = true)]
async fn d01_a_call_may_end_during_its_second_attempt() {
    let replies = || Upstream::replies([Reply::code(Code::Unavailable), Reply::Hang]);

    // Cancelled.
    let upstream = replies();
    let (mut client, layer) = upstream.client(policy());
    timeout(ms(100), call(&mut client)).await.unwrap_err();
    assert_eq!((upstream.count(), layer.in_flight()), (2, 0));

    // At its deadline.
    let upstream = replies();
    let (mut client, layer) = upstream.client(ResilienceConfig {
        deadline: ms(200),
        attempt_timeout: ms(199),
        ..policy()
    });
    let start = Instant::now();
    let status = call(&mut client).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert_eq!(
        TimedOut::of(&status).map(|timed_out| timed_out.scope),
        Some(Scope::Call)
    );
    assert!((ms(200)..=ms(201)).contains(&start.elapsed()));
    assert_eq!((upstream.count(), layer.in_flight()), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn d02_a_call_that_is_cancelled_while_it_waits_sends_nothing_more() {
    let upstream = Upstream::replies([Reply::code(Code::Unavailable), Reply::Valid]);
    let (mut client, layer) = upstream.client(waits(policy(), ms(10_000), ms(10_000)));

    timeout(ms(5_000), call(&mut client)).await.unwrap_err();

    assert_eq!(layer.budget_tokens(), 20.0, "the retry was not sent");
    sleep(ms(60_000)).await;
    assert_eq!((upstream.count(), layer.in_flight()), (1, 0));
}

/// gRPC waits for the deadline, though it allows for this.
#[tokio::test(start_paused = true)]
async fn d02_d04_a_wait_past_the_deadline_is_not_begun_differs_on_purpose() {
    let tired = vec![("grpc-message", "tired")];
    let upstream = Upstream::always(Reply::Head(Code::Unavailable, tired));
    let (mut client, layer) = upstream.client(ResilienceConfig {
        deadline: ms(5_001),
        ..waits(policy(), ms(10_000), ms(10_000))
    });
    let start = Instant::now();

    let status = call(&mut client).await.unwrap_err();

    assert_eq!(start.elapsed(), Duration::ZERO);
    // What the caller can do something about, and not that there was no time.
    assert_eq!(
        (status.code(), status.message()),
        (Code::Unavailable, "tired")
    );
    assert_eq!(stopped(&status), Some(StopReason::Deadline));
    assert_eq!((upstream.count(), layer.budget_tokens()), (1, 20.0));
}

/// Wherever it is: its slot and its place in the queue come back, nothing that
/// was not sent is paid for, and a call after it is as good as new.
#[tokio::test(start_paused = true)]
async fn d03_a_call_that_is_dropped_at_any_point_leaves_nothing() {
    let unavailable = || Reply::code(Code::Unavailable);
    // How far it comes, and the retries that were sent by then.
    let points: [(&[Reply], u32); 6] = [
        (&[Reply::Hang], 0),
        (&[Reply::HangAfterHead], 0),
        (&[Reply::HangAfterMessage], 0),
        (&[unavailable(), Reply::Hang], 1),
        (&[unavailable(), Reply::HangAfterMessage], 1),
        (&[Reply::Refused, Reply::Hang], 0),
    ];
    for (replies, retries) in points {
        let mut config = policy();
        config.limit.concurrency = 1;
        let upstream = Upstream::replies(replies);
        let (mut client, layer) = upstream.client(config);

        timeout(ms(1_000), call(&mut client)).await.unwrap_err();

        assert_eq!(upstream.count(), replies.len(), "{replies:?}");
        assert_eq!((layer.in_flight(), layer.queued()), (0, 0), "{replies:?}");
        let left = 20.0 - f64::from(retries);
        assert_eq!(layer.budget_tokens(), left, "{replies:?}");
        assert_eq!(
            layer.breaker().failure_ratio(),
            f64::from(failures(replies))
        );
        upstream.becomes(Reply::Valid);
        call(&mut client).await.unwrap();
    }
}

/// Whether the attempts before the dropped one failed.
fn failures(replies: &[Reply]) -> u8 {
    u8::from(replies.len() > 1)
}

#[tokio::test(start_paused = true)]
async fn d03_a_call_that_was_never_polled_was_never_made() {
    let upstream = Upstream::always(Reply::Valid);
    let (mut client, layer) = upstream.client(policy());
    drop(call(&mut client));
    assert_eq!((upstream.count(), layer.in_flight()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn d05_a_server_that_says_cancelled_because_time_ran_out_means_deadline_exceeded() {
    // tonic servers do, at the deadline that they were told.
    let late = Reply::After(ms(250), Box::new(Reply::code(Code::Cancelled)));
    let mut config = config();
    config.retry.max_attempts = 1;
    let (mut client, _) = Upstream::always(late).client(config);
    assert_eq!(
        call(&mut client).await.unwrap_err().code(),
        Code::DeadlineExceeded
    );

    // One that comes early is what it says.
    let (mut client, _) = Upstream::always(Reply::code(Code::Cancelled)).client(policy());
    assert_eq!(call(&mut client).await.unwrap_err().code(), Code::Cancelled);
}

#[tokio::test(start_paused = true)]
async fn d06_an_attempt_that_says_nothing_is_made_again() {
    let upstream = Upstream::replies([Reply::Hang, Reply::code(Code::Unavailable), Reply::Valid]);
    let mut config = ResilienceConfig {
        attempt_timeout: ms(2_000),
        ..policy()
    };
    config.retry.max_attempts = 3;
    let (mut client, _) = upstream.client(config);

    call(&mut client).await.unwrap();

    assert_eq!(
        upstream.previous_attempts(),
        said(&[None, Some("1"), Some("2")])
    );
    let gaps = upstream.gaps();
    assert!((ms(2_010)..=ms(2_012)).contains(&gaps[0]), "{gaps:?}");
}

/// C core says CANCELLED.
#[tokio::test(start_paused = true)]
async fn d07_attempts_that_all_say_nothing_are_deadline_exceeded_differs_on_purpose() {
    let mut config = ResilienceConfig {
        attempt_timeout: ms(2_000),
        ..policy()
    };
    config.retry.max_attempts = 2;
    let upstream = Upstream::always(Reply::Hang);
    let (mut client, _) = upstream.client(config);

    let status = call(&mut client).await.unwrap_err();

    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert_eq!(
        TimedOut::of(&status).map(|timed_out| timed_out.scope),
        Some(Scope::Attempt)
    );
    assert_eq!(upstream.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn d08_every_attempt_is_told_the_time_that_it_has() {
    let mut config = config();
    config.deadline = ms(600);
    let upstream = Upstream::always(Reply::Hang);
    let (mut client, _) = upstream.client(config);
    call(&mut client).await.unwrap_err();

    let told: Vec<_> = upstream
        .seen()
        .iter()
        .map(|seen| seen.headers["grpc-timeout"].to_str().unwrap().to_owned())
        .collect();
    assert_eq!(told[..2], ["250000u", "250000u"]);
    let last: u64 = told[2].trim_end_matches(['n', 'u']).parse().unwrap();
    let last = if told[2].ends_with('n') {
        last / 1000
    } else {
        last
    };
    assert!(last < 100_000, "no more than what is left: {}", told[2]);
}

#[tokio::test(start_paused = true)]
async fn d08_nothing_is_sent_when_nothing_is_left() {
    let upstream = Upstream::always(Reply::Valid);
    let (mut client, _) = upstream.client(config());

    let mut request = Request::new(ValidateUserRequest::default());
    let inbound = Deadline(Instant::now() + Deadline::MARGIN);
    request.extensions_mut().insert(inbound);
    let status = client.validate_user(request).await.unwrap_err();

    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert_eq!(Rejection::of(&status), Some(&Rejection::DeadlineExceeded));
    assert_eq!(upstream.count(), 0);

    let mut request = Request::new(ValidateUserRequest::default());
    request.set_timeout(Duration::ZERO);
    let status = client.validate_user(request).await.unwrap_err();
    assert_eq!(Rejection::of(&status), Some(&Rejection::DeadlineExceeded));
    assert_eq!(upstream.count(), 0);
}

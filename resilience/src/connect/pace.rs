//! How often a dead address is tried.

use std::{
    error::Error,
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use http::Uri;
use tokio::time::Instant;
use tower_service::Service;

use crate::edge::BoxError;

/// Failed connections that may follow each other at once. A call makes four at
/// most, so what one call, or two, want to try is tried.
const BURST: u32 = 10;

/// The time between further ones; also the time that a recovery may be noticed
/// late.
const BETWEEN: Duration = Duration::from_millis(20);

/// Keeps a channel from trying a dead address as often as it is called.
///
/// tonic's channel connects again for each call that finds it without a
/// connection, and does not wait in between: 500 calls a second that each try
/// twice are 1000 connections a second. Ours fail at once instead when too many
/// have failed before: 10 in a row, then one in 20 ms, 50 a second. gRPC's own
/// clients wait much longer (1 s, growing to 2 min: "gRPC connection backoff
/// protocol"), but they have no circuit breaker, which is what spares the
/// upstream here. A connection that is made forgives all that failed.
#[derive(Debug, Clone)]
pub(super) struct Paced<C> {
    connector: C,
    pace: Arc<Mutex<Pace>>,
}

impl<C> Paced<C> {
    pub(super) fn new(connector: C) -> Self {
        Self {
            connector,
            pace: Arc::default(),
        }
    }
}

impl<C> Service<Uri> for Paced<C>
where
    C: Service<Uri>,
    C::Error: Into<BoxError>,
    C::Future: Send + 'static,
{
    type Response = C::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<C::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.connector.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let pace = Arc::clone(&self.pace);
        if let Err(too_soon) = lock(&pace).may_try(Instant::now()) {
            return Box::pin(async { Err(too_soon.into()) });
        }
        let connecting = self.connector.call(uri);
        let attempt = Attempt { pace: Some(pace) };
        Box::pin(async move {
            let connection = connecting.await.map_err(Into::into)?;
            attempt.succeeded();
            Ok(connection)
        })
    }
}

/// An attempt that fails, unless it is known to have succeeded: tonic drops it
/// when its time is up.
struct Attempt {
    pace: Option<Arc<Mutex<Pace>>>,
}

impl Attempt {
    fn succeeded(mut self) {
        if let Some(pace) = self.pace.take() {
            *lock(&pace) = Pace::default();
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if let Some(pace) = self.pace.take() {
            lock(&pace).failed(Instant::now());
        }
    }
}

fn lock(pace: &Mutex<Pace>) -> std::sync::MutexGuard<'_, Pace> {
    pace.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Each failure is worth a time, and at most [`BURST`] of them may lie ahead.
#[derive(Debug, Default)]
struct Pace {
    /// When all that failed is forgiven.
    clear_at: Option<Instant>,
}

impl Pace {
    fn may_try(&self, now: Instant) -> Result<(), TooSoon> {
        let ahead = |at: Instant| at.saturating_duration_since(now);
        let wait = self
            .clear_at
            .map_or(Duration::ZERO, ahead)
            .saturating_sub(BETWEEN * (BURST - 1));
        if wait.is_zero() {
            Ok(())
        } else {
            Err(TooSoon { wait })
        }
    }

    fn failed(&mut self, now: Instant) {
        let from = self.clear_at.map_or(now, |at| at.max(now));
        self.clear_at = Some(from + BETWEEN);
    }
}

/// No connection was tried for: too many have failed.
#[derive(Debug, PartialEq, Eq)]
struct TooSoon {
    wait: Duration,
}

impl fmt::Display for TooSoon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.wait.as_millis();
        write!(
            f,
            "the last connections have failed, the next is tried for in {millis} ms"
        )
    }
}

impl Error for TooSoon {}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::atomic::{AtomicUsize, Ordering},
    };

    use hyper_util::rt::TokioIo;
    use proto::user::{UserRequest, user_service_client::UserServiceClient};
    use tokio::{io::DuplexStream, task::JoinSet, time::interval};
    use tonic::transport::Endpoint;
    use tower::{Layer as _, service_fn};

    use super::*;
    use crate::{Delivery, ResilienceConfig, ResilienceLayer, TransportError};

    #[test]
    fn a_burst_of_failures_is_free_and_then_one_in_twenty_milliseconds() {
        let start = Instant::now();
        let mut pace = Pace::default();
        for _ in 0..BURST {
            assert_eq!(pace.may_try(start), Ok(()));
            pace.failed(start);
        }
        assert_eq!(pace.may_try(start), Err(TooSoon { wait: BETWEEN }));

        // As fast as it can for a second.
        let tried = (0..1000)
            .map(|millis| start + Duration::from_millis(millis))
            .filter(|now| {
                let may = pace.may_try(*now).is_ok();
                if may {
                    pace.failed(*now);
                }
                may
            })
            .count();
        assert_eq!(tried, 49);
    }

    #[test]
    fn nothing_is_held_against_an_address_after_a_pause() {
        let start = Instant::now();
        let mut pace = Pace::default();
        (0..BURST).for_each(|_| pace.failed(start));
        let later = start + BETWEEN * BURST;
        for _ in 0..BURST {
            assert_eq!(pace.may_try(later), Ok(()));
            pace.failed(later);
        }
        assert!(pace.may_try(later).is_err());
    }

    /// Connections that 500 calls a second for ten seconds try for, to an
    /// address where nobody is.
    async fn tried(breaker: bool) -> usize {
        let tried = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&tried);
        let nobody = service_fn(move |_: Uri| {
            count.fetch_add(1, Ordering::Relaxed);
            async {
                let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
                Err::<TokioIo<DuplexStream>, _>(refused)
            }
        });
        let channel = Endpoint::from_static("http://nobody:1")
            .connect_with_connector_lazy(Paced::new(nobody));
        let layer = ResilienceLayer::new("nobody", ResilienceConfig::default()).unwrap();
        if !breaker {
            layer.breaker().force_closed();
        }
        let client = UserServiceClient::new(layer.layer(channel));
        let mut calls = JoinSet::new();
        let mut ticks = interval(Duration::from_millis(2));
        for _ in 0..5_000 {
            ticks.tick().await;
            let mut client = client.clone();
            calls.spawn(async move { client.get_user(UserRequest::default()).await });
        }
        for result in calls.join_all().await {
            // Refused there or not tried for, it was not sent.
            let status = result.unwrap_err();
            let error = TransportError::of(&status);
            let not_sent = error.is_some_and(|error| error.delivery() == Delivery::NotSent);
            assert!(breaker || not_sent, "{status:?}");
        }
        tried.load(Ordering::Relaxed)
    }

    #[tokio::test(start_paused = true)]
    async fn however_often_a_dead_address_is_called_it_is_tried_fifty_times_a_second() {
        let tried = tried(false).await;
        assert!((400..=520).contains(&tried), "{tried} in 10 s");
    }

    #[tokio::test(start_paused = true)]
    async fn an_open_circuit_leaves_a_dead_address_alone_but_for_probes() {
        let tried = tried(true).await;
        assert!((20..=100).contains(&tried), "{tried} in 10 s");
    }
}

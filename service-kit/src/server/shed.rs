//! What a server does when more is asked of it than it can do: as much as it
//! can, and no more.
//!
//! A bounded number of calls is under way at once. One more is refused before
//! anything is done for it, with the time after which to come back: a refusal in
//! time is worth more than an answer too late, and costs next to nothing. A call
//! whose deadline has passed before its turn came is not begun; and whatever its
//! caller says, none lasts longer than two minutes, or a request that never ends would
//! hold its place for ever. Answers that are streams, once begun, may last.
//!
//! Health checks are answered whatever else is going on: a server that is busy
//! is not one that is ill, and must not be restarted for it. So are reflection,
//! and the services of operators, who may be just about to help.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use http::{Request, Response};
use pin_project_lite::pin_project;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, Sleep, sleep},
};
use tonic::Status;
use tower::{Layer, Service};

use crate::{Deadline, metrics::NotBegun, overloaded};

/// How long a call may take until its answer begins: twice the longest delay that
/// can be ordered (`CHAOS`), and far more than anything takes by itself.
const CALL_MAX: Duration = Duration::from_secs(120);

/// Admits so many calls at once.
#[derive(Debug, Clone)]
pub(super) struct ShedLayer {
    places: Arc<Semaphore>,
    always: Arc<[&'static str]>,
}

impl ShedLayer {
    /// At most `in_flight_max` at once, on all connections together, and besides
    /// them all calls of the services `always` (`package.Service`).
    pub(super) fn new(in_flight_max: usize, always: Vec<&'static str>) -> Self {
        let places = in_flight_max.min(Semaphore::MAX_PERMITS);
        Self {
            places: Arc::new(Semaphore::new(places)),
            always: always.into(),
        }
    }
}

impl<S> Layer<S> for ShedLayer {
    type Service = Shed<S>;

    fn layer(&self, inner: S) -> Shed<S> {
        Shed {
            layer: self.clone(),
            inner,
        }
    }
}

/// The service of [`ShedLayer`].
#[derive(Debug, Clone)]
pub(super) struct Shed<S> {
    layer: ShedLayer,
    inner: S,
}

impl ShedLayer {
    /// Whether calls to this path (`/package.Service/Method`) are always
    /// admitted.
    fn admits_always(&self, path: &str) -> bool {
        let service = path.split('/').nth(1).unwrap_or_default();
        service.starts_with("grpc.health.v1.")
            || service.starts_with("grpc.reflection.")
            || self.always.contains(&service)
    }
}

impl<S, R, B> Service<Request<R>> for Shed<S>
where
    S: Service<Request<R>, Response = Response<B>>,
    B: Default,
{
    type Response = Response<B>;
    type Error = S::Error;
    type Future = ShedFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<R>) -> Self::Future {
        let place = if self.layer.admits_always(request.uri().path()) {
            None
        } else {
            match Arc::clone(&self.layer.places).try_acquire_owned() {
                Ok(place) => Some(place),
                Err(_) => return ShedFuture::Refused,
            }
        };
        ShedFuture::Admitted {
            deadline: Deadline::of(request.extensions()),
            begun: false,
            too_long: sleep(CALL_MAX),
            inner: self.inner.call(request),
            _place: place,
        }
    }
}

pin_project! {
    /// The future of [`Shed`]. A place is held until the handler is done, which
    /// for an answer of one message is all there is to do.
    #[project = ShedFutureProj]
    #[derive(Debug)]
    pub(super) enum ShedFuture<F> {
        Refused,
        Admitted {
            deadline: Option<Deadline>,
            begun: bool,
            #[pin]
            too_long: Sleep,
            #[pin]
            inner: F,
            _place: Option<OwnedSemaphorePermit>,
        },
    }
}

impl<F, B, E> Future for ShedFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Default,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            ShedFutureProj::Refused => {
                let status = overloaded("too many calls are under way");
                Poll::Ready(Ok(turned_away(status, NotBegun::Overload)))
            }
            ShedFutureProj::Admitted {
                deadline,
                begun,
                too_long,
                inner,
                ..
            } => {
                if !*begun {
                    *begun = true;
                    let now = Instant::now();
                    if deadline.is_some_and(|Deadline(at)| at <= now) {
                        let status = Status::deadline_exceeded("too late to begin");
                        return Poll::Ready(Ok(turned_away(status, NotBegun::TooLate)));
                    }
                }
                if let Poll::Ready(answer) = inner.poll(cx) {
                    return Poll::Ready(answer);
                }
                ready!(too_long.poll(cx));
                let status = Status::deadline_exceeded(format!("not done within {CALL_MAX:?}"));
                Poll::Ready(Ok(status.into_http()))
            }
        }
    }
}

fn turned_away<B: Default>(status: Status, why: NotBegun) -> Response<B> {
    let mut response = status.into_http();
    response.extensions_mut().insert(why);
    response
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        sync::atomic::{AtomicUsize, Ordering::Relaxed},
    };

    use tokio::sync::Notify;
    use tonic::Code;
    use tower::{ServiceExt as _, service_fn};

    use super::*;

    fn request(path: &str) -> Request<()> {
        Request::builder().uri(path).body(()).unwrap()
    }

    fn status(response: &Response<()>) -> Option<Status> {
        Status::from_header_map(response.headers()).filter(|status| status.code() != Code::Ok)
    }

    #[tokio::test]
    async fn one_call_more_than_may_be_is_refused_with_a_time_to_come_back() {
        let (release, begun) = (Arc::new(Notify::new()), Arc::new(AtomicUsize::new(0)));
        let handler = service_fn(|_: Request<()>| {
            begun.fetch_add(1, Relaxed);
            let release = Arc::clone(&release);
            async move {
                release.notified().await;
                Ok::<_, Infallible>(Response::new(()))
            }
        });
        let shed = ShedLayer::new(2, vec!["chaos.v1.Chaos"]).layer(handler);
        let call = |path: &str| shed.clone().oneshot(request(path));

        let mut two = Box::pin(async { tokio::join!(call("/a.S/M"), call("/a.S/M")) });
        assert!(futures_util::poll!(&mut two).is_pending());
        let response = call("/a.S/M").await.unwrap();
        assert_eq!(response.extensions().get(), Some(&NotBegun::Overload));
        let refused = status(&response).unwrap();
        assert_eq!(refused.code(), Code::ResourceExhausted);
        let pushback = refused.metadata().get("grpc-retry-pushback-ms").unwrap();
        assert!(pushback.to_str().unwrap().parse::<u64>().unwrap() > 0);
        assert_eq!(begun.load(Relaxed), 2, "nothing was begun for it");

        // Health is asked meanwhile, and takes nobody's place afterwards.
        let mut always = Box::pin(async {
            tokio::join!(
                call("/grpc.health.v1.Health/Check"),
                call("/chaos.v1.Chaos/Set")
            )
        });
        assert!(futures_util::poll!(&mut always).is_pending());
        assert_eq!(begun.load(Relaxed), 4);
        release.notify_waiters();
        let (health, operator) = always.await;
        assert!(status(&health.unwrap()).is_none() && status(&operator.unwrap()).is_none());
        let (one, other) = two.await;
        assert!(status(&one.unwrap()).is_none() && status(&other.unwrap()).is_none());
        let mut next = Box::pin(async { tokio::join!(call("/a.S/M"), call("/a.S/M")) });
        assert!(futures_util::poll!(&mut next).is_pending());
        assert_eq!(begun.load(Relaxed), 6);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_does_not_end_gives_its_place_back_after_two_minutes() {
        let handler = service_fn(|_: Request<()>| std::future::pending());
        let shed = ShedLayer::new(1, Vec::new()).layer(handler);
        let code = async |path| {
            let answer: Result<_, Infallible> = shed.clone().oneshot(request(path)).await;
            status(&answer.unwrap()).unwrap().code()
        };

        for _ in 0..2 {
            let started = Instant::now();
            assert_eq!(code("/a.S/M").await, Code::DeadlineExceeded);
            assert!(started.elapsed() >= CALL_MAX);
        }
        let health = code("/grpc.health.v1.Health/Check").await;
        assert_eq!(health, Code::DeadlineExceeded);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_is_too_late_before_it_begins_is_not_begun() {
        let handler = service_fn(|_: Request<()>| async {
            panic!("it was begun");
            #[allow(unreachable_code)]
            Ok::<_, Infallible>(Response::new(()))
        });
        let mut late = request("/a.S/M");
        let deadline = Deadline(Instant::now() + Duration::from_millis(5));
        late.extensions_mut().insert(deadline);
        let call = ShedLayer::new(1, Vec::new()).layer(handler).call(late);
        tokio::time::advance(Duration::from_millis(5)).await;

        let response = call.await.unwrap();

        let answer = status(&response).unwrap();
        assert_eq!(answer.code(), Code::DeadlineExceeded);
        assert_eq!(response.extensions().get(), Some(&NotBegun::TooLate));
    }
}

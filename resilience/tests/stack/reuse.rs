//! What a call leaves for the next.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use http::Request;
use proto::user::{ValidateUserRequest, user_service_client::UserServiceClient};
use resilience::{Resilience, ResilienceLayer};
use tokio::{runtime::Builder, time::timeout};
use tonic::{Code, body::Body};
use tower::{BoxError, Layer as _, Service};

use crate::{
    config, ms,
    upstream::{Reply, Upstream},
    validate,
};

/// Counts its clones.
struct Counted {
    upstream: Upstream,
    clones: Arc<AtomicUsize>,
}

impl Clone for Counted {
    fn clone(&self) -> Self {
        self.clones.fetch_add(1, Ordering::Relaxed);
        Self {
            upstream: self.upstream.clone(),
            clones: Arc::clone(&self.clones),
        }
    }
}

impl Service<Request<Body>> for Counted {
    type Response = <Upstream as Service<Request<Body>>>::Response;
    type Error = BoxError;
    type Future = <Upstream as Service<Request<Body>>>::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.upstream.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        self.upstream.call(request)
    }
}

/// A client, and how often its channel was cloned.
fn client(upstream: &Upstream) -> (UserServiceClient<Resilience<Counted>>, Arc<AtomicUsize>) {
    let clones = Arc::default();
    let channel = Counted {
        upstream: upstream.clone(),
        clones: Arc::clone(&clones),
    };
    let layer = ResilienceLayer::new("upstream", config()).unwrap();
    (UserServiceClient::new(layer.layer(channel)), clones)
}

async fn code(client: &UserServiceClient<Resilience<Counted>>) -> Code {
    let request = ValidateUserRequest::default();
    let mut client = client.clone();
    client
        .validate_user(request)
        .await
        .map_or_else(|status| status.code(), |_| Code::Ok)
}

#[tokio::test(start_paused = true)]
async fn calls_in_turn_share_a_clone_of_the_channel_and_a_failure_leaves_none() {
    let upstream = Upstream::always(Reply::Valid);
    let (client, clones) = client(&upstream);
    let cloned = || clones.swap(0, Ordering::Relaxed);

    for _ in 0..100 {
        assert_eq!(code(&client).await, Code::Ok);
    }
    assert_eq!((cloned(), upstream.count()), (1, 100));

    // As many as are under way at once.
    let soon = || Reply::After(ms(5), Box::new(Reply::Valid));
    let together = || futures_util::future::join_all((0..10).map(|_| code(&client)));
    upstream.becomes(soon());
    together().await;
    assert_eq!(cloned(), 9);

    for reply in [
        Reply::code(Code::NotFound),
        Reply::Trailers(Code::NotFound),
        Reply::MessageThenTrailers(Code::Internal),
    ] {
        upstream.becomes(reply.clone());
        for _ in 0..20 {
            assert_ne!(code(&client).await, Code::Ok);
        }
        assert_eq!(cloned(), 20 - 10, "{reply:?}");
        upstream.becomes(soon());
        together().await;
        assert_eq!(cloned(), 10);
    }

    // What was dropped on the way is not used again either.
    upstream.becomes(Reply::Hang);
    for _ in 0..10 {
        timeout(ms(10), code(&client)).await.unwrap_err();
    }
    assert_eq!(cloned(), 0);
    upstream.becomes(Reply::Valid);
    assert_eq!(code(&client).await, Code::Ok);
    assert_eq!(cloned(), 1);
}

/// With it goes the timer of the runtime that it came from.
#[test]
fn a_client_may_be_used_in_one_runtime_after_another() {
    let upstream = Upstream::always(Reply::After(ms(20), Box::new(Reply::Valid)));
    let (mut client, _) = upstream.client(config());
    for _ in 0..3 {
        let mut builder = Builder::new_current_thread();
        let runtime = builder.enable_time().start_paused(true).build().unwrap();
        assert!(runtime.block_on(validate(&mut client)).unwrap());
        upstream.becomes(Reply::Hang);
        runtime.block_on(validate(&mut client)).unwrap_err();
        upstream.becomes(Reply::After(ms(20), Box::new(Reply::Valid)));
        assert!(runtime.block_on(validate(&mut client)).unwrap());
    }
}

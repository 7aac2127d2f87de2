//! Methods that stream, through every layer.
//!
//! | file | what |
//! | --- | --- |
//! | `flow.rs` | messages pass at once, one at a time, and nobody waits for nobody |
//! | `ends.rs` | what counts is the end of the stream |
//! | `settings.rs` | what one method may have for itself |
//!
//! With sockets: `tests/streaming.rs`.

mod ends;
mod flow;
mod settings;

use std::time::Duration;

use http::{Request, Response};
use resilience::{MethodConfig, Resilience, ResilienceConfig, ResilienceLayer, TimeLimit};
use tokio::time::sleep;
use tokio_stream::{Stream, StreamExt as _, iter};
use tonic::{Status, body::Body};
use tower::{BoxError, Layer as _, Service};

use crate::{
    config,
    feed::{Ask, CHAT, FeedClient, FeedServer, Note, WATCH, ask, note},
};

/// The defaults, with the methods that answer with a stream declared.
fn declared() -> ResilienceConfig {
    ResilienceConfig {
        streaming: [WATCH, CHAT].into(),
        ..config()
    }
}

/// `declared`, and this for one method.
fn with(method: &str, own: MethodConfig) -> ResilienceConfig {
    ResilienceConfig {
        overrides: [(method.to_owned(), own)].into(),
        ..declared()
    }
}

/// A stream that may last for ever.
fn endless() -> MethodConfig {
    MethodConfig {
        deadline: TimeLimit::None,
        attempt_timeout: TimeLimit::None,
        ..MethodConfig::default()
    }
}

/// A client of the feed on the whole stack on `service`.
pub(crate) fn client_on<S>(
    service: S,
    config: ResilienceConfig,
) -> (FeedClient<Resilience<S>>, ResilienceLayer)
where
    S: Service<Request<Body>, Response = Response<Body>, Future: Send> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
{
    let layer = ResilienceLayer::new("feed", config).unwrap();
    (FeedClient::new(layer.layer(service)), layer)
}

/// Every message after its pause, in milliseconds.
pub(crate) fn paced<T: Send + 'static>(
    items: impl IntoIterator<Item = (u64, T), IntoIter: Send + 'static>,
) -> impl Stream<Item = T> + Send + 'static {
    iter(items).then(|(pause, item)| async move {
        // Not even a turn of the runtime where there is no pause.
        if pause > 0 {
            sleep(Duration::from_millis(pause)).await;
        }
        item
    })
}

/// Questions, each after its pause.
pub(crate) fn asks(asks: &[(u64, &'static str)]) -> impl Stream<Item = Ask> + Send + use<> {
    let asks: Vec<_> = asks
        .iter()
        .map(|(pause, text)| (*pause, ask(*text)))
        .collect();
    paced(asks)
}

/// A server that answers every call with these, each after its pause.
fn server(
    script: impl Fn() -> Vec<(u64, Result<Note, Status>)> + Send + Sync + 'static,
) -> FeedServer {
    FeedServer::new(move |_| {
        let script = script();
        async move { Ok(paced(script)) }
    })
}

/// A server that answers every message with itself.
pub(crate) fn echo() -> FeedServer {
    FeedServer::new(|asks: tonic::Request<tonic::Streaming<Ask>>| async {
        Ok(asks
            .into_inner()
            .map(|ask| ask.map(|ask| note(ask.user_id))))
    })
}

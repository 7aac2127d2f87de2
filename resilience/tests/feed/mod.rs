//! A service that streams, and its client: as generated code would have them.
//!
//! | method | request | response |
//! | --- | --- | --- |
//! | `Watch` | one | a stream |
//! | `Upload` | a stream | one |
//! | `Chat` | a stream | a stream |
//!
//! Written by hand, so that no `.proto` of tests has to be compiled. On the
//! wire the kinds of methods are alike, so one handler serves all three.

#![allow(dead_code)] // each test program uses a part

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::uri::PathAndQuery;
use proto::user::{ValidateUserRequest, ValidateUserResponse};
use tokio_stream::Stream;
use tonic::{
    GrpcMethod, IntoRequest, IntoStreamingRequest, Request, Response, Status, Streaming,
    body::Body,
    client::{Grpc, GrpcService},
    codec::CompressionEncoding,
    codegen::{Service, StdError},
    server::{NamedService, StreamingService},
};
use tonic_prost::ProstCodec;

pub(crate) const WATCH: &str = "feed.Feed/Watch";
pub(crate) const UPLOAD: &str = "feed.Feed/Upload";
pub(crate) const CHAT: &str = "feed.Feed/Chat";

/// What a caller sends.
pub(crate) type Ask = ValidateUserRequest;
/// What it gets.
pub(crate) type Note = ValidateUserResponse;

pub(crate) fn ask(text: impl Into<String>) -> Ask {
    Ask {
        user_id: text.into(),
    }
}

pub(crate) fn note(text: impl Into<String>) -> Note {
    Note {
        valid: true,
        user_name: text.into(),
        ..Note::default()
    }
}

/// The client.
#[derive(Debug, Clone)]
pub(crate) struct FeedClient<S> {
    inner: Grpc<S>,
}

impl<S> FeedClient<S>
where
    S: GrpcService<Body>,
    S::Error: Into<StdError>,
    S::ResponseBody: http_body::Body<Data = Bytes> + Send + 'static,
    <S::ResponseBody as http_body::Body>::Error: Into<StdError> + Send,
{
    pub(crate) fn new(service: S) -> Self {
        Self {
            inner: Grpc::new(service),
        }
    }

    pub(crate) fn gzip(self) -> Self {
        let gzip = CompressionEncoding::Gzip;
        Self {
            inner: self.inner.send_compressed(gzip).accept_compressed(gzip),
        }
    }

    pub(crate) fn sends_at_most(self, bytes: usize) -> Self {
        Self {
            inner: self.inner.max_encoding_message_size(bytes),
        }
    }

    pub(crate) async fn watch(
        &mut self,
        request: impl IntoRequest<Ask>,
    ) -> Result<Response<Streaming<Note>>, Status> {
        self.ready().await?;
        let request = named(request.into_request(), "Watch");
        let path = PathAndQuery::from_static("/feed.Feed/Watch");
        let codec = ProstCodec::<Ask, Note>::default();
        self.inner.server_streaming(request, path, codec).await
    }

    pub(crate) async fn upload(
        &mut self,
        request: impl IntoStreamingRequest<Message = Ask>,
    ) -> Result<Response<Note>, Status> {
        self.ready().await?;
        let request = named(request.into_streaming_request(), "Upload");
        let path = PathAndQuery::from_static("/feed.Feed/Upload");
        let codec = ProstCodec::<Ask, Note>::default();
        self.inner.client_streaming(request, path, codec).await
    }

    pub(crate) async fn chat(
        &mut self,
        request: impl IntoStreamingRequest<Message = Ask>,
    ) -> Result<Response<Streaming<Note>>, Status> {
        self.ready().await?;
        let request = named(request.into_streaming_request(), "Chat");
        let path = PathAndQuery::from_static("/feed.Feed/Chat");
        let codec = ProstCodec::<Ask, Note>::default();
        self.inner.streaming(request, path, codec).await
    }

    async fn ready(&mut self) -> Result<(), Status> {
        let ready = self.inner.ready().await;
        ready.map_err(|error| Status::unknown(format!("not ready: {}", error.into())))
    }
}

fn named<R>(mut request: Request<R>, method: &'static str) -> Request<R> {
    let method = GrpcMethod::new("feed.Feed", method);
    request.extensions_mut().insert(method);
    request
}

/// A response in the making.
pub(crate) type Notes = Pin<Box<dyn Stream<Item = Result<Note, Status>> + Send>>;

type Answer = Pin<Box<dyn Future<Output = Result<Response<Notes>, Status>> + Send>>;

type Handler = Arc<dyn Fn(Request<Streaming<Ask>>) -> Answer + Send + Sync>;

/// The server, for a tonic router; or right under a client, with no socket
/// between them.
#[derive(Clone)]
pub(crate) struct FeedServer {
    handler: Handler,
}

impl FeedServer {
    /// Every call is answered by `handler`.
    pub(crate) fn new<F, S>(
        handler: impl Fn(Request<Streaming<Ask>>) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Result<S, Status>> + Send + 'static,
        S: Stream<Item = Result<Note, Status>> + Send + 'static,
    {
        let handler = move |request: Request<Streaming<Ask>>| -> Answer {
            let answer = handler(request);
            Box::pin(async move { Ok(Response::new(Box::pin(answer.await?) as Notes)) })
        };
        Self {
            handler: Arc::new(handler),
        }
    }
}

impl NamedService for FeedServer {
    const NAME: &'static str = "feed.Feed";
}

impl<B> Service<http::Request<B>> for FeedServer
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<StdError> + Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<http::Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let handle = Handle(Arc::clone(&self.handler));
        Box::pin(async move {
            let gzip = CompressionEncoding::Gzip;
            let mut grpc = tonic::server::Grpc::new(ProstCodec::<Note, Ask>::default())
                .accept_compressed(gzip)
                .send_compressed(gzip);
            Ok(grpc.streaming(handle, request).await)
        })
    }
}

/// The handler, as tonic's server wants it.
struct Handle(Handler);

impl StreamingService<Ask> for Handle {
    type Response = Note;
    type ResponseStream = Notes;
    type Future = Answer;

    fn call(&mut self, request: Request<Streaming<Ask>>) -> Answer {
        (self.0)(request)
    }
}

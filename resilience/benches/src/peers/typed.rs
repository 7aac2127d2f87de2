//! The generated client as a tower service of messages: where layers that do
//! not know gRPC can live.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use proto::user::{ValidateUserRequest, ValidateUserResponse};
use tonic::{Response, Status, body::Body, codegen::StdError};
use tower::ServiceExt as _;
use tower_service::Service;

use crate::{
    rows::{BOTH, Call, Row, Table, by_hand},
    work::{Caller, Client, Manner, Upstream, question},
};

/// What a call through [`Typed`] is answered with.
pub(crate) type Reply = Response<ValidateUserResponse>;

/// The generated client as a service.
#[derive(Debug, Clone)]
pub(crate) struct Typed<S>(Client<S>);

impl<S> Typed<S>
where
    Client<S>: Clone,
    S: tonic::client::GrpcService<Body>,
    S::Error: Into<StdError>,
    S::ResponseBody: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    <S::ResponseBody as http_body::Body>::Error: Into<StdError> + Send,
{
    pub(crate) fn new(channel: S) -> Self {
        Self(Client::new(channel))
    }
}

impl<S> Service<ValidateUserRequest> for Typed<S>
where
    S: tonic::client::GrpcService<Body> + Clone + Send + 'static,
    S::Error: Into<StdError>,
    S::Future: Send,
    S::ResponseBody: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    <S::ResponseBody as http_body::Body>::Error: Into<StdError> + Send,
{
    type Response = Reply;
    type Error = Status;
    type Future = Pin<Box<dyn Future<Output = Result<Reply, Status>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    /// A method of the client borrows it, and its future has no name: a copy of
    /// the one and a box for the other.
    fn call(&mut self, request: ValidateUserRequest) -> Self::Future {
        let mut client = self.0.clone();
        Box::pin(async move { client.validate_user(request).await })
    }
}

/// Calls a service of messages.
#[derive(Debug, Clone)]
pub(crate) struct TypedCaller<S>(pub(crate) S);

impl<S> Caller for TypedCaller<S>
where
    S: Service<ValidateUserRequest, Response = Reply, Future: Send, Error: Send> + Send,
{
    async fn call(&mut self) -> bool {
        match self.0.ready().await {
            Ok(service) => {
                let reply = service.call(question()).await;
                reply.is_ok_and(|reply| reply.get_ref().valid)
            }
            Err(_) => false,
        }
    }
}

/// A stack of layers on the service in memory.
pub(super) fn on<const ROW: u32, S>(
    stack: impl FnOnce(Typed<Upstream<ROW>>) -> S,
    manner: Manner,
) -> Call
where
    TypedCaller<S>: Caller + 'static,
{
    by_hand(TypedCaller(stack(Typed::new(Upstream::new(manner)))))
}

pub(super) fn rows() -> Vec<Row> {
    vec![Row {
        table: Table::Stack,
        id: "typed",
        over: Some("bare"),
        title: "service of messages: what each of the following needs beneath it",
        manners: BOTH,
        make: |manner| on::<{ line!() }, _>(|typed| typed, manner),
    }]
}

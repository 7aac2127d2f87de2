//! A deadline that is passed on: `cargo run -p resilience --example deadline`.
//!
//! A service between a caller and another service. What its caller gave it is
//! what it gives: nobody works for somebody who has left.

mod support;

use std::{error::Error, time::Duration};

use proto::user::{
    self, UserRequest, UserResponse, ValidateUserRequest, ValidateUserResponse,
    user_service_client::UserServiceClient,
    user_service_server::{UserService, UserServiceServer},
};
use resilience::{
    ConnectConfig, Deadline, InboundDeadlineLayer, Resilience, ResilienceConfig, ResilienceLayer,
};
use tokio::{net::TcpListener, time::Instant};
use tonic::{
    Code, Request, Response, Status,
    transport::{Channel, Endpoint, Server, server::TcpIncoming},
};
use tower::Layer as _;

/// Asks the user service behind it.
struct Between {
    users: UserServiceClient<Resilience<Channel>>,
}

#[tonic::async_trait]
impl UserService for Between {
    async fn validate_user(
        &self,
        request: Request<ValidateUserRequest>,
    ) -> Result<Response<ValidateUserResponse>, Status> {
        let deadline = Deadline::of(request.extensions());
        if let Some(deadline) = deadline {
            let left = deadline.remaining(Instant::now());
            println!("  between: {} ms are left", left.as_millis());
        }
        let mut asked = Request::new(request.into_inner());
        if let Some(deadline) = deadline {
            // The layer takes the least of this and its own.
            asked.extensions_mut().insert(deadline);
        }
        self.users.clone().validate_user(asked).await
    }

    async fn get_user(&self, _: Request<UserRequest>) -> Result<Response<UserResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let behind = support::user_service(Code::Unavailable, 0).await?;
    let resilience = ResilienceLayer::new(
        "user-service",
        ResilienceConfig {
            methods: user::METHODS.into(),
            ..ResilienceConfig::default()
        },
    )?;
    let channel = resilience::connect(&behind.to_string(), ConnectConfig::default())?;
    let users = UserServiceClient::new(resilience.layer(channel));

    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let server = Server::builder()
        // Notes when each call arrived, and until when it is wanted.
        .layer(InboundDeadlineLayer)
        .add_service(UserServiceServer::new(Between { users }))
        .serve_with_incoming(TcpIncoming::from(listener));
    tokio::spawn(server);

    let channel = Endpoint::from_shared(format!("http://{address}"))?;
    let mut caller = UserServiceClient::new(channel.connect_lazy());
    println!("a call with 400 ms:");
    let mut request = Request::new(ValidateUserRequest::default());
    request.set_timeout(Duration::from_millis(400));
    caller.validate_user(request).await?;
    Ok(())
}

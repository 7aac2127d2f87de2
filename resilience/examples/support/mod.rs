//! An upstream for the examples: a user service that fails now and then.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use proto::user::{
    UserRequest, UserResponse, ValidateUserRequest, ValidateUserResponse,
    user_service_server::{UserService, UserServiceServer},
};
use tokio::net::TcpListener;
use tonic::{Code, Request, Response, Status, transport::server::TcpIncoming};

/// Fails the first calls with `code`, and answers all others.
#[derive(Debug)]
struct Users {
    code: Code,
    failures: AtomicU32,
}

#[tonic::async_trait]
impl UserService for Users {
    async fn get_user(&self, _: Request<UserRequest>) -> Result<Response<UserResponse>, Status> {
        Err(Status::not_found("nobody has a profile here"))
    }

    async fn validate_user(
        &self,
        request: Request<ValidateUserRequest>,
    ) -> Result<Response<ValidateUserResponse>, Status> {
        let attempt = request.metadata().get("grpc-previous-rpc-attempts");
        let attempt = attempt.map_or("the first attempt".to_owned(), |previous| {
            format!("an attempt after {previous:?}")
        });
        let left = self
            .failures
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(1)
            });
        if left.is_ok() {
            println!("  the upstream saw {attempt}, and fails it");
            return Err(Status::new(self.code, "told to fail"));
        }
        let timeout = request.metadata().get("grpc-timeout");
        let timeout = timeout.map(|value| format!(" of {value:?}"));
        println!(
            "  the upstream saw {attempt}{}, and answers it",
            timeout.unwrap_or_default()
        );
        Ok(Response::new(ValidateUserResponse {
            valid: true,
            user_name: "Anna".to_owned(),
            error_message: String::new(),
        }))
    }
}

/// Starts a user service on a free port; the first calls fail with `code`.
pub(crate) async fn user_service(code: Code, failures: u32) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let users = Users {
        code,
        failures: AtomicU32::new(failures),
    };
    let server = tonic::transport::Server::builder()
        .add_service(UserServiceServer::from_arc(Arc::new(users)))
        .serve_with_incoming(TcpIncoming::from(listener));
    tokio::spawn(server);
    Ok(address)
}

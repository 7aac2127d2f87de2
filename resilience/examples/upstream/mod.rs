//! A little user service in the process of the example, on a free port.

use std::{
    io,
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use proto::user::{
    UserRequest, UserResponse, ValidateUserRequest, ValidateUserResponse,
    user_service_server::{UserService, UserServiceServer},
};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, transport::Server};

/// A running user service. It stops with the process.
pub(crate) struct Users {
    /// Where it listens.
    pub(crate) url: String,
    asked: Arc<AtomicUsize>,
}

impl Users {
    /// Starts one. `fate` decides what becomes of request number 1, 2, and so on.
    pub(crate) async fn start(
        fate: impl Fn(usize) -> Result<(), Status> + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let url = format!("http://{}", listener.local_addr()?);
        let asked = Arc::new(AtomicUsize::new(0));
        let service = UserServiceServer::new(Service {
            fate: Box::new(fate),
            asked: Arc::clone(&asked),
        });
        tokio::spawn(
            Server::builder()
                .add_service(service)
                .serve_with_incoming(TcpListenerStream::new(listener)),
        );
        Ok(Self { url, asked })
    }

    /// The requests so far.
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Relaxed)
    }
}

struct Service {
    fate: Box<dyn Fn(usize) -> Result<(), Status> + Send + Sync>,
    asked: Arc<AtomicUsize>,
}

#[tonic::async_trait]
impl UserService for Service {
    async fn get_user(&self, _: Request<UserRequest>) -> Result<Response<UserResponse>, Status> {
        Err(Status::not_found("nobody lives here"))
    }

    async fn validate_user(
        &self,
        _: Request<ValidateUserRequest>,
    ) -> Result<Response<ValidateUserResponse>, Status> {
        (self.fate)(self.asked.fetch_add(1, Relaxed) + 1)?;
        Ok(Response::new(ValidateUserResponse {
            valid: true,
            user_name: "Ada".into(),
            ..ValidateUserResponse::default()
        }))
    }
}

/// The question that the examples ask.
pub(crate) fn ada() -> ValidateUserRequest {
    ValidateUserRequest {
        user_id: "user-1".into(),
    }
}

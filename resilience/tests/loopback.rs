//! A generated client, through the stack, to a tonic server over a real socket.

#![allow(clippy::unwrap_used)] // helpers of tests, which clippy does not know as such

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use proto::user::{
    self, UserRequest, UserResponse, ValidateUserRequest, ValidateUserResponse,
    user_service_client::UserServiceClient,
    user_service_server::{UserService, UserServiceServer},
};
use resilience::{
    ConnectConfig, Deadline, Delivery, InboundDeadlineLayer, Resilience, ResilienceConfig,
    ResilienceLayer, TransportError,
};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::oneshot,
    task::JoinHandle,
    time::Instant,
};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{
    Code, Request, Response, Status,
    codec::CompressionEncoding,
    service::interceptor::InterceptedService,
    transport::{Channel, Server},
};
use tower::Layer as _;

/// Fails as often as it is told to, then answers; remembers what it was told.
#[derive(Default)]
struct Users {
    failures: AtomicUsize,
    calls: AtomicUsize,
    timeouts: Mutex<Vec<Duration>>,
    seen: Mutex<Vec<String>>,
}

#[tonic::async_trait]
impl UserService for Users {
    async fn get_user(&self, _: Request<UserRequest>) -> Result<Response<UserResponse>, Status> {
        Err(Status::not_found("nobody"))
    }

    async fn validate_user(
        &self,
        request: Request<ValidateUserRequest>,
    ) -> Result<Response<ValidateUserResponse>, Status> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        if let Some(deadline) = Deadline::of(request.extensions()) {
            self.timeouts
                .lock()
                .unwrap()
                .push(deadline.remaining(Instant::now()));
        }
        if let Some(from) = request.metadata().get("x-from") {
            self.seen
                .lock()
                .unwrap()
                .push(from.to_str().unwrap().to_owned());
        }
        let fail = self
            .failures
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(1)
            });
        match fail {
            Ok(_) => Err(Status::unavailable("told to fail")),
            Err(_) => Ok(Response::new(ValidateUserResponse {
                valid: true,
                user_name: "n".repeat(10_000),
                ..Default::default()
            })),
        }
    }
}

struct Running {
    address: SocketAddr,
    users: Arc<Users>,
    stop: oneshot::Sender<()>,
    server: JoinHandle<()>,
}

impl Running {
    async fn stop(self) {
        self.stop.send(()).unwrap();
        self.server.await.unwrap();
    }
}

/// Serves on `address`; port 0 means any.
async fn serve(address: SocketAddr) -> Running {
    let listener = listener(address).await;
    let address = listener.local_addr().unwrap();
    let users = Arc::new(Users::default());
    let (stop, stopped) = oneshot::channel();
    let service = UserServiceServer::from_arc(Arc::clone(&users))
        .accept_compressed(CompressionEncoding::Gzip)
        .send_compressed(CompressionEncoding::Gzip);
    let server = tokio::spawn(async move {
        Server::builder()
            .layer(InboundDeadlineLayer)
            .add_service(service)
            .serve_with_incoming_shutdown(TcpListenerStream::new(listener), async {
                let _ = stopped.await;
            })
            .await
            .unwrap();
    });
    Running {
        address,
        users,
        stop,
        server,
    }
}

async fn listener(address: SocketAddr) -> TcpListener {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(address).unwrap();
    socket.listen(64).unwrap()
}

fn anywhere() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

fn stack() -> ResilienceLayer {
    ResilienceLayer::new(
        "user-service",
        ResilienceConfig {
            methods: user::METHODS.into(),
            idempotent: user::IDEMPOTENT_METHODS.into(),
            ..ResilienceConfig::default()
        },
    )
    .unwrap()
}

fn channel(address: SocketAddr) -> Channel {
    resilience::connect(&address.to_string(), ConnectConfig::default()).unwrap()
}

fn client(address: SocketAddr) -> UserServiceClient<Resilience<Channel>> {
    UserServiceClient::new(stack().layer(channel(address)))
}

fn request() -> ValidateUserRequest {
    ValidateUserRequest {
        user_id: "user-123".into(),
    }
}

#[tokio::test]
async fn a_generated_client_works_unchanged() {
    let running = serve(anywhere()).await;
    let mut client = client(running.address);

    assert!(
        client
            .validate_user(request())
            .await
            .unwrap()
            .into_inner()
            .valid
    );
    let status = client.get_user(UserRequest::default()).await.unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::NotFound, "nobody")
    );
    running.stop().await;
}

#[tokio::test]
async fn failures_are_retried_and_every_attempt_carries_its_time() {
    let running = serve(anywhere()).await;
    running.users.failures.store(2, Ordering::Relaxed);

    assert!(
        client(running.address)
            .validate_user(request())
            .await
            .is_ok()
    );

    assert_eq!(running.users.calls.load(Ordering::Relaxed), 3);
    let timeouts = running.users.timeouts.lock().unwrap().clone();
    assert_eq!(timeouts.len(), 3);
    assert!(
        timeouts
            .iter()
            .all(|left| *left <= Duration::from_millis(250)),
        "{timeouts:?}"
    );
    running.stop().await;
}

/// tonic says so in the body of the request. On a connection that is a stream
/// which its client resets, and looks like a failure of the upstream.
#[tokio::test]
async fn a_request_that_cannot_be_made_is_not_sent_and_says_why() {
    let running = serve(anywhere()).await;
    let stack = stack();
    let mut client =
        UserServiceClient::new(stack.layer(channel(running.address))).max_encoding_message_size(8);
    for _ in 0..100 {
        let status = client.validate_user(request()).await.unwrap_err();
        assert_eq!(status.code(), Code::OutOfRange);
        let why = "the limit is: 8 bytes";
        assert!(status.message().contains(why), "{status}");
        let delivery = TransportError::of(&status).map(TransportError::delivery);
        assert_eq!(delivery, Some(Delivery::NotSent));
    }
    assert_eq!(running.users.calls.load(Ordering::Relaxed), 0);
    assert_eq!(stack.breaker().failure_ratio(), 0.0);
    assert_eq!((stack.in_flight(), stack.budget_tokens()), (0, 20.0));
    running.stop().await;
}

#[tokio::test]
async fn compression_passes_through_and_is_replayed() {
    let running = serve(anywhere()).await;
    running.users.failures.store(1, Ordering::Relaxed);
    let mut client = client(running.address)
        .send_compressed(CompressionEncoding::Gzip)
        .accept_compressed(CompressionEncoding::Gzip);

    let reply = client.validate_user(request()).await.unwrap();

    assert_eq!(reply.metadata().get("grpc-encoding").unwrap(), "gzip");
    assert_eq!(reply.into_inner().user_name.len(), 10_000);
    assert_eq!(running.users.calls.load(Ordering::Relaxed), 2);
    running.stop().await;
}

#[tokio::test]
async fn interceptors_work_outside_and_inside() {
    let running = serve(anywhere()).await;
    let outside = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&outside);
    running.users.failures.store(1, Ordering::Relaxed);
    let mut client = UserServiceClient::with_interceptor(
        stack().layer(channel(running.address)),
        move |mut request: Request<()>| {
            count.fetch_add(1, Ordering::Relaxed);
            request
                .metadata_mut()
                .insert("x-from", "outside".parse().unwrap());
            Ok(request)
        },
    );
    client.validate_user(request()).await.unwrap();
    assert_eq!(outside.load(Ordering::Relaxed), 1, "once for the call");
    assert_eq!(
        *running.users.seen.lock().unwrap(),
        ["outside", "outside"],
        "in each attempt"
    );

    let inside = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&inside);
    running.users.failures.store(1, Ordering::Relaxed);
    let intercepted =
        InterceptedService::new(channel(running.address), move |request: Request<()>| {
            count.fetch_add(1, Ordering::Relaxed);
            Ok(request)
        });
    let mut client = UserServiceClient::new(stack().layer(intercepted));
    client.validate_user(request()).await.unwrap();
    assert_eq!(inside.load(Ordering::Relaxed), 2, "once for each attempt");
    running.stop().await;
}

#[tokio::test]
async fn a_server_that_comes_back_is_found_by_the_same_client() {
    let running = serve(anywhere()).await;
    let address = running.address;
    let mut client = client(address);
    client.validate_user(request()).await.unwrap();
    running.stop().await;

    let status = client.validate_user(request()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);

    let running = serve(address).await;
    client.validate_user(request()).await.unwrap();
    running.stop().await;
}

#[tokio::test]
async fn a_transport_error_is_classified_by_its_cause_and_not_by_what_tonic_calls_it() {
    // Accepts, reads the request, and resets the connection: tonic says
    // UNKNOWN, or CANCELLED for what was queued behind.
    let listener = listener(anywhere()).await;
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            connection.readable().await.unwrap();
            reset(connection);
        }
    });
    let mut client = client(address);

    let status = client.validate_user(request()).await.unwrap_err();

    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    assert!(TransportError::of(&status).is_some(), "{status:?}");
}

/// Closes with a RST: unread data makes the kernel send one.
fn reset(connection: TcpStream) {
    drop(connection);
}

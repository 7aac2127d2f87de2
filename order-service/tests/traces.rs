//! One trace from the caller through both services, at a real OTLP receiver.
//!
//! The order service is a program of its own; the user service runs in this
//! process, which exports too. One test, as a process exports to one place.
#![allow(clippy::unwrap_used)] // allowed in tests, and so in what they share

mod common;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use common::{Orders, order, program::Program};
use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::any_value::Value,
    trace::v1::{Span, status::StatusCode},
};
use service_kit::{
    log::{self, LogFormat, LogSettings},
    trace::{TraceSettings, Traced},
};
use tokio::{net::TcpListener, sync::watch, time::timeout};
use tonic::{Request, Response, Status, transport::server::TcpIncoming};

const CALLER: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER_SPAN: &str = "b7ad6b7169203331";

/// What has arrived: spans, each with the name of the service it came from.
#[derive(Clone)]
struct Receiver {
    spans: Arc<Mutex<Vec<(String, Span)>>>,
    arrived: Arc<watch::Sender<()>>,
}

#[tonic::async_trait]
impl TraceService for Receiver {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        for from in request.into_inner().resource_spans {
            let attributes = from.resource.unwrap_or_default().attributes;
            let service = attributes
                .into_iter()
                .find(|attribute| attribute.key == "service.name")
                .and_then(|attribute| attribute.value?.value);
            let Some(Value::StringValue(service)) = service else {
                return Err(Status::invalid_argument("no service.name"));
            };
            let spans = from.scope_spans.into_iter().flat_map(|scope| scope.spans);
            let mut arrived = self.spans.lock().unwrap();
            arrived.extend(spans.map(|span| (service.clone(), span)));
        }
        self.arrived.send_replace(());
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Receiver {
    async fn start() -> (Self, String) {
        let receiver = Self {
            spans: Arc::default(),
            arrived: Arc::new(watch::Sender::new(())),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tonic::transport::Server::builder()
            .add_service(TraceServiceServer::new(receiver.clone()))
            .serve_with_incoming(TcpIncoming::from(listener));
        tokio::spawn(server);
        (receiver, format!("http://{address}"))
    }

    /// Waits for the first span of that name that is `wanted`.
    async fn span(&self, service: &str, name: &str, wanted: impl Fn(&Span) -> bool) -> Span {
        let mut arrived = self.arrived.subscribe();
        let look = || {
            let spans = self.spans.lock().unwrap();
            let found = spans
                .iter()
                .find(|(from, span)| from == service && span.name == name && wanted(span));
            found.map(|(_, span)| span.clone())
        };
        let wait = async {
            loop {
                if let Some(span) = look() {
                    return span;
                }
                arrived.changed().await.unwrap();
            }
        };
        timeout(Duration::from_secs(10), wait)
            .await
            .unwrap_or_else(|_| {
                panic!(
                    "no {name} of {service} in {:#?}",
                    self.spans.lock().unwrap()
                )
            })
    }

    /// Whether `span` lies beneath the span of that id, however deep: a client may put spans of
    /// its own between.
    fn is_beneath(&self, span: &Span, ancestor: &[u8]) -> bool {
        let spans = self.spans.lock().unwrap();
        let mut parent = span.parent_span_id.clone();
        for _ in 0..10 {
            if parent == ancestor {
                return true;
            }
            match spans.iter().find(|(_, span)| span.span_id == parent) {
                Some((_, next)) => parent = next.parent_span_id.clone(),
                None => return false,
            }
        }
        false
    }
}

/// The order service, as a program that logs its calls.
fn program(users: SocketAddr, variables: &[(&str, &str)]) -> Program {
    let users = users.to_string();
    let more = [
        ("RUST_LOG", "info"),
        ("ADMIN_PORT", "off"),
        ("USER_SERVICE_URL", &*users),
        ("OTEL_BSP_SCHEDULE_DELAY", "100"),
    ];
    Program::start(
        env!("CARGO_BIN_EXE_order-service"),
        &[&more, variables].concat(),
    )
}

fn hex(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_is_one_trace_through_both_services_and_in_their_logs() {
    let (receiver, endpoint) = Receiver::start().await;
    let log = LogSettings {
        filter: "off".into(),
        format: LogFormat::Text,
    };
    let trace = TraceSettings {
        endpoint: Some(endpoint.clone()),
    };
    let exporting = log::init(&log, &trace, "user-service");
    let settings = user_service::Settings {
        chaos: "off".parse().unwrap(),
        ..user_service::Settings::default()
    };
    let users = user_service::start(settings).await.unwrap();
    let mut orders = program(
        users.grpc_addr(),
        &[("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint)],
    );
    let mut request = order("user-123");
    request
        .metadata_mut()
        .insert("traceparent", CALLER.parse().unwrap());

    Orders::at(orders.grpc).create(request).await.unwrap();
    exporting.flush();

    let of_trace = |span: &Span| hex(&span.trace_id) == TRACE;
    let outer = receiver
        .span(
            "order-service",
            "Recv.order.OrderService.CreateOrder",
            of_trace,
        )
        .await;
    let inner = receiver
        .span(
            "user-service",
            "Recv.user.UserService.ValidateUser",
            of_trace,
        )
        .await;
    assert_eq!(hex(&outer.parent_span_id), CALLER_SPAN);
    // In between: the call, and the attempt that reached the user service.
    let call = receiver
        .span(
            "order-service",
            "Sent.user.UserService.ValidateUser",
            of_trace,
        )
        .await;
    let attempt = receiver
        .span(
            "order-service",
            "Attempt.user.UserService.ValidateUser",
            of_trace,
        )
        .await;
    assert_eq!(inner.parent_span_id, attempt.span_id);
    assert_eq!(attempt.parent_span_id, call.span_id);
    assert!(receiver.is_beneath(&call, &outer.span_id), "{call:?}");
    assert!(inner.start_time_unix_nano >= outer.start_time_unix_nano);
    let line = orders.read_until("outcome");
    assert!(line.contains(&format!("trace_id={TRACE}")), "{line}");

    // A span of the client's own, such as one of an attempt, leaves too, and is the one that the
    // next service is told of.
    let attempt = tracing::debug_span!(target: "resilience", "Attempt.test");
    let sent = attempt.in_scope(|| {
        let mut channel = Traced::new(tower::service_fn(async |request: http::Request<()>| {
            Ok::<_, std::convert::Infallible>(request)
        }));
        tower::Service::call(&mut channel, http::Request::new(()))
    });
    let told = sent.await.unwrap().headers()["traceparent"].clone();
    drop(attempt);
    exporting.flush();
    let attempt = receiver
        .span("user-service", "Attempt.test", |_| true)
        .await;
    assert_eq!(
        told.to_str().unwrap().split('-').nth(2),
        Some(&*hex(&attempt.span_id))
    );

    // A failure is told from an answer of no.
    let malformed = Orders::at(orders.grpc)
        .create(proto::order::CreateOrderRequest::default())
        .await;
    malformed.unwrap_err();
    let refused = receiver
        .span(
            "order-service",
            "Recv.order.OrderService.CreateOrder",
            |span| span.parent_span_id.is_empty(),
        )
        .await;
    let code = refused
        .attributes
        .iter()
        .find(|attribute| attribute.key == "rpc.grpc.status_code")
        .and_then(|attribute| attribute.value.clone()?.value);
    assert_eq!(code, Some(Value::IntValue(3)), "{refused:?}");
    assert_ne!(
        refused.status.unwrap_or_default().code,
        StatusCode::Error as i32,
        "the caller's own mistake"
    );

    // A service that exports nothing passes nothing on, and logs no id.
    let mut quiet = program(users.grpc_addr(), &[]);
    let mut request = order("user-123");
    request
        .metadata_mut()
        .insert("traceparent", CALLER.parse().unwrap());
    let known = receiver.spans.lock().unwrap().len();
    Orders::at(quiet.grpc).create(request).await.unwrap();
    exporting.flush();
    let rootless = receiver
        .span(
            "user-service",
            "Recv.user.UserService.ValidateUser",
            |span| span.parent_span_id.is_empty(),
        )
        .await;
    assert_ne!(hex(&rootless.trace_id), TRACE);
    assert!(receiver.spans.lock().unwrap().len() > known);
    let line = quiet.read_until("outcome");
    assert!(!line.contains("trace_id"), "{line}");

    tokio::task::spawn_blocking(|| exporting.end())
        .await
        .unwrap();
}

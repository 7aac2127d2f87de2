//! What the tests share: both services, really running, and clients for them.
#![allow(dead_code)] // each test file uses a part
#![allow(clippy::unwrap_used)] // allowed in tests, and this is part of them

pub(crate) mod certificates;
pub(crate) mod crash;
pub(crate) mod program;
pub(crate) mod proxy;

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicU64, Ordering},
};

use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use order_service::{ResilienceSettings, Settings};
use proto::{
    chaos::v1::{SetRequest, chaos_client::ChaosClient},
    order::{
        CreateOrderRequest, CreateOrderResponse, ListOrdersRequest, OrderItem,
        order_service_client::OrderServiceClient,
    },
};
use service_kit::Running;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tonic::{Request, Status, body::Body, transport::Channel};

/// An order service in front of a user service.
pub(crate) struct Stack {
    pub(crate) users: Running,
    pub(crate) orders: Running,
}

impl Stack {
    /// Both on free ports, with these faults and these settings.
    pub(crate) async fn start(chaos: &str, resilience: ResilienceSettings) -> Self {
        let settings = user_service::Settings {
            chaos: chaos.parse().unwrap(),
            chaos_api: true,
            ..user_service::Settings::default()
        };
        let users = user_service::start(settings).await.unwrap();
        let orders = orders_in_front_of(users.grpc_addr(), resilience).await;
        Self { users, orders }
    }

    pub(crate) fn client(&self) -> Orders {
        Orders::of(&self.orders)
    }

    pub(crate) async fn set_chaos(&self, chaos: &str) {
        let address = format!("http://{}", self.users.grpc_addr());
        let channel = Channel::from_shared(address)
            .unwrap()
            .connect()
            .await
            .unwrap();
        let request = SetRequest {
            chaos: chaos.to_owned(),
        };
        ChaosClient::new(channel).set(request).await.unwrap();
    }
}

/// An order service for users at `address`, whoever is there.
pub(crate) async fn orders_in_front_of(
    address: SocketAddr,
    resilience: ResilienceSettings,
) -> Running {
    let user_service_url = address.to_string();
    let settings = Settings {
        user_service_url,
        resilience,
        ..Settings::default()
    };
    order_service::start(settings).await.unwrap()
}

/// A client that leaves deadlines to the server, to see what the server does:
/// tonic's channel would end the call by itself, at about the same time.
#[derive(Clone)]
pub(crate) struct Orders(OrderServiceClient<Client<HttpConnector, Body>>);

impl Orders {
    pub(crate) fn of(service: &Running) -> Self {
        Self::at(service.grpc_addr())
    }

    pub(crate) fn at(address: SocketAddr) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true); // else each call waits 40 ms for an ACK
        let client = Client::builder(TokioExecutor::new())
            .http2_only(true)
            .build(connector);
        let origin = format!("http://{address}").parse().unwrap();
        Self(OrderServiceClient::with_origin(client, origin))
    }

    /// The generated client.
    pub(crate) fn client(&self) -> OrderServiceClient<Client<HttpConnector, Body>> {
        self.0.clone()
    }

    /// The ids of all stored orders of a user, as often as they are listed.
    pub(crate) async fn listed(&self, user_id: &str) -> Vec<String> {
        let (mut ids, mut page_token) = (Vec::new(), String::new());
        loop {
            let request = ListOrdersRequest {
                user_id: user_id.to_owned(),
                page_size: 100,
                page_token,
            };
            let page = self.client().list_orders(request).await.unwrap();
            let page = page.into_inner();
            ids.extend(page.orders.into_iter().map(|order| order.order_id));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return ids;
            }
        }
    }

    pub(crate) async fn create(
        &self,
        request: impl tonic::IntoRequest<CreateOrderRequest>,
    ) -> Result<CreateOrderResponse, Status> {
        Ok(self.0.clone().create_order(request).await?.into_inner())
    }

    /// An order that should be created, as it is answered.
    pub(crate) async fn order(&self) -> CreateOrderResponse {
        self.create(order("user-123")).await.unwrap()
    }
}

/// An order for three things at a tenth each, with an id of its own.
pub(crate) fn order(user_id: &str) -> Request<CreateOrderRequest> {
    let item = OrderItem {
        product_id: "product-1".into(),
        quantity: 1,
        price: 0.1,
    };
    static ORDERS: AtomicU64 = AtomicU64::new(1);
    let number = ORDERS.fetch_add(1, Ordering::Relaxed);
    Request::new(CreateOrderRequest {
        order_id: format!("order-{number}"),
        user_id: user_id.into(),
        items: vec![item; 3],
    })
}

/// The page of the metrics port.
pub(crate) async fn scrape(service: &Running) -> String {
    scrape_at(service.metrics_addr()).await
}

/// The page of a metrics port.
pub(crate) async fn scrape_at(address: SocketAddr) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = "GET /metrics HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// The value of one series of a scrape.
pub(crate) fn value(scrape: &str, series: &str) -> Option<f64> {
    scrape
        .lines()
        .find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
}

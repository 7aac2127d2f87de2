//! What callers rely on while all is well.
#![allow(clippy::unwrap_used)] // allowed in tests, and so in what they share

mod common;

use common::{Orders, Stack, order, orders_in_front_of};
use order_service::ResilienceSettings;
use proto::order::{CreateOrderRequest, CreateOrderResponse, OrderItem};
use tonic::{Code, transport::Channel};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_reflection::pb::v1alpha::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};
use tonic_types::StatusExt as _;

fn plain() -> ResilienceSettings {
    ResilienceSettings {
        enabled: false,
        ..ResilienceSettings::default()
    }
}

#[tokio::test]
async fn an_order_of_a_valid_user_is_created_and_its_total_is_exact() {
    for resilience in [ResilienceSettings::default(), plain()] {
        let stack = Stack::start("off", resilience).await;

        let order = order("user-123").into_inner();
        let created = stack.client().create(order.clone()).await.unwrap();

        assert_eq!(
            created,
            CreateOrderResponse {
                order_id: order.order_id,
                status: "CREATED".into(),
                user_name: "Иван Иванов".into(),
                total_amount: 0.3,
                error_message: String::new(),
            }
        );
    }
}

#[tokio::test]
async fn an_order_of_a_user_who_may_not_order_is_an_error_and_not_a_failure() {
    let stack = Stack::start("off", ResilienceSettings::default()).await;

    for (user, reason) in [
        ("user-0", "user not found"),
        ("user-789", "user is not active"),
    ] {
        let order = order(user).into_inner();
        let refused = stack.client().create(order.clone()).await.unwrap();
        assert_eq!(
            refused,
            CreateOrderResponse {
                order_id: order.order_id,
                status: "ERROR".into(),
                error_message: reason.into(),
                ..CreateOrderResponse::default()
            }
        );
    }
}

#[tokio::test]
async fn a_malformed_order_names_each_field_and_the_user_service_is_not_asked() {
    // Nobody is there to ask: asked, the answer would be an ERROR.
    let orders = orders_in_front_of(
        "127.0.0.1:1".parse().unwrap(),
        ResilienceSettings::default(),
    )
    .await;
    let item = |quantity, price| OrderItem {
        product_id: "p".into(),
        quantity,
        price,
    };
    let mut malformed = order("").into_inner();
    malformed
        .items
        .extend([item(0, 1.0), item(1, f64::NAN), item(-1, -0.5)]);

    let status = Orders::of(&orders).create(malformed).await.unwrap_err();

    assert_eq!(status.code(), Code::InvalidArgument);
    let details = status.get_error_details();
    let violations = &details.bad_request().unwrap().field_violations;
    let fields: Vec<&str> = violations
        .iter()
        .map(|violation| &*violation.field)
        .collect();
    assert_eq!(
        fields,
        [
            "user_id",
            "items[3].quantity",
            "items[4].price",
            "items[5].quantity",
            "items[5].price"
        ]
    );
    assert_eq!(violations[1].description, "must be from 1 to 1000000");

    let status = Orders::of(&orders)
        .create(CreateOrderRequest::default())
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(status.message(), "order_id must not be empty, and 2 more");
}

#[tokio::test]
async fn health_and_reflection_speak_of_the_order_service() {
    let stack = Stack::start("off", ResilienceSettings::default()).await;
    let address = format!("http://{}", stack.orders.grpc_addr());
    let channel = Channel::from_shared(address)
        .unwrap()
        .connect()
        .await
        .unwrap();

    for name in ["", "order.OrderService"] {
        let request = HealthCheckRequest {
            service: name.into(),
        };
        HealthClient::new(channel.clone())
            .check(request)
            .await
            .unwrap();
    }
    let list = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut answers = ServerReflectionClient::new(channel)
        .server_reflection_info(tokio_stream::iter([list]))
        .await
        .unwrap()
        .into_inner();
    let answer = answers
        .message()
        .await
        .unwrap()
        .unwrap()
        .message_response
        .unwrap();
    let MessageResponse::ListServicesResponse(listed) = answer else {
        panic!("{answer:?}")
    };
    assert_eq!(listed.service[0].name, "order.OrderService");
    assert_eq!(listed.service.len(), 4);
}

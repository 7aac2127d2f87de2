//! Whatever is sent, a handler answers: no panic, no INTERNAL.
#![allow(clippy::unwrap_used)] // allowed in tests, and so in what they share

mod common;

use std::time::Duration;

use common::{Orders, Stack, order};
use order_service::ResilienceSettings;
use proptest::{collection::vec, prelude::*, test_runner::TestRunner};
use proto::order::{CreateOrderRequest, GetOrderRequest, ListOrdersRequest, OrderItem};
use tokio::{runtime::Runtime, time::timeout};
use tonic::{Code, Status, codec::DecodeBuf, codec::EncodeBuf};
use tonic_types::StatusExt as _;

/// Text, the odd, the long, and what somebody has.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => any::<String>(),
        3 => prop::sample::select(vec!["user-123", "user-0", "order-1", "order-2", ""])
            .prop_map(str::to_owned),
        1 => prop::sample::select(vec!["\0", "\u{feff}", "e\u{301}", "\u{202e}", "'; --", "\u{10ffff}"])
            .prop_map(str::to_owned),
        1 => (0..2000_usize).prop_map(|length| "ж".repeat(length)),
    ]
}

fn price() -> impl Strategy<Value = f64> {
    prop_oneof![
        any::<f64>(),
        0.0..1e9_f64,
        prop::sample::select(vec![
            f64::NAN,
            f64::INFINITY,
            f64::NEG_INFINITY,
            -0.0,
            f64::MIN_POSITIVE,
            5e-324,
            f64::MAX,
            1e9,
        ]),
    ]
}

fn item() -> impl Strategy<Value = OrderItem> {
    let quantity = prop_oneof![any::<i32>(), 1..5_i32];
    (text(), quantity, price()).prop_map(|(product_id, quantity, price)| OrderItem {
        product_id,
        quantity,
        price,
    })
}

fn new_order() -> impl Strategy<Value = CreateOrderRequest> {
    let items = prop_oneof![
        vec(item(), 0..20),
        (item(), 990..1010_usize).prop_map(|(item, count)| vec![item; count]),
    ];
    (text(), text(), items).prop_map(|(order_id, user_id, items)| CreateOrderRequest {
        order_id,
        user_id,
        items,
    })
}

/// What any answer may be.
fn expected(status: &Status) -> bool {
    let malformed = status.code() == Code::InvalidArgument
        && status.get_error_details().bad_request().is_some();
    malformed
        || matches!(
            status.code(),
            Code::NotFound | Code::AlreadyExists | Code::OutOfRange
        )
}

/// A stack, and a runtime to call it from tests that are not async.
fn stack() -> (Runtime, Stack) {
    let runtime = Runtime::new().unwrap();
    let stack = runtime.block_on(Stack::start("off", ResilienceSettings::default()));
    (runtime, stack)
}

#[test]
fn any_order_is_created_or_refused_and_reads_back_as_it_was() {
    let (runtime, stack) = stack();
    let orders = stack.client();
    TestRunner::deterministic()
        .run(&new_order(), |request| {
            let answer = runtime.block_on(orders.create(request.clone()));
            match answer {
                Ok(answer) if answer.status == "CREATED" => {
                    prop_assert!(answer.total_amount.is_finite() && answer.total_amount >= 0.0);
                    let get = GetOrderRequest {
                        order_id: request.order_id,
                    };
                    let stored = runtime.block_on(orders.client().get_order(get));
                    let stored = stored.unwrap().into_inner();
                    prop_assert_eq!(stored.items, request.items);
                    prop_assert_eq!(stored.user_id, request.user_id);
                }
                Ok(answer) => prop_assert_eq!(answer.error_message, "user not found"),
                Err(status) => prop_assert!(expected(&status), "{:?}", status),
            }
            Ok(())
        })
        .unwrap();
}

#[test]
fn any_question_is_answered_or_refused() {
    let (runtime, stack) = stack();
    let client = stack.client().client();
    let tokens = prop_oneof![text(), "[0-9a-f]{0,40}"];
    TestRunner::deterministic()
        .run(
            &(text(), any::<i32>(), tokens),
            |(id, page_size, page_token)| {
                let list = ListOrdersRequest {
                    user_id: id.clone(),
                    page_size,
                    page_token,
                };
                let get = GetOrderRequest { order_id: id };
                let mut client = client.clone();
                let answers = runtime.block_on(async {
                    let listed = client.list_orders(list).await.map(drop);
                    [listed, client.get_order(get).await.map(drop)]
                });
                for status in answers.into_iter().filter_map(Result::err) {
                    prop_assert!(expected(&status), "{:?}", status);
                }
                Ok(())
            },
        )
        .unwrap();
}

#[tokio::test]
async fn what_is_too_large_is_refused_and_the_next_call_is_served() {
    let stack = Stack::start("off", ResilienceSettings::default()).await;
    let orders = stack.client();
    let item = order("user-123").into_inner().items[0].clone();
    let with = |items| CreateOrderRequest {
        items,
        ..order("user-123").into_inner()
    };

    let status = orders.create(with(vec![item.clone(); 10_000])).await;
    let status = status.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(status.message(), "items must be at most 1000");

    let huge = OrderItem {
        product_id: "x".repeat(4 * 1024 * 1024),
        ..item.clone()
    };
    for too_large in [
        with(vec![huge]),
        with(vec![OrderItem::default(); 2_000_000]),
    ] {
        let answer = timeout(Duration::from_secs(10), orders.create(too_large)).await;
        let status = answer.unwrap().unwrap_err();
        assert_eq!(status.code(), Code::OutOfRange, "{status:?}");
    }

    let largest = OrderItem {
        product_id: "\u{1f600}".repeat(128),
        quantity: 1_000_000,
        price: 1e9,
    };
    let longest_id = largest.product_id.clone();
    let with = |user_id: &str, items| CreateOrderRequest {
        order_id: longest_id.clone(),
        user_id: user_id.into(),
        items: vec![largest.clone(); items],
    };
    let created = orders.create(with("user-123", 1000)).await.unwrap();
    assert_eq!((&*created.status, created.total_amount), ("CREATED", 1e18));

    // All that the fields may hold is read, and not a byte more.
    let status = orders.create(with(&longest_id, 1000)).await.unwrap_err();
    assert_eq!(status.code(), Code::AlreadyExists);
    let status = orders.create(with(&longest_id, 1001)).await.unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange, "{status:?}");
}

/// Sends bytes as they are.
#[derive(Debug, Clone, Copy, Default)]
struct Raw;

impl tonic::codec::Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = ();
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl tonic::codec::Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        bytes::BufMut::put_slice(buffer, &item);
        Ok(())
    }
}

impl tonic::codec::Decoder for Raw {
    type Item = ();
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<()>, Status> {
        bytes::Buf::advance(buffer, bytes::Buf::remaining(buffer));
        Ok(Some(()))
    }
}

#[tokio::test]
async fn bytes_that_are_no_message_are_refused_as_grpc_says() {
    let stack = Stack::start("off", ResilienceSettings::default()).await;
    let url = format!("http://{}", stack.orders.grpc_addr());
    let channel = tonic::transport::Channel::from_shared(url).unwrap();
    let mut grpc = tonic::client::Grpc::new(channel.connect().await.unwrap());
    let path = http::uri::PathAndQuery::from_static("/order.OrderService/CreateOrder");

    for bytes in [
        vec![0x0a, 2, 0xff, 0xfe],             // order_id: not UTF-8
        vec![0x0a, 4, 0xed, 0xa0, 0x80, b'x'], // half of a surrogate pair
        vec![0x0a, 2, 0xc0, 0x80],             // a zero, in a longer form
        vec![0x0a, 200],                       // longer than it is
        vec![0xff; 100],
    ] {
        grpc.ready().await.unwrap();
        let answer = grpc
            .unary(tonic::Request::new(bytes), path.clone(), Raw)
            .await;
        // gRPC's own word for a message that cannot be parsed.
        assert_eq!(answer.unwrap_err().code(), Code::Internal);
    }

    assert_eq!(Orders::of(&stack.orders).order().await.status, "CREATED");
}

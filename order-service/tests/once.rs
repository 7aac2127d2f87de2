//! An order is created once, and stays.
#![allow(clippy::unwrap_used)] // allowed in tests, and so in what they share

mod common;

use std::time::Duration;

use common::{Orders, Stack, order, orders_in_front_of};
use order_service::{ResilienceSettings, Settings};
use proto::order::{
    CreateOrderRequest, CreateOrderResponse, GetOrderRequest, ListOrdersRequest, Order, OrderItem,
};
use service_kit::{Running, database::DatabaseUrl};
use tokio::time::{Instant, sleep};
use tonic::Code;
use tonic_types::StatusExt as _;

const MS: Duration = Duration::from_millis(1);

async fn get(orders: &Orders, order_id: &str) -> Result<Order, Code> {
    let request = GetOrderRequest {
        order_id: order_id.to_owned(),
    };
    let answer = orders.client().get_order(request).await;
    answer
        .map(tonic::Response::into_inner)
        .map_err(|status| status.code())
}

#[tokio::test]
async fn the_same_request_again_gets_the_same_answer_and_asks_nobody() {
    let stack = Stack::start("off", ResilienceSettings::default()).await;
    let order = order("user-123").into_inner();
    let first = stack.client().create(order.clone()).await.unwrap();
    stack.set_chaos("down").await;

    let second = stack.client().create(order.clone()).await.unwrap();

    assert_eq!(first.status, "CREATED");
    assert_eq!(second, first);
    // Whereas an order that is not there cannot be created now.
    let other = stack.client().create(common::order("user-123")).await;
    assert_eq!(other.unwrap().status, "ERROR");
}

#[tokio::test]
async fn an_id_that_has_another_order_is_refused_and_that_order_stays() {
    let stack = Stack::start("off", ResilienceSettings::default()).await;
    let (orders, first) = (stack.client(), order("user-123").into_inner());
    orders.create(first.clone()).await.unwrap();
    let stored = get(&orders, &first.order_id).await.unwrap();

    let item = |quantity, price| OrderItem {
        quantity,
        price,
        ..first.items[0].clone()
    };
    for other in [
        CreateOrderRequest {
            user_id: "user-456".into(),
            ..first.clone()
        },
        CreateOrderRequest {
            items: vec![item(1, 0.1); 2],
            ..first.clone()
        },
        // Of the same total.
        CreateOrderRequest {
            items: vec![item(3, 0.1)],
            ..first.clone()
        },
    ] {
        let status = orders.create(other).await.unwrap_err();
        assert_eq!(status.code(), Code::AlreadyExists, "{status:?}");
    }
    assert_eq!(get(&orders, &first.order_id).await, Ok(stored));
}

#[tokio::test]
async fn an_error_leaves_the_id_free() {
    let stack = Stack::start("off", ResilienceSettings::default()).await;
    let orders = stack.client();
    let mut order = order("user-0").into_inner();
    let refused = orders.create(order.clone()).await.unwrap();
    assert_eq!(refused.status, "ERROR");
    assert_eq!(get(&orders, &order.order_id).await, Err(Code::NotFound));

    order.user_id = "user-123".into();
    let created = orders.create(order.clone()).await.unwrap();

    assert_eq!(created.status, "CREATED");
    assert_eq!(
        get(&orders, &order.order_id).await.unwrap().user_id,
        "user-123"
    );
}

#[tokio::test]
async fn of_many_at_once_with_one_id_one_asks_and_all_get_its_answer() {
    let stack = Stack::start("latency=50ms", ResilienceSettings::default()).await;
    let order = order("user-123").into_inner();

    let calls = (0..20).map(|_| {
        let (orders, order) = (stack.client(), order.clone());
        tokio::spawn(async move { orders.create(order).await.unwrap() })
    });
    let mut answers = Vec::new();
    for call in calls.collect::<Vec<_>>() {
        answers.push(call.await.unwrap());
    }

    assert_eq!(answers[0].status, "CREATED");
    assert!(answers.iter().all(|answer| *answer == answers[0]));
    let delayed = "chaos_injected_total{kind=\"latency\",method=\"user.UserService/ValidateUser\"}";
    let scrape = common::scrape(&stack.users).await;
    assert_eq!(common::value(&scrape, delayed), Some(1.0));
}

#[tokio::test]
async fn the_second_of_two_waits_no_longer_than_its_own_deadline() {
    let stack = Stack::start(
        "hang",
        ResilienceSettings {
            deadline: 3_000 * MS,
            attempt_timeout: 2_999 * MS,
            ..ResilienceSettings::default()
        },
    )
    .await;
    let order = order("user-123").into_inner();
    let first = tokio::spawn({
        let (orders, order) = (stack.client(), order.clone());
        async move { orders.create(order).await }
    });
    let hung = "chaos_injected_total{kind=\"hang\",method=\"user.UserService/ValidateUser\"}";
    while common::value(&common::scrape(&stack.users).await, hung) != Some(1.0) {
        sleep(MS).await;
    }

    let mut second = tonic::Request::new(order);
    second.set_timeout(200 * MS);
    let started = Instant::now();
    let status = stack.client().create(second).await.unwrap_err();

    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert!(started.elapsed() >= 190 * MS, "{:?}", started.elapsed());
    assert!(!first.is_finished(), "the first still waits");
}

/// An order service that keeps its orders in this file.
async fn keeping(users: &Running, path: &std::path::Path) -> Running {
    order_service::start(Settings {
        user_service_url: users.grpc_addr().to_string(),
        database_url: DatabaseUrl::file(path),
        ..Settings::default()
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn an_order_is_there_after_a_restart_as_it_was() {
    let users = user_service::start(user_service::Settings::default())
        .await
        .unwrap();
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("orders.db");
    let service = keeping(&users, &path).await;
    let order = order("user-123").into_inner();
    let created = Orders::of(&service).create(order.clone()).await.unwrap();
    let before = get(&Orders::of(&service), &order.order_id).await.unwrap();
    service.stop().await;

    let service = keeping(&users, &path).await;
    let orders = Orders::of(&service);

    assert_eq!(
        get(&orders, &order.order_id).await.as_ref(),
        Ok(&before),
        "the order"
    );
    assert_eq!(before.items, order.items);
    assert_eq!(before.total_amount, 0.3);
    assert_eq!(before.user_name, "Иван Иванов");
    assert_eq!(orders.create(order).await.unwrap(), created);
}

#[tokio::test]
async fn two_order_services_on_one_database_create_an_order_once() {
    let users = user_service::start(user_service::Settings::default())
        .await
        .unwrap();
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("orders.db");
    let services = [keeping(&users, &path).await, keeping(&users, &path).await];

    for _ in 0..20 {
        let order = order("user-123").into_inner();
        let mut other = order.clone();
        other.user_id = "user-456".into();
        let [one, two] = [&services[0], &services[1]].map(Orders::of);
        let (a, b, c) = tokio::join!(
            one.create(order.clone()),
            two.create(order.clone()),
            two.create(other)
        );
        let answers = [a, b, c];
        let names: Vec<&str> = answers
            .iter()
            .flatten()
            .map(|answer| &*answer.user_name)
            .collect();
        let kept = get(&one, &order.order_id).await.unwrap();
        // Whoever was first, the others agree with the store.
        assert!(
            names.iter().all(|name| *name == kept.user_name),
            "{names:?}"
        );
        for status in answers.iter().filter_map(|answer| answer.as_ref().err()) {
            assert_eq!(status.code(), Code::AlreadyExists);
        }
    }
}

#[tokio::test]
async fn a_database_that_fails_is_unavailable_and_its_words_stay_in_the_log() {
    let users = user_service::start(user_service::Settings::default())
        .await
        .unwrap();
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("orders.db");
    let service = keeping(&users, &path).await;
    let url = DatabaseUrl::file(&path);
    let pool = service_kit::database::open(&url, &[]).await;
    assert!(pool.is_err(), "a schema of others is not touched");
    let url = format!("sqlite://{}", path.display());
    let pool = sqlx::AnyPool::connect(&url).await.unwrap();
    sqlx::query("DROP TABLE orders")
        .execute(&pool)
        .await
        .unwrap();

    let status = Orders::of(&service).create(order("user-123")).await;

    let status = status.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(status.message(), "the orders cannot be reached just now");
    let series = "orders_total{status=\"error\",reason=\"storage\"}";
    let scrape = common::scrape(&service).await;
    assert_eq!(common::value(&scrape, series), Some(1.0));
}

#[tokio::test]
async fn pages_hold_the_orders_of_one_user_newest_first() {
    let stack = Stack::start("off", ResilienceSettings::default()).await;
    let orders = stack.client();
    let mut placed: Vec<CreateOrderResponse> = Vec::new();
    for _ in 0..5 {
        placed.push(orders.order().await);
        orders.create(order("user-456")).await.unwrap();
    }

    let (mut listed, mut page_token, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let request = ListOrdersRequest {
            user_id: "user-123".into(),
            page_size: 2,
            page_token,
        };
        let page = orders.client().list_orders(request).await.unwrap();
        let page = page.into_inner();
        pages += 1;
        listed.extend(page.orders);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }

    assert_eq!(pages, 3);
    let mut ids: Vec<&str> = listed.iter().map(|order| &*order.order_id).collect();
    // Two of one millisecond may be in any order.
    ids.sort_unstable();
    let mut expected: Vec<&str> = placed.iter().map(|order| &*order.order_id).collect();
    expected.sort_unstable();
    assert_eq!(ids, expected);
    let times: Vec<i64> = listed
        .iter()
        .map(|order| order.created_at_unix_ms)
        .collect();
    assert!(times.is_sorted_by(|a, b| a >= b), "{times:?}");
}

#[tokio::test]
async fn what_is_looked_for_is_checked_too() {
    let nobody = "127.0.0.1:1".parse().unwrap();
    let service = orders_in_front_of(nobody, ResilienceSettings::default()).await;
    let orders = Orders::of(&service);

    assert_eq!(get(&orders, "order-0").await, Err(Code::NotFound));
    assert_eq!(get(&orders, "").await, Err(Code::InvalidArgument));
    let request = ListOrdersRequest {
        user_id: "a\0b".into(),
        page_size: 101,
        page_token: "next".into(),
    };
    let status = orders.client().list_orders(request).await.unwrap_err();
    let details = status.get_error_details();
    let named: Vec<&str> = details
        .bad_request()
        .unwrap()
        .field_violations
        .iter()
        .map(|violation| &*violation.field)
        .collect();
    assert_eq!(named, ["user_id", "page_size", "page_token"]);
}

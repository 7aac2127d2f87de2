//! The same on PostgreSQL, with two order services on one database.
//!
//! Needs a server, which `.ci/postgres` starts; without it these tests are
//! ignored, and say so.
#![allow(clippy::unwrap_used)] // allowed in tests, and so in what they share

mod common;

use std::time::Duration;

use common::{
    Orders, order,
    proxy::{Proxy, Way},
};
use futures_util::future::join_all;
use order_service::Settings;
use proto::order::{GetOrderRequest, ListOrdersRequest};
use service_kit::{
    Running,
    database::{DatabaseUrl, open},
};
use sqlx::AssertSqlSafe;
use tokio::time::{Instant, sleep};
use tonic::{Code, Request};

/// The server that tests may use: `postgres://user:password@host:port`.
fn server() -> String {
    std::env::var("POSTGRES_URL").expect("POSTGRES_URL names a server: .ci/postgres")
}

/// Does this to the server, as its owner.
async fn administer(sql: String) {
    let admin: DatabaseUrl = format!("{}/postgres", server()).parse().unwrap();
    let admin = open(&admin, &[]).await.unwrap();
    let done = sqlx::query(AssertSqlSafe(sql)).execute(&admin).await;
    done.unwrap();
}

/// A new database.
async fn database(name: &str) -> String {
    administer(format!("DROP DATABASE IF EXISTS {name}")).await;
    administer(format!("CREATE DATABASE {name}")).await;
    format!("{}/{name}", server())
}

async fn orders_on(database: &str, users: &Running) -> Running {
    order_service::start(Settings {
        user_service_url: users.grpc_addr().to_string(),
        database_url: database.parse().unwrap(),
        ..Settings::default()
    })
    .await
    .unwrap()
}

async fn users() -> Running {
    user_service::start(user_service::Settings::default())
        .await
        .unwrap()
}

#[tokio::test]
#[ignore = "needs PostgreSQL: run .ci/postgres"]
async fn an_order_is_kept_by_one_service_and_found_by_another() {
    let (database, users) = (database("kept").await, users().await);
    let (one, other) = (
        orders_on(&database, &users).await,
        orders_on(&database, &users).await,
    );
    let (one, other) = (Orders::of(&one), Orders::of(&other));
    let mut request = order("user-123").into_inner();
    request.order_id = "'; DROP TABLE orders; -- Ж\u{1f600}".to_owned();
    request.items[0].price = 0.1 + 0.2;

    let created = one.create(request.clone()).await.unwrap();

    assert_eq!(created.status, "CREATED");
    assert_eq!(other.create(request.clone()).await.unwrap(), created);
    let get = GetOrderRequest {
        order_id: request.order_id.clone(),
    };
    let found = other.client().get_order(get).await.unwrap().into_inner();
    assert_eq!(found.items, request.items);
    assert_eq!(found.user_name, "Иван Иванов");
    request.user_id = "user-456".into();
    let status = other.create(request).await.unwrap_err();
    assert_eq!(status.code(), Code::AlreadyExists);

    for _ in 0..4 {
        one.order().await;
    }
    let (mut page_token, mut pages) = (String::new(), Vec::new());
    loop {
        let request = ListOrdersRequest {
            user_id: "user-123".into(),
            page_size: 2,
            page_token,
        };
        let page = other.client().list_orders(request).await.unwrap();
        let page = page.into_inner();
        pages.push(page.orders.len());
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(pages, [2, 2, 1]);
}

#[tokio::test]
#[ignore = "needs PostgreSQL: run .ci/postgres"]
async fn of_two_services_at_once_the_key_decides_and_both_agree() {
    let (database, users) = (database("agreed").await, users().await);
    let services = [
        orders_on(&database, &users).await,
        orders_on(&database, &users).await,
    ];
    let [one, two] = [&services[0], &services[1]].map(Orders::of);
    let (mut created, mut refused) = (0, 0);

    for _ in 0..50 {
        let order = order("user-123").into_inner();
        let mut other = order.clone();
        other.user_id = "user-456".into();
        let calls = [
            one.create(order.clone()),
            two.create(order.clone()),
            two.create(other),
        ];
        let answers = join_all(calls).await;
        let get = GetOrderRequest {
            order_id: order.order_id,
        };
        let kept = one.client().get_order(get).await.unwrap().into_inner();
        for answer in answers {
            match answer {
                Ok(answer) => {
                    assert_eq!(answer.status, "CREATED");
                    assert_eq!(answer.user_name, kept.user_name);
                    created += 1;
                }
                Err(status) => {
                    assert_eq!(status.code(), Code::AlreadyExists, "{status:?}");
                    refused += 1;
                }
            }
        }
    }

    assert_eq!(created + refused, 150);
    assert!(created >= 50 && refused >= 50, "{created}, {refused}");
}

#[tokio::test]
#[ignore = "needs PostgreSQL: run .ci/postgres"]
async fn a_database_that_drops_all_connections_is_used_again_at_once() {
    let (database, users) = (database("dropped").await, users().await);
    let service = orders_on(&database, &users).await;
    let orders = Orders::of(&service);
    let created = orders.order().await;

    for _ in 0..5 {
        let all = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = ";
        administer(format!("{all}'dropped'")).await;
        assert_eq!(orders.order().await.status, "CREATED");
    }

    let ids = orders.listed("user-123").await;
    assert_eq!(ids.len(), 6);
    assert!(ids.contains(&created.order_id));
}

#[tokio::test]
#[ignore = "needs PostgreSQL: run .ci/postgres"]
async fn a_database_that_must_prove_who_it_is_is_spoken_to_in_private() {
    let ca = std::env::var("POSTGRES_CA").expect("POSTGRES_CA is the authority of the server");
    let (database, users) = (database("private").await, users().await);

    let proven = format!("{database}?sslmode=verify-full&sslrootcert={ca}");
    let service = orders_on(&proven, &users).await;
    Orders::of(&service).order().await;
    let admin = format!("{}/postgres", server()).parse().unwrap();
    let admin = open(&admin, &[]).await.unwrap();
    let in_private = "SELECT bool_and(ssl)::int FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
                      WHERE datname = 'private'";
    let in_private: i32 = sqlx::query_scalar(in_private)
        .fetch_one(&admin)
        .await
        .unwrap();
    assert_eq!(in_private, 1);

    // By an authority that nobody knows.
    let unproven = format!("{database}?sslmode=verify-full");
    let settings = Settings {
        user_service_url: users.grpc_addr().to_string(),
        database_url: unproven.parse().unwrap(),
        ..Settings::default()
    };
    let error = order_service::start(settings).await.unwrap_err();
    let error = error.to_string();
    assert!(
        error.contains("DATABASE_URL") && error.contains("certificate"),
        "{error}"
    );
    assert!(!error.contains("secret"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL: run .ci/postgres"]
async fn a_database_that_vanishes_stops_orders_for_seconds_and_not_for_minutes() {
    let (database, users) = (database("vanished").await, users().await);
    let direct = open(&database.parse().unwrap(), &[]).await.unwrap();
    let (server, name) = database.rsplit_once('/').unwrap();
    let (login, address) = server.rsplit_once('@').unwrap();
    let proxy = Proxy::start(address.parse().unwrap()).await;
    let through = format!("{login}@{}/{name}", proxy.address());
    let service = orders_on(&through, &users).await;
    let orders = Orders::of(&service);
    let known = orders.order().await.order_id;
    let one_more = || {
        let mut request = order("user-123");
        request.set_timeout(Duration::from_secs(1));
        orders.create(request)
    };

    // It happens while an order is being written, and all other connections are read on.
    let mut locks = direct.begin().await.unwrap();
    let no_writing = "LOCK TABLE orders IN SHARE MODE";
    sqlx::query(no_writing).execute(&mut *locks).await.unwrap();
    let status = one_more().await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    let no_reading = "LOCK TABLE orders IN ACCESS EXCLUSIVE MODE";
    sqlx::query(no_reading).execute(&mut *locks).await.unwrap();
    let reads = (0..32).map(|_| {
        let mut get = Request::new(GetOrderRequest {
            order_id: known.clone(),
        });
        get.set_timeout(Duration::from_secs(1));
        let mut client = orders.client();
        async move { client.get_order(get).await }
    });
    for read in join_all(reads).await {
        assert_eq!(read.unwrap_err().code(), Code::DeadlineExceeded);
    }
    proxy.set(Way::Vanished);
    let vanished = Instant::now();
    locks.rollback().await.unwrap();

    let first = loop {
        match one_more().await {
            Ok(answer) => break answer,
            Err(_) => sleep(Duration::from_millis(50)).await,
        }
        let since = vanished.elapsed();
        assert!(since < Duration::from_secs(30), "no order for {since:?}");
    };
    println!("an order again after {:?}", vanished.elapsed());
    assert_eq!(first.status, "CREATED");
    for _ in 0..50 {
        assert_eq!(one_more().await.unwrap().status, "CREATED");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL: run .ci/postgres"]
async fn twenty_kills_lose_no_order_and_make_none() {
    common::crash::survives(&database("killed").await, 20).await;
}

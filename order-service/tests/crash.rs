//! Killed at any moment and started again, an order service has every order that
//! it said it created, exactly once, and none that it refused.
#![allow(clippy::unwrap_used)] // allowed in tests, and so in what they share

mod common;

#[tokio::test(flavor = "multi_thread")]
async fn twenty_kills_lose_no_order_and_make_none() {
    let place = tempfile::tempdir().unwrap();
    let database = format!("sqlite:{}", place.path().join("orders.db").display());
    common::crash::survives(&database, 20).await;
}

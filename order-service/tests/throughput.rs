//! How many orders a second, and what storing them costs. Figures, no verdict:
//! they are those of the machine.
//!
//! `cargo test --release -p order-service --test throughput -- --ignored --nocapture`;
//! `ORDER_SERVICE=/path/to/order-service` measures another build beside it.
#![allow(clippy::unwrap_used)] // allowed in tests, and so in what they share

mod common;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use common::{Orders, order, program::Program};
use tokio::{task::JoinSet, time::Instant};

const CALLERS: [usize; 3] = [1, 16, 128];
const SPAN: Duration = Duration::from_secs(4);

/// Times of all orders that so many callers got created, each asking again as
/// soon as it is answered.
async fn times(orders: &Orders, callers: usize) -> Vec<Duration> {
    let times = Arc::new(Mutex::new(Vec::new()));
    let end = Instant::now() + SPAN;
    let mut all: JoinSet<()> = (0..callers)
        .map(|_| {
            let (orders, times) = (orders.clone(), Arc::clone(&times));
            async move {
                while Instant::now() < end {
                    let mut request = order("user-123").into_inner();
                    request.order_id = format!("{}-{}", request.order_id, std::process::id());
                    let began = Instant::now();
                    let answer = orders.create(request).await;
                    let created = answer.is_ok_and(|answer| answer.status == "CREATED");
                    if created {
                        times.lock().unwrap().push(began.elapsed());
                    }
                }
            }
        })
        .collect();
    while all.join_next().await.is_some() {}
    let mut times = std::mem::take(&mut *times.lock().unwrap());
    times.sort_unstable();
    times
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures, for half a minute"]
async fn orders_per_second() {
    let users = user_service::start(user_service::Settings::default())
        .await
        .unwrap();
    let place = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let file = format!("sqlite:{}", place.path().join("orders.db").display());
    let ours = env!("CARGO_BIN_EXE_order-service").to_owned();
    let other = std::env::var("ORDER_SERVICE").ok();
    let mut measured = vec![
        ("in memory", ours.clone(), "sqlite::memory:".to_owned()),
        ("on disk", ours, file),
    ];
    measured.extend(other.map(|program| ("other build", program, String::new())));

    println!(
        "{:12} {:>8} {:>10} {:>9} {:>9}",
        "orders", "callers", "per second", "p50 ms", "p99 ms"
    );
    for (name, program, database) in measured {
        let service = Program::start(
            &program,
            &[
                ("DATABASE_URL", &database),
                ("USER_SERVICE_URL", &users.grpc_addr().to_string()),
                ("ADMIN_PORT", "off"),
                ("RUST_LOG", "warn,service_kit=info"),
                // What is measured is not the client's limit.
                ("RESILIENCE_QUEUE_LIMIT", "1000"),
            ],
        );
        let orders = Orders::at(service.grpc);
        for callers in CALLERS {
            let times = times(&orders, callers).await;
            let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64();
            println!(
                "{name:12} {callers:>8} {:>10.0} {:>9.2} {:>9.2}",
                times.len() as f64 / SPAN.as_secs_f64(),
                at(0.5) * 1e3,
                at(0.99) * 1e3
            );
        }
    }
}

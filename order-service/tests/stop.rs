//! Stopping loses nothing that was accepted.
#![allow(clippy::unwrap_used)] // allowed in tests, and so in what they share

mod common;

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use common::{Orders, order, program::Program};
use tokio::{task::JoinSet, time::sleep};

#[tokio::test(flavor = "multi_thread")]
async fn a_polite_stop_under_load_answers_every_order_that_it_has_accepted() {
    // Slow enough that there is always something under way.
    let users = user_service::start(user_service::Settings {
        chaos: "latency=5ms..50ms".parse().unwrap(),
        ..user_service::Settings::default()
    })
    .await
    .unwrap();
    let place = tempfile::tempdir().unwrap();
    let database = format!("sqlite:{}", place.path().join("orders.db").display());
    let start = || {
        Program::start(
            env!("CARGO_BIN_EXE_order-service"),
            &[
                ("DATABASE_URL", &database),
                ("USER_SERVICE_URL", &users.grpc_addr().to_string()),
                ("ADMIN_PORT", "off"),
            ],
        )
    };
    let created = Arc::new(Mutex::new(BTreeSet::new()));

    for stop in 1..=5 {
        let service = start();
        let orders = Orders::at(service.grpc);
        let mut callers: JoinSet<()> = (0..32)
            .map(|_| {
                let (orders, created) = (orders.clone(), Arc::clone(&created));
                async move {
                    loop {
                        let request = order("user-123").into_inner();
                        match orders.create(request.clone()).await {
                            Ok(answer) => {
                                assert_eq!(answer.status, "CREATED", "{answer:?}");
                                created.lock().unwrap().insert(request.order_id);
                            }
                            Err(_) => return,
                        }
                    }
                }
            })
            .collect();
        while created.lock().unwrap().len() < stop * 100 {
            sleep(Duration::from_millis(1)).await;
        }
        service.terminate();
        while let Some(caller) = callers.join_next().await {
            caller.unwrap();
        }
        let (code, log) = tokio::task::spawn_blocking(|| service.end()).await.unwrap();
        assert_eq!(code, Some(0), "{log}");
        assert!(!log.contains("cutting off"), "{log}");
    }

    // Each that was answered is stored; and each that is stored was answered: a
    // caller whose call failed was never let in.
    let service = start();
    let stored = Orders::at(service.grpc).listed("user-123").await;
    let stored = BTreeSet::from_iter(stored);
    assert_eq!(stored, *created.lock().unwrap());
}

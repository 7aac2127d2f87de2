//! Kills an order service under load, and looks at what is left.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex},
    time::Duration,
};

use super::{Orders, order, program::Program};
use proto::order::{CreateOrderRequest, GetOrderRequest};
use tokio::task::JoinSet;
use tonic::Code;

const CALLERS: usize = 16;

/// What callers were told, by order.
#[derive(Default)]
struct Told {
    created: HashMap<String, CreateOrderRequest>,
    refused: BTreeSet<String>,
    /// Nothing: the service was killed meanwhile.
    nothing: Vec<CreateOrderRequest>,
}

/// Orders as fast as they are answered, every fifth for nobody, until the service
/// is gone.
async fn call(orders: Orders, told: Arc<Mutex<Told>>) {
    for number in 0.. {
        let user = if number % 5 == 4 {
            "user-0"
        } else {
            "user-123"
        };
        let request = order(user).into_inner();
        let answer = orders.create(request.clone()).await;
        let mut told = told.lock().unwrap();
        match answer.as_ref().map(|answer| &*answer.status) {
            Ok("CREATED") => {
                told.created.insert(request.order_id.clone(), request);
            }
            Ok(_) => {
                told.refused.insert(request.order_id);
            }
            Err(_) => {
                told.nothing.push(request);
                return;
            }
        }
    }
}

/// Kills an order service on `database` so many times, each time at another
/// moment: it has every order that it said it created, exactly once, and none
/// that it refused.
pub(crate) async fn survives(database: &str, kills: u64) {
    let users = user_service::start(user_service::Settings::default())
        .await
        .unwrap();
    let start = || {
        Program::start(
            env!("CARGO_BIN_EXE_order-service"),
            &[
                ("DATABASE_URL", database),
                ("USER_SERVICE_URL", &users.grpc_addr().to_string()),
                ("ADMIN_PORT", "off"),
            ],
        )
    };
    let (mut all, mut refused) = (HashMap::new(), BTreeSet::new());

    for kill in 0..kills {
        let service = start();
        let told = Arc::new(Mutex::new(Told::default()));
        let mut callers: JoinSet<()> = (0..CALLERS)
            .map(|_| call(Orders::at(service.grpc), Arc::clone(&told)))
            .collect();
        // Each time at another moment: as soon as there is something to lose.
        let some = 1 + kill * 7;
        while (told.lock().unwrap().created.len() as u64) < some {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        service.kill();
        while callers.join_next().await.is_some() {}
        let told = std::mem::take(&mut *told.lock().unwrap());
        assert_eq!(told.nothing.len(), CALLERS);
        refused.extend(told.refused);

        let service = start();
        let orders = Orders::at(service.grpc);
        for (order_id, request) in &told.created {
            let request_of_it = GetOrderRequest {
                order_id: order_id.clone(),
            };
            let found = orders.client().get_order(request_of_it).await;
            let found = found.unwrap_or_else(|status| panic!("{order_id} is lost: {status:?}"));
            assert_eq!(found.into_inner().items, request.items);
        }
        all.extend(told.created);
        // Whoever was told nothing asks again, and the order is there once.
        for request in told.nothing {
            let answer = orders.create(request.clone()).await.unwrap();
            if answer.status == "CREATED" {
                all.insert(request.order_id.clone(), request);
            } else {
                refused.insert(request.order_id);
            }
        }
        service.kill();
    }

    let service = start();
    let orders = Orders::at(service.grpc);
    let mut ids = orders.listed("user-123").await;
    ids.sort_unstable();
    let mut expected: Vec<String> = all.into_keys().collect();
    expected.sort_unstable();
    assert_eq!(ids, expected);
    assert_eq!(orders.listed("user-0").await, [""; 0]);
    for order_id in refused {
        let found = orders
            .client()
            .get_order(GetOrderRequest { order_id })
            .await;
        assert_eq!(found.unwrap_err().code(), Code::NotFound);
    }
}

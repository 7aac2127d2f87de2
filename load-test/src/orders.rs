//! The orders that are placed, and what an answer to one counts as.

use std::time::Duration;

use proto::order::{
    CreateOrderRequest, CreateOrderResponse, OrderItem, order_service_client::OrderServiceClient,
};
use tonic::{
    Status,
    transport::{Channel, Endpoint},
};

use crate::recording::Outcome;

/// A server takes 100 to 200 calls at once on one connection. Beyond that the wait would be
/// the generator's own, so it opens enough of them.
const CALLS_PER_CONNECTION: u32 = 100;
const CONNECTIONS_MAX: u32 = 64;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Places orders, each on the next of several connections.
///
/// No deadline is sent along: the one under test is the order service's own.
#[derive(Debug, Clone)]
pub struct Orders {
    clients: Vec<OrderServiceClient<Channel>>,
    seed: u64,
    run: u64,
}

impl Orders {
    /// Connects when the first order is placed.
    ///
    /// `run` makes the order ids of this run different from those of any other.
    /// `in_flight` is how many calls may be open at once when nothing answers any more.
    ///
    /// # Errors
    /// An address that is not a URL.
    pub fn new(
        url: &str,
        seed: u64,
        run: u64,
        in_flight: u32,
    ) -> Result<Self, tonic::transport::Error> {
        let endpoint = Endpoint::from_shared(url.to_owned())?.connect_timeout(CONNECT_TIMEOUT);
        let connections = in_flight
            .div_ceil(CALLS_PER_CONNECTION)
            .clamp(2, CONNECTIONS_MAX);
        let client = |_| OrderServiceClient::new(endpoint.connect_lazy());
        Ok(Self {
            clients: (0..connections).map(client).collect(),
            seed,
            run,
        })
    }

    /// How many connections are used.
    pub fn connections(&self) -> u64 {
        self.clients.len() as u64
    }

    /// Places the order of this number.
    pub fn place(
        &self,
        index: u64,
    ) -> impl Future<Output = Result<Outcome, Status>> + Send + use<> {
        let order = order(self.seed, self.run, index);
        let connection = index % self.connections().max(1);
        let mut client = self.clients[connection as usize].clone();
        async move {
            let order_id = order.order_id.clone();
            let answer = client.create_order(order).await?.into_inner();
            Ok(outcome(&order_id, &answer))
        }
    }
}

/// What an answer that did come counts as.
fn outcome(order_id: &str, answer: &CreateOrderResponse) -> Outcome {
    match answer.status.as_str() {
        // An answer to another order is none to this one.
        "CREATED" if answer.order_id == order_id => Outcome::Created,
        // Not any "refused": that the connection was refused is a failure.
        "ERROR" if answer.error_message.contains("refused locally") => Outcome::Refused,
        _ => Outcome::Failed,
    }
}

/// The order of this number: the same for the same seed, but for its id.
///
/// Every user in it may order. An unknown one is answered `ERROR` like a failure is, and
/// would make success impossible to tell.
fn order(seed: u64, run: u64, index: u64) -> CreateOrderRequest {
    const PRODUCTS: [(&str, f64); 4] = [
        ("tea", 4.2),
        ("kettle", 39.9),
        ("cup", 0.1),
        ("teapot", 129.0),
    ];
    let dice = mix(seed ^ mix(index));
    let user = if dice % 100 < 70 {
        "user-123"
    } else {
        "user-456"
    };
    let items = (0..=(dice >> 8) % 3).map(|nth| {
        let (product_id, price) = PRODUCTS[((dice >> 16) + nth) as usize % PRODUCTS.len()];
        OrderItem {
            product_id: product_id.to_owned(),
            quantity: 1 + ((dice >> 24) % 3) as i32,
            price,
        }
    });
    CreateOrderRequest {
        order_id: format!("load-{run:x}-{index}"),
        user_id: user.to_owned(),
        items: items.collect(),
    }
}

/// Spreads the bits of a number evenly (the finishing steps of splitmix64), so that the
/// dice of a call depend on its number alone, and not on the order in which calls are made.
fn mix(mut number: u64) -> u64 {
    number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_orders_under_other_ids() {
        let strip = |mut order: CreateOrderRequest| {
            order.order_id.clear();
            order
        };
        for index in 0..100 {
            assert_eq!(strip(order(7, 1, index)), strip(order(7, 2, index)));
        }
        assert_ne!(order(7, 1, 0).order_id, order(7, 2, 0).order_id);
        assert!((0..100).any(|index| strip(order(7, 1, index)) != strip(order(8, 1, index))));
    }

    #[test]
    fn every_order_is_well_formed_and_both_users_order() {
        let orders: Vec<_> = (0..1_000).map(|index| order(7, 1, index)).collect();
        for order in &orders {
            assert!((1..=3).contains(&order.items.len()));
            for item in &order.items {
                assert!((1..=3).contains(&item.quantity) && item.price > 0.0);
            }
        }
        let first = orders.iter().filter(|order| order.user_id == "user-123");
        assert!((650..750).contains(&first.count()));
    }

    #[test]
    fn only_an_answer_to_this_order_is_a_success() {
        let answer = |order_id: &str, status: &str, error_message: &str| CreateOrderResponse {
            order_id: order_id.to_owned(),
            status: status.to_owned(),
            error_message: error_message.to_owned(),
            ..CreateOrderResponse::default()
        };
        assert_eq!(outcome("a", &answer("a", "CREATED", "")), Outcome::Created);
        assert_eq!(outcome("a", &answer("b", "CREATED", "")), Outcome::Failed);
        assert_eq!(outcome("a", &answer("a", "", "")), Outcome::Failed);
        let failed = answer("a", "ERROR", "user validation failed: UNAVAILABLE");
        assert_eq!(outcome("a", &failed), Outcome::Failed);
        let failed = answer("a", "ERROR", "failed remotely: connection refused");
        assert_eq!(outcome("a", &failed), Outcome::Failed);
        let refused = answer(
            "a",
            "ERROR",
            "user validation failed: refused locally: open",
        );
        assert_eq!(outcome("a", &refused), Outcome::Refused);
    }
}

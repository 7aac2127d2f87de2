//! Orders at a steady rate, whatever becomes of the earlier ones (an open loop): latency counts
//! from the moment at which an order should have been sent.

use std::{net::SocketAddr, time::Duration};

use proto::order::CreateOrderResponse;
use tokio::{
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::{Instant, sleep_until, timeout_at},
};
use tonic::Code;

use crate::common::{self, Orders};

/// Orders a second. Enough for a breaker to be sure within a second or two, and little enough
/// for several trials at a time on two cores.
const RATE: u32 = 60;
/// Well above the deadline, so that a late answer is seen to be late.
const GIVE_UP: Duration = Duration::from_secs(3);
/// Who orders: two who may, one who is unknown and one who is not active. In turn, so that a
/// verdict that went to the wrong order would be seen by the name.
const USERS: [(&str, Result<&str, &str>); 6] = [
    ("user-123", Ok("Иван Иванов")),
    ("user-456", Ok("Мария Петрова")),
    ("user-nobody", Err("user not found")),
    ("user-456", Ok("Мария Петрова")),
    ("user-123", Ok("Иван Иванов")),
    ("user-789", Err("user is not active")),
];

/// One order, and what became of it.
#[derive(Debug)]
pub(crate) struct Order {
    /// When it should have been sent.
    pub(crate) at: Instant,
    /// From then to the answer.
    pub(crate) took: Duration,
    /// The user's name; or why they may not order.
    pub(crate) user: Result<&'static str, &'static str>,
    /// The answer; or the code of a call that failed.
    pub(crate) answer: Result<CreateOrderResponse, Code>,
}

/// Sends orders until it is ended.
pub(crate) struct Flow {
    stop: watch::Sender<()>,
    sending: JoinHandle<Vec<Order>>,
}

impl Flow {
    pub(crate) fn start(orders: SocketAddr) -> Self {
        let (stop, stopped) = watch::channel(());
        let sending = tokio::spawn(send(Orders::at(orders), stopped));
        Self { stop, sending }
    }

    /// Sends no more, and waits for the answers to what was sent.
    pub(crate) async fn end(self) -> Vec<Order> {
        drop(self.stop);
        self.sending.await.unwrap()
    }
}

async fn send(client: Orders, mut stopped: watch::Receiver<()>) -> Vec<Order> {
    let start = Instant::now();
    let mut sent = JoinSet::new();
    for index in 0_usize.. {
        let at = start + Duration::from_secs(1) * index as u32 / RATE;
        tokio::select! {
            () = sleep_until(at) => {}
            _ = stopped.changed() => break,
        }
        let (id, user) = USERS[index % USERS.len()];
        let client = client.clone();
        sent.spawn(async move {
            let answer = timeout_at(at + GIVE_UP, client.create(common::order(id))).await;
            Order {
                at,
                took: at.elapsed(),
                user,
                answer: match answer {
                    Ok(answer) => answer.map_err(|status| status.code()),
                    Err(_) => Err(Code::Cancelled),
                },
            }
        });
    }
    let mut orders = sent.join_all().await;
    orders.sort_by_key(|order| order.at);
    orders
}

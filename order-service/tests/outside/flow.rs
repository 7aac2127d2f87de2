//! Orders at a steady rate, whatever becomes of the earlier ones (an open loop): latency counts
//! from the moment at which an order should have been sent.
//!
//! Beside them runs a control, which does nothing but sleep and look how late it wakes. What a
//! busy machine adds to an answer is no fault of the service, and this says how much that may be.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use proto::order::CreateOrderResponse;
use tokio::{
    sync::{Mutex, watch},
    task::{JoinHandle, JoinSet},
    time::{Instant, sleep, sleep_until, timeout_at},
};
use tonic::Code;

use crate::common::{self, Orders};

/// Orders a second. Enough for a breaker to be sure within a second or two, and little enough
/// for several trials at a time on two cores.
const RATE: u32 = 60;
/// Well above the deadline, so that a late answer is seen to be late.
const GIVE_UP: Duration = Duration::from_secs(3);
/// How often the control wakes.
const CONTROL: Duration = Duration::from_millis(5);
/// How many times somebody has to wake for one answer: our sender, the service's reader, its
/// timer, its writer, our reader, whoever waits.
const WAKES: u32 = 6;

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
    /// What the machine may have added to that.
    pub(crate) machine: Duration,
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
    let naps: Arc<Mutex<Vec<Nap>>> = Arc::default();
    let control = tokio::spawn(naps_of_the_machine(Arc::clone(&naps)));
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
                machine: Duration::ZERO,
                user,
                answer: match answer {
                    Ok(answer) => answer.map_err(|status| status.code()),
                    Err(_) => Err(Code::Cancelled),
                },
            }
        });
    }
    let mut orders = sent.join_all().await;
    control.abort();
    let naps = naps.lock().await;
    for order in &mut orders {
        let end = order.at + order.took;
        let meanwhile = naps
            .iter()
            .filter(|nap| nap.until >= order.at && nap.from <= end);
        let worst = meanwhile.map(|nap| nap.late()).max();
        order.machine = worst.unwrap_or_default() * WAKES;
    }
    orders.sort_by_key(|order| order.at);
    orders
}

/// One sleep of the control.
struct Nap {
    from: Instant,
    until: Instant,
}

impl Nap {
    fn late(&self) -> Duration {
        (self.until - self.from).saturating_sub(CONTROL)
    }
}

async fn naps_of_the_machine(naps: Arc<Mutex<Vec<Nap>>>) {
    loop {
        let from = Instant::now();
        sleep(CONTROL).await;
        let until = Instant::now();
        naps.lock().await.push(Nap { from, until });
    }
}

//! One fault, from a second before it until orders should long be well again; and what must
//! hold of each.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep, sleep_until, timeout},
};

use crate::{
    common::{scrape_at, value},
    flow::{Flow, Order},
    machine::Machine,
    process::OrderService,
};

/// How long orders flow before the fault.
const BEFORE: Duration = Duration::from_millis(1500);
/// How long a fault lasts: the breaker has time to open, and to probe in vain.
const FAULT: Duration = Duration::from_secs(3);
/// How long orders are judged, once they must be well again.
const JUDGED: Duration = Duration::from_millis(1500);
/// How long after a fault that is waited for, when the machine stands still meanwhile.
const PATIENCE: Duration = Duration::from_secs(20);

/// The deadline of a call to the user service, as the program sets it.
const DEADLINE: Duration = Duration::from_secs(1);
/// What an answer may take beyond that, on a machine that is not busy.
const PAST_DEADLINE: Duration = Duration::from_millis(100);
/// How soon after a fault orders must be created as before.
const WELL_AFTER: Duration = Duration::from_secs(3);
/// Of the orders after that, at least this many in a hundred.
const WELL_PERCENT: usize = 99;

/// How often the order service's breaker is looked at, and how long a look may take.
const LOOK: Duration = Duration::from_millis(100);
const LOOK_TIMEOUT: Duration = Duration::from_secs(2);

/// What is expected of the breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Breaker {
    /// It opens, and closes again.
    Trips,
    /// It may open, as some attempts succeed; in the end it is closed.
    MayTrip,
}

/// An order service with orders coming in.
pub(crate) struct Trial {
    name: &'static str,
    service: OrderService,
    machine: Machine,
    flow: Flow,
    looks: Looks,
    fault: Instant,
}

impl Trial {
    /// Starts both, and lets orders flow for a while.
    pub(crate) async fn begin(name: &'static str, users: SocketAddr) -> Self {
        let service = OrderService::start(users);
        let machine = Machine::watch();
        let flow = Flow::start(service.grpc());
        let looks = Looks::start(service.metrics());
        sleep(BEFORE).await;
        Self {
            name,
            service,
            machine,
            flow,
            looks,
            fault: Instant::now(),
        }
    }

    /// The fault begins now.
    pub(crate) fn fault_begins(&mut self) {
        self.fault = Instant::now();
    }

    pub(crate) async fn fault_lasts(&self) {
        sleep(FAULT).await;
    }

    /// The fault is over: waits until orders must be well again, and for some more.
    pub(crate) async fn end(mut self) -> Seen {
        let end = Instant::now();
        let well = loop {
            let well = self.must_be_well_after(end);
            let judged = (well + JUDGED).min(end + PATIENCE);
            if Instant::now() >= judged {
                break well;
            }
            sleep_until(judged).await;
        };
        Seen {
            name: self.name,
            fault: self.fault,
            end,
            well,
            orders: self.flow.end().await,
            looks: self.looks.end().await,
            machine: self.machine,
            runs: self.service.runs(),
        }
    }

    /// When orders must be well again. A machine that stands still is a fault too, and there is
    /// as much time to recover from it.
    fn must_be_well_after(&self, end: Instant) -> Instant {
        self.machine
            .last_stall()
            .map_or(end, |stall| stall.max(end))
            + WELL_AFTER
    }
}

/// What was seen of a trial.
pub(crate) struct Seen {
    name: &'static str,
    fault: Instant,
    end: Instant,
    well: Instant,
    orders: Vec<Order>,
    looks: Vec<Look>,
    machine: Machine,
    runs: bool,
}

impl Seen {
    /// What must hold of every fault.
    pub(crate) fn judge(&self, breaker: Breaker) {
        println!("{}", self.line());
        assert!(self.runs, "the order service has ended");
        self.orders_were_validated();
        self.answers_were_in_time();
        self.breaker_opened(breaker);
        match self.orders.iter().any(|order| order.at >= self.well) {
            true => self.all_is_well_again(),
            false => println!(
                "{}: not judged, this machine stood still again and again",
                self.name
            ),
        }
    }

    /// Both sides: nobody who may not order has an order, and nobody who may is told that they
    /// may not.
    fn orders_were_validated(&self) {
        let mut created = 0;
        for Order { user, answer, .. } in &self.orders {
            let Ok(answer) = answer else { continue };
            let told = answer.error_message.as_str();
            match (answer.status.as_str(), user) {
                ("CREATED", Ok(name)) => {
                    assert_eq!(answer.user_name, *name, "{answer:?}");
                    created += 1;
                }
                ("CREATED", Err(why)) => panic!("created, although {why}: {answer:?}"),
                (_, Ok(_)) => assert!(told.starts_with("user validation failed: "), "{answer:?}"),
                (_, Err(why)) => {
                    let honest = told == *why || told.starts_with("user validation failed: ");
                    assert!(honest, "{answer:?}");
                }
            }
        }
        assert!(created > 0, "no order was created");
    }

    fn answers_were_in_time(&self) {
        for order in &self.orders {
            let machine = self.machine_in(order);
            let latest = DEADLINE + PAST_DEADLINE + machine;
            assert!(
                order.took <= latest,
                "later than {latest:?} ({machine:?} of it for the machine): {order:?}"
            );
        }
    }

    fn breaker_opened(&self, expected: Breaker) {
        let [first, .., last] = self.looks.as_slice() else {
            panic!("its metrics were not to be had");
        };
        if expected == Breaker::Trips {
            assert!(last.trips > first.trips, "the breaker never opened");
        }
    }

    fn all_is_well_again(&self) {
        let judged = self.orders.iter().filter(|order| order.at >= self.well);
        let (well, unwell): (Vec<_>, Vec<_>) = judged.partition(|order| is_well(order));
        let total = well.len() + unwell.len();
        assert!(
            unwell.len() * 100 <= total * (100 - WELL_PERCENT),
            "{} of {total}: {unwell:?}",
            unwell.len()
        );
        assert!(
            self.looks.last().is_some_and(|look| look.closed),
            "the breaker has not closed again"
        );
    }

    /// What the machine may have added to an answer.
    fn machine_in(&self, order: &Order) -> Duration {
        self.machine.added(order.at, order.at + order.took)
    }

    /// For people: the figures of the trial.
    fn line(&self) -> String {
        let slowest = self.orders.iter().max_by_key(|order| order.took);
        let (slowest, machine) = slowest
            .map(|order| (order.took, self.machine_in(order)))
            .unwrap_or_default();
        let opened = self
            .looks
            .iter()
            .find(|look| look.at >= self.fault && !look.closed);
        let closed = self.looks.iter().rev().find(|look| !look.closed);
        let unwell = self.orders.iter().rev().find(|order| !is_well(order));
        let since = |from: Instant, at: Option<Instant>| match at {
            Some(at) => format!("{:.1} s", at.saturating_duration_since(from).as_secs_f64()),
            None => "never".to_owned(),
        };
        format!(
            "{:<24} {} orders, slowest {:.0} ms ({:.1} ms allowed for the machine), \
             breaker open after {}, closed {} after the end, last failure {} after the end",
            self.name,
            self.orders.len(),
            slowest.as_secs_f64() * 1e3,
            machine.as_secs_f64() * 1e3,
            since(self.fault, opened.map(|look| look.at)),
            since(self.end, closed.map(|look| look.at)),
            since(self.end, unwell.map(|order| order.at)),
        )
    }
}

/// Whether an order was answered as if nothing were wrong.
fn is_well(order: &Order) -> bool {
    let answer = order.answer.as_ref();
    match order.user {
        Ok(_) => answer.is_ok_and(|answer| answer.status == "CREATED"),
        Err(why) => answer.is_ok_and(|answer| answer.error_message == why),
    }
}

/// The breaker at one moment, by the order service's metrics.
#[derive(Debug, Clone, Copy)]
struct Look {
    at: Instant,
    closed: bool,
    trips: f64,
}

/// Looks at the breaker until it is ended.
struct Looks {
    stop: watch::Sender<()>,
    looking: JoinHandle<Vec<Look>>,
}

impl Looks {
    fn start(metrics: SocketAddr) -> Self {
        let (stop, mut stopped) = watch::channel(());
        let looking = tokio::spawn(async move {
            let mut looks = Vec::new();
            loop {
                let page = timeout(LOOK_TIMEOUT, scrape_at(metrics)).await;
                looks.push(Look::of(&page.unwrap(), Instant::now()));
                if timeout(LOOK, stopped.changed()).await.is_ok() {
                    return looks;
                }
            }
        });
        Self { stop, looking }
    }

    /// Looks once more at most.
    async fn end(self) -> Vec<Look> {
        drop(self.stop);
        self.looking.await.unwrap()
    }
}

impl Look {
    fn of(page: &str, at: Instant) -> Self {
        let closed = r#"resilience_circuit_breaker_state{upstream="user-service",state="closed"}"#;
        let trips = page.lines().filter(|line| {
            line.starts_with("resilience_circuit_breaker_transitions_total{")
                && line.contains(r#"from="closed""#)
                && line.contains(r#"to="open""#)
        });
        let values = trips.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok());
        Self {
            at,
            closed: value(page, closed).unwrap() == 1.0,
            trips: values.sum(),
        }
    }
}

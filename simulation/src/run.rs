//! One run: clients, a server and a script, in virtual time.

use std::{sync::Arc, time::Duration};

use tokio::{
    runtime::Builder,
    time::{Instant, sleep_until},
};
use tracing::{Instrument as _, debug_span};

use crate::{
    client::Client,
    dice::{Dice, Purpose},
    policies::Policy,
    recording::{Ending, Recorder, Recording, SLICE},
    script::Script,
    server::Server,
    upstream::Upstream,
};

/// The longest that a call may be under way after the last one has begun.
const LINGER: Duration = Duration::from_secs(3);

/// Runs `script` with clients that follow `policy`.
///
/// The same three make the same run, to the last bit: the runtime has one thread and a clock of
/// its own, and all chance comes from `seed`.
#[must_use]
pub fn run(script: &Script, policy: &Policy, seed: u64) -> Recording {
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without I/O asks the system for nothing");
    runtime.block_on(play(script, policy, seed))
}

async fn play(script: &Script, policy: &Policy, seed: u64) -> Recording {
    let began = Instant::now();
    tracing::debug!("the run begins");
    let server = Server::new(script.server.clone(), Dice::new(seed, Purpose::Server, 0));
    let upstream = Upstream::new(server, began);
    let driver = tokio::spawn(upstream.clone().drive(script.steps.clone()));

    let recorder = Recorder::default();
    let seen = upstream.recorded(&recorder);
    let traffic = script.traffic;
    let clients: Vec<Arc<Client>> = (0..traffic.clients)
        .map(|index| Arc::new(policy.client(index, seed, &seen)))
        .collect();
    for (index, client) in clients.iter().enumerate() {
        let arrivals = Arrivals::new(seed, index, traffic.rate / traffic.clients as f64);
        let caller = Arc::clone(client);
        let recorder = Some(recorder.clone());
        tokio::spawn(calls(
            caller,
            index,
            arrivals,
            began,
            script.length,
            recorder,
        ));
    }
    if let Some((other, crowd)) = &script.others {
        for index in traffic.clients..traffic.clients + crowd.clients {
            let arrivals = Arrivals::new(seed, index, crowd.rate / crowd.clients as f64);
            let caller = Arc::new(other.client(index, seed, &upstream));
            tokio::spawn(calls(caller, index, arrivals, began, script.length, None));
        }
    }

    let mut at = Duration::ZERO;
    while at < script.length {
        // Just before the slice ends.
        sleep_until(began + at + SLICE - Duration::from_millis(1)).await;
        let open = clients.iter().filter(|client| client.is_open()).count();
        recorder.stands(at, upstream.load(), open);
        at += SLICE;
    }
    sleep_until(began + script.length + LINGER).await;
    driver.abort();
    recorder.take()
}

/// Makes the calls of one client.
async fn calls(
    client: Arc<Client>,
    index: usize,
    mut arrivals: Arrivals,
    began: Instant,
    length: Duration,
    recorder: Option<Recorder>,
) {
    let mut number = 0_u64;
    loop {
        let at = arrivals.next();
        if at >= length {
            return;
        }
        sleep_until(began + at).await;
        number += 1;
        let span = debug_span!("simulated", client = index, call = number);
        let call = one_call(Arc::clone(&client), began, recorder.clone());
        tokio::spawn(call.instrument(span));
    }
}

async fn one_call(client: Arc<Client>, run_began: Instant, recorder: Option<Recorder>) {
    let began = run_began.elapsed();
    if let Some(recorder) = &recorder {
        recorder.call(began);
    }
    tracing::debug!("called");
    let result = client.call().await;
    let took = run_began.elapsed() - began;
    let ending = match &result {
        Ok(()) => Ending::Ok,
        Err(status) if Client::refused(status) => Ending::Refused,
        Err(_) => Ending::Failed,
    };
    match &result {
        Ok(()) => tracing::debug!(?took, "over: OK"),
        Err(status) => {
            tracing::debug!(?took, code = ?status.code(), text = status.message(), "over")
        }
    }
    if let Some(recorder) = &recorder {
        recorder.ended(began, took, ending);
    }
}

/// When a client calls: independently of everything, at a rate.
#[derive(Debug)]
struct Arrivals {
    dice: Dice,
    mean: Duration,
    at: Duration,
}

impl Arrivals {
    fn new(seed: u64, client: usize, rate: f64) -> Self {
        Self {
            dice: Dice::new(seed, Purpose::Arrivals, client),
            mean: Duration::from_secs_f64(1.0 / rate),
            at: Duration::ZERO,
        }
    }

    fn next(&mut self) -> Duration {
        self.at += self.dice.exponential(self.mean);
        self.at
    }
}

//! Does to a call what its fate says, and lets the faults be changed meanwhile.
//!
//! The order of events of a call: it waits for a slot (in a queue that is
//! bounded in length and time), hangs, is delayed, fails. It holds its slot
//! through all of that and through its answer.
//!
//! A call whose turn comes too late, because its caller will have gone before
//! its delay is over and the answer is home, is refused instead of served: a slot
//! spent on it would be lost to the next in the queue. That is what a good server does when it is
//! overloaded, and why deadlines are worth sending; one that works through a
//! queue of the dead answers nobody.
//!
//! A change of faults, even to the same ones, begins anew: calls are counted
//! from 0 again, and every call that waits because of the old faults is released
//! and goes on to its answer, as after a network that healed. A call also stops
//! waiting when its caller goes away: its future is dropped, and gives back what
//! it held.

use std::{
    fmt,
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use service_kit::Deadline;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::{Instant, sleep, timeout},
};
use tonic::Status;
use tracing::info;

use super::faults::{Capacity, Chaos};
use crate::metrics::{InForce, Injected};

/// How long a call may wait for a slot. Longer than any caller with a deadline
/// waits; a bound for the others.
const QUEUE_WAIT_MAX: Duration = Duration::from_secs(10);

/// The faults in force, shared by all who inject and change them.
#[derive(Clone)]
pub(crate) struct ChaosSwitch(Arc<Shared>);

struct Shared {
    regime: watch::Sender<Arc<Regime>>,
    shown: InForce,
}

/// One setting of faults, from when it was set until the next.
struct Regime {
    chaos: Chaos,
    /// Calls so far.
    calls: AtomicU64,
    capacity: Option<Slots>,
}

impl ChaosSwitch {
    /// Begins with these faults.
    pub(crate) fn new(chaos: Chaos) -> Self {
        if !chaos.is_off() {
            info!(%chaos, "injecting faults");
        }
        let shown = InForce::new();
        shown.show(&chaos);
        let regime = watch::Sender::new(Arc::new(Regime::new(chaos)));
        Self(Arc::new(Shared { regime, shown }))
    }

    /// The faults in force.
    pub(crate) fn in_force(&self) -> Chaos {
        self.0.regime.borrow().chaos.clone()
    }

    /// Puts other faults in force, or the same ones from the beginning.
    pub(crate) fn set(&self, chaos: Chaos) {
        info!(%chaos, "faults changed");
        // Shown and put in force in one step, so that of two who change them at
        // once the last one is also the one that is shown.
        self.0.regime.send_modify(|regime| {
            self.0.shown.show(&chaos);
            *regime = Arc::new(Regime::new(chaos));
        });
    }

    /// Injects into calls of `method`.
    pub(crate) fn injector(&self, method: &'static str) -> Injector {
        Injector {
            switch: self.clone(),
            injected: Injected::new(method),
        }
    }
}

impl fmt::Debug for ChaosSwitch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ChaosSwitch")
            .field(&self.in_force())
            .finish()
    }
}

/// Injects faults into the calls of one method.
#[derive(Debug)]
pub(crate) struct Injector {
    switch: ChaosSwitch,
    injected: Injected,
}

/// A place in the service, held until the call is answered.
#[must_use = "dropped, the slot is free again"]
#[derive(Debug, Default)]
pub(crate) struct Slot {
    _held: Option<(OwnedSemaphorePermit, OwnedSemaphorePermit)>,
}

impl Injector {
    /// Does to a call what its fate says.
    ///
    /// # Errors
    /// The status to fail the call with.
    pub(crate) async fn inject(&self, caller: Option<Deadline>) -> Result<Slot, Status> {
        let mut switch = self.switch.0.regime.subscribe();
        let regime = Arc::clone(&switch.borrow_and_update());
        if regime.chaos.is_off() {
            return Ok(Slot::default());
        }
        tokio::select! {
            biased;
            injected = self.suffer(&regime, caller) => injected,
            _ = switch.changed() => Ok(Slot::default()),
        }
    }

    async fn suffer(&self, regime: &Regime, caller: Option<Deadline>) -> Result<Slot, Status> {
        let fate = regime.chaos.fate(regime.calls.fetch_add(1, Relaxed));
        let slot = match &regime.capacity {
            None => Slot::default(),
            Some(slots) => slots
                .take()
                .await
                .and_then(|slot| in_time(slot, fate.latency, caller))
                .inspect_err(|_| self.injected.capacity.increment(1))?,
        };
        if fate.hang {
            self.injected.hang.increment(1);
            pending::<()>().await;
        }
        if let Some(latency) = fate.latency {
            self.injected.latency.increment(1);
            sleep(latency).await;
        }
        match fate.error {
            None => Ok(slot),
            Some(code) => {
                self.injected.error.increment(1);
                Err(Status::new(code, "injected fault"))
            }
        }
    }
}

/// The slot, if the caller will still be there after `latency` and the answer's
/// way home. When a queue is full, the turn of most calls comes at the last
/// moment: without the margin, each of them is served and few are answered.
fn in_time(
    slot: Slot,
    latency: Option<Duration>,
    caller: Option<Deadline>,
) -> Result<Slot, Status> {
    let left = caller.map(|deadline| deadline.remaining(Instant::now()));
    match (left, latency) {
        (Some(left), Some(latency)) if left <= latency + Deadline::MARGIN => Err(
            Status::resource_exhausted("at capacity, and too late for the caller"),
        ),
        _ => Ok(slot),
    }
}

impl Regime {
    fn new(chaos: Chaos) -> Self {
        Self {
            calls: AtomicU64::new(0),
            capacity: chaos.capacity.map(Slots::new),
            chaos,
        }
    }
}

/// The slots of a service that serves only so many calls at once.
struct Slots {
    /// Places to be in at all: the slots and the queue.
    places: Arc<Semaphore>,
    slots: Arc<Semaphore>,
}

impl Slots {
    fn new(Capacity { slots, queue }: Capacity) -> Self {
        let semaphore = |permits: usize| Semaphore::new(permits.min(Semaphore::MAX_PERMITS));
        Self {
            places: Arc::new(semaphore(slots.saturating_add(queue))),
            slots: Arc::new(semaphore(slots)),
        }
    }

    async fn take(&self) -> Result<Slot, Status> {
        let place = Arc::clone(&self.places)
            .try_acquire_owned()
            .map_err(|_| Status::resource_exhausted("at capacity, and the queue is full"))?;
        let slot = timeout(QUEUE_WAIT_MAX, Arc::clone(&self.slots).acquire_owned())
            .await
            .map_err(|_| Status::resource_exhausted("at capacity for too long"))?
            .expect("nobody closes this semaphore");
        Ok(Slot {
            _held: Some((slot, place)),
        })
    }
}

#[cfg(test)]
mod tests {
    use metrics_exporter_prometheus::PrometheusBuilder;
    use tokio::try_join;
    use tonic::Code;

    use super::*;

    fn with(text: &str) -> (ChaosSwitch, Injector) {
        let switch = ChaosSwitch::new(text.parse().unwrap());
        let injector = switch.injector("a.S/M");
        (switch, injector)
    }

    /// Which of the next calls fail.
    async fn luck(injector: &Injector) -> Vec<bool> {
        let mut failed = Vec::new();
        for _ in 0..64 {
            failed.push(injector.inject(None).await.is_err());
        }
        failed
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_happens_while_chaos_is_off() {
        let (_, injector) = with("off");
        let started = Instant::now();
        assert!(luck(&injector).await.iter().all(|failed| !failed));
        assert_eq!(started.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn the_same_faults_set_again_begin_anew() {
        let (switch, injector) = with("flaky");
        let first = luck(&injector).await;
        let second = luck(&injector).await;
        switch.set("error=0.3".parse().unwrap());

        assert_eq!(luck(&injector).await, first);
        assert_ne!(first, second);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_hangs_until_the_faults_change_and_then_goes_on() {
        let (switch, injector) = with("hang");
        let change = async {
            sleep(Duration::from_secs(3600)).await;
            switch.set(Chaos::default());
            Ok(())
        };
        let started = Instant::now();

        let (slot, ()) = try_join!(injector.inject(None), change).unwrap();

        assert_eq!(started.elapsed(), Duration::from_secs(3600));
        drop(slot);
        assert!(injector.inject(None).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_delay_is_held_inside_the_slot() {
        let (_, injector) = with("capacity=2,latency=50ms");
        let started = Instant::now();
        let call = async || injector.inject(None).await.map(drop);

        try_join!(call(), call(), call(), call(), call()).unwrap();

        assert_eq!(started.elapsed().as_millis(), 150);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_too_many_is_refused_at_once() {
        let (_, injector) = with("capacity=1,queue=1");
        let held = injector.inject(None).await.unwrap();
        let queued = async { injector.inject(None).await.map(drop) };
        let refused = async {
            let started = Instant::now();
            let status = injector.inject(None).await.unwrap_err();
            assert_eq!(status.code(), Code::ResourceExhausted);
            assert_eq!(started.elapsed(), Duration::ZERO);
            drop(held);
            Ok(())
        };

        try_join!(queued, refused).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_whose_turn_comes_too_late_makes_room_for_the_next() {
        let (_, injector) = with("capacity=1,latency=50ms");
        let started = Instant::now();
        let call = async |left| {
            let deadline = Deadline(started + Duration::from_millis(left));
            let result = injector.inject(Some(deadline)).await;
            (
                result.map(drop).map_err(|status| status.code()),
                started.elapsed().as_millis(),
            )
        };

        let (served, late, next) = tokio::join!(call(70), call(90), call(120));

        assert_eq!(served, (Ok(()), 50));
        assert_eq!(
            late,
            (Err(Code::ResourceExhausted), 50),
            "its turn, with 40 ms left"
        );
        assert_eq!(next, (Ok(()), 100), "loses nothing by it");
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_does_not_queue_for_ever() {
        let (_, injector) = with("capacity=1");
        let _held = injector.inject(None).await.unwrap();
        let started = Instant::now();

        let status = injector.inject(None).await.unwrap_err();

        assert_eq!(status.code(), Code::ResourceExhausted);
        assert_eq!(started.elapsed(), QUEUE_WAIT_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn a_hung_call_whose_caller_goes_away_gives_its_slot_back() {
        let (_, injector) = with("capacity=1,queue=0,hang=1");
        for _ in 0..3 {
            timeout(Duration::from_secs(1), injector.inject(None))
                .await
                .unwrap_err();
        }
    }

    #[test]
    fn every_fault_is_counted_by_its_kind() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build();
        metrics::with_local_recorder(&recorder, || {
            runtime.unwrap().block_on(async {
                let (switch, injector) = with("error=1:INTERNAL,latency=1ms");
                assert_eq!(
                    injector.inject(None).await.unwrap_err().code(),
                    Code::Internal
                );
                switch.set("hang=1,capacity=1,queue=0".parse().unwrap());
                let hung = timeout(Duration::from_secs(1), injector.inject(None));
                let refused = async {
                    injector.inject(None).await.unwrap_err();
                };
                tokio::join!(hung, refused).0.unwrap_err();
            });
        });
        let text = recorder.handle().render();

        for kind in ["error", "latency", "hang", "capacity"] {
            let line = format!("chaos_injected_total{{kind=\"{kind}\",method=\"a.S/M\"}} 1\n");
            assert!(text.contains(&line), "{kind}: {text}");
        }
    }
}

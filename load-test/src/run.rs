//! Walks the phases while orders keep coming, and records what happens.
//!
//! Five things go on at once and know nothing of each other: the generator starts calls, the
//! scraper reads the order service's figures, a control takes naps, the walk brings about one
//! phase after the other, and the screen is told ten times a second how things stand.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::{
    task::JoinHandle,
    time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout},
};

use crate::{
    generator::{Generator, Limits, Schedule},
    interrupt::Interrupt,
    metrics::Meter,
    orders::Orders,
    phases::{BROWNOUT_LATENCY, Kind, Phase},
    recorder::Recorder,
    recording::{Client, Ending, Nap, Outcome, Recording, Span},
    scrape::{self, Sample, Scraper},
    screen::{Live, Screen},
    settings::Plan,
    stage::Stage,
};

/// How long the services have to answer their first orders.
const WARM_UP: Duration = Duration::from_secs(10);
/// Orders that warm up are numbered from here: no run gets this far.
const WARM_UP_FROM: u64 = 1 << 40;
/// How often the screen is told.
const TICK: Duration = Duration::from_millis(100);

/// Why no load was put on anything, in a line.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct WarmUpError(String);

/// Walks the planned phases once.
///
/// # Errors
/// When no order can be created before the first phase. What goes wrong later is part of the
/// recording.
///
/// # Cancellation
/// Not meant to be dropped: [`Interrupt`] ends it with a recording of what there was.
pub async fn run(
    plan: &Plan,
    meter: &Meter,
    client: Client,
    stage: &mut Stage,
    screen: &mut Screen,
    interrupt: &mut Interrupt,
) -> Result<Recording, WarmUpError> {
    let planned: Vec<Phase> = plan.phases.iter().collect();
    let limits = Limits::default();
    let orders = orders(plan, stage, limits).map_err(WarmUpError)?;
    let clean = Kind::Steady.means(plan.seed);
    stage.bring_about(&clean).await.map_err(WarmUpError)?;
    tokio::select! {
        warm = warm_up(&orders) => {
            warm.map_err(|why| WarmUpError(format!("{}: {why}", stage.orders)))?;
        }
        () = interrupt.asked() => {}
    }

    let schedule = Schedule {
        start: Instant::now(),
        rate: plan.rate,
    };
    let recorder = Arc::new(Recorder::new(
        schedule.start,
        meter.clone(),
        stage.terms.latest(),
    ));
    let scraping = Scraping::begin(&stage.scraper, &recorder).await;
    let generator = Generator::new(schedule, limits, Arc::clone(&recorder));
    let generating = spawn_calls(&generator, orders);
    let control = tokio::spawn(take_naps(Arc::clone(&recorder)));

    let mut walk = Walk {
        seed: plan.seed,
        meter,
        recorder: &recorder,
        stage,
        screen,
        spans: Vec::new(),
    };
    let ending = walk.all(&planned, interrupt).await;
    meter.phase(None);
    let spans = walk.spans;
    generating.abort();
    control.abort();

    // Lets go of calls that hang. A user service that cannot be reached any more is left as
    // it is: the recording matters more.
    let _ = stage.bring_about(&clean).await;
    generator.drain().await;
    let has_figures = scraping.end(&recorder).await;
    let (calls, samples) = recorder.take();
    Ok(Recording {
        client,
        planned,
        spans,
        calls,
        samples: has_figures.map(|()| samples),
        naps: recorder.take_naps(),
        ending,
    })
}

/// Sleeps again and again for as long as an answer takes in a brown-out, and writes down how
/// long that really took here.
async fn take_naps(recorder: Arc<Recorder>) {
    loop {
        let begun = Instant::now();
        sleep(BROWNOUT_LATENCY).await;
        recorder.nap(Nap {
            at: recorder.at(begun),
            took: begun.elapsed(),
        });
    }
}

fn orders(plan: &Plan, stage: &Stage, limits: Limits) -> Result<Orders, String> {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
    let run = since_epoch.unwrap_or_default().as_millis() as u64;
    let in_flight = (f64::from(plan.rate) * limits.give_up.as_secs_f64()) as u32;
    Orders::new(&stage.orders, plan.seed, run, in_flight)
        .map_err(|error| format!("{}: {error}", stage.orders))
}

/// Creates an order or two on each connection, so that the first phase does not pay for
/// what happens only once.
async fn warm_up(orders: &Orders) -> Result<(), String> {
    let until = Instant::now() + WARM_UP;
    let (mut index, mut created) = (WARM_UP_FROM, 0);
    while created < 2 * orders.connections() {
        let why = match timeout(Duration::from_secs(1), orders.place(index)).await {
            Ok(Ok(Outcome::Created)) => {
                created += 1;
                index += 1;
                continue;
            }
            Ok(Ok(_)) => "the answers are ERROR".to_owned(),
            Ok(Err(status)) => format!("{:?}: {}", status.code(), status.message()),
            Err(_) => "no answer within 1s".to_owned(),
        };
        if Instant::now() > until {
            let seconds = WARM_UP.as_secs();
            return Err(format!("no order could be created for {seconds} s: {why}"));
        }
        index += 1;
        sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

fn spawn_calls(generator: &Generator, orders: Orders) -> JoinHandle<()> {
    let generator = generator.clone();
    tokio::spawn(async move {
        let call = |index| {
            let answer = orders.place(index);
            async move { answer.await.unwrap_or(Outcome::Error) }
        };
        generator.start_calls(call).await;
    })
}

/// Reads the order service's figures in the background.
struct Scraping {
    scraper: Result<Scraper, String>,
    task: Option<JoinHandle<()>>,
}

impl Scraping {
    async fn begin(scraper: &Result<Scraper, String>, recorder: &Arc<Recorder>) -> Self {
        let mut scraper = scraper.clone();
        // The first page decides whether there are figures at all.
        if let Ok(first) = &scraper
            && let Err(why) = scrape_once(first, recorder).await
        {
            scraper = Err(why);
        }
        let task = scraper.clone().ok().map(|scraper| {
            let recorder = Arc::clone(recorder);
            tokio::spawn(async move {
                let mut ticks = interval(scrape::EVERY);
                ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
                loop {
                    ticks.tick().await;
                    // A page that is missed leaves a gap, and the next one comes soon.
                    let _ = scrape_once(&scraper, &recorder).await;
                }
            })
        });
        Self { scraper, task }
    }

    async fn end(self, recorder: &Recorder) -> Result<(), String> {
        if let Some(task) = self.task {
            task.abort();
        }
        let _ = scrape_once(&self.scraper?, recorder).await;
        Ok(())
    }
}

async fn scrape_once(scraper: &Scraper, recorder: &Recorder) -> Result<(), String> {
    let page = scraper.page().await?;
    let sample = Sample::read(&page, recorder.at(Instant::now()));
    recorder.sample(sample.ok_or("the metrics have no figures about calls to the user service")?);
    Ok(())
}

/// Brings about one phase after the other.
struct Walk<'a> {
    seed: u64,
    meter: &'a Meter,
    recorder: &'a Recorder,
    stage: &'a mut Stage,
    screen: &'a mut Screen,
    spans: Vec<Span>,
}

impl Walk<'_> {
    async fn all(&mut self, planned: &[Phase], interrupt: &mut Interrupt) -> Ending {
        for phase in planned {
            let start = Instant::now();
            self.meter.phase(Some(phase.kind));
            let changed = self.stage.bring_about(&phase.kind.means(self.seed)).await;
            let complete = changed.is_ok()
                && tokio::select! {
                    () = self.watch(phase, start) => true,
                    () = interrupt.asked() => false,
                };
            let span = Span {
                kind: phase.kind,
                start: self.recorder.at(start),
                end: self.recorder.at(Instant::now()),
                complete,
            };
            self.spans.push(span);
            self.screen.phase_ended(&span, self.recorder);
            match changed {
                Err(why) => return Ending::Broken(why),
                Ok(()) if !complete => return Ending::Interrupted,
                Ok(()) => {}
            }
        }
        Ending::Complete
    }

    /// Tells the screen how things stand until the phase is over.
    async fn watch(&mut self, phase: &Phase, start: Instant) {
        let end = sleep_until(start + phase.length);
        tokio::pin!(end);
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                biased;
                () = &mut end => return,
                _ = ticks.tick() => {
                    let now = self.recorder.at(Instant::now());
                    self.screen.tick(&Live {
                        phase: *phase,
                        elapsed: start.elapsed(),
                        now,
                        recent: self.recorder.recent(now),
                        breaker: self.recorder.latest_sample().and_then(|sample| sample.breaker),
                    });
                }
            }
        }
    }
}

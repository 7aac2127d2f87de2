//! Real calls, to a tonic server in another process on this machine.
//!
//! One client process with a runtime of one thread, and a server with one of
//! its own. Every variant has a channel of its own to it, of the same kind. In
//! each round each variant has its turn, at each concurrency, and is compared
//! with the bare channel of the same round.

mod cores;
mod server;

use std::{future::Future, io, pin::Pin, time::Duration};

use tokio::{
    runtime::{Builder, Runtime},
    time::{Instant, sleep},
};
use tower_layer::Layer as _;

pub(crate) use server::serve;

use self::{
    cores::{Allowed, Cores},
    server::Process,
};
use crate::{
    ours,
    peers::{
        tower, tower_resilience,
        typed::{Typed, TypedCaller},
    },
    room,
    stats::{self, Samples, thread_cpu, waited_for_cpu},
    work::{Bounded, Caller, Client},
};

/// Calls in flight at once, and where the two processes run meanwhile.
///
/// One call at a time is nearly all waking up when the other process is on
/// another core: 130 µs that vary by 10 µs. On one core it is all work.
const LEVELS: [(usize, Cores); 3] = [(1, Cores::One), (16, Cores::Two), (128, Cores::Two)];
/// Room in every limit: what is measured is not the wait for a slot.
const SLOTS: usize = 256;
/// How long a variant has its turn.
const SLICE: Duration = Duration::from_millis(40);

/// What a turn was like.
#[derive(Clone, Copy)]
struct Turn {
    p50: f64,
    p99: f64,
    per_second: f64,
    /// Microseconds of the client's CPU, per call.
    cpu: f64,
    /// The share of the time that client and server wanted a CPU and had none.
    waited: f64,
}

type Tasks = Box<dyn Fn() -> Pin<Box<dyn Future<Output = Vec<u32>>>>>;

struct Variant {
    title: &'static str,
    /// Makes one task, which calls until the end of the turn.
    task: Tasks,
    /// Whether a timer that has nothing to do with it is pending meanwhile.
    timer: bool,
    turns: [Vec<Turn>; LEVELS.len()],
}

fn variant<C: Caller + Clone + 'static>(title: &'static str, caller: C) -> Variant {
    Variant {
        title,
        task: Box::new(move || {
            let mut caller = caller.clone();
            Box::pin(async move {
                /// More than any task manages in a turn, and a bound.
                const MOST: usize = 100_000;
                let mut nanos = Vec::with_capacity(4096);
                let started = Instant::now();
                let mut last = started;
                while last - started < SLICE && nanos.len() < MOST {
                    assert!(caller.call().await, "the server answers every call");
                    let now = Instant::now();
                    nanos.push(u32::try_from((now - last).as_nanos()).unwrap_or(u32::MAX));
                    last = now;
                }
                nanos
            })
        }),
        timer: false,
        turns: Default::default(),
    }
}

fn variants(server: &Process) -> Vec<Variant> {
    let channel = || server.channel();
    let bare = || Client::new(channel());
    vec![
        variant("*bare channel*", bare()),
        Variant {
            timer: true,
            ..variant("bare channel, and a timer of somebody else's", bare())
        },
        variant(
            "bare channel, and a deadline with every call",
            Bounded(bare()),
        ),
        variant(
            "**resilience: the whole stack**",
            Client::new(ours::roomy(SLOTS).layer(channel())),
        ),
        variant(
            "tower: timeout, retry with a budget, concurrency limit",
            TypedCaller(tower::stack(Typed::new(channel()), SLOTS)),
        ),
        variant(
            tower_resilience::TITLE,
            TypedCaller(tower_resilience::stack(Typed::new(channel()), SLOTS)),
        ),
    ]
}

/// Runs all variants for about so long, and prints a table per concurrency.
pub(crate) fn run(budget: Duration) -> io::Result<()> {
    // The recorder has to be there before the layers are.
    room::upkeep();
    let server = Process::start()?;
    let runtime = runtime()?;
    let mut variants = runtime.block_on(async { variants(&server) });
    let cores = Allowed::now()?;
    let started = Instant::now();
    let mut rounds = 0;
    while rounds == 0 || started.elapsed() < budget {
        for (level, (concurrency, place)) in LEVELS.into_iter().enumerate() {
            cores.place(place, &server)?;
            for n in 0..variants.len() {
                let at = (rounds + n) % variants.len();
                let variant = &mut variants[at];
                let turn = runtime.block_on(turn(variant, concurrency, &server));
                variant.turns[level].push(turn);
            }
            room::upkeep();
        }
        rounds += 1;
    }
    drop(server);
    print(&variants, rounds);
    Ok(())
}

fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

async fn turn(variant: &Variant, concurrency: usize, server: &Process) -> Turn {
    let timer = variant
        .timer
        .then(|| tokio::spawn(sleep(Duration::from_secs(3600))));
    let before = waited(server);
    let (cpu, started) = (thread_cpu(), Instant::now());
    let local = tokio::task::LocalSet::new();
    let mut nanos = local
        .run_until(async {
            let tasks: Vec<_> = (0..concurrency)
                .map(|_| tokio::task::spawn_local((variant.task)()))
                .collect();
            let mut nanos = Vec::new();
            for task in tasks {
                nanos.extend(task.await.expect("the server answers every call"));
            }
            nanos
        })
        .await;
    let elapsed = started.elapsed().as_secs_f64();
    let cpu = (thread_cpu() - cpu).as_secs_f64();
    let waited = waited(server).saturating_sub(before).as_secs_f64();
    if let Some(timer) = timer {
        timer.abort();
    }

    nanos.sort_unstable();
    let calls = nanos.len() as f64;
    let at = |share: f64| f64::from(nanos[((calls - 1.0) * share) as usize]) / 1e3;
    Turn {
        p50: at(0.5),
        p99: at(0.99),
        per_second: calls / elapsed,
        cpu: cpu / calls * 1e6,
        waited: waited / elapsed,
    }
}

/// For how long client and server have been ready to run and had no CPU.
fn waited(server: &Process) -> Duration {
    waited_for_cpu("self") + waited_for_cpu(&server.id().to_string())
}

fn print(variants: &[Variant], rounds: usize) {
    println!(
        "Ratios to the bare channel of the same round: medians ± half of the middle half, of \
         the half of {rounds} rounds in which client and server waited least for a CPU. The last \
         column is of all rounds.\n"
    );
    for (level, (concurrency, place)) in LEVELS.into_iter().enumerate() {
        let bare = &variants[0].turns[level];
        println!("## {concurrency} at once, {}\n", place.title());
        stats::head(&[
            "",
            "p50",
            "p99",
            "throughput",
            "client CPU",
            "client CPU added, µs",
        ]);
        line(&variants[0], &absolute(bare));
        for variant in &variants[1..] {
            line(variant, &relative(&variant.turns[level], bare));
        }
        println!();
        // On one core each waits for the other, and that is as it should be.
        if place == Cores::Two {
            let waited: Samples = bare.iter().map(|turn| turn.waited).collect();
            println!(
                "The processes waited for a CPU for {:.1} % of the time in half of the rounds.\n",
                waited.median() * 100.0
            );
        }
    }
}

fn line(variant: &Variant, cells: &[String]) {
    stats::line(
        [variant.title]
            .into_iter()
            .chain(cells.iter().map(String::as_str)),
    );
}

/// What the bare channel did.
fn absolute(bare: &[Turn]) -> [String; 5] {
    let cell = |value: fn(&Turn) -> f64, unit| {
        let samples: Samples = quiet(bare, bare)
            .into_iter()
            .map(|(turn, _)| value(turn))
            .collect();
        format!("{:.1} ± {:.1} {unit}", samples.median(), samples.spread())
    };
    [
        cell(|turn| turn.p50, "µs"),
        cell(|turn| turn.p99, "µs"),
        cell(|turn| turn.per_second / 1e3, "k/s"),
        cell(|turn| turn.cpu, "µs"),
        String::new(),
    ]
}

/// What a variant did, beside the bare channel.
fn relative(turns: &[Turn], bare: &[Turn]) -> [String; 5] {
    let ratio = |value: fn(&Turn) -> f64| {
        let pairs = quiet(turns, bare).into_iter();
        let samples: Samples = pairs
            .map(|(turn, bare)| value(turn) / value(bare))
            .collect();
        format!("{:.3} ± {:.3}", samples.median(), samples.spread())
    };
    let added: Samples = turns
        .iter()
        .zip(bare)
        .map(|(turn, bare)| turn.cpu - bare.cpu)
        .collect();
    [
        ratio(|turn| turn.p50),
        ratio(|turn| turn.p99),
        ratio(|turn| turn.per_second),
        ratio(|turn| turn.cpu),
        format!("{:+.2} ± {:.2}", added.median(), added.spread()),
    ]
}

/// The turns of the quieter half of the rounds, each with the bare one of its
/// round.
fn quiet<'a>(turns: &'a [Turn], bare: &'a [Turn]) -> Vec<(&'a Turn, &'a Turn)> {
    let mut pairs: Vec<_> = turns.iter().zip(bare).collect();
    pairs.sort_by(|(a, b), (c, d)| (a.waited + b.waited).total_cmp(&(c.waited + d.waited)));
    pairs.truncate(pairs.len().div_ceil(2));
    pairs
}

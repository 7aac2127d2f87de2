//! Two threads that do nothing but admit and settle, on one breaker.

use std::{future::poll_fn, sync::Barrier, thread, time::Duration};

use failsafe::futures::CircuitBreaker as _;
use http::Request;
use tokio::time::Instant;
use tonic::body::Body;
use tower_layer::Layer as _;
use tower_service::Service;

use super::waiting::Waiting;
use crate::{
    ours, peers,
    stats::{self, Samples, waited_for_cpu},
    work::Tiny,
};

/// How long threads hammer in one round. Less than what a scheduler gives a
/// thread at a time, so that many rounds pass without being disturbed.
const SLICE: Duration = Duration::from_millis(4);
/// Operations between two looks at the clock, when only throughput counts.
const BATCH: u32 = 64;
/// A thread that waited for a CPU for more of a slice than this was not there
/// all the time. One that waits for a lock is.
const ABSENT: f64 = 0.1;
/// How many times as many rounds are made as are wanted, at most.
const MOST_ROUNDS: usize = 4;

/// One operation of a thread.
type Operation = Box<dyn FnMut(&Waiting) + Send>;

/// One thing that threads share: makes what each of them calls.
struct Shared {
    title: &'static str,
    make: Box<dyn Fn() -> Operation>,
    one: Samples,
    two: Samples,
    /// Nanoseconds of single operations while another thread hammers too, of
    /// each round.
    latencies: Vec<Vec<u32>>,
}

/// Hammers all breakers, and prints a table.
pub(super) fn run(rounds: usize) {
    let mut all = shared();
    // On a busy machine most rounds are of no use: so there are more, up to a
    // bound.
    for round in 0..rounds * MOST_ROUNDS {
        if all
            .iter()
            .all(|case| case.two.len() >= rounds && case.latencies.len() >= rounds)
        {
            break;
        }
        for n in 0..all.len() {
            let at = (round + n) % all.len();
            let case = &mut all[at];
            case.one.extend(throughput(case, 1));
            case.two.extend(throughput(case, 2));
            let latencies = latencies(case);
            case.latencies.extend(latencies);
        }
    }

    println!("## Two threads on one circuit breaker\n");
    println!(
        "An operation is the least call that a breaker can guard, admitted and settled. \
         Throughput: medians of rounds ± half of the middle half. The percentiles are of single operations, \
         each between two readings of the clock.\n"
    );
    stats::head(&[
        "",
        "1 thread, M/s",
        "2 threads, M/s in all",
        "2 threads: p50 ns",
        "p99 ns",
        "p99.9 ns",
        "rounds that count",
    ]);
    for case in &all {
        let mut nanos = case.latencies.concat();
        nanos.sort_unstable();
        let at = |share: f64| {
            let index = (nanos.len().saturating_sub(1) as f64 * share) as usize;
            nanos.get(index).map_or_else(none, ToString::to_string)
        };
        let rate = |samples: &Samples| match samples.len() {
            0 => none(),
            _ => format!("{:.2} ± {:.2}", samples.median(), samples.spread()),
        };
        stats::line([
            case.title.to_owned(),
            rate(&case.one),
            rate(&case.two),
            at(0.5),
            at(0.99),
            at(0.999),
            format!("{} and {}", case.two.len(), case.latencies.len()),
        ]);
    }
    println!(
        "\nRounds of {} ms. One in which a thread waited for a CPU, or for the other one to begin, for more \
         than {:.0} % of it does not count; where too few do, the machine is too busy.\n",
        SLICE.as_millis(),
        ABSENT * 100.0,
    );
}

fn none() -> String {
    "-".to_owned()
}

fn shared() -> Vec<Shared> {
    let case = |title, make| Shared {
        title,
        make,
        one: Samples::default(),
        two: Samples::default(),
        latencies: Vec::new(),
    };
    let guarded = || peers::breakers::call(Tiny::succeeding(), Tiny::request());
    let failsafe = peers::breakers::failsafe_default();
    let consecutive = peers::breakers::failsafe_consecutive(5);
    let recloser = peers::breakers::recloser_default();
    vec![
        case(
            "*nothing: the operation without a breaker*",
            of_service(Tiny::succeeding()),
        ),
        case("**resilience**", of_service(ours::guarded_tiny())),
        case(
            "tower-resilience",
            of_service(peers::tower_resilience::breaker().layer(Tiny::succeeding())),
        ),
        case(
            "failsafe, default policy",
            of(move |thread| thread.block_on(failsafe.call(guarded())).is_ok()),
        ),
        case(
            "failsafe, failures in a row",
            of(move |thread| thread.block_on(consecutive.call(guarded())).is_ok()),
        ),
        case(
            "recloser",
            of(move |thread| thread.block_on(recloser.call(guarded())).is_ok()),
        ),
    ]
}

/// Threads that call clones of `service`.
fn of_service<S>(service: S) -> Box<dyn Fn() -> Operation>
where
    S: Service<Request<Body>> + Clone + Send + 'static,
{
    Box::new(move || {
        let mut service = service.clone();
        Box::new(move |thread| {
            let done = thread.block_on(async {
                poll_fn(|cx| service.poll_ready(cx)).await?;
                service.call(Tiny::request()).await
            });
            assert!(done.is_ok());
        })
    })
}

/// Threads that do `operation`, each a clone of it, and are told whether it
/// succeeded.
fn of(operation: impl Fn(&Waiting) -> bool + Clone + Send + 'static) -> Box<dyn Fn() -> Operation> {
    Box::new(move || {
        let operation = operation.clone();
        Box::new(move |thread| assert!(operation(thread)))
    })
}

/// Millions of operations a second, of `threads` together; nothing when one of
/// them was not there all the time.
fn throughput(case: &Shared, threads: usize) -> Option<f64> {
    let done = together(case, threads, |call, until| {
        let mut done = 0_u64;
        while Instant::now() < until {
            for _ in 0..BATCH {
                call();
            }
            done += u64::from(BATCH);
        }
        done
    })?;
    let sum: u64 = done.iter().sum();
    Some(sum as f64 / SLICE.as_secs_f64() / 1e6)
}

/// Nanoseconds of single operations of two threads.
fn latencies(case: &Shared) -> Option<Vec<u32>> {
    /// Enough for every operation of a slice, and a bound.
    const MOST: usize = 200_000;
    let nanos = together(case, 2, |call, until| {
        let mut nanos = Vec::with_capacity(MOST);
        let mut last = Instant::now();
        while last < until && nanos.len() < MOST {
            call();
            let now = Instant::now();
            nanos.push(u32::try_from((now - last).as_nanos()).unwrap_or(u32::MAX));
            last = now;
        }
        // The other thread is to have company to the end.
        while Instant::now() < until {
            call();
        }
        nanos
    })?;
    Some(nanos.concat())
}

/// Runs `body` on so many threads, each with an operation of its own, for one
/// slice that begins for all at once; nothing when it did not, or when one of
/// them was not there all the time.
fn together<T: Send>(
    case: &Shared,
    threads: usize,
    body: impl Fn(&mut dyn FnMut(), Instant) -> T + Sync,
) -> Option<Vec<T>> {
    let barrier = Barrier::new(threads);
    let absent = SLICE.mul_f64(ABSENT);
    let one = |mut operation: Operation| {
        let waiting = Waiting::of_this_thread();
        let mut call = || operation(&waiting);
        for _ in 0..1000 {
            call();
        }
        barrier.wait();
        let (before, started) = (waited_for_cpu("thread-self"), Instant::now());
        let result = body(&mut call, started + SLICE);
        let waited = waited_for_cpu("thread-self").saturating_sub(before);
        (started, waited, result)
    };
    let results: Vec<_> = thread::scope(|scope| {
        let one = &one;
        let running: Vec<_> = (0..threads)
            .map(|_| {
                let operation = (case.make)();
                scope.spawn(move || one(operation))
            })
            .collect();
        let joined = running.into_iter().map(thread::ScopedJoinHandle::join);
        joined
            .map(|result| result.expect("it does not panic"))
            .collect()
    });
    let first = results.iter().map(|(started, ..)| *started).min()?;
    let present = results
        .iter()
        .all(|(started, waited, _)| *started - first <= absent && *waited <= absent);
    present.then(|| results.into_iter().map(|(.., result)| result).collect())
}

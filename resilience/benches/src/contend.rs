//! What sharing costs: two threads on one breaker, two workers on one stack.

use std::{
    future::{Future, poll_fn},
    hint::black_box,
    pin::pin,
    sync::{Arc, Barrier},
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
    time::Duration,
};

use failsafe::futures::CircuitBreaker as _;
use http::Request;
use tokio::{runtime::Builder, time::Instant};
use tonic::body::Body;
use tower_layer::Layer as _;
use tower_service::Service;

use crate::{
    ours, peers, room,
    stats::{self, Samples, process_cpu, waited_for_cpu},
    work::{Caller, Client, Manner, Tiny, Upstream},
};

/// How long threads hammer in one round. Less than what a scheduler gives a
/// thread at a time, so that many rounds pass without being disturbed.
const SLICE: Duration = Duration::from_millis(4);
/// How long tasks run in one round.
const TASKS_SLICE: Duration = Duration::from_millis(20);
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

/// Both tables.
pub(crate) fn run(rounds: usize) {
    // The recorder has to be there before the layers are.
    room::upkeep();
    breakers(rounds);
    stacks(rounds);
}

fn breakers(rounds: usize) {
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
            _ => format!("{:.1} ± {:.1}", samples.median(), samples.spread()),
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

/// Wakes a thread that has parked itself.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// This thread, as it waits: an async lock may be taken.
struct Waiting(Waker);

impl Waiting {
    fn of_this_thread() -> Self {
        Self(Waker::from(Arc::new(Unpark(thread::current()))))
    }

    fn block_on<F: Future>(&self, future: F) -> F::Output {
        /// Nothing here is locked for so long.
        const LONGEST: Duration = Duration::from_secs(10);
        let mut future = pin!(future);
        let mut cx = Context::from_waker(&self.0);
        let mut since = None;
        loop {
            if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
                return output;
            }
            let since = *since.get_or_insert_with(Instant::now);
            assert!(since.elapsed() < LONGEST, "a lock was never given back");
            thread::park_timeout(LONGEST);
        }
    }
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

/// A stack that many tasks share, and what its calls took.
struct Stack {
    title: &'static str,
    run: Box<dyn Fn(usize) -> f64>,
    two: Vec<f64>,
    many: Vec<f64>,
}

/// Tasks in the second column.
const TASKS: usize = 64;

fn stacks(rounds: usize) {
    let mut stacks = [
        stack(
            "*bare: generated client on the service in memory*",
            Client::new(upstream()),
        ),
        stack(
            "**resilience: the whole stack**",
            Client::new(ours::roomy(2 * TASKS).layer(upstream())),
        ),
        stack(
            "tower: timeout, retry with a budget, concurrency limit",
            peers::typed::TypedCaller(peers::tower::stack(
                peers::typed::Typed::new(upstream()),
                2 * TASKS,
            )),
        ),
        stack(
            peers::tower_resilience::TITLE,
            peers::typed::TypedCaller(peers::tower_resilience::stack(
                peers::typed::Typed::new(upstream()),
                2 * TASKS,
            )),
        ),
    ];
    for round in 0..rounds {
        for n in 0..stacks.len() {
            let at = (round + n) % stacks.len();
            let stack = &mut stacks[at];
            stack.two.push((stack.run)(2));
            stack.many.push((stack.run)(TASKS));
        }
        room::upkeep();
    }

    println!("## Two workers of a runtime on one stack\n");
    println!(
        "Nanoseconds of CPU time per call; the service in memory yields once. Medians of \
         {rounds} rounds ± half of the middle half; all but the first over *bare*.\n"
    );
    stats::head(&["", "2 tasks", "64 tasks"]);
    let (first, others) = stacks.split_first().expect("there are some");
    let cell = |samples: Samples| format!("{:.0} ± {:.0}", samples.median(), samples.spread());
    stats::line([
        first.title.to_owned(),
        cell(first.two.iter().copied().collect()),
        cell(first.many.iter().copied().collect()),
    ]);
    for stack in others {
        let over =
            |some: &[f64], base: &[f64]| cell(some.iter().zip(base).map(|(a, b)| a - b).collect());
        stats::line([
            stack.title.to_owned(),
            over(&stack.two, &first.two),
            over(&stack.many, &first.many),
        ]);
    }
    println!();
}

fn upstream() -> Upstream<{ line!() }> {
    Upstream::new(Manner::YieldOnce)
}

/// A stack, and a run of two workers on it: nanoseconds of CPU time per call.
fn stack(title: &'static str, caller: impl Caller + Clone + Send + Sync + 'static) -> Stack {
    let runtime = Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_all()
        .build()
        .expect("a runtime needs a few file descriptors, and nothing else");
    let run = move |tasks: usize| {
        runtime.block_on(async {
            let start = Arc::new(tokio::sync::Barrier::new(tasks + 1));
            let running: Vec<_> = (0..tasks)
                .map(|_| {
                    let (mut caller, start) = (caller.clone(), Arc::clone(&start));
                    tokio::spawn(async move {
                        start.wait().await;
                        let until = Instant::now() + TASKS_SLICE;
                        let mut calls = 0_u64;
                        while Instant::now() < until {
                            for _ in 0..8 {
                                assert!(black_box(&mut caller).call().await);
                            }
                            calls += 8;
                        }
                        calls
                    })
                })
                .collect();
            let before = process_cpu();
            start.wait().await;
            let mut calls = 0;
            for task in running {
                calls += task.await.expect("it does not panic");
            }
            (process_cpu() - before).as_nanos() as f64 / calls as f64
        })
    };
    Stack {
        title,
        run: Box::new(run),
        two: Vec::new(),
        many: Vec::new(),
    }
}

const WORKERS: usize = 2;

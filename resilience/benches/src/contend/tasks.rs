//! Many tasks on two workers of a runtime, on one stack.

use std::{hint::black_box, sync::Arc, time::Duration};

use tokio::{runtime::Builder, time::Instant};
use tower_layer::Layer as _;

use crate::{
    ours, peers, room,
    stats::{self, Samples, process_cpu},
    work::{Caller, Client, Manner, Upstream},
};

/// Workers of the runtime.
const WORKERS: usize = 2;
/// Tasks in the second column.
const TASKS: usize = 64;
/// How long they run in one round.
const SLICE: Duration = Duration::from_millis(20);

/// A stack that many tasks share, and what its calls took.
struct Stack {
    title: &'static str,
    run: Box<dyn Fn(usize) -> f64>,
    two: Vec<f64>,
    many: Vec<f64>,
}

/// Runs all stacks, and prints a table.
pub(super) fn run(rounds: usize) {
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
                        let until = Instant::now() + SLICE;
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

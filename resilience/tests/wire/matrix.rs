//! Every case, in every way that it can be met: by a method that is idempotent
//! and one that is not, once and without end, and by a probe.

use std::{
    panic,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use tokio::{sync::Semaphore, task::JoinSet, time::timeout};

use crate::{
    bench::{Bench, Settings},
    case::{Case, Origin},
    server::Server,
    verdict::{Met, Wrong},
};

/// Past this a call hangs. Its own deadline is shorter.
const HANG: Duration = Duration::from_secs(10);

/// The time of an attempt that is meant to run out.
const SHORT: Duration = Duration::from_millis(250);

/// The same on a machine that is too busy for it: the server must be heard, as
/// far as it speaks, before time is up.
const LONGER: Duration = Duration::from_secs(2);

/// How many are under way at once: most wait for a timer or for the loopback.
const AT_ONCE: usize = 32;

/// How a case is met.
#[derive(Debug, Clone, Copy)]
struct Way {
    idempotent: bool,
    mode: Mode,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// The server does it every time.
    Always,
    /// It does it once, and then the right thing.
    Once,
    /// It does it to the one probe of a half-open circuit.
    Probe,
}

/// Runs every case in every way, and panics with all that was not as told.
pub(crate) async fn run(cases: Vec<Case>) {
    let before = PANICS.load(Ordering::SeqCst);
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut runs = JoinSet::new();
    for case in cases {
        for mode in [Mode::Always, Mode::Once, Mode::Probe] {
            for idempotent in [false, true] {
                let (case, places) = (case.clone(), Arc::clone(&places));
                runs.spawn(async move {
                    let _place = places.acquire().await;
                    let way = Way { idempotent, mode };
                    let wrong = meet(&case, way, SHORT).await;
                    if wrong.0.is_empty() || case.origin != Origin::Timer {
                        return wrong;
                    }
                    meet(&case, way, LONGER).await
                });
            }
        }
    }
    let mut wrong = Vec::new();
    while let Some(result) = runs.join_next().await {
        match result {
            Ok(found) => wrong.extend(found.0),
            Err(error) => wrong.push(format!("a case panicked: {error}")),
        }
    }
    wrong.sort();
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
    assert_eq!(PANICS.load(Ordering::SeqCst), before, "something panicked");
}

/// Panics so far in tasks, this test's or another's. One in a task of the
/// channel would otherwise only show as a connection that failed.
static PANICS: LazyLock<&AtomicUsize> = LazyLock::new(|| {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let hook = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        // What a test has to say it says on a thread with its own name.
        let in_task = thread::current().name() == Some("tokio-rt-worker");
        COUNT.fetch_add(usize::from(in_task), Ordering::SeqCst);
        hook(info);
    }));
    &COUNT
});

/// Meets `case` in this way; `short` is the time of an attempt, if that is to
/// run out.
async fn meet(case: &Case, way: Way, short: Duration) -> Wrong {
    let mut wrong = Wrong::default();
    if timeout(HANG, check(case, way, short, &mut wrong))
        .await
        .is_err()
    {
        wrong.unless(false, "it hangs");
    }
    for what in &mut wrong.0 {
        *what = format!("{} ({way:?}): {what}", case.name);
    }
    wrong
}

async fn check(case: &Case, way: Way, short: Duration, wrong: &mut Wrong) {
    let times = match way.mode {
        Mode::Once => 1,
        Mode::Always | Mode::Probe => usize::MAX,
    };
    let server = Server::start_for(case.fault.clone(), times);
    let mut settings = Settings {
        idempotent: way.idempotent,
        probing: way.mode == Mode::Probe,
        ..Settings::default()
    };
    if case.origin == Origin::Timer {
        settings.attempt_timeout = short;
    }
    let mut bench = Bench::new(server.address, &settings);
    if way.mode == Mode::Probe {
        bench.trip().await;
    }
    let result = bench.call().await;
    let met = Met {
        attempts: bench.attempts(),
        server,
        bench,
        result,
    };
    match way.mode {
        Mode::Always => met.check_always(case, way.idempotent, wrong).await,
        Mode::Once => met.check_once(case, way.idempotent, wrong).await,
        Mode::Probe => met.check_probe(case, wrong),
    }
    met.check_bounds(case, wrong);
}

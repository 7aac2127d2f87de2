//! Real calls, to a tonic server in another process on this machine.
//!
//! One client process with a runtime of one thread, and a server with one of
//! its own. Every variant has a channel of its own to it, of the same kind. In
//! each round each variant has its turn, at each concurrency, and is compared
//! with the bare channel of the same round.

use std::{
    env,
    future::Future,
    io::{self, BufRead as _, BufReader, Read as _},
    net::{Ipv4Addr, SocketAddr},
    pin::Pin,
    process::{Child, ChildStdin, Command, Stdio},
    time::Duration,
};

use proto::user::{
    UserRequest, UserResponse, ValidateUserRequest, ValidateUserResponse,
    user_service_server::{UserService, UserServiceServer},
};
use tokio::{
    runtime::{Builder, Runtime},
    task::spawn_blocking,
    time::{Instant, sleep},
};
use tonic::{
    Request, Response, Status,
    transport::{Channel, Endpoint, Server, server::TcpIncoming},
};
use tower_layer::Layer as _;

use crate::{
    ours,
    peers::{
        tower, tower_resilience,
        typed::{Typed, TypedCaller},
    },
    room,
    stats::{self, Samples, thread_cpu, waited_for_cpu},
    work::{Caller, Client, answer},
};

/// Calls in flight at once.
const CONCURRENCIES: [usize; 3] = [1, 16, 128];
/// Room in every limit: what is measured is not the wait for a slot.
const SLOTS: usize = 256;
/// How long a variant has its turn.
const SLICE: Duration = Duration::from_millis(40);

/// Keeps the server, which ends with its standard input.
struct Process {
    child: Child,
    _stdin: Option<ChildStdin>,
    address: SocketAddr,
}

impl Process {
    fn start() -> io::Result<Self> {
        let mut child = Command::new(env::current_exe()?)
            .arg("serve")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let address = line.trim().parse().map_err(io::Error::other)?;
        let stdin = child.stdin.take();
        Ok(Self {
            child,
            _stdin: stdin,
            address,
        })
    }

    fn channel(&self) -> Channel {
        let url = format!("http://{}", self.address);
        Endpoint::from_shared(url)
            .expect("an address makes a URL")
            .connect_lazy()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self._stdin = None;
        // It has nothing to lose.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The server: says where it is, answers, and ends with its standard input.
pub(crate) fn serve() -> io::Result<()> {
    struct Users;

    #[tonic::async_trait]
    impl UserService for Users {
        async fn get_user(
            &self,
            _: Request<UserRequest>,
        ) -> Result<Response<UserResponse>, Status> {
            Err(Status::unimplemented("nobody asks"))
        }

        async fn validate_user(
            &self,
            _: Request<ValidateUserRequest>,
        ) -> Result<Response<ValidateUserResponse>, Status> {
            Ok(Response::new(answer()))
        }
    }

    runtime()?.block_on(async {
        let incoming = TcpIncoming::bind((Ipv4Addr::LOCALHOST, 0).into())?;
        println!("{}", incoming.local_addr()?);
        let ended = spawn_blocking(|| io::stdin().read_to_end(&mut Vec::new()));
        Server::builder()
            .add_service(UserServiceServer::new(Users))
            .serve_with_incoming_shutdown(incoming.with_nodelay(Some(true)), async {
                let _ = ended.await;
            })
            .await
            .map_err(io::Error::other)
    })
}

fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

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
    turns: [Vec<Turn>; CONCURRENCIES.len()],
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
    let started = Instant::now();
    let mut rounds = 0;
    while rounds == 0 || started.elapsed() < budget {
        for (level, concurrency) in CONCURRENCIES.into_iter().enumerate() {
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
    waited_for_cpu("self") + waited_for_cpu(&server.child.id().to_string())
}

fn print(variants: &[Variant], rounds: usize) {
    println!(
        "Ratios to the bare channel of the same round: medians ± half of the middle half, of \
         the half of {rounds} rounds in which client and server waited least for a CPU. The last \
         column is of all rounds.\n"
    );
    for (level, concurrency) in CONCURRENCIES.into_iter().enumerate() {
        let bare = &variants[0].turns[level];
        println!("## {concurrency} at once\n");
        stats::head(&[
            "",
            "p50",
            "p99",
            "throughput",
            "client CPU",
            "client CPU, µs",
        ]);
        for variant in variants {
            let turns = &variant.turns[level];
            let quiet = quiet(turns, bare);
            let cell = |value: fn(&Turn) -> f64, unit: &str| {
                if variant.title == variants[0].title {
                    let samples: Samples = quiet.iter().map(|(turn, _)| value(turn)).collect();
                    return format!("{:.1}{unit} ± {:.1}", samples.median(), samples.spread());
                }
                let ratios = quiet.iter().map(|(turn, bare)| value(turn) / value(bare));
                let samples: Samples = ratios.collect();
                format!("{:.3} ± {:.3}", samples.median(), samples.spread())
            };
            let added: Samples = turns.iter().zip(bare).map(|(a, b)| a.cpu - b.cpu).collect();
            stats::line([
                variant.title.to_owned(),
                cell(|turn| turn.p50, " µs"),
                cell(|turn| turn.p99, " µs"),
                cell(|turn| turn.per_second / 1e3, " k/s"),
                cell(|turn| turn.cpu, " µs"),
                format!("{:+.2} ± {:.2}", added.median(), added.spread()),
            ]);
        }
        let waited: Samples = bare.iter().map(|turn| turn.waited).collect();
        println!(
            "\nThe processes waited for a CPU for {:.1} % of the time in half of the rounds.\n",
            waited.median() * 100.0
        );
    }
}

/// The turns of the quieter half of the rounds, each with the bare one of its
/// round.
fn quiet<'a>(turns: &'a [Turn], bare: &'a [Turn]) -> Vec<(&'a Turn, &'a Turn)> {
    let mut pairs: Vec<_> = turns.iter().zip(bare).collect();
    pairs.sort_by(|(a, b), (c, d)| (a.waited + b.waited).total_cmp(&(c.waited + d.waited)));
    pairs.truncate(pairs.len().div_ceil(2));
    pairs
}

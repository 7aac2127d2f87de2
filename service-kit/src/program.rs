//! A whole `main`: settings, log, signals, exit codes, `healthcheck`, and what
//! else a program can be asked to do.
//!
//! A service's `main.rs` is one call of [`run`]. What a person or a script can
//! rely on is the same for every service:
//!
//! | exit code | when |
//! | --- | --- |
//! | 0 | stopped by SIGTERM or SIGINT, even when calls had to be cut off; healthy |
//! | 1 | could not listen, or stopped serving by itself; not healthy, or no answer |
//! | 2 | a setting, or the command line, cannot be used |

mod healthcheck;
mod question;

use std::{
    env, fmt,
    io::{self, Write as _},
    process::ExitCode,
    time::Duration,
};

use clap::{Args, CommandFactory as _, Parser, Subcommand};
use tokio::{
    runtime,
    signal::unix::{Signal, SignalKind, signal},
};
use tracing::{error, info};

use crate::{
    Running, ServeSettings, SettingError, StartError,
    log::{self, LogSettings},
    settings::command::{Parsed, Stop, parse},
    trace::TraceSettings,
};

pub use question::ask;

/// What [`run`] must know about a service. Implemented by its settings.
pub trait Program: Args + fmt::Debug + Send + 'static {
    /// The name of the program: `user-service`.
    const NAME: &'static str;
    /// What it is, in a line, for `--help`.
    const ABOUT: &'static str;
    /// The default ports for gRPC and for metrics.
    const PORTS: (u16, u16);

    /// Subcommands of its own, beside `healthcheck`; [`NoAction`] when it has
    /// none.
    type Action: Subcommand + fmt::Debug;

    /// Where it listens.
    fn serve(&self) -> &ServeSettings;

    /// Starts it.
    fn start(self) -> impl Future<Output = Result<Running, StartError>> + Send;

    /// Does what one of its own subcommands says, and returns what to print.
    ///
    /// # Errors
    /// Why it could not.
    fn act(self, action: Self::Action) -> Result<String, ActionError>;
}

/// Why a subcommand could not do what it is for.
#[derive(Debug, thiserror::Error)]
pub enum ActionError {
    /// A setting stands in its way.
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// It asked, and there was no answer, or not the one that was needed.
    #[error("{0}")]
    Failed(String),
}

impl ActionError {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Setting(_) => 2,
            Self::Failed(_) => 1,
        }
    }
}

/// No subcommands of its own.
#[derive(Debug, Clone, Copy, Subcommand)]
pub enum NoAction {}

/// Settings of every program, around those of `P`.
#[derive(Debug, Parser)]
struct CommandLine<P: Program> {
    #[command(flatten)]
    settings: P,
    #[command(flatten)]
    log: LogSettings,
    #[command(flatten)]
    trace: TraceSettings,
    #[command(subcommand)]
    action: Option<Action<P::Action>>,
}

#[derive(Debug, Subcommand)]
enum Action<A: Subcommand> {
    /// Asks the service that runs with these settings whether it is healthy:
    /// exits with 0 or 1 within 2 seconds.
    Healthcheck,
    #[command(flatten)]
    Own(A),
}

/// Runs the program until a signal stops it.
pub fn run<P: Program>() -> ExitCode {
    let Parsed {
        settings:
            CommandLine {
                settings,
                log,
                trace,
                action,
            },
        in_force,
    } = match parse::<CommandLine<P>>(command::<P>(), env::args_os()) {
        Ok(parsed) => parsed,
        Err(Stop::Show(help)) => return shown(help.print()),
        Err(Stop::Setting(error)) => return refuse::<P>(error, 2),
        Err(Stop::Usage(error)) => return refuse::<P>(error, 2),
    };
    match action {
        Some(Action::Healthcheck) => match healthcheck::run(settings.serve()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => refuse::<P>(error, 1),
        },
        Some(Action::Own(action)) => match settings.act(action) {
            Ok(answer) => shown(writeln!(io::stdout(), "{answer}")),
            Err(error) => refuse::<P>(&error, error.exit_code()),
        },
        None => serve(settings, &log, &trace, &in_force),
    }
}

/// The command line of `P`, with its name and its ports.
fn command<P: Program>() -> clap::Command {
    let (port, metrics_port) = P::PORTS;
    CommandLine::<P>::command()
        .name(P::NAME)
        .about(P::ABOUT)
        .version(env!("CARGO_PKG_VERSION"))
        .mut_args(|arg| match arg.get_id().as_str() {
            "port" => arg.default_value(port.to_string()),
            "metrics_port" => arg.default_value(metrics_port.to_string()),
            _ => arg,
        })
        // A variable may hold what nobody else should read.
        .mut_args(|arg| arg.hide_env_values(true))
}

fn serve<P: Program>(
    settings: P,
    log: &LogSettings,
    trace: &TraceSettings,
    in_force: &str,
) -> ExitCode {
    let runtime = match runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return refuse::<P>(error, 1),
    };
    let exporting = {
        let _inside = runtime.enter();
        log::init(log, trace, P::NAME)
    };
    info!("{} {}: {in_force}", P::NAME, env!("CARGO_PKG_VERSION"));
    let code = runtime.block_on(async {
        // Before the start: a signal during it must not be lost.
        let mut signals = match Signals::new() {
            Ok(signals) => signals,
            Err(error) => return refuse::<P>(error, 1),
        };
        let started = tokio::select! {
            started = settings.start() => started,
            name = signals.recv() => {
                info!("{name}: stopping, before it served");
                return ExitCode::SUCCESS;
            }
        };
        let mut running = match started {
            Ok(running) => running,
            Err(error) => return refuse::<P>(&error, error.exit_code()),
        };
        tokio::select! {
            name = signals.recv() => info!("{name}: stopping"),
            () = running.failed() => {
                error!("a part that it cannot do without ended by itself");
                return ExitCode::FAILURE;
            }
        }
        tokio::select! {
            () = running.stop() => info!("stopped"),
            name = signals.recv() => info!("{name} again: stopped at once"),
        }
        ExitCode::SUCCESS
    });
    exporting.end();
    // Nothing is worth waiting for now: what could end by itself has.
    runtime.shutdown_timeout(Duration::from_millis(100));
    code
}

/// The two signals that ask a program to stop.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn recv(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// Says in one line why the program ends.
fn refuse<P: Program>(reason: impl fmt::Display, code: u8) -> ExitCode {
    eprintln!("{}: {reason}", P::NAME);
    ExitCode::from(code)
}

fn shown(printed: io::Result<()>) -> ExitCode {
    if printed.is_ok() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

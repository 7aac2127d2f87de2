//! The command line.

use std::{fmt::Write as _, path::PathBuf, time::Duration};

use clap::Parser;

use crate::{policies::Policy, script::Script};

/// Runs the resilient client, and those it is compared with, through faults in virtual time.
///
/// The production code runs against a model of a server: workers, a queue, and a script of what
/// befalls them. The same seed makes the same run, on any machine.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "simulation",
    version,
    after_help = "Exit status: 0 no claim was missed, 1 one was, 2 it could not start."
)]
pub struct Settings {
    /// Runs of every script with every policy.
    #[arg(long, value_name = "N", default_value = "3", value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub seeds: u64,

    /// The first seed; the others follow it.
    #[arg(long, value_name = "SEED", default_value = "1")]
    pub first_seed: u64,

    /// Only these scripts, such as outage,capacity-75. --list names them.
    #[arg(long, visible_alias = "script", value_name = "A,B", value_delimiter = ',', value_parser = script)]
    pub scripts: Vec<Script>,

    /// Only these policies, such as ours,aws. --list names them.
    #[arg(long, visible_alias = "policy", value_name = "A,B", value_delimiter = ',', value_parser = policy)]
    pub policies: Vec<Policy>,

    /// Name the scripts and the policies, say where their rules come from, and run nothing.
    #[arg(long)]
    pub list: bool,

    /// Where the page with the plots goes.
    #[arg(long, value_name = "FILE", default_value = "simulation.html")]
    pub out: PathBuf,

    /// Where a picture of the first script goes, as SVG.
    #[arg(long, value_name = "FILE")]
    pub plot: Option<PathBuf>,

    /// Your own settings, as TOML with the names of ResilienceConfig, beside our defaults. It
    /// may say what your upstream is like too: traffic.rate and clients; server.workers, work,
    /// work_varies, queue and drops_expired.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Print what happens in the run of this seed, call by call, with the reason of each
    /// decision; of one script and one policy [default: capacity-75, ours].
    #[arg(long, value_name = "SEED")]
    pub explain: Option<u64>,

    /// Of what is explained, only this client.
    #[arg(long, value_name = "N", requires = "explain")]
    pub client: Option<u64>,

    /// Of what is explained, only from this moment on.
    #[arg(long, value_name = "TIME", requires = "explain", value_parser = humantime::parse_duration)]
    pub from: Option<Duration>,

    /// Of what is explained, only up to this moment.
    #[arg(long, value_name = "TIME", requires = "explain", value_parser = humantime::parse_duration)]
    pub to: Option<Duration>,
}

fn script(id: &str) -> Result<Script, String> {
    Script::named(id).ok_or_else(|| {
        let known = Script::all().into_iter().map(|script| script.id);
        format!("known are {}", listed(known))
    })
}

fn policy(id: &str) -> Result<Policy, String> {
    Policy::named(id).ok_or_else(|| {
        let known = Policy::all().into_iter().chain(Policy::experiments());
        let known = known.map(|policy| policy.id);
        format!("known are {}", listed(known))
    })
}

fn listed(names: impl Iterator<Item = &'static str>) -> String {
    names
        .enumerate()
        .fold(String::new(), |mut text, (index, name)| {
            let comma = if index == 0 { "" } else { ", " };
            // Writing to a string cannot fail.
            let _ = write!(text, "{comma}{name}");
            text
        })
}

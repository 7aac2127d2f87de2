//! Proves the client's policies in virtual time, beside those of the systems people trust.
//!
//! The production layers run against the model of a server, in a runtime with one thread and a
//! clock that is moved by hand, so that a second takes a few milliseconds. All chance comes from
//! one seed.
//!
//! | file | what for |
//! | --- | --- |
//! | [`dice`] | all chance, from one seed |
//! | [`server`] | a server as a model: workers, a queue, and what befalls them |
//! | [`upstream`] | the model as a service, where a client has its channel |
//! | [`script`] | what befalls the server, and who calls it meanwhile |
//! | [`policies`], [`baselines`] | the clients: ours, and those it is compared with |
//! | [`experiment`] | changes to ours that might be better |
//! | [`client`], [`caller`] | one of them: its layers, and how it is called |
//! | [`run`] | one run |
//! | [`recording`], [`figures`] | what happened, and what it adds up to |
//! | [`matrix`] | many runs |
//! | [`claims`] | what was promised, and whether it was kept |
//! | [`table`] | for a person at a terminal |
//! | [`explain`] | one run, call by call, with the reason of each decision |
//! | [`story`] | for a person with a browser, drawn by [`report`] |
//! | [`settings`] | the command line |
//! | [`user`] | settings of a user, from a file |

pub mod baselines;
pub mod caller;
pub mod claims;
pub mod client;
pub mod dice;
pub mod experiment;
pub mod explain;
pub mod figures;
pub mod matrix;
pub mod policies;
pub mod recording;
pub mod run;
pub mod script;
pub mod server;
pub mod settings;
pub mod story;
pub mod table;
pub mod upstream;
pub mod user;

use std::{
    fs,
    io::{self, IsTerminal as _, Write as _},
    path::Path,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use claims::judge;
use explain::{Window, timeline};
use matrix::{Matrix, Plan};
use policies::Policy;
use script::Script;
use settings::Settings;
use user::User;

/// Why nothing was simulated.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What was asked for does not go together.
    #[error("{0}")]
    Settings(String),
    /// Something could not be written.
    #[error(transparent)]
    Write(#[from] io::Error),
}

/// Does what the settings say, and gives the status to exit with.
///
/// # Errors
/// [`Error`]: nothing was simulated, or it could not be written down.
pub fn simulate(settings: &Settings) -> Result<u8, Error> {
    let user = settings.config.as_deref().map(User::read).transpose();
    let user = user.map_err(Error::Settings)?;
    let plan = plan(settings, user.as_ref());
    let mut out = io::stdout().lock();
    if settings.list {
        write!(out, "{}", table::legend(&plan))?;
        let experiments = Policy::experiments();
        write!(out, "\nexperiments:\n{}", table::policies(&experiments))?;
        return Ok(0);
    }
    if let Some(seed) = settings.explain {
        let (script, policy) = explained(settings, user.as_ref())?;
        let window = Window {
            from: settings.from.unwrap_or_default(),
            to: settings.to,
            client: settings.client,
        };
        write!(out, "{}", timeline(&script, &policy, seed, window))?;
        return Ok(0);
    }
    // Found out before: a minute of work for a page that cannot be written is lost.
    for file in [Some(&settings.out), settings.plot.as_ref()] {
        file.map_or(Ok(()), |file| write_file(file, ""))?;
    }
    let matrix = with_progress(&plan);
    write!(out, "{}", table::tables(&plan, &matrix))?;
    let better = table::better_than_ours(&plan, &matrix);
    if !better.is_empty() {
        writeln!(out, "where others do better than ours (attempts per call):")?;
        for line in better {
            writeln!(out, "  {line}")?;
        }
        writeln!(out)?;
    }
    let claims = judge(&matrix);
    write!(
        out,
        "the claims, over {} seeds:\n{}",
        settings.seeds,
        claims::lines(&claims)
    )?;
    write_file(&settings.out, &story::html(&plan, &matrix, &claims))?;
    if let Some(plot) = &settings.plot {
        write_file(plot, &story::picture(&plan, &matrix))?;
    }
    writeln!(out, "\nthe plots: {}", settings.out.display())?;
    Ok(u8::from(claims.iter().any(|claim| !claim.held)))
}

fn write_file(file: &Path, text: &str) -> Result<(), Error> {
    let written = fs::write(file, text);
    written.map_err(|error| Error::Settings(format!("{}: {error}", file.display())))
}

fn plan(settings: &Settings, user: Option<&User>) -> Plan {
    let scripts = match settings.scripts.is_empty() {
        true => Script::all(),
        false => settings.scripts.clone(),
    };
    let mut policies = match (settings.policies.is_empty(), user) {
        (false, _) => settings.policies.clone(),
        (true, None) => Policy::all(),
        (true, Some(_)) => vec![policies::ours()],
    };
    policies.extend(user.map(User::policy));
    Plan {
        scripts: scripts
            .into_iter()
            .map(|script| adapted(script, user))
            .collect(),
        policies,
        seeds: (0..settings.seeds)
            .map(|index| settings.first_seed.wrapping_add(index))
            .collect(),
    }
}

fn adapted(script: Script, user: Option<&User>) -> Script {
    match user {
        Some(user) => user.adapt(script),
        None => script,
    }
}

/// The script and the policy of which one run is explained.
fn explained(settings: &Settings, user: Option<&User>) -> Result<(Script, Policy), Error> {
    let one = "--explain shows one script and one policy";
    let script = match &settings.scripts[..] {
        [] => Script::named("capacity-75"),
        [script] => Some(script.clone()),
        _ => None,
    };
    let policy = match &settings.policies[..] {
        [] => Some(user.map_or_else(policies::ours, User::policy)),
        [policy] => Some(policy.clone()),
        _ => None,
    };
    script
        .map(|script| adapted(script, user))
        .zip(policy)
        .ok_or_else(|| Error::Settings(one.to_owned()))
}

/// Runs all of it, and shows how far it is.
fn with_progress(plan: &Plan) -> Matrix {
    let bar = ProgressBar::with_draw_target(
        Some(plan.runs() as u64),
        match io::stderr().is_terminal() {
            true => ProgressDrawTarget::stderr(),
            false => ProgressDrawTarget::hidden(),
        },
    );
    if let Ok(style) = ProgressStyle::with_template("{wide_bar} {pos} of {len} runs, {eta} left") {
        bar.set_style(style);
    }
    let matrix = plan.run(|| bar.inc(1));
    bar.finish_and_clear();
    matrix
}

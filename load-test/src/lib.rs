//! Drives an order service through the faults of the user service behind it, and checks what
//! the resilient client promises.
//!
//! What happens, in order, and where it is written:
//!
//! | file | what for |
//! | --- | --- |
//! | [`settings`] | the command line, and the plan that it amounts to |
//! | [`phases`] | what goes wrong, and when |
//! | [`stage`], [`switch`] | the services, here or elsewhere, and their faults |
//! | [`run`] | walks the phases while orders keep coming |
//! | [`generator`], [`orders`] | starts calls on schedule; what a call is |
//! | [`scrape`] | the order service's own figures |
//! | [`recorder`], [`recording`] | collects what happens; what happened, as plain data |
//! | [`figures`] | what it adds up to |
//! | [`claims`] | what was promised, and whether it was kept |
//! | [`screen`], [`verdict`] | for a person at a terminal |
//! | [`story`] | for a person with a browser, drawn by [`report`] |
//! | [`json`] | for programs |
//!
//! Everything from [`recording`] on is a function of data: it is tested on runs that never
//! happened.

mod exposition;
mod paint;

pub mod claims;
pub mod figures;
pub mod generator;
pub mod interrupt;
pub mod json;
pub mod orders;
pub mod phases;
pub mod recorder;
pub mod recording;
pub mod results;
pub mod run;
pub mod scrape;
pub mod screen;
pub mod settings;
pub mod stage;
pub mod story;
pub mod switch;
pub mod url;
pub mod verdict;
pub mod versions;

#[cfg(test)]
mod made_up;

use std::{
    io::{self, Write as _},
    path::{Path, PathBuf},
    time::SystemTime,
};

use interrupt::Interrupt;
use recording::{Client, Ending};
use results::{Judged, Results};
use screen::Screen;
use settings::{Plan, PlanError, Settings};
use stage::{Stage, StageError};

/// Why there is no verdict, in a line.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The settings do not go together.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// There is nothing to put load on.
    #[error(transparent)]
    Stage(#[from] StageError),
    /// What there is does not answer.
    #[error(transparent)]
    WarmUp(#[from] run::WarmUpError),
    /// A file could not be written.
    #[error("{file}: {error}", file = .0.display(), error = .1)]
    Write(PathBuf, io::Error),
    /// The system does not let signals be listened for.
    #[error("signals: {0}")]
    Signals(io::Error),
}

/// Does what the settings say, and gives the status to exit with.
///
/// # Errors
/// [`Error`]: nothing was measured, or it could not be written down.
pub async fn load_test(settings: &Settings) -> Result<u8, Error> {
    let plan = settings.plan()?;
    // Found out before the run: a minute of load for a report that cannot be written is lost.
    let json_to_stdout = settings.json.as_deref().is_some_and(is_stdout);
    let json_file = settings.json.as_ref().filter(|_| !json_to_stdout);
    for file in [Some(&settings.out), settings.plot.as_ref(), json_file] {
        writable(file)?;
    }
    let mut screen = Screen::new(json_to_stdout, settings.no_color);
    let mut interrupt = Interrupt::on_signals().map_err(Error::Signals)?;

    let results = measure(&plan, &mut screen, &mut interrupt).await?;

    write(&settings.out, &story::html(&results))?;
    if let Some(plot) = &settings.plot {
        write(plot, &story::picture(&results))?;
    }
    let json = settings
        .json
        .as_ref()
        .map(|file| (file, json::document(&results)));
    if let Some((file, document)) = json {
        let document = document.map_err(|error| Error::Write(file.clone(), error.into()))?;
        match is_stdout(file) {
            true => print(&document),
            false => write(file, &document),
        }?;
    }
    conclude(&screen, settings, &results);
    Ok(exit_code(&results))
}

/// Walks the phases, twice if tonic alone is to be compared.
async fn measure(
    plan: &Plan,
    screen: &mut Screen,
    interrupt: &mut Interrupt,
) -> Result<Results, Error> {
    let began = SystemTime::now();
    let mut stage = Stage::open(plan, Client::Resilient).await?;
    let (terms, settings) = (stage.terms, stage.settings());
    let resilient = one_run(plan, Client::Resilient, &mut stage, screen, interrupt).await;
    close(stage, screen).await;
    let resilient = Judged::new(resilient?, &terms);

    let mut plain = None;
    if plan.compare && resilient.recording.ending == Ending::Complete {
        let mut stage = Stage::open(plan, Client::Plain).await?;
        let recording = one_run(plan, Client::Plain, &mut stage, screen, interrupt).await;
        close(stage, screen).await;
        plain = Some(Judged::new(recording?, &terms));
    }
    Ok(Results {
        plan: plan.clone(),
        terms,
        began,
        resilient,
        plain,
        settings,
    })
}

async fn one_run(
    plan: &Plan,
    client: Client,
    stage: &mut Stage,
    screen: &mut Screen,
    interrupt: &mut Interrupt,
) -> Result<recording::Recording, run::WarmUpError> {
    let who = match client {
        Client::Resilient => "resilient client",
        Client::Plain => "tonic alone",
    };
    let length = plan.phases.length();
    let seconds = length.as_secs_f64();
    let headline = format!("\n {who}: {} calls a second for {seconds:.0} s", plan.rate);
    screen.run_begins(&headline, length);
    let recording = run::run(plan, client, stage, screen, interrupt).await;
    screen.run_ends();
    recording
}

/// What cannot be put back does not change what was measured; a person should know.
async fn close(stage: Stage, screen: &Screen) {
    if let Err(why) = stage.close().await {
        screen.say(&format!(" the faults could not be taken back: {why}"));
    }
}

fn conclude(screen: &Screen, settings: &Settings, results: &Results) {
    let plain = results.plain.as_ref().map(|plain| plain.claims.as_slice());
    screen.say("");
    screen.say(&verdict::table(
        &results.resilient.claims,
        plain,
        screen.paint(),
    ));
    let gaps = verdict::gaps(&results.resilient.claims);
    for warning in results.warnings().into_iter().chain(gaps) {
        screen.say(&format!(" note: {warning}"));
    }
    screen.say(&format!(" {}", results.tally().headline()));
    let out = std::path::absolute(&settings.out).unwrap_or_else(|_| settings.out.clone());
    screen.say(&format!(" report: {}", out.display()));
}

/// 0 when nothing was missed, 1 when something was, 130 when a person ended the run.
fn exit_code(results: &Results) -> u8 {
    match results.ending() {
        Ending::Interrupted => interrupt::EXIT_CODE,
        Ending::Broken(_) => 1,
        Ending::Complete => {
            let tally = results.tally();
            // A generator that fell behind makes every figure worse, so claims that were kept
            // all the same were kept; but it may also be the reason for a gap.
            let untold = results.resilient.pacing.bottleneck && tally.not_measured > 0;
            u8::from(tally.missed > 0 || untold)
        }
    }
}

fn is_stdout(file: &Path) -> bool {
    file == Path::new("-")
}

fn writable(file: Option<&PathBuf>) -> Result<(), Error> {
    let Some(file) = file else { return Ok(()) };
    let opened = std::fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(file);
    opened
        .map(drop)
        .map_err(|error| Error::Write(file.clone(), error))
}

fn print(text: &str) -> Result<(), Error> {
    let printed = writeln!(io::stdout().lock(), "{text}");
    printed.map_err(|error| Error::Write("standard output".into(), error))
}

fn write(file: &Path, text: &str) -> Result<(), Error> {
    std::fs::write(file, text).map_err(|error| Error::Write(file.to_owned(), error))
}

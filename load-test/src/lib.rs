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
//! | [`metrics`], [`shown`] | for a dashboard |
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
pub mod metrics;
pub mod orders;
pub mod phases;
pub mod recorder;
pub mod recording;
pub mod results;
pub mod run;
pub mod scrape;
pub mod screen;
pub mod settings;
pub mod shown;
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
use metrics::Meter;
use recording::{Client, Ending};
use results::{Judged, Results};
use screen::Screen;
use settings::{Plan, PlanError, Settings, is_stdout};
use shown::Shown;
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
    /// The metrics cannot be served.
    #[error("--metrics-port {0}: {1}")]
    Listen(u16, io::Error),
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
    settings
        .outputs()
        .try_for_each(|(_, file)| writable(file))?;
    let mut screen = Screen::new(settings.stdout_is_taken(), settings.no_color);
    let mut interrupt = Interrupt::on_signals().map_err(Error::Signals)?;
    let shown = Shown::begin(settings, &plan)?;

    let results = measure(&plan, &shown.meter, &mut screen, &mut interrupt).await?;

    write(&settings.out, &story::html(&results))?;
    if let Some(plot) = &settings.plot {
        write(plot, &story::picture(&results))?;
    }
    if let Some(file) = &settings.json {
        let document = json::document(&results);
        let document = document.map_err(|error| Error::Write(file.clone(), error.into()))?;
        write(file, &document)?;
    }
    conclude(&screen, settings, &results);
    Ok(exit_code(&results))
}

/// Walks the phases, twice if tonic alone is to be compared.
async fn measure(
    plan: &Plan,
    meter: &Meter,
    screen: &mut Screen,
    interrupt: &mut Interrupt,
) -> Result<Results, Error> {
    let began = SystemTime::now();
    let mut stage = Stage::open(plan, Client::Resilient).await?;
    let (terms, settings) = (stage.terms, stage.settings());
    let resilient = one_run(
        plan,
        meter,
        Client::Resilient,
        &mut stage,
        screen,
        interrupt,
    )
    .await;
    close(stage, screen).await;
    let resilient = Judged::new(resilient?, &terms);

    let mut plain = None;
    if plan.compare && resilient.recording.ending == Ending::Complete {
        let mut stage = Stage::open(plan, Client::Plain).await?;
        let recording = one_run(plan, meter, Client::Plain, &mut stage, screen, interrupt).await;
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
    meter: &Meter,
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
    let recording = run::run(plan, meter, client, stage, screen, interrupt).await;
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
    let claims = results.claims();
    let plain = results.plain.as_ref().map(|plain| plain.claims.as_slice());
    screen.say("");
    screen.say(&verdict::table(&claims, plain, screen.paint()));
    screen.say(&format!(" {}", results.resilient.pacing));
    let gaps = verdict::gaps(&claims);
    for warning in results.warnings().into_iter().chain(gaps) {
        screen.say(&format!(" note: {warning}"));
    }
    screen.say(&format!(" {}", results.tally().headline()));
    if !is_stdout(&settings.out) {
        let out = std::path::absolute(&settings.out).unwrap_or_else(|_| settings.out.clone());
        screen.say(&format!(" report: {}", out.display()));
    }
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

fn writable(file: &Path) -> Result<(), Error> {
    if is_stdout(file) {
        return Ok(());
    }
    let opened = std::fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(file);
    opened
        .map(drop)
        .map_err(|error| Error::Write(file.to_owned(), error))
}

fn write(file: &Path, text: &str) -> Result<(), Error> {
    if is_stdout(file) {
        let printed = writeln!(io::stdout().lock(), "{text}");
        return printed.map_err(|error| Error::Write("standard output".into(), error));
    }
    std::fs::write(file, text).map_err(|error| Error::Write(file.to_owned(), error))
}

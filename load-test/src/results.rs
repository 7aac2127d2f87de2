//! Everything that is known when a run is over: what the report, the JSON and the verdict on
//! the terminal are made from.

use std::time::SystemTime;

use crate::{
    claims::{Claim, Terms, contrast, judge},
    figures::{Pacing, PhaseFigures, Slice, slices},
    recording::{Client, Ending, Recording},
    settings::Plan,
    verdict::Tally,
};

/// One run, judged.
#[derive(Debug, Clone)]
pub struct Judged {
    /// What happened.
    pub recording: Recording,
    /// What was promised, and what became of it.
    pub claims: Vec<Claim>,
    /// The phases in figures.
    pub phases: Vec<PhaseFigures>,
    /// The run in short stretches, for plots.
    pub slices: Vec<Slice>,
    /// How well the generator kept to its schedule.
    pub pacing: Pacing,
}

impl Judged {
    /// Judges a run.
    pub fn new(recording: Recording, terms: &Terms) -> Self {
        Self {
            claims: judge(&recording, terms),
            phases: PhaseFigures::all(&recording, terms.latest()),
            slices: slices(&recording, terms.latest()),
            pacing: Pacing::of(&recording.calls),
            recording,
        }
    }
}

/// What came out.
#[derive(Debug, Clone)]
pub struct Results {
    /// What was to be done.
    pub plan: Plan,
    /// The settings that the promises depend on.
    pub terms: Terms,
    /// When it began.
    pub began: SystemTime,
    /// The run that counts.
    pub resilient: Judged,
    /// The same with tonic alone.
    pub plain: Option<Judged>,
    /// The order service's settings, where they are known: names and values.
    pub settings: Vec<(String, String)>,
}

impl Results {
    /// Every promise, and what the comparison must show where there is one.
    pub fn claims(&self) -> Vec<Claim> {
        let plain = self.plain.iter().flat_map(|plain| contrast(&plain.claims));
        self.resilient.claims.iter().cloned().chain(plain).collect()
    }

    /// How many claims were kept.
    pub fn tally(&self) -> Tally {
        Tally::of(&self.claims())
    }

    /// Every run, the one that counts first.
    pub fn runs(&self) -> impl Iterator<Item = &Judged> {
        std::iter::once(&self.resilient).chain(&self.plain)
    }

    /// How it ended: as the first run that did not end by itself.
    pub fn ending(&self) -> &Ending {
        let unusual = |judged: &&Judged| judged.recording.ending != Ending::Complete;
        let run = self.runs().find(unusual).unwrap_or(&self.resilient);
        &run.recording.ending
    }

    /// What a reader must know before believing the figures.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        match self.ending() {
            Ending::Complete => {}
            Ending::Interrupted => warnings.push("the run was interrupted".to_owned()),
            Ending::Broken(why) => warnings.push(format!("the run broke off: {why}")),
        }
        for Judged {
            recording, pacing, ..
        } in self.runs().filter(|run| run.pacing.bottleneck)
        {
            let run = match recording.client {
                Client::Resilient => "",
                Client::Plain => " in the run with tonic alone",
            };
            warnings.push(format!(
                "the generator was the bottleneck{run}: {} calls were not started, and 1 of 100 \
                 started {} ms late or more",
                pacing.not_started,
                pacing.late_p99.as_millis()
            ));
        }
        if cfg!(debug_assertions) {
            warnings
                .push("this is a debug build: a release build is several times faster".to_owned());
        }
        warnings
    }

    /// When it began, in UTC.
    pub fn began_text(&self) -> String {
        humantime::format_rfc3339_seconds(self.began).to_string()
    }
}

//! Medians and their kin, and clocks.

use std::{fs, time::Duration};

use rustix::time::{ClockId, clock_gettime};

/// Many measurements of one thing.
#[derive(Debug, Clone, Default)]
pub(crate) struct Samples(Vec<f64>);

impl Samples {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The value that `share` of the samples are at most; NaN of nothing.
    pub(crate) fn quantile(&self, share: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        let last = sorted.len().saturating_sub(1) as f64;
        let index = (last * share).round() as usize;
        sorted.get(index).copied().unwrap_or(f64::NAN)
    }

    pub(crate) fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// Half of the range that the middle half of the samples lies in.
    pub(crate) fn spread(&self) -> f64 {
        (self.quantile(0.75) - self.quantile(0.25)) / 2.0
    }
}

impl Extend<f64> for Samples {
    fn extend<I: IntoIterator<Item = f64>>(&mut self, samples: I) {
        self.0.extend(samples);
    }
}

impl FromIterator<f64> for Samples {
    fn from_iter<I: IntoIterator<Item = f64>>(samples: I) -> Self {
        Self(samples.into_iter().collect())
    }
}

/// The time that this thread has run on a CPU. Unlike the time on the wall it
/// stands still while others have the CPU.
pub(crate) fn thread_cpu() -> Duration {
    cpu(ClockId::ThreadCPUTime)
}

/// The same of all threads of this process together.
pub(crate) fn process_cpu() -> Duration {
    cpu(ClockId::ProcessCPUTime)
}

fn cpu(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    let (seconds, nanos) = (time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs());
    Duration::from_secs(seconds) + Duration::from_nanos(nanos)
}

/// For how long a thread has been ready to run and had no CPU: the first one of
/// a process, or `thread-self`. The kernel counts it; where it does not, nothing
/// has waited.
pub(crate) fn waited_for_cpu(who: &str) -> Duration {
    let text = fs::read_to_string(format!("/proc/{who}/schedstat")).unwrap_or_default();
    let nanos = text.split_whitespace().nth(1);
    Duration::from_nanos(nanos.and_then(|nanos| nanos.parse().ok()).unwrap_or(0))
}

/// A line of a Markdown table.
pub(crate) fn line<S: AsRef<str>>(cells: impl IntoIterator<Item = S>) {
    let mut text = "|".to_owned();
    for cell in cells {
        text.push(' ');
        text.push_str(cell.as_ref());
        text.push_str(" |");
    }
    println!("{text}");
}

/// The first two lines of one: names on the left, numbers on the right.
pub(crate) fn head(columns: &[&str]) {
    line(columns);
    line(
        columns
            .iter()
            .enumerate()
            .map(|(n, _)| if n == 0 { "---" } else { "---:" }),
    );
}

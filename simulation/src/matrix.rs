//! Many runs: every script with every policy and every seed, on all processors.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use crate::{figures::Figures, policies::Policy, recording::Recording, run::run, script::Script};

/// The figures of many runs.
#[derive(Debug, Clone, Default)]
pub struct Matrix {
    cells: BTreeMap<(&'static str, &'static str), Cell>,
}

/// The runs of one script with one policy.
#[derive(Debug, Clone, Default)]
pub struct Cell {
    /// Figures, in the order of the seeds.
    pub figures: Vec<Figures>,
    /// The run of the first seed, to be drawn.
    pub first: Recording,
}

/// What to run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The scripts...
    pub scripts: Vec<Script>,
    /// ...each with each of these...
    pub policies: Vec<Policy>,
    /// ...and each of these.
    pub seeds: Vec<u64>,
}

impl Plan {
    /// How many runs that is.
    #[must_use]
    pub fn runs(&self) -> usize {
        self.scripts.len() * self.policies.len() * self.seeds.len()
    }

    /// Runs all of it. `done` is told after each run.
    ///
    /// Every run has a thread to itself while it lasts, so it does not matter how many there are
    /// nor in which order they end.
    #[must_use]
    pub fn run(&self, done: impl Fn() + Sync) -> Matrix {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let next = AtomicUsize::new(0);
        let results = Mutex::new(Vec::with_capacity(self.runs()));
        thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    while let Some((place, script, policy, seed)) =
                        self.nth(next.fetch_add(1, Ordering::Relaxed))
                    {
                        let recording = run(script, policy, seed);
                        let figures = Figures::of(&recording, script);
                        let first = (seed == self.seeds[0]).then_some(recording);
                        let result = (place, script.id, policy.id, figures, first);
                        lock(&results).push(result);
                        done();
                    }
                });
            }
        });
        let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
        results.sort_by_key(|(place, ..)| *place);
        let mut matrix = Matrix::default();
        for (_, script, policy, figures, first) in results {
            let cell = matrix.cells.entry((script, policy)).or_default();
            cell.figures.push(figures);
            if let Some(first) = first {
                cell.first = first;
            }
        }
        matrix
    }

    /// The run of this number; the seeds of one cell follow each other.
    fn nth(&self, place: usize) -> Option<(usize, &Script, &Policy, u64)> {
        let (policies, seeds) = (self.policies.len(), self.seeds.len());
        let script = self.scripts.get(place / (policies * seeds).max(1))?;
        let policy = &self.policies[place / seeds % policies];
        Some((place, script, policy, self.seeds[place % seeds]))
    }
}

impl Matrix {
    /// The runs of one script with one policy, if there are any.
    #[must_use]
    pub fn cell(&self, script: &str, policy: &str) -> Option<&Cell> {
        // Keys are 'static, and a lookup by anything else must look at them one by one.
        self.cells
            .iter()
            .find(|((one, other), _)| *one == script && *other == policy)
            .map(|(_, cell)| cell)
    }

    /// Adds the cells of another.
    pub fn extend(&mut self, other: Self) {
        self.cells.extend(other.cells);
    }

    /// Runs that never happened.
    #[cfg(test)]
    pub(crate) fn made_up(
        runs: impl IntoIterator<Item = (&'static str, &'static str, Figures)>,
    ) -> Self {
        let mut matrix = Self::default();
        for (script, policy, figures) in runs {
            let cell = matrix.cells.entry((script, policy)).or_default();
            cell.figures.push(figures);
        }
        matrix
    }

    /// Every run: its script, its policy and its figures.
    pub fn runs(&self) -> impl Iterator<Item = (&'static str, &'static str, &Figures)> {
        self.cells.iter().flat_map(|((script, policy), cell)| {
            cell.figures
                .iter()
                .map(|figures| (*script, *policy, figures))
        })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::policies;

    #[test]
    fn runs_are_where_they_belong_however_the_threads_went() {
        let mut scripts: Vec<_> = ["burst", "errors-50"]
            .map(Script::named)
            .into_iter()
            .flatten()
            .collect();
        for script in &mut scripts {
            script.traffic.rate = 20.0;
            script.length = Duration::from_secs(11);
        }
        let plan = Plan {
            scripts,
            policies: vec![policies::none(), policies::ours()],
            seeds: vec![3, 1, 2],
        };
        let done = AtomicUsize::new(0);
        let matrix = plan.run(|| {
            done.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(done.into_inner(), 12);
        for script in &plan.scripts {
            for policy in &plan.policies {
                let cell = matrix.cell(script.id, policy.id).unwrap();
                let alone = plan.seeds.iter().map(|seed| run(script, policy, *seed));
                let alone: Vec<_> = alone.collect();
                assert_eq!(cell.first, alone[0]);
                for (figures, recording) in cell.figures.iter().zip(&alone) {
                    assert_eq!(*figures, Figures::of(recording, script));
                }
            }
        }
        assert!(matrix.cell("outage", "ours").is_none());
    }
}

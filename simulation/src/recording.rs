//! What happened in a run, as plain data, and what collects it.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// The width of a slice.
pub const SLICE: Duration = Duration::from_millis(100);

/// How a call ended, for its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It was answered.
    Ok,
    /// It was refused by the client itself: nothing was sent.
    Refused,
    /// It was sent, and failed.
    Failed,
}

/// What happened in one tenth of a second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Slice {
    /// Calls that began in it.
    pub calls: u32,
    /// Those of them that were answered.
    pub ok: u32,
    /// Those of them that were refused by the client itself.
    pub refused: u32,
    /// Attempts that were sent in it.
    pub attempts: u32,
    /// Requests that the server worked on at its end.
    pub busy: u32,
    /// Requests that waited there at its end.
    pub queued: u32,
    /// Clients whose circuit was not closed at its end.
    pub open: u32,
}

/// What happened in a run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recording {
    /// The run in tenths of a second.
    pub slices: Vec<Slice>,
    /// How many calls that were answered took so many milliseconds, by the slice in which they
    /// began: one list for the whole run.
    pub took: Vec<(u32, u32)>,
    /// The longest that any caller waited.
    pub longest: Duration,
    /// Calls that nobody had answered when the run was over.
    pub unanswered: u32,
}

/// Collects what happens; a cheap handle.
#[derive(Debug, Clone, Default)]
pub struct Recorder(Arc<Mutex<Recording>>);

impl Recorder {
    /// A call has begun.
    pub fn call(&self, began: Duration) {
        let mut recording = self.lock();
        recording.slice(began).calls += 1;
        recording.unanswered += 1;
    }

    /// An attempt has been sent.
    pub fn attempt(&self, at: Duration) {
        self.lock().slice(at).attempts += 1;
    }

    /// A call has ended that began then, and took so long.
    pub fn ended(&self, began: Duration, took: Duration, ending: Ending) {
        let mut recording = self.lock();
        let slice = recording.slice(began);
        match ending {
            Ending::Ok => slice.ok += 1,
            Ending::Refused => slice.refused += 1,
            Ending::Failed => {}
        }
        if ending == Ending::Ok {
            let millis = |time: Duration| u32::try_from(time.as_millis()).unwrap_or(u32::MAX);
            recording.took.push((millis(began), millis(took)));
        }
        recording.longest = recording.longest.max(took);
        recording.unanswered -= 1;
    }

    /// How things stand.
    pub fn stands(&self, at: Duration, (busy, queued): (usize, usize), open: usize) {
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let mut recording = self.lock();
        let slice = recording.slice(at);
        slice.busy = count(busy);
        slice.queued = count(queued);
        slice.open = count(open);
    }

    /// What has been collected; nothing is left.
    #[must_use]
    pub fn take(&self) -> Recording {
        std::mem::take(&mut self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Recording> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Recording {
    fn slice(&mut self, at: Duration) -> &mut Slice {
        let index = place(at);
        if self.slices.len() <= index {
            self.slices.resize(index + 1, Slice::default());
        }
        &mut self.slices[index]
    }

    /// The slices between two moments.
    #[must_use]
    pub fn between(&self, from: Duration, to: Duration) -> &[Slice] {
        let end = place(to).min(self.slices.len());
        &self.slices[place(from).min(end)..end]
    }
}

/// The number of the slice in which a moment lies.
fn place(at: Duration) -> usize {
    usize::try_from(at.as_millis() / SLICE.as_millis()).unwrap_or(usize::MAX)
}

//! The slots, and the queue for them, for many threads at once.
//!
//! Nearly every attempt finds a slot free and nobody waiting, and so it is when
//! it gives the slot back. Both are one change of one word, which says how many
//! attempts are in flight and how many wait for that. Only where somebody waits
//! is there a lock:
//!
//! | what | how |
//! | --- | --- |
//! | acquire, a slot is free | changes the word |
//! | acquire, the queue is full as well | reads the word |
//! | release, nobody waits | changes the word |
//! | join the queue, leave it, release to the first in it | the lock, for a time that is bounded |
//!
//! # Why that is right
//!
//! The queue, and how many the word says are in it, change together and under
//! the lock. So who has the lock knows both, and they agree. Without the lock
//! the word changes only where it says that nobody waits, in the same step: one
//! more in flight, if that is not too many, or one less. Two things are always
//! true then:
//!
//! - *While somebody waits, no slot is free.* An attempt joins the queue in one
//!   change of the word, from one in which no slot was free or somebody waited
//!   already. From then on a slot that is given back goes to the first in the
//!   queue, and the number of those in flight stays as it is.
//! - *Who has been taken out of the queue has a slot*, whether it knows that yet
//!   or not. Only a release takes anybody out, and gives it its own slot.
//!
//! What can happen at the same time:
//!
//! - *A slot is given back while an attempt joins the queue.* Either the word
//!   says first that the slot is free: then the attempt takes it. Or it says
//!   first that somebody waits: then the release asks for the lock, and when it
//!   has it the attempt is in the queue.
//! - *All who waited leave before the release has the lock.* The queue is empty,
//!   and nobody can join it now. The slot is free.
//! - *The first in the queue gives up while it is handed a slot.* Both need the
//!   lock. Either it left first: then the slot goes to the next. Or it finds
//!   that it is not in the queue any more: then it has the slot, and gives it
//!   back. Whether it has been told makes no difference, so it may be told
//!   without the lock.
//! - *A new attempt comes while a slot is handed over.* The slot is not free in
//!   between. Where others still wait the new one joins behind them.
//!
//! So no slot is lost, none is given twice, and nobody is overtaken: slots go to
//! waiters in the order in which they joined.

use std::{
    collections::BTreeMap,
    future::Future as _,
    pin::Pin,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{
            AtomicU64,
            Ordering::{AcqRel, Relaxed},
        },
    },
    task::{Context as TaskContext, Poll},
};

use tokio::sync::oneshot;

/// A number of slots, and a queue for them.
///
/// Nearly every attempt writes to it, so it has cache lines to itself (two, as
/// processors fetch them in pairs).
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct Slots {
    /// [`Counts`].
    word: AtomicU64,
    bounds: Bounds,
    queue: Mutex<Queue>,
}

/// What is said to who asks for a slot.
#[derive(Debug)]
pub(super) enum Answer {
    /// It has one, and is to [release](Slots::release) it.
    Slot,
    /// It may wait.
    Place(Place),
    /// The queue is full as well.
    Full,
}

/// One place in the queue: to be exchanged for a slot when there is one, or to
/// be [left](Slots::leave).
#[derive(Debug)]
pub(super) struct Place {
    number: u64,
    handed: oneshot::Receiver<()>,
}

/// Those who wait, by the number of their place.
///
/// A map, as any of them may leave; they do so in the order of their deadlines
/// at best.
#[derive(Debug, Default)]
struct Queue {
    waiters: BTreeMap<u64, oneshot::Sender<()>>,
    /// Of the next who joins; good for 584 years of one each nanosecond.
    next: u64,
}

impl Slots {
    pub(super) fn new(concurrency: usize, queue: usize) -> Self {
        Self {
            word: AtomicU64::new(Counts::default().0),
            bounds: Bounds {
                concurrency: concurrency as u64,
                queue: queue as u64,
            },
            queue: Mutex::default(),
        }
    }

    pub(super) fn in_flight(&self) -> usize {
        self.counts().in_flight() as usize
    }

    pub(super) fn queued(&self) -> usize {
        self.counts().waiting() as usize
    }

    /// Asks for a slot.
    #[inline]
    pub(super) fn acquire(&self) -> Answer {
        match self.change(|counts| counts.taken(self.bounds)) {
            Ok(_) => Answer::Slot,
            Err(counts) => self.acquire_in_turn(counts),
        }
    }

    /// Gives a slot back: to the first who waits, if anybody does.
    #[inline]
    pub(super) fn release(&self) {
        if self.change(Counts::released).is_err() {
            self.hand_over();
        }
    }

    /// Gives back a place, or the slot that it has become.
    #[cold]
    pub(super) fn leave(&self, place: Place) {
        let Place { number, handed } = place;
        // First, or to leave would wake the one who leaves; and not under the
        // lock, for with it goes a waker, which may be all that is left of a
        // task, which may have a place here as well.
        drop(handed);
        let mut queue = self.lock();
        let waiter = queue.waiters.remove(&number);
        if waiter.is_some() {
            self.word.fetch_sub(Counts::WAITING, AcqRel);
        }
        drop(queue);
        if waiter.is_none() {
            self.release();
        }
    }

    // Apart, so that the way most calls go stays short.
    #[cold]
    fn acquire_in_turn(&self, counts: Counts) -> Answer {
        // Without the lock: when many are refused, that must cost little.
        if counts.asked(self.bounds).is_none() {
            return Answer::Full;
        }
        let mut queue = self.lock();
        match self.change(|counts| counts.asked(self.bounds)) {
            Ok(before) if before.has_free(self.bounds) => Answer::Slot,
            Ok(_) => Answer::Place(queue.join()),
            Err(_) => Answer::Full,
        }
    }

    #[cold]
    fn hand_over(&self) {
        let mut queue = self.lock();
        let first = queue.waiters.pop_first();
        let one_less = if first.is_some() {
            Counts::WAITING
        } else {
            Counts::IN_FLIGHT
        };
        self.word.fetch_sub(one_less, AcqRel);
        drop(queue);
        if let Some((_, waiter)) = first {
            // Not heard by one who is leaving: it finds that it has the slot.
            let _left = waiter.send(());
        }
    }

    fn counts(&self) -> Counts {
        Counts(self.word.load(Relaxed))
    }

    /// Changes the word to what `next` makes of it, if anything. What it was is
    /// returned.
    ///
    /// It can be in vain only as often as others succeed. Who gets a slot sees
    /// all that was done by who had it before.
    #[inline]
    fn change(&self, next: impl Fn(Counts) -> Option<Counts>) -> Result<Counts, Counts> {
        let mut word = self.word.load(Relaxed);
        while let Some(Counts(next)) = next(Counts(word)) {
            match self.word.compare_exchange_weak(word, next, AcqRel, Relaxed) {
                Ok(_) => return Ok(Counts(word)),
                Err(changed) => word = changed,
            }
        }
        Err(Counts(word))
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Ready when it has become a slot, which is then to be released, or left as
    /// a place is.
    pub(super) fn poll(&mut self, cx: &mut TaskContext<'_>) -> Poll<()> {
        Pin::new(&mut self.handed).poll(cx).map(|_handed| ())
    }
}

impl Queue {
    fn join(&mut self) -> Place {
        let (waiter, handed) = oneshot::channel();
        let number = self.next;
        self.next += 1;
        self.waiters.insert(number, waiter);
        Place { number, handed }
    }
}

/// How many may be in flight, and how many may wait: less than 2^32 each.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    concurrency: u64,
    queue: u64,
}

/// How many attempts are in flight, in the lower half, and how many wait, in the
/// upper one.
///
/// Each change is a function from what was to what will be, or to `None` where
/// it is not allowed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Counts(u64);

impl Counts {
    const IN_FLIGHT: u64 = 1;
    const WAITING: u64 = 1 << 32;

    fn in_flight(self) -> u64 {
        self.0 % Self::WAITING
    }

    fn waiting(self) -> u64 {
        self.0 / Self::WAITING
    }

    /// Whether a slot is free, and nobody waits for it.
    #[inline]
    fn has_free(self, bounds: Bounds) -> bool {
        // One comparison for both: who waits counts for more than all slots.
        self.0 < bounds.concurrency
    }

    /// One more in flight.
    #[inline]
    fn taken(self, bounds: Bounds) -> Option<Self> {
        self.has_free(bounds)
            .then_some(Self(self.0 + Self::IN_FLIGHT))
    }

    /// One more in flight, or else one more who waits.
    fn asked(self, bounds: Bounds) -> Option<Self> {
        let joined = || (self.waiting() < bounds.queue).then_some(Self(self.0 + Self::WAITING));
        self.taken(bounds).or_else(joined)
    }

    /// One less in flight, if nobody waits for that.
    #[inline]
    fn released(self) -> Option<Self> {
        debug_assert!(self.in_flight() > 0, "a slot is given back once");
        (self.waiting() == 0).then_some(Self(self.0 - Self::IN_FLIGHT))
    }
}

#[cfg(test)]
mod tests;

//! A server as a model: workers, a queue, and what befalls them.
//!
//! No clock, no task and no socket: it is told the time, and says what it has answered by then.
//! Times are exact, whatever the steps in which it is asked.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    fmt,
    time::Duration,
};

use crate::dice::Dice;

/// How a server is built.
#[derive(Debug, Clone, PartialEq)]
pub struct ServerConfig {
    /// Requests that are worked on at once.
    pub workers: usize,
    /// What every request takes...
    pub work: Duration,
    /// ...and what it takes beyond, on average; exponentially distributed.
    pub work_varies: Duration,
    /// Requests that may wait for a worker; one more is answered RESOURCE_EXHAUSTED. `None`: any
    /// number, which is what most servers have.
    pub queue: Option<usize>,
    /// Whether a request is thrown away unworked when its `grpc-timeout` has passed.
    pub drops_expired: bool,
}

/// What befalls it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Condition {
    /// The share of its workers that take work.
    pub capacity: f64,
    /// The share of requests that are answered UNAVAILABLE, soon and without work.
    pub failing: f64,
    /// The share of requests that are never answered.
    pub lost: f64,
    /// What is added to every answer, from this to that, while nobody works on it: something
    /// behind the server is slow.
    pub slow: Option<(Duration, Duration)>,
    /// Whether nobody works, and all goes on from there afterwards: a collection of garbage.
    pub paused: bool,
    /// Whether it takes requests and never answers. What it had is lost.
    pub hung: bool,
    /// Whether there is nobody to connect to.
    pub unreachable: bool,
}

impl Condition {
    /// Nothing befalls it.
    pub const HEALTHY: Self = Self {
        capacity: 1.0,
        failing: 0.0,
        lost: 0.0,
        slow: None,
        paused: false,
        hung: false,
        unreachable: false,
    };
}

/// As a timeline tells it.
impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |share: f64| share * 100.0;
        let slow = self.slow.unwrap_or_default();
        let parts = [
            (self.unreachable, "refuses connections".to_owned()),
            (self.hung, "hangs, and has lost what it had".to_owned()),
            (self.paused, "stands still".to_owned()),
            (
                self.failing > 0.0,
                format!("fails {} % of requests", percent(self.failing)),
            ),
            (
                self.lost > 0.0,
                format!("loses {} % of requests", percent(self.lost)),
            ),
            (
                self.slow.is_some(),
                format!("answers {:?} to {:?} later", slow.0, slow.1),
            ),
            (
                self.capacity < 1.0,
                format!("has {} % of its capacity", percent(self.capacity)),
            ),
        ];
        let mut befallen = parts.into_iter().filter(|(so, _)| *so).peekable();
        if befallen.peek().is_none() {
            return f.write_str("is well");
        }
        for (index, (_, part)) in befallen.enumerate() {
            let and = if index == 0 { "" } else { " and " };
            write!(f, "{and}{part}")?;
        }
        Ok(())
    }
}

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Answer {
    /// It was worked on.
    Ok,
    /// UNAVAILABLE.
    Unavailable,
    /// RESOURCE_EXHAUSTED: the queue is full.
    Exhausted,
    /// DEADLINE_EXCEEDED: it came to the head of the queue too late.
    Expired,
    /// It could not be connected to.
    Refused,
}

/// What a failure takes.
const FAILS_IN: Duration = Duration::from_millis(2);
/// What a refusal takes, of a full queue or of a closed port.
const REFUSES_IN: Duration = Duration::from_millis(1);

/// A request, by the number that it came with.
pub type Ticket = u32;

/// A server at work.
#[derive(Debug)]
pub struct Server {
    config: ServerConfig,
    condition: Condition,
    dice: Dice,
    queue: VecDeque<Waiting>,
    busy: usize,
    events: BinaryHeap<Reverse<Event>>,
    /// Work that stands still, with what is left of it.
    suspended: Vec<(Duration, Ticket)>,
    /// Numbers events, so that of two at one moment the earlier one comes first.
    sequence: u64,
}

#[derive(Debug)]
struct Waiting {
    ticket: Ticket,
    expires: Option<Duration>,
}

/// Ordered by time, then by age.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Event {
    at: Duration,
    sequence: u64,
    ticket: Ticket,
    what: What,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    /// A worker is done.
    Worked,
    /// An answer leaves.
    Answers(Answer),
}

impl Server {
    /// A healthy one, with nothing to do.
    #[must_use]
    pub fn new(config: ServerConfig, dice: Dice) -> Self {
        Self {
            config,
            condition: Condition::HEALTHY,
            dice,
            queue: VecDeque::new(),
            busy: 0,
            events: BinaryHeap::new(),
            suspended: Vec::new(),
            sequence: 0,
        }
    }

    /// Requests that are being worked on.
    #[must_use]
    pub fn busy(&self) -> usize {
        self.busy
    }

    /// Requests that wait for a worker.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    /// When something happens next, if nobody calls until then.
    #[must_use]
    pub fn next_event(&self) -> Option<Duration> {
        self.events.peek().map(|Reverse(event)| event.at)
    }

    /// A request comes, of which nobody wants an answer after `expires`. The time must have been
    /// [advanced](Self::advance) to `now`.
    pub fn arrive(&mut self, ticket: Ticket, expires: Option<Duration>, now: Duration) {
        let Condition {
            failing,
            lost,
            hung,
            unreachable,
            ..
        } = self.condition;
        if unreachable {
            self.answer(ticket, Answer::Refused, now + REFUSES_IN);
        } else if hung {
            // Taken, and never heard of again.
        } else if failing > 0.0 && self.dice.chance(failing) {
            self.answer(ticket, Answer::Unavailable, now + FAILS_IN);
        } else if lost > 0.0 && self.dice.chance(lost) {
            // It alone is never heard of again.
        } else if self.no_worker()
            && self
                .config
                .queue
                .is_some_and(|most| self.queue.len() >= most)
        {
            self.answer(ticket, Answer::Exhausted, now + REFUSES_IN);
        } else {
            self.queue.push_back(Waiting { ticket, expires });
            self.take_work(now);
        }
    }

    /// What befalls it from `now` on. The time must have been [advanced](Self::advance) to it.
    pub fn befall(&mut self, condition: Condition, now: Duration) {
        let before = std::mem::replace(&mut self.condition, condition);
        if condition.hung || before.hung {
            self.queue.clear();
            self.events.clear();
            self.suspended.clear();
            self.busy = 0;
        }
        if condition.paused && !before.paused {
            let (work, answers): (Vec<_>, Vec<_>) = std::mem::take(&mut self.events)
                .into_sorted_vec()
                .into_iter()
                .rev()
                .partition(|Reverse(event)| event.what == What::Worked);
            self.events.extend(answers);
            self.suspended = work
                .into_iter()
                .map(|Reverse(event)| (event.at.saturating_sub(now), event.ticket))
                .collect();
        } else if before.paused && !condition.paused {
            for (left, ticket) in std::mem::take(&mut self.suspended) {
                self.happens(ticket, What::Worked, now + left);
            }
        }
        self.take_work(now);
    }

    /// Everything up to `now` happens; what is answered is added to `answered`, in order.
    pub fn advance(&mut self, now: Duration, answered: &mut Vec<(Ticket, Answer)>) {
        while let Some(Reverse(event)) = self.events.peek()
            && event.at <= now
        {
            let Some(Reverse(event)) = self.events.pop() else {
                return;
            };
            match event.what {
                What::Answers(answer) => answered.push((event.ticket, answer)),
                What::Worked => {
                    self.busy = self.busy.saturating_sub(1);
                    match self.condition.slow {
                        Some((least, most)) => {
                            let more = self.dice.between(least, most);
                            self.answer(event.ticket, Answer::Ok, event.at + more);
                        }
                        None => answered.push((event.ticket, Answer::Ok)),
                    }
                    self.take_work(event.at);
                }
            }
        }
    }

    /// Idle workers take what waits, the oldest first.
    fn take_work(&mut self, now: Duration) {
        while !self.no_worker()
            && let Some(Waiting { ticket, expires }) = self.queue.pop_front()
        {
            if self.config.drops_expired && expires.is_some_and(|expires| expires <= now) {
                self.answer(ticket, Answer::Expired, now);
                continue;
            }
            self.busy += 1;
            let varies = self.dice.exponential(self.config.work_varies);
            self.happens(ticket, What::Worked, now + self.config.work + varies);
        }
    }

    fn no_worker(&self) -> bool {
        // At least one, or nothing would ever be answered.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let working = (self.config.workers as f64 * self.condition.capacity).round() as usize;
        self.condition.paused || self.busy >= working.max(1)
    }

    fn answer(&mut self, ticket: Ticket, answer: Answer, at: Duration) {
        self.happens(ticket, What::Answers(answer), at);
    }

    fn happens(&mut self, ticket: Ticket, what: What, at: Duration) {
        self.sequence += 1;
        self.events.push(Reverse(Event {
            at,
            sequence: self.sequence,
            ticket,
            what,
        }));
    }
}

#[cfg(test)]
mod tests;

//! Circuit breakers of other libraries, as one state machine with their settings.
//!
//! What they have in common: a failure ratio over a window, a minimum of calls, a fixed open
//! time, and probes that all must be heard before the circuit closes or opens again.

use std::{collections::VecDeque, time::Duration};

/// The settings of a breaker.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rules {
    /// What it looks back on.
    pub window: Window,
    /// Calls in the window without which it does not judge.
    pub min_calls: usize,
    /// It opens at this share of failures.
    pub failure_ratio: f64,
    /// How long it stays open.
    pub open: Duration,
    /// Probes in a half-open circuit; the share of failures among them decides.
    pub probes: usize,
}

/// What a breaker looks back on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Window {
    /// The last so many calls.
    Calls(usize),
    /// The calls of the last so much time, in ten steps.
    Time(Duration),
}

/// resilience4j's defaults (`CircuitBreakerConfig`): half of the last 100 calls, open for a
/// minute, 10 probes. A call is slow after a minute, so none is here.
pub const RESILIENCE4J: Rules = Rules {
    window: Window::Calls(100),
    min_calls: 100,
    failure_ratio: 0.5,
    open: Duration::from_secs(60),
    probes: 10,
};

/// Polly's defaults (v8, `CircuitBreakerStrategyOptions`; those of .NET's standard resilience
/// handler too): a tenth of the calls of 30 s, at least 100 of them, open for 5 s, one probe.
pub const POLLY: Rules = Rules {
    window: Window::Time(Duration::from_secs(30)),
    min_calls: 100,
    failure_ratio: 0.1,
    open: Duration::from_secs(5),
    probes: 1,
};

/// tower-resilience's defaults (0.14, `CircuitBreakerConfigBuilder::new`): half of the last 100
/// calls, open for 30 s, one probe.
pub const TOWER_RESILIENCE: Rules = Rules {
    window: Window::Calls(100),
    min_calls: 100,
    failure_ratio: 0.5,
    open: Duration::from_secs(30),
    probes: 1,
};

/// Leave to send one attempt, of a certain epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permit(u64);

/// A breaker, without a clock of its own.
#[derive(Debug)]
pub struct Machine {
    rules: Rules,
    state: State,
    epoch: u64,
}

#[derive(Debug)]
enum State {
    Closed(Past),
    Open {
        until: Duration,
    },
    HalfOpen {
        sent: usize,
        succeeded: usize,
        failed: usize,
    },
}

impl Machine {
    /// A closed one.
    #[must_use]
    pub fn new(rules: Rules) -> Self {
        Self {
            rules,
            state: State::Closed(Past::new(rules.window)),
            epoch: 0,
        }
    }

    /// Whether it lets everything pass.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed(_))
    }

    /// Asks to send an attempt.
    pub fn acquire(&mut self, now: Duration) -> Option<Permit> {
        if let State::Open { until } = self.state
            && now >= until
        {
            self.enter(State::HalfOpen {
                sent: 0,
                succeeded: 0,
                failed: 0,
            });
        }
        match &mut self.state {
            State::Closed(_) => {}
            State::HalfOpen { sent, .. } if *sent < self.rules.probes => *sent += 1,
            State::Open { .. } | State::HalfOpen { .. } => return None,
        }
        Some(Permit(self.epoch))
    }

    /// How the attempt of `permit` ended; `None`: its caller went away.
    pub fn settle(&mut self, permit: Permit, succeeded: Option<bool>, now: Duration) {
        if permit.0 != self.epoch {
            return;
        }
        let rules = self.rules;
        let opens = match (&mut self.state, succeeded) {
            (State::Closed(past), Some(success)) => {
                past.note(success, now);
                let (calls, failures) = past.counts();
                !success
                    && calls >= rules.min_calls
                    && reached(failures, calls, rules.failure_ratio)
            }
            (State::HalfOpen { sent, .. }, None) => {
                *sent -= 1;
                false
            }
            (
                State::HalfOpen {
                    succeeded: good,
                    failed: bad,
                    ..
                },
                Some(success),
            ) => {
                *(if success { good } else { bad }) += 1;
                let (good, bad) = match &self.state {
                    State::HalfOpen {
                        succeeded, failed, ..
                    } => (*succeeded, *failed),
                    _ => return,
                };
                if good + bad < rules.probes {
                    return;
                }
                let opens = reached(bad, good + bad, rules.failure_ratio);
                if !opens {
                    self.enter(State::Closed(Past::new(rules.window)));
                }
                opens
            }
            (State::Closed(_), None) | (State::Open { .. }, _) => false,
        };
        if opens {
            self.enter(State::Open {
                until: now + rules.open,
            });
        }
    }

    fn enter(&mut self, state: State) {
        self.state = state;
        self.epoch += 1;
    }
}

fn reached(failures: usize, calls: usize, ratio: f64) -> bool {
    failures as f64 >= calls as f64 * ratio
}

/// What a closed breaker remembers.
#[derive(Debug)]
struct Past {
    window: Window,
    /// Buckets of the time at which they begin, calls and failures; of a window of calls, one
    /// for each call.
    buckets: VecDeque<(Duration, usize, usize)>,
}

impl Past {
    fn new(window: Window) -> Self {
        Self {
            window,
            buckets: VecDeque::new(),
        }
    }

    fn note(&mut self, success: bool, now: Duration) {
        let failed = usize::from(!success);
        match self.window {
            Window::Calls(most) => {
                if self.buckets.len() == most {
                    self.buckets.pop_front();
                }
                self.buckets.push_back((now, 1, failed));
            }
            Window::Time(span) => {
                while self
                    .buckets
                    .front()
                    .is_some_and(|(begins, ..)| now.saturating_sub(*begins) >= span)
                {
                    self.buckets.pop_front();
                }
                match self.buckets.back_mut() {
                    Some((begins, calls, failures)) if now - *begins < span / 10 => {
                        *calls += 1;
                        *failures += failed;
                    }
                    _ => self.buckets.push_back((now, 1, failed)),
                }
            }
        }
    }

    fn counts(&self) -> (usize, usize) {
        self.buckets
            .iter()
            .fold((0, 0), |(calls, failures), (_, more, failed)| {
                (calls + more, failures + failed)
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Makes calls until it opens, and says how many that took.
    fn opens_after(machine: &mut Machine, mut succeeds: impl FnMut(usize) -> bool) -> usize {
        for call in 0..1000 {
            let permit = machine.acquire(secs(1)).unwrap();
            machine.settle(permit, Some(succeeds(call)), secs(1));
            if !machine.is_closed() {
                return call + 1;
            }
        }
        panic!("it never opens");
    }

    #[test]
    fn each_opens_by_its_own_rule() {
        for (rules, one_in) in [(RESILIENCE4J, 2), (POLLY, 10), (TOWER_RESILIENCE, 2)] {
            let mut machine = Machine::new(rules);
            assert_eq!(opens_after(&mut machine, |_| false), 100);
            assert!(
                machine
                    .acquire(secs(1) + rules.open - Duration::from_nanos(1))
                    .is_none()
            );
            assert!(machine.acquire(secs(1) + rules.open).is_some());

            let mut machine = Machine::new(rules);
            let share = |call: usize| !call.is_multiple_of(one_in);
            assert!(opens_after(&mut machine, share) <= 101, "{rules:?}");
        }
    }

    #[test]
    fn probes_decide_when_all_of_them_were_heard() {
        let mut machine = Machine::new(RESILIENCE4J);
        opens_after(&mut machine, |_| false);
        let later = secs(62);
        let probes: Vec<_> = (0..10).map(|_| machine.acquire(later).unwrap()).collect();
        assert!(machine.acquire(later).is_none());
        // One goes away, and its place is free.
        machine.settle(probes[9], None, later);
        let last = machine.acquire(later).unwrap();
        for (index, probe) in probes[..9].iter().enumerate() {
            machine.settle(*probe, Some(index >= 4), later);
            assert!(!machine.is_closed());
        }
        machine.settle(last, Some(true), later);
        assert!(machine.is_closed());
    }

    #[test]
    fn a_window_of_time_forgets() {
        let mut machine = Machine::new(POLLY);
        for second in 0..20 {
            for call in 0..10 {
                let permit = machine.acquire(secs(4 * second)).unwrap();
                // Never a tenth of what it remembers.
                let success = call > 0 || second % 2 == 0;
                machine.settle(permit, Some(success), secs(4 * second));
            }
        }
        assert!(machine.is_closed());
    }

    #[test]
    fn what_was_sent_before_a_trip_changes_nothing() {
        let mut machine = Machine::new(TOWER_RESILIENCE);
        let straggler = machine.acquire(secs(1)).unwrap();
        opens_after(&mut machine, |_| false);
        let probe = machine.acquire(secs(40)).unwrap();
        machine.settle(straggler, Some(true), secs(40));
        assert!(!machine.is_closed());
        machine.settle(probe, Some(true), secs(40));
        assert!(machine.is_closed());
    }
}

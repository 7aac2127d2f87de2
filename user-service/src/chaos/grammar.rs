//! Reads faults from text. What is written out is in `faults.rs`.
//!
//! ```text
//! chaos    = name | term { "," term }
//! name     = "off" | "flaky" | "slow" | "brownout" | "hang" | "down"
//! term     = "error=" share [ ":" CODE ]        UNAVAILABLE when unnamed
//!          | "latency=" time [ ".." time ] [ "@" share ]
//!          | "hang=" share
//!          | "capacity=" count                  calls at once; the rest queue
//!          | "queue=" count                     how many may; 50 when unsaid
//!          | "seed=" count                      another run of bad luck
//! share    = a number from 0 to 1
//! ```
//!
//! Writing and reading agree: what is written out is read back as the same
//! faults. A fault that can never happen (`error=0`) is no fault.

use std::{str::FromStr, time::Duration};

use service_kit::{
    code,
    settings::{duration_up_to, number},
};
use tonic::Code;

use super::faults::{Capacity, Chaos, ErrorFault, Latency, Share};

/// The names beside `off`, and the terms that each stands for.
const NAMED: [(&str, &str); 5] = [
    ("flaky", "error=0.3"),
    ("slow", "latency=50ms..150ms"),
    ("brownout", "capacity=4,latency=50ms"),
    ("hang", "hang=1"),
    ("down", "error=1"),
];

/// Longest text that is read at all.
const TEXT_BYTES_MAX: usize = 256;
/// Longest delay: beyond it, say `hang`.
const LATENCY_MAX: Duration = Duration::from_secs(60);
/// Most slots, and most places in the queue.
const COUNT_MAX: usize = 100_000;
/// Calls that may wait for a slot unless `queue` says otherwise.
const QUEUE_DEFAULT: usize = 50;

/// Text that describes no faults.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChaosError {
    /// One of its terms cannot be used.
    #[error("has a term that cannot be used: {term:?} {problem}")]
    Term {
        /// Which.
        term: String,
        /// Why, and what is allowed: `must be ...`.
        problem: String,
    },
    /// It is too long to be meant.
    #[error("must be at most {TEXT_BYTES_MAX} bytes long")]
    TooLong,
}

impl FromStr for Chaos {
    type Err = ChaosError;

    fn from_str(text: &str) -> Result<Self, ChaosError> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(ChaosError::TooLong);
        }
        let text = text.trim();
        if text == "off" {
            return Ok(Self::default());
        }
        let named = NAMED.iter().find(|(name, _)| *name == text);
        let mut terms = Terms::default();
        for term in named
            .map_or(text, |(_, terms)| terms)
            .split(',')
            .map(str::trim)
        {
            let refused = |problem| ChaosError::Term {
                term: term.to_owned(),
                problem,
            };
            terms.read(term).map_err(refused)?;
        }
        terms.chaos()
    }
}

/// The terms read so far.
#[derive(Default)]
struct Terms<'a> {
    seen: Vec<&'a str>,
    error: Option<ErrorFault>,
    latency: Option<Latency>,
    hang: Option<Share>,
    slots: Option<usize>,
    queue: Option<usize>,
    seed: u64,
}

impl<'a> Terms<'a> {
    fn read(&mut self, term: &'a str) -> Result<(), String> {
        let unknown = "must be off, flaky, slow, brownout, hang or down, or terms such as \
                       error=0.1:INTERNAL, latency=50ms..250ms@0.5, hang=0.01, capacity=4, \
                       queue=50, seed=7";
        let (key, value) = term.split_once('=').ok_or(unknown)?;
        let (key, value) = (key.trim_end(), value.trim_start());
        if self.seen.contains(&key) {
            return Err(format!("must be the only {key}"));
        }
        match key {
            "error" => self.error = error(value)?,
            "latency" => self.latency = latency(value)?,
            "hang" => self.hang = share(value)?,
            "capacity" => self.slots = Some(number(1..=COUNT_MAX)(value)?),
            "queue" => self.queue = Some(number(0..=COUNT_MAX)(value)?),
            "seed" => self.seed = number(0..=u64::MAX)(value)?,
            _ => return Err(unknown.to_owned()),
        }
        self.seen.push(key);
        Ok(())
    }

    /// All terms together.
    fn chaos(self) -> Result<Chaos, ChaosError> {
        if let (None, Some(queue)) = (self.slots, self.queue) {
            let problem = "must come with capacity, which makes calls queue".to_owned();
            return Err(ChaosError::Term {
                term: format!("queue={queue}"),
                problem,
            });
        }
        let queue = self.queue.unwrap_or(QUEUE_DEFAULT);
        let faults = Chaos {
            error: self.error,
            latency: self.latency,
            hang: self.hang,
            capacity: self.slots.map(|slots| Capacity { slots, queue }),
            seed: 0,
        };
        // Dice that decide nothing are no setting.
        let seed = if faults.is_off() { 0 } else { self.seed };
        Ok(Chaos { seed, ..faults })
    }
}

fn error(text: &str) -> Result<Option<ErrorFault>, String> {
    let (part, code) = match text.split_once(':') {
        Some((part, name)) => {
            let code = code::parse(name.trim()).filter(|code| *code != Code::Ok);
            (
                part,
                code.ok_or("must name a gRPC code other than OK, such as INTERNAL")?,
            )
        }
        None => (text, Code::Unavailable),
    };
    Ok(share(part)?.map(|share| ErrorFault { share, code }))
}

fn latency(text: &str) -> Result<Option<Latency>, String> {
    let (times, part) = match text.split_once('@') {
        Some((times, part)) => (times, share(part)?),
        None => (text, Some(Share::ALL)),
    };
    let (min, max) = match times.split_once("..") {
        Some((min, max)) => (delay(min)?, delay(max)?),
        None => {
            let time = delay(times)?;
            (time, time)
        }
    };
    if min > max {
        return Err("must be a range from the shorter time to the longer".to_owned());
    }
    Ok(part
        .filter(|_| !max.is_zero())
        .map(|share| Latency { min, max, share }))
}

fn delay(text: &str) -> Result<Duration, String> {
    duration_up_to(LATENCY_MAX, text.trim())
}

fn share(text: &str) -> Result<Option<Share>, String> {
    let value: f64 = number(0.0..=1.0)(text.trim()).map_err(|_| "must be a share from 0 to 1")?;
    // Exact enough, and in range: the value is at most 1.
    let millionths = (value * f64::from(Share::ONE)).round() as u32;
    Ok(Share::of_millionths(millionths).filter(|share| share.millionths() > 0))
}

#[cfg(test)]
mod tests {
    use proptest::{option, prelude::*};

    use super::*;

    fn written(text: &str) -> String {
        text.parse::<Chaos>()
            .unwrap_or_else(|error| panic!("{text:?} {error}"))
            .to_string()
    }

    fn refusal(text: &str) -> String {
        text.parse::<Chaos>().unwrap_err().to_string()
    }

    #[test]
    fn a_named_fault_stands_for_its_terms() {
        assert_eq!(written("off"), "off");
        assert_eq!(written("flaky"), "error=0.3");
        assert_eq!(written("slow"), "latency=50ms..150ms");
        assert_eq!(written("brownout"), "latency=50ms,capacity=4,queue=50");
        assert_eq!(written("hang"), "hang=1");
        assert_eq!(written("down"), "error=1");
        assert!(Chaos::default().is_off());
    }

    #[test]
    fn terms_come_in_any_order_and_with_spaces() {
        assert_eq!(
            written("seed=7, hang = 0.01,latency= 50ms .. 1m @ 0.5 ,error=0.1:INTERNAL"),
            "error=0.1:INTERNAL,latency=50ms..1m@0.5,hang=0.01,seed=7"
        );
    }

    #[test]
    fn a_fault_that_cannot_happen_is_no_fault() {
        for text in [
            "error=0",
            "hang=0",
            "latency=0ms",
            "latency=1s@0",
            "seed=7",
            "error=1e-300",
        ] {
            assert_eq!(written(text), "off", "{text}");
        }
    }

    #[test]
    fn a_refusal_says_which_term_and_what_is_allowed() {
        let term = |term: &str| format!("has a term that cannot be used: {term:?} ");
        for (text, at, allowed) in [
            ("flakey", "flakey", "must be off, flaky,"),
            ("", "", "must be off, flaky,"),
            ("hang=1,,", "", "must be off, flaky,"),
            ("hang=1,speed=3", "speed=3", "must be off, flaky,"),
            ("error=2", "error=2", "must be a share from 0 to 1"),
            ("hang=NaN", "hang=NaN", "must be a share from 0 to 1"),
            (
                "error=0.1:OK",
                "error=0.1:OK",
                "must name a gRPC code other than OK",
            ),
            (
                "error=0.1:OOPS",
                "error=0.1:OOPS",
                "must name a gRPC code other than OK",
            ),
            ("latency=50", "latency=50", "must be a time with its unit"),
            (
                "latency=2s..1s",
                "latency=2s..1s",
                "must be a range from the shorter",
            ),
            ("latency=2h", "latency=2h", "must be at most 1m"),
            (
                "capacity=0",
                "capacity=0",
                "must be a number from 1 to 100000",
            ),
            ("queue=5", "queue=5", "must come with capacity"),
            ("hang=1,hang=0.5", "hang=0.5", "must be the only hang"),
        ] {
            let refusal = refusal(text);
            assert!(
                refusal.starts_with(&(term(at) + allowed)),
                "{text:?}: {refusal}"
            );
        }
        assert_eq!(refusal(&"x".repeat(1000)), "must be at most 256 bytes long");
    }

    prop_compose! {
        fn shares()(millionths in 1..=Share::ONE) -> Share { Share::of_millionths(millionths).unwrap() }
    }

    prop_compose! {
        fn errors()(share in shares(), code in 1..=16) -> ErrorFault {
            ErrorFault { share, code: Code::from_i32(code) }
        }
    }

    prop_compose! {
        fn latencies()(a in 0..=60_000_000_000u64, b in 1..=60_000_000_000u64, share in shares())
            -> Latency
        {
            let (min, max) = (Duration::from_nanos(a.min(b)), Duration::from_nanos(a.max(b)));
            Latency { min, max, share }
        }
    }

    prop_compose! {
        fn capacities()(slots in 1..=COUNT_MAX, queue in 0..=COUNT_MAX) -> Capacity {
            Capacity { slots, queue }
        }
    }

    prop_compose! {
        fn faults()(
            error in option::of(errors()),
            latency in option::of(latencies()),
            hang in option::of(shares()),
            capacity in option::of(capacities()),
            seed: u64,
        ) -> Chaos {
            let faults = Chaos { error, latency, hang, capacity, seed: 0 };
            let seed = if faults.is_off() { 0 } else { seed };
            Chaos { seed, ..faults }
        }
    }

    proptest! {
        #[test]
        fn what_is_written_out_is_read_back(chaos in faults()) {
            prop_assert_eq!(chaos.to_string().parse::<Chaos>(), Ok(chaos));
        }

        #[test]
        fn no_text_makes_the_reader_panic(text in any::<String>()) {
            let _ = text.parse::<Chaos>();
        }

        #[test]
        fn no_text_that_is_nearly_right_makes_the_reader_panic(
            text in "(error|latency|hang|capacity|queue|seed)=[-+0-9.e@:msu, =a-zN]{0,20}",
        ) {
            if let Ok(chaos) = text.parse::<Chaos>() {
                prop_assert_eq!(chaos.to_string().parse::<Chaos>(), Ok(chaos));
            }
        }
    }
}

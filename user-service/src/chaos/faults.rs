//! Which faults there are, and how they are written out.

use std::{fmt, time::Duration};

use service_kit::{code, settings::shown};
use tonic::Code;

/// The faults that a service injects into its own answers. None, by default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chaos {
    /// Calls to fail.
    pub error: Option<ErrorFault>,
    /// Calls to delay.
    pub latency: Option<Latency>,
    /// Calls to leave hanging until the faults change, or for as long as a call may
    /// last here (two minutes).
    pub hang: Option<Share>,
    /// Calls to serve at once.
    pub capacity: Option<Capacity>,
    /// Where the dice start. Zero unless said otherwise.
    pub seed: u64,
}

/// A share of all calls, from 0 to 1, in millionths: what is written out is
/// what was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share(u32);

/// How many calls fail, and as what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErrorFault {
    /// How many.
    pub share: Share,
    /// As what; never OK.
    pub code: Code,
}

/// How many calls are delayed, and by how much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Latency {
    /// The shortest delay.
    pub min: Duration,
    /// The longest; any between the two is as likely.
    pub max: Duration,
    /// How many.
    pub share: Share,
}

/// How many calls are served at once, and how many may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// At once.
    pub slots: usize,
    /// Waiting; one more is RESOURCE_EXHAUSTED.
    pub queue: usize,
}

impl Share {
    /// All calls.
    pub const ALL: Self = Self(Self::ONE);
    pub(super) const ONE: u32 = 1_000_000;

    /// The share of so many millionths, if that is a share.
    #[must_use]
    pub fn of_millionths(millionths: u32) -> Option<Self> {
        (millionths <= Self::ONE).then_some(Self(millionths))
    }

    /// In millionths.
    #[must_use]
    pub fn millionths(self) -> u32 {
        self.0
    }
}

impl Chaos {
    /// Whether nothing is injected.
    #[must_use]
    pub fn is_off(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", f64::from(self.0) / f64::from(Self::ONE))
    }
}

impl fmt::Display for ErrorFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error={}", self.share)?;
        if self.code == Code::Unavailable {
            Ok(())
        } else {
            write!(f, ":{}", code::name(self.code))
        }
    }
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "latency={}", shown(self.min))?;
        if self.max != self.min {
            write!(f, "..{}", shown(self.max))?;
        }
        if self.share == Share::ALL {
            Ok(())
        } else {
            write!(f, "@{}", self.share)
        }
    }
}

impl fmt::Display for Capacity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "capacity={},queue={}", self.slots, self.queue)
    }
}

impl fmt::Display for Chaos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let terms = [
            self.error.map(|error| error.to_string()),
            self.latency.map(|latency| latency.to_string()),
            self.hang.map(|hang| format!("hang={hang}")),
            self.capacity.map(|capacity| capacity.to_string()),
            (self.seed != 0).then(|| format!("seed={}", self.seed)),
        ];
        let terms: Vec<String> = terms.into_iter().flatten().collect();
        if terms.is_empty() {
            f.write_str("off")
        } else {
            f.write_str(&terms.join(","))
        }
    }
}

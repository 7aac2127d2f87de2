//! What befalls the server, and who calls it meanwhile.

use std::time::Duration;

use crate::{
    policies::{self, Policy},
    server::{Condition, ServerConfig},
};

/// Who calls.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Traffic {
    /// Calls a second, of all clients together.
    pub rate: f64,
    /// Clients; each has its own budget and breaker.
    pub clients: usize,
}

/// A script.
#[derive(Debug, Clone)]
pub struct Script {
    /// Its name on the command line and in tables.
    pub id: &'static str,
    /// What happens, in a line.
    pub title: &'static str,
    /// Who calls.
    pub traffic: Traffic,
    /// Others who call too, and by what policy. They are part of the fault: what becomes of
    /// their calls is not recorded.
    pub others: Option<(Policy, Traffic)>,
    /// The server.
    pub server: ServerConfig,
    /// What befalls it, and when.
    pub steps: Vec<(Duration, Condition)>,
    /// When it begins: figures are taken from here on.
    pub begins: Duration,
    /// When it is over, if it is: clients must be well again soon after.
    pub over: Option<Duration>,
    /// How long all of it lasts.
    pub length: Duration,
}

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// One client of 500 calls a second, half of what the server can do: what becomes of a call when
/// nothing but the fault is in its way.
const ALONE: Traffic = Traffic {
    rate: 500.0,
    clients: 1,
};

/// Ten clients that use three quarters of the server.
const BUSY: Traffic = Traffic {
    rate: 750.0,
    clients: 10,
};

/// 20 workers of 20 ms on average: 1000 requests a second. Its queue has no end and it works on
/// what nobody waits for any more, as servers do unless somebody sees to it.
const SERVER: ServerConfig = ServerConfig {
    workers: 20,
    work: ms(10),
    work_varies: ms(10),
    queue: None,
    drops_expired: false,
};

const HEALTHY: Condition = Condition::HEALTHY;

const fn failing(share: f64) -> Condition {
    Condition {
        failing: share,
        ..HEALTHY
    }
}

const fn capacity(share: f64) -> Condition {
    Condition {
        capacity: share,
        ..HEALTHY
    }
}

impl Script {
    /// Everything that is tried, in the order of the tables.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let mut all = vec![
            Self::errors("errors-1", "1 % of requests fail", 0.01),
            Self::errors("errors-5", "5 % of requests fail", 0.05),
            Self::errors("errors-10", "10 % of requests fail", 0.10),
            Self::errors("errors-25", "25 % of requests fail", 0.25),
            // As the load test has it, on real sockets.
            Self::errors("errors-30", "30 % of requests fail", 0.30),
            Self::errors("errors-50", "50 % of requests fail", 0.50),
            Self::errors("errors-75", "75 % of requests fail", 0.75),
        ];
        all.extend([
            Self::lost("lost-3", "3 % of requests are never answered", 0.03),
            Self::lost("lost-10", "10 % of requests are never answered", 0.10),
            Self::lost("lost-25", "25 % of requests are never answered", 0.25),
        ]);
        all.extend(Self::outages());
        all.extend(Self::losses());
        all.extend(Self::oddities());
        all
    }

    /// The script of this name.
    #[must_use]
    pub fn named(id: &str) -> Option<Self> {
        Self::all().into_iter().find(|script| script.id == id)
    }

    /// Requests fail independently of each other.
    fn errors(id: &'static str, title: &'static str, share: f64) -> Self {
        Self::throughout(id, title, failing(share))
    }

    /// The same, and silently.
    fn lost(id: &'static str, title: &'static str, share: f64) -> Self {
        let lost = Condition {
            lost: share,
            ..HEALTHY
        };
        Self::throughout(id, title, lost)
    }

    /// Something that lasts from beginning to end.
    fn throughout(id: &'static str, title: &'static str, what: Condition) -> Self {
        Self {
            traffic: ALONE,
            steps: vec![(Duration::ZERO, what)],
            begins: Duration::ZERO,
            over: None,
            ..Self::fault(id, title, what, Duration::ZERO)
        }
    }

    /// Ten clients, and something that begins after 5 s and lasts a while.
    fn fault(id: &'static str, title: &'static str, what: Condition, lasts: Duration) -> Self {
        let over = secs(5) + lasts;
        Self {
            id,
            title,
            traffic: BUSY,
            others: None,
            server: SERVER,
            steps: vec![(secs(5), what), (over, HEALTHY)],
            begins: secs(5),
            over: Some(over),
            length: secs(30),
        }
    }

    /// Something that comes and goes, 8 times in 16 s.
    fn again(id: &'static str, title: &'static str, what: Condition, lasts: Duration) -> Self {
        let steps = (0..8).flat_map(|round| {
            let begins = secs(5 + 2 * round);
            [(begins, what), (begins + lasts, HEALTHY)]
        });
        Self {
            steps: steps.collect(),
            over: Some(secs(19) + lasts),
            ..Self::fault(id, title, what, lasts)
        }
    }

    fn outages() -> Vec<Self> {
        let minute = |id, title, rate| Self {
            traffic: Traffic { rate, clients: 1 },
            length: secs(60),
            ..Self::errors(id, title, 1.0)
        };
        vec![
            minute(
                "minute-500",
                "all requests fail for a minute, 500 calls/s",
                500.0,
            ),
            minute(
                "minute-20",
                "all requests fail for a minute, 20 calls/s",
                20.0,
            ),
            Self::fault(
                "outage",
                "all requests fail for 10 s",
                failing(1.0),
                secs(10),
            ),
            Self::fault(
                "unreachable",
                "connections are refused for 10 s",
                Condition {
                    unreachable: true,
                    ..HEALTHY
                },
                secs(10),
            ),
            Self::fault(
                "hang",
                "the server hangs for 5 s and loses what it had",
                Condition {
                    hung: true,
                    ..HEALTHY
                },
                secs(5),
            ),
            Self::fault(
                "burst",
                "all requests fail for 100 ms",
                failing(1.0),
                ms(100),
            ),
            Self {
                steps: vec![
                    (secs(5), failing(1.0)),
                    (secs(10), capacity(0.1)),
                    (secs(11), HEALTHY),
                ],
                ..Self::fault(
                    "cold-start",
                    "an outage of 5 s, then one second at a tenth of the capacity",
                    HEALTHY,
                    secs(6),
                )
            },
        ]
    }

    fn losses() -> Vec<Self> {
        let loss = |id, title| Self::fault(id, title, capacity(0.2), secs(5));
        vec![
            loss("capacity-75", "a fifth of the capacity for 5 s, 75 % used"),
            Self {
                traffic: Traffic {
                    rate: 900.0,
                    ..BUSY
                },
                ..loss("capacity-90", "a fifth of the capacity for 5 s, 90 % used")
            },
            Self {
                server: ServerConfig {
                    drops_expired: true,
                    ..SERVER
                },
                ..loss(
                    "drops",
                    "capacity-75, and the server drops what has expired",
                )
            },
            Self {
                server: ServerConfig {
                    queue: Some(100),
                    ..SERVER
                },
                ..loss("bounded", "capacity-75, and the server's queue ends at 100")
            },
            Self {
                traffic: Traffic {
                    rate: 550.0,
                    clients: 7,
                },
                // Their 200 calls are 600 attempts while they fail: with ours more than the
                // server can do, for ever; without ours less.
                others: Some((
                    policies::naive(),
                    Traffic {
                        rate: 200.0,
                        clients: 3,
                    },
                )),
                ..Self::fault(
                    "storm",
                    "a fifth of the capacity for 2 s, and others retry without a budget",
                    capacity(0.2),
                    secs(2),
                )
            },
        ]
    }

    fn oddities() -> Vec<Self> {
        vec![
            Self::fault(
                "slow",
                "every answer takes 100 to 300 ms more for 8 s",
                Condition {
                    slow: Some((ms(100), ms(300))),
                    ..HEALTHY
                },
                secs(8),
            ),
            Self {
                steps: (0..4)
                    .flat_map(|round| {
                        let begins = secs(5 + 4 * round);
                        [(begins, failing(1.0)), (begins + secs(2), HEALTHY)]
                    })
                    .collect(),
                over: Some(secs(19)),
                ..Self::fault(
                    "flapping",
                    "down for 2 s, up for 2 s, four times",
                    HEALTHY,
                    secs(2),
                )
            },
            Self::again(
                "pauses",
                "nothing moves for 300 ms, every 2 s",
                Condition {
                    paused: true,
                    ..HEALTHY
                },
                ms(300),
            ),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_script_has_a_name_of_its_own_and_ends_well() {
        let all = Script::all();
        for (index, script) in all.iter().enumerate() {
            assert!(
                all[..index].iter().all(|other| other.id != script.id),
                "{}",
                script.id
            );
            assert!(
                script.steps.is_sorted_by_key(|(at, _)| *at),
                "{}",
                script.id
            );
            if let Some(over) = script.over {
                assert_eq!(script.steps.last(), Some(&(over, HEALTHY)), "{}", script.id);
                // Enough is left to see whether clients recover.
                assert!(over + secs(9) <= script.length, "{}", script.id);
            }
        }
    }
}

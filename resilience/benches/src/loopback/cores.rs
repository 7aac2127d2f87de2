//! Where client and server run.

use std::io;

use rustix::thread::{CpuSet, Pid, sched_getaffinity, sched_setaffinity};

use super::server::Process;

/// On how many cores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cores {
    /// Both on the same.
    One,
    /// Each on one of its own.
    Two,
}

impl Cores {
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::One => "client and server on one core",
            Self::Two => "client and server on a core each",
        }
    }
}

/// The cores that this process may run on.
#[derive(Debug)]
pub(super) struct Allowed(Vec<usize>);

impl Allowed {
    pub(super) fn now() -> io::Result<Self> {
        let set = sched_getaffinity(None)?;
        let cores = (0..CpuSet::MAX_CPU).filter(|&core| set.is_set(core));
        Ok(Self(cores.collect()))
    }

    /// Puts this thread and the server where they are to be. Where there is one
    /// core only, both are on it.
    pub(super) fn place(&self, cores: Cores, server: &Process) -> io::Result<()> {
        let client = self.0.first().copied().unwrap_or(0);
        let other = match cores {
            Cores::One => client,
            Cores::Two => self.0.get(1).copied().unwrap_or(client),
        };
        let set = |core| {
            let mut set = CpuSet::new();
            set.set(core);
            set
        };
        sched_setaffinity(None, &set(client))?;
        let server = i32::try_from(server.id()).ok().and_then(Pid::from_raw);
        sched_setaffinity(server, &set(other))?;
        Ok(())
    }
}

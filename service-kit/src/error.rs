//! Why a service did not start, and what is behind an error.

use std::{error::Error, fmt, io, iter, net::SocketAddr};

use crate::{SettingError, database::DatabaseUrl};

/// Why a service did not start, as one line that names the setting to change.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A setting, or two settings together, cannot be used.
    #[error(transparent)]
    Setting(#[from] SettingError),

    /// A port could not be opened.
    #[error("{variable}={value}: cannot listen on {address}: {source}")]
    Listen {
        /// The environment variable that names the port (or the address, when
        /// that is at fault).
        variable: &'static str,
        /// What the variable holds.
        value: String,
        /// Where listening was tried.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },

    /// The database cannot be used.
    #[error("DATABASE_URL={url}: cannot open the database: {reason}")]
    Database {
        /// Where it is, without its password.
        url: DatabaseUrl,
        /// What stands in the way, in a line.
        reason: String,
    },

    /// The process has a metrics recorder already, and it is not ours: our
    /// metrics would go nowhere.
    #[error("metrics are already being recorded by another recorder in this process")]
    Recorder,

    /// The descriptors for reflection do not fit the services.
    #[error("reflection: {0}")]
    Reflection(String),
}

impl StartError {
    /// A database that could not be opened.
    pub(crate) fn database(url: &DatabaseUrl, reason: &dyn fmt::Display) -> Self {
        Self::Database {
            url: url.clone(),
            reason: reason.to_string().replace('\n', " "),
        }
    }

    /// A port that could not be opened, blamed on the variable at fault.
    pub(crate) fn listen(variable: &'static str, address: SocketAddr, source: io::Error) -> Self {
        let (variable, value) = match source.kind() {
            io::ErrorKind::AddrNotAvailable => ("HOST", address.ip().to_string()),
            _ => (variable, address.port().to_string()),
        };
        Self::Listen {
            variable,
            value,
            address,
            source,
        }
    }

    /// The exit code of a process that stops for this: 2 for settings (as for
    /// any misuse of a command line), 1 for the rest.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Setting(_) => 2,
            _ => 1,
        }
    }
}

/// What is behind an error, and the errors around that one: those of a client say
/// only that it failed.
#[must_use]
pub fn innermost(error: &dyn Error) -> &dyn Error {
    // Deeper than any chain there is.
    let causes = iter::successors(Some(error), |error| (**error).source());
    causes.take(16).last().unwrap_or(error)
}

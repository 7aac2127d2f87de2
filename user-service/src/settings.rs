//! The settings of this service.

use clap::{ArgAction, Args};
use service_kit::{ServeSettings, database::DatabaseUrl, settings::on_off};

use crate::chaos::Chaos;

/// Everything that can be set.
///
/// # Defaults
///
/// No faults, no chaos API, users in memory, any free ports on the loopback
/// address (the program has ports and a file of its own).
#[derive(Debug, Clone, Args)]
pub struct Settings {
    /// Where to listen.
    #[command(flatten)]
    pub serve: ServeSettings,

    /// Where the users are: sqlite:PATH, which is made when it is not there, or
    /// postgres://user@host/database.
    #[arg(
        long,
        env = "DATABASE_URL",
        value_name = "URL",
        default_value = "sqlite:data/user-service.db"
    )]
    pub database_url: DatabaseUrl,

    /// Faults to inject.
    #[arg(
        long,
        env = "CHAOS",
        value_name = "FAULTS",
        default_value_t = Chaos::default(),
        help = "Faults to inject: off, flaky, slow, brownout, hang or down, or terms separated by \
                commas: error=SHARE[:CODE], latency=TIME[..TIME][@SHARE], hang=SHARE, capacity=N, \
                queue=N, seed=N"
    )]
    pub chaos: Chaos,

    /// Whether the faults can be read and changed over gRPC (chaos.v1.Chaos):
    /// on or off.
    #[arg(
        long,
        env = "CHAOS_API",
        value_name = "ON|OFF",
        action = ArgAction::Set,
        default_value = "off",
        value_parser = on_off
    )]
    pub chaos_api: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            serve: ServeSettings::default(),
            database_url: DatabaseUrl::memory(),
            chaos: Chaos::default(),
            chaos_api: false,
        }
    }
}

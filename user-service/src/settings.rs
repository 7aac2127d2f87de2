//! The settings of this service.

use clap::{ArgAction, Args};
use service_kit::{ServeSettings, settings::on_off};

use crate::chaos::Chaos;

/// Everything that can be set.
///
/// # Defaults
///
/// No faults, no chaos API, any free ports on the loopback address (the program
/// has ports of its own).
#[derive(Debug, Clone, Default, Args)]
pub struct Settings {
    /// Where to listen.
    #[command(flatten)]
    pub serve: ServeSettings,

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

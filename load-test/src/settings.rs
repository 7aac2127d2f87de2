//! The command line, and the plan that it amounts to.

use std::{
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Parser;
use service_kit::settings::{duration, number};

use crate::{
    phases::{Kind, Phases, PhasesError},
    url::Url,
};

/// How long a target without a chaos switch is watched, when nothing else is said.
const UNTOUCHED: Duration = Duration::from_secs(30);
/// More calls than this are not recorded: the recording is held in memory.
const CALLS_MAX: u64 = 2_000_000;

/// Drives an order service through the faults of the user service behind it, and checks what
/// its client promises.
///
/// Without a target, both services run inside this process.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "load-test",
    version,
    // What is given last counts, so that a script can change what another one has set.
    args_override_self = true,
    after_help = "Exit status: 0 no claim was missed, 1 one was (or the run broke off), \
                  2 it could not start, 130 interrupted."
)]
pub struct Settings {
    /// Calls started per second.
    #[arg(long, default_value = "200", value_parser = number(1..=20_000_u32))]
    pub rate: u32,

    /// The phases: standard (81 s), short (43 s), or a list like steady=8s,errors-10=12s,hang=8s.
    /// Known are steady, slow, errors-1 to errors-100, flaky (errors-30), brownout, hang, down,
    /// stopped and recovery. Services elsewhere are not stopped: standard takes 71 s there,
    /// short 36 s.
    #[arg(long)]
    pub phases: Option<Phases>,

    /// How long all phases take together: each is stretched or shortened in proportion. Without
    /// a chaos switch, how long the target is watched [default: 30s].
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub duration: Option<Duration>,

    /// Seed of all dice: who orders what, and which answers fail.
    #[arg(long, default_value = "7", value_parser = number(0..=u64::MAX))]
    pub seed: u64,

    /// Then walk the same phases with tonic alone, and show both side by side.
    #[arg(long)]
    pub compare: bool,

    /// An order service that runs elsewhere, such as localhost:50052.
    #[arg(long, value_name = "URL")]
    pub target: Option<Url>,

    /// The user service behind it, started with CHAOS_API=on, such as localhost:50051.
    #[arg(long, value_name = "URL", requires = "target")]
    pub chaos_target: Option<Url>,

    /// The order service's metrics, such as localhost:9052/metrics.
    #[arg(long, value_name = "URL", requires = "target")]
    pub metrics: Option<Url>,

    /// The target's RESILIENCE_DEADLINE [default: 1s]
    #[arg(long, value_name = "TIME", value_parser = duration, requires = "target")]
    pub deadline: Option<Duration>,

    /// The target's RESILIENCE_BUDGET_CAPACITY [default: 20]
    #[arg(long, value_name = "N", value_parser = number(0..=1000_u32), requires = "target")]
    pub budget: Option<u32>,

    /// Where the report goes; - for standard output.
    #[arg(long, value_name = "FILE", default_value = "load-test-report.html")]
    pub out: PathBuf,

    /// Where the figures go as JSON; - for standard output.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,

    /// Where the main picture goes, as SVG; - for standard output.
    #[arg(long, value_name = "FILE")]
    pub plot: Option<PathBuf>,

    /// Port for metrics about the run itself, on all addresses: its phase, and what became of
    /// the calls. None when nothing is said.
    #[arg(long, value_name = "PORT")]
    pub metrics_port: Option<u16>,

    /// Where to say at which address those metrics are, in the form that Prometheus'
    /// file_sd_configs reads. Removed at the end.
    #[arg(long, value_name = "FILE", requires = "metrics_port")]
    pub announce: Option<PathBuf>,

    /// No colours, whatever the terminal.
    #[arg(long)]
    pub no_color: bool,
}

/// What is to be done, after the settings were checked against each other.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Calls started per second.
    pub rate: u32,
    /// What happens when.
    pub phases: Phases,
    /// Seed of all dice.
    pub seed: u64,
    /// Whether tonic alone is walked through the same phases.
    pub compare: bool,
    /// Where the services are.
    pub place: Place,
}

/// Where the services are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Inside this process.
    Embedded,
    /// Elsewhere.
    Target(Box<Target>),
}

/// Services that run elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The order service.
    pub orders: Url,
    /// The user service, if its chaos may be changed.
    pub chaos: Option<Url>,
    /// The order service's metrics, if they can be read.
    pub metrics: Option<Url>,
    /// The order service's deadline.
    pub deadline: Duration,
    /// How many retries the order service's budget holds when it is full.
    pub budget: u32,
}

impl Settings {
    /// The phases, with what is not said filled in.
    fn phases(&self) -> Result<Phases, PlanError> {
        let phases = match (&self.phases, &self.target, &self.chaos_target) {
            (Some(phases), ..) => phases.clone(),
            (None, Some(_), None) => Phases::untouched(UNTOUCHED),
            (None, ..) => Phases::standard(),
        };
        // A list of one's own is taken at its word; of ours, all that is possible is walked.
        let ours = phases == Phases::standard() || phases == Phases::short();
        let phases = match &self.target {
            Some(_) if ours => phases.elsewhere(),
            _ => phases,
        };
        Ok(match self.duration {
            Some(duration) => phases.stretched(duration)?,
            None => phases,
        })
    }

    /// Whether standard output is for programs to read, and not for people.
    pub fn stdout_is_taken(&self) -> bool {
        self.outputs().any(|(_, file)| is_stdout(file))
    }

    /// What is written at the end, and where.
    pub(crate) fn outputs(&self) -> impl Iterator<Item = (&'static str, &Path)> {
        let out = ("--out", Some(&self.out));
        let more = [
            ("--json", self.json.as_ref()),
            ("--plot", self.plot.as_ref()),
        ];
        let named = [out].into_iter().chain(more);
        named.filter_map(|(option, file)| Some((option, file?.as_path())))
    }

    /// Refuses one file for two outputs, of which the later would overwrite the other.
    fn outputs_differ(&self) -> Result<(), PlanError> {
        let place = |file: &Path| std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
        let mut seen: Vec<(&'static str, &Path)> = Vec::new();
        for (option, file) in self.outputs() {
            if let Some((other, _)) = seen.iter().find(|(_, other)| place(other) == place(file)) {
                return Err(match is_stdout(file) {
                    true => PlanError::OneStdout(other, option),
                    false => PlanError::OneFile(other, option, file.to_owned()),
                });
            }
            seen.push((option, file));
        }
        Ok(())
    }

    /// Checks the settings against each other.
    ///
    /// # Errors
    /// The first two that do not go together.
    pub fn plan(&self) -> Result<Plan, PlanError> {
        let phases = self.phases()?;
        if self.target.is_some() {
            if self.compare {
                return Err(PlanError::CompareTarget);
            }
            if phases.need_stop() {
                return Err(PlanError::StopTarget);
            }
            let fault = phases.iter().find(|phase| !phase.kind.is_clean());
            if let (Some(fault), None) = (fault, &self.chaos_target) {
                return Err(PlanError::NoSwitch(fault.kind));
            }
        }
        self.outputs_differ()?;
        let calls = (phases.length().as_secs_f64() * f64::from(self.rate)).ceil() as u64;
        if calls > CALLS_MAX {
            return Err(PlanError::TooManyCalls(calls));
        }
        let defaults = order_service::Settings::default().resilience;
        let place = match &self.target {
            None => Place::Embedded,
            Some(orders) => Place::Target(Box::new(Target {
                orders: orders.clone(),
                chaos: self.chaos_target.clone(),
                metrics: self.metrics.clone(),
                deadline: self.deadline.unwrap_or(defaults.deadline),
                budget: self.budget.unwrap_or(defaults.budget_capacity),
            })),
        };
        Ok(Plan {
            rate: self.rate,
            phases,
            seed: self.seed,
            compare: self.compare,
            place,
        })
    }
}

/// Whether a file is named in the way that means standard output.
pub(crate) fn is_stdout(file: &Path) -> bool {
    file == Path::new("-")
}

/// The plan as the arguments that lead to it again.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "--rate {} --seed {} --phases ", self.rate, self.seed)?;
        match &self.phases {
            phases if *phases == named(&self.place, Phases::standard()) => write!(f, "standard")?,
            phases if *phases == named(&self.place, Phases::short()) => write!(f, "short")?,
            phases => write!(f, "{phases}")?,
        }
        if self.compare {
            write!(f, " --compare")?;
        }
        if let Place::Target(target) = &self.place {
            write!(f, " --target {}", target.orders)?;
            if let Some(chaos) = &target.chaos {
                write!(f, " --chaos-target {chaos}")?;
            }
            if let Some(metrics) = &target.metrics {
                write!(f, " --metrics {metrics}")?;
            }
            let deadline = service_kit::settings::shown(target.deadline);
            write!(f, " --deadline {}", deadline.replace(' ', ""))?;
            write!(f, " --budget {}", target.budget)?;
        }
        Ok(())
    }
}

/// What a named list of phases amounts to there.
fn named(place: &Place, phases: Phases) -> Phases {
    match place {
        Place::Embedded => phases,
        Place::Target(_) => phases.elsewhere(),
    }
}

/// Settings that do not go together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The other client is a setting of a service that is not ours.
    #[error("--compare cannot be used with --target: it needs services of its own")]
    CompareTarget,
    /// Only a process of ours can be stopped.
    #[error("the phase stopped cannot be used with --target: it needs services of its own")]
    StopTarget,
    /// Somebody has to bring the fault about.
    #[error("the phase {0} needs --chaos-target: a user service started with CHAOS_API=on")]
    NoSwitch(Kind),
    /// The phases cannot take as long as was asked for.
    #[error(transparent)]
    Duration(#[from] PhasesError),
    /// Two things cannot be told apart there.
    #[error("{0} and {1} cannot both be -: only one of them can go to standard output")]
    OneStdout(&'static str, &'static str),
    /// One would overwrite the other.
    #[error("{0} and {1} cannot both be {file}: one would overwrite the other", file = .2.display())]
    OneFile(&'static str, &'static str, PathBuf),
    /// The recording is held in memory.
    #[error("{0} calls are too many: rate times length may be {CALLS_MAX} at most")]
    TooManyCalls(u64),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(arguments: &str) -> Result<Settings, clap::Error> {
        Settings::try_parse_from(
            ["load-test"]
                .into_iter()
                .chain(arguments.split_whitespace()),
        )
    }

    fn plan(arguments: &str) -> Result<Plan, PlanError> {
        settings(arguments).unwrap().plan()
    }

    #[test]
    fn with_no_arguments_the_whole_story_runs_in_this_process() {
        let plan = plan("").unwrap();
        assert_eq!(plan.place, Place::Embedded);
        assert_eq!(plan.phases, Phases::standard());
        assert_eq!((plan.rate, plan.seed, plan.compare), (200, 7, false));
    }

    #[test]
    fn a_plan_can_be_printed_and_given_again() {
        for arguments in [
            "",
            "--phases short --compare --rate 50 --seed 1",
            "--phases steady=8s,errors-12=90s",
            "--target localhost:50052",
            "--target a:1 --chaos-target b:2 --metrics c:3/metrics --deadline 1500ms --budget 0",
            "--target a:1 --chaos-target b:2 --phases short",
            "--duration 100s",
            "--target a:1 --duration 7s",
        ] {
            let plan = plan(arguments).unwrap();
            let again = settings(&plan.to_string()).unwrap().plan().unwrap();
            assert_eq!(format!("{plan:?}"), format!("{again:?}"));
        }
    }

    #[test]
    fn a_target_has_the_settings_that_it_is_said_to_have() {
        let target = |arguments: &str| match plan(arguments).unwrap().place {
            Place::Target(target) => (target.deadline.as_millis(), target.budget),
            Place::Embedded => panic!("a target was given"),
        };
        assert_eq!(target("--target a:1"), (1_000, 20));
        let other = target("--target a:1 --deadline 500ms --budget 100");
        assert_eq!(other, (500, 100));
        assert!(settings("--budget 100").is_err());
    }

    #[test]
    fn a_target_without_a_switch_is_only_watched() {
        let watched = plan("--target localhost:50052").unwrap();
        assert!(watched.phases.iter().all(|phase| phase.kind.is_clean()));
        let refused = plan("--target localhost:50052 --phases steady=2s,hang=8s").unwrap_err();
        assert_eq!(refused, PlanError::NoSwitch(Kind::Hang));
    }

    #[test]
    fn services_elsewhere_go_through_all_that_is_possible_there() {
        let plan = plan("--target a:1 --chaos-target b:2").unwrap();
        assert_eq!(plan.phases, Phases::standard().elsewhere());
        assert_eq!(plan.phases.length(), Duration::from_secs(71));
        let plan = self::plan("--target a:1 --chaos-target b:2 --phases short").unwrap();
        assert_eq!(plan.phases.length(), Duration::from_secs(36));
    }

    #[test]
    fn a_duration_is_that_of_all_phases_together() {
        let length = |arguments: &str| plan(arguments).unwrap().phases.length().as_secs();
        assert_eq!(length("--duration 2m"), 120);
        assert_eq!(length("--duration 5m --target a:1"), 300);
        assert_eq!(length("--phases steady=2s,hang=2s --duration 10s"), 10);
        let refused = plan("--duration 5s").unwrap_err().to_string();
        assert!(
            refused.starts_with("--duration must be from 17s"),
            "{refused}"
        );
    }

    #[test]
    fn what_is_given_last_counts() {
        let plan = plan("--rate 50 --phases short --phases steady=2s --rate 70").unwrap();
        assert_eq!((plan.rate, plan.phases.length().as_secs()), (70, 2));
    }

    #[test]
    fn settings_that_do_not_go_together_are_refused() {
        let refused = |arguments: &str| plan(arguments).unwrap_err().to_string();
        assert!(refused("--target a:1 --compare").contains("--compare cannot be used"));
        assert!(refused("--target a:1 --phases stopped=5s").contains("stopped cannot"));
        assert!(refused("--rate 20000 --phases steady=10m").contains("12000000 calls"));
        for both in ["--out - --json -", "--out - --plot -", "--json - --plot -"] {
            assert!(refused(both).contains("only one of them"), "{both}");
        }
        for both in [
            "--out r --json ./r",
            "--out r --plot r",
            "--json f --plot f",
        ] {
            assert!(
                refused(both).contains("one would overwrite the other"),
                "{both}"
            );
        }
        assert!(settings("--plot -").unwrap().stdout_is_taken());
        assert!(settings("--metrics a:1").is_err());
        assert!(settings("--announce a.json").is_err());
        assert!(settings("--rate 0").is_err());
        assert!(settings("--phases storm=1s").is_err());
    }
}

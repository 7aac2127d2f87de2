//! A status as people read it.

use std::{
    fmt::Write as _,
    time::{Duration, SystemTime},
};

use humantime::{format_duration, format_rfc3339_millis};
use proto::admin::v1::{Breaker, StatusResponse, Transition, Upstream};

/// The whole answer, in lines.
pub(super) fn of(status: &StatusResponse) -> String {
    let up = Duration::from_secs(u64::try_from(status.up_ms / 1000).unwrap_or_default());
    let mut text = format!("{}, up {}", status.program, format_duration(up));
    if status.upstreams.is_empty() {
        text.push_str("\nno resilient client: RESILIENCE=off calls with tonic's own");
    }
    for upstream in &status.upstreams {
        write(upstream, &mut text).expect("a string takes all that is written to it");
    }
    text
}

fn write(upstream: &Upstream, text: &mut String) -> std::fmt::Result {
    let unknown = Breaker::default();
    let breaker = upstream.breaker.as_ref().unwrap_or(&unknown);
    write!(text, "\n\n{}", upstream.name)?;
    write!(text, "\n  circuit      {}", breaker.state)?;
    write!(
        text,
        "\n  failing      {:.0} % of the attempts in the breaker's window",
        breaker.failure_ratio * 100.0
    )?;
    match &breaker.last_trip {
        Some(trip) => write!(text, "\n  last trip    {}: {}", time(trip), trip.reason)?,
        None => write!(text, "\n  last trip    none")?,
    }
    write!(
        text,
        "\n  budget       {:.1} of {:.0} retries",
        upstream.budget_tokens, upstream.budget_capacity
    )?;
    write!(
        text,
        "\n  in flight    {} of {}",
        upstream.in_flight, upstream.in_flight_max
    )?;
    write!(
        text,
        "\n  queued       {} of {}",
        upstream.queued, upstream.queued_max
    )?;
    write!(text, "\n  transitions  ")?;
    if breaker.transitions.is_empty() {
        write!(text, "none")?;
    }
    for (at, transition) in breaker.transitions.iter().enumerate() {
        let indent = if at == 0 { "" } else { "\n               " };
        let Transition {
            from, to, reason, ..
        } = transition;
        write!(
            text,
            "{indent}{}  {from} -> {to}: {reason}",
            time(transition)
        )?;
    }
    Ok(())
}

/// When it happened: `2026-02-03T04:05:06.789Z`.
fn time(transition: &Transition) -> impl std::fmt::Display {
    let since = Duration::from_millis(u64::try_from(transition.at_unix_ms).unwrap_or_default());
    // What a clock can show ends in the year 9999.
    let last = Duration::from_secs(253_402_300_799);
    format_rfc3339_millis(SystemTime::UNIX_EPOCH + since.min(last))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transition(from: &str, to: &str, reason: &str, at_unix_ms: i64) -> Transition {
        Transition {
            from: from.into(),
            to: to.into(),
            reason: reason.into(),
            at_unix_ms,
        }
    }

    #[test]
    fn a_tripped_breaker_says_why_and_when() {
        let trip = transition("closed", "open", "consecutive_failures", 1_700_000_000_123);
        let status = StatusResponse {
            program: "order-service".into(),
            up_ms: 63_999,
            upstreams: vec![Upstream {
                name: "user-service".into(),
                breaker: Some(Breaker {
                    state: "half_open".into(),
                    failure_ratio: 0.934,
                    last_trip: Some(trip.clone()),
                    transitions: vec![
                        trip,
                        transition("open", "half_open", "open_expired", 1_700_000_000_700),
                    ],
                }),
                budget_tokens: 12.44,
                budget_capacity: 20.0,
                in_flight: 3,
                in_flight_max: 100,
                queued: 0,
                queued_max: 50,
            }],
        };

        assert_eq!(
            of(&status),
            "order-service, up 1m 3s

user-service
  circuit      half_open
  failing      93 % of the attempts in the breaker's window
  last trip    2023-11-14T22:13:20.123Z: consecutive_failures
  budget       12.4 of 20 retries
  in flight    3 of 100
  queued       0 of 50
  transitions  2023-11-14T22:13:20.123Z  closed -> open: consecutive_failures
               2023-11-14T22:13:20.700Z  open -> half_open: open_expired"
        );
    }

    #[test]
    fn a_service_without_the_client_says_so() {
        let status = StatusResponse {
            program: "order-service".into(),
            ..StatusResponse::default()
        };
        assert_eq!(
            of(&status),
            "order-service, up 0s\nno resilient client: RESILIENCE=off calls with tonic's own"
        );
    }

    #[test]
    fn a_time_that_no_clock_shows_is_no_panic() {
        for at_unix_ms in [i64::MIN, i64::MAX] {
            assert!(
                time(&transition("", "", "", at_unix_ms))
                    .to_string()
                    .ends_with('Z')
            );
        }
    }
}

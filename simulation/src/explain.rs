//! The timeline of one run: each call, attempt, wait and decision, with its reason.
//!
//! The decisions are told by the library itself, as events at level DEBUG; what the callers and
//! the server do is told by the simulation in the same way. This collects both, in virtual time.

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use tokio::time::Instant;
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
    span,
};
use tracing_subscriber::{
    Layer, Registry,
    layer::{Context, SubscriberExt as _},
    registry::LookupSpan,
};

use crate::{policies::Policy, run::run, script::Script};

/// What to show of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Window {
    /// From this moment on.
    pub from: Duration,
    /// Until this one.
    pub to: Option<Duration>,
    /// Of this client alone.
    pub client: Option<u64>,
}

/// Runs `script` once more, and tells what happens: a line for each event, in order.
#[must_use]
pub fn timeline(script: &Script, policy: &Policy, seed: u64, window: Window) -> String {
    let lines = Arc::new(Mutex::new(String::new()));
    let timeline = Timeline {
        window,
        began: OnceLock::new(),
        lines: Arc::clone(&lines),
    };
    let subscriber = Registry::default().with(timeline);
    tracing::subscriber::with_default(subscriber, || drop(run(script, policy, seed)));
    std::mem::take(&mut lines.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Collects events.
struct Timeline {
    window: Window,
    began: OnceLock<Instant>,
    lines: Arc<Mutex<String>>,
}

/// Whose event it is; an extension of the span of a call.
#[derive(Debug, Default)]
struct Who {
    client: u64,
    call: u64,
    attempts: u32,
}

impl<S> Layer<S> for Timeline
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(&self, attributes: &span::Attributes<'_>, id: &span::Id, ctx: Context<'_, S>) {
        if attributes.metadata().name() == "simulated"
            && let Some(span) = ctx.span(id)
        {
            let mut who = Who::default();
            attributes.record(&mut who);
            span.extensions_mut().insert(who);
        }
    }

    fn on_event(&self, event: &Event<'_>, ctx: Context<'_, S>) {
        let now = Instant::now();
        let at = now - *self.began.get_or_init(|| now);
        let mut fields = Fields::default();
        event.record(&mut fields);
        let mut scope = ctx.event_scope(event).into_iter().flatten();
        let call = scope.find(|span| span.extensions().get::<Who>().is_some());
        let mut extensions = call.as_ref().map(|span| span.extensions_mut());
        let mut who = extensions.as_mut().and_then(|ext| ext.get_mut::<Who>());
        if let Some(who) = &mut who
            && fields.is("sent")
        {
            who.attempts += 1;
        }
        let Window { from, to, client } = self.window;
        let elsewhere = client.is_some() && client != who.as_ref().map(|who| who.client);
        if at < from || to.is_some_and(|to| at > to) || elsewhere {
            return;
        }
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let seconds = at.as_secs_f64();
        // Writing to a string cannot fail.
        let _ = match who {
            Some(who) => writeln!(
                lines,
                "{seconds:8.3} s  client {:2}  call {:5}  {}",
                who.client,
                who.call,
                fields.sentence(who.attempts)
            ),
            None => writeln!(lines, "{seconds:8.3} s  {}", fields.sentence(0)),
        };
    }
}

impl Visit for Who {
    fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}

    fn record_u64(&mut self, field: &Field, value: u64) {
        match field.name() {
            "client" => self.client = value,
            "call" => self.call = value,
            _ => {}
        }
    }
}

/// The fields of an event, as text.
#[derive(Debug, Default)]
struct Fields(BTreeMap<&'static str, String>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }
}

impl Fields {
    fn get(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    fn is(&self, message: &str) -> bool {
        self.get("message") == message
    }

    /// What happened, for people. `attempts` have been sent of the call so far.
    fn sentence(&self, attempts: u32) -> String {
        match self.get("message") {
            "called" => "called".to_owned(),
            "sent" => format!(
                "  attempt {attempts} is sent, with {}; the server works on {}, {} wait",
                self.get("timeout"),
                self.get("busy"),
                self.get("queued")
            ),
            "answered" => format!("  the server answers {}", self.get("answer")),
            "to be retried" => format!(
                "  attempt {attempts} failed: {}; retryable, attempts and time are left, and the \
                 budget pays: again in {}{}",
                self.get("failure"),
                self.get("delay"),
                match self.get("pushback") {
                    "true" => ", as the server asked",
                    _ => "",
                }
            ),
            "not processed: sent again" => {
                format!("  attempt {attempts} never reached the server: again at once, for nothing")
            }
            "not retried" => format!(
                "  attempt {attempts} failed: {}; not again: {}",
                self.get("failure"),
                why_not(self.get("reason"))
            ),
            "refused" => format!("  refused: {}", self.get("rejection")),
            "over: OK" => format!("answered after {}", self.get("took")),
            "over" => format!(
                "fails after {}: {} {:?}",
                self.get("took"),
                self.get("code"),
                self.get("text")
            ),
            "circuit breaker" => format!(
                "  circuit of {}: {} to {}, {}",
                self.get("upstream"),
                self.get("from"),
                self.get("to"),
                why_moved(self.get("reason"))
            ),
            "the server" => format!("the server {}", self.get("condition")),
            other => {
                let fields = self.0.iter().filter(|(name, _)| **name != "message");
                fields.fold(other.to_owned(), |text, (name, value)| {
                    format!("{text} {name}={value}")
                })
            }
        }
    }
}

/// The reasons of `resilience::StopReason`, in words.
fn why_not(reason: &str) -> &str {
    match reason {
        "not_retryable" => "it would not help",
        "not_idempotent" => "the method is not safe to repeat",
        "attempts" => "all attempts are used up",
        "budget" => "the retry budget is empty",
        "deadline" => "the wait would end after the deadline",
        "pushback" => "the server, or another's circuit, asked for none",
        "committed" => "the caller has a part of the answer",
        "too_large" => "the request is too large to be kept",
        "refused" => "the retry was refused here",
        other => other,
    }
}

/// The reasons of `resilience::TransitionReason`, in words.
fn why_moved(reason: &str) -> &str {
    match reason {
        "failure_ratio" => "for it is sure that 80 % fail",
        "consecutive_failures" => "for too many failed in a row",
        "open_expired" => "for its time is over",
        "probes_succeeded" => "for enough probes succeeded",
        "probes_failed" => "for too many probes failed",
        "probes_silent" => "for its probes were never heard of again",
        "manual" => "by hand",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::policies;

    fn burst(seed: u64) -> String {
        let mut script = Script::named("burst").unwrap();
        script.length = Duration::from_secs(6);
        let window = Window {
            from: Duration::from_secs(4),
            to: Some(Duration::from_secs(6)),
            client: None,
        };
        timeline(&script, &policies::ours(), seed, window)
    }

    #[test]
    fn the_same_seed_makes_the_same_run_byte_for_byte_on_any_thread() {
        let one = burst(1);
        let other = thread::spawn(|| burst(1)).join().unwrap();
        assert!(one.lines().count() > 5_000, "{}", one.lines().count());
        assert_eq!(one, other);
        assert_ne!(one, burst(2));
    }

    #[test]
    fn a_timeline_tells_what_was_decided_and_why() {
        let text = burst(1);
        for part in [
            "the server fails 100 % of requests",
            "the server is well",
            "called",
            "attempt 1 is sent, with 250ms",
            "the server answers Unavailable",
            "attempt 1 failed: The service is currently unavailable",
            "budget pays: again in",
            "attempt 2 is sent",
            "answered after",
        ] {
            assert!(text.contains(part), "{part}\n{}", &text[..2000]);
        }
    }
}

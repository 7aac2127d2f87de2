//! Spans, and what happens in them.
//!
//! A process of its own: whether a span is wanted is remembered by all threads
//! together, and other tests want none.

#![allow(clippy::unwrap_used)] // helpers of tests, which clippy does not know as such

#[path = "stack/upstream.rs"]
#[allow(dead_code)] // it can do more than is asked of it here
mod upstream;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use tonic::Code;
use tracing::{
    Event, Id, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Record},
    subscriber::set_default,
};
use tracing_subscriber::{
    Layer, filter::LevelFilter, layer::Context, layer::SubscriberExt as _, registry::LookupSpan,
};

use proto::user::{self, ValidateUserRequest};
use resilience::ResilienceConfig;

use crate::upstream::{Client, Reply, Upstream};

fn config() -> ResilienceConfig {
    ResilienceConfig {
        idempotent: user::IDEMPOTENT_METHODS.into(),
        ..ResilienceConfig::default()
    }
}

async fn validate(client: &mut Client) -> Result<(), tonic::Status> {
    let reply = client.validate_user(ValidateUserRequest::default()).await;
    reply.map(drop)
}

#[derive(Debug, Clone, Default, PartialEq)]
struct Seen {
    parent: Option<u64>,
    fields: HashMap<String, String>,
    events: Vec<String>,
}

/// Remembers every span, by its number, and what happened in it.
#[derive(Debug, Clone, Default)]
struct Spans(Arc<Mutex<Vec<(u64, Seen)>>>);

impl Spans {
    fn change(&self, id: &Id, change: impl FnOnce(&mut Seen)) {
        let mut spans = self.0.lock().unwrap();
        let id = id.into_u64();
        if let Some((_, seen)) = spans.iter_mut().rev().find(|(known, _)| *known == id) {
            change(seen);
        }
    }

    /// Those whose name begins like this.
    fn named(&self, prefix: &str) -> Vec<(u64, Seen)> {
        let spans = self.0.lock().unwrap();
        let named = |seen: &Seen| seen.fields["otel.name"].starts_with(prefix);
        spans
            .iter()
            .filter(|(_, seen)| named(seen))
            .cloned()
            .collect()
    }
}

struct Fields<'a>(&'a mut HashMap<String, String>);

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let text = format!("{value:?}").trim_matches('"').to_owned();
        self.0.insert(field.name().to_owned(), text);
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Spans {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let parent = context.span(id).and_then(|span| Some(span.parent()?.id()));
        let mut seen = Seen {
            parent: parent.map(|id| id.into_u64()),
            ..Seen::default()
        };
        attributes.record(&mut Fields(&mut seen.fields));
        self.0.lock().unwrap().push((id.into_u64(), seen));
    }

    fn on_record(&self, id: &Id, record: &Record<'_>, _: Context<'_, S>) {
        self.change(id, |seen| record.record(&mut Fields(&mut seen.fields)));
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = HashMap::new();
        event.record(&mut Fields(&mut fields));
        if let Some(span) = context.event_span(event) {
            self.change(&span.id(), |seen| {
                seen.events.push(fields["message"].clone())
            });
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_has_a_span_and_each_of_its_attempts_has_one_inside() {
    let spans = Spans::default();
    let layer = spans.clone().with_filter(LevelFilter::DEBUG);
    let _guard = set_default(tracing_subscriber::registry().with(layer));
    let upstream = Upstream::replies([Reply::code(Code::Unavailable), Reply::Valid]);
    let (mut client, layer) = upstream.client(config());
    validate(&mut client).await.unwrap();

    let calls = spans.named("Sent.");
    let [(call, seen)] = calls.as_slice() else {
        panic!("{calls:?}")
    };
    assert_eq!(
        seen.fields["otel.name"],
        "Sent.user.UserService.ValidateUser"
    );
    assert_eq!(seen.fields["otel.status_code"], "OK");
    assert_eq!(seen.fields["rpc.grpc.status_code"], "0");
    assert_eq!(seen.events, ["to be retried"]);

    let attempts = spans.named("Attempt.");
    let told: Vec<_> = attempts
        .iter()
        .map(|(_, seen)| {
            assert_eq!(seen.parent, Some(*call));
            let field = |name: &str| seen.fields[name].clone();
            (
                field("previous-rpc-attempts"),
                field("rpc.grpc.status_code"),
            )
        })
        .collect();
    let expected = [("0", "14"), ("1", "0")];
    assert_eq!(
        told,
        expected.map(|(n, code)| (n.to_owned(), code.to_owned()))
    );

    // A refusal is an event, and no attempt.
    layer.breaker().force_open();
    validate(&mut client).await.unwrap_err();
    let (_, refused) = spans.named("Sent.").pop().unwrap();
    assert_eq!(refused.events, ["refused"]);
    assert_eq!(refused.fields["otel.status_code"], "ERROR");
    assert_eq!(spans.named("Attempt.").len(), 2);
}

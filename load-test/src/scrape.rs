//! The order service's own figures, read from its `/metrics` ten times a second.
//!
//! The caller of an order sees how long it took; only the order service knows how often it
//! asked the user service for it, and what its breaker did meanwhile.

use std::{fmt, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use service_kit::innermost;

use crate::exposition;

/// How often the figures are read.
pub const EVERY: Duration = Duration::from_millis(100);
/// A page that takes longer is a page that was not had.
const PATIENCE: Duration = Duration::from_secs(1);
/// A larger page is not ours.
const PAGE_BYTES_MAX: usize = 4 << 20;

/// The order service's figures at one moment. Counters run from its start.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sample {
    /// When the page had arrived.
    pub at: Duration,
    /// Calls to the user service that have ended, refused ones included.
    pub calls: f64,
    /// Attempts that were sent.
    pub attempts: f64,
    /// Attempts that were retries.
    pub retries: f64,
    /// Seconds that the breaker has not been letting calls through freely.
    pub open_seconds: f64,
    /// What the breaker is doing.
    pub breaker: Option<BreakerState>,
}

/// What a circuit breaker is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerState {
    /// Calls pass.
    Closed,
    /// Calls are refused.
    Open,
    /// A few calls pass, to see whether the upstream is well again.
    HalfOpen,
    /// A person has opened it.
    ForcedOpen,
    /// A person has closed it.
    ForcedClosed,
    /// A person has taken it out.
    Disabled,
}

impl BreakerState {
    const ALL: [(&'static str, Self); 6] = [
        ("closed", Self::Closed),
        ("open", Self::Open),
        ("half_open", Self::HalfOpen),
        ("forced_open", Self::ForcedOpen),
        ("forced_closed", Self::ForcedClosed),
        ("disabled", Self::Disabled),
    ];
}

impl fmt::Display for BreakerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half-open",
            Self::ForcedOpen => "forced open",
            Self::ForcedClosed => "forced closed",
            Self::Disabled => "disabled",
        })
    }
}

impl Sample {
    /// Whether a counter has fallen since an earlier sample.
    pub fn began_anew_after(&self, earlier: &Self) -> bool {
        self.calls < earlier.calls
            || self.attempts < earlier.attempts
            || self.retries < earlier.retries
            || self.open_seconds < earlier.open_seconds
    }

    /// Reads a page in the Prometheus text format.
    ///
    /// Nothing when the page has no figures about calls to an upstream: then it is not an
    /// order service's, or one whose client is not the resilient one.
    pub fn read(page: &str, at: Duration) -> Option<Self> {
        let mut sample = Self {
            at,
            ..Self::default()
        };
        let mut found = false;
        for line in exposition::lines(page) {
            match line.name {
                "resilience_calls_total" => sample.calls += line.value,
                "grpc_client_attempt_started_total" => {
                    found = true;
                    sample.attempts += line.value;
                }
                "grpc_client_call_retries_sum" => sample.retries += line.value,
                "resilience_circuit_breaker_state" if line.value == 1.0 => {
                    sample.breaker = state(line.label("state"));
                }
                "resilience_circuit_breaker_state_seconds" => {
                    use BreakerState::{ForcedOpen, HalfOpen, Open};
                    if let Some(Open | HalfOpen | ForcedOpen) = state(line.label("state")) {
                        sample.open_seconds += line.value;
                    }
                }
                _ => {}
            }
        }
        found.then_some(sample)
    }
}

fn state(label: Option<&str>) -> Option<BreakerState> {
    let label = label?;
    let known = BreakerState::ALL.iter().find(|(name, _)| *name == label);
    known.map(|(_, state)| *state)
}

/// Fetches pages of one address.
#[derive(Debug, Clone)]
pub struct Scraper {
    client: Client<HttpConnector, Empty<Bytes>>,
    url: http::Uri,
}

impl Scraper {
    /// Nothing is sent yet.
    pub fn new(url: http::Uri) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(PATIENCE));
        Self {
            client: Client::builder(TokioExecutor::new()).build(connector),
            url,
        }
    }

    /// Fetches the page once.
    ///
    /// # Errors
    /// Why it could not be had within a second, for people.
    pub async fn page(&self) -> Result<String, String> {
        let page = async {
            let response = self.client.get(self.url.clone()).await;
            let response = response.map_err(|error| innermost(&error).to_string())?;
            if response.status() != http::StatusCode::OK {
                return Err(format!("the answer was {}", response.status()));
            }
            let body = Limited::new(response.into_body(), PAGE_BYTES_MAX);
            let bytes = body.collect().await.map_err(|error| error.to_string())?;
            String::from_utf8(bytes.to_bytes().into()).map_err(|_| "it is not text".to_owned())
        };
        match tokio::time::timeout(PATIENCE, page).await {
            Ok(result) => result,
            Err(_) => Err("no answer within 1s".to_owned()),
        }
        .map_err(|why| format!("{}: {why}", self.url))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = r#"
# TYPE resilience_calls_total counter
resilience_calls_total{upstream="user-service",method="user.UserService/GetUser",outcome="ok"} 0
resilience_calls_total{upstream="user-service",method="user.UserService/ValidateUser",outcome="ok"} 90
resilience_calls_total{upstream="user-service",method="user.UserService/ValidateUser",outcome="rejected"} 10
grpc_client_attempt_started_total{grpc_target="user-service",grpc_method="user.UserService/ValidateUser"} 97
grpc_client_call_retries_bucket{le="1"} 5
grpc_client_call_retries_sum{grpc_target="user-service"} 7
grpc_client_call_retries_count{grpc_target="user-service"} 6
resilience_circuit_breaker_state{upstream="user-service",state="closed"} 0
resilience_circuit_breaker_state{upstream="user-service",state="half_open"} 1
resilience_circuit_breaker_state_seconds{upstream="user-service",state="closed"} 60.5
resilience_circuit_breaker_state_seconds{upstream="user-service",state="open"} 1.5
resilience_circuit_breaker_state_seconds{upstream="user-service",state="half_open"} 0.25
"#;

    #[test]
    fn the_figures_are_added_up_over_methods_and_outcomes() {
        let sample = Sample::read(PAGE, Duration::from_secs(9)).unwrap();
        let expected = Sample {
            at: Duration::from_secs(9),
            calls: 100.0,
            attempts: 97.0,
            retries: 7.0,
            open_seconds: 1.75,
            breaker: Some(BreakerState::HalfOpen),
        };
        assert_eq!(sample, expected);
    }

    #[test]
    fn a_page_without_an_upstream_is_no_sample() {
        assert_eq!(Sample::read("orders_total 5\n", Duration::ZERO), None);
        assert_eq!(Sample::read("<html>not found</html>", Duration::ZERO), None);
    }

    #[tokio::test]
    async fn a_page_that_cannot_be_had_says_why() {
        // Bound and dropped again: a port at which nobody listens.
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/metrics", listener.local_addr().unwrap());
        drop(listener);
        let error = Scraper::new(url.parse().unwrap()).page().await.unwrap_err();
        assert!(error.starts_with(&url), "{error}");
        assert!(error.contains("refused"), "{error}");
    }
}

//! Turns the faults of the user service on and off, through `chaos.v1.Chaos`.

use std::time::Duration;

use proto::chaos::v1::{GetRequest, SetRequest, chaos_client::ChaosClient};
use tonic::{
    Request, Status,
    transport::{Channel, Endpoint},
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// For one try.
const PATIENCE: Duration = Duration::from_secs(1);
/// A new connection may be needed after the service was started again.
const TRIES: u32 = 3;

/// The faults of one user service.
#[derive(Debug, Clone)]
pub struct Switch {
    client: ChaosClient<Channel>,
    url: String,
    before: String,
}

impl Switch {
    /// Finds the switch, and remembers how it stands.
    ///
    /// # Errors
    /// What to do about it, in a line.
    pub async fn find(url: &str) -> Result<Self, String> {
        let endpoint = Endpoint::from_shared(url.to_owned())
            .map_err(|error| format!("{url}: {error}"))?
            .connect_timeout(CONNECT_TIMEOUT);
        let mut switch = Self {
            client: ChaosClient::new(endpoint.connect_lazy()),
            url: url.to_owned(),
            before: String::new(),
        };
        let mut request = Request::new(GetRequest {});
        request.set_timeout(PATIENCE);
        let before = switch.client.get(request).await;
        switch.before = before
            .map_err(|status| switch.said(&status))?
            .into_inner()
            .chaos;
        Ok(switch)
    }

    /// Puts other faults in place of those in force.
    ///
    /// # Errors
    /// What the user service said, in a line.
    pub async fn turn(&mut self, chaos: &str) -> Result<(), String> {
        let mut tries = 1;
        loop {
            let mut request = Request::new(SetRequest {
                chaos: chaos.to_owned(),
            });
            request.set_timeout(PATIENCE);
            match self.client.set(request).await {
                Ok(_) => return Ok(()),
                // Set twice, the same faults begin anew: their dice start again, and calls that
                // wait are let go. At the start of a phase that is what was asked for anyway.
                Err(status) if tries < TRIES && status.code() == tonic::Code::Unavailable => {
                    tries += 1;
                }
                Err(status) => return Err(self.said(&status)),
            }
        }
    }

    /// Puts the faults back that were in force at first.
    ///
    /// # Errors
    /// What the user service said, in a line.
    pub async fn restore(&mut self) -> Result<(), String> {
        let before = self.before.clone();
        self.turn(&before).await
    }

    fn said(&self, status: &Status) -> String {
        let hint = match status.code() {
            tonic::Code::Unimplemented => " (was it started with CHAOS_API=on?)",
            _ => "",
        };
        let (code, message) = (status.code(), status.message());
        format!("chaos at {}: {code:?}: {message}{hint}", self.url)
    }
}

//! Where a run takes place: services inside this process, or elsewhere.

use std::net::SocketAddr;

use clap::Args as _;
use service_kit::{Running, ServeSettings};

use crate::{
    claims::Terms,
    phases::Means,
    recording::Client,
    scrape::Scraper,
    settings::{Place, Plan, Target},
    switch::Switch,
};

/// The order service under load, and what can be done to the user service behind it.
#[derive(Debug)]
pub struct Stage {
    /// Where orders are placed.
    pub orders: String,
    /// The settings that the promises depend on.
    pub terms: Terms,
    /// Where the order service's own figures are; or why they cannot be had.
    pub scraper: Result<Scraper, String>,
    switch: Option<Switch>,
    services: Option<Services>,
}

/// Why there is nothing to put load on, in a line.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct StageError(String);

impl Stage {
    /// Starts the services, or finds them.
    ///
    /// # Errors
    /// What cannot be started or found.
    pub async fn open(plan: &Plan, client: Client) -> Result<Self, StageError> {
        match &plan.place {
            Place::Embedded => Self::embedded(client).await,
            Place::Target(target) => Self::elsewhere(target).await,
        }
        .map_err(StageError)
    }

    async fn embedded(client: Client) -> Result<Self, String> {
        let services = Services::start(client).await?;
        let metrics = format!("http://{}/metrics", services.order.metrics_addr());
        let metrics = metrics
            .parse()
            .map_err(|error| format!("{metrics}: {error}"))?;
        Ok(Self {
            orders: url(services.order.grpc_addr()),
            terms: services.terms(),
            scraper: match client {
                Client::Resilient => Ok(Scraper::new(metrics)),
                Client::Plain => Err("tonic alone counts nothing".to_owned()),
            },
            switch: Some(Switch::find(&url(services.user_addr)).await?),
            services: Some(services),
        })
    }

    async fn elsewhere(target: &Target) -> Result<Self, String> {
        let switch = match &target.chaos {
            Some(chaos) => Some(Switch::find(&chaos.to_string()).await?),
            None => None,
        };
        Ok(Self {
            orders: target.orders.to_string(),
            terms: Terms {
                deadline: target.deadline,
                budget_capacity: target.budget,
            },
            scraper: match &target.metrics {
                Some(metrics) => Ok(Scraper::new(metrics.uri())),
                None => Err("needs --metrics".to_owned()),
            },
            switch,
            services: None,
        })
    }

    /// How the order service's client is set, where that is known: variables and values.
    pub fn settings(&self) -> Vec<(String, String)> {
        match self.services {
            Some(_) => default_settings(),
            None => Vec::new(),
        }
    }

    /// Makes the user service behave in another way.
    ///
    /// # Errors
    /// Why it does not, in a line.
    pub async fn bring_about(&mut self, means: &Means) -> Result<(), String> {
        match (means, &mut self.services) {
            (Means::Stop, Some(services)) => services.stop_user().await,
            (Means::Stop, None) => return Err("services elsewhere cannot be stopped".to_owned()),
            (Means::Chaos(_), Some(services)) => services.start_user().await?,
            (Means::Chaos(_), None) => {}
        }
        match (means, &mut self.switch) {
            (Means::Chaos(chaos), Some(switch)) => switch.turn(chaos).await,
            // Without a switch only clean phases are planned, and nothing is to be done.
            _ => Ok(()),
        }
    }

    /// Leaves everything as it was found.
    ///
    /// # Errors
    /// What could not be put back, in a line.
    pub async fn close(mut self) -> Result<(), String> {
        match (self.services, &mut self.switch) {
            (Some(services), _) => {
                services.stop().await;
                Ok(())
            }
            (None, Some(switch)) => switch.restore().await,
            (None, None) => Ok(()),
        }
    }
}

/// Both services, inside this process, on free ports.
#[derive(Debug)]
struct Services {
    order: Running,
    order_settings: order_service::Settings,
    user: Option<Running>,
    user_settings: user_service::Settings,
    user_addr: SocketAddr,
}

impl Services {
    async fn start(client: Client) -> Result<Self, String> {
        let mut user_settings = user_service::Settings {
            chaos_api: true,
            ..user_service::Settings::default()
        };
        let user = user_service::start(user_settings.clone()).await;
        let user = user.map_err(|error| format!("user-service: {error}"))?;
        let user_addr = user.grpc_addr();
        // Started again, it must be where the order service looks for it.
        user_settings.serve = ServeSettings {
            port: user_addr.port(),
            ..user_settings.serve
        };
        let mut order_settings = order_service::Settings {
            user_service_url: url(user_addr),
            ..order_service::Settings::default()
        };
        order_settings.resilience.enabled = client == Client::Resilient;
        let order = order_service::start(order_settings.clone()).await;
        Ok(Self {
            order: order.map_err(|error| format!("order-service: {error}"))?,
            order_settings,
            user: Some(user),
            user_settings,
            user_addr,
        })
    }

    fn terms(&self) -> Terms {
        let resilience = &self.order_settings.resilience;
        Terms {
            deadline: resilience.deadline,
            budget_capacity: resilience.budget_capacity,
        }
    }

    async fn stop_user(&mut self) {
        if let Some(user) = self.user.take() {
            user.stop().await;
        }
    }

    async fn start_user(&mut self) -> Result<(), String> {
        if self.user.is_none() {
            let user = user_service::start(self.user_settings.clone()).await;
            self.user = Some(user.map_err(|error| format!("user-service: {error}"))?);
        }
        Ok(())
    }

    /// The order service first: what it still has to do needs the user service.
    async fn stop(self) {
        self.order.stop().await;
        if let Some(user) = self.user {
            user.stop().await;
        }
    }
}

/// The client's variables with their defaults, which services of ours run with.
fn default_settings() -> Vec<(String, String)> {
    let command = order_service::Settings::augment_args(clap::Command::new("order-service"));
    let setting = |arg: &clap::Arg| {
        let variable = arg.get_env()?.to_str()?;
        let value = arg.get_default_values().first()?.to_str()?;
        let client = variable.starts_with("RESILIENCE_");
        client.then(|| (variable.to_owned(), value.to_owned()))
    };
    command.get_arguments().filter_map(setting).collect()
}

fn url(addr: SocketAddr) -> String {
    format!("http://{addr}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_can_say_how_the_client_is_set() {
        let settings = default_settings();
        let deadline = ("RESILIENCE_DEADLINE".to_owned(), "1s".to_owned());
        assert!(settings.contains(&deadline), "{settings:?}");
        assert!(settings.len() > 10, "{settings:?}");
    }
}

//! `healthcheck`: for containers, which have no gRPC client inside.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use super::question;
use crate::{
    ServeSettings, innermost,
    tls::{self, TlsSettings},
};

/// Asks the service on this machine how it is.
///
/// # Errors
/// Why it is not healthy.
pub(super) fn run(settings: &ServeSettings) -> Result<(), String> {
    let address = reachable(settings.grpc());
    question::ask(health(address, &settings.tls))
        .map_err(|reason| format!("not healthy at {address}: {reason}"))
}

async fn health(address: SocketAddr, tls: &TlsSettings) -> Result<(), String> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(|e| e.to_string())?;
    let channel: Result<Channel, _> = match tls::to_myself(tls).map_err(|e| e.to_string())? {
        None => endpoint.connect().await,
        Some(secure) => endpoint.connect_with_connector(secure).await,
    };
    let channel = channel.map_err(|error| format!("cannot connect: {}", innermost(&error)))?;
    let reply = HealthClient::new(channel)
        .check(HealthCheckRequest::default())
        .await
        .map_err(|status| format!("{}: {}", crate::code::name(status.code()), status.message()))?;
    match reply.into_inner().status() {
        ServingStatus::Serving => Ok(()),
        other => Err(other.as_str_name().to_owned()),
    }
}

/// Where a service that listens on `address` is reached from its own machine.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    address.set_ip(match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    });
    address
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_on_all_addresses_is_asked_on_loopback() {
        let reached = |text: &str| reachable(text.parse().unwrap()).to_string();
        assert_eq!(reached("0.0.0.0:50051"), "127.0.0.1:50051");
        assert_eq!(reached("[::]:50051"), "[::1]:50051");
        assert_eq!(reached("10.0.0.7:50051"), "10.0.0.7:50051");
    }
}

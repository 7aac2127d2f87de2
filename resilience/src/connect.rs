//! tonic's lazy channel, with the settings that tonic leaves off.

mod pace;

use std::time::Duration;

use http::Uri;
use hyper::rt::{Read, Write};
use hyper_util::client::legacy::connect::HttpConnector;
use tonic::transport::{Channel, Endpoint};
use tower_service::Service;

use self::pace::Paced;
use crate::{
    config::{ConfigError, positive},
    edge::BoxError,
};

/// How a connection is made, and how a dead one is found.
///
/// # Defaults
///
/// | field | default | reason |
/// | --- | --- | --- |
/// | `connect_timeout` | 500 ms | tonic has none, and all calls queue behind a connection that is being made |
/// | `keep_alive_interval`, `keep_alive_timeout` | 10 s, 5 s | tonic has it off: a peer that stopped is never noticed |
/// | `tcp_user_timeout` | 2 s | after 8 s of silently dropped packets, a channel without it resumes 5 s late, waiting for TCP to resend |
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectConfig {
    /// Time for a connection: name lookup, TCP and TLS.
    pub connect_timeout: Duration,
    /// Time between HTTP/2 pings, also while no call is under way.
    pub keep_alive_interval: Duration,
    /// A connection whose ping is not answered for this long is closed.
    pub keep_alive_timeout: Duration,
    /// A connection whose data is not acknowledged for this long is closed
    /// (TCP_USER_TIMEOUT, RFC 5482; on Linux).
    pub tcp_user_timeout: Duration,
}

impl Default for ConnectConfig {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_millis(500),
            keep_alive_interval: Duration::from_secs(10),
            keep_alive_timeout: Duration::from_secs(5),
            tcp_user_timeout: Duration::from_secs(2),
        }
    }
}

/// A channel to `url` that connects at its first call, and again whenever it
/// has to.
///
/// An address where nobody is, is tried at most 50 times a second, however
/// often it is called; the other attempts fail at once, as not sent. With the
/// circuit breaker at work it is tried far less: 22 times in 3 s at 500 calls a
/// second. tonic's channel connects for each attempt: 3000 times, with neither.
///
/// A peer that accepts and then closes (a proxy in front of nobody) is a
/// connection that was made, and made again for each attempt that needs one.
/// There only the breaker is a bound: 19 in 3 s, and hundreds a second when it
/// is forced closed or disabled.
///
/// `url` is `host:port` or `http://host:port`; for TLS, see [`connect_through`].
/// Any other tonic channel can be wrapped as well; this one sets what a layer
/// cannot.
///
/// # Errors
/// When `url` is not a URL, or a duration is zero.
///
/// # Panics
/// Outside a tokio runtime, as tonic's channels do.
pub fn connect(url: &str, config: ConnectConfig) -> Result<Channel, ConfigError> {
    channel(endpoint(url)?, config, |tcp| tcp)
}

/// A channel as [`connect`] makes it, through a connector of the caller's own
/// around ours for TCP: one that secures what it connects.
///
/// `url` may be `https://host:port` here. Requests then say `https`, and the
/// connector is called with `http` all the same, as it alone knows about TLS;
/// tonic would insist on its own. All of what it does happens within
/// `connect_timeout`.
///
/// # Errors
/// When `url` is not a URL, or a duration is zero.
///
/// # Panics
/// Outside a tokio runtime, as tonic's channels do.
pub fn connect_through<C>(
    url: &str,
    config: ConnectConfig,
    through: impl FnOnce(HttpConnector) -> C,
) -> Result<Channel, ConfigError>
where
    C: Service<Uri> + Send + 'static,
    C::Response: Read + Write + Unpin + Send + 'static,
    C::Error: Into<BoxError>,
    C::Future: Send + 'static,
{
    let address = match url.split_once("://") {
        Some((scheme, address)) if scheme.eq_ignore_ascii_case("https") => address,
        _ => return channel(endpoint(url)?, config, through),
    };
    let wrong = || ConfigError::new("url", "https://host:port", format_args!("{url:?}"));
    let endpoint = endpoint(&format!("http://{address}")).map_err(|_| wrong())?;
    let origin = url.parse().map_err(|_| wrong())?;
    channel(endpoint.origin(origin), config, through)
}

fn channel<C>(
    endpoint: Endpoint,
    config: ConnectConfig,
    through: impl FnOnce(HttpConnector) -> C,
) -> Result<Channel, ConfigError>
where
    C: Service<Uri> + Send + 'static,
    C::Response: Read + Write + Unpin + Send + 'static,
    C::Error: Into<BoxError>,
    C::Future: Send + 'static,
{
    positive("connect.connect_timeout", config.connect_timeout)?;
    positive("connect.keep_alive_interval", config.keep_alive_interval)?;
    positive("connect.keep_alive_timeout", config.keep_alive_timeout)?;
    positive("connect.tcp_user_timeout", config.tcp_user_timeout)?;

    let endpoint = endpoint
        // Around the whole of it; the connector's own does not cover lookup.
        .connect_timeout(config.connect_timeout)
        .http2_keep_alive_interval(config.keep_alive_interval)
        .keep_alive_timeout(config.keep_alive_timeout)
        .keep_alive_while_idle(true);

    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    // Divided among the addresses of a name, so that a dead one leaves time
    // for the next.
    connector.set_connect_timeout(Some(config.connect_timeout));
    #[cfg(target_os = "linux")]
    connector.set_tcp_user_timeout(Some(config.tcp_user_timeout));

    Ok(endpoint.connect_with_connector_lazy(Paced::new(through(connector))))
}

fn endpoint(url: &str) -> Result<Endpoint, ConfigError> {
    let wrong = || {
        ConfigError::new(
            "url",
            "host:port or http://host:port",
            format_args!("{url:?}"),
        )
    };
    let full = if url.contains("://") {
        url.to_owned()
    } else {
        format!("http://{url}")
    };
    let endpoint = Endpoint::from_shared(full).map_err(|_| wrong())?;
    let uri = endpoint.uri();
    // tonic would leave out a path, and call another service than was meant.
    let bare = matches!(uri.path(), "" | "/") && uri.query().is_none();
    match (uri.scheme_str(), uri.host(), uri.port_u16()) {
        (Some("http"), Some(host), Some(_)) if bare && !host.is_empty() => Ok(endpoint),
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_may_leave_out_its_scheme() {
        for url in [
            "user-service:50051",
            "http://user-service:50051",
            "127.0.0.1:1",
            "[::1]:1",
        ] {
            let endpoint = endpoint(url).unwrap();
            assert_eq!(endpoint.uri().scheme_str(), Some("http"), "{url}");
            assert!(endpoint.uri().port_u16().is_some(), "{url}");
        }
    }

    #[tokio::test]
    async fn only_a_connector_of_one_s_own_may_be_asked_for_https() {
        let config = ConnectConfig::default;
        assert!(connect("https://host:1", config()).is_err());
        assert!(connect_through("https://host:1", config(), |tcp| tcp).is_ok());
        assert!(connect_through("HTTPS://host:1", config(), |tcp| tcp).is_ok());
        assert!(connect_through("host:1", config(), |tcp| tcp).is_ok());
        for url in ["https://", "https://host", "https://http://host:1"] {
            let error = connect_through(url, config(), |tcp| tcp).unwrap_err();
            assert!(error.to_string().contains(&format!("{url:?}")), "{error}");
        }
    }

    #[test]
    fn what_is_not_a_url_is_refused_with_what_was_given() {
        for url in [
            "",
            "user-service",
            "http://",
            "ftp://host:1",
            "https://host:1",
            "host:port",
            ":50051",
            "a b:1",
            "http://host:1/users",
            "host:1?a=b",
        ] {
            let error = endpoint(url).unwrap_err();
            assert_eq!(error.field(), "url");
            assert!(error.to_string().contains(&format!("{url:?}")), "{error}");
        }
    }
}

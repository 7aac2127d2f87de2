//! Addresses as the command line takes them.

use std::{fmt, str::FromStr};

/// An address over plain HTTP; `http://` may be left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url(http::Uri);

impl Url {
    /// As the HTTP client takes it.
    pub fn uri(&self) -> http::Uri {
        self.0.clone()
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Url {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const ALLOWED: &str = "must be host:port or http://host:port";
        let full = match text.contains("://") {
            true => text.to_owned(),
            false => format!("http://{text}"),
        };
        let uri: http::Uri = full.parse().map_err(|_| ALLOWED)?;
        let usable = uri.scheme_str() == Some("http")
            && uri.host().is_some_and(|host| !host.is_empty())
            && uri.port_u16().is_some_and(|port| port != 0);
        if usable { Ok(Self(uri)) } else { Err(ALLOWED) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_may_leave_out_http_and_nothing_else() {
        let url = |text: &str| text.parse::<Url>().map(|url| url.to_string());
        assert_eq!(url("localhost:50052").unwrap(), "http://localhost:50052/");
        assert_eq!(
            url("http://[::1]:9052/metrics").unwrap(),
            "http://[::1]:9052/metrics"
        );
        for bad in [
            "",
            "localhost",
            "https://a:1",
            "http://a",
            ":50052",
            "a:0",
            "a b:1",
            "a:99999",
        ] {
            assert!(url(bad).is_err(), "{bad:?}");
        }
    }
}

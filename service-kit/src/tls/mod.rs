//! Doors that lock: TLS, and who may come in.
//!
//! | file | what for |
//! | --- | --- |
//! | `files.rs` | certificates and keys, from PEM files |
//! | `reload.rs` | reads them again when they have changed |
//! | `server.rs` | what callers see; and, of mutual TLS, who they are |
//! | `client.rs` | whom a client believes; and, of mutual TLS, what it shows |
//!
//! Files are looked at when a connection is made, at most once a second: whoever
//! renews certificates replaces the files, and does nothing else. Connections
//! that are open stay as they are. What cannot be used, such as a certificate
//! whose key has not been replaced yet, is logged, and the ones before it stay
//! in use.

mod client;
mod files;
mod reload;
mod server;

use std::{path::PathBuf, sync::Arc};

use clap::Args;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};

pub(crate) use client::to_myself;
pub use client::{ClientFiles, Secure, SecureConnector};
pub(crate) use server::Acceptor;

use crate::SettingError;

/// What a server shows, and whom it lets in. Without a certificate it speaks
/// plain text.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct TlsSettings {
    /// Certificate to show, in PEM, with those that lead to its authority. With
    /// it gRPC is served over TLS, and in no other way.
    #[arg(
        id = "tls_cert",
        long = "tls-cert",
        env = "TLS_CERT",
        value_name = "FILE"
    )]
    pub cert: Option<PathBuf>,

    /// The key of that certificate, in PEM.
    #[arg(id = "tls_key", long = "tls-key", env = "TLS_KEY", value_name = "FILE")]
    pub key: Option<PathBuf>,

    /// Authorities of those who may call, in PEM. With it, whoever shows no
    /// certificate of theirs is not let in.
    #[arg(
        id = "tls_client_ca",
        long = "tls-client-ca",
        env = "TLS_CLIENT_CA",
        value_name = "FILE"
    )]
    pub client_ca: Option<PathBuf>,
}

impl TlsSettings {
    /// Refuses half a setting.
    pub(crate) fn validate(&self) -> Result<(), SettingError> {
        let identity = pair(("TLS_CERT", &self.cert), ("TLS_KEY", &self.key))?;
        match (identity, &self.client_ca) {
            (None, Some(ca)) => Err(SettingError::needs(
                "TLS_CLIENT_CA",
                ca.display(),
                "TLS_CERT and TLS_KEY",
            )),
            _ => Ok(()),
        }
    }
}

/// A certificate and its key, each with the variable that names it: both, or
/// neither.
///
/// # Errors
/// There is one without the other.
pub fn pair(
    cert: (&'static str, &Option<PathBuf>),
    key: (&'static str, &Option<PathBuf>),
) -> Result<Option<[(&'static str, PathBuf); 2]>, SettingError> {
    match (cert, key) {
        ((cert, Some(of_cert)), (key, Some(of_key))) => {
            Ok(Some([(cert, of_cert.clone()), (key, of_key.clone())]))
        }
        ((_, None), (_, None)) => Ok(None),
        ((variable, Some(path)), (other, None)) | ((other, None), (variable, Some(path))) => {
            Err(SettingError::needs(variable, path.display(), other))
        }
    }
}

/// What gRPC speaks inside TLS.
const ALPN: &[u8] = b"h2";

/// The algorithms: rustls's own choice of those of ring.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

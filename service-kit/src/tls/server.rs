//! What callers see; and, of mutual TLS, who they are.

use std::{io, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, timeout},
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, server::WebPkiClientVerifier},
    server::TlsStream,
};

use super::{ALPN, TlsSettings, files::File, provider, reload::Reloading};
use crate::SettingError;

/// How long a caller may take to show what it has.
const HANDSHAKE_MAX: Duration = Duration::from_secs(5);

/// Secures connections that were accepted.
#[derive(Debug, Clone)]
pub(crate) struct Acceptor(Arc<Reloading<Arc<ServerConfig>>>);

impl Acceptor {
    /// As `settings` say; nothing, when they say plain text.
    ///
    /// # Errors
    /// [`SettingError`], which names the file that cannot be used.
    pub(crate) fn new(settings: &TlsSettings) -> Result<Option<Self>, SettingError> {
        let (Some(cert), Some(key)) = (&settings.cert, &settings.key) else {
            return Ok(None);
        };
        let cert = File::new("TLS_CERT", cert);
        let key = File::new("TLS_KEY", key);
        let client_ca = settings.client_ca.as_deref();
        let client_ca = client_ca.map(|path| File::new("TLS_CLIENT_CA", path));
        let files = [&cert, &key].into_iter().chain(&client_ca).cloned();
        let reloading = Reloading::new(files.collect(), move || {
            config(&cert, &key, client_ca.as_ref())
        })?;
        Ok(Some(Self(Arc::new(reloading))))
    }

    /// Secures one connection.
    ///
    /// # Errors
    /// The caller does not speak TLS, shows nothing that is good here, or takes
    /// too long.
    pub(crate) async fn accept<S>(&self, stream: S) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let config = Arc::clone(&self.0.current(Instant::now()));
        let shaking_hands = TlsAcceptor::from((*config).clone()).accept(stream);
        let late = |_| io::Error::new(io::ErrorKind::TimedOut, "no handshake in time");
        timeout(HANDSHAKE_MAX, shaking_hands).await.map_err(late)?
    }
}

fn config(
    cert: &File,
    key: &File,
    client_ca: Option<&File>,
) -> Result<Arc<ServerConfig>, SettingError> {
    let provider = provider();
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| cert.refused(format!("cannot be used: {error}")))?;
    let builder = match client_ca {
        None => builder.with_no_client_auth(),
        Some(ca) => {
            let roots = Arc::new(ca.authorities()?);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider)
                .build()
                .map_err(|error| ca.refused(format!("cannot be used: {error}")))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder
        .with_single_cert(cert.certificates()?, key.key()?)
        .map_err(|error| key.refused(format!("does not fit TLS_CERT: {error}")))?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(Arc::new(config))
}

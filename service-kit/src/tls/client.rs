//! Whom a client believes; and, of mutual TLS, what it shows.

use std::{
    error::Error,
    path::PathBuf,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use hyper_util::{client::legacy::connect::HttpConnector, rt::TokioIo};
use tokio::{net::TcpStream, time::Instant};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, DigitallySignedStruct, Error as TlsError, SignatureScheme,
        client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
        pki_types::{CertificateDer, ServerName, UnixTime},
    },
};
use tonic::transport::Uri;
use tower::Service;

use super::{ALPN, TlsSettings, files::File, provider, reload::Reloading};
use crate::SettingError;

/// What a client needs for TLS, each with the variable that names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientFiles {
    /// Authorities of the server.
    pub ca: (&'static str, PathBuf),
    /// Certificate and key to show, for a server that asks.
    pub identity: Option<[(&'static str, PathBuf); 2]>,
    /// The name that the server's certificate must have, when it is not that of
    /// the address.
    pub name: Option<(&'static str, String)>,
}

/// Secures connections to servers that it can be sure of.
#[derive(Debug, Clone)]
pub struct SecureConnector {
    config: Arc<Reloading<Arc<ClientConfig>>>,
    name: Option<ServerName<'static>>,
}

impl SecureConnector {
    /// Secures with `files`.
    ///
    /// # Errors
    /// [`SettingError`], which names the file that cannot be used.
    pub fn new(files: &ClientFiles) -> Result<Self, SettingError> {
        let file = |(variable, path): &(&'static str, PathBuf)| File::new(variable, path);
        let ca = file(&files.ca);
        let identity = files
            .identity
            .as_ref()
            .map(|pair| pair.each_ref().map(file));
        let name = files.name.as_ref().map(|(variable, name)| {
            let refused = |_| SettingError::new(*variable, name, "must be a name or an address");
            ServerName::try_from(name.clone()).map_err(refused)
        });
        let watched = [&ca].into_iter().chain(identity.iter().flatten()).cloned();
        let config = Reloading::new(watched.collect(), move || config(&ca, identity.as_ref()))?;
        Ok(Self {
            config: Arc::new(config),
            name: name.transpose()?,
        })
    }

    /// Itself around a connector for TCP, whatever the scheme of an address is:
    /// for [`resilience::connect_through`], or a channel of tonic's own.
    #[must_use]
    pub fn through(self, tcp: HttpConnector) -> Secure {
        Secure { secure: self, tcp }
    }
}

/// The connector that [`SecureConnector::through`] makes.
#[derive(Debug, Clone)]
pub struct Secure {
    secure: SecureConnector,
    tcp: HttpConnector,
}

fn config(ca: &File, identity: Option<&[File; 2]>) -> Result<Arc<ClientConfig>, SettingError> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| ca.refused(format!("cannot be used: {error}")))?
        .with_root_certificates(ca.authorities()?);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some([cert, key]) => builder
            .with_client_auth_cert(cert.certificates()?, key.key()?)
            .map_err(|error| key.refused(format!("does not fit its certificate: {error}")))?,
    };
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(Arc::new(config))
}

type BoxError = Box<dyn Error + Send + Sync>;

impl Service<Uri> for Secure {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.tcp.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let name = match &self.secure.name {
            Some(name) => Ok(name.clone()),
            None => {
                let host = uri.host().unwrap_or_default();
                // As a URL writes an IPv6 address, and as TLS does not.
                let host = host.trim_start_matches('[').trim_end_matches(']');
                ServerName::try_from(host.to_owned())
            }
        };
        let config = self.secure.config.current(Instant::now());
        let connecting = self.tcp.call(uri);
        Box::pin(async move {
            let (name, stream) = (name?, connecting.await?.into_inner());
            let connector = TlsConnector::from((*config).clone());
            Ok(TokioIo::new(connector.connect(name, stream).await?))
        })
    }
}

/// A connector to the server that has these settings and runs on this machine:
/// it believes the one certificate that is in the file, whatever its name, and
/// shows the same. `None` for a server that speaks plain text.
///
/// # Errors
/// [`SettingError`], which names the file that cannot be used.
pub(crate) fn to_myself(settings: &TlsSettings) -> Result<Option<Secure>, SettingError> {
    let (Some(cert), Some(key)) = (&settings.cert, &settings.key) else {
        return Ok(None);
    };
    let [cert, key] = [File::new("TLS_CERT", cert), File::new("TLS_KEY", key)];
    let config = Reloading::new(Vec::new(), move || {
        let certificates = cert.certificates()?;
        let provider = provider();
        let myself = Myself {
            certificate: certificates[0].clone(),
            provider: Arc::clone(&provider),
        };
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| cert.refused(format!("cannot be used: {error}")))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(myself))
            .with_client_auth_cert(certificates, key.key()?)
            .map_err(|error| key.refused(format!("does not fit TLS_CERT: {error}")))?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(Arc::new(config))
    })?;
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    let secure = SecureConnector {
        config: Arc::new(config),
        name: None,
    };
    Ok(Some(secure.through(tcp)))
}

/// Believes one certificate, which is stricter than believing an authority: its
/// key has signed the handshake, as always.
#[derive(Debug)]
struct Myself {
    certificate: CertificateDer<'static>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Myself {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        if *end_entity == self.certificate {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(TlsError::General("it shows another certificate".to_owned()))
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = &self.provider.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}

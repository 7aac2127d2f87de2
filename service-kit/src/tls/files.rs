//! Certificates and keys, from PEM files.

use std::{
    fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
    time::SystemTime,
};

use tokio_rustls::rustls::{
    RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};

use crate::SettingError;

/// Longest file. A bundle of all public authorities has 200 KiB.
const BYTES_MAX: u64 = 1024 * 1024;

/// A file, and the variable that names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct File {
    variable: &'static str,
    path: PathBuf,
}

/// What is different when a file is another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stamp(Option<(SystemTime, u64)>);

impl File {
    pub(super) fn new(variable: &'static str, path: &Path) -> Self {
        Self {
            variable,
            path: path.to_owned(),
        }
    }

    /// This file, as not usable: `rule` goes on from its name.
    pub(super) fn refused(&self, rule: impl Into<String>) -> SettingError {
        SettingError::new(self.variable, self.path.display(), rule)
    }

    pub(super) fn stamp(&self) -> Stamp {
        let stamp = fs::metadata(&self.path).and_then(|file| Ok((file.modified()?, file.len())));
        Stamp(stamp.ok())
    }

    /// The certificates in it, at least one.
    pub(super) fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, SettingError> {
        let text = self.read()?;
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
        match certificates {
            Ok(certificates) if !certificates.is_empty() => Ok(certificates),
            _ => Err(self.refused("must be certificates in PEM")),
        }
    }

    /// The key in it. Nothing of it is in any message.
    pub(super) fn key(&self) -> Result<PrivateKeyDer<'static>, SettingError> {
        PrivateKeyDer::from_pem_slice(&self.read()?)
            .map_err(|_| self.refused("must be a private key in PEM"))
    }

    /// The certificates in it, as authorities.
    pub(super) fn authorities(&self) -> Result<RootCertStore, SettingError> {
        let mut store = RootCertStore::empty();
        for certificate in self.certificates()? {
            store
                .add(certificate)
                .map_err(|error| self.refused(format!("must be authorities: {error}")))?;
        }
        Ok(store)
    }

    fn read(&self) -> Result<Vec<u8>, SettingError> {
        let read = || -> io::Result<Vec<u8>> {
            let mut text = Vec::new();
            fs::File::open(&self.path)?
                .take(BYTES_MAX)
                .read_to_end(&mut text)?;
            Ok(text)
        };
        read().map_err(|error| self.refused(format!("cannot be read: {error}")))
    }
}

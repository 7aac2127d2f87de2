//! Certificates for a test, in files.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair,
};

/// An authority, whose certificates go into files of one folder.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: PathBuf,
}

/// A certificate with its key.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

impl Authority {
    pub(crate) fn new(name: &str, folder: &Path) -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let authority = Self {
            issuer: CertifiedIssuer::self_signed(params, key).unwrap(),
            folder: folder.to_owned(),
        };
        replace(&folder.join(format!("{name}.pem")), &authority.issuer.pem());
        authority
    }

    /// The file of an authority of that name.
    pub(crate) fn file(folder: &Path, name: &str) -> PathBuf {
        folder.join(format!("{name}.pem"))
    }

    /// A certificate for these names, to serve with and to call with, in files
    /// that begin with `file`, in the place of those before.
    pub(crate) fn identity(&self, file: &str, names: &[&str]) -> Identity {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let pair = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&pair, &self.issuer).unwrap();
        let identity = Identity {
            cert: self.folder.join(format!("{file}-cert.pem")),
            key: self.folder.join(format!("{file}-key.pem")),
        };
        replace(&identity.cert, &certificate.pem());
        replace(&identity.key, &pair.serialize_pem());
        identity
    }
}

/// As whoever renews certificates should do it: never half a file.
fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::rename(new, path).unwrap();
}

//! Certificate and key of the encrypted transports, from files that are followed.
//!
//! A changed certificate serves the connections that begin after it; those that are open keep theirs. The files are looked
//! at once a second and loaded when either has changed, which covers the symlink swaps of Secret volumes. Files that can't
//! be used, such as a key that does not fit while the second of the two is not written yet, are logged once, and the last
//! good certificate stays in use.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::time::{Duration, SystemTime};

use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

/// Interval between looks at the files, in milliseconds.
const LOOK_INTERVAL_MS: u64 = 1_000;

/// Certificate and key that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file can't be read.
    #[error("{}: cannot be read", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A file is not PEM, or has something else in it.
    #[error("{}: expected {expected} in PEM form", path.display())]
    NotPem {
        /// The file.
        path: PathBuf,
        /// Kind of the object that is missing.
        expected: &'static str,
    },
    /// The key has an unknown kind, or is not that of the certificate.
    #[error("{} does not fit {}", key.display(), certificate.display())]
    Mismatch {
        /// File of the certificate.
        certificate: PathBuf,
        /// File of the key.
        key: PathBuf,
        /// Reason.
        source: rustls::Error,
    },
}

/// The certificate of now, chosen anew for each connection.
pub struct Certificate {
    current: RwLock<Arc<CertifiedKey>>,
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Certificate(..)")
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

impl Certificate {
    /// Loads a chain of certificates, the server's own first, and its private key, and follows both files for as long as
    /// the certificate is used. Call it in a tokio runtime.
    ///
    /// # Errors
    ///
    /// Those of the files as they are now; see [`TlsError`].
    pub fn follow(certificate: &Path, key: &Path) -> Result<Arc<Certificate>, TlsError> {
        let files = Files { certificate: certificate.into(), key: key.into() };
        let seen = files.fingerprint();
        let current = RwLock::new(files.load()?);
        let followed = Arc::new(Certificate { current });
        tokio::spawn(files.follow(seen, Arc::downgrade(&followed)));
        Ok(followed)
    }

    /// A TLS configuration that offers these application protocols (RFC 7301).
    pub(super) fn config(self: &Arc<Self>, protocols: &[&[u8]]) -> Result<ServerConfig, rustls::Error> {
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(self.clone());
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        Ok(config)
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

struct Files {
    certificate: PathBuf,
    key: PathBuf,
}

/// Time of the last change, length and real path of each file, as far as they can be had.
type Fingerprint = [Option<(SystemTime, u64, PathBuf)>; 2];

impl Files {
    fn fingerprint(&self) -> Fingerprint {
        [&self.certificate, &self.key].map(|path| {
            let metadata = fs::metadata(path).ok()?;
            Some((metadata.modified().ok()?, metadata.len(), fs::canonicalize(path).ok()?))
        })
    }

    fn load(&self) -> Result<Arc<CertifiedKey>, TlsError> {
        let chain: Vec<_> = CertificateDer::pem_slice_iter(&read(&self.certificate)?)
            .collect::<Result<_, _>>()
            .map_err(|_| self.not_pem(&self.certificate, "a certificate"))?;
        if chain.is_empty() {
            return Err(self.not_pem(&self.certificate, "a certificate"));
        }
        let key = PrivateKeyDer::from_pem_slice(&read(&self.key)?)
            .map_err(|_| self.not_pem(&self.key, "a private key"))?;
        CertifiedKey::from_der(chain, key, &provider()).map(Arc::new).map_err(|source| TlsError::Mismatch {
            certificate: self.certificate.clone(),
            key: self.key.clone(),
            source,
        })
    }

    fn not_pem(&self, path: &Path, expected: &'static str) -> TlsError {
        TlsError::NotPem { path: path.into(), expected }
    }

    /// Loads the files again whenever they have changed, until the certificate is dropped.
    async fn follow(self, mut seen: Fingerprint, followed: Weak<Certificate>) {
        loop {
            tokio::time::sleep(Duration::from_millis(LOOK_INTERVAL_MS)).await;
            let Some(certificate) = followed.upgrade() else { return };
            let now = self.fingerprint();
            if now == seen {
                continue;
            }
            seen = now;
            match self.load() {
                Ok(new) => {
                    *certificate.current.write().unwrap_or_else(PoisonError::into_inner) = new;
                    let file = self.certificate.display();
                    tracing::info!(%file, "the TLS certificate was loaded again");
                }
                Err(error) => {
                    let reason =
                        std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                    tracing::error!(%error, reason, "the last good TLS certificate stays in use");
                }
            }
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|source| TlsError::Unreadable { path: path.into(), source })
}

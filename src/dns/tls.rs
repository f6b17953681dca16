//! Certificate and key of the encrypted transports, reloaded when their files change.
//!
//! A new certificate applies to new connections; open connections keep theirs. The files are checked once a second and
//! loaded when either has changed, including changes by the symlink swaps of Secret volumes. Unusable files, such as a key
//! that does not match because the second of the two files is not written yet, are logged once per change, and the last
//! valid certificate remains in use.

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

const CHECK_INTERVAL_MS: u64 = 1_000;

/// Reason for which a certificate and its key can't be used.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the error texts explain the variants, and the fields are paths and causes")]
pub enum TlsError {
    #[error("{}: cannot be read", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("{}: expected {expected} in PEM form", path.display())]
    NotPem { path: PathBuf, expected: &'static str },
    #[error("{} does not fit {}", key.display(), certificate.display())]
    Mismatch { certificate: PathBuf, key: PathBuf, source: rustls::Error },
}

/// The current certificate, which each TLS handshake reads anew.
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
    /// Loads a chain of certificates, the server's own first, and its private key, and reloads both when a file changes,
    /// until the returned value is dropped. Must be called in a tokio runtime.
    ///
    /// # Errors
    ///
    /// Those of the first load, see [`TlsError`]; later ones are logged.
    pub fn follow(certificate: &Path, key: &Path) -> Result<Arc<Certificate>, TlsError> {
        let files = Files { certificate: certificate.into(), key: key.into() };
        let seen = files.fingerprint();
        let current = RwLock::new(files.load()?);
        let followed = Arc::new(Certificate { current });
        tokio::spawn(files.follow(seen, Arc::downgrade(&followed)));
        Ok(followed)
    }

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

/// Modification time, length and canonical path of each file; `None` for a file that does not exist or can't be examined.
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

    async fn follow(self, mut seen: Fingerprint, followed: Weak<Certificate>) {
        loop {
            tokio::time::sleep(Duration::from_millis(CHECK_INTERVAL_MS)).await;
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

//! One check of one instance, with the limits of Route 53's health checks.
//!
//! Route 53 demands that a TCP connection is there within 10 seconds, and for HTTP and HTTPS within 4, with a status of 2xx
//! or 3xx within 2 seconds after that. It follows no redirects, and does not verify certificates.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST, USER_AGENT};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::target::Target;
use crate::model::service::HealthCheckType;

/// Time for the connection of a TCP check, in seconds.
const TCP_CONNECT_S: u64 = 10;
/// Time for the connection of an HTTP or HTTPS check, in seconds.
const HTTP_CONNECT_S: u64 = 4;
/// Time for TLS, the request and the status line, in seconds.
const HTTP_ANSWER_S: u64 = 2;
/// Largest head of a response, in bytes.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Client for the checks, with the TLS configuration that all HTTPS checks share.
pub(super) struct Prober {
    tls: TlsConnector,
}

impl Prober {
    pub(super) fn new() -> Result<Prober, rustls::Error> {
        let provider = Arc::new(ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
            .with_no_client_auth();
        Ok(Prober { tls: TlsConnector::from(Arc::new(config)) })
    }

    /// Checks a target. The error is the reason why the check failed, in a few words.
    pub(super) async fn check(&self, target: &Target) -> Result<(), String> {
        let connect_s = match target.kind {
            HealthCheckType::Tcp => TCP_CONNECT_S,
            HealthCheckType::Http | HealthCheckType::Https => HTTP_CONNECT_S,
        };
        let connected = timeout(Duration::from_secs(connect_s), TcpStream::connect(target.address)).await;
        let stream = connected
            .map_err(|_| format!("no connection within {connect_s}s"))?
            .map_err(|error| error_text(&error))?;
        let answer = async {
            match target.kind {
                HealthCheckType::Tcp => Ok(()),
                HealthCheckType::Http => get(stream, target).await,
                HealthCheckType::Https => {
                    let name = ServerName::try_from(target.host.clone());
                    let name = name.unwrap_or_else(|_| target.address.ip().into());
                    let tls = self.tls.connect(name, stream).await;
                    get(tls.map_err(|error| format!("no TLS: {error}"))?, target).await
                }
            }
        };
        let answered = timeout(Duration::from_secs(HTTP_ANSWER_S), answer).await;
        answered.map_err(|_| format!("no response within {HTTP_ANSWER_S}s"))?
    }
}

async fn get(stream: impl AsyncRead + AsyncWrite + Unpin, target: &Target) -> Result<(), String> {
    let no_http = |error: hyper::Error| format!("no response of HTTP: {error}");
    let mut client = http1::Builder::new();
    let (mut sender, connection) =
        client.max_buf_size(HEAD_BYTES_MAX).handshake(TokioIo::new(stream)).await.map_err(no_http)?;
    let request = Request::get(&target.path)
        .header(HOST, &target.host)
        .header(USER_AGENT, concat!("cloudmap-dns/", env!("CARGO_PKG_VERSION"), " (health check)"))
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| format!("ResourcePath can't be requested: {error}"))?;
    let mut response = pin!(sender.send_request(request));
    let response = tokio::select! {
        biased;
        response = &mut response => response,
        // A connection that has ended has delivered what it received.
        _ = connection => response.await,
    };
    let status = response.map_err(no_http)?.status();
    if is_healthy(status) { Ok(()) } else { Err(format!("status {}", status.as_u16())) }
}

fn is_healthy(status: StatusCode) -> bool {
    status.is_success() || status.is_redirection()
}

fn error_text(error: &io::Error) -> String {
    match error.kind() {
        // The kinds that have no name of their own.
        io::ErrorKind::Other => error.to_string(),
        kind => kind.to_string(),
    }
}

/// Accepts every certificate and signature, as Route 53 does: a check asks whether an instance answers, and sends nothing that
/// is secret.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let mut schemes = self.0.signature_verification_algorithms.supported_schemes();
        schemes.extend([SignatureScheme::ECDSA_NISTP521_SHA512, SignatureScheme::RSA_PKCS1_SHA1]);
        schemes
    }
}

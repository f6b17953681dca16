//! Sockets and certificate of DNS over TLS, HTTPS and QUIC, from the settings.

use std::io;
use std::net::SocketAddr;

use anyhow::Context;

use super::{Bound, in_use};
use crate::config::Config;
use crate::dns::{Certificate, Encrypted, EncryptedSockets};

/// Binds the addresses in the settings, adds the bound ones to `bound`, and loads the certificate. `None` if the settings
/// have no address of an encrypted transport.
pub(super) fn bind(config: &Config, bound: &mut Bound) -> anyhow::Result<Option<Encrypted>> {
    let flags = [("--dot", &config.dot), ("--doh", &config.doh), ("--doq", &config.doq)];
    let Some((flag, _)) = flags.into_iter().find(|(_, addresses)| !addresses.is_empty()) else {
        return Ok(None);
    };
    let (Some(certificate), Some(key)) = (&config.tls_certificate, &config.tls_key) else {
        anyhow::bail!("{flag} needs a certificate: name its files with --tls-certificate and --tls-key");
    };
    let certificate = Certificate::follow(certificate, key)?;
    let mut sockets = EncryptedSockets::default();
    let mut bind = |flag, transport, addresses: &[SocketAddr], one: Bind| {
        let bound = addresses
            .iter()
            .map(|address| one(&mut sockets, *address).with_context(|| in_use(flag, *address, transport)));
        bound.collect::<anyhow::Result<Vec<_>>>()
    };
    bound.dot = bind("--dot", "TCP", &config.dot, EncryptedSockets::bind_tls)?;
    bound.doh = bind("--doh", "TCP", &config.doh, EncryptedSockets::bind_https)?;
    bound.doq = bind("--doq", "UDP", &config.doq, EncryptedSockets::bind_quic)?;
    Ok(Some(Encrypted { sockets, certificate }))
}

type Bind = fn(&mut EncryptedSockets, SocketAddr) -> io::Result<SocketAddr>;

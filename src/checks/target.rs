//! The instances that are checked, and how.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;

use crate::model::service::HealthCheckType;
use crate::model::{Instance, NamespaceKind, ServiceId, service::HealthCheck};
use crate::registry::State;

/// Results in a row that change a status, of a HealthCheckConfig that does not say it.
const FAILURE_THRESHOLD: u8 = 1;

/// Addresses, not link-local, at which virtual machines in Azure, Alibaba Cloud and Oracle Cloud read their metadata.
const METADATA_V4: [Ipv4Addr; 3] =
    [Ipv4Addr::new(168, 63, 129, 16), Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(192, 0, 0, 192)];
/// Addresses at which virtual machines in AWS and Google Cloud read their metadata over IPv6.
const METADATA_V6: [Ipv6Addr; 2] =
    [Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254), Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)];

/// Endpoint of one instance with the HealthCheckConfig of its service. HTTP and HTTPS checks request `path` and send `host` in
/// the Host header; TCP checks use neither.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Target {
    pub(super) address: SocketAddr,
    pub(super) kind: HealthCheckType,
    pub(super) path: String,
    pub(super) host: String,
    /// Results in a row that change the status.
    pub(super) threshold: u8,
}

/// The targets of a service's instances, by their ids.
///
/// AWS has no HealthCheckConfig on services of private namespaces, whose addresses Route 53 could not reach. Lenient validation
/// accepts it, and then clients report the health.
pub(super) fn of_service<'s>(
    state: &'s State,
    service: &ServiceId,
    allow: &[IpNet],
) -> HashMap<&'s str, Target> {
    let mut targets = HashMap::new();
    if allow.is_empty() {
        return targets;
    }
    let Ok(found) = state.service(service.as_str()) else { return targets };
    let Some(check) = &found.service.health_check else { return targets };
    let namespace = state.namespace(found.service.namespace_id.as_str());
    if namespace.is_ok_and(|found| matches!(found.namespace.kind, NamespaceKind::DnsPrivate { .. })) {
        return targets;
    }
    let host = state.full_name(&found.service);
    for instance in found.instances() {
        if let Some(target) = of_instance(check, host.as_deref(), instance)
            && is_allowed(allow, target.address.ip())
        {
            targets.insert(instance.id(), target);
        }
    }
    targets
}

/// The IPv4 address is checked where an instance has both.
fn of_instance(check: &HealthCheck, host: Option<&str>, instance: &Instance) -> Option<Target> {
    let ip = instance.ipv4().map(IpAddr::from).or_else(|| instance.ipv6().map(IpAddr::from))?;
    let port = instance.port().or(match check.check_type {
        HealthCheckType::Http => Some(80),
        HealthCheckType::Https => Some(443),
        HealthCheckType::Tcp => None,
    })?;
    let address = SocketAddr::new(ip, port);
    let path = check.resource_path.as_deref().unwrap_or_default();
    Some(Target {
        address,
        kind: check.check_type,
        path: if path.starts_with('/') { path.into() } else { format!("/{path}") },
        host: host.map_or_else(|| address.to_string(), Into::into),
        threshold: check.failure_threshold.unwrap_or(FAILURE_THRESHOLD),
    })
}

/// True if a network allows checks of an address. A [local](is_local) one has to be in a network that begins with such an
/// address.
fn is_allowed(allow: &[IpNet], ip: IpAddr) -> bool {
    let ip = without_translation(ip);
    let is_host = match ip {
        IpAddr::V4(ip) => !ip.is_unspecified() && !ip.is_multicast() && !ip.is_broadcast(),
        IpAddr::V6(ip) => !ip.is_unspecified() && !ip.is_multicast(),
    };
    let is_in = |network: &IpNet| network.contains(&ip) && (!is_local(ip) || is_local(network.network()));
    is_host && allow.iter().any(is_in)
}

/// Replaces an IPv6 address that embeds an IPv4 address by the latter: IPv4-mapped addresses (RFC 4291), and the NAT64 prefix
/// 64:ff9b::/96 (RFC 6052).
fn without_translation(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(v6) if v6.segments()[..6] == [0x64, 0xff9b, 0, 0, 0, 0] => {
            let [.., a, b, c, d] = v6.octets();
            IpAddr::from([a, b, c, d])
        }
        ip => ip,
    }
}

/// True for loopback and link-local addresses, and for those of clouds' metadata that are neither.
fn is_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_link_local() || METADATA_V4.contains(&ip),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unicast_link_local() || METADATA_V6.contains(&ip),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_addresses_need_a_network_of_their_own() {
        let networks =
            |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<IpNet>>();
        let is = |texts: &[&str], ip: &str| is_allowed(&networks(texts), ip.parse().unwrap());
        assert!(is(&["10.0.0.0/8"], "10.1.2.3"));
        assert!(is(&["10.0.0.0/8"], "::ffff:10.1.2.3"));
        assert!(!is(&["10.0.0.0/8"], "11.1.2.3"));
        assert!(!is(&[], "10.1.2.3"));
        let all = ["0.0.0.0/0", "::/0"];
        assert!(is(&all, "10.1.2.3") && is(&all, "2001:db8::1"));
        for ip in [
            "127.0.0.1",
            "169.254.169.254",
            "::1",
            "fe80::1",
            "::ffff:127.0.0.1",
            "64:ff9b::a9fe:a9fe",
            "fd00:ec2::254",
            "168.63.129.16",
            "100.100.100.200",
        ] {
            assert!(!is(&all, ip), "{ip}");
        }
        for ip in ["0.0.0.0", "::", "224.0.0.1", "255.255.255.255", "ff02::1"] {
            assert!(!is(&[all[0], all[1], "127.0.0.0/8"], ip), "{ip}");
        }
        assert!(is(&["127.0.0.0/8"], "127.0.0.1") && is(&["169.254.0.0/16"], "169.254.169.254"));
        assert!(is(&["::1/128"], "::1") && is(&["fe80::/10"], "fe80::1"));
    }
}

//! The instances that active checks watch, and the conditions under which results change their status.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;

use crate::model::service::{HealthCheck, HealthCheckType};
use crate::model::{CustomHealthStatus, EpochMs, Instance};

use super::ServiceHealth;
use super::policy::Threshold;

/// Results in a row that change a status, of a HealthCheckConfig that does not say it.
const FAILURE_THRESHOLD: u8 = 1;

/// Addresses, not link-local, at which virtual machines in Azure, Alibaba Cloud and Oracle Cloud read their metadata.
const METADATA_V4: [Ipv4Addr; 3] =
    [Ipv4Addr::new(168, 63, 129, 16), Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(192, 0, 0, 192)];
/// Addresses at which virtual machines in AWS and Google Cloud read their metadata over IPv6.
const METADATA_V6: [Ipv6Addr; 2] =
    [Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254), Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)];

/// Networks whose addresses are checked; none by default. They are a setting of the process, so their memory is never freed,
/// and all copies of the health settings share it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct CheckedNetworks(&'static [IpNet]);

impl CheckedNetworks {
    /// A loopback or link-local address is checked only where the network itself begins with such an address, so that
    /// `0.0.0.0/0` does not reach this host.
    pub fn new(networks: Vec<IpNet>) -> CheckedNetworks {
        CheckedNetworks(networks.leak())
    }

    /// True if checks are on.
    pub fn are_any(self) -> bool {
        !self.0.is_empty()
    }

    fn allow(self, ip: IpAddr) -> bool {
        let ip = without_translation(ip);
        let is_host = match ip {
            IpAddr::V4(ip) => !ip.is_unspecified() && !ip.is_multicast() && !ip.is_broadcast(),
            IpAddr::V6(ip) => !ip.is_unspecified() && !ip.is_multicast(),
        };
        let is_in = |network: &IpNet| network.contains(&ip) && (!is_local(ip) || is_local(network.network()));
        is_host && self.0.iter().any(is_in)
    }
}

/// Condition under which results of checks change the status of an instance: so many equal ones in a row, over so many
/// milliseconds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "the type's document explains the fields")]
pub struct CheckCondition {
    pub results: u8,
    pub time_ms: EpochMs,
}

impl<'s> ServiceHealth<'s> {
    /// The HealthCheckConfig of the service, if its instances are checked at all.
    ///
    /// AWS has none on services of private namespaces, whose addresses Route 53 could not reach. Lenient validation accepts it,
    /// and then clients report the health.
    pub fn active_check(&self) -> Option<&'s HealthCheck> {
        self.service.health_check.as_ref().filter(|_| self.settings.checked.are_any() && !self.is_private)
    }

    /// The endpoint at which an instance is checked; `None` if it is not. The IPv4 address is checked where an instance has
    /// both.
    pub fn checked_endpoint(&self, instance: &Instance) -> Option<SocketAddr> {
        let check = self.active_check()?;
        let ip = instance.ipv4().map(IpAddr::from).or_else(|| instance.ipv6().map(IpAddr::from))?;
        let port = instance.port().or(match check.check_type {
            HealthCheckType::Http => Some(80),
            HealthCheckType::Https => Some(443),
            HealthCheckType::Tcp => None,
        })?;
        self.settings.checked.allow(ip).then(|| SocketAddr::new(ip, port))
    }

    /// True if no result of checks has decided the status of an instance that is checked.
    pub fn awaits_check(&self, instance: &Instance) -> bool {
        instance.sources_health().is_none() && self.checked_endpoint(instance).is_some()
    }

    /// The condition for this status. `is_first` is true if no earlier result counts: then one that passed is enough, unless
    /// a policy demands more, because FailureThreshold is about changes between HEALTHY and UNHEALTHY.
    pub fn check_condition(
        &self,
        instance: &Instance,
        status: CustomHealthStatus,
        is_first: bool,
    ) -> CheckCondition {
        let times = self.times(instance);
        let (policy, time_ms, threshold) = match status {
            CustomHealthStatus::Healthy => (self.settings.up_after, times.up, !is_first),
            CustomHealthStatus::Unhealthy => (self.settings.down_after, times.down, true),
        };
        let of_service = self.service.health_check.as_ref().filter(|_| threshold);
        let of_service = of_service.and_then(|check| check.failure_threshold).unwrap_or(FAILURE_THRESHOLD);
        let of_policy = match policy {
            Threshold::Observations(results) => results,
            Threshold::Time(_) => 1,
        };
        CheckCondition { results: of_service.max(of_policy), time_ms }
    }
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
        let is = |texts: &[&str], ip: &str| CheckedNetworks::new(networks(texts)).allow(ip.parse().unwrap());
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

//! The hosts of a leaf: fields that all of them share, and fields that each stores separately.

use super::{Host, Leaf, octets};
use crate::zone::Name;

pub(super) mod flag {
    pub(in super::super) const IPV4: u8 = 1;
    pub(in super::super) const IPV6: u8 = 2;
    pub(in super::super) const TARGET: u8 = 4;
    pub(in super::super) const PORT: u8 = 8;
}

/// Offset of a field that hosts do not store separately, because it is equal for all of them.
const COMMON: u8 = u8::MAX;

/// Values of the fields that are equal for all hosts of a leaf, and offsets (`own_..`) of the others in a host's own bytes.
/// All fields are bytes, whose alignment leaves no gaps in a leaf. The offset of the first host's labels is little-endian,
/// the port is in network byte order, and `stride` is the number of own bytes of each host.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    labels_at: [u8; 4],
    port: [u8; 2],
    flags: u8,
    labels_octets: u8,
    stride: u8,
    own_labels: u8,
    own_port: u8,
    own_flags: u8,
    own_ipv6: u8,
}

pub(super) struct Parts<'a> {
    pub(super) labels: &'a [u8],
    pub(super) ipv4: Option<[u8; 4]>,
    pub(super) ipv6: Option<[u8; 16]>,
    pub(super) port: u16,
    pub(super) flags: u8,
}

impl Layout {
    /// Layout for these hosts, in which [`Layout::set_labels_at`] has to set the offset of the labels.
    pub(super) fn new<'a>(mut hosts: impl Iterator<Item = Parts<'a>>) -> Layout {
        let mut layout = Layout {
            labels_at: [0; 4],
            port: [0; 2],
            flags: 0,
            labels_octets: 0,
            stride: 0,
            own_labels: COMMON,
            own_port: COMMON,
            own_flags: COMMON,
            own_ipv6: COMMON,
        };
        let Some(first) = hosts.next() else { return layout };
        layout.port = first.port.to_be_bytes();
        layout.flags = first.flags;
        layout.labels_octets = first.labels.len() as u8;
        let [mut ipv4, mut ipv6, mut labels, mut ports, mut flags] =
            [first.ipv4.is_some(), first.ipv6.is_some(), false, false, false];
        for host in hosts {
            ipv4 |= host.ipv4.is_some();
            ipv6 |= host.ipv6.is_some();
            labels |= host.labels.len() != first.labels.len();
            ports |= host.port != first.port;
            flags |= host.flags != first.flags;
        }
        let mut own = |is_own: bool, octets: u8| {
            if is_own {
                layout.stride += octets;
                layout.stride - octets
            } else {
                COMMON
            }
        };
        own(ipv4, 4);
        let owns = [own(labels, 5), own(ports, 2), own(flags, 1), own(ipv6, 16)];
        [layout.own_labels, layout.own_port, layout.own_flags, layout.own_ipv6] = owns;
        layout
    }

    pub(super) fn set_labels_at(&mut self, at: usize) {
        self.labels_at = (at as u32).to_le_bytes();
    }

    #[inline(always)]
    fn labels_at(&self) -> usize {
        u32::from_le_bytes(self.labels_at) as usize
    }

    pub(super) fn stride(&self) -> usize {
        self.stride.into()
    }

    /// The hosts at `hosts_at`, if the IPv4 address is the only field that each of them stores.
    #[inline(always)]
    pub(super) fn uniform<'a>(&self, data: &'a [u8], hosts_at: usize) -> Option<UniformHosts<'a>> {
        if !self.is_ipv4_alone() {
            return None;
        }
        let (ipv4s, labels) = (data.get(hosts_at..)?.as_chunks().0, data.get(self.labels_at()..)?);
        Some(UniformHosts { ipv4s, labels, labels_octets: self.labels_octets.into(), port: self.port })
    }

    #[inline(always)]
    pub(super) fn is_ipv4_alone(&self) -> bool {
        self.stride == 4 && self.flags & flag::IPV4 != 0
    }

    pub(super) fn write(&self, host: &Parts<'_>, labels_at: usize, data: &mut Vec<u8>) {
        let start = data.len();
        data.resize(start + self.stride(), 0);
        let mut put = |at: u8, octets: &[u8]| {
            if at != COMMON {
                let at = start + usize::from(at);
                data[at..at + octets.len()].copy_from_slice(octets);
            }
        };
        if let Some(address) = &host.ipv4 {
            put(0, address);
        }
        let [a, b, c, d] = (labels_at as u32).to_le_bytes();
        put(self.own_labels, &[a, b, c, d, host.labels.len() as u8]);
        put(self.own_port, &host.port.to_be_bytes());
        put(self.own_flags, &[host.flags]);
        if let Some(address) = &host.ipv6 {
            put(self.own_ipv6, address);
        }
    }
}

/// Hosts that differ only in their names and IPv4 addresses: addresses and labels in the order of the hosts, the length in
/// bytes of the labels of each host, and the port of all. Addresses and port are in network byte order. Elements of `ipv4s`
/// behind the last host have no meaning.
#[expect(missing_docs, reason = "the type's document explains the fields")]
pub struct UniformHosts<'a> {
    pub ipv4s: &'a [[u8; 4]],
    pub labels: &'a [u8],
    pub labels_octets: usize,
    pub port: [u8; 2],
}

/// Reference to one instance of a leaf by its index.
#[derive(Clone, Copy)]
pub struct HostRef<'a> {
    leaf: &'a Leaf,
    at: u32,
}

impl<'a> HostRef<'a> {
    #[inline(always)]
    pub(super) fn new(leaf: &'a Leaf, at: u32) -> HostRef<'a> {
        HostRef { leaf, at }
    }

    /// True if the host's index is among these, which are sorted.
    pub(super) fn is_among(self, indexes: &[u32]) -> bool {
        indexes.binary_search(&self.at).is_ok()
    }

    #[inline(always)]
    fn has(self, flags: u8) -> bool {
        let own = match self.leaf.hosts.own_flags {
            COMMON => self.leaf.hosts.flags,
            own => self.own::<1>(own)[0],
        };
        own & flags != 0
    }

    #[inline(always)]
    fn own<const N: usize>(self, part: u8) -> &'a [u8; N] {
        let start = self.leaf.hosts_at() + self.leaf.hosts.stride() * self.at as usize;
        octets(&self.leaf.data, start + usize::from(part))
    }
}

impl<'a> Host<'a> for HostRef<'a> {
    #[inline(always)]
    fn labels(self) -> &'a [u8] {
        let layout = &self.leaf.hosts;
        let (start, len) = match layout.own_labels {
            COMMON => {
                let len = usize::from(layout.labels_octets);
                (layout.labels_at() + len * self.at as usize, len)
            }
            own => {
                let [a, b, c, d, len] = *self.own(own);
                (u32::from_le_bytes([a, b, c, d]) as usize, usize::from(len))
            }
        };
        &self.leaf.data[start..start + len]
    }

    #[inline(always)]
    fn ipv4(self) -> Option<[u8; 4]> {
        self.has(flag::IPV4).then(|| *self.own(0))
    }

    #[inline(always)]
    fn ipv6(self) -> Option<[u8; 16]> {
        self.has(flag::IPV6).then(|| *self.own(self.leaf.hosts.own_ipv6))
    }

    #[inline(always)]
    fn port(self) -> Option<u16> {
        self.has(flag::PORT).then(|| {
            u16::from_be_bytes(match self.leaf.hosts.own_port {
                COMMON => self.leaf.hosts.port,
                own => *self.own(own),
            })
        })
    }

    #[inline]
    fn weight(self) -> u8 {
        self.leaf.weight(self.at)
    }

    fn target(self) -> Option<&'a Name> {
        let targets = &self.leaf.extra.as_ref().filter(|_| self.has(flag::TARGET))?.targets;
        let at = targets.binary_search_by_key(&self.at, |(at, _)| *at).ok()?;
        Some(&targets[at].1)
    }

    #[inline]
    fn has_address(self) -> bool {
        self.has(flag::IPV4 | flag::IPV6)
    }
}

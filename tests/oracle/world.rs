//! The directory that is queried: zone files and a registry, published as the server does it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cloudmap_dns::model::{
    CustomHealthStatus, DnsRecord, DnsRecordType, NamespaceKind, RoutingPolicy, Tags,
    service::CustomHealthCheck,
};
use cloudmap_dns::registry::{
    Command, HealthSettings, Registry, Settings, UnknownHealth, WriterThread,
    command::{CreateDnsConfig, CreateService},
};
use cloudmap_dns::snapshot::{self, Publisher, Snapshot, ZoneFiles};
use cloudmap_dns::store::MemoryStore;

/// A zone with records of many types, wildcards, cuts and long names.
const BIG: &str = r#"
$TTL 300
@        SOA ns hostmaster 17 2h 10m 1d 60
@        NS ns
@        NS ns2.other.test.
@        A 192.0.2.1
@        AAAA 2001:db8::1
@        MX 10 mail
@        MX 20 mail.other.test.
@        MX 30 c1
@        TXT "v=spf1 -all"
@        CAA 0 issue "ca.test"
@        HTTPS 1 . alpn="h2"
@        TYPE65280 \# 4 DEADBEEF
ns       A 192.0.2.2
ns       AAAA 2001:db8::2
mail     A 192.0.2.3
www      600 A 192.0.2.4
www      600 A 192.0.2.5
www      600 A 192.0.2.6
www      AAAA 2001:db8::4
www      HTTPS 1 svc alpn="h2,h3" port=8443
www      HTTPS 2 www.other.test.
svc      A 192.0.2.7
alias-mode HTTPS 0 www
sb       SVCB 1 svc port=53
sb       SVCB 2 . port=54
_s._tcp  SRV 1 2 80 www
_s._tcp  SRV 1 2 81 wildtarget.wild
_s._tcp  SRV 1 2 82 x.sub
_s._tcp  SRV 1 2 83 c1
_s._tcp  SRV 1 2 84 host.other.test.
c1       CNAME c2
c2       CNAME c3
c3       CNAME www
c-out    CNAME out.example.
c-child  CNAME www.child
c-nx     CNAME nothing
c-ent    CNAME b.ent
c-cut    CNAME x.sub
c-dn     CNAME www.dn
c-wild   CNAME q.wild
loop1    CNAME loop2
loop2    CNAME loop1
self     CNAME self
a.b.ent  A 192.0.2.8
*.wild   A 192.0.2.9
*.wild   TXT "wild"
*.wild   MX 10 www
x.wild   TXT "x"
y.z.wild TXT "y"
*.cn     CNAME www
*.cnx    CNAME nope
*.cl     CNAME a.cl
sub      NS ns.sub
sub      NS ns2.sub
sub      NS ns.other.test.
sub      DS 12345 8 2 00112233445566778899AABBCCDDEEFF00112233445566778899AABBCCDDEEFF
ns.sub   A 192.0.2.10
ns.sub   AAAA 2001:db8::10
ns2.sub  A 192.0.2.11
noglue   NS ns.other.test.
child    NS ns.child
ns.child A 192.0.2.12
dn       DNAME target
www.target A 192.0.2.13
*.target TXT "below"
d-out    DNAME example.
d-loop   DNAME d-loop2
d-loop2  DNAME d-loop
d-self   DNAME @
d-long   DNAME aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
text     TXT "a" "b" "c"
rp       RP hostmaster text
naptr    NAPTR 10 10 "u" "E2U+sip" "!^.*$!sip:x@test!" .
loc      LOC 52 22 23.000 N 4 53 32.000 E -2.00m 0.00m 10000m 10m
uri      URI 10 1 "https://test/"
ptr      PTR www
sshfp    SSHFP 1 1 0123456789ABCDEF0123456789ABCDEF01234567
tlsa     TLSA 3 1 1 00112233445566778899AABBCCDDEEFF00112233445566778899AABBCCDDEEFF
hinfo    HINFO "x" "y"
afsdb    AFSDB 1 www
kx       KX 1 www
sp\ ace  TXT "escaped"
$GENERATE 1-90 many A 198.51.100.$
$GENERATE 1-12 txts TXT "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789 $"
$GENERATE 1-30 mxs MX $ mx$
$GENERATE 1-30 mx$ A 203.0.113.$
$GENERATE 1-30 mx$ AAAA 2001:db8:1::$
$GENERATE 1-40 bigcut NS a-rather-long-name-of-a-server-$.bigcut
$GENERATE 1-40 a-rather-long-name-of-a-server-$.bigcut A 203.0.113.$
$GENERATE 1-20 glue NS n$.glue
$GENERATE 1-20 n$.glue A 203.0.113.$
$GENERATE 1-20 n$.glue AAAA 2001:db8:2::$
$GENERATE 1-40 chain$ CNAME chain${1}
chain41  A 192.0.2.14
"#;

const CHILD: &str = "
$TTL 100
@    SOA ns hostmaster 3 2h 10m 1d 3600
@    NS ns
ns   A 192.0.2.20
www  A 192.0.2.21
up   CNAME www.big.test.
";

/// Zone file with additions to the namespace of this name.
const OVERLAY: &str = r#"
$TTL 60
@         TXT "overlay"
@         MX 10 mail
mail      A 192.0.2.30
to-web    CNAME web
to-srv    SRV 1 1 80 i-1.srv
to-nx     CNAME nope.web
to-id     CNAME i-2.web
*.static  A 192.0.2.31
*.web     TXT "beside instances"
extra.web A 192.0.2.32
cut       NS ns.cut
ns.cut    A 192.0.2.33
dn        DNAME web
"#;

/// Owner of everything that the snapshot depends on.
pub(crate) struct World {
    pub(crate) snapshot: Arc<Snapshot>,
    _files: ZoneFiles,
    _registry: (Registry, WriterThread),
}

pub(crate) fn start() -> (Arc<Snapshot>, Publisher, Registry, WriterThread) {
    let health = HealthSettings { unknown: UnknownHealth::Serve, ..HealthSettings::default() };
    let (snapshot, publisher) = Snapshot::new(snapshot::Settings {
        health,
        negative_ttl_seconds: 5,
        name_server_addresses: vec!["192.0.2.53".parse().unwrap(), "2001:db8::53".parse().unwrap()],
    });
    let (registry, writer) =
        Registry::start(Settings::default(), Box::new(MemoryStore), Box::new(publisher.clone())).unwrap();
    (snapshot, publisher, registry, writer)
}

pub(crate) fn namespace(name: &str) -> Command {
    Command::CreateNamespace {
        name: name.into(),
        kind: NamespaceKind::DnsPrivate { vpc: "vpc-1".into() },
        creator_request_id: None,
        description: None,
        soa_ttl: None,
        tags: Tags::new(),
    }
}

pub(crate) fn service(
    registry: &Registry,
    namespace: &str,
    name: &str,
    routing: RoutingPolicy,
    types: &[DnsRecordType],
) -> Command {
    let namespace = registry.identity().namespace_id("DNS_PRIVATE", namespace).to_string();
    let records = types.iter().zip([60, 45]).map(|(rtype, ttl)| DnsRecord { rtype: *rtype, ttl }).collect();
    Command::CreateService(Box::new(CreateService {
        name: name.into(),
        namespace: Some(namespace),
        dns: Some(CreateDnsConfig { namespace: None, routing: Some(routing), records }),
        custom_health_check: Some(CustomHealthCheck { failure_threshold: None }),
        ..CreateService::default()
    }))
}

pub(crate) fn service_id(registry: &Registry, namespace: &str, name: &str) -> String {
    let namespace = registry.identity().namespace_id("DNS_PRIVATE", namespace);
    registry.identity().service_id(&namespace, name).to_string()
}

pub(crate) fn instance(service: &str, id: &str, attributes: &[(&str, &str)]) -> Command {
    Command::RegisterInstance {
        service: service.into(),
        instance: id.into(),
        creator_request_id: None,
        attributes: attributes
            .iter()
            .map(|(key, value)| (key.to_string(), value.to_string()))
            .collect::<BTreeMap<_, _>>(),
    }
}

pub(crate) fn health(service: &str, id: &str, status: CustomHealthStatus) -> Command {
    Command::UpdateCustomHealth {
        service: service.into(),
        instance: id.into(),
        status,
        reporter: String::new(),
    }
}

const V4: &str = "AWS_INSTANCE_IPV4";
const V6: &str = "AWS_INSTANCE_IPV6";
const PORT: &str = "AWS_INSTANCE_PORT";

impl World {
    pub(crate) async fn new(name: &str) -> World {
        let (snapshot, publisher, registry, writer) = start();
        registry.submit(namespace("svc.local")).await.unwrap();
        registry.submit(namespace("k8s.svc.local")).await.unwrap();
        services(&registry).await;
        let directory = zone_files(name);
        let files = ZoneFiles::follow(&directory, publisher).unwrap();
        for (path, status) in files.status() {
            assert!(status.is_served && status.errors.is_empty(), "{}: {:?}", path.display(), status.errors);
        }
        std::fs::remove_dir_all(&directory).unwrap();
        World { snapshot, _files: files, _registry: (registry, writer) }
    }
}

async fn services(registry: &Registry) {
    use DnsRecordType::{A, Aaaa, Cname, Srv};
    use RoutingPolicy::{Multivalue, Weighted};
    // Name, routing policy, types, and number of instances, of which every fourth or all are unhealthy.
    let specs: [(&str, RoutingPolicy, &[DnsRecordType], u32, &str); 15] = [
        ("web", Multivalue, &[A], 3, ""),
        ("many", Multivalue, &[A], 40, ""),
        ("v6", Multivalue, &[Aaaa], 9, ""),
        ("dual", Multivalue, &[A, Aaaa], 12, ""),
        ("srv", Multivalue, &[Srv], 12, ""),
        ("_http._tcp.api", Multivalue, &[Srv, A], 3, ""),
        ("one", Weighted, &[A], 12, ""),
        ("cn", Weighted, &[Cname], 3, "cname"),
        ("alias", Weighted, &[A], 2, "alias"),
        ("dotted", Multivalue, &[Srv], 6, "dotted"),
        ("sick", Multivalue, &[A], 4, "unhealthy"),
        ("empty", Multivalue, &[A, Aaaa], 0, ""),
        ("v1.web", Multivalue, &[A], 2, ""),
        ("MiXed", Multivalue, &[Srv], 2, ""),
        ("a.very.deep.name.of.a.service", Multivalue, &[Srv], 8, ""),
    ];
    for (name, routing, types, instances, kind) in specs {
        registry.submit(service(registry, "svc.local", name, routing, types)).await.unwrap();
        let id = service_id(registry, "svc.local", name);
        for at in 1..=instances {
            let (v4, v6) = (format!("10.{}.0.{at}", name.len()), format!("fd00::{}:{at}", name.len()));
            let port = (8000 + at).to_string();
            let target = format!("lb-{at}.svc.local");
            let label = if kind == "dotted" { format!("i.{at}.x") } else { format!("i-{at}") };
            let attributes: &[_] = match (kind, types) {
                ("cname", _) => &[("AWS_INSTANCE_CNAME", &target)],
                ("alias", _) => &[("AWS_ALIAS_DNS_NAME", &target)],
                (_, [A, Aaaa]) => &[(V4, &v4), (V6, &v6)],
                (_, [Aaaa]) => &[(V6, &v6)],
                (_, [A]) => &[(V4, &v4), (PORT, &port)],
                _ if at % 3 == 0 => &[(V6, &v6), (PORT, &port)],
                _ if at % 3 == 1 => &[(V4, &v4), (PORT, &port)],
                _ => &[(V4, &v4), (V6, &v6), (PORT, &port)],
            };
            let attributes: Vec<(&str, &str)> =
                attributes.iter().map(|(key, value)| (*key, value.as_str())).collect();
            registry.submit(instance(&id, &label, &attributes)).await.unwrap();
            if kind == "unhealthy" || at % 4 == 0 {
                registry.submit(health(&id, &label, CustomHealthStatus::Unhealthy)).await.ok();
            }
        }
    }
    registry.submit(service(registry, "k8s.svc.local", "web", Multivalue, &[A])).await.unwrap();
}

fn zone_files(name: &str) -> PathBuf {
    let directory = std::env::temp_dir().join(format!("cloudmap-dns-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let write = |zone: &str, text: &str| std::fs::write(Path::new(&directory).join(zone), text).unwrap();
    let big = (1..=40).fold(BIG.replace("$GENERATE 1-40 chain$ CNAME chain${1}\n", ""), |zone, at| {
        format!("{zone}chain{at} CNAME chain{}\n", at + 1)
    });
    write("big.test.zone", &big);
    write("child.big.test.zone", CHILD);
    write("svc.local.zone", OVERLAY);
    // The longest name, with as many labels as possible.
    let deepest = "a.".repeat(126);
    let deep =
        format!("$TTL 60\n@ SOA ns h 1 1 1 1 30\n@ NS ns\nns A 192.0.2.40\n{deepest}l. A 192.0.2.41\n");
    write("l.zone", &deep);
    directory
}

//! Labels, annotations and fixed values of the objects that the mirror writes.

/// Label with the owner of an object, which is [`OWNER`] for ours.
pub(in crate::kubernetes) const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
pub(in crate::kubernetes) const OWNER: &str = env!("CARGO_PKG_NAME");
/// Label with the Kubernetes namespace that the server runs in, which distinguishes several installations in one
/// cluster.
pub(super) const INSTALLATION: &str = "cloudmap-dns.io/installation";
pub(super) const SERVICE_NAME: &str = "kubernetes.io/service-name";
pub(super) const SLICE_MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
pub(in crate::kubernetes) const SERVICE_ID: &str = "kecs.io/service-id";
pub(in crate::kubernetes) const NAMESPACE_ID: &str = "kecs.io/namespace-id";
pub(super) const SERVICE_ARN: &str = "kecs.io/service-arn";
/// Label that keeps Kubernetes from making EndpointSlices of an Endpoints object.
pub(super) const SKIP_MIRROR: &str = "endpointslice.kubernetes.io/skip-mirror";
/// Annotation of an Endpoints object that lacks addresses of its Service, with the value [`TRUNCATED`].
pub(super) const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
pub(super) const TRUNCATED: &str = "truncated";
pub(super) const LABEL_KEYS: [&str; 8] = [
    "kecs.io/service-discovery",
    "kecs.io/namespace",
    "kecs.io/service",
    MANAGED_BY,
    INSTALLATION,
    SERVICE_NAME,
    SLICE_MANAGED_BY,
    SKIP_MIRROR,
];
pub(super) const ANNOTATION_KEYS: [&str; 4] = [SERVICE_ID, NAMESPACE_ID, SERVICE_ARN, OVER_CAPACITY];
/// Name of the only port of a headless Service, as KECS has it. The ports of slices and Endpoints, which are the
/// instances' own, have this name too, so that kube-proxy maps this port of a cluster IP to all instances.
pub(super) const PORT_NAME: &str = "http";
pub(super) const SERVICE_PORT: u16 = 80;
/// Prefix of the names of an instance's own port at a cluster IP. KECS's other Services have such names.
pub(super) const OWN_PORT_PREFIX: &str = "port-";
pub(super) const TCP: &str = "TCP";
pub(super) const HEADLESS: &str = "None";

//! Mirror of Cloud Map's services as Services with EndpointSlices and Endpoints, for tools that read the cluster.
//!
//! Each service of a DNS namespace has a Service `sd-<service>` in the Kubernetes namespace that KECS would use, with
//! KECS's labels and annotations, and EndpointSlices with the addresses of its instances. The Service is headless, as
//! KECS has it, or one with a cluster IP ([`MirrorForm`]). An endpoint is ready, and
//! serving, if DNS answers its instance, fail-open included. A pod that is being deleted is not an instance any more, but
//! its endpoints remain until it has ended: terminating, not ready, and serving while the pod is ready. Kubernetes' own
//! slices are like that, so that connections can be drained. Instances without an address (CNAME, aliases) are in no
//! slice, and neither are addresses that are valid on one host only.
//!
//! An Endpoints object has the addresses of all slices of a Service, at most 1,000, because KECS and its tools read
//! that kind. Kubernetes deprecated it in 1.33, so a setting turns it off. The label `skip-mirror` keeps the cluster
//! from making slices of it that would repeat ours. If the account may not list Endpoints, such as one from before
//! they were written, the rest of the mirror is written all the same.
//!
//! Our objects have our labels; others are never changed. An object of somebody else that has a name that the mirror
//! needs is a clash: it is reported and checked again every 15 seconds, and until it is gone, no addresses of that
//! service are written. Objects whose service is gone are deleted. Missing Kubernetes namespaces are created, and
//! never deleted.
//!
//! Only the leader writes, only differences, and at most 50 times a second. Changes wait a tenth of a second for
//! others of the same service. DNS and the API never wait for the mirror.

mod cache;
mod desired;
mod labels;
mod names;
mod object;
mod reconciler;
mod status;
#[cfg(test)]
mod tests;
mod writer;

pub(super) use labels::{MANAGED_BY, NAMESPACE_ID, OWNER, SERVICE_ID};
pub use object::MirrorForm;
pub(super) use reconciler::Mirror;
pub use status::MirrorStatus;

//! The kinds of custom resources, and the traits of those that describe objects of the model: where such an object is
//! stored, how it is named, and how it is translated. Writes, lookups and the index are generic over these traits.

mod all;
mod health_report;
mod instance;
mod namespace;
mod service;
mod traits;

pub(super) use all::{Kind, OfKind};
pub(super) use health_report::{health_report_object, pod_signals};
pub(super) use instance::instance_object;
pub(super) use namespace::{namespace_object, namespace_request};
pub(super) use service::{service_object, service_request};
pub(super) use traits::{ClaimingKind, OwnerKind, ResourceKind};

//! Settings of the registry, with the defaults that apply without any flag.

use crate::model::{EpochMs, Identity};

use super::health::HealthSettings;

/// Age in milliseconds below which an operation is kept even beyond [`Settings::operations_retained`]. Longer than clients
/// poll for its result.
pub const OPERATION_YOUNG_MS: EpochMs = 15 * 60 * 1000;
/// Limit of all operations kept, young ones included, as a multiple of [`Settings::operations_retained`].
pub const OPERATIONS_YOUNG_FACTOR: usize = 10;

/// Behaviour of the registry. The identity, which is account and region, is part of every ARN and determines the ids. Of
/// finished operations, `operations_retained` are kept; the oldest are dropped first. Services can override the health
/// policies by service attributes.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the fields are explained by the type's document")]
pub struct Settings {
    pub identity: Identity,
    pub validation: Validation,
    pub quotas: Quotas,
    pub operations_retained: usize,
    pub health: HealthSettings,
}

/// Treatment of input that AWS would refuse, but that makes sense here. Lenient validation stores such input and logs each
/// kind of it once; DNS serves those parts of it that are valid in DNS. Strict validation refuses it with the error of AWS.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "the variants are explained by the enum's document")]
pub enum Validation {
    Lenient,
    Strict,
}

/// Limits on the number of resources. Exceeding one is ResourceLimitExceeded, or the API's more specific error.
///
/// AWS allows 50 namespaces (which can be raised), 1,000 instances of a service, 30 attributes of an instance, 50 tags of a
/// namespace or service, and 30 service attributes. `services` and `instances` limit the totals of this server.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the fields are explained by the type's document")]
pub struct Quotas {
    pub namespaces: usize,
    pub services: usize,
    pub instances_per_service: usize,
    pub instances: usize,
    pub attributes_per_instance: usize,
    pub tags_per_resource: usize,
    pub attributes_per_service: usize,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            identity: Identity { account_id: "000000000000".into(), region: "us-east-1".into() },
            validation: Validation::Lenient,
            quotas: Quotas {
                namespaces: 10_000,
                services: 1_000_000,
                instances_per_service: 1_000,
                instances: 4_000_000,
                attributes_per_instance: 30,
                tags_per_resource: 50,
                attributes_per_service: 30,
            },
            operations_retained: 10_000,
            health: HealthSettings::default(),
        }
    }
}

//! Settings of the registry, with the defaults that apply without any flag.

use crate::model::{EpochMs, Identity};

use super::health::HealthSettings;

/// Age in milliseconds below which an operation is kept even beyond [`Settings::operations_retained`]. Longer than clients
/// poll for its result.
pub const OPERATION_YOUNG_MS: EpochMs = 15 * 60 * 1000;
/// Limit of all operations kept, young ones included, as a multiple of [`Settings::operations_retained`].
pub const OPERATIONS_YOUNG_FACTOR: usize = 10;

/// Behaviour of the registry: identity, validation, quotas and health policies.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Account and region, which are part of every ARN and determine the ids.
    pub identity: Identity,
    /// Treatment of input that AWS would refuse.
    pub validation: Validation,
    /// Limits on the number of resources.
    pub quotas: Quotas,
    /// Number of finished operations to keep; the oldest are dropped first.
    pub operations_retained: usize,
    /// Defaults of the health policies that services can override by service attributes.
    pub health: HealthSettings,
}

/// Treatment of input that AWS would refuse, but that makes sense here.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Validation {
    /// Such input is stored, and logged once for each kind. DNS serves those parts of it that are valid in DNS.
    Lenient,
    /// Such input is refused with the error that AWS returns.
    Strict,
}

/// Limits on the number of resources. Exceeding one is ResourceLimitExceeded, or the API's more specific error.
#[derive(Clone, Debug)]
pub struct Quotas {
    /// Namespaces of all kinds together (AWS: 50, can be raised).
    pub namespaces: usize,
    /// Services of all namespaces together.
    pub services: usize,
    /// Instances of one service (AWS: 1,000).
    pub instances_per_service: usize,
    /// Instances of all services together.
    pub instances: usize,
    /// Attributes of one instance (AWS: 30).
    pub attributes_per_instance: usize,
    /// Tags of one namespace or service (AWS: 50).
    pub tags_per_resource: usize,
    /// Service attributes of one service (AWS: 30).
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

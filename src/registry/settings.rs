//! Settings of the registry.

use crate::model::{EpochMs, Identity};

use super::health::HealthSettings;

/// Age until which an operation is kept beyond the number that is kept anyway, in milliseconds: longer than clients poll.
pub const OPERATION_YOUNG_MS: EpochMs = 15 * 60 * 1000;
/// Multiple of that number that may be kept because they are young.
pub const OPERATIONS_YOUNG_FACTOR: usize = 10;

/// How the registry behaves.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Part of every id and ARN.
    pub identity: Identity,
    /// What happens to input that AWS would refuse.
    pub validation: Validation,
    /// How much there can be.
    pub quotas: Quotas,
    /// Finished operations that are kept; the oldest go first.
    pub operations_retained: usize,
    /// The defaults of what services can set for themselves by service attributes.
    pub health: HealthSettings,
}

/// What happens to input that AWS would refuse, but that makes sense here.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Validation {
    /// It is stored and logged; DNS gets what makes sense in DNS.
    Lenient,
    /// It is refused as AWS refuses it.
    Strict,
}

/// How much there can be; more is ResourceLimitExceeded or the error that the API has for it.
#[derive(Clone, Debug)]
pub struct Quotas {
    /// Namespaces (AWS: 50, can be raised).
    pub namespaces: usize,
    /// Services in all namespaces.
    pub services: usize,
    /// Instances of one service (AWS: 1,000).
    pub instances_per_service: usize,
    /// Instances of all services.
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

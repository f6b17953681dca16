//! The traits of a kind. Each adds what fewer kinds have: a health report has no owner, and nothing is in an instance.

use std::fmt::Display;
use std::sync::Arc;

use kube::ResourceExt;

use crate::model::{EpochMs, Identity, Operation};
use crate::registry::RegistryError;

use super::super::index::{Index, IndexedKind};
use super::super::keys::{Claim, OwnerKey};
use super::super::operation_annotation::{self, SpecIds};
use super::super::request::WRITTEN_BY;
use super::super::resources::Condition;
use super::super::translate::{NUMBER, created_ms, signed, unsigned, version};

/// A kind of custom resource, each of which describes one object of the model.
pub(in crate::store::kubernetes) trait ResourceKind: IndexedKind {
    type Model;

    /// Reason of a lost write whose object was deleted at the same time.
    const DELETED: &'static str;

    /// The name that this version gives to the object, as far as it follows from the id alone. Ids of operations contain
    /// it.
    fn standard_name(id: &Self::Id) -> String;

    /// Sets the fields of the spec that the API can change.
    fn update(&mut self, model: &Self::Model);

    /// Ids that the spec contains, so that operations in the annotation need not; `None` for a kind without operations.
    fn spec_ids(&self, identity: &Identity) -> Option<SpecIds>;

    /// The number of the object's creation, if it has to be stored in an annotation before the object is written again.
    fn unstored_number(&self, offset: u64) -> Option<u64>;

    fn operations(&self, identity: &Identity) -> Vec<Operation> {
        let spec_ids = self.spec_ids(identity);
        spec_ids.map_or_else(Vec::new, |spec_ids| operation_annotation::read(self.meta(), &spec_ids, 0))
    }
}

#[derive(Default)]
pub(in crate::store::kubernetes) struct StatusFields<'s> {
    pub(super) number: Option<i64>,
    pub(super) create_date_ms: Option<EpochMs>,
    pub(in crate::store::kubernetes) conditions: &'s [Condition],
}

/// A kind whose objects may have any name. Several may claim one identity, and the index decides between them.
pub(in crate::store::kubernetes) trait ClaimingKind: ResourceKind {
    fn owner(&self) -> Option<OwnerKey>;

    /// The identity that the object claims; an error if its owner does not exist.
    fn claim(&self, index: &Index) -> Result<Arc<Claim>, RegistryError>;

    /// The name that this version would give to the object, if the object has another one and is found by its name.
    fn unused_standard_name(&self) -> Option<String> {
        None
    }

    fn claim_of(index: &Index, id: &Self::Id) -> Option<Arc<Claim>>;

    /// True if an object with the claim of a resource describes that resource, and not another one with its name.
    fn describes(_index: &Index, _name: &str, _id: &Self::Id) -> bool {
        true
    }

    /// Decides which of the objects with this claim are accepted.
    fn decide(index: &mut Index, claim: &Arc<Claim>);

    fn status_fields(&self) -> StatusFields<'_>;

    /// Order among objects with one claim that were created in one second; `None` for one that was not accepted yet.
    fn claim_rank(&self, offset: u64) -> Option<i64>;

    fn creation_version(&self, offset: u64) -> u64;
}

/// A kind whose resources contain those of another kind: namespaces and services.
pub(in crate::store::kubernetes) trait OwnerKind:
    ClaimingKind<Id: Display>
{
    type Content: ClaimingKind;

    /// Field of a content's spec with the id of its owner.
    const CONTENT_FIELD: &'static str;

    /// The number of the object's creation from its status or annotation.
    fn stored_number(&self) -> Option<u64> {
        let annotated = || self.annotations().get(NUMBER)?.parse().ok();
        unsigned(self.status_fields().number).or_else(annotated)
    }

    /// The number of the object's creation; without a stored number, it is that of the only write.
    fn creation_number(&self, offset: u64) -> u64 {
        self.stored_number().unwrap_or_else(|| version(self.meta()) + offset)
    }

    /// The number of the creation as [`ClaimingKind::claim_rank`]. Objects of the API are always accepted, and those
    /// applied by hand have a number in their status once they are.
    fn rank_by_creation(&self, offset: u64) -> Option<i64> {
        let is_accepted = self.annotations().contains_key(WRITTEN_BY) || self.stored_number().is_some();
        is_accepted.then(|| signed(self.creation_number(offset)))
    }

    /// Time of the creation, in milliseconds since 1970. The status has that of an object that was imported.
    fn create_date_ms(&self) -> EpochMs {
        self.status_fields().create_date_ms.unwrap_or_else(|| created_ms(self.meta()))
    }
}

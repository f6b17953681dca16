//! Records of operations without an object, and lookups of the operation of a repeated request.

use kube::ResourceExt;

use crate::model::{Operation, OperationId, OperationStatus, OperationTargets, OperationType};

use super::super::index::Index;
use super::super::keys::InstanceKey;
use super::super::kind::{OwnerKind, ResourceKind};
use super::super::operation_annotation::{self, SpecIds};
use super::super::request::{self, Failed, WRITTEN_BY};
use super::super::resources::{CloudMapInstance, CloudMapNamespace};
use super::super::translate;
use super::writer::BatchWriter;

/// Time that a repeated request waits for the operation of the first one, in milliseconds. A server of version 0.1.0
/// writes it after the object.
const OPERATION_MS_MAX: u64 = 500;
/// Limit of the operations of one record, in bytes. Kubernetes allows 256 KiB for all annotations of an object.
const RECORD_BYTES_MAX: usize = 128 * 1024;

pub(super) struct Unrecorded {
    /// Position of the operation's group in the batch. An operation without a position already has its id and number: it
    /// was in the annotation of an object that is deleted.
    pub(super) at: Option<usize>,
    pub(super) operation: Operation,
}

impl BatchWriter<'_> {
    /// Writes operations into as few records as possible. Returns their ids by the positions of their groups in the
    /// batch.
    pub(super) async fn record(
        &self,
        mut unrecorded: Vec<Unrecorded>,
    ) -> Vec<(usize, Result<OperationId, Failed>)> {
        let mut recorded = Vec::new();
        while !unrecorded.is_empty() {
            let mut bytes = 0;
            let fits = unrecorded.iter().take_while(|one| {
                bytes += operation_annotation::bytes_of(&one.operation);
                bytes <= RECORD_BYTES_MAX
            });
            let count = fits.count().max(1);
            let mut rest = unrecorded.split_off(count);
            std::mem::swap(&mut rest, &mut unrecorded);
            let name = operation_annotation::new_record_name();
            for one in rest.iter_mut().filter(|one| one.at.is_some()) {
                one.operation.id = operation_annotation::new_id(&name);
                one.operation.number = 0;
            }
            let written = self.write_record(&name, &rest).await;
            if let Err(failed) = &written {
                tracing::warn!(?failed, operations = rest.len(), "operations could not be recorded");
            }
            recorded.extend(rest.into_iter().filter_map(|one| {
                let id = written.as_ref().map(|()| one.operation.id).map_err(|failed| {
                    let why = failed.clone().into_reason();
                    Failed::Unknown(format!(
                        "the change was made, but its operation could not be recorded: {why}"
                    ))
                });
                Some((one.at?, id))
            }));
        }
        recorded
    }

    async fn write_record(&self, name: &str, recorded: &[Unrecorded]) -> Result<(), Failed> {
        let Some(shown) = recorded.iter().find(|one| one.at.is_some()).or(recorded.first()) else {
            return Ok(());
        };
        let operations: Vec<_> = recorded.iter().map(|one| one.operation.clone()).collect();
        // The spec contains one of the operations, for kubectl and for servers of version 0.1.0.
        let number = Some(shown.operation.number).filter(|number| *number > 0);
        let mut object = translate::operation_object(name, &shown.operation, number);
        operation_annotation::write(&mut object.metadata, &SpecIds::default(), &operations);
        object.annotations_mut().insert(WRITTEN_BY.into(), self.shared.unique());
        let stored = request::create(self.shared.api(), &object, self.until).await?;
        self.shared.wrote(&stored);
        self.shared.update_index(|index| index.put_operation(&stored));
        Ok(())
    }

    /// Finds the operation of the first attempt of a request. `again` is the operation that was planned for the
    /// repetition, which changes nothing. `None` if the first operation was dropped or never written.
    pub(super) async fn earlier_operation(&self, again: &Operation) -> Result<Option<OperationId>, Failed> {
        let (OperationStatus::Success, OperationTargets::Namespace(_) | OperationTargets::Instance { .. }) =
            (&again.status, &again.targets)
        else {
            return Ok(None);
        };
        let changed = || Failed::lost("it was changed at the same time");
        let (first, is_expected) = {
            let index = self.shared.index();
            let origin = self.origin_of(&index, &again.targets, again.operation_type)?.ok_or_else(changed)?;
            if let Some(id) = origin.operation {
                return Ok(Some(id));
            }
            let is_kept = index.oldest_operation().is_none_or(|oldest| oldest <= origin.number);
            (origin.number, origin.is_by_api && is_kept)
        };
        if !is_expected {
            return Ok(None);
        }
        let written = |index: &Index| index.operation_at(first, &again.targets);
        if let Some(id) = self.shared.wait_for(OPERATION_MS_MAX, written).await {
            return Ok(Some(id));
        }
        let now = self.origin_of(&self.shared.index(), &again.targets, again.operation_type)?;
        if now.is_some_and(|origin| origin.number == first) { Ok(None) } else { Err(changed()) }
    }

    fn origin_of(
        &self,
        index: &Index,
        targets: &OperationTargets,
        operation_type: OperationType,
    ) -> Result<Option<Origin>, Failed> {
        match targets {
            OperationTargets::Namespace(id) => {
                let number = |object: &CloudMapNamespace| object.creation_number(index.offset());
                self.origin_in(index, id, operation_type, number)
            }
            OperationTargets::Instance { instance, service, .. } => {
                let key = InstanceKey::new(service, instance);
                let number = |object: &CloudMapInstance| translate::instance_number(object, index.offset());
                self.origin_in(index, &key, operation_type, number)
            }
            OperationTargets::Service { .. } => Ok(None),
        }
    }

    fn origin_in<K: ResourceKind>(
        &self,
        index: &Index,
        id: &K::Id,
        operation_type: OperationType,
        number: impl Fn(&K) -> u64,
    ) -> Result<Option<Origin>, Failed> {
        let Some(object) = K::find(index, id) else { return Ok(None) };
        self.check_known(index, &*object)?;
        let is_by_api = object.annotations().contains_key(WRITTEN_BY);
        // The last registration, because an instance may have been registered several times.
        let mut operations = object.operations(index.identity()).into_iter();
        let operation = operations.rfind(|one| one.operation_type == operation_type);
        let is_forgotten = operation.as_ref().is_some_and(|one| !index.has_operation(one.id.as_str()));
        let operation = operation.filter(|_| !is_forgotten).map(|one| one.id);
        Ok(Some(Origin { number: number(&object), operation, is_by_api: is_by_api && !is_forgotten }))
    }
}

struct Origin {
    number: u64,
    operation: Option<OperationId>,
    is_by_api: bool,
}

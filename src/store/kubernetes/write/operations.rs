//! Writing operations, and finding the one of a request that is made again.

use kube::ResourceExt;

use crate::model::{Operation, OperationStatus, OperationTargets};

use super::super::index::Index;
use super::super::request::{self, Failed, WRITTEN_BY};
use super::super::translate;
use super::Writer;

/// Time that a request which is made again waits for the operation of the first one, in milliseconds.
const OPERATION_MS_MAX: u64 = 500;

impl Writer<'_> {
    pub(super) async fn put_operation(
        &self,
        operation: &Operation,
        number: Option<u64>,
    ) -> Result<u64, Failed> {
        let name = format!("op-{}", self.shared.unique());
        let mut object = translate::operation_object(&name, operation, number);
        self.sign(&mut object);
        let stored =
            request::create(&self.shared.operations, &object, self.until).await.map_err(|failed| {
                let why = failed.into_reason();
                Failed::Unknown(format!("it is done, but its operation could not be written down: {why}"))
            })?;
        let number = self.shared.learn(|index| index.put_operation(&stored));
        number.ok_or_else(|| Failed::Unknown("its operation cannot be read".into()))
    }

    /// The number of the operation that carried a request out when it was made first; `again` is the operation planned for
    /// the request that was made again, which changes nothing. `None` if that operation was forgotten or never written.
    pub(super) async fn earlier_operation(&self, again: &Operation) -> Result<Option<u64>, Failed> {
        let (OperationStatus::Success, OperationTargets::Namespace(_) | OperationTargets::Instance { .. }) =
            (&again.status, &again.targets)
        else {
            return Ok(None);
        };
        let changed = || Failed::lost("it was changed at the same time");
        let (first, is_expected) = {
            let index = self.shared.index();
            let (first, has_operation) = self.made_by(&index, &again.targets)?.ok_or_else(changed)?;
            (first, has_operation && index.oldest_operation().is_none_or(|oldest| oldest <= first))
        };
        if !is_expected {
            return Ok(None);
        }
        // Another server writes it right after the object.
        let written = |index: &Index| index.operation_name(first).map(drop);
        if self.shared.shown(OPERATION_MS_MAX, written).await.is_some() {
            return Ok(Some(first));
        }
        let now = self.made_by(&self.shared.index(), &again.targets)?;
        if now.is_some_and(|(number, _)| number == first) { Ok(None) } else { Err(changed()) }
    }

    /// The number of the operation that made what `targets` names as it is now, and whether an operation was written for
    /// it, as for all that the API makes.
    pub(super) fn made_by(
        &self,
        index: &Index,
        targets: &OperationTargets,
    ) -> Result<Option<(u64, bool)>, Failed> {
        match targets {
            OperationTargets::Namespace(id) => {
                let Some(object) = index.namespace_object(id) else { return Ok(None) };
                self.known(index, object)?;
                Ok(Some((index.namespace_number(object), object.annotations().contains_key(WRITTEN_BY))))
            }
            OperationTargets::Instance { instance, service, .. } => {
                let Some(object) = index.instance_object(service, instance) else { return Ok(None) };
                self.known(index, object)?;
                let number = translate::instance_number(object, index.offset());
                Ok(Some((number, object.annotations().contains_key(WRITTEN_BY))))
            }
            OperationTargets::Service { .. } => Ok(None),
        }
    }

    /// Forgets an operation. Every replica does it, and nobody waits for it.
    pub(super) fn drop_operation(&self, number: u64) {
        let Some(name) = self.shared.index().operation_name(number) else { return };
        let shared = self.shared.clone();
        tokio::spawn(async move {
            let gone = shared.operations.delete(&name, &kube::api::DeleteParams::background()).await;
            let is_gone = match &gone {
                Ok(_) => true,
                Err(kube::Error::Api(status)) => status.code == 404,
                Err(_) => false,
            };
            if is_gone {
                shared.learn(|index| index.remove_operation(&name));
            }
        });
    }
}

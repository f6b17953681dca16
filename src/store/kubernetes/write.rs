//! Writes of the registry's batches to the API server.
//!
//! The groups of a step are written concurrently. The new objects are checked after all of them exist, so that one read
//! of an owner serves all that was created in it. Operations without an object are written at the end of the batch.

mod creations;
mod deletions;
mod limits;
mod marks;
mod operations;
mod plan;
mod reports;
mod updates;
mod writer;

use std::collections::HashSet;
use std::sync::Arc;

use crate::model::OperationId;
use crate::registry::{Change, Group, RegistryError, StoreError, Verdict};

use super::keys::WriteKey;
use super::request::{Deadline, Failed};
use super::shared::Shared;
use limits::{BATCH_MS_MAX, BATCH_MS_MAX_UNREACHABLE};
use operations::Unrecorded;
use plan::plan;
use writer::{BatchWriter, GroupResult, Outcome};

pub(super) use limits::WINNER_MS_MAX;

/// Writes a batch: independent groups concurrently, and the others in order.
pub(super) async fn batch(shared: &Arc<Shared>, batch: &[Group]) -> Result<Vec<Verdict>, StoreError> {
    let unknown = |what: String| StoreError { what, source: None };
    // Numbers alone need no write, because etcd assigns them.
    let is_number = |change: &Change| matches!(change, Change::PutSequence(_) | Change::PutRevision(..));
    if batch.iter().flatten().all(is_number) {
        return Ok(vec![Verdict::Accepted; batch.len()]);
    }
    if !shared.index().is_read() {
        return Err(unknown("the custom resources have not been listed yet, so changes are refused".into()));
    }
    let plans = plan(&shared.index(), batch);
    let is_unreachable = !shared.progress().trouble.is_empty();
    let until = Deadline::after_ms(if is_unreachable { BATCH_MS_MAX_UNREACHABLE } else { BATCH_MS_MAX });
    let mut results: Vec<Option<Result<Option<OperationId>, Failed>>> = batch.iter().map(|_| None).collect();
    let mut unrecorded = Vec::new();
    // Versions that this batch has written. They are newer than what the registry has read, but its plans know them.
    let mut written = HashSet::new();
    let mut failed: HashSet<&WriteKey> = HashSet::new();
    for step in 0..=plans.iter().map(|plan| plan.step).max().unwrap_or(0) {
        let now = plans.iter().enumerate().filter(|(_, plan)| plan.step == step);
        let (ready, blocked): (Vec<_>, Vec<_>) =
            now.partition(|(_, plan)| !plan.keys().any(|key| failed.contains(key)));
        for (at, plan) in blocked {
            failed.extend(&plan.writes);
            results[at] = Some(Err(Failed::lost("a change that it depends on was not stored")));
        }
        let writer = BatchWriter { shared, written: &written, until };
        let step = writer.step(ready.into_iter().map(|(at, _)| (at, &batch[at])).collect()).await;
        for GroupResult { at, result, versions, orphaned } in step {
            written.extend(versions);
            if result.is_err() {
                failed.extend(&plans[at].writes);
            }
            let result = result.map(|done| match done {
                Some(Outcome::Stored(id)) => Some(id),
                Some(Outcome::Unrecorded(operation)) => {
                    unrecorded.push(Unrecorded { at: Some(at), operation });
                    None
                }
                None => None,
            });
            unrecorded.extend(orphaned.into_iter().map(|operation| Unrecorded { at: None, operation }));
            results[at] = Some(result);
        }
    }
    let writer = BatchWriter { shared, written: &written, until };
    for (at, recorded) in writer.record(unrecorded).await {
        results[at] = Some(recorded.map(Some));
    }
    let verdicts: Vec<_> = results.into_iter().flatten().collect();
    if let Some(Err(Failed::Unknown(why))) = verdicts.first()
        && verdicts.iter().all(|verdict| matches!(verdict, Err(Failed::Unknown(_))))
    {
        return Err(unknown(format!("the Kubernetes API does not accept changes now: {why}")));
    }
    let verdict = |result| match result {
        Ok(operation) => Verdict::Arrives { operation },
        Err(Failed::Lost { why, .. }) => Verdict::Lost(why),
        Err(Failed::InUse(why)) => Verdict::Refused(RegistryError::ResourceInUse(why)),
        Err(Failed::Refused(why)) => Verdict::Refused(RegistryError::NotStored(why)),
        Err(Failed::Unknown(why)) => {
            let why = format!("it is unknown whether the change was stored, so retry the request: {why}");
            Verdict::Refused(RegistryError::NotStored(why))
        }
    };
    Ok(verdicts.into_iter().map(verdict).collect())
}

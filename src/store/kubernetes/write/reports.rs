//! Writes of the health reports about instances that are pods.

use kube::ResourceExt;

use crate::model::{Operation, PodSignals};

use super::super::index::IndexedKind;
use super::super::keys::InstanceKey;
use super::super::kind::{ResourceKind, health_report_object};
use super::super::request::{self, Deadline, Failed, Winner, version_of};
use super::super::resources::CloudMapHealthReport;
use super::writer::BatchWriter;

/// Time limit of writing a health report, in milliseconds; after it the caller gets an error and retries.
const REPORT_MS_MAX: u64 = 1_500;

impl BatchWriter<'_> {
    /// Writes a health report. There is one object for each instance of a service, whichever pod the instance is.
    pub(super) async fn put_report(
        &self,
        key: &InstanceKey,
        about: &PodSignals,
    ) -> Result<Option<u64>, Failed> {
        let until = self.until.at_most_ms(REPORT_MS_MAX);
        let there = CloudMapHealthReport::find(&self.shared.index(), key);
        if let Some(before) = there {
            self.check_known(&self.shared.index(), &*before)?;
            let mut object = CloudMapHealthReport::clone(&before);
            object.update(about);
            if before.spec == object.spec {
                return self.check_unchanged(&before, until).await;
            }
            return self.replace(&*before, object, until).await.map(Some);
        }
        let mut object = health_report_object(key, about);
        self.sign(&mut object);
        let stored = request::create(self.shared.api(), &object, until).await;
        let stored = self.wait_for_winner(&object, stored).await?;
        Ok(Some(self.put_response(stored)))
    }

    /// Deletes a report. If the index has none, the API server must have none either.
    pub(super) async fn drop_report(
        &self,
        key: &InstanceKey,
        orphaned: &mut Vec<Operation>,
    ) -> Result<(), Failed> {
        let is_known = CloudMapHealthReport::find(&self.shared.index(), key).is_some();
        if is_known {
            return self.delete::<CloudMapHealthReport>(key, orphaned).await;
        }
        let name = CloudMapHealthReport::standard_name(key);
        let until = self.until.at_most_ms(REPORT_MS_MAX);
        let there = request::read(|| self.shared.reports.get_opt(&name), until).await?;
        let Some(there) = there else { return Ok(()) };
        let winner = Winner::Version(version_of(&there));
        let lost = Failed::Lost { winner, why: format!("{name} was created at the same time") };
        self.wait_for_winner(&there, Err(lost)).await
    }

    /// Checks that no other server has changed a report which already has the contents to be written.
    async fn check_unchanged(
        &self,
        report: &CloudMapHealthReport,
        until: Deadline,
    ) -> Result<Option<u64>, Failed> {
        let name = report.name_any();
        let there = request::read(|| self.shared.reports.get_opt(&name), until).await?;
        if there.as_ref().map(version_of) == Some(version_of(report)) {
            return Ok(None);
        }
        let winner = there.as_ref().map_or(Winner::Deletion, |there| Winner::Version(version_of(there)));
        let lost = Failed::Lost { winner, why: format!("{name} was changed at the same time") };
        self.wait_for_winner(report, Err(lost)).await
    }
}

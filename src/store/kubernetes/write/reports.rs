//! Writes of the health reports about instances that are pods.

use kube::ResourceExt;
use kube::api::ObjectMeta;

use crate::model::{HealthReport, ServiceId};

use super::super::index::{Index, Removal};
use super::super::request::{self, Deadline, Failed, Winner, version_of};
use super::super::resources::CloudMapHealthReport;
use super::super::translate::uid_of;
use super::super::{names, translate};
use super::BatchWriter;

/// Time limit of writing a health report, in milliseconds; after it the caller gets an error and retries.
const REPORT_MS_MAX: u64 = 1_500;

impl BatchWriter<'_> {
    /// Writes a health report. There is one object for each instance of a service, whichever pod the instance is.
    pub(super) async fn put_report(
        &self,
        service: &ServiceId,
        instance: &str,
        report: &HealthReport,
    ) -> Result<Option<u64>, Failed> {
        let api = &self.shared.reports;
        let until = self.until.at_most_ms(REPORT_MS_MAX);
        let there = self.shared.index().report_object(service, instance);
        let name = names::of_report(service, instance);
        let mut object = translate::report_object(&name, service, instance, report);
        if let Some(before) = there {
            self.check_known(&self.shared.index(), &*before)?;
            if before.spec == object.spec {
                return self.check_unchanged(&before, until).await;
            }
            let metadata = ObjectMeta { annotations: object.metadata.annotations, ..before.metadata.clone() };
            let object = CloudMapHealthReport { metadata, ..object };
            return self.replace(api, &*before, object, until, Index::put_report).await.map(Some);
        }
        self.sign(&mut object);
        let stored = self.wait_for_winner(&object, request::create(api, &object, until).await).await?;
        let version = version_of(&stored);
        self.shared.wrote(&stored);
        self.shared.update_index(|index| index.put_report(stored));
        Ok(Some(version))
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

    pub(super) async fn drop_report(
        &self,
        service: &ServiceId,
        instance: &str,
    ) -> Result<Option<u64>, Failed> {
        let there = self.shared.index().report_object(service, instance);
        let Some(object) = there else {
            return Err(Failed::lost("the report was deleted at the same time"));
        };
        self.check_known(&self.shared.index(), &*object)?;
        let (name, uid) = (object.name_any(), uid_of(&*object));
        let deleted = request::delete(&self.shared.reports, &name, uid, Some(&*object), self.until).await;
        self.wait_for_winner(&*object, deleted).await?;
        self.shared.update_index(|index| index.remove_report(&name, uid, Removal::Own));
        Ok(None)
    }
}

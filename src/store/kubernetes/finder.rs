//! Reads of single objects that the watch has not delivered yet, by names that follow from ids.
//!
//! An object that was read is added to the index like the response to a write, so the index and the registry decide about
//! it like about every other one. Nothing is read while the API server is known to be unreachable.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::model::{NamespaceId, ServiceId};
use crate::registry::{Finder, Sought};

use super::index::{Index, IndexedKind};
use super::kind::{Kind, ResourceKind};
use super::names;
use super::operation_annotation::holder_of;
use super::resources::{CloudMapInstance, CloudMapNamespace, CloudMapService};
use super::shared::Shared;

/// Limit of concurrent lookups, each of which may read several objects.
const READS_MAX: usize = 32;
/// Time that a lookup waits for one of these permits, in milliseconds.
const PERMIT_MS_MAX: u64 = 200;
const READ_MS_MAX: u64 = 1_000;
/// Time to wait for an operation whose object is deleted, in milliseconds: the name of the record that has it then does
/// not follow from the operation's id, so it can only come from the watch.
const RECORDED_MS_MAX: u64 = 250;

pub(super) struct ClusterFinder {
    shared: Arc<Shared>,
    reads: Semaphore,
}

impl ClusterFinder {
    pub(super) fn new(shared: Arc<Shared>) -> ClusterFinder {
        ClusterFinder { shared, reads: Semaphore::new(READS_MAX) }
    }

    async fn read(&self, sought: &Sought) -> Option<()> {
        if !self.shared.index().is_read() || !self.shared.progress().trouble.is_empty() {
            return None;
        }
        let _permit = timeout(Duration::from_millis(PERMIT_MS_MAX), self.reads.acquire()).await.ok()?.ok()?;
        let read = async {
            match sought {
                Sought::Namespace(id) => self.namespace(id).await,
                Sought::Service(id) => self.service(id).await,
                Sought::Instance(service, id) => self.instance(service, id).await,
                Sought::Operation(id) => self.operation(id).await,
            }
        };
        timeout(Duration::from_millis(READ_MS_MAX), read).await.ok()?
    }

    async fn namespace(&self, id: &NamespaceId) -> Option<()> {
        if !self.has_namespace(id) {
            self.read_object::<CloudMapNamespace>(id.as_str()).await??;
        }
        self.has_namespace(id).then_some(())
    }

    async fn service(&self, id: &ServiceId) -> Option<()> {
        if !self.has_service(id) {
            let object = self.shared.services.get_opt(id.as_str()).await.ok()??;
            if let Some(owner) = &object.spec.namespace_id {
                self.namespace(&owner.as_str().into()).await?;
            }
            self.shared.update_index(|index| CloudMapService::put(index, object));
        }
        self.has_service(id).then_some(())
    }

    async fn instance(&self, service: &ServiceId, id: &str) -> Option<()> {
        self.service(service).await?;
        self.read_object::<CloudMapInstance>(&names::of_instance(service, id)).await??;
        let index = self.shared.index();
        index.state().service(service.as_str()).ok()?.instance(id).is_ok().then_some(())
    }

    /// Reads the object or record that has an operation in its annotation.
    async fn operation(&self, id: &str) -> Option<()> {
        let (kind, name) = holder_of(id)?;
        let name = self.shared.index().current_name(kind, &name);
        match kind {
            Kind::Namespace => _ = self.read_object::<CloudMapNamespace>(&name).await?,
            Kind::Service => _ = self.read_object::<CloudMapService>(&name).await?,
            Kind::Instance => _ = self.read_object::<CloudMapInstance>(&name).await?,
            Kind::Operation => {
                let object = self.shared.operations.get_opt(&name).await.ok()??;
                self.shared.update_index(|index| index.put_operation(&object));
            }
            Kind::HealthReport | Kind::Store => return None,
        }
        self.shared.wait_for(RECORDED_MS_MAX, |index| index.has_operation(id).then_some(())).await
    }

    /// Reads the object of this name, and adds it to the index. The outer option is `None` if it could not be read, and
    /// the inner one if it does not exist.
    async fn read_object<K: ResourceKind>(&self, name: &str) -> Option<Option<()>> {
        let object = self.shared.api::<K>().get_opt(name).await.ok()?;
        Some(object.map(|object| self.shared.update_index(|index| K::put(index, object))))
    }

    fn has_namespace(&self, id: &NamespaceId) -> bool {
        self.shared.index().state().namespace(id.as_str()).is_ok()
    }

    fn has_service(&self, id: &ServiceId) -> bool {
        self.shared.index().state().service(id.as_str()).is_ok()
    }
}

impl Finder for ClusterFinder {
    fn find<'f>(&'f self, sought: &'f Sought) -> BoxFuture<'f, bool> {
        Box::pin(async move { self.read(sought).await.is_some() })
    }
}

impl Index {
    /// The present name of the object that this version would give the name `name`. It differs for objects of version
    /// 0.1.0 and for those applied by hand.
    fn current_name(&self, kind: Kind, name: &str) -> String {
        let other = match kind {
            Kind::Namespace => self.accepted_name::<CloudMapNamespace>(&name.into()),
            Kind::Service => self.accepted_name::<CloudMapService>(&name.into()),
            Kind::Instance => self.nonstandard_instance_name(name),
            Kind::HealthReport | Kind::Operation | Kind::Store => None,
        };
        other.map_or_else(|| name.into(), |other| other.to_string())
    }
}

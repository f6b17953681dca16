//! Table of the parts of pods that EndpointSlices show and the registry does not have: nodes and zones, and the
//! endpoints of terminating pods; and of the pods that have the annotation about their drain.
//!
//! The index of the pods writes the table, and the mirror and the writer of that annotation read it. Every server that may become the leader keeps it,
//! so that a takeover needs no other source. It has at most one row for each known pod, and the lock is held for one pod
//! or for the terminating pods of one service.
//!
//! The registry has no event for a terminating pod, so the table collects the services whose endpoints changed until the
//! mirror takes them. Only the leader does, so their number is limited.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::pod::{DrainedAt, Placement, TerminatingEndpoint};
use crate::model::{ServiceId, Uid};

/// Limit of the changed services that are kept by id. With more, all services count as changed.
const CHANGED_SERVICES_MAX: usize = 10_000;
/// Limit of the terminating endpoints that a service has in EndpointSlices, of the pods that are first by name.
const TERMINATING_ENDPOINTS_MAX: usize = 1_000;

#[derive(Debug, Default)]
pub(super) struct PodTable {
    rows: Mutex<Rows>,
    notify: Notify,
}

/// Services whose endpoints changed in the table.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum ChangedServices {
    Some(HashSet<ServiceId>),
    All,
}

/// `placements` are by the uid of the pod, and share the values in `distinct`, because a node has many pods.
#[derive(Debug, Default)]
struct Rows {
    placements: HashMap<Uid, Arc<Placement>>,
    distinct: HashSet<Arc<Placement>>,
    terminating: HashMap<Arc<str>, Box<[TerminatingEndpoint]>>,
    pods_of_service: HashMap<ServiceId, BTreeSet<Arc<str>>>,
    drained_at: HashMap<Arc<str>, (Uid, DrainedAt)>,
    services_of_pod: HashMap<Arc<str>, Box<[ServiceId]>>,
    changed: ChangedServices,
}

impl PodTable {
    /// Sets node and zone of a pod that is an instance of these services.
    pub(super) fn set_placement<'s>(
        &self,
        uid: Uid,
        placement: &Placement,
        services: impl Iterator<Item = &'s ServiceId>,
    ) {
        let mut rows = self.lock();
        let old = rows.placements.get(&uid);
        if old.map_or(*placement == Placement::default(), |old| **old == *placement) {
            return;
        }
        rows.remove_placement(uid);
        if *placement != Placement::default() {
            let shared = rows.distinct.get(placement).cloned();
            let shared = shared.unwrap_or_else(|| Arc::new(placement.clone()));
            rows.distinct.insert(shared.clone());
            rows.placements.insert(uid, shared);
        }
        services.for_each(|service| rows.changed.insert(service));
        self.notify_if_changed(&rows);
    }

    /// Replaces the endpoints of a pod, which are none if the pod does not terminate or is gone.
    pub(super) fn set_terminating(&self, pod: &Arc<str>, endpoints: Vec<TerminatingEndpoint>) {
        let mut rows = self.lock();
        if rows.terminating.get(pod).map_or(endpoints.is_empty(), |old| **old == *endpoints) {
            return;
        }
        rows.remove_terminating(pod);
        for endpoint in &endpoints {
            rows.changed.insert(&endpoint.service);
            rows.pods_of_service.entry(endpoint.service.clone()).or_default().insert(pod.clone());
        }
        if !endpoints.is_empty() {
            rows.terminating.insert(pod.clone(), endpoints.into());
        }
        self.notify_if_changed(&rows);
    }

    /// Sets the annotation about the drain of a pod, and the services of which it is an instance.
    pub(super) fn set_drained_at<'s>(
        &self,
        pod: &Arc<str>,
        uid: Uid,
        drained_at: Option<DrainedAt>,
        services: impl ExactSizeIterator<Item = &'s ServiceId>,
    ) {
        let mut rows = self.lock();
        match drained_at {
            Some(drained_at) => drop(rows.drained_at.insert(pod.clone(), (uid, drained_at))),
            None => drop(rows.drained_at.remove(pod)),
        }
        if services.len() > 1 {
            rows.services_of_pod.insert(pod.clone(), services.cloned().collect());
        } else {
            rows.services_of_pod.remove(pod);
        }
    }

    /// The pods that have the annotation, by name.
    pub(super) fn drained_at(&self) -> HashMap<Arc<str>, (Uid, DrainedAt)> {
        self.lock().drained_at.clone()
    }

    /// The services of which a pod is an instance, if they are several.
    pub(super) fn services_of(&self, pod: &str) -> Vec<ServiceId> {
        self.lock().services_of_pod.get(pod).map(|services| services.to_vec()).unwrap_or_default()
    }

    /// Removes a pod that is gone.
    pub(super) fn remove(&self, pod: &str, uid: Uid) {
        let mut rows = self.lock();
        rows.remove_placement(uid);
        rows.remove_terminating(pod);
        rows.drained_at.remove(pod);
        rows.services_of_pod.remove(pod);
        self.notify_if_changed(&rows);
    }

    /// Node and zone of the pod with this uid.
    pub(super) fn placement(&self, uid: Uid) -> Placement {
        self.lock().placements.get(&uid).map(|placement| (**placement).clone()).unwrap_or_default()
    }

    /// Terminating endpoints of a service, in order of the names of their pods, at most a thousand.
    pub(super) fn terminating(&self, service: &ServiceId) -> Vec<TerminatingEndpoint> {
        let rows = self.lock();
        let pods = rows.pods_of_service.get(service).into_iter().flatten();
        let endpoints = pods.filter_map(|pod| rows.terminating.get(pod)).flatten();
        let of_service = endpoints.filter(|endpoint| endpoint.service == *service);
        of_service.take(TERMINATING_ENDPOINTS_MAX).cloned().collect()
    }

    /// Terminating endpoints of all services.
    pub(super) fn all_terminating(&self) -> Vec<TerminatingEndpoint> {
        self.lock().terminating.values().flatten().cloned().collect()
    }

    /// Waits until there are changes that were not taken yet.
    pub(super) async fn changed(&self) {
        loop {
            let notified = self.notify.notified();
            if !self.lock().changed.is_empty() {
                return;
            }
            notified.await;
        }
    }

    /// Takes the services that changed since the last call.
    pub(super) fn take_changed(&self) -> ChangedServices {
        mem::take(&mut self.lock().changed)
    }

    fn notify_if_changed(&self, rows: &Rows) {
        if !rows.changed.is_empty() {
            self.notify.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Rows> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Rows {
    fn remove_placement(&mut self, uid: Uid) {
        let Some(old) = self.placements.remove(&uid) else { return };
        // The other reference is that of the set, so no pod has this placement any more.
        if Arc::strong_count(&old) <= 2 {
            self.distinct.remove(&old);
        }
    }

    fn remove_terminating(&mut self, pod: &str) {
        for endpoint in self.terminating.remove(pod).iter().flatten() {
            self.changed.insert(&endpoint.service);
            if let Some(pods) = self.pods_of_service.get_mut(&endpoint.service) {
                pods.remove(pod);
                if pods.is_empty() {
                    self.pods_of_service.remove(&endpoint.service);
                }
            }
        }
    }
}

impl ChangedServices {
    fn insert(&mut self, service: &ServiceId) {
        if let ChangedServices::Some(services) = self {
            services.insert(service.clone());
            if services.len() > CHANGED_SERVICES_MAX {
                *self = ChangedServices::All;
            }
        }
    }

    fn is_empty(&self) -> bool {
        matches!(self, ChangedServices::Some(services) if services.is_empty())
    }
}

impl Default for ChangedServices {
    fn default() -> ChangedServices {
        ChangedServices::Some(HashSet::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(pod: &Arc<str>, service: &str, is_serving: bool) -> TerminatingEndpoint {
        TerminatingEndpoint {
            pod: pod.clone(),
            uid: Uid::of("1"),
            service: service.into(),
            instance: pod.rsplit('/').next().unwrap().into(),
            addresses: Box::new(["10.42.0.1".parse().unwrap()]),
            port: None,
            is_serving,
            placement: Placement::default(),
        }
    }

    fn some(services: &[&str]) -> ChangedServices {
        ChangedServices::Some(services.iter().map(|service| ServiceId::from(*service)).collect())
    }

    fn pods(table: &PodTable, service: &str) -> Vec<String> {
        table.terminating(&service.into()).iter().map(|endpoint| endpoint.pod.to_string()).collect()
    }

    /// Numbers of the placements and of the distinct ones.
    fn sizes(table: &PodTable) -> (usize, usize) {
        let rows = table.lock();
        (rows.placements.len(), rows.distinct.len())
    }

    #[test]
    fn services_are_changed_when_an_endpoint_of_theirs_is() {
        let table = PodTable::default();
        let [one, two] = ["default/one", "default/two"].map(Arc::<str>::from);
        table.set_terminating(&one, Vec::new());
        assert_eq!(table.take_changed(), some(&[]));
        let both =
            |is_serving| vec![endpoint(&one, "srv-a", is_serving), endpoint(&one, "srv-b", is_serving)];
        table.set_terminating(&one, both(true));
        table.set_terminating(&two, vec![endpoint(&two, "srv-a", true)]);
        assert_eq!(table.take_changed(), some(&["srv-a", "srv-b"]));
        assert_eq!(
            (pods(&table, "srv-a"), pods(&table, "srv-b")),
            (vec!["default/one".into(), "default/two".into()], vec!["default/one".into()])
        );
        table.set_terminating(&one, both(true));
        assert_eq!(table.take_changed(), some(&[]));
        table.set_terminating(&one, both(false));
        assert_eq!(table.take_changed(), some(&["srv-a", "srv-b"]));
        table.remove(&two, Uid::of("2"));
        assert_eq!(table.take_changed(), some(&["srv-a"]));
        table.set_terminating(&one, Vec::new());
        assert_eq!(table.take_changed(), some(&["srv-a", "srv-b"]));
        let rows = table.lock();
        assert!(rows.terminating.is_empty() && rows.pods_of_service.is_empty());
    }

    #[test]
    fn pods_of_a_node_share_its_placement() {
        let table = PodTable::default();
        let on = |node: &str| Placement { node: Some(node.into()), zone: Some("rack-1".into()) };
        let service = ServiceId::from("srv-a");
        for number in 0..100 {
            let uid = Uid::of(&number.to_string());
            table.set_placement(
                uid,
                &on(if number < 50 { "node-1" } else { "node-2" }),
                [&service].into_iter(),
            );
        }
        assert_eq!(table.take_changed(), some(&["srv-a"]));
        assert_eq!(sizes(&table), (100, 2));
        assert_eq!(table.placement(Uid::of("7")), on("node-1"));
        table.set_placement(Uid::of("7"), &on("node-1"), [&service].into_iter());
        assert_eq!(table.take_changed(), some(&[]));
        table.set_placement(Uid::of("7"), &Placement::default(), [&service].into_iter());
        assert_eq!(
            (table.placement(Uid::of("7")), table.take_changed()),
            (Placement::default(), some(&["srv-a"]))
        );
        (0..100).for_each(|number| table.remove("default/web", Uid::of(&number.to_string())));
        assert_eq!(sizes(&table), (0, 0));
    }

    #[test]
    fn pods_are_annotated_until_they_are_not_or_are_gone() {
        let table = PodTable::default();
        let [one, two] = ["default/one", "default/two"].map(Arc::<str>::from);
        let services = [ServiceId::from("srv-a"), ServiceId::from("srv-b")];
        let drained_at = DrainedAt { at_ms: Some(1_000), is_deleted: false };
        table.set_drained_at(&one, Uid::of("1"), Some(drained_at), services[..1].iter());
        table.set_drained_at(&two, Uid::of("2"), Some(drained_at), services.iter());
        table.set_drained_at(&one, Uid::of("1"), None, services[..1].iter());
        assert_eq!(table.drained_at(), HashMap::from([(two.clone(), (Uid::of("2"), drained_at))]));
        assert_eq!((table.services_of(&one), table.services_of(&two)), (Vec::new(), services.to_vec()));
        table.remove(&two, Uid::of("2"));
        assert!(table.drained_at().is_empty() && table.services_of(&two).is_empty());
    }

    #[test]
    fn changes_and_endpoints_are_limited() {
        let table = PodTable::default();
        for number in 0..=CHANGED_SERVICES_MAX {
            let pod = Arc::from(format!("default/web-{number:05}"));
            table.set_terminating(
                &pod,
                vec![endpoint(&pod, "srv-a", true), endpoint(&pod, &format!("srv-{number}"), true)],
            );
        }
        let endpoints = pods(&table, "srv-a");
        assert_eq!((endpoints.len(), &*endpoints[0]), (TERMINATING_ENDPOINTS_MAX, "default/web-00000"));
        assert_eq!(table.take_changed(), ChangedServices::All);
        assert_eq!(table.take_changed(), some(&[]));
    }

    #[tokio::test]
    async fn a_change_wakes_the_mirror() {
        let table = PodTable::default();
        let pod = Arc::from("default/web");
        tokio::join!(table.changed(), async {
            table.set_terminating(&pod, vec![endpoint(&pod, "srv-a", true)])
        });
        table.changed().await;
        assert_eq!(table.take_changed(), some(&["srv-a"]));
    }
}

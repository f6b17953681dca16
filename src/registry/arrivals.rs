//! Replies in the form in which a shared store has stored them: the store may give operations other ids than those that
//! were planned, and other servers may have changed a created service meanwhile.

use std::collections::HashMap;

use crate::model::OperationId;

use super::{
    change::Change,
    command::Reply,
    error::RegistryError,
    port::{Group, Verdict},
    state::State,
};

pub(super) fn ids(groups: &[Group], verdicts: &[Verdict]) -> HashMap<OperationId, OperationId> {
    let planned = |group: &Group| {
        group.iter().find_map(|change| match change {
            Change::PutOperation(operation) => Some(operation.id.clone()),
            _ => None,
        })
    };
    let pairs = groups.iter().zip(verdicts).filter_map(|(group, verdict)| match verdict {
        Verdict::Arrives { operation: Some(id) } => Some((planned(group)?, id.clone())),
        _ => None,
    });
    pairs.collect()
}

/// Corrects a planned reply by the stored state. `ids` are the operation ids of the batch that it was planned in.
pub(super) fn as_stored(
    result: Result<Reply, RegistryError>,
    ids: &HashMap<OperationId, OperationId>,
    state: &State,
) -> Result<Reply, RegistryError> {
    Ok(match result? {
        Reply::Operation(id) => Reply::Operation(ids.get(&id).cloned().unwrap_or(id)),
        // If another server has deleted the service already, it was created all the same.
        Reply::Service(planned) => {
            Reply::Service(state.service(planned.service.id.as_str()).cloned().unwrap_or(planned))
        }
        other @ (Reply::Done | Reply::Observed(_) | Reply::Shadowed { .. }) => other,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::model::{NamespaceKind, Operation, Tags};
    use crate::registry::{ChangeNotifier, Command, Event, Publish, Registry, Settings, Store, StoreError};

    #[derive(Clone, Default)]
    struct Renumbering(Arc<Mutex<Inner>>);

    #[derive(Default)]
    struct Inner {
        changes: Vec<Change>,
        notifier: Option<ChangeNotifier>,
        groups: u64,
    }

    impl Store for Renumbering {
        fn attach(&mut self, notifier: ChangeNotifier) {
            self.0.lock().unwrap().notifier = Some(notifier);
        }

        fn load(&mut self, _sink: &mut dyn FnMut(Change)) -> Result<(), StoreError> {
            Ok(())
        }

        fn changes(&mut self) -> Vec<Change> {
            std::mem::take(&mut self.0.lock().unwrap().changes)
        }

        fn commit(&mut self, batch: &[Group]) -> Result<Vec<Verdict>, StoreError> {
            let mut inner = self.0.lock().unwrap();
            let mut verdicts = Vec::new();
            for group in batch {
                inner.groups += 1;
                let number = 1_000 + inner.groups;
                for change in group {
                    inner.changes.extend(match change {
                        Change::PutOperation(operation) => Some(Change::PutOperation(Arc::new(Operation {
                            number,
                            id: Settings::default().identity.operation_id(number),
                            ..Operation::clone(operation)
                        }))),
                        Change::PutSequence(_) => Some(Change::PutSequence(number)),
                        other => Some(other.clone()),
                    });
                }
                verdicts.push(Verdict::Arrives {
                    operation: Some(Settings::default().identity.operation_id(number)),
                });
            }
            Ok(verdicts)
        }
    }

    struct Nowhere;

    impl Publish for Nowhere {
        fn publish(&mut self, _state: &State, _events: &[Event]) {}
    }

    fn create(name: &str) -> Command {
        Command::CreateNamespace {
            name: name.into(),
            kind: NamespaceKind::Http,
            creator_request_id: Some("token".into()),
            description: None,
            soa_ttl: None,
            tags: Tags::new(),
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn callers_and_readers_see_the_numbers_of_a_shared_store() {
        let store = Renumbering::default();
        let settings = Settings::default();
        let identity = settings.identity.clone();
        let (registry, writer) =
            Registry::start(settings, Box::new(store.clone()), Box::new(Nowhere)).unwrap();
        let Reply::Operation(id) = registry.submit(create("one")).await.unwrap() else {
            panic!("no operation")
        };
        assert_eq!(id, identity.operation_id(1_001));
        assert!(registry.state().operation(id.as_str()).is_ok());
        assert_eq!(registry.state().sequence(), 1_001);

        // A change of another replica is published without a command.
        let namespace = registry.state().namespaces_after(None).next().unwrap().1.namespace.id.clone();
        {
            let mut inner = store.0.lock().unwrap();
            inner.changes.push(Change::DeleteNamespace(namespace));
            inner.notifier.as_ref().unwrap().notify();
        }
        let end = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while registry.state().namespace_count() > 0 {
            assert!(std::time::Instant::now() < end, "the change did not arrive");
            tokio::task::yield_now().await;
        }
        drop(registry);
        tokio::task::spawn_blocking(|| writer.stop()).await.unwrap();
    }
}

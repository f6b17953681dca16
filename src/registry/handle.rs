//! [`Registry`], the handle by which all other code uses the registry.

use std::sync::{Arc, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, mpsc, oneshot, watch};

use crate::model::{Identity, ServiceId, now_ms};

use super::{
    command::{Command, Reply},
    departures::{Departures, Hold, OtherServers},
    error::RegistryError,
    history::History,
    leniency::Leniency,
    loading,
    message::{ChangeNotifier, Message},
    numbers::Reserved,
    port::{Publish, Store, StoreError},
    retry::RetryQueue,
    served::{self, Served},
    settings::Settings,
    settling::Settling,
    shared::{Shared, get},
    sought::{SOUGHT_MAX, Sought},
    state::State,
    subscription::{Subscribers, Subscription},
    writer::Writer,
};

/// Length of the writer's queue in commands. When it is full, callers wait until there is room.
const QUEUE_COMMANDS_MAX: usize = 4096;

/// Handle to the registry that sends commands and reads states. Clones share one registry.
#[derive(Clone)]
pub struct Registry {
    shared: Arc<Shared>,
}

/// The running writer thread, which [`WriterThread::stop`] ends.
pub struct WriterThread {
    sender: mpsc::Sender<Message>,
    thread: JoinHandle<()>,
}

impl Registry {
    /// Loads the contents of `store`, publishes them, and starts the writer thread.
    pub fn start(
        settings: Settings,
        mut store: Box<dyn Store>,
        mut publish: Box<dyn Publish>,
    ) -> Result<(Registry, WriterThread), StoreError> {
        let (sender, receiver) = mpsc::channel(QUEUE_COMMANDS_MAX);
        let notifier = ChangeNotifier::new(&sender);
        store.attach(notifier.clone());
        let finder = store.finder();
        let (mut state, events) = loading::load(&mut *store, &mut *publish)?;
        // A shared store uses the numbers of etcd, which need no reservation.
        let reserved = match state.numbering() {
            Some(_) => Reserved::default(),
            None => Reserved::found(state.sequence()),
        };
        if reserved.is_any() {
            state.raise_revisions(state.sequence());
        }
        publish.publish(&state, &events);

        let validation = settings.validation;
        let settings = Arc::new(settings);
        let shared = Arc::new(Shared {
            sender: sender.clone(),
            state: RwLock::new(Arc::new(state.clone())),
            store_failure: RwLock::default(),
            changed: watch::channel(state.sequence()).0,
            subscribers: Subscribers::default(),
            history: Arc::new(History::new(now_ms())),
            departures: Departures::new(Instant::now(), now_ms(), state.sequence()),
            served: Arc::default(),
            settings: settings.clone(),
            finder,
            state_replaced: Notify::new(),
        });
        let writer = Writer {
            state,
            reserved,
            store,
            publish,
            settings,
            shared: shared.clone(),
            leniency: Leniency::new(validation),
            notifier,
            retries: RetryQueue::default(),
            settling: Settling::default(),
        };
        let thread = std::thread::Builder::new()
            .name("registry-writer".into())
            .spawn(move || {
                crate::priority::lower();
                writer.run(receiver);
            })
            .map_err(|error| StoreError::new("cannot start the registry's thread", error))?;
        Ok((Registry { shared }, WriterThread { sender, thread }))
    }

    /// Carries out a command. When this returns `Ok`, its change is served. It is also durable, unless it concerns watched
    /// instances or shadowed resources.
    pub async fn submit(&self, command: Command) -> Result<Reply, RegistryError> {
        let (kind, called) = (served::Kind::of(&command), Instant::now());
        let (answer, answered) = oneshot::channel();
        let stopped = |_| RegistryError::Unavailable("it is stopping");
        self.shared.sender.send(Message::Command(command, answer)).await.map_err(|_| stopped(()))?;
        let reply = answered.await.map_err(|_| stopped(()))??;
        self.shared.served.carried_out(kind, called.elapsed());
        Ok(reply)
    }

    /// Newest version of everything. Hold it for one request only, because it keeps replaced data in memory.
    pub fn state(&self) -> Arc<State> {
        get(&self.shared.state)
    }

    /// Reads objects that this server does not know from a shared store. Returns true if at least one of them is known now,
    /// so that the caller should process its request again.
    pub async fn find(&self, sought: &[Sought]) -> bool {
        let Some(finder) = &self.shared.finder else { return false };
        let mut is_any_known = false;
        let all = async {
            for one in sought {
                let is_known = one.is_in(&self.state());
                if is_known || finder.find(one).await {
                    self.wait_for(one).await;
                    is_any_known = true;
                }
            }
        };
        // After a timeout the result still includes the objects that were found before it.
        let _ = tokio::time::timeout(SOUGHT_MAX, all).await;
        is_any_known
    }

    async fn wait_for(&self, sought: &Sought) {
        loop {
            let replaced = self.shared.state_replaced.notified();
            if sought.is_in(&self.state()) {
                return;
            }
            replaced.await;
        }
    }

    /// Watch channel with the number of the last change of a namespace or service. Changes of instances do not count.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.shared.changed.subscribe()
    }

    /// Subscribes to all later changes, including those of instances.
    pub fn subscribe(&self) -> Subscription {
        self.shared.subscribers.subscribe()
    }

    #[expect(missing_docs, reason = "the name says what is returned")]
    pub fn identity(&self) -> &Identity {
        &self.shared.settings.identity
    }

    #[expect(missing_docs, reason = "the name says what is returned")]
    pub fn settings(&self) -> &Settings {
        &self.shared.settings
    }

    /// The last changes of instances' health.
    pub fn history(&self) -> &Arc<History> {
        &self.shared.history
    }

    /// Metrics of the changes that this server has made or applied.
    pub fn served(&self) -> &Arc<Served> {
        &self.shared.served
    }

    /// Knowledge of this server about clients that hold an instance. Neither it nor its service need exist any more.
    pub fn hold(&self, service: &ServiceId, instance: &str) -> Hold {
        let state = self.state();
        let found = state.service(service.as_str()).ok().map(|found| &**found);
        let health = &self.shared.settings.health;
        self.shared.departures.hold(service, found, instance, health, Instant::now())
    }

    /// Knowledge of the other servers about clients that hold an instance. The service is an id, or a name that only they may know.
    /// The error says which server did not answer, and why.
    pub async fn others_hold(
        &self,
        others: Option<&dyn OtherServers>,
        service: &str,
        instance: &str,
    ) -> Result<Hold, String> {
        let Some(others) = others else { return Ok(Hold::Unknown(Duration::ZERO)) };
        let found = others.hold(service, instance).await?;
        let Some(ended) = found.ended else { return Ok(found.hold) };
        // A server that has ended may have answered until then, after the others had applied the departure.
        let until = ended + self.longest_hold(&ServiceId::from(service));
        Ok(found.hold.and(Hold::Unknown(until.saturating_duration_since(Instant::now()))))
    }

    /// The longest time for which clients may hold an answer of a service and then the target of an SRV record in it.
    pub fn longest_hold(&self, service: &ServiceId) -> Duration {
        let state = self.state();
        let found = state.service(service.as_str()).ok().map(|found| &**found);
        self.shared.departures.longest_hold(service, found, Instant::now())
    }

    /// The instances that have left the answers of their services.
    pub fn departures(&self) -> &Departures {
        &self.shared.departures
    }

    /// Error of the last commit; `None` if it succeeded, so that changes can be stored.
    pub fn store_failure(&self) -> Option<Arc<String>> {
        get(&self.shared.store_failure)
    }
}

impl WriterThread {
    /// Lets the writer finish the queued commands and close the store, and waits until it has.
    pub fn stop(self) {
        // Sending fails if the writer has ended already, whose thread is then joined all the same.
        let _ = self.sender.blocking_send(Message::Stop);
        drop(self.sender);
        if self.thread.join().is_err() {
            tracing::error!("the registry's thread panicked");
        }
    }
}

//! The writer thread, and the handle that everybody else has.

use std::collections::HashSet;
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::{mpsc, oneshot, watch};

use crate::model::{EpochMs, Identity};

use super::{
    arrivals,
    change::Change,
    command::{Command, Reply},
    error::RegistryError,
    leniency::Leniency,
    loading,
    message::{Message, News},
    numbers::Reserved,
    plan::{Planner, displaced},
    port::{Group, Publish, Store, StoreError, Verdict},
    settings::Settings,
    state::State,
    touched::Touched,
};

/// Commands that can wait for the writer; one more waits with its caller.
const QUEUE_COMMANDS_MAX: usize = 4096;
/// Commands that become durable by one commit.
const BATCH_COMMANDS_MAX: usize = 1024;

/// The handle to the registry: sends commands, reads states. Clones are the same registry.
#[derive(Clone)]
pub struct Registry {
    shared: Arc<Shared>,
}

struct Shared {
    sender: mpsc::Sender<Message>,
    /// The newest version. The lock is held to take or to put a pointer, for nothing else.
    state: RwLock<Arc<State>>,
    /// What the last commit failed with; nothing when it went well.
    store_failure: RwLock<Option<Arc<String>>>,
    /// The number of the last change of a namespace or service.
    changed: watch::Sender<u64>,
    /// What has changed, for one that follows.
    touched: Touched,
    settings: Arc<Settings>,
}

/// The running writer; [`WriterThread::stop`] ends it.
pub struct WriterThread {
    sender: mpsc::Sender<Message>,
    thread: JoinHandle<()>,
}

impl Registry {
    /// Loads what `store` holds, publishes it, and starts the writer.
    pub fn start(
        settings: Settings,
        mut store: Box<dyn Store>,
        mut publish: Box<dyn Publish>,
    ) -> Result<(Registry, WriterThread), StoreError> {
        let (sender, receiver) = mpsc::channel(QUEUE_COMMANDS_MAX);
        let news = News::new(&sender);
        store.attach(news.clone());
        let (mut state, events) = loading::load(&mut *store, &mut *publish)?;
        let reserved = Reserved::found(state.sequence());
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
            touched: Touched::default(),
            settings: settings.clone(),
        });
        let writer = Writer {
            state,
            reserved,
            store,
            publish,
            settings,
            shared: shared.clone(),
            leniency: Leniency::new(validation),
            news,
        };
        let thread = std::thread::Builder::new()
            .name("registry-writer".into())
            .spawn(move || {
                crate::priority::behind_dns();
                writer.run(receiver);
            })
            .map_err(|error| StoreError::new("cannot start the registry's thread", error))?;
        Ok((Registry { shared }, WriterThread { sender, thread }))
    }

    /// Carries out a command. When this returns `Ok`, the change is served, and durable unless it is one of a watched
    /// instance or of what is shadowed.
    pub async fn submit(&self, command: Command) -> Result<Reply, RegistryError> {
        let (answer, answered) = oneshot::channel();
        let stopped = |_| RegistryError::Unavailable("it is stopping");
        self.shared.sender.send(Message::Command(command, answer)).await.map_err(|_| stopped(()))?;
        answered.await.map_err(|_| stopped(()))?
    }

    /// The newest version of everything. Hold it for one request, not for longer.
    pub fn state(&self) -> Arc<State> {
        get(&self.shared.state)
    }

    /// The number of the last change of a namespace or service, those of instances not counted; wait for another one
    /// with it.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.shared.changed.subscribe()
    }

    /// What has changed since it was looked at last, instances too. Of all that follow, each change is told to one.
    pub fn touched(&self) -> Touched {
        self.shared.touched.follow();
        self.shared.touched.clone()
    }

    /// Account and region.
    pub fn identity(&self) -> &Identity {
        &self.shared.settings.identity
    }

    /// How the registry behaves.
    pub fn settings(&self) -> &Settings {
        &self.shared.settings
    }

    /// What the last commit failed with; `None` when changes can be stored.
    pub fn store_failure(&self) -> Option<Arc<String>> {
        get(&self.shared.store_failure)
    }
}

impl WriterThread {
    /// Lets the writer finish what is queued, closes the store and waits for both.
    pub fn stop(self) {
        // A full queue or a writer that is gone already are both no reason to wait less.
        let _ = self.sender.blocking_send(Message::Stop);
        drop(self.sender);
        if self.thread.join().is_err() {
            tracing::error!("the registry's thread panicked");
        }
    }
}

struct Writer {
    state: State,
    reserved: Reserved,
    store: Box<dyn Store>,
    publish: Box<dyn Publish>,
    settings: Arc<Settings>,
    shared: Arc<Shared>,
    leniency: Leniency,
    news: News,
}

/// A command and whoever waits for its end.
type Asked = (Command, oneshot::Sender<Result<Reply, RegistryError>>);

/// A command of the batch that is to be answered after the commit.
struct Pending {
    answer: oneshot::Sender<Result<Reply, RegistryError>>,
    result: Result<Reply, RegistryError>,
    /// The groups of the batch up to it, its own included: they are in the state that `result` comes from.
    groups_planned: usize,
    /// Whether it has a group. If not, nothing of it is refused, but what it was answered from may be.
    has_group: bool,
}

impl Writer {
    fn run(mut self, mut receiver: mpsc::Receiver<Message>) {
        let mut messages = Vec::new();
        loop {
            messages.clear();
            if receiver.blocking_recv_many(&mut messages, BATCH_COMMANDS_MAX) == 0 {
                return;
            }
            let mut stop = false;
            let commands = messages.drain(..).filter_map(|message| match message {
                Message::Command(command, answer) => Some((command, answer)),
                Message::Arrived => None,
                Message::Stop => {
                    stop = true;
                    None
                }
            });
            self.follow();
            // What was observed waits for no disk. The order between callers that ask at once is nobody's.
            let (observed, mut asked): (Vec<_>, Vec<_>) =
                commands.partition(|(command, _)| matches!(command, Command::Observe(_)));
            self.batch(observed);
            // In a version of its own each: an id that stands for something else then is not there in between.
            let shadowed = asked.extract_if(.., |(command, _)| matches!(command, Command::Shadow(_)));
            shadowed.for_each(|command| self.batch(vec![command]));
            self.batch(asked);
            if stop {
                return;
            }
        }
    }

    /// Applies and publishes what others changed.
    fn follow(&mut self) {
        self.news.taken();
        let changes = self.store.changes();
        if !changes.is_empty() {
            self.make_room(&changes);
            let mut next = self.state.clone();
            changes.iter().for_each(|change| next.apply(change));
            self.adopt(next, changes.iter());
        }
    }

    /// What is shadowed gives way to what is stored. It goes in a version of its own: an id that stands for something else
    /// then is not there in between.
    fn make_room(&mut self, arriving: &[Change]) {
        let mut gone = displaced(&self.state, arriving);
        if !gone.is_empty() {
            // A shared store counts by itself: there is nothing to reserve.
            gone.push(Change::PutSequence(self.state.sequence() + 1));
            let mut next = self.state.clone();
            gone.iter().for_each(|change| next.apply(change));
            self.adopt(next, gone.iter());
        }
    }

    /// Publishes a state and makes it the newest.
    fn adopt<'c>(&mut self, next: State, changes: impl Iterator<Item = &'c Change>) {
        let mut seen = HashSet::new();
        let mut events = Vec::new();
        let mut defines = false;
        for change in changes {
            defines |= change.is_of_a_definition();
            if let Some(event) = change.event().filter(|event| seen.insert(event.clone())) {
                events.push(event);
            }
        }
        if !events.is_empty() {
            self.publish.publish(&next, &events);
        }
        set(&self.shared.state, Arc::new(next.clone()));
        self.shared.touched.note(&events);
        self.state = next;
        if defines {
            self.shared.changed.send_replace(self.state.sequence());
        }
    }

    /// Checks, stores, publishes and answers a batch.
    fn batch(&mut self, commands: Vec<Asked>) {
        let now_ms = now_ms();
        let mut next = self.state.clone();
        let mut groups: Vec<Group> = Vec::with_capacity(commands.len());
        let mut pending = Vec::with_capacity(commands.len());
        for (command, answer) in commands {
            let planner =
                Planner { state: &next, settings: &self.settings, now_ms, leniency: &mut self.leniency };
            match planner.plan(command) {
                // Nothing that is still to be stored stands behind it. A caller that went away is no concern of
                // the batch.
                Err(error) if groups.is_empty() => drop(answer.send(Err(error))),
                Err(error) => {
                    let groups_planned = groups.len();
                    pending.push(Pending { answer, result: Err(error), groups_planned, has_group: false });
                }
                Ok((group, reply)) => {
                    group.iter().for_each(|change| next.apply(change));
                    let has_group = !group.is_empty();
                    groups.extend(has_group.then_some(group));
                    let groups_planned = groups.len();
                    pending.push(Pending { answer, result: Ok(reply), groups_planned, has_group });
                }
            }
        }
        let verdicts = match self.commit(&groups, next.sequence()) {
            Ok(verdicts) => verdicts,
            Err(message) => {
                for Pending { answer, result, groups_planned, .. } in pending {
                    let _ = answer.send(match groups_planned {
                        0 => result,
                        _ => Err(RegistryError::NotStored(message.clone())),
                    });
                }
                return;
            }
        };
        let numbers = arrivals::numbers(&groups, &verdicts);
        // What the store has in a form of its own; this includes changes of others.
        let arrives = verdicts.iter().any(|verdict| matches!(verdict, Verdict::Arrives { .. }));
        let arrived = if arrives { self.store.changes() } else { Vec::new() };
        self.make_room(&arrived);
        if verdicts.iter().any(|verdict| *verdict != Verdict::Accepted) {
            // What was accepted is applied again, without what was refused or arrives.
            next = self.state.clone();
            for (group, verdict) in groups.iter().zip(&verdicts) {
                if *verdict == Verdict::Accepted {
                    group.iter().for_each(|change| next.apply(change));
                }
            }
            arrived.iter().for_each(|change| next.apply(change));
        }
        if !groups.is_empty() {
            let accepted = groups.iter().zip(&verdicts).filter(|(_, verdict)| **verdict == Verdict::Accepted);
            self.adopt(next, accepted.flat_map(|(group, _)| group).chain(&arrived));
        }
        for Pending { answer, result, groups_planned, has_group } in pending {
            let first = if has_group { groups_planned - 1 } else { 0 };
            let refusal =
                verdicts.iter().take(groups_planned).skip(first).find_map(|verdict| match verdict {
                    Verdict::Accepted | Verdict::Arrives { .. } => None,
                    Verdict::Refused(reason) => Some(RegistryError::NotStored(reason.clone())),
                });
            let result = match arrives {
                true => arrivals::settled(result, &numbers, &self.settings.identity, &self.state),
                false => result,
            };
            let _ = answer.send(refusal.map_or(result, Err));
        }
    }

    /// Makes durable what asks for it, and says for each group what became of it. `sequence` is the last number that the
    /// groups have.
    fn commit(&mut self, groups: &[Group], sequence: u64) -> Result<Vec<Verdict>, String> {
        let is_durable = |group: &Group| group.iter().any(Change::is_durable);
        let has_passing = !groups.iter().all(is_durable);
        let reserved = self.reserved.for_numbers_up_to(sequence, has_passing);
        let mut stored = groups;
        let mut chosen: Vec<Group>;
        if has_passing || reserved.is_any() {
            chosen = groups.iter().filter(|group| is_durable(group)).cloned().collect();
            if !chosen.is_empty() || reserved != self.reserved {
                chosen.extend(reserved.group());
            }
            stored = &chosen;
        }
        if stored.is_empty() {
            return Ok(vec![Verdict::Accepted; groups.len()]);
        }
        match self.store.commit(stored) {
            Ok(verdicts) => {
                set(&self.shared.store_failure, None);
                // A block that is not reserved is not one whose numbers may be given.
                let last = stored.len() > groups.iter().filter(|group| is_durable(group)).count();
                let passing = match verdicts.last().filter(|_| last && reserved != self.reserved) {
                    Some(refused @ Verdict::Refused(_)) => refused.clone(),
                    _ => {
                        self.reserved = reserved;
                        Verdict::Accepted
                    }
                };
                let mut verdicts = verdicts.into_iter();
                let verdict = |group| match is_durable(group) {
                    true => verdicts.next().unwrap_or(Verdict::Accepted),
                    false => passing.clone(),
                };
                Ok(groups.iter().map(verdict).collect())
            }
            Err(error) => {
                let message = chain(&error);
                tracing::error!(error = %message, changes = groups.len(), "changes were not stored, and are refused");
                set(&self.shared.store_failure, Some(Arc::new(message.clone())));
                Err(message)
            }
        }
    }
}

/// The value that is there now.
fn get<T: Clone>(shared: &RwLock<T>) -> T {
    shared.read().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Replaces a value; what was there is freed when nobody waits for the lock.
fn set<T>(shared: &RwLock<T>, value: T) {
    let old = std::mem::replace(&mut *shared.write().unwrap_or_else(PoisonError::into_inner), value);
    drop(old);
}

/// An error and its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// Wall-clock time; before 1970 it is 1970.
fn now_ms() -> EpochMs {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{NamespaceKind, Tags};
    use crate::registry::{Change, Event};

    /// Does with each batch what the test says.
    struct Scripted(Result<Vec<Verdict>, ()>);

    impl Store for Scripted {
        fn load(&mut self, _sink: &mut dyn FnMut(Change)) -> Result<(), StoreError> {
            Ok(())
        }

        fn commit(&mut self, _batch: &[Group]) -> Result<Vec<Verdict>, StoreError> {
            self.0.clone().map_err(|()| StoreError { what: "the disk is full".into(), source: None })
        }
    }

    /// Publishes nothing, and wants each event to be of something that is there.
    struct Exact;

    impl Publish for Exact {
        fn publish(&mut self, state: &State, events: &[Event]) {
            for event in events {
                let Event::Namespace(id) = event else { panic!("only namespaces are made") };
                assert!(state.namespace(id.as_str()).is_ok(), "{id}");
            }
        }
    }

    /// What the callers are told when one namespace is asked for three times at once, and then another.
    fn told(store: Result<Vec<Verdict>, ()>) -> Vec<String> {
        let settings = Arc::new(Settings::default());
        let (sender, _receiver) = mpsc::channel(1);
        let news = News::new(&sender);
        let shared = Arc::new(Shared {
            sender,
            state: RwLock::default(),
            store_failure: RwLock::default(),
            changed: watch::channel(0).0,
            touched: Touched::default(),
            settings: settings.clone(),
        });
        let (store, publish) = (Box::new(Scripted(store)), Box::new(Exact));
        let state = State::default();
        let leniency = Leniency::new(settings.validation);
        let reserved = Reserved::default();
        let mut writer = Writer { state, reserved, store, publish, settings, shared, leniency, news };
        let create = |name: &str, token: Option<&str>| Command::CreateNamespace {
            name: name.into(),
            kind: NamespaceKind::Http,
            creator_request_id: token.map(String::from),
            description: None,
            soa_ttl: None,
            tags: Tags::new(),
        };
        let asked =
            [create("a", Some("token")), create("a", Some("token")), create("a", None), create("b", None)];
        let (commands, mut answers): (Vec<_>, Vec<_>) = asked
            .into_iter()
            .map(|command| {
                let (answer, answered) = oneshot::channel();
                ((command, answer), answered)
            })
            .unzip();
        writer.batch(commands);
        let told = |result| match result {
            Ok(Reply::Operation(_)) => "done".to_string(),
            Ok(other) => format!("{other:?}"),
            Err(error) => RegistryError::to_string(&error),
        };
        answers.iter_mut().map(|answer| told(answer.try_recv().unwrap())).collect()
    }

    #[test]
    fn nothing_is_said_on_the_ground_of_what_was_not_stored() {
        let (exists, full) =
            ("Namespace already exists.", "The change could not be stored: the disk is full");
        let late = "The change could not be stored: late";
        let refused = || Verdict::Refused("late".into());
        assert_eq!(told(Ok(vec![Verdict::Accepted; 2])), ["done", "done", exists, "done"]);
        assert_eq!(told(Err(())), [full; 4]);
        assert_eq!(told(Ok(vec![refused(), Verdict::Accepted])), [late, late, late, "done"]);
        assert_eq!(told(Ok(vec![Verdict::Accepted, refused()])), ["done", "done", exists, late]);
    }
}

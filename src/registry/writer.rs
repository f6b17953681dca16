//! The writer thread, and the handle that everybody else has.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{JoinHandle, Thread};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::{Notify, mpsc, oneshot, watch};

use crate::model::{EpochMs, Identity, OperationId};

use super::{
    arrivals,
    change::{Change, Event},
    command::{Command, Reply},
    error::RegistryError,
    leniency::Leniency,
    loading,
    message::{Message, News},
    numbering::{self, Renumber},
    numbers::Reserved,
    plan::{Planner, displaced},
    port::{Group, Publish, Store, StoreError, Verdict},
    races::{Asked, Losers, Losses},
    settings::Settings,
    sought::{Finder, SOUGHT_MAX, Sought},
    state::State,
    touched::{Followers, Touched},
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
    /// Tasks that follow all changes.
    followers: Followers,
    settings: Arc<Settings>,
    /// Absent where no other server writes to the store.
    finder: Option<Arc<dyn Finder>>,
    /// Notified of each new state.
    adopted: Notify,
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
        let finder = store.finder();
        let (mut state, events) = loading::load(&mut *store, &mut *publish)?;
        // The numbers of a shared store are etcd's, and need no reservation.
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
            followers: Followers::default(),
            settings: settings.clone(),
            finder,
            adopted: Notify::new(),
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
            losers: Losers::default(),
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

    /// Asks a shared store for what this server does not know. Returns true if some of it is known now: then a request that
    /// did not find it may have another answer.
    pub async fn find(&self, sought: &[Sought]) -> bool {
        let Some(finder) = &self.shared.finder else { return false };
        let mut is_any_known = false;
        let all = async {
            for one in sought {
                let is_known = one.is_in(&self.state());
                if is_known || finder.find(one).await {
                    self.shows(one).await;
                    is_any_known = true;
                }
            }
        };
        // A thing that was found before the timeout counts.
        let _ = tokio::time::timeout(SOUGHT_MAX, all).await;
        is_any_known
    }

    /// Waits until the newest state contains the thing.
    async fn shows(&self, sought: &Sought) {
        loop {
            let adopted = self.shared.adopted.notified();
            if sought.is_in(&self.state()) {
                return;
            }
            adopted.await;
        }
    }

    /// The number of the last change of a namespace or service, those of instances not counted; wait for another one
    /// with it.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.shared.changed.subscribe()
    }

    /// Subscription to all changes from now on, instances included.
    pub fn touched(&self) -> Touched {
        self.shared.followers.follow()
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
    losers: Losers,
}

/// A command of the batch whose caller is answered after the commit.
struct Pending {
    answer: oneshot::Sender<Result<Reply, RegistryError>>,
    result: Result<Reply, RegistryError>,
    /// The number of groups of the batch up to and including this command's: `result` was planned on the state with them.
    groups_planned: usize,
    /// True if the command stores something. If not, the store cannot refuse it, but may refuse the groups it was planned on.
    has_group: bool,
    /// The command, if the store may lose a race for it.
    kept: Option<Command>,
    losses: Losses,
}

/// End of a command of a batch, as the verdicts of the store decide it.
enum Ending {
    /// The planned result is the answer.
    Planned,
    /// The command is planned again in a later batch, because it was planned on changes that were not stored, for this
    /// reason.
    Again(String),
    /// The error is the answer.
    Refused(RegistryError),
}

impl Pending {
    fn ending(&self, verdicts: &[Verdict]) -> Ending {
        let first = if self.has_group { self.groups_planned - 1 } else { 0 };
        let not_stored =
            verdicts.iter().take(self.groups_planned).skip(first).find_map(|verdict| match verdict {
                Verdict::Accepted | Verdict::Arrives { .. } => None,
                Verdict::Lost(reason) => Some(Ending::Again(reason.clone())),
                Verdict::Refused(error) if self.has_group || self.kept.is_none() => {
                    Some(Ending::Refused(error.clone()))
                }
                // The error is another command's, and the answer was made from a state that there never was.
                Verdict::Refused(error) => Some(Ending::Again(error.to_string())),
            });
        not_stored.unwrap_or(Ending::Planned)
    }
}

impl Writer {
    fn run(mut self, mut receiver: mpsc::Receiver<Message>) {
        let mut messages = Vec::new();
        let mut stop = false;
        while !stop {
            messages.clear();
            // Commands that wait after a lost race count: what this thread holds has a limit.
            let most = BATCH_COMMANDS_MAX.saturating_sub(self.losers.len());
            stop = !receive(&mut receiver, &mut messages, most, self.losers.due());
            let commands = messages.drain(..).filter_map(|message| match message {
                Message::Command(command, answer) => Some(Asked::new(command, answer)),
                Message::Arrived => None,
                Message::Stop => {
                    stop = true;
                    None
                }
            });
            let mut asked: Vec<_> = commands.collect();
            self.follow();
            asked.splice(..0, self.losers.take_due(Instant::now()));
            self.carry_out(asked);
        }
        while self.losers.len() > 0 {
            self.follow();
            let asked = self.losers.take_all();
            self.carry_out(asked);
        }
    }

    /// Carries out commands that arrived together. No order is promised between different callers.
    fn carry_out(&mut self, asked: Vec<Asked>) {
        // Observations go first, because they do not wait for the store.
        let (observed, mut asked): (Vec<_>, Vec<_>) =
            asked.into_iter().partition(|asked| matches!(asked.command, Command::Observe(_)));
        self.batch(observed);
        if asked.iter().any(|asked| matches!(asked.command, Command::Renumber))
            && self.state.numbering().is_some()
        {
            self.store.renumber(Renumber::everything());
        }
        // Each gets a version of its own, so that an id which changes its meaning is absent from the version in between.
        let shadowed = asked.extract_if(.., |asked| matches!(asked.command, Command::Shadow(_)));
        shadowed.for_each(|asked| self.batch(vec![asked]));
        self.batch(asked);
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
        let gone = displaced(&self.state, arriving);
        if !gone.is_empty() {
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
        let floor = |state: &State| state.numbering().map(|numbering| numbering.floor);
        if floor(&next) != floor(&self.state) {
            let all = next.namespaces_after(None).map(|(_, state)| Event::Serial(state.namespace.id.clone()));
            events.extend(all.filter(|event| seen.insert(event.clone())));
        }
        let unnumbered = match next.numbering() {
            Some(_) => numbering::unnumbered(&self.state, &next, &events),
            None => Renumber::default(),
        };
        if !events.is_empty() {
            self.publish.publish(&next, &events);
        }
        set(&self.shared.state, Arc::new(next.clone()));
        self.shared.adopted.notify_waiters();
        self.shared.followers.note(&events);
        self.state = next;
        if !unnumbered.is_empty() {
            self.store.renumber(unnumbered);
        }
        if defines {
            self.shared.changed.send_replace(self.state.sequence());
        }
    }

    /// Checks, stores, publishes and answers a batch; keeps what has to be planned again.
    fn batch(&mut self, commands: Vec<Asked>) {
        let now_ms = now_ms();
        let may_lose = self.store.may_lose();
        let mut next = self.state.clone();
        let mut groups: Vec<Group> = Vec::with_capacity(commands.len());
        let mut pending = Vec::with_capacity(commands.len());
        for Asked { command, answer, losses } in commands {
            let kept = may_lose.then(|| command.clone());
            let (settings, leniency) = (&self.settings, &mut self.leniency);
            let planner = Planner { state: &next, settings, now_ms, leniency, may_lose };
            match planner.plan(command) {
                // Nothing that is still to be stored stands behind it. A caller that went away is no concern of
                // the batch.
                Err(error) if groups.is_empty() => drop(answer.send(Err(error))),
                Err(error) => {
                    let (result, groups_planned) = (Err(error), groups.len());
                    pending.push(Pending { answer, result, groups_planned, has_group: false, kept, losses });
                }
                Ok((group, reply)) => {
                    group.iter().for_each(|change| next.apply(change));
                    let has_group = !group.is_empty();
                    groups.extend(has_group.then_some(group));
                    let (result, groups_planned) = (Ok(reply), groups.len());
                    pending.push(Pending { answer, result, groups_planned, has_group, kept, losses });
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
        let ids = arrivals::ids(&groups, &verdicts);
        // Changes that the store has in a form of its own, and those of other servers, to which races were lost.
        let arrives = verdicts.iter().any(|verdict| matches!(verdict, Verdict::Arrives { .. }));
        let is_lost = verdicts.iter().any(|verdict| matches!(verdict, Verdict::Lost(_)));
        let arrived = if arrives || is_lost { self.store.changes() } else { Vec::new() };
        self.make_room(&arrived);
        if verdicts.iter().any(|verdict| *verdict != Verdict::Accepted) {
            // The state without the changes that were refused, and with those that the store chose instead.
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
        self.answer(pending, &verdicts, arrives.then_some(&ids));
    }

    /// Answers the callers of a batch that was stored, and keeps the commands that lost. `ids` are those that the store gave
    /// to operations, if it gave any.
    fn answer(
        &mut self,
        pending: Vec<Pending>,
        verdicts: &[Verdict],
        ids: Option<&HashMap<OperationId, OperationId>>,
    ) {
        let (now, jitter) = (Instant::now(), fastrand::f64());
        let mut later = Vec::new();
        for mut pending in pending {
            let result = match pending.ending(verdicts) {
                Ending::Planned => match ids {
                    Some(ids) => arrivals::settled(pending.result, ids, &self.state),
                    None => pending.result,
                },
                Ending::Refused(error) => Err(error),
                Ending::Again(reason) => match pending.kept.take() {
                    Some(command) => {
                        let asked = Asked { command, answer: pending.answer, losses: pending.losses };
                        match pending.has_group {
                            true => later.push((asked, reason)),
                            // It stores nothing, so it is planned again before the commands that do.
                            false => self.losers.add(asked, reason, now, jitter),
                        }
                        continue;
                    }
                    None => Err(RegistryError::Contended(reason)),
                },
            };
            let _ = pending.answer.send(result);
        }
        for (asked, reason) in later {
            self.losers.add(asked, reason, now, jitter);
        }
    }

    /// Makes durable what asks for it, and says for each group what became of it. `sequence` is the last number that the
    /// groups have.
    fn commit(&mut self, groups: &[Group], sequence: u64) -> Result<Vec<Verdict>, String> {
        let is_durable = |group: &Group| group.iter().any(Change::is_durable);
        let has_passing = !groups.iter().all(is_durable);
        let reserved = match self.state.numbering() {
            Some(_) => self.reserved,
            None => self.reserved.for_numbers_up_to(sequence, has_passing),
        };
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
                    Some(refused @ (Verdict::Lost(_) | Verdict::Refused(_))) => refused.clone(),
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

/// Unparks the thread that waits for messages.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Unpark>) {
        self.0.unpark();
    }
}

/// Receives up to `most` messages, and waits for the first one, until `due` if that is given. Returns false when there will
/// be no more messages.
fn receive(
    receiver: &mut mpsc::Receiver<Message>,
    messages: &mut Vec<Message>,
    most: usize,
    due: Option<Instant>,
) -> bool {
    let Some(due) = due else { return receiver.blocking_recv_many(messages, most) > 0 };
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        let received = match most {
            0 => Poll::Pending,
            _ => receiver.poll_recv_many(&mut context, messages, most),
        };
        if let Poll::Ready(count) = received {
            return count > 0;
        }
        let wait = due.saturating_duration_since(Instant::now());
        if wait.is_zero() {
            return true;
        }
        std::thread::park_timeout(wait);
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
    use std::collections::VecDeque;
    use std::sync::Mutex;

    use super::*;
    use crate::model::{Namespace, NamespaceKind, Tags, samples};

    /// Returns the scripted verdicts for each batch, and accepts all batches after those.
    #[derive(Default)]
    struct Scripted {
        rounds: VecDeque<Round>,
        may_lose: bool,
        /// Changes of other servers that the registry has not read yet.
        changes: Vec<Change>,
        batches: Arc<Mutex<Vec<Vec<Group>>>>,
    }

    /// The verdicts on a batch, and the changes that other servers make before it.
    struct Round(Result<Vec<Verdict>, ()>, Vec<Change>);

    impl Store for Scripted {
        fn load(&mut self, _sink: &mut dyn FnMut(Change)) -> Result<(), StoreError> {
            Ok(())
        }

        fn changes(&mut self) -> Vec<Change> {
            std::mem::take(&mut self.changes)
        }

        fn may_lose(&self) -> bool {
            self.may_lose
        }

        fn commit(&mut self, batch: &[Group]) -> Result<Vec<Verdict>, StoreError> {
            self.batches.lock().unwrap().push(batch.to_vec());
            let Some(Round(verdicts, changes)) = self.rounds.pop_front() else {
                return Ok(vec![Verdict::Accepted; batch.len()]);
            };
            self.changes.extend(changes);
            verdicts.map_err(|()| StoreError { what: "the disk is full".into(), source: None })
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

    fn writer(store: Scripted) -> Writer {
        let settings = Arc::new(Settings::default());
        let (sender, _receiver) = mpsc::channel(1);
        let news = News::new(&sender);
        let shared = Arc::new(Shared {
            sender,
            state: RwLock::default(),
            store_failure: RwLock::default(),
            changed: watch::channel(0).0,
            followers: Followers::default(),
            settings: settings.clone(),
            finder: None,
            adopted: Notify::new(),
        });
        Writer {
            state: State::default(),
            reserved: Reserved::default(),
            store: Box::new(store),
            publish: Box::new(Exact),
            leniency: Leniency::new(settings.validation),
            settings,
            shared,
            news,
            losers: Losers::default(),
        }
    }

    /// Carries out commands that are one batch, again where they lose, and tells how each ended.
    fn carried_out(writer: &mut Writer, commands: Vec<Command>) -> Vec<String> {
        let (commands, mut answers): (Vec<_>, Vec<_>) = commands
            .into_iter()
            .map(|command| {
                let (answer, answered) = oneshot::channel();
                (Asked::new(command, answer), answered)
            })
            .unzip();
        writer.carry_out(commands);
        while writer.losers.len() > 0 {
            let again = writer.losers.take_all();
            writer.carry_out(again);
        }
        let told = |result| match result {
            Ok(Reply::Operation(_) | Reply::Done) => "done".to_string(),
            Ok(other) => format!("{other:?}"),
            Err(error) => RegistryError::to_string(&error),
        };
        answers.iter_mut().map(|answer| told(answer.try_recv().unwrap())).collect()
    }

    fn create(name: &str, token: Option<&str>) -> Command {
        Command::CreateNamespace {
            name: name.into(),
            kind: NamespaceKind::Http,
            creator_request_id: token.map(String::from),
            description: None,
            soa_ttl: None,
            tags: Tags::new(),
        }
    }

    fn tag(resource: &str, key: &str) -> Command {
        let tags = Tags::from([(key.to_string(), "1".to_string())]);
        Command::TagResource { resource: resource.into(), tags }
    }

    /// The change that another server stores when it creates the HTTP namespace `name`, and the ARN of that namespace.
    fn created_elsewhere(name: &str, tags: &[&str]) -> (Change, String) {
        let identity = Settings::default().identity;
        let id = identity.namespace_id("HTTP", name);
        let arn = identity.namespace_arn(&id);
        let namespace = Namespace {
            tags: tags.iter().map(|key| (key.to_string(), "1".to_string())).collect(),
            operation: 1_000,
            ..samples::namespace(id, name, NamespaceKind::Http)
        };
        (Change::PutNamespace(Arc::new(namespace)), arn)
    }

    fn lost() -> Verdict {
        Verdict::Lost("late".into())
    }

    /// The callers' answers when one namespace is asked for three times at once, and then another.
    fn told(store: Result<Vec<Verdict>, ()>) -> Vec<String> {
        let rounds = VecDeque::from([Round(store, Vec::new())]);
        let mut writer = writer(Scripted { rounds, ..Scripted::default() });
        let asked = vec![
            create("a", Some("token")),
            create("a", Some("token")),
            create("a", None),
            create("b", None),
        ];
        carried_out(&mut writer, asked)
    }

    const EXISTS: &str = "Namespace already exists.";

    #[test]
    fn nothing_is_said_on_the_ground_of_what_was_not_stored() {
        let full = "The change could not be stored: the disk is full";
        let late = "The change could not be stored: late";
        let refused = || Verdict::Refused(RegistryError::NotStored("late".into()));
        assert_eq!(told(Ok(vec![Verdict::Accepted; 2])), ["done", "done", EXISTS, "done"]);
        assert_eq!(told(Err(())), [full; 4]);
        assert_eq!(told(Ok(vec![refused(), Verdict::Accepted])), [late, late, late, "done"]);
        assert_eq!(told(Ok(vec![Verdict::Accepted, refused()])), ["done", "done", EXISTS, late]);
    }

    #[test]
    fn a_command_that_lost_ends_as_if_it_came_after_the_winner() {
        let (winner, _) = created_elsewhere("a", &[]);
        let rounds = VecDeque::from([Round(Ok(vec![lost(), Verdict::Accepted]), vec![winner])]);
        let mut writer = writer(Scripted { rounds, may_lose: true, ..Scripted::default() });
        // The second caller's answer was planned on what was not stored.
        let asked = vec![create("a", Some("token")), create("a", Some("token")), create("b", None)];
        assert_eq!(carried_out(&mut writer, asked), [EXISTS, EXISTS, "done"]);
        assert_eq!(writer.state.namespace_count(), 2);
    }

    #[test]
    fn changes_of_one_resource_merge_over_several_lost_races() {
        let (created, arn) = created_elsewhere("a", &["0"]);
        let tagged = |tags| vec![created_elsewhere("a", tags).0];
        let rounds = VecDeque::from([
            Round(Ok(vec![lost(), lost()]), tagged(&["0", "1"])),
            Round(Ok(vec![Verdict::Accepted, lost()]), Vec::new()),
            Round(Ok(vec![lost()]), tagged(&["0", "1", "2", "a"])),
        ]);
        let mut writer = writer(Scripted { rounds, may_lose: true, ..Scripted::default() });
        writer.state.apply(&created);
        assert_eq!(carried_out(&mut writer, vec![tag(&arn, "a"), tag(&arn, "b")]), ["done", "done"]);
        let tags = writer.state.tags(&arn).unwrap();
        assert_eq!(tags.keys().collect::<Vec<_>>(), ["0", "1", "2", "a", "b"]);
    }

    #[test]
    fn a_command_that_always_loses_ends_with_an_error_to_retry_and_holds_up_no_other() {
        let rounds = (0..100).map(|round| match round {
            0 => Round(Ok(vec![lost(), Verdict::Accepted]), Vec::new()),
            _ => Round(Ok(vec![lost()]), Vec::new()),
        });
        let batches = Arc::default();
        let store = Scripted {
            rounds: rounds.collect(),
            may_lose: true,
            batches: Arc::clone(&batches),
            ..Scripted::default()
        };
        let mut writer = writer(store);
        let contended = "Another server changed the same resource each time, try again: late";
        assert_eq!(carried_out(&mut writer, vec![create("a", None), create("b", None)]), [contended, "done"]);
        assert_eq!(batches.lock().unwrap().iter().map(Vec::len).collect::<Vec<_>>()[..3], [2, 1, 1]);
        assert_eq!(batches.lock().unwrap().len(), 16);
        assert_eq!(writer.state.namespace_count(), 1);
    }

    #[test]
    fn an_answer_that_stores_nothing_waits_for_one_lost_race_at_most() {
        let (there, arn) = created_elsewhere("a", &[]);
        let rounds =
            VecDeque::from([Round(Ok(vec![lost()]), Vec::new()), Round(Ok(vec![lost()]), Vec::new())]);
        let mut writer = writer(Scripted { rounds, may_lose: true, ..Scripted::default() });
        writer.state.apply(&there);
        let (answer, mut tagged) = oneshot::channel();
        let (other, mut created) = oneshot::channel();
        writer.carry_out(vec![Asked::new(tag(&arn, "b"), answer), Asked::new(create("a", None), other)]);
        assert!(tagged.try_recv().is_err() && created.try_recv().is_err());
        let again = writer.losers.take_all();
        writer.carry_out(again);
        assert!(tagged.try_recv().is_err());
        let exists = created.try_recv().unwrap();
        assert!(matches!(exists, Err(RegistryError::NamespaceAlreadyExists { .. })), "{exists:?}");
    }

    #[test]
    fn an_error_of_one_command_is_not_told_to_another() {
        let in_use = RegistryError::ResourceInUse("in use".into());
        let rounds = VecDeque::from([Round(Ok(vec![Verdict::Refused(in_use)]), Vec::new())]);
        let mut writer = writer(Scripted { rounds, may_lose: true, ..Scripted::default() });
        let asked = vec![create("a", Some("token")), create("a", Some("token"))];
        assert_eq!(carried_out(&mut writer, asked), ["in use", "done"]);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_writer_wakes_for_a_command_that_is_due_and_ends_all_when_it_stops() {
        let start = |losses: usize| {
            let rounds = (0..losses).map(|_| Round(Ok(vec![lost()]), Vec::new())).collect();
            let store = Scripted { rounds, may_lose: true, ..Scripted::default() };
            Registry::start(Settings::default(), Box::new(store), Box::new(Exact)).unwrap()
        };
        let (registry, writer) = start(5);
        registry.submit(create("a", None)).await.unwrap();
        drop(registry);
        tokio::task::spawn_blocking(|| writer.stop()).await.unwrap();

        let (registry, writer) = start(100);
        let submitted = tokio::spawn(async move { registry.submit(create("a", None)).await });
        tokio::task::spawn_blocking(|| writer.stop()).await.unwrap();
        let ended = submitted.await.unwrap();
        assert!(
            matches!(ended, Err(RegistryError::Contended(_) | RegistryError::Unavailable(_))),
            "{ended:?}"
        );
    }
}

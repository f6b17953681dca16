//! The writer, whose thread makes every change of state.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Instant;

use tokio::sync::{mpsc, oneshot};

use crate::model::{OperationId, now_ms};

use super::{
    arrivals,
    change::{Change, Event},
    command::{Command, Reply},
    error::RegistryError,
    leniency::Leniency,
    message::{ChangeNotifier, Message},
    numbering::{self, Renumber},
    numbers::Reserved,
    plan::{Planner, shadow_conflicts},
    port::{Group, Publish, Store, Verdict},
    retry::{Losses, Request, RetryQueue},
    settings::Settings,
    settling::Settling,
    shared::{Shared, set},
    state::State,
};

const BATCH_COMMANDS_MAX: usize = 1024;

pub(super) struct Writer {
    pub(super) state: State,
    pub(super) reserved: Reserved,
    pub(super) store: Box<dyn Store>,
    pub(super) publish: Box<dyn Publish>,
    pub(super) settings: Arc<Settings>,
    pub(super) shared: Arc<Shared>,
    pub(super) leniency: Leniency,
    pub(super) notifier: ChangeNotifier,
    pub(super) retries: RetryQueue,
    pub(super) settling: Settling,
}

/// A planned command of the batch, whose caller is answered after the commit. `groups_planned` counts the batch's groups up
/// to and including this command's, and `result` was planned on the state with all of them. The store cannot refuse a
/// command without a group of its own, but may refuse the groups that it was planned on.
struct Planned {
    answer: oneshot::Sender<Result<Reply, RegistryError>>,
    result: Result<Reply, RegistryError>,
    groups_planned: usize,
    has_group: bool,
    kept: Option<Command>,
    losses: Losses,
}

/// Outcome of a planned command, which follows from the verdicts of the store. A command is planned again, for the store's
/// reason, if changes that it was planned on were not stored.
enum Outcome {
    AsPlanned,
    Retry(String),
    Refused(RegistryError),
}

impl Planned {
    fn outcome(&self, verdicts: &[Verdict]) -> Outcome {
        let first = if self.has_group { self.groups_planned - 1 } else { 0 };
        let not_stored =
            verdicts.iter().take(self.groups_planned).skip(first).find_map(|verdict| match verdict {
                Verdict::Accepted | Verdict::Arrives { .. } => None,
                Verdict::Lost(reason) => Some(Outcome::Retry(reason.clone())),
                Verdict::Refused(error) if self.has_group || self.kept.is_none() => {
                    Some(Outcome::Refused(error.clone()))
                }
                // Another command was refused, so this one's result was planned on a state that never existed.
                Verdict::Refused(error) => Some(Outcome::Retry(error.to_string())),
            });
        not_stored.unwrap_or(Outcome::AsPlanned)
    }
}

impl Writer {
    pub(super) fn run(mut self, mut receiver: mpsc::Receiver<Message>) {
        let mut messages = Vec::new();
        let mut stop = false;
        while !stop {
            messages.clear();
            // Commands in the retry queue count too, so that the number of commands in this thread is limited.
            let most = BATCH_COMMANDS_MAX.saturating_sub(self.retries.len());
            let due = [self.retries.due(), self.settling.due()].into_iter().flatten().min();
            stop = !receive(&mut receiver, &mut messages, most, due);
            let commands = messages.drain(..).filter_map(|message| match message {
                Message::Command(command, answer) => Some(Request::new(command, answer)),
                Message::Arrived => None,
                Message::Stop => {
                    stop = true;
                    None
                }
            });
            let mut requests: Vec<_> = commands.collect();
            self.apply_store_changes();
            requests.splice(..0, self.retries.take_due(Instant::now()));
            self.carry_out(requests);
            if self.settling.due().is_some_and(|at| at <= Instant::now()) {
                self.end_settling();
            }
        }
        while self.retries.len() > 0 {
            self.apply_store_changes();
            let requests = self.retries.take_all();
            self.carry_out(requests);
        }
    }

    /// Carries out commands that arrived together. No order is promised between different callers.
    fn carry_out(&mut self, requests: Vec<Request>) {
        // Observations go first, because they do not wait for the store.
        let (observed, mut requests): (Vec<_>, Vec<_>) =
            requests.into_iter().partition(|request| matches!(request.command, Command::Observe(_)));
        self.batch(observed);
        if requests.iter().any(|request| matches!(request.command, Command::Renumber))
            && self.state.numbering().is_some()
        {
            self.store.renumber(Renumber::everything());
        }
        // Each gets a version of its own, so that an id which changes its meaning is absent from the version in between.
        let shadowed = requests.extract_if(.., |request| matches!(request.command, Command::Shadow(_)));
        shadowed.for_each(|request| self.batch(vec![request]));
        self.batch(requests);
    }

    fn apply_store_changes(&mut self) {
        self.notifier.reset();
        let changes = self.store.changes();
        if !changes.is_empty() {
            self.remove_conflicting_shadow(&changes);
            let mut next = self.state.clone();
            changes.iter().for_each(|change| next.apply(change));
            self.publish_state(next, changes.iter());
        }
    }

    /// Removes the shadowed resources that conflict with stored changes. This is published as a version of its own, so that
    /// an id which changes its meaning is absent from the version in between.
    fn remove_conflicting_shadow(&mut self, stored: &[Change]) {
        let removals = shadow_conflicts(&self.state, stored);
        if !removals.is_empty() {
            let mut next = self.state.clone();
            removals.iter().for_each(|change| next.apply(change));
            self.publish_state(next, removals.iter());
        }
    }

    fn publish_state<'c>(&mut self, mut next: State, changes: impl Iterator<Item = &'c Change> + Clone) {
        let mut seen = HashSet::new();
        let mut events = Vec::new();
        let mut has_definition = false;
        for change in changes.clone() {
            has_definition |= change.is_of_a_definition();
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
        self.settling.mark(&self.state, &mut next, &events, &self.settings.health, Instant::now());
        if !events.is_empty() {
            self.publish.publish(&next, &events);
        }
        let (history, served) = (&self.shared.history, &self.shared.served);
        history.record(&self.state, &next, changes, &self.settings.health, served, now_ms());
        let departures = &self.shared.departures;
        departures.record(&self.state, &next, &events, &self.settings.health, Instant::now());
        set(&self.shared.state, Arc::new(next.clone()));
        self.shared.state_replaced.notify_waiters();
        self.shared.subscribers.notify(&events);
        self.state = next;
        if !unnumbered.is_empty() {
            self.store.renumber(unnumbered);
        }
        if has_definition {
            self.shared.changed.send_replace(self.state.sequence());
        }
    }

    /// Publishes the services that have settled.
    fn end_settling(&mut self) {
        let mut next = self.state.clone();
        let events = self.settling.end_due(&mut next, &self.settings.health, Instant::now());
        if !events.is_empty() {
            self.publish.publish_ttls(&next, &events);
            set(&self.shared.state, Arc::new(next.clone()));
            self.state = next;
        }
    }

    /// Plans, stores, publishes and answers a batch. Commands that lost a race go to the retry queue.
    fn batch(&mut self, requests: Vec<Request>) {
        let now_ms = now_ms();
        let may_lose = self.store.may_lose();
        let mut next = self.state.clone();
        let mut groups: Vec<Group> = Vec::with_capacity(requests.len());
        let mut planned = Vec::with_capacity(requests.len());
        for Request { command, answer, losses } in requests {
            let kept = may_lose.then(|| command.clone());
            let (settings, leniency) = (&self.settings, &mut self.leniency);
            let planner = Planner { state: &next, settings, now_ms, leniency, may_lose };
            match planner.plan(command) {
                // The error depends on no change of this batch, so it is certain before the commit. The caller may have
                // disconnected.
                Err(error) if groups.is_empty() => drop(answer.send(Err(error))),
                Err(error) => {
                    let (result, groups_planned) = (Err(error), groups.len());
                    planned.push(Planned { answer, result, groups_planned, has_group: false, kept, losses });
                }
                Ok((group, reply)) => {
                    group.iter().for_each(|change| next.apply(change));
                    let has_group = !group.is_empty();
                    groups.extend(has_group.then_some(group));
                    let (result, groups_planned) = (Ok(reply), groups.len());
                    planned.push(Planned { answer, result, groups_planned, has_group, kept, losses });
                }
            }
        }
        let verdicts = match self.commit(&groups, next.sequence()) {
            Ok(verdicts) => verdicts,
            Err(message) => {
                for Planned { answer, result, groups_planned, .. } in planned {
                    let _ = answer.send(match groups_planned {
                        0 => result,
                        _ => Err(RegistryError::NotStored(message.clone())),
                    });
                }
                return;
            }
        };
        let ids = arrivals::ids(&groups, &verdicts);
        // Read the changes that the store holds in a form of its own, and those of the servers that won a race.
        let arrives = verdicts.iter().any(|verdict| matches!(verdict, Verdict::Arrives { .. }));
        let is_lost = verdicts.iter().any(|verdict| matches!(verdict, Verdict::Lost(_)));
        let arrived = if arrives || is_lost { self.store.changes() } else { Vec::new() };
        self.remove_conflicting_shadow(&arrived);
        if verdicts.iter().any(|verdict| *verdict != Verdict::Accepted) {
            // Build the state again: without the groups that were not accepted, and with the changes of the store.
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
            self.publish_state(next, accepted.flat_map(|(group, _)| group).chain(&arrived));
        }
        self.answer(planned, &verdicts, arrives.then_some(&ids));
    }

    /// `ids` maps planned ids of operations to those that the store gave them, if it gave any.
    fn answer(
        &mut self,
        planned: Vec<Planned>,
        verdicts: &[Verdict],
        ids: Option<&HashMap<OperationId, OperationId>>,
    ) {
        let (now, jitter) = (Instant::now(), fastrand::f64());
        let mut later = Vec::new();
        for mut command in planned {
            let result = match command.outcome(verdicts) {
                Outcome::AsPlanned => match ids {
                    Some(ids) => arrivals::as_stored(command.result, ids, &self.state),
                    None => command.result,
                },
                Outcome::Refused(error) => Err(error),
                Outcome::Retry(reason) => match command.kept.take() {
                    Some(kept) => {
                        let request =
                            Request { command: kept, answer: command.answer, losses: command.losses };
                        if command.has_group {
                            later.push((request, reason));
                        } else {
                            // A command without changes is planned again before those that have some.
                            self.retries.add(request, reason, now, jitter);
                        }
                        continue;
                    }
                    None => Err(RegistryError::Contended(reason)),
                },
            };
            let _ = command.answer.send(result);
        }
        for (request, reason) in later {
            self.retries.add(request, reason, now, jitter);
        }
    }

    /// Commits the groups with durable changes and returns a verdict for every group. `sequence` is their last number.
    fn commit(&mut self, groups: &[Group], sequence: u64) -> Result<Vec<Verdict>, String> {
        let is_durable = |group: &Group| group.iter().any(Change::is_durable);
        let has_unstored = !groups.iter().all(is_durable);
        let reserved = match self.state.numbering() {
            Some(_) => self.reserved,
            None => self.reserved.for_numbers_up_to(sequence, has_unstored),
        };
        let mut stored = groups;
        let mut durable: Vec<Group>;
        if has_unstored || reserved.is_any() {
            durable = groups.iter().filter(|group| is_durable(group)).cloned().collect();
            if !durable.is_empty() || reserved != self.reserved {
                durable.extend(reserved.group());
            }
            stored = &durable;
        }
        if stored.is_empty() {
            return Ok(vec![Verdict::Accepted; groups.len()]);
        }
        match self.store.commit(stored) {
            Ok(verdicts) => {
                set(&self.shared.store_failure, None);
                // If the reservation was not stored, the groups that need its numbers without being stored fail with it.
                let has_reservation = stored.len() > groups.iter().filter(|group| is_durable(group)).count();
                let is_new = has_reservation && reserved != self.reserved;
                let unstored = match verdicts.last().filter(|_| is_new) {
                    Some(refused @ (Verdict::Lost(_) | Verdict::Refused(_))) => refused.clone(),
                    _ => {
                        self.reserved = reserved;
                        Verdict::Accepted
                    }
                };
                let mut verdicts = verdicts.into_iter();
                let verdict = |group| {
                    if is_durable(group) {
                        verdicts.next().unwrap_or(Verdict::Accepted)
                    } else {
                        unstored.clone()
                    }
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

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Unpark>) {
        self.0.unpark();
    }
}

/// Waits for a message, at most until `due` if it is given, and receives up to `most` that are queued. Returns false if the
/// channel is closed and empty.
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

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::{Mutex, RwLock};

    use tokio::sync::{Notify, watch};

    use super::*;
    use crate::model::{Namespace, NamespaceKind, Tags, samples};
    use crate::registry::departures::Departures;
    use crate::registry::history::History;
    use crate::registry::subscription::Subscribers;
    use crate::registry::{Registry, StoreError};

    /// Returns the scripted verdicts for each batch, and accepts all batches after those. Each round also contains the
    /// changes that other servers make before the batch, and that the registry has not read yet.
    #[derive(Default)]
    struct Scripted {
        rounds: VecDeque<Round>,
        may_lose: bool,
        changes: Vec<Change>,
        batches: Arc<Mutex<Vec<Vec<Group>>>>,
    }

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
        let notifier = ChangeNotifier::new(&sender);
        let shared = Arc::new(Shared {
            sender,
            state: RwLock::default(),
            store_failure: RwLock::default(),
            changed: watch::channel(0).0,
            subscribers: Subscribers::default(),
            history: Arc::new(History::new(0)),
            departures: Departures::new(Instant::now(), 0, 0),
            served: Arc::default(),
            settings: settings.clone(),
            finder: None,
            state_replaced: Notify::new(),
        });
        Writer {
            state: State::default(),
            reserved: Reserved::default(),
            store: Box::new(store),
            publish: Box::new(Exact),
            leniency: Leniency::new(settings.validation),
            settings,
            shared,
            notifier,
            retries: RetryQueue::default(),
            settling: Settling::default(),
        }
    }

    /// Carries out commands as one batch, repeats those that lose a race, and returns the result of each as a text.
    fn carried_out(writer: &mut Writer, commands: Vec<Command>) -> Vec<String> {
        let (commands, mut answers): (Vec<_>, Vec<_>) = commands
            .into_iter()
            .map(|command| {
                let (answer, answered) = oneshot::channel();
                (Request::new(command, answer), answered)
            })
            .unzip();
        writer.carry_out(commands);
        while writer.retries.len() > 0 {
            let again = writer.retries.take_all();
            writer.carry_out(again);
        }
        let text = |result| match result {
            Ok(Reply::Operation(_) | Reply::Done) => "done".to_string(),
            Ok(other) => format!("{other:?}"),
            Err(error) => RegistryError::to_string(&error),
        };
        answers.iter_mut().map(|answer| text(answer.try_recv().unwrap())).collect()
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

    /// Returns the callers' answers if one batch creates namespace `a` three times and then `b`, and the store returns these
    /// verdicts.
    fn answers(store: Result<Vec<Verdict>, ()>) -> Vec<String> {
        let rounds = VecDeque::from([Round(store, Vec::new())]);
        let mut writer = writer(Scripted { rounds, ..Scripted::default() });
        let commands = vec![
            create("a", Some("token")),
            create("a", Some("token")),
            create("a", None),
            create("b", None),
        ];
        carried_out(&mut writer, commands)
    }

    const EXISTS: &str = "Namespace already exists.";

    #[test]
    fn answers_never_depend_on_changes_that_were_not_stored() {
        let full = "The change could not be stored: the disk is full";
        let late = "The change could not be stored: late";
        let refused = || Verdict::Refused(RegistryError::NotStored("late".into()));
        assert_eq!(answers(Ok(vec![Verdict::Accepted; 2])), ["done", "done", EXISTS, "done"]);
        assert_eq!(answers(Err(())), [full; 4]);
        assert_eq!(answers(Ok(vec![refused(), Verdict::Accepted])), [late, late, late, "done"]);
        assert_eq!(answers(Ok(vec![Verdict::Accepted, refused()])), ["done", "done", EXISTS, late]);
    }

    #[test]
    fn command_that_lost_a_race_is_answered_as_if_it_came_after_the_winner() {
        let (winner, _) = created_elsewhere("a", &[]);
        let rounds = VecDeque::from([Round(Ok(vec![lost(), Verdict::Accepted]), vec![winner])]);
        let mut writer = writer(Scripted { rounds, may_lose: true, ..Scripted::default() });
        // The second caller's answer was planned on the first one's change, which was not stored.
        let commands = vec![create("a", Some("token")), create("a", Some("token")), create("b", None)];
        assert_eq!(carried_out(&mut writer, commands), [EXISTS, EXISTS, "done"]);
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
    fn command_that_loses_every_race_fails_as_contended_and_delays_no_other() {
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
    fn answer_without_changes_waits_for_one_lost_race_at_most() {
        let (there, arn) = created_elsewhere("a", &[]);
        let rounds =
            VecDeque::from([Round(Ok(vec![lost()]), Vec::new()), Round(Ok(vec![lost()]), Vec::new())]);
        let mut writer = writer(Scripted { rounds, may_lose: true, ..Scripted::default() });
        writer.state.apply(&there);
        let (answer, mut tagged) = oneshot::channel();
        let (other, mut created) = oneshot::channel();
        writer.carry_out(vec![Request::new(tag(&arn, "b"), answer), Request::new(create("a", None), other)]);
        assert!(tagged.try_recv().is_err() && created.try_recv().is_err());
        let again = writer.retries.take_all();
        writer.carry_out(again);
        assert!(tagged.try_recv().is_err());
        let exists = created.try_recv().unwrap();
        assert!(matches!(exists, Err(RegistryError::NamespaceAlreadyExists { .. })), "{exists:?}");
    }

    #[test]
    fn error_of_one_command_is_not_returned_to_another() {
        let in_use = RegistryError::ResourceInUse("in use".into());
        let rounds = VecDeque::from([Round(Ok(vec![Verdict::Refused(in_use)]), Vec::new())]);
        let mut writer = writer(Scripted { rounds, may_lose: true, ..Scripted::default() });
        let commands = vec![create("a", Some("token")), create("a", Some("token"))];
        assert_eq!(carried_out(&mut writer, commands), ["in use", "done"]);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn writer_wakes_for_a_due_command_and_answers_all_waiting_ones_when_it_stops() {
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

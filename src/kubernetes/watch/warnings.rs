//! Warning events on pods whose annotation can't be read: `kubectl describe pod` shows them.
//!
//! They are told one after the other by a task of its own, so many in a second at most. When more wait than are kept,
//! those that come then are left out: the metric and the log have them.

use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, Resource as _};
use tokio::sync::mpsc;

use crate::kubernetes::pod::Pod;

/// Warnings that wait.
const WAITING_MAX: usize = 64;
/// Time between two warnings, in milliseconds.
const BETWEEN_MS: u64 = 200;
/// Characters of a warning's text (Kubernetes: 1,024 octets).
const NOTE_CHARACTERS_MAX: usize = 500;

/// Where warnings go.
pub(super) struct Warnings {
    waiting: mpsc::Sender<(ObjectReference, String)>,
}

impl Warnings {
    /// Starts the task; it ends with this.
    pub(super) fn start(client: Client) -> Warnings {
        let (waiting, mut receiver) = mpsc::channel::<(ObjectReference, String)>(WAITING_MAX);
        let reporter = Reporter { controller: env!("CARGO_PKG_NAME").into(), instance: None };
        let recorder = Recorder::new(client, reporter);
        tokio::spawn(async move {
            while let Some((pod, note)) = receiver.recv().await {
                let event = Event {
                    type_: EventType::Warning,
                    reason: "CloudMapAnnotationMalformed".into(),
                    note: Some(note),
                    action: "Register".into(),
                    secondary: None,
                };
                if let Err(error) = recorder.publish(&event, &pod).await {
                    let name = pod.name.unwrap_or_default();
                    tracing::warn!(pod = name, %error, "a warning could not be put on a pod");
                }
                tokio::time::sleep(Duration::from_millis(BETWEEN_MS)).await;
            }
        });
        Warnings { waiting }
    }

    /// Says on the pod what of its annotation could not be read.
    pub(super) fn malformed(&self, pod: &Pod, problems: &[String]) {
        let text = format!("This pod is not registered as its annotation says: {}.", problems.join("; "));
        let note = text.chars().take(NOTE_CHARACTERS_MAX).collect();
        // One that has no room is counted and logged all the same.
        let _ = self.waiting.try_send((pod.object_ref(&()), note));
    }
}

//! Warning events on pods whose annotation can't be read or contradicts itself, for `kubectl describe pod`.
//!
//! A task of its own publishes them one after the other, at a limited rate. Warnings that find the queue full are
//! dropped, because the log has all of them.

use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, Resource as _};
use tokio::sync::mpsc;

use crate::kubernetes::pod::Pod;

const WAITING_MAX: usize = 64;
const BETWEEN_MS: u64 = 200;
/// Limit of a warning's text in characters. Kubernetes allows 1,024 bytes.
const NOTE_CHARACTERS_MAX: usize = 500;

/// Queue of warnings, which the task that publishes them reads.
pub(super) struct Warnings {
    waiting: mpsc::Sender<Warning>,
}

/// Event in the queue: the pod that it is about, its reason, which is one word, and its text.
struct Warning {
    pod: ObjectReference,
    reason: &'static str,
    note: String,
}

impl Warnings {
    pub(super) fn start(client: Client) -> Warnings {
        let (waiting, mut receiver) = mpsc::channel::<Warning>(WAITING_MAX);
        let reporter = Reporter { controller: env!("CARGO_PKG_NAME").into(), instance: None };
        let recorder = Recorder::new(client, reporter);
        tokio::spawn(async move {
            while let Some(Warning { pod, reason, note }) = receiver.recv().await {
                let event = Event {
                    type_: EventType::Warning,
                    reason: reason.into(),
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

    pub(super) fn malformed(&self, pod: &Pod, problems: &[String]) {
        let text = format!("This pod is not registered as its annotation says: {}.", problems.join("; "));
        self.warn(pod, "CloudMapAnnotationMalformed", &text);
    }

    pub(super) fn contradictory(&self, pod: &Pod, contradictions: &[String]) {
        let text =
            format!("Some entries of this pod's annotation are not used: {}.", contradictions.join("; "));
        self.warn(pod, "CloudMapAnnotationContradictory", &text);
    }

    fn warn(&self, pod: &Pod, reason: &'static str, text: &str) {
        let note = text.chars().take(NOTE_CHARACTERS_MAX).collect();
        let _ = self.waiting.try_send(Warning { pod: pod.object_ref(&()), reason, note });
    }
}

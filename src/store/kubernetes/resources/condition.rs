//! The condition in the statuses of all kinds.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A condition with the fields of `metav1.Condition`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// The type of the condition, which is `Accepted`.
    #[serde(rename = "type")]
    pub kind: String,
    /// `True` if the servers use the object, otherwise `False`.
    pub status: String,
    /// A machine-readable reason in one word.
    pub reason: String,
    /// A message for people; empty if there is nothing to explain.
    pub message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The time of the last change of the status.
    #[schemars(extend("format" = "date-time"))]
    pub last_transition_time: String,
}

use crate::model::Identity;

/// Setting that selects the ids of instances. `Task` is the id of the ECS task, as on AWS, or the pod's name if it
/// has no task; `Pod` is the pod's name, even if it has a task's id.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[expect(missing_docs, reason = "the type's document explains the variants")]
pub enum InstanceIdSource {
    #[default]
    Task,
    Pod,
}

/// Settings that the conversion of a pod depends on: the source of instance ids, and the account and region of
/// instances whose pod does not name them.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the type's document explains the fields")]
pub struct PodRules {
    pub instance_id: InstanceIdSource,
    pub identity: Identity,
}

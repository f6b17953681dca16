use crate::model::Identity;

/// Setting that selects the ids of instances.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum InstanceIdSource {
    /// The ECS task's id if the pod has one, as on AWS; else the pod's name.
    #[default]
    Task,
    /// The pod's name, even if it has a task's id.
    Pod,
}

/// Settings that the conversion of a pod depends on.
#[derive(Clone, Debug)]
pub struct PodRules {
    /// Setting that selects the ids of instances.
    pub instance_id: InstanceIdSource,
    /// Account and region of instances whose pod does not name them.
    pub identity: Identity,
}

//! The input shapes of the thirty operations, taken from the published service model (version 2017-03-14).

use crate::model::{DnsRecordType, HealthCheckType, RoutingPolicy};
use crate::registry::pattern::{is_lenient_public_name, is_lenient_service_name};

use super::pattern;
use super::shape::{Integer, List, MapOf, Member, Shape, Size, Text, optional, required};

static ACCOUNT_ID: Shape = Shape::Text(Text::sized(12, 12));
static AMAZON_RESOURCE_NAME: Shape = Shape::Text(Text::sized(1, 1011));
static ARN: Shape = Shape::Text(Text::sized(0, 255));
static DESCRIPTION: Shape = Shape::Text(Text::sized(0, 1024));
static FILTER_VALUE: Shape = Shape::Text(Text::sized(1, 255));
static INSTANCE_ID: Shape = Shape::Text(Text::sized(0, 64).matching(&pattern::INSTANCE_ID));
static NAMESPACE_NAME: Shape = Shape::Text(Text::sized(0, 1024).matching(&pattern::NAMESPACE_NAME));
static NAMESPACE_NAME_HTTP: Shape = Shape::Text(Text::sized(0, 1024).matching(&pattern::NAMESPACE_NAME_HTTP));
static NAMESPACE_NAME_PRIVATE: Shape =
    Shape::Text(Text::sized(0, 253).matching(&pattern::NAMESPACE_NAME_PRIVATE));
static NAMESPACE_NAME_PUBLIC: Shape = Shape::Text(
    Text::sized(0, 253).matching(&pattern::NAMESPACE_NAME_PUBLIC).or_leniently(is_lenient_public_name),
);
static NEXT_TOKEN: Shape = Shape::Text(Text::sized(0, 4096));
static OPERATION_ID: Shape = Shape::Text(Text::sized(0, 255));
static RESOURCE_ID: Shape = Shape::Text(Text::sized(0, 64));
static RESOURCE_PATH: Shape = Shape::Text(Text::sized(0, 255));
static SERVICE_ATTRIBUTE_KEY: Text = Text::sized(0, 255);
static SERVICE_NAME: Shape = Shape::Text(
    Text::sized(0, usize::MAX).matching(&pattern::SERVICE_NAME).or_leniently(is_lenient_service_name),
);
static TAG_KEY: Shape = Shape::Text(Text::sized(1, 128));
static TAG_VALUE: Shape = Shape::Text(Text::sized(0, 256));

static CUSTOM_HEALTH_STATUS: Shape = Shape::Text(Text::one_of(&["HEALTHY", "UNHEALTHY"]));
static FILTER_CONDITION: Shape = Shape::Text(Text::one_of(&["EQ", "IN", "BETWEEN", "BEGINS_WITH"]));
static HEALTH_CHECK_TYPE: Shape = Shape::Text(Text::one_of(HealthCheckType::WORDS));
static HEALTH_STATUS_FILTER: Shape =
    Shape::Text(Text::one_of(&["HEALTHY", "UNHEALTHY", "ALL", "HEALTHY_OR_ELSE_ALL"]));
static NAMESPACE_FILTER_NAME: Shape =
    Shape::Text(Text::one_of(&["TYPE", "NAME", "HTTP_NAME", "RESOURCE_OWNER"]));
static OPERATION_FILTER_NAME: Shape =
    Shape::Text(Text::one_of(&["NAMESPACE_ID", "SERVICE_ID", "STATUS", "TYPE", "UPDATE_DATE"]));
static RECORD_TYPE: Shape = Shape::Text(Text::one_of(DnsRecordType::WORDS));
static ROUTING_POLICY: Shape = Shape::Text(Text::one_of(RoutingPolicy::WORDS));
static SERVICE_FILTER_NAME: Shape = Shape::Text(Text::one_of(&["NAMESPACE_ID", "RESOURCE_OWNER"]));
static SERVICE_TYPE_OPTION: Shape = Shape::Text(Text::one_of(&["HTTP"]));

static DISCOVER_MAX_RESULTS: Shape = Shape::Integer(Integer { min: 1, max: 1000 });
static FAILURE_THRESHOLD: Shape = Shape::Integer(Integer { min: 1, max: 10 });
static MAX_RESULTS: Shape = Shape::Integer(Integer { min: 1, max: 100 });
static RECORD_TTL: Shape = Shape::Integer(Integer { min: 0, max: 2_147_483_647 });

static ATTRIBUTES: Shape = Shape::Map(MapOf {
    size: Size::ANY,
    key: Text::sized(0, 255).matching(&pattern::ATTRIBUTE_KEY),
    value: Text::sized(0, 1024).matching(&pattern::ATTRIBUTE_VALUE),
});
static DNS_RECORDS: Shape = Shape::List(List {
    size: Size::ANY,
    member: &Shape::Structure(&[required("Type", &RECORD_TYPE), required("TTL", &RECORD_TTL)]),
});
static DNS_CONFIG: Shape = Shape::Structure(&[
    optional("NamespaceId", &RESOURCE_ID),
    optional("RoutingPolicy", &ROUTING_POLICY),
    required("DnsRecords", &DNS_RECORDS),
]);
static DNS_CONFIG_CHANGE: Shape = Shape::Structure(&[required("DnsRecords", &DNS_RECORDS)]);
static FILTER_VALUES: Shape = Shape::List(List { size: Size::ANY, member: &FILTER_VALUE });
static HEALTH_CHECK_CONFIG: Shape = Shape::Structure(&[
    required("Type", &HEALTH_CHECK_TYPE),
    optional("ResourcePath", &RESOURCE_PATH),
    optional("FailureThreshold", &FAILURE_THRESHOLD),
]);
static HEALTH_CHECK_CUSTOM_CONFIG: Shape =
    Shape::Structure(&[optional("FailureThreshold", &FAILURE_THRESHOLD)]);
static INSTANCE_ID_LIST: Shape =
    Shape::List(List { size: Size { min: 1, max: usize::MAX }, member: &RESOURCE_ID });
static SERVICE_ATTRIBUTES: Shape = Shape::Map(MapOf {
    size: Size { min: 1, max: 30 },
    key: SERVICE_ATTRIBUTE_KEY,
    value: Text::sized(0, 1024),
});
static SERVICE_ATTRIBUTE_KEYS: Shape =
    Shape::List(List { size: Size { min: 1, max: 30 }, member: &Shape::Text(SERVICE_ATTRIBUTE_KEY) });
static TAGS: Shape = Shape::List(List {
    size: Size { min: 0, max: 200 },
    member: &Shape::Structure(&[required("Key", &TAG_KEY), required("Value", &TAG_VALUE)]),
});
static TAG_KEYS: Shape = Shape::List(List { size: Size { min: 0, max: 200 }, member: &TAG_KEY });

/// The shapes `PrivateDnsNamespaceProperties`, `PublicDnsNamespaceProperties` and their variants for changes, which have
/// equal members.
static DNS_NAMESPACE_PROPERTIES: Shape = Shape::Structure(&[required(
    "DnsProperties",
    &Shape::Structure(&[required("SOA", &Shape::Structure(&[required("TTL", &RECORD_TTL)]))]),
)]);
static DNS_NAMESPACE_CHANGE: Shape = Shape::Structure(&[
    optional("Description", &DESCRIPTION),
    optional("Properties", &DNS_NAMESPACE_PROPERTIES),
]);
static HTTP_NAMESPACE_CHANGE: Shape = Shape::Structure(&[required("Description", &DESCRIPTION)]);
static SERVICE_CHANGE: Shape = Shape::Structure(&[
    optional("Description", &DESCRIPTION),
    optional("DnsConfig", &DNS_CONFIG_CHANGE),
    optional("HealthCheckConfig", &HEALTH_CHECK_CONFIG),
]);

static NAMESPACE_FILTERS: Shape = filters(&NAMESPACE_FILTER);
static NAMESPACE_FILTER: Shape = Shape::Structure(&[
    required("Name", &NAMESPACE_FILTER_NAME),
    required("Values", &FILTER_VALUES),
    optional("Condition", &FILTER_CONDITION),
]);
static OPERATION_FILTERS: Shape = filters(&OPERATION_FILTER);
static OPERATION_FILTER: Shape = Shape::Structure(&[
    required("Name", &OPERATION_FILTER_NAME),
    required("Values", &FILTER_VALUES),
    optional("Condition", &FILTER_CONDITION),
]);
static SERVICE_FILTERS: Shape = filters(&SERVICE_FILTER);
static SERVICE_FILTER: Shape = Shape::Structure(&[
    required("Name", &SERVICE_FILTER_NAME),
    required("Values", &FILTER_VALUES),
    optional("Condition", &FILTER_CONDITION),
]);

const fn filters(filter: &'static Shape) -> Shape {
    Shape::List(List { size: Size::ANY, member: filter })
}

pub(super) static CREATE_HTTP_NAMESPACE: &[Member] = &[
    required("Name", &NAMESPACE_NAME_HTTP),
    optional("CreatorRequestId", &RESOURCE_ID),
    optional("Description", &DESCRIPTION),
    optional("Tags", &TAGS),
];
pub(super) static CREATE_PRIVATE_DNS_NAMESPACE: &[Member] = &[
    required("Name", &NAMESPACE_NAME_PRIVATE),
    optional("CreatorRequestId", &RESOURCE_ID),
    optional("Description", &DESCRIPTION),
    required("Vpc", &RESOURCE_ID),
    optional("Tags", &TAGS),
    optional("Properties", &DNS_NAMESPACE_PROPERTIES),
];
pub(super) static CREATE_PUBLIC_DNS_NAMESPACE: &[Member] = &[
    required("Name", &NAMESPACE_NAME_PUBLIC),
    optional("CreatorRequestId", &RESOURCE_ID),
    optional("Description", &DESCRIPTION),
    optional("Tags", &TAGS),
    optional("Properties", &DNS_NAMESPACE_PROPERTIES),
];
pub(super) static CREATE_SERVICE: &[Member] = &[
    required("Name", &SERVICE_NAME),
    optional("NamespaceId", &ARN),
    optional("CreatorRequestId", &RESOURCE_ID),
    optional("Description", &DESCRIPTION),
    optional("DnsConfig", &DNS_CONFIG),
    optional("HealthCheckConfig", &HEALTH_CHECK_CONFIG),
    optional("HealthCheckCustomConfig", &HEALTH_CHECK_CUSTOM_CONFIG),
    optional("Tags", &TAGS),
    optional("Type", &SERVICE_TYPE_OPTION),
];
pub(super) static ID: &[Member] = &[required("Id", &ARN)];
pub(super) static DELETE_SERVICE_ATTRIBUTES: &[Member] =
    &[required("ServiceId", &ARN), required("Attributes", &SERVICE_ATTRIBUTE_KEYS)];
pub(super) static DISCOVER_INSTANCES: &[Member] = &[
    required("NamespaceName", &NAMESPACE_NAME),
    required("ServiceName", &SERVICE_NAME),
    optional("MaxResults", &DISCOVER_MAX_RESULTS),
    optional("QueryParameters", &ATTRIBUTES),
    optional("OptionalParameters", &ATTRIBUTES),
    optional("HealthStatus", &HEALTH_STATUS_FILTER),
    optional("OwnerAccount", &ACCOUNT_ID),
];
pub(super) static DISCOVER_INSTANCES_REVISION: &[Member] = &[
    required("NamespaceName", &NAMESPACE_NAME),
    required("ServiceName", &SERVICE_NAME),
    optional("OwnerAccount", &ACCOUNT_ID),
];
pub(super) static GET_INSTANCES_HEALTH_STATUS: &[Member] = &[
    required("ServiceId", &ARN),
    optional("Instances", &INSTANCE_ID_LIST),
    optional("MaxResults", &MAX_RESULTS),
    optional("NextToken", &NEXT_TOKEN),
];
pub(super) static GET_OPERATION: &[Member] =
    &[required("OperationId", &OPERATION_ID), optional("OwnerAccount", &ACCOUNT_ID)];
pub(super) static INSTANCE: &[Member] = &[required("ServiceId", &ARN), required("InstanceId", &RESOURCE_ID)];
pub(super) static GET_SERVICE_ATTRIBUTES: &[Member] = &[required("ServiceId", &ARN)];
pub(super) static LIST_INSTANCES: &[Member] =
    &[required("ServiceId", &ARN), optional("NextToken", &NEXT_TOKEN), optional("MaxResults", &MAX_RESULTS)];
pub(super) static LIST_NAMESPACES: &[Member] = &[
    optional("NextToken", &NEXT_TOKEN),
    optional("MaxResults", &MAX_RESULTS),
    optional("Filters", &NAMESPACE_FILTERS),
];
pub(super) static LIST_OPERATIONS: &[Member] = &[
    optional("NextToken", &NEXT_TOKEN),
    optional("MaxResults", &MAX_RESULTS),
    optional("Filters", &OPERATION_FILTERS),
];
pub(super) static LIST_SERVICES: &[Member] = &[
    optional("NextToken", &NEXT_TOKEN),
    optional("MaxResults", &MAX_RESULTS),
    optional("Filters", &SERVICE_FILTERS),
];
pub(super) static LIST_TAGS_FOR_RESOURCE: &[Member] = &[required("ResourceARN", &AMAZON_RESOURCE_NAME)];
pub(super) static REGISTER_INSTANCE: &[Member] = &[
    required("ServiceId", &ARN),
    required("InstanceId", &INSTANCE_ID),
    optional("CreatorRequestId", &RESOURCE_ID),
    required("Attributes", &ATTRIBUTES),
];
pub(super) static TAG_RESOURCE: &[Member] =
    &[required("ResourceARN", &AMAZON_RESOURCE_NAME), required("Tags", &TAGS)];
pub(super) static UNTAG_RESOURCE: &[Member] =
    &[required("ResourceARN", &AMAZON_RESOURCE_NAME), required("TagKeys", &TAG_KEYS)];
pub(super) static UPDATE_HTTP_NAMESPACE: &[Member] = &[
    required("Id", &ARN),
    optional("UpdaterRequestId", &RESOURCE_ID),
    required("Namespace", &HTTP_NAMESPACE_CHANGE),
];
pub(super) static UPDATE_DNS_NAMESPACE: &[Member] = &[
    required("Id", &ARN),
    optional("UpdaterRequestId", &RESOURCE_ID),
    required("Namespace", &DNS_NAMESPACE_CHANGE),
];
pub(super) static UPDATE_INSTANCE_CUSTOM_HEALTH_STATUS: &[Member] = &[
    required("ServiceId", &ARN),
    required("InstanceId", &RESOURCE_ID),
    required("Status", &CUSTOM_HEALTH_STATUS),
];
pub(super) static UPDATE_SERVICE: &[Member] = &[required("Id", &ARN), required("Service", &SERVICE_CHANGE)];
pub(super) static UPDATE_SERVICE_ATTRIBUTES: &[Member] =
    &[required("ServiceId", &ARN), required("Attributes", &SERVICE_ATTRIBUTES)];

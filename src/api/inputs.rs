//! The inputs of the thirty operations, as AWS's service model (version 2017-03-14) defines them.
//!
//! `inputs/tests.rs` compares every declaration with the published model.

use std::collections::BTreeMap;

use crate::model::service::CustomHealthCheck;
use crate::model::{
    CustomHealthStatus, DnsRecord, DnsRecordType, HealthCheck, HealthCheckType, RoutingPolicy, Tags,
};
use crate::registry::command::CreateDnsConfig;
use crate::registry::pattern::{is_lenient_public_name, is_lenient_service_name};
use crate::registry::{FilterCondition, HealthFilter, Validation};

use super::action::Action;
use super::error::ApiError;
use super::input::{Check, FromValue, read, structures, words};
use super::pattern;
use super::shape::{Integer, List, Size, Text, TextMap};
use super::value::{Map, Value};
use super::violation::{Path, Refused};

#[cfg(test)]
pub(super) mod tests;

const ACCOUNT_ID: Text = Text::sized(12, 12);
const AMAZON_RESOURCE_NAME: Text = Text::sized(1, 1011);
const ARN: Text = Text::sized(0, 255);
const DESCRIPTION: Text = Text::sized(0, 1024);
const FILTER_VALUE: Text = Text::sized(1, 255);
const INSTANCE_ID: Text = Text::sized(0, 64).matching(&pattern::INSTANCE_ID);
const NAMESPACE_NAME: Text = Text::sized(0, 1024).matching(&pattern::NAMESPACE_NAME);
const NAMESPACE_NAME_HTTP: Text = Text::sized(0, 1024).matching(&pattern::NAMESPACE_NAME_HTTP);
const NAMESPACE_NAME_PRIVATE: Text = Text::sized(0, 253).matching(&pattern::NAMESPACE_NAME_PRIVATE);
const NAMESPACE_NAME_PUBLIC: Text =
    Text::sized(0, 253).matching(&pattern::NAMESPACE_NAME_PUBLIC).or_leniently(is_lenient_public_name);
const NEXT_TOKEN: Text = Text::sized(0, 4096);
const OPERATION_ID: Text = Text::sized(0, 255);
const RESOURCE_ID: Text = Text::sized(0, 64);
const RESOURCE_PATH: Text = Text::sized(0, 255);
const SERVICE_ATTRIBUTE_KEY: Text = Text::sized(0, 255);
const SERVICE_NAME: Text =
    Text::sized(0, usize::MAX).matching(&pattern::SERVICE_NAME).or_leniently(is_lenient_service_name);
const TAG_KEY: Text = Text::sized(1, 128);
const TAG_VALUE: Text = Text::sized(0, 256);

const DISCOVER_MAX_RESULTS: Integer = Integer { min: 1, max: 1000 };
const FAILURE_THRESHOLD: Integer = Integer { min: 1, max: 10 };
const MAX_RESULTS: Integer = Integer { min: 1, max: 100 };
const RECORD_TTL: Integer = Integer { min: 0, max: 2_147_483_647 };

const DNS_RECORDS: List<()> = List { size: Size::ANY, element: () };
const FILTERS: List<()> = List { size: Size::ANY, element: () };
const FILTER_VALUES: List<Text> = List { size: Size::ANY, element: FILTER_VALUE };
const INSTANCE_IDS: List<Text> = List { size: Size { min: 1, max: usize::MAX }, element: RESOURCE_ID };
const SERVICE_ATTRIBUTE_KEYS: List<Text> =
    List { size: Size { min: 1, max: 30 }, element: SERVICE_ATTRIBUTE_KEY };
const TAGS: List<()> = List { size: Size { min: 0, max: 200 }, element: () };
const TAG_KEYS: List<Text> = List { size: Size { min: 0, max: 200 }, element: TAG_KEY };

const ATTRIBUTES: TextMap = TextMap {
    size: Size::ANY,
    key: Text::sized(0, 255).matching(&pattern::ATTRIBUTE_KEY),
    value: Text::sized(0, 1024).matching(&pattern::ATTRIBUTE_VALUE),
};
const SERVICE_ATTRIBUTES: TextMap =
    TextMap { size: Size { min: 1, max: 30 }, key: SERVICE_ATTRIBUTE_KEY, value: Text::sized(0, 1024) };

words! {
    use DnsRecordType;
    use HealthCheckType;
    use RoutingPolicy;
}

words! {
    impl CustomHealthStatus { Healthy = "HEALTHY", Unhealthy = "UNHEALTHY" }
    impl FilterCondition { Equal = "EQ", In = "IN", Between = "BETWEEN", BeginsWith = "BEGINS_WITH" }
    impl HealthFilter {
        Healthy = "HEALTHY", Unhealthy = "UNHEALTHY", All = "ALL", HealthyOrElseAll = "HEALTHY_OR_ELSE_ALL"
    }
    impl ServiceTypeOption { Http = "HTTP" }
}

/// Type of a service to create. Without it, the type follows from the namespace and from DnsConfig.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum ServiceTypeOption {
    Http,
}

words! {
    enum NamespaceFilterName {
        Type = "TYPE", Name = "NAME", HttpName = "HTTP_NAME", ResourceOwner = "RESOURCE_OWNER"
    }
    enum OperationFilterName {
        NamespaceId = "NAMESPACE_ID", ServiceId = "SERVICE_ID", Status = "STATUS", Type = "TYPE",
        UpdateDate = "UPDATE_DATE"
    }
    enum ServiceFilterName { NamespaceId = "NAMESPACE_ID", ResourceOwner = "RESOURCE_OWNER" }
}

structures! {
    impl CreateDnsConfig {
        namespace: Option<String> = optional "NamespaceId" RESOURCE_ID,
        routing: Option<RoutingPolicy> = optional "RoutingPolicy",
        records: Vec<DnsRecord> = required "DnsRecords" DNS_RECORDS,
    }

    impl CustomHealthCheck {
        failure_threshold: Option<u8> = optional "FailureThreshold" FAILURE_THRESHOLD,
    }

    impl DnsRecord {
        rtype: DnsRecordType = required "Type",
        ttl: u32 = required "TTL" RECORD_TTL,
    }

    impl HealthCheck {
        check_type: HealthCheckType = required "Type",
        resource_path: Option<String> = optional "ResourcePath" RESOURCE_PATH,
        failure_threshold: Option<u8> = optional "FailureThreshold" FAILURE_THRESHOLD,
    }
}

structures! {
    struct CreateHttpNamespace<'v> {
        name: &'v str = required "Name" NAMESPACE_NAME_HTTP,
        creator_request_id: Option<&'v str> = optional "CreatorRequestId" RESOURCE_ID,
        description: Option<&'v str> = optional "Description" DESCRIPTION,
        tags: Option<TagList> = optional "Tags" TAGS,
    }

    struct CreatePrivateDnsNamespace<'v> {
        name: &'v str = required "Name" NAMESPACE_NAME_PRIVATE,
        creator_request_id: Option<&'v str> = optional "CreatorRequestId" RESOURCE_ID,
        description: Option<&'v str> = optional "Description" DESCRIPTION,
        vpc: &'v str = required "Vpc" RESOURCE_ID,
        tags: Option<TagList> = optional "Tags" TAGS,
        properties: Option<DnsNamespaceProperties> = optional "Properties",
    }

    struct CreatePublicDnsNamespace<'v> {
        name: &'v str = required "Name" NAMESPACE_NAME_PUBLIC,
        creator_request_id: Option<&'v str> = optional "CreatorRequestId" RESOURCE_ID,
        description: Option<&'v str> = optional "Description" DESCRIPTION,
        tags: Option<TagList> = optional "Tags" TAGS,
        properties: Option<DnsNamespaceProperties> = optional "Properties",
    }

    /// PrivateDnsNamespaceProperties, PublicDnsNamespaceProperties, and their variants for changes.
    struct DnsNamespaceProperties {
        dns_properties: DnsProperties = required "DnsProperties",
    }

    struct DnsProperties {
        soa: Soa = required "SOA",
    }

    struct Soa {
        ttl: u32 = required "TTL" RECORD_TTL,
    }

    struct UpdateHttpNamespace<'v> {
        id: &'v str = required "Id" ARN,
        updater_request_id: Option<&'v str> = optional "UpdaterRequestId" RESOURCE_ID,
        namespace: HttpNamespaceChange<'v> = required "Namespace",
    }

    struct HttpNamespaceChange<'v> {
        description: &'v str = required "Description" DESCRIPTION,
    }

    struct UpdatePrivateDnsNamespace<'v> {
        id: &'v str = required "Id" ARN,
        updater_request_id: Option<&'v str> = optional "UpdaterRequestId" RESOURCE_ID,
        namespace: DnsNamespaceChange<'v> = required "Namespace",
    }

    struct UpdatePublicDnsNamespace<'v> {
        id: &'v str = required "Id" ARN,
        updater_request_id: Option<&'v str> = optional "UpdaterRequestId" RESOURCE_ID,
        namespace: DnsNamespaceChange<'v> = required "Namespace",
    }

    struct DnsNamespaceChange<'v> {
        description: Option<&'v str> = optional "Description" DESCRIPTION,
        properties: Option<DnsNamespaceProperties> = optional "Properties",
    }

    struct DeleteNamespace<'v> {
        id: &'v str = required "Id" ARN,
    }

    struct GetNamespace<'v> {
        id: &'v str = required "Id" ARN,
    }

    struct ListNamespaces<'v> {
        next_token: Option<&'v str> = optional "NextToken" NEXT_TOKEN,
        max_results: Option<usize> = optional "MaxResults" MAX_RESULTS,
        filters: Option<Vec<NamespaceFilter>> = optional "Filters" FILTERS,
    }

    struct NamespaceFilter {
        name: NamespaceFilterName = required "Name",
        values: Vec<String> = required "Values" FILTER_VALUES,
        condition: Option<FilterCondition> = optional "Condition",
    }
}

structures! {
    struct CreateService<'v> {
        name: &'v str = required "Name" SERVICE_NAME,
        namespace_id: Option<&'v str> = optional "NamespaceId" ARN,
        creator_request_id: Option<&'v str> = optional "CreatorRequestId" RESOURCE_ID,
        description: Option<&'v str> = optional "Description" DESCRIPTION,
        dns_config: Option<CreateDnsConfig> = optional "DnsConfig",
        health_check_config: Option<HealthCheck> = optional "HealthCheckConfig",
        health_check_custom_config: Option<CustomHealthCheck> = optional "HealthCheckCustomConfig",
        tags: Option<TagList> = optional "Tags" TAGS,
        service_type: Option<ServiceTypeOption> = optional "Type",
    }

    struct UpdateService<'v> {
        id: &'v str = required "Id" ARN,
        service: ServiceChange<'v> = required "Service",
    }

    struct ServiceChange<'v> {
        description: Option<&'v str> = optional "Description" DESCRIPTION,
        dns_config: Option<DnsConfigChange> = optional "DnsConfig",
        health_check_config: Option<HealthCheck> = optional "HealthCheckConfig",
    }

    struct DnsConfigChange {
        records: Vec<DnsRecord> = required "DnsRecords" DNS_RECORDS,
    }

    struct DeleteService<'v> {
        id: &'v str = required "Id" ARN,
    }

    struct GetService<'v> {
        id: &'v str = required "Id" ARN,
    }

    struct ListServices<'v> {
        next_token: Option<&'v str> = optional "NextToken" NEXT_TOKEN,
        max_results: Option<usize> = optional "MaxResults" MAX_RESULTS,
        filters: Option<Vec<ServiceFilter>> = optional "Filters" FILTERS,
    }

    struct ServiceFilter {
        name: ServiceFilterName = required "Name",
        values: Vec<String> = required "Values" FILTER_VALUES,
        condition: Option<FilterCondition> = optional "Condition",
    }

    struct UpdateServiceAttributes<'v> {
        service_id: &'v str = required "ServiceId" ARN,
        attributes: BTreeMap<String, String> = required "Attributes" SERVICE_ATTRIBUTES,
    }

    struct DeleteServiceAttributes<'v> {
        service_id: &'v str = required "ServiceId" ARN,
        attributes: Vec<String> = required "Attributes" SERVICE_ATTRIBUTE_KEYS,
    }

    struct GetServiceAttributes<'v> {
        service_id: &'v str = required "ServiceId" ARN,
    }
}

structures! {
    struct RegisterInstance<'v> {
        service_id: &'v str = required "ServiceId" ARN,
        instance_id: &'v str = required "InstanceId" INSTANCE_ID,
        creator_request_id: Option<&'v str> = optional "CreatorRequestId" RESOURCE_ID,
        attributes: BTreeMap<String, String> = required "Attributes" ATTRIBUTES,
    }

    struct DeregisterInstance<'v> {
        service_id: &'v str = required "ServiceId" ARN,
        instance_id: &'v str = required "InstanceId" RESOURCE_ID,
    }

    struct GetInstance<'v> {
        service_id: &'v str = required "ServiceId" ARN,
        instance_id: &'v str = required "InstanceId" RESOURCE_ID,
    }

    struct ListInstances<'v> {
        service_id: &'v str = required "ServiceId" ARN,
        next_token: Option<&'v str> = optional "NextToken" NEXT_TOKEN,
        max_results: Option<usize> = optional "MaxResults" MAX_RESULTS,
    }

    struct UpdateInstanceCustomHealthStatus<'v> {
        service_id: &'v str = required "ServiceId" ARN,
        instance_id: &'v str = required "InstanceId" RESOURCE_ID,
        status: CustomHealthStatus = required "Status",
    }

    struct GetInstancesHealthStatus<'v> {
        service_id: &'v str = required "ServiceId" ARN,
        instances: Option<Vec<&'v str>> = optional "Instances" INSTANCE_IDS,
        max_results: Option<usize> = optional "MaxResults" MAX_RESULTS,
        next_token: Option<&'v str> = optional "NextToken" NEXT_TOKEN,
    }

    struct DiscoverInstances<'v> {
        namespace_name: &'v str = required "NamespaceName" NAMESPACE_NAME,
        service_name: &'v str = required "ServiceName" SERVICE_NAME,
        max_results: Option<usize> = optional "MaxResults" DISCOVER_MAX_RESULTS,
        query_parameters: Option<Vec<(&'v str, &'v str)>> = optional "QueryParameters" ATTRIBUTES,
        optional_parameters: Option<Vec<(&'v str, &'v str)>> = optional "OptionalParameters" ATTRIBUTES,
        health_status: Option<HealthFilter> = optional "HealthStatus",
        #[expect(dead_code, reason = "this server has one account, which owns every namespace")]
        owner_account: Option<&'v str> = optional "OwnerAccount" ACCOUNT_ID,
    }

    struct DiscoverInstancesRevision<'v> {
        namespace_name: &'v str = required "NamespaceName" NAMESPACE_NAME,
        service_name: &'v str = required "ServiceName" SERVICE_NAME,
        #[expect(dead_code, reason = "this server has one account, which owns every namespace")]
        owner_account: Option<&'v str> = optional "OwnerAccount" ACCOUNT_ID,
    }
}

structures! {
    struct GetOperation<'v> {
        operation_id: &'v str = required "OperationId" OPERATION_ID,
        #[expect(dead_code, reason = "this server has one account, which owns every operation")]
        owner_account: Option<&'v str> = optional "OwnerAccount" ACCOUNT_ID,
    }

    struct ListOperations<'v> {
        next_token: Option<&'v str> = optional "NextToken" NEXT_TOKEN,
        max_results: Option<usize> = optional "MaxResults" MAX_RESULTS,
        filters: Option<Vec<OperationFilter>> = optional "Filters" FILTERS,
    }

    struct OperationFilter {
        name: OperationFilterName = required "Name",
        values: Vec<String> = required "Values" FILTER_VALUES,
        condition: Option<FilterCondition> = optional "Condition",
    }

    struct Tag<'v> {
        key: &'v str = required "Key" TAG_KEY,
        value: &'v str = required "Value" TAG_VALUE,
    }

    struct TagResource<'v> {
        resource_arn: &'v str = required "ResourceARN" AMAZON_RESOURCE_NAME,
        tags: TagList = required "Tags" TAGS,
    }

    struct UntagResource<'v> {
        resource_arn: &'v str = required "ResourceARN" AMAZON_RESOURCE_NAME,
        tag_keys: Vec<String> = required "TagKeys" TAG_KEYS,
    }

    struct ListTagsForResource<'v> {
        resource_arn: &'v str = required "ResourceARN" AMAZON_RESOURCE_NAME,
    }
}

/// A list of [`Tag`]s as the registry stores them; the last of several tags with one key wins.
#[derive(Debug, Default)]
pub(super) struct TagList(pub(super) Tags);

impl<'v> FromValue<'v> for TagList {
    type Shape = List<()>;

    fn from_value(
        value: &'v Value<'v>,
        shape: &List<()>,
        path: Path<'_>,
        check: &mut Check,
    ) -> Result<TagList, Refused> {
        check.list::<Tag<'v>, TagList>(value, shape, path)
    }
}

impl<'v> FromIterator<Tag<'v>> for TagList {
    fn from_iter<I: IntoIterator<Item = Tag<'v>>>(tags: I) -> TagList {
        TagList(tags.into_iter().map(|tag| (tag.key.to_owned(), tag.value.to_owned())).collect())
    }
}

macro_rules! operations {
    (writes { $($write:ident),+ $(,)? } queries { $($query:ident),+ $(,)? }) => {
        /// The input of an operation. A write becomes a command of the registry; a query is answered from the
        /// registry's state.
        #[derive(Debug)]
        pub(super) enum Input<'v> {
            Write(WriteInput<'v>),
            Query(QueryInput<'v>),
        }

        #[derive(Debug)]
        pub(super) enum WriteInput<'v> {
            $($write($write<'v>)),+
        }

        #[derive(Debug)]
        pub(super) enum QueryInput<'v> {
            $($query($query<'v>)),+
        }

        impl<'v> Input<'v> {
            pub(super) fn read(
                action: Action,
                body: &'v Map<'v>,
                validation: Validation,
            ) -> Result<Input<'v>, ApiError> {
                Ok(match action {
                    $(Action::$write => Input::Write(WriteInput::$write(read(body, validation)?)),)+
                    $(Action::$query => Input::Query(QueryInput::$query(read(body, validation)?)),)+
                })
            }

            #[cfg(test)]
            fn declared(action: Action) -> tests::Shape {
                match action {
                    $(Action::$write => <$write<'v> as tests::Declared>::declared(&()),)+
                    $(Action::$query => <$query<'v> as tests::Declared>::declared(&()),)+
                }
            }
        }
    };
}

operations! {
    writes {
        CreateHttpNamespace,
        CreatePrivateDnsNamespace,
        CreatePublicDnsNamespace,
        CreateService,
        DeleteNamespace,
        DeleteService,
        DeleteServiceAttributes,
        DeregisterInstance,
        RegisterInstance,
        TagResource,
        UntagResource,
        UpdateHttpNamespace,
        UpdateInstanceCustomHealthStatus,
        UpdatePrivateDnsNamespace,
        UpdatePublicDnsNamespace,
        UpdateService,
        UpdateServiceAttributes,
    }
    queries {
        DiscoverInstances,
        DiscoverInstancesRevision,
        GetInstance,
        GetInstancesHealthStatus,
        GetNamespace,
        GetOperation,
        GetService,
        GetServiceAttributes,
        ListInstances,
        ListNamespaces,
        ListOperations,
        ListServices,
        ListTagsForResource,
    }
}

//! The operations as clients see them: each scenario runs in JSON and in CBOR, on a registry with a store in memory.

use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::http::Request;
use serde_json::{Value as JsonValue, json};

use crate::registry::{Event, Publish, Registry, Settings, State};
use crate::store::MemoryStore;

use super::action::Action;
use super::cbor::Cbor;
use super::codec::{Codec, Protocol};
use super::json::Json;
use super::metrics::{ApiMetrics, Outcomes};
use super::request::Api;
use super::server::Options;
use super::value::{Map, Value};

struct NoPublisher;

impl Publish for NoPublisher {
    fn publish(&mut self, _state: &State, _events: &[Event]) {}
}

pub(super) fn registry() -> Registry {
    let started = Registry::start(Settings::default(), Box::new(MemoryStore), Box::new(NoPublisher));
    started.unwrap().0
}

struct Client {
    api: Api,
    protocol: Protocol,
}

struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    bytes: Vec<u8>,
    body: JsonValue,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(candidate, _)| candidate == name).map(|(_, value)| &**value)
    }
}

fn clients() -> [Client; 2] {
    [Protocol::Json, Protocol::Cbor].map(|protocol| Client {
        api: Api::new(registry(), Options::default(), Arc::new(ApiMetrics::default())),
        protocol,
    })
}

impl Client {
    async fn call(&self, operation: &str, input: JsonValue) -> Answer {
        let request = match self.protocol {
            Protocol::Json => Request::post("/")
                .header("x-amz-target", format!("Route53AutoNaming_v20170314.{operation}"))
                .body(Body::from(input.to_string())),
            Protocol::Cbor => {
                let mut bytes = Vec::new();
                encode(&input, &mut bytes);
                Request::post(format!("/service/Route53AutoNaming_v20170314/operation/{operation}"))
                    .header("smithy-protocol", "rpc-v2-cbor")
                    .body(Body::from(bytes))
            }
        };
        self.send(request.unwrap()).await
    }

    async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.api.handle(request).await;
        let (parts, body) = response.into_parts();
        let bytes = to_bytes(body, usize::MAX).await.unwrap().to_vec();
        let map = match self.protocol {
            Protocol::Json => Json::decode(&bytes),
            Protocol::Cbor => Cbor::decode(&bytes),
        };
        let body = json_map(&map.unwrap());
        let text = |(name, value): (&axum::http::HeaderName, &axum::http::HeaderValue)| {
            (name.to_string(), value.to_str().unwrap().to_string())
        };
        let headers = parts.headers.iter().map(text).collect();
        Answer { status: parts.status.as_u16(), headers, bytes, body }
    }

    async fn ok(&self, operation: &str, input: JsonValue) -> JsonValue {
        let answer = self.call(operation, input).await;
        assert_eq!(answer.status, 200, "{operation}: {}", answer.body);
        answer.body
    }

    /// Calls an operation that succeeds asynchronously, and returns its target.
    async fn target(&self, operation: &str, input: JsonValue, target: &str) -> String {
        let id = self.ok(operation, input).await["OperationId"].clone();
        let operation = self.ok("GetOperation", json!({"OperationId": id})).await["Operation"].clone();
        assert_eq!(operation["Status"], "SUCCESS", "{operation}");
        operation["Targets"][target].as_str().unwrap().to_string()
    }

    /// Calls an operation that fails with this code, and returns the body of the answer. `cbor_status` is the status of
    /// the answer in CBOR; in JSON it is 400.
    async fn refused(&self, operation: &str, input: JsonValue, code: &str, cbor_status: u16) -> JsonValue {
        let answer = self.call(operation, input).await;
        let name = answer.body["__type"].as_str().unwrap_or_default();
        match self.protocol {
            Protocol::Json => {
                assert_eq!((answer.status, name), (400, code), "{}", answer.body);
                assert_eq!(answer.header("x-amzn-errortype"), Some(code));
            }
            Protocol::Cbor => {
                assert_eq!(name, format!("com.amazonaws.servicediscovery#{code}"), "{}", answer.body);
                assert_eq!(answer.status, cbor_status, "{code}");
            }
        }
        answer.body
    }

    async fn backend(&self) -> (String, String) {
        let namespace = json!({"Name": "production.local", "Vpc": "vpc-1"});
        let namespace = self.target("CreatePrivateDnsNamespace", namespace, "NAMESPACE").await;
        let service = json!({
            "Name": "backend",
            "DnsConfig": {"NamespaceId": namespace, "DnsRecords": [{"Type": "A", "TTL": 60}, {"Type": "SRV", "TTL": 30}]},
            "HealthCheckCustomConfig": {},
        });
        let service = self.ok("CreateService", service).await["Service"]["Id"].as_str().unwrap().to_string();
        (namespace, service)
    }

    async fn register(&self, service: &str, instance: &str, stage: &str) {
        let attributes = json!({"AWS_INSTANCE_IPV4": "10.0.0.1", "AWS_INSTANCE_PORT": "80", "stage": stage});
        let input = json!({"ServiceId": service, "InstanceId": instance, "Attributes": attributes});
        assert_eq!(self.target("RegisterInstance", input, "INSTANCE").await, instance);
    }
}

fn encode(value: &JsonValue, out: &mut Vec<u8>) {
    match value {
        JsonValue::Null => out.push(0xf6),
        JsonValue::Bool(boolean) => out.push(0xf4 + u8::from(*boolean)),
        JsonValue::Number(number) => Cbor::integer(out, number.as_u64().unwrap()),
        JsonValue::String(text) => Cbor::text(out, text),
        JsonValue::Array(list) => {
            Cbor::list_start(out, list.len());
            list.iter().for_each(|value| encode(value, out));
        }
        JsonValue::Object(map) => {
            Cbor::map_start(out, map.len());
            for (key, value) in map {
                Cbor::key(out, key);
                encode(value, out);
            }
        }
    }
}

fn to_json(value: &Value<'_>) -> JsonValue {
    match value {
        Value::Null | Value::Opaque => JsonValue::Null,
        Value::Boolean(boolean) => json!(boolean),
        Value::Integer(number) => json!(number),
        Value::Float(number) => json!(number),
        Value::Text(text) => json!(text),
        Value::List(list) => list.iter().map(to_json).collect(),
        Value::Map(map) => json_map(map),
    }
}

fn json_map(map: &Map<'_>) -> JsonValue {
    JsonValue::Object(map.entries().iter().map(|(key, value)| (key.to_string(), to_json(value))).collect())
}

/// Removes a member whose value the test cannot predict, and returns it. The member has to be present.
fn take(body: &mut JsonValue, member: &str) -> JsonValue {
    body.as_object_mut().unwrap().remove(member).unwrap_or_else(|| panic!("no {member} in {body}"))
}

#[tokio::test]
async fn namespaces_are_described_as_on_aws() {
    for client in clients() {
        let http = json!({"Name": "web", "CreatorRequestId": "token-1", "Description": ""});
        let http = client.target("CreateHttpNamespace", http, "NAMESPACE").await;
        let mut answer = client.ok("GetNamespace", json!({"Id": http})).await["Namespace"].take();
        assert!(take(&mut answer, "CreateDate").as_f64().unwrap() > 1.7e9);
        let arn = format!("arn:aws:servicediscovery:us-east-1:000000000000:namespace/{http}");
        assert_eq!(
            answer,
            json!({
                "Id": http, "Arn": arn, "ResourceOwner": "000000000000", "Name": "web", "Type": "HTTP",
                "Description": "", "ServiceCount": 0, "CreatorRequestId": "token-1",
                "Properties": {"DnsProperties": {"SOA": {}}, "HttpProperties": {"HttpName": "web"}},
            })
        );

        let private = json!({"Name": "a.local", "Vpc": "vpc-1"});
        let private = client.target("CreatePrivateDnsNamespace", private, "NAMESPACE").await;
        let zone = client.api.registry.identity().hosted_zone_id(&private.as_str().into());
        let properties = &client.ok("GetNamespace", json!({"Id": private})).await["Namespace"]["Properties"];
        let dns = json!({"HostedZoneId": zone});
        assert_eq!(*properties, json!({"DnsProperties": dns, "HttpProperties": {"HttpName": "a.local"}}));

        let change = json!({"Description": "new", "Properties": {"DnsProperties": {"SOA": {"TTL": 7}}}});
        let update = json!({"Id": private, "Namespace": change});
        client.target("UpdatePrivateDnsNamespace", update, "NAMESPACE").await;
        let namespace = &client.ok("GetNamespace", json!({"Id": private})).await["Namespace"];
        assert_eq!(namespace["Description"], "new");
        assert_eq!(
            namespace["Properties"]["DnsProperties"],
            json!({"HostedZoneId": zone, "SOA": {"TTL": 7}})
        );

        let public = json!({"Name": "example.com", "Properties": {"DnsProperties": {"SOA": {"TTL": 0}}}});
        let public = client.target("CreatePublicDnsNamespace", public, "NAMESPACE").await;
        let update = json!({"Id": public, "Namespace": {"Description": "x"}});
        client.target("UpdatePublicDnsNamespace", update, "NAMESPACE").await;
        client
            .target("UpdateHttpNamespace", json!({"Id": arn, "Namespace": {"Description": "x"}}), "NAMESPACE")
            .await;
        client
            .refused("UpdateHttpNamespace", json!({"Id": http, "Namespace": {}}), "InvalidInput", 400)
            .await;

        let mut page = client.ok("ListNamespaces", json!({"MaxResults": 2})).await;
        assert_eq!(page["Namespaces"].as_array().unwrap().len(), 2);
        assert_eq!(page["Namespaces"][0].get("CreatorRequestId"), None);
        let token = take(&mut page, "NextToken");
        let page = client.ok("ListNamespaces", json!({"NextToken": token})).await;
        assert_eq!(page["Namespaces"][0]["Id"], public.as_str());
        assert_eq!(page.get("NextToken"), None);
        client.refused("ListServices", json!({"NextToken": token}), "InvalidInput", 400).await;
        client.refused("ListNamespaces", json!({"NextToken": "?"}), "InvalidInput", 400).await;
        let filters = json!([{"Name": "TYPE", "Values": ["DNS_P"], "Condition": "BEGINS_WITH"}]);
        let page = client.ok("ListNamespaces", json!({"Filters": filters})).await;
        assert_eq!(page["Namespaces"].as_array().unwrap().len(), 2);
        let values: Vec<String> = (0..101).map(|value| value.to_string()).collect();
        let filters = json!([{"Name": "NAME", "Values": values, "Condition": "IN"}]);
        client.refused("ListNamespaces", json!({"Filters": filters}), "InvalidInput", 400).await;

        let error = client
            .refused("CreateHttpNamespace", json!({"Name": "web"}), "NamespaceAlreadyExists", 400)
            .await;
        assert_eq!((&error["NamespaceId"], &error["CreatorRequestId"]), (&json!(http), &json!("token-1")));
        client.target("DeleteNamespace", json!({"Id": http}), "NAMESPACE").await;
        client.refused("GetNamespace", json!({"Id": http}), "NamespaceNotFound", 404).await;
    }
}

#[tokio::test]
async fn services_are_described_as_on_aws() {
    for client in clients() {
        let (namespace, service) = client.backend().await;
        let mut answer = client.ok("GetService", json!({"Id": service})).await["Service"].take();
        take(&mut answer, "CreateDate");
        let records = json!([{"Type": "A", "TTL": 60}, {"Type": "SRV", "TTL": 30}]);
        let dns = json!({"NamespaceId": namespace, "RoutingPolicy": "MULTIVALUE", "DnsRecords": records});
        let arn = format!("arn:aws:servicediscovery:us-east-1:000000000000:service/{service}");
        assert_eq!(
            answer,
            json!({
                "Id": service, "Arn": arn, "ResourceOwner": "000000000000", "Name": "backend",
                "NamespaceId": namespace, "InstanceCount": 0, "DnsConfig": dns, "Type": "DNS_HTTP",
                "HealthCheckCustomConfig": {"FailureThreshold": 1}, "CreatedByAccount": "000000000000",
            })
        );
        let filters = json!([{"Name": "NAMESPACE_ID", "Values": [namespace], "Condition": "EQ"}]);
        let mut page = client.ok("ListServices", json!({"Filters": filters})).await;
        let summary = page["Services"][0].as_object_mut().unwrap();
        assert_eq!(summary.remove("DnsConfig"), Some(dns));
        assert!(summary.remove("CreateDate").is_some());
        let absent = ["NamespaceId", "CreatorRequestId", "HealthCheckConfig", "Description"];
        assert!(absent.iter().all(|member| !summary.contains_key(*member)), "{summary:?}");

        let api_only = json!({
            "Name": "api", "NamespaceId": namespace, "Type": "HTTP", "HealthCheckCustomConfig": {"FailureThreshold": 3},
            "CreatorRequestId": "token-2", "Tags": [{"Key": "k", "Value": ""}],
        });
        let answer = client.ok("CreateService", api_only.clone()).await["Service"].take();
        assert_eq!((&answer["Type"], &answer["DnsConfig"]), (&json!("HTTP"), &json!({})));
        assert_eq!(answer["HealthCheckCustomConfig"], json!({"FailureThreshold": 3}));
        // A repeated request returns the existing service; another request with its name is refused.
        assert_eq!(client.ok("CreateService", api_only).await["Service"]["Id"], answer["Id"]);
        let other = json!({"Name": "api", "NamespaceId": namespace, "CreatorRequestId": "token-3"});
        let error = client.refused("CreateService", other, "ServiceAlreadyExists", 400).await;
        assert_eq!((&error["ServiceId"], &error["ServiceArn"]), (&answer["Id"], &answer["Arn"]));
        assert_eq!(error["CreatorRequestId"], "token-2");

        let checked = json!({
            "Name": "checked", "NamespaceId": namespace, "Type": "HTTP",
            "HealthCheckConfig": {"Type": "HTTP", "ResourcePath": "/health", "FailureThreshold": 2},
        });
        let answer = client.ok("CreateService", checked).await["Service"]["HealthCheckConfig"].take();
        assert_eq!(answer, json!({"Type": "HTTP", "ResourcePath": "/health", "FailureThreshold": 2}));

        let records = json!([{"Type": "A", "TTL": 5}, {"Type": "SRV", "TTL": 30}]);
        let change = json!({"Description": "new", "DnsConfig": {"DnsRecords": records}});
        let update = json!({"Id": arn, "Service": change});
        assert_eq!(client.target("UpdateService", update, "SERVICE").await, service);
        let answer = client.ok("GetService", json!({"Id": service})).await["Service"].take();
        assert_eq!((&answer["Description"], &answer["DnsConfig"]["DnsRecords"]), (&json!("new"), &records));

        client.refused("DeleteNamespace", json!({"Id": namespace}), "ResourceInUse", 409).await;
        assert_eq!(client.ok("DeleteService", json!({"Id": service})).await, json!({}));
        client.refused("GetService", json!({"Id": service}), "ServiceNotFound", 404).await;
    }
}

#[tokio::test]
async fn instances_are_registered_listed_and_deregistered() {
    for client in clients() {
        let (_, service) = client.backend().await;
        for instance in ["web-1", "web-2", "web-3"] {
            client.register(&service, instance, "blue").await;
        }
        let attributes = json!({"AWS_INSTANCE_IPV4": "10.0.0.9", "AWS_INSTANCE_PORT": "1", "x": ""});
        let again = json!({"ServiceId": service, "InstanceId": "web-3", "Attributes": attributes, "CreatorRequestId": "t"});
        client.target("RegisterInstance", again, "INSTANCE").await;
        let id = json!({"ServiceId": service, "InstanceId": "web-3"});
        assert_eq!(
            client.ok("GetInstance", id).await,
            json!({
                "ResourceOwner": "000000000000",
                "Instance": {
                    "Id": "web-3", "Attributes": attributes, "CreatorRequestId": "t", "CreatedByAccount": "000000000000",
                },
            })
        );

        let mut page = client.ok("ListInstances", json!({"ServiceId": service, "MaxResults": 2})).await;
        let token = take(&mut page, "NextToken");
        assert_eq!(
            (&page["ResourceOwner"], &page["Instances"][1]["Id"]),
            (&json!("000000000000"), &json!("web-2"))
        );
        let page = client.ok("ListInstances", json!({"ServiceId": service, "NextToken": token})).await;
        let instance = json!({"Id": "web-3", "Attributes": attributes, "CreatedByAccount": "000000000000"});
        assert_eq!(page, json!({"ResourceOwner": "000000000000", "Instances": [instance]}));
        let foreign = json!({"ServiceId": service, "NextToken": token});
        client.refused("GetInstancesHealthStatus", foreign, "InvalidInput", 400).await;

        let operation = client.ok("ListOperations", json!({"MaxResults": 1})).await;
        assert_eq!(operation["Operations"][0]["Status"], "SUCCESS");
        assert_eq!(operation["Operations"][0].as_object().unwrap().len(), 2);
        assert!(operation["NextToken"].is_string());
        client.refused("GetOperation", json!({"OperationId": "x"}), "OperationNotFound", 404).await;

        let id = json!({"ServiceId": service, "InstanceId": "web-3"});
        client.refused("DeleteService", json!({"Id": service}), "ResourceInUse", 409).await;
        assert_eq!(client.target("DeregisterInstance", id.clone(), "INSTANCE").await, "web-3");
        client.refused("DeregisterInstance", id.clone(), "InstanceNotFound", 404).await;
        client.refused("GetInstance", id, "InstanceNotFound", 404).await;
        let bad = json!({"ServiceId": service, "InstanceId": "a b", "Attributes": {"a b": " "}});
        let error = client.refused("RegisterInstance", bad, "InvalidInput", 400).await;
        assert!(
            error["Message"]
                .as_str()
                .unwrap()
                .starts_with("3 validation errors detected: Value 'a b' at 'instanceId'")
        );
    }
}

#[tokio::test]
async fn discovery_follows_health_and_attributes() {
    for client in clients() {
        let (_, service) = client.backend().await;
        client.register(&service, "web-1", "blue").await;
        client.register(&service, "web-2", "green").await;
        let status = |status: &str| json!({"ServiceId": service, "InstanceId": "web-1", "Status": status});
        let answer = client.call("UpdateInstanceCustomHealthStatus", status("UNHEALTHY")).await;
        assert_eq!(answer.status, 200);
        // The operation has no output, so CBOR has no body; clients of JSON expect an empty object.
        let (bytes, content_type): (&[u8], _) = match client.protocol {
            Protocol::Json => (b"{}", Some("application/x-amz-json-1.1")),
            Protocol::Cbor => (b"", None),
        };
        assert_eq!((&*answer.bytes, answer.header("content-type")), (bytes, content_type));

        let discover = async |extra: JsonValue| {
            let mut input = json!({"NamespaceName": "production.local", "ServiceName": "backend"});
            input.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
            let body = client.ok("DiscoverInstances", input).await;
            let ids = body["Instances"]
                .as_array()
                .unwrap()
                .iter()
                .map(|instance| instance["InstanceId"].to_string());
            let mut ids: Vec<String> = ids.collect();
            ids.sort();
            (ids.join(" "), body)
        };
        let (ids, body) = discover(json!({})).await;
        assert_eq!(ids, "\"web-2\"");
        let attributes =
            json!({"AWS_INSTANCE_IPV4": "10.0.0.1", "AWS_INSTANCE_PORT": "80", "stage": "green"});
        let instance = json!({
            "InstanceId": "web-2", "NamespaceName": "production.local", "ServiceName": "backend",
            "HealthStatus": "HEALTHY", "Attributes": attributes,
        });
        assert_eq!(body["Instances"], json!([instance]));
        let revision = body["InstancesRevision"].as_u64().unwrap();
        for (extra, expected) in [
            (json!({"HealthStatus": "ALL"}), "\"web-1\" \"web-2\""),
            (json!({"HealthStatus": "UNHEALTHY"}), "\"web-1\""),
            (
                json!({"HealthStatus": "HEALTHY_OR_ELSE_ALL", "QueryParameters": {"stage": "blue"}}),
                "\"web-1\"",
            ),
            (json!({"HealthStatus": "ALL", "OptionalParameters": {"stage": "blue"}}), "\"web-1\""),
            (json!({"HealthStatus": "ALL", "OptionalParameters": {"stage": "red"}}), "\"web-1\" \"web-2\""),
            (json!({"QueryParameters": {"stage": "red"}, "OwnerAccount": "123456789012"}), ""),
        ] {
            assert_eq!(discover(extra).await.0, expected);
        }
        let one = discover(json!({"HealthStatus": "ALL", "MaxResults": 1})).await.1;
        assert_eq!(one["Instances"].as_array().unwrap().len(), 1);

        let names = json!({"NamespaceName": "production.local", "ServiceName": "backend"});
        let expected = json!({"InstancesRevision": revision});
        assert_eq!(client.ok("DiscoverInstancesRevision", names).await, expected);
        let names = json!({"NamespaceName": "production.local", "ServiceName": "nope"});
        client.refused("DiscoverInstances", names.clone(), "ServiceNotFound", 404).await;
        client.refused("DiscoverInstancesRevision", names, "ServiceNotFound", 404).await;
        let names = json!({"NamespaceName": "nope", "ServiceName": "backend"});
        client.refused("DiscoverInstances", names, "NamespaceNotFound", 404).await;
    }
}

#[tokio::test]
async fn health_is_listed_in_pages_and_for_chosen_instances() {
    for client in clients() {
        let (namespace, service) = client.backend().await;
        for instance in ["a", "b", "c"] {
            client.register(&service, instance, "blue").await;
        }
        let unhealthy = json!({"ServiceId": service, "InstanceId": "b", "Status": "UNHEALTHY"});
        client.ok("UpdateInstanceCustomHealthStatus", unhealthy).await;
        let ask = async |extra: JsonValue| {
            let mut input = json!({"ServiceId": service});
            input.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
            client.ok("GetInstancesHealthStatus", input).await
        };
        let all = json!({"Status": {"a": "HEALTHY", "b": "UNHEALTHY", "c": "HEALTHY"}});
        assert_eq!(ask(json!({})).await, all);
        for chosen in [json!({}), json!({"Instances": ["c", "b", "a", "b"]})] {
            let mut chosen = chosen;
            chosen["MaxResults"] = json!(2);
            let mut page = ask(chosen.clone()).await;
            chosen["NextToken"] = take(&mut page, "NextToken");
            assert_eq!(page, json!({"Status": {"a": "HEALTHY", "b": "UNHEALTHY"}}));
            assert_eq!(ask(chosen).await, json!({"Status": {"c": "HEALTHY"}}));
        }
        let unknown = json!({"ServiceId": service, "Instances": ["a", "nope"]});
        client.refused("GetInstancesHealthStatus", unknown, "InstanceNotFound", 404).await;

        let plain = json!({"Name": "plain", "NamespaceId": namespace, "Type": "HTTP"});
        let plain = client.ok("CreateService", plain).await["Service"]["Id"].take();
        let input = json!({"ServiceId": plain, "InstanceId": "x", "Attributes": {}});
        client.target("RegisterInstance", input, "INSTANCE").await;
        let status = client.ok("GetInstancesHealthStatus", json!({"ServiceId": plain})).await;
        assert_eq!(status, json!({"Status": {"x": "UNKNOWN"}}));
        let report = json!({"ServiceId": plain, "InstanceId": "x", "Status": "HEALTHY"});
        client.refused("UpdateInstanceCustomHealthStatus", report, "CustomHealthNotFound", 404).await;
    }
}

#[tokio::test]
async fn tags_and_service_attributes_are_stored() {
    for client in clients() {
        let (namespace, service) = client.backend().await;
        for (id, kind) in [(&namespace, "namespace"), (&service, "service")] {
            let arn = format!("arn:aws:servicediscovery:us-east-1:000000000000:{kind}/{id}");
            let tags = json!([{"Key": "b", "Value": ""}, {"Key": "a", "Value": "ü"}]);
            assert_eq!(client.ok("TagResource", json!({"ResourceARN": arn, "Tags": tags})).await, json!({}));
            assert_eq!(
                client.ok("UntagResource", json!({"ResourceARN": arn, "TagKeys": ["b"]})).await,
                json!({})
            );
            let tags = client.ok("ListTagsForResource", json!({"ResourceARN": arn})).await;
            assert_eq!(tags, json!({"Tags": [{"Key": "a", "Value": "ü"}]}));
            let many: Vec<_> = (0..51).map(|key| json!({"Key": key.to_string(), "Value": ""})).collect();
            let many = json!({"ResourceARN": arn, "Tags": many});
            assert_eq!(
                client.refused("TagResource", many, "TooManyTagsException", 400).await["ResourceName"],
                arn
            );
        }
        let nowhere = json!({"ResourceARN": "arn:x"});
        client.refused("ListTagsForResource", nowhere, "ResourceNotFoundException", 404).await;

        let update = json!({"ServiceId": service, "Attributes": {"fail-open": "true", "b": "c"}});
        assert_eq!(client.ok("UpdateServiceAttributes", update).await, json!({}));
        let delete = json!({"ServiceId": service, "Attributes": ["b"]});
        assert_eq!(client.ok("DeleteServiceAttributes", delete).await, json!({}));
        let arn = format!("arn:aws:servicediscovery:us-east-1:000000000000:service/{service}");
        assert_eq!(
            client.ok("GetServiceAttributes", json!({"ServiceId": service})).await,
            json!({"ServiceAttributes": {
                "ServiceArn": arn, "ResourceOwner": "000000000000", "Attributes": {"fail-open": "true"},
            }})
        );
    }
}

#[tokio::test]
async fn every_answer_has_a_request_id_and_the_headers_of_its_protocol() {
    for client in clients() {
        for (operation, status) in [("ListNamespaces", 200), ("GetNamespace", 400), ("Nope", 400)] {
            let answer = client.call(operation, json!({})).await;
            assert_eq!(answer.status, status);
            let id = answer.header("x-amzn-requestid").unwrap();
            let lengths: Vec<_> = id.split('-').map(str::len).collect();
            assert_eq!(lengths, [8, 4, 4, 4, 12]);
            assert!(id[14..].starts_with('4') && "89ab".contains(&id[19..20]), "{id}");
            match client.protocol {
                Protocol::Json => {
                    assert_eq!(answer.header("content-type"), Some("application/x-amz-json-1.1"));
                    assert_eq!(answer.header("smithy-protocol"), None);
                }
                Protocol::Cbor => {
                    assert_eq!(answer.header("content-type"), Some("application/cbor"));
                    assert_eq!(answer.header("smithy-protocol"), Some("rpc-v2-cbor"));
                    assert_eq!(answer.header("x-amzn-errortype"), None);
                }
            }
        }
        let metrics = &client.api.metrics;
        let counted: Vec<_> =
            metrics.operations().filter(|(_, counted)| *counted != Outcomes::default()).collect();
        let expected = [
            (Action::GetNamespace, Outcomes { client_errors: 1, ..Outcomes::default() }),
            (Action::ListNamespaces, Outcomes { ok: 1, ..Outcomes::default() }),
        ];
        assert_eq!(counted, expected);
        assert_eq!(metrics.unrouted().client_errors, 1);
    }
}

#[tokio::test]
async fn malformed_requests_get_a_serialization_error() {
    for client in clients() {
        let uri = match client.protocol {
            Protocol::Json => "/",
            Protocol::Cbor => "/service/Route53AutoNaming_v20170314/operation/ListNamespaces",
        };
        let post = |body: &'static [u8]| {
            let target = "Route53AutoNaming_v20170314.ListNamespaces";
            Request::post(uri).header("x-amz-target", target).body(Body::from(body)).unwrap()
        };
        for body in [&b"{"[..], b"[]", b"\xff", b"\xbf\x61", b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff"] {
            let answer = client.send(post(body)).await;
            assert_eq!(answer.status, 400);
            assert!(
                answer.body["__type"].as_str().unwrap().ends_with("SerializationException"),
                "{}",
                answer.body
            );
        }
        assert_eq!(client.send(post(b"")).await.status, 200);
        let answer = client.send(Request::get(uri).body(Body::empty()).unwrap()).await;
        assert_eq!((answer.status, answer.header("allow")), (405, Some("POST")));
        assert!(answer.body["Message"].as_str().unwrap().contains("AWS Cloud Map API"));
    }
}

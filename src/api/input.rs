//! Validation of a decoded body against the shape of its operation, and typed access to the valid input.
//!
//! The validation reports all violations at once, in the words and with the paths of AWS's own validation.

use std::fmt::Write;

use crate::registry::Validation;

use super::error::ApiError;
use super::shape::{Constraint, Integer, List, MapOf, Member, Shape, Size, Text};
use super::value::{Map, Value};
use super::violation::{Cut, Report, Shown};

/// A structure that has been validated against its shape: required members are present, and every member has the type,
/// length, range and pattern of its shape.
#[derive(Clone, Copy, Debug)]
pub(super) struct Input<'v>(&'v Map<'v>);

impl<'v> Input<'v> {
    /// Validates a decoded body. Members that the shape does not define are ignored.
    pub(super) fn check(
        map: &'v Map<'v>,
        members: &[Member],
        validation: Validation,
    ) -> Result<Input<'v>, ApiError> {
        let is_lenient = validation == Validation::Lenient;
        let mut check = Check { path: String::new(), report: Report::default(), is_lenient };
        check.members(map, members)?;
        match check.report.message() {
            None => Ok(Input(map)),
            Some(message) => Err(ApiError::invalid_input(message)),
        }
    }

    pub(super) fn text(&self, member: &str) -> Option<&'v str> {
        match self.0.get(member)? {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Returns a string that the shape requires. The error means that the validation is at fault, not the client.
    pub(super) fn required(&self, member: &str) -> Result<&'v str, ApiError> {
        self.text(member).ok_or_else(|| ApiError::internal(format!("{member} was not checked")))
    }

    /// Returns a number in the caller's type, or `None` if it is absent or does not fit that type.
    pub(super) fn integer<T: TryFrom<i64>>(&self, member: &str) -> Option<T> {
        T::try_from(self.0.get(member)?.as_integer()?).ok()
    }

    pub(super) fn structure(&self, member: &str) -> Option<Input<'v>> {
        match self.0.get(member)? {
            Value::Map(map) => Some(Input(map)),
            _ => None,
        }
    }

    pub(super) fn structures(&self, member: &str) -> impl Iterator<Item = Input<'v>> + use<'v> {
        self.list(member).iter().filter_map(|value| match value {
            Value::Map(map) => Some(Input(map)),
            _ => None,
        })
    }

    pub(super) fn texts(&self, member: &str) -> impl Iterator<Item = &'v str> + use<'v> {
        self.list(member).iter().filter_map(|value| match value {
            Value::Text(text) => Some(&**text),
            _ => None,
        })
    }

    pub(super) fn has(&self, member: &str) -> bool {
        self.0.get(member).is_some()
    }

    pub(super) fn pairs(&self, member: &str) -> impl Iterator<Item = (&'v str, &'v str)> + use<'v> {
        let entries = match self.0.get(member) {
            Some(Value::Map(map)) => map.entries(),
            _ => &[],
        };
        entries.iter().filter_map(|(key, value)| match value {
            Value::Text(text) => Some((&**key, &**text)),
            _ => None,
        })
    }

    fn list(&self, member: &str) -> &'v [Value<'v>] {
        match self.0.get(member) {
            Some(Value::List(list)) => list,
            _ => &[],
        }
    }
}

struct Check {
    /// Path of the current value, such as `dnsConfig.dnsRecords.1.member`.
    path: String,
    report: Report,
    is_lenient: bool,
}

impl Check {
    fn members(&mut self, map: &Map<'_>, members: &[Member]) -> Result<(), ApiError> {
        for member in members {
            let outer = self.path.len();
            self.step(member.name);
            match map.get(member.name) {
                Some(value) => self.value(value, member.shape)?,
                None if member.required => self.report.add(None, &self.path, Constraint::NotNull),
                None => {}
            }
            self.path.truncate(outer);
        }
        Ok(())
    }

    /// Appends a member's name to the path with its first letter in lower case, as in AWS's messages.
    fn step(&mut self, name: &str) {
        if !self.path.is_empty() {
            self.path.push('.');
        }
        let first = self.path.len();
        self.path.push_str(name);
        self.path[first..first + 1].make_ascii_lowercase();
    }

    fn value(&mut self, value: &Value<'_>, shape: &Shape) -> Result<(), ApiError> {
        match (shape, value) {
            (Shape::Structure(members), Value::Map(map)) => self.members(map, members),
            (Shape::List(list), Value::List(values)) => self.list(value, values, list),
            (Shape::Map(shape), Value::Map(map)) => self.map(value, map, shape),
            (Shape::Text(shape), Value::Text(text)) => {
                let is_accepted = self.is_lenient && shape.lenient.is_some_and(|accepts| accepts(text));
                for constraint in shape.constraints() {
                    let is_waived = is_accepted && matches!(constraint, Constraint::Pattern(_));
                    if !is_waived && !constraint.holds(text) {
                        self.report.add(Some(value), &self.path, constraint);
                    }
                }
                Ok(())
            }
            (Shape::Integer(Integer { min, max }), Value::Integer(_) | Value::Float(_)) => {
                let number = value.as_integer().ok_or_else(|| self.mismatch("an integer", value))?;
                if number > *max {
                    self.report.add(Some(value), &self.path, Constraint::ValueMax(*max));
                }
                if number < *min {
                    self.report.add(Some(value), &self.path, Constraint::ValueMin(*min));
                }
                Ok(())
            }
            (Shape::Structure(_), other) => Err(self.mismatch("a structure", other)),
            (Shape::List(_), other) => Err(self.mismatch("a list", other)),
            (Shape::Map(_), other) => Err(self.mismatch("a map", other)),
            (Shape::Text(_), other) => Err(self.mismatch("a string", other)),
            (Shape::Integer(_), other) => Err(self.mismatch("an integer", other)),
        }
    }

    fn list(&mut self, whole: &Value<'_>, values: &[Value<'_>], shape: &List) -> Result<(), ApiError> {
        self.size(whole, values.len(), shape.size);
        // As on AWS, a list with bad strings is reported once, with the first of them and the path of the list.
        let mut bad = None;
        for (index, value) in values.iter().enumerate() {
            match (shape.member, value) {
                (Shape::Text(text), Value::Text(_) | Value::Null) => {
                    if bad.is_none() && !fits(text, value) {
                        bad = Some((value, text));
                    }
                }
                (Shape::Text(_), other) => return Err(self.mismatch("strings", other)),
                (member, value) => {
                    let outer = self.path.len();
                    let _ = write!(self.path, ".{}.member", index + 1);
                    match value {
                        Value::Null => self.report.add(None, &self.path, Constraint::NotNull),
                        value => self.value(value, member)?,
                    }
                    self.path.truncate(outer);
                }
            }
        }
        if let Some((value, text)) = bad {
            let shown = format!("[{}]", Shown(value));
            self.report.add_entry(&shown, &self.path, "Member must satisfy constraint", text);
        }
        Ok(())
    }

    fn map(&mut self, whole: &Value<'_>, map: &Map<'_>, shape: &MapOf) -> Result<(), ApiError> {
        self.size(whole, map.entries().len(), shape.size);
        let (mut bad_key, mut bad_value) = (None, None);
        for (key, value) in map.entries() {
            if !matches!(value, Value::Text(_) | Value::Null) {
                return Err(self.mismatch("strings", value));
            }
            if bad_key.is_none() && !shape.key.constraints().all(|constraint| constraint.holds(key)) {
                bad_key = Some((key, value));
            }
            if bad_value.is_none() && !fits(&shape.value, value) {
                bad_value = Some((key, value));
            }
        }
        let bad = [
            (bad_key, "Map keys must satisfy constraint", &shape.key),
            (bad_value, "Map value must satisfy constraint", &shape.value),
        ];
        for (entry, what, text) in bad {
            if let Some((key, value)) = entry {
                let shown = format!("{{{}={}}}", Cut(key), Shown(value));
                self.report.add_entry(&shown, &self.path, what, text);
            }
        }
        Ok(())
    }

    fn size(&mut self, whole: &Value<'_>, len: usize, size: Size) {
        for constraint in size.constraints() {
            let holds = match constraint {
                Constraint::LengthMax(max) => len <= max,
                Constraint::LengthMin(min) => len >= min,
                _ => true,
            };
            if !holds {
                self.report.add(Some(whole), &self.path, constraint);
            }
        }
    }

    fn mismatch(&self, expected: &str, found: &Value<'_>) -> ApiError {
        ApiError::serialization(format!("Expected {expected} at '{}', found {}.", self.path, found.kind()))
    }
}

fn fits(shape: &Text, value: &Value<'_>) -> bool {
    match value {
        Value::Text(text) => shape.constraints().all(|constraint| constraint.holds(text)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::action::Action;
    use super::super::codec::Codec;
    use super::super::json::Json;
    use super::*;

    fn check(action: Action, body: &str) -> Result<(), ApiError> {
        let body = Json::decode(body.as_bytes()).unwrap();
        Input::check(&body, action.input(), Validation::Strict).map(|_| ())
    }

    fn refusal(action: Action, body: &str) -> (&'static str, String) {
        let error = check(action, body).unwrap_err();
        (error.code, error.message)
    }

    #[test]
    fn violations_are_reported_in_the_words_of_aws() {
        let x = |count: usize| "x".repeat(count);
        let cases = [
            (
                Action::GetNamespace,
                "{}".to_string(),
                "1 validation error detected: Value null at 'id' failed to satisfy constraint: Member must not be null",
            ),
            (
                Action::ListTagsForResource,
                r#"{"ResourceARN": ""}"#.into(),
                "1 validation error detected: Value '' at 'resourceARN' failed to satisfy constraint: Member must have length greater than or equal to 1",
            ),
            (
                Action::ListServices,
                r#"{"MaxResults": 101}"#.into(),
                "1 validation error detected: Value '101' at 'maxResults' failed to satisfy constraint: Member must have value less than or equal to 100",
            ),
            (
                Action::DiscoverInstances,
                r#"{"NamespaceName": "n", "ServiceName": "s", "MaxResults": 0, "HealthStatus": "UNKNOWN", "OwnerAccount": "1"}"#.into(),
                "3 validation errors detected: Value '0' at 'maxResults' failed to satisfy constraint: Member must have value greater than or equal to 1; Value 'UNKNOWN' at 'healthStatus' failed to satisfy constraint: Member must satisfy enum value set: [HEALTHY, UNHEALTHY, ALL, HEALTHY_OR_ELSE_ALL]; Value '1' at 'ownerAccount' failed to satisfy constraint: Member must have length greater than or equal to 12",
            ),
            (
                Action::CreateService,
                r#"{"Name": "s", "DnsConfig": {"DnsRecords": [{"Type": "TXT", "TTL": 1}, {"Type": "A"}]}}"#.into(),
                "2 validation errors detected: Value 'TXT' at 'dnsConfig.dnsRecords.1.member.type' failed to satisfy constraint: Member must satisfy enum value set: [SRV, A, AAAA, CNAME]; Value null at 'dnsConfig.dnsRecords.2.member.tTL' failed to satisfy constraint: Member must not be null",
            ),
            (
                Action::CreateHttpNamespace,
                r#"{"Name": "arn:x", "Tags": [null]}"#.into(),
                "2 validation errors detected: Value 'arn:x' at 'name' failed to satisfy constraint: Member must satisfy regular expression pattern: ^(?!arn:)[!-~]{1,1024}$; Value null at 'tags.1.member' failed to satisfy constraint: Member must not be null",
            ),
            (
                Action::UpdateServiceAttributes,
                format!(r#"{{"ServiceId": "s", "Attributes": {{"a": "{}", "b": null}}}}"#, x(1025)),
                &format!("1 validation error detected: Value '{{a={}…}}' at 'attributes' failed to satisfy constraint: Map value must satisfy constraint: [Member must have length less than or equal to 1024]", x(128)),
            ),
            (
                Action::UpdateServiceAttributes,
                r#"{"ServiceId": "s", "Attributes": {}}"#.into(),
                "1 validation error detected: Value '{}' at 'attributes' failed to satisfy constraint: Member must have length greater than or equal to 1",
            ),
            (
                Action::UntagResource,
                r#"{"ResourceARN": "a", "TagKeys": ["a", "", ""]}"#.into(),
                "1 validation error detected: Value '[]' at 'tagKeys' failed to satisfy constraint: Member must satisfy constraint: [Member must have length less than or equal to 128, Member must have length greater than or equal to 1]",
            ),
        ];
        for (action, body, message) in cases {
            assert_eq!(refusal(action, &body), ("InvalidInput", message.to_string()));
        }
    }

    #[test]
    fn lengths_count_characters_and_limits_are_inclusive() {
        let name = |text: &str| format!(r#"{{"Name": "n", "Description": "{text}"}}"#);
        assert!(check(Action::CreateHttpNamespace, &name(&"😀".repeat(1024))).is_ok());
        assert!(check(Action::CreateHttpNamespace, &name(&"x".repeat(1025))).is_err());
        assert!(check(Action::CreateHttpNamespace, &name("")).is_ok());
        let ttl = |ttl: &str| {
            format!(r#"{{"Name": "s", "DnsConfig": {{"DnsRecords": [{{"Type": "A", "TTL": {ttl}}}]}}}}"#)
        };
        for good in ["0", "2147483647", "60.0"] {
            assert!(check(Action::CreateService, &ttl(good)).is_ok(), "{good}");
        }
        for bad in ["-1", "2147483648", "9223372036854775807"] {
            assert_eq!(refusal(Action::CreateService, &ttl(bad)).0, "InvalidInput", "{bad}");
        }
        let tags =
            |count| format!(r#"{{"ResourceARN": "a", "TagKeys": [{}]}}"#, vec![r#""k""#; count].join(","));
        assert!(check(Action::UntagResource, &tags(200)).is_ok());
        assert_eq!(
            refusal(Action::UntagResource, &tags(201)).1,
            "1 validation error detected: Value '[k, k, k, …]' at 'tagKeys' failed to satisfy constraint: Member must have length less than or equal to 200"
        );
    }

    #[test]
    fn members_of_the_wrong_type_are_serialization_errors() {
        let cases = [
            (r#"{"Name": 1}"#, "Expected a string at 'name', found a number."),
            (r#"{"Name": "s", "Tags": {}}"#, "Expected a list at 'tags', found a structure or map."),
            (r#"{"Name": "s", "DnsConfig": "x"}"#, "Expected a structure at 'dnsConfig', found a string."),
            (
                r#"{"Name": "s", "HealthCheckCustomConfig": {"FailureThreshold": "1"}}"#,
                "Expected an integer at 'healthCheckCustomConfig.failureThreshold', found a string.",
            ),
            (
                r#"{"Name": "s", "HealthCheckCustomConfig": {"FailureThreshold": 1.5}}"#,
                "Expected an integer at 'healthCheckCustomConfig.failureThreshold', found a number.",
            ),
            (
                r#"{"Name": "s", "DnsConfig": {"DnsRecords": [true]}}"#,
                "Expected a structure at 'dnsConfig.dnsRecords.1.member', found a boolean.",
            ),
        ];
        for (body, message) in cases {
            assert_eq!(refusal(Action::CreateService, body), ("SerializationException", message.to_string()));
        }
        let body = r#"{"ServiceId": "s", "InstanceId": "i", "Attributes": {"AWS_INSTANCE_PORT": 80}}"#;
        let (code, message) = refusal(Action::RegisterInstance, body);
        assert_eq!(
            (code, &*message),
            ("SerializationException", "Expected strings at 'attributes', found a number.")
        );
        assert_eq!(
            refusal(Action::UntagResource, r#"{"ResourceARN": "a", "TagKeys": [1]}"#).0,
            "SerializationException"
        );
    }

    #[test]
    fn unknown_members_and_nulls_are_ignored() {
        let body = r#"{"Id": "ns-1", "New": {"a": [1, true, null]}, "id": 5}"#;
        assert!(check(Action::GetNamespace, body).is_ok());
        assert!(
            check(Action::ListNamespaces, r#"{"NextToken": null, "Filters": null, "MaxResults": null}"#)
                .is_ok()
        );
    }

    #[test]
    fn messages_are_bounded() {
        let filter = format!(r#"{{"Name": "{}", "Values": ["{}"]}}"#, "n".repeat(100), "v".repeat(300));
        let body = format!(r#"{{"Filters": [{}]}}"#, vec![filter; 2000].join(","));
        let (_, message) = refusal(Action::ListOperations, &body);
        assert!(message.starts_with("4000 validation errors detected: "));
        assert!(message.ends_with("; …"));
        assert!(message.len() < 10_000, "{}", message.len());
    }
}

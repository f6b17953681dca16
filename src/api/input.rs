//! Reads a decoded body into the type of its operation's input, and validates it on the way.
//!
//! A structure of the model is declared once, with [`structures`]: the declaration is the Rust type, the names and constraints
//! of its members, and the code that reads it. A value of such a type is valid input: required members are present, and every
//! member has the type, length, range, pattern or word of its shape. All violations of a body are reported at once, in the
//! words and with the paths of AWS's own validation.

use std::collections::BTreeMap;

use crate::registry::Validation;

use super::error::ApiError;
use super::shape::{Constraint, Integer, List, Text, TextMap};
use super::value::{Map, Value};
use super::violation::{Cut, Path, Refused, Report, Shown};

/// Declares structures of the model, one line for each member: the field and its type, `required` or `optional`, the member's
/// name, and its shape, which structures and enumerations do not have. Members are read, and violations reported, in the
/// order of the lines.
///
/// With `struct` the type is defined here. With `impl` it exists in another module, which has these fields.
macro_rules! structures {
    ($(
        $(#[$meta:meta])*
        struct $name:ident $(<$lifetime:lifetime>)? {$(
            $(#[$field_meta:meta])*
            $field:ident: $type:ty = $presence:ident $member:literal $($shape:expr)?,
        )+}
    )+) => {$(
        $(#[$meta])*
        #[derive(Debug)]
        pub(super) struct $name $(<$lifetime>)? {
            $($(#[$field_meta])* pub(super) $field: $type,)+
        }

        structures! { impl $name $(<$lifetime>)? {
            $($field: $type = $presence $member $($shape)?,)+
        }}
    )+};
    ($(
        impl $name:ident $(<$lifetime:lifetime>)? {
            $($field:ident: $type:ty = $presence:ident $member:literal $($shape:expr)?,)+
        }
    )+) => {$(
        impl<'v> $crate::api::input::InputStructure<'v> for $name $(<$lifetime>)? {
            fn from_members(
                members: &mut $crate::api::input::Members<'v, '_>,
            ) -> Result<Self, $crate::api::violation::Refused> {
                $(let $field: Result<$type, _> = members.$presence($member, structures!(@shape $($shape)?));)+
                Ok(Self { $($field: $field?),+ })
            }
        }

        impl<'v> $crate::api::input::FromValue<'v> for $name $(<$lifetime>)? {
            type Shape = ();

            fn from_value(
                value: &'v $crate::api::value::Value<'v>,
                (): &(),
                path: $crate::api::violation::Path<'_>,
                check: &mut $crate::api::input::Check,
            ) -> Result<Self, $crate::api::violation::Refused> {
                check.structure(value, path)
            }
        }

        #[cfg(test)]
        impl<'v> $crate::api::inputs::tests::Declared for $name $(<$lifetime>)? {
            type Shape = ();

            fn declared((): &()) -> $crate::api::inputs::tests::Shape {
                $crate::api::inputs::tests::Shape::structure([
                    $((
                        $member,
                        stringify!($presence),
                        <$type as $crate::api::inputs::tests::Declared>::declared(structures!(@shape $($shape)?)),
                    )),+
                ])
            }
        }
    )+};
    (@shape) => { &() };
    (@shape $shape:expr) => { &$shape };
}

/// Makes enumerations readable, with their words in the order of the model, which messages quote. With `enum` the type is
/// defined here; with `impl` it exists in another module, and may have more variants; with `use` it has its words there.
macro_rules! words {
    ($(enum $name:ident { $($variant:ident = $word:literal),+ })+) => {
        $(
            #[derive(Clone, Copy, Debug, Eq, PartialEq)]
            pub(super) enum $name {
                $($variant),+
            }

            impl $name {
                pub(super) fn as_str(self) -> &'static str {
                    match self {
                        $($name::$variant => $word),+
                    }
                }
            }
        )+
        words! { $(impl $name { $($variant = $word),+ })+ }
    };
    ($(impl $name:ident { $($variant:ident = $word:literal),+ })+) => {$(
        words! { @type $name, &[$($word),+], |word| match word {
            $($word => Some($name::$variant),)+
            _ => None,
        }}
    )+};
    ($(use $name:ident;)+) => {
        $(words! { @type $name, $name::WORDS, $name::from_word })+
    };
    (@type $name:ident, $words:expr, $from_word:expr) => {
        impl<'v> $crate::api::input::FromValue<'v> for $name {
            type Shape = ();

            fn from_value(
                value: &'v $crate::api::value::Value<'v>,
                (): &(),
                path: $crate::api::violation::Path<'_>,
                check: &mut $crate::api::input::Check,
            ) -> Result<$name, $crate::api::violation::Refused> {
                check.word(value, path, $words, $from_word)
            }
        }

        #[cfg(test)]
        impl $crate::api::inputs::tests::Declared for $name {
            type Shape = ();

            fn declared((): &()) -> $crate::api::inputs::tests::Shape {
                $crate::api::inputs::tests::Shape::words($words)
            }
        }
    };
}

pub(super) use {structures, words};

/// Reads the body of a request as the structure `S`. Members that the structure does not have are ignored.
pub(super) fn read<'v, S: InputStructure<'v>>(
    body: &'v Map<'v>,
    validation: Validation,
) -> Result<S, ApiError> {
    let mut check = Check { report: Report::default(), is_lenient: validation == Validation::Lenient };
    match S::from_members(&mut Members { map: body, path: Path::Body, check: &mut check }) {
        Ok(input) if check.report.is_empty() => Ok(input),
        _ => Err(check.report.into_error()),
    }
}

/// A type of members of an input.
pub(super) trait FromValue<'v>: Sized {
    /// Type of the constraints on such a member; `()` if the type has them all.
    type Shape;

    /// Reads a value that is not null.
    fn from_value(
        value: &'v Value<'v>,
        shape: &Self::Shape,
        path: Path<'_>,
        check: &mut Check,
    ) -> Result<Self, Refused>;

    fn from_elements<C: FromIterator<Self>>(
        values: &'v [Value<'v>],
        shape: &Self::Shape,
        path: Path<'_>,
        check: &mut Check,
    ) -> Result<C, Refused> {
        let mut refused = None;
        let elements = values.iter().enumerate().filter_map(|(index, value)| {
            let path = Path::Element(&path, index);
            let element = match value {
                Value::Null => Err(check.report.add(None, path, Constraint::NotNull)),
                value => Self::from_value(value, shape, path, check),
            };
            element.map_err(|element| refused = Some(element)).ok()
        });
        let elements = elements.collect();
        refused.map_or(Ok(elements), Err)
    }
}

/// A structure of the model, declared with [`structures`].
pub(super) trait InputStructure<'v>: FromValue<'v, Shape = ()> {
    /// Reads all members before it returns, so that all violations are reported.
    fn from_members(members: &mut Members<'v, '_>) -> Result<Self, Refused>;
}

pub(super) struct Members<'v, 'c> {
    map: &'v Map<'v>,
    path: Path<'c>,
    check: &'c mut Check,
}

impl<'v> Members<'v, '_> {
    pub(super) fn required<T: FromValue<'v>>(
        &mut self,
        name: &'static str,
        shape: &T::Shape,
    ) -> Result<T, Refused> {
        let path = Path::Member(&self.path, name);
        match self.map.get(name) {
            Some(value) => T::from_value(value, shape, path, self.check),
            None => Err(self.check.report.add(None, path, Constraint::NotNull)),
        }
    }

    pub(super) fn optional<T: FromValue<'v>>(
        &mut self,
        name: &'static str,
        shape: &T::Shape,
    ) -> Result<Option<T>, Refused> {
        let Some(value) = self.map.get(name) else { return Ok(None) };
        T::from_value(value, shape, Path::Member(&self.path, name), self.check).map(Some)
    }
}

/// Validation of one body: its mode, and the violations so far.
pub(super) struct Check {
    report: Report,
    is_lenient: bool,
}

impl Check {
    pub(super) fn structure<'v, S: InputStructure<'v>>(
        &mut self,
        value: &'v Value<'v>,
        path: Path<'_>,
    ) -> Result<S, Refused> {
        match value {
            Value::Map(map) => S::from_members(&mut Members { map, path, check: self }),
            other => Err(self.report.mismatch(other, path, "a structure")),
        }
    }

    pub(super) fn word<W>(
        &mut self,
        value: &Value<'_>,
        path: Path<'_>,
        words: &'static [&'static str],
        from_word: impl Fn(&str) -> Option<W>,
    ) -> Result<W, Refused> {
        match value {
            Value::Text(text) => {
                from_word(text).ok_or_else(|| self.report.add(Some(value), path, Constraint::Words(words)))
            }
            other => Err(self.report.mismatch(other, path, "a string")),
        }
    }

    fn text<'v, T: From<&'v str>>(
        &mut self,
        value: &'v Value<'v>,
        shape: &Text,
        path: Path<'_>,
    ) -> Result<T, Refused> {
        match value {
            Value::Text(text) => {
                let violations = shape.violations(text, self.is_lenient);
                self.all(violations, value, path).map(|()| T::from(text))
            }
            other => Err(self.report.mismatch(other, path, "a string")),
        }
    }

    fn integer<T: TryFrom<i64>>(
        &mut self,
        value: &Value<'_>,
        shape: &Integer,
        path: Path<'_>,
    ) -> Result<T, Refused> {
        let Some(number) = value.as_integer() else {
            return Err(self.report.mismatch(value, path, "an integer"));
        };
        match T::try_from(number) {
            Ok(fitting) if (shape.min..=shape.max).contains(&number) => Ok(fitting),
            _ if number < shape.min => {
                Err(self.report.add(Some(value), path, Constraint::ValueMin(shape.min)))
            }
            _ => Err(self.report.add(Some(value), path, Constraint::ValueMax(shape.max))),
        }
    }

    pub(super) fn list<'v, T: FromValue<'v>, C: FromIterator<T>>(
        &mut self,
        value: &'v Value<'v>,
        shape: &List<T::Shape>,
        path: Path<'_>,
    ) -> Result<C, Refused> {
        let Value::List(values) = value else { return Err(self.report.mismatch(value, path, "a list")) };
        let size = self.all(shape.size.violations(values.len()), value, path);
        let elements = T::from_elements(values, &shape.element, path, self)?;
        size.map(|()| elements)
    }

    /// Reads a list of strings. As on AWS, it is reported once, with the first bad string and the path of the list.
    fn texts<'v, T: From<&'v str>, C: FromIterator<T>>(
        &mut self,
        values: &'v [Value<'v>],
        shape: &Text,
        path: Path<'_>,
    ) -> Result<C, Refused> {
        let (mut bad, mut refused) = (None, None);
        let texts = values.iter().filter_map(|value| match value {
            Value::Text(text) if shape.fits(text) => Some(T::from(text)),
            Value::Text(_) | Value::Null => {
                bad.get_or_insert(value);
                None
            }
            other => {
                refused = Some(self.report.mismatch(other, path, "strings"));
                None
            }
        });
        let texts = texts.collect();
        if let Some(value) = bad {
            let shown = format!("[{}]", Shown(value));
            refused = Some(self.report.add_entry(&shown, path, "Member must satisfy constraint", shape));
        }
        refused.map_or(Ok(texts), Err)
    }

    /// Reads a map of strings. As on AWS, it is reported once for its keys and once for its values.
    fn pairs<'v, T: From<&'v str>, C: FromIterator<(T, T)>>(
        &mut self,
        whole: &'v Value<'v>,
        shape: &TextMap,
        path: Path<'_>,
    ) -> Result<C, Refused> {
        let Value::Map(map) = whole else { return Err(self.report.mismatch(whole, path, "a map")) };
        let size = self.all(shape.size.violations(map.entries().len()), whole, path);
        let (mut bad_key, mut bad_value, mut refused) = (None, None, size.err());
        let pairs = map.entries().iter().filter_map(|(key, value)| {
            if !shape.key.fits(key) {
                bad_key.get_or_insert((key, value));
            }
            match value {
                Value::Text(text) if shape.value.fits(text) => return Some((T::from(key), T::from(text))),
                Value::Text(_) | Value::Null => {
                    bad_value.get_or_insert((key, value));
                }
                other => refused = Some(self.report.mismatch(other, path, "strings")),
            }
            None
        });
        let pairs = pairs.collect();
        let bad = [
            (bad_key, "Map keys must satisfy constraint", &shape.key),
            (bad_value, "Map value must satisfy constraint", &shape.value),
        ];
        for (entry, what, text) in bad {
            if let Some((key, value)) = entry {
                let shown = format!("{{{}={}}}", Cut(key), Shown(value));
                refused = Some(self.report.add_entry(&shown, path, what, text));
            }
        }
        refused.map_or(Ok(pairs), Err)
    }

    fn all(
        &mut self,
        violations: impl Iterator<Item = Constraint>,
        value: &Value<'_>,
        path: Path<'_>,
    ) -> Result<(), Refused> {
        violations.map(|constraint| self.report.add(Some(value), path, constraint)).last().map_or(Ok(()), Err)
    }
}

/// Implements [`FromValue`] for types whose values one function of [`Check`] reads.
macro_rules! from_value {
    ($($type:ty: $shape:ty = $read:ident $(, elements $elements:ident)?;)+) => {$(
        impl<'v> FromValue<'v> for $type {
            type Shape = $shape;

            fn from_value(
                value: &'v Value<'v>,
                shape: &$shape,
                path: Path<'_>,
                check: &mut Check,
            ) -> Result<$type, Refused> {
                check.$read(value, shape, path)
            }

            $(
                fn from_elements<C: FromIterator<$type>>(
                    values: &'v [Value<'v>],
                    shape: &$shape,
                    path: Path<'_>,
                    check: &mut Check,
                ) -> Result<C, Refused> {
                    check.$elements(values, shape, path)
                }
            )?
        }
    )+};
}

from_value! {
    &'v str: Text = text, elements texts;
    String: Text = text, elements texts;
    u8: Integer = integer;
    u32: Integer = integer;
    usize: Integer = integer;
    Vec<(&'v str, &'v str)>: TextMap = pairs;
    BTreeMap<String, String>: TextMap = pairs;
}

impl<'v, T: FromValue<'v>> FromValue<'v> for Vec<T> {
    type Shape = List<T::Shape>;

    fn from_value(
        value: &'v Value<'v>,
        shape: &List<T::Shape>,
        path: Path<'_>,
        check: &mut Check,
    ) -> Result<Vec<T>, Refused> {
        check.list(value, shape, path)
    }
}

#[cfg(test)]
mod tests {
    use super::super::action::Action;
    use super::super::codec::Codec;
    use super::super::inputs::Input;
    use super::super::json::Json;
    use super::*;

    fn check(action: Action, body: &str) -> Result<(), ApiError> {
        let body = Json::decode(body.as_bytes()).unwrap();
        Input::read(action, &body, Validation::Strict).map(|_| ())
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
            // The first one is reported, and before any violation.
            (r#"{"Tags": 1, "Description": 2}"#, "Expected a string at 'description', found a number."),
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

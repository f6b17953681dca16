//! The declarations are AWS's published service model, member by member.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use super::*;

/// A declared or published shape, without the names that the model has for shapes.
#[derive(Debug, PartialEq)]
pub(in crate::api) enum Shape {
    Structure(BTreeMap<String, (Presence, Shape)>),
    List(Limits, Box<Shape>),
    Map(Limits, Box<Shape>, Box<Shape>),
    Text { limits: Limits, pattern: Option<String>, is_lenient: bool },
    Integer(Limits),
    Words(Vec<String>),
}

#[derive(Debug, PartialEq)]
pub(in crate::api) enum Presence {
    Required,
    Optional,
}

/// The limits `min` and `max` of a shape; a minimum of 0 limits no length, so it is none.
#[derive(Debug, PartialEq)]
pub(in crate::api) struct Limits {
    min: Option<i64>,
    max: Option<i64>,
}

/// A type of members, as [`Shape`].
pub(in crate::api) trait Declared {
    type Shape;

    fn declared(shape: &Self::Shape) -> Shape;
}

impl Shape {
    pub(in crate::api) fn structure<const N: usize>(members: [(&str, &str, Shape); N]) -> Shape {
        let member = |(name, presence, shape): (&str, &str, Shape)| {
            let presence = if presence == "required" { Presence::Required } else { Presence::Optional };
            (name.to_string(), (presence, shape))
        };
        let named: BTreeMap<_, _> = members.into_iter().map(member).collect();
        assert_eq!(named.len(), N, "a member is declared twice: {named:?}");
        Shape::Structure(named)
    }

    pub(in crate::api) fn words(words: &[&str]) -> Shape {
        Shape::Words(words.iter().map(|word| word.to_string()).collect())
    }
}

impl Limits {
    fn of_size(size: Size) -> Limits {
        let limit = |limit: usize| i64::try_from(limit).unwrap();
        Limits {
            min: (size.min > 0).then(|| limit(size.min)),
            max: (size.max < usize::MAX).then(|| limit(size.max)),
        }
    }
}

impl Declared for &str {
    type Shape = Text;

    fn declared(shape: &Text) -> Shape {
        Shape::Text {
            limits: Limits::of_size(shape.size),
            pattern: shape.pattern.map(|pattern| pattern.text.to_string()),
            is_lenient: shape.lenient.is_some(),
        }
    }
}

impl Declared for String {
    type Shape = Text;

    fn declared(shape: &Text) -> Shape {
        <&str>::declared(shape)
    }
}

macro_rules! integers {
    ($($integer:ident)+) => {$(
        impl Declared for $integer {
            type Shape = Integer;

            fn declared(shape: &Integer) -> Shape {
                // Otherwise a number within the limits would be refused.
                assert!($integer::try_from(shape.min).is_ok() && $integer::try_from(shape.max).is_ok());
                Shape::Integer(Limits { min: Some(shape.min), max: Some(shape.max) })
            }
        }
    )+};
}

integers! { u8 u32 usize }

impl<T: Declared> Declared for Option<T> {
    type Shape = T::Shape;

    fn declared(shape: &T::Shape) -> Shape {
        T::declared(shape)
    }
}

impl<T: Declared> Declared for Vec<T> {
    type Shape = List<T::Shape>;

    fn declared(shape: &List<T::Shape>) -> Shape {
        Shape::List(Limits::of_size(shape.size), Box::new(T::declared(&shape.element)))
    }
}

impl Declared for TagList {
    type Shape = List<()>;

    fn declared(shape: &List<()>) -> Shape {
        Vec::<Tag<'_>>::declared(shape)
    }
}

impl Declared for BTreeMap<String, String> {
    type Shape = TextMap;

    fn declared(shape: &TextMap) -> Shape {
        let [key, value] = [&shape.key, &shape.value].map(|text| Box::new(String::declared(text)));
        Shape::Map(Limits::of_size(shape.size), key, value)
    }
}

impl Declared for Vec<(&str, &str)> {
    type Shape = TextMap;

    fn declared(shape: &TextMap) -> Shape {
        BTreeMap::<String, String>::declared(shape)
    }
}

/// The published model; its README says where it comes from.
struct Model(Json);

impl Model {
    fn read() -> Model {
        let text = include_str!("../../../tests/data/aws/servicediscovery-2017-03-14.json");
        Model(serde_json::from_str(text).unwrap())
    }

    fn operations(&self) -> BTreeMap<&str, Shape> {
        let operations = self.0["operations"].as_object().unwrap();
        operations.iter().map(|(name, input)| (&**name, self.shape(input))).collect()
    }

    fn shape(&self, name: &Json) -> Shape {
        let shape = self.0["shapes"][name.as_str().unwrap()].as_object().unwrap();
        let texts = |name| -> Vec<String> {
            let texts = shape.get(name).and_then(Json::as_array);
            texts.into_iter().flatten().map(|text| text.as_str().unwrap().to_string()).collect()
        };
        let limit = |name| shape.get(name).map(|limit| limit.as_i64().unwrap());
        let size = || Limits { min: limit("min").filter(|min| *min > 0), max: limit("max") };
        let inner = |name: &str| Box::new(self.shape(&shape[name]));
        let (known, read): (&[&str], _) = match shape["type"].as_str().unwrap() {
            "structure" => {
                let required = texts("required");
                let member = |(name, shape): (&String, &Json)| {
                    let is_required = required.contains(name);
                    let presence = if is_required { Presence::Required } else { Presence::Optional };
                    (name.clone(), (presence, self.shape(shape)))
                };
                let members = shape["members"].as_object().unwrap().iter().map(member).collect();
                (&["members", "required"], Shape::Structure(members))
            }
            "list" => (&["min", "max", "member"], Shape::List(size(), inner("member"))),
            "map" => (&["min", "max", "key", "value"], Shape::Map(size(), inner("key"), inner("value"))),
            "string" if shape.contains_key("enum") => (&["enum"], Shape::Words(texts("enum"))),
            "string" => {
                let pattern = shape.get("pattern").map(|pattern| pattern.as_str().unwrap().to_string());
                let is_lenient = LENIENT.iter().any(|(lenient, _)| name == lenient);
                (&["min", "max", "pattern"], Shape::Text { limits: size(), pattern, is_lenient })
            }
            "integer" | "long" => {
                (&["min", "max"], Shape::Integer(Limits { min: limit("min"), max: limit("max") }))
            }
            other => panic!("{name} has the type {other}"),
        };
        for key in shape.keys() {
            assert!(key == "type" || known.contains(&&**key), "{name} has {key}, which is not compared");
        }
        read
    }
}

/// The deliberate differences: shapes whose pattern lenient validation relaxes, each with the reason. Strict validation
/// applies the whole model.
const LENIENT: &[(&str, &str)] = &[
    ("NamespaceNamePublic", "other emulators accept one label and underscores, and both are valid in a zone"),
    ("ServiceName", "in an HTTP namespace no record has the name; elsewhere the planner applies the pattern"),
];

#[test]
fn the_declared_inputs_are_those_of_the_published_model() {
    let model = Model::read();
    let published = model.operations();
    let declared: BTreeMap<_, _> =
        Action::ALL.iter().map(|action| (action.as_str(), Input::declared(*action))).collect();
    assert!(declared.keys().eq(published.keys()), "the model has other operations: {:?}", published.keys());
    for (operation, published) in &published {
        assert_eq!(declared[operation], *published, "declared and published input of {operation}");
    }
    for (shape, _) in LENIENT {
        assert!(!model.0["shapes"][shape].is_null(), "the model has no {shape}");
    }
}

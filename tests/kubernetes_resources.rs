//! Checks that the custom resource definitions in deploy/ are those of the program.

use std::fs;
use std::path::Path;

use cloudmap_dns::store::kubernetes::resources::definitions;
use serde_json::Value;

/// Writes JSON as readable YAML: in block style, with the order of the keys kept and every string in quotes.
fn yaml(value: &Value, indent: usize, out: &mut String) {
    let pad = "  ".repeat(indent);
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, value) in map.iter().filter(|(_, value)| !value.is_null()) {
                // A key without quotes may not begin with an indicator, and words such as `on` are booleans in YAML 1.1.
                let is_plain =
                    key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte))
                        && !["y", "n", "on", "off", "yes", "no"].contains(&key.to_ascii_lowercase().as_str());
                let key = if is_plain { key.clone() } else { Value::from(key.as_str()).to_string() };
                out.push_str(&format!("{pad}{key}:"));
                nested(value, indent, out);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                let mut inner = String::new();
                match item {
                    Value::Object(map) if !map.is_empty() => yaml(item, indent + 1, &mut inner),
                    _ => inner.push_str(&format!("{}{item}\n", "  ".repeat(indent + 1))),
                }
                out.push_str(&format!("{pad}- {}", &inner[(indent + 1) * 2..]));
            }
        }
        other => out.push_str(&format!("{pad}{other}\n")),
    }
}

fn nested(value: &Value, indent: usize, out: &mut String) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            out.push('\n');
            yaml(value, indent + 1, out);
        }
        Value::Array(items) if !items.is_empty() => {
            out.push('\n');
            yaml(value, indent, out);
        }
        other => out.push_str(&format!(" {other}\n")),
    }
}

#[test]
fn definitions_in_deploy_are_those_of_the_types() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/helm/cloudmap-dns/crds");
    let generated = Path::new(env!("CARGO_TARGET_TMPDIR")).join("crds");
    fs::create_dir_all(&generated).unwrap();
    let mut wrong = Vec::new();
    for (file, definition) in definitions() {
        let mut text =
            "# Made from the types in src/store/kubernetes/resources.rs; a test keeps it so.\n".to_string();
        yaml(&serde_json::to_value(definition).unwrap(), 0, &mut text);
        if fs::read_to_string(folder.join(file)).unwrap_or_default() != text {
            fs::write(generated.join(file), text).unwrap();
            wrong.push(file);
        }
    }
    let surplus: Vec<_> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !definitions().iter().any(|(file, _)| file == name))
        .collect();
    assert!(surplus.is_empty(), "deploy/ has definitions without a type: {surplus:?}");
    assert!(
        wrong.is_empty(),
        "these definitions in {} differ from those of the types: {wrong:?}. To update, copy them from {}.",
        folder.display(),
        generated.display()
    );
}

#[test]
fn definitions_are_structural_and_namespaced() {
    for (file, definition) in definitions() {
        assert_eq!(definition.spec.group, "cloudmap-dns.io", "{file}");
        assert_eq!(definition.spec.scope, "Namespaced", "{file}");
        let version = &definition.spec.versions[0];
        assert!(version.schema.as_ref().unwrap().open_api_v3_schema.is_some(), "{file}");
        let fields = version.selectable_fields.as_ref().map_or(0, Vec::len);
        assert!(fields > 0 || file == "cloudmapstores.yaml", "{file}");
    }
}

//! The README says what is so: its settings, its commands, its ids and its files are those of the program.

#![expect(clippy::unwrap_used, reason = "a test ends where something is wrong")]

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use cloudmap_dns::cli;
use cloudmap_dns::config::{self, CONFIG_FLAG, Config, SETTINGS, Sources, VARIABLE_PREFIX};
use cloudmap_dns::model::Identity;
use cloudmap_dns::snapshot::check_directory;

const SETTINGS_BEGIN: &str = "<!-- settings -->\n";
const SETTINGS_END: &str = "<!-- /settings -->";
/// How the README starts the program: from its sources, or installed.
const PROGRAM: [&str; 2] = ["cargo run --release", "cloudmap-dns"];

fn at_root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn readme() -> String {
    fs::read_to_string(at_root("README.md")).unwrap()
}

/// The fenced code blocks: the language and the text of each.
fn code_blocks(markdown: &str) -> Vec<(&str, &str)> {
    let parts = markdown.split("```").skip(1).step_by(2);
    parts.map(|block| block.split_once('\n').unwrap()).collect()
}

/// The commands that a reader types: every line of a `sh` block, and those with a prompt in a `console` block.
fn typed(markdown: &str) -> Vec<&str> {
    let lines = code_blocks(markdown).into_iter().flat_map(|(language, text)| {
        text.lines().filter_map(move |line| match language {
            "sh" => Some(line),
            "console" => line.strip_prefix("$ "),
            _ => None,
        })
    });
    lines.map(|line| line.split(" #").next().unwrap_or_default().trim()).collect()
}

/// The arguments of every call of the program in a line: up to the end of the command.
fn calls(line: &str) -> Vec<Vec<String>> {
    let commands = line.split(['&', '|', ';', '"', '(', ')', '<', '>']);
    let calls = commands.filter_map(|command| {
        let rest = PROGRAM.into_iter().find_map(|program| command.trim().strip_prefix(program))?;
        // `cloudmap-dns.toml` is no call.
        let is_call = rest.is_empty() || rest.starts_with(' ');
        is_call.then(|| rest.split_whitespace().filter(|word| *word != "--").map(String::from).collect())
    });
    calls.collect()
}

#[test]
fn the_readme_lists_every_setting_as_it_is() {
    let readme = readme();
    let listed = readme.split_once(SETTINGS_BEGIN).and_then(|(_, rest)| rest.split_once(SETTINGS_END));
    let (listed, _) = listed.unwrap_or_else(|| {
        panic!("README.md has no table of settings between {SETTINGS_BEGIN:?} and {SETTINGS_END:?}")
    });
    let expected = config::settings_reference();
    if listed != expected {
        let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("settings.md");
        fs::write(&file, &expected).unwrap();
        let missing = expected.lines().find(|line| !listed.lines().any(|listed| listed == *line));
        let surplus = listed.lines().find(|line| !expected.lines().any(|expected| expected == *line));
        panic!(
            "README.md does not list the settings as they are.\nMissing: {missing:?}\nToo much: {surplus:?}\nTo \
             update, put the text of {} between {} and {SETTINGS_END} in README.md.",
            file.display(),
            SETTINGS_BEGIN.trim()
        );
    }
}

#[test]
fn every_command_in_the_readme_exists() {
    let readme = readme();
    let mut used = BTreeSet::new();
    for line in typed(&readme) {
        for arguments in calls(line) {
            let words = [vec!["cloudmap-dns".to_string()], arguments.clone()].concat();
            match cli::command().try_get_matches_from(words) {
                Ok(matches) => used.extend(matches.subcommand_name().map(String::from)),
                // `--help` and `--version` are errors of this kind.
                Err(message) => assert!(!message.use_stderr(), "README.md: `{line}`: {message}"),
            }
        }
    }
    for command in ["check", "env", "explain", "zone"] {
        assert!(used.contains(command), "README.md does not show the command {command}");
    }
}

#[test]
fn every_variable_in_the_readme_exists() {
    let readme = readme();
    let known: BTreeSet<String> = SETTINGS
        .iter()
        .map(|setting| setting.variable.clone())
        .chain([format!("{VARIABLE_PREFIX}{}", CONFIG_FLAG.to_uppercase())])
        .collect();
    for (at, _) in readme.match_indices(VARIABLE_PREFIX) {
        let name: String =
            readme[at..].chars().take_while(|char| char.is_ascii_uppercase() || *char == '_').collect();
        assert!(name == VARIABLE_PREFIX || known.contains(&name), "README.md: no setting has {name}");
    }
}

#[test]
fn the_settings_file_in_the_readme_is_accepted() {
    let readme = readme();
    let files: Vec<_> =
        code_blocks(&readme).into_iter().filter(|(language, _)| *language == "toml").collect();
    assert!(!files.is_empty(), "README.md shows no settings file");
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    for (number, (_, text)) in files.into_iter().enumerate() {
        let name = format!("readme-{number}.toml");
        fs::write(directory.join(&name), text).unwrap();
        let flags = BTreeMap::from([(CONFIG_FLAG.to_string(), vec![name])]);
        let sources =
            Sources { flags, variables: BTreeMap::<OsString, OsString>::new(), directory: directory.clone() };
        config::load(&sources).unwrap_or_else(|wrong| panic!("README.md, the settings file: {wrong}"));
    }
}

#[test]
fn the_ids_in_the_readme_are_those_that_the_walk_through_gets() {
    let readme = readme();
    let defaults = Config::default();
    let identity =
        Identity { account_id: defaults.account_id.as_str().into(), region: defaults.region.as_str().into() };
    let namespace = identity.namespace_id("DNS_PRIVATE", "production.local");
    let service = identity.service_id(&namespace, "backend");
    assert!(readme.contains(&format!("--namespace-id {namespace}")), "{namespace}");
    assert!(readme.contains(&format!("--service-id {service}")), "{service}");
}

#[test]
fn the_files_that_the_readme_links_to_are_there() {
    let readme = readme();
    for (at, _) in readme.match_indices("](") {
        let target = readme[at + 2..].split([')', '#']).next().unwrap();
        if !target.is_empty() && !target.contains("://") {
            assert!(at_root(target).exists(), "README.md links to {target}, which is not there");
        }
    }
}

#[test]
fn the_example_zone_is_right() {
    let zones = at_root("zones");
    assert!(zones.join("example.internal.zone").is_file());
    assert_eq!(check_directory(&zones), Vec::<String>::new());
}

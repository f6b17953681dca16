//! The README and the documents in `docs/` are true: their settings, commands, ids, files, metrics and links are those of the
//! program and the repository.

#![expect(clippy::unwrap_used, reason = "a panic is a failed test")]

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use cloudmap_dns::cli;
use cloudmap_dns::config::{self, CONFIG_FLAG, Config, SETTINGS, Sources, VARIABLE_PREFIX};
use cloudmap_dns::model::Identity;
use cloudmap_dns::snapshot::check_directory;

const README: &str = "README.md";
const SETTINGS_DOCUMENT: &str = "docs/settings.md";
const SETTINGS_BEGIN: &str = "<!-- settings -->\n";
const SETTINGS_END: &str = "<!-- /settings -->";
/// Ways in which the documents start the program: from its sources, or installed.
const PROGRAM: [&str; 2] = ["cargo run --release", "cloudmap-dns"];
const METRIC_PREFIX: &str = "cloudmap_dns_";
/// Most lines of the README: a front door, and not a manual.
const README_LINES_MAX: usize = 150;

/// A Markdown file that a user or contributor reads, with its path in the repository.
struct Document {
    path: String,
    text: String,
}

impl Document {
    fn read(path: &str) -> Document {
        Document { path: path.into(), text: fs::read_to_string(at_root(path)).unwrap() }
    }

    fn code_blocks(&self) -> Vec<(&str, &str)> {
        let parts = self.text.split("```").skip(1).step_by(2);
        parts.map(|block| block.split_once('\n').unwrap()).collect()
    }

    fn prose(&self) -> String {
        self.text.split("```").step_by(2).collect()
    }

    /// Words in backticks outside of code blocks, up to the first space of each.
    fn code_words(&self) -> BTreeSet<String> {
        let prose = self.prose();
        let spans = prose.split('`').skip(1).step_by(2);
        spans.filter_map(|span| span.split_whitespace().next()).map(String::from).collect()
    }

    fn link_targets(&self) -> Vec<String> {
        let prose = self.prose();
        prose.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0.to_string())).collect()
    }

    fn anchors(&self) -> BTreeSet<String> {
        let prose = self.prose();
        let headings = prose.lines().filter(|line| line.starts_with('#'));
        headings.map(|line| anchor(line.trim_start_matches('#').trim())).collect()
    }

    /// The commands that a reader types: every line of a `sh` block, and those with a prompt in a `console` block.
    fn typed(&self) -> Vec<&str> {
        let lines = self.code_blocks().into_iter().flat_map(|(language, text)| {
            text.lines().filter_map(move |line| match language {
                "sh" => Some(line),
                "console" => line.strip_prefix("$ "),
                _ => None,
            })
        });
        lines.map(|line| line.split(" #").next().unwrap_or_default().trim()).collect()
    }
}

fn at_root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn documents() -> Vec<Document> {
    let entries = fs::read_dir(at_root("docs")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut paths: Vec<_> =
        names.filter(|name| name.ends_with(".md")).map(|name| format!("docs/{name}")).collect();
    paths.sort();
    paths.insert(0, README.into());
    paths.iter().map(|path| Document::read(path)).collect()
}

fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|char| char.is_alphanumeric() || " -_".contains(*char));
    kept.map(|char| if char == ' ' { '-' } else { char.to_ascii_lowercase() }).collect()
}

/// The arguments of every call of the program in a line: up to the end of the command.
fn calls(line: &str) -> Vec<Vec<String>> {
    let commands = line.split(['&', '|', ';', '"', '(', ')', '<', '>']);
    let calls = commands.filter_map(|command| {
        let rest = PROGRAM.into_iter().find_map(|program| command.trim().strip_prefix(program))?;
        // The name of the settings file, `cloudmap-dns.toml`, begins with the program's name and is no call.
        let is_call = rest.is_empty() || rest.starts_with(' ');
        is_call.then(|| rest.split_whitespace().filter(|word| *word != "--").map(String::from).collect())
    });
    calls.collect()
}

fn source_text(directory: &Path) -> String {
    let mut text = String::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            text += &source_text(&path);
        } else {
            text += &fs::read_to_string(path).unwrap();
        }
    }
    text
}

#[test]
fn the_documents_list_every_setting_as_it_is() {
    let document = Document::read(SETTINGS_DOCUMENT);
    let listed = document.text.split_once(SETTINGS_BEGIN).and_then(|(_, rest)| rest.split_once(SETTINGS_END));
    let (listed, _) = listed.unwrap_or_else(|| {
        panic!("{SETTINGS_DOCUMENT} has no table of settings between {SETTINGS_BEGIN:?} and {SETTINGS_END:?}")
    });
    let expected = config::settings_reference();
    if listed != expected {
        let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("settings.md");
        fs::write(&file, &expected).unwrap();
        let missing = expected.lines().find(|line| !listed.lines().any(|listed| listed == *line));
        let surplus = listed.lines().find(|line| !expected.lines().any(|expected| expected == *line));
        panic!(
            "{SETTINGS_DOCUMENT} does not list the settings as they are.\nMissing: {missing:?}\nToo much: \
             {surplus:?}\nTo update, put the text of {} between {} and {SETTINGS_END} in {SETTINGS_DOCUMENT}.",
            file.display(),
            SETTINGS_BEGIN.trim()
        );
    }
}

#[test]
fn every_command_in_the_documents_exists() {
    let mut used = BTreeSet::new();
    for document in documents() {
        for line in document.typed() {
            for arguments in calls(line) {
                let words = [vec!["cloudmap-dns".to_string()], arguments].concat();
                match cli::command().try_get_matches_from(words) {
                    Ok(matches) => used.extend(matches.subcommand_name().map(String::from)),
                    // Clap returns `--help` and `--version` as errors.
                    Err(message) => assert!(!message.use_stderr(), "{}: `{line}`: {message}", document.path),
                }
            }
        }
    }
    for command in ["check", "env", "explain", "export", "history", "import", "maintenance", "serve", "zone"]
    {
        assert!(used.contains(command), "no document shows the command {command}");
    }
}

#[test]
fn every_variable_in_the_documents_exists() {
    let known: BTreeSet<String> = SETTINGS
        .iter()
        .map(|setting| setting.variable.clone())
        .chain([format!("{VARIABLE_PREFIX}{}", CONFIG_FLAG.to_uppercase())])
        .collect();
    let of_tests = fs::read_to_string(at_root("tests/run")).unwrap();
    for Document { path, text } in documents() {
        for (at, _) in text.match_indices(VARIABLE_PREFIX) {
            let name: String =
                text[at..].chars().take_while(|char| char.is_ascii_uppercase() || *char == '_').collect();
            // Documents for contributors may name the variables of the tests too.
            let is_of_tests = path != README && of_tests.contains(&name);
            let exists = name == VARIABLE_PREFIX || known.contains(&name) || is_of_tests;
            assert!(exists, "{path}: no setting has {name}");
        }
    }
}

#[test]
fn every_metric_in_the_documents_exists() {
    let sources = source_text(&at_root("src"));
    let mut named = 0;
    for Document { path, text } in documents() {
        for (at, _) in text.match_indices(METRIC_PREFIX) {
            let name = text[at + METRIC_PREFIX.len()..].chars();
            let name: String = name.take_while(|char| char.is_ascii_lowercase() || *char == '_').collect();
            if !name.is_empty() {
                named += 1;
                assert!(
                    sources.contains(&format!("\"{name}\"")),
                    "{path}: no metric is named {METRIC_PREFIX}{name}"
                );
            }
        }
    }
    assert!(named > 0, "no document names a metric");
}

#[test]
fn the_settings_files_in_the_documents_are_accepted() {
    let documents = documents();
    let files: Vec<_> = documents
        .iter()
        .flat_map(|document| document.code_blocks().into_iter().map(move |block| (document, block)))
        .filter(|(_, (language, _))| *language == "toml")
        .collect();
    assert!(!files.is_empty(), "no document shows a settings file");
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    for (number, (document, (_, text))) in files.into_iter().enumerate() {
        let name = format!("readme-{number}.toml");
        fs::write(directory.join(&name), text).unwrap();
        let flags = BTreeMap::from([(CONFIG_FLAG.to_string(), vec![name])]);
        let sources =
            Sources { flags, variables: BTreeMap::<OsString, OsString>::new(), directory: directory.clone() };
        config::load(&sources)
            .unwrap_or_else(|wrong| panic!("{}, the settings file: {wrong}", document.path));
    }
}

#[test]
fn the_ids_in_the_documents_are_those_that_the_walk_through_gets() {
    let defaults = Config::default();
    let identity =
        Identity { account_id: defaults.account_id.as_str().into(), region: defaults.region.as_str().into() };
    let namespace = identity.namespace_id("DNS_PRIVATE", "production.local");
    let service = identity.service_id(&namespace, "backend");
    let flags = [("--namespace-id ", namespace.to_string()), ("--service-id ", service.to_string())];
    for document in documents() {
        for (flag, id) in &flags {
            if document.path == README {
                assert!(document.text.contains(&format!("{flag}{id}")), "{id}");
            }
            for line in document.typed() {
                for rest in line.split(flag).skip(1) {
                    assert!(
                        rest.split_whitespace().next() == Some(id.as_str()),
                        "{}: `{line}`: {id}",
                        document.path
                    );
                }
            }
        }
    }
}

#[test]
fn every_link_in_the_documents_leads_somewhere() {
    let documents = documents();
    for document in &documents {
        let folder = Path::new(&document.path).parent().unwrap();
        for target in document.link_targets().iter().filter(|target| !target.contains("://")) {
            let (file, heading) = target.split_once('#').unwrap_or((target, ""));
            let path = at_root("").join(folder).join(file);
            assert!(
                file.is_empty() || path.exists(),
                "{} links to {target}: there is no such file",
                document.path
            );
            if heading.is_empty() {
                continue;
            }
            let text =
                if file.is_empty() { document.text.clone() } else { fs::read_to_string(path).unwrap() };
            assert!(
                Document { path: target.clone(), text }.anchors().contains(heading),
                "{} links to {target}: there is no such heading",
                document.path
            );
        }
    }
}

#[test]
fn every_document_is_in_the_readme() {
    let listed = Document::read(README).link_targets();
    for document in documents().iter().filter(|document| document.path != README) {
        assert!(listed.contains(&document.path), "README.md does not link to {}", document.path);
    }
}

#[test]
fn the_files_that_the_documents_name_exist() {
    // Folders of the repository. `zones/` is left out: documents name files that a user would have there.
    let beginnings = [".ci/", "benches/", "deploy/", "docs/", "src/", "tests/"];
    for document in documents() {
        for word in document.code_words() {
            let is_place = beginnings.iter().any(|beginning| word.starts_with(beginning));
            let is_pattern = word.contains(['<', '*', '{', '…', '$']);
            if is_place && !is_pattern {
                assert!(at_root(&word).exists(), "{} names {word}, which is not there", document.path);
            }
        }
    }
}

#[test]
fn the_readme_is_short() {
    let lines = Document::read(README).text.lines().count();
    assert!(lines <= README_LINES_MAX, "README.md has {lines} lines; move some of it to a document in docs/");
}

#[test]
fn the_example_zone_is_right() {
    let zones = at_root("zones");
    assert!(zones.join("example.internal.zone").is_file());
    assert_eq!(check_directory(&zones), Vec::<String>::new());
}

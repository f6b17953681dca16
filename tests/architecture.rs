//! The modules of `src/` import each other, and libraries, as the tables of `docs/architecture.md` allow.
//!
//! Sources are read as text, so that a path counts in `use`, inline and in a macro alike. Comments, literals and test code
//! do not count: modules under `#[cfg(test)]`, the files of such modules, and files named `tests.rs`. The compiler has
//! checked that every path exists, so that the first name after the crate's root is a module of `src/`.

#![expect(clippy::unwrap_used, reason = "a panic is a failed test")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

const DOCUMENT: &str = "docs/architecture.md";
/// The binary's module, which reaches the others by the crate's name.
const MAIN: &str = "main";
const CRATE_NAME: &str = "cloudmap_dns";

type Module = Vec<String>;

/// A name or one punctuation character of the source; `::` is one token.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Token {
    text: String,
    line: usize,
}

#[derive(Clone, Debug, Eq, PartialEq)]
struct Import {
    name: String,
    line: usize,
}

fn tokens(source: &str) -> Vec<Token> {
    let characters: Vec<char> = source.chars().collect();
    let at = |index: usize| characters.get(index).copied().unwrap_or('\0');
    let is_word = |character: char| character.is_alphanumeric() || character == '_';
    let mut tokens = Vec::new();
    let (mut index, mut line) = (0, 1);
    while index < characters.len() {
        let start = index;
        match at(index) {
            '/' if at(index + 1) == '/' => {
                while index < characters.len() && at(index) != '\n' {
                    index += 1;
                }
            }
            '/' if at(index + 1) == '*' => {
                let mut depth = 0;
                loop {
                    match (at(index), at(index + 1)) {
                        ('/', '*') => (depth, index) = (depth + 1, index + 2),
                        ('*', '/') => (depth, index) = (depth - 1, index + 2),
                        _ => index += 1,
                    }
                    if depth == 0 || index >= characters.len() {
                        break;
                    }
                }
            }
            '"' => index = end_of_text(&characters, index + 1, '"'),
            // A quote begins a character literal or a lifetime.
            '\'' if at(index + 1) == '\\' || at(index + 2) == '\'' => {
                index = end_of_text(&characters, index + 1, '\'');
            }
            ':' if at(index + 1) == ':' => {
                tokens.push(Token { text: "::".into(), line });
                index += 2;
            }
            character if is_word(character) => {
                while is_word(at(index)) {
                    index += 1;
                }
                let text: String = characters[start..index].iter().collect();
                let hashes = (index..).take_while(|index| at(*index) == '#').count();
                if matches!(&*text, "r" | "br" | "cr") && at(index + hashes) == '"' {
                    let end: Vec<char> =
                        std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
                    let from = index + hashes + 1;
                    let length = characters[from..].windows(end.len()).position(|window| window == end);
                    index = length.map_or(characters.len(), |length| from + length + end.len());
                } else if text == "r" && hashes == 1 {
                    // After `r#`, a keyword is a name.
                    index += 1;
                } else {
                    tokens.push(Token { text, line });
                }
            }
            character => {
                if !character.is_whitespace() {
                    tokens.push(Token { text: character.into(), line });
                }
                index += 1;
            }
        }
        line += characters[start..index.min(characters.len())].iter().filter(|c| **c == '\n').count();
    }
    tokens
}

fn end_of_text(characters: &[char], mut index: usize, quote: char) -> usize {
    while index < characters.len() && characters[index] != quote {
        index += if characters[index] == '\\' { 2 } else { 1 };
    }
    index + 1
}

fn is_at(tokens: &[Token], index: usize, wanted: &[&str]) -> bool {
    let found = tokens.iter().skip(index).map(|token| &*token.text);
    found.take(wanted.len()).eq(wanted.iter().copied())
}

fn end_of_group(tokens: &[Token], index: usize) -> usize {
    let mut depth = 0;
    for (at, token) in tokens.iter().enumerate().skip(index) {
        match &*token.text {
            "{" | "(" | "[" => depth += 1,
            "}" | ")" | "]" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    tokens.len()
}

/// The tokens without test modules, and the names of such modules that are files.
fn without_tests(tokens: &[Token]) -> (Vec<Token>, BTreeSet<String>) {
    let mut kept = Vec::new();
    let mut files = BTreeSet::new();
    let mut index = 0;
    while index < tokens.len() {
        if is_at(tokens, index, &["#", "[", "cfg", "(", "test", ")", "]"]) {
            let mut item = index + 7;
            while is_at(tokens, item, &["#", "["]) {
                item = end_of_group(tokens, item + 1);
            }
            if is_at(tokens, item, &["pub", "("]) {
                item = end_of_group(tokens, item + 1);
            }
            if is_at(tokens, item, &["mod"]) {
                if is_at(tokens, item + 2, &[";"]) {
                    files.insert(tokens[item + 1].text.clone());
                    index = item + 3;
                } else {
                    index = end_of_group(tokens, item + 2);
                }
                continue;
            }
        }
        kept.push(tokens[index].clone());
        index += 1;
    }
    (kept, files)
}

fn crate_imports(module: &Module, tokens: &[Token]) -> Vec<Import> {
    let is_main = module == &[MAIN];
    let root = if is_main { CRATE_NAME } else { "crate" };
    let mut imports = Vec::new();
    // Depths of braces at which inline modules began.
    let mut inner: Vec<usize> = Vec::new();
    let (mut depth, mut index) = (0, 0);
    while index < tokens.len() {
        match &*tokens[index].text {
            "mod" if is_at(tokens, index + 2, &["{"]) => inner.push(depth),
            "{" => depth += 1,
            "}" => {
                depth -= 1;
                inner.pop_if(|began| *began == depth);
            }
            text if text == root && is_at(tokens, index + 1, &["::"]) => {
                index += 1;
                imports.extend(names_after(tokens, index));
            }
            "super" if !is_main => {
                let mut ups = 1;
                while is_at(tokens, index + 1, &["::", "super"]) {
                    (ups, index) = (ups + 1, index + 2);
                }
                if ups >= module.len() + inner.len() && is_at(tokens, index + 1, &["::"]) {
                    index += 1;
                    imports.extend(names_after(tokens, index));
                }
            }
            _ => {}
        }
        index += 1;
    }
    imports.retain(|import| import.name != module[0]);
    imports
}

/// First names of the paths after the `::` at `index`: one, or those of a group.
fn names_after(tokens: &[Token], index: usize) -> Vec<Import> {
    let import = |token: &Token| Import { name: token.text.clone(), line: token.line };
    let Some(first) = tokens.get(index + 1) else { return Vec::new() };
    if first.text != "{" {
        return vec![import(first)];
    }
    let mut imports = Vec::new();
    let mut at = index + 2;
    let end = end_of_group(tokens, index + 1) - 1;
    while at < end {
        imports.push(import(&tokens[at]));
        while at < end && tokens[at].text != "," {
            at = if tokens[at].text == "{" { end_of_group(tokens, at) } else { at + 1 };
        }
        at += 1;
    }
    imports
}

fn library_imports<'t>(tokens: &'t [Token], library: &'t str) -> impl Iterator<Item = &'t Token> {
    let is_path = move |index: &usize| {
        let follows = index.checked_sub(1).is_some_and(|before| [".", "::"].contains(&&*tokens[before].text));
        !follows && is_at(tokens, *index, &[library, "::"])
    };
    (0..tokens.len()).filter(is_path).map(|index| &tokens[index])
}

fn at_root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The module of a file below `src/`; `None` for the crate's root, which only declares modules.
fn module_of(path: &Path) -> Option<Module> {
    let path = path.strip_prefix(at_root("src")).unwrap().with_extension("");
    let module: Module = path.iter().map(|name| name.to_str().unwrap().to_string()).collect();
    (module != ["lib"]).then_some(module)
}

fn rust_files(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

fn program() -> BTreeMap<Module, Vec<Token>> {
    let mut files = Vec::new();
    rust_files(&at_root("src"), &mut files);
    let mut program = BTreeMap::new();
    let mut tests = BTreeSet::new();
    for (module, path) in files.iter().filter_map(|path| Some((module_of(path)?, path))) {
        let (tokens, test_files) = without_tests(&tokens(&fs::read_to_string(path).unwrap()));
        tests.extend(test_files.into_iter().map(|name| [&module[..], &[name]].concat()));
        program.insert(module, tokens);
    }
    program.retain(|module, _| {
        let is_test = (1..=module.len()).any(|length| tests.contains(&module[..length]));
        !is_test && module.last().is_some_and(|name| name != "tests")
    });
    program
}

fn file_of(module: &Module) -> String {
    format!("src/{}.rs", module.join("/"))
}

/// The rows of a table of the document, between `<!-- name -->` and `<!-- /name -->`: the words in backquotes of the first
/// cell and of the last one.
fn table(document: &str, name: &str) -> Vec<(Vec<String>, Vec<String>)> {
    let (begin, end) = (format!("<!-- {name} -->"), format!("<!-- /{name} -->"));
    let rest = document.split_once(&begin).map(|(_, rest)| rest);
    let table = rest.and_then(|rest| rest.split_once(&end)).map(|(table, _)| table);
    let table = table.unwrap_or_else(|| panic!("{DOCUMENT} has no table between {begin} and {end}"));
    let words = |cell: &str| cell.split('`').skip(1).step_by(2).map(String::from).collect::<Vec<_>>();
    let rows = table.lines().filter(|line| line.starts_with('|')).skip(2);
    let rows: Vec<_> = rows
        .map(|row| {
            let cells: Vec<&str> = row.trim_matches('|').split(" | ").collect();
            (words(cells[0]), words(cells[cells.len() - 1]))
        })
        .collect();
    assert!(!rows.is_empty(), "{DOCUMENT}: the table {name} is empty");
    rows
}

fn document() -> String {
    fs::read_to_string(at_root(DOCUMENT)).unwrap()
}

fn faults(rows: &[(String, Vec<String>)], program: &BTreeMap<Module, Vec<Token>>) -> Vec<String> {
    let mut faults = Vec::new();
    let modules: BTreeSet<&str> = program.keys().map(|module| &*module[0]).collect();
    let listed: BTreeSet<&str> = rows.iter().map(|(module, _)| &**module).collect();
    faults.extend(modules.difference(&listed).map(|module| format!("the module {module} has no row")));
    faults
        .extend(listed.difference(&modules).map(|module| format!("there is no module {module}, but a row")));
    if listed.len() < rows.len() {
        faults.push("a module has two rows".into());
    }

    let mut used = BTreeSet::new();
    for (module, tokens) in program {
        for Import { name, line } in crate_imports(module, tokens) {
            let (from, file) = (&*module[0], file_of(module));
            if !modules.contains(&*name) {
                faults.push(format!(
                    "{file}:{line}: {name} is no module of src/; name the module that is imported"
                ));
                continue;
            }
            let row = rows.iter().find(|(module, _)| module == from);
            if !row.is_some_and(|(_, allowed)| allowed.contains(&name)) {
                faults.push(format!("{file}:{line}: {from} may not import {name}"));
            }
            used.insert((from, name));
        }
    }
    for (at, (module, allowed)) in rows.iter().enumerate() {
        for name in allowed {
            if !used.contains(&(&**module, name.clone())) {
                faults.push(format!("{module} may import {name}, and does not: take it out of the table"));
            }
            // If all imports come from rows above, there is no cycle.
            if !rows[..at].iter().any(|(above, _)| above == name) {
                faults.push(format!(
                    "{module} imports {name}, which is no row above it: a cycle, or the order is wrong"
                ));
            }
        }
    }
    faults
}

fn module_rows(document: &str) -> Vec<(String, Vec<String>)> {
    let row = |(first, allowed): (Vec<String>, _)| (first.into_iter().next().unwrap_or_default(), allowed);
    table(document, "modules").into_iter().map(row).collect()
}

#[test]
fn modules_import_each_other_as_the_table_allows() {
    let faults = faults(&module_rows(&document()), &program());
    assert!(
        faults.is_empty(),
        "The imports of src/ and the table of modules in {DOCUMENT} differ. Change the code, or the table with a reason:\n{}",
        faults.join("\n")
    );
}

#[test]
fn libraries_are_imported_only_where_the_table_allows() {
    let program = program();
    let mut faults = Vec::new();
    for (libraries, places) in table(&document(), "libraries") {
        let places: Vec<Module> =
            places.iter().map(|place| place.split("::").map(String::from).collect()).collect();
        for place in &places {
            let is_there = program.keys().any(|module| module.starts_with(place));
            assert!(is_there, "{DOCUMENT}: there is no module {}", place.join("::"));
        }
        for (module, tokens) in &program {
            if places.iter().any(|place| module.starts_with(place)) {
                continue;
            }
            for library in &libraries {
                let imports = library_imports(tokens, library);
                faults.extend(imports.map(|token| format!("{}:{}: {library}", file_of(module), token.line)));
            }
        }
    }
    assert!(faults.is_empty(), "Libraries outside of their modules ({DOCUMENT}):\n{}", faults.join("\n"));
}

/// The documents for maintainers. Other tests check the links of other documents.
const DOCUMENTS: [&str; 4] = [DOCUMENT, "docs/contributing.md", "docs/releasing.md", "docs/security.md"];
const FOLDERS: [&str; 4] = ["", "src", "tests/client", "deploy/helm/cloudmap-dns"];

#[test]
fn files_that_the_documents_name_exist() {
    let mut missing = Vec::new();
    for document in DOCUMENTS {
        let text = fs::read_to_string(at_root(document)).unwrap();
        let links = text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next());
        let links = links.filter(|link| !link.is_empty() && !link.contains("://"));
        let links = links.filter(|link| !at_root("docs").join(link).exists());
        missing.extend(links.map(|link| format!("{document}: {link}")));
        let is_path = |word: &&str| {
            let is_plain = word.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
            is_plain && word.contains('/') && !word.starts_with(['/', '-']) && !word.ends_with('/')
        };
        let is_there = |path: &&str| FOLDERS.iter().any(|folder| at_root(folder).join(path).exists());
        let paths = text.split('`').skip(1).step_by(2).filter(is_path);
        missing.extend(paths.filter(|path| !is_there(path)).map(|path| format!("{document}: {path}")));
    }
    assert!(missing.is_empty(), "Documents name files that are not there: {missing:#?}");
}

#[test]
fn forbidden_unused_and_circular_imports_are_faults() {
    let program = |sources: &[(&str, &str)]| -> BTreeMap<Module, Vec<Token>> {
        let module = |path: &str| path.split("::").map(String::from).collect();
        sources.iter().map(|(path, source)| (module(path), without_tests(&tokens(source)).0)).collect()
    };
    let rows = |rows: &[(&str, &[&str])]| -> Vec<(String, Vec<String>)> {
        let names = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        rows.iter().map(|(module, allowed)| (module.to_string(), names(allowed))).collect()
    };
    let good = program(&[("model", ""), ("zone", ""), ("dns", "use crate::zone::Name;"), ("dns::tcp", "")]);
    let table = rows(&[("model", &[]), ("zone", &[]), ("dns", &["zone"])]);
    assert_eq!(faults(&table, &good), [""; 0]);

    let mut forbidden = good.clone();
    forbidden.insert(vec!["dns".into(), "tcp".into()], tokens("\nuse super::super::model::Id;"));
    assert_eq!(faults(&table, &forbidden), ["src/dns/tcp.rs:2: dns may not import model"]);

    let unused = rows(&[("model", &[]), ("zone", &["model"]), ("dns", &["zone"])]);
    assert_eq!(faults(&unused, &good), ["zone may import model, and does not: take it out of the table"]);

    let circle = program(&[("zone", "use crate::dns::View;"), ("dns", "use crate::zone::Name;")]);
    let faults_of_circle = faults(&rows(&[("zone", &["dns"]), ("dns", &["zone"])]), &circle);
    assert_eq!(faults_of_circle.len(), 1, "{faults_of_circle:?}");
    assert!(faults_of_circle[0].contains("a cycle"), "{faults_of_circle:?}");

    let gone = rows(&[("model", &[]), ("zone", &[]), ("cache", &[]), ("dns", &["zone"])]);
    assert_eq!(faults(&gone, &good), ["there is no module cache, but a row"]);
    assert_eq!(faults(&table[..2], &good)[0], "the module dns has no row");
}

#[test]
fn paths_count_in_every_position_and_comments_do_not() {
    let names = |module: &str, source: &str| -> Vec<String> {
        let module: Module = module.split("::").map(String::from).collect();
        let (tokens, _) = without_tests(&tokens(source));
        crate_imports(&module, &tokens).into_iter().map(|import| import.name).collect()
    };
    for (module, source, expected) in [
        ("dns::tcp", "use crate::zone::{Name, leaf::Leaf};", &["zone"][..]),
        (
            "dns::tcp",
            "use crate::{model, registry::{State, plan}, zone as z};",
            &["model", "registry", "zone"],
        ),
        (
            "dns::tcp",
            "fn f() { let x: crate::api::Limits = crate::priority::behind_dns(); }",
            &["api", "priority"],
        ),
        ("dns::tcp", "pub(crate) use super::super::zone;", &["zone"]),
        ("dns", "use super::zone::Name;", &["zone"]),
        ("dns::tcp", "use super::zone::Name;", &[]),
        (
            "dns::tcp",
            "mod inner { use super::super::zone::Name; fn f() { super::super::super::api::g() } }",
            &["api"],
        ),
        ("dns::tcp", "mod inner { fn f() {} } use super::super::api;", &["api"]),
        ("dns", "macro_rules! m { () => { $crate::model::X } }", &["model"]),
        ("dns", "use crate::dns::answer; use self::tcp;", &[]),
        ("dns", "// crate::api\n/* /* crate::api */ crate::api */ /// [`crate::api`]\n", &[]),
        (
            "dns",
            r##"const A: &str = "crate::api"; const B: &str = r#""crate::api"#; const C: char = '"';"##,
            &[],
        ),
        ("dns", "fn f<'a>(c: char) -> bool { c == '\\'' || crate::api::g::<'a>() }", &["api"]),
        ("dns", "#[cfg(test)]\n#[allow(x)]\nmod tests { use crate::api; }\nuse crate::zone;", &["zone"]),
        ("dns", "#[cfg(test)]\nmod tests;\nuse crate::zone;", &["zone"]),
        ("main", "use cloudmap_dns::cli::{self, Hooks}; use cloudmap_dns::app;", &["cli", "app"]),
        ("dns", "use crate::*;", &["*"]),
    ] {
        assert_eq!(names(module, source), expected, "{module}: {source}");
    }
    let (_, files) = without_tests(&tokens("#[cfg(test)]\npub(crate) mod samples;"));
    assert!(files.contains("samples"));
    let source = tokens("use kube::Api; fn f() { k8s_openapi::kube::x(); self.kube::y; kube::z() }");
    assert_eq!(library_imports(&source, "kube").count(), 2);
}

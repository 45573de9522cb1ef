//! The rules of the house: `adapter/ARCHITECTURE.md` says which part may use which, and this looks.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use clap::Args as _;
use lumbar_testkit::root;

/// Source files over 600 lines. The list may only shrink: one that became shorter fails, too.
const LONG: &[&str] = &[];
/// Lines of a file that is not on the list.
const MOST_LINES: usize = 600;

/// Parts of the door that implement no interaction of the standard: the work behind all of them.
const NO_STANDARD: &[&str] = &["derive.rs", "outbox.rs", "unit.rs", "work.rs"];

/// What the libraries without IO must not name, and why.
const FORBIDDEN: &[(&str, &str)] = &[
    ("std::fs", "they are given bytes"),
    ("std::env", "they are given values"),
    ("std::net", "they do no IO"),
    ("std::process", "they do no IO"),
    ("std::io::std", "they do no IO"),
    ("std::time", "they are told the time"),
    ("std::thread", "they are called, they do not run"),
    ("SystemTime", "they are told the time"),
    ("Instant::now", "they are told the time"),
    ("Timestamp::now", "they are told the time"),
    ("Zoned::now", "they are told the time"),
    ("now_v7", "they are told the time"),
    ("new_v4", "their ids follow from names"),
    ("tokio", "they do no IO"),
    ("sqlx", "they know no SQL"),
    ("axum", "they know no HTTP"),
    ("reqwest", "they do no IO"),
    ("tracing::", "they return issues"),
    ("println!", "they return values"),
    ("async fn", "they do no IO"),
];

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Rust files of a folder and those within, in order.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Ok(entries) = std::fs::read_dir(folder) else { return found };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn below_root(path: &Path) -> String {
    path.strip_prefix(root()).unwrap().display().to_string()
}

/// The code of a file: without comments, and without its tests, which stand at its end.
fn code(path: &Path) -> String {
    let text = read(path);
    let text = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    text.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .map(|line| format!("{line}\n"))
        .collect()
}

/// The allowed edges: the block ```` ```edges ```` of ARCHITECTURE.md.
fn allowed() -> BTreeMap<String, BTreeSet<String>> {
    let path = root().join("adapter/ARCHITECTURE.md");
    assert!(path.is_file(), "{} is missing; it holds the list of edges", path.display());
    let text = read(&path);
    let block = text.split("```edges\n").nth(1).and_then(|rest| rest.split("```").next());
    let block = block.unwrap_or_else(|| panic!("{} has no block ```edges", path.display()));
    let mut edges = BTreeMap::new();
    for line in block.lines().filter(|line| !line.trim().is_empty()) {
        let (from, to) = line.split_once("->").unwrap_or_else(|| panic!("no edge: {line}"));
        let to = to.split_whitespace().map(str::to_owned).collect();
        let again = edges.insert(from.trim().to_owned(), to);
        assert!(again.is_none(), "{from} has two lines");
    }
    edges
}

/// Names that follow `prefix` in a file's code: `crate::a::…` and each of `crate::{a::…, b}`.
fn named(code: &str, prefix: &str) -> BTreeSet<String> {
    let word = |text: &str| -> String {
        text.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect()
    };
    let mut names = BTreeSet::new();
    for (index, _) in code.match_indices(prefix) {
        // `my_crate::` is another word.
        if code[..index].ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_' || c == '$') {
            continue;
        }
        let rest = &code[index + prefix.len()..];
        let Some(group) = rest.strip_prefix('{') else {
            names.insert(word(rest));
            continue;
        };
        let mut depth = 0;
        let mut item = String::new();
        for c in group.chars() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    names.insert(word(item.trim()));
                    item.clear();
                    continue;
                }
                _ => {}
            }
            item.push(c);
        }
        names.insert(word(item.trim()));
    }
    names.remove("");
    names
}

/// The edges that exist: crates by their manifests, modules of the application by what they name.
fn found() -> BTreeMap<String, BTreeSet<String>> {
    let crates = ["fhir", "clinical", "translate", "store"];
    let mut edges: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut manifests: Vec<(String, PathBuf)> = crates
        .iter()
        .map(|name| ((*name).to_owned(), root().join(format!("adapter/crates/{name}/Cargo.toml"))))
        .collect();
    manifests.push(("conformance".to_owned(), root().join("conformance-tests/Cargo.toml")));
    for (name, path) in manifests {
        let manifest: toml::Table = read(&path).parse().unwrap();
        let dependencies = manifest.get("dependencies").and_then(toml::Value::as_table);
        let names = dependencies.into_iter().flat_map(toml::Table::keys);
        let ours: BTreeSet<String> =
            names.filter_map(|name| name.strip_prefix("lumbar-")).map(str::to_owned).collect();
        edges.insert(name, ours);
    }
    let source = root().join("adapter/src");
    for path in sources(&source) {
        let below = path.strip_prefix(&source).unwrap();
        let first = below.components().next().unwrap().as_os_str().to_string_lossy().into_owned();
        let module = first.trim_end_matches(".rs").to_owned();
        if matches!(module.as_str(), "lib" | "main") {
            continue;
        }
        let code = code(&path);
        let of = edges.entry(module.clone()).or_default();
        of.extend(named(&code, "crate::").into_iter().filter(|name| *name != module));
        for name in crates {
            if code.contains(&format!("lumbar_{name}::")) {
                of.insert(name.to_owned());
            }
        }
    }
    edges.retain(|_, to| !to.is_empty());
    edges
}

#[test]
fn parts_use_only_what_the_architecture_allows() {
    let (allowed, found) = (allowed(), found());
    let none = BTreeSet::new();
    let mut wrong = Vec::new();
    for (from, to) in &found {
        for name in to.difference(allowed.get(from).unwrap_or(&none)) {
            wrong.push(format!("{from} -> {name} exists and is not in ARCHITECTURE.md"));
        }
    }
    for (from, to) in &allowed {
        for name in to.difference(found.get(from).unwrap_or(&none)) {
            wrong.push(format!("{from} -> {name} is in ARCHITECTURE.md and does not exist"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_libraries_do_no_io() {
    let mut wrong = Vec::new();
    for name in ["fhir", "clinical", "translate"] {
        for path in sources(&root().join(format!("adapter/crates/{name}/src"))) {
            if path.file_name().is_some_and(|name| name == "tests.rs") {
                continue;
            }
            let code = code(&path);
            for (word, why) in FORBIDDEN {
                if code.contains(word) {
                    wrong.push(format!("{} names {word}: {why}", below_root(&path)));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_door_knows_no_http_types_and_pages_no_store() {
    let source = root().join("adapter/src");
    let mut wrong = Vec::new();
    for (folder, words) in [
        ("facade", ["axum", "StatusCode", "reqwest"]),
        ("pages", ["lumbar_store", "sqlx", "reqwest"]),
    ] {
        let mut paths = sources(&source.join(folder));
        paths.push(source.join(format!("{folder}.rs")));
        for path in paths {
            let code = code(&path);
            wrong.extend(
                words
                    .iter()
                    .filter(|word| code.contains(**word))
                    .map(|word| format!("{} names {word}", below_root(&path))),
            );
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_file_of_the_door_begins_with_its_page_of_the_standard() {
    for path in sources(&root().join("adapter/src/facade")) {
        let text = read(&path);
        let heading: String = text.lines().take_while(|line| line.starts_with("//!")).collect();
        assert!(!heading.is_empty(), "{} has no heading", below_root(&path));
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        assert!(
            heading.contains("https://hl7.org/fhir/") || NO_STANDARD.contains(&name.as_str()),
            "{} names no page of the standard",
            below_root(&path)
        );
    }
}

#[test]
fn every_file_says_what_it_is_and_none_grows_too_long() {
    let mut wrong = Vec::new();
    let mut long = BTreeSet::new();
    for folder in ["adapter/src", "adapter/tests", "adapter/crates", "conformance-tests/src"] {
        for path in sources(&root().join(folder)) {
            let (name, text) = (below_root(&path), read(&path));
            // What tests are about, their neighbours say.
            let is_test = name.contains("/tests/") || name.ends_with("/tests.rs");
            if !is_test && !text.starts_with("//!") && !text.starts_with("#![doc") {
                wrong.push(format!("{name} does not say what it is"));
            }
            if text.lines().count() > MOST_LINES {
                long.insert(name);
            }
        }
    }
    let known: BTreeSet<String> = LONG.iter().map(|name| (*name).to_owned()).collect();
    wrong.extend(long.difference(&known).map(|name| format!("{name} is over {MOST_LINES} lines")));
    wrong.extend(
        known.difference(&long).map(|name| format!("{name} is short now: take it off the list")),
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Paths that the documents name in code marks exist.
#[test]
fn the_documents_name_files_that_exist() {
    let mut wrong = Vec::new();
    for document in
        ["README.md", "adapter/README.md", "adapter/ARCHITECTURE.md", "adapter/DESIGN.md"]
    {
        let path = root().join(document);
        if !path.is_file() {
            continue;
        }
        let text = read(&path);
        // Only prose: what stands between fences is an example.
        let prose: String = text.split("```").step_by(2).collect();
        for word in prose.split('`').skip(1).step_by(2) {
            let is_path = ["adapter/", "profiles/", "fixtures/", "conformance-tests/", "docker/"]
                .iter()
                .any(|top| word.starts_with(top));
            let plain = word.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
            if is_path && plain && !root().join(word).exists() {
                wrong.push(format!("{document} names {word}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The README's table has a row for each option of `serve`, with its variable and key.
#[test]
fn the_readme_names_every_option() {
    let command = lumbar::config::Options::augment_args(clap::Command::new("serve"));
    let readme = read(&root().join("README.md"));
    let rows: Vec<&str> = readme.lines().filter(|line| line.starts_with("| `--")).collect();
    let mut wrong = Vec::new();
    for option in command.get_arguments() {
        let Some(long) = option.get_long() else { continue };
        let variable = option.get_env().unwrap().to_string_lossy().into_owned();
        let found = rows.iter().any(|row| {
            let flag = row.split(['`', ' ']).any(|word| word == format!("--{long}"));
            flag && row.contains(&format!("`{variable}`")) && row.contains(&format!("| `{long}` |"))
        });
        if !found {
            wrong.push(format!("--{long}, {variable}"));
        }
    }
    assert!(wrong.is_empty(), "the README has no row for: {}", wrong.join("; "));
}

/// No file names a folder of the machine on which it was written.
#[test]
fn no_file_tells_where_it_was_written() {
    let homes = [concat!("/", "root/"), concat!("/", "work/"), concat!("/", "home/")];
    let mut wrong = Vec::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                if !matches!(name.as_str(), "target" | ".git") {
                    folders.push(path);
                }
                continue;
            }
            // What is no text names nothing.
            let Ok(text) = std::fs::read_to_string(&path) else { continue };
            wrong.extend(
                homes
                    .iter()
                    .filter(|home| text.contains(**home))
                    .map(|home| format!("{} names {home}", below_root(&path))),
            );
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

//! The rules of the code base that a compiler does not check.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

mod imports;
mod messages;
mod named_tests;

const LONGEST: usize = 400;

/// Which library only which modules of the host may know.
const LAYERS: &[(&str, &[&str])] = &[
    ("axum", &["http", "demo/registry"]),
    ("wasmtime", &["plugin", "capability", "contract"]),
    ("russh", &["ssh", "demo"]),
    ("sqlx", &["journal"]),
    ("clap", &["cli", "settings", "main"]),
    ("anyhow", &["cli", "main"]),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// Every Rust file of the project, by its path from the top.
fn sources() -> Vec<(String, String)> {
    let root = root();
    let mut found = Vec::new();
    let mut folders = ["host", "plugins", "tests"].map(|name| root.join(name)).to_vec();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                if path.file_name().is_some_and(|name| name != "target") {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(&root).unwrap().display().to_string();
                found.push((name, std::fs::read_to_string(&path).unwrap()));
            }
        }
    }
    assert!(found.len() > 50, "the sources are where they are looked for");
    found
}

#[test]
fn each_library_is_known_where_it_belongs_only() {
    let mut wrong = Vec::new();
    for (file, text) in sources() {
        let Some(module) = file.strip_prefix("host/src/") else { continue };
        for (library, modules) in LAYERS {
            let may = modules.iter().any(|allowed| {
                let rest = module.strip_prefix(allowed);
                rest.is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
            });
            let knows = text.lines().any(|line| {
                let code = line.split("//").next().unwrap_or_default();
                code.contains(&format!("{library}::")) || code.contains(&format!("{library}_"))
            });
            if knows && !may && !module.contains("tests") {
                wrong.push(format!("{file} knows {library}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn files_are_of_a_size_that_can_be_read() {
    let long: Vec<String> = sources()
        .into_iter()
        .filter(|(_, text)| text.lines().count() > LONGEST)
        .map(|(file, text)| format!("{file}: {} lines", text.lines().count()))
        .collect();
    assert!(long.is_empty(), "{long:#?}");
}

#[test]
fn a_module_is_a_file_of_its_name_and_says_what_it_is() {
    for (file, text) in sources() {
        assert!(!file.ends_with("mod.rs"), "{file}: call it by the module's name");
        let first = text.lines().next().unwrap_or_default();
        let silent = file.contains("tests") || file.starts_with("host/src/main");
        assert!(silent || first.starts_with("//!"), "{file} does not say what it owns");
    }
}

/// The files of a crate, by their paths below its `src`.
fn crate_files(folder: &str) -> BTreeMap<String, String> {
    let below = format!("{folder}/src/");
    let files = sources().into_iter();
    files.filter_map(|(file, text)| Some((file.strip_prefix(&below)?.to_owned(), text))).collect()
}

#[test]
fn each_module_knows_only_those_below_it() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let floors = imports::floors(&readme);
    assert!(floors.len() > 8, "the code map's floors are read: {floors:?}");
    let wrong = imports::upward(&imports::read(&crate_files("host")), &floors);
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn no_files_know_each_other() {
    let mut crates = vec!["host".to_owned(), "tests/plugins/naughty".to_owned()];
    for entry in std::fs::read_dir(root().join("plugins")).unwrap() {
        let entry = entry.unwrap();
        // The built components lie beside their crates.
        if entry.path().is_dir() {
            crates.push(format!("plugins/{}", entry.file_name().display()));
        }
    }
    let mut wrong = Vec::new();
    for folder in crates {
        let files = crate_files(&folder);
        assert!(!files.is_empty(), "{folder} has sources");
        let circles = imports::circles(&imports::read(&files));
        wrong.extend(circles.into_iter().map(|edge| format!("{folder}: {edge}")));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_list_of_messages_is_complete() {
    let path = root().join("tests/tidy/messages.txt");
    let list = messages::list(&sources());
    if std::env::var_os("DEPLOYER_BLESS").is_some() {
        std::fs::write(&path, &list).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    let difference = messages::difference(&committed, &list);
    assert!(
        difference.is_empty(),
        "{}\nread the texts that are new, then write the list: \
         DEPLOYER_BLESS=1 cargo test --release -p deployer-tests --test tidy",
        difference.join("\n")
    );
}

#[test]
fn each_test_that_the_readme_names_exists() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let named = named_tests::named(&readme);
    assert!(named.len() > 10, "the invariants name their tests: {named:?}");
    let sources = sources();
    let missing: Vec<_> = named.iter().filter(|named| !named_tests::exists(named, &sources)).collect();
    assert!(missing.is_empty(), "the README names tests that do not exist: {missing:#?}");
}

/// A job's and a release's state change by the model's own functions. Elsewhere, a record may only be made with the
/// state that it begins with.
#[test]
fn states_change_in_the_model_only() {
    let mut wrong = Vec::new();
    for (file, text) in crate_files("host") {
        let is_test =
            file.split('/').any(|part| part.trim_end_matches(".rs") == "tests") || file == "http/ledger.rs";
        if is_test || file.starts_with("model/") {
            continue;
        }
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        for line in code.lines().map(str::trim) {
            let assigned = line.contains(".state = ") || line.contains(".status = ReleaseStatus");
            let made = line.contains("state: JobState::")
                || line.contains("status: ReleaseStatus::") && !line.contains("ReleaseStatus::Candidate");
            if assigned || made || line.contains("SET status = '") {
                wrong.push(format!("{file}: {line}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

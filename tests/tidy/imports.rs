//! Who knows whom: read from every `use` and every path, so that the floors of the house stay floors.

use std::collections::{BTreeMap, BTreeSet};

use syn::visit::{self, Visit};

/// What each file knows of the others of its crate. Files are named by their modules: `job/runner`.
pub type Knows = BTreeMap<String, BTreeSet<String>>;

/// Reads a crate's files, by their paths below its `src`. Tests may know whom they like.
pub fn read(files: &BTreeMap<String, String>) -> Knows {
    let parsed: BTreeMap<String, syn::File> = files
        .iter()
        .filter(|(path, _)| !path.split('/').any(|part| part.trim_end_matches(".rs") == "tests"))
        .map(|(path, text)| {
            let file = syn::parse_file(text).unwrap_or_else(|error| panic!("{path}: {error}"));
            (path.trim_end_matches(".rs").to_owned(), file)
        })
        .collect();
    let modules: BTreeSet<&str> = parsed.keys().map(String::as_str).collect();
    let mut exports = BTreeMap::new();
    // What is handed on may have been handed on before.
    for _ in 0..3 {
        for (module, file) in &parsed {
            let found = found(file);
            for path in found.handed_on {
                if let Some(home) = resolve(module, &path, &modules, &exports) {
                    let name = path.last().cloned().unwrap_or_default();
                    exports.insert((module.clone(), name), home);
                }
            }
        }
    }
    let known = |(module, file): (&String, &syn::File)| {
        let homes =
            found(file).used.into_iter().filter_map(|path| resolve(module, &path, &modules, &exports));
        (module.clone(), homes.filter(|home| home != module).collect())
    };
    parsed.iter().map(known).collect()
}

/// The imports that lead up or aside: from a module to one that does not stand after it.
pub fn upward(knows: &Knows, floors: &[Vec<String>]) -> Vec<String> {
    let floor = |file: &str| {
        let module = file.split('/').next().unwrap_or_default();
        floors.iter().position(|floor| floor.iter().any(|name| name == module))
    };
    let mut wrong = Vec::new();
    for (file, homes) in knows {
        for home in homes {
            let (from, to) = (file.split('/').next(), home.split('/').next());
            match (floor(file), floor(home)) {
                _ if from == to || ["lib", "main"].contains(&file.as_str()) => {}
                (Some(from), Some(to)) if from < to => {}
                (Some(_), Some(_)) => wrong.push(format!("{file} knows {home}, which stands above it")),
                (None, _) | (_, None) => {
                    wrong.push(format!("{file} knows {home}: one is not in the code map"))
                }
            }
        }
    }
    wrong
}

/// The imports between files that know each other, directly or by way of others.
pub fn circles(knows: &Knows) -> Vec<String> {
    let mut left = knows.clone();
    loop {
        let files: BTreeSet<String> = left.keys().cloned().collect();
        let known: BTreeSet<String> = left.values().flatten().cloned().collect();
        let before = left.len();
        // Who knows none of those that are left, or is known by none, is in no circle.
        left.retain(|file, homes| {
            homes.retain(|home| files.contains(home));
            !homes.is_empty() && known.contains(file)
        });
        if left.len() == before {
            break;
        }
    }
    let edges =
        left.iter().flat_map(|(file, homes)| homes.iter().map(move |home| format!("{file} knows {home}")));
    edges.collect()
}

/// The modules of a README's code map, one floor a row.
pub fn floors(readme: &str) -> Vec<Vec<String>> {
    let (_, map) = readme.split_once("## Code map").expect("the README has a code map");
    let rows = map.lines().skip_while(|line| !line.starts_with("| ---")).skip(1);
    let rows = rows.take_while(|line| line.starts_with('|'));
    let first_cell = |row: &str| row.trim_start_matches('|').split('|').next().unwrap_or_default().to_owned();
    let names = |cell: String| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    rows.map(first_cell).map(names).collect()
}

/// The paths of a file that may lead to other files.
#[derive(Default)]
struct Found {
    used: Vec<Vec<String>>,
    handed_on: Vec<Vec<String>>,
}

fn found(file: &syn::File) -> Found {
    let mut found = Found::default();
    found.visit_file(file);
    found
}

impl<'ast> Visit<'ast> for Found {
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        let mut paths = Vec::new();
        leaves(&item.tree, &mut Vec::new(), &mut paths);
        match item.vis {
            syn::Visibility::Inherited => self.used.extend(paths),
            // Who hands something on does not work with it.
            syn::Visibility::Public(_) | syn::Visibility::Restricted(_) => self.handed_on.extend(paths),
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        let starts_here = |first: &String| ["crate", "super", "self"].contains(&first.as_str());
        if names.len() > 1 && names.first().is_some_and(starts_here) {
            self.used.push(names);
        }
        visit::visit_path(self, path);
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        let is_test = item.attrs.iter().any(|attribute| {
            attribute.path().is_ident("cfg")
                && attribute.parse_args::<syn::Path>().is_ok_and(|condition| condition.is_ident("test"))
        });
        if !is_test {
            visit::visit_item_mod(self, item);
        }
    }
}

fn leaves(tree: &syn::UseTree, before: &mut Vec<String>, paths: &mut Vec<Vec<String>>) {
    let leaf = |before: &[String], name: String| before.iter().cloned().chain([name]).collect();
    match tree {
        syn::UseTree::Path(path) => {
            before.push(path.ident.to_string());
            leaves(&path.tree, before, paths);
            before.pop();
        }
        syn::UseTree::Name(name) if name.ident == "self" => paths.push(before.clone()),
        syn::UseTree::Name(name) => paths.push(leaf(before, name.ident.to_string())),
        syn::UseTree::Rename(name) => paths.push(leaf(before, name.ident.to_string())),
        syn::UseTree::Glob(_) => paths.push(before.clone()),
        syn::UseTree::Group(group) => group.items.iter().for_each(|tree| leaves(tree, before, paths)),
    }
}

/// The file that a path of a module leads to; none where it leads out of the crate.
fn resolve(
    module: &str,
    path: &[String],
    modules: &BTreeSet<&str>,
    exports: &BTreeMap<(String, String), String>,
) -> Option<String> {
    let mut at: Vec<&str> = module.split('/').filter(|name| !["lib", "main"].contains(name)).collect();
    let mut names = path.iter().map(String::as_str).peekable();
    match names.peek() {
        Some(&"crate") => {
            at.clear();
            names.next();
        }
        Some(&"self") => {
            names.next();
        }
        Some(&"super") => {
            while names.next_if_eq(&"super").is_some() {
                at.pop();
            }
        }
        Some(first) if modules.contains([&at[..], &[*first]].concat().join("/").as_str()) => {}
        Some(_) | None => return None,
    }
    while let Some(name) =
        names.next_if(|name| modules.contains([&at[..], &[*name]].concat().join("/").as_str()))
    {
        at.push(name);
    }
    let mut home = at.join("/");
    while let Some(next) = names.peek().and_then(|name| exports.get(&(home.clone(), (*name).to_owned()))) {
        home.clone_from(next);
    }
    (!home.is_empty() && modules.contains(home.as_str())).then_some(home)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn knows(files: &[(&str, &str)]) -> Knows {
        read(&files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect())
    }

    fn house() -> Vec<Vec<String>> {
        floors(
            "## Code map\n\n| | |\n| --- | --- |\n| `http` | the door |\n| `job` | decides |\n| `model` | knows nothing |\n",
        )
    }

    #[test]
    fn a_planted_upward_import_is_found() {
        let good = [
            ("http.rs", "use crate::job::Job;"),
            ("job.rs", "mod run; pub use run::Job;"),
            ("job/run.rs", "use crate::model::Phase; pub struct Job;"),
            ("model.rs", "pub struct Phase;"),
        ];
        assert_eq!(upward(&knows(&good), &house()), Vec::<String>::new());
        let check = |planted: &str| {
            let mut files = good.to_vec();
            files[3].1 = planted;
            assert_eq!(upward(&knows(&files), &house()), ["model knows job/run, which stands above it"]);
        };
        check("use crate::job::Job; pub struct Phase;");
        check("pub struct Phase; fn of(job: &crate::job::Job) {}");
        check("pub struct Phase; mod inner { use super::super::job::run; }");
    }

    #[test]
    fn a_planted_circle_of_two_files_is_found() {
        let good = [
            ("job.rs", "mod run; mod step; pub use run::Job;"),
            ("job/run.rs", "use super::step::Step; pub struct Job;"),
            ("job/step.rs", "pub struct Step; #[cfg(test)] mod tests { use crate::job::Job; }"),
        ];
        assert_eq!(circles(&knows(&good)), Vec::<String>::new());
        let mut files = good;
        files[2].1 = "use super::Job; pub struct Step;";
        assert_eq!(circles(&knows(&files)), ["job/run knows job/step", "job/step knows job/run"]);
    }

    #[test]
    fn a_module_that_is_not_in_the_code_map_is_found() {
        let files = [("http.rs", "use crate::attic::Box;"), ("attic.rs", "pub struct Box;")];
        assert_eq!(upward(&knows(&files), &house()), ["http knows attic: one is not in the code map"]);
    }
}

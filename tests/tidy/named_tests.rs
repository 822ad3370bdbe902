//! The tests that the README names, and whether they exist.

use syn::visit::{self, Visit};

/// What stands as `` `path.rs::test` `` in a text.
pub fn named(text: &str) -> Vec<(String, String)> {
    let quoted = text.split('`').skip(1).step_by(2);
    let test = |quoted: &str| {
        let (file, name) = quoted.split_once(".rs::")?;
        let is_name = name.chars().all(|next| next.is_ascii_alphanumeric() || next == '_');
        is_name.then(|| (format!("{file}.rs"), name.to_owned()))
    };
    quoted.filter_map(test).collect()
}

/// Whether a file has a test of that name.
pub fn exists((file, name): &(String, String), sources: &[(String, String)]) -> bool {
    let Some((_, text)) = sources.iter().find(|(path, _)| path == file) else { return false };
    let Ok(parsed) = syn::parse_file(text) else { return false };
    let mut tests = Tests::default();
    tests.visit_file(&parsed);
    tests.names.iter().any(|found| found == name)
}

#[derive(Default)]
struct Tests {
    names: Vec<String>,
}

impl<'ast> Visit<'ast> for Tests {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        let is_test = |attribute: &syn::Attribute| {
            attribute.path().segments.last().is_some_and(|segment| segment.ident == "test")
        };
        if item.attrs.iter().any(is_test) {
            self.names.push(item.sig.ident.to_string());
        }
        visit::visit_item_fn(self, item);
    }
}

#[cfg(test)]
mod tests {
    use super::{exists, named};

    #[test]
    fn a_named_test_exists_or_does_not() {
        let named = named("held by `host/src/a.rs::it_holds`, see `a.rs` and `Vec::new`");
        assert_eq!(named, [("host/src/a.rs".to_owned(), "it_holds".to_owned())]);
        let check = |source: &str, expect: bool| {
            let sources = [("host/src/a.rs".to_owned(), source.to_owned())];
            assert_eq!(exists(&named[0], &sources), expect, "{source}");
        };
        check("mod tests { #[tokio::test] async fn it_holds() {} }", true);
        check("#[test] fn it_holds() {}", true);
        check("fn it_holds() {}", false);
        check("// #[test] fn it_holds() {}", false);
    }
}

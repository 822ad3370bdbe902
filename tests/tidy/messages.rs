//! Every text that a user can see, in one list: `messages.txt`, beside this file.
//!
//! A text is a string literal of two words or more that is not a test's, a query's or a script's; or the
//! help of a flag, a command or a setting. Format strings are listed as they are written.

use std::collections::BTreeSet;
use std::fmt::Write;

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};

/// The texts of these files, each file under its name, in the order in which they stand there.
pub fn list(files: &[(String, String)]) -> String {
    let mut files: Vec<_> = files.iter().filter(|(file, _)| is_the_products(file)).collect();
    files.sort();
    let mut list = String::new();
    for (file, text) in files {
        let parsed = syn::parse_file(text).unwrap_or_else(|error| panic!("{file}: {error}"));
        let mut texts = Texts::default();
        texts.visit_file(&parsed);
        if !texts.found.is_empty() {
            let _ = writeln!(list, "{file}");
            for text in texts.found {
                let _ = writeln!(list, "  {}", one_line(text.trim()));
            }
        }
    }
    list
}

/// The first lines in which two lists differ: what is gone, and what is new.
pub fn difference(old: &str, new: &str) -> Vec<String> {
    let lines = |text: &str| {
        let mut file = String::new();
        let mut lines = BTreeSet::new();
        for line in text.lines() {
            match line.strip_prefix("  ") {
                Some(text) => drop(lines.insert(format!("{file}: {text}"))),
                None => file = line.to_owned(),
            }
        }
        lines
    };
    let (old_lines, new_lines) = (lines(old), lines(new));
    let gone = old_lines.difference(&new_lines).map(|line| format!("- {line}"));
    let added = new_lines.difference(&old_lines).map(|line| format!("+ {line}"));
    let mut differences: Vec<String> = gone.chain(added).collect();
    if differences.is_empty() && old != new {
        differences.push("the same texts, in another order".to_owned());
    }
    differences.truncate(12);
    differences
}

/// Control characters appear escaped.
fn one_line(text: &str) -> String {
    let shown = |next: char| match next.is_control() {
        true => next.escape_default().to_string(),
        false => next.to_string(),
    };
    text.chars().map(shown).collect()
}

/// What is built into the deployer or a shipped plugin, and is not a test.
fn is_the_products(file: &str) -> bool {
    let parts: Vec<&str> = file.trim_end_matches(".rs").split('/').collect();
    let product = match parts.as_slice() {
        ["host", "src", ..] => true,
        ["plugins", _, folder, ..] => *folder == "src",
        _ => false,
    };
    product && !parts.contains(&"tests")
}

#[derive(Default)]
struct Texts {
    found: Vec<String>,
    /// Whether the doc comments around here are shown to users: as help, or as the description of a setting.
    docs_are_shown: bool,
}

impl Texts {
    fn take(&mut self, text: &str) {
        if is_for_people(text) && !self.found.iter().any(|found| found == text) {
            self.found.push(text.to_owned());
        }
    }

    /// All string literals in what a macro is given.
    fn tokens(&mut self, tokens: TokenStream) {
        for token in tokens {
            match token {
                TokenTree::Group(group) => self.tokens(group.stream()),
                TokenTree::Literal(literal) => {
                    if let Ok(literal) = syn::parse_str::<syn::LitStr>(&literal.to_string()) {
                        self.take(&literal.value());
                    }
                }
                TokenTree::Ident(_) | TokenTree::Punct(_) => {}
            }
        }
    }

    /// A doc comment, as one text, where it is shown.
    fn take_docs(&mut self, attributes: &[syn::Attribute]) {
        let line = |attribute: &syn::Attribute| match &attribute.meta {
            syn::Meta::NameValue(syn::MetaNameValue {
                path,
                value: syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(text), .. }),
                ..
            }) if path.is_ident("doc") => Some(text.value().trim().to_owned()),
            _ => None,
        };
        if self.docs_are_shown {
            let lines: Vec<String> = attributes.iter().filter_map(line).collect();
            self.take(&lines.join(" "));
        }
    }

    /// A type whose doc comments are shown has `derive(Parser)` or the like.
    fn with_docs(&mut self, attributes: &[syn::Attribute], visit: impl FnOnce(&mut Self)) {
        let before = self.docs_are_shown;
        self.docs_are_shown = attributes.iter().any(|attribute| {
            let derives = attribute.path().is_ident("derive").then(|| attribute.meta.require_list());
            derives.and_then(Result::ok).is_some_and(|list| {
                let names = list.tokens.to_string();
                ["Parser", "Args", "Subcommand", "ValueEnum", "JsonSchema"]
                    .iter()
                    .any(|name| names.split(|next: char| !next.is_alphanumeric()).any(|word| word == *name))
            })
        });
        self.take_docs(attributes);
        visit(self);
        self.docs_are_shown = before;
    }
}

impl<'ast> Visit<'ast> for Texts {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        let attributes: &[syn::Attribute] = match item {
            syn::Item::Mod(item) => &item.attrs,
            syn::Item::Fn(item) => &item.attrs,
            syn::Item::Impl(item) => &item.attrs,
            syn::Item::Const(item) => &item.attrs,
            syn::Item::Static(item) => &item.attrs,
            syn::Item::Struct(item) => &item.attrs,
            syn::Item::Enum(item) => &item.attrs,
            _ => &[],
        };
        if !attributes.iter().any(is_test) {
            self.with_docs(attributes, |texts| visit::visit_item(texts, item));
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        if !item.attrs.iter().any(is_test) {
            visit::visit_impl_item_fn(self, item);
        }
    }

    fn visit_field(&mut self, field: &'ast syn::Field) {
        self.take_docs(&field.attrs);
        visit::visit_field(self, field);
    }

    fn visit_variant(&mut self, variant: &'ast syn::Variant) {
        self.take_docs(&variant.attrs);
        visit::visit_variant(self, variant);
    }

    fn visit_attribute(&mut self, attribute: &'ast syn::Attribute) {
        let path = attribute.path();
        if ["error", "arg", "command", "clap", "value", "group"].iter().any(|name| path.is_ident(name))
            && let Ok(list) = attribute.meta.require_list()
        {
            self.tokens(list.tokens.clone());
        }
    }

    fn visit_lit_str(&mut self, literal: &'ast syn::LitStr) {
        self.take(&literal.value());
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        let name = call.path.segments.last().map(|segment| segment.ident.to_string()).unwrap_or_default();
        let is_for_developers = name.contains("assert")
            || ["unreachable", "panic", "query", "generate", "world"].contains(&name.as_str());
        if !is_for_developers {
            self.tokens(call.tokens.clone());
        }
    }

    fn visit_expr_method_call(&mut self, call: &'ast syn::ExprMethodCall) {
        if call.method == "expect" {
            self.visit_expr(&call.receiver);
        } else {
            visit::visit_expr_method_call(self, call);
        }
    }
}

fn is_test(attribute: &syn::Attribute) -> bool {
    let cfg = attribute.path().is_ident("cfg").then(|| attribute.meta.require_list());
    let is_for_tests = cfg.and_then(Result::ok).is_some_and(|list| list.tokens.to_string().contains("test"));
    is_for_tests || attribute.path().is_ident("test")
}

/// Words beside each other, and none of what only a program reads.
fn is_for_people(text: &str) -> bool {
    const QUERIES: [&str; 9] =
        ["SELECT ", "INSERT ", "UPDATE ", "DELETE ", "CREATE ", "ALTER ", "PRAGMA ", "BEGIN ", "WITH "];
    const SCRIPTS: [&str; 9] = ["\"$", "$1", "$@", "command -v", ">&2", "2>&1", "2>/dev/null", "#!/", "%s"];
    let start = text.trim_start();
    let is_program = QUERIES.iter().any(|word| start.starts_with(word))
        || SCRIPTS.iter().any(|part| text.contains(part))
        || start.starts_with("{{");
    let words = text.split_whitespace().count();
    let mut depth = 0_usize;
    let has_words = text.split_whitespace().any(|word| {
        word.chars().any(|next| {
            match next {
                '{' => depth += 1,
                '}' => depth = depth.saturating_sub(1),
                _ => {}
            }
            depth == 0 && next.is_alphabetic()
        })
    });
    words > 1 && has_words && !is_program
}

#[cfg(test)]
mod tests {
    use super::{difference, list};

    fn check(source: &str, expect: &str) {
        let listed = list(&[("host/src/x.rs".to_owned(), source.to_owned())]);
        let texts: Vec<&str> = listed.lines().skip(1).map(str::trim_start).collect();
        assert_eq!(texts.join("|"), expect, "{source}");
    }

    #[test]
    fn texts_are_found_wherever_they_stand() {
        check(r#"const WHY: &str = "the disk is full";"#, "the disk is full");
        check(
            r#"fn f() { g("one", format!("read {path}"), "{a} {b}", "{a}: {} left") }"#,
            "read {path}|{a}: {} left",
        );
        check(r#"#[derive(Error)] enum E { #[error("no {0} there")] A(u8) }"#, "no {0} there");
        check(
            "/// Deploys it.\n#[derive(Parser)] struct A {\n /// Says more\n /// than before.\n loud: bool }",
            "Deploys it.|Says more than before.",
        );
        check("/// Not shown.\nstruct B;", "");
        check(r#"fn f() { x.json(json!({"detail": ["it is gone"]})) }"#, "it is gone");
        check("fn f() { g(\"a line\\n  of two\") }", "a line\\n  of two");
    }

    #[test]
    fn what_only_programs_read_is_left_out() {
        check(
            r#"fn f() { query("SELECT id FROM jobs"); run("exec \"$1\" logs"); x.expect("is there now") }"#,
            "",
        );
        check(
            r#"#[cfg(test)] mod tests { const A: &str = "of a test"; } #[serde(rename = "a b")] struct C;"#,
            "",
        );
        assert_eq!(list(&[("tests/x.rs".to_owned(), "const A: &str = \"a text\";".to_owned())]), "");
    }

    #[test]
    fn a_difference_says_what_is_gone_and_what_is_new() {
        let (old, new) = ("a.rs\n  one text\n  two texts\n", "a.rs\n  one text\n  three texts\n");
        assert_eq!(difference(old, new), ["- a.rs: two texts", "+ a.rs: three texts"]);
        assert_eq!(difference(old, old), Vec::<String>::new());
    }
}

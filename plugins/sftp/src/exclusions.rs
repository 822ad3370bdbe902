//! What is left out of a transfer, in `.gitignore`'s syntax.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use deployer_plugin::source::LEFT_OUT;
use deployer_plugin::types::Error;
use ignore::gitignore::{Gitignore, GitignoreBuilder};

use crate::settings::Settings;

/// A service's own list of what to leave out, in its folder.
pub const LIST: &str = ".deployignore";

/// What is left out besides [`LEFT_OUT`]. A `.env` file holds a developer's secrets: a server gets its
/// environment from the request, sealed. Examples of one are not secret.
const PATTERNS: [&str; 7] =
    ["*.pyc", ".env", ".env.*", "!.env.example", "!.env.sample", "!.env.template", "/.deployignore"];

pub struct Exclusions(Gitignore);

impl Exclusions {
    /// Whoever comes later has the last word: what is always left out, the service's list, the settings.
    ///
    /// # Errors
    /// When a pattern cannot be understood, or the service's list cannot be read.
    pub fn new(root: &Path, settings: &Settings) -> Result<Self, Error> {
        let listed = listed(root)?;
        let mut all = Patterns::default();
        for pattern in LEFT_OUT.iter().chain(&PATTERNS) {
            all.add(pattern, "the plugin's own list")?;
        }
        for pattern in listed.lines() {
            all.add(pattern, LIST)?;
        }
        for pattern in &settings.exclude {
            all.add(pattern, "the setting `exclude`")?;
        }
        for pattern in &settings.include {
            all.add(&format!("!{pattern}"), "the setting `include`")?;
        }
        all.build().map(Self)
    }

    pub fn leave_out(&self, path: &str, is_folder: bool) -> bool {
        self.0.matched(path, is_folder).is_ignore()
    }
}

/// The files that the setting `executable` names.
pub struct Executables(Gitignore);

impl Executables {
    /// # Errors
    /// When a pattern cannot be understood.
    pub fn new(settings: &Settings) -> Result<Self, Error> {
        let mut all = Patterns::default();
        for pattern in &settings.executable {
            all.add(pattern, "the setting `executable`")?;
        }
        all.build().map(Self)
    }

    pub fn contain(&self, path: &str) -> bool {
        self.0.matched_path_or_any_parents(path, false).is_ignore()
    }
}

struct Patterns(GitignoreBuilder);

impl Default for Patterns {
    fn default() -> Self {
        Self(GitignoreBuilder::new(""))
    }
}

impl Patterns {
    fn add(&mut self, pattern: &str, origin: &str) -> Result<(), Error> {
        self.0.add_line(None, pattern).map(|_| ()).map_err(|error| {
            Error::request(
                format!("read the pattern `{pattern}` from {origin}"),
                error,
                "write it in the syntax of .gitignore",
            )
        })
    }

    fn build(self) -> Result<Gitignore, Error> {
        self.0.build().map_err(|error| {
            Error::request("read the exclusion patterns", error, "use fewer, simpler patterns")
        })
    }
}

fn listed(root: &Path) -> Result<String, Error> {
    match fs::read_to_string(root.join(LIST)) {
        Ok(text) => Ok(text),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(Error::request(
            format!("read the service's {LIST}"),
            error,
            "make it a readable UTF-8 file, or remove it",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(list: &str, exclude: &[&str], include: &[&str], cases: &[(&str, bool, bool)]) {
        let root = tempfile::tempdir().expect("a folder");
        fs::write(root.path().join(LIST), list).expect("a list");
        let texts = |patterns: &[&str]| patterns.iter().map(ToString::to_string).collect();
        let settings = Settings { exclude: texts(exclude), include: texts(include), ..Settings::default() };
        let exclusions = Exclusions::new(root.path(), &settings).expect("patterns");
        for &(path, is_folder, expected) in cases {
            assert_eq!(exclusions.leave_out(path, is_folder), expected, "{path}");
        }
    }

    #[test]
    fn histories_caches_and_secrets_stay_behind() {
        check(
            "",
            &[],
            &[],
            &[
                (".git", true, true),
                (".gitignore", false, false),
                ("app/__pycache__", true, true),
                ("app/main.pyc", false, true),
                ("app/main.py", false, false),
                (".env", false, true),
                ("app/.env.production", false, true),
                (".env.example", false, false),
                ("environment.py", false, false),
                ("node_modules", true, true),
                (".deployignore", false, true),
            ],
        );
    }

    #[test]
    fn the_last_word_has_whoever_comes_later() {
        check(
            "# notes\n/notes/\n*.log\n!keep.log\n",
            &["keep.log", "*.sqlite"],
            &[".env", "/data/seed.sqlite"],
            &[
                ("notes", true, true),
                ("app/notes", true, false),
                ("a.log", false, true),
                ("keep.log", false, true),
                (".env", false, false),
                (".env.local", false, true),
                ("data/seed.sqlite", false, false),
                ("seed.sqlite", false, true),
            ],
        );
    }

    #[test]
    fn a_pattern_that_makes_no_sense_is_named() {
        let settings = Settings { exclude: vec!["a[z-a]".into()], ..Settings::default() };
        let root = tempfile::tempdir().expect("a folder");
        let error = Exclusions::new(root.path(), &settings).err().expect("a refusal");
        assert!(error.attempted.contains("`a[z-a]`"), "{}", error.attempted);
        assert!(error.attempted.contains("exclude"), "{}", error.attempted);
    }
}

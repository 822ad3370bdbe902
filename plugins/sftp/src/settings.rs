//! The settings of a transfer.

#[derive(Debug, Default, schemars::JsonSchema, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// More to leave out: patterns in `.gitignore`'s syntax, relative to the service's folder. They come after
    /// what is always left out (version control, caches, virtual environments, node_modules, .env files) and
    /// after the service's own `.deployignore`.
    pub exclude: Vec<String>,
    /// What to send after all: patterns in the same syntax, for something that is left out otherwise. A file in
    /// a folder that is left out comes back only with its folder.
    pub include: Vec<String>,
    /// Files that are made executable on the target although they are not here: patterns in the same syntax.
    /// All others keep their permission bits.
    pub executable: Vec<String>,
}

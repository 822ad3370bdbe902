//! The settings of a transfer.

#[derive(Debug, Default, schemars::JsonSchema, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// What else to exclude: patterns in `.gitignore`'s syntax, relative to the service's folder. They come after
    /// what is always excluded (version control, caches, virtual environments, node_modules, .env files) and
    /// after the service's own `.deployignore`.
    pub exclude: Vec<String>,
    /// What to send although it would be excluded: patterns in the same syntax. A file in
    /// an excluded folder is sent only if its folder is included too.
    pub include: Vec<String>,
    /// Files to make executable on the target although they are not executable here: patterns in the same syntax.
    /// All other files keep their permission bits.
    pub executable: Vec<String>,
}

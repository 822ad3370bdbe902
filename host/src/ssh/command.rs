//! What a remote command is, how it is written on one shell line, and what came of it.
//! Nothing is sent from here.

use std::fmt;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::SshError;
use crate::model::RemoteProcess;

/// A command for the target, as an argument list: no shell reads its words.
#[derive(Clone)]
pub struct RemoteCommand {
    /// The program and its arguments. They are visible in the target's `ps`: no secrets here.
    pub argv: Vec<String>,
    /// Where it runs; the login directory if absent.
    pub directory: Option<String>,
    /// A file on the target of `NAME="value"` lines, as `environment_text` writes them. The target's
    /// shell reads it; its values never pass through a command line.
    pub environment_file: Option<String>,
    /// What the command reads on its standard input; it is at its end at once if absent.
    pub input: Option<Vec<u8>>,
    /// How long it may run before its process group is ended.
    pub timeout: Duration,
    /// Ends its process group when cancelled.
    pub cancel: CancellationToken,
}

/// Follows a command while it runs.
pub trait Watch: Send {
    /// The process exists. Whoever keeps this can end it later with `Ssh::kill_group`.
    fn started(&mut self, process: &RemoteProcess) {
        let _ = process;
    }

    /// One line of output, without its end. Carriage returns end a line too, and a very long line
    /// is cut.
    fn line(&mut self, stream: Stream, line: &str) {
        let _ = (stream, line);
    }
}

/// Nobody follows.
impl Watch for () {}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    Stdout,
    Stderr,
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exit {
    Code(u32),
    /// The signal's name without `SIG`.
    Signal(String),
}

/// What a finished command left.
#[derive(Debug, Clone)]
pub struct Output {
    pub exit: Exit,
    /// At most the last MiB; a first line in brackets says how much was left out.
    pub stdout: String,
    /// As `stdout`.
    pub stderr: String,
    pub duration: Duration,
}

/// An environment file's text. It holds any values, with any characters but NUL, and both a shell
/// and systemd's `EnvironmentFile=` read it alike.
pub fn environment_text<'a>(
    variables: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Result<String, SshError> {
    let mut text = String::new();
    for (name, value) in variables {
        let bad = |problem| SshError::BadVariable { name: name.to_owned(), problem };
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if name.is_empty() || !name.chars().all(plain) || name.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(bad("it is not a valid name of a shell variable"));
        }
        if value.contains('\0') {
            return Err(bad("its value has a NUL character"));
        }
        text.push_str(name);
        text.push_str("=\"");
        for c in value.chars() {
            if matches!(c, '"' | '\\' | '$' | '`') {
                text.push('\\');
            }
            text.push(c);
        }
        text.push_str("\"\n");
    }
    Ok(text)
}

impl RemoteCommand {
    /// A command in the login directory, without input, with five minutes.
    pub fn new<S: Into<String>>(argv: impl IntoIterator<Item = S>) -> Self {
        Self {
            argv: argv.into_iter().map(Into::into).collect(),
            directory: None,
            environment_file: None,
            input: None,
            timeout: Duration::from_secs(300),
            cancel: CancellationToken::new(),
        }
    }

    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The command for messages, on one line and not too long.
    pub fn shown(&self) -> String {
        let words = self.argv.iter().map(|word| {
            shlex::try_quote(word).map_or_else(|_| format!("{word:?}"), |quoted| quoted.into_owned())
        });
        let line = words.collect::<Vec<_>>().join(" ").replace('\n', "\\n");
        match line.char_indices().nth(160) {
            Some((end, _)) => format!("{}…", line.get(..end).unwrap_or_default()),
            None => line,
        }
    }

    /// The line for the target's login shell. `nonce` marks the wrapper's own words in the output.
    /// `fence` is a lease's folder and token, when it runs only under that lease.
    pub(super) fn line(&self, nonce: &str, fence: Option<(&str, &str)>) -> Result<String, SshError> {
        let bad = |problem: String| SshError::BadCommand { command: self.shown(), problem };
        if self.argv.first().is_none_or(String::is_empty) {
            return Err(bad("it has no program".into()));
        }
        let absolute = |path: &Option<String>, what: &str| match path {
            Some(path) if !path.starts_with('/') => {
                Err(bad(format!("its {what} {path:?} is not an absolute path")))
            }
            _ => Ok(()),
        };
        absolute(&self.directory, "directory")?;
        absolute(&self.environment_file, "environment file")?;

        let directory = self.directory.as_deref().unwrap_or_default();
        let environment = self.environment_file.as_deref().unwrap_or_default();
        let (lease, token) = fence.unwrap_or_default();
        let words = ["exec", "sh", "-c", r#"eval "$1""#, "sh", WRAPPER, nonce, directory, environment]
            .into_iter()
            .chain([lease, token, "first"])
            .chain(self.argv.iter().map(String::as_str));
        let line = shlex::try_join(words).map_err(|_| bad("it has a NUL character".into()))?;
        // The shell gets the line as one argument, and Linux allows 128 KiB for one.
        if line.len() > 120_000 {
            return Err(bad(format!(
                "it is {} bytes long, and the limit is 120000; send data as its input",
                line.len()
            )));
        }
        Ok(line)
    }
}

/// Runs on the target before the command, in its place: names the process group, looks for
/// the lease, enters the directory, reads the environment, and becomes the command. It speaks last on both streams, so
/// that what login files print is not taken for the command's output.
///
/// sshd makes each command's process the leader of a group of its own. If some other server does
/// not, `setsid` does; ending a group that is not the command's own would end strangers.
const WRAPPER: &str = r#"
_g= _t= _b=
_f() { if [ $# -ge 20 ]; then _g=$3; shift 19; _t=$1; fi; }
{ read -r _l </proc/$$/stat && _f ${_l##*) }; read -r _b </proc/sys/kernel/random/boot_id; } 2>/dev/null
if [ -n "$_g" ] && [ "$_g" != "$$" ]; then
  if [ "$7" != first ] || ! command -v setsid >/dev/null 2>&1; then
    printf '%s no-group\n' "$2"; exit 126
  fi
  _s=$1 _n=$2 _d=$3 _e=$4 _l=$5 _k=$6; shift 7
  exec setsid sh -c 'eval "$1"' sh "$_s" "$_n" "$_d" "$_e" "$_l" "$_k" again "$@"
fi
_n=$2 _d=$3 _e=$4 _l=$5 _k=$6; shift 7
if [ -n "$_l" ]; then
  _x=
  { read -r _x; read -r _x; } 2>/dev/null <"$_l/lock"
  [ "$_x" = "$_k" ] || { printf '%s fenced\n' "$_n"; exit 126; }
  # On a full disk the name is missing: then nobody but its own deployer can end the command.
  { printf '%s %s\n' "$$" "$_b/$_t" >"$_l/lock.running"; } 2>/dev/null || :
fi
if [ -n "$_d" ]; then cd -- "$_d" || { printf '%s no-directory\n' "$_n"; exit 126; }; fi
# From here on the file's variables may have any name: what is still needed is in the arguments.
set -- "$_n started $$ $_b/$_t" "$@"
if [ -n "$_e" ]; then
  [ -f "$_e" ] && [ -r "$_e" ] || { printf '%s no-environment\n' "$_n"; exit 126; }
  set -a; . "$_e"; set +a
fi
printf '%s\n' "$1"; printf '%s\n' "$1" >&2; shift
exec "$@"
"#;

/// Ends a process group: asks, waits up to two seconds, then kills. Prints what became of it.
pub(super) const KILL: &str = r#"
g=$1 started=$2 t= b=
f() { if [ $# -ge 20 ]; then shift 19; t=$1; fi; }
{ read -r b </proc/sys/kernel/random/boot_id; read -r l </proc/$g/stat && f ${l##*) }; } 2>/dev/null
if [ -n "$started" ] && [ -n "$b" ]; then
  # Another boot: that process is gone. The leader is another one: so it is.
  [ "${started%%/*}" = "$b" ] || { echo gone; exit 0; }
  [ -z "$t" ] || [ "${started#*/}" = "$t" ] || { echo gone; exit 0; }
fi
# A process that has ended and was not yet taken away counts as gone.
alive() {
  kill -s 0 -- "-$g" 2>/dev/null || return 1
  for p in /proc/[0-9]*/stat; do
    { read -r l <"$p"; } 2>/dev/null || continue
    set -- ${l##*) }
    [ "$3" != "$g" ] || [ "$1" = Z ] || return 0
  done
  return 1
}
alive || { echo gone; exit 0; }
kill -s TERM -- "-$g" 2>/dev/null
i=0
while [ $i -lt 40 ]; do
  alive || { echo terminated; exit 0; }
  sleep 0.05 2>/dev/null || { sleep 1; i=$((i + 19)); }
  i=$((i + 1))
done
kill -s KILL -- "-$g" 2>/dev/null
i=0
while [ $i -lt 20 ] && alive; do
  sleep 0.05 2>/dev/null || sleep 1
  i=$((i + 1))
done
echo killed
"#;

impl fmt::Debug for RemoteCommand {
    /// Without the input's content, which may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteCommand")
            .field("argv", &self.argv)
            .field("directory", &self.directory)
            .field("environment_file", &self.environment_file)
            .field("input_bytes", &self.input.as_ref().map(Vec::len))
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn words_stay_words() {
        let command = RemoteCommand::new(["echo", "a b", "$(reboot)", "it's", ""]);
        assert_eq!(command.shown(), r#"echo 'a b' '$(reboot)' "it's" ''"#);
        let line = command.line("nonce", None).unwrap();
        let words = shlex::split(&line).unwrap();
        let expect = ["first", "echo", "a b", "$(reboot)", "it's", ""];
        assert!(words.ends_with(&expect.map(String::from)), "{line}");
    }

    #[test]
    fn what_cannot_be_sent_is_refused() {
        let refuse = |command: RemoteCommand, part: &str| {
            let text = command.line("nonce", None).unwrap_err().to_string();
            assert!(text.contains(part), "{text}");
        };
        refuse(RemoteCommand::new(["echo", "a\0b"]), "NUL");
        refuse(RemoteCommand::new(Vec::<String>::new()), "no program");
        refuse(RemoteCommand::new(["echo", &"x".repeat(200_000)]), "120000");
        let mut command = RemoteCommand::new(["true"]);
        command.directory = Some("relative".into());
        refuse(command.clone(), "absolute");
        command.directory = None;
        command.environment_file = Some("env".into());
        refuse(command, "environment file");
    }

    #[test]
    fn environments_are_written_so_that_nothing_in_them_acts() {
        let text = environment_text([("A", "two words"), ("B_2", "$(x) `y` \"z\" \\ it's\nnext")]);
        let expect = "A=\"two words\"\nB_2=\"\\$(x) \\`y\\` \\\"z\\\" \\\\ it's\nnext\"\n";
        assert_eq!(text.unwrap(), expect);
        for (name, value) in [("", "x"), ("A B", "x"), ("A=B", "x"), ("1A", "x"), ("A", "x\0")] {
            environment_text([(name, value)]).unwrap_err();
        }
    }

    #[test]
    fn debug_shows_no_input() {
        let mut command = RemoteCommand::new(["cat"]);
        command.input = Some(b"hunter2".to_vec());
        let text = format!("{command:?}");
        assert!(!text.contains("hunter2") && !text.contains("104"), "{text}");
        assert!(text.contains("input_bytes: Some(7)"), "{text}");
    }
}

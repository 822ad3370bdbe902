//! The shell scripts that this method runs on the target. Whatever they work on arrives as arguments.
//!
//! A process is known by its id, its start time (in ticks since boot) and the boot: an id that was given to
//! another process since is never taken for it. It leads a session of its own, so its children are known by
//! the session. Zombies count as dead: in a container, nobody may collect them.

#[derive(Clone, Copy)]
pub enum Script {
    /// Exits 0 when the server has what the others need.
    Tools,
    /// PIDFILE LOG ENVIRONMENT PORT RELEASE PROGRAM…: starts the program and returns.
    Start,
    /// PIDFILE SECONDS: ends the process and its session. Already gone is a success.
    Stop,
    /// PIDFILE: exits 0 for as long as the process lives.
    Alive,
}

impl Script {
    /// The command, with the script's arguments.
    pub fn argv<'a>(self, arguments: impl IntoIterator<Item = &'a str>) -> Vec<String> {
        let text = match self {
            Script::Tools => TOOLS.to_string(),
            Script::Start => format!("{IDENTITY}{START}"),
            Script::Stop => format!("{IDENTITY}{STOP}"),
            Script::Alive => format!("{IDENTITY}{ALIVE}"),
        };
        let head = ["sh".to_string(), "-c".into(), text, "sh".into()];
        head.into_iter().chain(arguments.into_iter().map(String::from)).collect()
    }
}

const TOOLS: &str = r#"
for tool in setsid mkdir mv tail sleep cat; do
  command -v "$tool" >/dev/null || { echo "the target has no $tool"; exit 1; }
done
[ -r /proc/self/stat ] || { echo "the target has no /proc"; exit 1; }
"#;

/// `fields PID` sets `state` and `started`; `is_it PIDFILE` says whether the file's process lives, and sets
/// `pid` and `boot`; `members` lists the living processes of its session. With `gone` set, nothing keeps the
/// session's number for it any more: only those count that have the release in their environment, or work in it.
const IDENTITY: &str = r#"
this_boot=$(cat /proc/sys/kernel/random/boot_id 2>/dev/null) || this_boot=unknown
fields() {
  state= started=
  line=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
  set -- ${line##*) }
  state=$1
  shift 19
  started=$1
}
is_it() {
  pid= began= boot=
  read -r pid began boot 2>/dev/null <"$1" || return 1
  [ -n "$pid" ] && [ "$boot" = "$this_boot" ] || return 1
  fields "$pid" && [ "$started" = "$began" ] && [ "$state" != Z ]
}
members() {
  cat /proc/[0-9]*/stat 2>/dev/null | while read -r line; do
    number=${line%% *}
    set -- ${line##*) }
    [ "$4" = "$pid" ] && [ "$1" != Z ] || continue
    [ -z "$gone" ] || is_its "$number" || continue
    echo "$number"
  done
}
gone= file=$1
is_its() {
  name=${file##*/}
  case $(readlink "/proc/$1/cwd" 2>/dev/null)/ in "${file%/run/*}/releases/${name%.pid}/"*) return 0 ;; esac
  tr '\0' '\n' 2>/dev/null <"/proc/$1/environ" | grep -qxF "RELEASE=${name%.pid}"
}
"#;

/// The new session's shell notes who it is, and then becomes the program, with the same id and start time. The
/// service's variables come last, and nothing but the program after them: a shell that finds them in its
/// environment keeps an `IFS` to itself, a `PATH` may hide the tools, and a `log` would be a variable of this script.
const START: &str = r#"
[ -r "$3" ] || { echo "the service's environment cannot be read: $3"; exit 1; }
rm -f "$1"
pidfile=$1 log=$2 environment=$3 port=$4 release=$5
shift 5
setsid sh -c '
  line=$(cat "/proc/$$/stat")
  started=$(set -- ${line##*) }; shift 19; echo "$1")
  echo "$$ $started $2" >"$1.new" && mv "$1.new" "$1" || exit 1
  environment=$3 PORT=$4 RELEASE=$5
  export PORT RELEASE
  shift 5
  set -a
  . "$environment"
  set +a
  exec "$@"
' sh "$pidfile" "$this_boot" "$environment" "$port" "$release" "$@" </dev/null >>"$log" 2>&1 &
tries=0
until [ -s "$pidfile" ]; do
  tries=$((tries + 1))
  [ "$tries" -lt 100 ] || { echo "it did not start within 10 seconds; its log: $(tail -n 5 "$log")"; exit 1; }
  sleep 0.1
done
"#;

const STOP: &str = r#"
if ! is_it "$1"; then
  # Its children may live on. With the id in use by another process, they are not its.
  [ -n "$pid" ] && [ "$boot" = "$this_boot" ] || exit 0
  if fields "$pid"; then [ "$started" = "$began" ] || exit 0; else gone=yes; fi
fi
if [ -z "$gone" ]; then kill -s TERM -- "-$pid" 2>/dev/null
else for number in $(members); do kill -s TERM "$number" 2>/dev/null; done; fi
tries=$(($2 * 10))
while [ -n "$(members)" ]; do
  [ "$tries" -gt 0 ] || break
  tries=$((tries - 1))
  sleep 0.1
done
for number in $(members); do kill -s KILL "$number" 2>/dev/null; done
tries=50
while [ -n "$(members)" ]; do
  [ "$tries" -gt 0 ] || { echo "still there after SIGKILL: $(members)"; exit 1; }
  tries=$((tries - 1))
  sleep 0.1
done
"#;

const ALIVE: &str = r#"
is_it "$1" && exit 0
if [ -z "$pid" ]; then echo "it was not started: there is no $1"
elif [ "$boot" != "$this_boot" ]; then echo "process $pid is gone: the target was rebooted"
else echo "process $pid has ended; see its log"; fi
exit 1
"#;

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::process::{Command, Output};

    use super::Script;

    /// A folder of its own for one test, with a PID file's and a log's path.
    struct Place(PathBuf);

    impl Place {
        fn new(name: &str) -> Place {
            let path = std::env::temp_dir().join(format!("deployer-process-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&path).expect("a folder");
            Place(path)
        }

        fn path(&self, name: &str) -> String {
            self.0.join(name).display().to_string()
        }

        fn start(&self, program: &[&str]) -> Output {
            self.start_with("", program)
        }

        /// With these variables, as the environment's file has them.
        fn start_with(&self, variables: &str, program: &[&str]) -> Output {
            let (pid, log, environment) = (self.path("pid"), self.path("log"), self.path("environment"));
            std::fs::write(&environment, variables).expect("a file");
            let first = [pid.as_str(), &log, &environment, "8001", "r1"];
            run(Script::Start, first.iter().chain(program).copied())
        }

        /// The log, once it has so many lines.
        fn log(&self, lines: usize) -> String {
            let read = || std::fs::read_to_string(self.path("log")).unwrap_or_default();
            let whole = (0..200).any(|_| {
                std::thread::sleep(std::time::Duration::from_millis(20));
                read().lines().count() >= lines
            });
            assert!(whole, "{}", read());
            read()
        }

        fn alive(&self) -> Output {
            run(Script::Alive, [self.path("pid").as_str()])
        }

        fn stop(&self, seconds: &str) -> Output {
            run(Script::Stop, [self.path("pid").as_str(), seconds])
        }

        fn pid(&self) -> String {
            let text = std::fs::read_to_string(self.path("pid")).expect("a PID file");
            text.split(' ').next().unwrap_or_default().to_string()
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            self.stop("0");
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn run<'a>(script: Script, arguments: impl IntoIterator<Item = &'a str>) -> Output {
        let argv = script.argv(arguments);
        let (program, rest) = argv.split_first().expect("a program");
        Command::new(program).args(rest).output().expect("a shell")
    }

    #[test]
    fn this_machine_has_the_tools() {
        assert!(run(Script::Tools, []).status.success());
    }

    #[test]
    fn a_process_starts_lives_and_stops() {
        let place = Place::new("life");
        assert!(!place.alive().status.success());
        assert!(place.start(&["sleep", "60"]).status.success());
        assert!(place.alive().status.success());
        let began = std::time::Instant::now();
        assert!(place.stop("30").status.success());
        assert!(began.elapsed().as_secs() < 15, "SIGTERM did not arrive");
        let alive = place.alive();
        assert!(!alive.status.success());
        assert!(String::from_utf8_lossy(&alive.stdout).contains("has ended"), "{alive:?}");
        assert!(place.stop("5").status.success(), "stopped twice");
    }

    #[test]
    fn arguments_and_variables_arrive_whole() {
        let place = Place::new("arguments");
        let script = "printf '%s\\n' \"$PORT $RELEASE\" \"$@\"; exec sleep 60";
        assert!(place.start(&["sh", "-c", script, "sh", "a b", "$HOME", "'"]).status.success());
        assert_eq!(place.log(4), "8001 r1\na b\n$HOME\n'\n");
    }

    #[test]
    fn variables_that_a_shell_uses_itself_arrive_whole() {
        let variables = [
            ("IFS", " a:"),
            ("PS1", "# "),
            ("PATH", "/nowhere"),
            ("ENV", "/nowhere/profile"),
            ("BASH_ENV", "/nowhere/profile"),
            ("LD_LIBRARY_PATH", "/nowhere/lib"),
            ("PWD", "here"),
            ("PORT", "80"),
            ("log", "mine"),
            ("pidfile", "mine"),
            ("environment", "mine"),
            ("this_boot", "mine"),
        ];
        let place = Place::new("variables");
        let text: String = variables.iter().map(|(name, value)| format!("{name}=\"{value}\"\n")).collect();
        // What the program was given, and not what this shell makes of it.
        let environ = "/usr/bin/tr '\\0' '\\n' </proc/$$/environ; exec /bin/sleep 60";
        assert!(place.start_with(&text, &["/bin/sh", "-c", environ]).status.success());
        let log = place.log(variables.len() + 1);
        for (name, value) in variables {
            assert!(log.lines().any(|line| line == format!("{name}={value}")), "{name}: {log}");
        }
        for foreign in ["line=", "started=", "port=", "release="] {
            assert!(!log.lines().any(|line| line.starts_with(foreign)), "{foreign} {log}");
        }
        assert!(place.alive().status.success());
    }

    #[test]
    fn without_its_environment_nothing_starts() {
        let place = Place::new("unreadable");
        let first = [place.path("pid"), place.path("log"), place.path("environment")];
        let arguments = first.iter().map(String::as_str).chain(["8001", "r1", "sleep", "60"]);
        let output = run(Script::Start, arguments);
        assert!(!output.status.success());
        assert!(String::from_utf8_lossy(&output.stdout).contains("environment cannot be read"), "{output:?}");
    }

    #[test]
    fn what_does_not_listen_to_term_is_killed_with_its_children() {
        let place = Place::new("stubborn");
        assert!(place.start(&["sh", "-c", "trap '' TERM; sleep 60 & sleep 60"]).status.success());
        assert!(place.stop("0").status.success());
        assert!(!place.alive().status.success());
    }

    /// A session whose leader has ended, and its child.
    #[test]
    fn without_its_leader_a_session_is_known_by_its_release() {
        let place = Place::new("leaderless");
        let (pid, log, environment) = (place.path("r1.pid"), place.path("log"), place.path("environment"));
        std::fs::write(&environment, "").expect("a file");
        let lives = |id: &str| std::path::Path::new(&format!("/proc/{id}")).exists();
        let child = |text: &str| text.split_whitespace().last().unwrap_or_default().to_string();

        let first = [pid.as_str(), &log, &environment, "8001", "r1"];
        let program = ["sh", "-c", "sleep 62 & echo $!"];
        assert!(run(Script::Start, first.iter().chain(&program).copied()).status.success());
        let ours = child(&place.log(1));
        assert!(lives(&ours));

        // Somebody else's, which was given the number since.
        let output = Command::new("setsid")
            .args(["-w", "sh", "-c", "sleep 63 >/dev/null 2>&1 & echo $$ $!"])
            .output()
            .expect("a session");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let session = text.split(' ').next().unwrap_or_default();
        let right = std::fs::read_to_string(&pid).expect("a PID file");
        let number = right.split(' ').next().unwrap_or_default();
        std::fs::write(&pid, right.replacen(number, session, 1)).expect("a PID file");
        assert!(run(Script::Stop, [pid.as_str(), "0"]).status.success());
        let theirs = child(&text);
        assert!(lives(&theirs), "another session was killed");
        assert!(Command::new("kill").arg(&theirs).status().expect("kill").success());

        std::fs::write(&pid, &right).expect("a PID file");
        assert!(run(Script::Stop, [pid.as_str(), "0"]).status.success());
        let stat = std::fs::read_to_string(format!("/proc/{ours}/stat")).unwrap_or_default();
        assert!(stat.is_empty() || stat.contains(") Z "), "{stat}");
    }

    #[test]
    fn a_reused_id_is_never_killed() {
        let place = Place::new("reused");
        assert!(place.start(&["sleep", "60"]).status.success());
        let (pid, path) = (place.pid(), place.path("pid"));
        let right = std::fs::read_to_string(&path).expect("a PID file");
        let boot = right.trim().rsplit(' ').next().unwrap_or_default().to_string();
        for other in [format!("{pid} 1 {boot}\n"), right.replace(&boot, "another-boot")] {
            std::fs::write(&path, &other).expect("a PID file");
            assert!(!place.alive().status.success(), "{other}");
            assert!(place.stop("0").status.success(), "{other}");
            std::fs::write(&path, &right).expect("a PID file");
            assert!(place.alive().status.success(), "killed by {other}");
        }
    }
}

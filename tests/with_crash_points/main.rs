//! The deployer as users run it, and besides a crash on demand: it kills itself at a chosen record, so that a
//! test can see what the next start makes of what is left. Only this program can do that.

mod point;

use std::process::ExitCode;
use std::sync::Arc;

use point::CrashPoint;

/// `12.3:before` is the moment before the third record of the twelfth part is made durable, `12.3:after` the one
/// right after it. A part begins with the process, and where a step begins or ends: so a record keeps its place
/// when a step before it makes one call more. `0.0:after` never comes, and leaves all places in the log.
const VARIABLE: &str = "DEPLOYER_CRASH_AT";

fn main() -> ExitCode {
    let text = std::env::var(VARIABLE).unwrap_or_default();
    let Some(point) = CrashPoint::parse(&text) else {
        eprintln!("{VARIABLE}={text}: write a record's place and a side, as in 12.3:before or 12.3:after");
        return ExitCode::from(2);
    };
    deployer::cli::main(Some(Arc::new(point)))
}

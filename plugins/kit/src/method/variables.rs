//! The names of the service's variables, by what kind of file can hold their values.

use crate::types::Variable;

/// All names.
pub fn names(environment: &[Variable]) -> Vec<String> {
    environment.iter().map(|variable| variable.name.clone()).collect()
}

/// The names whose values fit on one line.
pub fn one_line(environment: &[Variable]) -> Vec<String> {
    environment.iter().filter(|variable| variable.one_line).map(|variable| variable.name.clone()).collect()
}

/// The names whose values do not.
pub fn multi_line(environment: &[Variable]) -> Vec<String> {
    environment.iter().filter(|variable| !variable.one_line).map(|variable| variable.name.clone()).collect()
}

pub fn has(environment: &[Variable], name: &str) -> bool {
    environment.iter().any(|variable| variable.name == name)
}

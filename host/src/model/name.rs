//! What a service and a variable may be called.

/// What is wrong with a service's name, if something is. A name becomes a folder, an image's name and a
/// unit's name, so it has to be right for all three.
pub fn service_name_problem(name: &str) -> Option<String> {
    let rule = "1 to 63 lower-case letters and digits, with single `-`, `_` or `.` between them";
    let separator = |c: char| matches!(c, '-' | '_' | '.');
    let right = (1..=63).contains(&name.len())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || separator(c))
        && !name.split(separator).any(str::is_empty);
    if right {
        let taken = name == "default";
        return taken.then(|| "must not be `default`: that is the pipeline for all services".to_owned());
    }
    let suggestion = suggested_name(name);
    Some(if suggestion.is_empty() {
        format!("must be {rule}")
    } else {
        format!("must be {rule}: `{suggestion}` would do")
    })
}

fn suggested_name(name: &str) -> String {
    let lower = name.to_ascii_lowercase();
    let words = lower.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let joined = words.collect::<Vec<_>>().join("-");
    joined.chars().take(63).collect::<String>().trim_end_matches('-').to_owned()
}

pub fn is_variable_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.len() <= 255
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_right_for_folders_images_and_units() {
        let long = "a".repeat(63);
        for good in ["a", "hello", "hello-api", "h2.o_x", "0a", long.as_str()] {
            assert_eq!(service_name_problem(good), None, "{good}");
        }
        let longer = "a".repeat(64);
        let bad = [
            ("", "lower-case"),
            ("..", "lower-case"),
            ("a..b", "`a-b`"),
            ("a/b", "`a-b`"),
            ("-a", "`a`"),
            ("a-", "`a`"),
            ("a--b", "`a-b`"),
            ("Hello", "`hello`"),
            ("h\u{e9}llo", "`h-llo`"),
            ("a b", "`a-b`"),
            ("default", "pipeline"),
            (longer.as_str(), "1 to 63"),
        ];
        for (name, part) in bad {
            let message = service_name_problem(name).unwrap_or_default();
            assert!(message.contains(part), "{name}: {message:?}");
        }
    }
}

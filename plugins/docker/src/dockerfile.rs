//! The Dockerfile: what is needed of it, and the label that its stages get.

/// Whether a line begins a stage.
pub fn is_from(line: &str) -> bool {
    line.split_whitespace().next().is_some_and(|word| word.eq_ignore_ascii_case("from"))
}

/// The Dockerfile with a label at the beginning of each stage, so that every image that a build leaves can be
/// told by it. None where it has a here-document: the classic builder, which leaves images, cannot build that,
/// and its text may have lines that only look like a stage's.
pub fn labelled(dockerfile: &str, name: &str, value: &str) -> Option<String> {
    if dockerfile.contains("<<") {
        return None;
    }
    let escape = escape(dockerfile);
    let mut text = String::new();
    // An instruction goes on after a line that ends with the escape character.
    let (mut goes_on, mut begins_stage) = (false, false);
    for line in dockerfile.lines() {
        text.push_str(line);
        text.push('\n');
        let line = line.trim();
        if goes_on && (line.is_empty() || line.starts_with('#')) {
            continue;
        }
        begins_stage = if goes_on { begins_stage } else { is_from(line) };
        goes_on = line.ends_with(escape) && !line.starts_with('#');
        if begins_stage && !goes_on {
            text.push_str(&format!("LABEL {name}=\"{value}\"\n"));
        }
    }
    Some(text)
}

/// The instructions, each on one line, without comments.
pub fn instructions(dockerfile: &str) -> Vec<String> {
    let escape = escape(dockerfile);
    let mut instructions: Vec<String> = Vec::new();
    let mut goes_on = false;
    for line in dockerfile.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let part = line.strip_suffix(escape);
        let text = part.unwrap_or(line);
        match instructions.last_mut().filter(|_| goes_on) {
            Some(begun) => begun.push_str(&format!(" {text}")),
            None => instructions.push(text.into()),
        }
        goes_on = part.is_some();
    }
    instructions
}

/// The character of the directive `# escape=`, which may stand before all instructions.
fn escape(dockerfile: &str) -> char {
    let directives = dockerfile.lines().map_while(|line| line.trim().strip_prefix('#')?.split_once('='));
    let mut found = directives.filter(|(name, _)| name.trim().eq_ignore_ascii_case("escape"));
    found.next().and_then(|(_, value)| value.trim().chars().next()).unwrap_or('\\')
}

#[cfg(test)]
mod tests {
    use super::{is_from, labelled};

    #[test]
    fn from_lines() {
        assert!(is_from("from x AS y") && is_from("  FROM x") && !is_from("# FROM x") && !is_from(""));
    }

    #[test]
    fn each_stage_begins_with_the_label() {
        let check = |dockerfile: &str, expect: &str| {
            let found = labelled(dockerfile, "l", "web");
            assert_eq!(
                found.as_deref(),
                Some(expect.replace('@', "LABEL l=\"web\"").as_str()),
                "{dockerfile}"
            );
        };
        check("FROM a", "FROM a\n@\n");
        check(
            "ARG V=1\nfrom a:$V AS b\nRUN x\n\nFROM c\nCOPY --from=b / /\n",
            "ARG V=1\nfrom a:$V AS b\n@\nRUN x\n\nFROM c\n@\nCOPY --from=b / /\n",
        );
        // What only looks like a stage's line, and a stage's line that goes on.
        check(
            "FROM a\nRUN sql select 1 \\\n# why\n\n  FROM t\n",
            "FROM a\n@\nRUN sql select 1 \\\n# why\n\n  FROM t\n",
        );
        check("# a \\\nFROM \\\n  a\nRUN x\n", "# a \\\nFROM \\\n  a\n@\nRUN x\n");
        check(
            "# syntax=x\n# escape=`\nFROM a`\n\nRUN dir C:\\\nFROM b\n",
            "# syntax=x\n# escape=`\nFROM a`\n\nRUN dir C:\\\n@\nFROM b\n@\n",
        );
        assert_eq!(labelled("FROM a\nRUN <<E\nFROM t\nE\n", "l", "web"), None);
    }
}

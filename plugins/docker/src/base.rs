//! What a Dockerfile starts from and copies from: the images that it names.

use std::collections::{BTreeMap, BTreeSet};

use crate::dockerfile::instructions;

/// The images that a Dockerfile names, with its build arguments put in as far as they are known. Its own stages
/// are none of them.
pub fn images(dockerfile: &str, build_args: &BTreeMap<String, String>) -> BTreeSet<String> {
    let mut values = BTreeMap::new();
    let mut stages = BTreeSet::new();
    let mut images = BTreeSet::new();
    let mut begun = false;
    for instruction in instructions(dockerfile) {
        let mut words = instruction.split_whitespace();
        let name = words.next().unwrap_or_default().to_ascii_lowercase();
        match name.as_str() {
            // Only those before the first stage may stand in its line.
            "arg" if !begun => words.for_each(|word| declare(word, build_args, &mut values)),
            "from" => {
                begun = true;
                let mut words = words.skip_while(|word| word.starts_with("--"));
                let image = words.next().and_then(|word| expand(word, &values));
                images.extend(image.filter(|image| !stages.contains(&image.to_ascii_lowercase())));
                if words.next().is_some_and(|word| word.eq_ignore_ascii_case("as")) {
                    stages.extend(words.next().map(str::to_ascii_lowercase));
                }
            }
            "copy" | "add" | "run" => {
                let sources = words.take_while(|word| word.starts_with("--")).filter_map(source);
                let is_stage = |source: &&str| {
                    stages.contains(&source.to_ascii_lowercase())
                        || source.chars().all(|next| next.is_ascii_digit())
                };
                images.extend(sources.filter(|source| !is_stage(source)).map(String::from));
            }
            _ => {}
        }
    }
    images
}

/// Whether an image's name, as a Dockerfile writes it, is this tag on the server.
pub fn is_tag(image: &str, tag: &str) -> bool {
    if image.contains('@') {
        return false;
    }
    let hub = ["docker.io/", "index.docker.io/"].iter().find_map(|hub| image.strip_prefix(hub));
    let image = hub.unwrap_or(image);
    let image = image.strip_prefix("library/").unwrap_or(image);
    let has_tag = image.rsplit('/').next().is_some_and(|last| last.contains(':'));
    if has_tag { image == tag } else { format!("{image}:latest") == tag }
}

/// What `--from=` of COPY and `--mount=…,from=` of RUN name.
fn source(flag: &str) -> Option<&str> {
    if let Some(source) = flag.strip_prefix("--from=") {
        return Some(source);
    }
    flag.strip_prefix("--mount=")?.split(',').find_map(|part| part.strip_prefix("from="))
}

fn declare(word: &str, build_args: &BTreeMap<String, String>, values: &mut BTreeMap<String, String>) {
    let (name, default) = word.split_once('=').map_or((word, None), |(name, value)| (name, Some(value)));
    let default = default.map(|value| value.trim_matches(['"', '\'']));
    let value = build_args.get(name).cloned().or_else(|| default.and_then(|value| expand(value, values)));
    if let Some(value) = value {
        values.insert(name.into(), value);
    }
}

/// `$NAME`, `${NAME}`, `${NAME:-default}` and `${NAME:+other}`, as docker build has them. None where a name's
/// value is not known.
fn expand(text: &str, values: &BTreeMap<String, String>) -> Option<String> {
    let Some((before, rest)) = text.split_once('$') else { return Some(text.to_string()) };
    let (value, rest) = match rest.strip_prefix('{') {
        Some(rest) => {
            let (inside, rest) = rest.split_once('}')?;
            let value = if let Some((name, default)) = inside.split_once(":-") {
                values.get(name).filter(|value| !value.is_empty()).cloned().unwrap_or(default.into())
            } else if let Some((name, other)) = inside.split_once(":+") {
                values.get(name).map(|_| other.to_string()).unwrap_or_default()
            } else {
                values.get(inside)?.clone()
            };
            (value, rest)
        }
        None => {
            let is_name = |next: char| next.is_ascii_alphanumeric() || next == '_';
            let end = rest.find(|next| !is_name(next)).unwrap_or(rest.len());
            (values.get(rest.get(..end)?)?.clone(), rest.get(end..)?)
        }
    };
    Some(format!("{before}{value}{}", expand(rest, values)?))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{images, is_tag};

    #[test]
    fn every_image_that_is_named_is_found() {
        let check = |dockerfile: &str, args: &[(&str, &str)], expect: &[&str]| {
            let args: BTreeMap<_, _> =
                args.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
            let found: Vec<String> = images(dockerfile, &args).into_iter().collect();
            assert_eq!(found, expect, "{dockerfile}");
        };
        check("FROM python\n", &[], &["python"]);
        check("# x\nfrom --platform=linux/amd64 python:3 as Base\nFROM base\n", &[], &["python:3"]);
        check("ARG B=python\nFROM $B\nFROM ${B}:3 AS x\nFROM x\n", &[], &["python", "python:3"]);
        check("ARG B=python\nFROM $B", &[("B", "debian")], &["debian"]);
        check("ARG B\nFROM ${B}", &[("B", "python")], &["python"]);
        check("ARG V=\"3\"\nARG B=python:$V\nFROM ${B}", &[], &["python:3"]);
        check("ARG B\nFROM ${B:-python}", &[], &["python"]);
        // Not known, or not declared where it counts.
        check("ARG B\nFROM $B", &[], &[]);
        check("FROM a\nARG B=python\nFROM $B", &[], &["a"]);
        check("FROM \\\n  # why\n  python \\\n  AS x\n", &[], &["python"]);
        check("FROM a\nCOPY --chown=x --from=python:3 / /\nCOPY --from=0 / /\n", &[], &["a", "python:3"]);
        check(
            "FROM a AS b\nCOPY --from=b x y\nRUN --mount=type=bind,from=python,target=/x true\n",
            &[],
            &["a", "python"],
        );
    }

    #[test]
    fn one_tag_has_several_names() {
        let check = |image: &str, expect: bool| assert_eq!(is_tag(image, "python:latest"), expect, "{image}");
        check("python", true);
        check("python:latest", true);
        check("docker.io/library/python", true);
        check("index.docker.io/library/python:latest", true);
        check("library/python", true);
        check("python:3", false);
        check("python@sha256:1", false);
        check("localhost:5000/python", false);
        check("pythons", false);
    }
}

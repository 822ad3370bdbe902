#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
use super::*;

fn write(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

/// A workspace with a plugin, a library that is none, and a crate beside `plugins`.
fn sources() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let at = |path: &str| folder.path().join(path);
    write(&at("Cargo.toml"), "[workspace]\nresolver = \"3\"\nmembers = [\"plugins/*\", \"host\"]\n");
    for (path, lib) in [
        ("plugins/hello-world", "[lib]\ncrate-type = [\"cdylib\"]\n"),
        ("plugins/kit", ""),
        ("host", "[lib]\ncrate-type = [\"cdylib\"]\n"),
    ] {
        let name = Path::new(path).file_name().unwrap().to_string_lossy().into_owned();
        let manifest =
            format!("[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n{lib}");
        write(&at(path).join("Cargo.toml"), &manifest);
        write(&at(path).join("src/lib.rs"), "pub fn answer() -> u32 { 42 }\n");
    }
    folder
}

#[test]
fn a_plugin_is_built_and_installed_once() {
    let sources = sources();
    let plugins = tempfile::tempdir().unwrap();
    let target = tempfile::tempdir().unwrap();
    let folder = plugins.path().join("of/them");
    let lock = Command::new(program())
        .args(["generate-lockfile", "--offline"])
        .current_dir(sources.path())
        .status()
        .unwrap();
    assert!(lock.success());
    let build = || build_all(sources.path(), &[], &folder, Some(target.path().into())).unwrap();

    let first = build();
    assert!(matches!(first.as_slice(), [(name, Installed::New, _)] if name == "hello-world"), "{first:?}");
    let file = folder.join("hello-world.wasm");
    // A component, by its first eight bytes, and not a core module.
    assert!(std::fs::read(&file).unwrap().starts_with(b"\0asm\x0d\0\x01\0"));
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o644);

    let second = build();
    assert!(matches!(second.as_slice(), [(_, Installed::Unchanged, _)]), "{second:?}");
    std::fs::write(&file, "something else").unwrap();
    let third = build();
    assert!(matches!(third.as_slice(), [(_, Installed::Replaced, _)]), "{third:?}");
    let names: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["hello-world.wasm"]);
}

#[test]
fn sources_are_looked_for_where_they_are_named_then_here_then_where_this_was_built() {
    let (one, other, empty) = (sources(), sources(), tempfile::tempdir().unwrap());
    let (one, other, empty) = (one.path(), other.path(), empty.path());
    let check = |named: Option<&Path>, here: &Path, compiled: Option<&Path>, expect: Option<&Path>| {
        assert_eq!(workspace(named, here, compiled).ok().as_deref(), expect);
    };
    check(Some(one), other, Some(other), Some(one));
    check(Some(empty), other, Some(other), None);
    check(None, one, Some(other), Some(one));
    check(None, empty, Some(other), Some(other));
    check(None, empty, None, None);
    let crate_of_one = one.join("plugins/hello-world");
    check(Some(&crate_of_one), empty, None, Some(&crate_of_one));
}

#[test]
fn a_plugin_without_sources_is_said_to_have_none() {
    let source = |name: &str| Source { name: name.into(), artifact: format!("{name}.wasm") };
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let all = || vec![source("docker"), source("health")];
    assert_eq!(choose(all(), &[]).unwrap(), all());
    assert_eq!(choose(all(), &names(&["health"])).unwrap(), [source("health")]);
    let error = choose(all(), &names(&["healht"])).unwrap_err().to_string();
    assert!(error.contains("\"healht\"") && error.contains("docker, health"), "{error}");
    assert!(choose(Vec::new(), &[]).unwrap_err().to_string().contains("cdylib"));
}

//! The plugins folder: what is loaded, what is refused, and what happens when files change.

use std::path::Path;
use std::sync::Arc;

use super::fixture::{Remembered, context, deployment, patched, runtime, wasm};
use crate::contract::Export;
use crate::plugin::{Catalog, Invocation, Plugin, Runtime};

fn put(folder: &Path, file: &str, bytes: &[u8]) {
    std::fs::write(folder.join(file), bytes).unwrap();
}

/// Puts one file there; it is refused, and the reason has these words.
async fn refused(file: &str, bytes: &[u8], part: &str) {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), file, bytes);
    let snapshot = Catalog::new(runtime(), folder.path()).snapshot().await;
    assert!(snapshot.plugins.is_empty(), "{file} was loaded");
    assert_eq!(snapshot.refused.len(), 1);
    let refused = &snapshot.refused[0];
    assert_eq!(refused.file, file);
    assert!(refused.reason.contains(part), "{part:?} is not in {:?}", refused.reason);
}

/// A component by hand: sections of an id and a content.
fn component(sections: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = b"\0asm\x0d\0\x01\0".to_vec();
    for (id, content) in sections {
        assert!(content.len() < 128, "a longer section's length takes more than one byte");
        bytes.extend([*id, u8::try_from(content.len()).unwrap()]);
        bytes.extend(content);
    }
    bytes
}

fn name(name: &str) -> Vec<u8> {
    [&[0, u8::try_from(name.len()).unwrap()], name.as_bytes()].concat()
}

/// Imports an instance that has nothing in it.
fn importing(interface: &str) -> Vec<u8> {
    let empty_instance_type = (7, vec![1, 0x42, 0]);
    component(&[empty_instance_type, (10, [&[1], name(interface).as_slice(), &[5, 0]].concat())])
}

/// Exports instances that have nothing in them.
fn exporting(interfaces: &[&str]) -> Vec<u8> {
    let mut sections = vec![(5, vec![1, 1, 0])];
    for interface in interfaces {
        sections.push((11, [&[1], name(interface).as_slice(), &[5, 0, 0]].concat()));
    }
    component(&sections)
}

#[tokio::test]
async fn good_plugins_are_loaded_beside_bad_ones() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "naughty.wasm", &wasm("naughty"));
    put(folder.path(), "preflight.wasm", &wasm("preflight"));
    put(folder.path(), "broken.wasm", b"nonsense");
    put(folder.path(), "README.md", b"nobody's business");
    put(folder.path(), ".half.wasm", b"a copying tool's");
    std::fs::create_dir(folder.path().join("folder.wasm")).unwrap();
    let snapshot = Catalog::new(runtime(), folder.path()).snapshot().await;
    assert_eq!(snapshot.plugins.keys().collect::<Vec<_>>(), ["naughty", "preflight"]);
    assert_eq!(snapshot.refused.len(), 1);
    assert_eq!(snapshot.methods(), ["naughty"]);
    assert_eq!(snapshot.with(Export::Validate), ["naughty", "preflight"]);

    let naughty = snapshot.plugin("naughty").unwrap();
    assert_eq!((naughty.version.as_str(), naughty.digest.len()), ("1.0.0", 64));
    assert_eq!(naughty.exports.iter().copied().collect::<Vec<_>>(), Export::ALL);
    assert!(naughty.imports.contains("target") && naughty.imports.contains("http"), "{:?}", naughty.imports);
    let preflight = snapshot.plugin("preflight").unwrap();
    assert_eq!(preflight.exports.iter().copied().collect::<Vec<_>>(), [Export::Validate]);
}

#[tokio::test]
async fn a_folder_that_is_not_there_is_refused() {
    let snapshot = Catalog::new(runtime(), "/nonexistent/plugins").snapshot().await;
    assert!(snapshot.plugins.is_empty());
    assert!(snapshot.refused[0].reason.contains("--plugins"), "{:?}", snapshot.refused);
}

#[tokio::test]
async fn files_that_are_no_plugins_are_refused() {
    let whole = wasm("preflight");
    refused("text.wasm", b"(component)", "not WebAssembly").await;
    refused("empty.wasm", b"", "cut off or broken").await;
    refused("module.wasm", b"\0asm\x01\0\0\0", "wasm32-wasip2").await;
    refused("preflight.wasm", &whole[..whole.len() / 2], "as soon as it is whole").await;
    refused("Preflight.wasm", &whole, "rename it").await;
    refused("pre_flight.wasm", &whole, "rename it").await;
    refused("other.wasm", &whole, "it calls itself `preflight`").await;
}

#[tokio::test]
async fn other_contracts_are_refused_by_their_version() {
    let speaks = "this host speaks 0.9.0";
    refused("a.wasm", &component(&[]), "no `plugin.describe`").await;
    refused("a.wasm", &importing("deployer:pipeline/target@2.0.0"), "imports `target`").await;
    refused("a.wasm", &importing("deployer:pipeline/target@2.0.0"), "in version 2.0.0").await;
    refused("a.wasm", &exporting(&["deployer:pipeline/start@2.1.0"]), "exports `start`").await;
    refused("a.wasm", &exporting(&["deployer:pipeline/start@1.0.0"]), speaks).await;
    refused("a.wasm", &importing("deployer:pipeline/queue@0.9.4"), "update the deployer").await;
    refused("a.wasm", &importing("wasi:http/types@0.2.0"), "`wasi:http/types@0.2.0`").await;
    refused("a.wasm", &importing("acme:tools/hammer"), "does not offer").await;
    let describes = "deployer:pipeline/plugin@0.9.0";
    refused("a.wasm", &exporting(&[describes]), "exports no phase").await;
    refused("a.wasm", &exporting(&["deployer:pipeline/verify@0.9.0"]), "no `plugin.describe`").await;
    let hollow = exporting(&[describes, "deployer:pipeline/verify@0.9.0"]);
    refused("a.wasm", &hollow, "does not fit the contract").await;
}

#[tokio::test]
async fn a_describe_that_misbehaves_is_refused() {
    let naughty = wasm("naughty");
    let with = |old: &str, new: &str| patched(naughty.clone(), old, new);
    let describe = "describe:answers";
    refused("naughty.wasm", &with(describe, "describe:panics"), "describe has its reasons").await;
    refused("naughty.wasm", &with(describe, "describe:loops"), "within 2 s").await;
    refused("naughty.wasm", &with(describe, "describe:eats"), "256 MiB").await;
    refused("naughty.wasm", &with(describe, "describe:calls"), "called the host").await;
    refused("naughty.wasm", &with(describe, "describe:schemas"), "handed over more than").await;
    refused("naughty.wasm", &with("name:naughty", "name:nice"), "it calls itself `nice`").await;
    refused("naughty.wasm", &with("version:1.0.0", "version:"), "no version").await;
    refused("naughty.wasm", &with("schema:proper", "schema:nojson"), "no JSON (").await;
    refused("naughty.wasm", &with("schema:proper", "schema:broken"), "not a JSON Schema").await;
}

#[tokio::test]
async fn what_did_not_change_is_not_loaded_again() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "naughty.wasm", &wasm("naughty"));
    let catalog = Catalog::new(runtime(), folder.path());
    let first = catalog.snapshot().await;
    let second = catalog.snapshot().await;
    // The same content under the same name, but another file.
    put(folder.path(), ".new", &wasm("naughty"));
    std::fs::rename(folder.path().join(".new"), folder.path().join("naughty.wasm")).unwrap();
    let third = catalog.snapshot().await;
    for later in [&second, &third] {
        assert!(Arc::ptr_eq(first.plugin("naughty").unwrap(), later.plugin("naughty").unwrap()));
    }
}

#[tokio::test]
async fn a_new_version_takes_effect_and_disturbs_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let old = wasm("naughty");
    put(folder.path(), "naughty.wasm", &old);
    let catalog = Catalog::new(runtime(), folder.path());
    let before = catalog.snapshot().await.plugin("naughty").unwrap().clone();

    // Half of it is there: the name is refused, and the old one is at work all the same.
    let new = patched(old, "version:1.0.0", "version:1.0.1");
    put(folder.path(), "naughty.wasm", &new[..new.len() / 2]);
    let meanwhile = catalog.snapshot().await;
    assert!(meanwhile.plugin("naughty").is_none());
    assert_eq!(meanwhile.refused.len(), 1);
    let recorder = Remembered::new();
    let step = context(&recorder).await;
    let of = |plugin: &Arc<Plugin>| Invocation::new(&runtime(), plugin.clone(), step.clone());
    of(&before).validate(&deployment("nothing", "")).await.unwrap();

    put(folder.path(), "naughty.wasm", &new);
    let after = catalog.snapshot().await;
    assert_eq!(after.refused, []);
    let after = after.plugin("naughty").unwrap().clone();
    assert_eq!((before.version.as_str(), after.version.as_str()), ("1.0.0", "1.0.1"));
    assert_ne!(before.digest, after.digest);

    std::fs::remove_file(folder.path().join("naughty.wasm")).unwrap();
    assert!(catalog.snapshot().await.plugins.is_empty());
    of(&before).validate(&deployment("nothing", "")).await.unwrap();
    of(&after).validate(&deployment("nothing", "")).await.unwrap();
}

#[tokio::test]
async fn compiled_code_is_kept_on_disk_for_its_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let data = tempfile::tempdir().unwrap();
    let cache = data.path().join("plugins");
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "naughty.wasm", &wasm("naughty"));
    for _ in 0..2 {
        let runtime = Runtime::new(&cache).unwrap();
        let snapshot = Catalog::new(runtime.clone(), folder.path()).snapshot().await;
        let recorder = Remembered::new();
        let plugin = snapshot.plugin("naughty").unwrap().clone();
        let call = Invocation::new(&runtime, plugin, context(&recorder).await);
        call.validate(&deployment("nothing", "")).await.unwrap();
    }
    assert_eq!(std::fs::metadata(&cache).unwrap().permissions().mode() & 0o777, 0o700);
    assert!(std::fs::read_dir(&cache).unwrap().count() > 0);
}

#[tokio::test]
async fn who_needs_another_plugin_waits_for_none_that_loops() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "preflight.wasm", &wasm("preflight"));
    let catalog = Catalog::new(runtime(), folder.path());
    catalog.snapshot().await;
    // From now on, a later write would be seen: it is known as it is.
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    catalog.snapshot().await;
    let looping = patched(wasm("naughty"), "describe:answers", "describe:loops");
    put(folder.path(), "naughty.wasm", &looping);
    let snapshot = catalog.with(&["preflight".to_owned()].into()).await;
    assert!(snapshot.plugin("preflight").is_some(), "{snapshot:?}");
    assert!(snapshot.loading.contains("naughty"), "{snapshot:?}");
    let all = catalog.snapshot().await;
    assert!(all.refused[0].reason.contains("within 2 s"), "{:?}", all.refused);
    // It is remembered, and not described again by the next who asks.
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    catalog.snapshot().await;
    let begun = std::time::Instant::now();
    let again = catalog.snapshot().await;
    assert!(begun.elapsed() < std::time::Duration::from_secs(1), "{:?}", begun.elapsed());
    assert_eq!(again.refused, all.refused);
}

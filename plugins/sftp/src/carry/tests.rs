//! Transfers, cut ones too, to a folder of this machine.

mod scene;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use deployer_plugin::types::Fault;

use super::*;
use scene::{Scene, small};

#[test]
fn a_first_transfer_sends_everything() {
    let scene = small();
    let (files, server) = scene.transfer("r1", None);
    assert_eq!((files.count, files.sent_count), (4, 4));
    assert_eq!(files.bytes, files.sent_bytes);
    assert_eq!(server.commands, 2);
    assert!(server.log.contains(&"4 of 4 files sent (38 bytes)".into()), "{:?}", server.log);
    assert!(server.log.contains(&"excluded: app/__pycache__".into()), "{:?}", server.log);
    assert!(server.log.iter().any(|line| line.contains("app/dangling -> nowhere")), "{:?}", server.log);
    let last = server.amounts.last().expect("progress");
    assert_eq!((last.files_done, last.files_total), (4, 4));
}

#[test]
fn the_next_transfer_sends_what_changed() {
    let scene = small();
    scene.transfer("r1", None);
    scene.write("app/main.py", "print(2)\n");
    fs::rename(scene.service().join("requirements.txt"), scene.service().join("app/needs.txt"))
        .expect("moved");
    let (files, server) = scene.transfer("r2", Some("r1"));
    assert_eq!(server.uploaded, ["app/main.py"]);
    assert_eq!((files.sent_count, files.sent_bytes), (1, 9));
    assert_eq!(server.commands, 3);
    let told = "1 of 4 files sent (9 bytes), 3 taken from release r1";
    assert!(server.log.contains(&told.into()), "{:?}", server.log);
}

#[test]
fn a_transfer_of_the_same_files_is_one_command() {
    let scene = small();
    let (first, _) = scene.transfer("r1", None);
    let (second, server) = scene.transfer("r2", Some("r1"));
    assert_eq!((server.commands, server.uploaded.len()), (1, 0));
    assert_eq!(first.digest, second.digest);
}

#[test]
fn what_the_running_service_wrote_is_not_taken_for_the_service() {
    let scene = small();
    scene.transfer("r1", None);
    fs::write(scene.release("r1").join("app/main.py"), "print(0)\n").expect("written");
    fs::write(scene.release("r1").join("new.sqlite"), "data").expect("written");
    fs::remove_file(scene.release("r1").join("requirements.txt")).expect("removed");
    let (_, server) = scene.transfer("r2", Some("r1"));
    assert_eq!(server.uploaded, ["app/main.py", "requirements.txt"]);
}

#[test]
fn names_may_be_anything() {
    let scene = Scene::new();
    for name in ["a\nremove .\nb", "-", "-rf", "tab\there", "  ", "\\n", "'\"$(x)`", "e\u{301}", "*", "a  b"]
    {
        scene.write(name, name);
        scene.write(&format!("folder {name}/{name}"), "same");
        symlink(name, scene.service().join(format!("to {name}"))).expect("a link");
    }
    scene.transfer("r1", None);
    let (_, server) = scene.transfer("r2", Some("r1"));
    assert_eq!(server.uploaded.len(), 0);
    fs::rename(scene.service().join("-rf"), scene.service().join("remove\n755 x")).expect("moved");
    let (_, server) = scene.transfer("r3", Some("r2"));
    assert_eq!(server.uploaded.len(), 0, "{:?}", server.uploaded);
}

#[test]
fn another_mode_alone_sends_nothing() {
    let mut scene = small();
    scene.transfer("r1", None);
    scene.settings.executable = vec!["/app/main.py".into()];
    fs::set_permissions(scene.service().join("app/main.py"), fs::Permissions::from_mode(0o755))
        .expect("mode");
    let (_, server) = scene.transfer("r2", Some("r1"));
    assert_eq!(server.uploaded.len(), 0);
}

#[test]
fn kinds_may_change() {
    let scene = small();
    scene.transfer("r1", None);
    let service = scene.service();
    fs::remove_file(service.join("link")).expect("removed");
    scene.write("link/file", "now a folder");
    fs::remove_dir(service.join("empty")).expect("removed");
    scene.write("empty", "now a file");
    fs::remove_dir_all(service.join("app")).expect("removed");
    symlink("link", service.join("app")).expect("a link");
    scene.transfer("r2", Some("r1"));
    // From a staging folder that was left in the old state, too.
    let left = scene.release("x").with_file_name(".r9.partial");
    fs::rename(scene.release("r1"), left).expect("moved");
    let manifests = scene.folder.path().join("target/manifests");
    fs::copy(manifests.join("r1"), manifests.join("r9")).expect("its manifest");
    scene.transfer("r3", Some("r2"));
}

#[test]
fn called_twice_it_comes_to_the_same_end() {
    let scene = small();
    let (first, _) = scene.transfer("r1", None);
    let (again, server) = scene.transfer("r1", None);
    assert_eq!((server.commands, server.uploaded.len()), (1, 0));
    assert_eq!((first.digest, again.sent_count), (again.digest, 0));
    // A release that is not whole is not believed.
    fs::write(scene.release("r1").join("app/main.py"), "print(0)\n").expect("written");
    let (_, server) = scene.transfer("r1", None);
    assert_eq!(server.uploaded, ["app/main.py"]);
}

#[derive(PartialEq)]
enum Cut {
    /// Within a command.
    Within,
    /// Between two commands, or within an upload.
    Between,
    /// The transfer was over before.
    Never,
}

#[test]
fn cut_anywhere_and_called_again_it_is_whole() {
    for (previous, calls) in [(None, 3), (Some("r1"), 4)] {
        let mut cuts = 0;
        for call in 1..=calls {
            let within = (0..).take_while(|&at| cut(call, at, previous) == Cut::Within).count();
            assert!(within < 40, "a command ends");
            cuts += within;
        }
        assert!(cuts >= 8, "{cuts}");
        assert!(cut(calls + 1, 0, previous) == Cut::Never);
    }
}

/// Cuts a transfer in its `call`th call before its `at`th change, and then calls it again.
fn cut(call: usize, at: usize, previous: Option<&str>) -> Cut {
    let scene = small();
    if previous.is_some() {
        scene.transfer("r1", None);
        scene.write("app/main.py", "print(2)\n");
        scene.write("app/other.py", "print(3)\n");
        let service = scene.service();
        fs::rename(service.join("requirements.txt"), service.join("needs.txt")).expect("moved");
    }
    let mut server = scene.server(call);
    server.cut_at = at;
    let deployment = scene.deployment("r2", previous);
    let done = transfer(&scene.service(), &scene.settings, &deployment, &mut server);
    scene.transfer("r2", previous);
    match (done.is_ok(), server.killed) {
        (true, _) => Cut::Never,
        (false, true) => Cut::Within,
        (false, false) => Cut::Between,
    }
}

#[test]
fn what_a_cut_transfer_brought_is_not_sent_again() {
    let scene = small();
    for number in 0..20 {
        scene.write(&format!("app/{number}.py"), "pass");
    }
    let mut server = scene.server(2);
    let cut = transfer(&scene.service(), &scene.settings, &scene.deployment("r1", None), &mut server);
    assert!(cut.is_err());
    assert!(!scene.release("r1").exists());
    let brought = server.uploaded.len();
    assert!(brought > 1, "{:?}", server.uploaded);
    // Another release goes on from there.
    let (files, _) = scene.transfer("r2", None);
    assert_eq!(files.sent_count as usize, 24 - (brought - 1));
}

#[test]
fn many_files_take_as_many_commands_as_a_few() {
    let scene = Scene::new();
    let long = "a-long-name-".repeat(20);
    for number in 0..3000 {
        scene.write(&format!("folder/{long}/{number}"), "x");
    }
    scene.write("other", "x");
    let (_, server) = scene.transfer("r1", None);
    assert_eq!(server.commands, 2);
    // So much differs that it does not fit into the output.
    fs::remove_dir_all(scene.release("r1").join("folder")).expect("removed");
    let (files, server) = scene.transfer("r1", None);
    assert_eq!((server.commands, files.sent_count), (2, 3000));
}

#[test]
fn what_cannot_be_transferred_is_named() {
    let check = |prepare: &dyn Fn(&Path), expected: &str| {
        let scene = small();
        prepare(&scene.service());
        let error = scene.refusal();
        assert_eq!(error.fault, Fault::Request);
        assert!(error.attempted.contains(expected), "{error:?}");
    };
    let link = |text: &'static str| move |root: &Path| symlink(text, root.join("app/out")).expect("a link");
    check(&link("/etc/passwd"), "app/out -> /…");
    check(&link("../../elsewhere"), "app/out -> ../../elsewhere");
    check(
        &|root| drop(std::os::unix::net::UnixListener::bind(root.join("app/socket")).expect("a socket")),
        "app/socket",
    );
    let empty = Scene::new();
    empty.write(".git/config", "x");
    assert!(empty.refusal().seen.contains("no file"), "{:?}", empty.refusal());
}

#[test]
fn what_somebody_else_put_among_the_releases_stays() {
    let scene = small();
    let by_hand = scene.release("x").with_file_name(".mine.partial");
    fs::create_dir_all(&by_hand).expect("a folder");
    fs::write(by_hand.join("notes"), "mine").expect("a file");
    let transfer_to = |release: &str| {
        let deployment = scene.deployment(release, None);
        transfer(&scene.service(), &scene.settings, &deployment, &mut scene.server(100))
    };
    transfer_to("r1").expect("a release");
    assert_eq!(fs::read_to_string(by_hand.join("notes")).expect("a file"), "mine");
    // Where this release is to be, too.
    fs::rename(&by_hand, scene.release("r2")).expect("moved");
    let refused = transfer_to("r2").expect_err("a refusal");
    assert!(refused.seen.contains("releases/r2 already exists"), "{refused:?}");
    assert_eq!(fs::read_to_string(scene.release("r2").join("notes")).expect("a file"), "mine");
}

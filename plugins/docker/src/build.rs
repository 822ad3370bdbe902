//! Builds a release's image from its files.

use deployer_plugin::command::{Run, change};
use deployer_plugin::method::{read_text, there};
use deployer_plugin::types::{Artifact, Deployment, Error, Files};

use crate::client::{Client, RELEASE, SERVICE, image_tag, labels};
use crate::dockerfile::labelled;
use crate::image::{Image, image};
use crate::settings::Settings;

/// Builds the release's image, unless an earlier call did.
///
/// # Errors
/// With the last lines of the build.
pub fn build(deployment: &Deployment, files: &Files, settings: &Settings) -> Result<Artifact, Error> {
    let client = Client::needed()?;
    let tag = image_tag(&deployment.service, &deployment.release);
    let earlier = image(&client, &tag)?;
    match earlier {
        Some(image) if image.belongs_to(&deployment.service, &deployment.release) => {
            return Ok(artifact(tag, image));
        }
        Some(_) => {
            return Err(Error::target(
                format!("build the image {tag}"),
                "an image of that name exists, and this tool did not build it",
                format!(
                    "give that image another name, then deploy again: docker tag {tag} OTHER && docker rmi {tag}"
                ),
            ));
        }
        None => {}
    }
    let label = format!("{SERVICE}={}", deployment.service);
    let script = ["sh", "-c", SCRIPT, "build", &label, RELEASE, &client.path].map(String::from);
    let dockerfile = dockerfile(deployment, files, settings)?;
    let file = if dockerfile.is_some() { "-" } else { &path(files, settings) };
    let argv = script.into_iter().chain(build_arguments(deployment, files, settings, file));
    change(argv).input(dockerfile.unwrap_or_default()).echo().checked(
        &format!("build the image {tag}"),
        "fix the Dockerfile or the service as the last lines say, and deploy again",
    )?;
    let image = image(&client, &tag)?.ok_or_else(|| {
        Error::target(
            format!("find the image {tag}"),
            "docker build succeeded, but the engine does not have the image",
            "a buildx builder with another driver may keep the image to itself; switch back to the default one: docker buildx use default",
        )
    })?;
    Ok(artifact(tag, image))
}

const SCRIPT: &str = include_str!("build.sh");

fn artifact(tag: String, image: Image) -> Artifact {
    Artifact { kind: "image".into(), reference: tag, digest: image.id, bytes: image.bytes }
}

/// The Dockerfile as the build gets it; none where it gets the file itself.
fn dockerfile(deployment: &Deployment, files: &Files, settings: &Settings) -> Result<Option<String>, Error> {
    let path = path(files, settings);
    // The file has a list of its own of what the context leaves out: only BuildKit knows that, and leaves no images.
    if there(&format!("{path}.dockerignore"))? {
        return Ok(None);
    }
    Ok(read_text(&path)?.and_then(|text| labelled(&text, SERVICE, &deployment.service)))
}

fn path(files: &Files, settings: &Settings) -> String {
    format!("{}/{}", files.path, settings.dockerfile)
}

/// `file` is the Dockerfile's path, or `-` for the build's input.
fn build_arguments(deployment: &Deployment, files: &Files, settings: &Settings, file: &str) -> Vec<String> {
    // The classic builder leaves the container of a step that failed or was cut off, if nobody says no.
    let mut arguments: Vec<String> = vec!["build".into(), "--force-rm".into()];
    arguments.extend(["--tag".into(), image_tag(&deployment.service, &deployment.release)]);
    arguments.extend(labels(&deployment.service, &deployment.release));
    arguments.extend(["--file".into(), file.into()]);
    if let Some(stage) = &settings.target {
        arguments.extend(["--target".into(), stage.clone()]);
    }
    for (name, value) in &settings.build_args {
        arguments.extend(["--build-arg".into(), format!("{name}={value}")]);
    }
    arguments.push(files.path.clone());
    arguments
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    use super::{SCRIPT, build_arguments};
    use crate::launch::tests::deployment;
    use deployer_plugin::types::Files;

    #[test]
    fn the_build_has_tag_labels_and_settings() {
        let settings =
            serde_json::from_str(r#"{"target": "live", "build_args": {"A": "b c"}}"#).expect("settings");
        let files = Files {
            path: "/opt/web/releases/r2".into(),
            count: 1,
            bytes: 1,
            sent_count: 1,
            sent_bytes: 1,
            digest: String::new(),
        };
        let line = build_arguments(&deployment(), &files, &settings, "-").join("|");
        assert_eq!(
            line,
            "build|--force-rm|--tag|web:r2|--label|io.deployer.service=web|--label|io.deployer.release=r2|\
             --file|-|--target|live|--build-arg|A=b c|/opt/web/releases/r2"
        );
    }
    /// A client whose images are lines of a file. Its build makes an image of its input, and then takes its time;
    /// meanwhile somebody else builds one from a release.
    const CLIENT: &str = r#"#!/bin/sh
images=$(dirname "$0")/images
case $1 in
images)
    case "$*" in
    "images --quiet --no-trunc --filter dangling=true --filter label=l=web") cat "$images" ;;
    "images --quiet --no-trunc --filter dangling=true --filter label=r") grep ^whole "$images" ;;
    esac ;;
rmi) grep -vxF "$2" "$images" >"$images.new"; mv "$images.new" "$images" ;;
build) cat >>"$images"; echo whole-of-another >>"$images"; [ "$2" = quick ] || exec sleep 60; echo built >&2; exit 3 ;;
esac
"#;

    /// How a build ends, what it says, and which images it leaves.
    fn check(name: &str, kind: &str, cut: bool, expect: (Option<i32>, &str, &str)) {
        let folder = std::env::temp_dir().join(format!("deployer-docker-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        let (client, images) = (folder.join("docker"), folder.join("images"));
        fs::write(&client, CLIENT).expect("a client");
        fs::set_permissions(&client, fs::Permissions::from_mode(0o755)).expect("its mode");
        fs::write(&images, "cache\n").expect("images");
        fs::write(folder.join("input"), "new\n").expect("an input");
        let build = Command::new("sh")
            .args(["-c", SCRIPT, "build", "l=web", "r"])
            .arg(&client)
            .args(["build", kind])
            .stdin(fs::File::open(folder.join("input")).expect("the input"))
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .expect("a shell");
        let began = Instant::now();
        while fs::read_to_string(&images).expect("images") != "cache\nnew\nwhole-of-another\n" {
            assert!(began.elapsed() < Duration::from_secs(10), "no build began");
            std::thread::sleep(Duration::from_millis(20));
        }
        if cut {
            let group = format!("-{}", build.id());
            let killed = Command::new("kill").args(["-s", "TERM", "--", &group]).status().expect("kill");
            assert!(killed.success());
        }
        let output = build.wait_with_output().expect("an end");
        let left = fs::read_to_string(&images).expect("images");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!((output.status.code(), said.as_str(), left.as_str()), expect, "{name}");
        fs::remove_dir_all(&folder).expect("removed");
    }

    #[test]
    fn a_build_that_is_cut_leaves_no_image() {
        // What somebody else built from a release meanwhile has that release's label.
        check("cut", "slow", true, (Some(143), "", "cache\nwhole-of-another\n"));
        check("whole", "quick", false, (Some(3), "built\n", "cache\nnew\nwhole-of-another\n"));
    }
}

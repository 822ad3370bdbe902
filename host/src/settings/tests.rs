#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
use super::*;

/// What is set where: by flag, in the environment, in the file.
struct Case<'a> {
    flag: Option<&'a str>,
    environment: Option<&'a str>,
    file: Option<&'a str>,
}

const NOWHERE: Case = Case { flag: None, environment: None, file: None };

/// Reads the settings where one of them, `key`, is set as the case says.
fn read(key: &str, case: &Case) -> Result<Settings, SettingsError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(FILE);
    let line = case.file.map(|value| format!("{key} = {value:?}\n")).unwrap_or_default();
    std::fs::write(&path, line).unwrap();
    let flags = match case.flag {
        Some(value) => toml::from_str(&format!("{key} = {value:?}")).unwrap(),
        None => Layer::default(),
    };
    let name = format!("DEPLOYER_{}", key.to_ascii_uppercase());
    let variable = |asked: &str| match asked {
        "HOME" => Some("/home/ann".to_owned()),
        _ if asked == name => case.environment.map(str::to_owned),
        _ => None,
    };
    let settings = Settings::read(Some(&path), flags, &variable);
    // Paths in the file start at its folder; for the comparison that is `/etc`.
    let relocate = |path: PathBuf| match path.strip_prefix(folder.path()) {
        Ok(rest) => Path::new("/etc").join(rest),
        Err(_) => path,
    };
    settings.map(|settings| Settings {
        key: relocate(settings.key),
        known_hosts: relocate(settings.known_hosts),
        registry_token_file: settings.registry_token_file.map(relocate),
        services: relocate(settings.services),
        plugins: relocate(settings.plugins),
        pipelines: relocate(settings.pipelines),
        data: relocate(settings.data),
        token_file: settings.token_file.map(relocate),
        ..settings
    })
}

fn value_of(settings: &Settings, key: &str) -> String {
    let path = |path: &Path| path.display().to_string();
    match key {
        "listen" => settings.listen.clone(),
        "target" => settings.target.clone().unwrap_or_default(),
        "key" => path(&settings.key),
        "known_hosts" => path(&settings.known_hosts),
        "registry" => settings.registry.clone().unwrap_or_default(),
        "registry_token_file" => settings.registry_token_file.as_deref().map(path).unwrap_or_default(),
        "services" => path(&settings.services),
        "plugins" => path(&settings.plugins),
        "pipelines" => path(&settings.pipelines),
        "data" => path(&settings.data),
        "root" => settings.root.clone(),
        "token_file" => settings.token_file.as_deref().map(path).unwrap_or_default(),
        other => panic!("no setting {other}"),
    }
}

#[test]
fn a_flag_beats_the_environment_beats_the_file_beats_the_default() {
    let url = ["http://flag:1", "http://environment:2", "http://file:3"];
    let address = ["flag:1", "environment:2", "file:3"];
    let absolute = ["/flag", "/environment", "/file"];
    let cases = [
        ("listen", address, "127.0.0.1:8007"),
        ("target", address, ""),
        ("key", absolute, "/home/ann/.ssh/id_ed25519"),
        ("known_hosts", absolute, "/home/ann/.ssh/known_hosts"),
        ("registry", url, ""),
        ("registry_token_file", absolute, ""),
        ("services", absolute, "."),
        ("plugins", absolute, "plugins"),
        ("pipelines", absolute, "pipelines"),
        ("data", absolute, "/home/ann/.local/state/deployer"),
        ("root", absolute, "/opt/fpai/services"),
        ("token_file", absolute, ""),
    ];
    for (key, [flag, environment, file], default) in cases {
        let check = |case: &Case, expect: &str| {
            assert_eq!(value_of(&read(key, case).unwrap(), key), expect, "{key}");
        };
        let (flag, environment, file) = (Some(flag), Some(environment), Some(file));
        check(&Case { flag, environment, file }, flag.unwrap());
        check(&Case { flag: None, environment, file }, environment.unwrap());
        check(&Case { flag: None, environment: None, file }, file.unwrap());
        check(&Case { flag: None, environment: Some(""), file }, file.unwrap());
        check(&NOWHERE, default);
    }
}

#[test]
fn paths_in_the_file_start_at_its_folder() {
    let check = |case: Case, expect: &str| {
        assert_eq!(value_of(&read("plugins", &case).unwrap(), "plugins"), expect);
    };
    check(Case { file: Some("more/plugins"), ..NOWHERE }, "/etc/more/plugins");
    check(Case { file: Some("~/plugins"), ..NOWHERE }, "/home/ann/plugins");
    check(Case { environment: Some("more/plugins"), ..NOWHERE }, "more/plugins");
    check(Case { environment: Some("~/plugins"), ..NOWHERE }, "/home/ann/plugins");
    check(Case { flag: Some("plugins"), file: Some("x"), ..NOWHERE }, "plugins");
}

#[test]
fn a_wrong_value_is_said_to_be_wrong_where_it_was_set() {
    let check = |key: &str, case: Case, parts: [&str; 2]| {
        let error = read(key, &case).unwrap_err().to_string();
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
    };
    check("listen", Case { flag: Some("8007"), ..NOWHERE }, ["--listen", "127.0.0.1:8007"]);
    check("listen", Case { environment: Some("x:y"), ..NOWHERE }, ["DEPLOYER_LISTEN", "not an address"]);
    for wrong in ["http://ann:hunter2@:1/x", "ftp://ann:hunter2@h", "http://ann:hunter2@h/?a", "http://h/#a"]
    {
        let problem = read("registry", &Case { flag: Some(wrong), ..NOWHERE }).unwrap_err().to_string();
        assert!(problem.contains("not a URL") && !problem.contains("hunter2"), "{wrong}: {problem}");
    }
    check("registry", Case { file: Some("registry:8000"), ..NOWHERE }, ["`registry` in", "not a URL"]);
    check("root", Case { flag: Some("services"), ..NOWHERE }, ["--root", "absolute path"]);
    check("root", Case { flag: Some("/"), ..NOWHERE }, ["--root", "absolute path"]);
    check("root", Case { flag: Some("/opt/../etc"), ..NOWHERE }, ["--root", "absolute path"]);
}

#[test]
fn an_unknown_key_is_named_with_its_line() {
    let error = read("lisen", &Case { file: Some("127.0.0.1:1"), ..NOWHERE }).unwrap_err().to_string();
    for part in ["line 1", "unknown field `lisen`", "`listen`"] {
        assert!(error.contains(part), "{part}: {error}");
    }
}

#[test]
fn a_named_file_has_to_be_there() {
    let error = Settings::read(Some(Path::new("/nowhere.toml")), Layer::default(), &|_| None);
    assert!(error.unwrap_err().to_string().contains("/nowhere.toml"));
}

#[test]
fn without_a_home_the_flags_are_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(FILE);
    std::fs::write(&path, "key = \"k\"\nknown_hosts = \"h\"\n").unwrap();
    let read = |state: Option<&str>| {
        let variable = |name: &str| if name == "XDG_STATE_HOME" { state.map(str::to_owned) } else { None };
        Settings::read(Some(&path), Layer::default(), &variable)
    };
    assert!(read(None).unwrap_err().to_string().contains("give --data"));
    assert_eq!(read(Some("/state")).unwrap().data, Path::new("/state/deployer"));
    assert!(read(Some("relative")).is_err());
}

#[test]
fn a_server_needs_a_target() {
    assert!(
        read("target", &NOWHERE).unwrap().required_target().unwrap_err().to_string().contains("--target")
    );
}

#[test]
fn a_registrys_login_is_not_part_of_its_url() {
    let case = Case { flag: Some("https://ann:hun%40ter2@registry.example.com/api/"), ..NOWHERE };
    let settings = read("registry", &case).unwrap();
    assert_eq!(settings.registry.as_deref(), Some("https://registry.example.com/api"));
    let login = settings.registry_login.clone().unwrap();
    assert_eq!((login.user.as_str(), login.password.expose()), ("ann", "hun@ter2"));
    assert!(!format!("{settings:?}").contains("ter2"));

    let variable = |name: &str| match name {
        "HOME" => Some("/home/ann".to_owned()),
        "DEPLOYER_REGISTRY_TOKEN_FILE" => Some("/token".to_owned()),
        _ => None,
    };
    let flags = Layer { registry: Some("https://ann:hunter2@h".to_owned()), ..Layer::default() };
    let problem = Settings::read(None, flags, &variable).unwrap_err().to_string();
    assert!(problem.contains("--registry-token-file") && !problem.contains("hunter2"), "{problem}");
}

//! What is found of values in texts, and that it takes no longer than the text is long.

use std::time::Duration;

use super::*;

fn redactor(values: &[(&str, &str)]) -> Redactor {
    let hidden = values.iter().map(|(name, value)| Hidden::variable(name, Secret::new(*value)));
    Redactor::new(hidden.collect(), vec![])
}

#[test]
fn values_become_names() {
    let check = |values: &[(&str, &str)], text: &str, expect: &str| {
        assert_eq!(redactor(values).redact(text), expect);
    };
    check(&[("KEY", "s3cr3t")], "key is s3cr3t.", "key is [env KEY].");
    check(&[("KEY", "short")], "short stays", "short stays");
    check(&[("A", "abcdef"), ("B", "abcdefghi")], "abcdefghi abcdef", "[env B] [env A]");
    // Two that overlap leave nothing of either.
    check(&[("A", "abcdef"), ("B", "defghijk")], "<abcdefghijk>", "<[env B]>");
    check(&[("A", "s3cr3t"), ("B", "s3cr3t")], "s3cr3t", "[env A]");
    check(&[("Q", r#"a"b$cd"#)], r#"Q="a\"b\$cd""#, r#"Q="[env Q]""#);
    check(&[("Q", "a\"bcdefg")], r#"{"Env":["Q=a\"bcdefg"]}"#, r#"{"Env":["Q=[env Q]"]}"#);
    check(&[("PEM", "-----BEGIN\nMIIabcdefgh\n-----END")], "MIIabcdefgh", "[env PEM]");
    check(&[("PEM", "a \"quoted\" line\nanother")], r#"PEM="a \"quoted\" line"#, "PEM=\"[env PEM]");
    check(&[("HOST", "0.0.0.0")], "LISTEN 0.0.0.0:8001", "LISTEN 0.0.0.0:8001");
    check(&[("STATE", "running")], "running", "running");
    check(&[("ENV", "Production")], "Production", "Production");
    check(&[], "nothing is hidden", "nothing is hidden");
}

#[test]
fn values_are_found_however_they_are_escaped() {
    let check = |value: &str, text: &str| {
        let text = format!("<{text}>");
        assert_eq!(redactor(&[("KEY", value)]).redact(&text), "<[env KEY]>", "{text}");
    };
    let value = "pässwörd \"x\" 'y'\n<&>\\😀";
    // As Python's json.dumps, Go's and .NET's print it.
    check(value, r#"p\u00e4ssw\u00f6rd \"x\" 'y'\n<&>\\\ud83d\ude00"#);
    check(value, r#"pässwörd \"x\" 'y'\n\u003c\u0026\u003e\\😀"#);
    check(value, r#"p\u00E4ssw\u00F6rd \u0022x\u0022 \u0027y\u0027\n\u003C\u0026\u003E\\\uD83D\uDE00"#);
    // As Python's repr of a text and of bytes prints it, and Rust's Debug.
    check(value, r#"pässwörd "x" \'y\'\n<&>\\😀"#);
    check(value, r#"p\xc3\xa4ssw\xc3\xb6rd "x" \'y\'\n<&>\\\xf0\x9f\x98\x80"#);
    check(value, r#"p\u{e4}ssw\u{f6}rd \"x\" 'y'\n<&>\\\u{1f600}"#);
    // In JSON in JSON.
    check(value, r#"pässwörd \\\"x\\\" 'y'\\n<&>\\\\😀"#);
    check("a/b/c/d", r"a\/b\/c\/d");
}

#[test]
fn single_lines_count_where_they_tell() {
    let check = |value: &str, text: &str, expect: &str| {
        assert_eq!(redactor(&[("KEY", value)]).redact(text), expect, "{value:?} in {text:?}");
    };
    check("first-secret\nsecond-secret\n", "a second-secret b", "a [env KEY] b");
    check("first-secret\r\n  second-secret\r\n", r"'  second-secret\r'", r"'  [env KEY]\r'");
    check("first-secret\n}\nrunning\n", "} running", "} running");
    // What is read from a file ends with a line break that is not printed.
    check("s3cr3t\n", "s3cr3t.", "[env KEY].");
}

/// As a service that prints its key writes it into its log: one line after the other.
#[test]
fn a_key_that_is_cut_into_lines_is_found_in_each_of_them() {
    let body = noise(7, 500);
    let lines: Vec<&str> =
        (0..8).filter_map(|line| body.get(64 * line..body.len().min(64 * line + 64))).collect();
    let key = format!("-----BEGIN KEY-----\n{}\n-----END KEY-----\n", lines.join("\n"));
    let redactor = redactor(&[("KEY", &key)]);
    for line in key.lines() {
        assert_eq!(redactor.redact(line), "[env KEY]", "{line}");
    }
    assert_eq!(redactor.redact(&key), "[env KEY]\n");
}

#[test]
fn a_long_part_of_a_long_value_counts() {
    let value: String = (0..100).map(|number| format!("{number:03}x")).collect();
    let part = |range: std::ops::Range<usize>| value.get(range).unwrap_or_default();
    let check = |values: &[(&str, &str)], text: String, expect: &str| {
        assert_eq!(redactor(values).redact(&text), expect, "{text}");
    };
    let key = [("KEY", value.as_str())];
    check(&key, format!("{}…", part(0..250)), "[env KEY]…");
    check(&key, format!("…{}", part(301..400)), "…[env KEY]");
    check(&key, format!("{}\n{}\n", part(0..76), part(76..152)), "[env KEY]\n[env KEY]\n");
    check(&key, format!("{value}{value}"), "[env KEY][env KEY]");
    check(&key, part(0..31).to_owned(), part(0..31));
    // A short value inside of the part does not hide it, nor does a longer value that begins alike.
    let inside = [("KEY", value.as_str()), ("SHORT", part(40..48))];
    check(&inside, format!("{}…", part(0..80)), "[env KEY]…");
    let longer = format!("{value}{}", "-tail".repeat(20));
    let alike = [("KEY", value.as_str()), ("LONGER", longer.as_str())];
    check(&alike, format!("{longer} {value}"), "[env LONGER] [env KEY]");
    // However many have the rest in common, the little that is a value's own is not left.
    let many: Vec<(String, String)> = (0..60)
        .map(|number| (format!("KEY_{number}"), format!("{}own-{number:02}-own{value}", part(0..200))))
        .collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    for (name, value) in &many {
        check(&many, (*value).to_owned(), &format!("[env {name}]"));
    }
}

#[test]
fn what_was_cut_off_by_others_is_found_where_it_begins() {
    let redactor = redactor(&[("TOKEN", "0a1b2c3d4e5f6a7b8c9d"), ("QUOTED", r#"a"b"c"d"e"f"g"#)]);
    let check = |text: &str, expect: &str| assert_eq!(redactor.redact_cut(text), expect, "{text}");
    check(r#"{"token":"0a1b2c3d4e5f"#, r#"{"token":"[env TOKEN]"#);
    check(r#"{"token":"0a1b2c3d4e5f…"#, r#"{"token":"[env TOKEN]…"#);
    check(r#"{"quoted":"a\"b\"c\"d\"e"#, r#"{"quoted":"[env QUOTED]"#);
    check("0a1b2c3d4e5f6a7b8c9d is whole", "[env TOKEN] is whole");
    check("healthy after 3 probes in 1.2 s", "healthy after 3 probes in 1.2 s");
    assert_eq!(redactor.redact("0a1b2c3d4e5f"), "0a1b2c3d4e5f");
}

#[test]
fn what_is_spared_stays_whole() {
    let path = "/opt/fpai/services/a-service-with-a-long-name/releases/20261124-031500-999";
    let value = format!("{path}/and/more/of/it");
    let hidden = vec![
        Hidden::variable("DIR", Secret::new(value.as_str())),
        Hidden::variable("NAME", Secret::new("a-service")),
        Hidden::registry("[registry token]", Secret::new("tok-123456")),
    ];
    let redactor = Redactor::new(hidden, vec![path.to_owned()]);
    let check = |text: &str, expect: &str| assert_eq!(redactor.redact(text), expect);
    check(path, path);
    check("a-service tok-123456", "a-service [registry token]");
    check(&value, "[env DIR]");
}

#[test]
fn all_texts_of_a_value_are_looked_at() {
    let redactor = redactor(&[("KEY", "s3cr3t")]);
    let value = serde_json::json!({ "s3cr3t": ["a s3cr3t", 1, null, { "b": "s3cr3t" }] });
    let expect = serde_json::json!({ "s3cr3t": ["a [env KEY]", 1, null, { "b": "[env KEY]" }] });
    assert_eq!(redactor.redact_value(value), expect);
}

/// Bytes that look like a key's, and are the same in each run.
fn noise(seed: u64, length: usize) -> String {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b'0' + u8::try_from(state >> 59).unwrap())
    };
    (0..length).map(|_| next()).collect()
}

/// What this thread has computed so far: other work of the machine does not count.
fn computed() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}

/// How long it takes to know an environment, and to take it out of a text.
fn check_time(what: &str, values: &[String], text: &str) {
    let hidden = |(index, value): (usize, &String)| {
        Hidden::variable(&format!("V{index}"), Secret::new(value.as_str()))
    };
    let began = computed();
    let redactor = Redactor::new(values.iter().enumerate().map(hidden).collect(), vec![]);
    let known = computed() - began;
    let redacted = redactor.redact(text).len();
    let taken_out = computed() - began - known;
    println!("{what}: known in {known:?}; {} bytes, {redacted} left, in {taken_out:?}", text.len());
    assert!(known < Duration::from_secs(1) && taken_out < Duration::from_secs(1), "{what}");
}

#[test]
fn much_takes_no_time() {
    let megabyte = 1 << 20;
    let long: Vec<String> = (0..60).map(|number| noise(number, 14 << 10)).collect();
    check_time("long values in another text", &long, &noise(99, megabyte));
    check_time("long values in themselves", &long, &long.join("\n"));
    let escaped = serde_json::json!(serde_json::json!(long).to_string()).to_string();
    check_time("long values, escaped", &long, &escaped);
    check_time("backslashes", &long, &"\\".repeat(megabyte));
    check_time("escapes that do not end", &long, &r"\u{".repeat(megabyte / 3));

    let lines: Vec<String> = (0..60)
        .map(|value| (0..840).map(|line| noise(value * 1000 + line, 16) + "\n").collect::<String>())
        .collect();
    check_time("values of short lines", &lines, &lines.concat());
    check_time("values of short lines in another text", &lines, &noise(99, megabyte));
    let short: Vec<String> = (0..50_000).map(|number| noise(number, 16)).collect();
    check_time("many short values", &short, &short.concat());

    let same = vec!["abc".repeat(48 << 10), "0123456789".repeat(14 << 10), "-".repeat(100_000)];
    for text in ["abc", "0123456789", "-"] {
        check_time("values that repeat themselves", &same, &text.repeat(megabyte / text.len()));
        let cut = text.repeat(90_000 / text.len()) + "\n";
        check_time("parts of them", &same, &cut.repeat(11));
    }
    let alike: Vec<String> = (0..60).map(|number| noise(1, 13 << 10) + &noise(number, 1 << 10)).collect();
    check_time("values that begin alike", &alike, &alike.concat());
}

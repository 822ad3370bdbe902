use std::collections::VecDeque;

use client::Answer;
use deployer_plugin::types::{Layout, Occasion};
use serde_json::Value;

use super::*;

const ENDPOINT: &str = "http://server:8001";

/// A registry that expects these calls, in this order, and has an answer to each.
struct Script {
    calls: VecDeque<(&'static str, u16, Value)>,
    /// The bodies that it was sent.
    bodies: Vec<Value>,
}

impl Registry for Script {
    fn send(&mut self, method: &str, path: &str, body: Option<&Value>) -> Result<Answer, Error> {
        let asked = format!("{method} {path}");
        let (expected, status, answer) = self.calls.pop_front().unwrap_or_else(|| panic!("also {asked}"));
        assert_eq!(asked, expected);
        self.bodies.extend(body.cloned());
        Ok(Answer::new(asked, status, answer.to_string().as_bytes()))
    }
}

const FIND: &str = "GET /droplets/name/shop";
const MAKE: &str = "POST /droplets";
const CHANGE: &str = "PATCH /droplets/7";
const REGISTER: &str = "POST /register";

fn droplet(endpoint: &str) -> Value {
    json!({ "droplet": { "id": 7, "name": "shop", "endpoint": endpoint } })
}

fn nothing() -> Value {
    json!({ "detail": "Not Found" })
}

/// What comes of these calls: the id, or a part of what was seen; and what the registry was sent.
fn check(
    dialect: Dialect,
    calls: &[(&'static str, u16, Value)],
    expect: Result<Option<u64>, &str>,
) -> Vec<Value> {
    let settings = Settings { dialect, ..Settings::default() };
    let deployment = Deployment {
        job: String::new(),
        service: "shop".into(),
        method: "docker".into(),
        release: "r2".into(),
        port: 8001,
        layout: Layout { root: String::new(), files: String::new(), environment: String::new() },
        environment: vec![],
        settings: "{}".into(),
        previous: None,
    };
    let publication =
        Publication { occasion: Occasion::Deployed, droplet_id: Some(3), endpoint: ENDPOINT.into() };
    let subject = Subject { settings: &settings, deployment: &deployment, publication: &publication };
    let mut script = Script { calls: calls.iter().cloned().collect(), bodies: vec![] };
    match (register(&mut script, subject), expect) {
        (Ok(registration), Ok(id)) => assert_eq!(registration.droplet_id, id, "{calls:?}"),
        (Err(error), Err(part)) => assert!(error.seen.contains(part), "{calls:?}: {}", error.seen),
        (found, _) => panic!("{calls:?}: {found:?} where {expect:?} was expected"),
    }
    assert!(script.calls.is_empty(), "not asked: {:?}", script.calls);
    script.bodies
}

#[test]
fn a_service_that_is_not_known_is_made() {
    let told = check(
        Dialect::Auto,
        &[(FIND, 404, nothing()), (MAKE, 201, droplet(ENDPOINT)), (FIND, 200, droplet(ENDPOINT))],
        Ok(Some(7)),
    );
    let told = told.first().cloned().unwrap_or_default();
    assert_eq!(
        (&told["id"], &told["name"], &told["steward"], &told["endpoint"], &told["metadata"]["release"]),
        (&json!(3), &json!("shop"), &json!("deployer"), &json!(ENDPOINT), &json!("r2"))
    );
}

#[test]
fn a_service_that_is_known_is_changed() {
    let told = check(
        Dialect::Auto,
        &[
            (FIND, 200, droplet("http://old:1")),
            (CHANGE, 200, droplet(ENDPOINT)),
            (FIND, 200, droplet(ENDPOINT)),
        ],
        Ok(Some(7)),
    );
    let fields: Vec<&str> = told
        .first()
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(fields, ["endpoint", "metadata", "status"]);
}

#[test]
fn somebody_else_may_be_quicker() {
    let change = [(CHANGE, 200, droplet(ENDPOINT)), (FIND, 200, droplet(ENDPOINT))];
    let begin = [(FIND, 404, nothing()), (MAKE, 409, json!({})), (FIND, 200, droplet("http://other:1"))];
    check(Dialect::Auto, &[begin.as_slice(), &change].concat(), Ok(Some(7)));
    // Nobody has the name: it is the id that is another's.
    let taken = [(FIND, 404, nothing()), (MAKE, 409, json!("id 3 is taken")), (FIND, 404, nothing())];
    check(
        Dialect::Auto,
        &taken,
        Err("409 instead of the new droplet, although it has no droplet of that name: \"id 3"),
    );
}

#[test]
fn a_registry_without_droplets_speaks_the_other_dialect() {
    for status in [404, 405] {
        let calls = [(FIND, 404, nothing()), (MAKE, status, nothing())];
        let confirmation =
            (REGISTER, 200, json!({ "service_name": "shop", "endpoint": ENDPOINT, "droplet_id": 9 }));
        check(Dialect::Auto, &[calls.as_slice(), std::slice::from_ref(&confirmation)].concat(), Ok(Some(9)));
        check(Dialect::Register, &[confirmation], Ok(Some(9)));
        check(Dialect::Droplets, &calls, Err("does not have this path"));
    }
}

#[test]
fn an_answer_that_makes_no_sense_is_shown() {
    check(Dialect::Auto, &[(FIND, 502, json!("bad gateway"))], Err("answered 502 instead of the droplet"));
    check(
        Dialect::Auto,
        &[(FIND, 200, json!({ "droplets": [] }))],
        Err("200 instead of the droplet of that name"),
    );
    check(
        Dialect::Auto,
        &[(FIND, 404, nothing()), (MAKE, 422, json!("steward"))],
        Err("422 instead of the new"),
    );
}

#[test]
fn a_confirmation_names_what_was_registered() {
    let droplet = |now: Value, expect: Result<Option<u64>, &str>| {
        check(
            Dialect::Droplets,
            &[(FIND, 200, droplet("http://old:1")), (CHANGE, 200, droplet(ENDPOINT)), (FIND, 200, now)],
            expect,
        );
    };
    let instead = "the registry answered 200 instead of shop at http://server:8001 with its id: {";
    droplet(json!({ "id": "7", "endpoint": ENDPOINT }), Ok(Some(7)));
    droplet(json!({ "id": "seven", "name": "shop", "endpoint": "http://server:8001/" }), Ok(None));
    droplet(json!({ "id": 7, "endpoint": "http://other:8001" }), Err(instead));
    droplet(json!({ "id": 7, "name": "blog", "endpoint": ENDPOINT }), Err(instead));
    droplet(json!({ "id": 7 }), Err(instead));
    droplet(json!({ "id": null, "endpoint": ENDPOINT }), Err(instead));

    let register = |answer: Value, expect: Result<Option<u64>, &str>| {
        check(Dialect::Register, &[(REGISTER, 200, answer)], expect);
    };
    // The id that was asked for is not the one that was given.
    register(json!({ "endpoint": ENDPOINT }), Ok(None));
    register(json!({ "registered": true, "droplet_id": 12 }), Ok(Some(12)));
    register(json!({ "droplet_id": 12, "endpoint": "http://other:8001" }), Err("instead of shop"));
    register(json!({ "registered_at": "now" }), Err("200 instead of shop at http://server:8001: {"));
    register(json!({ "service_name": "blog", "endpoint": ENDPOINT }), Err("instead of shop"));
    check(Dialect::Register, &[(REGISTER, 500, json!({ "endpoint": ENDPOINT }))], Err("answered 500"));
}

//! Whether the service's port is free, or held by nothing but the service itself: a pure function.

use deployer_plugin::types::{Deployment, Finding};

/// What is known of a port on the target.
#[derive(Debug, Default)]
pub struct Port {
    /// The users of all sockets that listen there: names, or ids where there is no name.
    pub listeners: Vec<String>,
    /// The units of their processes, which anybody may see.
    pub units: Vec<Named>,
    /// The processes of these sockets, as far as the SSH user may see them.
    pub holders: Vec<Holder>,
    /// Containers that publish it. Docker's own process listens for them.
    pub published: Vec<Named>,
    /// Pids in the service's own pid files.
    pub noted: Vec<u32>,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Holder {
    pub pid: u32,
    pub program: String,
    pub unit: Option<Named>,
    pub container: Option<Named>,
    /// Its session's leader, itself, and the processes above it.
    pub kin: Vec<u32>,
}

/// A container or a unit.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Named {
    pub name: String,
    /// By what this tool wrote, it is the service's.
    pub own: bool,
}

/// `user` is the SSH user.
pub fn finding(port: &Port, user: &str, deployment: &Deployment) -> Finding {
    let check = format!("port {} is free", deployment.port);
    if port.listeners.is_empty() && port.published.is_empty() {
        return Finding::passed(check, "nothing listens there");
    }
    let (own, others): (Vec<_>, Vec<_>) = claims(port).into_iter().partition(|claim| claim.own);
    let held = format!("port {} is held by", deployment.port);
    if !others.is_empty() {
        return Finding::failed(
            check,
            format!("{held} {}", names(&others)),
            "stop it, or deploy the service to another port",
        );
    }
    match (&deployment.previous, own.is_empty()) {
        (Some(previous), false) => Finding::passed(
            check,
            format!(
                "{held} {}, which belongs to this service's running release {}",
                names(&own),
                previous.id
            ),
        ),
        (None, false) => Finding::warning(
            check,
            format!("{held} {}, which an earlier deployment of this service left behind", names(&own)),
            "if this deployment fails to start, stop it by hand; most methods replace it",
        ),
        (Some(previous), true) if previous.instance.port == deployment.port => Finding::passed(
            check,
            format!(
                "{held} a process that the SSH user may not see; this service's running release {} uses this port",
                previous.id
            ),
        ),
        (_, true) => Finding::failed(
            check,
            format!("{held} {}", strangers(&port.listeners)),
            if user == "root" {
                "root does not see it either, so it runs outside of this system, perhaps on a container's host: stop it \
                 there, or deploy the service to another port"
            } else {
                "find it with `ss -ltnp` as root on the target and stop it, or deploy the service to another port"
            },
        ),
    }
}

/// Somebody at the port.
struct Claim {
    name: String,
    own: bool,
}

/// Docker's processes that listen on behalf of a container.
const DOCKERS: [&str; 2] = ["docker-proxy", "dockerd"];
const DOCKERS_UNIT: &str = "docker.service";

fn claims(port: &Port) -> Vec<Claim> {
    let published = port.published.iter().map(claim_of_container);
    let behind_docker =
        |holder: &&Holder| !port.published.is_empty() && DOCKERS.contains(&holder.program.as_str());
    let holders = port.holders.iter().filter(|holder| !behind_docker(holder));
    // A process that can be seen says more than its unit.
    let units = port.units.iter().filter(|_| port.holders.is_empty());
    let units = units.filter(|unit| port.published.is_empty() || unit.name != DOCKERS_UNIT);
    let mut claims: Vec<Claim> = published
        .chain(holders.map(|holder| claim_of_holder(holder, &port.noted)))
        .chain(units.map(|unit| Claim { name: format!("the unit {}", unit.name), own: unit.own }))
        .collect();
    claims.dedup_by(|a, b| a.name == b.name);
    claims
}

fn claim_of_container(container: &Named) -> Claim {
    Claim { name: format!("the container {}", container.name), own: container.own }
}

fn claim_of_holder(holder: &Holder, noted: &[u32]) -> Claim {
    if let Some(container) = &holder.container {
        return claim_of_container(container);
    }
    let pid = holder.pid;
    let name = match &holder.unit {
        Some(unit) => format!("{} (pid {pid}, unit {})", holder.program, unit.name),
        None => format!("{} (pid {pid})", holder.program),
    };
    let own_unit = holder.unit.as_ref().is_some_and(|unit| unit.own);
    let own_process = holder.kin.iter().any(|pid| noted.contains(pid));
    Claim { name, own: own_unit || own_process }
}

fn names(claims: &[Claim]) -> String {
    let names: Vec<&str> = claims.iter().map(|claim| claim.name.as_str()).collect();
    names.join(", ")
}

fn strangers(users: &[String]) -> String {
    let mut users: Vec<&str> = users.iter().map(String::as_str).collect();
    users.sort_unstable();
    users.dedup();
    format!("a process of the user {}, which the SSH user may not see", users.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use deployer_plugin::types::Severity::{self, Failed, Passed, Warning};
    use deployer_plugin::types::{Artifact, Instance, Layout, Release};

    fn deployment(previous_port: Option<u16>) -> Deployment {
        let layout = Layout {
            root: "/opt/fpai/services/web".into(),
            files: String::new(),
            environment: String::new(),
        };
        Deployment {
            job: String::new(),
            service: "web".into(),
            method: "docker".into(),
            release: "r2".into(),
            port: 8001,
            layout: layout.clone(),
            environment: vec![],
            settings: "{}".into(),
            previous: previous_port.map(|port| Release {
                id: "r1".into(),
                layout,
                artifact: Artifact {
                    kind: String::new(),
                    reference: String::new(),
                    digest: String::new(),
                    bytes: None,
                },
                instance: Instance {
                    kind: String::new(),
                    name: String::new(),
                    port,
                    alive: vec![],
                    log_tail: vec![],
                },
            }),
        }
    }

    fn held(holders: Vec<Holder>, published: Vec<Named>) -> Port {
        Port { listeners: vec!["postgres".into()], units: vec![], holders, published, noted: vec![500] }
    }

    fn holder(program: &str) -> Holder {
        Holder { pid: 812, program: program.into(), kin: vec![812], ..Holder::default() }
    }

    fn named(name: &str, own: bool) -> Named {
        Named { name: name.into(), own }
    }

    fn check(port: &Port, first: (Severity, &str), again: (Severity, &str)) {
        for (previous, (severity, text)) in [(None, first), (Some(8001), again)] {
            let finding = finding(port, "web", &deployment(previous));
            assert_eq!(finding.severity, severity, "{finding:?}");
            assert!(finding.message.contains(text), "{finding:?}");
        }
    }

    #[test]
    fn a_free_port_is_free() {
        check(&Port::default(), (Passed, "nothing"), (Passed, "nothing"));
    }

    #[test]
    fn a_stranger_is_named_whatever_ran_before() {
        let unit = Holder { unit: Some(named("nginx.service", false)), ..holder("nginx") };
        let text = "port 8001 is held by nginx (pid 812, unit nginx.service)";
        check(&held(vec![unit], vec![]), (Failed, text), (Failed, text));
        let text = "held by nc (pid 812)";
        check(&held(vec![holder("nc")], vec![]), (Failed, text), (Failed, text));
        let proxied = held(vec![holder("docker-proxy")], vec![named("db", false)]);
        check(&proxied, (Failed, "held by the container db"), (Failed, "the container db"));
        let both = held(vec![holder("nc")], vec![named("web-r1", true)]);
        check(&both, (Failed, "held by nc (pid 812)"), (Failed, "held by nc (pid 812)"));
    }

    #[test]
    fn the_own_release_is_no_obstacle() {
        let own = [
            held(vec![holder("docker-proxy")], vec![named("web-r1", true)]),
            held(vec![], vec![named("web-r1", true)]),
            held(vec![Holder { container: Some(named("web-r1", true)), ..holder("x") }], vec![]),
            held(
                vec![Holder { unit: Some(named("deployer-web.service", true)), ..holder("python") }],
                vec![],
            ),
            held(vec![Holder { kin: vec![812, 500], ..holder("python") }], vec![]),
        ];
        for port in own {
            check(&port, (Warning, "left behind"), (Passed, "running release r1"));
        }
    }

    #[test]
    fn what_cannot_be_seen_is_trusted_only_where_the_release_has_the_port() {
        check(&held(vec![], vec![]), (Failed, "of the user postgres"), (Passed, "release r1 uses this port"));
        let elsewhere = finding(&held(vec![], vec![]), "web", &deployment(Some(9000)));
        assert_eq!(elsewhere.severity, Failed, "{elsewhere:?}");
    }

    #[test]
    fn a_unit_is_named_where_its_process_cannot_be_seen() {
        let unit = |name: &str, own| Port { units: vec![named(name, own)], ..held(vec![], vec![]) };
        let text = "port 8001 is held by the unit postgresql.service";
        check(&unit("postgresql.service", false), (Failed, text), (Failed, text));
        check(&unit("deployer-web.service", true), (Warning, "left behind"), (Passed, "running release r1"));
        let docker = Port { published: vec![named("db", false)], ..unit("docker.service", false) };
        check(&docker, (Failed, "held by the container db"), (Failed, "held by the container db"));
        let seen = Port { holders: vec![holder("nc")], ..unit("nc.service", false) };
        check(&seen, (Failed, "held by nc (pid 812)"), (Failed, "held by nc (pid 812)"));
    }

    #[test]
    fn root_is_not_told_to_become_root() {
        let check = |user: &str, expect: bool| {
            let finding = finding(&held(vec![], vec![]), user, &deployment(None));
            assert_eq!(finding.next.contains("as root"), expect, "{finding:?}");
        };
        check("web", true);
        check("root", false);
    }
}

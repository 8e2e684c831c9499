//! Names of upstreams: what the name servers say, and the endpoints that requests reach.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use sluice_kit::dns::{Dns, Entry};
use sluice_proxy::run::NameFiles;
use sluice_wire::*;

use crate::harness::*;

const SEARCH: &str = "search shop.svc.cluster.local svc.cluster.local\noptions ndots:5\n";

/// The files of a resolver, removed at the end of the test.
struct Files(PathBuf);

impl Files {
    fn new(dns: &Dns, options: &str, hosts: &str) -> (Self, NameFiles) {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::SeqCst);
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("names-{}-{number}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let files = NameFiles { resolv_conf: folder.join("resolv.conf"), hosts: folder.join("hosts"), port: dns.port };
        fs::write(&files.resolv_conf, format!("nameserver 127.0.0.1\n{options}")).unwrap();
        fs::write(&files.hosts, hosts).unwrap();
        (Self(folder), files)
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap_or_default();
    }
}

fn gate(dns: &Dns) -> (Gate, Files) {
    let (files, names) = Files::new(dns, "options timeout:1 attempts:1\n", "");
    (Gate::configured(|settings| settings.names = names), files)
}

/// A backend on an address of loopback that responds with its name; port 0 is any.
fn backend(address: impl Into<IpAddr>, port: u16, name: &'static str) -> Backend {
    Backend::start_at(SocketAddr::new(address.into(), port), None, move |_, _| ok(name))
}

fn host(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 0, number)
}

fn by_url(host: &str, port: u16) -> Integration {
    Integration::Http(HttpTarget { tls: false, host: host.into(), port, path: None })
}

fn one(integration: Integration) -> Vec<(PartName, PartBody)> {
    vec![stage_part(stage()), route("r", vec![rule("r", "ANY", "/{p+}", policy(integration))])]
}

/// An ExternalName Service.
fn external_name(host: &str, port: u16) -> Vec<(PartName, PartBody)> {
    let (name, body) = upstream(&[]);
    let PartBody::Upstream(body) = body else { unreachable!() };
    let endpoints = Endpoints::Name { host: host.into(), port };
    let mut parts = one(service());
    parts.push((name, PartBody::Upstream(UpstreamPart { endpoints, ..body })));
    parts
}

#[test]
fn names_are_looked_up_as_the_system_does() {
    let dns = Dns::start();
    let backend = backend(host(1), 0, "found");
    let right = || vec![IpAddr::from(host(1))];
    let wrong = || vec![IpAddr::from(host(9))];
    let port = backend.address.port();
    dns.set("direct.example", 60, Entry::Addresses(right()));
    dns.set("brief.example", 0, Entry::Addresses(right()));
    dns.set("alias.example", 60, Entry::Alias("other.example".into()));
    dns.set("other.example", 60, Entry::Alias("direct.example".into()));
    dns.set("long.example", 60, Entry::Truncated(right()));
    // A domain of the search list comes first where a name has few dots.
    dns.set("orders.shop.svc.cluster.local", 60, Entry::Addresses(right()));
    dns.set("orders", 60, Entry::Addresses(wrong()));
    dns.set("stock.other.svc.cluster.local", 60, Entry::Addresses(right()));
    dns.set("a.b.c.d.e.f", 60, Entry::Addresses(right()));
    dns.set("a.b.c.d.e.f.shop.svc.cluster.local", 60, Entry::Addresses(wrong()));
    // A failure in one domain hides no other.
    dns.set("broken.example.shop.svc.cluster.local", 60, Entry::Failure);
    dns.set("broken.example", 60, Entry::Addresses(right()));
    dns.set("fixed", 60, Entry::Addresses(wrong()));
    let hosts = "# a comment\n127.0.0.1 fixed fixed.example # another\n";
    let (_files, names) = Files::new(&dns, SEARCH, hosts);
    let mut gate = Gate::configured(|settings| settings.names = names);
    for name in [
        "direct.example",
        "Direct.Example",
        "brief.example",
        "alias.example",
        "long.example",
        "orders",
        "stock.other",
        "a.b.c.d.e.f",
        "direct.example.",
        "broken.example",
        "fixed",
        "fixed.example",
        "localhost",
        "127.0.0.1",
    ] {
        gate.put(one(by_url(name, port)));
        let response = gate.get("/a");
        assert_eq!((response.status, response.body.as_str()), (200, "found"), "{name}");
        gate.put(external_name(name, port));
        assert_eq!(gate.get("/a").body, "found", "{name}");
    }
    let asked = dns.asked();
    assert!(!asked.iter().any(|name| name.contains("fixed") || name.contains("localhost") || name.contains("127")));
}

#[test]
fn a_name_with_ipv6_addresses_only_is_reached() {
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
        assert!(std::env::var_os("CI").is_none(), "this machine has no IPv6");
        return;
    }
    let dns = Dns::start();
    let backend = backend(Ipv6Addr::LOCALHOST, 0, "six");
    dns.set("six.example", 60, Entry::Addresses(vec![Ipv6Addr::LOCALHOST.into()]));
    // Nothing listens on the IPv4 address.
    dns.set("both.example", 60, Entry::Addresses(vec![host(7).into(), Ipv6Addr::LOCALHOST.into()]));
    let (mut gate, _files) = gate(&dns);
    for name in ["six.example", "both.example"] {
        gate.put(one(by_url(name, backend.address.port())));
        for _ in 0..10 {
            assert_eq!(gate.get("/a").body, "six", "{name}");
        }
    }
}

/// The backends that respond to some requests.
fn seen(gate: &Gate) -> BTreeSet<String> {
    (0..20).map(|_| gate.get("/a")).map(|response| format!("{} {}", response.status, response.body)).collect()
}

fn bodies(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| format!("200 {name}")).collect()
}

#[test]
fn traffic_follows_a_name_whose_address_changes_while_the_old_one_responds() {
    for ttl in [0, 1] {
        let dns = Dns::start();
        let old = backend(host(1), 0, "old");
        let port = old.address.port();
        let _new = backend(host(2), port, "new");
        dns.set("moves.example", ttl, Entry::Addresses(vec![host(1).into()]));
        let (mut gate, _files) = gate(&dns);
        for parts in [one(by_url("moves.example", port)), external_name("moves.example", port)] {
            dns.set("moves.example", ttl, Entry::Addresses(vec![host(1).into()]));
            gate.put(parts);
            eventually("the old address", || seen(&gate) == bodies(&["old"]));
            // One more address, and then only the other one.
            dns.set("moves.example", ttl, Entry::Addresses(vec![host(1).into(), host(2).into()]));
            eventually("both addresses", || seen(&gate) == bodies(&["new", "old"]));
            dns.set("moves.example", ttl, Entry::Addresses(vec![host(2).into()]));
            eventually("the new address", || seen(&gate) == bodies(&["new"]));
            // The target of an alias changes.
            dns.set("moves.example", ttl, Entry::Alias("target.example".into()));
            dns.set("target.example", ttl, Entry::Addresses(vec![host(1).into()]));
            eventually("the address of the alias", || seen(&gate) == bodies(&["old"]));
        }
    }
}

#[test]
fn the_addresses_of_a_name_are_balanced_and_one_that_does_not_listen_is_ejected() {
    let dns = Dns::start();
    let one_of = backend(host(1), 0, "one");
    let port = one_of.address.port();
    let _two = backend(host(2), port, "two");
    let all = [1, 2, 3].map(|number| IpAddr::from(host(number)));
    dns.set("three.example", 60, Entry::Addresses(all.to_vec()));
    let (mut gate, _files) = gate(&dns);
    gate.put(one(by_url("three.example", port)));
    assert_eq!(seen(&gate), bodies(&["one", "two"]));
}

#[test]
fn a_name_without_addresses_is_an_error_with_its_cause_until_it_has_some() {
    let dns = Dns::start();
    let backend = backend(host(1), 0, "back");
    dns.set("fails.example", 0, Entry::Failure);
    dns.set("silent.example", 0, Entry::Silence);
    dns.set("empty.example", 0, Entry::Addresses(Vec::new()));
    dns.set("loop.example", 0, Entry::Alias("nowhere.example".into()));
    let (mut gate, _files) = gate(&dns);
    for (name, cause) in [
        ("gone.example", "NameNotFound"),
        ("empty.example", "NameNotFound"),
        ("loop.example", "NameNotFound"),
        ("fails.example", "NameLookupFailed"),
        ("silent.example", "NameLookupTimeout"),
    ] {
        gate.put(one(by_url(name, backend.address.port())));
        let path = format!("/{name}");
        assert_eq!(gate.get(&path).status, 502, "{name}");
        let line = eventually(name, || gate.log.lines().into_iter().find(|line| line["path"] == path.as_str()));
        assert_eq!((&line["upstreamError"], &line["reason"]), (&cause.into(), &"ConnectFailed".into()), "{name}");
        dns.set(name, 0, Entry::Addresses(vec![host(1).into()]));
        eventually(format!("{name} is found"), || gate.get("/a").status == 200);
    }
}

#[test]
fn the_last_addresses_are_used_while_the_name_server_fails_and_not_when_the_name_is_gone() {
    for failure in [Entry::Failure, Entry::Silence] {
        let dns = Dns::start();
        let backend = backend(host(1), 0, "still");
        dns.set("stays.example", 0, Entry::Addresses(vec![host(1).into()]));
        let (mut gate, _files) = gate(&dns);
        gate.put(one(by_url("stays.example", backend.address.port())));
        assert_eq!(gate.get("/a").status, 200);
        dns.set("stays.example", 0, failure.clone());
        let asked = dns.asked().len();
        eventually("it was looked up again", || {
            assert_eq!(gate.get("/a").status, 200, "{failure:?}");
            dns.asked().len() > asked + 2
        });
        assert_eq!(gate.get("/a").status, 200, "{failure:?}");
        dns.set("stays.example", 0, Entry::NotFound);
        eventually("it is gone", || gate.get("/a").status == 502);
    }
}

/// A route of another namespace.
fn in_namespace(namespace: &str, path: &str, name: &str, port: u16) -> (PartName, PartBody) {
    let (_, body) = route("r", vec![rule("r", "ANY", path, policy(by_url(name, port)))]);
    let PartBody::Route(part) = body else { unreachable!() };
    let part = RoutePart { object: ObjectRef::new("ApiRoute", namespace, "r"), ..part };
    (PartName::new(PartKind::Route, format!("{namespace}/{path}")), PartBody::Route(part))
}

#[test]
fn names_without_a_response_delay_no_other_namespace() {
    let dns = Dns::start();
    let backend = backend(host(1), 0, "quick");
    dns.set("good.example", 60, Entry::Addresses(vec![host(1).into()]));
    let (mut gate, _files) = gate(&dns);
    let mut parts = vec![stage_part(stage()), in_namespace("good", "/good", "good.example", backend.address.port())];
    for number in 0..200 {
        let name = format!("silent-{number}.example");
        dns.set(&name, 60, Entry::Silence);
        parts.push(in_namespace("bad", &format!("/bad/{number}"), &name, 80));
    }
    gate.put(parts);
    std::thread::scope(|scope| {
        for number in 0..200 {
            let gate = &gate;
            scope.spawn(move || assert_eq!(gate.get(&format!("/bad/{number}")).status, 502));
        }
        eventually("many look-ups", || dns.asked().len() >= 30);
        // Those of one namespace are bounded, and take nothing from others.
        let started = Instant::now();
        assert_eq!(gate.get("/good").body, "quick");
        assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
        let silent: BTreeSet<String> = dns.asked().into_iter().filter(|name| name.starts_with("silent")).collect();
        assert!(silent.len() <= 64, "{}", silent.len());
    });
}

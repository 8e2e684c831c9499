//! A newer operator and this proxy, over a real stream: unknown frames, fields, kinds of parts, names and variants.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Value, json};
use sluice_kit::duplex::{Duplex, listen};
use sluice_proxy::config::store::Store;
use sluice_proxy::config::{Sink, Subscriber, stream};
use sluice_wire::*;

use crate::harness::*;
use crate::lambda_authorizer::{authorizer, lambda};

async fn hello(connection: &mut Duplex) -> Hello {
    match connection.receive().await {
        Up::Hello(hello) => hello,
        other => panic!("{other:?} instead of a hello"),
    }
}

async fn ack(connection: &mut Duplex) -> Ack {
    match connection.receive().await {
        Up::Ack(ack) => ack,
        other => panic!("{other:?} instead of an acknowledgement"),
    }
}

/// A part as a newer operator writes it.
fn part(name: &str, body: &Value) -> Part {
    let json = body.to_string();
    Part { name: name.parse().unwrap(), hash: Hash::of(json.as_bytes()), json: json.into() }
}

/// A part of this version with what a newer operator adds to it.
fn edited(made: (PartName, PartBody), edit: impl FnOnce(&mut Value)) -> Part {
    let (name, body) = made;
    let mut json: Value = serde_json::from_str(&Part::new(name.clone(), &body).json).unwrap();
    edit(&mut json);
    part(&name.to_string(), &json)
}

fn with_variant(name: &str, path: &str, field: &str, variant: Value) -> Part {
    edited(route(name, vec![rule("r", "GET", path, policy(mock(name)))]), |json| {
        json["rules"][0]["action"]["Serve"][field] = variant;
    })
}

/// The host of a Stage that this version cannot decode.
const KEYED: &str = "keyed.example";

fn newer_parts() -> Vec<Part> {
    let keyed = PartName::of_object(PartKind::Stage, "shop", "keyed");
    vec![
        edited(stage_part(stage()), |json| json["mutual_tls"] = json!({"mode": "Strict"})),
        edited(route("known", vec![rule("r", "GET", "/known", policy(mock("known")))]), |json| {
            json["canary"] = json!([1, 2]);
            json["rules"][0]["action"]["Serve"]["retries"] = json!(3);
        }),
        with_variant("newer", "/newer", "integration", json!({"Lambda": {"function": "f"}})),
        // As this proxy reads it, so does an older one read the action of a rule with expressions.
        edited(route("acted", vec![rule("r", "GET", "/acted", policy(mock("acted")))]), |json| {
            let policy = json["rules"][0]["action"]["Serve"].take();
            json["rules"][0]["action"] = json!({"Newer": policy});
        }),
        part(
            "authorizer/shop/newer",
            &json!({"object": {"kind": "Authorizer", "namespace": "shop", "name": "newer"},
            "kind": {"Saml": {}}}),
        ),
        with_variant("guarded", "/guarded", "authorizer", json!({"part": "authorizer/shop/newer", "scopes": []})),
        // As this proxy reads it, so does an older one read a function of a Service.
        edited(authorizer(lambda(([127, 0, 0, 1], 1).into(), LambdaEvent::Token)), |json| {
            json["kind"]["Lambda"]["function"] = json!({"Topic": {"upstream": "upstream/shop/functions:80"}});
        }),
        with_variant("called", "/called", "authorizer", json!({"part": "authorizer/shop/custom", "scopes": []})),
        // And keys that an authorizer names: no rule of the Stage is served, as none can be without its key.
        edited(
            (keyed.clone(), PartBody::Stage(StagePart { hostnames: vec![KEYED.parse().unwrap()], ..stage() })),
            |json| {
                json["api_key_source"] = json!("Token");
            },
        ),
        edited(route("keyed", vec![rule("r", "GET", "/keyed", policy(mock("keyed")))]), |json| {
            json["stages"] = json!([keyed]);
        }),
        edited(
            (
                "route/shop/parted#canary".parse().unwrap(),
                route("parted", vec![rule("r", "GET", "/parted", policy(mock("parted")))]).1,
            ),
            |_| {},
        ),
        part("quota/shop/gold", &json!({"limit": {"per": "month", "requests": 10_000_000_000_u64}})),
    ]
}

struct Proxy {
    proxy: Arc<sluice_proxy::run::Proxy>,
    following: tokio::task::JoinHandle<()>,
}

impl Proxy {
    fn start(operator: SocketAddr, state: &std::path::Path) -> Self {
        let proxy = sluice_proxy::run::Proxy::start(sluice_proxy::run::Settings {
            http: Some("127.0.0.1:0".parse().unwrap()),
            https: None,
            threads: Some(1),
            access_log: sluice_proxy::run::LogSink::Off,
            registry: prometheus::Registry::new(),
            allow_loopback: true,
            extra_roots: Vec::new(),
            limits: sluice_proxy::Limits::default(),
            request_policy: RequestPolicy::default(),
            timeouts: sluice_proxy::Timeouts::default(),
            names: sluice_proxy::run::NameFiles::default(),
            strictness: sluice_proxy::run::Strictness::Strict,
            https_port: None,
            trusted_proxies: sluice_proxy::run::TrustedProxies::default(),
            proxy_protocol: sluice_proxy::run::ProxyProtocol::default(),
            tls_terminators: Vec::new(),
            runtime: tokio::runtime::Handle::current(),
        });
        let proxy = Arc::new(proxy.unwrap());
        let (apply, fleet) = (proxy.clone(), proxy.clone());
        let sink = Sink {
            apply: Box::new(move |parts, changed, removed| apply.apply_parts(parts, changed, removed)),
            set_fleet: Box::new(move |proxies| fleet.set_fleet(proxies)),
            set_connected: Box::new(|_| {}),
            rejected: Box::new(|| {}),
            access_reviews: proxy.access_reviews(),
            key_uses: proxy.key_uses(),
        };
        let mut subscriber = Subscriber::start(
            "one".into(),
            FleetName::default(),
            sink,
            Some(Store::open(state, &FleetName::default()).unwrap()),
        );
        let following = tokio::spawn(async move {
            let operator = format!("http://{operator}").parse().unwrap();
            let settings = stream::StreamSettings { operator, authority: None, token: None };
            match stream::run(&settings, &mut subscriber).await {}
        });
        Self { proxy, following }
    }

    async fn status(&self, host: &str, path: &str) -> u16 {
        let address = self.proxy.http_addr().unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nauthorization: t\r\n\r\n");
        let call = move || {
            let mut tcp = std::net::TcpStream::connect(address).unwrap();
            std::io::Write::write_all(&mut tcp, request.as_bytes()).unwrap();
            read_response(&mut tcp).status
        };
        tokio::task::spawn_blocking(call).await.unwrap()
    }

    async fn serves_what_it_can_decode(&self) {
        let paths = ["/known", "/newer", "/acted", "/guarded", "/called", "/parted", "/none"];
        let statuses = [200, 500, 500, 500, 500, 200, 404];
        for (path, status) in paths.into_iter().zip(statuses) {
            assert_eq!(self.status("shop.example", path).await, status, "{path}");
        }
        assert_eq!(self.status(KEYED, "/keyed").await, 500);
    }

    async fn stop(self) {
        self.following.abort();
        assert!(self.following.await.unwrap_err().is_cancelled());
        tokio::task::spawn_blocking(move || drop(self.proxy)).await.unwrap();
    }
}

fn state_folder() -> PathBuf {
    let folder = std::env::temp_dir().join(format!("sluice-skew-{}", std::process::id()));
    drop(std::fs::remove_dir_all(&folder));
    folder
}

#[test]
fn a_proxy_follows_a_newer_operator_and_only_what_it_cannot_decode_fails_closed() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let (address, mut connections) = listen(None).await;
        let state = state_folder();
        let proxy = Proxy::start(address, &state);
        let mut connection = connections.recv().await.unwrap();
        let greeting = hello(&mut connection).await;
        assert!(PartKind::known().all(|kind| greeting.capabilities.has_part(kind)));

        let parts = newer_parts();
        let hashes: Parts<Hash> = parts.iter().map(|part| (part.name.clone(), part.hash)).collect();
        connection.send(&json!({"Welcome": {"program": "9.9", "capabilities": ["frame/Lease"], "region": "x"}})).await;
        connection.send(&json!({"Lease": {"tokens": 10}})).await;
        connection.send(&json!({"Fleet": {"proxies": 1, "weights": [0.5]}})).await;
        let delta = json!({"base": Hash::NONE, "version": hashes.version(), "upsert": parts, "remove": [],
            "priority": "High"});
        connection.send(&json!({"trace": "abc", "Delta": delta})).await;
        let first = ack(&mut connection).await;
        assert_eq!((first.version, &first.outcome), (hashes.version(), &Outcome::Applied));
        let mut named: Vec<&str> = first.diagnostics.iter().map(|found| &*found.object.name).collect();
        named.dedup();
        assert!(named.contains(&"newer") && !named.contains(&"known") && !named.contains(&"parted"), "{named:?}");
        proxy.serves_what_it_can_decode().await;

        // The stream continues after all of them.
        connection.send(&json!({"Ping": {"at": 1}})).await;
        assert_eq!(connection.receive::<Up>().await, Up::Pong);

        // An essential frame ends it. The next hello lists every part, also those of unknown kinds.
        connection.send(&json!({"Revoke": {}, "essential": true})).await;
        let mut connection = connections.recv().await.unwrap();
        let all: Parts<Hash> = hello(&mut connection).await.parts.into_iter().collect();
        assert_eq!(all.version(), hashes.version());
        proxy.serves_what_it_can_decode().await;
        proxy.stop().await;

        // A restart serves the same from disk, before it is connected to the operator.
        let proxy = Proxy::start(address, &state);
        proxy.serves_what_it_can_decode().await;
        let mut connection = connections.recv().await.unwrap();
        let all: Parts<Hash> = hello(&mut connection).await.parts.into_iter().collect();
        // An Authorizer of an unknown kind may hold a secret, which only a memory volume may have.
        let mut stored = hashes.clone();
        for secret in ["authorizer/shop/newer", "authorizer/shop/custom"].map(|name| name.parse().unwrap()) {
            if !all.contains(&secret) {
                stored.remove(&secret);
            }
        }
        assert_eq!(all.version(), stored.version());
        let gone = "quota/shop/gold".parse().unwrap();
        let mut rest = stored.clone();
        rest.remove(&gone);
        let delta = json!({"base": stored.version(), "version": rest.version(), "upsert": [], "remove": [gone]});
        connection.send(&json!({"Delta": delta})).await;
        assert_eq!(ack(&mut connection).await.outcome, Outcome::Applied);
        proxy.stop().await;
        std::fs::remove_dir_all(state).unwrap();
    });
}

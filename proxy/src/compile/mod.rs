//! Compiles parts and state to a `Gateway`. Only what a change affects is decoded and compiled again; the rest is reused.
//! Parts that cannot be compiled keep their place, reject requests, and are reported.

mod diagnostics;
mod index;
mod lenient;
mod rule;
mod stage;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use sluice_wire::{
    AuthorizerKind, CertificatePart, Diagnostic, Hash, NameFields, ObjectRef, Part, PartBody, PartKind, PartName,
    Parts, RequestPolicy, RoutePart, StagePart, UpstreamPart,
};

use crate::auth::{Authorizer, Means, PrincipalRing};
use crate::client_certificate::Trust;
use crate::gateway::router::{Matching, Position, Router};
use crate::gateway::{Gateway, HostTable, Rule, Stage};
use crate::key::KeyRing;
use crate::listen::tls::Certificates;
use crate::state::State;
use diagnostics::{Diagnostics, diagnostic};
use index::Index;

/// The one writer of configurations.
pub(crate) struct Control {
    gateway: Arc<ArcSwap<Gateway>>,
    certificates: Arc<Certificates>,
    state: State,
    stages: BTreeMap<PartName, Arc<StagePart>>,
    routes: Index,
    /// Or why each cannot be used, in a sentence.
    authorizers: BTreeMap<PartName, Result<Arc<Authorizer>, String>>,
    /// The Services that authorizers call, by authorizer.
    called: BTreeMap<PartName, PartName>,
    ring: KeyRing,
    principals: PrincipalRing,
    upstreams: BTreeSet<PartName>,
    certs: BTreeMap<PartName, CertificatePart>,
    /// Of Stages with client certificates.
    trusts: BTreeMap<PartName, Arc<Trust>>,
    /// The positions of the rules of routes in the routers of stages, for their removal.
    places: BTreeMap<PartName, BTreeMap<PartName, Vec<Position>>>,
    diagnostics: Diagnostics,
    fleet: u32,
    /// Of Stages that do not set it.
    request_policy: RequestPolicy,
}

/// If more routes change, they are not held in memory after decoding, but decoded again when they are compiled.
const KEPT: usize = 64;

/// What a change touches.
#[derive(Default)]
struct Dirty {
    /// Stages that are compiled again, with all their routes.
    stages: BTreeSet<PartName>,
    /// Stages of which only the frame changed.
    frames: BTreeSet<PartName>,
    /// With the stages they were and are attached to.
    routes: BTreeMap<PartName, BTreeSet<PartName>>,
    /// Routes as they were just read, where there are few: many would take more memory than all that is made of them.
    read: BTreeMap<PartName, RoutePart>,
    keeps: bool,
    /// Authorizers and upstreams.
    used: BTreeSet<PartName>,
    /// Services that changed authorizers call.
    called: BTreeSet<PartName>,
    certificates: bool,
}

impl Control {
    pub(crate) fn new(
        gateway: Arc<ArcSwap<Gateway>>,
        certificates: Arc<Certificates>,
        state: State,
        request_policy: RequestPolicy,
    ) -> Self {
        let principals = PrincipalRing::new(state.auth.principals.clone());
        Self {
            gateway,
            certificates,
            state,
            stages: BTreeMap::new(),
            routes: Index::default(),
            authorizers: BTreeMap::new(),
            called: BTreeMap::new(),
            ring: KeyRing::default(),
            principals,
            upstreams: BTreeSet::new(),
            certs: BTreeMap::new(),
            trusts: BTreeMap::new(),
            places: BTreeMap::new(),
            diagnostics: Diagnostics::default(),
            fleet: 1,
            request_policy,
        }
    }

    /// Puts a configuration in force: all of `snapshot`, of which `changed` is new and `removed` is gone. Returns every
    /// object of the whole configuration that cannot be served as written.
    pub(crate) fn apply(
        &mut self,
        snapshot: &Parts<Part>,
        changed: &[PartName],
        removed: &[PartName],
    ) -> Vec<Diagnostic> {
        let span = tracing::debug_span!("compile", parts.changed = changed.len(), parts.removed = removed.len());
        let _entered = span.enter();
        let mut dirty = Dirty { keeps: changed.len() <= KEPT, ..Dirty::default() };
        for name in removed {
            self.diagnostics.unreadable.remove(name);
            self.remove(name, &mut dirty);
        }
        for name in changed {
            if let Some(part) = snapshot.get(name) {
                self.take(part, &mut dirty);
            }
        }
        self.fill_called(snapshot, &dirty);
        self.ring.join(&self.state.buckets);
        self.principals.publish();
        let stages = self.compile_stages(snapshot, &mut dirty);
        let version = snapshot.version();
        self.store(version, stages);
        if dirty.certificates {
            let stages = self.stages.iter().map(|(name, stage)| (name, &**stage));
            self.diagnostics.certificates = self.certificates.update(stages, &self.certs, &self.trusts);
            let expiries = self.certs.values().filter_map(|part| Some((part.object.id(), part.not_after?)));
            self.state.metrics.set_certificates(expiries);
        }
        self.look_for_missing(&dirty);
        let caches = |name: &PartName| self.stages.get(name).is_some_and(|stage| stage.cache.is_some());
        self.state.sweep(|name| snapshot.contains(name), caches);
        self.state.metrics.set_version(&version.short());
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.state.metrics.applied.set(now.as_secs_f64());
        self.diagnostics.all()
    }

    /// How many proxies share each limit.
    pub(crate) fn set_fleet(&mut self, proxies: u32) {
        self.fleet = proxies.max(1);
        let old = self.gateway.load_full();
        self.store(old.version, old.stages.clone());
    }

    /// The port where clients reach HTTPS.
    pub(crate) fn set_https_port(&mut self, port: u16) {
        self.state.https_port = port;
    }

    fn store(&self, version: Hash, stages: BTreeMap<PartName, Arc<Stage>>) {
        let hosts = HostTable::new(stages.values());
        let signs = |authorizer: &Arc<Authorizer>| matches!(authorizer.means(), Means::Signature(_));
        let has_signatures = self.authorizers.values().flatten().any(signs);
        let gateway = Gateway { version, hosts, stages, keys: self.ring.keys(), fleet: self.fleet, has_signatures };
        self.gateway.store(Arc::new(gateway));
    }

    fn remove(&mut self, name: &PartName, dirty: &mut Dirty) {
        match name.kind {
            PartKind::Stage => {
                if let Some(stage) = self.stages.remove(name) {
                    self.state.metrics.remove_stage(&stage.object.id());
                    dirty.certificates |= has_tls(&stage);
                }
                self.trusts.remove(name);
                dirty.stages.insert(name.clone());
            }
            PartKind::Route => {
                let stages = self.routes.remove(name);
                dirty.routes.entry(name.clone()).or_default().extend(stages);
            }
            PartKind::Authorizer => {
                self.authorizers.remove(name);
                self.called.remove(name);
                self.state.metrics.set_authorizer(name.id(), None);
                dirty.used.insert(name.clone());
            }
            PartKind::Keys => self.ring.set_keys(name, None),
            PartKind::Plan => self.ring.set_plan(name, None),
            PartKind::Upstream => {
                self.upstreams.remove(name);
                self.update_upstream(name, None);
                dirty.used.insert(name.clone());
            }
            PartKind::Certificate => {
                self.certs.remove(name);
                dirty.certificates = true;
            }
            PartKind::Principal => drop(self.principals.set(name, None)),
            PartKind::Unknown => {}
        }
    }

    fn take(&mut self, part: &Part, dirty: &mut Dirty) {
        let name = &part.name;
        self.diagnostics.unreadable.remove(name);
        let body = match part.decode() {
            Ok(body) => body,
            Err(error) => {
                let error = sluice_daemon::logging::chain(&error);
                tracing::warn!(part = %name, error, "cannot decode a part of the configuration");
                self.diagnostics.unreadable.insert(name.clone(), lenient::diagnostics(part));
                match lenient::body(part) {
                    Some(body) => body,
                    // Without its content it is absent: what needs it rejects its requests.
                    None => return self.remove(name, dirty),
                }
            }
        };
        match body {
            PartBody::Stage(stage) => {
                let stage = Arc::new(stage);
                self.trust(name, &stage);
                let old = self.stages.insert(name.clone(), stage.clone());
                dirty.certificates |= has_tls(&stage) || old.as_deref().is_some_and(has_tls);
                let framed = old.is_some_and(|old| rule::sees_no_difference(&old, &stage));
                if framed {
                    dirty.frames.insert(name.clone())
                } else {
                    dirty.stages.insert(name.clone())
                };
            }
            PartBody::Route(route) => {
                let stages = self.routes.insert(name, &route);
                dirty.routes.entry(name.clone()).or_default().extend(stages);
                if dirty.keeps {
                    dirty.read.insert(name.clone(), route);
                }
            }
            PartBody::Authorizer(part) => {
                let authorizer = Authorizer::compile(&part, &self.state.auth);
                if let Err(problem) = &authorizer
                    // The operator has already reported an object that it calls invalid.
                    && !matches!(part.kind, AuthorizerKind::Invalid { .. })
                {
                    let found = vec![diagnostic(&part.object, problem.clone())];
                    self.diagnostics.unreadable.insert(name.clone(), found);
                }
                match part.upstream() {
                    Some(service) => {
                        self.called.insert(name.clone(), service.clone());
                        dirty.called.insert(service.clone());
                    }
                    None => drop(self.called.remove(name)),
                }
                self.state.metrics.set_authorizer(&part.object.id(), authorizer.as_ref().ok());
                self.authorizers.insert(name.clone(), authorizer);
                dirty.used.insert(name.clone());
            }
            PartBody::Keys(keys) => self.ring.set_keys(name, Some(keys)),
            PartBody::Plan(plan) => self.ring.set_plan(name, Some(plan)),
            PartBody::Upstream(part) => {
                if self.upstreams.insert(name.clone()) {
                    dirty.used.insert(name.clone());
                }
                self.update_upstream(name, Some(&part));
            }
            PartBody::Principal(part) => {
                if let Err(problem) = self.principals.set(name, Some(&part)) {
                    self.diagnostics.unreadable.insert(name.clone(), vec![diagnostic(&part.object, problem)]);
                }
            }
            PartBody::Certificate(part) => {
                self.certs.insert(name.clone(), part);
                dirty.certificates = true;
            }
        }
    }

    /// Prepares what a Stage trusts. One that cannot be used makes the Stage reject its requests.
    fn trust(&mut self, name: &PartName, stage: &StagePart) {
        let Some(client_auth) = stage.client_auth.as_deref() else {
            self.trusts.remove(name);
            return;
        };
        let id = Trust::id_of(client_auth);
        if self.trusts.get(name).is_some_and(|trust| trust.id() == id) {
            return;
        }
        match Trust::compile(client_auth) {
            Ok(trust) => drop(self.trusts.insert(name.clone(), Arc::new(trust))),
            Err(error) => {
                self.trusts.remove(name);
                let error = sluice_daemon::logging::chain(&error);
                let message =
                    format!("Client certificates cannot be verified, and all requests are rejected: {error}.");
                self.diagnostics.unreadable.insert(name.clone(), vec![diagnostic(&stage.object, message)]);
            }
        }
    }

    fn update_upstream(&mut self, name: &PartName, part: Option<&UpstreamPart>) {
        if let (Err(message), Some(part)) = (self.state.update_upstream(name, part), part) {
            let message = format!("The Service cannot be called: {message}");
            self.diagnostics.unreadable.insert(name.clone(), vec![Diagnostic { object: part.object.clone(), message }]);
        }
    }

    /// Gives the authorizers that were compiled now the endpoints of the Services that they call: those of others may have them
    /// already.
    fn fill_called(&mut self, snapshot: &Parts<Part>, dirty: &Dirty) {
        for name in &dirty.called {
            if let Some(PartBody::Upstream(part)) = snapshot.get(name).and_then(|part| part.decode().ok()) {
                self.update_upstream(name, Some(&part));
            }
        }
    }

    /// Compiles the changed stages again, and in the other stages only the changed routes.
    fn compile_stages(&mut self, snapshot: &Parts<Part>, dirty: &mut Dirty) -> BTreeMap<PartName, Arc<Stage>> {
        for used in dirty.used.iter().filter(|name| name.kind == PartKind::Authorizer) {
            for route in self.routes.users(used) {
                dirty.routes.entry(route.clone()).or_default().extend(self.routes.stages(route).iter().cloned());
            }
        }
        let mut touched: BTreeMap<PartName, BTreeSet<PartName>> = BTreeMap::new();
        for (route, stages) in &dirty.routes {
            for stage in stages {
                touched.entry(stage.clone()).or_default().insert(route.clone());
            }
        }
        for stage in &dirty.stages {
            touched.entry(stage.clone()).or_default().extend(self.routes.attached(stage).cloned());
        }
        for stage in &dirty.frames {
            touched.entry(stage.clone()).or_default();
        }
        let mut stages = self.gateway.load().stages.clone();
        for (name, routes) in touched {
            let Some(part) = self.stages.get(&name).cloned() else {
                stages.remove(&name);
                self.forget_stage(&name);
                continue;
            };
            let mut router = match stages.get(&name) {
                Some(old) if !dirty.stages.contains(&name) => old.router.clone(),
                _ => {
                    self.forget_stage(&name);
                    Router::new(Matching::new(part.behavior, part.trailing_slash))
                }
            };
            for route in &routes {
                self.replace_route(snapshot, dirty, (&name, &part), route, &mut router);
            }
            for route in &routes {
                self.forget_metrics(&name, &part, route);
            }
            let trust = self.trusts.get(&name);
            let made = stage::assemble(&name, &part, router, &self.state, self.request_policy, trust);
            stages.insert(name, Arc::new(made));
        }
        stages
    }

    fn forget_stage(&mut self, name: &PartName) {
        for route in self.places.remove(name).unwrap_or_default().into_keys() {
            self.diagnostics.rules.remove(&(route, name.clone()));
        }
    }

    /// Takes a route out of a stage's router and puts it in as it is now.
    fn replace_route(
        &mut self,
        snapshot: &Parts<Part>,
        dirty: &Dirty,
        (stage_name, stage): (&PartName, &StagePart),
        name: &PartName,
        router: &mut Router<Arc<Rule>>,
    ) {
        let places = self.places.entry(stage_name.clone()).or_default();
        for place in places.remove(name).unwrap_or_default() {
            router.remove(&place);
        }
        self.diagnostics.rules.remove(&(name.clone(), stage_name.clone()));
        if !self.routes.stages(name).contains(stage_name) {
            return;
        }
        let again;
        let route = match dirty.read.get(name) {
            Some(route) => route,
            None => {
                again = snapshot.get(name).and_then(|part| part.decode().ok().or_else(|| lenient::body(part)));
                let Some(PartBody::Route(route)) = &again else { return };
                route
            }
        };
        let site = rule::Site { stage_name, stage, route_name: name, route };
        let compiled = rule::compile(&site, &self.authorizers, &mut self.state);
        for (place, methods, rule) in &compiled.rules {
            router.add(place, methods.clone(), rule.clone());
        }
        self.places.entry(stage_name.clone()).or_default().insert(name.clone(), compiled.places());
        if !compiled.diagnostics.is_empty() {
            self.diagnostics.rules.insert((name.clone(), stage_name.clone()), compiled.diagnostics);
        }
    }

    /// Removes the metrics of an ApiRoute of which nothing is left at a stage.
    fn forget_metrics(&self, stage_name: &PartName, stage: &StagePart, route: &PartName) {
        let Some(places) = self.places.get(stage_name) else { return };
        // An ApiRoute has one part, or one for each of several stages.
        let NameFields { namespace, name, .. } = route.fields();
        let whole = PartName::of_object(PartKind::Route, namespace, name);
        let first = PartName::of_route_at_stage(namespace, name, "");
        let left = places.contains_key(&whole)
            || places.range(&first..).next().is_some_and(|(next, _)| next.is_of_same_object(&whole));
        if !left {
            let label = rule::label(&stage.object.namespace, namespace, name);
            self.state.metrics.stage(&stage.object.id()).remove_route(&label);
        }
    }

    /// Authorizers and routes that refer to upstreams that are not there.
    fn look_for_missing(&mut self, dirty: &Dirty) {
        for name in dirty.used.iter().filter(|name| name.kind == PartKind::Authorizer) {
            self.diagnostics.missing.remove(name);
        }
        for (name, service) in &self.called {
            if !dirty.used.contains(name) && !dirty.used.contains(service) {
                continue;
            }
            if self.upstreams.contains(service) {
                self.diagnostics.missing.remove(name);
            } else {
                self.diagnostics.missing.insert(name.clone(), vec![missing(&name.object(), service)]);
            }
        }
        let used = dirty.used.iter().filter(|name| name.kind == PartKind::Upstream);
        let routes: BTreeSet<PartName> =
            used.flat_map(|name| self.routes.users(name)).chain(dirty.routes.keys()).cloned().collect();
        for name in routes {
            let Some((object, uses)) = self.routes.get(&name) else {
                self.diagnostics.missing.remove(&name);
                continue;
            };
            let absent = uses.filter(|used| used.kind == PartKind::Upstream && !self.upstreams.contains(*used));
            let found: Vec<Diagnostic> = absent.map(|used| missing(object, used)).collect();
            if found.is_empty() {
                self.diagnostics.missing.remove(&name);
            } else {
                self.diagnostics.missing.insert(name, found);
            }
        }
    }
}

fn missing(object: &ObjectRef, service: &PartName) -> Diagnostic {
    diagnostic(object, format!("It calls the Service {}, of which this proxy knows nothing.", service.id()))
}

/// Whether the hosts of a Stage have certificates, or must not have those of others.
fn has_tls(stage: &StagePart) -> bool {
    stage.tls.is_some() || !stage.certificates.is_empty()
}

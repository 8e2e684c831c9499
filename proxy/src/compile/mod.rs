//! Parts and state become a Gateway. Only what a change touches is compiled again; everything else is carried over.
//! What cannot be compiled keeps its place, refuses, and is named.

mod rule;
mod salvage;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use sluice_wire::{
    Behavior, CertificatePart, Diagnostic, Hash, Integration, KeysPart, ObjectRef, Part, PartBody, PartKind, PartName,
    PlanPart, RoutePart, RuleAction, StagePart, version_of,
};

use crate::auth::Authorizer;
use crate::cors::Cors;
use crate::gateway::router::Router;
use crate::gateway::{Gateway, HostTable, Rule, Stage};
use crate::key::KeyRing;
use crate::listen::tls::Certificates;
use crate::state::State;

/// The one writer of configurations.
pub(crate) struct Control {
    gateway: Arc<ArcSwap<Gateway>>,
    certificates: Arc<Certificates>,
    state: State,
    stages: BTreeMap<PartName, StagePart>,
    routes: BTreeMap<PartName, RoutePart>,
    authorizers: BTreeMap<PartName, Arc<Authorizer>>,
    keys: BTreeMap<PartName, KeysPart>,
    plans: BTreeMap<PartName, PlanPart>,
    upstreams: BTreeSet<PartName>,
    certs: BTreeMap<PartName, CertificatePart>,
    /// Rules by stage and route, so that a stage is put together again without compiling all its routes.
    rules: BTreeMap<PartName, BTreeMap<PartName, Compiled>>,
    ring: Arc<KeyRing>,
    /// What is wrong with parts themselves.
    unreadable: BTreeMap<PartName, Diagnostic>,
    fleet: u32,
}

/// One route's rules at one stage.
struct Compiled {
    rules: Vec<Arc<Rule>>,
    diagnostics: Vec<Diagnostic>,
}

impl Control {
    pub(crate) fn new(gateway: Arc<ArcSwap<Gateway>>, certificates: Arc<Certificates>, state: State) -> Self {
        Self {
            gateway,
            certificates,
            state,
            stages: BTreeMap::new(),
            routes: BTreeMap::new(),
            authorizers: BTreeMap::new(),
            keys: BTreeMap::new(),
            plans: BTreeMap::new(),
            upstreams: BTreeSet::new(),
            certs: BTreeMap::new(),
            rules: BTreeMap::new(),
            ring: Arc::default(),
            unreadable: BTreeMap::new(),
            fleet: 1,
        }
    }

    /// Puts a configuration in force: all of `snapshot`, of which `changed` is new and `removed` is gone. Returns every
    /// object of the whole configuration that cannot be served as written.
    pub(crate) fn apply(
        &mut self,
        snapshot: &BTreeMap<PartName, Part>,
        changed: &[PartName],
        removed: &[PartName],
    ) -> Vec<Diagnostic> {
        let mut dirty = Dirty::default();
        for name in removed {
            self.remove(name, &mut dirty);
        }
        for name in changed {
            if let Some(part) = snapshot.get(name) {
                self.take(part, &mut dirty);
            }
        }
        if dirty.keys {
            self.ring = Arc::new(KeyRing::compile(self.keys.values(), &self.plans, &self.state.limits));
        }
        let hashes: BTreeMap<PartName, Hash> = snapshot.iter().map(|(name, part)| (name.clone(), part.hash)).collect();
        let version = version_of(&hashes);
        let stages = self.compile_stages(&dirty);
        self.store(version, stages);
        let mut diagnostics: Vec<Diagnostic> = self.unreadable.values().cloned().collect();
        diagnostics.extend(self.certificates.update(self.stages.values(), &self.certs));
        diagnostics.extend(
            self.rules.values().flat_map(BTreeMap::values).flat_map(|compiled| compiled.diagnostics.iter().cloned()),
        );
        diagnostics.extend(self.missing());
        diagnostics.sort();
        diagnostics.dedup();
        self.state.sweep(|name| snapshot.contains_key(name));
        self.state.metrics.set_version(&version.short());
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.state.metrics.applied.set(now.as_secs_f64());
        diagnostics
    }

    /// How many proxies share each limit.
    pub(crate) fn set_fleet(&mut self, proxies: u32) {
        self.fleet = proxies.max(1);
        let old = self.gateway.load_full();
        self.store(old.version, old.stages.clone());
    }

    fn store(&self, version: Hash, stages: BTreeMap<PartName, Arc<Stage>>) {
        let hosts = HostTable::new(stages.values());
        let gateway = Gateway { version, hosts, stages, keys: self.ring.clone(), fleet: self.fleet };
        self.gateway.store(Arc::new(gateway));
    }

    fn remove(&mut self, name: &PartName, dirty: &mut Dirty) {
        self.unreadable.remove(name);
        match name.kind {
            PartKind::Stage => {
                if let Some(stage) = self.stages.remove(name) {
                    let stage = stage.object.id();
                    for route in self.routes.values().filter(|route| route.stages.contains(name)) {
                        self.state.metrics.remove_route(&stage, &route.object.name);
                    }
                    self.state.metrics.remove_stage(&stage);
                }
                dirty.stages.insert(name.clone());
            }
            PartKind::Route => {
                if let Some(old) = self.routes.remove(name) {
                    for stage in &old.stages {
                        if let Some(part) = self.stages.get(stage) {
                            self.state.metrics.remove_route(&part.object.id(), &old.object.name);
                        }
                    }
                    dirty.route(name, &old);
                }
            }
            PartKind::Authorizer => {
                self.authorizers.remove(name);
                dirty.authorizers.insert(name.clone());
            }
            PartKind::Keys => {
                self.keys.remove(name);
                dirty.keys = true;
            }
            PartKind::Plan => {
                self.plans.remove(name);
                dirty.keys = true;
            }
            PartKind::Upstream => {
                self.upstreams.remove(name);
                self.state.upstream(name).update(None);
            }
            PartKind::Certificate => {
                self.certs.remove(name);
            }
        }
    }

    fn take(&mut self, part: &Part, dirty: &mut Dirty) {
        let name = &part.name;
        let body = match part.decode() {
            Ok(body) => {
                self.unreadable.remove(name);
                body
            }
            Err(error) => {
                tracing::warn!(part = %name, error = %error, "cannot read a part of the configuration");
                self.unreadable.insert(name.clone(), salvage::diagnostic(name));
                match salvage::body(part) {
                    Some(body) => body,
                    None => {
                        // Without its content it can only be absent: whatever needs it refuses.
                        let diagnostic = self.unreadable.remove(name);
                        self.remove(name, dirty);
                        self.unreadable.extend(diagnostic.map(|diagnostic| (name.clone(), diagnostic)));
                        return;
                    }
                }
            }
        };
        match body {
            PartBody::Stage(stage) => {
                self.stages.insert(name.clone(), stage);
                dirty.stages.insert(name.clone());
            }
            PartBody::Route(route) => {
                dirty.route(name, &route);
                if let Some(old) = self.routes.insert(name.clone(), route) {
                    dirty.route(name, &old);
                }
            }
            PartBody::Authorizer(part) => {
                self.authorizers.insert(name.clone(), Authorizer::compile(&part, &self.state.key_sets));
                dirty.authorizers.insert(name.clone());
            }
            PartBody::Keys(keys) => {
                self.keys.insert(name.clone(), keys);
                dirty.keys = true;
            }
            PartBody::Plan(plan) => {
                self.plans.insert(name.clone(), plan);
                dirty.keys = true;
            }
            PartBody::Upstream(part) => {
                self.upstreams.insert(name.clone());
                self.state.upstream(name).update(Some(&part));
            }
            PartBody::Certificate(part) => {
                self.certs.insert(name.clone(), part);
            }
        }
    }

    /// The stages, of which only touched ones are made anew.
    fn compile_stages(&mut self, dirty: &Dirty) -> BTreeMap<PartName, Arc<Stage>> {
        let mut touched = dirty.stages.clone();
        touched.extend(dirty.routes.values().flatten().cloned());
        let mut routes: BTreeSet<&PartName> = dirty.routes.keys().collect();
        for (name, route) in &self.routes {
            if !dirty.authorizers.is_empty() && uses(route, &dirty.authorizers) {
                routes.insert(name);
                touched.extend(route.stages.iter().cloned());
            }
        }
        let mut stages = self.gateway.load().stages.clone();
        for name in touched {
            let Some(part) = self.stages.get(&name) else {
                stages.remove(&name);
                self.rules.remove(&name);
                continue;
            };
            let whole = dirty.stages.contains(&name);
            let mut kept = self.rules.remove(&name).unwrap_or_default();
            let attached: Vec<(&PartName, &RoutePart)> =
                self.routes.iter().filter(|(_, route)| route.stages.contains(&name)).collect();
            kept.retain(|route, _| {
                !whole && !routes.contains(route) && attached.iter().any(|(name, _)| *name == route)
            });
            for (count, (route_name, route)) in attached.iter().enumerate() {
                if !kept.contains_key(*route_name) {
                    let site = rule::Site { stage_name: &name, stage: part, route_name, route, count };
                    kept.insert((*route_name).clone(), rule::compile(&site, &self.authorizers, &mut self.state));
                }
            }
            stages.insert(
                name.clone(),
                Arc::new(assemble(&name, part, &attached, &kept, &self.state, stages.get(&name))),
            );
            self.rules.insert(name, kept);
        }
        stages
    }

    /// Objects that refer to parts that are not there.
    fn missing(&self) -> Vec<Diagnostic> {
        let mut out = Vec::new();
        for route in self.routes.values() {
            for rule in &route.rules {
                if let RuleAction::Serve(policy) = &rule.action
                    && let Integration::Service(part) = &policy.integration
                    && !self.upstreams.contains(part)
                {
                    let message = format!(
                        "The rule {} calls the Service {}, of which this proxy knows nothing.",
                        rule.name, part.id
                    );
                    out.push(Diagnostic { object: route.object.clone(), message });
                }
            }
        }
        out
    }
}

/// What a change touches.
#[derive(Default)]
struct Dirty {
    stages: BTreeSet<PartName>,
    /// With the stages they were and are attached to.
    routes: BTreeMap<PartName, BTreeSet<PartName>>,
    authorizers: BTreeSet<PartName>,
    keys: bool,
}

impl Dirty {
    fn route(&mut self, name: &PartName, route: &RoutePart) {
        self.routes.entry(name.clone()).or_default().extend(route.stages.iter().cloned());
    }
}

fn uses(route: &RoutePart, authorizers: &BTreeSet<PartName>) -> bool {
    route.rules.iter().any(|rule| match &rule.action {
        RuleAction::Serve(policy) => policy.authorizer.as_ref().is_some_and(|used| authorizers.contains(&used.part)),
        RuleAction::Invalid { .. } => false,
    })
}

fn assemble(
    name: &PartName,
    part: &StagePart,
    attached: &[(&PartName, &RoutePart)],
    compiled: &BTreeMap<PartName, Compiled>,
    state: &State,
    old: Option<&Arc<Stage>>,
) -> Stage {
    let mut router = Router::new(part.behavior == Behavior::AwsRest);
    let mut rules = Vec::new();
    for (route_name, route) in attached {
        let Some(compiled) = compiled.get(*route_name) else { continue };
        for (rule, made) in route.rules.iter().zip(&compiled.rules) {
            let (prefix, test) = rule::test(route, rule);
            router.add(prefix, &rule.path, test, rules.len());
            rules.push(made.clone());
        }
    }
    let metrics = match old {
        Some(old) => old.metrics.clone(),
        None => Arc::new(state.metrics.stage(&part.object.id())),
    };
    Stage {
        part: name.clone(),
        object: part.object.clone(),
        hostnames: part.hostnames.clone(),
        base: part.base_path.trim_end_matches('/').into(),
        behavior: part.behavior,
        invalid: part.invalid.is_some(),
        cors: part.cors.as_ref().map(Cors::compile),
        access_log: part.access_log,
        router,
        rules,
        metrics,
    }
}

fn diagnostic(object: &ObjectRef, message: String) -> Diagnostic {
    Diagnostic { object: object.clone(), message }
}

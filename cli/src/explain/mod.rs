//! `sluice explain`: translates a folder of manifests as `sluice dev` does, and has the proxy explain one request. `request` builds
//! the request from the arguments, `signing` signs it, `keys` inserts and hides the values of API keys, `text` writes the explanation for
//! people.

mod keys;
mod request;
mod signing;
mod text;

use std::process::ExitCode;

use anyhow::{Context as _, anyhow, bail};
use prometheus::Registry;
use serde::Serialize;
use sluice_operator::cluster_state::ClusterState;
use sluice_operator::manifests::{self, Loaded};
use sluice_operator::objects::ObjectKey;
use sluice_proxy::explain::{ExplainedOutcome, Explanation};
use sluice_proxy::run::{
    LogSink, NameFiles, Proxy, ProxyProtocol, RequestToExplain, Settings, Strictness, TrustedProxies,
};
use sluice_proxy::{Limits, Timeouts};
use sluice_wire::Ack;

use self::keys::Keys;
use self::signing::Signing;
use crate::args::{self, OutputFormat};
use crate::dev::session::{Session, Step};
use crate::dev::{check_folder, cluster_state_of};
use crate::report;

/// The manifests or the arguments are not valid.
const INVALID: u8 = 2;

/// An explanation, with what only the manifests state.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Output {
    #[serde(flatten)]
    explanation: Explanation,
    /// The fleet of the Stage; none: no Stage matched.
    #[serde(skip_serializing_if = "Option::is_none")]
    fleet: Option<String>,
}

/// Explains a request. Exit code 0: it passes; 1: it is rejected; 2: the manifests or the arguments are not valid.
pub(crate) async fn run(settings: &args::Explain) -> ExitCode {
    match explain(settings).await {
        Ok((text, outcome)) => {
            print!("{text}");
            match outcome {
                ExplainedOutcome::Forwarded | ExplainedOutcome::Responded => ExitCode::SUCCESS,
                ExplainedOutcome::Rejected | ExplainedOutcome::Unfinished => ExitCode::FAILURE,
            }
        }
        Err(error) => invalid(&error),
    }
}

fn invalid(error: &anyhow::Error) -> ExitCode {
    eprintln!("sluice: {error:#}");
    ExitCode::from(INVALID)
}

/// The text to be printed, without values of API keys.
async fn explain(settings: &args::Explain) -> anyhow::Result<(String, ExplainedOutcome)> {
    check_folder(&settings.folder)?;
    let loaded = manifests::load(&settings.folder);
    if loaded.has_errors() {
        report::of_files(&loaded).iter().filter(|line| line.starts_with('!')).for_each(|line| eprintln!("{line}"));
        bail!("the manifests of {} are not valid", settings.folder.display());
    }
    let mut session = Session::without_servers(&settings.services);
    let step = session.prepare(&cluster_state_of(&loaded)).await?;
    let keys = Keys::of(&session.cluster);
    let output = output(settings, &mut session, step, &loaded, &keys);
    let output = output.map_err(|error| anyhow!(keys.hide(&format!("{error:#}"))))?;
    let text = match settings.output {
        OutputFormat::Text => keys.hide(&text::render(&output.explanation, output.fleet.as_deref())),
        OutputFormat::Json => keys.hide_in_json(&serde_json::to_string_pretty(&output)?),
    };
    Ok((text, output.explanation.outcome))
}

fn output(
    settings: &args::Explain,
    session: &mut Session,
    step: Step,
    loaded: &Loaded,
    keys: &Keys,
) -> anyhow::Result<Output> {
    let mut request = request::build(settings, keys)?;
    if let Some(principal) = &settings.principal {
        let signing = Signing::of(principal, &session.cluster)?;
        // By a proxy of its own: what this takes from limits is not missing later.
        let rule = match signing.depends_on_rule() {
            true => explained_by(&start_proxy(settings, &step)?.0, &request)?.rule,
            false => None,
        };
        let authorizer = rule.as_ref().and_then(|rule| rule.authorizer.as_deref());
        signing.sign(&mut request, &session.cluster, authorizer)?;
    }
    let (proxy, ack) = start_proxy(settings, &step)?;
    session.conclude(step, &ack)?;
    // They are in effect: what depends on them is rejected, and the explanation says so.
    report::of_objects(&session.statuses, &session.diagnostics, loaded).iter().for_each(|line| eprintln!("{line}"));
    let mut explanation = explained_by(&proxy, &request)?;
    name_policy(&mut explanation, &session.cluster);
    let fleet = explanation.stage.as_ref().map(|stage| fleet(&session.cluster, &stage.name));
    Ok(Output { explanation, fleet })
}

/// The explanation. Explaining waits for servers, so it blocks.
fn explained_by(proxy: &Proxy, request: &RequestToExplain) -> anyhow::Result<Explanation> {
    tokio::task::block_in_place(|| proxy.explain(request)).context("cannot explain the request")
}

/// The name of the policy of a Principal that has decided.
fn name_policy(explanation: &mut Explanation, cluster: &ClusterState) {
    let principal = explanation.caller.as_ref().and_then(|caller| caller.principal.as_deref());
    let Some((namespace, name)) = principal.and_then(|principal| principal.split_once('/')) else { return };
    let Some(principal) = cluster.principals.get(&ObjectKey::new(namespace, name)) else { return };
    if let Some(statement) = explanation.policy.as_mut().and_then(|policy| policy.statement.as_mut()) {
        let policy = statement.policy.and_then(|at| principal.spec.policies.get(at));
        statement.policy_name = policy.and_then(|policy| policy.name.clone());
    }
}

/// The fleet of a Stage, `namespace/name`.
fn fleet(cluster: &ClusterState, stage: &str) -> String {
    let key = stage.split_once('/').map(|(namespace, name)| ObjectKey::new(namespace, name));
    let fleet = key.and_then(|key| cluster.stages.get(&key)?.spec.fleet.clone());
    fleet.map_or_else(|| "default".to_owned(), |fleet| fleet.name)
}

/// A proxy that serves no connections, with its configuration.
fn start_proxy(settings: &args::Explain, step: &Step) -> anyhow::Result<(Proxy, Ack)> {
    let proxy = Proxy::start(Settings {
        http: None,
        https: None,
        threads: Some(1),
        access_log: LogSink::Off,
        registry: Registry::new(),
        // As for `sluice dev`.
        allow_loopback: true,
        extra_roots: Vec::new(),
        limits: Limits::default(),
        strictness: Strictness::default(),
        https_port: None,
        trusted_proxies: TrustedProxies { networks: settings.trusted_proxies.clone(), ..TrustedProxies::default() },
        proxy_protocol: ProxyProtocol::default(),
        tls_terminators: Vec::new(),
        request_policy: settings.request_policy.iter().copied().collect(),
        timeouts: Timeouts::default(),
        names: NameFiles::default(),
        runtime: tokio::runtime::Handle::current(),
    });
    let proxy = proxy.context("cannot start the proxy")?;
    // Applying compiles: it blocks.
    let ack = tokio::task::block_in_place(|| proxy.apply(step.delta.clone()));
    Ok((proxy, ack))
}

//! `sluice lint`: validates a folder once with the operator's translation, without serving it.

use std::process::ExitCode;
use std::sync::Arc;

use sluice_operator::cluster_issuer::ClusterIssuer;
use sluice_operator::manifests;
use sluice_operator::objects::Kind;
use sluice_operator::translate::Translator;

use crate::args;
use crate::dev::{check_folder, cluster_state_of, local::Local, session::current_days};
use crate::report::{self, ProxyDiagnostics};

/// Validates the folder; exit code 1 on any problem, and on any warning if warnings are denied.
pub(crate) fn run(settings: &args::Lint) -> anyhow::Result<ExitCode> {
    check_folder(&settings.folder)?;
    let loaded = manifests::load(&settings.folder);
    let mut cluster = cluster_state_of(&loaded);
    cluster.issuer = Ok(Arc::new(ClusterIssuer::of_any_cluster()));
    // Generated keys of ApiKeys and Principals, which a cluster would have.
    for object in Local::new(&[]).complete(&cluster)? {
        cluster.apply(object);
    }
    let translation = Translator::new().with_days(current_days()).translate(&cluster);
    let statuses = translation.statuses.sorted();
    if statuses.is_empty() {
        let kinds: Vec<&str> = Kind::OWN.iter().map(|kind| kind.as_str()).collect();
        println!("{} contains no object of these kinds: {}.", settings.folder.display(), kinds.join(", "));
    } else {
        println!("{}", report::objects(&statuses, &ProxyDiagnostics::new()));
    }
    report::print(&report::of_files(&loaded));
    report::print(&report::of_objects(&statuses, &ProxyDiagnostics::new(), &loaded));
    let warnings = report::of_warnings(&statuses, &loaded);
    report::print(&warnings);
    let clean = !loaded.has_errors() && translation.is_clean() && (warnings.is_empty() || !settings.deny_warnings);
    Ok(if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

//! An explanation as text: one line for each check, then the response, or the request to the integration.

use std::iter;

use sluice_proxy::explain::{
    Check, CheckOutcome, CheckResult, ExplainedIntegration, ExplainedKey, ExplainedLimit, ExplainedOutcome,
    ExplainedResponse, ExplainedRule, Explanation, Matches,
};

/// The text.
pub(crate) fn render(found: &Explanation, fleet: Option<&str>) -> String {
    let mut out = String::new();
    if let Some(request) = &found.request {
        let host = if request.host.is_empty() { "no host" } else { &request.host };
        line(&mut out, &format!("{} {}", request.method, request.path));
        line(&mut out, &format!("host {host}, from {} over {}\n", request.source, request.scheme));
    }
    // That there is a connection is nothing to read about.
    let is_shown = |check: &&CheckResult| check.check != Check::Connection || check.result != CheckOutcome::Passed;
    for check in found.checks.iter().filter(is_shown) {
        let mark = match check.result {
            CheckOutcome::Passed => "pass",
            CheckOutcome::Rejected => "REJECT",
            CheckOutcome::Unfinished => "…",
        };
        let mut lines = details(found, check, fleet).into_iter();
        let first = lines.next().unwrap_or_default();
        line(&mut out, format!("{mark:<7} {:<18} {first}", name(check.check)).trim_end());
        for text in lines {
            line(&mut out, &format!("{:<7} {:<18} {text}", "", ""));
        }
    }
    out.push('\n');
    end(&mut out, found);
    out
}

/// Adds a line. What others have written, such as names of callers and bodies, cannot control the terminal.
fn line(out: &mut String, text: &str) {
    out.extend(
        text.chars().map(|c| if c.is_control() && !matches!(c, '\n' | '\t') { char::REPLACEMENT_CHARACTER } else { c }),
    );
    out.push('\n');
}

/// Its name, as in JSON.
fn name(check: Check) -> String {
    serde_json::to_value(check).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

fn details(found: &Explanation, check: &CheckResult, fleet: Option<&str>) -> Vec<String> {
    match check.check {
        Check::Request | Check::RequestPolicy => Vec::new(),
        Check::Connection => vec![connection(found, check.result)],
        Check::Tls if is_misdirected(found) => {
            // The check of the Stage comes later.
            let of_stage = found.stage.iter().flat_map(|_| stage(found, fleet));
            let why = "the certificate of the connection is not valid for the host of the request".to_owned();
            iter::once(why).chain(of_stage).collect()
        }
        Check::Tls => Vec::new(),
        Check::ClientCertificate if check.result == CheckOutcome::Rejected && is_misdirected(found) => {
            vec!["the Stage needs another connection: the certificate was not requested on this one, or it is not valid any more".to_owned()]
        }
        Check::ClientCertificate => found.client_certificate.clone().into_iter().collect(),
        Check::Preflight => vec!["the response to a preflight request, by the CORS settings".to_owned()],
        Check::Stage => stage(found, fleet),
        Check::StageSource if check.result == CheckOutcome::Rejected && reason(found) != Some("SourceNotAllowed") => {
            vec!["the address of the client, which a trusted proxy states, cannot be read".to_owned()]
        }
        Check::StageSource | Check::RuleSource => {
            let source = found.request.as_ref().map(|request| request.source.to_string()).unwrap_or_default();
            let accepts = if check.result == CheckOutcome::Rejected { "does not accept" } else { "accepts" };
            let who = if check.check == Check::StageSource { "Stage" } else { "rule" };
            vec![format!("the {who} {accepts} the address {source}")]
        }
        Check::Rule => rule(found),
        Check::ClientThrottle => found.limits.iter().filter(|limit| limit.scope == "client").map(limit).collect(),
        Check::Throttle => found.limits.iter().filter(|limit| limit.scope != "client").map(limit).collect(),
        Check::ApiKey => found.api_key.iter().map(key).collect(),
        Check::Authorizer => authorizer(found),
        Check::Scopes => {
            let required = found.authorizer.as_ref().map(|found| found.scopes.join(", ")).unwrap_or_default();
            let scopes = found.caller.as_ref().map(|caller| caller.scopes.join(", ")).unwrap_or_default();
            let scopes = if scopes.is_empty() { "none".to_owned() } else { scopes };
            vec![format!("one of: {required}; the caller has: {scopes}")]
        }
        // What decides may be in the check `policy`.
        Check::StagePolicy if check.result != CheckOutcome::Rejected => Vec::new(),
        Check::StagePolicy | Check::Policy => policy(found),
        Check::Authorize => found
            .expressions
            .iter()
            .map(|one| {
                let result = match (one.result, &one.error) {
                    (Some(result), _) => result.to_string(),
                    (None, error) => format!("no result: {}", error.as_deref().unwrap_or_default()),
                };
                format!("authorize[{}] {}: {result}", one.index, one.expression.trim())
            })
            .collect(),
        Check::BodyHash => vec!["the hash that was signed".to_owned()],
        Check::BodySize => {
            let limit = found.rule.as_ref().and_then(|rule| rule.body_limit);
            limit.map(|limit| format!("at most {limit} bytes")).into_iter().collect()
        }
        Check::Cache => vec!["a refresh of the stored response".to_owned()],
        Check::Integration => {
            let integration = found.rule.as_ref().and_then(|rule| rule.integration.as_ref());
            integration.map(integration_text).into_iter().collect()
        }
    }
}

/// The reason of a rejection.
fn reason(found: &Explanation) -> Option<&str> {
    found.response.as_ref()?.reason.as_deref()
}

/// Whether the request came over a connection for another host.
fn is_misdirected(found: &Explanation) -> bool {
    found.response.as_ref().is_some_and(|response| response.status == Some(421))
}

fn connection(found: &Explanation, result: CheckOutcome) -> String {
    let why = match (result, reason(found)) {
        (CheckOutcome::Rejected, Some("TlsHandshake")) => {
            "the TLS handshake fails: no Stage of this host has a usable certificate"
        }
        (CheckOutcome::Rejected, Some(reason)) if reason.starts_with("certificate_") => {
            "the TLS handshake fails because of the client certificate"
        }
        (CheckOutcome::Rejected, _) => "the connection is closed: what the client sends is not HTTP/1.1",
        _ => "the connection ended, or no request was read from it",
    };
    why.to_owned()
}

fn stage(found: &Explanation, fleet: Option<&str>) -> Vec<String> {
    if let Some(stage) = &found.stage {
        let fleet = fleet.unwrap_or_default();
        let mut lines = vec![format!(
            "Stage {}: base path {}, behavior {:?}, fleet {fleet}",
            stage.name, stage.base_path, stage.behavior
        )];
        lines.extend(stage.invalid.as_ref().map(|why| format!("it serves no request: {why}")));
        return lines;
    }
    let mut lines = vec!["no Stage has this host and path".to_owned()];
    for stage in &found.stages {
        let hosts = if stage.hosts.is_empty() { "every other host".to_owned() } else { stage.hosts.join(", ") };
        lines.push(format!("Stage {}: {hosts}; base path {}", stage.name, stage.base_path));
    }
    lines
}

fn matches(matches: &Matches) -> String {
    let methods = if matches.methods.is_empty() { "ANY".to_owned() } else { matches.methods.join(",") };
    let mut out = format!("{methods} {}", matches.path);
    for (what, fields) in [("headers", &matches.headers), ("query", &matches.query)] {
        if !fields.is_empty() {
            out.push_str(&format!(" with {what} {}", fields.join(" and ")));
        }
    }
    out
}

fn rule(found: &Explanation) -> Vec<String> {
    let Some(rule) = &found.rule else {
        let mut lines = vec![match reason(found) {
            Some("MethodNotAllowed") => "rules have this path, and none has this method".to_owned(),
            _ => "no rule of the Stage matches".to_owned(),
        }];
        let others = found.rules.iter();
        lines.extend(others.map(|other| format!("{} ({} rule {})", matches(&other.matches), other.route, other.name)));
        return lines;
    };
    let mut lines = vec![format!("ApiRoute {} rule {}: {}", rule.route, rule.name, matches(&rule.matches))];
    lines.extend(rule.parameters.iter().map(|(name, value)| format!("{name} = {value}")));
    match (&rule.invalid, &rule.authorizer) {
        (Some(why), _) => lines.push(format!("it serves no request: {why}")),
        (None, Some(_)) => {}
        (None, None) => {
            lines.push("no authorizer: every client may call it, unless another check rejects it".to_owned())
        }
    }
    lines
}

fn limit(limit: &ExplainedLimit) -> String {
    let ExplainedLimit { scope, rate, period_ms, burst } = limit;
    let what = match *scope {
        "client" => "each client",
        "key" => "the API key",
        "key-rule" => "the API key at this rule",
        _ => "the rule",
    };
    let period = if period_ms % 1000 == 0 { format!("{}s", period_ms / 1000) } else { format!("{period_ms}ms") };
    format!("{what}: {rate} in {period}, burst {burst}")
}

fn key(found: &ExplainedKey) -> String {
    let place = &found.place;
    match (&found.name, &found.plan) {
        (None, _) => format!("no valid key in {place}"),
        (Some(name), None) => format!("ApiKey {name} ({place}), which no UsagePlan admits to this Stage"),
        (Some(name), Some(plan)) => {
            let customer = found.customer.as_ref().map(|customer| format!(", customer {customer}")).unwrap_or_default();
            format!("ApiKey {name} ({place}), UsagePlan {plan}{customer}")
        }
    }
}

fn authorizer(found: &Explanation) -> Vec<String> {
    let Some(authorizer) = &found.authorizer else { return Vec::new() };
    let decision = match (authorizer.decision, authorizer.reason) {
        (Some(decision), Some(reason)) => format!("{decision}, {reason}"),
        (Some(decision), None) => decision.to_owned(),
        (None, _) => "no decision yet".to_owned(),
    };
    let mut lines = vec![format!("Authorizer {} ({}): {decision}", authorizer.name, authorizer.kind)];
    if let Some(caller) = &found.caller {
        let issuer = caller.issuer.as_ref().map(|issuer| format!(", issuer {issuer}")).unwrap_or_default();
        let principal = caller.principal.as_ref().map(|name| format!(", Principal {name}")).unwrap_or_default();
        let name = caller.id.as_deref().unwrap_or("without a name");
        lines.push(format!("caller {name}{principal}{issuer}"));
    }
    lines
}

fn policy(found: &Explanation) -> Vec<String> {
    let Some(policy) = &found.policy else { return Vec::new() };
    let mut lines = vec![match &policy.statement {
        None => "no statement allows it".to_owned(),
        Some(statement) => {
            let sid = statement.sid.as_ref().map(|sid| format!(" ({sid})")).unwrap_or_default();
            let does = if policy.effect == "deny" { "denies" } else { "allows" };
            let policy =
                statement.policy_name.as_ref().map(|name| format!(" of the policy {name}")).unwrap_or_default();
            format!("{}{sid}{policy} {does} it", statement.place)
        }
    }];
    lines.push(policy.resource.clone());
    lines.extend(policy.form.as_ref().map(|form| format!("the statement denies this other form: {form}")));
    lines
}

fn integration_text(integration: &ExplainedIntegration) -> String {
    match integration {
        ExplainedIntegration::Service { service, endpoints } if endpoints.is_empty() => {
            format!("Service {service}, without an endpoint in the manifests")
        }
        ExplainedIntegration::Service { service, endpoints } => {
            format!("Service {service} at {}", endpoints.join(", "))
        }
        ExplainedIntegration::Http { url } => url.clone(),
        ExplainedIntegration::Mock => "a fixed response (Mock)".to_owned(),
    }
}

/// What happens in the end.
fn end(out: &mut String, found: &Explanation) {
    let response = found.response.as_ref();
    match found.outcome {
        ExplainedOutcome::Unfinished => out.push_str("There is no result: the time for the explanation has ended.\n"),
        ExplainedOutcome::Forwarded => {
            out.push_str("The request would be forwarded:\n\n");
            forwarded(out, found);
        }
        ExplainedOutcome::Responded => {
            out.push_str("The gateway would respond without calling a backend:\n\n");
            response.iter().for_each(|response| http(out, response));
        }
        ExplainedOutcome::Rejected => {
            let reason = response.and_then(|response| response.reason.as_deref()).unwrap_or_default();
            let by = response.and_then(|response| response.denied_by.as_deref());
            let by = by.map(|by| format!(", denied by {by}")).unwrap_or_default();
            let redirected = response.and_then(|response| response.status).is_some_and(|status| status < 400);
            let what = if redirected { "redirected" } else { "rejected" };
            line(out, &format!("The request would be {what}: {reason}{by}\n"));
            response.iter().for_each(|response| http(out, response));
        }
    }
}

fn forwarded(out: &mut String, found: &Explanation) {
    let Some(upstream) = &found.upstream else { return };
    line(out, &format!("{} {}", upstream.method, upstream.target));
    for (name, value) in &upstream.set_headers {
        line(out, &format!("{name}: {value}"));
    }
    if !upstream.removed_headers.is_empty() {
        line(out, &format!("without {}", upstream.removed_headers.join(", ")));
    }
    line(out, &format!("\nThe other headers are those of the client. Timeout: {}ms.", upstream.timeout_ms));
    if let Some(ExplainedRule { body_limit: Some(limit), .. }) = &found.rule {
        line(out, &format!("The longest request body: {limit} bytes."));
    }
    if let Some(cache) = &found.cache {
        let what = match cache.action {
            "lookup" => "a stored response is used if there is one; otherwise the response is stored, if it may be",
            "refresh" => "the response replaces the stored one, if it may be stored",
            "bypass" => "neither read nor filled for this request",
            _ => "no response of the rule is stored",
        };
        line(out, &format!("Cache: {what}. Time to live: {}ms.", cache.ttl_ms));
    }
    let added = found.response.as_ref().map(|response| response.headers.as_slice()).unwrap_or_default();
    if !added.is_empty() {
        out.push_str("Added to the response:\n\n");
        for (name, value) in added {
            line(out, &format!("{name}: {value}"));
        }
    }
}

fn http(out: &mut String, response: &ExplainedResponse) {
    let Some(status) = response.status else {
        out.push_str("The connection is closed without a response.\n");
        return;
    };
    let reason =
        http::StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason()).unwrap_or_default();
    line(out, format!("HTTP/1.1 {status} {reason}").trim_end());
    for (name, value) in &response.headers {
        line(out, &format!("{name}: {value}"));
    }
    if let Some(body) = response.body.as_deref().filter(|body| !body.is_empty()) {
        line(out, &format!("\n{}", body.trim_end()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_failed_handshake_is_explained_by_tls() {
        for (result, reason, expected) in [
            (CheckOutcome::Rejected, Some("TlsHandshake"), "no Stage of this host has a usable certificate"),
            (CheckOutcome::Rejected, Some("certificate_expired"), "because of the client certificate"),
            (CheckOutcome::Rejected, Some("Malformed"), "is not HTTP/1.1"),
            (CheckOutcome::Unfinished, None, "no request was read"),
        ] {
            let mut found = Explanation::default();
            found.checks.push(CheckResult { check: Check::Connection, result });
            found.response = reason.map(|reason| ExplainedResponse {
                status: None,
                reason: Some(reason.to_owned()),
                denied_by: None,
                headers: Vec::new(),
                body: None,
            });
            let text = render(&found, None);
            let line = text.lines().find(|line| line.contains(" connection ")).unwrap();
            assert!(line.contains(expected), "{line}");
            assert_eq!(line.contains("TLS"), reason.is_some_and(|reason| reason != "Malformed"), "{line}");
        }
    }
}

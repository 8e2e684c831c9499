//! A second evaluator, straight on the JSON document and without regard to time: what the other one is compared with.

use std::net::IpAddr;

use serde_json::Value;
use sluice_iam::{Principal, Request};

use crate::support::PREFIX;

/// A character of a pattern.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Token {
    Char(char),
    One,
    Any,
}

/// `Deny`, `Allow` or `Silent`.
pub(crate) fn evaluate(policy: &Value, request: &Request<'_>) -> &'static str {
    let variables = policy["Version"] == "2012-10-17";
    let statements = list(&policy["Statement"]);
    let has = |effect: &str| {
        statements.iter().any(|statement| statement["Effect"] == effect && applies(statement, request, variables))
    };
    match (has("Deny"), has("Allow")) {
        (true, _) => "Deny",
        (_, true) => "Allow",
        _ => "Silent",
    }
}

pub(crate) fn like(pattern: &[Token], text: &[char]) -> bool {
    // Table of prefixes: whether the first i tokens match the first j characters.
    let mut table = vec![vec![false; text.len() + 1]; pattern.len() + 1];
    table[0][0] = true;
    for i in 1..=pattern.len() {
        for j in 0..=text.len() {
            table[i][j] = match pattern[i - 1] {
                Token::Any => table[i - 1][j] || (j > 0 && table[i][j - 1]),
                Token::One => j > 0 && table[i - 1][j - 1],
                Token::Char(char) => j > 0 && table[i - 1][j - 1] && char == text[j - 1],
            };
        }
    }
    table[pattern.len()][text.len()]
}

pub(crate) fn tokens(text: &str) -> Vec<Token> {
    let token = |char| match char {
        '*' => Token::Any,
        '?' => Token::One,
        char => Token::Char(char),
    };
    text.chars().map(token).collect()
}

fn list(value: &Value) -> Vec<Value> {
    match value {
        Value::Array(items) => items.clone(),
        item => vec![item.clone()],
    }
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn values(request: &Request<'_>, key: &str) -> Vec<String> {
    use sluice_iam::Values::{Many, None, One};
    match request.context.values(&key.to_lowercase()) {
        None => vec![],
        One(value) => vec![value.into_owned()],
        Many(values) => values.into_iter().map(|value| value.into_owned()).collect(),
    }
}

/// The tokens of a text after its variables are replaced. None: one has no value.
fn expand(text: &str, request: &Request<'_>, variables: bool) -> Option<Vec<Token>> {
    let mut expanded = vec![];
    let mut rest = text;
    while variables && let Some((before, after)) = rest.split_once("${") {
        expanded.extend(tokens(before));
        let (name, after) = after.split_once('}').unwrap();
        let (name, default) = match name.split_once(',') {
            Some((name, default)) => (name, Some(default.trim().trim_matches('\'').to_owned())),
            None => (name, None),
        };
        let value = match (name, values(request, name).as_slice(), default) {
            ("*" | "?" | "$", _, _) => name.to_owned(),
            (_, [value], _) => value.clone(),
            (_, [], default) => default?,
            _ => return None,
        };
        expanded.extend(value.chars().map(Token::Char));
        rest = after;
    }
    expanded.extend(tokens(rest));
    Some(expanded)
}

fn applies(statement: &Value, request: &Request<'_>, variables: bool) -> bool {
    let chars = |text: &str| text.chars().collect::<Vec<_>>();
    let action = chars(&request.action.to_lowercase());
    let actions =
        |value: &Value| list(value).iter().any(|text| like(&tokens(&self::text(text).to_lowercase()), &action));
    let resources = |value: &Value| {
        let of = |pattern: &Value| {
            let pattern = text(pattern);
            let full = pattern.strip_prefix("execute-api:").map(|path| format!("{PREFIX}{path}"));
            let pattern = expand(full.as_deref().unwrap_or(&pattern), request, variables)?;
            Some(like(&pattern, &chars(request.resource)))
        };
        let results: Vec<Option<bool>> = list(value).iter().map(of).collect();
        (results.contains(&Some(true)), results.contains(&None))
    };
    let principal = match (statement.get("Principal"), statement.get("NotPrincipal")) {
        (Some(named), _) => is_named(named, request.principal),
        (_, Some(named)) => !is_excepted(named, request.principal),
        _ => true,
    };
    let action = match statement.get("Action") {
        Some(value) => actions(value),
        None => !actions(&statement["NotAction"]),
    };
    let resource = match statement.get("Resource") {
        Some(value) => resources(value).0,
        None => resources(&statement["NotResource"]) == (false, false),
    };
    let conditions = statement.get("Condition").and_then(Value::as_object).into_iter().flatten();
    let conditions = conditions.flat_map(|(operator, keys)| {
        keys.as_object().unwrap().iter().map(move |(key, values)| (operator, key, values))
    });
    let conditions: Vec<_> = conditions.collect();
    principal
        && action
        && resource
        && conditions.iter().all(|(operator, key, policy)| holds(operator, key, policy, request, variables))
}

fn entries(named: &Value) -> Vec<String> {
    match named {
        Value::String(text) => vec![text.clone()],
        named => named.get("AWS").map(list).unwrap_or_default().iter().map(text).collect(),
    }
}

/// The account and its root, the caller, and its role.
fn is_named(named: &Value, principal: Principal<'_>) -> bool {
    let entries = entries(named);
    let has = |text: &str| entries.iter().any(|entry| entry == text);
    match principal {
        Principal::Anonymous => has("*"),
        Principal::Aws { account, arn, role_arn } => {
            has("*") || has(account) || has(&root(account)) || has(arn) || role_arn.is_some_and(has)
        }
    }
}

fn is_excepted(named: &Value, principal: Principal<'_>) -> bool {
    let entries = entries(named);
    let has = |text: &str| entries.iter().any(|entry| entry == text);
    match principal {
        Principal::Anonymous => has("*"),
        Principal::Aws { account, arn, role_arn } => {
            has("*")
                || ((has(account) || has(&root(account)))
                    && (arn == root(account) || has(arn) || role_arn.is_some_and(has)))
        }
    }
}

fn root(account: &str) -> String {
    format!("arn:aws:iam::{account}:root")
}

fn holds(operator: &str, key: &str, policy: &Value, request: &Request<'_>, variables: bool) -> bool {
    let found = values(request, key);
    let policy: Vec<String> = list(policy).iter().map(text).collect();
    if operator == "Null" {
        return policy.iter().any(|value| (value == "true") == found.is_empty());
    }
    let (set, base) = operator.split_once(':').map_or(("", operator), |(set, base)| (set, base));
    let (base, if_exists) = base.strip_suffix("IfExists").map_or((base, false), |base| (base, true));
    let negated = base.contains("Not");
    let base = base.replace("Not", "");
    if found.is_empty() {
        return if_exists || set == "ForAllValues" || (negated && set.is_empty());
    }
    let one = |value: &String| {
        let results: Vec<Option<bool>> =
            policy.iter().map(|policy| compare(&base, value, policy, request, variables)).collect();
        match negated {
            true => results.iter().all(|result| *result == Some(false)),
            false => results.contains(&Some(true)),
        }
    };
    match set {
        "ForAllValues" => found.iter().all(one),
        "ForAnyValue" => found.iter().any(one),
        _ if negated => found.iter().all(one),
        _ => found.iter().any(one),
    }
}

/// None: a variable has no value.
fn compare(operator: &str, value: &str, policy: &str, request: &Request<'_>, variables: bool) -> Option<bool> {
    let chars = |text: &str| text.chars().collect::<Vec<_>>();
    let order = |left: Option<f64>, right: Option<f64>| {
        let (Some(left), Some(right)) = (left, right) else { return false };
        let relation = operator.trim_start_matches("Numeric").trim_start_matches("Date");
        match relation {
            "Equals" => left == right,
            "LessThan" => left < right,
            "LessThanEquals" => left <= right,
            "GreaterThan" => left > right,
            _ => left >= right,
        }
    };
    Some(match operator {
        "StringEquals" | "StringEqualsIgnoreCase" | "StringLike" => {
            let fold = |char: char| match operator {
                "StringEqualsIgnoreCase" => char.to_lowercase().next().unwrap(),
                _ => char,
            };
            let literal = |token| match token {
                Token::Any if operator != "StringLike" => Token::Char('*'),
                Token::One if operator != "StringLike" => Token::Char('?'),
                Token::Char(char) => Token::Char(fold(char)),
                token => token,
            };
            let pattern: Vec<Token> = expand(policy, request, variables)?.into_iter().map(literal).collect();
            like(&pattern, &value.chars().map(fold).collect::<Vec<_>>())
        }
        "ArnEquals" | "ArnLike" => {
            let parts: Vec<&str> = value.splitn(6, ':').collect();
            let (is_variable, policy) = match policy {
                "*" => (false, "*:*:*:*:*:*".to_owned()),
                policy => (policy.starts_with("${"), policy.to_owned()),
            };
            if is_variable {
                return Some(like(&expand(&policy, request, variables)?, &chars(value)) && parts.len() == 6);
            }
            // Colons of names of variables do not separate parts.
            let mut braces = 0;
            let mut patterns = vec![String::new()];
            for char in policy.chars() {
                braces += i32::from(char == '{') - i32::from(char == '}');
                match char {
                    ':' if braces == 0 && patterns.len() < 6 => patterns.push(String::new()),
                    char => patterns.last_mut().unwrap().push(char),
                }
            }
            let patterns: Option<Vec<_>> = patterns.iter().map(|pattern| expand(pattern, request, variables)).collect();
            let patterns = patterns?;
            parts.len() == 6 && patterns.iter().zip(parts).all(|(pattern, part)| like(pattern, &chars(part)))
        }
        "Bool" => ["true", "false"].contains(&value.to_lowercase().as_str()) && value.eq_ignore_ascii_case(policy),
        "BinaryEquals" => value == policy,
        "IpAddress" => in_network(value, policy),
        numeric if numeric.starts_with("Numeric") => {
            // Texts of the same number are equal in the tests, and others differ by more than f64 loses.
            let exact = |text: &str| text.parse::<f64>().ok();
            match operator {
                "NumericEquals" if value.len() > 15 => value == policy,
                _ => order(exact(value), exact(policy)),
            }
        }
        _ => order(seconds(value), seconds(policy)),
    })
}

/// Dates that occur in the tests.
fn seconds(text: &str) -> Option<f64> {
    Some(match text {
        "2026-01-01T23:59:59.9Z" => 1_767_311_999.9,
        "2026-01-02" | "2026-01-02T00:00Z" => 1_767_312_000.0,
        "2026-01-02T00:00:00.1Z" => 1_767_312_000.1,
        "2026-01-02T03:04:05Z" | "2026-01-02T03:04:05.000Z" | "2026-01-02T04:04:05+01:00" => 1_767_323_045.0,
        "2026-01-02T03:04:06Z" => 1_767_323_046.0,
        "2026-01-03" => 1_767_398_400.0,
        "today" | "2026" | "x" | "" => return None,
        seconds if seconds.bytes().all(|byte| byte.is_ascii_digit()) => return seconds.parse().ok(),
        _ => return None,
    })
}

fn in_network(value: &str, network: &str) -> bool {
    let bits = |text: &str| {
        text.parse::<IpAddr>().ok().map(|address| match address {
            IpAddr::V4(address) => u128::from(address.to_ipv6_mapped()),
            IpAddr::V6(address) => u128::from(address),
        })
    };
    let (base, length) = network.split_once('/').map_or((network, None), |(base, length)| (base, Some(length)));
    let width = if base.contains(':') { 128 } else { 32 };
    let length = length.map_or(width, |length| length.parse().unwrap()) + 128 - width;
    let (Some(value), Some(base)) = (bits(value), bits(base)) else { return false };
    (0..length).all(|bit| value >> (127 - bit) & 1 == base >> (127 - bit) & 1)
}

//! Warnings about expressions that authorize requests.

use sluice_authorize::Expression;
use sluice_crds::ApiRoute;
use sluice_crds::api_route::{AuthorizeExpression, Rule};
use sluice_crds::warning::PARAMETER_NOT_IN_PATH;
use sluice_wire::PathTemplate;

use crate::warning::Warnings;

/// Warnings about the expressions of an ApiRoute and of its rules.
pub(crate) fn of_api_route(route: &ApiRoute, warnings: &mut Warnings) {
    for (at, expression) in route.spec.authorize.iter().enumerate() {
        let needed = parameters(expression);
        // One rule is enough: the others have the same cause.
        let missing = route.spec.rules.iter().find_map(|rule| Some((rule, missing(rule, &needed)?)));
        if let Some((rule, name)) = missing {
            let why =
                format!("{}. Write the name of a parameter, or test it with has(params.{name})", cause(rule, name));
            warnings.add(PARAMETER_NOT_IN_PATH, &format!("spec.authorize[{at}].expression"), why);
        }
    }
    for (number, rule) in route.spec.rules.iter().enumerate() {
        for (at, expression) in rule.authorize.iter().enumerate() {
            if let Some(name) = missing(rule, &parameters(expression)) {
                let why = format!("{}. Write the name of a parameter of the path", cause(rule, name));
                warnings.add(PARAMETER_NOT_IN_PATH, &format!("spec.rules[{number}].authorize[{at}].expression"), why);
            }
        }
    }
}

fn cause(rule: &Rule, name: &str) -> String {
    format!(
        "the path {} of the rule {} has no parameter {name}, so a request for which the expression reads it is rejected with 403",
        rule.path, rule.name
    )
}

/// The parameters that an expression needs.
fn parameters(expression: &AuthorizeExpression) -> Vec<String> {
    // Compiling takes a thread: most expressions read none.
    let text = &expression.expression;
    let compiled = text.contains("params").then(|| Expression::compile(text).ok()).flatten();
    compiled.map(|compiled| compiled.parameters().to_vec()).unwrap_or_default()
}

/// The first parameter that a path does not have. None: it has all, or it is not valid.
fn missing<'a>(rule: &Rule, needed: &'a [String]) -> Option<&'a str> {
    let path: PathTemplate = rule.path.parse().ok().filter(|_| !needed.is_empty())?;
    needed.iter().map(String::as_str).find(|name| path.parameters().all(|known| known != *name))
}

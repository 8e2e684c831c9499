//! Renders header values with variables of a request. Implementations of [`Variables`] provide the values;
//! `sluice_wire::Variable` lists the variables.

use std::borrow::Cow;
use std::time::Duration;

use http::HeaderValue;
use sluice_wire::{Template, TemplatePart, Variable};

/// The values of variables. A value is computed when it is read, and only then.
pub(crate) trait Variables {
    /// The value; none: the request has none.
    fn get(&self, variable: &Variable) -> Option<Value<'_>>;

    /// Each value by itself, of headers and query parameters that have several.
    /// As they were received, so that different values stay different where they are not text.
    fn each(&self, variable: &Variable, take: &mut dyn FnMut(&[u8])) {
        if let Some(value) = self.get(variable) {
            take(value.text().as_bytes());
        }
    }
}

/// The value of a variable.
#[derive(Debug, PartialEq)]
pub(crate) enum Value<'a> {
    /// A text that may hold any character.
    Text(Cow<'a, str>),
    /// A text of the proxy's own that needs no escaping: letters, digits, `-`, `.`, `:`, `/`, `_`.
    Plain(&'a str),
    /// A whole number.
    Number(u64),
    /// A time, in milliseconds with three decimal places.
    Time(Duration),
}

impl Value<'_> {
    /// As text.
    pub(crate) fn text(&self) -> Cow<'_, str> {
        match self {
            Self::Text(text) => Cow::Borrowed(text),
            Self::Plain(text) => Cow::Borrowed(text),
            Self::Number(number) => Cow::Owned(number.to_string()),
            Self::Time(time) => Cow::Owned(format!("{}.{:03}", time.as_millis(), time.subsec_micros() % 1000)),
        }
    }
}

/// A header value that is rendered for each request, or made once when it names no variable.
pub(crate) enum HeaderTemplate {
    Fixed(HeaderValue),
    Rendered(Template),
}

impl HeaderTemplate {
    /// None: the text cannot be a header's value.
    pub(crate) fn compile(template: &Template) -> Option<Self> {
        match template.fixed() {
            Some(text) => HeaderValue::from_str(trimmed(text)).ok().map(Self::Fixed),
            None => Some(Self::Rendered(template.clone())),
        }
    }

    /// The value. A text that cannot be a header's value (a claim with a line end) renders as nothing, and so does one that
    /// names the caller by a value with leading or trailing white space: a recipient removes it (RFC 9110, 5.5) and reads the
    /// name of another caller.
    pub(crate) fn render(&self, variables: &impl Variables) -> HeaderValue {
        match self {
            Self::Fixed(value) => value.clone(),
            Self::Rendered(template) => {
                let value = render(template, variables).and_then(|text| HeaderValue::from_str(trimmed(&text)).ok());
                value.unwrap_or_else(|| HeaderValue::from_static(""))
            }
        }
    }
}

/// White space around a value is not part of it (RFC 9110, 5.5), and with HTTP/2 a message with it is malformed (RFC 9113, 8.2.1).
fn trimmed(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

fn render(template: &Template, variables: &impl Variables) -> Option<String> {
    let mut out = String::new();
    for part in template.parts() {
        match part {
            TemplatePart::Text(text) => out.push_str(text),
            TemplatePart::Variable(variable) => {
                if let Some(value) = variables.get(variable) {
                    let text = value.text();
                    if variable.needs_authorizer() && text.trim().len() < text.len() {
                        return None;
                    }
                    out.push_str(&text);
                }
            }
        }
    }
    Some(out)
}

/// No variable has a value: for fuzz targets, benchmarks and tests of what does not depend on variables.
pub(crate) struct NoVariables;

impl Variables for NoVariables {
    fn get(&self, _: &Variable) -> Option<Value<'_>> {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    /// Has a value for every variable, and remembers which were read.
    #[derive(Default)]
    struct Asked(RefCell<Vec<String>>);

    impl Variables for Asked {
        fn get(&self, variable: &Variable) -> Option<Value<'_>> {
            self.0.borrow_mut().push(variable.to_string());
            match variable {
                Variable::Stage => Some(Value::Plain("prod")),
                Variable::Claim(name) if name == "lines" => Some(Value::Text("a\nb".into())),
                Variable::Claim(name) if name == "spaces" => Some(Value::Text("root ".into())),
                Variable::Claim(name) if name == "tab" => Some(Value::Text("\troot".into())),
                Variable::Claim(name) if name == "wide" => Some(Value::Text("root\u{a0}".into())),
                Variable::PrincipalId => Some(Value::Text(" root".into())),
                Variable::QueryParameter(_) => Some(Value::Text(" x".into())),
                Variable::Claim(_) => Some(Value::Text("é".into())),
                _ => None,
            }
        }
    }

    #[test]
    fn only_variables_that_a_template_names_are_asked_for() {
        for (template, rendered, read) in [
            ("plain $$5", "plain $5", vec![]),
            ("at ${context.stage}!", "at prod!", vec!["context.stage"]),
            ("[${context.path}]", "[]", vec!["context.path"]),
            ("${context.authorizer.claims.lines}", "", vec!["context.authorizer.claims.lines"]),
            ("of ${context.authorizer.claims.spaces}", "", vec!["context.authorizer.claims.spaces"]),
            ("\t two words ", "two words", vec![]),
            ("${request.querystring.q}\t", "x", vec!["request.querystring.q"]),
            ("${context.authorizer.claims.tab}", "", vec!["context.authorizer.claims.tab"]),
            ("${context.authorizer.claims.wide}", "", vec!["context.authorizer.claims.wide"]),
            ("${context.authorizer.principalId}", "", vec!["context.authorizer.principalId"]),
            ("${context.authorizer.claims.x}", "é", vec!["context.authorizer.claims.x"]),
        ] {
            let variables = Asked::default();
            let value = HeaderTemplate::compile(&template.parse().unwrap()).unwrap().render(&variables);
            assert_eq!(value.as_bytes(), rendered.as_bytes(), "{template}");
            assert_eq!(variables.0.into_inner(), read, "{template}");
        }
    }

    #[test]
    fn times_are_milliseconds_with_three_places() {
        assert_eq!(Value::Time(Duration::from_micros(12_034)).text(), "12.034");
        assert_eq!(Value::Number(7).text(), "7");
    }
}

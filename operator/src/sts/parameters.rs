//! The parameters of a request: a form in the body of a POST, or the query of a GET.

use std::borrow::Cow;
use std::collections::BTreeMap;

use http::Method;

use crate::sts::fault::Fault;

/// The version of the API.
const VERSION: &str = "2011-06-15";
/// More parameters than any action has.
const MAX_PARAMETERS: usize = 64;

/// The parameters of a request, by name.
pub(super) struct Parameters<'a>(BTreeMap<Cow<'a, str>, Cow<'a, str>>);

impl<'a> Parameters<'a> {
    /// Reads the parameters; `query` without the question mark.
    pub(super) fn read(method: &Method, query: Option<&'a str>, body: &'a [u8]) -> Result<Self, Fault> {
        let form = match *method {
            Method::POST => body,
            Method::GET => query.unwrap_or_default().as_bytes(),
            _ => return Err(Fault::bad_request("InvalidAction", "Use the method POST or GET")),
        };
        let mut parameters = BTreeMap::new();
        for (name, value) in form_urlencoded::parse(form) {
            if parameters.len() == MAX_PARAMETERS {
                return Err(Fault::invalid("The request has too many parameters"));
            }
            if parameters.insert(name, value).is_some() {
                return Err(Fault::invalid("The request has a parameter twice"));
            }
        }
        Ok(Self(parameters))
    }

    /// The name of the action.
    pub(super) fn action(&self) -> Result<&str, Fault> {
        let missing = || Fault::bad_request("MissingAction", "The request must contain the parameter Action");
        let action = self.get("Action").ok_or_else(missing)?;
        match self.get("Version") {
            Some(VERSION) | None => Ok(action),
            Some(_) => Err(Fault::bad_request("InvalidAction", format!("The version of the API must be {VERSION}"))),
        }
    }

    /// A parameter, unless it is empty.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|value| &**value).filter(|value| !value.is_empty())
    }

    /// A parameter that must be there.
    pub(super) fn required(&self, name: &str) -> Result<&str, Fault> {
        self.get(name).ok_or_else(|| Fault::missing(name))
    }

    /// Whether there is a parameter, or a list with this name: `NAME.member.1`.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.keys().any(|known| known.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(method: Method, query: &str, body: &str) -> Result<String, &'static str> {
        let parameters = Parameters::read(&method, Some(query), body.as_bytes()).map_err(|fault| fault.code)?;
        parameters.action().map(str::to_owned).map_err(|fault| fault.code)
    }

    #[test]
    fn parameters_are_those_of_a_form_or_of_a_query() {
        let many = (0..65).map(|n| format!("a{n}=b")).collect::<Vec<_>>().join("&");
        for (method, query, body, expected) in [
            (Method::POST, "Action=B", "Action=A&Version=2011-06-15", Ok("A")),
            (Method::GET, "Action=B&Version=2011-06-15", "Action=A", Ok("B")),
            (Method::POST, "", "Action=A%42", Ok("AB")),
            (Method::POST, "", "Action=A&Version=2010-01-01", Err("InvalidAction")),
            (Method::POST, "Action=A", "", Err("MissingAction")),
            (Method::POST, "", "Action=", Err("MissingAction")),
            (Method::POST, "", "Action=A&Action=B", Err("ValidationError")),
            (Method::POST, "", &many, Err("ValidationError")),
            (Method::PUT, "Action=A", "Action=A", Err("InvalidAction")),
        ] {
            assert_eq!(read(method, query, body).as_deref(), expected.as_ref().map(|text| &**text), "{query} {body}");
        }
    }

    #[test]
    fn lists_are_found_by_their_name() {
        let form = b"PolicyArns.member.1.arn=a&Policies=b";
        let parameters = Parameters::read(&Method::POST, None, form).unwrap();
        assert!(parameters.has("PolicyArns") && parameters.has("Policies") && !parameters.has("Policy"));
    }
}

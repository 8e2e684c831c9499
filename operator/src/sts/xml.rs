//! Responses in the format of the query protocol of AWS: XML with an element for each field.

use http::{HeaderValue, Response, StatusCode, header};

use crate::sts::fault::Fault;

const NAMESPACE: &str = "https://sts.amazonaws.com/doc/2011-06-15/";
static TEXT_XML: HeaderValue = HeaderValue::from_static("text/xml");
static REQUEST_ID: http::HeaderName = http::HeaderName::from_static("x-amzn-requestid");

/// An element with other elements, or with a text.
pub(super) enum Element {
    Parent(&'static str, Vec<Element>),
    Text(&'static str, String),
}

impl Element {
    pub(super) fn text(name: &'static str, text: impl Into<String>) -> Self {
        Self::Text(name, text.into())
    }

    fn write(&self, out: &mut String) {
        let (Self::Parent(name, _) | Self::Text(name, _)) = self;
        out.extend(["<", name, ">"]);
        match self {
            Self::Parent(_, elements) => elements.iter().for_each(|element| element.write(out)),
            Self::Text(_, text) => escape(text, out),
        }
        out.extend(["</", name, ">"]);
    }
}

fn escape(text: &str, out: &mut String) {
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            // XML has no form for other control characters.
            letter if letter.is_control() && !matches!(letter, '\n' | '\t') => out.push('\u{fffd}'),
            letter => out.push(letter),
        }
    }
}

/// The result of an action.
pub(super) fn result(action: &'static str, elements: &[Element], request_id: &str) -> Response<String> {
    let mut body = format!("<{action}Response xmlns=\"{NAMESPACE}\"><{action}Result>");
    elements.iter().for_each(|element| element.write(&mut body));
    body.push_str(&format!("</{action}Result>"));
    let id = Element::text("RequestId", request_id);
    Element::Parent("ResponseMetadata", vec![id]).write(&mut body);
    body.push_str(&format!("</{action}Response>"));
    response(StatusCode::OK, body, request_id)
}

/// A rejection.
pub(super) fn fault(fault: &Fault, request_id: &str) -> Response<String> {
    let mut body = format!("<ErrorResponse xmlns=\"{NAMESPACE}\">");
    let fields = vec![
        Element::text("Type", if fault.is_of_sender() { "Sender" } else { "Receiver" }),
        Element::text("Code", fault.code),
        Element::text("Message", &fault.message),
    ];
    Element::Parent("Error", fields).write(&mut body);
    Element::text("RequestId", request_id).write(&mut body);
    body.push_str("</ErrorResponse>");
    response(fault.status, body, request_id)
}

fn response(status: StatusCode, body: String, request_id: &str) -> Response<String> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, TEXT_XML.clone());
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Ok(id) = HeaderValue::from_str(request_id) {
        headers.insert(REQUEST_ID.clone(), id);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_cannot_become_elements() {
        let hostile = Fault::invalid("</Message><a b=\"c\">&\u{0}\r");
        let body = fault(&hostile, "id").into_body();
        assert!(
            body.contains("<Message>&lt;/Message&gt;&lt;a b=&quot;c&quot;&gt;&amp;\u{fffd}\u{fffd}</Message>"),
            "{body}"
        );
        let shown = result("GetCallerIdentity", &[Element::text("Arn", "a<b")], "id").into_body();
        assert!(shown.contains("<GetCallerIdentityResult><Arn>a&lt;b</Arn></GetCallerIdentityResult>"), "{shown}");
    }
}

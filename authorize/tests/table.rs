//! Tables: expressions that are rejected, and expressions with their results for one request.

use std::borrow::Cow;

use proptest::prelude::*;
use serde_json::json;
use sluice_authorize::*;

/// The fields of a request.
#[derive(Default)]
struct Values(Vec<(Field, Value)>);

impl Values {
    fn set(&mut self, field: Field, value: Value) {
        self.0.push((field, value));
    }
}

impl Values {
    fn get(&self, field: Field) -> Option<&Value> {
        self.0.iter().find(|(known, _)| *known == field).map(|(_, value)| value)
    }
}

fn as_text(value: Value) -> Result<Cow<'static, str>, EvaluationError> {
    let Value::String(text) = value else { panic!("{value:?} is no text") };
    Ok(Cow::Owned(text.to_string()))
}

impl Facts for Values {
    fn text(&self, field: Field) -> Option<Result<Cow<'_, str>, EvaluationError>> {
        self.get(field).cloned().map(as_text)
    }

    fn text_entry(&self, field: Field, name: &str) -> Option<Result<Cow<'_, str>, EvaluationError>> {
        entry_of(self.get(field)?, name).map(as_text)
    }

    fn field(&self, field: Field) -> Option<Result<Value, EvaluationError>> {
        self.get(field).cloned().map(Ok)
    }

    fn entry(&self, field: Field, name: &str) -> Option<Result<Value, EvaluationError>> {
        entry_of(self.get(field)?, name).map(Ok)
    }
}

fn variables(certificate: bool) -> Values {
    let mut values = Values::default();
    let texts = [
        (Field::Method, "GET"),
        (Field::Path, "/tenants/a/orders"),
        (Field::Host, "shop.example"),
        (Field::Scheme, "https"),
        (Field::Address, "10.1.2.3"),
        (Field::IdentityKind, "jwt"),
        (Field::IdentityId, "alice"),
        (Field::StageName, "prod"),
        (Field::StageNamespace, "shop"),
    ];
    for (field, value) in texts {
        values.set(field, text(value).unwrap());
    }
    let headers = [("x-a", "1"), ("x-many", "1, 2"), ("x-long", &"a".repeat(8000))];
    values.set(Field::Headers, map(headers.map(|(name, value)| (name, text(value)))).unwrap());
    values.set(Field::Query, map([("q", list([text("1"), text("2")]))]).unwrap());
    // Saturday, 2026-11-28 at 01:30 UTC.
    let now = std::time::UNIX_EPOCH + std::time::Duration::from_millis(1_795_829_400_250);
    values.set(Field::Time, time(now).unwrap());
    values.set(Field::Params, map([("tenant", text("a"))]).unwrap());
    values.set(Field::IdentityScopes, list([text("read"), text("write")]).unwrap());
    let claims = json!({
        "tenant": "a", "level": 3, "ratio": 0.5, "whole": 3.0, "admin": true, "none": null, "groups": ["dev", "ops"],
        "realm_access": {"roles": ["owner"]}, "https://x/y": "z",
        "auth_time": 1_795_829_100, "hired": "2020-02-29T12:00:00+02:00", "address": "::ffff:10.1.2.3",
    });
    values.set(Field::IdentityClaims, from_json(claims.as_object().unwrap()).unwrap());
    if certificate {
        values.set(Field::CertificateSubject, text("CN=client").unwrap());
    }
    values
}

#[test]
fn expressions_have_the_documented_results() {
    use EvaluationError::*;
    let rows: &[(&str, Result<bool, EvaluationError>)] = &[
        ("true", Ok(true)),
        ("false", Ok(false)),
        ("!false", Ok(true)),
        ("request.method == 'GET'", Ok(true)),
        ("request['method'] == 'GET'", Ok(true)),
        ("request.method != 'GET'", Ok(false)),
        ("request.method in ['GET', 'HEAD']", Ok(true)),
        ("request.method in ['POST']", Ok(false)),
        ("request.path.startsWith('/tenants/')", Ok(true)),
        ("request.path.endsWith('/orders')", Ok(true)),
        ("request.path.contains('admin')", Ok(false)),
        ("request.path.matches('^/tenants/[a-z]+/')", Ok(true)),
        ("request.path.matches('^/admin')", Ok(false)),
        ("request.host == 'shop.example'", Ok(true)),
        ("request.scheme == 'https'", Ok(true)),
        ("request.headers['x-a'] == '1'", Ok(true)),
        ("request.headers['x-many'] == '1, 2'", Ok(true)),
        ("request.headers['x-none'] == '1'", Err(NoSuchKey)),
        ("'x-a' in request.headers", Ok(true)),
        ("'x-none' in request.headers", Ok(false)),
        ("!('x-none' in request.headers) || request.headers['x-none'] == '1'", Ok(true)),
        ("size(request.headers['x-long']) == 8000", Ok(true)),
        ("request.headers['x-long'].size() > 9000", Ok(false)),
        ("has(request.headers.accept)", Ok(false)),
        ("request.query.q == ['1', '2']", Ok(true)),
        ("request.query.q[0] == '1'", Ok(true)),
        ("request.query.q[2] == '1'", Err(NoSuchKey)),
        ("'2' in request.query.q", Ok(true)),
        ("request.query.none[0] == '1'", Err(NoSuchKey)),
        ("has(request.query.q)", Ok(true)),
        // A field of what is no map has no result, so that a negation does not allow.
        ("!identity.claims.none.x", Err(WrongType)),
        ("identity.claims.tenant.x != 'b'", Err(WrongType)),
        ("identity.claims.groups.x == 'b'", Err(WrongType)),
        ("!has(identity.claims.tenant.x)", Err(WrongType)),
        ("!has(identity.claims.groups.dev)", Err(WrongType)),
        ("!has(identity.claims.realm_access.x)", Ok(true)),
        ("has(identity.claims.realm_access.roles)", Ok(true)),
        ("identity.claims.realm_access.roles == ['owner']", Ok(true)),
        ("identity.claims.nothing.x == 1", Err(NoSuchKey)),
        ("identity.claims.whole == 3 && identity.claims.whole in [1, 3]", Ok(true)),
        ("identity.claims.ratio == 0.5 && identity.claims.ratio in [0.5]", Ok(true)),
        ("source.address == '10.1.2.3'", Ok(true)),
        ("source.address.startsWith('10.')", Ok(true)),
        ("cidr('10.0.0.0/8').containsIP(source.address)", Ok(true)),
        ("cidr('10.2.0.0/16').containsIP(source.address)", Ok(false)),
        ("cidr('2001:db8::/32').containsIP(source.address)", Ok(false)),
        ("cidr('0.0.0.0/0').containsIP(ip(source.address))", Ok(true)),
        ("cidr('::ffff:10.0.0.0/104').containsIP('10.255.255.255')", Ok(true)),
        ("cidr('10.0.0.0/8').containsIP(identity.claims.address)", Ok(true)),
        ("cidr('10.0.0.0/8').containsIP(identity.claims.tenant)", Err(Arithmetic)),
        ("cidr('10.0.0.0/8').containsIP(identity.claims.level)", Err(Arithmetic)),
        ("[cidr('192.168.0.0/16'), cidr('10.0.0.0/8')].exists(n, n.containsIP(source.address))", Ok(true)),
        ("cidr('10.0.0.0/8') == cidr('10.0.0.0/8') && cidr('10.0.0.0/8') != cidr('10.0.0.0/9')", Ok(true)),
        ("ip(source.address) == ip('10.1.2.3')", Ok(true)),
        ("ip(identity.claims.address) == ip(source.address)", Ok(true)),
        ("ip('2001:DB8::1') == ip('2001:db8:0:0::1')", Ok(true)),
        ("ip(source.address) in [ip('10.1.2.2'), ip('10.1.2.3')]", Ok(true)),
        ("ip(source.address).family() == 4 && ip('::1').family() == 6", Ok(true)),
        ("ip(request.method) == ip('10.1.2.3')", Err(Arithmetic)),
        ("isIP(source.address) && !isIP(request.method) && !isIP(request.headers['x-long'])", Ok(true)),
        ("!isIP('10.1.2') && !isIP('010.1.2.3') && !isIP('10.1.2.3/8') && !isIP('fe80::1%eth0')", Ok(true)),
        ("request.time > timestamp('2026-11-28T01:29:59Z')", Ok(true)),
        ("request.time < timestamp('2026-11-28T02:30:00+01:00')", Ok(false)),
        ("request.time == timestamp('2026-11-28T01:30:00.25Z')", Ok(true)),
        ("timestamp('2026-11-28T01:30:00Z') == timestamp('2026-11-28T02:30:00+01:00')", Ok(true)),
        ("request.time - timestamp(identity.claims.auth_time) < duration('5m1s')", Ok(true)),
        ("request.time - timestamp(identity.claims.auth_time) <= duration('5m')", Ok(false)),
        ("(request.time - timestamp(identity.claims.auth_time)).getMinutes() == 5", Ok(true)),
        ("(request.time - timestamp(identity.claims.auth_time)).getHours() == 0", Ok(true)),
        ("duration('90m').getHours() == 1 && duration('1.25s').getMilliseconds() == 250", Ok(true)),
        ("duration('1h') + duration('30m') == duration('90m')", Ok(true)),
        ("duration('1h') - duration('90m') == duration('-30m')", Ok(true)),
        ("request.time + duration('24h') > timestamp('2026-11-29T00:00:00Z')", Ok(true)),
        ("request.time - duration('24h') > timestamp('2026-11-27T02:00:00Z')", Ok(false)),
        ("timestamp(identity.claims.hired) + duration('1h') == timestamp('2020-02-29T11:00:00Z')", Ok(true)),
        ("timestamp(identity.claims.hired).getDayOfYear() == 59", Ok(true)),
        ("timestamp(identity.claims.hired).getHours() == 10", Ok(true)),
        ("timestamp(identity.claims.tenant) < request.time", Err(Arithmetic)),
        ("timestamp(identity.claims.ratio) < request.time", Err(Arithmetic)),
        ("timestamp(0) == timestamp('1970-01-01T00:00:00Z')", Ok(true)),
        ("timestamp(9223372036854775807) > request.time", Err(Arithmetic)),
        ("timestamp('9999-12-31T23:59:59Z') + duration('1s') > request.time", Err(Arithmetic)),
        ("request.time.getFullYear() == 2026 && request.time.getMonth() == 10", Ok(true)),
        ("request.time.getDate() == 28 && request.time.getDayOfMonth() == 27", Ok(true)),
        ("request.time.getDayOfWeek() == 6 && request.time.getDayOfYear() == 331", Ok(true)),
        ("request.time.getHours() == 1 && request.time.getMinutes() == 30", Ok(true)),
        ("request.time.getSeconds() == 0 && request.time.getMilliseconds() == 250", Ok(true)),
        ("request.time.getHours('+02:00') == 3 && request.time.getHours('UTC') == 1", Ok(true)),
        ("request.time.getHours('-02:30') == 23 && request.time.getDayOfWeek('-02:30') == 5", Ok(true)),
        ("timestamp('9999-12-31T23:59:59Z').getFullYear('+23:59') == 10000", Ok(true)),
        ("identity.kind == 'jwt'", Ok(true)),
        ("identity.id == 'alice'", Ok(true)),
        ("has(identity.id)", Ok(true)),
        ("'read' in identity.scopes", Ok(true)),
        ("'delete' in identity.scopes", Ok(false)),
        ("identity.scopes.all(s, s != 'delete')", Ok(true)),
        ("identity.claims.tenant == params.tenant", Ok(true)),
        ("identity.claims['https://x/y'] == 'z'", Ok(true)),
        ("identity.claims.level >= 3", Ok(true)),
        ("identity.claims.level == 3", Ok(true)),
        ("identity.claims.level + 1 == 4", Ok(true)),
        ("identity.claims.ratio < 1.0", Ok(true)),
        ("identity.claims.admin", Ok(true)),
        ("!identity.claims.admin", Ok(false)),
        ("identity.claims.none == null", Ok(true)),
        ("identity.claims.groups.exists(g, g == 'ops')", Ok(true)),
        ("identity.claims.groups.exists(g, g == 'sales')", Ok(false)),
        ("identity.claims.groups.exists_one(g, g == 'ops')", Ok(true)),
        ("identity.claims.groups.all(g, g.matches('^[a-z]+$'))", Ok(true)),
        ("identity.claims.groups.filter(g, g == 'ops').size() == 1", Ok(true)),
        ("size(identity.claims.groups.map(g, size(g))) == 2", Ok(true)),
        ("'owner' in identity.claims.realm_access.roles", Ok(true)),
        ("identity.claims.missing == 'a'", Err(NoSuchKey)),
        ("identity.claims.missing != 'a'", Err(NoSuchKey)),
        ("identity.claims.realm_access.missing.roles == 'a'", Err(NoSuchKey)),
        ("has(identity.claims.missing)", Ok(false)),
        ("has(identity.claims.tenant) && identity.claims.tenant == 'a'", Ok(true)),
        ("identity.claims.tenant == 3", Ok(false)),
        ("identity.claims.tenant", Err(NotBoolean)),
        ("identity.claims.level / 0 == 1", Err(Arithmetic)),
        ("9223372036854775807 + identity.claims.level > 0", Err(Arithmetic)),
        ("int(identity.claims.tenant) == 1", Err(Arithmetic)),
        ("int(request.headers['x-a']) == 1", Ok(true)),
        ("string(identity.claims.level) == '3'", Ok(true)),
        ("stage.name == 'prod' && stage.namespace == 'shop'", Ok(true)),
        ("params.tenant == 'a'", Ok(true)),
        ("params.other == 'a'", Err(NoSuchKey)),
        ("has(certificate.subject)", Ok(false)),
        ("certificate.subject == 'CN=client'", Err(NoSuchKey)),
        ("request.method == 'GET' ? true : false", Ok(true)),
        ("false && identity.claims.missing == 'a'", Ok(false)),
        ("true || identity.claims.missing == 'a'", Ok(true)),
    ];
    let variables = variables(false);
    let mut wrong = Vec::new();
    for (text, expected) in rows {
        let expression = Expression::compile(text).unwrap_or_else(|why| panic!("{text}: {why}"));
        let result = expression.evaluate(&variables);
        if result != *expected {
            wrong.push(format!("{text}: {result:?}, expected {expected:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let certified = Expression::compile("certificate.subject == 'CN=client'").unwrap();
    assert_eq!(certified.evaluate(&self::variables(true)), Ok(true));
}

#[test]
fn invalid_expressions_are_rejected_with_the_reason() {
    let many = vec!["true"; 300].join(" && ");
    let long = format!("'{}' == ''", "a".repeat(5000));
    let costly = "identity.claims.groups.exists(g, g + g + g + g + g + g == request.path)";
    let rows: &[(&str, &str)] = &[
        ("", "line 1"),
        ("request.method ==", "line 1"),
        ("request.headers['X-A'] == '1'", "write \"x-a\""),
        ("!('X-Debug' in request.headers)", "write \"x-debug\""),
        ("1 == 1.0", "never equal"),
        ("size(request.method) != 3u", "never equal"),
        ("identity.claims.level == 3.0", "write 3, and not 3.0"),
        ("identity.claims.level in [1.0, 3.0]", "write 3, and not 3.0"),
        ("identity.claims.level != 3u", "write 3, and not 3.0"),
        ("request.method == 'GET", "line 1"),
        ("(true", "line 1"),
        ("user.name == 'a'", "there is no variable \"user\""),
        ("request.verb == 'GET'", "request has no field \"verb\""),
        ("request['verb'] == 'GET'", "request has no field \"verb\""),
        ("identity.tenant == 'a'", "identity has no field \"tenant\""),
        ("request.method", "the result is of type string"),
        ("1 + 1", "the result is of type int"),
        ("request.method == 1", "== does not accept (string, int)"),
        ("request.method && true", "&& does not accept (string, bool)"),
        ("!request.path", "! does not accept (string)"),
        ("request.path.trim() == ''", "there is no function \"trim\""),
        ("request.path.matches('(')", "is not valid"),
        ("request.path.matches(request.method)", "must be a literal"),
        ("request.path.startsWith(1)", "startsWith does not accept (string, int)"),
        ("request.method.length == 1", "a string has no field \"length\""),
        ("1 in request.headers", "does not accept (int, map)"),
        ("'a' < 1", "does not accept"),
        ("identity.scopes.all(a, identity.scopes.exists(b, a == b))", "must not be inside of another"),
        ("identity.scopes.all(request, request == 'a')", "hides a variable"),
        ("Thing{a: 1} == 1", "objects such as"),
        ("cidr('10.0.0.0/33').containsIP(source.address)", "line 1, column 6: the argument of cidr is not valid"),
        (
            "true &&\n  cidr(\"10.0.0.1/8\").containsIP(source.address)",
            "line 2, column 8: the argument of cidr is not valid: 10.0.0.1/8 is not the first address of the network: write 10.0.0.0/8",
        ),
        ("cidr('10.0.0.1').containsIP(source.address)", "is not a network"),
        ("cidr(source.address).containsIP('10.0.0.1')", "the argument of cidr must be a literal"),
        ("cidr('10.0.0.0/8').containsIP('10.0.0')", "line 1, column 31: the argument of containsIP is not valid"),
        ("cidr('10.0.0.0/8').containsIP(1)", "containsIP does not accept (net.CIDR, int)"),
        ("source.address.containsIP('10.0.0.1')", "containsIP does not accept (string, string)"),
        ("cidr('10.0.0.0/8') == '10.0.0.0/8'", "does not accept (net.CIDR, string)"),
        (
            "ip('10.0.0.0/8') == ip(source.address)",
            "line 1, column 4: the argument of ip is not valid: it must be an address",
        ),
        ("ip(source.address) == source.address", "does not accept (net.IP, string)"),
        ("ip(source.address) < ip('10.0.0.1')", "does not accept (net.IP, net.IP)"),
        ("source.address.family() == 4", "family does not accept (string)"),
        ("cidr('10.0.0.0/8')", "the result is of type net.CIDR"),
        ("request.time > timestamp('2026-11-28')", "line 1, column 26: the argument of timestamp is not valid"),
        ("request.time > timestamp('10000-01-01T00:00:00Z')", "the argument of timestamp is not valid"),
        ("request.time > timestamp('0000-01-01T00:00:00Z')", "the argument of timestamp is not valid"),
        ("request.time > '2026-11-28T00:00:00Z'", "does not accept (timestamp, string)"),
        ("request.time > 1", "does not accept (timestamp, int)"),
        ("request.time - identity.claims.auth_time < duration('5m')", "does not accept (timestamp, dyn)"),
        ("request.time + request.time > request.time", "does not accept (timestamp, timestamp)"),
        ("duration('1h') - request.time == duration('1h')", "does not accept (duration, timestamp)"),
        ("duration('1h') * 2 > duration('1h')", "does not accept (duration, int)"),
        ("request.time - timestamp(0) > duration('5')", "the argument of duration is not valid"),
        ("request.time - timestamp(0) > duration(request.path)", "the argument of duration must be a literal"),
        ("request.time.getHours('Europe/Berlin') == 1", "line 1, column 23: the argument of getHours is not valid"),
        ("request.time.getHours(request.path) == 1", "the argument of getHours must be a literal"),
        ("duration('1h').getFullYear() == 1", "getFullYear does not accept (duration)"),
        ("duration('1h').getHours('UTC') == 1", "getHours does not accept (duration, string)"),
        ("request.path.getHours() == 1", "getHours does not accept (string)"),
        ("request.time", "the result is of type timestamp"),
        (costly, "the estimated cost of the expression is"),
        (&many, "too many operators"),
        (&long, "too long"),
    ];
    let mut wrong = Vec::new();
    for (text, expected) in rows {
        match Expression::compile(text) {
            Ok(_) => wrong.push(format!("{text}: accepted")),
            Err(why) if why.to_string().contains(expected) => {}
            Err(why) => wrong.push(format!("{text:.80}: {why}")),
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn deep_nesting_is_rejected_or_compiled_without_an_overflow() {
    for (open, inner, close) in
        [("(", "true", ")"), ("!", "true", ""), ("[", "", "]"), ("-", "1", ""), ("{1:", "1", "}")]
    {
        let depth = 1900 / (open.len() + close.len()).max(1);
        let text = format!("{}{inner}{} == 1", open.repeat(depth), close.repeat(depth));
        if let Ok(expression) = Expression::compile(&text) {
            assert!(expression.cost() <= MAX_COST, "{open}");
        }
    }
    for operator in ["+", "&&", "==", "."] {
        let text = vec!["a"; 4000 / (operator.len() + 1)].join(operator);
        assert!(Expression::compile(&text).is_err(), "{operator}");
    }
}

#[test]
fn values_of_a_request_are_limited() {
    assert_eq!(text(&"a".repeat(16 * 1024 + 1)).unwrap_err(), EvaluationError::BadValue);
    assert_eq!(list((0..1025).map(|_| text("a"))).unwrap_err(), EvaluationError::BadValue);
    let mut deep = json!(1);
    for _ in 0..20 {
        deep = json!([deep]);
    }
    assert!(from_json(json!({ "a": deep }).as_object().unwrap()).is_err());
}

fn part() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(vec![
        "true",
        "1",
        "1u",
        "0.5",
        "'a'",
        "b'a'",
        "null",
        "[]",
        "[1, 'a']",
        "{}",
        "{'a': 1}",
        "request.method",
        "request",
        "request.headers",
        "request.query",
        "identity.claims",
        "identity.claims.level",
        "identity.claims.groups",
        "identity.scopes",
        "params.tenant",
        "params",
        "-9223372036854775808",
        "request.time",
        "timestamp('9999-12-31T23:59:59Z')",
        "duration('-1h')",
        "duration('2562047h')",
        "ip('10.0.0.1')",
        "cidr('10.0.0.0/8')",
    ])
    .prop_map(str::to_owned);
    leaf.prop_recursive(4, 32, 3, |inner| {
        let two = (
            inner.clone(),
            prop::sample::select(vec!["+", "-", "*", "/", "%", "==", "!=", "<", ">=", "&&", "||", "in"]),
            inner.clone(),
        );
        prop_oneof![
            two.prop_map(|(a, operator, b)| format!("({a} {operator} {b})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{a}[{b}]")),
            (
                inner.clone(),
                prop::sample::select(vec!["contains", "startsWith", "endsWith", "containsIP"]),
                inner.clone()
            )
                .prop_map(|(a, name, b)| format!("{a}.{name}({b})")),
            (inner.clone(), prop::sample::select(vec!["all", "exists", "exists_one", "filter", "map"]), inner.clone())
                .prop_map(|(a, name, b)| format!("{a}.{name}(x, x == {b})")),
            (
                prop::sample::select(vec!["size", "int", "double", "string", "!", "-", "ip", "isIP", "timestamp"]),
                inner.clone()
            )
                .prop_map(|(name, a)| format!("{name}({a})")),
            (inner.clone(), prop::sample::select(vec!["getHours", "getDayOfYear", "getFullYear", "family", "size"]))
                .prop_map(|(a, name)| format!("{a}.{name}()")),
            (inner.clone(), inner.clone(), inner).prop_map(|(a, b, c)| format!("({a} ? {b} : {c})")),
        ]
    })
}

proptest! {
    /// What is accepted never makes the library panic: `Failed` is the result of a panic.
    #[test]
    fn accepted_expressions_are_evaluated_without_a_panic(text in part()) {
        if let Ok(expression) = Expression::compile(&text) {
            prop_assert!(expression.cost() <= MAX_COST);
            prop_assert_ne!(expression.evaluate(&variables(false)), Err(EvaluationError::Failed), "{}", text);
        }
    }

    #[test]
    fn no_text_makes_the_compiler_panic(text in "\\PC{0,60}") {
        if let Ok(expression) = Expression::compile(&text) {
            prop_assert_ne!(expression.evaluate(&variables(false)), Err(EvaluationError::Failed));
        }
    }
}

#[test]
fn the_deepest_accepted_expression_is_evaluated_on_the_stack_of_a_thread() {
    let lists = format!("size({}{}) == 1", "[".repeat(31), "]".repeat(31));
    let choices = format!("{}true{}", "(true ? ".repeat(31), " : false)".repeat(31));
    let sums = format!("{} == 40", vec!["1"; 40].join(" + "));
    for text in [lists, choices, sums] {
        let expression = Expression::compile(&text).unwrap_or_else(|why| panic!("{text}: {why}"));
        assert_eq!(expression.evaluate(&variables(false)), Ok(true), "{text}");
    }
}

/// A text that exhausts a stack ends the process: neither the parser, nor the checks, nor the evaluation may need more than they have.
#[test]
fn no_text_exhausts_a_stack() {
    let fill = |part: &str, end: &str| part.repeat((4096 - end.len()) / part.len()) + end;
    let within = |part: &str, count: usize, end: &str| part.repeat(count) + end;
    let mut texts = vec![
        // Words that are operators, and what else could nest without a bracket.
        fill("1 in ", "[1]"),
        fill("a in b in ", "c"),
        fill("true && ", "true"),
        fill("true || ", "true"),
        fill("true ? ", "true"),
        fill("!", "true"),
        fill("-", "1"),
        fill("1 + ", "1"),
        fill("1 == ", "1"),
        fill("a.", "b"),
        fill("a?.", "b"),
        fill("'a' ", "'a'"),
        fill("'a\\\\", "'"),
        fill("r'''", "'"),
        fill("// a\n", "true"),
        fill("(", "true"),
        fill("[", "1"),
        fill("{", "1"),
        fill("a(", "b"),
        fill("a.b(", "c"),
        fill("has(a.", "b"),
        fill("[1].all(x, ", "true"),
        fill("`", "a"),
        fill("\u{e4}", ""),
    ];
    // As deep as the limits of brackets and operators permit.
    for open in ["(", "[", "{'a': ", "size(", "[1].all(x, ", "!(", "true && (", "true ? (", "'a' in [", "1 + (", "-("] {
        let close = |open: &str| {
            if open.ends_with('[') {
                "]"
            } else if open.contains('{') {
                "}"
            } else {
                ")"
            }
        };
        for count in [8, 31, 32, 33] {
            texts.push(within(open, count, "true") + &close(open).repeat(count));
        }
    }
    for operator in [" && true", " || true", " == true", " ? true : true", " + 1", " in [1]", ".a", "[0]"] {
        for count in [40, 60, 120, 250] {
            texts.push(format!("true{}", operator.repeat(count)));
            texts.push(format!("{}true{}{}", "(".repeat(31), operator.repeat(count), ")".repeat(31)));
        }
    }
    let mut accepted = 0;
    for text in &texts {
        // As on a thread of a proxy.
        let text = text.clone();
        let result = std::thread::Builder::new().stack_size(2 << 20).spawn(move || {
            let expression = Expression::compile(&text).ok()?;
            Some(expression.evaluate(&variables(false)).is_ok())
        });
        accepted += u32::from(result.unwrap().join().unwrap().is_some());
    }
    assert!(accepted >= 10, "{accepted} of {}: the test would prove nothing", texts.len());
}

#[test]
fn the_parameters_that_an_expression_needs_are_known() {
    for (expression, expected) in [
        ("params.tenant == 'a'", &["tenant"][..]),
        ("params['tenant'] == 'a' && params.id != ''", &["tenant", "id"]),
        ("request.query['q'].all(value, value == params.q)", &["q"]),
        ("identity.claims.params.tenant == 'a'", &[]),
        ("params[request.method] == 'a'", &[]),
        ("has(params.tenant)", &[]),
        ("!has(params.tenant) || params.tenant == 'a'", &[]),
        ("'tenant' in params && params.tenant == 'a'", &[]),
        ("!has(params.tenant) || params.id == 'a'", &["id"]),
    ] {
        let compiled = Expression::compile(expression).unwrap();
        assert_eq!(compiled.parameters(), expected, "{expression}");
    }
}

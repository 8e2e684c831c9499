//! Distinguished names as text (RFC 4514). Different names have different texts, and a text is ASCII without control characters,
//! so that it can be a header's value.

use std::fmt::Write as _;

use x509_parser::der_parser::asn1_rs::{Any, Tag};
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

/// Attribute types with a name, by their object identifiers: those of RFC 4514, section 3, and two that OpenSSL names as well.
const TYPES: [(&str, &str); 11] = [
    ("2.5.4.3", "CN"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.6", "C"),
    ("2.5.4.9", "STREET"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("0.9.2342.19200300.100.1.1", "UID"),
    ("1.2.840.113549.1.9.1", "emailAddress"),
    ("2.5.4.5", "serialNumber"),
];

/// `CN=orders,O=Shop`: the last part first, as in LDAP.
pub(super) fn text(name: &X509Name<'_>) -> String {
    let mut out = String::new();
    let parts: Vec<_> = name.iter_rdn().collect();
    for (at, part) in parts.iter().rev().enumerate() {
        if at > 0 {
            out.push(',');
        }
        for (at, attribute) in part.iter().enumerate() {
            if at > 0 {
                out.push('+');
            }
            add(&mut out, attribute);
        }
    }
    out
}

fn add(out: &mut String, attribute: &AttributeTypeAndValue<'_>) {
    let oid = attribute.attr_type().to_id_string();
    let named = TYPES.iter().find(|(known, _)| *known == oid).map(|(_, name)| *name);
    out.push_str(named.unwrap_or(&oid));
    out.push('=');
    match named.and_then(|_| characters(attribute.attr_value())) {
        Some(text) => escape(out, text),
        // The encoded value, with which the text has one reading (section 2.4).
        None => {
            out.push('#');
            encoded(out, attribute.attr_value());
        }
    }
}

/// The value of a string type whose encoding is ASCII or UTF-8.
fn characters<'a>(value: &'a Any<'_>) -> Option<&'a str> {
    let known = [Tag::Utf8String, Tag::PrintableString, Tag::Ia5String, Tag::NumericString];
    known.contains(&value.tag()).then(|| std::str::from_utf8(value.data).ok()).flatten()
}

/// Escapes a value (section 2.4). What is not printable ASCII is escaped too, and a space at an end as its code: recipients of a
/// header remove white space around its value.
fn escape(out: &mut String, value: &str) {
    let last = value.len().saturating_sub(1);
    for (at, byte) in value.bytes().enumerate() {
        match byte {
            b'"' | b'+' | b',' | b';' | b'<' | b'>' | b'\\' | b'=' => {
                out.push('\\');
                out.push(char::from(byte));
            }
            b'#' if at == 0 => out.push_str("\\#"),
            b' ' if at == 0 || at == last => out.push_str("\\20"),
            0x20..=0x7e => out.push(char::from(byte)),
            // Writing into a String cannot fail.
            other => write!(out, "\\{other:02X}").unwrap_or_default(),
        }
    }
}

/// The DER encoding in hexadecimal digits.
fn encoded(out: &mut String, value: &Any<'_>) {
    let mut header = Vec::new();
    // The class and form of string types are universal and primitive; their tags are below 31.
    header.push(u8::try_from(value.tag().0).unwrap_or(0x1f) | if value.header.is_constructed() { 0x20 } else { 0 });
    let length = value.data.len();
    match u8::try_from(length) {
        Ok(short) if short < 0x80 => header.push(short),
        _ => {
            let bytes = length.to_be_bytes();
            let significant = bytes.iter().skip_while(|byte| **byte == 0);
            header.push(0x80 | u8::try_from(significant.clone().count()).unwrap_or_default());
            header.extend(significant);
        }
    }
    for byte in header.iter().chain(value.data) {
        write!(out, "{byte:02x}").unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, DnValue, KeyPair};
    use x509_parser::certificate::X509Certificate;
    use x509_parser::prelude::FromDer as _;

    fn text(parts: &[(DnType, DnValue)]) -> String {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        for (kind, value) in parts {
            params.distinguished_name.push(kind.clone(), value.clone());
        }
        let made = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let (_, parsed) = X509Certificate::from_der(made.der()).unwrap();
        super::text(parsed.subject())
    }

    fn of(value: &str) -> String {
        text(&[(DnType::CommonName, DnValue::Utf8String(value.to_owned()))])
    }

    #[test]
    fn a_name_is_written_as_in_ldap_and_has_one_reading() {
        let printable = |value: &str| DnValue::PrintableString(value.try_into().unwrap());
        let parts = [
            (DnType::CountryName, printable("DE")),
            (DnType::OrganizationName, DnValue::Utf8String("Shop, Inc.".into())),
            (DnType::CommonName, DnValue::Utf8String("orders".into())),
        ];
        assert_eq!(text(&parts), r"CN=orders,O=Shop\, Inc.,C=DE");
        for (value, expected) in [
            ("a,O=Admins", r"CN=a\,O\=Admins"),
            ("a+b", r"CN=a\+b"),
            ("#a#", r"CN=\#a#"),
            (" a b ", r"CN=\20a b\20"),
            (" ", r"CN=\20"),
            ("a\0b\r\n", r"CN=a\00b\0D\0A"),
            ("Zoë\"<>;\\", r#"CN=Zo\C3\AB\"\<\>\;\\"#),
            ("", "CN="),
        ] {
            assert_eq!(of(value), expected, "{value:?}");
        }
        assert_eq!(text(&[]), "");
    }

    #[test]
    fn what_has_no_name_or_is_no_text_is_written_as_its_encoding() {
        let unknown = (DnType::CustomDnType(vec![1, 2, 3, 4]), DnValue::Utf8String("ab".into()));
        assert_eq!(text(&[unknown]), "1.2.3.4=#0c026162");
        let bmp = (DnType::CommonName, DnValue::BmpString("a".try_into().unwrap()));
        assert_eq!(text(&[bmp]), "CN=#1e020061");
        let long = (DnType::CustomDnType(vec![1, 2, 3, 4]), DnValue::Utf8String("a".repeat(300)));
        assert!(text(&[long]).starts_with("1.2.3.4=#0c82012c6161"));
    }
}

use http::HeaderValue;

use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn filter(allow: &[&str], deny: &[&str]) -> SourceFilter {
    let parse = |list: &[&str]| list.iter().map(|text| text.parse().unwrap()).collect();
    SourceFilter::compile(&Sources { allow: parse(allow), deny: parse(deny) })
}

#[test]
fn networks_contain_what_their_prefixes_say() {
    let networks = ["10.0.0.0/8", "10.1.0.0/16", "192.0.2.4/30", "192.0.2.8/32", "2001:db8::/32", "::1/128"];
    let networks: Vec<Network> = networks.iter().map(|text| text.parse().unwrap()).collect();
    let set = Networks::new(&networks);
    for text in [
        "9.255.255.255",
        "10.0.0.0",
        "10.1.2.3",
        "10.255.255.255",
        "11.0.0.0",
        "192.0.2.3",
        "192.0.2.4",
        "192.0.2.7",
        "192.0.2.8",
        "192.0.2.9",
        "0.0.0.1",
        "255.255.255.255",
        "2001:db7:ffff::",
        "2001:db8::",
        "2001:db8:ffff::1",
        "2001:db9::",
        "::",
        "::1",
        "::2",
        "::a00:1",
    ] {
        let address = ip(text);
        assert_eq!(set.contains(address), networks.iter().any(|network| network.get().contains(&address)), "{text}");
    }
    assert!(!Networks::default().contains(ip("10.0.0.1")));
}

#[test]
fn many_networks_give_the_same_answers_as_one_after_another() {
    // Prefixes of every length below few addresses overlap in every way.
    let networks: Vec<Network> = (0..=32)
        .map(|length| {
            let address = ip(["10.1.2.3", "10.1.128.0", "77.0.0.1"][length % 3]);
            let network = ipnet::IpNet::new(address, length.max(5) as u8).unwrap().trunc();
            network.to_string().parse().unwrap()
        })
        .collect();
    let set = Networks::new(&networks);
    for number in (0..u32::MAX).step_by(977_563) {
        let address = IpAddr::V4(number.into());
        assert_eq!(set.contains(address), networks.iter().any(|network| network.get().contains(&address)), "{address}");
    }
}

#[test]
fn deny_takes_precedence_and_without_allow_every_other_network_is_accepted() {
    for (allow, deny, address, accepted) in [
        (&[][..], &[][..], "192.0.2.1", true),
        (&["10.0.0.0/8"], &[], "10.9.9.9", true),
        (&["10.0.0.0/8"], &[], "11.0.0.1", false),
        (&["10.0.0.0/8"], &[], "2001:db8::1", false),
        (&["10.0.0.0/8"], &["10.1.0.0/16"], "10.1.0.1", false),
        (&["10.1.0.0/16"], &["10.0.0.0/8"], "10.1.0.1", false),
        (&[], &["2001:db8::/32"], "2001:db8::1", false),
        (&[], &["2001:db8::/32"], "10.0.0.1", true),
        (&["0.0.0.0/0"], &[], "2001:db8::1", false),
        (&["::/0"], &[], "10.0.0.1", false),
    ] {
        assert_eq!(filter(allow, deny).accepts(ip(address)), accepted, "{allow:?} {deny:?} {address}");
    }
}

fn client(header: AddressHeader, hops: Option<u8>, values: &[&str]) -> Result<String, Unreadable> {
    let networks = ["10.0.0.0/8", "2001:db8:f::/48"].map(|text| text.parse().unwrap()).to_vec();
    let name = match header {
        AddressHeader::XForwardedFor => HeaderName::from_static("x-forwarded-for"),
        AddressHeader::Forwarded => http::header::FORWARDED,
    };
    let mut headers = HeaderMap::new();
    for value in values {
        headers.append(&name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    let trusted = Trusted::new(&TrustedProxies { networks, header, hops });
    trusted.client(ip("10.0.0.1"), &headers).map(|address| address.to_string())
}

#[test]
fn the_client_is_the_last_address_that_is_no_trusted_proxy() {
    for (values, expected) in [
        (&[][..], Ok("10.0.0.1")),
        (&[""], Ok("10.0.0.1")),
        (&["192.0.2.1"], Ok("192.0.2.1")),
        // What a client writes comes before what the proxies append.
        (&["1.1.1.1, 192.0.2.1"], Ok("192.0.2.1")),
        (&["1.1.1.1", "192.0.2.1"], Ok("192.0.2.1")),
        (&["nonsense, 192.0.2.1, 10.2.2.2"], Ok("192.0.2.1")),
        (&["10.9.9.9, 192.0.2.1", "10.2.2.2,10.3.3.3"], Ok("192.0.2.1")),
        (&["192.0.2.1,,", " , 10.3.3.3 ,"], Ok("192.0.2.1")),
        // A client inside of the network.
        (&["10.4.4.4, 10.3.3.3"], Ok("10.4.4.4")),
        (&["192.0.2.1:4711"], Ok("192.0.2.1")),
        (&["[2001:db8::1]:4711"], Ok("2001:db8::1")),
        (&["[2001:db8::1]"], Ok("2001:db8::1")),
        (&["2001:db8::1, 2001:db8:f::9"], Ok("2001:db8::1")),
        (&["::ffff:192.0.2.1, ::ffff:10.2.2.2"], Ok("192.0.2.1")),
        (&["unknown"], Err(Unreadable)),
        (&["192.0.2.1, unknown"], Err(Unreadable)),
        (&["192.0.2.1, 10.2.2"], Err(Unreadable)),
        (&["192.0.2.1 10.2.2.2"], Err(Unreadable)),
        (&["192.0.2.1:"], Err(Unreadable)),
        (&["192.0.2.1:123456"], Err(Unreadable)),
        (&["[192.0.2.1]"], Err(Unreadable)),
        (&["[2001:db8::1"], Err(Unreadable)),
        (&["\"192.0.2.1\""], Err(Unreadable)),
        (&["192.0.2.1/32"], Err(Unreadable)),
        (&["fe80::1%eth0"], Err(Unreadable)),
        (&["192.0.2.€"], Err(Unreadable)),
    ] {
        let found = client(AddressHeader::XForwardedFor, None, values);
        assert_eq!(found.as_deref(), expected.as_ref().map(|text| *text), "{values:?}");
    }
}

#[test]
fn with_a_number_of_hops_the_address_is_counted_from_the_right() {
    for (hops, values, expected) in [
        (1, "1.1.1.1, 192.0.2.1", Ok("192.0.2.1")),
        // A content delivery network whose addresses are not known.
        (2, "1.1.1.1, 192.0.2.1, 198.51.100.7", Ok("192.0.2.1")),
        (3, "192.0.2.1, 198.51.100.7", Ok("192.0.2.1")),
        (1, "10.4.4.4", Ok("10.4.4.4")),
        (2, "", Ok("10.0.0.1")),
        (2, "1.1.1.1, -, 198.51.100.7", Err(Unreadable)),
        (1, "-, 198.51.100.7", Ok("198.51.100.7")),
    ] {
        let found = client(AddressHeader::XForwardedFor, Some(hops), &[values]);
        assert_eq!(found.as_deref(), expected.as_ref().map(|text| *text), "{hops} {values:?}");
    }
}

#[test]
fn forwarded_elements_are_read_as_rfc_7239_writes_them() {
    for (values, expected) in [
        (&[][..], Ok("10.0.0.1")),
        (&["for=192.0.2.1"], Ok("192.0.2.1")),
        (&["For=\"192.0.2.1:4711\";proto=https;by=10.0.0.1"], Ok("192.0.2.1")),
        (&["for=1.1.1.1, for=192.0.2.1;host=\"a, for=2.2.2.2\""], Ok("192.0.2.1")),
        (&["for=192.0.2.1;proto=http , for=10.2.2.2"], Ok("192.0.2.1")),
        (&["for=192.0.2.1", "for=10.2.2.2,,"], Ok("192.0.2.1")),
        (&[r#"for="[2001:db8::1]:4711""#], Ok("2001:db8::1")),
        (&[r#"proto=https; for="\192.0.2.1""#], Ok("192.0.2.1")),
        (&["for=192.0.2.1:_port"], Ok("192.0.2.1")),
        // The nearest proxy does not say who its client is.
        (&["for=192.0.2.1, proto=https"], Err(Unreadable)),
        (&["for=192.0.2.1, for=_hidden"], Err(Unreadable)),
        (&["for=unknown"], Err(Unreadable)),
        (&["for=192.0.2.1;for=10.2.2.2"], Err(Unreadable)),
        (&["192.0.2.1"], Err(Unreadable)),
        (&["for=\"192.0.2.1"], Err(Unreadable)),
        (&["for=\"192.0.2.1\"x"], Err(Unreadable)),
        (&["for=\"192.0.2.1\\"], Err(Unreadable)),
        (&["for"], Err(Unreadable)),
        (&["=192.0.2.1"], Err(Unreadable)),
    ] {
        let found = client(AddressHeader::Forwarded, None, values);
        assert_eq!(found.as_deref(), expected.as_ref().map(|text| *text), "{values:?}");
    }
}

//! The time and the scope of a credential.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{HeaderMap, Method};
use sluice_sigv4::{BodyHash, Options, Presented, RequestParts, Signer};

use crate::{ACCESS_KEY_ID, SECRET};

const SKEW: Duration = Duration::from_secs(300);

/// 2020-10-27T12:30:08Z.
const SIGNED: u64 = 1_603_801_808;

fn at(epoch: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(epoch)
}

fn presented(expires: Option<u64>) -> Presented {
    let signer = Signer::new(ACCESS_KEY_ID, SECRET, "eu-west-1", "execute-api", at(SIGNED));
    let headers = HeaderMap::new();
    let request =
        RequestParts { method: &Method::GET, path: "/", query: None, headers: &headers, host: Some("example.com") };
    let (headers, query) = match expires {
        None => (signer.sign(&request, &BodyHash::of(b"")).unwrap(), None),
        Some(expires) => {
            let query = signer.presign(&request, Duration::from_secs(expires), &BodyHash::of(b"")).unwrap();
            (headers.clone(), Some(query))
        }
    };
    Presented::find(&headers, query.as_deref(), Options::default()).unwrap().unwrap()
}

#[test]
fn a_signature_is_valid_for_the_skew_before_and_after() {
    let presented = presented(None);
    for (now, text) in [
        (SIGNED, ""),
        (SIGNED + 300, ""),
        (SIGNED - 300, ""),
        (
            SIGNED + 1_799,
            "Signature expired: 20201027T123008Z is now earlier than 20201027T125507Z (20201027T130007Z - 5 min.)",
        ),
        (
            SIGNED + 301,
            "Signature expired: 20201027T123008Z is now earlier than 20201027T123009Z (20201027T123509Z - 5 min.)",
        ),
        (
            SIGNED - 301,
            "Signature not yet current: 20201027T123008Z is still later than 20201027T123007Z (20201027T122507Z + \
             5 min.)",
        ),
    ] {
        let error = presented.check_time(at(now), SKEW).err();
        assert_eq!(error.map(|error| error.to_string()).unwrap_or_default(), text, "{now}");
    }
    let error = presented.check_time(at(SIGNED + 91), Duration::from_secs(90)).unwrap_err();
    assert!(error.to_string().ends_with("(20201027T123139Z - 90 sec.)"), "{error}");
    assert_eq!(error.error_type(), "InvalidSignatureException");
}

#[test]
fn a_presigned_request_is_valid_as_long_as_it_says() {
    for expires in [1, 60, 604_800] {
        let presented = presented(Some(expires));
        assert_eq!(presented.expires().map(u64::from), Some(expires));
        for (now, valid) in [
            (SIGNED - 301, false),
            (SIGNED - 300, true),
            (SIGNED, true),
            (SIGNED + expires, true),
            (SIGNED + expires + 1, false),
        ] {
            assert_eq!(presented.check_time(at(now), SKEW).is_ok(), valid, "{expires} {now}");
        }
    }
}

#[test]
fn a_time_before_1970_is_the_beginning_of_1970() {
    let error = presented(None).check_time(UNIX_EPOCH - SKEW, SKEW).unwrap_err();
    assert!(error.to_string().ends_with("later than 19700101T000500Z (19700101T000000Z + 5 min.)"), "{error}");
}

#[test]
fn the_scope_is_of_the_day_of_the_signature() {
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential=AKID/20201026/eu-west-1/execute-api/aws4_request, SignedHeaders=host;x-amz-date, \
         Signature={}",
        "0".repeat(64)
    );
    let mut headers = HeaderMap::new();
    headers.insert("authorization", authorization.parse().unwrap());
    headers.insert("x-amz-date", "20201027T123008Z".parse().unwrap());
    let presented = Presented::find(&headers, None, Options::default()).unwrap().unwrap();
    assert_eq!(
        presented.check_time(at(SIGNED), SKEW).unwrap_err().to_string(),
        "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '20201026' != \
         '20201027', from '20201027T123008Z'."
    );
}

#[test]
fn region_and_service_of_the_scope_are_checked() {
    let presented = presented(None);
    for (region, service, text) in [
        ("eu-west-1", "execute-api", ""),
        ("eu-west-2", "execute-api", "Credential should be scoped to a valid region. "),
        ("eu-west-1", "s3", "Credential should be scoped to correct service: 's3'. "),
        (
            "eu-west-2",
            "s3",
            "Credential should be scoped to a valid region. Credential should be scoped to correct service: 's3'. ",
        ),
    ] {
        let error = presented.check_scope(|scope| scope == region, service).err();
        assert_eq!(error.map(|error| error.to_string()).unwrap_or_default(), text);
    }
}

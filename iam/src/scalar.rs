//! Numbers, dates, booleans, binary values and networks: their forms in policies and in context values.

use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ipnet::{IpNet, Ipv4Net};

/// A decimal number, exact: a multiple of 10^-18.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Decimal(i128);

/// A point in time: seconds since 1970 and nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Timestamp(i64, u32);

/// Digits of a number before and after its point. 10^36 fits into 127 bits.
const DECIMAL_DIGITS: usize = 18;

/// Parses `-12.5`: a sign, digits, and at most 18 of them before and after the point. There is no exponent.
pub(crate) fn decimal(text: &str) -> Option<Decimal> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (whole, fraction) = match digits.split_once('.') {
        Some((_, "")) => return None,
        Some(parts) => parts,
        None => (digits, ""),
    };
    let is_number = |digits: &str| digits.len() <= DECIMAL_DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !is_number(whole) || !is_number(fraction) {
        return None;
    }
    let digits = whole.bytes().chain(fraction.bytes()).chain(std::iter::repeat(b'0'));
    let magnitude = digits.take(whole.len() + DECIMAL_DIGITS).fold(0, |sum, byte| sum * 10 + i128::from(byte - b'0'));
    Some(Decimal(if negative { -magnitude } else { magnitude }))
}

/// The text of a floating point number of JSON. None: it has more than 15 digits, so that the text may differ from
/// what the document contains.
pub(crate) fn float_text(number: f64) -> Option<String> {
    let text = number.to_string();
    let digits = text.trim_start_matches(['-', '0', '.']).bytes().filter(u8::is_ascii_digit).count();
    (digits <= 15).then_some(text)
}

/// Parses `true` or `false`, in any case.
pub(crate) fn boolean(text: &str) -> Option<bool> {
    if text.eq_ignore_ascii_case("true") {
        Some(true)
    } else if text.eq_ignore_ascii_case("false") {
        Some(false)
    } else {
        None
    }
}

/// Parses standard base64 with padding.
pub(crate) fn binary(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

/// Parses an address or a network. Networks of IPv4-mapped addresses are IPv4 networks.
pub(crate) fn network(text: &str) -> Option<IpNet> {
    let network = match text.parse::<IpNet>() {
        Ok(network) => network,
        Err(_) => IpNet::from(text.parse::<IpAddr>().ok()?),
    };
    let IpNet::V6(v6) = network else { return Some(network) };
    match (v6.addr().to_ipv4_mapped(), v6.prefix_len().checked_sub(96)) {
        (Some(address), Some(length)) => Ipv4Net::new(address, length).ok().map(IpNet::V4),
        _ => Some(network),
    }
}

/// Parses an address. An IPv4-mapped address is the IPv4 address.
pub(crate) fn address(text: &str) -> Option<IpAddr> {
    text.parse::<IpAddr>().ok().map(|address| address.to_canonical())
}

/// Parses seconds since 1970, or a form of <https://www.w3.org/TR/NOTE-datetime>: `2026-01`, `2026-01-02`,
/// `2026-01-02T03:04Z`, `2026-01-02T03:04:05.5+01:00`. A date without a time is its first moment in UTC. Four digits
/// are neither: they could be a year or seconds.
pub(crate) fn timestamp(text: &str) -> Option<Timestamp> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        let is_epoch = text.len() != 4 && (1..=12).contains(&text.len());
        return if is_epoch { Some(Timestamp(text.parse().ok()?, 0)) } else { None };
    }
    let (date, time) = match text.split_once('T') {
        Some((date, time)) => (date, Some(time)),
        None => (text, None),
    };
    let mut parts = date.splitn(3, '-');
    let (year, month, day) = (digits(parts.next()?, 4)?, digits(parts.next()?, 2)?, parts.next());
    if day.is_none() && time.is_some() {
        return None;
    }
    let day = day.map_or(Some(1), |day| digits(day, 2))?;
    let days = days_since_epoch(year, month, day)?;
    let (seconds, nanoseconds) = time.map_or(Some((0, 0)), time_of_day)?;
    Some(Timestamp(days * 86_400 + seconds, nanoseconds))
}

/// Parses `03:04Z`, `03:04:05Z`, `03:04:05.5+01:00`: seconds in UTC, and nanoseconds. Digits after the ninth are cut.
fn time_of_day(text: &str) -> Option<(i64, u32)> {
    let (clock, offset) = match text.strip_suffix('Z') {
        Some(clock) => (clock, 0),
        None => {
            let (clock, offset) = text.split_at_checked(text.len().checked_sub(6)?)?;
            let (sign, offset) = match offset.strip_prefix('+') {
                Some(offset) => (1, offset),
                None => (-1, offset.strip_prefix('-')?),
            };
            (clock, sign * hours_and_minutes(offset)?)
        }
    };
    let (clock, seconds) = match clock.split_at_checked(5)? {
        (clock, "") => (clock, None),
        (clock, seconds) => (clock, Some(seconds.strip_prefix(':')?)),
    };
    let (seconds, nanoseconds) = match seconds {
        None => (0, 0),
        Some(seconds) => match seconds.split_once('.') {
            None => (digits(seconds, 2)?, 0),
            Some((seconds, fraction)) => {
                let is_fraction = !fraction.is_empty() && fraction.bytes().all(|byte| byte.is_ascii_digit());
                is_fraction.then_some(())?;
                let nine = fraction.bytes().chain(std::iter::repeat(b'0')).take(9);
                (digits(seconds, 2)?, nine.fold(0, |sum, byte| sum * 10 + u32::from(byte - b'0')))
            }
        },
    };
    (seconds < 60).then_some(())?;
    Some((hours_and_minutes(clock)? + seconds - offset, nanoseconds))
}

/// `03:04`, in seconds.
fn hours_and_minutes(text: &str) -> Option<i64> {
    let (hours, minutes) = text.split_once(':')?;
    let (hours, minutes) = (digits(hours, 2)?, digits(minutes, 2)?);
    (hours < 24 && minutes < 60).then_some(hours * 3600 + minutes * 60)
}

/// Exactly this many digits.
fn digits(text: &str, count: usize) -> Option<i64> {
    (text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit())).then_some(())?;
    text.parse().ok()
}

/// Days since 1970-01-01 in the Gregorian calendar. None: there is no such day.
fn days_since_epoch(year: i64, month: i64, day: i64) -> Option<i64> {
    let is_leap = |year: i64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let month_lengths = [31, if is_leap(year) { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let index = usize::try_from(month.checked_sub(1)?).ok()?;
    (1..=*month_lengths.get(index)?).contains(&day).then_some(())?;
    // Leap days before the year, of years from 1; the year 0 is one as well.
    let leap_days = |year: i64| year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    let before_year = |year: i64| year * 365 + leap_days(year - 1);
    let before_month: i64 = month_lengths.iter().take(index).sum();
    Some(before_year(year) - before_year(1970) + before_month + day - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_have_the_seconds_of_the_calendar() {
        for (text, seconds, nanoseconds) in [
            ("1970-01-01", 0, 0),
            ("1970-01", 0, 0),
            ("0", 0, 0),
            ("1969-12-31T23:59:59Z", -1, 0),
            ("2000-02-29", 951_782_400, 0),
            ("2000-03-01", 951_868_800, 0),
            ("2026-01-02", 1_767_312_000, 0),
            ("2026-01-02T03:04Z", 1_767_323_040, 0),
            ("2026-01-02T03:04:05Z", 1_767_323_045, 0),
            ("2026-01-02T03:04:05+01:30", 1_767_317_645, 0),
            ("2026-01-02T03:04:05-01:30", 1_767_328_445, 0),
            ("2026-01-02T03:04:05.25Z", 1_767_323_045, 250_000_000),
            ("2026-01-02T03:04:05.1234567899+00:00", 1_767_323_045, 123_456_789),
            ("1767323045", 1_767_323_045, 0),
            ("9999-12-31T23:59:59Z", 253_402_300_799, 0),
            ("0000-01-01", -62_167_219_200, 0),
            ("1900-03-01", -2_203_891_200, 0),
        ] {
            assert_eq!(timestamp(text), Some(Timestamp(seconds, nanoseconds)), "{text}");
        }
    }

    #[test]
    fn other_forms_are_no_dates() {
        for text in [
            "",
            "2026",
            "20260102030405",
            "2026-1-2",
            "2026-13-01",
            "2026-00-01",
            "2026-02-29",
            "1900-02-29",
            "2026-04-31",
            "2026-01-00",
            "2026-01-02T",
            "2026-01T03:04Z",
            "2026-01-02T03:04:05",
            "2026-01-02T24:00Z",
            "2026-01-02T03:60Z",
            "2026-01-02T03:04:60Z",
            "2026-01-02T03:04:05.Z",
            "2026-01-02T03:04:05.xZ",
            "2026-01-02T03:04:05+0100",
            "2026-01-02T03:04:05+24:00",
            "2026-01-02t03:04:05z",
            "2026-01-02 03:04:05Z",
            "2026-01-02Z",
            "-1",
            "+2026-01-02",
            "2026-01-02T03:04:05Zé",
            "2026-01-02T03:é4:05Z",
            "1.5",
        ] {
            assert_eq!(timestamp(text), None, "{text}");
        }
    }

    #[test]
    fn decimals_are_exact() {
        let parse = |text| decimal(text).unwrap();
        assert_eq!(parse("1.50"), parse("+1.5"));
        assert_eq!(parse("-0"), parse("0"));
        assert_eq!(parse("007"), parse("7"));
        assert!(parse("9007199254740992") < parse("9007199254740993"));
        assert!(parse("-2") < parse("-1.999999999999999999"));
        assert!(parse("0.1") > parse("0.099999999999999999"));
        let too_long = "1234567890123456789";
        for text in ["", "-", "+", ".", "1.", ".5", "1e3", "0x1", "1,5", " 1", "NaN", "inf", "--1", "1.2.3", too_long] {
            assert_eq!(decimal(text), None, "{text}");
        }
    }
}

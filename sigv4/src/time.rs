//! Times as SigV4 writes them: `YYYYMMDDTHHMMSSZ`, the basic format of ISO 8601, in UTC.

use std::time::{SystemTime, UNIX_EPOCH};

const DAY: u64 = 86_400;

/// 9999-12-31T23:59:59Z: later times have no text of 16 characters.
const MAX: u64 = 253_402_300_799;

/// Seconds since 1970 of a text in the basic format.
pub(crate) fn parse_basic(text: &str) -> Option<u64> {
    let bytes: &[u8; 16] = text.as_bytes().try_into().ok()?;
    if bytes[8] != b'T' || bytes[15] != b'Z' {
        return None;
    }
    let number = |from: usize, to: usize| {
        bytes[from..to]
            .iter()
            .try_fold(0u64, |number, digit| digit.is_ascii_digit().then(|| number * 10 + u64::from(digit - b'0')))
    };
    let (year, month, day) = (number(0, 4)?, number(4, 6)?, number(6, 8)?);
    let (hour, minute, second) = (number(9, 11)?, number(11, 13)?, number(13, 15)?);
    if year < 1970 || hour > 23 || minute > 59 || second > 59 || !(1..=12).contains(&month) {
        return None;
    }
    let days = days(year, month, day);
    // A day that the month does not have would be a day of the next month.
    (date(days) == (year, month, day)).then_some(days * DAY + hour * 3600 + minute * 60 + second)
}

/// Seconds since 1970 of the header `date`: the basic format, one of the formats of HTTP (RFC 9110, section 5.6.7), or
/// that of botocore, which has the zone of RFC 5322 instead of `GMT`.
pub(crate) fn parse_date_header(text: &str) -> Option<u64> {
    let http = |text: &str| Some(epoch(httpdate::parse_http_date(text).ok()?));
    parse_basic(text).or_else(|| match text.strip_suffix(" -0000") {
        Some(local) => http(&format!("{local} GMT")),
        None => http(text),
    })
}

/// `YYYYMMDDTHHMMSSZ` of a time in seconds since 1970.
pub(crate) fn basic(epoch: u64) -> String {
    let epoch = epoch.min(MAX);
    let ((year, month, day), second) = (date(epoch / DAY), epoch % DAY);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let mut text = String::with_capacity(16);
    [(year, 4), (month, 2), (day, 2)].into_iter().for_each(|(number, width)| push_number(&mut text, number, width));
    text.push('T');
    [hour, minute, second].into_iter().for_each(|number| push_number(&mut text, number, 2));
    text.push('Z');
    text
}

/// Appends a number with leading zeros. It is on the way of each request: `format!` takes several times as long.
fn push_number(text: &mut String, number: u64, width: u32) {
    let digits = (0..width).rev().map(|at| number / 10_u64.pow(at) % 10);
    text.extend(digits.filter_map(|digit| char::from_digit(u32::try_from(digit).ok()?, 10)));
}

/// `YYYYMMDD` of a time in seconds since 1970.
pub(crate) fn day(epoch: u64) -> String {
    let (year, month, day) = date(epoch.min(MAX) / DAY);
    let mut text = String::with_capacity(8);
    [(year, 4), (month, 2), (day, 2)].into_iter().for_each(|(number, width)| push_number(&mut text, number, width));
    text
}

/// Seconds since 1970; 0 for earlier times.
pub(crate) fn epoch(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()).min(MAX)
}

/// Days from 1970-01-01 to a date of the Gregorian calendar. The year begins in March, so that a leap day is its last
/// day.
fn days(year: u64, month: u64, day: u64) -> u64 {
    let (year, month) = if month < 3 { (year - 1, month + 9) } else { (year, month - 3) };
    let of_year = (153 * month + 2) / 5 + day;
    (year * 365 + year / 4 - year / 100 + year / 400 + of_year).saturating_sub(719_469)
}

/// The inverse of [`days`]: year, month, day. An era has 400 years, which are 146,097 days.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (year, month) = if month < 10 { (year, month + 3) } else { (year + 1, month - 9) };
    (era * 400 + year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_one_text() {
        for (text, epoch) in [
            ("19700101T000000Z", 0),
            ("20150830T123600Z", 1_440_938_160),
            ("20000229T235959Z", 951_868_799),
            ("20261127T051103Z", 1_795_756_263),
            ("99991231T235959Z", MAX),
        ] {
            assert_eq!(parse_basic(text), Some(epoch), "{text}");
            assert_eq!(basic(epoch), text);
            assert_eq!(Some(day(epoch).as_str()), text.get(..8));
        }
    }

    #[test]
    fn every_day_of_the_calendar_has_one_number() {
        for number in 0..MAX / DAY {
            let (year, month, day) = date(number);
            assert_eq!(days(year, month, day), number);
        }
    }

    #[test]
    fn what_is_no_time_has_no_number() {
        for text in [
            "",
            "201",
            "20150230T123600Z",
            "21000229T000000Z",
            "20151301T000000Z",
            "20150001T000000Z",
            "20150100T000000Z",
            "20150830T240000Z",
            "20150830T126000Z",
            "20150830T123660Z",
            "20150830t123600z",
            "2015-08-30T12:36",
            "+0150830T123600Z",
            "19691231T235959Z",
        ] {
            assert_eq!(parse_basic(text), None, "{text}");
        }
    }

    #[test]
    fn the_header_date_has_the_formats_of_http_as_well() {
        for text in [
            "20150830T123600Z",
            "Sun, 30 Aug 2015 12:36:00 GMT",
            "Sunday, 30-Aug-15 12:36:00 GMT",
            "Sun, 30 Aug 2015 12:36:00 -0000",
        ] {
            assert_eq!(parse_date_header(text), Some(1_440_938_160), "{text}");
        }
        assert_eq!(parse_date_header("Sun, 30 Aug 2015 12:36:00 +0100"), None);
        assert_eq!(parse_date_header("30 August 2015"), None);
    }
}

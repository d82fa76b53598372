//! RFC 3339 times as `metav1.Time` and `metav1.MicroTime` read and write them.

use jiff::Timestamp;
use jiff::tz::TimeZone;

const SECONDS_LAYOUT: &str = "2006-01-02T15:04:05Z07:00";
const MICRO_LAYOUT: &str = "2006-01-02T15:04:05.000000Z07:00";

/// `metav1.Time`: fractions are read and dropped, other zones become UTC.
pub(crate) fn seconds(text: &str) -> Result<String, String> {
    parse(text, SECONDS_LAYOUT).map(|at| at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}

/// `metav1.MicroTime`: exactly six digits of fraction.
pub(crate) fn micro(text: &str) -> Result<String, String> {
    let at = parse(text, MICRO_LAYOUT)?;
    let civil = TimeZone::UTC.to_datetime(at);
    let micro = civil.subsec_nanosecond() / 1000;
    Ok(format!("{}.{micro:06}Z", at.strftime("%Y-%m-%dT%H:%M:%S")))
}

/// Seconds and nanoseconds since the epoch of a text that `seconds` or `micro` wrote.
pub(crate) fn unix(text: &str) -> Option<(i64, i32)> {
    let at: Timestamp = text.parse().ok()?;
    Some((at.as_second(), at.subsec_nanosecond()))
}

/// The text of `metav1.Time` (or `MicroTime`) for seconds and nanoseconds since the epoch.
pub(crate) fn from_unix(second: i64, nanosecond: i32, with_micro: bool) -> Option<String> {
    let at = Timestamp::new(second, nanosecond).ok()?.to_string();
    if with_micro { micro_of(&at) } else { seconds(&at).ok() }
}

fn micro_of(text: &str) -> Option<String> {
    let at: Timestamp = text.parse().ok()?;
    let micro = at.subsec_nanosecond() / 1000;
    Some(format!("{}.{micro:06}Z", at.strftime("%Y-%m-%dT%H:%M:%S")))
}

/// Reads a text as Go's `time.Parse` does with one of the two layouts, with its errors.
fn parse(text: &str, layout: &str) -> Result<Timestamp, String> {
    let mut rest = text;
    let fail = |rest: &str, part: &str| {
        Err(format!("parsing time {text:?} as {layout:?}: cannot parse {rest:?} as {part:?}"))
    };
    for (width, literal, name) in [
        (4, "-", "2006"),
        (2, "-", "01"),
        (2, "T", "02"),
        (2, ":", "15"),
        (2, ":", "04"),
        (2, "", "05"),
    ] {
        if rest.len() < width || !rest.as_bytes()[..width].iter().all(u8::is_ascii_digit) {
            return fail(rest, name);
        }
        rest = &rest[width..];
        match rest.strip_prefix(literal) {
            Some(after) => rest = after,
            None => return fail(rest, literal),
        }
    }
    if layout == MICRO_LAYOUT {
        let digits = rest.bytes().skip(1).take_while(u8::is_ascii_digit).count();
        if !rest.starts_with('.') || digits < 6 {
            return fail(rest, ".000000");
        }
        rest = &rest[7..];
    } else if let Some(fraction) = rest.strip_prefix(['.', ',']) {
        let after = fraction.trim_start_matches(|c: char| c.is_ascii_digit());
        if after.len() == fraction.len() {
            return fail(rest, "Z07:00");
        }
        rest = after;
    }
    let zone = rest.len() == 6 && rest.starts_with(['+', '-']) && rest.as_bytes()[3] == b':';
    if rest != "Z" && !zone {
        if let Some(extra) = rest.strip_prefix('Z') {
            return Err(format!("parsing time {text:?}: extra text: {extra:?}"));
        }
        return fail(rest, "Z07:00");
    }
    text.replace(',', ".").parse().map_err(|_| format!("parsing time {text:?}: day out of range"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_become_utc_seconds() {
        assert_eq!(seconds("2024-05-05T07:05:06.9+02:00").as_deref(), Ok("2024-05-05T05:05:06Z"));
        assert_eq!(seconds("2024-05-05T05:05:06Z").as_deref(), Ok("2024-05-05T05:05:06Z"));
        assert_eq!(
            micro("2024-05-05T05:05:06.000007Z").as_deref(),
            Ok("2024-05-05T05:05:06.000007Z")
        );
    }

    #[test]
    fn errors_have_go_words() {
        assert_eq!(seconds("yesterday").expect_err("is no time"), {
            r#"parsing time "yesterday" as "2006-01-02T15:04:05Z07:00": cannot parse "yesterday" as "2006""#
        });
        assert_eq!(micro("2024-05-05T05:05:06Z").expect_err("has no fraction"), {
            "parsing time \"2024-05-05T05:05:06Z\" as \"2006-01-02T15:04:05.000000Z07:00\": \
             cannot parse \"Z\" as \".000000\""
        });
        assert!(seconds("2024-02-31T00:00:00Z").is_err());
        assert!(seconds("2024-02-01T00:00:00").is_err());
    }

    #[test]
    fn unix_and_back() {
        for text in ["2024-05-05T05:05:06Z", "1969-12-31T23:59:59Z"] {
            let (second, nano) = unix(text).expect("is a time");
            assert_eq!(from_unix(second, nano, false).as_deref(), Some(text));
        }
        let (second, nano) = unix("2024-05-05T05:05:06.000007Z").expect("is a time");
        assert_eq!(from_unix(second, nano, true).as_deref(), Some("2024-05-05T05:05:06.000007Z"));
    }
}

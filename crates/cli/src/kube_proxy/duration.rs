//! Durations in Go's notation, such as `1h30m` or `250ms`.

use std::time::Duration;

/// Units, longest first, in nanoseconds.
const UNITS: [(&str, u64); 7] = [
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("µs", 1_000),
    ("ns", 1),
];

/// Reads a duration; `None` when it is none, is negative or longer than 584 years.
pub(crate) fn parse(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    let mut nanos = 0_u64;
    while !rest.is_empty() {
        let (number, after) = split(rest, |c| c.is_ascii_digit() || c == '.');
        let (unit, after) = split(after, |c| !c.is_ascii_digit() && c != '.');
        let (_, size) = UNITS.iter().find(|(name, _)| *name == unit)?;
        nanos = nanos.checked_add(scaled(number, *size)?)?;
        rest = after;
    }
    (!text.is_empty()).then(|| Duration::from_nanos(nanos))
}

/// As Go prints it: `1h0m0s`, `1m0s`, `1.5s`, `250ms`.
pub(crate) fn print(duration: Duration) -> String {
    let seconds = duration.as_secs();
    if seconds == 0 && !duration.is_zero() {
        let nanos = u64::from(duration.subsec_nanos());
        let (unit, size) = match nanos {
            1_000_000.. => ("ms", 1_000_000),
            1_000.. => ("µs", 1_000),
            _ => ("ns", 1),
        };
        return format!("{}{unit}", decimal(nanos / size, nanos % size, size));
    }
    let rest = decimal(seconds % 60, u64::from(duration.subsec_nanos()), 1_000_000_000);
    match (seconds / 3600, seconds / 60 % 60) {
        (0, 0) => format!("{rest}s"),
        (0, minutes) => format!("{minutes}m{rest}s"),
        (hours, minutes) => format!("{hours}h{minutes}m{rest}s"),
    }
}

fn split(text: &str, within: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !within(c)).unwrap_or(text.len()))
}

/// `number` (such as `1.5`) times a unit.
fn scaled(number: &str, unit: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let mut nanos =
        if whole.is_empty() { 0 } else { whole.parse::<u64>().ok()?.checked_mul(unit)? };
    let mut share = unit;
    for digit in fraction.chars() {
        share /= 10;
        nanos = nanos.checked_add(u64::from(digit.to_digit(10)?) * share)?;
    }
    Some(nanos)
}

/// A number with its fraction, given in parts of `size` (a power of ten).
fn decimal(whole: u64, fraction: u64, size: u64) -> String {
    let digits = size.ilog10() as usize;
    let text = format!("{whole}.{fraction:0digits$}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_prints_as_go_does() {
        for (text, millis, printed) in [
            ("0", 0, "0s"),
            ("0s", 0, "0s"),
            ("10s", 10_000, "10s"),
            ("1h", 3_600_000, "1h0m0s"),
            ("1m30s", 90_000, "1m30s"),
            ("1.5h", 5_400_000, "1h30m0s"),
            (".5s", 500, "500ms"),
            ("1.25s", 1_250, "1.25s"),
            ("2h45m10.5s", 9_910_500, "2h45m10.5s"),
        ] {
            let duration = parse(text).unwrap_or_else(|| panic!("{text} is a duration"));
            assert_eq!(duration, Duration::from_millis(millis), "{text}");
            assert_eq!(print(duration), printed);
        }
        assert_eq!(print(Duration::from_nanos(1_500)), "1.5µs");
    }

    #[test]
    fn refuses_what_is_no_duration() {
        for text in ["", "5", "s", "1d", "-1s", "1..5s", "1s2", "99999999999h"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}

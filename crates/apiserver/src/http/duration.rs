//! Go's `time.ParseDuration`: `1m30s`, `1.5h`, `300ms`.

use std::time::Duration;

/// A duration that is not negative; negative ones are as good as none here.
///
/// # Errors
///
/// What Go says about text that is no duration.
pub fn parse(text: &str) -> Result<Duration, String> {
    let invalid = || format!("time: invalid duration {}", quote(text));
    let is_negative = text.starts_with('-');
    let mut rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut sum = 0.0;
    while !rest.is_empty() {
        let is_number = |char: char| char.is_ascii_digit() || char == '.';
        let (number, behind) = rest.split_at(rest.find(|c| !is_number(c)).unwrap_or(rest.len()));
        let number: f64 = number.parse().map_err(|_no_number| invalid())?;
        let (unit, behind) = behind.split_at(behind.find(is_number).unwrap_or(behind.len()));
        if unit.is_empty() {
            return Err(format!("time: missing unit in duration {}", quote(text)));
        }
        let seconds = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, seconds)| seconds);
        let seconds = seconds.ok_or_else(|| {
            format!("time: unknown unit {} in duration {}", quote(unit), quote(text))
        })?;
        sum += number * seconds;
        rest = behind;
    }
    if sum > LONGEST {
        return Err(invalid());
    }
    Ok(if is_negative { Duration::ZERO } else { Duration::from_secs_f64(sum) })
}

fn quote(text: &str) -> String {
    wire::status::quote(text)
}

const UNITS: [(&str, f64); 8] = [
    ("ns", 1e-9),
    ("us", 1e-6),
    ("\u{b5}s", 1e-6),
    ("\u{3bc}s", 1e-6),
    ("ms", 1e-3),
    ("s", 1.0),
    ("m", 60.0),
    ("h", 3600.0),
];
/// Seconds: 2^63 ns, the longest that Go holds.
const LONGEST: f64 = 9_223_372_036.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        for (text, milliseconds) in [
            ("1m30s", 90_000),
            ("1.5h", 5_400_000),
            ("300ms", 300),
            ("0", 0),
            ("-3s", 0),
            ("+1s", 1000),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
    }

    #[test]
    fn what_is_none_is_refused_with_go_s_words() {
        for (text, expected) in [
            ("x", "time: invalid duration \"x\""),
            ("10", "time: missing unit in duration \"10\""),
            ("10d", "time: unknown unit \"d\" in duration \"10d\""),
            (".s", "time: invalid duration \".s\""),
            ("1.1.1s", "time: invalid duration \"1.1.1s\""),
            ("9999999999999999h", "time: invalid duration \"9999999999999999h\""),
        ] {
            assert_eq!(parse(text), Err(expected.to_owned()));
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_judged(text in "[-+.0-9a-z\u{b5} ]{0,20}") {
            let _ = parse(&text);
        }
    }
}
